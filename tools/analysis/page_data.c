#include "tools/analysis/page_data.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tools/analysis/printed.h"
#include "tools/analysis/utf8.h"

#define TEXT_MAX     2000u /* bytes of one string */
#define CONSOLE_MAX  4000u /* lines */
#define DENSITY_BINS 600u

/* ---- JSON ---- */

struct json {
    struct rv_buf *out;
    bool comma; /* one is due before what comes next */
};

static void sep(struct json *j) {
    if (j->comma) rv_buf_put_u8(j->out, ',');
    j->comma = true;
}

static void put_string(struct json *j, const uint8_t *utf8, size_t len) {
    struct rv_buf *b = j->out;
    sep(j);
    rv_buf_put_u8(b, '"');
    for (size_t i = 0; i < len; i++) {
        uint8_t c = utf8[i];
        if (c == '"' || c == '\\')
            rv_buf_printf(b, "\\%c", c);
        else if (c < 32 || c == 127)
            rv_buf_printf(b, "\\u%04x", c);
        else
            rv_buf_put_u8(b, c);
    }
    rv_buf_put_u8(b, '"');
}

static void text(struct json *j, const char *s) {
    struct rv_buf u = {0};
    rv_utf8_put(&u, (const uint8_t *)(s ? s : ""), s ? strlen(s) : 0);
    put_string(j, u.data, u.len);
    rv_buf_release(&u);
}

static void number(struct json *j, int64_t v) {
    sep(j);
    rv_buf_printf(j->out, "%" PRId64, v);
}

static void null(struct json *j) {
    sep(j);
    rv_buf_printf(j->out, "null");
}

static void key(struct json *j, const char *name) {
    sep(j);
    rv_buf_printf(j->out, "\"%s\":", name);
    j->comma = false;
}

static void open(struct json *j, char bracket) {
    sep(j);
    rv_buf_put_u8(j->out, (uint8_t)bracket);
    j->comma = false;
}

static void close(struct json *j, char bracket) {
    rv_buf_put_u8(j->out, (uint8_t)bracket);
    j->comma = true;
}

static void named_text(struct json *j, const char *name, const char *s) {
    key(j, name);
    text(j, s);
}

static void named_number(struct json *j, const char *name, uint64_t v) {
    key(j, name);
    number(j, (int64_t)v);
}

/* ---- the table of strings ---- */

struct strings {
    struct json json; /* of the array that is being made */
    struct rv_buf out, scratch;
    struct entry {
        uint64_t hash;
        uint32_t index; /* plus 1; 0: free */
    } * slot;
    size_t slots, used;
};

static void grow(struct strings *t) {
    size_t n = t->slots;
    struct entry *old = t->slot;
    t->slots = n ? 2 * n : 4096;
    t->slot = rv_alloc(t->slots * sizeof *t->slot);
    for (size_t i = 0; i < n; i++) {
        if (!old[i].index) continue;
        size_t k = old[i].hash & (t->slots - 1);
        while (t->slot[k].index) k = (k + 1) & (t->slots - 1);
        t->slot[k] = old[i];
    }
    free(old);
}

/* The number of a string; equal ones have the same. Told apart by 64 bits of hash: what is shown is
 * for people, and the chance that two of a million strings share one is below 1 in 30 million. */
static uint32_t intern(struct strings *t, const void *data, size_t len) {
    if (len > TEXT_MAX) len = rv_utf8_whole(data, TEXT_MAX);
    uint64_t hash = XXH3_64bits(data, len);
    if (2 * (t->used + 1) > t->slots) grow(t);
    size_t k = hash & (t->slots - 1);
    while (t->slot[k].index && t->slot[k].hash != hash) k = (k + 1) & (t->slots - 1);
    if (t->slot[k].index) return t->slot[k].index - 1;
    t->slot[k] = (struct entry){hash, (uint32_t)++t->used};
    rv_buf_clear(&t->scratch);
    rv_utf8_put(&t->scratch, data, len);
    put_string(&t->json, t->scratch.data, t->scratch.len);
    return (uint32_t)t->used - 1;
}

