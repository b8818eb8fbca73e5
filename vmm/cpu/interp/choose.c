/* Which operation executes an instruction, and its operands in the form that this one takes: one
 * function for each family of instructions that are alike. */
#include "vmm/cpu/interp/decode.h"
#include "vmm/cpu/interp/ops.h"

static bool is_reg(const ZydisDecodedOperand *o) { return o->type == ZYDIS_OPERAND_TYPE_REGISTER; }
static bool is_mem(const ZydisDecodedOperand *o) { return o->type == ZYDIS_OPERAND_TYPE_MEMORY; }
static bool is_imm(const ZydisDecodedOperand *o) { return o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE; }
static bool is_sreg(const ZydisDecodedOperand *o) {
    return is_reg(o) && ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT;
}
static uint64_t imm(const ZydisDecodedOperand *o) { return o->imm.value.u; }

/* Form of a two-operand instruction; fills registers and immediate. RV_FORMS if it is none. */
static unsigned form(const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedOperand *a = &d->op[0], *b = &d->op[1];
    out->size = (uint8_t)(a->size / 8);
    if (is_reg(a)) out->r1 = rv_decode_gpr(a->reg.value);
    if (is_reg(b)) out->r2 = rv_decode_gpr(b->reg.value);
    if (is_imm(b)) out->imm = imm(b);
    if (is_reg(a)) return is_reg(b) ? RV_RR : is_imm(b) ? RV_RI : is_mem(b) ? RV_RM : RV_FORMS;
    if (is_mem(a)) return is_reg(b) ? RV_MR : is_imm(b) ? RV_MI : RV_FORMS;
    return RV_FORMS;
}

/* For operations that take register or memory: r1 (or r2) is 0 when it is memory. */
static void rm_operand(const ZydisDecodedOperand *o, uint16_t *r) {
    *r = is_reg(o) ? rv_decode_gpr(o->reg.value) : 0;
}

static void op_end(struct rv_insn *out, rv_op op) {
    out->op = op;
    out->flags |= RV_I_END;
}

static uint8_t last_repeat(const ZydisDecodedInstruction *z) {
    uint8_t flag = 0;
    for (unsigned n = 0; n < z->raw.prefix_count; n++) {
        if (z->raw.prefixes[n].value == 0xf3) flag = RV_I_REP;
        if (z->raw.prefixes[n].value == 0xf2) flag = RV_I_REPNE;
    }
    return flag;
}

/* ---- families ---- */

static void alu(const struct rv_decode *d, struct rv_insn *out, enum rv_alu kind) {
    unsigned f = form(d, out);
    if (f < RV_FORMS) out->op = rv_alu_ops[kind][f][rv_log2(out->size)];
}

static void unary(const struct rv_decode *d, struct rv_insn *out, enum rv_unary kind) {
    out->size = (uint8_t)(d->op[0].size / 8);
    rm_operand(&d->op[0], &out->r1);
    out->op = rv_unary_ops[kind][!out->r1][rv_log2(out->size)];
}

static void shift(const struct rv_decode *d, struct rv_insn *out, enum rv_shift kind) {
    out->size = (uint8_t)(d->op[0].size / 8);
    rm_operand(&d->op[0], &out->r1);
    bool by_cl = is_reg(&d->op[1]);
    if (!by_cl) out->imm = imm(&d->op[1]) & (out->size == 8 ? 63 : 31);
    out->op = rv_shift_ops[kind][!out->r1][by_cl][rv_log2(out->size)];
}

static void extend(const struct rv_decode *d, struct rv_insn *out, bool sign) {
    unsigned from = d->op[1].size / 8, to = d->op[0].size / 8;
    out->size = (uint8_t)to;
    out->r1 = rv_decode_gpr(d->op[0].reg.value);
    rm_operand(&d->op[1], &out->r2);
    if (from > to) /* MOVSXD with 66: Intel CPUs move and read 16 bits */
        out->op = rv_mov_ops[out->r2 ? RV_RR : RV_RM][rv_log2(to)];
    else if (sign)
        out->op = rv_movsx_ops[!out->r2][rv_log2(from)][rv_log2(to)];
    else
        out->op = rv_movzx_ops[!out->r2][rv_log2(from)][rv_log2(to)];
}

