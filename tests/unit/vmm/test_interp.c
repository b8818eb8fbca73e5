/* The interpreter's promises to the machine: exact counts, exact stops, coherent translation and
 * code. Results of single instructions are the oracle's business (tests/unit/cpu). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "under_test.h"

static void no_exit(void *ctx, struct rv_exit *x) {
    (void)ctx;
    x->data = ~0ull;
}
static uint64_t no_tsc(void *ctx) {
    (void)ctx;
    return 12345;
}

struct bench {
    struct rv_ram ram;
    struct rv_cpu_bus bus;
    struct rv_engine *e;
};

#define CODE  0x10000u
#define PML4  0x1000u
#define PDPT  0x2000u
#define PD    0x3000u
#define PT    0x4000u /* maps the first 2 MiB page by page */
#define STACK 0x80000u

static void put64(struct bench *b, uint64_t gpa, uint64_t v) { memcpy(b->ram.host + gpa, &v, 8); }

/* 64-bit code at CODE, supervisor, the low 2 MiB mapped one to one in 4 KiB pages. */
static void start(struct bench *b, const void *code, size_t n) {
    struct rv_err err = {0};
    memset(b, 0, sizeof *b);
    cr_assert_eq(rv_ram_init(&b->ram, 4 << 20, &err), 0);
    b->bus = (struct rv_cpu_bus){.exit = no_exit, .tsc = no_tsc};
    cr_assert_eq(engine_create(&b->e, &b->ram, &b->bus, &rv_profile_v2, &err), 0);
    put64(b, PML4, PDPT | 7);
    put64(b, PDPT, PD | 7);
    put64(b, PD, PT | 7);
    for (uint64_t i = 0; i < 512; i++) put64(b, PT + 8 * i, i << 12 | 7);
    memcpy(b->ram.host + CODE, code, n);
    struct rv_x86 x;
    rv_x86_reset(&x);
    x.cr0 = RV_CR0_PE | RV_CR0_PG | RV_CR0_WP | RV_CR0_ET | RV_CR0_NE;
    x.cr3 = PML4;
    x.cr4 = RV_CR4_PAE | RV_CR4_OSFXSR;
    x.efer = RV_EFER_LME | RV_EFER_LMA;
    for (int s = 0; s < 6; s++)
        x.seg[s] = (struct rv_seg){
            .limit = ~0u, .sel = 16, .attr = RV_SEG_P | RV_SEG_S | RV_SEG_DB | RV_SEG_G | 3};
    x.seg[RV_CS].sel = 8;
    x.seg[RV_CS].attr = RV_SEG_P | RV_SEG_S | RV_SEG_L | RV_SEG_G | 0xb;
    x.rip = CODE;
    x.gpr[RV_RSP] = STACK;
    cr_assert_eq(b->e->ops->set(b->e, &x, &err), 0);
}

static void finish(struct bench *b) {
    b->e->ops->destroy(b->e);
    rv_ram_release(&b->ram);
}

static int run(struct bench *b, rv_icount until) {
    struct rv_err err = {0};
    int r = b->e->ops->run(b->e, until, false, &err);
    cr_assert_geq(r, 0, "%s", err.msg);
    return r;
}

static struct rv_x86 state(struct bench *b) {
    struct rv_x86 x;
    b->e->ops->get(b->e, &x);
    return x;
}

Test(interp, stops_at_every_count_alike) {
    /* mov ecx, 5; loop: add rax, rcx; push rax; pop rbx; dec ecx; jnz loop; hlt */
    static const uint8_t code[] = {0xb9, 5,    0,    0,    0,    0x48, 0x01, 0xc8,
                                   0x50, 0x5b, 0xff, 0xc9, 0x75, 0xf7, 0xf4};
    struct bench whole, parts;
    start(&whole, code, sizeof code);
    cr_assert_eq(run(&whole, RV_NEVER), RV_RUN_HALTED);
    struct rv_x86 end = state(&whole);
    cr_expect_eq(end.icount, 1 + 5 * 5 + 1);
    cr_expect_eq(end.gpr[RV_RAX], 15);
    for (rv_icount stop = 1; stop < end.icount; stop++) {
        start(&parts, code, sizeof code);
        cr_assert_eq(run(&parts, stop), RV_RUN_UNTIL);
        cr_assert_eq(state(&parts).icount, stop);
        cr_assert_eq(run(&parts, RV_NEVER), RV_RUN_HALTED);
        struct rv_x86 x = state(&parts);
        cr_expect_eq(rv_x86_hash(&x, 0), rv_x86_hash(&end, 0),
                     "stopping at %llu changes the outcome", (unsigned long long)stop);
        finish(&parts);
    }
    finish(&whole);
}

Test(interp, rep_counts_once) {
    /* mov ecx, 1000; mov edi, 20000h; rep stosb; hlt */
    static const uint8_t code[] = {0xb9, 0xe8, 3, 0, 0, 0xbf, 0, 0, 2, 0, 0xf3, 0xaa, 0xf4};
    struct bench b;
    start(&b, code, sizeof code);
    cr_assert_eq(run(&b, RV_NEVER), RV_RUN_HALTED);
    cr_expect_eq(state(&b).icount, 4);
    cr_expect_eq(state(&b).gpr[RV_RDI], 0x20000 + 1000);
    finish(&b);
}

