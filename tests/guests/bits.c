/* BMI1, BMI2, LZCNT and MOVBE, compared with the same in plain C, in loops long enough to be
 * translated. */
#include "rt/guest.h"

#define ROUNDS 400

static uint64_t state = 0x9e3779b97f4a7c15;
static uint64_t any(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t deposit(uint64_t v, uint64_t mask) {
    uint64_t r = 0;
    for (; mask; mask &= mask - 1, v >>= 1)
        if (v & 1) r |= mask & -mask;
    return r;
}
static uint64_t extract(uint64_t v, uint64_t mask) {
    uint64_t r = 0;
    for (uint64_t bit = 1; mask; mask &= mask - 1, bit <<= 1)
        if (v & mask & -mask) r |= bit;
    return r;
}
static unsigned leading(uint64_t v, unsigned bits) {
    unsigned n = 0;
    while (n < bits && !(v >> (bits - 1 - n) & 1)) n++;
    return n;
}
static unsigned trailing(uint64_t v, unsigned bits) {
    unsigned n = 0;
    while (n < bits && !(v >> n & 1)) n++;
    return n;
}
static uint64_t turned(uint64_t v, unsigned bytes) {
    uint64_t r = 0;
    for (unsigned n = 0; n < bytes; n++) r |= (v >> 8 * n & 0xff) << 8 * (bytes - 1 - n);
    return r;
}

#define OP(text, d, a, b) __asm__ volatile(text : "=&r"(d) : "r"(a), "rm"(b) : "cc")
/* With the flags afterwards. */
#define OPF(text, d, f, a, b)                                                                      \
    __asm__ volatile(text "; pushfq; popq %1" : "=&r"(d), "=&r"(f) : "r"(a), "r"(b) : "cc")
enum { CF = 1, ZF = 0x40, SF = 0x80, VF = 0x800 };

static void bits64(uint64_t a, uint64_t b) {
    uint64_t d, f, low, high;
    OP("pdep %2, %1, %0", d, a, b);
    equal(d, deposit(a, b));
    OP("pext %2, %1, %0", d, a, b);
    equal(d, extract(a, b));
    OPF("andn %3, %2, %0", d, f, a, b);
    equal(d, ~a & b);
    equal(f & (CF | ZF | SF | VF), (d ? 0 : ZF) | (d >> 63 ? SF : 0));
    OP("shlx %1, %2, %0", d, a, b);
    equal(d, b << (a & 63));
    OP("shrx %1, %2, %0", d, a, b);
    equal(d, b >> (a & 63));
    OP("sarx %1, %2, %0", d, a, b);
    equal(d, (uint64_t)((int64_t)b >> (a & 63)));
    OP("rorx $13, %2, %0", d, a, b);
    equal(d, b >> 13 | b << 51);
    __asm__ volatile("mulx %3, %0, %1" : "=r"(low), "=r"(high) : "d"(a), "r"(b));
    unsigned __int128 product = (unsigned __int128)a * b;
    equal(low, (uint64_t)product);
    equal(high, (uint64_t)(product >> 64));
    unsigned n = a & 0xff;
    OPF("bzhi %2, %3, %0", d, f, a, b);
    equal(d, n < 64 ? b & ((1ull << n) - 1) : b);
    equal(f & (CF | ZF), (n > 63 ? CF : 0) | (d ? 0 : ZF));
    OPF("bextr %2, %3, %0", d, f, a & 0x3f3f, b);
    n = a >> 8 & 63;
    equal(d, (b >> (a & 63)) & ((1ull << n) - 1));
    equal(f & (CF | ZF | VF), d ? 0 : ZF);
    OPF("blsr %3, %0", d, f, a, b);
    equal(d, b & (b - 1));
    equal(f & (CF | ZF), (b ? 0 : CF) | (d ? 0 : ZF));
    OPF("blsi %3, %0", d, f, a, b);
    equal(d, b & -b);
    equal(f & (CF | ZF), (b ? CF : 0) | (d ? 0 : ZF));
    OPF("blsmsk %3, %0", d, f, a, b);
    equal(d, b ^ (b - 1));
    equal(f & (CF | ZF), b ? 0 : CF);
    OPF("lzcnt %3, %0", d, f, a, b);
    equal(d, leading(b, 64));
    equal(f & (CF | ZF), (b ? 0 : CF) | (d ? 0 : ZF));
    OPF("tzcnt %3, %0", d, f, a, b);
    equal(d, trailing(b, 64));
    equal(f & (CF | ZF), (b ? 0 : CF) | (d ? 0 : ZF));
}

static void bits32(uint32_t a, uint32_t b) {
    uint64_t d, f;
    OP("pdep %k2, %k1, %k0", d, a, b);
    equal(d, deposit(a, b));
    OP("pext %k2, %k1, %k0", d, a, b);
    equal(d, extract(a, b));
    OPF("andn %k3, %k2, %k0", d, f, a, b);
    equal(d, ~a & b);
    OP("shlx %k1, %k2, %k0", d, a, b);
    equal(d, b << (a & 31));
    OP("sarx %k1, %k2, %k0", d, a, b);
    equal(d, (uint32_t)((int32_t)b >> (a & 31)));
    OP("rorx $13, %k2, %k0", d, a, b);
    equal(d, b >> 13 | b << 19);
    OPF("bzhi %k2, %k3, %k0", d, f, a, b);
    equal(d, (a & 0xff) < 32 ? b & ((1u << (a & 0xff)) - 1) : b);
    OPF("lzcnt %k3, %k0", d, f, a, b);
    equal(d, leading(b, 32));
    equal(f & (CF | ZF), (b ? 0 : CF) | (d ? 0 : ZF));
    OPF("tzcnt %k3, %k0", d, f, a, b);
    equal(d, trailing(b, 32));
    d = ~0ull;
    __asm__ volatile("lzcnt %w1, %w0" : "+r"(d) : "r"(b));
    equal(d, ~0xffffull | leading((uint16_t)b, 16));
    __asm__ volatile("tzcnt %w1, %w0" : "+r"(d) : "r"(b));
    equal(d, ~0xffffull | trailing((uint16_t)b, 16));
}

static void moves(uint64_t a) {
    uint64_t memory = a, d = a, whole = ~0ull;
    __asm__ volatile("movbe %1, %0" : "=r"(d) : "m"(memory));
    equal(d, turned(a, 8));
    __asm__ volatile("movbe %1, %k0" : "=r"(d) : "m"(memory));
    equal(d, turned((uint32_t)a, 4));
    __asm__ volatile("movbe %1, %w0" : "+r"(whole) : "m"(memory));
    equal(whole, ~0xffffull | turned((uint16_t)a, 2));
    __asm__ volatile("movbe %1, %0" : "=m"(memory) : "r"(a));
    equal(memory, turned(a, 8));
    memory = 0;
    __asm__ volatile("movbe %k1, %0" : "=m"(*(uint32_t *)&memory) : "r"(a));
    equal(*(volatile uint64_t *)&memory, turned((uint32_t)a, 4));
    memory = 0;
    __asm__ volatile("movbe %w1, %0" : "=m"(*(uint16_t *)&memory) : "r"(a));
    equal(*(volatile uint64_t *)&memory, turned((uint16_t)a, 2));
}

static void known(void) {
    part("edges");
    static const uint64_t edges[] = {0,          1,      ~0ull, 1ull << 63, 0x80000000,
                                     0xffffffff, 0x8000, 64,    32};
    const unsigned n = sizeof edges / sizeof *edges;
    for (unsigned i = 0; i < n * n; i++) {
        bits64(edges[i / n], edges[i % n]);
        bits32((uint32_t)edges[i / n], (uint32_t)edges[i % n]);
        moves(edges[i / n]);
    }
}

static void random(void) {
    part("random numbers");
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t a = any(), b = any() >> (any() & 63);
        bits64(a, b);
        bits32((uint32_t)a, (uint32_t)b);
        moves(a);
    }
    show("state", state);
}

