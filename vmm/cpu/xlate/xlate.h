/* The translator: inside view, shared by the files of vmm/cpu/xlate only. docs/translator.md tells
 * how it works, with an example.
 *
 * It is the interpreter with another way to run a block. A block that was interpreted often enough
 * is translated: its instructions are copied with their registers renamed and their memory operands
 * replaced. Registers and flags of the guest are in the host's while translated code runs, the rest
 * of its state stays in struct rv_interp. What is not copied, and every memory access that finds
 * nothing in the TLB, calls the interpreter's operation for that one instruction (step.c): so there
 * is one definition of what an instruction does, and one of what it may raise.
 *
 *   emit.c       writes host instructions
 *   code.c       memory for code; the ways in and out of it
 *   translate.c  one block to host code
 *   memory.c     its memory operands
 *   hold.c       guest registers in scratch registers
 *   stack.c      those on the stack, which are looked up once a block
 *   flags.c      flags that processors leave different values in
 *   string.c     string instructions
 *   divide.c     divisions
 *   link.c       from block to block: jump tables, patched jumps, and their end
 *   engine.c     the dispatcher's hook, and the engine
 */
#ifndef RV_VMM_CPU_XLATE_XLATE_H
#define RV_VMM_CPU_XLATE_XLATE_H

#include "vmm/cpu/interp/interp.h"
#include "vmm/cpu/xlate/emit.h"

/* The stack pointer holds the address of struct rv_interp plus this while translated code runs: its
 * low six bits are 12, which makes it the shift count of a page; what is used most lies within 128
 * bytes; and the 128 bytes below it, which signal handlers leave alone, begin in hot.spare. */
#define RV_SP_BIAS   140
#define RV_AT(field) ((int32_t)offsetof(struct rv_interp, field) - RV_SP_BIAS)
#define RV_AT_GPR(n) (RV_AT(x.gpr) + 8 * (int32_t)(n))
#define RV_HOT(f)    rv_mem(HSP, RV_AT(hot.f))
_Static_assert((RV_SP_BIAS & 63) == 12, "SHRX by the stack pointer shifts by a page");
_Static_assert(RV_SP_BIAS - 128 <= (int)offsetof(struct rv_interp, hot.tlb_mask),
               "a signal's frame must miss what is in use");

/* Sets whose blocks are translated: all but RV_TLB_NEVER. */
#define RV_XLATE_SETS RV_TLB_NEVER

/* Where the x87, MMX and SSE state is. */
enum rv_vec_state {
    RV_VEC_LIVE = 0,   /* xmm or ymm and MXCSR are in the host's registers */
    RV_VEC_MEMORY = 1, /* in x.fx and x.ymmh */
    RV_VEC_BARRED = 2, /* there, and SSE instructions must be interpreted: they raise something */
};

/* Jump tables, one a set, behind struct rv_interp: linear address -> translated code. An entry
 * counts as long as the address maps to the page the code was made from: they are cleared with the
 * cached translations. Bits 1 to 16 of the address choose one, so that a page's lie together. */
#define RV_JT_LOW       1
#define RV_JT_BITS      16
#define RV_JT_SIZE      (1u << RV_JT_BITS)
#define RV_JT_GROUP     32 /* entries that are cleared together */
#define RV_JT_GROUPS    (RV_JT_SIZE / RV_JT_GROUP)
#define RV_JT_PAGE_BITS (RV_JT_LOW + RV_JT_BITS - RV_PAGE_SHIFT)
struct rv_jte {
    uint64_t tag; /* the linear address negated */
    const uint8_t *code;
};
struct rv_jt {
    struct rv_jte e[RV_JT_SIZE];
    uint64_t used[RV_JT_GROUPS / 64]; /* groups with entries */
    bool low;                         /* there are some in the lower half of the addresses */
};
#define RV_JT_OFFSET ((sizeof(struct rv_interp) + 63) & ~(size_t)63)
static inline struct rv_jt *rv_jt(struct rv_interp *c, unsigned set) {
    return (struct rv_jt *)(void *)((char *)c + RV_JT_OFFSET) + set;
}
static inline unsigned rv_jt_index(uint64_t va) { return va >> RV_JT_LOW & (RV_JT_SIZE - 1); }

enum rv_way_out {
    RV_OUT_JUMP,  /* the block is done; it goes on at va */
    RV_OUT_COUNT, /* nothing done: the block is longer than what is left */
    RV_OUT_VEC,   /* nothing done: interpret this block */
    RV_OUT_STACK, /* likewise: what is left is not enough, or its stack not where it can be */
};

