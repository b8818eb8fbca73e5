/* A Perfetto trace: packets one after the other, each the field `packet` of the message Trace.
 * Their order in the file does not matter to readers, but for those of one time on one track. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perfetto.pb-c.h"
#include "tools/analysis/printed.h"
#include "tools/analysis/tables.h"
#include "tools/analysis/utf8.h"

/* Identities of tracks. A thread's is its number beyond THREAD_TRACKS. */
enum track {
    TRACK_INTERRUPTS = 1,
    TRACK_EXCEPTIONS,
    TRACK_CONSOLE,
    TRACK_INPUT,
    TRACK_MARKS,
    TRACK_TASKS,
    TRACK_PRINTED,
};
#define THREAD_TRACKS (1ull << 32)

#define SEQUENCE 1 /* all packets are of one */
/* Context switches in one packet. */
#define BUNDLE 512

struct out {
    FILE *f;
    const struct rv_guest_run *run;
    struct rv_buf packed;
    struct rv_buf text[4]; /* strings of the packet being made, as UTF-8 */
};

typedef Retro__Perfetto__TracePacket packet;
typedef Retro__Perfetto__TrackEvent event;
typedef Retro__Perfetto__DebugAnnotation annotation;

static void put_packet(struct out *o, packet *p) {
    p->has_trusted_packet_sequence_id = true;
    p->trusted_packet_sequence_id = SEQUENCE;
    size_t n = retro__perfetto__trace_packet__get_packed_size(p);
    rv_buf_clear(&o->packed);
    rv_buf_put_u8(&o->packed, 1 << 3 | 2); /* field 1, with a length */
    for (size_t left = n;; left >>= 7) {
        rv_buf_put_u8(&o->packed, (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0)));
        if (left <= 0x7f) break;
    }
    retro__perfetto__trace_packet__pack(p, rv_buf_grow(&o->packed, n));
    fwrite(o->packed.data, 1, o->packed.len, o->f);
}

/* A string of the guest as UTF-8, in slot i until that is used again. */
static char *utf8(struct out *o, unsigned i, const void *data, size_t len) {
    struct rv_buf *b = &o->text[i];
    rv_buf_clear(b);
    for (const uint8_t *p = data, *end = p + len; p < end;) {
        const uint8_t *nul = memchr(p, 0, (size_t)(end - p));
        size_t part = nul ? (size_t)(nul - p) : (size_t)(end - p);
        rv_utf8_put(b, p, part);
        p += part;
        if (nul) {
            rv_buf_put(b, "\xef\xbf\xbd", 3); /* C strings cannot hold it */
            p++;
        }
    }
    rv_buf_put_u8(b, 0);
    return (char *)b->data;
}

static char *utf8_text(struct out *o, unsigned i, const char *s) {
    return utf8(o, i, s ? s : "", s ? strlen(s) : 0);
}

/* ---- tracks ---- */

static void put_track(struct out *o, uint64_t uuid, const char *name) {
    packet p = RETRO__PERFETTO__TRACE_PACKET__INIT;
    Retro__Perfetto__TrackDescriptor d = RETRO__PERFETTO__TRACK_DESCRIPTOR__INIT;
    d.has_uuid = true;
    d.uuid = uuid;
    d.name = utf8_text(o, 0, name);
    p.data_case = RETRO__PERFETTO__TRACE_PACKET__DATA_TRACK_DESCRIPTOR;
    p.track_descriptor = &d;
    put_packet(o, &p);
}

static void put_counter_track(struct out *o, uint64_t uuid, const char *name,
                              Retro__Perfetto__CounterDescriptor__Unit unit) {
    packet p = RETRO__PERFETTO__TRACE_PACKET__INIT;
    Retro__Perfetto__TrackDescriptor d = RETRO__PERFETTO__TRACK_DESCRIPTOR__INIT;
    Retro__Perfetto__CounterDescriptor c = RETRO__PERFETTO__COUNTER_DESCRIPTOR__INIT;
    c.has_unit = true;
    c.unit = unit;
    d.has_uuid = true;
    d.uuid = uuid;
    d.name = utf8_text(o, 0, name);
    d.counter = &c;
    p.data_case = RETRO__PERFETTO__TRACE_PACKET__DATA_TRACK_DESCRIPTOR;
    p.track_descriptor = &d;
    put_packet(o, &p);
}

