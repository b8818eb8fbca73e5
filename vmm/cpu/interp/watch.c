/* Watching without slowing what is not watched: blocks with a watched instruction are cut so that
 * it comes first, and their first operation is exchanged for one that tells the host; pages with
 * watched data are kept out of the translation caches, so that accesses to them take the slow path
 * of mmu.c, which asks here. */
#include "vmm/cpu/interp/watch.h"

#include "vmm/cpu/interp/block.h"
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/run.h"

static bool overlaps(const struct rv_watchpoint *p, uint64_t addr, uint64_t size) {
    /* Written so that neither end can overflow. */
    return addr >= p->addr ? addr - p->addr < p->len : p->addr - addr < size;
}

static bool every(const struct rv_watchpoint *p) {
    return (p->access & RV_WATCH_EXEC) && p->len == UINT64_MAX;
}

static bool exec_at(const struct rv_watch *w, uint64_t va, uint64_t pa) {
    for (size_t k = 0; k < w->n; k++) {
        const struct rv_watchpoint *p = &w->point[k];
        if ((p->access & RV_WATCH_EXEC) && !every(p) && overlaps(p, p->physical ? pa : va, 1))
            return true;
    }
    return false;
}

/* ---- which blocks ---- */

static bool touched(const struct rv_block *b, const void *watch) {
    const struct rv_watch *w = watch;
    for (size_t k = 0; k < w->n; k++) {
        const struct rv_watchpoint *p = &w->point[k];
        if (!(p->access & RV_WATCH_EXEC) || every(p)) continue;
        if (overlaps(p, p->physical ? b->pa : b->va, b->len)) return true;
    }
    return false;
}

/* Forgets the blocks that w's places cut. A translation may have put a physical place anywhere. */
static void forget_touched(struct rv_interp *c, const struct rv_watch *w) {
    for (size_t k = 0; k < w->n; k++) {
        const struct rv_watchpoint *p = &w->point[k];
        if (!(p->access & RV_WATCH_EXEC) || every(p)) continue;
        if (!p->physical) {
            rv_block_forget_at(c, p->addr, p->len, touched, w);
            continue;
        }
        rv_block_forget_if(c, touched, w);
        return;
    }
}

static void describe(struct rv_interp *c, const struct rv_watch *w) {
    c->w.watch = w;
    c->w.every = c->w.exec = c->w.data = c->w.deliver = c->w.flow = false;
    for (size_t k = 0; w && k < w->n; k++) {
        if (w->point[k].access & RV_WATCH_DELIVER) c->w.deliver = true;
        if (w->point[k].access & (RV_WATCH_CALL | RV_WATCH_RETURN)) c->w.flow = true;
        if (w->point[k].access & (RV_WATCH_READ | RV_WATCH_WRITE)) c->w.data = true;
        if (every(&w->point[k]))
            c->w.every = true;
        else if (w->point[k].access & RV_WATCH_EXEC)
            c->w.exec = true;
    }
}

void rv_watch_set(struct rv_interp *c, const struct rv_watch *w) {
    /* Blocks that were cut for what is no longer watched stay as they are, but must not ask. */
    rv_block_forget_watched(c);
    describe(c, w);
    if (c->w.exec) forget_touched(c, w);
    if (c->w.data) rv_mmu_flush(c);
    c->w.seen_count = 0;
    c->w.pending = c->w.delivery_stop = c->w.flow_stop = false;
}

void rv_watch_reset(struct rv_interp *c) {
    c->w.taken_at = RV_NEVER;
    c->w.reported.icount = RV_NEVER;
    c->w.seen_count = 0;
    c->w.pending = c->w.stop = c->w.delivery_stop = c->w.flow_stop = false;
}

unsigned rv_watch_cut(const struct rv_interp *c, uint64_t va, uint64_t pa,
                      const struct rv_insn *insn, unsigned n, bool *first) {
    *first = false;
    if (!c->w.exec) return n;
    *first = exec_at(c->w.watch, va, pa);
    for (unsigned k = 1; k < n; k++)
        if (exec_at(c->w.watch, va + insn[k].off, pa + insn[k].off)) return k;
    return n;
}

/* ---- execution ---- */

bool rv_watch_arrive(struct rv_interp *c) {
    struct rv_moment now = rv_watch_now(c);
    if (rv_moment_same(now, c->w.reported)) return false;
    c->w.reported = now;
    struct rv_watch_hit hit = {.access = RV_WATCH_EXEC,
                               .gva = c->block->va,
                               .gpa = c->block->pa,
                               .rip = c->x.rip,
                               .before = now,
                               .after = now};
    return c->w.watch->hit(c->w.watch->ctx, &hit);
}

void rv_op_watched(struct rv_interp *c, const struct rv_insn *i) {
    if (rv_watch_arrive(c)) rv_stop_before(c, i);
    c->block->first_op(c, i);
}

/* ---- deliveries ---- */

static bool delivers(const struct rv_watch *w, unsigned vector) {
    for (size_t k = 0; k < w->n; k++)
        if ((w->point[k].access & RV_WATCH_DELIVER) && overlaps(&w->point[k], vector, 1))
            return true;
    return false;
}

