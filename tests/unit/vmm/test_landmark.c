/* Recordings in which nobody counts instructions, as on hardware: made with an engine that runs for
 * a random while and then says only that it was kicked, replayed on the interpreter. The guests'
 * own output says where each interrupt came. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "record/session.h"
#include "replay/session.h"
#include "trace-format/clocks.h"
#include "vmm/base/buf.h"
#include "vmm/host/file.h"

/* ---- an engine that does not count ---- */

static uint64_t dice;
static uint64_t roll(uint64_t n) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % n;
}

static struct rv_engine_ops blind;

/* Between the interpreter and the machine: what stands in for the shim, which answers reads of the
 * clock by itself. */
static struct {
    struct rv_cpu_bus bus, *machine;
    struct rv_clock_reads reads;
    unsigned told;
    bool strays; /* AF is undefined wherever the engine is kicked, and another than in replay */
    bool secret; /* and it does not say so */
} shim;

static void shim_exit(void *ctx, struct rv_exit *x) {
    (void)ctx;
    shim.machine->exit(shim.machine->ctx, x);
    shim.bus.attention = shim.machine->attention;
    shim.machine->attention = false;
}

static uint64_t shim_tsc(void *ctx) {
    (void)ctx;
    uint64_t step = rv_clock_round(roll(3000));
    struct rv_clock_reads *r = &shim.reads;
    if (r->max && r->now + step < r->before) {
        r->max--;
        r->now += step;
        shim.told++;
        shim.machine->took(shim.machine->ctx, step);
        return (uint64_t)((unsigned __int128)r->now * r->tsc_hz / RV_NSEC);
    }
    uint64_t tsc = shim.machine->tsc(shim.machine->ctx);
    shim.bus.attention = shim.machine->attention;
    shim.machine->attention = false;
    return tsc;
}

static int blind_create(struct rv_engine **out, struct rv_ram *ram, struct rv_cpu_bus *bus,
                        const struct rv_profile *profile, struct rv_err *err) {
    shim.machine = bus;
    shim.bus = *bus;
    shim.bus.exit = shim_exit;
    shim.bus.tsc = shim_tsc;
    int r = rv_engine_interpret.create(out, ram, &shim.bus, profile, err);
    if (!r) (*out)->ops = &blind;
    return r;
}

static void blind_reads(struct rv_engine *e, const struct rv_clock_reads *r) {
    (void)e;
    shim.reads = *r;
}

static uint32_t blind_undefined_flags(struct rv_engine *e) {
    (void)e;
    return shim.strays && !shim.secret ? RV_FL_AF : 0;
}

static int blind_run(struct rv_engine *e, rv_icount until, bool want_window, struct rv_err *err) {
    (void)until;
    rv_icount stop = e->ops->icount(e) + 1 + roll(20000);
    int r = rv_engine_interpret.run(e, stop, want_window, err);
    if (r != RV_RUN_UNTIL) return r;
    if (shim.strays) {
        struct rv_x86 x;
        rv_engine_interpret.get(e, &x);
        x.rflags ^= roll(2) ? RV_FL_AF : 0;
        rv_engine_interpret.restore(e, &x, err);
    }
    return RV_RUN_KICKED;
}

/* ---- a host whose clock moves as it likes ---- */

struct host {
    struct rv_nondet nd;
    rv_ns ahead; /* of the guest's time */
    unsigned landmarks;
    struct rv_buf shown;
};

static int host_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                      uint64_t *value, struct rv_err *err) {
    (void)at, (void)err;
    struct host *h = (struct host *)nd;
    *value = source == RV_SRC_RTC ? 1700000000 : 0x0123456789abcdef;
    if (source != RV_SRC_CLOCK) return 0;
    *value = h->ahead + roll(3000);
    h->ahead = 0;
    return 0;
}

static int host_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                     struct rv_err *err) {
    (void)err;
    struct host *h = (struct host *)nd;
    *out = (struct rv_push){0};
    if (q->only_stop) return 0;
    h->ahead += roll(8000);
    if (q->idle || q->at.time + h->ahead >= q->deadline) {
        *out = (struct rv_push){.kind = RV_PUSH_JUMP,
                                .source = RV_SRC_CLOCK,
                                .time = q->idle ? q->deadline : q->at.time + h->ahead};
        if (out->time <= q->at.time) out->time = q->at.time + 1;
        h->ahead = 0;
        h->landmarks += q->landmark != NULL;
    }
    return 0;
}

