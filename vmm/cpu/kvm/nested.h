/* The nested engine: inside view, shared by the files of vmm/cpu/kvm only.
 *
 * A few instructions of our own, the shim, run as KVM's guest (the hypervisors' L1) and run the
 * real guest (L2) with the processor's own virtualization instructions, which a stock KVM lets its
 * guests use. So user space owns every intercept of the hardware: it fills in the control block
 * that the shim enters the guest with, and sees how the guest came out.
 *
 * Memory as L1 sees it: the shim's own pages from 0, guest RAM in one piece from RV_L1_RAM. The
 * guest reaches its RAM through nested page tables of ours; where they map nothing are its devices.
 */
#ifndef RV_VMM_CPU_KVM_NESTED_H
#define RV_VMM_CPU_KVM_NESTED_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/kvm/probe.h"
#include "vmm/cpu/kvm/shim.h"

/* ---- nested_vm.c: the VM around the shim ---- */

struct rv_nested_vm {
    int kvm, vm, cpu; /* file descriptors; -1: not open */
    struct kvm_run *run;
    size_t run_size;
    uint8_t *shim; /* L1 memory from 0; RV_SHIM_SIZE bytes and the nested page tables */
    size_t shim_size;
    struct rv_ram *ram;
    uint64_t *dirty_log; /* a bit a page */
    /* Of each page in KVM's log: its hash when it was last looked at, and how often it has been the
     * same since. */
    struct rv_logged {
        uint64_t hash;
        uint8_t same;
    } * logged;
    bool logging;         /* KVM keeps that log */
    uint64_t clock_scale; /* ns for a tick of L1's counter, 32.32; 0: not known */
    bool log_by_hand;     /* pages stay in KVM's log until they are cleared */
    void *vendor;         /* what the vendor's half keeps; freed with the rest */
};

int rv_nested_vm_init(struct rv_nested_vm *v, struct rv_ram *ram, struct rv_err *err);
void rv_nested_vm_release(struct rv_nested_vm *v);

/* Maps guest RAM in the nested page tables; type is what the leaf entries hold of memory types.
 * Once, by the vendor's half. */
void rv_nested_map_ram(struct rv_nested_vm *v, uint64_t type);

/* Bytes of L1 memory, for reading and writing through. at is 8-byte aligned and inside the shim. */
static inline void *rv_l1(struct rv_nested_vm *v, uint64_t at) { return v->shim + at; }

int rv_nested_msr(struct rv_nested_vm *v, uint32_t index, uint64_t *value, struct rv_err *err);
int rv_nested_set_msr(struct rv_nested_vm *v, uint32_t index, uint64_t value, struct rv_err *err);
/* Puts L1 in 64-bit mode at the shim's entry. extra bits go into CR4 and EFER. */
int rv_nested_boot(struct rv_nested_vm *v, const void *code, size_t size, uint64_t cr4,
                   uint64_t efer, struct rv_err *err);
/* Runs until the shim leaves through its port. 0; 1 when a signal came first, and the guest may
 * still be inside; negative. */
int rv_nested_run(struct rv_nested_vm *v, struct rv_err *err);
/* Lets the shim answer reads of the clock from the next run on, for a guest in this state.
 * r->host_now is that of this moment. */
void rv_nested_allow_reads(struct rv_nested_vm *v, const struct rv_clock_reads *r,
                           const struct rv_x86 *x);
/* How many it answered since, and the step of guest time in ns of each: valid until the next run.
 */
unsigned rv_nested_reads(struct rv_nested_vm *v, const uint64_t **steps);
/* Makes the guest come out at once when it is entered or inside, and takes that back. */
int rv_nested_interrupt(struct rv_nested_vm *v, bool on, struct rv_err *err);
/* Takes over what FXSAVE64 left: all but the mask of MXCSR, which is the profile's, and the bytes
 * that belong to software. */
void rv_nested_store_fx(struct rv_x86 *x, const uint8_t *saved);
/* Marks in ram->dirty what the guest wrote on hardware since the last call. */
void rv_nested_collect_dirty(struct rv_nested_vm *v);

/* ---- the vendors' halves ---- */

enum rv_nested_exit {
    RV_NESTED_INSN,     /* an instruction to be completed, or faulted, in software */
    RV_NESTED_WINDOW,   /* an external interrupt could be taken */
    RV_NESTED_KICKED,   /* made to come out */
    RV_NESTED_SHUTDOWN, /* triple fault */
    RV_NESTED_REFUSED,  /* the hardware does not take this state */
};

struct rv_nested_ops {
    const char *name; /* "svm", "vmx" */
    bool (*offered)(const struct kvm_cpuid2 *supported);
    /* Once: control structures and shim in place, L1 ready to run. */
    int (*start)(struct rv_nested_vm *v, struct rv_err *err);
    /* The guest's state to and from the control structures. store leaves alone what hardware never
     * changes. flush: translations that hardware may have cached do not count any more. */
    void (*load)(struct rv_nested_vm *v, const struct rv_x86 *x, bool flush);
    void (*store)(struct rv_nested_vm *v, struct rv_x86 *x);
    /* Come out as soon as an external interrupt could be taken. */
    void (*window)(struct rv_nested_vm *v, bool on);
    /* How the guest came out: an enum rv_nested_exit; *why is one of the vendor's codes for
     * statistics and messages. */
    int (*exit)(struct rv_nested_vm *v, uint64_t *why);
    const char *(*exit_name)(uint64_t why);
};

extern const struct rv_nested_ops rv_nested_svm, rv_nested_vmx;

/* Chooses the half that this host's KVM offers to its guests and starts it. RV_E_UNSUPPORTED when
 * there is none, or when the processor lacks something that the profile shows. */
int rv_nested_start(struct rv_nested_vm *v, const struct rv_profile *profile,
                    const struct rv_nested_ops **ops, struct rv_err *err);

/* ---- nested_probe.c ---- */

/* Tries out whether a guest that is entered in the shadow of an STI takes an interrupt before the
 * next instruction nevertheless (APM vol. 2, 15.21.5 has the shadow be loaded). Then it is lost as
 * well when the host itself is interrupted in it, which nobody sees, and a window that such
 * hardware shows may be an instruction early. Errors as rv_nested_start. */
int rv_nested_loses_shadow(bool *loses, struct rv_err *err);

#endif
