/* The Intel half of the nested engine: the VMCS. SDM vol. 3C: chapter 24 (VMCS), 25 (what leaves
 * the guest), 26 (entries and their checks), 27 (exits), appendix B (field encodings), C (exit
 * reasons).
 *
 * Fields are written by the shim with VMWRITE, only those that changed. They are read by user
 * space, all at once: KVM_GET_NESTED_STATE (KVM API 4.114) shows KVM's image of the VMCS, so an
 * exit costs no VMREAD for each field, most of which would leave the shim. Where in the image each
 * field lies is found out at the start, by writing patterns and looking for them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/kvm/nested.h"

#define HINT "use --engine interpret"

#define CR4_VMXE (1ull << 13)

#define MSR_FEATURE_CONTROL 0x3a
#define MSR_VMX_BASIC       0x480
#define MSR_VMX_PROCBASED2  0x48b
/* The controls whose "default 1" bits may be cleared. */
#define MSR_VMX_TRUE_PIN   0x48d
#define MSR_VMX_TRUE_PROC  0x48e
#define MSR_VMX_TRUE_EXIT  0x48f
#define MSR_VMX_TRUE_ENTRY 0x490

enum { /* pin-based controls */
       PIN_INTERRUPT = 1 << 0,
       PIN_NMI = 1 << 3,
};
enum { /* primary processor-based controls */
       PROC_WINDOW = 1 << 2,
       PROC_HLT = 1 << 7,
       PROC_MWAIT = 1 << 10,
       PROC_RDPMC = 1 << 11,
       PROC_RDTSC = 1 << 12,
       PROC_CR8_LOAD = 1 << 19,
       PROC_CR8_STORE = 1 << 20,
       PROC_MOV_DR = 1 << 23,
       PROC_IO = 1 << 24,
       PROC_MSR_MAP = 1 << 28,
       PROC_MONITOR = 1 << 29,
};
#define PROC_SECONDARY (1u << 31)
enum { /* secondary ones */
       PROC2_EPT = 1 << 1,
       PROC2_RDTSCP = 1 << 3,
       PROC2_WBINVD = 1 << 6,
       PROC2_UNRESTRICTED = 1 << 7,
       PROC2_RDRAND = 1 << 11,
       PROC2_INVPCID = 1 << 12,
       PROC2_RDSEED = 1 << 16,
};
enum {
    EXIT_HOST_64 = 1 << 9,
    EXIT_SAVE_EFER = 1 << 20,
    EXIT_LOAD_EFER = 1 << 21,
    ENTRY_GUEST_64 = 1 << 9,
    ENTRY_LOAD_EFER = 1 << 15,
};

/* Exceptions that come out: a double fault, which the interpreter then takes from the beginning,
 * and debug traps, which it delivers. */
#define EXCEPTIONS (1u << RV_VEC_DF | 1u << RV_VEC_DB)

/* Memory type of leaf entries (28.3.2). */
#define EPT_WRITE_BACK (6u << 3)

/* ---- fields ---- */

/* The fields that are read or written again and again. Those of a segment register lie two apart,
 * in the order of enum rv_sreg. */
enum field {
    F_SEL,
    F_LIMIT = F_SEL + RV_SREGS,
    F_ATTR = F_LIMIT + RV_SREGS,
    F_BASE = F_ATTR + RV_SREGS,
    F_GDT_LIMIT = F_BASE + RV_SREGS,
    F_IDT_LIMIT,
    F_GDT_BASE,
    F_IDT_BASE,
    F_CR0,
    F_CR3,
    F_CR4,
    F_CR0_SHOWN,
    F_CR4_SHOWN,
    F_DR7,
    F_RSP,
    F_RIP,
    F_RFLAGS,
    F_EFER,
    F_SYSENTER_CS,
    F_SYSENTER_ESP,
    F_SYSENTER_EIP,
    F_BLOCKING,
    F_PENDING,
    F_PDPTE,
    F_ENTRY = F_PDPTE + 4,
    F_PROC,
    FIELDS
};

