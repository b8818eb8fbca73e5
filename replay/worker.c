#include "replay/worker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "trace-format/effect.h"
#include "vmm/base/buf.h"

/* Instructions between two looks at the outside in a branch, where no trace says how far to run. */
#define SLICE      (4u << 20)
#define CLOCK_STEP 1000u /* ns */

/* ---- between machine and player ---- */

static struct rv_worker *of(struct rv_nondet *nd) { return (struct rv_worker *)nd; }

static int on_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                    uint64_t *value, struct rv_err *err) {
    struct rv_worker *w = of(nd);
    if (!w->branched) return w->player->ops->query(w->player, at, source, value, err);
    /* In a branch of a hardware recording time goes on by a little at each look. */
    *value = source == RV_SRC_CLOCK ? CLOCK_STEP : 0;
    return 0;
}

static int on_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                   struct rv_err *err) {
    struct rv_worker *w = of(nd);
    if (!w->branched) return w->player->ops->next(w->player, q, out, err);
    *out = (struct rv_push){0};
    int stop = atomic_load(&w->stop);
    if (stop || (q->idle && q->deadline == RV_NEVER))
        *out = (struct rv_push){.kind = RV_PUSH_STOP,
                                .value = (uint64_t)(stop ? stop : (int)RV_STOP_HALTED)};
    else if (q->idle)
        *out = (struct rv_push){.kind = RV_PUSH_JUMP, .source = RV_SRC_CLOCK, .time = q->deadline};
    return 0;
}

static int on_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                      struct rv_err *err) {
    struct rv_worker *w = of(nd);
    if (w->poll && w->poll(w->ctx, at.icount)) {
        atomic_store(&w->stop, RV_STOP_INTERRUPT);
        h->until = at.icount + 1;
        return 0;
    }
    if (!w->branched) return w->player->ops->horizon(w->player, at, h, err);
    h->until = at.icount + SLICE;
    return 0;
}

static int on_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                     const void *data, size_t len, struct rv_err *err) {
    struct rv_worker *w = of(nd);
    if (!w->branched) return w->player->ops->effect(w->player, at, sink, data, len, err);
    if (w->console && sink == RV_SRC_CONSOLE) rv_buf_put(w->console, data, len);
    return 0;
}

static int on_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what, uint64_t value,
                     struct rv_err *err) {
    struct rv_worker *w = of(nd);
    return w->branched ? 0 : w->player->ops->digest(w->player, at, what, value, err);
}

static int on_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    struct rv_worker *w = of(nd);
    return w->branched ? 0 : w->player->ops->stopped(w->player, end, err);
}

static const struct rv_nondet_ops between = {
    .query = on_query,
    .next = on_next,
    .horizon = on_horizon,
    .effect = on_effect,
    .digest = on_digest,
    .stopped = on_stopped,
};

static struct rv_nondet *wrap(void *ctx, struct rv_nondet *player) {
    struct rv_worker *w = ctx;
    w->player = player;
    return &w->nd;
}

/* ---- life ---- */

/* Whether the trace's positions are traps, for want of a count of instructions. */
static bool counts_traps(const struct rv_trace_reader *reader) {
    return rv_trace_option_number(rv_trace_reader_header(reader), RV_OPTION_BY_TRAP, 0);
}

int rv_worker_new(struct rv_worker **out, const struct rv_replay_config *config,
                  struct rv_err *err) {
    const struct rv_engine_ops *e = config->engine;
    if (e && !(e->counts && e->watch && e->restore))
        return rv_fail(
            err, RV_E_UNSUPPORTED,
            "engine %s cannot count instructions and watch them; take --engine interpret", e->name);
    struct rv_worker *w = rv_alloc(sizeof *w);
    w->nd.ops = &between;
    struct rv_replay_config rc = *config;
    rc.player = (struct rv_player_config){.target = RV_NEVER, .stop_request = &w->stop};
    int r = rv_replay_begin(&w->replay, &rc, wrap, w, err);
    if (!r && counts_traps(rv_replay_reader(w->replay)))
        r = rv_fail(err, RV_E_UNSUPPORTED,
                    "%s was recorded on hardware and counts traps; run retro lift on it first",
                    config->path);
    if (r) {
        rv_worker_free(w);
        return r;
    }
    uint64_t pages = rv_machine_ram(rv_worker_machine(w))->size >> RV_PAGE_SHIFT;
    w->holds = rv_alloc(pages * sizeof *w->holds);
    memset(w->holds, 0xff, pages * sizeof *w->holds);
    *out = w;
    return 0;
}

void rv_worker_free(struct rv_worker *w) {
    if (!w) return;
    rv_replay_free(w->replay);
    free(w->holds);
    free(w);
}

