/* Puts notes together: who ran when, which return belongs to which call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/arena.h"
#include "tools/analysis/run_priv.h"
#include "tools/analysis/syscall.h"

#define MAX_NESTED 64 /* interrupts and exceptions within each other */

/* What is under way in a task. */
struct live {
    uint32_t syscall; /* that has not returned, or RV_NONE */
    uint32_t trap[MAX_NESTED], traps;
};

struct rv_merge {
    struct rv_guest_run *run;
    struct live *live; /* of each task */
    /* Tasks by address of their task_struct. */
    struct slot {
        uint64_t task;
        uint32_t index;
    } * slot;
    size_t slots, used;
    size_t task_room, sw_room, syscall_room, trap_room, exec_room, map_room;
    uint32_t current;
    rv_icount since; /* current has run since then */
    rv_ns since_time;
};

struct rv_merge *rv_merge_new(struct rv_guest_run *r) {
    struct rv_merge *m = rv_alloc(sizeof *m);
    m->run = r;
    m->current = RV_NONE;
    m->slots = 1024;
    m->slot = rv_alloc(m->slots * sizeof *m->slot);
    return m;
}

void rv_merge_free(struct rv_merge *m) {
    if (!m) return;
    free(m->live);
    free(m->slot);
    free(m);
}

/* ---- tasks ---- */

static struct slot *place(struct rv_merge *m, uint64_t task) {
    size_t i = (task >> 6) * 0x9e3779b97f4a7c15ull >> 32 & (m->slots - 1);
    while (m->slot[i].task && m->slot[i].task != task) i = (i + 1) & (m->slots - 1);
    return &m->slot[i];
}

static void set_place(struct rv_merge *m, uint64_t task, uint32_t index) {
    if (2 * (m->used + 1) > m->slots) {
        struct slot *old = m->slot;
        size_t n = m->slots;
        m->slots *= 2;
        m->slot = rv_alloc(m->slots * sizeof *m->slot);
        for (size_t i = 0; i < n; i++)
            if (old[i].task) *place(m, old[i].task) = old[i];
        free(old);
    }
    struct slot *s = place(m, task);
    m->used += !s->task;
    *s = (struct slot){task, index};
}

static uint32_t find_process(const struct rv_guest_run *r, uint32_t pid) {
    for (size_t i = r->tasks; i-- > 0;)
        if (r->task[i].tid == pid && r->task[i].pid == pid) return (uint32_t)i;
    return RV_NONE;
}

static void refresh(struct rv_merge *m, uint32_t index, const struct rv_linux_task *who) {
    struct rv_run_task *t = &m->run->task[index];
    if (strcmp(t->comm, who->comm) != 0) t->comm = rv_arena_intern(m->run->arena, who->comm);
    if (who->root) t->root = who->root;
    t->kernel = who->kernel;
}

static uint32_t new_task(struct rv_merge *m, const struct rv_linux_task *who,
                         const struct rv_note *n) {
    struct rv_guest_run *r = m->run;
    size_t room = m->task_room;
    RV_GROW(r->task, r->tasks, m->task_room);
    if (m->task_room != room) m->live = rv_realloc(m->live, m->task_room * sizeof *m->live);
    uint32_t index = (uint32_t)r->tasks++;
    r->task[index] = (struct rv_run_task){.tid = who->tid,
                                          .pid = who->pid,
                                          .parent = m->current,
                                          .process = index,
                                          .kernel = who->kernel,
                                          .comm = rv_arena_intern(r->arena, who->comm),
                                          .task = who->task,
                                          .root = who->root,
                                          .start = n->at,
                                          .start_time = n->time,
                                          .end = RV_NEVER};
    m->live[index] = (struct live){.syscall = RV_NONE};
    if (who->tid != who->pid) {
        uint32_t process = find_process(r, who->pid);
        if (process != RV_NONE) r->task[index].process = process;
    }
    set_place(m, who->task, index);
    return index;
}

/* The task of a note; one that was never seen before began unseen. */
static uint32_t task_of(struct rv_merge *m, const struct rv_linux_task *who,
                        const struct rv_note *n) {
    const struct slot *s = place(m, who->task);
    if (s->task && m->run->task[s->index].tid == who->tid) return s->index;
    return new_task(m, who, n);
}

