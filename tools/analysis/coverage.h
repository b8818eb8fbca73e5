/* What of a program or the kernel ran, as an lcov tracefile (geninfo(1)): lines by the DWARF of
 * files that the user gave, functions by their symbols. */
#ifndef RV_ANALYSIS_COVERAGE_H
#define RV_ANALYSIS_COVERAGE_H

#include <stdio.h>

#include "tools/analysis/tally.h"

struct rv_coverage_sums {
    uint64_t lines, lines_run, functions, functions_run;
};

/* One of the guest's files, i below rv_guest_files(). Without DWARF its functions alone are
 * covered, numbered by address in place of lines. RV_E_HOST when the file cannot be read. */
int rv_coverage_file(const struct rv_tally *t, const struct rv_guest *g, unsigned i, FILE *out,
                     struct rv_coverage_sums *sums, struct rv_err *err);
/* The functions of the guest's kernel. */
void rv_coverage_kernel(const struct rv_tally *t, const struct rv_guest *g, FILE *out,
                        struct rv_coverage_sums *sums);

#endif
