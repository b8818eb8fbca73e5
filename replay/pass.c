#include "replay/pass.h"

#include <stdlib.h>

#include "replay/stretch.h"
#include "vmm/base/buf.h"

/* Pieces that a worker may be ahead of what was merged, one for each worker and these. */
#define AHEAD       2
#define WORKERS_MAX 64

enum phase { WAITING, RUNNING, DONE, FAILED };

struct piece {
    struct rv_stretch x;
    enum phase phase;
    void *state;
    struct rv_err err; /* FAILED */
};

struct job {
    struct rv_timeline *t;
    const struct rv_pass *p;
    struct rv_watchpoint *point;
    struct piece *piece;
    size_t n;
    rv_icount total;
    atomic_bool cancel;
    pthread_mutex_t lock; /* of all below, and of pieces' phases */
    pthread_cond_t moved; /* one of them changed */
    size_t next, merged;  /* pieces taken, and merged */
    size_t window;        /* next may be this far ahead of merged */
};

/* One worker. */
struct task {
    struct job *j;
    struct rv_worker *w;
    struct piece *piece;
    pthread_t thread;
    atomic_uint_fast64_t done; /* instructions, of all its pieces */
    rv_icount began;           /* of this piece: where it started, and how much was done then */
    rv_icount before;
    bool stands; /* the machine stands at the end of the piece that it ran last, which is at: */
    rv_icount at;
};

/* ---- one piece ---- */

static bool on_hit(void *ctx, const struct rv_watch_hit *hit) {
    struct task *k = ctx;
    return k->j->p->hit(k->j->p->ctx, k->piece->state, rv_worker_machine(k->w), hit);
}

static bool on_poll(void *ctx, rv_icount at) {
    struct task *k = ctx;
    atomic_store(&k->done, k->before + (at > k->began ? at - k->began : 0));
    return atomic_load(&k->j->cancel);
}

/* Runs the piece and watches; with its pauses. As rv_stretch_watch. */
static int watched(struct task *k, const struct rv_watch *watch, struct rv_err *err) {
    const struct rv_pass *p = k->j->p;
    struct rv_stretch part = k->piece->x;
    rv_icount at = part.need, last = part.last;
    if (!p->every) return rv_stretch_watch(k->w, &part, watch, err);
    for (;;) {
        at = last - at > p->every ? at + p->every : last;
        part.last = at;
        int r = rv_stretch_watch(k->w, &part, watch, err);
        if (r != RV_STOP_TARGET || at == last || atomic_load(&k->w->stop)) return r;
        r = p->pause(p->ctx, k->piece->state, rv_worker_machine(k->w), err);
        if (r) return r;
    }
}

static int run_piece(struct task *k, struct rv_err *err) {
    struct job *j = k->j;
    const struct rv_pass *p = j->p;
    const struct rv_stretch *x = &k->piece->x;
    struct rv_machine *m = rv_worker_machine(k->w);
    struct rv_piece piece = {.from = x->need, .to = x->last};
    bool here = k->stands && k->at == j->t->h->checkpoint[x->checkpoint].at;
    k->stands = false;
    k->began = j->t->h->checkpoint[x->checkpoint].at;
    int r = rv_stretch_reach(k->w, j->t->h, x, here, err);
    if (r < 0) return r;
    if (atomic_load(&k->w->stop)) return rv_fail(err, RV_E_INTERRUPTED, "interrupted");
    if (r != RV_STOP_TARGET)
        return rv_fail(err, RV_E_FORMAT,
                       "the recording ends before its index says; make the index anew with retro "
                       "index --force");
    if (p->count) rv_machine_engine(m)->ops->count(rv_machine_engine(m), true);
    r = p->begin ? p->begin(p->ctx, &k->piece->state, m, &piece, err) : 0;
    if (r) return r;
    struct rv_watch watch = {.point = j->point, .n = p->hit ? p->n : 0, .hit = on_hit, .ctx = k};
    r = watched(k, &watch, err);
    if (r < 0) return r;
    if (atomic_load(&k->w->stop)) return rv_fail(err, RV_E_INTERRUPTED, "interrupted");
    k->stands = r == RV_STOP_TARGET;
    k->at = x->last;
    return p->end ? p->end(p->ctx, k->piece->state, m, err) : 0;
}

