/* retro query calls: each call of a function, with arguments and result.
 *
 * Two passes: the first sees every entry and where it returns to; the second sees the returns,
 * which belong to the entry in the same thread with the same stack. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/proto.h"
#include "tools/analysis/syscall.h"
#include "tools/query.h"
#include "vmm/base/buf.h"

#define MAX_CALLS   (4u << 20)
#define MAX_RETURNS 4096 /* places that a function returns to */

struct call {
    rv_icount at, end; /* end RV_NEVER: it did not return */
    rv_ns time, end_time;
    uint64_t sp, from; /* stack pointer at entry; return address */
    uint64_t result;
    uint32_t tid, pid;
    uint64_t root; /* when threads are not known */
    char comm[16];
    char *args;
};

struct calls {
    struct retro_query *q;
    struct rv_proto proto;
    struct call *call;
    size_t n, room;
    uint64_t *ret; /* sorted return addresses */
    size_t rets;
    bool full;
};

/* ---- entries ---- */

static size_t read_view(void *ctx, uint64_t va, void *out, size_t len) {
    return rv_view_read(ctx, va, out, len);
}

static void put_value(struct rv_buf *out, const struct rv_proto_value *p, uint64_t v,
                      struct rv_view *view) {
    struct rv_syscall_memory m = {read_view, view};
    unsigned bits = p->size && p->size < 8 ? 8 * p->size : 64;
    uint64_t low = bits == 64 ? v : v & ((1ull << bits) - 1);
    switch (p->kind) {
    case RV_PROTO_SIGNED: {
        int64_t s = (int64_t)(low << (64 - bits)) >> (64 - bits);
        rv_buf_printf(out, "%" PRId64, s);
        break;
    }
    case RV_PROTO_BOOL: rv_buf_printf(out, "%s", low & 1 ? "true" : "false"); break;
    case RV_PROTO_UNSIGNED: rv_buf_printf(out, "%" PRIu64, low); break;
    case RV_PROTO_STRING: rv_put_string(out, v, &m); break;
    default: rv_buf_printf(out, v ? "0x%" PRIx64 : "NULL", v);
    }
}

static void on_note(void *ctx, struct rv_machine *m, struct rv_access *a, struct rv_buf *out) {
    static const uint8_t reg[6] = {RV_RDI, RV_RSI, RV_RDX, RV_RCX, RV_R8, RV_R9};
    const struct calls *c = ctx;
    struct rv_view view;
    rv_view_of(&view, m);
    for (unsigned i = 0; i < c->proto.n && i < 6; i++) {
        const struct rv_proto_value *p = &c->proto.param[i];
        rv_buf_printf(out, "%s%s%s", i ? ", " : "", p->name, *p->name ? "=" : "");
        put_value(out, p, a->gpr[reg[i]], &view);
    }
    if (c->proto.n > 6) rv_buf_printf(out, ", ...");
}

static int on_entry(void *ctx, const struct rv_access *a, struct rv_err *err) {
    struct calls *c = ctx;
    (void)err;
    if (c->n == c->room) {
        c->room = c->room ? 2 * c->room : 256;
        c->call = rv_realloc(c->call, c->room * sizeof *c->call);
    }
    struct call *k = &c->call[c->n++];
    *k = (struct call){.at = a->before.icount,
                       .time = a->time,
                       .end = RV_NEVER,
                       .sp = a->gpr[RV_RSP],
                       .from = a->stack[0],
                       .tid = a->tid,
                       .pid = a->pid,
                       .root = a->known ? 0 : a->root,
                       .args = rv_strdup(a->text)};
    memcpy(k->comm, a->comm, sizeof k->comm);
    c->full = c->n == MAX_CALLS;
    return c->full || (c->q->limit && c->n == c->q->limit);
}

/* ---- returns ---- */

static int on_return(void *ctx, const struct rv_access *a, struct rv_err *err) {
    struct calls *c = ctx;
    uint64_t root = a->known ? 0 : a->root;
    (void)err;
    /* The last call before, of this thread, whose frame was just left. */
    size_t lo = 0, hi = c->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->call[mid].at < a->before.icount)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (size_t i = lo, looks = 100000; i-- > 0 && looks--;) {
        struct call *k = &c->call[i];
        if (k->end != RV_NEVER || k->tid != a->tid || k->root != root || k->from != a->va ||
            k->sp + 8 != a->gpr[RV_RSP])
            continue;
        k->end = a->before.icount;
        k->end_time = a->time;
        k->result = a->gpr[RV_RAX];
        break;
    }
    return 0;
}

static int by_value(const void *pa, const void *pb) {
    const uint64_t *a = pa, *b = pb;
    return *a < *b ? -1 : *a > *b;
}

static void list_returns(struct calls *c) {
    c->ret = rv_alloc((c->n + 1) * sizeof *c->ret);
    for (size_t i = 0; i < c->n; i++) c->ret[i] = c->call[i].from;
    qsort(c->ret, c->n, sizeof *c->ret, by_value);
    for (size_t i = 0; i < c->n; i++)
        if (!i || c->ret[i] != c->ret[i - 1]) c->ret[c->rets++] = c->ret[i];
    if (c->rets > MAX_RETURNS) c->rets = MAX_RETURNS;
}

