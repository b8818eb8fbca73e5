/* The nested engine: runs the guest on hardware between the instructions that have to be seen, and
 * those, with a stretch of what follows them, on an embedded interpreter: one definition of each
 * instruction, and exits that come in clusters cost one. The CPU state lives on one side at a time.
 *
 * It does not count instructions. A kick is answered at the next trap, if the interpreter finds one
 * within a bounded stretch, and between two traps otherwise. */
#include "vmm/cpu/kvm/nested.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/interp/interp.h"
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/run.h"
#include "vmm/cpu/kvm/kvm.h"

/* Instructions interpreted after each trap before the guest goes back to the hardware: going there
 * and coming out again costs more than these. */
#define STRETCH 400
/* The same after an interrupt: Linux takes a tick within these, with half a dozen reads of the
 * clock and the write that sets the next one. */
#define INTERRUPT_STRETCH 3000
/* The same after a kick, in search of a trap: so many instructions at most, in steps, and so long.
 */
#define KICK_STRETCH 20000
#define KICK_STEP    500
#define KICK_NS      200000ull
/* At the end of a search without a trap: instructions whose writes are noted, which is slow, and
 * how many writes are remembered. */
#define NOTE_STEP 40
#define RECENT    16u
/* And when an interrupt waits for the guest to take it, which is mostly about to. */
#define WINDOW_STRETCH 2000
/* And where the hardware refuses the state. */
#define REFUSED_STRETCH 2000

/* Tells the thread that runs the guest that it was kicked; blocked but while the guest runs. */
#define KICK_SIGNAL (SIGRTMIN + 1)

/* Instructions tried until all flags are known to be defined or not. */
#define SETTLE 500

enum side { ON_INTERP, ON_HARDWARE };

struct rv_nested {
    struct rv_engine engine;
    struct rv_ram *ram;
    struct rv_cpu_bus *bus;
    struct rv_engine *interp; /* owned */
    const struct rv_nested_ops *ops;
    struct rv_nested_vm vm;
    struct rv_x86 x;      /* current when on hardware */
    rv_icount stay_until; /* the interpreter's count up to which it goes on */
    enum side side;
    bool shutdown;
    bool watching;     /* somebody watches: all is interpreted */
    bool loses_shadow; /* the hardware does: windows are looked for on the interpreter alone */
    bool flush;        /* hardware may hold translations that do not count any more */
    bool searching;    /* a kick is being answered: until search_until a trap is hoped for */
    bool noting;       /* what the guest writes is noted */
    bool has_thread;
    atomic_bool kicked, inside, entered;
    rv_icount search_until;
    uint64_t search_end; /* ns, CLOCK_MONOTONIC */
    /* Then, instructions until it is known of every arithmetic flag whether it is defined, or too
     * many. */
    unsigned settling;           /* tried so far */
    uint32_t defined, undefined; /* those of which it is known */
    unsigned written;            /* entries of writes[] so far */
    struct flags {
        uint32_t defined, undefined; /* by the next instruction */
        uint32_t lost;               /* after it, nothing is known of these */
        uint64_t next;               /* where it ends; 0: it may go anywhere */
    } next;
    rv_gpa writes[RECENT]; /* the last ones, as a ring */
    struct rv_watch all;
    pthread_t thread;            /* that run() was last called on */
    struct rv_clock_reads reads; /* what is left of what was allowed */
    uint64_t reads_at;           /* wall() of reads.host_now */
    struct rv_nested_counts counts;
    ZydisDecoder decoder;
};

static struct rv_nested *of(struct rv_engine *e) {
    return (struct rv_nested *)((char *)e - offsetof(struct rv_nested, engine));
}

/* ---- sides ---- */

static void to_interp(struct rv_nested *n) {
    if (n->side == ON_INTERP) return;
    n->side = ON_INTERP;
    rv_interp_resume(n->interp, &n->x);
}

static void to_hardware(struct rv_nested *n) {
    if (n->side == ON_HARDWARE) return;
    n->interp->ops->get(n->interp, &n->x);
    n->side = ON_HARDWARE;
    /* What the interpreter wrote to page tables without having them dropped, hardware need not know
     * either. */
    n->flush |= rv_interp_dropped(n->interp);
}

static rv_icount interp_count(struct rv_nested *n) { return n->interp->ops->icount(n->interp); }

static void stay(struct rv_nested *n, rv_icount instructions) {
    n->stay_until = interp_count(n) + instructions;
}

static void stay_at_least(struct rv_nested *n, rv_icount instructions) {
    if (n->stay_until < interp_count(n) + instructions) stay(n, instructions);
}

