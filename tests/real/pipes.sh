# Pipelines, command substitution, background jobs and a trap: many children that live for a short
# time. It ends when "go.1" appears.
fail() {
    echo "FAIL turn $turn: $*"
    exit 1
}
trap 'hits=$((hits + 1))' USR1
turn=0 hits=0 digits=
for digit in 0 1 2 3 4 5 6 7 8 9; do
    digits="$digits$digit:20 "
done
echo "ready 1"
while [ ! -e go.1 ]; do
    got=$(seq 1 200 | sed 's/.*\(.\)$/\1/' | sort | uniq -c | while read -r n digit; do printf '%s:%s ' "$digit" "$n"; done)
    [ "$got" = "$digits" ] || fail "digits $got"

    sum=0
    got=$(seq 1 300 | while read -r n; do sum=$((sum + n)); echo $sum; done | tail -n 1)
    [ "$got" = 45150 ] || fail "sum $got"

    (sleep 0.01; exit 3) & one=$!
    (seq 1 $((turn % 50)) | wc -l > lines; exit 5) & two=$!
    wait $one; status=$?
    [ $status = 3 ] || fail "first job: $status"
    wait $two; status=$?
    [ $status = 5 ] || fail "second job: $status"
    read -r lines < lines
    [ "$lines" = $((turn % 50)) ] || fail "lines $lines"

    sh -c "kill -USR1 $$"
    turn=$((turn + 1))
    [ $hits = $turn ] || fail "$hits signals"
    echo $turn > count
done
echo ok
