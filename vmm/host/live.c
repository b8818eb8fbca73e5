#include "vmm/host/live.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/buf.h"
#include "vmm/host/waker.h"

/* Instructions between two looks at the outside: a few milliseconds on the slowest engine. */
#define SLICE (1u << 20)
/* The same while input waits for room in the guest's device. */
#define INPUT_SLICE (1u << 13)
/* A guest that runs ahead of the wall by less than this is not held back, and one that lags by less
 * is not pushed: each costs something. */
#define PACE_SLACK 10000000ull /* ns */
/* A busy guest that lags is pushed along in steps of at most this, never past its next timer, and
 * in shorter slices: it must find time to take every tick, or its own checks of one clock against
 * another fail. */
#define PACE_STEP  4000000ull /* ns */
#define PACE_SLICE (1u << 18)
/* A guest that lags by more - its host slept, or is far too slow - does not have to catch up. */
#define PACE_GIVE_UP (2 * RV_NSEC)
#define ESCAPE       0x1d /* Ctrl-] */
/* A timer that is due is served at the next trap, which costs nothing; a kick and the landmark
 * after it cost up to milliseconds. So the kick waits for a trap: as many times as long as kicks
 * have taken so far, which bounds their part of the time however fast the guest's timers are. */
#define PATIENCE     4u
#define PATIENCE_MIN 100000ull   /* ns */
#define PATIENCE_MAX 10000000ull /* ns */

struct rv_live {
    struct rv_nondet nd;
    struct rv_live_config config;
    uint64_t started;       /* wall ns, monotonic */
    bool lagging;           /* behind the wall at the last look */
    rv_icount pushed_at;    /* where time was last pushed along */
    struct rv_waker *waker; /* NULL: the engine comes back by itself */
    uint64_t kick_at;       /* for a timer, wall ns; RV_NEVER: none */
    uint64_t kick_cost;     /* ns from such a kick to the landmark that it led to; a moving mean */
    bool eof;
    bool escaped;
    uint8_t in[256];
    size_t in_pos, in_len;
};

static struct rv_live *of(struct rv_nondet *nd) { return (struct rv_live *)nd; }

static uint64_t wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * RV_NSEC + (uint64_t)t.tv_nsec;
}

static int live_query(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                      uint64_t *value, struct rv_err *err) {
    if (source == RV_SRC_ENTROPY) {
        if (getrandom(value, sizeof *value, 0) != sizeof *value)
            return rv_fail_errno(err, RV_E_HOST, "the host gives no random bits");
        return 0;
    }
    if (source == RV_SRC_CLOCK) {
        uint64_t elapsed = wall() - of(nd)->started;
        *value = elapsed > at.time ? elapsed - at.time : 0;
        return 0;
    }
    if (source != RV_SRC_RTC)
        return rv_fail(err, RV_E_BUG, "no value for source %d at %llu", source,
                       (unsigned long long)at.icount);
    *value = (uint64_t)time(NULL);
    return 0;
}

static int live_taken(struct rv_nondet *nd, struct rv_point at, enum rv_source source,
                      uint64_t value, struct rv_err *err) {
    (void)nd, (void)at, (void)source, (void)value, (void)err;
    return 0;
}

/* Takes escape sequences out of what was typed. */
static void filter_escapes(struct rv_live *l, int *stop) {
    size_t out = 0;
    for (size_t i = 0; i < l->in_len; i++) {
        uint8_t b = l->in[i];
        if (!l->escaped) {
            if (b == ESCAPE)
                l->escaped = true;
            else
                l->in[out++] = b;
            continue;
        }
        l->escaped = false;
        if (b == 'c')
            l->in[out++] = 3;
        else if (b == 'q')
            *stop = RV_STOP_INTERRUPT;
        else
            l->in[out++] = b;
    }
    l->in_len = out;
}

/* Waits up to timeout_ns for input (0: only looks) and reads what is there. */
static void fill_input(struct rv_live *l, uint64_t timeout_ns, int *stop) {
    /* With input in hand that the guest does not take yet there is nothing to read, only to wait.
     */
    bool waiting = l->in_pos < l->in_len;
    if (!waiting) l->in_pos = l->in_len = 0;
    if (waiting || l->config.input_fd < 0 || l->eof) {
        if (timeout_ns) {
            struct timespec t = {.tv_sec = (time_t)(timeout_ns / RV_NSEC),
                                 .tv_nsec = (long)(timeout_ns % RV_NSEC)};
            nanosleep(&t, NULL); /* a signal ends it early, which is what we want */
        }
        return;
    }
    struct pollfd p = {.fd = l->config.input_fd, .events = POLLIN};
    struct timespec t = {.tv_sec = (time_t)(timeout_ns / RV_NSEC),
                         .tv_nsec = (long)(timeout_ns % RV_NSEC)};
    if (ppoll(&p, 1, &t, NULL) <= 0) return;
    ssize_t n = read(l->config.input_fd, l->in, sizeof l->in);
    if (n > 0) {
        l->in_len = (size_t)n;
        if (l->config.escape) filter_escapes(l, stop);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        l->eof = true;
    }
}

