#include "record/recorder.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/base/buf.h"
#include "vmm/landmark.h"
#include "vmm/machine.h"
#include "trace-format/clocks.h"
#include "trace-format/effect.h"

/* Guest output is gathered into one event until a line ends, something else happens, or this many
 * bytes are together. */
#define EFFECT_MAX 1024u
/* Clock reads are gathered likewise. */
#define CLOCKS_MAX 1024u
/* Wall time between two moments at which everything so far is safe in the file: short at first,
 * then doubling up to the longest. */
#define FLUSH_FIRST_NS 10000000ull
#define FLUSH_EVERY_NS 250000000ull

struct rv_recorder {
    struct rv_nondet nd;
    struct rv_nondet *inner;
    struct rv_trace_writer *writer;
    bool by_trap;
    bool knows_epoch;
    uint64_t epoch; /* wall time at power-on, seconds since 1970 UTC */
    int failed;
    struct rv_err failure;
    uint64_t flushed_at;  /* wall ns */
    uint64_t flush_every; /* ns */
    uint64_t console_bytes;
    bool pushed_stop;
    const struct rv_landmark *marked; /* the landmark that was written for this point, or NULL */
    uint64_t cpu_digest;              /* the half of a digest that came first */
    /* The open output event. */
    struct rv_trace_event effect;
    struct rv_effect_hash effect_hash;
    uint8_t effect_data[EFFECT_MAX];
    /* The open event of clock reads. */
    struct rv_trace_event clocks;
    struct rv_buf clocks_data;
};

static struct rv_recorder *of(struct rv_nondet *nd) { return (struct rv_recorder *)nd; }

static uint64_t wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * RV_NSEC + (uint64_t)t.tv_nsec;
}

/* The first failure stops the recording at the next safe point; until then the guest runs on
 * unrecorded, which costs nothing because replay ends earlier. */
static void note(struct rv_recorder *r, int code, const struct rv_err *err) {
    if (!code || r->failed) return;
    r->failed = code;
    r->failure = *err;
}

static void append(struct rv_recorder *r, const struct rv_trace_event *ev) {
    struct rv_err err;
    if (!r->failed) note(r, rv_trace_writer_append(r->writer, ev, &err), &err);
}

static void close_effect(struct rv_recorder *r) {
    if (!r->effect.len) return;
    r->effect.data = r->effect_data;
    r->effect.value2 = rv_effect_hash_end(&r->effect_hash);
    append(r, &r->effect);
    r->effect.len = 0;
}

static void close_clocks(struct rv_recorder *r) {
    if (!r->clocks_data.len) return;
    r->clocks.data = r->clocks_data.data;
    r->clocks.len = r->clocks_data.len;
    append(r, &r->clocks);
    rv_buf_clear(&r->clocks_data);
}

static uint64_t position(const struct rv_recorder *r, struct rv_point at) {
    return r->by_trap ? at.trap : at.icount;
}

static void event(struct rv_recorder *r, struct rv_trace_event ev) {
    close_effect(r);
    close_clocks(r);
    append(r, &ev);
}

static void clock_read(struct rv_recorder *r, struct rv_point at, uint64_t ns) {
    uint64_t here = position(r, at);
    struct rv_trace_event *e = &r->clocks;
    close_effect(r);
    if (r->clocks_data.len > CLOCKS_MAX) close_clocks(r);
    uint64_t last = e->position + e->value;
    if (!r->clocks_data.len) {
        *e = (struct rv_trace_event){
            .kind = RV_TRACE_TRAP, .source = RV_SRC_CLOCK, .position = here, .time = at.time};
        last = here - 1;
    }
    rv_clocks_put(&r->clocks_data, here - last, ns);
    e->value = here - e->position;
}

