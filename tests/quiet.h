/* A host for machines in tests: it gives nothing, time but passes when the guest waits for it. */
#ifndef RV_TESTS_QUIET_H
#define RV_TESTS_QUIET_H

#include "vmm/nondet.h"

struct quiet {
    struct rv_nondet nd;
    rv_icount slice; /* it is asked every so many instructions */
};
struct quiet quiet_host(rv_icount slice);

/* Its verbs, for hosts that differ in one of them and begin with a struct quiet. */
extern const struct rv_nondet_ops quiet_ops;

#endif
