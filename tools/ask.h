/* What the commands that ask a recording share: options, opening, what there is to stop and show.
 */
#ifndef RV_TOOLS_ASK_H
#define RV_TOOLS_ASK_H

#include "replay/timeline.h"
#include "tools/retro.h"

#define RETRO_ASK_SYMBOLS 16

struct retro_ask {
    struct rv_timeline_config config;
    const char *engine;
    const char *symbols[RETRO_ASK_SYMBOLS]; /* of --symbols */
    unsigned symbol_files;
    bool json, quiet, verbose;
    struct retro_meter *meter;
    struct rv_timeline *timeline;
};

/* Options that all these commands have; a command's own are numbered from RETRO_ASK_OWN on. */
enum {
    RETRO_ASK_SYMBOL = 512,
    RETRO_ASK_JSON,
    RETRO_ASK_NO_INDEX,
    RETRO_ASK_KERNEL,
    RETRO_ASK_INITRD,
    RETRO_ASK_OWN
};
#define RETRO_ASK_SHORT ":e:j:qv"
#define RETRO_ASK_LONG                                                                             \
    {"symbols", required_argument, NULL, RETRO_ASK_SYMBOL},                                        \
        {"json", no_argument, NULL, RETRO_ASK_JSON}, {"jobs", required_argument, NULL, 'j'},       \
        {"no-index", no_argument, NULL, RETRO_ASK_NO_INDEX},                                       \
        {"engine", required_argument, NULL, 'e'},                                                  \
        {"kernel", required_argument, NULL, RETRO_ASK_KERNEL},                                     \
        {"initrd", required_argument, NULL, RETRO_ASK_INITRD}, {"quiet", no_argument, NULL, 'q'},  \
    {                                                                                              \
        "verbose", no_argument, NULL, 'v'                                                          \
    }
#define RETRO_ASK_HELP                                                                             \
    "      --json           for machines (docs/analysis.md)\n"                                     \
    "  -j, --jobs N         machines that replay at a time (default: the host's cores)\n"          \
    "      --no-index       neither read nor write FILE.index\n"                                   \
    "  -e, --engine ENGINE  auto (default), translate or interpret\n"                              \
    "  -q, --quiet          no progress, no notes\n"                                               \
    "  -v, --verbose        say what was chosen and why\n"                                         \
    "      --kernel FILE    the kernel, for a trace recorded with --no-embed\n"                    \
    "      --initrd FILE    the initial RAM disk, likewise\n"

void retro_ask_init(struct retro_ask *a);
/* Takes one of the options above. An exit status; RETRO_OK: taken. */
int retro_ask_option(struct retro_ask *a, const struct retro_command *cmd, int opt, char **argv);
/* Opens the trace. verb names the work in the progress line ("looking"). */
int retro_ask_open(struct retro_ask *a, const char *path, const char *verb, struct rv_err *err);
/* Releases everything; what there is to say about err (code 0: nothing) is said. */
int retro_ask_close(struct retro_ask *a, int r, const struct rv_err *err);
/* For callbacks named progress: shows how far it is. ctx is the struct retro_ask. */
void retro_ask_progress(void *ask, rv_icount done, rv_icount total);
/* Says on stderr that the work was stopped, and what there is; returns RETRO_INTERRUPTED. */
int retro_ask_interrupted(const struct retro_ask *a, rv_icount upto);

/* RV_E_UNSUPPORTED with the reason when the run's guest was no Linux that we know. */
struct rv_guest_run;
int retro_ask_needs_linux(const struct rv_guest_run *run, struct rv_err *err);
/* Takes the progress line away, before results are printed. */
void retro_ask_quiet(struct retro_ask *a);

/* A number as "0x..." in JSON, whose numbers are doubles to most readers. The caller's to give on.
 */
struct json_t *retro_json_hex(uint64_t v);

/* A process's number from the command line. An exit status. */
int retro_ask_process(const struct retro_command *cmd, const char *text, uint32_t *pid);
/* Finds the guest's kernel and reads the files of --symbols; with verbose says what was found. */
struct rv_guest;
int retro_ask_guest(struct retro_ask *a, struct rv_guest **out, struct rv_err *err);
/* A position as rv_position_find() has it; and going there. */
int retro_ask_position(struct retro_ask *a, const char *text, struct rv_moment *out,
                       struct rv_err *err);
/* Two of them, or NULL for the start and the end; RV_E_USAGE when there is nothing between. */
int retro_ask_range(struct retro_ask *a, const char *from, const char *to, rv_icount *first,
                    rv_icount *last, struct rv_err *err);
int retro_ask_go(struct retro_ask *a, const char *text, struct rv_err *err);
/* Goes to a position (NULL: the end, or, for a process that ended before, where it began to exit)
 * and looks at the guest there through a process (0: the one that runs). */
struct rv_look;
int retro_ask_look(struct retro_ask *a, struct rv_guest *guest, const char *at, uint32_t pid,
                   struct rv_look *look, struct rv_err *err);

/* Numbers for people: seconds with microseconds. */
double retro_seconds(rv_ns t);

#endif
