#include "tools/retro.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

double retro_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

const char *retro_group(uint64_t n, char buf[32]) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n), at = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = 0;
    return buf;
}

void retro_print_text(FILE *out, const uint8_t *data, size_t len) {
    for (size_t i = 0; i < len; i++) {
        uint8_t b = data[i];
        if (b == '\n')
            fputs("\\n", out);
        else if (b == '\r')
            fputs("\\r", out);
        else if (b == '\\' || b == '"')
            fprintf(out, "\\%c", b);
        else if (b >= 32 && b < 127)
            fputc(b, out);
        else
            fprintf(out, "\\x%02x", b);
    }
}

static void hex(char out[17], uint64_t v) { snprintf(out, 17, "%016" PRIx64, v); }

static json_t *hardware(const struct rv_nested_counts *c) {
    json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "exits", (json_int_t)c->exits, "told",
                          (json_int_t)c->told, "interpreted", (json_int_t)c->interpreted, "kicks",
                          (json_int_t)c->kicks, "landmarks", (json_int_t)c->landmarks, "refused",
                          (json_int_t)c->refused);
    json_t *by = json_object();
    for (unsigned i = 0; i < RV_COUNT(c->by) && c->by[i].name; i++)
        json_object_set_new(by, c->by[i].name, json_integer((json_int_t)c->by[i].count));
    json_object_set_new(o, "by_kind", by);
    return o;
}

/* What the hardware was left for, most often first. */
static void print_hardware(const struct rv_nested_counts *c) {
    char a[32], b[32];
    fprintf(stderr, "retro: %s exits (", retro_group(c->exits, a));
    uint64_t below = UINT64_MAX;
    const char *sep = "";
    for (;;) {
        uint64_t most = 0;
        for (unsigned i = 0; i < RV_COUNT(c->by) && c->by[i].name; i++)
            if (c->by[i].count < below && c->by[i].count > most) most = c->by[i].count;
        if (!most) break;
        for (unsigned i = 0; i < RV_COUNT(c->by) && c->by[i].name; i++)
            if (c->by[i].count == most) {
                fprintf(stderr, "%s%s %s", sep, c->by[i].name, retro_group(most, a));
                sep = ", ";
            }
        below = most;
    }
    fprintf(stderr, "), %s reads of the clock answered beside them, ", retro_group(c->told, a));
    fprintf(stderr, "%s instructions interpreted, %s kicks, ", retro_group(c->interpreted, a),
            retro_group(c->kicks, b));
    fprintf(stderr, "%s places between traps\n", retro_group(c->landmarks, a));
}

static void print_json(const struct retro_summary *s) {
    char cpu[17], ram[17];
    hex(cpu, s->end.cpu_digest);
    hex(ram, s->end.ram_digest);
    json_t *o =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:f, s:s, s:i, s:s, s:s}", "action", s->verb, "engine",
                  s->engine, "instructions", (json_int_t)s->end.at.icount, "traps",
                  (json_int_t)s->end.at.trap, "guest_ns", (json_int_t)s->end.at.time, "seconds",
                  s->seconds, "stop", rv_stop_name(s->end.reason), "code", (int)s->end.code,
                  "cpu_digest", cpu, "ram_digest", ram);
    if (s->has_events) json_object_set_new(o, "events", json_integer((json_int_t)s->events));
    if (s->has_trace) {
        json_object_set_new(o, "trace_bytes", json_integer((json_int_t)s->trace_bytes));
        json_object_set_new(o, "image_bytes", json_integer((json_int_t)s->image_bytes));
    }
    if (s->nested) json_object_set_new(o, "hardware", hardware(s->nested));
    retro_json_put(stderr, o, RETRO_JSON_LINE | JSON_PRESERVE_ORDER);
}

void retro_print_summary(const struct retro_summary *s, bool json) {
    if (json) {
        print_json(s);
        return;
    }
    char n[32], b[32];
    if (s->end.at.icount)
        fprintf(stderr, "retro: %s %s instructions in %.2f s (%.1f million/s, %s)", s->verb,
                retro_group(s->end.at.icount, n), s->seconds,
                s->seconds > 0 ? (double)s->end.at.icount / s->seconds / 1e6 : 0.0, s->engine);
    else
        fprintf(stderr, "retro: %s %s traps in %.2f s (%s)", s->verb,
                retro_group(s->end.at.trap, n), s->seconds, s->engine);
    if (s->has_events) fprintf(stderr, ", %s events", retro_group(s->events, n));
    if (s->has_trace)
        fprintf(stderr, ", trace %s bytes (%s beyond the images)", retro_group(s->trace_bytes, n),
                retro_group(s->trace_bytes - s->image_bytes, b));
    if (s->nested && s->verbose) {
        fputc('\n', stderr);
        print_hardware(s->nested);
        fprintf(stderr, "retro: %s", rv_stop_text(s->end.reason));
    } else {
        fprintf(stderr, "\nretro: %s", rv_stop_text(s->end.reason));
    }
    if (s->end.reason == RV_STOP_DEBUG_EXIT) fprintf(stderr, " (value %" PRIu32 ")", s->end.code);
    if (!s->end.mid_instruction)
        fprintf(stderr, "; digest %016" PRIx64 "-%016" PRIx64, s->end.cpu_digest,
                s->end.ram_digest);
    if (s->note) fprintf(stderr, "; %s", s->note);
    fputc('\n', stderr);
}
