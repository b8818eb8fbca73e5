/* x87 and SSE: their state, its saving, their exceptions. */
#include "rt/guest.h"

#define CR4_OSFXSR     (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_OSXSAVE    (1u << 18)
enum { CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_NE = 0x20 };

static uint8_t area[1024] __attribute__((aligned(64))), area2[1024] __attribute__((aligned(64)));
static uint32_t mxcsr;

static void set_mxcsr(uint32_t v) { __asm__ volatile("ldmxcsr %0" ::"m"(v)); }
static uint32_t get_mxcsr(void) {
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    return mxcsr;
}

static void xstate(uint64_t a) {
    uint64_t b;
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSXSAVE);
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    equal(lo & 1, 1);
    equal(TRY("xsetbv", ::"a"(3), "d"(0), "c"(0), RESUME), -1);
    equal(TRY("xsetbv", ::"a"(2), "d"(0), "c"(0), RESUME), GP);
    equal(TRY("xsetbv", ::"a"(7), "d"(0), "c"(0), RESUME), has_avx() ? -1 : GP);
    equal(TRY("xsetbv", ::"a"(3), "d"(0), "c"(0), RESUME), -1);
    equal(TRY("xsetbv", ::"a"(3), "d"(0), "c"(1), RESUME), GP);
    for (unsigned i = 0; i < sizeof area; i++) area[i] = 0;
    set_mxcsr(0x1f80);
    __asm__ volatile("movq %1, %%xmm3; xsave64 %0" : "=m"(area) : "r"(a), "a"(3), "d"(0));
    check(area[512] & 2);
    equal(*(uint64_t *)(area + 160 + 16 * 3), a);
    __asm__ volatile("pxor %%xmm3, %%xmm3; xrstor64 %1; movq %%xmm3, %0"
                     : "=r"(b)
                     : "m"(area), "a"(2), "d"(0));
    equal(b, a);
    area[512] = 0; /* initial state */
    __asm__ volatile("xrstor64 %1; movq %%xmm3, %0" : "=r"(b) : "m"(area), "a"(3), "d"(0));
    equal(b, 0);
    area[512] = 4;
    equal(TRY("xrstor64 %0", ::"m"(area), "a"(3), "d"(0), RESUME), GP);
}

static void state(void) {
    part("FXSAVE, XSAVE");
    uint64_t a = 0x0123456789abcdef, b;
    __asm__ volatile("movq %0, %%xmm7; movq %0, %%xmm15; fninit; fld1; fldpi" ::"r"(a));
    __asm__ volatile("fxsave64 %0" : "=m"(area));
    equal(*(uint64_t *)(area + 160 + 16 * 7), a);
    equal(*(uint64_t *)(area + 160 + 16 * 15), a);
    equal(*(uint16_t *)area, 0x37f);
    equal(area[4], 0xc0); /* two registers in use */
    equal(*(uint64_t *)(area + 32), 0xc90fdaa22168c235);
    __asm__ volatile("fninit; pxor %%xmm7, %%xmm7; fxrstor64 %1; movq %%xmm7, %0"
                     : "=r"(b)
                     : "m"(area));
    equal(b, a);
    double d;
    __asm__ volatile("fstpl %0; fstpl %0" : "=m"(d));
    equal(*(uint64_t *)&d, 0x3ff0000000000000);
    *(uint32_t *)(area + 24) = 0xffffffff; /* MXCSR with reserved bits */
    equal(TRY("fxrstor64 %0", ::"m"(area), RESUME), GP);
    equal(TRY("fxsave64 1(%0)", ::"r"(area), RESUME : "memory"), GP);
    if (has_xsave()) xstate(a);
}

static void sse(void) {
    part("SSE and #XM");
    set_mxcsr(0x1f80);
    double one = 1, zero = 0, got;
    __asm__ volatile("movsd %1, %%xmm0; divsd %2, %%xmm0; movsd %%xmm0, %0"
                     : "=m"(got)
                     : "m"(one), "m"(zero));
    equal(*(uint64_t *)&got, 0x7ff0000000000000);
    equal(get_mxcsr() & 0x3f, 4);
    set_mxcsr(0x1f80 & ~0x200u); /* unmask division by zero */
    __asm__ volatile("movsd %0, %%xmm0" ::"m"(one));
    equal(TRY("divsd %0, %%xmm0", ::"m"(zero), RESUME), XM);
    __asm__ volatile("movsd %%xmm0, %0" : "=m"(got));
    equal(*(uint64_t *)&got, *(uint64_t *)&one); /* untouched */
    WRITE_REG(cr4, READ_REG(cr4) & ~(uint64_t)CR4_OSXMMEXCPT);
    equal(TRY("divsd %0, %%xmm0", ::"m"(zero), RESUME), UD);
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSXMMEXCPT);
    equal(TRY("ldmxcsr %0", ::"m"((uint32_t){0xffff0000}), RESUME), GP);
    set_mxcsr(0x1f80);
    /* Rounding modes, flush to zero, conversions. */
    static const uint32_t modes[4] = {2, 2, 3, 2};
    double x = 2.5;
    for (unsigned m = 0; m < 4; m++) {
        uint32_t v;
        set_mxcsr(0x1f80 | m << 13);
        __asm__ volatile("cvtsd2si %1, %0" : "=r"(v) : "m"(x));
        equal(v, modes[m]);
    }
    set_mxcsr(0x9f80);
    uint64_t tiny = 0x0010000000000000, half = 0x3fe0000000000000, out;
    __asm__ volatile("movq %1, %%xmm0; movq %2, %%xmm1; mulsd %%xmm1, %%xmm0; movq %%xmm0, %0"
                     : "=r"(out)
                     : "r"(tiny), "r"(half));
    equal(out, 0);
    set_mxcsr(0x1f80);
    equal(TRY("movaps (%0), %%xmm0", ::"r"(area + 1), RESUME), GP);
    equal(TRY("movups (%0), %%xmm0", ::"r"(area + 1), RESUME), -1);
    uint32_t crc;
    __asm__ volatile("crc32q %1, %q0" : "=r"(crc) : "r"(0x0123456789abcdefull), "0"(0));
    show("crc32", crc);
}

