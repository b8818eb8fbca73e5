#include "tools/analysis/calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay/pass.h"
#include "tools/analysis/arena.h"
#include "tools/analysis/programs.h"
#include "vmm/base/buf.h"

#define ADDRESS    0x000ffffffffff000ull /* of CR3: the page table root */
#define IMAGE      0xffffffff80000000ull /* the kernel's image, and behind it its modules */
#define MODULES    0xffffffffc0000000ull
#define USER_END   (1ull << 47)
#define DEPTH      1024
#define NODES_MAX  (4u << 20)
#define SAME_STACK (64u << 10) /* stack pointers further apart belong to different stacks */
#define KNOWN      (1u << 16)  /* places whose function is remembered */

/* A function: names are interned, so equal functions have equal pointers. */
struct function {
    const char *name, *module;
};

struct frame {
    uint32_t node;
    bool entry; /* the kernel was entered here: by SYSCALL, an interrupt or an exception */
    uint64_t sp;
};

/* A thread: its stack, the outermost frame first. */
struct thread {
    uint64_t task; /* address of its task_struct; 0: no task */
    uint32_t tid, pid;
    uint32_t node;        /* of its process */
    char comm[16];        /* as it was last */
    size_t depth, beyond; /* beyond: frames that there was no room for */
    struct frame frame[DEPTH];
};

struct known {
    uint64_t va, root;
    struct function f;
};

struct gather {
    struct rv_calls *calls;
    const struct rv_calls_config *config;
    const struct rv_linux *kernel;
    struct rv_programs *programs;
    struct rv_mappings mappings;
    uint64_t at_switch, at_exec, at_map;
    struct thread **thread;
    size_t threads;
    struct thread *now;
    rv_icount last; /* up to here everything is attributed */
    rv_ns last_time;
    struct known *known;
    uint32_t *hash; /* of nodes, by caller and function */
    uint32_t hash_size, room;
    uint32_t *chain;
};

/* ---- nodes ---- */

static uint32_t slot(const struct gather *g, uint32_t in, const struct function *f) {
    uint64_t h =
        ((uint64_t)(uintptr_t)f->name ^ (uint64_t)(uintptr_t)f->module * 31 ^ in * 0x9e3779b1ull) *
        0xff51afd7ed558ccdull;
    return (uint32_t)(h >> 32) & (g->hash_size - 1);
}

static void grow(struct gather *g) {
    struct rv_calls *c = g->calls;
    g->room *= 2;
    c->node = rv_realloc(c->node, g->room * sizeof *c->node);
    g->chain = rv_realloc(g->chain, g->room * sizeof *g->chain);
    free(g->hash);
    g->hash_size *= 2;
    g->hash = rv_alloc(g->hash_size * sizeof *g->hash);
    for (uint32_t i = 1; i < c->nodes; i++) {
        struct function f = {c->node[i].name, c->node[i].module};
        uint32_t *s = &g->hash[slot(g, c->node[i].in, &f)];
        g->chain[i] = *s;
        *s = i;
    }
}

static uint32_t node_of(struct gather *g, uint32_t in, const struct function *f) {
    struct rv_calls *c = g->calls;
    uint32_t i = g->hash[slot(g, in, f)];
    while (i &&
           !(c->node[i].in == in && c->node[i].name == f->name && c->node[i].module == f->module))
        i = g->chain[i];
    if (i) return i;
    if (c->nodes == NODES_MAX) {
        c->cut = true;
        return in;
    }
    if (c->nodes == g->room) grow(g);
    i = c->nodes++;
    c->node[i] = (struct rv_call_node){.in = in, .name = f->name, .module = f->module};
    uint32_t *s = &g->hash[slot(g, in, f)];
    g->chain[i] = *s;
    *s = i;
    return i;
}

/* ---- functions ---- */

static struct function find_function(struct gather *g, uint64_t va, uint64_t root) {
    const struct rv_guest *guest = g->config->guest;
    const struct rv_symbol *y = NULL;
    const char *module = g->kernel ? va >= MODULES ? "[module]" : "[boot]" : "[guest]";
    if (g->kernel && va >= IMAGE && va < MODULES) {
        module = "[kernel]";
        y = rv_symbols_at(rv_linux_symbols(g->kernel), va);
    } else if (g->kernel && va < USER_END) {
        const struct rv_mapping *m = rv_mappings_at(&g->mappings, root, 0, va);
        uint64_t address;
        if (m) y = rv_mapping_function(m, va, &address);
        if (m) module = m->program->path;
    }
    for (unsigned i = 0; !y && i < rv_guest_files(guest); i++) {
        struct rv_guest_file f = rv_guest_file(guest, i);
        if (!f.placed && g->kernel) continue;
        y = rv_symbols_at(f.prog->symbols, va - f.bias);
        if (y) module = f.path;
    }
    return (struct function){.name = rv_arena_intern(g->calls->arena, y ? y->name : "?"),
                             .module = rv_arena_intern(g->calls->arena, module)};
}

