/* retro lockstep: one recording on two engines, compared on the way. */
#include "tools/retro.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replay/session.h"
#include "tools/analysis/code.h"
#include "vmm/base/buf.h"
#include "vmm/cpu/xlate/eager.h"

/* RAM is compared less often than the CPU: each time costs a hash of what was written. */
#define RAM_EVERY (1u << 20)

struct args {
    const char *path, *names[2], *kernel, *initrd;
    const struct rv_engine_ops *engine[2];
    rv_icount every, from, to;
    bool quiet, eager, json;
};

enum { OPT_EVERY = 256, OPT_FROM, OPT_TO, OPT_KERNEL, OPT_INITRD, OPT_EAGER, OPT_JSON };

static const struct option options[] = {
    {"engines", required_argument, NULL, 'e'},
    {"every", required_argument, NULL, OPT_EVERY},
    {"from", required_argument, NULL, OPT_FROM},
    {"to", required_argument, NULL, OPT_TO},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"eager", no_argument, NULL, OPT_EAGER},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, 'q'},
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_lockstep;
    *a = (struct args){.every = 1000, .to = RV_NEVER, .names = {"interpret", "translate"}};
    int opt;
    while ((opt = getopt_long(argc, argv, ":e:q", options, NULL)) != -1) {
        switch (opt) {
        case 'e': {
            char *comma = strchr(optarg, ',');
            if (!comma) return retro_usage(cmd, "--engines %s are not two names", optarg);
            *comma = 0;
            a->names[0] = optarg;
            a->names[1] = comma + 1;
            break;
        }
        case OPT_EVERY:
            if (!retro_parse_count(optarg, &a->every) || !a->every)
                return retro_usage(cmd, "--every %s is not a count above 0", optarg);
            break;
        case OPT_FROM:
            if (!retro_parse_position(optarg, &a->from))
                return retro_usage(cmd, "--from %s is not a position", optarg);
            break;
        case OPT_TO:
            if (!retro_parse_position(optarg, &a->to))
                return retro_usage(cmd, "--to %s is not a position", optarg);
            break;
        case OPT_EAGER: a->eager = true; break;
        case OPT_JSON: a->json = true; break;
        case OPT_KERNEL: a->kernel = optarg; break;
        case OPT_INITRD: a->initrd = optarg; break;
        case 'q': a->quiet = true; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind + 1 != argc) return retro_usage(cmd, "give one trace");
    a->path = argv[optind];
    return RETRO_OK;
}

/* ---- two machines ---- */

/* A state to come back to. */
struct place {
    struct rv_buf state;
    uint8_t *ram; /* as large as the guest's; untouched where that never changed */
};

struct pair {
    struct rv_replay *rp[2];
    struct rv_x86 x[2];
    struct rv_end end[2];
    struct place place[2];
    bool ended; /* both, alike */
    rv_icount at;
};

static struct rv_machine *machine(const struct pair *p, unsigned n) {
    return rv_replay_machine(p->rp[n]);
}

static void close_pair(struct pair *p) {
    for (unsigned n = 0; n < 2; n++) {
        rv_replay_free(p->rp[n]);
        rv_buf_release(&p->place[n].state);
        free(p->place[n].ram);
    }
    *p = (struct pair){0};
}

static int open_pair(struct pair *p, const struct args *a, struct rv_err *err) {
    *p = (struct pair){0};
    for (unsigned n = 0; n < 2; n++) {
        struct rv_replay_config config = {.path = a->path,
                                          .engine = a->engine[n],
                                          .kernel = a->kernel,
                                          .initrd = a->initrd,
                                          .player = {.target = 0, .stop_request = &retro_stop}};
        int r = rv_replay_begin(&p->rp[n], &config, NULL, NULL, err);
        if (r) return r;
        if (a->eager && a->engine[n] == &rv_engine_translate)
            rv_translate_eagerly(rv_machine_engine(machine(p, n)));
        p->place[n].ram = rv_alloc(rv_machine_ram(machine(p, n))->size);
    }
    return 0;
}

static bool interrupted(void) { return atomic_load(&retro_stop) != 0; }

