#include "replay/player.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace-format/clocks.h"
#include "trace-format/effect.h"
#include "vmm/base/buf.h"
#include "vmm/base/host_id.h"
#include "vmm/landmark.h"
#include "vmm/machine.h"

/* Instructions between two looks at stop requests. */
#define SLICE (4u << 20)

struct rv_player {
    struct rv_nondet nd;
    struct rv_player_config config;
    struct rv_trace_cursor *cursor;
    struct rv_trace_state state;
    const struct rv_trace_summary *summary;
    uint64_t events;
    uint64_t agreed;     /* position */
    uint64_t cpu_digest; /* the half of a digest that came first */
    bool of_other_make;  /* recorded by a software engine on a processor of another vendor */
    /* The output event being matched, byte by byte. */
    size_t effect_done;
    struct rv_effect_hash effect_hash;
    /* The event of clock reads being answered: bytes used, and the position of the last read. */
    size_t clocks_done;
    uint64_t clocks_at;
    struct rv_landmark landmark; /* the one looked for */
    /* The search for it: its event's ordinal + 1, where it began, how long it may be (0: not known
     * yet). */
    uint64_t sought;
    rv_icount sought_from, sought_limit;
};

/* The unit of the trace: instructions, or traps where no engine counted them. */
static uint64_t position(const struct rv_player *p, struct rv_point at) {
    return p->config.by_trap ? at.trap : at.icount;
}

static struct rv_player *of(struct rv_nondet *nd) { return (struct rv_player *)nd; }

/* The event that comes next, or NULL at the end of the trace. */
static int head(struct rv_player *p, const struct rv_trace_event **ev, struct rv_err *err) {
    int r = rv_trace_cursor_peek(p->cursor, ev, err);
    if (r == RV_E_END) {
        *ev = NULL;
        return 0;
    }
    return r;
}

static int consume(struct rv_player *p, struct rv_point at, struct rv_err *err) {
    const struct rv_trace_event *ev;
    int r = rv_trace_cursor_next(p->cursor, &ev, err);
    if (r) return r;
    p->events++;
    p->agreed = position(p, at);
    return 0;
}

/* ---- divergences ---- */

static const char *unit(const struct rv_player *p) {
    return p->config.by_trap ? "trap" : "instruction";
}

static void describe(const struct rv_player *p, const struct rv_trace_event *ev, char *out,
                     size_t size) {
    if (!ev) {
        snprintf(out, size, "nothing more");
        return;
    }
    switch (ev->kind) {
    case RV_TRACE_EFFECT: {
        char text[33];
        size_t n = ev->len < sizeof text - 1 ? ev->len : sizeof text - 1;
        for (size_t i = 0; i < n; i++)
            text[i] = ev->data[i] >= 32 && ev->data[i] < 127 ? (char)ev->data[i] : '.';
        text[n] = 0;
        snprintf(out, size, "output to %s (%zu bytes, \"%s\") at %s %" PRIu64,
                 rv_source_name((enum rv_source)ev->source), ev->len, text, unit(p), ev->position);
        break;
    }
    case RV_TRACE_STOP:
        snprintf(out, size, "the end (%s) at %s %" PRIu64, rv_stop_name((enum rv_stop)ev->value),
                 unit(p), ev->position);
        break;
    default:
        snprintf(out, size, "%s of %s at %s %" PRIu64 ", time %" PRIu64 " ns",
                 rv_trace_kind_name(ev->kind), rv_source_name((enum rv_source)ev->source), unit(p),
                 ev->position, ev->time);
    }
}

/* What may be the reason, to be added to the report. */
static const char *hint(const struct rv_player *p) {
    if (!p->of_other_make) return "";
    return p->config.portable
               ? "; it was recorded on another make of processor, where sines, logarithms and "
                 "their like of the x87 may end in other digits: replay it on one of that make"
               : "; it was recorded on another make of processor, which may leave other undefined "
                 "flags: replay it on one of that make";
}

static int diverged(struct rv_player *p, struct rv_point at, const struct rv_trace_event *expected,
                    const char *came, struct rv_err *err) {
    char want[160];
    describe(p, expected, want, sizeof want);
    return rv_fail(err, RV_E_DIVERGED,
                   "replay diverged at %s %" PRIu64 " (time %" PRIu64
                   " ns): expected %s, but %s; all agreed up to %s %" PRIu64 "%s",
                   unit(p), position(p, at), at.time, want, came, unit(p), p->agreed, hint(p));
}

/* ---- the verbs ---- */

