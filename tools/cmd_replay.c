/* retro replay */
#include "tools/retro.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "replay/session.h"
#include "vmm/host/live.h"

struct args {
    struct rv_replay_config config;
    bool quiet, json, verbose;
    const char *engine;
};

enum { OPT_TO = 256, OPT_JSON, OPT_KERNEL, OPT_INITRD };

static const struct option options[] = {
    {"engine", required_argument, NULL, 'e'},
    {"to", required_argument, NULL, OPT_TO},
    {"quiet", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, OPT_JSON},
    {"verbose", no_argument, NULL, 'v'},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_replay;
    *a = (struct args){.engine = "auto", .config = {.player = {.target = RV_NEVER}}};
    int opt;
    while ((opt = getopt_long(argc, argv, ":e:qv", options, NULL)) != -1) {
        switch (opt) {
        case 'e': a->engine = optarg; break;
        case OPT_TO:
            if (!retro_parse_position(optarg, &a->config.player.target))
                return retro_usage(cmd, "--to %s is not a position", optarg);
            break;
        case 'q': a->quiet = true; break;
        case OPT_JSON: a->json = true; break;
        case 'v': a->verbose = true; break;
        case OPT_KERNEL: a->config.kernel = optarg; break;
        case OPT_INITRD: a->config.initrd = optarg; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind + 1 != argc) return retro_usage(cmd, "replay takes one trace");
    a->config.path = argv[optind];
    return RETRO_OK;
}

/* What a user should know about the trace beyond "replayed". */
static const char *note_on(const struct rv_trace_reader *reader, const struct rv_end *end) {
    struct rv_trace_state st;
    rv_trace_reader_state(reader, &st);
    if (end->reason == RV_STOP_TARGET) return NULL;
    if (!st.sealed) return "the trace is unsealed: its recorder did not finish";
    const struct rv_trace_summary *s = rv_trace_reader_summary(reader);
    if (s && s->reason == RV_TRACE_REASON_SALVAGED) return "the trace was salvaged";
    if (s && s->lost_tail) return "the end of the recording was lost when writing failed";
    return "as recorded";
}

static int finish(struct args *a, struct rv_replay *rp, int r, const struct rv_end *end,
                  double seconds, struct rv_err *err) {
    int status = r ? retro_error(err) : RETRO_OK;
    bool interrupted = end->reason == RV_STOP_INTERRUPT || end->reason == RV_STOP_TERMINATE;
    if (!r && interrupted && atomic_load(&retro_stop)) status = RETRO_INTERRUPTED;
    if (!rp) return status;
    struct retro_summary s = {.verb = "replayed",
                              .seconds = seconds,
                              .end = *end,
                              .has_events = true,
                              .events = rv_player_events(rv_replay_player(rp)),
                              .engine = a->config.engine->name,
                              .note = r ? NULL : note_on(rv_replay_reader(rp), end)};
    if (!r || a->json) retro_print_summary(&s, a->json);
    return status;
}

static int replay_main(int argc, char **argv) {
    struct args a;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    struct rv_err err = {0};
    struct rv_live *out = NULL;
    struct rv_replay *rp = NULL;
    struct rv_end end = {0};
    retro_catch_signals();
    struct rv_live_config lc = {.input_fd = -1,
                                .output_fd = a.quiet ? -1 : STDOUT_FILENO,
                                .debugcon_fd = -1,
                                .max_icount = RV_NEVER};
    bool meter_on = isatty(STDERR_FILENO) && !a.json && (a.quiet || !isatty(STDOUT_FILENO));
    rv_icount total = retro_trace_length(a.config.path);
    if (a.config.player.target < total) total = a.config.player.target;
    struct retro_meter *meter = retro_meter_new(meter_on, "replaying", total);
    bool by_trap = false;
    if (!retro_is_by_trap(a.config.path, &by_trap, NULL) && by_trap) retro_meter_count_traps(meter);
    int r = retro_engine(a.engine, a.verbose, &a.config.engine, &err);
    if (!r) r = rv_live_new(&out, &lc, &err);
    if (!r) {
        a.config.player.output = rv_live_nondet(out);
        a.config.player.stop_request = &retro_stop;
        r = rv_replay_begin(&rp, &a.config, retro_meter_wrap, meter, &err);
    }
    double began = retro_now();
    if (!r) {
        retro_kick_on_signal(rv_replay_machine(rp));
        r = rv_replay_run(rp, &end, &err);
        retro_kick_on_signal(NULL);
    }
    double seconds = retro_now() - began;
    retro_meter_free(meter);
    status = finish(&a, rp, r, &end, seconds, &err);
    rv_replay_free(rp);
    rv_live_free(out);
    return status;
}

const struct retro_command retro_cmd_replay = {
    .name = "replay",
    .brief = "play a trace back, checking it against the recording",
    .help = "Usage: retro replay [OPTION]... FILE\n"
            "Runs the recorded guest again, instruction by instruction, and prints its console\n"
            "output. Everything it does is compared with the recording; on the first difference\n"
            "it stops, says where and what, and exits with status 5.\n\n"
            "      --to POSITION    stop after so many instructions (suffixes k, M, G), or end\n"
            "  -e, --engine ENGINE  auto (default), translate, interpret or kvm\n"
            "  -q, --quiet          do not show the guest's console\n"
            "      --kernel FILE    the kernel, for a trace recorded with --no-embed\n"
            "      --initrd FILE    the initial RAM disk, likewise\n"
            "      --json           print the summary as one line of JSON, on standard error\n"
            "  -v, --verbose        say what was chosen and why\n\n"
            "Example: retro replay --to 500M boot.retro\n",
    .main = replay_main,
};
