/* The KVM engine: inside view, shared by the files of vmm/cpu/kvm only.
 *
 * Plain instructions (plain.c says which) run on KVM, one KVM_RUN with KVM_GUESTDBG_SINGLESTEP
 * each, so that they can be counted. Everything else is completed by an embedded interpreter: one
 * definition of each instruction. The CPU state lives on one side at a time and moves only when the
 * side changes.
 *
 * What KVM is shown of the guest is the least that plain instructions need: general registers,
 * arithmetic flags, segments and paging. Its IDT is empty, so that an instruction that faults after
 * all ends in KVM_EXIT_SHUTDOWN with nothing changed, instead of in a guest handler that nobody
 * counts; the interpreter then runs it again and takes the fault. */
#ifndef RV_VMM_CPU_KVM_KVM_H
#define RV_VMM_CPU_KVM_KVM_H

#include <Zydis/Zydis.h>
#include <linux/kvm.h>
#include <stdatomic.h>

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/kvm/probe.h"
#include "vmm/cpu/x86.h"

/* ---- vcpu.c: one VM with one virtual CPU ---- */

struct rv_kvm_vcpu {
    int kvm, vm, cpu; /* file descriptors; -1: not open */
    struct kvm_run *run;
    size_t run_size;
    struct kvm_sregs initial; /* as KVM made them: what we do not model is kept */
    struct kvm_sregs loaded;  /* as last given to KVM */
    bool regs_stale;          /* KVM's general registers are not those of the guest */
    bool sregs_stale;         /* `loaded` is not what KVM has */
    bool flush;               /* KVM may hold translations that are no longer the guest's */
};

enum rv_kvm_step {
    RV_KVM_DONE,        /* one instruction retired; x is up to date */
    RV_KVM_INTERRUPTED, /* a signal came first; nothing happened */
    /* A step was reported, but no register changed. Some emulated VMX reports one before the
     * instruction when its page had to be mapped first; a jump to itself looks the same, and for
     * the state it makes no difference. */
    RV_KVM_UNMOVED,
    RV_KVM_FAULTED,   /* it would fault; nothing happened */
    RV_KVM_REFUSED,   /* KVM cannot run this instruction; nothing happened */
    RV_KVM_BAD_STATE, /* KVM cannot run in this state; nothing happened */
};

/* Opens /dev/kvm. RV_E_UNSUPPORTED when there is none that we know, RV_E_HOST when it is refused.
 */
int rv_kvm_open(int *fd, struct rv_err *err);
/* Shows size bytes at host to the guests of vm from address at; nothing when size is 0. flags are
 * KVM_MEM_*. */
int rv_kvm_add_slot(int vm, unsigned slot, uint64_t at, uint8_t *host, uint64_t size,
                    unsigned flags, struct rv_err *err);
/* A virtual CPU and its run area, for the caller to close and unmap, also after an error. */
int rv_kvm_new_cpu(int kvm, int vm, int *cpu, struct kvm_run **run, size_t *run_size,
                   struct rv_err *err);
int rv_kvm_vcpu_init(struct rv_kvm_vcpu *v, struct rv_ram *ram, const struct rv_profile *profile,
                     struct rv_err *err);
void rv_kvm_vcpu_release(struct rv_kvm_vcpu *v);
/* Runs one instruction of the state *x. An enum rv_kvm_step, or negative. */
int rv_kvm_step(struct rv_kvm_vcpu *v, struct rv_x86 *x, struct rv_err *err);

/* ---- walk.c: the guest's page tables, read only ---- */

/* Page-table entries that KVM may have cached translations from, with the values they had. Open
 * addressing; offset UINT64_MAX marks a free slot. */
#define RV_KVM_SEEN 1024u
struct rv_kvm_seen {
    unsigned used;
    unsigned generation; /* counts how often everything was forgotten */
    struct {
        uint64_t offset, value;
    } slot[RV_KVM_SEEN];
};

enum rv_kvm_access { RV_KVM_READ = 0, RV_KVM_WRITE = 1, RV_KVM_FETCH = 2 };

struct rv_kvm;
/* Translates va for an access that neither faults, leaves RAM nor changes a page-table entry (all
 * accessed and dirty bits are set already): true and the offset into RAM. Everything else: false.
 */
bool rv_kvm_walk(struct rv_kvm *k, uint64_t va, enum rv_kvm_access access, uint64_t *offset);
void rv_kvm_forget(struct rv_kvm *k);

/* ---- plain.c: which instructions KVM runs ---- */

#define RV_KVM_WRITES 4
struct rv_kvm_plain {
    ZydisMnemonic mnemonic; /* INVALID when it could not be fetched or decoded */
    bool flushes;           /* drops translations, or changes how they are made */
    bool branch;
    uint64_t next;   /* RIP after it, unless it is a branch */
    unsigned writes; /* RAM it may write: page numbers */
    uint64_t page[RV_KVM_WRITES];
};

/* Looks at the instruction at k->x. True when KVM can run it faithfully; *p is filled as far as the
 * instruction was understood. */
bool rv_kvm_is_plain(struct rv_kvm *k, struct rv_kvm_plain *p);

/* ---- engine.c ---- */

enum rv_kvm_paging {
    RV_KVM_UNPAGED,
    RV_KVM_PAGED_2,
    RV_KVM_PAGED_3,
    RV_KVM_PAGED_4,
    RV_KVM_PAGINGS
};
#define RV_KVM_HOPELESS 8

enum rv_kvm_side { RV_KVM_ON_INTERP, RV_KVM_ON_KVM };

struct rv_kvm {
    struct rv_engine engine;
    struct rv_ram *ram;
    struct rv_cpu_bus *bus;
    struct rv_engine *interp; /* owned */
    enum rv_kvm_side side;
    struct rv_x86 x; /* current when on KVM; a copy that may be stale when on the interpreter */
    bool shutdown;   /* triple fault: the interpreter knows, until set() */
    /* Faults in a row that cannot be the guest's, by kind of paging: some KVMs cannot run a guest
     * in all of them. At RV_KVM_HOPELESS that kind is left to the interpreter. */
    unsigned odd_faults[RV_KVM_PAGINGS];
    bool watched; /* the host watches: the interpreter, which can tell it, runs everything */
    atomic_bool kicked;
    atomic_bool inside; /* the interpreter runs: kicks go there too */
    struct rv_kvm_vcpu v;
    struct rv_kvm_seen seen;
    ZydisDecoder decoder[4];                       /* by enum in plain.c */
    uint8_t refused[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* instructions this KVM cannot run */
    struct rv_kvm_counts counts;
};

void rv_kvm_decoders_init(struct rv_kvm *k);

#endif
