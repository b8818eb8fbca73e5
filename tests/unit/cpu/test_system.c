/* What the oracle cannot reach: system instructions and exceptions at privilege 0, on a small guest
 * in long mode. Every handler is a HLT, so a run ends with the vector in RIP. */
#include <criterion/criterion.h>
#include <string.h>

#include "../vmm/under_test.h"

enum {
    PML4 = 0x1000,
    PDPT = 0x2000,
    IDT = 0x3000,
    HANDLERS = 0x4000,
    GDT = 0x5000,
    TSS = 0x6000,
    STACK0 = 0x8000, /* top, for handlers that come from level 3 */
    CODE = 0x10000,
    DATA = 0x11000,
    STACK = 0x13000, /* top */
    RAM = 2 << 20
};

static struct guest {
    struct rv_ram ram;
    struct rv_cpu_bus bus;
    struct rv_engine *e;
    struct rv_x86 x;
    uint64_t apic_base;
} g;

static void put64(uint64_t at, uint64_t v) { memcpy(g.ram.host + at, &v, sizeof v); }
static uint64_t get64(uint64_t at) {
    uint64_t v;
    memcpy(&v, g.ram.host + at, sizeof v);
    return v;
}

static void exits(void *ctx, struct rv_exit *x) {
    (void)ctx;
    x->fault = x->kind != RV_EXIT_MSR_READ || x->addr != 0x1b;
    x->data = g.apic_base;
}
static uint64_t no_time(void *ctx) {
    (void)ctx;
    return 0;
}

/* All of memory is user memory, mapped one to one; code begins at level cpl. */
static void begin(unsigned cpl) {
    struct rv_err err = {0};
    memset(&g, 0, sizeof g);
    cr_assert_eq(rv_ram_init(&g.ram, RAM, &err), 0, "%s", err.msg);
    g.bus = (struct rv_cpu_bus){.exit = exits, .tsc = no_time};
    cr_assert_eq(engine_create(&g.e, &g.ram, &g.bus, &rv_profile_v2, &err), 0, "%s", err.msg);
    put64(PML4, PDPT | 7);
    put64(PDPT, 0x87); /* 1 GiB */
    put64(GDT + 0x08, 0x00af9b000000ffffull);
    put64(GDT + 0x10, 0x00cf93000000ffffull);
    put64(GDT + 0x18, 0x00cff3000000ffffull);
    put64(GDT + 0x20, 0x00affb000000ffffull);
    put64(TSS + 4, STACK0);
    for (unsigned v = 0; v < 32; v++) {
        g.ram.host[HANDLERS + 16 * v] = 0xf4;
        put64(IDT + 16 * v, (HANDLERS + 16 * v) | 0x08ull << 16 | 0x8e00ull << 32);
    }
    struct rv_x86 *x = &g.x;
    rv_x86_reset(x);
    x->cr0 = RV_CR0_PE | RV_CR0_MP | RV_CR0_ET | RV_CR0_NE | RV_CR0_WP | RV_CR0_PG;
    x->cr3 = PML4;
    x->cr4 = RV_CR4_PAE | RV_CR4_DE | RV_CR4_OSFXSR | RV_CR4_OSXMMEXCPT;
    x->efer = RV_EFER_SCE | RV_EFER_LME | RV_EFER_LMA | RV_EFER_NXE;
    uint16_t dpl = (uint16_t)(cpl << 5);
    for (int n = 0; n < RV_SREGS; n++) x->seg[n] = (struct rv_seg){0};
    x->seg[RV_CS] = (struct rv_seg){
        .limit = 0xffffffff, .sel = cpl ? 0x23 : 0x08, .attr = (uint16_t)(0xa09b | dpl)};
    x->seg[RV_SS] = (struct rv_seg){
        .limit = 0xffffffff, .sel = cpl ? 0x1b : 0x10, .attr = (uint16_t)(0xc093 | dpl)};
    x->seg[RV_TR] = (struct rv_seg){.base = TSS, .limit = 0x67, .sel = 0x28, .attr = 0x8b};
    x->gdt = (struct rv_dtr){GDT, 0x27};
    x->idt = (struct rv_dtr){IDT, 0x1ff};
    x->rip = CODE;
    x->gpr[RV_RSP] = STACK;
}

static void end(void) {
    g.e->ops->destroy(g.e);
    rv_ram_release(&g.ram);
}

/* Runs code until HLT; the exception that was taken, or -1. */
static int run(const void *code, size_t len) {
    struct rv_err err = {0};
    memcpy(g.ram.host + CODE, code, len);
    cr_assert_eq(g.e->ops->set(g.e, &g.x, &err), 0, "%s", err.msg);
    int r = g.e->ops->run(g.e, g.x.icount + 1000, false, &err);
    cr_assert_eq(r, RV_RUN_HALTED, "stopped by %d", r);
    g.e->ops->get(g.e, &g.x);
    bool handler = g.x.rip > HANDLERS && g.x.rip < HANDLERS + 32 * 16;
    return handler ? (int)(g.x.rip - HANDLERS) / 16 : -1;
}
#define RUN(...) run((const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__})

Test(system, clac_needs_no_smap) {
    begin(0);
    cr_expect_eq(RUN(0x0f, 0x01, 0xcb, 0xf4), -1); /* stac; hlt */
    cr_expect(g.x.rflags & RV_FL_AC);
    end();
    begin(3);
    cr_expect_eq(RUN(0x0f, 0x01, 0xcb), RV_VEC_UD);
    end();
}

