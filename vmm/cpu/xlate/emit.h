/* Writing x86-64 instructions (SDM vol. 2, chapter 2). Private to vmm/cpu/xlate. */
#ifndef RV_VMM_CPU_XLATE_EMIT_H
#define RV_VMM_CPU_XLATE_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Host registers by their numbers in encodings. */
enum rv_host_reg {
    HAX,
    HCX,
    HDX,
    HBX,
    HSP,
    HBP,
    HSI,
    HDI,
    H8,
    H9,
    H10,
    H11,
    H12,
    H13,
    H14,
    H15,
    HNONE = 16
};

/* Where the next byte goes. The caller makes sure that there is room. */
struct rv_emit {
    uint8_t *p;
    bool r11_written;         /* since somebody cleared this */
    unsigned scratch_written; /* likewise, a bit for each register */
};

/* A register (base alone, is_reg) or memory at base + (index << scale) + disp. */
struct rv_rm {
    bool is_reg;
    uint8_t base, index, scale;
    int32_t disp;
};

/* What surrounds ModRM. */
struct rv_enc {
    bool opsize; /* 66 */
    uint8_t rep; /* F2, F3 or 0, mandatory */
    bool w;      /* REX.W */
    bool rex;    /* a REX prefix even when no bit of it is set: SPL, BPL, SIL, DIL */
    uint8_t map; /* 0 one byte, 1 0F, 2 0F38, 3 0F3A */
    uint8_t opcode;
    /* A VEX prefix stands for all of these; w is VEX.W. */
    bool vex;
    bool l;       /* VEX.L: 256 bits */
    uint8_t vvvv; /* a register; 0 where there is none */
};

/* For what is written otherwise than by the functions below that have a register as their target.
 */
static inline void rv_emit_wrote(struct rv_emit *e, unsigned reg) {
    if (reg == H11) e->r11_written = true;
    e->scratch_written |= 1u << reg;
}

static inline void rv_put8(struct rv_emit *e, unsigned v) { *e->p++ = (uint8_t)v; }
static inline void rv_put32(struct rv_emit *e, uint32_t v) {
    memcpy(e->p, &v, 4);
    e->p += 4;
}
static inline void rv_put64(struct rv_emit *e, uint64_t v) {
    memcpy(e->p, &v, 8);
    e->p += 8;
}

static inline struct rv_rm rv_reg(unsigned reg) {
    return (struct rv_rm){.is_reg = true, .base = (uint8_t)reg};
}
static inline struct rv_rm rv_mem(unsigned base, int32_t disp) {
    return (struct rv_rm){.base = (uint8_t)base, .index = HNONE, .disp = disp};
}
static inline struct rv_rm rv_sum(unsigned base, unsigned index, unsigned scale, int32_t disp) {
    return (struct rv_rm){
        .base = (uint8_t)base, .index = (uint8_t)index, .scale = (uint8_t)scale, .disp = disp};
}

/* ModRM, SIB and displacement. base may be HNONE when there is an index, or for an absolute. */
void rv_emit_modrm(struct rv_emit *e, unsigned reg, struct rv_rm rm);
/* A whole instruction but its immediate. */
void rv_emit_insn(struct rv_emit *e, struct rv_enc enc, unsigned reg, struct rv_rm rm);
/* VZEROUPPER, or with all VZEROALL. */
void rv_emit_vzero(struct rv_emit *e, bool all);
/* PEXT dst, src, rm and SHRX dst, src, count (64 bits). */
void rv_emit_pext(struct rv_emit *e, unsigned dst, unsigned src, struct rv_rm mask);
void rv_emit_shrx(struct rv_emit *e, unsigned dst, unsigned src, unsigned count);

/* 64-bit MOV and LEA. */
void rv_emit_load(struct rv_emit *e, unsigned reg, struct rv_rm from);
void rv_emit_store(struct rv_emit *e, unsigned reg, struct rv_rm to);
void rv_emit_lea(struct rv_emit *e, unsigned reg, struct rv_rm from);
void rv_emit_imm(struct rv_emit *e, unsigned reg, uint64_t v);

/* JMP rel32 and the other users of rel32: returns where the displacement lies, for rv_patch. */
uint8_t *rv_emit_jmp(struct rv_emit *e);
uint8_t *rv_emit_jcc(struct rv_emit *e, unsigned cc);
void rv_emit_jmp_rm(struct rv_emit *e, struct rv_rm to);
/* JRCXZ over the JMP that follows it; returns the JMP's displacement. */
uint8_t *rv_emit_unless_zero(struct rv_emit *e);
/* Makes the rel32 at `at` lead to target. Both are in the same mapping. */
static inline void rv_patch(uint8_t *at, const uint8_t *target) {
    int32_t rel = (int32_t)(target - (at + 4));
    memcpy(at, &rel, 4);
}

#endif
