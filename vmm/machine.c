#include "vmm/machine.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"
#include "vmm/clock.h"
#include "vmm/landmark.h"

/* Beside enum rv_run: a landmark was found. */
#define RV_RUN_FOUND 100

struct rv_machine {
    struct rv_machine_config config;
    struct rv_nondet *nd;
    struct rv_ram ram;
    struct rv_pc *pc;
    struct rv_engine *engine;
    struct rv_cpu_bus bus;
    struct rv_clock clock;
    bool halted;          /* the CPU waits in HLT */
    bool fresh;           /* the position has just been reached: the host may push here */
    bool look;            /* nothing but a stop may come here */
    uint64_t next_digest; /* position; RV_NEVER: none */
    /* Traps: how many, the last of which the loop knows, the icount of the last one's instruction,
     * and whether guest time was asked for in it. */
    uint64_t traps, traps_seen;
    rv_icount trap_icount;
    bool sampled;
    const struct rv_landmark *landmark; /* the state is this one; NULL: not known */
    struct rv_landmark here;
    bool found; /* the landmark that is looked for */
    uint64_t found_count;
    uint64_t candidates;          /* states compared with landmarks */
    const struct rv_watch *watch; /* somebody's outside; NULL: none */
    bool watch_stop;              /* who said stop */
    enum rv_stop stop;
    uint32_t stop_code;
    bool mid_instruction;
    int failed; /* a verb of nd failed inside a device access; first_error tells how */
    struct rv_err first_error;
};

struct rv_point rv_machine_now(struct rv_machine *m) {
    bool counts = m->engine && m->engine->ops->counts;
    rv_icount icount = counts ? m->engine->ops->icount(m->engine) : 0;
    return (struct rv_point){
        .icount = icount, .time = rv_clock_at(&m->clock, icount), .trap = m->traps};
}

uint64_t rv_machine_position(const struct rv_machine *m, struct rv_point at) {
    return m->config.by_trap ? at.trap : at.icount;
}

/* ---- traps ---- */

/* The guest left the CPU, in an instruction that does so on every engine: such moments are numbered
 * alike everywhere. */
static void trap(struct rv_machine *m) {
    m->traps++;
    m->sampled = false;
    /* Where time follows the host, a look at the clock may make a timer due. */
    if (m->config.rate != RV_RATE_HOST) return;
    m->trap_icount = m->engine->ops->icount(m->engine);
    m->bus.attention = true;
}

static void tick(struct rv_machine *m);

static void pass(struct rv_machine *m, uint64_t ns) {
    rv_ns room = RV_NEVER - 1 - m->clock.jumped;
    m->clock.jumped += ns < room ? ns : room;
}

/* Host time: moves guest time on, once a trap. */
static void sample(struct rv_machine *m) {
    if (m->config.rate != RV_RATE_HOST || m->sampled || m->failed) return;
    m->sampled = true;
    uint64_t passed = 0;
    m->failed = m->nd->ops->query(m->nd, rv_machine_now(m), RV_SRC_CLOCK, &passed, &m->first_error);
    if (m->failed) {
        m->bus.attention = true;
        return;
    }
    pass(m, passed);
}

/* ---- what the CPU asks of the rest ---- */

static void cpu_exit(void *ctx, struct rv_exit *x) {
    struct rv_machine *m = ctx;
    trap(m);
    rv_pc_exit(m->pc, x);
}

static uint64_t cpu_tsc(void *ctx) {
    struct rv_machine *m = ctx;
    trap(m);
    sample(m);
    rv_ns now = rv_machine_now(m).time;
    return (uint64_t)((unsigned __int128)now * m->config.profile->tsc_hz / RV_NSEC);
}

/* The engine answered a read of the clock by itself, so many ns after the time before: a trap after
 * which nothing was due, or it would not have been allowed to. */
static void cpu_took(void *ctx, uint64_t ns) {
    struct rv_machine *m = ctx;
    m->traps_seen = ++m->traps;
    m->sampled = true;
    if (m->failed) return;
    m->failed = m->nd->ops->taken(m->nd, rv_machine_now(m), RV_SRC_CLOCK, ns, &m->first_error);
    pass(m, ns);
}

