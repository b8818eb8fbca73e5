#include "tests/quiet.h"

static int quiet_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                       uint64_t *value, struct rv_err *err) {
    (void)nd, (void)at, (void)err, (void)source;
    *value = 1700000000;
    return 0;
}
static int quiet_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                      struct rv_err *err) {
    (void)nd, (void)err;
    *out = (struct rv_push){0};
    if (q->idle)
        *out = (struct rv_push){.kind = RV_PUSH_JUMP, .source = RV_SRC_CLOCK, .time = q->deadline};
    return 0;
}
static int quiet_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                         struct rv_err *err) {
    (void)err;
    h->until = at.icount + ((struct quiet *)nd)->slice;
    return 0;
}
static int quiet_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                        const void *data, size_t len, struct rv_err *err) {
    (void)nd, (void)at, (void)sink, (void)data, (void)len, (void)err;
    return 0;
}
static int quiet_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                        uint64_t value, struct rv_err *err) {
    (void)nd, (void)at, (void)what, (void)value, (void)err;
    return 0;
}
static int quiet_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    (void)nd, (void)end, (void)err;
    return 0;
}
const struct rv_nondet_ops quiet_ops = {.query = quiet_query,
                                        .next = quiet_next,
                                        .horizon = quiet_horizon,
                                        .effect = quiet_effect,
                                        .digest = quiet_digest,
                                        .stopped = quiet_stopped};

struct quiet quiet_host(rv_icount slice) {
    return (struct quiet){{&quiet_ops}, slice};
}
