/* VEX-encoded instructions: AVX, AVX2, FMA, F16C, BMI1 and BMI2.
 *
 * All of them have the same shape: up to four registers, one of which may be memory instead. So one
 * form of thunk serves them all (RV_T_VEX): it takes the operands from a frame, runs the opcode and
 * puts them back, and only what the instruction writes goes from there to the guest. A few reach
 * memory element by element or have implied operands, and are C. */
#include "vmm/cpu/interp/vec.h"

/* ---- registers ---- */

static void ymm_get(const struct rv_interp *c, unsigned n, uint8_t *out) {
    memcpy(out, c->x.fx + RV_FX_XMM + 16 * n, 16);
    memcpy(out + 16, c->x.ymmh + 16 * n, 16);
}
static void ymm_set(struct rv_interp *c, unsigned n, const uint8_t *in) {
    memcpy(c->x.fx + RV_FX_XMM + 16 * n, in, 16);
    memcpy(c->x.ymmh + 16 * n, in + 16, 16);
}

/* SDM vol. 2A, 2.4: that AVX is enabled was known when this was decoded. */
static inline void avx_check(struct rv_interp *c, const struct rv_insn *i) {
    if (rv_unlikely(c->x.cr0 & RV_CR0_TS)) rv_raise(c, i, RV_VEC_NM);
}

/* ---- those with a thunk ---- */

/* struct rv_insn.r1: the numbers of the four registers, four bits each. */
enum { REG, V, RM, IS4, OPERANDS };
/* struct rv_insn.r2: what they are. */
#define GPR(n)  (1u << (n))       /* a general register */
#define OUT(n)  (1u << (4 + (n))) /* is written */
#define MEMORY  (1u << 8)         /* RM is in memory */
#define ALIGNED (1u << 9)         /* and has to be aligned to its size */

struct frame {
    _Alignas(32) uint8_t operand[OPERANDS][32];
    uint64_t rdx; /* MULX's implied source */
};
_Static_assert(offsetof(struct frame, rdx) == RV_VEX_RDX, "vec_thunk.c knows it");

static unsigned number(const struct rv_insn *i, unsigned operand) {
    return i->r1 >> (4 * operand) & 15;
}

static inline rv_thunk thunk(const struct rv_insn *i) { return (rv_thunk)(uintptr_t)i->aux; }

/* VCVTPS2PH, struct rv_insn.ext: it does not flush to zero. */
#define EXT_HALF 1u

/* Whether one of the halves in RM is tiny, exact or not. */
static bool has_tiny_half(const struct frame *f) {
    for (unsigned at = 0; at < 16; at += 2) {
        uint16_t v;
        memcpy(&v, f->operand[RM] + at, sizeof v);
        if (!(v & 0x7c00) && (v & 0x3ff)) return true;
    }
    return false;
}

/* Runs it on the frame, and raises #XM before anything but MXCSR changed. src is RM in memory. */
static void run_fp(struct rv_interp *c, const struct rv_insn *i, struct frame *f, const void *src) {
    uint32_t mxcsr = rv_fx32(c->x.fx, RV_FX_MXCSR);
    _Alignas(16) uint8_t fx[RV_FX_MXCSR + 4];
    if (rv_likely((mxcsr & RV_MXCSR_MASKS) == RV_MXCSR_MASKS)) {
        rv_fx_set32(fx, RV_FX_MXCSR, mxcsr);
        c->fl = (uint16_t)thunk(i)(f, src, fx, &c->fl);
        rv_fx_set32(c->x.fx, RV_FX_MXCSR, rv_fx32(fx, RV_FX_MXCSR));
        return;
    }
    /* As in vec_sse.c. */
    struct frame flushed = *f;
    uint32_t quiet = (mxcsr & ~RV_MXCSR_FLAGS) | RV_MXCSR_MASKS;
    const void *in = src == f->operand[RM] ? flushed.operand[RM] : src;
    rv_fx_set32(fx, RV_FX_MXCSR, quiet | RV_MXCSR_FTZ);
    thunk(i)(&flushed, in, fx, &c->fl);
    uint32_t tiny = mxcsr & RV_MXCSR_UM ? 0 : rv_fx32(fx, RV_FX_MXCSR) & (RV_MXCSR_UM >> 7);
    rv_fx_set32(fx, RV_FX_MXCSR, quiet);
    uint16_t fl = (uint16_t)thunk(i)(f, src, fx, &c->fl);
    if (i->ext == EXT_HALF && !(mxcsr & RV_MXCSR_UM) && has_tiny_half(f)) tiny = RV_MXCSR_UM >> 7;
    rv_vec_unmasked(c, i, mxcsr, (rv_fx32(fx, RV_FX_MXCSR) & RV_MXCSR_FLAGS) | tiny);
    c->fl = fl;
}