/* ---- what the board asks ---- */

static rv_ns board_now(void *ctx) { return rv_machine_now(ctx).time; }

static void board_clock(void *ctx) { sample(ctx); }

static void board_attention(void *ctx) { ((struct rv_machine *)ctx)->bus.attention = true; }

static void board_effect(void *ctx, enum rv_source sink, const void *data, size_t len) {
    struct rv_machine *m = ctx;
    if (m->failed) return;
    m->failed = m->nd->ops->effect(m->nd, rv_machine_now(m), sink, data, len, &m->first_error);
    if (m->failed) m->bus.attention = true;
}

static void board_stop(void *ctx, enum rv_stop reason, uint32_t code) {
    struct rv_machine *m = ctx;
    if (m->stop == RV_STOP_NONE) {
        m->stop = reason;
        m->stop_code = code;
    }
    m->bus.attention = true;
}

/* ---- construction ---- */

int rv_machine_new(struct rv_machine **out, const struct rv_machine_config *config,
                   struct rv_nondet *nd, struct rv_err *err) {
    struct rv_machine *m = rv_alloc(sizeof *m);
    m->config = *config;
    m->nd = nd;
    m->clock.rate = config->rate;
    m->fresh = true;
    m->next_digest = config->digest_every ? config->digest_every : RV_NEVER;
    int r = 0;
    if (config->by_trap && config->rate != RV_RATE_HOST)
        r = rv_fail(err, RV_E_USAGE, "positions that are traps need the host's time");
    if (!config->by_trap && !config->engine->counts)
        r = rv_fail(err, RV_E_USAGE,
                    "engine %s does not count instructions, so it can neither "
                    "derive guest time from them nor replay a recording that did; use --engine "
                    "interpret",
                    config->engine->name);
    if (!r) r = rv_ram_init(&m->ram, config->memory, err);
    if (r) goto fail;
    m->bus = (struct rv_cpu_bus){
        .ctx = m, .exit = cpu_exit, .tsc = cpu_tsc, .took = cpu_took, .quirks = config->quirks};
    r = config->engine->create(&m->engine, &m->ram, &m->bus, config->profile, err);
    if (r) goto fail;
    uint64_t epoch = 0;
    r = nd->ops->query(nd, rv_machine_now(m), RV_SRC_RTC, &epoch, err);
    for (unsigned i = 0; !r && i < RV_BOOT_SEED / 8; i++) {
        uint64_t bits = 0;
        r = nd->ops->query(nd, rv_machine_now(m), RV_SRC_ENTROPY, &bits, err);
        memcpy(m->config.boot.seed + 8 * i, &bits, 8);
    }
    if (r) goto fail;
    struct rv_pc_host host = {.ctx = m,
                              .now = board_now,
                              .clock = board_clock,
                              .effect = board_effect,
                              .stop = board_stop,
                              .attention = board_attention};
    struct rv_pc_config pc = {.tsc_hz = config->profile->tsc_hz,
                              .boot_epoch = epoch,
                              .phys_bits = config->profile->phys_bits,
                              .devices = config->devices};
    r = rv_pc_new(&m->pc, &m->ram, &pc, &host, err);
    if (r) goto fail;
    struct rv_x86 cpu;
    enum rv_boot_kind kind;
    rv_x86_reset(&cpu);
    r = rv_boot_load(&m->config.boot, &m->ram, &cpu, &kind, err);
    if (!r) r = m->engine->ops->set(m->engine, &cpu, err);
    if (r) goto fail;
    *out = m;
    return 0;
fail:
    rv_machine_free(m);
    return r;
}

void rv_machine_free(struct rv_machine *m) {
    if (!m) return;
    rv_pc_free(m->pc);
    if (m->engine) m->engine->ops->destroy(m->engine);
    rv_ram_release(&m->ram);
    free(m);
}

/* ---- the loop ---- */

