/* Real mode: segments, the interrupt vector table, far transfers, string I/O, 32-bit operands. */
#include "rt/guest.h"

static volatile unsigned hits[48];
static volatile uint16_t last_flags;

static void count(struct frame *f) {
    hits[f->vector]++;
    last_flags = f->flags;
}

static void skip2(struct frame *f) {
    hits[f->vector]++;
    f->ip = (uint16_t)(f->ip + 2);
}

static void skip3(struct frame *f) {
    hits[f->vector]++;
    f->ip = (uint16_t)(f->ip + 3);
}

static void interrupts(void) {
    part("interrupts through the IVT");
    handlers[0x21] = count;
    __asm__ volatile("sti; int $0x21; cli");
    equal(hits[0x21], 1);
    check(last_flags & 0x200);
    handlers[BP] = count;
    __asm__ volatile("int3");
    equal(hits[BP], 1);
    handlers[OF] = count;
    __asm__ volatile("movb $0x7f, %%al; addb $1, %%al; into" ::: "eax", "cc");
    equal(hits[OF], 1);
    handlers[DE] = skip2;
    __asm__ volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; .byte 0xf7, 0xf1" ::
                         : "eax", "ecx", "edx", "cc");
    equal(hits[DE], 1);
    handlers[UD] = skip2;
    __asm__ volatile("ud2");
    equal(hits[UD], 1);
    handlers[UD] = NULL;
    static uint16_t bounds[2] = {1, 5};
    handlers[BR] = count;
    uint16_t in = 3;
    __asm__ volatile("boundw %0, %1" ::"r"(in), "m"(bounds));
    equal(hits[BR], 0);
}

static void segments(void) {
    part("segments");
    uint8_t got;
    *(volatile uint8_t *)0xf123 = 0x5a;
    __asm__ volatile("movw $0xf00, %%ax; movw %%ax, %%fs; movw $0x123, %%bx; movb %%fs:(%%bx), %0"
                     : "=q"(got)::"eax", "ebx");
    equal(got, 0x5a);
    /* An offset beyond the limit of 64 KiB is #GP; a word at 0xffff crosses it. */
    handlers[GP] = skip3;
    __asm__ volatile("movw $0xffff, %%bx; .byte 0x64, 0x8b, 0x07" ::: "eax", "ebx");
    equal(hits[GP], 1);
    handlers[GP] = NULL;
    handlers[SS] = skip3;
    __asm__ volatile(
        "movl %%ebp, %%esi; movw $0xffff, %%bp; .byte 0x8b, 0x46; .byte 0; movl %%esi, %%ebp" ::
            : "eax", "esi");
    equal(hits[SS], 1);
    /* The address wraps within the segment, not beyond it. */
    *(volatile uint8_t *)0x1010 = 0x77;
    __asm__ volatile(
        "movw $0x100, %%ax; movw %%ax, %%fs; movw $0xfff8, %%bx; movb %%fs:24(%%bx), %0"
        : "=q"(got)::"eax", "ebx");
    equal(got, 0x77);
    /* FFFF:0010 lies above 1 MiB: A20 is open. */
    *(volatile uint8_t *)0x500 = 1;
    __asm__ volatile("movw $0xffff, %%ax; movw %%ax, %%es; movb $2, %%es:0x510; xorw %%ax, %%ax; "
                     "movw %%ax, %%es" ::
                         : "eax", "memory");
    equal(*(volatile uint8_t *)0x500, 1);
}

static void far_transfers(void) {
    part("far calls");
    uint32_t cs_seen = 0, result = 0;
    /* A routine at 0000:0600 called as 0060:0000: mov %cs, %ax; mov $0x1234, %cx; lret */
    static const uint8_t routine[] = {0x8c, 0xc8, 0xb9, 0x34, 0x12, 0xcb};
    for (unsigned i = 0; i < sizeof routine; i++)
        *(volatile uint8_t *)(uintptr_t)(0x600 + i) = routine[i];
    __asm__ volatile("xorl %%eax, %%eax; xorl %%ecx, %%ecx; lcallw $0x60, $0"
                     : "=a"(cs_seen), "=c"(result)::"memory");
    equal(cs_seen, 0x60);
    equal(result, 0x1234);
}

static void strings(void) {
    part("strings");
    static char from[64], to[64];
    for (unsigned i = 0; i < sizeof from; i++) from[i] = (char)(i * 7);
    unsigned n = sizeof from, left;
    const char *s = from;
    char *d = to;
    __asm__ volatile("cld; rep movsb" : "=c"(left), "+S"(s), "+D"(d) : "0"(n) : "memory");
    equal(left, 0);
    for (unsigned i = 0; i < sizeof from; i++) equal(to[i], from[i]);
    __asm__ volatile("std; rep stosb; cld"
                     : "=c"(left), "=D"(d)
                     : "0"(8), "1"(to + 7), "a"(0x41)
                     : "memory");
    equal(to[0], 0x41);
    equal(to[7], 0x41);
    equal((uintptr_t)d, (uintptr_t)(to - 1));
    __asm__ volatile("repne scasb"
                     : "=c"(left), "=D"(d)
                     : "0"(64), "1"(to), "a"(from[20])
                     : "cc", "memory");
    equal((uintptr_t)d, (uintptr_t)(to + 21));
    static const char text[] = "string output\n";
    s = text;
    __asm__ volatile("rep outsb"
                     : "=c"(left), "+S"(s)
                     : "0"(sizeof text - 1), "d"(COM1)
                     : "memory");
    equal((uintptr_t)s, (uintptr_t)(text + sizeof text - 1));
    d = to;
    __asm__ volatile("rep insb" : "=c"(left), "+D"(d) : "0"(4), "d"(0xe9) : "memory");
    for (unsigned i = 0; i < 4; i++) equal((uint8_t)to[i], 0xe9);
}

static void operands(void) {
    part("32-bit operands and addresses");
    uint32_t sum;
    __asm__ volatile("movl $0x12345678, %0; addl $0x11111111, %0" : "=r"(sum));
    equal(sum, 0x23456789);
    uint16_t before, after;
    __asm__ volatile("movw %%sp, %0; pushw %%sp; popw %1" : "=&r"(before), "=&r"(after));
    equal(before, after);
    uint32_t flags;
    __asm__ volatile("pushfl; popl %0" : "=r"(flags));
    equal(flags & 0x20000, 0);
    __asm__ volatile("smsw %0" : "=r"(flags));
    equal(flags & 1, 0);
    equal(TRY(".byte 0xf0, 0x90", ::RESUME), UD);
}

int main(void) {
    interrupts();
    segments();
    far_transfers();
    strings();
    operands();
    return 0;
}
