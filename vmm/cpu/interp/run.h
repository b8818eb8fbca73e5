/* What operations may ask of the dispatcher. Private to vmm/cpu/interp. */
#ifndef RV_VMM_CPU_INTERP_RUN_H
#define RV_VMM_CPU_INTERP_RUN_H

#include "vmm/cpu/interp/interp.h"

/* Starts i again from the dispatcher, which looks whether it should stop: for long string
 * instructions whose progress is in the registers. Does not return. */
void rv_restart(struct rv_interp *c, const struct rv_insn *i) __attribute__((noreturn));

/* Leaves run() before i, the first of its block: the host said stop. Does not return. */
void rv_stop_before(struct rv_interp *c, const struct rv_insn *i) __attribute__((noreturn));

/* Takes software interrupt vector: INT n, INT3, INTO, or INT1 with privileged set, which no gate's
 * DPL keeps out. Does not return. */
void rv_soft_interrupt(struct rv_interp *c, const struct rv_insn *i, unsigned vector,
                       bool privileged) __attribute__((noreturn));

/* Raises #GP(0) unless the port may be used at this privilege (IOPL, TSS bitmap). */
void rv_port_check(struct rv_interp *c, const struct rv_insn *i, uint16_t port, unsigned size);
uint64_t rv_port_read(struct rv_interp *c, const struct rv_insn *i, uint16_t port, unsigned size);
void rv_port_write(struct rv_interp *c, const struct rv_insn *i, uint16_t port, unsigned size,
                   uint64_t v);

/* ---- the engine's functions, which vmm/cpu/xlate builds on; see vmm/cpu/engine.h ---- */

static inline struct rv_interp *rv_interp_of(struct rv_engine *e) {
    return (struct rv_interp *)((char *)e - offsetof(struct rv_interp, engine));
}
/* As create, for an engine with other functions and `after` zeroed bytes behind struct rv_interp.
 */
int rv_interp_make(struct rv_engine **out, const struct rv_engine_ops *ops, size_t after,
                   struct rv_ram *ram, struct rv_cpu_bus *bus, const struct rv_profile *profile,
                   struct rv_err *err);
int rv_interp_create(struct rv_engine **out, struct rv_ram *ram, struct rv_cpu_bus *bus,
                     const struct rv_profile *profile, struct rv_err *err);
void rv_interp_destroy(struct rv_engine *e);
int rv_interp_run(struct rv_engine *e, rv_icount until, bool want_window, struct rv_err *err);
bool rv_interp_interruptible(struct rv_engine *e);
int rv_interp_inject(struct rv_engine *e, unsigned vector, struct rv_err *err);
void rv_interp_nmi(struct rv_engine *e);
rv_icount rv_interp_icount(struct rv_engine *e);
void rv_interp_get(struct rv_engine *e, struct rv_x86 *out);
int rv_interp_set(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err);
int rv_interp_restore(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err);
void rv_interp_watch(struct rv_engine *e, const struct rv_watch *w);
void rv_interp_count(struct rv_engine *e, bool on);
void rv_interp_count_as(struct rv_engine *e, uint64_t tag);
void rv_interp_counted(struct rv_engine *e, void (*each)(void *ctx, const struct rv_count *count),
                       void *ctx);
void rv_interp_kick(struct rv_engine *e);

#endif
