/* A parallel pass against a straight replay: the same hits, once each, in the same order. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "replay/pass.h"
#include "ticking.h"
#include "vmm/base/buf.h"

TestSuite(pass, .init = ticking_record, .fini = ticking_remove);

struct hits {
    struct rv_watch_hit *v;
    size_t n, room;
};

static void add(struct hits *h, const struct rv_watch_hit *hit) {
    if (h->n == h->room) {
        h->room = h->room ? 2 * h->room : 1024;
        h->v = rv_realloc(h->v, h->room * sizeof *h->v);
    }
    h->v[h->n++] = *hit;
}

static bool straight_hit(void *ctx, const struct rv_watch_hit *hit) {
    add(ctx, hit);
    return false;
}

static const struct rv_sought points[] = {
    {{.addr = HANDLER, .len = 1, .access = RV_WATCH_EXEC}, RV_ANYWHERE},
    {{.addr = INC, .len = 1, .access = RV_WATCH_EXEC}, RV_ANYWHERE},
    {{.addr = 0x704, .len = 1, .access = RV_WATCH_READ | RV_WATCH_WRITE}, RV_ANYWHERE},
    {{.addr = 0x6f00, .len = 0x100, .access = RV_WATCH_WRITE}, RV_ANYWHERE}, /* the stack */
};

static struct hits straight(void) {
    struct hits h = {0};
    struct rv_replay *r;
    struct rv_err err = {0};
    struct rv_end e;
    struct rv_replay_config rc = {.path = ticking_path, .player = {.target = RV_NEVER}};
    cr_assert_eq(rv_replay_begin(&r, &rc, NULL, NULL, &err), 0, "%s", err.msg);
    struct rv_watchpoint p[RV_COUNT(points)];
    for (size_t i = 0; i < RV_COUNT(p); i++) p[i] = points[i].watch;
    struct rv_watch w = {.point = p, .n = RV_COUNT(p), .hit = straight_hit, .ctx = &h};
    rv_machine_watch(rv_replay_machine(r), &w);
    cr_assert_eq(rv_replay_run(r, &e, &err), 0, "%s", err.msg);
    rv_replay_free(r);
    cr_assert_gt(h.n, 1000);
    return h;
}

/* A timeline with checkpoints in memory all over, so that there are pieces enough. */
static struct rv_timeline *opened(unsigned workers) {
    struct rv_timeline *t;
    struct rv_err err = {0};
    char note[600];
    struct rv_arrival a;
    struct rv_timeline_config c = {.replay = {.path = ticking_path},
                                   .memory = 64 << 20,
                                   .workers = workers,
                                   .use_index = true};
    cr_assert_eq(rv_timeline_open(&t, &c, note, sizeof note, &err), 0, "%s", err.msg);
    for (unsigned i = 1; i < 10; i++) {
        struct rv_moment to = {rv_timeline_end(t).icount * i / 10, 0};
        cr_assert_eq(rv_timeline_seek(t, to, &a, &err), 0, "%s", err.msg);
    }
    cr_assert_gt(rv_timeline_stats(t).kept, 8);
    return t;
}

/* What a pass gathered, and whether it was called as promised. */
struct gathered {
    struct hits all;
    rv_icount at;  /* where the last merged piece ended */
    rv_icount end; /* of the recording */
    unsigned pieces, begun, ended, dropped, enough_after, fail_after;
    rv_icount progress;
};

struct state {
    struct hits hits;
    rv_icount from, at;
};

static int begin(void *ctx, void **state, struct rv_machine *m, const struct rv_piece *piece,
                 struct rv_err *err) {
    struct gathered *g = ctx;
    (void)err;
    __atomic_fetch_add(&g->begun, 1, __ATOMIC_SEQ_CST);
    cr_assert_eq(rv_machine_now(m).icount, piece->from);
    struct state *s = rv_alloc(sizeof *s);
    s->from = piece->from;
    *state = s;
    return 0;
}

static bool hit(void *ctx, void *state, struct rv_machine *m, const struct rv_watch_hit *h) {
    struct state *s = state;
    (void)ctx;
    if (h->access == RV_WATCH_EXEC) {
        struct rv_x86 x;
        rv_machine_engine(m)->ops->get(rv_machine_engine(m), &x);
        cr_assert_eq(x.rip, h->rip);
        cr_assert_eq(x.icount, h->before.icount);
    }
    add(&s->hits, h);
    return false;
}