static void mov(const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedOperand *a = &d->op[0], *b = &d->op[1];
    if (is_sreg(a)) {
        out->ext = (uint8_t)rv_decode_sreg(a->reg.value);
        if (out->ext == RV_CS) return;
        rm_operand(b, &out->r2);
        op_end(out, rv_op_mov_to_seg);
    } else if (is_sreg(b)) {
        out->ext = (uint8_t)rv_decode_sreg(b->reg.value);
        out->size = (uint8_t)(a->size / 8);
        rm_operand(a, &out->r1);
        out->op = rv_op_mov_from_seg;
    } else if (is_reg(a) && ZydisRegisterGetClass(a->reg.value) == ZYDIS_REGCLASS_CONTROL) {
        out->ext = (uint8_t)ZydisRegisterGetId(a->reg.value);
        out->r2 = rv_decode_gpr(b->reg.value);
        op_end(out, rv_op_mov_to_cr);
    } else if (is_reg(b) && ZydisRegisterGetClass(b->reg.value) == ZYDIS_REGCLASS_CONTROL) {
        out->ext = (uint8_t)ZydisRegisterGetId(b->reg.value);
        out->r1 = rv_decode_gpr(a->reg.value);
        op_end(out, rv_op_mov_from_cr);
    } else if (is_reg(a) && ZydisRegisterGetClass(a->reg.value) == ZYDIS_REGCLASS_DEBUG) {
        out->ext = (uint8_t)ZydisRegisterGetId(a->reg.value);
        out->r2 = rv_decode_gpr(b->reg.value);
        op_end(out, rv_op_mov_to_dr);
    } else if (is_reg(b) && ZydisRegisterGetClass(b->reg.value) == ZYDIS_REGCLASS_DEBUG) {
        out->ext = (uint8_t)ZydisRegisterGetId(b->reg.value);
        out->r1 = rv_decode_gpr(a->reg.value);
        out->op = rv_op_mov_from_dr;
    } else {
        unsigned f = form(d, out);
        if (f < RV_FORMS) out->op = rv_mov_ops[f][rv_log2(out->size)];
    }
}

static void push_pop(const struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out,
                     bool push) {
    const ZydisDecodedOperand *a = &d->op[0];
    out->size = (uint8_t)(d->z.operand_width / 8);
    out->flags |= RV_I_SS;
    if (is_sreg(a)) {
        out->ext = (uint8_t)rv_decode_sreg(a->reg.value);
        if (push)
            out->op = rv_op_push_seg;
        else
            op_end(out, rv_op_pop_seg);
        return;
    }
    if (is_imm(a)) {
        out->imm = imm(a);
        out->ext = 2;
    } else if (is_mem(a)) {
        out->ext = 1;
    } else {
        out->r1 = rv_decode_gpr(a->reg.value);
        if ((c->mode & RV_MODE_64) && out->size == 8) {
            out->op = push ? rv_op_push_r64 : rv_op_pop_r64;
            return;
        }
    }
    out->op = push ? rv_op_push : rv_op_pop;
}

static void branch(const struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out,
                   bool call) {
    const ZydisDecodedOperand *a = &d->op[0];
    bool code64 = c->mode & RV_MODE_64;
    out->size = code64 ? 8 : (uint8_t)(d->z.operand_width / 8);
    out->flags |= RV_I_END;
    if (d->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        out->size = (uint8_t)(d->z.operand_width / 8);
        if (a->type == ZYDIS_OPERAND_TYPE_POINTER) {
            out->imm = a->ptr.offset;
            out->disp = a->ptr.segment;
        } else {
            out->ext = 1;
        }
        out->op = call ? rv_op_call_far : rv_op_jmp_far;
    } else if (is_imm(a)) {
        out->imm = code64 ? d->rip + d->z.length + imm(a) : imm(a);
        if (code64)
            out->op = call ? rv_op_call64 : rv_op_jmp64;
        else
            out->op = call ? rv_op_call : rv_op_jmp;
    } else {
        rm_operand(a, &out->r1);
        if (code64)
            out->op = call ? rv_op_call_ind64 : rv_op_jmp_ind64;
        else
            out->op = call ? rv_op_call_ind : rv_op_jmp_ind;
    }
}

