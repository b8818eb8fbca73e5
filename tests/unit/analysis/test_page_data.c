/* The page's data: bounded however much there is, complete in its counts, and JSON whatever a guest
 * calls things. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/analysis/page_data.h"
#include "tools/analysis/printed.h"
#include "tools/analysis/utf8.h"
#include "trace-format/writer.h"

#define TASKS    5u
#define CALLS    300000u
#define SWITCHES 100000u
#define TRAPS    200000u
#define MOST     5000u

struct world {
    char path[64];
    struct rv_trace_reader *reader;
    struct rv_guest_run run;
};

static const uint8_t typed[] = "</script>\"\\\x00\xff typed";

static void make_trace(struct world *w) {
    struct rv_trace_writer *writer;
    struct rv_err err;
    struct rv_trace_header h = {.command_line = "evil=\"</script>\\\x01\xc3",
                                .memory_bytes = 1 << 20};
    struct rv_trace_summary sum = {.reason = RV_TRACE_REASON_USER, .position = 1000};
    struct rv_trace_event ev = {.kind = RV_TRACE_INPUT,
                                .source = RV_SRC_CONSOLE,
                                .position = 10,
                                .time = 20,
                                .data = typed,
                                .len = sizeof typed};
    snprintf(w->path, sizeof w->path, "/tmp/test-page-%ld.retro", (long)getpid());
    cr_assert_eq(rv_trace_writer_new(&writer, w->path,
                                     &(struct rv_trace_writer_options){.flags = RV_TRACE_OVERWRITE},
                                     &h, &err),
                 0, "%s", err.msg);
    cr_assert_eq(rv_trace_writer_append(writer, &ev, &err), 0);
    cr_assert_eq(rv_trace_writer_seal(writer, &sum, &err), 0);
    rv_trace_writer_free(writer);
    cr_assert_eq(rv_trace_reader_open(&w->reader, w->path, &err), 0, "%s", err.msg);
}

static void make_run(struct world *w) {
    static const char *const names[TASKS] = {"sh", "</script><b>", "\xff\xfe\x01\"\\", "",
                                             "\xe2\x80"};
    struct rv_guest_run *r = &w->run;
    *r = (struct rv_guest_run){.end = 3000000,
                               .end_time = 6000000,
                               .system = "Linux version \"6.1\"\n",
                               .tasks = TASKS,
                               .switches = SWITCHES,
                               .syscalls = CALLS,
                               .traps = TRAPS};
    r->task = rv_alloc(TASKS * sizeof *r->task);
    for (uint32_t i = 0; i < TASKS; i++)
        r->task[i] = (struct rv_run_task){.tid = i + 1,
                                          .pid = i + 1,
                                          .parent = i ? 0 : RV_NONE,
                                          .process = i,
                                          .comm = names[i],
                                          .end = RV_NEVER};
    r->sw = rv_alloc(SWITCHES * sizeof *r->sw);
    for (uint32_t i = 0; i < SWITCHES; i++)
        r->sw[i] = (struct rv_run_switch){.at = 30ull * i, .time = 60ull * i, .task = i % TASKS};
    r->syscall = rv_alloc(CALLS * sizeof *r->syscall);
    for (uint32_t i = 0; i < CALLS; i++)
        r->syscall[i] = (struct rv_run_syscall){.enter = 10ull * i,
                                                .exit = i == 7 ? RV_NEVER : 10ull * i + 4,
                                                .enter_time = 20ull * i,
                                                .exit_time = 20ull * i + 8,
                                                .task = i % TASKS,
                                                .result = i % 3 ? 0 : -2,
                                                .name = i % 2 ? "read" : "</script>",
                                                .args = names[i % TASKS]};
    r->trap = rv_alloc(TRAPS * sizeof *r->trap);
    for (uint32_t i = 0; i < TRAPS; i++)
        r->trap[i] = (struct rv_run_trap){.at = {15ull * i, 1},
                                          .time = 30ull * i,
                                          .end = 15ull * i + 5,
                                          .end_time = 30ull * i + 9,
                                          .vector = i % 4 ? 14 : 0x30,
                                          .kind = i % 4 ? RV_TRAP_EXCEPTION : RV_TRAP_INTERRUPT,
                                          .task = i % 7 ? i % TASKS : RV_NONE};
}

static void setup(struct world *w) {
    make_trace(w);
    make_run(w);
}

static void teardown(struct world *w) {
    rv_trace_reader_free(w->reader);
    unlink(w->path);
    free(w->run.task);
    free(w->run.sw);
    free(w->run.syscall);
    free(w->run.trap);
}

static json_t *data_of(struct world *w, const struct rv_page_config *c) {
    struct rv_export x = {.run = &w->run, .reader = w->reader};
    struct rv_buf out = {0};
    json_error_t e;
    rv_page_data(&out, &x, c);
    json_t *j =
        json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    cr_assert(j, "not JSON: %s at %d", e.text, e.position);
    rv_buf_release(&out);
    return j;
}

static size_t length(const json_t *series, const char *column) {
    return json_array_size(json_object_get(series, column));
}

/* Things and groups of them add up, in order, and stay within what they stand for. */
static void check_series(const json_t *d, const char *name, size_t total,
                         const char *const *columns) {
    const json_t *s = json_object_get(d, name);
    size_t n = length(s, "at"), sum = 0;
    cr_assert_eq((size_t)json_integer_value(json_object_get(s, "total")), total, "%s", name);
    cr_assert_leq(n, MOST, "%s: %zu", name, n);
    cr_assert_gt(n, MOST / 8, "%s: %zu are fewer than need be", name, n);
    for (; *columns; columns++) cr_assert_eq(length(s, *columns), n, "%s.%s", name, *columns);
    for (size_t i = 0; i < n; i++) {
        json_int_t many = json_integer_value(json_array_get(json_object_get(s, "many"), i));
        sum += many ? (size_t)many : 1;
        cr_assert_geq(json_integer_value(json_array_get(json_object_get(s, "at"), i)), 0,
                      "%s: out of order at %zu", name, i);
    }
    cr_assert_eq(sum, total, "%s: %zu", name, sum);
}

