/* A recording as something to walk along: to any moment of it, forwards and backwards, and to where
 * something happened.
 *
 * One thread calls these functions. Searches use threads of their own inside, and are over when the
 * function returns. */
#ifndef RV_REPLAY_TIMELINE_H
#define RV_REPLAY_TIMELINE_H

#include "replay/index.h"
#include "replay/session.h"
#include "vmm/cpu/watch.h"
#include "vmm/machine.h"

struct rv_timeline; /* opaque */

struct rv_timeline_config {
    struct rv_replay_config replay; /* player settings are the timeline's own */
    uint64_t memory;                /* bytes that checkpoints made on the way may take */
    unsigned workers;               /* machines that search at a time; at least 1 */
    bool use_index;                 /* read the index beside the trace, and write one if need be */
    /* Progress of building the index, as in struct rv_index_config. */
    bool (*progress)(void *ctx, rv_icount done, rv_icount total);
    /* Asked now and then during whatever takes long: true: give up, and go back to where it began
     * (results say RV_AT_INTERRUPT). May be NULL. */
    bool (*interrupted)(void *ctx);
    void *ctx;
};

/* Opens at the start of the recording. A missing or unfit index is built first; *note, of size
 * bytes, says what was done about it and is empty when there is nothing to say. */
int rv_timeline_open(struct rv_timeline **out, const struct rv_timeline_config *config, char *note,
                     size_t size, struct rv_err *err);
void rv_timeline_free(struct rv_timeline *t);

/* Where it stands. The end of the recording is a moment of its own, after all others. */
struct rv_moment rv_timeline_now(const struct rv_timeline *t);
struct rv_moment rv_timeline_end(const struct rv_timeline *t);
rv_ns rv_timeline_end_time(const struct rv_timeline *t);
bool rv_timeline_at_end(const struct rv_timeline *t);
bool rv_timeline_at_start(const struct rv_timeline *t);
enum rv_stop rv_timeline_reason(const struct rv_timeline *t); /* why the recording ended */
/* The machine there, to look at; only a branch may change it (rv_timeline_branch). */
struct rv_machine *rv_timeline_machine(struct rv_timeline *t);
const struct rv_trace_reader *rv_timeline_reader(const struct rv_timeline *t);

/* As rv_player_progress. */
void rv_timeline_progress(const struct rv_timeline *t, uint64_t *events, uint64_t *bytes);

/* How a move ended. */
enum rv_at { RV_AT_TARGET, RV_AT_HIT, RV_AT_START, RV_AT_END, RV_AT_INTERRUPT };

struct rv_arrival {
    enum rv_at at;
    struct rv_watch_hit hit; /* AT_HIT */
};

/* Goes to a moment; one beyond the end is the end. A moment between two that exist (of an exception
 * that was not delivered) is the next that exists. */
int rv_timeline_seek(struct rv_timeline *t, struct rv_moment to, struct rv_arrival *a,
                     struct rv_err *err);

/* To the next, or the one before, of the moments at which an instruction is about to run. */
int rv_timeline_step(struct rv_timeline *t, struct rv_arrival *a, struct rv_err *err);
int rv_timeline_step_back(struct rv_timeline *t, struct rv_arrival *a, struct rv_err *err);

/* What a search looks for. */
struct rv_sought {
    struct rv_watchpoint watch;
    /* The page of RAM (number as in struct rv_ram) that holds the code or data, when it is known to
     * be in that page alone throughout; RV_ANYWHERE: it may be in any. It tells which epochs need
     * not be searched. Of no use for an EXEC point with a linear address, whose epochs are known.
     */
    uint64_t page;
};
#define RV_ANYWHERE UINT64_MAX

struct rv_search {
    const struct rv_sought *sought;
    size_t n;
    /* Says whether a hit counts; NULL: all do. Called with the machine that met it, its state
     * exact, from any thread and from several at a time. */
    bool (*accept)(void *ctx, struct rv_machine *m, const struct rv_watch_hit *hit);
    void *ctx;
};

/* To the next hit after now, or to the last one before: then a->hit is it. An EXEC hit at now
 * itself does not count. Forwards it stops where the hit is over (hit.after), backwards where it is
 * undone (hit.before). Without a hit it ends at the end or the start of the recording. */
int rv_timeline_run(struct rv_timeline *t, const struct rv_search *s, struct rv_arrival *a,
                    struct rv_err *err);
int rv_timeline_run_back(struct rv_timeline *t, const struct rv_search *s, struct rv_arrival *a,
                         struct rv_err *err);

/* A branch: from now on the machine may be changed, and steps and runs (forwards only) go on
 * without the trace; nothing comes from outside any more. console, borrowed, collects what the
 * guest prints. unbranch goes back to where it began. */
int rv_timeline_branch(struct rv_timeline *t, struct rv_buf *console, struct rv_err *err);
int rv_timeline_unbranch(struct rv_timeline *t, struct rv_err *err);
bool rv_timeline_branched(const struct rv_timeline *t);

/* What it holds, for those who want to know. */
struct rv_timeline_stats {
    size_t filed, kept;   /* checkpoints in the index, in memory */
    uint64_t kept_bytes;  /* of pages in memory */
    uint64_t index_bytes; /* of the index file */
    size_t epochs;
    uint64_t restores;                   /* checkpoints taken up so far */
    uint64_t epochs_due, epochs_skipped; /* in searches so far: those that could hold a hit */
};
struct rv_timeline_stats rv_timeline_stats(const struct rv_timeline *t);
/* Its epochs, with the pages that each wrote and executed; valid until the timeline goes. */
const struct rv_history *rv_timeline_history(const struct rv_timeline *t);
/* Positions of checkpoints, i below filed + kept. */
rv_icount rv_timeline_checkpoint(const struct rv_timeline *t, size_t i, bool *filed);

#endif
