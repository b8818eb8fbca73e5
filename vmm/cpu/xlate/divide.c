/* DIV and IDIV of 32 and 64 bits, where the quotient surely fits: the divisor is not zero, the
 * upper half of the dividend is, and the sign of IDIV's is plus. All others are steps: the host
 * must not raise #DE. The flags, which the manual leaves undefined, stay what they were. */
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/xlate/translate.h"

static void put(struct rv_emit *e, const uint8_t *bytes, size_t n) {
    memcpy(e->p, bytes, n);
    e->p += n;
}
#define PUT(e, ...) put(e, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* JRCXZ to a JMP; returns that one's displacement. */
static uint8_t *if_zero(struct rv_emit *e) {
    PUT(e, 0xe3, 0x02, 0xeb, 0x05); /* jrcxz to the last; jmp over it */
    return rv_emit_jmp(e);
}

/* The divisor to r11. */
static bool divisor(struct rv_translation *t, bool wide) {
    struct rv_emit *e = &t->e;
    const ZydisDecodedOperand *o = &t->d->op[0];
    struct rv_enc mov = {.w = wide, .opcode = 0x8b};
    struct rv_rm from;
    if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        if (!rv_operand(t, wide ? 8 : 4, RV_HOW_READ, &from)) return false;
    } else {
        from = rv_reg(rv_get_gpr(t, rv_gpr_number(rv_decode_gpr(o->reg.value)), H11));
    }
    rv_emit_insn(e, mov, H11, from);
    rv_emit_wrote(e, H11);
    return true;
}

bool rv_divide(struct rv_translation *t) {
    struct rv_emit *e = &t->e;
    bool with_sign = t->i->op == rv_op_idiv, wide = t->i->size == 8;
    if (!(with_sign || t->i->op == rv_op_div) || t->i->size < 4) return false;
    if (!divisor(t, wide)) return false;
    struct rv_enc mov = {.w = wide, .opcode = 0x8b};
    rv_emit_insn(e, mov, HCX, rv_reg(HDX));
    rv_slow(t, rv_emit_unless_zero(e));
    if (with_sign) {
        /* Bit 31; of 64 bits the upper eight. */
        struct rv_enc rorx = {.map = 3, .opcode = 0xf0, .rep = 0xf2, .w = true, .vex = true};
        rv_emit_insn(e, mov, HCX, rv_reg(HAX));
        rv_emit_insn(e, rorx, HCX, rv_reg(HCX));
        rv_put8(e, wide ? 56 : 31);
        PUT(e, 0x0f, 0xb6, 0xc9); /* movzx ecx,cl */
        rv_slow(t, rv_emit_unless_zero(e));
    }
    rv_emit_lea(e, HCX, rv_mem(H11, 0));
    rv_slow(t, if_zero(e));
    bool kept = !rv_hides(t, RV_FL_ARITH);
    if (kept) {
        rv_emit_lea(e, H10, rv_mem(HAX, 0));
        PUT(e, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
        rv_emit_lea(e, HCX, rv_mem(HAX, 0));
        rv_emit_lea(e, HAX, rv_mem(H10, 0));
    }
    rv_emit_insn(e, (struct rv_enc){.w = wide, .opcode = 0xf7}, with_sign ? 7 : 6, rv_reg(H11));
    if (kept) {
        rv_emit_lea(e, H10, rv_mem(HAX, 0));
        rv_emit_lea(e, HAX, rv_mem(HCX, 0));
        PUT(e, 0x04, 0x7f, 0x9e); /* add al,127: OF; sahf */
        rv_emit_lea(e, HAX, rv_mem(H10, 0));
    }
    return true;
}
