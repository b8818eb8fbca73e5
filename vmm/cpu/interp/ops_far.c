/* Far transfers, software interrupts, and the fast system calls (SDM 3A 5.8, vol. 2). */
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/run.h"
#include "vmm/cpu/interp/seg.h"

/* After CS, SS or flags changed: new mode, and a look at interrupts. */
static void settle(struct rv_interp *c) {
    rv_mmu_mode(c);
    rv_leave(c);
}

static bool long_mode(const struct rv_interp *c) { return c->x.efer & RV_EFER_LMA; }

/* The checks that a code segment descriptor must pass to be entered at privilege cpl. */
static void check_code(struct rv_interp *c, const struct rv_insn *i, const struct rv_desc *d,
                       uint16_t sel, unsigned cpl, bool rpl_matters) {
    unsigned error = sel & 0xfffcu, type = rv_desc_type(d), dpl = rv_desc_dpl(d);
    if (!rv_desc_s(d) || !(type & 8)) rv_raise_error(c, i, RV_VEC_GP, error);
    if (type & 4) {
        if (dpl > cpl) rv_raise_error(c, i, RV_VEC_GP, error);
    } else if (dpl != cpl || (rpl_matters && (sel & 3u) > cpl)) {
        rv_raise_error(c, i, RV_VEC_GP, error);
    }
    if (long_mode(c) && (d->lo >> 53 & 1) && (d->lo >> 54 & 1))
        rv_raise_error(c, i, RV_VEC_GP, error);
    if (!rv_desc_p(d)) rv_raise_error(c, i, RV_VEC_NP, error);
}

/* Checks a target against the code segment it will run in. */
static void check_target(struct rv_interp *c, const struct rv_insn *i, const struct rv_desc *d,
                         uint64_t rip) {
    if (long_mode(c) && (d->lo >> 53 & 1)) {
        if (!rv_canonical(rip)) rv_raise_error(c, i, RV_VEC_GP, 0);
    } else if (rip > rv_desc_seg(d, 0).limit) {
        rv_raise_error(c, i, RV_VEC_GP, 0);
    }
}

/* The far pointer operand: immediate (imm offset, disp selector) or memory (ext 1). */
static uint16_t far_operand(struct rv_interp *c, const struct rv_insn *i, uint64_t *off) {
    if (!i->ext) {
        *off = i->imm;
        return (uint16_t)i->disp;
    }
    uint64_t va = rv_ea(c, i, i->size + 2u, false);
    *off = rv_load(c, i, va, i->size);
    return rv_load16(c, i, va + i->size);
}

struct call_gate {
    uint16_t sel;
    uint64_t offset;
    unsigned params, size;
};

static struct call_gate read_call_gate(struct rv_interp *c, const struct rv_insn *i,
                                       const struct rv_desc *g, uint16_t sel) {
    unsigned error = sel & 0xfffcu, dpl = rv_desc_dpl(g);
    if (dpl < c->cpl || dpl < (sel & 3u)) rv_raise_error(c, i, RV_VEC_GP, error);
    if (!rv_desc_p(g)) rv_raise_error(c, i, RV_VEC_NP, error);
    bool wide = rv_desc_type(g) == 12;
    struct call_gate r = {.sel = (uint16_t)(g->lo >> 16),
                          .params = g->lo >> 32 & 31,
                          .size = long_mode(c) ? 8
                                  : wide       ? 4
                                               : 2};
    r.offset = (g->lo & 0xffff) | (wide ? g->lo >> 32 & 0xffff0000u : 0);
    if (long_mode(c)) {
        if (g->hi >> 40 & 0x1f) rv_raise_error(c, i, RV_VEC_GP, error);
        r.offset |= g->hi << 32;
    }
    if (!(r.sel & 0xfffc)) rv_raise_error(c, i, RV_VEC_GP, 0);
    return r;
}

static bool is_call_gate(const struct rv_interp *c, const struct rv_desc *d) {
    unsigned type = rv_desc_type(d);
    return !rv_desc_s(d) && (type == 12 || (type == 4 && !long_mode(c)));
}
static bool is_task(const struct rv_interp *c, const struct rv_desc *d) {
    unsigned type = rv_desc_type(d);
    return !rv_desc_s(d) && !long_mode(c) && (type == 1 || type == 9 || type == 5);
}

