/* SSE .. SSE4.2 computations through native thunks, and their floating-point exceptions. */

#include "vmm/cpu/interp/vec.h"

static inline void *reg(struct rv_interp *c, uint16_t r) { return (uint8_t *)c + r; }
static inline rv_thunk thunk(const struct rv_insn *i) { return (rv_thunk)(uintptr_t)i->aux; }

/* ext of PCMPxSTRx. */

#define EXT_GPR 1u /* ECX is written */

/* ---- operations without floating-point exceptions ---- */

static void x_r(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    thunk(i)(reg(c, i->r1), reg(c, i->r2), c->x.fx, NULL);
    return rv_next(c, i);
}

static void x_m(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    thunk(i)(reg(c, i->r1), rv_vec_src(c, i, buf, i->size, i->size == 16), c->x.fx, NULL);
    return rv_next(c, i);
}

/* The thunk's flags come with SAHF's reserved bits. */
#define FL_ARITH 0xd501u

static void ptest(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    const void *src = i->r2 ? reg(c, i->r2) : rv_vec_src(c, i, buf, 16, true);
    c->fl = (uint32_t)thunk(i)(reg(c, i->r1), src, c->x.fx, NULL) & FL_ARITH;
    return rv_next(c, i);
}

/* PCMPxSTRx takes its second operand unaligned, unlike the rest. The I forms leave ECX. */
static void pcmpstr(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    const void *src = i->r2 ? reg(c, i->r2) : rv_vec_src(c, i, buf, 16, false);
    uint64_t r = thunk(i)(reg(c, i->r1), src, c->x.fx, c->x.gpr);
    c->fl = (uint32_t)r & FL_ARITH;
    if (i->ext & EXT_GPR) c->x.gpr[RV_RCX] = r >> 32;
    return rv_next(c, i);
}

/* ---- operations with floating-point exceptions ---- */

/* What SDM vol. 1, 11.5.2 calls pre-computation exceptions. */
#define PRE_FLAGS 0x07u

void rv_vec_unmasked(struct rv_interp *c, const struct rv_insn *i, uint32_t mxcsr, uint32_t flags) {
    uint32_t unmasked = ~mxcsr >> 7 & RV_MXCSR_FLAGS;
    bool raises = flags & unmasked;
    if (flags & unmasked & PRE_FLAGS) flags &= PRE_FLAGS;
    rv_fx_set32(c->x.fx, RV_FX_MXCSR, mxcsr | flags);
    if (raises) rv_raise(c, i, c->x.cr4 & RV_CR4_OSXMMEXCPT ? RV_VEC_XM : RV_VEC_UD);
}

/* Runs the operation under an MXCSR with every exception masked and no flag set, and raises what
 * the guest's MXCSR does not mask. Returns the thunk's value; the result of an xmm or mm
 * destination is in dst. */
static uint64_t run_unmasked(struct rv_interp *c, const struct rv_insn *i, uint8_t *dst,
                             const void *src) {
    uint32_t mxcsr = rv_fx32(c->x.fx, RV_FX_MXCSR);
    _Alignas(16) uint8_t fx[RV_FX_XMM + 16], trial[16];
    memcpy(fx, c->x.fx, sizeof fx);
    memcpy(trial, dst, sizeof trial);
    rv_fx_set32(fx, RV_FX_MXCSR, (mxcsr & ~RV_MXCSR_FLAGS) | RV_MXCSR_MASKS);
    uint64_t value = thunk(i)(trial, src, fx, NULL);
    uint32_t flags = rv_fx32(fx, RV_FX_MXCSR) & RV_MXCSR_FLAGS;
    if (!(mxcsr & RV_MXCSR_UM)) {
        /* Unmasked, a tiny result is reported even when it is exact, which a masked run hides
         * unless it flushes to zero. */
        _Alignas(16) uint8_t flushed[16];
        memcpy(flushed, dst, sizeof flushed);
        rv_fx_set32(fx, RV_FX_MXCSR, (mxcsr & ~RV_MXCSR_FLAGS) | RV_MXCSR_MASKS | RV_MXCSR_FTZ);
        thunk(i)(flushed, src, fx, NULL);
        flags |= rv_fx32(fx, RV_FX_MXCSR) & (RV_MXCSR_UM >> 7);
    }
    rv_vec_unmasked(c, i, mxcsr, flags);
    memcpy(dst, trial, sizeof trial);
    return value;
}

