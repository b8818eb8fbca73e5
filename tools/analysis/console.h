/* What a guest printed, byte for byte, with the position and guest time of each piece. A trace says
 * exactly what was printed, but of a run of output only where its first and last byte lie; where
 * each byte lies is found by replaying. */
#ifndef RV_ANALYSIS_CONSOLE_H
#define RV_ANALYSIS_CONSOLE_H

#include "replay/session.h"
#include "vmm/base/buf.h"

/* Bytes that came out at one instruction. */
struct rv_console_piece {
    rv_icount at;
    rv_ns time;
    size_t start; /* in the text */
    size_t len;   /* at least 1 */
};

struct rv_console {
    struct rv_buf text;
    struct rv_console_piece *piece; /* in order */
    size_t pieces, room;
    bool whole;    /* nothing is missing: up to the end, or to where the caller wanted */
    rv_icount end; /* how far it was followed */
    rv_ns end_time;
};

/* What the trace itself says, without replaying: one piece for each run of output, at its first
 * byte. Runs that begin at or after `to` are left out, and *split tells whether one goes on beyond
 * it, so that only a replay can tell what of it belongs. sink: RV_SRC_CONSOLE or RV_SRC_DEBUGCON.
 * Releases nothing on error: *out is valid as far as it got. */
int rv_console_read(struct rv_console *out, const struct rv_trace_reader *reader,
                    enum rv_source sink, rv_icount to, bool *split, struct rv_err *err);

/* Replays up to `to` (RV_NEVER: all) and notes every byte. wrap and ctx are as in rv_replay_begin.
 * A stop request (in config->player) ends it early: 0, and out->whole is false. */
int rv_console_replay(struct rv_console *out, const struct rv_replay_config *config,
                      enum rv_source sink, rv_icount to,
                      struct rv_nondet *(*wrap)(void *ctx, struct rv_nondet *), void *ctx,
                      struct rv_err *err);

void rv_console_release(struct rv_console *c);

#endif
