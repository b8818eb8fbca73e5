/* What the manual leaves open has values of our own, on either engine, whatever the processor. */
#include <criterion/criterion.h>
#include <string.h>

#include "side.h"
#include "vmm/cpu/interp/vec.h"
#include "vmm/cpu/xlate/eager.h"

#define CF  RV_FL_CF
#define PF  RV_FL_PF
#define AF  RV_FL_AF
#define ZF  RV_FL_ZF
#define SF  RV_FL_SF
#define OF  RV_FL_OF
#define ALL RV_FL_ARITH

/* An instruction, EAX, ECX and EDX before it, EAX behind it, the flags that it leaves as they were
 * and those that it sets. All others are 0. */
static const struct one {
    const char *name;
    uint8_t code[8], len;
    uint32_t a, c, d, out;
    uint32_t keeps, sets;
    bool v3;
} ones[] = {
    {"shl eax, 4", {0xc1, 0xe0, 4}, 3, 0x10000001, 0, 0, 0x10, 0, CF, false},
    {"shl eax, 1", {0xd1, 0xe0}, 2, 0x40000000, 0, 0, 0x80000000, 0, OF | SF | PF, false},
    {"shl eax, 32", {0xc1, 0xe0, 32}, 3, 5, 0, 0, 5, ALL, 0, false},
    {"sar eax, cl (3)", {0xd3, 0xf8}, 2, 0xfffffff0, 3, 0, 0xfffffffe, 0, SF, false},
    {"shl eax, cl (1)", {0xd3, 0xe0}, 2, 0x40000000, 1, 0, 0x80000000, 0, OF | SF | PF, false},
    {"shr eax, cl (32)", {0xd3, 0xe8}, 2, 7, 32, 0, 7, ALL, 0, false},
    {"shr al, cl (9)", {0xd2, 0xe8}, 2, 0xff, 9, 0, 0, 0, ZF | PF, false},
    {"shr al, cl (4)", {0xd2, 0xe8}, 2, 0xf8, 4, 0, 0xf, 0, CF | PF, false},
    {"sar al, cl (9)", {0xd2, 0xf8}, 2, 0x80, 9, 0, 0xff, 0, CF | SF | PF, false},
    {"shl ax, 16", {0x66, 0xc1, 0xe0, 16}, 4, 0xffff, 0, 0, 0, 0, ZF | PF, false},
    {"rol eax, 8", {0xc1, 0xc0, 8}, 3, 0xff, 0, 0, 0xff00, SF | ZF | AF | PF, 0, false},
    {"ror eax, 1", {0xd1, 0xc8}, 2, 1, 0, 0, 0x80000000, SF | ZF | AF | PF, CF | OF, false},
    {"rol eax, cl (4)", {0xd3, 0xc0}, 2, 0x1f, 4, 0, 0x1f0, SF | ZF | AF | PF, 0, false},
    {"ror eax, cl (1)", {0xd3, 0xc8}, 2, 1, 1, 0, 0x80000000, SF | ZF | AF | PF, CF | OF, false},
    {"rol eax, cl (0)", {0xd3, 0xc0}, 2, 3, 0, 0, 3, ALL, 0, false},
    {"mul ecx", {0xf7, 0xe1}, 2, 0x80000000, 2, 0, 0, 0, CF | OF, false},
    {"imul ecx", {0xf7, 0xe9}, 2, 3, 4, 0, 12, 0, 0, false},
    {"imul eax, ecx", {0x0f, 0xaf, 0xc1}, 3, 0xffffffff, 5, 0, 0xfffffffb, 0, 0, false},
    {"imul eax, ecx, 0", {0x6b, 0xc1, 0}, 3, 1, 5, 0, 0, 0, 0, false},
    {"bsf eax, ecx (0)", {0x0f, 0xbc, 0xc1}, 3, 9, 0, 0, 9, 0, ZF, false},
    {"bsf eax, ecx (8)", {0x0f, 0xbc, 0xc1}, 3, 9, 8, 0, 3, 0, 0, false},
    {"bsr eax, ecx (8)", {0x0f, 0xbd, 0xc1}, 3, 9, 8, 0, 3, 0, 0, false},
    {"shld eax, ecx, 4", {0x0f, 0xa4, 0xc8, 4}, 4, 0x10000000, 0, 0, 0, 0, CF | ZF | PF, false},
    {"shld ax, cx, 20", {0x66, 0x0f, 0xa4, 0xc8, 20}, 5, 0xf000, 1, 0, 0x1f, 0, 0, false},
    {"shrd ax, dx, cl (20)", {0x66, 0x0f, 0xad, 0xd0}, 4, 0xf, 20, 0x8000, 0xf800, 0, 0, false},
    {"shrd ax, dx, cl (4)", {0x66, 0x0f, 0xad, 0xd0}, 4, 0x18, 4, 0, 1, 0, CF, false},
    {"and eax, ecx", {0x21, 0xc8}, 2, 1, 1, 0, 1, 0, 0, false},
    {"sbb eax, ecx (stc)", {0xf9, 0x19, 0xc8}, 3, 0x10, 0xf, 0, 0, 0, AF | ZF | PF, false},
    {"bt eax, ecx", {0x0f, 0xa3, 0xc8}, 3, 2, 1, 0, 2, ALL & ~CF, CF, false},
    {"div ecx", {0xf7, 0xf1}, 2, 10, 3, 0, 3, ALL, 0, false},
    {"tzcnt eax, ecx (0)", {0xf3, 0x0f, 0xbc, 0xc1}, 4, 9, 0, 0, 32, 0, CF, true},
    {"lzcnt eax, ecx", {0xf3, 0x0f, 0xbd, 0xc1}, 4, 9, 0x80000000, 0, 0, 0, ZF, true},
    {"andn eax, edx, ecx",
     {0xc4, 0xe2, 0x68, 0xf2, 0xc1},
     5,
     9,
     0x80000000,
     1,
     0x80000000,
     0,
     SF,
     true},
    {"blsr eax, ecx", {0xc4, 0xe2, 0x78, 0xf3, 0xc9}, 5, 9, 1, 0, 0, 0, ZF, true},
    {"bextr eax, ecx, edx", {0xc4, 0xe2, 0x68, 0xf7, 0xc1}, 5, 9, 0xff, 0x800, 0xff, 0, 0, true},
    {"bzhi eax, ecx, edx", {0xc4, 0xe2, 0x68, 0xf5, 0xc1}, 5, 9, 0x80, 8, 0x80, 0, 0, true},
};

