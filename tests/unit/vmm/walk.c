/* walk TRACE COUNT SEED: COUNT random commands on the timeline of a recording - steps, steps back,
 * seeks, runs and runs back to breakpoints and watchpoints - each state compared with what a single
 * straight replay had at that moment. Exit status 0 when all agree. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replay/timeline.h"
#include "vmm/base/buf.h"

#define PLACES 48 /* positions whose state is known in full */
#define NEAR   12 /* moments behind each whose registers are known */
#define POINTS 6  /* things searched for: EXEC, then WRITE */

struct place {
    rv_icount at;
    uint64_t cpu, ram; /* digests */
    struct {
        struct rv_moment at;
        uint64_t registers, rip, rsp;
    } next[NEAR];
};

static struct place places[PLACES];
static struct rv_watchpoint points[POINTS];
static struct {
    struct rv_watch_hit *v;
    size_t n, room;
} hits[POINTS];

static uint64_t seed;
static uint64_t rnd(uint64_t n) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 20) % n;
}

static void die(const char *what, const struct rv_err *err) {
    fprintf(stderr, "%s: %s\n", what, err->msg);
    exit(1);
}

static uint64_t registers(struct rv_machine *m, struct rv_x86 *x) {
    rv_machine_engine(m)->ops->get(rv_machine_engine(m), x);
    return rv_x86_hash(x, 0);
}

/* ---- the straight replay ---- */

struct straight {
    struct rv_machine *m;
    size_t place, near;
};

static bool on_moment(void *ctx, const struct rv_watch_hit *hit) {
    struct straight *s = ctx;
    struct rv_x86 x;
    struct place *p = &places[s->place];
    p->next[s->near].at = hit->before;
    p->next[s->near].registers = registers(s->m, &x);
    p->next[s->near].rip = x.rip;
    p->next[s->near].rsp = x.gpr[RV_RSP];
    return ++s->near == NEAR;
}

static bool on_hit(void *ctx, const struct rv_watch_hit *hit) {
    (void)ctx;
    for (unsigned i = 0; i < POINTS; i++) {
        const struct rv_watchpoint *p = &points[i];
        uint64_t at = p->physical ? hit->gpa : hit->gva;
        unsigned size = hit->size ? hit->size : 1;
        if (!(p->access & hit->access) || at >= p->addr + p->len || p->addr >= at + size) continue;
        if (hits[i].n == hits[i].room) {
            hits[i].room = hits[i].room ? 2 * hits[i].room : 1024;
            hits[i].v = rv_realloc(hits[i].v, hits[i].room * sizeof *hits[i].v);
        }
        hits[i].v[hits[i].n++] = *hit;
    }
    return false;
}

static struct rv_replay *begin(const char *path, struct rv_err *err) {
    struct rv_replay *r;
    struct rv_replay_config rc = {.path = path, .player = {.target = RV_NEVER}};
    if (rv_replay_begin(&r, &rc, NULL, NULL, err)) die(path, err);
    return r;
}

static void to(struct rv_replay *r, rv_icount at, struct rv_err *err) {
    struct rv_end end;
    rv_player_set_target(rv_replay_player(r), at);
    if (rv_machine_advance(rv_replay_machine(r), &end, err)) die("straight replay", err);
}

static void learn_places(const char *path) {
    static const struct rv_watchpoint every = {.len = UINT64_MAX, .access = RV_WATCH_EXEC};
    struct rv_err err = {0};
    struct rv_replay *r = begin(path, &err);
    struct straight s = {.m = rv_replay_machine(r)};
    struct rv_watch w = {.point = &every, .n = 1, .hit = on_moment, .ctx = &s};
    for (s.place = 0; s.place < PLACES; s.place++) {
        to(r, places[s.place].at, &err);
        rv_machine_digests(s.m, &places[s.place].cpu, &places[s.place].ram);
        s.near = 0;
        rv_machine_watch(s.m, &w);
        to(r, RV_NEVER, &err);
        rv_machine_watch(s.m, NULL);
    }
    rv_replay_free(r);
}

static void learn_hits(const char *path) {
    struct rv_err err = {0};
    struct rv_replay *r = begin(path, &err);
    struct rv_end end;
    struct rv_watch w = {.point = points, .n = POINTS, .hit = on_hit};
    rv_machine_watch(rv_replay_machine(r), &w);
    if (rv_replay_run(r, &end, &err)) die("straight replay", &err);
    rv_replay_free(r);
}

/* Physical addresses of what the stack pointer points to, and of the page-table entry that says so,
 * at a place that the timeline stands at. */
static bool stack_word(struct rv_timeline *t, uint64_t *word, uint64_t *leaf) {
    struct rv_machine *m = rv_timeline_machine(t);
    struct rv_x86 x;
    registers(m, &x);
    if (!(x.efer & RV_EFER_LMA)) return false;
    uint64_t table = x.cr3 & 0x000ffffffffff000ull, entry = 0, va = x.gpr[RV_RSP] & ~7ull;
    for (unsigned shift = 39;; shift -= 9) {
        *leaf = table + (va >> shift & 511) * 8;
        if (!rv_ram_read(rv_machine_ram(m), *leaf, &entry, 8) || !(entry & 1)) return false;
        table = entry & 0x000ffffffffff000ull;
        if (shift == 12 || (shift < 39 && (entry & 0x80))) {
            *word = (table & ~((1ull << shift) - 1)) | (va & ((1ull << shift) - 1));
            return true;
        }
    }
}

/* ---- the walk ---- */

static struct rv_timeline *t;

