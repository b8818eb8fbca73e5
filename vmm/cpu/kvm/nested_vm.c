/* The VM around the shim: its memory, the nested page tables, L1's state, running and interrupting
 * it. KVM API sections as in vcpu.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/kvm/kvm.h"
#include "vmm/cpu/kvm/nested.h"

#define HINT "use --engine interpret"

/* Entries of nested page tables that mean the same on both vendors: present (read), writable, user
 * (execute on Intel): bits 0 to 2. */
#define NPT_BITS  0x7ull
#define NPT_LARGE 0x80ull
#define LARGE     (2ull << 20)
#define TABLE     4096ull

/* ---- memory ---- */

/* Bytes of L1's own tables for guest RAM: a page for each GiB. */
static size_t l1_tables(const struct rv_ram *ram) {
    return (size_t)(TABLE * ((ram->size + (1ull << 30) - 1) >> 30));
}

/* Bytes of tables that map RAM: one page each for the top two levels, one a GiB of guest physical
 * addresses, and one for a last piece below 2 MiB in each of the two parts. */
static size_t npt_size(const struct rv_ram *ram) {
    uint64_t top =
        rv_ram_high_size(ram) ? RV_RAM_HIGH_BASE + rv_ram_high_size(ram) : rv_ram_low_size(ram);
    return (size_t)(TABLE * (2 + ((top + (1ull << 30) - 1) >> 30) + 2));
}

struct npt {
    struct rv_nested_vm *v;
    uint64_t next; /* L1 address of the next free table */
    uint64_t type; /* memory type bits of leaf entries */
};

static uint64_t *table(struct npt *n, uint64_t *entry) {
    if (!(*entry & 1)) {
        *entry = n->next | NPT_BITS;
        n->next += TABLE;
        rv_assert(n->next <= n->v->shim_size);
    }
    return rv_l1(n->v, *entry & ~0xfffull);
}

/* Maps guest physical [gpa, gpa + size) to L1 memory. */
static void map(struct npt *n, uint64_t gpa, uint64_t to, uint64_t size) {
    uint64_t *pml4 = rv_l1(n->v, RV_L1_NPT);
    while (size) {
        uint64_t *pdpt = table(n, &pml4[gpa >> 39 & 511]);
        uint64_t *pd = table(n, &pdpt[gpa >> 30 & 511]);
        uint64_t *e = &pd[gpa >> 21 & 511];
        uint64_t step = size < LARGE ? TABLE : LARGE;
        if (step == LARGE)
            *e = to | NPT_BITS | NPT_LARGE | n->type;
        else
            table(n, e)[gpa >> 12 & 511] = to | NPT_BITS | n->type;
        gpa += step;
        to += step;
        size -= step;
    }
}

/* A page that is in KVM's log is hashed each time; to have its next write noticed costs a fault,
 * which is as much as a few hashes. So a page leaves the log when it was found the same so often;
 * and to take pages out costs a flush, so some are taken out together. */
#define LOG_SAME 4
#define LOG_OUT  16u

static void log_by_hand(struct rv_nested_vm *v) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                 .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
    v->log_by_hand = ioctl(v->vm, KVM_ENABLE_CAP, &cap) == 0;
}