static void put_thread_track(struct out *o, uint32_t i) {
    const struct rv_run_task *t = &o->run->task[i];
    packet p = RETRO__PERFETTO__TRACE_PACKET__INIT;
    Retro__Perfetto__TrackDescriptor d = RETRO__PERFETTO__TRACK_DESCRIPTOR__INIT;
    Retro__Perfetto__ThreadDescriptor h = RETRO__PERFETTO__THREAD_DESCRIPTOR__INIT;
    h.has_pid = h.has_tid = true;
    h.pid = (int32_t)t->pid;
    h.tid = t->tid;
    h.thread_name = utf8_text(o, 0, t->comm);
    d.has_uuid = true;
    d.uuid = THREAD_TRACKS + i;
    d.thread = &h;
    p.data_case = RETRO__PERFETTO__TRACE_PACKET__DATA_TRACK_DESCRIPTOR;
    p.track_descriptor = &d;
    put_packet(o, &p);
}

/* ---- events ---- */

static annotation note_text(const char *name, char *value) {
    annotation a = RETRO__PERFETTO__DEBUG_ANNOTATION__INIT;
    a.name = (char *)(uintptr_t)name;
    a.string_value = value;
    return a;
}

static annotation note_int(const char *name, int64_t value) {
    annotation a = RETRO__PERFETTO__DEBUG_ANNOTATION__INIT;
    a.name = (char *)(uintptr_t)name;
    a.has_int_value = true;
    a.int_value = value;
    return a;
}

static annotation note_address(const char *name, uint64_t value) {
    annotation a = RETRO__PERFETTO__DEBUG_ANNOTATION__INIT;
    a.name = (char *)(uintptr_t)name;
    a.has_pointer_value = true;
    a.pointer_value = value;
    return a;
}

#define NOTES_MAX 4

/* name and category may be NULL. */
static void put_event(struct out *o, Retro__Perfetto__TrackEvent__Type type, uint64_t track,
                      rv_ns at, char *name, const char *category, annotation *notes, size_t n) {
    packet p = RETRO__PERFETTO__TRACE_PACKET__INIT;
    event e = RETRO__PERFETTO__TRACK_EVENT__INIT;
    annotation *list[NOTES_MAX];
    char *categories[1] = {(char *)(uintptr_t)category};
    for (size_t i = 0; i < n; i++) list[i] = &notes[i];
    e.has_type = e.has_track_uuid = true;
    e.type = type;
    e.track_uuid = track;
    e.name = name;
    e.debug_annotations = list;
    e.n_debug_annotations = n;
    if (category) {
        e.categories = categories;
        e.n_categories = 1;
    }
    p.has_timestamp = true;
    p.timestamp = at;
    p.data_case = RETRO__PERFETTO__TRACE_PACKET__DATA_TRACK_EVENT;
    p.track_event = &e;
    put_packet(o, &p);
}

#define BEGIN   RETRO__PERFETTO__TRACK_EVENT__TYPE__TYPE_SLICE_BEGIN
#define END     RETRO__PERFETTO__TRACK_EVENT__TYPE__TYPE_SLICE_END
#define INSTANT RETRO__PERFETTO__TRACK_EVENT__TYPE__TYPE_INSTANT

static void put_count(struct out *o, uint64_t track, rv_ns at, int64_t value) {
    packet p = RETRO__PERFETTO__TRACE_PACKET__INIT;
    event e = RETRO__PERFETTO__TRACK_EVENT__INIT;
    e.has_type = e.has_track_uuid = e.has_counter_value = true;
    e.type = RETRO__PERFETTO__TRACK_EVENT__TYPE__TYPE_COUNTER;
    e.track_uuid = track;
    e.counter_value = value;
    p.has_timestamp = true;
    p.timestamp = at;
    p.data_case = RETRO__PERFETTO__TRACE_PACKET__DATA_TRACK_EVENT;
    p.track_event = &e;
    put_packet(o, &p);
}

/* ---- what a run has ---- */

/* The arguments of the last program a task executed, or NULL. */
static const char *arguments_of(const struct rv_guest_run *r, uint32_t task) {
    for (size_t i = r->execs; i-- > 0;)
        if (r->exec[i].task == task) return r->exec[i].args;
    return NULL;
}

