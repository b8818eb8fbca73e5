/* retro find */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tools/query.h"
#include "vmm/base/buf.h"

#define MAX_BYTES 4096

enum { OPT_LIMIT = RETRO_ASK_OWN, OPT_TEXT, OPT_EXACT };

static const struct option options[] = {
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"text", no_argument, NULL, OPT_TEXT},
    {"exact", no_argument, NULL, OPT_EXACT},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

struct find {
    struct retro_query q;
    uint8_t bytes[MAX_BYTES];
    size_t len;
    bool exact;
    struct rv_sighting *sighting;
    size_t n, room;
};

static int digit(char c) {
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* Hexadecimal digits, two a byte, spaces and colons between; false when it is something else. */
static bool parse_hex(struct find *f, const char *p) {
    if (strncmp(p, "0x", 2) == 0) p += 2;
    for (f->len = 0; *p;) {
        if (*p == ' ' || *p == ':') {
            p++;
            continue;
        }
        if (f->len == MAX_BYTES || digit(p[0]) < 0 || digit(p[1]) < 0) return false;
        f->bytes[f->len++] = (uint8_t)(digit(p[0]) << 4 | digit(p[1]));
        p += 2;
    }
    return f->len > 0;
}

static bool parse_text(struct find *f, const char *p, size_t n) {
    if (!n || n > MAX_BYTES) return false;
    memcpy(f->bytes, p, n);
    f->len = n;
    return true;
}

static int parse(int argc, char **argv, struct find *f) {
    const struct retro_command *cmd = &retro_cmd_find;
    struct retro_query *q = &f->q;
    bool text = false;
    retro_ask_init(&q->ask);
    q->limit = 10;
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_LIMIT:
            if (!retro_parse_count(optarg, &q->limit) || !q->limit)
                return retro_usage(cmd, "--limit %s is not a count", optarg);
            break;
        case OPT_TEXT: text = true; break;
        case OPT_EXACT: f->exact = true; break;
        default: status = retro_ask_option(&q->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (argc - optind != 2) return retro_usage(cmd, "find takes a trace and bytes");
    q->path = argv[optind];
    const char *p = argv[optind + 1];
    size_t n = strlen(p);
    bool quoted = n > 2 && p[0] == '"' && p[n - 1] == '"';
    if (text ? !parse_text(f, p, n) : quoted ? !parse_text(f, p + 1, n - 2) : !parse_hex(f, p))
        return retro_usage(cmd, "%s is neither hexadecimal bytes nor a \"text\" (--text)", p);
    return RETRO_OK;
}

static int on_sighting(void *ctx, const struct rv_sighting *s, struct rv_err *err) {
    struct find *f = ctx;
    (void)err;
    if (f->n == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        f->sighting = rv_realloc(f->sighting, f->room * sizeof *f->sighting);
    }
    f->sighting[f->n++] = *s;
    return f->n == f->q.limit;
}

static bool on_progress(void *ctx, rv_icount done, rv_icount total) {
    struct find *f = ctx;
    return retro_query_progress(&f->q, done, total);
}

static void print(struct find *f, const struct rv_sighting *s, const struct rv_watch_hit *hit,
                  const struct rv_look *look) {
    struct rv_timeline *t = f->q.ask.timeline;
    if (f->q.ask.json) {
        json_t *o =
            look ? retro_json_where(t, look) : json_pack("{s:I}", "position", (json_int_t)0);
        json_object_set_new(o, "physical", retro_json_hex(s->gpa));
        if (hit && hit->gva != UINT64_MAX)
            json_object_set_new(o, "address", retro_json_hex(hit->gva - (hit->gpa - s->gpa)));
        if (look) json_object_set_new(o, "backtrace", retro_json_stack(look));
        retro_json_put(stdout, o, RETRO_JSON_LINE);
        return;
    }
    if (!look) {
        printf("%16d                 physical 0x%" PRIx64 ", when the machine was made\n", 0,
               s->gpa);
        return;
    }
    printf("%16" PRIu64 " %14.6f  physical 0x%" PRIx64, rv_timeline_now(t).icount,
           retro_seconds(rv_machine_now(look->machine).time), s->gpa);
    if (hit->gva != UINT64_MAX) printf(", linear 0x%" PRIx64, hit->gva - (hit->gpa - s->gpa));
    if (look->up) {
        printf(", by %u ", look->task.tid);
        retro_print_text(stdout, (const uint8_t *)look->task.comm, strlen(look->task.comm));
    }
    printf(" at 0x%" PRIx64, rv_view_pc(&look->cpu));
    retro_show_name(look, rv_view_pc(&look->cpu));
    putchar('\n');
}

/* The write that completed the bytes is the last one to them before they were seen. */
static int pin_down(struct find *f, const struct rv_sighting *s, struct rv_err *err) {
    struct rv_timeline *t = f->q.ask.timeline;
    struct rv_look look = {0};
    struct rv_span span[2] = {{.gpa = s->gpa, .len = f->len}};
    struct rv_target target = {.span = span, .n = 1};
    struct rv_watch_hit hit;
    struct rv_arrival a;
    bool found = false, interrupted = false;
    uint64_t room = RV_PAGE_SIZE - (s->gpa & 0xfff);
    if (f->len > room) {
        span[0].len = room;
        span[target.n++] = (struct rv_span){.gpa = s->gpa + room, .len = f->len - room};
    }
    rv_icount end = rv_timeline_end(t).icount;
    struct rv_moment to = {s->by, 0};
    if (s->by >= end) to = rv_timeline_end(t);
    int r = s->by ? rv_timeline_seek(t, to, &a, err) : 0;
    if (!r && s->by) r = rv_query_write(t, &target, false, &hit, &found, &interrupted, err);
    if (!r && interrupted) r = rv_fail(err, RV_E_INTERRUPTED, "interrupted");
    if (!r && found) r = rv_look_at(&look, f->q.guest, rv_timeline_machine(t), 0, err);
    if (!r) print(f, s, found ? &hit : NULL, found ? &look : NULL);
    rv_look_release(&look);
    return r;
}

static int find_main(int argc, char **argv) {
    struct find f = {0};
    struct rv_err err = {0};
    int status = parse(argc, argv, &f);
    if (status != RETRO_OK) return status;
    struct retro_query *q = &f.q;
    int r = retro_ask_open(&q->ask, q->path, "searching", &err);
    if (!r) r = retro_ask_guest(&q->ask, &q->guest, &err);
    if (!r)
        r = rv_query_bytes(q->ask.timeline, f.bytes, f.len, f.exact, on_sighting, on_progress, &f,
                           &q->upto, &q->interrupted, &err);
    retro_ask_quiet(&q->ask);
    for (size_t i = 0; !r && i < f.n; i++) r = pin_down(&f, &f.sighting[i], &err);
    if (!r && !f.n && !q->interrupted && !q->ask.quiet)
        fprintf(stderr, "retro: these bytes were not seen in memory\n");
    if (!r && f.n == q->limit && !q->ask.quiet)
        fprintf(stderr, "retro: the first %" PRIu64 " places; --limit gives more\n", q->limit);
    if (!r && q->interrupted) status = retro_ask_interrupted(&q->ask, q->upto);
    free(f.sighting);
    rv_guest_free(q->guest);
    r = retro_ask_close(&q->ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_find = {
    .name = "find",
    .brief = "find where and when bytes first appear in memory",
    .help = "Usage: retro find [OPTION]... FILE BYTES\n"
            "Looks for bytes in all of the guest's memory through the whole recording and says\n"
            "where and when they first appeared, and who wrote them. BYTES are hexadecimal\n"
            "(\"de ad be ef\") or a text in double quotes. Memory is looked at every 16,384\n"
            "instructions; what came and went in between is found with --exact.\n\n"
            "      --exact          look after every write: takes many times as long\n"
            "      --text           BYTES are text without quotes\n"
            "      --limit N        the first N places (default 10)\n" RETRO_ASK_HELP "\n"
            "Example: retro find --text boot.retro 'settlement of'\n",
    .main = find_main,
};
