/* Instructions that are copied: same opcode, other operands.
 *
 * Registers are renamed; one that has no host register is an operand in memory where the
 * instruction may have one, or is loaded to a scratch register before and stored after. Of the
 * scratch registers r10 and r11 hold a memory operand's address, so that rcx is left for a register
 * operand then. LOCK is dropped: nobody else sees guest memory. */
#include "vmm/cpu/xlate/translate.h"

/* ---- what is copied ---- */

static bool copied_one_byte(const ZydisDecodedInstruction *z) {
    unsigned op = z->opcode, reg = z->raw.modrm.reg;
    if (op < 0x40) return (op & 7) < 6;
    switch (op) {
    case 0x63:
    case 0x69:
    case 0x6b:
    case 0x80:
    case 0x81:
    case 0x83:
    case 0x84:
    case 0x85:
    case 0x86:
    case 0x87:
    case 0x88:
    case 0x89:
    case 0x8a:
    case 0x8b:
    case 0x98:
    case 0x99:
    case 0x9e:
    case 0x9f:
    case 0xa8:
    case 0xa9:
    case 0xc0:
    case 0xc1:
    case 0xc6:
    case 0xc7:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xf5:
    case 0xf8:
    case 0xf9: return true;
    case 0xf6:
    case 0xf7: return reg < 6; /* not DIV and IDIV */
    case 0xfe:
    case 0xff: return reg < 2;
    default: return (op >= 0x91 && op <= 0x97) || (op >= 0xb0 && op <= 0xbf);
    }
}

static bool copied_two_byte(const ZydisDecodedInstruction *z) {
    unsigned op = z->opcode;
    bool reg_form = z->raw.modrm.mod == 3;
    if ((op >= 0x40 && op <= 0x4f) || (op >= 0x90 && op <= 0x9f)) return true;
    switch (op) {
    case 0xa3: /* BT and its kin with a register index reach beyond their operand in memory */
    case 0xab:
    case 0xb3:
    case 0xbb: return reg_form;
    case 0xa4:
    case 0xa5:
    case 0xac:
    case 0xad:
    case 0xaf:
    case 0xb0:
    case 0xb1:
    case 0xb6:
    case 0xb7:
    case 0xb8:
    case 0xba:
    case 0xbc:
    case 0xbd:
    case 0xbe:
    case 0xbf:
    case 0xc0:
    case 0xc1:
    case 0xc3: return true;
    default: return op >= 0xc8 && op <= 0xcf && z->operand_width > 16; /* BSWAP */
    }
}

static bool is_xmm(const ZydisDecodedOperand *o) {
    return o->reg.value >= ZYDIS_REGISTER_XMM0 && o->reg.value <= ZYDIS_REGISTER_XMM15;
}
static bool is_ymm(const ZydisDecodedOperand *o) {
    return o->reg.value >= ZYDIS_REGISTER_YMM0 && o->reg.value <= ZYDIS_REGISTER_YMM15;
}
static bool is_vex(const ZydisDecodedInstruction *z) {
    return z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
}
static bool is_gpr(const ZydisDecodedOperand *o) {
    switch (ZydisRegisterGetClass(o->reg.value)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: return true;
    default: return false;
    }
}

/* Text comparisons whose result, an index, goes to ECX. */
static bool writes_ecx(const ZydisDecodedInstruction *z) {
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPISTRI: return true;
    default: return false;
    }
}

bool rv_is_vec(const struct rv_decode *d) {
    switch (d->z.meta.isa_ext) {
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2: /* not the gathers, which go by elements */
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_FMA: break;
    default: return false;
    }
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS: /* without an mm register it still is MMX's */
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_MASKMOVDQU: /* memory at RDI */
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVPS: /* what is not chosen must not be accessed */
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_CRC32: return false;
    case ZYDIS_MNEMONIC_VZEROUPPER:
    case ZYDIS_MNEMONIC_VZEROALL: return true;
    default: break;
    }
    bool xmm = false;
    for (unsigned n = 0; n < d->z.operand_count; n++) {
        const ZydisDecodedOperand *o = &d->op[n];
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
        if (is_xmm(o) || is_ymm(o))
            xmm = true;
        else if (ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_MMX)
            return false;
    }
    return xmm;
}

