//! Common tools on a live process, on a pinned snapshot and on a mounted image: each has exit
//! status 0, an empty standard error, and the right bytes.

use std::fs;
use std::path::{Path, PathBuf};

use ckptfs_tests::{Mounted, Victim, build, tool};

use super::{ends_well, mounted_worker};

/// `$1` is the folder, `$2` an empty directory, `$3` ckptfs. While descriptor 3 is open, even a
/// live process shows one instant.
const SCRIPT: &str = r#"
    cd "$1"; exec 3< image; out=$2
    cat image > "$out/image"
    same() { cmp "$out/$1" "$out/image"; rm "$out/$1"; }
    cp image "$out/cp"; same cp
    cp --sparse=always image "$out/cp"; same cp
    for bs in 512 4096 10240 1000003 1M; do dd if=image of="$out/dd" bs=$bs status=none; same dd; done
    dd if=image of="$out/dd" bs=1M iflag=direct status=none; same dd
    dd if=image of="$out/dd" bs=4096 skip=5 status=none
    cmp "$out/dd" <(tail -c +$((5 * 4096 + 1)) "$out/image"); rm "$out/dd"
    dd if=image of=/dev/null bs=64K status=progress 2>&1 | tr '\r' '\n' | tail -1 | grep -q "^$(stat -c %s image) bytes "
    [ "$(pv -n image 2>&1 > "$out/pv" | tail -1)" = 100 ]; same pv
    dd if=image bs=1 skip=1000 count=24 status=none | cmp - <(head -c 1024 "$out/image" | tail -c 24)
    zstd -q -c image | zstd -qdc > "$out/zstd"; same zstd
    gzip -c image | gzip -dc > "$out/gzip"; same gzip
    split -b 300000 image "$out/part."; cat "$out"/part.* > "$out/split"; rm "$out"/part.*; same split
    [ "$(sha256sum < image)" = "$(sha256sum < "$out/image")" ]
    [ "$(stat -c %s image)" = "$(stat -c %s "$out/image")" ]
    [ -n "$(find . -name image -size +1)" ]; find . -type f -exec stat -c '%s %b' {} + > /dev/null
    du -s . > /dev/null; ls -lRs . > /dev/null
    file image > /dev/null; file core | grep -q 'ELF 64-bit LSB core file'
    less -f image > "$out/less"; same less
    cat core > "$out/core"; cmp core "$out/core"
    mkdir "$out/tar" "$out/sparse" "$out/bsd" "$out/cpio" "$out/rsync"
    tar -cf - --exclude=snapshots . | tar -xf - -C "$out/tar"
    tar -cSf - --exclude=snapshots . | tar -xf - -C "$out/sparse"
    bsdtar -cf - --exclude snapshots . | bsdtar -xf - -C "$out/bsd"
    find image core info.json maps vmas -depth | cpio -o -H newc --quiet | (cd "$out/cpio"; cpio -id --quiet)
    rsync -aS --exclude=snapshots ./ "$out/rsync/"
    for copy in tar sparse bsd cpio rsync; do
        for name in image core info.json maps; do cmp "$out/$copy/$name" "$name"; done
        diff -r "$out/$copy/vmas" vmas
        rm -r "${out:?}/$copy"
    done
    python3 - "$out" << 'PY'
import mmap, os, sys
want = open(sys.argv[1] + '/image', 'rb').read()
assert open('image', 'rb').read() == want
with open('image', 'rb') as file:
    assert mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)[:] == want
    size = os.fstat(file.fileno()).st_size
    with open(sys.argv[1] + '/sent', 'w+b') as out:
        at = 0
        while sent := os.sendfile(out.fileno(), file.fileno(), at, size - at):
            at += sent
        out.seek(0)
        assert out.read() == want
    at, spliced, (reader, writer) = 0, b'', os.pipe()
    while moved := os.splice(file.fileno(), writer, 65536, offset_src=at):
        at += moved
        while moved:
            part = os.read(reader, moved)
            spliced, moved = spliced + part, moved - len(part)
    assert spliced == want
PY
    cat image > "$out/one" & cat image > "$out/two"; wait $!; same one; same two
    "$3" verify "$out/image" > /dev/null
"#;

fn tools(folder: &Path, mount: &Mounted) {
    let out = mount.snap("out");
    fs::create_dir(&out).unwrap();
    let output = tool::shell(SCRIPT, &[folder.to_owned(), out.clone(), build::ckptfs()]).success();
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    fs::remove_dir_all(out).unwrap();
}

fn folder(mount: &Mounted, victim: &Victim) -> PathBuf {
    mount.of(victim.pid(), "")
}

#[test]
fn on_a_live_process() {
    let (victim, mount) = mounted_worker();
    tools(&folder(&mount, &victim), &mount);
    ends_well(victim);
}

#[test]
fn on_a_pinned_snapshot() {
    let (victim, mount) = mounted_worker();
    let pinned = mount.of(victim.pid(), "snapshots/now");
    fs::create_dir(&pinned).unwrap();
    tools(&pinned, &mount);
    fs::remove_dir(pinned).unwrap();
    ends_well(victim);
}

#[test]
fn on_a_mounted_image() {
    let (victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let stored = Mounted::with(&[Path::new("--image"), &snap]);
    tools(&folder(&stored, &victim), &mount);
    ends_well(victim);
}
