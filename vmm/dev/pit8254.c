/* The 8254 interval timer and the port 0x61 bits around its channel 2. Source: Intel 82C54 data
 * sheet (231244-006); 82371SB (PIIX3) data sheet, 2.5.2 for port 0x61.
 *
 * Counters are not stepped: a counter is the clock cycle at which its count was loaded, and what
 * the guest sees is computed from guest time. Channel 0 drives GSI 0. Its periodic modes pulse the
 * line at each reload instead of holding it low for the end of the period, which nobody can tell
 * apart through an edge-triggered input; what read-back shows is exact. */
#include "vmm/dev/models.h"
#include "vmm/dev/ticks.h"

#include <string.h>

enum { CHANNELS = 3, TIMER_GSI = 0 };
enum { RW_LATCH = 0, RW_LSB = 1, RW_MSB = 2, RW_BOTH = 3 };
enum { P61_GATE2 = 1, P61_SPEAKER = 2, P61_REFRESH = 0x10, P61_OUT2 = 0x20 };

struct channel {
    uint64_t start;  /* clock cycle at which count was loaded, or counting resumed */
    uint64_t held;   /* cycles counted before that (a gate that paused modes 0 and 4) */
    uint32_t count;  /* cycles, 1..65536 */
    uint32_t reload; /* takes over from count at the end of the period, or at the next trigger */
    uint16_t latch;  /* latched count, as the guest reads it */
    uint8_t mode, rw, bcd, gate;
    uint8_t running;            /* a count was loaded since the control word */
    uint8_t low_byte, have_low; /* first half of a two-byte write */
    uint8_t read_high;          /* the next read gives the most significant byte */
    uint8_t latched, status_latched, status;
};

struct pit {
    struct channel ch[CHANNELS];
    uint64_t edge; /* clock cycle of channel 0's next rising edge, or RV_NEVER */
    uint8_t port61;
};

#define CH(i)                                                                                      \
    RV_FIELD(struct pit, ch[i].start), RV_FIELD(struct pit, ch[i].held),                           \
        RV_FIELD(struct pit, ch[i].count), RV_FIELD(struct pit, ch[i].reload),                     \
        RV_FIELD(struct pit, ch[i].latch), RV_FIELD(struct pit, ch[i].mode),                       \
        RV_FIELD(struct pit, ch[i].rw), RV_FIELD(struct pit, ch[i].bcd),                           \
        RV_FIELD(struct pit, ch[i].gate), RV_FIELD(struct pit, ch[i].running),                     \
        RV_FIELD(struct pit, ch[i].low_byte), RV_FIELD(struct pit, ch[i].have_low),                \
        RV_FIELD(struct pit, ch[i].read_high), RV_FIELD(struct pit, ch[i].latched),                \
        RV_FIELD(struct pit, ch[i].status_latched), RV_FIELD(struct pit, ch[i].status)

static const struct rv_field fields[] = {
    CH(0), CH(1), CH(2), RV_FIELD(struct pit, edge), RV_FIELD(struct pit, port61), RV_FIELD_END,
};

static uint64_t clock_now(const struct rv_dev *dev) {
    return rv_ticks_at(rv_dev_now(dev), RV_PIT_HZ);
}

static uint64_t length(const struct channel *c) { return c->count ? c->count : 0x10000; }

static bool periodic(const struct channel *c) { return c->mode == 2 || c->mode == 3; }
static bool triggered(const struct channel *c) { return c->mode == 1 || c->mode == 5; }

/* Clock cycles counted since the load. */
static uint64_t elapsed(const struct channel *c, uint64_t now) {
    if (!c->running) return 0;
    bool paused = !c->gate && !triggered(c);
    return c->held + (paused || now < c->start ? 0 : now - c->start);
}

/* Brings a periodic counter past the end of a period when a new count waits for it. */
static void settle(struct channel *c, uint64_t now) {
    if (!periodic(c) || c->reload == c->count || elapsed(c, now) < length(c)) return;
    c->start += length(c);
    c->count = c->reload;
}

