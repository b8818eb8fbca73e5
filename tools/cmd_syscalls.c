/* retro syscalls */
#include "tools/ask.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/run.h"
#include "tools/analysis/syscall.h"
#include "vmm/base/buf.h"

struct args {
    struct retro_ask ask;
    const char *path;
    char *names; /* of --only, each ended with NUL and the last with two; owned */
    uint32_t process;
    bool summary;
};

enum { OPT_PROCESS = RETRO_ASK_OWN, OPT_ONLY, OPT_SUMMARY };

static const struct option options[] = {
    {"process", required_argument, NULL, OPT_PROCESS},
    {"only", required_argument, NULL, OPT_ONLY},
    {"summary", no_argument, NULL, OPT_SUMMARY},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse_only(struct args *a, const char *list) {
    free(a->names);
    size_t n = strlen(list);
    a->names = rv_alloc(n + 2); /* the end of the list is an empty name */
    memcpy(a->names, list, n);
    for (char *p = a->names; *p; p++)
        if (*p == ',') *p = 0;
    for (const char *p = a->names, *end = a->names + strlen(list); p < end; p += strlen(p) + 1)
        if (rv_syscall_number(p) < 0)
            return retro_usage(&retro_cmd_syscalls, "--only: there is no system call \"%s\"", p);
    return RETRO_OK;
}

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_syscalls;
    *a = (struct args){0};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_PROCESS: status = retro_ask_process(cmd, optarg, &a->process); break;
        case OPT_ONLY: status = parse_only(a, optarg); break;
        case OPT_SUMMARY: a->summary = true; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "syscalls takes one trace");
    a->path = argv[optind];
    return RETRO_OK;
}

static bool wanted(const struct args *a, const struct rv_guest_run *r,
                   const struct rv_run_syscall *s) {
    const struct rv_run_task *t = &r->task[s->task];
    if (a->process && t->pid != a->process && t->tid != a->process) return false;
    if (!a->names) return true;
    for (const char *p = a->names; *p; p += strlen(p) + 1)
        if (strcmp(p, s->name) == 0) return true;
    return false;
}

/* "= 3", "= -1 ENOENT", "= ?" as strace writes it. */
static void result_text(const struct rv_run_syscall *s, char *out, size_t size) {
    if (s->exit == RV_NEVER)
        snprintf(out, size, "?");
    else if (s->result < 0 && s->result >= -4095) {
        const char *name = rv_errno_name(-s->result);
        if (s->result <= -512 && name)
            snprintf(out, size, "? %s", name);
        else if (name)
            snprintf(out, size, "-1 %s", name);
        else
            snprintf(out, size, "-1 (error %" PRId64 ")", -s->result);
    } else if (rv_syscall_returns_address(s->number) || s->result < 0 || s->result > INT32_MAX)
        snprintf(out, size, "%#" PRIx64, (uint64_t)s->result);
    else
        snprintf(out, size, "%" PRId64, s->result);
}

static void print_human(const struct rv_guest_run *r, const struct rv_run_syscall *s, size_t i) {
    const struct rv_run_task *t = &r->task[s->task];
    char result[64];
    result_text(s, result, sizeof result);
    printf("%7zu %14" PRIu64 " %12.6f %5u ", i, s->enter, retro_seconds(s->enter_time), t->tid);
    retro_print_text(stdout, (const uint8_t *)t->comm, strlen(t->comm));
    printf(": %s(%s) = %s", s->name, s->args, result);
    if (s->exit != RV_NEVER) printf(" <%.6f>", retro_seconds(s->exit_time - s->enter_time));
    putchar('\n');
}

static void print_json(const struct rv_guest_run *r, const struct rv_run_syscall *s, size_t i) {
    const struct rv_run_task *t = &r->task[s->task];
    json_t *o = json_object(), *args = json_array();
    json_object_set_new(o, "number", json_integer((json_int_t)i));
    json_object_set_new(o, "position", json_integer((json_int_t)s->enter));
    json_object_set_new(o, "time", json_integer((json_int_t)s->enter_time));
    json_object_set_new(o, "tid", json_integer(t->tid));
    json_object_set_new(o, "pid", json_integer(t->pid));
    json_object_set_new(o, "comm", retro_json_utf8z(t->comm));
    json_object_set_new(o, "name", json_string(s->name));
    json_object_set_new(o, "nr", json_integer(s->number));
    json_object_set_new(o, "abi", json_string(s->abi == RV_ABI_64 ? "x86-64" : "i386"));
    json_object_set_new(o, "text", json_string(s->args));
    for (unsigned k = 0; k < 6; k++) json_array_append_new(args, retro_json_hex(s->arg[k]));
    json_object_set_new(o, "args", args);
    json_object_set_new(o, "rip", retro_json_hex(s->rip));
    if (s->exit != RV_NEVER) {
        json_object_set_new(o, "exit", json_integer((json_int_t)s->exit));
        json_object_set_new(o, "exit_time", json_integer((json_int_t)s->exit_time));
        json_object_set_new(o, "result", json_integer((json_int_t)s->result));
        if (s->result < 0 && s->result >= -4095 && rv_errno_name(-s->result))
            json_object_set_new(o, "errno", json_string(rv_errno_name(-s->result)));
    }
    retro_json_put(stdout, o, RETRO_JSON_LINE);
}

