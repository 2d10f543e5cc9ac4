#!/bin/bash
# Moves a process tree from one mount of ckptfs to another; see --help.
set -euo pipefail
export LC_ALL=C

usage() {
    cat << 'END'
migrate.sh [--patience SECONDS] SOURCE_MOUNT PID TARGET

Moves the tree rooted at PID to TARGET: a mountpoint of ckptfs on this machine (/ckpt), or on another one (host:/ckpt, user@host:/ckpt).
The tree is stopped, and its image goes into the target's restore. It is killed here only after the target has answered that it lives there.
No work of the tree is lost or done twice, and it never runs in both places:

  - All but the last byte of the image goes over first. Whatever fails until then (the target refuses, the connection breaks, a signal to
    this script, SECONDS are over), nothing can live at the target, and the tree continues here.
  - With the last byte the target decides. If its answer is lost, the target is asked again, for SECONDS. If it cannot be asked, the tree
    stays stopped here: exit status 3, and you must look at the target and then write 1 to PID/kill or 0 to PID/freeze.

What the target must have: the pids free, the same kernel and the files that the tree uses (ckptfs says what is missing), sh, GNU dd.
The processes of the mounts must have the same pids for this script and for the target's shell (no pid namespace between them and the daemon).
If the root has a parent that waits for it, wait reports to the parent that it was killed.

  --patience SECONDS    how long the tree may be stopped (300)
  --help                this text

Environment: CKPTFS_SSH is the command that is given the host and a shell command
("ssh -o ServerAliveInterval=5 -o ServerAliveCountMax=3").
Exit status: 0 it lives at the target and nowhere else; 1 it continues here and lives nowhere else; 2 misused, nothing was done;
3 it is stopped here, and whether it lives at the target is not known.
END
}

say() { echo "migrate: $*" >&2; }
misused() { say "$* (see --help)"; exit 2; }

patience=300
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage; exit ;;
        --patience) [ $# -ge 2 ] || misused "$1 needs a value"; patience=$2; shift 2 ;;
        --) shift; break ;;
        -*) misused "$1: no such option" ;;
        *) break ;;
    esac
