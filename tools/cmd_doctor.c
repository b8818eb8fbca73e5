/* retro doctor */
#include "tools/retro.h"

#include <jansson.h>
#include <stdio.h>

#include "vmm/cpu/kvm/probe.h"

static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};

static const char *yes(bool b) { return b ? "yes" : "no"; }

static void print_human(const struct retro_speeds *s, const struct rv_kvm_report *k,
                        const struct rv_err *kvm_err) {
    const char *why;
    const struct rv_engine_ops *choice = retro_choose(s, &why);
    printf("engine translate  %s: %.0f million instructions/s on a small loop\n",
           s->translate > 0 ? "works" : "does not work on this CPU", s->translate / 1e6);
    printf("engine interpret  %s: %.0f million instructions/s\n",
           s->interpret > 0 ? "works" : "DOES NOT WORK", s->interpret / 1e6);
    if (kvm_err->code) {
        printf("engine kvm        not here: %s\n", kvm_err->msg);
    } else {
        printf("engine kvm        %s: %.2f million instructions/s (it single-steps)\n",
               k->engine_works ? "works" : "does not work on this KVM", s->kvm / 1e6);
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
    printf("\n--engine auto takes %s: %s\n", choice->name, why);
}

static void print_json(const struct retro_speeds *s, const struct rv_kvm_report *k,
                       const struct rv_err *kvm_err) {
    const char *why;
    const struct rv_engine_ops *choice = retro_choose(s, &why);
    json_t *o =
        json_pack("{s:s, s:s, s:f, s:f, s:f}", "auto", choice->name, "why", why, "translate_ips",
                  s->translate, "interpret_ips", s->interpret, "kvm_ips", s->kvm);
    if (kvm_err->code)
        json_object_set_new(o, "kvm_error", json_string(kvm_err->msg));
    else
        json_object_set_new(
            o, "kvm",
            json_pack("{s:b, s:f, s:I, s:I, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}",
                      "engine_works", k->engine_works, "plain_ips", k->plain_ips, "port_exit_ns",
                      (json_int_t)k->port_exit_ns, "step_ns", (json_int_t)k->step_ns, "step_counts",
                      k->step_counts, "sse", k->sse, "popcnt", k->popcnt, "nested_svm",
                      k->nested_svm, "nested_vmx", k->nested_vmx, "user_space_msr",
                      k->user_space_msr, "msr_filter", k->msr_filter, "tsc_control", k->tsc_control,
                      "pmu", k->pmu));
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
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
    struct retro_speeds s;
    struct rv_kvm_report kvm = {0};
    struct rv_err kvm_err;
    retro_measure(&s, &kvm, &kvm_err);
    if (json)
        print_json(&s, &kvm, &kvm_err);
    else
        print_human(&s, &kvm, &kvm_err);
    return s.interpret > 0 ? RETRO_OK : RETRO_UNSUPPORTED;
}

const struct retro_command retro_cmd_doctor = {
    .name = "doctor",
    .brief = "say what this host can do, by trying it",
    .help = "Usage: retro doctor [--json]\n"
            "Measures the engines on this host and says which one auto takes and why.\n\n"
            "      --json  the same as a JSON object\n\n"
            "Example: retro doctor\n",
    .main = doctor_main,
};
