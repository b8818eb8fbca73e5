/* Stretches of history: what one worker runs at a time, from one checkpoint to the next, while
 * others run others. Private to replay/. */
#ifndef RV_REPLAY_STRETCH_H
#define RV_REPLAY_STRETCH_H

#include <pthread.h>

#include "replay/timeline_priv.h"

struct rv_stretch {
    size_t checkpoint;    /* to start from */
    rv_icount from, to;   /* to: RV_NEVER runs to the end of the recording */
    rv_icount need, last; /* the part from the first to the last epoch that can hold a hit */
};

/* Cuts history from `from` up to `to` (RV_NEVER: the end) at its checkpoints. Stretches in which
 * nothing of what is sought can be are left out, and so are the ends of others, unless `whole`.
 * *out is in the order of history and the caller's to free; returns how many. */
size_t rv_stretch_cut(struct rv_timeline *t, const struct rv_sought *sought, size_t n, bool whole,
                      rv_icount from, rv_icount to, struct rv_stretch **out);

/* Instructions that a worker runs for it. */
rv_icount rv_stretch_length(const struct rv_timeline *t, const struct rv_stretch *x);

/* Brings a worker to x->need: from x's checkpoint, or from where it stands in x (here). As
 * rv_worker_run: RV_STOP_TARGET when it came there. */
int rv_stretch_reach(struct rv_worker *w, const struct rv_history *h, const struct rv_stretch *x,
                     bool here, struct rv_err *err);
/* Runs it on to x->last and watches. As rv_worker_run. */
int rv_stretch_watch(struct rv_worker *w, const struct rv_stretch *x, const struct rv_watch *watch,
                     struct rv_err *err);

/* Waits for the condition, but not longer than it takes before the user should be asked again. */
void rv_stretch_wait(pthread_cond_t *cond, pthread_mutex_t *lock);

#endif