static uint32_t intern_text(struct strings *t, const char *s) {
    return intern(t, s ? s : "", s ? strlen(s) : 0);
}

static uint32_t intern_address(struct strings *t, uint64_t v) {
    char s[24];
    int n = snprintf(s, sizeof s, "0x%" PRIx64, v);
    return intern(t, s, (size_t)n);
}

/* ---- putting neighbours together ---- */

/* One thing, or several neighbours. */
struct item {
    rv_icount at, end;
    rv_ns time, end_time;
    uint32_t first; /* index in the run */
    uint32_t many;  /* 0: it stands for itself */
    uint32_t key;   /* only those of one key are put together */
};

struct items {
    struct item *item;
    size_t n, total;
};

static void add_item(struct items *s, struct item item, const struct rv_page_config *c) {
    if (item.end < c->from || item.at > c->to) return;
    if ((s->n & (s->n - 1)) == 0)
        s->item = rv_realloc(s->item, (s->n ? 2 * s->n : 1) * sizeof *s->item);
    s->item[s->n++] = item;
}

/* Puts neighbours within bins of a width together into out; returns how many are left. */
static size_t merge(const struct items *s, rv_icount width, uint32_t keys, uint32_t *last,
                    struct item *out) {
    size_t n = 0;
    memset(last, 0xff, keys * sizeof *last);
    for (size_t i = 0; i < s->n; i++) {
        const struct item *x = &s->item[i];
        uint32_t g = last[x->key];
        bool small = x->end != RV_NEVER && x->end - x->at < width;
        if (small && g != UINT32_MAX && out[g].at / width == x->at / width &&
            out[g].end - out[g].at < width) {
            out[g].many = out[g].many ? out[g].many + 1 : 2;
            if (x->end > out[g].end) {
                out[g].end = x->end;
                out[g].end_time = x->end_time;
            }
            continue;
        }
        out[n] = *x;
        last[x->key] = small ? (uint32_t)n : UINT32_MAX;
        n++;
    }
    return n;
}

static void reduce(struct items *s, const struct rv_page_config *c, uint32_t keys) {
    s->total = s->n;
    rv_assert(c->most > 0);
    if (s->n <= c->most) return;
    struct item *out = rv_alloc(s->n * sizeof *out);
    uint32_t *last = rv_alloc(keys * sizeof *last);
    rv_icount width = (c->to - c->from) / c->most + 1;
    size_t n = merge(s, width, keys, last, out);
    while (n > c->most && width <= c->to - c->from) n = merge(s, width *= 2, keys, last, out);
    free(last);
    free(s->item);
    s->item = out;
    s->n = n;
}

/* ---- columns ---- */

static void column(struct json *j, const char *name, const struct items *s,
                   int64_t (*value)(const void *ctx, const struct item *i), const void *ctx) {
    key(j, name);
    open(j, '[');
    for (size_t i = 0; i < s->n; i++) number(j, value(ctx, &s->item[i]));
    close(j, ']');
}

/* Positions and times as differences, lengths (-1: not over), and counts of what was put together.
 */
static void put_times(struct json *j, const struct items *s, bool lengths) {
    named_number(j, "total", s->total);
    rv_icount at = 0;
    rv_ns time = 0;
    key(j, "at");
    open(j, '[');
    for (size_t i = 0; i < s->n; at = s->item[i++].at) number(j, (int64_t)(s->item[i].at - at));
    close(j, ']');
    key(j, "ns");
    open(j, '[');
    for (size_t i = 0; i < s->n; time = s->item[i++].time)
        number(j, (int64_t)(s->item[i].time - time));
    close(j, ']');
    if (lengths) {
        key(j, "len");
        open(j, '[');
        for (size_t i = 0; i < s->n; i++)
            number(j, s->item[i].end == RV_NEVER ? -1 : (int64_t)(s->item[i].end - s->item[i].at));
        close(j, ']');
        key(j, "dur");
        open(j, '[');
        for (size_t i = 0; i < s->n; i++)
            number(j, s->item[i].end == RV_NEVER
                          ? -1
                          : (int64_t)(s->item[i].end_time - s->item[i].time));
        close(j, ']');
    }
    if (s->n == s->total) return;
    key(j, "many");
    open(j, '[');
    for (size_t i = 0; i < s->n; i++) number(j, s->item[i].many);
    close(j, ']');
}