/* Something is due before the next instruction, or lasts for it alone, or shows on hardware. */
static bool unusual(const struct rv_x86 *x) {
    return x->halted || x->pending_db || x->nmi_pending || x->nmi_blocked || x->sti_shadow ||
           x->movss_shadow || (x->dr7 & 0xff);
}

/* ---- kicks ---- */

/* For two things that do not reach the guest unrecorded: how long a search may last, of which the
 * end is recorded, and how old the time is that the machine allowed the shim to go by; what the
 * shim makes of it is told by took(). */
static uint64_t wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * RV_NSEC + (uint64_t)t.tv_nsec;
}

static int listen(struct rv_nested *n, struct rv_err *err) {
    pthread_t self = pthread_self();
    if (n->has_thread && pthread_equal(n->thread, self)) return 0;
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, KICK_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &set, &now);
    sigdelset(&now, KICK_SIGNAL);
    /* The kernel's mask of 64 signals follows the head. */
    _Alignas(struct kvm_signal_mask) uint8_t mask[sizeof(struct kvm_signal_mask) + 8];
    ((struct kvm_signal_mask *)mask)->len = 8;
    memcpy(((struct kvm_signal_mask *)mask)->sigset, &now, 8);
    if (ioctl(n->vm.cpu, KVM_SET_SIGNAL_MASK, mask))
        return rv_fail_errno(err, RV_E_HOST, "KVM does not take a signal mask");
    n->thread = self;
    n->has_thread = true;
    return 0;
}

static void drain_signal(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, KICK_SIGNAL);
    struct timespec none = {0};
    while (sigtimedwait(&set, NULL, &none) > 0) {}
}

static void nested_kick(struct rv_engine *e) {
    struct rv_nested *n = of(e);
    atomic_store(&n->kicked, true);
    if (atomic_load(&n->inside)) n->interp->ops->kick(n->interp);
    if (atomic_load(&n->entered)) {
        *(volatile uint8_t *)&n->vm.run->immediate_exit = 1;
        pthread_kill(n->thread, KICK_SIGNAL);
    }
}

/* ---- running ---- */

static int interp_run(struct rv_nested *n, rv_icount until, bool want_window, struct rv_err *err) {
    atomic_store(&n->inside, true);
    /* A kick either finds `inside` set or is found here. */
    if (atomic_load(&n->kicked)) n->interp->ops->kick(n->interp);
    rv_icount from = interp_count(n);
    int r = n->interp->ops->run(n->interp, until, want_window, err);
    atomic_store(&n->inside, false);
    n->counts.interpreted += interp_count(n) - from;
    if (r == RV_RUN_TRIPLE_FAULT) n->shutdown = true;
    return r;
}

/* Lets the shim tell the guest the time. */
static void allow(struct rv_nested *n) {
    struct rv_clock_reads r = n->reads;
    r.host_now += wall() - n->reads_at;
    rv_nested_allow_reads(&n->vm, &r, &n->x);
}

/* Tells the machine what the shim told the guest, before anything else that happened. */
static void tell(struct rv_nested *n) {
    const uint64_t *step;
    unsigned told = rv_nested_reads(&n->vm, &step);
    for (unsigned i = 0; i < told; i++) {
        n->reads.now += step[i];
        n->bus->took(n->bus->ctx, step[i]);
    }
    n->reads.max -= told;
    n->counts.told += told;
}

/* Runs the guest on hardware until it comes out. */
static int enter(struct rv_nested *n, bool want_window, uint64_t *why, struct rv_err *err) {
    struct rv_nested_vm *v = &n->vm;
    n->ops->load(v, &n->x, n->flush);
    n->ops->window(v, want_window);
    n->flush = false;
    allow(n);
    atomic_store(&n->entered, true);
    bool asked = false;
    int r;
    for (;;) {
        if (atomic_load(&n->kicked) && !asked) {
            asked = true;
            r = rv_nested_interrupt(v, true, err);
            if (r) break;
        }
        r = rv_nested_run(v, err);
        v->run->immediate_exit = 0;
        if (r <= 0) break;
        drain_signal();
    }
    atomic_store(&n->entered, false);
    if (asked && !r) r = rv_nested_interrupt(v, false, err);
    if (r) return r;
    tell(n);
    int kind = n->ops->exit(v, why);
    if (kind != RV_NESTED_REFUSED) n->ops->store(v, &n->x);
    return kind;
}

