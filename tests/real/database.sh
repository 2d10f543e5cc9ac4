# sqlite3 in a transaction that has spilled from its cache into the file. A FIFO feeds it. It
# commits when "go.1" appears.
mkfifo commands answers
sqlite3 db 'CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT); INSERT INTO t VALUES (0, "before");'
sqlite3 -bail db < commands > answers &
exec 7> commands 8< answers
echo 'PRAGMA cache_size = 10; BEGIN IMMEDIATE;
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000) INSERT INTO t SELECT n, hex(n * 7919) FROM c;
SELECT count(*) FROM t;' >&7
read -r count <&8
[ "$count" = 20001 ] || echo "FAIL $count rows before"
echo "ready 1"
turn=0
until [ -e go.1 ]; do
    turn=$((turn + 1))
    echo "UPDATE t SET text = '$turn' WHERE n = 0; SELECT text FROM t WHERE n = 0;" >&7
    read -r text <&8
    [ "$text" = $turn ] || echo "FAIL $text, not $turn"
    echo $turn > count
    sleep 0.005
done
echo "COMMIT; SELECT 'committed';" >&7
read -r text <&8
[ "$text" = committed ] || echo "FAIL $text"
exec 7>&-
wait $! || echo "FAIL sqlite3 ended with $?"
[ "$(sqlite3 db 'PRAGMA integrity_check; SELECT count(*), sum(length(text)) FROM t WHERE n > 0; SELECT text FROM t WHERE n = 0' | tr '\n' ' ')" = \
    "ok 20000|$(seq 1 20000 | awk '{ sum += 2 * length(7919 * $1) } END { print sum }') $turn " ] || echo "FAIL contents"
echo ok