void rv_watch_took(struct rv_interp *c, const struct rv_fault *f, uint64_t rip) {
    struct rv_watching *w = &c->w;
    struct rv_moment before = rv_watch_now(c);
    if (f->soft) {
        before = (struct rv_moment){c->x.icount - 1, 0};
        if (w->taken_at == before.icount) before.delivered = w->taken;
    } else {
        w->taken = before.delivered + 1;
        w->taken_at = c->x.icount;
    }
    if (rv_likely(!w->deliver) || !delivers(w->watch, f->vector)) return;
    struct rv_watch_hit hit = {.access = RV_WATCH_DELIVER,
                               .gva = UINT64_MAX,
                               .gpa = UINT64_MAX,
                               .rip = rip,
                               .vector = f->vector,
                               .delivery = f->soft       ? RV_DELIVER_SOFT
                                           : f->external ? RV_DELIVER_INTERRUPT
                                                         : RV_DELIVER_EXCEPTION,
                               .has_error = f->has_error,
                               .error = f->error,
                               .before = before,
                               .after = rv_watch_now(c)};
    w->delivery_stop |= w->watch->hit(w->watch->ctx, &hit);
}

/* ---- calls and returns ---- */

unsigned rv_watch_flow(rv_op op) {
    static const struct {
        rv_op op;
        unsigned flow;
    } known[] = {
        {rv_op_call64, RV_FLOW_CALL},
        {rv_op_call_ind64, RV_FLOW_CALL},
        {rv_op_call, RV_FLOW_CALL},
        {rv_op_call_ind, RV_FLOW_CALL},
        {rv_op_ret64, RV_FLOW_RETURN},
        {rv_op_ret, RV_FLOW_RETURN},
        {rv_op_call_far, RV_FLOW_CALL | RV_FLOW_FAR},
        {rv_op_syscall, RV_FLOW_CALL | RV_FLOW_FAR},
        {rv_op_sysenter, RV_FLOW_CALL | RV_FLOW_FAR},
        {rv_op_ret_far, RV_FLOW_RETURN | RV_FLOW_FAR},
        {rv_op_iret, RV_FLOW_RETURN | RV_FLOW_FAR},
        {rv_op_sysret, RV_FLOW_RETURN | RV_FLOW_FAR},
        {rv_op_sysexit, RV_FLOW_RETURN | RV_FLOW_FAR},
    };
    for (unsigned i = 0; i < RV_COUNT(known); i++)
        if (known[i].op == op) return known[i].flow;
    return RV_FLOW_ON;
}

bool rv_watch_flowed(struct rv_interp *c, uint64_t at, unsigned flow) {
    unsigned access = flow & RV_FLOW_CALL ? RV_WATCH_CALL : RV_WATCH_RETURN, wanted = 0;
    for (size_t k = 0; k < c->w.watch->n; k++) wanted |= c->w.watch->point[k].access;
    if (!(wanted & access)) return false;
    struct rv_moment now = {c->x.icount, 0};
    struct rv_watch_hit hit = {.access = access,
                               .gva = c->cs_base + c->x.rip,
                               .gpa = UINT64_MAX,
                               .rip = at,
                               .far = flow & RV_FLOW_FAR,
                               .before = {now.icount - 1, 0},
                               .after = now};
    if (c->w.taken_at == hit.before.icount) hit.before.delivered = c->w.taken;
    return c->w.watch->hit(c->w.watch->ctx, &hit);
}

/* ---- data ---- */

unsigned rv_watch_page(const struct rv_interp *c, uint64_t va, uint64_t pa) {
    unsigned access = 0;
    for (size_t k = 0; k < c->w.watch->n; k++) {
        const struct rv_watchpoint *p = &c->w.watch->point[k];
        if (overlaps(p, (p->physical ? pa : va) & RV_PAGE_MASK, RV_PAGE_SIZE)) access |= p->access;
    }
    return access & (RV_WATCH_READ | RV_WATCH_WRITE);
}

void rv_watch_note(struct rv_interp *c, const struct rv_insn *i, uint64_t va, uint64_t pa,
                   unsigned size, enum rv_watch_access access) {
    const struct rv_watch *w = c->w.watch;
    for (size_t k = 0; k < w->n; k++) {
        const struct rv_watchpoint *p = &w->point[k];
        if (!(p->access & access) || (!p->physical && va == RV_WATCH_NO_VA)) continue;
        if (!overlaps(p, p->physical ? pa : va, size)) continue;
        rv_alone(c, i);
        /* A fetch: the instruction that follows is the one that made it. */
        if (!i && !c->delivering) c->alone = c->w.pending = true;
        rv_leave(c);
        if (c->w.seen_count == RV_WATCH_SEEN) return;
        c->w.seen[c->w.seen_count++] = (struct rv_watch_hit){.access = access,
                                                             .gva = va,
                                                             .gpa = pa,
                                                             .size = size,
                                                             .rip = c->x.rip,
                                                             .before = rv_watch_now(c)};
        return;
    }
}

void rv_watch_faulted(struct rv_interp *c, const struct rv_insn *i) {
    /* Nothing is written before all that can fault has been tried, except by the elements of a
     * repeated string instruction, which have happened. */
    if (!i || (i->flags & (RV_I_REP | RV_I_REPNE))) return;
    unsigned kept = 0;
    for (unsigned k = 0; k < c->w.seen_count; k++)
        if (c->w.seen[k].access == RV_WATCH_WRITE) c->w.seen[kept++] = c->w.seen[k];
    c->w.seen_count = kept;
}

bool rv_watch_report(struct rv_interp *c) {
    bool stop = false;
    unsigned n = c->w.seen_count;
    c->w.seen_count = 0;
    c->w.pending = false;
    for (unsigned k = 0; k < n; k++) {
        c->w.seen[k].after = rv_watch_now(c);
        stop |= c->w.watch->hit(c->w.watch->ctx, &c->w.seen[k]);
    }
    return stop;
}
