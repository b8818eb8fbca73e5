/* What a device model is and what the board offers it. A model is pure: it learns the time, raises
 * interrupts and prints only through its board, so it behaves alike whoever watches. */
#ifndef RV_VMM_DEV_DEV_H
#define RV_VMM_DEV_DEV_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/state.h"

struct rv_board;
struct rv_dev;

/* Why a machine stopped. The numbers are stored in traces: append only. */
enum rv_stop {
    RV_STOP_NONE = 0,
    RV_STOP_POWEROFF = 1,     /* the guest entered ACPI S5 */
    RV_STOP_RESET = 2,        /* the guest asked for a reset (i8042, reset register) */
    RV_STOP_TRIPLE_FAULT = 3, /* a fault while delivering a double fault */
    RV_STOP_DEBUG_EXIT = 4,   /* the guest wrote the debug exit port; code = the value written */
    RV_STOP_HALTED = 5,       /* HLT with nothing that could ever wake the guest */
    RV_STOP_INTERRUPT = 6,    /* the user: Ctrl-C */
    RV_STOP_TERMINATE = 7,    /* SIGTERM or SIGHUP */
    RV_STOP_TIMEOUT = 8,      /* --timeout */
    RV_STOP_MAX_ICOUNT = 9,   /* --max-instructions */
    RV_STOP_TRACE_END = 10,   /* replay: the trace ends here without saying why (unsealed) */
    RV_STOP_TRACE_FULL = 11,  /* record: the trace can no longer be written */
    RV_STOP_TARGET = 12,      /* replay: the position asked for is reached */
    RV_STOP_ENGINE = 13,      /* the engine cannot go on; the message says why */
    RV_STOP_WATCH = 14,       /* replay: a watchpoint was hit */
};

/* Sources and sinks outside the machine; stored in traces: append only. */
enum rv_source {
    RV_SRC_NONE = 0,
    RV_SRC_CONSOLE = 1,  /* COM1 */
    RV_SRC_DEBUGCON = 2, /* port 0xe9 */
    RV_SRC_CLOCK = 3,    /* guest time itself */
    RV_SRC_RTC = 4,      /* wall time at power-on, seconds since 1970 UTC */
    RV_SRC_CPU = 5,      /* digest of CPU and devices */
    RV_SRC_RAM = 6,      /* digest of memory as well */
    RV_SRC_ENTROPY = 7,  /* random bits handed to the guest at power-on */
    RV_SRC_MARK = 8,     /* names of marks (port 0xea), each whole */
};

/* The board's services, injected so that a model can be tested on a fake one. */
struct rv_board_ops {
    rv_ns (*now)(struct rv_board *b); /* guest time of the current instruction */
    /* Drives global system interrupt line gsi (0..23) to level; the board routes it to the 8259
     * pair and the IOAPIC. */
    void (*irq)(struct rv_board *b, unsigned gsi, bool level);
    /* Guest output; performed live, hashed, and compared in replay. */
    void (*effect)(struct rv_board *b, enum rv_source sink, const void *data, size_t len);
    /* The machine stops after the current instruction. The first reason given wins. */
    void (*stop)(struct rv_board *b, enum rv_stop reason, uint32_t code);
    /* The device's deadline() may have moved. */
    void (*reschedule)(struct rv_board *b, struct rv_dev *dev);
    /* The state of a device's interrupt outputs changed: look at the CPU's INTR and NMI again. */
    void (*attention)(struct rv_board *b);
};

struct rv_board {
    const struct rv_board_ops *ops;
};

/* A device model. All functions but init may be NULL when there is nothing to do. */
struct rv_dev_ops {
    const char *name; /* unique in a machine; stored in traces with version */
    /* Raised whenever guest-visible behaviour changes, which breaks older traces knowingly. */
    uint32_t version;
    size_t state_size;
    const struct rv_field *fields; /* all guest-visible state; NULL when there is none */

    /* Power-on state into dev->state, which arrives zeroed. Also used for a reset. */
    void (*reset)(struct rv_dev *dev);

    /* Port and memory-mapped access. offset is relative to the region given at mapping; region is
     * the number given there; size is 1, 2, 4 (8 for memory). Values are zero-extended. */
    uint64_t (*read)(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size);
    void (*write)(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                  uint64_t value);

    /* The guest time at which tick() wants to run next, or RV_NEVER. Pure. */
    rv_ns (*deadline)(const struct rv_dev *dev);
    /* Guest time has reached the deadline; now is at or after it. */
    void (*tick)(struct rv_dev *dev, rv_ns now);

    /* Takes up to len bytes of input from the outside; returns how many it took (0: not now). */
    size_t (*input)(struct rv_dev *dev, const uint8_t *data, size_t len);
    /* How many bytes input() would take now. Pure. */
    size_t (*input_room)(const struct rv_dev *dev);
};

struct rv_dev {
    const struct rv_dev_ops *ops;
    void *state; /* ops->state_size bytes, owned by the machine */
    struct rv_board *board;
    void *link; /* device-specific wiring set at construction (e.g. IOAPIC -> LAPIC); not state */
};

#endif