static void string(const struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedInstruction *z = &d->z;
    out->size = z->opcode & 1 ? (uint8_t)(z->operand_width / 8) : 1;
    out->flags |= last_repeat(z);
    out->seg = RV_DS;
    for (unsigned n = 0; n < z->operand_count; n++) {
        const ZydisDecodedOperand *o = &d->op[n];
        if (is_mem(o) && (o->mem.base == ZYDIS_REGISTER_SI || o->mem.base == ZYDIS_REGISTER_ESI ||
                          o->mem.base == ZYDIS_REGISTER_RSI))
            out->seg = (uint8_t)rv_decode_sreg(o->mem.segment);
    }
    out->ea = c->mode & RV_MODE_64 ? RV_EA_BASE : RV_EA_SEG;
    switch (z->opcode & 0xfe) {
    case 0xa4: out->op = rv_op_movs; break;
    case 0xa6: out->op = rv_op_cmps; break;
    case 0xaa: out->op = rv_op_stos; break;
    case 0xac: out->op = rv_op_lods; break;
    case 0xae: out->op = rv_op_scas; break;
    case 0x6c:
    case 0x6e:
        if (out->size == 8) out->size = 4;
        op_end(out, (z->opcode & 0xfe) == 0x6c ? rv_op_ins : rv_op_outs);
        break;
    }
}

static bool is_string(const ZydisDecodedInstruction *z) {
    if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT ||
        z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    return (z->opcode >= 0xa4 && z->opcode <= 0xa7) || (z->opcode >= 0xaa && z->opcode <= 0xaf) ||
           (z->opcode >= 0x6c && z->opcode <= 0x6f);
}

/* Jcc, SETcc and CMOVcc, told by their opcode rather than by 48 mnemonics. */
static bool conditional(const struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedInstruction *z = &d->z;
    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) return false;
    bool one = z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT,
         two = z->opcode_map == ZYDIS_OPCODE_MAP_0F;
    unsigned cc = z->opcode & 15, row = z->opcode >> 4;
    if ((one && row == 7) || (two && row == 8)) {
        out->flags |= RV_I_END;
        out->ext = (uint8_t)cc;
        if (c->mode & RV_MODE_64) {
            out->imm = d->rip + z->length + imm(&d->op[0]);
            out->op = rv_jcc64_ops[cc];
        } else {
            out->size = (uint8_t)(z->operand_width / 8);
            out->imm = imm(&d->op[0]);
            out->op = rv_op_jcc;
        }
        return true;
    }
    if (two && row == 9) {
        rm_operand(&d->op[0], &out->r1);
        out->size = 1;
        out->op = rv_setcc_ops[cc][!out->r1];
        return true;
    }
    if (two && row == 4) {
        out->size = (uint8_t)(d->op[0].size / 8);
        out->r1 = rv_decode_gpr(d->op[0].reg.value);
        rm_operand(&d->op[1], &out->r2);
        out->op = rv_cmov_ops[cc][!out->r2][rv_log2(out->size)];
        return true;
    }
    return false;
}

/* r1 and r2 for "register, register/memory". */
static void reg_rm(const struct rv_decode *d, struct rv_insn *out) {
    out->size = (uint8_t)(d->op[0].size / 8);
    out->r1 = rv_decode_gpr(d->op[0].reg.value);
    rm_operand(&d->op[1], &out->r2);
}

/* r1 and r2 for "register/memory, register". */
static void rm_reg(const struct rv_decode *d, struct rv_insn *out) {
    out->size = (uint8_t)(d->op[0].size / 8);
    rm_operand(&d->op[0], &out->r1);
    out->r2 = rv_decode_gpr(d->op[1].reg.value);
}