static void put_process(struct out *o, uint32_t i) {
    const struct rv_run_task *t = &o->run->task[i];
    const struct rv_run_task *parent = t->parent < o->run->tasks ? &o->run->task[t->parent] : NULL;
    packet p = RETRO__PERFETTO__TRACE_PACKET__INIT;
    Retro__Perfetto__ProcessTree tree = RETRO__PERFETTO__PROCESS_TREE__INIT;
    Retro__Perfetto__ProcessTree__Process process = RETRO__PERFETTO__PROCESS_TREE__PROCESS__INIT;
    Retro__Perfetto__ProcessTree__Process *processes[1] = {&process};
    const char *args = arguments_of(o->run, i);
    char *cmdline[1] = {utf8_text(o, 0, args ? args : t->comm)};
    process.has_pid = true;
    process.pid = (int32_t)t->pid;
    process.has_ppid = parent != NULL;
    process.ppid = parent ? (int32_t)parent->pid : 0;
    process.cmdline = cmdline;
    process.n_cmdline = 1;
    process.has_cmdline_is_comm = !args;
    process.cmdline_is_comm = !args;
    process.has_is_kthread = true;
    process.is_kthread = t->kernel;
    process.has_process_start_from_boot = true;
    process.process_start_from_boot = t->start_time;
    tree.processes = processes;
    tree.n_processes = 1;
    p.has_timestamp = true;
    p.timestamp = t->start_time;
    p.data_case = RETRO__PERFETTO__TRACE_PACKET__DATA_PROCESS_TREE;
    p.process_tree = &tree;
    put_packet(o, &p);
}

static void put_tasks(struct out *o) {
    const struct rv_guest_run *r = o->run;
    for (uint32_t i = 0; i < r->tasks; i++) {
        if (r->task[i].tid == r->task[i].pid) put_process(o, i);
        put_thread_track(o, i);
    }
}

/* Linux's letters as prev_state: exiting, sleeping, runnable. A task that is switched away from
 * within a system call counts as sleeping, one that is not was still to run. */
enum { STATE_RUNNABLE = 0, STATE_SLEEPING = 1, STATE_DEAD = 16 };

/* For each task, the system call to look at next: positions only go forward. */
static int64_t state_of(const struct rv_guest_run *r, uint32_t task, rv_icount at,
                        const size_t *next, size_t *cursor) {
    if (r->task[task].exited && r->task[task].end <= at) return STATE_DEAD;
    while (cursor[task] != SIZE_MAX && r->syscall[cursor[task]].exit != RV_NEVER &&
           r->syscall[cursor[task]].exit <= at)
        cursor[task] = next[cursor[task]];
    size_t i = cursor[task];
    return i != SIZE_MAX && r->syscall[i].enter <= at ? STATE_SLEEPING : STATE_RUNNABLE;
}

/* Chains the system calls of each task: cursor[task] is its first, next[] the one after. */
static void chain_calls(const struct rv_guest_run *r, size_t *next, size_t *cursor) {
    memset(cursor, 0xff, (r->tasks + 1) * sizeof *cursor);
    for (size_t i = r->syscalls; i-- > 0;) {
        next[i] = SIZE_MAX;
        if (r->syscall[i].task >= r->tasks) continue;
        next[i] = cursor[r->syscall[i].task];
        cursor[r->syscall[i].task] = i;
    }
}

struct bundle {
    Retro__Perfetto__FtraceEvent event[BUNDLE], *list[BUNDLE];
    Retro__Perfetto__SchedSwitch sw[BUNDLE];
    char comm[BUNDLE][2][64];
    size_t n;
};

static void put_bundle(struct out *o, struct bundle *b) {
    if (!b->n) return;
    packet p = RETRO__PERFETTO__TRACE_PACKET__INIT;
    Retro__Perfetto__FtraceEventBundle f = RETRO__PERFETTO__FTRACE_EVENT_BUNDLE__INIT;
    f.has_cpu = true;
    f.event = b->list;
    f.n_event = b->n;
    p.has_timestamp = true;
    p.timestamp = b->event[0].timestamp;
    p.data_case = RETRO__PERFETTO__TRACE_PACKET__DATA_FTRACE_EVENTS;
    p.ftrace_events = &f;
    put_packet(o, &p);
    b->n = 0;
}

