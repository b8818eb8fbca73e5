/* What the guests for AVX share: numbers, instructions on registers of 256 bits, turning it on. */
#ifndef VECTORS_H
#define VECTORS_H

#include "rt/guest.h"

#define CR4_OSFXSR     (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_OSXSAVE    (1u << 18)
#define ROUNDS         400

struct ymm {
    uint64_t q[4];
};
#define D(v, n)  (((uint32_t *)(v).q)[n])
#define B(v, n)  (((uint8_t *)(v).q)[n])
#define W_(v, n) (((uint16_t *)(v).q)[n])

static uint64_t state = 0x9e3779b97f4a7c15;
static bool ours; /* not some other emulator: what the manual leaves open is known */

static inline uint64_t any(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static inline struct ymm any_ymm(void) { return (struct ymm){{any(), any(), any(), any()}}; }

static inline void same(unsigned line, const char *what, struct ymm got, struct ymm want) {
    for (unsigned n = 0; n < 4; n++)
        if (got.q[n] != want.q[n]) failed(__FILE_NAME__, line, what, got.q[n], want.q[n]);
}
#define SAME(what, got, want) same(__LINE__, what, got, want)

/* text works on ymm1 (a) and ymm2 (b), and leaves its result in ymm3. */
#define TWO(d, a, b, text)                                                                         \
    __asm__ volatile("vmovdqu %1, %%ymm1; vmovdqu %2, %%ymm2; " text "; vmovdqu %%ymm3, %0"        \
                     : "=m"(d)                                                                     \
                     : "m"(a), "m"(b))
/* The same with ymm3 as a third operand. */
#define THREE(d, a, b, text)                                                                       \
    __asm__ volatile("vmovdqu %1, %%ymm1; vmovdqu %2, %%ymm2; vmovdqu %0, %%ymm3; " text           \
                     "; vmovdqu %%ymm3, %0"                                                        \
                     : "+m"(d)                                                                     \
                     : "m"(a), "m"(b))

static inline void set_xcr0(uint32_t v) { __asm__ volatile("xsetbv" ::"a"(v), "d"(0), "c"(0)); }
static inline void set_mxcsr(uint32_t v) { __asm__ volatile("ldmxcsr %0" ::"m"(v)); }

/* An integer as a number of so many bits of mantissa. */
static inline uint64_t as_float(int64_t v, unsigned mantissa, unsigned bias) {
    if (!v) return 0;
    uint64_t m = (uint64_t)(v < 0 ? -v : v), sign = v < 0;
    unsigned exponent = bias + mantissa;
    for (; m >> (mantissa + 1); m >>= 1) exponent++;
    for (; !(m >> mantissa); m <<= 1) exponent--;
    return sign << (bias == 1023 ? 63 : 31) | (uint64_t)exponent << mantissa |
           (m & ((1ull << mantissa) - 1));
}
static inline uint64_t dbl(int64_t v) { return as_float(v, 52, 1023); }
static inline uint32_t flt(int64_t v) { return (uint32_t)as_float(v, 23, 127); }

/* Everything as an operating system has it, but for OSXSAVE and XCR0. */
static inline void sse_on(void) {
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSFXSR | CR4_OSXMMEXCPT);
    WRITE_REG(cr0, (READ_REG(cr0) | 2) & ~0xcull);
    ours = cpuid(0x40000000, 0).b == 0x72746552; /* "Retr" */
}

#endif