static bool give_input(struct rv_live *l, size_t room, struct rv_push *out) {
    size_t n = l->in_len - l->in_pos;
    if (n > room) n = room;
    if (!n) return false;
    *out = (struct rv_push){
        .kind = RV_PUSH_INPUT, .source = RV_SRC_CONSOLE, .data = l->in + l->in_pos, .len = n};
    l->in_pos += n;
    return true;
}

static bool give_stop(struct rv_live *l, const struct rv_next *q, int stop, struct rv_push *out) {
    if (!stop && l->config.stop_request) stop = atomic_load(l->config.stop_request);
    if (!stop && q->at.icount >= l->config.max_icount) stop = RV_STOP_MAX_ICOUNT;
    if (stop) *out = (struct rv_push){.kind = RV_PUSH_STOP, .value = (uint64_t)stop};
    return stop;
}

/* Moves a busy guest's time towards the wall's, if it lags. */
static bool push_along(struct rv_live *l, const struct rv_next *q, uint64_t elapsed,
                       struct rv_push *out) {
    l->lagging = l->config.pace && elapsed > q->at.time + PACE_SLACK;
    if (!l->lagging) return false;
    if (elapsed - q->at.time > PACE_GIVE_UP) {
        l->started += elapsed - q->at.time;
        return false;
    }
    rv_ns to = q->at.time + PACE_STEP;
    if (to > elapsed) to = elapsed;
    if (to > q->deadline) to = q->deadline;
    /* One step a slice: the guest runs between two of them. */
    if (to <= q->at.time || l->pushed_at == q->at.icount) return false;
    l->pushed_at = q->at.icount;
    *out = (struct rv_push){.kind = RV_PUSH_JUMP, .source = RV_SRC_CLOCK, .time = to};
    return true;
}

/* How long an idle wait may last before stop requests and the timeout are looked at again. */
#define IDLE_SLICE 100000000ull /* ns */

static uint64_t patience(const struct rv_live *l) {
    uint64_t ns = PATIENCE * l->kick_cost;
    if (ns < PATIENCE_MIN) ns = PATIENCE_MIN;
    return ns < PATIENCE_MAX ? ns : PATIENCE_MAX;
}

/* The guest came to a landmark, where only a kick can have brought it. */
static void learn_kick_cost(struct rv_live *l) {
    uint64_t now = wall();
    if (now < l->kick_at) return;
    uint64_t cost = now - l->kick_at;
    /* Most of a long one is what else the host had to do. */
    if (cost > PATIENCE_MAX) cost = PATIENCE_MAX;
    l->kick_cost = (7 * l->kick_cost + cost) / 8;
    l->kick_at = RV_NEVER;
}

