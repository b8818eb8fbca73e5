/* From instruction RV_ASTRAY_FROM on, whatever the translator hands to the interpreter changes
 * R15's lowest bit as well. */
#include <stdlib.h>

#include "vmm/cpu/xlate/xlate.h"

uint64_t __real_rv_xlate_step(struct rv_interp *c, const struct rv_insn *i, uint64_t with_vec,
                              uint64_t rest);
uint64_t __wrap_rv_xlate_step(struct rv_interp *c, const struct rv_insn *i, uint64_t with_vec,
                              uint64_t rest);

uint64_t __wrap_rv_xlate_step(struct rv_interp *c, const struct rv_insn *i, uint64_t with_vec,
                              uint64_t rest) {
    const char *from = getenv("RV_ASTRAY_FROM");
    uint64_t leaves = __real_rv_xlate_step(c, i, with_vec, rest);
    if (from && c->x.icount >= strtoull(from, NULL, 10)) c->x.gpr[RV_R15] ^= 1;
    return leaves;
}
