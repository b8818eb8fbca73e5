#include "tools/analysis/tally.h"

#include <stdlib.h>
#include <string.h>

#include "replay/pass.h"
#include "tools/analysis/arena.h"
#include "tools/analysis/programs.h"
#include "vmm/base/buf.h"

#define ADDRESS 0x000ffffffffff000ull /* of CR3: the page table root */
/* The kernel's image lies in this gigabyte, modules behind it
 * (Documentation/arch/x86/x86_64/mm.rst).
 */
#define IMAGE   0xffffffff80000000ull
#define MODULES 0xffffffffc0000000ull

/* ---- sums by key ---- */

/* What code belongs to: the symbol, or the module when there is none. */
struct code {
    const char *module;
    const struct rv_symbol *symbol;
    bool user;
};

struct sum {
    uint64_t process;
    struct code code;
    uint64_t instructions; /* 0: free */
};

struct sums {
    struct sum *v;
    size_t n, room; /* room is a power of two */
};

static struct sum *find(struct sum *v, size_t room, uint64_t process, const struct code *c) {
    uint64_t h = ((uint64_t)(uintptr_t)c->symbol ^ (uint64_t)(uintptr_t)c->module * 31 ^
                  process * 0x9e3779b1u ^ c->user) *
                 0x9e3779b97f4a7c15ull;
    size_t i = (size_t)(h >> 20) & (room - 1);
    while (v[i].instructions && !(v[i].process == process && v[i].code.symbol == c->symbol &&
                                  v[i].code.module == c->module && v[i].code.user == c->user))
        i = (i + 1) & (room - 1);
    return &v[i];
}

static void add(struct sums *s, uint64_t process, const struct code *c, uint64_t instructions) {
    if (2 * s->n >= s->room) {
        size_t room = s->room ? 2 * s->room : 4096;
        struct sum *grown = rv_alloc(room * sizeof *grown);
        for (size_t i = 0; i < s->room; i++)
            if (s->v[i].instructions) *find(grown, room, s->v[i].process, &s->v[i].code) = s->v[i];
        free(s->v);
        s->v = grown;
        s->room = room;
    }
    struct sum *k = find(s->v, s->room, process, c);
    if (!k->instructions) {
        *k = (struct sum){.process = process, .code = *c};
        s->n++;
    }
    k->instructions += instructions;
}

/* ---- code ---- */

struct codes {
    struct rv_tally_code *v; /* a hash; times 0: free */
    size_t n, room;          /* room is a power of two */
};

static struct rv_tally_code *find_code(struct rv_tally_code *v, size_t room,
                                       const struct rv_tally_code *c) {
    uint64_t h = (c->address * 8 ^ c->bytes ^ (uint64_t)c->file << 48) * 0x9e3779b97f4a7c15ull;
    size_t i = (size_t)(h >> 20) & (room - 1);
    while (v[i].times &&
           !(v[i].address == c->address && v[i].bytes == c->bytes && v[i].file == c->file))
        i = (i + 1) & (room - 1);
    return &v[i];
}

static void add_code(struct codes *s, const struct rv_tally_code *c) {
    if (2 * s->n >= s->room) {
        size_t room = s->room ? 2 * s->room : 4096;
        struct rv_tally_code *grown = rv_alloc(room * sizeof *grown);
        for (size_t i = 0; i < s->room; i++)
            if (s->v[i].times) *find_code(grown, room, &s->v[i]) = s->v[i];
        free(s->v);
        s->v = grown;
        s->room = room;
    }
    struct rv_tally_code *k = find_code(s->v, s->room, c);
    if (k->times) {
        k->times += c->times;
        return;
    }
    *k = *c;
    s->n++;
}

/* ---- one piece ---- */

struct task {
    uint32_t tid, pid;
    bool kernel;
    char comm[16];
};

