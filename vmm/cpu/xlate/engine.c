/* The engine: the interpreter's, with a hook in its dispatcher. */
#include <stdlib.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/interp/block.h"
#include "vmm/cpu/interp/decode.h"
#include "vmm/cpu/interp/run.h"
#include "vmm/cpu/xlate/eager.h"
#include "vmm/cpu/xlate/xlate.h"

/* How often a block is interpreted before it is translated: translating costs about as much. */
#define HOT 16

typedef uint64_t (*enter_fn)(struct rv_interp *c, const uint8_t *code);

/* A jump inside one page, virtual and physical, may lead straight to the next block. */
static void link_last(struct rv_interp *c, struct rv_tb *to) {
    struct rv_out *out = c->xlate->last;
    if (!out) return;
    c->xlate->last = NULL;
    const struct rv_block *from = out->tb->b;
    if (out->va == to->b->va && out->tb->set == to->set && !out->to &&
        !((from->pa ^ to->b->pa) & RV_PAGE_MASK) && !((from->va ^ to->b->va) & RV_PAGE_MASK))
        rv_link(out, to);
}

static bool enter(struct rv_interp *c, struct rv_block *b, rv_icount until) {
    struct rv_xlate *x = c->xlate;
    unsigned set = (unsigned)(c->tlb - c->tlbs);
    if (!(c->mode & RV_MODE_64) || b->plain || b->watched || set == RV_TLB_NEVER) return false;
    struct rv_block *warmed = x->warming;
    x->warming = NULL;
    if (warmed && b->va == warmed->va + warmed->len) warmed->ahead++;
    struct rv_tb *tb = b->tb[set];
    if (rv_unlikely(!tb)) {
        if (b->heat < x->hot) {
            b->heat++;
            x->warming = b;
            return false;
        }
        tb = rv_translate(c, b);
        if (!tb) {
            b->plain = true;
            return false;
        }
    }
    if (x->refused) {
        bool refused = x->refused == b;
        x->refused = NULL;
        if (refused) return false;
    }
    link_last(c, tb);
    rv_jt_put(c, set, b->va, tb->entry);
    /* Translated code looks at the upper half of what is left to see whether it is used up. */
    if (until - c->x.icount > INT32_MAX) until = c->x.icount + INT32_MAX;
    x->until = until;
    c->hot.left = (int64_t)(until - c->x.icount);
    c->hot.vec = rv_xlate_vec(c);
    enter_fn go = (enter_fn)(uintptr_t)(x->rx + x->enter);
    struct rv_out *out = (struct rv_out *)(uintptr_t)go(c, tb->entry);
    if (!out) return true;
    rv_icount before = c->x.icount;
    c->x.icount = until - (rv_icount)c->hot.left;
    switch (out->how) {
    case RV_OUT_JUMP:
        c->x.rip = out->va;
        if (out->jump) x->last = out;
        break;
    case RV_OUT_COUNT:
        c->x.icount -= out->tb->n;
        c->x.rip = out->tb->b->va;
        x->refused = out->tb->b; /* there may be enough left for its first part */
        break;
    case RV_OUT_VEC:
        c->x.rip = out->tb->b->va;
        x->refused = out->tb->b;
        break;
    case RV_OUT_STACK: {
        struct rv_block *refused = out->tb->b;
        c->x.rip = refused->va;
        if (refused->no_window) rv_unlink_tb(c, out->tb);
        x->refused = refused;
        break;
    }
    }
    if (c->x.icount != before) c->partial = false;
    return true;
}

static void forgotten(struct rv_interp *c, struct rv_block *b) {
    if (c->xlate->warming == b) c->xlate->warming = NULL;
    while (b->part_of) rv_unlink_tb(c, b->part_of->tb);
    for (unsigned s = 0; s < RV_TLB_SETS; s++)
        if (b->tb[s]) rv_unlink_tb(c, b->tb[s]);
}

static const struct rv_interp_hooks hooks = {
    .enter = enter,
    .forgotten = forgotten,
    .unmapped = rv_jt_clear,
    .remapped = rv_jt_clear_pages,
};

static void xlate_destroy(struct rv_engine *e) {
    struct rv_interp *c = rv_interp_of(e);
    struct rv_xlate *x = c->xlate;
    if (x) {
        while (x->all) rv_unlink_tb(c, x->all);
        rv_code_free(x);
        free(x->decoded);
        free(x);
    }
    c->hooks = NULL;
    rv_interp_destroy(e);
}

static bool host_can(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("bmi2");
}

const struct rv_engine_ops *rv_engine_software(void) {
    return host_can() ? &rv_engine_translate : &rv_engine_interpret;
}

static int xlate_create(struct rv_engine **out, struct rv_ram *ram, struct rv_cpu_bus *bus,
                        const struct rv_profile *profile, struct rv_err *err) {
    if (!host_can())
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "engine translate needs a host CPU with BMI2; use --engine interpret");
    struct rv_engine *e;
    int r = rv_interp_make(&e, &rv_engine_translate,
                           RV_JT_OFFSET - sizeof(struct rv_interp) +
                               RV_XLATE_SETS * sizeof(struct rv_jt),
                           ram, bus, profile, err);
    if (r) return r;
    struct rv_interp *c = rv_interp_of(e);
    c->xlate = rv_alloc(sizeof *c->xlate);
    c->xlate->decoded = rv_alloc(RV_BLOCK_INSNS * sizeof *c->xlate->decoded);
    r = rv_code_new(c->xlate, profile->v3, err);
    if (r) {
        xlate_destroy(e);
        return r;
    }
    /* Zeroes are empty entries, but for the first. */
    for (unsigned s = 0; s < RV_XLATE_SETS; s++) rv_jt(c, s)->used[0] = 1;
    rv_jt_clear(c, false);
    c->hot.tlb_mask = (uint64_t)(RV_TLB_SIZE - 1) << RV_PAGE_SHIFT;
    c->hot.jump_mask = (uint64_t)(RV_JT_SIZE - 1) << RV_JT_LOW;
    c->hot.align_mask = RV_PAGE_MASK | 15;
    c->hot.align32_mask = RV_PAGE_MASK | 31;
    c->hot.df_mask = RV_FL_DF;
    c->hot.count_mask[0] = 31;
    c->hot.count_mask[1] = 63;
    c->hot.mxcsr = 0x1f80;
    c->xlate->hot = HOT;
    c->hooks = &hooks;
    *out = e;
    return 0;
}

void rv_translate_eagerly(struct rv_engine *e) { rv_interp_of(e)->xlate->hot = 0; }

const struct rv_engine_ops rv_engine_translate = {
    .name = "translate",
    .counts = true,
    .create = xlate_create,
    .destroy = xlate_destroy,
    .run = rv_interp_run,
    .interruptible = rv_interp_interruptible,
    .inject = rv_interp_inject,
    .nmi = rv_interp_nmi,
    .icount = rv_interp_icount,
    .get = rv_interp_get,
    .set = rv_interp_set,
    .restore = rv_interp_restore,
    .watch = rv_interp_watch,
    .count = rv_interp_count,
    .count_as = rv_interp_count_as,
    .counted = rv_interp_counted,
    .kick = rv_interp_kick,
};