struct page {
    const struct rv_guest_run *run;
    const struct rv_page_config *c;
    struct strings strings;
    struct json json;
    struct rv_printed lines;
    uint32_t density[2][DENSITY_BINS]; /* by time, by position */
};

static void count(struct page *p, rv_icount at, rv_ns time) {
    const struct rv_page_config *c = p->c;
    if (at < c->from || at > c->to || time < c->from_time || time > c->to_time) return;
    double t = (double)(time - c->from_time) / ((double)(c->to_time - c->from_time) + 1);
    double n = (double)(at - c->from) / ((double)(c->to - c->from) + 1);
    p->density[0][(size_t)(t * DENSITY_BINS)]++;
    p->density[1][(size_t)(n * DENSITY_BINS)]++;
}

/* ---- what a run has ---- */

static int64_t task_or_none(uint32_t task) { return task == RV_NONE ? -1 : (int64_t)task; }

static void put_tasks(struct page *p) {
    struct json *j = &p->json;
    const struct rv_guest_run *r = p->run;
    const char **args = rv_alloc((r->tasks + 1) * sizeof *args);
    for (size_t i = 0; i < r->execs; i++)
        if (r->exec[i].task < r->tasks) args[r->exec[i].task] = r->exec[i].args;
    key(j, "tasks");
    open(j, '[');
    for (size_t i = 0; i < r->tasks; i++) {
        const struct rv_run_task *t = &r->task[i];
        open(j, '{');
        named_number(j, "tid", t->tid);
        named_number(j, "pid", t->pid);
        key(j, "parent");
        number(j, task_or_none(t->parent));
        key(j, "process");
        number(j, task_or_none(t->process));
        named_number(j, "kernel", t->kernel);
        named_number(j, "comm", intern_text(&p->strings, t->comm));
        named_number(j, "exe", intern_text(&p->strings, t->exe));
        named_number(j, "args", intern_text(&p->strings, args[i]));
        named_number(j, "start", t->start);
        named_number(j, "startNs", t->start_time);
        key(j, "end");
        if (t->end == RV_NEVER)
            null(j);
        else
            number(j, (int64_t)t->end);
        named_number(j, "endNs", t->end == RV_NEVER ? r->end_time : t->end_time);
        key(j, "exit");
        if (t->exited)
            number(j, t->exit_code);
        else
            null(j);
        named_number(j, "instructions", t->instructions);
        named_number(j, "cpuNs", t->cpu_time);
        named_number(j, "nCalls", t->syscalls);
        named_number(j, "nFaults", t->faults);
        named_number(j, "nSwitches", t->switches);
        close(j, '}');
    }
    close(j, ']');
    free(args);
}

static int64_t switch_task(const void *run, const struct item *i) {
    return task_or_none(((const struct rv_guest_run *)run)->sw[i->first].task);
}

static void put_switches(struct page *p) {
    const struct rv_guest_run *r = p->run;
    struct items s = {0};
    for (size_t i = 0; i < r->switches; i++) {
        const struct rv_run_switch *w = &r->sw[i], *next = i + 1 < r->switches ? w + 1 : NULL;
        add_item(&s,
                 (struct item){.at = w->at,
                               .time = w->time,
                               .end = next ? next->at : r->end,
                               .end_time = next ? next->time : r->end_time,
                               .first = (uint32_t)i},
                 p->c);
    }
    reduce(&s, p->c, 1);
    key(&p->json, "switches");
    open(&p->json, '{');
    put_times(&p->json, &s, false);
    column(&p->json, "task", &s, switch_task, r);
    close(&p->json, '}');
    free(s.item);
}

