#include "replay/timeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replay/timeline_priv.h"
#include "vmm/base/buf.h"

/* ---- life ---- */

static bool on_poll(void *ctx, rv_icount at) {
    struct rv_timeline *t = ctx;
    (void)at;
    return t->config.interrupted && t->config.interrupted(t->config.ctx);
}

struct rv_worker *rv_timeline_worker(struct rv_timeline *t, unsigned i, struct rv_err *err) {
    if (!t->worker[i] && !rv_worker_new(&t->worker[i], &t->config.replay, err) && i == 0) {
        t->worker[0]->poll = on_poll;
        t->worker[0]->ctx = t;
    }
    return t->worker[i];
}

static uint64_t page_count(struct rv_timeline *t) {
    return rv_machine_ram(rv_timeline_machine(t))->size >> RV_PAGE_SHIFT;
}

static int build_history(struct rv_timeline *t, char *note, size_t size, struct rv_err *err) {
    struct rv_index_config ic = {.replay = t->config.replay,
                                 .progress = t->config.progress,
                                 .ctx = t->config.ctx,
                                 .temporary = !t->config.use_index};
    int r = rv_index_build(&t->h, &ic, err);
    if (r != RV_E_HOST || ic.temporary) return r;
    snprintf(note, size, "%s; using a temporary one", err->msg);
    ic.temporary = true;
    return rv_index_build(&t->h, &ic, err);
}

/* Takes up the start of the history from the index, or from a new one. */
static int open_history(struct rv_timeline *t, char *note, size_t size, struct rv_err *err) {
    int r = RV_E_END;
    if (t->config.use_index) r = rv_index_load(&t->h, t->path, page_count(t), err);
    if (!r) {
        r = rv_worker_restore(t->worker[0], t->h, 0, err);
        if (!r) return 0;
        if (r == RV_E_FORMAT) rv_fail(err, r, "%s.index is damaged", t->path);
        rv_history_free(t->h);
        t->h = NULL;
    }
    if (r != RV_E_END && r != RV_E_FORMAT) return r;
    if (r == RV_E_FORMAT) snprintf(note, size, "%s; making a new one", err->msg);
    r = build_history(t, note, size, err);
    return r ? r : rv_worker_restore(t->worker[0], t->h, 0, err);
}

int rv_timeline_open(struct rv_timeline **out, const struct rv_timeline_config *config, char *note,
                     size_t size, struct rv_err *err) {
    struct rv_timeline *t = rv_alloc(sizeof *t);
    struct rv_err local = {0};
    *note = 0;
    t->config = *config;
    t->path = rv_strdup(config->replay.path);
    t->config.replay.path = t->path;
    if (!t->config.workers) t->config.workers = 1;
    t->worker = rv_alloc(t->config.workers * sizeof *t->worker);
    t->speed = 2e8;
    int r = rv_timeline_worker(t, 0, &local) ? 0 : local.code;
    if (!r) r = open_history(t, note, size, &local);
    if (r) {
        if (err) *err = local;
        rv_timeline_free(t);
        return r;
    }
    *out = t;
    return 0;
}

void rv_timeline_free(struct rv_timeline *t) {
    if (!t) return;
    for (unsigned i = 0; i < t->config.workers; i++) rv_worker_free(t->worker[i]);
    free(t->worker);
    rv_history_free(t->h);
    free(t->path);
    free(t);
}

/* ---- where it stands ---- */

struct rv_moment rv_timeline_now(const struct rv_timeline *t) {
    return t->now;
}

struct rv_moment rv_timeline_end(const struct rv_timeline *t) {
    return (struct rv_moment){t->h->end, RV_END_DELIVERED};
}

rv_ns rv_timeline_end_time(const struct rv_timeline *t) { return t->h->end_time; }

bool rv_timeline_at_end(const struct rv_timeline *t) {
    return rv_moment_same(t->now, rv_timeline_end(t));
}

bool rv_timeline_at_start(const struct rv_timeline *t) {
    return !t->now.icount && !t->now.delivered;
}

enum rv_stop rv_timeline_reason(const struct rv_timeline *t) { return t->h->reason; }

struct rv_machine *rv_timeline_machine(struct rv_timeline *t) {
    return rv_worker_machine(t->worker[0]);
}

