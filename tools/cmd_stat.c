/* retro stat */
#include "tools/ask.h"

#include <inttypes.h>
#include <string.h>

#include "tools/analysis/stat.h"

#define CALLS_SHOWN 12

struct args {
    struct retro_ask ask;
    const char *path;
};

static const struct option options[] = {RETRO_ASK_LONG, {NULL, 0, NULL, 0}};

static int parse(int argc, char **argv, struct args *a) {
    *a = (struct args){0};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1)
        status = retro_ask_option(&a->ask, &retro_cmd_stat, opt, argv);
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(&retro_cmd_stat, "stat takes one trace");
    a->path = argv[optind];
    return RETRO_OK;
}

static const char *const kind_names[4] = {"exception", "interrupt", "nmi", "software"};

static const char *exception_name(unsigned v) {
    static const char *const names[] = {
        "divide error",  "debug",      "NMI",          "breakpoint", "overflow",  "bound",
        "undefined",     "no device",  "double fault", "",           "bad TSS",   "not present",
        "stack fault",   "protection", "page fault",   "",           "x87 error", "alignment",
        "machine check", "SIMD error"};
    return v < RV_COUNT(names) ? names[v] : "";
}

/* ---- for people ---- */

static void line(const char *what, uint64_t n) {
    char b[32];
    printf("%-22s %20s\n", what, retro_group(n, b));
}

static void note(const char *what, uint64_t n, const char *fmt, double v) {
    char b[32];
    printf("%-22s %20s  ", what, retro_group(n, b));
    printf("(%.*f%s)\n", 1, v, fmt);
}

static double percent(uint64_t part, uint64_t whole) {
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void print_time(const struct rv_stat *s) {
    line("instructions", s->instructions);
    printf("%-22s %20.6f s\n", "guest time", retro_seconds(s->time));
    printf("%-22s %20.6f s  (%.1f %%)\n", "  no instruction ran", retro_seconds(s->not_computing),
           percent(s->not_computing, s->time));
    if (s->moved_on)
        printf("%-22s %20.6f s\n", "  moved on by the host", retro_seconds(s->moved_on));
}

static void print_trace(const struct rv_trace_reader *r, const struct rv_trace_stats *t) {
    struct rv_trace_state st;
    rv_trace_reader_state(r, &st);
    line("trace, bytes", st.size);
    line("  of it events", t->event_bytes);
    for (uint32_t k = 1; k < RV_TRACE_MAX_KINDS; k++) {
        char what[40], b[32];
        if (!t->events[k]) continue;
        snprintf(what, sizeof what, "  %s events", rv_trace_kind_name(k));
        printf("%-22s %20s", what, retro_group(t->events[k], b));
        if (t->data_bytes[k]) printf("  (%s bytes)", retro_group(t->data_bytes[k], b));
        putchar('\n');
    }
}

static void print_vectors(const struct rv_stat *s) {
    for (unsigned k = 0; k < 4; k++)
        for (unsigned v = 0; v < 256; v++) {
            char what[40];
            if (!s->vector[k][v]) continue;
            snprintf(what, sizeof what, "  0x%02x %s", v,
                     k == 0 ? exception_name(v) : kind_names[k]);
            line(what, s->vector[k][v]);
        }
}

static uint64_t deliveries(const struct rv_stat *s, unsigned kind) {
    uint64_t n = 0;
    for (unsigned v = 0; v < 256; v++) n += s->vector[kind][v];
    return n;
}

static void print_guest(const struct rv_stat *s, const struct rv_guest_run *run) {
    if (!run->system) {
        printf("%-22s %20s  (%s)\n", "processes", "not known", run->system_note);
        return;
    }
    line("processes", s->processes);
    line("  threads", s->threads);
    line("  programs executed", s->execs);
    line("  ended by a signal", s->signalled);
    line("kernel threads", s->kernel_threads);
    line("context switches", run->switches);
    note("idle task", run->idle, " % of instructions", percent(run->idle, s->instructions));
    line("system calls", run->syscalls);
    line("  failed", s->failed);
    for (size_t i = 0; i < s->calls && i < CALLS_SHOWN; i++) {
        char b[32];
        printf("  %-20s %20s  %.6f s\n", s->call[i].name, retro_group(s->call[i].times, b),
               retro_seconds(s->call[i].time));
    }
    if (s->calls > CALLS_SHOWN) printf("  and %zu others\n", s->calls - CALLS_SHOWN);
}

static void print_spans(const struct rv_stat *s) {
    printf("\n%16s %9s %9s %9s %9s %9s %9s %8s %7s\n", "FROM", "WRITTEN", "EXECUTED", "CALLS",
           "SWITCHES", "INTERRUPT", "EXCEPTION", "PRINTED", "INPUT");
    for (size_t i = 0; i < s->spans; i++) {
        const struct rv_stat_span *p = &s->span[i];
        char b[32];
        printf("%16s %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64
               " %8" PRIu64 " %7" PRIu64 "\n",
               retro_group(p->from, b), p->written, p->executed, p->syscalls, p->switches,
               p->interrupts, p->exceptions, p->printed, p->input);
    }
    puts("(pages of 4 KiB written and executed, bytes printed and typed)");
}

static void print_human(const struct rv_stat *s, const struct rv_guest_run *run,
                        const struct rv_trace_reader *r, const struct rv_trace_stats *t) {
    print_time(s);
    print_trace(r, t);
    line("pages of RAM", s->pages);
    note("  touched", s->touched, " %", percent(s->touched, s->pages));
    line("  written", s->written);
    line("  executed", s->executed);
    line("interrupts", deliveries(s, 1) + deliveries(s, 2) + deliveries(s, 3));
    line("exceptions", deliveries(s, 0));
    print_vectors(s);
    print_guest(s, run);
    print_spans(s);
}

/* ---- for machines ---- */

static json_t *integer(uint64_t n) { return json_integer((json_int_t)n); }

static json_t *vectors_json(const struct rv_stat *s) {
    json_t *list = json_array();
    for (unsigned k = 0; k < 4; k++)
        for (unsigned v = 0; v < 256; v++)
            if (s->vector[k][v])
                json_array_append_new(list,
                                      json_pack("{s:i, s:s, s:o}", "vector", (int)v, "kind",
                                                kind_names[k], "times", integer(s->vector[k][v])));
    return list;
}

static json_t *calls_json(const struct rv_stat *s) {
    json_t *o = json_object();
    for (size_t i = 0; i < s->calls; i++)
        json_object_set_new(o, s->call[i].name,
                            json_pack("{s:o, s:o, s:o}", "times", integer(s->call[i].times),
                                      "failed", integer(s->call[i].failed), "ns",
                                      integer(s->call[i].time)));
    return o;
}

static json_t *spans_json(const struct rv_stat *s) {
    json_t *list = json_array();
    for (size_t i = 0; i < s->spans; i++) {
        const struct rv_stat_span *p = &s->span[i];
        json_array_append_new(
            list,
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "from", integer(p->from),
                      "pages_written", integer(p->written), "pages_executed", integer(p->executed),
                      "syscalls", integer(p->syscalls), "switches", integer(p->switches),
                      "interrupts", integer(p->interrupts), "exceptions", integer(p->exceptions),
                      "console_bytes", integer(p->printed), "input_bytes", integer(p->input)));
    }
    return list;
}

