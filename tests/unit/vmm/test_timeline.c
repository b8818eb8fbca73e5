/* The timeline against a straight replay: wherever a random walk leads, registers, devices and
 * memory are what a replay from the start has there; and searches find what it met. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay/timeline.h"
#include "ticking.h"
#include "vmm/base/buf.h"

TestSuite(timeline, .init = ticking_record, .fini = ticking_remove);

static struct rv_timeline *opened(bool use_index, uint64_t memory) {
    struct rv_timeline *t;
    struct rv_err err = {0};
    char note[600];
    struct rv_timeline_config c = {
        .replay = {.path = ticking_path}, .memory = memory, .workers = 2, .use_index = use_index};
    cr_assert_eq(rv_timeline_open(&t, &c, note, sizeof note, &err), 0, "%s", err.msg);
    return t;
}

/* ---- the oracle: a straight replay, seen at every moment ---- */

struct seen {
    struct rv_moment at;
    uint64_t rip;
    uint64_t hash; /* of registers */
};

struct oracle {
    struct seen *v;
    size_t n, room;
    struct rv_watch_hit *writes; /* to the tick counter */
    size_t writes_n;
    struct rv_machine *m;
};

static uint64_t registers(struct rv_machine *m) {
    struct rv_x86 x;
    rv_machine_engine(m)->ops->get(rv_machine_engine(m), &x);
    return rv_x86_hash(&x, 0);
}

static bool note(void *ctx, const struct rv_watch_hit *hit) {
    struct oracle *o = ctx;
    if (hit->access == RV_WATCH_WRITE) {
        o->writes = rv_realloc(o->writes, (o->writes_n + 1) * sizeof *o->writes);
        o->writes[o->writes_n++] = *hit;
        return false;
    }
    if (o->n == o->room) {
        o->room = o->room ? 2 * o->room : 4096;
        o->v = rv_realloc(o->v, o->room * sizeof *o->v);
    }
    o->v[o->n++] = (struct seen){hit->before, hit->rip, registers(o->m)};
    return false;
}

static struct oracle straight(void) {
    struct oracle o = {0};
    struct rv_replay *r;
    struct rv_err err = {0};
    struct rv_end e;
    struct rv_replay_config rc = {.path = ticking_path, .player = {.target = RV_NEVER}};
    cr_assert_eq(rv_replay_begin(&r, &rc, NULL, NULL, &err), 0, "%s", err.msg);
    struct rv_watchpoint p[] = {{.len = UINT64_MAX, .access = RV_WATCH_EXEC},
                                {.addr = 0x704, .len = 1, .access = RV_WATCH_WRITE}};
    struct rv_watch w = {.point = p, .n = 2, .hit = note, .ctx = &o};
    o.m = rv_replay_machine(r);
    rv_machine_watch(o.m, &w);
    cr_assert_eq(rv_replay_run(r, &e, &err), 0, "%s", err.msg);
    rv_replay_free(r);
    cr_assert_gt(o.n, 100000);
    return o;
}

/* RAM and devices at a position, from a replay of its own. */
static void digests_at(rv_icount at, uint64_t *cpu, uint64_t *ram) {
    struct rv_replay *r;
    struct rv_err err = {0};
    struct rv_end e;
    struct rv_replay_config rc = {.path = ticking_path, .player = {.target = at}};
    cr_assert_eq(rv_replay_begin(&r, &rc, NULL, NULL, &err), 0, "%s", err.msg);
    cr_assert_eq(rv_replay_run(r, &e, &err), 0, "%s", err.msg);
    *cpu = e.cpu_digest;
    *ram = e.ram_digest;
    rv_replay_free(r);
}

static void free_oracle(struct oracle *o) {
    free(o->v);
    free(o->writes);
}

