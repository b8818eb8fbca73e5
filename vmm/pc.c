#include "vmm/pc.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/dev/models.h"
#include "vmm/dev/pci.h"

/* The devices in the order in which they are saved, hashed and, at equal times, ticked: part of the
 * meaning of a trace. Append only. */
enum slot { PIC, PIT, LAPIC, IOAPIC, UART, RTC, I8042, ACPI_PM, PCI, DEBUG, MARK, DEVICES };

static const struct rv_dev_ops *const models[DEVICES] = {
    [PIC] = &rv_dev_pic8259,   [PIT] = &rv_dev_pit8254,     [LAPIC] = &rv_dev_lapic,
    [IOAPIC] = &rv_dev_ioapic, [UART] = &rv_dev_uart16550,  [RTC] = &rv_dev_rtc,
    [I8042] = &rv_dev_i8042,   [ACPI_PM] = &rv_dev_acpi_pm, [PCI] = &rv_dev_pci,
    [DEBUG] = &rv_dev_debug,   [MARK] = &rv_dev_mark,
};

/* Who answers which addresses, and how wide an access the device takes at once. */
struct range {
    uint64_t first, last;
    uint8_t slot, region, width;
    bool clock; /* reads or sets a clock */
};

static const struct range ports[] = {
    {0x020, 0x021, PIC, RV_PIC_MASTER, 1, false},
    {0x040, 0x043, PIT, RV_PIT_COUNTERS, 1, true},
    {0x060, 0x060, I8042, RV_I8042_DATA, 1, false},
    {0x061, 0x061, PIT, RV_PIT_PORT61, 1, true},
    {0x064, 0x064, I8042, RV_I8042_COMMAND, 1, false},
    {0x070, 0x071, RTC, RV_RTC_PORTS, 1, true},
    {0x080, 0x080, DEBUG, RV_DEBUG_POST, 1, false},
    {0x092, 0x092, I8042, RV_I8042_PORT92, 1, false},
    {0x0a0, 0x0a1, PIC, RV_PIC_SLAVE, 1, false},
    {0x0e0, 0x0e3, DEBUG, RV_DEBUG_LATCH, 4, false},
    {0x0e9, 0x0e9, DEBUG, RV_DEBUG_CONSOLE, 1, false},
    {RV_PORT_MARK, RV_PORT_MARK, MARK, RV_MARK_PORT, 1, false},
    {0x0f4, 0x0f7, DEBUG, RV_DEBUG_EXIT, 4, false},
    {0x3f8, 0x3ff, UART, RV_UART_REGS, 1, false},
    {0x4d0, 0x4d1, PIC, RV_PIC_ELCR, 1, false},
    {RV_PORT_PM_EVENT, RV_PORT_PM_EVENT + 3, ACPI_PM, RV_ACPI_PM_EVENT, 4, true},
    {RV_PORT_PM_CONTROL, RV_PORT_PM_CONTROL + 1, ACPI_PM, RV_ACPI_PM_CONTROL, 2, false},
    {RV_PORT_PM_TIMER, RV_PORT_PM_TIMER + 3, ACPI_PM, RV_ACPI_PM_TIMER, 4, true},
    {0xcf8, 0xcfb, PCI, RV_PCI_ADDRESS, 4, false},
    {0xcfc, 0xcff, PCI, RV_PCI_DATA, 4, false},
    {RV_PORT_LINES, RV_PORT_LINES + RV_IOAPIC_PINS - 1, DEBUG, RV_DEBUG_LINES, 1, false},
};

/* The LAPIC's page moves with its base register, so it is found by rv_lapic_decodes. */
static const struct range memory[] = {
    {RV_IOAPIC_BASE, RV_IOAPIC_BASE + 0xfff, IOAPIC, RV_IOAPIC_PAGE, 4, false},
    {RV_SCRATCH_BASE, RV_SCRATCH_BASE + RV_SCRATCH_SIZE - 1, DEBUG, RV_DEBUG_SCRATCH, 8, false},
};

