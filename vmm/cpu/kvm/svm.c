/* The AMD half of the nested engine: the VMCB. AMD64 APM vol. 2: chapter 15 (SVM), appendix B (VMCB
 * layout), appendix C (exit codes). */
#include <string.h>

#include "vmm/cpu/kvm/nested.h"

#define EFER_SVME    (1ull << 12)
#define MSR_HSAVE_PA 0xc0010117u

/* Offsets in the VMCB: the control area, then the state save area from 0x400. */
enum {
    C_CR = 0x000, /* reads in the low half, writes in the high one */
    C_DR = 0x004,
    C_EXCEPTIONS = 0x008,
    C_MISC1 = 0x00c,
    C_MISC2 = 0x010,
    C_MISC3 = 0x014,
    C_IO_MAP = 0x040,
    C_MSR_MAP = 0x048,
    C_ASID = 0x058,
    C_TLB = 0x05c,
    C_VINTR = 0x060,
    C_SHADOW = 0x068,
    C_EXITCODE = 0x070,
    C_INFO1 = 0x078,
    C_INFO2 = 0x080,
    C_EXITINTINFO = 0x088,
    C_NP = 0x090,
    C_EVENTINJ = 0x0a8,
    C_NCR3 = 0x0b0,
    S_ES = 0x400,
    S_CS = 0x410,
    S_SS = 0x420,
    S_DS = 0x430,
    S_FS = 0x440,
    S_GS = 0x450,
    S_GDTR = 0x460,
    S_LDTR = 0x470,
    S_IDTR = 0x480,
    S_TR = 0x490,
    S_CPL = 0x4cb,
    S_EFER = 0x4d0,
    S_CR4 = 0x548,
    S_CR3 = 0x550,
    S_CR0 = 0x558,
    S_DR7 = 0x560,
    S_DR6 = 0x568,
    S_RFLAGS = 0x570,
    S_RIP = 0x578,
    S_RSP = 0x5d8,
    S_RAX = 0x5f8,
    S_STAR = 0x600,
    S_LSTAR = 0x608,
    S_CSTAR = 0x610,
    S_SFMASK = 0x618,
    S_KERNEL_GS_BASE = 0x620,
    S_SYSENTER_CS = 0x628,
    S_SYSENTER_ESP = 0x630,
    S_SYSENTER_EIP = 0x638,
    S_CR2 = 0x640,
    S_PAT = 0x668,
};

/* Intercepts. */
enum {
    M1_INTR = 1 << 0,
    M1_NMI = 1 << 1,
    M1_VINTR = 1 << 4,
    M1_RDTSC = 1 << 14,
    M1_RDPMC = 1 << 15,
    M1_CPUID = 1 << 18,
    M1_RSM = 1 << 19,
    M1_INVD = 1 << 22,
    M1_HLT = 1 << 24,
    M1_INVLPGA = 1 << 26,
    M1_IOIO = 1 << 27,
    M1_MSR = 1 << 28,
    M1_TASK = 1 << 29,
};
#define M1_SHUTDOWN (1u << 31)
/* VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, RDTSCP, ICEBP, WBINVD, MONITOR, MWAIT (both
 * forms), XSETBV: bits 0 to 13. ICEBP (8) is left to the hardware. */
#define M2_ALL (0x3fffu & ~(1u << 8))

/* INT1 raises #DB by itself; a double fault is looked at before it is delivered, because the
 * interpreter can then take it from the beginning. */
#define EXCEPTIONS (1u << RV_VEC_DF)

#define SEG_BUSY 2 /* of a TSS: the type's bit 1 */

#define V_IRQ          (1ull << 8)
#define V_IGN_TPR      (1ull << 20)
#define V_INTR_MASKING (1ull << 24)
#define V_PRIO         (15ull << 16)

