/* retro info */
#include "tools/retro.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "trace-format/effect.h"
#include "trace-format/reader.h"
#include "vmm/cpu/quirks.h"

static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};

static void line(const char *key) { printf("%-14s ", key); }

static void text_line(const char *key, const char *text) {
    line(key);
    retro_print_text(stdout, (const uint8_t *)text, strlen(text));
    putchar('\n');
}

static const char *wall(uint64_t seconds, char buf[40]) {
    time_t t = (time_t)seconds;
    struct tm tm;
    if (seconds > 253402300799ull || !gmtime_r(&t, &tm)) return "no sensible time";
    strftime(buf, 40, "%Y-%m-%d %H:%M:%S UTC", &tm);
    return buf;
}

static const char *stop_of(const struct rv_trace_summary *s) {
    if (s->reason >= RV_TRACE_REASON_USER)
        return rv_stop_name((enum rv_stop)(s->reason - RV_TRACE_REASON_USER));
    return s->reason == RV_TRACE_REASON_SALVAGED ? "salvaged" : "none";
}

static const char *completeness(const struct rv_trace_state *st) {
    if (st->damage) return "damaged";
    if (!st->sealed) return "unsealed: its recorder did not finish";
    return "sealed";
}

static void print_events(const struct rv_trace_stats *stats) {
    char n[32];
    line("events");
    bool first = true;
    for (uint32_t k = 1; k < RV_TRACE_MAX_KINDS; k++)
        if (stats->events[k]) {
            printf("%s%s %s", first ? "" : ", ", retro_group(stats->events[k], n),
                   rv_trace_kind_name(k));
            first = false;
        }
    puts(first ? "none" : "");
}

/* Whether positions are traps, for want of a count of instructions. */
static bool by_trap(const struct rv_trace_header *h) {
    return rv_trace_option_number(h, RV_OPTION_BY_TRAP, 0);
}

/* Whether it replays on processors of any make. */
static bool is_portable(const struct rv_trace_header *h) {
    return rv_trace_option_number(h, RV_OPTION_QUIRKS, 0) & RV_QUIRK_PORTABLE;
}

static void print_human(const struct rv_trace_reader *r, const struct rv_trace_state *st,
                        const struct rv_trace_stats *stats) {
    const struct rv_trace_header *h = rv_trace_reader_header(r);
    const struct rv_trace_summary *s = rv_trace_reader_summary(r);
    char n[32], b[32], w[40];
    text_line("trace", rv_trace_reader_name(r));
    line("state");
    puts(completeness(st));
    if (st->damage) text_line("damage", st->damage);
    line("format");
    printf("%" PRIu32 ", written by Retrovisor ", h->format_version);
    retro_print_text(stdout, (const uint8_t *)h->tool_version, strlen(h->tool_version));
    printf(" at %s\n", wall(h->created, w));
    line("size");
    printf("%s bytes: %s of events, %s of images, %s other\n", retro_group(st->size, n),
           retro_group(stats->event_bytes, b), retro_group(stats->blob_bytes, w),
           retro_group(stats->other_bytes, (char[32]){0}));
    line("length");
    printf("%s %s, %.6f s of guest time\n", retro_group(st->position, n),
           by_trap(h) ? "traps (run retro lift to have instructions)" : "instructions",
           (double)st->time / 1e9);
    print_events(stats);
    if (s) {
        line("end");
        printf("%s: ", stop_of(s));
        retro_print_text(stdout, (const uint8_t *)s->text, strlen(s->text));
        if (s->lost_tail) printf(" (the end was lost when writing failed)");
        printf("\n");
        line("digest");
        printf("%016" PRIx64 "-%016" PRIx64 "\n", s->cpu_digest, s->ram_digest);
    }
    line("machine");
    printf("%" PRIu64 " MiB, CPU profile ", h->memory_bytes >> 20);
    retro_print_text(stdout, (const uint8_t *)h->cpu_profile, strlen(h->cpu_profile));
    if (h->rate)
        printf(", %.3f ns an instruction\n", (double)h->rate / 4294967296.0);
    else
        printf(", time is the host's\n");
    text_line("engine", h->engine);
    line("host");
    retro_print_text(stdout, (const uint8_t *)h->host_cpu.brand, strlen(h->host_cpu.brand));
    printf(" (family %" PRIu32 " model %" PRIu32 ")%s\n", h->host_cpu.family, h->host_cpu.model,
           is_portable(h) ? "; replays on any make" : "");
    text_line("boot", h->boot_protocol);
    text_line("command line", h->command_line);
    for (size_t i = 0; i < h->image_count; i++) {
        const struct rv_trace_image *im = &h->images[i];
        char hash[RV_TRACE_HASH_TEXT];
        line("image");
        retro_print_text(stdout, (const uint8_t *)im->role, strlen(im->role));
        putchar(' ');
        retro_print_text(stdout, (const uint8_t *)im->name, strlen(im->name));
        printf(", %s bytes, %s, %s\n", retro_group(im->size, n),
               rv_trace_hash_format(&im->hash, hash), im->embedded ? "embedded" : "not embedded");
    }
    line("devices");
    for (size_t i = 0; i < h->device_count; i++) {
        if (i) fputs(", ", stdout);
        retro_print_text(stdout, (const uint8_t *)h->devices[i].name, strlen(h->devices[i].name));
        printf(" %" PRIu32, h->devices[i].version);
    }
    putchar('\n');
}

