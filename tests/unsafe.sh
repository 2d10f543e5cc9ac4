#!/bin/bash
# `unsafe` stands in dumper/src/sys/ only. Prints every other place and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
# Not in a comment, not in a lint's name (unsafe_code), not in a string.
found=$(grep -rnE --include='*.rs' '(^|[^[:alnum:]_"`])unsafe([^[:alnum:]_`]|$)' dumper fs examples tests |
    grep -v '^dumper/src/sys/' | grep -vE '^[^:]*:[0-9]*:[[:space:]]*//' || true)
if [ -n "$found" ]; then
    echo "unsafe outside dumper/src/sys/:"
    echo "$found"
    exit 1
fi
