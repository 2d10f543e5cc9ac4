#!/bin/bash
# Rotating backups of every process tree of a ckptfs mount; see --help.
set -euo pipefail
export LC_ALL=C

usage() {
    cat << 'END'
backup.sh [--keep N] [--encrypt-to RECIPIENT | --gpg RECIPIENT] MOUNTPOINT DESTDIR
backup.sh --restore FILE [--identity KEYFILE] MOUNTPOINT

Writes one file for each process tree of a mount of ckptfs: DESTDIR/PID-NAME-TIME.ckpt.zst, with the time in UTC, readable by root
only. A tree is rooted at a process without a parent in the mount. Each is stopped for some milliseconds, at an instant of its
own (examples/archive.sh takes a whole container at one instant). While a file is written it is decompressed again and checked against
the image's checksums. If that check fails or the disk is full, the tree gets no file, and the other trees are still backed up.

  --keep N              how many files each tree keeps (7). The oldest is removed when a new one is on the disk; those of a tree
                        that has ended stay until you remove them
  --encrypt-to RECIPIENT
                        encrypt with age, to this public key (FILE.age)
  --gpg RECIPIENT       encrypt with gpg, to this key of the keyring (FILE.gpg)
  --restore FILE        write a backup into MOUNTPOINT/restore: its processes live again. A file that ends in .age or .gpg is decrypted,
  --identity KEYFILE    with this age identity; gpg asks its keyring
  --help                this text

Environment: CKPTFS is the program (ckptfs in PATH or /usr/local/bin, or the one built beside this script), ZSTD_CLEVEL the level of compression.
Prints one line for each tree. Exit status: 0 all of them are on the disk; 1 one is not, or another run is under way; 2 misused.

Every quarter of an hour, by cron:

  */15 * * * * root /opt/ckptfs/examples/backup.sh --keep 96 /ckpt /var/backups/ckpt

or by systemd, ckpt-backup.service and ckpt-backup.timer:

  [Service]
  Type=oneshot
  ExecStart=/opt/ckptfs/examples/backup.sh --keep 96 /ckpt /var/backups/ckpt

  [Timer]
  OnCalendar=*:0/15
  [Install]
  WantedBy=timers.target
END
}

fail() { echo "backup: $*" >&2; exit 1; }
misused() { echo "backup: $* (see --help)" >&2; exit 2; }

keep=7 cipher=none recipient='' file='' identity=''
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage; exit ;;
        --keep | --encrypt-to | --gpg | --restore | --identity)
            [ $# -ge 2 ] || misused "$1 needs a value"
            case $1 in
                --keep) keep=$2 ;;
                --encrypt-to) [ "$cipher" = none ] || misused "one recipient is enough"; cipher=age recipient=$2 ;;
                --gpg) [ "$cipher" = none ] || misused "one recipient is enough"; cipher=gpg recipient=$2 ;;
                --restore) file=$2 ;;
                --identity) identity=$2 ;;
            esac
            shift 2
            ;;
        --) shift; break ;;
        -*) misused "$1: no such option" ;;
        *) break ;;
    esac
done
[[ $keep =~ ^[1-9][0-9]{0,5}$ ]] || misused "--keep $keep: not a number from 1 on"

here=$(dirname "$(readlink -f -- "$0")")
# The PATH of cron(8) lacks the directories of `cargo install --root /usr/local`.
PATH=$PATH:/usr/local/sbin:/usr/local/bin
ckptfs=${CKPTFS:-$(command -v ckptfs || echo "$here/../target/release/ckptfs")}

# Checks that the mount answers and that its pids are valid here: the parents of its processes are
# read in /proc.
check_mount() {
    local daemon
    daemon=$(sed -n 's/^ *"daemon": \([0-9]*\),$/\1/p' "$mount/status" 2> /dev/null) || true
    [ -n "$daemon" ] || fail "$mount: not a mount of ckptfs"
    [ "$(cat "/proc/$daemon/comm" 2> /dev/null)" = ckptfs ] || fail "$mount: its daemon lives in another pid namespace than this script"
}

