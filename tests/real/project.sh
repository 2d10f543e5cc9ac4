# A C project of sixty files, built by make -j4. It is checkpointed in the middle of the build; at
# the end its program must print the right number.
export TMPDIR=$PWD
for n in $(seq 1 60); do
    {
        printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>\n'
        for f in $(seq 1 12); do
            printf 'static unsigned long part_%d(unsigned long x) { for (unsigned long i = 0; i < x %% %d; i++) x = x * %d + i %% %d; return x & 0xffff; }\n' \
                $f $((f + 3)) $((n + f)) $((f + 1))
        done
        printf "unsigned long value_%d(unsigned long x) {" $n
        for f in $(seq 1 12); do printf ' x += part_%d(x);' $f; done
        printf ' return x %% 1000; }\n'
    } > unit_$n.c
done
{
    printf '#include <stdio.h>\n'
    for n in $(seq 1 60); do printf 'unsigned long value_%d(unsigned long);\n' $n; done
    printf 'int main(void) { unsigned long sum = 0;\n'
    for n in $(seq 1 60); do printf 'sum += value_%d(%d);\n' $n $n; done
    printf 'printf("%%lu\\n", sum); }\n'
} > main.c
cat > Makefile <<'END'
objects = main.o $(patsubst %.c,%.o,$(sort $(wildcard unit_*.c)))
program: $(objects)
	cc -o $@ $(objects)
%.o: %.c
	cc -O2 -c -o $@ $<
	@echo $@ >> made
END
# The expected output comes from one source file with all functions, compiled without optimization.
cat main.c > all.c
for n in $(seq 1 60); do sed "s/part_/part_${n}_/g" unit_$n.c >> all.c; done
cc -w -o reference all.c || exit 1
rm all.c
echo "ready 1"
make -s -j4 || { echo "FAIL make: $?"; exit 1; }
[ "$(sort -u made | wc -l)" = 61 ] || { echo "FAIL $(wc -l < made) objects"; exit 1; }
[ "$(./program)" = "$(./reference)" ] || { echo "FAIL $(./program), not $(./reference)"; exit 1; }
echo ok
