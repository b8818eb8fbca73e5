/* The commands behind gdb's `monitor`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay/gdb/stub_priv.h"

/* "12,345,678" in a caller's buffer of 32 bytes. */
static const char *group(uint64_t n, char buf[32]) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n), to = 0;
    for (int i = 0; i < len; i++) {
        buf[to++] = digits[i];
        if (i + 1 < len && (len - i - 1) % 3 == 0) buf[to++] = ',';
    }
    buf[to] = 0;
    return buf;
}

void rv_gdb_say_moment(struct rv_gdb_stub *s, struct rv_moment at) {
    char n[32];
    rv_icount end = rv_timeline_end(s->t).icount;
    double part = end ? 100.0 * (double)at.icount / (double)end : 0;
    rv_gdb_say(s, "%s", group(at.icount, n));
    if (rv_moment_same(at, rv_timeline_end(s->t)))
        rv_gdb_say(s, ", the end");
    else if (at.delivered)
        rv_gdb_say(s, ".%u (%.1f%%)", at.delivered, part);
    else
        rv_gdb_say(s, " (%.1f%%)", part);
}

static void say_failure(struct rv_gdb_stub *s, const struct rv_err *err) {
    rv_gdb_say(s, "retro: %s\n", err->msg);
}

/* ---- words ---- */

static const char *skip_blanks(const char *p) {
    while (*p == ' ' || *p == '\t') p++;
    return p;
}

/* The next word is `word`: *p moves behind it. */
static bool word(const char **p, const char *what) {
    size_t n = strlen(what);
    if (strncmp(*p, what, n) != 0 || ((*p)[n] && (*p)[n] != ' ' && (*p)[n] != '\t')) return false;
    *p = skip_blanks(*p + n);
    return true;
}

/* A number, decimal or 0x..., with k, M or G behind it. */
static bool number(const char **p, uint64_t *v) {
    char *end;
    if (**p < '0' || **p > '9') return false;
    /* Commas as we print them. */
    char text[40];
    size_t n = 0;
    const char *from = *p;
    while (n + 1 < sizeof text &&
           ((*from >= '0' && *from <= '9') || strchr("xXabcdefABCDEF,", *from)) && *from) {
        if (*from != ',') text[n++] = *from;
        from++;
    }
    text[n] = 0;
    *v = strtoull(text, &end, 0);
    if (*end) return false;
    uint64_t factor = 1;
    switch (*from) {
    case 'k':
    case 'K': factor = 1000; break;
    case 'M': factor = 1000000; break;
    case 'G': factor = 1000000000; break;
    default: break;
    }
    if (factor > 1) from++;
    if (__builtin_mul_overflow(*v, factor, v)) return false;
    *p = from;
    return true;
}

static bool at_end(const char *p) { return !*skip_blanks(p); }

/* ---- where ---- */

static void say_here(struct rv_gdb_stub *s) {
    struct rv_gdb_cpu cpu;
    struct rv_machine *m = rv_timeline_machine(s->t);
    rv_gdb_state(m, &cpu);
    rv_gdb_say(s, "position ");
    rv_gdb_say_moment(s, rv_timeline_now(s->t));
    rv_gdb_say(s, ", guest time %.9f s, pc 0x%" PRIx64 "%s\n",
               (double)rv_machine_now(m).time / RV_NSEC, rv_gdb_pc(&cpu.x),
               rv_timeline_branched(s->t) ? ", on a branch" : "");
}

static void cmd_when(struct rv_gdb_stub *s, const char *p) {
    (void)p;
    say_here(s);
    if (rv_timeline_at_end(s->t))
        rv_gdb_say(s, "the recording ended: %s\n", rv_stop_text(rv_timeline_reason(s->t)));
}

static bool event_position(struct rv_gdb_stub *s, uint64_t ordinal, struct rv_moment *to) {
    struct rv_trace_cursor *c = rv_trace_cursor_new(rv_timeline_reader(s->t));
    const struct rv_trace_event *ev;
    struct rv_err err = {0};
    int r = rv_trace_cursor_seek_ordinal(c, ordinal, &err);
    if (!r) r = rv_trace_cursor_peek(c, &ev, &err);
    if (!r)
        *to = (struct rv_moment){ev->position, 0};
    else if (r == RV_E_END)
        rv_gdb_say(s, "there is no such event\n");
    else
        say_failure(s, &err);
    rv_trace_cursor_free(c);
    return !r;
}

