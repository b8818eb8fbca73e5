/* Delivery of interrupts and exceptions through the IDT (SDM 3A chapter 6). Everything is read and
 * checked, and the frame written, before a register changes; a fault on the way leaves by longjmp
 * and run.c turns it into a double fault where the SDM says so. */
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/seg.h"

enum { GATE_TASK = 5, GATE_INT16 = 6, GATE_TRAP16 = 7, GATE_INT32 = 14, GATE_TRAP32 = 15 };

/* The frame being built: pushes go down from sp in a segment. */
struct frame {
    struct rv_seg ss;
    uint64_t sp;
    unsigned size;
    bool user, flat;
};

static void frame_push(struct rv_interp *c, struct frame *f, uint64_t v) {
    uint64_t mask = f->flat ? ~0ull : f->ss.attr & RV_SEG_DB ? 0xffffffffu : 0xffff;
    uint64_t sp = (f->sp - f->size) & mask;
    if (f->flat) {
        if (!rv_canonical(sp) || !rv_canonical(sp + f->size - 1))
            rv_raise_error(c, NULL, RV_VEC_SS, 0);
    } else {
        bool down = (f->ss.attr & 0xc) == 4;
        uint64_t last = sp + f->size - 1, top = f->ss.attr & RV_SEG_DB ? 0xffffffffu : 0xffff;
        if (down ? sp <= f->ss.limit || last > top : last > f->ss.limit)
            rv_raise_error(c, NULL, RV_VEC_SS,
                           f->ss.sel == c->x.seg[RV_SS].sel ? 0 : f->ss.sel & 0xfffcu);
    }
    uint64_t va = f->flat ? sp : (f->ss.base + sp) & 0xffffffffu;
    if (f->user)
        rv_store_as(c, NULL, va, f->size, v & rv_mask(f->size), true);
    else
        rv_sys_store(c, NULL, va, f->size, v & rv_mask(f->size));
    f->sp = f->flat ? sp : (f->sp & ~mask) | sp;
}

static void deliver_real(struct rv_interp *c, unsigned vector) {
    struct rv_x86 *x = &c->x;
    if (vector * 4 + 3u > x->idt.limit) rv_raise_error(c, NULL, RV_VEC_GP, vector * 8 + 2);
    uint32_t entry = (uint32_t)rv_sys_load(c, NULL, x->idt.base + vector * 4, 4);
    struct frame f = {.ss = x->seg[RV_SS], .sp = x->gpr[RV_RSP], .size = 2};
    uint64_t flags = rv_flags_get(c);
    frame_push(c, &f, flags);
    frame_push(c, &f, x->seg[RV_CS].sel);
    frame_push(c, &f, x->rip);
    x->gpr[RV_RSP] = f.sp;
    rv_seg_load_real(c, RV_CS, (uint16_t)(entry >> 16));
    x->rip = entry & 0xffff;
    x->rflags &= ~(uint64_t)(RV_FL_IF | RV_FL_TF | RV_FL_AC | RV_FL_RF);
}

struct gate {
    unsigned type, dpl, ist;
    uint16_t sel;
    uint64_t offset;
};

static struct gate read_gate(struct rv_interp *c, unsigned vector, bool soft, unsigned ext) {
    struct rv_x86 *x = &c->x;
    bool lm = x->efer & RV_EFER_LMA;
    unsigned size = lm ? 16 : 8, error = vector * 8 + 2 + ext;
    if (vector * size + size - 1 > x->idt.limit) rv_raise_error(c, NULL, RV_VEC_GP, error);
    uint64_t at = x->idt.base + vector * size;
    uint64_t lo = rv_sys_load(c, NULL, at, 8), hi = lm ? rv_sys_load(c, NULL, at + 8, 8) : 0;
    struct gate g = {.type = lo >> 40 & 0x1f,
                     .dpl = lo >> 45 & 3,
                     .ist = lm ? lo >> 32 & 7 : 0,
                     .sel = (uint16_t)(lo >> 16),
                     .offset = (lo & 0xffff) | (lo >> 32 & 0xffff0000u)};
    if (lm) g.offset |= hi << 32;
    bool known = g.type == GATE_INT32 || g.type == GATE_TRAP32 ||
                 (!lm && (g.type == GATE_TASK || g.type == GATE_INT16 || g.type == GATE_TRAP16));
    if (!known || (lm && (hi >> 40 & 0x1f))) rv_raise_error(c, NULL, RV_VEC_GP, error);
    if (soft && g.dpl < c->cpl) rv_raise_error(c, NULL, RV_VEC_GP, error);
    if (!(lo >> 47 & 1)) rv_raise_error(c, NULL, RV_VEC_NP, error);
    if (g.type == GATE_INT16 || g.type == GATE_TRAP16) g.offset &= 0xffff;
    return g;
}