static uint32_t encoding(unsigned f) {
    static const uint32_t segments[] = {0x800, 0x4800, 0x4814, 0x6806};
    static const uint32_t others[] = {
        [F_GDT_LIMIT] = 0x4810,    [F_IDT_LIMIT] = 0x4812,    [F_GDT_BASE] = 0x6816,
        [F_IDT_BASE] = 0x6818,     [F_CR0] = 0x6800,          [F_CR3] = 0x6802,
        [F_CR4] = 0x6804,          [F_CR0_SHOWN] = 0x6004,    [F_CR4_SHOWN] = 0x6006,
        [F_DR7] = 0x681a,          [F_RSP] = 0x681c,          [F_RIP] = 0x681e,
        [F_RFLAGS] = 0x6820,       [F_EFER] = 0x2806,         [F_SYSENTER_CS] = 0x482a,
        [F_SYSENTER_ESP] = 0x6824, [F_SYSENTER_EIP] = 0x6826, [F_BLOCKING] = 0x4824,
        [F_PENDING] = 0x6822,      [F_PDPTE] = 0x280a,        [F_PDPTE + 1] = 0x280c,
        [F_PDPTE + 2] = 0x280e,    [F_PDPTE + 3] = 0x2810,    [F_ENTRY] = 0x4012,
        [F_PROC] = 0x4002,
    };
    if (f < F_GDT_LIMIT) return segments[f / RV_SREGS] + 2 * (f % RV_SREGS);
    return others[f];
}

/* Bytes of a field: bits 13 and 14 of its encoding are 16 bits, 64, 32, natural. */
static unsigned width(unsigned f) {
    static const uint8_t bytes[] = {2, 8, 4, 8};
    return bytes[encoding(f) >> 13 & 3];
}

#define STATE_SIZE (sizeof(struct kvm_nested_state) + sizeof(struct kvm_vmx_nested_state_data))

struct rv_vmx {
    uint64_t value[FIELDS]; /* as the VMCS has them */
    uint16_t where[FIELDS]; /* in KVM's image */
    unsigned listed;        /* fields to be written, in the shared page */
    uint8_t slot[FIELDS];   /* where a field is listed, from 1; 0: it is not */
    uint32_t proc, entry;   /* controls without the bits that change */
    uint64_t syscall[4];    /* STAR, LSTAR, CSTAR, SFMASK as the processor has them */
    _Alignas(8) uint8_t state[STATE_SIZE]; /* what KVM_GET_NESTED_STATE gives */
};

static struct rv_vmx *of(struct rv_nested_vm *v) { return v->vendor; }

static void list(struct rv_nested_vm *v, uint32_t field, uint64_t value) {
    uint64_t *at = (uint64_t *)rv_l1(v, RV_COMM_LIST) + 2 * of(v)->listed++;
    rv_assert(of(v)->listed <= RV_COMM_LIST_MAX);
    at[0] = field;
    at[1] = value;
    at[2] = UINT64_MAX;
}

static void put(struct rv_nested_vm *v, unsigned f, uint64_t value) {
    struct rv_vmx *m = of(v);
    if (m->value[f] == value) return;
    m->value[f] = value;
    if (m->slot[f]) {
        ((uint64_t *)rv_l1(v, RV_COMM_LIST))[2 * (m->slot[f] - 1) + 1] = value;
        return;
    }
    list(v, encoding(f), value);
    m->slot[f] = (uint8_t)m->listed;
}

static void empty_list(struct rv_nested_vm *v) {
    of(v)->listed = 0;
    memset(of(v)->slot, 0, sizeof of(v)->slot);
    *(uint64_t *)rv_l1(v, RV_COMM_LIST) = UINT64_MAX;
}

static uint64_t comm(struct rv_nested_vm *v, uint64_t at) { return *(uint64_t *)rv_l1(v, at); }
static void set_comm(struct rv_nested_vm *v, uint64_t at, uint64_t x) {
    *(uint64_t *)rv_l1(v, at) = x;
}

/* KVM's image of the VMCS; NULL when it shows none. */
static const uint8_t *image(struct rv_nested_vm *v) {
    struct kvm_nested_state *s = (struct kvm_nested_state *)of(v)->state;
    s->flags = 0;
    s->size = STATE_SIZE;
    if (ioctl(v->cpu, KVM_GET_NESTED_STATE, s) ||
        s->size < sizeof *s + sizeof s->data.vmx[0].vmcs12)
        return NULL;
    return s->data.vmx[0].vmcs12;
}

