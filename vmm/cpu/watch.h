/* What the host wants to be told of a guest's execution. Watching is unseen by the guest: it
 * changes neither its state nor its positions. */
#ifndef RV_VMM_CPU_WATCH_H
#define RV_VMM_CPU_WATCH_H

#include "vmm/base/types.h"

enum rv_watch_access {
    RV_WATCH_READ = 1,
    RV_WATCH_WRITE = 2,
    RV_WATCH_EXEC = 4, /* an instruction that begins in the range */
    /* An exception or interrupt is delivered. Stands alone in a point, whose addr and len are
     * vectors then: 0 and 256 are all. Software engines only. */
    RV_WATCH_DELIVER = 8,
    /* A call (CALL, SYSCALL, SYSENTER) or a return (RET, IRET, SYSRET, SYSEXIT) has retired,
     * wherever it is. Each stands alone in a point, whose addr and len mean nothing. Software
     * engines only; while one is watched, all code runs slower. */
    RV_WATCH_CALL = 16,
    RV_WATCH_RETURN = 32,
};

/* What was delivered. */
enum rv_delivery {
    RV_DELIVER_EXCEPTION, /* raised by an instruction, or between two */
    RV_DELIVER_INTERRUPT, /* from a device, NMI included */
    RV_DELIVER_SOFT,      /* INT n, INT3, INTO, INT1: an instruction that retired */
};

/* A range of addresses: linear ones, or physical with `physical`. len is at least 1; an EXEC point
 * of len UINT64_MAX stands for every instruction wherever it is. */
struct rv_watchpoint {
    uint64_t addr, len;
    unsigned access; /* enum rv_watch_access, several may be set */
    bool physical;
};

/* A place between two things that happen to the CPU: after `icount` instructions retired, and after
 * `delivered` exceptions or interrupts were delivered since the last of them did. delivered 0 is
 * what a position alone means. */
struct rv_moment {
    rv_icount icount;
    uint32_t delivered;
};

static inline bool rv_moment_before(struct rv_moment a, struct rv_moment b) {
    return a.icount != b.icount ? a.icount < b.icount : a.delivered < b.delivered;
}
static inline bool rv_moment_same(struct rv_moment a, struct rv_moment b) {
    return a.icount == b.icount && a.delivered == b.delivered;
}

/* Something that was watched happened.
 *
 * EXEC: the instruction at rip is about to run; before and after are the same moment. It may still
 * fault. A string instruction that is resumed after an exception begins anew.
 *
 * READ, WRITE: an instruction that retired between `before` and `after` made the access, or the
 * delivery of an exception did. Accesses of an instruction that faulted count when they happened:
 * those of the elements a string instruction had done. Accessed and dirty bits that the CPU sets in
 * page tables are writes to physical addresses alone; its reads of page tables are not reported.
 *
 * DELIVER: told at `after`, the handler's first instruction being next, and rip is where the guest
 * was before. Of an exception whose delivery raised another, the one is told that was delivered in
 * the end. Accesses that the delivery made are told after it.
 *
 * CALL, RETURN: told at `after`. rip is the linear address of the instruction, gva that of where it
 * went. */
struct rv_watch_hit {
    enum rv_watch_access access; /* one bit */
    uint64_t gva;   /* linear; UINT64_MAX when there was no linear address: always in DELIVER */
    rv_gpa gpa;     /* DELIVER: UINT64_MAX */
    unsigned size;  /* bytes, of the part within one page; EXEC, DELIVER: 0 */
    bool far;       /* CALL, RETURN: not CALL and RET of one segment; SYSCALL, IRET and the like */
    uint8_t vector; /* DELIVER, as all below */
    enum rv_delivery delivery;
    bool has_error;
    uint32_t error;
    uint64_t rip; /* of the instruction, an offset in its code segment */
    struct rv_moment before, after;
};

/* hit() is called with the CPU's state exact: the engine's get() and icount() and reads of guest
 * memory work there, nothing that changes the guest does. It returns true to stop: run() then
 * returns at the moment `after`. A moment at which run() has stopped is not reported again when it
 * goes on. */
struct rv_watch {
    const struct rv_watchpoint *point;
    size_t n;
    bool (*hit)(void *ctx, const struct rv_watch_hit *hit);
    void *ctx;
};

#endif