static bool bookmark_position(struct rv_gdb_stub *s, const char *name, struct rv_moment *to) {
    for (size_t i = 0; i < s->bookmarks; i++)
        if (strcmp(s->bookmark[i].name, name) == 0) {
            *to = s->bookmark[i].at;
            return true;
        }
    return false;
}

/* POSITION|POSITION.DELIVERED|+N|-N|event N|start|end|bookmark */
static bool goal(struct rv_gdb_stub *s, const char *p, struct rv_moment *to) {
    struct rv_moment now = rv_timeline_now(s->t);
    uint64_t n, d = 0;
    if (word(&p, "end")) {
        *to = rv_timeline_end(s->t);
        return true;
    }
    if (word(&p, "start")) {
        *to = (struct rv_moment){0, 0};
        return true;
    }
    if (word(&p, "event")) {
        if (number(&p, &n) && at_end(p)) return event_position(s, n, to);
    } else if (*p == '+' || *p == '-') {
        bool back = *p++ == '-';
        if (number(&p, &n) && at_end(p)) {
            rv_icount most = back ? now.icount : RV_NEVER - 1 - now.icount;
            if (n > most) n = most;
            *to = (struct rv_moment){back ? now.icount - n : now.icount + n, 0};
            return true;
        }
    } else if (number(&p, &n)) {
        if (*p == '.') {
            p++;
            if (!number(&p, &d) || d >= UINT32_MAX) return false;
        }
        *to = (struct rv_moment){n, (uint32_t)d};
        if (at_end(p)) return true;
    } else if (bookmark_position(s, p, to)) {
        return true;
    }
    rv_gdb_say(s, "usage: monitor seek POSITION|+N|-N|event N|start|end|BOOKMARK\n");
    return false;
}

static void cmd_seek(struct rv_gdb_stub *s, const char *p) {
    struct rv_moment to;
    struct rv_arrival a;
    struct rv_err err = {0};
    if (!goal(s, p, &to)) return;
    if (rv_timeline_seek(s->t, to, &a, &err)) {
        say_failure(s, &err);
        return;
    }
    rv_buf_clear(&s->stop);
    if (a.at == RV_AT_INTERRUPT) rv_gdb_say(s, "interrupted; ");
    say_here(s);
}

/* ---- bookmarks, checkpoints, events ---- */

static void cmd_bookmark(struct rv_gdb_stub *s, const char *p) {
    char name[64];
    snprintf(name, sizeof name, "%s", p);
    if (!*name) snprintf(name, sizeof name, "b%zu", s->bookmarks + 1);
    struct rv_gdb_bookmark *b = NULL;
    for (size_t i = 0; i < s->bookmarks; i++)
        if (strcmp(s->bookmark[i].name, name) == 0) b = &s->bookmark[i];
    if (!b) {
        s->bookmark = rv_realloc(s->bookmark, (s->bookmarks + 1) * sizeof *s->bookmark);
        b = &s->bookmark[s->bookmarks++];
        b->name = rv_strdup(name);
    }
    b->at = rv_timeline_now(s->t);
    rv_gdb_say(s, "bookmark %s at ", b->name);
    rv_gdb_say_moment(s, b->at);
    rv_gdb_say(s, "\n");
}

static void cmd_bookmarks(struct rv_gdb_stub *s, const char *p) {
    (void)p;
    for (size_t i = 0; i < s->bookmarks; i++) {
        rv_gdb_say(s, "%-16s ", s->bookmark[i].name);
        rv_gdb_say_moment(s, s->bookmark[i].at);
        rv_gdb_say(s, "\n");
    }
    if (!s->bookmarks) rv_gdb_say(s, "no bookmarks; make one with monitor bookmark NAME\n");
}

static void cmd_checkpoints(struct rv_gdb_stub *s, const char *p) {
    (void)p;
    struct rv_timeline_stats st = rv_timeline_stats(s->t);
    char n[32], bytes[32];
    for (size_t i = 0; i < st.filed + st.kept; i++) {
        bool filed;
        rv_icount at = rv_timeline_checkpoint(s->t, i, &filed);
        rv_gdb_say(s, "%20s  %s\n", group(at, n), filed ? "index" : "memory");
    }
    rv_gdb_say(s, "%zu in the index (%s bytes), ", st.filed, group(st.index_bytes, bytes));
    rv_gdb_say(s, "%zu in memory (%s bytes of pages), %zu epochs\n", st.kept,
               group(st.kept_bytes, bytes), st.epochs);
}

