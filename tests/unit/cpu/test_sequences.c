/* A short run of random programs: translator and interpreter agree. */
#include <criterion/criterion.h>

#include "side.h"
#include "vmm/cpu/xlate/eager.h"

static void agree(uint64_t seed, unsigned cases, uint64_t quirks) {
    static struct or_side a, b;
    static struct or_program p;
    struct rv_err err = {0};
    struct or_random r = {.s = seed};
    const struct rv_profile *profile = or_profile();
    cr_assert_eq(or_side_init(&a, &rv_engine_interpret, profile, quirks, &err), 0, "%s", err.msg);
    cr_assert_eq(or_side_init(&b, &rv_engine_translate, profile, quirks, &err), 0, "%s", err.msg);
    rv_translate_eagerly(b.e);
    or_prepare(&r, &p.k, profile);
    for (unsigned n = 0; n < cases; n++) {
        or_program_generate(&r, &p);
        const char *what = or_program_run(&p, &a, &b);
        cr_assert_null(what, "program %u (sequences --seed %lu --flags %s): %s", n,
                       (unsigned long)seed, quirks ? "zero" : "host", what);
    }
    or_side_release(&a);
    or_side_release(&b);
}

Test(sequences, translator_and_interpreter_agree) { agree(1, 30000, RV_QUIRK_PORTABLE); }
Test(sequences, translator_and_interpreter_agree_with_the_hosts_flags) { agree(2, 20000, 0); }