/* Answers a read of the clock from the run of reads that comes next. */
static int clock_read(struct rv_player *p, struct rv_point at, uint64_t *ns, struct rv_err *err) {
    const struct rv_trace_event *ev;
    int r = head(p, &ev, err);
    if (r) return r;
    uint64_t here = position(p, at);
    if (!ev && here >= p->state.position) {
        *ns = 0;
        return 0;
    }
    const char *came = "the guest read the clock";
    if (!ev || ev->kind != RV_TRACE_TRAP || ev->source != RV_SRC_CLOCK || !ev->len)
        return diverged(p, at, ev, came, err);
    if (!p->clocks_done) p->clocks_at = ev->position - 1;
    struct rv_cursor in = rv_cursor_of(ev->data, ev->len);
    rv_cursor_skip(&in, p->clocks_done);
    uint64_t positions;
    if (!rv_clocks_get(&in, &positions, ns))
        return rv_fail(err, RV_E_FORMAT, "at position %" PRIu64 ": a damaged run of clock reads",
                       ev->position);
    p->clocks_at += positions;
    if (p->clocks_at != here) return diverged(p, at, ev, came, err);
    p->clocks_done = (size_t)(in.p - ev->data);
    if (p->clocks_done < ev->len) return 0;
    p->clocks_done = 0;
    if (here != ev->position + ev->value) return diverged(p, at, ev, came, err);
    return consume(p, at, err);
}

static int play_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                      uint64_t *value, struct rv_err *err) {
    struct rv_player *p = of(nd);
    const struct rv_trace_event *ev;
    if (source == RV_SRC_CLOCK) return clock_read(p, at, value, err);
    int r = head(p, &ev, err);
    if (r) return r;
    /* A recorder that died at once left no answers, and no instruction that could see one. */
    if (!ev && position(p, at) >= p->state.position) {
        *value = 0;
        return 0;
    }
    if (!ev || ev->kind != RV_TRACE_QUERY || ev->source != source ||
        ev->position != position(p, at)) {
        char came[64];
        snprintf(came, sizeof came, "the guest asked for %s", rv_source_name(source));
        return diverged(p, at, ev, came, err);
    }
    *value = ev->value;
    return consume(p, at, err);
}

/* The part of an event's position by which all of it must have happened. */
static rv_icount last_position(const struct rv_trace_event *ev) {
    if (ev->kind != RV_TRACE_EFFECT && ev->kind != RV_TRACE_TRAP) return ev->position;
    return ev->value < RV_NEVER - 1 - ev->position ? ev->position + ev->value : RV_NEVER - 1;
}

static bool is_push(const struct rv_trace_event *ev) {
    return ev->kind == RV_TRACE_INPUT || ev->kind == RV_TRACE_JUMP || ev->kind == RV_TRACE_FLAGS ||
           (ev->kind == RV_TRACE_STOP && ev->source == RV_STOPPED_FROM_OUTSIDE);
}

static void give_stop(struct rv_push *out, enum rv_stop reason) {
    *out = (struct rv_push){.kind = RV_PUSH_STOP, .value = (uint64_t)reason};
}

static int give(struct rv_player *p, struct rv_point at, const struct rv_trace_event *ev,
                struct rv_push *out, struct rv_err *err) {
    switch (ev->kind) {
    case RV_TRACE_INPUT:
        *out = (struct rv_push){.kind = RV_PUSH_INPUT,
                                .source = (enum rv_source)ev->source,
                                .data = ev->data,
                                .len = ev->len};
        break;
    case RV_TRACE_JUMP:
        *out = (struct rv_push){
            .kind = RV_PUSH_JUMP, .source = RV_SRC_CLOCK, .time = at.time + ev->value};
        break;
    case RV_TRACE_FLAGS:
        *out = (struct rv_push){.kind = RV_PUSH_FLAGS, .source = RV_SRC_CPU, .value = ev->value};
        break;
    default:
        /* Left in place: stopped() compares it. */
        give_stop(out, (enum rv_stop)ev->value);
        return 0;
    }
    return consume(p, at, err);
}

static void read_landmark(const struct rv_trace_event *ev, struct rv_landmark *out) {
    *out = (struct rv_landmark){.at = ev->value, .ram = ev->value2};
    /* Of another length, it equals no state. */
    if (ev->len < 16 || ev->len > RV_LANDMARK_BYTES || ev->len % 16 > 1) return;
    memcpy(&out->gpr, ev->data, 8);
    memcpy(&out->cpu, ev->data + 8, 8);
    if (ev->len % 16) out->undefined = rv_flags_of_byte(ev->data[ev->len - 1]);
    for (size_t at = 16; at + 16 <= ev->len; at += 16) {
        struct rv_word *w = &out->word[out->words++];
        memcpy(&w->gpa, ev->data + at, 8);
        memcpy(&w->value, ev->data + at + 8, 8);
    }
}

