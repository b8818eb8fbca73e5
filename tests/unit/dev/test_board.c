/* The small devices, and the board: routing, splitting, interrupt wiring, deadlines, and the
 * promise that no access and no loaded state does harm. */
#include <criterion/criterion.h>

#include "fake_board.h"
#include "vmm/pc.h"

Test(i8042, answers_a_probe) {
    struct fake *f = fake_new(&rv_dev_i8042);
    cr_expect_eq(rd(f, RV_I8042_COMMAND, 0, 1), 0x14);
    wr(f, RV_I8042_COMMAND, 0, 1, 0xaa);
    cr_expect_eq(rd(f, RV_I8042_COMMAND, 0, 1) & 1, 1);
    cr_expect_eq(rd(f, RV_I8042_DATA, 0, 1), 0x55);
    cr_expect_eq(rd(f, RV_I8042_COMMAND, 0, 1) & 1, 0);
    wr(f, RV_I8042_COMMAND, 0, 1, 0x60), wr(f, RV_I8042_DATA, 0, 1, 0x45);
    wr(f, RV_I8042_COMMAND, 0, 1, 0x20);
    cr_expect(f->line[1]);
    cr_expect_eq(rd(f, RV_I8042_DATA, 0, 1), 0x45);
    cr_expect_not(f->line[1]);
    wr(f, RV_I8042_DATA, 0, 1, 0xff); /* reset the keyboard: none there */
    cr_expect_eq(rd(f, RV_I8042_COMMAND, 0, 1) & 0x41, 0x41);
    cr_expect_eq(rd(f, RV_I8042_DATA, 0, 1), 0xfe);
    wr(f, RV_I8042_COMMAND, 0, 1, 0xd0);
    cr_expect_eq(rd(f, RV_I8042_DATA, 0, 1) & 3, 3);
    fake_free(f);
}

Test(i8042, resets) {
    struct fake *f = fake_new(&rv_dev_i8042);
    wr(f, RV_I8042_COMMAND, 0, 1, 0xff);
    cr_expect_eq(f->stop, RV_STOP_NONE);
    wr(f, RV_I8042_COMMAND, 0, 1, 0xfe);
    cr_expect_eq(f->stop, RV_STOP_RESET);
    f->stop = RV_STOP_NONE;
    cr_expect_eq(rd(f, RV_I8042_PORT92, 0, 1), 2);
    wr(f, RV_I8042_PORT92, 0, 1, 0);
    cr_expect_eq(rd(f, RV_I8042_PORT92, 0, 1), 2, "A20 stays open");
    wr(f, RV_I8042_PORT92, 0, 1, 3);
    cr_expect_eq(f->stop, RV_STOP_RESET);
    fake_free(f);
}

/* Each effect is one mark, as the fake board keeps it. */
Test(mark, names) {
    struct fake *f = fake_new(&rv_dev_mark);
    cr_expect_eq(rd(f, RV_MARK_PORT, 0, 1), 0xea);
    for (const char *c = "start of work\n"; *c; c++) wr(f, RV_MARK_PORT, 0, 1, (uint8_t)*c);
    cr_expect_eq(f->sink, RV_SRC_MARK);
    cr_expect_eq(f->out_len, 13);
    cr_expect_arr_eq(f->out, "start of work", 13);
    /* Nothing is no name; NUL ends one too, and one that is too long is cut. */
    wr(f, RV_MARK_PORT, 0, 1, '\n');
    wr(f, RV_MARK_PORT, 0, 1, 0);
    cr_expect_eq(f->out_len, 13);
    for (unsigned n = 0; n < 1000; n++) wr(f, RV_MARK_PORT, 0, 1, 'a' + n % 26);
    cr_expect_eq(f->out_len, 13, "before it is ended");
    wr(f, RV_MARK_PORT, 0, 1, 0);
    cr_expect_eq(f->out_len, 13 + RV_MARK_NAME);
    cr_expect_eq(f->out[13], 'a');
    fake_free(f);
}

