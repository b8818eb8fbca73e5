/* x87. Arithmetic is executed by the host's x87 on a copy of the guest's registers; control
 * instructions are done here. FIP, FDP and FOP follow SDM vol. 1, 8.1.8 to the letter (every
 * non-control instruction sets FIP and FOP, every memory operand FDP) and never come from the host,
 * whose CPUs differ in when they update them. FCS and FDS read as zero, as on CPUs that deprecate
 * them. An unmasked exception is reported by #MF even when CR0.NE is clear: the machine has no
 * FERR# line. */
#include "vmm/cpu/interp/vec.h"

/* ---- checks ---- */

static inline void available(struct rv_interp *c, const struct rv_insn *i) {
    if (rv_unlikely(c->x.cr0 & (RV_CR0_EM | RV_CR0_TS))) rv_raise(c, i, RV_VEC_NM);
}

/* What a waiting instruction begins with. */
static inline void wait_check(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    if (rv_unlikely(rv_x87_pending(c->x.fx))) rv_raise(c, i, RV_VEC_MF);
}

/* ---- arithmetic ---- */

/* ext: what the operation does besides changing the state. r1 holds the opcode for FOP. */
#define EXT_LOAD  1u
#define EXT_STORE 2u
#define EXT_FLAGS 4u
#define EXT_C1    8u /* C1 is part of the result */

#define FSW_C1 0x200u

static uint64_t run(struct rv_interp *c, const struct rv_insn *i, void *operand) {
    uint8_t *area = c->vec->area;
    memcpy(area, c->x.fx, RV_FX_XMM);
    rv_fx_set32(area, RV_FX_MXCSR, RV_MXCSR_RESET);
    rv_thunk fn = (rv_thunk)(uintptr_t)i->aux;
    return fn(NULL, operand, area, &c->fl);
}

/* True when the operation left its memory operand alone, which an unmasked exception makes it do:
 * it writes neither of two different patterns. */
static bool untouched(const uint8_t *buf, unsigned size, uint8_t fill) {
    for (unsigned n = 0; n < size; n++)
        if (buf[n] != fill) return false;
    return true;
}

static void arith(struct rv_interp *c, const struct rv_insn *i) {
    wait_check(c, i);
    _Alignas(16) uint8_t buf[16];
    uint64_t fl;
    if (i->ext & EXT_STORE) {
        memset(buf, 0x5a, sizeof buf);
        run(c, i, buf);
        bool stored = true;
        if (rv_x87_pending(c->vec->area) && untouched(buf, i->size, 0x5a)) {
            memset(buf, 0xa5, sizeof buf);
            run(c, i, buf);
            stored = !untouched(buf, i->size, 0xa5);
        }
        /* What is not stored causes no page fault either. */
        if (stored) rv_vec_store(c, i, buf, i->size, false);
    } else {
        if (i->ext & EXT_LOAD) memcpy(buf, rv_vec_src(c, i, buf, i->size, false), i->size);
        fl = run(c, i, buf);
        if (i->ext & EXT_FLAGS) c->fl = (uint32_t)fl & 0xd501u;
    }
    uint8_t *fx = c->x.fx;
    const uint8_t *area = c->vec->area;
    unsigned c1 = rv_fx16(fx, RV_FX_FSW) & FSW_C1;
    memcpy(fx + RV_FX_FSW, area + RV_FX_FSW, RV_FX_FOP - RV_FX_FSW);
    memcpy(fx + RV_FX_ST, area + RV_FX_ST, 8 * 16);
    if ((c->bus->quirks & RV_QUIRK_X87_KEEPS_C1) && !(i->ext & EXT_C1))
        rv_fx_set16(fx, RV_FX_FSW, (rv_fx16(fx, RV_FX_FSW) & ~FSW_C1) | c1);
    rv_fx_set16(fx, RV_FX_FOP, i->r1);
    rv_fx_set64(fx, RV_FX_FIP, rv_insn_rip(c, i));
    if (i->ext & (EXT_LOAD | EXT_STORE)) {
        uint64_t ea = rv_ea_offset(c, i);
        if (i->asize == 4) ea = (uint32_t)ea;
        if (i->asize == 2) ea = (uint16_t)ea;
        rv_fx_set64(fx, RV_FX_FDP, ea);
    }
    return rv_next(c, i);
}