static bool same_landmark(struct rv_player *p, const struct rv_trace_event *ev,
                          const struct rv_landmark *here) {
    read_landmark(ev, &p->landmark);
    return p->landmark.at == here->at && p->landmark.gpr == here->gpr &&
           p->landmark.cpu == here->cpu && p->landmark.ram == here->ram;
}

static int play_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                     struct rv_err *err) {
    struct rv_player *p = of(nd);
    const struct rv_trace_event *ev;
    *out = (struct rv_push){0};
    int stop = p->config.stop_request ? atomic_load(p->config.stop_request) : 0;
    if (stop || q->at.icount >= p->config.target) {
        give_stop(out, stop ? (enum rv_stop)stop : RV_STOP_TARGET);
        return 0;
    }
    if (q->only_stop) return 0;
    int r = head(p, &ev, err);
    if (r) return r;
    if (ev && ev->kind == RV_TRACE_LANDMARK && q->landmark && ev->position == position(p, q->at) &&
        same_landmark(p, ev, q->landmark)) {
        r = consume(p, q->at, err);
        if (!r) r = head(p, &ev, err);
        if (r) return r;
    }
    if (!ev) {
        if (position(p, q->at) >= p->state.position) {
            give_stop(out, RV_STOP_TRACE_END);
            return 0;
        }
        if (q->idle) goto idle;
        return 0;
    }
    if (position(p, q->at) > last_position(ev) ||
        (position(p, q->at) == ev->position && is_push(ev) && ev->time < q->at.time))
        return diverged(p, q->at, ev, "the machine went past it", err);
    if (is_push(ev) && ev->position == position(p, q->at) && ev->time == q->at.time)
        return give(p, q->at, ev, out, err);
    if (!q->idle) return 0;
idle:
    /* The guest sleeps: to its next timer, unless the host woke it before. */
    out->kind = RV_PUSH_JUMP;
    out->source = RV_SRC_CLOCK;
    out->time = q->deadline;
    if (ev && is_push(ev) && ev->position == position(p, q->at) && ev->time < q->deadline)
        out->time = ev->time;
    if (out->time == RV_NEVER)
        return diverged(p, q->at, ev, "the guest halted with nothing to wake it", err);
    return 0;
}

/* So many instructions may a search for a landmark take in any case, and so many for each ns that
 * the host's clock went on meanwhile: more than any processor runs. */
#define SEARCH_FREE   SLICE
#define SEARCH_PER_NS 50u
/* Where the trace does not say how long it was. */
#define SEARCH_NS (10 * RV_NSEC)

/* How many instructions the landmark that comes next may lie behind its trap. */
static int search_limit(struct rv_player *p, rv_icount *limit, struct rv_err *err) {
    const struct rv_trace_event *ev;
    uint64_t ordinal = rv_trace_cursor_ordinal(p->cursor), ns = SEARCH_NS;
    int r = rv_trace_cursor_next(p->cursor, &ev, err);
    if (!r) r = head(p, &ev, err);
    if (r) return r;
    if (ev && ev->kind == RV_TRACE_JUMP) ns = ev->value;
    if (ns > UINT64_MAX / 2 / SEARCH_PER_NS) ns = UINT64_MAX / 2 / SEARCH_PER_NS;
    *limit = SEARCH_FREE + ns * SEARCH_PER_NS;
    return rv_trace_cursor_seek_ordinal(p->cursor, ordinal, err);
}

/* A guest that computes without trapping could be searched for ever. */
static int bound_search(struct rv_player *p, struct rv_point at, struct rv_err *err) {
    uint64_t ordinal = rv_trace_cursor_ordinal(p->cursor);
    if (p->sought != ordinal + 1 || at.icount < p->sought_from) {
        p->sought = ordinal + 1;
        p->sought_from = at.icount;
        p->sought_limit = 0;
    }
    rv_icount ran = at.icount - p->sought_from;
    if (ran <= SEARCH_FREE) return 0;
    if (!p->sought_limit) {
        int r = search_limit(p, &p->sought_limit, err);
        if (r) return r;
    }
    if (ran <= p->sought_limit) return 0;
    const struct rv_trace_event *ev;
    int r = head(p, &ev, err);
    return r ? r : diverged(p, at, ev, "the guest computed on and never came there", err);
}

