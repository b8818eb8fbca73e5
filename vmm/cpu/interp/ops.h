/* The operations that the decoder can choose, by family. Private to vmm/cpu/interp. */
#ifndef RV_VMM_CPU_INTERP_OPS_H
#define RV_VMM_CPU_INTERP_OPS_H

#include "vmm/cpu/interp/interp.h"

/* Operand forms of two-operand instructions. */
enum rv_form {
    RV_RR, /* register, register */
    RV_RI, /* register, immediate */
    RV_RM, /* register, memory */
    RV_MR, /* memory, register */
    RV_MI, /* memory, immediate */
    RV_FORMS
};

enum rv_alu { RV_ADD, RV_OR, RV_ADC, RV_SBB, RV_AND, RV_SUB, RV_XOR, RV_CMP, RV_TEST, RV_ALUS };
enum rv_unary { RV_INC, RV_DEC, RV_NEG, RV_NOT, RV_UNARIES };
enum rv_shift { RV_ROL, RV_ROR, RV_RCL, RV_RCR, RV_SHL, RV_SHR, RV_SAR, RV_SHIFTS };

/* Index of a size in the tables: 0, 1, 2, 3 for 1, 2, 4, 8 bytes. */
static inline unsigned rv_log2(unsigned size) { return (unsigned)__builtin_ctz(size); }

extern const rv_op rv_alu_ops[RV_ALUS][RV_FORMS][4];
extern const rv_op rv_mov_ops[RV_FORMS][4];
extern const rv_op rv_unary_ops[RV_UNARIES][2][4];         /* [memory][size] */
extern const rv_op rv_shift_ops[RV_SHIFTS][2][2][4];       /* [memory][by CL][size]; imm masked */
extern const rv_op rv_movzx_ops[2][2][4];                  /* [memory][from 16 bits][to size] */
extern const rv_op rv_movsx_ops[2][3][4];                  /* [memory][from 8, 16, 32][to size] */
extern const rv_op rv_cmov_ops[16][2][4];                  /* [condition][memory][size] */
extern const rv_op rv_setcc_ops[16][2];                    /* [condition][memory] */
extern const rv_op rv_jcc64_ops[16];                       /* imm: absolute target */
extern const rv_op rv_lea_ops[4];                          /* 64-bit mode, 64-bit addresses */
extern const rv_op rv_imul2_ops[2][4], rv_imul3_ops[2][4]; /* [memory][size] */

/* Assembly that loads the six flags from AX, as LAHF and SETO left them there: ADD makes OF of AL's
 * 0 or 1, SAHF the rest. In front of whatever leaves flags undefined: many processors leave them as
 * they were, which has to be as the guest had them. */
#define RV_FLAGS_IN "addb $127, %%al\n\tsahf\n\t"

#define RV_OP(name) void rv_op_##name(struct rv_interp *c, const struct rv_insn *i)

/* ops_alu.c, ops_data.c */
RV_OP(nop);
RV_OP(block_end);
RV_OP(lea);
RV_OP(xchg_rr);
RV_OP(xchg_mr);
RV_OP(xadd);
RV_OP(cmpxchg);
RV_OP(cmpxchg8b);
RV_OP(bswap);
RV_OP(movbe);
RV_OP(mul);
RV_OP(imul1);
RV_OP(div);
RV_OP(idiv);
RV_OP(cbw);
RV_OP(cwd);
RV_OP(bt);
RV_OP(bsf);
RV_OP(bsr);
RV_OP(popcnt);
RV_OP(lzcnt);
RV_OP(tzcnt);
RV_OP(shld);
RV_OP(shrd);
RV_OP(lahf);
RV_OP(sahf);
RV_OP(clc);
RV_OP(stc);
RV_OP(cmc);
RV_OP(cld);
RV_OP(std);
RV_OP(xlat);
RV_OP(bcd);
RV_OP(bound);
RV_OP(arpl);
RV_OP(movnti);
RV_OP(salc);
RV_OP(clflush);
/* ops_stack.c */
RV_OP(push_r64);
RV_OP(pop_r64);
RV_OP(push);
RV_OP(pop);
RV_OP(pusha);
RV_OP(popa);
RV_OP(pushf);
RV_OP(popf);
RV_OP(enter);
RV_OP(leave_insn);
RV_OP(push_seg);
RV_OP(pop_seg);
/* ops_branch.c */
RV_OP(jmp64);
RV_OP(call64);
RV_OP(ret64);
RV_OP(jmp_ind64);
RV_OP(call_ind64);
RV_OP(jcc);
RV_OP(jmp);
RV_OP(call);
RV_OP(ret);
RV_OP(jmp_ind);
RV_OP(call_ind);
RV_OP(loop);
RV_OP(jcxz);
/* ops_string.c */
RV_OP(movs);
RV_OP(stos);
RV_OP(lods);
RV_OP(scas);
RV_OP(cmps);
RV_OP(ins);
RV_OP(outs);
/* ops_far.c */
RV_OP(jmp_far);
RV_OP(call_far);
RV_OP(ret_far);
RV_OP(iret);
RV_OP(int);
RV_OP(into);
RV_OP(syscall);
RV_OP(sysret);
RV_OP(sysenter);
RV_OP(sysexit);
/* ops_sys.c */
RV_OP(hlt);
RV_OP(cli);
RV_OP(sti);
RV_OP(in);
RV_OP(out);
RV_OP(cpuid);
RV_OP(rdtsc);
RV_OP(rdmsr);
RV_OP(wrmsr);
RV_OP(mov_from_cr);
RV_OP(mov_to_cr);
RV_OP(mov_from_dr);
RV_OP(mov_to_dr);
RV_OP(clts);
RV_OP(lmsw);
RV_OP(smsw);
RV_OP(invlpg);
RV_OP(invpcid);
RV_OP(wbinvd);
RV_OP(swapgs);
RV_OP(fsgsbase);
RV_OP(clac_stac);
RV_OP(rdpmc);
RV_OP(ud);
RV_OP(too_long);