struct gather {
    struct rv_tally *tally;
    const struct rv_tally_config *config;
    const struct rv_linux *kernel; /* NULL: not recognised */
    struct rv_programs *programs;
    uint64_t at_switch, at_exec, at_map; /* addresses; 0: none */
    struct sums sums;                    /* process: index + 1 */
    struct codes codes;
    size_t room; /* of tally->process */
};

struct state {
    struct task *task; /* number 0 is no task */
    size_t tasks, room;
    struct rv_mappings mappings;
    struct sums sums; /* process: number of the task */
    struct codes codes;
    const struct gather *g;
};

/* The number of a task, new or known. */
static size_t number_of(struct state *s, const struct rv_linux_task *who, bool *is_new) {
    *is_new = false;
    for (size_t i = s->tasks; i-- > 1;)
        if (s->task[i].tid == who->tid && s->task[i].pid == who->pid &&
            memcmp(s->task[i].comm, who->comm, sizeof who->comm) == 0)
            return i;
    if (s->tasks == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        s->task = rv_realloc(s->task, s->room * sizeof *s->task);
    }
    struct task *t = &s->task[s->tasks];
    *t = (struct task){.tid = who->tid, .pid = who->pid, .kernel = who->kernel};
    memcpy(t->comm, who->comm, sizeof t->comm);
    *is_new = true;
    return s->tasks++;
}

static void runs_now(struct state *s, struct rv_machine *m, const struct rv_view *k,
                     const struct rv_linux_task *who, bool other_program) {
    bool is_new;
    size_t n = number_of(s, who, &is_new);
    if (is_new || other_program) rv_mappings_all(&s->mappings, s->g->programs, k, who, n);
    struct rv_engine *e = rv_machine_engine(m);
    e->ops->count_as(e, n);
}

static int on_begin(void *ctx, void **state, struct rv_machine *m, const struct rv_piece *piece,
                    struct rv_err *err) {
    struct gather *g = ctx;
    struct state *s = rv_alloc(sizeof *s);
    (void)piece, (void)err;
    *state = s;
    s->g = g;
    s->room = 64;
    s->task = rv_alloc(s->room * sizeof *s->task);
    s->tasks = 1;
    struct rv_view k;
    struct rv_linux_task who;
    if (g->kernel && rv_linux_view(g->kernel, m, &k) &&
        rv_linux_task(g->kernel, &k, rv_linux_current(g->kernel, &k), &who))
        runs_now(s, m, &k, &who, false);
    return 0;
}

static bool on_hit(void *ctx, void *state, struct rv_machine *m, const struct rv_watch_hit *hit) {
    const struct gather *g = ctx;
    struct rv_view cpu, k;
    struct rv_linux_task who;
    rv_view_of(&cpu, m);
    if (!rv_linux_view(g->kernel, m, &k)) return false;
    bool switches = hit->gva == g->at_switch;
    uint64_t task = switches ? cpu.cpu.gpr[RV_RSI] : rv_linux_current(g->kernel, &k);
    if (!rv_linux_task(g->kernel, &k, task, &who)) return false;
    if (hit->gva == g->at_map) {
        struct state *s = state;
        bool is_new;
        size_t n = number_of(s, &who, &is_new);
        rv_mappings_add(&s->mappings, g->programs, &k, &who, n, cpu.cpu.gpr[RV_RDI]);
    } else {
        runs_now(state, m, &k, &who, !switches);
    }
    return false;
}

/* Takes note that code ran which belongs to a file of the user's, if it does. */
static void note_code(struct state *s, uint32_t file, uint64_t address, const struct rv_count *c) {
    if (!s->g->config->code) return;
    struct rv_tally_code code = {
        .file = file, .address = address, .bytes = c->bytes, .times = c->times};
    add_code(&s->codes, &code);
}