Test(interp, follows_page_tables_without_a_flush) {
    /* Reads 200000h-1000h.. through page 1ffh, then points that page's entry elsewhere by a plain
     * store and reads again: no INVLPG, no CR3 load.
     *   mov rax,[1ff000h]; mov rbx, 30007h; mov [4ff8h], rbx; mov rcx,[1ff000h]; hlt */
    static const uint8_t code[] = {0x48, 0x8b, 0x04, 0x25, 0x00, 0xf0, 0x1f, 0x00, 0xbb, 0x07,
                                   0x00, 0x03, 0x00, 0x48, 0x89, 0x1c, 0x25, 0xf8, 0x4f, 0x00,
                                   0x00, 0x48, 0x8b, 0x0c, 0x25, 0x00, 0xf0, 0x1f, 0x00, 0xf4};
    struct bench b;
    start(&b, code, sizeof code);
    put64(&b, 0x1ff000, 0x1111);
    put64(&b, 0x30000, 0x2222);
    cr_assert_eq(run(&b, RV_NEVER), RV_RUN_HALTED);
    cr_expect_eq(state(&b).gpr[RV_RAX], 0x1111);
    cr_expect_eq(state(&b).gpr[RV_RCX], 0x2222);
    finish(&b);
}

Test(interp, sets_accessed_again_after_it_was_cleared) {
    /* mov rax,[1ff000h]; and byte [4ff8h], ~20h; mov rax,[1ff000h]; hlt */
    static const uint8_t code[] = {0x48, 0x8b, 0x04, 0x25, 0x00, 0xf0, 0x1f, 0x00, 0x80,
                                   0x24, 0x25, 0xf8, 0x4f, 0x00, 0x00, 0xdf, 0x48, 0x8b,
                                   0x04, 0x25, 0x00, 0xf0, 0x1f, 0x00, 0xf4};
    struct bench b;
    start(&b, code, sizeof code);
    cr_assert_eq(run(&b, 2), RV_RUN_UNTIL);
    uint64_t pte;
    memcpy(&pte, b.ram.host + PT + 8 * 511, 8);
    cr_expect_eq(pte & 0x20, 0, "the guest's own store cleared it");
    cr_assert_eq(run(&b, RV_NEVER), RV_RUN_HALTED);
    memcpy(&pte, b.ram.host + PT + 8 * 511, 8);
    cr_expect_eq(pte & 0x20, 0x20);
    finish(&b);
}

Test(interp, sees_changed_code_at_the_next_instruction) {
    /* mov byte [rip+next+1], 7 (the immediate of the next instruction); mov al, 1; hlt */
    static const uint8_t code[] = {0xc6, 0x05, 0x01, 0, 0, 0, 7, 0xb0, 1, 0xf4};
    struct bench b;
    start(&b, code, sizeof code);
    cr_assert_eq(run(&b, RV_NEVER), RV_RUN_HALTED);
    cr_expect_eq(state(&b).gpr[RV_RAX] & 0xff, 7);
    finish(&b);
}

#define ALIAS 0x100000u /* another linear address for the page of CODE */

Test(interp, sees_code_changed_through_an_alias) {
    /* mov byte [ALIAS+9], 7; mov al, 1; hlt: the write hits the MOV's immediate */
    static const uint8_t code[] = {0xc6, 0x04, 0x25, 9, 0, 0x10, 0, 7, 0xb0, 1, 0xf4};
    struct bench b;
    start(&b, code, sizeof code);
    put64(&b, PT + 8 * (ALIAS >> 12), CODE | 7);
    cr_assert_eq(run(&b, RV_NEVER), RV_RUN_HALTED);
    cr_expect_eq(state(&b).gpr[RV_RAX] & 0xff, 7);
    cr_expect_eq(state(&b).icount, 3);
    finish(&b);
}

static long resident_pages(void) {
    long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert(f && fscanf(f, "%ld %ld", &size, &resident) == 2);
    fclose(f);
    return resident;
}

/* A guest that makes new code without end does not make the process grow without end. */
Test(interp, code_made_again_and_again_takes_bounded_memory) {
    /* mov ecx, n; loop: mov [ALIAS+201h], ecx; call f; add rbx, rax; dec ecx; jnz loop; hlt;
     * at 200h, f: mov eax, imm32; ret */
    uint8_t code[0x206] = {0xb9, 0, 0, 0, 0,    0x89, 0x0c, 0x25, 0x01, 0x02, 0x10, 0x00, 0xe8,
                           0xef, 1, 0, 0, 0x48, 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xed, 0xf4};
    const uint32_t n = 400000;
    code[0x200] = 0xb8;
    code[0x205] = 0xc3;
    memcpy(code + 1, &n, 4);
    struct bench b;
    start(&b, code, sizeof code);
    put64(&b, PT + 8 * (ALIAS >> 12), CODE | 7);
    cr_assert_eq(run(&b, 7 * 1000), RV_RUN_UNTIL);
    long before = resident_pages();
    cr_assert_eq(run(&b, RV_NEVER), RV_RUN_HALTED);
    cr_expect_eq(state(&b).gpr[RV_RBX], (uint64_t)n * (n + 1) / 2);
    cr_expect_eq(state(&b).icount, 1 + 7ull * n + 1);
#ifndef RV_SANITIZED /* the sanitizer keeps what is freed */
    /* Memory for code is mapped twice, and counts twice here. */
    cr_expect_lt(resident_pages() - before, (160 << 20) / 4096);
#else
    (void)before;
#endif
    finish(&b);
}

