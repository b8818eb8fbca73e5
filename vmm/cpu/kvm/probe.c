/* Measures this host's KVM on a guest of a few instructions in 64-bit mode. This is the one place
 * in the engine that reads a clock: nothing of the guest whose run is asked for exists yet, and
 * only the choice of an engine depends on what is found. */
#include "vmm/cpu/kvm/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/kvm/kvm.h"

#define MEMORY   (64u << 10)
#define TABLES   0x1000u /* three levels, one page each; 2 MiB pages */
#define CODE     0x8000u
#define ROUNDS   200 /* of an exit or a step */
#define ENOUGH   5e6 /* ns: a loop that took so long was measured well enough */
#define MAX_LOOP (1u << 26)

struct lab {
    int kvm, vm, cpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_size;
};

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void lab_release(struct lab *l) {
    if (l->run) munmap(l->run, l->run_size);
    if (l->memory) munmap(l->memory, MEMORY);
    if (l->cpu >= 0) close(l->cpu);
    if (l->vm >= 0) close(l->vm);
    if (l->kvm >= 0) close(l->kvm);
}

static struct kvm_cpuid2 *supported_cpuid(int kvm) {
    enum { MAX = 256 };
    struct kvm_cpuid2 *t = rv_alloc(sizeof *t + MAX * sizeof t->entries[0]);
    t->nent = MAX;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, t)) t->nent = 0;
    return t;
}

static int lab_init(struct lab *l, struct rv_err *err) {
    *l = (struct lab){.kvm = -1, .vm = -1, .cpu = -1};
    int r = rv_kvm_open(&l->kvm, err);
    if (r) return r;
    l->vm = ioctl(l->kvm, KVM_CREATE_VM, 0);
    if (l->vm < 0) return rv_fail_errno(err, RV_E_HOST, "KVM cannot create a VM");
    (void)ioctl(l->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
    void *p = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return rv_fail_errno(err, RV_E_HOST, "no memory for a probe of KVM");
    l->memory = p;
    struct kvm_userspace_memory_region m = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)p};
    if (ioctl(l->vm, KVM_SET_USER_MEMORY_REGION, &m))
        return rv_fail_errno(err, RV_E_HOST, "KVM refuses guest memory");
    l->cpu = ioctl(l->vm, KVM_CREATE_VCPU, 0);
    if (l->cpu < 0) return rv_fail_errno(err, RV_E_HOST, "KVM cannot create a CPU");
    int size = ioctl(l->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof *l->run) return rv_fail(err, RV_E_HOST, "KVM shows no run area");
    p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, l->cpu, 0);
    if (p == MAP_FAILED) return rv_fail_errno(err, RV_E_HOST, "cannot map KVM's run area");
    l->run = p;
    l->run_size = (size_t)size;
    struct kvm_cpuid2 *t = supported_cpuid(l->kvm);
    r = ioctl(l->cpu, KVM_SET_CPUID2, t);
    free(t);
    return r ? rv_fail_errno(err, RV_E_HOST, "KVM refuses its own CPUID table") : 0;
}