/* Checks DPL and presence of a TSS or task gate and switches. */
static void far_task(struct rv_interp *c, const struct rv_insn *i, const struct rv_desc *d,
                     uint16_t sel, enum rv_task_cause cause) {
    unsigned dpl = rv_desc_dpl(d);
    if (dpl < c->cpl || dpl < (sel & 3u)) rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    if (!rv_desc_p(d)) rv_raise_error(c, i, RV_VEC_NP, sel & 0xfffcu);
    uint16_t tss = rv_desc_type(d) == 5 ? (uint16_t)(d->lo >> 16) : sel;
    rv_task_switch(c, i, tss, cause, rv_next_rip(c, i), false, 0);
    settle(c);
}

static void enter_code(struct rv_interp *c, const struct rv_insn *i, struct rv_desc *d,
                       uint16_t sel, unsigned cpl, uint64_t rip) {
    rv_desc_taken(c, i, d);
    c->x.seg[RV_CS] = rv_desc_seg(d, (uint16_t)((sel & ~3u) | cpl));
    c->x.rip = rip;
    settle(c);
}

RV_OP(jmp_far) {
    uint64_t off;
    uint16_t sel = far_operand(c, i, &off);
    if (!(c->mode & RV_MODE_PROT)) {
        if (off > c->x.seg[RV_CS].limit) rv_raise_error(c, i, RV_VEC_GP, 0);
        rv_seg_load_real(c, RV_CS, sel);
        c->x.rip = off;
        settle(c);
        return;
    }
    if (!(sel & 0xfffc)) rv_raise_error(c, i, RV_VEC_GP, 0);
    struct rv_desc d = rv_desc_read(c, i, sel, true, RV_VEC_GP);
    if (is_task(c, &d)) {
        far_task(c, i, &d, sel, RV_TASK_JMP);
        return;
    }
    if (is_call_gate(c, &d)) {
        struct call_gate g = read_call_gate(c, i, &d, sel);
        d = rv_desc_read(c, i, g.sel, false, RV_VEC_GP);
        sel = g.sel;
        off = g.offset;
        check_code(c, i, &d, sel, c->cpl, false);
        /* In long mode a gate leads to 64-bit code only. */
        if (long_mode(c) && !(d.lo >> 53 & 1)) rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    } else {
        check_code(c, i, &d, sel, c->cpl, true);
    }
    check_target(c, i, &d, off);
    enter_code(c, i, &d, sel, c->cpl, off);
}

/* Pushes of a far call or gate onto a stack that may be another level's. */
struct far_stack {
    struct rv_seg ss;
    uint64_t sp;
    bool user, flat;
};

static void far_push(struct rv_interp *c, const struct rv_insn *i, struct far_stack *f,
                     unsigned size, uint64_t v) {
    uint64_t mask = f->flat ? ~0ull : f->ss.attr & RV_SEG_DB ? 0xffffffffu : 0xffff;
    uint64_t sp = (f->sp - size) & mask;
    if (!f->flat && sp + size - 1 > f->ss.limit && (f->ss.attr & 0xc) != 4)
        rv_raise_error(c, i, RV_VEC_SS, f->ss.sel & 0xfffcu);
    uint64_t va = f->flat ? sp : (f->ss.base + sp) & 0xffffffffu;
    rv_store_as(c, i, va, size, v & rv_mask(size), f->user);
    f->sp = (f->sp & ~mask) | sp;
}

static void call_gate_inner(struct rv_interp *c, const struct rv_insn *i, struct rv_desc *d,
                            const struct call_gate *g) {
    unsigned cpl = rv_desc_dpl(d);
    struct rv_stack st = rv_stack_of_level(c, i, cpl, 0);
    struct far_stack f = {.ss = st.ss, .sp = st.sp, .user = cpl == 3, .flat = long_mode(c)};
    uint64_t params[31];
    unsigned n = long_mode(c) ? 0 : g->params;
    for (unsigned k = 0; k < n; k++) params[k] = rv_peek(c, i, g->size, k);
    far_push(c, i, &f, g->size, c->x.seg[RV_SS].sel);
    far_push(c, i, &f, g->size, c->x.gpr[RV_RSP]);
    for (unsigned k = n; k-- > 0;) far_push(c, i, &f, g->size, params[k]);
    far_push(c, i, &f, g->size, c->x.seg[RV_CS].sel);
    far_push(c, i, &f, g->size, rv_next_rip(c, i));
    rv_desc_taken(c, i, d);
    c->x.seg[RV_SS] = f.ss;
    c->x.gpr[RV_RSP] =
        f.flat || f.ss.attr & RV_SEG_DB ? f.sp : (c->x.gpr[RV_RSP] & ~0xffffull) | (f.sp & 0xffff);
    enter_code(c, i, d, g->sel, cpl, g->offset);
}

