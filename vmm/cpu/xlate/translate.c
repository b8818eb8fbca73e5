/* One block, with those that usually follow it: a look whether it may run, its instructions one by
 * one, the ways out, and elsewhere what runs rarely. */
#include "vmm/cpu/xlate/translate.h"

#include <stdlib.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/interp/block.h"
#include "vmm/cpu/interp/count.h"
#include "vmm/cpu/interp/ops.h"

/* More than any block's code. */
#define CODE_ROOM (48u << 10)

unsigned rv_get_gpr(struct rv_translation *t, unsigned n, unsigned scratch) {
    if (rv_xlate_host[n] != HNONE) return rv_xlate_host[n];
    rv_emit_load(&t->e, scratch, rv_mem(HSP, RV_AT_GPR(n)));
    return scratch;
}

static void set_gpr(struct rv_translation *t, unsigned n, unsigned from) {
    if (rv_xlate_host[n] == HNONE)
        rv_emit_store(&t->e, from, rv_mem(HSP, RV_AT_GPR(n)));
    else if (rv_xlate_host[n] != from)
        rv_emit_lea(&t->e, rv_xlate_host[n], rv_mem(from, 0));
}

static void cold(struct rv_translation *t, struct rv_cold k) {
    rv_assert(t->colds < RV_COLD_MAX);
    k.open = t->open;
    t->cold[t->colds++] = k;
}

void rv_slow(struct rv_translation *t, uint8_t *jump) {
    cold(t, (struct rv_cold){.kind = RV_COLD_STEP, .jump = jump, .i = t->i, .rest = t->rest});
}

/* ---- ways out ---- */

/* What follows at va, behind a jump whose rel32 is `jump`. In this page it leads to a stub until it
 * is patched; another page's mapping is asked by way of the jump table. */
static void way_out(struct rv_translation *t, struct rv_out *out, uint64_t va, uint8_t *jump) {
    bool here = !((va ^ t->b->va) & RV_PAGE_MASK);
    *out = (struct rv_out){.how = RV_OUT_JUMP, .va = va, .tb = t->tb, .jump = here ? jump : NULL};
    cold(t, (struct rv_cold){.kind = here ? RV_COLD_OUT : RV_COLD_TABLE,
                             .jump = jump,
                             .out = out,
                             .rest = t->rest});
}

/* Goes where the jump table says for out->va; jumps to the returned rel32 when it says nothing. */
static uint8_t *look_up_fixed(struct rv_translation *t, uint64_t va) {
    struct rv_emit *e = &t->e;
    int32_t at = (int32_t)RV_JT_OFFSET - RV_SP_BIAS + (int32_t)(t->tb->set * sizeof(struct rv_jt)) +
                 (int32_t)(rv_jt_index(va) * sizeof(struct rv_jte));
    rv_emit_load(e, HCX, rv_mem(HSP, at + (int32_t)offsetof(struct rv_jte, tag)));
    if ((uint64_t)(int32_t)va == va) {
        rv_emit_lea(e, HCX, rv_mem(HCX, (int32_t)va));
    } else {
        rv_emit_imm(e, H10, va);
        rv_emit_lea(e, HCX, rv_sum(H10, HCX, 0, 0));
    }
    uint8_t *miss = rv_emit_unless_zero(e);
    rv_emit_jmp_rm(e, rv_mem(HSP, at + (int32_t)offsetof(struct rv_jte, code)));
    return miss;
}

/* The code for the address in r10, to r11. Where there is none it is the step's, which raises what
 * a bad target raises. Uses rcx. */
static void look_up(struct rv_translation *t) {
    struct rv_emit *e = &t->e;
    int32_t at = (int32_t)RV_JT_OFFSET - RV_SP_BIAS + (int32_t)(t->tb->set * sizeof(struct rv_jt));
    rv_emit_pext(e, HCX, H10, RV_HOT(jump_mask));
    rv_emit_lea(e, HCX, rv_sum(HCX, HCX, 0, 0));
    rv_emit_load(e, H11, rv_sum(HSP, HCX, 3, at + (int32_t)offsetof(struct rv_jte, code)));
    rv_emit_load(e, HCX, rv_sum(HSP, HCX, 3, at + (int32_t)offsetof(struct rv_jte, tag)));
    rv_emit_lea(e, HCX, rv_sum(H10, HCX, 0, 0));
    uint8_t *miss = rv_emit_unless_zero(e);
    cold(t, (struct rv_cold){.kind = RV_COLD_FIND, .jump = miss, .back = e->p, .i = t->i});
}

