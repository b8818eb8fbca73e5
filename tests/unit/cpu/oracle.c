/* oracle [--seed N] [--cases M] [--filter mnemonic] [--show N] [--cpu profile] [--summary]: runs
 * cases on the host's CPU and on the interpreter and lists by mnemonic where they disagree. Exits
 * with 1 when any does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

struct row {
    unsigned cases, faults, mismatches;
};
static struct row rows[ZYDIS_MNEMONIC_MAX_VALUE + 1];

static void show_vector(const struct or_case *k, ZydisRegister reg) {
    ZydisRegisterClass c = ZydisRegisterGetClass(reg);
    if (c != ZYDIS_REGCLASS_XMM && c != ZYDIS_REGCLASS_YMM) return;
    int n = ZydisRegisterGetId(reg);
    uint64_t v[4];
    memcpy(v, k->in.fx + 160 + 16 * n, 16);
    memcpy(v + 2, k->in.ymmh + 16 * n, 16);
    printf("    ymm%-2d", n);
    for (unsigned e = 4; e-- > 0;) printf(" %016llx", (unsigned long long)v[e]);
    printf("\n");
}

static void show(const struct or_case *k, const char *what, unsigned long number) {
    printf("%-12s case %lu:", ZydisMnemonicGetString(k->z.mnemonic), number);
    for (unsigned n = 0; n < k->z.length; n++) printf(" %02x", k->code[n]);
    printf("  %s\n", what);
    printf("   ");
    for (unsigned n = 0; n < 16; n++) printf(" %llx", (unsigned long long)k->in.gpr[n]);
    uint32_t mxcsr;
    memcpy(&mxcsr, k->in.fx + 24, 4);
    printf(" flags %llx mxcsr %x fcw %02x%02x fsw %02x%02x", (unsigned long long)k->in.rflags,
           mxcsr, k->in.fx[1], k->in.fx[0], k->in.fx[3], k->in.fx[2]);
    if (k->memory) printf(" operand at %llx", (unsigned long long)k->target);
    printf("\n");
    for (unsigned n = 0; n < k->z.operand_count; n++) {
        if (k->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER) show_vector(k, k->op[n].reg.value);
        if (k->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY) show_vector(k, k->op[n].mem.index);
    }
}

int main(int argc, char **argv) {
    unsigned long seed = 1, cases = 1000000, shown = 3;
    const char *filter = NULL;
    const struct rv_profile *profile = or_profile();
    bool summary = false;
    for (int a = 1; a < argc; a++) {
        const char *value = a + 1 < argc ? argv[a + 1] : "";
        if (!strcmp(argv[a], "--seed"))
            seed = strtoul(value, NULL, 0), a++;
        else if (!strcmp(argv[a], "--cases"))
            cases = strtoul(value, NULL, 0), a++;
        else if (!strcmp(argv[a], "--filter"))
            filter = value, a++;
        else if (!strcmp(argv[a], "--show"))
            shown = strtoul(value, NULL, 0), a++;
        else if (!strcmp(argv[a], "--cpu"))
            profile = rv_profile_find(value), a++;
        else if (!strcmp(argv[a], "--summary"))
            summary = true;
        else {
            fprintf(stderr, "usage: oracle [--seed N] [--cases M] [--filter mnemonic] [--show N] "
                            "[--cpu profile] [--summary]\n");
            return 2;
        }
    }
    if (!profile) {
        fprintf(stderr, "oracle: no such profile\n");
        return 2;
    }
    struct rv_err err;
    if (or_native_init(&err) || or_guest_init(profile, &err)) {
        fprintf(stderr, "oracle: %s\n", err.msg);
        return 2;
    }
    static struct or_case k;
    static struct or_outcome native, guest;
    struct or_random r = {.s = seed};
    unsigned long bad = 0;
    or_prepare(&r, &k, profile);
    for (unsigned long n = 0; n < cases; n++) {
        or_generate(&r, &k, filter);
        or_native_run(&k, &native);
        or_guest_run(&k, &guest);
        struct row *row = &rows[k.z.mnemonic];
        row->cases++;
        if (native.fault.vector >= 0) row->faults++;
        const char *what = or_compare(&k, &native, &guest);
        if (!what) continue;
        bad++;
        if (row->mismatches++ < shown) show(&k, what, n);
    }
    unsigned kinds = 0;
    for (unsigned m = 0; m < RV_COUNT(rows); m++) {
        if (!rows[m].cases) continue;
        kinds++;
        if (rows[m].mismatches || summary)
            printf("%-14s %8u cases %8u faults %8u mismatches\n", ZydisMnemonicGetString(m),
                   rows[m].cases, rows[m].faults, rows[m].mismatches);
    }
    printf("seed %lu: %lu cases of %u mnemonics, %lu mismatches\n", seed, cases, kinds, bad);
    or_guest_release();
    or_native_release();
    return bad ? 1 : 0;
}
