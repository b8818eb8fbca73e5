/* Stack operations. The 64-bit forms of PUSH and POP are apart because they are everywhere. */
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/seg.h"

uint64_t rv_stack_mask(const struct rv_interp *c) {
    if (c->mode & RV_MODE_64) return ~0ull;
    return c->x.seg[RV_SS].attr & RV_SEG_DB ? 0xffffffffu : 0xffff;
}

uint64_t rv_stack_linear(struct rv_interp *c, const struct rv_insn *i, uint64_t sp, unsigned size,
                         bool write) {
    if (c->mode & RV_MODE_64) return sp;
    return rv_seg_linear(c, i, RV_SS, sp & rv_stack_mask(c), size, write);
}

void rv_push(struct rv_interp *c, const struct rv_insn *i, unsigned size, uint64_t v) {
    uint64_t sp = (c->x.gpr[RV_RSP] - size) & rv_stack_mask(c);
    rv_store(c, i, rv_stack_linear(c, i, sp, size, true), size, v);
    rv_sp_set(c, sp);
}

uint64_t rv_peek(struct rv_interp *c, const struct rv_insn *i, unsigned size, unsigned depth) {
    uint64_t sp = (c->x.gpr[RV_RSP] + (uint64_t)depth * size) & rv_stack_mask(c);
    return rv_load(c, i, rv_stack_linear(c, i, sp, size, false), size);
}

RV_OP(push_r64) {
    uint64_t sp = c->x.gpr[RV_RSP] - 8;
    rv_store64(c, i, sp, *rv_reg64(c, i->r1));
    c->x.gpr[RV_RSP] = sp;
    rv_next(c, i);
}

RV_OP(pop_r64) {
    uint64_t v = rv_load64(c, i, c->x.gpr[RV_RSP]);
    c->x.gpr[RV_RSP] += 8;
    *rv_reg64(c, i->r1) = v;
    rv_next(c, i);
}

/* PUSH of a register, memory (ext 1) or immediate (ext 2). */
RV_OP(push) {
    uint64_t v;
    if (i->ext == 2)
        v = i->imm;
    else if (i->ext == 1)
        v = rv_load(c, i, rv_ea(c, i, i->size, false), i->size);
    else
        v = rv_reg_get(c, i->r1, i->size);
    rv_push(c, i, i->size, v);
    rv_next(c, i);
}

/* POP to memory computes the address with the stack pointer already raised (SDM vol. 2, POP). */
RV_OP(pop) {
    uint64_t v = rv_peek(c, i, i->size, 0), old = c->x.gpr[RV_RSP];
    if (i->ext == 1) {
        rv_sp_set(c, old + i->size);
        uint64_t ea = rv_ea_offset(c, i);
        c->x.gpr[RV_RSP] = old;
        uint64_t va = i->ea == RV_EA_FLAT ? ea : rv_ea_slow(c, i, ea, i->size, true);
        rv_store(c, i, va, i->size, v);
        rv_sp_set(c, old + i->size);
    } else {
        rv_sp_set(c, old + i->size);
        rv_reg_set(c, i->r1, i->size, v);
    }
    rv_next(c, i);
}

RV_OP(pusha) {
    unsigned size = i->size;
    uint64_t mask = rv_stack_mask(c), sp = c->x.gpr[RV_RSP];
    /* All eight or none: check the lowest and the highest first. */
    for (unsigned n = 8; n >= 1; n--)
        rv_probe_write(c, i, rv_stack_linear(c, i, (sp - n * size) & mask, size, true), size);
    for (unsigned n = 0; n < 8; n++) {
        uint64_t at = (sp - (n + 1) * size) & mask;
        rv_store(c, i, rv_stack_linear(c, i, at, size, true), size, c->x.gpr[n]);
    }
    rv_sp_set(c, sp - 8 * size);
    rv_next(c, i);
}

RV_OP(popa) {
    unsigned size = i->size;
    uint64_t v[8];
    for (unsigned n = 0; n < 8; n++) v[n] = rv_peek(c, i, size, n);
    rv_sp_set(c, c->x.gpr[RV_RSP] + 8 * size);
    for (unsigned n = 0; n < 8; n++)
        if (7 - n != RV_RSP) rv_reg_set(c, RV_GPR_OFFSET(7 - n), size, v[n]);
    rv_next(c, i);
}

