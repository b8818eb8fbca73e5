#include "tools/retro.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct retro_command *const commands[] = {
#define RETRO_COMMAND(name) &retro_cmd_##name,
#include "tools/commands.def"
#undef RETRO_COMMAND
};

int retro_status_of(int code) {
    switch (code) {
    case RV_OK: return RETRO_OK;
    case RV_E_USAGE: return RETRO_USAGE;
    case RV_E_HOST: return RETRO_HOST;
    case RV_E_FORMAT: return RETRO_FORMAT;
    case RV_E_DIVERGED: return RETRO_DIVERGED;
    case RV_E_UNSUPPORTED: return RETRO_UNSUPPORTED;
    case RV_E_INTERRUPTED: return RETRO_INTERRUPTED;
    default: return RETRO_INTERNAL;
    }
}

int retro_error(const struct rv_err *err) {
    fprintf(stderr, "retro: %s\n", err->msg);
    return retro_status_of(err->code);
}

int retro_usage(const struct retro_command *cmd, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("retro: ", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "; see retro %s --help\n", cmd->name);
    return RETRO_USAGE;
}

int retro_bad_option(const struct retro_command *cmd, int opt, char **argv) {
    const char *arg = optind > 0 ? argv[optind - 1] : "";
    if (opt == ':') return retro_usage(cmd, "%s needs a value", arg);
    return retro_usage(cmd, "%s has no option %s", cmd->name, arg);
}

static void print_help(FILE *out) {
    fputs("Usage: retro COMMAND [OPTION]... [FILE]\n"
          "Record a virtual machine once, replay it exactly as often as you like.\n\n"
          "Commands:\n",
          out);
    for (unsigned i = 0; i < RV_COUNT(commands); i++)
        fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->brief);
    fputs("\nretro COMMAND --help describes a command. retro --version prints the version.\n"
          "Exit status: 0 all went well, 1 diff found a difference, 2 wrong usage, 3 the host "
          "refused, 4 damaged or foreign\n"
          "file, 5 replay diverged, 6 not supported here, 70 internal error, 130 interrupted.\n\n"
          "Example: record a Linux guest, then play it back:\n"
          "  retro record -o boot.retro --kernel vmlinuz --initrd initrd.gz --append "
          "console=ttyS0\n"
          "  retro replay boot.retro\n",
          out);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return RETRO_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return RETRO_OK;
    }
    if (strcmp(name, "--version") == 0) {
        puts("retro (Retrovisor) " RV_VERSION);
        return RETRO_OK;
    }
    for (unsigned i = 0; i < RV_COUNT(commands); i++) {
        if (strcmp(name, commands[i]->name) != 0) continue;
        for (int k = 2; k < argc && strcmp(argv[k], "--") != 0; k++)
            if (strcmp(argv[k], "--help") == 0 || strcmp(argv[k], "-h") == 0) {
                fputs(commands[i]->help, stdout);
                return RETRO_OK;
            }
        opterr = 0;
        return commands[i]->main(argc - 1, argv + 1);
    }
    fprintf(stderr, "retro: there is no command \"%s\"; see retro --help\n", name);
    return RETRO_USAGE;
}
