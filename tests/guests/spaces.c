/* Two address spaces with a common upper half, as a kernel and its processes have: what a load of
 * CR3 changes and what it leaves, on which tables it depends, and the stack on both sides of it. */
#include "tables.h"

#define HIGH   0xffff800000000000ull /* the first window again, in the upper half of both */
#define SWITCH 256                   /* its entry in the top tables */
#define TIMES  60                    /* more than a translator takes to become interested */

static PAGE volatile uint64_t other[512], other_pdpt[512], other_pd[512], other_pt[512];
static PAGE volatile uint64_t third_pt[512];

static void enter(const volatile uint64_t *top) { WRITE_REG(cr3, ADDRESS(top)); }
static uint64_t low(unsigned n) { return at_page(n); }
static uint64_t high(unsigned n) { return HIGH + n * 4096ull; }
static uint8_t byte(uint64_t at) { return *(volatile uint8_t *)at; }

static uint32_t call(uint64_t at) {
    uint32_t got;
    __asm__ volatile("call *%1" : "=a"(got) : "r"(at) : "memory", "cc");
    return got;
}

/* MOV EAX, n; RET */
static void code(uint8_t *to, uint8_t n) {
    const uint8_t bytes[] = {0xb8, n, 0, 0, 0, 0xc3};
    for (unsigned i = 0; i < sizeof bytes; i++) to[i] = bytes[i];
}

/* Pages 0 and 1 are the first one's and the other's at low(0), page 2 is at high(2) in both. */
static void set_up(void) {
    tables_on();
    for (unsigned n = 0; n < 8; n++) code(pages[n], (uint8_t)(10 + n));
    window_pt[0] = ADDRESS(pages[0]) | P | W;
    window_pt[2] = ADDRESS(pages[2]) | P | W;
    other_pt[0] = ADDRESS(pages[1]) | P | W;
    other_pd[0] = ADDRESS(other_pt) | P | W;
    other_pdpt[0] = ADDRESS(other_pd) | P | W;
    pml4[SWITCH] = ADDRESS(window_pdpt) | P | W;
    for (unsigned n = 0; n < 512; n++) other[n] = pml4[n];
    other[2] = ADDRESS(other_pdpt) | P | W;
    enter(pml4);
}

static void two(void) {
    part("two spaces");
    for (unsigned i = 0; i < TIMES; i++) {
        bool first = i & 1;
        enter(first ? pml4 : other);
        equal(byte(low(0) + 1), first ? 10 : 11);
        equal(byte(high(2) + 1), 12);
        equal(call(low(0)), first ? 10 : 11);
        equal(call(high(2)), 12);
    }
}

static void accessed(void) {
    part("accessed bits of the other's tables");
    for (unsigned i = 0; i < TIMES; i++) {
        enter(pml4);
        equal(byte(high(2) + 1), 12);
        check(pml4[SWITCH] & A);
        other[SWITCH] = pml4[SWITCH] & ~(uint64_t)A;
        other_pt[0] &= ~(uint64_t)(A | D);
        enter(other);
        equal(i & 1 ? byte(high(2) + 1) : call(high(2)), 12);
        check(other[SWITCH] & A);
        *(volatile uint8_t *)(low(0) + 100) = 1;
        equal(other_pt[0] & (A | D), A | D);
    }
}

static void elsewhere(void) {
    part("changes in tables that are not loaded");
    for (unsigned i = 0; i < TIMES; i++) {
        unsigned to = 3 + (i & 1);
        enter(other);
        equal(byte(low(0) + 1), 11);
        equal(byte(high(2) + 1), 12);
        /* Of the lower half: a leaf; of the upper half: the top, here and there. */
        window_pt[0] = ADDRESS(pages[to]) | P | W;
        pml4[SWITCH] = to & 1 ? ADDRESS(other_pdpt) | P | W : ADDRESS(window_pdpt) | P | W;
        other_pt[2] = ADDRESS(pages[5]) | P | W;
        enter(pml4);
        equal(byte(low(0) + 1), 10 + to);
        equal(call(low(0)), 10 + to);
        equal(byte(high(2) + 1), to & 1 ? 15 : 12);
        equal(call(high(2)), to & 1 ? 15 : 12);
        pml4[SWITCH] = ADDRESS(window_pdpt) | P | W;
        enter(pml4);
        equal(byte(high(2) + 1), 12);
    }
    window_pt[0] = ADDRESS(pages[0]) | P | W;
    enter(pml4);
}

