/* Segment checks, descriptor loads, and the instructions about them (SDM 3A chapters 3 and 5). */
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/seg.h"

uint64_t rv_seg_linear(struct rv_interp *c, const struct rv_insn *i, unsigned seg, uint64_t off,
                       unsigned size, bool write) {
    const struct rv_seg *s = &c->x.seg[seg];
    unsigned vector = seg == RV_SS ? RV_VEC_SS : RV_VEC_GP;
    off &= 0xffffffffu;
    uint64_t last = off + size - 1;
    if (c->mode & RV_MODE_PROT) {
        if (!(s->attr & RV_SEG_P)) rv_raise_error(c, i, vector, 0);
        unsigned type = s->attr & RV_SEG_TYPE;
        if (type & 8) {
            if (write || !(type & 2)) rv_raise_error(c, i, vector, 0);
        } else if (write && !(type & 2)) {
            rv_raise_error(c, i, vector, 0);
        }
        if ((type & 0xc) == 4) { /* expand-down data: valid above the limit */
            uint64_t top = s->attr & RV_SEG_DB ? 0xffffffffu : 0xffff;
            if (off <= s->limit || last > top) rv_raise_error(c, i, vector, 0);
            return (s->base + off) & 0xffffffffu;
        }
    }
    if (rv_unlikely(last > s->limit)) rv_raise_error(c, i, vector, 0);
    return (s->base + off) & 0xffffffffu;
}

uint64_t rv_ea_slow(struct rv_interp *c, const struct rv_insn *i, uint64_t ea, unsigned size,
                    bool write) {
    ea &= rv_mask(i->asize);
    if (!(c->mode & RV_MODE_64)) return rv_seg_linear(c, i, i->seg, ea, size, write);
    if (i->seg == RV_FS || i->seg == RV_GS) ea += c->x.seg[i->seg].base;
    return ea;
}

bool rv_desc_try(struct rv_interp *c, const struct rv_insn *i, uint16_t sel, bool wide,
                 struct rv_desc *out) {
    uint64_t base, limit;
    if (sel & 4) {
        const struct rv_seg *l = &c->x.seg[RV_LDTR];
        if (!(l->attr & RV_SEG_P)) return false;
        base = l->base;
        limit = l->limit;
    } else {
        base = c->x.gdt.base;
        limit = c->x.gdt.limit;
    }
    unsigned off = sel & 0xfff8;
    if (off + 7u > limit) return false;
    *out = (struct rv_desc){.at = base + off, .lo = rv_sys_load(c, i, base + off, 8)};
    if (wide && (c->x.efer & RV_EFER_LMA) && !rv_desc_s(out)) {
        if (off + 15u > limit) return false;
        out->hi = rv_sys_load(c, i, base + off + 8, 8);
    }
    return true;
}

struct rv_desc rv_desc_read(struct rv_interp *c, const struct rv_insn *i, uint16_t sel, bool wide,
                            unsigned vector) {
    struct rv_desc d;
    if (!rv_desc_try(c, i, sel, wide, &d)) rv_raise_error(c, i, vector, sel & 0xfffcu);
    return d;
}

struct rv_seg rv_desc_seg(const struct rv_desc *d, uint16_t sel) {
    uint32_t limit = (uint32_t)(d->lo & 0xffff) | (uint32_t)(d->lo >> 32 & 0xf0000);
    if (d->lo >> 55 & 1) limit = limit << 12 | 0xfff;
    uint64_t base = (d->lo >> 16 & 0xffffff) | (d->lo >> 56 & 0xff) << 24;
    if (!rv_desc_s(d)) base |= (d->hi & 0xffffffffu) << 32;
    return (struct rv_seg){
        .base = base, .limit = limit, .sel = sel, .attr = (uint16_t)rv_desc_attr(d)};
}

void rv_desc_accessed(struct rv_interp *c, const struct rv_insn *i, struct rv_desc *d) {
    if (d->lo >> 40 & 1) return;
    d->lo |= 1ull << 40;
    rv_sys_store(c, i, d->at + 5, 1, d->lo >> 40 & 0xff);
}

void rv_desc_taken(struct rv_interp *c, const struct rv_insn *i, struct rv_desc *d) {
    if (!(c->bus->quirks & RV_QUIRK_NOT_ACCESSED)) rv_desc_accessed(c, i, d);
}

void rv_seg_load_real(struct rv_interp *c, unsigned seg, uint16_t sel) {
    struct rv_seg *s = &c->x.seg[seg];
    s->sel = sel;
    s->base = (uint64_t)sel << 4;
    if (c->x.rflags & RV_FL_VM) {
        s->limit = 0xffff;
        s->attr = RV_SEG_P | RV_SEG_S | 3 << 5 | 3;
    }
    /* Real mode keeps limit and attributes: that is what makes "unreal" mode. */
}

