/* The host behind the choke point: console on file descriptors, the wall clock, stop requests. */
#ifndef RV_VMM_HOST_LIVE_H
#define RV_VMM_HOST_LIVE_H

#include <stdatomic.h>

#include "vmm/base/err.h"
#include "vmm/nondet.h"

struct rv_live; /* opaque; its first member is a struct rv_nondet */

struct rv_live_config {
    int input_fd;         /* console input, or -1 */
    int output_fd;        /* console output, or -1 to drop it */
    int debugcon_fd;      /* port 0xe9 output, or -1 */
    bool pace;            /* guest time keeps pace with the wall clock; else it never waits */
    bool host_time;       /* the machine's guest time is the host's: RV_RATE_HOST */
    bool escape;          /* input is a terminal: Ctrl-] c sends Ctrl-C, Ctrl-] q stops */
    rv_icount max_icount; /* stop there; RV_NEVER: no limit */
    /* Set by the caller (from a signal handler) to an enum rv_stop to make the machine stop. */
    const _Atomic int *stop_request;
};

int rv_live_new(struct rv_live **out, const struct rv_live_config *config, struct rv_err *err);
void rv_live_free(struct rv_live *l);
struct rv_nondet *rv_live_nondet(struct rv_live *l);

/* For machines whose engine does not count: calls kick(ctx), from a thread of its own, whenever
 * next() should be asked although nothing in the guest leads there. Stops when l is freed. */
int rv_live_kick_with(struct rv_live *l, void (*kick)(void *ctx), void *ctx, struct rv_err *err);

#endif