/* ---- control ---- */

#define FCW_VALID 0x1f3fu
#define FCW_ONES  0x0040u
static void set_fcw(uint8_t *fx, unsigned v) {
    rv_fx_set16(fx, RV_FX_FCW, (v & FCW_VALID) | FCW_ONES);
    rv_x87_summarize(fx);
}

static void fwait(struct rv_interp *c, const struct rv_insn *i) {
    if ((c->x.cr0 & (RV_CR0_MP | RV_CR0_TS)) == (RV_CR0_MP | RV_CR0_TS)) rv_raise(c, i, RV_VEC_NM);
    if (rv_x87_pending(c->x.fx)) rv_raise(c, i, RV_VEC_MF);
    return rv_next(c, i);
}

/* FNENI, FNDISI and FNSETPM do nothing since the 387. */
static void nop(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    return rv_next(c, i);
}

static void fninit(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    rv_x87_init(c->x.fx);
    return rv_next(c, i);
}

static void fnclex(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    rv_fx_set16(c->x.fx, RV_FX_FSW, rv_fx16(c->x.fx, RV_FX_FSW) & 0x7f00u);
    return rv_next(c, i);
}

static void fnstsw_ax(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    *rv_reg16(c, RV_GPR_OFFSET(RV_RAX)) = rv_fx16(c->x.fx, RV_FX_FSW);
    return rv_next(c, i);
}

static void fnstsw_m(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    rv_store16(c, i, rv_ea(c, i, 2, true), rv_fx16(c->x.fx, RV_FX_FSW));
    return rv_next(c, i);
}

static void fnstcw(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    rv_store16(c, i, rv_ea(c, i, 2, true), rv_fx16(c->x.fx, RV_FX_FCW));
    return rv_next(c, i);
}

static void fldcw(struct rv_interp *c, const struct rv_insn *i) {
    wait_check(c, i);
    set_fcw(c->x.fx, rv_load16(c, i, rv_ea(c, i, 2, false)));
    return rv_next(c, i);
}

/* ---- environments ---- */

#define REGS_SIZE 80u /* eight registers of ten bytes, ST(0) first */