/* ---- instructions that are not copied ---- */

/* Where the next push goes. */
static struct rv_rm push_room(struct rv_translation *t) {
    struct rv_rm to;
    if (rv_stack_operand(t, -8, 8, RV_HOW_WRITE, &to)) return to;
    rv_emit_lea(&t->e, H10, rv_mem(H9, -8));
    return rv_access(t, H10, 8, RV_HOW_WRITE);
}
static void pushed(struct rv_translation *t) { rv_emit_lea(&t->e, H9, rv_mem(H9, -8)); }

static struct rv_rm top_of_stack(struct rv_translation *t) {
    struct rv_rm from;
    return rv_stack_operand(t, 0, 8, RV_HOW_READ, &from) ? from : rv_access(t, H9, 8, RV_HOW_READ);
}

static void push_imm(struct rv_translation *t, uint64_t v) {
    struct rv_emit *e = &t->e;
    struct rv_rm to = push_room(t);
    if ((uint64_t)(int32_t)v == v) {
        rv_emit_insn(e, (struct rv_enc){.w = true, .opcode = 0xc7}, 0, to);
        rv_put32(e, (uint32_t)v);
    } else {
        rv_emit_imm(e, HCX, v);
        rv_emit_store(e, HCX, to);
    }
    pushed(t);
}

static void push_gpr(struct rv_translation *t, unsigned n) {
    struct rv_rm to = push_room(t);
    rv_emit_store(&t->e, rv_get_gpr(t, n, HCX), to);
    pushed(t);
}

static bool push_mem(struct rv_translation *t) {
    struct rv_rm from;
    if (!rv_operand(t, 8, RV_HOW_READ, &from)) return false;
    rv_emit_load(&t->e, H10, from);
    rv_emit_store(&t->e, H10, RV_HOT(temp[1]));
    struct rv_rm to = push_room(t);
    rv_emit_load(&t->e, HCX, RV_HOT(temp[1]));
    rv_emit_store(&t->e, HCX, to);
    pushed(t);
    return true;
}

static void pop_gpr(struct rv_translation *t, unsigned n) {
    struct rv_rm from = top_of_stack(t);
    unsigned to = rv_xlate_host[n] == HNONE ? HCX : rv_xlate_host[n];
    rv_emit_load(&t->e, to, from);
    if (n == RV_RSP) return;
    rv_emit_lea(&t->e, H9, rv_mem(H9, 8));
    set_gpr(t, n, to);
}

static void leave_insn(struct rv_translation *t) {
    struct rv_rm from = rv_access(t, HBP, 8, RV_HOW_READ);
    rv_emit_load(&t->e, HCX, from);
    rv_emit_lea(&t->e, H9, rv_mem(HBP, 8));
    rv_emit_lea(&t->e, HBP, rv_mem(HCX, 0));
}

static void lea(struct rv_translation *t) {
    const struct rv_insn *i = t->i;
    unsigned n = rv_gpr_number(i->r1);
    if (i->size == 2) {
        rv_offset(t, H10, i->asize == 4);
        unsigned to = rv_get_gpr(t, n, HCX);
        rv_emit_insn(&t->e, (struct rv_enc){.opsize = true, .opcode = 0x8b}, to, rv_reg(H10));
        set_gpr(t, n, to);
        return;
    }
    unsigned to = rv_xlate_host[n] == HNONE ? H10 : rv_xlate_host[n];
    rv_offset(t, to, i->size == 4 || i->asize == 4);
    set_gpr(t, n, to);
}

static void ret(struct rv_translation *t) {
    struct rv_emit *e = &t->e;
    rv_emit_load(e, H10, top_of_stack(t));
    look_up(t);
    rv_emit_lea(e, H9, rv_mem(H9, 8 + (int32_t)t->i->imm));
    rv_emit_jmp_rm(e, rv_reg(H11));
}

