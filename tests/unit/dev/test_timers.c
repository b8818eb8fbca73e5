/* The interval timer, the real-time clock and the ACPI timer. */
#include <criterion/criterion.h>

#include "fake_board.h"
#include "vmm/dev/ticks.h"

/* Guest time of PIT clock n, and the clock at which something done now takes effect. */
static rv_ns pit_time(uint64_t n) { return rv_ticks_time(n, RV_PIT_HZ); }

static void pit_mode(struct fake *f, unsigned ch, unsigned mode, unsigned count) {
    wr(f, 0, 3, 1, ch << 6 | 0x30 | mode << 1);
    wr(f, 0, ch, 1, count & 0xff);
    wr(f, 0, ch, 1, count >> 8);
}
static unsigned pit_count(struct fake *f, unsigned ch) {
    wr(f, 0, 3, 1, ch << 6);
    unsigned low = (unsigned)rd(f, 0, ch, 1);
    return low | (unsigned)rd(f, 0, ch, 1) << 8;
}
static unsigned pit_status(struct fake *f, unsigned ch) {
    wr(f, 0, 3, 1, 0xe0 | 2u << ch);
    return (unsigned)rd(f, 0, ch, 1);
}

Test(ticks, are_exact_inverses) {
    static const uint64_t hz[] = {1, 3, RV_PIT_HZ, RV_ACPI_PM_HZ, 32768, 1000000000, 2999999999ull};
    for (size_t i = 0; i < RV_COUNT(hz); i++) {
        for (uint64_t n = 1; n < 1ull << 40; n = n * 7 + 1) {
            rv_ns t = rv_ticks_time(n, hz[i]);
            if (t == RV_NEVER) continue;
            cr_assert(rv_ticks_at(t, hz[i]) >= n);
            cr_assert(rv_ticks_at(t - 1, hz[i]) < n);
        }
    }
    cr_expect_eq(rv_ticks_time(UINT64_MAX, 1), RV_NEVER);
    cr_expect_eq(rv_ticks_at(3600 * RV_NSEC, RV_PIT_HZ), 3600ull * RV_PIT_HZ);
}

Test(pit, mode0_interrupt_on_terminal_count) {
    struct fake *f = fake_new(&rv_dev_pit8254);
    pit_mode(f, 0, 0, 1000);
    cr_expect_not(f->line[0]);
    cr_expect_eq(due(f), pit_time(1001)); /* loaded on the clock after the write */
    f->now = pit_time(1);
    cr_expect_eq(pit_count(f, 0), 1000);
    cr_expect_eq(pit_status(f, 0), 0x30);
    f->now = pit_time(501);
    cr_expect_eq(pit_count(f, 0), 500);
    advance(f, pit_time(1001));
    cr_expect(f->line[0]);
    cr_expect_eq(pit_status(f, 0), 0xb0);
    cr_expect_eq(due(f), RV_NEVER);
    f->now = pit_time(1002);
    cr_expect_eq(pit_count(f, 0), 0xffff);
    pit_mode(f, 0, 0, 5);
    cr_expect_not(f->line[0]);
    fake_free(f);
}

Test(pit, mode2_rate_generator_does_not_drift) {
    struct fake *f = fake_new(&rv_dev_pit8254);
    pit_mode(f, 0, 2, 11932);
    cr_expect_eq(pit_status(f, 0), 0xf4); /* out high, count not yet loaded */
    for (uint64_t i = 1; i <= 500; i++) {
        unsigned edges = f->rises[0];
        cr_assert_eq(due(f), pit_time(1 + i * 11932));
        advance(f, due(f));
        cr_assert_eq(f->rises[0], edges + 1);
    }
    f->now = pit_time(1 + 500 * 11932 + 11931);
    cr_expect_eq(pit_status(f, 0) & 0x80, 0, "low for the last clock");
    cr_expect_eq(pit_count(f, 0), 1);
    /* A new count waits for the end of the period. */
    wr(f, 0, 0, 1, 100), wr(f, 0, 0, 1, 0);
    cr_expect_eq(pit_status(f, 0) & 0x40, 0x40);
    advance(f, pit_time(1 + 501 * 11932));
    cr_expect_eq(pit_status(f, 0) & 0x40, 0);
    cr_expect_eq(due(f), pit_time(1 + 501 * 11932 + 100));
    /* Late ticks count once and keep the phase. */
    unsigned edges = f->rises[0];
    f->now = pit_time(1 + 501 * 11932 + 1050);
    f->dev.ops->tick(&f->dev, f->now);
    cr_expect_eq(f->rises[0], edges + 1);
    cr_expect_eq(due(f), pit_time(1 + 501 * 11932 + 1100));
    fake_free(f);
}

