/* retro calls */
#include "tools/ask.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "tools/analysis/calls.h"
#include "tools/analysis/flame.h"
#include "tools/show.h"

struct args {
    struct retro_ask ask;
    const char *path, *svg, *from, *to;
    bool folded;
    uint32_t pid;
    uint64_t depth;
    double least; /* percent */
};

enum { OPT_FOLDED = RETRO_ASK_OWN, OPT_SVG, OPT_PROCESS, OPT_FROM, OPT_TO, OPT_DEPTH, OPT_LEAST };

static const struct option options[] = {
    {"folded", no_argument, NULL, OPT_FOLDED},
    {"svg", required_argument, NULL, OPT_SVG},
    {"process", required_argument, NULL, OPT_PROCESS},
    {"from", required_argument, NULL, OPT_FROM},
    {"to", required_argument, NULL, OPT_TO},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"least", required_argument, NULL, OPT_LEAST},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_calls;
    *a = (struct args){.depth = 1024, .least = 1};
    retro_ask_init(&a->ask);
    char *end;
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_FOLDED: a->folded = true; break;
        case OPT_SVG: a->svg = optarg; break;
        case OPT_PROCESS: status = retro_ask_process(cmd, optarg, &a->pid); break;
        case OPT_FROM: a->from = optarg; break;
        case OPT_TO: a->to = optarg; break;
        case OPT_DEPTH:
            if (!retro_parse_count(optarg, &a->depth))
                return retro_usage(cmd, "--depth %s is not a number", optarg);
            break;
        case OPT_LEAST:
            a->least = strtod(optarg, &end);
            if (end == optarg || *end || !(a->least >= 0 && a->least <= 100))
                return retro_usage(cmd, "--least %s is not a share in percent", optarg);
            break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "calls takes one trace");
    if (a->folded && a->ask.json) return retro_usage(cmd, "--folded and --json exclude each other");
    a->path = argv[optind];
    return RETRO_OK;
}

/* The node after i in the order of the tree, and its depth; 0: none. */
static uint32_t after(const struct rv_calls *c, uint32_t i, bool into, unsigned *depth) {
    if (into && c->node[i].first) {
        ++*depth;
        return c->node[i].first;
    }
    while (i && !c->node[i].next) {
        i = c->node[i].in;
        --*depth;
    }
    return i ? c->node[i].next : 0;
}

static void print_human(const struct args *a, const struct rv_calls *c) {
    char all[32], own[32], calls[32];
    unsigned depth = 0;
    double total = c->node[0].all ? (double)c->node[0].all : 1;
    printf("%18s %7s %16s %12s %12s  FUNCTION\n", "INSTRUCTIONS", "SHARE", "OWN", "CALLS",
           "SECONDS");
    printf("%18s %6.2f%% %16s %12s %12.6f  (all)\n", retro_group(c->node[0].all, all), 100.0, "",
           "", retro_seconds(c->node[0].time));
    bool into = true;
    for (uint32_t i = after(c, 0, true, &depth); i; i = after(c, i, into, &depth)) {
        const struct rv_call_node *n = &c->node[i];
        double share = 100 * (double)n->all / total;
        into = share >= a->least && depth < a->depth;
        if (share < a->least) continue;
        printf("%18s %6.2f%% %16s %12s %12.6f  %*s", retro_group(n->all, all), share,
               retro_group(n->own, own), n->calls ? retro_group(n->calls, calls) : "-",
               retro_seconds(n->time), (int)(2 * depth), "");
        retro_print_text(stdout, (const uint8_t *)n->name, strlen(n->name));
        if (*n->module && strcmp(n->module, "[kernel]") != 0) {
            fputs("  ", stdout);
            retro_print_text(stdout, (const uint8_t *)n->module, strlen(n->module));
        }
        putchar('\n');
    }
}

static void print_json(const struct rv_calls *c) {
    unsigned depth = 0;
    for (uint32_t i = after(c, 0, true, &depth); i; i = after(c, i, true, &depth)) {
        const struct rv_call_node *n = &c->node[i];
        json_t *o = json_object();
        json_object_set_new(o, "node", json_integer(i));
        json_object_set_new(o, "in", json_integer(n->in));
        json_object_set_new(o, "depth", json_integer(depth));
        json_object_set_new(o, "name", retro_json_utf8z(n->name));
        json_object_set_new(o, "module", retro_json_utf8z(n->module));
        json_object_set_new(o, "calls", json_integer((json_int_t)n->calls));
        json_object_set_new(o, "own", json_integer((json_int_t)n->own));
        json_object_set_new(o, "instructions", json_integer((json_int_t)n->all));
        json_object_set_new(o, "own_time", json_integer((json_int_t)n->own_time));
        json_object_set_new(o, "time", json_integer((json_int_t)n->time));
        retro_json_put(stdout, o, RETRO_JSON_LINE);
    }
}