void rv_machine_digests(struct rv_machine *m, uint64_t *cpu, uint64_t *ram) {
    struct rv_x86 x;
    m->engine->ops->get(m->engine, &x);
    if (m->config.rate == RV_RATE_HOST) rv_x86_canonical(&x);
    if (m->config.quirks & RV_QUIRK_OPEN_FLAGS) x.rflags &= ~(uint64_t)RV_FL_ARITH;
    *cpu = rv_pc_hash(m->pc, rv_x86_hash(&x, 0));
    *ram = rv_ram_digest(&m->ram);
}

static int digest(struct rv_machine *m, struct rv_err *err) {
    struct rv_point at = rv_machine_now(m);
    uint64_t position = rv_machine_position(m, at);
    if (position < m->next_digest || m->landmark) return 0;
    m->next_digest = position + m->config.digest_every;
    uint64_t cpu, ram;
    rv_machine_digests(m, &cpu, &ram);
    int r = m->nd->ops->digest(m->nd, at, RV_SRC_CPU, cpu, err);
    if (!r) r = m->nd->ops->digest(m->nd, at, RV_SRC_RAM, ram, err);
    return r;
}

/* Lets devices act whose time has come. */
static void tick(struct rv_machine *m) {
    rv_ns now = rv_machine_now(m).time;
    while (rv_pc_deadline(m->pc) <= now) rv_pc_tick(m->pc, now);
}

static int clear_flags(struct rv_machine *m, uint32_t flags, struct rv_err *err) {
    struct rv_x86 x;
    m->engine->ops->get(m->engine, &x);
    if (!(x.rflags & flags)) return 0;
    x.rflags &= ~(uint64_t)flags;
    return m->engine->ops->restore(m->engine, &x, err);
}

/* Takes everything the host pushes at this point. 1 when something was taken. */
static int pushes(struct rv_machine *m, bool idle, struct rv_err *err) {
    int taken = 0;
    for (;;) {
        struct rv_next q = {.at = rv_machine_now(m),
                            .idle = idle && !taken,
                            .deadline = rv_pc_deadline(m->pc),
                            .input_room = rv_pc_input_room(m->pc, RV_SRC_CONSOLE),
                            .only_stop = m->mid_instruction || m->look,
                            .landmark = m->landmark};
        struct rv_push p = {0};
        int r = m->nd->ops->next(m->nd, &q, &p, err);
        if (r) return r;
        switch (p.kind) {
        case RV_PUSH_NONE:
            if (q.idle)
                return rv_fail(err, RV_E_BUG, "an idle guest was given nothing to wait for");
            return taken;
        case RV_PUSH_INPUT: {
            size_t n = rv_pc_input(m->pc, p.source, p.data, p.len);
            if (n != p.len)
                return rv_fail(err, RV_E_DIVERGED,
                               "at instruction %llu: %zu bytes of input for %s, but the guest's "
                               "device took only %zu",
                               (unsigned long long)q.at.icount, p.len, rv_source_name(p.source), n);
            break;
        }
        case RV_PUSH_JUMP:
            if (p.time <= q.at.time || (q.idle && p.time > q.deadline))
                return rv_fail(err, RV_E_DIVERGED,
                               "at instruction %llu: guest time cannot jump from %llu to %llu ns",
                               (unsigned long long)q.at.icount, (unsigned long long)q.at.time,
                               (unsigned long long)p.time);
            m->clock.jumped += p.time - q.at.time;
            tick(m);
            break;
        case RV_PUSH_STOP: board_stop(m, (enum rv_stop)p.value, 0); return 1;
        case RV_PUSH_FLAGS:
            r = clear_flags(m, (uint32_t)p.value & RV_FL_ARITH, err);
            if (r) return r;
            break;
        }
        taken = 1;
        if (rv_pc_intr(m->pc) || m->stop) idle = false;
    }
}

