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

void *memset(void *to, int c, size_t n);
long read(int fd, void *to, size_t n);
long write(int fd, const void *from, size_t n);

void *memset(void *to, int c, size_t n) {
    for (char *p = to; n--;) *p++ = (char)c;
    return to;
}
void *malloc(size_t n);
void free(void *p);
int atoi(const char *s);

/* Nothing is given back: the programs are short. */
void *malloc(size_t n) {
    static char heap[1 << 16];
    static size_t used;
    void *p = heap + used;
    used += (n + 15) & ~(size_t)15;
    return used <= sizeof heap ? p : 0;
}
void free(void *p) {}
int atoi(const char *s) {
    int v = 0;
    while (*s >= '0' && *s <= '9') v = 10 * v + (*s++ - '0');
    return v;
}
/* Nothing is there to read from. */
long read(int fd, void *to, size_t n) { return 0; }
long write(int fd, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) put(((const char *)from)[i]);
    return (long)n;
}
