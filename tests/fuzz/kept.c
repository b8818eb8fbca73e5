#include "tests/fuzz/kept.h"

#include <stdio.h>
#include <stdlib.h>

const char *__asan_default_options(void);

/* The machine lives as long as the process, and its engine keeps pointers where leaks are not
 * looked for: in memory that it mapped itself. */
const char *__asan_default_options(void) { return "detect_leaks=0"; }

void kept_check(int r, const struct rv_err *err) {
    if (!r) return;
    fprintf(stderr, "%s\n", err->msg);
    abort();
}
