/* The board: all devices of the machine, the routing of ports, memory-mapped registers and
 * interrupt lines between them and the CPU. Knows nothing of engines, recording or files. */
#ifndef RV_VMM_PC_H
#define RV_VMM_PC_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/cpu/profile.h"
#include "vmm/dev/dev.h"
#include "vmm/exit.h"
#include "vmm/mem/ram.h"

struct rv_pc; /* opaque */

/* The machine's side, injected. */
struct rv_pc_host {
    void *ctx;
    rv_ns (*now)(void *ctx);
    /* The guest is about to read or set a clock: where guest time is the host's, move it on. */
    void (*clock)(void *ctx);
    void (*effect)(void *ctx, enum rv_source sink, const void *data, size_t len);
    void (*stop)(void *ctx, enum rv_stop reason, uint32_t code);
    /* Interrupt outputs or the earliest deadline changed: leave the engine and look. */
    void (*attention)(void *ctx);
};

struct rv_pc_config {
    uint64_t tsc_hz;     /* the LAPIC's timer and the TSC deadline tick at this rate */
    uint64_t boot_epoch; /* wall time at power-on for the RTC, seconds since 1970 UTC */
    unsigned phys_bits;  /* width of physical addresses, as CPUID shows it; 0: 52 */
    unsigned devices;    /* the first so many of rv_pc_models, as when there were no more; 0: all */
};

/* Builds the board in its power-on state. ram and host outlive it. */
int rv_pc_new(struct rv_pc **out, struct rv_ram *ram, const struct rv_pc_config *config,
              const struct rv_pc_host *host, struct rv_err *err);
void rv_pc_free(struct rv_pc *pc);

/* Completes a CPU exit. Accesses that no device claims read all ones and ignore writes, as an idle
 * bus does; an MSR nobody has sets x->fault. Accesses wider than a device's registers, or across
 * two regions, are split as the bus would. */
void rv_pc_exit(struct rv_pc *pc, struct rv_exit *x);

/* The earliest guest time at which a device wants to act (RV_NEVER: none), and acting on it. */
rv_ns rv_pc_deadline(struct rv_pc *pc);
void rv_pc_tick(struct rv_pc *pc, rv_ns now);

/* Interrupt outputs to the CPU. rv_pc_ack returns the vector and moves the controllers on; call it
 * only when rv_pc_intr is true and the CPU can take it. rv_pc_nmi consumes a pending NMI edge. */
bool rv_pc_intr(const struct rv_pc *pc);
unsigned rv_pc_ack(struct rv_pc *pc);
bool rv_pc_nmi(struct rv_pc *pc);

/* Input from the outside for RV_SRC_CONSOLE. Returns the bytes taken; room says how many would be.
 */
size_t rv_pc_input(struct rv_pc *pc, enum rv_source source, const uint8_t *data, size_t len);
size_t rv_pc_input_room(const struct rv_pc *pc, enum rv_source source);

/* Could an interrupt still come, be it by input from outside? Tells a guest that waits from one
 * that is dead. can_nmi: could an NMI, which wakes a guest with interrupts off? */
bool rv_pc_can_wake(struct rv_pc *pc);
bool rv_pc_can_nmi(struct rv_pc *pc);

/* The models every board has, in their fixed order, without a board. */
const struct rv_dev_ops *const *rv_pc_models(unsigned *count);

/* The devices in their fixed order. */
unsigned rv_pc_device_count(const struct rv_pc *pc);
const struct rv_dev *rv_pc_device(const struct rv_pc *pc, unsigned i);

/* The CPU's CR8, which the LAPIC keeps. */
uint64_t rv_pc_cr8(const struct rv_pc *pc);

uint64_t rv_pc_hash(const struct rv_pc *pc, uint64_t seed);
void rv_pc_save(const struct rv_pc *pc, struct rv_buf *out);
int rv_pc_load(struct rv_pc *pc, struct rv_cursor *in, struct rv_err *err);
void rv_pc_dump(const struct rv_pc *pc, struct rv_buf *out);

#endif