static size_t first_at(const struct oracle *o, struct rv_moment at) {
    size_t low = 0, high = o->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (rv_moment_before(o->v[mid].at, at))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void check(struct rv_timeline *t, const struct seen *s, const char *what) {
    struct rv_moment now = rv_timeline_now(t);
    cr_assert(rv_moment_same(now, s->at), "%s: at %llu+%u instead of %llu+%u", what,
              (unsigned long long)now.icount, now.delivered, (unsigned long long)s->at.icount,
              s->at.delivered);
    cr_assert_eq(registers(rv_timeline_machine(t)), s->hash, "%s: registers differ at %llu+%u",
                 what, (unsigned long long)now.icount, now.delivered);
}

static uint64_t seed = 1;
static uint64_t rnd(uint64_t n) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % n;
}

static void walk(bool use_index, uint64_t memory, unsigned steps) {
    struct oracle o = straight();
    struct rv_timeline *t = opened(use_index, memory);
    struct rv_err err = {0};
    struct rv_arrival a;
    size_t i = 0; /* into o.v: where it stands */
    cr_assert_eq(rv_timeline_seek(t, o.v[0].at, &a, &err), 0);
    for (unsigned n = 0; n < TURNS(steps); n++) {
        switch (rnd(8)) {
        case 0:
            i = rnd(o.n);
            cr_assert_eq(rv_timeline_seek(t, o.v[i].at, &a, &err), 0, "%s", err.msg);
            check(t, &o.v[i], "seek");
            break;
        case 1:
        case 2:
            for (unsigned k = 0; k < 3 && i + 1 < o.n; k++) {
                cr_assert_eq(rv_timeline_step(t, &a, &err), 0, "%s", err.msg);
                check(t, &o.v[++i], "step");
            }
            break;
        case 3:
        case 4:
            for (unsigned k = 0; k < 3 && i; k++) {
                cr_assert_eq(rv_timeline_step_back(t, &a, &err), 0, "%s", err.msg);
                check(t, &o.v[--i], "step back");
            }
            break;
        case 5: {
            bool forward = rnd(2);
            uint64_t rip = rnd(2) ? HANDLER : o.v[rnd(o.n)].rip;
            struct rv_sought s = {{.addr = rip, .len = 1, .access = RV_WATCH_EXEC},
                                  rnd(2) ? RV_ANYWHERE : rip >> 12};
            struct rv_search q = {.sought = &s, .n = 1};
            size_t k = i;
            if (forward) {
                do k++;
                while (k < o.n && o.v[k].rip != rip);
                cr_assert_eq(rv_timeline_run(t, &q, &a, &err), 0, "%s", err.msg);
            } else {
                while (k && o.v[--k].rip != rip) continue;
                if (o.v[k].rip != rip || k == i) k = o.n;
                cr_assert_eq(rv_timeline_run_back(t, &q, &a, &err), 0, "%s", err.msg);
            }
            if (k < o.n) {
                cr_assert_eq(a.at, RV_AT_HIT);
                i = k;
                check(t, &o.v[i], forward ? "run" : "run back");
            } else {
                cr_assert_eq(a.at, forward ? RV_AT_END : RV_AT_START);
                i = forward ? o.n - 1 : 0;
                cr_assert_eq(rv_timeline_seek(t, o.v[i].at, &a, &err), 0);
            }
            break;
        }
        case 6: {
            bool forward = rnd(2);
            struct rv_sought s = {{.addr = 0x704, .len = 1, .access = RV_WATCH_WRITE},
                                  rnd(2) ? RV_ANYWHERE : 0};
            struct rv_search q = {.sought = &s, .n = 1};
            size_t k = 0;
            while (k < o.writes_n && rv_moment_before(o.writes[k].before, o.v[i].at)) k++;
            if (forward ? k == o.writes_n : k == 0) break;
            const struct rv_watch_hit *want = &o.writes[forward ? k : k - 1];
            if (forward)
                cr_assert_eq(rv_timeline_run(t, &q, &a, &err), 0, "%s", err.msg);
            else
                cr_assert_eq(rv_timeline_run_back(t, &q, &a, &err), 0, "%s", err.msg);
            cr_assert_eq(a.at, RV_AT_HIT);
            cr_assert_eq(a.hit.rip, want->rip);
            cr_assert(rv_moment_same(rv_timeline_now(t), forward ? want->after : want->before));
            i = first_at(&o, rv_timeline_now(t));
            if (!rv_moment_same(o.v[i].at, rv_timeline_now(t)))
                cr_assert_eq(rv_timeline_seek(t, o.v[i].at, &a, &err), 0);
            check(t, &o.v[i], "after a watchpoint");
            break;
        }
        default: {
            uint64_t cpu, ram, want_cpu, want_ram;
            rv_icount at = rnd(rv_timeline_end(t).icount);
            cr_assert_eq(rv_timeline_seek(t, (struct rv_moment){at, 0}, &a, &err), 0);
            rv_machine_digests(rv_timeline_machine(t), &cpu, &ram);
            digests_at(at, &want_cpu, &want_ram);
            cr_assert_eq(cpu, want_cpu);
            cr_assert_eq(ram, want_ram);
            i = first_at(&o, (struct rv_moment){at, 0});
            cr_assert_eq(rv_timeline_seek(t, o.v[i].at, &a, &err), 0);
            check(t, &o.v[i], "seek to a position");
        }
        }
    }
    struct rv_timeline_stats s = rv_timeline_stats(t);
    cr_assert_leq(s.kept_bytes, memory + (4 << 20));
    rv_timeline_free(t);
    free_oracle(&o);
}

