/* Translating one block: what translate.c, mangle.c and memory.c share. */
#ifndef RV_VMM_CPU_XLATE_TRANSLATE_H
#define RV_VMM_CPU_XLATE_TRANSLATE_H

#include "vmm/cpu/interp/decode.h"
#include "vmm/cpu/xlate/xlate.h"

/* Something that runs rarely, and is written apart from the block's code. */
struct rv_cold {
    enum {
        RV_COLD_STEP,
        RV_COLD_FIND,
        RV_COLD_OUT,
        RV_COLD_TABLE,
        RV_COLD_VEC,
        RV_COLD_STACK
    } kind;
    unsigned rest;           /* STEP, OUT, TABLE: instructions in the parts behind this one */
    uint8_t *jump;           /* rel32 that is to lead there */
    const uint8_t *back;     /* STEP, FIND, VEC, STACK: where it leads back */
    const struct rv_insn *i; /* STEP, FIND */
    struct rv_out *out;      /* the way out; TABLE: when the table has no entry */
    unsigned open;           /* STEP, OUT, TABLE: flags that have to be cleared there */
    bool goes_on;            /* STEP: code for what lies behind it follows in any case */
};
#define RV_HOLDERS  3
#define RV_COLD_MAX (RV_BLOCK_INSNS * 4 + RV_PARTS + 8)

struct rv_translation {
    struct rv_interp *c;
    struct rv_block *b; /* the part in hand: */
    unsigned part, parts;
    unsigned rest; /* instructions in those behind it */
    struct rv_block *blocks[RV_PARTS];
    const uint8_t *page;  /* their page's content */
    uint8_t straddle[16]; /* or that of the only instruction, over the end of the page */
    bool jumps[RV_PARTS]; /* the next part is where this one jumps to, not what lies behind it */
    struct rv_tb *tb;
    struct rv_emit e;
    const struct rv_insn *i;   /* the instruction in hand, */
    const struct rv_decode *d; /* and among all that are translated, decoded */
    bool vec;                  /* the block has SSE instructions: xmm registers are live in it */
    bool window;               /* the stack from tb->low to tb->high is known to be there */
    bool sp_known;             /* where the stack pointer is before this instruction: */
    int32_t sp;                /* bytes from where it was at the block's beginning */
    bool portable;             /* RV_QUIRK_PORTABLE: */
    unsigned open;             /* flags that are to be 0 before this instruction, as in c->fl, and
                                  need not be in the host's */
    uint8_t held[RV_HOLDERS];  /* guest register, plus one, that is in a scratch register, too */
    unsigned used[RV_HOLDERS], uses;
    unsigned colds;
    struct rv_cold cold[RV_COLD_MAX];
};

/* Whether the bytes are an instruction at all. */
static inline bool rv_is_decoded(const struct rv_decode *d) { return d->z.length; }

/* Host register of guest register n, or HNONE. */
extern const uint8_t rv_xlate_host[RV_GPRS];
static inline unsigned rv_gpr_number(uint16_t offset) {
    return (unsigned)(offset - offsetof(struct rv_interp, x.gpr)) / 8;
}
/* Loads guest register n to a host register, or says where it is already. */
unsigned rv_get_gpr(struct rv_translation *t, unsigned n, unsigned scratch);

/* The rel32 at jump is to lead to a step of the instruction in hand, from where translated code
 * goes on behind that instruction. */
void rv_slow(struct rv_translation *t, uint8_t *jump);

/* ---- hold.c ---- */

/* Has guest register n, which has no host register, in a scratch register; load: with its content.
 * avoid: bits of host registers that are not to be taken. */
unsigned rv_hold(struct rv_translation *t, unsigned guest, bool load, unsigned avoid);
bool rv_is_held(struct rv_translation *t, unsigned guest);
/* What is in host is the guest register's new content; HNONE: it is in memory alone. */
void rv_hold_changed(struct rv_translation *t, unsigned guest, unsigned host);
/* Forgets what was in scratch registers that were written since; or everything. */
void rv_hold_settle(struct rv_translation *t);
void rv_hold_none(struct rv_translation *t);

/* ---- memory.c: writes code that keeps flags and leaves rcx free ---- */

enum rv_access_how { RV_HOW_READ, RV_HOW_WRITE, RV_HOW_ALIGNED = 2 /* 16 or 32 bytes, or #GP */ };

/* The host's address of the memory operand of the instruction in hand, for an access of size
 * bytes, after a look into the TLB. Uses rcx, r10 and r11, and the result uses r11 and may use r10.
 * False when only the interpreter can do it. */
bool rv_operand(struct rv_translation *t, unsigned size, unsigned how, struct rv_rm *out);
/* The same for the linear address in host register va (a mapped one, or r10). */
struct rv_rm rv_access(struct rv_translation *t, unsigned va, unsigned size, unsigned how);
/* The TLB entry for it: its addend to r11, its tag to rcx. */
void rv_entry(struct rv_translation *t, unsigned va, unsigned how);
/* LEA: the operand's offset, or its lower 32 bits, to host register dst. */
void rv_offset(struct rv_translation *t, unsigned dst, bool cut);

/* ---- stack.c ---- */

/* Before the first pass over a block's instructions, and before the second. */
void rv_stack_begin(struct rv_translation *t);
/* First pass: takes the instruction in hand into the window. */
void rv_stack_note(struct rv_translation *t);
/* Follows the stack pointer over the instruction in hand; valid: it was decoded. */
void rv_stack_follow(struct rv_translation *t, bool valid);
/* The host's address of size bytes at the stack pointer plus disp, without a look, when it is in
 * the window. Writes one instruction then; the result uses r11. */
bool rv_stack_operand(struct rv_translation *t, int64_t disp, unsigned size, unsigned how,
                      struct rv_rm *out);
/* Whether the memory operand of the instruction in hand is at the stack pointer. */
bool rv_on_stack(const struct rv_translation *t);

/* ---- flags.c: uses rcx alone ---- */

/* Before and behind the instruction in hand; stepped: always. */
void rv_flags_before(struct rv_translation *t, const struct rv_flag_use *use);
void rv_flags_after(struct rv_translation *t, const struct rv_flag_use *use, bool stepped);
/* Clears what is open. */
void rv_settle_flags(struct rv_translation *t);
/* Clears what a shift or rotation of 32 or 64 bits by CL, whose content is in rcx, leaves open. */
void rv_settle_count(struct rv_translation *t, bool rotates);
/* Clears these, as they are in c->fl. */
void rv_clear_flags(struct rv_emit *e, unsigned open);

/* ---- string.c ---- */

/* Writes the instruction in hand if it is a string instruction that is not left to the interpreter.
 */
bool rv_string(struct rv_translation *t);

/* ---- divide.c ---- */

/* Writes the instruction in hand if it is a division of 32 or 64 bits that can be written. */
bool rv_divide(struct rv_translation *t);

/* ---- mangle.c ---- */

/* Copies the instruction in hand with its operands replaced. False when it cannot be copied. */
bool rv_mangle(struct rv_translation *t);
bool rv_is_vec(const struct rv_decode *d);
/* Whether these flags, bits of RFLAGS, are given other values by what follows the instruction in
 * hand in its block before anything can see them: a jump, an access to memory, a step. */
bool rv_hides(const struct rv_translation *t, uint32_t flags);
/* Takes a memory operand of 16 bytes or more wherever it lies. */
bool rv_is_unaligned(const ZydisDecodedInstruction *z);

#endif