/* JMP and CALL through a register or memory. */
static bool indirect(struct rv_translation *t, bool call) {
    struct rv_emit *e = &t->e;
    const struct rv_insn *i = t->i;
    if (i->r1) {
        unsigned n = rv_gpr_number(i->r1);
        rv_emit_lea(e, H10, rv_mem(rv_get_gpr(t, n, H10), 0));
    } else {
        struct rv_rm from;
        if (!rv_operand(t, 8, RV_HOW_READ, &from)) return false;
        rv_emit_load(e, H10, from);
    }
    look_up(t);
    if (!call) {
        rv_emit_jmp_rm(e, rv_reg(H11));
        return true;
    }
    rv_emit_store(e, H11, RV_HOT(temp[1]));
    push_imm(t, t->b->va + i->off + i->len);
    rv_emit_jmp_rm(e, RV_HOT(temp[1]));
    return true;
}

static int condition(rv_op op) {
    for (int cc = 0; cc < 16; cc++)
        if (op == rv_jcc64_ops[cc]) return cc;
    return -1;
}

/* What is neither copied nor stepped. False: it is none of these, or must be stepped. */
static bool special(struct rv_translation *t, bool *ended) {
    const struct rv_insn *i = t->i;
    struct rv_emit *e = &t->e;
    uint64_t next = t->b->va + i->off + i->len;
    int cc = condition(i->op);
    bool goes_on = t->part + 1 < t->parts; /* into the next part */
    struct rv_out *away = &t->tb->part[t->part].away;
    *ended = (i->flags & RV_I_END) && !goes_on;
    if (cc >= 0 && goes_on && t->jumps[t->part]) {
        way_out(t, away, next, rv_emit_jcc(e, (unsigned)cc ^ 1));
    } else if (cc >= 0) {
        way_out(t, away, i->imm, rv_emit_jcc(e, (unsigned)cc));
        if (!goes_on) way_out(t, &t->tb->on, next, rv_emit_jmp(e));
    } else if (i->op == rv_op_jmp64) {
        if (!goes_on) way_out(t, away, i->imm, rv_emit_jmp(e));
    } else if (i->op == rv_op_call64) {
        push_imm(t, next);
        way_out(t, away, i->imm, rv_emit_jmp(e));
    } else if (i->op == rv_op_ret64) {
        ret(t);
    } else if (i->op == rv_op_jmp_ind64) {
        return indirect(t, false);
    } else if (i->op == rv_op_call_ind64) {
        return indirect(t, true);
    } else if (i->op == rv_op_nop) {
        return true;
    } else if (i->op == rv_op_push_r64) {
        push_gpr(t, rv_gpr_number(i->r1));
    } else if (i->op == rv_op_pop_r64) {
        pop_gpr(t, rv_gpr_number(i->r1));
    } else if (i->op == rv_op_push && i->size == 8 && i->ext == 2) {
        push_imm(t, i->imm);
    } else if (i->op == rv_op_push && i->size == 8 && i->ext == 1) {
        return push_mem(t);
    } else if (i->op == rv_op_leave_insn && i->size == 8) {
        leave_insn(t);
    } else if (i->op == rv_op_lea || i->op == rv_lea_ops[1] || i->op == rv_lea_ops[2] ||
               i->op == rv_lea_ops[3]) {
        lea(t);
    } else {
        return false;
    }
    return true;
}

/* ---- one instruction ---- */

static void step_here(struct rv_translation *t) {
    struct rv_emit *e = &t->e;
    rv_slow(t, rv_emit_jmp(e));
    t->cold[t->colds - 1].goes_on = true;
}

/* Translates the instruction in hand; true when the block ends with it. What is no instruction is
 * stepped, too. */
