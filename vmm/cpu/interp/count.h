/* Counting executed instructions (vmm/cpu/count.h). Private to vmm/cpu/interp and vmm/cpu/xlate.
 *
 * A block that is executed from two privilege levels is two pieces of code; each has a number. An
 * address space, for each tag of the host's, has a counter for each number: how often the block was
 * entered in it. When one is left before its end, that is noted apart (a cut): the rest of the
 * block was entered once too often. So what runs often costs one increment a block, and an address
 * space costs nothing until it is switched to. */
#ifndef RV_VMM_CPU_INTERP_COUNT_H
#define RV_VMM_CPU_INTERP_COUNT_H

#include "vmm/cpu/interp/interp.h"

/* Starts counting from zero, or stops. */
void rv_count_set(struct rv_interp *c, bool on);
/* From what runs next on; nothing of the block that was entered has run. */
void rv_count_as(struct rv_interp *c, uint64_t tag);
void rv_count_visit(const struct rv_interp *c,
                    void (*each)(void *ctx, const struct rv_count *count), void *ctx);
void rv_count_free(struct rv_interp *c);

/* All below: only while counting (c->count is not NULL). */

/* b is what runs next, or its first instruction is, in the address space that is loaded. */
void rv_count_found(struct rv_interp *c, struct rv_block *b);

/* The number of a block at a privilege level; c->hot.counts may move. */
uint32_t rv_count_number(struct rv_interp *c, struct rv_block *b, bool user);
/* The block that was found is entered; what becomes of it, rv_count_left says. */
void rv_count_enter(struct rv_interp *c);
/* Likewise from the middle of b, which was entered at icount `from` and counted then. */
void rv_count_step(struct rv_interp *c, struct rv_block *b, rv_icount from);
/* The block that was entered is done, or left early, at icount `to`. */
void rv_count_left(struct rv_interp *c, rv_icount to);
/* b is forgotten: its number will be of use again. */
void rv_count_forgotten(struct rv_interp *c, struct rv_block *b);

#endif
