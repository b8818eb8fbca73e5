/* retro diff: where two recordings of the same start part. */
#include "tools/retro.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "replay/compare.h"
#include "tools/analysis/code.h"
#include "tools/analysis/inputs.h"
#include "tools/analysis/linux.h"
#include "tools/analysis/view.h"

#define MEMORY_SHOWN 8

struct args {
    const char *path[2], *engine, *kernel, *initrd;
    bool json, quiet, no_replay;
};

enum { OPT_JSON = 256, OPT_KERNEL, OPT_INITRD, OPT_NO_REPLAY };

static const struct option options[] = {
    {"json", no_argument, NULL, OPT_JSON},
    {"no-replay", no_argument, NULL, OPT_NO_REPLAY},
    {"engine", required_argument, NULL, 'e'},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"quiet", no_argument, NULL, 'q'},
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_diff;
    *a = (struct args){.engine = "auto"};
    int opt;
    while ((opt = getopt_long(argc, argv, ":e:q", options, NULL)) != -1) {
        switch (opt) {
        case OPT_JSON: a->json = true; break;
        case OPT_NO_REPLAY: a->no_replay = true; break;
        case OPT_KERNEL: a->kernel = optarg; break;
        case OPT_INITRD: a->initrd = optarg; break;
        case 'e': a->engine = optarg; break;
        case 'q': a->quiet = true; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind + 2 != argc) return retro_usage(cmd, "diff takes two traces");
    a->path[0] = argv[optind];
    a->path[1] = argv[optind + 1];
    return RETRO_OK;
}

/* All that was found out. */
struct finding {
    struct rv_trace_reader *reader[2];
    size_t starts;
    struct rv_start_difference start[RV_START_DIFFERENCES];
    struct rv_inputs_compared in;
    bool compared; /* replayed */
    struct rv_compare *pair;
    struct rv_compare_result parting;
    char insn[128];  /* the instruction at which they part */
    char where[200]; /* whose it is: function and process, if a Linux says so; else empty */
    char why[400];
    bool memory;
    rv_icount memory_at;
    size_t stretches;
    uint64_t memory_bytes;
    struct rv_compare_bytes bytes[MEMORY_SHOWN];
};

/* ---- in words ---- */

static const char *const side_name[2] = {"a", "b"};

static void quote(char *out, size_t size, const uint8_t *data, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len && n + 8 < size; i++) {
        uint8_t b = data[i];
        if (b >= 32 && b < 127 && b != '"' && b != '\\')
            out[n++] = (char)b;
        else
            n += (size_t)snprintf(out + n, size - n,
                                  b == '\n'   ? "\\n"
                                  : b == '\r' ? "\\r"
                                  : b == '\t' ? "\\t"
                                              : "\\x%02x",
                                  b);
    }
    out[n] = 0;
}

/* One input, decoded. */
static void describe_input(const struct rv_trace_place *p, char *out, size_t size) {
    const struct rv_trace_event *ev = &p->ev;
    const char *source = rv_source_name((enum rv_source)ev->source);
    char text[96];
    time_t t = (time_t)ev->value;
    struct tm tm;
    if (!p->any) {
        snprintf(out, size, "no further input");
        return;
    }
    switch (ev->kind) {
    case RV_TRACE_INPUT:
        if (p->offset < ev->len) {
            quote(text, sizeof text, ev->data + p->offset, 1);
            snprintf(out, size, "\"%s\" (0x%02x) typed on the %s, its byte %" PRIu64, text,
                     ev->data[p->offset], source, p->before + 1);
        } else {
            snprintf(out, size, "nothing more typed on the %s then", source);
        }
        break;
    case RV_TRACE_JUMP:
        snprintf(out, size, "time moved on by %" PRIu64 " ns from outside", ev->value);
        break;
    case RV_TRACE_FLAGS:
        snprintf(out, size, "undefined flags 0x%" PRIx64 " became 0", ev->value);
        break;
    case RV_TRACE_QUERY:
        if (ev->source == RV_SRC_RTC && ev->value <= 253402300799ull && gmtime_r(&t, &tm)) {
            strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
            snprintf(out, size, "clock at power-on: %s", text);
        } else {
            snprintf(out, size, "%s: 0x%" PRIx64, source, ev->value);
        }
        break;
    case RV_TRACE_STOP:
        snprintf(out, size, "stopped from outside: %s", rv_stop_name((enum rv_stop)ev->value));
        break;
    default: snprintf(out, size, "%s of %s", rv_trace_kind_name(ev->kind), source);
    }
}

