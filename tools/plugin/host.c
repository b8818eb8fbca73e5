#include "tools/plugin/host.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "replay/pass.h"
#include "tools/plugin/plugin.h"
#include "vmm/base/buf.h"

#define FILTERS     64
#define ARGUMENTS   32
#define ENTRY       "entry_SYSCALL_64"
#define CALL_EXIT   "syscall_exit_to_user_mode"
#define REGS_AX     80 /* of struct pt_regs (asm/ptrace.h): RAX, and the number */
#define REGS_NUMBER 120

struct retrovisor_host {
    const struct rv_guest *guest;
    struct retrovisor_filter filter[FILTERS];
    unsigned filters;
    char message[400];           /* what fail() was told */
    uint64_t at_call, at_return; /* addresses; 0: none */
};

struct retro_plugin {
    char *text;
    void *library;
    const struct retrovisor_plugin *plugin;
    struct retrovisor_argument argument[ARGUMENTS];
    size_t arguments;
    struct retrovisor_host host;
    void *self;
    const struct retro_plugin_run *run;
};

/* What retrovisor_guest points to while a plugin is called. */
struct retrovisor_guest {
    struct retrovisor_host *host;
    struct rv_machine *machine;
    struct rv_view cpu;
    bool has_cpu;
    uint32_t pid; /* UINT32_MAX: not looked for yet */
    char comm[16];
};

struct state {
    void *own; /* the plugin's */
};

/* ---- what plugins may call ---- */

static void api_fail(struct retrovisor_host *h, const char *message) {
    size_t n = strlen(message);
    if (n >= sizeof h->message) n = sizeof h->message - 1;
    memcpy(h->message, message, n);
    h->message[n] = 0;
}

static int api_show(struct retrovisor_host *h, const struct retrovisor_filter *f) {
    const char *wrong = NULL;
    if (f->size != sizeof *f)
        wrong = "a filter of another version of the interface";
    else if (f->kind < RETROVISOR_INSTRUCTION || f->kind > RETROVISOR_SYSCALL_RETURN)
        wrong = "a filter of no kind that there is";
    else if (f->first > f->last)
        wrong = "a filter whose range ends before it begins";
    else if (f->kind == RETROVISOR_MEMORY && !(f->access & (RETROVISOR_READ | RETROVISOR_WRITE)))
        wrong = "a filter of memory for neither reading nor writing";
    else if (f->process && !rv_guest_linux(h->guest))
        wrong = "a filter by process, but the guest was not recognised as a Linux";
    else if (f->process && f->kind == RETROVISOR_BLOCK)
        wrong = "a filter of blocks by process, which are told as sums";
    else if (f->kind == RETROVISOR_SYSCALL_RETURN && !h->at_return)
        wrong = "returns of system calls, but the guest was not recognised as a Linux";
    else if (h->filters == FILTERS)
        wrong = "more than 64 filters";
    if (wrong) {
        api_fail(h, wrong);
        return -1;
    }
    h->filter[h->filters++] = *f;
    return 0;
}

static const struct rv_x86 *cpu_of(struct retrovisor_guest *g) {
    if (!g->has_cpu) rv_view_of(&g->cpu, g->machine);
    g->has_cpu = true;
    return &g->cpu.cpu;
}

static uint64_t api_reg(struct retrovisor_guest *g, enum retrovisor_register r) {
    const struct rv_x86 *x = cpu_of(g);
    switch (r) {
    case RETROVISOR_RIP: return x->rip;
    case RETROVISOR_RFLAGS: return x->rflags;
    case RETROVISOR_CR0: return x->cr0;
    case RETROVISOR_CR2: return x->cr2;
    case RETROVISOR_CR3: return x->cr3;
    case RETROVISOR_CR4: return x->cr4;
    case RETROVISOR_FS_BASE: return x->seg[RV_FS].base;
    case RETROVISOR_GS_BASE: return x->seg[RV_GS].base;
    default: return (unsigned)r < RV_GPRS ? x->gpr[r] : 0;
    }
}

static size_t api_read(struct retrovisor_guest *g, uint64_t address, void *out, size_t n) {
    cpu_of(g);
    return rv_view_read(&g->cpu, address, out, n);
}

