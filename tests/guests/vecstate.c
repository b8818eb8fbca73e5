/* AVX as part of a machine: enabling it, encodings that are none, its memory accesses and their
 * faults, XSAVE, interrupts whose handlers use it. */
#include "tables.h"
#include "vectors.h"

#define CR0_TS 8u

static uint8_t area[1024] __attribute__((aligned(64))), area2[1024] __attribute__((aligned(64)));

/* ---- whether there is any of it ---- */

static void not_offered(void) {
    part("AVX is not offered");
    equal(TRY("vmovaps %%xmm1, %%xmm0", ::RESUME), UD);
    equal(TRY("vaddpd %%ymm1, %%ymm1, %%ymm0", ::RESUME), UD);
    equal(TRY("vpaddd %%ymm1, %%ymm1, %%ymm0", ::RESUME), UD);
    equal(TRY("vzeroupper", ::RESUME), UD);
    equal(TRY("vfmadd231pd %%ymm1, %%ymm1, %%ymm0", ::RESUME), UD);
    equal(TRY("vcvtph2ps %%xmm1, %%ymm0", ::RESUME), UD);
    if (!has_xsave()) return;
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSXSAVE);
    equal(TRY("xsetbv", ::"a"(7), "d"(0), "c"(0), RESUME), GP);
    equal(TRY("vmovaps %%xmm1, %%xmm0", ::RESUME), UD);
    equal(cpuid(13, 0).a, 3);
    equal(cpuid(13, 2).a, 0);
}

static void offers(void) {
    part("CPUID");
    struct cpuid one = cpuid(1, 0), seven = cpuid(7, 0);
    equal(one.c >> 12 & 1, 1);                 /* FMA */
    equal(one.c >> 22 & 1, 1);                 /* MOVBE */
    equal(one.c >> 29 & 1, 1);                 /* F16C */
    equal(one.c >> 26 & 1, 1);                 /* XSAVE */
    equal(seven.b & 0x128, 0x128);             /* BMI1, AVX2, BMI2 */
    equal(cpuid(0x80000001, 0).c >> 5 & 1, 1); /* LZCNT */
    equal(cpuid(13, 0).a & 7, 7);
    equal(cpuid(13, 2).a, 256);
    equal(cpuid(13, 2).b, 576);
}

static int try_avx(void) { return TRY("vaddpd %%ymm1, %%ymm1, %%ymm0", ::RESUME); }
static int try_avx128(void) { return TRY("vpxor %%xmm1, %%xmm1, %%xmm0", ::RESUME); }
static int try_bmi(void) {
    return TRY("andn %%eax, %%ecx, %%edx; shlx %%eax, %%ecx, %%edx", ::RESUME : "edx");
}

static void enabling(void) {
    part("OSXSAVE, XCR0, TS");
    equal(try_avx(), UD);
    equal(try_avx128(), UD);
    equal(try_bmi(), -1); /* needs neither */
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSXSAVE);
    equal(cpuid(1, 0).c >> 27 & 1, 1);
    equal(try_avx(), UD);
    equal(cpuid(13, 0).b, 576);
    static const uint8_t wrong[] = {0, 2, 4, 5, 6};
    for (unsigned n = 0; n < sizeof wrong; n++)
        equal(TRY("xsetbv", ::"a"(wrong[n]), "d"(0), "c"(0), RESUME), GP);
    for (unsigned round = 0; round < 3; round++) {
        set_xcr0(3);
        equal(try_avx(), UD);
        equal(try_avx128(), UD);
        equal(try_bmi(), -1);
        set_xcr0(1);
        equal(try_avx128(), UD);
        set_xcr0(7);
        equal(cpuid(13, 0).b, 832);
        equal(try_avx(), -1);
        equal(try_avx128(), -1);
        WRITE_REG(cr0, READ_REG(cr0) | CR0_TS);
        equal(try_avx(), NM);
        equal(try_avx128(), NM);
        equal(TRY("vzeroupper", ::RESUME), NM);
        equal(try_bmi(), -1);
        set_xcr0(3);
        equal(try_avx(), UD); /* comes first */
        set_xcr0(7);
        __asm__ volatile("clts");
        WRITE_REG(cr4, READ_REG(cr4) & ~(uint64_t)CR4_OSXSAVE);
        equal(try_avx(), UD);
        WRITE_REG(cr4, READ_REG(cr4) | CR4_OSXSAVE);
        equal(try_avx(), -1); /* XCR0 was kept */
    }
}

