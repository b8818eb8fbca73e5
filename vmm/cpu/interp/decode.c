/* The decoder: Zydis says what an instruction is, choose.c which operation executes it. An
 * instruction that the profile does not offer decodes to one that raises #UD. */
#include "vmm/cpu/interp/decode.h"

#include "vmm/cpu/interp/block.h"
#include "vmm/cpu/interp/ops.h"

uint16_t rv_decode_gpr(ZydisRegister reg) {
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return (uint16_t)(RV_GPR_OFFSET(reg - ZYDIS_REGISTER_AH) + 1);
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8: {
        if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_DIL)
            return RV_GPR_OFFSET(reg - ZYDIS_REGISTER_SPL + 4);
        if (reg >= ZYDIS_REGISTER_R8B) return RV_GPR_OFFSET(reg - ZYDIS_REGISTER_R8B + 8);
        return RV_GPR_OFFSET(reg - ZYDIS_REGISTER_AL);
    }
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: return RV_GPR_OFFSET((unsigned)ZydisRegisterGetId(reg));
    default: return offsetof(struct rv_interp, zero);
    }
}

unsigned rv_decode_sreg(ZydisRegister reg) {
    switch (reg) {
    case ZYDIS_REGISTER_ES: return RV_ES;
    case ZYDIS_REGISTER_CS: return RV_CS;
    case ZYDIS_REGISTER_SS: return RV_SS;
    case ZYDIS_REGISTER_FS: return RV_FS;
    case ZYDIS_REGISTER_GS: return RV_GS;
    default: return RV_DS;
    }
}

static void memory_operand(const struct rv_interp *c, const struct rv_decode *d,
                           struct rv_insn *out) {
    const ZydisDecodedOperandMem *m = &d->mem->mem;
    out->disp = m->disp.has_displacement ? m->disp.value : 0;
    if (m->base == ZYDIS_REGISTER_RIP || m->base == ZYDIS_REGISTER_EIP)
        out->disp += (int64_t)(d->rip + d->z.length);
    else if (d->z.raw.modrm.mod == 0 && d->z.raw.modrm.rm == 4 && d->z.raw.sib.base == 5 &&
             d->z.address_width != 16)
        out->disp = d->z.raw.disp.value; /* no base; Zydis 4.0 names R13D with REX.B and 67 */
    else if (m->base != ZYDIS_REGISTER_NONE)
        out->base = rv_decode_gpr(m->base);
    if (m->index != ZYDIS_REGISTER_NONE) {
        out->index = rv_decode_gpr(m->index);
        out->scale = (uint8_t)rv_log2(m->scale ? m->scale : 1);
    }
    out->seg = (uint8_t)rv_decode_sreg(m->segment);
    if (out->seg == RV_SS) out->flags |= RV_I_SS;
    if (!(c->mode & RV_MODE_64))
        out->ea = RV_EA_SEG;
    else if (out->seg == RV_FS || out->seg == RV_GS || out->asize == 4)
        out->ea = RV_EA_BASE;
    else
        out->ea = RV_EA_FLAT;
}

static void decode_one(struct rv_interp *c, struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedInstruction *z = &d->z;
    *out = (struct rv_insn){.len = z->length,
                            .asize = (uint8_t)(z->address_width / 8),
                            .size = (uint8_t)(z->operand_width / 8),
                            .base = offsetof(struct rv_interp, zero),
                            .index = offsetof(struct rv_interp, zero),
                            .seg = RV_DS};
    d->mem = NULL;
    for (unsigned n = 0; n < z->operand_count_visible; n++)
        if (d->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY) d->mem = &d->op[n];
    if (d->mem) memory_operand(c, d, out);
    if (c->bus->quirks & RV_QUIRK_PORTABLE) out->open = rv_flags_in_ax(rv_flag_use(z, d->op).open);
    rv_decode_choose(c, d, out);
    if (out->op) return;
    out->op = rv_op_ud;
    out->flags |= RV_I_END;
}

void rv_decode_init(const struct rv_interp *c, ZydisDecoder *z) {
    ZydisMachineMode mode;
    ZydisStackWidth stack;
    if (c->mode & RV_MODE_64) {
        mode = ZYDIS_MACHINE_MODE_LONG_64;
        stack = ZYDIS_STACK_WIDTH_64;
    } else if (c->mode & RV_MODE_D) {
        mode = ZYDIS_MACHINE_MODE_LEGACY_32;
        stack = ZYDIS_STACK_WIDTH_32;
    } else {
        mode = c->mode & RV_MODE_PROT ? ZYDIS_MACHINE_MODE_LEGACY_16 : ZYDIS_MACHINE_MODE_REAL_16;
        stack = ZYDIS_STACK_WIDTH_16;
    }
    ZydisDecoderInit(z, mode, stack);
    /* Encodings that mean something older on a processor without these features. */
    ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_LZCNT, c->profile->v3);
    ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_TZCNT, c->profile->v3);
    ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
}

unsigned rv_decode_block(struct rv_interp *c, const uint8_t *bytes, size_t size, uint64_t rip,
                         struct rv_insn *out, unsigned max, unsigned *len) {
    ZydisDecoder z;
    rv_decode_init(c, &z);
    unsigned n = 0;
    size_t at = 0;
    while (n < max) {
        struct rv_decode d = {.bytes = bytes + at, .rip = rip + at};
        ZyanStatus s = ZydisDecoderDecodeFull(&z, bytes + at, size - at, &d.z, d.op);
        struct rv_insn *i = &out[n];
        if (s == ZYDIS_STATUS_NO_MORE_DATA) {
            if (n == 0) return 0;
            break;
        }
        if (ZYAN_SUCCESS(s))
            decode_one(c, &d, i);
        else
            *i = (struct rv_insn){.op = s == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? rv_op_too_long
                                                                               : rv_op_ud,
                                  .len = 1,
                                  .flags = RV_I_END};
        i->off = (uint16_t)at;
        i->at = (uint8_t)n;
        at += i->len;
        n++;
        if (i->flags & RV_I_END) break;
    }
    out[n] = (struct rv_insn){.op = rv_op_block_end, .off = (uint16_t)at};
    *len = (unsigned)at;
    return n;
}
