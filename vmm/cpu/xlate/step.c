/* One instruction in the interpreter, on behalf of translated code. */
#include "vmm/cpu/interp/block.h"
#include "vmm/cpu/interp/count.h"
#include "vmm/cpu/interp/vec.h"
#include "vmm/cpu/interp/watch.h"
#include "vmm/cpu/xlate/xlate.h"

enum rv_vec_state rv_xlate_vec(const struct rv_interp *c) {
    bool available = !(c->x.cr0 & (RV_CR0_EM | RV_CR0_TS)) && (c->x.cr4 & RV_CR4_OSFXSR);
    uint32_t masks = rv_fx32(c->x.fx, RV_FX_MXCSR) & RV_MXCSR_MASKS;
    return available && masks == RV_MXCSR_MASKS ? RV_VEC_MEMORY : RV_VEC_BARRED;
}

static struct rv_block *block_of(const struct rv_insn *i) {
    const char *first = (const char *)(i - i->at);
    return (struct rv_block *)(uintptr_t)(first - offsetof(struct rv_block, insn));
}

const uint8_t *rv_xlate_find(struct rv_interp *c, uint64_t va) {
    /* Without a walk, which would set accessed bits for a fetch that a stop may still prevent. */
    const struct rv_tlbe *e = rv_tlb_at(c->tlb->x, va);
    if (!rv_tlb_hit(e, va)) return NULL;
    uint64_t pa = e->addend | (va & 0xfff);
    struct rv_block *b = rv_block_known(c, va, pa);
    unsigned set = (unsigned)(c->tlb - c->tlbs);
    if (!b || !b->code[set]) return NULL;
    rv_jt_put(c, set, va, b->code[set]);
    return b->code[set];
}

/* A block whose stack is where no window can be so often in a row, with at most so many
 * instructions between two, is better off without. */
#define STRAYS        16
#define STRAYS_WITHIN 10000

const uint8_t *rv_xlate_window(struct rv_interp *c, uint64_t out) {
    struct rv_tb *tb = ((const struct rv_out *)(uintptr_t)out)->tb;
    c->hot.left += tb->n;
    if (c->hot.left < (int64_t)tb->n) return NULL;
    uint64_t first = c->x.gpr[RV_RSP] + (uint64_t)tb->low;
    uint64_t last = c->x.gpr[RV_RSP] + (uint64_t)tb->high - 1;
    const struct rv_tlbe *e = rv_tlb_at(c->tlbs[tb->set].w, first);
    if (rv_tlb_hit(e, first) && !((first ^ last) & RV_PAGE_MASK)) {
        c->hot.window[tb->set] = (struct rv_window){e->tag, e->tag, e->addend};
        return tb->entry;
    }
    rv_icount now = c->xlate->until - (rv_icount)c->hot.left;
    if (now - tb->strayed_at > STRAYS_WITHIN) tb->strays = 0;
    tb->strayed_at = now;
    if (++tb->strays == STRAYS) tb->b->no_window = true;
    return NULL;
}

uint64_t rv_xlate_step(struct rv_interp *c, const struct rv_insn *i, uint64_t with_vec,
                       uint64_t rest) {
    c->fl &= (uint16_t) ~(rest >> 16);
    bool ends = (i->flags & RV_I_END) && !(rest & RV_REST_GOES_ON);
    rest &= 0xffff;
    struct rv_block *b = block_of(i);
    rv_icount from = c->xlate->until - ((rv_icount)c->hot.left + b->n + rest); /* the block's */
    c->end_icount = from + i->at + 1;
    /* Alone, an operation may do everything: reach devices, change code and page tables. What
     * translated code relies on is looked at afterwards. */
    struct rv_block *one = rv_block_one(c, b, i->at);
    c->x.icount = c->end_icount - 1;
    c->x.rip = one->va;
    c->block = one;
    uint64_t next = one->va + one->len;
    uint32_t mode = c->mode;
    const struct rv_tlb *tlb = c->tlb;
    c->single = true;
    c->changed = false;
    if (rv_unlikely(c->count != NULL)) rv_count_step(c, b, from);
    one->insn[0].op(c, one->insn);
    c->single = false;
    c->x.icount = c->end_icount;
    c->partial = false;
    c->hot.vec = rv_xlate_vec(c);
    bool told = rv_unlikely(c->w.flow) && b->flow && i->at + 1u == b->n;
    if (told && rv_watch_flowed(c, one->va, b->flow)) c->w.flow_stop = true;
    bool elsewhere = c->x.rip != next || c->mode != mode || c->tlb != tlb;
    bool leaves = ends || elsewhere || told || c->changed ||
                  atomic_load_explicit(&c->leave, memory_order_relaxed) ||
                  (with_vec && c->hot.vec == RV_VEC_BARRED);
    if (rv_unlikely(c->count != NULL)) rv_count_left(c, leaves ? c->end_icount : from + b->n);
    return leaves;
}