/* Lets both run to a position. */
static int advance(struct pair *p, const struct args *a, rv_icount to, struct rv_err *err) {
    for (unsigned n = 0; n < 2; n++) {
        rv_player_set_target(rv_replay_player(p->rp[n]), to);
        retro_kick_on_signal(machine(p, n));
        int r = rv_machine_advance(machine(p, n), &p->end[n], err);
        retro_kick_on_signal(NULL);
        if (r) return rv_fail_in(err, "engine %s", a->engine[n]->name);
        struct rv_engine *e = rv_machine_engine(machine(p, n));
        e->ops->get(e, &p->x[n]);
    }
    p->at = p->x[0].icount;
    p->ended = p->end[0].reason != RV_STOP_TARGET;
    return 0;
}

static bool same_ram(const struct pair *p) {
    uint64_t cpu[2], ram[2];
    for (unsigned n = 0; n < 2; n++) rv_machine_digests(machine(p, n), &cpu[n], &ram[n]);
    return cpu[0] == cpu[1] && ram[0] == ram[1];
}

static bool same(const struct pair *p, bool ram) {
    if (p->end[0].reason != p->end[1].reason) return false;
    if (rv_x86_hash(&p->x[0], 0) != rv_x86_hash(&p->x[1], 0)) return false;
    return !ram || same_ram(p);
}

/* ---- places ---- */

/* Remembers where both are, which has to be a position that was advanced to. */
static int remember(struct pair *p, struct rv_err *err) {
    for (unsigned n = 0; n < 2; n++) {
        struct place *at = &p->place[n];
        struct rv_ram *ram = rv_machine_ram(machine(p, n));
        rv_buf_clear(&at->state);
        int r = rv_machine_save(machine(p, n), &at->state, err);
        if (r) return r;
        rv_player_save(rv_replay_player(p->rp[n]), &at->state);
        uint8_t *changed = rv_ram_changed(ram);
        for (uint64_t page = 0; page < ram->size >> RV_PAGE_SHIFT; page++) {
            if (!changed[page]) continue;
            uint64_t off = page << RV_PAGE_SHIFT;
            memcpy(at->ram + off, ram->host + off, RV_PAGE_SIZE);
            changed[page] = 0;
        }
    }
    return 0;
}

static int come_back(struct pair *p, struct rv_err *err) {
    for (unsigned n = 0; n < 2; n++) {
        struct place *at = &p->place[n];
        struct rv_ram *ram = rv_machine_ram(machine(p, n));
        uint8_t *changed = rv_ram_changed(ram);
        for (uint64_t page = 0; page < ram->size >> RV_PAGE_SHIFT; page++) {
            if (!changed[page]) continue;
            uint64_t off = page << RV_PAGE_SHIFT;
            rv_ram_write(ram, rv_ram_gpa(off), at->ram + off, RV_PAGE_SIZE);
        }
        /* What was just put back is not a change to what is remembered. */
        changed = rv_ram_changed(ram);
        memset(changed, 0, ram->size >> RV_PAGE_SHIFT);
        struct rv_cursor in = rv_cursor_of(at->state.data, at->state.len);
        int r = rv_machine_load(machine(p, n), &in, err);
        if (!r) r = rv_player_load(rv_replay_player(p->rp[n]), &in, err);
        if (r) return r;
    }
    p->ended = false;
    return 0;
}

/* ---- the search ---- */

struct finding {
    bool differs;
    rv_icount agreed, at; /* all was alike there; and no more here */
    rv_icount end;        /* where the recording ended */
    uint64_t compared;
};

static void progress(const struct args *a, rv_icount at) {
    char n[32];
    if (!a->quiet && isatty(STDERR_FILENO))
        fprintf(stderr, "\rretro: alike up to instruction %s", retro_group(at, n));
}

/* Compares on the way from a->from to a->to. When they differ, the pair remembers the last place
 * where everything was alike. */
static int scan(struct pair *p, const struct args *a, struct finding *f, struct rv_err *err) {
    rv_icount next_ram = a->from;
    for (rv_icount next = a->from;;) {
        int r = advance(p, a, next, err);
        if (r || interrupted()) return r;
        bool last = p->ended || p->at >= a->to, ram = last || p->at >= next_ram;
        f->compared++;
        if (!same(p, ram)) {
            f->differs = true;
            f->at = p->at;
            return 0;
        }
        f->end = p->at;
        if (ram) {
            f->agreed = p->at;
            next_ram = p->at + RAM_EVERY;
            progress(a, p->at);
        }
        if (last) return 0;
        if (ram) r = remember(p, err);
        if (r) return r;
        next = a->to - p->at > a->every ? p->at + a->every : a->to;
    }
}