const struct rv_trace_reader *rv_timeline_reader(const struct rv_timeline *t) {
    return rv_replay_reader(t->worker[0]->replay);
}

void rv_timeline_progress(const struct rv_timeline *t, uint64_t *events, uint64_t *bytes) {
    rv_player_progress(rv_replay_player(t->worker[0]->replay), events, bytes);
}

struct rv_timeline_stats rv_timeline_stats(const struct rv_timeline *t) {
    struct rv_timeline_stats s = t->stats;
    for (size_t i = 0; i < t->h->checkpoints; i++)
        *(t->h->checkpoint[i].filed ? &s.filed : &s.kept) += 1;
    s.kept_bytes = rv_pages_memory(t->h->pages);
    s.index_bytes = t->h->file_size;
    s.epochs = t->h->epochs;
    return s;
}

const struct rv_history *rv_timeline_history(const struct rv_timeline *t) { return t->h; }

rv_icount rv_timeline_checkpoint(const struct rv_timeline *t, size_t i, bool *filed) {
    *filed = t->h->checkpoint[i].filed;
    return t->h->checkpoint[i].at;
}

/* ---- checkpoints on the way ---- */

/* What taking up a checkpoint costs, as an amount of replay: with it the nearest checkpoint that is
 * worth making, and whether running on is cheaper than going back to one, follow from the speed. */
#define RESTORE_SECONDS 0.001
/* A checkpoint each at this many times the distance of the one nearer to the goal. */
#define SPREAD 4
/* More in memory than this are too many to look through. */
#define KEPT_MAX 128

static rv_icount worth(const struct rv_timeline *t) {
    rv_icount n = (rv_icount)(t->speed * RESTORE_SECONDS / 4);
    return n < 1024 ? 1024 : n;
}

/* Gives up the checkpoint in memory that is missed least: the one that leaves the smallest gap for
 * its distance from here. So they thin out exponentially away from where the user is. */
static void thin(struct rv_timeline *t, rv_icount here) {
    struct rv_history *h = t->h;
    size_t kept = 0;
    for (size_t i = 0; i < h->checkpoints; i++) kept += !h->checkpoint[i].filed;
    while (kept > KEPT_MAX || (kept && rv_pages_memory(h->pages) > t->config.memory)) {
        size_t victim = 0;
        double least = 0;
        for (size_t i = 1; i < h->checkpoints; i++) {
            const struct rv_checkpoint *c = &h->checkpoint[i];
            if (c->filed) continue;
            rv_icount next = i + 1 < h->checkpoints ? c[1].at : h->end + 1;
            double away = (double)(here > c->at ? here - c->at : c->at - here) + 1;
            double gap = (double)(next - c[-1].at) / away;
            if (victim && gap >= least) continue;
            victim = i;
            least = gap;
        }
        rv_history_drop(h, victim);
        kept--;
    }
}

static double seconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Runs worker 0 to a position that lies ahead; a reason, or negative. */
static int run_to(struct rv_timeline *t, rv_icount to, struct rv_err *err) {
    struct rv_worker *w = t->worker[0];
    rv_icount from = rv_machine_now(rv_worker_machine(w)).icount;
    double began = seconds();
    int r = rv_worker_run(w, to, err);
    double took = seconds() - began;
    rv_icount ran = rv_machine_now(rv_worker_machine(w)).icount - from;
    if (ran > 1000000 && took > 0) t->speed = (t->speed + (double)ran / took) / 2;
    return r;
}

/* The same, leaving checkpoints that get denser towards the goal: whoever went there may well want
 * to step back. */
static int run_keeping(struct rv_timeline *t, rv_icount to, struct rv_err *err) {
    struct rv_worker *w = t->worker[0];
    struct rv_machine *m = rv_worker_machine(w);
    rv_icount nearest = worth(t), away = nearest, from = rv_machine_now(m).icount;
    while (away < to && to - away > from && away <= UINT64_MAX / SPREAD / 2) away *= SPREAD;
    int r = RV_STOP_TARGET;
    for (; away >= nearest; away /= SPREAD) {
        if (to <= away || to - away <= from) continue;
        rv_icount at = to - away;
        size_t i = rv_history_before(t->h, at);
        if (at - t->h->checkpoint[i].at < away / SPREAD) continue;
        r = run_to(t, at, err);
        if (r != RV_STOP_TARGET) return r;
        r = rv_worker_keep(w, t->h, err);
        if (r) return r;
        thin(t, to);
        r = RV_STOP_TARGET;
    }
    return rv_machine_now(m).icount < to ? run_to(t, to, err) : r;
}

