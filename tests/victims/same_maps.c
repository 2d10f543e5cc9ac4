/* The address space is the same in /proc/self/maps. Identical neighbours count as one mapping. */
#include "victim.h"

struct line { unsigned long begin, end, offset; char rest[512]; };

/* The mappings in ascending order; `rest` is protection, device, inode and name. */
static int look(struct line *lines, int room)
{
    /* A static buffer, because the heap must not grow between the two reads. */
    static char text[1 << 18];
    int fd = open("/proc/self/maps", O_RDONLY), count = 0;
    ssize_t len = 0, n;
    while ((n = read(fd, text + len, sizeof text - 1 - len)) > 0)
        len += n;
    close(fd);
    text[len] = 0;
    for (char *at = text; *at; at = strchr(at, '\n') + 1) {
        struct line *line = &lines[count];
        char prot[8], tail[500];
        CHECK(count < room && sscanf(at, "%lx-%lx %7s %lx %499[^\n]", &line->begin, &line->end, prot, &line->offset, tail) == 5);
        snprintf(line->rest, sizeof line->rest, "%s %s", prot, tail);
        struct line *last = line - 1;
        int file = tail[6] != '0' || tail[5] != ' ';
        if (count && last->end == line->begin && strcmp(last->rest, line->rest) == 0 &&
            (!file || last->offset + (last->end - last->begin) == line->offset))
            last->end = line->end;
        else
            count++;
    }
    return count;
}

int main(void)
{
    static struct line before[200], after[200];
    char *at = map(64 * 4096, RW);
    for (int n = 0; n < 64; n += 7)
        mprotect(at + n * 4096, 4096, n % 2 ? PROT_NONE : PROT_READ);
    dprintf(2, "maps\n");
    look(before, 200);
    int count = look(before, 200);
    checkpoint_here(1);
    CHECK_EQ(look(after, 200), count);
    for (int n = 0; n < count; n++)
        if (before[n].begin != after[n].begin || before[n].end != after[n].end || strcmp(before[n].rest, after[n].rest) != 0) {
            dprintf(1, "FAIL before: %lx-%lx %s\n", before[n].begin, before[n].end, before[n].rest);
            dprintf(1, "FAIL after:  %lx-%lx %s\n", after[n].begin, after[n].end, after[n].rest);
            return 1;
        }
    return done();
}
