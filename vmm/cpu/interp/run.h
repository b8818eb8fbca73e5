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

#endif
