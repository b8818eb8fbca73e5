/* retro analyze */
#include "tools/ask.h"

#include "tools/plugin/host.h"

struct args {
    struct retro_ask ask;
    const char *path, *plugin, *from, *to;
};

enum { OPT_PLUGIN = RETRO_ASK_OWN, OPT_FROM, OPT_TO };

static const struct option options[] = {
    {"plugin", required_argument, NULL, OPT_PLUGIN},
    {"from", required_argument, NULL, OPT_FROM},
    {"to", required_argument, NULL, OPT_TO},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_analyze;
    *a = (struct args){0};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_PLUGIN: a->plugin = optarg; break;
        case OPT_FROM: a->from = optarg; break;
        case OPT_TO: a->to = optarg; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "analyze takes one trace");
    if (!a->plugin) return retro_usage(cmd, "say which plugin, with --plugin ./FILE.so");
    if (a->ask.json)
        return retro_usage(cmd, "what analyze prints is the plugin's to say; no --json");
    a->path = argv[optind];
    return RETRO_OK;
}

static int analyze_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_guest *guest = NULL;
    struct retro_plugin *plugin = NULL;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    int r = retro_plugin_load(&plugin, a.plugin, &err);
    if (!r) r = retro_ask_open(&a.ask, a.path, "analyzing", &err);
    struct retro_plugin_run run = {
        .timeline = a.ask.timeline, .progress = retro_ask_progress, .ctx = &a.ask};
    if (!r) r = retro_ask_range(&a.ask, a.from, a.to, &run.from, &run.to, &err);
    if (!r) r = retro_ask_guest(&a.ask, &guest, &err);
    run.guest = guest;
    if (!r) r = retro_plugin_run(plugin, &run, &err);
    retro_ask_quiet(&a.ask);
    if (!r && run.interrupted) status = retro_ask_interrupted(&a.ask, run.upto);
    rv_guest_free(guest);
    r = retro_ask_close(&a.ask, r, &err);
    retro_plugin_free(plugin);
    return r ? r : status;
}

const struct retro_command retro_cmd_analyze = {
    .name = "analyze",
    .brief = "show what happened to a plugin of your own",
    .help =
        "Usage: retro analyze --plugin ./FILE.so[,KEY=VALUE]... [OPTION]... FILE\n"
        "Replays and calls a plugin: a shared library written against <retrovisor/plugin.h>, for\n"
        "instructions, blocks, memory accesses, interrupts and system calls, as its filters ask.\n"
        "docs/plugins.md tells how to write one.\n\n"
        "      --plugin FILE    the plugin, and arguments for it\n"
        "      --from P --to P  only between these positions\n" RETRO_ASK_HELP "\n"
        "Example: retro analyze --plugin ./counter.so,process=85 crash.retro\n",
    .main = analyze_main,
};
