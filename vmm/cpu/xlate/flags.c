/* Flags that have to be the same on any processor (RV_QUIRK_PORTABLE).
 *
 * A copied instruction leaves in some flags what this processor makes of them. Which these are is
 * known when the block is translated (t->open), so that nothing is done about them until something
 * can see them: an instruction that reads flags, a step, which is told, or a way out of the block.
 * Most are overwritten before. Shifts by CL leave flags open or alone, which is known only when
 * they run: if they are not overwritten, code behind the shift finds out. */
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/xlate/translate.h"

#define AX_AF 0x1000u

static void clear(struct rv_emit *e, unsigned open) {
    uint8_t keep = (uint8_t) ~(open >> 8);
    rv_emit_lea(e, HCX, rv_mem(HAX, 0));
    rv_put8(e, 0x9f); /* lahf */
    if (!(open & RV_FL_AX_OF)) {
        rv_put8(e, 0x0f); /* seto al */
        rv_put8(e, 0x90);
        rv_put8(e, 0xc0);
    }
    rv_put8(e, 0x80); /* and ah, keep: clears OF */
    rv_put8(e, 0xe4);
    rv_put8(e, keep);
    if (!(open & RV_FL_AX_OF)) {
        rv_put8(e, 0x04); /* add al, 127: OF */
        rv_put8(e, 0x7f);
    }
    rv_put8(e, 0x9e); /* sahf */
    rv_emit_lea(e, HAX, rv_mem(HCX, 0));
}

void rv_clear_flags(struct rv_emit *e, unsigned open) {
    if (open) clear(e, open);
}

void rv_settle_flags(struct rv_translation *t) {
    rv_clear_flags(&t->e, t->open);
    t->open = 0;
}

/* JRCXZ forwards: returns its displacement. */
static uint8_t *when_zero(struct rv_emit *e) {
    rv_put8(e, 0xe3);
    rv_put8(e, 0);
    return e->p - 1;
}
static void here(struct rv_emit *e, uint8_t *jump) { *jump = (uint8_t)(e->p - (jump + 1)); }

void rv_settle_count(struct rv_translation *t, bool rotates) {
    struct rv_emit *e = &t->e;
    bool wide = t->d->op[0].size == 64;
    rv_emit_pext(e, HCX, HCX, wide ? RV_HOT(count_mask[1]) : RV_HOT(count_mask[0]));
    uint8_t *by_none = when_zero(e);
    rv_emit_lea(e, HCX, rv_mem(HCX, -1));
    uint8_t *by_one = when_zero(e);
    clear(e, rotates ? RV_FL_AX_OF : RV_FL_AX_OF | AX_AF);
    if (rotates) {
        here(e, by_one);
    } else {
        rv_put8(e, 0xeb); /* jmp over the next */
        rv_put8(e, 0);
        uint8_t *by_more = e->p - 1;
        here(e, by_one);
        clear(e, AX_AF);
        here(e, by_more);
    }
    here(e, by_none);
}

void rv_flags_before(struct rv_translation *t, const struct rv_flag_use *use) {
    const struct rv_insn *i = t->i;
    /* These go on to wherever, all others that leave say what is open. */
    bool leaves = i->op == rv_op_ret64 || i->op == rv_op_jmp_ind64 || i->op == rv_op_call_ind64;
    if (leaves || use->by_cl || (rv_flags_in_ax(use->reads) & t->open)) rv_settle_flags(t);
}

void rv_flags_after(struct rv_translation *t, const struct rv_flag_use *use, bool stepped) {
    if (stepped)
        t->open = 0;
    else if (!use->by_cl)
        t->open = (t->open & ~(unsigned)rv_flags_in_ax(use->sets)) | t->i->open;
}
