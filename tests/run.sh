#!/bin/bash
# Runs all tests: installs what they need, builds, tests. As root, on a machine with /dev/fuse. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "run.sh: the tests need root" >&2; exit 1; }
[ -c /dev/fuse ] || { echo "run.sh: /dev/fuse is missing: modprobe fuse" >&2; exit 1; }
tests/packages.sh
cargo build --workspace
# Most tests wait for a process or a daemon most of the time: more of them than processors run at once, but not so many that the bounds
# of those that compute are met.
exec cargo test --workspace "$@" -- --test-threads=$((2 * $(nproc)))