static struct function function_at(struct gather *g, uint64_t va, uint64_t cr3) {
    uint64_t root = va < USER_END ? cr3 & ADDRESS : 0;
    struct known *k = &g->known[((va ^ va >> 16 ^ root >> 12) * 0x9e3779b1u >> 8) % KNOWN];
    if (!k->f.name || k->va != va || k->root != root)
        *k = (struct known){.va = va, .root = root, .f = find_function(g, va, root)};
    return k->f;
}

/* Mappings changed: what is known of programs may not be so. */
static void forget(struct gather *g) { memset(g->known, 0, KNOWN * sizeof *g->known); }

/* ---- stacks ---- */

static uint32_t top(const struct gather *g) {
    const struct thread *t = g->now;
    return t->depth ? t->frame[t->depth - 1].node : t->node;
}

/* What ran since the last time belongs to the function on top. */
static void attribute(struct gather *g, struct rv_machine *m, rv_icount now) {
    rv_ns time = rv_machine_now(m).time;
    if (!g->config->pid || g->now->pid == g->config->pid) {
        struct rv_call_node *n = &g->calls->node[top(g)];
        n->own += now - g->last;
        n->own_time += time - g->last_time;
    }
    g->last = now;
    g->last_time = time;
}

static void push(struct gather *g, const struct function *f, uint64_t sp, bool entry, bool called) {
    struct thread *t = g->now;
    if (t->depth == DEPTH) {
        t->beyond++;
        g->calls->cut = true;
        return;
    }
    uint32_t node = node_of(g, top(g), f);
    t->frame[t->depth++] = (struct frame){.node = node, .sp = sp, .entry = entry};
    if (called && (!g->config->pid || t->pid == g->config->pid)) g->calls->node[node].calls++;
}

/* The frames that a RET to stack pointer sp ends: up to the one that it returns from. */
static void pop_return(struct thread *t, uint64_t sp) {
    if (t->beyond) {
        t->beyond--;
        return;
    }
    for (size_t i = t->depth; i-- > 0 && !t->frame[i].entry;)
        if (t->frame[i].sp + 8 == sp) {
            t->depth = i;
            return;
        }
    /* A stack that was unwound, or a RET that pops more. */
    while (t->depth && !t->frame[t->depth - 1].entry && t->frame[t->depth - 1].sp < sp &&
           sp - t->frame[t->depth - 1].sp < SAME_STACK)
        t->depth--;
}

static void pop_entry(struct thread *t) {
    t->beyond = 0;
    for (size_t i = t->depth; i-- > 0;)
        if (t->frame[i].entry) {
            t->depth = i;
            return;
        }
}

/* The function that now runs must be the one on top: it is not when it was jumped to. */
static void settle(struct gather *g, const struct function *f) {
    struct thread *t = g->now;
    if (t->beyond) return;
    if (!t->depth) {
        push(g, f, UINT64_MAX, false, false);
        return;
    }
    struct frame *x = &t->frame[t->depth - 1];
    const struct rv_call_node *n = &g->calls->node[x->node];
    if (n->name == f->name && n->module == f->module) return;
    x->node = node_of(g, n->in, f);
}

/* ---- threads ---- */

static const char *process_name(struct gather *g, const char *comm, uint32_t pid) {
    char name[48];
    snprintf(name, sizeof name, "%.16s (%u)", comm, pid);
    return rv_arena_intern(g->calls->arena, name);
}

static uint32_t process_node(struct gather *g, const struct rv_linux_task *who) {
    struct function f = {.name = who ? process_name(g, who->comm, who->pid)
                                     : rv_arena_intern(g->calls->arena, "(no process)"),
                         .module = rv_arena_intern(g->calls->arena, "")};
    return node_of(g, 0, &f);
}

/* A thread is named after it was made: at the end it is shown by its last name. */
static void name_threads(struct gather *g) {
    for (size_t i = 0; i < g->threads; i++) {
        const struct thread *t = g->thread[i];
        if (t->task && *t->comm && t->tid == t->pid)
            g->calls->node[t->node].name = process_name(g, t->comm, t->pid);
    }
}

