# Features of bash that pipes.sh does not use: a coprocess that lives throughout, process
# substitution, here-strings, several jobs at once, the status of each part of a pipeline. It ends
# when "go.1" appears.
fail() {
    echo "FAIL turn $turn: $*"
    exit 1
}
turn=0 hits=0
trap 'hits=$((hits + 1))' USR1
coproc SQUARES { trap - USR1; while read -r n; do echo $((n * n)); done; }
echo "ready 1"
while [ ! -e go.1 ]; do
    echo $turn >&"${SQUARES[1]}"
    read -r got <&"${SQUARES[0]}"
    [ "$got" = $((turn * turn)) ] || fail "square $got"

    sum=0
    while read -r n; do sum=$((sum + n)); done < <(seq 1 100)
    [ $sum = 5050 ] || fail "sum $sum"

    mapfile -t words < <(tr ' ' '\n' <<< "one two three $turn" | sort)
    [ "${words[*]}" = "$turn one three two" ] || fail "words ${words[*]}"

    statuses=$(seq 1 100000 | head -n 1 > first; echo "${PIPESTATUS[*]}")
    [[ "$(< first)" = 1 && "$statuses" =~ ^(141|0)\ 0$ ]] || fail "statuses $statuses"

    for n in 1 2 3 4; do
        (sleep 0.0$n; exit $n) &
        jobs[n]=$!
    done
    (kill -USR1 $$)
    for n in 1 2 3 4; do
        wait ${jobs[n]}; status=$?
        [ $status = $n ] || fail "job $n: $status"
    done
    [ $hits = $((turn + 1)) ] || fail "$hits signals"
    turn=$((turn + 1))
    echo $turn > count
done
exec {SQUARES[1]}>&-
wait $SQUARES_PID || fail "the coprocess ended with $?"
echo ok