static bool copied(const struct rv_decode *d) {
    const ZydisDecodedInstruction *z = &d->z;
    if (rv_is_vec(d)) return true;
    if (is_vex(z))
        return z->meta.isa_ext == ZYDIS_ISA_EXT_BMI1 || z->meta.isa_ext == ZYDIS_ISA_EXT_BMI2;
    if (z->mnemonic == ZYDIS_MNEMONIC_CRC32 || z->mnemonic == ZYDIS_MNEMONIC_MOVBE) return true;
    if (z->mnemonic == ZYDIS_MNEMONIC_MOVSXD && z->operand_width == 16) return false;
    if (z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) return copied_one_byte(z);
    return z->opcode_map == ZYDIS_OPCODE_MAP_0F && copied_two_byte(z);
}

/* ---- operands ---- */

struct operand {
    const ZydisDecodedOperand *o; /* NULL: absent */
    bool vec, high, low8;         /* an xmm or ymm register; AH, BH, DH; a byte register */
    bool spilled, written;
    bool unread;    /* nothing of what it was remains */
    bool in_memory; /* where the instruction has it as its operand */
    unsigned guest; /* number; of AH.. as in RAX.. */
    unsigned host;
};

static bool classify(struct operand *p) {
    ZydisRegister r = p->o->reg.value;
    if (is_xmm(p->o) || is_ymm(p->o)) {
        p->vec = true;
        p->host = p->guest = (unsigned)ZydisRegisterGetId(r);
        return true;
    }
    if (!is_gpr(p->o)) return false;
    p->written = p->o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    p->unread = p->o->actions == ZYDIS_OPERAND_ACTION_WRITE && p->o->size >= 32;
    if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
        p->high = true;
        p->guest = (unsigned)(r - ZYDIS_REGISTER_AH);
        if (p->guest == RV_RCX) return false; /* RCX is elsewhere */
        p->host = p->guest + 4;
        return true;
    }
    p->low8 = ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR8;
    p->guest = rv_gpr_number(rv_decode_gpr(r));
    p->host = rv_xlate_host[p->guest];
    p->spilled = p->host == HNONE;
    return true;
}

struct copy {
    struct operand reg, rm, op, v; /* ModRM.reg, ModRM.rm, the opcode's low bits, VEX.vvvv */
    const ZydisDecodedOperand *mem;
    bool by_cl;
};

/* Finds the operands. False when one of them is not to be had: implicit RCX or RSP, say. */
static bool operands(const struct rv_decode *d, struct copy *k) {
    *k = (struct copy){0};
    for (unsigned n = 0; n < d->z.operand_count; n++) {
        const ZydisDecodedOperand *o = &d->op[n];
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM || k->mem) return false;
            k->mem = o;
            continue;
        }
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
        switch (o->encoding) {
        case ZYDIS_OPERAND_ENCODING_MODRM_REG: k->reg.o = o; break;
        case ZYDIS_OPERAND_ENCODING_MODRM_RM: k->rm.o = o; break;
        case ZYDIS_OPERAND_ENCODING_OPCODE: k->op.o = o; break;
        case ZYDIS_OPERAND_ENCODING_NDSNDD: k->v.o = o; break;
        case ZYDIS_OPERAND_ENCODING_IS4: break; /* in the immediate, the same on the host */
        default:
            if (is_gpr(o)) {
                if (o->reg.value == ZYDIS_REGISTER_CL)
                    k->by_cl = true;
                else if (o->reg.value == ZYDIS_REGISTER_ECX && writes_ecx(&d->z))
                    break;
                else if (o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH)
                    break; /* AH: LAHF, SAHF */
                else if (rv_xlate_host[rv_gpr_number(rv_decode_gpr(o->reg.value))] !=
                         rv_gpr_number(rv_decode_gpr(o->reg.value)))
                    return false;
            } else if (is_xmm(o) && o->reg.value != ZYDIS_REGISTER_XMM0) {
                return false;
            }
        }
    }
    bool all = (!k->reg.o || classify(&k->reg)) && (!k->rm.o || classify(&k->rm)) &&
               (!k->op.o || classify(&k->op)) && (!k->v.o || classify(&k->v));
    /* Of zero they leave the register as it was, whatever the manual says. */
    if (d->z.mnemonic == ZYDIS_MNEMONIC_BSF || d->z.mnemonic == ZYDIS_MNEMONIC_BSR)
        k->reg.unread = false;
    return all;
}

