/* retro salvage */
#include "tools/retro.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "trace-format/salvage.h"

enum { OPT_JSON = 256 };

static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                        {"force", no_argument, NULL, 'f'},
                                        {"json", no_argument, NULL, OPT_JSON},
                                        {NULL, 0, NULL, 0}};

static int salvage_main(int argc, char **argv) {
    const struct retro_command *cmd = &retro_cmd_salvage;
    const char *out = NULL;
    unsigned flags = 0;
    bool json = false;
    int opt;
    while ((opt = getopt_long(argc, argv, ":o:f", options, NULL)) != -1) {
        switch (opt) {
        case 'o': out = optarg; break;
        case 'f': flags |= RV_TRACE_SALVAGE_OVERWRITE; break;
        case OPT_JSON: json = true; break;
        default: return retro_bad_option(cmd, opt, argv);
        }
    }
    if (optind + 1 != argc) return retro_usage(cmd, "salvage takes one trace");
    if (!out) return retro_usage(cmd, "--output is missing");
    struct rv_err err = {0};
    struct rv_trace_salvage s;
    if (rv_trace_salvage(argv[optind], out, flags, &s, &err)) return retro_error(&err);
    if (json) {
        json_t *kept = json_pack("{s:I, s:I, s:I}", "events", (json_int_t)s.events, "position",
                                 (json_int_t)s.position, "images", (json_int_t)s.blobs);
        json_t *lost = json_pack("{s:I, s:I, s:I}", "events", (json_int_t)s.events_lost, "images",
                                 (json_int_t)s.blobs_lost, "others", (json_int_t)s.chunks_lost);
        json_t *damage = s.damage[0] ? retro_json_utf8z(s.damage) : json_null();
        retro_json_put(stdout,
                       json_pack("{s:b, s:o, s:o, s:o}", "whole", s.whole, "kept", kept, "lost",
                                 lost, "damage", damage),
                       RETRO_JSON_LINE);
        return RETRO_OK;
    }
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
    .help = "Usage: retro salvage [OPTION]... --output OUT FILE\n"
            "Copies everything up to the first damage into a new, sealed trace. FILE stays as it\n"
            "is.\n\n"
            "  -o, --output OUT  the trace to write\n"
            "  -f, --force       replace OUT if it exists\n"
            "      --json        for machines: one object\n\n"
            "Example: retro salvage -o whole.retro broken.retro\n",
    .main = salvage_main,
};
