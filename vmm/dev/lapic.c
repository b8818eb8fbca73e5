/* The local APIC of the machine's one CPU: interrupt acceptance and registers, in xAPIC and x2APIC
 * mode. Source: Intel SDM vol. 3A, chapter 11 (section numbers of the 2023 edition).
 *
 * It powers up as firmware hands it over: globally enabled, software-disabled, with LINT0 passing
 * the 8259's interrupts through. INIT and start-up messages have no other CPU to act on and are
 * dropped, as are SMIs, for there is no system management mode. */
#include "vmm/dev/lapic.h"

#include <string.h>

#define MSR_APIC_BASE    0x1bu
#define MSR_X2APIC       0x800u
#define MSR_TSC_DEADLINE 0x6e0u

#define BASE_BSP  (1ull << 8)
#define BASE_EXTD (1ull << 10)
#define BASE_EN   (1ull << 11)

#define APIC_ID      0u /* the only CPU */
#define APIC_VERSION (0x14u | (RV_LVTS - 1) << 16)
#define SVR_ENABLE   (1u << 8)
#define ESR_SEND_VEC (1u << 5)
#define ESR_RECV_VEC (1u << 6)
#define ESR_REGISTER (1u << 7)
#define BROADCAST_X1 0xffu
#define BROADCAST_X2 0xffffffffu

/* Registers by their xAPIC offset over 16, which is also their MSR number less 0x800. */
enum reg {
    R_ID = 0x02,
    R_VERSION = 0x03,
    R_TPR = 0x08,
    R_APR = 0x09,
    R_PPR = 0x0a,
    R_EOI = 0x0b,
    R_RRD = 0x0c,
    R_LDR = 0x0d,
    R_DFR = 0x0e,
    R_SVR = 0x0f,
    R_ISR = 0x10,
    R_TMR = 0x18,
    R_IRR = 0x20,
    R_ESR = 0x28,
    R_ICR = 0x30,
    R_ICR_HIGH = 0x31,
    R_LVT = 0x32,
    R_TICR = 0x38,
    R_TCCR = 0x39,
    R_TDCR = 0x3e,
    R_SELF_IPI = 0x3f,
};

static const struct rv_field fields[] = {
    RV_FIELD(struct rv_lapic, base),          RV_FIELD(struct rv_lapic, icr),
    RV_FIELD(struct rv_lapic, timer_expiry),  RV_FIELD(struct rv_lapic, tsc_deadline),
    RV_FIELD_ARRAY(struct rv_lapic, irr),     RV_FIELD_ARRAY(struct rv_lapic, isr),
    RV_FIELD_ARRAY(struct rv_lapic, tmr),     RV_FIELD_ARRAY(struct rv_lapic, lvt),
    RV_FIELD(struct rv_lapic, tpr),           RV_FIELD(struct rv_lapic, ldr),
    RV_FIELD(struct rv_lapic, dfr),           RV_FIELD(struct rv_lapic, svr),
    RV_FIELD(struct rv_lapic, esr),           RV_FIELD(struct rv_lapic, errors),
    RV_FIELD(struct rv_lapic, ticr),          RV_FIELD(struct rv_lapic, tdcr),
    RV_FIELD(struct rv_lapic, timer_running), RV_FIELD(struct rv_lapic, nmi),
    RV_FIELD(struct rv_lapic, lint),          RV_FIELD_END,
};

/* Bits of each LVT entry that the guest may set (figure 11-8). */
static const uint32_t lvt_writable[RV_LVTS] = {
    [RV_LVT_TIMER] = 0x700ff, [RV_LVT_THERMAL] = 0x107ff, [RV_LVT_PERF] = 0x107ff,
    [RV_LVT_LINT0] = 0x1a7ff, [RV_LVT_LINT1] = 0x1a7ff,   [RV_LVT_ERROR] = 0x100ff,
};

static bool x2(const struct rv_lapic *s) { return (s->base & BASE_EXTD) != 0; }

