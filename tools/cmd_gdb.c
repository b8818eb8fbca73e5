/* retro gdb */
#include "tools/retro.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replay/gdb/server.h"
#include "vmm/base/buf.h"

extern const unsigned char retro_gdb_script[];
extern const size_t retro_gdb_script_len;

struct args {
    struct rv_timeline_config config;
    const char *listen, *symbols, *gdb, *engine;
    char **more; /* for gdb; ends with NULL */
    rv_icount at;
    bool has_at, quiet, verbose;
    enum rv_gdb_view view;
    char *address; /* of listen; owned */
    uint16_t port;
};

enum {
    OPT_LISTEN = 256,
    OPT_SYMBOLS,
    OPT_GDB,
    OPT_AT,
    OPT_VIEW,
    OPT_MEMORY,
    OPT_NO_INDEX,
    OPT_KERNEL,
    OPT_INITRD
};

static const struct option options[] = {
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"symbols", required_argument, NULL, OPT_SYMBOLS},
    {"gdb", required_argument, NULL, OPT_GDB},
    {"at", required_argument, NULL, OPT_AT},
    {"view", required_argument, NULL, OPT_VIEW},
    {"checkpoint-memory", required_argument, NULL, OPT_MEMORY},
    {"no-index", no_argument, NULL, OPT_NO_INDEX},
    {"engine", required_argument, NULL, 'e'},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {NULL, 0, NULL, 0},
};

static const struct {
    const char *name, *architecture;
} views[RV_GDB_VIEWS] = {[RV_GDB_VIEW_64] = {"64", "i386:x86-64"},
                         [RV_GDB_VIEW_32] = {"32", "i386"},
                         [RV_GDB_VIEW_16] = {"16", "i8086"}};

/* "ADDRESS:PORT", "[ADDRESS]:PORT", ":PORT" or "PORT"; no address means loopback. */
static bool parse_listen(const char *text, struct args *a) {
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!retro_parse_count(colon ? colon + 1 : text, &port) || port > UINT16_MAX) return false;
    a->port = (uint16_t)port;
    if (!colon || colon == text) return true;
    a->address = rv_strdup(text);
    a->address[colon - text] = 0;
    size_t n = strlen(a->address);
    if (a->address[0] == '[' && a->address[n - 1] == ']') {
        memmove(a->address, a->address + 1, n - 2);
        a->address[n - 2] = 0;
    }
    return true;
}

static bool parse_view(const char *text, enum rv_gdb_view *view) {
    for (unsigned i = 0; i < RV_GDB_VIEWS; i++)
        if (strcmp(text, views[i].name) == 0) {
            *view = (enum rv_gdb_view)i;
            return true;
        }
    return false;
}

/* A quarter of what the host has. */
static uint64_t default_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 4 : 1ull << 30;
}

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_gdb;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *a = (struct args){.engine = "auto", .gdb = "gdb"};
    a->config.use_index = true;
    a->config.memory = default_memory();
    a->config.workers = cpus > 0 ? (unsigned)cpus : 1;
    int opt;
    while ((opt = getopt_long(argc, argv, "+:e:qv", options, NULL)) != -1) {
        switch (opt) {
        case OPT_LISTEN:
            a->listen = optarg;
            if (!parse_listen(optarg, a))
                return retro_usage(cmd, "--listen %s is not ADDRESS:PORT", optarg);
            break;
        case OPT_SYMBOLS: a->symbols = optarg; break;
        case OPT_GDB: a->gdb = optarg; break;
        case OPT_AT:
            a->has_at = true;
            if (!retro_parse_position(optarg, &a->at))
                return retro_usage(cmd, "--at %s is not a position", optarg);
            break;
        case OPT_VIEW:
            if (!parse_view(optarg, &a->view))
                return retro_usage(cmd, "--view %s is not 64, 32 or 16", optarg);
            break;
        case OPT_MEMORY:
            if (!retro_parse_size(optarg, &a->config.memory))
                return retro_usage(cmd, "--checkpoint-memory %s is not a size", optarg);
            break;
        case OPT_NO_INDEX: a->config.use_index = false; break;
        case 'e': a->engine = optarg; break;
        case 'q': a->quiet = true; break;
        case 'v': a->verbose = true; break;
        case OPT_KERNEL: a->config.replay.kernel = optarg; break;
        case OPT_INITRD: a->config.replay.initrd = optarg; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind >= argc) return retro_usage(cmd, "gdb takes a trace");
    a->config.replay.path = argv[optind];
    a->more = argv + optind + 1;
    if (*a->more && a->listen)
        return retro_usage(cmd, "--listen starts no gdb that could take %s", *a->more);
    return RETRO_OK;
}

