/* Counting executed instructions: both engines against what a watch on every instruction sees, on
 * the small guests, whose code faults, rewrites itself, steps and changes mode. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ticking.h"
#include "vmm/base/buf.h"
#include "vmm/cpu/count.h"
#include "vmm/cpu/xlate/eager.h"
#include "vmm/host/file.h"
#include "vmm/machine.h"

/* ---- how often was it executed, by place ---- */

struct place {
    uint64_t cr3, va;
    bool user;
    uint64_t times;
};
#define PLACES (1u << 20)
struct tally {
    struct place *v;
    size_t n;
    uint64_t total;
    struct place *begun; /* cr3 1: where an instruction was about to run, whatever became of it */
};
#define ANY 1 /* in place of an address space */

static struct place *find(struct place *v, uint64_t cr3, uint64_t va, bool user) {
    size_t h = ((va ^ cr3 * 3 ^ user) * 0x9e3779b97f4a7c15ull >> 20) & (PLACES - 1);
    while (v[h].times && !(v[h].va == va && v[h].cr3 == cr3 && v[h].user == user))
        h = (h + 1) & (PLACES - 1);
    return &v[h];
}

static void begun(struct tally *t, uint64_t va) {
    *find(t->begun, ANY, va, false) = (struct place){.cr3 = ANY, .va = va, .times = 1};
}

static struct place *at(struct tally *t, uint64_t cr3, uint64_t va, bool user) {
    struct place *p = find(t->v, cr3, va, user);
    if (!p->times) {
        cr_assert_lt(++t->n, PLACES / 2);
        *p = (struct place){.cr3 = cr3, .va = va, .user = user};
    }
    return p;
}

static struct tally new_tally(void) {
    return (struct tally){.v = rv_alloc(PLACES * sizeof(struct place)),
                          .begun = rv_alloc(PLACES * sizeof(struct place))};
}

static void free_tally(struct tally *t) {
    free(t->v);
    free(t->begun);
}

/* ---- the machine ---- */

static struct rv_machine *machine(const char *name, const struct rv_engine_ops *engine,
                                  struct quiet *host, uint8_t **image) {
    char path[300];
    size_t len;
    struct rv_err err = {0};
    snprintf(path, sizeof path, "%s/%s.img", RV_GUESTS, name);
    cr_assert_eq(rv_file_read(path, 1 << 24, image, &len, &err), 0, "%s", err.msg);
    struct rv_machine_config mc = {
        .memory = 64 << 20,
        .engine = engine,
        .profile = &rv_profile_v2,
        .rate = RV_RATE_DEFAULT,
        .boot = {.kernel = {.name = path, .data = *image, .len = len}, .kind = RV_BOOT_AUTO}};
    struct rv_machine *m;
    cr_assert_eq(rv_machine_new(&m, &mc, &host->nd, &err), 0, "%s", err.msg);
    return m;
}

static rv_icount run(struct rv_machine *m) {
    struct rv_end end;
    struct rv_err err = {0};
    cr_assert_eq(rv_machine_run(m, &end, &err), 0, "%s", err.msg);
    return end.at.icount;
}

/* ---- the oracle ---- */

struct oracle {
    struct tally t;
    struct rv_machine *m;
    struct rv_moment moment;
    uint64_t cr3, va;
    bool user, any;
};

/* The instruction that was about to run has retired if the count moved on. */
static void settle(struct oracle *o, rv_icount now) {
    if (!o->any || o->moment.icount == now) return;
    at(&o->t, o->cr3, o->va, o->user)->times++;
    o->t.total++;
    o->any = false;
}