struct rv_pc {
    struct rv_board board; /* first: the devices' view of this object */
    struct rv_pc_host host;
    struct rv_wiring wiring;
    struct rv_pci_bus pci;
    struct rv_dev dev[DEVICES];
    unsigned count; /* of dev that this machine has */
    /* All below follows from the devices' states. */
    rv_ns due[DEVICES];
    rv_ns deadline; /* the earliest of due */
    bool intr, nmi; /* outputs as the host knows them */
    bool resetting; /* under construction or reload: nobody is told anything */
};

static struct rv_pc *pc_of(struct rv_board *b) { return (struct rv_pc *)b; }

static rv_ns board_now(struct rv_board *b) {
    struct rv_pc *pc = pc_of(b);
    return pc->host.now(pc->host.ctx);
}

/* ISA line n is global system interrupt n, but that the timer has IOAPIC pin 2, where pin 0 carries
 * the 8259's output (the MADT tells the guest). Line 2 does not exist. */
static void board_irq(struct rv_board *b, unsigned gsi, bool level) {
    struct rv_pc *pc = pc_of(b);
    if (gsi == 2) return;
    if (gsi < 16) rv_pic_line(&pc->dev[PIC], gsi, level);
    rv_ioapic_line(&pc->dev[IOAPIC], gsi == 0 ? 2 : gsi, level);
}

static void board_effect(struct rv_board *b, enum rv_source sink, const void *data, size_t len) {
    struct rv_pc *pc = pc_of(b);
    pc->host.effect(pc->host.ctx, sink, data, len);
}

static void board_stop(struct rv_board *b, enum rv_stop reason, uint32_t code) {
    struct rv_pc *pc = pc_of(b);
    pc->host.stop(pc->host.ctx, reason, code);
}

static void tell(struct rv_pc *pc) {
    if (!pc->resetting) pc->host.attention(pc->host.ctx);
}

static void board_reschedule(struct rv_board *b, struct rv_dev *dev) {
    struct rv_pc *pc = pc_of(b);
    size_t i = (size_t)(dev - pc->dev);
    pc->due[i] = dev->ops->deadline ? dev->ops->deadline(dev) : RV_NEVER;
    rv_ns earliest = RV_NEVER;
    for (i = 0; i < pc->count; i++)
        if (pc->due[i] < earliest) earliest = pc->due[i];
    bool earlier = earliest < pc->deadline;
    pc->deadline = earliest;
    if (earlier) tell(pc);
}

bool rv_pc_intr(const struct rv_pc *pc) {
    const struct rv_dev *lapic = &pc->dev[LAPIC];
    if (rv_lapic_intr(lapic)) return true;
    if (!rv_pic_intr(&pc->dev[PIC])) return false;
    return !rv_lapic_present(lapic) || rv_lapic_extint(lapic) || rv_ioapic_extint(&pc->dev[IOAPIC]);
}

/* The 8259's output is wired to IOAPIC pin 0 and to LINT0, which pass it on as they are programmed;
 * then the CPU's inputs may have risen. */
static void board_attention(struct rv_board *b) {
    struct rv_pc *pc = pc_of(b);
    bool pic = rv_pic_intr(&pc->dev[PIC]);
    rv_ioapic_line(&pc->dev[IOAPIC], 0, pic);
    rv_lapic_lint(&pc->dev[LAPIC], 0, pic);
    bool intr = rv_pc_intr(pc), nmi = rv_lapic_nmi_pending(&pc->dev[LAPIC]);
    bool rises = (intr && !pc->intr) || (nmi && !pc->nmi);
    pc->intr = intr;
    pc->nmi = nmi;
    if (rises) tell(pc);
}

static const struct rv_board_ops board_ops = {
    .now = board_now,
    .irq = board_irq,
    .effect = board_effect,
    .stop = board_stop,
    .reschedule = board_reschedule,
    .attention = board_attention,
};

unsigned rv_pc_ack(struct rv_pc *pc) {
    unsigned vector =
        rv_lapic_intr(&pc->dev[LAPIC]) ? rv_lapic_ack(&pc->dev[LAPIC]) : rv_pic_ack(&pc->dev[PIC]);
    board_attention(&pc->board);
    return vector & 0xff;
}