static int find_returns(struct calls *c, const struct rv_query *entries, struct rv_err *err) {
    struct retro_query *q = c->q;
    list_returns(c);
    /* Where it returns to is in the same program, or the kernel. */
    struct rv_target target = {.span = rv_alloc((c->rets + 1) * sizeof *target.span)};
    struct rv_query query = *entries;
    for (size_t i = 0; i < c->rets; i++) {
        rv_gpa pa;
        struct rv_span one = {.va = c->ret[i], .len = 1, .linear = true};
        if (!(c->ret[i] >> 47) || !rv_look_translate(&q->look, c->ret[i], &pa) ||
            rv_ram_offset(q->look.cpu.ram, pa) == UINT64_MAX) {
            target.span[target.n++] = one;
            continue;
        }
        one.gpa = pa;
        one.linear = false;
        target.span[target.n++] = one;
    }
    query.target = &target;
    query.at = c->ret;
    query.at_n = c->rets;
    query.note = NULL;
    query.each = on_return;
    int r = target.n ? rv_query_run(&query, &q->upto, &q->interrupted, err) : 0;
    rv_target_release(&target);
    return r;
}

/* ---- showing ---- */

static void print_json(const struct calls *c, const struct call *k, const char *name) {
    json_t *o = json_object();
    json_object_set_new(o, "position", json_integer((json_int_t)k->at));
    json_object_set_new(o, "time", json_integer((json_int_t)k->time));
    json_object_set_new(o, "pid", json_integer(k->pid));
    json_object_set_new(o, "tid", json_integer(k->tid));
    json_object_set_new(o, "comm", retro_json_utf8z(k->comm));
    json_object_set_new(o, "function", retro_json_utf8z(name));
    json_object_set_new(o, "args", retro_json_utf8z(k->args));
    json_object_set_new(o, "caller", retro_json_hex(k->from));
    if (k->end != RV_NEVER) {
        json_object_set_new(o, "end", json_integer((json_int_t)k->end));
        json_object_set_new(o, "end_time", json_integer((json_int_t)k->end_time));
        if (!c->proto.known || c->proto.result.kind != RV_PROTO_VOID)
            json_object_set_new(o, "result", retro_json_hex(k->result));
    }
    retro_json_put(stdout, o, RETRO_JSON_LINE);
}

static void print_human(const struct calls *c, const struct call *k, const char *name) {
    printf("%16" PRIu64 " %14.6f %5u ", k->at, retro_seconds(k->time), k->tid);
    retro_print_text(stdout, (const uint8_t *)k->comm, strlen(k->comm));
    printf(": ");
    retro_print_text(stdout, (const uint8_t *)name, strlen(name));
    printf("(%s)", k->args);
    if (k->end == RV_NEVER) {
        printf(" did not return");
    } else if (!c->proto.known || c->proto.result.kind != RV_PROTO_VOID) {
        struct rv_buf text = {0};
        struct rv_proto_value value = c->proto.result;
        if (!c->proto.known || value.kind == RV_PROTO_STRING) value.kind = RV_PROTO_POINTER;
        put_value(&text, &value, k->result, NULL);
        printf(" = %.*s", (int)text.len, (const char *)text.data);
        rv_buf_release(&text);
    }
    if (k->end != RV_NEVER) {
        char n[32];
        printf(" <%s instructions>", retro_group(k->end - k->at, n));
    }
    printf(" from 0x%" PRIx64, k->from);
    retro_show_name(&c->q->look, k->from);
    putchar('\n');
}

int retro_query_calls(struct retro_query *q, struct rv_err *err) {
    struct calls c = {.q = q};
    uint64_t addr, size;
    struct rv_target target = {0};
    struct rv_place place;
    int r = rv_look_resolve(&q->look, q->address, &addr, &size, err);
    if (!r) r = rv_target_of(&target, &q->look, addr, 1, q->physical, err);
    if (r) return r;
    rv_look_place(&q->look, addr, &place);
    const char *name = place.symbol && !place.offset ? place.symbol : q->address;
    rv_proto_find(&c.proto, &q->look, name, q->ask.symbols, q->ask.symbol_files);
    struct rv_query query = {.timeline = q->ask.timeline,
                             .kernel = rv_guest_linux(q->guest),
                             .target = &target,
                             .access = RV_WATCH_EXEC,
                             .from = q->first.icount,
                             .to = q->last.icount,
                             .pid = q->process,
                             .note = on_note,
                             .each = on_entry,
                             .progress = NULL,
                             .ctx = &c};
    r = rv_query_run(&query, &q->upto, &q->interrupted, err);
    if (!r && !q->interrupted) r = find_returns(&c, &query, err);
    retro_ask_quiet(&q->ask);
    for (size_t i = 0; !r && i < c.n && !ferror(stdout); i++)
        if (q->ask.json)
            print_json(&c, &c.call[i], name);
        else
            print_human(&c, &c.call[i], name);
    if (!r && !q->ask.quiet) {
        if (!c.proto.known)
            fprintf(stderr, "retro: how %s is declared is not known; six registers are shown\n",
                    name);
        if (!c.n && !q->interrupted) fprintf(stderr, "retro: %s was not called\n", name);
        if (c.full) fprintf(stderr, "retro: only the first %u calls; see --from\n", MAX_CALLS);
    }
    for (size_t i = 0; i < c.n; i++) free(c.call[i].args);
    free(c.call);
    free(c.ret);
    rv_target_release(&target);
    return r;
}