/* ---- moving ---- */

static void begin(struct rv_timeline *t) { atomic_store(&t->worker[0]->stop, 0); }

/* Takes note of where worker 0 came to; RV_AT_TARGET means a position. */
static enum rv_at arrive(struct rv_timeline *t, int reason, rv_icount icount) {
    t->lost = false;
    if (t->worker[0]->ended && !t->worker[0]->branched) {
        t->now = rv_timeline_end(t);
        return RV_AT_END;
    }
    t->now = (struct rv_moment){icount, 0};
    if (reason == RV_STOP_TARGET) return RV_AT_TARGET;
    if (reason == RV_STOP_WATCH) return RV_AT_HIT;
    return t->worker[0]->branched && reason != RV_STOP_INTERRUPT ? RV_AT_END : RV_AT_INTERRUPT;
}

/* Brings worker 0 to where icount instructions have just retired. */
static int go(struct rv_timeline *t, rv_icount icount, enum rv_at *at, struct rv_err *err) {
    struct rv_worker *w = t->worker[0];
    size_t i = rv_history_before(t->h, icount);
    rv_icount here = rv_machine_now(rv_worker_machine(w)).icount;
    bool ahead = !t->lost && !w->ended &&
                 (t->now.icount < icount || rv_moment_same(t->now, (struct rv_moment){icount, 0}));
    bool cheap = here >= t->h->checkpoint[i].at || icount - here < 4 * worth(t);
    if (!ahead || !cheap) {
        t->lost = true;
        t->stats.restores++;
        int r = rv_worker_restore(w, t->h, i, err);
        if (r) return r;
        here = t->h->checkpoint[i].at;
    }
    int reason = RV_STOP_TARGET;
    if (here < icount) {
        t->lost = true;
        reason = run_keeping(t, icount, err);
        if (reason < 0) return reason;
    }
    *at = arrive(t, reason, rv_machine_now(rv_worker_machine(w)).icount);
    return 0;
}

/* ---- single moments ---- */

/* Runs worker 0 along the moments at which an instruction is about to run, up to a limit. */
struct walk {
    struct rv_moment from, limit; /* counts what is at or after from and before limit */
    struct rv_moment last;
    bool any, first_only, past;
};

static bool on_moment(void *ctx, const struct rv_watch_hit *hit) {
    struct walk *k = ctx;
    if (rv_moment_before(hit->before, k->from)) return false;
    if (!rv_moment_before(hit->before, k->limit)) {
        k->past = true;
        return true;
    }
    k->any = true;
    k->last = hit->before;
    return k->first_only;
}

static int walk(struct rv_timeline *t, struct walk *k, struct rv_err *err) {
    static const struct rv_watchpoint every = {.len = UINT64_MAX, .access = RV_WATCH_EXEC};
    struct rv_watch w = {.point = &every, .n = 1, .hit = on_moment, .ctx = k};
    struct rv_machine *m = rv_timeline_machine(t);
    rv_machine_watch(m, &w);
    int r = rv_worker_run(t->worker[0], RV_NEVER, err);
    rv_machine_watch(m, NULL);
    return r;
}

static const struct rv_moment forever = {RV_NEVER, UINT32_MAX};

static int seek(struct rv_timeline *t, struct rv_moment to, struct rv_arrival *a,
                struct rv_err *err) {
    *a = (struct rv_arrival){.at = RV_AT_TARGET};
    if (rv_moment_before(rv_timeline_end(t), to)) to = rv_timeline_end(t);
    if (rv_moment_same(to, t->now) && !t->lost) return 0;
    int r = go(t, to.icount, &a->at, err);
    if (r || a->at != RV_AT_TARGET || !to.delivered) return r;
    /* The moments within a position are found by walking along them. */
    t->lost = true;
    struct walk k = {.from = to, .limit = forever, .first_only = true};
    int reason = walk(t, &k, err);
    if (reason < 0) return reason;
    a->at = arrive(t, reason, to.icount);
    if (a->at != RV_AT_HIT) return 0;
    t->now = k.last;
    a->at = RV_AT_TARGET;
    return 0;
}

