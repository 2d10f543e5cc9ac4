#!/bin/bash
# A container as one tar file, and back; see --help.
set -euo pipefail
export LC_ALL=C

usage() {
    cat << 'END'
archive.sh save MOUNTPOINT FILE.tar.zst
archive.sh restore FILE.tar.zst MOUNTPOINT

save writes all that a mount of ckptfs shows (mounted with --cgroup or --tree) into one compressed tar file, readable by root only:

  status                what the mount said of itself
  PID/info.json         the records of every process
  PID/maps              its mappings
  image                 all processes at one instant

With MOUNTPOINT/snapshots everything is of that instant. Without, each process stands still once more for its PID/ files: they may be
some milliseconds younger than the image, and of a process that ended in between there are none.
The way back, from the compressed bytes to the image's checksums, is verified while the file is written. A file that does not hold is not left behind.

restore writes the image into MOUNTPOINT/restore: all its processes live again, or none. An archive that is cut off anywhere
restores nothing: the image is its last member.

Environment: CKPTFS is the program (ckptfs, or the one built beside this script), ZSTD_CLEVEL the level of compression.
Exit status: 0 success; 1 failure; 2 misused.
END
}

fail() { echo "archive: $*" >&2; exit 1; }
misused() { echo "archive: $* (--help tells more)" >&2; exit 2; }

case ${1-} in
    --help) usage; exit ;;
    save | restore) [ $# = 3 ] || misused "$1 takes two arguments" ;;
    *) misused "save or restore?" ;;
esac

restore() {
    local file=$1 mount=$2 before after status=0
    [ -r "$file" ] || fail "$file: cannot be read"
    [ -e "$mount/restore" ] || fail "$mount: not a mount of ckptfs"
    before=$(tail -n 1 "$mount/restore")
    zstd -dqc < "$file" | tar -xO image | cat > "$mount/restore" || status=1
    after=$(tail -n 1 "$mount/restore")
    [ "$after" = "$before" ] || echo "$after"
    [ "$status" = 0 ] || fail "$file: restoring it into $mount failed"
}

work='' part='' snapshot='' job=''
cleanup() {
    trap '' INT TERM HUP
    # The job has a process group of its own.
    if [ -n "$job" ]; then { kill -KILL -- "-$job" && wait "$job"; } 2> /dev/null || true; fi
    if [ -n "$snapshot" ]; then rmdir -- "$snapshot"; fi
    [ -z "$part" ] || rm -f -- "$part"
    [ -z "$work" ] || rm -rf -- "$work"
}

# collect FROM TO: info.json and maps of every process.
collect() {
    local from=$1 to=$2 dir pid
    for dir in "$from"/[0-9]*/; do
        [ -d "$dir" ] || continue
        pid=$(basename "$dir")
        mkdir "$to/$pid"
        if ! cp -p -- "$dir/info.json" "$dir/maps" "$to/$pid/" 2> "$work/said"; then
            # Gone: it ended since. Here: then something else is wrong.
            [ ! -d "$dir" ] || fail "$(paste -sd ';' "$work/said")"
            rm -rf -- "${to:?}/$pid"
        fi
    done
}

# stream FROM FILE: archives, compresses into FILE, and verifies the way back from the compressed bytes on.
stream() {
    local writer status=0 names=("$work/tree"/*)
    exec 5> >(exec 3<&-; cat > "$2")
    writer=$!
    tar -c --numeric-owner -C "$work/tree" "${names[@]##*/}" -C "$1" image 5>&- | zstd -qc 5>&- | tee /dev/fd/5 \
        | zstd -dqc 5>&- | tar -xO image 5>&- | "$ckptfs" verify - > "$work/verified" 5>&- || status=1
    exec 5>&-
    wait "$writer" || status=1
    [ "$status" = 0 ] && sync "$2" || status=1
    return "$status"
}

save() {
    local mount=$1 file=$2 from=$1 status=0
    [ -e "$mount/image" ] || fail "$mount: not a mount of ckptfs"
    command -v "$ckptfs" > /dev/null || fail "$ckptfs: no such program (CKPTFS names it)"
    umask 077
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    work=$(mktemp -d)
    mkdir "$work/tree"
    if [ -d "$mount/snapshots" ]; then
        from=$mount/snapshots/archive-$$-$(date -u +%Y%m%dT%H%M%S.%NZ)
        mkdir -- "$from" || fail "$mount: no snapshot can be taken: $mount/status tells why"
        snapshot=$from
    fi
    # Open until the end, so that tar reads this very snapshot.
    exec 3< "$from/image" || fail "$mount: no image can be taken: $mount/status tells why"
    collect "$from" "$work/tree"
    cp -- "$mount/status" "$work/tree/status"
    part=$(dirname -- "$file")/.$(basename -- "$file").part
    set -m # a process group of its own
    stream "$from" "$part" 2> "$work/said" &
    job=$!
    set +m
    wait "$job" || status=$?
    job=''
    [ "$status" = 0 ] || fail "$file: $(paste -sd ';' "$work/said")"
    mv -T -- "$part" "$file"
    part=''
    sync "$(dirname -- "$file")"
    echo "$file:$(sed 's/.*whole://' "$work/verified"), $(find "$work/tree" -name info.json | wc -l) processes -> $(stat -c %s -- "$file") bytes"
}

here=$(dirname "$(readlink -f "$0")")
ckptfs=${CKPTFS:-$(command -v ckptfs || echo "$here/../target/release/ckptfs")}
"$1" "$2" "$3"