static bool instruction(struct rv_translation *t, bool valid) {
    const struct rv_insn *i = t->i;
    struct rv_flag_use use = {0};
    if (t->portable && valid) use = rv_flag_use(&t->d->z, t->d->op);
    rv_flags_before(t, &use);
    uint8_t *start = t->e.p;
    unsigned colds = t->colds;
    bool ended = i->flags & RV_I_END;
    bool told = t->c->w.flow && t->b->flow && i->at + 1u == t->b->n;
    bool known = valid && i->op != rv_op_ud && i->op != rv_op_too_long && !told;
    bool copied = false;
    bool steps =
        !known || !(special(t, &ended) || rv_string(t) || rv_divide(t) || (copied = rv_mangle(t)));
    if (steps) {
        /* What was begun in vain is taken back. */
        t->e.p = start;
        t->colds = colds;
        step_here(t);
        /* What ends a block comes back when it only goes on to the next: no part follows it. */
        ended = false;
    }
    for (unsigned n = colds; n < t->colds; n++)
        if (t->cold[n].kind == RV_COLD_STEP) t->cold[n].back = t->e.p;
    if (t->colds != colds) t->e.r11_written = true; /* a step comes back to here */
    if (!copied || t->colds != colds)
        rv_hold_none(t);
    else
        rv_hold_settle(t);
    rv_flags_after(t, &use, steps);
    return ended;
}

/* ---- one block ---- */

/* LEA reg, [RIP + target]; reg is r8 to r15. */
static void address_of(struct rv_emit *e, unsigned reg, const uint8_t *target) {
    rv_put8(e, 0x4c);
    rv_put8(e, 0x8d);
    rv_put8(e, 0x05 | (reg & 7) << 3);
    rv_put32(e, 0);
    rv_patch(e->p - 4, target);
}

/* What a way out of the middle gives back of what was taken off `left` at the beginning. */
static void give_back(struct rv_emit *e, unsigned n) {
    rv_emit_load(e, HCX, RV_HOT(left));
    rv_emit_lea(e, HCX, rv_mem(HCX, (int32_t)n));
    rv_emit_store(e, HCX, RV_HOT(left));
}

static void write_cold(struct rv_translation *t, const struct rv_cold *k) {
    struct rv_emit *e = &t->e;
    struct rv_xlate *x = t->c->xlate;
    rv_patch(k->jump, e->p);
    switch (k->kind) {
    case RV_COLD_FIND:
        rv_emit_imm(e, HCX, (uint64_t)(uintptr_t)k->i);
        address_of(e, H11, k->back);
        rv_patch(rv_emit_jmp(e), x->rw + x->find_step);
        break;
    case RV_COLD_STEP: {
        rv_emit_imm(e, HCX, (uint64_t)(uintptr_t)k->i);
        address_of(e, H10, k->back);
        rv_emit_imm(e, H11, k->rest | (uint64_t)k->open << 16 | (k->goes_on ? RV_REST_GOES_ON : 0));
        rv_patch(rv_emit_jmp(e), x->rw + (t->vec ? x->step_vec : x->step));
        break;
    }
    case RV_COLD_TABLE: {
        if (k->rest) give_back(e, k->rest);
        rv_clear_flags(e, k->open);
        uint8_t *miss = look_up_fixed(t, k->out->va);
        const uint8_t *jump = e->p;
        rv_emit_jmp_rm(e, rv_reg(H11));
        rv_patch(miss, e->p);
        rv_emit_imm(e, H10, k->out->va);
        rv_emit_imm(e, HCX, (uint64_t)(uintptr_t)k->out);
        address_of(e, H11, jump);
        rv_patch(rv_emit_jmp(e), x->rw + x->find_leave);
        break;
    }
    case RV_COLD_STACK:
        rv_emit_imm(e, H10, (uint64_t)(uintptr_t)k->out);
        rv_emit_imm(e, HCX, (uint64_t)(uintptr_t)k->out);
        address_of(e, H11, k->back);
        rv_patch(rv_emit_jmp(e), x->rw + x->find_window);
        break;
    case RV_COLD_OUT:
        if (k->rest || k->open) {
            if (k->rest) give_back(e, k->rest);
            rv_clear_flags(e, k->open);
            /* The jump to be patched is the one behind that. */
            k->out->jump = rv_emit_jmp(e);
            rv_patch(k->out->jump, e->p);
        }
        k->out->stub = e->p;
        rv_emit_imm(e, HCX, (uint64_t)(uintptr_t)k->out);
        rv_patch(rv_emit_jmp(e), x->rw + x->leave);
        break;
    case RV_COLD_VEC:
        rv_emit_imm(e, H11, (uint64_t)(uintptr_t)k->out);
        address_of(e, H10, k->back);
        rv_patch(rv_emit_jmp(e), x->rw + x->load_vec);
        break;
    }
}

