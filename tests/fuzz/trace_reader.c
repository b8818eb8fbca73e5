/* Everything that reads a trace, on bytes from a fuzzer. Built with
 * FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION, which makes every checksum count as right: what is
 * behind them is what needs the test. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "trace-format/reader.h"
#include "trace-format/salvage.h"
#include "trace-format/verify.h"

enum { EVENT_LIMIT = 100000 };

static int look(void *ctx, const void *data, size_t len) {
    uint8_t *sum = ctx;
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i += 4096) *sum ^= p[i];
    return 0;
}

static void walk(const struct rv_trace_reader *r, uint64_t seek) {
    struct rv_err err;
    struct rv_trace_cursor *c = rv_trace_cursor_new(r);
    const struct rv_trace_event *ev;
    uint64_t last = 0;
    for (int i = 0; i < EVENT_LIMIT && !rv_trace_cursor_next(c, &ev, &err); i++) {
        if (ev->position < last || ev->kind == 0 || ev->kind >= RV_TRACE_MAX_KINDS) abort();
        last = ev->position;
        uint8_t sum = 0;
        look(&sum, ev->data, ev->len);
    }
    if (!rv_trace_cursor_seek(c, seek, &err) && !rv_trace_cursor_next(c, &ev, &err) &&
        ev->position < seek)
        abort();
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    if (s.events && s.events < EVENT_LIMIT)
        rv_trace_cursor_seek_ordinal(c, seek % (s.events + 1), &err);
    rv_trace_cursor_free(c);
}

static void everything(const struct rv_trace_reader *r, uint64_t seek) {
    struct rv_err err;
    struct rv_buf buf = {0};
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    for (uint64_t i = 0; i < s.chunks; i++) {
        struct rv_trace_chunk_info info;
        rv_trace_reader_chunk_at(r, i, &info);
        rv_trace_reader_chunk_read(r, i, &buf, &err);
    }
    for (size_t i = 0; i < rv_trace_reader_blob_count(r); i++) {
        struct rv_trace_hash hash;
        uint64_t size;
        uint8_t sum = 0;
        rv_trace_reader_blob_at(r, i, &hash, &size);
        rv_trace_reader_blob_read(r, &hash, look, &sum, &err);
    }
    rv_buf_release(&buf);
    walk(r, seek);
}

/* A name that both verify and salvage can open and write. */
static const char *scratch(void) {
    static char path[64];
    if (!path[0]) {
        int fd = memfd_create("salvaged", MFD_CLOEXEC);
        if (fd < 0) abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fd = memfd_create("trace", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    struct rv_err err;
    struct rv_trace_reader *r;
    uint64_t seek = size ? (uint64_t)data[size - 1] * 1000 : 0;
    if (rv_trace_reader_open_fd(&r, fd, "fuzz", &err) == 0) {
        everything(r, seek);
        rv_trace_reader_free(r);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    rv_trace_verify(path, NULL, NULL, NULL, &err);
    if (seek % 8000 == 0 &&
        rv_trace_salvage(path, scratch(), RV_TRACE_SALVAGE_OVERWRITE, NULL, &err) == 0 &&
        rv_trace_reader_open(&r, scratch(), &err) == 0) {
        struct rv_trace_state s;
        rv_trace_reader_state(r, &s);
        if (!s.sealed || !s.whole) abort();
        rv_trace_reader_free(r);
    }
    close(fd);
    return 0;
}
