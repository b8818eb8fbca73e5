/* Saving and restoring state: FXSAVE, FXRSTOR, XSAVE, XRSTOR, the control registers MXCSR and XCR0.
 * Images follow SDM vol. 1, 10.5 and chapter 13. XINUSE is exact: a component is in its initial
 * configuration when its registers hold the initial values, however they came there. */
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/vec.h"

#define LEGACY_SIZE  512u
#define XSAVE_SIZE   576u /* legacy area and header; behind them lies the AVX component */
#define XSTATE_BV    512u
#define XSAVE_ZEROES 16u /* header bytes that XRSTOR wants zero: XCOMP_BV and the next eight */

#define X87 RV_XCR0_X87
#define SSE RV_XCR0_SSE
#define AVX RV_XCR0_AVX

#define EXT_WIDE 1u /* REX.W: FIP and FDP have 64 bits */

static unsigned used_size(const struct rv_interp *c) { return c->mode & RV_MODE_64 ? 416 : 288; }
/* Of c->x.ymmh. */
static unsigned upper_size(const struct rv_interp *c) { return c->mode & RV_MODE_64 ? 256 : 128; }

/* ---- images ---- */

static void image_store(const struct rv_interp *c, const struct rv_insn *i, uint8_t *out) {
    const uint8_t *fx = c->x.fx;
    struct rv_x87_last last = rv_x87_last(c);
    memcpy(out, fx, RV_FX_USED);
    out[5] = 0;
    rv_fx_set16(out, RV_FX_FOP, last.fop);
    rv_fx_set64(out, RV_FX_FIP, last.fip);
    rv_fx_set64(out, RV_FX_FDP, last.fdp);
    if (!(i->ext & EXT_WIDE)) {
        /* The upper halves hold FCS and FDS, which read as zero. */
        rv_fx_set32(out, RV_FX_FIP + 4, 0);
        rv_fx_set32(out, RV_FX_FDP + 4, 0);
    }
    rv_fx_set32(out, RV_FX_MXCSR + 4, RV_MXCSR_VALID);
    for (unsigned n = 0; n < 8; n++) memset(out + RV_FX_ST + 16 * n + 10, 0, 6);
}

/* Addresses have 48 bits: the CPU keeps the pointers canonical. */
static uint64_t canonical(uint64_t v) { return (uint64_t)((int64_t)(v << 16) >> 16); }

static void x87_load(struct rv_interp *c, const struct rv_insn *i, const uint8_t *in) {
    uint8_t *fx = c->x.fx;
    bool wide = i->ext & EXT_WIDE;
    rv_fx_set16(fx, RV_FX_FCW, (rv_fx16(in, RV_FX_FCW) & 0x1f3fu) | 0x40u);
    rv_fx_set16(fx, RV_FX_FSW, rv_fx16(in, RV_FX_FSW));
    rv_fx_set16(fx, RV_FX_FTW, in[RV_FX_FTW]);
    rv_fx_set16(fx, RV_FX_FOP, rv_fx16(in, RV_FX_FOP) & 0x7ffu);
    uint64_t fip = rv_fx64(in, RV_FX_FIP), fdp = rv_fx64(in, RV_FX_FDP);
    rv_fx_set64(fx, RV_FX_FIP, wide ? canonical(fip) : (uint32_t)fip);
    rv_fx_set64(fx, RV_FX_FDP, wide ? canonical(fdp) : (uint32_t)fdp);
    memcpy(fx + RV_FX_ST, in + RV_FX_ST, 8 * 16);
    for (unsigned n = 0; n < 8; n++) memset(fx + RV_FX_ST + 16 * n + 10, 0, 6);
    rv_x87_summarize(fx);
}

/* ---- FXSAVE, FXRSTOR ---- */

/* SDM vol. 2: EM gives #NM here, not #UD. */
static uint64_t fx_operand(struct rv_interp *c, const struct rv_insn *i, bool write) {
    if (c->x.cr0 & (RV_CR0_EM | RV_CR0_TS)) rv_raise(c, i, RV_VEC_NM);
    uint64_t va = rv_ea(c, i, LEGACY_SIZE, write);
    if (va & 15) rv_raise_error(c, i, RV_VEC_GP, 0);
    return va;
}

/* Stores image[from, to) at its place. */
static void store_part(struct rv_interp *c, const struct rv_insn *i, uint64_t va,
                       const uint8_t *image, unsigned from, unsigned to) {
    rv_store_bytes(c, i, va + from, image + from, to - from);
}

