/* A choke point that gives the guest at power-on what an earlier recording was given - the wall
 * clock and random bits - and hands everything else through. Two recordings made so start alike and
 * part only where what comes from outside later differs. */
#include "tools/retro.h"

#include <stdlib.h>

#include "trace-format/reader.h"

struct answer {
    uint32_t source;
    uint64_t value;
};

struct retro_like {
    struct rv_nondet nd;
    struct rv_nondet *inner;
    struct answer *answer;
    size_t answers, next;
};

static struct retro_like *of(struct rv_nondet *nd) { return (struct retro_like *)nd; }

static int like_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                      uint64_t *value, struct rv_err *err) {
    struct retro_like *l = of(nd);
    if (source == RV_SRC_CLOCK || l->next == l->answers)
        return l->inner->ops->query(l->inner, at, source, value, err);
    const struct answer *a = &l->answer[l->next++];
    if (a->source != (uint32_t)source)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "--like: that recording was asked for %s where this machine asks for %s; "
                       "it was made by another version",
                       rv_source_name((enum rv_source)a->source), rv_source_name(source));
    *value = a->value;
    return 0;
}

static int like_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                     struct rv_err *err) {
    return of(nd)->inner->ops->next(of(nd)->inner, q, out, err);
}
static int like_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                        struct rv_err *err) {
    return rv_nondet_horizon(of(nd)->inner, at, h, err);
}
static int like_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                       const void *data, size_t len, struct rv_err *err) {
    return of(nd)->inner->ops->effect(of(nd)->inner, at, sink, data, len, err);
}
static int like_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                       uint64_t value, struct rv_err *err) {
    return of(nd)->inner->ops->digest(of(nd)->inner, at, what, value, err);
}
static int like_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    return of(nd)->inner->ops->stopped(of(nd)->inner, end, err);
}

static const struct rv_nondet_ops like_ops = {
    .query = like_query,
    .next = like_next,
    .horizon = like_horizon,
    .effect = like_effect,
    .digest = like_digest,
    .stopped = like_stopped,
};

int retro_like_new(struct retro_like **out, const char *path, struct rv_err *err) {
    struct rv_trace_reader *reader;
    int r = rv_trace_reader_open(&reader, path, err);
    if (r) return r;
    struct retro_like *l = rv_alloc(sizeof *l);
    l->nd.ops = &like_ops;
    struct rv_trace_cursor *c = rv_trace_cursor_new(reader);
    const struct rv_trace_event *ev;
    while ((r = rv_trace_cursor_next(c, &ev, err)) == 0 && ev->position == 0) {
        if (ev->kind != RV_TRACE_QUERY || ev->source == RV_SRC_CLOCK) continue;
        l->answer = rv_realloc(l->answer, (l->answers + 1) * sizeof *l->answer);
        l->answer[l->answers++] = (struct answer){ev->source, ev->value};
    }
    rv_trace_cursor_free(c);
    rv_trace_reader_free(reader);
    if (r && r != RV_E_END) {
        retro_like_free(l);
        return r;
    }
    *out = l;
    return 0;
}

struct rv_nondet *retro_like_wrap(struct retro_like *l, struct rv_nondet *inner) {
    if (!l) return inner;
    l->inner = inner;
    return &l->nd;
}

void retro_like_free(struct retro_like *l) {
    if (!l) return;
    free(l->answer);
    free(l);
}
