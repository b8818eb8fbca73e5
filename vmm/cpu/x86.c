#include "vmm/cpu/x86.h"

#include <string.h>

#define SEG(i)                                                                                     \
    RV_FIELD(struct rv_x86, seg[i].base), RV_FIELD(struct rv_x86, seg[i].limit),                   \
        RV_FIELD(struct rv_x86, seg[i].sel), RV_FIELD(struct rv_x86, seg[i].attr)
#define F(m) RV_FIELD(struct rv_x86, m)

const struct rv_field rv_x86_fields[] = {
    F(icount),
    RV_FIELD_ARRAY(struct rv_x86, gpr),
    F(rip),
    F(rflags),
    SEG(0),
    SEG(1),
    SEG(2),
    SEG(3),
    SEG(4),
    SEG(5),
    SEG(6),
    SEG(7),
    F(gdt.base),
    F(gdt.limit),
    F(idt.base),
    F(idt.limit),
    F(cr0),
    F(cr2),
    F(cr3),
    F(cr4),
    F(xcr0),
    RV_FIELD_ARRAY(struct rv_x86, dr),
    F(dr6),
    F(dr7),
    F(efer),
    F(star),
    F(lstar),
    F(cstar),
    F(sfmask),
    F(kernel_gs_base),
    F(sysenter_cs),
    F(sysenter_esp),
    F(sysenter_eip),
    F(pat),
    F(tsc_aux),
    F(tsc_adjust),
    F(misc_enable),
    F(spec_ctrl),
    F(mtrr_def_type),
    RV_FIELD_ARRAY(struct rv_x86, mtrr_phys),
    RV_FIELD_ARRAY(struct rv_x86, mtrr_fixed),
    F(tsc_offset),
    F(sti_shadow),
    F(movss_shadow),
    F(nmi_blocked),
    F(nmi_pending),
    F(halted),
    F(pending_db),
    F(pending_dr6),
    RV_FIELD_ARRAY(struct rv_x86, fx),
    RV_FIELD_ARRAY(struct rv_x86, ymmh), /* the last: see rv_x86_hash */
    RV_FIELD_END,
};

uint64_t rv_x86_hash(const struct rv_x86 *s, uint64_t seed) {
    static const uint8_t zeroes[sizeof s->ymmh];
    if (memcmp(s->ymmh, zeroes, sizeof zeroes) != 0) return rv_state_hash(rv_x86_fields, s, seed);
    struct rv_field others[RV_COUNT(rv_x86_fields) - 1];
    memcpy(others, rv_x86_fields, sizeof others);
    others[RV_COUNT(others) - 1] = (struct rv_field)RV_FIELD_END;
    return rv_state_hash(others, s, seed);
}

uint32_t rv_x86_mxcsr(const struct rv_x86 *s) {
    uint32_t v;
    memcpy(&v, s->fx + 24, sizeof v);
    return v;
}

void rv_x86_reset(struct rv_x86 *s) {
    memset(s, 0, sizeof *s);
    s->rip = 0xfff0;
    s->rflags = 2;
    for (int i = 0; i < RV_SREGS; i++)
        s->seg[i] = (struct rv_seg){.limit = 0xffff, .attr = RV_SEG_P | RV_SEG_S | 3};
    s->seg[RV_CS].sel = 0xf000;
    s->seg[RV_CS].base = 0xffff0000;
    s->seg[RV_CS].attr = RV_SEG_P | RV_SEG_S | 0xb;
    s->seg[RV_LDTR].attr = RV_SEG_P | 2;
    s->seg[RV_TR].attr = RV_SEG_P | 0xb;
    s->gdt.limit = s->idt.limit = 0xffff;
    s->cr0 = RV_CR0_CD | RV_CR0_NW | RV_CR0_ET;
    s->dr6 = 0xffff0ff0;
    s->dr7 = 0x400;
    s->xcr0 = 1;
    s->gpr[RV_RDX] = 0x206a7;
    s->pat = 0x0007040600070406ull;
    s->misc_enable = 1;
    /* FNINIT state with MXCSR at its default (SDM vol. 1, 8.1 and 10.2.3). */
    s->fx[0] = 0x7f;
    s->fx[1] = 0x03;
    s->fx[24] = 0x80;
    s->fx[25] = 0x1f;
}

void rv_x86_canonical(struct rv_x86 *s) {
    s->icount = 0;
    /* FOP, FIP and FDP of the x87: processors differ in when they keep them. */
    memset(s->fx + 6, 0, 24 - 6);
    bool long_mode = s->efer & RV_EFER_LMA;
    for (unsigned n = 0; n < RV_SREGS; n++) {
        struct rv_seg *g = &s->seg[n];
        /* Long mode lets a null selector be used, with whatever the processor keeps behind it. */
        bool null = long_mode && g->sel < 4 && n != RV_CS;
        if ((g->attr & RV_SEG_P) && !null) continue;
        g->limit = 0;
        g->attr = 0;
        /* In long mode the bases of FS and GS live on as MSRs. */
        if (!long_mode || (n != RV_FS && n != RV_GS)) g->base = 0;
    }
}
