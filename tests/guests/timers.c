/* The clocks and their interrupts, waited for in HLT and busily. Times are compared with the TSC.
 */
#include "rt/guest.h"

#define TSC_HZ 1000000000ull

static volatile unsigned ticks;
static volatile uint64_t last;
static void pit_tick(struct frame *f) {
    ticks++;
    last = rdtsc();
    pic_eoi(0);
}
static void apic_tick(struct frame *f) {
    ticks++;
    last = rdtsc();
    lapic_write(LAPIC_EOI, 0);
}
static volatile uint8_t rtc_cause;
static void rtc_tick(struct frame *f) {
    ticks++;
    out8(0x70, 0x0c);
    rtc_cause |= in8(0x71);
    pic_eoi(8);
}

static void wait_ticks(unsigned n, bool busy) {
    while (ticks < n) {
        if (busy) {
            irq_on();
            __asm__ volatile("pause; pause");
            irq_off();
        } else {
            wait_irq();
        }
    }
}

/* got within a hundredth of want */
static bool near(uint64_t got, uint64_t want) {
    bool ok = got >= want - want / 100 && got <= want + want / 100 + 20000;
    if (!ok) show("  took", got), show("  not ", want);
    return ok;
}

static void pit(bool busy) {
    part(busy ? "PIT, busily" : "PIT, in HLT");
    handlers[0x20] = pit_tick;
    pic_on();
    pit_period(2, 1000);
    pic_mask(0xfffe);
    ticks = 0;
    wait_ticks(1, busy);
    uint64_t from = last;
    wait_ticks(11, busy);
    check(near(last - from, 10 * 1000 * TSC_HZ / 1193182));
    pit_period(0, 4000); /* one shot */
    ticks = 0;
    from = rdtsc();
    wait_ticks(1, busy);
    check(near(last - from, 4000 * TSC_HZ / 1193182));
    pic_mask(0xffff);
}

static void pit_reading(void) {
    part("PIT, read");
    pit_period(2, 0);
    out8(0x43, 0x00);
    unsigned a = in8(0x40);
    a |= (unsigned)in8(0x40) << 8;
    uint64_t from = rdtsc();
    while (rdtsc() - from < 2000000) continue;
    out8(0x43, 0x00);
    unsigned b = in8(0x40);
    b |= (unsigned)in8(0x40) << 8;
    check(near((uint16_t)(a - b) * TSC_HZ / 1193182, 2000000));
    /* Channel 2 runs by its gate and shows its output in port 0x61. */
    out8(0x61, 0);
    out8(0x43, 0xb0);
    out8(0x42, 10000 & 0xff);
    out8(0x42, 10000 >> 8);
    check(!(in8(0x61) & 0x20));
    out8(0x61, 1);
    from = rdtsc();
    while (!(in8(0x61) & 0x20) && rdtsc() - from < TSC_HZ) continue;
    check(near(rdtsc() - from, 10000 * TSC_HZ / 1193182));
}

static void lapic(bool busy) {
    part(busy ? "LAPIC timer, busily" : "LAPIC timer, in HLT");
    handlers[0x40] = apic_tick;
    lapic_on();
    lapic_write(LAPIC_DIVIDE, 0xb); /* by 1 */
    lapic_write(LAPIC_TIMER, 0x40);
    ticks = 0;
    uint64_t from = rdtsc();
    lapic_write(LAPIC_INIT, 1000000);
    wait_ticks(1, busy);
    check(near(last - from, 1000000));
    equal(lapic_read(LAPIC_COUNT), 0);
    lapic_write(LAPIC_DIVIDE, 0x3); /* by 16 */
    lapic_write(LAPIC_TIMER, 0x40 | 1 << 17);
    ticks = 0;
    from = rdtsc();
    lapic_write(LAPIC_INIT, 10000);
    wait_ticks(10, busy);
    check(near(last - from, 10 * 16 * 10000));
    lapic_write(LAPIC_INIT, 0);
    lapic_write(LAPIC_TIMER, 0x40 | 2 << 17);
    for (unsigned i = 0; i < 3; i++) {
        ticks = 0;
        uint64_t due = rdtsc() + 300000;
        wrmsr(0x6e0, due);
        equal(rdmsr(0x6e0), due);
        wait_ticks(1, busy);
        check(last >= due && last - due < 20000);
        equal(rdmsr(0x6e0), 0);
    }
    wrmsr(0x6e0, 1); /* the past: at once */
    ticks = 0;
    wait_ticks(1, busy);
    lapic_write(LAPIC_TIMER, 1 << 16);
}