static uint64_t field_at(const uint8_t *at, unsigned f) {
    uint64_t value = 0;
    memcpy(&value, at, width(f));
    return value;
}

/* ---- finding the fields in the image ---- */

static uint64_t pattern(unsigned round, unsigned f) {
    uint64_t x = (f + 1 + 64 * (uint64_t)round) * 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    /* As some processors do, KVM drops the reserved bits of segment attributes. */
    if (f >= F_ATTR && f < F_BASE) x &= 0x1f0ff;
    return width(f) == 8 ? x : x & ((1ull << 8 * width(f)) - 1);
}

/* Has the shim write what is listed, and no more. */
static int write_fields(struct rv_nested_vm *v, struct rv_err *err) {
    set_comm(v, RV_COMM_ENTER, 0);
    int r;
    do r = rv_nested_run(v, err);
    while (r == 1);
    if (r) return r;
    empty_list(v);
    if (comm(v, RV_COMM_STATUS) == RV_VMX_DONE) return 0;
    return rv_fail(err, RV_E_UNSUPPORTED,
                   "this host's KVM refuses its guest VMX (step %llu); " HINT,
                   (unsigned long long)comm(v, RV_COMM_STATUS));
}

static int find_fields(struct rv_nested_vm *v, struct rv_err *err) {
    enum { ROUNDS = 2, SIZE = KVM_STATE_NESTED_VMX_VMCS_SIZE };
    struct rv_vmx *m = of(v);
    uint8_t *seen = rv_alloc(ROUNDS * SIZE);
    int r = 0;
    for (unsigned round = 0; !r && round < ROUNDS; round++) {
        for (unsigned f = 0; f < FIELDS; f++) list(v, encoding(f), pattern(round, f));
        r = write_fields(v, err);
        const uint8_t *now = r ? NULL : image(v);
        if (now)
            memcpy(seen + round * SIZE, now, SIZE);
        else if (!r)
            r = rv_fail(err, RV_E_UNSUPPORTED, "this host's KVM does not show a VMCS; " HINT);
    }
    for (unsigned f = 0; !r && f < FIELDS; f++) {
        unsigned found = 0;
        for (unsigned at = 0; at + width(f) <= SIZE; at += width(f) < 4 ? 2 : 4) {
            unsigned round = 0;
            while (round < ROUNDS && field_at(seen + round * SIZE + at, f) == pattern(round, f))
                round++;
            if (round < ROUNDS) continue;
            m->where[f] = (uint16_t)at;
            found++;
        }
        m->value[f] = pattern(ROUNDS - 1, f);
        if (found != 1)
            r = rv_fail(err, RV_E_UNSUPPORTED,
                        "field 0x%x cannot be found in this host's KVM's VMCS; " HINT, encoding(f));
    }
    free(seen);
    return r;
}

/* ---- starting ---- */

static bool vmx_offered(const struct kvm_cpuid2 *supported) {
    for (unsigned i = 0; i < supported->nent; i++)
        if (supported->entries[i].function == 1) return supported->entries[i].ecx >> 5 & 1;
    return false;
}

/* The controls asked for, with those that must be set; fails when a needed one is not offered. */
static int controls(struct rv_nested_vm *v, uint32_t msr, uint32_t needed, uint32_t wanted,
                    uint32_t *out, struct rv_err *err) {
    uint64_t offer;
    int r = rv_nested_msr(v, msr, &offer, err);
    if (r) return r;
    uint32_t must = (uint32_t)offer, may = (uint32_t)(offer >> 32);
    if (needed & ~may)
        return rv_fail(
            err, RV_E_UNSUPPORTED,
            "this host's KVM does not offer its guests VMX controls 0x%x of MSR 0x%x; " HINT,
            needed & ~may, msr);
    *out = ((needed | wanted) & may) | must;
    return 0;
}

