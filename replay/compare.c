#include "replay/compare.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "replay/index.h"
#include "replay/worker.h"
#include "vmm/base/buf.h"

/* So many instructions are compared one by one: what an input makes differ is mostly near. */
#define WALK_MAX (4u << 20)
/* At a time; between two, memory and the rest of the CPU are compared. */
#define WALK_CHUNK (64u << 10)
/* Beyond, states are compared this far apart at most. */
#define STEP_MIN (64u << 10)
#define STEP_MAX (64u << 20)

/* A moment at which an instruction begins, and what the CPU held. */
struct beat {
    struct rv_moment at;
    uint64_t hash;
};

struct runner {
    struct rv_compare *c;
    struct rv_worker *w;
    struct rv_history *h;
    rv_icount target;
    int r;
    struct rv_err err;
    struct beat *beat; /* of the last walk */
    size_t beats, room;
    /* States to catch on the way. */
    struct rv_moment want[2];
    struct rv_x86 caught[2];
    bool got[2];
};

struct rv_compare {
    struct rv_compare_config config;
    struct runner run[2];
    bool ram;  /* memory is compared as well */
    bool lost; /* a watch stopped them: within a position, which they cannot go on from as at one */
    _Atomic bool stop;
};

static struct rv_machine *machine(const struct runner *k) { return rv_worker_machine(k->w); }

/* ---- life ---- */

static bool on_poll(void *ctx, rv_icount at) {
    struct runner *k = ctx;
    struct rv_compare *c = k->c;
    if (k == &c->run[0] && c->config.progress && c->config.progress(c->config.ctx, at))
        atomic_store(&c->stop, true);
    return atomic_load(&c->stop);
}

static int open_runner(struct runner *k, const struct rv_replay_config *config,
                       struct rv_err *err) {
    int r = rv_worker_new(&k->w, config, err);
    if (r) return r;
    k->w->poll = on_poll;
    k->w->ctx = k;
    uint64_t pages = rv_machine_ram(machine(k))->size >> RV_PAGE_SHIFT;
    struct rv_err unfit;
    if (rv_index_load(&k->h, config->path, pages, &unfit) == 0) return 0;
    k->h = rv_history_new(pages);
    k->h->end = RV_NEVER - 1;
    return rv_worker_keep(k->w, k->h, err);
}

int rv_compare_open(struct rv_compare **out, const struct rv_compare_config *config,
                    struct rv_err *err) {
    struct rv_compare *c = rv_alloc(sizeof *c);
    c->config = *config;
    int r = 0;
    for (unsigned n = 0; !r && n < 2; n++) {
        c->run[n].c = c;
        r = open_runner(&c->run[n], &config->replay[n], err);
    }
    if (!r &&
        rv_machine_ram(machine(&c->run[0]))->size != rv_machine_ram(machine(&c->run[1]))->size)
        r = rv_fail(err, RV_E_USAGE, "%s and %s have memories of different size",
                    config->replay[0].path, config->replay[1].path);
    if (r) {
        rv_compare_free(c);
        return r;
    }
    *out = c;
    return 0;
}

void rv_compare_free(struct rv_compare *c) {
    if (!c) return;
    for (unsigned n = 0; n < 2; n++) {
        rv_history_free(c->run[n].h);
        rv_worker_free(c->run[n].w);
        free(c->run[n].beat);
    }
    free(c);
}

struct rv_machine *rv_compare_machine(struct rv_compare *c, unsigned n) {
    return machine(&c->run[n]);
}

/* ---- both at once ---- */

static void *thread(void *ctx) {
    struct runner *k = ctx;
    k->r = rv_worker_run(k->w, k->target, &k->err);
    return NULL;
}

/* Runs both to a position, or to where their recordings end. */
static int run_both(struct rv_compare *c, rv_icount target, struct rv_err *err) {
    pthread_t id;
    for (unsigned n = 0; n < 2; n++) c->run[n].target = target;
    bool started = pthread_create(&id, NULL, thread, &c->run[1]) == 0;
    thread(&c->run[0]);
    if (started)
        pthread_join(id, NULL);
    else
        thread(&c->run[1]);
    for (unsigned n = 0; n < 2; n++)
        if (c->run[n].r < 0) {
            if (err) *err = c->run[n].err;
            return rv_fail_in(err, "%s", c->config.replay[n].path);
        }
    if (atomic_load(&c->stop)) return rv_fail(err, RV_E_INTERRUPTED, "interrupted");
    return 0;
}

