/* Two cascaded 8259A interrupt controllers with the edge/level control registers of the PC
 * chipsets. Sources: Intel 8259A data sheet (231468-003); 82371SB (PIIX3) data sheet, 2.5.5 for
 * ELCR.
 *
 * An edge once latched in IRR stays until it is acknowledged, even when its line falls before; the
 * real chip would answer such an acknowledge as spurious. Level lines are followed. */
#include "vmm/dev/models.h"

#include <string.h>

enum { CHIPS = 2, CASCADE = 2 };
enum init_step { READY, ICW2, ICW3, ICW4 };

struct chip {
    uint8_t irr, imr, isr;
    uint8_t lines; /* levels at the inputs */
    uint8_t elcr;  /* 1: level triggered */
    uint8_t base;  /* ICW2: vector of IR0 */
    uint8_t step;  /* enum init_step */
    uint8_t icw1, icw4;
    uint8_t low; /* the input of lowest priority */
    uint8_t read_isr, poll, special_mask, rotate_aeoi;
};

struct pic {
    struct chip chip[CHIPS];
};

#define CHIP(i)                                                                                    \
    RV_FIELD(struct pic, chip[i].irr), RV_FIELD(struct pic, chip[i].imr),                          \
        RV_FIELD(struct pic, chip[i].isr), RV_FIELD(struct pic, chip[i].lines),                    \
        RV_FIELD(struct pic, chip[i].elcr), RV_FIELD(struct pic, chip[i].base),                    \
        RV_FIELD(struct pic, chip[i].step), RV_FIELD(struct pic, chip[i].icw1),                    \
        RV_FIELD(struct pic, chip[i].icw4), RV_FIELD(struct pic, chip[i].low),                     \
        RV_FIELD(struct pic, chip[i].read_isr), RV_FIELD(struct pic, chip[i].poll),                \
        RV_FIELD(struct pic, chip[i].special_mask), RV_FIELD(struct pic, chip[i].rotate_aeoi)

static const struct rv_field fields[] = {CHIP(0), CHIP(1), RV_FIELD_END};

enum { ICW1_IC4 = 1, ICW1_SNGL = 2, ICW4_AEOI = 2, ICW4_SFNM = 16 };

/* The bits of set in order of priority: distance 0 is the highest. 8 when set is empty. */
static unsigned best(const struct chip *c, uint8_t set) {
    for (unsigned d = 0; d < 8; d++)
        if (set & (1u << ((c->low + 1 + d) & 7))) return d;
    return 8;
}

static unsigned input_at(const struct chip *c, unsigned distance) {
    return (c->low + 1 + distance) & 7;
}

/* The input whose request the chip would raise now, or -1. */
static int pending(const struct chip *c, bool master) {
    unsigned request = best(c, c->irr & (uint8_t)~c->imr);
    if (request == 8) return -1;
    uint8_t blocking = c->isr;
    if (c->special_mask) blocking &= (uint8_t)~c->imr;
    /* Fully nested mode would hide further requests of a slave whose first is in service. */
    if (master && (c->icw4 & ICW4_SFNM)) blocking &= (uint8_t) ~(1u << CASCADE);
    return request < best(c, blocking) ? (int)input_at(c, request) : -1;
}

static void chip_line(struct chip *c, unsigned input, bool level) {
    uint8_t bit = (uint8_t)(1u << input);
    if (c->elcr & bit) {
        c->irr = level ? c->irr | bit : c->irr & (uint8_t)~bit;
    } else if (level && !(c->lines & bit)) {
        c->irr |= bit;
    }
    c->lines = level ? c->lines | bit : c->lines & (uint8_t)~bit;
}

/* Carries the slave's output to the master and tells the board. */
static void update(struct rv_dev *dev) {
    struct pic *s = dev->state;
    chip_line(&s->chip[0], CASCADE, pending(&s->chip[1], false) >= 0);
    rv_dev_attention(dev);
}

static void end_of_interrupt(struct chip *c, uint8_t bits, bool rotate, unsigned input) {
    c->isr &= (uint8_t)~bits;
    if (rotate) c->low = (uint8_t)input;
}

/* One chip's share of an INTA sequence or a poll: returns the input, 7 when none is pending. */
static unsigned chip_ack(struct chip *c, bool master, bool *valid) {
    int input = pending(c, master);
    *valid = input >= 0;
    if (input < 0) return 7;
    uint8_t bit = (uint8_t)(1u << input);
    if (!(c->elcr & bit)) c->irr &= (uint8_t)~bit;
    if (!(c->icw4 & ICW4_AEOI))
        c->isr |= bit;
    else if (c->rotate_aeoi)
        c->low = (uint8_t)input;
    return (unsigned)input;
}

bool rv_pic_intr(const struct rv_dev *dev) {
    const struct pic *s = dev->state;
    return pending(&s->chip[0], true) >= 0;
}