/* Whether they differ at `at` after running there from the remembered place with the same stops as
 * the scan made. */
static int probe(struct pair *p, const struct args *a, rv_icount from, rv_icount at, bool *differ,
                 struct rv_err *err) {
    int r = come_back(p, err);
    for (rv_icount next = from; !r && next < at;) {
        next = at - next > a->every ? next + a->every : at;
        r = advance(p, a, next, err);
    }
    *differ = !r && !same(p, true);
    return r;
}

/* From "alike at agreed, not at `at`" to neighbours. */
static int bisect(struct pair *p, const struct args *a, struct finding *f, struct rv_err *err) {
    rv_icount from = f->agreed;
    if (f->at == from) return 0;
    bool differ;
    while (f->at > f->agreed + 1 && !interrupted()) {
        rv_icount middle = f->agreed + (f->at - f->agreed) / 2;
        int r = probe(p, a, from, middle, &differ, err);
        if (r) return r;
        *(differ ? &f->at : &f->agreed) = middle;
    }
    int r = probe(p, a, from, f->at, &differ, err);
    if (!r && !differ)
        r = rv_fail(err, RV_E_BUG,
                    "the difference at instruction %llu did not show a second time; compare "
                    "less often to leave the engines alone for longer",
                    (unsigned long long)f->at);
    return r;
}

/* ---- the report ---- */

/* A field's value as text, in a buffer of the caller's. */
static const char *value(const struct rv_field *f, const struct rv_x86 *x, struct rv_buf *b) {
    rv_buf_clear(b);
    rv_state_value(f, x, b);
    rv_buf_put_u8(b, 0);
    return (const char *)b->data;
}

/* Fields of the CPU that differ: into o, or when that is NULL, printed. */
static void field_differences(const struct pair *p, const char *const names[2], json_t *o) {
    struct rv_buf text[2] = {{0}, {0}};
    json_t *list = o ? json_array() : NULL;
    for (const struct rv_field *f = rv_x86_fields; f->name; f++) {
        const char *v[2] = {value(f, &p->x[0], &text[0]), value(f, &p->x[1], &text[1])};
        if (strcmp(v[0], v[1]) == 0) continue;
        if (o)
            json_array_append_new(
                list, json_pack("{s:s, s:[s, s]}", "field", f->name, "values", v[0], v[1]));
        else
            for (unsigned n = 0; n < 2; n++)
                printf("  %-9s cpu.%s = %s\n", names[n], f->name, v[n]);
    }
    if (o) json_object_set_new(o, "differences", list);
    for (unsigned n = 0; n < 2; n++) rv_buf_release(&text[n]);
}

/* Likewise the first byte of RAM that differs. */
static void ram_difference(const struct pair *p, const char *const names[2], json_t *o) {
    const struct rv_ram *a = rv_machine_ram(machine(p, 0)), *b = rv_machine_ram(machine(p, 1));
    uint64_t at = 0;
    while (at < a->size && memcmp(a->host + at, b->host + at, RV_PAGE_SIZE) == 0)
        at += RV_PAGE_SIZE;
    if (at == a->size) return;
    while (a->host[at] == b->host[at]) at++;
    if (o)
        json_object_set_new(o, "ram",
                            json_pack("{s:I, s:[i, i]}", "offset", (json_int_t)at, "values",
                                      a->host[at], b->host[at]));
    else
        printf("  RAM offset 0x%llx: %s has %02x, %s has %02x\n", (unsigned long long)at, names[0],
               a->host[at], names[1], b->host[at]);
}

static void stop_difference(const struct pair *p, const char *const names[2], json_t *o) {
    enum rv_stop why[2] = {p->end[0].reason, p->end[1].reason};
    if (why[0] == why[1]) return;
    if (o)
        json_object_set_new(o, "stops",
                            json_pack("[s, s]", rv_stop_name(why[0]), rv_stop_name(why[1])));
    else
        for (unsigned n = 0; n < 2; n++) printf("  %s: %s\n", names[n], rv_stop_text(why[n]));
}