/* The next piece to run, or NULL when there is none any more. */
static struct piece *take(struct job *j) {
    struct piece *piece = NULL;
    pthread_mutex_lock(&j->lock);
    while (!atomic_load(&j->cancel) && j->next < j->n && j->next - j->merged >= j->window)
        pthread_cond_wait(&j->moved, &j->lock);
    if (!atomic_load(&j->cancel) && j->next < j->n) {
        piece = &j->piece[j->next++];
        piece->phase = RUNNING;
    }
    pthread_mutex_unlock(&j->lock);
    return piece;
}

static void *work(void *ctx) {
    struct task *k = ctx;
    struct job *j = k->j;
    while ((k->piece = take(j))) {
        atomic_store(&k->w->stop, 0);
        int r = run_piece(k, &k->piece->err);
        k->before += rv_stretch_length(j->t, &k->piece->x);
        atomic_store(&k->done, k->before);
        pthread_mutex_lock(&j->lock);
        k->piece->phase = r ? FAILED : DONE;
        pthread_cond_broadcast(&j->moved);
        pthread_mutex_unlock(&j->lock);
        if (r) break;
    }
    return NULL;
}

/* ---- all of them ---- */

static void cancel(struct job *j) {
    pthread_mutex_lock(&j->lock);
    atomic_store(&j->cancel, true);
    pthread_cond_broadcast(&j->moved);
    pthread_mutex_unlock(&j->lock);
}

static bool interrupted(struct job *j, struct task *task, unsigned tasks) {
    const struct rv_timeline_config *c = &j->t->config;
    rv_icount done = 0;
    for (unsigned i = 0; i < tasks; i++) done += atomic_load(&task[i].done);
    return (c->interrupted && c->interrupted(c->ctx)) ||
           (j->p->progress && j->p->progress(j->p->ctx, done, j->total));
}

static int merge(struct job *j, struct piece *piece, struct rv_err *err) {
    struct rv_piece where = {.from = piece->x.need, .to = piece->x.last};
    void *state = piece->state;
    piece->state = NULL;
    if (j->p->merge) return j->p->merge(j->p->ctx, state, &where, err);
    if (j->p->drop) j->p->drop(j->p->ctx, state);
    return 0;
}

/* Waits until a worker is done with the piece; false when the user said stop. */
static bool await(struct job *j, const struct piece *piece, struct task *task, unsigned tasks) {
    for (;;) {
        if (interrupted(j, task, tasks)) return false;
        pthread_mutex_lock(&j->lock);
        bool over = piece->phase == DONE || piece->phase == FAILED;
        if (!over) rv_stretch_wait(&j->moved, &j->lock);
        pthread_mutex_unlock(&j->lock);
        if (over) return true;
    }
}

/* Merges pieces in their order while the workers run. */
static int merge_all(struct job *j, struct task *task, unsigned tasks,
                     struct rv_pass_result *result, struct rv_err *err) {
    for (size_t i = 0; i < j->n; i++) {
        struct piece *piece = &j->piece[i];
        if (!await(j, piece, task, tasks)) {
            result->outcome = RV_PASS_INTERRUPTED;
            return 0;
        }
        if (piece->phase == FAILED) {
            if (err) *err = piece->err;
            return piece->err.code;
        }
        int r = merge(j, piece, err);
        if (r < 0) return r;
        pthread_mutex_lock(&j->lock);
        j->merged = i + 1;
        pthread_cond_broadcast(&j->moved);
        pthread_mutex_unlock(&j->lock);
        /* What lies between two pieces holds nothing. */
        result->merged = r ? piece->x.last : i + 1 < j->n ? piece[1].x.need : j->p->to;
        if (r) {
            result->outcome = RV_PASS_ENOUGH;
            return 0;
        }
    }
    return 0;
}

