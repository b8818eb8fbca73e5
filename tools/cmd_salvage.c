/* retro salvage */
#include "tools/retro.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "trace-format/salvage.h"

static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                        {"force", no_argument, NULL, 'f'},
                                        {NULL, 0, NULL, 0}};

static int salvage_main(int argc, char **argv) {
    const struct retro_command *cmd = &retro_cmd_salvage;
    const char *out = NULL;
    unsigned flags = 0;
    int opt;
    while ((opt = getopt_long(argc, argv, ":o:f", options, NULL)) != -1) {
        switch (opt) {
        case 'o': out = optarg; break;
        case 'f': flags |= RV_TRACE_SALVAGE_OVERWRITE; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind + 1 != argc) return retro_usage(cmd, "salvage takes one trace");
    if (!out) return retro_usage(cmd, "--output is missing");
    struct rv_err err = {0};
    struct rv_trace_salvage s;
    if (rv_trace_salvage(argv[optind], out, flags, &s, &err)) return retro_error(&err);
    char n[32];
    printf("%s: kept %" PRIu64 " events up to instruction %s, and %" PRIu64 " images\n", out,
           s.events, retro_group(s.position, n), s.blobs);
    if (!s.whole || s.blobs_lost || s.chunks_lost)
        printf("lost: at least %" PRIu64 " events, %" PRIu64 " images, %" PRIu64 " other parts\n",
               s.events_lost, s.blobs_lost, s.chunks_lost);
    if (s.damage[0]) {
        fputs("damage: ", stdout);
        retro_print_text(stdout, (const uint8_t *)s.damage, strlen(s.damage));
        putchar('\n');
    }
    return RETRO_OK;
}

const struct retro_command retro_cmd_salvage = {
    .name = "salvage",
    .brief = "make a whole trace out of a damaged one",
    .help = "Usage: retro salvage --output OUT FILE\n"
            "Copies everything up to the first damage into a new, sealed trace. FILE stays as it\n"
            "is.\n\n"
            "  -o, --output OUT  the trace to write\n"
            "  -f, --force       replace OUT if it exists\n\n"
            "Example: retro salvage -o whole.retro broken.retro\n",
    .main = salvage_main,
};
