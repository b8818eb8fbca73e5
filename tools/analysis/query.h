/* Questions about one place in memory or code over history: every access, in order. */
#ifndef RV_ANALYSIS_QUERY_H
#define RV_ANALYSIS_QUERY_H

#include "tools/analysis/guest.h"

/* A part of a range of addresses, within one page: its physical memory, or, with `linear`, whatever
 * memory is behind its linear address at the time. */
struct rv_span {
    rv_gpa gpa; /* !linear */
    uint64_t va;
    uint64_t len; /* bytes */
    bool linear;
};

/* A place in memory. Of a kernel's address, or a physical one, it is the memory that is there at
 * the moment of the look. Of an address in a process it is what the process has there at each
 * moment, also when the page behind it changes: copied on write after a fork, say. */
struct rv_target {
    struct rv_span *span;
    size_t n;
    uint64_t root; /* of the process's page tables; 0: not in a process */
};
/* Of len bytes from an address on. RV_E_USAGE, naming the address, when a part is not there. */
int rv_target_of(struct rv_target *out, const struct rv_look *look, uint64_t addr, uint64_t len,
                 bool physical, struct rv_err *err);
void rv_target_release(struct rv_target *t);

/* One access, or one execution. */
struct rv_access {
    enum rv_watch_access what;
    struct rv_moment before, after; /* as in struct rv_watch_hit */
    rv_ns time;
    uint64_t va, gpa;  /* va: linear address used, UINT64_MAX: none (page tables, by the CPU) */
    unsigned size;     /* bytes; 0: an execution */
    uint8_t bytes[16]; /* memory at gpa just after, the first `size` of them */
    uint64_t rip;
    bool user;
    uint32_t pid, tid; /* of the task that ran; when known */
    bool known;
    char comm[16];
    uint64_t root;     /* CR3 */
    uint64_t gpr[16];  /* enum rv_gpr; executions: as they were before */
    uint64_t stack[1]; /* executions: the word at the stack pointer, a function's return address */
    const char *text;  /* what note() wrote; "" without */
};

struct rv_query {
    struct rv_timeline *timeline;
    const struct rv_linux *kernel; /* NULL: tasks are not known */
    const struct rv_target *target;
    unsigned access;    /* enum rv_watch_access, several may be set */
    rv_icount from, to; /* hits that begin in between; to: RV_NEVER is the end */
    uint32_t pid;       /* only of this process or thread; 0: of all */
    /* Executions: only at these addresses; NULL: at any in the spans. */
    const uint64_t *at;
    size_t at_n;
    /* Adds text to an access, on any thread, the machine standing there. May be NULL. */
    void (*note)(void *ctx, struct rv_machine *m, struct rv_access *a, struct rv_buf *out);
    /* Each access in order, on the caller's thread: 0 to go on, 1: enough, negative: failed. */
    int (*each)(void *ctx, const struct rv_access *a, struct rv_err *err);
    bool (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
};
/* *upto: everything before this position was looked at; the end when nothing stopped it. */
int rv_query_run(const struct rv_query *q, rv_icount *upto, bool *interrupted, struct rv_err *err);

/* The last write to the target before where the timeline stands, or the next one after: the
 * timeline goes where it is undone, or done. *found false: there is none, or it was interrupted. */
int rv_query_write(struct rv_timeline *t, const struct rv_target *target, bool next,
                   struct rv_watch_hit *hit, bool *found, bool *interrupted, struct rv_err *err);

/* ---- bytes in memory ---- */

struct rv_sighting {
    rv_gpa gpa;
    rv_icount by; /* it was there at this position, and not yet at the one looked at before */
};
/* Looks for bytes in all of memory as history goes by: at the start, and every 16384 instructions
 * in what was written since; with `exact` after every write, which takes many times as long. Each
 * place is told once, in order of position. What lies across pages that are not neighbours in
 * physical memory is not seen. each() as above. */
int rv_query_bytes(struct rv_timeline *t, const uint8_t *bytes, size_t len, bool exact,
                   int (*each)(void *ctx, const struct rv_sighting *s, struct rv_err *err),
                   bool (*progress)(void *ctx, rv_icount done, rv_icount total), void *ctx,
                   rv_icount *upto, bool *interrupted, struct rv_err *err);

#endif