/* What is entered and left once and for all. */
static int set_constants(struct rv_nested_vm *v, uint64_t host_rip, struct rv_err *err) {
    struct rv_vmx *m = of(v);
    uint32_t pin = 0, proc2 = 0, leave = 0;
    int r = controls(v, MSR_VMX_TRUE_PIN, PIN_INTERRUPT | PIN_NMI, 0, &pin, err);
    if (!r)
        r = controls(v, MSR_VMX_TRUE_PROC,
                     PROC_HLT | PROC_RDTSC | PROC_CR8_LOAD | PROC_CR8_STORE | PROC_MOV_DR |
                         PROC_IO | PROC_MSR_MAP | PROC_SECONDARY,
                     PROC_MWAIT | PROC_RDPMC | PROC_MONITOR, &m->proc, err);
    if (!r)
        r = controls(v, MSR_VMX_PROCBASED2, PROC2_EPT | PROC2_UNRESTRICTED | PROC2_WBINVD,
                     PROC2_RDTSCP | PROC2_RDRAND | PROC2_RDSEED | PROC2_INVPCID, &proc2, err);
    if (!r)
        r = controls(v, MSR_VMX_TRUE_EXIT, EXIT_HOST_64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER, 0,
                     &leave, err);
    if (!r) r = controls(v, MSR_VMX_TRUE_ENTRY, ENTRY_LOAD_EFER, 0, &m->entry, err);
    if (r) return r;
    const struct {
        uint32_t field;
        uint64_t value;
    } fields[] = {
        {0x4000, pin},
        {0x401e, proc2},
        {0x400c, leave},
        {0x4004, EXCEPTIONS},
        {0x4006, 0}, /* page faults: as the bitmap says */
        {0x4008, 0},
        {0x400a, 0}, /* no CR3 targets, no MSRs to be switched, no event */
        {0x400e, 0},
        {0x4010, 0},
        {0x4014, 0},
        {0x4016, 0},
        {0x2004, RV_L1_MSR_MAP},
        {0x201a, RV_L1_NPT | 3 << 3 | 6}, /* EPT: four levels, write-back */
        {0x2800, UINT64_MAX},             /* no shadow VMCS */
        {0x2802, 0},
        {0x6000, UINT64_MAX}, /* every change of CR0 and CR4 comes out */
        {0x6002, UINT64_MAX},
        {0x4826, 0}, /* active */
        /* The shim, as it is when the guest comes out. */
        {0x6c00, RV_CR0_PE | RV_CR0_MP | RV_CR0_ET | RV_CR0_NE | RV_CR0_WP | RV_CR0_PG},
        {0x6c02, RV_L1_PML4},
        {0x6c04, RV_CR4_PAE | RV_CR4_OSFXSR | RV_CR4_OSXMMEXCPT | CR4_VMXE},
        {0x2c02, RV_EFER_LME | RV_EFER_LMA},
        {0x6c14, RV_L1_STACK},
        {0x6c16, host_rip},
        {0x0c00, 16},
        {0x0c02, 8},
        {0x0c04, 16},
        {0x0c06, 16},
        {0x0c08, 16},
        {0x0c0a, 16},
        {0x0c0c, 24},
        {0x6c06, 0},
        {0x6c08, 0},
        {0x6c0a, 0},
        {0x6c0c, 0},
        {0x6c0e, 0},
        {0x4c00, 0},
        {0x6c10, 0},
        {0x6c12, 0},
    };
    for (size_t n = 0; n < RV_COUNT(fields); n++) list(v, fields[n].field, fields[n].value);
    return write_fields(v, err);
}

/* An NMI is what makes the guest come out: held off while the shim runs, taken at the entry. */
static int hold_nmis(struct rv_nested_vm *v, struct rv_err *err) {
    struct kvm_vcpu_events e;
    if (!ioctl(v->cpu, KVM_GET_VCPU_EVENTS, &e)) {
        e.nmi.masked = 1;
        e.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
        if (!ioctl(v->cpu, KVM_SET_VCPU_EVENTS, &e)) return 0;
    }
    return rv_fail_errno(err, RV_E_HOST, "KVM does not take pending events; " HINT);
}

extern const uint8_t rv_vmx_shim[], rv_vmx_shim_out[], rv_vmx_shim_end[];

