/* The machine: RAM, a CPU engine, the board, and the loop that runs them. Whether it is run live,
 * recorded or replayed is known only behind struct rv_nondet. */
#ifndef RV_VMM_MACHINE_H
#define RV_VMM_MACHINE_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/boot/boot.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/profile.h"
#include "vmm/dev/dev.h"
#include "vmm/nondet.h"
#include "vmm/pc.h"

struct rv_machine; /* opaque */

/* Everything that determines a run apart from what passes the choke point. Stored in traces. */
struct rv_machine_config {
    uint64_t memory; /* bytes */
    const struct rv_engine_ops *engine;
    const struct rv_profile *profile;
    uint64_t rate;         /* guest ns per instruction, 32.32 fixed point; RV_RATE_HOST: guest time
                              is that of the host, asked for when the guest looks */
    bool by_trap;          /* positions are traps, for engines that cannot count; needs host time */
    uint64_t quirks;       /* enum rv_quirk: of the processor that the guest runs, or ran, on */
    uint64_t digest_every; /* positions between digests; 0: none */
    unsigned devices;      /* as in struct rv_pc_config */
    struct rv_boot_request boot;
};

#define RV_RATE_HOST      0ull
#define RV_RATE_DEFAULT   (1ull << 32)  /* one instruction a nanosecond */
#define RV_DIGEST_DEFAULT (64ull << 20) /* instructions */
#define RV_DIGEST_TRAPS   (64ull << 10) /* the same where positions are traps */

/* Builds the machine, loads the guest, and asks nd for the wall time at power-on. nd, and what
 * config points to, outlive the machine (images may go after this returns). */
int rv_machine_new(struct rv_machine **out, const struct rv_machine_config *config,
                   struct rv_nondet *nd, struct rv_err *err);
void rv_machine_free(struct rv_machine *m);

/* Runs until something stops it. 0 and *end, or a negative code when the run cannot go on: the
 * engine failed, or a verb of nd did (a divergence, say). *end is filled then too, as far as the
 * machine got. */
int rv_machine_run(struct rv_machine *m, struct rv_end *end, struct rv_err *err);

/* As rv_machine_run, for one who stops and goes on many times: a stop in the middle (TARGET, WATCH,
 * or a request from outside) is not told to nd and gives no digests; the next call goes on from it
 * as if nothing had been. */
int rv_machine_advance(struct rv_machine *m, struct rv_end *end, struct rv_err *err);

/* Watches the guest's execution (vmm/cpu/watch.h): a hit that says stop ends the run with
 * RV_STOP_WATCH. *w is borrowed until it is replaced; NULL: nothing. */
void rv_machine_watch(struct rv_machine *m, const struct rv_watch *w);

/* Appends the machine's state but for its RAM to out. Only where a run has just reached an
 * instruction count (RV_STOP_TARGET, or a machine that has not run): RV_E_USAGE elsewhere. */
int rv_machine_save(const struct rv_machine *m, struct rv_buf *out, struct rv_err *err);
/* Takes up a state saved from a machine of the same configuration. RAM is the caller's to put back
 * before, through rv_ram_write, and so is what stands behind nd. */
int rv_machine_load(struct rv_machine *m, struct rv_cursor *in, struct rv_err *err);

const struct rv_pc *rv_machine_pc(const struct rv_machine *m);
struct rv_ram *rv_machine_ram(struct rv_machine *m);
/* How many landmarks were looked for and found, and how many states had their registers and were
 * compared in full. */
void rv_machine_landmarks(const struct rv_machine *m, uint64_t *found, uint64_t *candidates);
/* Digests of the state as it is: of CPU and devices, and of RAM. */
void rv_machine_digests(struct rv_machine *m, uint64_t *cpu, uint64_t *ram);

/* Asks a running machine to look at nd soon. May be called from a signal handler or another
 * thread. */
void rv_machine_kick(struct rv_machine *m);

struct rv_point rv_machine_now(struct rv_machine *m);
/* The position of a point of this machine: its icount or its trap. */
uint64_t rv_machine_position(const struct rv_machine *m, struct rv_point at);
struct rv_engine *rv_machine_engine(struct rv_machine *m);
const struct rv_profile *rv_machine_profile(const struct rv_machine *m);

const char *rv_stop_name(enum rv_stop reason); /* "poweroff", ...; never NULL */
const char *rv_stop_text(enum rv_stop reason); /* a sentence for people */
const char *rv_source_name(enum rv_source source);

#endif
