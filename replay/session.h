/* A replay from a trace file: rebuilds the machine that was recorded. */
#ifndef RV_REPLAY_SESSION_H
#define RV_REPLAY_SESSION_H

#include "replay/player.h"
#include "vmm/machine.h"

struct rv_replay_config {
    const char *path;
    const struct rv_engine_ops *engine; /* NULL: rv_engine_software() */
    /* Where images are that the trace only names; NULL: by the name it has for them. */
    const char *kernel, *initrd;
    struct rv_player_config player;
};

struct rv_replay; /* opaque */

/* Opens the trace and builds its machine. wrap as in rv_record_begin. */
int rv_replay_begin(struct rv_replay **out, const struct rv_replay_config *config,
                    struct rv_nondet *(*wrap)(void *ctx, struct rv_nondet *), void *ctx,
                    struct rv_err *err);

struct rv_machine *rv_replay_machine(struct rv_replay *r);
const struct rv_trace_reader *rv_replay_reader(const struct rv_replay *r);
struct rv_player *rv_replay_player(struct rv_replay *r);

/* Plays to the end, the target, or a divergence. */
int rv_replay_run(struct rv_replay *r, struct rv_end *end, struct rv_err *err);
void rv_replay_free(struct rv_replay *r);

#endif
