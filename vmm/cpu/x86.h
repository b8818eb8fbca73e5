/* The neutral state of an x86-64 CPU, as every engine can give and take it, and the names of its
 * bits. Sources: Intel SDM vol. 3A chapters 2, 4, 6; vol. 1 chapter 3. */
#ifndef RV_VMM_CPU_X86_H
#define RV_VMM_CPU_X86_H

#include "vmm/base/types.h"
#include "vmm/state.h"

enum rv_gpr {
    RV_RAX,
    RV_RCX,
    RV_RDX,
    RV_RBX,
    RV_RSP,
    RV_RBP,
    RV_RSI,
    RV_RDI,
    RV_R8,
    RV_R9,
    RV_R10,
    RV_R11,
    RV_R12,
    RV_R13,
    RV_R14,
    RV_R15,
    RV_GPRS
};

enum rv_sreg { RV_ES, RV_CS, RV_SS, RV_DS, RV_FS, RV_GS, RV_LDTR, RV_TR, RV_SREGS };

/* A segment register with its hidden part. attr is the second descriptor dword's bits 8..23 shifted
 * down by 8: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15 (bits 8-11 are 0). An unusable
 * register (null selector) has P clear. limit is in bytes, already scaled. */
struct rv_seg {
    uint64_t base;
    uint32_t limit;
    uint16_t sel;
    uint16_t attr;
};

#define RV_SEG_TYPE      0x000f
#define RV_SEG_S         0x0010
#define RV_SEG_DPL(attr) (((attr) >> 5) & 3)
#define RV_SEG_P         0x0080
#define RV_SEG_L         0x2000
#define RV_SEG_DB        0x4000
#define RV_SEG_G         0x8000

struct rv_dtr {
    uint64_t base;
    uint16_t limit;
};

struct rv_x86 {
    rv_icount icount; /* instructions retired since power-on; REP counts once */
    uint64_t gpr[RV_GPRS];
    uint64_t rip;
    uint64_t rflags;
    struct rv_seg seg[RV_SREGS];
    struct rv_dtr gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, xcr0;
    uint64_t dr[4], dr6, dr7;
    /* MSRs that belong to the CPU itself. */
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_aux, tsc_adjust, misc_enable, spec_ctrl, mtrr_def_type;
    uint64_t mtrr_phys[16], mtrr_fixed[11];
    uint64_t tsc_offset; /* guest TSC = ticks of guest time + this */
    /* Interruptibility, SDM 3A 6.8. */
    uint8_t sti_shadow;   /* the last instruction was an STI that set IF */
    uint8_t movss_shadow; /* the last instruction was MOV SS or POP SS */
    uint8_t nmi_blocked;
    uint8_t nmi_pending;
    uint8_t halted;     /* HLT retired, nothing woke it yet */
    uint8_t pending_db; /* a trap-class #DB is due before the next instruction; DR6 bits below */
    uint64_t pending_dr6;
    /* x87 and SSE state in FXSAVE64 format (SDM vol. 1, 10.5.1), with MXCSR at byte 24. */
    uint8_t fx[512] __attribute__((aligned(16)));
    uint8_t ymmh[256]; /* AVX: bits 128 to 255 of ymm0 to ymm15 (SDM vol. 1, 13.5.2) */
};

#define RV_MXCSR_VALID 0xffffu /* the bits there are: what MXCSR_MASK shows to the guest */
uint32_t rv_x86_mxcsr(const struct rv_x86 *s);

extern const struct rv_field rv_x86_fields[];

/* A 64-bit hash of the state, chained from seed. Where the upper halves of the ymm registers are
 * all zero it is what it was before there were any: digests in old recordings stay true. */
uint64_t rv_x86_hash(const struct rv_x86 *s, uint64_t seed);

/* Power-on state as after INIT/RESET, SDM 3A table 9-1. */
void rv_x86_reset(struct rv_x86 *s);

