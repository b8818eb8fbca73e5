/* What gdb's test programs want of a C library. */
#include "rt/guest.h"

int printf(const char *format, ...);
int puts(const char *s);
int fprintf(void *to, const char *format, ...);
_Noreturn void exit(int code);

void *stdout, *stderr;

/* The format alone: nobody reads it. */
int printf(const char *format, ...) {
    print(format);
    return 0;
}
int fprintf(void *to, const char *format, ...) {
    print(format);
    return 0;
}
int puts(const char *s) {
    print(s);
    put('\n');
    return 0;
}
void exit(int code) { leave((uint32_t)code); }