static void expect(bool good, const char *what) {
    if (good) return;
    struct rv_moment now = rv_timeline_now(t);
    fprintf(stderr, "%s: wrong at %" PRIu64 ".%u\n", what, now.icount, now.delivered);
    exit(1);
}

static struct rv_arrival seek(struct rv_moment m) {
    struct rv_arrival a;
    struct rv_err err = {0};
    if (rv_timeline_seek(t, m, &a, &err)) die("seek", &err);
    return a;
}

static void check_near(const struct place *p, unsigned i, const char *what) {
    struct rv_x86 x;
    expect(rv_moment_same(rv_timeline_now(t), p->next[i].at) &&
               registers(rv_timeline_machine(t), &x) == p->next[i].registers,
           what);
}

static void visit(void) {
    const struct place *p = &places[rnd(PLACES)];
    uint64_t cpu, ram;
    struct rv_err err = {0};
    struct rv_arrival a;
    seek((struct rv_moment){p->at, 0});
    rv_machine_digests(rv_timeline_machine(t), &cpu, &ram);
    expect(cpu == p->cpu && ram == p->ram, "seek");
    unsigned i = (unsigned)rnd(NEAR);
    seek(p->next[i].at);
    check_near(p, i, "seek to a moment");
    for (unsigned n = 0; n < 6; n++) {
        bool forward = rnd(2);
        if (forward ? i == NEAR - 1 : i == 0) continue;
        if ((forward ? rv_timeline_step : rv_timeline_step_back)(t, &a, &err)) die("step", &err);
        i += forward ? 1u : -1u;
        check_near(p, i, forward ? "step" : "step back");
    }
}

static void search(void) {
    unsigned k = (unsigned)rnd(POINTS);
    bool forward = rnd(2);
    struct rv_err err = {0};
    struct rv_arrival a;
    struct rv_moment from = {rnd(rv_timeline_end(t).icount), 0};
    if (rnd(3) && hits[k].n) {
        /* From a hit itself, the way debugging goes. */
        from = hits[k].v[rnd(hits[k].n)].before;
    }
    seek(from);
    from = rv_timeline_now(t);
    struct rv_sought s = {points[k], RV_ANYWHERE};
    if (points[k].physical) s.page = points[k].addr >> RV_PAGE_SHIFT;
    struct rv_search q = {.sought = &s, .n = 1};
    if ((forward ? rv_timeline_run : rv_timeline_run_back)(t, &q, &a, &err)) die("run", &err);
    /* The first hit from `from` on is number i. */
    size_t i = 0;
    while (i < hits[k].n && rv_moment_before(hits[k].v[i].before, from)) i++;
    bool exec = points[k].access == RV_WATCH_EXEC;
    if (forward && exec && i < hits[k].n && rv_moment_same(hits[k].v[i].before, from)) i++;
    if (forward ? i == hits[k].n : i == 0) {
        expect(a.at == (forward ? RV_AT_END : RV_AT_START), "a run that meets nothing");
        return;
    }
    const struct rv_watch_hit *want = &hits[k].v[forward ? i : i - 1];
    struct rv_moment to = forward ? want->after : want->before;
    char what[200];
    snprintf(what, sizeof what,
             "run %s from %" PRIu64 ".%u for %s at %#" PRIx64 " to %" PRIu64 ".%u (RIP %#" PRIx64
             "; arrival %d, RIP %#" PRIx64 ")",
             forward ? "on" : "back", from.icount, from.delivered, exec ? "execution" : "a write",
             points[k].addr, to.icount, to.delivered, want->rip, (int)a.at, a.hit.rip);
    expect(a.at == RV_AT_HIT && a.hit.rip == want->rip && rv_moment_same(rv_timeline_now(t), to),
           what);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    struct rv_err err = {0};
    char note[600];
    seed = strtoull(argv[3], NULL, 0);
    unsigned count = (unsigned)strtoul(argv[2], NULL, 0);
    struct rv_timeline_config c = {
        .replay = {.path = argv[1]}, .memory = 256 << 20, .workers = 2, .use_index = true};
    if (rv_timeline_open(&t, &c, note, sizeof note, &err)) die(argv[1], &err);
    rv_icount end = rv_timeline_end(t).icount;
    rv_icount part = (end - 2 * NEAR) / PLACES;
    for (unsigned i = 0; i < PLACES; i++) places[i].at = i * part + rnd(part - 2 * NEAR);
    learn_places(argv[1]);
    for (unsigned i = 0; i < POINTS; i++) {
        const struct place *p = &places[PLACES / 3 + rnd(2 * PLACES / 3)];
        points[i] =
            (struct rv_watchpoint){.addr = p->next[0].rip, .len = 1, .access = RV_WATCH_EXEC};
        uint64_t word, leaf;
        seek(p->next[0].at);
        if (i >= POINTS / 2 && stack_word(t, &word, &leaf) && word < RV_RAM_LOW_LIMIT)
            points[i] = (struct rv_watchpoint){
                .addr = i % 2 ? leaf : word, .len = 8, .access = RV_WATCH_WRITE, .physical = true};
    }
    learn_hits(argv[1]);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (unsigned n = 0; n < count; n += 8) (rnd(4) ? visit : search)();
    clock_gettime(CLOCK_MONOTONIC, &b);
    struct rv_timeline_stats s = rv_timeline_stats(t);
    printf("%u commands in %.1f s, no difference; %" PRIu64
           " checkpoints taken up, %zu kept (%" PRIu64 " bytes)\n",
           count, (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9, s.restores,
           s.kept, s.kept_bytes);
    rv_timeline_free(t);
    for (unsigned i = 0; i < POINTS; i++) free(hits[i].v);
    return 0;
}