Test(debug, ports) {
    struct fake *f = fake_new(&rv_dev_debug);
    cr_expect_eq(rd(f, RV_DEBUG_CONSOLE, 0, 1), 0xe9);
    wr(f, RV_DEBUG_CONSOLE, 0, 1, 'x');
    cr_expect_eq(f->sink, RV_SRC_DEBUGCON);
    cr_expect_eq(f->out[0], 'x');
    wr(f, RV_DEBUG_POST, 0, 1, 0x42);
    cr_expect_eq(rd(f, RV_DEBUG_POST, 0, 1), 0x42);
    wr(f, RV_DEBUG_LATCH, 2, 2, 0xa55a);
    cr_expect_eq(rd(f, RV_DEBUG_LATCH, 0, 4), 0xa55a0000);
    wr(f, RV_DEBUG_SCRATCH, RV_SCRATCH_SIZE - 8, 8, 0x1122334455667788);
    cr_expect_eq(rd(f, RV_DEBUG_SCRATCH, RV_SCRATCH_SIZE - 4, 4), 0x11223344);
    wr(f, RV_DEBUG_LINES, 11, 1, 1);
    cr_expect(f->line[11]);
    wr(f, RV_DEBUG_LINES, 11, 1, 0);
    cr_expect_not(f->line[11]);
    wr(f, RV_DEBUG_EXIT, 0, 4, 0x12345);
    cr_expect_eq(f->stop, RV_STOP_DEBUG_EXIT);
    cr_expect_eq(f->code, 0x12345);
    fake_free(f);
}

static uint32_t lone_read(struct rv_dev *dev, unsigned offset, unsigned size) { return 0x5a; }
static void lone_write(struct rv_dev *dev, unsigned offset, unsigned size, uint32_t v) {}

Test(pci, config_mechanism) {
    struct fake *f = fake_new(&rv_dev_pci);
    cr_expect_eq(rd(f, RV_PCI_DATA, 0, 4), 0xffffffff, "not enabled");
    wr(f, RV_PCI_ADDRESS, 0, 4, 0x80000000);
    cr_expect_eq(rd(f, RV_PCI_ADDRESS, 0, 4), 0x80000000);
    cr_expect_eq(rd(f, RV_PCI_DATA, 0, 4), 0x12378086);
    cr_expect_eq(rd(f, RV_PCI_DATA, 2, 2), 0x1237);
    cr_expect_eq(rd(f, RV_PCI_DATA, 1, 1), 0x80);
    wr(f, RV_PCI_DATA, 0, 4, 0);
    cr_expect_eq(rd(f, RV_PCI_DATA, 0, 4), 0x12378086, "read-only");
    wr(f, RV_PCI_ADDRESS, 0, 4, 0x80000058);
    wr(f, RV_PCI_DATA, 1, 1, 0x33);
    cr_expect_eq(rd(f, RV_PCI_DATA, 0, 4), 0x3000);
    wr(f, RV_PCI_ADDRESS, 0, 4, 0x80000008);
    cr_expect_eq(rd(f, RV_PCI_DATA, 0, 4), 0x06000002);
    wr(f, RV_PCI_ADDRESS, 0, 4, 0x80000800);
    cr_expect_eq(rd(f, RV_PCI_DATA, 0, 4), 0xffffffff);
    static const struct rv_pci_function_ops lone = {lone_read, lone_write};
    cr_expect_not(rv_pci_register(&f->pci, (struct rv_pci_function){0, 0, &lone, NULL}));
    cr_expect(rv_pci_register(&f->pci, (struct rv_pci_function){1, 0, &lone, NULL}));
    cr_expect_eq(rd(f, RV_PCI_DATA, 0, 4), 0x5a);
    wr(f, RV_PCI_ADDRESS, 1, 1, 0x02);
    cr_expect_eq(f->stop, RV_STOP_NONE);
    wr(f, RV_PCI_ADDRESS, 1, 1, 0x06);
    cr_expect_eq(f->stop, RV_STOP_RESET);
    cr_expect_eq(rd(f, RV_PCI_ADDRESS, 0, 4), 0x80000800, "0xcf9 is not part of the address");
    fake_free(f);
}

/* A whole board with a recording host. */
struct machine {
    struct rv_ram ram;
    struct rv_pc *pc;
    rv_ns now;
    uint64_t effects; /* running hash of output, stops and attention calls */
    unsigned attention;
    enum rv_stop stop;
    char out[64];
    size_t out_len;
};