done
[[ $patience =~ ^[1-9][0-9]{0,5}$ ]] || misused "--patience $patience: not a number of seconds"
[ $# = 3 ] || misused "SOURCE_MOUNT, PID and TARGET are missing"
source=$1 pid=$2 host='' mount=$3
[ -n "$source" ] || misused "SOURCE_MOUNT is empty"
# An absolute name: no command can take it for an option, and messages with it are right in any
# directory.
[[ $source = /* ]] || source=$PWD/$source
[[ $pid =~ ^[1-9][0-9]*$ ]] || misused "$pid: not a pid"
case $mount in
    /* | ./* | ../*) ;;
    -*) misused "$mount: no host begins like an option" ;;
    *:/*) host=${mount%%:/*} mount=/${mount#*:/} ;;
    *) misused "$mount: neither /MOUNTPOINT nor HOST:/MOUNTPOINT" ;;
esac
read -ra ssh <<< "${CKPTFS_SSH:-ssh -o ServerAliveInterval=5 -o ServerAliveCountMax=3}"

# The scripts for the target run in any sh, with the arguments MOUNTPOINT PID and one more. Each
# line for this script begins with "migrate:".
prologue=$(cat << 'END'
mount=$1 pid=$2
answer() { echo "migrate:$*"; }
# The newest line about a restore of this root. Fails if the mount does not answer.
newest() { lines=$(cat "$mount/restore") && echo "$lines" | { grep -F "\"root\":$pid," || true; } | tail -n 1; }
# The outcome of a restore with a lost answer. $1 is the checksum of the newest line before it.
settle() {
    tries=0
    while [ "$tries" -lt 50 ]; do
        # The process first, then the lines: it may live, get its line, and end in between.
        state=$(sed "s/.*) //" "/proc/$pid/stat" 2> /dev/null | cut -c 1)
        if line=$(newest 2> /dev/null) && [ -n "$line" ] && [ "$(echo "$line" | cksum)" != "$1" ]; then
            answer restored "$line"
            return
        fi
        case $state in "" | Z | X) answer failed "no process has pid $pid there"; return ;; esac
        tries=$((tries + 1))
        sleep 0.1
    done
    answer unknown
}
END
)
# The receiver reads the image. Its third argument is the size of the image.
receiver=$prologue$(cat << 'END'

bytes=$3
daemon=$(sed -n "s/^ *\"daemon\": \([0-9]*\),\$/\1/p" "$mount/status")
if [ -z "$daemon" ] || [ "$(cat "/proc/$daemon/comm")" != ckptfs ]; then
    answer failed "$mount: not a mount of ckptfs, or its daemon lives in another pid namespace"
    exit 1
fi
before=$(newest | cksum)
exec 3>&1
# If restore is closed before the last byte, for any reason, the mount kills all that it has
# restored.
if {
    dd bs=1M iflag=fullblock,count_bytes count=$((bytes - 1)) 2> /dev/null && answer ready "$before" >&3 && dd bs=1 count=1 2> /dev/null
} | cat 3>&- > "$mount/restore"; then
    answer restored "$(newest)"
elif line=$(tail -n 1 "$mount/restore"); then
    answer failed "$line"
else
    settle "$before"
fi
END
)
# The third argument of the asker is the checksum in the line `ready`.
asker=$prologue$(cat << 'END'

settle "$3"
END
)

quoted() { local word; for word; do printf " '%s'" "${word//\'/\'\\\'\'}"; done; }
# at_target SCRIPT ARGUMENT...: sets `there`, the command that runs SCRIPT with the target's
# mountpoint and the pid.
at_target() {
    local script=$1
    shift
    there=(sh -c "$script" migrate "$mount" "$pid" "$@")
    [ -z "$host" ] || there=("${ssh[@]}" "$host" "exec$(quoted "${there[@]}")")
}

# Functions that `cleanup` calls return a number: in a trap, a `return` without one gives the status
# from before the trap.

# hear SECONDS: sets `verdict` and `detail` to the target's next answer, or to nothing if there is
# none in time.
hear() {
    local line end=$((SECONDS + $1))
    verdict='' detail=''
    while [ "$SECONDS" -le "$end" ] && read -r -t $((end - SECONDS + 1)) -u 5 line; do
        case $line in
            migrate:*) line=${line#migrate:} verdict=${line%% *} detail=${line#"$verdict"}; return 0 ;;
        esac
    done
}

folder=$source/$pid
state=untouched sender='' receiver_pid='' was=0 work=''
control() { echo "$2" > "$folder/$1"; }
# Sets freeze to its old value. The kernel reports a close later, so for a moment the mount may
# still refuse because the image is being read.
thaw() {
    for _ in {1..100}; do
        if control freeze "$was" 2> /dev/null; then return 0; fi
        [ -e "$folder/freeze" ] || break
        sleep 0.1
    done
    control freeze "$was"
}
cleanup() {
    local status=$?
    trap '' INT TERM HUP PIPE
    if [ -n "$sender" ]; then { kill "$sender" && wait "$sender"; } 2> /dev/null || true; fi
    exec 4<&- 6>&- || true
    case $state in
        stopped)
            # The target never gets the last byte, or has answered that nothing lives there.
            if thaw; then say "pid $pid is here as before"; else say "$folder/freeze could not be written"; fi
            ;;
    esac
    if [ -n "$receiver_pid" ]; then
        # Its input has ended, and it cleans up.
        [ "$state" != stopped ] || hear 10
        { kill "$receiver_pid" && wait "$receiver_pid"; } 2> /dev/null || true
    fi
    [ -z "$work" ] || rm -rf -- "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'say "SIGHUP"; exit 1' HUP
trap 'say "SIGINT"; exit 1' INT
trap 'say "SIGTERM"; exit 1' TERM

daemon=$(sed -n 's/^ *"daemon": \([0-9]*\),$/\1/p' "$source/status" 2> /dev/null) || true
[ -n "$daemon" ] || misused "$source: not a mount of ckptfs"
[ "$(cat "/proc/$daemon/comm" 2> /dev/null)" = ckptfs ] || misused "$source: its daemon lives in another pid namespace than this script"
[ -d "$folder" ] || misused "$folder: no such process"
work=$(mktemp -d)
mkfifo "$work/image"

was=$(cat "$folder/freeze")
state=stopped
control freeze 1
if ! exec 4< "$folder/image"; then
    say "pid $pid cannot be dumped:" "$(sed -n '/^  "last_error"/,/^  }/s/^ *"'"$pid"'": "\(.*\)",\{0,1\}$/\1/p' "$source/status")"
    exit 1
fi
bytes=$(stat -Lc %s /dev/fd/4)
at_target "$receiver" "$bytes"
exec 5< <(exec 4<&-; trap - INT TERM HUP; exec "${there[@]}" < "$work/image")
receiver_pid=$!
exec 6> "$work/image"

dd bs=1M iflag=fullblock,count_bytes count=$((bytes - 1)) status=none <&4 >&6 5<&- &
sender=$!
hear "$patience"
if [ "$verdict" != ready ]; then
    say "the target did not take it:${detail:- no answer: the connection is broken, or --patience over}"
    exit 1
fi
wait "$sender" || { say "reading $folder/image failed"; exit 1; }
sender=''
[ "$(cat "$folder/freeze")" = 1 ] || { say "pid $pid was resumed by another program"; exit 1; }
before=${detail# }

# From here on only the target's answer decides.
trap '' INT TERM HUP PIPE
state=unknown
dd bs=1 count=1 status=none <&4 >&6 2> /dev/null || true
exec 6>&-
hear "$patience"
started=$SECONDS
while [ "$verdict" != restored ] && [ "$verdict" != failed ] && [ $((SECONDS - started)) -lt "$patience" ]; do
    say "the target's answer is lost; asking again"
    at_target "$asker" "$before"
    exec 5< <(exec 4<&-; exec timeout -k 5 "$patience" "${there[@]}" < /dev/null)
    hear "$patience"
    [ "$verdict" = restored ] || [ "$verdict" = failed ] || sleep 1
done
case $verdict in
    restored) ;;
    failed)
        state=stopped
        say "the target did not restore it:$detail"
        exit 1
        ;;
    *)
        say "whether pid $pid lives at $3 is not known. It is stopped here. If it lives there: echo 1 > $folder/kill; if not: echo 0 > $folder/freeze"
        exit 3
        ;;
esac

state=moved
# The tree must not run here again, even if this daemon is gone by now: its end resumes its trees.
if ! control kill 1; then
    read -ra pids <<< "$(sed -n 's/.*"pids":\[\([0-9,]*\)\].*/\1/p' <<< "$detail" | tr ',' ' ')"
    say "$folder/kill could not be written; sending SIGKILL to ${pids[*]}"
    kill -KILL "${pids[@]}" || true
fi
echo "pid $pid lives at $3:$detail"
