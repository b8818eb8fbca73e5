/* The dispatcher: runs blocks, turns faults into exceptions, and stops where it is told.
 *
 * An operation that faults leaves by longjmp. There are four ways out of the middle of a block
 * (enum leave_how); for all of them the dispatcher first puts rip and icount back to the
 * instruction that left. Delivering an exception can fault in turn: take() keeps a jmp_buf of its
 * own for that. */
#include "vmm/cpu/interp/run.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/interp/block.h"
#include "vmm/cpu/interp/count.h"
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/seg.h"
#include "vmm/cpu/interp/watch.h"

enum leave_how { BY_FAULT = 1, BY_ALONE, BY_RESTART, BY_SOFT_INT, BY_WATCH };

/* How often a stop request is looked at without an instruction retiring before the engine says that
 * it never will: string instructions over the whole address space, or exceptions without end. */
#define STUCK_LIMIT 1024

/* Room below struct rv_interp: translated code has its stack pointer there, and the host puts a
 * signal's frame, and runs its handler, below that. */
#define SIGNAL_ROOM (64u << 10)

static void leave_by(struct rv_interp *c, const struct rv_insn *i, enum leave_how how)
    __attribute__((noreturn));
static void leave_by(struct rv_interp *c, const struct rv_insn *i, enum leave_how how) {
    c->fault_insn = i;
    longjmp(*c->on_fault, how);
}

void rv_raise(struct rv_interp *c, const struct rv_insn *i, unsigned vector) {
    c->fault = (struct rv_fault){.vector = (uint8_t)vector};
    leave_by(c, i, BY_FAULT);
}

void rv_raise_error(struct rv_interp *c, const struct rv_insn *i, unsigned vector, uint32_t error) {
    c->fault = (struct rv_fault){.vector = (uint8_t)vector, .has_error = true, .error = error};
    leave_by(c, i, BY_FAULT);
}

void rv_raise_page_fault(struct rv_interp *c, const struct rv_insn *i, uint64_t cr2,
                         uint32_t error) {
    c->fault =
        (struct rv_fault){.vector = RV_VEC_PF, .has_error = true, .error = error, .cr2 = cr2};
    leave_by(c, i, BY_FAULT);
}

void rv_alone(struct rv_interp *c, const struct rv_insn *i) {
    if (c->single || c->delivering || !i) return;
    leave_by(c, i, BY_ALONE);
}

void rv_restart(struct rv_interp *c, const struct rv_insn *i) { leave_by(c, i, BY_RESTART); }
void rv_stop_before(struct rv_interp *c, const struct rv_insn *i) { leave_by(c, i, BY_WATCH); }

void rv_soft_interrupt(struct rv_interp *c, const struct rv_insn *i, unsigned vector,
                       bool privileged) {
    c->fault = (struct rv_fault){.vector = (uint8_t)vector, .soft = true, .privileged = privileged};
    leave_by(c, i, BY_SOFT_INT);
}

/* ---- flags ---- */

uint64_t rv_flags_get(const struct rv_interp *c) {
    return (c->x.rflags & ~(uint64_t)RV_FL_ARITH) | (c->fl >> 8 & 0xd5u) |
           (uint64_t)(c->fl & 1) << 11 | 2;
}

void rv_flags_set(struct rv_interp *c, uint64_t rflags) {
    c->x.rflags = (rflags & 0x3f7fd7u) | 2;
    rv_flags_arith(c, (uint32_t)rflags);
}

/* ---- exceptions ---- */

static bool contributory(unsigned v) {
    return v == RV_VEC_DE || (v >= RV_VEC_TS && v <= RV_VEC_GP);
}

/* A second fault while the first was being delivered: SDM 3A table 6-5. */
static void combine(struct rv_interp *c) {
    const struct rv_fault *first = &c->pending, *second = &c->fault;
    if (!first->soft && !first->external) {
        bool pf = first->vector == RV_VEC_PF;
        if (first->vector == RV_VEC_DF) {
            c->shutdown = true;
            return;
        }
        if (contributory(second->vector) ? contributory(first->vector) || pf
                                         : second->vector == RV_VEC_PF && pf) {
            if (second->vector == RV_VEC_PF) c->x.cr2 = second->cr2;
            c->pending = (struct rv_fault){.vector = RV_VEC_DF, .has_error = true};
            return;
        }
    }
    c->pending = *second;
}