static struct rv_flame *flame_of(const struct rv_calls *c) {
    struct rv_flame *flame = rv_flame_new();
    uint32_t *frame = rv_alloc(c->nodes * sizeof *frame);
    unsigned depth = 0;
    rv_flame_add(flame, RV_FLAME_ROOT, c->node[0].own);
    for (uint32_t i = after(c, 0, true, &depth); i; i = after(c, i, true, &depth)) {
        const struct rv_call_node *n = &c->node[i];
        frame[i] = rv_flame_frame(flame, frame[n->in], n->name);
        rv_flame_add(flame, frame[i], n->own);
    }
    free(frame);
    return flame;
}

static int write_svg(const struct args *a, struct rv_flame *flame, struct rv_err *err) {
    char title[600];
    FILE *out = fopen(a->svg, "we");
    if (!out) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", a->svg);
    snprintf(title, sizeof title, "%s: instructions by call stack", a->path);
    rv_flame_svg(flame, title, "instructions", out);
    bool bad = ferror(out);
    if (fclose(out) || bad) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", a->svg);
    if (!a->ask.quiet) fprintf(stderr, "retro: wrote %s\n", a->svg);
    return 0;
}

static int show(const struct args *a, const struct rv_calls *c, struct rv_err *err) {
    struct rv_flame *flame = a->folded || a->svg ? flame_of(c) : NULL;
    int r = a->svg ? write_svg(a, flame, err) : 0;
    if (a->folded)
        rv_flame_folded(flame, stdout);
    else if (a->ask.json)
        print_json(c);
    else if (!a->svg)
        print_human(a, c);
    rv_flame_free(flame);
    if (c->cut && !a->ask.quiet)
        fputs("retro: there are too many or too deep call paths; some are not told apart; "
              "look at a part with --from and --to\n",
              stderr);
    return r;
}

static int calls_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_calls *c = NULL;
    struct rv_guest *guest = NULL;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    int r = retro_ask_open(&a.ask, a.path, "following calls", &err);
    struct rv_calls_config config = {
        .timeline = a.ask.timeline, .pid = a.pid, .progress = retro_ask_progress, .ctx = &a.ask};
    if (!r) r = retro_ask_range(&a.ask, a.from, a.to, &config.from, &config.to, &err);
    if (!r) r = retro_ask_guest(&a.ask, &guest, &err);
    config.guest = guest;
    if (!r && a.pid && !rv_guest_linux(guest))
        r = rv_fail(&err, RV_E_UNSUPPORTED, "there are no processes: %s", rv_guest_why_not(guest));
    if (!r) r = rv_calls_gather(&c, &config, &err);
    retro_ask_quiet(&a.ask);
    if (!r) r = show(&a, c, &err);
    if (!r && c->interrupted) status = retro_ask_interrupted(&a.ask, c->upto);
    rv_calls_free(c);
    rv_guest_free(guest);
    r = retro_ask_close(&a.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_calls = {
    .name = "calls",
    .brief = "show the call tree, with instructions and time",
    .help =
        "Usage: retro calls [OPTION]... FILE\n"
        "Follows every call and return and shows which function called which: instructions with\n"
        "and without those of what it called, how often, and guest time; through system calls and\n"
        "interrupts, apart for each process. All counts are exact. It looks at every call in "
        "turn,\n"
        "so a range or a short recording is quicker.\n\n"
        "      --process PID    only that process\n"
        "      --from P --to P  only between these positions\n"
        "      --least PERCENT  leave out what has a smaller share (default 1)\n"
        "      --depth N        not deeper than so many levels\n"
        "      --folded         folded stacks, for flame graph tools\n"
        "      --svg FILE       a flame graph, to be opened in a browser\n"
        "      --symbols ELF    a program with symbols, in place of the guest's stripped one, or "
        "of\n"
        "                       a guest that is no Linux; up to 16\n" RETRO_ASK_HELP "\n"
        "Example: retro calls --process 85 --symbols ledger crash.retro\n",
    .main = calls_main,
};
