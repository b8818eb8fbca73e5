/* The reference CPU: inside view, shared by the files of vmm/cpu/interp only.
 *
 * Guest code is decoded once into blocks of struct rv_insn (block.c, decode*.c), each of which
 * holds the function that executes it. A block is straight-line code inside one page; its functions
 * call each other in turn through rv_next() (the compiler makes jumps of these calls) and the last
 * one returns to the dispatcher in run.c, which finds the next block.
 *
 * Rules that every operation keeps:
 *  - It raises (rv_raise, or any memory access that faults) before it changes any state, so that a
 *    faulting instruction can simply be run again. Raising leaves by longjmp to run.c.
 *  - Registers of the guest are current in c->x at every moment, except rip, icount and the
 *    arithmetic flags: rip and icount are those of the block's start and end while inside a block
 *    (see rv_insn_rip, rv_sync), the flags live in c->fl.
 *  - An operation that may change what follows it (mode, segments, page tables, interrupts) is the
 *    last of its block: decode marks it RV_I_END and it leaves with rv_end() or by setting rip.
 *
 * Address translation is coherent: the engine behaves as a CPU without a TLB would. Cached
 * translations are dropped when the page-table entries they came from are written (mmu.c), so that
 * results never depend on which translations happened to be cached. */
#ifndef RV_VMM_CPU_INTERP_INTERP_H
#define RV_VMM_CPU_INTERP_INTERP_H

#include <setjmp.h>
#include <stdatomic.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/x86.h"

struct rv_interp;
struct rv_insn;
typedef void (*rv_op)(struct rv_interp *c, const struct rv_insn *i);

/* How the memory operand's address is formed. */
enum rv_ea_kind {
    RV_EA_FLAT = 0, /* 64-bit mode, 64-bit addresses, no segment base */
    RV_EA_BASE = 1, /* 64-bit mode with FS or GS, or 32-bit addresses */
    RV_EA_SEG = 2,  /* every other mode: segment limits and types are checked */
};

enum rv_insn_flag {
    RV_I_SS = 1,    /* the memory operand defaults to the stack segment: #SS instead of #GP */
    RV_I_REP = 4,   /* F3 on a string instruction */
    RV_I_REPNE = 8, /* F2 on a string instruction */
    RV_I_END = 16,  /* last of its block */
};

/* One decoded instruction. */
struct rv_insn {
    rv_op op;
    union {
        uint64_t imm;    /* immediate, or the target of a direct branch */
        const void *aux; /* of the operation's own choosing */
    };
    int64_t disp;         /* displacement; RIP-relative ones are absolute already */
    uint16_t r1, r2;      /* register operands, byte offsets into struct rv_interp */
    uint16_t base, index; /* likewise; c->zero when absent */
    uint8_t scale;        /* shift count */
    uint8_t seg;          /* enum rv_sreg of the memory operand */
    uint8_t ea;           /* enum rv_ea_kind */
    uint8_t flags;        /* enum rv_insn_flag */
    uint8_t size;         /* operand size in bytes */
    uint8_t asize;        /* address size in bytes: 2, 4, 8 */
    uint8_t len;          /* of the instruction, bytes */
    uint8_t ext;          /* of the operation's own choosing */
    uint16_t off;         /* from the block's start, bytes */
    uint8_t at;           /* which of the block's instructions this is, from 0 */
    uint16_t open;        /* arithmetic flags, as in struct rv_interp, that become 0 */
};

/* Which of the caches an access uses; chosen by privilege when that changes (rv_mmu_mode). */
enum rv_tlb_set {
    RV_TLB_USER,
    RV_TLB_KERNEL,    /* supervisor; SMAP keeps user pages out */
    RV_TLB_KERNEL_AC, /* supervisor with user pages allowed: SMAP off or EFLAGS.AC */
    RV_TLB_NEVER,     /* always empty: data breakpoints or alignment checks watch every access */
    RV_TLB_SETS
};

#define RV_BLOCK_INSNS 64

/* How a block ends. */
enum rv_flow { RV_FLOW_ON, RV_FLOW_CALL, RV_FLOW_RETURN, RV_FLOW_FAR = 4 /* with one of both */ };

