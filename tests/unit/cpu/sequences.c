/* sequences [--seed N] [--cases M] [--show N] [--cpu profile] [--flags zero|host]: random programs
 * on the translator, which translates everything at once, and on the interpreter. Exits with 1 when
 * they disagree. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "side.h"
#include "vmm/cpu/xlate/eager.h"

static void show(const struct or_program *p, const char *what, unsigned long n) {
    printf("case %lu: %s\n", n, what);
    ZydisDecoder d;
    ZydisFormatter f;
    ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned k = 0; k < p->insns; k++) {
        ZydisDecodedInstruction z;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
        char text[96] = "?";
        uint64_t at = or_program_address(p, p->at[k]);
        if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, p->code + p->at[k], 15, &z, op)))
            ZydisFormatterFormatInstruction(&f, &z, op, z.operand_count_visible, text, sizeof text,
                                            at, NULL);
        printf("  %llx: %s\n", (unsigned long long)at, text);
    }
    printf("  stops: %llu %llu %llu\n", (unsigned long long)p->stops[0],
           (unsigned long long)p->stops[1], (unsigned long long)p->stops[2]);
}

int main(int argc, char **argv) {
    unsigned long seed = 1, cases = 1000000, shown = 5;
    const struct rv_profile *profile = or_profile();
    uint64_t quirks = RV_QUIRK_PORTABLE;
    for (int a = 1; a + 1 < argc; a += 2) {
        unsigned long v = strtoul(argv[a + 1], NULL, 0);
        if (!strcmp(argv[a], "--seed")) seed = v;
        if (!strcmp(argv[a], "--cases")) cases = v;
        if (!strcmp(argv[a], "--show")) shown = v;
        if (!strcmp(argv[a], "--flags") && !strcmp(argv[a + 1], "host")) quirks = 0;
        if (!strcmp(argv[a], "--cpu")) profile = rv_profile_find(argv[a + 1]);
    }
    if (!profile) {
        fprintf(stderr, "sequences: no such profile\n");
        return 2;
    }
    struct rv_err err;
    static struct or_side a, b;
    if (or_side_init(&a, &rv_engine_interpret, profile, quirks, &err) ||
        or_side_init(&b, &rv_engine_translate, profile, quirks, &err)) {
        fprintf(stderr, "sequences: %s\n", err.msg);
        return 2;
    }
    rv_translate_eagerly(b.e);
    static struct or_program p;
    struct or_random r = {.s = seed};
    or_prepare(&r, &p.k, profile);
    unsigned long bad = 0;
    for (unsigned long n = 0; n < cases; n++) {
        or_program_generate(&r, &p);
        const char *what = or_program_run(&p, &a, &b);
        if (what && bad++ < shown) show(&p, what, n);
    }
    printf("seed %lu: %lu programs, %lu disagreements\n", seed, cases, bad);
    or_side_release(&a);
    or_side_release(&b);
    return bad ? 1 : 0;
}