static inline uint64_t run_fp(struct rv_interp *c, const struct rv_insn *i, void *dst,
                              const void *src) {
    uint32_t mxcsr = rv_fx32(c->x.fx, RV_FX_MXCSR);
    if (rv_likely((mxcsr & RV_MXCSR_MASKS) == RV_MXCSR_MASKS))
        return thunk(i)(dst, src, c->x.fx, NULL);
    return run_unmasked(c, i, dst, src);
}

static void fp_r(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    run_fp(c, i, reg(c, i->r1), reg(c, i->r2));
    return rv_next(c, i);
}

static void fp_m(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    run_fp(c, i, reg(c, i->r1), rv_vec_src(c, i, buf, i->size, i->size == 16));
    return rv_next(c, i);
}

/* COMISx, UCOMISx. */
static void fp_flags(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    const void *src = i->r2 ? reg(c, i->r2) : rv_vec_src(c, i, buf, i->size, false);
    c->fl = (uint32_t)run_fp(c, i, reg(c, i->r1), src) & FL_ARITH;
    return rv_next(c, i);
}

/* CVTSS2SI and its kind. */
static void fp_gpr(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16], none[16] = {0};
    const void *src = i->r2 ? reg(c, i->r2) : rv_vec_src(c, i, buf, i->size, false);
    *rv_reg64(c, i->r1) = run_fp(c, i, none, src);
    return rv_next(c, i);
}

/* ---- conversions between mm and xmm ---- */

static void movq2dq(struct rv_interp *c, const struct rv_insn *i) {
    if (c->x.cr0 & RV_CR0_EM || !(c->x.cr4 & RV_CR4_OSFXSR)) rv_sse_unavailable(c, i);
    rv_mmx_check(c, i);
    rv_mmx_enter(c);
    uint64_t v[2] = {*rv_reg64(c, i->r2), 0};
    memcpy(reg(c, i->r1), v, 16);
    return rv_next(c, i);
}

static void movdq2q(struct rv_interp *c, const struct rv_insn *i) {
    if (c->x.cr0 & RV_CR0_EM || !(c->x.cr4 & RV_CR4_OSFXSR)) rv_sse_unavailable(c, i);
    rv_mmx_check(c, i);
    rv_mmx_enter(c);
    *rv_reg64(c, i->r1) = *rv_reg64(c, i->r2);
    rv_fx_set16((uint8_t *)reg(c, i->r1), 8, 0xffff);
    return rv_next(c, i);
}

/* CVTPI2PS, CVTPI2PD: with a memory operand no mm register takes part and x87 state stays. */
static void x_mm(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    if (i->r2) {
        rv_mmx_check(c, i);
        run_fp(c, i, reg(c, i->r1), rv_mm_now(c, (i->r2 - RV_MM_OFFSET(0)) / 16u));
        rv_mmx_enter(c);
    } else {
        run_fp(c, i, reg(c, i->r1), rv_vec_src(c, i, buf, 8, false));
    }
    return rv_next(c, i);
}

/* CVTPS2PI and its kind. */
static void mm_x(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_mmx_check(c, i);
    _Alignas(16) uint8_t buf[16], result[16] = {0};
    const void *src = i->r2 ? reg(c, i->r2) : rv_vec_src(c, i, buf, i->size, i->size == 16);
    run_fp(c, i, result, src);
    rv_mmx_enter(c);
    memcpy(reg(c, i->r1), result, 8);
    rv_fx_set16((uint8_t *)reg(c, i->r1), 8, 0xffff);
    return rv_next(c, i);
}

/* ---- CRC32 ---- */

