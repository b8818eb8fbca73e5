#include "tools/retro.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/buf.h"

/* Shown once a run has lasted this long, then as often. */
#define FIRST_SECONDS 2.0
#define EVERY_SECONDS 0.2
#define BAR           30

struct retro_meter {
    struct rv_nondet nd;
    struct rv_nondet *inner;
    bool show, shown;
    const char *verb;
    rv_icount total; /* 0: not known */
    double started, last;
    bool traps; /* what is counted */
};

static struct rv_nondet *inner_of(struct rv_nondet *nd) {
    return ((struct retro_meter *)nd)->inner;
}

static void draw(struct retro_meter *m, rv_icount at, double now) {
    char count[32];
    double s = now - m->started;
    fprintf(stderr, "\r\033[K%s ", m->verb);
    if (m->total) {
        double part = (double)at / (double)m->total;
        if (part > 1) part = 1;
        int full = (int)(part * BAR);
        fputc('[', stderr);
        for (int i = 0; i < BAR; i++) fputc(i < full ? '#' : '.', stderr);
        fprintf(stderr, "] %3d%% ", (int)(part * 100));
    }
    if (m->traps)
        fprintf(stderr, "%s traps, %.0f s", retro_group(at, count), s);
    else
        fprintf(stderr, "%s instructions, %.0f s, %.0f million/s", retro_group(at, count), s,
                (double)at / s / 1e6);
    fflush(stderr);
    m->shown = true;
}

void retro_meter_show(struct retro_meter *m, rv_icount at, rv_icount total) {
    if (!m->show) return;
    m->total = total;
    double now = retro_now();
    if (now - m->started <= FIRST_SECONDS || now - m->last <= EVERY_SECONDS) return;
    draw(m, at, now);
    m->last = now;
}

void retro_meter_count_traps(struct retro_meter *m) { m->traps = true; }

static int meter_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                         struct rv_err *err) {
    struct retro_meter *m = (struct retro_meter *)nd;
    retro_meter_show(m, m->traps ? at.trap : at.icount, m->total);
    return rv_nondet_horizon(m->inner, at, h, err);
}

static int meter_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                       uint64_t *value, struct rv_err *err) {
    return inner_of(nd)->ops->query(inner_of(nd), at, source, value, err);
}
static int meter_taken(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                       uint64_t value, struct rv_err *err) {
    return inner_of(nd)->ops->taken(inner_of(nd), at, source, value, err);
}
static int meter_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                      struct rv_err *err) {
    return inner_of(nd)->ops->next(inner_of(nd), q, out, err);
}
static int meter_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                        const void *data, size_t len, struct rv_err *err) {
    return inner_of(nd)->ops->effect(inner_of(nd), at, sink, data, len, err);
}
static int meter_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                        uint64_t value, struct rv_err *err) {
    return inner_of(nd)->ops->digest(inner_of(nd), at, what, value, err);
}
static int meter_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    return inner_of(nd)->ops->stopped(inner_of(nd), end, err);
}

static const struct rv_nondet_ops meter_ops = {
    .query = meter_query,
    .taken = meter_taken,
    .next = meter_next,
    .horizon = meter_horizon,
    .effect = meter_effect,
    .digest = meter_digest,
    .stopped = meter_stopped,
};

struct retro_meter *retro_meter_new(bool show, const char *verb, rv_icount total) {
    struct retro_meter *m = rv_alloc(sizeof *m);
    m->nd.ops = &meter_ops;
    m->show = show;
    m->verb = verb;
    m->total = total;
    m->started = retro_now();
    return m;
}

struct rv_nondet *retro_meter_wrap(void *meter, struct rv_nondet *inner) {
    struct retro_meter *m = meter;
    m->inner = inner;
    return m->show ? &m->nd : inner;
}

void retro_meter_free(struct retro_meter *m) {
    if (!m) return;
    if (m->shown) fputs("\r\033[K", stderr);
    free(m);
}
