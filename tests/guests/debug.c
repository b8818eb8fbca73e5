/* Single steps and breakpoints of the processor. */
#include "rt/guest.h"

static volatile unsigned hits;
static volatile uint64_t last_ip, last_dr6, first_ip;

static void on_db(struct frame *f) {
    if (!hits++) first_ip = f->ip;
    last_ip = f->ip;
    last_dr6 = READ_REG(dr6);
    WRITE_REG(dr6, 0xffff0ff0);
}
/* The same, for breakpoints on instructions: goes on behind the fault. */
static void on_code(struct frame *f) {
    on_db(f);
    f->flags |= 0x10000; /* RF */
}

#define TF_ON  "pushfq; orl $0x100, (%%rsp); popfq;"
#define TF_OFF "pushfq; andl $~0x100, (%%rsp); popfq;"

static void steps(void) {
    part("single steps");
    handlers[DB] = on_db;
    uint64_t from;
    hits = 0;
    __asm__ volatile("lea 1f(%%rip), %0;" TF_ON "nop; 1: nop; nop;" TF_OFF
                     : "=r"(from)::"cc", "memory");
    equal(hits,
          3 + 3); /* the NOPs and what turns it off, its POPF included: it began with TF set */
    equal(first_ip, from);
    equal(last_dr6 & 0x400f, 0x4000);
    hits = 0;
    __asm__ volatile("mov %%ss, %%ecx; lea 1f(%%rip), %0;" TF_ON "mov %%ecx, %%ss; nop; 1:" TF_OFF
                     : "=&r"(from)::"cc", "rcx", "memory");
    equal(hits, 1 + 3); /* MOV SS holds its trap back */
    equal(first_ip, from);
    hits = 0;
    __asm__ volatile(TF_ON "call 1f; jmp 2f; 1: ret; 2:" TF_OFF ::: "cc", "memory");
    equal(hits, 3 + 3);
    hits = 0;
    __asm__ volatile(TF_ON "int3;" TF_OFF ::: "cc", "memory"); /* handlers run without TF */
    equal(hits, 3);
    hits = 0;
    __asm__ volatile(TF_ON "cpuid; xor %%ecx, %%ecx; mov %%cr0, %%rax; inb $0x80, %%al;" TF_OFF ::
                         : "rax", "rbx", "rcx", "rdx", "cc", "memory");
    equal(hits, 4 + 3);
}

static void quiet(struct frame *f) {}

static volatile uint8_t data[64] __attribute__((aligned(8)));

static void set(unsigned n, uint64_t at, unsigned type, unsigned len) {
    if (n == 0) WRITE_REG(dr0, at);
    if (n == 1) WRITE_REG(dr1, at);
    uint64_t dr7 = READ_REG(dr7) & ~((0xfull << (16 + 4 * n)) | (3ull << (2 * n)));
    static const uint8_t code[9] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    WRITE_REG(dr7, dr7 | 1ull << (2 * n) | (uint64_t)(type | code[len] << 2) << (16 + 4 * n));
}

static void data_breakpoints(void) {
    part("data breakpoints");
    handlers[DB] = on_db;
    set(0, (uintptr_t)&data[8], 1, 4); /* writes */
    hits = 0;
    (void)data[8];
    equal(hits, 0);
    data[8] = 1;
    equal(hits, 1);
    equal(last_dr6 & 15, 1);
    data[11] = 1;
    equal(hits, 2);
    data[12] = 1;
    data[7] = 1;
    equal(hits, 2);
    *(volatile uint32_t *)&data[5] = 0; /* touches the first byte of it */
    equal(hits, 3);
    *(volatile uint64_t *)&data[0] = 0;
    equal(hits, 3);
    set(1, (uintptr_t)&data[16], 3, 8); /* reads and writes */
    hits = 0;
    (void)data[20];
    equal(hits, 1);
    equal(last_dr6 & 15, 2);
    data[23] = 0;
    equal(hits, 2);
    /* Within REP: a trap after the element that touches it. */
    hits = 0;
    uint8_t *d = (uint8_t *)&data[0];
    uint64_t n = 16;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(0) : "memory");
    equal(n, 0);
    check(hits >= 1 && hits <= 4);
    uint64_t from;
    __asm__ volatile("lea 1f(%%rip), %0; movb $1, 8(%1); 1: nop"
                     : "=&r"(from)
                     : "r"(data)
                     : "memory");
    equal(last_ip, from);
    /* On the stack of a push, and held back by MOV SS. */
    hits = 0;
    __asm__ volatile("mov %%ss, %%ecx; mov %%ecx, 8(%1); nop"
                     : "=&r"(from)
                     : "r"(data)
                     : "rcx", "memory");
    equal(hits, 1);
    WRITE_REG(dr7, 0x400);
    hits = 0;
    data[8] = 1;
    equal(hits, 0);
}

__attribute__((noinline, noclone)) static uint64_t target(uint64_t n) {
    __asm__ volatile(".globl here\nhere: inc %0" : "+r"(n)::"cc");
    return n;
}
extern char here[];

static void code_breakpoints(void) {
    part("instruction breakpoints");
    handlers[DB] = on_code;
    equal(target(1), 2);
    set(0, (uintptr_t)here, 0, 1);
    for (unsigned i = 1; i <= 5; i++) {
        hits = 0;
        equal(target(i), i + 1);
        equal(hits, 1);
        equal(last_ip, (uintptr_t)here);
        equal(last_dr6 & 15, 1);
    }
    WRITE_REG(dr7, 0x400);
    hits = 0;
    target(1);
    equal(hits, 0);
    /* Without RF the same instruction would stop for ever; IRET sets it for one instruction. */
    set(0, (uintptr_t)here, 0, 1);
    hits = 0;
    target(1);
    target(1);
    equal(hits, 2);
    WRITE_REG(dr7, 0x400);
}

static void io_breakpoints(void) {
    part("I/O breakpoints and GD");
    handlers[DB] = on_db;
    WRITE_REG(cr4, READ_REG(cr4) | 8);
    set(0, 0x80, 2, 1);
    hits = 0;
    in8(0x80);
    equal(hits, 1);
    out8(0x80, 1);
    equal(hits, 2);
    in8(0xe9);
    equal(hits, 2);
    WRITE_REG(dr7, 0x400);
    uint64_t v;
    equal(TRY("mov %%dr4, %0", : "=r"(v) : RESUME), UD); /* DE: no aliases */
    WRITE_REG(cr4, READ_REG(cr4) & ~8ull);
    equal(TRY("mov %%dr4, %0", : "=r"(v) : RESUME), -1);
    handlers[DB] = NULL;
    WRITE_REG(dr7, 0x2400);
    equal(TRY("mov %%dr7, %0", : "=r"(v) : RESUME), DB);
    equal(READ_REG(dr6) & 0x2000, 0x2000);
    equal(READ_REG(dr7) & 0x2000, 0);
    equal(TRY("mov %0, %%dr7", ::"r"(1ull << 32), RESUME), GP);
}

int main(void) {
    handlers[BP] = quiet;
    steps();
    data_breakpoints();
    code_breakpoints();
    io_breakpoints();
    return 0;
}