Test(pit, mode3_square_wave) {
    struct fake *f = fake_new(&rv_dev_pit8254);
    wr(f, 1, 0, 1, 1); /* gate 2 */
    pit_mode(f, 2, 3, 10);
    static const unsigned count[] = {10, 8, 6, 4, 2, 10, 8, 6, 4, 2, 10};
    for (unsigned i = 0; i < RV_COUNT(count); i++) {
        f->now = pit_time(1 + i);
        cr_expect_eq(pit_count(f, 2), count[i], "clock %u", i);
        cr_expect_eq(rd(f, 1, 0, 1) >> 5 & 1, i % 10 < 5, "clock %u", i);
    }
    pit_mode(f, 2, 3, 5);
    uint64_t from = rv_ticks_at(f->now, RV_PIT_HZ) + 1;
    for (unsigned i = 0; i < 10; i++) {
        f->now = pit_time(from + i);
        cr_expect_eq(rd(f, 1, 0, 1) >> 5 & 1, i % 5 < 3, "odd count, clock %u", i);
    }
    fake_free(f);
}

Test(pit, modes_1_and_5_wait_for_the_gate) {
    struct fake *f = fake_new(&rv_dev_pit8254);
    pit_mode(f, 2, 1, 10);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x20, 0x20);
    f->now = pit_time(100);
    wr(f, 1, 0, 1, 1);
    f->now = pit_time(105);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x20, 0);
    wr(f, 1, 0, 1, 0), wr(f, 1, 0, 1, 1); /* retriggered */
    f->now = pit_time(115);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x20, 0);
    f->now = pit_time(116);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x20, 0x20);
    pit_mode(f, 2, 5, 10);
    wr(f, 1, 0, 1, 0), wr(f, 1, 0, 1, 1);
    f->now = pit_time(127);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x20, 0, "strobe");
    f->now = pit_time(128);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x20, 0x20);
    fake_free(f);
}

Test(pit, gate_pauses_mode0_and_port61) {
    struct fake *f = fake_new(&rv_dev_pit8254);
    wr(f, 1, 0, 1, 3);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x0f, 3);
    pit_mode(f, 2, 0, 100);
    f->now = pit_time(51);
    wr(f, 1, 0, 1, 0);
    f->now = pit_time(1000);
    cr_expect_eq(pit_count(f, 2), 50);
    wr(f, 1, 0, 1, 1);
    f->now = pit_time(1049);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x20, 0);
    f->now = pit_time(1050);
    cr_expect_eq(rd(f, 1, 0, 1) & 0x20, 0x20);
    /* The refresh bit toggles every 18 clocks. */
    f->now = pit_time(18 * 100);
    unsigned refresh = rd(f, 1, 0, 1) & 0x10;
    f->now = pit_time(18 * 101);
    cr_expect_neq(rd(f, 1, 0, 1) & 0x10, refresh);
    fake_free(f);
}

Test(pit, mode4_software_strobe) {
    struct fake *f = fake_new(&rv_dev_pit8254);
    pit_mode(f, 0, 4, 10);
    unsigned edges = f->rises[0];
    cr_expect_eq(due(f), pit_time(12));
    advance(f, pit_time(12));
    cr_expect_eq(f->rises[0], edges + 1);
    cr_expect_eq(due(f), RV_NEVER);
    fake_free(f);
}