/* MSRs that the guest reads and writes by itself: those that swap or load segments anyway. */
static void pass_msrs(struct rv_nested_vm *v) {
    uint8_t *map = rv_l1(v, RV_L1_MSR_MAP);
    memset(map, 0xff, RV_PAGE_SIZE);
    /* FS_BASE, GS_BASE, KERNEL_GS_BASE: 0xc0000100 to 102; reads of the high range, then writes. */
    map[0x400 + 0x100 / 8] &= (uint8_t)~7;
    map[0xc00 + 0x100 / 8] &= (uint8_t)~7;
}

static int vmx_start(struct rv_nested_vm *v, struct rv_err *err) {
    struct rv_vmx *m = v->vendor = rv_alloc(sizeof *m);
    rv_nested_map_ram(v, EPT_WRITE_BACK);
    empty_list(v);
    /* Locked, VMX outside SMX: as a BIOS leaves it. */
    int r = rv_nested_set_msr(v, MSR_FEATURE_CONTROL, 5, err);
    if (!r)
        r = rv_nested_boot(v, rv_vmx_shim, (size_t)(rv_vmx_shim_end - rv_vmx_shim), CR4_VMXE, 0,
                           err);
    uint64_t basic = 0;
    if (!r) r = rv_nested_msr(v, MSR_VMX_BASIC, &basic, err);
    if (r) return r;
    if (!(basic >> 55 & 1))
        return rv_fail(err, RV_E_UNSUPPORTED, "this host's VMX is too old; " HINT);
    /* Both regions begin with the revision. */
    *(uint32_t *)rv_l1(v, RV_L1_HOST) = *(uint32_t *)rv_l1(v, RV_L1_CONTROL) =
        (uint32_t)basic & 0x7fffffffu;
    set_comm(v, RV_COMM_VMXON, RV_L1_HOST);
    set_comm(v, RV_COMM_VMCS, RV_L1_CONTROL);
    pass_msrs(v);
    r = write_fields(v, err); /* nothing yet: VMXON, and the VMCS is made current */
    if (!r) r = find_fields(v, err);
    if (!r) r = set_constants(v, RV_L1_CODE + (uint64_t)(rv_vmx_shim_out - rv_vmx_shim), err);
    if (!r) r = hold_nmis(v, err);
    if (r) return r;
    memset(m->syscall, 0xff, sizeof m->syscall);
    put(v, F_PROC, m->proc);
    return 0;
}

/* ---- state ---- */

#define UNUSABLE (1u << 16)

/* Bits 8 to 11 of attr are 0, as they have to be. The granularity must fit the limit (26.3.1.2). */
static void put_segment(struct rv_nested_vm *v, unsigned n, const struct rv_seg *s) {
    uint32_t attr = s->attr;
    if (s->limit > 0xfffff) attr |= RV_SEG_G;
    if ((s->limit & 0xfff) != 0xfff) attr &= ~(uint32_t)RV_SEG_G;
    put(v, F_SEL + n, s->sel);
    put(v, F_LIMIT + n, s->limit);
    put(v, F_ATTR + n, attr & RV_SEG_P ? attr : attr | UNUSABLE);
    put(v, F_BASE + n, s->base);
}

/* With PAE paging the processor holds the four entries at CR3; software engines read them where
 * they lie. */
static void put_pdptes(struct rv_nested_vm *v, const struct rv_x86 *x) {
    uint64_t pdpte[4] = {0};
    if ((x->cr0 & RV_CR0_PG) && (x->cr4 & RV_CR4_PAE) && !(x->efer & RV_EFER_LMA))
        (void)rv_ram_read(v->ram, x->cr3 & 0xffffffe0u, pdpte, sizeof pdpte);
    for (unsigned n = 0; n < 4; n++) put(v, F_PDPTE + n, pdpte[n]);
}

/* KVM keeps these for L1 and the guest together; the guest's writes come out. */
static void put_syscall_msrs(struct rv_nested_vm *v, const struct rv_x86 *x) {
    const uint64_t want[4] = {x->star, x->lstar, x->cstar, x->sfmask};
    for (unsigned n = 0; n < 4; n++) {
        if (of(v)->syscall[n] == want[n]) continue;
        struct rv_err err;
        if (!rv_nested_set_msr(v, 0xc0000081u + n, want[n], &err)) of(v)->syscall[n] = want[n];
    }
}

