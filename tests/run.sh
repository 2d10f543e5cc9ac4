#!/bin/bash
# Runs all tests: installs what they need, builds, tests. It needs root and a machine with
# /dev/fuse. Its arguments are passed to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "run.sh: the tests need root" >&2; exit 1; }
[ -c /dev/fuse ] || { echo "run.sh: /dev/fuse is missing: modprobe fuse" >&2; exit 1; }
tests/packages.sh
# A restore needs the original process ids. With the default limit of 32768 ids, processes of the
# tests now and then get an id that a restore needs.
ids=$(cat /proc/sys/kernel/pid_max)
trap 'echo "$ids" > /proc/sys/kernel/pid_max' EXIT
echo 4194304 > /proc/sys/kernel/pid_max
cargo build --workspace
# Most tests mostly wait for a process or a daemon, so more tests than processors run at once. Many
# more would make the tests that compute exceed their time limits.
# Whoever started this may ignore signals (nohup(1), a job of a script): the tests send them.
env --default-signal cargo test --workspace --no-fail-fast "$@" -- --test-threads=$((2 * $(nproc)))