static size_t api_read_physical(struct retrovisor_guest *g, uint64_t address, void *out, size_t n) {
    return rv_ram_read(rv_machine_ram(g->machine), address, out, n) ? n : 0;
}

static uint32_t pid_of(struct retrovisor_guest *g) {
    const struct rv_linux *l = rv_guest_linux(g->host->guest);
    struct rv_view k;
    struct rv_linux_task who;
    if (g->pid != UINT32_MAX) return g->pid;
    g->pid = 0;
    if (l && rv_linux_view(l, g->machine, &k) &&
        rv_linux_task(l, &k, rv_linux_current(l, &k), &who)) {
        g->pid = who.pid;
        memcpy(g->comm, who.comm, sizeof g->comm);
    }
    return g->pid;
}

static uint32_t api_process(struct retrovisor_guest *g, char *name) {
    uint32_t pid = pid_of(g);
    if (name) memcpy(name, g->comm, sizeof g->comm);
    return pid;
}

static const char *api_symbol(struct retrovisor_guest *g, uint64_t address, uint64_t *offset) {
    const struct rv_linux *l = rv_guest_linux(g->host->guest);
    const struct rv_symbol *y = l ? rv_symbols_at(rv_linux_symbols(l), address) : NULL;
    if (!y) return NULL;
    if (offset) *offset = address - y->addr;
    return y->name;
}

static uint64_t api_find(struct retrovisor_host *h, const char *name) {
    const struct rv_linux *l = rv_guest_linux(h->guest);
    return l ? rv_linux_symbol(l, name) : 0;
}

static const struct retrovisor_api api = {
    .size = sizeof api,
    .show = api_show,
    .fail = api_fail,
    .reg = api_reg,
    .read = api_read,
    .read_physical = api_read_physical,
    .process = api_process,
    .symbol = api_symbol,
    .find = api_find,
};

/* ---- loading ---- */

static void split(struct retro_plugin *p) {
    char *at = strchr(p->text, ',');
    while (at && p->arguments < ARGUMENTS) {
        *at++ = 0;
        struct retrovisor_argument *a = &p->argument[p->arguments++];
        char *next = strchr(at, ','), *equals = strchr(at, '=');
        a->key = at;
        a->value = "";
        if (equals && (!next || equals < next)) {
            *equals = 0;
            a->value = equals + 1;
        }
        at = next;
    }
}

static int check(const struct retro_plugin *p, struct rv_err *err) {
    const struct retrovisor_plugin *x = p->plugin;
    if (!x)
        return rv_fail(err, RV_E_USAGE, "plugin %s does not want to run with this version",
                       p->text);
    if (x->version != RETROVISOR_PLUGIN_VERSION)
        return rv_fail(err, RV_E_USAGE,
                       "plugin %s was built for version %u of the interface, this is version %d; "
                       "build it anew with this Retrovisor's <retrovisor/plugin.h>",
                       p->text, x->version, RETROVISOR_PLUGIN_VERSION);
    if (x->size < sizeof *x || !x->event)
        return rv_fail(err, RV_E_USAGE,
                       "plugin %s does not describe itself in full; build it anew with "
                       "<retrovisor/plugin.h>, and give it an event function",
                       p->text);
    return 0;
}

int retro_plugin_load(struct retro_plugin **out, const char *text, struct rv_err *err) {
    struct retro_plugin *p = rv_alloc(sizeof *p);
    p->text = rv_strdup(text);
    split(p);
    p->library = dlopen(p->text, RTLD_NOW | RTLD_LOCAL);
    int r = 0;
    if (!p->library)
        r = rv_fail(err, RV_E_USAGE,
                    "cannot load plugin %s: %s; a file in this folder is named ./FILE", p->text,
                    dlerror());
    const struct retrovisor_plugin *(*entry)(uint32_t) = NULL;
    if (!r) {
        /* POSIX has it that this works, ISO C that it is not said. */
        *(void **)&entry = dlsym(p->library, "retrovisor_plugin");
        if (!entry)
            r = rv_fail(err, RV_E_USAGE,
                        "%s is no plugin: it has no function retrovisor_plugin "
                        "(<retrovisor/plugin.h>)",
                        p->text);
    }
    if (!r && entry) {
        p->plugin = entry(RETROVISOR_PLUGIN_VERSION);
        r = check(p, err);
    }
    if (r)
        retro_plugin_free(p);
    else
        *out = p;
    return r;
}

