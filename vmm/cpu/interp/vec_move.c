/* SSE moves between registers and memory, and the integer operations that compilers and kernels use
 * most, in plain C. */
#include <emmintrin.h>

#include "vmm/cpu/interp/vec.h"

static inline uint8_t *reg(struct rv_interp *c, uint16_t r) { return (uint8_t *)c + r; }

/* ---- whole registers ---- */

static void mov_x_x(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    memcpy(reg(c, i->r1), reg(c, i->r2), 16);
    return rv_next(c, i);
}

static void load_aligned(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    memcpy(reg(c, i->r1), rv_vec_src(c, i, buf, 16, true), 16);
    return rv_next(c, i);
}

static void load_unaligned(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    memcpy(reg(c, i->r1), rv_vec_src(c, i, buf, 16, false), 16);
    return rv_next(c, i);
}

static void store_aligned(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_vec_store(c, i, reg(c, i->r2), 16, true);
    return rv_next(c, i);
}

static void store_unaligned(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_vec_store(c, i, reg(c, i->r2), 16, false);
    return rv_next(c, i);
}

/* ---- parts of registers ---- */

/* MOVD, MOVQ, MOVSS, MOVSD from memory: the rest of the register becomes zero. */
static void load4_zero(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    uint64_t v[2] = {rv_load32(c, i, rv_ea(c, i, 4, false)), 0};
    memcpy(reg(c, i->r1), v, 16);
    return rv_next(c, i);
}

static void load8_zero(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    uint64_t v[2] = {rv_load64(c, i, rv_ea(c, i, 8, false)), 0};
    memcpy(reg(c, i->r1), v, 16);
    return rv_next(c, i);
}

/* From the low 4 or 8 bytes of a general or xmm register. */
static void mov4_zero(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    uint64_t v[2] = {*rv_reg32(c, i->r2), 0};
    memcpy(reg(c, i->r1), v, 16);
    return rv_next(c, i);
}

static void mov8_zero(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    uint64_t v[2] = {*rv_reg64(c, i->r2), 0};
    memcpy(reg(c, i->r1), v, 16);
    return rv_next(c, i);
}

static void mov4_keep(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg32(c, i->r1) = *rv_reg32(c, i->r2);
    return rv_next(c, i);
}

/* r1 and r2 point at the halves meant: MOVSD, MOVHLPS, MOVLHPS. */
static void mov8_keep(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = *rv_reg64(c, i->r2);
    return rv_next(c, i);
}

static void load8_keep(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = rv_load64(c, i, rv_ea(c, i, 8, false));
    return rv_next(c, i);
}

static void store4(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_store32(c, i, rv_ea(c, i, 4, true), *rv_reg32(c, i->r2));
    return rv_next(c, i);
}

static void store8(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_store64(c, i, rv_ea(c, i, 8, true), *rv_reg64(c, i->r2));
    return rv_next(c, i);
}

/* To a general register: MOVD and MOVQ, PEXTRx and EXTRACTPS with r2 at the element. 32 bits and
 * less clear the rest of the register. */
static void extract1(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = *rv_reg8(c, i->r2);
    return rv_next(c, i);
}

static void extract2(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = *rv_reg16(c, i->r2);
    return rv_next(c, i);
}

static void extract4(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = *rv_reg32(c, i->r2);
    return rv_next(c, i);
}

static void extract8(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = *rv_reg64(c, i->r2);
    return rv_next(c, i);
}

static void store1(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_store8(c, i, rv_ea(c, i, 1, true), *rv_reg8(c, i->r2));
    return rv_next(c, i);
}

static void store2(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_store16(c, i, rv_ea(c, i, 2, true), *rv_reg16(c, i->r2));
    return rv_next(c, i);
}

/* MOVNTI is an integer store: no state of the vector unit takes part. */
static void movnti4(struct rv_interp *c, const struct rv_insn *i) {
    rv_store32(c, i, rv_ea(c, i, 4, true), *rv_reg32(c, i->r2));
    return rv_next(c, i);
}

static void movnti8(struct rv_interp *c, const struct rv_insn *i) {
    rv_store64(c, i, rv_ea(c, i, 8, true), *rv_reg64(c, i->r2));
    return rv_next(c, i);
}