/* The instruction that CPU x is about to run in machine m; d is filled when it can be decoded. */
static bool decode(const struct rv_x86 *x, struct rv_machine *m, ZydisDisassembledInstruction *d,
                   char *out, size_t size) {
    struct rv_view v;
    rv_view_of(&v, m);
    v.cpu = *x;
    bool decoded = rv_code_decode(&v, x->rip, d);
    snprintf(out, size, "%s", decoded ? d->text : "(no instruction can be read)");
    return decoded;
}

static const char *port_name(unsigned port) {
    static const char *const com1[] = {"COM1, received byte",   "COM1, interrupt enable",
                                       "COM1, interrupt cause", "COM1, line control",
                                       "COM1, modem control",   "COM1, line status",
                                       "COM1, modem status",    "COM1, scratch"};
    if (port >= 0x3f8 && port <= 0x3ff) return com1[port - 0x3f8];
    if (port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1) return "interrupt controller";
    if (port >= 0x40 && port <= 0x43) return "timer";
    if (port == 0x61) return "timer gate";
    if (port == 0x70 || port == 0x71) return "real-time clock";
    return "a device";
}

/* The vector whose handler begins at rip, by x's IDT; -1: none. */
static int vector_at(const struct rv_x86 *x, struct rv_machine *m, uint64_t rip) {
    struct rv_view v;
    rv_view_of(&v, m);
    v.cpu = *x;
    bool wide = x->efer & RV_EFER_LMA;
    unsigned size = wide ? 16 : 8;
    for (unsigned i = 0; i < 256 && (i + 1) * size <= (unsigned)x->idt.limit + 1; i++) {
        uint8_t gate[16] = {0};
        if (rv_view_read(&v, x->idt.base + (uint64_t)i * size, gate, size) != size) continue;
        if (!(gate[5] & 0x80)) continue;
        uint64_t offset = (uint64_t)gate[0] | (uint64_t)gate[1] << 8 | (uint64_t)gate[6] << 16 |
                          (uint64_t)gate[7] << 24;
        if (wide)
            for (unsigned k = 0; k < 4; k++) offset |= (uint64_t)gate[8 + k] << (32 + 8 * k);
        if (offset == rip) return (int)i;
    }
    return -1;
}

static void explain_delivery(struct finding *f, const bool delivered[2]) {
    size_t n = 0;
    for (unsigned k = 0; k < 2; k++) {
        const struct rv_x86 *x = &f->parting.side[k].cpu;
        const char *sep = k ? "; " : "";
        if (delivered[k]) {
            int vector = vector_at(x, rv_compare_machine(f->pair, k), x->rip);
            if (vector >= 0)
                n += (size_t)snprintf(f->why + n, sizeof f->why - n,
                                      "%s%s is interrupted here (vector 0x%02x)", sep, side_name[k],
                                      (unsigned)vector);
            else
                n += (size_t)snprintf(f->why + n, sizeof f->why - n, "%s%s is interrupted here",
                                      sep, side_name[k]);
        } else {
            n += (size_t)snprintf(f->why + n, sizeof f->why - n, "%s%s goes on", sep, side_name[k]);
        }
        if (n >= sizeof f->why) return;
    }
}

static void explain_in(struct finding *f, const ZydisDisassembledInstruction *d) {
    const struct rv_compare_result *p = &f->parting;
    unsigned port = d->operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE
                        ? (unsigned)d->operands[1].imm.value.u & 0xff
                        : (unsigned)p->cpu.gpr[RV_RDX] & 0xffff;
    uint64_t mask = d->operands[0].size >= 32 ? 0xffffffff : (1ull << d->operands[0].size) - 1;
    uint64_t got[2];
    char text[2][16] = {"", ""};
    for (unsigned k = 0; k < 2; k++) {
        got[k] = p->side[k].cpu.gpr[RV_RAX] & mask;
        if (got[k] >= 32 && got[k] < 127) snprintf(text[k], sizeof text[k], " '%c'", (char)got[k]);
    }
    snprintf(f->why, sizeof f->why,
             "it reads port 0x%x (%s): a gets 0x%" PRIx64 "%s, b gets 0x%" PRIx64 "%s", port,
             port_name(port), got[0], text[0], got[1], text[1]);
}

