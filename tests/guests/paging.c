/* Long-mode paging: every kind of page-fault error code, a handler that mends what it faults on,
 * accessed and dirty bits, and no answer that is older than INVLPG allows. */
#include "tables.h"

enum { F_P = 1, F_W = 2, F_U = 4, F_RSVD = 8, F_I = 16 };

#define read_of(at)  TRY("movb (%0), %%al", ::"r"(at), RESUME : "rax", "memory")
#define write_of(at) TRY("movb $1, (%0)", ::"r"(at), RESUME : "memory")
static void faults_with(int vector, uint32_t error, uint64_t cr2, unsigned line) {
    if (vector != PF || caught.error != error || caught.cr2 != cr2) {
        failed("paging.c", line, "page fault error",
               vector == PF ? caught.error : (uint64_t)vector | 0xf0000000, error);
        show("  cr2", caught.cr2);
    }
}
#define pf(what, error, cr2) faults_with(what, error, cr2, __LINE__)

static uint64_t user_read(void *at) { return *(volatile uint8_t *)at; }
static uint64_t user_write(void *at) { return *(volatile uint8_t *)at = 7; }
static int user(uint64_t (*f)(void *), uint64_t at) {
    no_trap();
    fault_returns = true;
    in_user(f, (void *)at);
    fault_returns = false;
    return caught.vector;
}
static int user_fetch(uint64_t at) {
    uint64_t keep = user_offset;
    no_trap();
    fault_returns = true;
    __asm__ volatile("" ::: "memory");
    in_user((uint64_t(*)(void *))(uintptr_t)(at - keep), NULL);
    fault_returns = false;
    return caught.vector;
}

static void supervisor(void) {
    part("supervisor");
    uint64_t p = ADDRESS(pages[0]), at = at_page(1);
    map(1, 0);
    pf(read_of(at + 5), 0, at + 5);
    pf(write_of(at), F_W, at);
    pf(fetch(at), F_I, at);
    map(1, p | P);
    equal(read_of(at), -1);
    pf(write_of(at), F_P | F_W, at);
    WRITE_REG(cr0, READ_REG(cr0) & ~(uint64_t)CR0_WP);
    equal(write_of(at), -1);
    check(window_pt[1] & D);
    WRITE_REG(cr0, READ_REG(cr0) | CR0_WP);
    pf(write_of(at), F_P | F_W, at);
    map(1, p | P | W | NX);
    pages[0][0] = 0xc3;
    equal(read_of(at), -1);
    pf(fetch(at), F_P | F_I, at);
    map(1, p | P | W);
    equal(fetch(at), -1);
    map(1, p | P | W | 1ull << 51);
    pf(read_of(at), F_P | F_RSVD, at);
    pf(write_of(at), F_P | F_RSVD | F_W, at);
    pf(fetch(at), F_P | F_RSVD | F_I, at);
    map(1, p | 1ull << 51); /* not present: nothing is reserved */
    pf(read_of(at), 0, at);
    /* The same at every level. */
    static volatile uint64_t *const levels[] = {&window_pd[0], &window_pdpt[0], &pml4[2]};
    map(1, p | P | W);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t good = *levels[i];
        *levels[i] = good & ~(uint64_t)P;
        invlpg(at);
        pf(write_of(at), F_W, at);
        *levels[i] = good & ~(uint64_t)W;
        invlpg(at);
        pf(write_of(at), F_P | F_W, at);
        *levels[i] = good | NX;
        invlpg(at);
        pf(fetch(at), F_P | F_I, at);
        *levels[i] = good | 1ull << 50;
        invlpg(at);
        pf(read_of(at), F_P | F_RSVD, at);
        *levels[i] = good;
        invlpg(at);
        equal(write_of(at), -1);
    }
    /* Large pages: the bits below their address are reserved. */
    pages[0][0] = 0xc3;
    uint64_t good = window_pd[0];
    window_pd[0] = 1ull << 13 | P | W | PS;
    invlpg(at);
    pf(read_of(at), F_P | F_RSVD, at);
    window_pd[0] = (p & ~0x1fffffull) | P | W | PS;
    invlpg(at);
    equal(*(volatile uint8_t *)(WINDOW + (p & 0x1fffff)), 0xc3);
    window_pd[0] = good;
    good = window_pdpt[0];
    window_pdpt[0] = P | W | PS; /* 1 GiB */
    invlpg(at);
    equal(*(volatile uint8_t *)(WINDOW + p), 0xc3);
    window_pdpt[0] = good;
    WRITE_REG(cr3, READ_REG(cr3));
    part("without NXE");
    wrmsr(EFER, rdmsr(EFER) & ~0x800ull);
    map(1, p | P | W | NX);
    pf(read_of(at), F_P | F_RSVD, at);
    map(1, 0);
    pf(fetch(at), 0, at); /* no I without NXE and SMEP */
    wrmsr(EFER, rdmsr(EFER) | 0x800);
}

