/* retro query */
#include "tools/query.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

enum { OPT_AT = RETRO_ASK_OWN, OPT_FROM, OPT_TO, OPT_PROCESS, OPT_PHYSICAL, OPT_LIMIT };

static const struct option options[] = {
    {"at", required_argument, NULL, OPT_AT},
    {"from", required_argument, NULL, OPT_FROM},
    {"to", required_argument, NULL, OPT_TO},
    {"process", required_argument, NULL, OPT_PROCESS},
    {"physical", no_argument, NULL, OPT_PHYSICAL},
    {"limit", required_argument, NULL, OPT_LIMIT},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

enum what { LAST_WRITE, NEXT_WRITE, READS, WRITES, EXECUTIONS, CALLS, WHATS };
static const char *const whats[WHATS] = {"last-write", "next-write", "reads",
                                         "writes",     "executions", "calls"};

static int parse(int argc, char **argv, struct retro_query *q, enum what *what) {
    const struct retro_command *cmd = &retro_cmd_query;
    *q = (struct retro_query){0};
    retro_ask_init(&q->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_AT: q->at = optarg; break;
        case OPT_FROM: q->from = optarg; break;
        case OPT_TO: q->to = optarg; break;
        case OPT_PROCESS: status = retro_ask_process(cmd, optarg, &q->process); break;
        case OPT_PHYSICAL: q->physical = true; break;
        case OPT_LIMIT:
            if (!retro_parse_count(optarg, &q->limit) || !q->limit)
                return retro_usage(cmd, "--limit %s is not a count", optarg);
            break;
        default: status = retro_ask_option(&q->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (argc - optind != 3)
        return retro_usage(cmd, "query takes a question, a trace and an address");
    const char *text = argv[optind];
    unsigned k = 0;
    while (k < WHATS && strcmp(text, whats[k]) != 0) k++;
    if (k == WHATS)
        return retro_usage(cmd,
                           "%s is none of last-write, next-write, reads, writes, executions, "
                           "calls",
                           text);
    *what = (enum what)k;
    q->path = argv[optind + 1];
    q->address = argv[optind + 2];
    if (k <= NEXT_WRITE && (q->from || q->to))
        return retro_usage(cmd, "%s takes --at, not --from and --to", text);
    return RETRO_OK;
}

int retro_query_more(struct retro_query *q) {
    q->shown++;
    return (q->limit && q->shown == q->limit) || ferror(stdout);
}

bool retro_query_progress(void *query, rv_icount done, rv_icount total) {
    struct retro_query *q = query;
    retro_ask_progress(&q->ask, done, total);
    return false;
}

/* ADDRESS+LEN: what follows + is a length where no symbol gives one another meaning. */
static int range(struct retro_query *q, uint64_t *addr, uint64_t *len, struct rv_err *err) {
    char text[256];
    uint64_t size;
    const char *comma = strrchr(q->address, ',');
    *len = 0;
    snprintf(text, sizeof text, "%s", q->address);
    if (comma && (size_t)(comma - q->address) < sizeof text) {
        text[comma - q->address] = 0;
        if (!retro_parse_size(comma + 1, len) || !*len)
            return rv_fail(err, RV_E_USAGE, "%s: what follows the comma is not a length",
                           q->address);
    } else {
        char *plus = strchr(text, '+');
        char *end;
        (void)strtoull(text, &end, 0);
        if (plus && end == plus) { /* a number */
            *plus = 0;
            if (!retro_parse_size(plus + 1, len) || !*len) *len = strtoull(plus + 1, NULL, 0);
            if (!*len)
                return rv_fail(err, RV_E_USAGE, "%s: what follows + is not a length", q->address);
        }
    }
    int r = rv_look_resolve(&q->look, text, addr, &size, err);
    if (!r && !*len) *len = size && size <= 4096 ? size : 8;
    return r;
}

/* ---- one write ---- */

static void bytes_text(const uint8_t *bytes, size_t n, char *out, size_t size) {
    *out = 0;
    for (size_t i = 0; i < n && 3 * i + 4 < size; i++)
        snprintf(out + 3 * i, size - 3 * i, "%02x ", bytes[i]);
    size_t len = strlen(out);
    if (len) out[len - 1] = 0;
}

static uint64_t number_of(const uint8_t *bytes, size_t n) {
    uint64_t v = 0;
    memcpy(&v, bytes, n < 8 ? n : 8);
    return v;
}

int retro_query_show_write(struct retro_query *q, const struct rv_watch_hit *hit,
                           struct rv_err *err) {
    struct rv_timeline *t = q->ask.timeline;
    struct rv_arrival a;
    struct rv_look look = {0};
    uint8_t old[64] = {0}, new[64] = {0};
    size_t n = hit->size < sizeof old ? hit->size : sizeof old;
    char text[200], number[32];
    int r = rv_timeline_seek(t, hit->after, &a, err);
    if (r) return r;
    const struct rv_ram *ram = rv_machine_ram(rv_timeline_machine(t));
    rv_ram_read(ram, hit->gpa, new, n);
    r = rv_timeline_seek(t, hit->before, &a, err);
    if (!r) r = rv_look_at(&look, q->guest, rv_timeline_machine(t), 0, err);
    if (r) return r;
    rv_ram_read(ram, hit->gpa, old, n);
    retro_ask_quiet(&q->ask);
    if (q->ask.json) {
        json_t *o = retro_json_where(t, &look);
        json_object_set_new(o, "physical", retro_json_hex(hit->gpa));
        if (hit->gva != UINT64_MAX) json_object_set_new(o, "address", retro_json_hex(hit->gva));
        json_object_set_new(o, "size", json_integer(hit->size));
        bytes_text(old, n, text, sizeof text);
        json_object_set_new(o, "old", json_string(text));
        bytes_text(new, n, text, sizeof text);
        json_object_set_new(o, "new", json_string(text));
        retro_instruction(&look, rv_view_pc(&look.cpu), text, sizeof text);
        json_object_set_new(o, "instruction", json_string(text));
        json_object_set_new(o, "backtrace", retro_json_stack(&look));
        retro_json_put(stdout, o, JSON_INDENT(2));
    } else {
        retro_show_where(t, &look);
        printf("address   ");
        if (hit->gva != UINT64_MAX) printf("0x%" PRIx64 ", ", hit->gva);
        printf("physical 0x%" PRIx64 ", %u bytes\n", hit->gpa, hit->size);
        bytes_text(old, n, text, sizeof text);
        printf("old       %s", text);
        if (n <= 8) printf("  (%s)", retro_group(number_of(old, n), number));
        bytes_text(new, n, text, sizeof text);
        printf("\nnew       %s", text);
        if (n <= 8) printf("  (%s)", retro_group(number_of(new, n), number));
        putchar('\n');
        retro_show_code(&look, rv_view_pc(&look.cpu), 1);
        puts("\nbacktrace");
        retro_show_stack(&look);
    }
    rv_look_release(&look);
    return 0;
}

int retro_query_write(struct retro_query *q, bool next, struct rv_err *err) {
    uint64_t addr = 0, len = 0;
    struct rv_target target;
    struct rv_watch_hit hit;
    bool found, interrupted;
    int r = range(q, &addr, &len, err);
    if (!r) r = rv_target_of(&target, &q->look, addr, len, q->physical, err);
    if (r) return r;
    r = rv_query_write(q->ask.timeline, &target, next, &hit, &found, &interrupted, err);
    rv_target_release(&target);
    if (r) return r;
    if (interrupted) return rv_fail(err, RV_E_INTERRUPTED, "interrupted");
    if (!found)
        return rv_fail(err, RV_E_USAGE, "nothing writes to 0x%" PRIx64 " (%" PRIu64 " bytes) %s",
                       addr, len,
                       next ? "after that position"
                            : "before that position: it is as it was when the machine was made");
    return retro_query_show_write(q, &hit, err);
}

/* ---- all accesses ---- */

static const char *verb(enum rv_watch_access what) {
    return what == RV_WATCH_WRITE ? "write" : what == RV_WATCH_READ ? "read" : "run";
}

static void print_human(struct retro_query *q, const struct rv_access *a) {
    printf("%16" PRIu64 " %14.6f %-5s ", a->before.icount, retro_seconds(a->time), verb(a->what));
    if (a->known) {
        printf("%5u ", a->tid);
        retro_print_text(stdout, (const uint8_t *)a->comm, strlen(a->comm));
    } else {
        printf("    -");
    }
    printf("  0x%" PRIx64, a->rip);
    /* Names of programs are those of the process that was looked at. */
    if (!a->user || (a->known && a->pid == q->look.task.pid)) retro_show_name(&q->look, a->rip);
    if (a->size && a->size <= 8)
        printf("  = 0x%" PRIx64 " (%u bytes)", number_of(a->bytes, a->size), a->size);
    else if (a->size)
        printf("  (%u bytes)", a->size);
    putchar('\n');
}

static void print_json(const struct rv_access *a) {
    char text[64];
    json_t *o = json_object();
    json_object_set_new(o, "position", json_integer((json_int_t)a->before.icount));
    json_object_set_new(o, "delivered", json_integer(a->before.delivered));
    json_object_set_new(o, "time", json_integer((json_int_t)a->time));
    json_object_set_new(o, "access", json_string(verb(a->what)));
    if (a->known) {
        json_object_set_new(o, "pid", json_integer(a->pid));
        json_object_set_new(o, "tid", json_integer(a->tid));
        json_object_set_new(o, "comm", retro_json_utf8z(a->comm));
    }
    json_object_set_new(o, "user", json_boolean(a->user));
    json_object_set_new(o, "rip", retro_json_hex(a->rip));
    if (a->va != UINT64_MAX) json_object_set_new(o, "address", retro_json_hex(a->va));
    json_object_set_new(o, "physical", retro_json_hex(a->gpa));
    if (a->size) {
        bytes_text(a->bytes, a->size < sizeof a->bytes ? a->size : sizeof a->bytes, text,
                   sizeof text);
        json_object_set_new(o, "size", json_integer(a->size));
        json_object_set_new(o, "bytes", json_string(text));
    }
    retro_json_put(stdout, o, RETRO_JSON_LINE);
}

static int on_access(void *ctx, const struct rv_access *a, struct rv_err *err) {
    struct retro_query *q = ctx;
    (void)err;
    if (!q->shown) retro_ask_quiet(&q->ask);
    if (q->ask.json)
        print_json(a);
    else
        print_human(q, a);
    return retro_query_more(q);
}

int retro_query_accesses(struct retro_query *q, unsigned access, struct rv_err *err) {
    uint64_t addr = 0, len = 0;
    struct rv_target target;
    int r = range(q, &addr, &len, err);
    /* Of code it is the instruction there, not all that begin in the function. */
    if (!r && access == RV_WATCH_EXEC && !strchr(q->address, ',')) len = 1;
    if (!r) r = rv_target_of(&target, &q->look, addr, len, q->physical, err);
    if (r) return r;
    struct rv_query query = {.timeline = q->ask.timeline,
                             .kernel = rv_guest_linux(q->guest),
                             .target = &target,
                             .access = access,
                             .from = q->first.icount,
                             .to = q->last.icount,
                             .pid = q->process,
                             .each = on_access,
                             .progress = retro_query_progress,
                             .ctx = q};
    r = rv_query_run(&query, &q->upto, &q->interrupted, err);
    rv_target_release(&target);
    retro_ask_quiet(&q->ask);
    if (!r && !q->shown && !q->interrupted && !q->ask.quiet)
        fprintf(stderr, "retro: nothing of that between the two positions\n");
    return r;
}

/* ---- all ---- */

static int look_up(struct retro_query *q, struct rv_err *err) {
    q->first = (struct rv_moment){0, 0};
    q->last = (struct rv_moment){RV_NEVER, 0};
    int r = q->from ? retro_ask_position(&q->ask, q->from, &q->first, err) : 0;
    if (!r && q->to) r = retro_ask_position(&q->ask, q->to, &q->last, err);
    if (!r && q->to && q->last.icount < q->first.icount)
        return rv_fail(err, RV_E_USAGE, "--to lies before --from");
    if (!r) r = retro_ask_guest(&q->ask, &q->guest, err);
    return r ? r : retro_ask_look(&q->ask, q->guest, q->at, q->process, &q->look, err);
}

static int query_main(int argc, char **argv) {
    struct retro_query q;
    struct rv_err err = {0};
    enum what what = WHATS;
    int status = parse(argc, argv, &q, &what);
    if (status != RETRO_OK) return status;
    int r = retro_ask_open(&q.ask, q.path, "looking", &err);
    if (!r) r = look_up(&q, &err);
    if (!r) switch (what) {
        case LAST_WRITE:
        case NEXT_WRITE: r = retro_query_write(&q, what == NEXT_WRITE, &err); break;
        case READS: r = retro_query_accesses(&q, RV_WATCH_READ, &err); break;
        case WRITES: r = retro_query_accesses(&q, RV_WATCH_WRITE, &err); break;
        case EXECUTIONS: r = retro_query_accesses(&q, RV_WATCH_EXEC, &err); break;
        default: r = retro_query_calls(&q, &err);
        }
    if (!r && q.interrupted) status = retro_ask_interrupted(&q.ask, q.upto);
    rv_look_release(&q.look);
    rv_guest_free(q.guest);
    r = retro_ask_close(&q.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_query = {
    .name = "query",
    .brief = "ask who read, wrote, ran or called what, and when",
    .help =
        "Usage: retro query [OPTION]... QUESTION FILE ADDRESS\n"
        "Asks the whole history about a place. QUESTION is one of\n\n"
        "  last-write    who wrote there last before --at: with old and new bytes and the\n"
        "                call stack\n"
        "  next-write    who writes there next after --at\n"
        "  reads, writes every access, in order\n"
        "  executions    every time the instruction there runs\n"
        "  calls         every call of the function there, with arguments and result\n\n"
        "ADDRESS is a number or a symbol, which may have +NUMBER behind it, and a length:\n"
        "NUMBER+LENGTH or SYMBOL,LENGTH (default: the symbol's size, else 8 bytes). It is\n"
        "followed through the memory that stands behind it at --at.\n\n"
        "      --at POSITION    where ADDRESS is looked up (default: end)\n"
        "      --from POSITION  look from there on (default: start)\n"
        "      --to POSITION    look up to there (default: end)\n"
        "      --process PID    ADDRESS is in this process; only what it does counts\n"
        "      --physical       ADDRESS is a physical one\n"
        "      --limit N        only the first N results\n"
        "      --symbols FILE[@ADDRESS]\n"
        "                       ELF file with symbols; may be given several times\n" RETRO_ASK_HELP
        "\n"
        "Example: retro query last-write boot.retro jiffies\n",
    .main = query_main,
};
