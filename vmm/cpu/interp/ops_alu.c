/* Arithmetic and logic with the host's own instructions, so that results and all six flags are the
 * hardware's, the undefined ones included. Each form and size is a function of its own: choosing at
 * decode time is what makes the interpreter fast. LAHF and SETO pick up the flags in AX. */
#include "vmm/cpu/interp/ops.h"

/* The host instruction on d and s, flags to fl. The carry comes in through bit 8 of fl. */
#define ALU_PLAIN(insn, suf, mod, d, s, fl)                                                        \
    __asm__(insn suf " %" mod "2, %" mod "0\n\tlahf\n\tseto %%al"                                  \
            : "+r"(d), "=&a"(fl)                                                                   \
            : "r"(s)                                                                               \
            : "cc")
#define ALU_CARRY(insn, suf, mod, d, s, fl)                                                        \
    do {                                                                                           \
        uint32_t carry_in = (fl);                                                                  \
        __asm__("btl $8, %k3\n\t" insn suf " %" mod "2, %" mod "0\n\tlahf\n\tseto %%al"            \
                : "+r"(d), "=&a"(fl)                                                               \
                : "r"(s), "r"(carry_in)                                                            \
                : "cc");                                                                           \
    } while (0)

#define GET8(r)     (*rv_reg8(c, r))
#define GET16(r)    (*rv_reg16(c, r))
#define GET32(r)    (*rv_reg32(c, r))
#define GET64(r)    (*rv_reg64(c, r))
#define PUT8(r, v)  (*rv_reg8(c, r) = (v))
#define PUT16(r, v) (*rv_reg16(c, r) = (v))
#define PUT32(r, v) (*rv_reg64(c, r) = (uint32_t)(v))
#define PUT64(r, v) (*rv_reg64(c, r) = (v))

/* Read-modify-write: in place when the page is plain memory, else load, compute, store; flags
 * change only when the store went through. */
#define RMW(bits, compute)                                                                         \
    uint64_t va = rv_ea(c, i, (bits) / 8, true);                                                   \
    uint##bits##_t *p = rv_fast_w(c, va, (bits) / 8);                                              \
    uint##bits##_t d;                                                                              \
    uint16_t fl = c->fl;                                                                           \
    if (rv_likely(p != NULL)) {                                                                    \
        memcpy(&d, p, sizeof d);                                                                   \
        compute;                                                                                   \
        memcpy(p, &d, sizeof d);                                                                   \
    } else {                                                                                       \
        rv_probe_modify(c, i, va, (bits) / 8);                                                     \
        d = (uint##bits##_t)rv_load_slow(c, i, va, (bits) / 8);                                    \
        compute;                                                                                   \
        rv_store_slow(c, i, va, (bits) / 8, d);                                                    \
    }                                                                                              \
    c->fl = fl;                                                                                    \
    rv_next(c, i)

#define OP   static void
#define ARGS (struct rv_interp * c, const struct rv_insn *i)

#define DEFINE_ALU(name, insn, HOW, bits, suf, mod, writes)                                        \
    OP name##bits##_rr ARGS {                                                                      \
        uint##bits##_t d = GET##bits(i->r1), s = GET##bits(i->r2);                                 \
        uint16_t fl = c->fl;                                                                       \
        HOW(insn, suf, mod, d, s, fl);                                                             \
        c->fl = fl;                                                                                \
        if (writes) PUT##bits(i->r1, d);                                                           \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP name##bits##_ri ARGS {                                                                      \
        uint##bits##_t d = GET##bits(i->r1), s = (uint##bits##_t)i->imm;                           \
        uint16_t fl = c->fl;                                                                       \
        HOW(insn, suf, mod, d, s, fl);                                                             \
        c->fl = fl;                                                                                \
        if (writes) PUT##bits(i->r1, d);                                                           \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP name##bits##_rm ARGS {                                                                      \
        uint##bits##_t s = rv_load##bits(c, i, rv_ea(c, i, (bits) / 8, false));                    \
        uint##bits##_t d = GET##bits(i->r1);                                                       \
        uint16_t fl = c->fl;                                                                       \
        HOW(insn, suf, mod, d, s, fl);                                                             \
        c->fl = fl;                                                                                \
        if (writes) PUT##bits(i->r1, d);                                                           \
        rv_next(c, i);                                                                             \
    }