/* ops_seg.c */
RV_OP(mov_to_seg);
RV_OP(mov_from_seg);
RV_OP(load_far);
RV_OP(ldt);
RV_OP(tr);
RV_OP(store_ldt_tr);
RV_OP(lgdt);
RV_OP(sgdt);
RV_OP(lar_lsl);
RV_OP(verr_verw);

/* X for each condition, as a hexadecimal digit. */
#define RV_ALL_CC(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(a) X(b) X(c) X(d) X(e) X(f)

/* Conditions as encoded in Jcc, SETcc, CMOVcc: evaluated on c->fl. */
static inline bool rv_cond(uint16_t fl, unsigned cc) {
    bool r;
    switch (cc >> 1) {
    case 0: r = fl & 1; break;
    case 1: r = fl & 0x100; break;
    case 2: r = fl & 0x4000; break;
    case 3: r = fl & 0x4100; break;
    case 4: r = fl & 0x8000; break;
    case 5: r = fl & 0x400; break;
    case 6: r = ((fl >> 15) ^ fl) & 1; break;
    default: r = (((fl >> 15) ^ fl) & 1) || (fl & 0x4000); break;
    }
    return r != (cc & 1);
}

/* ---- generic operand access, for instructions where speed does not matter ---- */

static inline uint64_t rv_mask(unsigned size) { return size == 8 ? ~0ull : (1ull << 8 * size) - 1; }

static inline uint64_t rv_load(struct rv_interp *c, const struct rv_insn *i, uint64_t va,
                               unsigned size) {
    switch (size) {
    case 1: return rv_load8(c, i, va);
    case 2: return rv_load16(c, i, va);
    case 4: return rv_load32(c, i, va);
    default: return rv_load64(c, i, va);
    }
}

static inline void rv_store(struct rv_interp *c, const struct rv_insn *i, uint64_t va,
                            unsigned size, uint64_t v) {
    switch (size) {
    case 1: rv_store8(c, i, va, (uint8_t)v); break;
    case 2: rv_store16(c, i, va, (uint16_t)v); break;
    case 4: rv_store32(c, i, va, (uint32_t)v); break;
    default: rv_store64(c, i, va, v);
    }
}

static inline uint64_t rv_reg_get(struct rv_interp *c, uint16_t r, unsigned size) {
    switch (size) {
    case 1: return *rv_reg8(c, r);
    case 2: return *rv_reg16(c, r);
    case 4: return *rv_reg32(c, r);
    default: return *rv_reg64(c, r);
    }
}

/* Writing 32 bits clears the upper half, writing less leaves the rest (SDM vol. 1, 3.4.1.1). */
static inline void rv_reg_set(struct rv_interp *c, uint16_t r, unsigned size, uint64_t v) {
    switch (size) {
    case 1: *rv_reg8(c, r) = (uint8_t)v; break;
    case 2: *rv_reg16(c, r) = (uint16_t)v; break;
    case 4: *rv_reg64(c, r) = (uint32_t)v; break;
    default: *rv_reg64(c, r) = v;
    }
}

/* The stack pointer's width and a push or pop of any size, in every mode (ops_stack.c). */
uint64_t rv_stack_mask(const struct rv_interp *c);
uint64_t rv_stack_linear(struct rv_interp *c, const struct rv_insn *i, uint64_t sp, unsigned size,
                         bool write);
static inline void rv_sp_set(struct rv_interp *c, uint64_t sp) {
    uint64_t mask = rv_stack_mask(c);
    if (mask == 0xffff)
        *(uint16_t *)&c->x.gpr[RV_RSP] = (uint16_t)sp;
    else
        c->x.gpr[RV_RSP] = sp & mask;
}

#endif
