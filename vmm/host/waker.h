/* A thread that wakes a machine which runs without looking up: when guest time is the host's and
 * its engine does not count instructions, nobody else would notice that a timer is due or that
 * something was typed. It touches nothing of the machine but its kick. */
#ifndef RV_VMM_HOST_WAKER_H
#define RV_VMM_HOST_WAKER_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"

struct rv_waker; /* opaque */

/* kick(ctx) is called from the waker's thread, with all signals blocked. */
int rv_waker_new(struct rv_waker **out, void (*kick)(void *ctx), void *ctx, struct rv_err *err);
/* Returns when the thread has ended. */
void rv_waker_free(struct rv_waker *w);

/* Kick at wall time at (ns, CLOCK_MONOTONIC; RV_NEVER: not at all) and once fd (-1: none) can be
 * read, whichever comes first, once. Replaces what was asked for before. Cheap when that was the
 * same. */
void rv_waker_set(struct rv_waker *w, uint64_t at, int fd);

#endif
