/* The 8259 pair and the IOAPIC. */
#include <criterion/criterion.h>

#include "fake_board.h"

#define M RV_PIC_MASTER
#define S RV_PIC_SLAVE

static void init_pair(struct fake *f) {
    wr(f, M, 0, 1, 0x11), wr(f, M, 1, 1, 0x20), wr(f, M, 1, 1, 4), wr(f, M, 1, 1, 1);
    wr(f, S, 0, 1, 0x11), wr(f, S, 1, 1, 0x28), wr(f, S, 1, 1, 2), wr(f, S, 1, 1, 1);
}
static void pulse(struct fake *f, unsigned irq) {
    rv_pic_line(&f->dev, irq, true);
    rv_pic_line(&f->dev, irq, false);
}
static bool intr(struct fake *f) { return rv_pic_intr(&f->dev); }
static unsigned ack(struct fake *f) { return rv_pic_ack(&f->dev); }

Test(pic, priorities_and_eoi) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    cr_expect_not(intr(f));
    pulse(f, 4), pulse(f, 1);
    cr_expect_eq(rd(f, M, 0, 1), 0x12); /* IRR */
    cr_expect_eq(ack(f), 0x21);
    cr_expect_not(intr(f), "IRQ4 is below IRQ1 in service");
    pulse(f, 0);
    cr_expect(intr(f));
    cr_expect_eq(ack(f), 0x20);
    wr(f, M, 0, 1, 0x0b);
    cr_expect_eq(rd(f, M, 0, 1), 0x03); /* ISR */
    wr(f, M, 0, 1, 0x20);
    cr_expect_eq(rd(f, M, 0, 1), 0x02);
    wr(f, M, 0, 1, 0x61); /* specific EOI */
    cr_expect_eq(ack(f), 0x24);
    wr(f, M, 0, 1, 0x20);
    cr_expect_not(intr(f));
    cr_expect_eq(ack(f), 0x27); /* spurious: and not in service */
    cr_expect_eq(rd(f, M, 0, 1), 0);
    fake_free(f);
}

Test(pic, masks) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    wr(f, M, 1, 1, 0x10);
    cr_expect_eq(rd(f, M, 1, 1), 0x10);
    pulse(f, 4);
    cr_expect_not(intr(f));
    wr(f, M, 1, 1, 0); /* an edge is remembered behind the mask */
    cr_expect(intr(f));
    cr_expect_eq(ack(f), 0x24);
    fake_free(f);
}

Test(pic, cascade) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    pulse(f, 12), pulse(f, 8);
    cr_expect_eq(ack(f), 0x28);
    cr_expect_not(intr(f));
    wr(f, S, 0, 1, 0x20);
    cr_expect_not(intr(f), "the master's input 2 is still in service");
    wr(f, M, 0, 1, 0x20);
    cr_expect_eq(ack(f), 0x2c);
    pulse(f, 3); /* below the cascade */
    cr_expect_not(intr(f));
    pulse(f, 1);
    cr_expect_eq(ack(f), 0x21);
    fake_free(f);
}

Test(pic, spurious_from_the_slave) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f); /* IRQ10 is level triggered from power-on */
    rv_pic_line(&f->dev, 10, true);
    cr_expect(intr(f));
    rv_pic_line(&f->dev, 10, false);
    cr_expect(intr(f), "the master has latched the cascade's edge");
    cr_expect_eq(ack(f), 0x2f);
    wr(f, S, 0, 1, 0x0b);
    cr_expect_eq(rd(f, S, 0, 1), 0);
    wr(f, M, 0, 1, 0x0b);
    cr_expect_eq(rd(f, M, 0, 1), 4);
    fake_free(f);
}

Test(pic, level_triggered) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    wr(f, RV_PIC_ELCR, 0, 1, 0xff);
    wr(f, RV_PIC_ELCR, 1, 1, 0xff);
    cr_expect_eq(rd(f, RV_PIC_ELCR, 0, 1), 0xf8);
    cr_expect_eq(rd(f, RV_PIC_ELCR, 1, 1), 0xde);
    rv_pic_line(&f->dev, 5, true);
    cr_expect_eq(ack(f), 0x25);
    wr(f, M, 0, 1, 0x20);
    cr_expect(intr(f), "still asserted");
    rv_pic_line(&f->dev, 5, false);
    cr_expect_not(intr(f));
    fake_free(f);
}