bool rv_is_unaligned(const ZydisDecodedInstruction *z) {
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRM: return true;
    default: return is_vex(z) && !rv_vex_aligned(z->mnemonic);
    }
}

static struct rv_enc encoding(const struct rv_decode *d) {
    const ZydisDecodedInstruction *z = &d->z;
    struct rv_enc enc = {.w = z->raw.rex.W, .opcode = z->opcode};
    switch (z->opcode_map) {
    case ZYDIS_OPCODE_MAP_0F: enc.map = 1; break;
    case ZYDIS_OPCODE_MAP_0F38: enc.map = 2; break;
    case ZYDIS_OPCODE_MAP_0F3A: enc.map = 3; break;
    default: enc.map = 0;
    }
    if (is_vex(z)) {
        static const uint8_t rep[] = {0, 0, 0xf3, 0xf2};
        enc.vex = true;
        enc.w = z->raw.vex.W;
        enc.l = z->raw.vex.L;
        enc.opsize = z->raw.vex.pp == 1;
        enc.rep = rep[z->raw.vex.pp];
        return enc;
    }
    bool vec = rv_is_vec(d);
    for (unsigned n = 0; n < z->raw.prefix_count; n++) {
        uint8_t v = z->raw.prefixes[n].value;
        bool mandatory = z->raw.prefixes[n].type == ZYDIS_PREFIX_TYPE_MANDATORY;
        if ((v == 0xf2 || v == 0xf3) && mandatory) enc.rep = v;
        if (v == 0x66 && vec && mandatory) enc.opsize = true;
    }
    if (!vec) enc.opsize = z->operand_width == 16;
    /* CRC32's operand size is that of its source. */
    if (z->mnemonic == ZYDIS_MNEMONIC_CRC32) {
        enc.rep = 0xf2;
        enc.opsize = d->op[1].size == 16;
    }
    return enc;
}

static void put_immediate(struct rv_translation *t) {
    const ZydisDecodedInstruction *z = &t->d->z;
    for (unsigned n = 0; n < 2; n++)
        if (z->raw.imm[n].size) {
            memcpy(t->e.p, t->d->bytes + z->raw.imm[n].offset, z->raw.imm[n].size / 8);
            t->e.p += z->raw.imm[n].size / 8;
        }
}

/* Has an operand without a host register in a scratch register: the one of another operand, fetched
 * before, that is the same register, or one that is not in *avoid. */
static void fetch_spilled(struct rv_translation *t, struct operand *p, const struct operand *other,
                          unsigned *avoid) {
    if (!p->spilled) return;
    bool same = other && other->spilled && other->guest == p->guest && !other->unread;
    p->host = same ? other->host : rv_hold(t, p->guest, !p->unread, *avoid);
    *avoid |= 1u << p->host;
}
static void store_spilled(struct rv_translation *t, const struct operand *p) {
    if (p->in_memory && p->written) rv_hold_changed(t, p->guest, HNONE);
    if (!p->spilled || !p->written) return;
    rv_emit_store(&t->e, p->host, rv_mem(HSP, RV_AT_GPR(p->guest)));
    rv_hold_changed(t, p->guest, p->host);
}

static bool needs_rex(const struct operand *p) {
    return p->o && !p->vec && !p->high && p->low8 && p->host >= 4 && p->host < 8;
}
static bool extended(const struct operand *p) { return p->o && (p->spilled || p->host >= 8); }

/* No ModRM: the register is in the opcode, or only implicit ones take part. */
static bool copy_plain(struct rv_translation *t, struct copy *k, struct rv_enc enc) {
    struct rv_emit *e = &t->e;
    unsigned avoid = 0;
    fetch_spilled(t, &k->op, NULL, &avoid);
    if (enc.opsize) rv_put8(e, 0x66);
    unsigned rex = (unsigned)enc.w << 3;
    if (k->op.o) rex |= k->op.host >> 3;
    if (rex || needs_rex(&k->op)) rv_put8(e, 0x40 | rex);
    if (enc.map) rv_put8(e, 0x0f);
    rv_put8(e, k->op.o ? (enc.opcode & ~7u) | (k->op.host & 7) : enc.opcode);
    put_immediate(t);
    store_spilled(t, &k->op);
    return true;
}

