/* retro run and retro record: the same machine, the second behind a recorder. */
#include "tools/retro.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/session.h"
#include "vmm/base/buf.h"
#include "vmm/host/file.h"
#include "vmm/host/live.h"

#define IMAGE_MAX (1ull << 30)

#define GUEST_HELP                                                                                 \
    "  -k, --kernel FILE         guest image: bzImage, ELF (PVH or multiboot) or flat\n"           \
    "  -i, --initrd FILE         initial RAM disk, or multiboot module\n"                          \
    "  -a, --append TEXT         command line of the guest\n"                                      \
    "  -m, --memory SIZE         guest memory (default 256M; suffixes K, M, G)\n"                  \
    "      --kind KIND           what the image is: auto (default), bzimage, pvh, multiboot,\n"    \
    "                            flat\n"                                                           \
    "  -e, --engine ENGINE       auto (default), translate, interpret or kvm; retro doctor\n"      \
    "                            explains\n"                                                       \
    "      --cpu PROFILE         the CPU that the guest sees: auto (default), v2, v3, hw\n"        \
    "      --input FILE          console input from FILE instead of standard input\n"              \
    "      --debugcon FILE       write what the guest prints to port 0xe9 to FILE\n"               \
    "      --pace auto|wall|free wall: guest time keeps pace with the wall clock; free: an idle\n" \
    "                            guest never waits; auto (default): wall on a terminal\n"          \
    "      --like TRACE          at power-on, the clock and random bits that TRACE had: the two\n" \
    "                            start alike, and retro diff tells where they part\n"              \
    "  -t, --timeout SECONDS     stop after so much real time\n"                                   \
    "  -n, --max-instructions N  stop after so many instructions (suffixes k, M, G)\n"             \
    "  -q, --quiet               do not show the guest's console\n"                                \
    "      --json                print the summary as one line of JSON, on standard error\n"       \
    "  -v, --verbose             say what was chosen and why\n"                                    \
    "\n"                                                                                           \
    "On a terminal, Ctrl-C ends the run; Ctrl-] c types Ctrl-C into the guest, Ctrl-] Ctrl-]\n"    \
    "types Ctrl-], Ctrl-] q ends the run.\n"

struct guest {
    const char *kernel, *initrd, *append, *input, *debugcon, *output, *engine, *cpu, *kind;
    const char *pace, *like;
    uint64_t memory, timeout_ns;
    rv_icount max_icount;
    bool quiet, json, verbose, force, no_embed;
    int input_fd, debugcon_fd;
    uint8_t *kernel_data, *initrd_data;
    struct retro_like *likeness;
    struct rv_machine_config config;
};

enum {
    OPT_KIND = 256,
    OPT_CPU,
    OPT_INPUT,
    OPT_DEBUGCON,
    OPT_PACE,
    OPT_JSON,
    OPT_LIKE,
    OPT_NO_EMBED
};

static const struct option options[] = {
    {"kernel", required_argument, NULL, 'k'},
    {"initrd", required_argument, NULL, 'i'},
    {"append", required_argument, NULL, 'a'},
    {"memory", required_argument, NULL, 'm'},
    {"kind", required_argument, NULL, OPT_KIND},
    {"engine", required_argument, NULL, 'e'},
    {"cpu", required_argument, NULL, OPT_CPU},
    {"input", required_argument, NULL, OPT_INPUT},
    {"debugcon", required_argument, NULL, OPT_DEBUGCON},
    {"pace", required_argument, NULL, OPT_PACE},
    {"like", required_argument, NULL, OPT_LIKE},
    {"timeout", required_argument, NULL, 't'},
    {"max-instructions", required_argument, NULL, 'n'},
    {"quiet", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, OPT_JSON},
    {"verbose", no_argument, NULL, 'v'},
    /* record only, from here on */
    {"output", required_argument, NULL, 'o'},
    {"force", no_argument, NULL, 'f'},
    {"no-embed", no_argument, NULL, OPT_NO_EMBED},
    {NULL, 0, NULL, 0},
};

