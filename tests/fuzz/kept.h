/* For fuzzers that keep one machine for all inputs of a process. */
#ifndef RV_TESTS_KEPT_H
#define RV_TESTS_KEPT_H

#include "vmm/base/err.h"

/* Ends the process when making the machine failed: r is not 0. */
void kept_check(int r, const struct rv_err *err);

#endif
