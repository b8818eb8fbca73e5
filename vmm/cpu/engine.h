/* The interface of a CPU engine: something that runs guest instructions. An engine stops exactly
 * where it was told or returns an error. */
#ifndef RV_VMM_CPU_ENGINE_H
#define RV_VMM_CPU_ENGINE_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/cpu/count.h"
#include "vmm/cpu/profile.h"
#include "vmm/cpu/quirks.h"
#include "vmm/cpu/watch.h"
#include "vmm/cpu/x86.h"
#include "vmm/exit.h"
#include "vmm/mem/ram.h"

/* What an engine is given to reach the rest of the machine. */
struct rv_cpu_bus {
    void *ctx;
    /* Completes an exit. The engine has made its icount exact before: instructions retired so far,
     * not counting the one that exits. */
    void (*exit)(void *ctx, struct rv_exit *x);
    /* Guest time of the current instruction in TSC ticks, before the guest's own offset. */
    uint64_t (*tsc)(void *ctx);
    /* The engine gave the guest the time by itself, as reads() allowed: `ns` later than before. */
    void (*took)(void *ctx, uint64_t ns);
    /* Set by the machine during an exit or tsc(): return from run() after the current instruction.
     */
    bool attention;
    uint64_t quirks; /* enum rv_quirk bits that software has to follow */
};

enum rv_run {
    RV_RUN_UNTIL = 0,    /* icount is what was asked for */
    RV_RUN_ATTENTION,    /* bus->attention was set by an exit */
    RV_RUN_WINDOW,       /* the CPU can take an interrupt now, as asked */
    RV_RUN_HALTED,       /* HLT retired */
    RV_RUN_TRIPLE_FAULT, /* shutdown state */
    RV_RUN_KICKED,       /* kick() was called; between two instructions */
    RV_RUN_STUCK,        /* kick() was called, in one instruction that does not end */
    RV_RUN_WATCH,        /* a hit said stop, before the next instruction; running on is no change */
    RV_RUN_WATCHED,      /* a hit said stop, right after an instruction retired: as UNTIL is */
};

/* What an engine needs to tell the guest the time without asking. A read moves guest time to that
 * of the host's clock, rounded down to what rv_clock_round gives. */
struct rv_clock_reads {
    uint32_t max;    /* reads; 0: not at all */
    rv_ns now;       /* guest time */
    rv_ns host_now;  /* guest time by the host's clock */
    rv_ns before;    /* a read that would move guest time here or beyond has to be asked for */
    uint64_t tsc_hz; /* ticks a second of guest time */
};

struct rv_engine {
    const struct rv_engine_ops *ops;
};

struct rv_engine_ops {
    const char *name;
    /* Knows icount at every exit and can stop at any; else positions are traps (KVM). */
    bool counts;

    int (*create)(struct rv_engine **out, struct rv_ram *ram, struct rv_cpu_bus *bus,
                  const struct rv_profile *profile, struct rv_err *err);
    void (*destroy)(struct rv_engine *e);

    /* Runs until icount == until or an earlier reason (enum rv_run), which is returned; negative on
     * error. With want_window, stops as soon as an external interrupt could be taken. */
    int (*run)(struct rv_engine *e, rv_icount until, bool want_window, struct rv_err *err);

    /* True when an external interrupt could be taken before the next instruction. */
    bool (*interruptible)(struct rv_engine *e);
    /* Takes external interrupt vector now; only when interruptible. Wakes from HLT. */
    int (*inject)(struct rv_engine *e, unsigned vector, struct rv_err *err);
    /* Latches an NMI, delivered by run() as soon as it is not blocked. Wakes from HLT. */
    void (*nmi)(struct rv_engine *e);

    rv_icount (*icount)(struct rv_engine *e);
    void (*get)(struct rv_engine *e, struct rv_x86 *out);
    /* set: RAM may have been changed in any way. restore: as set, when since the engine last ran
     * RAM was changed through rv_ram_write alone, so that what is known of its code may be kept. */
    int (*set)(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err);
    int (*restore)(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err);

    /* Watches from the next run() on; NULL: nothing. *w and its points are borrowed until they are
     * replaced. Code and memory that cannot hit run as fast as before. */
    void (*watch)(struct rv_engine *e, const struct rv_watch *w);

    /* Counts executed instructions (vmm/cpu/count.h) from zero on, or not any more. Runs as fast as
     * before when it does not. NULL, and so counted: the engine cannot. Called between runs. */
    void (*count)(struct rv_engine *e, bool on);
    /* Keeps what is executed from now on apart under this tag. Called between runs, or in a hit()
     * of an EXEC watch: then from that instruction on. Only while counting; count(true) sets 0. */
    void (*count_as)(struct rv_engine *e, uint64_t tag);
    /* What was counted since, in no order; nothing is changed by it. */
    void (*counted)(struct rv_engine *e, void (*each)(void *ctx, const struct rv_count *count),
                    void *ctx);

    /* Where the guest wrote last before a run() that ended with RV_RUN_KICKED: up to max different
     * addresses, aligned to 8, and how many. NULL: not known. */
    unsigned (*recent_writes)(struct rv_engine *e, rv_gpa *gpa, unsigned max);

    /* The arithmetic flags that the manual leaves undefined where a run() ended with RV_RUN_KICKED,
     * as far as that is known. NULL: it is not. */
    uint32_t (*undefined_flags)(struct rv_engine *e);

    /* Allows reads of the clock in the next run(); what was allowed before ends. NULL: the engine
     * asks for each. */
    void (*reads)(struct rv_engine *e, const struct rv_clock_reads *r);

    /* Makes run() return soon; the only function that another thread or a signal may call. */
    void (*kick)(struct rv_engine *e);
};

extern const struct rv_engine_ops rv_engine_interpret;
extern const struct rv_engine_ops rv_engine_translate;
/* The faster of the two that this host can run. */
const struct rv_engine_ops *rv_engine_software(void);
extern const struct rv_engine_ops rv_engine_kvm;
extern const struct rv_engine_ops rv_engine_nested;

#endif