/* Whether only the interpreter knows what is open: when a count in CL may reach the operand's
 * width, or a double shift goes beyond it. */
static bool is_intricate(const struct rv_flag_use *use) {
    return use->open == RV_FL_ARITH || (use->by_cl && (use->open & RV_FL_CF));
}

bool rv_hides(const struct rv_translation *t, uint32_t flags) {
    for (unsigned n = t->i->at + 1u; n < t->b->n; n++) {
        const struct rv_decode *d = t->d + (n - t->i->at);
        if (!rv_is_decoded(d)) return false;
        for (unsigned o = 0; o < d->z.operand_count; o++)
            if (d->op[o].type == ZYDIS_OPERAND_TYPE_MEMORY) return false;
        struct copy k;
        if (!copied(d) || rv_is_vec(d) || !operands(d, &k) || k.reg.high || k.rm.high) return false;
        struct rv_flag_use use = rv_flag_use(&d->z, d->op);
        if ((use.reads & flags) || (t->portable && is_intricate(&use))) return false;
        /* By nothing, shifts leave them alone. Others leave flags open that were so before. */
        if (!use.by_cl) flags &= ~(use.sets | (t->portable ? use.open : 0));
        if (!flags) return true;
    }
    return false;
}

/* Rotations by an immediate and by CL leave different values in OF, which is undefined unless the
 * count is one. The interpreter's way counts: by CL. */
static bool rotates_many(const struct rv_translation *t) {
    const ZydisDecodedInstruction *z = &t->d->z;
    unsigned count = z->raw.imm[0].value.u & (z->operand_width == 64 ? 63 : 31);
    return z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (z->opcode & 0xfe) == 0xc0 &&
           z->raw.modrm.reg < 4 && count > 1 && !t->portable && !rv_hides(t, RV_FL_OF);
}

/* The opcodes whose bit 1 says which of two operands is ModRM.reg. */
static bool has_direction(const ZydisDecodedInstruction *z) {
    return z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
           z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
           ((z->opcode < 0x40 && (z->opcode & 7) < 4) || (z->opcode & 0xfc) == 0x88);
}

/* Whether ModRM.rm, which has no host register, can be an operand in memory instead: with nothing
 * in the upper half to be cleared, and read at the size it is written with, which keeps the host's
 * loads from waiting for stores. Exchanges lock memory; bit tests with an index go beyond it. */
static bool may_be_memory(const ZydisDecodedInstruction *z, const struct operand *p) {
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC: return false;
    default: return !p->written || p->o->size == 64;
    }
}

/* Operands in registers: in r10, r11 and rcx those without a host register. rcx_taken: not there.
 */
static struct rv_rm registers(struct rv_translation *t, struct copy *k, struct rv_enc *enc,
                              bool rcx_taken) {
    const ZydisDecodedInstruction *z = &t->d->z;
    unsigned avoid = rcx_taken ? 1u << HCX : 0;
    if (k->reg.spilled && !k->rm.spilled && has_direction(z) && may_be_memory(z, &k->reg) &&
        !rv_is_held(t, k->reg.guest)) {
        struct operand other = k->rm;
        k->rm = k->reg;
        k->reg = other;
        enc->opcode ^= 2;
    }
    if (k->rm.spilled && z->mnemonic == ZYDIS_MNEMONIC_XOR && z->operand_width >= 32 && k->reg.o &&
        k->reg.guest == k->rm.guest) {
        /* How registers are cleared. */
        k->reg = k->rm;
        k->reg.written = k->reg.spilled = false;
        k->rm.unread = k->rm.written = true;
        fetch_spilled(t, &k->rm, NULL, &avoid);
        k->reg.host = k->rm.host;
        return rv_reg(k->rm.host);
    }
    struct rv_rm rm;
    if (k->rm.spilled && may_be_memory(z, &k->rm) && !rv_is_held(t, k->rm.guest)) {
        k->rm.spilled = false;
        k->rm.host = HAX; /* any that needs no prefix */
        k->rm.in_memory = true;
        rm = rv_mem(HSP, RV_AT_GPR(k->rm.guest));
    } else {
        fetch_spilled(t, &k->rm, NULL, &avoid);
        rm = rv_reg(k->rm.host);
    }
    fetch_spilled(t, &k->reg, &k->rm, &avoid);
    fetch_spilled(t, &k->v, k->rm.spilled ? &k->rm : &k->reg, &avoid);
    if (k->by_cl) rv_emit_lea(&t->e, HCX, rv_mem(H8, 0));
    return rm;
}

