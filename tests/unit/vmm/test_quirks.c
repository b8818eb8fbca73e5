/* Processors' ways: what the software engines are told to follow is what the measurement then
 * finds, so that a recording's quirks are those of its replay. */
#include <criterion/criterion.h>

#include "vmm/cpu/engine.h"
#include "vmm/cpu/quirks.h"

static uint64_t measured(const struct rv_engine_ops *engine, uint64_t follow) {
    uint64_t quirks = 0;
    struct rv_err err = {0};
    cr_assert_eq(rv_quirks_measure(engine, follow, &quirks, &err), 0, "%s", err.msg);
    return quirks;
}

static void every_combination(const struct rv_engine_ops *engine) {
    for (uint64_t q = 0; q <= RV_QUIRKS_MEASURED; q++) {
        /* An FOP that is not written cannot be seen to be zero. */
        uint64_t want = q & RV_QUIRK_FXSAVE_NO_FOP ? q & ~(uint64_t)RV_QUIRK_X87_NO_FOP : q;
        uint64_t got = measured(engine, q);
        cr_assert_eq(got, want, "%s: told to follow %llx, found %llx", engine->name,
                     (unsigned long long)q, (unsigned long long)got);
    }
}

Test(quirks, the_interpreter_follows) { every_combination(&rv_engine_interpret); }
Test(quirks, the_translator_follows) { every_combination(&rv_engine_translate); }