/* What both agree on: the instruction that is next, and the state before it. */
static void before(const struct pair *p, const char *const names[2], json_t *o) {
    char text[128];
    struct rv_buf dump = {0};
    struct rv_view v = {.ram = rv_machine_ram(machine(p, 0)), .cpu = p->x[0]};
    rv_code_at(&v, v.cpu.rip, text, sizeof text);
    if (o) {
        json_t *state = json_object();
        for (const struct rv_field *f = rv_x86_fields; f->name; f++)
            json_object_set_new(state, f->name, json_string(value(f, &v.cpu, &dump)));
        json_object_set_new(o, "instruction", json_string(text));
        json_object_set_new(o, "before", state);
    } else {
        rv_state_dump(rv_x86_fields, &v.cpu, "cpu", &dump);
        printf("the instruction before that, and %s's state before it:\n  %016llx: %s\n", names[0],
               (unsigned long long)v.cpu.rip, text);
        fwrite(dump.data, 1, dump.len, stdout);
    }
    rv_buf_release(&dump);
}

static json_t *summary_json(const struct args *a, const struct finding *f) {
    return json_pack("{s:b, s:[s, s], s:I, s:I}", "agree", !f->differs, "engines",
                     a->engine[0]->name, a->engine[1]->name, "instructions",
                     (json_int_t)(f->differs ? f->at : f->end), "compared",
                     (json_int_t)f->compared);
}

static void report(struct pair *p, const struct args *a, const struct finding *f) {
    const char *const names[2] = {a->engine[0]->name, a->engine[1]->name};
    json_t *o = a->json ? summary_json(a, f) : NULL;
    struct rv_err err = {0};
    if (!o)
        printf("%s and %s differ at instruction %llu:\n", names[0], names[1],
               (unsigned long long)f->at);
    field_differences(p, names, o);
    ram_difference(p, names, o);
    stop_difference(p, names, o);
    if (!come_back(p, &err) && !advance(p, a, f->at - 1, &err)) before(p, names, o);
    if (o) retro_json_put(stdout, o, RETRO_JSON_LINE);
}

static int lockstep_main(int argc, char **argv) {
    struct args a;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    struct rv_err err = {0};
    struct pair p = {0};
    struct finding f = {0};
    retro_catch_signals();
    double began = retro_now();
    int r = 0;
    for (unsigned n = 0; !r && n < 2; n++) r = retro_engine(a.names[n], false, &a.engine[n], &err);
    if (!r) r = open_pair(&p, &a, &err);
    if (!r) r = scan(&p, &a, &f, &err);
    if (!r && f.differs) r = bisect(&p, &a, &f, &err);
    if (!a.quiet && isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    char n[2][32];
    if (r) {
        status = retro_error(&err);
    } else if (interrupted()) {
        status = RETRO_INTERRUPTED;
    } else if (f.differs) {
        report(&p, &a, &f);
        status = RETRO_DIVERGED;
    } else if (a.json) {
        retro_json_put(stdout, summary_json(&a, &f), RETRO_JSON_LINE);
    } else {
        printf("%s and %s agree: %s instructions, compared at %s positions, in %.1f s\n",
               a.engine[0]->name, a.engine[1]->name, retro_group(f.end, n[0]),
               retro_group(f.compared, n[1]), retro_now() - began);
    }
    close_pair(&p);
    return status;
}

const struct retro_command retro_cmd_lockstep = {
    .name = "lockstep",
    .brief = "play a trace on two engines and compare them on the way",
    .help =
        "Usage: retro lockstep [OPTION]... FILE\n"
        "Plays a recording on two engines at once and compares the CPU's state every so many\n"
        "instructions, and RAM and devices every million and at the end. The first difference is\n"
        "narrowed down to one instruction and shown, with the state before and after it, and the\n"
        "exit status is 5.\n\n"
        "  -e, --engines A,B    which two (default interpret,translate)\n"
        "      --every N        compare every N instructions (default 1000; suffixes k, M, G)\n"
        "      --from POSITION  begin to compare there\n"
        "      --to POSITION    end there\n"
        "      --eager          translate all code at its first execution, not only hot code\n"
        "      --kernel FILE    the kernel, for a trace recorded with --no-embed\n"
        "      --initrd FILE    the initial RAM disk, likewise\n"
        "      --json           for machines: one object\n"
        "  -q, --quiet          no progress\n\n"
        "Example: retro lockstep --every 1 --to 1M boot.retro\n",
    .main = lockstep_main,
};
