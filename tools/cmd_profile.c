/* retro profile */
#include "tools/ask.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/flame.h"
#include "tools/analysis/tally.h"
#include "vmm/base/buf.h"

struct args {
    struct retro_ask ask;
    const char *path, *svg;
    bool folded, processes;
    uint64_t top;
    const char *from, *to;
    int64_t pid; /* -1: all */
};

enum { OPT_FOLDED = RETRO_ASK_OWN, OPT_SVG, OPT_TOP, OPT_PROCESSES, OPT_PROCESS, OPT_FROM, OPT_TO };

static const struct option options[] = {
    {"folded", no_argument, NULL, OPT_FOLDED},
    {"svg", required_argument, NULL, OPT_SVG},
    {"top", required_argument, NULL, OPT_TOP},
    {"processes", no_argument, NULL, OPT_PROCESSES},
    {"process", required_argument, NULL, OPT_PROCESS},
    {"from", required_argument, NULL, OPT_FROM},
    {"to", required_argument, NULL, OPT_TO},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_profile;
    *a = (struct args){.top = 30, .pid = -1};
    retro_ask_init(&a->ask);
    uint64_t n;
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_FOLDED: a->folded = true; break;
        case OPT_SVG: a->svg = optarg; break;
        case OPT_TOP:
            if (!retro_parse_count(optarg, &a->top))
                return retro_usage(cmd, "--top %s is not a number", optarg);
            break;
        case OPT_PROCESSES: a->processes = true; break;
        case OPT_PROCESS:
            if (!retro_parse_count(optarg, &n) || n > UINT32_MAX)
                return retro_usage(cmd, "--process %s is not a process number", optarg);
            a->pid = (int64_t)n;
            break;
        case OPT_FROM: a->from = optarg; break;
        case OPT_TO: a->to = optarg; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "profile takes one trace");
    if (a->folded + a->processes + a->ask.json > 1)
        return retro_usage(cmd, "only one of --folded, --processes and --json can be had");
    a->path = argv[optind];
    return RETRO_OK;
}

static bool wanted(const struct args *a, const struct rv_tally_process *p) {
    return a->pid < 0 || p->pid == a->pid;
}

static const char *name_of(const struct rv_tally_function *f) { return f->name ? f->name : "?"; }

static void print_guest_text(const char *s) {
    retro_print_text(stdout, (const uint8_t *)s, strlen(s));
}

/* What is shown: of the functions, as far as wanted processes ran them. */
static uint64_t *sums(const struct args *a, const struct rv_tally *t, uint64_t *total) {
    uint64_t *s = rv_alloc((t->functions + 1) * sizeof *s);
    *total = 0;
    for (size_t i = 0; i < t->entries; i++) {
        const struct rv_tally_entry *e = &t->entry[i];
        if (!wanted(a, &t->process[e->process])) continue;
        s[e->function] += e->instructions;
        *total += e->instructions;
    }
    return s;
}

static int most_first(const void *pa, const void *pb, void *ctx) {
    const uint64_t *s = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    if (s[a] != s[b]) return s[a] > s[b] ? -1 : 1;
    return a < b ? -1 : a > b;
}

static void print_functions(const struct args *a, const struct rv_tally *t) {
    uint64_t total, shown = 0;
    uint64_t *s = sums(a, t, &total);
    uint32_t *order = rv_alloc((t->functions + 1) * sizeof *order);
    char n[32];
    for (size_t i = 0; i < t->functions; i++) order[i] = (uint32_t)i;
    if (t->functions) qsort_r(order, t->functions, sizeof *order, most_first, s);
    printf("%18s %7s  %-40s %s\n", "INSTRUCTIONS", "SHARE", "FUNCTION", "WHERE");
    for (size_t i = 0; i < t->functions && i < a->top && s[order[i]]; i++) {
        const struct rv_tally_function *f = &t->function[order[i]];
        printf("%18s %6.2f%%  %-40s ", retro_group(s[order[i]], n),
               100 * (double)s[order[i]] / (double)total, name_of(f));
        print_guest_text(f->module);
        putchar('\n');
        shown += s[order[i]];
    }
    if (shown < total)
        printf("%18s %6.2f%%  (all others)\n", retro_group(total - shown, n),
               100 * (double)(total - shown) / (double)total);
    printf("%18s          total\n", retro_group(total, n));
    free(order);
    free(s);
}

static void print_processes(const struct args *a, const struct rv_tally *t) {
    char n[32];
    uint64_t total = 0;
    printf("%18s %7s %6s  COMMAND\n", "INSTRUCTIONS", "SHARE", "PID");
    for (size_t i = 0; i < t->processes; i++) {
        const struct rv_tally_process *p = &t->process[i];
        if (!wanted(a, p)) continue;
        printf("%18s %6.2f%% %6u  ", retro_group(p->instructions, n),
               100 * (double)p->instructions / (double)t->total, p->pid);
        print_guest_text(p->comm);
        putchar('\n');
        total += p->instructions;
    }
    printf("%18s                 total\n", retro_group(total, n));
}

