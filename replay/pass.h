/* A pass over history: everything that happens in it, or in a part of it, is shown to the caller
 * once, by several workers at the same time, and what they gathered is put together in order.
 *
 * History is cut at its checkpoints. A worker takes a piece, brings its machine to the piece's
 * start, and runs it to the end:
 *
 *   begin()  hit() hit() ...  end()        on the worker's thread
 *                                merge()   on the caller's, piece after piece from first to last
 *
 * What begin() makes belongs to that piece alone, so that nothing has to be locked. Pieces are
 * merged as soon as all before them are, and workers do not run far ahead of that: what is held at
 * a time is bounded by the number of workers, not by the recording. */
#ifndef RV_REPLAY_PASS_H
#define RV_REPLAY_PASS_H

#include "replay/timeline.h"

/* Pieces meet without gap or overlap: a hit is shown in the piece in which it begins (hit->before),
 * and deliveries at position `from`, after the instruction that led there, are this piece's. */
struct rv_piece {
    rv_icount from, to; /* to: the end of the recording when it lies beyond, as RV_NEVER does */
};

struct rv_pass {
    rv_icount from, to; /* to: RV_NEVER is the end of the recording */

    /* What is watched. Where every point has its page (rv_sought), the epochs that cannot hold a
     * hit are not run, and no piece covers them; with `whole` all are run. */
    const struct rv_sought *sought;
    size_t n;
    bool whole;
    /* One worker runs through from first to last, so that begin, hit and end are called in the
     * order in which things happened. */
    bool in_order;
    /* The engine counts instructions (vmm/cpu/count.h), for each piece from zero; end() may ask it
     * for them. */
    bool count;

    /* All are given ctx. State of a piece: owned by the caller, who frees it in merge or drop. */

    /* The machine stands at piece->from. *state is NULL before. May be NULL. */
    int (*begin)(void *ctx, void **state, struct rv_machine *m, const struct rv_piece *piece,
                 struct rv_err *err);
    /* As in struct rv_watch; true: enough of this piece, go on with the next. May be NULL. */
    bool (*hit)(void *ctx, void *state, struct rv_machine *m, const struct rv_watch_hit *hit);
    /* The machine stands `every` instructions (0: never) behind where it stood in begin() or in the
     * pause before. */
    rv_icount every;
    int (*pause)(void *ctx, void *state, struct rv_machine *m, struct rv_err *err);
    /* The machine stands at piece->to, or where hit() said enough. May be NULL. */
    int (*end)(void *ctx, void *state, struct rv_machine *m, struct rv_err *err);
    /* 0: go on; 1: enough, end the pass; negative: it failed. May be NULL. */
    int (*merge)(void *ctx, void *state, const struct rv_piece *piece, struct rv_err *err);
    /* The piece was not finished, or never merged. May be NULL. state may be NULL, too. */
    void (*drop)(void *ctx, void *state);

    /* On the caller's thread, now and then: how many of the instructions to be run are done. True:
     * stop. May be NULL. */
    bool (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
};

enum rv_pass_outcome {
    RV_PASS_WHOLE,       /* everything was merged */
    RV_PASS_ENOUGH,      /* merge() said so */
    RV_PASS_INTERRUPTED, /* progress(), or the timeline's interrupted(), said stop */
};

struct rv_pass_result {
    enum rv_pass_outcome outcome;
    rv_icount merged; /* everything before this position was merged, on errors too;
                         at most the end of the recording */
};

/* Runs the pass with the timeline's workers; the timeline then stands where it stood. Negative when
 * a function of the caller's failed or the replay did (a divergence, say): what lies before that
 * has been merged. RV_E_USAGE in a branch. */
int rv_pass_run(struct rv_timeline *t, const struct rv_pass *pass, struct rv_pass_result *result,
                struct rv_err *err);

#endif
