/* retro mem */
#include "tools/ask.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "tools/analysis/guest.h"
#include "vmm/base/buf.h"

#define MAX_LEN (1ull << 30)

struct args {
    struct retro_ask ask;
    const char *path, *at, *address;
    uint64_t len;
    uint32_t process;
    bool physical, raw;
};

enum { OPT_AT = RETRO_ASK_OWN, OPT_PROCESS, OPT_PHYSICAL, OPT_RAW };

static const struct option options[] = {
    {"at", required_argument, NULL, OPT_AT},
    {"process", required_argument, NULL, OPT_PROCESS},
    {"physical", no_argument, NULL, OPT_PHYSICAL},
    {"raw", no_argument, NULL, OPT_RAW},
    RETRO_ASK_LONG,
    {NULL, 0, NULL, 0},
};

static int parse(int argc, char **argv, struct args *a) {
    const struct retro_command *cmd = &retro_cmd_mem;
    *a = (struct args){.len = 256};
    retro_ask_init(&a->ask);
    int opt, status = RETRO_OK;
    while (!status && (opt = getopt_long(argc, argv, RETRO_ASK_SHORT, options, NULL)) != -1) {
        switch (opt) {
        case OPT_AT: a->at = optarg; break;
        case OPT_PROCESS: status = retro_ask_process(cmd, optarg, &a->process); break;
        case OPT_PHYSICAL: a->physical = true; break;
        case OPT_RAW: a->raw = true; break;
        default: status = retro_ask_option(&a->ask, cmd, opt, argv);
        }
    }
    if (status) return status;
    if (argc - optind < 2 || argc - optind > 3)
        return retro_usage(cmd, "mem takes a trace, an address and maybe a length");
    a->path = argv[optind];
    a->address = argv[optind + 1];
    if (argc - optind == 3 &&
        (!retro_parse_size(argv[optind + 2], &a->len) || !a->len || a->len > MAX_LEN))
        return retro_usage(cmd, "%s is not a length from 1 to 1G", argv[optind + 2]);
    return RETRO_OK;
}

static void dump(uint64_t from, const uint8_t *data, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        size_t k, part = n - i < 16 ? n - i : 16;
        printf("%016" PRIx64 " ", from + i);
        for (k = 0; k < 16; k++) {
            if (k == 8) putchar(' ');
            if (k < part)
                printf(" %02x", data[i + k]);
            else
                printf("   ");
        }
        printf("  |");
        for (k = 0; k < part; k++) {
            uint8_t c = data[i + k];
            putchar(c >= ' ' && c < 127 ? c : '.');
        }
        printf("|\n");
    }
}

static void print(const struct args *a, uint64_t from, const uint8_t *data, size_t n) {
    if (a->raw) {
        fwrite(data, 1, n, stdout);
    } else if (a->ask.json) {
        char *hex = rv_alloc(2 * n + 1);
        for (size_t i = 0; i < n; i++) snprintf(hex + 2 * i, 3, "%02x", data[i]);
        json_t *o = json_pack("{s:o, s:b, s:I, s:s}", "address", retro_json_hex(from), "physical",
                              a->physical, "length", (json_int_t)n, "data", hex);
        retro_json_put(stdout, o, RETRO_JSON_LINE);
        free(hex);
    } else {
        dump(from, data, n);
    }
}

/* Reads and prints what there is; an error when that is not all. */
static int show(const struct args *a, const struct rv_look *look, struct rv_err *err) {
    uint64_t from, size;
    enum rv_absent why = RV_PRESENT;
    int r = rv_look_resolve(look, a->address, &from, &size, err);
    if (r) return r;
    uint8_t *data = rv_alloc(a->len);
    size_t got = 0;
    if (a->physical) {
        while (got < a->len) {
            size_t part = RV_PAGE_SIZE - ((from + got) & 0xfff);
            if (part > a->len - got) part = a->len - got;
            if (!rv_ram_read(look->cpu.ram, from + got, data + got, part)) break;
            got += part;
        }
    } else {
        got = rv_look_read(look, from, data, a->len, &why);
    }
    if (got) print(a, from, data, got);
    free(data);
    if (got == a->len) return 0;
    return rv_fail(err, RV_E_USAGE, "0x%" PRIx64 " %s at that position%s", from + got,
                   a->physical ? "is not RAM" : rv_absent_text(why),
                   a->physical || look->up ? "" : "; there is no process yet");
}

static int mem_main(int argc, char **argv) {
    struct args a;
    struct rv_err err = {0};
    struct rv_guest *guest = NULL;
    struct rv_look look = {0};
    int status = parse(argc, argv, &a);
    if (status != RETRO_OK) return status;
    int r = retro_ask_open(&a.ask, a.path, "looking", &err);
    if (!r) r = retro_ask_guest(&a.ask, &guest, &err);
    if (!r) r = retro_ask_look(&a.ask, guest, a.at, a.process, &look, &err);
    retro_ask_quiet(&a.ask);
    if (!r) r = show(&a, &look, &err);
    rv_look_release(&look);
    rv_guest_free(guest);
    return retro_ask_close(&a.ask, r, &err);
}

const struct retro_command retro_cmd_mem = {
    .name = "mem",
    .brief = "show memory at a position",
    .help =
        "Usage: retro mem [OPTION]... FILE ADDRESS [LENGTH]\n"
        "Shows LENGTH bytes (default 256; K, M) of the guest's memory. ADDRESS is a number, a\n"
        "symbol, or SYMBOL+NUMBER. A page of a program that it has not touched yet is shown as\n"
        "it would find it.\n\n"
        "      --at POSITION    where (default: end); see retro(1) for how to write it\n"
        "      --process PID    in the memory of this process (default: the one that runs)\n"
        "      --physical       ADDRESS is a physical one\n"
        "      --raw            the bytes themselves\n"
        "      --symbols FILE[@ADDRESS]\n"
        "                       ELF file with symbols; may be given several times\n" RETRO_ASK_HELP
        "\n"
        "Example: retro mem --at 50% boot.retro linux_banner 64\n",
    .main = mem_main,
};
