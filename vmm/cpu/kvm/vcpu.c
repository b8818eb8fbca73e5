/* One VM with one virtual CPU, driven instruction by instruction through the KVM API
 * (Documentation/virt/kvm/api.rst; section numbers below are its). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/kvm/kvm.h"

#define HINT "use --engine interpret"

/* Where KVM may keep three pages of its own for real mode on Intel processors without "unrestricted
 * guest" (4.35, KVM_SET_TSS_ADDR) and an identity map (4.41): between 3 and 4 GiB there is no RAM,
 * and accesses there never run on KVM. */
#define PRIVATE_TSS      0xfffbd000ull
#define PRIVATE_IDENTITY 0xfffbc000ull

int rv_kvm_open(int *fd, struct rv_err *err) {
    *fd = -1;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) {
        if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
            return rv_fail_errno(err, RV_E_UNSUPPORTED, "this host offers no /dev/kvm; " HINT);
        return rv_fail_errno(err, RV_E_HOST,
                             "cannot open /dev/kvm (is the user in group kvm?); " HINT);
    }
    int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        close(kvm);
        if (version < 0) return rv_fail(err, RV_E_UNSUPPORTED, "/dev/kvm is no KVM device; " HINT);
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "/dev/kvm speaks version %d of its API, not %d; " HINT, version,
                       KVM_API_VERSION);
    }
    *fd = kvm;
    return 0;
}

static int check_needs(int kvm, struct rv_err *err) {
    static const struct {
        int cap, bits; /* bits: what the answer must hold */
        const char *name;
    } needs[] = {
        {KVM_CAP_USER_MEMORY, 1, "user memory slots (KVM_CAP_USER_MEMORY)"},
        {KVM_CAP_EXT_CPUID, 1, "KVM_CAP_EXT_CPUID"},
        {KVM_CAP_SET_GUEST_DEBUG, 1, "single stepping (KVM_CAP_SET_GUEST_DEBUG)"},
        {KVM_CAP_IMMEDIATE_EXIT, 1, "KVM_CAP_IMMEDIATE_EXIT"},
        {KVM_CAP_SYNC_REGS, KVM_SYNC_X86_REGS, "KVM_CAP_SYNC_REGS"},
    };
    for (size_t i = 0; i < RV_COUNT(needs); i++) {
        int has = ioctl(kvm, KVM_CHECK_EXTENSION, needs[i].cap);
        if (has < 0 || (has & needs[i].bits) != needs[i].bits)
            return rv_fail(err, RV_E_UNSUPPORTED, "this host's KVM lacks %s; " HINT, needs[i].name);
    }
    return 0;
}

int rv_kvm_add_slot(int vm, unsigned slot, uint64_t at, uint8_t *host, uint64_t size,
                    unsigned flags, struct rv_err *err) {
    if (!size) return 0;
    struct kvm_userspace_memory_region m = {.slot = slot,
                                            .flags = flags,
                                            .guest_phys_addr = at,
                                            .memory_size = size,
                                            .userspace_addr = (uintptr_t)host};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &m))
        return rv_fail_errno(err, RV_E_HOST, "KVM refuses %llu MiB of guest memory; " HINT,
                             (unsigned long long)(size >> 20));
    return 0;
}

int rv_kvm_new_cpu(int kvm, int vm, int *cpu, struct kvm_run **run, size_t *run_size,
                   struct rv_err *err) {
    *cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (*cpu < 0) return rv_fail_errno(err, RV_E_HOST, "KVM cannot create a CPU; " HINT);
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof **run)
        return rv_fail_errno(err, RV_E_HOST, "KVM shows no run area; " HINT);
    void *p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, *cpu, 0);
    if (p == MAP_FAILED) return rv_fail_errno(err, RV_E_HOST, "cannot map KVM's run area");
    *run = p;
    *run_size = (size_t)size;
    return 0;
}

/* The profile as KVM's table: KVM derives from it what the paging bits it is given may be. The
 * guest itself is answered by the interpreter. */
static int set_cpuid(struct rv_kvm_vcpu *v, const struct rv_profile *profile, struct rv_err *err) {
    enum { MAX = 64 };
    struct kvm_cpuid2 *t = rv_alloc(sizeof *t + MAX * sizeof t->entries[0]);
    struct rv_x86 x;
    rv_x86_reset(&x);
    x.efer = RV_EFER_LMA;
    x.seg[RV_CS].attr |= RV_SEG_L; /* what 64-bit code is shown: every feature */
    static const uint32_t bases[] = {0, 0x80000000u};
    for (size_t b = 0; b < RV_COUNT(bases); b++) {
        uint32_t last = profile->cpuid(profile, bases[b], 0, &x).eax;
        for (uint32_t leaf = bases[b]; leaf <= last; leaf++) {
            bool indexed = leaf == 4 || leaf == 7 || leaf == 0xd;
            for (uint32_t sub = 0; sub < (leaf == 4 ? 4 : 1); sub++) {
                rv_assert(t->nent < MAX);
                struct rv_cpuid c = profile->cpuid(profile, leaf, sub, &x);
                t->entries[t->nent++] = (struct kvm_cpuid_entry2){
                    .function = leaf,
                    .index = sub,
                    .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                    .eax = c.eax,
                    .ebx = c.ebx,
                    .ecx = c.ecx,
                    .edx = c.edx};
            }
        }
    }
    int r = ioctl(v->cpu, KVM_SET_CPUID2, t);
    if (r) r = rv_fail_errno(err, RV_E_HOST, "KVM refuses the CPU profile; " HINT);
    free(t);
    return r;
}