static uint8_t *vmcb(struct rv_nested_vm *v) { return rv_l1(v, RV_L1_CONTROL); }
static void w16(struct rv_nested_vm *v, unsigned at, uint16_t x) { memcpy(vmcb(v) + at, &x, 2); }
static void w32(struct rv_nested_vm *v, unsigned at, uint32_t x) { memcpy(vmcb(v) + at, &x, 4); }
static void w64(struct rv_nested_vm *v, unsigned at, uint64_t x) { memcpy(vmcb(v) + at, &x, 8); }
static uint16_t r16(struct rv_nested_vm *v, unsigned at) {
    uint16_t x;
    memcpy(&x, vmcb(v) + at, 2);
    return x;
}
static uint32_t r32(struct rv_nested_vm *v, unsigned at) {
    uint32_t x;
    memcpy(&x, vmcb(v) + at, 4);
    return x;
}
static uint64_t r64(struct rv_nested_vm *v, unsigned at) {
    uint64_t x;
    memcpy(&x, vmcb(v) + at, 8);
    return x;
}

static bool svm_offered(const struct kvm_cpuid2 *supported) {
    for (unsigned i = 0; i < supported->nent; i++)
        if (supported->entries[i].function == 0x80000001u)
            return supported->entries[i].ecx >> 2 & 1;
    return false;
}

extern const uint8_t rv_svm_shim[], rv_svm_shim_end[];

static int svm_start(struct rv_nested_vm *v, struct rv_err *err) {
    int r =
        rv_nested_boot(v, rv_svm_shim, (size_t)(rv_svm_shim_end - rv_svm_shim), 0, EFER_SVME, err);
    if (!r) r = rv_nested_set_msr(v, MSR_HSAVE_PA, RV_L1_HOST, err);
    if (r) return r;
    rv_nested_map_ram(v, 0);
    memset(rv_l1(v, RV_L1_IO_MAP), 0xff, 0x3000);
    memset(rv_l1(v, RV_L1_MSR_MAP), 0xff, 0x2000);
    /* CR0, CR4 and CR8, read and written: what the guest may set is the profile's business. */
    w32(v, C_CR, 0x0111u << 16 | 0x0111u);
    w32(v, C_DR, 0xffffffffu);
    w32(v, C_EXCEPTIONS, EXCEPTIONS);
    w32(v, C_MISC1,
        M1_INTR | M1_NMI | M1_RDTSC | M1_RDPMC | M1_CPUID | M1_RSM | M1_INVD | M1_HLT | M1_INVLPGA |
            M1_IOIO | M1_MSR | M1_TASK | M1_SHUTDOWN);
    w32(v, C_MISC2, M2_ALL);
    w64(v, C_IO_MAP, RV_L1_IO_MAP);
    w64(v, C_MSR_MAP, RV_L1_MSR_MAP);
    w32(v, C_ASID, 1);
    w64(v, C_VINTR, V_INTR_MASKING);
    w64(v, C_NP, 1);
    w64(v, C_NCR3, RV_L1_NPT);
    return 0;
}

/* ---- state ---- */

static void put_segment(struct rv_nested_vm *v, unsigned at, const struct rv_seg *s) {
    w16(v, at, s->sel);
    w16(v, at + 2, (uint16_t)((s->attr & 0xff) | (s->attr >> 4 & 0xf00)));
    w32(v, at + 4, s->limit);
    w64(v, at + 8, s->base);
}

static void get_segment(struct rv_nested_vm *v, unsigned at, struct rv_seg *s) {
    uint16_t attr = r16(v, at + 2);
    s->sel = r16(v, at);
    s->attr = (uint16_t)((attr & 0xff) | (attr & 0xf00) << 4);
    s->limit = r32(v, at + 4);
    s->base = r64(v, at + 8);
}

static const uint16_t segments[RV_SREGS] = {
    [RV_ES] = S_ES, [RV_CS] = S_CS, [RV_SS] = S_SS,     [RV_DS] = S_DS,
    [RV_FS] = S_FS, [RV_GS] = S_GS, [RV_LDTR] = S_LDTR, [RV_TR] = S_TR,
};