/* Function and process of the instruction, which may be in neither. */
static void place(struct finding *f) {
    struct rv_machine *m = rv_compare_machine(f->pair, 0);
    struct rv_linux *l = NULL;
    struct rv_linux_task task;
    struct rv_view k;
    struct rv_err none;
    if (rv_linux_find(&l, m, &none)) return;
    uint64_t rip = f->parting.cpu.rip;
    const struct rv_symbol *y = rv_symbols_at(rv_linux_symbols(l), rip);
    size_t n = 0;
    if (y) n = (size_t)snprintf(f->where, sizeof f->where, "%s+0x%" PRIx64, y->name, rip - y->addr);
    if (n < sizeof f->where && rv_linux_view(l, m, &k) &&
        rv_linux_task(l, &k, rv_linux_current(l, &k), &task))
        snprintf(f->where + n, sizeof f->where - n, "%sprocess %u (%s)", n ? ", " : "", task.pid,
                 task.comm);
    rv_linux_free(l);
}

/* Says in words why they part. */
static void explain(struct finding *f) {
    const struct rv_compare_result *p = &f->parting;
    ZydisDisassembledInstruction d;
    bool decoded = decode(&p->cpu, rv_compare_machine(f->pair, 0), &d, f->insn, sizeof f->insn);
    bool delivered[2];
    for (unsigned k = 0; k < 2; k++)
        delivered[k] = !p->side[k].ended && p->side[k].at.delivered > 0;
    if (p->side[0].ended || p->side[1].ended) {
        for (unsigned k = 0; k < 2; k++)
            if (p->side[k].ended)
                snprintf(f->why, sizeof f->why, "the recording of %s ends here: %s", side_name[k],
                         rv_stop_text(p->side[k].reason));
    } else if (delivered[0] != delivered[1]) {
        explain_delivery(f, delivered);
    } else if (decoded && d.info.mnemonic == ZYDIS_MNEMONIC_IN) {
        explain_in(f, &d);
    } else if (decoded && (d.info.mnemonic == ZYDIS_MNEMONIC_RDTSC ||
                           d.info.mnemonic == ZYDIS_MNEMONIC_RDTSCP)) {
        snprintf(f->why, sizeof f->why, "it reads the time-stamp counter, and time differs");
    } else if (!p->memory_alike) {
        snprintf(f->why, sizeof f->why, "it depends on memory that differs from the start");
    } else {
        snprintf(f->why, sizeof f->why, "it reads something that differs outside CPU and memory");
    }
}

/* ---- finding out ---- */

static bool on_progress(void *ctx, rv_icount at) {
    retro_meter_show(ctx, at, 0);
    return atomic_load(&retro_stop) != 0;
}

static int compare_states(const struct args *a, struct finding *f, rv_icount from,
                          struct rv_err *err) {
    struct retro_meter *meter = retro_meter_new(!a->quiet && isatty(STDERR_FILENO), "comparing", 0);
    struct rv_compare_config c = {.progress = on_progress, .ctx = meter};
    const struct rv_engine_ops *engine;
    int r = retro_engine(a->engine, false, &engine, err);
    for (unsigned n = 0; n < 2; n++)
        c.replay[n] = (struct rv_replay_config){
            .path = a->path[n], .engine = engine, .kernel = a->kernel, .initrd = a->initrd};
    if (!r) r = rv_compare_open(&f->pair, &c, err);
    if (!r) r = rv_compare_find(f->pair, from, &f->parting, err);
    f->compared = !r;
    if (!r && f->parting.parted) {
        explain(f);
        place(f);
    }
    if (!r && f->parting.parted && f->parting.memory_alike)
        r = rv_compare_find_memory(f->pair, &f->memory, &f->memory_at, err);
    if (!r && f->memory)
        f->stretches = rv_compare_memory(f->pair, f->bytes, MEMORY_SHOWN, &f->memory_bytes);
    retro_meter_free(meter);
    return r;
}

static int find(const struct args *a, struct finding *f, struct rv_err *err) {
    int r = 0;
    for (unsigned n = 0; !r && n < 2; n++) r = rv_trace_reader_open(&f->reader[n], a->path[n], err);
    if (r) return r;
    f->starts = rv_start_compare(f->reader[0], f->reader[1], f->start);
    if (f->starts) return 0;
    r = rv_inputs_compare(f->reader[0], f->reader[1], &f->in, err);
    if (r || a->no_replay) return r;
    bool by_trap = false;
    r = retro_is_by_trap(a->path[0], &by_trap, err);
    if (!r && by_trap)
        r = rv_fail(err, RV_E_UNSUPPORTED,
                    "%s was recorded on hardware and counts traps; run retro lift on both first, "
                    "or compare their inputs alone with --no-replay",
                    a->path[0]);
    if (r) return r;
    if (f->in.differ) return compare_states(a, f, f->in.from, err);
    if (f->in.digests_differ) return compare_states(a, f, f->in.digest_alike, err);
    return 0;
}