/* Hands a pending interrupt to the CPU if it can take it now. */
static int interrupts(struct rv_machine *m, bool *want_window, struct rv_err *err) {
    const struct rv_engine_ops *e = m->engine->ops;
    if (rv_pc_nmi(m->pc)) {
        e->nmi(m->engine);
        m->halted = false;
    }
    *want_window = false;
    if (!rv_pc_intr(m->pc)) return 0;
    if (!e->interruptible(m->engine)) {
        *want_window = true;
        return 0;
    }
    m->halted = false;
    int r = e->inject(m->engine, rv_pc_ack(m->pc), err);
    if (!r) *want_window = rv_pc_intr(m->pc);
    return r;
}

/* The CPU waits in HLT and nothing is pending: let time pass. */
static int idle(struct rv_machine *m, struct rv_err *err) {
    bool can_wake =
        m->engine->ops->interruptible(m->engine) ? rv_pc_can_wake(m->pc) : rv_pc_can_nmi(m->pc);
    if (!can_wake) {
        board_stop(m, RV_STOP_HALTED, 0);
        return 0;
    }
    int r = pushes(m, true, err);
    return r < 0 ? r : 0;
}

/* The run ended between two traps: learns the state, by which replay will find the place. */
static int make_landmark(struct rv_machine *m, struct rv_err *err) {
    rv_landmark_of(&m->here, m->engine, &m->ram);
    m->landmark = &m->here;
    m->fresh = true;
    return clear_flags(m, m->here.undefined, err);
}

static bool watches(const struct rv_watch *w, const struct rv_watch_hit *hit) {
    for (size_t i = 0; w && i < w->n; i++) {
        const struct rv_watchpoint *p = &w->point[i];
        uint64_t addr = p->physical ? hit->gpa : hit->gva;
        if ((p->access & RV_WATCH_EXEC) && addr - p->addr < p->len) return true;
    }
    return false;
}

/* A hit while a landmark is looked for: where it may be, or what somebody else watches. */
static bool seek_hit(void *ctx, const struct rv_watch_hit *hit) {
    struct rv_machine *m = ctx;
    bool stop = false;
    if (hit->access == RV_WATCH_EXEC && hit->gva == m->here.at) {
        m->found = rv_landmark_is(&m->here, m->engine, &m->ram, &m->candidates);
        stop = m->found;
        if (!watches(m->watch, hit)) return stop;
    }
    m->watch_stop = m->watch->hit(m->watch->ctx, hit);
    return stop || m->watch_stop;
}

/* Runs on until the state is that of a landmark, or to what else ends a run. */
static int seek_landmark(struct rv_machine *m, const struct rv_landmark *wanted, rv_icount until,
                         bool want_window, struct rv_err *err) {
    const struct rv_engine_ops *e = m->engine->ops;
    size_t n = m->watch ? m->watch->n : 0;
    struct rv_watchpoint *points = rv_alloc((n + 1) * sizeof *points);
    if (n) memcpy(points, m->watch->point, n * sizeof *points);
    points[n] = (struct rv_watchpoint){.addr = wanted->at, .len = 1, .access = RV_WATCH_EXEC};
    struct rv_watch both = {.point = points, .n = n + 1, .hit = seek_hit, .ctx = m};
    m->here = *wanted;
    m->watch_stop = false;
    /* Where a run begins nothing is hit. */
    m->found = rv_landmark_is(wanted, m->engine, &m->ram, &m->candidates);
    int r = RV_RUN_WATCH;
    if (!m->found) {
        e->watch(m->engine, &both);
        r = e->run(m->engine, until, want_window, err);
        e->watch(m->engine, m->watch);
    }
    free(points);
    if (r != RV_RUN_WATCH || !m->found) return r;
    m->landmark = &m->here;
    m->fresh = true;
    m->found_count++;
    int code = clear_flags(m, m->here.undefined, err);
    if (code) return code;
    return m->watch_stop ? RV_RUN_WATCH : RV_RUN_FOUND;
}