/* ---- switches ---- */

static void account(struct rv_merge *m, rv_icount at, rv_ns time) {
    if (m->current == RV_NONE) return;
    struct rv_run_task *t = &m->run->task[m->current];
    t->instructions += at - m->since;
    t->cpu_time += time - m->since_time;
    if (!t->tid) m->run->idle += at - m->since;
}

static void run_task(struct rv_merge *m, uint32_t index, const struct rv_note *n) {
    struct rv_guest_run *r = m->run;
    account(m, n->at, n->time);
    uint32_t before = m->current;
    /* Of an exiting task the last time counts: it may be preempted on its way. */
    if (before != RV_NONE && r->task[before].exited) {
        r->task[before].end = n->at;
        r->task[before].end_time = n->time;
    }
    m->current = index;
    m->since = n->at;
    m->since_time = n->time;
    r->task[index].switches++;
    RV_GROW(r->sw, r->switches, m->sw_room);
    r->sw[r->switches++] = (struct rv_run_switch){n->at, n->time, index};
}

/* ---- system calls ---- */

static void enter(struct rv_merge *m, uint32_t task, const struct rv_note *n) {
    struct rv_guest_run *r = m->run;
    bool wide = n->kind == RV_NOTE_ENTER;
    const char *known = wide ? rv_syscall_name(n->number) : NULL;
    char name[32];
    snprintf(name, sizeof name, wide ? "syscall_%u" : "syscall32_%u", n->number);
    RV_GROW(r->syscall, r->syscalls, m->syscall_room);
    struct rv_run_syscall *s = &r->syscall[r->syscalls];
    *s = (struct rv_run_syscall){.enter = n->at,
                                 .enter_time = n->time,
                                 .exit = RV_NEVER,
                                 .task = task,
                                 .number = n->number,
                                 .abi = wide ? RV_ABI_64 : RV_ABI_32,
                                 .name = known ? known : rv_arena_intern(r->arena, name),
                                 .args = n->text,
                                 .rip = n->v[6]};
    memcpy(s->arg, n->v, sizeof s->arg);
    s->args = rv_arena_copy(r->arena, n->text, strlen(n->text));
    m->live[task].syscall = (uint32_t)r->syscalls++;
    r->task[task].syscalls++;
}

/* Puts what the call filled, each text ended with LATER, in place of LATER in its arguments. */
static void fill(struct rv_guest_run *r, struct rv_run_syscall *s, const char *filled) {
    if (!strchr(s->args, RV_SYSCALL_LATER)) return;
    struct rv_buf text = {0};
    for (const char *p = s->args; *p; p++) {
        if (*p != RV_SYSCALL_LATER) {
            rv_buf_put_u8(&text, (uint8_t)*p);
            continue;
        }
        const char *end = strchr(filled, RV_SYSCALL_LATER);
        if (!end) continue;
        rv_buf_put(&text, filled, (size_t)(end - filled));
        filled = end + 1;
    }
    s->args = rv_arena_copy(r->arena, text.data, text.len);
    rv_buf_release(&text);
}

static void leave(struct rv_merge *m, uint32_t task, const struct rv_note *n) {
    uint32_t i = m->live[task].syscall;
    if (i == RV_NONE || !n->text) return;
    struct rv_run_syscall *s = &m->run->syscall[i];
    s->exit = n->at;
    s->exit_time = n->time;
    s->result = (int64_t)n->v[0];
    fill(m->run, s, n->text);
    m->live[task].syscall = RV_NONE;
}

/* ---- interrupts and exceptions ---- */

static void trap(struct rv_merge *m, uint32_t task, const struct rv_note *n) {
    struct rv_guest_run *r = m->run;
    RV_GROW(r->trap, r->traps, m->trap_room);
    r->trap[r->traps] = (struct rv_run_trap){.at = {n->at, n->delivered},
                                             .time = n->time,
                                             .end = RV_NEVER,
                                             .vector = n->vector,
                                             .kind = n->trap,
                                             .user = n->user,
                                             .error = n->error,
                                             .rip = n->v[0],
                                             .address = n->v[1],
                                             .task = task};
    if (task != RV_NONE) {
        struct live *l = &m->live[task];
        if (n->vector == 14 && n->trap == RV_TRAP_EXCEPTION) r->task[task].faults++;
        if (l->traps < MAX_NESTED) l->trap[l->traps++] = (uint32_t)r->traps;
    }
    r->traps++;
}

