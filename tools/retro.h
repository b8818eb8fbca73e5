/* What the files of the retro command share. One file a subcommand, named cmd_<name>.c. */
#ifndef RV_TOOLS_RETRO_H
#define RV_TOOLS_RETRO_H

#include <getopt.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "trace-format/writer.h"
#include "vmm/base/buf.h"
#include "vmm/base/err.h"
#include "vmm/cpu/kvm/probe.h"
#include "vmm/machine.h"

/* Exit statuses; documented in retro(1). */
enum retro_status {
    RETRO_OK = 0,
    RETRO_DIFFER = 1,      /* retro diff: the recordings differ */
    RETRO_USAGE = 2,       /* the command line asks for something absurd */
    RETRO_HOST = 3,        /* the host refused: file, memory, device, full disk */
    RETRO_FORMAT = 4,      /* a damaged trace, or not the file it should be */
    RETRO_DIVERGED = 5,    /* replay did not reproduce the recording */
    RETRO_UNSUPPORTED = 6, /* this build or host cannot do it */
    RETRO_INTERNAL = 70,   /* a bug of ours */
    RETRO_INTERRUPTED = 130,
};
int retro_status_of(int rv_code);

struct retro_command {
    const char *name;
    const char *brief;                  /* one line for the list of commands */
    const char *help;                   /* usage, options, example */
    int (*main)(int argc, char **argv); /* argv[0] is the subcommand; returns an exit status */
};
#define RETRO_COMMAND(name) extern const struct retro_command retro_cmd_##name;
#include "tools/commands.def"
#undef RETRO_COMMAND