static void put_out(struct rv_interp *c, const struct rv_insn *i, const struct frame *f) {
    /* MULX to twice the same register leaves the upper half, which is REG. */
    for (unsigned n = RM + 1; n-- > REG;) {
        if (!(i->r2 & OUT(n))) continue;
        if (i->r2 & GPR(n))
            memcpy(&c->x.gpr[number(i, n)], f->operand[n], 8);
        else
            ymm_set(c, number(i, n), f->operand[n]);
    }
}

static void take_in(const struct rv_interp *c, const struct rv_insn *i, struct frame *f) {
    for (unsigned n = 0; n < OPERANDS; n++) {
        if (i->r2 & GPR(n)) {
            memset(f->operand[n], 0, 32);
            /* What is only written, to RM as if that were memory, is written in part. */
            if (n != RM || !(i->r2 & OUT(RM))) memcpy(f->operand[n], &c->x.gpr[number(i, n)], 8);
        } else {
            ymm_get(c, number(i, n), f->operand[n]);
        }
    }
    f->rdx = c->x.gpr[RV_RDX];
}

static uint64_t operand_ea(struct rv_interp *c, const struct rv_insn *i, bool write) {
    uint64_t va = rv_ea(c, i, i->size, write);
    if ((i->r2 & ALIGNED) && (va & (i->size - 1u))) rv_raise_error(c, i, RV_VEC_GP, 0);
    return va;
}

static void vector(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    struct frame f;
    take_in(c, i, &f);
    if (!(i->r2 & MEMORY)) {
        run_fp(c, i, &f, f.operand[RM]);
        put_out(c, i, &f);
        return rv_next(c, i);
    }
    if (i->r2 & OUT(RM)) {
        uint64_t va = operand_ea(c, i, true);
        memset(f.operand[RM], 0, sizeof f.operand[RM]);
        /* VCVTPS2PH: its exceptions come before the store's. */
        run_fp(c, i, &f, f.operand[RM]);
        rv_store_bytes(c, i, va, f.operand[RM], i->size);
        return rv_next(c, i);
    }
    uint64_t va = operand_ea(c, i, false);
    const void *src = rv_fast_r(c, va, i->size);
    if (!src) {
        rv_load_bytes(c, i, va, f.operand[RM], i->size);
        src = f.operand[RM];
    }
    run_fp(c, i, &f, src);
    put_out(c, i, &f);
    return rv_next(c, i);
}

/* BMI: neither AVX nor a clear TS is asked for. */
static void integer(struct rv_interp *c, const struct rv_insn *i) {
    struct frame f;
    take_in(c, i, &f);
    if (i->r2 & MEMORY) {
        uint64_t v = i->size == 8 ? rv_load64(c, i, rv_ea(c, i, 8, false))
                                  : rv_load32(c, i, rv_ea(c, i, 4, false));
        memcpy(f.operand[RM], &v, sizeof v);
    }
    c->fl = (uint16_t)(thunk(i)(&f, f.operand[RM], c->x.fx, &c->fl) & ~(uint64_t)i->open);
    put_out(c, i, &f);
    return rv_next(c, i);
}

/* ---- those in C ---- */

/* Outside of 64-bit mode there are eight registers. */
static unsigned registers(const struct rv_interp *c) { return c->mode & RV_MODE_64 ? 16 : 8; }

