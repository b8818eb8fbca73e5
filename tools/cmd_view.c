/* retro view: the whole run as one page. */
#include "tools/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "tools/analysis/code.h"
#include "tools/analysis/page_data.h"
#include "tools/analysis/unwind.h"

/* Of each kind of thing; so a page stays at a few megabytes. */
#define MOST 20000u
/* Sampled states. */
#define STATES 400u

extern const unsigned char retro_page_html[], retro_page_css[], retro_page_model[],
    retro_page_timeline[], retro_page_panels[];
extern const size_t retro_page_html_len, retro_page_css_len, retro_page_model_len,
    retro_page_timeline_len, retro_page_panels_len;

struct args {
    struct retro_ask ask;
    const char *path, *output, *from_text, *to_text;
    rv_icount from, to; /* as found */
    bool open, force;
};

enum { OPT_FROM = RETRO_ASK_OWN, OPT_TO, OPT_OPEN };

static const struct option options[] = {
    {"output", required_argument, NULL, 'o'},
    {"force", no_argument, NULL, 'f'},
    {"from", required_argument, NULL, OPT_FROM},
    {"to", required_argument, NULL, OPT_TO},
    {"open", no_argument, NULL, OPT_OPEN},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_view;
    *a = (struct args){.to = RV_NEVER};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT "o:f", options, NULL)) != -1)
        switch (opt) {
        case 'o': a->output = optarg; break;
        case 'f': a->force = true; break;
        case OPT_OPEN: a->open = true; break;
        case OPT_FROM: a->from_text = optarg; break;
        case OPT_TO: a->to_text = optarg; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "view takes one trace");
    a->path = argv[optind];
    return RETRO_OK;
}

/* ---- states ---- */

/* The call stack, by name. What a name or frame cannot be found for is shown as its address. */
static void sample_stack(struct rv_page_state *s, const struct rv_look *look) {
    struct rv_frame frame[RV_PAGE_FRAMES];
    enum rv_unwind_end end;
    size_t n = rv_unwind(look, frame, RV_PAGE_FRAMES, &end);
    for (s->frames = 0; s->frames < n; s->frames++) {
        const struct rv_frame *f = &frame[s->frames];
        s->frame[s->frames].pc = f->pc;
        rv_look_name(look, f->exact ? f->pc : f->pc - 1, s->frame[s->frames].name,
                     sizeof s->frame[0].name);
    }
}

static int sample(struct rv_page_state *s, struct rv_guest *guest, struct rv_machine *m,
                  struct rv_err *err) {
    struct rv_look look = {0};
    int r = rv_look_at(&look, guest, m, 0, err);
    if (r) return r;
    sample_stack(s, &look);
    rv_look_release(&look);
    struct rv_view v;
    rv_view_of(&v, m);
    s->cpu = v.cpu;
    uint64_t rip = v.cpu.rip;
    for (s->codes = 0; s->codes < RV_PAGE_CODE; s->codes++) {
        s->code[s->codes].addr = rip;
        unsigned n = rv_code_at(&v, rip, s->code[s->codes].text, sizeof s->code[0].text);
        if (!n) break;
        rip += n;
    }
    return 0;
}

/* Visits places from first to last. An interruption leaves what there is. */
static int sample_all(struct args *a, const rv_icount *at, struct rv_page_state *state, size_t n,
                      size_t *done, struct rv_err *err) {
    struct rv_timeline *t = a->ask.timeline;
    struct rv_guest *guest = NULL;
    int r = retro_ask_guest(&a->ask, &guest, err);
    for (*done = 0; !r && *done < n; ++*done) {
        struct rv_arrival arrival;
        r = rv_timeline_seek(t, (struct rv_moment){at[*done], 0}, &arrival, err);
        if (r || arrival.at == RV_AT_INTERRUPT) break;
        state[*done].at = at[*done];
        r = sample(&state[*done], guest, rv_timeline_machine(t), err);
        retro_ask_progress(&a->ask, at[*done], at[n - 1]);
    }
    rv_guest_free(guest);
    return r;
}