/* What the timeline's callbacks reach. */
struct session {
    struct args a;
    struct retro_meter *meter;
    struct rv_gdb_server *server;
    struct rv_timeline *timeline;
    char folder[64]; /* of files for gdb; empty: none */
    char *script, *symbols;
};

static bool on_progress(void *ctx, rv_icount done, rv_icount total) {
    struct session *s = ctx;
    retro_meter_show(s->meter, done, total);
    return atomic_load(&retro_stop) != 0;
}

static bool on_interrupted(void *ctx) {
    struct session *s = ctx;
    return s->server && rv_gdb_server_interrupted(s->server);
}

/* ---- files for gdb ---- */

static char *put_file(struct session *s, const char *name, const void *data, size_t n,
                      struct rv_err *err) {
    char *path = rv_alloc(sizeof s->folder + 32);
    snprintf(path, sizeof s->folder + 32, "%s/%s", s->folder, name);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(data, 1, n, f) == n;
    if (f && fclose(f)) ok = false;
    if (ok) return path;
    rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    free(path);
    return NULL;
}

/* The recorded kernel, when it is an ELF file: it may have symbols. */
static int extract_kernel(struct session *s, struct rv_err *err) {
    const struct rv_trace_reader *reader = rv_timeline_reader(s->timeline);
    const struct rv_trace_header *h = rv_trace_reader_header(reader);
    for (size_t i = 0; i < h->image_count; i++) {
        uint64_t size;
        if (strcmp(h->images[i].role, "kernel") != 0 ||
            !rv_trace_reader_blob_size(reader, &h->images[i].hash, &size) || size < 4)
            continue;
        uint8_t *data = rv_alloc(size);
        int r = rv_trace_reader_blob_fetch(reader, &h->images[i].hash, data, size, err);
        if (!r && memcmp(data, "\177ELF", 4) == 0) {
            s->symbols = put_file(s, "kernel.elf", data, size, err);
            if (!s->symbols) r = RV_E_HOST;
        }
        free(data);
        return r;
    }
    return 0;
}

static int prepare_files(struct session *s, struct rv_err *err) {
    const char *tmp = getenv("TMPDIR");
    if (!tmp || !*tmp || strlen(tmp) > 32) tmp = "/tmp";
    snprintf(s->folder, sizeof s->folder, "%s/retro-gdb-XXXXXX", tmp);
    if (!mkdtemp(s->folder)) {
        s->folder[0] = 0;
        return rv_fail_errno(err, RV_E_HOST, "cannot make a folder in %s", tmp);
    }
    s->script = put_file(s, "retro.py", retro_gdb_script, retro_gdb_script_len, err);
    if (!s->script) return RV_E_HOST;
    return s->a.symbols ? 0 : extract_kernel(s, err);
}

static void remove_files(struct session *s) {
    if (s->script) unlink(s->script);
    if (s->symbols) unlink(s->symbols);
    if (s->folder[0]) rmdir(s->folder);
    free(s->script);
    free(s->symbols);
}

/* ---- gdb ---- */

static _Atomic int gdb_ended;

static void on_child(int sig) {
    (void)sig;
    atomic_store(&gdb_ended, 1);
}

static void exec_gdb(const struct session *s) {
    char architecture[64], target[64], *argv[64];
    unsigned n = 0;
    const char *symbols = s->a.symbols ? s->a.symbols : s->symbols;
    snprintf(architecture, sizeof architecture, "set architecture %s",
             views[s->a.view].architecture);
    snprintf(target, sizeof target, "target remote 127.0.0.1:%u", rv_gdb_server_port(s->server));
    const char *fixed[] = {s->a.gdb,  "-q",  "-iex", "set confirm off", "-iex", architecture, "-x",
                           s->script, "-ex", target};
    for (unsigned i = 0; i < RV_COUNT(fixed); i++) argv[n++] = (char *)(uintptr_t)fixed[i];
    for (char **p = s->a.more; *p && n < RV_COUNT(argv) - 2; p++) argv[n++] = *p;
    if (symbols) argv[n++] = (char *)(uintptr_t)symbols;
    argv[n] = NULL;
    execvp(s->a.gdb, argv);
    fprintf(stderr, "retro: cannot start %s: %s; install gdb, or serve another with --listen\n",
            s->a.gdb, strerror(errno));
    _exit(127);
}