void rv_deliver(struct rv_interp *c, unsigned vector, bool has_error, uint32_t error, bool soft,
                bool external) {
    struct rv_x86 *x = &c->x;
    if (!(x->cr0 & RV_CR0_PE)) {
        deliver_real(c, vector);
        rv_mmu_mode(c);
        return;
    }
    unsigned ext = soft ? 0 : 1;
    bool lm = x->efer & RV_EFER_LMA, vm = x->rflags & RV_FL_VM;
    struct gate g = read_gate(c, vector, soft, ext);
    if (g.type == GATE_TASK) {
        rv_task_switch(c, NULL, g.sel, RV_TASK_GATE, x->rip, has_error, error);
        return;
    }
    if (!(g.sel & 0xfffc)) rv_raise_error(c, NULL, RV_VEC_GP, ext);
    struct rv_desc d;
    unsigned sel_error = (g.sel & 0xfffcu) | ext;
    if (!rv_desc_try(c, NULL, g.sel, false, &d)) rv_raise_error(c, NULL, RV_VEC_GP, sel_error);
    unsigned type = rv_desc_type(&d), dpl = rv_desc_dpl(&d);
    if (!rv_desc_s(&d) || !(type & 8) || dpl > c->cpl)
        rv_raise_error(c, NULL, RV_VEC_GP, sel_error);
    if (lm && (!(d.lo >> 53 & 1) || (d.lo >> 54 & 1)))
        rv_raise_error(c, NULL, RV_VEC_GP, sel_error);
    if (!rv_desc_p(&d)) rv_raise_error(c, NULL, RV_VEC_NP, sel_error);
    bool conforming = type & 4;
    bool inner = !conforming && dpl < c->cpl;
    unsigned cpl = inner ? dpl : c->cpl;
    if (vm && (!inner || dpl != 0)) rv_raise_error(c, NULL, RV_VEC_GP, sel_error);

    uint64_t flags = rv_flags_get(c);
    /* Faults show RF, so that an instruction breakpoint does not strike twice (SDM 3B 17.3.1.1). */
    bool fault = !external && !soft && vector != RV_VEC_BP && vector != RV_VEC_OF &&
                 vector != RV_VEC_NMI && vector != RV_VEC_DB && vector != RV_VEC_MC;
    uint64_t hides = vector == RV_VEC_UD ? RV_QUIRK_NO_RF_UD : RV_QUIRK_NO_RF;
    if (fault && !(c->bus->quirks & hides)) flags |= RV_FL_RF;
    struct frame f = {.size = lm ? 8 : g.type >= GATE_INT32 ? 4 : 2, .flat = lm};
    f.ss = x->seg[RV_SS];
    f.sp = x->gpr[RV_RSP];
    f.user = cpl == 3;
    if (inner || g.ist) {
        struct rv_stack st = rv_stack_of_level(c, NULL, cpl, g.ist);
        f.sp = st.sp;
        if (inner) f.ss = st.ss;
    }
    uint64_t old_ss = x->seg[RV_SS].sel, old_sp = x->gpr[RV_RSP];
    if (lm) {
        if (!rv_canonical(g.offset)) rv_raise_error(c, NULL, RV_VEC_GP, ext);
        f.sp &= ~15ull;
        frame_push(c, &f, old_ss);
        frame_push(c, &f, old_sp);
    } else {
        struct rv_seg cs = rv_desc_seg(&d, g.sel);
        if (g.offset > cs.limit) rv_raise_error(c, NULL, RV_VEC_GP, ext);
        if (vm) {
            frame_push(c, &f, x->seg[RV_GS].sel);
            frame_push(c, &f, x->seg[RV_FS].sel);
            frame_push(c, &f, x->seg[RV_DS].sel);
            frame_push(c, &f, x->seg[RV_ES].sel);
        }
        if (inner) {
            frame_push(c, &f, old_ss);
            frame_push(c, &f, old_sp);
        }
    }
    frame_push(c, &f, flags);
    frame_push(c, &f, x->seg[RV_CS].sel);
    frame_push(c, &f, x->rip);
    if (has_error) frame_push(c, &f, error);
    rv_desc_taken(c, NULL, &d);

    if (vm)
        for (unsigned s = 0; s < 4; s++) {
            static const unsigned data[] = {RV_ES, RV_DS, RV_FS, RV_GS};
            x->seg[data[s]] = (struct rv_seg){0};
        }
    x->seg[RV_SS] = f.ss;
    if (lm || f.ss.attr & RV_SEG_DB)
        x->gpr[RV_RSP] = lm ? f.sp : f.sp & 0xffffffffu;
    else
        x->gpr[RV_RSP] = (x->gpr[RV_RSP] & ~0xffffull) | (f.sp & 0xffff);
    x->seg[RV_CS] = rv_desc_seg(&d, (uint16_t)((g.sel & ~3u) | cpl));
    x->rip = g.offset;
    x->rflags &= ~(uint64_t)(RV_FL_TF | RV_FL_VM | RV_FL_RF | RV_FL_NT);
    if (g.type == GATE_INT16 || g.type == GATE_INT32) x->rflags &= ~(uint64_t)RV_FL_IF;
    rv_mmu_mode(c);
}
