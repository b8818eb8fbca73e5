/* The engine's loop: decide for each instruction whether KVM or the interpreter runs it, move the
 * state to that side if it is not there, run it, count it. */
#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/kvm/kvm.h"

static struct rv_kvm *of(struct rv_engine *e) {
    return (struct rv_kvm *)((char *)e - offsetof(struct rv_kvm, engine));
}

/* ---- sides ---- */

static int to_interp(struct rv_kvm *k, struct rv_err *err) {
    if (k->side == RV_KVM_ON_INTERP) return 0;
    k->counts.moves++;
    /* set() also makes it drop decoded code and translations, which KVM may have changed. */
    int r = k->interp->ops->set(k->interp, &k->x, err);
    if (!r) k->side = RV_KVM_ON_INTERP;
    return r;
}

static void to_kvm(struct rv_kvm *k) {
    if (k->side == RV_KVM_ON_KVM) return;
    k->side = RV_KVM_ON_KVM; /* k->x is current: look() fetched it */
    k->v.regs_stale = true;
}

/* Makes k->x current. */
static void look(struct rv_kvm *k) {
    if (k->side == RV_KVM_ON_INTERP) k->interp->ops->get(k->interp, &k->x);
}

/* Something is due before the next instruction, or lasts for it alone. */
static bool unusual(const struct rv_kvm *k) {
    const struct rv_x86 *x = &k->x;
    return k->shutdown || x->halted || x->pending_db || x->nmi_pending || x->sti_shadow ||
           x->movss_shadow;
}

static void kick_seen(struct rv_kvm *k) {
    atomic_store(&k->kicked, false);
    k->v.run->immediate_exit = 0;
}

static int interp_run(struct rv_kvm *k, rv_icount until, bool want_window, struct rv_err *err) {
    int r = to_interp(k, err);
    if (r) return r;
    atomic_store(&k->inside, true);
    /* A kick either finds `inside` set or is found here. */
    if (atomic_load(&k->kicked)) k->interp->ops->kick(k->interp);
    r = k->interp->ops->run(k->interp, until, want_window, err);
    atomic_store(&k->inside, false);
    if (r == RV_RUN_KICKED || r == RV_RUN_STUCK) kick_seen(k);
    if (r == RV_RUN_TRIPLE_FAULT) k->shutdown = true;
    return r;
}

/* ---- running ---- */

static enum rv_kvm_paging paging(const struct rv_x86 *x) {
    if (!(x->cr0 & RV_CR0_PG)) return RV_KVM_UNPAGED;
    if (x->efer & RV_EFER_LMA) return RV_KVM_PAGED_4;
    return x->cr4 & RV_CR4_PAE ? RV_KVM_PAGED_3 : RV_KVM_PAGED_2;
}

/* Of the plain instructions, only divisions can fault. */
static bool may_fault(ZydisMnemonic m) {
    return m == ZYDIS_MNEMONIC_DIV || m == ZYDIS_MNEMONIC_IDIV;
}

/* One instruction on KVM. 1: done or nothing happened, look again; 0: the interpreter has to do it;
 * negative: error. */
static int kvm_step(struct rv_kvm *k, const struct rv_kvm_plain *p, struct rv_err *err) {
    to_kvm(k);
    uint64_t at = k->x.rip;
    int r = rv_kvm_step(&k->v, &k->x, err);
    switch (r) {
    case RV_KVM_DONE:
        for (unsigned n = 0; n < p->writes; n++) k->ram->dirty[p->page[n]] = 1;
        if (!p->branch && k->x.rip != p->next)
            return rv_fail(err, RV_E_HOST,
                           "KVM went from rip 0x%llx to 0x%llx in one step; use --engine interpret",
                           (unsigned long long)at, (unsigned long long)k->x.rip);
        k->odd_faults[paging(&k->x)] = 0;
        k->x.icount++;
        k->counts.stepped++;
        return 1;
    case RV_KVM_INTERRUPTED: return 1;
    case RV_KVM_UNMOVED: return 0; /* the state is that before the instruction either way */
    case RV_KVM_FAULTED:
        if (!may_fault(p->mnemonic)) k->odd_faults[paging(&k->x)]++;
        k->counts.faulted++;
        return 0;
    case RV_KVM_REFUSED:
    case RV_KVM_BAD_STATE:
        if (r == RV_KVM_REFUSED) k->refused[p->mnemonic] = 1;
        k->counts.refused++;
        return 0;
    default: return r;
    }
}