/* An interrupted move ends where it began. */
static int back_to(struct rv_timeline *t, struct rv_moment from, struct rv_arrival *a,
                   struct rv_err *err) {
    bool (*poll)(void *, rv_icount) = t->worker[0]->poll;
    begin(t);
    t->worker[0]->poll = NULL;
    struct rv_arrival unused;
    int r = seek(t, from, &unused, err);
    t->worker[0]->poll = poll;
    a->at = RV_AT_INTERRUPT;
    return r;
}

static int not_branched(const struct rv_timeline *t, struct rv_err *err) {
    if (!rv_timeline_branched(t)) return 0;
    return rv_fail(err, RV_E_USAGE,
                   "a branch only runs forwards; end it first (monitor branch end)");
}

int rv_timeline_seek(struct rv_timeline *t, struct rv_moment to, struct rv_arrival *a,
                     struct rv_err *err) {
    struct rv_moment from = t->now;
    int r = not_branched(t, err);
    if (r) return r;
    begin(t);
    r = seek(t, to, a, err);
    return !r && a->at == RV_AT_INTERRUPT ? back_to(t, from, a, err) : r;
}

int rv_timeline_step(struct rv_timeline *t, struct rv_arrival *a, struct rv_err *err) {
    *a = (struct rv_arrival){.at = RV_AT_TARGET};
    struct rv_moment from = t->now;
    if (rv_timeline_at_end(t) && !rv_timeline_branched(t)) {
        a->at = RV_AT_END;
        return 0;
    }
    begin(t);
    if (t->lost) {
        int r = seek(t, from, a, err);
        if (r || a->at != RV_AT_TARGET) return r;
    }
    struct walk k = {.from = from, .limit = forever, .first_only = true};
    k.from.delivered++;
    t->lost = true;
    int reason = walk(t, &k, err);
    if (reason < 0) return reason;
    a->at = arrive(t, reason, rv_machine_now(rv_timeline_machine(t)).icount);
    if (a->at == RV_AT_INTERRUPT && !rv_timeline_branched(t)) return back_to(t, from, a, err);
    if (a->at == RV_AT_HIT) {
        t->now = k.last;
        a->at = RV_AT_TARGET;
    }
    return 0;
}

int rv_timeline_step_back(struct rv_timeline *t, struct rv_arrival *a, struct rv_err *err) {
    *a = (struct rv_arrival){.at = RV_AT_TARGET};
    struct rv_moment from = t->now;
    int r = not_branched(t, err);
    if (r) return r;
    begin(t);
    /* Usually the moment before is one instruction back; where exceptions come without end, or time
     * passes in HLT, none may begin there. */
    for (rv_icount icount = from.icount, back = 1;; back *= 2) {
        if (!icount && !from.delivered) {
            r = seek(t, from, a, err);
            if (!r && a->at == RV_AT_TARGET) a->at = RV_AT_START;
            return r;
        }
        icount = icount > back ? icount - back : 0;
        r = seek(t, (struct rv_moment){icount, 0}, a, err);
        if (r) return r;
        if (a->at == RV_AT_INTERRUPT) return back_to(t, from, a, err);
        /* A place to come back to at once. */
        if (t->h->checkpoint[rv_history_before(t->h, icount)].at != icount) {
            r = rv_worker_keep(t->worker[0], t->h, err);
            if (r) return r;
            thin(t, icount);
        }
        struct walk k = {.from = {icount, 0}, .limit = from};
        t->lost = true;
        int reason = walk(t, &k, err);
        if (reason < 0) return reason;
        if (reason == RV_STOP_INTERRUPT && !t->worker[0]->ended) return back_to(t, from, a, err);
        if (!icount && !k.any) {
            r = seek(t, (struct rv_moment){0, 0}, a, err);
            if (!r && a->at == RV_AT_TARGET) a->at = RV_AT_START;
            return r;
        }
        if (k.any) return seek(t, k.last, a, err);
    }
}

/* ---- searches ---- */

/* In a branch there are no checkpoints: the machine just runs. */
struct on {
    const struct rv_search *s;
    struct rv_machine *m;
    struct rv_moment from;
    struct rv_watch_hit hit;
};