static bool on_hit(void *ctx, const struct rv_watch_hit *hit) {
    struct oracle *o = ctx;
    settle(o, hit->before.icount);
    begun(&o->t, hit->gva);
    struct rv_x86 x;
    rv_machine_engine(o->m)->ops->get(rv_machine_engine(o->m), &x);
    bool protected = x.cr0 & RV_CR0_PE;
    o->moment = hit->before;
    o->cr3 = x.cr3;
    o->va = hit->gva;
    o->user = protected && ((x.rflags & RV_FL_VM) || RV_SEG_DPL(x.seg[RV_SS].attr) == 3);
    o->any = true;
    return false;
}

static struct tally watched(const char *name) {
    static const struct rv_watchpoint every = {.len = UINT64_MAX, .access = RV_WATCH_EXEC};
    uint8_t *image;
    struct quiet host = quiet_host(1000000);
    struct oracle o = {.t = new_tally(), .m = machine(name, &rv_engine_interpret, &host, &image)};
    struct rv_watch w = {.point = &every, .n = 1, .hit = on_hit, .ctx = &o};
    rv_machine_watch(o.m, &w);
    rv_icount end = run(o.m);
    settle(&o, end);
    /* What ended the machine retired, too. */
    cr_assert_eq(o.t.total, end);
    rv_machine_free(o.m);
    free(image);
    return o.t;
}

/* ---- what an engine counts ---- */

static void on_count(void *ctx, const struct rv_count *k) {
    struct tally *t = ctx;
    cr_assert_gt(k->times, 0);
    begun(t, k->va);
    if (!k->insns) {
        cr_assert_eq(k->bytes, 0);
        return;
    }
    cr_assert_geq(k->bytes, k->insns);
    t->total += k->insns * k->times;
    for (uint32_t i = 0; i < k->bytes; i++) {
        at(t, k->cr3, k->va + i, k->user)->times += k->times;
        begun(t, k->va + i);
    }
}

static struct tally counted(const char *name, const struct rv_engine_ops *engine, rv_icount slice) {
    uint8_t *image;
    struct tally t = new_tally();
    struct quiet host = quiet_host(slice);
    struct rv_machine *m = machine(name, engine, &host, &image);
    struct rv_engine *e = rv_machine_engine(m);
    if (engine == &rv_engine_translate) rv_translate_eagerly(e);
    engine->count(e, true);
    rv_icount end = run(m);
    engine->counted(e, on_count, &t);
    cr_assert_eq(t.total, end, "%s on %s: %llu instead of %llu", name, engine->name,
                 (unsigned long long)t.total, (unsigned long long)end);
    /* From zero again. */
    struct tally none = new_tally();
    engine->count(e, true);
    engine->counted(e, on_count, &none);
    cr_assert_eq(none.n, 0);
    engine->count(e, false);
    engine->counted(e, on_count, &none);
    cr_assert_eq(none.n, 0);
    free_tally(&none);
    rv_machine_free(m);
    free(image);
    return t;
}

/* overlaps: the guest ran different instructions over the same bytes, which count for each. */
static void compare(const char *name, bool overlaps, struct tally *want, struct tally *got,
                    const char *engine) {
    for (size_t i = 0; i < PLACES; i++) {
        const struct place *p = &want->v[i];
        const struct place *b = &want->begun[i];
        cr_assert(!b->times || find(got->begun, ANY, b->va, false)->times,
                  "%s on %s: it is not told that %llx was about to run", name, engine,
                  (unsigned long long)b->va);
        if (!p->times) continue;
        uint64_t times = at(got, p->cr3, p->va, p->user)->times;
        if (overlaps && times > p->times) continue;
        cr_assert_eq(times, p->times, "%s on %s: %llx (cr3 %llx, user %d) %llu times, not %llu",
                     name, engine, (unsigned long long)p->va, (unsigned long long)p->cr3, p->user,
                     (unsigned long long)times, (unsigned long long)p->times);
    }
}

static void every_instruction(const char *name, bool overlaps) {
    struct tally want = watched(name);
    for (unsigned how = 0; how < 4; how++) {
        const struct rv_engine_ops *e = how & 1 ? &rv_engine_translate : &rv_engine_interpret;
        struct tally got = counted(name, e, how & 2 ? 97 : 1000000);
        compare(name, overlaps, &want, &got, e->name);
        free_tally(&got);
    }
    free_tally(&want);
}