static void put_switches(struct out *o) {
    const struct rv_guest_run *r = o->run;
    struct bundle *b = rv_alloc(sizeof *b);
    size_t *next = rv_alloc((r->syscalls + 1) * sizeof *next);
    size_t *cursor = rv_alloc((r->tasks + 1) * sizeof *cursor);
    chain_calls(r, next, cursor);
    for (size_t i = 1; i < r->switches; i++) {
        uint32_t from = r->sw[i - 1].task, to = r->sw[i].task;
        if (from >= r->tasks || to >= r->tasks || from == to) continue;
        size_t k = b->n++;
        Retro__Perfetto__FtraceEvent *e = &b->event[k];
        Retro__Perfetto__SchedSwitch *s = &b->sw[k];
        retro__perfetto__ftrace_event__init(e);
        retro__perfetto__sched_switch__init(s);
        b->list[k] = e;
        snprintf(b->comm[k][0], sizeof b->comm[k][0], "%s", utf8_text(o, 0, r->task[from].comm));
        snprintf(b->comm[k][1], sizeof b->comm[k][1], "%s", utf8_text(o, 0, r->task[to].comm));
        e->has_timestamp = e->has_pid = true;
        e->timestamp = r->sw[i].time;
        e->pid = r->task[from].tid;
        e->sched_switch = s;
        s->has_prev_pid = s->has_prev_prio = s->has_prev_state = true;
        s->has_next_pid = s->has_next_prio = true;
        s->prev_comm = b->comm[k][0];
        s->next_comm = b->comm[k][1];
        s->prev_pid = (int32_t)r->task[from].tid;
        s->next_pid = (int32_t)r->task[to].tid;
        s->prev_prio = s->next_prio = 120; /* that of an ordinary task: it is not known */
        s->prev_state = state_of(r, from, r->sw[i].at, next, cursor);
        if (b->n == BUNDLE) put_bundle(o, b);
    }
    put_bundle(o, b);
    free(cursor);
    free(next);
    free(b);
}

static void put_syscalls(struct out *o) {
    const struct rv_guest_run *r = o->run;
    for (size_t i = 0; i < r->syscalls; i++) {
        const struct rv_run_syscall *s = &r->syscall[i];
        if (s->task >= r->tasks) continue;
        bool returned = s->exit != RV_NEVER;
        rv_ns end = returned ? s->exit_time : r->end_time;
        const struct rv_run_task *t = &r->task[s->task];
        if (!returned && t->exited) end = t->end_time;
        annotation notes[] = {note_text("args", utf8_text(o, 1, s->args)),
                              note_int("position", (int64_t)s->enter),
                              note_int("result", s->result)};
        put_event(o, BEGIN, THREAD_TRACKS + s->task, s->enter_time, utf8_text(o, 0, s->name),
                  "syscall", notes, returned ? 3 : 2);
        put_event(o, END, THREAD_TRACKS + s->task, end, NULL, NULL, NULL, 0);
    }
}

static const char *exception_name(unsigned vector) {
    static const char *const names[] = {
        "#DE divide", "#DB debug",       "NMI",           "#BP breakpoint",    "#OF overflow",
        "#BR bound",  "#UD undefined",   "#NM no device", "#DF double",        "vector 9",
        "#TS TSS",    "#NP not present", "#SS stack",     "#GP protection",    "#PF page fault",
        "vector 15",  "#MF x87",         "#AC alignment", "#MC machine check", "#XM SIMD"};
    return vector < RV_COUNT(names) ? names[vector] : NULL;
}

static void put_traps(struct out *o) {
    const struct rv_guest_run *r = o->run;
    for (size_t i = 0; i < r->traps; i++) {
        const struct rv_run_trap *t = &r->trap[i];
        bool exception = t->kind == RV_TRAP_EXCEPTION;
        uint64_t track = exception ? TRACK_EXCEPTIONS : TRACK_INTERRUPTS;
        char name[32];
        const char *known = exception || t->kind == RV_TRAP_NMI ? exception_name(t->vector) : NULL;
        if (known)
            snprintf(name, sizeof name, "%s", known);
        else
            snprintf(name, sizeof name, "vector 0x%02x", t->vector);
        annotation notes[NOTES_MAX] = {note_int("position", (int64_t)t->at.icount),
                                       note_address("rip", t->rip)};
        size_t n = 2;
        if (exception && t->vector == 14) {
            notes[n++] = note_address("address", t->address);
            notes[n++] = note_int("error", t->error);
        }
        bool ended = t->end != RV_NEVER;
        put_event(o, ended ? BEGIN : INSTANT, track, t->time, name,
                  exception ? "exception" : "interrupt", notes, n);
        if (ended) put_event(o, END, track, t->end_time, NULL, NULL, NULL, 0);
    }
}

