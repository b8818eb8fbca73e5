/* Which instructions leave arithmetic flags that depend on the processor, and what the translator
 * has to know to keep track of these.
 *
 * The manual leaves more undefined than is listed here. In the rest the processors of both vendors
 * agree (logic clears AF, bit tests leave all but CF alone), or the operation is in C (division,
 * decimal arithmetic). */
#include "vmm/cpu/interp/decode.h"

#define ALL        RV_FL_ARITH
#define FLAG(name) (uint32_t) RV_FL_##name

/* n: the masked count, not 0; 32-bit and wider operands never meet the narrow ones' limits. */
static struct rv_flag_use shift(const ZydisDecodedInstruction *z, unsigned width, unsigned n) {
    bool twice = z->mnemonic == ZYDIS_MNEMONIC_SHLD || z->mnemonic == ZYDIS_MNEMONIC_SHRD;
    uint32_t open = FLAG(AF) | (n == 1 ? 0 : FLAG(OF));
    if (twice && n > width) open = ALL;
    if (!twice && z->mnemonic != ZYDIS_MNEMONIC_SAR && n >= width) open |= FLAG(CF);
    return (struct rv_flag_use){.sets = ALL & ~open, .open = open};
}

static struct rv_flag_use rotation(const ZydisDecodedInstruction *z, unsigned n) {
    bool carry = z->mnemonic == ZYDIS_MNEMONIC_RCL || z->mnemonic == ZYDIS_MNEMONIC_RCR;
    return (struct rv_flag_use){.sets = FLAG(CF) | (n == 1 ? FLAG(OF) : 0),
                                .open = n == 1 ? 0 : FLAG(OF),
                                .reads = carry ? FLAG(CF) : 0};
}

/* Shifts and rotations: which depends on the count (SDM vol. 2, SAL/SAR/SHL/SHR, SHLD, SHRD,
 * RCL/RCR/ROL/ROR). */
static struct rv_flag_use by_count(const ZydisDecodedInstruction *z, unsigned width, bool rotates) {
    bool by_imm = z->raw.imm[0].size != 0;
    bool by_one = z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (z->opcode & 0xfe) == 0xd0;
    unsigned n = by_one ? 1 : (unsigned)z->raw.imm[0].value.u & (width == 64 ? 63 : 31);
    if (by_imm && n == 0) return (struct rv_flag_use){0};
    bool by_cl = !by_imm && !by_one;
    /* By CL it may be as much as can be. */
    if (by_cl) n = width == 64 ? 63 : 31;
    struct rv_flag_use u = rotates ? rotation(z, n) : shift(z, width, n);
    u.by_cl = by_cl;
    return u;
}

struct rv_flag_use rv_flag_use(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op) {
    const ZydisAccessedFlags *f = z->cpu_flags;
    struct rv_flag_use u = {0};
    uint32_t open;
    if (!f) return u;
    /* Zydis numbers them as RFLAGS does. */
    u.reads = f->tested & ALL;
    u.sets = (f->modified | f->set_0 | f->set_1) & ~f->undefined & ALL;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD: return by_count(z, op[0].size, false);
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR: return by_count(z, op[0].size, true);
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_SBB: /* Zydis 4.0 has AF undefined */ u.sets = ALL; return u;
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL: open = FLAG(SF) | FLAG(ZF) | FLAG(AF) | FLAG(PF); break;
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR: open = ALL & ~FLAG(ZF); break;
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT: open = FLAG(OF) | FLAG(SF) | FLAG(AF) | FLAG(PF); break;
    case ZYDIS_MNEMONIC_ANDN:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
    case ZYDIS_MNEMONIC_BZHI: open = FLAG(AF) | FLAG(PF); break;
    case ZYDIS_MNEMONIC_BEXTR: open = FLAG(SF) | FLAG(AF) | FLAG(PF); break;
    default: return u;
    }
    return (struct rv_flag_use){.sets = ALL & ~open, .open = open, .reads = u.reads};
}