static int kvm_run(struct rv_engine *e, rv_icount until, bool want_window, struct rv_err *err) {
    struct rv_kvm *k = of(e);
    look(k);
    if (until < k->x.icount)
        return rv_fail(err, RV_E_BUG, "asked to run to instruction %llu from %llu",
                       (unsigned long long)until, (unsigned long long)k->x.icount);
    if (k->watched) {
        int r = interp_run(k, until, want_window, err);
        look(k);
        return r;
    }
    for (;;) {
        struct rv_kvm_plain p = {.mnemonic = ZYDIS_MNEMONIC_INVALID};
        if (!unusual(k)) {
            /* In the order in which the interpreter looks at them between two instructions. */
            if (atomic_load(&k->kicked)) {
                kick_seen(k);
                return RV_RUN_KICKED;
            }
            if (k->bus->attention) {
                k->bus->attention = false;
                return RV_RUN_ATTENTION;
            }
            if (want_window && (k->x.rflags & RV_FL_IF)) return RV_RUN_WINDOW;
            if (k->x.icount == until) return RV_RUN_UNTIL;
            if (rv_kvm_is_plain(k, &p) && k->odd_faults[paging(&k->x)] < RV_KVM_HOPELESS) {
                int r = kvm_step(k, &p, err);
                if (r < 0) return r;
                if (r) continue;
            }
        }
        rv_icount next = k->x.icount + (k->x.icount != until);
        if (p.flushes) rv_kvm_forget(k);
        int r = interp_run(k, next, want_window, err);
        look(k);
        if (r != RV_RUN_UNTIL) return r;
        k->counts.helped++;
        if (k->x.icount == until) return RV_RUN_UNTIL;
    }
}

static bool kvm_interruptible(struct rv_engine *e) {
    struct rv_kvm *k = of(e);
    look(k);
    return (k->x.rflags & RV_FL_IF) && !k->x.sti_shadow && !k->x.movss_shadow && !k->x.pending_db;
}

static int kvm_inject(struct rv_engine *e, unsigned vector, struct rv_err *err) {
    struct rv_kvm *k = of(e);
    int r = to_interp(k, err);
    return r ? r : k->interp->ops->inject(k->interp, vector, err);
}

static void kvm_nmi(struct rv_engine *e) {
    struct rv_kvm *k = of(e);
    if (k->side == RV_KVM_ON_INTERP)
        k->interp->ops->nmi(k->interp);
    else
        k->x.nmi_pending = 1;
}

static rv_icount kvm_icount(struct rv_engine *e) {
    struct rv_kvm *k = of(e);
    return k->side == RV_KVM_ON_INTERP ? k->interp->ops->icount(k->interp) : k->x.icount;
}

static void kvm_get(struct rv_engine *e, struct rv_x86 *out) {
    struct rv_kvm *k = of(e);
    look(k);
    *out = k->x;
}

static int kvm_set(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err) {
    struct rv_kvm *k = of(e);
    int r = k->interp->ops->set(k->interp, in, err);
    if (r) return r;
    k->side = RV_KVM_ON_INTERP;
    k->shutdown = false;
    /* RAM may be another's too: nothing that KVM has cached counts. */
    rv_kvm_forget(k);
    return 0;
}

static void kvm_watch(struct rv_engine *e, const struct rv_watch *w) {
    struct rv_kvm *k = of(e);
    k->watched = w;
    k->interp->ops->watch(k->interp, w);
}

/* KVM_RUN ends at once while immediate_exit is set (4.10, KVM_RUN). It is set before `kicked`,
 * which is what clears it: the other way round it could stay set for ever. */
static void kvm_kick(struct rv_engine *e) {
    struct rv_kvm *k = of(e);
    *(volatile uint8_t *)&k->v.run->immediate_exit = 1;
    atomic_store(&k->kicked, true);
    if (atomic_load(&k->inside)) k->interp->ops->kick(k->interp);
}

struct rv_kvm_counts rv_kvm_counts(const struct rv_engine *e) {
    rv_assert(e->ops == &rv_engine_kvm);
    return ((const struct rv_kvm *)((const char *)e - offsetof(struct rv_kvm, engine)))->counts;
}

/* ---- life ---- */

static void kvm_destroy(struct rv_engine *e) {
    struct rv_kvm *k = of(e);
    if (k->interp) k->interp->ops->destroy(k->interp);
    rv_kvm_vcpu_release(&k->v);
    free(k);
}

static int kvm_create(struct rv_engine **out, struct rv_ram *ram, struct rv_cpu_bus *bus,
                      const struct rv_profile *profile, struct rv_err *err) {
    if (profile->v3)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "engine kvm-direct does not offer CPU profile %s; take --engine translate",
                       profile->name);
    struct rv_kvm *k = rv_alloc(sizeof *k);
    k->engine.ops = &rv_engine_kvm;
    k->ram = ram;
    k->bus = bus;
    rv_kvm_decoders_init(k);
    int r = rv_kvm_vcpu_init(&k->v, ram, profile, err);
    if (!r) r = rv_engine_interpret.create(&k->interp, ram, bus, profile, err);
    if (r) {
        kvm_destroy(&k->engine);
        return r;
    }
    rv_kvm_forget(k);
    *out = &k->engine;
    return 0;
}

const struct rv_engine_ops rv_engine_kvm = {
    .name = "kvm-direct",
    .counts = true,
    .create = kvm_create,
    .destroy = kvm_destroy,
    .run = kvm_run,
    .interruptible = kvm_interruptible,
    .inject = kvm_inject,
    .nmi = kvm_nmi,
    .icount = kvm_icount,
    .get = kvm_get,
    .set = kvm_set,
    .restore = kvm_set,
    .watch = kvm_watch,
    .kick = kvm_kick,
};