static bool output(const struct channel *c, uint64_t now) {
    uint64_t n = length(c), e = elapsed(c, now);
    switch (c->mode) {
    case 0: return c->running && e >= n;
    case 1: return !c->running || e >= n;
    case 2: return !c->running || !c->gate || e % n != n - 1;
    case 3: return !c->running || !c->gate || e % n < (n + 1) / 2;
    default: return !c->running || e != n;
    }
}

/* What the counting element shows, in the guest's number base. */
static uint16_t counter(const struct channel *c, uint64_t now) {
    uint64_t n = length(c), e = elapsed(c, now), v;
    if (c->mode == 2) {
        v = n - e % n;
    } else if (c->mode == 3) {
        /* Counts down by two, once for each half of the wave ("Mode 3: square wave mode"). */
        uint64_t phase = e % n, half = (n + 1) / 2;
        v = (n & ~1ull) - 2 * (phase < half ? phase : phase - half);
    } else {
        v = n - e; /* wraps and goes on */
    }
    if (!c->bcd) return (uint16_t)v;
    v = (int64_t)v < 0 ? 9999 - (~v % 10000) : v % 10000;
    return (uint16_t)(v % 10 | (v / 10 % 10) << 4 | (v / 100 % 10) << 8 | (v / 1000) << 12);
}

/* The clock cycle of the next rising edge after now, or RV_NEVER. */
static uint64_t next_edge(const struct channel *c, uint64_t now) {
    if (!c->running || !c->gate || triggered(c)) return RV_NEVER;
    uint64_t n = length(c);
    if (periodic(c)) return c->start + (now < c->start ? 1 : (now - c->start) / n + 1) * n;
    uint64_t at = c->start + n - c->held + (c->mode == 4 ? 1 : 0);
    return at > now ? at : RV_NEVER;
}

static void update(struct rv_dev *dev, uint64_t now) {
    struct pit *s = dev->state;
    rv_dev_irq(dev, TIMER_GSI, output(&s->ch[0], now));
    s->edge = next_edge(&s->ch[0], now);
    rv_dev_reschedule(dev);
}

/* Loads the count register into the counter on the clock after now. */
static void load(struct channel *c, uint64_t now) {
    c->count = c->reload;
    c->start = now + 1;
    c->held = 0;
    c->running = 1;
}

static void set_gate(struct channel *c, bool gate, uint64_t now) {
    if (c->gate == gate) return;
    if (!gate) {
        if (!triggered(c)) c->held = elapsed(c, now);
        c->gate = 0;
        return;
    }
    c->gate = 1;
    if (triggered(c) || periodic(c)) {
        if (c->reload) load(c, now); /* a rising gate starts these modes over */
    } else {
        c->start = now;
    }
}

static void write_count(struct channel *c, uint16_t raw, uint64_t now) {
    uint32_t n = raw;
    if (c->bcd) n = (raw & 15) + (raw >> 4 & 15) * 10 + (raw >> 8 & 15) * 100 + (raw >> 12) * 1000u;
    c->reload = n ? n : c->bcd ? 10000 : 0x10000;
    if (triggered(c)) return; /* waits for the gate */
    if (!periodic(c) || !c->running)
        load(c, now);
    else /* waits for the end of the period that runs now: let start be its beginning */
        c->start += elapsed(c, now) / length(c) * length(c);
}

static void write_data(struct channel *c, uint8_t v, uint64_t now) {
    switch (c->rw) {
    case RW_LSB: write_count(c, v, now); break;
    case RW_MSB: write_count(c, (uint16_t)(v << 8), now); break;
    default:
        if (!c->have_low) {
            c->low_byte = v;
            c->have_low = 1;
            /* The first byte stops mode 0 and lowers its output ("Mode 0"). */
            if (c->mode == 0) c->running = 0;
        } else {
            c->have_low = 0;
            write_count(c, (uint16_t)(v << 8 | c->low_byte), now);
        }
    }
}

static void latch_count(struct channel *c, uint64_t now) {
    if (c->latched) return; /* the first latch holds until read */
    c->latch = counter(c, now);
    c->latched = 1;
}

