/* retro verify */
#include "tools/retro.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "trace-format/verify.h"

static const struct option options[] = {{"quiet", no_argument, NULL, 'q'}, {NULL, 0, NULL, 0}};

static void print_finding(void *ctx, const struct rv_trace_finding *f) {
    if (*(bool *)ctx && f->severity != RV_TRACE_FINDING_ERROR) return;
    printf("%s at byte %" PRIu64, f->severity == RV_TRACE_FINDING_ERROR ? "error" : "note",
           f->offset);
    if (f->chunk != UINT64_MAX) printf(" (chunk %" PRIu64 ")", f->chunk);
    fputs(": ", stdout);
    retro_print_text(stdout, (const uint8_t *)f->text, strlen(f->text));
    putchar('\n');
}

static int verify_main(int argc, char **argv) {
    bool quiet = false;
    int opt;
    while ((opt = getopt_long(argc, argv, ":q", options, NULL)) != -1) {
        if (opt != 'q') return retro_bad_option(&retro_cmd_verify, opt, argv);
        quiet = true;
    }
    if (optind + 1 != argc) return retro_usage(&retro_cmd_verify, "verify takes one trace");
    struct rv_err err = {0};
    struct rv_trace_verdict v = {0};
    int code = rv_trace_verify(argv[optind], print_finding, &quiet, &v, &err);
    if (code) return retro_error(&err);
    if (!quiet)
        printf("%s: whole, %s, %" PRIu64 " chunks, %" PRIu64 " events, %" PRIu64 " images\n",
               argv[optind], v.sealed ? "sealed" : "not sealed", v.chunks, v.events, v.blobs);
    return RETRO_OK;
}

const struct retro_command retro_cmd_verify = {
    .name = "verify",
    .brief = "check a trace for damage",
    .help = "Usage: retro verify [--quiet] FILE\n"
            "Checks every checksum, the order of everything, and that images and index are what\n"
            "they claim. Exit status 0: whole; 4: damaged, and each finding is printed.\n\n"
            "  -q, --quiet  print errors only\n\n"
            "Example: retro verify boot.retro\n",
    .main = verify_main,
};