/* ---- sums by call ---- */

struct sum {
    const char *name;
    uint64_t calls, errors;
    rv_ns time;
};

static int by_time(const void *pa, const void *pb) {
    const struct sum *a = pa, *b = pb;
    if (a->time != b->time) return a->time > b->time ? -1 : 1;
    return strcmp(a->name, b->name);
}

static void print_summary(const struct args *a, const struct rv_guest_run *r) {
    struct sum *sum = rv_alloc((r->syscalls + 1) * sizeof *sum);
    size_t n = 0;
    for (size_t i = 0; i < r->syscalls; i++) {
        const struct rv_run_syscall *s = &r->syscall[i];
        if (!wanted(a, r, s)) continue;
        size_t k = 0;
        while (k < n && strcmp(sum[k].name, s->name) != 0) k++;
        if (k == n) sum[n++].name = s->name;
        sum[k].calls++;
        if (s->exit == RV_NEVER) continue;
        sum[k].errors += s->result < 0 && s->result >= -4095;
        sum[k].time += s->exit_time - s->enter_time;
    }
    qsort(sum, n, sizeof *sum, by_time);
    if (!a->ask.json) printf("%12s %10s %10s  %s\n", "seconds", "calls", "errors", "call");
    for (size_t k = 0; k < n; k++) {
        if (a->ask.json) {
            json_t *o = json_pack("{s:s, s:I, s:I, s:I}", "name", sum[k].name, "calls",
                                  (json_int_t)sum[k].calls, "errors", (json_int_t)sum[k].errors,
                                  "time", (json_int_t)sum[k].time);
            retro_json_put(stdout, o, RETRO_JSON_LINE);
        } else {
            printf("%12.6f %10" PRIu64 " %10" PRIu64 "  %s\n", retro_seconds(sum[k].time),
                   sum[k].calls, sum[k].errors, sum[k].name);
        }
    }
    free(sum);
}

static void print_all(const struct args *a, const struct rv_guest_run *r) {
    if (a->summary) {
        print_summary(a, r);
        return;
    }
    for (size_t i = 0; i < r->syscalls && !ferror(stdout); i++) {
        if (!wanted(a, r, &r->syscall[i])) continue;
        if (a->ask.json)
            print_json(r, &r->syscall[i], i);
        else
            print_human(r, &r->syscall[i], i);
    }
}

static int syscalls_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_guest_run *run = NULL;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) {
        free(a.names);
        return status;
    }
    int r = retro_ask_open(&a.ask, a.path, "looking", &err);
    struct rv_run_config config = {.timeline = a.ask.timeline,
                                   .what = RV_RUN_SYSCALLS,
                                   .progress = retro_ask_progress,
                                   .ctx = &a.ask};
    if (!r) r = rv_run_gather(&run, &config, &err);
    if (!r) r = retro_ask_needs_linux(run, &err);
    retro_ask_quiet(&a.ask);
    if (!r) print_all(&a, run);
    if (!r && run->interrupted) status = retro_ask_interrupted(&a.ask, run->end);
    rv_run_free(run);
    free(a.names);
    r = retro_ask_close(&a.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_syscalls = {
    .name = "syscalls",
    .brief = "list the system calls of every process",
    .help = "Usage: retro syscalls [OPTION]... FILE\n"
            "Lists the system calls of a Linux guest, of every process and in order, as strace\n"
            "does: number, position, guest time, thread, command, call and result, time taken. "
            "Nothing has\n"
            "to be installed in the guest.\n\n"
            "      --process PID    only of this process or thread\n"
            "      --only NAME,...  only these calls\n"
            "      --summary        sums by call: time, calls, errors\n" RETRO_ASK_HELP "\n"
            "Example: retro syscalls --only openat,execve boot.retro\n",
    .main = syscalls_main,
};