static int host_taken(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                      uint64_t value, struct rv_err *err) {
    (void)nd, (void)at, (void)source, (void)value, (void)err;
    return 0;
}

static int host_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                        struct rv_err *err) {
    (void)nd, (void)err;
    h->until = at.icount + (1u << 20);
    h->reads = (uint32_t)roll(40);
    return 0;
}

static int host_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                       const void *data, size_t len, struct rv_err *err) {
    (void)at, (void)err;
    if (sink == RV_SRC_CONSOLE) rv_buf_put(&((struct host *)nd)->shown, data, len);
    return 0;
}

static int host_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                       uint64_t value, struct rv_err *err) {
    (void)nd, (void)at, (void)what, (void)value, (void)err;
    return 0;
}

static int host_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    (void)nd, (void)end, (void)err;
    return 0;
}

static const struct rv_nondet_ops host_ops = {
    .query = host_query,
    .taken = host_taken,
    .next = host_next,
    .horizon = host_horizon,
    .effect = host_effect,
    .digest = host_digest,
    .stopped = host_stopped,
};

static char trace_path[64];

static void begin(void) {
    snprintf(trace_path, sizeof trace_path, "/tmp/rv-landmark-%d.retro", getpid());
    blind = rv_engine_interpret;
    blind.name = "blind";
    blind.counts = false;
    blind.create = blind_create;
    blind.run = blind_run;
    blind.reads = blind_reads;
    blind.undefined_flags = blind_undefined_flags;
}

static void end(void) { remove(trace_path); }

static struct rv_end record(const char *guest, const char *cmdline, struct host *h) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s.img", RV_GUESTS, guest);
    uint8_t *data;
    size_t len;
    struct rv_err err = {0};
    cr_assert_eq(rv_file_read(path, 1 << 20, &data, &len, &err), 0, "%s", err.msg);
    struct rv_record_config rc = {
        .path = trace_path,
        .overwrite = true,
        .embed_images = true,
        .machine = {.memory = 4 << 20,
                    .engine = &blind,
                    .profile = &rv_profile_v2,
                    .rate = RV_RATE_HOST,
                    .by_trap = true,
                    .digest_every = 100,
                    .boot = {.kernel = {guest, data, len}, .cmdline = cmdline}},
    };
    struct rv_record *r;
    struct rv_end e;
    cr_assert_eq(rv_record_begin(&r, &rc, &h->nd, NULL, NULL, &err), 0, "%s", err.msg);
    cr_assert_eq(rv_record_run(r, &e, &err), 0, "%s", err.msg);
    rv_record_free(r);
    free(data);
    return e;
}

static int replay(const char *path, struct host *screen, struct rv_end *e, struct rv_err *err) {
    struct rv_replay_config config = {.path = path,
                                      .player = {.target = RV_NEVER, .output = &screen->nd}};
    struct rv_replay *r;
    *e = (struct rv_end){0};
    int code = rv_replay_begin(&r, &config, NULL, NULL, err);
    if (code) return code;
    code = rv_replay_run(r, e, err);
    rv_replay_free(r);
    return code;
}

TestSuite(landmark, .init = begin, .fini = end);

static void both(const char *guest, const char *cmdline, uint64_t seed, unsigned *landmarks) {
    dice = seed;
    struct host h = {.nd.ops = &host_ops}, screen = {.nd.ops = &host_ops};
    struct rv_end was = record(guest, cmdline, &h), is;
    cr_assert_eq(was.reason, RV_STOP_DEBUG_EXIT);
    struct rv_err err = {0};
    cr_assert_eq(replay(trace_path, &screen, &is, &err), 0, "seed %" PRIu64 ": %s", seed, err.msg);
    cr_expect_eq(is.reason, was.reason);
    cr_expect_eq(is.code, was.code);
    cr_expect_eq(is.at.trap, was.at.trap);
    cr_expect_eq(is.cpu_digest, was.cpu_digest);
    cr_expect_eq(is.ram_digest, was.ram_digest);
    cr_expect_eq(screen.shown.len, h.shown.len);
    cr_expect_arr_eq(screen.shown.data, h.shown.data, h.shown.len);
    rv_buf_release(&h.shown);
    rv_buf_release(&screen.shown);
    *landmarks += h.landmarks;
}

Test(landmark, finds_places_that_are_hard_to_tell_apart) {
    unsigned landmarks = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) both("spin", "", seed, &landmarks);
    cr_expect_gt(landmarks, 30, "only %u landmarks were needed", landmarks);
}