static void put_console(struct out *o) {
    struct rv_printed lines;
    int64_t printed = 0;
    rv_printed_make(&lines, o->run);
    for (size_t i = 0; i < lines.n; i++) {
        const struct rv_printed_line *l = &lines.line[i];
        const uint8_t *data = lines.text.data + l->start;
        size_t len = l->len;
        while (len && (data[len - 1] == '\n' || data[len - 1] == '\r')) len--;
        annotation notes[] = {note_int("position", (int64_t)l->at),
                              note_int("bytes", (int64_t)l->len)};
        if (len)
            put_event(o, INSTANT, TRACK_CONSOLE, l->time, utf8(o, 0, data, len), "console", notes,
                      2);
        printed += (int64_t)l->len;
        put_count(o, TRACK_PRINTED, l->time, printed);
    }
    rv_printed_release(&lines);
}

static void put_marks(struct out *o) {
    const struct rv_guest_run *r = o->run;
    for (size_t i = 0; i < r->marks; i++) {
        annotation notes[] = {note_int("position", (int64_t)r->mark[i].at)};
        put_event(o, INSTANT, TRACK_MARKS, r->mark[i].time, utf8_text(o, 0, r->mark[i].name),
                  "mark", notes, 1);
    }
}

static void put_inputs(struct out *o) {
    const struct rv_guest_run *r = o->run;
    for (size_t i = 0; i < r->events; i++) {
        const struct rv_run_event *e = &r->event[i];
        if (e->kind != RV_TRACE_INPUT && e->kind != RV_TRACE_JUMP && e->kind != RV_TRACE_QUERY)
            continue;
        char name[64];
        snprintf(name, sizeof name, "%s %s", rv_trace_kind_name(e->kind),
                 rv_source_name((enum rv_source)e->source));
        annotation notes[] = {note_int("position", (int64_t)e->at), note_int("bytes", e->len)};
        put_event(o, INSTANT, TRACK_INPUT, e->time, name, "input", notes, 2);
    }
}

/* How many user processes there are, whenever that changes. */
struct change {
    rv_ns at;
    int by;
};

static int by_time(const void *a, const void *b) {
    const struct change *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at ? -1 : 1) : y->by - x->by;
}

static void put_process_count(struct out *o) {
    const struct rv_guest_run *r = o->run;
    struct change *c = rv_alloc((2 * r->tasks + 1) * sizeof *c);
    size_t n = 0;
    for (size_t i = 0; i < r->tasks; i++) {
        const struct rv_run_task *t = &r->task[i];
        if (t->kernel || t->tid != t->pid) continue;
        c[n++] = (struct change){t->start_time, 1};
        if (t->end != RV_NEVER) c[n++] = (struct change){t->end_time, -1};
    }
    qsort(c, n, sizeof *c, by_time);
    int64_t alive = 0;
    for (size_t i = 0; i < n; i++) put_count(o, TRACK_TASKS, c[i].at, alive += c[i].by);
    free(c);
}

int rv_export_perfetto(const struct rv_export *x, const char *path, struct rv_err *err) {
    struct out o = {.f = fopen(path, "wbxe"), .run = x->run};
    if (!o.f) return rv_fail_errno(err, RV_E_HOST, "cannot create %s", path);
    put_track(&o, TRACK_INTERRUPTS, "Interrupts");
    put_track(&o, TRACK_EXCEPTIONS, "Exceptions");
    put_track(&o, TRACK_CONSOLE, "Console");
    put_track(&o, TRACK_INPUT, "From outside");
    put_track(&o, TRACK_MARKS, "Marks");
    put_counter_track(&o, TRACK_TASKS, "User processes",
                      RETRO__PERFETTO__COUNTER_DESCRIPTOR__UNIT__UNIT_COUNT);
    put_counter_track(&o, TRACK_PRINTED, "Console output",
                      RETRO__PERFETTO__COUNTER_DESCRIPTOR__UNIT__UNIT_SIZE_BYTES);
    put_tasks(&o);
    put_switches(&o);
    put_syscalls(&o);
    put_traps(&o);
    put_console(&o);
    put_marks(&o);
    put_inputs(&o);
    put_process_count(&o);
    rv_buf_release(&o.packed);
    for (unsigned i = 0; i < RV_COUNT(o.text); i++) rv_buf_release(&o.text[i]);
    bool bad = ferror(o.f);
    if (fclose(o.f) != 0 || bad) return rv_fail_errno(err, RV_E_HOST, "cannot write %s", path);
    return 0;
}
