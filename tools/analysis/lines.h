/* What a guest printed, put together to lines: a trace has it in pieces as they came, one character
 * each where it echoes what is typed. */
#ifndef RV_ANALYSIS_LINES_H
#define RV_ANALYSIS_LINES_H

#include "tools/analysis/run.h"
#include "vmm/base/buf.h"

struct rv_line {
    rv_icount at; /* of its first byte, as of the piece that it is in */
    rv_ns time;
    uint32_t task;     /* current then, or RV_NONE */
    size_t start, len; /* in the text; with its end of line */
};

struct rv_lines {
    struct rv_line *line;
    size_t n;
    struct rv_buf text;
};

/* A line ends after LF, or where nothing is printed for more than a second of guest time. */
void rv_lines_make(struct rv_lines *out, const struct rv_guest_run *run);
void rv_lines_release(struct rv_lines *l);

#endif