static void encodings(void) {
    part("encodings");
    equal(TRY(".byte 0xf0, 0xc5, 0xfc, 0x28, 0xc1", ::RESUME), UD); /* LOCK */
    equal(TRY(".byte 0x66, 0xc5, 0xfc, 0x28, 0xc1", ::RESUME), UD);
    equal(TRY(".byte 0xf3, 0xc5, 0xfc, 0x28, 0xc1", ::RESUME), UD);
    equal(TRY(".byte 0x48, 0xc5, 0xfc, 0x28, 0xc1", ::RESUME), UD); /* REX */
    equal(TRY(".byte 0xc5, 0xec, 0x28, 0xc1", ::RESUME), UD); /* VMOVAPS with a third register */
    equal(TRY(".byte 0xc4, 0xe2, 0x71, 0x18, 0xc1", ::RESUME), UD); /* VBROADCASTSS, likewise */
    equal(TRY(".byte 0xc4, 0xe2, 0x79, 0x16, 0xc1", ::RESUME), UD); /* VPERMPS of 128 bits */
    equal(TRY(".byte 0x3e, 0xc5, 0xfc, 0x28, 0xc1", ::RESUME), -1); /* a segment is fine */
}

/* ---- memory ---- */

static unsigned faults;
static uint32_t last_error;

/* Maps the page of the window that is missing. */
static void bring_in(struct frame *f) {
    uint64_t at = READ_REG(cr2);
    unsigned n = (unsigned)((at - WINDOW) >> 12);
    if (at < WINDOW || n >= 8) {
        show("a page fault at", at);
        leave(254);
    }
    faults++;
    last_error = (uint32_t)f->error;
    map(n, ADDRESS(pages[n ^ 1]) | P | W); /* neighbours are not neighbours */
}

static void drop(void) {
    for (unsigned n = 0; n < 8; n++) map(n, 0);
}

static void put_in(unsigned at, const struct ymm *v) {
    for (unsigned n = 0; n < 32; n++) pages[(at + n) >> 12 ^ 1][(at + n) & 4095] = B(*v, n);
}
static struct ymm taken_out(unsigned at) {
    struct ymm v;
    for (unsigned n = 0; n < 32; n++) B(v, n) = pages[(at + n) >> 12 ^ 1][(at + n) & 4095];
    return v;
}

static unsigned ones(unsigned v) {
    unsigned n = 0;
    for (; v; v &= v - 1) n++;
    return n;
}

static void across(void) {
    part("across pages");
    handlers[PF] = bring_in;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned at = 4096 - 33 + round % 35;
        unsigned parts = (at & 4095) > 4096 - 32 ? 2 : 1;
        struct ymm a = any_ymm(), b = any_ymm(), got;
        void *p = (void *)(WINDOW + at);
        drop();
        faults = 0;
        put_in(at, &a);
        __asm__ volatile("vmovdqu (%1), %%ymm3; vmovdqu %%ymm3, %0" : "=m"(got) : "r"(p));
        SAME("a load across pages", got, a);
        equal(faults, parts);
        drop();
        __asm__ volatile("vmovdqu %0, %%ymm3; vmovups %%ymm3, (%1)" ::"m"(b), "r"(p) : "memory");
        SAME("a store across pages", taken_out(at), b);
        equal(faults, 2 * parts);
        equal(last_error, 2);
        __asm__ volatile("vmovdqu %1, %%ymm1; vpaddq (%2), %%ymm1, %%ymm3; vmovdqu %%ymm3, %0"
                         : "=m"(got)
                         : "m"(a), "r"(p));
        for (unsigned n = 0; n < 4; n++) equal(got.q[n], a.q[n] + b.q[n]);
    }
    /* A store whose second half may not be written leaves the first as it is. */
    handlers[PF] = NULL;
    map(0, ADDRESS(pages[1]) | P | W);
    map(1, ADDRESS(pages[0]) | P);
    WRITE_REG(cr0, READ_REG(cr0) | CR0_WP);
    struct ymm a = any_ymm(), b = any_ymm();
    put_in(4080, &a);
    __asm__ volatile("vmovdqu %0, %%ymm3" ::"m"(b));
    equal(TRY("vmovdqu %%ymm3, (%0)", ::"r"(WINDOW + 4080), RESUME : "memory"), PF);
    equal(caught.cr2, WINDOW + 4096);
    equal(caught.error, 3);
    if (ours) SAME("a store that faults", taken_out(4080), a);
    /* Not canonical. */
    equal(TRY("vmovdqu (%0), %%ymm3", ::"r"(0x800000000000ull), RESUME), GP);
}