static void bit_set(uint32_t *set, unsigned v) { set[v >> 5 & 7] |= 1u << (v & 31); }
static void bit_clear(uint32_t *set, unsigned v) { set[v >> 5 & 7] &= ~(1u << (v & 31)); }
static bool bit_test(const uint32_t *set, unsigned v) { return set[v >> 5 & 7] >> (v & 31) & 1; }

/* The highest vector in a set, or -1. */
static int highest(const uint32_t *set) {
    for (int i = 7; i >= 0; i--)
        if (set[i]) return i * 32 + 31 - __builtin_clz(set[i]);
    return -1;
}

/* Processor priority, 11.8.3.1. */
static uint32_t ppr(const struct rv_lapic *s) {
    int isr = highest(s->isr);
    uint32_t class = isr < 0 ? 0 : (uint32_t)isr & 0xf0;
    return (s->tpr & 0xf0) >= class ? s->tpr & 0xff : class;
}

static void raise_error(struct rv_dev *dev, uint32_t error) {
    struct rv_lapic *s = dev->state;
    if (s->errors & error) return;
    s->errors |= error;
    rv_lapic_local(dev, RV_LVT_ERROR);
}

static void accept(struct rv_dev *dev, unsigned vector, bool level) {
    struct rv_lapic *s = dev->state;
    if (vector < 16) {
        raise_error(dev, ESR_RECV_VEC);
        return;
    }
    if (!(s->svr & SVR_ENABLE)) return; /* software-disabled: 11.4.7.2 */
    bit_set(s->irr, vector);
    if (level)
        bit_set(s->tmr, vector);
    else
        bit_clear(s->tmr, vector);
    rv_dev_attention(dev);
}

static void deliver(struct rv_dev *dev, enum rv_apic_mode mode, unsigned vector, bool level) {
    struct rv_lapic *s = dev->state;
    if (mode == RV_APIC_FIXED || mode == RV_APIC_LOWEST) accept(dev, vector, level);
    if (mode == RV_APIC_NMI) {
        s->nmi = 1;
        rv_dev_attention(dev);
    }
}

void rv_lapic_local(struct rv_dev *dev, enum rv_lvt n) {
    struct rv_lapic *s = dev->state;
    uint32_t lvt = s->lvt[n];
    if (lvt & RV_LVT_MASKED) return;
    /* Timer and error entries have no delivery mode field: they are fixed. */
    bool has_mode = n != RV_LVT_TIMER && n != RV_LVT_ERROR;
    enum rv_apic_mode mode = has_mode ? (enum rv_apic_mode)(lvt >> 8 & 7) : RV_APIC_FIXED;
    /* LINT1 is edge only; LINT0 may be level for fixed delivery (11.5.1). */
    bool level = n == RV_LVT_LINT0 && mode == RV_APIC_FIXED && (lvt & RV_LVT_LEVEL);
    if (level && (lvt & RV_LVT_REMOTE_IRR)) return;
    if (level && (lvt & 0xff) >= 16 && (s->svr & SVR_ENABLE)) s->lvt[n] |= RV_LVT_REMOTE_IRR;
    deliver(dev, mode, lvt & 0xff, level);
}

void rv_lapic_lint(struct rv_dev *dev, unsigned pin, bool level) {
    struct rv_lapic *s = dev->state;
    if (pin > 1 || (s->lint >> pin & 1) == level) return;
    s->lint ^= (uint8_t)(1u << pin);
    if (level && (s->base & BASE_EN)) rv_lapic_local(dev, pin ? RV_LVT_LINT1 : RV_LVT_LINT0);
}

/* Sends a level-triggered LINT0 that is still asserted again: after EOI, or when unmasked. */
static void resend_lint0(struct rv_dev *dev) {
    const struct rv_lapic *s = dev->state;
    if ((s->lint & 1) && (s->lvt[RV_LVT_LINT0] & RV_LVT_LEVEL)) rv_lapic_local(dev, RV_LVT_LINT0);
}

