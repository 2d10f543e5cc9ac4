#!/bin/bash
# loaded.sh [TIMES]: runs all tests so often (10) on a loaded machine, beside two busy loops, and
# ends at the first run that fails. It takes hours; the logs are kept in a directory that it names.
set -euo pipefail
cd "$(dirname "$0")/.."

times=${1:-10}
logs=$(mktemp -d /tmp/ckptfs-loaded-XXXXXX)
cargo build --workspace --all-targets
loops=()
for _ in 1 2; do
    (while :; do :; done) &
    loops+=($!)
done
trap 'kill "${loops[@]}"' EXIT
for ((n = 1; n <= times; n++)); do
    begun=$SECONDS
    if ! tests/run.sh > "$logs/$n" 2>&1; then
        grep -h '^test .*FAILED' "$logs/$n" || true
        echo "run $n of $times failed after $((SECONDS - begun)) s: $logs/$n" >&2
        exit 1
    fi
    echo "run $n of $times passed in $((SECONDS - begun)) s"
done