static void say_event(struct rv_gdb_stub *s, uint64_t ordinal, const struct rv_trace_event *ev) {
    char n[32], text[41];
    rv_gdb_say(s, "%8" PRIu64 " %18s  %-7s %-8s", ordinal, group(ev->position, n),
               rv_trace_kind_name(ev->kind), rv_source_name((enum rv_source)ev->source));
    size_t len = ev->len < sizeof text - 1 ? ev->len : sizeof text - 1;
    for (size_t i = 0; i < len; i++)
        text[i] = ev->data[i] >= 32 && ev->data[i] < 127 ? (char)ev->data[i] : '.';
    text[len] = 0;
    if (ev->len)
        rv_gdb_say(s, " \"%s\"%s\n", text, len < ev->len ? "..." : "");
    else
        rv_gdb_say(s, " %" PRIu64 "\n", ev->value);
}

static void cmd_events(struct rv_gdb_stub *s, const char *p) {
    uint64_t count = 10, first, bytes;
    if (*p && !(number(&p, &count) && at_end(p))) {
        rv_gdb_say(s, "usage: monitor events [COUNT]\n");
        return;
    }
    rv_timeline_progress(s->t, &first, &bytes);
    struct rv_trace_cursor *c = rv_trace_cursor_new(rv_timeline_reader(s->t));
    const struct rv_trace_event *ev;
    struct rv_err err = {0};
    int r = rv_trace_cursor_seek_ordinal(c, first, &err);
    for (uint64_t i = 0; !r && i < count; i++) {
        uint64_t ordinal = rv_trace_cursor_ordinal(c);
        r = rv_trace_cursor_next(c, &ev, &err);
        if (!r) say_event(s, ordinal, ev);
    }
    if (r == RV_E_END)
        rv_gdb_say(s, "no more events\n");
    else if (r)
        say_failure(s, &err);
    rv_trace_cursor_free(c);
}

static void cmd_console(struct rv_gdb_stub *s, const char *p) {
    (void)p;
    uint64_t events, bytes;
    rv_timeline_progress(s->t, &events, &bytes);
    struct rv_trace_cursor *c = rv_trace_cursor_new(rv_timeline_reader(s->t));
    const struct rv_trace_event *ev;
    struct rv_err err = {0};
    uint8_t last = '\n';
    int r = 0;
    for (uint64_t i = 0; !r && i <= events; i++) {
        r = rv_trace_cursor_next(c, &ev, &err);
        if (r || ev->kind != RV_TRACE_EFFECT || ev->source != RV_SRC_CONSOLE) continue;
        size_t len = i < events ? ev->len : (size_t)bytes;
        if (!len || len > ev->len) continue;
        s->print(s->ctx, (const char *)ev->data, len);
        last = ev->data[len - 1];
    }
    if (r && r != RV_E_END) say_failure(s, &err);
    if (s->console.len) {
        s->print(s->ctx, (const char *)s->console.data, s->console.len);
        last = s->console.data[s->console.len - 1];
    }
    if (last != '\n') rv_gdb_say(s, "\n");
    rv_trace_cursor_free(c);
}

/* ---- who wrote ---- */

static void say_bytes(struct rv_gdb_stub *s, uint64_t addr, uint64_t len) {
    uint8_t buf[16];
    if (len > sizeof buf) len = sizeof buf;
    size_t got = rv_gdb_read(rv_timeline_machine(s->t), s->physical, addr, buf, len);
    for (size_t i = 0; i < got; i++) rv_gdb_say(s, " %02x", buf[i]);
    if (!got) rv_gdb_say(s, " (not mapped)");
}

/* Finds a write without staying there. */
static void find_write(struct rv_gdb_stub *s, const char *p, bool forward) {
    struct rv_gdb_point point = {.type = RV_GDB_WRITE, .len = 8, .physical = s->physical};
    bool right = number(&p, &point.addr);
    p = skip_blanks(p);
    if (right && *p) right = number(&p, &point.len);
    if (!right || !at_end(p) || !point.len || point.len > 1 << 20) {
        rv_gdb_say(s, "usage: monitor %s-write ADDRESS [LENGTH]\n", forward ? "next" : "last");
        return;
    }
    struct rv_gdb_points points = {.v = &point, .n = 1};
    struct rv_gdb_search q;
    struct rv_moment from = rv_timeline_now(s->t);
    struct rv_arrival a, back;
    struct rv_err err = {0};
    rv_gdb_search_begin(&q, &points, s->layout, rv_timeline_machine(s->t));
    int r = (forward ? rv_timeline_run : rv_timeline_run_back)(s->t, &q.search, &a, &err);
    rv_gdb_search_end(&q);
    if (!r && a.at == RV_AT_HIT) {
        r = rv_timeline_seek(s->t, a.hit.before, &back, &err);
        rv_gdb_say(s, "written at position ");
        rv_gdb_say_moment(s, a.hit.before);
        rv_gdb_say(s, " by the instruction at 0x%" PRIx64 ":", a.hit.rip);
        say_bytes(s, point.addr, point.len);
        if (!r) r = rv_timeline_seek(s->t, a.hit.after, &back, &err);
        rv_gdb_say(s, " ->");
        say_bytes(s, point.addr, point.len);
        rv_gdb_say(s, "\n");
    } else if (!r) {
        rv_gdb_say(s, a.at == RV_AT_INTERRUPT ? "interrupted\n"
                      : forward               ? "not written any more\n"
                                              : "not written before\n");
    }
    if (!r && !rv_timeline_branched(s->t)) r = rv_timeline_seek(s->t, from, &back, &err);
    if (r) say_failure(s, &err);
}