static void put_calls(struct page *p) {
    const struct rv_guest_run *r = p->run;
    struct json *j = &p->json;
    struct items s = {0};
    for (size_t i = 0; i < r->syscalls; i++) {
        const struct rv_run_syscall *c = &r->syscall[i];
        if (c->task >= r->tasks) continue;
        const struct rv_run_task *t = &r->task[c->task];
        rv_icount end = c->exit;
        rv_ns end_time = c->exit_time;
        if (end == RV_NEVER && t->exited) {
            end = t->end;
            end_time = t->end_time;
        }
        add_item(&s,
                 (struct item){.at = c->enter,
                               .time = c->enter_time,
                               .end = end,
                               .end_time = end_time,
                               .first = (uint32_t)i,
                               .key = c->task},
                 p->c);
        count(p, c->enter, c->enter_time);
    }
    reduce(&s, p->c, (uint32_t)r->tasks + 1);
    key(j, "calls");
    open(j, '{');
    put_times(j, &s, true);
    key(j, "task");
    open(j, '[');
    for (size_t i = 0; i < s.n; i++) number(j, s.item[i].key);
    close(j, ']');
    key(j, "name");
    open(j, '[');
    for (size_t i = 0; i < s.n; i++)
        number(j, s.item[i].many ? 0 : intern_text(&p->strings, r->syscall[s.item[i].first].name));
    close(j, ']');
    key(j, "args");
    open(j, '[');
    for (size_t i = 0; i < s.n; i++)
        number(j, s.item[i].many ? 0 : intern_text(&p->strings, r->syscall[s.item[i].first].args));
    close(j, ']');
    key(j, "result");
    open(j, '[');
    for (size_t i = 0; i < s.n; i++) {
        const struct rv_run_syscall *c = &r->syscall[s.item[i].first];
        if (s.item[i].many || c->exit == RV_NEVER)
            null(j);
        else
            number(j, c->result);
    }
    close(j, ']');
    close(j, '}');
    free(s.item);
}

static int64_t trap_vector(const void *run, const struct item *i) {
    return ((const struct rv_guest_run *)run)->trap[i->first].vector;
}
static int64_t trap_user(const void *run, const struct item *i) {
    return ((const struct rv_guest_run *)run)->trap[i->first].user;
}
static int64_t trap_error(const void *run, const struct item *i) {
    return ((const struct rv_guest_run *)run)->trap[i->first].error;
}
static int64_t trap_task(const void *run, const struct item *i) {
    return task_or_none(((const struct rv_guest_run *)run)->trap[i->first].task);
}

static void put_traps(struct page *p, const char *name, bool exceptions) {
    const struct rv_guest_run *r = p->run;
    struct json *j = &p->json;
    struct items s = {0};
    for (size_t i = 0; i < r->traps; i++) {
        const struct rv_run_trap *t = &r->trap[i];
        if ((t->kind == RV_TRAP_EXCEPTION) != exceptions) continue;
        /* Where its end was not seen, it is a point. */
        bool over = t->end != RV_NEVER;
        add_item(&s,
                 (struct item){.at = t->at.icount,
                               .time = t->time,
                               .end = over ? t->end : t->at.icount,
                               .end_time = over ? t->end_time : t->time,
                               .first = (uint32_t)i,
                               .key = t->vector},
                 p->c);
        count(p, t->at.icount, t->time);
    }
    reduce(&s, p->c, 256);
    key(j, name);
    open(j, '{');
    put_times(j, &s, true);
    column(j, "vector", &s, trap_vector, r);
    column(j, "user", &s, trap_user, r);
    column(j, "task", &s, trap_task, r);
    key(j, "rip");
    open(j, '[');
    for (size_t i = 0; i < s.n; i++)
        number(j, s.item[i].many ? 0 : intern_address(&p->strings, r->trap[s.item[i].first].rip));
    close(j, ']');
    if (exceptions) {
        column(j, "error", &s, trap_error, r);
        key(j, "address");
        open(j, '[');
        for (size_t i = 0; i < s.n; i++) {
            const struct rv_run_trap *t = &r->trap[s.item[i].first];
            bool has = !s.item[i].many && t->vector == RV_VEC_PF;
            number(j, has ? intern_address(&p->strings, t->address) : 0);
        }
        close(j, ']');
    }
    close(j, '}');
    free(s.item);
}