static json_t *events_json(const struct rv_trace_stats *t) {
    json_t *o = json_object();
    for (uint32_t k = 1; k < RV_TRACE_MAX_KINDS; k++)
        if (t->events[k])
            json_object_set_new(o, rv_trace_kind_name(k),
                                json_pack("{s:o, s:o}", "times", integer(t->events[k]), "bytes",
                                          integer(t->data_bytes[k])));
    return o;
}

static void print_json(const struct rv_stat *s, const struct rv_guest_run *run,
                       const struct rv_trace_reader *r, const struct rv_trace_stats *t) {
    struct rv_trace_state st;
    rv_trace_reader_state(r, &st);
    json_t *o = json_object();
    json_object_set_new(o, "instructions", integer(s->instructions));
    json_object_set_new(o, "guest_ns", integer(s->time));
    json_object_set_new(o, "not_computing_ns", integer(s->not_computing));
    json_object_set_new(o, "moved_on_ns", integer(s->moved_on));
    json_object_set_new(o, "whole", json_boolean(!run->interrupted));
    json_object_set_new(o, "trace_bytes", integer(st.size));
    json_object_set_new(o, "event_bytes", integer(t->event_bytes));
    json_object_set_new(o, "events", events_json(t));
    json_object_set_new(o, "pages", integer(s->pages));
    json_object_set_new(o, "pages_touched", integer(s->touched));
    json_object_set_new(o, "pages_written", integer(s->written));
    json_object_set_new(o, "pages_executed", integer(s->executed));
    json_object_set_new(o, "deliveries", vectors_json(s));
    json_object_set_new(o, "system", run->system ? retro_json_utf8z(run->system) : json_null());
    if (run->system) {
        json_object_set_new(o, "processes", integer(s->processes));
        json_object_set_new(o, "threads", integer(s->threads));
        json_object_set_new(o, "kernel_threads", integer(s->kernel_threads));
        json_object_set_new(o, "execs", integer(s->execs));
        json_object_set_new(o, "signalled", integer(s->signalled));
        json_object_set_new(o, "switches", integer(run->switches));
        json_object_set_new(o, "idle_instructions", integer(run->idle));
        json_object_set_new(o, "syscalls", integer(run->syscalls));
        json_object_set_new(o, "syscalls_failed", integer(s->failed));
        json_object_set_new(o, "by_name", calls_json(s));
    }
    json_object_set_new(o, "spans", spans_json(s));
    retro_json_put(stdout, o, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
}

static int stat_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_guest_run *run = NULL;
    struct rv_trace_stats trace;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    int r = retro_ask_open(&a.ask, a.path, "looking", &err);
    struct rv_run_config config = {.timeline = a.ask.timeline,
                                   .what = RV_RUN_ALL,
                                   .progress = retro_ask_progress,
                                   .ctx = &a.ask};
    if (!r) r = rv_run_gather(&run, &config, &err);
    if (!r) r = rv_trace_reader_stats(rv_timeline_reader(a.ask.timeline), &trace, &err);
    retro_ask_quiet(&a.ask);
    if (!r) {
        struct rv_stat s;
        const struct rv_trace_reader *reader = rv_timeline_reader(a.ask.timeline);
        rv_stat_make(&s, run, rv_timeline_history(a.ask.timeline), reader);
        if (a.ask.json)
            print_json(&s, run, reader, &trace);
        else
            print_human(&s, run, reader, &trace);
        rv_stat_release(&s);
        fflush(stdout);
    }
    if (!r && run->interrupted) status = retro_ask_interrupted(&a.ask, run->end);
    rv_run_free(run);
    r = retro_ask_close(&a.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_stat = {
    .name = "stat",
    .brief = "a recording in numbers",
    .help = "Usage: retro stat [OPTION]... FILE\n"
            "Counts what happened: instructions, time, idle time, events of the trace by kind,\n"
            "pages of memory touched, interrupts and exceptions by vector, processes, context\n"
            "switches, system calls; and the same along the recording.\n\n" RETRO_ASK_HELP "\n"
            "Example: retro stat boot.retro\n",
    .main = stat_main,
};