/* Behind it: a jump, which ends a translation, or an access to a page that is not there. */
static const uint8_t ends[2][8] = {{0xeb, 0x00, 0x90, 0x90}, {0x8b, 0x1c, 0x25, 0, 0, 0, 0, 0x90}};

static void run(struct or_side *g, const struct one *k, uint32_t flags, unsigned end,
                const char *engine) {
    struct rv_err err = {0};
    struct rv_x86 x = g->start, y;
    unsigned insns = k->code[0] == 0xf9 ? 2 : 1;
    x.rip = OR_CODE;
    x.rflags = 2 | flags;
    x.gpr[RV_RAX] = k->a;
    x.gpr[RV_RCX] = k->c;
    x.gpr[RV_RDX] = k->d;
    x.gpr[RV_RSP] = OR_DATA + 0x1000;
    memset(g->ram.host + OR_CODE, 0x90, RV_PAGE_SIZE);
    memcpy(g->ram.host + OR_CODE, k->code, k->len);
    memcpy(g->ram.host + OR_CODE + k->len, ends[end], sizeof ends[end]);
    cr_assert_eq(g->e->ops->set(g->e, &x, &err), 0, "%s", err.msg);
    /* The fault's handler is the last: its frame has the flags. */
    cr_assert_eq(g->e->ops->run(g->e, insns + 1, false, &err), RV_RUN_UNTIL, "%s", err.msg);
    g->e->ops->get(g->e, &y);
    uint32_t want = (flags & k->keeps) | k->sets, got = (uint32_t)y.rflags & ALL;
    cr_expect_eq(got, want, "%s, %s, flags %x before: %x, not %x", engine, k->name, flags, got,
                 want);
    cr_expect_eq(y.gpr[RV_RAX], k->out, "%s, %s: eax %x, not %x", engine, k->name,
                 (unsigned)y.gpr[RV_RAX], k->out);
}

static void all_on(const struct rv_engine_ops *engine, const struct rv_profile *profile) {
    static struct or_side g;
    struct rv_err err = {0};
    cr_assert_eq(or_side_init(&g, engine, profile, RV_QUIRK_PORTABLE, &err), 0, "%s", err.msg);
    if (engine == &rv_engine_translate) rv_translate_eagerly(g.e);
    for (unsigned n = 0; n < RV_COUNT(ones); n++) {
        if (ones[n].v3 && !profile->v3) continue;
        for (unsigned end = 0; end < RV_COUNT(ends); end++) {
            run(&g, &ones[n], 0, end, engine->name);
            run(&g, &ones[n], ALL, end, engine->name);
        }
    }
    or_side_release(&g);
}