static void bit_test(const struct rv_decode *d, struct rv_insn *out, unsigned kind) {
    out->size = (uint8_t)(d->op[0].size / 8);
    rm_operand(&d->op[0], &out->r1);
    out->ext = (uint8_t)kind;
    if (is_imm(&d->op[1])) {
        out->imm = imm(&d->op[1]);
        out->ext |= 0x80;
    } else {
        out->r2 = rv_decode_gpr(d->op[1].reg.value);
    }
    out->op = rv_op_bt;
}

static void double_shift(const struct rv_decode *d, struct rv_insn *out, rv_op op) {
    rm_reg(d, out);
    out->ext = is_reg(&d->op[2]);
    if (!out->ext) out->imm = imm(&d->op[2]);
    out->op = op;
}

static void imul(const struct rv_decode *d, struct rv_insn *out) {
    out->size = (uint8_t)(d->op[0].size / 8);
    if (d->z.operand_count_visible == 1) {
        rm_operand(&d->op[0], &out->r1);
        out->op = rv_op_imul1;
        return;
    }
    reg_rm(d, out);
    if (d->z.operand_count_visible == 3) {
        out->imm = imm(&d->op[2]);
        out->op = rv_imul3_ops[!out->r2][rv_log2(out->size)];
    } else {
        out->op = rv_imul2_ops[!out->r2][rv_log2(out->size)];
    }
}

static void lea(const struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    out->size = (uint8_t)(d->op[0].size / 8);
    out->r1 = rv_decode_gpr(d->op[0].reg.value);
    bool plain = (c->mode & RV_MODE_64) && out->asize == 8;
    out->op = plain ? rv_lea_ops[rv_log2(out->size)] : rv_op_lea;
}

/* A selector operand in register or memory, for LLDT and its like. */
static void selector(const struct rv_decode *d, struct rv_insn *out, rv_op op) {
    rm_operand(&d->op[0], &out->r2);
    out->op = op;
}

static void in_out(const struct rv_decode *d, struct rv_insn *out, bool in) {
    const ZydisDecodedOperand *port = &d->op[in ? 1 : 0], *data = &d->op[in ? 0 : 1];
    out->size = (uint8_t)(data->size / 8);
    out->ext = is_reg(port);
    if (!out->ext) out->imm = imm(port);
    op_end(out, in ? rv_op_in : rv_op_out);
}

static void ext_op(struct rv_insn *out, unsigned ext, rv_op op) {
    out->ext = (uint8_t)ext;
    out->op = op;
}

static void bcd(const struct rv_decode *d, struct rv_insn *out, unsigned kind) {
    if (d->z.operand_count_visible) out->imm = imm(&d->op[0]);
    ext_op(out, kind, rv_op_bcd);
}

static void dest_rm(const struct rv_decode *d, struct rv_insn *out, unsigned ext, rv_op op) {
    out->size = (uint8_t)(d->op[0].size / 8);
    rm_operand(&d->op[0], &out->r1);
    ext_op(out, ext, op);
}