static void vzeroupper(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    memset(c->x.ymmh, 0, 16u * registers(c));
    return rv_next(c, i);
}

static void vzeroall(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    memset(c->x.ymmh, 0, 16u * registers(c));
    memset(c->x.fx + RV_FX_XMM, 0, 16u * registers(c));
    return rv_next(c, i);
}

static bool chosen(const uint8_t *mask, unsigned at, unsigned size) {
    return mask[at + size - 1] & 0x80;
}

/* struct rv_insn.ext of what goes by elements: bytes of one, whether an index has four, and whether
 * the vectors have 256 bits. */
#define EXT(element, narrow, wide) (uint8_t)((unsigned)(element) | (narrow) << 4 | (wide) << 5)
#define ELEMENT(i)                 ((i)->ext & 15u)
#define INDEX(i)                   ((i)->ext >> 4 & 1u ? 4u : 8u)
#define WIDE(i)                    ((i)->ext >> 5)

/* VMASKMOVPx, VPMASKMOVx: V is the mask. What is not chosen is not accessed. */
static void masked_load(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    unsigned size = ELEMENT(i), all = 16u << WIDE(i);
    uint8_t mask[32], out[32] = {0};
    ymm_get(c, number(i, V), mask);
    uint64_t va = rv_ea(c, i, all, false);
    for (unsigned at = 0; at < all; at += size)
        if (chosen(mask, at, size)) rv_load_bytes(c, i, va + at, out + at, size);
    ymm_set(c, number(i, REG), out);
    return rv_next(c, i);
}

static void masked_store(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    unsigned size = ELEMENT(i), all = 16u << WIDE(i);
    uint8_t mask[32], data[32];
    ymm_get(c, number(i, V), mask);
    ymm_get(c, number(i, REG), data);
    uint64_t va = rv_ea(c, i, all, true);
    for (unsigned at = 0; at < all; at += size)
        if (chosen(mask, at, size)) rv_probe_write(c, i, va + at, size);
    for (unsigned at = 0; at < all; at += size)
        if (chosen(mask, at, size)) rv_store_bytes(c, i, va + at, data + at, size);
    return rv_next(c, i);
}

/* VGATHERxx, VPGATHERxx (SDM vol. 2): from the lowest element up, each in the destination and off
 * the mask before the next is read, so that after a fault it goes on where it was. RM is the vector
 * of indices, V the mask. */
static void gather(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    unsigned size = ELEMENT(i), index = INDEX(i), widest = size > index ? size : index;
    unsigned all = 16u << WIDE(i), count = all / widest;
    uint8_t mask[32], out[32], indices[32];
    ymm_get(c, number(i, V), mask);
    ymm_get(c, number(i, REG), out);
    ymm_get(c, number(i, RM), indices);
    for (unsigned at = 0; at < 32; at += size)
        memset(mask + at, at < all && chosen(mask, at, size) ? 0xff : 0, size);
    ymm_set(c, number(i, V), mask);
    for (unsigned n = 0; n < count; n++) {
        unsigned at = n * size;
        if (!chosen(mask, at, size)) continue;
        int64_t by;
        int32_t narrow;
        memcpy(index == 8 ? (void *)&by : (void *)&narrow, indices + n * index, index);
        if (index == 4) by = narrow;
        uint64_t va = *rv_reg64(c, i->base) + ((uint64_t)by << i->scale) + (uint64_t)i->disp;
        if (i->ea != RV_EA_FLAT) va = rv_ea_slow(c, i, va, size, false);
        rv_load_bytes(c, i, va, out + at, size);
        memset(mask + at, 0, size);
        ymm_set(c, number(i, REG), out);
        ymm_set(c, number(i, V), mask);
    }
    memset(out + count * size, 0, 32 - count * size);
    memset(mask, 0, sizeof mask);
    ymm_set(c, number(i, REG), out);
    ymm_set(c, number(i, V), mask);
    return rv_next(c, i);
}

/* REG is the data, RM the mask; memory at rDI. */
static void vmaskmovdqu(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    rv_vec_store_masked(c, i, c->x.fx + RV_FX_XMM + 16 * number(i, REG),
                        c->x.fx + RV_FX_XMM + 16 * number(i, RM), 16);
    return rv_next(c, i);
}

