/* retro lift */
#include "tools/retro.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

enum { OPT_JSON = 256 };

static const struct option options[] = {
    {"output", required_argument, NULL, 'o'},
    {"force", no_argument, NULL, 'f'},
    {"engine", required_argument, NULL, 'e'},
    {"json", no_argument, NULL, OPT_JSON},
    {NULL, 0, NULL, 0},
};

static int lift_main(int argc, char **argv) {
    const struct retro_command *cmd = &retro_cmd_lift;
    struct retro_lift how = {0};
    const char *engine = "auto";
    bool json = false;
    int opt;
    while ((opt = getopt_long(argc, argv, ":o:fe:", options, NULL)) != -1) {
        switch (opt) {
        case 'o': how.out = optarg; break;
        case 'f': how.overwrite = true; break;
        case 'e': engine = optarg; break;
        case OPT_JSON: json = true; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind + 1 != argc) return retro_usage(cmd, "lift takes one trace");
    how.path = argv[optind];
    if (!how.out) how.out = how.path;
    struct rv_err err = {0};
    struct retro_lift_result result = {0};
    retro_catch_signals();
    how.meter = retro_meter_new(isatty(STDERR_FILENO), "lifting", retro_trace_length(how.path));
    retro_meter_count_traps(how.meter);
    double began = retro_now();
    int r = retro_engine(engine, false, &how.engine, &err);
    if (!r && !how.engine->counts)
        r = rv_fail(&err, RV_E_USAGE, "engine %s does not count instructions; take a software one",
                    how.engine->name);
    if (!r) r = retro_lift(&how, &result, &err);
    double seconds = retro_now() - began;
    retro_meter_free(how.meter);
    char a[32], b[32], c[32], d[32];
    if (r == RV_E_DIVERGED && result.kept)
        rv_fail_in(&err, "%s holds what agreed, %s instructions", how.out,
                   retro_group(result.agreed.icount, a));
    else if (r == RV_E_DIVERGED)
        rv_fail_in(&err, "%s is as it was; to keep what agreed, use --output", how.path);
    if (r) return retro_error(&err);
    if (json) {
        retro_json_put(
            stdout,
            json_pack("{s:s, s:f, s:I, s:I, s:I, s:I}", "engine", how.engine->name, "seconds",
                      seconds, "instructions", (json_int_t)result.end.at.icount, "events",
                      (json_int_t)result.stats.events, "landmarks", (json_int_t)result.landmarks,
                      "candidates", (json_int_t)result.candidates),
            RETRO_JSON_LINE);
        return RETRO_OK;
    }
    fprintf(stderr,
            "retro: lifted %s instructions and %s events in %.2f s (%s); %s places between traps, "
            "%s states looked at for them\n",
            retro_group(result.end.at.icount, a), retro_group(result.stats.events, b), seconds,
            how.engine->name, retro_group(result.landmarks, c), retro_group(result.candidates, d));
    return RETRO_OK;
}

const struct retro_command retro_cmd_lift = {
    .name = "lift",
    .brief = "give the events of a hardware recording instructions for positions",
    .help =
        "Usage: retro lift [OPTION]... FILE\n"
        "Replays a recording made on hardware once in software, and writes it anew with the\n"
        "count of instructions at each event, as a recording made in software has it. Tools\n"
        "that need this do it by themselves. FILE is replaced unless --output is given; a\n"
        "lifted recording no longer replays on hardware. If the replay diverges, OUT holds what\n"
        "agreed, for all tools to look at.\n\n"
        "  -o, --output OUT     write OUT and leave FILE as it is\n"
        "  -f, --force          replace OUT if it exists\n"
        "  -e, --engine ENGINE  a software engine; auto (default) takes the fastest\n"
        "      --json           for machines: one object\n\n"
        "Example: retro lift -o lifted.retro recorded.retro\n",
    .main = lift_main,
};