#define DEFINE_ALU_MEM(name, insn, HOW, bits, suf, mod)                                            \
    OP name##bits##_mr ARGS {                                                                      \
        uint##bits##_t s = GET##bits(i->r2);                                                       \
        RMW(bits, HOW(insn, suf, mod, d, s, fl));                                                  \
    }                                                                                              \
    OP name##bits##_mi ARGS {                                                                      \
        uint##bits##_t s = (uint##bits##_t)i->imm;                                                 \
        RMW(bits, HOW(insn, suf, mod, d, s, fl));                                                  \
    }

/* CMP and TEST only read memory. */
#define DEFINE_ALU_MEM_READ(name, insn, HOW, bits, suf, mod)                                       \
    OP name##bits##_mr ARGS {                                                                      \
        uint##bits##_t d = rv_load##bits(c, i, rv_ea(c, i, (bits) / 8, false));                    \
        uint##bits##_t s = GET##bits(i->r2);                                                       \
        uint16_t fl = c->fl;                                                                       \
        HOW(insn, suf, mod, d, s, fl);                                                             \
        c->fl = fl;                                                                                \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP name##bits##_mi ARGS {                                                                      \
        uint##bits##_t d = rv_load##bits(c, i, rv_ea(c, i, (bits) / 8, false));                    \
        uint##bits##_t s = (uint##bits##_t)i->imm;                                                 \
        uint16_t fl = c->fl;                                                                       \
        HOW(insn, suf, mod, d, s, fl);                                                             \
        c->fl = fl;                                                                                \
        rv_next(c, i);                                                                             \
    }

#define DEFINE_SIZES(name, insn, HOW)                                                              \
    DEFINE_ALU(name, insn, HOW, 8, "b", "b", 1)                                                    \
    DEFINE_ALU_MEM(name, insn, HOW, 8, "b", "b")                                                   \
    DEFINE_ALU(name, insn, HOW, 16, "w", "w", 1)                                                   \
    DEFINE_ALU_MEM(name, insn, HOW, 16, "w", "w")                                                  \
    DEFINE_ALU(name, insn, HOW, 32, "l", "k", 1)                                                   \
    DEFINE_ALU_MEM(name, insn, HOW, 32, "l", "k")                                                  \
    DEFINE_ALU(name, insn, HOW, 64, "q", "q", 1) DEFINE_ALU_MEM(name, insn, HOW, 64, "q", "q")
#define DEFINE_SIZES_READ(name, insn, HOW)                                                         \
    DEFINE_ALU(name, insn, HOW, 8, "b", "b", 0)                                                    \
    DEFINE_ALU_MEM_READ(name, insn, HOW, 8, "b", "b")                                              \
    DEFINE_ALU(name, insn, HOW, 16, "w", "w", 0)                                                   \
    DEFINE_ALU_MEM_READ(name, insn, HOW, 16, "w", "w")                                             \
    DEFINE_ALU(name, insn, HOW, 32, "l", "k", 0)                                                   \
    DEFINE_ALU_MEM_READ(name, insn, HOW, 32, "l", "k")                                             \
    DEFINE_ALU(name, insn, HOW, 64, "q", "q", 0)                                                   \
    DEFINE_ALU_MEM_READ(name, insn, HOW, 64, "q", "q")

DEFINE_SIZES(add, "add", ALU_PLAIN)
DEFINE_SIZES(or, "or", ALU_PLAIN)
DEFINE_SIZES(adc, "adc", ALU_CARRY)
DEFINE_SIZES(sbb, "sbb", ALU_CARRY)
DEFINE_SIZES(and, "and", ALU_PLAIN)
DEFINE_SIZES(sub, "sub", ALU_PLAIN)
DEFINE_SIZES(xor, "xor", ALU_PLAIN)
DEFINE_SIZES_READ(cmp, "cmp", ALU_PLAIN)
DEFINE_SIZES_READ(test, "test", ALU_PLAIN)

