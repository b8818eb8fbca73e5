/* Recorder and player against each other: what was recorded replays, and whatever is changed in a
 * trace is found as a divergence that names the place. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/session.h"
#include "replay/session.h"
#include "trace-format/effect.h"
#include "trace-format/reader.h"
#include "vmm/base/buf.h"

/* Echoes COM1 until a 'q', which ends the run by debug exit; then 42 is the code. */
static const uint8_t echo_guest[512] = {
    0xfa,                             /* cli */
    0xba,         0xfd,         0x03, /* wait: mov dx, 3fdh */
    0xec,                             /* in al, dx */
    0xa8,         0x01,               /* test al, 1 */
    0x74,         0xf8,               /* jz wait */
    0xba,         0xf8,         0x03, /* mov dx, 3f8h */
    0xec,                             /* in al, dx */
    0xee,                             /* out dx, al */
    0x3c,         'q',                /* cmp al, 'q' */
    0x75,         0xef,               /* jne wait */
    0xb0,         0x2a,               /* mov al, 42 */
    0xe6,         0xf4,               /* out 0f4h, al */
    0xf4,                             /* hlt */
    [510] = 0x55, [511] = 0xaa,
};

/* A host that types a text, one byte every so many instructions. */
struct typist {
    struct rv_nondet nd;
    const char *text;
    size_t pos;
    struct rv_buf shown;
};

#define EVERY 5000u

static int typist_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                        uint64_t *value, struct rv_err *err) {
    (void)nd, (void)at, (void)err;
    *value = source == RV_SRC_RTC ? 1700000000 : 0x0123456789abcdef;
    return 0;
}

static int typist_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                       struct rv_err *err) {
    (void)err;
    struct typist *t = (struct typist *)nd;
    *out = (struct rv_push){0};
    if (q->at.icount >= (t->pos + 1) * EVERY && t->text[t->pos] && q->input_room) {
        *out = (struct rv_push){.kind = RV_PUSH_INPUT,
                                .source = RV_SRC_CONSOLE,
                                .data = (const uint8_t *)t->text + t->pos,
                                .len = 1};
        t->pos++;
    }
    return 0;
}

static int typist_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                          struct rv_err *err) {
    (void)nd, (void)err;
    h->until = (at.icount / EVERY + 1) * EVERY;
    return 0;
}

static int typist_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                         const void *data, size_t len, struct rv_err *err) {
    (void)at, (void)sink, (void)err;
    rv_buf_put(&((struct typist *)nd)->shown, data, len);
    return 0;
}

static int typist_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                         uint64_t value, struct rv_err *err) {
    (void)nd, (void)at, (void)what, (void)value, (void)err;
    return 0;
}

static int typist_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    (void)nd, (void)end, (void)err;
    return 0;
}

static const struct rv_nondet_ops typist_ops = {
    .query = typist_query,
    .next = typist_next,
    .horizon = typist_horizon,
    .effect = typist_effect,
    .digest = typist_digest,
    .stopped = typist_stopped,
};

static char trace_path[64], edited_path[64];
static uint64_t quirks;

static void begin(void) {
    snprintf(trace_path, sizeof trace_path, "/tmp/rv-replay-%d.retro", getpid());
    snprintf(edited_path, sizeof edited_path, "/tmp/rv-edited-%d.retro", getpid());
}

static void end(void) {
    remove(trace_path);
    remove(edited_path);
}

static struct rv_end record(const char *text) {
    struct typist t = {.nd.ops = &typist_ops, .text = text};
    struct rv_record_config rc = {
        .path = trace_path,
        .overwrite = true,
        .embed_images = true,
        .machine = {.memory = 1 << 20,
                    .engine = &rv_engine_interpret,
                    .profile = &rv_profile_v2,
                    .rate = RV_RATE_DEFAULT,
                    .quirks = quirks,
                    .digest_every = 7777,
                    .boot = {.kind = RV_BOOT_FLAT,
                             .kernel = {"echo", echo_guest, sizeof echo_guest},
                             .cmdline = ""}},
    };
    struct rv_err err = {0};
    struct rv_record *r;
    struct rv_end e;
    cr_assert_eq(rv_record_begin(&r, &rc, &t.nd, NULL, NULL, &err), 0, "%s", err.msg);
    cr_assert_eq(rv_record_run(r, &e, &err), 0, "%s", err.msg);
    rv_record_free(r);
    cr_assert_eq(e.reason, RV_STOP_DEBUG_EXIT);
    cr_assert_eq(e.code, 42);
    cr_assert_eq(t.shown.len, strlen(text));
    cr_assert_arr_eq(t.shown.data, text, strlen(text));
    rv_buf_release(&t.shown);
    return e;
}

