/* What this host's KVM is worth, measured, and what the KVM engine made of it. For `retro doctor`
 * and
 * `--engine auto`. */
#ifndef RV_VMM_CPU_KVM_PROBE_H
#define RV_VMM_CPU_KVM_PROBE_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/cpu/engine.h"

struct rv_kvm_report {
    /* Measured on a small guest in 64-bit mode; 0: did not work. */
    double plain_ips;      /* instructions a second of a counting loop that runs freely */
    uint64_t port_exit_ns; /* one OUT that ends in user space, there and back */
    uint64_t step_ns;      /* one single step, there and back */
    bool sse;              /* 128-bit integer SSE works */
    bool popcnt;           /* POPCNT works */
    bool step_counts;      /* a single step retires exactly one instruction */
    bool empty_idt;        /* a fault without an IDT is reported and changes nothing */
    bool engine_works;     /* all that rv_engine_kvm relies on holds */
    /* Offered: KVM_CHECK_EXTENSION and KVM_GET_SUPPORTED_CPUID. */
    bool nested_svm, nested_vmx;
    bool nested_state;          /* KVM_CAP_NESTED_STATE */
    bool user_space_msr;        /* KVM_CAP_X86_USER_SPACE_MSR */
    bool msr_filter;            /* KVM_CAP_X86_MSR_FILTER */
    bool tsc_control;           /* KVM_CAP_TSC_CONTROL */
    bool pmu;                   /* KVM_CAP_PMU_CAPABILITY */
    bool sync_regs;             /* KVM_CAP_SYNC_REGS */
    bool immediate_exit;        /* KVM_CAP_IMMEDIATE_EXIT */
    bool guest_debug;           /* KVM_CAP_SET_GUEST_DEBUG */
    unsigned guest_debug_flags; /* KVM_CAP_SET_GUEST_DEBUG2: KVM_GUESTDBG_* */
    unsigned hw_breakpoints;    /* KVM_CAP_GUEST_DEBUG_HW_BPS */
};

/* Measures, in well under a second. 0 when there is a KVM, however poor; RV_E_UNSUPPORTED or
 * RV_E_HOST, with the reason, when none can be used at all (*out is zeroed then). */
int rv_kvm_probe(struct rv_kvm_report *out, struct rv_err *err);

struct rv_kvm_counts {
    uint64_t stepped; /* instructions that KVM retired */
    uint64_t helped;  /* instructions that the interpreter completed */
    uint64_t moves;   /* times the state moved from KVM to the interpreter */
    uint64_t faulted; /* instructions that faulted on KVM and were run again */
    uint64_t refused; /* instructions or states that KVM could not run */
};

/* Of an engine made by rv_engine_kvm, since it was made. */
struct rv_kvm_counts rv_kvm_counts(const struct rv_engine *e);

/* What the nested engine relies on, tried out on a guest of a few instructions. */
struct rv_nested_report {
    const char *vendor;     /* "svm", "vmx" */
    double plain_ips;       /* instructions a second of a loop that runs freely; 0: did not work */
    uint64_t exit_ns;       /* a time-stamp read that is trapped and seen here, there and back */
    bool traps_tsc;         /* RDTSC comes out before anything happened */
    bool finds_window;      /* comes out as soon as an interrupt could be taken, not before */
    bool comes_when_called; /* a guest that never leaves by itself comes out when asked to */
    bool shows_shutdown;    /* a triple fault is reported */
    bool works;             /* all of that */
    bool loses_shadow;      /* forgets that the guest was in the shadow of an STI: interrupts that
                               wait for the guest to take them are waited for in software */
};

/* Tries it, in a fraction of a second. 0 when a guest's guest can be run at all; else as making
 * rv_engine_nested fails, and *out is zeroed. */
int rv_nested_probe(struct rv_nested_report *out, struct rv_err *err);

struct rv_nested_counts {
    uint64_t exits;
    struct {
        const char *name; /* NULL: no more */
        uint64_t count;
    } by[24];
    uint64_t told;        /* reads of the clock answered inside the shim, which are no exits */
    uint64_t interpreted; /* instructions */
    uint64_t kicks;       /* times the guest was made to come out */
    uint64_t landmarks;   /* kicks that no trap followed soon */
    uint64_t refused;     /* states that the hardware did not take */
};

/* Of an engine made by rv_engine_nested, since it was made. */
struct rv_nested_counts rv_nested_counts(const struct rv_engine *e);

#endif