static void from_user(void) {
    part("user");
    uint64_t p = ADDRESS(pages[1]), at = at_page(2);
    map(2, p | P | W | U);
    equal(user(user_read, at), -1);
    equal(user(user_write, at), -1);
    map(2, p | P | U);
    pf(user(user_write, at), F_P | F_W | F_U, at);
    map(2, p | P | W);
    pf(user(user_read, at), F_P | F_U, at);
    pf(user(user_write, at), F_P | F_W | F_U, at);
    pf(user_fetch(at), F_P | F_I | F_U, at);
    map(2, 0);
    pf(user(user_read, at), F_U, at);
    pf(user(user_write, at), F_U | F_W, at);
    pf(user_fetch(at), F_U | F_I, at);
    map(2, p | P | W | U | NX);
    pf(user_fetch(at), F_P | F_U | F_I, at);
    map(2, p | P | U | 1ull << 45);
    pf(user(user_read, at), F_P | F_U | F_RSVD, at);
    map(2, p | P | W | U);
    window_pd[0] &= ~(uint64_t)U;
    invlpg(at);
    pf(user(user_read, at), F_P | F_U, at);
    window_pd[0] |= U;
    invlpg(at);
}

static void protections(void) {
    part("SMEP and SMAP");
    uint64_t at = at_page(3);
    pages[2][0] = 0xc3;
    map(3, ADDRESS(pages[2]) | P | W | U);
    equal(fetch(at), -1);
    WRITE_REG(cr4, READ_REG(cr4) | CR4_SMEP);
    pf(fetch(at), F_P | F_I, at);
    equal(read_of(at), -1);
    WRITE_REG(cr4, READ_REG(cr4) | CR4_SMAP);
    pf(read_of(at), F_P, at);
    pf(write_of(at), F_P | F_W, at);
    __asm__ volatile("stac");
    equal(read_of(at), -1);
    equal(write_of(at), -1);
    __asm__ volatile("clac");
    pf(read_of(at), F_P, at);
    equal(user(user_read, at), -1);
    WRITE_REG(cr4, READ_REG(cr4) & ~(uint64_t)(CR4_SMEP | CR4_SMAP));
    pages[2][0] = 0xc3;
    equal(fetch(at), -1);
}

static void flags(void) {
    part("accessed and dirty");
    uint64_t at = at_page(4), p = ADDRESS(pages[3]);
    map(4, p | P | W);
    equal(window_pt[4] & (A | D), 0);
    equal(read_of(at), -1);
    equal(window_pt[4] & (A | D), A);
    equal(write_of(at), -1);
    equal(window_pt[4] & (A | D), A | D);
    map(4, p | P | W);
    equal(write_of(at), -1);
    equal(window_pt[4] & (A | D), A | D);
    window_pt[4] &= ~(uint64_t)(A | D);
    window_pd[0] &= ~(uint64_t)A;
    window_pdpt[0] &= ~(uint64_t)A;
    pml4[2] &= ~(uint64_t)A;
    invlpg(at);
    pages[3][0] = 0xc3;
    equal(fetch(at), -1);
    check(window_pt[4] & A);
    check(window_pd[0] & A);
    check(window_pdpt[0] & A);
    check(pml4[2] & A);
    equal(window_pd[0] & D, 0);
    /* A fault for rights marks nothing dirty. */
    map(4, p | P);
    equal(write_of(at), PF);
    equal(window_pt[4] & D, 0);
    /* A write that reads first (CMPXCHG that fails still writes). */
    map(4, p | P | W);
    uint64_t old = 1;
    *(volatile uint64_t *)p = 2;
    __asm__ volatile("lock cmpxchgq %2, (%1)" : "+a"(old) : "r"(at), "r"(5ull) : "memory", "cc");
    equal(old, 2);
    equal(window_pt[4] & (A | D), A | D);
}