/* Prints "retro: <message>" to stderr and returns the exit status of err->code. */
int retro_error(const struct rv_err *err);
/* A wrong command line: prints it with a pointer to --help; returns RETRO_USAGE. */
int retro_usage(const struct retro_command *cmd, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Answers getopt_long's '?' and ':' for cmd. */
int retro_bad_option(const struct retro_command *cmd, int opt, char **argv);

/* options.c: false when the text is not such a number. Sizes take K, M, G; counts k, M, G. */
bool retro_parse_size(const char *text, uint64_t *bytes);
bool retro_parse_count(const char *text, uint64_t *n);
bool retro_parse_seconds(const char *text, uint64_t *ns);
/* A position: a count, or "end". */
bool retro_parse_position(const char *text, rv_icount *position);
/* engines.c: an engine by name ("auto" measures and chooses; why, on stderr, when verbose). */
int retro_engine(const char *name, bool verbose, const struct rv_engine_ops **out,
                 struct rv_err *err);

/* The machine that an engine is for, without memory and guest: an engine that does not count has
 * the host's time, positions that are traps and a profile that hardware has. cpu names the profile;
 * "auto" is the best that the engine offers on this host. */
int retro_configure(const struct rv_engine_ops *engine, const char *cpu,
                    struct rv_machine_config *c, struct rv_err *err);
/* The profile that auto is for software engines, and what this host's CPU lacks for v3 (NULL:
 * nothing). */
const struct rv_profile *retro_auto_profile(const char **lacks);
/* selftest.c: records a small guest with the engine and replays it with the interpreter. */
int retro_self_test(const struct rv_engine_ops *engine, struct rv_err *err);

/* What this host's engines do, in instructions a second; 0 where one does not work. *kvm is filled
 * as rv_kvm_probe does, and *kvm_err says why there is no KVM (code 0: there is one). */
struct retro_speeds {
    double interpret, translate, kvm;
};
void retro_measure(struct retro_speeds *out, struct rv_kvm_report *kvm, struct rv_err *kvm_err);
/* The engine that auto takes, and the reason in words. */
const struct rv_engine_ops *retro_choose(const struct retro_speeds *s, const char **why);

/* term.c: stop requests and the terminal. */
extern _Atomic int retro_stop; /* enum rv_stop, set by SIGINT, SIGTERM, SIGHUP */
void retro_catch_signals(void);
/* Asks for RV_STOP_TIMEOUT after so much real time, even inside an instruction that does not end.
 */
void retro_stop_after(uint64_t ns);
void retro_kick_on_signal(struct rv_machine *m); /* NULL: none any more */
/* Puts the terminal on fd into the mode a guest's console wants; undone at exit. */
void retro_raw_terminal(int fd);
void retro_restore_terminal(void);

/* meter.c: a choke point that hands everything through and shows progress on a terminal. */
struct retro_meter;
struct retro_meter *retro_meter_new(bool show, const char *verb, rv_icount total);
struct rv_nondet *retro_meter_wrap(void *meter, struct rv_nondet *inner);
/* For work that is not one run: shows how far it is, when that is due. */
void retro_meter_show(struct retro_meter *m, rv_icount at, rv_icount total);
/* Progress is in traps, where nobody counts instructions or they are not known beforehand. */
void retro_meter_count_traps(struct retro_meter *m);
void retro_meter_free(struct retro_meter *m); /* clears the line */

/* like.c: a choke point that answers at power-on as an earlier recording was answered. */
struct retro_like;
int retro_like_new(struct retro_like **out, const char *path, struct rv_err *err);
struct rv_nondet *retro_like_wrap(struct retro_like *l,
                                  struct rv_nondet *inner); /* l may be NULL */
void retro_like_free(struct retro_like *l);                 /* NULL is fine */

/* lift.c: whether the positions of a trace are traps, for want of a count of instructions. */
uint64_t retro_trace_length(const char *path); /* last position, in its unit; 0: not known */
int retro_is_by_trap(const char *path, bool *by_trap, struct rv_err *err);
/* Replays such a trace on a software engine and writes it anew to out with instructions for
 * positions; out may be path itself, which is then replaced at the end. A stop request leaves
 * things as they were, with RV_E_INTERRUPTED. After a divergence, RV_E_DIVERGED, another out than
 * path holds what agreed. */
struct retro_lift {
    const char *path, *out;
    const struct rv_engine_ops *engine;
    bool overwrite; /* out may exist */
    struct retro_meter *meter;
};
struct retro_lift_result {
    struct rv_end end;
    uint64_t landmarks, candidates; /* places between traps, and states looked at for them */
    struct rv_trace_writer_stats stats;
    bool kept;              /* it diverged, and out holds what agreed: */
    struct rv_point agreed; /* up to here */
};
int retro_lift(const struct retro_lift *how, struct retro_lift_result *result, struct rv_err *err);
/* For tools that need instructions: lifts the trace in place if it counts traps, and says so on
 * stderr unless quiet. */
int retro_lift_first(const char *path, bool quiet, struct rv_err *err);

/* summary.c: the line at the end of run, record and replay. */
struct retro_summary {
    const char *verb; /* "ran", "recorded", "replayed" */
    double seconds;
    struct rv_end end;
    bool has_events;
    uint64_t events;
    bool has_trace;
    uint64_t trace_bytes, image_bytes;
    const char *engine;
    const char *note;                      /* appended, or NULL */
    const struct rv_nested_counts *nested; /* of the engine, or NULL */
    bool verbose;
};
void retro_print_summary(const struct retro_summary *s, bool json);
double retro_now(void); /* seconds, monotonic */
/* "1,234,567" in a caller's buffer of 32 bytes. */
const char *retro_group(uint64_t n, char buf[32]);
/* Bytes of untrusted text made safe for a terminal; quotes and control bytes as \xNN. */
void retro_print_text(FILE *out, const uint8_t *data, size_t len);

/* text.c: JSON. A value is printed as flags say, its line is ended, and it is let go of. What is a
 * line by itself is in ASCII, for there are characters beyond it that some readers take for ends of
 * lines. */
#define RETRO_JSON_LINE (JSON_COMPACT | JSON_ENSURE_ASCII)
void retro_json_put(FILE *out, json_t *value, size_t flags);
/* Bytes that may be anything: as UTF-8, U+FFFD for what is none. */
json_t *retro_json_utf8(const uint8_t *data, size_t len);
json_t *retro_json_utf8z(const char *s);
/* Every byte kept, as a character U+0000 to U+00FF. */
json_t *retro_json_bytes(const uint8_t *data, size_t len);

#endif
