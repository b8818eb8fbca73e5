/* Private to the LAPIC's two files: its state, and what registers and timer want of each other. */
#ifndef RV_VMM_DEV_LAPIC_H
#define RV_VMM_DEV_LAPIC_H

#include "vmm/dev/models.h"

enum rv_lvt {
    RV_LVT_TIMER,
    RV_LVT_THERMAL,
    RV_LVT_PERF,
    RV_LVT_LINT0,
    RV_LVT_LINT1,
    RV_LVT_ERROR,
    RV_LVTS
};

#define RV_LVT_MASKED     (1u << 16)
#define RV_LVT_LEVEL      (1u << 15)
#define RV_LVT_REMOTE_IRR (1u << 14)

struct rv_lapic {
    uint64_t base;         /* IA32_APIC_BASE */
    uint64_t icr;          /* destination in the upper half, as the mode in force holds it */
    uint64_t timer_expiry; /* TSC tick at which the running count reaches zero */
    uint64_t tsc_deadline; /* IA32_TSC_DEADLINE, 0: disarmed */
    uint32_t irr[8], isr[8], tmr[8];
    uint32_t lvt[RV_LVTS];
    uint32_t tpr, ldr, dfr, svr, esr;
    uint32_t errors; /* collected since ESR was last written */
    uint32_t ticr, tdcr;
    uint8_t timer_running;
    uint8_t nmi;  /* an NMI waits for the CPU */
    uint8_t lint; /* levels at LINT0 and LINT1 */
};

/* Signals local source n through its LVT entry. */
void rv_lapic_local(struct rv_dev *dev, enum rv_lvt n);

/* The timer. rv_lapic_timer_sync brings it up to the present; call it before touching its
 * registers. */
void rv_lapic_timer_sync(struct rv_dev *dev, rv_ns now);
void rv_lapic_timer_start(struct rv_dev *dev, uint32_t count);
void rv_lapic_timer_divide(struct rv_dev *dev, uint32_t tdcr);
void rv_lapic_timer_mode(struct rv_dev *dev, uint32_t lvt);
void rv_lapic_timer_set_deadline(struct rv_dev *dev, uint64_t tsc);
uint32_t rv_lapic_timer_count(const struct rv_dev *dev);
rv_ns rv_lapic_timer_next(const struct rv_dev *dev);

#endif
