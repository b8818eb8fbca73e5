/* retro events */
#include "tools/retro.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "trace-format/effect.h"
#include "trace-format/reader.h"

enum { OPT_FROM = 256, OPT_TO, OPT_JSON };

static const struct option options[] = {
    {"kind", required_argument, NULL, 'k'},
    {"from", required_argument, NULL, OPT_FROM},
    {"to", required_argument, NULL, OPT_TO},
    {"json", no_argument, NULL, OPT_JSON},
    {NULL, 0, NULL, 0},
};

struct args {
    bool json;
    uint32_t kind; /* 0: all */
    rv_icount from, to;
    const char *path;
};

static uint32_t kind_of(const char *name) {
    for (uint32_t k = 1; k < RV_TRACE_MAX_KINDS; k++)
        if (strcmp(name, rv_trace_kind_name(k)) == 0) return k;
    return 0;
}

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_events;
    *a = (struct args){.to = RV_NEVER};
    int opt;
    while ((opt = getopt_long(argc, argv, ":k:", options, NULL)) != -1) {
        switch (opt) {
        case 'k':
            a->kind = kind_of(optarg);
            if (!a->kind)
                return retro_usage(cmd,
                                   "--kind %s is none of input, jump, query, effect, digest, "
                                   "mark, trap, landmark, stop",
                                   optarg);
            break;
        case OPT_FROM:
            if (!retro_parse_position(optarg, &a->from))
                return retro_usage(cmd, "--from %s is not a position", optarg);
            break;
        case OPT_TO:
            if (!retro_parse_position(optarg, &a->to))
                return retro_usage(cmd, "--to %s is not a position", optarg);
            break;
        case OPT_JSON: a->json = true; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind + 1 != argc) return retro_usage(cmd, "events takes one trace");
    a->path = argv[optind];
    return RETRO_OK;
}

static void print_human(const struct rv_trace_event *ev) {
    printf("%16" PRIu64 " %14.6f  %-8s %-9s", ev->position, (double)ev->time / 1e9,
           rv_trace_kind_name(ev->kind), rv_source_name((enum rv_source)ev->source));
    switch (ev->kind) {
    case RV_TRACE_INPUT:
    case RV_TRACE_EFFECT:
    case RV_TRACE_MARK:
        fputs(" \"", stdout);
        retro_print_text(stdout, ev->data, ev->len);
        putchar('"');
        break;
    case RV_TRACE_JUMP: printf(" +%" PRIu64 " ns", ev->value); break;
    case RV_TRACE_QUERY: printf(" %" PRIu64, ev->value); break;
    case RV_TRACE_FLAGS: printf(" 0x%" PRIx64, ev->value); break;
    case RV_TRACE_DIGEST: printf(" %016" PRIx64 "-%016" PRIx64, ev->value, ev->value2); break;
    case RV_TRACE_STOP:
        printf(" %s, code %" PRIu64 "%s", rv_stop_name((enum rv_stop)ev->value), ev->value2,
               ev->source == RV_STOPPED_FROM_OUTSIDE ? ", from outside" : "");
        break;
    default: printf(" %" PRIu64 " %" PRIu64 " (%zu bytes)", ev->value, ev->value2, ev->len);
    }
    putchar('\n');
}

/* One object a line. Data is latin-1 turned into UTF-8, so that every byte survives. */
static void print_json(const struct rv_trace_event *ev) {
    json_t *o = json_object();
    json_object_set_new(o, "position", json_integer((json_int_t)ev->position));
    json_object_set_new(o, "time", json_integer((json_int_t)ev->time));
    json_object_set_new(o, "kind", json_string(rv_trace_kind_name(ev->kind)));
    json_object_set_new(o, "source", json_string(rv_source_name((enum rv_source)ev->source)));
    if (ev->kind == RV_TRACE_DIGEST) {
        json_object_set_new(o, "cpu_digest", json_sprintf("%016" PRIx64, ev->value));
        json_object_set_new(o, "ram_digest", json_sprintf("%016" PRIx64, ev->value2));
    } else if (ev->kind == RV_TRACE_STOP) {
        json_object_set_new(o, "stop", json_string(rv_stop_name((enum rv_stop)ev->value)));
        json_object_set_new(o, "code", json_integer((json_int_t)ev->value2));
    } else if (ev->kind != RV_TRACE_EFFECT && ev->kind != RV_TRACE_INPUT) {
        json_object_set_new(o, "value", json_integer((json_int_t)ev->value));
    }
    if (ev->len) json_object_set_new(o, "data", retro_json_bytes(ev->data, ev->len));
    retro_json_put(stdout, o, RETRO_JSON_LINE);
}

static int events_main(int argc, char **argv) {
    struct args a;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    struct rv_err err = {0};
    struct rv_trace_reader *r;
    if (rv_trace_reader_open(&r, a.path, &err)) return retro_error(&err);
    struct rv_trace_cursor *c = rv_trace_cursor_new(r);
    int code = a.from ? rv_trace_cursor_seek(c, a.from, &err) : 0;
    const struct rv_trace_event *ev;
    while (!code && (code = rv_trace_cursor_next(c, &ev, &err)) == 0) {
        if (ev->position > a.to) break;
        if (a.kind && ev->kind != a.kind) continue;
        if (a.json)
            print_json(ev);
        else
            print_human(ev);
        if (ferror(stdout)) break;
    }
    if (code && code != RV_E_END) status = retro_error(&err);
    rv_trace_cursor_free(c);
    rv_trace_reader_free(r);
    return status;
}

const struct retro_command retro_cmd_events = {
    .name = "events",
    .brief = "list the events of a trace",
    .help = "Usage: retro events [OPTION]... FILE\n"
            "Lists what crossed the border of the machine: position (instructions), guest time\n"
            "(seconds), kind, source and content.\n\n"
            "  -k, --kind KIND      only input, jump, query, effect, digest, mark, trap,\n"
            "                       landmark or stop events\n"
            "      --from POSITION  start there (suffixes k, M, G)\n"
            "      --to POSITION    end there\n"
            "      --json           one JSON object a line; bytes of data as U+0000..U+00FF\n\n"
            "Example: retro events --kind input boot.retro\n",
    .main = events_main,
};
