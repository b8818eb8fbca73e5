/* retro export */
#include "tools/ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/analysis/tables.h"

struct format {
    const char *name;
    int (*write)(const struct rv_export *x, const char *path, struct rv_err *err);
    bool folder;  /* its output is one */
    bool profile; /* it is made of exact counts */
};

static const struct format formats[] = {
    {.name = "perfetto", .write = rv_export_perfetto},
    {.name = "sqlite", .write = rv_export_sqlite},
    {.name = "csv", .write = rv_export_csv, .folder = true},
    {.name = "speedscope", .write = rv_export_speedscope, .profile = true},
    {.name = "pprof", .write = rv_export_pprof, .profile = true},
};

struct args {
    struct retro_ask ask;
    const char *path, *output;
    const struct format *format;
    bool force;
};

static const struct option options[] = {
    {"format", required_argument, NULL, 'F'},
    {"output", required_argument, NULL, 'o'},
    {"force", no_argument, NULL, 'f'},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static const struct format *format_of(const char *name) {
    for (unsigned i = 0; i < RV_COUNT(formats); i++)
        if (strcmp(name, formats[i].name) == 0) return &formats[i];
    return NULL;
}

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_export;
    *a = (struct args){0};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT "F:o:f", options, NULL)) != -1)
        switch (opt) {
        case 'F':
            a->format = format_of(optarg);
            if (!a->format)
                return retro_usage(
                    cmd, "--format %s is none of perfetto, sqlite, csv, speedscope, pprof", optarg);
            break;
        case 'o': a->output = optarg; break;
        case 'f': a->force = true; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    if (status) return status;
    if (optind + 1 != argc) return retro_usage(cmd, "export takes one trace");
    a->path = argv[optind];
    if (!a->format) return retro_usage(cmd, "--format is missing");
    if (!a->output) return retro_usage(cmd, "--output is missing");
    return RETRO_OK;
}

/* What is there already must not be lost unasked. */
static int check_output(const struct args *a, struct rv_err *err) {
    struct stat st;
    if (lstat(a->output, &st) != 0) return 0;
    if (a->format->folder && S_ISDIR(st.st_mode)) return 0; /* its files are checked one by one */
    if (S_ISDIR(st.st_mode))
        return rv_fail(err, RV_E_USAGE, "%s is a folder; give a file as --output", a->output);
    if (a->force && !a->format->folder) return 0;
    return rv_fail(err, RV_E_HOST, "%s exists; give another --output, or --force to replace it",
                   a->output);
}

/* Files are written under another name beside the last one, so that there is a whole one or none.
 */
static int write_file(const struct args *a, const struct rv_export *x, struct rv_err *err) {
    struct rv_buf name = {0};
    rv_buf_printf(&name, "%s.%ld.part", a->output, (long)getpid());
    rv_buf_put_u8(&name, 0);
    const char *part = (const char *)name.data;
    int r = a->format->write(x, part, err);
    if (!r && rename(part, a->output) != 0)
        r = rv_fail_errno(err, RV_E_HOST, "cannot write %s", a->output);
    if (r) unlink(part);
    rv_buf_release(&name);
    return r;
}

static void remove_tables(const char *dir) {
    for (size_t i = 0; i < rv_tables_count; i++) {
        struct rv_buf path = {0};
        rv_buf_printf(&path, "%s/%s.csv", dir, rv_tables[i].name);
        rv_buf_put_u8(&path, 0);
        unlink((const char *)path.data);
        rv_buf_release(&path);
    }
}

static int write_folder(const struct args *a, const struct rv_export *x, struct rv_err *err) {
    if (a->force) remove_tables(a->output);
    return a->format->write(x, a->output, err);
}

static void say(const struct args *a, const struct rv_guest_run *run) {
    char n[4][32];
    if (a->ask.quiet) return;
    printf(
        "exported %s instructions to %s: %s processes and threads, %s system calls, %s interrupts "
        "and exceptions\n",
        retro_group(run->end, n[0]), a->output, retro_group(run->tasks, n[1]),
        retro_group(run->syscalls, n[2]), retro_group(run->traps, n[3]));
    if (!run->system)
        printf("The guest was not recognised as a Linux, so there are no processes and system "
               "calls: %s\n",
               run->system_note);
}

static int write_out(const struct args *a, struct rv_export *x, struct rv_err *err) {
    x->reader = rv_timeline_reader(a->ask.timeline);
    x->name = a->path;
    return a->format->folder ? write_folder(a, x, err) : write_file(a, x, err);
}

/* Ends as *interrupted says: at `upto`. */
static int export_run(struct args *a, bool *interrupted, rv_icount *upto, struct rv_err *err) {
    struct rv_guest_run *run = NULL;
    struct rv_run_config config = {.timeline = a->ask.timeline,
                                   .what = RV_RUN_ALL,
                                   .progress = retro_ask_progress,
                                   .ctx = &a->ask};
    int r = rv_run_gather(&run, &config, err);
    retro_ask_quiet(&a->ask);
    if (!r) r = write_out(a, &(struct rv_export){.run = run}, err);
    if (!r) say(a, run);
    if (!r) {
        *interrupted = run->interrupted;
        *upto = run->end;
    }
    rv_run_free(run);
    return r;
}

static int export_profile(struct args *a, bool *interrupted, rv_icount *upto, struct rv_err *err) {
    struct rv_tally *tally = NULL;
    struct rv_guest *guest = NULL;
    int r = retro_ask_guest(&a->ask, &guest, err);
    struct rv_tally_config config = {.timeline = a->ask.timeline,
                                     .guest = guest,
                                     .to = RV_NEVER,
                                     .progress = retro_ask_progress,
                                     .ctx = &a->ask};
    if (!r) r = rv_tally_gather(&tally, &config, err);
    retro_ask_quiet(&a->ask);
    if (!r) r = write_out(a, &(struct rv_export){.tally = tally}, err);
    if (!r && !a->ask.quiet) {
        char n[3][32];
        printf("exported %s instructions to %s: %s functions in %s processes\n",
               retro_group(tally->total, n[0]), a->output, retro_group(tally->functions, n[1]),
               retro_group(tally->processes, n[2]));
    }
    if (!r) {
        *interrupted = tally->interrupted;
        *upto = tally->upto;
    }
    rv_tally_free(tally);
    rv_guest_free(guest);
    return r;
}

static int export_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    bool interrupted = false;
    rv_icount upto = 0;
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    int r = check_output(&a, &err);
    if (r) return retro_error(&err);
    r = retro_ask_open(&a.ask, a.path, "looking", &err);
    if (!r) r = (a.format->profile ? export_profile : export_run)(&a, &interrupted, &upto, &err);
    fflush(stdout);
    if (!r && interrupted) status = retro_ask_interrupted(&a.ask, upto);
    r = retro_ask_close(&a.ask, r, &err);
    return r ? r : status;
}

const struct retro_command retro_cmd_export = {
    .name = "export",
    .brief = "write what the guest did for other tools",
    .help =
        "Usage: retro export --format FORMAT --output OUT [OPTION]... FILE\n"
        "Writes processes, scheduling, system calls, interrupts, exceptions, console and marks\n"
        "in a form that other tools read. docs/export.md describes every table and track.\n\n"
        "  -F, --format FORMAT  perfetto: a trace for ui.perfetto.dev; sqlite: a database;\n"
        "                       csv: a folder with one file a table\n"
        "  -o, --output OUT     the file, or folder, to write\n"
        "  -f, --force          replace it if it exists\n" RETRO_ASK_HELP "\n"
        "Example: retro export --format sqlite -o boot.db boot.retro\n",
    .main = export_main,
};
