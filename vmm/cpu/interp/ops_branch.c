/* Near control transfers, and the end of a block. The *64 operations are for 64-bit code, where CS
 * has no base and no limit. */
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/seg.h"

/* Closes a block that ran into its page's end or its longest length. */
void rv_op_block_end(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t rip = c->block->va - c->cs_base + i->off;
    c->x.rip = c->mode & RV_MODE_64 ? rip : rip & 0xffffffffu;
}

#define JCC64(cc)                                                                                  \
    static void jcc64_##cc(struct rv_interp *c, const struct rv_insn *i) {                         \
        c->x.rip = rv_cond(c->fl, 0x##cc) ? i->imm : c->block->va + i->off + i->len;               \
    }
RV_ALL_CC(JCC64)
#define JCC64_NAME(cc) jcc64_##cc,
const rv_op rv_jcc64_ops[16] = {RV_ALL_CC(JCC64_NAME)};

RV_OP(jmp64) { c->x.rip = i->imm; }

RV_OP(call64) {
    uint64_t sp = c->x.gpr[RV_RSP] - 8;
    rv_store64(c, i, sp, c->block->va + i->off + i->len);
    c->x.gpr[RV_RSP] = sp;
    c->x.rip = i->imm;
}

static void check64(struct rv_interp *c, const struct rv_insn *i, uint64_t rip) {
    if (rv_unlikely(!rv_canonical(rip))) rv_raise_error(c, i, RV_VEC_GP, 0);
}

RV_OP(ret64) {
    uint64_t rip = rv_load64(c, i, c->x.gpr[RV_RSP]);
    check64(c, i, rip);
    c->x.gpr[RV_RSP] += 8 + i->imm;
    c->x.rip = rip;
}

static inline uint64_t target64(struct rv_interp *c, const struct rv_insn *i) {
    return i->r1 ? *rv_reg64(c, i->r1) : rv_load64(c, i, rv_ea(c, i, 8, false));
}

RV_OP(jmp_ind64) {
    uint64_t rip = target64(c, i);
    check64(c, i, rip);
    c->x.rip = rip;
}

/* Processors push before they look at the target: a bad one faults with the return address already
 * in memory. */
RV_OP(call_ind64) {
    uint64_t rip = target64(c, i), sp = c->x.gpr[RV_RSP] - 8;
    rv_store64(c, i, sp, c->block->va + i->off + i->len);
    check64(c, i, rip);
    c->x.gpr[RV_RSP] = sp;
    c->x.rip = rip;
}

/* ---- every mode ---- */

/* Truncates a target to the operand size and checks it against CS. */
static uint64_t check_target(struct rv_interp *c, const struct rv_insn *i, uint64_t rip) {
    if (c->mode & RV_MODE_64) {
        check64(c, i, rip);
        return rip;
    }
    rip &= rv_mask(i->size);
    if (rip > c->x.seg[RV_CS].limit) rv_raise_error(c, i, RV_VEC_GP, 0);
    return rip;
}

/* imm: signed displacement from the next instruction. */
static uint64_t relative(struct rv_interp *c, const struct rv_insn *i) {
    return check_target(c, i, rv_next_rip(c, i) + i->imm);
}

RV_OP(jcc) {
    if (rv_cond(c->fl, i->ext))
        c->x.rip = relative(c, i);
    else
        rv_end(c, i);
}

RV_OP(jmp) { c->x.rip = relative(c, i); }

RV_OP(call) {
    uint64_t rip = relative(c, i);
    rv_push(c, i, i->size, rv_next_rip(c, i));
    c->x.rip = rip;
}

RV_OP(ret) {
    uint64_t rip = check_target(c, i, rv_peek(c, i, i->size, 0));
    rv_sp_set(c, c->x.gpr[RV_RSP] + i->size + i->imm);
    c->x.rip = rip;
}

static uint64_t target(struct rv_interp *c, const struct rv_insn *i) {
    uint64_t rip =
        i->r1 ? rv_reg_get(c, i->r1, i->size) : rv_load(c, i, rv_ea(c, i, i->size, false), i->size);
    return check_target(c, i, rip);
}

RV_OP(jmp_ind) { c->x.rip = target(c, i); }

RV_OP(call_ind) {
    uint64_t rip = target(c, i);
    rv_push(c, i, i->size, rv_next_rip(c, i));
    c->x.rip = rip;
}

/* ext 0 LOOP, 1 LOOPE, 2 LOOPNE. */
RV_OP(loop) {
    uint64_t mask = rv_mask(i->asize), n = (c->x.gpr[RV_RCX] - 1) & mask;
    bool taken = n != 0 && (i->ext == 0 || rv_cond(c->fl, i->ext == 1 ? 4 : 5));
    uint64_t rip = taken ? relative(c, i) : rv_next_rip(c, i);
    rv_reg_set(c, RV_GPR_OFFSET(RV_RCX), i->asize, n);
    c->x.rip = rip;
}

RV_OP(jcxz) {
    bool taken = !(c->x.gpr[RV_RCX] & rv_mask(i->asize));
    c->x.rip = taken ? relative(c, i) : rv_next_rip(c, i);
}