/* ---- sign masks ---- */

static inline __m128i xmm(struct rv_interp *c, uint16_t r) {
    return _mm_load_si128((const __m128i *)(const void *)reg(c, r));
}

static void pmovmskb(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = (uint32_t)_mm_movemask_epi8(xmm(c, i->r2));
    return rv_next(c, i);
}

static void movmskps(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(xmm(c, i->r2)));
    return rv_next(c, i);
}

static void movmskpd(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    *rv_reg64(c, i->r1) = (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(xmm(c, i->r2)));
    return rv_next(c, i);
}

/* ---- MASKMOVDQU ---- */

void rv_vec_store_masked(struct rv_interp *c, const struct rv_insn *i, const uint8_t *data,
                         const uint8_t *mask, unsigned size) {
    uint64_t va = rv_ea(c, i, size, true);
    unsigned first = size, last = 0;
    for (unsigned n = 0; n < size; n++)
        if (mask[n] & 0x80) {
            if (first == size) first = n;
            last = n;
        }
    if (first == size) return;
    rv_probe_write(c, i, va + first, last - first + 1);
    for (unsigned n = first; n <= last; n++)
        if (mask[n] & 0x80) rv_store8(c, i, va + n, data[n]);
}

void rv_vec_masked_operand(const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedOperand *mem = &d->op[2];
    out->base = RV_GPR_OFFSET(RV_RDI);
    out->index = offsetof(struct rv_interp, zero);
    out->scale = 0;
    out->disp = 0;
    out->flags &= (uint8_t)~RV_I_SS;
    out->asize = d->z.address_width / 8;
    bool base = false;
    switch (mem->mem.segment) {
    case ZYDIS_REGISTER_ES: out->seg = RV_ES; break;
    case ZYDIS_REGISTER_CS: out->seg = RV_CS; break;
    case ZYDIS_REGISTER_SS: out->seg = RV_SS; break;
    case ZYDIS_REGISTER_FS:
        out->seg = RV_FS;
        base = true;
        break;
    case ZYDIS_REGISTER_GS:
        out->seg = RV_GS;
        base = true;
        break;
    default: out->seg = RV_DS; break;
    }
    if (d->z.machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
        out->ea = RV_EA_SEG;
    else
        out->ea = base || out->asize != 8 ? RV_EA_BASE : RV_EA_FLAT;
}

static void maskmovdqu(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_vec_store_masked(c, i, reg(c, i->r1), reg(c, i->r2), 16);
    return rv_next(c, i);
}

/* ---- frequent integer operations ---- */

#define INTEGER(name, intrinsic)                                                                   \
    static void name##_r(struct rv_interp *c, const struct rv_insn *i) {                           \
        rv_sse_check(c, i);                                                                        \
        __m128i v = intrinsic(xmm(c, i->r1), xmm(c, i->r2));                                       \
        _mm_store_si128((__m128i *)(void *)reg(c, i->r1), v);                                      \
        return rv_next(c, i);                                                                      \
    }                                                                                              \
    static void name##_m(struct rv_interp *c, const struct rv_insn *i) {                           \
        rv_sse_check(c, i);                                                                        \
        _Alignas(16) uint8_t buf[16];                                                              \
        const void *src = rv_vec_src(c, i, buf, 16, true);                                         \
        __m128i v = intrinsic(xmm(c, i->r1), _mm_load_si128((const __m128i *)src));                \
        _mm_store_si128((__m128i *)(void *)reg(c, i->r1), v);                                      \
        return rv_next(c, i);                                                                      \
    }
INTEGER(pxor, _mm_xor_si128)
INTEGER(por, _mm_or_si128)
INTEGER(pand, _mm_and_si128)
INTEGER(pandn, _mm_andnot_si128)
INTEGER(pcmpeqb, _mm_cmpeq_epi8)
INTEGER(pcmpeqd, _mm_cmpeq_epi32)
INTEGER(paddd, _mm_add_epi32)
INTEGER(paddq, _mm_add_epi64)
INTEGER(psubb, _mm_sub_epi8)
INTEGER(pminub, _mm_min_epu8)
INTEGER(punpcklbw, _mm_unpacklo_epi8)
INTEGER(punpcklwd, _mm_unpacklo_epi16)
INTEGER(punpckldq, _mm_unpacklo_epi32)
INTEGER(punpcklqdq, _mm_unpacklo_epi64)
#undef INTEGER