static void alignment(void) {
    part("alignment");
    for (unsigned round = 0; round < 20; round++)
        for (unsigned by = 0; by < 32; by += 4) {
            void *p = area + by;
            int want = by ? GP : -1, want128 = by % 16 ? GP : -1;
            equal(TRY("vmovaps (%0), %%ymm0", ::"r"(p), RESUME), want);
            equal(TRY("vmovdqa %%ymm0, (%0)", ::"r"(p), RESUME : "memory"), want);
            equal(TRY("vmovntdq %%ymm0, (%0)", ::"r"(p), RESUME : "memory"), want);
            equal(TRY("vmovntdqa (%0), %%ymm0", ::"r"(p), RESUME), want);
            equal(TRY("vmovapd (%0), %%xmm0", ::"r"(p), RESUME), want128);
            equal(TRY("vmovups (%0), %%ymm0", ::"r"(p), RESUME), -1);
            equal(TRY("vlddqu (%0), %%ymm0", ::"r"(p), RESUME), -1);
            equal(TRY("vpaddd (%0), %%ymm0, %%ymm0", ::"r"(p), RESUME), -1); /* unlike PADDD */
            equal(TRY("vpaddd (%0), %%xmm0, %%xmm0", ::"r"(p), RESUME), -1);
        }
}

static void gathers(void) {
    part("gathers");
    handlers[PF] = bring_in;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct ymm index, mask = any_ymm(), got = any_ymm(), was = got, left, want;
        unsigned touched = 0;
        for (unsigned n = 0; n < 8; n++) {
            unsigned at = (unsigned)any() % (8 * 1024 - 1); /* dwords */
            D(index, n) = at;
            pages[at >> 10 ^ 1][(at & 1023) * 4 + n % 4] = (uint8_t)any();
            if (D(mask, n) >> 31) touched |= 1u << (at >> 10);
        }
        for (unsigned n = 0; n < 8; n++) {
            unsigned at = D(index, n);
            D(want, n) =
                D(mask, n) >> 31 ? ((uint32_t *)pages[at >> 10 ^ 1])[at & 1023] : D(was, n);
        }
        drop();
        faults = 0;
        __asm__ volatile("vmovdqu %2, %%ymm1; vmovdqu %3, %%ymm2; vmovdqu %0, %%ymm3; "
                         "vpgatherdd %%ymm2, (%4,%%ymm1,4), %%ymm3; "
                         "vmovdqu %%ymm3, %0; vmovdqu %%ymm2, %1"
                         : "+m"(got), "=m"(left)
                         : "m"(index), "m"(mask), "r"(WINDOW));
        SAME("vpgatherdd", got, want);
        SAME("vpgatherdd's mask", left, ((struct ymm){{0}}));
        equal(faults, ones(touched));
        /* Four quadwords by doublewords, some of them across pages. */
        for (unsigned n = 0; n < 4; n++) D(index, n) = n * 8192 + 4096 - 4 * (round & 1);
        for (unsigned n = 0; n < 4; n++) {
            mask.q[n] = ~0ull;
            B(want, 8 * n) = 0;
            for (unsigned k = 0; k < 8; k++) {
                unsigned at = D(index, n) + k;
                B(want, 8 * n + k) = pages[at >> 12 ^ 1][at & 4095];
            }
        }
        drop();
        faults = 0;
        __asm__ volatile("vmovdqu %1, %%xmm1; vmovdqu %2, %%ymm2; "
                         "vgatherdpd %%ymm2, (%3,%%xmm1), %%ymm3; vmovdqu %%ymm3, %0"
                         : "=m"(got)
                         : "m"(index), "m"(mask), "r"(WINDOW));
        SAME("vgatherdpd", got, want);
        equal(faults, round & 1 ? 8 : 4);
    }
    /* One that is not mended: what came before the fault is done, and its mask says so. */
    handlers[PF] = NULL;
    drop();
    map(0, ADDRESS(pages[0]) | P | W);
    struct ymm index = {{0}}, mask = {{~0ull, ~0ull, ~0ull, ~0ull}}, got = any_ymm(), was = got;
    for (unsigned n = 0; n < 8; n++) {
        D(index, n) = n < 5 ? n : 1024 + n;
        ((uint32_t *)pages[0])[n] = 0x1000 + n;
    }
    __asm__ volatile("vmovdqu %0, %%ymm1; vmovdqu %1, %%ymm2; vmovdqu %2, %%ymm3" ::"m"(index),
                     "m"(mask), "m"(got));
    equal(TRY("vpgatherdd %%ymm2, (%0,%%ymm1,4), %%ymm3", ::"r"(WINDOW), RESUME), PF);
    equal(caught.cr2, WINDOW + 4096 + 5 * 4);
    __asm__ volatile("vmovdqu %%ymm3, %0; vmovdqu %%ymm2, %1" : "=m"(got), "=m"(mask));
    for (unsigned n = 0; n < 8; n++) {
        if (n < 5) equal(D(got, n), 0x1000 + n);
        if (n == 5) equal(D(got, n), D(was, n));
        if (n < 6) equal(D(mask, n), n < 5 ? 0 : ~0u);
    }
    equal(TRY(".byte 0xc4, 0xe2, 0x6d, 0x90, 0x1c, 0x90", ::"a"(WINDOW), RESUME),
          UD); /* ymm2 twice */
    map(0, 0); /* no bit of the mask, no access */
    mask = (struct ymm){{0x7fffffff7fffffff, 0, 0, 0}};
    __asm__ volatile("vmovdqu %0, %%ymm2" ::"m"(mask));
    equal(TRY("vpgatherdd %%ymm2, (%0,%%ymm1,4), %%ymm3", ::"r"(WINDOW), RESUME), -1);
}