static bool differ(const struct finding *f) {
    return f->starts || f->in.differ || f->in.outputs_differ || f->in.digests_differ;
}

/* ---- for people ---- */

static void print_place(const struct rv_trace_place *p, unsigned n) {
    char text[256], b[32];
    describe_input(p, text, sizeof text);
    if (p->any)
        printf("  %s  event %" PRIu64 ", instruction %s, %.6f s: %s\n", side_name[n], p->ordinal,
               retro_group(p->ev.position, b), (double)p->ev.time / 1e9, text);
    else
        printf("  %s  %s\n", side_name[n], text);
}

static void print_registers(const struct rv_compare_result *p) {
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const struct rv_x86 *a = &p->side[0].cpu, *b = &p->side[1].cpu;
    bool any = false;
    for (unsigned i = 0; i < RV_GPRS; i++)
        if (a->gpr[i] != b->gpr[i]) {
            printf("  %-6s  a %016" PRIx64 "  b %016" PRIx64 "\n", names[i], a->gpr[i], b->gpr[i]);
            any = true;
        }
    if (a->rip != b->rip) printf("  rip     a %016" PRIx64 "  b %016" PRIx64 "\n", a->rip, b->rip);
    if (a->rflags != b->rflags)
        printf("  rflags  a %016" PRIx64 "  b %016" PRIx64 "\n", a->rflags, b->rflags);
    if (!any && a->rip == b->rip && a->rflags == b->rflags)
        puts("  the difference is beyond the general registers");
}

static void print_bytes(const char *name, const uint8_t *bytes, uint32_t len) {
    printf(" %s", name);
    for (uint32_t i = 0; i < len && i < 16; i++) printf(" %02x", bytes[i]);
    if (len > 16) printf(" ...");
}

static void print_memory(const struct finding *f) {
    char n[32], m[32];
    if (!f->memory) {
        puts("Memory does not differ up to where one of them ends.");
        return;
    }
    printf("First memory that differs: after instruction %s, %s byte%s:\n",
           retro_group(f->memory_at, n), retro_group(f->memory_bytes, m),
           f->memory_bytes == 1 ? "" : "s");
    for (size_t i = 0; i < f->stretches; i++) {
        const struct rv_compare_bytes *s = &f->bytes[i];
        printf("  physical 0x%" PRIx64 ", %" PRIu32 " byte%s:", s->gpa, s->len,
               s->len == 1 ? "" : "s");
        print_bytes("a", s->a, s->len);
        print_bytes(" b", s->b, s->len);
        putchar('\n');
    }
}

static void print_parting(const struct finding *f) {
    const struct rv_compare_result *p = &f->parting;
    char n[32], m[32];
    if (!p->parted) {
        printf("No instruction saw it: CPU and memory are alike up to instruction %s, where the "
               "recording of one ends.\n",
               retro_group(p->searched, n));
        return;
    }
    rv_icount from = f->in.differ ? f->in.from : f->in.digest_alike;
    printf("First instruction that saw it: number %s, %s after that\n",
           retro_group(p->before.icount + 1, n), retro_group(p->before.icount - from, m));
    printf("  %016" PRIx64 "  %s\n", p->cpu.rip, f->insn);
    if (*f->where) {
        fputs("  in ", stdout);
        retro_print_text(stdout, (const uint8_t *)f->where, strlen(f->where));
        putchar('\n');
    }
    printf("  %s.\n", f->why);
    puts("After it:");
    print_registers(p);
    if (!p->exact)
        puts("  (Only some positions before it were compared: a difference that went away again "
             "may have come earlier.)");
    print_memory(f);
    printf("Look: retro state --at %" PRIu64 " FILE, retro gdb --at %" PRIu64 " FILE\n",
           p->before.icount, p->before.icount);
}