/* What VMLOAD loads. */
static const uint16_t reloaded[][2] = {
    {S_FS, 16}, {S_GS, 16}, {S_LDTR, 16}, {S_TR, 16}, {S_STAR, 32}, {S_KERNEL_GS_BASE, 32},
};

static void svm_load(struct rv_nested_vm *v, const struct rv_x86 *x, bool flush) {
    uint8_t was[sizeof reloaded / sizeof reloaded[0]][32];
    for (unsigned n = 0; n < RV_COUNT(reloaded); n++)
        memcpy(was[n], vmcb(v) + reloaded[n][0], reloaded[n][1]);
    for (unsigned n = 0; n < RV_SREGS; n++) put_segment(v, segments[n], &x->seg[n]);
    /* Processors keep a task register without its busy bit, too, and QEMU's finds no permissions of
     * ports in a busy one. */
    struct rv_seg tr = x->seg[RV_TR];
    tr.attr &= (uint16_t)~SEG_BUSY;
    put_segment(v, S_TR, &tr);
    w32(v, S_GDTR + 4, x->gdt.limit);
    w64(v, S_GDTR + 8, x->gdt.base);
    w32(v, S_IDTR + 4, x->idt.limit);
    w64(v, S_IDTR + 8, x->idt.base);
    uint8_t cpl = !(x->cr0 & RV_CR0_PE)  ? 0
                  : x->rflags & RV_FL_VM ? 3
                                         : (uint8_t)RV_SEG_DPL(x->seg[RV_SS].attr);
    vmcb(v)[S_CPL] = cpl;
    w64(v, S_EFER, x->efer | EFER_SVME);
    /* Caches stay on whatever the guest thinks; it is shown its own bits when it looks. */
    w64(v, S_CR0, (x->cr0 & ~(RV_CR0_CD | RV_CR0_NW)) | RV_CR0_ET);
    w64(v, S_CR2, x->cr2);
    w64(v, S_CR3, x->cr3);
    w64(v, S_CR4, x->cr4);
    w64(v, S_DR6, x->dr6);
    w64(v, S_DR7, 0x400);
    w64(v, S_RFLAGS, x->rflags);
    w64(v, S_RIP, x->rip);
    w64(v, S_RSP, x->gpr[RV_RSP]);
    w64(v, S_RAX, x->gpr[RV_RAX]);
    w64(v, S_STAR, x->star);
    w64(v, S_LSTAR, x->lstar);
    w64(v, S_CSTAR, x->cstar);
    w64(v, S_SFMASK, x->sfmask);
    w64(v, S_KERNEL_GS_BASE, x->kernel_gs_base);
    w64(v, S_SYSENTER_CS, x->sysenter_cs);
    w64(v, S_SYSENTER_ESP, x->sysenter_esp);
    w64(v, S_SYSENTER_EIP, x->sysenter_eip);
    w64(v, S_PAT, x->pat);
    w64(v, C_SHADOW, x->sti_shadow || x->movss_shadow);
    w64(v, C_EVENTINJ, 0);
    vmcb(v)[C_TLB] = flush;
    memcpy(rv_l1(v, RV_COMM_GPR), x->gpr, sizeof x->gpr);
    memcpy(rv_l1(v, RV_COMM_FX), x->fx, sizeof x->fx);
    bool changed = false;
    for (unsigned n = 0; n < RV_COUNT(reloaded); n++)
        changed |= memcmp(was[n], vmcb(v) + reloaded[n][0], reloaded[n][1]) != 0;
    *(uint64_t *)rv_l1(v, RV_COMM_RELOAD) = changed;
}

