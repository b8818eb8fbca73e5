/* A short run of the hardware oracle. */
#include <criterion/criterion.h>

#include "oracle.h"

Test(oracle, interpreter_agrees_with_this_cpu) {
    static struct or_case k;
    static struct or_outcome native, guest;
    struct rv_err err = {0};
    struct or_random r = {.s = 1};
    cr_assert_eq(or_native_init(&err), 0, "%s", err.msg);
    cr_assert_eq(or_guest_init(&err), 0, "%s", err.msg);
    or_prepare(&r, &k);
    for (unsigned n = 0; n < 60000; n++) {
        or_generate(&r, &k, NULL);
        or_native_run(&k, &native);
        or_guest_run(&k, &guest);
        const char *what = or_compare(&k, &native, &guest);
        cr_expect_null(what, "%s, case %u (oracle --seed 1): %s",
                       ZydisMnemonicGetString(k.z.mnemonic), n, what);
    }
    or_guest_release();
    or_native_release();
}
