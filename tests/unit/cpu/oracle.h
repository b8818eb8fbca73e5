/* The hardware oracle: one instruction is executed by the host's CPU and by the interpreter from
 * the same state, and everything it leaves behind is compared. */
#ifndef RV_TESTS_CPU_ORACLE_H
#define RV_TESTS_CPU_ORACLE_H

#include <Zydis/Zydis.h>

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/cpu/profile.h"

/* Memory as the instruction sees it, at the same addresses natively and in the guest: pages of
 * data, then one that is read-only; neither neighbour is mapped. Code has a page of its own. */
#define OR_DATA      0x200000ull
#define OR_DATA_SIZE 0x4000u
#define OR_RO        (OR_DATA + OR_DATA_SIZE)
#define OR_WINDOW    (OR_DATA_SIZE + 0x1000u)
#define OR_CODE      0x210000ull
#define OR_CODE_SIZE 0x2000u
#define OR_FAR       0x213000ull /* more code */

#define OR_INSN_MAX 15

struct or_state {
    uint64_t gpr[16];
    uint64_t rip, rflags;
    uint8_t fx[512] __attribute__((aligned(64)));
    uint8_t ymmh[256]; /* bits 128 to 255 of ymm0 to ymm15; zero unless the profile has them */
};

struct or_fault {
    int vector; /* -1: none */
    uint32_t error;
    uint64_t cr2;
};

/* What is executed. */
struct or_case {
    const struct rv_profile *profile; /* what it may use */
    uint8_t code[OR_INSN_MAX];
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    const ZydisDecodedOperand *memory; /* the explicit memory operand, or NULL */
    uint64_t target;                   /* its address */
    struct or_state in;
    uint8_t mem[OR_WINDOW];
};

struct or_outcome {
    struct or_state out;
    struct or_fault fault;
    uint8_t mem[OR_WINDOW];
};

/* The most that this host can be compared with: v3, or v2 where it lacks something of that. */
const struct rv_profile *or_profile(void);

/* native.c: on the host's CPU. Signals are taken over between init and release. */
int or_native_init(struct rv_err *err);
void or_native_release(void);
void or_native_run(const struct or_case *k, struct or_outcome *o);

/* guest.c: on the interpreter. */
int or_guest_init(const struct rv_profile *profile, struct rv_err *err);
void or_guest_release(void);
void or_guest_run(const struct or_case *k, struct or_outcome *o);

/* amd.c */
bool or_on_amd(void);
/* Whether this is something that AMD's processors do in a way of their own. */
bool or_amd_differs(const struct or_case *k, const struct or_outcome *native,
                    const struct or_outcome *guest);
/* Takes out of what a fault left what they leave in a way of their own. */
void or_amd_alike(const struct or_case *k, struct or_outcome *o);

/* generate.c */
struct or_random {
    uint64_t s;
};
uint64_t or_random(struct or_random *r);
/* Fills the window of a case that or_generate is to be called with, again and again, for what the
 * profile offers. */
void or_prepare(struct or_random *r, struct or_case *k, const struct rv_profile *profile);
/* Makes the next case; filter, if not NULL, is the mnemonic wanted. */
void or_generate(struct or_random *r, struct or_case *k, const char *filter);

/* Whether it leaves out the elements that a mask in a register does not name. */
bool or_masked(const struct or_case *k);

/* compare.c: NULL when both agree, else a description in a static buffer. */
const char *or_compare(const struct or_case *k, const struct or_outcome *native,
                       const struct or_outcome *guest);

#endif
