/* The choke point: everything nondeterministic that reaches the machine, and everything the machine
 * does to the outside, passes these verbs. Behind them stands the host (live), a recorder that
 * wraps the host, or a player that reads a trace; the machine cannot tell which. */
#ifndef RV_VMM_NONDET_H
#define RV_VMM_NONDET_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/dev/dev.h"

/* Where the machine is. Events are ordered by (position, time): time moves while the position
 * stands still when the guest idles. The position is icount, or the trap where the machine's
 * configuration says so (docs/determinism.md, "Positions on hardware"). */
struct rv_point {
    rv_icount icount; /* 0 on an engine that does not count */
    rv_ns time;
    uint64_t trap; /* instructions and accesses that left the CPU so far: ports, memory-mapped
                      registers, board MSRs, time-stamp reads, HLT */
};

#define RV_LANDMARK_WORDS 3

/* The state of the CPU and of memory between two traps, where nothing can be counted. A state that
 * equals it in everything has the same future, so it is the same place. All hashes are XXH3-64. */
struct rv_landmark {
    uint64_t at;  /* linear address of the next instruction */
    uint64_t gpr; /* of the 16 general registers: a quick first comparison */
    uint64_t cpu; /* of all CPU state but the count of instructions */
    uint64_t ram; /* rv_ram_digest */
    /* Of RFLAGS, bits that the manual leaves undefined here, so that processors differ in them:
     * they count, and are made, 0. */
    uint32_t undefined;
    /* Words of memory that were written just before: they tell most places apart whose registers
     * are equal, at less cost than all of memory. */
    unsigned words; /* at most RV_LANDMARK_WORDS */
    struct rv_word {
        rv_gpa gpa; /* of 8 bytes of RAM, aligned */
        uint64_t value;
    } word[RV_LANDMARK_WORDS];
};
/* In a trace: gpr, cpu and words, and the undefined flags unless there are none. */
#define RV_LANDMARK_BYTES (16 + 16 * RV_LANDMARK_WORDS + 1)

enum rv_push_kind {
    RV_PUSH_NONE = 0,
    RV_PUSH_INPUT = 1, /* data, len: bytes for source */
    RV_PUSH_JUMP = 2,  /* guest time moves on to `time` */
    RV_PUSH_STOP = 3,  /* stop: reason in value (enum rv_stop) */
    RV_PUSH_FLAGS = 4, /* the arithmetic flags in value, which are undefined here, become 0 */
};

/* Something the host pushes into the machine at a safe point. data belongs to the giver and is
 * valid until the next call of any verb. */
struct rv_push {
    enum rv_push_kind kind;
    enum rv_source source;
    rv_ns time; /* JUMP: the new guest time, above the point's and at most the idle deadline */
    uint64_t value;
    const uint8_t *data;
    size_t len;
};

/* Asked at every safe point. */
struct rv_next {
    struct rv_point at;
    bool idle;         /* the guest waits in HLT with interrupts on */
    rv_ns deadline;    /* idle: when the next timer is due, or RV_NEVER */
    size_t input_room; /* bytes the console would take now */
    bool only_stop;    /* no place that could be found again: nothing but a stop may be given */
    const struct rv_landmark *landmark; /* between two traps; else NULL */
};

/* How far the machine may run before next() is asked again. */
struct rv_horizon {
    rv_ns deadline;  /* in: when the next timer is due, or RV_NEVER */
    rv_icount until; /* out: not beyond this count; engines that count only */
    /* out: stop in the first state that equals this one, at this trap; NULL: none. Valid until the
     * next call of any verb. */
    const struct rv_landmark *landmark;
    /* out: so often the guest may be given the host's clock without query(), if it is then told by
     * taken(); 0: not at all. host_now is what guest time would be now by that clock. */
    uint32_t reads;
    rv_ns host_now;
};

/* How a run ended. */
struct rv_end {
    enum rv_stop reason;
    uint32_t code; /* as given by the device that stopped the machine */
    struct rv_point at;
    uint64_t cpu_digest, ram_digest; /* of the final state */
    bool mid_instruction; /* stopped by force inside an instruction that does not end: no digest */
};

struct rv_nondet {
    const struct rv_nondet_ops *ops;
};

/* All return 0 or a negative rv_code with *err filled. */
struct rv_nondet_ops {
    /* The guest pulls a value at an instruction that traps in every engine. RV_SRC_CLOCK: *value is
     * the nanoseconds that went by since at.time. */
    int (*query)(struct rv_nondet *nd, struct rv_point at, enum rv_source source, uint64_t *value,
                 struct rv_err *err);

    /* The guest pulled a value as query() gives them, which horizon() had allowed. NULL: this one
     * does not want to learn of it, and whoever asks its horizon() sets `reads` to 0. */
    int (*taken)(struct rv_nondet *nd, struct rv_point at, enum rv_source source, uint64_t value,
                 struct rv_err *err);

    /* The next thing the host pushes at this point, or RV_PUSH_NONE. Called again until NONE. When
     * q->idle, the answer is never NONE: input, a jump to q->deadline or before it, or a stop; the
     * giver may wait for it in real time. */
    int (*next)(struct rv_nondet *nd, const struct rv_next *q, struct rv_push *out,
                struct rv_err *err);

    /* Fills in *h: until lies above at.icount. Called before the guest runs on. */
    int (*horizon)(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                   struct rv_err *err);

    /* Guest output to sink. */
    int (*effect)(struct rv_nondet *nd, struct rv_point at, enum rv_source sink, const void *data,
                  size_t len, struct rv_err *err);

    /* A digest of the machine's state, at points that the machine chooses by icount alone. */
    int (*digest)(struct rv_nondet *nd, struct rv_point at, enum rv_source what, uint64_t value,
                  struct rv_err *err);

    /* The run ended, for whatever reason: the last call. */
    int (*stopped)(struct rv_nondet *nd, const struct rv_end *end, struct rv_err *err);
};

/* nd's horizon(), without what nd cannot be told of. */
static inline int rv_nondet_horizon(struct rv_nondet *nd, struct rv_point at, struct rv_horizon *h,
                                    struct rv_err *err) {
    int r = nd->ops->horizon(nd, at, h, err);
    if (!nd->ops->taken) h->reads = 0;
    return r;
}

#endif