static struct thread *thread_of(struct gather *g, const struct rv_linux_task *who, bool *is_new) {
    *is_new = false;
    for (size_t i = 0; i < g->threads; i++) {
        struct thread *t = g->thread[i];
        if (who ? t->task == who->task : !t->task) {
            /* The same memory, another task. */
            if (who && t->tid != who->tid) {
                *is_new = true;
                t->depth = t->beyond = 0;
                t->tid = who->tid;
                t->pid = who->pid;
                t->node = process_node(g, who);
            }
            return t;
        }
    }
    *is_new = true;
    struct thread *t = rv_alloc(sizeof *t);
    if (who) {
        t->task = who->task;
        t->tid = who->tid;
        t->pid = who->pid;
    }
    t->node = process_node(g, who);
    g->thread = rv_realloc(g->thread, (g->threads + 1) * sizeof *g->thread);
    return g->thread[g->threads++] = t;
}

static void switch_to(struct gather *g, const struct rv_view *k, const struct rv_linux_task *who) {
    bool is_new;
    g->now = thread_of(g, who, &is_new);
    memcpy(g->now->comm, who->comm, sizeof g->now->comm);
    if (is_new) {
        rv_mappings_all(&g->mappings, g->programs, k, who, 0);
        forget(g);
    }
}

/* Another program: what the old one had called is gone. */
static void exec(struct gather *g, const struct rv_view *k, const struct rv_linux_task *who) {
    bool is_new;
    struct thread *t = g->now = thread_of(g, who, &is_new);
    size_t entry = 0;
    while (entry < t->depth && !t->frame[entry].entry) entry++;
    uint32_t in = t->node = process_node(g, who);
    size_t kept = 0;
    for (size_t i = entry; i < t->depth; i++) {
        struct frame x = t->frame[i];
        const struct rv_call_node *n = &g->calls->node[x.node];
        struct function f = {n->name, n->module};
        x.node = in = node_of(g, in, &f);
        t->frame[kept++] = x;
    }
    t->depth = kept;
    rv_mappings_all(&g->mappings, g->programs, k, who, 0);
    forget(g);
}

/* ---- hits ---- */

static void on_place(struct gather *g, struct rv_machine *m, const struct rv_watch_hit *hit) {
    struct rv_view cpu, k;
    struct rv_linux_task who;
    rv_view_of(&cpu, m);
    if (!rv_linux_view(g->kernel, m, &k)) return;
    bool switches = hit->gva == g->at_switch;
    uint64_t task = switches ? cpu.cpu.gpr[RV_RSI] : rv_linux_current(g->kernel, &k);
    if (!rv_linux_task(g->kernel, &k, task, &who)) return;
    if (switches) {
        attribute(g, m, hit->before.icount);
        switch_to(g, &k, &who);
    } else if (hit->gva == g->at_exec) {
        attribute(g, m, hit->before.icount);
        exec(g, &k, &who);
    } else {
        rv_mappings_add(&g->mappings, g->programs, &k, &who, 0, cpu.cpu.gpr[RV_RDI]);
        forget(g);
    }
}

static bool on_hit(void *ctx, void *state, struct rv_machine *m, const struct rv_watch_hit *hit) {
    struct gather *g = ctx;
    struct rv_x86 x;
    (void)state;
    if (hit->access == RV_WATCH_EXEC) {
        on_place(g, m, hit);
        return false;
    }
    rv_machine_engine(m)->ops->get(rv_machine_engine(m), &x);
    if (hit->access == RV_WATCH_DELIVER) {
        attribute(g, m, hit->after.icount);
        struct function f = function_at(g, x.seg[RV_CS].base + x.rip, x.cr3);
        push(g, &f, x.gpr[RV_RSP], true, true);
        return false;
    }
    attribute(g, m, hit->after.icount);
    struct function f = function_at(g, hit->gva, x.cr3);
    if (hit->access == RV_WATCH_CALL) {
        if (!g->now->depth) {
            struct function caller = function_at(g, hit->rip, x.cr3);
            push(g, &caller, UINT64_MAX, false, false);
        }
        push(g, &f, x.gpr[RV_RSP], hit->far, true);
        return false;
    }
    if (hit->far)
        pop_entry(g->now);
    else
        pop_return(g->now, x.gpr[RV_RSP]);
    settle(g, &f);
    return false;
}

/* ---- the pass ---- */

static int on_begin(void *ctx, void **state, struct rv_machine *m, const struct rv_piece *piece,
                    struct rv_err *err) {
    struct gather *g = ctx;
    (void)state, (void)err;
    if (g->now) return 0;
    struct rv_view k;
    struct rv_linux_task who;
    bool up = g->kernel && rv_linux_view(g->kernel, m, &k) &&
              rv_linux_task(g->kernel, &k, rv_linux_current(g->kernel, &k), &who);
    bool is_new;
    g->now = thread_of(g, up ? &who : NULL, &is_new);
    if (up) rv_mappings_all(&g->mappings, g->programs, &k, &who, 0);
    g->last = piece->from;
    g->last_time = rv_machine_now(m).time;
    return 0;
}

