/* What two recordings were given from outside, and what they did, compared by their traces alone.
 */
#ifndef RV_ANALYSIS_INPUTS_H
#define RV_ANALYSIS_INPUTS_H

#include "trace-format/reader.h"
#include "vmm/base/types.h"

/* Something about the machine that differs. Strings live as long as the readers and the list. */
struct rv_start_difference {
    const char *what;
    char side[2][160];
};
#define RV_START_DIFFERENCES 16

/* How the machines that two recordings start with differ: memory, processor, devices, guest,
 * command line. Returns how many were put into out, 0: they start alike. What does not reach the
 * guest - the host, the engine, when it was recorded - is no difference. */
size_t rv_start_compare(const struct rv_trace_reader *a, const struct rv_trace_reader *b,
                        struct rv_start_difference out[RV_START_DIFFERENCES]);

/* A place in a trace. */
struct rv_trace_place {
    bool any;         /* there is such an event; else the trace has nothing more of the kind */
    uint64_t ordinal; /* number of the event */
    struct rv_trace_event ev; /* its data is the place's */
    uint8_t *data;            /* owned */
    size_t offset;            /* of the first byte that differs in its data */
    uint64_t before;          /* bytes from or to the same source before that one */
};

struct rv_inputs_compared {
    bool differ;
    struct rv_trace_place side[2]; /* the first input that differs, on each side */
    rv_icount from;                /* both have had the same from outside before this position */
    uint64_t common;               /* inputs that are alike */
    bool outputs_differ;
    struct rv_trace_place output[2]; /* the first byte printed that differs; console first */
    bool digests_differ;
    rv_icount digest_alike, digest_differs; /* positions of the last that is alike, the first not */
    uint64_t digests;                       /* compared up to there */
};

/* Compares all events. On damage, what lies before it is compared and the error returned. */
int rv_inputs_compare(const struct rv_trace_reader *a, const struct rv_trace_reader *b,
                      struct rv_inputs_compared *out, struct rv_err *err);
void rv_inputs_release(struct rv_inputs_compared *c);

#endif