/* The tag of physical register n in two bits (SDM vol. 1, 8.1.7). */
static unsigned full_tag(const uint8_t *fx, unsigned n) {
    if (!(fx[RV_FX_FTW] >> n & 1)) return 3;
    unsigned st = (n - RV_FSW_TOP(rv_fx16(fx, RV_FX_FSW))) & 7;
    const uint8_t *r = fx + RV_FX_ST + 16 * st;
    unsigned exponent = rv_fx16(r, 8) & 0x7fff;
    uint64_t mantissa = rv_fx64(r, 0);
    if (exponent == 0 && mantissa == 0) return 1;
    return exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

struct rv_x87_last rv_x87_last(const struct rv_interp *c) {
    const uint8_t *fx = c->x.fx;
    uint64_t quirks = rv_fx16(fx, RV_FX_FSW) & RV_FSW_PENDING ? 0 : c->bus->quirks;
    return (struct rv_x87_last){
        .fop = quirks & RV_QUIRK_X87_NO_FOP ? 0 : rv_fx16(fx, RV_FX_FOP),
        .fip = quirks & RV_QUIRK_X87_NO_FIP ? 0 : rv_fx64(fx, RV_FX_FIP),
        .fdp = quirks & RV_QUIRK_X87_NO_FDP ? 0 : rv_fx64(fx, RV_FX_FDP),
    };
}

/* The four layouts of SDM vol. 1, figures 8-9 to 8-12. In the real-mode ones an address is split in
 * 16 low bits and the rest. */
static unsigned env_store(const struct rv_interp *c, uint8_t *out, bool wide) {
    const uint8_t *fx = c->x.fx;
    bool protected = c->mode & (RV_MODE_PROT | RV_MODE_64);
    struct rv_x87_last last = rv_x87_last(c);
    unsigned tags = 0, fop = last.fop;
    for (unsigned n = 0; n < 8; n++) tags |= full_tag(fx, n) << 2 * n;
    uint32_t fip = (uint32_t)last.fip, fdp = (uint32_t)last.fdp;
    unsigned step = wide ? 4 : 2;
    if (wide) memset(out, 0xff, 28);
    rv_fx_set16(out, 0, rv_fx16(fx, RV_FX_FCW));
    rv_fx_set16(out, step, rv_fx16(fx, RV_FX_FSW));
    rv_fx_set16(out, 2 * step, tags);
    if (protected && wide) {
        rv_fx_set32(out, 12, fip);
        rv_fx_set32(out, 16, fop << 16);
        rv_fx_set32(out, 20, fdp);
        rv_fx_set16(out, 24, 0);
    } else if (protected) {
        rv_fx_set16(out, 6, fip);
        rv_fx_set16(out, 8, 0);
        rv_fx_set16(out, 10, fdp);
        rv_fx_set16(out, 12, 0);
    } else if (wide) {
        rv_fx_set16(out, 12, fip);
        rv_fx_set32(out, 16, (fip >> 16) << 12 | fop);
        rv_fx_set16(out, 20, fdp);
        rv_fx_set32(out, 24, (fdp >> 16) << 12);
    } else {
        rv_fx_set16(out, 6, fip);
        rv_fx_set16(out, 8, (fip >> 4 & 0xf000) | fop);
        rv_fx_set16(out, 10, fdp);
        rv_fx_set16(out, 12, fdp >> 4 & 0xf000);
    }
    return wide ? 28 : 14;
}

static unsigned env_load(struct rv_interp *c, const uint8_t *in, bool wide) {
    uint8_t *fx = c->x.fx;
    bool protected = c->mode & (RV_MODE_PROT | RV_MODE_64);
    unsigned step = wide ? 4 : 2, tags = rv_fx16(in, 2 * step), valid = 0;
    uint32_t fip, fdp;
    unsigned fop = 0;
    for (unsigned n = 0; n < 8; n++)
        if ((tags >> 2 * n & 3) != 3) valid |= 1u << n;
    if (protected && wide) {
        fip = rv_fx32(in, 12);
        fop = rv_fx16(in, 18) & 0x7ff;
        fdp = rv_fx32(in, 20);
    } else if (protected) {
        fip = rv_fx16(in, 6);
        fdp = rv_fx16(in, 10);
    } else if (wide) {
        fip = rv_fx16(in, 12) | (rv_fx32(in, 16) >> 12) << 16;
        fop = rv_fx16(in, 16) & 0x7ff;
        fdp = rv_fx16(in, 20) | (rv_fx32(in, 24) >> 12) << 16;
    } else {
        fip = rv_fx16(in, 6) | (rv_fx16(in, 8) & 0xf000u) << 4;
        fop = rv_fx16(in, 8) & 0x7ff;
        fdp = rv_fx16(in, 10) | (rv_fx16(in, 12) & 0xf000u) << 4;
    }
    rv_x87_set_top(fx, RV_FSW_TOP(rv_fx16(in, step)));
    rv_fx_set16(fx, RV_FX_FSW, rv_fx16(in, step));
    fx[RV_FX_FTW] = (uint8_t)valid;
    rv_fx_set16(fx, RV_FX_FOP, fop);
    rv_fx_set64(fx, RV_FX_FIP, fip);
    rv_fx_set64(fx, RV_FX_FDP, fdp);
    set_fcw(fx, rv_fx16(in, 0));
    return wide ? 28 : 14;
}

static void fnstenv(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    uint8_t buf[28];
    unsigned n = env_store(c, buf, i->size == 28);
    rv_vec_store(c, i, buf, n, false);
    set_fcw(c->x.fx, rv_fx16(c->x.fx, RV_FX_FCW) | 0x3f);
    return rv_next(c, i);
}

static void fldenv(struct rv_interp *c, const struct rv_insn *i) {
    wait_check(c, i);
    uint8_t buf[28];
    memcpy(buf, rv_vec_src(c, i, buf, i->size, false), i->size);
    env_load(c, buf, i->size == 28);
    return rv_next(c, i);
}

static void fnsave(struct rv_interp *c, const struct rv_insn *i) {
    available(c, i);
    uint8_t buf[28 + REGS_SIZE];
    unsigned n = env_store(c, buf, i->size == 28 + REGS_SIZE);
    for (unsigned r = 0; r < 8; r++) memcpy(buf + n + 10 * r, c->x.fx + RV_FX_ST + 16 * r, 10);
    rv_vec_store(c, i, buf, n + REGS_SIZE, false);
    rv_x87_init(c->x.fx);
    return rv_next(c, i);
}

static void frstor(struct rv_interp *c, const struct rv_insn *i) {
    wait_check(c, i);
    uint8_t buf[28 + REGS_SIZE];
    memcpy(buf, rv_vec_src(c, i, buf, i->size, false), i->size);
    unsigned n = env_load(c, buf, i->size == 28 + REGS_SIZE);
    for (unsigned r = 0; r < 8; r++) memcpy(c->x.fx + RV_FX_ST + 16 * r, buf + n + 10 * r, 10);
    return rv_next(c, i);
}

/* ---- decoding ---- */

static rv_op control_op(const struct rv_decode *d) {
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_FWAIT: return fwait;
    case ZYDIS_MNEMONIC_FNINIT: return fninit;
    case ZYDIS_MNEMONIC_FNCLEX: return fnclex;
    case ZYDIS_MNEMONIC_FNSTSW: return d->mem ? fnstsw_m : fnstsw_ax;
    case ZYDIS_MNEMONIC_FNSTCW: return fnstcw;
    case ZYDIS_MNEMONIC_FLDCW: return fldcw;
    case ZYDIS_MNEMONIC_FNSTENV: return fnstenv;
    case ZYDIS_MNEMONIC_FLDENV: return fldenv;
    case ZYDIS_MNEMONIC_FNSAVE: return fnsave;
    case ZYDIS_MNEMONIC_FRSTOR: return frstor;
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FSETPM287_NOP: return nop;
    default: return NULL;
    }
}