RV_OP(call_far) {
    uint64_t off;
    uint16_t sel = far_operand(c, i, &off);
    unsigned size = i->size;
    if (!(c->mode & RV_MODE_PROT)) {
        if (off > c->x.seg[RV_CS].limit) rv_raise_error(c, i, RV_VEC_GP, 0);
        uint64_t sp = c->x.gpr[RV_RSP], mask = rv_stack_mask(c);
        rv_probe_write(c, i, rv_stack_linear(c, i, (sp - 2 * size) & mask, size, true), size);
        rv_push(c, i, size, c->x.seg[RV_CS].sel);
        rv_push(c, i, size, rv_next_rip(c, i));
        rv_seg_load_real(c, RV_CS, sel);
        c->x.rip = off;
        settle(c);
        return;
    }
    if (!(sel & 0xfffc)) rv_raise_error(c, i, RV_VEC_GP, 0);
    struct rv_desc d = rv_desc_read(c, i, sel, true, RV_VEC_GP);
    if (is_task(c, &d)) {
        far_task(c, i, &d, sel, RV_TASK_CALL);
        return;
    }
    if (is_call_gate(c, &d)) {
        struct call_gate g = read_call_gate(c, i, &d, sel);
        d = rv_desc_read(c, i, g.sel, false, RV_VEC_GP);
        unsigned dpl = rv_desc_dpl(&d);
        bool inner = !(rv_desc_type(&d) & 4) && dpl < c->cpl;
        check_code(c, i, &d, g.sel, inner ? dpl : c->cpl, false);
        if (long_mode(c) && !(d.lo >> 53 & 1)) rv_raise_error(c, i, RV_VEC_GP, g.sel & 0xfffcu);
        check_target(c, i, &d, g.offset);
        if (inner) {
            call_gate_inner(c, i, &d, &g);
            return;
        }
        sel = g.sel;
        off = g.offset;
        size = g.size;
    } else {
        check_code(c, i, &d, sel, c->cpl, true);
        check_target(c, i, &d, off);
    }
    struct far_stack f = {.ss = c->x.seg[RV_SS],
                          .sp = c->x.gpr[RV_RSP],
                          .user = c->cpl == 3,
                          .flat = c->mode & RV_MODE_64};
    far_push(c, i, &f, size, c->x.seg[RV_CS].sel);
    far_push(c, i, &f, size, rv_next_rip(c, i));
    rv_desc_taken(c, i, &d); /* may fault: before anything changes */
    rv_sp_set(c, f.sp);
    enter_code(c, i, &d, sel, c->cpl, off);
}

/* After a return to an outer level, data segments that it may not see become null. */
static void drop_segments(struct rv_interp *c) {
    static const unsigned data[] = {RV_ES, RV_DS, RV_FS, RV_GS};
    for (unsigned n = 0; n < RV_COUNT(data); n++) {
        struct rv_seg *s = &c->x.seg[data[n]];
        bool conforming = (s->attr & 0xc) == 0xc && (s->attr & RV_SEG_S);
        if (!conforming && RV_SEG_DPL(s->attr) < c->cpl && (s->attr & RV_SEG_P))
            *s = (struct rv_seg){.base = s->base};
        else if (!(s->attr & RV_SEG_P) && c->cpl == 3)
            s->sel = 0;
    }
}

/* The SS that RETF or IRET to an outer level pops; in long mode it may be null below level 3. */
static struct rv_seg outer_stack(struct rv_interp *c, const struct rv_insn *i, uint16_t sel,
                                 unsigned cpl, bool to64) {
    if (!(sel & 0xfffc)) {
        if (!long_mode(c) || !to64 || cpl == 3 || (sel & 3u) != cpl)
            rv_raise_error(c, i, RV_VEC_GP, 0);
        return (struct rv_seg){.sel = sel, .attr = (uint16_t)(cpl << 5)};
    }
    struct rv_desc d = rv_desc_read(c, i, sel, false, RV_VEC_GP);
    unsigned type = rv_desc_type(&d);
    if ((sel & 3u) != cpl || rv_desc_dpl(&d) != cpl || !rv_desc_s(&d) || (type & 8) || !(type & 2))
        rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    if (!rv_desc_p(&d)) rv_raise_error(c, i, RV_VEC_SS, sel & 0xfffcu);
    rv_desc_taken(c, i, &d);
    return rv_desc_seg(&d, sel);
}