static int play_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                        struct rv_err *err) {
    struct rv_player *p = of(nd);
    const struct rv_trace_event *ev;
    int r = head(p, &ev, err);
    if (r) return r;
    if (p->config.by_trap) {
        /* The machine stops at every trap by itself. */
        if (ev && ev->kind == RV_TRACE_LANDMARK && ev->position == at.trap) {
            read_landmark(ev, &p->landmark);
            r = bound_search(p, at, err);
            if (r) return r;
            h->landmark = &p->landmark;
        }
        h->until = at.icount + SLICE;
        if (p->config.target > at.icount && p->config.target < h->until)
            h->until = p->config.target;
        return 0;
    }
    rv_icount end = ev ? ev->position : p->state.position;
    if (end <= at.icount) end = ev ? last_position(ev) + 1 : at.icount + 1;
    if (end <= at.icount) end = at.icount + 1;
    if (p->config.target > at.icount && p->config.target < end) end = p->config.target;
    h->until = end - at.icount > SLICE ? at.icount + SLICE : end;
    return 0;
}

/* A mark comes whole, in one instruction. */
static int play_mark(struct rv_player *p, struct rv_point at, const void *data, size_t len,
                     struct rv_err *err) {
    const struct rv_trace_event *ev;
    int r = head(p, &ev, err);
    if (r) return r;
    if (!ev && position(p, at) >= p->state.position) return 0;
    if (!ev || ev->kind != RV_TRACE_MARK || ev->source != RV_SRC_MARK || ev->len != len ||
        memcmp(ev->data, data, len) != 0 || ev->position != position(p, at))
        return diverged(p, at, ev, "the guest put a mark", err);
    return consume(p, at, err);
}

static int play_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                       const void *data, size_t len, struct rv_err *err) {
    struct rv_player *p = of(nd);
    const uint8_t *bytes = data;
    uint64_t here = position(p, at);
    if (sink == RV_SRC_MARK) {
        int r = play_mark(p, at, data, len, err);
        if (r || !p->config.output) return r;
        return p->config.output->ops->effect(p->config.output, at, sink, data, len, err);
    }
    for (size_t i = 0; i < len; i++) {
        const struct rv_trace_event *ev;
        int r = head(p, &ev, err);
        if (r) return r;
        /* An unsealed trace may end between two bytes of one instruction. */
        if (!ev && here >= p->state.position) break;
        char came[96];
        snprintf(came, sizeof came, "the guest wrote byte 0x%02x to %s", bytes[i],
                 rv_source_name(sink));
        /* A foreign trace may hold output of no bytes at all. */
        if (!ev || ev->kind != RV_TRACE_EFFECT || ev->source != sink || !ev->len)
            return diverged(p, at, ev, came, err);
        if (!p->effect_done) rv_effect_hash_begin(&p->effect_hash);
        if ((!p->effect_done && here != ev->position) || here < ev->position ||
            bytes[i] != ev->data[p->effect_done])
            return diverged(p, at, ev, came, err);
        rv_effect_hash_add(&p->effect_hash, here - ev->position);
        p->effect_done++;
        if (p->effect_done < ev->len) continue;
        if (here - ev->position != ev->value || rv_effect_hash_end(&p->effect_hash) != ev->value2)
            return diverged(p, at, ev, "its bytes came at other instructions", err);
        p->effect_done = 0;
        r = consume(p, at, err);
        if (r) return r;
    }
    if (!p->config.output) return 0;
    return p->config.output->ops->effect(p->config.output, at, sink, data, len, err);
}

static int play_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                       uint64_t value, struct rv_err *err) {
    struct rv_player *p = of(nd);
    if (what == RV_SRC_CPU) {
        p->cpu_digest = value;
        return 0;
    }
    const struct rv_trace_event *ev;
    int r = head(p, &ev, err);
    if (r) return r;
    if (!ev && position(p, at) >= p->state.position) return 0;
    char came[160];
    snprintf(came, sizeof came,
             "the digests are %016" PRIx64 " (CPU, devices), %016" PRIx64 " (RAM)", p->cpu_digest,
             value);
    if (!ev || ev->kind != RV_TRACE_DIGEST || ev->position != position(p, at))
        return diverged(p, at, ev, came, err);
    if (ev->value != p->cpu_digest || ev->value2 != value) {
        size_t n = strlen(came);
        snprintf(came + n, sizeof came - n, " instead of %016" PRIx64 ", %016" PRIx64, ev->value,
                 ev->value2);
        return diverged(p, at, ev, came, err);
    }
    return consume(p, at, err);
}

