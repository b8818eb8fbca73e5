/* Private to replay/timeline.c and replay/search.c. */
#ifndef RV_REPLAY_TIMELINE_PRIV_H
#define RV_REPLAY_TIMELINE_PRIV_H

#include "replay/timeline.h"
#include "replay/worker.h"

struct rv_timeline {
    struct rv_timeline_config config;
    char *path;
    struct rv_history *h;
    struct rv_worker **worker; /* [0] is the one that stands at now; others are made when needed */
    struct rv_moment now;
    struct rv_moment branched_at;
    double speed; /* instructions a second that the machine runs, as last seen */
    bool lost;    /* an error left the machine anywhere: the next move starts from a checkpoint */
    struct rv_timeline_stats stats;
};

#define RV_END_DELIVERED UINT32_MAX /* in the moment that is the end */

struct rv_worker *rv_timeline_worker(struct rv_timeline *t, unsigned i, struct rv_err *err);

struct rv_found {
    bool hit, interrupted;
    bool arrived; /* worker 0 stands where the hit is over */
    struct rv_watch_hit best;
};
/* Looks for the first hit after now (forward), or the last before it, in all epochs that can hold
 * one. lost: worker 0 does not stand at now. Leaves it anywhere. */
int rv_search_epochs(struct rv_timeline *t, const struct rv_search *s, bool forward, bool lost,
                     struct rv_found *found, struct rv_err *err);

#endif
