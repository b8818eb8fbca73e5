/* Tries out what the nested engine relies on. Reads a clock, as probe.c does: no guest whose run is
 * asked for exists yet, and only the choice of an engine depends on what is found. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/kvm/nested.h"

#define MEMORY   (1u << 20)
#define PML4     0x1000u /* the first GiB as it is, in one page */
#define PDPT     0x2000u
#define CODE     0x3000u
#define STACK    0x8000u
#define ROUNDS   100
#define ENOUGH   5e6 /* ns: a loop that took so long was measured well enough */
#define MAX_LOOP (1u << 26)

struct trial {
    struct rv_ram ram;
    struct rv_nested_vm vm;
    const struct rv_nested_ops *ops;
    struct rv_x86 x;
    uint64_t why;
};

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* 64-bit code at CODE, interrupts off, no IDT. */
static void begin(struct trial *t, const uint8_t *code, size_t size, uint64_t rcx) {
    uint64_t pml4 = PDPT | 3, pdpt = 0x83;
    memcpy(t->ram.host + PML4, &pml4, sizeof pml4);
    memcpy(t->ram.host + PDPT, &pdpt, sizeof pdpt);
    memcpy(t->ram.host + CODE, code, size);
    struct rv_x86 *x = &t->x;
    rv_x86_reset(x);
    x->cr0 = RV_CR0_PE | RV_CR0_PG | RV_CR0_ET | RV_CR0_NE;
    x->cr3 = PML4;
    x->cr4 = RV_CR4_PAE;
    x->efer = RV_EFER_LME | RV_EFER_LMA;
    x->idt = (struct rv_dtr){0};
    x->seg[RV_CS] = (struct rv_seg){
        .limit = ~0u, .sel = 8, .attr = RV_SEG_P | RV_SEG_S | RV_SEG_L | RV_SEG_G | 0xb};
    x->rip = CODE;
    x->gpr[RV_RSP] = STACK;
    x->gpr[RV_RCX] = rcx;
}

/* Enters the guest until it comes out: an enum rv_nested_exit, or negative. */
static int enter(struct trial *t, bool window, bool call, struct rv_err *err) {
    t->ops->load(&t->vm, &t->x, true);
    t->ops->window(&t->vm, window);
    int r = call ? rv_nested_interrupt(&t->vm, true, err) : 0;
    if (!r) do
            r = rv_nested_run(&t->vm, err);
        while (r == 1);
    if (call && !r) r = rv_nested_interrupt(&t->vm, false, err);
    if (r) return r;
    int kind = t->ops->exit(&t->vm, &t->why);
    if (kind != RV_NESTED_REFUSED) t->ops->store(&t->vm, &t->x);
    return kind;
}

static bool comes_out(struct trial *t, int wanted, uint64_t rip) {
    struct rv_err err;
    return enter(t, wanted == RV_NESTED_WINDOW, wanted == RV_NESTED_KICKED, &err) == wanted &&
           t->x.rip == rip;
}

static double loop_speed(struct trial *t) {
    static const uint8_t code[] = {0x48, 0xff, 0xc9, 0x75, 0xfb, 0xf4}; /* dec rcx; jnz; hlt */
    /* Once before the clock starts: the first run also pays for KVM's page tables. */
    begin(t, code, sizeof code, 10);
    if (!comes_out(t, RV_NESTED_INSN, CODE + 5)) return 0;
    for (uint64_t n = 1000; n <= MAX_LOOP; n *= 4) {
        begin(t, code, sizeof code, n);
        double from = now_ns();
        if (!comes_out(t, RV_NESTED_INSN, CODE + 5)) return 0;
        double took = now_ns() - from;
        if (took >= ENOUGH || n * 4 > MAX_LOOP) return 2.0 * (double)n * 1e9 / (took + 1);
    }
    return 0;
}

static void try_tsc(struct trial *t, struct rv_nested_report *out) {
    static const uint8_t code[] = {0x0f, 0x31, 0xeb, 0xfc}; /* rdtsc; jmp back */
    begin(t, code, sizeof code, 0);
    t->x.gpr[RV_RDX] = 0x55;
    out->traps_tsc = comes_out(t, RV_NESTED_INSN, CODE) && t->x.gpr[RV_RDX] == 0x55;
    double from = now_ns();
    for (unsigned n = 0; n < ROUNDS && out->traps_tsc; n++) {
        t->x.rip += 2; /* as if it had been executed */
        out->traps_tsc = comes_out(t, RV_NESTED_INSN, CODE);
    }
    if (out->traps_tsc) out->exit_ns = (uint64_t)((now_ns() - from) / ROUNDS) + 1;
}

/* Whether an interrupt is taken in the shadow of an STI that the guest is entered in. */
static bool loses_shadow(struct trial *t) {
    static const uint8_t code[] = {0x90, 0xeb, 0xfe}; /* nop; jmp . */
    begin(t, code, sizeof code, 0);
    t->x.rflags |= RV_FL_IF;
    t->x.sti_shadow = 1;
    return !comes_out(t, RV_NESTED_WINDOW, CODE + 1);
}

static void try_all(struct trial *t, struct rv_nested_report *out) {
    static const uint8_t open[] = {0x90, 0xfb, 0x90, 0xeb, 0xfe}; /* nop; sti; nop; jmp . */
    static const uint8_t fault[] = {0x0f, 0x0b};                  /* ud2, and no IDT */
    out->vendor = t->ops->name;
    out->plain_ips = loop_speed(t);
    try_tsc(t, out);
    begin(t, open, sizeof open, 0);
    out->finds_window = comes_out(t, RV_NESTED_WINDOW, CODE + 3) && (t->x.rflags & RV_FL_IF);
    out->loses_shadow = loses_shadow(t);
    begin(t, open, sizeof open, 0);
    t->x.rip = CODE + 3;
    /* Emulated processors that enter the guest with interrupts off hold off the host's, too. */
    t->x.rflags |= RV_FL_IF;
    out->comes_when_called = comes_out(t, RV_NESTED_KICKED, CODE + 3);
    begin(t, fault, sizeof fault, 0);
    struct rv_err err;
    int how = enter(t, false, false, &err);
    /* Or by the double fault on the way, which comes out at the instruction; #UD itself does not.
     */
    out->shows_shutdown = how == RV_NESTED_SHUTDOWN || (how == RV_NESTED_INSN && t->x.rip == CODE);
    out->works = out->plain_ips > 0 && out->traps_tsc && out->finds_window &&
                 out->comes_when_called && out->shows_shutdown;
}

/* Makes the VM of a trial that is all zero; to be ended whatever comes of this. */
static int start(struct trial *t, struct rv_err *err) {
    int r = rv_ram_init(&t->ram, MEMORY, err);
    if (!r) r = rv_nested_vm_init(&t->vm, &t->ram, err);
    if (!r) r = rv_nested_start(&t->vm, &rv_profile_hw, &t->ops, err);
    return r;
}

static void end(struct trial *t) {
    if (t->vm.ram) rv_nested_vm_release(&t->vm);
    rv_ram_release(&t->ram);
    free(t);
}

int rv_nested_probe(struct rv_nested_report *out, struct rv_err *err) {
    *out = (struct rv_nested_report){0};
    struct trial *t = rv_alloc(sizeof *t);
    int r = start(t, err);
    if (!r) try_all(t, out);
    end(t);
    return r;
}

int rv_nested_loses_shadow(bool *loses, struct rv_err *err) {
    struct trial *t = rv_alloc(sizeof *t);
    int r = start(t, err);
    if (!r) *loses = loses_shadow(t);
    end(t);
    return r;
}