/* Counts that the block was entered, in the address space that is loaded. */
static void count_entry(struct rv_translation *t) {
    struct rv_emit *e = &t->e;
    uint32_t number = rv_count_number(t->c, t->b, t->tb->set == RV_TLB_USER);
    struct rv_rm counter = rv_mem(HCX, (int32_t)(number * sizeof(uint64_t)));
    rv_emit_load(e, HCX, RV_HOT(counts));
    rv_emit_load(e, H10, counter);
    rv_emit_lea(e, H10, rv_mem(H10, 1));
    rv_emit_store(e, H10, counter);
}

/* Whether the window holds all of the stack that is accessed by way of it: r10 is 0 then, the sum
 * of the numbers of both ends' pages as seen from there. */
static void look_at_window(struct rv_translation *t) {
    struct rv_emit *e = &t->e;
    int32_t at = RV_AT(hot.window) + (int32_t)(t->tb->set * sizeof(struct rv_window));
    rv_emit_load(e, H10, rv_mem(HSP, at + (int32_t)offsetof(struct rv_window, low)));
    rv_emit_load(e, HCX, rv_mem(HSP, at + (int32_t)offsetof(struct rv_window, high)));
    rv_emit_lea(e, H10, rv_sum(H9, H10, 0, t->tb->low));
    rv_emit_lea(e, HCX, rv_sum(H9, HCX, 0, t->tb->high - 1));
    rv_emit_shrx(e, H10, H10, HSP);
    rv_emit_shrx(e, HCX, HCX, HSP);
    rv_emit_lea(e, H10, rv_sum(H10, HCX, 0, 0));
}

/* Leaves by out unless it is equal to that. */
static void unless_equal(struct rv_translation *t, struct rv_rm what, uint64_t to,
                         struct rv_out *out) {
    struct rv_emit *e = &t->e;
    rv_emit_load(e, HCX, what);
    rv_emit_imm(e, H10, 0 - to);
    rv_emit_lea(e, HCX, rv_sum(HCX, H10, 0, 0));
    cold(t, (struct rv_cold){.kind = RV_COLD_OUT, .jump = rv_emit_unless_zero(e), .out = out});
}

/* An instruction over the end of a page: how the code came here says what maps its beginning; what
 * maps the rest is what the TLB says, as for a fetch. */
static void look_at_tail(struct rv_translation *t, struct rv_out *out) {
    uint64_t va = (t->b->va | 0xfff) + 1;
    int32_t at =
        RV_AT(tlbs) + (int32_t)(t->tb->set * sizeof(struct rv_tlb)) +
        (int32_t)offsetof(struct rv_tlb, x) +
        (int32_t)sizeof(struct rv_tlbe) * (int32_t)(va >> RV_PAGE_SHIFT & (RV_TLB_SIZE - 1));
    unless_equal(t, rv_mem(HSP, at + (int32_t)offsetof(struct rv_tlbe, tag)), 0 - va, out);
    unless_equal(t, rv_mem(HSP, at + (int32_t)offsetof(struct rv_tlbe, addend)), t->b->pa2, out);
}

/* Vector registers in the host's, the stack at hand, and enough left to run the whole block. */
static void prologue(struct rv_translation *t) {
    struct rv_emit *e = &t->e;
    struct rv_out *count = &t->tb->refuse, *vec = &t->tb->barred;
    *count = (struct rv_out){.how = t->window ? RV_OUT_STACK : RV_OUT_COUNT, .tb = t->tb};
    *vec = (struct rv_out){.how = RV_OUT_VEC, .tb = t->tb};
    if (t->b->crosses) look_at_tail(t, vec);
    if (t->vec) {
        rv_emit_load(e, HCX, RV_HOT(vec));
        uint8_t *not_live = rv_emit_unless_zero(e);
        cold(t, (struct rv_cold){.kind = RV_COLD_VEC, .jump = not_live, .back = e->p, .out = vec});
    }
    if (t->window) look_at_window(t);
    rv_emit_load(e, HCX, RV_HOT(left));
    rv_emit_lea(e, HCX, rv_mem(HCX, -(int32_t)t->tb->n));
    rv_emit_store(e, HCX, RV_HOT(left));
    /* Its upper half is not zero when it is negative. */
    rv_emit_insn(e, (struct rv_enc){.opcode = 0x8b}, HCX, rv_mem(HSP, RV_AT(hot.left) + 4));
    if (t->window) rv_emit_lea(e, HCX, rv_sum(HCX, H10, 0, 0));
    cold(t, (struct rv_cold){.kind = t->window ? RV_COLD_STACK : RV_COLD_OUT,
                             .jump = rv_emit_unless_zero(e),
                             .back = t->tb->code,
                             .out = count});
    if (t->c->count) count_entry(t);
}