bool rv_pc_nmi(struct rv_pc *pc) {
    bool nmi = rv_lapic_nmi_pending(&pc->dev[LAPIC]);
    rv_lapic_nmi_take(&pc->dev[LAPIC]);
    pc->nmi = false;
    return nmi;
}

rv_ns rv_pc_deadline(struct rv_pc *pc) { return pc->deadline; }

void rv_pc_tick(struct rv_pc *pc, rv_ns now) {
    /* In order of time, then of position. A device's tick moves its own deadline beyond now; the
     * bound is for states from a damaged trace. */
    for (unsigned n = 0; n < 4 * DEVICES && pc->deadline <= now; n++) {
        if (pc->deadline == RV_NEVER) return;
        size_t i = 0;
        while (pc->due[i] != pc->deadline) i++;
        pc->dev[i].ops->tick(&pc->dev[i], now);
        board_reschedule(&pc->board, &pc->dev[i]);
    }
}

static const struct range *find(const struct rv_pc *pc, const struct range *ranges, size_t count,
                                uint64_t addr) {
    for (size_t i = 0; i < count; i++)
        if (addr >= ranges[i].first && addr <= ranges[i].last)
            return ranges[i].slot < pc->count ? &ranges[i] : NULL;
    return NULL;
}

/* An access to one address space: looks up who answers an address. */
typedef const struct range *(*lookup)(struct rv_pc *pc, uint64_t addr, struct range *scratch);

static const struct range *lookup_port(struct rv_pc *pc, uint64_t addr, struct range *scratch) {
    return find(pc, ports, RV_COUNT(ports), addr);
}

static const struct range *lookup_memory(struct rv_pc *pc, uint64_t addr, struct range *scratch) {
    if (rv_lapic_decodes(&pc->dev[LAPIC], addr)) {
        uint64_t base = addr & RV_PAGE_MASK;
        *scratch = (struct range){
            base, base + 0xfff, LAPIC, RV_LAPIC_PAGE, 4, rv_lapic_is_clock((addr - base) >> 4)};
        return scratch;
    }
    return find(pc, memory, RV_COUNT(memory), addr);
}

/* What is due happens before the guest looks, even if the machine stops late (KVM). */
static void due_first(struct rv_pc *pc) {
    rv_ns now = board_now(&pc->board);
    if (rv_unlikely(pc->deadline <= now)) rv_pc_tick(pc, now);
}

static void look_at_clock(struct rv_pc *pc) {
    pc->host.clock(pc->host.ctx);
    due_first(pc);
}

/* Halves an access until each part lies in one device, aligned and no wider than it takes, or is a
 * byte that nobody answers; low addresses first, as a bus controller does. */
static uint64_t access_read(struct rv_pc *pc, lookup of, uint64_t addr, unsigned size) {
    struct range scratch;
    const struct range *r = of(pc, addr, &scratch);
    if (r && size <= r->width && addr % size == 0 && addr + size - 1 <= r->last) {
        struct rv_dev *dev = &pc->dev[r->slot];
        if (r->clock) look_at_clock(pc);
        uint64_t v = dev->ops->read(dev, r->region, addr - r->first, size);
        return size == 8 ? v : v & ((1ull << (8 * size)) - 1);
    }
    if (size == 1) return 0xff;
    unsigned half = size / 2;
    uint64_t low = access_read(pc, of, addr, half);
    return low | access_read(pc, of, addr + half, half) << (8 * half);
}

static void access_write(struct rv_pc *pc, lookup of, uint64_t addr, unsigned size, uint64_t v) {
    struct range scratch;
    const struct range *r = of(pc, addr, &scratch);
    if (r && size <= r->width && addr % size == 0 && addr + size - 1 <= r->last) {
        struct rv_dev *dev = &pc->dev[r->slot];
        if (r->clock) look_at_clock(pc);
        v = size == 8 ? v : v & ((1ull << (8 * size)) - 1);
        dev->ops->write(dev, r->region, addr - r->first, size, v);
        return;
    }
    if (size == 1) return;
    unsigned half = size / 2;
    access_write(pc, of, addr, half, v);
    access_write(pc, of, addr + half, half, v >> (8 * half));
}

static void exit_pio_read(struct rv_pc *pc, struct rv_exit *x) {
    x->data = access_read(pc, lookup_port, x->addr, x->size);
}