/* Reads a return CS and checks it for RETF and IRET: its RPL is the new level. */
static struct rv_desc return_code(struct rv_interp *c, const struct rv_insn *i, uint16_t sel) {
    unsigned rpl = sel & 3, error = sel & 0xfffcu;
    if (!error) rv_raise_error(c, i, RV_VEC_GP, 0);
    struct rv_desc d = rv_desc_read(c, i, sel, false, RV_VEC_GP);
    unsigned type = rv_desc_type(&d), dpl = rv_desc_dpl(&d);
    if (!rv_desc_s(&d) || !(type & 8) || rpl < c->cpl) rv_raise_error(c, i, RV_VEC_GP, error);
    if (type & 4 ? dpl > rpl : dpl != rpl) rv_raise_error(c, i, RV_VEC_GP, error);
    if (long_mode(c) && (d.lo >> 53 & 1) && (d.lo >> 54 & 1))
        rv_raise_error(c, i, RV_VEC_GP, error);
    if (!rv_desc_p(&d)) rv_raise_error(c, i, RV_VEC_NP, error);
    return d;
}

RV_OP(ret_far) {
    unsigned size = i->size;
    uint64_t rip = rv_peek(c, i, size, 0);
    uint16_t sel = (uint16_t)rv_peek(c, i, size, 1);
    uint64_t after = c->x.gpr[RV_RSP] + 2 * size + i->imm;
    if (!(c->mode & RV_MODE_PROT)) {
        if (rip > c->x.seg[RV_CS].limit) rv_raise_error(c, i, RV_VEC_GP, 0);
        rv_seg_load_real(c, RV_CS, sel);
        c->x.rip = rip;
        rv_sp_set(c, after);
        settle(c);
        return;
    }
    struct rv_desc d = return_code(c, i, sel);
    check_target(c, i, &d, rip);
    unsigned rpl = sel & 3;
    if (rpl == c->cpl) {
        rv_desc_taken(c, i, &d); /* may fault: before anything changes */
        rv_sp_set(c, after);
        enter_code(c, i, &d, sel, rpl, rip);
        return;
    }
    uint64_t mask = rv_stack_mask(c);
    uint64_t sp = rv_load(c, i, rv_stack_linear(c, i, after & mask, size, false), size);
    uint16_t ss =
        (uint16_t)rv_load(c, i, rv_stack_linear(c, i, (after + size) & mask, size, false), size);
    struct rv_seg stack = outer_stack(c, i, ss, rpl, d.lo >> 53 & 1);
    rv_desc_taken(c, i, &d);
    c->x.seg[RV_SS] = stack;
    enter_code(c, i, &d, sel, rpl, rip);
    if (c->mode & RV_MODE_64)
        c->x.gpr[RV_RSP] = sp + i->imm;
    else
        rv_sp_set(c, sp + i->imm);
    drop_segments(c);
}

static void iret_real(struct rv_interp *c, const struct rv_insn *i) {
    unsigned size = i->size;
    uint64_t rip = rv_peek(c, i, size, 0), sel = rv_peek(c, i, size, 1);
    uint64_t flags = rv_peek(c, i, size, 2);
    if (rip > c->x.seg[RV_CS].limit) rv_raise_error(c, i, RV_VEC_GP, 0);
    bool vm = c->x.rflags & RV_FL_VM;
    rv_seg_load_real(c, RV_CS, (uint16_t)sel);
    c->x.rip = rip;
    rv_sp_set(c, c->x.gpr[RV_RSP] + 3 * size);
    uint64_t may = RV_FL_ARITH | RV_FL_TF | RV_FL_DF | RV_FL_NT | RV_FL_IF | RV_FL_RF | RV_FL_AC |
                   RV_FL_ID | (vm ? 0 : RV_FL_IOPL);
    if (size == 2) may &= 0xffff;
    rv_flags_set(c, (rv_flags_get(c) & ~may) | (flags & may));
}