static struct code kernel_code(struct state *s, const struct rv_count *c) {
    const struct gather *g = s->g;
    if (g->kernel && c->va >= IMAGE && c->va < MODULES) {
        note_code(s, RV_TALLY_KERNEL, c->va, c);
        return (struct code){.module = "[kernel]",
                             .symbol = rv_symbols_at(rv_linux_symbols(g->kernel), c->va)};
    }
    for (unsigned i = 0; i < rv_guest_files(g->config->guest); i++) {
        struct rv_guest_file f = rv_guest_file(g->config->guest, i);
        const struct rv_symbol *y = rv_symbols_at(f.prog->symbols, c->va - f.bias);
        if (!y || (!f.placed && g->kernel)) continue;
        note_code(s, i, c->va - f.bias, c);
        return (struct code){.module = f.path, .symbol = y};
    }
    if (!g->kernel) return (struct code){.module = "[guest]"};
    return (struct code){.module = c->va >= MODULES ? "[module]" : "[boot]"};
}

static struct code user_code(struct state *s, const struct rv_count *c) {
    uint64_t address;
    if (!s->g->kernel) {
        struct code k = kernel_code(s, c);
        k.user = true;
        return k;
    }
    const struct rv_mapping *m = rv_mappings_at(&s->mappings, c->cr3 & ADDRESS, c->tag, c->va);
    if (!m) return (struct code){.module = "[anonymous]", .user = true};
    struct code code = {.module = m->program->path,
                        .symbol = rv_mapping_function(m, c->va, &address),
                        .user = true};
    for (unsigned i = 0; i < rv_guest_files(s->g->config->guest); i++)
        if (rv_guest_file(s->g->config->guest, i).prog == m->program->prog)
            note_code(s, i, address, c);
    return code;
}

static void on_count(void *ctx, const struct rv_count *c) {
    struct state *s = ctx;
    struct code code = c->user ? user_code(s, c) : kernel_code(s, c);
    add(&s->sums, c->tag, &code, (uint64_t)c->insns * c->times);
}

static int on_end(void *ctx, void *state, struct rv_machine *m, struct rv_err *err) {
    (void)ctx, (void)err;
    struct rv_engine *e = rv_machine_engine(m);
    e->ops->counted(e, on_count, state);
    return 0;
}

static void on_drop(void *ctx, void *state) {
    struct state *s = state;
    (void)ctx;
    if (!s) return;
    rv_mappings_release(&s->mappings);
    free(s->task);
    free(s->sums.v);
    free(s->codes.v);
    free(s);
}

/* ---- all pieces ---- */

static uint64_t process_of(struct gather *g, const struct task *t, bool any) {
    struct rv_tally *y = g->tally;
    char name[17] = "(no process)";
    if (any) memcpy(name, t->comm, 16), name[16] = 0;
    const char *comm = rv_arena_intern(y->arena, name);
    for (size_t i = y->processes; i-- > 0;)
        if (y->process[i].pid == t->pid && y->process[i].comm == comm) return i + 1;
    if (y->processes == g->room) {
        g->room = g->room ? 2 * g->room : 64;
        y->process = rv_realloc(y->process, g->room * sizeof *y->process);
    }
    y->process[y->processes++] =
        (struct rv_tally_process){.pid = t->pid, .comm = comm, .kernel = t->kernel};
    return y->processes;
}

static int on_merge(void *ctx, void *state, const struct rv_piece *piece, struct rv_err *err) {
    struct gather *g = ctx;
    struct state *s = state;
    (void)piece, (void)err;
    uint64_t *process = rv_alloc(s->tasks * sizeof *process);
    for (size_t i = 0; i < s->sums.room; i++) {
        const struct sum *k = &s->sums.v[i];
        if (!k->instructions) continue;
        uint64_t *p = &process[k->process];
        if (!*p) *p = process_of(g, &s->task[k->process], k->process != 0);
        add(&g->sums, *p, &k->code, k->instructions);
    }
    for (size_t i = 0; i < s->codes.room; i++)
        if (s->codes.v[i].times) add_code(&g->codes, &s->codes.v[i]);
    free(process);
    on_drop(ctx, s);
    return 0;
}

static bool on_progress(void *ctx, rv_icount done, rv_icount total) {
    struct gather *g = ctx;
    if (g->config->progress) g->config->progress(g->config->ctx, done, total);
    return false;
}

