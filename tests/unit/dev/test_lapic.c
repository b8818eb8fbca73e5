/* The local APIC: acceptance, IPIs, both register interfaces, the timer. */
#include <criterion/criterion.h>

#include "fake_board.h"

enum {
    ID = 0x20,
    VER = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICRH = 0x310,
    TIMER = 0x320,
    LINT0 = 0x350,
    LINT1 = 0x360,
    ERROR = 0x370,
    TICR = 0x380,
    TCCR = 0x390,
    TDCR = 0x3e0
};
#define GET(r)    rd(f, 0, r, 4)
#define PUT(r, v) wr(f, 0, r, 4, v)
#define BASE      0x1b

static struct fake *enabled(void) {
    struct fake *f = fake_new(&rv_dev_lapic);
    PUT(SVR, 0x1ff);
    return f;
}
static void ipi(struct fake *f, unsigned vector) { PUT(ICR, 0x40000 | vector); }
static bool msr_set(struct fake *f, uint32_t msr, uint64_t v) {
    return rv_lapic_msr_write(&f->dev, msr, v);
}
static uint64_t msr(struct fake *f, uint32_t n) {
    uint64_t v = 0;
    cr_expect(rv_lapic_msr_read(&f->dev, n, &v), "MSR %x", n);
    return v;
}
static bool faults(struct fake *f, uint32_t n) {
    uint64_t v;
    return !rv_lapic_msr_read(&f->dev, n, &v);
}

Test(lapic, power_on_state) {
    struct fake *f = fake_new(&rv_dev_lapic);
    cr_expect_eq(GET(ID), 0);
    cr_expect_eq(GET(VER), 0x50014);
    cr_expect_eq(GET(SVR), 0xff);
    cr_expect_eq(GET(DFR), 0xffffffff);
    cr_expect_eq(GET(TIMER), 0x10000);
    cr_expect(rv_lapic_extint(&f->dev), "virtual wire mode, as firmware leaves it");
    cr_expect_eq(msr(f, BASE), 0xfee00900);
    PUT(SVR, 0xff);
    cr_expect_eq(GET(LINT0), 0x10700);
    fake_free(f);
}

Test(lapic, priorities) {
    struct fake *f = enabled();
    ipi(f, 0x31), ipi(f, 0x45), ipi(f, 0x42);
    cr_expect_eq(GET(IRR + 0x20), 0x24);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x45);
    cr_expect_not(rv_lapic_intr(&f->dev), "0x42 is of the same class");
    cr_expect_eq(GET(PPR), 0x40);
    cr_expect_eq(GET(ISR + 0x20), 0x20);
    ipi(f, 0x51);
    cr_expect(rv_lapic_intr(&f->dev));
    PUT(TPR, 0x55);
    cr_expect_not(rv_lapic_intr(&f->dev));
    cr_expect_eq(GET(PPR), 0x55);
    cr_expect_eq(rv_lapic_cr8(&f->dev), 5);
    cr_expect(rv_lapic_set_cr8(&f->dev, 4));
    cr_expect_not(rv_lapic_set_cr8(&f->dev, 0x10));
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x51);
    PUT(TPR, 0);
    PUT(EOI, 0), PUT(EOI, 0);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x42);
    PUT(EOI, 0);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x31);
    PUT(EOI, 0);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0xff, "spurious");
    fake_free(f);
}

Test(lapic, ipi_destinations) {
    struct fake *f = enabled();
    struct {
        uint32_t high, low;
        bool arrives;
    } c[] = {
        {0, 0x40, true},
        {0x01000000, 0x40, false},
        {0xff000000, 0x40, true},
        {0, 0x40040, true},
        {0, 0x80040, true},
        {0, 0xc0040, false},
        {0x02000000, 0x840, false},
        {0x01000000, 0x840, true},
        {0xff000000, 0x840, true},
    };
    PUT(LDR, 0x01000000);
    for (size_t i = 0; i < RV_COUNT(c); i++) {
        PUT(ICRH, c[i].high);
        PUT(ICR, c[i].low);
        cr_expect_eq(rv_lapic_intr(&f->dev), c[i].arrives, "case %zu", i);
        if (!c[i].arrives) continue;
        rv_lapic_ack(&f->dev);
        PUT(EOI, 0);
    }
    PUT(DFR, 0); /* cluster model: cluster 2, member 1 */
    PUT(LDR, 0x21000000);
    PUT(ICRH, 0x12000000), PUT(ICR, 0x840);
    cr_expect_not(rv_lapic_intr(&f->dev));
    PUT(ICRH, 0x22000000), PUT(ICR, 0x840);
    cr_expect_not(rv_lapic_intr(&f->dev));
    PUT(ICRH, 0x23000000), PUT(ICR, 0x840);
    cr_expect(rv_lapic_intr(&f->dev));
    fake_free(f);
}