/* An integer instruction: it needs neither OSFXSR nor a clear TS. */
static void crc32(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t v;
    if (i->r2)
        memcpy(&v, reg(c, i->r2), sizeof v);
    else if (i->size == 8)
        v = rv_load64(c, i, rv_ea(c, i, 8, false));
    else if (i->size == 4)
        v = rv_load32(c, i, rv_ea(c, i, 4, false));
    else if (i->size == 2)
        v = rv_load16(c, i, rv_ea(c, i, 2, false));
    else
        v = rv_load8(c, i, rv_ea(c, i, 1, false));
    /* The function is compiled for CPUs with CRC32; rv_vec_new has made sure of it. */
    uint64_t crc = *rv_reg32(c, i->r1);
    uint32_t crc4 = (uint32_t)crc;
    switch (i->size) {
    case 1: __asm__("crc32b %1, %0" : "+r"(crc4) : "q"((uint8_t)v)); break;
    case 2: __asm__("crc32w %1, %0" : "+r"(crc4) : "r"((uint16_t)v)); break;
    case 4: __asm__("crc32l %1, %0" : "+r"(crc4) : "r"((uint32_t)v)); break;
    default:
        __asm__("crc32q %1, %0" : "+r"(crc) : "r"(v));
        crc4 = (uint32_t)crc;
        break;
    }
    *rv_reg64(c, i->r1) = crc4;
    return rv_next(c, i);
}

/* ---- decoding ---- */

/* Obeys MXCSR: rounding, denormals-are-zero, flush-to-zero, exceptions. RCPxS and RSQRTxS are run
 * in the same way, which costs little and presumes nothing of the host. */
static bool uses_mxcsr(ZydisMnemonic m) {
    switch (m) {
#define FOUR(name)                                                                                 \
    case ZYDIS_MNEMONIC_##name##PS:                                                                \
    case ZYDIS_MNEMONIC_##name##PD:                                                                \
    case ZYDIS_MNEMONIC_##name##SS:                                                                \
    case ZYDIS_MNEMONIC_##name##SD:
#define TWO(name)                                                                                  \
    case ZYDIS_MNEMONIC_##name##PS:                                                                \
    case ZYDIS_MNEMONIC_##name##PD:
        FOUR(ADD)
        FOUR(SUB)
        FOUR(MUL)
        FOUR(DIV)
        FOUR(SQRT)
        FOUR(MIN)
        FOUR(MAX)
        FOUR(CMP)
        FOUR(ROUND)
        TWO(ADDSUB)
        TWO(HADD)
        TWO(HSUB)
        TWO(DP)
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_COMISS:
    case ZYDIS_MNEMONIC_COMISD:
    case ZYDIS_MNEMONIC_UCOMISS:
    case ZYDIS_MNEMONIC_UCOMISD:
    case ZYDIS_MNEMONIC_CVTDQ2PD:
    case ZYDIS_MNEMONIC_CVTDQ2PS:
    case ZYDIS_MNEMONIC_CVTPD2DQ:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTPD2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPS2DQ:
    case ZYDIS_MNEMONIC_CVTPS2PD:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTSD2SI:
    case ZYDIS_MNEMONIC_CVTSD2SS:
    case ZYDIS_MNEMONIC_CVTSI2SD:
    case ZYDIS_MNEMONIC_CVTSI2SS:
    case ZYDIS_MNEMONIC_CVTSS2SD:
    case ZYDIS_MNEMONIC_CVTSS2SI:
    case ZYDIS_MNEMONIC_CVTTPD2DQ:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPS2DQ:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTTSD2SI:
    case ZYDIS_MNEMONIC_CVTTSS2SI: return true;
#undef FOUR
#undef TWO
    default: return false;
    }
}

