/* retro console */
#include "tools/retro.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/analysis/console.h"
#include "tools/analysis/utf8.h"

enum form { FORM_TEXT, FORM_TIMING, FORM_CAST, FORM_JSON };

struct args {
    const char *path, *engine;
    struct rv_replay_config replay;
    enum rv_source sink;
    enum form form;
    rv_icount at;
    bool raw, quiet;
};

enum {
    OPT_AT = 256,
    OPT_TIMING,
    OPT_CAST,
    OPT_JSON,
    OPT_DEBUGCON,
    OPT_RAW,
    OPT_KERNEL,
    OPT_INITRD
};

static const struct option options[] = {
    {"at", required_argument, NULL, OPT_AT},
    {"timing", no_argument, NULL, OPT_TIMING},
    {"asciinema", no_argument, NULL, OPT_CAST},
    {"json", no_argument, NULL, OPT_JSON},
    {"debugcon", no_argument, NULL, OPT_DEBUGCON},
    {"raw", no_argument, NULL, OPT_RAW},
    {"engine", required_argument, NULL, 'e'},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"quiet", no_argument, NULL, 'q'},
    {NULL, 0, NULL, 0},
};

static int set_form(struct args *a, enum form form) {
    if (a->form != FORM_TEXT && a->form != form)
        return retro_usage(&retro_cmd_console,
                           "give one of --timing, --asciinema and --json, not several");
    a->form = form;
    return RETRO_OK;
}

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_console;
    *a = (struct args){.engine = "auto", .sink = RV_SRC_CONSOLE, .at = RV_NEVER};
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, ":e:q", options, NULL)) != -1) {
        switch (opt) {
        case OPT_AT:
            if (!retro_parse_position(optarg, &a->at))
                return retro_usage(cmd, "--at %s is not a position", optarg);
            break;
        case OPT_TIMING: status = set_form(a, FORM_TIMING); break;
        case OPT_CAST: status = set_form(a, FORM_CAST); break;
        case OPT_JSON: status = set_form(a, FORM_JSON); break;
        case OPT_DEBUGCON: a->sink = RV_SRC_DEBUGCON; break;
        case OPT_RAW: a->raw = true; break;
        case OPT_KERNEL: a->replay.kernel = optarg; break;
        case OPT_INITRD: a->replay.initrd = optarg; break;
        case 'e': a->engine = optarg; break;
        case 'q': a->quiet = true; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "console takes one trace");
    a->path = a->replay.path = argv[optind];
    return RETRO_OK;
}

/* ---- the forms ---- */

/* A terminal is shown the guest's text, not its control sequences: those could do anything to it.
 */
static void print_text(const struct rv_console *c, bool raw) {
    if (raw || !isatty(STDOUT_FILENO)) {
        if (c->text.len) fwrite(c->text.data, 1, c->text.len, stdout);
        return;
    }
    for (size_t i = 0; i < c->text.len; i++) {
        uint8_t b = c->text.data[i];
        if (b == '\n' || b == '\t' || (b >= 32 && b != 127))
            putchar(b);
        else if (b != '\r')
            printf("\\x%02x", b);
    }
    if (c->text.len && c->text.data[c->text.len - 1] != '\n') putchar('\n');
}

/* A stretch of pieces that is shown as one. */
struct stretch {
    size_t first; /* piece */
    const uint8_t *data;
    size_t len;
};

/* The next stretch from piece *i on: up to the end of a line, or where the guest printed nothing
 * for longer than gap. */
static bool next_stretch(const struct rv_console *c, size_t *i, rv_ns gap, struct stretch *s) {
    if (*i >= c->pieces) return false;
    *s = (struct stretch){.first = *i, .data = c->text.data + c->piece[*i].start};
    for (rv_ns last = c->piece[*i].time; *i < c->pieces; ++*i) {
        const struct rv_console_piece *p = &c->piece[*i];
        if (s->len && p->time - last > gap) break;
        last = p->time;
        s->len += p->len;
        if (c->text.data[p->start + p->len - 1] == '\n') {
            ++*i;
            break;
        }
    }
    return true;
}

static void print_timing(const struct rv_console *c) {
    struct stretch s;
    for (size_t i = 0; c->piece && next_stretch(c, &i, RV_NEVER, &s);) {
        const struct rv_console_piece *p = &c->piece[s.first];
        while (s.len && (s.data[s.len - 1] == '\n' || s.data[s.len - 1] == '\r')) s.len--;
        printf("%14.6f %16" PRIu64 "  ", (double)p->time / 1e9, p->at);
        retro_print_text(stdout, s.data, s.len);
        putchar('\n');
    }
}

static void print_json(const struct rv_console *c) {
    struct stretch s;
    for (size_t i = 0; c->piece && next_stretch(c, &i, RV_NEVER, &s);) {
        const struct rv_console_piece *p = &c->piece[s.first];
        json_t *o = json_object();
        json_object_set_new(o, "position", json_integer((json_int_t)p->at));
        json_object_set_new(o, "time", json_integer((json_int_t)p->time));
        json_object_set_new(o, "data", retro_json_bytes(s.data, s.len));
        retro_json_put(stdout, o, RETRO_JSON_LINE);
    }
}

/* asciicast v2 (docs.asciinema.org): a header line, then [seconds, "o", text] a line. Text has to
 * be UTF-8: what a character needs is kept together, and what is none becomes U+FFFD. */