void retro_plugin_free(struct retro_plugin *p) {
    if (!p) return;
    if (p->library) dlclose(p->library);
    free(p->text);
    free(p);
}

/* ---- filters ---- */

static bool in_range(const struct retrovisor_filter *f, uint64_t value, uint64_t size) {
    return value <= f->last && value + (size ? size - 1 : 0) >= f->first;
}

static bool matches(const struct retrovisor_filter *f, const struct retrovisor_event *e,
                    struct retrovisor_guest *g) {
    if (f->kind != e->kind || (f->privilege && !(f->privilege & e->privilege))) return false;
    switch (e->kind) {
    case RETROVISOR_INSTRUCTION:
        if (!in_range(f, e->pc, 0)) return false;
        break;
    case RETROVISOR_BLOCK:
        if (!in_range(f, e->address, 0)) return false;
        break;
    case RETROVISOR_MEMORY:
        if (!(f->access & e->access) || (!f->physical && e->address == UINT64_MAX) ||
            !in_range(f, f->physical ? e->physical : e->address, e->bytes))
            return false;
        break;
    case RETROVISOR_INTERRUPT:
        if (!in_range(f, e->vector, 0)) return false;
        break;
    default:
        if (!in_range(f, e->number, 0)) return false;
    }
    return !f->process || pid_of(g) == f->process;
}

static void show(const struct retro_plugin *p, struct state *s, struct retrovisor_guest *g,
                 const struct retrovisor_event *e) {
    for (unsigned i = 0; i < p->host.filters; i++)
        if (matches(&p->host.filter[i], e, g)) {
            p->plugin->event(p->self, s->own, g, e);
            return;
        }
}

static bool wants(const struct retro_plugin *p, uint32_t kind) {
    for (unsigned i = 0; i < p->host.filters; i++)
        if (p->host.filter[i].kind == kind) return true;
    return false;
}

static bool wants_instruction(const struct retro_plugin *p, uint64_t address) {
    for (unsigned i = 0; i < p->host.filters; i++)
        if (p->host.filter[i].kind == RETROVISOR_INSTRUCTION &&
            in_range(&p->host.filter[i], address, 0))
            return true;
    return false;
}

/* What is to be watched for the filters. */
static size_t sought(const struct retro_plugin *p, struct rv_sought *out) {
    const struct retrovisor_host *h = &p->host;
    size_t n = 0;
    for (unsigned i = 0; i < h->filters; i++) {
        const struct retrovisor_filter *f = &h->filter[i];
        uint64_t len = f->last - f->first == UINT64_MAX ? UINT64_MAX : f->last - f->first + 1;
        struct rv_watchpoint w = {.addr = f->first, .len = len};
        switch (f->kind) {
        case RETROVISOR_INSTRUCTION: w.access = RV_WATCH_EXEC; break;
        case RETROVISOR_MEMORY:
            w.access = (f->access & RETROVISOR_READ ? RV_WATCH_READ : 0) |
                       (f->access & RETROVISOR_WRITE ? RV_WATCH_WRITE : 0);
            w.physical = f->physical;
            break;
        case RETROVISOR_INTERRUPT:
            w = (struct rv_watchpoint){.len = 256, .access = RV_WATCH_DELIVER};
            break;
        case RETROVISOR_SYSCALL:
        case RETROVISOR_SYSCALL_RETURN:
            w = (struct rv_watchpoint){.len = 1, .access = RV_WATCH_EXEC};
            w.addr = f->kind == RETROVISOR_SYSCALL ? h->at_call : h->at_return;
            break;
        default: continue;
        }
        if (w.access) out[n++] = (struct rv_sought){w, RV_ANYWHERE};
    }
    return n;
}

/* ---- events ---- */

static struct retrovisor_event event_of(struct retrovisor_guest *g, uint32_t kind,
                                        const struct rv_watch_hit *hit) {
    const struct rv_x86 *x = cpu_of(g);
    return (struct retrovisor_event){.size = sizeof(struct retrovisor_event),
                                     .kind = kind,
                                     .position = hit->before.icount,
                                     .time = rv_machine_now(g->machine).time,
                                     .pc = hit->rip,
                                     .privilege = rv_view_is_user(&g->cpu) ? RETROVISOR_USER
                                                                           : RETROVISOR_KERNEL,
                                     .root = x->cr3};
}

