#include "tools/analysis/console.h"

#include <stdlib.h>

static void add(struct rv_console *c, rv_icount at, rv_ns time, const void *data, size_t len) {
    if (!len) return;
    struct rv_console_piece *last = c->piece && c->pieces ? &c->piece[c->pieces - 1] : NULL;
    if (last && last->at == at && last->time == time) {
        last->len += len;
        rv_buf_put(&c->text, data, len);
        return;
    }
    if (!c->piece || c->pieces == c->room) {
        c->room = c->room ? 2 * c->room : 1024;
        c->piece = rv_realloc(c->piece, c->room * sizeof *c->piece);
    }
    c->piece[c->pieces++] =
        (struct rv_console_piece){.at = at, .time = time, .start = c->text.len, .len = len};
    rv_buf_put(&c->text, data, len);
}

void rv_console_release(struct rv_console *c) {
    rv_buf_release(&c->text);
    free(c->piece);
    *c = (struct rv_console){0};
}

int rv_console_read(struct rv_console *out, const struct rv_trace_reader *reader,
                    enum rv_source sink, rv_icount to, bool *split, struct rv_err *err) {
    *out = (struct rv_console){0};
    *split = false;
    struct rv_trace_cursor *c = rv_trace_cursor_new(reader);
    const struct rv_trace_event *ev;
    int r;
    while ((r = rv_trace_cursor_next(c, &ev, err)) == 0) {
        if (ev->position >= to) break;
        if (ev->kind != RV_TRACE_EFFECT || ev->source != (uint32_t)sink) continue;
        /* The position of a byte is that of the instruction that printed it, which is done only at
         * the next. */
        if (ev->value >= to - ev->position) *split = true;
        add(out, ev->position, ev->time, ev->data, ev->len);
    }
    rv_trace_cursor_free(c);
    struct rv_trace_state st;
    rv_trace_reader_state(reader, &st);
    out->end = st.position;
    out->end_time = st.time;
    out->whole = r == 0 || r == RV_E_END;
    return out->whole ? 0 : r;
}

/* ---- by replaying ---- */

struct tap {
    struct rv_nondet nd;
    struct rv_console *out;
    enum rv_source sink;
};

static int on_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                     const void *data, size_t len, struct rv_err *err) {
    struct tap *t = (struct tap *)nd;
    (void)err;
    if (sink == t->sink) add(t->out, at.icount, at.time, data, len);
    return 0;
}

/* The player hands on nothing but output. */
static const struct rv_nondet_ops tap_ops = {.effect = on_effect};

int rv_console_replay(struct rv_console *out, const struct rv_replay_config *config,
                      enum rv_source sink, rv_icount to,
                      struct rv_nondet *(*wrap)(void *ctx, struct rv_nondet *), void *ctx,
                      struct rv_err *err) {
    *out = (struct rv_console){0};
    struct tap tap = {.nd = {.ops = &tap_ops}, .out = out, .sink = sink};
    struct rv_replay_config rc = *config;
    rc.player.output = &tap.nd;
    rc.player.target = to;
    struct rv_replay *rp = NULL;
    struct rv_end end = {0};
    int r = rv_replay_begin(&rp, &rc, wrap, ctx, err);
    if (!r) r = rv_replay_run(rp, &end, err);
    out->end = end.at.icount;
    out->end_time = end.at.time;
    const _Atomic int *stop = config->player.stop_request;
    out->whole = !r && !(stop && atomic_load(stop));
    rv_replay_free(rp);
    return r;
}
