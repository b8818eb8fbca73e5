/* retro verify */
#include "tools/retro.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "trace-format/verify.h"

struct args {
    bool quiet, json;
};

enum { OPT_JSON = 256 };

static const struct option options[] = {
    {"json", no_argument, NULL, OPT_JSON}, {"quiet", no_argument, NULL, 'q'}, {NULL, 0, NULL, 0}};

static void print_finding(void *ctx, const struct rv_trace_finding *f) {
    const struct args *a = ctx;
    const char *severity = f->severity == RV_TRACE_FINDING_ERROR ? "error" : "note";
    if (a->quiet && f->severity != RV_TRACE_FINDING_ERROR) return;
    if (a->json) {
        json_t *o = json_pack("{s:s, s:I, s:o}", "severity", severity, "offset",
                              (json_int_t)f->offset, "text", retro_json_utf8z(f->text));
        if (f->chunk != UINT64_MAX)
            json_object_set_new(o, "chunk", json_integer((json_int_t)f->chunk));
        retro_json_put(stdout, o, RETRO_JSON_LINE);
        return;
    }
    printf("%s at byte %" PRIu64, severity, f->offset);
    if (f->chunk != UINT64_MAX) printf(" (chunk %" PRIu64 ")", f->chunk);
    fputs(": ", stdout);
    retro_print_text(stdout, (const uint8_t *)f->text, strlen(f->text));
    putchar('\n');
}

static int verify_main(int argc, char **argv) {
    struct args a = {0};
    int opt;
    while ((opt = getopt_long(argc, argv, ":q", options, NULL)) != -1) {
        switch (opt) {
        case OPT_JSON: a.json = true; break;
        case 'q': a.quiet = true; break;
        default: return retro_bad_option(&retro_cmd_verify, opt, argv);
        }
    }
    if (optind + 1 != argc) return retro_usage(&retro_cmd_verify, "verify takes one trace");
    struct rv_err err = {0};
    struct rv_trace_verdict v = {0};
    int code = rv_trace_verify(argv[optind], print_finding, &a, &v, &err);
    if (a.json && (!code || v.errors))
        retro_json_put(stdout,
                       json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "whole", !code, "sealed",
                                 v.sealed, "chunks", (json_int_t)v.chunks, "events",
                                 (json_int_t)v.events, "images", (json_int_t)v.blobs, "errors",
                                 (json_int_t)v.errors, "notes", (json_int_t)v.notes),
                       RETRO_JSON_LINE);
    if (code) return retro_error(&err);
    if (!a.quiet && !a.json)
        printf("%s: whole, %s, %" PRIu64 " chunks, %" PRIu64 " events, %" PRIu64 " images\n",
               argv[optind], v.sealed ? "sealed" : "not sealed", v.chunks, v.events, v.blobs);
    return RETRO_OK;
}

const struct retro_command retro_cmd_verify = {
    .name = "verify",
    .brief = "check a trace for damage",
    .help = "Usage: retro verify [OPTION]... FILE\n"
            "Checks every checksum, the order of everything, and that images and index are what\n"
            "they claim. Exit status 0: whole; 4: damaged, and each finding is printed.\n\n"
            "      --json   for machines: one object for each finding, and one for the file\n"
            "  -q, --quiet  print errors only, and with --json the object for the file\n\n"
            "Example: retro verify boot.retro\n",
    .main = verify_main,
};
