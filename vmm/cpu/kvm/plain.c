/* Which instructions KVM runs: integer code whose every effect is known beforehand. The instruction
 * and all its memory operands must translate to RAM without a fault and without a change to a
 * page-table entry, so that afterwards exactly one instruction has retired and exactly the pages
 * named here were written. The rest is the interpreter's: whatever reads time or devices, changes
 * privilege, mode, segments or IF, shows EFLAGS to the guest (TF is set while KVM steps), repeats,
 * or works on the FPU. */
#include <string.h>

#include "vmm/cpu/interp/decode.h"
#include "vmm/cpu/kvm/kvm.h"

enum { CODE16_REAL, CODE16, CODE32, CODE64 };

void rv_kvm_decoders_init(struct rv_kvm *k) {
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth width;
    } how[] = {
        [CODE16_REAL] = {ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16},
        [CODE16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        [CODE32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [CODE64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };
    for (unsigned n = 0; n < RV_COUNT(how); n++)
        ZydisDecoderInit(&k->decoder[n], how[n].mode, how[n].width);
}

/* State in which something may happen beside the instruction: traps, breakpoints, shadows. */
static bool quiet(const struct rv_x86 *x) {
    if (x->rflags & (RV_FL_TF | RV_FL_RF | RV_FL_VM)) return false;
    if (x->dr7 & 0xff) return false;
    bool user = (x->cr0 & RV_CR0_PE) && RV_SEG_DPL(x->seg[RV_SS].attr) == 3;
    return !(user && (x->cr0 & RV_CR0_AM) && (x->rflags & RV_FL_AC));
}

struct look {
    struct rv_kvm *k;
    struct rv_kvm_plain *p;
    bool code64;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

static bool canonical(uint64_t va) { return (uint64_t)((int64_t)(va << 16) >> 16) == va; }

/* ---- fetching ---- */

static bool fetch(struct look *l) {
    struct rv_kvm *k = l->k;
    const struct rv_x86 *x = &k->x;
    const struct rv_seg *cs = &x->seg[RV_CS];
    l->code64 = (x->efer & RV_EFER_LMA) && (cs->attr & RV_SEG_L);
    bool prot = x->cr0 & RV_CR0_PE;
    unsigned mode = l->code64              ? CODE64
                    : cs->attr & RV_SEG_DB ? CODE32
                    : prot                 ? CODE16
                                           : CODE16_REAL;
    uint64_t va = l->code64 ? x->rip : (cs->base + x->rip) & 0xffffffffu;
    if (l->code64 && !(canonical(va) && canonical(va + ZYDIS_MAX_INSTRUCTION_LENGTH))) return false;
    uint64_t off;
    if (!rv_kvm_walk(k, va, RV_KVM_FETCH, &off)) return false;
    k->ram->executed[off >> RV_PAGE_SHIFT] = 1;
    size_t here = RV_PAGE_SIZE - (va & 0xfff);
    uint8_t both[2 * ZYDIS_MAX_INSTRUCTION_LENGTH];
    const uint8_t *bytes = k->ram->host + off;
    size_t size = here < ZYDIS_MAX_INSTRUCTION_LENGTH ? here : ZYDIS_MAX_INSTRUCTION_LENGTH;
    ZyanStatus s = ZydisDecoderDecodeFull(&k->decoder[mode], bytes, size, &l->z, l->op);
    if (s == ZYDIS_STATUS_NO_MORE_DATA && size < ZYDIS_MAX_INSTRUCTION_LENGTH) {
        if (!rv_kvm_walk(k, va + size, RV_KVM_FETCH, &off)) return false;
        k->ram->executed[off >> RV_PAGE_SHIFT] = 1;
        memcpy(both, bytes, size);
        memcpy(both + size, k->ram->host + off, ZYDIS_MAX_INSTRUCTION_LENGTH);
        s = ZydisDecoderDecodeFull(&k->decoder[mode], both, size + ZYDIS_MAX_INSTRUCTION_LENGTH,
                                   &l->z, l->op);
    }
    if (!ZYAN_SUCCESS(s) || l->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) return false;
    l->p->mnemonic = l->z.mnemonic;
    l->p->next = x->rip + l->z.length;
    l->p->branch = l->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
    /* Wrapping at the end of the code segment is left to the interpreter. */
    return l->code64 || l->p->next <= cs->limit;
}

/* ---- memory operands ---- */

static bool touch(struct look *l, uint64_t va, unsigned size, bool write) {
    while (size) {
        unsigned step = RV_PAGE_SIZE - (va & 0xfff);
        if (step > size) step = size;
        uint64_t off;
        if (!rv_kvm_walk(l->k, va, write ? RV_KVM_WRITE : RV_KVM_READ, &off)) return false;
        if (write) {
            if (l->p->writes == RV_KVM_WRITES) return false;
            l->p->page[l->p->writes++] = off >> RV_PAGE_SHIFT;
        }
        va += step, size -= step;
        if (!l->code64) va &= 0xffffffffu;
    }
    return true;
}

/* An access of size bytes at offset ea of a segment. */
static bool access_at(struct look *l, unsigned seg, uint64_t ea, unsigned size, bool write) {
    const struct rv_seg *s = &l->k->x.seg[seg];
    if (!size || size > 16) return false;
    if (l->code64) {
        uint64_t va = (seg == RV_FS || seg == RV_GS ? s->base : 0) + ea;
        return canonical(va) && canonical(va + size - 1) && touch(l, va, size, write);
    }
    /* Plain data or stack segments that grow up; the odd ones fault in odd ways. */
    if (!(s->attr & RV_SEG_P) || !(s->attr & RV_SEG_S) || (s->attr & 0xc) == 4) return false;
    bool code = s->attr & 8;
    if (write ? code || !(s->attr & 2) : code && !(s->attr & 2)) return false;
    if (ea + size - 1 > s->limit) return false;
    return touch(l, (s->base + ea) & 0xffffffffu, size, write);
}

static uint64_t reg_value(const struct look *l, ZydisRegister r) {
    if (r == ZYDIS_REGISTER_NONE) return 0;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP) return l->p->next;
    return l->k->x.gpr[ZydisRegisterGetId(r) & 15];
}

static unsigned seg_of(ZydisRegister r) {
    switch (r) {
    case ZYDIS_REGISTER_ES: return RV_ES;
    case ZYDIS_REGISTER_CS: return RV_CS;
    case ZYDIS_REGISTER_SS: return RV_SS;
    case ZYDIS_REGISTER_FS: return RV_FS;
    case ZYDIS_REGISTER_GS: return RV_GS;
    default: return RV_DS;
    }
}

static bool memory(struct look *l, const ZydisDecodedOperand *o) {
    const ZydisDecodedOperandMem *m = &o->mem;
    if (m->type != ZYDIS_MEMOP_TYPE_MEM) return m->type == ZYDIS_MEMOP_TYPE_AGEN;
    uint64_t ea = (m->disp.has_displacement ? (uint64_t)m->disp.value : 0) + reg_value(l, m->base) +
                  reg_value(l, m->index) * (m->scale ? m->scale : 1);
    /* Registers narrower than the address are harmless: the sum is cut to the address size. */
    if (l->z.address_width == 32) ea &= 0xffffffffu;
    if (l->z.address_width == 16) ea &= 0xffff;
    bool write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    return access_at(l, seg_of(m->segment), ea, o->size / 8, write);
}

/* The stack slot of PUSH, POP, CALL and RET; Zydis names it without saying on which side of RSP. */
static bool stack(struct look *l, bool push) {
    const struct rv_x86 *x = &l->k->x;
    unsigned size = l->z.operand_width / 8u;
    uint64_t mask = l->code64 ? ~0ull : x->seg[RV_SS].attr & RV_SEG_DB ? 0xffffffffu : 0xffff;
    uint64_t sp = x->gpr[RV_RSP] & mask;
    return access_at(l, RV_SS, push ? (sp - size) & mask : sp, size, push);
}

static bool operands(struct look *l, bool hidden) {
    unsigned n = hidden ? l->z.operand_count : l->z.operand_count_visible;
    for (unsigned i = 0; i < n; i++)
        if (l->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && !memory(l, &l->op[i])) return false;
    return true;
}

/* ---- instructions ---- */

static bool is_mem(const ZydisDecodedOperand *o) { return o->type == ZYDIS_OPERAND_TYPE_MEMORY; }

/* Prefixes that some processors read as another instruction. */
static bool has_prefix(const struct look *l, uint8_t a, uint8_t b) {
    for (unsigned n = 0; n < l->z.raw.prefix_count; n++)
        if (l->z.raw.prefixes[n].value == a || l->z.raw.prefixes[n].value == b) return true;
    return false;
}

static bool special_register(const struct look *l) {
    for (unsigned i = 0; i < l->z.operand_count_visible; i++) {
        if (l->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
        switch (ZydisRegisterGetClass(l->op[i].reg.value)) {
        case ZYDIS_REGCLASS_GPR8:
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64: break;
        default: return true;
        }
    }
    return false;
}

static bool branch(struct look *l) {
    /* Far transfers load CS; a 66 prefix means different things to different vendors in 64-bit
     * mode, and cuts RIP elsewhere. */
    if (l->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || has_prefix(l, 0x66, 0x66)) return false;
    return true;
}

static bool conditional(const struct look *l, unsigned *row) {
    const ZydisDecodedInstruction *z = &l->z;
    *row = z->opcode >> 4;
    if (z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) return *row == 7;
    return z->opcode_map == ZYDIS_OPCODE_MAP_0F && (*row == 8 || *row == 9 || *row == 4);
}

/* Leaves flags that have to be the same on any processor. */
static bool leaves_open(const struct look *l) {
    return (l->k->bus->quirks & RV_QUIRK_PORTABLE) && rv_flag_use(&l->z, l->op).open;
}

static bool known(struct look *l) {
    if (leaves_open(l)) return false;
    /* F6 /1 and F7 /1 are TEST again, though no manual says so, and not everywhere. */
    if ((l->z.opcode & 0xfe) == 0xf6 && l->z.raw.modrm.reg == 1 &&
        l->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
        return false;
    unsigned row;
    if (conditional(l, &row)) return row == 9 || row == 4 ? operands(l, false) : branch(l);
    switch (l->z.mnemonic) {
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XADD:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_MUL: return operands(l, false);
    case ZYDIS_MNEMONIC_CBW:
    case ZYDIS_MNEMONIC_CWDE:
    case ZYDIS_MNEMONIC_CDQE:
    case ZYDIS_MNEMONIC_CWD:
    case ZYDIS_MNEMONIC_CDQ:
    case ZYDIS_MNEMONIC_CQO:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_NOP: return true;
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
        /* Rotating 9 or 17 bits all the way round leaves OF undefined, and engines differ. */
        return l->op[0].size > 16 && operands(l, false);
    case ZYDIS_MNEMONIC_CMPXCHG:
        /* When it fails, a register keeps all 64 bits; KVM's emulator clears the upper half. */
        return is_mem(&l->op[0]) && operands(l, false);
    case ZYDIS_MNEMONIC_BSWAP: return l->op[0].size > 16;
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
        /* With F3 newer processors count zeros; of a zero source they leave a 32-bit destination's
         * upper half either way. */
        return l->op[0].size != 32 && !has_prefix(l, 0xf2, 0xf3) && operands(l, false);
    case ZYDIS_MNEMONIC_POPCNT: return operands(l, false);
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        /* A bit offset in a register reaches beyond the operand. */
        if (is_mem(&l->op[0]) && l->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER) return false;
        return operands(l, false);
    case ZYDIS_MNEMONIC_PUSH: return stack(l, true) && operands(l, false);
    case ZYDIS_MNEMONIC_POP: return !is_mem(&l->op[0]) && stack(l, false);
    case ZYDIS_MNEMONIC_CALL: return branch(l) && stack(l, true) && operands(l, false);
    case ZYDIS_MNEMONIC_RET:
        /* QEMU's software processor takes the bytes to release as a signed number. */
        if (l->z.raw.imm[0].size && l->z.raw.imm[0].value.u & 0x8000) return false;
        return branch(l) && stack(l, false);
    case ZYDIS_MNEMONIC_JMP: return branch(l) && operands(l, false);
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ: return branch(l);
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ:
        /* MOVSD and CMPSD are SSE2 instructions too, told by their opcode map. */
        return l->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && !has_prefix(l, 0xf2, 0xf3) &&
               operands(l, true);
    default: return false;
    }
}

/* After these the guest may rely on new translations. */
static bool flushes(const struct look *l) {
    switch (l->z.mnemonic) {
    case ZYDIS_MNEMONIC_INVLPG:
    case ZYDIS_MNEMONIC_INVPCID:
    case ZYDIS_MNEMONIC_WRMSR:
    case ZYDIS_MNEMONIC_LMSW: return true;
    case ZYDIS_MNEMONIC_MOV:
        return l->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
               ZydisRegisterGetClass(l->op[0].reg.value) == ZYDIS_REGCLASS_CONTROL;
    default: return false;
    }
}

static bool examine(struct rv_kvm *k, struct rv_kvm_plain *p) {
    *p = (struct rv_kvm_plain){.mnemonic = ZYDIS_MNEMONIC_INVALID};
    struct look l = {.k = k, .p = p};
    if (!quiet(&k->x) || !fetch(&l)) return false;
    p->flushes = flushes(&l);
    return !k->refused[p->mnemonic] && !special_register(&l) && known(&l);
}

bool rv_kvm_is_plain(struct rv_kvm *k, struct rv_kvm_plain *p) {
    unsigned generation = k->seen.generation;
    bool plain = examine(k, p);
    /* Forgetting half way lost entries that this very instruction will use: see them again. */
    return plain && generation != k->seen.generation ? examine(k, p) : plain;
}