static int after_run(struct rv_machine *m, int why, struct rv_err *err) {
    if (why == RV_RUN_WATCH || why == RV_RUN_WATCHED) {
        board_stop(m, RV_STOP_WATCH, 0);
        if (why == RV_RUN_WATCH) return 0;
        why = RV_RUN_UNTIL;
    }
    switch (why) {
    case RV_RUN_HALTED:
        m->halted = true;
        m->fresh = true;
        m->traps_seen = ++m->traps;
        return 0;
    case RV_RUN_TRIPLE_FAULT: board_stop(m, RV_STOP_TRIPLE_FAULT, 0); return 0;
    case RV_RUN_STUCK: m->mid_instruction = true; return 0;
    case RV_RUN_UNTIL:
        if (m->config.by_trap)
            m->look = !m->fresh;
        else
            m->fresh = true;
        return 0;
    case RV_RUN_KICKED:
        if (m->config.by_trap) return make_landmark(m, err);
        m->fresh = true;
        return 0;
    case RV_RUN_ATTENTION:
        /* A trap whose instruction faulted in the end has no count of its own: not a place that a
         * count could name later. */
        if (m->config.rate == RV_RATE_HOST && m->traps != m->traps_seen) {
            m->fresh = m->engine->ops->icount(m->engine) == m->trap_icount + 1;
            m->traps_seen = m->traps;
        }
        return 0;
    }
    return 0;
}

/* Lets the engine answer reads of the clock by itself where nothing could be due after one. */
static void allow_reads(struct rv_machine *m, const struct rv_horizon *h, bool want_window) {
    const struct rv_engine_ops *e = m->engine->ops;
    if (!e->reads || m->config.rate != RV_RATE_HOST) return;
    struct rv_clock_reads r = {.max = h->reads,
                               .now = rv_machine_now(m).time,
                               .host_now = h->host_now,
                               .before = h->deadline,
                               .tsc_hz = m->config.profile->tsc_hz};
    /* A digest is taken at the trap of its number. */
    uint64_t left = m->next_digest > m->traps ? m->next_digest - m->traps - 1 : 0;
    if (left < r.max) r.max = (uint32_t)left;
    if (want_window || h->landmark || m->watch) r.max = 0;
    /* Beyond, ticks of the counter would not fit into 64 bits. */
    rv_ns end = r.tsc_hz > RV_NSEC ? UINT64_MAX / r.tsc_hz * RV_NSEC : RV_NEVER - 1;
    if (r.before > end) r.before = end;
    e->reads(m->engine, &r);
}

static int run_engine(struct rv_machine *m, bool want_window, struct rv_err *err) {
    struct rv_point at = rv_machine_now(m);
    bool counts = m->engine->ops->counts;
    struct rv_horizon h = {.deadline = rv_pc_deadline(m->pc), .until = RV_NEVER};
    int r = rv_nondet_horizon(m->nd, at, &h, err);
    if (r) return r;
    allow_reads(m, &h, want_window);
    rv_icount until = counts ? h.until : RV_NEVER;
    if (!m->config.by_trap) {
        rv_icount due = rv_clock_icount(&m->clock, h.deadline);
        if (due < until) until = due;
        if (m->next_digest < until) until = m->next_digest;
    }
    if (until <= at.icount) until = at.icount + 1;
    m->fresh = m->look = false;
    m->landmark = NULL;
    if (h.landmark)
        r = seek_landmark(m, h.landmark, until, want_window, err);
    else
        r = m->engine->ops->run(m->engine, until, want_window, err);
    if (r < 0) return r;
    return after_run(m, r, err);
}

static int loop(struct rv_machine *m, struct rv_err *err) {
    while (m->stop == RV_STOP_NONE) {
        tick(m);
        int r = 0;
        if (m->mid_instruction || m->look) {
            r = pushes(m, false, err);
            if (r < 0) return r;
            if (m->stop) break;
            m->mid_instruction = false;
        } else if (m->fresh) {
            r = digest(m, err);
            if (!r) r = pushes(m, false, err);
            if (r < 0) return r;
            if (m->stop) break;
        }
        bool want_window;
        r = interrupts(m, &want_window, err);
        if (r) return r;
        r = m->halted ? idle(m, err) : run_engine(m, want_window, err);
        if (m->failed) {
            if (err) *err = m->first_error;
            return m->failed;
        }
        if (r < 0) return r;
    }
    return 0;
}