static int replay(const char *path, rv_icount target, struct rv_end *e, struct rv_buf *shown,
                  struct rv_err *err) {
    struct typist screen = {.nd.ops = &typist_ops, .text = ""};
    struct rv_replay_config config = {.path = path,
                                      .player = {.target = target, .output = &screen.nd}};
    struct rv_replay *r;
    *e = (struct rv_end){0};
    int code = rv_replay_begin(&r, &config, NULL, NULL, err);
    if (code) return code;
    code = rv_replay_run(r, e, err);
    rv_replay_free(r);
    *shown = screen.shown;
    return code;
}

TestSuite(replay, .init = begin, .fini = end);

Test(replay, reproduces_the_recording) {
    struct rv_end was = record("hello q"), is;
    struct rv_buf shown;
    struct rv_err err = {0};
    cr_assert_eq(replay(trace_path, RV_NEVER, &is, &shown, &err), 0, "%s", err.msg);
    cr_expect_eq(is.reason, RV_STOP_DEBUG_EXIT);
    cr_expect_eq(is.code, 42);
    cr_expect_eq(is.at.icount, was.at.icount);
    cr_expect_eq(is.cpu_digest, was.cpu_digest);
    cr_expect_eq(is.ram_digest, was.ram_digest);
    cr_expect_eq(shown.len, 7);
    cr_expect_arr_eq(shown.data, "hello q", 7);
    rv_buf_release(&shown);
}

Test(replay, stops_at_any_position) {
    struct rv_end was = record("abcq");
    uint64_t before = 0;
    for (rv_icount at = 1; at < was.at.icount; at += 997) {
        struct rv_end a, b;
        struct rv_buf shown;
        struct rv_err err = {0};
        cr_assert_eq(replay(trace_path, at, &a, &shown, &err), 0, "%s", err.msg);
        rv_buf_release(&shown);
        cr_assert_eq(replay(trace_path, at, &b, &shown, &err), 0, "%s", err.msg);
        rv_buf_release(&shown);
        cr_assert_eq(a.reason, RV_STOP_TARGET);
        cr_assert_eq(a.at.icount, at);
        cr_assert_eq(a.cpu_digest, b.cpu_digest);
        cr_assert_neq(a.cpu_digest, before, "the state at %" PRIu64 " is that of another", at);
        before = a.cpu_digest;
    }
}

/* ---- edited traces ---- */

enum edit { KEEP, DROP };

struct change {
    uint32_t kind; /* the event to change: the nth of its kind */
    unsigned nth;
    enum edit (*apply)(struct rv_trace_event *ev);
};

static uint8_t scratch[64];

/* Copies the trace with one event changed, properly sealed: a lie that only replay can find.
 * vendor, if not NULL: of the processor that it says it was recorded on. */
static void edit(const struct change *ch, const char *vendor) {
    struct rv_err err = {0};
    struct rv_trace_reader *r;
    cr_assert_eq(rv_trace_reader_open(&r, trace_path, &err), 0, "%s", err.msg);
    struct rv_trace_writer_options wo = {.flags = RV_TRACE_OVERWRITE};
    struct rv_trace_writer *w;
    struct rv_trace_header header = *rv_trace_reader_header(r);
    if (vendor) header.host_cpu.vendor = vendor;
    cr_assert_eq(rv_trace_writer_new(&w, edited_path, &wo, &header, &err), 0);
    struct rv_trace_hash hash;
    cr_assert_eq(rv_trace_writer_add_blob(w, echo_guest, sizeof echo_guest, &hash, &err), 0);
    struct rv_trace_cursor *c = rv_trace_cursor_new(r);
    const struct rv_trace_event *ev;
    unsigned seen = 0;
    bool changed = false;
    while (rv_trace_cursor_next(c, &ev, &err) == 0) {
        struct rv_trace_event copy = *ev;
        if (ev->kind == ch->kind && seen++ == ch->nth) {
            cr_assert_leq(ev->len, sizeof scratch);
            if (ev->len) memcpy(scratch, ev->data, ev->len);
            copy.data = scratch;
            changed = true;
            if (ch->apply(&copy) == DROP) continue;
        }
        cr_assert_eq(rv_trace_writer_append(w, &copy, &err), 0, "%s", err.msg);
    }
    cr_assert(changed, "the trace has no such event");
    struct rv_trace_summary s = *rv_trace_reader_summary(r);
    cr_assert_eq(rv_trace_writer_seal(w, &s, &err), 0, "%s", err.msg);
    rv_trace_writer_free(w);
    rv_trace_cursor_free(c);
    rv_trace_reader_free(r);
}