/* Things that are points and have a text each: first and last of them when there are too many. */
struct notes {
    struct items s;
    uint32_t *text, *more;
};

static void add_note(struct page *p, struct notes *n, rv_icount at, rv_ns time, uint32_t text_index,
                     uint32_t more) {
    size_t before = n->s.n;
    add_item(&n->s, (struct item){.at = at, .end = at, .time = time, .end_time = time}, p->c);
    if (n->s.n == before) return;
    if ((before & (before - 1)) == 0) {
        size_t room = before ? 2 * before : 1;
        n->text = rv_realloc(n->text, room * sizeof *n->text);
        n->more = rv_realloc(n->more, room * sizeof *n->more);
    }
    n->text[before] = text_index;
    n->more[before] = more;
}

static void put_indices(struct json *j, const char *name, const uint32_t *v, size_t n) {
    key(j, name);
    open(j, '[');
    for (size_t i = 0; i < n; i++) number(j, v[i]);
    close(j, ']');
}

static void put_notes(struct page *p, const char *name, struct notes *n, const char *text_name,
                      const char *more_name) {
    struct json *j = &p->json;
    key(j, name);
    open(j, '{');
    if (!n->s.total) n->s.total = n->s.n;
    put_times(j, &n->s, false);
    put_indices(j, text_name, n->text, n->s.n);
    if (more_name) put_indices(j, more_name, n->more, n->s.n);
    close(j, '}');
    free(n->s.item);
    free(n->text);
    free(n->more);
}

static void put_console(struct page *p) {
    struct notes n = {0};
    struct json *j = &p->json;
    const struct rv_printed *l = &p->lines;
    size_t skip = l->n > CONSOLE_MAX ? l->n - CONSOLE_MAX : 0;
    for (size_t i = 0; i < l->n; i++) {
        const struct rv_printed_line *c = &l->line[i];
        if (skip && i >= CONSOLE_MAX / 2 && i < CONSOLE_MAX / 2 + skip) continue;
        add_note(p, &n, c->at, c->time, intern(&p->strings, l->text.data + c->start, c->len),
                 c->task);
    }
    key(j, "console");
    open(j, '{');
    named_number(j, "all", n.s.n + skip);
    n.s.total = n.s.n; /* none are put together */
    put_times(j, &n.s, false);
    put_indices(j, "text", n.text, n.s.n);
    key(j, "task");
    open(j, '[');
    for (size_t i = 0; i < n.s.n; i++) number(j, task_or_none(n.more[i]));
    close(j, ']');
    close(j, '}');
    free(n.s.item);
    free(n.text);
    free(n.more);
}

static void put_marks(struct page *p) {
    const struct rv_guest_run *r = p->run;
    struct notes n = {0};
    for (size_t i = 0; i < r->marks && i < p->c->most; i++)
        add_note(p, &n, r->mark[i].at, r->mark[i].time, intern_text(&p->strings, r->mark[i].name),
                 0);
    put_notes(p, "marks", &n, "text", NULL);
}

/* What came from outside; its bytes are in the trace alone. */
static void put_inputs(struct page *p, const struct rv_trace_reader *reader) {
    struct notes n = {0};
    struct rv_trace_cursor *c = rv_trace_cursor_new(reader);
    const struct rv_trace_event *ev;
    struct rv_err err;
    while (n.s.n < p->c->most && rv_trace_cursor_next(c, &ev, &err) == 0) {
        char what[64];
        if (ev->kind != RV_TRACE_INPUT && ev->kind != RV_TRACE_JUMP) continue;
        if (ev->kind == RV_TRACE_INPUT)
            snprintf(what, sizeof what, "Typed on the %s",
                     rv_source_name((enum rv_source)ev->source));
        else
            snprintf(what, sizeof what, "Time moved on by %" PRIu64 " ns", ev->value);
        add_note(p, &n, ev->position, ev->time, intern_text(&p->strings, what),
                 intern(&p->strings, ev->len ? (const char *)ev->data : "", ev->len));
    }
    rv_trace_cursor_free(c);
    put_notes(p, "inputs", &n, "what", "text");
}