Test(count, page_faults) { every_instruction("paging", false); }
Test(count, shadows_and_strings) { every_instruction("awkward", false); }
Test(count, single_steps) { every_instruction("debug", false); }
Test(count, floating_point) { every_instruction("fpu", false); }
Test(count, user_mode) { every_instruction("system", false); }
Test(count, modes) { every_instruction("modes", false); }
Test(count, segments) { every_instruction("segments", false); }
Test(count, task_switches) { every_instruction("tasks", false); }
Test(count, changing_code) { every_instruction("smc", true); }

/* ---- calls and returns: both engines tell the same, and every one ---- */

struct flow {
    struct rv_watch_hit *v;
    size_t n, room;
    struct rv_machine *m;
    uint64_t rsp; /* sum of what was seen: the state is exact */
};

static bool on_flow(void *ctx, const struct rv_watch_hit *hit) {
    struct flow *f = ctx;
    struct rv_x86 x;
    rv_machine_engine(f->m)->ops->get(rv_machine_engine(f->m), &x);
    cr_assert_eq(x.icount, hit->after.icount);
    cr_assert_eq(x.seg[RV_CS].base + x.rip, hit->gva);
    f->rsp = f->rsp * 31 + x.gpr[RV_RSP];
    if (f->n == f->room) {
        f->room = f->room ? 2 * f->room : 1024;
        f->v = rv_realloc(f->v, f->room * sizeof *f->v);
    }
    f->v[f->n++] = *hit;
    return false;
}

static struct flow flow_of(const char *name, const struct rv_engine_ops *engine) {
    static const struct rv_watchpoint both[] = {{.len = 1, .access = RV_WATCH_CALL},
                                                {.len = 1, .access = RV_WATCH_RETURN}};
    uint8_t *image;
    struct quiet host = quiet_host(1009);
    struct flow f = {.m = machine(name, engine, &host, &image)};
    struct rv_engine *e = rv_machine_engine(f.m);
    if (engine == &rv_engine_translate) rv_translate_eagerly(e);
    struct rv_watch w = {.point = both, .n = 2, .hit = on_flow, .ctx = &f};
    rv_machine_watch(f.m, &w);
    run(f.m);
    rv_machine_free(f.m);
    free(image);
    return f;
}

static void same_flow(const char *name) {
    struct flow a = flow_of(name, &rv_engine_interpret), b = flow_of(name, &rv_engine_translate);
    size_t calls = 0, returns = 0, far = 0;
    cr_assert_eq(a.n, b.n, "%s: %zu and %zu", name, a.n, b.n);
    cr_assert_eq(a.rsp, b.rsp);
    for (size_t i = 0; i < a.n; i++) {
        const struct rv_watch_hit *x = &a.v[i], *y = &b.v[i];
        cr_assert(x->access == y->access && x->rip == y->rip && x->gva == y->gva &&
                  x->far == y->far && rv_moment_same(x->before, y->before) &&
                  rv_moment_same(x->after, y->after));
        cr_assert(!i || a.v[i - 1].after.icount <= x->before.icount);
        calls += x->access == RV_WATCH_CALL && !x->far;
        returns += x->access == RV_WATCH_RETURN && !x->far;
        far += x->far;
    }
    /* The guests are compiled C: what is called returns, but for the last few. */
    cr_assert_gt(returns, 100);
    cr_assert_leq(returns, calls + 20);
    cr_assert_leq(calls, returns + 100);
    cr_assert_gt(far, 0);
    free(a.v);
    free(b.v);
}

Test(flow, paging) { same_flow("paging"); }
Test(flow, awkward) { same_flow("awkward"); }
Test(flow, system) { same_flow("system"); }
Test(flow, fpu) { same_flow("fpu"); }