/* Is this APIC meant? 11.6.2; dest is 32 bits wide only from its own x2APIC mode ICR. */
static bool addressed(const struct rv_lapic *s, uint32_t dest, bool logical, uint32_t broadcast) {
    if (dest == broadcast) return true;
    if (!logical) return dest == APIC_ID;
    if (x2(s)) return dest >> 16 == 0 && (dest & 1); /* cluster 0, bit 0 */
    uint32_t id = s->ldr >> 24;
    if (s->dfr >> 28 == 0xf) return (dest & id) != 0;
    bool cluster = dest >> 4 == id >> 4 || dest >> 4 == 0xf;
    return cluster && (dest & id & 0xf) != 0;
}

bool rv_lapic_message(struct rv_dev *dev, const struct rv_apic_message *m) {
    const struct rv_lapic *s = dev->state;
    if (!(s->base & BASE_EN) || !addressed(s, m->dest, m->logical, BROADCAST_X1)) return false;
    deliver(dev, m->mode, m->vector, m->level);
    return true;
}

static void send_ipi(struct rv_dev *dev) {
    const struct rv_lapic *s = dev->state;
    uint32_t low = (uint32_t)s->icr;
    uint32_t dest = (uint32_t)(s->icr >> 32);
    enum rv_apic_mode mode = (enum rv_apic_mode)(low >> 8 & 7);
    unsigned vector = low & 0xff;
    bool fixed = mode == RV_APIC_FIXED || mode == RV_APIC_LOWEST;
    if (fixed && vector < 16) {
        raise_error(dev, ESR_SEND_VEC);
        return;
    }
    switch (low >> 18 & 3) { /* destination shorthand */
    case 0:
        if (!x2(s)) dest >>= 24;
        if (!addressed(s, dest, low >> 11 & 1, x2(s) ? BROADCAST_X2 : BROADCAST_X1)) return;
        break;
    case 3: return; /* all but self: nobody */
    default: break;
    }
    deliver(dev, mode, vector, false); /* IPIs are edge triggered, 11.6.1 */
}

static void end_of_interrupt(struct rv_dev *dev) {
    struct rv_lapic *s = dev->state;
    int vector = highest(s->isr);
    if (vector < 0) return;
    bit_clear(s->isr, (unsigned)vector);
    if (bit_test(s->tmr, (unsigned)vector)) {
        uint32_t lint0 = s->lvt[RV_LVT_LINT0];
        if ((lint0 & RV_LVT_REMOTE_IRR) && (lint0 & 0xff) == (uint32_t)vector) {
            s->lvt[RV_LVT_LINT0] &= ~RV_LVT_REMOTE_IRR;
            resend_lint0(dev);
        }
        rv_ioapic_eoi(rv_dev_wiring(dev)->ioapic, (unsigned)vector);
    }
    rv_dev_attention(dev);
}

bool rv_lapic_present(const struct rv_dev *dev) {
    const struct rv_lapic *s = dev->state;
    return (s->base & BASE_EN) != 0;
}

bool rv_lapic_intr(const struct rv_dev *dev) {
    const struct rv_lapic *s = dev->state;
    int vector = highest(s->irr);
    return (s->base & BASE_EN) && vector >= 0 && ((uint32_t)vector & 0xf0) > (ppr(s) & 0xf0);
}

unsigned rv_lapic_ack(struct rv_dev *dev) {
    struct rv_lapic *s = dev->state;
    if (!rv_lapic_intr(dev)) return s->svr & 0xff; /* spurious, 11.9 */
    unsigned vector = (unsigned)highest(s->irr);
    bit_clear(s->irr, vector);
    bit_set(s->isr, vector);
    return vector;
}

bool rv_lapic_nmi_pending(const struct rv_dev *dev) {
    return ((const struct rv_lapic *)dev->state)->nmi != 0;
}

bool rv_lapic_lint0_nmi(const struct rv_dev *dev) {
    uint32_t lint0 = ((const struct rv_lapic *)dev->state)->lvt[RV_LVT_LINT0];
    return !(lint0 & RV_LVT_MASKED) && (lint0 >> 8 & 7) == RV_APIC_NMI;
}