Test(timeline, a_random_walk_meets_a_straight_replay) { walk(false, 64 << 20, 600); }
Test(timeline, likewise_with_no_room_for_checkpoints) { walk(true, 0, 200); }

Test(timeline, both_ends) {
    struct rv_timeline *t = opened(true, 64 << 20);
    struct rv_err err = {0};
    struct rv_arrival a;
    struct rv_search none = {0};
    cr_assert(rv_timeline_at_start(t));
    cr_assert_eq(rv_timeline_step_back(t, &a, &err), 0);
    cr_assert_eq(a.at, RV_AT_START);
    cr_assert_eq(rv_timeline_run(t, &none, &a, &err), 0);
    cr_assert_eq(a.at, RV_AT_END);
    cr_assert(rv_timeline_at_end(t));
    cr_assert_eq(rv_timeline_reason(t), RV_STOP_DEBUG_EXIT);
    cr_assert_eq(rv_timeline_step(t, &a, &err), 0);
    cr_assert_eq(a.at, RV_AT_END);
    cr_assert_eq(rv_timeline_step_back(t, &a, &err), 0);
    cr_assert_eq(a.at, RV_AT_TARGET);
    cr_assert_eq(rv_timeline_now(t).icount, rv_timeline_end(t).icount - 1);
    cr_assert_eq(rv_timeline_run_back(t, &none, &a, &err), 0);
    cr_assert_eq(a.at, RV_AT_START);
    cr_assert(rv_timeline_at_start(t));
    rv_timeline_free(t);
}

Test(timeline, a_branch_leaves_history_alone) {
    struct oracle o = straight();
    struct rv_timeline *t = opened(true, 64 << 20);
    struct rv_err err = {0};
    struct rv_arrival a;
    struct rv_buf console = {0};
    size_t i = o.n / 2;
    cr_assert_eq(rv_timeline_seek(t, o.v[i].at, &a, &err), 0);
    uint64_t cpu, ram, again_cpu, again_ram;
    rv_machine_digests(rv_timeline_machine(t), &cpu, &ram);
    cr_assert_eq(rv_timeline_branch(t, &console, &err), 0);
    /* Ticks enough at once: the guest ends, with a tick count that history never had. */
    uint8_t ticks = 199;
    cr_assert(rv_ram_write(rv_machine_ram(rv_timeline_machine(t)), 0x704, &ticks, 1));
    struct rv_search none = {0};
    cr_assert_eq(rv_timeline_run(t, &none, &a, &err), 0, "%s", err.msg);
    cr_assert_eq(a.at, RV_AT_END);
    cr_assert_lt(rv_timeline_now(t).icount, rv_timeline_end(t).icount);
    cr_assert_neq(rv_timeline_step_back(t, &a, &err), 0);
    cr_assert_eq(rv_timeline_unbranch(t, &err), 0);
    check(t, &o.v[i], "after the branch");
    rv_machine_digests(rv_timeline_machine(t), &again_cpu, &again_ram);
    cr_assert_eq(cpu, again_cpu);
    cr_assert_eq(ram, again_ram);
    rv_buf_release(&console);
    rv_timeline_free(t);
    free_oracle(&o);
}

