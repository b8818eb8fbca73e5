/* Makes a whole, sealed trace out of a damaged or unsealed one. */
#ifndef RV_TRACE_SALVAGE_H
#define RV_TRACE_SALVAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct rv_trace_salvage {
    uint64_t events;      /* kept */
    uint64_t position;    /* everything before this instruction was kept */
    uint64_t blobs;       /* kept */
    bool whole;           /* no event is known to be lost */
    uint64_t events_lost; /* at least: as far as damaged parts still say what they held */
    uint64_t blobs_lost;  /* damaged or not complete */
    uint64_t chunks_lost; /* derived data, or chunks that are known after the damage */
    char damage[512];     /* what ended the history, or cost a blob first; "" when nothing did */
};

enum rv_trace_salvage_flags {
    RV_TRACE_SALVAGE_OVERWRITE = 1 << 0, /* `out` may exist already; it must not be `in` */
};

/* Copies header, blobs and events of `in` up to the first damage of its history into the new file
 * `out` and seals it: with the old summary when that and all events are whole, else with
 * RV_TRACE_REASON_SALVAGED. `in` is not changed. Returns 0 also when much was lost; RV_E_FORMAT
 * when nothing can be kept because the header is gone. *report may be NULL. */
int rv_trace_salvage(const char *in, const char *out, unsigned flags,
                     struct rv_trace_salvage *report, struct rv_err *err);

#endif