static int parse(const struct retro_command *cmd, bool record, int argc, char **argv,
                 struct guest *g) {
    *g = (struct guest){.engine = "auto",
                        .cpu = "auto",
                        .kind = "auto",
                        .pace = "auto",
                        .memory = 256ull << 20,
                        .max_icount = RV_NEVER,
                        .input_fd = -1,
                        .debugcon_fd = -1};
    int opt;
    while ((opt = getopt_long(argc, argv, ":k:i:a:m:e:t:n:qvo:f", options, NULL)) != -1) {
        if (!record && (opt == 'o' || opt == 'f' || opt == OPT_NO_EMBED)) opt = '?';
        switch (opt) {
        case 'k': g->kernel = optarg; break;
        case 'i': g->initrd = optarg; break;
        case 'a': g->append = optarg; break;
        case 'm':
            if (!retro_parse_size(optarg, &g->memory))
                return retro_usage(cmd, "--memory %s is not a size", optarg);
            break;
        case OPT_KIND: g->kind = optarg; break;
        case 'e': g->engine = optarg; break;
        case OPT_CPU: g->cpu = optarg; break;
        case OPT_INPUT: g->input = optarg; break;
        case OPT_DEBUGCON: g->debugcon = optarg; break;
        case OPT_PACE: g->pace = optarg; break;
        case OPT_LIKE: g->like = optarg; break;
        case 't':
            if (!retro_parse_seconds(optarg, &g->timeout_ns))
                return retro_usage(cmd, "--timeout %s is not a number of seconds above 0", optarg);
            break;
        case 'n':
            if (!retro_parse_count(optarg, &g->max_icount) || !g->max_icount)
                return retro_usage(cmd, "--max-instructions %s is not a count above 0", optarg);
            break;
        case 'q': g->quiet = true; break;
        case OPT_JSON: g->json = true; break;
        case 'v': g->verbose = true; break;
        case 'o': g->output = optarg; break;
        case 'f': g->force = true; break;
        case OPT_NO_EMBED: g->no_embed = true; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind < argc) return retro_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
    if (!g->kernel) return retro_usage(cmd, "--kernel is missing");
    if (record && !g->output) return retro_usage(cmd, "--output is missing");
    if (strcmp(g->pace, "auto") && strcmp(g->pace, "wall") && strcmp(g->pace, "free"))
        return retro_usage(cmd, "--pace %s is none of auto, wall, free", g->pace);
    return RETRO_OK;
}

static int boot_kind(const char *name, enum rv_boot_kind *kind, struct rv_err *err) {
    for (int k = RV_BOOT_AUTO; k <= RV_BOOT_FLAT; k++)
        if (strcmp(name, rv_boot_kind_name((enum rv_boot_kind)k)) == 0) {
            *kind = (enum rv_boot_kind)k;
            return 0;
        }
    return rv_fail(err, RV_E_USAGE, "--kind %s is none of auto, bzimage, pvh, multiboot, flat",
                   name);
}

static int open_files(struct guest *g, struct rv_err *err) {
    if (g->input) {
        g->input_fd = open(g->input, O_RDONLY | O_CLOEXEC);
        if (g->input_fd < 0) return rv_fail_errno(err, RV_E_HOST, "cannot open %s", g->input);
    } else {
        g->input_fd = STDIN_FILENO;
    }
    if (g->debugcon) {
        g->debugcon_fd = open(g->debugcon, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (g->debugcon_fd < 0)
            return rv_fail_errno(err, RV_E_HOST, "cannot create %s", g->debugcon);
    }
    return 0;
}

static void say_profile(const struct rv_profile *p) {
    const char *lacks = rv_profile_lacks(&rv_profile_v3);
    fprintf(stderr, "retro: CPU profile %s", p->name);
    if (p->v3 || !lacks)
        fputc('\n', stderr);
    else
        fprintf(stderr, " (for v3 this host's CPU lacks %s)\n", lacks);
}

static int prepare(struct guest *g, struct rv_err *err) {
    struct rv_machine_config *c = &g->config;
    const struct rv_engine_ops *engine;
    int r = retro_engine(g->engine, g->verbose, &engine, err);
    if (!r) r = retro_configure(engine, g->cpu, c, err);
    if (r) return r;
    if (g->verbose) say_profile(c->profile);
    c->memory = g->memory;
    if (!engine->counts) {
        if (g->max_icount != RV_NEVER)
            r = rv_fail(err, RV_E_USAGE,
                        "engine %s does not count instructions; give --timeout instead of "
                        "--max-instructions, or take --engine interpret",
                        engine->name);
    }
    if (!r) r = boot_kind(g->kind, &c->boot.kind, err);
    if (!r) r = rv_file_read(g->kernel, IMAGE_MAX, &g->kernel_data, &c->boot.kernel.len, err);
    if (!r && g->initrd)
        r = rv_file_read(g->initrd, IMAGE_MAX, &g->initrd_data, &c->boot.initrd.len, err);
    if (!r) r = open_files(g, err);
    if (!r && g->like) r = retro_like_new(&g->likeness, g->like, err);
    if (r) return r;
    c->boot.kernel.name = g->kernel;
    c->boot.kernel.data = g->kernel_data;
    c->boot.initrd.name = g->initrd;
    c->boot.initrd.data = g->initrd_data;
    c->boot.cmdline = g->append ? g->append : "";
    return 0;
}

static void release(struct guest *g) {
    free(g->kernel_data);
    free(g->initrd_data);
    retro_like_free(g->likeness);
    if (g->input && g->input_fd >= 0) close(g->input_fd);
    if (g->debugcon_fd >= 0) close(g->debugcon_fd);
}

/* What the machine, or its recorder, talks to. */
static struct rv_nondet *outside(const struct guest *g, struct rv_live *live) {
    return retro_like_wrap(g->likeness, rv_live_nondet(live));
}

static void kick(void *machine) { rv_machine_kick(machine); }

/* An engine that does not count does not come back by itself either. */
static int start_kicks(const struct guest *g, struct rv_live *live, struct rv_machine *m,
                       struct rv_err *err) {
    return g->config.engine->counts ? 0 : rv_live_kick_with(live, kick, m, err);
}

static int start_live(const struct guest *g, struct rv_live **live, struct rv_err *err) {
    bool terminal = isatty(g->input_fd);
    bool wall = strcmp(g->pace, "wall") == 0 || (strcmp(g->pace, "auto") == 0 && terminal);
    if (g->verbose)
        fprintf(stderr, "retro: guest time %s\n",
                wall ? "keeps pace with the wall clock" : "runs free of the wall clock");
    if (terminal && !g->input) retro_raw_terminal(g->input_fd);
    struct rv_live_config lc = {.input_fd = g->input_fd,
                                .output_fd = g->quiet ? -1 : STDOUT_FILENO,
                                .debugcon_fd = g->debugcon_fd,
                                .pace = wall,
                                .host_time = g->config.rate == RV_RATE_HOST,
                                .escape = terminal,
                                .max_icount = g->max_icount,
                                .stop_request = &retro_stop};
    return rv_live_new(live, &lc, err);
}

/* The meter and the console would write over each other on one terminal. */
static bool show_meter(const struct guest *g) {
    return isatty(STDERR_FILENO) && !g->json && (g->quiet || !isatty(STDOUT_FILENO));
}

static void add_hardware(const struct guest *g, struct rv_machine *m, struct retro_summary *s,
                         struct rv_nested_counts *counts) {
    s->verbose = g->verbose;
    if (g->config.engine != &rv_engine_nested) return;
    *counts = rv_nested_counts(rv_machine_engine(m));
    s->nested = counts;
}

static int do_run(struct guest *g) {
    struct rv_err err = {0};
    struct rv_live *live = NULL;
    struct rv_machine *m = NULL;
    struct rv_end end = {0};
    struct retro_meter *meter = retro_meter_new(show_meter(g), "running", 0);
    retro_catch_signals();
    int r = prepare(g, &err);
    if (!r) r = start_live(g, &live, &err);
    if (!r && !g->config.engine->counts) retro_meter_count_traps(meter);
    if (!r) r = rv_machine_new(&m, &g->config, retro_meter_wrap(meter, outside(g, live)), &err);
    if (!r) r = start_kicks(g, live, m, &err);
    double began = retro_now();
    if (!r) {
        retro_kick_on_signal(m);
        if (g->timeout_ns) retro_stop_after(g->timeout_ns);
        r = rv_machine_run(m, &end, &err);
        retro_kick_on_signal(NULL);
    }
    double seconds = retro_now() - began;
    retro_meter_free(meter);
    retro_restore_terminal();
    int status = RETRO_OK;
    if (r) {
        status = retro_error(&err);
    } else {
        struct rv_nested_counts counts;
        struct retro_summary s = {
            .verb = "ran", .seconds = seconds, .end = end, .engine = g->config.engine->name};
        add_hardware(g, m, &s, &counts);
        retro_print_summary(&s, g->json);
    }
    rv_live_free(live); /* first: its thread kicks the machine */
    rv_machine_free(m);
    return status;
}

static int do_record(struct guest *g) {
    struct rv_err err = {0};
    struct rv_live *live = NULL;
    struct rv_record *rec = NULL;
    struct rv_end end = {0};
    struct retro_meter *meter = retro_meter_new(show_meter(g), "recording", 0);
    retro_catch_signals();
    int r = prepare(g, &err);
    if (!r) r = start_live(g, &live, &err);
    if (!r && !g->config.engine->counts) retro_meter_count_traps(meter);
    if (!r) {
        struct rv_record_config rc = {.path = g->output,
                                      .overwrite = g->force,
                                      .embed_images = !g->no_embed,
                                      .machine = g->config};
        r = rv_record_begin(&rec, &rc, outside(g, live), retro_meter_wrap, meter, &err);
    }
    double began = retro_now();
    if (!r) r = start_kicks(g, live, rv_record_machine(rec), &err);
    bool ran = !r;
    if (ran) {
        retro_kick_on_signal(rv_record_machine(rec));
        if (g->timeout_ns) retro_stop_after(g->timeout_ns);
        r = rv_record_run(rec, &end, &err);
        retro_kick_on_signal(NULL);
    }
    double seconds = retro_now() - began;
    retro_meter_free(meter);
    retro_restore_terminal();
    int status = r ? retro_error(&err) : RETRO_OK;
    if (ran) {
        struct rv_trace_writer_stats st;
        rv_record_stats(rec, &st);
        struct retro_summary s = {.verb = "recorded",
                                  .seconds = seconds,
                                  .end = end,
                                  .has_events = true,
                                  .events = st.events,
                                  .has_trace = true,
                                  .trace_bytes = st.bytes,
                                  .image_bytes = st.blob_bytes,
                                  .engine = g->config.engine->name};
        struct rv_nested_counts counts;
        add_hardware(g, rv_record_machine(rec), &s, &counts);
        retro_print_summary(&s, g->json);
    }
    rv_live_free(live); /* first: its thread kicks the machine */
    rv_record_free(rec);
    return status;
}

static int main_of(const struct retro_command *cmd, bool record, int argc, char **argv) {
    struct guest g;
    int status = parse(cmd, record, argc, argv, &g);
    if (status != RETRO_OK) return status;
    status = record ? do_record(&g) : do_run(&g);
    release(&g);
    return status;
}

static int run_main(int argc, char **argv) { return main_of(&retro_cmd_run, false, argc, argv); }
static int record_main(int argc, char **argv) {
    return main_of(&retro_cmd_record, true, argc, argv);
}

const struct retro_command retro_cmd_run = {
    .name = "run",
    .brief = "run a guest without recording it",
    .help =
        "Usage: retro run --kernel FILE [OPTION]...\n"
        "Runs a guest on the same machine that record uses, without a trace.\n\n" GUEST_HELP "\n"
        "Example: retro run -k vmlinuz -i initrd.gz -a console=ttyS0\n",
    .main = run_main,
};

const struct retro_command retro_cmd_record = {
    .name = "record",
    .brief = "run a guest and record it to a trace",
    .help = "Usage: retro record --output FILE --kernel FILE [OPTION]...\n"
            "Runs a guest and writes to FILE all that is needed to replay it exactly.\n"
            "However the run ends - power-off, Ctrl-C, a full disk, kill -9 - the trace replays\n"
            "up to there.\n\n"
            "  -o, --output FILE         the trace to write\n"
            "  -f, --force               replace FILE if it exists\n"
            "      --no-embed            store only the hashes of the images, not the "
            "images\n" GUEST_HELP "\n"
            "Example: retro record -o boot.retro -k vmlinuz -i initrd.gz -a console=ttyS0\n",
    .main = record_main,
};
