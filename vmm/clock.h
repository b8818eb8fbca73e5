/* Guest time: a fixed rate for each instruction, plus jumps while the guest idles or to keep pace
 * with the wall. With rate 0 it is jumps alone: time follows the host's clock, looked at when the
 * guest looks. */
#ifndef RV_VMM_CLOCK_H
#define RV_VMM_CLOCK_H

#include "vmm/base/types.h"

struct rv_clock {
    uint64_t rate; /* ns per instruction, 32.32; 0: does not follow the count */
    rv_ns jumped;  /* sum of all jumps */
};

static inline rv_ns rv_clock_at(const struct rv_clock *c, rv_icount icount) {
    return (rv_ns)(((unsigned __int128)icount * c->rate) >> 32) + c->jumped;
}

/* The first icount at which guest time is t or later; RV_NEVER for RV_NEVER. */
static inline rv_icount rv_clock_icount(const struct rv_clock *c, rv_ns t) {
    if (t == RV_NEVER) return RV_NEVER;
    if (t <= c->jumped) return 0;
    if (!c->rate) return RV_NEVER;
    unsigned __int128 n = ((unsigned __int128)(t - c->jumped) << 32) + c->rate - 1;
    n /= c->rate;
    return n > RV_NEVER - 1 ? RV_NEVER : (rv_icount)n;
}

#endif