/* Delivers f, and whatever delivering it leads to. rip is what the frame is to show. For a software
 * interrupt, insn_rip is the instruction itself, shown instead if its delivery faults. */
static void take(struct rv_interp *c, struct rv_fault f, uint64_t insn_rip, bool counts) {
    jmp_buf here, *outer = c->on_fault;
    const uint64_t rip = f.soft ? insn_rip : c->x.rip;
    c->on_fault = &here;
    c->pending = f;
    c->delivering = true;
    c->partial = true;
    if (_setjmp(here)) {
        bool was_soft = c->pending.soft;
        combine(c);
        if (was_soft) {
            c->x.rip = insn_rip;
            if (counts) c->x.icount--;
        }
    }
    if (!c->shutdown) {
        if (c->pending.vector == RV_VEC_PF && !c->pending.external && !c->pending.soft)
            c->x.cr2 = c->pending.cr2;
        bool soft = c->pending.soft && !c->pending.privileged;
        rv_deliver(c, c->pending.vector, c->pending.has_error, c->pending.error, soft,
                   c->pending.external);
    }
    c->delivering = c->w.pending = false;
    c->on_fault = outer;
    if (!c->shutdown) rv_watch_took(c, &c->pending, rip);
    rv_leave(c);
}

/* ---- between blocks ---- */

/* STI keeps interrupts away for one instruction more. Mostly there is none, and nobody looks: Linux
 * has an STI in every page fault and system call. So it only notes its position, and what may look
 * at x calls this first. */
static void show_shadow(struct rv_interp *c) {
    if (c->sti_at == c->x.icount) c->x.sti_shadow = 1;
    c->sti_at = RV_NEVER;
}

static bool shadowed(const struct rv_interp *c) { return c->x.sti_shadow || c->x.movss_shadow; }

/* DR6 bits of the instruction breakpoints that stand at the next instruction. */
static unsigned code_breakpoints(const struct rv_interp *c) {
    uint64_t at = c->cs_base + c->x.rip;
    unsigned hit = 0;
    for (unsigned n = 0; n < 4; n++)
        if ((c->x.dr7 >> (2 * n) & 3) && !(c->x.dr7 >> (16 + 4 * n) & 15) && c->x.dr[n] == at)
            hit |= 1u << n;
    return hit;
}

static void take_debug(struct rv_interp *c, uint64_t dr6) {
    c->x.dr6 = (c->x.dr6 & ~0xfull) | dr6 | 0xffff0ff0u;
    c->x.dr7 &= ~(1ull << 13); /* GD */
    take(c, (struct rv_fault){.vector = RV_VEC_DB}, 0, false);
}

/* What a delivery leads to: a run reason, or -1 to go on. Its accesses, and those of what it cut
 * short, are told before anything else happens. */
static int delivered(struct rv_interp *c) {
    if (c->shutdown) return RV_RUN_TRIPLE_FAULT;
    bool stop = c->w.delivery_stop;
    c->w.delivery_stop = false;
    if (!stop && c->w.seen_count && !c->w.pending) stop = rv_watch_report(c);
    return stop ? RV_RUN_WATCH : -1;
}