static void print_output(const struct rv_trace_place *p, unsigned n) {
    char text[96], b[32];
    if (!p->any) {
        printf("  %s  prints nothing more\n", side_name[n]);
        return;
    }
    size_t from = p->offset > 24 ? p->offset - 24 : 0;
    quote(text, sizeof text, p->ev.data + from, p->ev.len - from > 64 ? 64 : p->ev.len - from);
    printf("  %s  instruction %s, byte %" PRIu64 " of the %s, in \"%s\"\n", side_name[n],
           retro_group(p->ev.position, b), p->before + 1,
           rv_source_name((enum rv_source)p->ev.source), text);
}

static void print_human(const struct args *a, const struct finding *f) {
    char n[32], m[32];
    struct rv_trace_state st;
    rv_trace_reader_state(f->reader[0], &st);
    if (!differ(f)) {
        printf("No difference: %s inputs, %s state digests and all output are alike over %s "
               "instructions.\n",
               retro_group(f->in.common, n), retro_group(f->in.digests, m),
               retro_group(st.position, (char[32]){0}));
        return;
    }
    printf("a  %s\nb  %s\n\n", a->path[0], a->path[1]);
    if (f->starts) {
        puts("These are not recordings of the same start:");
        for (size_t i = 0; i < f->starts; i++) {
            printf("  %s\n    a  ", f->start[i].what);
            retro_print_text(stdout, (const uint8_t *)f->start[i].side[0],
                             strlen(f->start[i].side[0]));
            fputs("\n    b  ", stdout);
            retro_print_text(stdout, (const uint8_t *)f->start[i].side[1],
                             strlen(f->start[i].side[1]));
            putchar('\n');
        }
        return;
    }
    if (f->in.differ) {
        printf("First differing input, after %s that are alike:\n", retro_group(f->in.common, n));
        for (unsigned k = 0; k < 2; k++) print_place(&f->in.side[k], k);
    } else if (f->in.digests_differ) {
        printf("All inputs are alike, but the states are not: alike at instruction %s, no more at "
               "%s.\n",
               retro_group(f->in.digest_alike, n), retro_group(f->in.digest_differs, m));
    }
    if (f->compared) {
        putchar('\n');
        print_parting(f);
    }
    if (f->in.outputs_differ) {
        puts("\nFirst differing output:");
        for (unsigned k = 0; k < 2; k++) print_output(&f->in.output[k], k);
    }
}

/* ---- for machines ---- */

static json_t *hex(uint64_t v) { return json_sprintf("%016" PRIx64, v); }

static json_t *place_json(const struct rv_trace_place *p, bool input) {
    if (!p->any) return json_null();
    json_t *o = json_object();
    char text[256];
    json_object_set_new(o, "event", json_integer((json_int_t)p->ordinal));
    json_object_set_new(o, "position", json_integer((json_int_t)p->ev.position));
    json_object_set_new(o, "time", json_integer((json_int_t)p->ev.time));
    json_object_set_new(o, "kind", json_string(rv_trace_kind_name(p->ev.kind)));
    json_object_set_new(o, "source", json_string(rv_source_name((enum rv_source)p->ev.source)));
    if (p->ev.len) json_object_set_new(o, "data", retro_json_bytes(p->ev.data, p->ev.len));
    json_object_set_new(o, "offset", json_integer((json_int_t)p->offset));
    json_object_set_new(o, "byte", json_integer((json_int_t)p->before));
    if (input) {
        describe_input(p, text, sizeof text);
        json_object_set_new(o, "text", retro_json_utf8z(text));
    }
    return o;
}

static json_t *cpu_json(const struct rv_x86 *x) {
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    json_t *o = json_object();
    json_object_set_new(o, "rip", hex(x->rip));
    json_object_set_new(o, "rflags", hex(x->rflags));
    for (unsigned i = 0; i < RV_GPRS; i++) json_object_set_new(o, names[i], hex(x->gpr[i]));
    return o;
}

static json_t *parting_json(const struct finding *f) {
    const struct rv_compare_result *p = &f->parting;
    if (!p->parted) return json_null();
    json_t *o = json_object();
    json_object_set_new(o, "position", json_integer((json_int_t)p->before.icount));
    json_object_set_new(o, "instruction", retro_json_utf8z(f->insn));
    if (*f->where) json_object_set_new(o, "where", retro_json_utf8z(f->where));
    json_object_set_new(o, "why", retro_json_utf8z(f->why));
    json_object_set_new(o, "exact", json_boolean(p->exact));
    json_object_set_new(o, "before", cpu_json(&p->cpu));
    for (unsigned k = 0; k < 2; k++) {
        json_t *s = cpu_json(&p->side[k].cpu);
        json_object_set_new(s, "position", json_integer((json_int_t)p->side[k].at.icount));
        json_object_set_new(s, "interrupted", json_boolean(p->side[k].at.delivered > 0));
        json_object_set_new(s, "ended", json_boolean(p->side[k].ended));
        json_object_set_new(o, side_name[k], s);
    }
    return o;
}

