# tail -f tells what is appended to a file: a reader checks that each line comes once, and the
# writer waits for it. It ends when "go.1" appears.
: > lines
mkfifo told
tail -n +1 -f lines > told & tail=$!
(
    expected=0
    while read -r line; do
        expected=$((expected + 1))
        if [ "$line" != $expected ]; then
            echo "FAIL line $line instead of $expected"
            exit 1
        fi
        echo $line > new && mv new count
    done < told
) & reader=$!
turn=0
echo "ready 1"
while [ ! -e go.1 ]; do
    turn=$((turn + 1))
    echo $turn >> lines
    until [ "$(cat count 2> /dev/null)" = $turn ]; do
        sleep 0.01
        kill -0 $reader || exit 1
    done
done
kill $tail
wait $reader && echo ok
