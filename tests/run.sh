#!/bin/bash
# Runs all tests: installs what they need, builds, tests. As root, on a machine with /dev/fuse. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "run.sh: the tests need root" >&2; exit 1; }
[ -c /dev/fuse ] || { echo "run.sh: /dev/fuse is missing: modprobe fuse" >&2; exit 1; }
tests/packages.sh
# A restore needs the very ids that it had. With the default of 32768 ids the tests' own processes come round to them now and then.
ids=$(cat /proc/sys/kernel/pid_max)
trap 'echo "$ids" > /proc/sys/kernel/pid_max' EXIT
echo 4194304 > /proc/sys/kernel/pid_max
cargo build --workspace
# Most tests wait for a process or a daemon most of the time: more of them than processors run at once, but not so many that the bounds
# of those that compute are met.
cargo test --workspace --no-fail-fast "$@" -- --test-threads=$((2 * $(nproc)))
