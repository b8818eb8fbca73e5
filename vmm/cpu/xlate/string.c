/* STOS, MOVS and LODS that go up. Those with REP, too, when all that they access lies in one page
 * for each operand: one look into the TLB for all of it, and the host's own instruction. */
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/xlate/translate.h"

/* A MOV of the instruction in hand's size; opcode as for bytes. */
static void move(struct rv_translation *t, unsigned opcode, unsigned reg, struct rv_rm rm) {
    unsigned size = t->i->size;
    struct rv_enc mov = {
        .opsize = size == 2, .w = size == 8, .opcode = (uint8_t)(opcode | (size != 1))};
    rv_emit_insn(&t->e, mov, reg, rm);
}
static void load(struct rv_translation *t, unsigned reg, struct rv_rm from) {
    move(t, 0x8a, reg, from);
}
static void store(struct rv_translation *t, unsigned reg, struct rv_rm to) {
    move(t, 0x88, reg, to);
}

static void add(struct rv_translation *t, unsigned reg, int32_t n) {
    rv_emit_lea(&t->e, reg, rv_mem(reg, n));
}

/* reg is not zero if the guest's DF is set. */
static void down(struct rv_translation *t, unsigned reg) {
    rv_emit_load(&t->e, reg, rv_mem(HSP, RV_AT(x.rflags)));
    rv_emit_pext(&t->e, reg, reg, RV_HOT(df_mask));
}

static void single(struct rv_translation *t) {
    const struct rv_insn *i = t->i;
    down(t, HCX);
    rv_slow(t, rv_emit_unless_zero(&t->e));
    if (i->op == rv_op_stos) {
        store(t, HAX, rv_access(t, HDI, i->size, RV_HOW_WRITE));
    } else if (i->op == rv_op_lods) {
        load(t, HAX, rv_access(t, HSI, i->size, RV_HOW_READ));
    } else {
        load(t, HCX, rv_access(t, HSI, i->size, RV_HOW_READ));
        rv_emit_store(&t->e, HCX, RV_HOT(temp[1]));
        struct rv_rm to = rv_access(t, HDI, i->size, RV_HOW_WRITE);
        rv_emit_load(&t->e, HCX, RV_HOT(temp[1]));
        store(t, HCX, to);
    }
    if (i->op != rv_op_lods) add(t, HDI, i->size);
    if (i->op != rv_op_stos) add(t, HSI, i->size);
}

/* Has r11 be what to add to va for the host's address, and rcx zero when all elements from va on
 * are in one page that the TLB has. Uses r10. */
static void look(struct rv_translation *t, unsigned va, unsigned how) {
    struct rv_emit *e = &t->e;
    unsigned scale = (unsigned)__builtin_ctz(t->i->size);
    rv_entry(t, va, how);
    /* Of the first byte and of the last, as seen from the page. */
    rv_emit_lea(e, H10, rv_sum(va, HCX, 0, 0));
    rv_emit_lea(e, HCX, rv_sum(H10, H8, scale, -1));
    rv_emit_shrx(e, H10, H10, HSP);
    rv_emit_shrx(e, HCX, HCX, HSP);
    rv_emit_lea(e, HCX, rv_sum(HCX, H10, 0, 0));
    /* So many that the last one's address wraps around are not in one page. */
    rv_emit_shrx(e, H10, H8, HSP);
    rv_emit_lea(e, HCX, rv_sum(HCX, H10, 0, 0));
}

/* reg - by, which is changed: NOT leaves the flags alone. */
static void subtract(struct rv_translation *t, unsigned reg, unsigned by) {
    rv_emit_insn(&t->e, (struct rv_enc){.w = true, .opcode = 0xf7}, 2, rv_reg(by));
    rv_emit_lea(&t->e, reg, rv_sum(reg, by, 0, 1));
}

static void repeated(struct rv_translation *t) {
    struct rv_emit *e = &t->e;
    bool moves = t->i->op == rv_op_movs;
    if (moves) {
        look(t, HSI, RV_HOW_READ);
        rv_slow(t, rv_emit_unless_zero(e));
        rv_emit_store(e, H11, RV_HOT(temp[1]));
    }
    look(t, HDI, RV_HOW_WRITE);
    down(t, H10);
    rv_emit_lea(e, HCX, rv_sum(HCX, H10, 0, 0));
    rv_slow(t, rv_emit_unless_zero(e));
    rv_emit_lea(e, HDI, rv_sum(HDI, H11, 0, 0));
    if (moves) {
        rv_emit_load(e, H10, RV_HOT(temp[1]));
        rv_emit_lea(e, HSI, rv_sum(HSI, H10, 0, 0));
    }
    rv_emit_lea(e, HCX, rv_mem(H8, 0));
    if (t->i->size == 2) rv_put8(e, 0x66);
    rv_put8(e, 0xf3);
    if (t->i->size == 8) rv_put8(e, 0x48);
    rv_put8(e, (moves ? 0xa4u : 0xaau) | (t->i->size != 1));
    subtract(t, HDI, H11);
    if (moves) subtract(t, HSI, H10);
    rv_emit_imm(e, H8, 0);
}

bool rv_string(struct rv_translation *t) {
    const struct rv_insn *i = t->i;
    bool repeats = i->flags & (RV_I_REP | RV_I_REPNE);
    bool known = i->op == rv_op_stos || i->op == rv_op_movs || (i->op == rv_op_lods && !repeats);
    if (!known || i->asize != 8 || i->seg == RV_FS || i->seg == RV_GS) return false;
    if (repeats)
        repeated(t);
    else
        single(t);
    return true;
}
