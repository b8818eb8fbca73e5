/* x87, MMX, SSE and AVX of the reference CPU: inside view, shared by vec*.c only.
 *
 * The guest's registers live in c->x.fx, an FXSAVE64 image (SDM vol. 1, table 10-2), the upper
 * halves of the ymm registers in c->x.ymmh, and nowhere else. An instruction is executed by the
 * host's own: vec_thunk.c makes, for each distinct opcode, a short function that loads its operands
 * from the image or from memory, runs the opcode on fixed host registers and stores the result.
 * Moves and the commonest integer operations are plain C. */
#ifndef RV_VMM_CPU_INTERP_VEC_H
#define RV_VMM_CPU_INTERP_VEC_H

#include "vmm/cpu/interp/decode.h"

/* A generated function. dst and src are 16-byte aligned register images; src may also be guest
 * memory with the alignment that the instruction demands. fx is the FXSAVE image that gives MXCSR,
 * XMM0 and the whole x87 state, arg points to rv_interp.fl or the general registers. Returns
 * what the form says. */
typedef uint64_t (*rv_thunk)(void *dst, const void *src, uint8_t *fx, const void *arg);

enum rv_thunk_form {
    RV_T_XMM,     /* xmm dst, 1-16 bytes src */
    RV_T_XMM0,    /* the same with XMM0 as a third operand */
    RV_T_XMM_IMM, /* xmm dst, immediate; the opcode continues in ModRM.reg */
    RV_T_FLAGS,   /* xmm dst is only read; returns flags as in rv_interp.fl */
    RV_T_GPR,     /* returns the general register's new value */
    RV_T_STRING,  /* PCMPxSTRx: returns ECX << 32 | flags; XMM0 of fx is written by the M forms */
    RV_T_MMX,     /* mm dst, mm or memory src */
    RV_T_MMX_IMM, /* as RV_T_XMM_IMM */
    RV_T_XMM_MMX, /* xmm dst, mm or memory src */
    RV_T_MMX_XMM, /* mm dst, xmm or memory src */
    RV_T_X87,     /* the state in fx, and memory at src; returns flags as in rv_interp.fl */
    RV_T_VEX,     /* dst is vec_avx.c's frame: four operands of 32 bytes each, in the order of
                     ModRM.reg,     VEX.vvvv, ModRM.rm, IS4, and RDX; rm may be memory at src; flags as
                     RV_T_X87 */
};

/* What is executed, in the form that all encodings of the same operation share. */
struct rv_thunk_key {
    uint8_t form;   /* enum rv_thunk_form */
    uint8_t prefix; /* mandatory prefix or 0 */
    uint8_t map;    /* 1, 2, 3 for 0F, 0F38, 0F3A; 0 for x87 */
    uint8_t opcode;
    uint8_t modrm; /* x87: mod (3 or 0), reg and rm; RV_T_*_IMM, RV_TF_EXT: reg; else 0 */
    uint8_t imm;
    uint8_t has_imm;
    uint8_t flags; /* enum rv_thunk_flag */
};

enum rv_thunk_flag {
    RV_TF_REXW = 1,
    RV_TF_FP = 2,  /* obeys and sets MXCSR */
    RV_TF_REG = 4, /* the xmm source has to be a register: the opcode means another thing else */
    /* RV_T_VEX only, where RV_TF_REXW is VEX.W: */
    RV_TF_L = 8,        /* VEX.L */
    RV_TF_GPR_REG = 16, /* ModRM.reg names a general register */
    RV_TF_V = 32,       /* VEX.vvvv names a register, */
    RV_TF_GPR_V = 64,   /* a general one */
    RV_TF_EXT = 128,    /* ModRM.reg is part of the opcode */
};
#define RV_VEX_RDX 128 /* where the frame has RDX */
#define RV_VEX_IS4 3   /* the register that an IS4 immediate has to name */

struct rv_thunks;
struct rv_vec {
    _Alignas(64) uint8_t area[512]; /* where the host's x87 state goes in and out */
    struct rv_thunks *thunks;
    uint32_t host_mxcsr;
};

int rv_thunks_new(struct rv_thunks **out, struct rv_err *err);
void rv_thunks_free(struct rv_thunks *t);
/* The function for key, made at the first request. Never NULL. */
rv_thunk rv_thunk_get(struct rv_thunks *t, const struct rv_thunk_key *key);