#define FORM(name, form)                                                                           \
    { name##8_##form, name##16_##form, name##32_##form, name##64_##form }
#define FORMS(name)                                                                                \
    { FORM(name, rr), FORM(name, ri), FORM(name, rm), FORM(name, mr), FORM(name, mi) }
const rv_op rv_alu_ops[RV_ALUS][RV_FORMS][4] = {
    [RV_ADD] = FORMS(add), [RV_OR] = FORMS(or),   [RV_ADC] = FORMS(adc),
    [RV_SBB] = FORMS(sbb), [RV_AND] = FORMS(and), [RV_SUB] = FORMS(sub),
    [RV_XOR] = FORMS(xor), [RV_CMP] = FORMS(cmp), [RV_TEST] = FORMS(test),
};

/* ---- INC, DEC keep CF; NEG sets it; NOT touches nothing ---- */

#define KEEP_CF(insn, suf, mod, d, fl)                                                             \
    do {                                                                                           \
        uint16_t cf = (fl)&0x100, out;                                                             \
        __asm__(insn suf " %" mod "0\n\tlahf\n\tseto %%al" : "+r"(d), "=&a"(out) : : "cc");        \
        (fl) = (uint16_t)((out & ~0x100u) | cf);                                                   \
    } while (0)
#define SET_ALL(insn, suf, mod, d, fl)                                                             \
    __asm__(insn suf " %" mod "0\n\tlahf\n\tseto %%al" : "+r"(d), "=&a"(fl) : : "cc")
#define SET_NONE(insn, suf, mod, d, fl) __asm__(insn suf " %" mod "0" : "+r"(d))

#define DEFINE_UNARY(name, insn, HOW, bits, suf, mod)                                              \
    OP name##bits##_r ARGS {                                                                       \
        uint##bits##_t d = GET##bits(i->r1);                                                       \
        uint16_t fl = c->fl;                                                                       \
        HOW(insn, suf, mod, d, fl);                                                                \
        c->fl = fl;                                                                                \
        PUT##bits(i->r1, d);                                                                       \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP name##bits##_m ARGS { RMW(bits, HOW(insn, suf, mod, d, fl)); }
#define DEFINE_UNARIES(name, insn, HOW)                                                            \
    DEFINE_UNARY(name, insn, HOW, 8, "b", "b")                                                     \
    DEFINE_UNARY(name, insn, HOW, 16, "w", "w")                                                    \
    DEFINE_UNARY(name, insn, HOW, 32, "l", "k")                                                    \
    DEFINE_UNARY(name, insn, HOW, 64, "q", "q")
DEFINE_UNARIES(inc, "inc", KEEP_CF)
DEFINE_UNARIES(dec, "dec", KEEP_CF)
DEFINE_UNARIES(neg, "neg", SET_ALL)
DEFINE_UNARIES(not, "not", SET_NONE)

const rv_op rv_unary_ops[RV_UNARIES][2][4] = {
    [RV_INC] = {FORM(inc, r), FORM(inc, m)},
    [RV_DEC] = {FORM(dec, r), FORM(dec, m)},
    [RV_NEG] = {FORM(neg, r), FORM(neg, m)},
    [RV_NOT] = {FORM(not, r), FORM(not, m)},
};

/* ---- shifts and rotates ---- */

/* The flags after a shift or rotation of `width` bits by n, not 0, without those left open. What is
 * open by CL (rv_flag_use) was told for the highest count. */
static inline uint16_t closed(unsigned open, uint16_t fl, unsigned n, size_t width) {
    if (n == 1) open &= ~RV_FL_AX_OF;
    if (n < width) open &= ~RV_FL_AX_CF;
    return (uint16_t)(fl & ~open);
}

/* A masked count of zero changes no flag (SDM vol. 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR). Shifts
 * leave AF undefined; rotates change only CF and OF, and OF not if the count is a multiple of the
 * width. */
#define SHIFT(insn, suf, mod, d, n, fl)                                                            \
    do {                                                                                           \
        if (n) {                                                                                   \
            __asm__(RV_FLAGS_IN insn suf " %%cl, %" mod "0\n\tlahf\n\tseto %%al"                   \
                    : "+r"(d), "+a"(fl)                                                            \
                    : "c"(n)                                                                       \
                    : "cc");                                                                       \
            (fl) = closed(i->open, fl, n, 8 * sizeof(d));                                          \
        }                                                                                          \
    } while (0)

#define DEFINE_SHIFT(name, insn, bits, suf, mod)                                                   \
    OP name##bits##_r_i ARGS {                                                                     \
        uint##bits##_t d = GET##bits(i->r1);                                                       \
        uint8_t n = (uint8_t)i->imm;                                                               \
        uint16_t fl = c->fl;                                                                       \
        SHIFT(insn, suf, mod, d, n, fl);                                                           \
        c->fl = fl;                                                                                \
        PUT##bits(i->r1, d);                                                                       \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP name##bits##_r_c ARGS {                                                                     \
        uint##bits##_t d = GET##bits(i->r1);                                                       \
        uint8_t n = (uint8_t)(c->x.gpr[RV_RCX] & ((bits) == 64 ? 63 : 31));                        \
        uint16_t fl = c->fl;                                                                       \
        SHIFT(insn, suf, mod, d, n, fl);                                                           \
        c->fl = fl;                                                                                \
        PUT##bits(i->r1, d);                                                                       \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP name##bits##_m_i ARGS {                                                                     \
        uint8_t n = (uint8_t)i->imm;                                                               \
        RMW(bits, SHIFT(insn, suf, mod, d, n, fl));                                                \
    }                                                                                              \
    OP name##bits##_m_c ARGS {                                                                     \
        uint8_t n = (uint8_t)(c->x.gpr[RV_RCX] & ((bits) == 64 ? 63 : 31));                        \
        RMW(bits, SHIFT(insn, suf, mod, d, n, fl));                                                \
    }
