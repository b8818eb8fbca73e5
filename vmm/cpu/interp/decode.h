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

/* Whether processors differ in its result, an approximation: see RV_QUIRK_PORTABLE. */
bool rv_is_approximate(ZydisMnemonic m);

/* Byte offset of a general register operand (AH..BH included), for struct rv_insn. */
uint16_t rv_decode_gpr(ZydisRegister reg);

/* A segment register's number; RV_DS when it is none. */
unsigned rv_decode_sreg(ZydisRegister reg);

/* What an instruction makes of the arithmetic flags, as bits of RFLAGS. Those in none of the two
 * first it leaves alone. */
struct rv_flag_use {
    uint32_t sets; /* to values that are the same on any processor */
    uint32_t open; /* to what the processor makes of them: see RV_QUIRK_PORTABLE */
    uint32_t reads;
    bool by_cl; /* all of that only if the count in CL, masked, is not 0; and if it is 1, OF is set,
                   and if it is less than the operand's width, CF */
};
/* Of an instruction that does not fault. op: its operands, as Zydis lists them. */
struct rv_flag_use rv_flag_use(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op);

/* Fills in the operation and what it needs to know; out has the sizes and the memory operand
 * already. op stays NULL when the profile does not offer the instruction. */
void rv_decode_choose(struct rv_interp *c, const struct rv_decode *d, struct rv_insn *out);

#endif
