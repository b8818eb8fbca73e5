/* Memory operands: from the guest's address to the host's, by a look into the TLB.
 *
 * Nothing here changes the flags: LEA, MOV, PEXT, SHRX and JRCXZ leave them alone. The tag is
 * negated, so that its sum with the address of the access's last byte is the offset in the page
 * when it hits and stays in the page, and has higher bits otherwise. */
#include "vmm/cpu/xlate/translate.h"

static int32_t table(const struct rv_translation *t, unsigned how) {
    int32_t set = RV_AT(tlbs) + (int32_t)(t->tb->set * sizeof(struct rv_tlb));
    return set +
           (int32_t)(how & RV_HOW_WRITE ? offsetof(struct rv_tlb, w) : offsetof(struct rv_tlb, r));
}

void rv_entry(struct rv_translation *t, unsigned va, unsigned how) {
    struct rv_emit *e = &t->e;
    int32_t at = table(t, how);
    rv_emit_pext(e, HCX, va, RV_HOT(tlb_mask));
    rv_emit_lea(e, HCX, rv_sum(HCX, HCX, 0, 0));
    rv_emit_load(e, H11, rv_sum(HSP, HCX, 3, at + (int32_t)offsetof(struct rv_tlbe, addend)));
    rv_emit_load(e, HCX, rv_sum(HSP, HCX, 3, at + (int32_t)offsetof(struct rv_tlbe, tag)));
}

struct rv_rm rv_access(struct rv_translation *t, unsigned va, unsigned size, unsigned how) {
    struct rv_emit *e = &t->e;
    rv_entry(t, va, how);
    if (how & RV_HOW_ALIGNED) {
        rv_emit_lea(e, HCX, rv_sum(va, HCX, 0, 0));
        rv_emit_pext(e, HCX, HCX, size == 32 ? RV_HOT(align32_mask) : RV_HOT(align_mask));
    } else {
        rv_emit_lea(e, HCX, rv_sum(va, HCX, 0, (int32_t)size - 1));
        rv_emit_shrx(e, HCX, HCX, HSP);
    }
    rv_slow(t, rv_emit_unless_zero(e));
    return rv_sum(va, H11, 0, 0);
}

static bool fits(int64_t v) { return v == (int32_t)v; }

/* An address known now: its entry and its place in the page are, too. */
static bool fixed(struct rv_translation *t, uint64_t va, unsigned size, unsigned how,
                  struct rv_rm *out) {
    struct rv_emit *e = &t->e;
    if ((va & 0xfff) + size > RV_PAGE_SIZE) return false;
    if ((how & RV_HOW_ALIGNED) && va & (size - 1)) return false;
    uint64_t page = va & RV_PAGE_MASK;
    int32_t at = table(t, how) + (int32_t)sizeof(struct rv_tlbe) *
                                     (int32_t)(va >> RV_PAGE_SHIFT & (RV_TLB_SIZE - 1));
    rv_emit_load(e, HCX, rv_mem(HSP, at + (int32_t)offsetof(struct rv_tlbe, tag)));
    rv_emit_load(e, H11, rv_mem(HSP, at + (int32_t)offsetof(struct rv_tlbe, addend)));
    if (fits((int64_t)va)) {
        rv_emit_lea(e, HCX, rv_mem(HCX, (int32_t)page));
        *out = rv_mem(H11, (int32_t)va);
    } else {
        rv_emit_imm(e, H10, page);
        rv_emit_lea(e, HCX, rv_sum(H10, HCX, 0, 0));
        *out = rv_sum(H10, H11, 0, (int32_t)(va & 0xfff));
    }
    rv_slow(t, rv_emit_unless_zero(e));
    return true;
}

/* The offset to dst, unless it is one register's content, which is then returned. dst is not a
 * mapped register, or, for LEA, it is the last to be written. */
static unsigned offset_in(struct rv_translation *t, unsigned dst, bool cut) {
    const struct rv_insn *i = t->i;
    struct rv_emit *e = &t->e;
    uint16_t zero = offsetof(struct rv_interp, zero);
    unsigned base = HNONE, index = HNONE;
    if (i->base != zero) base = rv_get_gpr(t, rv_gpr_number(i->base), H10);
    if (i->index != zero) index = rv_get_gpr(t, rv_gpr_number(i->index), H11);
    int64_t disp = i->disp;
    if (base == HNONE && index == HNONE) {
        rv_emit_imm(e, dst, cut ? (uint32_t)disp : (uint64_t)disp);
        return dst;
    }
    if (!cut && index == HNONE && disp == 0) return base;
    struct rv_enc lea = {.w = !cut, .opcode = 0x8d};
    rv_emit_wrote(e, dst);
    rv_emit_insn(e, lea, dst, rv_sum(base, index, i->scale, (int32_t)disp));
    return dst;
}

void rv_offset(struct rv_translation *t, unsigned dst, bool cut) {
    unsigned r = offset_in(t, dst, cut);
    if (r != dst) rv_emit_lea(&t->e, dst, rv_mem(r, 0));
}

bool rv_operand(struct rv_translation *t, unsigned size, unsigned how, struct rv_rm *out) {
    const struct rv_insn *i = t->i;
    uint16_t zero = offsetof(struct rv_interp, zero);
    bool seg = i->ea == RV_EA_BASE && (i->seg == RV_FS || i->seg == RV_GS), cut = i->asize == 4;
    if (rv_on_stack(t) && rv_stack_operand(t, i->disp, size, how, out)) return true;
    /* RIP-relative ones are absolute by now and the only ones beyond 32 bits. */
    if (!fits(i->disp) && (i->base != zero || i->index != zero)) return false;
    if (i->base == zero && i->index == zero && !seg)
        return fixed(t, cut ? (uint32_t)i->disp : (uint64_t)i->disp, size, how, out);
    unsigned va = HNONE;
    bool only_disp = i->base == zero && i->index == zero && !cut && fits(i->disp);
    if (!only_disp) va = offset_in(t, H10, cut);
    if (seg) {
        int32_t at = RV_AT(x.seg) + (int32_t)(i->seg * sizeof(struct rv_seg));
        rv_emit_load(&t->e, H11, rv_mem(HSP, at + (int32_t)offsetof(struct rv_seg, base)));
        rv_emit_lea(&t->e, H10, only_disp ? rv_mem(H11, (int32_t)i->disp) : rv_sum(va, H11, 0, 0));
        va = H10;
    }
    *out = rv_access(t, va, size, how);
    return true;
}
