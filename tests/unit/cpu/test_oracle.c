/* A short run of the hardware oracle. */
#include <criterion/criterion.h>
#include <string.h>

#include "oracle.h"

static struct or_case k;
static struct or_outcome o;

static void agrees(const struct rv_profile *profile, unsigned cases) {
    static struct or_outcome native, guest;
    struct rv_err err = {0};
    struct or_random r = {.s = 1};
    cr_assert_eq(or_native_init(&err), 0, "%s", err.msg);
    cr_assert_eq(or_guest_init(profile, &err), 0, "%s", err.msg);
    or_prepare(&r, &k, profile);
    for (unsigned n = 0; n < cases; n++) {
        or_generate(&r, &k, NULL);
        or_native_run(&k, &native);
        or_guest_run(&k, &guest);
        const char *what = or_compare(&k, &native, &guest);
        cr_expect_null(what, "%s, case %u (oracle --seed 1 --cpu %s): %s",
                       ZydisMnemonicGetString(k.z.mnemonic), n, profile->name, what);
    }
    or_guest_release();
    or_native_release();
}

Test(oracle, interpreter_agrees_with_this_cpu) { agrees(or_profile(), 30000); }
Test(oracle, interpreter_agrees_with_profile_v2) { agrees(&rv_profile_v2, 10000); }

/* ---- what the manual says, of both sides ---- */

/* The window full of 0x11, low halves of registers of 0x22, upper ones of 0x33. */
static void start(const void *code, size_t len) {
    memset(&k, 0, sizeof k);
    memcpy(k.code, code, len);
    k.in.rip = OR_CODE;
    k.in.rflags = 0x202;
    k.in.fx[0] = 0x7f;
    k.in.fx[1] = 0x03;
    k.in.fx[24] = 0x80;
    k.in.fx[25] = 0x1f;
    memset(k.in.fx + 160, 0x22, 256);
    memset(k.in.ymmh, 0x33, 256);
    memset(k.mem, 0x11, sizeof k.mem);
}
#define START(...) start((const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__})

static bool all(const uint8_t *p, size_t len, uint8_t v) {
    for (size_t n = 0; n < len; n++)
        if (p[n] != v) return false;
    return true;
}
static const uint8_t *low(unsigned reg) { return o.out.fx + 160 + 16 * reg; }
static const uint8_t *high(unsigned reg) { return o.out.ymmh + 16 * reg; }

typedef void side(const struct or_case *, struct or_outcome *);

static void upper_halves(side *run) {
    START(0x0f, 0x28, 0xc1); /* movaps xmm0, xmm1 */
    run(&k, &o);
    cr_expect_eq(o.fault.vector, -1);
    cr_expect(all(high(0), 256, 0x33), "SSE leaves them");
    START(0xc5, 0xf8, 0x28, 0xc1); /* vmovaps xmm0, xmm1 */
    run(&k, &o);
    cr_expect(all(low(0), 16, 0x22));
    cr_expect(all(high(0), 16, 0), "VEX.128 clears its destination's");
    cr_expect(all(high(1), 240, 0x33));
    START(0xc5, 0xf8, 0x77); /* vzeroupper */
    run(&k, &o);
    cr_expect(all(low(0), 256, 0x22));
    cr_expect(all(high(0), 256, 0));
    START(0xc5, 0xfc, 0x77); /* vzeroall */
    run(&k, &o);
    cr_expect(all(low(0), 256, 0));
    cr_expect(all(high(0), 256, 0));
    START(0xc5, 0x7e, 0x6f, 0x3f); /* vmovdqu ymm15, [rdi] */
    k.in.gpr[7] = OR_DATA + 1;
    run(&k, &o);
    cr_expect(all(low(15), 16, 0x11));
    cr_expect(all(high(15), 16, 0x11));
}

/* The fourth element is the first behind the window. */
static void masked_moves(side *run) {
    for (unsigned selected = 0; selected < 2; selected++) {
        START(0xc4, 0xe2, 0x75, 0x2c, 0x07); /* vmaskmovps ymm0, ymm1, [rdi] */
        k.in.gpr[7] = OR_DATA + OR_WINDOW - 12;
        memset(k.in.fx + 176, 0xff, 12);
        memset(k.in.fx + 188, selected ? 0xff : 0x7f, 4);
        run(&k, &o);
        cr_expect_eq(o.fault.vector, selected ? 14 : -1);
        cr_expect_eq(o.fault.cr2 & ~0xfffull, selected ? OR_DATA + OR_WINDOW : 0);
        cr_expect(all(low(0), 12, selected ? 0x22 : 0x11));
        cr_expect(all(low(0) + 12, 4, selected ? 0x22 : 0));
        cr_expect(all(high(0), 16, selected ? 0x33 : 0));
    }
}

/* The second element is masked out, the third faults. */
static void gathers(side *run) {
    START(0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x0f); /* vpgatherdd ymm0, [rdi+ymm1], ymm2 */
    k.op[1].mem.type = ZYDIS_MEMOP_TYPE_VSIB;
    k.memory = &k.op[1];
    k.in.gpr[7] = OR_DATA;
    static const int32_t indices[4] = {3, 5, -1, 7};
    static const uint32_t mask[4] = {0x80000000, 0x7fffffff, 0xffffffff, 0x80000000};
    memcpy(k.in.fx + 176, indices, 16);
    memcpy(k.in.fx + 192, mask, 16);
    run(&k, &o);
    cr_expect_eq(o.fault.vector, 14);
    cr_expect_eq(o.fault.cr2, OR_DATA - 1);
    cr_expect_eq(o.out.rip, OR_CODE);
    cr_expect(all(low(0), 4, 0x11), "done");
    cr_expect(all(low(0) + 4, 12, 0x22), "not done");
    cr_expect(all(low(2), 8, 0));
    cr_expect(low(2)[11] & 0x80);
}

static void both(void (*test)(side *)) {
    struct rv_err err = {0};
    const char *lacks = rv_profile_lacks(&rv_profile_v3);
    if (lacks) cr_skip_test("this host's CPU lacks %s", lacks);
    cr_assert_eq(or_native_init(&err), 0, "%s", err.msg);
    cr_assert_eq(or_guest_init(&rv_profile_v3, &err), 0, "%s", err.msg);
    test(or_native_run);
    test(or_guest_run);
    or_guest_release();
    or_native_release();
}
Test(oracle, upper_halves) { both(upper_halves); }
Test(oracle, masked_moves_at_the_end_of_memory) { both(masked_moves); }
Test(oracle, gathers_that_fault) { both(gathers); }

/* What the oracle cannot compare, because the host's pointers are those of the host: an x87 load
 * sets all three pointers, a control instruction none, and selectors read as zero (SDM vol.
 * 1, 8.1.8). */
Test(oracle, x87_pointers_are_the_guests) {
    struct rv_err err = {0};
    cr_assert_eq(or_guest_init(or_profile(), &err), 0, "%s", err.msg);
    memset(&k, 0, sizeof k);
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
