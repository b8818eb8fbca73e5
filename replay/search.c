/* Looking for hits in many epochs at once.
 *
 * The history before or after now is cut into stretches, one from each checkpoint to the next. Of a
 * stretch only the part from the first to the last epoch that can hold a hit is watched, and a
 * stretch without such an epoch is passed over. Workers take stretches in the order in which they
 * come along; what counts is the hit in the first stretch that has one, so that later stretches are
 * given up as soon as an earlier one has. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "replay/stretch.h"
#include "vmm/base/buf.h"

/* Starting threads is not worth it for fewer instructions. */
#define ALONE (16u << 20)

struct job {
    struct rv_timeline *t;
    const struct rv_search *s;
    struct rv_watchpoint *point;
    bool forward;
    struct rv_stretch *stretch;
    size_t n;
    atomic_size_t next; /* to be taken */
    atomic_size_t best; /* the first stretch known to hold a hit; n: none */
    atomic_bool cancel; /* the user said stop, or a worker failed */
    bool here_lost;     /* worker 0 does not stand at now */
    bool interrupted;
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t done;
    unsigned running;
    struct rv_watch_hit hit; /* in `best` */
    struct rv_err err;
};

/* One worker on one stretch. */
struct task {
    struct job *j;
    struct rv_worker *w;
    size_t i;                /* the stretch */
    struct rv_watch_hit hit; /* the one that counts so far, when there is any */
    unsigned number;         /* of the worker; 0 runs on the caller's thread and asks the user */
    bool any;
};

/* ---- which stretches ---- */

/* The rest of now's own stretch is run from now itself; those behind it start afresh. */
static void cut_forward(struct job *j) {
    j->n =
        rv_stretch_cut(j->t, j->s->sought, j->s->n, false, j->t->now.icount, RV_NEVER, &j->stretch);
}

static void cut_backward(struct job *j) {
    struct rv_moment now = j->t->now;
    rv_icount to = rv_timeline_at_end(j->t) ? RV_NEVER : now.icount + (now.delivered != 0);
    j->n = rv_stretch_cut(j->t, j->s->sought, j->s->n, false, 0, to, &j->stretch);
    for (size_t i = 0; i < j->n / 2; i++) {
        struct rv_stretch x = j->stretch[i];
        j->stretch[i] = j->stretch[j->n - 1 - i];
        j->stretch[j->n - 1 - i] = x;
    }
}

/* ---- one stretch ---- */

static bool on_hit(void *ctx, const struct rv_watch_hit *hit) {
    struct task *k = ctx;
    struct job *j = k->j;
    struct rv_moment now = j->t->now;
    if (!j->forward) {
        if (!rv_moment_before(hit->before, now)) return true;
    } else if (rv_moment_before(hit->before, now) ||
               (hit->access == RV_WATCH_EXEC && rv_moment_same(hit->before, now))) {
        return false;
    }
    if (j->s->accept && !j->s->accept(j->s->ctx, rv_worker_machine(k->w), hit)) return false;
    k->any = true;
    k->hit = *hit;
    return j->forward;
}

static bool on_poll(void *ctx, rv_icount at) {
    struct task *k = ctx;
    struct job *j = k->j;
    const struct rv_timeline_config *c = &j->t->config;
    (void)at;
    if (k->number == 0 && c->interrupted && c->interrupted(c->ctx)) {
        j->interrupted = true;
        atomic_store(&j->cancel, true);
    }
    return atomic_load(&j->cancel) || atomic_load(&j->best) < k->i;
}

static int search(struct task *k, bool from_now, struct rv_err *err) {
    struct job *j = k->j;
    const struct rv_stretch *x = &j->stretch[k->i];
    int r = rv_stretch_reach(k->w, j->t->h, x, from_now, err);
    if (r != RV_STOP_TARGET) return r < 0 ? r : 0;
    struct rv_watch w = {.point = j->point, .n = j->s->n, .hit = on_hit, .ctx = k};
    r = rv_stretch_watch(k->w, x, &w, err);
    return r < 0 ? r : 0;
}

/* A stretch was searched: r is how that went. */
static void settle(struct task *k, int r, const struct rv_err *err) {
    struct job *j = k->j;
    /* Given up half way: what was met may not be what counts. */
    bool whole = !atomic_load(&k->w->stop);
    pthread_mutex_lock(&j->lock);
    if (r) {
        if (!j->err.code) j->err = *err;
        atomic_store(&j->cancel, true);
    } else if (k->any && whole && k->i < atomic_load(&j->best)) {
        atomic_store(&j->best, k->i);
        j->hit = k->hit;
    }
    pthread_mutex_unlock(&j->lock);
}