/* Bits of the registers that an address takes. */
static unsigned used_by(struct rv_rm rm) { return 1u << rm.base | 1u << rm.index; }

bool rv_mangle(struct rv_translation *t) {
    const struct rv_decode *d = t->d;
    struct rv_emit *e = &t->e;
    struct copy k;
    if (!copied(d) || !operands(d, &k)) return false;
    if (t->portable && rv_is_approximate(d->z.mnemonic)) return false;
    struct rv_flag_use use = {0};
    if (t->i->open) use = rv_flag_use(&d->z, d->op);
    bool settles = use.by_cl && !rv_hides(t, use.open);
    if (is_intricate(&use) && (settles || use.open == RV_FL_ARITH)) return false;
    struct rv_enc enc = encoding(d);
    if (d->z.raw.modrm.offset == 0 && enc.vex) {
        rv_emit_vzero(e, enc.l);
        return true;
    }
    if (d->z.raw.modrm.offset == 0) return !k.mem && copy_plain(t, &k, enc);
    if (!k.mem && !k.rm.o) return false;
    if (k.mem && k.by_cl && k.reg.spilled) return false;
    bool high = k.reg.high || k.rm.high, rcx_taken = k.by_cl || rotates_many(t);
    if (high &&
        (enc.w || extended(&k.reg) || extended(&k.rm) || needs_rex(&k.reg) || needs_rex(&k.rm)))
        return false;

    struct rv_rm rm;
    if (k.mem) {
        unsigned size = k.mem->size / 8;
        unsigned how =
            k.mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? RV_HOW_WRITE : RV_HOW_READ;
        if (t->vec && rv_is_vec(d) && size >= 16 && !rv_is_unaligned(&d->z)) how |= RV_HOW_ALIGNED;
        if (size == 0 || size > 32 || !rv_operand(t, size, how, &rm)) return false;
        if (high) {
            rv_emit_lea(e, HCX, rm);
            rm = rv_mem(HCX, 0);
        }
        if (k.by_cl) rv_emit_lea(e, HCX, rv_mem(H8, 0));
        if (k.v.spilled) {
            rv_emit_lea(e, H11, rm);
            rm = rv_mem(H11, 0);
        }
        unsigned avoid = used_by(rm) | (rcx_taken ? 1u << HCX : 0);
        fetch_spilled(t, &k.v, NULL, &avoid);
        fetch_spilled(t, &k.reg, &k.v, &avoid);
    } else {
        rm = registers(t, &k, &enc, rcx_taken);
    }
    enc.rex = needs_rex(&k.reg) || needs_rex(&k.rm);
    if (k.v.o) enc.vvvv = (uint8_t)k.v.host;
    if (rcx_taken && !k.by_cl) {
        if (high && k.mem) return false;
        rv_emit_imm(e, HCX, d->z.raw.imm[0].value.u & 0xff);
        enc.opcode |= 0x12;
        rv_emit_insn(e, enc, d->z.raw.modrm.reg, rm);
        store_spilled(t, &k.rm);
        return true;
    }
    rv_emit_insn(e, enc, k.reg.o ? k.reg.host : d->z.raw.modrm.reg, rm);
    put_immediate(t);
    if (writes_ecx(&d->z)) {
        rv_emit_lea(e, H8, rv_mem(HCX, 0));
        rv_emit_wrote(e, HCX);
    }
    store_spilled(t, &k.v); /* first: MULX to twice the same register leaves the upper half */
    store_spilled(t, &k.reg);
    store_spilled(t, &k.rm); /* last: XADD of a register with itself leaves the sum */
    if (settles) rv_settle_count(t, d->z.meta.category == ZYDIS_CATEGORY_ROTATE);
    return true;
}