Test(landmark, replays_guests_that_trap_often) {
    unsigned landmarks = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        both("paging", "", seed, &landmarks);
        both("system", "", seed, &landmarks);
        both("smc", "", seed, &landmarks);
        both("modes", "", seed, &landmarks);
        both("fpu", "", seed, &landmarks);
        both("timers", "", seed, &landmarks);
    }
}

Test(landmark, replays_reads_of_the_clock_that_the_machine_was_not_asked_for) {
    unsigned landmarks = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) both("timers", "", seed, &landmarks);
    cr_expect_gt(shim.told, 100, "only %u reads were answered by the engine", shim.told);
}

Test(landmark, follows_flags_that_nothing_defines) {
    unsigned landmarks = 0;
    shim.strays = true;
    for (uint64_t seed = 1; seed <= 4; seed++) both("spin", "", seed, &landmarks);
    cr_expect_gt(landmarks, 30, "only %u landmarks were needed", landmarks);
}

/* A processor of which not all is known: what agreed of its recording is there to be looked at. */
Test(landmark, keeps_what_agreed_of_a_recording_that_diverges) {
    dice = 5;
    shim.strays = shim.secret = true;
    struct host h = {.nd.ops = &host_ops}, screen = {.nd.ops = &host_ops};
    record("spin", "", &h);
    struct rv_end is;
    struct rv_err err = {0};
    cr_assert_eq(replay(trace_path, &screen, &is, &err), RV_E_DIVERGED);
    char kept[80], command[512];
    snprintf(kept, sizeof kept, "%s.kept", trace_path);
    snprintf(command, sizeof command, "%s lift -o %s %s 2>%s.log", RV_RETRO, kept, trace_path,
             trace_path);
    int status = system(command);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 5, "%s: %x", command, (unsigned)status);
    struct host again = {.nd.ops = &host_ops};
    cr_assert_eq(replay(kept, &again, &is, &err), 0, "%s", err.msg);
    cr_expect_eq(is.reason, RV_STOP_TRACE_END);
    cr_expect_gt(is.at.icount, 1000);
    cr_assert(again.shown.len && again.shown.len <= h.shown.len);
    cr_expect_arr_eq(again.shown.data, h.shown.data, again.shown.len);
    rv_buf_release(&h.shown);
    rv_buf_release(&screen.shown);
    rv_buf_release(&again.shown);
    snprintf(command, sizeof command, "%s.log", trace_path);
    remove(command);
    remove(kept);
}

/* After lifting, the trace is like one that was recorded with a count. */
Test(landmark, lifts) {
    static const char *const names[] = {"spin", "timers", "system", "clock"};
    for (unsigned n = 0; n < RV_COUNT(names); n++) {
        dice = 77;
        shim.strays = n == 0;
        struct host h = {.nd.ops = &host_ops}, screen = {.nd.ops = &host_ops};
        struct rv_end was = record(names[n], "", &h), is;
        char lifted[80], command[512];
        snprintf(lifted, sizeof lifted, "%s.lifted", trace_path);
        snprintf(command, sizeof command, "%s lift -o %s %s 2>%s.log", RV_RETRO, lifted, trace_path,
                 trace_path);
        cr_assert_eq(system(command), 0, "%s: see %s.log", command, trace_path);
        struct rv_trace_reader *r;
        struct rv_err err = {0};
        cr_assert_eq(rv_trace_reader_open(&r, lifted, &err), 0, "%s", err.msg);
        struct rv_trace_stats stats;
        cr_assert_eq(rv_trace_reader_stats(r, &stats, &err), 0, "%s", err.msg);
        cr_expect_eq(stats.events[RV_TRACE_LANDMARK], 0);
        rv_trace_reader_free(r);
        cr_assert_eq(replay(lifted, &screen, &is, &err), 0, "%s", err.msg);
        cr_expect_eq(is.cpu_digest, was.cpu_digest);
        cr_expect_eq(is.ram_digest, was.ram_digest);
        cr_expect_gt(is.at.icount, was.at.trap);
        cr_expect_eq(screen.shown.len, h.shown.len);
        cr_expect_arr_eq(screen.shown.data, h.shown.data, h.shown.len);
        rv_buf_release(&h.shown);
        rv_buf_release(&screen.shown);
        snprintf(command, sizeof command, "%s.log", trace_path);
        remove(command);
        remove(lifted);
    }
}
