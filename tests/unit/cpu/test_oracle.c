/* A short run of the hardware oracle. */
#include <criterion/criterion.h>
#include <string.h>

#include "oracle.h"

Test(oracle, interpreter_agrees_with_this_cpu) {
    static struct or_case k;
    static struct or_outcome native, guest;
    struct rv_err err = {0};
    struct or_random r = {.s = 1};
    cr_assert_eq(or_native_init(&err), 0, "%s", err.msg);
    cr_assert_eq(or_guest_init(or_profile(), &err), 0, "%s", err.msg);
    or_prepare(&r, &k, or_profile());
    for (unsigned n = 0; n < 30000; n++) {
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

/* What the oracle cannot compare, because the host's pointers are those of the host: an x87 load
 * sets all three pointers, a control instruction none, and selectors read as zero (SDM vol.
 * 1, 8.1.8). */
Test(oracle, x87_pointers_are_the_guests) {
    static struct or_case k;
    static struct or_outcome o;
    struct rv_err err = {0};
    cr_assert_eq(or_guest_init(or_profile(), &err), 0, "%s", err.msg);
    k.in.rip = OR_CODE;
    k.in.rflags = 0x202;
    k.in.fx[0] = 0x7f;
    k.in.fx[1] = 0x03;
    k.in.gpr[7] = OR_DATA + 0x40;
    static const uint8_t fld[] = {0xdd, 0x47, 0x08}; /* fld qword [rdi+8] */
    memcpy(k.code, fld, sizeof fld);
    or_guest_run(&k, &o);
    uint64_t fip, fdp;
    uint16_t fop;
    memcpy(&fop, o.out.fx + 6, 2);
    memcpy(&fip, o.out.fx + 8, 8);
    memcpy(&fdp, o.out.fx + 16, 8);
    cr_expect_eq(o.fault.vector, -1);
    cr_expect_eq(fop, 0x547);
    cr_expect_eq(fip, OR_CODE);
    cr_expect_eq(fdp, OR_DATA + 0x48);

    memcpy(&k.in, &o.out, sizeof k.in);
    k.in.rip = OR_CODE;
    static const uint8_t fnstenv[] = {0xd9, 0x37}; /* fnstenv [rdi] */
    memcpy(k.code, fnstenv, sizeof fnstenv);
    or_guest_run(&k, &o);
    static const uint32_t want[7] = {0xffff037f,        0xffff3800,  0xffff7fff,
                                     (uint32_t)OR_CODE, 0x547 << 16, (uint32_t)(OR_DATA + 0x48),
                                     0xffff0000};
    cr_expect_arr_eq(o.mem + 0x40, want, sizeof want);
    cr_expect_eq(o.out.fx[0] & 0x3f, 0x3f);
    or_guest_release();
}