static rv_ns host_now(void *ctx) { return ((struct machine *)ctx)->now; }
static void mix(struct machine *m, uint64_t v) { m->effects = (m->effects ^ v) * 0x100000001b3ull; }
static void host_clock(void *ctx) { (void)ctx; }
static void host_effect(void *ctx, enum rv_source sink, const void *data, size_t len) {
    struct machine *m = ctx;
    for (size_t i = 0; i < len; i++) {
        mix(m, ((const uint8_t *)data)[i]);
        if (m->out_len < sizeof m->out) m->out[m->out_len++] = ((const char *)data)[i];
    }
}
static void host_stop(void *ctx, enum rv_stop reason, uint32_t code) {
    struct machine *m = ctx;
    m->stop = reason;
    mix(m, (uint64_t)reason << 32 | code);
}
static void host_attention(void *ctx) {
    struct machine *m = ctx;
    m->attention++;
    mix(m, 0xa77);
}

static void machine_with(struct machine *m, unsigned devices) {
    *m = (struct machine){.effects = 1};
    struct rv_err err;
    struct rv_pc_config config = {
        .tsc_hz = 1000000000, .boot_epoch = 1700000000, .phys_bits = 46, .devices = devices};
    struct rv_pc_host host = {.ctx = m,
                              .now = host_now,
                              .clock = host_clock,
                              .effect = host_effect,
                              .stop = host_stop,
                              .attention = host_attention};
    cr_assert_eq(rv_ram_init(&m->ram, 16u << 20, &err), 0);
    cr_assert_eq(rv_pc_new(&m->pc, &m->ram, &config, &host, &err), 0);
}
static void machine_open(struct machine *m) { machine_with(m, 0); }
static void machine_close(struct machine *m) {
    rv_pc_free(m->pc);
    rv_ram_release(&m->ram);
}
static uint64_t go(struct machine *m, enum rv_exit_kind kind, uint64_t addr, unsigned size,
                   uint64_t data) {
    struct rv_exit x = {.kind = kind, .addr = addr, .size = size, .data = data};
    rv_pc_exit(m->pc, &x);
    return x.data;
}
#define IN(port, size)      go(&m, RV_EXIT_PIO_READ, port, size, 0)
#define OUT(port, size, v)  go(&m, RV_EXIT_PIO_WRITE, port, size, v)
#define LOAD(gpa, size)     go(&m, RV_EXIT_MMIO_READ, gpa, size, 0)
#define STORE(gpa, size, v) go(&m, RV_EXIT_MMIO_WRITE, gpa, size, v)

Test(board, routes_and_splits) {
    struct machine m;
    machine_open(&m);
    cr_expect_eq(IN(0x3ff, 1), 0);
    OUT(0x3ff, 1, 0x5a);
    cr_expect_eq(IN(0x3fe, 2), 0x5ab0, "bytewise on an 8-bit device");
    cr_expect_eq(IN(0x3fe, 4), 0xffff5ab0, "beyond the device the bus is idle");
    cr_expect_eq(IN(0x300, 4), 0xffffffff);
    cr_expect_eq(IN(0xffff, 4), 0xffffffff);
    OUT(0x3f8, 2, 0x0041); /* THR, then IER */
    cr_expect_eq(m.out[0], 'A');
    cr_expect_eq(m.out_len, 1);
    OUT(0xcf8, 4, 0x80000000);
    cr_expect_eq(IN(0xcfc, 4), 0x12378086);
    cr_expect_eq(IN(0xcfd, 2), 0x3780, "unaligned: two bytes");
    cr_expect_eq(IN(0x604, 4), 0xffff0001);
    OUT(0x604, 2, 5 << 10 | 1 << 13);
    cr_expect_eq(m.stop, RV_STOP_POWEROFF);
    cr_expect_eq(LOAD(0xfee00030, 4), 0x50014);
    cr_expect_eq(LOAD(0xfee00030, 8), 0x50014, "the upper half lies between registers");
    cr_expect_eq(LOAD(0xfee00030, 1), 0x14);
    STORE(0xfec00000, 4, 1);
    cr_expect_eq(LOAD(0xfec00010, 4), 0x170020);
    cr_expect_eq(LOAD(0xfed00000, 8), UINT64_MAX);
    cr_expect_eq(LOAD(0xc0000000, 2), 0xffff);
    struct rv_exit x = {.kind = RV_EXIT_MSR_READ, .addr = 0x1b};
    rv_pc_exit(m.pc, &x);
    cr_expect_not(x.fault);
    cr_expect_eq(x.data, 0xfee00900);
    x = (struct rv_exit){.kind = RV_EXIT_MSR_WRITE, .addr = 0x123456};
    rv_pc_exit(m.pc, &x);
    cr_expect(x.fault);
    go(&m, RV_EXIT_CR8_WRITE, 0, 0, 7);
    cr_expect_eq(go(&m, RV_EXIT_CR8_READ, 0, 0, 0), 7);
    machine_close(&m);
}

