/* retro index */
#include "tools/retro.h"

#include <jansson.h>
#include <unistd.h>

#include "replay/index.h"

struct args {
    struct rv_index_config config;
    bool force, quiet, verbose, json;
    const char *engine;
};

enum { OPT_KERNEL = 256, OPT_INITRD, OPT_JSON };

static const struct option options[] = {
    {"engine", required_argument, NULL, 'e'},
    {"force", no_argument, NULL, 'f'},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_index;
    *a = (struct args){.engine = "auto"};
    int opt;
    while ((opt = getopt_long(argc, argv, ":e:fqv", options, NULL)) != -1) {
        switch (opt) {
        case 'e': a->engine = optarg; break;
        case 'f': a->force = true; break;
        case OPT_JSON: a->json = true; break;
        case 'q': a->quiet = true; break;
        case 'v': a->verbose = true; break;
        case OPT_KERNEL: a->config.replay.kernel = optarg; break;
        case OPT_INITRD: a->config.replay.initrd = optarg; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind + 1 != argc) return retro_usage(cmd, "index takes one trace");
    a->config.replay.path = argv[optind];
    return RETRO_OK;
}

/* The trace's index if it has one that fits, or NULL. */
static struct rv_history *fitting_index(const char *path) {
    struct rv_trace_reader *reader;
    struct rv_history *h;
    if (rv_trace_reader_open(&reader, path, NULL)) return NULL;
    uint64_t pages = rv_trace_reader_header(reader)->memory_bytes >> RV_PAGE_SHIFT;
    rv_trace_reader_free(reader);
    if (!pages || pages > RV_RAM_MAX >> RV_PAGE_SHIFT) return NULL;
    return rv_index_load(&h, path, pages, NULL) ? NULL : h;
}

static void print_json(const struct rv_history *h, bool made, double seconds) {
    retro_json_put(stdout,
                   json_pack("{s:b, s:f, s:I, s:I, s:I, s:I}", "made", made, "seconds", seconds,
                             "instructions", (json_int_t)h->end, "checkpoints",
                             (json_int_t)h->checkpoints, "epochs", (json_int_t)h->epochs, "bytes",
                             (json_int_t)h->file_size),
                   RETRO_JSON_LINE);
}

static bool on_progress(void *meter, rv_icount done, rv_icount total) {
    retro_meter_show(meter, done, total);
    return atomic_load(&retro_stop) != 0;
}

static int index_main(int argc, char **argv) {
    struct args a;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    struct rv_err err = {0};
    struct rv_history *h = a.force ? NULL : fitting_index(a.config.replay.path);
    if (h) {
        if (a.json)
            print_json(h, false, 0);
        else if (!a.quiet)
            printf("%s has an index already; --force makes it anew\n", a.config.replay.path);
        rv_history_free(h);
        return RETRO_OK;
    }
    retro_catch_signals();
    struct retro_meter *meter = retro_meter_new(!a.quiet && isatty(STDERR_FILENO), "indexing", 0);
    a.config.progress = on_progress;
    a.config.ctx = meter;
    double began = retro_now();
    int r = retro_engine(a.engine, a.verbose, &a.config.replay.engine, &err);
    if (!r) r = retro_lift_first(a.config.replay.path, a.quiet, &err);
    if (!r) r = rv_index_build(&h, &a.config, &err);
    retro_meter_free(meter);
    if (r) return retro_error(&err);
    if (a.json) {
        print_json(h, true, retro_now() - began);
    } else if (!a.quiet) {
        char n[32], size[32];
        printf("indexed %s instructions in %.1f s: %zu checkpoints, %zu epochs, %s bytes\n",
               retro_group(h->end, n), retro_now() - began, h->checkpoints, h->epochs,
               retro_group(h->file_size, size));
    }
    rv_history_free(h);
    return RETRO_OK;
}

const struct retro_command retro_cmd_index = {
    .name = "index",
    .brief = "prepare a trace for time travel: write its index file",
    .help =
        "Usage: retro index [OPTION]... FILE\n"
        "Replays the trace once, checking it, and writes FILE.index: checkpoints, and which\n"
        "pages were written and which code ran when. retro gdb does the same when there is\n"
        "none. The index holds nothing that the trace does not, and can be deleted at any time.\n\n"
        "  -f, --force          make it anew even if there is one that fits\n"
        "  -e, --engine ENGINE  auto (default), translate or interpret\n"
        "      --json           for machines: one object\n"
        "  -q, --quiet          print nothing but what --json asks for\n"
        "      --kernel FILE    the kernel, for a trace recorded with --no-embed\n"
        "      --initrd FILE    the initial RAM disk, likewise\n"
        "  -v, --verbose        say what was chosen and why\n\n"
        "Example: retro index boot.retro\n",
    .main = index_main,
};