Test(page_data, is_bounded_and_complete) {
    static const char *const calls[] = {"ns",   "len",    "dur",  "task", "name",
                                        "args", "result", "many", NULL};
    static const char *const traps[] = {"ns",   "len", "dur",  "vector", "user",
                                        "task", "rip", "many", NULL};
    static const char *const switches[] = {"ns", "task", "many", NULL};
    struct world w;
    setup(&w);
    struct rv_page_config c = {
        .file = "a.retro", .arg = "a.retro", .to = 3000000, .to_time = 6000000, .most = MOST};
    json_t *d = data_of(&w, &c);
    check_series(d, "calls", CALLS, calls);
    check_series(d, "switches", SWITCHES, switches);
    check_series(d, "interrupts", TRAPS / 4, traps);
    check_series(d, "faults", TRAPS - TRAPS / 4, traps);
    /* A call that never returned is never put together with others. */
    const json_t *s = json_object_get(d, "calls");
    size_t open = 0;
    for (size_t i = 0; i < length(s, "len"); i++)
        if (json_integer_value(json_array_get(json_object_get(s, "len"), i)) == -1) {
            cr_assert_eq(json_integer_value(json_array_get(json_object_get(s, "many"), i)), 0);
            open++;
        }
    cr_assert_eq(open, 1);
    json_decref(d);
    teardown(&w);
}

Test(page_data, keeps_everything_where_there_is_room) {
    struct world w;
    setup(&w);
    struct rv_page_config c = {.file = "a",
                               .arg = "a",
                               .from = 1000,
                               .from_time = 2000,
                               .to = 2000,
                               .to_time = 4000,
                               .most = MOST};
    json_t *d = data_of(&w, &c);
    const json_t *s = json_object_get(d, "calls");
    /* Calls that begin or end from 1000 to 2000, and the one without an end. */
    cr_assert_eq(length(s, "at"), 102);
    cr_assert_null(json_object_get(s, "many"));
    json_decref(d);
    teardown(&w);
}