struct rv_machine *rv_worker_machine(struct rv_worker *w) {
    return rv_replay_machine(w->replay);
}

/* ---- checkpoints ---- */

static void put_page(void *ctx, uint64_t page, const uint8_t *content) {
    struct rv_ram *ram = ctx;
    rv_gpa gpa = rv_ram_gpa(page << RV_PAGE_SHIFT);
    bool written = rv_ram_write(ram, gpa, content, RV_PAGE_SIZE);
    rv_assert(written);
}

/* Makes RAM what it was at a checkpoint, copying only what differs. */
static int restore_pages(struct rv_worker *w, const struct rv_history *h, rv_icount at,
                         struct rv_err *err) {
    static const uint8_t zeroes[RV_PAGE_SIZE];
    struct rv_ram *ram = rv_machine_ram(rv_worker_machine(w));
    uint8_t *changed = rv_ram_changed(ram);
    struct rv_page_want *want = NULL;
    size_t n = 0, room = 0;
    for (uint64_t page = 0; page < h->page_count; page++) {
        const struct rv_version *v = rv_pages_at(h->pages, page, at);
        rv_icount version = v ? v->at : RV_HOLDS_ZERO;
        if (!changed[page] && w->holds[page] == version) continue;
        w->holds[page] = version;
        if (v && v->kind == RV_VERSION_FILE) {
            if (n == room) {
                room = room ? 2 * room : 1024;
                want = rv_realloc(want, room * sizeof *want);
            }
            want[n++] = (struct rv_page_want){v, page};
        } else {
            put_page(ram, page, v && v->kind == RV_VERSION_MEMORY ? v->bytes : zeroes);
        }
    }
    int r = rv_history_read(h, want, n, put_page, ram, err);
    free(want);
    memset(rv_ram_changed(ram), r ? 1 : 0, h->page_count);
    return r;
}

int rv_worker_restore(struct rv_worker *w, const struct rv_history *h, size_t i,
                      struct rv_err *err) {
    const struct rv_checkpoint *c = &h->checkpoint[i];
    int r = restore_pages(w, h, c->at, err);
    if (r) return r;
    struct rv_cursor in = rv_cursor_of(c->state, c->len);
    r = rv_machine_load(rv_worker_machine(w), &in, err);
    if (!r) r = rv_player_load(rv_replay_player(w->replay), &in, err);
    if (r == RV_E_FORMAT) {
        struct rv_err why = *err;
        r = rv_fail(err, RV_E_FORMAT,
                    "the index is damaged at instruction %" PRIu64
                    ": %s; make it anew with retro index --force",
                    c->at, why.msg);
    }
    w->ended = false;
    w->branched = false;
    return r;
}

int rv_worker_state(struct rv_worker *w, struct rv_buf *out, struct rv_err *err) {
    int r = rv_machine_save(rv_worker_machine(w), out, err);
    if (!r) rv_player_save(rv_replay_player(w->replay), out);
    return r;
}

int rv_worker_keep(struct rv_worker *w, struct rv_history *h, struct rv_err *err) {
    struct rv_machine *m = rv_worker_machine(w);
    struct rv_point now = rv_machine_now(m);
    struct rv_buf state = {0};
    int r = rv_worker_state(w, &state, err);
    if (r) {
        rv_buf_release(&state);
        return r;
    }
    struct rv_ram *ram = rv_machine_ram(m);
    uint8_t *changed = rv_ram_changed(ram);
    for (uint64_t page = 0; page < h->page_count; page++) {
        if (!changed[page]) continue;
        rv_pages_keep(h->pages, page, now.icount, ram->host + (page << RV_PAGE_SHIFT));
        w->holds[page] = now.icount;
        changed[page] = 0;
    }
    struct rv_checkpoint c = {
        .at = now.icount, .time = now.time, .state = state.data, .len = (uint32_t)state.len};
    rv_history_add(h, &c);
    return 0;
}

/* ---- running ---- */

/* Whether it is the recording that ends there, rather than the one who runs it. */
static bool is_end(const struct rv_worker *w, enum rv_stop reason) {
    return reason != RV_STOP_TARGET && reason != RV_STOP_WATCH && !atomic_load(&w->stop);
}

int rv_worker_run(struct rv_worker *w, rv_icount target, struct rv_err *err) {
    if (w->ended) return (int)w->end.reason;
    rv_player_set_target(rv_replay_player(w->replay), target);
    int r = rv_machine_advance(rv_worker_machine(w), &w->end, err);
    if (r) return r;
    w->ended = is_end(w, w->end.reason);
    return (int)w->end.reason;
}