/* Decodes the instruction in hand, unless it is none. */
static void decode(const struct rv_translation *t, ZydisDecoder *z, struct rv_decode *d) {
    const struct rv_insn *i = t->i;
    const struct rv_block *b = t->b;
    d->bytes = b->crosses ? t->straddle : t->page + (b->pa & 0xfff) + i->off;
    d->rip = b->va + i->off;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(z, d->bytes, b->len - i->off, &d->z, d->op)))
        d->z.length = 0;
}

/* ---- which blocks ---- */

/* Where a block mostly goes from its conditional jump; false when too little is known. Eagerly: one
 * of both, so that tests meet every way. */
static bool way_on(const struct rv_xlate *x, const struct rv_block *b, bool *jumps) {
    *jumps = x->hot == 0 ? b->va & 1 : 2u * b->ahead < b->heat;
    return x->hot == 0 || b->heat >= x->hot / 4;
}

/* The block at va in b's page, if it is known: decoding may have to make room, and forget b.
 * Eagerly it is decoded, if its first instruction cannot reach into the next page. */
static struct rv_block *block_at(struct rv_interp *c, const struct rv_block *b, uint64_t va) {
    struct rv_block *next = rv_block_known(c, va, (b->pa & RV_PAGE_MASK) | (va & 0xfff));
    if (!next && c->xlate->hot == 0 && (va & 0xfff) < RV_PAGE_SIZE - 15)
        next = rv_block_find(c, va);
    return next;
}

static bool is_part(const struct rv_translation *t, const struct rv_block *b) {
    for (unsigned k = 0; k < t->parts; k++)
        if (t->blocks[k] == b) return true;
    return false;
}

/* Takes the blocks that usually follow, in the same page: what maps one of them maps all. */
static void choose(struct rv_translation *t) {
    struct rv_interp *c = t->c;
    struct rv_block *b = t->blocks[0];
    unsigned n = b->n;
    t->parts = 1;
    /* Counts are kept by block. */
    while (!c->count && t->parts < RV_PARTS) {
        const struct rv_block *from = t->blocks[t->parts - 1];
        const struct rv_insn *last = &from->insn[from->n - 1];
        bool *jumps = &t->jumps[t->parts - 1];
        if (condition(last->op) >= 0) {
            if (!way_on(c->xlate, from, jumps)) break;
        } else if (last->op == rv_op_jmp64) {
            *jumps = true;
        } else {
            break;
        }
        uint64_t va = *jumps ? last->imm : from->va + from->len;
        if ((va ^ b->va) & RV_PAGE_MASK) break;
        struct rv_block *next = block_at(c, b, va);
        if (!next || next->crosses || next->watched || next->plain || is_part(t, next) ||
            n + next->n > RV_BLOCK_INSNS)
            break;
        n += next->n;
        t->blocks[t->parts++] = next;
    }
}

/* ---- all of it ---- */

/* First pass: what the beginning has to look at. */
static void survey(struct rv_translation *t, ZydisDecoder *z) {
    struct rv_tb *tb = t->tb;
    struct rv_decode *d = t->c->xlate->decoded;
    rv_stack_begin(t);
    for (unsigned k = 0; k < t->parts; k++) {
        struct rv_tb before = {.low = tb->low, .high = tb->high};
        bool vec = false;
        t->b = t->blocks[k];
        for (unsigned n = 0; n < t->b->n; n++, d++) {
            t->i = &t->b->insn[n];
            t->d = d;
            decode(t, z, d);
            bool valid = rv_is_decoded(d);
            if (valid && rv_is_vec(d)) vec = true;
            if (valid && !tb->b->no_window) rv_stack_note(t);
            rv_stack_follow(t, valid);
        }
        if (k && vec && !t->vec) {
            /* A part that may not run must not ask for the vector registers. */
            tb->low = before.low;
            tb->high = before.high;
            t->parts = k;
            break;
        }
        t->vec |= vec;
        tb->n += t->b->n;
    }
}