static void exit_pio_write(struct rv_pc *pc, struct rv_exit *x) {
    access_write(pc, lookup_port, x->addr, x->size, x->data);
}

static void exit_mmio_read(struct rv_pc *pc, struct rv_exit *x) {
    x->data = access_read(pc, lookup_memory, x->addr, x->size);
}

static void exit_mmio_write(struct rv_pc *pc, struct rv_exit *x) {
    access_write(pc, lookup_memory, x->addr, x->size, x->data);
}

static void exit_msr_read(struct rv_pc *pc, struct rv_exit *x) {
    uint64_t v = 0;
    if (rv_lapic_msr_is_clock(x->addr)) look_at_clock(pc);
    x->fault = x->addr > UINT32_MAX || !rv_lapic_msr_read(&pc->dev[LAPIC], (uint32_t)x->addr, &v);
    x->data = v;
}

static void exit_msr_write(struct rv_pc *pc, struct rv_exit *x) {
    if (rv_lapic_msr_is_clock(x->addr)) look_at_clock(pc);
    x->fault =
        x->addr > UINT32_MAX || !rv_lapic_msr_write(&pc->dev[LAPIC], (uint32_t)x->addr, x->data);
}

static void exit_cr8_read(struct rv_pc *pc, struct rv_exit *x) {
    x->data = rv_lapic_cr8(&pc->dev[LAPIC]);
}

static void exit_cr8_write(struct rv_pc *pc, struct rv_exit *x) {
    x->fault = !rv_lapic_set_cr8(&pc->dev[LAPIC], x->data);
}

static void (*const exits[RV_EXIT_KINDS])(struct rv_pc *, struct rv_exit *) = {
    [RV_EXIT_PIO_READ] = exit_pio_read,   [RV_EXIT_PIO_WRITE] = exit_pio_write,
    [RV_EXIT_MMIO_READ] = exit_mmio_read, [RV_EXIT_MMIO_WRITE] = exit_mmio_write,
    [RV_EXIT_MSR_READ] = exit_msr_read,   [RV_EXIT_MSR_WRITE] = exit_msr_write,
    [RV_EXIT_CR8_READ] = exit_cr8_read,   [RV_EXIT_CR8_WRITE] = exit_cr8_write,
};

void rv_pc_exit(struct rv_pc *pc, struct rv_exit *x) {
    rv_assert((unsigned)x->kind < RV_EXIT_KINDS);
    bool access = x->kind <= RV_EXIT_MMIO_WRITE;
    rv_assert(!access || x->size == 1 || x->size == 2 || x->size == 4 || x->size == 8);
    x->fault = false;
    due_first(pc);
    exits[x->kind](pc, x);
}

size_t rv_pc_input(struct rv_pc *pc, enum rv_source source, const uint8_t *data, size_t len) {
    struct rv_dev *dev = &pc->dev[UART];
    return source == RV_SRC_CONSOLE ? dev->ops->input(dev, data, len) : 0;
}

size_t rv_pc_input_room(const struct rv_pc *pc, enum rv_source source) {
    const struct rv_dev *dev = &pc->dev[UART];
    return source == RV_SRC_CONSOLE ? dev->ops->input_room(dev) : 0;
}

bool rv_pc_can_wake(struct rv_pc *pc) {
    return rv_pc_intr(pc) || rv_lapic_nmi_pending(&pc->dev[LAPIC]) || pc->deadline != RV_NEVER ||
           rv_pc_input_room(pc, RV_SRC_CONSOLE);
}

bool rv_pc_can_nmi(struct rv_pc *pc) {
    if (rv_lapic_nmi_pending(&pc->dev[LAPIC])) return true;
    bool routed = rv_lapic_lint0_nmi(&pc->dev[LAPIC]) || rv_ioapic_nmi(&pc->dev[IOAPIC]);
    return routed && (pc->deadline != RV_NEVER || rv_pc_input_room(pc, RV_SRC_CONSOLE));
}

const struct rv_dev_ops *const *rv_pc_models(unsigned *count) {
    *count = DEVICES;
    return models;
}

