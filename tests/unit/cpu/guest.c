/* One instruction on the interpreter, through the engine's public interface alone: user code at
 * privilege 3 in long mode under page tables that show it what the process has natively. A fault is
 * delivered through an IDT whose handlers are a NOP each, so one more retired instruction stops the
 * engine with the vector in RIP and the rest on the handler's stack. */
#include <stdio.h>
#include <string.h>

#include "side.h"

#define RAM_SIZE (4u << 20)

/* System structures: physical, and seen by the supervisor at SYSTEM + physical. */
#define SYSTEM   0xffff900000000000ull
#define PML4     0x1000u
#define PDPT     0x2000u
#define PD       0x3000u
#define PT       0x4000u
#define PDPT_SYS 0x5000u
#define PD_SYS   0x6000u
#define HANDLERS 0x8000u
#define IDT      0x9000u
#define GDT      0xa000u
#define TSS      0xb000u
#define STACK    0xd000u /* top */

#define P_PRESENT 1u
#define P_WRITE   2u
#define P_USER    4u
#define P_LARGE   0x80u

static void put64(struct or_side *g, uint32_t at, uint64_t v) {
    memcpy(g->ram.host + at, &v, sizeof v);
}

static void no_exit(void *ctx, struct rv_exit *x) {
    (void)ctx;
    x->fault = true;
}
static uint64_t no_time(void *ctx) {
    (void)ctx;
    return 0;
}

static void page_tables(struct or_side *g) {
    put64(g, PML4, PDPT | P_PRESENT | P_WRITE | P_USER);
    put64(g, PDPT, PD | P_PRESENT | P_WRITE | P_USER);
    put64(g, PD + 8 * (OR_DATA >> 21), PT | P_PRESENT | P_WRITE | P_USER);
    for (uint64_t va = OR_DATA; va < OR_RO; va += RV_PAGE_SIZE)
        put64(g, PT + 8 * (uint32_t)(va >> 12 & 511), va | P_PRESENT | P_WRITE | P_USER);
    put64(g, PT + 8 * (uint32_t)(OR_RO >> 12 & 511), OR_RO | P_PRESENT | P_USER);
    for (uint64_t va = OR_CODE; va < OR_CODE + OR_CODE_SIZE; va += RV_PAGE_SIZE)
        put64(g, PT + 8 * (uint32_t)(va >> 12 & 511), va | P_PRESENT | P_USER);
    put64(g, PT + 8 * (uint32_t)(OR_FAR >> 12 & 511), OR_FAR | P_PRESENT | P_USER);
    put64(g, PML4 + 8 * (SYSTEM >> 39 & 511), PDPT_SYS | P_PRESENT | P_WRITE);
    put64(g, PDPT_SYS, PD_SYS | P_PRESENT | P_WRITE);
    put64(g, PD_SYS, 0 | P_PRESENT | P_WRITE | P_LARGE);
}

static void descriptors(struct or_side *g) {
    put64(g, GDT + 0x10, 0x00af9b000000ffffull);
    put64(g, TSS + 4, SYSTEM + STACK);
    for (unsigned v = 0; v < 32; v++) {
        uint64_t entry = SYSTEM + HANDLERS + 16 * v;
        g->ram.host[HANDLERS + 16 * v] = 0x90;
        put64(g, IDT + 16 * v,
              (entry & 0xffff) | 0x10ull << 16 | 0x8e00ull << 32 | (entry >> 16 & 0xffff) << 48);
        put64(g, IDT + 16 * v + 8, entry >> 32);
    }
}