/* ---- the register image ---- */

#define RV_FX_FCW   0
#define RV_FX_FSW   2
#define RV_FX_FTW   4
#define RV_FX_FOP   6
#define RV_FX_FIP   8
#define RV_FX_FDP   16
#define RV_FX_MXCSR 24
#define RV_FX_ST    32
#define RV_FX_XMM   160
#define RV_FX_USED  416 /* bytes in 64-bit mode; 288 outside */

/* FOP, FIP and FDP as the guest is to see them. */
struct rv_x87_last {
    unsigned fop;
    uint64_t fip, fdp;
};
struct rv_x87_last rv_x87_last(const struct rv_interp *c);

#define RV_XMM_OFFSET(n) (uint16_t)(offsetof(struct rv_interp, x.fx) + RV_FX_XMM + 16u * (n))
#define RV_MM_OFFSET(n)  (uint16_t)(offsetof(struct rv_interp, x.fx) + RV_FX_ST + 16u * (n))

static inline uint16_t rv_fx16(const uint8_t *fx, unsigned at) {
    uint16_t v;
    memcpy(&v, fx + at, sizeof v);
    return v;
}
static inline uint32_t rv_fx32(const uint8_t *fx, unsigned at) {
    uint32_t v;
    memcpy(&v, fx + at, sizeof v);
    return v;
}
static inline uint64_t rv_fx64(const uint8_t *fx, unsigned at) {
    uint64_t v;
    memcpy(&v, fx + at, sizeof v);
    return v;
}
static inline void rv_fx_set16(uint8_t *fx, unsigned at, unsigned v) {
    uint16_t w = (uint16_t)v;
    memcpy(fx + at, &w, sizeof w);
}
static inline void rv_fx_set32(uint8_t *fx, unsigned at, uint32_t v) { memcpy(fx + at, &v, 4); }
static inline void rv_fx_set64(uint8_t *fx, unsigned at, uint64_t v) { memcpy(fx + at, &v, 8); }

#define RV_FSW_FLAGS    0x003fu /* IE DE ZE OE UE PE, as in FCW's masks */
#define RV_FSW_PENDING  0x8080u /* ES and B */
#define RV_FSW_TOP(fsw) (((fsw) >> 11) & 7u)

#define RV_MXCSR_FLAGS 0x003fu
#define RV_MXCSR_MASKS 0x1f80u
#define RV_MXCSR_UM    0x0800u
#define RV_MXCSR_FTZ   0x8000u
#define RV_MXCSR_RESET 0x1f80u

/* An unmasked x87 exception waits to be reported. ES is derived from flags and masks, as the
 * hardware does when a state image is loaded (SDM vol. 1, 8.1.3.3). */
static inline bool rv_x87_pending(const uint8_t *fx) {
    return rv_fx16(fx, RV_FX_FSW) & ~rv_fx16(fx, RV_FX_FCW) & RV_FSW_FLAGS;
}
/* Sets ES and B to agree with flags and masks. */
static inline void rv_x87_summarize(uint8_t *fx) {
    unsigned fsw = rv_fx16(fx, RV_FX_FSW) & ~RV_FSW_PENDING;
    if (rv_x87_pending(fx)) fsw |= RV_FSW_PENDING;
    rv_fx_set16(fx, RV_FX_FSW, fsw);
}
/* Makes another register the top of the stack. The image begins with ST(0), so its slots move. */
void rv_x87_set_top(uint8_t *fx, unsigned top);
/* The state after FNINIT (SDM vol. 1, 8.1.3). Register contents stay. */
void rv_x87_init(uint8_t *fx);
/* Goes over to MMX use: TOP is 0, so the image's slots are MM0..MM7, all valid (SDM vol. 1, 9.5).
 */
void rv_mmx_enter(struct rv_interp *c);
/* Where MM register n is now, whatever TOP is. */
static inline uint8_t *rv_mm_now(struct rv_interp *c, unsigned n) {
    return c->x.fx + RV_FX_ST + 16u * ((n - RV_FSW_TOP(rv_fx16(c->x.fx, RV_FX_FSW))) & 7u);
}

/* ---- checks every instruction begins with ---- */

void rv_sse_unavailable(struct rv_interp *c, const struct rv_insn *i)
    __attribute__((noreturn, cold));

