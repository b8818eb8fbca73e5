/* A short run of random programs: translator and interpreter agree. */
#include <criterion/criterion.h>

#include "side.h"
#include "vmm/cpu/xlate/eager.h"

Test(sequences, translator_and_interpreter_agree) {
    static struct or_side a, b;
    static struct or_program p;
    struct rv_err err = {0};
    struct or_random r = {.s = 1};
    cr_assert_eq(or_side_init(&a, &rv_engine_interpret, or_profile(), &err), 0, "%s", err.msg);
    cr_assert_eq(or_side_init(&b, &rv_engine_translate, or_profile(), &err), 0, "%s", err.msg);
    rv_translate_eagerly(b.e);
    or_prepare(&r, &p.k, or_profile());
    for (unsigned n = 0; n < 50000; n++) {
        or_program_generate(&r, &p);
        const char *what = or_program_run(&p, &a, &b);
        cr_assert_null(what, "program %u (sequences --seed 1): %s", n, what);
    }
    or_side_release(&a);
    or_side_release(&b);
}
