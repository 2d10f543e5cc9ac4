/* The working directory stays the same. */
#include "victim.h"

int main(void)
{
    char before[512], after[512];
    CHECK(mkdir("deeper", 0700) == 0 && chdir("deeper") == 0 && getcwd(before, sizeof before));
    go_dir = "..";
    checkpoint_here(1);
    CHECK(getcwd(after, sizeof after) && strcmp(before, after) == 0);
    CHECK(access("../deeper", X_OK) == 0);
    return done();
}
