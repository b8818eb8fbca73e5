/* The call tree of a recording: which function called which, how often, with how many instructions
 * and how much guest time, exactly.
 *
 * Every call and return is looked at, in order, on one thread: much slower than a tally. Stacks are
 * kept for each task of a Linux guest, across system calls, interrupts and switches. What was
 * called before the range begins is not known: the tree then starts with the function that was
 * running. A function that is jumped to counts as part of the one that jumped, until something
 * returns into it. */
#ifndef RV_ANALYSIS_CALLS_H
#define RV_ANALYSIS_CALLS_H

#include "tools/analysis/guest.h"

struct rv_call_node {
    uint32_t in;          /* the caller; node 0 is the root, in itself */
    const char *name;     /* function, "?" where no symbol is known; of level 1: "comm (pid)" */
    const char *module;   /* as in struct rv_tally_function; "" of level 1 */
    uint64_t calls;       /* how often it was entered from there */
    uint64_t own, all;    /* instructions: of itself, and with what it called */
    rv_ns own_time, time; /* guest time, likewise; HLT counts for the one that waits */
    uint32_t first, next; /* child with the most instructions; next sibling; 0: none */
};

struct rv_calls {
    struct rv_call_node *node;
    uint32_t nodes;
    bool cut; /* there were too many different paths, or too deep ones: some are not told apart */
    bool interrupted;
    rv_icount from, upto;
    struct rv_arena *arena;
};

struct rv_calls_config {
    struct rv_timeline *timeline;
    const struct rv_guest *guest;
    rv_icount from, to;
    uint32_t pid; /* only this process's; 0: all */
    void (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
};

/* Instructions of the root add up to those of the range; with a pid to what that process ran. */
int rv_calls_gather(struct rv_calls **out, const struct rv_calls_config *config,
                    struct rv_err *err);
void rv_calls_free(struct rv_calls *c);

#endif
