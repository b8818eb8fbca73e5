/* Segmentation: checks, descriptors, and the changes of privilege built on them. Private to
 * vmm/cpu/interp. Source: SDM 3A chapters 3, 5, 6 and 7. */
#ifndef RV_VMM_CPU_INTERP_SEG_H
#define RV_VMM_CPU_INTERP_SEG_H

#include "vmm/cpu/interp/interp.h"

/* A descriptor as it lies in a table. */
struct rv_desc {
    uint64_t lo; /* the eight bytes every descriptor has */
    uint64_t hi; /* system descriptors in long mode: the next eight */
    uint64_t at; /* linear address of lo */
};

/* Linear address of offset off in a segment outside 64-bit mode, after the checks of type and limit
 * that the access calls for. Raises #GP(0) or #SS(0). */
uint64_t rv_seg_linear(struct rv_interp *c, const struct rv_insn *i, unsigned seg, uint64_t off,
                       unsigned size, bool write);

/* Reads the descriptor that sel names; raises vector(sel) when it lies beyond its table. wide also
 * reads the upper half of a system descriptor in long mode. */
struct rv_desc rv_desc_read(struct rv_interp *c, const struct rv_insn *i, uint16_t sel, bool wide,
                            unsigned vector);
/* As rv_desc_read, but false instead of a fault for a bad selector. */
bool rv_desc_try(struct rv_interp *c, const struct rv_insn *i, uint16_t sel, bool wide,
                 struct rv_desc *out);
static inline unsigned rv_desc_attr(const struct rv_desc *d) {
    return (unsigned)(d->lo >> 40) & 0xf0ff;
}
static inline unsigned rv_desc_type(const struct rv_desc *d) { return (d->lo >> 40) & 15; }
static inline bool rv_desc_s(const struct rv_desc *d) { return d->lo >> 44 & 1; }
static inline unsigned rv_desc_dpl(const struct rv_desc *d) { return (d->lo >> 45) & 3; }
static inline bool rv_desc_p(const struct rv_desc *d) { return d->lo >> 47 & 1; }
struct rv_seg rv_desc_seg(const struct rv_desc *d, uint16_t sel);
/* Sets the accessed bit in the table if it is clear. */
void rv_desc_accessed(struct rv_interp *c, const struct rv_insn *i, struct rv_desc *d);
/* The same for a descriptor that a control transfer loads. */
void rv_desc_taken(struct rv_interp *c, const struct rv_insn *i, struct rv_desc *d);

/* Loads ES, SS, DS, FS or GS with all checks, in any mode. */
void rv_seg_load(struct rv_interp *c, const struct rv_insn *i, unsigned seg, uint16_t sel);
/* As a real-mode or virtual-8086 load. */
void rv_seg_load_real(struct rv_interp *c, unsigned seg, uint16_t sel);

/* A new stack for level cpl: from the TSS (16, 32 or 64 bit; ist 1-7 in long mode). */
struct rv_stack {
    struct rv_seg ss;
    uint64_t sp;
};
struct rv_stack rv_stack_of_level(struct rv_interp *c, const struct rv_insn *i, unsigned cpl,
                                  unsigned ist);

/* Task switch (ops_task.c). */
enum rv_task_cause { RV_TASK_JMP, RV_TASK_CALL, RV_TASK_IRET, RV_TASK_GATE };
void rv_task_switch(struct rv_interp *c, const struct rv_insn *i, uint16_t sel,
                    enum rv_task_cause cause, uint64_t next_rip, bool has_error, uint32_t error);

/* ops_stack.c */
void rv_push(struct rv_interp *c, const struct rv_insn *i, unsigned size, uint64_t v);
uint64_t rv_peek(struct rv_interp *c, const struct rv_insn *i, unsigned size, unsigned depth);
void rv_flags_pop(struct rv_interp *c, uint64_t v, unsigned size);

/* except.c: delivers c->pending through the IDT; may raise. */
void rv_deliver(struct rv_interp *c, unsigned vector, bool has_error, uint32_t error, bool soft,
                bool external);

#endif