static void x87(void) {
    part("x87 and #MF");
    uint16_t cw = 0x37f & ~4, sw; /* unmask division by zero */
    WRITE_REG(cr0, READ_REG(cr0) | CR0_NE);
    __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp" ::"m"(cw)); /* shows at the next one */
    __asm__ volatile("fnstsw %0" : "=m"(sw));
    check(sw & 0x80);
    equal(TRY("fwait", ::RESUME), MF);
    equal(TRY("fld1", ::RESUME), MF);
    equal(TRY("fnclex; fld1", ::RESUME), -1);
    __asm__ volatile("fninit");
    for (unsigned i = 0; i < 8; i++) __asm__ volatile("fld1");
    __asm__ volatile("fld1; fnstsw %0" : "=m"(sw)); /* overflow of the stack */
    equal(sw & 0x241, 0x241);
    __asm__ volatile("fninit");
    uint8_t ten[10], bcd[10];
    uint64_t n = 1234567890123ull;
    __asm__ volatile("fildll %2; fstpt %0; fildll %2; fbstp %1" : "=m"(ten), "=m"(bcd) : "m"(n));
    equal(bcd[0], 0x23);
    equal(bcd[6], 0x01);
    double got;
    __asm__ volatile("fldpi; fsin; fstpl %0" : "=m"(got));
    show("sin(pi)", *(uint64_t *)&got);
    __asm__ volatile("fnstenv %0" : "=m"(area2));
    equal(*(uint16_t *)area2, 0x37f);
}

static void lazy(void) {
    part("#NM and #UD");
    WRITE_REG(cr0, READ_REG(cr0) | CR0_TS | CR0_MP);
    equal(TRY("fld1", ::RESUME), NM);
    equal(TRY("fwait", ::RESUME), NM);
    equal(TRY("movaps %%xmm0, %%xmm1", ::RESUME), NM);
    equal(TRY("fxsave64 %0", ::"m"(area), RESUME), NM);
    equal(TRY("crc32b %%al, %%ecx", ::RESUME : "ecx"), -1);
    equal(TRY("sfence", ::RESUME), -1);
    __asm__ volatile("clts");
    equal(TRY("movaps %%xmm0, %%xmm1", ::RESUME), -1);
    WRITE_REG(cr0, READ_REG(cr0) | CR0_EM);
    equal(TRY("fld1", ::RESUME), NM);
    equal(TRY("movaps %%xmm0, %%xmm1", ::RESUME), UD);
    equal(TRY("movq %%mm0, %%mm1", ::RESUME), UD);
    WRITE_REG(cr0, READ_REG(cr0) & ~(uint64_t)CR0_EM);
    WRITE_REG(cr4, READ_REG(cr4) & ~(uint64_t)CR4_OSFXSR);
    equal(TRY("movaps %%xmm0, %%xmm1", ::RESUME), UD);
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSFXSR);
    equal(TRY(".byte 0xc5, 0xf8, 0x28, 0xc1", ::RESUME), UD); /* VMOVAPS: no AVX in XCR0 */
}

/* Three contexts that interleave: each keeps its registers. */
static void contexts(void) {
    part("contexts");
    static uint8_t save[3][512] __attribute__((aligned(16)));
    for (unsigned i = 0; i < 3; i++) {
        uint64_t seed = i + 1;
        __asm__ volatile("fninit; movq %1, %%xmm5; fildll %2; fxsave64 %0"
                         : "=m"(save[i])
                         : "r"(seed), "m"(seed));
    }
    for (unsigned round = 0; round < 300; round++) {
        unsigned i = round % 3;
        __asm__ volatile("fxrstor64 %0; paddq %%xmm5, %%xmm5; fld %%st; faddp; fxsave64 %0"
                         : "+m"(save[i]));
        if (round % 60 > 56) /* before they leave the integers */
            __asm__ volatile("fxrstor64 %0; psrlq $19, %%xmm5; fxsave64 %0" : "+m"(save[i]));
    }
    for (unsigned i = 0; i < 3; i++) {
        show("xmm5", *(uint64_t *)(save[i] + 160 + 80));
        show("st0", *(uint64_t *)(save[i] + 32));
        equal(*(uint16_t *)(save[i] + 40), 0x3fff + 100 + (i ? 1 : 0));
    }
}

int main(void) {
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSFXSR | CR4_OSXMMEXCPT);
    WRITE_REG(cr0, (READ_REG(cr0) | CR0_NE | CR0_MP) & ~(uint64_t)(CR0_EM | CR0_TS));
    state();
    sse();
    x87();
    lazy();
    contexts();
    return 0;
}
