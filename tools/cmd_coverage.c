/* retro coverage */
#include "tools/ask.h"

#include <inttypes.h>

#include "tools/analysis/coverage.h"

struct args {
    struct retro_ask ask;
    const char *path, *out, *from, *to;
};

enum { OPT_FROM = RETRO_ASK_OWN, OPT_TO };

static const struct option options[] = {
    {"output", required_argument, NULL, 'o'},
    {"from", required_argument, NULL, OPT_FROM},
    {"to", required_argument, NULL, OPT_TO},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_coverage;
    *a = (struct args){0};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT "o:", options, NULL)) != -1) {
        switch (opt) {
        case 'o': a->out = optarg; break;
        case OPT_FROM: a->from = optarg; break;
        case OPT_TO: a->to = optarg; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "coverage takes one trace");
    if (a->ask.json)
        return retro_usage(cmd, "coverage has no --json; lcov's format is for machines");
    a->path = argv[optind];
    return RETRO_OK;
}

static void print_part(const char *what, uint64_t run, uint64_t all) {
    char a[32], b[32];
    fprintf(stderr, "retro: %s of %s %s ran (%.1f%%)\n", retro_group(run, a), retro_group(all, b),
            what, all ? 100 * (double)run / (double)all : 0);
}

static int put_all(const struct rv_tally *t, const struct rv_guest *g, FILE *out,
                   struct rv_coverage_sums *sums, struct rv_err *err) {
    int r = 0;
    for (unsigned i = 0; !r && i < rv_guest_files(g); i++)
        r = rv_coverage_file(t, g, i, out, sums, err);
    if (!rv_guest_files(g)) rv_coverage_kernel(t, g, out, sums);
    return r;
}

static int write_out(const struct args *a, const struct rv_tally *t, const struct rv_guest *g,
                     struct rv_err *err) {
    struct rv_coverage_sums sums = {0};
    FILE *out = a->out ? fopen(a->out, "we") : stdout;
    if (!out) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", a->out);
    int r = put_all(t, g, out, &sums, err);
    bool bad = ferror(out);
    if (a->out) bad |= fclose(out) != 0;
    if (!r && bad) r = rv_fail_errno(err, RV_E_HOST, "cannot write %s", a->out ? a->out : "it");
    if (r || a->ask.quiet) return r;
    if (sums.lines) print_part("lines", sums.lines_run, sums.lines);
    print_part("functions", sums.functions_run, sums.functions);
    return 0;
}

static int coverage_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_tally *t = NULL;
    struct rv_guest *guest = NULL;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    int r = retro_ask_open(&a.ask, a.path, "counting", &err);
    struct rv_tally_config config = {
        .timeline = a.ask.timeline, .code = true, .progress = retro_ask_progress, .ctx = &a.ask};
    if (!r) r = retro_ask_range(&a.ask, a.from, a.to, &config.from, &config.to, &err);
    if (!r) r = retro_ask_guest(&a.ask, &guest, &err);
    config.guest = guest;
    if (!r && !rv_guest_files(guest) && !rv_guest_linux(guest))
        r = rv_fail(&err, RV_E_USAGE,
                    "whose coverage? The guest was not recognised as a Linux (%s); give the "
                    "program with --symbols ELF",
                    rv_guest_why_not(guest));
    if (!r) r = rv_tally_gather(&t, &config, &err);
    retro_ask_quiet(&a.ask);
    if (!r) r = write_out(&a, t, guest, &err);
    if (!r && t->interrupted) status = retro_ask_interrupted(&a.ask, t->upto);
    rv_tally_free(t);
    rv_guest_free(guest);
    r = retro_ask_close(&a.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_coverage = {
    .name = "coverage",
    .brief = "tell which lines and functions ran, and how often",
    .help =
        "Usage: retro coverage [OPTION]... FILE\n"
        "Writes what ran as an lcov tracefile, for genhtml and others: of the programs given\n"
        "with --symbols, each line by their debug information; without, each function of the\n"
        "guest's kernel. Counts are exact.\n\n"
        "      --symbols ELF    a program as it was built, up to 16 times; ELF@ADDRESS puts it\n"
        "                       there (a module, firmware)\n"
        "  -o, --output FILE    write there (default: standard output)\n"
        "      --from P --to P  only between these positions\n" RETRO_ASK_HELP "\n"
        "Example: retro coverage --symbols ledger -o ledger.info crash.retro\n",
    .main = coverage_main,
};