static void svm_store(struct rv_nested_vm *v, struct rv_x86 *x) {
    memcpy(x->gpr, rv_l1(v, RV_COMM_GPR), sizeof x->gpr);
    rv_nested_store_fx(x, rv_l1(v, RV_COMM_FX));
    x->gpr[RV_RSP] = r64(v, S_RSP);
    x->gpr[RV_RAX] = r64(v, S_RAX);
    for (unsigned n = 0; n < RV_SREGS; n++) get_segment(v, segments[n], &x->seg[n]);
    /* A task register in use is busy, whatever the hidden part says. */
    if (x->seg[RV_TR].attr & RV_SEG_P) x->seg[RV_TR].attr |= SEG_BUSY;
    x->gdt.limit = (uint16_t)r32(v, S_GDTR + 4);
    x->gdt.base = r64(v, S_GDTR + 8);
    x->idt.limit = (uint16_t)r32(v, S_IDTR + 4);
    x->idt.base = r64(v, S_IDTR + 8);
    x->cr2 = r64(v, S_CR2);
    x->cr3 = r64(v, S_CR3);
    x->dr6 = r64(v, S_DR6);
    x->rflags = r64(v, S_RFLAGS);
    x->rip = r64(v, S_RIP);
    x->kernel_gs_base = r64(v, S_KERNEL_GS_BASE);
    /* Of which kind the shadow is does not show; what it holds off is the same but for debug traps,
     * and a guest with those runs in software. */
    x->sti_shadow = r64(v, C_SHADOW) & 1;
    x->movss_shadow = 0;
}

static void svm_window(struct rv_nested_vm *v, bool on) {
    uint32_t misc = r32(v, C_MISC1) & ~(uint32_t)M1_VINTR;
    w32(v, C_MISC1, misc | (on ? M1_VINTR : 0));
    /* A virtual interrupt that is never taken: its intercept comes first. */
    w64(v, C_VINTR, V_INTR_MASKING | (on ? V_IRQ | V_IGN_TPR | V_PRIO : 0));
}

/* ---- exits ---- */

enum {
    X_EXCEPTION = 0x40,
    X_INTR = 0x60,
    X_NMI = 0x61,
    X_VINTR = 0x64,
    X_SHUTDOWN = 0x7f,
    X_NPF = 0x400,
};

static int svm_exit(struct rv_nested_vm *v, uint64_t *why) {
    *why = r64(v, C_EXITCODE);
    switch (*why) {
    case X_INTR:
    case X_NMI: return RV_NESTED_KICKED;
    case X_VINTR: return RV_NESTED_WINDOW;
    case X_SHUTDOWN: return RV_NESTED_SHUTDOWN;
    case (uint64_t)-1: return RV_NESTED_REFUSED;
    default: return RV_NESTED_INSN;
    }
}

static const char *svm_exit_name(uint64_t why) {
    static const struct {
        uint16_t code;
        const char *name;
    } names[] = {
        {0x60, "interrupt"}, {0x61, "nmi"},    {0x64, "window"}, {0x6e, "rdtsc"},
        {0x6f, "rdpmc"},     {0x72, "cpuid"},  {0x76, "invd"},   {0x78, "hlt"},
        {0x7b, "port"},      {0x7c, "msr"},    {0x7d, "task"},   {0x7f, "shutdown"},
        {0x87, "rdtscp"},    {0x89, "wbinvd"}, {0x8d, "xsetbv"}, {0x400, "memory"},
        {0x48, "exception"},
    };
    for (unsigned n = 0; n < RV_COUNT(names); n++)
        if (names[n].code == why) return names[n].name;
    if (why < 0x20) return "control-register";
    if (why < 0x40) return "debug-register";
    return "other";
}

const struct rv_nested_ops rv_nested_svm = {
    .name = "svm",
    .offered = svm_offered,
    .start = svm_start,
    .load = svm_load,
    .store = svm_store,
    .window = svm_window,
    .exit = svm_exit,
    .exit_name = svm_exit_name,
};