Test(lapic, nmi_init_and_startup) {
    struct fake *f = enabled();
    PUT(ICR, 0x400);
    cr_expect(rv_lapic_nmi_pending(&f->dev));
    rv_lapic_nmi_take(&f->dev);
    PUT(ICRH, 0x01000000);
    PUT(ICR, 0x4500), PUT(ICR, 0x4610);
    cr_expect_not(rv_lapic_nmi_pending(&f->dev));
    cr_expect_not(rv_lapic_intr(&f->dev));
    cr_expect_eq(GET(ICR) & 0x1000, 0);
    fake_free(f);
}

Test(lapic, errors) {
    struct fake *f = enabled();
    PUT(ERROR, 0xfe);
    ipi(f, 5);
    cr_expect_eq(GET(ESR), 0, "latched only by a write");
    PUT(ESR, 0);
    cr_expect_eq(GET(ESR), 0x20);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0xfe);
    PUT(ESR, 0);
    cr_expect_eq(GET(ESR), 0);
    GET(0x3f0);
    PUT(ESR, 0);
    cr_expect_eq(GET(ESR), 0x80);
    struct rv_apic_message m = {.mode = RV_APIC_FIXED, .vector = 3};
    cr_expect(rv_lapic_message(&f->dev, &m));
    PUT(ESR, 0);
    cr_expect_eq(GET(ESR), 0x40);
    fake_free(f);
}

Test(lapic, software_disable) {
    struct fake *f = enabled();
    PUT(TIMER, 0x40);
    PUT(SVR, 0xff);
    cr_expect_eq(GET(TIMER), 0x10040);
    PUT(TIMER, 0x41);
    cr_expect_eq(GET(TIMER), 0x10041);
    ipi(f, 0x50);
    cr_expect_not(rv_lapic_intr(&f->dev));
    fake_free(f);
}

Test(lapic, lint0_level) {
    struct fake *f = enabled();
    PUT(LINT0, 0x8060);
    rv_lapic_lint(&f->dev, 0, true);
    cr_expect_eq(GET(LINT0), 0xc060);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x60);
    cr_expect_eq(GET(TMR + 0x30), 1);
    PUT(EOI, 0);
    cr_expect(rv_lapic_intr(&f->dev), "sent again while asserted");
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x60);
    rv_lapic_lint(&f->dev, 0, false);
    PUT(EOI, 0);
    cr_expect_not(rv_lapic_intr(&f->dev));
    PUT(LINT1, 0x400);
    rv_lapic_lint(&f->dev, 1, true);
    cr_expect(rv_lapic_nmi_pending(&f->dev));
    fake_free(f);
}

Test(lapic, base_transitions) {
    struct fake *f = enabled();
    cr_expect(rv_lapic_decodes(&f->dev, 0xfee00ffc));
    cr_expect(msr_set(f, BASE, 0xfed00900));
    cr_expect(rv_lapic_decodes(&f->dev, 0xfed00000));
    cr_expect_not(msr_set(f, BASE, 1ull << 40 | 0xfee00900), "beyond phys_bits");
    cr_expect_not(msr_set(f, BASE, 0xfee00901));
    cr_expect_not(msr_set(f, BASE, 0xfee00500), "x2APIC without enable");
    cr_expect(faults(f, 0x802), "no x2APIC registers yet");
    cr_expect(msr_set(f, BASE, 0xfee00d00));
    cr_expect_not(rv_lapic_decodes(&f->dev, 0xfee00000));
    cr_expect_not(msr_set(f, BASE, 0xfee00900), "x2APIC back to xAPIC");
    cr_expect(msr_set(f, BASE, 0xfee00100));
    cr_expect_not(rv_lapic_present(&f->dev));
    cr_expect_not(msr_set(f, BASE, 0xfee00d00), "disabled to x2APIC");
    cr_expect(msr_set(f, BASE, 0xfee00900));
    cr_expect_eq(GET(SVR), 0xff, "the registers were reset");
    fake_free(f);
}

Test(lapic, x2apic_registers) {
    struct fake *f = enabled();
    cr_expect(msr_set(f, BASE, 0xfee00d00));
    cr_expect_eq(msr(f, 0x802), 0);
    cr_expect_eq(msr(f, 0x80d), 1);
    cr_expect_eq(msr(f, 0x80f), 0x1ff);
    cr_expect(msr_set(f, 0x83f, 0x77)); /* self IPI */
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x77);
    cr_expect_eq(msr(f, 0x813), 1u << 23);
    cr_expect(msr_set(f, 0x80b, 0));
    cr_expect_not(msr_set(f, 0x80b, 1));
    cr_expect(msr_set(f, 0x830, 0x0000000000000078));
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x78);
    cr_expect(msr_set(f, 0x80b, 0));
    cr_expect(msr_set(f, 0x830, 0xffffffff00000079)); /* broadcast */
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x79);
    cr_expect(msr_set(f, 0x80b, 0));
    cr_expect(msr_set(f, 0x830, 0x000000010000087a)); /* logical: cluster 0, member 0 */
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x7a);
    cr_expect(msr_set(f, 0x80b, 0));
    cr_expect(msr_set(f, 0x830, 0x000100010000087a)); /* cluster 1 */
    cr_expect_not(rv_lapic_intr(&f->dev));
    cr_expect_eq(msr(f, 0x830), 0x000100010000087a);

    static const uint32_t absent[] = {0x800, 0x801, 0x80c, 0x80e, 0x82f, 0x831, 0x83a, 0x840, 0x10};
    for (size_t i = 0; i < RV_COUNT(absent); i++) {
        cr_expect(faults(f, absent[i]), "%x", absent[i]);
        cr_expect_not(msr_set(f, absent[i], 0), "%x", absent[i]);
    }
    cr_expect(faults(f, 0x80b), "EOI is write-only");
    cr_expect(faults(f, 0x83f));
    static const uint32_t constant[] = {0x802, 0x803, 0x80a, 0x80d, 0x810, 0x818, 0x820, 0x839};
    for (size_t i = 0; i < RV_COUNT(constant); i++)
        cr_expect_not(msr_set(f, constant[i], 0), "%x is read-only", constant[i]);
    cr_expect_not(msr_set(f, 0x808, 0x100));
    cr_expect_not(msr_set(f, 0x80f, 0x400));
    cr_expect_not(msr_set(f, 0x828, 1));
    cr_expect_not(msr_set(f, 0x832, 0x80000));
    cr_expect_not(msr_set(f, 0x838, 1ull << 32));
    cr_expect_not(msr_set(f, 0x83e, 4));
    cr_expect_not(msr_set(f, 0x830, 1u << 20));
    fake_free(f);
}