/* Starts the workers; how many, or negative. */
static int start(struct job *j, struct task *task, struct rv_err *err) {
    unsigned most = j->p->in_order ? 1 : j->t->config.workers;
    if (most > WORKERS_MAX) most = WORKERS_MAX;
    if (most > j->n) most = (unsigned)j->n;
    j->window = most + AHEAD;
    for (unsigned i = 0; i < most; i++) {
        struct task *k = &task[i];
        k->w = rv_timeline_worker(j->t, i, err);
        if (!k->w) return i ? (int)i : err->code;
        k->j = j;
        k->w->poll = on_poll;
        k->w->ctx = k;
        int failed = pthread_create(&k->thread, NULL, work, k);
        /* Fewer threads only take longer. */
        if (failed && !i) return rv_fail(err, RV_E_HOST, "cannot start a thread");
        if (failed) return (int)i;
    }
    return (int)most;
}

static int run_job(struct job *j, struct rv_pass_result *result, struct rv_err *err) {
    struct task *task = rv_alloc(WORKERS_MAX * sizeof *task);
    bool (*poll)(void *, rv_icount) = j->t->worker[0]->poll;
    void *ctx = j->t->worker[0]->ctx;
    int started = start(j, task, err), r = started;
    if (started > 0) {
        r = merge_all(j, task, (unsigned)started, result, err);
        cancel(j);
        for (int i = 0; i < started; i++) {
            pthread_join(task[i].thread, NULL);
            struct rv_engine *e = rv_machine_engine(rv_worker_machine(task[i].w));
            if (j->p->count) e->ops->count(e, false);
        }
    }
    for (size_t i = 0; i < j->n; i++) {
        bool dropped = j->piece[i].phase != WAITING && i >= j->merged;
        if (dropped && j->piece[i].state && j->p->drop) j->p->drop(j->p->ctx, j->piece[i].state);
    }
    j->t->worker[0]->poll = poll;
    j->t->worker[0]->ctx = ctx;
    free(task);
    return r;
}

/* Back to where the user stood, come what may. */
static int go_back(struct rv_timeline *t, struct rv_err *err) {
    struct rv_arrival unused;
    bool (*poll)(void *, rv_icount) = t->worker[0]->poll;
    t->lost = true;
    t->worker[0]->poll = NULL;
    int r = rv_timeline_seek(t, t->now, &unused, err);
    t->worker[0]->poll = poll;
    return r;
}

int rv_pass_run(struct rv_timeline *t, const struct rv_pass *pass, struct rv_pass_result *result,
                struct rv_err *err) {
    struct rv_err local = {0};
    struct rv_stretch *stretch;
    *result = (struct rv_pass_result){.merged = pass->from};
    if (rv_timeline_branched(t))
        return rv_fail(err, RV_E_USAGE, "history is looked at outside a branch; end it first");
    if (pass->count && !rv_machine_engine(rv_timeline_machine(t))->ops->count)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "engine %s cannot count by code; take --engine interpret",
                       rv_machine_engine(rv_timeline_machine(t))->ops->name);
    rv_icount to = pass->to < t->h->end ? pass->to : t->h->end;
    if (pass->from >= pass->to || pass->from > t->h->end) {
        result->merged = to;
        return 0;
    }
    struct job j = {.t = t, .p = pass};
    j.n = rv_stretch_cut(t, pass->sought, pass->n, pass->whole, pass->from, pass->to, &stretch);
    j.piece = rv_alloc((j.n + 1) * sizeof *j.piece);
    for (size_t i = 0; i < j.n; i++) {
        j.piece[i].x = stretch[i];
        j.total += rv_stretch_length(t, &stretch[i]);
    }
    free(stretch);
    j.point = rv_alloc((pass->n + 1) * sizeof *j.point);
    for (size_t i = 0; i < pass->n; i++) j.point[i] = pass->sought[i].watch;
    pthread_mutex_init(&j.lock, NULL);
    pthread_cond_init(&j.moved, NULL);
    int r = run_job(&j, result, &local);
    if (!j.n || result->merged > to) result->merged = to;
    pthread_cond_destroy(&j.moved);
    pthread_mutex_destroy(&j.lock);
    free(j.point);
    free(j.piece);
    int back = go_back(t, r ? NULL : &local);
    if (!r) r = back;
    if (r && err) *err = local;
    return r;
}
