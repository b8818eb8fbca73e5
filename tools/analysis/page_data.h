/* The data of the page that retro view makes: a run as one JSON object, small enough for a browser
 * however long the recording is. tools/page/model.js is its reader.
 *
 * Of each kind of thing (system calls, switches, ...) at most `most` are in it: where there are
 * more, neighbours of one process or vector are put together and counted, in bins as narrow as that
 * allows. */
#ifndef RV_ANALYSIS_PAGE_DATA_H
#define RV_ANALYSIS_PAGE_DATA_H

#include "tools/analysis/tables.h"
#include "vmm/cpu/x86.h"

#define RV_PAGE_CODE   6
#define RV_PAGE_FRAMES 24

/* The machine at one position. */
struct rv_page_state {
    rv_icount at;
    struct rv_x86 cpu;
    unsigned codes, frames;
    struct {
        uint64_t addr;
        char text[96];
    } code[RV_PAGE_CODE]; /* what it runs next */
    struct {
        uint64_t pc;
        char name[120];
    } frame[RV_PAGE_FRAMES]; /* innermost first */
};

struct rv_page_config {
    const char *file; /* as shown */
    const char *arg;  /* as a shell takes it, for commands that are shown */
    rv_icount from, to;
    rv_ns from_time, to_time; /* guest time there */
    size_t most;
    const struct rv_page_state *state; /* by position */
    size_t states;
};

/* Appends the object to out. */
void rv_page_data(struct rv_buf *out, const struct rv_export *x, const struct rv_page_config *c);

/* Positions worth a look, for states: at most n, spread over what happened between from and to;
 * returns how many, in rising order, each once. */
size_t rv_page_places(const struct rv_guest_run *r, rv_icount from, rv_icount to, rv_icount *out,
                      size_t n);

#endif