static int run_to_stop(struct rv_machine *m, struct rv_end *end, struct rv_err *err) {
    m->stop = RV_STOP_NONE;
    int r = loop(m, err);
    *end = (struct rv_end){.reason = m->stop,
                           .code = m->stop_code,
                           .at = rv_machine_now(m),
                           .mid_instruction = m->mid_instruction};
    return r;
}

static int finish(struct rv_machine *m, int r, struct rv_end *end, struct rv_err *err) {
    /* Hardware leaves the state undefined at a triple fault (APM vol. 2, 15.14.3); what was seen to
     * differ is RF, which the faults on the way have set. */
    if (!r && end->reason == RV_STOP_TRIPLE_FAULT && m->config.rate == RV_RATE_HOST)
        r = clear_flags(m, RV_FL_RF, err);
    if (!end->mid_instruction) rv_machine_digests(m, &end->cpu_digest, &end->ram_digest);
    if (r) return r;
    return m->nd->ops->stopped(m->nd, end, err);
}

int rv_machine_run(struct rv_machine *m, struct rv_end *end, struct rv_err *err) {
    int r = run_to_stop(m, end, err);
    return finish(m, r, end, err);
}

/* Whether the machine itself ended, so that there is nothing to go on with. */
static bool is_final(enum rv_stop reason) {
    return (reason >= RV_STOP_POWEROFF && reason <= RV_STOP_HALTED) || reason == RV_STOP_ENGINE;
}

int rv_machine_advance(struct rv_machine *m, struct rv_end *end, struct rv_err *err) {
    int r = run_to_stop(m, end, err);
    return r || !is_final(end->reason) ? r : finish(m, r, end, err);
}

void rv_machine_watch(struct rv_machine *m, const struct rv_watch *w) {
    m->watch = w;
    m->engine->ops->watch(m->engine, w);
}

/* ---- state ---- */

/* What the loop itself keeps between two safe points. */
struct loop_state {
    rv_ns jumped;
    uint64_t next_digest, traps, traps_seen, trap_icount;
    uint8_t halted, fresh, look, sampled, at_landmark;
    struct rv_landmark here;
};

static const struct rv_field loop_fields[] = {
    RV_FIELD(struct loop_state, jumped),         RV_FIELD(struct loop_state, next_digest),
    RV_FIELD(struct loop_state, traps),          RV_FIELD(struct loop_state, traps_seen),
    RV_FIELD(struct loop_state, trap_icount),    RV_FIELD(struct loop_state, halted),
    RV_FIELD(struct loop_state, fresh),          RV_FIELD(struct loop_state, look),
    RV_FIELD(struct loop_state, sampled),        RV_FIELD(struct loop_state, at_landmark),
    RV_FIELD(struct loop_state, here.at),        RV_FIELD(struct loop_state, here.gpr),
    RV_FIELD(struct loop_state, here.cpu),       RV_FIELD(struct loop_state, here.ram),
    RV_FIELD(struct loop_state, here.undefined), RV_FIELD_END,
};

int rv_machine_save(const struct rv_machine *m, struct rv_buf *out, struct rv_err *err) {
    if ((!m->fresh && !m->look) || m->mid_instruction)
        return rv_fail(err, RV_E_USAGE, "the machine is between two positions and cannot be saved");
    struct rv_x86 x;
    m->engine->ops->get(m->engine, &x);
    rv_state_save(rv_x86_fields, &x, out);
    rv_pc_save(m->pc, out);
    struct loop_state loop = {.jumped = m->clock.jumped,
                              .next_digest = m->next_digest,
                              .traps = m->traps,
                              .traps_seen = m->traps_seen,
                              .trap_icount = m->trap_icount,
                              .halted = m->halted,
                              .fresh = m->fresh,
                              .look = m->look,
                              .sampled = m->sampled,
                              .at_landmark = m->landmark != NULL,
                              .here = m->here};
    rv_state_save(loop_fields, &loop, out);
    return 0;
}

