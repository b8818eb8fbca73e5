/* The vector and floating-point unit: set-up, decoding by family, and what the families share. */
#include "vmm/cpu/interp/vec.h"

#include <stdlib.h>
#include <xmmintrin.h>

int rv_vec_new(struct rv_interp *c, struct rv_err *err) {
    /* Thunks execute guest opcodes on this very CPU: it must have all that the profile offers. */
    const char *lacks = rv_profile_lacks(c->profile);
    if (lacks)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "this host's CPU lacks %s, which guests with CPU profile %s use; %s", lacks,
                       c->profile->name,
                       c->profile->v3 ? "take a host that has it, or record with --cpu v2"
                                      : "take a host that has it");
    struct rv_vec *v = aligned_alloc(_Alignof(struct rv_vec), sizeof *v);
    if (!v) return rv_fail(err, RV_E_HOST, "no memory for the vector unit");
    memset(v, 0, sizeof *v);
    int rc = rv_thunks_new(&v->thunks, err);
    if (rc) {
        free(v);
        return rc;
    }
    c->vec = v;
    return 0;
}

void rv_vec_free(struct rv_interp *c) {
    if (!c->vec) return;
    rv_thunks_free(c->vec->thunks);
    free(c->vec);
    c->vec = NULL;
}

/* Our own code, and with it every device, runs with the default MXCSR whatever the caller had. */
void rv_vec_enter(struct rv_interp *c) {
    c->vec->host_mxcsr = _mm_getcsr();
    _mm_setcsr(RV_MXCSR_RESET);
}

void rv_vec_leave(struct rv_interp *c) { _mm_setcsr(c->vec->host_mxcsr); }

void rv_sse_unavailable(struct rv_interp *c, const struct rv_insn *i) {
    bool ud = (c->x.cr0 & RV_CR0_EM) || !(c->x.cr4 & RV_CR4_OSFXSR);
    rv_raise(c, i, ud ? RV_VEC_UD : RV_VEC_NM);
}

void rv_x87_set_top(uint8_t *fx, unsigned top) {
    unsigned fsw = rv_fx16(fx, RV_FX_FSW), shift = top - RV_FSW_TOP(fsw);
    if (!(shift & 7)) return;
    uint8_t st[8 * 16];
    memcpy(st, fx + RV_FX_ST, sizeof st);
    for (unsigned n = 0; n < 8; n++)
        memcpy(fx + RV_FX_ST + 16 * n, st + 16 * ((n + shift) & 7), 16);
    rv_fx_set16(fx, RV_FX_FSW, (fsw & ~0x3800u) | (top & 7) << 11);
}

void rv_x87_init(uint8_t *fx) {
    rv_x87_set_top(fx, 0);
    memset(fx, 0, RV_FX_MXCSR);
    rv_fx_set16(fx, RV_FX_FCW, 0x37f);
}

void rv_mmx_enter(struct rv_interp *c) {
    rv_x87_set_top(c->x.fx, 0);
    c->x.fx[RV_FX_FTW] = 0xff;
}

uint16_t rv_vec_reg(const ZydisDecodedOperand *o) {
    if (rv_is_xmm(o)) return RV_XMM_OFFSET((unsigned)(o->reg.value - ZYDIS_REGISTER_XMM0));
    if (rv_is_mm(o)) return RV_MM_OFFSET((unsigned)(o->reg.value - ZYDIS_REGISTER_MM0));
    return rv_decode_gpr(o->reg.value);
}

void rv_vec_key(const struct rv_decode *d, struct rv_thunk_key *key) {
    const ZydisDecodedInstruction *z = &d->z;
    memset(key, 0, sizeof *key);
    for (unsigned n = 0; n < z->raw.prefix_count; n++)
        if (z->raw.prefixes[n].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            key->prefix = z->raw.prefixes[n].value;
    if (z->opcode_map == ZYDIS_OPCODE_MAP_0F) key->map = 1;
    if (z->opcode_map == ZYDIS_OPCODE_MAP_0F38) key->map = 2;
    if (z->opcode_map == ZYDIS_OPCODE_MAP_0F3A) key->map = 3;
    key->opcode = z->opcode;
    if (z->raw.imm[0].size) {
        key->has_imm = 1;
        key->imm = (uint8_t)z->raw.imm[0].value.u;
    }
    if (z->raw.rex.W) key->flags |= RV_TF_REXW;
}

bool rv_vec_decode(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out) {
    if (d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) return rv_vec_decode_vex(c, d, out);
    if (d->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) return false;
    switch (d->z.meta.isa_ext) {
    case ZYDIS_ISA_EXT_X87: return rv_vec_decode_x87(c, d, out);
    case ZYDIS_ISA_EXT_XSAVE: return rv_vec_decode_state(c, d, out);
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
        return rv_vec_decode_move(c, d, out) || rv_vec_decode_mmx(c, d, out) ||
               rv_vec_decode_sse(c, d, out) || rv_vec_decode_state(c, d, out) ||
               rv_vec_decode_x87(c, d, out);
    default: return false;
    }
}
