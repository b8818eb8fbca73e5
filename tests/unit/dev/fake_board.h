/* A board for testing one device model: time is a variable, and what the device does is recorded.
 */
#ifndef RV_TESTS_FAKE_BOARD_H
#define RV_TESTS_FAKE_BOARD_H

#include <stdlib.h>
#include <string.h>

#include "vmm/dev/models.h"
#include "vmm/dev/pci.h"

struct fake {
    struct rv_board board;
    rv_ns now;
    bool line[24];
    unsigned rises[24]; /* low to high transitions */
    char out[256];
    size_t out_len;
    enum rv_source sink;
    enum rv_stop stop;
    uint32_t code;
    unsigned attention;
    struct rv_wiring wiring;
    struct rv_pci_bus pci;
    struct rv_dev dev, ioapic;
};

static inline struct fake *fake_of(struct rv_board *b) { return (struct fake *)b; }
static inline rv_ns fake_now(struct rv_board *b) { return fake_of(b)->now; }
static inline void fake_irq(struct rv_board *b, unsigned gsi, bool level) {
    struct fake *f = fake_of(b);
    if (level && !f->line[gsi]) f->rises[gsi]++;
    f->line[gsi] = level;
}
static inline void fake_effect(struct rv_board *b, enum rv_source sink, const void *data,
                               size_t len) {
    struct fake *f = fake_of(b);
    f->sink = sink;
    if (f->out_len + len <= sizeof f->out) memcpy(f->out + f->out_len, data, len);
    f->out_len += len;
}
static inline void fake_stop(struct rv_board *b, enum rv_stop reason, uint32_t code) {
    fake_of(b)->stop = reason;
    fake_of(b)->code = code;
}
static inline void fake_reschedule(struct rv_board *b, struct rv_dev *dev) {}
static inline void fake_attention(struct rv_board *b) { fake_of(b)->attention++; }

static inline void fake_attach(struct fake *f, struct rv_dev *dev, const struct rv_dev_ops *ops) {
    *dev = (struct rv_dev){
        .ops = ops, .state = calloc(1, ops->state_size), .board = &f->board, .link = &f->wiring};
    ops->reset(dev);
}

/* A board with one device (and an IOAPIC for the LAPIC's EOIs). Free with fake_free. */
static inline struct fake *fake_new(const struct rv_dev_ops *ops) {
    static const struct rv_board_ops board_ops = {
        fake_now, fake_irq, fake_effect, fake_stop, fake_reschedule, fake_attention,
    };
    struct fake *f = calloc(1, sizeof *f);
    f->board.ops = &board_ops;
    f->wiring = (struct rv_wiring){.lapic = &f->dev,
                                   .ioapic = &f->ioapic,
                                   .pci = &f->pci,
                                   .tsc_hz = 2000000000,
                                   .phys_bits = 40,
                                   .boot_epoch = 1700000000,
                                   .ram_low = 256u << 20};
    fake_attach(f, &f->ioapic, &rv_dev_ioapic);
    fake_attach(f, &f->dev, ops);
    rv_pci_register(&f->pci, (struct rv_pci_function){0, 0, &rv_pci_host_bridge, &f->dev});
    return f;
}

static inline void fake_free(struct fake *f) {
    free(f->dev.state);
    free(f->ioapic.state);
    free(f);
}

static inline uint64_t rd(struct fake *f, unsigned region, uint64_t offset, unsigned size) {
    return f->dev.ops->read(&f->dev, region, offset, size);
}
static inline void wr(struct fake *f, unsigned region, uint64_t offset, unsigned size, uint64_t v) {
    f->dev.ops->write(&f->dev, region, offset, size, v);
}
static inline rv_ns due(struct fake *f) { return f->dev.ops->deadline(&f->dev); }

/* Lets time pass to t, ticking at each deadline on the way. */
static inline void advance(struct fake *f, rv_ns t) {
    while (due(f) <= t) {
        f->now = due(f);
        f->dev.ops->tick(&f->dev, f->now);
    }
    f->now = t;
}

#endif
