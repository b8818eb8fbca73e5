/* Runs every guest on both engines without a test framework, for machines that have none: prints a
 * line a guest. Exit status 0, 1 on a difference, 77 without a usable KVM. */
#include <stdio.h>
#include <string.h>

#include "guest.h"
#include "vmm/base/buf.h"

static bool same(const struct guest *g, const struct run_plan *plan) {
    struct run_result a, b;
    run_guest(g, &rv_engine_interpret, plan, &a);
    run_guest(g, &rv_engine_kvm, plan, &b);
    size_t words = a.digests.len / 8;
    bool ok = a.r == b.r && memcmp(&a.end, &b.end, sizeof a.end) == 0 && a.output == b.output &&
              a.digests.len == b.digests.len &&
              (!words || memcmp(a.digests.data, b.digests.data, a.digests.len) == 0);
    printf("%-10s every %-6llu %s  %llu instructions, %s, %zu digests\n", g->name,
           (unsigned long long)plan->digest_every, ok ? "same" : "DIFFERS",
           (unsigned long long)b.end.at.icount, rv_stop_name(b.end.reason), words / 3);
    if (!ok) {
        const uint64_t *x = (const uint64_t *)a.digests.data, *y = (const uint64_t *)b.digests.data;
        size_t n = words < b.digests.len / 8 ? words : b.digests.len / 8, i = 0;
        while (i < n && x[i] == y[i]) i++;
        if (i < n)
            printf("  first at instruction %llu (%s)\n", (unsigned long long)y[i / 3 * 3],
                   rv_source_name((enum rv_source)y[i / 3 * 3 + 1]));
        printf("  interpret: r %d %s, %s at %llu rip %llx, said \"%s\"\n", a.r, a.err.msg,
               rv_stop_name(a.end.reason), (unsigned long long)a.end.at.icount,
               (unsigned long long)a.cpu.rip, a.text);
        printf("  kvm:       r %d %s, %s at %llu rip %llx, said \"%s\"\n", b.r, b.err.msg,
               rv_stop_name(b.end.reason), (unsigned long long)b.end.at.icount,
               (unsigned long long)b.cpu.rip, b.text);
    }
    rv_buf_release(&a.digests);
    rv_buf_release(&b.digests);
    return ok;
}

int main(int argc, char **argv) {
    if (!kvm_usable()) return 77;
    bool ok = true;
    for (unsigned i = 0; i < guest_count; i++) {
        if (argc > 1 && strcmp(argv[1], guests[i].name) != 0) continue;
        static const uint64_t every[] = {1, 97, 0};
        for (size_t n = 0; n < RV_COUNT(every); n++) {
            struct run_plan plan = {.digest_every = every[n],
                                    .input_every = 137,
                                    .stop_every = every[n] ? 0 : 61,
                                    .kick = !every[n],
                                    .max = 200000};
            ok &= same(&guests[i], &plan);
        }
    }
    return ok ? 0 : 1;
}
