#!/bin/bash
# From the sources to a restored process; see --help.
set -euo pipefail

usage() {
    cat << 'END'
quickstart.sh

Builds ckptfs, checkpoints a running program with cat, kills it, and brings it back with cat. Takes root, /dev/fuse and a Rust toolchain;
needs no installation, works in a temporary directory and leaves nothing behind but what was built.

Environment: CARGO_TARGET_DIR is where to build (target, beside this script's directory).
Exit status: 0 it counted on; 1 failure; 2 misused.
END
}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { echo "quickstart: $*" >&2; exit 1; }
misused() { echo "quickstart: $* (see --help)" >&2; exit 2; }

case $#,${1-} in
    0,) ;;
    1,--help) usage; exit ;;
    *) misused "it takes no arguments" ;;
esac

[ "$(id -u)" = 0 ] || fail "needs root (only root can restore process ids)"
[ -c /dev/fuse ] || fail "/dev/fuse is missing: modprobe fuse"

cd "$(dirname "$(readlink -f -- "$0")")/.."
say "cargo build --release"
cargo build --release --package ckptfs --package ckptfs-examples
bin=${CARGO_TARGET_DIR:-$PWD/target}/release

work=$(mktemp -d)
ckpt=$work/ckpt
counter=
mkdir "$ckpt"
cleanup() {
    # The pid belongs to the counter only while it runs the counter's program.
    if [ -n "$counter" ] && [ "$(readlink "/proc/$counter/exe")" = "$work/counter" ]; then kill -9 "$counter"; fi
    if mountpoint -q "$ckpt"; then umount "$ckpt" || umount -l "$ckpt"; fi
    rm -rf -- "$work"
}
trap cleanup EXIT

# The last number that the counter wrote. (A line that is just being written counts next time.)
last() { tail -n 1 "$work/out"; }
# Waits for a condition, at most ten seconds.
until_true() {
    for _ in $(seq 100); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    fail "waited in vain: $*"
}
beyond() { [ "$(last)" -gt "$1" ] 2> /dev/null; }
gone() { [ ! -e "/proc/$1" ]; }

say "A program that counts, with a session of its own and its output in a file:"
cp "$bin/counter" "$work/counter"
(
    # Close this shell's descriptors: the other end of a terminal or a pipe would stay outside the
    # tree.
    for fd in /proc/"$BASHPID"/fd/*; do
        fd=${fd##*/}
        [ "$fd" -le 2 ] || eval "exec $fd>&-"
    done
    cd "$work"
    exec setsid ./counter < /dev/null > out 2>&1
) &
counter=$!
until_true beyond 15
echo "pid $counter, counting: $(tail -n 5 "$work/out" | xargs)"

say "ckptfs mount --tree $counter $ckpt"
"$bin/ckptfs" mount --tree "$counter" "$ckpt"
ls -l "$ckpt" "$ckpt/$counter"

say "cat $ckpt/$counter/image > snap"
before=$(last)
cat "$ckpt/$counter/image" > "$work/snap"
"$bin/ckptfs" verify "$work/snap"
ls -lh "$work/snap"

say "kill -9 $counter"
{ kill -9 "$counter" && wait "$counter"; } 2> /dev/null || true # the shell would say "Killed"
until_true gone "$counter"
killed_at=$(last)
echo "dead at $killed_at; the image was taken at $before or just behind"

say "cat snap > $ckpt/restore"
cat "$work/snap" > "$ckpt/restore"
until_true beyond "$((killed_at + 5))"
[ "$(readlink "/proc/$counter/exe")" = "$work/counter" ] || fail "pid $counter is not the counter"
echo "pid $counter lives again, and counts on: $(tail -n 8 "$work/out" | xargs)"
# A new start would have begun at 1 again.
cp "$work/out" "$work/seen"
cmp "$work/seen" <(seq "$(tail -n 1 "$work/seen")") || fail "a number is missing"

say "umount $ckpt"
umount "$ckpt"
now=$(last)
until_true beyond "$now"
echo "and it outlives the mount: $(last)"
say "Done."