static void masked(void) {
    part("masked moves");
    handlers[PF] = bring_in;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned at = 4096 - 4 * (round % 9); /* so many doublewords in the first page */
        unsigned first = round % 9, touched = 0;
        struct ymm a = any_ymm(), b = any_ymm(), mask = any_ymm(), got, want;
        void *p = (void *)(WINDOW + at);
        for (unsigned n = 0; n < 8; n++)
            if (D(mask, n) >> 31) touched |= n < first ? 1 : 2;
        put_in(at, &a);
        drop();
        faults = 0;
        __asm__ volatile("vmovdqu %1, %%ymm1; vpmaskmovd (%2), %%ymm1, %%ymm3; vmovdqu %%ymm3, %0"
                         : "=m"(got)
                         : "m"(mask), "r"(p));
        for (unsigned n = 0; n < 8; n++) D(want, n) = D(mask, n) >> 31 ? D(a, n) : 0;
        SAME("vpmaskmovd, load", got, want);
        equal(faults, ones(touched));
        drop();
        faults = 0;
        __asm__ volatile(
            "vmovdqu %0, %%ymm1; vmovdqu %1, %%ymm3; vmaskmovps %%ymm3, %%ymm1, (%2)" ::"m"(mask),
            "m"(b), "r"(p)
            : "memory");
        for (unsigned n = 0; n < 8; n++) D(want, n) = D(mask, n) >> 31 ? D(b, n) : D(a, n);
        SAME("vmaskmovps, store", taken_out(at), want);
        equal(faults, ones(touched));
    }
    handlers[PF] = NULL;
    drop();
    struct ymm low = {{~0ull, ~0ull, 0, 0}}, got;
    map(0, ADDRESS(pages[0]) | P | W);
    __asm__ volatile("vmovdqu %0, %%ymm1; vmovdqu %0, %%ymm3" ::"m"(low));
    equal(TRY("vmaskmovps (%0), %%ymm1, %%ymm3", ::"r"(WINDOW + 4096 - 16), RESUME), -1);
    equal(TRY("vmaskmovps (%0), %%ymm1, %%ymm3", ::"r"(WINDOW + 4096 - 12), RESUME), PF);
    equal(caught.cr2, WINDOW + 4096);
    equal(TRY("vpmaskmovq %%ymm3, %%ymm1, (%0)", ::"r"(WINDOW + 4096), RESUME : "memory"), PF);
    equal(caught.error, 2);
    __asm__ volatile("vpxor %%xmm1, %%xmm1, %%xmm1" ::);
    equal(TRY("vpmaskmovq (%0), %%ymm1, %%ymm3", ::"r"(WINDOW + 4096), RESUME), -1);
    __asm__ volatile("vmovdqu %%ymm3, %0" : "=m"(got));
    SAME("vpmaskmovq of nothing", got, ((struct ymm){{0}}));
}