/* Brings both to a position from the last checkpoint before it. */
static int go_both(struct rv_compare *c, rv_icount at, struct rv_err *err) {
    for (unsigned n = 0; n < 2; n++) {
        struct runner *k = &c->run[n];
        rv_icount here = rv_machine_now(machine(k)).icount;
        size_t i = rv_history_before(k->h, at);
        if (!c->lost && !k->w->ended && here <= at && here >= k->h->checkpoint[i].at) continue;
        int r = rv_worker_restore(k->w, k->h, i, err);
        if (r) return r;
    }
    c->lost = false;
    return run_both(c, at, err);
}

/* Where both stand becomes a place to come back to, instead of the last one. */
static int keep_both(struct rv_compare *c, rv_icount *last, struct rv_err *err) {
    for (unsigned n = 0; n < 2; n++) {
        struct runner *k = &c->run[n];
        rv_icount here = rv_machine_now(machine(k)).icount;
        size_t i = rv_history_before(k->h, here);
        if (k->h->checkpoint[i].at == here) continue;
        int r = rv_worker_keep(k->w, k->h, err);
        if (r) return r;
        i = rv_history_before(k->h, *last);
        if (i > 0 && k->h->checkpoint[i].at == *last && !k->h->checkpoint[i].filed)
            rv_history_drop(k->h, i);
    }
    *last = rv_machine_now(machine(&c->run[0])).icount;
    return 0;
}

static void get(struct runner *k, struct rv_x86 *x) {
    struct rv_engine *e = rv_machine_engine(machine(k));
    e->ops->get(e, x);
}

static bool any_ended(const struct rv_compare *c) {
    return c->run[0].w->ended || c->run[1].w->ended;
}

/* Whether CPU, and memory where it counts, are alike where both stand. */
static bool alike(struct rv_compare *c) {
    struct rv_x86 x[2];
    for (unsigned n = 0; n < 2; n++) get(&c->run[n], &x[n]);
    if (c->run[0].w->ended != c->run[1].w->ended) return false;
    if (rv_x86_hash(&x[0], 0) != rv_x86_hash(&x[1], 0)) return false;
    return !c->ram || rv_ram_digest(rv_machine_ram(machine(&c->run[0]))) ==
                          rv_ram_digest(rv_machine_ram(machine(&c->run[1])));
}

/* ---- instruction by instruction ---- */

/* What nearly every instruction that sees a difference shows. The rest - vector registers, system
 * registers, memory that a string instruction filled - is compared at the end of each chunk. */
static uint64_t quick_hash(const struct rv_x86 *x) {
    uint64_t all[RV_GPRS + 2];
    memcpy(all, x->gpr, sizeof x->gpr);
    all[RV_GPRS] = x->rip;
    all[RV_GPRS + 1] = x->rflags;
    return XXH3_64bits(all, sizeof all);
}

static bool on_beat(void *ctx, const struct rv_watch_hit *hit) {
    struct runner *k = ctx;
    struct rv_x86 x;
    get(k, &x);
    if (k->beats == k->room) {
        k->room = k->room ? 2 * k->room : WALK_CHUNK + 1024;
        k->beat = rv_realloc(k->beat, k->room * sizeof *k->beat);
    }
    k->beat[k->beats++] = (struct beat){hit->before, quick_hash(&x)};
    return false;
}

static bool on_catch(void *ctx, const struct rv_watch_hit *hit) {
    struct runner *k = ctx;
    for (unsigned i = 0; i < 2; i++)
        if (rv_moment_same(hit->before, k->want[i])) {
            get(k, &k->caught[i]);
            k->got[i] = true;
        }
    return k->got[1];
}

static int watch_both(struct rv_compare *c, rv_icount to,
                      bool (*hit)(void *ctx, const struct rv_watch_hit *), struct rv_err *err) {
    static const struct rv_watchpoint every = {.len = UINT64_MAX, .access = RV_WATCH_EXEC};
    struct rv_watch watch[2];
    for (unsigned n = 0; n < 2; n++) {
        watch[n] = (struct rv_watch){.point = &every, .n = 1, .hit = hit, .ctx = &c->run[n]};
        rv_machine_watch(machine(&c->run[n]), &watch[n]);
    }
    int r = run_both(c, to, err);
    for (unsigned n = 0; n < 2; n++) {
        rv_machine_watch(machine(&c->run[n]), NULL);
        if (c->run[n].r == RV_STOP_WATCH) c->lost = true;
    }
    return r;
}

