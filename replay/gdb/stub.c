#include "replay/gdb/stub.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay/gdb/stub_priv.h"

/* ---- life ---- */

struct rv_gdb_stub *rv_gdb_stub_new(struct rv_timeline *t) {
    struct rv_gdb_stub *s = rv_alloc(sizeof *s);
    s->t = t;
    return s;
}

void rv_gdb_stub_free(struct rv_gdb_stub *s) {
    if (!s) return;
    rv_gdb_points_clear(&s->points);
    for (size_t i = 0; i < s->bookmarks; i++) free(s->bookmark[i].name);
    free(s->bookmark);
    rv_buf_release(&s->console);
    rv_buf_release(&s->stop);
    free(s);
}

void rv_gdb_stub_connect(struct rv_gdb_stub *s, enum rv_gdb_view view) {
    const struct rv_profile *profile = rv_machine_profile(rv_timeline_machine(s->t));
    s->layout = (struct rv_gdb_layout){.view = view, .avx = profile->v3};
    s->physical = s->swbreak = false;
    rv_gdb_points_clear(&s->points);
    rv_buf_clear(&s->stop);
}

void rv_gdb_say(struct rv_gdb_stub *s, const char *fmt, ...) {
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    s->print(s->ctx, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void put_text(struct rv_buf *out, const char *text) { rv_buf_put(out, text, strlen(text)); }

/* ---- stops ---- */

static void put_register(struct rv_gdb_stub *s, const struct rv_gdb_cpu *cpu, unsigned number,
                         struct rv_buf *out) {
    uint8_t bytes[16];
    rv_gdb_register_get(s->layout, number, cpu, bytes);
    rv_gdb_put_hex(out, bytes, rv_gdb_register_size(s->layout, number));
}

/* The registers that gdb asks for first come along, to save it a round trip. */
static void put_stop(struct rv_gdb_stub *s, unsigned signal, const char *reason) {
    struct rv_gdb_cpu cpu;
    rv_gdb_state(rv_timeline_machine(s->t), &cpu);
    struct rv_gdb_numbers n = rv_gdb_numbers(s->layout);
    const unsigned numbers[] = {n.bp, n.sp, n.pc};
    rv_buf_clear(&s->stop);
    rv_buf_printf(&s->stop, "T%02x", signal);
    for (unsigned i = 0; i < RV_COUNT(numbers); i++) {
        rv_buf_printf(&s->stop, "%02x:", numbers[i]);
        put_register(s, &cpu, numbers[i], &s->stop);
        rv_buf_put_u8(&s->stop, ';');
    }
    put_text(&s->stop, "thread:1;");
    put_text(&s->stop, reason);
}

enum { SIGNAL_INT = 2, SIGNAL_TRAP = 5 };

static void put_failure(struct rv_gdb_stub *s, const struct rv_err *err) {
    rv_gdb_say(s, "retro: %s\n", err->msg);
    put_stop(s, SIGNAL_INT, "");
}

/* Why a search stopped at a hit, for a stop reply. */
static void name_hit(struct rv_gdb_stub *s, const struct rv_watch_hit *hit,
                     const struct rv_gdb_search *q, char *reason, size_t size) {
    static const char *const names[RV_GDB_POINT_TYPES] = {
        [RV_GDB_WRITE] = "watch", [RV_GDB_READ] = "rwatch", [RV_GDB_ACCESS] = "awatch"};
    const struct rv_gdb_point *p;
    if (hit->access != RV_WATCH_EXEC) {
        p = rv_gdb_search_watch(q, hit);
        if (p) snprintf(reason, size, "%s:%llx;", names[p->type], (unsigned long long)p->addr);
    } else if (s->swbreak) {
        p = rv_gdb_points_break(q->points, s->layout, rv_timeline_machine(s->t), hit->gva);
        snprintf(reason, size, "%s", p && p->type == RV_GDB_HARDWARE ? "hwbreak:;" : "swbreak:;");
    }
}

/* q: the search that arrived; NULL after a step. */
static void put_arrival(struct rv_gdb_stub *s, const struct rv_arrival *a,
                        const struct rv_gdb_search *q) {
    char reason[64] = "";
    unsigned signal = SIGNAL_TRAP;
    switch (a->at) {
    case RV_AT_START: snprintf(reason, sizeof reason, "replaylog:begin;"); break;
    case RV_AT_END:
        if (!rv_timeline_branched(s->t)) snprintf(reason, sizeof reason, "replaylog:end;");
        break;
    case RV_AT_INTERRUPT: signal = SIGNAL_INT; break;
    case RV_AT_HIT:
        if (q) name_hit(s, &a->hit, q, reason, sizeof reason);
        break;
    case RV_AT_TARGET: break;
    }
    put_stop(s, signal, reason);
}

static void resume(struct rv_gdb_stub *s, bool forward) {
    struct rv_gdb_search q;
    struct rv_arrival a;
    struct rv_err err = {0};
    rv_gdb_search_begin(&q, &s->points, s->layout, rv_timeline_machine(s->t));
    int r = (forward ? rv_timeline_run : rv_timeline_run_back)(s->t, &q.search, &a, &err);
    if (r)
        put_failure(s, &err);
    else
        put_arrival(s, &a, &q);
    rv_gdb_search_end(&q);
}

static void step(struct rv_gdb_stub *s, bool forward) {
    struct rv_arrival a;
    struct rv_err err = {0};
    int r = (forward ? rv_timeline_step : rv_timeline_step_back)(s->t, &a, &err);
    if (r)
        put_failure(s, &err);
    else
        put_arrival(s, &a, NULL);
}

/* Steps while the instruction pointer stays in [from, to), or until a breakpoint. */
static void step_range(struct rv_gdb_stub *s, uint64_t from, uint64_t to) {
    struct rv_machine *m = rv_timeline_machine(s->t);
    struct rv_arrival a;
    struct rv_err err = {0};
    for (;;) {
        if (rv_timeline_step(s->t, &a, &err)) {
            put_failure(s, &err);
            return;
        }
        struct rv_gdb_cpu cpu;
        rv_gdb_state(m, &cpu);
        uint64_t pc = rv_gdb_pc(&cpu.x);
        if (a.at != RV_AT_TARGET || pc < from || pc >= to ||
            rv_gdb_points_break(&s->points, s->layout, m, pc))
            break;
    }
    put_arrival(s, &a, NULL);
}

static void put_last_stop(struct rv_gdb_stub *s, struct rv_buf *reply) {
    rv_buf_put(reply, s->stop.data, s->stop.len);
}

/* ---- registers and memory ---- */

static void refuse_change(struct rv_buf *reply) {
    put_text(reply, "E.history cannot be changed; monitor branch tries things out on a branch");
}

static void read_registers(struct rv_gdb_stub *s, struct rv_buf *reply) {
    struct rv_gdb_cpu cpu;
    rv_gdb_state(rv_timeline_machine(s->t), &cpu);
    for (unsigned n = 0; n < rv_gdb_register_count(s->layout); n++) put_register(s, &cpu, n, reply);
}

static void read_register(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    uint64_t n;
    struct rv_gdb_cpu cpu;
    if (!rv_gdb_get_number(&p, &n) || n > 1000 || !rv_gdb_register_size(s->layout, (unsigned)n)) {
        put_text(reply, "E16");
        return;
    }
    rv_gdb_state(rv_timeline_machine(s->t), &cpu);
    put_register(s, &cpu, (unsigned)n, reply);
}

static bool set_state(struct rv_gdb_stub *s, const struct rv_x86 *x) {
    struct rv_engine *e = rv_machine_engine(rv_timeline_machine(s->t));
    return e->ops->restore(e, x, NULL) == 0;
}

static void write_registers(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    if (!rv_timeline_branched(s->t)) {
        refuse_change(reply);
        return;
    }
    struct rv_gdb_cpu cpu;
    rv_gdb_state(rv_timeline_machine(s->t), &cpu);
    for (unsigned n = 0; n < rv_gdb_register_count(s->layout); n++) {
        uint8_t bytes[16] = {0};
        if (!rv_gdb_get_hex(&p, bytes, rv_gdb_register_size(s->layout, n))) break;
        /* All are sent though few change: those that cannot are passed over. */
        rv_gdb_register_set(s->layout, n, &cpu.x, bytes);
    }
    put_text(reply, set_state(s, &cpu.x) ? "OK" : "E16");
}

static void write_register(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    uint64_t n;
    uint8_t bytes[16] = {0};
    if (!rv_timeline_branched(s->t)) {
        refuse_change(reply);
        return;
    }
    struct rv_gdb_cpu cpu;
    rv_gdb_state(rv_timeline_machine(s->t), &cpu);
    bool ok = rv_gdb_get_number(&p, &n) && n < 1000 && rv_gdb_skip(&p, "=") &&
              rv_gdb_register_size(s->layout, (unsigned)n) &&
              rv_gdb_get_hex(&p, bytes, rv_gdb_register_size(s->layout, (unsigned)n));
    if (!ok)
        put_text(reply, "E16");
    else if (!rv_gdb_register_set(s->layout, (unsigned)n, &cpu.x, bytes))
        put_text(reply, "E.this register cannot be changed");
    else
        put_text(reply, set_state(s, &cpu.x) ? "OK" : "E16");
}

static bool get_range(const char **p, uint64_t *addr, uint64_t *len) {
    return rv_gdb_get_number(p, addr) && rv_gdb_skip(p, ",") && rv_gdb_get_number(p, len);
}

static void read_memory(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    uint64_t addr, len;
    if (!get_range(&p, &addr, &len)) {
        put_text(reply, "E16");
        return;
    }
    if (len > RV_GDB_PACKET_MAX / 2) len = RV_GDB_PACKET_MAX / 2;
    uint8_t *buf = rv_alloc(len);
    size_t got = rv_gdb_read(rv_timeline_machine(s->t), s->physical, addr, buf, len);
    if (got || !len)
        rv_gdb_put_hex(reply, buf, got);
    else
        put_text(reply, "E14");
    free(buf);
}

static void write_memory(struct rv_gdb_stub *s, const char *p, const char *end, bool binary,
                         struct rv_buf *reply) {
    uint64_t addr, len;
    if (!get_range(&p, &addr, &len) || !rv_gdb_skip(&p, ":") || len > RV_GDB_PACKET_MAX) {
        put_text(reply, "E16");
        return;
    }
    if (!rv_timeline_branched(s->t) && len) {
        refuse_change(reply);
        return;
    }
    uint8_t *buf = rv_alloc(len);
    bool ok;
    if (binary) {
        ok = (size_t)(end - p) >= len;
        if (ok) memcpy(buf, p, len);
    } else {
        ok = rv_gdb_get_hex(&p, buf, len);
    }
    ok = ok && rv_gdb_write(rv_timeline_machine(s->t), s->physical, addr, buf, len) == len;
    put_text(reply, ok ? "OK" : "E14");
    free(buf);
}

/* ---- breakpoints ---- */

/* ";X<len>,<hex>;..." behind a breakpoint. */
static bool get_conditions(const char *p, struct rv_gdb_point *point) {
    while (*p) {
        if (!rv_gdb_skip(&p, ";")) return false;
        if (rv_gdb_skip(&p, "cmds:")) return true; /* not announced; nothing to do with them */
        uint64_t n;
        if (!rv_gdb_skip(&p, "X")) return false;
        for (;;) {
            if (!rv_gdb_get_number(&p, &n) || !rv_gdb_skip(&p, ",") || n > RV_GDB_PACKET_MAX)
                return false;
            point->condition =
                rv_realloc(point->condition, (point->conditions + 1) * sizeof *point->condition);
            struct rv_gdb_condition *c = &point->condition[point->conditions++];
            *c = (struct rv_gdb_condition){rv_alloc(n), n};
            if (!rv_gdb_get_hex(&p, c->code, n)) return false;
            if (!rv_gdb_skip(&p, "X")) break;
        }
    }
    return true;
}

static void point_packet(struct rv_gdb_stub *s, bool insert, const char *p, struct rv_buf *reply) {
    uint64_t type, addr, len;
    if (!rv_gdb_get_number(&p, &type) || type >= RV_GDB_POINT_TYPES) return; /* not known */
    if (!rv_gdb_skip(&p, ",") || !get_range(&p, &addr, &len)) {
        put_text(reply, "E16");
        return;
    }
    struct rv_gdb_point point = {.type = (enum rv_gdb_point_type)type,
                                 .addr = addr,
                                 .len = len ? len : 1,
                                 .physical = s->physical};
    /* Each page of a range is looked for by itself. */
    bool ok = point.len <= RV_RAM_MAX >> RV_PAGE_SHIFT && s->points.n < 65536;
    if (insert) ok = ok && get_conditions(p, &point);
    if (insert && ok) {
        rv_gdb_points_insert(&s->points, &point);
    } else if (insert) {
        struct rv_gdb_points gone = {0};
        rv_gdb_points_insert(&gone, &point);
        rv_gdb_points_clear(&gone);
    } else {
        rv_gdb_points_remove(&s->points, point.type, addr, point.len);
    }
    put_text(reply, ok ? "OK" : "E16");
}

/* ---- queries ---- */

static void put_part(struct rv_buf *reply, const char *p, const struct rv_buf *whole) {
    uint64_t from, len;
    if (!get_range(&p, &from, &len)) {
        put_text(reply, "E16");
        return;
    }
    if (from > whole->len) from = whole->len;
    if (len > RV_GDB_PACKET_MAX / 2) len = RV_GDB_PACKET_MAX / 2;
    bool last = len >= whole->len - from;
    if (last) len = whole->len - from;
    rv_buf_put_u8(reply, last ? 'l' : 'm');
    rv_gdb_put_binary(reply, whole->data + from, len);
}

static const char *mode_of(const struct rv_x86 *x) {
    if (!(x->cr0 & RV_CR0_PE)) return "real mode";
    if (x->rflags & RV_FL_VM) return "virtual-8086 mode";
    if ((x->efer & RV_EFER_LMA) && (x->seg[RV_CS].attr & RV_SEG_L)) return "64-bit mode";
    return x->seg[RV_CS].attr & RV_SEG_DB ? "32-bit mode" : "16-bit protected mode";
}

static int describe_thread(struct rv_gdb_stub *s, char *text, size_t size) {
    struct rv_gdb_cpu cpu;
    rv_gdb_state(rv_timeline_machine(s->t), &cpu);
    return snprintf(text, size, "%s, ring %u%s", mode_of(&cpu.x), cpu.x.seg[RV_CS].sel & 3u,
                    cpu.x.halted ? ", halted" : "");
}

static void thread_info(struct rv_gdb_stub *s, struct rv_buf *reply) {
    char text[80];
    rv_gdb_put_hex(reply, text, (size_t)describe_thread(s, text, sizeof text));
}

static void transfer(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    struct rv_buf whole = {0};
    if (rv_gdb_skip(&p, "features:read:target.xml:")) {
        rv_gdb_describe(s->layout, &whole);
    } else if (rv_gdb_skip(&p, "threads:read::")) {
        char text[80];
        describe_thread(s, text, sizeof text);
        rv_buf_printf(&whole,
                      "<?xml version=\"1.0\"?><threads><thread id=\"1\" core=\"0\" "
                      "name=\"CPU 0\">%s</thread></threads>",
                      text);
    } else if (rv_gdb_skip(&p, "memory-map:read::")) {
        put_text(&whole, "<?xml version=\"1.0\"?><!DOCTYPE memory-map PUBLIC "
                         "\"+//IDN gnu.org//DTD GDB Memory Map V1.0//EN\" "
                         "\"http://sourceware.org/gdb/gdb-memory-map.dtd\"><memory-map>");
        rv_buf_printf(&whole, "<memory type=\"ram\" start=\"0x0\" length=\"0x%llx\"/></memory-map>",
                      s->layout.view == RV_GDB_VIEW_64 ? ~0ull : 1ull << 32);
    } else {
        return;
    }
    put_part(reply, p, &whole);
    rv_buf_release(&whole);
}

static void command(struct rv_gdb_stub *s, const char *p, const char *end, struct rv_buf *reply) {
    size_t n = (size_t)(end - p) / 2;
    char *line = rv_alloc(n + 1);
    if (rv_gdb_get_hex(&p, line, n)) {
        rv_gdb_monitor(s, line);
        put_text(reply, "OK");
    } else {
        put_text(reply, "E16");
    }
    free(line);
}

static void supported(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    s->swbreak = strstr(p, "swbreak+") != NULL;
    rv_buf_printf(reply,
                  "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;"
                  "qXfer:memory-map:read+;ReverseStep+;ReverseContinue+;swbreak+;hwbreak+;"
                  "ConditionalBreakpoints+;vContSupported+",
                  RV_GDB_PACKET_MAX);
}

static void query(struct rv_gdb_stub *s, const char *p, const char *end, struct rv_buf *reply) {
    if (rv_gdb_skip(&p, "Supported"))
        supported(s, p, reply);
    else if (rv_gdb_skip(&p, "Xfer:"))
        transfer(s, p, reply);
    else if (rv_gdb_skip(&p, "Rcmd,"))
        command(s, p, end, reply);
    else if (rv_gdb_skip(&p, "ThreadExtraInfo,"))
        thread_info(s, reply);
    else if (strcmp(p, "fThreadInfo") == 0)
        put_text(reply, "m1");
    else if (strcmp(p, "sThreadInfo") == 0)
        put_text(reply, "l");
    else if (strcmp(p, "C") == 0)
        put_text(reply, "QC1");
    else if (rv_gdb_skip(&p, "Attached"))
        put_text(reply, "1");
    else if (rv_gdb_skip(&p, "Symbol:"))
        put_text(reply, "OK");
    else if (strcmp(p, "qemu.PhyMemMode") == 0)
        put_text(reply, s->physical ? "1" : "0");
}

/* ---- the packets ---- */

static void restart(struct rv_gdb_stub *s) {
    struct rv_arrival a;
    struct rv_err err = {0};
    int r = rv_timeline_branched(s->t) ? rv_timeline_unbranch(s->t, &err) : 0;
    if (!r) r = rv_timeline_seek(s->t, (struct rv_moment){0, 0}, &a, &err);
    if (r)
        put_failure(s, &err);
    else
        put_stop(s, SIGNAL_TRAP, "");
}

static enum rv_gdb_then v_packet(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    if (strcmp(p, "Cont?") == 0) {
        put_text(reply, "vCont;c;C;s;S;r");
    } else if (rv_gdb_skip(&p, "Cont;")) {
        uint64_t from, to;
        char action = *p;
        if (action == 'c' || action == 'C') {
            resume(s, true);
        } else if (action == 's' || action == 'S') {
            step(s, true);
        } else if (action == 'r' && rv_gdb_skip(&p, "r") && get_range(&p, &from, &to)) {
            step_range(s, from, to);
        } else {
            put_text(reply, "E16");
            return RV_GDB_REPLY;
        }
        put_last_stop(s, reply);
    } else if (rv_gdb_skip(&p, "Run;")) {
        restart(s);
        put_last_stop(s, reply);
    } else if (rv_gdb_skip(&p, "Kill")) {
        put_text(reply, "OK");
    }
    return RV_GDB_REPLY;
}

static enum rv_gdb_then backward(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    if (*p == 's')
        step(s, false);
    else if (*p == 'c')
        resume(s, false);
    else
        return RV_GDB_REPLY;
    put_last_stop(s, reply);
    return RV_GDB_REPLY;
}

static enum rv_gdb_then set_packet(struct rv_gdb_stub *s, const char *p, struct rv_buf *reply) {
    if (strcmp(p, "StartNoAckMode") == 0) {
        put_text(reply, "OK");
        return RV_GDB_NO_ACK;
    }
    if (rv_gdb_skip(&p, "qemu.PhyMemMode:")) {
        s->physical = *p == '1';
        put_text(reply, "OK");
    }
    return RV_GDB_REPLY;
}

enum rv_gdb_then rv_gdb_handle(struct rv_gdb_stub *s, const char *packet, size_t n,
                               struct rv_buf *reply, rv_gdb_print print, void *ctx) {
    const char *p = packet + 1, *end = packet + n;
    s->print = print;
    s->ctx = ctx;
    switch (*packet) {
    case '?':
        if (!s->stop.len) put_stop(s, SIGNAL_TRAP, "");
        put_last_stop(s, reply);
        return RV_GDB_REPLY;
    case 'g': read_registers(s, reply); return RV_GDB_REPLY;
    case 'G': write_registers(s, p, reply); return RV_GDB_REPLY;
    case 'p': read_register(s, p, reply); return RV_GDB_REPLY;
    case 'P': write_register(s, p, reply); return RV_GDB_REPLY;
    case 'm': read_memory(s, p, reply); return RV_GDB_REPLY;
    case 'M': write_memory(s, p, end, false, reply); return RV_GDB_REPLY;
    case 'X': write_memory(s, p, end, true, reply); return RV_GDB_REPLY;
    case 'Z': point_packet(s, true, p, reply); return RV_GDB_REPLY;
    case 'z': point_packet(s, false, p, reply); return RV_GDB_REPLY;
    case 'c':
    case 'C':
        resume(s, true);
        put_last_stop(s, reply);
        return RV_GDB_REPLY;
    case 's':
    case 'S':
        step(s, true);
        put_last_stop(s, reply);
        return RV_GDB_REPLY;
    case 'b': return backward(s, p, reply);
    case 'q': query(s, p, end, reply); return RV_GDB_REPLY;
    case 'Q': return set_packet(s, p, reply);
    case 'v': return v_packet(s, p, reply);
    case 'H':
    case 'T':
    case '!': put_text(reply, "OK"); return RV_GDB_REPLY;
    case 'R': restart(s); return RV_GDB_SILENT;
    case 'D': put_text(reply, "OK"); return RV_GDB_BYE;
    case 'k': return RV_GDB_BYE;
    default: return RV_GDB_REPLY;
    }
}