Test(pic, rotation) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    pulse(f, 0);
    cr_expect_eq(ack(f), 0x20);
    wr(f, M, 0, 1, 0xa0); /* rotate on non-specific EOI: IRQ0 becomes the lowest */
    pulse(f, 0), pulse(f, 7);
    cr_expect_eq(ack(f), 0x27);
    wr(f, M, 0, 1, 0x20);
    cr_expect_eq(ack(f), 0x20);
    wr(f, M, 0, 1, 0x20);
    wr(f, M, 0, 1, 0xc4); /* set priority: IRQ5 the highest */
    pulse(f, 3), pulse(f, 5), pulse(f, 4);
    cr_expect_eq(ack(f), 0x25);
    wr(f, M, 0, 1, 0x20);
    cr_expect_eq(ack(f), 0x23);
    fake_free(f);
}

Test(pic, special_mask_mode) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    pulse(f, 1);
    ack(f);
    wr(f, M, 1, 1, 0x02);
    pulse(f, 6);
    cr_expect_not(intr(f));
    wr(f, M, 0, 1, 0x68);
    cr_expect(intr(f));
    cr_expect_eq(ack(f), 0x26);
    wr(f, M, 0, 1, 0x20); /* passes over the masked one */
    wr(f, M, 0, 1, 0x0b);
    cr_expect_eq(rd(f, M, 0, 1), 0x02);
    wr(f, M, 0, 1, 0x48);
    pulse(f, 6);
    cr_expect_not(intr(f));
    fake_free(f);
}

Test(pic, automatic_eoi_and_poll) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    wr(f, M, 0, 1, 0x11), wr(f, M, 1, 1, 0x40), wr(f, M, 1, 1, 4), wr(f, M, 1, 1, 3);
    pulse(f, 3);
    cr_expect_eq(ack(f), 0x43);
    pulse(f, 5);
    cr_expect_eq(ack(f), 0x45);
    init_pair(f);
    wr(f, M, 0, 1, 0x0c);
    cr_expect_eq(rd(f, M, 0, 1), 0);
    pulse(f, 6);
    wr(f, M, 0, 1, 0x0c);
    cr_expect_eq(rd(f, M, 0, 1), 0x86);
    cr_expect_not(intr(f));
    wr(f, M, 0, 1, 0x20);
    pulse(f, 14);
    wr(f, M, 0, 1, 0x0c);
    cr_expect_eq(rd(f, M, 0, 1), 0x82);
    wr(f, S, 0, 1, 0x0c);
    cr_expect_eq(rd(f, S, 0, 1), 0x86);
    fake_free(f);
}

Test(pic, icw1_clears_the_edge_sense) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    rv_pic_line(&f->dev, 3, true);
    init_pair(f);
    cr_expect_not(intr(f));
    pulse(f, 3); /* already high: no edge until it has fallen */
    cr_expect_not(intr(f));
    pulse(f, 3);
    cr_expect(intr(f));
    fake_free(f);
}

Test(pic, special_fully_nested) {
    struct fake *f = fake_new(&rv_dev_pic8259);
    init_pair(f);
    wr(f, M, 0, 1, 0x11), wr(f, M, 1, 1, 0x20), wr(f, M, 1, 1, 4), wr(f, M, 1, 1, 0x11);
    pulse(f, 12);
    cr_expect_eq(ack(f), 0x2c);
    pulse(f, 9 - 1);
    cr_expect(intr(f));
    cr_expect_eq(ack(f), 0x28);
    fake_free(f);
}

/* An IOAPIC and a LAPIC that is enabled. */
static struct fake *with_ioapic(void) {
    struct fake *f = fake_new(&rv_dev_lapic);
    rv_dev_lapic.write(&f->dev, 0, 0xf0, 4, 0x1ff);
    return f;
}
static uint32_t io_read(struct fake *f, unsigned index) {
    rv_dev_ioapic.write(&f->ioapic, 0, 0, 4, index);
    return (uint32_t)rv_dev_ioapic.read(&f->ioapic, 0, 0x10, 4);
}
static void io_write(struct fake *f, unsigned index, uint32_t v) {
    rv_dev_ioapic.write(&f->ioapic, 0, 0, 4, index);
    rv_dev_ioapic.write(&f->ioapic, 0, 0x10, 4, v);
}