/* Takes the next stretch and searches it; false when there is none left to search. */
static bool take(struct task *k, bool from_now) {
    struct job *j = k->j;
    if (atomic_load(&j->cancel)) return false;
    k->i = atomic_fetch_add(&j->next, 1);
    if (k->i >= j->n || k->i > atomic_load(&j->best)) return false;
    k->any = false;
    atomic_store(&k->w->stop, 0);
    struct rv_err err = {0};
    settle(k, search(k, from_now, &err), &err);
    return true;
}

static void work(struct task *k) {
    while (take(k, false)) continue;
}

static void *thread(void *ctx) {
    struct task *k = ctx;
    work(k);
    pthread_mutex_lock(&k->j->lock);
    k->j->running--;
    pthread_cond_signal(&k->j->done);
    pthread_mutex_unlock(&k->j->lock);
    return NULL;
}

/* ---- all of them ---- */

/* The caller's thread waits for the others, and goes on asking the user. */
static void wait_for_others(struct job *j, struct task *mine) {
    pthread_mutex_lock(&j->lock);
    while (j->running) {
        rv_stretch_wait(&j->done, &j->lock);
        pthread_mutex_unlock(&j->lock);
        on_poll(mine, 0);
        pthread_mutex_lock(&j->lock);
    }
    pthread_mutex_unlock(&j->lock);
}

static int run_all(struct job *j, struct task *mine, struct rv_err *err) {
    unsigned threads = 0, most = j->t->config.workers;
    pthread_t id[64];
    struct task task[64];
    if (most > RV_COUNT(id)) most = RV_COUNT(id);
    size_t first = atomic_load(&j->next);
    if (j->n - first < most) most = (unsigned)(j->n - first);
    for (unsigned i = 1; i < most; i++) {
        struct rv_worker *w = rv_timeline_worker(j->t, i, err);
        if (!w) return err->code;
        task[i] = (struct task){.j = j, .w = w, .number = i};
        w->poll = on_poll;
        w->ctx = &task[i];
        pthread_mutex_lock(&j->lock);
        bool started = pthread_create(&id[threads], NULL, thread, &task[i]) == 0;
        if (started) j->running++;
        pthread_mutex_unlock(&j->lock);
        /* Fewer threads only take longer. */
        if (!started) break;
        threads++;
    }
    work(mine);
    wait_for_others(j, mine);
    for (unsigned i = 0; i < threads; i++) pthread_join(id[i], NULL);
    return 0;
}

static int run_job(struct job *j, struct rv_found *found, struct rv_err *err) {
    struct rv_worker *w = j->t->worker[0];
    struct task mine = {.j = j, .w = w};
    bool (*poll)(void *, rv_icount) = w->poll;
    void *ctx = w->ctx;
    w->poll = on_poll;
    w->ctx = &mine;
    int r = 0;
    /* What is sought is often near: the first stretches are tried alone, from here if possible. */
    bool here = j->forward && j->n && j->stretch[0].from == j->t->now.icount && !j->here_lost;
    rv_icount alone = 0;
    for (size_t i = 0; i < j->n && (alone < ALONE || i == 0); i++) {
        if (atomic_load(&j->best) < j->n || !take(&mine, here && i == 0)) break;
        alone += rv_stretch_length(j->t, &j->stretch[i]);
    }
    if (atomic_load(&j->best) == j->n && !atomic_load(&j->cancel)) r = run_all(j, &mine, err);
    w->poll = poll;
    w->ctx = ctx;
    if (j->err.code) {
        if (err) *err = j->err;
        return j->err.code;
    }
    found->interrupted = j->interrupted;
    found->hit = atomic_load(&j->best) < j->n;
    found->best = j->hit;
    found->arrived = here && atomic_load(&j->best) == 0;
    return r;
}

int rv_search_epochs(struct rv_timeline *t, const struct rv_search *s, bool forward, bool lost,
                     struct rv_found *found, struct rv_err *err) {
    struct job j = {.t = t, .s = s, .forward = forward, .here_lost = lost};
    *found = (struct rv_found){0};
    pthread_mutex_init(&j.lock, NULL);
    pthread_cond_init(&j.done, NULL);
    j.point = rv_alloc(s->n * sizeof *j.point);
    for (size_t i = 0; i < s->n; i++) j.point[i] = s->sought[i].watch;
    if (forward)
        cut_forward(&j);
    else
        cut_backward(&j);
    atomic_store(&j.best, j.n);
    int r = run_job(&j, found, err);
    free(j.point);
    free(j.stretch);
    pthread_cond_destroy(&j.done);
    pthread_mutex_destroy(&j.lock);
    return r;
}
