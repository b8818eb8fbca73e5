#include "tools/analysis/position.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/console.h"
#include "tools/analysis/run.h"

struct asked {
    struct rv_timeline *t;
    const struct rv_replay_config *replay;
    const char *text; /* all of it, for messages */
};

/* "1.44G": a number with a dot and a unit. */
static bool parse_decimal(const char *text, struct rv_moment *out) {
    char *end;
    size_t n = strlen(text);
    if (!n || strspn(text, "0123456789.") != n - 1 || !strchr(text, '.')) return false;
    double v = strtod(text, &end);
    if (end != text + n - 1) return false;
    v *= *end == 'k' || *end == 'K' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : -1;
    if (v < 0 || v > 1e18) return false;
    *out = (struct rv_moment){(rv_icount)(v + 0.5), 0};
    return true;
}

/* A count with commas and a unit; behind a dot, the number of deliveries. */
static bool parse_count(const char *p, struct rv_moment *out) {
    uint64_t n = 0, unit = 1, delivered = 0;
    const char *begin = p;
    for (; (*p >= '0' && *p <= '9') || (*p == ',' && p > begin); p++)
        if (*p != ',' && (__builtin_mul_overflow(n, 10u, &n) ||
                          __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n)))
            return false;
    if (p == begin) return false;
    switch (*p) {
    case 'k':
    case 'K': unit = 1000; break;
    case 'M': unit = 1000000; break;
    case 'G': unit = 1000000000; break;
    default: break;
    }
    if (unit > 1) p++;
    if (*p == '.' && unit == 1 && p[1]) {
        char *end;
        delivered = strtoull(p + 1, &end, 10);
        if (p[1] < '0' || p[1] > '9' || delivered > UINT32_MAX) return false;
        p = end;
    }
    if (*p || __builtin_mul_overflow(n, unit, &n)) return false;
    *out = (struct rv_moment){n, (uint32_t)delivered};
    return true;
}

/* "50%" or "0.5"; false when it is neither. */
static bool parse_part(const char *text, double *part) {
    char *end;
    size_t n = strlen(text);
    if (!n || strspn(text, "0123456789.%") != n) return false;
    *part = strtod(text, &end);
    if (strcmp(end, "%") == 0) {
        *part /= 100;
        return *part >= 0 && *part <= 1;
    }
    bool dot = text[0] == '.' || (strncmp(text, "0.", 2) == 0 && text[2]);
    return !*end && dot;
}

static int no_such(const struct asked *a, struct rv_err *err, const char *what) {
    return rv_fail(err, RV_E_USAGE, "there is no position %s: %s", a->text, what);
}

static int find_event(const struct asked *a, const char *arg, struct rv_moment *out,
                      struct rv_err *err) {
    char *end;
    uint64_t n = strtoull(arg, &end, 10);
    if (*arg < '0' || *arg > '9' || *end) return no_such(a, err, "event: takes a number");
    struct rv_trace_cursor *c = rv_trace_cursor_new(rv_timeline_reader(a->t));
    const struct rv_trace_event *e;
    int r = rv_trace_cursor_seek_ordinal(c, n, err);
    if (!r) r = rv_trace_cursor_next(c, &e, err);
    if (!r) *out = (struct rv_moment){e->position, 0};
    rv_trace_cursor_free(c);
    if (r == RV_E_END || r == RV_E_USAGE)
        return no_such(a, err, "the trace has fewer events (retro events lists them)");
    return r;
}

static int find_mark(const struct asked *a, const char *name, struct rv_moment *out,
                     struct rv_err *err) {
    struct rv_trace_cursor *c = rv_trace_cursor_new(rv_timeline_reader(a->t));
    const struct rv_trace_event *e;
    size_t len = strlen(name);
    int r;
    while ((r = rv_trace_cursor_next(c, &e, err)) == 0)
        if (e->kind == RV_TRACE_MARK && e->len == len && memcmp(e->data, name, len) == 0) break;
    if (!r) *out = (struct rv_moment){e->position, 0};
    rv_trace_cursor_free(c);
    return r == RV_E_END ? no_such(a, err, "no mark has that name (retro events --kind mark)") : r;
}