static enum edit drop(struct rv_trace_event *ev) {
    (void)ev;
    return DROP;
}
static enum edit other_byte(struct rv_trace_event *ev) {
    scratch[0] ^= 1;
    return ev->len ? KEEP : DROP;
}
static enum edit much_earlier(struct rv_trace_event *ev) {
    /* Well beyond one turn of the guest's polling loop, within which it could not tell. */
    ev->position -= 1000;
    ev->time -= 1000;
    return KEEP;
}
static enum edit earlier(struct rv_trace_event *ev) {
    ev->position -= 1;
    ev->time -= 1;
    return KEEP;
}
static enum edit other_value(struct rv_trace_event *ev) {
    ev->value ^= 1;
    return KEEP;
}
static enum edit other_value2(struct rv_trace_event *ev) {
    ev->value2 ^= 1;
    return KEEP;
}
static enum edit no_bytes(struct rv_trace_event *ev) {
    ev->len = 0;
    return KEEP;
}
static enum edit endless(struct rv_trace_event *ev) {
    ev->value = UINT64_MAX;
    return KEEP;
}
static enum edit other_source(struct rv_trace_event *ev) {
    ev->source ^= 3;
    return KEEP;
}

static void expect_divergence(const struct change *ch, const char *what, const char *vendor,
                              const char *hint) {
    struct rv_end e;
    struct rv_buf shown = {0};
    struct rv_err err = {0};
    edit(ch, vendor);
    int code = replay(edited_path, RV_NEVER, &e, &shown, &err);
    rv_buf_release(&shown);
    cr_expect_eq(code, RV_E_DIVERGED, "%s: %d %s", what, code, err.msg);
    cr_expect(strstr(err.msg, "instruction"), "%s: no position in: %s", what, err.msg);
    cr_expect_eq(!strstr(err.msg, "make of processor"), !vendor, "%s: %s", what, err.msg);
    if (hint) cr_expect(strstr(err.msg, hint), "%s: %s", what, err.msg);
}

Test(replay, finds_every_change) {
    record("hello q");
    static const struct {
        struct change change;
        const char *what;
    } cases[] = {
        {{RV_TRACE_INPUT, 2, other_byte}, "another byte typed"},
        {{RV_TRACE_INPUT, 2, drop}, "a byte not typed"},
        {{RV_TRACE_INPUT, 3, much_earlier}, "a byte typed earlier"},
        {{RV_TRACE_EFFECT, 0, other_byte}, "another byte printed"},
        {{RV_TRACE_EFFECT, 0, drop}, "nothing printed"},
        {{RV_TRACE_EFFECT, 0, other_value}, "printed over another span"},
        {{RV_TRACE_EFFECT, 0, other_value2}, "printed at other instructions"},
        {{RV_TRACE_EFFECT, 0, other_source}, "printed elsewhere"},
        {{RV_TRACE_EFFECT, 0, no_bytes}, "output without bytes"},
        {{RV_TRACE_EFFECT, 0, endless}, "printed over all positions"},
        {{RV_TRACE_DIGEST, 1, other_value}, "another CPU digest"},
        {{RV_TRACE_DIGEST, 1, other_value2}, "another RAM digest"},
        {{RV_TRACE_DIGEST, 1, drop}, "no digest"},
        {{RV_TRACE_QUERY, 0, other_source}, "another question"},
        {{RV_TRACE_QUERY, 0, drop}, "no answer"},
        {{RV_TRACE_STOP, 0, other_value}, "another end"},
        {{RV_TRACE_STOP, 0, other_value2}, "another exit code"},
        {{RV_TRACE_STOP, 0, earlier}, "an earlier end"},
    };
    for (unsigned i = 0; i < RV_COUNT(cases); i++)
        expect_divergence(&cases[i].change, cases[i].what, NULL, NULL);
}

Test(replay, another_wall_time_changes_the_digest) {
    record("q");
    expect_divergence(&(struct change){RV_TRACE_QUERY, 0, other_value}, "another wall time", NULL,
                      NULL);
}

Test(replay, another_make_of_processor_is_a_hint) {
    record("hello q");
    expect_divergence(&(struct change){RV_TRACE_DIGEST, 1, other_value}, "another CPU digest",
                      "NobodysMaker", "undefined flags");
    quirks = RV_QUIRK_PORTABLE;
    record("hello q");
    expect_divergence(&(struct change){RV_TRACE_DIGEST, 1, other_value}, "another CPU digest",
                      "NobodysMaker", "x87");
}
