# A shell script of builtins only, so it never has a child. It ends when "go.1" appears.
turn=0 value=1 sum=0 text=
exec 7> file
echo "ready 1"
while [ ! -e go.1 ]; do
    inner=0
    while [ $inner -lt 100 ]; do
        value=$(((value * 1103515245 + 12345) % 2147483648))
        sum=$(((sum + value) % 1000000007))
        inner=$((inner + 1))
    done
    turn=$((turn + 1))
    text=${text#??????????}$value,
    echo "$turn $value $sum" >&7
    echo $turn > count
done
exec 7>&-
# Compute everything again and compare it with the file.
again=0 value=1 sum=0
while read -r number shown total; do
    inner=0
    while [ $inner -lt 100 ]; do
        value=$(((value * 1103515245 + 12345) % 2147483648))
        sum=$(((sum + value) % 1000000007))
        inner=$((inner + 1))
    done
    again=$((again + 1))
    if [ "$number $shown $total" != "$again $value $sum" ]; then
        echo "FAIL line $again: $number $shown $total, not $again $value $sum"
        exit 1
    fi
    [ $again = $turn ] && break
done < file
[ $again = $turn ] || { echo "FAIL $again lines, not $turn"; exit 1; }
echo ok