/* SDM vol. 3A, tables 24-4 to 24-9: #UD for EM or a clear OSFXSR comes before #NM. */
static inline void rv_sse_check(struct rv_interp *c, const struct rv_insn *i) {
    if (rv_unlikely((c->x.cr0 & (RV_CR0_EM | RV_CR0_TS)) | (~c->x.cr4 & RV_CR4_OSFXSR)))
        rv_sse_unavailable(c, i);
}
static inline void rv_mmx_check(struct rv_interp *c, const struct rv_insn *i) {
    if (rv_unlikely(c->x.cr0 & RV_CR0_EM)) rv_raise(c, i, RV_VEC_UD);
    if (rv_unlikely(c->x.cr0 & RV_CR0_TS)) rv_raise(c, i, RV_VEC_NM);
    if (rv_unlikely(rv_x87_pending(c->x.fx))) rv_raise(c, i, RV_VEC_MF);
}

/* ---- memory operands ---- */

/* The operand's bytes: in guest memory, or copied to buf (16-byte aligned). A misaligned 16-byte
 * operand raises #GP(0) when aligned is set (SDM vol. 1, 4.1.1). */
static inline const void *rv_vec_src(struct rv_interp *c, const struct rv_insn *i, void *buf,
                                     unsigned size, bool aligned) {
    uint64_t va = rv_ea(c, i, size, false);
    if (aligned && rv_unlikely(va & 15)) rv_raise_error(c, i, RV_VEC_GP, 0);
    const void *p = rv_fast_r(c, va, size);
    if (rv_unlikely(!p)) {
        rv_load_bytes(c, i, va, buf, size);
        p = buf;
    }
    return p;
}

static inline void rv_vec_store(struct rv_interp *c, const struct rv_insn *i, const void *from,
                                unsigned size, bool aligned) {
    uint64_t va = rv_ea(c, i, size, true);
    if (aligned && rv_unlikely(va & 15)) rv_raise_error(c, i, RV_VEC_GP, 0);
    void *p = rv_fast_w(c, va, size);
    if (rv_unlikely(!p))
        rv_store_bytes(c, i, va, from, size);
    else
        memcpy(p, from, size);
}

/* MASKMOVDQU and MASKMOVQ: the bytes chosen by the mask's signs go to DS:rDI, unaligned. With no
 * byte chosen there is no access and no fault. */
void rv_vec_store_masked(struct rv_interp *c, const struct rv_insn *i, const uint8_t *data,
                         const uint8_t *mask, unsigned size);
/* Their memory operand, which the encoding does not name. */
void rv_vec_masked_operand(const struct rv_decode *d, struct rv_insn *out);

/* Sets MXCSR as an operation leaves it that started with mxcsr and found these exceptions, and
 * raises #XM for the unmasked ones, or #UD without OSXMMEXCPT (SDM vol. 1, 11.5.3.2). If one of
 * these is a pre-computation exception, post-computation ones are not reported. */
void rv_vec_unmasked(struct rv_interp *c, const struct rv_insn *i, uint32_t mxcsr, uint32_t flags);

/* ---- decoding, one function a family: true when the instruction is theirs ---- */

bool rv_vec_decode_move(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);
bool rv_vec_decode_sse(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);
bool rv_vec_decode_mmx(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);
bool rv_vec_decode_x87(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);
bool rv_vec_decode_vex(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);
/* Those that RV_QUIRK_PORTABLE gives results of our own; called by the two above. */
bool rv_vec_decode_approximate(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);
bool rv_vec_decode_state(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);

/* Fills all of key but the form from the encoding. */
void rv_vec_key(const struct rv_decode *d, struct rv_thunk_key *key);

static inline bool rv_is_xmm(const ZydisDecodedOperand *o) {
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_XMM0 &&
           o->reg.value <= ZYDIS_REGISTER_XMM15;
}
static inline bool rv_is_mm(const ZydisDecodedOperand *o) {
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_MM0 &&
           o->reg.value <= ZYDIS_REGISTER_MM7;
}
static inline bool rv_is_gpr(const ZydisDecodedOperand *o) {
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && !rv_is_xmm(o) && !rv_is_mm(o);
}
static inline bool rv_is_mem(const ZydisDecodedOperand *o) {
    return o->type == ZYDIS_OPERAND_TYPE_MEMORY;
}
/* Offset of a register operand of any of these files; an mm register's is that under TOP = 0. */
uint16_t rv_vec_reg(const ZydisDecodedOperand *o);

#endif