/* Looks at everything that may happen between two instructions. A run reason, or -1 to go on. */
static int boundary(struct rv_interp *c) {
    struct rv_x86 *x = &c->x;
    atomic_store(&c->leave, false);
    show_shadow(c);
    int r = delivered(c);
    if (r >= 0) return r;
    if (c->w.pending) c->alone = true; /* so that its accesses are told when it retires */
    if (atomic_load(&c->kicked)) {
        if (!c->partial || c->stuck >= STUCK_LIMIT) {
            atomic_store(&c->kicked, false);
            c->stuck = 0;
            return c->partial ? RV_RUN_STUCK : RV_RUN_KICKED;
        }
        c->stuck++;
        rv_leave(c);
    }
    if (c->mid_string) {
        c->mid_string = false;
        if (c->watching || (x->rflags & RV_FL_RF)) rv_leave(c);
        return -1;
    }
    if (x->pending_db && !x->movss_shadow) {
        uint64_t dr6 = x->pending_dr6;
        x->pending_db = 0;
        x->pending_dr6 = 0;
        x->halted = 0;
        take_debug(c, dr6);
        r = delivered(c);
        if (r >= 0) return r;
    }
    if (c->bus->attention) {
        c->bus->attention = false;
        rv_leave(c);
        return RV_RUN_ATTENTION;
    }
    if (x->nmi_pending && !x->nmi_blocked && !shadowed(c)) {
        x->nmi_pending = 0;
        x->nmi_blocked = 1;
        x->halted = 0;
        take(c, (struct rv_fault){.vector = RV_VEC_NMI, .external = true}, 0, false);
        r = delivered(c);
        if (r >= 0) return r;
    }
    if (x->halted) return RV_RUN_HALTED;
    if (c->want_window && (x->rflags & RV_FL_IF) && !shadowed(c)) return RV_RUN_WINDOW;
    if (c->watching && !(x->rflags & RV_FL_RF) && !x->movss_shadow) {
        unsigned hit = code_breakpoints(c);
        if (hit) {
            x->rflags |= RV_FL_RF; /* the pushed flags show it: a fault */
            take_debug(c, hit);
            r = delivered(c);
            if (r >= 0) return r;
        }
    }
    c->step = c->watching || shadowed(c) || (x->rflags & RV_FL_RF) || c->w.every;
    if (c->step) rv_leave(c);
    return -1;
}

/* What one watched instruction leaves behind: shadows last for one, RF for one, TF traps after one.
 */
struct before {
    bool tf, rf;
};

static struct before step_begin(struct rv_interp *c) {
    struct before b = {.tf = c->x.rflags & RV_FL_TF, .rf = c->x.rflags & RV_FL_RF};
    c->x.sti_shadow = c->x.movss_shadow = 0;
    return b;
}

static void step_end(struct rv_interp *c, struct before b, const struct rv_insn *i) {
    struct rv_x86 *x = &c->x;
    rv_op op = i->op == rv_op_watched ? c->block->first_op : i->op;
    if (b.rf && op != rv_op_iret) x->rflags &= ~(uint64_t)RV_FL_RF;
    /* SYSCALL masks TF before the trap is looked for; MOV SS drops it. */
    if (b.tf && !x->movss_shadow && (op != rv_op_syscall || (x->rflags & RV_FL_TF))) {
        x->pending_db = 1;
        x->pending_dr6 |= 1u << 14;
    }
    rv_leave(c);
}

/* Puts rip and icount back to an instruction inside the current block. */
static void rewind_to(struct rv_interp *c, const struct rv_insn *i) {
    if (!i) return;
    c->x.rip = rv_insn_rip(c, i);
    if (!(c->mode & RV_MODE_64)) c->x.rip &= 0xffffffffu;
    rv_sync(c, i);
}

static void after_leaving(struct rv_interp *c, enum leave_how how) {
    const struct rv_insn *i = c->fault_insn;
    uint64_t next = how == BY_SOFT_INT ? rv_next_rip(c, i) : 0;
    rewind_to(c, i);
    c->single = false;
    /* The instruction behind an STI has begun, and with it the shadow ended. */
    if (how != BY_ALONE && how != BY_WATCH) c->sti_at = RV_NEVER;
    switch (how) {
    case BY_ALONE: c->alone = true; break;
    case BY_WATCH: c->w.stop = true; break;
    case BY_RESTART:
        c->partial = true;
        c->w.pending = c->w.seen_count;
        /* A trap between two elements; RF shows that the instruction goes on (SDM 3B 18.3.1.1). */
        if (c->x.pending_db)
            c->x.rflags |= RV_FL_RF;
        else
            c->mid_string = true;
        rv_leave(c);
        break;
    case BY_SOFT_INT: {
        uint64_t at = c->x.rip;
        c->x.rip = next;
        c->x.icount++;
        c->partial = false;
        c->stuck = 0;
        /* INT1 is a debug exception itself: one that MOV SS held back is taken with it. */
        if (c->fault.privileged && c->x.pending_db) {
            c->x.dr6 = (c->x.dr6 & ~0xfull) | c->x.pending_dr6;
            c->x.pending_db = 0;
            c->x.pending_dr6 = 0;
        }
        /* A software interrupt that was taken has retired: what follows starts anew. */
        take(c, c->fault, at, true);
        c->partial = false;
        break;
    }
    case BY_FAULT:
        /* Data breakpoints that the instruction touched before it faulted do not count. */
        if (i) c->x.pending_db = 0, c->x.pending_dr6 = 0;
        rv_watch_faulted(c, i);
        take(c, c->fault, 0, false);
        break;
    }
    if (rv_unlikely(c->count != NULL)) rv_count_left(c, c->x.icount);
}