static bool decode_integer(const struct rv_decode *d, struct rv_insn *out) {
    rv_op r, m;
    switch (d->z.mnemonic) {
#define CASE(mnemonic, name)                                                                       \
    case ZYDIS_MNEMONIC_##mnemonic:                                                                \
        r = name##_r;                                                                              \
        m = name##_m;                                                                              \
        break;
        CASE(XORPS, pxor)
        CASE(XORPD, pxor)
        CASE(PXOR, pxor)
        CASE(ORPS, por)
        CASE(ORPD, por)
        CASE(POR, por)
        CASE(ANDPS, pand)
        CASE(ANDPD, pand)
        CASE(PAND, pand)
        CASE(ANDNPS, pandn)
        CASE(ANDNPD, pandn)
        CASE(PANDN, pandn)
        CASE(PCMPEQB, pcmpeqb)
        CASE(PCMPEQD, pcmpeqd)
        CASE(PADDD, paddd)
        CASE(PADDQ, paddq)
        CASE(PSUBB, psubb)
        CASE(PMINUB, pminub)
        CASE(PUNPCKLBW, punpcklbw)
        CASE(PUNPCKLWD, punpcklwd)
        CASE(PUNPCKLDQ, punpckldq)
        CASE(PUNPCKLQDQ, punpcklqdq)
#undef CASE
    default: return false;
    }
    if (!rv_is_xmm(&d->op[0])) return false;
    out->r1 = rv_vec_reg(&d->op[0]);
    if (rv_is_mem(&d->op[1])) {
        out->op = m;
    } else {
        out->r2 = rv_vec_reg(&d->op[1]);
        out->op = r;
    }
    return true;
}

/* ---- decoding ---- */

/* PEXTRx and EXTRACTPS: the immediate picks the element, so it goes into r2. */
static bool decode_extract(const struct rv_decode *d, struct rv_insn *out) {
    unsigned size;
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_PEXTRB: size = 1; break;
    case ZYDIS_MNEMONIC_PEXTRW: size = 2; break;
    case ZYDIS_MNEMONIC_EXTRACTPS:
    case ZYDIS_MNEMONIC_PEXTRD: size = 4; break;
    case ZYDIS_MNEMONIC_PEXTRQ: size = 8; break;
    default: return false;
    }
    static const rv_op to_gpr[] = {[1] = extract1, [2] = extract2, [4] = extract4, [8] = extract8};
    static const rv_op to_mem[] = {[1] = store1, [2] = store2, [4] = store4, [8] = store8};
    if (!rv_is_xmm(&d->op[1])) return false;
    unsigned element = (unsigned)d->op[2].imm.value.u & (16 / size - 1);
    out->r2 = (uint16_t)(rv_vec_reg(&d->op[1]) + element * size);
    if (rv_is_mem(&d->op[0])) {
        out->op = to_mem[size];
    } else {
        out->r1 = rv_vec_reg(&d->op[0]);
        out->op = to_gpr[size];
    }
    return true;
}

/* MOVD, MOVQ, MOVSS, MOVSD: size is what moves; keep says whether a move between xmm registers
 * leaves the rest of the destination alone. */
static bool decode_scalar(const struct rv_decode *d, struct rv_insn *out, unsigned size,
                          bool keep) {
    const ZydisDecodedOperand *dst = &d->op[0], *src = &d->op[1];
    bool wide = size == 8;
    if (!rv_is_mem(dst)) out->r1 = rv_vec_reg(dst);
    if (!rv_is_mem(src)) out->r2 = rv_vec_reg(src);
    if (rv_is_mem(dst))
        out->op = wide ? store8 : store4;
    else if (rv_is_gpr(dst))
        out->op = wide ? extract8 : extract4;
    else if (rv_is_mem(src))
        out->op = wide ? load8_zero : load4_zero;
    else if (keep)
        out->op = wide ? mov8_keep : mov4_keep;
    else
        out->op = wide ? mov8_zero : mov4_zero;
    return true;
}