/* ---- XSAVE ---- */

#define XSTATE_BV(a) (*(uint64_t *)((a) + 512))
#define LOW(a, n)    ((uint64_t *)((a) + 160 + 16 * (n)))
#define HIGH(a, n)   ((uint64_t *)((a) + 576 + 16 * (n)))

static void clear(uint8_t *a) {
    for (unsigned n = 0; n < sizeof area; n++) a[n] = 0;
}

static void saving(void) {
    part("XSAVE");
    for (unsigned round = 0; round < ROUNDS / 4; round++) {
        struct ymm a = any_ymm(), b = any_ymm(), got;
        clear(area);
        clear(area2);
        __asm__ volatile("vmovdqu %1, %%ymm0; vmovdqu %2, %%ymm15; xsave64 %0"
                         : "+m"(area)
                         : "m"(a), "m"(b), "a"(7), "d"(0));
        equal(XSTATE_BV(area) & 6, 6);
        equal(LOW(area, 0)[1], a.q[1]);
        equal(HIGH(area, 0)[0], a.q[2]);
        equal(HIGH(area, 0)[1], a.q[3]);
        equal(HIGH(area, 15)[0], b.q[2]);
        equal(LOW(area, 15)[0], b.q[0]);
        /* The upper halves alone. */
        XSTATE_BV(area2) = 3;
        __asm__ volatile("xsave64 %0" : "+m"(area2) : "a"(4), "d"(0));
        equal(XSTATE_BV(area2), 7); /* bits that were not asked for stay */
        equal(LOW(area2, 0)[0], 0);
        equal(HIGH(area2, 15)[1], b.q[3]);
        __asm__ volatile("vzeroall; xrstor64 %1; vmovdqu %%ymm0, %0"
                         : "=m"(got)
                         : "m"(area), "a"(4), "d"(0));
        SAME("upper halves restored", got, ((struct ymm){{0, 0, a.q[2], a.q[3]}}));
        __asm__ volatile("xrstor64 %1; vmovdqu %%ymm15, %0"
                         : "=m"(got)
                         : "m"(area), "a"(7), "d"(0));
        SAME("all restored", got, b);
        /* The initial state. */
        XSTATE_BV(area) = 3;
        __asm__ volatile("xrstor64 %1; vmovdqu %%ymm15, %0"
                         : "=m"(got)
                         : "m"(area), "a"(7), "d"(0));
        SAME("upper halves initial", got, ((struct ymm){{b.q[0], b.q[1], 0, 0}}));
        XSTATE_BV(area) = 4;
        __asm__ volatile("xrstor64 %1; vmovdqu %%ymm15, %0"
                         : "=m"(got)
                         : "m"(area), "a"(7), "d"(0));
        SAME("xmm initial", got, ((struct ymm){{0, 0, b.q[2], b.q[3]}}));
        /* Not asked for: as it was. */
        XSTATE_BV(area) = 7;
        __asm__ volatile("vmovdqu %2, %%ymm15; xrstor64 %1; vmovdqu %%ymm15, %0"
                         : "=m"(got)
                         : "m"(area), "m"(a), "a"(3), "d"(0));
        SAME("upper halves not asked for", got, ((struct ymm){{b.q[0], b.q[1], a.q[2], a.q[3]}}));
        /* Unused: here XSTATE_BV is exact; elsewhere the image must hold zeroes. */
        __asm__ volatile("vzeroall; xsave64 %0" : "+m"(area) : "a"(7), "d"(0));
        if (ours) equal(XSTATE_BV(area) & 4, 0);
        if (XSTATE_BV(area) & 4) equal(HIGH(area, 15)[0], 0);
        /* Without it in XCR0 it is not written, and may not be claimed. */
        __asm__ volatile("vmovdqu %0, %%ymm9" ::"m"(a));
        set_xcr0(3);
        clear(area);
        __asm__ volatile("xsave64 %0" : "+m"(area) : "a"(7), "d"(0));
        equal(XSTATE_BV(area) & 4, 0);
        equal(HIGH(area, 9)[0], 0);
        XSTATE_BV(area) |= 4;
        equal(TRY("xrstor64 %0", ::"m"(area), "a"(7), "d"(0), RESUME), GP);
        __asm__ volatile("pxor %%xmm9, %%xmm9" ::);
        set_xcr0(7);
        __asm__ volatile("vmovdqu %%ymm9, %0" : "=m"(got));
        SAME("kept while not in XCR0", got, ((struct ymm){{0, 0, a.q[2], a.q[3]}}));
    }
    equal(TRY("xsave64 (%0)", ::"r"(area + 16), "a"(7), "d"(0), RESUME : "memory"), GP);
    clear(area);
    XSTATE_BV(area) = 8;
    equal(TRY("xrstor64 %0", ::"m"(area), "a"(7), "d"(0), RESUME), GP);
}

