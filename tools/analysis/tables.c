#include "tools/analysis/tables.h"

#include <stdio.h>
#include <string.h>

/* ---- cells ---- */

static struct rv_cell none(void) { return (struct rv_cell){.kind = RV_CELL_NULL}; }

static struct rv_cell number(uint64_t n) { return (struct rv_cell){.kind = RV_CELL_INT, .n = n}; }

/* A position or time that may never have come. */
static struct rv_cell moment(uint64_t n) { return n == RV_NEVER ? none() : number(n); }

/* An index into another table, whose rows are numbered from 0. */
static struct rv_cell reference(uint32_t i) { return i == RV_NONE ? none() : number(i); }

static struct rv_cell address(uint64_t n) {
    return (struct rv_cell){.kind = RV_CELL_ADDRESS, .n = n};
}

static struct rv_cell text(const char *s) {
    if (!s) return none();
    return (struct rv_cell){.kind = RV_CELL_TEXT, .data = s, .len = strlen(s)};
}

static struct rv_cell bytes(const void *data, size_t len) {
    return (struct rv_cell){.kind = RV_CELL_BYTES, .data = data, .len = len};
}

/* ---- rows ---- */

#define FACTS 14

static size_t recording_rows(const struct rv_export *x) {
    (void)x;
    return FACTS;
}

static void recording_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    const struct rv_trace_header *h = rv_trace_reader_header(x->reader);
    const struct rv_guest_run *run = x->run;
    const struct {
        const char *key;
        struct rv_cell value;
    } fact[FACTS] = {
        {"tool_version", text(h->tool_version)},
        {"created", number(h->created)},
        {"engine", text(h->engine)},
        {"cpu_profile", text(h->cpu_profile)},
        {"memory_bytes", number(h->memory_bytes)},
        {"rate_2_32", number(h->rate)},
        {"boot", text(h->boot_protocol)},
        {"command_line", text(h->command_line)},
        {"boot_time", number(h->boot_time)},
        {"instructions", number(run->end)},
        {"ns", number(run->end_time)},
        {"whole", number(!run->interrupted)},
        {"stop", text(rv_stop_name(run->reason))},
        {"system", text(run->system)},
    };
    c[0] = text(fact[i].key);
    c[1] = fact[i].value;
}

static size_t task_rows(const struct rv_export *x) { return x->run->tasks; }

static void task_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    const struct rv_run_task *t = &x->run->task[i];
    c[0] = number(i);
    c[1] = number(t->tid);
    c[2] = number(t->pid);
    c[3] = reference(t->parent);
    c[4] = reference(t->process);
    c[5] = number(t->kernel);
    c[6] = text(t->comm);
    c[7] = text(t->exe);
    c[8] = number(t->start);
    c[9] = moment(t->end);
    c[10] = number(t->start_time);
    c[11] = t->end == RV_NEVER ? none() : number(t->end_time);
    c[12] = t->exited ? number((uint64_t)(int64_t)t->exit_code) : none();
    c[13] = number(t->instructions);
    c[14] = number(t->cpu_time);
    c[15] = number(t->syscalls);
    c[16] = number(t->faults);
    c[17] = number(t->switches);
}

static size_t switch_rows(const struct rv_export *x) { return x->run->switches; }

static void switch_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    const struct rv_run_switch *s = &x->run->sw[i];
    c[0] = number(i);
    c[1] = number(s->at);
    c[2] = number(s->time);
    c[3] = reference(s->task);
}

static size_t syscall_rows(const struct rv_export *x) { return x->run->syscalls; }

static void syscall_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    const struct rv_run_syscall *s = &x->run->syscall[i];
    bool returned = s->exit != RV_NEVER;
    c[0] = number(i);
    c[1] = reference(s->task);
    c[2] = number(s->enter);
    c[3] = moment(s->exit);
    c[4] = number(s->enter_time);
    c[5] = returned ? number(s->exit_time) : none();
    c[6] = number(s->number);
    c[7] = number(s->abi == RV_ABI_32 ? 32 : 64);
    c[8] = text(s->name);
    c[9] = text(s->args);
    c[10] = returned ? number((uint64_t)s->result) : none();
    for (unsigned k = 0; k < 6; k++) c[11 + k] = address(s->arg[k]);
    c[17] = address(s->rip);
}

static size_t trap_rows(const struct rv_export *x) { return x->run->traps; }

static void trap_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    static const char *const kinds[] = {"exception", "interrupt", "nmi", "software"};
    const struct rv_run_trap *t = &x->run->trap[i];
    c[0] = number(i);
    c[1] = number(t->at.icount);
    c[2] = number(t->time);
    c[3] = moment(t->end);
    c[4] = t->end == RV_NEVER ? none() : number(t->end_time);
    c[5] = number(t->vector);
    c[6] = text(kinds[t->kind % RV_COUNT(kinds)]);
    c[7] = number(t->user);
    c[8] = number(t->error);
    c[9] = address(t->rip);
    c[10] = t->vector == 14 && t->kind == RV_TRAP_EXCEPTION ? address(t->address) : none();
    c[11] = reference(t->task);
}

static size_t exec_rows(const struct rv_export *x) { return x->run->execs; }

