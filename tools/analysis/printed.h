/* What a guest printed, put together to lines: a trace has it in pieces as they came, one character
 * each where it echoes what is typed. */
#ifndef RV_ANALYSIS_PRINTED_H
#define RV_ANALYSIS_PRINTED_H

#include "tools/analysis/run.h"
#include "vmm/base/buf.h"

struct rv_printed_line {
    rv_icount at; /* of its first byte, as of the piece that it is in */
    rv_ns time;
    uint32_t task;     /* current then, or RV_NONE */
    size_t start, len; /* in the text; with its end of line */
};

struct rv_printed {
    struct rv_printed_line *line;
    size_t n;
    struct rv_buf text;
};

/* A line ends after LF, or where nothing is printed for more than a second of guest time. */
void rv_printed_make(struct rv_printed *out, const struct rv_guest_run *run);
void rv_printed_release(struct rv_printed *l);

#endif