static int end(void *ctx, void *state, struct rv_machine *m, struct rv_err *err) {
    struct gathered *g = ctx;
    (void)err;
    ((struct state *)state)->at = rv_machine_now(m).icount;
    unsigned n = __atomic_add_fetch(&g->ended, 1, __ATOMIC_SEQ_CST);
    if (g->fail_after && n == g->fail_after) return rv_fail(err, RV_E_HOST, "no more");
    return 0;
}

static void drop(void *ctx, void *state) {
    struct state *s = state;
    ((struct gathered *)ctx)->dropped++;
    free(s->hits.v);
    free(s);
}

static int merge(void *ctx, void *state, const struct rv_piece *piece, struct rv_err *err) {
    struct gathered *g = ctx;
    struct state *s = state;
    (void)err;
    cr_assert_eq(s->from, piece->from);
    cr_assert_geq(s->from, g->at);
    cr_assert(s->at == piece->to || (piece->to > s->at && s->at == g->end));
    g->at = s->at;
    for (size_t i = 0; i < s->hits.n; i++) add(&g->all, &s->hits.v[i]);
    free(s->hits.v);
    free(s);
    return ++g->pieces == g->enough_after;
}

static bool progress(void *ctx, rv_icount done, rv_icount total) {
    struct gathered *g = ctx;
    cr_assert_leq(done, total);
    cr_assert_geq(done, g->progress);
    g->progress = done;
    return false;
}

static struct rv_pass pass_of(struct rv_timeline *t, struct gathered *g) {
    g->end = rv_timeline_end(t).icount;
    return (struct rv_pass){.to = RV_NEVER,
                            .sought = points,
                            .n = RV_COUNT(points),
                            .begin = begin,
                            .hit = hit,
                            .end = end,
                            .merge = merge,
                            .drop = drop,
                            .progress = progress,
                            .ctx = g};
}

static bool same(const struct rv_watch_hit *a, const struct rv_watch_hit *b) {
    return a->access == b->access && a->gva == b->gva && a->gpa == b->gpa && a->size == b->size &&
           a->rip == b->rip && rv_moment_same(a->before, b->before) &&
           rv_moment_same(a->after, b->after);
}

/* Those hits of the straight replay that begin in [from, to) */
static void compare(const struct hits *want, const struct hits *got, rv_icount from, rv_icount to) {
    size_t k = 0;
    for (size_t i = 0; i < want->n; i++) {
        if (want->v[i].before.icount < from || want->v[i].before.icount >= to) continue;
        cr_assert_lt(k, got->n, "hit %zu is missing", i);
        cr_assert(same(&want->v[i], &got->v[k]), "hit %zu: at %llu instead of %llu", i,
                  (unsigned long long)got->v[k].before.icount,
                  (unsigned long long)want->v[i].before.icount);
        k++;
    }
    cr_assert_eq(k, got->n);
}

static void whole(unsigned workers, bool in_order) {
    struct hits want = straight();
    struct rv_timeline *t = opened(workers);
    struct rv_moment was = rv_timeline_now(t);
    struct rv_pass_result result;
    struct rv_err err = {0};
    for (unsigned round = 0; round < 2; round++) {
        struct gathered g = {0};
        struct rv_pass p = pass_of(t, &g);
        p.in_order = in_order;
        cr_assert_eq(rv_pass_run(t, &p, &result, &err), 0, "%s", err.msg);
        cr_assert_eq(result.outcome, RV_PASS_WHOLE);
        cr_assert_eq(result.merged, rv_timeline_end(t).icount);
        cr_assert_gt(g.pieces, 8);
        cr_assert_eq(g.begun, g.pieces);
        cr_assert_eq(g.ended, g.pieces);
        cr_assert_eq(g.dropped, 0);
        cr_assert_eq(g.at, rv_timeline_end(t).icount);
        compare(&want, &g.all, 0, RV_NEVER);
        free(g.all.v);
        cr_assert(rv_moment_same(rv_timeline_now(t), was));
        cr_assert_eq(rv_machine_now(rv_timeline_machine(t)).icount, was.icount);
    }
    rv_timeline_free(t);
    free(want.v);
}

Test(pass, all_hits_of_a_straight_replay_in_order) { whole(4, false); }
Test(pass, likewise_with_one_worker) { whole(1, false); }
Test(pass, likewise_where_order_is_asked_for) { whole(3, true); }