Test(page_data, holds_any_bytes) {
    struct world w;
    setup(&w);
    struct rv_page_config c = {
        .file = "\xff</script>\"", .arg = "'\n'", .to = 100, .to_time = 200, .most = MOST};
    json_t *d = data_of(&w, &c);
    const json_t *strings = json_object_get(d, "strings");
    bool found = false;
    for (size_t i = 0; i < json_array_size(strings); i++) {
        const json_t *t = json_array_get(strings, i);
        cr_assert(json_is_string(t));
        if (strstr(json_string_value(t), "</script><b>")) found = true;
    }
    cr_assert(found);
    cr_assert_str_eq(json_string_value(json_object_get(d, "file")), "\xef\xbf\xbd</script>\"");
    /* What was typed is in the trace alone, NUL and all. */
    const json_t *in = json_object_get(d, "inputs");
    cr_assert_eq(length(in, "at"), 1);
    json_decref(d);
    teardown(&w);
}

Test(page_data, places_are_few_rising_and_once) {
    struct world w;
    setup(&w);
    rv_icount at[800];
    size_t n = rv_page_places(&w.run, 1000, 2000000, at, 400);
    cr_assert(n > 100 && n <= 400, "%zu", n);
    for (size_t i = 0; i < n; i++) {
        cr_assert(at[i] >= 1000 && at[i] <= 2000000);
        if (i) cr_assert_lt(at[i - 1], at[i]);
    }
    teardown(&w);
}

Test(printed, makes_lines_of_pieces) {
    struct rv_run_console piece[] = {
        {.at = 1, .time = 1, .data = (const uint8_t *)"a", .len = 1, .task = 3},
        {.at = 2, .time = 2, .data = (const uint8_t *)"b\nc", .len = 3, .task = 4},
        {.at = 3, .time = 3, .data = (const uint8_t *)"d\n\n", .len = 3, .task = 5},
        {.at = 4, .time = 4, .data = (const uint8_t *)"> ", .len = 2, .task = 5},
        {.at = 5, .time = 2 * RV_NSEC, .data = (const uint8_t *)"e", .len = 1, .task = 6},
    };
    static const char *const want[] = {"ab\n", "cd\n", "\n", "> ", "e"};
    static const rv_icount at[] = {1, 2, 3, 4, 5};
    struct rv_guest_run run = {.console = piece, .consoles = RV_COUNT(piece)};
    struct rv_printed p;
    rv_printed_make(&p, &run);
    cr_assert_eq(p.n, RV_COUNT(want));
    for (size_t i = 0; i < p.n; i++) {
        cr_assert_eq(p.line[i].len, strlen(want[i]));
        cr_assert_eq(memcmp(p.text.data + p.line[i].start, want[i], p.line[i].len), 0);
        cr_assert_eq(p.line[i].at, at[i]);
    }
    rv_printed_release(&p);
}

Test(utf8, replaces_what_is_no_character) {
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain \xc3\xbc \xe2\x98\x83 \xf0\x9f\x98\x80",
         "plain \xc3\xbc \xe2\x98\x83 \xf0\x9f\x98\x80"},
        {"\x80", "\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x98x", "\xef\xbf\xbdx"},
        {"\xf0\x9f", "\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < RV_COUNT(cases); i++) {
        struct rv_buf b = {0};
        rv_utf8_put(&b, (const uint8_t *)cases[i].in, strlen(cases[i].in));
        rv_buf_put_u8(&b, 0);
        cr_assert_str_eq((const char *)b.data, cases[i].out, "case %zu", i);
        rv_buf_release(&b);
    }
    cr_assert_eq(rv_utf8_whole((const uint8_t *)"ab\xe2\x98", 4), 2);
    cr_assert_eq(rv_utf8_whole((const uint8_t *)"ab\xe2\x98\x83", 5), 5);
    cr_assert_eq(rv_utf8_whole((const uint8_t *)"ab\x98\x98", 4), 4);
}
