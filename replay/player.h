/* The player: stands where the live host stood, gives the machine what the trace says the host
 * gave, and compares everything the machine does with what it did then. Any difference is a
 * divergence (RV_E_DIVERGED) whose message says where, what was expected, what came, and up to
 * where all agreed.
 */
#ifndef RV_REPLAY_PLAYER_H
#define RV_REPLAY_PLAYER_H

#include <stdatomic.h>

#include "trace-format/reader.h"
#include "vmm/base/err.h"
#include "vmm/nondet.h"

struct rv_player; /* opaque */

struct rv_player_config {
    bool by_trap;             /* the trace's positions are traps */
    bool portable;            /* recorded with RV_QUIRK_PORTABLE */
    rv_icount target;         /* stop there with RV_STOP_TARGET; RV_NEVER: play to the end */
    struct rv_nondet *output; /* gets the guest's output through its effect verb; NULL: nobody */
    const _Atomic int *stop_request; /* as in struct rv_live_config; may be NULL */
};

/* reader is borrowed and outlives the player. */
int rv_player_new(struct rv_player **out, const struct rv_trace_reader *reader,
                  const struct rv_player_config *config, struct rv_err *err);
void rv_player_free(struct rv_player *p);
struct rv_nondet *rv_player_nondet(struct rv_player *p);

/* Moves the target of the configuration. */
void rv_player_set_target(struct rv_player *p, rv_icount target);

/* Where in the trace the player stands: appended to out, and taken up again by a player of the same
 * trace. */
void rv_player_save(const struct rv_player *p, struct rv_buf *out);
int rv_player_load(struct rv_player *p, struct rv_cursor *in, struct rv_err *err);

/* How much of the trace the machine has lived through: events, and bytes of the next one, which is
 * output then. */
void rv_player_progress(const struct rv_player *p, uint64_t *events, uint64_t *bytes);

/* Events played so far. */
uint64_t rv_player_events(const struct rv_player *p);

#endif
