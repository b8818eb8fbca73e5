/* retro ps */
#include "tools/ask.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/analysis/run.h"
#include "tools/analysis/syscall.h"
#include "vmm/base/buf.h"

#define BAR 40 /* columns of the timeline */

struct args {
    struct retro_ask ask;
    const char *path;
    bool threads, kernel;
};

enum { OPT_THREADS = RETRO_ASK_OWN, OPT_ALL };

static const struct option options[] = {
    {"threads", no_argument, NULL, OPT_THREADS},
    {"all", no_argument, NULL, OPT_ALL},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_ps;
    *a = (struct args){0};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_THREADS: a->threads = true; break;
        case OPT_ALL: a->kernel = true; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "ps takes one trace");
    a->path = argv[optind];
    return RETRO_OK;
}

/* Sums of a process over its threads; of a thread when threads are shown. */
struct sums {
    uint64_t instructions, syscalls, faults, children;
    rv_ns cpu_time;
};

static struct sums *add_up(const struct args *a, const struct rv_guest_run *r) {
    struct sums *s = rv_alloc((r->tasks + 1) * sizeof *s);
    for (size_t i = 0; i < r->tasks; i++) {
        const struct rv_run_task *t = &r->task[i];
        size_t to = a->threads ? i : t->process;
        s[to].instructions += t->instructions;
        s[to].syscalls += t->syscalls;
        s[to].faults += t->faults;
        s[to].cpu_time += t->cpu_time;
        if (t->parent != RV_NONE && t->process == i)
            s[a->threads ? t->parent : r->task[t->parent].process].children++;
    }
    return s;
}

static bool wanted(const struct args *a, const struct rv_guest_run *r, size_t i) {
    const struct rv_run_task *t = &r->task[i];
    return (a->kernel || !t->kernel) && (a->threads || t->process == i);
}

static void exit_text(const struct rv_run_task *t, char *out, size_t size) {
    const char *name;
    if (!t->exited)
        snprintf(out, size, "-");
    else if (WIFSIGNALED(t->exit_code) && (name = rv_signal_name((unsigned)WTERMSIG(t->exit_code))))
        snprintf(out, size, "%s", name);
    else
        snprintf(out, size, "%d", WEXITSTATUS(t->exit_code));
}

/* When it was there, from the first to the last instruction of the recording. */
static void bar(const struct rv_guest_run *r, const struct rv_run_task *t, char *out) {
    double end = r->end ? (double)r->end : 1;
    int from = (int)((double)t->start / end * BAR),
        to = t->end == RV_NEVER ? BAR : (int)((double)t->end / end * BAR);
    if (from >= BAR) from = BAR - 1;
    if (to <= from) to = from + 1;
    for (int i = 0; i < BAR; i++) out[i] = i >= from && i < to ? '=' : '.';
    out[BAR] = 0;
}

static void print_human(const struct args *a, const struct rv_guest_run *r) {
    struct sums *s = add_up(a, r);
    bool wide = isatty(STDOUT_FILENO) && !getenv("RETRO_PLAIN");
    printf("%6s %6s %12s %12s %16s %9s %7s %8s %-7s %-*s COMMAND\n", a->threads ? "TID" : "PID",
           "PARENT", "START", "END", "INSTRUCTIONS", "CALLS", "FAULTS", "CHILDREN", "EXIT",
           wide ? BAR : 4, wide ? "TIMELINE" : "");
    for (size_t i = 0; i < r->tasks; i++) {
        const struct rv_run_task *t = &r->task[i];
        char number[32], how[16], line[BAR + 1], end[32];
        if (!wanted(a, r, i)) continue;
        exit_text(t, how, sizeof how);
        bar(r, t, line);
        snprintf(end, sizeof end, "%.6f", retro_seconds(t->end_time));
        printf("%6u %6u %12.6f %12s %16s %9" PRIu64 " %7" PRIu64 " %8" PRIu64 " %-7s %s ", t->tid,
               t->parent == RV_NONE ? 0 : r->task[t->parent].pid, retro_seconds(t->start_time),
               t->end == RV_NEVER ? "-" : end, retro_group(s[i].instructions, number),
               s[i].syscalls, s[i].faults, s[i].children, how, wide ? line : "");
        retro_print_text(stdout, (const uint8_t *)t->comm, strlen(t->comm));
        if (t->exe) {
            fputs(" (", stdout);
            retro_print_text(stdout, (const uint8_t *)t->exe, strlen(t->exe));
            putchar(')');
        }
        putchar('\n');
    }
    free(s);
}

