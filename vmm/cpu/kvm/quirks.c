/* Measures the processor's quirks on a guest of a few instructions. */
#include "vmm/cpu/quirks.h"

#include <string.h>

#include "vmm/cpu/engine.h"

#define MEMORY      (1u << 20)
#define GDT         0x1000u
#define IDT         0x2000u
#define CODE        0x3000u
#define ON_UD       0x3100u
#define ON_DE       0x3200u
#define ON_PF       0x3300u
#define PAGES       0x4000u /* page directory; its last entry maps nothing */
#define FX          0x5000u /* what FXSAVE writes, among bytes that it finds there */
#define FSW         0x5200u
#define NUMBER      0x5800u
#define STACK       0x8000u
#define FAR_CS      0x18u
#define UNTOUCHED   0xaa
#define FSW_C1_HIGH 2 /* C1, in the upper byte */
#define PF_WRITE    2 /* in the error code of a page fault */

/* In 32-bit protected mode with paging. The first instructions may be interpreted: they must not
 * matter. */
static const uint8_t code[] = {
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90,   0x90, 0x90, /* nop */
    0xea, 0x0f, 0x30, 0x00, 0x00, FAR_CS, 0x00,       /* ljmp FAR_CS, next */
    0xdb, 0xe3,                                       /* next: fninit */
    0xd9, 0x05, 0x00, 0x58, 0x00, 0x00,               /* fld dword [NUMBER] */
    0x0f, 0xae, 0x05, 0x00, 0x50, 0x00,   0x00,       /* fxsave [FX] */
    0xd9, 0xe5, 0xd8, 0xc0,                           /* fxam; fadd st0, st0 */
    0xdd, 0x3d, 0x00, 0x52, 0x00, 0x00,               /* fnstsw [FSW] */
    0x0f, 0x0b,                                       /* ud2 */
};
/* The handler of #UD goes on at a division by zero, that of #DE with a page that is not there, that
 * of #PF leaves the CPU. */
static const uint8_t ud_handler[] = {
    0x58, 0x5b, 0x5e, /* pop eax, ebx, esi: EIP, CS, EFLAGS */
    0x31, 0xc0,       /* xor eax, eax */
    0xf6, 0xf0,       /* div al */
};
static const uint8_t de_handler[] = {
    0x58, 0x5b, 0x59,                   /* pop eax, ebx, ecx */
    0xff, 0x05, 0x00, 0x00, 0xc0, 0xff, /* inc dword [4 MiB below the end] */
};
static const uint8_t pf_handler[] = {
    0x5f,             /* pop edi: error code */
    0xe6, 0x80, 0xf4, /* out 80h, al; hlt */
};

static void leave(void *ctx, struct rv_exit *x) {
    (void)x;
    ((struct rv_cpu_bus *)ctx)->attention = true;
}

static uint64_t no_tsc(void *ctx) {
    (void)ctx;
    return 0;
}

static void put64(struct rv_ram *ram, uint32_t at, uint64_t v) {
    memcpy(ram->host + at, &v, sizeof v);
}