static void side_end(struct runner *k, struct rv_compare_side *s) {
    get(k, &s->cpu);
    s->at = (struct rv_moment){s->cpu.icount, 0};
    s->ended = k->w->ended;
    s->reason = k->w->end.reason;
}

/* Fills in *out for two beats: `before` is the last that both have, then each has its own, or its
 * end. Both stand anywhere at or after last. */
static int catch_parting(struct rv_compare *c, rv_icount last, rv_icount to, size_t i,
                         struct rv_compare_result *out, struct rv_err *err) {
    static const struct rv_moment never = {RV_NEVER, UINT32_MAX};
    out->parted = true;
    out->before = i ? c->run[0].beat[i - 1].at : (struct rv_moment){last, 0};
    for (unsigned n = 0; n < 2; n++) {
        struct runner *k = &c->run[n];
        k->got[0] = k->got[1] = false;
        k->want[0] = out->before;
        k->want[1] = i < k->beats ? k->beat[i].at : never;
    }
    int r = go_both(c, last, err);
    if (!r) get(&c->run[0], &out->cpu); /* when there was no instruction before */
    if (!r) r = watch_both(c, to, on_catch, err);
    if (r) return r;
    if (c->run[0].got[0]) out->cpu = c->run[0].caught[0];
    for (unsigned n = 0; n < 2; n++) {
        struct runner *k = &c->run[n];
        if (k->got[1])
            out->side[n] = (struct rv_compare_side){.at = k->want[1], .cpu = k->caught[1]};
        else
            side_end(k, &out->side[n]);
    }
    return 0;
}

/* Compares each instruction from last to `to`, where both stand at last. *first: the index of the
 * first beat that is not alike, or SIZE_MAX. */
static int walk(struct rv_compare *c, rv_icount to, size_t *first, struct rv_err *err) {
    *first = SIZE_MAX;
    for (unsigned n = 0; n < 2; n++) c->run[n].beats = 0;
    int r = watch_both(c, to, on_beat, err);
    if (r) return r;
    const struct runner *a = &c->run[0], *b = &c->run[1];
    size_t n = a->beats < b->beats ? a->beats : b->beats;
    for (size_t i = 0; i < n; i++)
        if (!rv_moment_same(a->beat[i].at, b->beat[i].at) || a->beat[i].hash != b->beat[i].hash) {
            *first = i;
            return 0;
        }
    /* What a run to a position sees of the moments at its end is no difference. */
    if (a->w->ended != b->w->ended) *first = n;
    return 0;
}

/* ---- the search ---- */

/* Alike at low, not at high: makes them neighbours, by going back to low again and again. */
static int bisect(struct rv_compare *c, rv_icount *low, rv_icount *high, struct rv_err *err) {
    rv_icount last = *low;
    while (*high - *low > 1) {
        rv_icount middle = *low + (*high - *low) / 2;
        int r = go_both(c, *low, err);
        if (!r) r = run_both(c, middle, err);
        if (r) return r;
        if (any_ended(c) || !alike(c)) {
            *high = middle;
        } else {
            *low = middle;
            r = keep_both(c, &last, err);
            if (r) return r;
        }
    }
    return 0;
}

/* The parting lies between two neighbouring positions. */
static int catch_between(struct rv_compare *c, rv_icount low, struct rv_compare_result *out,
                         struct rv_err *err) {
    size_t first;
    int r = go_both(c, low, err);
    if (!r) r = walk(c, low + 2, &first, err);
    if (r) return r;
    /* Where general registers show nothing, it is what lies beyond them: the instruction is the
     * first one. */
    if (first == SIZE_MAX || first > 1) first = 1;
    return catch_parting(c, low, low + 2, first, out, err);
}

static int found(struct rv_compare *c, rv_icount low, rv_icount high, struct rv_compare_result *out,
                 struct rv_err *err) {
    int r = bisect(c, &low, &high, err);
    return r ? r : catch_between(c, low, out, err);
}

/* Beyond what is worth walking: in growing steps, then by halves. */
static int stride(struct rv_compare *c, rv_icount at, struct rv_compare_result *out,
                  struct rv_err *err) {
    rv_icount last = at;
    for (rv_icount step = STEP_MIN;; step = step < STEP_MAX ? 2 * step : step) {
        int r = run_both(c, at + step, err);
        if (r) return r;
        if (!alike(c)) {
            out->exact = false;
            return found(c, at, at + step, out, err);
        }
        out->searched = rv_machine_now(machine(&c->run[0])).icount;
        if (any_ended(c)) return 0;
        at += step;
        r = keep_both(c, &last, err);
        if (r) return r;
    }
}