/* IRET to virtual-8086 mode from level 0: nine words are on the stack. */
static void iret_vm86(struct rv_interp *c, const struct rv_insn *i, uint64_t rip, uint16_t sel,
                      uint64_t flags) {
    uint64_t w[6];
    for (unsigned n = 0; n < 6; n++) w[n] = rv_peek(c, i, 4, 3 + n);
    struct rv_x86 *x = &c->x;
    rv_flags_set(c, flags & 0x3fffffu);
    x->rflags |= RV_FL_VM;
    x->gpr[RV_RSP] = w[0];
    rv_seg_load_real(c, RV_CS, sel);
    rv_seg_load_real(c, RV_SS, (uint16_t)w[1]);
    rv_seg_load_real(c, RV_ES, (uint16_t)w[2]);
    rv_seg_load_real(c, RV_DS, (uint16_t)w[3]);
    rv_seg_load_real(c, RV_FS, (uint16_t)w[4]);
    rv_seg_load_real(c, RV_GS, (uint16_t)w[5]);
    x->rip = rip & 0xffff;
}

RV_OP(iret) {
    struct rv_x86 *x = &c->x;
    x->nmi_blocked = 0;
    unsigned size = i->size;
    if (!(c->mode & RV_MODE_PROT)) {
        if ((x->rflags & RV_FL_VM) && (x->rflags & RV_FL_IOPL) != RV_FL_IOPL)
            rv_raise_error(c, i, RV_VEC_GP, 0);
        iret_real(c, i);
        settle(c);
        return;
    }
    if (x->rflags & RV_FL_NT) {
        if (long_mode(c)) rv_raise_error(c, i, RV_VEC_GP, 0);
        uint16_t back = (uint16_t)rv_sys_load(c, i, x->seg[RV_TR].base, 2);
        rv_task_switch(c, i, back, RV_TASK_IRET, rv_next_rip(c, i), false, 0);
        settle(c);
        return;
    }
    uint64_t rip = rv_peek(c, i, size, 0), flags = rv_peek(c, i, size, 2);
    uint16_t sel = (uint16_t)rv_peek(c, i, size, 1);
    if (!long_mode(c) && size == 4 && (flags & RV_FL_VM) && c->cpl == 0) {
        iret_vm86(c, i, rip, sel, flags);
        settle(c);
        return;
    }
    struct rv_desc d = return_code(c, i, sel);
    check_target(c, i, &d, rip);
    unsigned rpl = sel & 3, old_cpl = c->cpl;
    uint64_t may = RV_FL_ARITH | RV_FL_TF | RV_FL_DF | RV_FL_NT;
    if (size > 2) may |= RV_FL_RF | RV_FL_AC | RV_FL_ID;
    if (c->cpl == 0) may |= RV_FL_IOPL;
    if (c->cpl <= (x->rflags & RV_FL_IOPL) >> 12) may |= RV_FL_IF;
    uint64_t sp = 0;
    bool pops_stack = rpl != c->cpl || (c->mode & RV_MODE_64);
    struct rv_seg ss = x->seg[RV_SS];
    if (pops_stack) {
        sp = rv_peek(c, i, size, 3);
        uint16_t ss_sel = (uint16_t)rv_peek(c, i, size, 4);
        ss = outer_stack(c, i, ss_sel, rpl, d.lo >> 53 & 1);
    }
    rv_desc_taken(c, i, &d);
    uint64_t sp_after = x->gpr[RV_RSP] + 3 * size;
    x->seg[RV_SS] = ss;
    x->seg[RV_CS] = rv_desc_seg(&d, sel);
    x->rip = rip;
    if (!pops_stack) rv_sp_set(c, sp_after);
    rv_flags_set(c, (rv_flags_get(c) & ~may) | (flags & may));
    settle(c);
    if (pops_stack) {
        if (size == 8 || (c->mode & RV_MODE_64))
            x->gpr[RV_RSP] = sp;
        else
            rv_sp_set(c, sp);
        if (rpl > old_cpl) drop_segments(c);
    }
}

RV_OP(int) {
    struct rv_x86 *x = &c->x;
    unsigned vector = (unsigned)i->imm;
    /* INT n needs IOPL 3 in virtual-8086 mode; INT3 and INT1 (ext 1 and 2) do not. */
    if ((x->rflags & RV_FL_VM) && !i->ext && (x->rflags & RV_FL_IOPL) != RV_FL_IOPL)
        rv_raise_error(c, i, RV_VEC_GP, 0);
    rv_soft_interrupt(c, i, vector, i->ext == 2);
}

RV_OP(into) {
    if (c->fl & 1) {
        rv_soft_interrupt(c, i, RV_VEC_OF, false);
        return;
    }
    rv_end(c, i);
}

/* ---- SYSCALL, SYSRET, SYSENTER, SYSEXIT ---- */