/* One way to leave a translated block to the dispatcher. */
struct rv_out {
    enum rv_way_out how;
    uint64_t va;         /* RV_OUT_JUMP */
    struct rv_tb *tb;    /* whose */
    uint8_t *jump;       /* rel32 of a jump that may lead straight to another block; or NULL */
    uint8_t *stub;       /* where it leads when it does not */
    struct rv_tb *to;    /* where it leads now */
    struct rv_out *next; /* of to's `from` list */
};

/* One of the blocks that a translation is made of. */
struct rv_part {
    struct rv_tb *tb;
    struct rv_out away;           /* from it to elsewhere than the next part */
    struct rv_part *next, **prev; /* of the block's part_of list; the first part is not in it */
};
#define RV_PARTS 8

/* The translation of a block, and of those that usually follow it in its page: the way on from each
 * part is into the next, and the other way leaves. */
struct rv_tb {
    struct rv_block *b; /* the first */
    unsigned n;         /* instructions of all parts */
    unsigned set;
    uint8_t *code;                    /* as written */
    const uint8_t *entry;             /* as executed */
    struct rv_out on, refuse, barred; /* behind the last part; count or stack; vec */
    /* Offsets from the stack pointer at its beginning that are accessed by way of the window. */
    int16_t low, high;
    uint8_t strays; /* how often in a row the window could not be there */
    rv_icount strayed_at;
    struct rv_out *from; /* jumps that lead here */
    struct rv_tb *next, **prev;
    unsigned parts;
    struct rv_part part[];
};

struct rv_decode;

struct rv_xlate {
    uint8_t *rw;       /* the code, writable */
    const uint8_t *rx; /* the same memory, executable */
    size_t size, start, used;
    size_t cold, cold_used; /* where what runs rarely begins, and how far it goes */
    /* Offsets of the ways in and out, before `start`. */
    size_t enter, leave, step, step_vec, load_vec, find_step, find_leave, find_window;
    struct rv_tb *all;
    struct rv_out *last;      /* how translated code was left, if a jump may be patched */
    struct rv_block *refused; /* to be interpreted once */
    struct rv_block *warming; /* is interpreted now, to see whether it is worth translating */
    rv_icount until;
    unsigned hot;              /* how often a block is interpreted before it is translated */
    struct rv_decode *decoded; /* room for the instructions of one translation */
};

/* ---- code.c ---- */

/* wide: vector registers have 256 bits. */
int rv_code_new(struct rv_xlate *x, bool wide, struct rv_err *err);
void rv_code_free(struct rv_xlate *x);
static inline const uint8_t *rv_code_rx(const struct rv_xlate *x, const uint8_t *rw) {
    return x->rx + (rw - x->rw);
}

/* ---- step.c ---- */

/* Runs one instruction in the interpreter. Called by translated code with the guest's state in c.
 * rest: how many instructions follow in the parts behind its block, in bits 16 to 31 the flags that
 * have to be cleared before, and whether code for what lies behind it follows even if the
 * instruction ends its block. True when translated code must be left. */
#define RV_REST_GOES_ON (1ull << 32)
uint64_t rv_xlate_step(struct rv_interp *c, const struct rv_insn *i, uint64_t with_vec,
                       uint64_t rest);
/* The translation of the code at va, where translated code is about to jump, entered into the jump
 * table; NULL when there is none or it takes more to find it. */
const uint8_t *rv_xlate_find(struct rv_interp *c, uint64_t va);
/* Puts the window where the code of this way out wants it, which has taken off its length: not NULL
 * when it is there. */
const uint8_t *rv_xlate_window(struct rv_interp *c, uint64_t out);
/* Whether SSE instructions can be executed without raising anything for the state they find. */
enum rv_vec_state rv_xlate_vec(const struct rv_interp *c);

/* ---- translate.c ---- */

/* Translates b for the current TLB set. NULL when it is not worth it. May empty the code cache. */
struct rv_tb *rv_translate(struct rv_interp *c, struct rv_block *b);

/* ---- link.c ---- */

void rv_link(struct rv_out *out, struct rv_tb *to);
void rv_unlink_tb(struct rv_interp *c, struct rv_tb *tb); /* and frees it */
/* low_only: at least what is in the lower half. */
void rv_jt_clear(struct rv_interp *c, bool low_only);
/* Pages whose number ends in these bits. */
void rv_jt_clear_pages(struct rv_interp *c, uint64_t number, unsigned bits, bool low_only);
void rv_jt_put(struct rv_interp *c, unsigned set, uint64_t va, const uint8_t *code);

#endif