static void vmx_load(struct rv_nested_vm *v, const struct rv_x86 *x, bool flush) {
    (void)flush; /* without VPIDs, every entry drops all translations */
    for (unsigned n = 0; n < RV_SREGS; n++) put_segment(v, n, &x->seg[n]);
    put(v, F_GDT_LIMIT, x->gdt.limit);
    put(v, F_IDT_LIMIT, x->idt.limit);
    put(v, F_GDT_BASE, x->gdt.base);
    put(v, F_IDT_BASE, x->idt.base);
    /* Caches stay on whatever the guest thinks; it is shown its own bits. */
    put(v, F_CR0, (x->cr0 & ~(RV_CR0_CD | RV_CR0_NW)) | RV_CR0_ET | RV_CR0_NE);
    put(v, F_CR0_SHOWN, x->cr0);
    put(v, F_CR3, x->cr3);
    put(v, F_CR4, x->cr4 | CR4_VMXE);
    put(v, F_CR4_SHOWN, x->cr4);
    put_pdptes(v, x);
    put(v, F_EFER, x->efer);
    put(v, F_ENTRY, of(v)->entry | (x->efer & RV_EFER_LMA ? ENTRY_GUEST_64 : 0));
    put(v, F_DR7, 0x400);
    put(v, F_RSP, x->gpr[RV_RSP]);
    put(v, F_RIP, x->rip);
    put(v, F_RFLAGS, x->rflags);
    put(v, F_SYSENTER_CS, x->sysenter_cs);
    put(v, F_SYSENTER_ESP, x->sysenter_esp);
    put(v, F_SYSENTER_EIP, x->sysenter_eip);
    /* NMIs are delivered in software, and so are their handlers run up to IRET: none is ever
     * blocked here. */
    put(v, F_BLOCKING, (x->sti_shadow ? 1u : 0) | (x->movss_shadow ? 2u : 0));
    /* A debug trap that came out may still be noted here, and would be taken again. */
    put(v, F_PENDING, 0);
    put_syscall_msrs(v, x);
    set_comm(v, RV_COMM_CR2, x->cr2);
    set_comm(v, RV_COMM_KERNEL_GS, x->kernel_gs_base);
    memcpy(rv_l1(v, RV_COMM_GPR), x->gpr, sizeof x->gpr);
    memcpy(rv_l1(v, RV_COMM_FX), x->fx, sizeof x->fx);
    set_comm(v, RV_COMM_ENTER, 1);
}

static void get_segment(const uint64_t *value, unsigned n, struct rv_seg *s) {
    uint32_t attr = (uint32_t)value[F_ATTR + n];
    s->sel = (uint16_t)value[F_SEL + n];
    s->attr = (uint16_t)(attr & UNUSABLE ? attr & ~(uint32_t)RV_SEG_P : attr);
    s->limit = (uint32_t)value[F_LIMIT + n];
    s->base = value[F_BASE + n];
}

enum { /* basic exit reasons */
       X_EXCEPTION = 0,
       X_INTERRUPT = 1,
       X_TRIPLE_FAULT = 2,
       X_WINDOW = 7,
};
#define EVENT_VECTOR(e) ((e)&0xff)
#define EVENT_TYPE(e)   ((e) >> 8 & 7)
#define TYPE_NMI        2
#define TYPE_HARDWARE   3

