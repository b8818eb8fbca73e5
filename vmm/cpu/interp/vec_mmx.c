/* MMX: the mm registers are the mantissas of the x87 registers by physical number, so every
 * instruction first sets TOP to 0 and all tags to valid, and whatever writes a register fills its
 * exponent with ones (SDM vol. 1, 9.5). */
#include "vmm/cpu/interp/vec.h"

static inline uint8_t *reg(struct rv_interp *c, uint16_t r) { return (uint8_t *)c + r; }
static inline rv_thunk thunk(const struct rv_insn *i) { return (rv_thunk)(uintptr_t)i->aux; }

static inline void written(struct rv_interp *c, uint16_t r) { rv_fx_set16(reg(c, r), 8, 0xffff); }

/* Most of them: mm and mm or memory. */
static void mm_op(struct rv_interp *c, const struct rv_insn *i) {
    rv_mmx_check(c, i);
    _Alignas(16) uint8_t buf[16];
    const void *src = i->r2 ? reg(c, i->r2) : rv_vec_src(c, i, buf, i->size, false);
    rv_mmx_enter(c);
    thunk(i)(reg(c, i->r1), src, c->x.fx, NULL);
    written(c, i->r1);
    return rv_next(c, i);
}

static void emms(struct rv_interp *c, const struct rv_insn *i) {
    rv_mmx_check(c, i);
    rv_mmx_enter(c);
    c->x.fx[RV_FX_FTW] = 0;
    return rv_next(c, i);
}

/* MOVD, MOVQ to an mm register: size bytes, zero-extended to 8. */
static void load(struct rv_interp *c, const struct rv_insn *i) {
    rv_mmx_check(c, i);
    _Alignas(16) uint8_t buf[16];
    const void *src = i->r2 ? reg(c, i->r2) : rv_vec_src(c, i, buf, i->size, false);
    rv_mmx_enter(c);
    uint64_t v = 0;
    memcpy(&v, src, i->size);
    *rv_reg64(c, i->r1) = v;
    written(c, i->r1);
    return rv_next(c, i);
}

/* MOVD, MOVQ, MOVNTQ to memory; ext is the mm register's number. */
static void store(struct rv_interp *c, const struct rv_insn *i) {
    rv_mmx_check(c, i);
    rv_vec_store(c, i, rv_mm_now(c, i->ext), i->size, false);
    rv_mmx_enter(c);
    return rv_next(c, i);
}

/* MOVD, MOVQ, PEXTRW, PMOVMSKB to a general register. */
static void to_gpr(struct rv_interp *c, const struct rv_insn *i) {
    rv_mmx_check(c, i);
    rv_mmx_enter(c);
    uint64_t v = 0;
    memcpy(&v, reg(c, i->r2), i->size);
    *rv_reg64(c, i->r1) = v;
    return rv_next(c, i);
}

static void pmovmskb(struct rv_interp *c, const struct rv_insn *i) {
    rv_mmx_check(c, i);
    rv_mmx_enter(c);
    uint64_t mask = 0;
    for (unsigned n = 0; n < 8; n++) mask |= (uint64_t)(reg(c, i->r2)[n] >> 7) << n;
    *rv_reg64(c, i->r1) = mask;
    return rv_next(c, i);
}

/* As MASKMOVDQU with 8 bytes. */
static void maskmovq(struct rv_interp *c, const struct rv_insn *i) {
    rv_mmx_check(c, i);
    const uint8_t *data = rv_mm_now(c, i->ext & 7u), *mask = rv_mm_now(c, i->ext >> 3);
    rv_vec_store_masked(c, i, data, mask, 8);
    rv_mmx_enter(c);
    return rv_next(c, i);
}

static unsigned number(const ZydisDecodedOperand *o) {
    return (unsigned)(o->reg.value - ZYDIS_REGISTER_MM0);
}

/* The moves. */
static bool decode_move(const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedOperand *dst = &d->op[0], *src = &d->op[1];
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_MOVNTQ:
        out->size = d->z.mnemonic == ZYDIS_MNEMONIC_MOVD ? 4 : 8;
        out->r2 = 0;
        if (!rv_is_mem(dst)) out->r1 = rv_vec_reg(dst);
        if (!rv_is_mem(src)) out->r2 = rv_vec_reg(src);
        if (rv_is_mm(dst)) {
            out->op = load;
        } else if (rv_is_mem(dst)) {
            out->op = store;
            out->ext = (uint8_t)number(src);
        } else {
            out->op = to_gpr;
        }
        return true;
    case ZYDIS_MNEMONIC_PEXTRW:
        out->r1 = rv_vec_reg(dst);
        out->r2 = (uint16_t)(rv_vec_reg(src) + 2 * (d->op[2].imm.value.u & 3));
        out->size = 2;
        out->op = to_gpr;
        return true;
    case ZYDIS_MNEMONIC_PMOVMSKB:
        out->r1 = rv_vec_reg(dst);
        out->r2 = rv_vec_reg(src);
        out->op = pmovmskb;
        return true;
    case ZYDIS_MNEMONIC_MASKMOVQ:
        rv_vec_masked_operand(d, out);
        out->ext = (uint8_t)(number(dst) | number(src) << 3);
        out->op = maskmovq;
        return true;
    default: return false;
    }
}

bool rv_vec_decode_mmx(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedOperand *dst = &d->op[0], *src = &d->op[1];
    if (d->z.mnemonic == ZYDIS_MNEMONIC_EMMS) {
        out->op = emms;
        return true;
    }
    /* What has an xmm operand is vec_sse.c's, and CVTxx2PI from memory too. */
    if (d->z.operand_count < 2 || (!rv_is_mm(dst) && !rv_is_mm(src))) return false;
    if (rv_is_xmm(dst) || rv_is_xmm(src)) return false;
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI: return false;
    default: break;
    }
    if (decode_move(d, out)) return true;
    if (!rv_is_mm(dst)) return false;

    struct rv_thunk_key key;
    rv_vec_key(d, &key);
    out->r1 = rv_vec_reg(dst);
    if (src->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        key.form = RV_T_MMX_IMM;
        key.modrm = d->z.raw.modrm.reg;
        out->r2 = out->r1;
    } else {
        key.form = RV_T_MMX;
        out->size = (uint8_t)(src->size / 8);
        out->r2 = rv_is_mem(src) ? 0 : rv_vec_reg(src);
    }
    out->op = mm_op;
    out->aux = (const void *)(uintptr_t)rv_thunk_get(c->vec->thunks, &key);
    return true;
}