static json_t *memory_json(const struct finding *f) {
    if (!f->memory) return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < f->stretches; i++) {
        const struct rv_compare_bytes *s = &f->bytes[i];
        char text[2][33] = {"", ""};
        for (uint32_t k = 0; k < s->len && k < 16; k++) {
            snprintf(text[0] + 2 * k, 3, "%02x", s->a[k]);
            snprintf(text[1] + 2 * k, 3, "%02x", s->b[k]);
        }
        json_array_append_new(list,
                              json_pack("{s:o, s:I, s:s, s:s}", "physical", hex(s->gpa), "bytes",
                                        (json_int_t)s->len, "a", text[0], "b", text[1]));
    }
    return json_pack("{s:I, s:I, s:o}", "position", (json_int_t)f->memory_at, "bytes",
                     (json_int_t)f->memory_bytes, "first", list);
}

static void print_json(const struct args *a, const struct finding *f) {
    json_t *o = json_object(), *starts = json_array();
    json_object_set_new(o, "a", retro_json_utf8z(a->path[0]));
    json_object_set_new(o, "b", retro_json_utf8z(a->path[1]));
    json_object_set_new(o, "differ", json_boolean(differ(f)));
    for (size_t i = 0; i < f->starts; i++) {
        json_t *d = json_object();
        json_object_set_new(d, "what", json_string(f->start[i].what));
        json_object_set_new(d, "a", retro_json_utf8z(f->start[i].side[0]));
        json_object_set_new(d, "b", retro_json_utf8z(f->start[i].side[1]));
        json_array_append_new(starts, d);
    }
    json_object_set_new(o, "start", starts);
    json_object_set_new(o, "inputs_alike", json_integer((json_int_t)f->in.common));
    json_object_set_new(o, "digests_differ", json_boolean(f->in.digests_differ));
    if (f->in.differ)
        json_object_set_new(o, "input",
                            json_pack("{s:o, s:o}", "a", place_json(&f->in.side[0], true), "b",
                                      place_json(&f->in.side[1], true)));
    if (f->compared) {
        json_object_set_new(o, "instruction", parting_json(f));
        json_object_set_new(o, "memory", memory_json(f));
    }
    if (f->in.outputs_differ)
        json_object_set_new(o, "output",
                            json_pack("{s:o, s:o}", "a", place_json(&f->in.output[0], false), "b",
                                      place_json(&f->in.output[1], false)));
    retro_json_put(stdout, o, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
}

static int diff_main(int argc, char **argv) {
    struct args a;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    struct rv_err err = {0};
    struct finding f = {0};
    retro_catch_signals();
    int r = find(&a, &f, &err);
    if (!r || r == RV_E_INTERRUPTED) {
        if (a.json)
            print_json(&a, &f);
        else
            print_human(&a, &f);
        fflush(stdout);
        status = differ(&f) ? RETRO_DIFFER : RETRO_OK;
    }
    if (r) status = retro_error(&err);
    rv_compare_free(f.pair);
    rv_inputs_release(&f.in);
    for (unsigned n = 0; n < 2; n++) rv_trace_reader_free(f.reader[n]);
    return status;
}

const struct retro_command retro_cmd_diff = {
    .name = "diff",
    .brief = "where two recordings of the same start part",
    .help =
        "Usage: retro diff [OPTION]... A B\n"
        "Compares two recordings of one machine and guest: says what they were first given that\n"
        "differs, and - replaying both in step - the first instruction that saw it, with the\n"
        "registers and memory that differ then. Recordings of different machines or guests are\n"
        "said to be so, with what differs. Exit status: 0 no difference, 1 they differ, above 1\n"
        "something failed.\n\n"
        "      --json         one JSON object\n"
        "      --no-replay    compare the traces alone\n"
        "  -e, --engine ENGINE  auto (default), translate or interpret\n"
        "      --kernel FILE  the kernel, for traces recorded with --no-embed\n"
        "      --initrd FILE  the initial RAM disk, likewise\n"
        "  -q, --quiet        no progress\n\n"
        "Example: retro diff good.retro bad.retro\n",
    .main = diff_main,
};