/* An element of the list of blocks that have bytes in a page. */
struct rv_block_link {
    struct rv_block *block;
    struct rv_block_link *next;
};

struct rv_block {
    /* What looking for a block reads, in one line of the host's cache. */
    uint64_t va, pa; /* linear and physical address of the first byte */
    struct rv_block *hash_next;
    const uint8_t *code[RV_TLB_SETS]; /* its translation for each set, or NULL: vmm/cpu/xlate's */
    uint32_t mode;                    /* c->mode it was decoded for */
    bool crosses;                     /* one instruction over two pages */
    bool dead;                        /* invalidated; freed when no longer running */
    uint16_t n;                       /* instructions, not counting the closing rv_op_block_end */
    uint16_t len;                     /* bytes */
    uint64_t pa2;   /* physical page of the tail when the only instruction crosses a page */
    bool watched;   /* the host watches the first instruction: insn[0].op is rv_op_watched */
    uint8_t flow;   /* how it ends: enum rv_flow */
    bool plain;     /* not to be translated: it is not worth it, or not possible */
    bool no_window; /* its stack is where none can be, again and again */
    uint8_t heat;   /* how often it was interpreted where it could have been translated, */
    uint8_t ahead;  /* and how often it went on to what lies behind it then */
    rv_op first_op; /* watched: what insn[0].op stands for */
    /* Where this block went last: [1] to the instruction behind it, [0] elsewhere. Counts while
     * epoch is the cache's, that is, no block was forgotten since. */
    struct rv_chain {
        uint64_t va;
        uint64_t epoch;
        struct rv_block *to;
    } chain[2];
    struct rv_block_link in_page[2]; /* in its page's list, and its tail's: they may be one */
    struct rv_block *linear_next, **linear_at;   /* among those that begin in this linear page */
    struct rv_block *watched_next, **watched_at; /* among the watched ones */
    struct rv_block *all_next, **all_at;         /* among all */
    struct rv_tb *tb[RV_TLB_SETS];               /* more about its translations */
    struct rv_part *part_of;                     /* translations that begin with another block */
    uint32_t number[2]; /* what it is counted under, [1] in user mode; 0: none yet */
    uint32_t trust;     /* c->trust when its bytes were last known to be these */
    uint8_t *bytes;     /* what it was decoded from, behind insn; NULL: not kept */
    struct rv_insn insn[];
};

/* Translation cache: direct mapped, apart for reading, writing and fetching. tag is the page's
 * linear address negated, because translated code can add without touching the flags but cannot
 * subtract or compare. An empty entry carries the tag of a page that belongs to another entry, and
 * is no neighbour's either. */
#define RV_TLB_BITS 11
#define RV_TLB_SIZE (1u << RV_TLB_BITS)

struct rv_tlbe {
    uint64_t tag;
    uint64_t addend; /* read, write: host address - linear address; fetch: physical page */
};

static inline uint64_t rv_tlb_empty(uint64_t n) {
    return 0 - ((n ^ RV_TLB_SIZE / 2) << RV_PAGE_SHIFT);
}
static inline struct rv_tlbe *rv_tlb_at(struct rv_tlbe *table, uint64_t va) {
    return &table[(va >> RV_PAGE_SHIFT) & (RV_TLB_SIZE - 1)];
}
static inline bool rv_tlb_hit(const struct rv_tlbe *e, uint64_t va) {
    return e->tag + (va & RV_PAGE_MASK) == 0;
}