unsigned rv_pic_ack(struct rv_dev *dev) {
    struct pic *s = dev->state;
    bool valid;
    unsigned input = chip_ack(&s->chip[0], true, &valid);
    unsigned vector = (s->chip[0].base & 0xf8) + input;
    if (valid && input == CASCADE) {
        vector = (s->chip[1].base & 0xf8) + chip_ack(&s->chip[1], false, &valid);
        /* The slave's output falls during INTA: what it requests next is a new edge. */
        chip_line(&s->chip[0], CASCADE, false);
    }
    update(dev);
    return vector;
}

void rv_pic_line(struct rv_dev *dev, unsigned irq, bool level) {
    struct pic *s = dev->state;
    if (irq >= 16 || irq == CASCADE) return;
    struct chip *c = &s->chip[irq >> 3];
    if (((c->lines >> (irq & 7)) & 1) == level) return;
    chip_line(c, irq & 7, level);
    update(dev);
}

static void write_icw1(struct chip *c, uint8_t v) {
    c->icw1 = v;
    c->step = ICW2;
    c->icw4 = 0;
    c->imr = c->isr = 0;
    c->low = 7;
    c->special_mask = c->read_isr = c->poll = c->rotate_aeoi = 0;
    /* The edge sense is cleared: a high line must fall and rise again to be seen. */
    c->irr = c->lines & c->elcr;
}

static void write_ocw2(struct chip *c, uint8_t v) {
    unsigned input = v & 7;
    bool rotate = v & 0x80;
    switch (v >> 5) {
    case 0: c->rotate_aeoi = 0; break;
    case 4: c->rotate_aeoi = 1; break;
    case 1:
    case 5: {
        /* Non-specific EOI passes over masked inputs in special mask mode (data sheet, "Special
         * mask mode"). */
        uint8_t set = c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
        unsigned d = best(c, set);
        if (d < 8) end_of_interrupt(c, (uint8_t)(1u << input_at(c, d)), rotate, input_at(c, d));
        break;
    }
    case 3:
    case 7: end_of_interrupt(c, (uint8_t)(1u << input), rotate, input); break;
    case 6: c->low = (uint8_t)input; break;
    default: break;
    }
}

static void write_ocw3(struct chip *c, uint8_t v) {
    if (v & 0x40) c->special_mask = (v >> 5) & 1;
    if (v & 0x04)
        c->poll = 1;
    else if (v & 0x02)
        c->read_isr = v & 1;
}

static void write_odd(struct chip *c, uint8_t v) {
    switch (c->step) {
    case ICW2:
        c->base = v & 0xf8;
        c->step = c->icw1 & ICW1_SNGL ? (c->icw1 & ICW1_IC4 ? ICW4 : READY) : ICW3;
        break;
    case ICW3: /* the board's cascade is wired at input 2, whatever is written */
        c->step = c->icw1 & ICW1_IC4 ? ICW4 : READY;
        break;
    case ICW4:
        c->icw4 = v & 0x1f;
        c->step = READY;
        break;
    default: c->imr = v; break;
    }
}

static uint64_t pic_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    struct pic *s = dev->state;
    if (region == RV_PIC_ELCR) return s->chip[offset & 1].elcr;
    bool master = region == RV_PIC_MASTER;
    struct chip *c = &s->chip[!master];
    if (c->poll) {
        bool valid;
        c->poll = 0;
        unsigned input = chip_ack(c, master, &valid);
        update(dev);
        return valid ? 0x80 | input : 0;
    }
    if (offset) return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static void pic_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                      uint64_t value) {
    struct pic *s = dev->state;
    uint8_t v = (uint8_t)value;
    if (region == RV_PIC_ELCR) {
        /* The timer, keyboard, cascade, clock and coprocessor inputs are always edge triggered. */
        static const uint8_t writable[CHIPS] = {0xf8, 0xde};
        struct chip *c = &s->chip[offset & 1];
        c->elcr = v & writable[offset & 1];
        c->irr = (c->irr & (uint8_t)~c->elcr) | (c->lines & c->elcr);
    } else {
        struct chip *c = &s->chip[region == RV_PIC_SLAVE];
        if (offset)
            write_odd(c, v);
        else if (v & 0x10)
            write_icw1(c, v);
        else if (v & 0x08)
            write_ocw3(c, v);
        else
            write_ocw2(c, v);
    }
    update(dev);
}

/* As firmware leaves them: vectors 0x08 and 0x70, the cascade open, SCI and a PCI line (9, 10)
 * level triggered, all other inputs masked but line 11. That one stays as it would be for an ISA
 * card, open and edge triggered, for real-mode programs that count on firmware's set-up. */
static void pic_reset(struct rv_dev *dev) {
    struct pic *s = dev->state;
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < CHIPS; i++) {
        s->chip[i].imr = i ? 0xf7 : 0xfb;
        s->chip[i].low = 7;
        s->chip[i].icw1 = 0x11;
        s->chip[i].icw4 = 0x01;
        s->chip[i].base = i ? 0x70 : 0x08;
    }
    s->chip[1].elcr = 0x06;
}

const struct rv_dev_ops rv_dev_pic8259 = {
    .name = "pic8259",
    .version = 2,
    .state_size = sizeof(struct pic),
    .fields = fields,
    .reset = pic_reset,
    .read = pic_read,
    .write = pic_write,
};