static void fxsave(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t va = fx_operand(c, i, true);
    uint8_t buf[RV_FX_USED];
    image_store(c, i, buf);
    rv_probe_write(c, i, va, LEGACY_SIZE);
    uint64_t quirks = c->bus->quirks;
    /* Without OSFXSR neither MXCSR nor the xmm registers take part. */
    bool sse = c->x.cr4 & RV_CR4_OSFXSR;
    if (sse && !(quirks & (RV_QUIRK_FXSAVE_GAPS | RV_QUIRK_FXSAVE_NO_FOP))) {
        store_part(c, i, va, buf, 0, used_size(c));
        return rv_next(c, i);
    }
    bool fop = !(quirks & RV_QUIRK_FXSAVE_NO_FOP);
    store_part(c, i, va, buf, 0, fop ? RV_FX_FIP : RV_FX_FOP);
    store_part(c, i, va, buf, RV_FX_FIP, sse ? RV_FX_ST : RV_FX_MXCSR);
    unsigned size = quirks & RV_QUIRK_FXSAVE_GAPS ? 10 : 16;
    for (unsigned st = RV_FX_ST; st < RV_FX_XMM; st += 16) store_part(c, i, va, buf, st, st + size);
    if (sse) store_part(c, i, va, buf, RV_FX_XMM, used_size(c));
    return rv_next(c, i);
}

static void fxrstor(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t va = fx_operand(c, i, false);
    _Alignas(16) uint8_t buf[LEGACY_SIZE];
    rv_load_bytes(c, i, va, buf, sizeof buf);
    if (c->x.cr4 & RV_CR4_OSFXSR) {
        uint32_t mxcsr = rv_fx32(buf, RV_FX_MXCSR);
        if (mxcsr & ~RV_MXCSR_VALID) rv_raise_error(c, i, RV_VEC_GP, 0);
        rv_fx_set32(c->x.fx, RV_FX_MXCSR, mxcsr);
        memcpy(c->x.fx + RV_FX_XMM, buf + RV_FX_XMM, used_size(c) - RV_FX_XMM);
    }
    x87_load(c, i, buf);
    return rv_next(c, i);
}

/* ---- XSAVE, XRSTOR ---- */

/* The area's size with these components. */
static unsigned area_size(uint64_t components) {
    return XSAVE_SIZE + (components & AVX ? sizeof((struct rv_x86 *)0)->ymmh : 0);
}

static uint64_t xsave_operand(struct rv_interp *c, const struct rv_insn *i, unsigned size,
                              bool write) {
    if (!(c->x.cr4 & RV_CR4_OSXSAVE)) rv_raise(c, i, RV_VEC_UD);
    if (c->x.cr0 & RV_CR0_TS) rv_raise(c, i, RV_VEC_NM);
    uint64_t va = rv_ea(c, i, size, write);
    if (va & 63) rv_raise_error(c, i, RV_VEC_GP, 0);
    return va;
}

/* The requested-feature bitmap (SDM vol. 1, 13.3). */
static uint64_t requested(const struct rv_interp *c) {
    uint64_t mask = (uint32_t)c->x.gpr[RV_RAX] | c->x.gpr[RV_RDX] << 32;
    return c->x.xcr0 & mask;
}

static uint64_t in_use(const struct rv_interp *c) {
    static const uint8_t zeroes[256];
    static const uint8_t initial[RV_FX_MXCSR] = {0x7f, 0x03}; /* FCW; all else is zero */
    const uint8_t *fx = c->x.fx;
    uint64_t bv = 0;
    if (memcmp(fx, initial, sizeof initial) || memcmp(fx + RV_FX_ST, zeroes, 8 * 16)) bv |= X87;
    if (rv_fx32(fx, RV_FX_MXCSR) != RV_MXCSR_RESET ||
        memcmp(fx + RV_FX_XMM, zeroes, used_size(c) - RV_FX_XMM))
        bv |= SSE;
    if (memcmp(c->x.ymmh, zeroes, upper_size(c))) bv |= AVX;
    return bv;
}

static void xsave(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t rfbm = requested(c), bv;
    unsigned size = area_size(rfbm);
    uint64_t va = xsave_operand(c, i, size, true);
    rv_probe_write(c, i, va, size);
    bv = rv_load64(c, i, va + XSTATE_BV);
    uint8_t buf[RV_FX_USED];
    image_store(c, i, buf);
    if (rfbm & X87) {
        rv_store_bytes(c, i, va, buf, RV_FX_MXCSR);
        rv_store_bytes(c, i, va + RV_FX_ST, buf + RV_FX_ST, 8 * 16);
    }
    if (rfbm & (SSE | AVX)) rv_store_bytes(c, i, va + RV_FX_MXCSR, buf + RV_FX_MXCSR, 8);
    if (rfbm & SSE) rv_store_bytes(c, i, va + RV_FX_XMM, buf + RV_FX_XMM, used_size(c) - RV_FX_XMM);
    if (rfbm & AVX) rv_store_bytes(c, i, va + XSAVE_SIZE, c->x.ymmh, upper_size(c));
    rv_store64(c, i, va + XSTATE_BV, (bv & ~rfbm) | (in_use(c) & rfbm));
    return rv_next(c, i);
}