Test(ioapic, registers) {
    struct fake *f = with_ioapic();
    cr_expect_eq(io_read(f, 1), 0x00170020);
    io_write(f, 0, 0xff000000);
    cr_expect_eq(io_read(f, 0), 0x0f000000);
    cr_expect_eq(io_read(f, 0x10), 0x10000);
    io_write(f, 0x12, 0xffffffff);
    io_write(f, 0x13, 0xffffffff);
    cr_expect_eq(io_read(f, 0x12), 0x1afff);
    cr_expect_eq(io_read(f, 0x13), 0xff000000);
    cr_expect_eq(io_read(f, 0x40), 0);
    cr_expect_eq(io_read(f, 0xff), 0);
    fake_free(f);
}

Test(ioapic, edges) {
    struct fake *f = with_ioapic();
    rv_ioapic_line(&f->ioapic, 4, true);
    io_write(f, 0x18, 0x44);
    cr_expect_not(rv_lapic_intr(&f->dev), "an edge at a masked pin is lost");
    rv_ioapic_line(&f->ioapic, 4, false);
    rv_ioapic_line(&f->ioapic, 4, true);
    cr_expect(rv_lapic_intr(&f->dev));
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x44);
    rv_dev_lapic.write(&f->dev, 0, 0xb0, 4, 0);
    cr_expect_not(rv_lapic_intr(&f->dev));
    fake_free(f);
}

Test(ioapic, level_with_remote_irr) {
    struct fake *f = with_ioapic();
    io_write(f, 0x22, 0x8055);
    rv_ioapic_line(&f->ioapic, 9, true);
    cr_expect_eq(io_read(f, 0x22), 0xc055);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x55);
    cr_expect_not(rv_lapic_intr(&f->dev));
    rv_dev_lapic.write(&f->dev, 0, 0xb0, 4, 0);
    cr_expect(rv_lapic_intr(&f->dev), "still asserted after EOI");
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x55);
    rv_ioapic_line(&f->ioapic, 9, false);
    rv_dev_lapic.write(&f->dev, 0, 0xb0, 4, 0);
    cr_expect_not(rv_lapic_intr(&f->dev));
    cr_expect_eq(io_read(f, 0x22), 0x8055);
    /* A level that waits behind the mask is seen when it opens. */
    io_write(f, 0x22, 0x18055);
    rv_ioapic_line(&f->ioapic, 9, true);
    io_write(f, 0x22, 0x8055);
    cr_expect(rv_lapic_intr(&f->dev));
    /* Edge and back clears remote IRR; so does the EOI register. */
    io_write(f, 0x22, 0x10055);
    cr_expect_eq(io_read(f, 0x22), 0x10055);
    io_write(f, 0x22, 0x8055);
    cr_expect_eq(io_read(f, 0x22), 0xc055);
    rv_ioapic_line(&f->ioapic, 9, false);
    rv_dev_ioapic.write(&f->ioapic, 0, 0x40, 4, 0x55);
    cr_expect_eq(io_read(f, 0x22), 0x8055);
    fake_free(f);
}

Test(ioapic, delivery_modes_and_destinations) {
    struct fake *f = with_ioapic();
    io_write(f, 0x16, 0x0400); /* NMI */
    rv_ioapic_line(&f->ioapic, 3, true);
    cr_expect(rv_lapic_nmi_pending(&f->dev));
    cr_expect_not(rv_ioapic_extint(&f->ioapic));
    io_write(f, 0x10, 0x0700);
    cr_expect(rv_ioapic_extint(&f->ioapic));
    io_write(f, 0x1b, 5u << 24); /* another CPU */
    io_write(f, 0x1a, 0x66);
    rv_ioapic_line(&f->ioapic, 5, true);
    cr_expect_not(rv_lapic_intr(&f->dev));
    rv_dev_lapic.write(&f->dev, 0, 0xd0, 4, 0x04000000);
    io_write(f, 0x1d, 4u << 24); /* logical, flat */
    io_write(f, 0x1c, 0x967);    /* lowest priority */
    rv_ioapic_line(&f->ioapic, 6, true);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x67);
    fake_free(f);
}
