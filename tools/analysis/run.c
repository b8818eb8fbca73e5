/* Workers note what happens at a few places of the kernel (this file); the notes are put together
 * in order (run_merge.c). The places are functions that Linux has had for long and that cannot be
 * inlined: entry code, or functions of other files. */
#include "tools/analysis/run_priv.h"

#include <stdlib.h>
#include <string.h>

#include "replay/pass.h"
#include "tools/analysis/arena.h"
#include "tools/analysis/syscall.h"

/* struct pt_regs, part of the kernel's interface to debuggers (asm/ptrace.h). */
enum {
    R_BP = 4,
    R_BX = 5,
    R_R10 = 7,
    R_R9,
    R_R8,
    R_AX,
    R_CX,
    R_DX,
    R_SI,
    R_DI,
    R_NR,
    R_IP,
    R_CS,
    R_COUNT = 21
};

static const struct place {
    const char *symbol;
    enum rv_note_kind kind;
    unsigned what; /* enum rv_run_what that needs it */
} places[] = {
    {"start_kernel", RV_NOTE_START, RV_RUN_TASKS},
    {"entry_SYSCALL_64", RV_NOTE_ENTER, RV_RUN_SYSCALLS},
    {"entry_SYSCALL_compat", RV_NOTE_ENTER32, RV_RUN_SYSCALLS},
    {"entry_SYSENTER_compat", RV_NOTE_ENTER32, RV_RUN_SYSCALLS},
    {"entry_INT80_compat", RV_NOTE_ENTER32, RV_RUN_SYSCALLS},
    {"asm_int80_emulation", RV_NOTE_ENTER32, RV_RUN_SYSCALLS},
    {"syscall_exit_to_user_mode", RV_NOTE_EXIT, RV_RUN_SYSCALLS},
    {"__switch_to", RV_NOTE_SWITCH, RV_RUN_TASKS},
    {"wake_up_new_task", RV_NOTE_FORK, RV_RUN_TASKS},
    {"finalize_exec", RV_NOTE_EXEC, RV_RUN_TASKS},
    {"do_exit", RV_NOTE_LAST, RV_RUN_TASKS},
    {"perf_event_mmap", RV_NOTE_MAP, RV_RUN_MAPS},
    {"irqentry_exit", RV_NOTE_TRAP_END, RV_RUN_TRAPS},
    {"irqentry_nmi_exit", RV_NOTE_TRAP_END, RV_RUN_TRAPS},
    {"irqentry_exit_to_user_mode", RV_NOTE_USER, RV_RUN_TRAPS},
};

struct gather {
    struct rv_guest_run *run;
    struct rv_linux *kernel; /* NULL: not recognised */
    struct rv_merge *merge;
    const struct rv_run_config *config;
    struct rv_sought sought[RV_COUNT(places) + 1];
    enum rv_note_kind kind[RV_COUNT(places) + 1];
    uint64_t address[RV_COUNT(places) + 1];
    size_t n;
    uint64_t filename; /* offset of linux_binprm.filename; UINT64_MAX: not known */
};

/* ---- one note ---- */

/* The machine at a hit. */
struct moment {
    const struct gather *g;
    struct rv_notes *notes;
    struct rv_view cpu, kernel;
    bool known; /* `kernel` is valid */
};

static size_t read_cpu(void *ctx, uint64_t va, void *out, size_t len) {
    const struct moment *m = ctx;
    /* Only what a process may see: the kernel half is not shown for a bad pointer. */
    if (va >> 47) return 0;
    size_t got = rv_view_read(&m->cpu, va, out, len);
    if (got == len || !m->known) return got;
    /* It may be there, though not touched yet. */
    uint64_t task = rv_linux_current(m->g->kernel, &m->kernel);
    struct rv_linux_task who;
    struct rv_linux_vma *vma;
    if (!rv_linux_task(m->g->kernel, &m->kernel, task, &who)) return got;
    size_t n = rv_linux_vmas(m->g->kernel, &m->kernel, who.mm, &vma);
    got = rv_linux_user_read(m->g->kernel, &m->kernel, &m->cpu, vma, n, va, out, len, NULL);
    free(vma);
    return got;
}

