/* The comparison without a test framework, for machines that have none:
 *   kvm_compare                     every guest on both engines, a line each
 *   kvm_compare GUEST               one of them
 *   kvm_compare GUEST ENGINE        one run on "kvm" or "interpret", to be timed
 *   kvm_compare fuzz SEED COUNT     COUNT random sequences of instructions in each mode
 * Exit status 0, 1 on a difference, 77 without a usable KVM. */
#include <stdio.h>
#include <stdlib.h>
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
    printf("%-10s every %-6llu %s  %llu instructions, %s, %zu digests; "
           "%llu stepped, %llu moves, %llu faulted, %llu refused\n",
           g->name, (unsigned long long)plan->digest_every, ok ? "same" : "DIFFERS",
           (unsigned long long)b.end.at.icount, rv_stop_name(b.end.reason), words / 3,
           (unsigned long long)b.counts.stepped, (unsigned long long)b.counts.moves,
           (unsigned long long)b.counts.faulted, (unsigned long long)b.counts.refused);
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

static void show_probe(void) {
    struct rv_kvm_report k;
    struct rv_err err = {0};
    if (rv_kvm_probe(&k, &err)) {
        printf("probe: %s\n", err.msg);
        return;
    }
    printf("probe: %.1f million instructions/s, port exit %llu ns, step %llu ns, sse %d popcnt %d, "
           "step_counts %d empty_idt %d engine_works %d\n",
           k.plain_ips / 1e6, (unsigned long long)k.port_exit_ns, (unsigned long long)k.step_ns,
           k.sse, k.popcnt, k.step_counts, k.empty_idt, k.engine_works);
    printf("probe: svm %d vmx %d nested_state %d user_msr %d msr_filter %d tsc_control %d pmu %d "
           "sync_regs %d immediate_exit %d guest_debug %d flags 0x%x hw_breakpoints %u\n",
           k.nested_svm, k.nested_vmx, k.nested_state, k.user_space_msr, k.msr_filter,
           k.tsc_control, k.pmu, k.sync_regs, k.immediate_exit, k.guest_debug, k.guest_debug_flags,
           k.hw_breakpoints);
}

int main(int argc, char **argv) {
    if (!kvm_usable()) return 77;
    if (argc == 1) show_probe();
    bool ok = true;
    if (argc > 1 && strcmp(argv[1], "fuzz") == 0) {
        uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
        unsigned count = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 200;
        for (unsigned bits = 16; bits <= 64; bits *= 2) {
            struct rv_kvm_counts c = {0};
            bool same = fuzz_engines(seed, count, bits, &c);
            printf("%u bits: %s, %llu stepped, %llu helped, %llu faulted, %llu refused\n", bits,
                   same ? "same" : "DIFFERS", (unsigned long long)c.stepped,
                   (unsigned long long)c.helped, (unsigned long long)c.faulted,
                   (unsigned long long)c.refused);
            ok &= same;
        }
        return ok ? 0 : 1;
    }
    if (argc > 2) {
        const struct guest *g = guest_find(argv[1]);
        struct run_plan plan = {.input_every = 137, .max = 200000};
        struct run_result r;
        if (!g) return 1;
        bool kvm = strcmp(argv[2], "kvm") == 0;
        run_guest(g, kvm ? &rv_engine_kvm : &rv_engine_interpret, &plan, &r);
        printf("%llu instructions, %llu stepped, %llu moves\n", (unsigned long long)r.end.at.icount,
               (unsigned long long)r.counts.stepped, (unsigned long long)r.counts.moves);
        return r.r != 0;
    }
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
