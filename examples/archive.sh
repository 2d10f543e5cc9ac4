#!/bin/bash
# A container as one tar file, and back; see --help.
set -euo pipefail
export LC_ALL=C

usage() {
    cat << 'END'
archive.sh save MOUNTPOINT FILE.tar.zst
archive.sh restore FILE.tar.zst MOUNTPOINT

save writes all that a mount of ckptfs shows (mounted with --cgroup or --tree) into one compressed tar file, readable by root only:

  status                the status file of the mount
  PID/info.json         the records of every process
  PID/maps              its mappings
  image                 all processes at one instant

With MOUNTPOINT/snapshots everything is of that instant. Without it, each process is stopped once more for its PID/ files: they may be
some milliseconds younger than the image, and a process that ended in between has none.
The way back, from the compressed bytes to the image's checksums, is verified while the file is written. It is written as .FILE.*.part,
which is renamed to FILE in the end. If the check fails it is removed, and FILE stays as it was. SIGKILL leaves the .part behind.

restore writes the image into MOUNTPOINT/restore: all its processes live again, or none. An archive that is cut off anywhere
restores nothing: the image is its last member.

Environment: CKPTFS is the program (ckptfs in PATH or /usr/local/bin, or the one built beside this script), ZSTD_CLEVEL the level of compression.
Exit status: 0 success; 1 failure; 2 misused.
END
}

fail() { echo "archive: $*" >&2; exit 1; }
misused() { echo "archive: $* (see --help)" >&2; exit 2; }

case ${1-} in
    --help) usage; exit ;;
    save | restore) [[ $# = 3 && -n $2 && -n $3 ]] || misused "$1 takes two arguments" ;;
    *) misused "save or restore?" ;;
esac

restore() {
    local file=$1 mount=$2 before after status=0
    [ -r "$file" ] || fail "$file: cannot be read"
    [ -e "$mount/restore" ] || fail "$mount: not a mount of ckptfs"
    before=$(tail -n 1 "$mount/restore")
    zstd -dqc < "$file" | tar -xOf - image | cat > "$mount/restore" || status=1
    after=$(tail -n 1 "$mount/restore")
    [ "$after" = "$before" ] || echo "$after"
    [ "$status" = 0 ] || fail "$file: restoring it into $mount failed"
}

work='' part='' snapshot='' job=''
cleanup() {
    trap '' INT TERM HUP
    # The job has a process group of its own.
    if [ -n "$job" ]; then { kill -KILL -- "-$job" && wait "$job"; } 2> /dev/null || true; fi
    [ -z "$part" ] || rm -f -- "$part" || true
    [ -z "$work" ] || rm -rf -- "$work" || true
    if [ -d "$snapshot" ]; then rmdir -- "$snapshot"; fi
}

# collect FROM TO: info.json and maps of every process.
collect() {
    local from=$1 to=$2 dir pid said
    for dir in "$from"/[0-9]*/; do
        [ -d "$dir" ] || continue
        pid=$(basename "$dir")
        mkdir "$to/$pid"
        if ! said=$(cp -p -- "$dir/info.json" "$dir/maps" "$to/$pid/" 2>&1); then
            # Without its folder the process has ended since. Otherwise something else is wrong.
            [ ! -d "$dir" ] || fail "${said//$'\n'/;}"
            rm -rf -- "${to:?}/$pid"
        fi
    done
}

# stream FROM FILE: archives, compresses into FILE, and verifies the way back from the compressed
# bytes. It reports failures on standard error, which is a file.
stream() {
    local writer status=0 names=("$work/tree"/*) codes=(0 0 0 0 0 0) code=0
    exec 5> >(exec 3<&-; cat > "$2")
    writer=$!
    # Without -f the archive would be $TAPE.
    tar -cf - --numeric-owner -C "$work/tree" "${names[@]##*/}" -C "$1" image 5>&- | zstd -qc 5>&- | tee /dev/fd/5 \
        | zstd -dqc 5>&- | tar -xOf - image 5>&- | "$ckptfs" verify - > "$work/verified" 5>&- || { codes=("${PIPESTATUS[@]}"); status=1; }
    exec 5>&-
    wait "$writer" || { code=$?; status=1; }
    [ "$status" = 0 ] && sync -- "$2" || status=1
    # A program may fail without a message.
    [ "$status" = 0 ] || [ -s /dev/fd/2 ] \
        || printf 'exit status: tar %s, zstd %s, tee %s, zstd -d %s, tar -x %s, ckptfs verify %s, writing %s\n' "${codes[@]}" "$code" >&2
    return "$status"
}

save() {
    local mount=$1 file=$2 from=$1 status=0 folder base why
    [ -e "$mount/image" ] || fail "$mount: not a mount of ckptfs"
    command -v "$ckptfs" > /dev/null || fail "$ckptfs: no such program (CKPTFS names it)"
    # A device is refused too, because mv would put the archive in its place.
    if [[ $file = */ ]] || { [ -e "$file" ] && [ ! -f "$file" ]; }; then fail "$file: exists and is not a file"; fi
    folder=${file%/*}/ base=${file##*/}
    umask 077
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # The name is unique, because another run may be writing the same FILE. The file is made first,
    # so that no process is frozen in vain.
    part=$(mktemp -- "$folder.${base:0:200}.XXXXXXXXXX.part") || fail "$file: cannot be written"
    work=$(mktemp -d)
    mkdir -- "$work/tree"
    if [ -d "$mount/snapshots" ]; then
        from=$mount/snapshots/archive-$$-$(date -u +%Y%m%dT%H%M%S.%NZ)
        snapshot=$from
        mkdir -- "$from" || fail "$mount: no snapshot can be taken: $mount/status tells why"
    fi
    # It stays open until the end, so that tar reads this very snapshot.
    exec 3< "$from/image" || fail "$mount: no image can be taken: $mount/status tells why"
    collect "$from" "$work/tree"
    cp -- "$mount/status" "$work/tree/status"
    set -m # a process group of its own
    stream "$from" "$part" 2> "$work/said" &
    job=$!
    set +m
    wait "$job" || status=$?
    job=''
    if [ "$status" != 0 ]; then
        why=$(paste -sd ';' -- "$work/said")
        # Without a message the disk may be full. Writing to it then gives the message.
        [ -n "$why" ] || why=$(echo | tee -- "$work/said" 2>&1 > /dev/null) || true
        fail "$file: ${why:-exit status $status}"
    fi
    mv -T -- "$part" "$file"
    part=''
    sync -- "$folder"
    echo "$file:$(sed 's/.*whole://' "$work/verified"), $(find "$work/tree" -name info.json | wc -l) processes -> $(stat -c %s -- "$file") bytes"
}

here=$(dirname "$(readlink -f -- "$0")")
# The PATH of cron(8) lacks the directories of `cargo install --root /usr/local`.
PATH=$PATH:/usr/local/sbin:/usr/local/bin
ckptfs=${CKPTFS:-$(command -v ckptfs || echo "$here/../target/release/ckptfs")}
# Absolute names: no command can take them for options, and tar's second -C is relative to the
# first.
what=$1 from=$2 to=$3
[[ $from = /* ]] || from=$PWD/$from
[[ $to = /* ]] || to=$PWD/$to
"$what" "$from" "$to"