int rv_kvm_vcpu_init(struct rv_kvm_vcpu *v, struct rv_ram *ram, const struct rv_profile *profile,
                     struct rv_err *err) {
    *v = (struct rv_kvm_vcpu){
        .kvm = -1, .vm = -1, .cpu = -1, .regs_stale = true, .sregs_stale = true, .flush = true};
    int r = rv_kvm_open(&v->kvm, err);
    if (!r) r = check_needs(v->kvm, err);
    if (r) return r;
    v->vm = ioctl(v->kvm, KVM_CREATE_VM, 0);
    if (v->vm < 0) return rv_fail_errno(err, RV_E_HOST, "KVM cannot create a VM; " HINT);
    /* Needed on some Intel processors only; elsewhere a refusal means nothing. */
    (void)ioctl(v->vm, KVM_SET_TSS_ADDR, PRIVATE_TSS);
    uint64_t identity = PRIVATE_IDENTITY;
    (void)ioctl(v->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    uint64_t low = rv_ram_low_size(ram);
    r = rv_kvm_add_slot(v->vm, 0, 0, ram->host, low, 0, err);
    if (!r)
        r = rv_kvm_add_slot(v->vm, 1, RV_RAM_HIGH_BASE, ram->host + low, rv_ram_high_size(ram), 0,
                            err);
    if (!r) r = rv_kvm_new_cpu(v->kvm, v->vm, &v->cpu, &v->run, &v->run_size, err);
    if (r) return r;
    v->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    r = set_cpuid(v, profile, err);
    if (r) return r;
    if (ioctl(v->cpu, KVM_GET_SREGS, &v->initial))
        return rv_fail_errno(err, RV_E_HOST, "KVM does not show its CPU's state");
    return 0;
}

void rv_kvm_vcpu_release(struct rv_kvm_vcpu *v) {
    if (v->run) munmap(v->run, v->run_size);
    if (v->cpu >= 0) close(v->cpu);
    if (v->vm >= 0) close(v->vm);
    if (v->kvm >= 0) close(v->kvm);
    *v = (struct rv_kvm_vcpu){.kvm = -1, .vm = -1, .cpu = -1};
}

/* ---- state ---- */

static struct kvm_segment segment(const struct rv_seg *s) {
    return (struct kvm_segment){.base = s->base,
                                .limit = s->limit,
                                .selector = s->sel,
                                .type = s->attr & RV_SEG_TYPE,
                                .s = !!(s->attr & RV_SEG_S),
                                .dpl = RV_SEG_DPL(s->attr),
                                .present = !!(s->attr & RV_SEG_P),
                                .avl = s->attr >> 12 & 1,
                                .l = !!(s->attr & RV_SEG_L),
                                .db = !!(s->attr & RV_SEG_DB),
                                .g = !!(s->attr & RV_SEG_G),
                                .unusable = !(s->attr & RV_SEG_P)};
}

/* Only what plain instructions depend on. Left out on purpose, so that this works on the poorest
 * KVM: PCIDs (CR3's low bits are masked), SMEP, SMAP and UMIP (is_plain has checked the access), TS
 * and EM (no plain instruction touches the FPU), AM, CD and NW, SYSCALL, the descriptor tables. */
static void fill_sregs(const struct rv_kvm_vcpu *v, const struct rv_x86 *x, struct kvm_sregs *s) {
    *s = v->initial;
    s->cs = segment(&x->seg[RV_CS]);
    s->ds = segment(&x->seg[RV_DS]);
    s->es = segment(&x->seg[RV_ES]);
    s->fs = segment(&x->seg[RV_FS]);
    s->gs = segment(&x->seg[RV_GS]);
    s->ss = segment(&x->seg[RV_SS]);
    s->ldt = segment(&x->seg[RV_LDTR]);
    s->tr = segment(&x->seg[RV_TR]);
    s->gdt = (struct kvm_dtable){0};
    s->idt = (struct kvm_dtable){0};
    s->cr0 = (x->cr0 & (RV_CR0_PE | RV_CR0_PG | RV_CR0_WP)) | RV_CR0_ET | RV_CR0_NE;
    s->cr2 = 0;
    s->cr3 = x->cr0 & RV_CR0_PG
                 ? x->cr3 & (x->efer & RV_EFER_LMA ? 0x000ffffffffff000ull : 0xffffffe0ull)
                 : 0;
    s->cr4 = x->cr4 & (RV_CR4_PSE | RV_CR4_PAE | RV_CR4_PGE);
    s->efer = x->efer & (RV_EFER_LME | RV_EFER_LMA | RV_EFER_NXE);
}

static const uint8_t order[] = {RV_RAX, RV_RBX, RV_RCX, RV_RDX, RV_RSI, RV_RDI, RV_RSP, RV_RBP,
                                RV_R8,  RV_R9,  RV_R10, RV_R11, RV_R12, RV_R13, RV_R14, RV_R15};
_Static_assert(offsetof(struct kvm_regs, rip) == 8 * sizeof order, "kvm_regs begins with 16 GPRs");

static bool load_sregs(struct rv_kvm_vcpu *v, const struct rv_x86 *x) {
    struct kvm_sregs s;
    fill_sregs(v, x, &s);
    if (!v->sregs_stale && !v->flush && memcmp(&s, &v->loaded, sizeof s) == 0) return true;
    v->regs_stale = true;
    if (v->flush || v->sregs_stale) {
        /* No call says "flush": a change of CR4.PGE and back makes KVM rebuild its translations,
         * as MOV to CR4 must (SDM 3A 4.10.4.1). */
        struct kvm_sregs other = s;
        other.cr4 ^= RV_CR4_PGE;
        if (ioctl(v->cpu, KVM_SET_SREGS, &other)) return false;
    }
    v->sregs_stale = true;
    if (ioctl(v->cpu, KVM_SET_SREGS, &s)) return false;
    v->loaded = s;
    v->sregs_stale = v->flush = false;
    return true;
}

static bool load(struct rv_kvm_vcpu *v, const struct rv_x86 *x) {
    if (!load_sregs(v, x)) return false;
    if (!v->regs_stale) return true;
    struct kvm_regs regs = {.rip = x->rip, .rflags = x->rflags};
    uint64_t *to = (uint64_t *)&regs;
    for (unsigned n = 0; n < sizeof order; n++) to[n] = x->gpr[order[n]];
    if (ioctl(v->cpu, KVM_SET_REGS, &regs)) return false;
    /* KVM sets TF only while RIP is where it was when stepping was asked for, or where a step led:
     * a RIP of our choosing needs the question again. */
    struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
    if (ioctl(v->cpu, KVM_SET_GUEST_DEBUG, &d)) return false;
    v->regs_stale = false;
    return true;
}

/* Flags that a plain instruction may change. */
#define PLAIN_FLAGS (RV_FL_ARITH | RV_FL_DF)

static void store(const struct rv_kvm_vcpu *v, struct rv_x86 *x) {
    const struct kvm_regs *regs = &v->run->s.regs.regs;
    const uint64_t *from = (const uint64_t *)regs;
    for (unsigned n = 0; n < sizeof order; n++) x->gpr[order[n]] = from[n];
    x->rip = regs->rip;
    x->rflags = (x->rflags & ~(uint64_t)PLAIN_FLAGS) | (regs->rflags & PLAIN_FLAGS);
}

int rv_kvm_step(struct rv_kvm_vcpu *v, struct rv_x86 *x, struct rv_err *err) {
    if (!load(v, x)) {
        v->regs_stale = v->sregs_stale = true;
        return RV_KVM_BAD_STATE;
    }
    if (ioctl(v->cpu, KVM_RUN, 0)) {
        if (errno == EINTR || errno == EAGAIN) return RV_KVM_INTERRUPTED;
        return rv_fail_errno(err, RV_E_HOST, "KVM_RUN failed at rip 0x%llx",
                             (unsigned long long)x->rip);
    }
    switch (v->run->exit_reason) {
    case KVM_EXIT_DEBUG: {
        struct rv_x86 before = *x;
        store(v, x);
        bool same = x->rip == before.rip && x->rflags == before.rflags &&
                    memcmp(x->gpr, before.gpr, sizeof x->gpr) == 0;
        return same ? RV_KVM_UNMOVED : RV_KVM_DONE;
    }
    case KVM_EXIT_INTR: return RV_KVM_INTERRUPTED;
    case KVM_EXIT_SHUTDOWN:
        /* kvm_amd resets the CPU on shutdown: nothing it holds is ours any more. */
        v->regs_stale = v->sregs_stale = true;
        return RV_KVM_FAULTED;
    case KVM_EXIT_INTERNAL_ERROR: v->regs_stale = v->sregs_stale = true; return RV_KVM_REFUSED;
    case KVM_EXIT_FAIL_ENTRY: v->regs_stale = v->sregs_stale = true; return RV_KVM_BAD_STATE;
    default:
        return rv_fail(
            err, RV_E_HOST,
            "KVM left an instruction at rip 0x%llx by exit %u, which it cannot need; " HINT,
            (unsigned long long)x->rip, v->run->exit_reason);
    }
}
