/* What is known of a recording once it has been replayed: checkpoints along it, and of each epoch
 * between them the pages written and executed, and the lines of code that ran.
 *
 * It is derived from the trace alone and kept in an index file beside it (index.h). While a history
 * is in use its epochs and filed checkpoints do not change; the timeline adds checkpoints in
 * memory. */
#ifndef RV_REPLAY_HISTORY_H
#define RV_REPLAY_HISTORY_H

#include "replay/pages.h"
#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/dev/dev.h"

/* Page numbers in rising order. */
struct rv_page_set {
    uint32_t *page;
    uint32_t n;
};

/* Lines of 8 bytes of linear addresses, whichever address space, in rising order: bits 3 to 34 of
 * the address, so that addresses 32 GiB apart are not told apart. */
struct rv_line_set {
    uint32_t *line;
    uint32_t n;
    bool anywhere; /* also where it is not known */
};
#define RV_LINE 8u

struct rv_epoch {
    rv_icount from; /* to the next one's from, or the end */
    struct rv_page_set written, executed;
    struct rv_line_set lines; /* where instructions began, or ended */
};

struct rv_checkpoint {
    rv_icount at;
    rv_ns time;
    uint8_t *state; /* of machine and player; owned */
    uint32_t len;
    bool filed; /* in the index; else made in memory, and given up when room is needed */
};

struct rv_history {
    uint64_t page_count;
    struct rv_epoch *epoch;
    size_t epochs;
    struct rv_checkpoint *checkpoint; /* by position; the first is at 0 */
    size_t checkpoints, checkpoint_room;
    struct rv_pages *pages;
    rv_icount end; /* where the recording stopped */
    rv_ns end_time;
    enum rv_stop reason;
    int fd;             /* of the index, for its pages; -1: none */
    uint64_t file_size; /* of the index */
};

struct rv_history *rv_history_new(uint64_t page_count);
void rv_history_free(struct rv_history *h);

/* A set of the pages whose byte is not 0. */
struct rv_page_set rv_page_set_of(const uint8_t *bytes, uint64_t n);
bool rv_page_set_has(const struct rv_page_set *s, uint64_t page);

/* Gathers lines. Starts as zeroes; rv_lines_take gives what was noted since, to be freed by the
 * caller, and starts anew. */
struct rv_lines {
    uint64_t *slot; /* 1 + line, in any order; 0: free */
    size_t room, n;
    bool anywhere;
};
void rv_lines_note(struct rv_lines *l, uint64_t va, uint64_t bytes);
struct rv_line_set rv_lines_take(struct rv_lines *l);
void rv_lines_free(struct rv_lines *l);
/* Whether an instruction may have begun in the range; len is at least 1. */
bool rv_line_set_meets(const struct rv_line_set *s, uint64_t va, uint64_t len);

/* The epoch that holds the position. */
size_t rv_history_epoch(const struct rv_history *h, rv_icount at);
/* The last checkpoint at or before the position. */
size_t rv_history_before(const struct rv_history *h, rv_icount at);
/* Adds one in its place; state is taken over. */
void rv_history_add(struct rv_history *h, const struct rv_checkpoint *c);
/* Gives checkpoint i up, with its pages; not the first, not a filed one. */
void rv_history_drop(struct rv_history *h, size_t i);

/* Reads n pages of the index file, as versions v[i] to out(i)'s page. */
struct rv_page_want {
    const struct rv_version *v;
    uint64_t page;
};
/* Sorts want, reads and checks each, and hands the content to put. RV_E_FORMAT when the file is not
 * what it was. May be called by several threads at once. */
int rv_history_read(const struct rv_history *h, struct rv_page_want *want, size_t n,
                    void (*put)(void *ctx, uint64_t page, const uint8_t *content), void *ctx,
                    struct rv_err *err);

#endif