static void init_pics(struct machine *m) {

    static const uint8_t seq[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0xa0, 0x11},
                                     {0xa1, 0x28}, {0xa1, 2},    {0xa1, 1}, {0x21, 0}, {0xa1, 0}};
    for (size_t i = 0; i < RV_COUNT(seq); i++) go(m, RV_EXIT_PIO_WRITE, seq[i][0], 1, seq[i][1]);
}

Test(board, timer_through_the_8259) {
    struct machine m;
    machine_open(&m);
    init_pics(&m);
    cr_expect_not(rv_pc_can_wake(m.pc));
    cr_expect_eq(rv_pc_deadline(m.pc), RV_NEVER);
    rv_pc_tick(m.pc, RV_NEVER); /* nothing is due even at the end of time */
    OUT(0x43, 1, 0x30), OUT(0x40, 1, 100), OUT(0x40, 1, 0);
    rv_ns due = rv_pc_deadline(m.pc);
    cr_expect_neq(due, RV_NEVER);
    cr_expect_gt(m.attention, 0, "the earliest deadline got earlier");
    cr_expect(rv_pc_can_wake(m.pc));
    unsigned before = m.attention;
    m.now = due;
    rv_pc_tick(m.pc, m.now);
    cr_expect_eq(m.attention, before + 1);
    cr_expect(rv_pc_intr(m.pc));
    cr_expect_eq(rv_pc_ack(m.pc), 0x20);
    cr_expect_not(rv_pc_intr(m.pc));
    OUT(0x20, 1, 0x20);
    /* The LAPIC may hide the 8259; disabled, it is out of the way. */
    STORE(0xfee00350, 4, 0x10700);
    OUT(0x43, 1, 0x30), OUT(0x40, 1, 100), OUT(0x40, 1, 0);
    m.now = rv_pc_deadline(m.pc);
    rv_pc_tick(m.pc, m.now);
    cr_expect_not(rv_pc_intr(m.pc));
    before = m.attention;
    go(&m, RV_EXIT_MSR_WRITE, 0x1b, 0, 0xfee00100);
    cr_expect(rv_pc_intr(m.pc));
    cr_expect_eq(m.attention, before + 1);
    cr_expect_eq(LOAD(0xfee00030, 4), 0xffffffff);
    go(&m, RV_EXIT_MSR_WRITE, 0x1b, 0, 0xfee00900);
    cr_expect_not(rv_pc_intr(m.pc));
    STORE(0xfec00000, 4, 0x10), STORE(0xfec00010, 4, 0x700); /* ExtINT through pin 0 */
    cr_expect(rv_pc_intr(m.pc));
    machine_close(&m);
}

Test(board, timer_through_the_ioapic) {
    struct machine m;
    machine_open(&m);
    STORE(0xfee000f0, 4, 0x1ff);
    STORE(0xfec00000, 4, 0x14), STORE(0xfec00010, 4, 0x30); /* pin 2 */
    OUT(0x43, 1, 0x34), OUT(0x40, 1, 0xe8), OUT(0x40, 1, 3);
    cr_expect(rv_pc_intr(m.pc), "the output rises with the control word");
    rv_pc_ack(m.pc);
    STORE(0xfee000b0, 4, 0);
    m.now = rv_pc_deadline(m.pc);
    OUT(0x80, 1, 0); /* an access at the deadline finds it done */
    cr_expect(rv_pc_intr(m.pc));
    cr_expect_eq(rv_pc_ack(m.pc), 0x30);
    cr_expect_gt(rv_pc_deadline(m.pc), m.now);
    STORE(0xfee00300, 4, 0x400);
    cr_expect(rv_pc_nmi(m.pc));
    cr_expect_not(rv_pc_nmi(m.pc));
    machine_close(&m);
}