/* Code outside 64-bit mode must lie within CS's limit. Returns the block to run. */
static struct rv_block *check_limit(struct rv_interp *c, struct rv_block *b) {
    uint64_t limit = c->x.seg[RV_CS].limit;
    if (rv_likely(c->x.rip + b->len - 1 <= limit)) return b;
    if (c->x.rip + b->insn[0].len - 1 > limit) rv_raise_error(c, NULL, RV_VEC_GP, 0);
    c->single = true;
    return rv_block_first(c, b);
}

static void retired(struct rv_interp *c) {
    c->x.icount = c->end_icount;
    c->partial = false;
    if (rv_unlikely(c->count != NULL)) rv_count_left(c, c->x.icount);
}

/* Tells whom it concerns that b ended with a call or return. True: stop. */
static inline bool flowed(struct rv_interp *c, const struct rv_block *b) {
    if (rv_likely(!c->w.flow) || !b->flow) return false;
    return rv_watch_flowed(c, b->va + b->insn[b->n - 1].off, b->flow);
}

/* Runs b, which is one instruction, with all that goes with it. A run reason, or -1 to go on. */
static int run_one(struct rv_interp *c, struct rv_block *b) {
    /* Before anything of the instruction happens, shadows included. */
    if ((c->w.every || b->watched) && rv_watch_arrive(c)) {
        c->single = false;
        return RV_RUN_WATCH;
    }
    struct before before = {0};
    bool step = c->step;
    c->alone = c->step = false;
    if (step) before = step_begin(c);
    if (rv_unlikely(c->count != NULL)) rv_count_enter(c);
    b->insn[0].op(c, b->insn);
    c->single = false;
    if (step) step_end(c, before, b->insn);
    retired(c);
    bool stop = flowed(c, b);
    if (rv_unlikely(c->w.seen_count)) stop |= rv_watch_report(c);
    return stop ? RV_RUN_WATCHED : -1;
}

/* Runs block after block. A run reason; or leaves by longjmp. */
static __attribute__((noinline)) int run_blocks(struct rv_interp *c, rv_icount until) {
    struct rv_block *from = NULL; /* run to its end just now; NULL when something came between */
    for (;;) {
        /* First of all: what is due after the last instruction belongs to the next run, so that a
         * position always means the state right after its instruction retired. */
        uint64_t left = until - c->x.icount;
        if (rv_unlikely(left == 0)) {
            /* INT n has retired when it is delivered. */
            bool stop = c->w.delivery_stop;
            c->w.delivery_stop = false;
            if (c->w.seen_count && !c->w.pending) stop |= rv_watch_report(c);
            return stop ? RV_RUN_WATCHED : RV_RUN_UNTIL;
        }
        if (rv_unlikely(atomic_load_explicit(&c->leave, memory_order_relaxed))) {
            int r = boundary(c);
            if (r >= 0) return r;
            from = NULL;
        }
        uint64_t va = c->cs_base + c->x.rip;
        if (!(c->mode & RV_MODE_64)) va &= 0xffffffffu;
        struct rv_block *b = from ? rv_block_follow(c, from, va) : rv_block_find(c, va);
        if (rv_unlikely(b->watched && c->sti_at == c->x.icount)) {
            rv_leave(c); /* who is told of b sees the shadow */
            continue;
        }
        if (rv_unlikely(c->count != NULL)) rv_count_found(c, b);
        if (rv_unlikely(b->n > left || c->step || c->alone)) {
            c->single = true;
            b = rv_block_first(c, b);
        }
        if (c->hooks && !c->single && c->hooks->enter(c, b, until)) {
            from = NULL;
            bool stop = c->w.flow_stop;
            c->w.flow_stop = false;
            if (rv_unlikely(c->w.seen_count)) stop |= rv_watch_report(c);
            if (rv_unlikely(stop)) return RV_RUN_WATCHED;
            continue;
        }
        if (rv_unlikely(!(c->mode & RV_MODE_64))) b = check_limit(c, b);
        c->block = b;
        c->end_icount = c->x.icount + b->n;
        if (rv_likely(!c->single)) {
            if (rv_unlikely(c->count != NULL)) rv_count_enter(c);
            b->insn[0].op(c, b->insn);
            from = b;
            retired(c);
            if (rv_unlikely(flowed(c, b))) return RV_RUN_WATCHED;
        } else {
            int r = run_one(c, b);
            if (rv_unlikely(r >= 0)) return r;
            from = NULL;
        }
    }
}