static void others(void) {
    part("flags that stay, encodings that are none");
    uint64_t flags;
    __asm__ volatile("stc; mov $0, %%edx; shlx %%rdx, %%rdx, %%rax; rorx $1, %%rax, %%rax; "
                     "mulx %%rax, %%rax, %%rdx; pdep %%rax, %%rax, %%rax; pushfq; popq %0"
                     : "=r"(flags)::"rax", "rdx", "cc");
    equal(flags & CF, CF);
    equal(TRY(".byte 0xf0, 0xc4, 0xe2, 0x78, 0xf2, 0xc0", ::RESUME : "eax"), UD); /* LOCK ANDN */
    equal(TRY(".byte 0xc4, 0xe2, 0x7c, 0xf2, 0xc0", ::RESUME : "eax"), UD);       /* of 256 bits */
}

int main(void) {
    bool bmi1 = cpuid(7, 0).b >> 3 & 1, bmi2 = cpuid(7, 0).b >> 8 & 1;
    bool lzcnt = cpuid(0x80000001, 0).c >> 5 & 1, movbe = cpuid(1, 0).c >> 22 & 1;
    equal(bmi2, bmi1); /* all or none: they come with a profile */
    equal(lzcnt, bmi1);
    equal(movbe, bmi1);
    if (!bmi1 || failures) {
        part("BMI is not offered");
        return 0;
    }
    known();
    random();
    others();
    return 0;
}
