/* Hardware task switching (SDM 3A chapter 7), 16- and 32-bit TSS. Long mode has none. */
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/seg.h"

/* Offsets in a TSS that the two formats have in common, in order: EIP, EFLAGS, eight registers,
 * then ES CS SS DS (FS GS). */
struct layout {
    unsigned ip, word, sregs, nsregs, ldt, cr3, size, trap;
};
static const struct layout layout32 = {0x20, 4, 0x48, 6, 0x60, 0x1c, 0x67, 0x64};
static const struct layout layout16 = {0x0e, 2, 0x22, 4, 0x2a, 0, 0x2b, 0};

static const struct layout *layout_of(unsigned type) { return type & 8 ? &layout32 : &layout16; }
static const unsigned sreg_order[] = {RV_ES, RV_CS, RV_SS, RV_DS, RV_FS, RV_GS};

static void save_task(struct rv_interp *c, const struct rv_insn *i, uint64_t rip, uint64_t flags) {
    const struct rv_seg *tr = &c->x.seg[RV_TR];
    const struct layout *l = layout_of(tr->attr & 15u);
    uint64_t at = tr->base + l->ip;
    rv_sys_store(c, i, at, l->word, rip);
    rv_sys_store(c, i, at + l->word, l->word, flags);
    for (unsigned n = 0; n < 8; n++)
        rv_sys_store(c, i, at + (2 + n) * l->word, l->word, c->x.gpr[n]);
    unsigned step = l->word;
    for (unsigned n = 0; n < l->nsregs; n++)
        rv_sys_store(c, i, tr->base + l->sregs + n * step, 2, c->x.seg[sreg_order[n]].sel);
}

static void set_busy(struct rv_interp *c, const struct rv_insn *i, struct rv_desc *d, bool busy) {
    d->lo = busy ? d->lo | 2ull << 40 : d->lo & ~(2ull << 40);
    rv_sys_store(c, i, d->at + 5, 1, d->lo >> 40 & 0xff);
}

/* Loads a segment register of the new task; what is wrong with it is #TS (SDM 3A table 7-1). */
static void load_sreg(struct rv_interp *c, unsigned reg, uint16_t sel, unsigned cpl) {
    struct rv_x86 *x = &c->x;
    if (x->rflags & RV_FL_VM) {
        rv_seg_load_real(c, reg, sel);
        return;
    }
    unsigned error = sel & 0xfffcu;
    if (!error) {
        if (reg == RV_CS || reg == RV_SS) rv_raise_error(c, NULL, RV_VEC_TS, 0);
        x->seg[reg] = (struct rv_seg){.sel = sel};
        return;
    }
    struct rv_desc d = rv_desc_read(c, NULL, sel, false, RV_VEC_TS);
    unsigned type = rv_desc_type(&d), dpl = rv_desc_dpl(&d), rpl = sel & 3;
    bool code = type & 8, ok = rv_desc_s(&d);
    if (reg == RV_CS)
        ok = ok && code && (type & 4 ? dpl <= rpl : dpl == rpl);
    else if (reg == RV_SS)
        ok = ok && !code && (type & 2) && dpl == cpl && rpl == cpl;
    else
        ok = ok && (!code || (type & 2)) && ((code && (type & 4)) || (dpl >= cpl && dpl >= rpl));
    if (!ok) rv_raise_error(c, NULL, RV_VEC_TS, error);
    if (!rv_desc_p(&d)) rv_raise_error(c, NULL, reg == RV_SS ? RV_VEC_SS : RV_VEC_NP, error);
    rv_desc_taken(c, NULL, &d);
    x->seg[reg] = rv_desc_seg(&d, sel);
}

static void load_ldt(struct rv_interp *c, uint16_t sel) {
    unsigned error = sel & 0xfffcu;
    c->x.seg[RV_LDTR] = (struct rv_seg){.sel = sel, .attr = 2};
    if (!error) return;
    struct rv_desc d;
    if ((sel & 4) || !rv_desc_try(c, NULL, sel, false, &d) || rv_desc_s(&d) ||
        rv_desc_type(&d) != 2 || !rv_desc_p(&d))
        rv_raise_error(c, NULL, RV_VEC_TS, error);
    c->x.seg[RV_LDTR] = rv_desc_seg(&d, sel);
}

