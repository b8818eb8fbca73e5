/* The neutral event: one thing that crossed the border of the machine, or one check made on it. */
#ifndef RV_TRACE_EVENT_H
#define RV_TRACE_EVENT_H

#include <stddef.h>
#include <stdint.h>

/* The numbers are part of the format and never change their meaning. Kinds a reader does not know
 * are handed through as they are, up to RV_TRACE_MAX_KINDS. */
enum rv_trace_kind {
    RV_TRACE_INPUT = 1,  /* the host pushed data into source */
    RV_TRACE_JUMP = 2,   /* guest time jumped ahead by value nanoseconds */
    RV_TRACE_QUERY = 3,  /* the guest pulled value from source */
    RV_TRACE_EFFECT = 4, /* guest output: data; position is the first byte's, value the last byte's
                            less the first, value2 a hash over the positions of all bytes */
    RV_TRACE_DIGEST = 5, /* value: digest of CPU and devices; value2: of RAM, or 0; source: which */
    RV_TRACE_MARK = 6,   /* a point somebody gave a name: data */
    RV_TRACE_TRAP = 7,   /* host time: reads of the clock, packed in data (clocks.h); value is the
                            last one's position less the first's; time is that before the first */
    RV_TRACE_LANDMARK = 8, /* what follows at this position comes not at its trap, but later, in the
                              first state at this linear address (value), this RAM (value2), and
                              these hashes of registers and CPU (data, 8 bytes each) */
    RV_TRACE_STOP = 9,     /* the machine stopped: value is the reason, data its text */
    RV_TRACE_FLAGS = 10,   /* the arithmetic flags in value, undefined here, become 0 */
};

struct rv_trace_event {
    uint32_t kind;       /* enum rv_trace_kind, 1 .. RV_TRACE_MAX_KINDS - 1 */
    uint32_t source;     /* which device, clock or console, as the recorder numbers them */
    uint64_t position;   /* instructions retired since power-on; never decreases in a trace */
    uint64_t time;       /* guest nanoseconds since power-on */
    uint64_t value;      /* meaning depends on kind */
    uint64_t value2;     /* meaning depends on kind */
    const uint8_t *data; /* len bytes, borrowed; may be NULL when len is 0 */
    size_t len;          /* at most RV_TRACE_MAX_EVENT_DATA */
};

/* "input", "jump", ...; "unknown" for a kind without a name. Never NULL. */
const char *rv_trace_kind_name(uint32_t kind);

#endif