static int on_end(void *ctx, void *state, struct rv_machine *m, struct rv_err *err) {
    (void)state, (void)err;
    attribute(ctx, m, rv_machine_now(m).icount);
    return 0;
}

static bool on_progress(void *ctx, rv_icount done, rv_icount total) {
    const struct gather *g = ctx;
    if (g->config->progress) g->config->progress(g->config->ctx, done, total);
    return false;
}

static size_t points(struct gather *g, struct rv_sought *sought) {
    static const char *const names[] = {"__switch_to", "finalize_exec", "perf_event_mmap"};
    uint64_t *const at[] = {&g->at_switch, &g->at_exec, &g->at_map};
    static const struct rv_watchpoint flow[] = {
        {.len = 1, .access = RV_WATCH_CALL},
        {.len = 1, .access = RV_WATCH_RETURN},
        {.addr = 0, .len = 256, .access = RV_WATCH_DELIVER},
    };
    size_t n = 0;
    for (size_t i = 0; i < RV_COUNT(flow); i++)
        sought[n++] = (struct rv_sought){flow[i], RV_ANYWHERE};
    for (size_t i = 0; g->kernel && i < RV_COUNT(names); i++) {
        *at[i] = rv_linux_symbol(g->kernel, names[i]);
        if (*at[i])
            sought[n++] = (struct rv_sought){{.addr = *at[i], .len = 1, .access = RV_WATCH_EXEC},
                                             RV_ANYWHERE};
    }
    return n;
}

/* ---- the result ---- */

static int by_size(const void *pa, const void *pb, void *ctx) {
    const struct rv_call_node *n = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    if (n[a].all != n[b].all) return n[a].all > n[b].all ? -1 : 1;
    int d = strcmp(n[a].name, n[b].name);
    return d ? d : strcmp(n[a].module, n[b].module);
}

/* Sums; a node's number is above its caller's. Children by size. */
static void finish(struct rv_calls *c) {
    uint32_t *order = rv_alloc(c->nodes * sizeof *order);
    for (uint32_t i = 0; i < c->nodes; i++) {
        order[i] = i;
        c->node[i].all = c->node[i].own;
        c->node[i].time = c->node[i].own_time;
    }
    for (uint32_t i = c->nodes; i-- > 1;) {
        struct rv_call_node *in = &c->node[c->node[i].in];
        in->all += c->node[i].all;
        in->time += c->node[i].time;
    }
    qsort_r(order + 1, c->nodes - 1, sizeof *order, by_size, c->node);
    for (uint32_t k = c->nodes; k-- > 1;) {
        struct rv_call_node *x = &c->node[order[k]];
        if (!x->all && !x->calls) continue;
        x->next = c->node[x->in].first;
        c->node[x->in].first = order[k];
    }
    free(order);
}

int rv_calls_gather(struct rv_calls **out, const struct rv_calls_config *config,
                    struct rv_err *err) {
    struct gather g = {.calls = rv_alloc(sizeof *g.calls),
                       .config = config,
                       .kernel = rv_guest_linux(config->guest),
                       .room = 4096,
                       .hash_size = 8192};
    struct rv_calls *c = g.calls;
    c->arena = rv_arena_new();
    c->from = config->from;
    c->node = rv_alloc(g.room * sizeof *c->node);
    c->node[0] = (struct rv_call_node){.name = "all", .module = ""};
    c->nodes = 1;
    g.chain = rv_alloc(g.room * sizeof *g.chain);
    g.hash = rv_alloc(g.hash_size * sizeof *g.hash);
    g.known = rv_alloc(KNOWN * sizeof *g.known);
    if (g.kernel) g.programs = rv_programs_new(config->guest);
    struct rv_sought sought[6];
    struct rv_pass p = {.from = config->from,
                        .to = config->to,
                        .sought = sought,
                        .n = points(&g, sought),
                        .in_order = true,
                        .begin = on_begin,
                        .hit = on_hit,
                        .end = on_end,
                        .progress = on_progress,
                        .ctx = &g};
    struct rv_pass_result result = {0};
    int r = rv_pass_run(config->timeline, &p, &result, err);
    c->interrupted = result.outcome == RV_PASS_INTERRUPTED;
    c->upto = g.last;
    name_threads(&g);
    finish(c);
    for (size_t i = 0; i < g.threads; i++) free(g.thread[i]);
    free(g.thread);
    free(g.chain);
    free(g.hash);
    free(g.known);
    rv_mappings_release(&g.mappings);
    rv_programs_free(g.programs);
    if (r) {
        rv_calls_free(c);
        return r;
    }
    *out = c;
    return 0;
}

void rv_calls_free(struct rv_calls *c) {
    if (!c) return;
    free(c->node);
    rv_arena_free(c->arena);
    free(c);
}