if [ -n "$file" ]; then
    [[ $# = 1 && -n $1 ]] || misused "--restore FILE MOUNTPOINT"
    mount=$1
    # An absolute name: no command can take it for an option.
    [[ $mount = /* ]] || mount=$PWD/$mount
    [ -r "$file" ] || fail "$file: cannot be read"
    [ -e "$mount/restore" ] || fail "$mount: not a mount of ckptfs"
    decrypt() {
        case $file in
            *.age) age --decrypt ${identity:+--identity "$identity"} ;;
            *.gpg) gpg --quiet --decrypt ;;
            *) cat ;;
        esac
    }
    before=$(tail -n 1 "$mount/restore")
    status=0
    # If any of these fails, the image is incomplete and no process of it stays alive.
    decrypt < "$file" | zstd -dqc | cat > "$mount/restore" || status=1
    after=$(tail -n 1 "$mount/restore")
    [ "$after" = "$before" ] || echo "$after"
    [ "$status" = 0 ] || fail "$file: restoring it into $mount failed"
    exit
fi

[[ $# = 2 && -n $1 && -n $2 ]] || misused "MOUNTPOINT and DESTDIR are missing"
mount=$1 dest=$2
[[ $mount = /* ]] || mount=$PWD/$mount
[[ $dest = /* ]] || dest=$PWD/$dest
[ -d "$dest" ] || fail "$dest: not a directory"
command -v "$ckptfs" > /dev/null || fail "$ckptfs: no such program (CKPTFS names it)"
check_mount

# Memory holds secrets.
umask 077
exec 9> "$dest/.lock"
flock -n 9 || fail "$dest: another run is under way"
# Remove the files of a run that was killed with SIGKILL. Other programs use other names.
rm -f -- "$dest"/.[0-9]*-????????T??????.???Z.ckpt.zst*.part

work='' part='' job=''
cleanup() {
    trap '' INT TERM HUP
    # The job has a process group of its own.
    if [ -n "$job" ]; then { kill -KILL -- "-$job" && wait "$job"; } 2> /dev/null || true; fi
    [ -z "$part" ] || rm -f -- "$part" || true
    [ -z "$work" ] || rm -rf -- "$work"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d)

encrypt() {
    case $cipher in
        age) age --encrypt --recipient "$recipient" ;;
        gpg) gpg --batch --quiet --trust-model always --compress-algo none --encrypt --recipient "$recipient" ;;
        none) cat ;;
    esac
}

# stream IMAGE FILE: dumps, compresses, encrypts into FILE, and verifies the way back from the
# compressed bytes. It reports failures on standard error, which is a file.
stream() {
    local writer status=0 codes=(0 0 0 0 0) code=0
    # This open stops the tree for the snapshot and resumes it. Status 3: it was refused.
    exec 3< "$1" || return 3
    exec 5> >(exec 3<&- 9>&-; encrypt > "$2")
    writer=$!
    cat <&3 5>&- | zstd -qc 3<&- 5>&- | tee /dev/fd/5 3<&- | zstd -dqc 3<&- 5>&- | "$ckptfs" verify - > "$work/verified" 3<&- 5>&- \
        || { codes=("${PIPESTATUS[@]}"); status=1; }
    exec 5>&-
    wait "$writer" || { code=$?; status=1; }
    [ "$status" = 0 ] && sync -- "$2" || status=1
    # A program may fail without a message.
    [ "$status" = 0 ] || [ -s /dev/fd/2 ] \
        || printf 'exit status: cat %s, zstd %s, tee %s, zstd -d %s, ckptfs verify %s, encrypting and writing %s\n' "${codes[@]}" "$code" >&2
    return "$status"
}

# The mount's last error for this pid.
refusal() {
    sed -n '/^  "last_error"/,/^  }/s/^ *"'"$1"'": "\(.*\)",\{0,1\}$/\1/p' "$mount/status"
}

# backup PID KEY: backs up one tree and prints its line.
backup() {
    local pid=$1 key=$2 name status=0 why files
    name=$key-$(date -u +%Y%m%dT%H%M%S.%3NZ).ckpt.zst
    case $cipher in age | gpg) name=$name.$cipher ;; esac
    part=$dest/.$name.part
    set -m # a process group of its own
    stream "$mount/$pid/image" "$part" 2> "$work/said" &
    job=$!
    set +m
    wait "$job" || status=$?
    job=''
    if [ "$status" = 0 ] && ! mv -T -- "$part" "$dest/$name" 2> "$work/said"; then status=1; fi
    if [ "$status" != 0 ]; then
        rm -f -- "$part"
        part=''
        why=$(paste -sd ';' -- "$work/said")
        [ "$status" != 3 ] || why=$(refusal "$pid" | grep . || echo "$why")
        # Without a message the disk may be full. Writing to it then gives the message.
        [ -n "$why" ] || why=$(echo | tee -- "$work/said" 2>&1 > /dev/null) || true
        echo "$key: FAILED: ${why:-exit status $status}"
        return 1
    fi
    part=''
    sync -- "$dest"
    # The time stamp has a fixed width, so names sort by time.
    files=("$dest/$key"-????????T??????.???Z.ckpt.zst*)
    if [ ${#files[@]} -gt "$keep" ]; then rm -f -- "${files[@]:0:${#files[@]} - keep}"; fi
    echo "$key:$(sed 's/.*whole://' "$work/verified") -> $dest/$name, $(stat -c %s -- "$dest/$name") bytes"
}

failures=0 trees=0
for dir in "$mount"/[0-9]*/; do
    pid=$(basename "$dir")
    # A process that has ended since is no tree any more.
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2> /dev/null) || continue
    if [ -z "$parent" ] || [ -d "$mount/$parent" ]; then continue; fi
    key=$pid-$(tr -cs 'A-Za-z0-9._' '_' < "/proc/$pid/comm" 2> /dev/null | sed 's/_$//') || continue
    trees=$((trees + 1))
    backup "$pid" "$key" || failures=$((failures + 1))
done
[ "$trees" -gt 0 ] || fail "$mount: no process there"
[ "$failures" = 0 ] || fail "$failures of $trees trees have no backup of this run"
