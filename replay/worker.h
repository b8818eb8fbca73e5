/* A machine that replays, taken from checkpoint to checkpoint. The timeline has one for the user
 * and some for searching at the same time. Private to replay/. */
#ifndef RV_REPLAY_WORKER_H
#define RV_REPLAY_WORKER_H

#include <stdatomic.h>

#include "replay/history.h"
#include "replay/session.h"

#define RV_HOLDS_ZERO RV_NEVER

struct rv_worker {
    struct rv_nondet nd; /* stands between the machine and the player */
    struct rv_nondet *player;
    struct rv_replay *replay;
    rv_icount *holds;  /* for each page not written since: the version it holds, or RV_HOLDS_ZERO */
    _Atomic int stop;  /* enum rv_stop: the run is to end */
    bool ended;        /* the recording's end was reached */
    struct rv_end end; /* how the last run ended */
    /* Called at each slice of a run, on the thread that runs; true: stop with INTERRUPT. */
    bool (*poll)(void *ctx, rv_icount at);
    void *ctx;
    /* The guest goes on by itself, apart from history. */
    bool branched;
    struct rv_buf *console; /* what the branch prints; borrowed, may be NULL */
};

/* config's player settings are the worker's own. */
int rv_worker_new(struct rv_worker **out, const struct rv_replay_config *config,
                  struct rv_err *err);
void rv_worker_free(struct rv_worker *w);

struct rv_machine *rv_worker_machine(struct rv_worker *w);

/* Puts checkpoint i of the history into the machine. */
int rv_worker_restore(struct rv_worker *w, const struct rv_history *h, size_t i,
                      struct rv_err *err);
/* Saves where the machine stands (at a position) as a checkpoint in memory. */
int rv_worker_keep(struct rv_worker *w, struct rv_history *h, struct rv_err *err);
/* The machine's and player's state, without RAM. */
int rv_worker_state(struct rv_worker *w, struct rv_buf *out, struct rv_err *err);

/* Runs until the position is just reached (RV_STOP_TARGET), a watch says stop (RV_STOP_WATCH), the
 * recording ends, or it is asked to stop (any other reason); the reason, or negative. */
int rv_worker_run(struct rv_worker *w, rv_icount target, struct rv_err *err);

#endif
