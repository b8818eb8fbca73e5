#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "guest.h"
#include "vmm/base/buf.h"
#include "vmm/boot/flat.h"
#include "vmm/state.h"

/* A host that is a function of the plan alone. */
struct host {
    struct rv_nondet nd;
    const struct guest *g;
    const struct run_plan *plan;
    struct run_result *out;
    struct rv_machine *m;
    const char *input;
    rv_icount input_at, stop_at, kicked_at;
    size_t said;
    XXH3_state_t *hash;
};

static struct host *of(struct rv_nondet *nd) { return (struct host *)nd; }

static int query(struct rv_nondet *nd, struct rv_point at, enum rv_source source, uint64_t *value,
                 struct rv_err *err) {
    *value = 1700000000;
    return 0;
}

static int next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                struct rv_err *err) {
    struct host *h = of(nd);
    *out = (struct rv_push){.kind = RV_PUSH_NONE};
    if (q->at.icount >= h->plan->max) {
        *out = (struct rv_push){.kind = RV_PUSH_STOP, .value = RV_STOP_MAX_ICOUNT};
        return 0;
    }
    if (h->input && *h->input && (q->idle || q->at.icount >= h->input_at) && q->input_room) {
        h->input_at = q->at.icount + h->plan->input_every;
        *out = (struct rv_push){.kind = RV_PUSH_INPUT,
                                .source = RV_SRC_CONSOLE,
                                .data = (const uint8_t *)h->input++,
                                .len = 1};
        return 0;
    }
    if (q->idle) {
        *out = (struct rv_push){.kind = RV_PUSH_JUMP, .time = q->deadline};
        if (q->deadline == RV_NEVER)
            *out = (struct rv_push){.kind = RV_PUSH_STOP, .value = RV_STOP_HALTED};
        return 0;
    }
    if (h->plan->kick && h->m && q->at.icount != h->kicked_at) {
        h->kicked_at = q->at.icount;
        rv_machine_kick(h->m);
    }
    return 0;
}

static int horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *out,
                   struct rv_err *err) {
    rv_icount *until = &out->until;
    struct host *h = of(nd);
    *until = h->plan->max;
    if (h->plan->stop_every) {
        while (h->stop_at <= at.icount) h->stop_at += h->plan->stop_every;
        if (h->stop_at < *until) *until = h->stop_at;
    }
    if (h->input && *h->input && h->input_at < *until) *until = h->input_at;
    if (*until <= at.icount) *until = at.icount + 1;
    return 0;
}

static int effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink, const void *data,
                  size_t len, struct rv_err *err) {
    struct host *h = of(nd);
    uint64_t where[] = {at.icount, at.time, sink};
    XXH3_64bits_update(h->hash, where, sizeof where);
    XXH3_64bits_update(h->hash, data, len);
    for (size_t i = 0; i < len && h->said + 1 < sizeof h->out->text; i++)
        h->out->text[h->said++] = ((const char *)data)[i];
    return 0;
}

static int digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what, uint64_t value,
                  struct rv_err *err) {
    struct rv_buf *b = &of(nd)->out->digests;
    rv_buf_put_u64(b, at.icount);
    rv_buf_put_u64(b, what);
    rv_buf_put_u64(b, value);
    return 0;
}

static int stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) { return 0; }

static const struct rv_nondet_ops ops = {.query = query,
                                         .next = next,
                                         .horizon = horizon,
                                         .effect = effect,
                                         .digest = digest,
                                         .stopped = stopped};

void run_guest(const struct guest *g, const struct rv_engine_ops *engine,
               const struct run_plan *plan, struct run_result *out) {
    memset(out, 0, sizeof *out);
    struct rv_flat_header header = {.magic = RV_FLAT_MAGIC,
                                    .mode = g->mode,
                                    .load = GUEST_BASE,
                                    .entry = GUEST_BASE + sizeof header,
                                    .stack = GUEST_BASE + 0xf000};
    struct rv_buf image = {0};
    rv_buf_put(&image, &header, sizeof header);
    rv_buf_put(&image, g->code, (size_t)(g->end - g->code));
    struct host h = {.nd = {.ops = &ops},
                     .g = g,
                     .plan = plan,
                     .out = out,
                     .input = g->input,
                     .input_at = plan->input_every,
                     .kicked_at = RV_NEVER,
                     .hash = XXH3_createState()};
    XXH3_64bits_reset(h.hash);
    struct rv_machine_config config = {
        .memory = 4u << 20,
        .engine = engine,
        .profile = &rv_profile_v2,
        .rate = RV_RATE_DEFAULT,
        .digest_every = plan->digest_every,
        .boot = {.kind = RV_BOOT_FLAT,
                 .kernel = {.name = g->name, .data = image.data, .len = image.len}}};
    out->r = rv_machine_new(&h.m, &config, &h.nd, &out->err);
    if (!out->r) {
        out->r = rv_machine_run(h.m, &out->end, &out->err);
        struct rv_engine *e = rv_machine_engine(h.m);
        e->ops->get(e, &out->cpu);
        if (engine == &rv_engine_kvm) out->counts = rv_kvm_counts(e);
        rv_machine_free(h.m);
    }
    out->output = XXH3_64bits_digest(h.hash);
    XXH3_freeState(h.hash);
    rv_buf_release(&image);
}

bool kvm_usable(void) {
    struct rv_ram ram;
    struct rv_err err = {0};
    if (rv_ram_init(&ram, RV_RAM_MIN, &err)) return false;
    struct rv_cpu_bus bus = {0};
    struct rv_engine *e;
    int r = rv_engine_kvm.create(&e, &ram, &bus, &rv_profile_v2, &err);
    if (r)
        fprintf(stderr, "skipped: %s\n", err.msg);
    else
        e->ops->destroy(e);
    rv_ram_release(&ram);
    return !r;
}

const struct guest *guest_find(const char *name) {
    for (unsigned i = 0; i < guest_count; i++)
        if (strcmp(guests[i].name, name) == 0) return &guests[i];
    return NULL;
}
