/* Moves, conversions, bits, exchanges, conditions. */
#include "vmm/cpu/interp/ops.h"

#define OP   static void
#define ARGS (struct rv_interp * c, const struct rv_insn *i)

/* ---- MOV ---- */

#define DEFINE_MOV(bits, wide)                                                                     \
    OP mov##bits##_rr ARGS {                                                                       \
        *rv_reg##wide(c, i->r1) = *rv_reg##bits(c, i->r2);                                         \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP mov##bits##_ri ARGS {                                                                       \
        *rv_reg##wide(c, i->r1) = (uint##bits##_t)i->imm;                                          \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP mov##bits##_rm ARGS {                                                                       \
        *rv_reg##wide(c, i->r1) = rv_load##bits(c, i, rv_ea(c, i, (bits) / 8, false));             \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP mov##bits##_mr ARGS {                                                                       \
        rv_store##bits(c, i, rv_ea(c, i, (bits) / 8, true), *rv_reg##bits(c, i->r2));              \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP mov##bits##_mi ARGS {                                                                       \
        rv_store##bits(c, i, rv_ea(c, i, (bits) / 8, true), (uint##bits##_t)i->imm);               \
        rv_next(c, i);                                                                             \
    }
DEFINE_MOV(8, 8)
DEFINE_MOV(16, 16)
DEFINE_MOV(32, 64)
DEFINE_MOV(64, 64)
#define FORM(name, form)                                                                           \
    { name##8_##form, name##16_##form, name##32_##form, name##64_##form }
const rv_op rv_mov_ops[RV_FORMS][4] = {FORM(mov, rr), FORM(mov, ri), FORM(mov, rm), FORM(mov, mr),
                                       FORM(mov, mi)};

/* ---- MOVZX, MOVSX, MOVSXD ---- */

#define DEFINE_EXTEND(name, cast, from, to, wide, as)                                              \
    OP name##from##_##to##_r ARGS {                                                                \
        *rv_reg##wide(c, i->r1) = (as)(cast)*rv_reg##from(c, i->r2);                               \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP name##from##_##to##_m ARGS {                                                                \
        *rv_reg##wide(c, i->r1) = (as)(cast)rv_load##from(c, i, rv_ea(c, i, (from) / 8, false));   \
        rv_next(c, i);                                                                             \
    }