/* Puts code in place and the CPU in 64-bit mode before it, with no IDT. */
static bool begin(struct lab *l, const uint8_t *code, size_t size, uint64_t rcx, bool step) {
    static const uint64_t entries[] = {TABLES + 0x1000 + 0x23, TABLES + 0x2000 + 0x23, 0xe3};
    for (unsigned i = 0; i < 3; i++)
        memcpy(l->memory + TABLES + 0x1000 * i, &entries[i], sizeof entries[i]);
    memcpy(l->memory + CODE, code, size);
    /* An exit by a port is only finished by the next KVM_RUN, which would skip over the new code.
     */
    l->run->immediate_exit = 1;
    (void)ioctl(l->cpu, KVM_RUN, 0);
    l->run->immediate_exit = 0;
    struct kvm_sregs s;
    if (ioctl(l->cpu, KVM_GET_SREGS, &s)) return false;
    s.cr3 = TABLES;
    s.cr4 = RV_CR4_PAE | RV_CR4_OSFXSR;
    s.cr0 = RV_CR0_PE | RV_CR0_PG | RV_CR0_ET | RV_CR0_NE | RV_CR0_MP;
    s.efer = RV_EFER_LME | RV_EFER_LMA;
    s.idt.limit = 0;
    struct kvm_segment cs = {
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment ds = cs;
    ds.type = 3, ds.selector = 16, ds.l = 0, ds.db = 1;
    s.cs = cs;
    s.ds = s.es = s.fs = s.gs = s.ss = ds;
    struct kvm_regs r = {.rip = CODE, .rflags = 2, .rsp = CODE, .rcx = rcx};
    struct kvm_guest_debug d = {.control =
                                    step ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};
    return !ioctl(l->cpu, KVM_SET_SREGS, &s) && !ioctl(l->cpu, KVM_SET_REGS, &r) &&
           (!ioctl(l->cpu, KVM_SET_GUEST_DEBUG, &d) || !step);
}

/* Runs on to the next exit; true when it is of this kind. */
static bool go(struct lab *l, unsigned reason) {
    while (ioctl(l->cpu, KVM_RUN, 0))
        if (errno != EINTR) return false;
    return l->run->exit_reason == reason;
}

static bool regs(struct lab *l, struct kvm_regs *r) { return !ioctl(l->cpu, KVM_GET_REGS, r); }

static const uint8_t loop_code[] = {0x48, 0xff, 0xc9, 0x75, 0xfb, 0xf4}; /* dec rcx; jnz; hlt */

static double loop_speed(struct lab *l) {
    /* Once before the clock starts: the first run also pays for KVM's page tables. */
    if (!begin(l, loop_code, sizeof loop_code, 10, false) || !go(l, KVM_EXIT_HLT)) return 0;
    for (uint64_t n = 1000; n <= MAX_LOOP; n *= 4) {
        if (!begin(l, loop_code, sizeof loop_code, n, false)) return 0;
        double from = now_ns();
        if (!go(l, KVM_EXIT_HLT)) return 0;
        double took = now_ns() - from;
        if (took >= ENOUGH || n * 4 > MAX_LOOP) return 2.0 * (double)n * 1e9 / (took + 1);
    }
    return 0;
}

/* Mean cost of ROUNDS exits of one kind, ns; 0 when another came. */
static uint64_t exit_cost(struct lab *l, unsigned reason) {
    double from = now_ns();
    for (unsigned i = 0; i < ROUNDS; i++)
        if (!go(l, reason)) return 0;
    return (uint64_t)((now_ns() - from) / ROUNDS) + 1;
}

static uint64_t port_cost(struct lab *l) {
    static const uint8_t code[] = {0xe6, 0x10, 0xeb, 0xfc}; /* out 0x10, al; jmp back */
    return begin(l, code, sizeof code, 0, false) && go(l, KVM_EXIT_IO) ? exit_cost(l, KVM_EXIT_IO)
                                                                       : 0;
}

static bool leaves_rax(struct lab *l, const uint8_t *code, size_t size, uint64_t rcx,
                       uint64_t rax) {
    struct kvm_regs r;
    return begin(l, code, size, rcx, false) && go(l, KVM_EXIT_HLT) && regs(l, &r) && r.rax == rax;
}

/* Steps over DEC RCX and the taken JNZ, one at a time. */
static bool steps(struct lab *l) {
    struct kvm_regs r;
    return begin(l, loop_code, sizeof loop_code, 5, true) && go(l, KVM_EXIT_DEBUG) && regs(l, &r) &&
           r.rip == CODE + 3 && r.rcx == 4 && go(l, KVM_EXIT_DEBUG) && regs(l, &r) &&
           r.rip == CODE && r.rcx == 4;
}

static bool shuts_down(struct lab *l) {
    static const uint8_t code[] = {0xf7, 0xf1, 0xf4}; /* div ecx; hlt */
    return begin(l, code, sizeof code, 0, true) && go(l, KVM_EXIT_SHUTDOWN);
}

static void offered(struct lab *l, struct rv_kvm_report *out) {
    int fd = l->kvm;
    out->nested_state = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE) > 0;
    out->user_space_msr = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_USER_SPACE_MSR) > 0;
    out->msr_filter = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_MSR_FILTER) > 0;
    out->tsc_control = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
    out->pmu = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_PMU_CAPABILITY) > 0;
    int sync = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS);
    out->sync_regs = sync > 0 && (sync & KVM_SYNC_X86_REGS);
    out->immediate_exit = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) > 0;
    out->guest_debug = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG) > 0;
    int flags = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);
    out->guest_debug_flags = flags > 0 ? (unsigned)flags : 0;
    int hw = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_DEBUG_HW_BPS);
    out->hw_breakpoints = hw > 0 ? (unsigned)hw : 0;
    struct kvm_cpuid2 *t = supported_cpuid(fd);
    for (unsigned i = 0; i < t->nent; i++) {
        const struct kvm_cpuid_entry2 *c = &t->entries[i];
        if (c->function == 1) out->nested_vmx = c->ecx >> 5 & 1;
        if (c->function == 0x80000001u) out->nested_svm = c->ecx >> 2 & 1;
    }
    free(t);
}

int rv_kvm_probe(struct rv_kvm_report *out, struct rv_err *err) {
    static const uint8_t sse[] = {/* pxor, pcmpeqd, paddq xmm0, xmm0; movq rax, xmm0; hlt */
                                  0x66, 0x0f, 0xef, 0xc0, 0x66, 0x0f, 0x76, 0xc0, 0x66,
                                  0x0f, 0xd4, 0xc0, 0x66, 0x48, 0x0f, 0x7e, 0xc0, 0xf4};
    static const uint8_t popcnt[] = {0xf3, 0x48, 0x0f, 0xb8, 0xc1, 0xf4}; /* popcnt rax, rcx; hlt */
    *out = (struct rv_kvm_report){0};
    struct lab l;
    int r = lab_init(&l, err);
    if (!r) {
        offered(&l, out);
        out->plain_ips = loop_speed(&l);
        out->port_exit_ns = port_cost(&l);
        out->sse = leaves_rax(&l, sse, sizeof sse, 0, UINT64_MAX - 1);
        out->popcnt = leaves_rax(&l, popcnt, sizeof popcnt, 0xf0f1, 9);
        out->step_counts = steps(&l);
        if (begin(&l, loop_code, sizeof loop_code, 2 * ROUNDS, true))
            out->step_ns = exit_cost(&l, KVM_EXIT_DEBUG);
        /* Last: kvm_amd resets the CPU on shutdown. */
        out->empty_idt = shuts_down(&l);
        out->engine_works = out->step_counts && out->empty_idt && out->sync_regs &&
                            out->immediate_exit && out->guest_debug;
    }
    lab_release(&l);
    return r;
}