static bool on_live_hit(void *ctx, const struct rv_watch_hit *hit) {
    struct on *o = ctx;
    if (hit->access == RV_WATCH_EXEC && rv_moment_same(hit->before, o->from)) return false;
    if (o->s->accept && !o->s->accept(o->s->ctx, o->m, hit)) return false;
    o->hit = *hit;
    return true;
}

static int run_branch(struct rv_timeline *t, const struct rv_search *s, struct rv_arrival *a,
                      struct rv_err *err) {
    struct on o = {.s = s, .m = rv_timeline_machine(t), .from = t->now};
    struct rv_watchpoint *p = rv_alloc(s->n * sizeof *p);
    for (size_t i = 0; i < s->n; i++) p[i] = s->sought[i].watch;
    struct rv_watch w = {.point = p, .n = s->n, .hit = on_live_hit, .ctx = &o};
    rv_machine_watch(o.m, &w);
    int reason = rv_worker_run(t->worker[0], RV_NEVER, err);
    rv_machine_watch(o.m, NULL);
    free(p);
    if (reason < 0) return reason;
    a->at = arrive(t, reason, rv_machine_now(o.m).icount);
    if (a->at != RV_AT_HIT) return 0;
    a->hit = o.hit;
    t->now = o.hit.after;
    return 0;
}

static int run(struct rv_timeline *t, const struct rv_search *s, bool forward, struct rv_arrival *a,
               struct rv_err *err) {
    *a = (struct rv_arrival){.at = RV_AT_TARGET};
    struct rv_moment from = t->now;
    if (forward ? rv_timeline_at_end(t) : rv_timeline_at_start(t)) {
        a->at = forward ? RV_AT_END : RV_AT_START;
        return 0;
    }
    begin(t);
    struct rv_found f;
    bool lost = t->lost;
    t->lost = true;
    int r = rv_search_epochs(t, s, forward, lost, &f, err);
    if (r) return r;
    begin(t);
    if (f.interrupted) return back_to(t, from, a, err);
    struct rv_moment to = forward ? rv_timeline_end(t) : (struct rv_moment){0, 0};
    if (f.hit) to = forward ? f.best.after : f.best.before;
    if (f.arrived) {
        t->lost = false;
        t->now = to;
    }
    r = seek(t, to, a, err);
    if (r) return r;
    if (a->at == RV_AT_INTERRUPT) return back_to(t, from, a, err);
    a->at = f.hit ? RV_AT_HIT : forward ? RV_AT_END : RV_AT_START;
    a->hit = f.best;
    return 0;
}

int rv_timeline_run(struct rv_timeline *t, const struct rv_search *s, struct rv_arrival *a,
                    struct rv_err *err) {
    if (!rv_timeline_branched(t)) return run(t, s, true, a, err);
    *a = (struct rv_arrival){.at = RV_AT_TARGET};
    begin(t);
    return run_branch(t, s, a, err);
}

int rv_timeline_run_back(struct rv_timeline *t, const struct rv_search *s, struct rv_arrival *a,
                         struct rv_err *err) {
    int r = not_branched(t, err);
    return r ? r : run(t, s, false, a, err);
}

/* ---- branches ---- */

int rv_timeline_branch(struct rv_timeline *t, struct rv_buf *console, struct rv_err *err) {
    if (rv_timeline_branched(t))
        return rv_fail(err, RV_E_USAGE, "this is a branch already; end it with monitor branch end");
    if (rv_timeline_at_end(t))
        return rv_fail(err, RV_E_USAGE, "the machine has stopped here; branch off earlier");
    if (t->lost) {
        struct rv_arrival a;
        int r = rv_timeline_seek(t, t->now, &a, err);
        if (r) return r;
    }
    t->branched_at = t->now;
    t->worker[0]->branched = true;
    t->worker[0]->console = console;
    return 0;
}

int rv_timeline_unbranch(struct rv_timeline *t, struct rv_err *err) {
    if (!rv_timeline_branched(t)) return rv_fail(err, RV_E_USAGE, "this is no branch");
    t->worker[0]->branched = false;
    t->worker[0]->console = NULL;
    t->lost = true;
    struct rv_arrival a;
    t->now = t->branched_at;
    begin(t);
    return back_to(t, t->branched_at, &a, err);
}

bool rv_timeline_branched(const struct rv_timeline *t) { return t->worker[0]->branched; }