void rv_lapic_nmi_take(struct rv_dev *dev) { ((struct rv_lapic *)dev->state)->nmi = 0; }

bool rv_lapic_extint(const struct rv_dev *dev) {
    const struct rv_lapic *s = dev->state;
    uint32_t lvt = s->lvt[RV_LVT_LINT0];
    return !(lvt & RV_LVT_MASKED) && (lvt >> 8 & 7) == RV_APIC_EXTINT;
}

bool rv_lapic_decodes(const struct rv_dev *dev, rv_gpa gpa) {
    const struct rv_lapic *s = dev->state;
    return (s->base & (BASE_EN | BASE_EXTD)) == BASE_EN && ((gpa ^ s->base) & RV_PAGE_MASK) == 0;
}

/* Reads a register common to both modes; false when there is none of that number. */
static bool read_reg(struct rv_dev *dev, unsigned reg, uint32_t *v) {
    const struct rv_lapic *s = dev->state;
    if (reg >= R_ISR && reg < R_ISR + 8) {
        *v = s->isr[reg - R_ISR];
    } else if (reg >= R_TMR && reg < R_TMR + 8) {
        *v = s->tmr[reg - R_TMR];
    } else if (reg >= R_IRR && reg < R_IRR + 8) {
        *v = s->irr[reg - R_IRR];
    } else if (reg >= R_LVT && reg < R_LVT + RV_LVTS) {
        *v = s->lvt[reg - R_LVT];
    } else {
        switch (reg) {
        case R_ID: *v = x2(s) ? APIC_ID : APIC_ID << 24; break;
        case R_VERSION: *v = APIC_VERSION; break;
        case R_TPR: *v = s->tpr & 0xff; break;
        case R_PPR: *v = ppr(s); break;
        case R_LDR: *v = x2(s) ? 1 : s->ldr; break; /* x2APIC: derived from the ID, 11.12.10.2 */
        case R_SVR: *v = s->svr; break;
        case R_ESR: *v = s->esr; break;
        case R_ICR: *v = (uint32_t)s->icr; break;
        case R_TICR: *v = s->ticr; break;
        case R_TCCR: *v = rv_lapic_timer_count(dev); break;
        case R_TDCR: *v = s->tdcr; break;
        default: return false;
        }
    }
    return true;
}

static void write_lvt(struct rv_dev *dev, unsigned n, uint32_t v) {
    struct rv_lapic *s = dev->state;
    v &= lvt_writable[n];
    if (!(s->svr & SVR_ENABLE)) v |= RV_LVT_MASKED;
    if (n == RV_LVT_TIMER) {
        rv_lapic_timer_mode(dev, v);
        return;
    }
    if (v & RV_LVT_LEVEL) v |= s->lvt[n] & RV_LVT_REMOTE_IRR;
    s->lvt[n] = v;
    if (n == RV_LVT_LINT0) resend_lint0(dev);
    rv_dev_attention(dev); /* LINT0 may now pass the 8259 through */
}

static void write_svr(struct rv_dev *dev, uint32_t v) {
    struct rv_lapic *s = dev->state;
    s->svr = v & 0x3ff;
    if (s->svr & SVR_ENABLE) return;
    /* Software disable masks every entry, and enabling does not bring them back. */
    for (unsigned n = 0; n < RV_LVTS; n++) s->lvt[n] |= RV_LVT_MASKED;
    rv_dev_reschedule(dev);
}

/* Writes a register common to both modes; false when there is none, or it is read-only. */
static bool write_reg(struct rv_dev *dev, unsigned reg, uint32_t v) {
    struct rv_lapic *s = dev->state;
    if (reg >= R_LVT && reg < R_LVT + RV_LVTS) {
        write_lvt(dev, reg - R_LVT, v);
        return true;
    }
    switch (reg) {
    case R_TPR:
        s->tpr = v & 0xff;
        rv_dev_attention(dev);
        return true;
    case R_EOI: end_of_interrupt(dev); return true;
    case R_SVR: write_svr(dev, v); return true;
    case R_ESR: /* a write of anything shows what was collected and starts anew, 11.5.3 */
        s->esr = s->errors;
        s->errors = 0;
        return true;
    case R_TICR: rv_lapic_timer_start(dev, v); return true;
    case R_TDCR: rv_lapic_timer_divide(dev, v); return true;
    default: return false;
    }
}