static int time_at(struct args *a, rv_icount at, rv_ns *time, struct rv_err *err) {
    struct rv_arrival arrival;
    int r = rv_timeline_seek(a->ask.timeline, (struct rv_moment){at, 0}, &arrival, err);
    if (!r) *time = rv_machine_now(rv_timeline_machine(a->ask.timeline)).time;
    return r;
}

/* ---- the page ---- */

static void put_base64(struct rv_buf *out, const uint8_t *p, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
                     (i + 2 < n ? p[i + 2] : 0);
        uint8_t *to = rv_buf_grow(out, 4);
        for (unsigned k = 0; k < 4; k++) to[k] = (uint8_t)digits[v >> (18 - 6 * k) & 63];
        if (i + 1 >= n) to[2] = '=';
        if (i + 2 >= n) to[3] = '=';
    }
}

/* zlib's format, which browsers call "deflate". */
static void put_data(struct rv_buf *out, const struct rv_buf *json) {
    uLongf n = compressBound(json->len);
    uint8_t *packed = rv_alloc(n);
    int z = compress2(packed, &n, json->data, json->len, 9);
    rv_assert(z == Z_OK); /* it fails only for want of memory or room */
    put_base64(out, packed, n);
    free(packed);
}

/* The template with its three places filled. */
static void assemble(struct rv_buf *out, const struct rv_buf *json) {
    static const char *const places[] = {"@STYLE@", "@DATA@", "@SCRIPT@"};
    const char *p = (const char *)retro_page_html, *end = p + retro_page_html_len;
    for (unsigned i = 0; i < RV_COUNT(places); i++) {
        const char *at = memmem(p, (size_t)(end - p), places[i], strlen(places[i]));
        rv_assert(at);
        rv_buf_put(out, p, (size_t)(at - p));
        p = at + strlen(places[i]);
        if (i == 0) rv_buf_put(out, retro_page_css, retro_page_css_len);
        if (i == 1) put_data(out, json);
        if (i == 2) {
            rv_buf_put(out, retro_page_model, retro_page_model_len);
            rv_buf_put(out, retro_page_timeline, retro_page_timeline_len);
            rv_buf_put(out, retro_page_panels, retro_page_panels_len);
        }
    }
    rv_buf_put(out, p, (size_t)(end - p));
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A file name as a shell takes it. */
static void quote(struct rv_buf *out, const char *s) {
    bool plain = *s && *s != '-';
    for (const char *p = s; *p && plain; p++)
        plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                strchr("._-+/:,@", *p);
    if (plain) {
        rv_buf_put(out, s, strlen(s) + 1);
        return;
    }
    if (*s == '-') rv_buf_put(out, "./", 2);
    rv_buf_put_u8(out, '\'');
    for (; *s; s++)
        if (*s == '\'')
            rv_buf_put(out, "'\\''", 4);
        else
            rv_buf_put_u8(out, (uint8_t)*s);
    rv_buf_put(out, "'", 2);
}

static int write_page(const struct args *a, const char *path, const struct rv_buf *page,
                      struct rv_err *err) {
    struct rv_buf part = {0};
    rv_buf_printf(&part, "%s.%ld.part", path, (long)getpid());
    rv_buf_put_u8(&part, 0);
    const char *name = (const char *)part.data;
    int r = 0;
    FILE *f = fopen(name, "wbxe");
    if (!f) {
        r = rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    } else {
        bool bad = fwrite(page->data, 1, page->len, f) != page->len;
        bad |= fclose(f) != 0;
        if (bad) r = rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    }
    /* A name that is taken meanwhile is not replaced unless that was asked for. */
    if (!r && (a->force ? rename(name, path) : link(name, path)) != 0)
        r = errno == EEXIST
                ? rv_fail(err, RV_E_HOST,
                          "%s exists; give another --output, or --force to replace it", path)
                : rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    unlink(name);
    rv_buf_release(&part);
    return r;
}

static int build(struct args *a, const struct rv_guest_run *run, struct rv_buf *page,
                 struct rv_err *err) {
    struct rv_page_config c = {
        .file = base_name(a->path), .from = a->from, .to = a->to, .most = MOST};
    if (c.to > run->end) c.to = run->end;
    if (c.from >= c.to)
        return rv_fail(
            err, RV_E_USAGE,
            "there is nothing between --from and --to; the recording has %llu instructions",
            (unsigned long long)run->end);
    c.to_time = run->end_time;
    int r = a->from ? time_at(a, c.from, &c.from_time, err) : 0;
    rv_icount *at = rv_alloc(2 * STATES * sizeof *at);
    size_t n = rv_page_places(run, c.from, c.to, at, STATES);
    struct rv_page_state *state = rv_alloc((n + 1) * sizeof *state);
    if (!r) r = sample_all(a, at, state, n, &c.states, err);
    if (!r && c.to < run->end) r = time_at(a, c.to, &c.to_time, err);
    c.state = state;
    struct rv_buf arg = {0}, json = {0};
    quote(&arg, a->path);
    c.arg = (const char *)arg.data;
    struct rv_export x = {.run = run, .reader = rv_timeline_reader(a->ask.timeline)};
    if (!r) {
        rv_page_data(&json, &x, &c);
        assemble(page, &json);
    }
    rv_buf_release(&json);
    rv_buf_release(&arg);
    free(state);
    free(at);
    return r;
}

/* Hands the page to the desktop's browser. */
static int show(const char *path, struct rv_err *err) {
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null >= 0) {
            dup2(null, STDOUT_FILENO);
            dup2(null, STDERR_FILENO);
        }
        execlp("xdg-open", "xdg-open", path, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return rv_fail(err, RV_E_HOST, "xdg-open could not show %s; open it in a browser yourself",
                       path);
    return 0;
}

static char *output_of(const struct args *a) {
    if (a->output) return rv_strdup(a->output);
    struct rv_buf b = {0};
    rv_buf_printf(&b, "%s.html", a->path);
    rv_buf_put_u8(&b, 0);
    return (char *)b.data;
}

static int view_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_guest_run *run = NULL;
    struct rv_buf page = {0};
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    char *output = output_of(&a);
    int r = 0;
    if (!a.force && access(output, F_OK) == 0)
        r = rv_fail(&err, RV_E_HOST, "%s exists; give another --output, or --force to replace it",
                    output);
    if (!r) r = retro_ask_open(&a.ask, a.path, "looking", &err);
    struct rv_run_config config = {.timeline = a.ask.timeline,
                                   .what = RV_RUN_ALL,
                                   .progress = retro_ask_progress,
                                   .ctx = &a.ask};
    if (!r) r = retro_ask_range(&a.ask, a.from_text, a.to_text, &a.from, &a.to, &err);
    if (!r) r = rv_run_gather(&run, &config, &err);
    if (!r) r = build(&a, run, &page, &err);
    retro_ask_quiet(&a.ask);
    if (!r) r = write_page(&a, output, &page, &err);
    if (!r && !a.ask.quiet) {
        char n[32];
        printf("wrote %s, %s bytes; open it in a browser\n", output, retro_group(page.len, n));
        fflush(stdout);
    }
    if (!r && a.open) r = show(output, &err);
    if (!r && run->interrupted) status = retro_ask_interrupted(&a.ask, run->end);
    rv_buf_release(&page);
    rv_run_free(run);
    free(output);
    r = retro_ask_close(&a.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_view = {
    .name = "view",
    .brief = "the whole run as one page for a browser",
    .help =
        "Usage: retro view [OPTION]... FILE\n"
        "Writes one HTML page with a timeline of the run: processes, system calls, interrupts,\n"
        "exceptions, console and marks, with search, zoom and sampled states. It loads nothing\n"
        "from anywhere, can be sent to somebody, and works by keyboard alone (? shows the "
        "keys).\n\n"
        "  -o, --output PAGE    the page to write (default FILE.html)\n"
        "  -f, --force          replace it if it exists\n"
        "      --from POSITION, --to POSITION\n"
        "                       a part of the run, in full detail\n"
        "      --open           show it with xdg-open\n" RETRO_ASK_HELP "\n"
        "Example: retro view --open boot.retro\n",
    .main = view_main,
};
