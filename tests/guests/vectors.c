/* What AVX, AVX2, FMA and F16C compute, compared with the same in plain C, in loops long enough to
 * be translated; and what becomes of the upper halves of registers. */
#include "vectors.h"

/* ---- integers ---- */

static int32_t saturate16(int32_t v) { return v > 32767 ? 32767 : v < -32768 ? -32768 : v; }

static void adding(struct ymm a, struct ymm b) {
    struct ymm got, want;
    TWO(got, a, b, "vpaddd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 8; n++) D(want, n) = D(a, n) + D(b, n);
    SAME("vpaddd", got, want);
    TWO(got, a, b, "vpsubq %2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = a.q[n] - b.q[n];
    SAME("vpsubq", got, want);
    TWO(got, a, b, "vpaddsw %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 16; n++)
        W_(want, n) = (uint16_t)saturate16((int16_t)W_(a, n) + (int16_t)W_(b, n));
    SAME("vpaddsw", got, want);
    TWO(got, a, b, "vpmulld %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 8; n++) D(want, n) = D(a, n) * D(b, n);
    SAME("vpmulld", got, want);
    TWO(got, a, b, "vpmuludq %2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = (uint64_t)D(a, 2 * n) * D(b, 2 * n);
    SAME("vpmuludq", got, want);
    TWO(got, a, b, "vpandn %%ymm2, %%ymm1, %%ymm3; vpxor %%ymm1, %%ymm3, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = (~a.q[n] & b.q[n]) ^ a.q[n];
    SAME("vpandn, vpxor", got, want);
    TWO(got, a, b, "vpcmpgtd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 8; n++) D(want, n) = (int32_t)D(a, n) > (int32_t)D(b, n) ? ~0u : 0;
    SAME("vpcmpgtd", got, want);
}

static void moving(struct ymm a, struct ymm b) {
    struct ymm got, want, shift = b;
    for (unsigned n = 0; n < 8; n++) D(shift, n) &= 0x3f; /* half of them too far */
    TWO(got, a, shift, "vpsllvd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 8; n++) D(want, n) = D(shift, n) > 31 ? 0 : D(a, n) << D(shift, n);
    SAME("vpsllvd", got, want);
    TWO(got, a, shift, "vpsravd %2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 8; n++) {
        unsigned by = D(shift, n) > 31 ? 31 : D(shift, n);
        D(want, n) = (uint32_t)((int32_t)D(a, n) >> by);
    }
    SAME("vpsravd", got, want);
    TWO(got, a, b, "vpermd %%ymm1, %%ymm2, %%ymm3");
    for (unsigned n = 0; n < 8; n++) D(want, n) = D(a, D(b, n) & 7);
    SAME("vpermd", got, want);
    TWO(got, a, b, "vpermq $0x1b, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = a.q[3 - n];
    SAME("vpermq", got, want);
    TWO(got, a, b, "vperm2i128 $0x21, %%ymm2, %%ymm1, %%ymm3");
    want = (struct ymm){{a.q[2], a.q[3], b.q[0], b.q[1]}};
    SAME("vperm2i128", got, want);
    TWO(got, a, b, "vpshufb %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 32; n++)
        B(want, n) = B(b, n) & 0x80 ? 0 : B(a, (n & 16) + (B(b, n) & 15));
    SAME("vpshufb", got, want);
    TWO(got, a, b, "vpalignr $5, %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 32; n++) B(want, n) = (n & 15) < 11 ? B(b, n + 5) : B(a, n + 5 - 16);
    SAME("vpalignr", got, want);
    TWO(got, a, b, "vpblendvb %%ymm2, %2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 32; n++) B(want, n) = B(b, n) & 0x80 ? B(b, n) : B(a, n);
    SAME("vpblendvb", got, want);
    TWO(got, a, b, "vpunpckhwd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 16; n++) W_(want, n) = W_((n & 1 ? b : a), (n & 8) + 4 + (n & 7) / 2);
    SAME("vpunpckhwd", got, want);
    uint32_t mask, bits = 0;
    __asm__ volatile("vmovdqu %1, %%ymm1; vpmovmskb %%ymm1, %0" : "=r"(mask) : "m"(a));
    for (unsigned n = 0; n < 32; n++) bits |= (uint32_t)(B(a, n) >> 7) << n;
    equal(mask, bits);
    __asm__ volatile("vpbroadcastd %1, %%ymm3; vmovdqu %%ymm3, %0" : "=m"(got) : "m"(D(a, 3)));
    for (unsigned n = 0; n < 8; n++) D(want, n) = D(a, 3);
    SAME("vpbroadcastd", got, want);
    __asm__ volatile("vpmovsxbd %1, %%ymm3; vmovdqu %%ymm3, %0" : "=m"(got) : "m"(a.q[1]));
    for (unsigned n = 0; n < 8; n++) D(want, n) = (uint32_t)(int8_t)B(a, 8 + n);
    SAME("vpmovsxbd", got, want);
    uint8_t zero, carry;
    __asm__ volatile("vmovdqu %2, %%ymm1; vptest %3, %%ymm1; setz %0; setc %1"
                     : "=qm"(zero), "=qm"(carry)
                     : "m"(a), "m"(a));
    equal(zero, 0);
    equal(carry, 1);
}

static void integers(void) {
    part("integers");
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct ymm a = any_ymm(), b = any_ymm();
        adding(a, b);
        moving(a, b);
    }
    struct ymm sum = {{0}}, one = {{1, 2, 3, 4}};
    for (unsigned n = 0; n < ROUNDS; n++) THREE(sum, one, one, "vpaddq %%ymm1, %%ymm3, %%ymm3");
    for (unsigned n = 0; n < 4; n++) equal(sum.q[n], ROUNDS * (n + 1));
}

/* ---- floating point: integers are exact in it ---- */

static void doubles(void) {
    int64_t a[4], b[4], c[4];
    struct ymm x, y, z, got, want;
    for (unsigned n = 0; n < 4; n++) {
        a[n] = (int64_t)(any() >> 44) - (1 << 19);
        b[n] = (int64_t)(any() >> 44) + 1;
        c[n] = (int64_t)(any() >> 40) - (1 << 23);
        x.q[n] = dbl(a[n]), y.q[n] = dbl(b[n]), z.q[n] = dbl(c[n]);
    }
    TWO(got, x, y, "vaddpd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = dbl(a[n] + b[n]);
    SAME("vaddpd", got, want);
    TWO(got, x, y, "vmulpd %2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = dbl(a[n] * b[n]);
    SAME("vmulpd", got, want);
    TWO(got, got, y, "vdivpd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = dbl(a[n]);
    SAME("vdivpd", got, want);
    TWO(got, y, y, "vmulpd %%ymm1, %%ymm1, %%ymm3; vsqrtpd %%ymm3, %%ymm3");
    SAME("vsqrtpd", got, y);
    got = z;
    THREE(got, x, y, "vfmadd231pd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = dbl(a[n] * b[n] + c[n]);
    SAME("vfmadd231pd", got, want);
    got = z;
    THREE(got, x, y, "vfmsub213pd %2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = dbl(c[n] * a[n] - b[n]);
    SAME("vfmsub213pd", got, want);
    got = z;
    THREE(got, x, y, "vfnmadd132pd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = dbl(a[n] - c[n] * b[n]);
    SAME("vfnmadd132pd", got, want);
    got = z; /* a scalar: the rest of 128 bits stays, what is above is cleared */
    THREE(got, x, y, "vfmadd231sd %%xmm2, %%xmm1, %%xmm3");
    want = (struct ymm){{dbl(a[0] * b[0] + c[0]), z.q[1], 0, 0}};
    SAME("vfmadd231sd", got, want);
    TWO(got, x, y, "vhaddpd %%ymm2, %%ymm1, %%ymm3");
    want = (struct ymm){{dbl(a[0] + a[1]), dbl(b[0] + b[1]), dbl(a[2] + a[3]), dbl(b[2] + b[3])}};
    SAME("vhaddpd", got, want);
    TWO(got, x, y, "vcvttpd2dq %%ymm1, %%xmm3");
    want = (struct ymm){{0}};
    for (unsigned n = 0; n < 4; n++) D(want, n) = (uint32_t)a[n];
    SAME("vcvttpd2dq", got, want);
    TWO(got, want, y, "vcvtdq2pd %%xmm1, %%ymm3");
    SAME("vcvtdq2pd", got, x);
    TWO(got, x, y, "vcmpltpd %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 4; n++) want.q[n] = a[n] < b[n] ? ~0ull : 0;
    SAME("vcmpltpd", got, want);
}

static void singles(void) {
    int64_t a[8], b[8];
    struct ymm x, y, got, want;
    for (unsigned n = 0; n < 8; n++) {
        a[n] = (int64_t)(any() >> 53) - 1024;
        b[n] = (int64_t)(any() >> 53) + 1;
        D(x, n) = flt(a[n]), D(y, n) = flt(b[n]);
    }
    TWO(got, x, y, "vsubps %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 8; n++) D(want, n) = flt(a[n] - b[n]);
    SAME("vsubps", got, want);
    TWO(got, x, y, "vmulps %2, %%ymm1, %%ymm3; vdivps %%ymm2, %%ymm3, %%ymm3");
    SAME("vmulps, vdivps", got, x);
    got = x;
    THREE(got, x, y, "vfmaddsub231ps %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 8; n++) D(want, n) = flt(a[n] * b[n] + (n & 1 ? a[n] : -a[n]));
    SAME("vfmaddsub231ps", got, want);
    TWO(got, x, y, "vcvtps2dq %%ymm1, %%ymm3; vcvtdq2ps %%ymm3, %%ymm3");
    SAME("vcvtps2dq, vcvtdq2ps", got, x);
    TWO(got, x, y, "vshufps $0x4e, %%ymm2, %%ymm1, %%ymm3");
    want = (struct ymm){{x.q[1], y.q[0], x.q[3], y.q[2]}};
    SAME("vshufps", got, want);
    TWO(got, x, y, "vmaxps %%ymm2, %%ymm1, %%ymm3");
    for (unsigned n = 0; n < 8; n++) D(want, n) = flt(a[n] > b[n] ? a[n] : b[n]);
    SAME("vmaxps", got, want);
}

static void rounding(void) {
    /* (1 + 2^-52) (1 - 2^-52) - 1: -2^-104, of which a rounded product shows nothing. */
    struct ymm up = {{0x3ff0000000000001, 0, 0, 0}}, down = {{0x3feffffffffffffe, 0, 0, 0}}, got;
    got = (struct ymm){{0xbff0000000000000, 0, 0, 0}};
    THREE(got, up, down, "vfmadd231pd %%ymm2, %%ymm1, %%ymm3");
    equal(got.q[0], 0xb970000000000000);
    got = (struct ymm){{0xbff0000000000000, 0, 0, 0}};
    THREE(got, up, down, "vmulpd %%ymm2, %%ymm1, %%ymm1; vaddpd %%ymm1, %%ymm3, %%ymm3");
    equal(got.q[0], 0);
    /* Every element follows MXCSR, and a third of one is 0x3fd5555555555555 and a bit. */
    static const uint64_t third[4] = {0x3fd5555555555555, 0x3fd5555555555555, 0x3fd5555555555556,
                                      0x3fd5555555555555};
    struct ymm one = {{dbl(1), dbl(1), dbl(1), dbl(1)}}, three = {{dbl(3), dbl(3), dbl(3), dbl(3)}};
    for (unsigned mode = 0; mode < 4; mode++) {
        set_mxcsr(0x1f80 | mode << 13);
        TWO(got, one, three, "vdivpd %%ymm2, %%ymm1, %%ymm3");
        set_mxcsr(0x1f80);
        struct ymm want = {{third[mode], third[mode], third[mode], third[mode]}};
        SAME("vdivpd, rounded", got, want);
    }
    uint32_t flags;
    struct ymm zero = {{dbl(1), dbl(1), 0, dbl(1)}};
    TWO(got, one, zero, "vdivpd %%ymm2, %%ymm1, %%ymm3");
    __asm__ volatile("stmxcsr %0" : "=m"(flags));
    equal(flags & 0x3f, 4);
    equal(got.q[2], 0x7ff0000000000000);
    set_mxcsr(0x1f80 & ~0x200u); /* unmasked */
    __asm__ volatile("vmovdqu %0, %%ymm3; vmovdqu %0, %%ymm1; vmovdqu %1, %%ymm2" ::"m"(one),
                     "m"(zero));
    if (ours) equal(TRY("vdivpd %%ymm2, %%ymm1, %%ymm3", ::RESUME), XM);
    set_mxcsr(0x1f80);
    __asm__ volatile("vmovdqu %%ymm3, %0" : "=m"(got));
    if (ours) SAME("vdivpd that faults", got, one);
}

static void floats(void) {
    part("floating point");
    set_mxcsr(0x1f80);
    for (unsigned round = 0; round < ROUNDS; round++) {
        doubles();
        singles();
    }
    rounding();
}

static void halves_of_floats(void) {
    part("F16C");
    for (int v = -2048; v <= 2048; v += 7) { /* all of them exact in 11 bits */
        struct ymm wide = {{0}}, half, got;
        for (unsigned n = 0; n < 8; n++) D(wide, n) = flt(v);
        TWO(half, wide, wide, "vcvtps2ph $0, %%ymm1, %%xmm3");
        equal(half.q[2], 0);
        equal(W_(half, 5), as_float(v, 10, 15)
                               ? (uint16_t)((v < 0) << 15 | as_float(v < 0 ? -v : v, 10, 15))
                               : 0);
        TWO(got, half, half, "vcvtph2ps %%xmm1, %%ymm3");
        SAME("vcvtph2ps", got, wide);
    }
    static const struct {
        uint32_t from;
        uint16_t to[4]; /* nearest, down, up, towards zero */
    } known[] = {{0x3eaaaaab, {0x3555, 0x3555, 0x3556, 0x3555}}, /* a third */
                 {0xbeaaaaab, {0xb555, 0xb556, 0xb555, 0xb555}},
                 {0x477ff000, {0x7c00, 0x7bff, 0x7c00, 0x7bff}}, /* 65520 */
                 {0x33000001, {0x0001, 0x0000, 0x0001, 0x0000}}, /* just above half the least */
                 {0x7f800000, {0x7c00, 0x7c00, 0x7c00, 0x7c00}},
                 {0x7fc01234, {0x7e00, 0x7e00, 0x7e00, 0x7e00}}};
    for (unsigned n = 0; n < sizeof known / sizeof *known; n++) {
        struct ymm x = {{known[n].from, 0, 0, 0}}, got;
        TWO(got, x, x, "vcvtps2ph $0, %%xmm1, %%xmm3");
        equal(got.q[0], known[n].to[0]);
        TWO(got, x, x, "vcvtps2ph $1, %%xmm1, %%xmm3");
        equal(got.q[0], known[n].to[1]);
        TWO(got, x, x, "vcvtps2ph $2, %%xmm1, %%xmm3");
        equal(got.q[0], known[n].to[2]);
        TWO(got, x, x, "vcvtps2ph $3, %%xmm1, %%xmm3");
        equal(got.q[0], known[n].to[3]);
        set_mxcsr(0x1f80 | 2 << 13);
        TWO(got, x, x, "vcvtps2ph $4, %%xmm1, %%xmm3"); /* as MXCSR says */
        set_mxcsr(0x1f80);
        equal(got.q[0], known[n].to[2]);
    }
    uint64_t memory = ~0ull;
    __asm__ volatile("vpxor %%xmm1, %%xmm1, %%xmm1; vcvtps2ph $0, %%xmm1, %0" : "=m"(memory));
    equal(memory, 0);
}

/* ---- upper halves ---- */

#define UPPER(text, a, b, ...)                                                                     \
    do {                                                                                           \
        struct ymm got_;                                                                           \
        __asm__ volatile("vmovdqu %1, %%ymm3; vmovdqu %2, %%ymm1; " text "; vmovdqu %%ymm3, %0"    \
                         : "=m"(got_)                                                              \
                         : "m"(a), "m"(b)                                                          \
                         : "rax");                                                                 \
        SAME(text, got_, ((struct ymm){{__VA_ARGS__}}));                                           \
    } while (0)

static void uppers(void) {
    part("upper halves");
    static uint8_t fx[512] __attribute__((aligned(16)));
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct ymm a = any_ymm(), b = any_ymm();
        UPPER("vmovaps %%xmm1, %%xmm3", a, b, b.q[0], b.q[1], 0, 0);
        UPPER("movaps %%xmm1, %%xmm3", a, b, b.q[0], b.q[1], a.q[2], a.q[3]);
        UPPER("vpaddq %%xmm1, %%xmm3, %%xmm3", a, b, a.q[0] + b.q[0], a.q[1] + b.q[1], 0, 0);
        UPPER("paddq %%xmm1, %%xmm3", a, b, a.q[0] + b.q[0], a.q[1] + b.q[1], a.q[2], a.q[3]);
        UPPER("vmovq %%xmm1, %%xmm3", a, b, b.q[0], 0, 0, 0);
        UPPER("movq %%xmm1, %%xmm3", a, b, b.q[0], 0, a.q[2], a.q[3]);
        UPPER("vmovsd %2, %%xmm3", a, b, b.q[0], 0, 0, 0);
        UPPER("movsd %2, %%xmm3", a, b, b.q[0], 0, a.q[2], a.q[3]);
        UPPER("vmovhps %2, %%xmm3, %%xmm3", a, b, a.q[0], b.q[0], 0, 0);
        UPPER("movhps %2, %%xmm3", a, b, a.q[0], b.q[0], a.q[2], a.q[3]);
        UPPER("vpinsrq $1, %2, %%xmm3, %%xmm3", a, b, a.q[0], b.q[0], 0, 0);
        UPPER("pinsrq $1, %2, %%xmm3", a, b, a.q[0], b.q[0], a.q[2], a.q[3]);
        UPPER("vxorps %%xmm3, %%xmm3, %%xmm3", a, b, 0, 0, 0, 0);
        UPPER("xorps %%xmm3, %%xmm3", a, b, 0, 0, a.q[2], a.q[3]);
        UPPER("mov $7, %%eax; cvtsi2sd %%eax, %%xmm3", a, b, dbl(7), a.q[1], a.q[2], a.q[3]);
        UPPER("mov $7, %%eax; vcvtsi2sd %%eax, %%xmm1, %%xmm3", a, b, dbl(7), b.q[1], 0, 0);
        UPPER("vinserti128 $1, %2, %%ymm3, %%ymm3", a, b, a.q[0], a.q[1], b.q[0], b.q[1]);
        UPPER("vinserti128 $0, %%xmm1, %%ymm3, %%ymm3", a, b, b.q[0], b.q[1], a.q[2], a.q[3]);
        UPPER("vextracti128 $1, %%ymm1, %%xmm3", a, b, b.q[2], b.q[3], 0, 0);
        UPPER("vbroadcasti128 %2, %%ymm3", a, b, b.q[0], b.q[1], b.q[0], b.q[1]);
        UPPER("vzeroupper", a, b, a.q[0], a.q[1], 0, 0);
        UPPER("vzeroall", a, b, 0, 0, 0, 0);
        struct ymm got;
        __asm__ volatile("vmovdqu %2, %%ymm3; fxsave64 %1; pxor %%xmm3, %%xmm3; fxrstor64 %1; "
                         "vmovdqu %%ymm3, %0"
                         : "=m"(got), "=m"(fx)
                         : "m"(a));
        SAME("fxsave, fxrstor", got, a);
    }
    /* All sixteen of them. */
    struct ymm a = any_ymm(), low, high;
    __asm__ volatile("vmovdqu %2, %%ymm0; vmovdqa %%ymm0, %%ymm7; vmovdqa %%ymm0, %%ymm8; "
                     "vmovdqa %%ymm0, %%ymm15; vzeroupper; vpor %%ymm0, %%ymm7, %%ymm7; "
                     "vpor %%ymm8, %%ymm15, %%ymm15; vmovdqu %%ymm7, %0; vmovdqu %%ymm15, %1"
                     : "=m"(low), "=m"(high)
                     : "m"(a));
    SAME("ymm0, ymm7 after vzeroupper", low, ((struct ymm){{a.q[0], a.q[1], 0, 0}}));
    SAME("ymm8, ymm15 after vzeroupper", high, ((struct ymm){{a.q[0], a.q[1], 0, 0}}));
    __asm__ volatile("vmovdqu %1, %%ymm15; vmovdqu %1, %%ymm0; vzeroall; "
                     "vpor %%ymm0, %%ymm15, %%ymm3; vmovdqu %%ymm3, %0"
                     : "=m"(high)
                     : "m"(a));
    SAME("ymm15 after vzeroall", high, ((struct ymm){{0}}));
}

int main(void) {
    sse_on();
    if (!has_avx()) {
        part("AVX is not offered");
        return 0;
    }
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSXSAVE);
    set_xcr0(7);
    integers();
    floats();
    halves_of_floats();
    uppers();
    show("state", state);
    return 0;
}