static int rec_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                     uint64_t *value, struct rv_err *err) {
    struct rv_recorder *r = of(nd);
    int code = 0;
    if (source == RV_SRC_RTC && r->knows_epoch)
        *value = r->epoch;
    else
        code = r->inner->ops->query(r->inner, at, source, value, err);
    if (!code && source == RV_SRC_CLOCK) {
        *value = rv_clock_round(*value);
        clock_read(r, at, *value);
    } else if (!code)
        event(r, (struct rv_trace_event){.kind = RV_TRACE_QUERY,
                                         .source = source,
                                         .position = position(r, at),
                                         .time = at.time,
                                         .value = *value});
    return code;
}

static int rec_taken(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                     uint64_t value, struct rv_err *err) {
    struct rv_recorder *r = of(nd);
    clock_read(r, at, value);
    return r->inner->ops->taken(r->inner, at, source, value, err);
}

/* What comes next comes between two traps: says where, unless instructions are counted. */
static void landmark(struct rv_recorder *r, const struct rv_next *q) {
    if (!r->by_trap || !q->landmark || r->marked == q->landmark) return;
    r->marked = q->landmark;
    uint8_t data[RV_LANDMARK_BYTES];
    size_t len = 16;
    memcpy(data, &q->landmark->gpr, 8);
    memcpy(data + 8, &q->landmark->cpu, 8);
    for (unsigned i = 0; i < q->landmark->words && i < RV_LANDMARK_WORDS; i++, len += 16) {
        memcpy(data + len, &q->landmark->word[i].gpa, 8);
        memcpy(data + len + 8, &q->landmark->word[i].value, 8);
    }
    if (q->landmark->undefined) data[len++] = rv_flags_byte(q->landmark->undefined);
    event(r, (struct rv_trace_event){.kind = RV_TRACE_LANDMARK,
                                     .source = RV_SRC_CPU,
                                     .position = position(r, q->at),
                                     .time = q->at.time,
                                     .value = q->landmark->at,
                                     .value2 = q->landmark->ram,
                                     .data = data,
                                     .len = len});
}

static int rec_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                    struct rv_err *err) {
    struct rv_recorder *r = of(nd);
    if (r->failed) {
        *out = (struct rv_push){.kind = RV_PUSH_STOP, .value = RV_STOP_TRACE_FULL};
        return 0;
    }
    int code = r->inner->ops->next(r->inner, q, out, err);
    if (code) return code;
    struct rv_trace_event ev = {
        .source = out->source, .position = position(r, q->at), .time = q->at.time};
    if (out->kind != RV_PUSH_NONE) landmark(r, q);
    switch (out->kind) {
    case RV_PUSH_NONE: return 0;
    case RV_PUSH_INPUT:
        ev.kind = RV_TRACE_INPUT;
        ev.data = out->data;
        ev.len = out->len;
        break;
    case RV_PUSH_JUMP:
        /* An idle guest that sleeps until its next timer: replay knows that by itself. */
        if (q->idle && out->time == q->deadline) return 0;
        ev.kind = RV_TRACE_JUMP;
        ev.value = out->time - q->at.time;
        break;
    case RV_PUSH_FLAGS:
        ev.kind = RV_TRACE_FLAGS;
        ev.source = RV_SRC_CPU;
        ev.value = out->value;
        break;
    case RV_PUSH_STOP: r->pushed_stop = true; return 0;
    }
    event(r, ev);
    return 0;
}

int rv_recorder_flush(struct rv_recorder *r, struct rv_point at, struct rv_err *err) {
    close_effect(r);
    close_clocks(r);
    if (r->failed) return rv_recorder_failure(r, err);
    return rv_trace_writer_flush(r->writer, position(r, at), at.time, err);
}

static int rec_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                       struct rv_err *err) {
    struct rv_recorder *r = of(nd);
    r->marked = NULL;
    uint64_t now = wall();
    if (now - r->flushed_at >= r->flush_every && !r->failed) {
        struct rv_err e;
        note(r, rv_recorder_flush(r, at, &e), &e);
        r->flushed_at = now;
        if (r->flush_every < FLUSH_EVERY_NS) r->flush_every *= 2;
    }
    return rv_nondet_horizon(r->inner, at, h, err);
}