static void print_json(const struct args *a, const struct rv_guest_run *r) {
    struct sums *s = add_up(a, r);
    for (size_t i = 0; i < r->tasks; i++) {
        const struct rv_run_task *t = &r->task[i];
        if (!wanted(a, r, i)) continue;
        json_t *o = json_object();
        json_object_set_new(o, "tid", json_integer(t->tid));
        json_object_set_new(o, "pid", json_integer(t->pid));
        if (t->parent != RV_NONE)
            json_object_set_new(o, "parent", json_integer(r->task[t->parent].pid));
        json_object_set_new(o, "kernel", json_boolean(t->kernel));
        json_object_set_new(o, "comm", retro_json_utf8z(t->comm));
        if (t->exe) json_object_set_new(o, "exe", retro_json_utf8z(t->exe));
        json_object_set_new(o, "start", json_integer((json_int_t)t->start));
        json_object_set_new(o, "start_time", json_integer((json_int_t)t->start_time));
        if (t->end != RV_NEVER) {
            json_object_set_new(o, "end", json_integer((json_int_t)t->end));
            json_object_set_new(o, "end_time", json_integer((json_int_t)t->end_time));
        }
        if (t->exited) json_object_set_new(o, "exit_code", json_integer(t->exit_code));
        json_object_set_new(o, "instructions", json_integer((json_int_t)s[i].instructions));
        json_object_set_new(o, "cpu_time", json_integer((json_int_t)s[i].cpu_time));
        json_object_set_new(o, "syscalls", json_integer((json_int_t)s[i].syscalls));
        json_object_set_new(o, "faults", json_integer((json_int_t)s[i].faults));
        json_object_set_new(o, "children", json_integer((json_int_t)s[i].children));
        retro_json_put(stdout, o, RETRO_JSON_LINE);
    }
    free(s);
}

static int ps_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_guest_run *run = NULL;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    int r = retro_ask_open(&a.ask, a.path, "looking", &err);
    struct rv_run_config config = {.timeline = a.ask.timeline,
                                   .what = RV_RUN_TASKS | RV_RUN_SYSCALLS | RV_RUN_TRAPS,
                                   .progress = retro_ask_progress,
                                   .ctx = &a.ask};
    if (!r) r = rv_run_gather(&run, &config, &err);
    if (!r) r = retro_ask_needs_linux(run, &err);
    retro_ask_quiet(&a.ask);
    if (!r && a.ask.verbose) fprintf(stderr, "retro: %s, by %s\n", run->system, run->system_note);
    if (!r && a.ask.json) print_json(&a, run);
    if (!r && !a.ask.json) print_human(&a, run);
    if (!r && run->interrupted) status = retro_ask_interrupted(&a.ask, run->end);
    rv_run_free(run);
    r = retro_ask_close(&a.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_ps = {
    .name = "ps",
    .brief = "list the processes that were, with what they did",
    .help = "Usage: retro ps [OPTION]... FILE\n"
            "Lists the processes of a Linux guest over the whole recording: when they began and\n"
            "ended (guest time), instructions run in them and for them in the kernel, system\n"
            "calls, page faults, children, how they ended, and a timeline on a terminal.\n\n"
            "      --threads        every thread by itself\n"
            "      --all            kernel threads and the idle task, too\n" RETRO_ASK_HELP "\n"
            "Example: retro ps boot.retro\n",
    .main = ps_main,
};