static void end_trap(struct rv_merge *m, uint32_t task, const struct rv_note *n) {
    struct live *l = &m->live[task];
    if (!l->traps) return;
    struct rv_run_trap *t = &m->run->trap[l->trap[--l->traps]];
    t->end = n->at;
    t->end_time = n->time;
}

/* ---- all ---- */

static void exec(struct rv_merge *m, uint32_t task, const struct rv_note *n) {
    struct rv_guest_run *r = m->run;
    RV_GROW(r->exec, r->execs, m->exec_room);
    const char *path = rv_arena_intern(r->arena, n->text);
    r->exec[r->execs++] =
        (struct rv_run_exec){.at = n->at,
                             .time = n->time,
                             .task = task,
                             .path = path,
                             .args = rv_arena_copy(r->arena, n->more, strlen(n->more))};
    r->task[task].exe = rv_arena_intern(r->arena, n->exe);
    r->task[task].kernel = false;
}

static void map(struct rv_merge *m, uint32_t task, const struct rv_note *n) {
    struct rv_guest_run *r = m->run;
    RV_GROW(r->map, r->maps, m->map_room);
    r->map[r->maps++] = (struct rv_run_map){.at = n->at,
                                            .task = task,
                                            .start = n->v[0],
                                            .end = n->v[1],
                                            .offset = n->v[2],
                                            .prot = (uint32_t)n->v[3],
                                            .shared = n->flag,
                                            .path = rv_arena_intern(r->arena, n->text)};
}

static void last(struct rv_merge *m, uint32_t task, const struct rv_note *n) {
    struct rv_run_task *t = &m->run->task[task];
    if (t->exited) return;
    t->exited = true;
    t->exit_at = n->at;
    t->exit_code = (int)n->v[0];
}

static void one(struct rv_merge *m, const struct rv_note *n) {
    if (!n->task) { /* no kernel yet, or another system */
        if (n->kind == RV_NOTE_TRAP) trap(m, RV_NONE, n);
        return;
    }
    if (n->kind == RV_NOTE_SWITCH) {
        uint32_t next = task_of(m, &n->who, n);
        refresh(m, next, &n->who);
        run_task(m, next, n);
        return;
    }
    if (n->kind == RV_NOTE_FORK) {
        new_task(m, &n->who, n);
        return;
    }
    uint32_t task = task_of(m, &n->who, n);
    if (m->current == RV_NONE) run_task(m, task, n);
    switch (n->kind) {
    case RV_NOTE_ENTER:
    case RV_NOTE_ENTER32: enter(m, task, n); break;
    case RV_NOTE_EXIT: leave(m, task, n); break;
    case RV_NOTE_EXEC: exec(m, task, n); break;
    case RV_NOTE_LAST: last(m, task, n); break;
    case RV_NOTE_MAP: map(m, task, n); break;
    case RV_NOTE_TRAP: trap(m, task, n); return;
    case RV_NOTE_TRAP_END: end_trap(m, task, n); return;
    case RV_NOTE_USER:
        while (m->live[task].traps) end_trap(m, task, n);
        return;
    default: break;
    }
    refresh(m, task, &n->who);
}

void rv_merge_add(struct rv_merge *m, const struct rv_notes *notes) {
    for (size_t i = 0; i < notes->n; i++) one(m, &notes->note[i]);
}

void rv_merge_end(struct rv_merge *m, rv_icount end, rv_ns time) {
    struct rv_guest_run *r = m->run;
    account(m, end, time);
    for (size_t i = 0; i < r->tasks; i++) {
        uint32_t open = m->live[i].syscall;
        if (open == RV_NONE || r->syscall[open].abi != RV_ABI_64) continue;
        struct rv_run_syscall *s = &r->syscall[open];
        struct rv_buf text = {0};
        rv_syscall_exit(&text, s->number, s->arg, 0, NULL);
        rv_buf_put_u8(&text, 0);
        fill(r, s, (const char *)text.data);
        rv_buf_release(&text);
    }
}