Test(system, int1_passes_any_gate) {
    begin(3);
    cr_expect_eq(RUN(0xf1), RV_VEC_DB);
    cr_expect_eq(get64(g.x.gpr[RV_RSP]), CODE + 1);
    end();
    begin(3);
    cr_expect_eq(RUN(0xcd, 0x01), RV_VEC_GP); /* int 1 */
    cr_expect_eq(get64(g.x.gpr[RV_RSP]), 1 * 8 + 2);
    end();
}

Test(system, int1_takes_a_breakpoint_that_mov_ss_held_back) {
    begin(0);
    put64(DATA, 0x10);
    g.x.dr[1] = DATA;
    g.x.dr7 = 0x400 | 1 << 3 | 0xful << 20; /* any access to four bytes */
    /* mov ss, [0x11000]; int1 */
    cr_expect_eq(RUN(0x8e, 0x14, 0x25, 0x00, 0x10, 0x01, 0x00, 0xf1), RV_VEC_DB);
    cr_expect_eq(g.x.dr6, 0xffff0ff2);
    cr_expect_not(g.x.pending_db);
    cr_expect_eq(get64(g.x.gpr[RV_RSP]), CODE + 8);
    end();
}

Test(system, cpuid_hides_a_disabled_apic) {
    static const uint8_t code[] = {0x31, 0xc0, 0xff, 0xc0, 0x0f, 0xa2, 0xf4}; /* eax = 1; cpuid */
    begin(0);
    g.apic_base = 0xfee00900;
    cr_expect_eq(run(code, sizeof code), -1);
    cr_expect(g.x.gpr[RV_RDX] & 1 << 9);
    end();
    begin(0);
    g.apic_base = 0xfee00100;
    cr_expect_eq(run(code, sizeof code), -1);
    cr_expect_not(g.x.gpr[RV_RDX] & 1 << 9);
    end();
}

/* A far pointer in memory: 48 bits unless REX.W asks for 80. */
Test(system, far_jumps_through_memory) {
    for (unsigned wide = 0; wide < 2; wide++) {
        begin(0);
        put64(DATA, HANDLERS + 16 * 31);
        put64(DATA + (wide ? 8 : 4), 0x08);
        static const uint8_t code[] = {0x48, 0xff, 0x2c, 0x25, 0x00, 0x10, 0x01, 0x00};
        cr_expect_eq(run(code + !wide, sizeof code - !wide), 31, "wide: %u", wide);
        end();
    }
}

/* Flat 32-bit code with a 16-bit stack segment, without paging. */
static void begin_small_stack(void) {
    begin(0);
    struct rv_x86 *x = &g.x;
    x->cr0 = RV_CR0_PE | RV_CR0_ET | RV_CR0_NE;
    x->cr4 = 0;
    x->efer = 0;
    for (int n = 0; n < RV_LDTR; n++)
        x->seg[n] = (struct rv_seg){.limit = 0xffffffff, .sel = 0x10, .attr = 0xc093};
    x->seg[RV_CS] = (struct rv_seg){.limit = 0xffffffff, .sel = 0x08, .attr = 0xc09b};
    x->seg[RV_SS].attr = 0x0093;
    x->seg[RV_SS].limit = 0xffff;
}

Test(system, pop_ss_leaves_the_old_stack_behind) {
    begin_small_stack();
    put64(0xfffc, 0x10);
    g.x.gpr[RV_RSP] = 0x3fffc;
    cr_expect_eq(RUN(0x17, 0x90, 0xf4), -1); /* pop ss; nop; hlt */
    cr_expect_eq(g.x.gpr[RV_RSP], 0x30000, "SP wrapped, not ESP");
    cr_expect(g.x.seg[RV_SS].attr & RV_SEG_DB);
    end();
}

Test(system, enter_makes_a_frame_pointer_of_all_of_esp) {
    begin_small_stack();
    g.x.gpr[RV_RSP] = 0x39000;
    g.x.gpr[RV_RBP] = 0x12345678;
    cr_expect_eq(RUN(0xc8, 0x10, 0x00, 0x01, 0xf4), -1); /* enter 16, 1; hlt */
    cr_expect_eq(g.x.gpr[RV_RBP], 0x38ffc);
    cr_expect_eq(g.x.gpr[RV_RSP], 0x38fe8);
    cr_expect_eq(get64(0x8ff8), 0x1234567800038ffc);
    end();
}

Test(system, arpl_writes_only_what_changes) {
    static const uint8_t code[] = {0x63, 0x1d, 0x00, 0x10, 0x01, 0x00, 0xf4}; /* arpl [DATA], bx */
    for (unsigned raise = 0; raise < 2; raise++) {
        begin_small_stack();
        put64(IDT + 8 * RV_VEC_GP, (HANDLERS + 16 * RV_VEC_GP) | 0x08ull << 16 | 0x8e00ull << 32);
        put64(GDT + 0x08, 0x00cf9b000000ffffull);
        g.x.seg[RV_DS].attr = 0xc091; /* read-only */
        g.x.gpr[RV_RBX] = 2;
        put64(DATA, raise ? 0xfff1 : 0xfff2);
        cr_expect_eq(run(code, sizeof code), raise ? RV_VEC_GP : -1);
        cr_expect_eq(get64(DATA), raise ? 0xfff1 : 0xfff2);
        end();
    }
}
