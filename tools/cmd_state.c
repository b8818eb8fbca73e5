/* retro state, retro backtrace */
#include "tools/ask.h"

#include <stdlib.h>

#include "tools/show.h"

struct args {
    struct retro_ask ask;
    const char *path, *at;
    uint32_t process;
    bool maps;
};

enum { OPT_AT = RETRO_ASK_OWN, OPT_PROCESS, OPT_MAPS };

static const struct option options[] = {
    {"at", required_argument, NULL, OPT_AT},
    {"process", required_argument, NULL, OPT_PROCESS},
    {"maps", no_argument, NULL, OPT_MAPS},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, const struct retro_command *cmd, struct args *a) {
    *a = (struct args){0};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_AT: a->at = optarg; break;
        case OPT_PROCESS: status = retro_ask_process(cmd, optarg, &a->process); break;
        case OPT_MAPS: a->maps = true; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (a->maps && cmd != &retro_cmd_state) return retro_usage(cmd, "--maps is for retro state");
    if (optind + 1 != argc) return retro_usage(cmd, "%s takes one trace", cmd->name);
    a->path = argv[optind];
    return RETRO_OK;
}

static void show_state(struct rv_timeline *t, const struct rv_look *look, bool maps) {
    bool runs = !look->up || look->task.task == look->current;
    retro_show_where(t, look);
    if (runs) {
        puts("\nregisters");
        retro_show_registers(look);
        puts("\ncode");
        retro_show_code(look, rv_view_pc(&look->cpu), 8);
        puts("\nstack");
        retro_show_words(look, 8);
    }
    puts("\nbacktrace");
    retro_show_stack(look);
    if (maps) {
        puts("\nmappings");
        retro_show_maps(look);
    }
}

static json_t *json_state(struct rv_timeline *t, const struct rv_look *look, bool maps) {
    bool runs = !look->up || look->task.task == look->current;
    json_t *o = retro_json_where(t, look);
    if (runs) {
        json_object_set_new(o, "registers", retro_json_registers(look));
        json_object_set_new(o, "code", retro_json_code(look, rv_view_pc(&look->cpu), 8));
        json_object_set_new(o, "stack", retro_json_words(look, 8));
    }
    json_object_set_new(o, "backtrace", retro_json_stack(look));
    if (maps) json_object_set_new(o, "maps", retro_json_maps(look));
    return o;
}

static void show(const struct args *a, const struct rv_look *look, bool all) {
    struct rv_timeline *t = a->ask.timeline;
    if (a->ask.json) {
        json_t *o = all ? json_state(t, look, a->maps) : retro_json_where(t, look);
        if (!all) json_object_set_new(o, "backtrace", retro_json_stack(look));
        retro_json_put(stdout, o, JSON_INDENT(2));
    } else if (all) {
        show_state(t, look, a->maps);
    } else {
        retro_show_where(t, look);
        retro_show_stack(look);
    }
}

static int common_main(int argc, char **argv, const struct retro_command *cmd, bool all) {
    struct args a;
    struct rv_err err = {0};
    struct rv_guest *guest = NULL;
    struct rv_look look = {0};
    int status = parse(argc, argv, cmd, &a);
    if (status != RETRO_OK) return status;
    int r = retro_ask_open(&a.ask, a.path, "looking", &err);
    if (!r) r = retro_ask_guest(&a.ask, &guest, &err);
    if (!r) r = retro_ask_look(&a.ask, guest, a.at, a.process, &look, &err);
    retro_ask_quiet(&a.ask);
    if (!r) show(&a, &look, all);
    rv_look_release(&look);
    rv_guest_free(guest);
    return retro_ask_close(&a.ask, r, &err);
}

static int state_main(int argc, char **argv) {
    return common_main(argc, argv, &retro_cmd_state, true);
}
static int backtrace_main(int argc, char **argv) {
    return common_main(argc, argv, &retro_cmd_backtrace, false);
}

const struct retro_command retro_cmd_state = {
    .name = "state",
    .brief = "show registers, code, stack and process at a position",
    .help =
        "Usage: retro state [OPTION]... FILE\n"
        "Shows the guest at a position: what ran, its registers, the next instructions, the\n"
        "stack and the functions that led there, through the kernel into the program.\n\n"
        "      --at POSITION    where (default: end); see retro(1) for how to write it\n"
        "      --process PID    a process that does not run just then\n"
        "      --symbols FILE[@ADDRESS]\n"
        "                       ELF file with symbols; may be given several times\n" RETRO_ASK_HELP
        "\n"
        "Example: retro state --at 50% boot.retro\n",
    .main = state_main,
};

const struct retro_command retro_cmd_backtrace = {
    .name = "backtrace",
    .brief = "show the functions that led to a position",
    .help =
        "Usage: retro backtrace [OPTION]... FILE\n"
        "Shows the call stack at a position, through interrupts and system calls from the\n"
        "kernel into the program.\n\n"
        "      --at POSITION    where (default: end); see retro(1) for how to write it\n"
        "      --process PID    of a process or thread that does not run just then\n"
        "      --symbols FILE[@ADDRESS]\n"
        "                       ELF file with symbols; may be given several times\n" RETRO_ASK_HELP
        "\n"
        "Example: retro backtrace --at console:login boot.retro\n",
    .main = backtrace_main,
};