void rv_seg_load(struct rv_interp *c, const struct rv_insn *i, unsigned seg, uint16_t sel) {
    if (!(c->mode & RV_MODE_PROT)) {
        rv_seg_load_real(c, seg, sel);
        return;
    }
    unsigned rpl = sel & 3;
    if (!(sel & 0xfffc)) {
        if (seg == RV_SS && (!(c->mode & RV_MODE_64) || c->cpl == 3 || rpl != c->cpl))
            rv_raise_error(c, i, RV_VEC_GP, 0);
        c->x.seg[seg] = (struct rv_seg){
            .sel = sel, .attr = seg == RV_SS ? (uint16_t)(c->cpl << 5) : (uint16_t)0};
        return;
    }
    struct rv_desc d = rv_desc_read(c, i, sel, false, RV_VEC_GP);
    unsigned type = rv_desc_type(&d), dpl = rv_desc_dpl(&d), error = sel & 0xfffcu;
    if (!rv_desc_s(&d)) rv_raise_error(c, i, RV_VEC_GP, error);
    if (seg == RV_SS) {
        if (rpl != c->cpl || dpl != c->cpl || (type & 8) || !(type & 2))
            rv_raise_error(c, i, RV_VEC_GP, error);
        if (!rv_desc_p(&d)) rv_raise_error(c, i, RV_VEC_SS, error);
    } else {
        bool code = type & 8;
        if (code && !(type & 2)) rv_raise_error(c, i, RV_VEC_GP, error);
        if (!(code && (type & 4)) && (rpl > dpl || c->cpl > dpl))
            rv_raise_error(c, i, RV_VEC_GP, error);
        if (!rv_desc_p(&d)) rv_raise_error(c, i, RV_VEC_NP, error);
    }
    rv_desc_accessed(c, i, &d);
    c->x.seg[seg] = rv_desc_seg(&d, sel);
}

struct rv_stack rv_stack_of_level(struct rv_interp *c, const struct rv_insn *i, unsigned cpl,
                                  unsigned ist) {
    const struct rv_seg *tr = &c->x.seg[RV_TR];
    unsigned error = tr->sel & 0xfffcu;
    struct rv_stack st = {0};
    if (c->x.efer & RV_EFER_LMA) {
        unsigned off = ist ? 36 + 8 * (ist - 1) : 4 + 8 * cpl;
        if (off + 7 > tr->limit) rv_raise_error(c, i, RV_VEC_TS, error);
        st.sp = rv_sys_load(c, i, tr->base + off, 8);
        st.ss = (struct rv_seg){.sel = (uint16_t)cpl, .attr = (uint16_t)(cpl << 5)};
        return st;
    }
    uint16_t sel;
    if ((tr->attr & RV_SEG_TYPE) & 8) {
        unsigned off = 4 + 8 * cpl;
        if (off + 5 > tr->limit) rv_raise_error(c, i, RV_VEC_TS, error);
        st.sp = rv_sys_load(c, i, tr->base + off, 4);
        sel = (uint16_t)rv_sys_load(c, i, tr->base + off + 4, 2);
    } else {
        unsigned off = 2 + 4 * cpl;
        if (off + 3 > tr->limit) rv_raise_error(c, i, RV_VEC_TS, error);
        st.sp = rv_sys_load(c, i, tr->base + off, 2);
        sel = (uint16_t)rv_sys_load(c, i, tr->base + off + 2, 2);
    }
    if (!(sel & 0xfffc)) rv_raise_error(c, i, RV_VEC_TS, sel & 0xfffcu);
    struct rv_desc d = rv_desc_read(c, i, sel, false, RV_VEC_TS);
    unsigned type = rv_desc_type(&d);
    if ((sel & 3u) != cpl || rv_desc_dpl(&d) != cpl || !rv_desc_s(&d) || (type & 8) || !(type & 2))
        rv_raise_error(c, i, RV_VEC_TS, sel & 0xfffcu);
    if (!rv_desc_p(&d)) rv_raise_error(c, i, RV_VEC_SS, sel & 0xfffcu);
    rv_desc_accessed(c, i, &d);
    st.ss = rv_desc_seg(&d, sel);
    return st;
}

/* ---- MOV, PUSH, POP of segment registers; LDS and friends ---- */

/* The interrupt shadow that MOV SS and POP SS cast over one instruction (SDM 3A 6.8.3). */
static void after_load(struct rv_interp *c, const struct rv_insn *i, unsigned seg) {
    if (seg == RV_SS) {
        c->x.movss_shadow = 1;
        rv_leave(c);
    }
    rv_mmu_mode(c);
    rv_end(c, i);
}