/* The fake's TSC runs at 2 GHz: two ticks a nanosecond. */
Test(lapic, one_shot_timer) {
    struct fake *f = enabled();
    f->now = 1000;
    PUT(TDCR, 0xb); /* divide by 1 */
    PUT(TIMER, 0x40);
    PUT(TICR, 2001);
    cr_expect_eq(due(f), 2001); /* 1000.5 ns on, rounded up */
    f->now = 1100;
    cr_expect_eq(GET(TCCR), 1801);
    advance(f, 2000);
    cr_expect_not(rv_lapic_intr(&f->dev));
    advance(f, 2001);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x40);
    cr_expect_eq(GET(TCCR), 0);
    cr_expect_eq(due(f), RV_NEVER);
    PUT(TICR, 100);
    PUT(TICR, 0);
    cr_expect_eq(due(f), RV_NEVER);
    fake_free(f);
}

Test(lapic, timer_divider) {
    struct fake *f = enabled();
    static const struct {
        uint32_t tdcr;
        unsigned divide;
    } c[] = {
        {0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {0xa, 128}, {0xb, 1},
    };
    PUT(TIMER, 0x40);
    for (size_t i = 0; i < RV_COUNT(c); i++) {
        PUT(TDCR, c[i].tdcr);
        PUT(TICR, 1000);
        cr_expect_eq(due(f) - f->now, 500 * c[i].divide, "divider %u", c[i].divide);
    }
    fake_free(f);
}

Test(lapic, periodic_timer_does_not_drift) {
    struct fake *f = enabled();
    PUT(TDCR, 0xb);
    PUT(TIMER, 0x20040);
    PUT(TICR, 2001);
    for (unsigned i = 1; i <= 1000; i++) {
        cr_assert_eq(due(f), (i * 2001ull + 1) / 2);
        advance(f, due(f));
        cr_assert_eq(rv_lapic_ack(&f->dev), 0x40);
        PUT(EOI, 0);
    }
    /* A masked timer asks for nothing and keeps its phase. */
    PUT(TIMER, 0x30040);
    cr_expect_eq(due(f), RV_NEVER);
    f->now += 1000000;
    PUT(TIMER, 0x20040);
    cr_expect_not(rv_lapic_intr(&f->dev));
    uint64_t phase = (due(f) * 2) % 2001;
    cr_expect(phase <= 1);
    fake_free(f);
}

Test(lapic, tsc_deadline) {
    struct fake *f = enabled();
    cr_expect(msr_set(f, 0x6e0, 5000));
    cr_expect_eq(msr(f, 0x6e0), 0, "ignored in the other modes");
    PUT(TIMER, 0x40040);
    cr_expect(msr_set(f, 0x6e0, 5001));
    cr_expect_eq(msr(f, 0x6e0), 5001);
    cr_expect_eq(due(f), 2501);
    cr_expect_eq(GET(TCCR), 0);
    PUT(TICR, 1234);
    cr_expect_eq(GET(TICR), 0);
    advance(f, 2501);
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x40);
    cr_expect_eq(msr(f, 0x6e0), 0);
    PUT(EOI, 0);
    cr_expect(msr_set(f, 0x6e0, 1)); /* the past */
    cr_expect_eq(rv_lapic_ack(&f->dev), 0x40);
    cr_expect(msr_set(f, 0x6e0, 900000));
    cr_expect(msr_set(f, 0x6e0, 0));
    cr_expect_eq(due(f), RV_NEVER);
    cr_expect(msr_set(f, 0x6e0, 900000));
    PUT(TIMER, 0x40); /* leaving the mode disarms */
    PUT(TIMER, 0x40040);
    cr_expect_eq(msr(f, 0x6e0), 0);
    fake_free(f);
}