static void vldmxcsr(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    uint32_t v = rv_load32(c, i, rv_ea(c, i, 4, false));
    if (v & ~RV_MXCSR_VALID) rv_raise_error(c, i, RV_VEC_GP, 0);
    rv_fx_set32(c->x.fx, RV_FX_MXCSR, v);
    return rv_next(c, i);
}

static void vstmxcsr(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    rv_store32(c, i, rv_ea(c, i, 4, true), rv_fx32(c->x.fx, RV_FX_MXCSR));
    return rv_next(c, i);
}

/* VPCMPxSTRx: the thunks of the older forms. */
#define EXT_ECX  1u
#define EXT_XMM0 2u
static void vpcmpstr(struct rv_interp *c, const struct rv_insn *i) {
    avx_check(c, i);
    _Alignas(16) uint8_t buf[16];
    const void *src = c->x.fx + RV_FX_XMM + 16 * number(i, RM);
    if (i->r2 & MEMORY) src = rv_vec_src(c, i, buf, 16, false);
    uint64_t r = thunk(i)(c->x.fx + RV_FX_XMM + 16 * number(i, REG), src, c->x.fx, c->x.gpr);
    c->fl = (uint16_t)(r & 0xd501);
    if (i->ext == EXT_ECX)
        c->x.gpr[RV_RCX] = r >> 32;
    else
        memset(c->x.ymmh, 0, 16);
    return rv_next(c, i);
}

/* ---- decoding ---- */

bool rv_vex_aligned(ZydisMnemonic m) {
    switch (m) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTPS: return true;
    default: return false;
    }
}

static bool is_ymm(const ZydisDecodedOperand *o) {
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_YMM0 &&
           o->reg.value <= ZYDIS_REGISTER_YMM15;
}

/* Which of the four an operand is; OPERANDS: none of them. */
static unsigned place(const ZydisDecodedOperand *o) {
    switch (o->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG: return REG;
    case ZYDIS_OPERAND_ENCODING_NDSNDD: return V;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM: return RM;
    case ZYDIS_OPERAND_ENCODING_IS4: return IS4;
    default: return OPERANDS;
    }
}

static unsigned register_number(const ZydisDecodedOperand *o) {
    if (is_ymm(o)) return (unsigned)(o->reg.value - ZYDIS_REGISTER_YMM0);
    if (rv_is_xmm(o)) return (unsigned)(o->reg.value - ZYDIS_REGISTER_XMM0);
    return (unsigned)(rv_decode_gpr(o->reg.value) - RV_GPR_OFFSET(0)) / 8;
}

/* Fills r1, r2 and size. */
static void operands(const struct rv_decode *d, struct rv_insn *out) {
    out->r1 = out->r2 = 0;
    for (unsigned n = 0; n < d->z.operand_count; n++) {
        const ZydisDecodedOperand *o = &d->op[n];
        unsigned p = place(o);
        if (p == OPERANDS) continue;
        if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) out->r2 |= OUT(p);
        if (rv_is_mem(o)) {
            out->r2 |= MEMORY;
            out->size = (uint8_t)(o->size / 8);
            if (rv_vex_aligned(d->z.mnemonic)) out->r2 |= ALIGNED;
            continue;
        }
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
        if (!is_ymm(o) && !rv_is_xmm(o)) out->r2 |= GPR(p);
        out->r1 |= (uint16_t)(register_number(o) << (4 * p));
    }
}