static void count(struct rv_nested *n, uint64_t why) {
    struct rv_nested_counts *c = &n->counts;
    c->exits++;
    const char *name = n->ops->exit_name(why);
    for (unsigned i = 0; i < RV_COUNT(c->by); i++) {
        if (!c->by[i].name) c->by[i].name = name;
        if (c->by[i].name == name) {
            c->by[i].count++;
            return;
        }
    }
}

static int on_hardware(struct rv_nested *n, bool want_window, struct rv_err *err) {
    uint64_t why = 0;
    int kind = enter(n, want_window, &why, err);
    if (kind < 0) return kind;
    count(n, why);
    switch (kind) {
    case RV_NESTED_WINDOW: return RV_RUN_WINDOW;
    case RV_NESTED_SHUTDOWN: n->shutdown = true; return RV_RUN_TRIPLE_FAULT;
    case RV_NESTED_REFUSED:
        n->counts.refused++;
        to_interp(n);
        stay(n, REFUSED_STRETCH);
        return RV_RUN_UNTIL;
    default:
        to_interp(n);
        stay(n, STRETCH);
        return RV_RUN_UNTIL;
    }
}

static bool note_write(void *ctx, const struct rv_watch_hit *hit) {
    struct rv_nested *n = ctx;
    n->writes[n->written++ % RECENT] = hit->gpa & ~7ull;
    return false;
}

/* What the last instructions before a landmark write helps to find it again. */
static void note_writes(struct rv_nested *n, bool on) {
    static const struct rv_watchpoint everywhere = {
        .addr = 0, .len = UINT64_MAX, .access = RV_WATCH_WRITE, .physical = true};
    if (n->noting == on || n->watching) return;
    n->noting = on;
    n->all = (struct rv_watch){.point = &everywhere, .n = 1, .hit = note_write, .ctx = n};
    if (on) n->written = 0;
    n->interp->ops->watch(n->interp, on ? &n->all : NULL);
}

static unsigned nested_recent_writes(struct rv_engine *e, rv_gpa *gpa, unsigned max) {
    struct rv_nested *n = of(e);
    unsigned found = 0, have = n->written < RECENT ? n->written : RECENT;
    for (unsigned i = 1; i <= have && found < max; i++) {
        rv_gpa at = n->writes[(n->written - i) % RECENT];
        bool known = false;
        for (unsigned k = 0; k < found; k++) known |= gpa[k] == at;
        if (!known) gpa[found++] = at;
    }
    return found;
}

static void end_search(struct rv_nested *n) {
    n->searching = false;
    n->settling = 0;
    note_writes(n, false);
}

/* A kick came: hopes for a trap within a stretch of interpreted instructions. */
static void search(struct rv_nested *n) {
    atomic_store(&n->kicked, false);
    to_interp(n);
    n->searching = true;
    n->settling = 0;
    n->search_until = interp_count(n) + KICK_STRETCH;
    n->search_end = wall() + KICK_NS;
    n->counts.kicks++;
}

/* What an instruction makes of the arithmetic flags, as the manual has it. */
static struct flags flags_of(const ZydisDecodedInstruction *z, uint64_t next) {
    const ZydisAccessedFlags *f = z->cpu_flags;
    struct flags r = {.next = next};
    if (!f) return r;
    /* Zydis numbers them as RFLAGS does. */
    r.undefined = f->undefined & RV_FL_ARITH;
    r.defined = (f->modified | f->set_0 | f->set_1) & RV_FL_ARITH & ~r.undefined;
    uint32_t touched = r.defined | r.undefined;
    bool repeats = z->attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    bool shifts =
        z->meta.category == ZYDIS_CATEGORY_SHIFT || z->meta.category == ZYDIS_CATEGORY_ROTATE;
    if (shifts && touched) {
        /* By zero they leave the flags alone, by one OF is defined (SDM vol. 2). */
        bool by_imm = z->raw.imm[0].size != 0;
        unsigned by = (unsigned)z->raw.imm[0].value.u & (z->operand_width == 64 ? 63 : 31);
        bool by_one = by_imm ? by == 1 : (z->opcode & 0xfe) == 0xd0;
        bool narrow = z->operand_width < 32;
        if (by_imm ? by == 0 || (narrow && by > 1) : !by_one) {
            r.defined = r.undefined = 0;
            r.lost = touched;
        } else if (by_one) {
            r.undefined &= ~(uint32_t)RV_FL_OF;
            r.defined |= RV_FL_OF;
        }
    } else if (repeats && z->meta.category == ZYDIS_CATEGORY_STRINGOP) {
        /* No comparison at all leaves them alone. */
        r.defined = r.undefined = 0;
        r.lost = touched;
    } else if (z->meta.category == ZYDIS_CATEGORY_SYSCALL ||
               z->meta.category == ZYDIS_CATEGORY_SYSRET ||
               (z->meta.category == ZYDIS_CATEGORY_RET && touched)) {
        /* Goes elsewhere with other flags. */
        r.defined = r.undefined = 0;
        r.lost = RV_FL_ARITH;
        r.next = 0;
    }
    return r;
}

