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
    PD = 0x14000,
    PT = 0x15000,
    OTHER = 0x20000, /* a page that nothing else is in */
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
static void begin_with(const struct rv_profile *profile, unsigned cpl) {
    struct rv_err err = {0};
    memset(&g, 0, sizeof g);
    cr_assert_eq(rv_ram_init(&g.ram, RAM, &err), 0, "%s", err.msg);
    g.bus = (struct rv_cpu_bus){.exit = exits, .tsc = no_time};
    cr_assert_eq(engine_create(&g.e, &g.ram, &g.bus, profile, &err), 0, "%s", err.msg);
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

static void begin(unsigned cpl) { begin_with(&rv_profile_v2, cpl); }

/* With AVX enabled. */
static void begin_v3(unsigned cpl) {
    const char *lacks = rv_profile_lacks(&rv_profile_v3);
    if (lacks) cr_skip_test("this host's CPU lacks %s", lacks);
    begin_with(&rv_profile_v3, cpl);
    g.x.cr4 |= RV_CR4_OSXSAVE;
    g.x.xcr0 = RV_XCR0_X87 | RV_XCR0_SSE | RV_XCR0_AVX;
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

/* Runs code that is in memory to position `to`, from g.x on. */
static int run_to(rv_icount to, bool want_window) {
    struct rv_err err = {0};
    cr_assert_eq(g.e->ops->set(g.e, &g.x, &err), 0, "%s", err.msg);
    int r = g.e->ops->run(g.e, to, want_window, &err);
    g.e->ops->get(g.e, &g.x);
    return r;
}

static bool stop_at_any(void *ctx, const struct rv_watch_hit *hit) {
    (void)ctx, (void)hit;
    return true;
}

Test(system, sti_has_a_shadow_for_one_instruction) {
    static const uint8_t code[] = {0xfa, 0xfb, 0x90, 0xfb, 0x90, 0x90, 0xf4};
    for (unsigned to = 1; to <= 6; to++) {
        begin(0);
        memcpy(g.ram.host + CODE, code, sizeof code); /* cli; sti; nop; sti; nop; nop; hlt */
        cr_expect_eq(run_to(to, false), RV_RUN_UNTIL);
        cr_expect_eq(g.x.icount, to);
        /* The second one sets a flag that is set already. */
        cr_expect_eq(g.x.sti_shadow, to == 2, "at %u", to);
        cr_expect_eq(!!(g.x.rflags & RV_FL_IF), to >= 2, "at %u", to);
        end();
    }
}

Test(system, sti_delays_the_window_by_one_instruction) {
    /* cli; nop; sti; nop; nop; jmp to the first: often enough to be all translated. */
    static const uint8_t code[] = {0xfa, 0x90, 0xfb, 0x90, 0x90, 0xeb, 0xf9};
    struct rv_err err = {0};
    begin(0);
    memcpy(g.ram.host + CODE, code, sizeof code);
    cr_expect_eq(run_to(6 * 30 + 1, false), RV_RUN_UNTIL);
    cr_expect_eq(g.e->ops->run(g.e, 1000, true, &err), RV_RUN_WINDOW);
    cr_expect_eq(g.e->ops->icount(g.e), 6 * 30 + 4);
    end();
}

Test(system, a_fault_ends_the_shadow_of_sti) {
    begin(0);
    cr_expect_eq(RUN(0xfa, 0xfb, 0x0f, 0x0b), RV_VEC_UD); /* cli; sti; ud2 */
    cr_expect_not(g.x.sti_shadow);
    cr_expect_eq(get64(g.x.gpr[RV_RSP]), CODE + 2);
    end();
    /* Stopped between the fault and its handler. */
    begin(0);
    memcpy(g.ram.host + CODE, (const uint8_t[]){0xfa, 0xfb, 0x0f, 0x0b}, 4);
    struct rv_watchpoint point = {.addr = RV_VEC_UD, .len = 1, .access = RV_WATCH_DELIVER};
    struct rv_watch watch = {.point = &point, .n = 1, .hit = stop_at_any};
    g.e->ops->watch(g.e, &watch);
    cr_expect_eq(run_to(1000, false), RV_RUN_WATCH);
    cr_expect_eq(g.x.icount, 2);
    cr_expect_eq(g.x.rip, HANDLERS + 16 * RV_VEC_UD);
    cr_expect_not(g.x.sti_shadow);
    end();
    begin(3);
    cr_expect_eq(RUN(0xfb), RV_VEC_GP);
    end();
}

/* begin(0), with pages of 4 KiB. */
static void begin_small_pages(void) {
    begin(0);
    put64(PDPT, PD | 7);
    put64(PD, PT | 7);
    for (uint64_t page = 0; page < 512; page++) put64(PT + 8 * page, page << 12 | 7);
}

/* No cached translation outlives its entry: docs/decisions/0001-coherent-translation.md. */
Test(system, code_that_remaps_itself) {
    begin_small_pages();
    uint8_t code[] = {0x48, 0x89, 0x37, 0xb8, 2, 0, 0, 0, 0xf4}; /* mov [rdi],rsi; mov eax,2; hlt */
    memcpy(g.ram.host + OTHER, code, sizeof code);
    code[4] = 1;
    g.x.gpr[RV_RDI] = PT + 8 * (CODE >> 12);
    g.x.gpr[RV_RSI] = OTHER | 7;
    cr_expect_eq(run(code, sizeof code), -1);
    cr_expect_eq(g.x.gpr[RV_RAX], 2);
    end();
}

Test(system, code_that_remaps_its_stack) {
    begin_small_pages();
    g.x.gpr[RV_RAX] = 1;
    put64(OTHER + 0xff8, 0x100);
    g.x.gpr[RV_RDI] = PT + 8 * ((STACK - 1) >> 12);
    g.x.gpr[RV_RSI] = OTHER | 7;
    g.x.gpr[RV_RDX] = (STACK - 0x1000) | 7;
    int vector = RUN(0xbb, 40, 0, 0, 0, /* mov ebx, 40 */
                     0x50, 0x58,        /* again: push rax; pop rax */
                     0xeb, 0,           /* jmp to the next */
                     0x50,              /* push rax */
                     0x48, 0x89, 0x37,  /* mov [rdi], rsi: there is another stack now */
                     0x59,              /* pop rcx */
                     0x48, 0x89, 0x17,  /* mov [rdi], rdx */
                     0x48, 0x01, 0xcd,  /* add rbp, rcx */
                     0xff, 0xcb,        /* dec ebx */
                     0x75, 0xed,        /* jnz again */
                     0xf4);
    cr_expect_eq(vector, -1);
    cr_expect_eq(g.x.gpr[RV_RBP], 40 * 0x100);
    end();
}

/* As much as a block can hold of what takes most to translate. */
Test(system, divisions_in_a_row) {
    enum { MANY = 200 };
    static uint8_t code[7 * MANY + 1];
    static const uint8_t idiv[] = {0x48, 0xf7, 0x3d}, hlt = 0xf4; /* idiv qword [rip+...] */
    for (unsigned n = 0; n < MANY; n++) {
        uint32_t disp = DATA - (CODE + 7 * (n + 1));
        memcpy(code + 7 * n, idiv, sizeof idiv);
        memcpy(code + 7 * n + 3, &disp, sizeof disp);
    }
    code[7 * MANY] = hlt;
    begin(0);
    put64(DATA, 1);
    g.x.gpr[RV_RAX] = 12345;
    g.x.gpr[RV_RDX] = 0;
    cr_expect_eq(run(code, sizeof code), -1);
    cr_expect_eq(g.x.gpr[RV_RAX], 12345);
    cr_expect_eq(g.x.gpr[RV_RDX], 0);
    end();
    memset(code, 0x90, sizeof code);
    for (unsigned n = 0; n < MANY; n++) memcpy(code + 3 * n, (uint8_t[]){0x48, 0xf7, 0x3e}, 3);
    code[3 * MANY] = hlt; /* idiv qword [rsi] */
    begin(0);
    put64(DATA, 3);
    g.x.gpr[RV_RSI] = DATA;
    g.x.gpr[RV_RAX] = 12345;
    g.x.gpr[RV_RDX] = 0;
    /* 12345, 4115; then there is a remainder above 1371: too much for a quotient. */
    cr_expect_eq(run(code, sizeof code), RV_VEC_DE);
    cr_expect_eq(g.x.gpr[RV_RAX], 1371);
    cr_expect_eq(g.x.gpr[RV_RDX], 2);
    cr_expect_eq(get64(g.x.gpr[RV_RSP]), CODE + 2 * 3);
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

/* Makes of a machine at level 0 one with flat 32-bit code and a 16-bit stack segment, without
 * paging. */
static void small_stack(void) {
    struct rv_x86 *x = &g.x;
    x->cr0 = RV_CR0_PE | RV_CR0_ET | RV_CR0_NE;
    x->cr4 &= RV_CR4_OSXSAVE;
    x->efer = 0;
    for (int n = 0; n < RV_LDTR; n++)
        x->seg[n] = (struct rv_seg){.limit = 0xffffffff, .sel = 0x10, .attr = 0xc093};
    x->seg[RV_CS] = (struct rv_seg){.limit = 0xffffffff, .sel = 0x08, .attr = 0xc09b};
    x->seg[RV_SS].attr = 0x0093;
    x->seg[RV_SS].limit = 0xffff;
}

static void begin_small_stack(void) {
    begin(0);
    small_stack();
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

/* ---- CPU profiles ---- */

#define VADDPS 0xc5, 0xfc, 0x58, 0xc1                               /* vaddps ymm0, ymm0, ymm1 */
#define ANDN   0xc4, 0xe2, 0x78, 0xf2, 0xc1                         /* andn eax, eax, ecx */
#define MOVBE  0x0f, 0x38, 0xf0, 0x04, 0x25, 0x00, 0x10, 0x01, 0x00 /* movbe eax, [DATA] */
#define LZCNT  0xf3, 0x0f, 0xbd, 0xc1                               /* lzcnt eax, ecx */
#define TZCNT  0xf3, 0x0f, 0xbc, 0xc1                               /* tzcnt eax, ecx */
#define HLT    0xf4

/* For VADDPS: 1 and 2 in all eight elements. */
static void ones_and_twos(void) {
    static const float one = 1, two = 2;
    for (unsigned n = 0; n < 16; n += 4) {
        memcpy(g.x.fx + 160 + n, &one, 4);
        memcpy(g.x.ymmh + n, &one, 4);
        memcpy(g.x.fx + 176 + n, &two, 4);
        memcpy(g.x.ymmh + 16 + n, &two, 4);
    }
}
static bool all_three(void) {
    static const float threes[4] = {3, 3, 3, 3};
    return !memcmp(g.x.fx + 160, threes, 16) && !memcmp(g.x.ymmh, threes, 16);
}

Test(system, v2_has_nothing_of_v3) {
    begin(0);
    g.x.cr4 |= RV_CR4_OSXSAVE;
    g.x.xcr0 = 3;
    struct rv_x86 start = g.x;
    cr_expect_eq(RUN(VADDPS, HLT), RV_VEC_UD);
    g.x = start;
    cr_expect_eq(RUN(ANDN, HLT), RV_VEC_UD);
    g.x = start;
    cr_expect_eq(RUN(MOVBE, HLT), RV_VEC_UD);
    g.x = start;
    g.x.gpr[RV_RCX] = 0x10;
    cr_expect_eq(RUN(LZCNT, HLT), -1);
    cr_expect_eq(g.x.gpr[RV_RAX], 4, "it is BSR");
    g.x = start;
    cr_expect_eq(RUN(TZCNT, HLT), -1);
    cr_expect(g.x.rflags & RV_FL_ZF, "it is BSF");
    g.x = start;
    g.x.gpr[RV_RDX] = 0;
    g.x.gpr[RV_RAX] = 3;
    cr_expect_eq(RUN(0x0f, 0x01, 0xd1, HLT), -1, "XSETBV without AVX");
    g.x = start;
    g.x.gpr[RV_RDX] = 0;
    g.x.gpr[RV_RAX] = 7;
    cr_expect_eq(RUN(0x0f, 0x01, 0xd1, HLT), RV_VEC_GP, "XSETBV with AVX");
    end();
}

Test(system, v3_has_it) {
    begin_v3(0);
    struct rv_x86 start = g.x;
    ones_and_twos();
    cr_expect_eq(RUN(VADDPS, HLT), -1);
    cr_expect(all_three());
    g.x = start;
    g.x.gpr[RV_RAX] = 0x0f;
    g.x.gpr[RV_RCX] = 0x35;
    cr_expect_eq(RUN(ANDN, HLT), -1);
    cr_expect_eq(g.x.gpr[RV_RAX], 0x30);
    g.x = start;
    put64(DATA, 0x12345678);
    cr_expect_eq(RUN(MOVBE, HLT), -1);
    cr_expect_eq(g.x.gpr[RV_RAX], 0x78563412);
    g.x = start;
    g.x.gpr[RV_RCX] = 0x10;
    cr_expect_eq(RUN(LZCNT, HLT), -1);
    cr_expect_eq(g.x.gpr[RV_RAX], 27);
    g.x = start;
    cr_expect_eq(RUN(TZCNT, HLT), -1);
    cr_expect_eq(g.x.gpr[RV_RAX], 32);
    cr_expect_not(g.x.rflags & RV_FL_ZF);
    cr_expect(g.x.rflags & RV_FL_CF);
    end();
}

/* What this host may well have. */
Test(system, v3_has_nothing_beyond) {
    static const struct {
        const char *name;
        uint8_t code[9];
    } others[] = {
        {"VAESENC", {0xc4, 0xe2, 0x71, 0xdc, 0xc0}},
        {"VAESENC ymm", {0xc4, 0xe2, 0x75, 0xdc, 0xc0}},
        {"VPCLMULQDQ", {0xc4, 0xe3, 0x71, 0x44, 0xc0, 0x00}},
        {"AESENC", {0x66, 0x0f, 0x38, 0xdc, 0xc1}},
        {"PCLMULQDQ", {0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x00}},
        {"SHA1MSG1", {0x0f, 0x38, 0xc9, 0xc1}},
        {"VGF2P8MULB", {0xc4, 0xe2, 0x79, 0xcf, 0xc0}},
        {"VPDPBUSD", {0xc4, 0xe2, 0x79, 0x50, 0xc0}},
        {"VADDPS zmm", {0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0}},
        {"KMOVW", {0xc5, 0xf8, 0x90, 0xc8}},
        {"ADCX", {0x66, 0x0f, 0x38, 0xf6, 0xc1}},
        {"RDRAND", {0x0f, 0xc7, 0xf0}},
        {"XSAVEOPT", {0x0f, 0xae, 0x34, 0x25, 0x00, 0x10, 0x01, 0x00}},
        {"XSAVEC", {0x0f, 0xc7, 0x24, 0x25, 0x00, 0x10, 0x01, 0x00}},
        {"VFMADDSS, AMD's", {0xc4, 0xe3, 0x79, 0x6a, 0xc0, 0x00}},
        {"VADDPS behind 66", {0x66, VADDPS}},
        {"VADDPS behind REX", {0x40, VADDPS}},
        {"VADDPS behind LOCK", {0xf0, VADDPS}},
    };
    begin_v3(0);
    struct rv_x86 start = g.x;
    for (unsigned n = 0; n < RV_COUNT(others); n++) {
        g.x = start;
        cr_expect_eq(run(others[n].code, sizeof others[n].code), RV_VEC_UD, "%s", others[n].name);
    }
    end();
}

/* SDM vol. 2, 2.4: #UD without OSXSAVE or with SSE or AVX disabled in XCR0, then #NM for TS. EM and
 * OSFXSR are those of SSE. BMI, which uses general registers, asks for none of them. */
Test(system, when_avx_is_enabled) {
    static const struct {
        uint64_t cr0, no_cr4, xcr0;
        int vector;
    } cases[] = {
        {0, 0, 7, -1},
        {0, RV_CR4_OSXSAVE, 7, RV_VEC_UD},
        {0, 0, 3, RV_VEC_UD},
        {0, 0, 1, RV_VEC_UD},
        {RV_CR0_TS, 0, 7, RV_VEC_NM},
        {RV_CR0_TS, RV_CR4_OSXSAVE, 7, RV_VEC_UD},
        {RV_CR0_TS, 0, 3, RV_VEC_UD},
        {RV_CR0_EM, 0, 7, -1},
        {0, RV_CR4_OSFXSR, 7, -1},
    };
    begin_v3(0);
    struct rv_x86 start = g.x;
    for (unsigned n = 0; n < RV_COUNT(cases); n++) {
        for (unsigned general = 0; general < 2; general++) {
            g.x = start;
            g.x.cr0 |= cases[n].cr0;
            g.x.cr4 &= ~cases[n].no_cr4;
            g.x.xcr0 = cases[n].xcr0;
            ones_and_twos();
            g.x.gpr[RV_RCX] = 0x35;
            int vector = general ? RUN(ANDN, HLT) : RUN(VADDPS, HLT);
            cr_expect_eq(vector, general ? -1 : cases[n].vector, "case %u: %d", n, vector);
            if (general) cr_expect_eq(g.x.gpr[RV_RAX], 0x35);
            if (!general && vector < 0) cr_expect(all_three(), "case %u", n);
        }
    }
    end();
}

/* Outside of 64-bit code C4 and C5 are VEX only where LES and LDS would have a register. */
Test(system, vex_in_protected_mode) {
    static const uint8_t lds[] = {0xc5, 0x05, 0x00, 0x10, 0x01, 0x00, HLT}; /* lds eax, [DATA] */
    begin_v3(0);
    small_stack();
    ones_and_twos();
    cr_expect_eq(RUN(VADDPS, HLT), -1);
    cr_expect(all_three());
    end();
    begin_v3(0);
    small_stack();
    put64(GDT + 0x08, 0x00cf9b000000ffffull);
    put64(DATA, 0x0000001012345678ull);
    cr_expect_eq(run(lds, sizeof lds), -1);
    cr_expect_eq(g.x.gpr[RV_RAX], 0x12345678);
    cr_expect_eq(g.x.seg[RV_DS].sel, 0x10);
    end();
}

/* SDM vol. 2, 2.4.7: no VEX in real mode. */
Test(system, vex_in_real_mode) {
    for (unsigned n = 0; n < 3; n++) {
        begin_v3(0);
        struct rv_x86 *x = &g.x;
        x->cr0 = RV_CR0_ET;
        x->cr4 = RV_CR4_OSXSAVE | RV_CR4_OSFXSR;
        x->efer = 0;
        for (int s = 0; s < RV_LDTR; s++)
            x->seg[s] = (struct rv_seg){.limit = 0xffff, .attr = 0x93};
        x->seg[RV_CS] =
            (struct rv_seg){.base = CODE, .limit = 0xffff, .sel = CODE >> 4, .attr = 0x9b};
        x->rip = 0;
        x->gpr[RV_RSP] = STACK0;
        for (unsigned v = 0; v < 32; v++) {
            uint32_t entry = HANDLERS + 16 * v;
            memcpy(g.ram.host + IDT + 4 * v, &entry, 4);
        }
        int vector = n == 0 ? RUN(VADDPS, HLT) : n == 1 ? RUN(ANDN, HLT) : RUN(0x66, LZCNT, HLT);
        cr_expect_eq(vector, n < 2 ? RV_VEC_UD : -1, "case %u: %d", n, vector);
        if (n == 2) cr_expect_eq(g.x.gpr[RV_RAX], 32, "LZCNT has no VEX");
        end();
    }
}

Test(system, xsetbv_takes_what_goes_together) {
    static const uint8_t code[] = {0x0f, 0x01, 0xd1, 0x0f, 0x01, 0xd0, HLT}; /* xsetbv; xgetbv */
    begin_v3(0);
    struct rv_x86 start = g.x;
    for (uint64_t v = 0; v < 16; v++) {
        g.x = start;
        g.x.gpr[RV_RAX] = v;
        g.x.gpr[RV_RDX] = 0;
        g.x.ymmh[5] = 0x55;
        int vector = run(code, sizeof code);
        bool good = v == 1 || v == 3 || v == 7;
        cr_expect_eq(vector, good ? -1 : RV_VEC_GP, "XCR0 = %u: %d", (unsigned)v, vector);
        cr_expect_eq(g.x.xcr0, good ? v : 7);
        cr_expect_eq(g.x.ymmh[5], 0x55, "no component is lost by being disabled");
    }
    end();
}

/* Translations and decoded blocks must not outlive it: a loop that was run with AVX disabled, then
 * enabled, then disabled by XCR0 and by CR4. The handler of #UD counts and goes on behind. */
Test(system, code_follows_what_is_enabled) {
    static const uint8_t code[] = {
        0x31, 0xc9,                   /* xor ecx, ecx */
        0x31, 0xd2,                   /* xor edx, edx */
        0xb8, 3,    0,    0,    0,    /* mov eax, 3 */
        0x0f, 0x01, 0xd1,             /* xsetbv */
        0xe8, 0x4c, 0,    0,    0,    /* call 0x5d */
        0x4d, 0x89, 0xc2,             /* mov r10, r8 */
        0xb8, 7,    0,    0,    0,    /* mov eax, 7 */
        0x0f, 0x01, 0xd1,             /* xsetbv */
        0xe8, 0x3c, 0,    0,    0,    /* call 0x5d */
        0x4d, 0x89, 0xc3,             /* mov r11, r8 */
        0xb8, 3,    0,    0,    0,    /* mov eax, 3 */
        0x0f, 0x01, 0xd1,             /* xsetbv */
        0xe8, 0x2c, 0,    0,    0,    /* call 0x5d */
        0x4d, 0x89, 0xc4,             /* mov r12, r8 */
        0xb8, 7,    0,    0,    0,    /* mov eax, 7 */
        0x0f, 0x01, 0xd1,             /* xsetbv */
        0x0f, 0x20, 0xe0,             /* mov rax, cr4 */
        0x48, 0x0f, 0xba, 0xf0, 0x12, /* btr rax, 18 */
        0x0f, 0x22, 0xe0,             /* mov cr4, rax */
        0xe8, 0x11, 0,    0,    0,    /* call 0x5d */
        0x4d, 0x89, 0xc5,             /* mov r13, r8 */
        0x48, 0x0f, 0xba, 0xe8, 0x12, /* bts rax, 18 */
        0x0f, 0x22, 0xe0,             /* mov cr4, rax */
        0xe8, 1,    0,    0,    0,    /* call 0x5d */
        HLT,                          /* */
        0xbb, 9,    0,    0,    0,    /* 0x5d: mov ebx, 9 */
        0xc5, 0xfd, 0xfe, 0xc0,       /* 0x62: vpaddd ymm0, ymm0, ymm0 */
        0xff, 0xcb,                   /* dec ebx */
        0x75, 0xf8,                   /* jnz 0x62 */
        0xc3,                         /* ret */
    };
    static const uint8_t handler[] = {
        0x49, 0xff, 0xc0,             /* inc r8 */
        0x48, 0x83, 0x04, 0x24, 0x04, /* add qword [rsp], 4 */
        0x48, 0xcf,                   /* iretq */
    };
    begin_v3(0);
    memcpy(g.ram.host + DATA, handler, sizeof handler);
    put64(IDT + 16 * RV_VEC_UD,
          (DATA & 0xffff) | 0x08ull << 16 | 0x8e00ull << 32 | (uint64_t)(DATA >> 16) << 48);
    memset(g.x.fx + 160, 1, 16);
    memset(g.x.ymmh, 1, 16);
    cr_expect_eq(run(code, sizeof code), -1);
    cr_expect_eq(g.x.gpr[10], 9, "disabled");
    cr_expect_eq(g.x.gpr[11], 9, "enabled");
    cr_expect_eq(g.x.gpr[12], 18, "disabled by XCR0");
    cr_expect_eq(g.x.gpr[13], 27, "disabled by CR4");
    cr_expect_eq(g.x.gpr[8], 27, "enabled again");
    for (unsigned n = 0; n < 16; n += 4) {
        uint32_t low, high;
        memcpy(&low, g.x.fx + 160 + n, 4);
        memcpy(&high, g.x.ymmh + n, 4);
        cr_expect_eq(low, 0x01010101u << 18);
        cr_expect_eq(high, 0x01010101u << 18);
    }
    end();
}

/* mov eax, leaf; mov ecx, sub; cpuid; hlt */
static void cpuid(uint32_t leaf, uint32_t sub) {
    uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xb9, 0, 0, 0, 0, 0x0f, 0xa2, HLT};
    memcpy(code + 1, &leaf, 4);
    memcpy(code + 6, &sub, 4);
    g.x.rip = CODE;
    g.x.halted = 0;
    cr_assert_eq(run(code, sizeof code), -1);
}
#define LEAF_1_ECX 0x30401000u /* FMA, MOVBE, AVX, F16C */
#define OSXSAVE    (1u << 27)
#define LEAF_7_EBX 0x128u /* BMI1, AVX2, BMI2 */

Test(system, cpuid_of_v3) {
    const uint64_t *r = g.x.gpr;
    begin_v3(0);
    g.x.cr4 &= ~RV_CR4_OSXSAVE;
    cpuid(1, 0);
    cr_expect_eq(r[RV_RCX] & (LEAF_1_ECX | OSXSAVE), LEAF_1_ECX);
    g.x.cr4 |= RV_CR4_OSXSAVE;
    cpuid(1, 0);
    cr_expect_eq(r[RV_RCX] & (LEAF_1_ECX | OSXSAVE), LEAF_1_ECX | OSXSAVE);
    cpuid(7, 0);
    cr_expect_eq(r[RV_RBX] & LEAF_7_EBX, LEAF_7_EBX);
    cr_expect_not(r[RV_RBX] & 1u << 16, "AVX-512");
    cpuid(0x80000001, 0);
    cr_expect(r[RV_RCX] & 1u << 5, "LZCNT");
    for (uint64_t xcr0 = 1; xcr0 < 8; xcr0 = 2 * xcr0 + 1) {
        g.x.xcr0 = xcr0;
        cpuid(0xd, 0);
        cr_expect_eq(r[RV_RAX], 7);
        cr_expect_eq(r[RV_RBX], xcr0 == 7 ? 832 : 576, "the enabled ones");
        cr_expect_eq(r[RV_RCX], 832);
        cr_expect_eq(r[RV_RDX], 0);
    }
    cpuid(0xd, 1);
    cr_expect_eq(r[RV_RAX], 0, "no XSAVEOPT, XSAVEC");
    cpuid(0xd, 2);
    cr_expect_eq(r[RV_RAX], 256);
    cr_expect_eq(r[RV_RBX], 576);
    cr_expect_eq(r[RV_RCX], 0);
    end();
}

Test(system, cpuid_of_v2) {
    const uint64_t *r = g.x.gpr;
    begin(0);
    cpuid(1, 0);
    cr_expect_eq(r[RV_RCX] & (LEAF_1_ECX | OSXSAVE), 0);
    g.x.cr4 |= RV_CR4_OSXSAVE;
    cpuid(1, 0);
    cr_expect_eq(r[RV_RCX] & (LEAF_1_ECX | OSXSAVE), OSXSAVE);
    cpuid(7, 0);
    cr_expect_eq(r[RV_RBX] & LEAF_7_EBX, 0);
    cpuid(0x80000001, 0);
    cr_expect_not(r[RV_RCX] & 1u << 5, "LZCNT");
    cpuid(0xd, 0);
    cr_expect_eq(r[RV_RAX], 3);
    cr_expect_eq(r[RV_RBX], 576);
    cr_expect_eq(r[RV_RCX], 576);
    cpuid(0xd, 2);
    cr_expect_eq(r[RV_RAX] | r[RV_RBX] | r[RV_RCX] | r[RV_RDX], 0);
    end();
}