void rv_task_switch(struct rv_interp *c, const struct rv_insn *i, uint16_t sel,
                    enum rv_task_cause cause, uint64_t next_rip, bool has_error, uint32_t error) {
    struct rv_x86 *x = &c->x;
    unsigned vector = cause == RV_TASK_IRET ? RV_VEC_TS : RV_VEC_GP, sel_error = sel & 0xfffcu;
    if ((sel & 4) || !sel_error) rv_raise_error(c, i, vector, sel_error);
    struct rv_desc d = rv_desc_read(c, i, sel, false, vector);
    unsigned type = rv_desc_type(&d);
    bool busy = type & 2;
    if (rv_desc_s(&d) || (type & 5) != 1 || busy != (cause == RV_TASK_IRET))
        rv_raise_error(c, i, vector, sel_error);
    if (!rv_desc_p(&d)) rv_raise_error(c, i, RV_VEC_NP, sel_error);
    struct rv_seg tss = rv_desc_seg(&d, sel);
    const struct layout *l = layout_of(type);
    if (tss.limit < l->size) rv_raise_error(c, i, RV_VEC_TS, sel_error);

    /* Read all of the new task first: a page fault here still belongs to the old one. */
    uint64_t word[10], cr3 = l->cr3 ? rv_sys_load(c, i, tss.base + l->cr3, 4) : x->cr3;
    for (unsigned n = 0; n < 10; n++)
        word[n] = rv_sys_load(c, i, tss.base + l->ip + n * l->word, l->word);
    uint16_t sregs[6] = {0};
    for (unsigned n = 0; n < l->nsregs; n++)
        sregs[n] = (uint16_t)rv_sys_load(c, i, tss.base + l->sregs + n * l->word, 2);
    uint16_t ldt = (uint16_t)rv_sys_load(c, i, tss.base + l->ldt, 2);
    bool trap = l->trap && (rv_sys_load(c, i, tss.base + l->trap, 2) & 1);

    uint64_t flags = rv_flags_get(c);
    if (cause == RV_TASK_IRET) flags &= ~(uint64_t)RV_FL_NT;
    save_task(c, i, next_rip, flags);
    uint16_t old = x->seg[RV_TR].sel;
    if (cause == RV_TASK_JMP || cause == RV_TASK_IRET) {
        struct rv_desc o;
        if (rv_desc_try(c, i, old, false, &o)) set_busy(c, i, &o, false);
    }
    uint64_t new_flags = word[1];
    if (cause == RV_TASK_CALL || cause == RV_TASK_GATE) {
        rv_sys_store(c, i, tss.base, 2, old);
        new_flags |= RV_FL_NT;
    }
    if (cause != RV_TASK_IRET) set_busy(c, i, &d, true);

    tss.attr |= 2;
    x->seg[RV_TR] = tss;
    x->cr0 |= RV_CR0_TS;
    if (l->cr3 && (x->cr0 & RV_CR0_PG) && cr3 != x->cr3) {
        x->cr3 = cr3;
        c->dropped = true;
        rv_mmu_flush(c);
    }
    x->rip = word[0];
    if (l->word == 2) new_flags &= 0xffff;
    rv_flags_set(c, new_flags);
    for (unsigned n = 0; n < 8; n++)
        x->gpr[n] = l->word == 4 ? word[2 + n] : (x->gpr[n] & ~0xffffull) | word[2 + n];
    x->dr7 &= ~0x55ull; /* local breakpoints end with the task */
    /* From here on faults belong to the new task, which already has its selectors. */
    for (unsigned n = 0; n < 6; n++) {
        x->seg[sreg_order[n]].sel = sregs[n];
        x->seg[sreg_order[n]].attr &= (uint16_t)~RV_SEG_P;
    }
    load_ldt(c, ldt);
    unsigned cpl = x->rflags & RV_FL_VM ? 3 : sregs[1] & 3u;
    load_sreg(c, RV_CS, sregs[1], cpl);
    load_sreg(c, RV_SS, sregs[2], cpl);
    load_sreg(c, RV_ES, sregs[0], cpl);
    load_sreg(c, RV_DS, sregs[3], cpl);
    load_sreg(c, RV_FS, sregs[4], cpl);
    load_sreg(c, RV_GS, sregs[5], cpl);
    rv_mmu_mode(c);
    rv_leave(c);
    if (has_error) rv_push(c, NULL, l->word, error);
    if (x->rip > x->seg[RV_CS].limit) rv_raise_error(c, NULL, RV_VEC_GP, 0);
    if (trap) {
        x->pending_db = 1;
        x->pending_dr6 |= 1u << 15;
    }
}
