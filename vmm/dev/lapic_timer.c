/* The local APIC's timer: one-shot, periodic and TSC-deadline. Source: Intel SDM vol. 3A, 11.5.4.
 *
 * It ticks at the TSC's rate over the divider. A count is kept as the TSC tick at which it reaches
 * zero, so reading it or waiting for it involves no stepping. A masked timer asks for no deadline:
 * what it did meanwhile is made up when the guest looks. */
#include "vmm/dev/lapic.h"
#include "vmm/dev/ticks.h"

enum mode { ONE_SHOT = 0, PERIODIC = 1, TSC_DEADLINE = 2 };

static enum mode mode_of(uint32_t lvt) { return (enum mode)((lvt >> 17) & 3); }

/* Divide configuration register, figure 11-10: bits 0, 1 and 3 count from 2 up to 128, then 1. */
static uint64_t divider(const struct rv_lapic *s) {
    return 1ull << (((s->tdcr & 3) + ((s->tdcr & 8) >> 1) + 1) & 7);
}

static uint64_t tsc_at(const struct rv_dev *dev, rv_ns now) {
    return rv_ticks_at(now, rv_dev_wiring(dev)->tsc_hz);
}

void rv_lapic_timer_sync(struct rv_dev *dev, rv_ns now) {
    struct rv_lapic *s = dev->state;
    uint64_t tsc = tsc_at(dev, now);
    if (mode_of(s->lvt[RV_LVT_TIMER]) == TSC_DEADLINE) {
        if (!s->tsc_deadline || tsc < s->tsc_deadline) return;
        s->tsc_deadline = 0;
    } else {
        if (!s->timer_running || tsc < s->timer_expiry) return;
        uint64_t period = s->ticr * divider(s);
        if (mode_of(s->lvt[RV_LVT_TIMER]) == PERIODIC && period)
            s->timer_expiry += ((tsc - s->timer_expiry) / period + 1) * period;
        else
            s->timer_running = 0;
    }
    rv_lapic_local(dev, RV_LVT_TIMER);
    rv_dev_reschedule(dev);
}

void rv_lapic_timer_start(struct rv_dev *dev, uint32_t count) {
    struct rv_lapic *s = dev->state;
    if (mode_of(s->lvt[RV_LVT_TIMER]) == TSC_DEADLINE) return; /* TICR writes are ignored then */
    s->ticr = count;
    s->timer_running = count != 0;
    s->timer_expiry = tsc_at(dev, rv_dev_now(dev)) + count * divider(s);
    rv_dev_reschedule(dev);
}

uint32_t rv_lapic_timer_count(const struct rv_dev *dev) {
    const struct rv_lapic *s = dev->state;
    uint64_t tsc = tsc_at(dev, rv_dev_now(dev));
    if (!s->timer_running || tsc >= s->timer_expiry) return 0;
    return (uint32_t)((s->timer_expiry - tsc + divider(s) - 1) / divider(s));
}

void rv_lapic_timer_divide(struct rv_dev *dev, uint32_t tdcr) {
    struct rv_lapic *s = dev->state;
    uint32_t left = rv_lapic_timer_count(dev);
    s->tdcr = tdcr & 0x0b;
    if (s->timer_running) s->timer_expiry = tsc_at(dev, rv_dev_now(dev)) + left * divider(s);
    rv_dev_reschedule(dev);
}

void rv_lapic_timer_mode(struct rv_dev *dev, uint32_t lvt) {
    struct rv_lapic *s = dev->state;
    bool was_deadline = mode_of(s->lvt[RV_LVT_TIMER]) == TSC_DEADLINE;
    s->lvt[RV_LVT_TIMER] = lvt;
    /* Entering or leaving TSC-deadline mode disarms the timer (11.5.4.1). */
    if (was_deadline != (mode_of(lvt) == TSC_DEADLINE)) {
        s->timer_running = 0;
        s->ticr = 0;
        s->tsc_deadline = 0;
    }
    rv_dev_reschedule(dev);
}

void rv_lapic_timer_set_deadline(struct rv_dev *dev, uint64_t tsc) {
    struct rv_lapic *s = dev->state;
    if (mode_of(s->lvt[RV_LVT_TIMER]) != TSC_DEADLINE) return; /* ignored in the other modes */
    s->tsc_deadline = tsc;
    rv_lapic_timer_sync(dev, rv_dev_now(dev)); /* a deadline that has passed fires at once */
    rv_dev_reschedule(dev);
}

rv_ns rv_lapic_timer_next(const struct rv_dev *dev) {
    const struct rv_lapic *s = dev->state;
    uint32_t lvt = s->lvt[RV_LVT_TIMER];
    if (lvt & RV_LVT_MASKED) return RV_NEVER;
    bool deadline = mode_of(lvt) == TSC_DEADLINE;
    if (deadline ? !s->tsc_deadline : !s->timer_running) return RV_NEVER;
    return rv_ticks_time(deadline ? s->tsc_deadline : s->timer_expiry, rv_dev_wiring(dev)->tsc_hz);
}