static bool stops_early(enum rv_stop reason) {
    return reason == RV_STOP_TARGET || reason == RV_STOP_TRACE_END;
}

static int play_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    struct rv_player *p = of(nd);
    if (stops_early(end->reason)) return 0;
    if (p->config.stop_request && atomic_load(p->config.stop_request)) return 0;
    const struct rv_trace_event *ev;
    int r = head(p, &ev, err);
    if (r) return r;
    if (!ev && position(p, end->at) >= p->state.position) return 0;
    char came[128];
    snprintf(came, sizeof came, "the machine stopped (%s, code %" PRIu32 ")",
             rv_stop_name(end->reason), end->code);
    if (!ev || ev->kind != RV_TRACE_STOP || ev->value != end->reason || ev->value2 != end->code ||
        ev->position != position(p, end->at) || ev->time != end->at.time)
        return diverged(p, end->at, ev, came, err);
    const struct rv_trace_summary *s = p->summary;
    bool comparable = s && s->reason != RV_TRACE_REASON_SALVAGED && !s->lost_tail &&
                      s->position == position(p, end->at) && !end->mid_instruction && s->cpu_digest;
    if (comparable && (s->cpu_digest != end->cpu_digest || s->ram_digest != end->ram_digest)) {
        snprintf(came, sizeof came,
                 "the final digests are %016" PRIx64 ", %016" PRIx64 " instead of %016" PRIx64
                 ", %016" PRIx64,
                 end->cpu_digest, end->ram_digest, s->cpu_digest, s->ram_digest);
        return diverged(p, end->at, ev, came, err);
    }
    return consume(p, end->at, err);
}

static const struct rv_nondet_ops player_ops = {
    .query = play_query,
    .next = play_next,
    .horizon = play_horizon,
    .effect = play_effect,
    .digest = play_digest,
    .stopped = play_stopped,
};

int rv_player_new(struct rv_player **out, const struct rv_trace_reader *reader,
                  const struct rv_player_config *config, struct rv_err *err) {
    (void)err;
    struct rv_player *p = rv_alloc(sizeof *p);
    p->nd.ops = &player_ops;
    p->config = *config;
    rv_trace_reader_state(reader, &p->state);
    p->summary = rv_trace_reader_summary(reader);
    const char *vendor = rv_trace_reader_header(reader)->host_cpu.vendor;
    p->of_other_make = !config->by_trap && *vendor && strcmp(vendor, rv_host_id().vendor) != 0;
    p->cursor = rv_trace_cursor_new(reader);
    *out = p;
    return 0;
}

void rv_player_free(struct rv_player *p) {
    if (!p) return;
    rv_trace_cursor_free(p->cursor);
    free(p);
}

struct rv_nondet *rv_player_nondet(struct rv_player *p) {
    return &p->nd;
}
void rv_player_set_target(struct rv_player *p, rv_icount target) { p->config.target = target; }

void rv_player_save(const struct rv_player *p, struct rv_buf *out) {
    rv_buf_put_u64(out, rv_trace_cursor_ordinal(p->cursor));
    rv_buf_put_u64(out, p->events);
    rv_buf_put_u64(out, p->agreed);
    rv_buf_put_u64(out, p->cpu_digest);
    rv_buf_put_u64(out, p->effect_done);
    rv_buf_put_u64(out, p->effect_hash.h);
    rv_buf_put_u64(out, p->clocks_done);
    rv_buf_put_u64(out, p->clocks_at);
}

int rv_player_load(struct rv_player *p, struct rv_cursor *in, struct rv_err *err) {
    uint64_t ordinal = rv_cursor_u64(in);
    p->events = rv_cursor_u64(in);
    p->agreed = rv_cursor_u64(in);
    p->cpu_digest = rv_cursor_u64(in);
    p->effect_done = rv_cursor_u64(in);
    p->effect_hash.h = rv_cursor_u64(in);
    p->clocks_done = rv_cursor_u64(in);
    p->clocks_at = rv_cursor_u64(in);
    if (in->bad) return rv_fail(err, RV_E_FORMAT, "a saved place in the trace is cut short");
    return rv_trace_cursor_seek_ordinal(p->cursor, ordinal, err);
}

void rv_player_progress(const struct rv_player *p, uint64_t *events, uint64_t *bytes) {
    *events = rv_trace_cursor_ordinal(p->cursor);
    *bytes = p->effect_done;
}

uint64_t rv_player_events(const struct rv_player *p) { return p->events; }
