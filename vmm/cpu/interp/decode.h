/* From bytes to struct rv_insn: what the parts of the decoder share. */
#ifndef RV_VMM_CPU_INTERP_DECODE_H
#define RV_VMM_CPU_INTERP_DECODE_H

#include <Zydis/Zydis.h>

#include "vmm/cpu/interp/interp.h"

struct rv_decode {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    const uint8_t *bytes;           /* z.length of them */
    uint64_t rip;                   /* offset of the instruction in its code segment */
    const ZydisDecodedOperand *mem; /* the explicit memory operand (memory or AGEN), or NULL */
};

/* Sets Zydis up for c's mode and profile. */
void rv_decode_init(const struct rv_interp *c, ZydisDecoder *z);

/* Whether a VEX-encoded instruction wants its memory operand aligned to its size: only some moves
 * do (SDM vol. 1, 14.9). */
bool rv_vex_aligned(ZydisMnemonic m);

/* Byte offset of a general register operand (AH..BH included), for struct rv_insn. */
uint16_t rv_decode_gpr(ZydisRegister reg);

/* A segment register's number; RV_DS when it is none. */
unsigned rv_decode_sreg(ZydisRegister reg);

/* Fills in the operation and what it needs to know; out has the sizes and the memory operand
 * already. op stays NULL when the profile does not offer the instruction. */
void rv_decode_choose(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);

#endif