static void stale_by_pcid(uint64_t at) {
    WRITE_REG(cr4, READ_REG(cr4) | CR4_PCID);
    WRITE_REG(cr3, ADDRESS(pml4) | 3);
    equal(*(volatile uint8_t *)at, 5);
    struct {
        uint64_t pcid, at;
    } what = {3, at};
    window_pt[5] = ADDRESS(pages[4]) | P | W;
    __asm__ volatile("invpcid %0, %1" ::"m"(what), "r"(0ull) : "memory");
    equal(*(volatile uint8_t *)at, 4);
    WRITE_REG(cr3, ADDRESS(pml4));
    WRITE_REG(cr4, READ_REG(cr4) & ~(uint64_t)CR4_PCID);
}

static void stale(void) {
    part("no stale translations");
    uint64_t at = at_page(5);
    pages[4][0] = 4;
    pages[5][0] = 5;
    volatile uint8_t *v = (volatile uint8_t *)at;
    for (unsigned i = 0; i < 50; i++) {
        map(5, ADDRESS(pages[4]) | P | W);
        equal(*v, 4);
        window_pt[5] = ADDRESS(pages[5]) | P | W;
        WRITE_REG(cr3, READ_REG(cr3));
        equal(*v, 5);
    }
    WRITE_REG(cr4, READ_REG(cr4) | CR4_PGE);
    map(5, ADDRESS(pages[4]) | P | W | G);
    equal(*v, 4);
    window_pt[5] = ADDRESS(pages[5]) | P | W | G;
    WRITE_REG(cr4, READ_REG(cr4) & ~(uint64_t)CR4_PGE);
    equal(*v, 5);
    if (has_pcid()) stale_by_pcid(at);
    /* Code is seen through the mapping of now, too. */
    static const uint8_t one[] = {0xb8, 1, 0, 0, 0, 0xc3}, two[] = {0xb8, 2, 0, 0, 0, 0xc3};
    for (unsigned i = 0; i < sizeof one; i++) pages[4][i] = one[i], pages[5][i] = two[i];
    for (unsigned i = 0; i < 50; i++) {
        uint32_t got;
        map(5, ADDRESS(pages[4 + (i & 1)]) | P | W);
        __asm__ volatile("call *%1" : "=a"(got) : "r"(at) : "memory");
        equal(got, 1 + (i & 1));
    }
}

static unsigned mended;
static void mend(struct frame *f) {
    uint64_t at = READ_REG(cr2);
    mended++;
    map((unsigned)(at - WINDOW) / 4096, ADDRESS(pages[(at >> 12) & 7]) | P | W);
}

static void demand(void) {
    part("a handler that maps what is asked for");
    for (unsigned n = 8; n < 16; n++) map(n, 0);
    handlers[PF] = mend;
    for (uint64_t at = at_page(8); at < at_page(16); at += 512) *(volatile uint64_t *)at = at;
    equal(mended, 8);
    for (uint64_t at = at_page(8); at < at_page(16); at += 512) equal(*(volatile uint64_t *)at, at);
    /* Across two missing pages. */
    for (unsigned n = 8; n < 16; n++) map(n, 0);
    *(volatile uint64_t *)(at_page(9) - 3) = 0x1122334455667788;
    equal(mended, 10);
    equal(*(volatile uint64_t *)(at_page(9) - 3), 0x1122334455667788);
    /* A string move over missing pages goes on where it was. */
    for (unsigned n = 8; n < 16; n++) map(n, 0);
    const uint8_t *s = (const uint8_t *)at_page(8) + 100;
    uint8_t *d = (uint8_t *)at_page(12) + 50;
    uint64_t n = 10000;
    __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n)::"memory");
    equal(n, 0);
    equal((uint64_t)s, at_page(8) + 10100);
    equal(mended, 16);
    handlers[PF] = NULL;
}