Test(timeline, a_damaged_index_is_made_anew) {
    rv_timeline_free(opened(true, 1 << 20));
    struct stat st;
    cr_assert_eq(stat(ticking_index, &st), 0);
    for (unsigned n = 0; n < TURNS(60); n++) {
        FILE *f = fopen(ticking_index, "r+b");
        cr_assert_not_null(f);
        long at = (long)rnd((uint64_t)st.st_size);
        fseek(f, at, SEEK_SET);
        int c = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(c ^ (int)(1 + rnd(255)), f);
        fclose(f);
        if (n % 10 == 9) cr_assert_eq(truncate(ticking_index, (off_t)rnd((uint64_t)st.st_size)), 0);
        struct rv_timeline *t;
        struct rv_err err = {0};
        char note[600];
        struct rv_timeline_config c2 = {
            .replay = {.path = ticking_path}, .memory = 1 << 20, .workers = 1, .use_index = true};
        cr_assert_eq(rv_timeline_open(&t, &c2, note, sizeof note, &err), 0, "%s", err.msg);
        struct rv_arrival a;
        /* A damaged page is met when it is read: an error that says what to do. */
        int r = rv_timeline_seek(t, (struct rv_moment){rv_timeline_end(t).icount / 2, 0}, &a, &err);
        cr_assert(r == 0 || r == RV_E_FORMAT, "%s", err.msg);
        rv_timeline_free(t);
        if (r) remove(ticking_index), rv_timeline_free(opened(true, 1 << 20));
        cr_assert_eq(stat(ticking_index, &st), 0);
    }
}

/* An index whose checksums are right may still hold anything. */
Test(timeline, a_state_that_no_guest_can_reach_is_refused) {
    struct rv_timeline *t = opened(false, 64 << 20);
    const struct rv_history *h = rv_timeline_history(t);
    struct rv_moment end = rv_timeline_end(t);
    struct rv_arrival a;
    struct rv_err err = {0};
    char want[200];
    for (unsigned i = 1; i < 10; i++) {
        struct rv_moment to = {end.icount * i / 10, 0};
        cr_assert_eq(rv_timeline_seek(t, to, &a, &err), 0, "%s", err.msg);
    }
    cr_assert_gt(h->checkpoints, 3);
    const struct rv_checkpoint *c = &h->checkpoint[1];
    struct rv_moment behind = {c->at + 1, 0};
    cr_assert_eq(rv_timeline_seek(t, behind, &a, &err), 0, "%s", err.msg);
    cr_assert_eq(rv_timeline_seek(t, end, &a, &err), 0, "%s", err.msg);
    struct rv_x86 x;
    struct rv_buf forged = {0};
    struct rv_cursor in = rv_cursor_of(c->state, c->len);
    cr_assert_eq(rv_state_load(rv_x86_fields, &x, &in, &err), 0);
    x.fx[24 + 3] = 0xff; /* of MXCSR */
    rv_state_save(rv_x86_fields, &x, &forged);
    memcpy(c->state, forged.data, forged.len);
    cr_assert_eq(rv_timeline_seek(t, behind, &a, &err), RV_E_FORMAT);
    snprintf(want, sizeof want,
             "the index is damaged at instruction %llu: saved state of the CPU: MXCSR cannot be "
             "0xff001f80; make it anew with retro index --force",
             (unsigned long long)c->at);
    cr_assert_str_eq(err.msg, want);
    rv_buf_release(&forged);
    rv_timeline_free(t);
}