Test(interp, without_an_idt_a_fault_is_a_triple_fault) {
    static const uint8_t code[] = {0x90, 0x0f, 0x0b}; /* nop; ud2 */
    struct bench b;
    start(&b, code, sizeof code);
    cr_assert_eq(run(&b, RV_NEVER), RV_RUN_TRIPLE_FAULT);
    cr_expect_eq(state(&b).icount, 1, "the faulting instruction does not count");
    finish(&b);
}

static void exit_and_attend(void *ctx, struct rv_exit *x) {
    x->data = 0;
    ((struct bench *)ctx)->bus.attention = true;
}
static uint64_t tsc_and_attend(void *ctx) {
    ((struct bench *)ctx)->bus.attention = true;
    return 0;
}

/* Whatever asks the machine for something is the last instruction before the machine is asked: a
 * recording on hardware knows the place by that. */
Test(interp, returns_right_after_what_leaves_the_cpu) {
    static const struct {
        const char *name;
        uint8_t code[8], len;
    } what[] = {
        {"cpuid", {0x0f, 0xa2}, 2}, {"rdtsc", {0x0f, 0x31}, 2}, {"rdtscp", {0x0f, 0x01, 0xf9}, 3},
        {"rdmsr", {0x0f, 0x32}, 2}, {"in", {0xe4, 0x80}, 2},    {"out", {0xe6, 0x80}, 2},
        {"load", {0x8b, 0x1e}, 2},  {"store", {0x89, 0x1e}, 2}, {"modify", {0x01, 0x1e}, 2},
    };
    for (unsigned n = 0; n < RV_COUNT(what); n++) {
        /* mov eax, 1; mov ecx, IA32_APIC_BASE; mov esi, the APIC's page; nop; ...; nops; a loop */
        uint8_t code[64] = {0xb8, 1, 0, 0, 0, 0xb9, 0x1b, 0, 0, 0, 0xbe, 0x00, 0xf0, 0x1f, 0x00};
        memset(code + 15, 0x90, sizeof code - 15);
        memcpy(code + 16, what[n].code, what[n].len);
        memcpy(code + 62, (uint8_t[]){0xeb, 0xfe}, 2); /* jmp to itself */
        struct bench b;
        start(&b, code, sizeof code);
        b.bus.ctx = &b;
        b.bus.exit = exit_and_attend;
        b.bus.tsc = tsc_and_attend;
        put64(&b, PT + 8 * 511, 0xfee00000u | 7);
        cr_expect_eq(run(&b, 1000), RV_RUN_ATTENTION, "%s", what[n].name);
        cr_expect_eq(state(&b).rip, CODE + 16 + what[n].len, "%s: at 0x%llx", what[n].name,
                     (unsigned long long)state(&b).rip);
        cr_expect_eq(b.e->ops->icount(b.e), 5, "%s", what[n].name);
        finish(&b);
    }
}

Test(interp, a_kick_ends_an_endless_loop) {
    static const uint8_t code[] = {0xeb, 0xfe}; /* jmp $ */
    struct bench b;
    start(&b, code, sizeof code);
    b.e->ops->kick(b.e);
    cr_expect_eq(run(&b, RV_NEVER), RV_RUN_KICKED);
    finish(&b);
}

Test(interp, a_kick_ends_an_endless_string_instruction) {
    /* mov rcx, -1; xor esi, esi; again: rep lodsb over mapped memory only */
    static const uint8_t code[] = {0x48, 0xc7, 0xc1, 0xff, 0xff, 0xff, 0xff, /* mov rcx, -1 */
                                   0xbe, 0,    0,    2,    0,                /* mov esi, 20000h */
                                   0x67, 0xf3, 0xac};                        /* a32 rep lodsb */
    struct bench b;
    start(&b, code, sizeof code);
    /* Every 2 MiB of the first GiB, and that GiB four times, so that the address wraps inside. */
    for (uint64_t i = 0; i < 512; i++) put64(&b, PD + 8 * i, 0x87);
    for (uint64_t i = 0; i < 4; i++) put64(&b, PDPT + 8 * i, PD | 7);
    cr_assert_eq(run(&b, 2), RV_RUN_UNTIL);
    b.e->ops->kick(b.e);
    int r = run(&b, RV_NEVER);
    cr_expect(r == RV_RUN_STUCK || r == RV_RUN_KICKED, "%d", r);
    finish(&b);
}
