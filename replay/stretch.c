#include "replay/stretch.h"

#include <stdlib.h>
#include <time.h>

#include "vmm/base/buf.h"

#define WAIT_NS 10000000

/* ---- which epochs ---- */

static bool may_hold(const struct rv_sought *sought, size_t n, const struct rv_epoch *e) {
    for (size_t k = 0; k < n; k++) {
        const struct rv_sought *p = &sought[k];
        if (p->watch.access == RV_WATCH_EXEC && !p->watch.physical) {
            if (rv_line_set_meets(&e->lines, p->watch.addr, p->watch.len)) return true;
            continue;
        }
        if (p->page == RV_ANYWHERE || (p->watch.access & (RV_WATCH_READ | RV_WATCH_DELIVER |
                                                          RV_WATCH_CALL | RV_WATCH_RETURN)))
            return true;
        if ((p->watch.access & RV_WATCH_WRITE) && rv_page_set_has(&e->written, p->page))
            return true;
        if ((p->watch.access & RV_WATCH_EXEC) && rv_page_set_has(&e->executed, p->page))
            return true;
    }
    return false;
}

/* Narrows a stretch to the epochs that can hold a hit; false when there is none. */
static bool narrow(struct rv_timeline *t, const struct rv_sought *sought, size_t n, bool whole,
                   struct rv_stretch *x) {
    const struct rv_history *h = t->h;
    bool any = false;
    for (size_t e = rv_history_epoch(h, x->from); e < h->epochs && h->epoch[e].from < x->to; e++) {
        if (!whole && !may_hold(sought, n, &h->epoch[e])) {
            t->stats.epochs_skipped++;
            continue;
        }
        t->stats.epochs_due++;
        rv_icount to = e + 1 < h->epochs ? h->epoch[e + 1].from : RV_NEVER;
        if (!any) x->need = h->epoch[e].from > x->from ? h->epoch[e].from : x->from;
        x->last = to < x->to ? to : x->to;
        any = true;
    }
    return any;
}

size_t rv_stretch_cut(struct rv_timeline *t, const struct rv_sought *sought, size_t n, bool whole,
                      rv_icount from, rv_icount to, struct rv_stretch **out) {
    const struct rv_history *h = t->h;
    size_t first = rv_history_before(h, from), count = 0;
    *out = rv_alloc((h->checkpoints - first) * sizeof **out);
    for (size_t i = first; i < h->checkpoints && h->checkpoint[i].at < to; i++) {
        rv_icount at = h->checkpoint[i].at;
        rv_icount next = i + 1 < h->checkpoints ? h->checkpoint[i + 1].at : RV_NEVER;
        struct rv_stretch x = {
            .checkpoint = i, .from = at > from ? at : from, .to = next < to ? next : to};
        if (x.from < x.to && narrow(t, sought, n, whole, &x)) (*out)[count++] = x;
    }
    return count;
}

rv_icount rv_stretch_length(const struct rv_timeline *t, const struct rv_stretch *x) {
    rv_icount last = x->last < t->h->end ? x->last : t->h->end;
    rv_icount start = t->h->checkpoint[x->checkpoint].at;
    return last > start ? last - start : 0;
}

/* ---- one stretch ---- */

int rv_stretch_reach(struct rv_worker *w, const struct rv_history *h, const struct rv_stretch *x,
                     bool here, struct rv_err *err) {
    int r = here ? 0 : rv_worker_restore(w, h, x->checkpoint, err);
    if (r) return r;
    if (rv_machine_now(rv_worker_machine(w)).icount >= x->need) return RV_STOP_TARGET;
    return rv_worker_run(w, x->need, err);
}

int rv_stretch_watch(struct rv_worker *w, const struct rv_stretch *x, const struct rv_watch *watch,
                     struct rv_err *err) {
    struct rv_machine *m = rv_worker_machine(w);
    rv_machine_watch(m, watch);
    int r = rv_worker_run(w, x->last, err);
    rv_machine_watch(m, NULL);
    return r;
}

void rv_stretch_wait(pthread_cond_t *cond, pthread_mutex_t *lock) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(cond, lock, &until);
}