/* The standard form only: XSAVEC is not offered, so XCOMP_BV has to be zero (SDM vol. 1, 13.8.1).
 */
static void xrstor(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t rfbm = requested(c);
    uint64_t va = xsave_operand(c, i, area_size(rfbm), false);
    _Alignas(16) uint8_t buf[XSAVE_SIZE + sizeof c->x.ymmh];
    rv_load_bytes(c, i, va, buf, XSAVE_SIZE);
    uint64_t bv = rv_fx64(buf, XSTATE_BV);
    bool bad = bv & ~c->x.xcr0;
    for (unsigned n = 0; n < XSAVE_ZEROES; n++)
        if (buf[XSTATE_BV + 8 + n]) bad = true;
    uint32_t mxcsr = rv_fx32(buf, RV_FX_MXCSR);
    if ((rfbm & (SSE | AVX)) && (mxcsr & ~RV_MXCSR_VALID)) bad = true;
    if (bad) rv_raise_error(c, i, RV_VEC_GP, 0);
    if (rfbm & bv & AVX) rv_load_bytes(c, i, va + XSAVE_SIZE, buf + XSAVE_SIZE, sizeof c->x.ymmh);

    uint8_t *fx = c->x.fx;
    if (rfbm & bv & X87) {
        x87_load(c, i, buf);
    } else if (rfbm & X87) {
        rv_x87_init(fx);
        memset(fx + RV_FX_ST, 0, 8 * 16);
    }
    if (rfbm & (SSE | AVX)) rv_fx_set32(fx, RV_FX_MXCSR, mxcsr);
    unsigned size = used_size(c) - RV_FX_XMM;
    if (rfbm & bv & SSE)
        memcpy(fx + RV_FX_XMM, buf + RV_FX_XMM, size);
    else if (rfbm & SSE)
        memset(fx + RV_FX_XMM, 0, size);
    if (rfbm & bv & AVX)
        memcpy(c->x.ymmh, buf + XSAVE_SIZE, upper_size(c));
    else if (rfbm & AVX)
        memset(c->x.ymmh, 0, upper_size(c));
    return rv_next(c, i);
}

/* ---- control registers ---- */

static void ldmxcsr(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    uint32_t v = rv_load32(c, i, rv_ea(c, i, 4, false));
    if (v & ~RV_MXCSR_VALID) rv_raise_error(c, i, RV_VEC_GP, 0);
    rv_fx_set32(c->x.fx, RV_FX_MXCSR, v);
    return rv_next(c, i);
}

static void stmxcsr(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    rv_store32(c, i, rv_ea(c, i, 4, true), rv_fx32(c->x.fx, RV_FX_MXCSR));
    return rv_next(c, i);
}

/* XCR0 is the only one: ECX = 1 belongs to a feature that is not offered. */
static void xgetbv(struct rv_interp *c, const struct rv_insn *i) {
    if (!(c->x.cr4 & RV_CR4_OSXSAVE)) rv_raise(c, i, RV_VEC_UD);
    if ((uint32_t)c->x.gpr[RV_RCX]) rv_raise_error(c, i, RV_VEC_GP, 0);
    c->x.gpr[RV_RAX] = (uint32_t)c->x.xcr0;
    c->x.gpr[RV_RDX] = c->x.xcr0 >> 32;
    return rv_next(c, i);
}

static void xsetbv(struct rv_interp *c, const struct rv_insn *i) {
    if (!(c->x.cr4 & RV_CR4_OSXSAVE)) rv_raise(c, i, RV_VEC_UD);
    uint64_t v = (uint32_t)c->x.gpr[RV_RAX] | c->x.gpr[RV_RDX] << 32;
    bool bad = (v & ~c->profile->xcr0_mask) || !(v & X87) || (v & (SSE | AVX)) == AVX;
    if (c->cpl || (uint32_t)c->x.gpr[RV_RCX] || bad) rv_raise_error(c, i, RV_VEC_GP, 0);
    c->x.xcr0 = v;
    rv_end(c, i);
    rv_mmu_mode(c);
    rv_leave(c);
}

/* ---- decoding ---- */

bool rv_vec_decode_state(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64: out->op = fxsave; break;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64: out->op = fxrstor; break;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64: out->op = xsave; break;
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64: out->op = xrstor; break;
    case ZYDIS_MNEMONIC_LDMXCSR: out->op = ldmxcsr; break;
    case ZYDIS_MNEMONIC_STMXCSR: out->op = stmxcsr; break;
    case ZYDIS_MNEMONIC_XGETBV: out->op = xgetbv; break;
    case ZYDIS_MNEMONIC_XSETBV:
        out->op = xsetbv;
        out->flags |= RV_I_END;
        break;
    default: return false;
    }
    out->ext = d->z.raw.rex.W ? EXT_WIDE : 0;
    return true;
}