static json_t *hex_json(uint64_t v) { return json_sprintf("%016" PRIx64, v); }
static json_t *int_json(uint64_t v) { return json_integer((json_int_t)v); }

static json_t *header_json(const struct rv_trace_header *h) {
    json_t *o = json_object(), *images = json_array(), *devices = json_array();
    json_object_set_new(o, "format", int_json(h->format_version));
    json_object_set_new(o, "tool_version", retro_json_utf8z(h->tool_version));
    json_object_set_new(o, "created", int_json(h->created));
    json_object_set_new(o, "engine", retro_json_utf8z(h->engine));
    json_object_set_new(o, "profile", retro_json_utf8z(h->cpu_profile));
    json_object_set_new(o, "host_cpu", retro_json_utf8z(h->host_cpu.brand));
    json_object_set_new(o, "portable", json_boolean(is_portable(h)));
    json_object_set_new(o, "memory_bytes", int_json(h->memory_bytes));
    json_object_set_new(o, "rate", json_real((double)h->rate / 4294967296.0));
    json_object_set_new(o, "boot", retro_json_utf8z(h->boot_protocol));
    json_object_set_new(o, "command_line", retro_json_utf8z(h->command_line));
    for (size_t i = 0; i < h->image_count; i++) {
        char hash[RV_TRACE_HASH_TEXT];
        json_t *im = json_object();
        json_object_set_new(im, "role", retro_json_utf8z(h->images[i].role));
        json_object_set_new(im, "name", retro_json_utf8z(h->images[i].name));
        json_object_set_new(im, "bytes", int_json(h->images[i].size));
        json_object_set_new(im, "hash",
                            json_string(rv_trace_hash_format(&h->images[i].hash, hash)));
        json_object_set_new(im, "embedded", json_boolean(h->images[i].embedded));
        json_array_append_new(images, im);
    }
    for (size_t i = 0; i < h->device_count; i++) {
        json_t *d = json_object();
        json_object_set_new(d, "name", retro_json_utf8z(h->devices[i].name));
        json_object_set_new(d, "version", int_json(h->devices[i].version));
        json_array_append_new(devices, d);
    }
    json_object_set_new(o, "images", images);
    json_object_set_new(o, "devices", devices);
    return o;
}

static void print_json(const struct rv_trace_reader *r, const struct rv_trace_state *st,
                       const struct rv_trace_stats *stats) {
    const struct rv_trace_summary *s = rv_trace_reader_summary(r);
    json_t *o = json_object(), *events = json_object();
    json_object_set_new(o, "sealed", json_boolean(st->sealed));
    json_object_set_new(o, "damage", st->damage ? retro_json_utf8z(st->damage) : json_null());
    json_object_set_new(o, "bytes", int_json(st->size));
    json_object_set_new(o, "event_bytes", int_json(stats->event_bytes));
    json_object_set_new(o, "image_bytes", int_json(stats->blob_bytes));
    json_object_set_new(o, by_trap(rv_trace_reader_header(r)) ? "traps" : "instructions",
                        int_json(st->position));
    json_object_set_new(o, "guest_ns", int_json(st->time));
    for (uint32_t k = 1; k < RV_TRACE_MAX_KINDS; k++)
        if (stats->events[k])
            json_object_set_new(events, rv_trace_kind_name(k), int_json(stats->events[k]));
    json_object_set_new(o, "events", events);
    if (s) {
        json_object_set_new(o, "stop", json_string(stop_of(s)));
        json_object_set_new(o, "stop_text", retro_json_utf8z(s->text));
        json_object_set_new(o, "cpu_digest", hex_json(s->cpu_digest));
        json_object_set_new(o, "ram_digest", hex_json(s->ram_digest));
        json_object_set_new(o, "console_bytes", int_json(s->console_bytes));
        json_object_set_new(o, "lost_tail", json_boolean(s->lost_tail));
    }
    json_object_set_new(o, "header", header_json(rv_trace_reader_header(r)));
    retro_json_put(stdout, o, JSON_INDENT(2));
}

static int info_main(int argc, char **argv) {
    bool json = false;
    int opt;
    while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (opt != 'j') return retro_bad_option(&retro_cmd_info, opt, argv);
        json = true;
    }
    if (optind + 1 != argc) return retro_usage(&retro_cmd_info, "info takes one trace");
    struct rv_err err = {0};
    struct rv_trace_reader *r;
    if (rv_trace_reader_open(&r, argv[optind], &err)) return retro_error(&err);
    struct rv_trace_state st;
    struct rv_trace_stats stats = {0};
    rv_trace_reader_state(r, &st);
    int damaged = rv_trace_reader_stats(r, &stats, &err);
    if (json)
        print_json(r, &st, &stats);
    else
        print_human(r, &st, &stats);
    int status = RETRO_OK;
    if (damaged)
        status = retro_error(&err);
    else if (st.damage)
        status = RETRO_FORMAT;
    rv_trace_reader_free(r);
    return status;
}

const struct retro_command retro_cmd_info = {
    .name = "info",
    .brief = "describe a trace",
    .help = "Usage: retro info [--json] FILE\n"
            "Says what was recorded, on what machine, how long it is and how it ended.\n\n"
            "      --json  the same as a JSON object\n\n"
            "Example: retro info boot.retro\n",
    .main = info_main,
};
