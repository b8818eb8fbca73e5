/* RCPPS, RCPSS, RSQRTPS, RSQRTSS and their AVX forms, the same on any processor.
 *
 * The manual bounds their relative error by 1.5 * 2^-12 and leaves the rest to the processor. Here
 * the quotient is rounded to 12 fraction bits, by operations that IEEE 754 leaves no choice in. */
#include <emmintrin.h>

#include "vmm/cpu/interp/vec.h"

#define SIGN       0x80000000u
#define INFINITE   0x7f800000u
#define QUIET      0x00400000u
#define SMALLEST   0x00800000u /* that is normal */
#define INDEFINITE 0xffc00000u
#define ROUNDED    0x7ffu /* fraction bits that are rounded away */

/* SDM vol. 2, RCPPS and RSQRTPS, tables of special values. Denormals count as 0. */
static uint32_t approximation(uint32_t v, bool root) {
    uint32_t sign = v & SIGN, x = v & ~SIGN;
    if (x > INFINITE) return v | QUIET;
    if (x < SMALLEST) return sign | INFINITE;
    if (root && sign) return INDEFINITE;
    if (x == INFINITE) return sign;
    float f;
    memcpy(&f, &x, sizeof f);
    __m128d wide = _mm_set_sd((double)f);
    if (root) wide = _mm_sqrt_sd(wide, wide);
    f = (float)(1.0 / _mm_cvtsd_f64(wide));
    memcpy(&x, &f, sizeof x);
    x = (x + (ROUNDED + 1) / 2) & ~ROUNDED;
    return x < SMALLEST ? sign : sign | x;
}

/* struct rv_insn.ext */
#define EXT_ROOT   1u
#define EXT_VECTOR 2u /* all elements, not only the first */
#define EXT_WIDE   4u /* of 256 bits */

static void approximate(const struct rv_insn *i, uint8_t *out, const uint8_t *in) {
    unsigned size = !(i->ext & EXT_VECTOR) ? 4 : i->ext & EXT_WIDE ? 32 : 16;
    for (unsigned at = 0; at < size; at += 4) {
        uint32_t v;
        memcpy(&v, in + at, 4);
        v = approximation(v, i->ext & EXT_ROOT);
        memcpy(out + at, &v, 4);
    }
}

/* r1: the destination. r2: the source, or 0 when it is in memory. */
static void sse(struct rv_interp *c, const struct rv_insn *i) {
    rv_sse_check(c, i);
    _Alignas(16) uint8_t buf[16];
    uint8_t *dst = (uint8_t *)c + i->r1;
    const void *src =
        i->r2 ? (const uint8_t *)c + i->r2 : rv_vec_src(c, i, buf, i->size, i->size == 16);
    approximate(i, dst, src);
    return rv_next(c, i);
}

/* r1, r2: numbers of the destination and of the source, imm: of the register that the rest of a
 * single element's comes from. */
#define IN_MEMORY 16u
static void avx(struct rv_interp *c, const struct rv_insn *i) {
    if (rv_unlikely(c->x.cr0 & RV_CR0_TS)) rv_raise(c, i, RV_VEC_NM);
    uint8_t in[32], out[32] = {0};
    if (i->r2 == IN_MEMORY) {
        rv_load_bytes(c, i, rv_ea(c, i, i->size, false), in, i->size);
    } else {
        memcpy(in, c->x.fx + RV_FX_XMM + 16 * i->r2, 16);
        memcpy(in + 16, c->x.ymmh + 16 * i->r2, 16);
    }
    if (!(i->ext & EXT_VECTOR)) memcpy(out, c->x.fx + RV_FX_XMM + 16 * i->imm, 16);
    approximate(i, out, in);
    memcpy(c->x.fx + RV_FX_XMM + 16 * i->r1, out, 16);
    memcpy(c->x.ymmh + 16 * i->r1, out + 16, 16);
    return rv_next(c, i);
}

static int kind(ZydisMnemonic m) {
    switch (m) {
    case ZYDIS_MNEMONIC_RCPSS:
    case ZYDIS_MNEMONIC_VRCPSS: return 0;
    case ZYDIS_MNEMONIC_RSQRTSS:
    case ZYDIS_MNEMONIC_VRSQRTSS: return EXT_ROOT;
    case ZYDIS_MNEMONIC_RCPPS:
    case ZYDIS_MNEMONIC_VRCPPS: return EXT_VECTOR;
    case ZYDIS_MNEMONIC_RSQRTPS:
    case ZYDIS_MNEMONIC_VRSQRTPS: return EXT_VECTOR | EXT_ROOT;
    default: return -1;
    }
}

bool rv_is_approximate(ZydisMnemonic m) { return kind(m) >= 0; }

bool rv_vec_decode_approximate(struct rv_interp *c, const struct rv_decode *d,
                               struct rv_insn *out) {
    int k = kind(d->z.mnemonic);
    if (k < 0 || !(c->bus->quirks & RV_QUIRK_PORTABLE)) return false;
    const ZydisDecodedOperand *src = &d->op[d->z.operand_count_visible - 1];
    out->ext = (uint8_t)k;
    if (rv_is_mem(src)) out->size = (uint8_t)(src->size / 8);
    if (d->z.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX) {
        out->r1 = rv_vec_reg(&d->op[0]);
        out->r2 = rv_is_mem(src) ? 0 : rv_vec_reg(src);
        out->op = sse;
        return true;
    }
    if (d->z.raw.vex.L) out->ext |= EXT_WIDE;
    out->r1 = (uint16_t)ZydisRegisterGetId(d->op[0].reg.value);
    out->r2 = rv_is_mem(src) ? IN_MEMORY : (uint16_t)ZydisRegisterGetId(src->reg.value);
    out->imm = k & EXT_VECTOR ? 0 : (uint64_t)ZydisRegisterGetId(d->op[1].reg.value);
    out->op = avx;
    return true;
}
