/* Half of all accesses to memory are to the stack, and most of these are not the first in their
 * block. So a block with such accesses asks once, before it begins, whether all of them lie in the
 * page of the set's window (struct rv_window); then they need no look at the TLB. When they do not,
 * the window is moved, or the block is interpreted this once.
 *
 * Nothing inside a block closes the window without ending the block: whatever drops entries of the
 * TLB sets c->changed. */
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/xlate/translate.h"

/* How far from the stack pointer at the block's beginning; more would too often cross a page. */
#define REACH 512

void rv_stack_begin(struct rv_translation *t) {
    t->sp_known = true;
    t->sp = 0;
}

bool rv_on_stack(const struct rv_translation *t) {
    const struct rv_insn *i = t->i;
    return i->ea == RV_EA_FLAT && i->asize == 8 && i->base == RV_GPR_OFFSET(RV_RSP) &&
           i->index == offsetof(struct rv_interp, zero);
}

static bool within_reach(const struct rv_translation *t, int64_t disp) {
    return t->sp_known && disp > -REACH && disp < REACH && t->sp + disp > -REACH &&
           t->sp + disp < REACH;
}

static void take(struct rv_translation *t, int64_t disp, unsigned size) {
    struct rv_tb *tb = t->tb;
    if (!within_reach(t, disp)) return;
    int64_t first = t->sp + disp, end = first + size;
    bool none = tb->low == tb->high;
    if (none || first < tb->low) tb->low = (int16_t)first;
    if (none || end > tb->high) tb->high = (int16_t)end;
}

static bool pushes(rv_op op, const struct rv_insn *i) {
    return op == rv_op_call64 || op == rv_op_call_ind64 || op == rv_op_push_r64 ||
           (op == rv_op_push && i->size == 8);
}
static bool pops(rv_op op) { return op == rv_op_pop_r64 || op == rv_op_ret64; }

void rv_stack_note(struct rv_translation *t) {
    const struct rv_insn *i = t->i;
    const struct rv_decode *d = t->d;
    if (pushes(i->op, i)) take(t, -8, 8);
    if (pops(i->op)) take(t, 0, 8);
    if (!rv_on_stack(t)) return;
    for (unsigned n = 0; n < d->z.operand_count; n++) {
        const ZydisDecodedOperand *o = &d->op[n];
        if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || o->mem.type != ZYDIS_MEMOP_TYPE_MEM ||
            o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM || o->size == 0 || o->size > 256)
            continue;
        if (o->size >= 128 && !rv_is_unaligned(&d->z)) continue;
        take(t, i->disp, o->size / 8u);
    }
}

void rv_stack_follow(struct rv_translation *t, bool valid) {
    const struct rv_decode *d = t->d;
    if (!valid) t->sp_known = false;
    if (!t->sp_known) return;
    const ZydisDecodedOperand *to = NULL;
    for (unsigned n = 0; n < d->z.operand_count; n++) {
        const ZydisDecodedOperand *o = &d->op[n];
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
            (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value) ==
                ZYDIS_REGISTER_RSP)
            to = o;
    }
    if (!to) return;
    const ZydisDecodedOperand *by = &d->op[1];
    bool whole = to == &d->op[0] && to->reg.value == ZYDIS_REGISTER_RSP;
    if (pushes(t->i->op, t->i))
        t->sp -= 8;
    else if (t->i->op == rv_op_pop_r64 && t->i->r1 != RV_GPR_OFFSET(RV_RSP))
        t->sp += 8;
    else if (whole && d->z.mnemonic == ZYDIS_MNEMONIC_ADD &&
             by->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        t->sp += (int32_t)by->imm.value.s;
    else if (whole && d->z.mnemonic == ZYDIS_MNEMONIC_SUB &&
             by->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        t->sp -= (int32_t)by->imm.value.s;
    else if (whole && d->z.mnemonic == ZYDIS_MNEMONIC_LEA && rv_on_stack(t))
        t->sp += (int32_t)t->i->disp;
    else
        t->sp_known = false;
    if (t->sp < -(1 << 20) || t->sp > 1 << 20) t->sp_known = false;
}

bool rv_stack_operand(struct rv_translation *t, int64_t disp, unsigned size, unsigned how,
                      struct rv_rm *out) {
    const struct rv_tb *tb = t->tb;
    if (!t->window || !within_reach(t, disp) || (how & RV_HOW_ALIGNED)) return false;
    int64_t first = t->sp + disp;
    if (first < tb->low || first + size > tb->high) return false;
    int32_t at = RV_AT(hot.window) + (int32_t)(tb->set * sizeof(struct rv_window));
    /* It may still be there from the last time. */
    if (t->e.r11_written)
        rv_emit_load(&t->e, H11, rv_mem(HSP, at + (int32_t)offsetof(struct rv_window, addend)));
    t->e.r11_written = false;
    *out = rv_sum(H9, H11, 0, (int32_t)disp);
    return true;
}
