/* When the host kicks a machine that does not come back by itself: never early, within bounds once
 * nothing else served a timer, once each. Nothing here depends on a host that is quick. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "vmm/host/live.h"
#include "vmm/host/waker.h"

#define MS 1000000ull

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * RV_NSEC + (uint64_t)t.tv_nsec;
}

static void rest(uint64_t ns) {
    struct timespec t = {.tv_sec = (time_t)(ns / RV_NSEC), .tv_nsec = (long)(ns % RV_NSEC)};
    nanosleep(&t, NULL);
}

struct kicks {
    atomic_uint count;
    atomic_ullong last; /* ns */
};

static void kick(void *ctx) {
    struct kicks *k = ctx;
    atomic_store(&k->last, now());
    atomic_fetch_add(&k->count, 1);
}

static void wait_for(struct kicks *k, unsigned count) {
    uint64_t end = now() + 20 * RV_NSEC;
    while (atomic_load(&k->count) < count) {
        cr_assert_lt(now(), end, "no kick");
        rest(MS / 10);
    }
}

static struct rv_waker *waker(struct kicks *k) {
    struct rv_waker *w;
    struct rv_err err = {0};
    cr_assert_eq(rv_waker_new(&w, kick, k, &err), 0);
    return w;
}

Test(waker, moment) {
    struct kicks k = {0};
    struct rv_waker *w = waker(&k);
    for (unsigned n = 1; n <= 20; n++) {
        uint64_t at = now() + n * MS / 2;
        rv_waker_set(w, at, -1);
        wait_for(&k, n);
        cr_assert_geq(atomic_load(&k.last), at);
    }
    rest(20 * MS);
    cr_assert_eq(atomic_load(&k.count), 20);
    rv_waker_free(w);
}

Test(waker, moved_on_stopped_and_moved_back) {
    struct kicks k = {0};
    struct rv_waker *w = waker(&k);
    for (unsigned n = 0; n < 50; n++) {
        rv_waker_set(w, now() + RV_NSEC, -1);
        rest(MS);
    }
    rv_waker_set(w, RV_NEVER, -1);
    rest(1100 * MS);
    cr_assert_eq(atomic_load(&k.count), 0);
    /* The thread sleeps until a later moment, or for ever. */
    uint64_t at = now() + 5 * RV_NSEC;
    rv_waker_set(w, at, -1);
    rest(5 * MS);
    rv_waker_set(w, now() + 5 * MS, -1);
    wait_for(&k, 1);
    cr_assert_lt(atomic_load(&k.last), at);
    rv_waker_set(w, RV_NEVER, -1);
    rest(5 * MS);
    at = now() + 5 * MS;
    rv_waker_set(w, at, -1);
    wait_for(&k, 2);
    cr_assert_geq(atomic_load(&k.last), at);
    rv_waker_free(w);
}

Test(waker, input) {
    struct kicks k = {0};
    struct rv_waker *w = waker(&k);
    int fd[2];
    cr_assert_eq(pipe(fd), 0);
    rv_waker_set(w, RV_NEVER, fd[0]);
    rest(5 * MS);
    cr_assert_eq(write(fd[1], "x", 1), 1);
    wait_for(&k, 1);
    rv_waker_set(w, RV_NEVER, fd[0]);
    wait_for(&k, 2);
    /* Input that nobody wants, and then somebody does. */
    rv_waker_set(w, RV_NEVER, -1);
    rest(20 * MS);
    cr_assert_eq(atomic_load(&k.count), 2);
    rv_waker_set(w, RV_NEVER, fd[0]);
    wait_for(&k, 3);
    rv_waker_free(w);
    close(fd[0]);
    close(fd[1]);
}

struct host {
    struct kicks k;
    struct rv_live *live;
    uint64_t began;
};

static void start(struct host *h) {
    struct rv_err err = {0};
    struct rv_live_config config = {
        .input_fd = -1, .output_fd = -1, .debugcon_fd = -1, .host_time = true};
    *h = (struct host){.began = now()};
    config.max_icount = RV_NEVER;
    cr_assert_eq(rv_live_new(&h->live, &config, &err), 0);
    cr_assert_eq(rv_live_kick_with(h->live, kick, &h->k, &err), 0);
}

/* Runs a guest whose timer is due in a while and that never leaves the CPU. Returns how much later
 * than that it was kicked, at most. */
static uint64_t lateness(struct host *h, uint64_t in) {
    struct rv_err err = {0};
    struct rv_nondet *nd = rv_live_nondet(h->live);
    unsigned before = atomic_load(&h->k.count);
    struct rv_horizon horizon = {.deadline = now() - h->began + in};
    cr_assert_eq(nd->ops->horizon(nd, (struct rv_point){0}, &horizon, &err), 0);
    uint64_t due = h->began + horizon.deadline;
    wait_for(&h->k, before + 1);
    uint64_t at = atomic_load(&h->k.last);
    cr_assert_geq(at, due);
    return at - due;
}

static void landmark(struct host *h) {
    struct rv_err err = {0};
    struct rv_nondet *nd = rv_live_nondet(h->live);
    struct rv_landmark here = {0};
    struct rv_next q = {.deadline = RV_NEVER, .landmark = &here};
    struct rv_push p;
    cr_assert_eq(nd->ops->next(nd, &q, &p, &err), 0);
}

Test(live, waits_longer_for_a_trap_where_kicks_cost_more) {
    struct host h;
    start(&h);
    uint64_t least = UINT64_MAX;
    for (unsigned n = 0; n < 20; n++) {
        uint64_t late = lateness(&h, MS);
        if (late < least) least = late;
    }
    cr_assert_lt(least, 9 * MS, "%llu ns", (unsigned long long)least);
    for (unsigned n = 0; n < 40; n++) {
        lateness(&h, MS);
        rest(20 * MS);
        landmark(&h);
    }
    /* Dear kicks: all come late, but not ever later. */
    least = UINT64_MAX;
    for (unsigned n = 0; n < 20; n++) {
        uint64_t late = lateness(&h, MS);
        cr_assert_geq(late, 9 * MS);
        if (late < least) least = late;
    }
    cr_assert_lt(least, 200 * MS, "%llu ns", (unsigned long long)least);
    rv_live_free(h.live);
}