Test(pit, access_modes_bcd_and_latches) {
    struct fake *f = fake_new(&rv_dev_pit8254);
    wr(f, 0, 3, 1, 0x35); /* channel 0, both bytes, mode 2, BCD */
    wr(f, 0, 0, 1, 0x34), wr(f, 0, 0, 1, 0x12);
    f->now = pit_time(1);
    cr_expect_eq(pit_count(f, 0), 0x1234);
    f->now = pit_time(36);
    cr_expect_eq(pit_count(f, 0), 0x1199);
    cr_expect_eq(due(f), pit_time(1 + 1234));
    wr(f, 0, 3, 1, 0x00); /* the latch holds while time goes on */
    f->now = pit_time(100);
    cr_expect_eq(rd(f, 0, 0, 1), 0x99);
    wr(f, 0, 3, 1, 0x00);
    cr_expect_eq(rd(f, 0, 0, 1), 0x11);
    wr(f, 0, 3, 1, 0x14); /* low byte only */
    wr(f, 0, 0, 1, 200);
    f->now = pit_time(101 + 50);
    cr_expect_eq(rd(f, 0, 0, 1), 150);
    cr_expect_eq(rd(f, 0, 0, 1), 150);
    wr(f, 0, 3, 1, 0x24); /* high byte only */
    wr(f, 0, 0, 1, 2);
    f->now = pit_time(152);
    cr_expect_eq(rd(f, 0, 0, 1), 2);
    wr(f, 0, 3, 1, 0xc2); /* status first, then count */
    cr_expect_eq(rd(f, 0, 0, 1), 0xa4);
    cr_expect_eq(rd(f, 0, 0, 1), 2);
    cr_expect_eq(rd(f, 0, 3, 1), 0xff, "the control register cannot be read");
    pit_mode(f, 0, 7, 0); /* mode 3 with 65536 */
    cr_expect_eq(pit_status(f, 0) & 0x0e, 6);
    cr_expect_eq(due(f), pit_time(rv_ticks_at(f->now, RV_PIT_HZ) + 1 + 65536));
    fake_free(f);
}

static unsigned cmos(struct fake *f, unsigned reg) {
    wr(f, 0, 0, 1, reg);
    return (unsigned)rd(f, 0, 1, 1);
}
static void set_cmos(struct fake *f, unsigned reg, unsigned v) {
    wr(f, 0, 0, 1, reg);
    wr(f, 0, 1, 1, v);
}

/* 1700000000 is Tuesday 2023-11-14 22:13:20 UTC. */
Test(rtc, calendar) {
    struct fake *f = fake_new(&rv_dev_rtc);
    static const unsigned want[] = {0x20, 0, 0x13, 0, 0x22, 0, 3, 0x14, 0x11, 0x23};
    for (unsigned r = 0; r < 10; r++)
        if (r == 0 || r > 5 || r % 2 == 0) cr_expect_eq(cmos(f, r), want[r], "register %u", r);
    cr_expect_eq(cmos(f, 0x32), 0x20);
    cr_expect_eq(cmos(f, 13), 0x80);
    set_cmos(f, 11, 6); /* binary */
    cr_expect_eq(cmos(f, 4), 22);
    set_cmos(f, 11, 4); /* 12 hours */
    cr_expect_eq(cmos(f, 4), 0x80 | 10);
    set_cmos(f, 11, 0);
    cr_expect_eq(cmos(f, 4), 0x90);
    f->now = (1800 + 5400) * RV_NSEC; /* 00:13:20 the next day */
    cr_expect_eq(cmos(f, 4), 0x12);
    cr_expect_eq(cmos(f, 7), 0x15);
    cr_expect_eq(cmos(f, 6), 4);
    f->now = 999756000; /* 244 us before a second */
    cr_expect_eq(cmos(f, 10), 0xa6);
    f->now = 999755999;
    cr_expect_eq(cmos(f, 10), 0x26);
    fake_free(f);
}

Test(rtc, setting_the_clock) {
    struct fake *f = fake_new(&rv_dev_rtc);
    f->now = 5 * RV_NSEC;
    set_cmos(f, 11, 0x82);
    static const unsigned v[][2] = {{0, 0x58}, {2, 0x59}, {4, 0x23},   {7, 0x28},
                                    {8, 0x02}, {9, 0x24}, {0x32, 0x20}};
    for (unsigned i = 0; i < RV_COUNT(v); i++) set_cmos(f, v[i][0], v[i][1]);
    f->now = 20 * RV_NSEC;
    cr_expect_eq(cmos(f, 0), 0x58, "SET stops the clock");
    set_cmos(f, 11, 2);
    f->now = 22 * RV_NSEC;
    cr_expect_eq(cmos(f, 0), 0x00);
    cr_expect_eq(cmos(f, 7), 0x29, "2024 is a leap year");
    cr_expect_eq(cmos(f, 6), 5, "a Thursday");
    f->now += 86400 * RV_NSEC;
    cr_expect_eq(cmos(f, 8), 3);
    cr_expect_eq(cmos(f, 7), 1);
    fake_free(f);
}