static void x2apic_tick(struct frame *f) {
    ticks++;
    wrmsr(0x80b, 0);
}

static void x2apic(void) {
    part("x2APIC");
    handlers[0x42] = x2apic_tick;
    wrmsr(0x1b, rdmsr(0x1b) | 1 << 10);
    equal(rdmsr(0x802), 0);
    ticks = 0;
    wrmsr(0x83f, 0x42); /* to self */
    equal(ticks, 0);
    wait_irq();
    equal(ticks, 1);
    equal(TRY("wrmsr", ::"c"(0x802), "a"(1), "d"(0), RESUME), GP);
    wrmsr(0x1b, rdmsr(0x1b) & ~(3ull << 10));
    wrmsr(0x1b, rdmsr(0x1b) | 1 << 11);
}

static uint8_t cmos(uint8_t reg) {
    out8(0x70, reg);
    return in8(0x71);
}
static void set_cmos(uint8_t reg, uint8_t v) {
    out8(0x70, reg);
    out8(0x71, v);
}

static void rtc(bool busy) {
    part(busy ? "RTC, busily" : "RTC, in HLT");
    handlers[0x28] = rtc_tick;
    pic_on();
    pic_mask((uint16_t) ~(1u << 8 | 1u << 2));
    set_cmos(0x0a, 0x26); /* 1024 Hz */
    set_cmos(0x0b, 0x42);
    cmos(0x0c);
    ticks = 0;
    wait_ticks(2, busy); /* the first may have been latched before */
    uint64_t from = rdtsc();
    wait_ticks(6, busy);
    check(near(rdtsc() - from, 4 * TSC_HZ / 1024));
    check(rtc_cause & 0x40);
    if (!busy) {
        set_cmos(0x0b, 0x12); /* an interrupt at each second */
        cmos(0x0c);
        ticks = 0;
        rtc_cause = 0;
        wait_ticks(2, busy);
        from = rdtsc();
        uint8_t second = cmos(0);
        wait_ticks(3, busy);
        check(near(rdtsc() - from, TSC_HZ));
        check(cmos(0) != second);
        check(rtc_cause & 0x10);
    }
    set_cmos(0x0b, 0x02);
    cmos(0x0c);
    pic_mask(0xffff);
}

static void reading(void) {
    part("TSC and PM timer");
    uint64_t a = rdtsc(), b = rdtsc();
    check(b > a && b - a < 1000);
    uint32_t aux;
    wrmsr(0xc0000103, 77);
    __asm__ volatile("rdtscp" : "=c"(aux)::"eax", "edx");
    equal(aux, 77);
    a = rdtsc();
    uint32_t p = in32(0x608);
    while (rdtsc() - a < 10000000) continue;
    check(near((uint64_t)(in32(0x608) - p) * TSC_HZ / 3579545, 10000000));
    part("TSC written");
    wrmsr(0x10, 1ull << 40);
    a = rdtsc();
    check(a >= 1ull << 40 && a < (1ull << 40) + 10000);
    check(rdmsr(0x3b) != 0);
    wrmsr(0x3b, 0);
    check(rdtsc() < 1ull << 40);
}

/* The PIT by way of the IOAPIC, where it is pin 2. */
static void ioapic(void) {
    part("IOAPIC");
    volatile uint32_t *select = (volatile uint32_t *)0xfec00000u,
                      *window = (volatile uint32_t *)0xfec00010u;
    *select = 1;
    equal(*window >> 16 & 0xff, 23);
    handlers[0x50] = apic_tick;
    lapic_on();
    *select = 0x10 + 2 * 2 + 1;
    *window = 0;
    *select = 0x10 + 2 * 2;
    *window = 0x50;
    pit_period(2, 3000);
    ticks = 0;
    wait_ticks(1, false);
    uint64_t from = last;
    wait_ticks(6, false);
    check(near(last - from, 5 * 3000 * TSC_HZ / 1193182));
    *window = 0x10050; /* masked */
    from = rdtsc();
    ticks = 0;
    irq_on();
    while (rdtsc() - from < 10000000) continue;
    irq_off();
    check(ticks <= 1);
}

int main(void) {
    for (int busy = 0; busy < 2; busy++) {
        pit(busy);
        lapic(busy);
        rtc(busy);
    }
    pit_reading();
    reading();
    ioapic();
    x2apic();
    return 0;
}