RV_OP(mov_to_seg) {
    uint16_t sel = i->r2 ? *rv_reg16(c, i->r2) : rv_load16(c, i, rv_ea(c, i, 2, false));
    rv_seg_load(c, i, i->ext, sel);
    after_load(c, i, i->ext);
}

/* To a register of any size the selector is zero-extended; to memory it is two bytes. */
RV_OP(mov_from_seg) {
    uint16_t sel = c->x.seg[i->ext].sel;
    if (i->r1)
        rv_reg_set(c, i->r1, i->size, sel);
    else
        rv_store16(c, i, rv_ea(c, i, 2, true), sel);
    rv_next(c, i);
}

RV_OP(push_seg) {
    /* The stack pointer moves by the operand size, but only two bytes are written for 32-bit
     * pushes on today's processors (SDM vol. 2, PUSH). */
    unsigned size = i->size;
    uint64_t sp = (c->x.gpr[RV_RSP] - size) & rv_stack_mask(c), sel = c->x.seg[i->ext].sel;
    unsigned width = size == 4 ? 2 : size;
    rv_store(c, i, rv_stack_linear(c, i, sp, width, true), width, sel);
    rv_sp_set(c, sp);
    rv_next(c, i);
}

RV_OP(pop_seg) {
    /* The stack that was popped from says how wide its pointer is, also when SS is what changes. */
    uint64_t mask = rv_stack_mask(c), sp = c->x.gpr[RV_RSP];
    uint16_t sel = (uint16_t)rv_peek(c, i, i->size, 0);
    rv_seg_load(c, i, i->ext, sel);
    c->x.gpr[RV_RSP] =
        mask == 0xffff ? (sp & ~mask) | ((sp + i->size) & mask) : (sp + i->size) & mask;
    after_load(c, i, i->ext);
}

RV_OP(load_far) {
    unsigned size = i->size;
    uint64_t va = rv_ea(c, i, size + 2, false);
    uint64_t off = rv_load(c, i, va, size);
    uint16_t sel = rv_load16(c, i, va + size);
    rv_seg_load(c, i, i->ext, sel);
    rv_reg_set(c, i->r1, size, off);
    after_load(c, i, i->ext);
}

/* ---- system segments and tables ---- */

static void need_ring0(struct rv_interp *c, const struct rv_insn *i) {
    if (c->cpl) rv_raise_error(c, i, RV_VEC_GP, 0);
}
static void need_protected(struct rv_interp *c, const struct rv_insn *i) {
    if (!(c->mode & RV_MODE_PROT)) rv_raise(c, i, RV_VEC_UD);
}
static void umip(struct rv_interp *c, const struct rv_insn *i) {
    if (c->cpl && (c->x.cr4 & RV_CR4_UMIP)) rv_raise_error(c, i, RV_VEC_GP, 0);
}
static uint16_t selector_operand(struct rv_interp *c, const struct rv_insn *i) {
    return i->r2 ? *rv_reg16(c, i->r2) : rv_load16(c, i, rv_ea(c, i, 2, false));
}

RV_OP(ldt) {
    need_protected(c, i);
    need_ring0(c, i);
    uint16_t sel = selector_operand(c, i);
    if (!(sel & 0xfffc)) {
        c->x.seg[RV_LDTR] = (struct rv_seg){.sel = sel, .attr = 2};
        rv_next(c, i);
        return;
    }
    if (sel & 4) rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    struct rv_desc d = rv_desc_read(c, i, sel, true, RV_VEC_GP);
    if (rv_desc_s(&d) || rv_desc_type(&d) != 2) rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    if (!rv_desc_p(&d)) rv_raise_error(c, i, RV_VEC_NP, sel & 0xfffcu);
    struct rv_seg s = rv_desc_seg(&d, sel);
    if ((c->x.efer & RV_EFER_LMA) && !rv_canonical(s.base))
        rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    c->x.seg[RV_LDTR] = s;
    rv_next(c, i);
}