static void key_of(const struct rv_decode *d, const struct rv_insn *out, struct rv_thunk_key *key) {
    rv_vec_key(d, key);
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
    key->form = RV_T_VEX;
    key->prefix = prefixes[d->z.raw.vex.pp];
    key->flags = out->op == vector ? RV_TF_FP : 0;
    if (d->z.raw.vex.W) key->flags |= RV_TF_REXW;
    if (d->z.raw.vex.L) key->flags |= RV_TF_L;
    bool reg = false;
    for (unsigned n = 0; n < d->z.operand_count; n++) {
        const ZydisDecodedOperand *o = &d->op[n];
        switch (place(o)) {
        case REG: reg = true; break;
        case V: key->flags |= RV_TF_V; break;
        case IS4: key->imm = (uint8_t)((key->imm & 0x0f) | RV_VEX_IS4 << 4); break;
        case RM:
            if (!(out->r2 & (MEMORY | GPR(RM)))) key->flags |= RV_TF_REG;
            break;
        default: break;
        }
    }
    if (out->r2 & GPR(REG)) key->flags |= RV_TF_GPR_REG;
    if (out->r2 & GPR(V)) key->flags |= RV_TF_GPR_V;
    if (!reg) {
        key->flags |= RV_TF_EXT;
        key->modrm = d->z.raw.modrm.reg;
    }
}

static bool decode_elements(const struct rv_decode *d, struct rv_insn *out) {
    unsigned element, index = 0;
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD: element = 4; break;
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ: element = 8; break;
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VPGATHERDD: element = index = 4; break;
    case ZYDIS_MNEMONIC_VGATHERDPD:
    case ZYDIS_MNEMONIC_VPGATHERDQ: element = 8, index = 4; break;
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERQD: element = 4, index = 8; break;
    case ZYDIS_MNEMONIC_VGATHERQPD:
    case ZYDIS_MNEMONIC_VPGATHERQQ: element = index = 8; break;
    default: return false;
    }
    if (index) {
        ZydisRegister r = d->mem->mem.index;
        ZydisRegister first = r >= ZYDIS_REGISTER_YMM0 ? ZYDIS_REGISTER_YMM0 : ZYDIS_REGISTER_XMM0;
        out->r1 |= (uint16_t)((unsigned)(r - first) << (4 * RM));
        out->op = gather;
    } else {
        out->op = out->r2 & OUT(REG) ? masked_load : masked_store;
    }
    out->ext = EXT(element, index == 4, d->z.raw.vex.L);
    return true;
}

static bool decode_string(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPISTRI: out->ext = EXT_ECX; break;
    case ZYDIS_MNEMONIC_VPCMPESTRM:
    case ZYDIS_MNEMONIC_VPCMPISTRM: out->ext = EXT_XMM0; break;
    default: return false;
    }
    struct rv_thunk_key key;
    rv_vec_key(d, &key);
    key.form = RV_T_STRING;
    key.prefix = 0x66;
    key.flags = d->z.raw.vex.W ? RV_TF_REXW : 0; /* lengths in RAX and RDX */
    out->aux = (const void *)(uintptr_t)rv_thunk_get(c->vec->thunks, &key);
    out->op = vpcmpstr;
    return true;
}

/* Those in C. */
static bool decode_plain(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_VZEROUPPER: out->op = vzeroupper; return true;
    case ZYDIS_MNEMONIC_VZEROALL: out->op = vzeroall; return true;
    case ZYDIS_MNEMONIC_VLDMXCSR: out->op = vldmxcsr; return true;
    case ZYDIS_MNEMONIC_VSTMXCSR: out->op = vstmxcsr; return true;
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        rv_vec_masked_operand(d, out);
        out->op = vmaskmovdqu;
        return true;
    default: return decode_elements(d, out) || decode_string(c, d, out);
    }
}

bool rv_vec_decode_vex(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    if (!c->profile->v3) return false;
    switch (d->z.meta.isa_ext) {
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
        if (!(c->mode & RV_MODE_PROT)) return false;
        out->op = integer;
        break;
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_FMA:
        if (!(c->mode & RV_MODE_AVX) || d->z.mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ) return false;
        out->op = vector;
        break;
    default: return false;
    }
    if (rv_vec_decode_approximate(c, d, out)) return true;
    operands(d, out);
    if (decode_plain(c, d, out)) return true;
    if (d->z.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH) out->ext = EXT_HALF;
    struct rv_thunk_key key;
    key_of(d, out, &key);
    out->aux = (const void *)(uintptr_t)rv_thunk_get(c->vec->thunks, &key);
    return true;
}
