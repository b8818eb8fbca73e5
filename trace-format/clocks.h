/* How a run of clock reads is packed into the data of one RV_TRACE_TRAP event: one entry a read,
 * with the positions since the read before (the event's own position, for the first) and the guest
 * nanoseconds since the guest time before. An entry is a varint of
 *
 *   step << 1 | far      followed, when far, by a varint of the positions; otherwise it is 1
 *
 * where step is a code of rv_clock_code, or RV_CLOCK_EXACT, followed by a varint of nanoseconds.
 * Recorders that measure time round it to what has a code, so that reads within some 100
 * microseconds take one byte, and all others two. */
#ifndef RV_TRACE_CLOCKS_H
#define RV_TRACE_CLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/buf.h"

/* Codes are small floating-point numbers: below 8 the value itself, above it four values in each
 * power of two. */
#define RV_CLOCK_EXACT 127u

static inline uint64_t rv_clock_value(unsigned code) {
    return code < 8 ? code : (uint64_t)(4 + (code & 3)) << (code / 4 - 1);
}

/* The largest code (below RV_CLOCK_EXACT) whose value is at most ns. */
static inline unsigned rv_clock_code(uint64_t ns) {
    if (ns < 8) return (unsigned)ns;
    unsigned shift = 61 - (unsigned)__builtin_clzll(ns); /* ns >> shift is 4 to 7 */
    unsigned code = (shift + 1) * 4 + (unsigned)(ns >> shift & 3);
    return code < RV_CLOCK_EXACT ? code : RV_CLOCK_EXACT - 1;
}

/* Whether a recorder that may round should: beyond the largest code it would lag for good. */
static inline uint64_t rv_clock_round(uint64_t ns) {
    unsigned code = rv_clock_code(ns);
    return code == RV_CLOCK_EXACT - 1 ? ns : rv_clock_value(code);
}

/* Appends one entry. */
void rv_clocks_put(struct rv_buf *out, uint64_t positions, uint64_t ns);
/* Takes one entry; false, and in->bad, when it is damaged. */
bool rv_clocks_get(struct rv_cursor *in, uint64_t *positions, uint64_t *ns);

#endif