static uint64_t lapic_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    const struct rv_lapic *s = dev->state;
    unsigned reg = (unsigned)(offset >> 4) & 0xff;
    uint32_t v = 0;
    rv_lapic_timer_sync(dev, rv_dev_now(dev));
    if ((offset & 0xc) != 0) return 0; /* between registers: undefined by 11.4.1 */
    if (reg == R_DFR)
        v = s->dfr;
    else if (reg == R_ICR_HIGH)
        v = (uint32_t)(s->icr >> 32);
    else if (!read_reg(dev, reg, &v) && reg != R_APR && reg != R_RRD)
        raise_error(dev, ESR_REGISTER);
    return (v >> (8 * (offset & 3))) & (size == 4 ? 0xffffffffu : (1u << (8 * size)) - 1);
}

static void lapic_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                        uint64_t value) {
    struct rv_lapic *s = dev->state;
    unsigned reg = (unsigned)(offset >> 4) & 0xff;
    uint32_t v = (uint32_t)value;
    rv_lapic_timer_sync(dev, rv_dev_now(dev));
    if (size != 4 || (offset & 0xf)) return; /* only whole aligned registers, 11.4.1 */
    switch (reg) {
    case R_LDR: s->ldr = v & 0xff000000u; break;
    case R_DFR: s->dfr = v | 0x0fffffffu; break;
    case R_ICR_HIGH: s->icr = (s->icr & 0xffffffffu) | (uint64_t)(v & 0xff000000u) << 32; break;
    case R_ICR:
        s->icr = (s->icr & ~0xffffffffull) | (v & 0xccfffu);
        send_ipi(dev);
        break;
    case R_ID:
    case R_VERSION: break; /* read-only */
    default:
        if (!write_reg(dev, reg, v)) raise_error(dev, ESR_REGISTER);
    }
}

/* Bits that x2APIC registers accept; anything else is #GP (table 11-6 and 11.12.1.2). */
static uint64_t x2_writable(unsigned reg) {
    if (reg >= R_LVT && reg < R_LVT + RV_LVTS) return lvt_writable[reg - R_LVT];
    switch (reg) {
    case R_TPR: return 0xff;
    case R_SVR: return 0x3ff;
    case R_ICR: return 0xffffffff000cdfffull; /* bit 12 was delivery status: tolerated */
    case R_TICR: return 0xffffffffu;
    case R_TDCR: return 0x0b;
    case R_SELF_IPI: return 0xff;
    default: return 0; /* EOI and ESR take only 0 */
    }
}

static bool x2_read(struct rv_dev *dev, unsigned reg, uint64_t *value) {
    const struct rv_lapic *s = dev->state;
    uint32_t v = 0;
    if (reg == R_ICR) {
        *value = s->icr;
        return true;
    }
    if (!read_reg(dev, reg, &v)) return false;
    *value = v;
    return true;
}

static bool x2_write(struct rv_dev *dev, unsigned reg, uint64_t value) {
    struct rv_lapic *s = dev->state;
    if (value & ~x2_writable(reg)) return false;
    if (reg == R_ICR) {
        s->icr = value & ~(1ull << 12);
        send_ipi(dev);
        return true;
    }
    if (reg == R_SELF_IPI) {
        if (value < 16)
            raise_error(dev, ESR_SEND_VEC);
        else
            accept(dev, (unsigned)value, false);
        return true;
    }
    return write_reg(dev, reg, (uint32_t)value);
}

/* Registers as after INIT or a change through the disabled state; base stays. */
static void reset_registers(struct rv_lapic *s) {
    *s = (struct rv_lapic){.base = s->base, .lint = s->lint, .nmi = s->nmi};
    s->dfr = 0xffffffffu;
    s->svr = 0xff;
    for (unsigned n = 0; n < RV_LVTS; n++) s->lvt[n] = RV_LVT_MASKED;
}

