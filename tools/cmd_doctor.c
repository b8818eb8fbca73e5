/* retro doctor */
#include "tools/retro.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cpu/kvm/probe.h"

static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};

/* Longer than that, and a test guest hangs. */
#define TEST_LIMIT (60 * RV_NSEC)

static const char *yes(bool b) { return b ? "yes" : "no"; }

/* All that is found out. */
struct findings {
    struct retro_speeds speeds;
    struct rv_kvm_report kvm;
    struct rv_nested_report nested;
    struct rv_err kvm_err, nested_err;
    struct rv_err tests[4]; /* by engines[]: how its recording and replay went */
};

static const struct rv_engine_ops *const engines[] = {&rv_engine_translate, &rv_engine_interpret,
                                                      &rv_engine_nested, &rv_engine_kvm};

static void find_out(struct findings *f) {
    *f = (struct findings){0};
    retro_measure(&f->speeds, &f->kvm, &f->kvm_err);
    (void)rv_nested_probe(&f->nested, &f->nested_err);
    const bool there[] = {f->speeds.translate > 0, f->speeds.interpret > 0, f->nested.works,
                          f->speeds.kvm > 0};
    for (unsigned n = 0; n < RV_COUNT(engines); n++)
        if (there[n]) (void)retro_self_test(engines[n], &f->tests[n]);
}

static const char *vendor_words(const char *vendor) {
    return strcmp(vendor, "svm") == 0 ? "AMD-V" : "Intel VT-x";
}

static void print_test(const struct findings *f, unsigned n) {
    if (f->tests[n].code)
        printf("                  FAILED to record and replay a test guest: %s\n", f->tests[n].msg);
    else
        printf("                  recorded a test guest, and it replayed exactly\n");
}

static void print_software(const struct findings *f) {
    const struct retro_speeds *s = &f->speeds;
    if (s->translate > 0) {
        printf("engine translate  works: %.0f million instructions/s on a small loop\n",
               s->translate / 1e6);
        print_test(f, 0);
    } else {
        printf("engine translate  does not work on this CPU\n");
    }
    printf("engine interpret  %s: %.0f million instructions/s\n",
           s->interpret > 0 ? "works" : "DOES NOT WORK", s->interpret / 1e6);
    if (s->interpret > 0) print_test(f, 1);
}

static void print_nested(const struct findings *f) {
    const struct rv_nested_report *n = &f->nested;
    if (f->nested_err.code) {
        printf("engine kvm-nested not here: %s\n", f->nested_err.msg);
        return;
    }
    printf("engine kvm-nested %s, on %s: %.0f million instructions/s, %.1f us an exit\n",
           n->works ? "works" : "does not work on this KVM", vendor_words(n->vendor),
           n->plain_ips / 1e6, (double)n->exit_ns / 1e3);
    printf(
        "                  a time-stamp read is trapped: %s; an interrupt finds its window: %s;\n"
        "                  a busy guest comes out when called: %s; a triple fault shows: %s\n",
        yes(n->traps_tsc), yes(n->finds_window), yes(n->comes_when_called), yes(n->shows_shutdown));
    if (n->loses_shadow)
        printf("                  interrupts that wait are waited for in software: the processor\n"
               "                  forgets that the guest was in the shadow of an STI\n");
    if (n->works) print_test(f, 2);
}

static void print_direct(const struct findings *f) {
    const struct rv_kvm_report *k = &f->kvm;
    if (f->kvm_err.code) {
        printf("engine kvm-direct not here: %s\n", f->kvm_err.msg);
        return;
    }
    printf("engine kvm-direct %s: %.2f million instructions/s (it single-steps)\n",
           k->engine_works ? "works" : "does not work on this KVM", f->speeds.kvm / 1e6);
    if (k->engine_works) print_test(f, 3);
    printf("\nThis host's KVM, measured:\n");
    printf("  plain guest code          %.1f million instructions/s\n", k->plain_ips / 1e6);
    printf("  exit to user space (OUT)  %.2f us\n", (double)k->port_exit_ns / 1e3);
    printf("  single step               %.2f us, one instruction each: %s\n",
           (double)k->step_ns / 1e3, yes(k->step_counts));
    printf("  SSE, POPCNT in a guest    %s, %s\n", yes(k->sse), yes(k->popcnt));
    printf("Offered by it:\n");
    printf("  nested SVM, nested VMX    %s, %s\n", yes(k->nested_svm), yes(k->nested_vmx));
    printf("  user-space MSRs, filter   %s, %s\n", yes(k->user_space_msr), yes(k->msr_filter));
    printf("  TSC scaling               %s\n", yes(k->tsc_control));
    printf("  PMU                       %s\n", yes(k->pmu));
}