static void interrupt(struct retrovisor_guest *g, struct retrovisor_event *e,
                      const struct rv_watch_hit *hit) {
    const struct rv_x86 *x = cpu_of(g);
    e->vector = hit->vector;
    e->delivery = (uint32_t)hit->delivery;
    e->has_error = hit->has_error;
    e->error = hit->error;
    if (hit->delivery == RV_DELIVER_EXCEPTION && hit->vector == RV_VEC_PF) e->address = x->cr2;
    /* In 64-bit mode the delivery has pushed CS of what it interrupted (SDM 3A, 6.14.2). */
    uint64_t cs = 0;
    if (x->efer & RV_EFER_LMA)
        api_read(g, x->gpr[RV_RSP] + (hit->has_error ? 16 : 8), &cs, sizeof cs);
    e->privilege = (cs & 3) == 3 ? RETROVISOR_USER : RETROVISOR_KERNEL;
}

static void call(struct retrovisor_guest *g, struct retrovisor_event *e) {
    const uint64_t *r = cpu_of(g)->gpr;
    const uint64_t argument[6] = {r[RV_RDI], r[RV_RSI], r[RV_RDX], r[RV_R10], r[RV_R8], r[RV_R9]};
    e->number = r[RV_RAX];
    e->pc = r[RV_RCX];
    e->privilege = RETROVISOR_USER;
    memcpy(e->argument, argument, sizeof argument);
}

static void call_return(struct retrovisor_guest *g, struct retrovisor_event *e) {
    uint64_t regs = cpu_of(g)->gpr[RV_RDI];
    api_read(g, regs + REGS_AX, &e->result, sizeof e->result);
    api_read(g, regs + REGS_NUMBER, &e->number, sizeof e->number);
    e->privilege = RETROVISOR_USER;
}

static bool on_hit(void *ctx, void *state, struct rv_machine *m, const struct rv_watch_hit *hit) {
    struct retro_plugin *p = ctx;
    struct retrovisor_guest g = {.host = &p->host, .machine = m, .pid = UINT32_MAX};
    struct retrovisor_event e;
    if (hit->access == RV_WATCH_DELIVER) {
        e = event_of(&g, RETROVISOR_INTERRUPT, hit);
        interrupt(&g, &e, hit);
        show(p, state, &g, &e);
        return false;
    }
    if (hit->access != RV_WATCH_EXEC) {
        e = event_of(&g, RETROVISOR_MEMORY, hit);
        e.address = hit->gva;
        e.physical = hit->gpa;
        e.bytes = hit->size;
        e.access = hit->access == RV_WATCH_READ ? RETROVISOR_READ : RETROVISOR_WRITE;
        show(p, state, &g, &e);
        return false;
    }
    if (wants_instruction(p, hit->gva)) {
        e = event_of(&g, RETROVISOR_INSTRUCTION, hit);
        e.pc = hit->gva;
        e.physical = hit->gpa;
        show(p, state, &g, &e);
    }
    if (hit->gva == p->host.at_call && wants(p, RETROVISOR_SYSCALL)) {
        e = event_of(&g, RETROVISOR_SYSCALL, hit);
        call(&g, &e);
        show(p, state, &g, &e);
    }
    if (hit->gva == p->host.at_return && wants(p, RETROVISOR_SYSCALL_RETURN)) {
        e = event_of(&g, RETROVISOR_SYSCALL_RETURN, hit);
        call_return(&g, &e);
        show(p, state, &g, &e);
    }
    return false;
}

/* ---- the pass ---- */

static int on_begin(void *ctx, void **state, struct rv_machine *m, const struct rv_piece *piece,
                    struct rv_err *err) {
    struct retro_plugin *p = ctx;
    struct state *s = rv_alloc(sizeof *s);
    struct retrovisor_guest g = {.host = &p->host, .machine = m, .pid = UINT32_MAX};
    (void)err;
    *state = s;
    if (p->plugin->piece_begin) s->own = p->plugin->piece_begin(p->self, &g, piece->from);
    return 0;
}