/* Makes states equal that differ only in what no instruction can show, or in where they come from:
 * the count of instructions, the x87's last instruction and operand, and the hidden parts of
 * segment registers that cannot be used or hold null selectors, which processors keep differently.
 * For digests of guests that ran on hardware. */
void rv_x86_canonical(struct rv_x86 *s);

#define RV_CR0_PE (1ull << 0)
#define RV_CR0_MP (1ull << 1)
#define RV_CR0_EM (1ull << 2)
#define RV_CR0_TS (1ull << 3)
#define RV_CR0_ET (1ull << 4)
#define RV_CR0_NE (1ull << 5)
#define RV_CR0_WP (1ull << 16)
#define RV_CR0_AM (1ull << 18)
#define RV_CR0_NW (1ull << 29)
#define RV_CR0_CD (1ull << 30)
#define RV_CR0_PG (1ull << 31)

#define RV_CR4_VME        (1ull << 0)
#define RV_CR4_PVI        (1ull << 1)
#define RV_CR4_TSD        (1ull << 2)
#define RV_CR4_DE         (1ull << 3)
#define RV_CR4_PSE        (1ull << 4)
#define RV_CR4_PAE        (1ull << 5)
#define RV_CR4_MCE        (1ull << 6)
#define RV_CR4_PGE        (1ull << 7)
#define RV_CR4_PCE        (1ull << 8)
#define RV_CR4_OSFXSR     (1ull << 9)
#define RV_CR4_OSXMMEXCPT (1ull << 10)
#define RV_CR4_UMIP       (1ull << 11)
#define RV_CR4_FSGSBASE   (1ull << 16)
#define RV_CR4_PCIDE      (1ull << 17)
#define RV_CR4_OSXSAVE    (1ull << 18)
#define RV_CR4_SMEP       (1ull << 20)
#define RV_CR4_SMAP       (1ull << 21)

/* Components of XCR0 (SDM vol. 1, 13.3). */
#define RV_XCR0_X87 (1ull << 0)
#define RV_XCR0_SSE (1ull << 1)
#define RV_XCR0_AVX (1ull << 2)

#define RV_EFER_SCE (1ull << 0)
#define RV_EFER_LME (1ull << 8)
#define RV_EFER_LMA (1ull << 10)
#define RV_EFER_NXE (1ull << 11)

#define RV_FL_CF    (1u << 0)
#define RV_FL_PF    (1u << 2)
#define RV_FL_AF    (1u << 4)
#define RV_FL_ZF    (1u << 6)
#define RV_FL_SF    (1u << 7)
#define RV_FL_TF    (1u << 8)
#define RV_FL_IF    (1u << 9)
#define RV_FL_DF    (1u << 10)
#define RV_FL_OF    (1u << 11)
#define RV_FL_IOPL  (3u << 12)
#define RV_FL_NT    (1u << 14)
#define RV_FL_RF    (1u << 16)
#define RV_FL_VM    (1u << 17)
#define RV_FL_AC    (1u << 18)
#define RV_FL_VIF   (1u << 19)
#define RV_FL_VIP   (1u << 20)
#define RV_FL_ID    (1u << 21)
#define RV_FL_ARITH (RV_FL_CF | RV_FL_PF | RV_FL_AF | RV_FL_ZF | RV_FL_SF | RV_FL_OF)

enum rv_vector {
    RV_VEC_DE = 0,
    RV_VEC_DB = 1,
    RV_VEC_NMI = 2,
    RV_VEC_BP = 3,
    RV_VEC_OF = 4,
    RV_VEC_BR = 5,
    RV_VEC_UD = 6,
    RV_VEC_NM = 7,
    RV_VEC_DF = 8,
    RV_VEC_TS = 10,
    RV_VEC_NP = 11,
    RV_VEC_SS = 12,
    RV_VEC_GP = 13,
    RV_VEC_PF = 14,
    RV_VEC_MF = 16,
    RV_VEC_AC = 17,
    RV_VEC_MC = 18,
    RV_VEC_XM = 19,
};

#endif