static bool write_base(struct rv_dev *dev, uint64_t v) {
    struct rv_lapic *s = dev->state;
    uint64_t address = ((1ull << (rv_dev_wiring(dev)->phys_bits & 63)) - 1) & RV_PAGE_MASK;
    if (v & ~(address | BASE_BSP | BASE_EXTD | BASE_EN)) return false;
    /* Figure 11-27: EXTD without EN is no state; x2APIC is entered only from xAPIC and left only
     * by disabling. */
    uint64_t was = s->base & (BASE_EN | BASE_EXTD), to = v & (BASE_EN | BASE_EXTD);
    if (to == BASE_EXTD) return false;
    if (was == 0 && to == (BASE_EN | BASE_EXTD)) return false;
    if (was == (BASE_EN | BASE_EXTD) && to == BASE_EN) return false;
    s->base = v;
    if (was != to && to == 0) reset_registers(s);
    if (was == BASE_EN && x2(s)) s->icr &= 0xffffffffu; /* the destination field changes shape */
    rv_dev_reschedule(dev);
    rv_dev_attention(dev);
    return true;
}

bool rv_lapic_is_clock(uint64_t reg) {
    return reg == R_LVT || reg == R_TICR || reg == R_TCCR || reg == R_TDCR;
}

bool rv_lapic_msr_is_clock(uint64_t msr) {
    return msr == MSR_TSC_DEADLINE || (msr >= MSR_X2APIC && rv_lapic_is_clock(msr - MSR_X2APIC));
}

bool rv_lapic_msr_read(struct rv_dev *dev, uint32_t msr, uint64_t *value) {
    const struct rv_lapic *s = dev->state;
    rv_lapic_timer_sync(dev, rv_dev_now(dev));
    if (msr == MSR_APIC_BASE) {
        *value = s->base;
        return true;
    }
    if (msr == MSR_TSC_DEADLINE) {
        *value = s->tsc_deadline;
        return true;
    }
    if (msr < MSR_X2APIC || msr > MSR_X2APIC + R_SELF_IPI || !x2(s)) return false;
    return x2_read(dev, msr - MSR_X2APIC, value);
}

bool rv_lapic_msr_write(struct rv_dev *dev, uint32_t msr, uint64_t value) {
    const struct rv_lapic *s = dev->state;
    rv_lapic_timer_sync(dev, rv_dev_now(dev));
    if (msr == MSR_APIC_BASE) return write_base(dev, value);
    if (msr == MSR_TSC_DEADLINE) {
        rv_lapic_timer_set_deadline(dev, value);
        return true;
    }
    if (msr < MSR_X2APIC || msr > MSR_X2APIC + R_SELF_IPI || !x2(s)) return false;
    return x2_write(dev, msr - MSR_X2APIC, value);
}

uint64_t rv_lapic_cr8(const struct rv_dev *dev) {
    return (((const struct rv_lapic *)dev->state)->tpr >> 4) & 0xf;
}

bool rv_lapic_set_cr8(struct rv_dev *dev, uint64_t value) {
    struct rv_lapic *s = dev->state;
    if (value & ~0xfull) return false;
    s->tpr = (uint32_t)value << 4;
    rv_dev_attention(dev);
    return true;
}

static void lapic_reset(struct rv_dev *dev) {
    struct rv_lapic *s = dev->state;
    memset(s, 0, sizeof *s);
    s->base = RV_LAPIC_BASE | BASE_BSP | BASE_EN;
    reset_registers(s);
    s->lvt[RV_LVT_LINT0] = RV_APIC_EXTINT << 8;
}

const struct rv_dev_ops rv_dev_lapic = {
    .name = "lapic",
    .version = 1,
    .state_size = sizeof(struct rv_lapic),
    .fields = fields,
    .reset = lapic_reset,
    .read = lapic_read,
    .write = lapic_write,
    .deadline = rv_lapic_timer_next,
    .tick = rv_lapic_timer_sync,
};