static void vmx_store(struct rv_nested_vm *v, struct rv_x86 *x) {
    struct rv_vmx *m = of(v);
    const uint8_t *now = image(v);
    rv_assert(now); /* it was shown at the start */
    for (unsigned f = 0; f < FIELDS; f++) m->value[f] = field_at(now + m->where[f], f);
    memcpy(x->gpr, rv_l1(v, RV_COMM_GPR), sizeof x->gpr);
    rv_nested_store_fx(x, rv_l1(v, RV_COMM_FX));
    uint16_t code = x->seg[RV_CS].attr;
    for (unsigned n = 0; n < RV_SREGS; n++) get_segment(m->value, n, &x->seg[n]);
    /* In real mode no load changes what CS is; some emulated processors make it a data segment. */
    if (!(x->cr0 & RV_CR0_PE)) x->seg[RV_CS].attr = code;
    x->gdt = (struct rv_dtr){m->value[F_GDT_BASE], (uint16_t)m->value[F_GDT_LIMIT]};
    x->idt = (struct rv_dtr){m->value[F_IDT_BASE], (uint16_t)m->value[F_IDT_LIMIT]};
    x->cr2 = comm(v, RV_COMM_CR2);
    x->cr3 = m->value[F_CR3];
    x->kernel_gs_base = comm(v, RV_COMM_KERNEL_GS);
    x->gpr[RV_RSP] = m->value[F_RSP];
    x->rip = m->value[F_RIP];
    x->rflags = m->value[F_RFLAGS];
    x->sti_shadow = m->value[F_BLOCKING] & 1;
    x->movss_shadow = m->value[F_BLOCKING] >> 1 & 1;
    uint64_t event = comm(v, RV_COMM_EVENT);
    if (comm(v, RV_COMM_REASON) == X_EXCEPTION && EVENT_VECTOR(event) == RV_VEC_DB &&
        EVENT_TYPE(event) == TYPE_HARDWARE) {
        /* A single step that the guest asked for is over; the trap has not been taken. */
        x->pending_db = 1;
        x->pending_dr6 |= comm(v, RV_COMM_QUALIFICATION) & 0x600f;
    }
}

static void vmx_window(struct rv_nested_vm *v, bool on) {
    put(v, F_PROC, of(v)->proc | (on ? PROC_WINDOW : 0));
}

/* ---- exits ---- */

/* A failed entry: the reasons are beyond those of exits. */
#define REFUSED_AT_ENTRY (1u << 31)
#define REFUSED_AT_ONCE  (1u << 30)

static int vmx_exit(struct rv_nested_vm *v, uint64_t *why) {
    empty_list(v); /* the shim has written them */
    *why = (uint32_t)comm(v, RV_COMM_REASON);
    if (comm(v, RV_COMM_STATUS) != RV_VMX_OUT) {
        *why |= REFUSED_AT_ONCE;
        return RV_NESTED_REFUSED;
    }
    if (*why & REFUSED_AT_ENTRY) return RV_NESTED_REFUSED;
    switch (*why) {
    case X_EXCEPTION:
        return EVENT_TYPE(comm(v, RV_COMM_EVENT)) == TYPE_NMI ? RV_NESTED_KICKED : RV_NESTED_INSN;
    case X_INTERRUPT: return RV_NESTED_KICKED;
    case X_TRIPLE_FAULT: return RV_NESTED_SHUTDOWN;
    case X_WINDOW: return RV_NESTED_WINDOW;
    default: return RV_NESTED_INSN;
    }
}

static const char *vmx_exit_name(uint64_t why) {
    static const char *const names[] = {
        [0] = "exception",
        [1] = "interrupt",
        [2] = "shutdown",
        [7] = "window",
        [9] = "task",
        [10] = "cpuid",
        [12] = "hlt",
        [13] = "invd",
        [15] = "rdpmc",
        [16] = "rdtsc",
        [18] = "vmcall",
        [28] = "control-register",
        [29] = "debug-register",
        [30] = "port",
        [31] = "msr",
        [32] = "msr",
        [36] = "mwait",
        [39] = "monitor",
        [48] = "memory",
        [49] = "memory",
        [51] = "rdtscp",
        [54] = "wbinvd",
        [55] = "xsetbv",
        [57] = "rdrand",
        [61] = "rdseed",
    };
    if (why & (REFUSED_AT_ENTRY | REFUSED_AT_ONCE)) return "refused";
    return why < RV_COUNT(names) && names[why] ? names[why] : "other";
}

const struct rv_nested_ops rv_nested_vmx = {
    .name = "vmx",
    .offered = vmx_offered,
    .start = vmx_start,
    .load = vmx_load,
    .store = vmx_store,
    .window = vmx_window,
    .exit = vmx_exit,
    .exit_name = vmx_exit_name,
};
