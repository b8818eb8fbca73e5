/* retro-fuzz-seeds DIR: small traces that between them use all of the format, for a fuzzer to start
 * from. */
#include <stdio.h>
#include <string.h>

#include "trace-format/limits.h"
#include "trace-format/writer.h"

static const uint8_t noise[] = "\x93\x1f\x08\xe2\x7b\x55\xc0\x0d\xfe\x31\xa9";

static int history(struct rv_trace_writer *w, unsigned variant, struct rv_err *err) {
    static uint8_t flat[3000];
    struct rv_trace_hash hash;
    int rc = 0;
    if (variant & 1) rc = rv_trace_writer_add_blob(w, flat, sizeof flat, &hash, err);
    if (!rc && variant & 1) rc = rv_trace_writer_add_blob(w, noise, sizeof noise, &hash, err);
    for (uint64_t i = 0; i < 30 && !rc; i++) {
        struct rv_trace_event ev = {
            .kind = 1 + (uint32_t)(i % 12),
            .source = (uint32_t)(i / 7),
            .position = i * i * 100,
            .time = i * i * 50 + (i == 20) * 1000000,
            .value = i % 3 ? 0 : i << (i % 60),
            .value2 = i % 5 ? 0 : 0x0123456789abcdef,
            .data = variant & 2 ? flat : noise,
            .len = i % 2         ? 0
                   : variant & 2 ? 200
                                 : 1 + i % 10,
        };
        rc = rv_trace_writer_append(w, &ev, err);
        if (!rc && i % 10 == 9) rc = rv_trace_writer_flush(w, ev.position + 1, ev.time, err);
    }
    if (!rc && variant & 4) rc = rv_trace_writer_add_chunk(w, 0x8001, noise, sizeof noise, err);
    if (!rc) rc = rv_trace_writer_flush(w, 1 << 20, 1 << 19, err);
    return rc;
}

static int write_seed(const char *dir, unsigned variant, struct rv_err *err) {
    static const struct rv_trace_image images[] = {
        {.role = "kernel", .name = "bzImage", .size = 11, .embedded = false}};
    static const struct rv_trace_device devices[] = {{"uart16550", 1}, {"pit8254", 2}};
    static const struct rv_trace_option options[] = {{"note", "seed", 0}, {"cpus", NULL, 1}};
    static const uint64_t rates[] = {0, (uint64_t)1 << 31, (uint64_t)1 << 32, UINT64_MAX};
    struct rv_trace_header header = {
        .tool_version = RV_VERSION,
        .trace_id = {(uint8_t)variant},
        .engine = "interpret",
        .rate = rates[variant % 4],
        .images = images,
        .image_count = variant & 8 ? 1 : 0,
        .devices = devices,
        .device_count = variant & 8 ? 2 : 0,
        .options = options,
        .option_count = variant & 8 ? 2 : 0,
    };
    char path[4096];
    snprintf(path, sizeof path, "%s/seed-%02u.retro", dir, variant);
    struct rv_trace_writer *w;
    struct rv_trace_writer_options opt = {.flags = RV_TRACE_OVERWRITE};
    int rc = rv_trace_writer_new(&w, path, &opt, &header, err);
    if (rc) return rc;
    rc = history(w, variant, err);
    struct rv_trace_summary summary = {.reason = 1, .text = "seed", .position = 1 << 20};
    if (!rc && variant < 24) rc = rv_trace_writer_seal(w, &summary, err);
    rv_trace_writer_free(w);
    return rc;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: retro-fuzz-seeds DIR\n");
        return 2;
    }
    for (unsigned variant = 0; variant < 32; variant++) {
        struct rv_err err;
        if (write_seed(argv[1], variant, &err)) {
            fprintf(stderr, "retro-fuzz-seeds: %s\n", err.msg);
            return 1;
        }
    }
    return 0;
}