static void write_parts(struct rv_translation *t) {
    bool ended = false;
    t->d = t->c->xlate->decoded;
    t->rest = t->tb->n;
    rv_hold_none(t);
    rv_stack_begin(t);
    for (t->part = 0; t->part < t->parts; t->part++) {
        t->b = t->blocks[t->part];
        t->rest -= t->b->n;
        for (unsigned n = 0; n < t->b->n; n++, t->d++) {
            t->i = &t->b->insn[n];
            bool valid = rv_is_decoded(t->d);
            ended = instruction(t, valid);
            rv_stack_follow(t, valid);
        }
    }
    if (!ended) way_out(t, &t->tb->on, t->b->va + t->b->len, rv_emit_jmp(&t->e));
}

static void write_colds(struct rv_translation *t) {
    struct rv_xlate *x = t->c->xlate;
    uint8_t *end = t->e.p;
    t->e.p = x->rw + x->cold_used;
    for (unsigned n = 0; n < t->colds; n++) write_cold(t, &t->cold[n]);
    x->cold_used = (size_t)(t->e.p - x->rw);
    t->e.p = end;
}

/* A block of one instruction whose bytes are in two pages. */
static void straddle(struct rv_translation *t) {
    const struct rv_block *b = t->blocks[0];
    size_t first = RV_PAGE_SIZE - (b->pa & 0xfff);
    const struct rv_ram *ram = t->c->ram;
    memcpy(t->straddle, t->page + (b->pa & 0xfff), first);
    memcpy(t->straddle + first, ram->host + rv_ram_offset(ram, b->pa2), b->len - first);
    t->parts = 1;
}

/* Has the translation go when b is forgotten. */
static void note_part(struct rv_part *p, struct rv_block *b) {
    p->next = b->part_of;
    p->prev = &b->part_of;
    if (p->next) p->next->prev = &p->next;
    b->part_of = p;
}

struct rv_tb *rv_translate(struct rv_interp *c, struct rv_block *b) {
    struct rv_xlate *x = c->xlate;
    uint64_t off = rv_ram_offset(c->ram, b->pa);
    if (off == UINT64_MAX || rv_block_is_passing(c, b)) return NULL;
    if (x->cold - x->used < CODE_ROOM || x->size - x->cold_used < CODE_ROOM) {
        while (x->all) rv_unlink_tb(c, x->all);
        x->used = x->start;
        x->cold_used = x->cold;
    }
    struct rv_translation t = {.c = c,
                               .blocks = {b},
                               .page = c->ram->host + (off & RV_PAGE_MASK),
                               .e.r11_written = true,
                               .portable = c->bus->quirks & RV_QUIRK_PORTABLE};
    if (b->crosses)
        straddle(&t);
    else
        choose(&t);
    if (b->dead) return NULL;
    struct rv_tb *tb = rv_alloc(sizeof *tb + t.parts * sizeof tb->part[0]);
    tb->b = b;
    tb->set = (unsigned)(c->tlb - c->tlbs);
    tb->code = x->rw + x->used;
    tb->entry = rv_code_rx(x, tb->code);
    t.tb = tb;
    t.e.p = tb->code;
    ZydisDecoder z;
    rv_decode_init(c, &z);
    survey(&t, &z);
    t.b = b;
    t.window = tb->high > tb->low;
    prologue(&t);
    write_parts(&t);
    write_colds(&t);
    rv_assert(t.e.p <= x->rw + x->cold && x->cold_used <= x->size);
    x->used = ((size_t)(t.e.p - x->rw) + 15) & ~(size_t)15;
    tb->parts = t.parts;
    for (unsigned k = 0; k < t.parts; k++) {
        tb->part[k].tb = tb;
        if (k) note_part(&tb->part[k], t.blocks[k]);
    }
    tb->next = x->all;
    tb->prev = &x->all;
    if (x->all) x->all->prev = &tb->next;
    x->all = tb;
    b->tb[tb->set] = tb;
    b->code[tb->set] = tb->entry;
    return tb;
}