static size_t places(struct gather *g, struct rv_sought *sought) {
    static const char *const names[] = {"__switch_to", "finalize_exec", "perf_event_mmap"};
    uint64_t *const at[] = {&g->at_switch, &g->at_exec, &g->at_map};
    size_t n = 0;
    for (size_t i = 0; g->kernel && i < RV_COUNT(names); i++) {
        *at[i] = rv_linux_symbol(g->kernel, names[i]);
        if (*at[i])
            sought[n++] = (struct rv_sought){{.addr = *at[i], .len = 1, .access = RV_WATCH_EXEC},
                                             RV_ANYWHERE};
    }
    return n;
}

static int pass(struct gather *g, struct rv_err *err) {
    struct rv_sought sought[3];
    struct rv_pass p = {.from = g->config->from,
                        .to = g->config->to,
                        .sought = sought,
                        .n = places(g, sought),
                        .whole = true,
                        .count = true,
                        .begin = on_begin,
                        .hit = on_hit,
                        .end = on_end,
                        .merge = on_merge,
                        .drop = on_drop,
                        .progress = on_progress,
                        .ctx = g};
    struct rv_pass_result result = {0};
    int r = rv_pass_run(g->config->timeline, &p, &result, err);
    g->tally->upto = result.merged;
    g->tally->interrupted = result.outcome == RV_PASS_INTERRUPTED;
    return r;
}

/* ---- the result ---- */

static int by_code(const void *pa, const void *pb) {
    const struct sum *a = pa, *b = pb;
    if (a->code.symbol != b->code.symbol) return a->code.symbol < b->code.symbol ? -1 : 1;
    if (a->code.user != b->code.user) return a->code.user - b->code.user;
    if (a->code.module != b->code.module) return a->code.module < b->code.module ? -1 : 1;
    return a->process < b->process ? -1 : a->process > b->process;
}

static int most_first(uint64_t a, uint64_t b) { return a > b ? -1 : a < b; }

static int by_text(const char *a, const char *b) { return strcmp(a ? a : "", b ? b : ""); }

static int by_process_size(const void *pa, const void *pb, void *ctx) {
    const struct rv_tally_process *p = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    int d = most_first(p[a].instructions, p[b].instructions);
    /* Their numbers depend on which part of the recording was counted first. */
    if (!d) d = p[a].pid < p[b].pid ? -1 : p[a].pid > p[b].pid;
    if (!d) d = by_text(p[a].comm, p[b].comm);
    return d ? d : a < b ? -1 : a > b;
}

static int by_function_size(const void *pa, const void *pb, void *ctx) {
    const struct rv_tally_function *f = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    int d = most_first(f[a].instructions, f[b].instructions);
    if (!d) d = by_text(f[a].module, f[b].module);
    if (!d) d = by_text(f[a].name, f[b].name);
    return d ? d : f[a].address < f[b].address ? -1 : f[a].address > f[b].address;
}

static int by_entry_size(const void *pa, const void *pb) {
    const struct rv_tally_entry *a = pa, *b = pb;
    int d = most_first(a->instructions, b->instructions);
    if (!d) d = a->process < b->process ? -1 : a->process > b->process;
    return d ? d : a->function < b->function ? -1 : a->function > b->function;
}

/* Puts n elements of an array into an order; *place says where each went. */
static void *reorder(const void *array, size_t n, size_t size, const uint32_t *order,
                     uint32_t *place) {
    char *sorted = rv_alloc((n + 1) * size);
    for (size_t i = 0; i < n; i++) {
        memcpy(sorted + i * size, (const char *)array + order[i] * size, size);
        place[order[i]] = (uint32_t)i;
    }
    return sorted;
}