static void prepare(struct rv_ram *ram, struct rv_x86 *x) {
    put64(ram, GDT + 0x08, 0x00cf9b000000ffffull);
    put64(ram, GDT + 0x10, 0x00cf93000000ffffull);
    put64(ram, GDT + FAR_CS, 0x00cf9a000000ffffull); /* not accessed yet */
    put64(ram, IDT + 8 * RV_VEC_UD, 0x00008e0000080000ull | ON_UD);
    put64(ram, IDT + 8 * RV_VEC_DE, 0x00008e0000080000ull | ON_DE);
    put64(ram, IDT + 8 * RV_VEC_PF, 0x00008e0000080000ull | ON_PF);
    put64(ram, PAGES, 0x83); /* 4 MiB, one to one */
    memcpy(ram->host + CODE, code, sizeof code);
    memcpy(ram->host + ON_UD, ud_handler, sizeof ud_handler);
    memcpy(ram->host + ON_DE, de_handler, sizeof de_handler);
    memcpy(ram->host + ON_PF, pf_handler, sizeof pf_handler);
    memset(ram->host + FX, UNTOUCHED, 512);
    put64(ram, NUMBER, 0xc0400000u); /* -3.0: FXAM sets C1 */
    rv_x86_reset(x);
    /* With paging from the beginning: to switch it on leaves the hardware, and what follows would
     * be interpreted. */
    x->cr4 = RV_CR4_OSFXSR | RV_CR4_PSE;
    x->cr3 = PAGES;
    x->cr0 = RV_CR0_PE | RV_CR0_ET | RV_CR0_NE | RV_CR0_PG;
    x->gdt = (struct rv_dtr){.base = GDT, .limit = 0x1f};
    x->idt = (struct rv_dtr){.base = IDT, .limit = 0xff};
    for (unsigned n = RV_ES; n <= RV_GS; n++)
        x->seg[n] = (struct rv_seg){.limit = 0xffffffff, .sel = 0x10, .attr = 0xc093};
    x->seg[RV_CS] = (struct rv_seg){.limit = 0xffffffff, .sel = 0x08, .attr = 0xc09b};
    x->gpr[RV_RSP] = STACK;
    x->rip = CODE;
    x->rflags = 2;
}

/* SDM vol. 1, table 10-2. */
static uint64_t fxsave_quirks(const uint8_t *fx) {
    static const uint8_t untouched[6] = {UNTOUCHED, UNTOUCHED, UNTOUCHED,
                                         UNTOUCHED, UNTOUCHED, UNTOUCHED};
    static const uint8_t zero[4];
    uint64_t q = 0;
    if (memcmp(fx + 32 + 10, untouched, 6) == 0) q |= RV_QUIRK_FXSAVE_GAPS;
    if (memcmp(fx + 6, untouched, 2) == 0) q |= RV_QUIRK_FXSAVE_NO_FOP;
    if (memcmp(fx + 6, zero, 2) == 0) q |= RV_QUIRK_X87_NO_FOP;
    if (memcmp(fx + 8, zero, 4) == 0) q |= RV_QUIRK_X87_NO_FIP;
    if (memcmp(fx + 16, zero, 4) == 0) q |= RV_QUIRK_X87_NO_FDP;
    return q;
}

int rv_quirks_measure(const struct rv_engine_ops *engine, uint64_t follow, uint64_t *quirks,
                      struct rv_err *err) {
    *quirks = 0;
    struct rv_ram ram;
    int r = rv_ram_init(&ram, MEMORY, err);
    if (r) return r;
    struct rv_cpu_bus bus = {.exit = leave, .tsc = no_tsc, .quirks = follow};
    bus.ctx = &bus;
    struct rv_engine *e = NULL;
    r = engine->create(&e, &ram, &bus, &rv_profile_hw, err);
    if (!r) {
        struct rv_x86 x;
        prepare(&ram, &x);
        r = e->ops->set(e, &x, err);
        if (!r) r = e->ops->run(e, RV_NEVER, false, err);
        if (r > 0)
            r = r == RV_RUN_ATTENTION ? 0
                                      : rv_fail(err, RV_E_HOST,
                                                "engine %s runs a guest of a few instructions "
                                                "wrongly; use --engine interpret",
                                                engine->name);
        if (!r) {
            e->ops->get(e, &x);
            if (!(x.gpr[RV_RCX] & RV_FL_RF)) *quirks |= RV_QUIRK_NO_RF;
            if (!(x.gpr[RV_RSI] & RV_FL_RF)) *quirks |= RV_QUIRK_NO_RF_UD;
            if (!(ram.host[GDT + FAR_CS + 5] & 1)) *quirks |= RV_QUIRK_NOT_ACCESSED;
            *quirks |= fxsave_quirks(ram.host + FX);
            if (ram.host[FSW + 1] & FSW_C1_HIGH) *quirks |= RV_QUIRK_X87_KEEPS_C1;
            if (!(x.gpr[RV_RDI] & PF_WRITE)) *quirks |= RV_QUIRK_MODIFY_READS;
        }
        e->ops->destroy(e);
    }
    rv_ram_release(&ram);
    return r;
}