struct rv_tlb {
    struct rv_tlbe r[RV_TLB_SIZE], w[RV_TLB_SIZE], x[RV_TLB_SIZE];
    /* A bit for each entry that may not be empty, and for each that may be of an address in the
     * lower half of a long mode's: in one of r, w, x. */
    uint64_t filled[RV_TLB_SIZE / 64], low[RV_TLB_SIZE / 64];
};
static inline void rv_tlb_uses(struct rv_tlb *t, uint64_t va) {
    unsigned n = va >> RV_PAGE_SHIFT & (RV_TLB_SIZE - 1);
    t->filled[n / 64] |= 1ull << (n % 64);
    t->low[n / 64] |= (uint64_t) !(va >> 63) << (n % 64);
}
/* The first bit from n on; RV_TLB_SIZE when there is none. */
static inline unsigned rv_tlb_next(const uint64_t *map, unsigned n) {
    for (unsigned w = n / 64; w < RV_TLB_SIZE / 64; w++) {
        uint64_t bits = map[w] & (w == n / 64 ? ~0ull << (n % 64) : ~0ull);
        if (bits) return w * 64 + (unsigned)__builtin_ctzll(bits);
    }
    return RV_TLB_SIZE;
}
#define RV_TLB_EACH(map, i)                                                                        \
    for (unsigned i = rv_tlb_next(map, 0); i < RV_TLB_SIZE; i = rv_tlb_next(map, i + 1))

struct rv_jump {
    uint64_t va;
    struct rv_block *b;
};
#define RV_JUMP_SIZE (1u << 15)

struct rv_fault {
    uint8_t vector;
    bool has_error;
    bool soft;       /* INT n, INT3, INTO, INT1: the frame shows the next instruction */
    bool privileged; /* INT1: the gate's DPL is not looked at (SDM 3A 6.12.1.2) */
    bool external;   /* an interrupt, not an exception */
    uint32_t error;
    uint64_t cr2;
};

/* What the host wants to be told (watch.c). */
#define RV_WATCH_SEEN 16
struct rv_watching {
    const struct rv_watch *watch;    /* NULL: nothing */
    bool every, exec, data, deliver; /* kinds of points in it */
    bool stop;                       /* leaving run() before an instruction */
    bool delivery_stop;              /* a delivery's hit said stop */
    bool flow, flow_made;            /* calls and returns; decoded blocks are for that */
    bool flow_stop;                  /* the hit of one said stop */
    const struct rv_insn *walker;    /* who makes the page walk; NULL: a fetch, or a delivery */
    struct rv_moment reported; /* the arrival at an instruction that the host was told of last */
    rv_icount taken_at;        /* `taken` exceptions and interrupts were delivered at it */
    uint32_t taken;
    bool pending;        /* an instruction that made accesses, its own or its fetch's, goes on */
    unsigned seen_count; /* accesses of the current instruction, and of deliveries since the last;
                            those beyond the room are dropped */
    struct rv_watch_hit seen[RV_WATCH_SEEN];
};

/* Bits of c->mode: what decoding depends on. */
#define RV_MODE_64    1u /* 64-bit code */
#define RV_MODE_D     2u /* default operand and address size 32 */
#define RV_MODE_PROT  4u /* protected, not virtual-8086 */
#define RV_MODE_PAGED 8u
#define RV_MODE_AVX   16u /* VEX-encoded vector instructions are there and enabled */

/* What vmm/cpu/xlate adds to the interpreter: another way to run a block, and who is told what its
 * translations depend on. */
struct rv_interp_hooks {
    /* Runs b, and what follows it, in a way of its own, not beyond instruction `until`: rip and
     * icount are exact afterwards. False when it did nothing: then b is interpreted. Leaves as an
     * operation does when something is raised. */
    bool (*enter)(struct rv_interp *c, struct rv_block *b, rv_icount until);
    void (*forgotten)(struct rv_interp *c, struct rv_block *b); /* b is gone */
    /* No cached translation counts any more; low_only: none of the lower half. */
    void (*unmapped)(struct rv_interp *c, bool low_only);
    /* Nor do those of linear pages whose number ends in these bits. */
    void (*remapped)(struct rv_interp *c, uint64_t number, unsigned bits, bool low_only);
};

/* The page in which translated code looks for its stack, one a set; it can be written. Its tag is
 * kept twice: any single value would be some stack pointer's, but where the two differ nothing can
 * have its first byte in the one page and its last byte in the other. */
struct rv_window {
    uint64_t low, high; /* for the first and for the last byte: the page's linear address negated */
    uint64_t addend;    /* host address - linear address */
};