static uint32_t *counting_up(size_t n) {
    uint32_t *v = rv_alloc((n + 1) * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = (uint32_t)i;
    return v;
}

static void sort_all(struct rv_tally *y) {
    uint32_t *process = counting_up(y->processes), *function = counting_up(y->functions);
    uint32_t *p_at = rv_alloc((y->processes + 1) * sizeof *p_at);
    uint32_t *f_at = rv_alloc((y->functions + 1) * sizeof *f_at);
    if (y->processes) qsort_r(process, y->processes, sizeof *process, by_process_size, y->process);
    if (y->functions)
        qsort_r(function, y->functions, sizeof *function, by_function_size, y->function);
    void *old = y->process;
    y->process = reorder(old, y->processes, sizeof *y->process, process, p_at);
    free(old);
    old = y->function;
    y->function = reorder(old, y->functions, sizeof *y->function, function, f_at);
    free(old);
    for (size_t i = 0; i < y->entries; i++) {
        y->entry[i].process = p_at[y->entry[i].process];
        y->entry[i].function = f_at[y->entry[i].function];
    }
    if (y->entries) qsort(y->entry, y->entries, sizeof *y->entry, by_entry_size);
    free(process);
    free(function);
    free(p_at);
    free(f_at);
}

static void put_function(struct rv_tally *y, const struct code *c) {
    struct rv_tally_function *f = &y->function[y->functions++];
    *f =
        (struct rv_tally_function){.module = rv_arena_intern(y->arena, c->module), .user = c->user};
    if (!c->symbol) return;
    f->name = rv_arena_intern(y->arena, c->symbol->name);
    f->address = c->symbol->addr;
}

static int by_address(const void *pa, const void *pb) {
    const struct rv_tally_code *a = pa, *b = pb;
    if (a->file != b->file) return a->file < b->file ? -1 : 1;
    if (a->address != b->address) return a->address < b->address ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

static void finish_code(struct gather *g) {
    struct rv_tally *y = g->tally;
    y->code = g->codes.v;
    for (size_t i = 0; i < g->codes.room; i++)
        if (y->code[i].times) y->code[y->codes++] = y->code[i];
    if (y->codes) qsort(y->code, y->codes, sizeof *y->code, by_address);
}

static void finish(struct gather *g) {
    struct rv_tally *y = g->tally;
    size_t n = 0;
    for (size_t i = 0; i < g->sums.room; i++)
        if (g->sums.v[i].instructions) g->sums.v[n++] = g->sums.v[i];
    if (n) qsort(g->sums.v, n, sizeof *g->sums.v, by_code);
    y->function = rv_alloc((n + 1) * sizeof *y->function);
    y->entry = rv_alloc((n + 1) * sizeof *y->entry);
    for (size_t i = 0; i < n; i++) {
        const struct sum *k = &g->sums.v[i], *before = k - 1;
        if (!i || k->code.symbol != before->code.symbol || k->code.user != before->code.user ||
            k->code.module != before->code.module)
            put_function(y, &k->code);
        y->function[y->functions - 1].instructions += k->instructions;
        y->process[k->process - 1].instructions += k->instructions;
        y->total += k->instructions;
        y->entry[y->entries++] = (struct rv_tally_entry){.process = (uint32_t)k->process - 1,
                                                         .function = (uint32_t)y->functions - 1,
                                                         .instructions = k->instructions};
    }
    sort_all(y);
}

int rv_tally_gather(struct rv_tally **out, const struct rv_tally_config *config,
                    struct rv_err *err) {
    struct gather g = {.tally = rv_alloc(sizeof *g.tally),
                       .config = config,
                       .kernel = rv_guest_linux(config->guest)};
    g.tally->arena = rv_arena_new();
    if (g.kernel) g.programs = rv_programs_new(config->guest);
    int r = pass(&g, err);
    finish_code(&g);
    if (!r) finish(&g);
    free(g.sums.v);
    rv_programs_free(g.programs);
    if (r) {
        rv_tally_free(g.tally);
        return r;
    }
    *out = g.tally;
    return 0;
}

void rv_tally_free(struct rv_tally *t) {
    if (!t) return;
    free(t->process);
    free(t->function);
    free(t->entry);
    free(t->code);
    rv_arena_free(t->arena);
    free(t);
}