struct blocks {
    struct retro_plugin *p;
    struct state *s;
    struct retrovisor_guest *g;
};

static void on_count(void *ctx, const struct rv_count *c) {
    const struct blocks *b = ctx;
    struct retrovisor_event e = {.size = sizeof e,
                                 .kind = RETROVISOR_BLOCK,
                                 .pc = c->va,
                                 .address = c->va,
                                 .physical = c->pa,
                                 .bytes = c->bytes,
                                 .instructions = c->insns,
                                 .times = c->times,
                                 .root = c->cr3,
                                 .privilege = c->user ? RETROVISOR_USER : RETROVISOR_KERNEL};
    show(b->p, b->s, b->g, &e);
}

static int on_end(void *ctx, void *state, struct rv_machine *m, struct rv_err *err) {
    struct retro_plugin *p = ctx;
    struct state *s = state;
    struct retrovisor_guest g = {.host = &p->host, .machine = m, .pid = UINT32_MAX};
    struct blocks b = {p, s, &g};
    struct rv_engine *e = rv_machine_engine(m);
    (void)err;
    if (wants(p, RETROVISOR_BLOCK)) e->ops->counted(e, on_count, &b);
    if (p->plugin->piece_end) p->plugin->piece_end(p->self, s->own, &g, rv_machine_now(m).icount);
    return 0;
}

static int on_merge(void *ctx, void *state, const struct rv_piece *piece, struct rv_err *err) {
    struct retro_plugin *p = ctx;
    struct state *s = state;
    (void)piece;
    int r = p->plugin->merge ? p->plugin->merge(p->self, s->own) : 0;
    free(s);
    return r ? rv_fail(err, RV_E_UNSUPPORTED, "plugin %s gave up", p->text) : 0;
}

static void on_drop(void *ctx, void *state) {
    struct retro_plugin *p = ctx;
    struct state *s = state;
    if (!s) return;
    if (p->plugin->drop) p->plugin->drop(p->self, s->own);
    free(s);
}

static bool on_progress(void *ctx, rv_icount done, rv_icount total) {
    const struct retro_plugin *p = ctx;
    if (p->run->progress) p->run->progress(p->run->ctx, done, total);
    return false;
}

static int begin(struct retro_plugin *p, const struct retro_plugin_run *run, struct rv_err *err) {
    struct retrovisor_host *h = &p->host;
    p->run = run;
    h->guest = run->guest;
    h->at_call = api_find(h, ENTRY);
    h->at_return = api_find(h, CALL_EXIT);
    if (!h->at_call) {
        struct rv_x86 x;
        struct rv_engine *e = rv_machine_engine(rv_timeline_machine(run->timeline));
        e->ops->get(e, &x);
        h->at_call = x.lstar;
    }
    int r = p->plugin->start ? p->plugin->start(&api, h, p->argument, p->arguments, &p->self) : 0;
    if (r)
        return rv_fail(err, RV_E_USAGE, "plugin %s: %s", p->text,
                       *h->message ? h->message : "it cannot start");
    return 0;
}

int retro_plugin_run(struct retro_plugin *p, struct retro_plugin_run *run, struct rv_err *err) {
    struct rv_sought points[FILTERS];
    struct rv_pass_result result = {0};
    int r = begin(p, run, err);
    if (r) return r;
    struct rv_pass pass = {.from = run->from,
                           .to = run->to,
                           .sought = points,
                           .n = sought(p, points),
                           .whole = true,
                           .in_order = p->plugin->flags & RETROVISOR_IN_ORDER,
                           .count = wants(p, RETROVISOR_BLOCK),
                           .begin = on_begin,
                           .hit = on_hit,
                           .end = on_end,
                           .merge = on_merge,
                           .drop = on_drop,
                           .progress = on_progress,
                           .ctx = p};
    r = rv_pass_run(run->timeline, &pass, &result, err);
    run->interrupted = result.outcome == RV_PASS_INTERRUPTED;
    run->upto = result.merged;
    bool whole = !r && !run->interrupted;
    if (p->plugin->finish && p->plugin->finish(p->self, whole) && !r)
        r = rv_fail(err, RV_E_UNSUPPORTED, "plugin %s gave up at the end", p->text);
    return r;
}
