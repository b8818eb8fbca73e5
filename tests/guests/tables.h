/* Page tables of our own for 64-bit guests: the first 4 GiB one to one for the supervisor, the same
 * again for the user at ALIAS, and a window of 4 KiB pages at WINDOW. */
#ifndef TABLES_H
#define TABLES_H

#include "rt/guest.h"

#define ALIAS  0x8000000000ull
#define WINDOW 0x10000000000ull

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ull << 63)

#define PAGE __attribute__((aligned(4096)))
static PAGE volatile uint64_t pml4[512], pdpt[512], user_pdpt[512], pds[4 * 512], user_pds[4 * 512];
static PAGE volatile uint64_t window_pdpt[512], window_pd[512], window_pt[512];
static PAGE uint8_t pages[8][4096]; /* to be mapped */

#define ADDRESS(x) ((uint64_t)(uintptr_t)(x))

static inline void invlpg(uint64_t at) { __asm__ volatile("invlpg (%0)" ::"r"(at) : "memory"); }

static inline uint64_t at_page(unsigned n) { return WINDOW + n * 4096ull; }

/* Maps window page n. */
static inline void map(unsigned n, uint64_t entry) {
    window_pt[n] = entry;
    invlpg(at_page(n));
}

static inline void tables_on(void) {
    for (uint64_t i = 0; i < 2048; i++) {
        pds[i] = i << 21 | P | W | PS;
        user_pds[i] = i << 21 | P | W | U | PS;
    }
    for (unsigned i = 0; i < 4; i++) {
        pdpt[i] = ADDRESS(&pds[i * 512]) | P | W;
        user_pdpt[i] = ADDRESS(&user_pds[i * 512]) | P | W | U;
    }
    pml4[0] = ADDRESS(pdpt) | P | W;
    pml4[1] = ADDRESS(user_pdpt) | P | W | U;
    pml4[2] = ADDRESS(window_pdpt) | P | W | U;
    window_pdpt[0] = ADDRESS(window_pd) | P | W | U;
    window_pd[0] = ADDRESS(window_pt) | P | W | U;
    WRITE_REG(cr3, pml4);
    user_offset = ALIAS;
}

/* Calls what is at `at`; the vector of the exception that it ends with, or -1. The call's return
 * address stays on the stack then: undo it. */
static inline int fetch(uint64_t at) {
    caught.vector = -1;
    __asm__ volatile("mov %%rsp, %%r12; movl $99f, %c[resume_]; call *%0; movl $0, %c[resume_]; "
                     "99: mov %%r12, %%rsp" ::"r"(at),
                     RESUME
                     : "memory", "r12", "rax", "rcx", "cc");
    return caught.vector;
}

#define CR0_WP   (1u << 16)
#define CR4_PGE  (1u << 7)
#define CR4_PCID (1u << 17)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)
#define EFER     0xc0000080u

#endif