static void print_json(const struct args *a, const struct rv_tally *t) {
    uint64_t total = 0;
    for (size_t i = 0; i < t->entries; i++) {
        const struct rv_tally_entry *e = &t->entry[i];
        const struct rv_tally_process *p = &t->process[e->process];
        const struct rv_tally_function *f = &t->function[e->function];
        if (!wanted(a, p)) continue;
        total += e->instructions;
        json_t *o = json_object();
        json_object_set_new(o, "pid", json_integer(p->pid));
        json_object_set_new(o, "comm", retro_json_utf8z(p->comm));
        json_object_set_new(o, "function", f->name ? retro_json_utf8z(f->name) : json_null());
        json_object_set_new(o, "module", retro_json_utf8z(f->module));
        json_object_set_new(o, "address", retro_json_hex(f->address));
        json_object_set_new(o, "user", json_boolean(f->user));
        json_object_set_new(o, "instructions", json_integer((json_int_t)e->instructions));
        retro_json_put(stdout, o, RETRO_JSON_LINE);
    }
    json_t *o = json_pack("{s:I, s:I}", "total", (json_int_t)total, "upto", (json_int_t)t->upto);
    retro_json_put(stdout, o, RETRO_JSON_LINE);
}

/* Process, privilege and module, function. */
static struct rv_flame *flame_of(const struct args *a, const struct rv_tally *t) {
    struct rv_flame *flame = rv_flame_new();
    char who[64];
    for (size_t i = 0; i < t->entries; i++) {
        const struct rv_tally_entry *e = &t->entry[i];
        const struct rv_tally_process *p = &t->process[e->process];
        const struct rv_tally_function *f = &t->function[e->function];
        if (!wanted(a, p)) continue;
        snprintf(who, sizeof who, "%s (%u)", p->comm, p->pid);
        uint32_t at = rv_flame_frame(flame, RV_FLAME_ROOT, who);
        at = rv_flame_frame(flame, at, f->module);
        if (f->name) at = rv_flame_frame(flame, at, f->name);
        rv_flame_add(flame, at, e->instructions);
    }
    return flame;
}

static int write_svg(const struct args *a, struct rv_flame *flame, struct rv_err *err) {
    char title[600];
    FILE *out = fopen(a->svg, "we");
    if (!out) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", a->svg);
    snprintf(title, sizeof title, "%s: instructions by process and function", a->path);
    rv_flame_svg(flame, title, "instructions", out);
    bool bad = ferror(out);
    if (fclose(out) || bad) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", a->svg);
    if (!a->ask.quiet) fprintf(stderr, "retro: wrote %s\n", a->svg);
    return 0;
}

static int show(const struct args *a, const struct rv_tally *t, struct rv_err *err) {
    struct rv_flame *flame = a->folded || a->svg ? flame_of(a, t) : NULL;
    int r = a->svg ? write_svg(a, flame, err) : 0;
    if (a->folded)
        rv_flame_folded(flame, stdout);
    else if (a->processes)
        print_processes(a, t);
    else if (a->ask.json)
        print_json(a, t);
    else if (!a->svg)
        print_functions(a, t);
    rv_flame_free(flame);
    return r;
}

static int profile_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_tally *t = NULL;
    struct rv_guest *guest = NULL;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    int r = retro_ask_open(&a.ask, a.path, "counting", &err);
    struct rv_tally_config config = {
        .timeline = a.ask.timeline, .to = RV_NEVER, .progress = retro_ask_progress, .ctx = &a.ask};
    if (!r) r = retro_ask_range(&a.ask, a.from, a.to, &config.from, &config.to, &err);
    if (!r) r = retro_ask_guest(&a.ask, &guest, &err);
    config.guest = guest;
    if (!r) r = rv_tally_gather(&t, &config, &err);
    retro_ask_quiet(&a.ask);
    if (!r) r = show(&a, t, &err);
    if (!r && t->interrupted) status = retro_ask_interrupted(&a.ask, t->upto);
    rv_tally_free(t);
    rv_guest_free(guest);
    r = retro_ask_close(&a.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_profile = {
    .name = "profile",
    .brief = "count instructions by function and process, exactly",
    .help =
        "Usage: retro profile [OPTION]... FILE\n"
        "Replays and counts every instruction: which function of the kernel or of a program it\n"
        "belongs to, and which process ran it. The counts add up to the length of the "
        "recording.\n\n"
        "      --top N          show so many functions (default 30)\n"
        "      --processes      sums by process instead\n"
        "      --process PID    only that process\n"
        "      --from P --to P  only between these positions\n"
        "      --folded         process, module and function as folded stacks\n"
        "      --svg FILE       a flame graph, to be opened in a browser\n"
        "      --symbols ELF    a program with symbols, in place of the guest's stripped one, or "
        "of\n"
        "                       a guest that is no Linux; up to 16\n" RETRO_ASK_HELP "\n"
        "Example: retro profile --symbols ledger --svg boot.svg boot.retro\n",
    .main = profile_main,
};
