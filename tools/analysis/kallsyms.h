/* The symbols that a Linux kernel keeps of itself: the kallsyms tables, found in a copy of the
 * kernel's image wherever it was loaded. Layouts of Linux 5.x and 6.x
 * (scripts/kallsyms.c there), with addresses relative to a base, as x86-64 kernels have them. The
 * image is the guest's and not trusted. */
#ifndef RV_ANALYSIS_KALLSYMS_H
#define RV_ANALYSIS_KALLSYMS_H

#include "tools/analysis/symbols.h"
#include "vmm/base/err.h"

/* image: size bytes as they are in memory. The table returned is sorted.
 * RV_E_FORMAT, with a reason, when there is none. */
int rv_kallsyms_read(struct rv_symbols **out, const uint8_t *image, size_t size,
                     struct rv_err *err);

#endif