static int dispatch(struct rv_interp *c, rv_icount until) {
    jmp_buf here;
    c->on_fault = &here;
    int how = _setjmp(here);
    if (how) {
        after_leaving(c, (enum leave_how)how);
        if (rv_unlikely(c->w.stop)) {
            c->w.stop = false;
            return RV_RUN_WATCH;
        }
    }
    return run_blocks(c, until);
}

/* ---- the engine ---- */

int rv_interp_run(struct rv_engine *e, rv_icount until, bool want_window, struct rv_err *err) {
    struct rv_interp *c = rv_interp_of(e);
    if (until < c->x.icount)
        return rv_fail(err, RV_E_BUG, "asked to run to instruction %llu from %llu",
                       (unsigned long long)until, (unsigned long long)c->x.icount);
    c->want_window = want_window;
    if (c->w.flow != c->w.flow_made) {
        /* Translated code tells of calls, or does not. */
        rv_block_flush(c);
        c->w.flow_made = c->w.flow;
    }
    rv_leave(c);
    rv_vec_enter(c);
    int r = dispatch(c, until);
    show_shadow(c);
    rv_vec_leave(c);
    return r;
}

bool rv_interp_interruptible(struct rv_engine *e) {
    struct rv_interp *c = rv_interp_of(e);
    return (c->x.rflags & RV_FL_IF) && !shadowed(c) && !c->x.pending_db;
}

int rv_interp_inject(struct rv_engine *e, unsigned vector, struct rv_err *err) {
    struct rv_interp *c = rv_interp_of(e);
    if (!rv_interp_interruptible(e))
        return rv_fail(err, RV_E_BUG, "interrupt %u injected while interrupts are off", vector);
    c->x.halted = 0;
    take(c, (struct rv_fault){.vector = (uint8_t)vector, .external = true}, 0, false);
    return 0;
}

void rv_interp_nmi(struct rv_engine *e) {
    rv_interp_of(e)->x.nmi_pending = 1;
    rv_leave(rv_interp_of(e));
}

rv_icount rv_interp_icount(struct rv_engine *e) { return rv_interp_of(e)->x.icount; }

void rv_interp_get(struct rv_engine *e, struct rv_x86 *out) {
    *out = rv_interp_of(e)->x;
    out->rflags = rv_flags_get(rv_interp_of(e));
}

static void take_over(struct rv_interp *c, const struct rv_x86 *in) {
    c->x = *in;
    rv_flags_set(c, in->rflags);
    c->shutdown = c->alone = c->step = c->partial = c->mid_string = false;
    c->sti_at = RV_NEVER;
    rv_watch_reset(c);
    rv_mmu_flush(c);
    rv_mmu_mode(c);
}

int rv_interp_set(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err) {
    (void)err;
    struct rv_interp *c = rv_interp_of(e);
    take_over(c, in);
    rv_block_flush(c);
    return 0;
}

int rv_interp_restore(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err) {
    (void)err;
    take_over(rv_interp_of(e), in);
    return 0;
}

void rv_interp_watch(struct rv_engine *e, const struct rv_watch *w) {
    rv_watch_set(rv_interp_of(e), w);
}

void rv_interp_count(struct rv_engine *e, bool on) { rv_count_set(rv_interp_of(e), on); }

void rv_interp_count_as(struct rv_engine *e, uint64_t tag) { rv_count_as(rv_interp_of(e), tag); }