static bool vm86_iopl_short(const struct rv_interp *c) {
    return (c->x.rflags & RV_FL_VM) && (c->x.rflags & RV_FL_IOPL) != RV_FL_IOPL;
}

RV_OP(pushf) {
    if (vm86_iopl_short(c)) rv_raise_error(c, i, RV_VEC_GP, 0);
    rv_push(c, i, i->size, rv_flags_get(c) & ~(uint64_t)(RV_FL_RF | RV_FL_VM));
    rv_next(c, i);
}

/* Which flags POPF and IRET may change depends on privilege (SDM vol. 2, POPF, table 4-16). */
void rv_flags_pop(struct rv_interp *c, uint64_t v, unsigned size) {
    uint64_t may = RV_FL_ARITH | RV_FL_TF | RV_FL_DF | RV_FL_NT | RV_FL_AC | RV_FL_ID;
    unsigned iopl = (c->x.rflags & RV_FL_IOPL) >> 12;
    if (c->cpl == 0) may |= RV_FL_IOPL;
    if (c->cpl <= iopl) may |= RV_FL_IF;
    if (size == 2) may &= 0xffff;
    uint64_t old = rv_flags_get(c);
    /* POPF clears RF in its wider forms. */
    rv_flags_set(c, (old & ~may & ~(uint64_t)(size == 2 ? 0 : RV_FL_RF)) | (v & may));
}

RV_OP(popf) {
    if (vm86_iopl_short(c)) rv_raise_error(c, i, RV_VEC_GP, 0);
    uint64_t v = rv_peek(c, i, i->size, 0);
    rv_sp_set(c, c->x.gpr[RV_RSP] + i->size);
    rv_flags_pop(c, v, i->size);
    rv_mmu_mode(c);
    rv_leave(c);
    rv_end(c, i);
}

/* ENTER (SDM vol. 2): imm bits 0-15 the frame's size, ext the nesting level. */
RV_OP(enter) {
    unsigned size = i->size, level = i->ext & 31;
    uint64_t mask = rv_stack_mask(c), sp = c->x.gpr[RV_RSP], bp = c->x.gpr[RV_RBP];
    uint64_t frame = (sp - size) & mask;
    /* What EBP becomes is all of ESP, though on a 16-bit stack only SP moves (SDM vol. 2, ENTER).
     */
    uint64_t pointer = mask == 0xffff ? (sp & ~mask) | frame : frame;
    uint64_t final = (frame - (level ? (uint64_t)level * size : 0) - i->imm) & mask;
    /* Both ends of the frame must be writable before anything changes; the push comes first. */
    rv_probe_write(c, i, rv_stack_linear(c, i, frame, size, true), size);
    rv_probe_write(c, i, rv_stack_linear(c, i, final, size, true), size);
    rv_store(c, i, rv_stack_linear(c, i, frame, size, true), size, bp);
    uint64_t at = frame;
    for (unsigned n = 1; n < level; n++) {
        uint64_t v =
            rv_load(c, i, rv_stack_linear(c, i, (bp - n * size) & mask, size, false), size);
        at = (at - size) & mask;
        rv_store(c, i, rv_stack_linear(c, i, at, size, true), size, v);
    }
    if (level) {
        at = (at - size) & mask;
        rv_store(c, i, rv_stack_linear(c, i, at, size, true), size, pointer);
    }
    rv_reg_set(c, RV_GPR_OFFSET(RV_RBP), size, pointer);
    rv_sp_set(c, final);
    rv_next(c, i);
}

RV_OP(leave_insn) {
    uint64_t mask = rv_stack_mask(c), bp = c->x.gpr[RV_RBP] & mask;
    uint64_t v = rv_load(c, i, rv_stack_linear(c, i, bp, i->size, false), i->size);
    rv_sp_set(c, bp + i->size);
    rv_reg_set(c, RV_GPR_OFFSET(RV_RBP), i->size, v);
    rv_next(c, i);
}