static void exec_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    const struct rv_run_exec *e = &x->run->exec[i];
    c[0] = number(i);
    c[1] = number(e->at);
    c[2] = number(e->time);
    c[3] = reference(e->task);
    c[4] = text(e->path);
    c[5] = text(e->args);
}

static size_t map_rows(const struct rv_export *x) { return x->run->maps; }

static void map_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    static const char *const rights[] = {"---", "r--", "-w-", "rw-", "--x", "r-x", "-wx", "rwx"};
    const struct rv_run_map *m = &x->run->map[i];
    c[0] = number(i);
    c[1] = number(m->at);
    c[2] = reference(m->task);
    c[3] = address(m->start);
    c[4] = address(m->end);
    c[5] = number(m->offset);
    c[6] = text(rights[m->prot & 7]);
    c[7] = number(m->shared);
    c[8] = text(m->path);
}

static size_t console_rows(const struct rv_export *x) { return x->run->consoles; }

static void console_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    const struct rv_run_console *p = &x->run->console[i];
    c[0] = number(i);
    c[1] = number(p->at);
    c[2] = number(p->time);
    c[3] = reference(p->task);
    c[4] = bytes(p->data, p->len);
}

static size_t mark_rows(const struct rv_export *x) { return x->run->marks; }

static void mark_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    const struct rv_run_mark *m = &x->run->mark[i];
    c[0] = number(i);
    c[1] = number(m->at);
    c[2] = number(m->time);
    c[3] = text(m->name);
}

static size_t event_rows(const struct rv_export *x) { return x->run->events; }

static void event_row(const struct rv_export *x, size_t i, struct rv_cell *c) {
    const struct rv_run_event *e = &x->run->event[i];
    c[0] = number(i);
    c[1] = number(e->at);
    c[2] = number(e->time);
    c[3] = text(rv_trace_kind_name(e->kind));
    c[4] = text(rv_source_name((enum rv_source)e->source));
    c[5] = number(e->len);
    c[6] = address(e->value);
}

/* ---- tables ---- */

#define I RV_CELL_INT
#define A RV_CELL_ADDRESS
#define T RV_CELL_TEXT
#define B RV_CELL_BYTES

const struct rv_table rv_tables[] = {
    {.name = "recording",
     .column = {{"key", T}, {"value", T}},
     .rows = recording_rows,
     .row = recording_row},
    {.name = "tasks",
     .column = {{"id", I},
                {"tid", I},
                {"pid", I},
                {"parent", I},
                {"process", I},
                {"kernel", I},
                {"comm", T},
                {"exe", T},
                {"start", I},
                {"end", I},
                {"start_ns", I},
                {"end_ns", I},
                {"exit_code", I},
                {"instructions", I},
                {"cpu_ns", I},
                {"syscalls", I},
                {"faults", I},
                {"switches", I}},
     .rows = task_rows,
     .row = task_row},
    {.name = "switches",
     .column = {{"id", I}, {"position", I}, {"ns", I}, {"task", I}},
     .index = "position",
     .rows = switch_rows,
     .row = switch_row},
    {.name = "syscalls",
     .column = {{"id", I},
                {"task", I},
                {"enter", I},
                {"exit", I},
                {"enter_ns", I},
                {"exit_ns", I},
                {"number", I},
                {"abi", I},
                {"name", T},
                {"args", T},
                {"result", I},
                {"arg0", A},
                {"arg1", A},
                {"arg2", A},
                {"arg3", A},
                {"arg4", A},
                {"arg5", A},
                {"rip", A}},
     .index = "task, enter",
     .rows = syscall_rows,
     .row = syscall_row},
    {.name = "traps",
     .column = {{"id", I},
                {"position", I},
                {"ns", I},
                {"end", I},
                {"end_ns", I},
                {"vector", I},
                {"kind", T},
                {"user", I},
                {"error", I},
                {"rip", A},
                {"address", A},
                {"task", I}},
     .index = "position",
     .rows = trap_rows,
     .row = trap_row},
    {.name = "execs",
     .column = {{"id", I}, {"position", I}, {"ns", I}, {"task", I}, {"path", T}, {"args", T}},
     .rows = exec_rows,
     .row = exec_row},
    {.name = "maps",
     .column = {{"id", I},
                {"position", I},
                {"task", I},
                {"start", A},
                {"end", A},
                {"offset", I},
                {"prot", T},
                {"shared", I},
                {"path", T}},
     .index = "task, start",
     .rows = map_rows,
     .row = map_row},
    {.name = "console",
     .column = {{"id", I}, {"position", I}, {"ns", I}, {"task", I}, {"data", B}},
     .rows = console_rows,
     .row = console_row},
    {.name = "marks",
     .column = {{"id", I}, {"position", I}, {"ns", I}, {"name", T}},
     .rows = mark_rows,
     .row = mark_row},
    {.name = "events",
     .column = {{"id", I},
                {"position", I},
                {"ns", I},
                {"kind", T},
                {"source", T},
                {"bytes", I},
                {"value", A}},
     .index = "position",
     .rows = event_rows,
     .row = event_row},
};
const size_t rv_tables_count = RV_COUNT(rv_tables);

size_t rv_table_columns(const struct rv_table *t) {
    size_t n = 0;
    while (n < RV_COLUMNS_MAX && t->column[n].name) n++;
    return n;
}
