#include "tools/ask.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/analysis/guest.h"
#include "tools/analysis/position.h"
#include "tools/analysis/run.h"

void retro_ask_init(struct retro_ask *a) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES),
         size = sysconf(_SC_PAGESIZE);
    *a = (struct retro_ask){.engine = "auto"};
    a->config.use_index = true;
    a->config.workers = cpus > 0 ? (unsigned)cpus : 1;
    a->config.memory = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 4 : 1ull << 30;
}

int retro_ask_option(struct retro_ask *a, const struct retro_command *cmd, int opt, char **argv) {
    uint64_t n;
    switch (opt) {
    case RETRO_ASK_SYMBOL:
        if (a->symbol_files == RETRO_ASK_SYMBOLS)
            return retro_usage(cmd, "--symbols may be given %d times", RETRO_ASK_SYMBOLS);
        a->symbols[a->symbol_files++] = optarg;
        break;
    case RETRO_ASK_JSON: a->json = true; break;
    case RETRO_ASK_NO_INDEX: a->config.use_index = false; break;
    case RETRO_ASK_KERNEL: a->config.replay.kernel = optarg; break;
    case RETRO_ASK_INITRD: a->config.replay.initrd = optarg; break;
    case 'j':
        if (!retro_parse_count(optarg, &n) || n < 1 || n > 64)
            return retro_usage(cmd, "--jobs %s is not a number from 1 to 64", optarg);
        a->config.workers = (unsigned)n;
        break;
    case 'e': a->engine = optarg; break;
    case 'q': a->quiet = true; break;
    case 'v': a->verbose = true; break;
    default: return retro_bad_option(cmd, opt, argv);
    }
    return RETRO_OK;
}

static bool on_progress(void *ctx, rv_icount done, rv_icount total) {
    retro_ask_progress(ctx, done, total);
    return atomic_load(&retro_stop) != 0;
}

static bool on_interrupted(void *ctx) {
    (void)ctx;
    return atomic_load(&retro_stop) != 0;
}

int retro_ask_open(struct retro_ask *a, const char *path, const char *verb, struct rv_err *err) {
    char note[600];
    bool show = !a->quiet && isatty(STDERR_FILENO);
    a->config.replay.path = path;
    a->config.progress = on_progress;
    a->config.interrupted = on_interrupted;
    a->config.ctx = a;
    retro_catch_signals();
    a->meter = retro_meter_new(show, "indexing", 0);
    int r = retro_engine(a->engine, a->verbose, &a->config.replay.engine, err);
    if (!r) r = retro_lift_first(path, a->quiet, err);
    if (!r) r = rv_timeline_open(&a->timeline, &a->config, note, sizeof note, err);
    retro_meter_free(a->meter);
    a->meter = retro_meter_new(show, verb, 0);
    if (!r && *note && !a->quiet) fprintf(stderr, "retro: %s\n", note);
    return r;
}

int retro_ask_close(struct retro_ask *a, int r, const struct rv_err *err) {
    retro_meter_free(a->meter);
    rv_timeline_free(a->timeline);
    a->meter = NULL;
    a->timeline = NULL;
    return r ? retro_error(err) : RETRO_OK;
}

void retro_ask_progress(void *ask, rv_icount done, rv_icount total) {
    struct retro_ask *a = ask;
    if (a->meter) retro_meter_show(a->meter, done, total);
}

int retro_ask_interrupted(const struct retro_ask *a, rv_icount upto) {
    char n[32];
    if (!a->quiet)
        fprintf(stderr, "retro: interrupted; this is what there is up to instruction %s\n",
                retro_group(upto, n));
    return RETRO_INTERRUPTED;
}

int retro_ask_needs_linux(const struct rv_guest_run *run, struct rv_err *err) {
    if (run->system || run->interrupted) return 0;
    return rv_fail(err, RV_E_UNSUPPORTED,
                   "the guest was not recognised as a Linux with kallsyms and BTF: %s",
                   run->system_note);
}

void retro_ask_quiet(struct retro_ask *a) {
    retro_meter_free(a->meter);
    a->meter = NULL;
}

