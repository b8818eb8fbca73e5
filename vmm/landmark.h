/* Landmarks: places between two traps, known by the whole state of CPU and memory. */
#ifndef RV_VMM_LANDMARK_H
#define RV_VMM_LANDMARK_H

#include "vmm/cpu/engine.h"
#include "vmm/mem/ram.h"
#include "vmm/nondet.h"

/* The state that e and ram are in. Costs a digest of the pages written since the last one. */
void rv_landmark_of(struct rv_landmark *out, struct rv_engine *e, struct rv_ram *ram);

/* Are e and ram in that state? *candidates counts the times that the general registers and the
 * landmark's words were equal and the rest had to be looked at. */
bool rv_landmark_is(const struct rv_landmark *wanted, struct rv_engine *e, struct rv_ram *ram,
                    uint64_t *candidates);

/* Arithmetic flags in a byte: as in the low byte of RFLAGS, with OF in bit 1. */
static inline uint8_t rv_flags_byte(uint32_t flags) {
    return (uint8_t)((flags & RV_FL_ARITH & 0xff) | (flags & RV_FL_OF ? 2 : 0));
}
static inline uint32_t rv_flags_of_byte(uint8_t byte) {
    return (byte & RV_FL_ARITH) | (byte & 2 ? RV_FL_OF : 0);
}

#endif