/* The same of the next instruction. */
static struct flags flags_next(struct rv_nested *n) {
    const struct rv_x86 *x = &n->x;
    const struct flags unknown = {.lost = RV_FL_ARITH};
    uint64_t pa;
    if (!rv_mmu_try_fetch(rv_interp_of(n->interp), x->rip, &pa)) return unknown;
    uint64_t at = rv_ram_offset(n->ram, pa), room = RV_PAGE_SIZE - (pa & ~RV_PAGE_MASK);
    if (at == UINT64_MAX) return unknown;
    ZydisDecodedInstruction z;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
            &n->decoder, NULL, n->ram->host + at,
            room < ZYDIS_MAX_INSTRUCTION_LENGTH ? room : ZYDIS_MAX_INSTRUCTION_LENGTH, &z)))
        return unknown;
    return flags_of(&z, x->rip + z.length);
}

/* The instruction that was looked at has run, or faulted, which leaves these flags alone as
 * branches do. */
static void flags_ran(struct rv_nested *n) {
    const struct flags *f = &n->next;
    if (f->next && f->next != n->x.rip) return;
    n->defined = (n->defined | f->defined) & ~(f->undefined | f->lost);
    n->undefined = (n->undefined | f->undefined) & ~(f->defined | f->lost);
}

/* Whether the guest stands where a landmark can be, where it is known of every arithmetic flag
 * whether it is defined: processors differ in those that are not, and a landmark is looked for on
 * others. Else it has to go on by one instruction. 64-bit code only: elsewhere landmarks are taken
 * as they come. */
static bool settled(struct rv_nested *n) {
    bool code64 = (n->x.efer & RV_EFER_LMA) && (n->x.seg[RV_CS].attr & RV_SEG_L);
    if (n->settling)
        flags_ran(n);
    else
        n->defined = n->undefined = 0;
    if ((n->defined | n->undefined) == RV_FL_ARITH || n->settling > SETTLE || !code64) {
        n->settling = 0;
        return true;
    }
    n->next = flags_next(n);
    n->settling++;
    return false;
}

static uint32_t nested_undefined_flags(struct rv_engine *e) { return of(e)->undefined; }

static int on_interp(struct rv_nested *n, bool want_window, struct rv_err *err) {
    rv_icount now = interp_count(n), until = n->stay_until;
    if (n->searching) until = now + (n->settling ? 1 : n->noting ? NOTE_STEP : KICK_STEP);
    int r = interp_run(n, until > now ? until : now + 1, want_window, err);
    if (r == RV_RUN_KICKED) {
        search(n);
        return RV_RUN_UNTIL;
    }
    if (r == RV_RUN_ATTENTION || r == RV_RUN_HALTED) end_search(n);
    if (r == RV_RUN_ATTENTION) stay_at_least(n, STRETCH);
    if (r != RV_RUN_UNTIL) return r;
    n->interp->ops->get(n->interp, &n->x);
    /* A trap by the last instruction is answered first. */
    if (unusual(&n->x) || n->bus->attention || interp_count(n) < until) return RV_RUN_UNTIL;
    if (n->searching) {
        if (!n->noting && !n->settling) {
            if (interp_count(n) < n->search_until && wall() < n->search_end) return RV_RUN_UNTIL;
            note_writes(n, true);
            if (n->noting) return RV_RUN_UNTIL;
        }
        if (!settled(n)) return RV_RUN_UNTIL;
        end_search(n);
        n->counts.landmarks++;
        stay(n, 0);
        return RV_RUN_KICKED;
    }
    if (want_window && n->loses_shadow)
        stay(n, WINDOW_STRETCH);
    else if (!n->watching)
        to_hardware(n);
    return RV_RUN_UNTIL;
}

static int nested_run(struct rv_engine *e, rv_icount until, bool want_window, struct rv_err *err) {
    (void)until;
    struct rv_nested *n = of(e);
    int r = listen(n, err);
    if (r) return r;
    if (n->shutdown) return RV_RUN_TRIPLE_FAULT;
    if (want_window) {
        to_interp(n);
        stay_at_least(n, WINDOW_STRETCH);
    }
    for (;;) {
        if (atomic_load(&n->kicked) && !n->searching) search(n);
        r = n->side == ON_INTERP ? on_interp(n, want_window, err)
                                 : on_hardware(n, want_window, err);
        if (r != RV_RUN_UNTIL) return r;
    }
}