static void put_execs(struct page *p) {
    const struct rv_guest_run *r = p->run;
    struct notes n = {0};
    for (size_t i = 0; i < r->execs && i < p->c->most; i++)
        add_note(p, &n, r->exec[i].at, r->exec[i].time, intern_text(&p->strings, r->exec[i].path),
                 intern_text(&p->strings, r->exec[i].args));
    put_notes(p, "execs", &n, "path", "args");
}

static void put_states(struct page *p) {
    static const char *const names[] = {"rax", "rbx", "rcx", "rdx",   "rsi", "rdi", "rbp",
                                        "rsp", "r8",  "r9",  "r10",   "r11", "r12", "r13",
                                        "r14", "r15", "rip", "flags", "cr2", "cr3"};
    struct json *j = &p->json;
    key(j, "regs");
    open(j, '[');
    for (size_t i = 0; i < RV_COUNT(names); i++) text(j, names[i]);
    close(j, ']');
    key(j, "states");
    open(j, '[');
    for (size_t i = 0; i < p->c->states; i++) {
        const struct rv_page_state *s = &p->c->state[i];
        const uint64_t *g = s->cpu.gpr;
        const uint64_t regs[] = {g[RV_RAX], g[RV_RBX],  g[RV_RCX],     g[RV_RDX],  g[RV_RSI],
                                 g[RV_RDI], g[RV_RBP],  g[RV_RSP],     g[RV_R8],   g[RV_R9],
                                 g[RV_R10], g[RV_R11],  g[RV_R12],     g[RV_R13],  g[RV_R14],
                                 g[RV_R15], s->cpu.rip, s->cpu.rflags, s->cpu.cr2, s->cpu.cr3};
        open(j, '{');
        named_number(j, "at", s->at);
        key(j, "regs");
        open(j, '[');
        for (size_t k = 0; k < RV_COUNT(regs); k++) number(j, intern_address(&p->strings, regs[k]));
        close(j, ']');
        key(j, "code");
        open(j, '[');
        for (unsigned k = 0; k < s->codes; k++) {
            open(j, '[');
            number(j, intern_address(&p->strings, s->code[k].addr));
            number(j, intern_text(&p->strings, s->code[k].text));
            close(j, ']');
        }
        close(j, ']');
        key(j, "stack");
        open(j, '[');
        for (unsigned k = 0; k < s->frames; k++) {
            open(j, '[');
            number(j, intern_text(&p->strings, s->frame[k].name));
            number(j, intern_address(&p->strings, s->frame[k].pc));
            close(j, ']');
        }
        close(j, ']');
        close(j, '}');
    }
    close(j, ']');
}

static void put_density(struct page *p) {
    static const char *const names[] = {"ns", "at"};
    struct json *j = &p->json;
    key(j, "density");
    open(j, '{');
    for (unsigned k = 0; k < 2; k++) put_indices(j, names[k], p->density[k], DENSITY_BINS);
    close(j, '}');
}

static void put_head(struct page *p, const struct rv_trace_header *h) {
    struct json *j = &p->json;
    const struct rv_guest_run *r = p->run;
    size_t users = 0;
    for (size_t i = 0; i < r->tasks; i++) users += !r->task[i].kernel && r->task[i].process == i;
    named_text(j, "file", p->c->file);
    named_text(j, "arg", p->c->arg);
    named_text(j, "system", r->system);
    named_text(j, "note", r->system ? "" : r->system_note);
    named_text(j, "cmdline", h->command_line);
    named_number(j, "memory", h->memory_bytes);
    key(j, "from");
    open(j, '[');
    number(j, (int64_t)p->c->from);
    number(j, (int64_t)p->c->from_time);
    close(j, ']');
    named_number(j, "end", p->c->to);
    named_number(j, "ns", p->c->to_time);
    named_text(j, "stop", p->c->to < r->end ? "goes on" : rv_stop_text(r->reason));
    named_number(j, "interrupted", r->interrupted);
    named_number(j, "users", users);
}

