/* Watching of execution and memory for the host (vmm/cpu/watch.h). Private to vmm/cpu/interp. */
#ifndef RV_VMM_CPU_INTERP_WATCH_H
#define RV_VMM_CPU_INTERP_WATCH_H

#include "vmm/cpu/interp/interp.h"

void rv_watch_set(struct rv_interp *c, const struct rv_watch *w);
/* The state was replaced: what was seen before it belongs to another history. */
void rv_watch_reset(struct rv_interp *c);

/* Where the CPU is; icount must be exact. */
static inline struct rv_moment rv_watch_now(const struct rv_interp *c) {
    const struct rv_watching *w = &c->w;
    return (struct rv_moment){c->x.icount, w->taken_at == c->x.icount ? w->taken : 0};
}
/* f was delivered: what it interrupted was at rip. */
void rv_watch_took(struct rv_interp *c, const struct rv_fault *f, uint64_t rip);

/* Ends a freshly decoded block of n instructions before one that is watched, or after the first if
 * that one is: returns how many are left and sets *first. */
unsigned rv_watch_cut(const struct rv_interp *c, uint64_t va, uint64_t pa,
                      const struct rv_insn *insn, unsigned n, bool *first);
/* The first operation of a block whose first instruction is watched; goes on with b->first_op. */
void rv_op_watched(struct rv_interp *c, const struct rv_insn *i);
/* The next instruction is watched and about to run. True: stop before it. */
bool rv_watch_arrive(struct rv_interp *c);

/* What an instruction with this operation does: enum rv_flow. */
unsigned rv_watch_flow(rv_op op);
/* The last instruction of b retired, and it is a call or return; flow is b's. True: stop. */
bool rv_watch_flowed(struct rv_interp *c, uint64_t at, unsigned flow);

/* Accesses watched somewhere in these pages (enum rv_watch_access): such pages stay out of the
 * translation caches. */
unsigned rv_watch_page(const struct rv_interp *c, uint64_t va, uint64_t pa);
#define RV_WATCH_NO_VA UINT64_MAX
/* An access by i, or by exception delivery, within one page. If it is watched, i is run again as a
 * block of its own before anything has changed, and then noted. */
void rv_watch_note(struct rv_interp *c, const struct rv_insn *i, uint64_t va, uint64_t pa,
                   unsigned size, enum rv_watch_access access);
static inline void rv_watch_data(struct rv_interp *c, const struct rv_insn *i, uint64_t va,
                                 uint64_t pa, unsigned size, enum rv_watch_access access) {
    if (rv_unlikely(c->w.data)) rv_watch_note(c, i, va, pa, size, access);
}
/* i faulted: forgets those of its noted accesses that did not happen. */
void rv_watch_faulted(struct rv_interp *c, const struct rv_insn *i);
/* Tells of everything noted. True: stop. */
bool rv_watch_report(struct rv_interp *c);

#endif