#define DEFINE_SHIFTS(name, insn)                                                                  \
    DEFINE_SHIFT(name, insn, 8, "b", "b")                                                          \
    DEFINE_SHIFT(name, insn, 16, "w", "w")                                                         \
    DEFINE_SHIFT(name, insn, 32, "l", "k")                                                         \
    DEFINE_SHIFT(name, insn, 64, "q", "q")
DEFINE_SHIFTS(rol, "rol")
DEFINE_SHIFTS(ror, "ror")
DEFINE_SHIFTS(rcl, "rcl")
DEFINE_SHIFTS(rcr, "rcr")
DEFINE_SHIFTS(shl, "shl")
DEFINE_SHIFTS(shr, "shr")
DEFINE_SHIFTS(sar, "sar")

#define SHIFT_FORMS(name)                                                                          \
    {                                                                                              \
        {FORM(name, r_i), FORM(name, r_c)}, { FORM(name, m_i), FORM(name, m_c) }                   \
    }
const rv_op rv_shift_ops[RV_SHIFTS][2][2][4] = {
    [RV_ROL] = SHIFT_FORMS(rol), [RV_ROR] = SHIFT_FORMS(ror), [RV_RCL] = SHIFT_FORMS(rcl),
    [RV_RCR] = SHIFT_FORMS(rcr), [RV_SHL] = SHIFT_FORMS(shl), [RV_SHR] = SHIFT_FORMS(shr),
    [RV_SAR] = SHIFT_FORMS(sar),
};

/* AF and OF; beyond the width, all are. */
#define DOUBLE_OPEN (0x1000u | RV_FL_AX_OF)

/* The result of shifting 16 bits by more than these is undefined too: that of going on with the
 * first operand behind the second, by `more` bits. */
static uint16_t shld_beyond(uint16_t d, uint16_t s, unsigned more) {
    return (uint16_t)(s << more | d >> (16 - more));
}
static uint16_t shrd_beyond(uint16_t d, uint16_t s, unsigned more) {
    return (uint16_t)(s >> more | d << (16 - more));
}

