/* Two recordings of one machine and one start, replayed in step, to find where their guests part:
 * the first instruction after which CPU or memory differ.
 *
 * As long as both were given the same from outside they are the same machine. From where an input
 * differs, their devices do, but their CPUs and memory only once an instruction has looked. */
#ifndef RV_REPLAY_COMPARE_H
#define RV_REPLAY_COMPARE_H

#include "replay/session.h"
#include "vmm/cpu/watch.h"

struct rv_compare; /* opaque */

struct rv_compare_config {
    struct rv_replay_config replay[2]; /* player settings are the comparison's own */
    /* Told now and then where it is, on the caller's thread; true: stop. May be NULL. */
    bool (*progress)(void *ctx, rv_icount at);
    void *ctx;
};

/* Opens both. RV_E_USAGE when they have memories of different size. An index beside a recording is
 * used, none is made. */
int rv_compare_open(struct rv_compare **out, const struct rv_compare_config *config,
                    struct rv_err *err);
void rv_compare_free(struct rv_compare *c);

/* One of the two after they parted. */
struct rv_compare_side {
    struct rv_moment at; /* where the next instruction begins */
    struct rv_x86 cpu;   /* then */
    bool ended;          /* the recording ended instead, for `reason`; cpu is its last state */
    enum rv_stop reason;
};

struct rv_compare_result {
    bool parted;
    bool memory_alike;       /* where the search began */
    rv_icount searched;      /* how far both are alike, when they did not part */
    struct rv_moment before; /* the last instruction begins here with the same CPU and memory ... */
    struct rv_x86 cpu;       /* ... which is this */
    struct rv_compare_side side[2];
    bool exact; /* every instruction was compared; else only some, and a difference that went away
                   again may have come before */
};

/* Looks for where they part, from a position where both have had the same from outside so far. When
 * memory differs there already, as by what the loader gave the guest, only CPUs are compared.
 * RV_E_INTERRUPTED when progress said stop. Both then stand where they parted, or at the end. */
int rv_compare_find(struct rv_compare *c, rv_icount from, struct rv_compare_result *out,
                    struct rv_err *err);

/* The first position at which memory differs, after rv_compare_find: *found false when it does not
 * until one ends. Both then stand there. */
int rv_compare_find_memory(struct rv_compare *c, bool *found, rv_icount *at, struct rv_err *err);

/* A stretch of RAM that differs. */
struct rv_compare_bytes {
    rv_gpa gpa;
    uint32_t len;         /* bytes that differ, without a gap; at least 1 */
    uint8_t a[16], b[16]; /* the first of them */
};
/* The first n stretches that differ where both stand, and how many bytes do in all. */
size_t rv_compare_memory(struct rv_compare *c, struct rv_compare_bytes *out, size_t n,
                         uint64_t *total);

/* The machines, to look at: 0 and 1. */
struct rv_machine *rv_compare_machine(struct rv_compare *c, unsigned n);

#endif
