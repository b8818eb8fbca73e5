/* Private to tools/analysis/run.c and run_merge.c: what workers note, and who puts it together. */
#ifndef RV_ANALYSIS_RUN_PRIV_H
#define RV_ANALYSIS_RUN_PRIV_H

#include "tools/analysis/linux.h"
#include "tools/analysis/run.h"

enum rv_note_kind {
    RV_NOTE_START, /* the kernel's C code begins */
    RV_NOTE_ENTER,
    RV_NOTE_ENTER32,
    RV_NOTE_EXIT, /* of a system call */
    RV_NOTE_SWITCH,
    RV_NOTE_FORK,
    RV_NOTE_EXEC,
    RV_NOTE_LAST, /* do_exit() */
    RV_NOTE_MAP,
    RV_NOTE_TRAP,
    RV_NOTE_TRAP_END,
    RV_NOTE_USER, /* back to user mode: all traps of the task are over */
};

/* One thing that was seen, complete in itself: memory was read when it happened. */
struct rv_note {
    uint8_t kind; /* enum rv_note_kind */
    bool user, flag;
    uint8_t vector, trap;
    uint16_t number;
    uint32_t delivered, error;
    rv_icount at;
    rv_ns time;
    uint64_t task; /* that was current; 0: not known */
    uint32_t tid;
    struct rv_linux_task who; /* SWITCH: the next one; FORK: the new one; others: current */
    uint64_t v[8];
    const char *text, *more, *exe; /* in the piece's arena */
};

struct rv_notes {
    struct rv_note *note;
    size_t n, room;
    struct rv_arena *arena;
};

/* Makes room for one more in an array of n. */
#define RV_GROW(array, n, room)                                                                    \
    do {                                                                                           \
        if ((n) < (room)) break;                                                                   \
        (room) = (room) ? 2 * (room) : 256;                                                        \
        (array) = rv_realloc((array), (room) * sizeof *(array));                                   \
    } while (0)

struct rv_merge; /* opaque */
struct rv_merge *rv_merge_new(struct rv_guest_run *r);
/* Adds notes, which come in order of position. */
void rv_merge_add(struct rv_merge *m, const struct rv_notes *notes);
/* Everything before end was added: closes what is open. */
void rv_merge_end(struct rv_merge *m, rv_icount end, rv_ns time);
void rv_merge_free(struct rv_merge *m);

#endif