DEFINE_EXTEND(movzx, uint8_t, 8, 16, 16, uint16_t)
DEFINE_EXTEND(movzx, uint8_t, 8, 32, 64, uint32_t)
DEFINE_EXTEND(movzx, uint16_t, 16, 16, 16, uint16_t)
DEFINE_EXTEND(movzx, uint16_t, 16, 32, 64, uint32_t)
DEFINE_EXTEND(movsx, int8_t, 8, 16, 16, uint16_t)
DEFINE_EXTEND(movsx, int8_t, 8, 32, 64, uint32_t)
DEFINE_EXTEND(movsx, int8_t, 8, 64, 64, uint64_t)
DEFINE_EXTEND(movsx, int16_t, 16, 16, 16, uint16_t)
DEFINE_EXTEND(movsx, int16_t, 16, 32, 64, uint32_t)
DEFINE_EXTEND(movsx, int16_t, 16, 64, 64, uint64_t)
DEFINE_EXTEND(movsx, int32_t, 32, 16, 16, uint16_t)
DEFINE_EXTEND(movsx, int32_t, 32, 32, 64, uint32_t)
DEFINE_EXTEND(movsx, int32_t, 32, 64, 64, uint64_t)
#define ZX(f, m)                                                                                   \
    { NULL, movzx##f##_16_##m, movzx##f##_32_##m, movzx##f##_32_##m }
#define SX(f, m)                                                                                   \
    { NULL, movsx##f##_16_##m, movsx##f##_32_##m, movsx##f##_64_##m }
const rv_op rv_movzx_ops[2][2][4] = {{ZX(8, r), ZX(16, r)}, {ZX(8, m), ZX(16, m)}};
const rv_op rv_movsx_ops[2][3][4] = {{SX(8, r), SX(16, r), SX(32, r)},
                                     {SX(8, m), SX(16, m), SX(32, m)}};

/* ---- CMOVcc, SETcc ---- */

/* A false condition still clears the upper half of a 32-bit destination, and still reads memory. */
#define DEFINE_CMOV(cc, bits, wide)                                                                \
    OP cmov##cc##_##bits##_r ARGS {                                                                \
        uint##bits##_t v =                                                                         \
            rv_cond(c->fl, 0x##cc) ? *rv_reg##bits(c, i->r2) : *rv_reg##bits(c, i->r1);            \
        *rv_reg##wide(c, i->r1) = v;                                                               \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP cmov##cc##_##bits##_m ARGS {                                                                \
        uint##bits##_t m = rv_load##bits(c, i, rv_ea(c, i, (bits) / 8, false));                    \
        *rv_reg##wide(c, i->r1) = rv_cond(c->fl, 0x##cc) ? m : *rv_reg##bits(c, i->r1);            \
        rv_next(c, i);                                                                             \
    }
#define DEFINE_CC(cc)                                                                              \
    DEFINE_CMOV(cc, 16, 16) DEFINE_CMOV(cc, 32, 64) DEFINE_CMOV(cc, 64, 64) OP set##cc##_r ARGS {  \
        *rv_reg8(c, i->r1) = rv_cond(c->fl, 0x##cc);                                               \
        rv_next(c, i);                                                                             \
    }                                                                                              \
    OP set##cc##_m ARGS {                                                                          \
        rv_store8(c, i, rv_ea(c, i, 1, true), rv_cond(c->fl, 0x##cc));                             \
        rv_next(c, i);                                                                             \
    }
RV_ALL_CC(DEFINE_CC)
#define CMOV_ROW(cc)                                                                               \
    {{NULL, cmov##cc##_16_r, cmov##cc##_32_r, cmov##cc##_64_r},                                    \
     {NULL, cmov##cc##_16_m, cmov##cc##_32_m, cmov##cc##_64_m}},
#define SET_ROW(cc) {set##cc##_r, set##cc##_m},
const rv_op rv_cmov_ops[16][2][4] = {RV_ALL_CC(CMOV_ROW)};
const rv_op rv_setcc_ops[16][2] = {RV_ALL_CC(SET_ROW)};

/* ---- LEA ---- */

OP lea16 ARGS {
    *rv_reg16(c, i->r1) = (uint16_t)rv_ea_offset(c, i);
    rv_next(c, i);
}
OP lea32 ARGS {
    *rv_reg64(c, i->r1) = (uint32_t)rv_ea_offset(c, i);
    rv_next(c, i);
}
OP lea64 ARGS {
    *rv_reg64(c, i->r1) = rv_ea_offset(c, i);
    rv_next(c, i);
}
const rv_op rv_lea_ops[4] = {NULL, lea16, lea32, lea64};

RV_OP(lea) {
    rv_reg_set(c, i->r1, i->size, rv_ea_offset(c, i) & rv_mask(i->asize));
    rv_next(c, i);
}

/* ---- no effect ---- */

RV_OP(nop) { rv_next(c, i); }

/* ---- exchanges ---- */

RV_OP(xchg_rr) {
    uint64_t a = rv_reg_get(c, i->r1, i->size), b = rv_reg_get(c, i->r2, i->size);
    rv_reg_set(c, i->r1, i->size, b);
    rv_reg_set(c, i->r2, i->size, a);
    rv_next(c, i);
}

RV_OP(xchg_mr) {
    uint64_t va = rv_ea(c, i, i->size, true);
    rv_probe_modify(c, i, va, i->size);
    uint64_t m = rv_load(c, i, va, i->size);
    rv_store(c, i, va, i->size, rv_reg_get(c, i->r2, i->size));
    rv_reg_set(c, i->r2, i->size, m);
    rv_next(c, i);
}

/* d + s or d - s of a size, with all flags. */
static uint64_t with_flags(struct rv_interp *c, bool subtract, unsigned size, uint64_t d,
                           uint64_t s) {
    uint16_t fl;
#define STEP(insn, suf, mod)                                                                       \
    __asm__(insn suf " %" mod "2, %" mod "0\n\tlahf\n\tseto %%al"                                  \
            : "+r"(d), "=&a"(fl)                                                                   \
            : "r"(s)                                                                               \
            : "cc")
    switch (size) {
    case 1:
        if (subtract)
            STEP("sub", "b", "b");
        else
            STEP("add", "b", "b");
        break;
    case 2:
        if (subtract)
            STEP("sub", "w", "w");
        else
            STEP("add", "w", "w");
        break;
    case 4:
        if (subtract)
            STEP("sub", "l", "k");
        else
            STEP("add", "l", "k");
        break;
    default:
        if (subtract)
            STEP("sub", "q", "q");
        else
            STEP("add", "q", "q");
    }
#undef STEP
    c->fl = fl;
    return d & rv_mask(size);
}

RV_OP(xadd) {
    unsigned size = i->size;
    uint64_t s = rv_reg_get(c, i->r2, size);
    if (i->r1) {
        uint64_t d = rv_reg_get(c, i->r1, size);
        uint64_t sum = with_flags(c, false, size, d, s);
        rv_reg_set(c, i->r2, size, d);
        rv_reg_set(c, i->r1, size, sum);
    } else {
        uint64_t va = rv_ea(c, i, size, true);
        rv_probe_modify(c, i, va, size);
        uint64_t d = rv_load(c, i, va, size);
        uint16_t before = c->fl;
        uint64_t sum = with_flags(c, false, size, d, s);
        uint16_t after = c->fl;
        c->fl = before;
        rv_store(c, i, va, size, sum);
        c->fl = after;
        rv_reg_set(c, i->r2, size, d);
    }
    rv_next(c, i);
}

/* CMPXCHG writes the destination in either case (SDM vol. 2), so a read-only page always faults. */
RV_OP(cmpxchg) {
    unsigned size = i->size;
    uint64_t acc = rv_reg_get(c, RV_GPR_OFFSET(RV_RAX), size), s = rv_reg_get(c, i->r2, size);
    if (i->r1) {
        uint64_t d = rv_reg_get(c, i->r1, size);
        with_flags(c, true, size, acc, d);
        if (acc == d)
            rv_reg_set(c, i->r1, size, s);
        else
            rv_reg_set(c, RV_GPR_OFFSET(RV_RAX), size, d);
    } else {
        uint64_t va = rv_ea(c, i, size, true);
        rv_probe_modify(c, i, va, size);
        uint64_t d = rv_load(c, i, va, size);
        rv_store(c, i, va, size, acc == d ? s : d);
        with_flags(c, true, size, acc, d);
        if (acc != d) rv_reg_set(c, RV_GPR_OFFSET(RV_RAX), size, d);
    }
    rv_next(c, i);
}

/* CMPXCHG8B and, with size 8, CMPXCHG16B. */
RV_OP(cmpxchg8b) {
    unsigned half = i->size;
    uint64_t va = rv_ea(c, i, 2 * half, true);
    if (half == 8 && va & 15) rv_raise_error(c, i, RV_VEC_GP, 0);
    rv_probe_modify(c, i, va, 2 * half);
    uint64_t lo = rv_load(c, i, va, half), hi = rv_load(c, i, va + half, half);
    uint64_t *g = c->x.gpr, mask = rv_mask(half);
    bool equal = lo == (g[RV_RAX] & mask) && hi == (g[RV_RDX] & mask);
    rv_store(c, i, va, half, equal ? g[RV_RBX] : lo);
    rv_store(c, i, va + half, half, equal ? g[RV_RCX] : hi);
    if (equal) {
        c->fl |= 0x4000;
    } else {
        c->fl &= (uint16_t)~0x4000u;
        g[RV_RAX] = lo;
        g[RV_RDX] = hi;
    }
    rv_next(c, i);
}

RV_OP(bswap) {
    if (i->size == 8)
        *rv_reg64(c, i->r1) = __builtin_bswap64(*rv_reg64(c, i->r1));
    else if (i->size == 4)
        *rv_reg64(c, i->r1) = __builtin_bswap32(*rv_reg32(c, i->r1));
    else
        *rv_reg16(c, i->r1) = 0; /* undefined by the SDM; processors clear it */
    rv_next(c, i);
}

static uint64_t swapped(uint64_t v, unsigned size) {
    return __builtin_bswap64(v) >> (64 - 8 * size);
}

/* One of the two operands is memory. */
RV_OP(movbe) {
    uint64_t va = rv_ea(c, i, i->size, !i->r1);
    if (i->r1)
        rv_reg_set(c, i->r1, i->size, swapped(rv_load(c, i, va, i->size), i->size));
    else
        rv_store(c, i, va, i->size, swapped(rv_reg_get(c, i->r2, i->size), i->size));
    rv_next(c, i);
}

/* ---- sign extension of the accumulator ---- */

RV_OP(cbw) {
    uint64_t *a = &c->x.gpr[RV_RAX];
    if (i->size == 2)
        *(uint16_t *)a = (uint16_t)(int8_t)*a;
    else if (i->size == 4)
        *a = (uint32_t)(int16_t)*a;
    else
        *a = (uint64_t)(int32_t)*a;
    rv_next(c, i);
}

RV_OP(cwd) {
    uint64_t a = c->x.gpr[RV_RAX], *d = &c->x.gpr[RV_RDX];
    if (i->size == 2)
        *(uint16_t *)d = (uint16_t)((int16_t)a >> 15);
    else if (i->size == 4)
        *d = (uint32_t)((int32_t)a >> 31);
    else
        *d = (uint64_t)((int64_t)a >> 63);
    rv_next(c, i);
}

/* ---- bits ---- */

enum { BT_TEST, BT_SET, BT_RESET, BT_COMPLEMENT };

/* ext: which of the four; bit 7: the bit number is the immediate. With a register bit number, a
 * memory operand is a bit string: the number, signed, selects the word too. */
RV_OP(bt) {
    unsigned size = i->size, kind = i->ext & 3, bits = size * 8;
    bool imm = i->ext & 0x80;
    uint64_t n = imm ? i->imm : rv_reg_get(c, i->r2, size);
    uint64_t bit = n & (bits - 1), d, va = 0;
    if (i->r1) {
        d = rv_reg_get(c, i->r1, size);
    } else {
        uint64_t offset = rv_ea_offset(c, i);
        if (!imm) {
            int64_t index = size == 8 ? (int64_t)n : size == 4 ? (int32_t)n : (int16_t)n;
            offset += (uint64_t)((index >> (3 + rv_log2(size))) * size);
        }
        va = i->ea == RV_EA_FLAT ? offset : rv_ea_slow(c, i, offset, size, kind != BT_TEST);
        if (kind != BT_TEST) rv_probe_modify(c, i, va, size);
        d = rv_load(c, i, va, size);
    }
    bool old = d >> bit & 1;
    if (kind == BT_SET) d |= 1ull << bit;
    if (kind == BT_RESET) d &= ~(1ull << bit);
    if (kind == BT_COMPLEMENT) d ^= 1ull << bit;
    if (kind != BT_TEST) {
        if (i->r1)
            rv_reg_set(c, i->r1, size, d);
        else
            rv_store(c, i, va, size, d);
    }
    c->fl = (uint16_t)((c->fl & ~0x100u) | (old ? 0x100u : 0));
    rv_next(c, i);
}

static uint64_t source(struct rv_interp *c, const struct rv_insn *i) {
    return i->r2 ? rv_reg_get(c, i->r2, i->size)
                 : rv_load(c, i, rv_ea(c, i, i->size, false), i->size);
}

/* The undefined flags of all four are what the host makes of the guest's, or 0. */
#define SCAN(insn, suffix, reg)                                                                    \
    __asm__(RV_FLAGS_IN insn suffix " %" reg "2, %" reg "0\n\tlahf\n\tseto %%al"                   \
            : "+&r"(d), "+&a"(fl)                                                                  \
            : "r"(s)                                                                               \
            : "cc")
#define BIT_SCAN(insn)                                                                             \
    uint64_t s = source(c, i), d = rv_reg_get(c, i->r1, i->size);                                  \
    uint16_t fl = c->fl;                                                                           \
    if (i->size == 2)                                                                              \
        SCAN(insn, "w", "w");                                                                      \
    else if (i->size == 4)                                                                         \
        SCAN(insn, "l", "k");                                                                      \
    else                                                                                           \
        SCAN(insn, "q", "q");                                                                      \
    c->fl = fl & (uint16_t)~i->open

/* With a zero source only ZF is set and the destination stays: what processors of both vendors do.
 */
#define SCAN_BITS(insn)                                                                            \
    BIT_SCAN(insn);                                                                                \
    if (s) rv_reg_set(c, i->r1, i->size, d);                                                       \
    rv_next(c, i)

RV_OP(bsf) { SCAN_BITS("bsf"); }
RV_OP(bsr) { SCAN_BITS("bsr"); }

/* Unlike these, LZCNT and TZCNT always write. Offered only where the host has both
 * (rv_profile_lacks). */
#define COUNT_ZEROES(insn)                                                                         \
    BIT_SCAN(insn);                                                                                \
    rv_reg_set(c, i->r1, i->size, d);                                                              \
    rv_next(c, i)

RV_OP(lzcnt) { COUNT_ZEROES("lzcnt"); }
RV_OP(tzcnt) { COUNT_ZEROES("tzcnt"); }

RV_OP(popcnt) {
    uint64_t s = source(c, i);
    rv_reg_set(c, i->r1, i->size, (uint64_t)__builtin_popcountll(s));
    c->fl = s ? 0 : 0x4000;
    rv_next(c, i);
}

/* ---- flags ---- */

RV_OP(lahf) {
    *((uint8_t *)&c->x.gpr[RV_RAX] + 1) = (uint8_t)((c->fl >> 8 & 0xd5) | 2);
    rv_next(c, i);
}
RV_OP(sahf) {
    uint8_t ah = *((uint8_t *)&c->x.gpr[RV_RAX] + 1);
    c->fl = (uint16_t)((c->fl & 1) | (ah & 0xd5u) << 8);
    rv_next(c, i);
}
RV_OP(clc) {
    c->fl &= (uint16_t)~0x100u;
    rv_next(c, i);
}
RV_OP(stc) {
    c->fl |= 0x100;
    rv_next(c, i);
}
RV_OP(cmc) {
    c->fl ^= 0x100;
    rv_next(c, i);
}
RV_OP(cld) {
    c->x.rflags &= ~(uint64_t)RV_FL_DF;
    rv_next(c, i);
}
RV_OP(std) {
    c->x.rflags |= RV_FL_DF;
    rv_next(c, i);
}

/* ---- odds and ends ---- */

RV_OP(xlat) {
    uint64_t offset = (c->x.gpr[RV_RBX] + (uint8_t)c->x.gpr[RV_RAX]) & rv_mask(i->asize);
    uint64_t va = i->ea == RV_EA_FLAT ? offset : rv_ea_slow(c, i, offset, 1, false);
    *(uint8_t *)&c->x.gpr[RV_RAX] = rv_load8(c, i, va);
    rv_next(c, i);
}

/* SETALC: AL = CF ? 0xff : 0. Undocumented for long, on every processor. */
RV_OP(salc) {
    *(uint8_t *)&c->x.gpr[RV_RAX] = c->fl & 0x100 ? 0xff : 0;
    rv_next(c, i);
}

/* There is no cache to flush, but the address must be readable. */
RV_OP(clflush) {
    (void)rv_load8(c, i, rv_ea(c, i, 1, false));
    rv_next(c, i);
}

RV_OP(movnti) {
    rv_store(c, i, rv_ea(c, i, i->size, true), i->size, rv_reg_get(c, i->r2, i->size));
    rv_next(c, i);
}

RV_OP(bound) {
    unsigned size = i->size;
    uint64_t va = rv_ea(c, i, 2 * size, false);
    int64_t lo, hi, v;
    if (size == 2) {
        lo = (int16_t)rv_load16(c, i, va);
        hi = (int16_t)rv_load16(c, i, va + 2);
        v = (int16_t)*rv_reg16(c, i->r1);
    } else {
        lo = (int32_t)rv_load32(c, i, va);
        hi = (int32_t)rv_load32(c, i, va + 4);
        v = (int32_t)*rv_reg32(c, i->r1);
    }
    if (v < lo || v > hi) rv_raise(c, i, RV_VEC_BR);
    rv_next(c, i);
}

/* A selector that stays as it is is not written: it may lie in a read-only page or segment, as
 * processors of this vendor let it. */
RV_OP(arpl) {
    uint16_t d, s = *rv_reg16(c, i->r2);
    d = i->r1 ? *rv_reg16(c, i->r1) : rv_load16(c, i, rv_ea(c, i, 2, false));
    bool raise = (d & 3) < (s & 3);
    if (raise) {
        d = (uint16_t)((d & ~3u) | (s & 3u));
        if (i->r1)
            *rv_reg16(c, i->r1) = d;
        else
            rv_store16(c, i, rv_ea(c, i, 2, true), d);
    }
    c->fl = (uint16_t)((c->fl & ~0x4000u) | (raise ? 0x4000u : 0));
    rv_next(c, i);
}
