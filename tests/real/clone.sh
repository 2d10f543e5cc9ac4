# git clone by the real protocol: upload-pack, pack-objects and index-pack, connected by pipes. It
# is checkpointed in the middle.
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
git init -q -b main source
git -C source config fastimport.unpackLimit 100000
git -C source config pack.window 40
awk 'BEGIN {
    srand(1)
    for (c = 1; c <= 30; c++) {
        printf "commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata 2\nc\n", 1000000000 + c
        for (f = 1; f <= 60; f++) {
            text = ""
            for (l = 0; l < 250; l++) text = text sprintf("%d %d %d\n", l, f, rand() * 1000000)
            printf "M 644 inline file_%d_%d\ndata %d\n%s\n", f, c % 10, length(text), text
        }
    }
}' | git -C source fast-import --quiet || exit 1
echo "ready 1"
git clone -q "file://$PWD/source" copy || { echo "FAIL clone: $?"; exit 1; }
git -C copy fsck --strict --no-progress || { echo "FAIL fsck"; exit 1; }
[ -z "$(git -C copy status --porcelain)" ] || { echo "FAIL changed files"; exit 1; }
[ "$(git -C copy rev-parse HEAD)" = "$(git -C source rev-parse main)" ] || { echo "FAIL another head"; exit 1; }
git -C source checkout -q -f main
diff -r -x .git source copy || { echo "FAIL other contents"; exit 1; }
echo ok