static void look(struct rv_nested *n) {
    if (n->side == ON_INTERP) n->interp->ops->get(n->interp, &n->x);
}

static bool nested_interruptible(struct rv_engine *e) {
    struct rv_nested *n = of(e);
    look(n);
    return (n->x.rflags & RV_FL_IF) && !n->x.sti_shadow && !n->x.movss_shadow && !n->x.pending_db;
}

static int nested_inject(struct rv_engine *e, unsigned vector, struct rv_err *err) {
    struct rv_nested *n = of(e);
    to_interp(n);
    stay(n, INTERRUPT_STRETCH);
    return n->interp->ops->inject(n->interp, vector, err);
}

static void nested_nmi(struct rv_engine *e) {
    struct rv_nested *n = of(e);
    to_interp(n);
    n->interp->ops->nmi(n->interp);
}

static rv_icount nested_icount(struct rv_engine *e) { return interp_count(of(e)); }

static void nested_get(struct rv_engine *e, struct rv_x86 *out) {
    struct rv_nested *n = of(e);
    look(n);
    *out = n->x;
}

static int nested_set(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err) {
    struct rv_nested *n = of(e);
    n->side = ON_INTERP;
    n->shutdown = false;
    end_search(n);
    n->flush = true;
    int r = n->interp->ops->set(n->interp, in, err);
    stay(n, 0);
    return r;
}

static int nested_restore(struct rv_engine *e, const struct rv_x86 *in, struct rv_err *err) {
    struct rv_nested *n = of(e);
    if (n->side != ON_INTERP) return nested_set(e, in, err);
    n->shutdown = false;
    end_search(n);
    n->flush = true;
    return n->interp->ops->restore(n->interp, in, err);
}

static void nested_watch(struct rv_engine *e, const struct rv_watch *w) {
    struct rv_nested *n = of(e);
    end_search(n);
    n->watching = w;
    if (w) to_interp(n);
    n->interp->ops->watch(n->interp, w);
}

static void nested_reads(struct rv_engine *e, const struct rv_clock_reads *r) {
    struct rv_nested *n = of(e);
    n->reads = *r;
    n->reads_at = wall();
}

struct rv_nested_counts rv_nested_counts(const struct rv_engine *e) {
    rv_assert(e->ops == &rv_engine_nested);
    return ((const struct rv_nested *)((const char *)e - offsetof(struct rv_nested, engine)))
        ->counts;
}

/* ---- life ---- */

static void collect(void *ctx) { rv_nested_collect_dirty(&((struct rv_nested *)ctx)->vm); }

static void nested_destroy(struct rv_engine *e) {
    struct rv_nested *n = of(e);
    if (n->ram->collect_ctx == n) n->ram->collect = NULL;
    if (n->interp) n->interp->ops->destroy(n->interp);
    rv_nested_vm_release(&n->vm);
    free(n);
}

static int nested_create(struct rv_engine **out, struct rv_ram *ram, struct rv_cpu_bus *bus,
                         const struct rv_profile *profile, struct rv_err *err) {
    struct rv_nested *n = rv_alloc(sizeof *n);
    n->engine.ops = &rv_engine_nested;
    ZydisDecoderInit(&n->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    n->ram = ram;
    n->bus = bus;
    int r = rv_nested_vm_init(&n->vm, ram, err);
    if (!r) r = rv_nested_start(&n->vm, profile, &n->ops, err);
    if (!r) r = rv_nested_loses_shadow(&n->loses_shadow, err);
    if (!r) r = rv_engine_interpret.create(&n->interp, ram, bus, profile, err);
    if (r) {
        nested_destroy(&n->engine);
        return r;
    }
    ram->collect = collect;
    ram->collect_ctx = n;
    *out = &n->engine;
    return 0;
}

const struct rv_engine_ops rv_engine_nested = {
    .name = "kvm-nested",
    .counts = false,
    .create = nested_create,
    .destroy = nested_destroy,
    .run = nested_run,
    .interruptible = nested_interruptible,
    .inject = nested_inject,
    .nmi = nested_nmi,
    .icount = nested_icount,
    .get = nested_get,
    .set = nested_set,
    .restore = nested_restore,
    .watch = nested_watch,
    .recent_writes = nested_recent_writes,
    .undefined_flags = nested_undefined_flags,
    .reads = nested_reads,
    .kick = nested_kick,
};