void rv_interp_counted(struct rv_engine *e, void (*each)(void *ctx, const struct rv_count *count),
                       void *ctx) {
    rv_count_visit(rv_interp_of(e), each, ctx);
}

bool rv_interp_dropped(struct rv_engine *e) {
    struct rv_interp *c = rv_interp_of(e);
    bool dropped = c->dropped;
    c->dropped = false;
    return dropped;
}

void rv_interp_resume(struct rv_engine *e, const struct rv_x86 *x) {
    struct rv_interp *c = rv_interp_of(e);
    rv_icount icount = c->x.icount;
    take_over(c, x);
    c->x.icount = icount;
    rv_block_distrust(c);
}

void rv_interp_kick(struct rv_engine *e) {
    atomic_store(&rv_interp_of(e)->kicked, true);
    atomic_store(&rv_interp_of(e)->leave, true);
}

static void ram_written(void *ctx, uint64_t offset, uint64_t len) {
    struct rv_interp *c = ctx;
    while (len) {
        uint64_t step = RV_PAGE_SIZE - (offset & 0xfff);
        if (step > len) step = len;
        struct rv_page *p = &c->mmu->pages[offset >> RV_PAGE_SHIFT];
        if (p->code) rv_block_written(c, offset, step);
        if (rv_mmu_is_table(c, offset >> RV_PAGE_SHIFT)) rv_mmu_flush(c);
        offset += step;
        len -= step;
    }
}

/* Pages must be noticed when they are written or fetched from again: drop the cached rights. */
static void ram_cleaned(void *ctx) {
    struct rv_interp *c = ctx;
    for (unsigned s = 0; s < RV_TLB_SETS; s++) {
        struct rv_tlb *t = &c->tlbs[s];
        RV_TLB_EACH(t->filled, i) t->w[i].tag = t->x[i].tag = rv_tlb_empty(i);
    }
    rv_mmu_dropped(c);
    if (c->hooks) c->hooks->unmapped(c, false);
}

void rv_interp_destroy(struct rv_engine *e) {
    struct rv_interp *c = rv_interp_of(e);
    if (c->ram->ctx == c) {
        c->ram->on_write = NULL;
        c->ram->on_clean = NULL;
        c->ram->ctx = NULL;
    }
    rv_vec_free(c);
    rv_count_free(c);
    rv_blocks_free(c);
    rv_mmu_free(c);
    munmap((char *)c - SIGNAL_ROOM, c->room);
}

int rv_interp_make(struct rv_engine **out, const struct rv_engine_ops *ops, size_t after,
                   struct rv_ram *ram, struct rv_cpu_bus *bus, const struct rv_profile *profile,
                   struct rv_err *err) {
    size_t size = SIGNAL_ROOM + sizeof(struct rv_interp) + after;
    char *room = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return rv_fail_errno(err, RV_E_HOST, "no memory for the CPU");
    struct rv_interp *c = (struct rv_interp *)(void *)(room + SIGNAL_ROOM);
    c->room = size;
    c->engine.ops = ops;
    c->ram = ram;
    c->bus = bus;
    c->profile = profile;
    int r = rv_mmu_new(c, err);
    if (!r) r = rv_blocks_new(c, err);
    if (!r) r = rv_vec_new(c, err);
    if (r) {
        rv_interp_destroy(&c->engine);
        return r;
    }
    ram->ctx = c;
    ram->on_write = ram_written;
    ram->on_clean = ram_cleaned;
    c->sti_at = RV_NEVER;
    rv_x86_reset(&c->x);
    rv_flags_set(c, c->x.rflags);
    rv_watch_reset(c);
    rv_mmu_mode(c);
    *out = &c->engine;
    return 0;
}

int rv_interp_create(struct rv_engine **out, struct rv_ram *ram, struct rv_cpu_bus *bus,
                     const struct rv_profile *profile, struct rv_err *err) {
    return rv_interp_make(out, &rv_engine_interpret, 0, ram, bus, profile, err);
}

const struct rv_engine_ops rv_engine_interpret = {
    .name = "interpret",
    .counts = true,
    .create = rv_interp_create,
    .destroy = rv_interp_destroy,
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