static struct rv_note *add(struct moment *m, enum rv_note_kind kind, const struct rv_watch_hit *hit,
                           rv_ns time) {
    struct rv_notes *s = m->notes;
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 1024;
        s->note = rv_realloc(s->note, s->room * sizeof *s->note);
    }
    struct rv_note *n = &s->note[s->n++];
    *n = (struct rv_note){.kind = (uint8_t)kind,
                          .at = hit->before.icount,
                          .delivered = hit->before.delivered,
                          .time = time};
    if (m->known) {
        n->task = rv_linux_current(m->g->kernel, &m->kernel);
        if (n->task && rv_linux_task(m->g->kernel, &m->kernel, n->task, &n->who))
            n->tid = n->who.tid;
        else
            n->task = 0;
    }
    return n;
}

static void on_enter(struct moment *m, struct rv_note *n) {
    const uint64_t *g = m->cpu.cpu.gpr;
    struct rv_syscall_memory memory = {read_cpu, m};
    struct rv_buf text = {0};
    n->number = (uint16_t)(g[RV_RAX] < UINT16_MAX ? g[RV_RAX] : UINT16_MAX);
    if (n->kind == RV_NOTE_ENTER32) {
        const uint64_t a[6] = {g[RV_RBX], g[RV_RCX], g[RV_RDX], g[RV_RSI], g[RV_RDI], g[RV_RBP]};
        for (unsigned i = 0; i < 6; i++) {
            n->v[i] = (uint32_t)a[i];
            rv_buf_printf(&text, "%s%#x", i ? ", " : "", (uint32_t)a[i]);
        }
    } else {
        const uint64_t a[6] = {g[RV_RDI], g[RV_RSI], g[RV_RDX], g[RV_R10], g[RV_R8], g[RV_R9]};
        memcpy(n->v, a, sizeof a);
        n->v[6] = g[RV_RCX];
        rv_syscall_enter(&text, n->number, n->v, &memory);
    }
    n->text = rv_arena_copy(m->notes->arena, text.data, text.len);
    rv_buf_release(&text);
}

static void on_exit_call(struct moment *m, struct rv_note *n) {
    uint64_t r[R_COUNT];
    struct rv_syscall_memory memory = {read_cpu, m};
    struct rv_buf text = {0};
    if (rv_view_read(&m->kernel, m->cpu.cpu.gpr[RV_RDI], r, sizeof r) != sizeof r) return;
    const uint64_t a[6] = {r[R_DI], r[R_SI], r[R_DX], r[R_R10], r[R_R8], r[R_R9]};
    n->v[0] = r[R_AX];
    if (r[R_NR] < UINT16_MAX)
        rv_syscall_exit(&text, (unsigned)r[R_NR], a, (int64_t)r[R_AX], &memory);
    n->text = rv_arena_copy(m->notes->arena, text.data, text.len);
    rv_buf_release(&text);
}

static void on_exec(struct moment *m, struct rv_note *n) {
    const struct gather *g = m->g;
    char path[1024], args[4096], exe[1024];
    uint64_t name, start, end;
    struct rv_view user;
    *path = *args = 0;
    if (g->filename != UINT64_MAX &&
        rv_view_u64(&m->kernel, m->cpu.cpu.gpr[RV_RDI] + g->filename, &name))
        rv_view_string(&m->kernel, name, path, sizeof path, NULL);
    if (rv_linux_args(g->kernel, &m->kernel, n->who.mm, &start, &end) &&
        rv_linux_user_view(g->kernel, &m->kernel, n->who.mm, &user))
        rv_linux_strings(&user, start, end, args, sizeof args);
    n->text = rv_arena_copy(m->notes->arena, path, strlen(path));
    n->more = rv_arena_copy(m->notes->arena, args, strlen(args));
    rv_linux_path(g->kernel, &m->kernel, rv_linux_exe(g->kernel, &m->kernel, n->who.mm), exe,
                  sizeof exe);
    n->exe = rv_arena_copy(m->notes->arena, exe, strlen(exe));
}