static int live_next(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                     struct rv_err *err) {
    (void)err;
    struct rv_live *l = of(nd);
    if (q->landmark) learn_kick_cost(l);
    for (;;) {
        int stop = 0;
        fill_input(l, 0, &stop);
        if (give_stop(l, q, stop, out)) return 0;
        if (q->only_stop) {
            *out = (struct rv_push){0};
            return 0;
        }
        if (give_input(l, q->input_room, out)) return 0;
        uint64_t elapsed = wall() - l->started;
        bool ahead = l->config.pace && q->at.time > elapsed + PACE_SLACK;
        if (!q->idle && l->config.host_time) {
            *out = (struct rv_push){0};
            if (elapsed >= q->deadline && elapsed > q->at.time)
                *out =
                    (struct rv_push){.kind = RV_PUSH_JUMP, .source = RV_SRC_CLOCK, .time = elapsed};
            return 0;
        }
        if (!q->idle) {
            if (ahead) {
                uint64_t wait = q->at.time - elapsed;
                fill_input(l, wait < IDLE_SLICE ? wait : IDLE_SLICE, &stop);
                if (give_stop(l, q, stop, out) || give_input(l, q->input_room, out)) return 0;
                if (wait > IDLE_SLICE) continue;
            } else if (push_along(l, q, elapsed, out)) {
                return 0;
            }
            *out = (struct rv_push){0};
            return 0;
        }
        bool waits_for_input = l->config.input_fd >= 0 && !l->eof && q->input_room;
        if (q->deadline == RV_NEVER && !waits_for_input) {
            *out = (struct rv_push){.kind = RV_PUSH_STOP, .value = RV_STOP_HALTED};
            return 0;
        }
        bool due = !l->config.pace ? q->deadline != RV_NEVER : q->deadline <= elapsed;
        if (due) {
            /* Unpaced host time runs on from where the idle guest was sent. */
            if (l->config.host_time && q->deadline > elapsed) l->started -= q->deadline - elapsed;
            *out =
                (struct rv_push){.kind = RV_PUSH_JUMP, .source = RV_SRC_CLOCK, .time = q->deadline};
            return 0;
        }
        uint64_t wait = IDLE_SLICE;
        if (l->config.pace && q->deadline - elapsed < wait) wait = q->deadline - elapsed;
        fill_input(l, wait, &stop);
        if (give_stop(l, q, stop, out)) return 0;
        if (l->in_pos < l->in_len && l->config.pace) {
            /* What was typed now happens now: move guest time up to the wall first. */
            elapsed = wall() - l->started;
            if (elapsed > q->deadline) elapsed = q->deadline;
            if (elapsed > q->at.time) {
                *out =
                    (struct rv_push){.kind = RV_PUSH_JUMP, .source = RV_SRC_CLOCK, .time = elapsed};
                return 0;
            }
        }
    }
}

static int live_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                        struct rv_err *err) {
    (void)err;
    struct rv_live *l = of(nd);
    if (l->waker) {
        bool wants_input = l->config.input_fd >= 0 && !l->eof && l->in_pos == l->in_len;
        l->kick_at = h->deadline == RV_NEVER ? RV_NEVER : l->started + h->deadline + patience(l);
        rv_waker_set(l->waker, l->kick_at, wants_input ? l->config.input_fd : -1);
    }
    uint32_t slice = l->in_pos < l->in_len ? INPUT_SLICE : l->lagging ? PACE_SLICE : SLICE;
    h->until = at.icount + slice;
    if (l->config.max_icount > at.icount && l->config.max_icount < h->until)
        h->until = l->config.max_icount;
    if (l->config.host_time) {
        h->reads = UINT32_MAX;
        h->host_now = wall() - l->started;
    }
    return 0;
}

static int live_effect(struct rv_nondet *nd, struct rv_point at, enum rv_source sink,
                       const void *data, size_t len, struct rv_err *err) {
    (void)at;
    struct rv_live *l = of(nd);
    int fd = sink == RV_SRC_CONSOLE    ? l->config.output_fd
             : sink == RV_SRC_DEBUGCON ? l->config.debugcon_fd
                                       : -1;
    const uint8_t *p = data;
    while (fd >= 0 && len) {
        ssize_t n = write(fd, p, len);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) {
                struct pollfd w = {.fd = fd, .events = POLLOUT};
                poll(&w, 1, -1);
                continue;
            }
            return rv_fail_errno(err, RV_E_HOST, "cannot write the guest's console output");
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int live_digest(struct rv_nondet *nd, struct rv_point at, enum rv_source what,
                       uint64_t value, struct rv_err *err) {
    (void)nd, (void)at, (void)what, (void)value, (void)err;
    return 0;
}

static int live_stopped(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err) {
    (void)nd, (void)end, (void)err;
    return 0;
}

static const struct rv_nondet_ops live_ops = {
    .query = live_query,
    .taken = live_taken,
    .next = live_next,
    .horizon = live_horizon,
    .effect = live_effect,
    .digest = live_digest,
    .stopped = live_stopped,
};

int rv_live_new(struct rv_live **out, const struct rv_live_config *config, struct rv_err *err) {
    (void)err;
    struct rv_live *l = rv_alloc(sizeof *l);
    l->nd.ops = &live_ops;
    l->config = *config;
    l->started = wall();
    l->kick_at = RV_NEVER;
    *out = l;
    return 0;
}

int rv_live_kick_with(struct rv_live *l, void (*kick)(void *ctx), void *ctx, struct rv_err *err) {
    return rv_waker_new(&l->waker, kick, ctx, err);
}

void rv_live_free(struct rv_live *l) {
    if (l) rv_waker_free(l->waker);
    free(l);
}
struct rv_nondet *rv_live_nondet(struct rv_live *l) {
    return &l->nd;
}
