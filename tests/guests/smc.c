/* Code that changes code: what was written is what runs, however it was written. */
#include "tables.h"

static uint32_t call(uint64_t at) {
    uint32_t v;
    __asm__ volatile("call *%1" : "=a"(v) : "r"(at) : "memory", "rcx", "rdx");
    return v;
}

/* mov $n, %eax; ret */
static void constant(volatile uint8_t *at, uint32_t n) {
    at[0] = 0xb8;
    for (unsigned i = 0; i < 4; i++) at[1 + i] = (uint8_t)(n >> (8 * i));
    at[5] = 0xc3;
}

static void plain(void) {
    part("rewritten between calls");
    for (unsigned i = 0; i < 300; i++) {
        constant(pages[0], i);
        equal(call(ADDRESS(pages[0])), i);
        pages[0][1] ^= 0xff;
        equal(call(ADDRESS(pages[0])), i ^ 0xff);
    }
}

static void same_block(void) {
    part("rewritten just ahead");
    uint32_t got;
    /* The immediate of the instruction after next is changed, again and again. */
    for (uint32_t i = 0; i < 100; i++) {
        __asm__ volatile("movl %1, 1f + 1(%%rip); nop; 1: movl $0x7fffffff, %%eax"
                         : "=a"(got)
                         : "r"(i)
                         : "memory");
        equal(got, i);
        __asm__ volatile("movl %1, 1f + 1(%%rip); 1: movl $0x7fffffff, %%eax"
                         : "=a"(got)
                         : "r"(i + 7)
                         : "memory");
        equal(got, i + 7);
    }
    /* Three NOPs become INC %EDX by the instruction before them. */
    uint32_t n = 0;
    __asm__ volatile("movl $0x90c2ff90, 1f(%%rip); 1: .byte 0x90, 0x90, 0x90, 0x90"
                     : "+d"(n)::"memory");
    equal(n, 1);
    /* A loop that counts itself up in its own immediate. */
    __asm__ volatile("movl $50, %%ecx; 1: movl $0x10, %%eax; incl 1b + 1(%%rip); decl %%ecx; jnz 1b"
                     : "=a"(got)::"ecx", "memory", "cc");
    equal(got, 0x10 + 49);
}

static void crossing(void) {
    part("across pages");
    uint8_t *at = pages[1] - 3; /* the instruction's bytes lie on both sides */
    for (unsigned i = 0; i < 50; i++) {
        constant(at, i * 0x01010101);
        equal(call(ADDRESS(at)), i * 0x01010101);
        at[4]++;
        equal(call(ADDRESS(at)), i * 0x01010101 + 0x01000000);
        at[1]++;
        equal(call(ADDRESS(at)), i * 0x01010101 + 0x01000001);
    }
}

/* Whether two bytes are an instruction is known from the second page alone. */
static void none_crossing(void) {
    part("no instruction across pages");
    uint8_t *at = pages[1] - 1;
    at[0] = 0x0f;
    for (unsigned i = 0; i < 60; i++) {
        at[1] = 0x04;
        equal(fetch(ADDRESS(at)), UD);
        at[1] = 0x1f; /* nop; ret */
        at[2] = 0xc0;
        at[3] = 0xc3;
        equal(fetch(ADDRESS(at)), -1);
    }
}

static void aliases(void) {
    part("through an alias");
    map(0, ADDRESS(pages[2]) | P | W);
    map(1, ADDRESS(pages[2]) | P);
    uint8_t *writer = (uint8_t *)at_page(0);
    for (unsigned i = 0; i < 100; i++) {
        constant(writer, i);
        equal(call(at_page(1)), i);
        constant(pages[2], i + 1000);
        equal(call(at_page(1)), i + 1000);
        equal(call(at_page(0)), i + 1000);
    }
    part("a page that follows itself");
    /* Both window pages are one page: an instruction at their border has its end at its front. */
    for (unsigned i = 0; i < 20; i++) {
        uint8_t tail[6];
        constant(tail, i * 0x01010101);
        for (unsigned k = 0; k < 6; k++) pages[2][k < 3 ? 4093 + k : k - 3] = tail[k];
        equal(call(at_page(1) - 3), i * 0x01010101);
        writer[1]++;
        equal(call(at_page(1) - 3), i * 0x01010101 + 0x01000000);
        pages[2][4094]++;
        equal(call(at_page(1) - 3), i * 0x01010101 + 0x01000001);
    }
}

static void moved(void) {
    part("by string moves");
    static uint8_t models[2][6];
    constant(models[0], 11);
    constant(models[1], 22);
    for (unsigned i = 0; i < 50; i++) {
        const uint8_t *s = models[i & 1];
        uint8_t *d = pages[3];
        uint64_t n = 6;
        __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n)::"memory");
        equal(call(ADDRESS(pages[3])), i & 1 ? 22 : 11);
    }
    /* REP STOSB runs over itself and what follows: INC %EDX twice becomes NOPs. */
    uint8_t code[] = {0xf3, 0xaa, 0xff, 0xc2, 0xff, 0xc2, 0x89, 0xd0, 0xc3};
    for (unsigned i = 0; i < sizeof code; i++) pages[4][i] = code[i];
    uint8_t *d = pages[4] + 2;
    uint64_t n = 4;
    uint32_t got, edx = 5;
    __asm__ volatile("call *%4"
                     : "=a"(got), "+D"(d), "+c"(n), "+d"(edx)
                     : "r"(pages[4]), "a"(0x90)
                     : "memory");
    equal(got, 5);
    /* The stack holds code: PUSH rewrites it. */
    uint64_t ret_code = 0xc3000000b8ull | 0x42ull << 8;
    ret_code = 0xb8 | 0x42ull << 8 | 0xc3ull << 40;
    __asm__ volatile("push %1; call *%%rsp; pop %%rdx"
                     : "=a"(got)
                     : "r"(ret_code)
                     : "rdx", "memory");
    equal(got, 0x42);
    /* XCHG, CMPXCHG, atomic adds, and the bit instructions write code, too. */
    constant(pages[5], 1);
    for (unsigned i = 0; i < 20; i++) {
        uint32_t before = call(ADDRESS(pages[5]));
        __asm__ volatile("lock addl $3, 1(%0)" ::"r"(pages[5]) : "memory", "cc");
        equal(call(ADDRESS(pages[5])), before + 3);
        __asm__ volatile("btsl $8, 1(%0)" ::"r"(pages[5]) : "memory", "cc");
        equal(call(ADDRESS(pages[5])), (before + 3) | 0x100);
    }
}

/* Page tables that lie in a page of code, and code that maps itself elsewhere. */
static void mixed(void) {
    part("code in a page table");
    constant((volatile uint8_t *)&window_pt[100], 77);
    equal(call(ADDRESS(&window_pt[100])), 77);
    for (unsigned i = 0; i < 20; i++) {
        map(2, ADDRESS(pages[i & 1 ? 6 : 7]) | P | W);
        constant((uint8_t *)at_page(2), i);
        equal(call(at_page(2)), i);
        equal(call(ADDRESS(&window_pt[100])), 77);
        constant((volatile uint8_t *)&window_pt[100], 77);
    }
}

int main(void) {
    tables_on();
    plain();
    same_block();
    crossing();
    none_crossing();
    aliases();
    moved();
    mixed();
    return 0;
}