static void on_map(struct moment *m, struct rv_note *n) {
    struct rv_linux_vma vma;
    char path[1024];
    if (!rv_linux_vma(m->g->kernel, &m->kernel, m->cpu.cpu.gpr[RV_RDI], &vma) || !vma.file) return;
    if (!rv_linux_path(m->g->kernel, &m->kernel, vma.file, path, sizeof path)) return;
    n->v[0] = vma.start;
    n->v[1] = vma.end;
    n->v[2] = vma.offset;
    n->v[3] = vma.prot;
    n->flag = vma.shared;
    n->text = rv_arena_copy(m->notes->arena, path, strlen(path));
}

static void on_trap(struct moment *m, struct rv_note *n, const struct rv_watch_hit *hit) {
    const struct rv_x86 *x = &m->cpu.cpu;
    n->at = hit->after.icount;
    n->delivered = hit->after.delivered;
    n->vector = hit->vector;
    n->error = hit->has_error ? hit->error : 0;
    n->trap = hit->delivery == RV_DELIVER_SOFT        ? RV_TRAP_SOFT
              : hit->delivery == RV_DELIVER_EXCEPTION ? RV_TRAP_EXCEPTION
              : hit->vector == RV_VEC_NMI             ? RV_TRAP_NMI
                                                      : RV_TRAP_INTERRUPT;
    n->v[0] = hit->rip;
    if (n->trap == RV_TRAP_EXCEPTION && n->vector == RV_VEC_PF) n->v[1] = x->cr2;
    /* In 64-bit mode the delivery has pushed CS of what it interrupted (SDM 3A, 6.14.2). */
    uint64_t cs = 0;
    if (rv_view_u64(&m->cpu, x->gpr[RV_RSP] + 8 + (hit->has_error ? 8 : 0), &cs))
        n->user = (cs & 3) == 3;
}

static bool on_hit(void *ctx, void *state, struct rv_machine *machine,
                   const struct rv_watch_hit *hit) {
    const struct gather *g = ctx;
    struct moment m = {.g = g, .notes = state};
    enum rv_note_kind kind = RV_NOTE_TRAP;
    if (hit->access == RV_WATCH_EXEC) {
        size_t i = 0;
        while (i < g->n && g->address[i] != hit->gva) i++;
        if (i == g->n) return false;
        kind = g->kind[i];
    }
    rv_view_of(&m.cpu, machine);
    m.known = g->kernel && rv_linux_view(g->kernel, machine, &m.kernel);
    if (!m.known && kind != RV_NOTE_TRAP) return false;
    struct rv_note *n = add(&m, kind, hit, rv_machine_now(machine).time);
    switch (kind) {
    case RV_NOTE_ENTER:
    case RV_NOTE_ENTER32: on_enter(&m, n); break;
    case RV_NOTE_EXIT: on_exit_call(&m, n); break;
    case RV_NOTE_SWITCH:
        if (!rv_linux_task(g->kernel, &m.kernel, m.cpu.cpu.gpr[RV_RSI], &n->who)) m.notes->n--;
        break;
    case RV_NOTE_FORK:
        if (!rv_linux_task(g->kernel, &m.kernel, m.cpu.cpu.gpr[RV_RDI], &n->who)) m.notes->n--;
        break;
    case RV_NOTE_EXEC: on_exec(&m, n); break;
    case RV_NOTE_LAST: n->v[0] = m.cpu.cpu.gpr[RV_RDI]; break;
    case RV_NOTE_MAP:
        on_map(&m, n);
        if (!n->text) m.notes->n--;
        break;
    case RV_NOTE_TRAP: on_trap(&m, n, hit); break;
    default: break;
    }
    return false;
}