Test(pass, ranges) {
    struct hits want = straight();
    struct rv_timeline *t = opened(3);
    rv_icount last = rv_timeline_end(t).icount;
    uint64_t seed = 5;
    for (unsigned n = 0; n < TURNS(40); n++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        rv_icount from = (seed >> 20) % (last + 1);
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        rv_icount to = n % 5 ? (seed >> 20) % (last + last / 4) : from + (n % 3);
        struct gathered g = {0};
        struct rv_pass p = pass_of(t, &g);
        struct rv_pass_result result;
        struct rv_err err = {0};
        p.from = from;
        p.to = to;
        cr_assert_eq(rv_pass_run(t, &p, &result, &err), 0, "%s", err.msg);
        cr_assert_eq(result.outcome, RV_PASS_WHOLE);
        cr_assert_eq(result.merged, to < last ? to : last);
        if (from < to)
            compare(&want, &g.all, from, to);
        else
            cr_assert_eq(g.all.n, 0);
        free(g.all.v);
    }
    rv_timeline_free(t);
    free(want.v);
}

Test(pass, epochs_without_what_is_sought_are_not_run) {
    struct rv_timeline *t = opened(2);
    struct rv_sought nowhere = {{.addr = 0x300000, .len = 8, .access = RV_WATCH_WRITE}, 0x300};
    struct rv_pass_result result;
    struct rv_err err = {0};
    struct gathered g = {0};
    struct rv_pass p = pass_of(t, &g);
    p.sought = &nowhere;
    p.n = 1;
    cr_assert_eq(rv_pass_run(t, &p, &result, &err), 0, "%s", err.msg);
    cr_assert_eq(g.pieces, 0);
    cr_assert_eq(result.merged, rv_timeline_end(t).icount);
    p.whole = true;
    cr_assert_eq(rv_pass_run(t, &p, &result, &err), 0, "%s", err.msg);
    cr_assert_gt(g.pieces, 8);
    cr_assert_eq(g.at, rv_timeline_end(t).icount);
    cr_assert_eq(g.all.n, 0);
    rv_timeline_free(t);
}

Test(pass, enough_is_enough) {
    struct hits want = straight();
    struct rv_timeline *t = opened(3);
    struct rv_pass_result result;
    struct rv_err err = {0};
    struct gathered g = {.enough_after = 3};
    struct rv_pass p = pass_of(t, &g);
    cr_assert_eq(rv_pass_run(t, &p, &result, &err), 0, "%s", err.msg);
    cr_assert_eq(result.outcome, RV_PASS_ENOUGH);
    cr_assert_eq(g.pieces, 3);
    cr_assert_eq(result.merged, g.at);
    compare(&want, &g.all, 0, result.merged);
    cr_assert_eq(g.begun, g.pieces + g.dropped);
    free(g.all.v);
    rv_timeline_free(t);
    free(want.v);
}

static bool stop_half_way(void *ctx, rv_icount done, rv_icount total) {
    (void)ctx;
    return done > total / 2;
}

Test(pass, an_interruption_keeps_what_was_merged) {
    struct hits want = straight();
    struct rv_timeline *t = opened(2);
    struct rv_moment was = rv_timeline_now(t);
    struct rv_pass_result result;
    struct rv_err err = {0};
    struct gathered g = {0};
    struct rv_pass p = pass_of(t, &g);
    p.progress = stop_half_way;
    cr_assert_eq(rv_pass_run(t, &p, &result, &err), 0, "%s", err.msg);
    cr_assert_eq(result.outcome, RV_PASS_INTERRUPTED);
    cr_assert_gt(result.merged, 0);
    cr_assert_lt(result.merged, rv_timeline_end(t).icount);
    compare(&want, &g.all, 0, result.merged);
    cr_assert_eq(g.begun, g.pieces + g.dropped);
    cr_assert(rv_moment_same(rv_timeline_now(t), was));
    free(g.all.v);
    rv_timeline_free(t);
    free(want.v);
}

Test(pass, a_failure_is_handed_on) {
    struct hits want = straight();
    struct rv_timeline *t = opened(2);
    struct rv_pass_result result;
    struct rv_err err = {0};
    struct gathered g = {.fail_after = 4};
    struct rv_pass p = pass_of(t, &g);
    cr_assert_eq(rv_pass_run(t, &p, &result, &err), RV_E_HOST);
    cr_assert_str_eq(err.msg, "no more");
    compare(&want, &g.all, 0, result.merged);
    cr_assert_eq(g.begun, g.pieces + g.dropped);
    free(g.all.v);
    rv_timeline_free(t);
    free(want.v);
}

Test(pass, not_in_a_branch) {
    struct rv_timeline *t = opened(1);
    struct rv_pass_result result;
    struct rv_err err = {0};
    struct gathered g = {0};
    struct rv_pass p = pass_of(t, &g);
    cr_assert_eq(rv_timeline_branch(t, NULL, &err), 0);
    cr_assert_eq(rv_pass_run(t, &p, &result, &err), RV_E_USAGE);
    rv_timeline_free(t);
}
