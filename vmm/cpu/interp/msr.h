/* Model-specific registers of the interpreter. Private to vmm/cpu/interp. */
#ifndef RV_VMM_CPU_INTERP_MSR_H
#define RV_VMM_CPU_INTERP_MSR_H

#include "vmm/cpu/interp/interp.h"

#define RV_MSR_APIC_BASE 0x1bu

/* False: no such register, or a value that it does not take (#GP(0)). icount is exact on entry. */
bool rv_msr_read(struct rv_interp *c, uint32_t index, uint64_t *value);
bool rv_msr_write(struct rv_interp *c, uint32_t index, uint64_t value);

#endif