/* ---- the pass ---- */

static int on_begin(void *ctx, void **state, struct rv_machine *m, const struct rv_piece *piece,
                    struct rv_err *err) {
    struct rv_notes *s = rv_alloc(sizeof *s);
    (void)ctx, (void)m, (void)piece, (void)err;
    s->arena = rv_arena_new();
    *state = s;
    return 0;
}

static void on_drop(void *ctx, void *state) {
    struct rv_notes *s = state;
    (void)ctx;
    if (!s) return;
    rv_arena_free(s->arena);
    free(s->note);
    free(s);
}

static int on_merge(void *ctx, void *state, const struct rv_piece *piece, struct rv_err *err) {
    struct gather *g = ctx;
    (void)piece, (void)err;
    rv_merge_add(g->merge, state);
    on_drop(ctx, state);
    return 0;
}

static bool on_progress(void *ctx, rv_icount done, rv_icount total) {
    struct gather *g = ctx;
    if (g->config->progress) g->config->progress(g->config->ctx, done, total);
    return false;
}

/* The page of RAM that a kernel address is in, as rv_sought wants it. */
static uint64_t page_of(struct gather *g, uint64_t address) {
    struct rv_view k;
    rv_gpa pa;
    struct rv_machine *m = rv_timeline_machine(g->config->timeline);
    if (!rv_linux_view(g->kernel, m, &k) || !rv_view_translate(&k, address, &pa))
        return RV_ANYWHERE;
    uint64_t offset = rv_ram_offset(k.ram, pa);
    return offset == UINT64_MAX ? RV_ANYWHERE : offset >> RV_PAGE_SHIFT;
}

static void choose_places(struct gather *g) {
    unsigned what = g->config->what;
    if (what & (RV_RUN_SYSCALLS | RV_RUN_MAPS)) what |= RV_RUN_TASKS;
    for (size_t i = 0; g->kernel && i < RV_COUNT(places); i++) {
        uint64_t at = places[i].what & what ? rv_linux_symbol(g->kernel, places[i].symbol) : 0;
        if (!at) continue;
        g->address[g->n] = at;
        g->kind[g->n] = places[i].kind;
        g->sought[g->n++] = (struct rv_sought){
            .watch = {.addr = at, .len = 1, .access = RV_WATCH_EXEC}, .page = page_of(g, at)};
    }
    if (what & RV_RUN_TRAPS)
        g->sought[g->n++] = (struct rv_sought){
            .watch = {.addr = 0, .len = 256, .access = RV_WATCH_DELIVER}, .page = RV_ANYWHERE};
    if (!g->kernel ||
        !rv_btf_member(rv_linux_btf(g->kernel), "linux_binprm", "filename", &g->filename, NULL))
        g->filename = UINT64_MAX;
}

static int pass(struct gather *g, struct rv_err *err) {
    struct rv_pass p = {.to = RV_NEVER,
                        .sought = g->sought,
                        .n = g->n,
                        .begin = on_begin,
                        .hit = on_hit,
                        .merge = on_merge,
                        .drop = on_drop,
                        .progress = on_progress,
                        .ctx = g};
    struct rv_pass_result result = {0};
    if (!g->n) return 0;
    int r = rv_pass_run(g->config->timeline, &p, &result, err);
    if (!r && result.outcome == RV_PASS_INTERRUPTED) {
        g->run->interrupted = true;
        g->run->end = result.merged;
    }
    return r;
}

/* ---- the trace ---- */