static void cmd_last_write(struct rv_gdb_stub *s, const char *p) { find_write(s, p, false); }

static void cmd_next_write(struct rv_gdb_stub *s, const char *p) {
    if (rv_timeline_branched(s->t))
        rv_gdb_say(s, "the future of a branch is not known\n");
    else
        find_write(s, p, true);
}

/* ---- branches, addresses ---- */

static void cmd_branch(struct rv_gdb_stub *s, const char *p) {
    struct rv_err err = {0};
    bool ends = word(&p, "end");
    if (*p) {
        rv_gdb_say(s, "usage: monitor branch [end]\n");
        return;
    }
    rv_buf_clear(&s->console);
    int r = ends ? rv_timeline_unbranch(s->t, &err) : rv_timeline_branch(s->t, &s->console, &err);
    rv_buf_clear(&s->stop);
    if (r)
        say_failure(s, &err);
    else if (ends)
        rv_gdb_say(s, "back in history: "), say_here(s);
    else
        rv_gdb_say(s, "on a branch: the guest may be changed and goes on without its past; "
                      "monitor branch end returns here\n");
}

static void cmd_physical(struct rv_gdb_stub *s, const char *p) {
    if (word(&p, "on"))
        s->physical = true;
    else if (word(&p, "off"))
        s->physical = false;
    else if (*p)
        rv_gdb_say(s, "usage: monitor physical on|off\n");
    rv_gdb_say(s, "addresses are %s\n", s->physical ? "physical" : "virtual");
}

static void cmd_help(struct rv_gdb_stub *s, const char *p);

static const struct {
    const char *name, *args, *help;
    void (*run)(struct rv_gdb_stub *s, const char *p);
} commands[] = {
    {"when", "", "the position, and guest time", cmd_when},
    {"seek", "POSITION|+N|-N|event N|start|end|BOOKMARK", "go there", cmd_seek},
    {"bookmark", "[NAME]", "give this position a name", cmd_bookmark},
    {"bookmarks", "", "list them", cmd_bookmarks},
    {"checkpoints", "", "list the checkpoints, and what they take", cmd_checkpoints},
    {"events", "[COUNT]", "the next events of the trace", cmd_events},
    {"console", "", "what the guest had printed by now", cmd_console},
    {"last-write", "ADDRESS [LENGTH]", "who wrote there last (8 bytes by default)", cmd_last_write},
    {"next-write", "ADDRESS [LENGTH]", "who writes there next", cmd_next_write},
    {"branch", "[end]", "try changes out, leaving history alone", cmd_branch},
    {"physical", "[on|off]", "take addresses as physical ones", cmd_physical},
    {"help", "", "this list", cmd_help},
};

static void cmd_help(struct rv_gdb_stub *s, const char *p) {
    (void)p;
    for (unsigned i = 0; i < RV_COUNT(commands); i++) {
        char left[80];
        snprintf(left, sizeof left, "monitor %s %s", commands[i].name, commands[i].args);
        rv_gdb_say(s, "%-36s %s\n", left, commands[i].help);
    }
    rv_gdb_say(s, "Positions count instructions since power-on; k, M and G may follow a number.\n"
                  "After a monitor command that moves, gdb does not know that registers changed: "
                  "use\nretro-seek and the other retro- commands, or say maintenance flush "
                  "register-cache.\n");
}

void rv_gdb_monitor(struct rv_gdb_stub *s, const char *line) {
    const char *p = skip_blanks(line);
    for (unsigned i = 0; i < RV_COUNT(commands); i++)
        if (word(&p, commands[i].name)) {
            commands[i].run(s, p);
            return;
        }
    rv_gdb_say(s, "there is no monitor command \"%.40s\"; see monitor help\n", p);
}