static bool gives_c1(ZydisMnemonic m) {
    return m == ZYDIS_MNEMONIC_FXAM || m == ZYDIS_MNEMONIC_FPREM || m == ZYDIS_MNEMONIC_FPREM1 ||
           m == ZYDIS_MNEMONIC_FINCSTP || m == ZYDIS_MNEMONIC_FDECSTP;
}

bool rv_vec_decode_x87(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedInstruction *z = &d->z;
    if (d->mem) out->size = (uint8_t)(d->mem->size / 8);
    out->op = control_op(d);
    if (out->op) return true;
    if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || z->opcode < 0xd8 || z->opcode > 0xdf)
        return false;

    unsigned reg = z->raw.modrm.reg;
    struct rv_thunk_key key;
    memset(&key, 0, sizeof key);
    key.form = RV_T_X87;
    key.opcode = z->opcode;
    if (d->mem) {
        key.modrm = (uint8_t)(reg << 3 | 6); /* [rsi] */
        out->ext = d->mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? EXT_STORE : EXT_LOAD;
    } else {
        key.modrm = (uint8_t)(0xc0 | reg << 3 | z->raw.modrm.rm);
        bool compare = (z->opcode == 0xdb || z->opcode == 0xdf) && (reg == 5 || reg == 6);
        out->ext = compare ? EXT_FLAGS : 0; /* FCOMI, FUCOMI and their popping forms */
    }
    if (gives_c1(z->mnemonic)) out->ext |= EXT_C1;
    unsigned modrm = z->raw.modrm.mod << 6 | reg << 3 | z->raw.modrm.rm;
    out->r1 = (uint16_t)((z->opcode & 7u) << 8 | modrm);
    out->op = arith;
    out->aux = (const void *)(uintptr_t)rv_thunk_get(c->vec->thunks, &key);
    return true;
}