Test(rtc, interrupts) {
    struct fake *f = fake_new(&rv_dev_rtc);
    set_cmos(f, 11, 0x42); /* periodic, 1024 Hz */
    cr_expect_eq(due(f), 976563);
    advance(f, 976563);
    cr_expect(f->line[8]);
    cr_expect_eq(due(f), RV_NEVER, "until the flag is read");
    cr_expect_eq(cmos(f, 12), 0xc0);
    cr_expect_not(f->line[8]);
    cr_expect_eq(due(f), 2 * 976562 + 1);
    set_cmos(f, 11, 0x12); /* update */
    cr_expect_eq(due(f), RV_NSEC);
    advance(f, RV_NSEC);
    cr_expect(f->line[8]);
    cr_expect_eq(cmos(f, 12) & 0x90, 0x90);
    set_cmos(f, 5, 0xff), set_cmos(f, 3, 0x14), set_cmos(f, 1, 0x05); /* any hour, :14:05 */
    set_cmos(f, 11, 0x22);
    cr_expect_eq(due(f), 45 * RV_NSEC); /* from 22:13:20 */
    advance(f, 45 * RV_NSEC);
    cr_expect(f->line[8]);
    cr_expect_eq(cmos(f, 12) & 0xa0, 0xa0);
    cr_expect_eq(due(f), (45 + 3600) * RV_NSEC);
    set_cmos(f, 1, 0x61); /* never */
    cr_expect_eq(due(f), RV_NEVER);
    fake_free(f);
}

Test(rtc, memory_sizes) {
    struct fake *f = fake_new(&rv_dev_rtc);
    cr_expect_eq(cmos(f, 0x15) | cmos(f, 0x16) << 8, 640);
    cr_expect_eq(cmos(f, 0x17) | cmos(f, 0x18) << 8, 0xffff);
    cr_expect_eq(cmos(f, 0x34) | cmos(f, 0x35) << 8, 240 << 4);
    set_cmos(f, 0x70, 0xab);
    cr_expect_eq(cmos(f, 0x70), 0xab);
    fake_free(f);
}

Test(acpi_pm, timer_and_status) {
    struct fake *f = fake_new(&rv_dev_acpi_pm);
    f->now = RV_NSEC;
    cr_expect_eq(rd(f, RV_ACPI_PM_TIMER, 0, 4), 3579545);
    wr(f, RV_ACPI_PM_EVENT, 2, 2, 0x0001);
    rv_ns carry = rv_ticks_time(1ull << 31, RV_ACPI_PM_HZ);
    cr_expect_eq(due(f), carry);
    advance(f, carry);
    cr_expect(f->line[9]);
    cr_expect_eq(rd(f, RV_ACPI_PM_EVENT, 0, 4), 0x00010001);
    wr(f, RV_ACPI_PM_EVENT, 0, 2, 1);
    cr_expect_not(f->line[9]);
    cr_expect_eq(rd(f, RV_ACPI_PM_EVENT, 0, 2), 0);
    cr_expect_eq(due(f), rv_ticks_time(2ull << 31, RV_ACPI_PM_HZ));
    wr(f, RV_ACPI_PM_EVENT, 0, 4, 0x05210000); /* a status write of 0 leaves it, enable sticks */
    cr_expect_eq(rd(f, RV_ACPI_PM_EVENT, 2, 2), 0x0521);
    cr_expect_eq(rd(f, RV_ACPI_PM_EVENT, 3, 1), 0x05);
    fake_free(f);
}

Test(acpi_pm, sleep) {
    struct fake *f = fake_new(&rv_dev_acpi_pm);
    cr_expect_eq(rd(f, RV_ACPI_PM_CONTROL, 0, 2), 1);
    wr(f, RV_ACPI_PM_CONTROL, 0, 2, RV_SLP_TYP_S5 << 10);
    cr_expect_eq(f->stop, RV_STOP_NONE);
    wr(f, RV_ACPI_PM_CONTROL, 0, 2, 1 << 10 | 1 << 13);
    cr_expect_eq(f->stop, RV_STOP_NONE);
    wr(f, RV_ACPI_PM_CONTROL, 0, 2, RV_SLP_TYP_S5 << 10 | 1 << 13);
    cr_expect_eq(f->stop, RV_STOP_POWEROFF);
    cr_expect_eq(rd(f, RV_ACPI_PM_CONTROL, 0, 2), 1 | RV_SLP_TYP_S5 << 10);
    fake_free(f);
}