static void common(void) {
    part("a leaf table in both halves");
    for (unsigned i = 0; i < TIMES; i++) {
        unsigned to = i % 3;
        window_pt[6] = ADDRESS(pages[to]) | P | W;
        if (i & 1) enter(other);
        enter(pml4);
        equal(byte(low(6) + 1), 10 + to);
        equal(byte(high(6) + 1), 10 + to);
        equal(call(low(6)), 10 + to);
        equal(call(high(6)), 10 + to);
    }
}

/* Pushes v at sp, enters another space, and pops what is at the same place there. The jump is where
 * a translator begins to know the stack. */
static uint64_t push_and_pop(uint64_t sp, uint64_t v, const volatile uint64_t *top) {
    uint64_t got;
    __asm__ volatile(
        "mov %%rsp, %%rbx; mov %1, %%rsp; jmp 3f; 3: push %2; call 1f; mov %3, %%cr3; call 1f; "
        "pop %0; mov %%rbx, %%rsp; jmp 2f; 1: ret; 2:"
        : "=&r"(got)
        : "r"(sp), "r"(v), "r"(ADDRESS(top))
        : "rbx", "memory", "cc");
    return got;
}

static void stacks(void) {
    part("stacks");
    volatile uint64_t *here = (volatile uint64_t *)(pages[0] + 2048),
                      *there = (volatile uint64_t *)(pages[1] + 2048);
    uint64_t sp = low(0) + 2048;
    for (unsigned i = 0; i < TIMES; i++) {
        enter(pml4);
        there[-1] = 1000 + i;
        equal(push_and_pop(sp, i, other), 1000 + i);
        equal(here[-1], i);
        here[-1] = 2000 + i;
        equal(push_and_pop(sp, 3000 + i, pml4), 2000 + i);
        equal(there[-1], 3000 + i);
        equal(push_and_pop(high(2) + 2048, 4000 + i, other), 4000 + i);
        enter(pml4);
        /* At the edge of two pages, of which the lower one changes. */
        window_pt[3] = ADDRESS(pages[3 + (i & 1)]) | P | W;
        window_pt[4] = ADDRESS(pages[6]) | P | W;
        invlpg(low(3));
        equal(push_and_pop(low(4) + 8 * (i % 3), i, pml4), i);
        if (i % 3 == 0) equal(*(volatile uint64_t *)(pages[3 + (i & 1)] + 4088), i);
    }
}

/* A stack on a page that is a page table from time to time: what is pushed there is an entry, which
 * is used between two pushes. Jumps are where a translator looks for the stack anew. */
static void table_as_stack(void) {
    part("a stack on a page table");
    for (unsigned i = 0; i < 2 * TIMES; i++) {
        unsigned to = i % 4;
        uint64_t at = WINDOW + (1 << 21) + 7 * 4096, one = 0, two = 0;
        window_pd[1] = i / 8 & 1 ? ADDRESS(third_pt) | P | W : ADDRESS(other_pt) | P | W;
        other_pt[7] = ADDRESS(pages[7]) | P | W;
        invlpg(at);
        __asm__ volatile("mov %%rsp, %%rbx; mov %2, %%rsp; jmp 1f; 1: push %3; jmp 2f; "
                         "2: movzbl 1(%5), %k0; pop %%rcx; jmp 3f; 3: push %4; jmp 4f; "
                         "4: invlpg (%5); movzbl 1(%5), %k1; mov %%rbx, %%rsp"
                         : "+&r"(one), "+&r"(two)
                         : "r"(third_pt + 8), "r"(ADDRESS(pages[to]) | P | W),
                           "r"(ADDRESS(pages[to + 1]) | P | W), "r"(at)
                         : "rbx", "rcx", "memory", "cc");
        equal(one, i / 8 & 1 ? 10 + to : 17);
        equal(two, i / 8 & 1 ? 11 + to : 17);
    }
}

int main(void) {
    set_up();
    two();
    accessed();
    elsewhere();
    common();
    stacks();
    table_as_stack();
    return 0;
}
