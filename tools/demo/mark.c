/* mark NAME: puts a mark into the recording that this runs in. A part of the Debian guest that
 * tools/guest makes. */
#include <stdio.h>

#include "../include/mark.h"

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: mark NAME\n", stderr);
        return 2;
    }
    if (retrovisor_mark_open()) {
        perror("mark: the port cannot be used");
        return 1;
    }
    retrovisor_mark(argv[1]);
    return 0;
}
