/* One instruction in the interpreter, on behalf of translated code. */
#include "vmm/cpu/interp/block.h"
#include "vmm/cpu/interp/vec.h"
#include "vmm/cpu/xlate/xlate.h"

enum rv_vec_state rv_xlate_vec(const struct rv_interp *c) {
    bool available = !(c->x.cr0 & (RV_CR0_EM | RV_CR0_TS)) && (c->x.cr4 & RV_CR4_OSFXSR);
    uint32_t masks = rv_fx32(c->x.fx, RV_FX_MXCSR) & RV_MXCSR_MASKS;
    return available && masks == RV_MXCSR_MASKS ? RV_VEC_MEMORY : RV_VEC_BARRED;
}

uint64_t rv_xlate_step(struct rv_interp *c, const struct rv_insn *i, uint64_t with_vec) {
    const struct rv_block *b =
        (const struct rv_block *)((const char *)(i - i->at) - offsetof(struct rv_block, insn));
    bool last = i->flags & RV_I_END;
    c->end_icount = c->xlate->until - (rv_icount)(c->hot.left + (b->n - i->at)) + 1;
    /* Alone, an operation may do everything: reach devices, change code and page tables. What
     * translated code relies on is looked at afterwards. */
    struct rv_block *one = rv_block_one(c, b, i->at);
    c->x.icount = c->end_icount - 1;
    c->x.rip = one->va;
    c->block = one;
    c->single = true;
    c->changed = false;
    one->insn[0].op(c, one->insn);
    c->single = false;
    c->x.icount = c->end_icount;
    c->partial = false;
    c->hot.vec = rv_xlate_vec(c);
    return last || c->changed || atomic_load_explicit(&c->leave, memory_order_relaxed) ||
           (with_vec && c->hot.vec == RV_VEC_BARRED);
}