void rv_page_data(struct rv_buf *out, const struct rv_export *x, const struct rv_page_config *c) {
    struct page *p = rv_alloc(sizeof *p);
    p->run = x->run;
    p->c = c;
    p->json.out = out;
    p->strings.json.out = &p->strings.out;
    intern(&p->strings, "", 0); /* number 0 */
    rv_printed_make(&p->lines, x->run);
    open(&p->json, '{');
    put_head(p, rv_trace_reader_header(x->reader));
    put_tasks(p);
    put_switches(p);
    put_calls(p);
    put_traps(p, "interrupts", false);
    put_traps(p, "faults", true);
    put_console(p);
    put_marks(p);
    put_inputs(p, x->reader);
    put_execs(p);
    put_states(p);
    put_density(p);
    key(&p->json, "strings");
    open(&p->json, '[');
    rv_buf_put(out, p->strings.out.data, p->strings.out.len);
    close(&p->json, ']');
    close(&p->json, '}');
    rv_buf_release(&p->strings.out);
    rv_buf_release(&p->strings.scratch);
    free(p->strings.slot);
    rv_printed_release(&p->lines);
    free(p);
}

/* ---- places ---- */

static int by_value(const void *a, const void *b) {
    rv_icount x = *(const rv_icount *)a, y = *(const rv_icount *)b;
    return x < y ? -1 : x > y;
}

struct places {
    rv_icount from, to;
    rv_icount *out;
    size_t n;
};

static void add_place(struct places *p, rv_icount at) {
    if (at >= p->from && at <= p->to) p->out[p->n++] = at;
}

/* Every so many of a kind, so that at most `share` are taken. */
static size_t stride(size_t total, size_t share) { return share ? total / share + 1 : total + 1; }

size_t rv_page_places(const struct rv_guest_run *r, rv_icount from, rv_icount to, rv_icount *out,
                      size_t n) {
    struct places p = {.from = from, .to = to, .out = out};
    size_t share = n / 10;
    uint32_t last = RV_NONE; /* task */
    /* Ends by a signal, programs that begin, lines printed and marks first; then a sample of the
     * rest. */
    for (size_t i = 0, k = stride(r->execs, share); i < r->execs; i += k)
        add_place(&p, r->exec[i].at);
    struct rv_printed lines;
    rv_printed_make(&lines, r);
    for (size_t i = 0, k = stride(lines.n, share); i < lines.n; i += k)
        add_place(&p, lines.line[i].at);
    rv_printed_release(&lines);
    for (size_t i = 0, k = stride(r->marks, share); i < r->marks; i += k)
        add_place(&p, r->mark[i].at);
    for (size_t i = 0, k = stride(r->syscalls, 2 * share); i < r->syscalls; i += k)
        add_place(&p, r->syscall[i].enter);
    for (size_t i = 0, k = stride(r->traps, 2 * share); i < r->traps; i += k)
        add_place(&p, r->trap[i].at.icount);
    for (size_t i = 0, k = stride(r->switches, share); i < r->switches; i += k)
        add_place(&p, r->sw[i].at);
    for (size_t i = r->traps, ended = 0; i-- > 0 && ended < share;) {
        const struct rv_run_trap *t = &r->trap[i];
        const struct rv_run_task *who = t->task < r->tasks ? &r->task[t->task] : NULL;
        if (t->kind != RV_TRAP_EXCEPTION || !t->user || !who || !who->exited) continue;
        if (!(who->exit_code & 0x7f) || who->end < t->at.icount || last == t->task) continue;
        last = t->task;
        ended++;
        add_place(&p, t->at.icount);
    }
    qsort(out, p.n, sizeof *out, by_value);
    size_t unique = 0;
    for (size_t i = 0; i < p.n; i++)
        if (!unique || out[unique - 1] != out[i]) out[unique++] = out[i];
    return unique;
}