int rv_machine_load(struct rv_machine *m, struct rv_cursor *in, struct rv_err *err) {
    struct rv_x86 x = {0};
    struct loop_state loop = {0};
    int r = rv_state_load(rv_x86_fields, &x, in, err);
    if (!r) r = rv_profile_allows(m->config.profile, &x, err);
    if (!r) r = m->engine->ops->restore(m->engine, &x, err);
    if (!r) r = rv_pc_load(m->pc, in, err);
    if (!r) r = rv_state_load(loop_fields, &loop, in, err);
    if (r) return r;
    m->clock.jumped = loop.jumped;
    m->next_digest = loop.next_digest;
    m->traps = loop.traps;
    m->traps_seen = loop.traps_seen;
    m->trap_icount = loop.trap_icount;
    m->halted = loop.halted;
    m->fresh = loop.fresh;
    m->look = loop.look;
    m->sampled = loop.sampled;
    m->here = loop.here;
    m->landmark = loop.at_landmark ? &m->here : NULL;
    m->mid_instruction = false;
    m->stop = RV_STOP_NONE;
    m->stop_code = 0;
    m->failed = 0;
    m->bus.attention = false;
    return 0;
}

const struct rv_pc *rv_machine_pc(const struct rv_machine *m) { return m->pc; }
struct rv_ram *rv_machine_ram(struct rv_machine *m) {
    return &m->ram;
}

void rv_machine_landmarks(const struct rv_machine *m, uint64_t *found, uint64_t *candidates) {
    *found = m->found_count;
    *candidates = m->candidates;
}

void rv_machine_kick(struct rv_machine *m) {
    if (m->engine) m->engine->ops->kick(m->engine);
}

const struct rv_profile *rv_machine_profile(const struct rv_machine *m) {
    return m->config.profile;
}
struct rv_engine *rv_machine_engine(struct rv_machine *m) {
    return m->engine;
}

/* ---- names ---- */

static const struct {
    const char *name, *text;
} stops[] = {
    [RV_STOP_NONE] = {"none", "it did not stop"},
    [RV_STOP_POWEROFF] = {"poweroff", "the guest powered off"},
    [RV_STOP_RESET] = {"reset", "the guest asked for a reset"},
    [RV_STOP_TRIPLE_FAULT] = {"triple-fault", "the guest triple-faulted"},
    [RV_STOP_DEBUG_EXIT] = {"debug-exit", "the guest wrote to the debug exit port"},
    [RV_STOP_HALTED] = {"halted", "the guest halted and nothing can wake it"},
    [RV_STOP_INTERRUPT] = {"interrupt", "interrupted by the user"},
    [RV_STOP_TERMINATE] = {"terminate", "asked to terminate"},
    [RV_STOP_TIMEOUT] = {"timeout", "the time allowed was used up"},
    [RV_STOP_MAX_ICOUNT] = {"max-instructions", "the instructions allowed were used up"},
    [RV_STOP_TRACE_END] = {"trace-end", "the trace ends here without saying why"},
    [RV_STOP_TRACE_FULL] = {"trace-full", "the trace could not be written any further"},
    [RV_STOP_TARGET] = {"target", "the position asked for was reached"},
    [RV_STOP_ENGINE] = {"engine", "the CPU engine could not go on"},
    [RV_STOP_WATCH] = {"watch", "something that was watched happened"},
};

const char *rv_stop_name(enum rv_stop reason) {
    return (unsigned)reason < RV_COUNT(stops) ? stops[reason].name : "unknown";
}
const char *rv_stop_text(enum rv_stop reason) {
    return (unsigned)reason < RV_COUNT(stops) ? stops[reason].text : "for an unknown reason";
}

const char *rv_source_name(enum rv_source source) {
    static const char *const names[] = {"none", "console", "debugcon", "clock", "rtc",
                                        "cpu",  "ram",     "entropy",  "mark"};
    return (unsigned)source < RV_COUNT(names) ? names[source] : "unknown";
}