/* The piece that the byte at an offset of the text came in. */
static const struct rv_console_piece *piece_at(const struct rv_console *c, size_t offset) {
    for (size_t i = c->pieces; i-- > 0;)
        if (c->piece[i].start <= offset) return &c->piece[i];
    return NULL;
}

static int find_printed(const struct asked *a, const char *what, struct rv_moment *out,
                        struct rv_err *err) {
    struct rv_console c = {0};
    bool split;
    size_t len = strlen(what);
    if (!len) return no_such(a, err, "console: takes a text");
    int r = rv_console_read(&c, rv_timeline_reader(a->t), RV_SRC_CONSOLE, RV_NEVER, &split, err);
    const uint8_t *at = r ? NULL : memmem(c.text.data, c.text.len, what, len);
    if (!r && !at) r = no_such(a, err, "the guest never printed that (retro console shows all)");
    if (!r) {
        /* The trace says where the run of output begins; a replay, where each byte came. Runs do
         * not overlap, so the next one's start is far enough. */
        size_t last = (size_t)(at - c.text.data) + len - 1;
        const struct rv_console_piece *p = piece_at(&c, last);
        rv_icount to = p + 1 < c.piece + c.pieces ? p[1].at : RV_NEVER;
        rv_console_release(&c);
        c = (struct rv_console){0};
        r = rv_console_replay(&c, a->replay, RV_SRC_CONSOLE, to, NULL, NULL, err);
        if (!r && last < c.text.len)
            *out = (struct rv_moment){piece_at(&c, last)->at + 1, 0};
        else if (!r)
            r = rv_fail(err, RV_E_INTERRUPTED, "interrupted");
    }
    rv_console_release(&c);
    return r;
}

static int find_syscall(const struct asked *a, const char *arg, struct rv_moment *out,
                        struct rv_err *err) {
    char *end;
    uint64_t n = strtoull(arg, &end, 10);
    if (*arg < '0' || *arg > '9' || *end) return no_such(a, err, "syscall: takes a number");
    struct rv_run_config config = {.timeline = a->t, .what = RV_RUN_SYSCALLS};
    struct rv_guest_run *run;
    int r = rv_run_gather(&run, &config, err);
    if (r) return r;
    if (n < run->syscalls)
        *out = (struct rv_moment){run->syscall[n].enter, 0};
    else if (run->interrupted)
        r = rv_fail(err, RV_E_INTERRUPTED, "interrupted");
    else if (!run->system)
        r = rv_fail(err, RV_E_UNSUPPORTED, "the guest's system calls are not known: %s",
                    run->system_note);
    else
        r = no_such(a, err, "there are fewer system calls (retro syscalls lists them)");
    rv_run_free(run);
    return r;
}

int rv_position_find(struct rv_timeline *t, const struct rv_replay_config *replay, const char *text,
                     struct rv_moment *out, struct rv_err *err) {
    static const struct {
        const char *prefix;
        int (*find)(const struct asked *, const char *, struct rv_moment *, struct rv_err *);
    } kinds[] = {{"event:", find_event},
                 {"console:", find_printed},
                 {"syscall:", find_syscall},
                 {"mark:", find_mark}};
    struct asked a = {t, replay, text};
    struct rv_moment end = rv_timeline_end(t);
    double part;
    if (strcmp(text, "end") == 0) {
        *out = end;
        return 0;
    }
    if (strcmp(text, "start") == 0) {
        *out = (struct rv_moment){0, 0};
        return 0;
    }
    for (unsigned i = 0; i < RV_COUNT(kinds); i++) {
        size_t n = strlen(kinds[i].prefix);
        if (strncmp(text, kinds[i].prefix, n) == 0) return kinds[i].find(&a, text + n, out, err);
    }
    if (parse_part(text, &part)) {
        *out = (struct rv_moment){(rv_icount)(part * (double)end.icount), 0};
        return 0;
    }
    if (!parse_decimal(text, out) && !parse_count(text, out))
        return rv_fail(
            err, RV_E_USAGE,
            "%s is not a position: give a count of instructions (k, M, G), a part (50%%), "
            "start, end, event:N, console:TEXT, syscall:N or mark:NAME",
            text);
    if (out->icount > end.icount)
        return rv_fail(err, RV_E_USAGE,
                       "position %s lies beyond the end of the recording, which is %" PRIu64, text,
                       end.icount);
    return 0;
}
