/* For programs that run as a guest of Retrovisor: puts a named mark into the recording.
 *
 *     #include <retrovisor/mark.h>
 *     retrovisor_mark("request received");
 *
 * It is shown by `retro events --kind mark`, and "mark:request received" is a position for every
 * command that takes one. Costs as many port writes as the name has bytes, and one. Harmless
 * elsewhere: nothing listens on that port of a PC.
 *
 * A name has up to 64 bytes, and no newline. A program under Linux needs the right to use the port:
 * it calls retrovisor_mark_open() once, as root, which gives 0 or -1 with errno set. Kernels and
 * programs without an operating system need nothing. */
#ifndef RETROVISOR_MARK_H
#define RETROVISOR_MARK_H

#define RETROVISOR_MARK_PORT 0xea

static inline void retrovisor_mark_byte(unsigned char byte) {
    __asm__ volatile("outb %0, %1"
                     :
                     : "a"(byte), "Nd"((unsigned short)RETROVISOR_MARK_PORT)
                     : "memory");
}

static inline void retrovisor_mark(const char *name) {
    while (*name) retrovisor_mark_byte((unsigned char)*name++);
    retrovisor_mark_byte('\n');
}

#if defined(__linux__) && !defined(__KERNEL__) && __STDC_HOSTED__
#include <sys/io.h>
static inline int retrovisor_mark_open(void) { return ioperm(RETROVISOR_MARK_PORT, 1, 1); }
#endif

#endif