static int read_trace(struct gather *g, struct rv_err *err) {
    struct rv_guest_run *r = g->run;
    struct rv_trace_cursor *c = rv_trace_cursor_new(rv_timeline_reader(g->config->timeline));
    size_t consoles = 0, marks = 0, events = 0;
    const struct rv_trace_event *e;
    int code;
    while ((code = rv_trace_cursor_next(c, &e, err)) == 0) {
        if (e->position > r->end) break;
        RV_GROW(r->event, r->events, events);
        r->event[r->events++] = (struct rv_run_event){.at = e->position,
                                                      .time = e->time,
                                                      .kind = e->kind,
                                                      .source = e->source,
                                                      .len = (uint32_t)e->len,
                                                      .value = e->value};
        if (e->kind == RV_TRACE_EFFECT && e->source == RV_SRC_CONSOLE) {
            RV_GROW(r->console, r->consoles, consoles);
            r->console[r->consoles++] =
                (struct rv_run_console){.at = e->position,
                                        .time = e->time,
                                        .data = (uint8_t *)rv_arena_copy(r->arena, e->data, e->len),
                                        .len = (uint32_t)e->len,
                                        .task = rv_run_task_at(r, e->position)};
        } else if (e->kind == RV_TRACE_MARK) {
            RV_GROW(r->mark, r->marks, marks);
            r->mark[r->marks++] =
                (struct rv_run_mark){.at = e->position,
                                     .time = e->time,
                                     .name = rv_arena_copy(r->arena, e->data, e->len)};
        }
    }
    rv_trace_cursor_free(c);
    return code == RV_E_END ? 0 : code;
}

/* ---- all ---- */

static int recognise(struct gather *g, struct rv_err *err) {
    struct rv_err why = {0};
    int r = rv_linux_find_in(&g->kernel, g->config->timeline, &why);
    if (r && r != RV_E_FORMAT) {
        if (err) *err = why;
        return r;
    }
    if (r) {
        g->run->system_note = rv_arena_copy(g->run->arena, why.msg, strlen(why.msg));
        return 0;
    }
    const char *version = rv_linux_version(g->kernel), *how = rv_linux_how(g->kernel);
    g->run->system = rv_arena_copy(g->run->arena, version, strlen(version));
    g->run->system_note = rv_arena_copy(g->run->arena, how, strlen(how));
    return 0;
}

int rv_run_gather(struct rv_guest_run **out, const struct rv_run_config *config,
                  struct rv_err *err) {
    struct rv_timeline *t = config->timeline;
    struct gather g = {.config = config, .run = rv_alloc(sizeof *g.run)};
    struct rv_guest_run *run = g.run;
    run->arena = rv_arena_new();
    run->end = rv_timeline_end(t).icount;
    run->reason = rv_timeline_reason(t);
    run->end_time = rv_timeline_end_time(t);
    int r = 0;
    if (config->what & ~(unsigned)RV_RUN_TRACE) {
        r = recognise(&g, err);
        if (r == RV_E_INTERRUPTED) {
            run->interrupted = true;
            run->end = 0;
            r = 0;
        } else if (!r) {
            choose_places(&g);
            g.merge = rv_merge_new(run);
            r = pass(&g, err);
            if (!r) rv_merge_end(g.merge, run->end, run->end_time);
        }
    }
    if (!r && (config->what & RV_RUN_TRACE)) r = read_trace(&g, err);
    rv_merge_free(g.merge);
    rv_linux_free(g.kernel);
    if (r)
        rv_run_free(run);
    else
        *out = run;
    return r;
}

void rv_run_free(struct rv_guest_run *r) {
    if (!r) return;
    free(r->task);
    free(r->sw);
    free(r->syscall);
    free(r->trap);
    free(r->exec);
    free(r->map);
    free(r->console);
    free(r->mark);
    free(r->event);
    rv_arena_free(r->arena);
    free(r);
}

uint32_t rv_run_task_at(const struct rv_guest_run *r, rv_icount at) {
    size_t lo = 0, hi = r->switches;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->sw[mid].at <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? r->sw[lo - 1].task : RV_NONE;
}
