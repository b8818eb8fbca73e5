#include "vmm/cpu/xlate/emit.h"

void rv_emit_modrm(struct rv_emit *e, unsigned reg, struct rv_rm rm) {
    unsigned r = (reg & 7) << 3;
    if (rm.is_reg) {
        rv_put8(e, 0xc0 | r | (rm.base & 7));
        return;
    }
    bool sib = rm.index != HNONE || rm.base == HNONE || (rm.base & 7) == HSP;
    bool absolute = rm.base == HNONE;
    unsigned mod;
    if (absolute)
        mod = 0;
    else if (rm.disp == 0 && (rm.base & 7) != HBP)
        mod = 0;
    else
        mod = rm.disp >= -128 && rm.disp <= 127 ? 1 : 2;
    rv_put8(e, mod << 6 | r | (sib ? 4 : rm.base & 7));
    if (sib) {
        unsigned index = rm.index == HNONE ? 4 : rm.index & 7;
        rv_put8(e, (unsigned)rm.scale << 6 | index << 3 | (absolute ? 5 : rm.base & 7));
    }
    if (mod == 1)
        rv_put8(e, (uint8_t)rm.disp);
    else if (mod == 2 || absolute)
        rv_put32(e, (uint32_t)rm.disp);
}

static unsigned high(unsigned reg) { return reg != HNONE && reg >= 8; }

/* The prefix in its three-byte form, which says everything. */
static void put_vex(struct rv_emit *e, struct rv_enc enc, unsigned reg, struct rv_rm rm) {
    unsigned x = rm.is_reg ? 0 : high(rm.index);
    unsigned pp = enc.opsize ? 1 : enc.rep == 0xf3 ? 2 : enc.rep == 0xf2 ? 3 : 0;
    rv_put8(e, 0xc4);
    rv_put8(e, (!high(reg)) << 7 | (!x) << 6 | (!high(rm.base)) << 5 | enc.map);
    rv_put8(e, (unsigned)enc.w << 7 | (~enc.vvvv & 15u) << 3 | (unsigned)enc.l << 2 | pp);
}

void rv_emit_insn(struct rv_emit *e, struct rv_enc enc, unsigned reg, struct rv_rm rm) {
    if (enc.vex) {
        put_vex(e, enc, reg, rm);
        rv_put8(e, enc.opcode);
        rv_emit_modrm(e, reg, rm);
        return;
    }
    if (enc.opsize) rv_put8(e, 0x66);
    if (enc.rep) rv_put8(e, enc.rep);
    unsigned rex = (unsigned)enc.w << 3 | high(reg) << 2 | high(rm.base);
    if (!rm.is_reg) rex |= high(rm.index) << 1;
    if (rex || enc.rex) rv_put8(e, 0x40 | rex);
    if (enc.map) rv_put8(e, 0x0f);
    if (enc.map == 2) rv_put8(e, 0x38);
    if (enc.map == 3) rv_put8(e, 0x3a);
    rv_put8(e, enc.opcode);
    rv_emit_modrm(e, reg, rm);
}

void rv_emit_vzero(struct rv_emit *e, bool all) {
    rv_put8(e, 0xc5);
    rv_put8(e, all ? 0xfc : 0xf8);
    rv_put8(e, 0x77);
}

void rv_emit_pext(struct rv_emit *e, unsigned dst, unsigned src, struct rv_rm mask) {
    struct rv_enc pext = {
        .vex = true, .w = true, .rep = 0xf3, .map = 2, .opcode = 0xf5, .vvvv = (uint8_t)src};
    rv_emit_wrote(e, dst);
    rv_emit_insn(e, pext, dst, mask);
}

void rv_emit_shrx(struct rv_emit *e, unsigned dst, unsigned src, unsigned count) {
    struct rv_enc shrx = {
        .vex = true, .w = true, .rep = 0xf2, .map = 2, .opcode = 0xf7, .vvvv = (uint8_t)count};
    rv_emit_wrote(e, dst);
    rv_emit_insn(e, shrx, dst, rv_reg(src));
}

void rv_emit_load(struct rv_emit *e, unsigned reg, struct rv_rm from) {
    rv_emit_wrote(e, reg);
    rv_emit_insn(e, (struct rv_enc){.w = true, .opcode = 0x8b}, reg, from);
}

void rv_emit_store(struct rv_emit *e, unsigned reg, struct rv_rm to) {
    rv_emit_insn(e, (struct rv_enc){.w = true, .opcode = 0x89}, reg, to);
}

void rv_emit_lea(struct rv_emit *e, unsigned reg, struct rv_rm from) {
    rv_emit_wrote(e, reg);
    rv_emit_insn(e, (struct rv_enc){.w = true, .opcode = 0x8d}, reg, from);
}

void rv_emit_imm(struct rv_emit *e, unsigned reg, uint64_t v) {
    rv_emit_wrote(e, reg);
    bool wide = v >> 32;
    if (wide && v == (uint64_t)(int32_t)v) {
        rv_emit_insn(e, (struct rv_enc){.w = true, .opcode = 0xc7}, 0, rv_reg(reg));
        rv_put32(e, (uint32_t)v);
        return;
    }
    unsigned rex = (wide ? 8u : 0u) | high(reg);
    if (rex) rv_put8(e, 0x40 | rex);
    rv_put8(e, 0xb8 | (reg & 7));
    if (wide)
        rv_put64(e, v);
    else
        rv_put32(e, (uint32_t)v);
}

uint8_t *rv_emit_jmp(struct rv_emit *e) {
    rv_put8(e, 0xe9);
    rv_put32(e, 0);
    return e->p - 4;
}

uint8_t *rv_emit_jcc(struct rv_emit *e, unsigned cc) {
    rv_put8(e, 0x0f);
    rv_put8(e, 0x80 | cc);
    rv_put32(e, 0);
    return e->p - 4;
}

void rv_emit_jmp_rm(struct rv_emit *e, struct rv_rm to) {
    rv_emit_insn(e, (struct rv_enc){.opcode = 0xff}, 4, to);
}

uint8_t *rv_emit_unless_zero(struct rv_emit *e) {
    rv_put8(e, 0xe3);
    rv_put8(e, 5);
    return rv_emit_jmp(e);
}