/* What translated code keeps at hand: see vmm/cpu/xlate/xlate.h. */
struct rv_hot {
    uint8_t spare[16];   /* a signal's frame may reach here */
    uint64_t tlb_mask;   /* the bits of a linear address that choose a TLB entry */
    uint64_t jump_mask;  /* and a jump table's */
    uint64_t align_mask; /* of a sum of tag and address: not zero unless hit and 16-byte aligned */
    int64_t left;        /* instructions until the engine must stop, this block's taken off */
    uint64_t temp[3];    /* of one instruction's translation, or of leaving */
    uint64_t vec;        /* enum rv_vec_state */
    uint64_t host_sp;    /* the host's stack while translated code runs */
    uint64_t mxcsr;      /* what our own code runs with */
    uint64_t *counts;    /* of the address space; see count.h */
    struct rv_window window[RV_TLB_NEVER];
    uint64_t align32_mask;  /* as align_mask, 32-byte aligned */
    uint64_t df_mask;       /* DF in RFLAGS */
    uint64_t count_mask[2]; /* of a shift's count: of 32 bits, of 64 */
};

struct rv_interp {
    struct rv_hot hot;
    struct rv_x86 x; /* near the start: register offsets in struct rv_insn stay small */
    uint64_t zero;   /* always 0: the absent base or index */
    /* Arithmetic flags as LAHF and SETO leave them in AX: bit 15 SF, 14 ZF, 12 AF, 10 PF, 8 CF,
     * bit 0 OF. c->x.rflags holds the others; rv_flags_get and rv_flags_set convert. */
    uint16_t fl;
    uint8_t cpl;
    uint32_t mode;
    uint64_t cs_base;  /* 0 in 64-bit mode; linear address of code = rip + this */
    bool single;       /* the current block is one instruction long and may touch devices */
    bool delivering;   /* inside exception delivery; fault being delivered in `fault` */
    bool want_window;  /* run() was asked to stop when an interrupt could be taken */
    rv_icount sti_at;  /* behind an STI whose shadow is not in x yet (show_shadow); or RV_NEVER */
    bool watching;     /* TF or debug registers: every instruction runs alone */
    atomic_bool leave; /* look at everything unusual before the next block */
    atomic_bool kicked;
    struct rv_tlb *tlb;
    struct rv_block *block;
    uint64_t end_icount; /* of the current block: icount after its last instruction */

    struct rv_engine engine;
    struct rv_ram *ram;
    struct rv_cpu_bus *bus;
    const struct rv_profile *profile;
    jmp_buf *on_fault; /* where rv_raise and its kin go; see run.c */
    const struct rv_insn *fault_insn;
    struct rv_fault fault;   /* what was raised last */
    struct rv_fault pending; /* whose delivery is under way */
    bool shutdown;           /* triple fault */
    bool alone;              /* the next instruction runs as a block of its own */
    bool step;               /* likewise, because something watches it */
    bool partial;            /* something happened since icount last moved: an exception was
                                delivered, or part of a string instruction done */
    bool dropped;            /* the guest had the CPU drop translations (rv_interp_dropped) */
    bool mid_string;         /* a string instruction stopped half way, to go on at once */
    bool changed;            /* blocks were forgotten or cached translations dropped; never cleared
                                here */
    uint32_t stuck;          /* looks at `kicked` without icount moving */

    struct rv_tlb tlbs[RV_TLB_SETS];
    struct rv_jump jumps[RV_JUMP_SIZE];
    struct rv_mmu *mmu;       /* mmu.c: which pages hold page tables, which are cached writable */
    struct rv_blocks *blocks; /* block.c: the block cache */
    uint64_t block_epoch;     /* raised whenever a block is forgotten; starts at 1 */
    uint32_t trust;           /* raised whenever code may have changed unseen (rv_interp_resume) */
    struct rv_vec *vec;       /* vec.c: x87, MMX and SSE */
    struct rv_watching w;
    struct rv_counting *count;           /* count.c; NULL: not counting */
    const struct rv_interp_hooks *hooks; /* NULL: everything is interpreted */
    struct rv_xlate *xlate;              /* the hooks' own */
    size_t room;                         /* bytes mapped for this structure and what is around it */
};