Test(portable, flags_on_the_interpreter) { all_on(&rv_engine_interpret, or_profile()); }
Test(portable, flags_on_the_translator) { all_on(&rv_engine_translate, or_profile()); }

/* ---- approximations ---- */

static const struct {
    uint32_t in, reciprocal, root;
} approximations[] = {
    {0x3f800000, 0x3f800000, 0x3f800000}, /* 1 */
    {0x40400000, 0x3eaaa800, 0x3f13d000}, /* 3 */
    {0x40000000, 0x3f000000, 0x3f350800}, /* 2 */
    {0xc0000000, 0xbf000000, 0xffc00000},
    {0x00000000, 0x7f800000, 0x7f800000},
    {0x80000001, 0xff800000, 0xff800000}, /* a denormal counts as 0 */
    {0x7f800000, 0x00000000, 0x00000000},
    {0xff800000, 0x80000000, 0xffc00000},
    {0x7fa00001, 0x7fe00001, 0x7fe00001},
    {0x7f000000, 0x00000000, 0x1fb50800}, /* 2^127: its reciprocal would be denormal */
};

static uint32_t first_of_xmm0(struct or_side *g, const uint8_t *code, size_t len, uint32_t in) {
    struct rv_err err = {0};
    struct rv_x86 x = g->start, y;
    x.rip = OR_CODE;
    x.rflags = 2;
    x.fx[0] = 0x7f; /* FCW, and MXCSR: all exceptions masked */
    x.fx[1] = 3;
    rv_fx_set32(x.fx, RV_FX_MXCSR, 0x1f80);
    memcpy(x.fx + RV_FX_XMM + 16, &in, 4);
    memset(g->ram.host + OR_CODE, 0x90, RV_PAGE_SIZE);
    memcpy(g->ram.host + OR_CODE, code, len);
    memcpy(g->ram.host + OR_CODE + len, ends[0], sizeof ends[0]);
    cr_assert_eq(g->e->ops->set(g->e, &x, &err), 0, "%s", err.msg);
    cr_assert_eq(g->e->ops->run(g->e, 2, false, &err), RV_RUN_UNTIL, "%s", err.msg);
    g->e->ops->get(g->e, &y);
    uint32_t out;
    memcpy(&out, y.fx + RV_FX_XMM, 4);
    return out;
}

static void approximate_on(const struct rv_engine_ops *engine, const struct rv_profile *profile) {
    /* xmm0 from xmm1: RCPSS, RCPPS, VRCPPS; RSQRTSS, RSQRTPS, VRSQRTPS ymm */
    static const uint8_t code[2][3][5] = {
        {{0xf3, 0x0f, 0x53, 0xc1, 0x90},
         {0x0f, 0x53, 0xc1, 0x90, 0x90},
         {0xc5, 0xf8, 0x53, 0xc1, 0x90}},
        {{0xf3, 0x0f, 0x52, 0xc1, 0x90},
         {0x0f, 0x52, 0xc1, 0x90, 0x90},
         {0xc5, 0xfc, 0x52, 0xc1, 0x90}},
    };
    static struct or_side g;
    struct rv_err err = {0};
    cr_assert_eq(or_side_init(&g, engine, profile, RV_QUIRK_PORTABLE, &err), 0, "%s", err.msg);
    if (engine == &rv_engine_translate) rv_translate_eagerly(g.e);
    for (unsigned n = 0; n < RV_COUNT(approximations); n++)
        for (unsigned root = 0; root < 2; root++)
            for (unsigned form = 0; form < (profile->v3 ? 3u : 2u); form++) {
                uint32_t in = approximations[n].in;
                uint32_t want = root ? approximations[n].root : approximations[n].reciprocal;
                uint32_t got = first_of_xmm0(&g, code[root][form], 5, in);
                cr_expect_eq(got, want, "%s, form %u, %s of %08x: %08x, not %08x", engine->name,
                             form, root ? "root" : "reciprocal", in, got, want);
            }
    or_side_release(&g);
}

Test(portable, approximations_on_the_interpreter) {
    approximate_on(&rv_engine_interpret, or_profile());
}
Test(portable, approximations_on_the_translator) {
    approximate_on(&rv_engine_translate, or_profile());
}
