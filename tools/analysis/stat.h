/* A recording in numbers. */
#ifndef RV_ANALYSIS_STAT_H
#define RV_ANALYSIS_STAT_H

#include "tools/analysis/run.h"
#include "trace-format/reader.h"

#define RV_STAT_SPANS 24

/* What happened in one of the equal parts of a recording. */
struct rv_stat_span {
    rv_icount from;
    uint64_t written, executed; /* different pages of RAM */
    uint64_t syscalls, interrupts, exceptions, switches, printed, input; /* the last two: bytes */
};

struct rv_stat {
    rv_icount instructions;
    rv_ns time;
    rv_ns not_computing;     /* guest time in which no instruction ran: it slept in HLT, or time was
                                moved on from outside; 0 where time does not follow the instructions */
    rv_ns moved_on;          /* of that, from outside */
    uint64_t vector[4][256]; /* deliveries by enum rv_trap_kind and vector */
    uint64_t pages, written, executed, touched; /* of RAM; touched: either */
    uint64_t processes, threads, kernel_threads, execs, signalled;
    uint64_t failed; /* system calls that returned an error */
    struct rv_stat_call {
        const char *name; /* of the run */
        uint64_t times, failed;
        rv_ns time; /* from call to return */
    } * call;       /* most often first */
    size_t calls;
    size_t spans;
    struct rv_stat_span span[RV_STAT_SPANS];
};

/* run has everything (RV_RUN_ALL). An interrupted run gives the numbers of its part. */
void rv_stat_make(struct rv_stat *out, const struct rv_guest_run *run,
                  const struct rv_history *history, const struct rv_trace_reader *reader);
void rv_stat_release(struct rv_stat *s);

#endif