Test(board, serial_input_interrupts) {
    struct machine m;
    machine_open(&m);
    init_pics(&m);
    cr_expect_eq(rv_pc_input_room(m.pc, RV_SRC_CONSOLE), 0);
    OUT(0x3fa, 1, 1), OUT(0x3fc, 1, 8), OUT(0x3f9, 1, 1);
    cr_expect_eq(rv_pc_input_room(m.pc, RV_SRC_CONSOLE), 16);
    cr_expect_eq(rv_pc_input(m.pc, RV_SRC_CONSOLE, (const uint8_t *)"hello", 5), 5);
    cr_expect_eq(rv_pc_input(m.pc, RV_SRC_DEBUGCON, (const uint8_t *)"x", 1), 0);
    cr_expect_eq(rv_pc_ack(m.pc), 0x24);
    cr_expect_eq(IN(0x3f8, 1), 'h');
    machine_close(&m);
}

/* A small deterministic generator (xorshift): the tests must repeat exactly. */
static uint64_t next(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

/* One random access, biased to where the devices are, and everything it may lead to. */
static void random_step(struct machine *m, uint64_t *rng) {
    static const uint16_t hot[] = {0x20,  0x21,  0xa0,  0xa1,  0x40,  0x42,  0x43, 0x60,
                                   0x61,  0x64,  0x70,  0x71,  0x80,  0x92,  0xe9, 0xf4,
                                   0x3f8, 0x4d0, 0x600, 0x604, 0x608, 0xcf8, 0xcfc};
    uint64_t r = next(rng), value = next(rng);
    if (r >> 60 < 8) value &= 0xff;
    enum rv_exit_kind kind = (enum rv_exit_kind)(r % RV_EXIT_KINDS);
    unsigned size = 1u << (r >> 8 & 3);
    uint64_t addr = 0;
    if (kind <= RV_EXIT_PIO_WRITE) {
        if (size == 8) size = 1;
        addr = r >> 12 & 3 ? hot[(r >> 16) % RV_COUNT(hot)] + (r >> 24 & 7) : r >> 16 & 0xffff;
    } else if (kind <= RV_EXIT_MMIO_WRITE) {
        addr = (r >> 12 & 1 ? RV_LAPIC_BASE : RV_IOAPIC_BASE) + (r >> 16 & 0xfff);
        if (r >> 13 & 3) addr &= ~0xfull, size = 4;
    } else if (kind <= RV_EXIT_MSR_WRITE) {
        addr = 0x800 + (r >> 16 & 0x3f);
        if ((r >> 12 & 15) == 0) addr = 0x6e0;
        if ((r >> 12 & 15) == 1) {
            addr = 0x1b;
            value = RV_LAPIC_BASE | 0x100 | (value & 0xc00);
        }
        if (addr == 0x6e0) value = m->now + (value & 0xffff);
    } else {
        value &= 0x1f;
    }
    mix(m, go(m, kind, addr, size, value));
    m->now += r >> 32 & 0x3fff;
    if ((r >> 50 & 0xff) == 0) m->now += RV_NSEC;
    if ((r >> 50 & 0xfff) == 1) m->now += 86400 * RV_NSEC;
    if (r >> 58 & 1 && rv_pc_deadline(m->pc) <= m->now) rv_pc_tick(m->pc, m->now);
    if (r >> 59 & 1 && rv_pc_intr(m->pc)) mix(m, rv_pc_ack(m->pc));
    if (rv_pc_nmi(m->pc)) mix(m, 0x4e4d49);
    if (r >> 56 & 1) mix(m, rv_pc_input(m->pc, RV_SRC_CONSOLE, (const uint8_t *)&value, 8));
}

/* A million random accesses; at random moments the state moves into a second board, and both then
 * behave alike. */
Test(board, random_accesses_and_round_trips, .timeout = 300) {
    struct machine a, b;
    machine_open(&a);
    machine_open(&b);
    uint64_t rng = 0x9e3779b97f4a7c15ull, total = 0;
    while (total < 1000000) {
        struct rv_buf buf = {0};
        struct rv_err err;
        rv_pc_save(a.pc, &buf);
        struct rv_cursor in = rv_cursor_of(buf.data, buf.len);
        cr_assert_eq(rv_pc_load(b.pc, &in, &err), 0, "%s", err.msg);
        cr_assert_eq(in.p, in.end);
        rv_buf_release(&buf);
        b.now = a.now;
        b.effects = a.effects = 1;
        cr_assert_eq(rv_pc_hash(a.pc, 7), rv_pc_hash(b.pc, 7));
        uint64_t rng_b = rng, steps = next(&rng) % 3000 + 1;
        rng_b = rng;
        for (uint64_t i = 0; i < steps; i++) random_step(&a, &rng);
        for (uint64_t i = 0; i < steps; i++) random_step(&b, &rng_b);
        cr_assert_eq(a.effects, b.effects, "after %lu accesses", (unsigned long)total);
        cr_assert_eq(a.now, b.now);
        cr_assert_eq(rv_pc_deadline(a.pc), rv_pc_deadline(b.pc));
        cr_assert_eq(rv_pc_hash(a.pc, 7), rv_pc_hash(b.pc, 7));
        total += steps;
    }
    machine_close(&a);
    machine_close(&b);
}

/* Any bytes may stand in a state that comes from a damaged trace. */
Test(board, survives_any_loaded_state, .timeout = 300) {
    struct machine m;
    machine_open(&m);
    struct rv_buf good = {0};
    rv_pc_save(m.pc, &good);
    uint64_t rng = 42;
    for (unsigned round = 0; round < 300; round++) {
        struct rv_buf bad = {0};
        struct rv_err err;
        rv_buf_put(&bad, good.data, good.len);
        unsigned flips = round % 3 ? 1 + (unsigned)(next(&rng) % 64) : (unsigned)good.len;
        for (unsigned i = 0; i < flips; i++) bad.data[next(&rng) % bad.len] = (uint8_t)next(&rng);
        struct rv_cursor in = rv_cursor_of(bad.data, bad.len);
        (void)rv_pc_load(m.pc, &in, &err);
        for (unsigned i = 0; i < 300; i++) random_step(&m, &rng);
        rv_buf_release(&bad);
    }
    struct rv_err err;
    struct rv_cursor in = rv_cursor_of(good.data, good.len - 1);
    cr_expect_eq(rv_pc_load(m.pc, &in, &err), RV_E_FORMAT);
    good.data[0] ^= 1;
    in = rv_cursor_of(good.data, good.len);
    cr_expect_eq(rv_pc_load(m.pc, &in, &err), RV_E_FORMAT);
    rv_buf_release(&good);
    machine_close(&m);
}

Test(board, dump_names_every_device) {
    struct machine m;
    machine_open(&m);
    struct rv_buf out = {0};
    rv_pc_dump(m.pc, &out);
    rv_buf_put_u8(&out, 0);
    cr_expect_eq(rv_pc_device_count(m.pc), 11);
    for (unsigned i = 0; i < rv_pc_device_count(m.pc); i++)
        cr_expect_not_null(strstr((char *)out.data, rv_pc_device(m.pc, i)->ops->name));
    cr_expect_null(rv_pc_device(m.pc, 11));
    rv_buf_release(&out);
    machine_close(&m);
}

/* Traces made before a device was added replay on a machine without it. */
Test(board, older_machines_lack_the_newest_device) {
    struct machine now, before;
    machine_open(&now);
    machine_with(&before, rv_pc_device_count(now.pc) - 1);
    cr_expect_eq(go(&now, RV_EXIT_PIO_READ, RV_PORT_MARK, 1, 0), RV_PORT_MARK);
    cr_expect_eq(go(&before, RV_EXIT_PIO_READ, RV_PORT_MARK, 1, 0), 0xff);
    cr_expect_neq(rv_pc_hash(now.pc, 0), rv_pc_hash(before.pc, 0));
    struct rv_buf saved = {0};
    struct rv_err err;
    rv_pc_save(before.pc, &saved);
    struct rv_cursor in = rv_cursor_of(saved.data, saved.len);
    cr_expect_eq(rv_pc_load(before.pc, &in, &err), 0);
    cr_expect_eq(in.p, in.end);
    rv_buf_release(&saved);
    machine_close(&now);
    machine_close(&before);
}