/* For engines that run the guest elsewhere in between: takes over at state *x, and counts on
 * nothing about RAM that it knew before. Cheaper than set(): decoded code is looked at again only
 * where it runs. The count of instructions goes on. */
void rv_interp_resume(struct rv_engine *e, const struct rv_x86 *x);
/* Whether, since the last call, the guest did anything that has a CPU drop cached translations. */
bool rv_interp_dropped(struct rv_engine *e);

/* ---- operands ---- */

static inline uint8_t *rv_reg8(struct rv_interp *c, uint16_t r) { return (uint8_t *)c + r; }
static inline uint16_t *rv_reg16(struct rv_interp *c, uint16_t r) {
    return (uint16_t *)((uint8_t *)c + r);
}
static inline uint32_t *rv_reg32(struct rv_interp *c, uint16_t r) {
    return (uint32_t *)((uint8_t *)c + r);
}
static inline uint64_t *rv_reg64(struct rv_interp *c, uint16_t r) {
    return (uint64_t *)((uint8_t *)c + r);
}
/* Byte offset of general register n, as stored in struct rv_insn. */
#define RV_GPR_OFFSET(n) (uint16_t)(offsetof(struct rv_interp, x.gpr) + 8u * (n))

/* ---- leaving an operation ---- */

/* Goes on with the next instruction of the block: `return rv_next(c, i);` */
static inline void rv_next(struct rv_interp *c, const struct rv_insn *i) { (i + 1)->op(c, i + 1); }
/* Ends the block after i: rip becomes the next instruction's. For operations marked RV_I_END. */
static inline uint64_t rv_insn_rip(const struct rv_interp *c, const struct rv_insn *i) {
    return c->block->va - c->cs_base + i->off;
}
static inline uint64_t rv_next_rip(const struct rv_interp *c, const struct rv_insn *i) {
    uint64_t next = rv_insn_rip(c, i) + i->len;
    return c->mode & RV_MODE_64 ? next : next & 0xffffffffu;
}
static inline void rv_end(struct rv_interp *c, const struct rv_insn *i) {
    c->x.rip = rv_next_rip(c, i);
}
/* Asks the dispatcher to look at interrupts, shadows, traps and stop requests after this block. */
static inline void rv_leave(struct rv_interp *c) {
    atomic_store_explicit(&c->leave, true, memory_order_relaxed);
}

/* Makes c->x.icount exact for a look from outside: instructions retired before i. */
static inline void rv_sync(struct rv_interp *c, const struct rv_insn *i) {
    c->x.icount = c->end_icount - c->block->n + (uint64_t)(i - c->block->insn);
}

/* Raises an exception at i; does not return, and nothing of i has happened. */
void rv_raise(struct rv_interp *c, const struct rv_insn *i, unsigned vector)
    __attribute__((noreturn, cold));
void rv_raise_error(struct rv_interp *c, const struct rv_insn *i, unsigned vector, uint32_t error)
    __attribute__((noreturn, cold));
void rv_raise_page_fault(struct rv_interp *c, const struct rv_insn *i, uint64_t cr2, uint32_t error)
    __attribute__((noreturn, cold));
/* Runs i again as a block of its own, where device access and changes of code are allowed. No state
 * may have been changed. Returns if it already is (c->single). */
void rv_alone(struct rv_interp *c, const struct rv_insn *i);

/* ---- memory ---- */

/* Linear address of the memory operand of i for an access of size bytes. */
uint64_t rv_ea_slow(struct rv_interp *c, const struct rv_insn *i, uint64_t ea, unsigned size,
                    bool write);
/* The offset part alone (LEA, and the checks of address-size rules); not truncated. */
static inline uint64_t rv_ea_offset(struct rv_interp *c, const struct rv_insn *i) {
    return *rv_reg64(c, i->base) + (*rv_reg64(c, i->index) << i->scale) + (uint64_t)i->disp;
}
static inline uint64_t rv_ea(struct rv_interp *c, const struct rv_insn *i, unsigned size,
                             bool write) {
    uint64_t ea = rv_ea_offset(c, i);
    if (rv_unlikely(i->ea != RV_EA_FLAT)) ea = rv_ea_slow(c, i, ea, size, write);
    return ea;
}