static void latch_status(struct channel *c, uint64_t now) {
    if (c->status_latched) return;
    bool null_count = !c->running || now < c->start || c->reload != c->count;
    c->status = (uint8_t)((output(c, now) ? 0x80 : 0) | (null_count ? 0x40 : 0) | (c->rw & 3) << 4 |
                          (c->mode & 7) << 1 | (c->bcd & 1));
    c->status_latched = 1;
}

static void write_control(struct pit *s, uint8_t v, uint64_t now) {
    if (v >> 6 == 3) { /* read-back command */
        for (unsigned i = 0; i < CHANNELS; i++) {
            if (!(v & (2u << i))) continue;
            if (!(v & 0x20)) latch_count(&s->ch[i], now);
            if (!(v & 0x10)) latch_status(&s->ch[i], now);
        }
        return;
    }
    struct channel *c = &s->ch[v >> 6];
    uint8_t rw = (v >> 4) & 3;
    if (rw == RW_LATCH) {
        latch_count(c, now);
        return;
    }
    *c = (struct channel){.rw = rw, .mode = (v >> 1) & 7, .bcd = v & 1, .gate = c->gate};
    if (c->mode > 5) c->mode -= 4; /* modes 6 and 7 are 2 and 3 */
}

static uint8_t read_data(struct channel *c, uint64_t now) {
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    uint16_t v = c->latched ? c->latch : counter(c, now);
    bool high = c->rw == RW_MSB;
    bool last = true;
    if (c->rw == RW_BOTH) {
        high = c->read_high;
        last = high;
        c->read_high = !high;
    }
    if (last) c->latched = 0;
    return (uint8_t)(high ? v >> 8 : v);
}

static uint64_t pit_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    struct pit *s = dev->state;
    uint64_t now = clock_now(dev);
    for (unsigned i = 0; i < CHANNELS; i++) settle(&s->ch[i], now);
    if (region == RV_PIT_COUNTERS) return offset < CHANNELS ? read_data(&s->ch[offset], now) : 0xff;
    /* Memory refresh requests come every 18 clocks, about 15 us. */
    return (uint64_t)((s->port61 & 0x0f) | ((now / 18) & 1 ? P61_REFRESH : 0) |
                      (output(&s->ch[2], now) ? P61_OUT2 : 0));
}

static void pit_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                      uint64_t value) {
    struct pit *s = dev->state;
    uint64_t now = clock_now(dev);
    uint8_t v = (uint8_t)value;
    for (unsigned i = 0; i < CHANNELS; i++) settle(&s->ch[i], now);
    if (region == RV_PIT_PORT61) {
        s->port61 = v & 0x0f;
        set_gate(&s->ch[2], v & P61_GATE2, now);
        return;
    }
    if (offset < CHANNELS)
        write_data(&s->ch[offset], v, now);
    else
        write_control(s, v, now);
    if (offset == 0 || offset == 3) update(dev, now);
}

static rv_ns pit_deadline(const struct rv_dev *dev) {
    const struct pit *s = dev->state;
    return s->edge == RV_NEVER ? RV_NEVER : rv_ticks_time(s->edge, RV_PIT_HZ);
}

static void pit_tick(struct rv_dev *dev, rv_ns now_ns) {
    struct pit *s = dev->state;
    uint64_t now = rv_ticks_at(now_ns, RV_PIT_HZ);
    if (s->edge > now) return;
    rv_dev_irq(dev, TIMER_GSI, false);
    rv_dev_irq(dev, TIMER_GSI, true);
    settle(&s->ch[0], now);
    s->edge = next_edge(&s->ch[0], now);
    rv_dev_reschedule(dev);
}

static void pit_reset(struct rv_dev *dev) {
    struct pit *s = dev->state;
    memset(s, 0, sizeof *s);
    s->edge = RV_NEVER;
    for (unsigned i = 0; i < CHANNELS; i++) {
        s->ch[i].rw = RW_BOTH;
        s->ch[i].gate = i != 2;
    }
}

const struct rv_dev_ops rv_dev_pit8254 = {
    .name = "pit8254",
    .version = 1,
    .state_size = sizeof(struct pit),
    .fields = fields,
    .reset = pit_reset,
    .read = pit_read,
    .write = pit_write,
    .deadline = pit_deadline,
    .tick = pit_tick,
};
