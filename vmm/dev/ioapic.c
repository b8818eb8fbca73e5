/* An I/O APIC with 24 pins, version 0x20 (it has an EOI register). Sources: Intel 82093AA data
 * sheet (290566-001); ICH9 data sheet, 13.5 for the EOI register.
 *
 * Lines are logical levels: the polarity bit of an entry is kept and has no effect. */
#include "vmm/dev/models.h"

#include <string.h>

#define RTE_VECTOR     0xffull
#define RTE_LOGICAL    (1ull << 11)
#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL      (1ull << 15)
#define RTE_MASKED     (1ull << 16)
/* Vector, delivery mode, destination mode, polarity, trigger, mask, destination. Delivery status
 * (bit 12) is read-only and always idle: messages take no time. */
#define RTE_WRITABLE (0xff00000000000000ull | 0x1afffull)

struct ioapic {
    uint64_t rte[RV_IOAPIC_PINS];
    uint32_t lines; /* asserted pins */
    uint32_t index;
    uint8_t id;
};

static const struct rv_field fields[] = {
    RV_FIELD_ARRAY(struct ioapic, rte),
    RV_FIELD(struct ioapic, lines),
    RV_FIELD(struct ioapic, index),
    RV_FIELD(struct ioapic, id),
    RV_FIELD_END,
};

static enum rv_apic_mode mode_of(uint64_t rte) { return (enum rv_apic_mode)((rte >> 8) & 7); }

static void send(struct rv_dev *dev, unsigned pin) {
    struct ioapic *s = dev->state;
    uint64_t rte = s->rte[pin];
    enum rv_apic_mode mode = mode_of(rte);
    /* NMI and its like are edge whatever the entry says; ExtINT is a wire (rv_ioapic_extint). */
    bool level = (rte & RTE_LEVEL) && mode <= RV_APIC_LOWEST;
    if (mode == RV_APIC_EXTINT) return;
    struct rv_apic_message m = {
        .mode = mode,
        .vector = (uint8_t)(rte & RTE_VECTOR),
        .level = level,
        .logical = (rte & RTE_LOGICAL) != 0,
        .dest = (uint32_t)(rte >> 56),
    };
    if (rv_lapic_message(rv_dev_wiring(dev)->lapic, &m) && level) s->rte[pin] |= RTE_REMOTE_IRR;
}

/* Sends a level-triggered pin's request unless one is in service already. */
static void service_level(struct rv_dev *dev, unsigned pin) {
    struct ioapic *s = dev->state;
    uint64_t blocked = RTE_MASKED | RTE_REMOTE_IRR;
    if ((s->rte[pin] & RTE_LEVEL) && !(s->rte[pin] & blocked) && (s->lines >> pin & 1))
        send(dev, pin);
}

void rv_ioapic_line(struct rv_dev *dev, unsigned pin, bool level) {
    struct ioapic *s = dev->state;
    if (pin >= RV_IOAPIC_PINS || (s->lines >> pin & 1) == level) return;
    s->lines ^= 1u << pin;
    if (!level) return;
    if (s->rte[pin] & RTE_LEVEL)
        service_level(dev, pin);
    else if (!(s->rte[pin] & RTE_MASKED)) /* an edge at a masked pin is lost (3.2.4) */
        send(dev, pin);
}

void rv_ioapic_eoi(struct rv_dev *dev, unsigned vector) {
    struct ioapic *s = dev->state;
    for (unsigned pin = 0; pin < RV_IOAPIC_PINS; pin++) {
        if ((s->rte[pin] & RTE_VECTOR) != vector || !(s->rte[pin] & RTE_REMOTE_IRR)) continue;
        s->rte[pin] &= ~RTE_REMOTE_IRR;
        service_level(dev, pin);
    }
}

bool rv_ioapic_nmi(const struct rv_dev *dev) {
    const struct ioapic *s = dev->state;
    for (unsigned pin = 0; pin < RV_IOAPIC_PINS; pin++)
        if (!(s->rte[pin] & RTE_MASKED) && mode_of(s->rte[pin]) == RV_APIC_NMI) return true;
    return false;
}

bool rv_ioapic_extint(const struct rv_dev *dev) {
    const struct ioapic *s = dev->state;
    return !(s->rte[0] & RTE_MASKED) && mode_of(s->rte[0]) == RV_APIC_EXTINT;
}

static uint32_t read_window(const struct ioapic *s) {
    switch (s->index) {
    case 0:
    case 2: return (uint32_t)s->id << 24; /* the arbitration ID equals the ID */
    case 1: return (RV_IOAPIC_PINS - 1) << 16 | 0x20;
    default: break;
    }
    unsigned pin = (s->index - 0x10) / 2;
    if (s->index < 0x10 || pin >= RV_IOAPIC_PINS) return 0;
    return (uint32_t)(s->index & 1 ? s->rte[pin] >> 32 : s->rte[pin]);
}

static void write_window(struct rv_dev *dev, uint32_t v) {
    struct ioapic *s = dev->state;
    if (s->index == 0) s->id = (v >> 24) & 0x0f;
    unsigned pin = (s->index - 0x10) / 2;
    if (s->index < 0x10 || pin >= RV_IOAPIC_PINS) return;
    unsigned shift = s->index & 1 ? 32 : 0;
    uint64_t mask = RTE_WRITABLE & (0xffffffffull << shift);
    uint64_t rte = (s->rte[pin] & ~mask) | (((uint64_t)v << shift) & mask);
    /* Remote IRR has no meaning for an edge entry; making one so is how old kernels clear it. */
    if (!(rte & RTE_LEVEL)) rte &= ~RTE_REMOTE_IRR;
    s->rte[pin] = rte;
    service_level(dev, pin);
    rv_dev_attention(dev);
}

static uint64_t ioapic_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    const struct ioapic *s = dev->state;
    uint32_t v = 0;
    if ((offset & ~3ull) == 0) v = s->index;
    if ((offset & ~3ull) == 0x10) v = read_window(s);
    return (v >> (8 * (offset & 3))) & (size == 4 ? 0xffffffffu : (1u << (8 * size)) - 1);
}

static void ioapic_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                         uint64_t value) {
    struct ioapic *s = dev->state;
    switch (offset) {
    case 0x00: s->index = value & 0xff; break;
    case 0x10:
        if (size == 4) write_window(dev, (uint32_t)value); /* the window takes dwords only */
        break;
    case 0x40: rv_ioapic_eoi(dev, value & 0xff); break;
    default: break;
    }
}

static void ioapic_reset(struct rv_dev *dev) {
    struct ioapic *s = dev->state;
    memset(s, 0, sizeof *s);
    for (unsigned pin = 0; pin < RV_IOAPIC_PINS; pin++) s->rte[pin] = RTE_MASKED;
}

const struct rv_dev_ops rv_dev_ioapic = {
    .name = "ioapic",
    .version = 1,
    .state_size = sizeof(struct ioapic),
    .fields = fields,
    .reset = ioapic_reset,
    .read = ioapic_read,
    .write = ioapic_write,
};
