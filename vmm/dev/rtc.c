/* The CMOS real-time clock and its battery-backed memory. Sources: Motorola MC146818A data sheet
 * (1984); register 0x32 as the century by PC custom.
 *
 * The clock is guest time plus an offset, so nothing runs while nobody looks: the flags of register
 * C are computed for the time that passed since they were last computed. An update takes no time
 * and happens at whole seconds of guest time, announced by UIP 244 us before. Divider resets are
 * ignored; SET freezes the clock. */
#include "vmm/dev/models.h"
#include "vmm/dev/ticks.h"

#include <string.h>

enum { RTC_GSI = 8, OSCILLATOR_HZ = 32768, DAY = 86400, UIP_NS = 244000 };
enum reg {
    SECONDS = 0,
    SECONDS_ALARM = 1,
    MINUTES = 2,
    MINUTES_ALARM = 3,
    HOURS = 4,
    HOURS_ALARM = 5,
    WEEKDAY = 6,
    DAY_OF_MONTH = 7,
    MONTH = 8,
    YEAR = 9,
    REG_A = 10,
    REG_B = 11,
    REG_C = 12,
    REG_D = 13,
    CENTURY = 0x32
};
enum { A_UIP = 0x80, A_RATE = 0x0f };
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_BINARY = 0x04, B_24H = 0x02 };
enum { C_IRQ = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10, D_VALID = 0x80 };

struct rtc {
    uint64_t offset; /* calendar seconds since 1970 at guest time 0, modulo 2^64 */
    uint64_t synced; /* guest time up to which register C is accounted, ns */
    uint8_t index;
    uint8_t ram[128]; /* calendar registers hold the time only while SET stops the clock */
};

static const struct rv_field fields[] = {
    RV_FIELD(struct rtc, offset),
    RV_FIELD(struct rtc, synced),
    RV_FIELD(struct rtc, index),
    RV_FIELD_ARRAY(struct rtc, ram),
    RV_FIELD_END,
};

static bool leap(uint64_t year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

static unsigned month_days(uint64_t year, unsigned month) {
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month % 12] + (month == 1 && leap(year));
}

static uint8_t encode(const struct rtc *s, unsigned v) {
    return (uint8_t)(s->ram[REG_B] & B_BINARY ? v : (v / 10 % 10) << 4 | v % 10);
}