int rv_compare_find(struct rv_compare *c, rv_icount from, struct rv_compare_result *out,
                    struct rv_err *err) {
    *out = (struct rv_compare_result){.exact = true};
    int r = go_both(c, from, err);
    if (r) return r;
    out->memory_alike = c->ram = rv_ram_digest(rv_machine_ram(machine(&c->run[0]))) ==
                                 rv_ram_digest(rv_machine_ram(machine(&c->run[1])));
    if (any_ended(c)) return 0;
    rv_icount last = RV_NEVER;
    r = keep_both(c, &last, err);
    rv_icount at = from;
    for (; !r && at - from < WALK_MAX; at += WALK_CHUNK) {
        size_t first;
        r = walk(c, at + WALK_CHUNK, &first, err);
        if (r) return r;
        if (first != SIZE_MAX) return catch_parting(c, at, at + WALK_CHUNK, first, out, err);
        if (!alike(c)) return found(c, at, at + WALK_CHUNK, out, err);
        out->searched = rv_machine_now(machine(&c->run[0])).icount;
        if (any_ended(c)) return 0;
        r = keep_both(c, &last, err);
    }
    return r ? r : stride(c, at, out, err);
}

/* ---- memory ---- */

static bool same_memory(struct rv_compare *c) {
    return rv_ram_digest(rv_machine_ram(machine(&c->run[0]))) ==
           rv_ram_digest(rv_machine_ram(machine(&c->run[1])));
}

int rv_compare_find_memory(struct rv_compare *c, bool *found_any, rv_icount *at,
                           struct rv_err *err) {
    *found_any = false;
    rv_icount low = rv_machine_now(machine(&c->run[0])).icount, last = low;
    rv_icount other = rv_machine_now(machine(&c->run[1])).icount;
    if (other < low) low = other;
    int r = go_both(c, low, err);
    if (r) return r;
    if (!same_memory(c)) {
        *found_any = true;
        *at = low;
        return 0;
    }
    if (any_ended(c)) return 0;
    r = keep_both(c, &last, err);
    rv_icount high = low;
    for (rv_icount step = 64; !r; step = step < STEP_MAX ? 2 * step : step) {
        r = run_both(c, low + step, err);
        if (r) return r;
        if (!same_memory(c)) {
            high = low + step;
            break;
        }
        if (any_ended(c)) return 0;
        low += step;
        r = keep_both(c, &last, err);
    }
    while (!r && high - low > 1) {
        rv_icount middle = low + (high - low) / 2;
        r = go_both(c, low, err);
        if (!r) r = run_both(c, middle, err);
        if (r) return r;
        *(same_memory(c) ? &low : &high) = middle;
    }
    if (!r) r = go_both(c, low, err);
    if (!r) r = run_both(c, high, err);
    *found_any = true;
    *at = high;
    return r;
}

size_t rv_compare_memory(struct rv_compare *c, struct rv_compare_bytes *out, size_t n,
                         uint64_t *total) {
    const struct rv_ram *ra = rv_machine_ram(machine(&c->run[0])),
                        *rb = rv_machine_ram(machine(&c->run[1]));
    size_t k = 0;
    *total = 0;
    bool joins = false; /* the byte before differs, and is the last of out[k - 1] */
    for (uint64_t page = 0; page < ra->size; page += RV_PAGE_SIZE) {
        const uint8_t *a = ra->host + page, *b = rb->host + page;
        if (memcmp(a, b, RV_PAGE_SIZE) == 0) {
            joins = false;
            continue;
        }
        for (unsigned i = 0; i < RV_PAGE_SIZE; i++) {
            if (a[i] == b[i]) {
                joins = false;
                continue;
            }
            ++*total;
            if (!joins && k == n) continue;
            if (!joins) out[k++] = (struct rv_compare_bytes){.gpa = rv_ram_gpa(page + i)};
            joins = true;
            struct rv_compare_bytes *s = &out[k - 1];
            if (s->len < sizeof s->a) {
                s->a[s->len] = a[i];
                s->b[s->len] = b[i];
            }
            s->len++;
        }
    }
    return k;
}