int or_side_init(struct or_side *g, const struct rv_engine_ops *engine,
                 const struct rv_profile *profile, uint64_t quirks, struct rv_err *err) {
    int r = rv_ram_init(&g->ram, RAM_SIZE, err);
    if (r) return r;
    page_tables(g);
    descriptors(g);
    g->bus = (struct rv_cpu_bus){.exit = no_exit, .tsc = no_time, .quirks = quirks};
    r = engine->create(&g->e, &g->ram, &g->bus, profile, err);
    if (r) return r;
    struct rv_x86 *s = &g->start;
    rv_x86_reset(s);
    s->cr0 = RV_CR0_PE | RV_CR0_MP | RV_CR0_ET | RV_CR0_NE | RV_CR0_WP | RV_CR0_PG;
    s->cr3 = PML4;
    s->cr4 = RV_CR4_PAE | RV_CR4_OSFXSR | RV_CR4_OSXMMEXCPT | RV_CR4_OSXSAVE;
    s->efer = RV_EFER_SCE | RV_EFER_LME | RV_EFER_LMA | RV_EFER_NXE;
    s->xcr0 = profile->xcr0_mask;
    for (int n = 0; n < RV_SREGS; n++) s->seg[n] = (struct rv_seg){0};
    s->seg[RV_CS] = (struct rv_seg){.limit = 0xffffffff, .sel = 0x33, .attr = 0xa0fb};
    s->seg[RV_SS] = (struct rv_seg){.limit = 0xffffffff, .sel = 0x2b, .attr = 0xc0f3};
    s->seg[RV_TR] = (struct rv_seg){.base = SYSTEM + TSS, .limit = 0x67, .sel = 0x40, .attr = 0x8b};
    s->gdt = (struct rv_dtr){SYSTEM + GDT, 0x4f};
    s->idt = (struct rv_dtr){SYSTEM + IDT, 0x1ff};
    return 0;
}

void or_side_release(struct or_side *g) {
    g->e->ops->destroy(g->e);
    rv_ram_release(&g->ram);
    memset(g, 0, sizeof *g);
}

const struct rv_profile *or_profile(void) {
    return rv_profile_lacks(&rv_profile_v3) ? &rv_profile_v2 : &rv_profile_v3;
}

static struct or_side only;
int or_guest_init(const struct rv_profile *profile, struct rv_err *err) {
    return or_side_init(&only, &rv_engine_interpret, profile, RV_QUIRK_PORTABLE, err);
}
void or_guest_release(void) { or_side_release(&only); }

static uint64_t pop(uint64_t *rsp) {
    uint64_t v;
    memcpy(&v, only.ram.host + (*rsp - SYSTEM), sizeof v);
    *rsp += 8;
    return v;
}

/* Takes the interrupted state from the handler's stack. */
static void faulted(struct or_outcome *o, const struct rv_x86 *x) {
    int vector = (int)((x->rip - SYSTEM - HANDLERS) / 16);
    uint64_t rsp = x->gpr[RV_RSP];
    o->fault.vector = vector;
    if (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
        o->fault.error = (uint32_t)pop(&rsp);
    if (vector == RV_VEC_PF) o->fault.cr2 = x->cr2;
    o->out.rip = pop(&rsp);
    pop(&rsp);
    o->out.rflags = pop(&rsp) & ~(uint64_t)RV_FL_RF;
    o->out.gpr[RV_RSP] = pop(&rsp);
}

void or_guest_run(const struct or_case *k, struct or_outcome *o) {
    struct rv_err err = {0};
    struct rv_x86 x = only.start;
    memcpy(x.gpr, k->in.gpr, sizeof x.gpr);
    memcpy(x.fx, k->in.fx, sizeof x.fx);
    memcpy(x.ymmh, k->in.ymmh, sizeof x.ymmh);
    x.rip = k->in.rip;
    x.rflags = k->in.rflags;
    memcpy(only.ram.host + OR_DATA, k->mem, OR_WINDOW);
    memcpy(only.ram.host + OR_CODE, k->code, sizeof k->code);
    /* set() drops everything that was derived from memory. */
    int r = only.e->ops->set(only.e, &x, &err);
    if (!r) r = only.e->ops->run(only.e, 1, false, &err);
    o->fault = (struct or_fault){.vector = -1};
    if (r != RV_RUN_UNTIL) o->fault.vector = 1000 + r; /* never what the host says */
    only.e->ops->get(only.e, &x);
    memcpy(o->out.gpr, x.gpr, sizeof x.gpr);
    memcpy(o->out.fx, x.fx, sizeof x.fx);
    memcpy(o->out.ymmh, x.ymmh, sizeof x.ymmh);
    o->out.rip = x.rip;
    o->out.rflags = x.rflags;
    if (r == RV_RUN_UNTIL && x.rip - (SYSTEM + HANDLERS) < 32 * 16) faulted(o, &x);
    memcpy(o->mem, only.ram.host + OR_DATA, OR_WINDOW);
}