/* Chooses out->op; leaves it NULL when the instruction is not offered. */
void rv_decode_choose(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    const ZydisDecodedInstruction *z = &d->z;
    bool code64 = c->mode & RV_MODE_64;
    unsigned width = z->operand_width / 8u;
    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
        if (!rv_vec_decode(c, d, out)) out->op = NULL;
        return;
    }
    if (is_string(z)) {
        string(c, d, out);
        return;
    }
    if (conditional(c, d, out)) return;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_ADD: alu(d, out, RV_ADD); break;
    case ZYDIS_MNEMONIC_OR: alu(d, out, RV_OR); break;
    case ZYDIS_MNEMONIC_ADC: alu(d, out, RV_ADC); break;
    case ZYDIS_MNEMONIC_SBB: alu(d, out, RV_SBB); break;
    case ZYDIS_MNEMONIC_AND: alu(d, out, RV_AND); break;
    case ZYDIS_MNEMONIC_SUB: alu(d, out, RV_SUB); break;
    case ZYDIS_MNEMONIC_XOR: alu(d, out, RV_XOR); break;
    case ZYDIS_MNEMONIC_CMP: alu(d, out, RV_CMP); break;
    case ZYDIS_MNEMONIC_TEST: alu(d, out, RV_TEST); break;
    case ZYDIS_MNEMONIC_INC: unary(d, out, RV_INC); break;
    case ZYDIS_MNEMONIC_DEC: unary(d, out, RV_DEC); break;
    case ZYDIS_MNEMONIC_NEG: unary(d, out, RV_NEG); break;
    case ZYDIS_MNEMONIC_NOT: unary(d, out, RV_NOT); break;
    case ZYDIS_MNEMONIC_ROL: shift(d, out, RV_ROL); break;
    case ZYDIS_MNEMONIC_ROR: shift(d, out, RV_ROR); break;
    case ZYDIS_MNEMONIC_RCL: shift(d, out, RV_RCL); break;
    case ZYDIS_MNEMONIC_RCR: shift(d, out, RV_RCR); break;
    case ZYDIS_MNEMONIC_SHL: shift(d, out, RV_SHL); break;
    case ZYDIS_MNEMONIC_SHR: shift(d, out, RV_SHR); break;
    case ZYDIS_MNEMONIC_SAR: shift(d, out, RV_SAR); break;
    case ZYDIS_MNEMONIC_SHLD: double_shift(d, out, rv_op_shld); break;
    case ZYDIS_MNEMONIC_SHRD: double_shift(d, out, rv_op_shrd); break;
    case ZYDIS_MNEMONIC_MOV: mov(d, out); break;
    case ZYDIS_MNEMONIC_MOVZX: extend(d, out, false); break;
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD: extend(d, out, true); break;
    case ZYDIS_MNEMONIC_LEA: lea(c, d, out); break;
    case ZYDIS_MNEMONIC_PUSH: push_pop(c, d, out, true); break;
    case ZYDIS_MNEMONIC_POP: push_pop(c, d, out, false); break;
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
        out->size = (uint8_t)width;
        out->op = rv_op_pusha;
        break;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        out->size = (uint8_t)width;
        out->op = rv_op_popa;
        break;
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        out->size = (uint8_t)width;
        out->op = rv_op_pushf;
        break;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        out->size = (uint8_t)width;
        op_end(out, rv_op_popf);
        break;
    case ZYDIS_MNEMONIC_ENTER:
        out->size = (uint8_t)width;
        out->imm = imm(&d->op[0]) & 0xffff;
        out->ext = (uint8_t)imm(&d->op[1]);
        out->flags |= RV_I_SS;
        out->op = rv_op_enter;
        break;
    case ZYDIS_MNEMONIC_LEAVE:
        out->size = (uint8_t)width;
        out->flags |= RV_I_SS;
        out->op = rv_op_leave_insn;
        break;
    case ZYDIS_MNEMONIC_JMP: branch(c, d, out, false); break;
    case ZYDIS_MNEMONIC_CALL: branch(c, d, out, true); break;
    case ZYDIS_MNEMONIC_RET:
        out->flags |= RV_I_END | RV_I_SS;
        out->imm = z->operand_count_visible ? imm(&d->op[0]) & 0xffff : 0;
        out->size = (uint8_t)width;
        if (z->opcode >= 0xca) {
            out->op = rv_op_ret_far;
        } else if (code64) {
            out->size = 8;
            out->op = rv_op_ret64;
        } else {
            out->op = rv_op_ret;
        }
        break;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        out->size = code64 ? 8 : (uint8_t)width;
        out->imm = imm(&d->op[0]);
        out->ext = z->mnemonic == ZYDIS_MNEMONIC_LOOPE    ? 1
                   : z->mnemonic == ZYDIS_MNEMONIC_LOOPNE ? 2
                                                          : 0;
        op_end(out, z->opcode == 0xe3 ? rv_op_jcxz : rv_op_loop);
        break;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        out->size = (uint8_t)width;
        out->flags |= RV_I_SS;
        op_end(out, rv_op_iret);
        break;
    case ZYDIS_MNEMONIC_INT:
        out->imm = imm(&d->op[0]) & 0xff;
        op_end(out, rv_op_int);
        break;
    case ZYDIS_MNEMONIC_INT3:
        out->imm = 3;
        out->ext = 1;
        op_end(out, rv_op_int);
        break;
    case ZYDIS_MNEMONIC_INT1:
        out->imm = 1;
        out->ext = 2;
        op_end(out, rv_op_int);
        break;
    case ZYDIS_MNEMONIC_INTO: op_end(out, rv_op_into); break;
    case ZYDIS_MNEMONIC_SYSCALL: op_end(out, rv_op_syscall); break;
    case ZYDIS_MNEMONIC_SYSRET:
        out->size = (uint8_t)width;
        op_end(out, rv_op_sysret);
        break;
    case ZYDIS_MNEMONIC_SYSENTER: op_end(out, rv_op_sysenter); break;
    case ZYDIS_MNEMONIC_SYSEXIT:
        out->size = (uint8_t)width;
        op_end(out, rv_op_sysexit);
        break;

    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_ENDBR64: out->op = rv_op_nop; break;
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_PREFETCHWT1: out->op = rv_op_nop; break;
    case ZYDIS_MNEMONIC_CLFLUSH: out->op = rv_op_clflush; break;
    case ZYDIS_MNEMONIC_XCHG:
        rm_reg(d, out);
        if (!out->r1) {
            out->op = rv_op_xchg_mr;
        } else if (is_mem(&d->op[1])) {
            out->r2 = out->r1;
            out->r1 = 0;
            out->op = rv_op_xchg_mr;
        } else {
            out->op = rv_op_xchg_rr;
        }
        break;
    case ZYDIS_MNEMONIC_XADD:
        rm_reg(d, out);
        out->op = rv_op_xadd;
        break;
    case ZYDIS_MNEMONIC_CMPXCHG:
        rm_reg(d, out);
        out->op = rv_op_cmpxchg;
        break;
    case ZYDIS_MNEMONIC_CMPXCHG8B:
        out->size = 4;
        out->op = rv_op_cmpxchg8b;
        break;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        out->size = 8;
        out->op = rv_op_cmpxchg8b;
        break;
    case ZYDIS_MNEMONIC_BSWAP:
        out->size = (uint8_t)(d->op[0].size / 8);
        out->r1 = rv_decode_gpr(d->op[0].reg.value);
        out->op = rv_op_bswap;
        break;
    case ZYDIS_MNEMONIC_MUL: dest_rm(d, out, 0, rv_op_mul); break;
    case ZYDIS_MNEMONIC_IMUL: imul(d, out); break;
    case ZYDIS_MNEMONIC_DIV: dest_rm(d, out, 0, rv_op_div); break;
    case ZYDIS_MNEMONIC_IDIV: dest_rm(d, out, 0, rv_op_idiv); break;
    case ZYDIS_MNEMONIC_CBW:
        out->size = 2;
        out->op = rv_op_cbw;
        break;
    case ZYDIS_MNEMONIC_CWDE:
        out->size = 4;
        out->op = rv_op_cbw;
        break;
    case ZYDIS_MNEMONIC_CDQE:
        out->size = 8;
        out->op = rv_op_cbw;
        break;
    case ZYDIS_MNEMONIC_CWD:
        out->size = 2;
        out->op = rv_op_cwd;
        break;
    case ZYDIS_MNEMONIC_CDQ:
        out->size = 4;
        out->op = rv_op_cwd;
        break;
    case ZYDIS_MNEMONIC_CQO:
        out->size = 8;
        out->op = rv_op_cwd;
        break;
    case ZYDIS_MNEMONIC_BT: bit_test(d, out, 0); break;
    case ZYDIS_MNEMONIC_BTS: bit_test(d, out, 1); break;
    case ZYDIS_MNEMONIC_BTR: bit_test(d, out, 2); break;
    case ZYDIS_MNEMONIC_BTC: bit_test(d, out, 3); break;
    case ZYDIS_MNEMONIC_BSF:
        reg_rm(d, out);
        out->op = rv_op_bsf;
        break;
    case ZYDIS_MNEMONIC_BSR:
        reg_rm(d, out);
        out->op = rv_op_bsr;
        break;
    case ZYDIS_MNEMONIC_POPCNT:
        reg_rm(d, out);
        out->op = rv_op_popcnt;
        break;
    case ZYDIS_MNEMONIC_LZCNT:
        reg_rm(d, out);
        out->op = rv_op_lzcnt;
        break;
    case ZYDIS_MNEMONIC_TZCNT:
        reg_rm(d, out);
        out->op = rv_op_tzcnt;
        break;
    case ZYDIS_MNEMONIC_MOVBE:
        if (!c->profile->v3) break;
        rm_operand(&d->op[0], &out->r1);
        rm_operand(&d->op[1], &out->r2);
        out->size = (uint8_t)(d->op[0].size / 8);
        out->op = rv_op_movbe;
        break;
    case ZYDIS_MNEMONIC_LAHF: out->op = rv_op_lahf; break;
    case ZYDIS_MNEMONIC_SAHF: out->op = rv_op_sahf; break;
    case ZYDIS_MNEMONIC_CLC: out->op = rv_op_clc; break;
    case ZYDIS_MNEMONIC_STC: out->op = rv_op_stc; break;
    case ZYDIS_MNEMONIC_CMC: out->op = rv_op_cmc; break;
    case ZYDIS_MNEMONIC_CLD: out->op = rv_op_cld; break;
    case ZYDIS_MNEMONIC_STD: out->op = rv_op_std; break;
    case ZYDIS_MNEMONIC_SALC: out->op = rv_op_salc; break;
    case ZYDIS_MNEMONIC_XLAT:
        for (unsigned n = 0; n < z->operand_count; n++)
            if (is_mem(&d->op[n])) out->seg = (uint8_t)rv_decode_sreg(d->op[n].mem.segment);
        out->ea = !code64                                  ? RV_EA_SEG
                  : out->seg == RV_FS || out->seg == RV_GS ? RV_EA_BASE
                                                           : RV_EA_FLAT;
        out->op = rv_op_xlat;
        break;
    case ZYDIS_MNEMONIC_MOVNTI:
        rm_reg(d, out);
        out->op = rv_op_movnti;
        break;
    case ZYDIS_MNEMONIC_AAA: bcd(d, out, 0); break;
    case ZYDIS_MNEMONIC_AAS: bcd(d, out, 1); break;
    case ZYDIS_MNEMONIC_DAA: bcd(d, out, 2); break;
    case ZYDIS_MNEMONIC_DAS: bcd(d, out, 3); break;
    case ZYDIS_MNEMONIC_AAM: bcd(d, out, 4); break;
    case ZYDIS_MNEMONIC_AAD: bcd(d, out, 5); break;
    case ZYDIS_MNEMONIC_BOUND:
        out->size = (uint8_t)(d->op[0].size / 8);
        out->r1 = rv_decode_gpr(d->op[0].reg.value);
        out->op = rv_op_bound;
        break;
    case ZYDIS_MNEMONIC_ARPL:
        rm_reg(d, out);
        out->op = c->mode & RV_MODE_PROT ? rv_op_arpl : rv_op_ud;
        break;

    case ZYDIS_MNEMONIC_HLT: op_end(out, rv_op_hlt); break;
    case ZYDIS_MNEMONIC_CLI: out->op = rv_op_cli; break;
    case ZYDIS_MNEMONIC_STI: op_end(out, rv_op_sti); break;
    case ZYDIS_MNEMONIC_IN: in_out(d, out, true); break;
    case ZYDIS_MNEMONIC_OUT: in_out(d, out, false); break;
    case ZYDIS_MNEMONIC_CPUID: op_end(out, rv_op_cpuid); break;
    case ZYDIS_MNEMONIC_RDTSC: op_end(out, rv_op_rdtsc); break;
    case ZYDIS_MNEMONIC_RDTSCP:
        ext_op(out, 1, rv_op_rdtsc);
        out->flags |= RV_I_END;
        break;
    case ZYDIS_MNEMONIC_RDPMC: out->op = rv_op_rdpmc; break;
    case ZYDIS_MNEMONIC_RDMSR: op_end(out, rv_op_rdmsr); break;
    case ZYDIS_MNEMONIC_WRMSR: op_end(out, rv_op_wrmsr); break;
    case ZYDIS_MNEMONIC_CLTS: op_end(out, rv_op_clts); break;
    case ZYDIS_MNEMONIC_LMSW:
        selector(d, out, rv_op_lmsw);
        out->flags |= RV_I_END;
        break;
    case ZYDIS_MNEMONIC_SMSW: dest_rm(d, out, 0, rv_op_smsw); break;
    case ZYDIS_MNEMONIC_INVLPG: out->op = rv_op_invlpg; break;
    case ZYDIS_MNEMONIC_INVPCID:
        out->r1 = rv_decode_gpr(d->op[0].reg.value);
        out->op = rv_op_invpcid;
        break;
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD: out->op = rv_op_wbinvd; break;
    case ZYDIS_MNEMONIC_SWAPGS: out->op = rv_op_swapgs; break;
    case ZYDIS_MNEMONIC_RDFSBASE: dest_rm(d, out, 0, rv_op_fsgsbase); break;
    case ZYDIS_MNEMONIC_RDGSBASE: dest_rm(d, out, 1, rv_op_fsgsbase); break;
    case ZYDIS_MNEMONIC_WRFSBASE: dest_rm(d, out, 2, rv_op_fsgsbase); break;
    case ZYDIS_MNEMONIC_WRGSBASE: dest_rm(d, out, 3, rv_op_fsgsbase); break;
    case ZYDIS_MNEMONIC_CLAC: op_end(out, rv_op_clac_stac); break;
    case ZYDIS_MNEMONIC_STAC:
        out->ext = 1;
        op_end(out, rv_op_clac_stac);
        break;
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LSS:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
        out->size = (uint8_t)(d->op[0].size / 8);
        out->r1 = rv_decode_gpr(d->op[0].reg.value);
        out->ext = z->mnemonic == ZYDIS_MNEMONIC_LDS   ? RV_DS
                   : z->mnemonic == ZYDIS_MNEMONIC_LES ? RV_ES
                   : z->mnemonic == ZYDIS_MNEMONIC_LSS ? RV_SS
                   : z->mnemonic == ZYDIS_MNEMONIC_LFS ? RV_FS
                                                       : RV_GS;
        op_end(out, rv_op_load_far);
        break;
    case ZYDIS_MNEMONIC_LLDT: selector(d, out, rv_op_ldt); break;
    case ZYDIS_MNEMONIC_LTR: selector(d, out, rv_op_tr); break;
    case ZYDIS_MNEMONIC_SLDT: dest_rm(d, out, RV_LDTR, rv_op_store_ldt_tr); break;
    case ZYDIS_MNEMONIC_STR: dest_rm(d, out, RV_TR, rv_op_store_ldt_tr); break;
    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LIDT:
        out->size = (uint8_t)width;
        ext_op(out, z->mnemonic == ZYDIS_MNEMONIC_LIDT, rv_op_lgdt);
        break;
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT: ext_op(out, z->mnemonic == ZYDIS_MNEMONIC_SIDT, rv_op_sgdt); break;
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
        reg_rm(d, out);
        ext_op(out, z->mnemonic == ZYDIS_MNEMONIC_LSL, rv_op_lar_lsl);
        break;
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
        selector(d, out, rv_op_verr_verw);
        out->ext = z->mnemonic == ZYDIS_MNEMONIC_VERW;
        break;
    default:
        if (!rv_vec_decode(c, d, out)) out->op = NULL;
    }
}