#define DEFINE_SHXD(name, insn, beyond)                                                            \
    RV_OP(name) {                                                                                  \
        unsigned size = i->size;                                                                   \
        uint8_t n =                                                                                \
            (i->ext ? (uint8_t)c->x.gpr[RV_RCX] : (uint8_t)i->imm) & (size == 8 ? 63 : 31);        \
        bool mem = !i->r1;                                                                         \
        uint64_t va = 0, d, s = rv_reg_get(c, i->r2, size);                                        \
        if (mem) {                                                                                 \
            va = rv_ea(c, i, size, true);                                                          \
            rv_probe_modify(c, i, va, size);                                                       \
            d = rv_load(c, i, va, size);                                                           \
        } else {                                                                                   \
            d = rv_reg_get(c, i->r1, size);                                                        \
        }                                                                                          \
        uint64_t before = d;                                                                       \
        uint16_t fl = c->fl;                                                                       \
        if (n) {                                                                                   \
            if (size == 2)                                                                         \
                __asm__(RV_FLAGS_IN insn "w %%cl, %w3, %w0\n\tlahf\n\tseto %%al"                   \
                        : "+r"(d), "+&a"(fl)                                                       \
                        : "c"(n), "r"(s)                                                           \
                        : "cc");                                                                   \
            else if (size == 4)                                                                    \
                __asm__(RV_FLAGS_IN insn "l %%cl, %k3, %k0\n\tlahf\n\tseto %%al"                   \
                        : "+r"(d), "+&a"(fl)                                                       \
                        : "c"(n), "r"(s)                                                           \
                        : "cc");                                                                   \
            else                                                                                   \
                __asm__(RV_FLAGS_IN insn "q %%cl, %q3, %q0\n\tlahf\n\tseto %%al"                   \
                        : "+r"(d), "+&a"(fl)                                                       \
                        : "c"(n), "r"(s)                                                           \
                        : "cc");                                                                   \
            if (i->open && n > 8 * size) {                                                         \
                d = beyond((uint16_t)before, (uint16_t)s, n - 16u);                                \
                fl = 0;                                                                            \
            }                                                                                      \
            fl = closed(i->open & DOUBLE_OPEN, fl, n, 64);                                         \
        }                                                                                          \
        if (mem)                                                                                   \
            rv_store(c, i, va, size, d);                                                           \
        else                                                                                       \
            rv_reg_set(c, i->r1, size, d);                                                         \
        c->fl = fl;                                                                                \
        rv_next(c, i);                                                                             \
    }
DEFINE_SHXD(shld, "shld", shld_beyond)
DEFINE_SHXD(shrd, "shrd", shrd_beyond)

/* ---- multiplication: the undefined flags are what the host makes of the guest's ---- */

#define IMUL(suf, mod, d, s, fl)                                                                   \
    __asm__(RV_FLAGS_IN "imul" suf " %" mod "2, %" mod "0\n\tlahf\n\tseto %%al"                    \
            : "+r"(d), "+&a"(fl)                                                                   \
            : "r"(s)                                                                               \
            : "cc")
#define DEFINE_IMUL(bits, suf, mod)                                                                \
    OP imul2_##bits##_r ARGS {                                                                     \
        uint##bits##_t d = GET##bits(i->r1), s = GET##bits(i->r2);                                 \
        uint16_t fl = c->fl;                                                                       \
        IMUL(suf, mod, d, s, fl);                                                                  \
        c->fl = fl & (uint16_t)~i->open;                                                           \
        PUT##bits(i->r1, d);                                                                       \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP imul2_##bits##_m ARGS {                                                                     \
        uint##bits##_t s = rv_load##bits(c, i, rv_ea(c, i, (bits) / 8, false));                    \
        uint##bits##_t d = GET##bits(i->r1);                                                       \
        uint16_t fl = c->fl;                                                                       \
        IMUL(suf, mod, d, s, fl);                                                                  \
        c->fl = fl & (uint16_t)~i->open;                                                           \
        PUT##bits(i->r1, d);                                                                       \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP imul3_##bits##_r ARGS {                                                                     \
        uint##bits##_t d = (uint##bits##_t)i->imm, s = GET##bits(i->r2);                           \
        uint16_t fl = c->fl;                                                                       \
        IMUL(suf, mod, d, s, fl);                                                                  \
        c->fl = fl & (uint16_t)~i->open;                                                           \
        PUT##bits(i->r1, d);                                                                       \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP imul3_##bits##_m ARGS {                                                                     \
        uint##bits##_t s = rv_load##bits(c, i, rv_ea(c, i, (bits) / 8, false));                    \
        uint##bits##_t d = (uint##bits##_t)i->imm;                                                 \
        uint16_t fl = c->fl;                                                                       \
        IMUL(suf, mod, d, s, fl);                                                                  \
        c->fl = fl & (uint16_t)~i->open;                                                           \
        PUT##bits(i->r1, d);                                                                       \
        rv_next(c, i);                                                                             \
    }
DEFINE_IMUL(16, "w", "w")
DEFINE_IMUL(32, "l", "k")
DEFINE_IMUL(64, "q", "q")
const rv_op rv_imul2_ops[2][4] = {{NULL, imul2_16_r, imul2_32_r, imul2_64_r},
                                  {NULL, imul2_16_m, imul2_32_m, imul2_64_m}};
