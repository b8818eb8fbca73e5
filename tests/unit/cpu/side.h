/* An engine with the oracle's memory around it: guest.c. */
#ifndef RV_TESTS_CPU_SIDE_H
#define RV_TESTS_CPU_SIDE_H

#include "oracle.h"
#include "vmm/cpu/engine.h"

struct or_side {
    struct rv_ram ram;
    struct rv_cpu_bus bus;
    struct rv_engine *e;
    struct rv_x86 start; /* user code in long mode; rip and registers are still to be set */
};

int or_side_init(struct or_side *g, const struct rv_engine_ops *engine,
                 const struct rv_profile *profile, uint64_t quirks, struct rv_err *err);
void or_side_release(struct or_side *g);

/* sequence.c: runs a random program on both, NULL when they agree all the way. */
struct or_program {
    uint8_t code[1024];
    unsigned len, insns;
    unsigned at[33];    /* where each instruction begins */
    unsigned place;     /* of the first byte in the code page */
    unsigned far;       /* from this byte on the code is at OR_FAR */
    rv_icount stops[3]; /* where state is compared, ascending */
    struct or_case k;   /* registers and memory before it */
};
uint64_t or_program_address(const struct or_program *p, unsigned off); /* of a byte of the code */
void or_program_generate(struct or_random *r, struct or_program *p);
const char *or_program_run(const struct or_program *p, struct or_side *a, struct or_side *b);

#endif