static unsigned decode(const struct rtc *s, uint8_t v) {
    return s->ram[REG_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct rtc *s, unsigned h) {
    if (s->ram[REG_B] & B_24H) return encode(s, h);
    return (uint8_t)(encode(s, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0));
}

static unsigned decode_hour(const struct rtc *s, uint8_t v) {
    if (s->ram[REG_B] & B_24H) return decode(s, v);
    return decode(s, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

static uint64_t calendar(const struct rtc *s, rv_ns now) { return now / RV_NSEC + s->offset; }

/* Writes calendar time t into the clock's registers. */
static void to_registers(struct rtc *s, uint64_t t) {
    uint64_t days = t / DAY, year = 1970;
    unsigned second = (unsigned)(t % DAY), month = 0;
    s->ram[SECONDS] = encode(s, second % 60);
    s->ram[MINUTES] = encode(s, second / 60 % 60);
    s->ram[HOURS] = encode_hour(s, second / 3600);
    s->ram[WEEKDAY] =
        encode(s, (unsigned)((days + 4) % 7) + 1); /* 1970-01-01: a Thursday; Sunday 1 */
    year += days / 146097 * 400;                   /* the calendar repeats every 400 years */
    days %= 146097;
    for (; days >= 365u + leap(year); year++) days -= 365u + leap(year);
    for (; days >= month_days(year, month); month++) days -= month_days(year, month);
    s->ram[DAY_OF_MONTH] = encode(s, (unsigned)days + 1);
    s->ram[MONTH] = encode(s, month + 1);
    s->ram[YEAR] = encode(s, (unsigned)(year % 100));
    s->ram[CENTURY] = encode(s, (unsigned)(year / 100 % 100));
}

/* The calendar time that the registers say; nonsense gives some time near it. */
static uint64_t from_registers(const struct rtc *s) {
    uint64_t year = decode(s, s->ram[CENTURY]) * 100u + decode(s, s->ram[YEAR]), days = 0;
    unsigned month = decode(s, s->ram[MONTH]), day = decode(s, s->ram[DAY_OF_MONTH]);
    if (year < 1970) year = 1970;
    for (uint64_t y = 1970; y < year; y++) days += 365u + leap(y);
    for (unsigned m = 0; m + 1 < month && m < 11; m++) days += month_days(year, m);
    days += day ? day - 1 : 0;
    return days * DAY + decode_hour(s, s->ram[HOURS]) * 3600u + decode(s, s->ram[MINUTES]) * 60u +
           decode(s, s->ram[SECONDS]);
}

/* Does the alarm ring in this second of the day? Values from 0xc0 on match anything. */
static bool alarm_at(const struct rtc *s, uint64_t t) {
    unsigned second = (unsigned)(t % DAY);
    const uint8_t *r = s->ram;
    return (r[SECONDS_ALARM] >= 0xc0 || decode(s, r[SECONDS_ALARM]) == second % 60) &&
           (r[MINUTES_ALARM] >= 0xc0 || decode(s, r[MINUTES_ALARM]) == second / 60 % 60) &&
           (r[HOURS_ALARM] >= 0xc0 || decode_hour(s, r[HOURS_ALARM]) == second / 3600);
}

/* Seconds from t to the alarm's next ringing, at most a day, or 0 when it never rings. */
static unsigned alarm_after(const struct rtc *s, uint64_t t, uint64_t limit) {
    for (unsigned n = 1; n <= DAY && n <= limit; n++)
        if (alarm_at(s, t + n)) return n;
    return 0;
}

/* Exponent of the periodic rate in oscillator cycles, table 5 (32.768 kHz time base); 0: off. */
static unsigned period_shift(const struct rtc *s) {
    unsigned rate = s->ram[REG_A] & A_RATE;
    return rate == 0 ? 0 : rate <= 2 ? rate + 6 : rate - 1;
}

static bool stopped(const struct rtc *s) { return (s->ram[REG_B] & B_SET) != 0; }

static void update(struct rv_dev *dev) {
    const struct rtc *s = dev->state;
    rv_dev_irq(dev, RTC_GSI, (s->ram[REG_C] & s->ram[REG_B] & (C_PF | C_AF | C_UF)) != 0);
    rv_dev_reschedule(dev);
}

/* Sets the flags for all that happened up to now. */
static void sync(struct rv_dev *dev, rv_ns now) {
    struct rtc *s = dev->state;
    if (now <= s->synced) return;
    uint8_t flags = 0;
    unsigned shift = period_shift(s);
    if (shift &&
        rv_ticks_at(now, OSCILLATOR_HZ) >> shift != rv_ticks_at(s->synced, OSCILLATOR_HZ) >> shift)
        flags |= C_PF;
    uint64_t seconds = now / RV_NSEC - s->synced / RV_NSEC;
    if (seconds && !stopped(s)) {
        flags |= C_UF;
        if (alarm_after(s, calendar(s, s->synced), seconds)) flags |= C_AF;
    }
    s->synced = now;
    if ((flags & ~s->ram[REG_C]) == 0) return;
    s->ram[REG_C] |= flags;
    update(dev);
}

static rv_ns rtc_deadline(const struct rv_dev *dev) {
    const struct rtc *s = dev->state;
    uint8_t waits = s->ram[REG_B] & ~s->ram[REG_C] & (B_PIE | B_AIE | B_UIE);
    rv_ns next = RV_NEVER;
    unsigned shift = period_shift(s);
    if ((waits & B_PIE) && shift) {
        uint64_t periods = (rv_ticks_at(s->synced, OSCILLATOR_HZ) >> shift) + 1;
        next = rv_ticks_time(periods << shift, OSCILLATOR_HZ);
    }
    uint64_t seconds = 0;
    if (waits & B_UIE)
        seconds = 1;
    else if (waits & B_AIE)
        seconds = alarm_after(s, calendar(s, s->synced), DAY);
    if (seconds && !stopped(s)) {
        rv_ns at = rv_ticks_time(s->synced / RV_NSEC + seconds, 1);
        if (at < next) next = at;
    }
    return next;
}

static bool is_time(unsigned reg) {
    return reg == SECONDS || reg == MINUTES || reg == HOURS || (reg >= WEEKDAY && reg <= YEAR) ||
           reg == CENTURY;
}

static uint8_t read_reg(struct rv_dev *dev, unsigned reg, rv_ns now) {
    struct rtc *s = dev->state;
    if (is_time(reg) && !stopped(s)) to_registers(s, calendar(s, now));
    uint8_t v = s->ram[reg];
    if (reg == REG_A && !stopped(s) && now % RV_NSEC >= RV_NSEC - UIP_NS) v |= A_UIP;
    if (reg == REG_C) {
        if (v & s->ram[REG_B] & (C_PF | C_AF | C_UF)) v |= C_IRQ;
        s->ram[REG_C] = 0;
        update(dev);
    }
    return v;
}

static void write_reg(struct rv_dev *dev, unsigned reg, uint8_t v, rv_ns now) {
    struct rtc *s = dev->state;
    if (is_time(reg)) {
        if (!stopped(s)) to_registers(s, calendar(s, now));
        s->ram[reg] = v;
        if (!stopped(s)) s->offset = from_registers(s) - now / RV_NSEC;
    } else if (reg == REG_A) {
        s->ram[REG_A] = v & ~A_UIP & 0xff;
    } else if (reg == REG_B) {
        bool was = stopped(s);
        if (!was && (v & B_SET)) {
            to_registers(s, calendar(s, now));
            v &= (uint8_t)~B_UIE; /* SET clears UIE ("Register B") */
        }
        s->ram[REG_B] = v;
        if (was && !(v & B_SET)) s->offset = from_registers(s) - now / RV_NSEC;
    } else if (reg != REG_C && reg != REG_D) {
        s->ram[reg] = v;
    }
    update(dev);
}

static uint64_t rtc_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    struct rtc *s = dev->state;
    rv_ns now = rv_dev_now(dev);
    if (offset == 0) return 0xff; /* the index is write-only */
    sync(dev, now);
    return read_reg(dev, s->index & 0x7f, now);
}

static void rtc_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                      uint64_t value) {
    struct rtc *s = dev->state;
    rv_ns now = rv_dev_now(dev);
    if (offset == 0) {
        s->index = value & 0x7f; /* bit 7 gates an NMI that this board does not have */
        return;
    }
    sync(dev, now);
    write_reg(dev, s->index & 0x7f, (uint8_t)value, now);
}

static void put16(struct rtc *s, unsigned at, uint64_t v) {
    s->ram[at] = (uint8_t)v;
    s->ram[at + 1] = (uint8_t)(v >> 8);
}

static void rtc_reset(struct rv_dev *dev) {
    struct rtc *s = dev->state;
    const struct rv_wiring *w = rv_dev_wiring(dev);
    memset(s, 0, sizeof *s);
    s->offset = w->boot_epoch;
    s->ram[REG_A] = 0x26; /* 32.768 kHz base, 1024 Hz */
    s->ram[REG_B] = B_24H;
    s->ram[REG_D] = D_VALID;
    /* Memory sizes where PC firmware keeps them: base and extended KiB, 64 KiB units above 16 MiB
     * and above 4 GiB. */
    uint64_t extended = (w->ram_low >> 10) - 1024, above16 = 0;
    if (w->ram_low > 16u << 20) above16 = (w->ram_low - (16u << 20)) >> 16;
    if (extended > 0xffff) extended = 0xffff;
    put16(s, 0x15, 640);
    put16(s, 0x17, extended);
    put16(s, 0x30, extended);
    put16(s, 0x34, above16);
    put16(s, 0x5b, w->ram_high >> 16);
    s->ram[0x5d] = (uint8_t)(w->ram_high >> 32);
    to_registers(s, s->offset);
}

const struct rv_dev_ops rv_dev_rtc = {
    .name = "rtc",
    .version = 1,
    .state_size = sizeof(struct rtc),
    .fields = fields,
    .reset = rtc_reset,
    .read = rtc_read,
    .write = rtc_write,
    .deadline = rtc_deadline,
    .tick = sync,
};
