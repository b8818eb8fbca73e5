#include "sample.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[256];

const char *sample_dir(void) {
    if (!dir[0]) {
        const char *base = getenv("TMPDIR");
        snprintf(dir, sizeof dir, "%.200s/rv-trace-XXXXXX", base ? base : "/tmp");
        cr_assert(mkdtemp(dir) != NULL);
    }
    return dir;
}

const char *sample_path(const char *name) {
    static char paths[4][512];
    static unsigned next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", sample_dir(), name);
    return p;
}

void sample_done(void) {
    if (!dir[0]) return;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(dir);
    dir[0] = 0;
}

/* The image is the blob that sample_write puts into each trace: "hello". */
const struct rv_trace_header sample_header = {
    .tool_version = "0.1.0",
    .created = 1700000000,
    .trace_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    .engine = "interpret",
    .cpu_profile = "base-v1",
    .host_cpu =
        {.vendor = "GenuineTest", .brand = "Test CPU", .family = 6, .model = 85, .stepping = 7},
    .memory_bytes = 64 << 20,
    .rate = (uint64_t)1 << 32,
    .boot_protocol = "linux",
    .command_line = "console=ttyS0",
    .boot_time = 1600000000,
    .images =
        (const struct rv_trace_image[]){{.role = "kernel",
                                         .name = "bzImage",
                                         .size = 5,
                                         .hash = {{0xb5, 0xe9, 0xc1, 0xad, 0x07, 0x1b, 0x3e, 0x7f,
                                                   0xc7, 0x79, 0xcf, 0xaa, 0x5e, 0x52, 0x38, 0x18}},
                                         .embedded = true}},
    .image_count = 1,
    .devices = (const struct rv_trace_device[]){{.name = "uart16550", .version = 1},
                                                {.name = "pit8254", .version = 3}},
    .device_count = 2,
    .options = (const struct rv_trace_option[]){{.key = "note", .text = "test"},
                                                {.key = "cpus", .number = 1}},
    .option_count = 2,
};

uint64_t sample_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

struct rv_trace_event sample_event(uint64_t i) {
    static const uint8_t text[] = "the quick brown fox jumps over the lazy dog";
    uint64_t state = i;
    uint64_t bits = sample_random(&state);
    return (struct rv_trace_event){
        .kind = 1 + (uint32_t)(i % 10),
        .source = (uint32_t)(bits & 3),
        .position = 1000 * i - (i % 3 == 1 ? 1000 : 0),
        .time = 1000 * i + 77 * (i / 5),
        .value = i % 4 ? bits >> 8 & 0xffff : 0,
        .value2 = i % 7 ? 0 : sample_random(&state),
        .data = text,
        .len = i % 2 ? bits >> 32 & 31 : 0,
    };
}

void sample_write(const char *path, uint64_t n, uint64_t every, bool seal) {
    struct rv_trace_writer *w;
    struct rv_err err = {0};
    struct rv_trace_writer_options opt = {.flags = RV_TRACE_OVERWRITE};
    cr_assert_eq(rv_trace_writer_new(&w, path, &opt, &sample_header, &err), 0, "%s", err.msg);
    struct rv_trace_hash hash;
    cr_assert_eq(rv_trace_writer_add_blob(w, "hello", 5, &hash, &err), 0, "%s", err.msg);
    struct rv_trace_event ev = {0};
    for (uint64_t i = 0; i < n; i++) {
        ev = sample_event(i);
        cr_assert_eq(rv_trace_writer_append(w, &ev, &err), 0, "%s", err.msg);
        if (every && i % every == every - 1)
            cr_assert_eq(rv_trace_writer_flush(w, ev.position, ev.time, &err), 0, "%s", err.msg);
    }
    struct rv_trace_summary s = {
        .reason = RV_TRACE_REASON_USER, .text = "done", .position = ev.position, .time = ev.time};
    if (seal) cr_assert_eq(rv_trace_writer_seal(w, &s, &err), 0, "%s", err.msg);
    rv_trace_writer_free(w);
}

static void add_event(struct rv_trace_hasher *h, const struct rv_trace_event *ev) {
    const uint64_t words[] = {ev->kind,  ev->source, ev->position, ev->time,
                              ev->value, ev->value2, ev->len};
    rv_trace_hasher_add(h, words, sizeof words);
    rv_trace_hasher_add(h, ev->data, ev->len);
}

int sample_digest(const struct rv_trace_reader *r, struct sample_digest *d, struct rv_err *err) {
    struct rv_trace_hasher *h = rv_trace_hasher_new();
    struct rv_trace_cursor *c = rv_trace_cursor_new(r);
    const struct rv_trace_event *ev;
    int rc;
    d->count = 0;
    while ((rc = rv_trace_cursor_next(c, &ev, err)) == 0) {
        add_event(h, ev);
        d->count++;
    }
    d->hash = rv_trace_hasher_value(h);
    rv_trace_hasher_free(h);
    rv_trace_cursor_free(c);
    return rc == RV_E_END ? 0 : rc;
}

struct sample_digest sample_expect(uint64_t n) {
    struct rv_trace_hasher *h = rv_trace_hasher_new();
    for (uint64_t i = 0; i < n; i++) {
        struct rv_trace_event ev = sample_event(i);
        add_event(h, &ev);
    }
    struct sample_digest d = {.count = n, .hash = rv_trace_hasher_value(h)};
    rv_trace_hasher_free(h);
    return d;
}

void sample_read_file(const char *path, struct rv_buf *out) {
    rv_buf_clear(out);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(fd >= 0, "%s", path);
    uint8_t part[65536];
    for (ssize_t n; (n = read(fd, part, sizeof part)) > 0;) rv_buf_put(out, part, (size_t)n);
    close(fd);
}

void sample_write_file(const char *path, const void *data, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(fd >= 0, "%s", path);
    cr_assert_eq(write(fd, data, len), (ssize_t)len);
    close(fd);
}