#define FLAT_CODE64 (uint16_t)(RV_SEG_P | RV_SEG_S | RV_SEG_L | RV_SEG_G | 0xb)
#define FLAT_CODE32 (uint16_t)(RV_SEG_P | RV_SEG_S | RV_SEG_DB | RV_SEG_G | 0xb)
#define FLAT_DATA   (uint16_t)(RV_SEG_P | RV_SEG_S | RV_SEG_DB | RV_SEG_G | 3)

static struct rv_seg flat(uint64_t sel, unsigned attr, unsigned dpl) {
    return (struct rv_seg){
        .limit = 0xffffffffu, .sel = (uint16_t)sel, .attr = (uint16_t)(attr | dpl << 5)};
}

/* Only from 64-bit mode, as on the processors whose vendor string the profile shows. */
RV_OP(syscall) {
    struct rv_x86 *x = &c->x;
    if (!(x->efer & RV_EFER_SCE) || !(c->mode & RV_MODE_64)) rv_raise(c, i, RV_VEC_UD);
    uint64_t flags = rv_flags_get(c);
    x->gpr[RV_RCX] = rv_next_rip(c, i);
    x->gpr[RV_R11] = flags & ~(uint64_t)RV_FL_RF;
    x->rip = x->lstar;
    rv_flags_set(c, (flags & ~(x->sfmask | RV_FL_RF)) | 2);
    uint64_t sel = x->star >> 32 & 0xfffc;
    x->seg[RV_CS] = flat(sel, FLAT_CODE64, 0);
    x->seg[RV_SS] = flat(sel + 8, FLAT_DATA, 0);
    settle(c);
}

RV_OP(sysret) {
    struct rv_x86 *x = &c->x;
    if (!(x->efer & RV_EFER_SCE) || !(c->mode & RV_MODE_64)) rv_raise(c, i, RV_VEC_UD);
    if (c->cpl) rv_raise_error(c, i, RV_VEC_GP, 0);
    bool to64 = i->size == 8;
    if (to64 && !rv_canonical(x->gpr[RV_RCX])) rv_raise_error(c, i, RV_VEC_GP, 0);
    x->rip = to64 ? x->gpr[RV_RCX] : (uint32_t)x->gpr[RV_RCX];
    rv_flags_set(c, (x->gpr[RV_R11] & 0x3c7fd7) | 2);
    uint64_t base = x->star >> 48;
    x->seg[RV_CS] = flat((base + (to64 ? 16 : 0)) | 3, to64 ? FLAT_CODE64 : FLAT_CODE32, 3);
    x->seg[RV_SS] = flat((base + 8) | 3, FLAT_DATA, 3);
    settle(c);
}

RV_OP(sysenter) {
    struct rv_x86 *x = &c->x;
    if (!(x->cr0 & RV_CR0_PE) || !(x->sysenter_cs & 0xfffc)) rv_raise_error(c, i, RV_VEC_GP, 0);
    bool lm = long_mode(c);
    x->rflags &= ~(uint64_t)(RV_FL_VM | RV_FL_IF | RV_FL_RF);
    uint64_t sel = x->sysenter_cs & 0xfffc;
    x->gpr[RV_RSP] = lm ? x->sysenter_esp : (uint32_t)x->sysenter_esp;
    x->rip = lm ? x->sysenter_eip : (uint32_t)x->sysenter_eip;
    x->seg[RV_CS] = flat(sel, lm ? FLAT_CODE64 : FLAT_CODE32, 0);
    x->seg[RV_SS] = flat(sel + 8, FLAT_DATA, 0);
    settle(c);
}

RV_OP(sysexit) {
    struct rv_x86 *x = &c->x;
    if (!(x->cr0 & RV_CR0_PE) || !(x->sysenter_cs & 0xfffc) || c->cpl)
        rv_raise_error(c, i, RV_VEC_GP, 0);
    bool to64 = i->size == 8;
    uint64_t rip = x->gpr[RV_RDX], rsp = x->gpr[RV_RCX];
    if (to64 && (!rv_canonical(rip) || !rv_canonical(rsp))) rv_raise_error(c, i, RV_VEC_GP, 0);
    uint64_t sel = (x->sysenter_cs & 0xfffc) + (to64 ? 32 : 16);
    x->rip = to64 ? rip : (uint32_t)rip;
    x->gpr[RV_RSP] = to64 ? rsp : (uint32_t)rsp;
    x->seg[RV_CS] = flat(sel | 3, to64 ? FLAT_CODE64 : FLAT_CODE32, 3);
    x->seg[RV_SS] = flat((sel + 8) | 3, FLAT_DATA, 3);
    settle(c);
}