const rv_op rv_imul3_ops[2][4] = {{NULL, imul3_16_r, imul3_32_r, imul3_64_r},
                                  {NULL, imul3_16_m, imul3_32_m, imul3_64_m}};

/* The one operand of MUL, IMUL, DIV and IDIV. */
static uint64_t operand(struct rv_interp *c, const struct rv_insn *i) {
    return i->r1 ? rv_reg_get(c, i->r1, i->size)
                 : rv_load(c, i, rv_ea(c, i, i->size, false), i->size);
}

#define WIDE(insn, suf, mod)                                                                       \
    __asm__(RV_FLAGS_IN "movq %3, %%rax\n\t" insn suf " %" mod "4\n\tmovq %%rax, %1\n\t"           \
                        "lahf\n\tseto %%al"                                                        \
            : "+&a"(fl), "=&r"(lo), "+&d"(hi)                                                      \
            : "r"(*rax), "r"(s)                                                                    \
            : "cc")
#define WIDE_MUL(insn)                                                                             \
    uint64_t s = operand(c, i), *rax = &c->x.gpr[RV_RAX], *rdx = &c->x.gpr[RV_RDX];                \
    uint64_t fl = c->fl, lo, hi = *rdx;                                                            \
    switch (i->size) {                                                                             \
    case 1: WIDE(insn, "b", "b"); break;                                                           \
    case 2: WIDE(insn, "w", "w"); break;                                                           \
    case 4: WIDE(insn, "l", "k"); break;                                                           \
    default: WIDE(insn, "q", "q");                                                                 \
    }                                                                                              \
    c->fl = (uint16_t)(fl & ~(unsigned)i->open);                                                   \
    *rax = lo; /* as the host writes them: all, or the lower 16 bits */                            \
    *rdx = hi;                                                                                     \
    rv_next(c, i)

RV_OP(mul) { WIDE_MUL("mul"); }
RV_OP(imul1) { WIDE_MUL("imul"); }

/* ---- division: in C, because the host's would trap; flags are undefined and left alone ---- */

RV_OP(div) {
    uint64_t s = operand(c, i), *rax = &c->x.gpr[RV_RAX], *rdx = &c->x.gpr[RV_RDX];
    if (s == 0) rv_raise(c, i, RV_VEC_DE);
    switch (i->size) {
    case 1: {
        uint16_t d = (uint16_t)*rax;
        if (d / s > 0xff) rv_raise(c, i, RV_VEC_DE);
        *(uint16_t *)rax = (uint16_t)(d / s | (d % s) << 8);
        break;
    }
    case 2: {
        uint32_t d = (uint32_t)(uint16_t)*rdx << 16 | (uint16_t)*rax;
        if (d / s > 0xffff) rv_raise(c, i, RV_VEC_DE);
        *(uint16_t *)rax = (uint16_t)(d / s);
        *(uint16_t *)rdx = (uint16_t)(d % s);
        break;
    }
    case 4: {
        uint64_t d = (uint64_t)(uint32_t)*rdx << 32 | (uint32_t)*rax;
        if (d / s > 0xffffffffu) rv_raise(c, i, RV_VEC_DE);
        *rax = d / s;
        *rdx = d % s;
        break;
    }
    default: {
        if (*rdx >= s) rv_raise(c, i, RV_VEC_DE);
        uint64_t q = *rax, r = *rdx;
        __asm__("divq %2" : "+a"(q), "+d"(r) : "r"(s) : "cc");
        *rax = q;
        *rdx = r;
    }
    }
    rv_next(c, i);
}