static int rec_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                      const void *data, size_t len, struct rv_err *err) {
    struct rv_recorder *r = of(nd);
    const uint8_t *p = data;
    struct rv_trace_event *e = &r->effect;
    uint64_t here = position(r, at);
    close_clocks(r);
    if (sink == RV_SRC_MARK) {
        event(r, (struct rv_trace_event){.kind = RV_TRACE_MARK,
                                         .source = sink,
                                         .position = here,
                                         .time = at.time,
                                         .data = p,
                                         .len = len});
        return r->inner->ops->effect(r->inner, at, sink, data, len, err);
    }
    for (size_t i = 0; i < len; i++) {
        if (e->len && (e->source != sink || e->len == EFFECT_MAX)) close_effect(r);
        if (!e->len) {
            *e = (struct rv_trace_event){
                .kind = RV_TRACE_EFFECT, .source = sink, .position = here, .time = at.time};
            rv_effect_hash_begin(&r->effect_hash);
        }
        r->effect_data[e->len++] = p[i];
        e->value = here - e->position;
        rv_effect_hash_add(&r->effect_hash, e->value);
        if (p[i] == '\n') close_effect(r);
    }
    if (sink == RV_SRC_CONSOLE) r->console_bytes += len;
    return r->inner->ops->effect(r->inner, at, sink, data, len, err);
}

static int rec_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what, uint64_t value,
                      struct rv_err *err) {
    struct rv_recorder *r = of(nd);
    if (what == RV_SRC_CPU)
        r->cpu_digest = value;
    else
        event(r, (struct rv_trace_event){.kind = RV_TRACE_DIGEST,
                                         .source = what,
                                         .position = position(r, at),
                                         .time = at.time,
                                         .value = r->cpu_digest,
                                         .value2 = value});
    return r->inner->ops->digest(r->inner, at, what, value, err);
}

static int rec_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    struct rv_recorder *r = of(nd);
    const char *text = rv_stop_text(end->reason);
    event(r, (struct rv_trace_event){.kind = RV_TRACE_STOP,
                                     .source = r->pushed_stop ? RV_STOPPED_FROM_OUTSIDE
                                                              : RV_STOPPED_BY_GUEST,
                                     .position = position(r, end->at),
                                     .time = end->at.time,
                                     .value = end->reason,
                                     .value2 = end->code,
                                     .data = (const uint8_t *)text,
                                     .len = strlen(text)});
    return r->inner->ops->stopped(r->inner, end, err);
}

static const struct rv_nondet_ops recorder_ops = {
    .query = rec_query,
    .taken = rec_taken,
    .next = rec_next,
    .horizon = rec_horizon,
    .effect = rec_effect,
    .digest = rec_digest,
    .stopped = rec_stopped,
};

int rv_recorder_new(struct rv_recorder **out, struct rv_nondet *inner,
                    struct rv_trace_writer *writer, bool by_trap, const uint64_t *epoch,
                    struct rv_err *err) {
    (void)err;
    struct rv_recorder *r = rv_alloc(sizeof *r);
    r->nd.ops = &recorder_ops;
    r->inner = inner;
    r->writer = writer;
    r->by_trap = by_trap;
    r->knows_epoch = epoch;
    if (epoch) r->epoch = *epoch;
    r->flushed_at = wall();
    r->flush_every = FLUSH_FIRST_NS;
    *out = r;
    return 0;
}

void rv_recorder_free(struct rv_recorder *r) {
    if (r) rv_buf_release(&r->clocks_data);
    free(r);
}
struct rv_nondet *rv_recorder_nondet(struct rv_recorder *r) {
    return &r->nd;
}
uint64_t rv_recorder_console_bytes(const struct rv_recorder *r) { return r->console_bytes; }

int rv_recorder_failure(const struct rv_recorder *r, struct rv_err *err) {
    if (r->failed && err) *err = r->failure;
    return r->failed;
}