/* Accesses by linear address with the current privilege. The slow ones handle misses, page
 * crossings, devices, watched pages, and raise faults at i. size <= 8. */
uint64_t rv_load_slow(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size);
void rv_store_slow(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                   uint64_t value);
/* Any length; all pages are checked before the first byte is written. */
void rv_load_bytes(struct rv_interp *c, const struct rv_insn *i, uint64_t va, void *out, size_t n);
void rv_store_bytes(struct rv_interp *c, const struct rv_insn *i, uint64_t va, const void *in,
                    size_t n);
/* Raises what a write of size bytes would raise, without writing. */
void rv_probe_write(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size);
/* The same for an instruction that reads the bytes first. */
void rv_probe_modify(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size);

/* Host address for a plain access that stays in one cached page, or NULL. */
static inline void *rv_fast_r(struct rv_interp *c, uint64_t va, unsigned size) {
    const struct rv_tlbe *e = rv_tlb_at(c->tlb->r, va);
    if (rv_likely(rv_tlb_hit(e, va + size - 1))) return (void *)(va + e->addend);
    return NULL;
}
static inline void *rv_fast_w(struct rv_interp *c, uint64_t va, unsigned size) {
    const struct rv_tlbe *e = rv_tlb_at(c->tlb->w, va);
    if (rv_likely(rv_tlb_hit(e, va + size - 1))) return (void *)(va + e->addend);
    return NULL;
}

#define RV_DEFINE_ACCESS(bits)                                                                     \
    static inline uint##bits##_t rv_load##bits(struct rv_interp *c, const struct rv_insn *i,       \
                                               uint64_t va) {                                      \
        const void *p = rv_fast_r(c, va, (bits) / 8);                                              \
        if (rv_unlikely(!p)) return (uint##bits##_t)rv_load_slow(c, i, va, (bits) / 8);            \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof v);                                                                   \
        return v;                                                                                  \
    }                                                                                              \
    static inline void rv_store##bits(struct rv_interp *c, const struct rv_insn *i, uint64_t va,   \
                                      uint##bits##_t v) {                                          \
        void *p = rv_fast_w(c, va, (bits) / 8);                                                    \
        if (rv_unlikely(!p)) {                                                                     \
            rv_store_slow(c, i, va, (bits) / 8, v);                                                \
            return;                                                                                \
        }                                                                                          \
        memcpy(p, &v, sizeof v);                                                                   \
    }
RV_DEFINE_ACCESS(8)
RV_DEFINE_ACCESS(16)
RV_DEFINE_ACCESS(32)
RV_DEFINE_ACCESS(64)

/* ---- flags ---- */

uint64_t rv_flags_get(const struct rv_interp *c);        /* the whole RFLAGS */
void rv_flags_set(struct rv_interp *c, uint64_t rflags); /* no privilege checks */
/* Bits of RFLAGS to where c->fl has them, the arithmetic flags alone. */
static inline uint16_t rv_flags_in_ax(uint32_t rflags) {
    return (uint16_t)(((rflags & 0xd5u) << 8) | ((rflags >> 11) & 1u));
}
/* Sets the arithmetic flags alone from RFLAGS-shaped bits. */
static inline void rv_flags_arith(struct rv_interp *c, uint32_t rflags) {
    c->fl = rv_flags_in_ax(rflags);
}
#define RV_FL_AX_CF 0x100u
#define RV_FL_AX_OF 1u

/* ---- x87, MMX, SSE: vec*.c ---- */

int rv_vec_new(struct rv_interp *c, struct rv_err *err);
void rv_vec_free(struct rv_interp *c);
struct rv_decode; /* decode.h */
/* Fills *out (already holding len, off, sizes and the memory operand) for an x87, MMX, SSE or state
 * management instruction, and returns true; false when the instruction is none of these. */
bool rv_vec_decode(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);
/* Called on entering and leaving run(), for host floating-point state. */
void rv_vec_enter(struct rv_interp *c);
void rv_vec_leave(struct rv_interp *c);

#endif