unsigned rv_pc_device_count(const struct rv_pc *pc) { return pc->count; }

const struct rv_dev *rv_pc_device(const struct rv_pc *pc, unsigned i) {
    return i < pc->count ? &pc->dev[i] : NULL;
}

/* Recomputes what follows from the devices' states. */
static void settle(struct rv_pc *pc) {
    pc->deadline = RV_NEVER;
    for (unsigned i = 0; i < pc->count; i++) pc->due[i] = RV_NEVER;
    for (unsigned i = 0; i < pc->count; i++) board_reschedule(&pc->board, &pc->dev[i]);
    pc->intr = rv_pc_intr(pc);
    pc->nmi = rv_lapic_nmi_pending(&pc->dev[LAPIC]);
}

int rv_pc_new(struct rv_pc **out, struct rv_ram *ram, const struct rv_pc_config *config,
              const struct rv_pc_host *host, struct rv_err *err) {
    if (!config->tsc_hz) return rv_fail(err, RV_E_USAGE, "the TSC frequency must not be 0");
    struct rv_pc *pc = rv_alloc(sizeof *pc);
    rv_assert(config->devices <= DEVICES);
    pc->count = config->devices ? config->devices : DEVICES;
    pc->board.ops = &board_ops;
    pc->host = *host;
    pc->wiring = (struct rv_wiring){
        .lapic = &pc->dev[LAPIC],
        .ioapic = &pc->dev[IOAPIC],
        .pci = &pc->pci,
        .tsc_hz = config->tsc_hz,
        .phys_bits = config->phys_bits ? config->phys_bits : 52,
        .boot_epoch = config->boot_epoch,
        .ram_low = rv_ram_low_size(ram),
        .ram_high = rv_ram_high_size(ram),
    };
    rv_pci_register(&pc->pci, (struct rv_pci_function){0, 0, &rv_pci_host_bridge, &pc->dev[PCI]});
    for (unsigned i = 0; i < pc->count; i++)
        pc->dev[i] = (struct rv_dev){.ops = models[i],
                                     .state = rv_alloc(models[i]->state_size),
                                     .board = &pc->board,
                                     .link = &pc->wiring};
    pc->resetting = true;
    for (unsigned i = 0; i < pc->count; i++) models[i]->reset(&pc->dev[i]);
    settle(pc);
    pc->resetting = false;
    *out = pc;
    return 0;
}

void rv_pc_free(struct rv_pc *pc) {
    if (!pc) return;
    for (unsigned i = 0; i < pc->count; i++) free(pc->dev[i].state);
    free(pc);
}

uint64_t rv_pc_cr8(const struct rv_pc *pc) { return rv_lapic_cr8(&pc->dev[LAPIC]); }

uint64_t rv_pc_hash(const struct rv_pc *pc, uint64_t seed) {
    for (unsigned i = 0; i < pc->count; i++)
        seed = rv_state_hash(models[i]->fields, pc->dev[i].state, seed);
    return seed;
}

void rv_pc_save(const struct rv_pc *pc, struct rv_buf *out) {
    for (unsigned i = 0; i < pc->count; i++) {
        rv_buf_put_u32(out, models[i]->version);
        rv_state_save(models[i]->fields, pc->dev[i].state, out);
    }
}

int rv_pc_load(struct rv_pc *pc, struct rv_cursor *in, struct rv_err *err) {
    int rc = 0;
    for (unsigned i = 0; i < pc->count && !rc; i++) {
        uint32_t version = rv_cursor_u32(in);
        if (in->bad || version != models[i]->version)
            rc = rv_fail(err, RV_E_FORMAT, "saved state of version %u, this build has %u", version,
                         models[i]->version);
        else
            rc = rv_state_load(models[i]->fields, pc->dev[i].state, in, err);
        if (rc) rc = rv_fail_in(err, "device %s", models[i]->name);
    }
    pc->resetting = true;
    settle(pc);
    pc->resetting = false;
    return rc;
}

void rv_pc_dump(const struct rv_pc *pc, struct rv_buf *out) {
    for (unsigned i = 0; i < pc->count; i++)
        rv_state_dump(models[i]->fields, pc->dev[i].state, models[i]->name, out);
}