/* Chooses the thunk's form and the operation. */
static bool choose(const struct rv_decode *d, struct rv_insn *out, struct rv_thunk_key *key) {
    const ZydisDecodedOperand *dst = &d->op[0], *src = &d->op[1];
    bool fp = key->flags & RV_TF_FP, mem = rv_is_mem(src);
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_COMISS:
    case ZYDIS_MNEMONIC_COMISD:
    case ZYDIS_MNEMONIC_UCOMISS:
    case ZYDIS_MNEMONIC_UCOMISD:
        key->form = RV_T_FLAGS;
        out->op = fp_flags;
        return true;
    case ZYDIS_MNEMONIC_PTEST:
        key->form = RV_T_FLAGS;
        out->op = ptest;
        return true;
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPISTRI: out->ext = EXT_GPR; __attribute__((fallthrough));
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRM:
        key->form = RV_T_STRING;
        out->op = pcmpstr;
        return true;
    case ZYDIS_MNEMONIC_BLENDVPS:
    case ZYDIS_MNEMONIC_BLENDVPD:
    case ZYDIS_MNEMONIC_PBLENDVB:
        key->form = RV_T_XMM0;
        out->op = mem ? x_m : x_r;
        return true;
    default: break;
    }
    if (rv_is_gpr(dst) && fp) {
        key->form = RV_T_GPR;
        out->op = fp_gpr;
    } else if (rv_is_mm(dst)) { /* CVTxx2PI: the destination is only written */
        key->form = RV_T_MMX_XMM;
        out->op = mm_x;
    } else if (d->z.mnemonic == ZYDIS_MNEMONIC_CVTPI2PS ||
               d->z.mnemonic == ZYDIS_MNEMONIC_CVTPI2PD) {
        key->form = RV_T_XMM_MMX;
        out->op = x_mm;
    } else if (!rv_is_xmm(dst)) {
        return false;
    } else {
        key->form = RV_T_XMM;
        out->op = fp ? (mem ? fp_m : fp_r) : (mem ? x_m : x_r);
    }
    return true;
}

static bool decode_crc32(const struct rv_decode *d, struct rv_insn *out) {
    out->op = crc32;
    out->r1 = rv_vec_reg(&d->op[0]);
    out->size = (uint8_t)(d->op[1].size / 8);
    out->r2 = rv_is_mem(&d->op[1]) ? 0 : rv_vec_reg(&d->op[1]);
    return true;
}

bool rv_vec_decode_sse(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedOperand *dst = &d->op[0], *src = &d->op[1];
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_CRC32: return decode_crc32(d, out);
    case ZYDIS_MNEMONIC_MOVQ2DQ:
    case ZYDIS_MNEMONIC_MOVDQ2Q:
        out->r1 = rv_vec_reg(dst);
        out->r2 = rv_vec_reg(src);
        out->op = d->z.mnemonic == ZYDIS_MNEMONIC_MOVQ2DQ ? movq2dq : movdq2q;
        return true;
    case ZYDIS_MNEMONIC_POPCNT: return false;
    default: break;
    }
    if (rv_vec_decode_approximate(c, d, out)) return true;
    if (d->z.operand_count < 2 || d->z.raw.modrm.offset == 0) return false;
    if (!rv_is_xmm(dst) && !rv_is_xmm(src) && !uses_mxcsr(d->z.mnemonic)) return false;

    struct rv_thunk_key key;
    rv_vec_key(d, &key);
    out->r2 = 0;
    if (src->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        key.form = RV_T_XMM_IMM;
        key.modrm = d->z.raw.modrm.reg;
        out->op = x_r;
        out->r2 = rv_vec_reg(dst);
    } else {
        if (uses_mxcsr(d->z.mnemonic)) key.flags |= RV_TF_FP;
        if (!choose(d, out, &key)) return false;
        if (rv_is_mem(src)) {
            out->size = (uint8_t)(src->size / 8);
        } else {
            out->r2 = rv_vec_reg(src);
            /* From a register, the immediate chooses one of four elements. */
            if (d->z.mnemonic == ZYDIS_MNEMONIC_INSERTPS) key.flags |= RV_TF_REG;
        }
    }
    out->r1 = rv_vec_reg(dst);
    out->aux = (const void *)(uintptr_t)rv_thunk_get(c->vec->thunks, &key);
    return true;
}