json_t *retro_json_hex(uint64_t v) {
    char text[24];
    snprintf(text, sizeof text, "0x%" PRIx64, v);
    return json_string(text);
}

int retro_ask_process(const struct retro_command *cmd, const char *text, uint32_t *pid) {
    uint64_t n;
    if (!retro_parse_count(text, &n) || !n || n > INT32_MAX)
        return retro_usage(cmd, "--process %s is not a process number", text);
    *pid = (uint32_t)n;
    return RETRO_OK;
}

int retro_ask_guest(struct retro_ask *a, struct rv_guest **out, struct rv_err *err) {
    struct rv_guest_config config = {
        .timeline = a->timeline, .symbols = a->symbols, .n = a->symbol_files};
    int r = rv_guest_open(out, &config, err);
    if (r || !a->verbose) return r;
    const struct rv_linux *l = rv_guest_linux(*out);
    if (l)
        fprintf(stderr, "retro: %s, by %s\n", rv_linux_version(l), rv_linux_how(l));
    else
        fprintf(stderr, "retro: no Linux: %s\n", rv_guest_why_not(*out));
    return 0;
}

int retro_ask_position(struct retro_ask *a, const char *text, struct rv_moment *out,
                       struct rv_err *err) {
    struct rv_replay_config replay = a->config.replay;
    replay.player = (struct rv_player_config){.target = RV_NEVER, .stop_request = &retro_stop};
    return rv_position_find(a->timeline, &replay, text, out, err);
}

int retro_ask_range(struct retro_ask *a, const char *from, const char *to, rv_icount *first,
                    rv_icount *last, struct rv_err *err) {
    struct rv_moment m = {0};
    int r = from ? retro_ask_position(a, from, &m, err) : 0;
    *first = m.icount;
    m.icount = RV_NEVER;
    if (!r && to) r = retro_ask_position(a, to, &m, err);
    *last = m.icount;
    if (!r && *first >= *last)
        r = rv_fail(err, RV_E_USAGE, "there is nothing between --from %s and --to %s",
                    from ? from : "start", to ? to : "end");
    return r;
}

int retro_ask_go(struct retro_ask *a, const char *text, struct rv_err *err) {
    struct rv_moment to;
    struct rv_arrival arrival;
    int r = retro_ask_position(a, text, &to, err);
    if (!r) r = rv_timeline_seek(a->timeline, to, &arrival, err);
    if (!r && arrival.at == RV_AT_INTERRUPT) r = rv_fail(err, RV_E_INTERRUPTED, "interrupted");
    return r;
}

/* Where a process that is gone began to exit, the last of that number. */
static int find_exit(struct retro_ask *a, uint32_t pid, rv_icount *at, struct rv_err *err) {
    struct rv_run_config config = {
        .timeline = a->timeline, .what = RV_RUN_TASKS, .progress = retro_ask_progress, .ctx = a};
    struct rv_guest_run *run;
    int r = rv_run_gather(&run, &config, err);
    if (r) return r;
    r = rv_fail(err, RV_E_USAGE, "there was no process %" PRIu32 "; retro ps lists them", pid);
    for (size_t i = run->tasks; i-- > 0 && r;)
        if (run->task[i].tid == pid && run->task[i].exited) {
            *at = run->task[i].exit_at;
            r = 0;
        }
    rv_run_free(run);
    return r;
}

int retro_ask_look(struct retro_ask *a, struct rv_guest *guest, const char *at, uint32_t pid,
                   struct rv_look *look, struct rv_err *err) {
    int r = retro_ask_go(a, at ? at : "end", err);
    if (r) return r;
    struct rv_machine *m = rv_timeline_machine(a->timeline);
    r = rv_look_at(look, guest, m, pid, err);
    if (r != RV_E_USAGE || at || !pid) return r;
    struct rv_arrival arrival;
    rv_icount exit = 0;
    r = find_exit(a, pid, &exit, err);
    if (!r) r = rv_timeline_seek(a->timeline, (struct rv_moment){exit, 0}, &arrival, err);
    return r ? r : rv_look_at(look, guest, m, pid, err);
}

double retro_seconds(rv_ns t) { return (double)t / 1e9; }