static int with_gdb(struct session *s, struct rv_err *err) {
    int r = prepare_files(s, err);
    if (r) return r;
    /* Ctrl-C is gdb's: it asks the server to stop. */
    signal(SIGINT, SIG_IGN);
    struct sigaction sa = {.sa_handler = on_child};
    sigaction(SIGCHLD, &sa, NULL);
    pid_t gdb = fork();
    if (gdb < 0) return rv_fail_errno(err, RV_E_HOST, "cannot start gdb");
    if (gdb == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        exec_gdb(s);
    }
    struct rv_gdb_serve how = {.timeline = s->timeline, .view = s->a.view, .stop = &gdb_ended};
    r = rv_gdb_server_run(s->server, &how, err);
    int status = 0;
    while (waitpid(gdb, &status, 0) < 0 && errno == EINTR) continue;
    if (!r && WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return rv_fail(err, RV_E_HOST, "no gdb ran");
    return r;
}

static int serve_only(struct session *s, struct rv_err *err) {
    if (!s->a.quiet) {
        printf("serving gdb on %s:%u; connect with: target remote %s:%u\n",
               s->a.address ? s->a.address : "127.0.0.1", rv_gdb_server_port(s->server),
               s->a.address ? s->a.address : "localhost", rv_gdb_server_port(s->server));
        fflush(stdout);
    }
    struct rv_gdb_serve how = {.timeline = s->timeline, .view = s->a.view, .stop = &retro_stop};
    return rv_gdb_server_run(s->server, &how, err);
}

static int start_at(struct session *s, struct rv_err *err) {
    struct rv_arrival a;
    if (!s->a.has_at) return 0;
    struct rv_moment to = {s->a.at, 0};
    if (s->a.at == RV_NEVER) to = rv_timeline_end(s->timeline);
    return rv_timeline_seek(s->timeline, to, &a, err);
}

static int gdb_main(int argc, char **argv) {
    struct session s = {0};
    int status = parse(argc, argv, &s.a);
    if (status != RETRO_OK) return status;
    struct rv_err err = {0};
    char note[600];
    retro_catch_signals();
    s.meter = retro_meter_new(!s.a.quiet && isatty(STDERR_FILENO), "indexing", 0);
    s.a.config.progress = on_progress;
    s.a.config.interrupted = on_interrupted;
    s.a.config.ctx = &s;
    int r = retro_engine(s.a.engine, s.a.verbose, &s.a.config.replay.engine, &err);
    /* A port that cannot be had is better known before a long replay. */
    if (!r) r = rv_gdb_server_new(&s.server, s.a.address, s.a.port, &err);
    if (!r) r = retro_lift_first(s.a.config.replay.path, s.a.quiet, &err);
    if (!r) r = rv_timeline_open(&s.timeline, &s.a.config, note, sizeof note, &err);
    retro_meter_free(s.meter);
    if (!r && *note && !s.a.quiet) fprintf(stderr, "retro: %s\n", note);
    if (!r) r = start_at(&s, &err);
    if (!r) r = s.a.listen ? serve_only(&s, &err) : with_gdb(&s, &err);
    if (r) status = retro_error(&err);
    remove_files(&s);
    rv_timeline_free(s.timeline);
    rv_gdb_server_free(s.server);
    free(s.a.address);
    return status;
}

const struct retro_command retro_cmd_gdb = {
    .name = "gdb",
    .brief = "debug a trace in gdb, forwards and backwards",
    .help = "Usage: retro gdb [OPTION]... FILE [GDB-OPTION]...\n"
            "Starts gdb on a recording. Stepping, breakpoints and watchpoints work in both\n"
            "directions (reverse-stepi, reverse-continue ...); monitor help lists what there is\n"
            "beyond gdb's own commands. What follows FILE is handed to gdb.\n\n"
            "      --symbols FILE   ELF file with symbols (vmlinux); an ELF kernel is its own\n"
            "      --at POSITION    where to begin: instructions (k, M, G), or end\n"
            "      --listen [ADDRESS:]PORT\n"
            "                       start no gdb, serve any on this port; loopback by default\n"
            "      --view BITS      registers as 64 (default), 32 or 16-bit code has them\n"
            "      --gdb PROGRAM    the gdb to start\n"
            "      --checkpoint-memory SIZE\n"
            "                       for checkpoints in memory (default a quarter of RAM)\n"
            "      --no-index       neither read nor write FILE.index\n"
            "  -e, --engine ENGINE  auto (default), translate or interpret\n"
            "  -q, --quiet          no progress, no notes\n"
            "      --kernel FILE    the kernel, for a trace recorded with --no-embed\n"
            "      --initrd FILE    the initial RAM disk, likewise\n"
            "  -v, --verbose        say what was chosen and why\n\n"
            "Example: retro gdb --symbols vmlinux --at end boot.retro\n",
    .main = gdb_main,
};