static void print_human(const struct findings *f) {
    const char *why;
    const struct rv_engine_ops *choice = retro_choose(&f->speeds, &why);
    print_software(f);
    print_nested(f);
    print_direct(f);
    printf("\n--engine auto takes %s: %s\n", choice->name, why);
    const char *lacks;
    const char *profile = retro_auto_profile(&lacks)->name;
    if (lacks)
        printf("--cpu auto takes %s: for v3 this host's CPU lacks %s\n", profile, lacks);
    else
        printf("--cpu auto takes %s; this host's CPU has all that v3 needs\n", profile);
    if (f->nested.works)
        printf("--engine kvm takes kvm-nested, whose recordings replay on the software engines\n");
    else if (f->kvm.engine_works)
        printf("--engine kvm takes kvm-direct\n");
}

static json_t *nested_json(const struct rv_nested_report *n) {
    return json_pack("{s:b, s:s, s:f, s:I, s:b, s:b, s:b, s:b, s:b}", "works", n->works, "vendor",
                     n->vendor, "plain_ips", n->plain_ips, "exit_ns", (json_int_t)n->exit_ns,
                     "traps_tsc", n->traps_tsc, "finds_window", n->finds_window,
                     "comes_when_called", n->comes_when_called, "shows_shutdown", n->shows_shutdown,
                     "loses_shadow", n->loses_shadow);
}

static json_t *direct_json(const struct rv_kvm_report *k) {
    return json_pack("{s:b, s:f, s:I, s:I, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}",
                     "engine_works", k->engine_works, "plain_ips", k->plain_ips, "port_exit_ns",
                     (json_int_t)k->port_exit_ns, "step_ns", (json_int_t)k->step_ns, "step_counts",
                     k->step_counts, "sse", k->sse, "popcnt", k->popcnt, "nested_svm",
                     k->nested_svm, "nested_vmx", k->nested_vmx, "user_space_msr",
                     k->user_space_msr, "msr_filter", k->msr_filter, "tsc_control", k->tsc_control,
                     "pmu", k->pmu);
}

static void print_json(const struct findings *f) {
    const struct retro_speeds *s = &f->speeds;
    const char *why;
    const struct rv_engine_ops *choice = retro_choose(s, &why);
    json_t *o =
        json_pack("{s:s, s:s, s:f, s:f, s:f}", "auto", choice->name, "why", why, "translate_ips",
                  s->translate, "interpret_ips", s->interpret, "kvm_ips", s->kvm);
    const char *lacks;
    json_object_set_new(o, "cpu", json_string(retro_auto_profile(&lacks)->name));
    json_object_set_new(o, "v3_lacks", lacks ? json_string(lacks) : json_null());
    if (f->nested_err.code)
        json_object_set_new(o, "nested_error", json_string(f->nested_err.msg));
    else
        json_object_set_new(o, "nested", nested_json(&f->nested));
    if (f->kvm_err.code)
        json_object_set_new(o, "kvm_error", json_string(f->kvm_err.msg));
    else
        json_object_set_new(o, "kvm", direct_json(&f->kvm));
    const bool tried[] = {s->translate > 0, s->interpret > 0, f->nested.works, s->kvm > 0};
    json_t *tests = json_object();
    for (unsigned n = 0; n < RV_COUNT(engines); n++)
        if (tried[n])
            json_object_set_new(tests, engines[n]->name,
                                json_string(f->tests[n].code ? f->tests[n].msg : "replayed"));
    json_object_set_new(o, "self_test", tests);
    retro_json_put(stdout, o, JSON_INDENT(2));
}

static int doctor_main(int argc, char **argv) {
    bool json = false;
    int opt;
    while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (opt != 'j') return retro_bad_option(&retro_cmd_doctor, opt, argv);
        json = true;
    }
    if (optind < argc)
        return retro_usage(&retro_cmd_doctor, "unexpected argument \"%s\"", argv[optind]);
    retro_catch_signals();
    retro_stop_after(TEST_LIMIT);
    struct findings f;
    find_out(&f);
    if (json)
        print_json(&f);
    else
        print_human(&f);
    if (!(f.speeds.interpret > 0)) return RETRO_UNSUPPORTED;
    for (unsigned n = 0; n < RV_COUNT(f.tests); n++)
        if (f.tests[n].code) return RETRO_UNSUPPORTED;
    return RETRO_OK;
}

const struct retro_command retro_cmd_doctor = {
    .name = "doctor",
    .brief = "say what this host can do, by trying it",
    .help = "Usage: retro doctor [--json]\n"
            "Measures the engines on this host, records and replays a small guest with each, and\n"
            "says which one auto takes and why, and which CPU profile. Exit status 6 when an\n"
            "engine that should work fails.\n\n"
            "      --json  the same as a JSON object\n\n"
            "Example: retro doctor\n",
    .main = doctor_main,
};
