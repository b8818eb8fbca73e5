/* What a host's CPU must have for a profile, told of CPUs that lack one thing each. */
#include <criterion/criterion.h>
#include <string.h>

#include "vmm/cpu/engine.h"
#include "vmm/cpu/profile.h"

/* SDM vol. 2, CPUID, leaves 1, 7.0 and 0x80000001; vol. 1, 13.3. */
static const struct rv_host_cpu whole = {
    .one = {.ecx = 1u << 0 | 1u << 9 | 1u << 12 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 |
                   1u << 26 | 1u << 27 | 1u << 28 | 1u << 29},
    .seven = {.ebx = 1u << 3 | 1u << 5 | 1u << 8},
    .ext = {.ecx = 1u << 5},
    .xcr0 = 7,
};

static void lacks(const struct rv_profile *p, const struct rv_host_cpu *host, const char *want) {
    const char *got = rv_profile_lacks_on(p, host);
    if (want)
        cr_expect_str_eq(got ? got : "nothing", want, "%s", p->name);
    else
        cr_expect_null(got, "%s: %s", p->name, got);
}

Test(profile, a_host_with_all_of_it) {
    lacks(&rv_profile_v2, &whole, NULL);
    lacks(&rv_profile_v3, &whole, NULL);
    lacks(&rv_profile_hw, &whole, NULL);
}

Test(profile, each_extension_is_named) {
    static const struct {
        const char *name;
        bool v2;
        unsigned one, seven, ext; /* bit to take away, plus 1 */
    } cases[] = {
        {"SSE3", true, 1, 0, 0},    {"SSSE3", true, 10, 0, 0}, {"SSE4.1", true, 20, 0, 0},
        {"SSE4.2", true, 21, 0, 0}, {"AVX", false, 29, 0, 0},  {"AVX2", false, 0, 6, 0},
        {"BMI1", false, 0, 4, 0},   {"BMI2", false, 0, 9, 0},  {"F16C", false, 30, 0, 0},
        {"FMA", false, 13, 0, 0},   {"LZCNT", false, 0, 0, 6}, {"MOVBE", false, 23, 0, 0},
    };
    for (unsigned n = 0; n < RV_COUNT(cases); n++) {
        struct rv_host_cpu host = whole;
        if (cases[n].one) host.one.ecx &= ~(1u << (cases[n].one - 1));
        if (cases[n].seven) host.seven.ebx &= ~(1u << (cases[n].seven - 1));
        if (cases[n].ext) host.ext.ecx &= ~(1u << (cases[n].ext - 1));
        lacks(&rv_profile_v3, &host, cases[n].name);
        lacks(&rv_profile_v2, &host, cases[n].v2 ? cases[n].name : NULL);
    }
}

Test(profile, the_host_must_keep_the_registers) {
    struct rv_host_cpu host = whole;
    for (host.xcr0 = 0; host.xcr0 < 6; host.xcr0++) {
        lacks(&rv_profile_v3, &host, "AVX enabled by its operating system");
        lacks(&rv_profile_v2, &host, NULL);
    }
}

Test(profile, this_host) {
    /* Either it can make the engine, or it says why not. */
    const char *missing = rv_profile_lacks(&rv_profile_v3);
    struct rv_ram ram;
    struct rv_cpu_bus bus = {0};
    struct rv_engine *e;
    struct rv_err err = {0};
    cr_assert_eq(rv_ram_init(&ram, 1 << 20, &err), 0, "%s", err.msg);
    int r = rv_engine_interpret.create(&e, &ram, &bus, &rv_profile_v3, &err);
    cr_expect_eq(r, missing ? RV_E_UNSUPPORTED : 0, "%s", err.msg);
    if (missing) cr_expect(strstr(err.msg, missing), "%s", err.msg);
    if (!r) e->ops->destroy(e);
    rv_ram_release(&ram);
}

Test(profile, names) {
    cr_expect_eq(rv_profile_find("v2"), &rv_profile_v2);
    cr_expect_eq(rv_profile_find("v3"), &rv_profile_v3);
    cr_expect_eq(rv_profile_find("hw"), &rv_profile_hw);
    cr_expect_null(rv_profile_find("auto"));
}

/* SDM vol. 3A, 2.2.1 and 2.5; vol. 1, 10.2.3 and 13.3. */
Test(profile, states_that_no_guest_can_reach) {
    const struct {
        const char *name;
        size_t at;
        uint64_t bits; /* exchanged in the power-on state */
    } all[] = {
        {"CR0 cannot be 0xe0000010", offsetof(struct rv_x86, cr0), 1u << 31}, /* PG without PE */
        {"CR4", offsetof(struct rv_x86, cr4), 1u << 13},                      /* VMXE */
        {"EFER", offsetof(struct rv_x86, efer), 1u << 10},                    /* LMA alone */
        {"EFER", offsetof(struct rv_x86, efer), 1u << 12},                    /* SVME */
        {"XCR0", offsetof(struct rv_x86, xcr0), 1},
        {"XCR0", offsetof(struct rv_x86, xcr0), 1u << 5}, /* AVX-512 */
        {"RFLAGS", offsetof(struct rv_x86, rflags), 2},
        {"RFLAGS", offsetof(struct rv_x86, rflags), 1u << 15},
        {"MXCSR cannot be 0x11f80", offsetof(struct rv_x86, fx) + 24, 1u << 16},
    };
    struct rv_x86 s;
    struct rv_err err = {0};
    rv_x86_reset(&s);
    cr_expect_eq(rv_profile_allows(&rv_profile_v2, &s, &err), 0, "%s", err.msg);
    cr_expect_eq(rv_profile_allows(&rv_profile_v3, &s, &err), 0, "%s", err.msg);
    cr_expect_eq(rv_profile_allows(&rv_profile_hw, &s, &err), 0, "%s", err.msg);
    for (size_t n = 0; n < RV_COUNT(all); n++) {
        uint64_t v;
        rv_x86_reset(&s);
        memcpy(&v, (char *)&s + all[n].at, sizeof v);
        v ^= all[n].bits;
        memcpy((char *)&s + all[n].at, &v, sizeof v);
        cr_expect_eq(rv_profile_allows(&rv_profile_v3, &s, &err), RV_E_FORMAT, "%zu", n);
        cr_expect_not_null(strstr(err.msg, all[n].name), "%zu: %s", n, err.msg);
    }
}