RV_OP(tr) {
    need_protected(c, i);
    need_ring0(c, i);
    uint16_t sel = selector_operand(c, i);
    if (!(sel & 0xfffc)) rv_raise_error(c, i, RV_VEC_GP, 0);
    if (sel & 4) rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    struct rv_desc d = rv_desc_read(c, i, sel, true, RV_VEC_GP);
    unsigned type = rv_desc_type(&d);
    bool ok = !rv_desc_s(&d) && (type == 9 || (type == 1 && !(c->x.efer & RV_EFER_LMA)));
    if (!ok) rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    if (!rv_desc_p(&d)) rv_raise_error(c, i, RV_VEC_NP, sel & 0xfffcu);
    struct rv_seg s = rv_desc_seg(&d, sel);
    if ((c->x.efer & RV_EFER_LMA) && !rv_canonical(s.base))
        rv_raise_error(c, i, RV_VEC_GP, sel & 0xfffcu);
    d.lo |= 2ull << 40; /* busy */
    rv_sys_store(c, i, d.at + 5, 1, d.lo >> 40 & 0xff);
    s.attr |= 2;
    c->x.seg[RV_TR] = s;
    rv_next(c, i);
}

/* SLDT and STR; ext is the register. */
RV_OP(store_ldt_tr) {
    need_protected(c, i);
    umip(c, i);
    uint16_t sel = c->x.seg[i->ext].sel;
    if (i->r1)
        rv_reg_set(c, i->r1, i->size, sel);
    else
        rv_store16(c, i, rv_ea(c, i, 2, true), sel);
    rv_next(c, i);
}

/* LGDT and LIDT (ext 1). A 16-bit operand takes 24 bits of base. */
RV_OP(lgdt) {
    need_ring0(c, i);
    unsigned wide = c->mode & RV_MODE_64 ? 8 : 4;
    uint64_t va = rv_ea(c, i, 2 + wide, false);
    uint16_t limit = rv_load16(c, i, va);
    uint64_t base = rv_load(c, i, va + 2, wide);
    if (wide == 4 && i->size == 2) base &= 0xffffff;
    if (wide == 8 && !rv_canonical(base)) rv_raise_error(c, i, RV_VEC_GP, 0);
    struct rv_dtr *t = i->ext ? &c->x.idt : &c->x.gdt;
    t->limit = limit;
    t->base = base;
    rv_next(c, i);
}

RV_OP(sgdt) {
    umip(c, i);
    unsigned wide = c->mode & RV_MODE_64 ? 8 : 4;
    const struct rv_dtr *t = i->ext ? &c->x.idt : &c->x.gdt;
    uint64_t va = rv_ea(c, i, 2 + wide, true);
    uint8_t out[10];
    memcpy(out, &t->limit, 2);
    memcpy(out + 2, &t->base, 8);
    rv_store_bytes(c, i, va, out, 2 + wide);
    rv_next(c, i);
}

/* Whether LAR, LSL, VERR or VERW may see a descriptor at this privilege. */
static bool visible(const struct rv_interp *c, const struct rv_desc *d, uint16_t sel) {
    unsigned type = rv_desc_type(d), dpl = rv_desc_dpl(d), rpl = sel & 3;
    if (rv_desc_s(d) && (type & 0xc) == 0xc) return true; /* conforming code */
    return dpl >= c->cpl && dpl >= rpl;
}

/* LAR and LSL (ext 1): SDM vol. 2, tables of valid system types. */
RV_OP(lar_lsl) {
    need_protected(c, i);
    uint16_t sel = selector_operand(c, i);
    struct rv_desc d;
    bool ok = (sel & 0xfffc) && rv_desc_try(c, i, sel, true, &d) && visible(c, &d, sel);
    if (ok && !rv_desc_s(&d)) {
        unsigned type = rv_desc_type(&d);
        bool lm = c->x.efer & RV_EFER_LMA;
        unsigned valid =
            lm ? 1u << 2 | 1u << 9 | 1u << 11 : 1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11;
        if (!i->ext) valid |= lm ? 1u << 12 : 1u << 4 | 1u << 5 | 1u << 12;
        ok = valid >> type & 1;
    }
    if (ok) {
        uint64_t v = i->ext ? rv_desc_seg(&d, sel).limit : d.lo >> 32 & 0xffff00;
        rv_reg_set(c, i->r1, i->size, v);
        c->fl |= 0x4000;
    } else {
        c->fl &= (uint16_t)~0x4000u;
    }
    rv_next(c, i);
}

/* VERR and VERW (ext 1). */
RV_OP(verr_verw) {
    need_protected(c, i);
    uint16_t sel = selector_operand(c, i);
    struct rv_desc d;
    bool ok =
        (sel & 0xfffc) && rv_desc_try(c, i, sel, false, &d) && rv_desc_s(&d) && visible(c, &d, sel);
    if (ok) {
        unsigned type = rv_desc_type(&d);
        bool code = type & 8;
        ok = i->ext ? !code && (type & 2) : !code || (type & 2);
    }
    c->fl = (uint16_t)((c->fl & ~0x4000u) | (ok ? 0x4000u : 0));
    rv_next(c, i);
}