/* MOVLPS and its kind: 8 bytes of one half, which r1 or r2 points at. */
static bool decode_half(const struct rv_decode *d, struct rv_insn *out, unsigned half) {
    if (rv_is_mem(&d->op[0])) {
        out->r2 = (uint16_t)(rv_vec_reg(&d->op[1]) + half);
        out->op = store8;
    } else {
        out->r1 = (uint16_t)(rv_vec_reg(&d->op[0]) + half);
        out->op = load8_keep;
    }
    return true;
}

static bool decode_whole(const struct rv_decode *d, struct rv_insn *out, bool aligned) {
    if (rv_is_mem(&d->op[0])) {
        out->r2 = rv_vec_reg(&d->op[1]);
        out->op = aligned ? store_aligned : store_unaligned;
        return true;
    }
    out->r1 = rv_vec_reg(&d->op[0]);
    if (rv_is_mem(&d->op[1])) {
        out->op = aligned ? load_aligned : load_unaligned;
    } else {
        out->r2 = rv_vec_reg(&d->op[1]);
        out->op = mov_x_x;
    }
    return true;
}

static bool decode_mask(const struct rv_decode *d, struct rv_insn *out, rv_op op) {
    if (!rv_is_xmm(&d->op[1])) return false;
    out->r1 = rv_vec_reg(&d->op[0]);
    out->r2 = rv_vec_reg(&d->op[1]);
    out->op = op;
    return true;
}

bool rv_vec_decode_move(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedOperand *dst = &d->op[0], *src = &d->op[1];
    if (d->z.mnemonic == ZYDIS_MNEMONIC_MOVNTI) {
        out->r2 = rv_vec_reg(src);
        out->op = src->size == 64 ? movnti8 : movnti4;
        return true;
    }
    /* MOVSD is a string instruction's name as well, and MOVD and MOVQ serve MMX too. */
    if (d->z.operand_count < 2 || (!rv_is_xmm(dst) && !rv_is_xmm(src))) return false;
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_MOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD:
    case ZYDIS_MNEMONIC_MOVDQA:
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTDQA: return decode_whole(d, out, true);
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU: return decode_whole(d, out, false);
    case ZYDIS_MNEMONIC_MOVD: return decode_scalar(d, out, 4, false);
    case ZYDIS_MNEMONIC_MOVQ: return decode_scalar(d, out, 8, false);
    case ZYDIS_MNEMONIC_MOVSS: return decode_scalar(d, out, 4, true);
    case ZYDIS_MNEMONIC_MOVSD: return decode_scalar(d, out, 8, true);
    case ZYDIS_MNEMONIC_MOVLPS:
    case ZYDIS_MNEMONIC_MOVLPD: return decode_half(d, out, 0);
    case ZYDIS_MNEMONIC_MOVHPS:
    case ZYDIS_MNEMONIC_MOVHPD: return decode_half(d, out, 8);
    case ZYDIS_MNEMONIC_MOVHLPS:
    case ZYDIS_MNEMONIC_MOVLHPS: {
        unsigned high_src = d->z.mnemonic == ZYDIS_MNEMONIC_MOVHLPS ? 8 : 0;
        out->r1 = (uint16_t)(rv_vec_reg(dst) + 8 - high_src);
        out->r2 = (uint16_t)(rv_vec_reg(src) + high_src);
        out->op = mov8_keep;
        return true;
    }
    case ZYDIS_MNEMONIC_PMOVMSKB: return decode_mask(d, out, pmovmskb);
    case ZYDIS_MNEMONIC_MOVMSKPS: return decode_mask(d, out, movmskps);
    case ZYDIS_MNEMONIC_MOVMSKPD: return decode_mask(d, out, movmskpd);
    case ZYDIS_MNEMONIC_MASKMOVDQU:
        rv_vec_masked_operand(d, out);
        return decode_mask(d, out, maskmovdqu);
    default: return decode_extract(d, out) || decode_integer(d, out);
    }
}