static void crossing(void) {
    part("accesses across pages");
    map(6, ADDRESS(pages[6]) | P | W);
    map(7, 0);
    *(volatile uint32_t *)(pages[6] + 4092) = 0xaaaaaaaa;
    pf(TRY("movq $0, (%0)", ::"r"(at_page(7) - 4), RESUME : "memory"), F_W, at_page(7));
    equal(*(volatile uint32_t *)(pages[6] + 4092), 0xaaaaaaaa);
    uint64_t n = 20, d = at_page(7) - 5;
    equal(TRY("rep stosb", : "+D"(d), "+c"(n) : "a"(1), RESUME : "memory"), PF);
    equal(n, 15);
    equal(d, at_page(7));
    equal(caught.cr2, at_page(7));
    part("non-canonical addresses");
    equal(read_of(0x800000000000), GP);
    equal(caught.error, 0);
    set_gate(SS, ADDRESS(stubs + 16 * SS), 0x8e, 1, CS64);
    caught.vector = -1;
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; movl $99f, %c[resume_]; pop %%rax; 99: mov "
                     "%%rbx, %%rsp" ::"r"(0x900000000000),
                     RESUME
                     : "rax", "rbx", "memory");
    equal(caught.vector, SS);
    equal(caught.error, 0);
}

/* A loop with an instruction over the end of a page: what maps its end is asked each time, however
 * often it ran. */
static void code_crossing(void) {
    part("code across pages");
    /* mov ecx,20; xor eax,eax; 1: add eax,1; add eax,0x..0100 */
    static const uint8_t head[] = {0xb9, 20, 0, 0, 0, 0x31, 0xc0, 0x83, 0xc0, 1, 0x05, 0, 1};
    /* the upper half of that; dec ecx; jnz 1b; ret */
    static const uint8_t tail[] = {0, 0, 0xff, 0xc9, 0x75, 0xf4, 0xc3};
    uint64_t at = at_page(7) - sizeof head;
    for (unsigned i = 0; i < sizeof head; i++) pages[6][4096 - sizeof head + i] = head[i];
    for (unsigned i = 0; i < sizeof tail; i++) pages[5][i] = pages[7][i] = tail[i];
    pages[5][0] = 5;
    pages[7][0] = 7;
    map(6, ADDRESS(pages[6]) | P | W);
    for (unsigned i = 0; i < 60; i++) {
        unsigned end = i & 4 ? 5 : 7;
        if (i & 1) {
            map(7, ADDRESS(pages[end]) | P | W);
        } else {
            window_pt[7] = ADDRESS(pages[end]) | P | W;
            WRITE_REG(cr3, READ_REG(cr3));
        }
        uint32_t got;
        __asm__ volatile("call *%1" : "=a"(got) : "r"(at) : "rcx", "memory", "cc");
        equal(got, 20 * (0x101 + (end << 16)));
        if (i % 3 == 0) {
            map(7, 0);
            pf(fetch(at), F_I, at_page(7));
            map(7, ADDRESS(pages[end]) | P | W | NX);
            pf(fetch(at), F_P | F_I, at_page(7));
        }
    }
}

int main(void) {
    wrmsr(EFER, rdmsr(EFER) | 0x800);
    WRITE_REG(cr0, READ_REG(cr0) | CR0_WP);
    tables_on();
    supervisor();
    from_user();
    protections();
    flags();
    stale();
    demand();
    crossing();
    code_crossing();
    return 0;
}