/* ---- interrupts ---- */

static volatile unsigned ticks;

/* Uses the registers that the interrupted code uses, and saves them. */
static void tick(struct frame *f) {
    static uint8_t saved[1024] __attribute__((aligned(64)));
    static const struct ymm noise = {{0xdeadbeefdeadbeef, 1, 0xfeedfacefeedface, 2}};
    ticks++;
    __asm__ volatile("xsave64 %0" : "+m"(saved) : "a"(7), "d"(0));
    __asm__ volatile("vmovdqu %0, %%ymm1; vpaddq %%ymm1, %%ymm1, %%ymm3; vmovdqa %%ymm3, %%ymm0; "
                     "vmovdqa %%ymm3, %%ymm2; vmovdqa %%ymm3, %%ymm15" ::"m"(noise));
    if (ticks & 1) __asm__ volatile("vzeroupper" ::);
    __asm__ volatile("xrstor64 %0" ::"m"(saved), "a"(7), "d"(0));
    lapic_write(LAPIC_EOI, 0);
}

static void interrupted(void) {
    part("interrupts");
    handlers[0x40] = tick;
    pic_on(); /* and all masked */
    lapic_on();
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_TIMER, 0x40 | 1 << 17);
    lapic_write(LAPIC_INIT, 3000);
    struct ymm sum = {{0}}, step = {{1, 3, 5, 7}}, product = {{dbl(0), dbl(0), dbl(0), dbl(0)}};
    struct ymm one = {{dbl(1), dbl(1), dbl(1), dbl(1)}}, many = {{dbl(1), dbl(2), dbl(3), dbl(4)}};
    uint64_t rounds = 0;
    irq_on();
    while (ticks < 25) { /* the sums stay in registers from one tick to another */
        unsigned count = 1000;
        __asm__ volatile("vmovdqu %0, %%ymm0; vmovdqu %1, %%ymm2; vmovdqu %3, %%ymm1; "
                         "vmovdqu %4, %%ymm15; vmovdqu %5, %%ymm3; "
                         "1: vpaddq %%ymm1, %%ymm0, %%ymm0; vfmadd231pd %%ymm15, %%ymm3, %%ymm2; "
                         "dec %2; jnz 1b; vmovdqu %%ymm0, %0; vmovdqu %%ymm2, %1"
                         : "+m"(sum), "+m"(product), "+r"(count)
                         : "m"(step), "m"(one), "m"(many)
                         : "cc");
        rounds += 1000;
    }
    irq_off();
    lapic_write(LAPIC_TIMER, 0x10000);
    for (unsigned n = 0; n < 4; n++) {
        equal(sum.q[n], rounds * (2 * n + 1));
        equal(product.q[n], dbl((int64_t)(rounds * (n + 1))));
    }
}

int main(void) {
    sse_on();
    if (!has_avx()) {
        not_offered();
        return 0;
    }
    tables_on();
    offers();
    enabling();
    encodings();
    across();
    alignment();
    gathers();
    masked();
    saving();
    interrupted();
    show("state", state);
    return 0;
}
