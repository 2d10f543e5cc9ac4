# Strings, hashes, big lists and files. The invariants are checked in every turn. It ends when
# "go.1" appears.
use strict;
use warnings;
use integer;

$| = 1;
my ($value, $turn, %seen, @lines) = (1, 0);
open(my $out, '+>', 'file') or die "file: $!";
open(my $count, '>', 'count') or die "count: $!";
$count->autoflush(1);
$out->autoflush(1);
print "ready 1\n";
until (-e 'go.1') {
    for (1 .. 200) {
        $value = ($value * 1103515245 + 12345) & 0x7fffffff;
        $seen{ $value % 1000 } .= chr(97 + $value % 26);
    }
    my $line = sprintf("%010d %010d %s\n", $turn, $value, substr($seen{ $value % 1000 }, -1));
    push @lines, $line;
    print {$out} $line;
    $turn++;
    seek($count, 0, 0);
    printf {$count} '%15d', $turn;
    my $letters = 0;
    if ($turn % 50 == 0) {
        $letters += length for values %seen;
        die "FAIL $letters letters after $turn turns" unless $letters == 200 * $turn;
    }
    select(undef, undef, undef, 0.002);
}
seek($out, 0, 0);
for my $n (0 .. $turn - 1) {
    my $line = <$out>;
    die "FAIL line $n: $line, not $lines[$n]" unless $line eq $lines[$n];
}
print "ok\n";