static void print_cast(const struct rv_console *c, const char *title, uint64_t boot_time) {
    json_t *h = json_pack("{s:i, s:i, s:i, s:I}", "version", 2, "width", 80, "height", 25,
                          "timestamp", (json_int_t)boot_time);
    json_object_set_new(h, "title", retro_json_utf8z(title));
    json_object_set_new(h, "duration", json_real((double)c->end_time / 1e9));
    retro_json_put(stdout, h, RETRO_JSON_LINE | JSON_PRESERVE_ORDER);
    struct rv_buf pending = {0};
    struct stretch s;
    for (size_t i = 0; c->piece && next_stretch(c, &i, 1000000, &s);) {
        const struct rv_console_piece *p = &c->piece[s.first];
        rv_buf_put(&pending, s.data, s.len);
        bool last = i == c->pieces;
        size_t n = last ? pending.len : rv_utf8_whole(pending.data, pending.len);
        if (!n) continue;
        json_t *text = retro_json_utf8(pending.data, n);
        json_t *e = json_pack("[f, s, o]", (double)p->time / 1e9, "o", text);
        retro_json_put(stdout, e, RETRO_JSON_LINE | JSON_REAL_PRECISION(12));
        memmove(pending.data, pending.data + n, pending.len - n);
        pending.len -= n;
    }
    rv_buf_release(&pending);
}

/* ---- the command ---- */

static int check_position(const struct args *a, const struct rv_trace_reader *r,
                          struct rv_err *err) {
    struct rv_trace_state st;
    rv_trace_reader_state(r, &st);
    if (a->at == RV_NEVER || a->at <= st.position) return 0;
    return rv_fail(err, RV_E_USAGE,
                   "--at %llu is after the end of the recording; it has %llu instructions",
                   (unsigned long long)a->at, (unsigned long long)st.position);
}

static int replay(struct args *a, struct rv_console *c, struct rv_err *err) {
    retro_catch_signals();
    int r = retro_engine(a->engine, false, &a->replay.engine, err);
    if (!r) r = retro_lift_first(a->path, a->quiet, err);
    if (r) return r;
    struct retro_meter *meter =
        retro_meter_new(!a->quiet && isatty(STDERR_FILENO), "replaying",
                        a->at == RV_NEVER ? retro_trace_length(a->path) : a->at);
    a->replay.player.stop_request = &retro_stop;
    r = rv_console_replay(c, &a->replay, a->sink, a->at, retro_meter_wrap, meter, err);
    retro_meter_free(meter);
    return r;
}

static int gather(struct args *a, struct rv_console *c, uint64_t *boot_time, struct rv_err *err) {
    struct rv_trace_reader *reader;
    int r = rv_trace_reader_open(&reader, a->path, err);
    if (r) return r;
    *boot_time = rv_trace_reader_header(reader)->boot_time;
    bool split = false, by_trap = false;
    r = retro_is_by_trap(a->path, &by_trap, err);
    if (!r && !by_trap) r = check_position(a, reader, err);
    if (!r && a->form == FORM_TEXT) r = rv_console_read(c, reader, a->sink, a->at, &split, err);
    rv_trace_reader_free(reader);
    bool bytes = a->form != FORM_TEXT || split || (by_trap && a->at != RV_NEVER);
    if (r || !bytes) return r;
    rv_console_release(c);
    return replay(a, c, err);
}

static int console_main(int argc, char **argv) {
    struct args a;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    struct rv_err err = {0};
    struct rv_console c = {0};
    uint64_t boot_time = 0;
    int r = gather(&a, &c, &boot_time, &err);
    switch (a.form) {
    case FORM_TEXT: print_text(&c, a.raw); break;
    case FORM_TIMING: print_timing(&c); break;
    case FORM_JSON: print_json(&c); break;
    case FORM_CAST:
        if (c.end || !r) print_cast(&c, a.path, boot_time);
        break;
    }
    fflush(stdout);
    if (r)
        status = retro_error(&err);
    else if (!c.whole)
        status = RETRO_INTERRUPTED;
    rv_console_release(&c);
    return status;
}

const struct retro_command retro_cmd_console = {
    .name = "console",
    .brief = "what the guest printed, with its timing if wanted",
    .help =
        "Usage: retro console [OPTION]... FILE\n"
        "Prints what the guest printed on its console (COM1). A terminal is shown no control\n"
        "sequences; a file or pipe gets every byte. --timing, --asciinema and --json replay the\n"
        "recording to know the instruction of every byte.\n\n"
        "      --at POSITION  only what was printed before that (suffixes k, M, G)\n"
        "      --timing       a line each: guest time in seconds, position, text\n"
        "      --asciinema    an asciicast v2 file in guest time, for asciinema play\n"
        "      --json         one object a line: position, time (ns), data (U+0000..U+00FF)\n"
        "      --debugcon     what was printed to port 0xe9 instead\n"
        "      --raw          every byte on a terminal, too\n"
        "  -e, --engine ENGINE  auto (default), translate or interpret\n"
        "      --kernel FILE  the kernel, for a trace recorded with --no-embed\n"
        "      --initrd FILE  the initial RAM disk, likewise\n"
        "  -q, --quiet        no progress\n\n"
        "Example: retro console --asciinema boot.retro > boot.cast\n",
    .main = console_main,
};