static int make_memory(struct rv_nested_vm *v, struct rv_err *err) {
    size_t npt = npt_size(v->ram);
    v->shim_size = RV_L1_NPT + npt + l1_tables(v->ram);
    void *p = mmap(NULL, v->shim_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return rv_fail_errno(err, RV_E_HOST, "no memory for KVM's guest");
    v->shim = p;
    uint64_t *pml4 = rv_l1(v, RV_L1_PML4), *pdpt = rv_l1(v, RV_L1_PDPT), *pd = rv_l1(v, RV_L1_PD);
    pml4[0] = RV_L1_PDPT | 3;
    pdpt[0] = RV_L1_PD | 3;
    for (uint64_t i = 0; i < 512; i++) pd[i] = i << 21 | 0x83;
    for (uint64_t at = 0; at < v->ram->size; at += LARGE) {
        uint64_t *entry = &pdpt[(RV_L1_RAM + at) >> 30];
        if (!*entry) *entry = (RV_L1_NPT + npt + (at >> 30) * TABLE) | 3;
        uint64_t *tables = rv_l1(v, *entry & ~0xfffull);
        tables[at >> 21 & 511] = (RV_L1_RAM + at) | 0x83;
    }
    *(uint64_t *)rv_l1(v, RV_CLOCK_RAM_LOW) = rv_ram_low_size(v->ram);
    *(uint64_t *)rv_l1(v, RV_CLOCK_RAM_HIGH) = rv_ram_high_size(v->ram);
    log_by_hand(v);
    int r = rv_kvm_add_slot(v->vm, 0, 0, v->shim, v->shim_size, 0, err);
    if (!r) r = rv_kvm_add_slot(v->vm, 1, RV_L1_RAM, v->ram->host, v->ram->size, 0, err);
    v->dirty_log = rv_alloc((size_t)((v->ram->size >> RV_PAGE_SHIFT) + 63) / 64 * 8);
    v->logged = rv_alloc((size_t)(v->ram->size >> RV_PAGE_SHIFT) * sizeof *v->logged);
    return r;
}

void rv_nested_map_ram(struct rv_nested_vm *v, uint64_t type) {
    struct npt n = {.v = v, .next = RV_L1_NPT + TABLE, .type = type};
    uint64_t low = rv_ram_low_size(v->ram);
    map(&n, 0, RV_L1_RAM, low);
    map(&n, RV_RAM_HIGH_BASE, RV_L1_RAM + low, rv_ram_high_size(v->ram));
}

/* Before the log began: marks every page that the host's kernel has anything for. The others were
 * never written and hold zeroes (Documentation/admin-guide/mm/pagemap.rst); to look at them costs
 * a fault each. */
static void mark_touched(struct rv_ram *ram) {
    enum { AT_ONCE = 4096 };
    const uint64_t there = 3ull << 62; /* in memory, or swapped out */
    uint64_t pages = ram->size >> RV_PAGE_SHIFT, first = (uintptr_t)ram->host >> RV_PAGE_SHIFT;
    uint64_t *entry = rv_alloc(AT_ONCE * sizeof *entry);
    int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    for (uint64_t i = 0; i < pages; i += AT_ONCE) {
        size_t n = pages - i < AT_ONCE ? (size_t)(pages - i) : AT_ONCE, bytes = n * sizeof *entry;
        off_t at = (off_t)((first + i) * sizeof *entry);
        if (map < 0 || pread(map, entry, bytes, at) != (ssize_t)bytes)
            memset(entry, 0xff, bytes); /* not known: looked at */
        for (size_t k = 0; k < n; k++)
            if ((entry[k] & there) || ram->page_hash[i + k]) ram->dirty[i + k] = 1;
    }
    if (map >= 0) close(map);
    free(entry);
}

void rv_nested_collect_dirty(struct rv_nested_vm *v) {
    struct kvm_dirty_log log = {.slot = 1, .dirty_bitmap = v->dirty_log};
    uint64_t pages = v->ram->size >> RV_PAGE_SHIFT, found = 0;
    /* KVM maps RAM in large pieces only as long as it keeps no log: it begins when first needed. */
    if (!v->logging || ioctl(v->vm, KVM_GET_DIRTY_LOG, &log)) {
        struct rv_err ignored;
        v->logging = !rv_kvm_add_slot(v->vm, 1, RV_L1_RAM, v->ram->host, v->ram->size,
                                      KVM_MEM_LOG_DIRTY_PAGES, &ignored);
        mark_touched(v->ram);
        return;
    }
    /* What remains in dirty_log are the pages to be taken out of KVM's. */
    for (uint64_t i = 0; i < (pages + 63) / 64; i++) {
        uint64_t out = 0;
        for (uint64_t bits = v->dirty_log[i]; bits; bits &= bits - 1) {
            uint64_t page = i * 64 + (uint64_t)__builtin_ctzll(bits);
            if (page >= pages) break;
            v->ram->dirty[page] = 1;
            struct rv_logged *l = &v->logged[page];
            if (l->hash != v->ram->page_hash[page]) {
                *l = (struct rv_logged){.hash = v->ram->page_hash[page]};
            } else if (l->same < LOG_SAME) {
                l->same++;
            } else {
                out |= bits & -bits;
                found++;
            }
        }
        v->dirty_log[i] = out;
    }
    if (!v->log_by_hand || found < LOG_OUT) return;
    struct kvm_clear_dirty_log clear = {
        .slot = 1, .num_pages = (uint32_t)pages, .dirty_bitmap = v->dirty_log};
    /* Refused, the pages stay in the log, which costs time alone. */
    (void)ioctl(v->vm, KVM_CLEAR_DIRTY_LOG, &clear);
}

/* ---- life ---- */

int rv_nested_vm_init(struct rv_nested_vm *v, struct rv_ram *ram, struct rv_err *err) {
    *v = (struct rv_nested_vm){.kvm = -1, .vm = -1, .cpu = -1, .ram = ram};
    int r = rv_kvm_open(&v->kvm, err);
    if (r) return r;
    v->vm = ioctl(v->kvm, KVM_CREATE_VM, 0);
    if (v->vm < 0) return rv_fail_errno(err, RV_E_HOST, "KVM cannot create a VM; " HINT);
    /* Needed on some Intel processors only; elsewhere a refusal means nothing. */
    (void)ioctl(v->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
    r = make_memory(v, err);
    if (r) return r;
    return rv_kvm_new_cpu(v->kvm, v->vm, &v->cpu, &v->run, &v->run_size, err);
}

void rv_nested_vm_release(struct rv_nested_vm *v) {
    if (v->run) munmap(v->run, v->run_size);
    if (v->cpu >= 0) close(v->cpu);
    if (v->vm >= 0) close(v->vm);
    if (v->kvm >= 0) close(v->kvm);
    if (v->shim) munmap(v->shim, v->shim_size);
    free(v->dirty_log);
    free(v->logged);
    free(v->vendor);
    *v = (struct rv_nested_vm){.kvm = -1, .vm = -1, .cpu = -1};
}

/* ---- L1 ---- */

/* One entry behind the head that KVM_GET_MSRS and KVM_SET_MSRS want; returns what they do. */
static int one_msr(struct rv_nested_vm *v, unsigned long request, uint32_t index, uint64_t *value) {
    _Alignas(struct kvm_msrs) uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    struct kvm_msrs *m = (struct kvm_msrs *)room;
    *m = (struct kvm_msrs){.nmsrs = 1};
    m->entries[0] = (struct kvm_msr_entry){.index = index, .data = *value};
    int r = ioctl(v->cpu, request, m);
    *value = m->entries[0].data;
    return r;
}

int rv_nested_msr(struct rv_nested_vm *v, uint32_t index, uint64_t *value, struct rv_err *err) {
    *value = 0;
    if (one_msr(v, KVM_GET_MSRS, index, value) != 1)
        return rv_fail(err, RV_E_UNSUPPORTED, "this host's KVM does not show MSR 0x%x; " HINT,
                       index);
    return 0;
}

int rv_nested_set_msr(struct rv_nested_vm *v, uint32_t index, uint64_t value, struct rv_err *err) {
    if (one_msr(v, KVM_SET_MSRS, index, &value) != 1)
        return rv_fail(err, RV_E_UNSUPPORTED, "this host's KVM does not take MSR 0x%x; " HINT,
                       index);
    return 0;
}

int rv_nested_boot(struct rv_nested_vm *v, const void *code, size_t size, uint64_t cr4,
                   uint64_t efer, struct rv_err *err) {
    rv_assert(size <= RV_L1_CONTROL - RV_L1_CODE);
    memcpy(rv_l1(v, RV_L1_CODE), code, size);
    struct kvm_sregs s;
    if (ioctl(v->cpu, KVM_GET_SREGS, &s))
        return rv_fail_errno(err, RV_E_HOST, "KVM does not show its CPU's state");
    s.cr3 = RV_L1_PML4;
    s.cr0 = RV_CR0_PE | RV_CR0_MP | RV_CR0_ET | RV_CR0_NE | RV_CR0_WP | RV_CR0_PG;
    s.cr4 = RV_CR4_PAE | RV_CR4_OSFXSR | RV_CR4_OSXMMEXCPT | cr4;
    s.efer = RV_EFER_LME | RV_EFER_LMA | efer;
    struct kvm_segment cs = {
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment ds = cs;
    ds.type = 3, ds.selector = 16, ds.l = 0, ds.db = 1;
    s.cs = cs;
    s.ds = s.es = s.fs = s.gs = s.ss = ds;
    s.tr = (struct kvm_segment){.selector = 24, .type = 11, .present = 1, .limit = 0x67};
    struct kvm_regs regs = {.rip = RV_L1_CODE, .rflags = 2, .rsp = RV_L1_STACK};
    if (ioctl(v->cpu, KVM_SET_SREGS, &s) || ioctl(v->cpu, KVM_SET_REGS, &regs))
        return rv_fail_errno(err, RV_E_UNSUPPORTED,
                             "this host's KVM does not let its guests run guests of their own; "
                             "load kvm_amd or kvm_intel with nested=1, or " HINT);
    return 0;
}

void rv_nested_store_fx(struct rv_x86 *x, const uint8_t *saved) {
    enum { MXCSR_MASK = 28, ST = 32, END = 416 };
    memcpy(x->fx, saved, MXCSR_MASK);
    memcpy(x->fx + ST, saved + ST, END - ST);
}

int rv_nested_run(struct rv_nested_vm *v, struct rv_err *err) {
    if (ioctl(v->cpu, KVM_RUN, 0)) {
        if (errno == EINTR || errno == EAGAIN) return 1;
        return rv_fail_errno(err, RV_E_HOST, "KVM_RUN failed");
    }
    if (v->run->exit_reason == KVM_EXIT_INTR) return 1;
    if (v->run->exit_reason == KVM_EXIT_IO && v->run->io.port == RV_SHIM_PORT) return 0;
    struct kvm_regs regs = {0};
    (void)ioctl(v->cpu, KVM_GET_REGS, &regs);
    return rv_fail(err, RV_E_HOST,
                   "KVM left the guest for a reason it should not have (%u, shim at 0x%llx, rax "
                   "0x%llx); " HINT,
                   v->run->exit_reason, (unsigned long long)regs.rip, (unsigned long long)regs.rax);
}

/* ---- the clock ---- */

void rv_nested_allow_reads(struct rv_nested_vm *v, const struct rv_clock_reads *r,
                           const struct rv_x86 *x) {
    uint32_t max = r->max < RV_L1_RING_MAX ? r->max : RV_L1_RING_MAX;
    /* Where the guest may not read its counter a read faults. */
    if (!v->clock_scale || (x->cr4 & RV_CR4_TSD)) max = 0;
    *(uint32_t *)rv_l1(v, RV_CLOCK_LEFT) = max;
    *(uint32_t *)rv_l1(v, RV_CLOCK_COUNT) = 0;
    *(uint64_t *)rv_l1(v, RV_CLOCK_NOW) = r->now;
    *(uint64_t *)rv_l1(v, RV_CLOCK_BEFORE) = r->before;
    *(uint64_t *)rv_l1(v, RV_CLOCK_HOST) = r->host_now;
    *(uint64_t *)rv_l1(v, RV_CLOCK_SCALE) = v->clock_scale;
    *(uint64_t *)rv_l1(v, RV_CLOCK_HZ) = r->tsc_hz;
    *(uint64_t *)rv_l1(v, RV_CLOCK_OFFSET) = x->tsc_offset;
    *(uint64_t *)rv_l1(v, RV_CLOCK_AUX) = x->tsc_aux;
}

unsigned rv_nested_reads(struct rv_nested_vm *v, const uint64_t **steps) {
    uint32_t n = *(const uint32_t *)rv_l1(v, RV_CLOCK_COUNT);
    *steps = rv_l1(v, RV_L1_RING);
    return n < RV_L1_RING_MAX ? n : RV_L1_RING_MAX;
}

int rv_nested_interrupt(struct rv_nested_vm *v, bool on, struct rv_err *err) {
    struct kvm_vcpu_events e;
    if (ioctl(v->cpu, KVM_GET_VCPU_EVENTS, &e))
        return rv_fail_errno(err, RV_E_HOST, "KVM does not show pending events; " HINT);
    if (e.nmi.pending == on) return 0;
    e.nmi.pending = on;
    e.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
    if (ioctl(v->cpu, KVM_SET_VCPU_EVENTS, &e))
        return rv_fail_errno(err, RV_E_HOST, "KVM does not take a pending event; " HINT);
    return 0;
}

/* ---- starting ---- */

static const struct kvm_cpuid_entry2 *find_leaf(const struct kvm_cpuid2 *t, uint32_t leaf) {
    for (unsigned i = 0; i < t->nent; i++)
        if (t->entries[i].function == leaf && t->entries[i].index == 0) return &t->entries[i];
    return NULL;
}

/* Bits of CPUID that the machine models itself, whatever the processor has. By leaf: EBX, ECX, EDX.
 */
static const struct {
    uint32_t leaf, modelled[3];
} features[] = {
    /* The APIC's identity and bits; x2APIC, TSC deadline, hypervisor; TSC, MSR, MCE, APIC, MTRR,
       MCA. */
    {1,
     {~0u, 1u << 21 | 1u << 24 | 1u << 31,
      1u << 4 | 1u << 5 | 1u << 7 | 1u << 9 | 1u << 12 | 1u << 14}},
    /* TSC_ADJUST, ERMS and "no FPU CS and DS"; speculation control is MSRs. */
    {7, {1u << 1 | 1u << 9 | 1u << 13, 0, ~0u}},
    /* PREFETCHW does nothing where it is not known. */
    {0x80000001u, {~0u, 1u << 8, 0}},
};

/* What the guest is shown must be there. */
static int check_profile(const struct kvm_cpuid2 *t, const struct rv_profile *profile,
                         struct rv_err *err) {
    struct rv_x86 x;
    rv_x86_reset(&x);
    x.efer = RV_EFER_LMA;
    x.seg[RV_CS].attr |= RV_SEG_L; /* what 64-bit code is shown: every feature */
    for (unsigned i = 0; i < RV_COUNT(features); i++) {
        struct rv_cpuid want = profile->cpuid(profile, features[i].leaf, 0, &x);
        const struct kvm_cpuid_entry2 *has = find_leaf(t, features[i].leaf);
        uint32_t wants[3] = {want.ebx, want.ecx, want.edx}, have[3] = {0};
        if (has) have[0] = has->ebx, have[1] = has->ecx, have[2] = has->edx;
        static const char *const names[3] = {"EBX", "ECX", "EDX"};
        for (unsigned k = 0; k < 3; k++) {
            uint32_t missing = wants[k] & ~have[k] & ~features[i].modelled[k];
            if (missing)
                return rv_fail(err, RV_E_UNSUPPORTED,
                               "this host's processor lacks what CPU profile %s shows (CPUID 0x%x "
                               "%s, bits 0x%x); " HINT,
                               profile->name, features[i].leaf, names[k], missing);
        }
    }
    return 0;
}

static int choose(const struct kvm_cpuid2 *t, const struct rv_nested_ops **ops,
                  struct rv_err *err) {
    static const struct rv_nested_ops *const all[] = {&rv_nested_svm, &rv_nested_vmx};
    for (unsigned i = 0; i < RV_COUNT(all); i++)
        if (all[i]->offered(t)) {
            *ops = all[i];
            return 0;
        }
    return rv_fail(err, RV_E_UNSUPPORTED,
                   "this host's KVM does not offer nested virtualization to its guests; load "
                   "kvm_amd or kvm_intel with nested=1, or " HINT);
}

int rv_nested_start(struct rv_nested_vm *v, const struct rv_profile *profile,
                    const struct rv_nested_ops **ops, struct rv_err *err) {
    enum { MAX = 256 };
    struct kvm_cpuid2 *t = rv_alloc(sizeof *t + MAX * sizeof t->entries[0]);
    t->nent = MAX;
    int r = 0;
    if (ioctl(v->kvm, KVM_GET_SUPPORTED_CPUID, t))
        r = rv_fail_errno(err, RV_E_HOST, "KVM does not say what it supports");
    if (!r) r = choose(t, ops, err);
    if (!r) r = check_profile(t, profile, err);
    if (!r && ioctl(v->cpu, KVM_SET_CPUID2, t))
        r = rv_fail_errno(err, RV_E_HOST, "KVM refuses its own CPUID table");
    free(t);
    /* Without a known rate user space is asked for every read. */
    int khz = ioctl(v->cpu, KVM_GET_TSC_KHZ, 0);
    if (khz > 0) v->clock_scale = (RV_NSEC << 32) / ((uint64_t)khz * 1000);
    return r ? r : (*ops)->start(v, err);
}