RV_OP(idiv) {
    uint64_t u = operand(c, i), *rax = &c->x.gpr[RV_RAX], *rdx = &c->x.gpr[RV_RDX];
    if (u == 0) rv_raise(c, i, RV_VEC_DE);
    switch (i->size) {
    case 1: {
        int d = (int16_t)*rax, s = (int)(int8_t)u;
        if (d / s != (int8_t)(d / s)) rv_raise(c, i, RV_VEC_DE);
        *(uint16_t *)rax = (uint16_t)((uint8_t)(d / s) | (uint8_t)(d % s) << 8);
        break;
    }
    case 2: {
        int64_t d = (int32_t)((uint32_t)(uint16_t)*rdx << 16 | (uint16_t)*rax), s = (int16_t)u;
        if (d / s != (int16_t)(d / s)) rv_raise(c, i, RV_VEC_DE);
        *(uint16_t *)rax = (uint16_t)(d / s);
        *(uint16_t *)rdx = (uint16_t)(d % s);
        break;
    }
    case 4: {
        __int128 d = (int64_t)((uint64_t)(uint32_t)*rdx << 32 | (uint32_t)*rax);
        int64_t s = (int32_t)u;
        __int128 q = d / s;
        if (q != (int32_t)q) rv_raise(c, i, RV_VEC_DE);
        *rax = (uint32_t)q;
        *rdx = (uint32_t)(d % s);
        break;
    }
    default: {
        /* Magnitudes first: the quotient must fit before the host may divide. */
        __int128 d = (__int128)((unsigned __int128)*rdx << 64 | *rax);
        int64_t s = (int64_t)u;
        unsigned __int128 ad = d < 0 ? -(unsigned __int128)d : (unsigned __int128)d;
        uint64_t as = s < 0 ? 0 - (uint64_t)s : (uint64_t)s;
        if ((uint64_t)(ad >> 64) >= as) rv_raise(c, i, RV_VEC_DE);
        uint64_t q = (uint64_t)ad, r = (uint64_t)(ad >> 64);
        __asm__("divq %2" : "+a"(q), "+d"(r) : "r"(as) : "cc");
        bool neg = (d < 0) != (s < 0);
        if (q > (uint64_t)INT64_MAX + neg) rv_raise(c, i, RV_VEC_DE);
        *rax = neg ? 0 - q : q;
        *rdx = d < 0 ? 0 - r : r;
    }
    }
    rv_next(c, i);
}

/* ---- decimal adjustments, 16- and 32-bit modes only (SDM vol. 2, AAA ... DAS) ---- */

enum { BCD_AAA, BCD_AAS, BCD_DAA, BCD_DAS, BCD_AAM, BCD_AAD };

RV_OP(bcd) {
    uint16_t *ax = (uint16_t *)&c->x.gpr[RV_RAX];
    uint8_t al = (uint8_t)*ax, ah = (uint8_t)(*ax >> 8);
    uint32_t f = (uint32_t)rv_flags_get(c);
    bool af = f & RV_FL_AF, cf = f & RV_FL_CF;
    uint8_t flags_of;
    switch (i->ext) {
    case BCD_AAA:
    case BCD_AAS:
        if ((al & 15) > 9 || af) {
            uint16_t v = i->ext == BCD_AAA ? (uint16_t)(*ax + 0x106) : (uint16_t)(*ax - 0x106);
            *ax = v & 0xff0f;
            af = cf = true;
        } else {
            *ax &= 0xff0f;
            af = cf = false;
        }
        flags_of = (uint8_t)*ax;
        break;
    case BCD_DAA:
    case BCD_DAS: {
        uint8_t old = al;
        bool old_cf = cf;
        int sign = i->ext == BCD_DAA ? 1 : -1;
        cf = false;
        if ((al & 15) > 9 || af) {
            cf = old_cf || (sign > 0 ? al > 0xf9 : al < 6);
            al = (uint8_t)(al + sign * 6);
            af = true;
        } else {
            af = false;
        }
        if (old > 0x99 || old_cf) {
            al = (uint8_t)(al + sign * 0x60);
            cf = true;
        }
        *ax = (uint16_t)(ah << 8 | al);
        flags_of = al;
        break;
    }
    case BCD_AAM:
        if ((uint8_t)i->imm == 0) rv_raise(c, i, RV_VEC_DE);
        *ax = (uint16_t)((al / (uint8_t)i->imm) << 8 | al % (uint8_t)i->imm);
        flags_of = (uint8_t)*ax;
        af = cf = false;
        break;
    default:
        al = (uint8_t)(al + ah * (uint8_t)i->imm);
        *ax = al;
        flags_of = al;
        af = cf = false;
    }
    f &= ~RV_FL_ARITH;
    f |= (cf ? RV_FL_CF : 0) | (af ? RV_FL_AF : 0) | (flags_of == 0 ? RV_FL_ZF : 0) |
         (flags_of & 0x80 ? RV_FL_SF : 0) | (__builtin_parity(flags_of) ? 0 : RV_FL_PF);
    rv_flags_arith(c, f);
    rv_next(c, i);
}
