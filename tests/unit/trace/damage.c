/* A damaged trace gives an error or the same events, never different ones. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "sample.h"
#include "trace-format/chunk.h"
#include "vmm/base/types.h"

enum { EVENTS = 40 };

static struct rv_buf file;
static int fd = -1;
static struct sample_digest expected[EVENTS + 1];

static void start(bool sealed) {
    const char *path = sample_path("a.retro");
    sample_write(path, EVENTS, 8, sealed);
    sample_read_file(path, &file);
    fd = memfd_create("trace", MFD_CLOEXEC);
    for (uint64_t n = 0; n <= EVENTS; n++) expected[n] = sample_expect(n);
}

static void finish(void) {
    if (fd >= 0) close(fd);
    rv_buf_release(&file);
    sample_done();
}

TestSuite(damage, .fini = finish);

struct outcome {
    int rc; /* of opening, or of reading the events */
    bool opened;
    uint64_t count;
    struct rv_trace_state state;
    char msg[512];
};

/* Opens the bytes as a trace. Whatever happens, the events are a prefix of the true ones, and an
 * error has a message. */
static struct outcome read_bytes(const void *data, size_t len) {
    struct outcome o = {0};
    struct rv_err err = {0};
    cr_assert_eq(ftruncate(fd, 0), 0);
    cr_assert_eq(pwrite(fd, data, len, 0), (ssize_t)len);
    struct rv_trace_reader *r;
    o.rc = rv_trace_reader_open_fd(&r, fd, "t.retro", &err);
    if (!o.rc) {
        struct sample_digest d;
        o.opened = true;
        rv_trace_reader_state(r, &o.state);
        o.state.damage = NULL;
        o.rc = sample_digest(r, &d, &err);
        o.count = d.count;
        cr_assert_leq(d.count, EVENTS);
        cr_assert(rv_trace_hash_equal(&d.hash, &expected[d.count].hash), "different events");
        cr_assert_str_eq(rv_trace_reader_header(r)->engine, "interpret");
        rv_trace_reader_free(r);
    }
    if (o.rc) {
        cr_assert(o.rc == RV_E_FORMAT || o.rc == RV_E_UNSUPPORTED, "code %d", o.rc);
        cr_assert(err.msg[0] && strstr(err.msg, "t.retro"), "'%s'", err.msg);
    }
    memcpy(o.msg, err.msg, sizeof o.msg);
    return o;
}

static void cut_everywhere(bool sealed) {
    start(sealed);
    uint64_t before = 0;
    for (size_t len = 0; len <= file.len; len++) {
        struct outcome o = read_bytes(file.data, len);
        /* A cut is what a killed recorder leaves: once the header is there, never an error. */
        if (!o.opened) {
            cr_assert_eq(before, 0);
            continue;
        }
        cr_assert_eq(o.rc, 0, "cut at %zu: %s", len, o.msg);
        cr_assert_geq(o.count, before);
        cr_assert_eq(o.state.sealed, sealed && len == file.len);
        before = o.count;
    }
    cr_assert_eq(before, EVENTS);
}

Test(damage, a_cut_sealed_trace_is_a_prefix) { cut_everywhere(true); }
Test(damage, a_cut_unsealed_trace_is_a_prefix) { cut_everywhere(false); }

static void flip_everything(bool sealed) {
    start(sealed);
    for (size_t bit = 0; bit < 8 * file.len; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct outcome o = read_bytes(file.data, file.len);
        if (!o.rc) cr_assert_eq(o.count, EVENTS, "flip of bit %zu lost events silently", bit);
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

Test(damage, flips_in_a_sealed_trace) { flip_everything(true); }
Test(damage, flips_in_an_unsealed_trace) { flip_everything(false); }

static void bounds(size_t offsets[64], size_t *count) {
    struct rv_trace_reader *r;
    struct rv_err err;
    cr_assert_eq(rv_trace_reader_open(&r, sample_path("a.retro"), &err), 0);
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    cr_assert(s.chunks > 1 && s.chunks < 63);
    for (size_t i = 0; i < s.chunks; i++) {
        struct rv_trace_chunk_info info;
        rv_trace_reader_chunk_at(r, i, &info);
        offsets[i] = info.offset;
        offsets[i + 1] = info.offset + info.size;
    }
    *count = s.chunks;
    rv_trace_reader_free(r);
}

/* Copies, drops and exchanges whole chunks, whose checksums stay right. */
static void rearrange(bool sealed) {
    start(sealed);
    size_t at[64], n;
    bounds(at, &n);
    struct rv_buf out = {0};
    for (size_t i = 0; i < n; i++) {
        size_t len = at[i + 1] - at[i];
        rv_buf_clear(&out); /* twice */
        rv_buf_put(&out, file.data, at[i + 1]);
        rv_buf_put(&out, file.data + at[i], file.len - at[i]);
        struct outcome o = read_bytes(out.data, out.len);
        cr_assert(o.rc || (sealed && i + 2 >= n && o.count == EVENTS), "chunk %zu twice", i);

        rv_buf_clear(&out); /* not at all */
        rv_buf_put(&out, file.data, at[i]);
        rv_buf_put(&out, file.data + at[i + 1], file.len - at[i + 1]);
        o = read_bytes(out.data, out.len);
        bool tail = i + 1 == n && !sealed; /* indistinguishable from a recorder killed earlier */
        cr_assert(o.rc || tail || (sealed && i + 2 >= n && o.count == EVENTS), "chunk %zu gone", i);

        for (size_t j = i + 1; j < n; j++) { /* in the place of another */
            rv_buf_clear(&out);
            rv_buf_put(&out, file.data, at[i]);
            rv_buf_put(&out, file.data + at[j], at[j + 1] - at[j]);
            rv_buf_put(&out, file.data + at[i + 1], at[j] - at[i + 1]);
            rv_buf_put(&out, file.data + at[i], len);
            rv_buf_put(&out, file.data + at[j + 1], file.len - at[j + 1]);
            o = read_bytes(out.data, out.len);
            cr_assert(o.rc || (sealed && i + 2 >= n && o.count == EVENTS), "%zu for %zu", i, j);
        }
    }
    rv_buf_release(&out);
}

Test(damage, rearranged_chunks_of_a_sealed_trace) { rearrange(true); }
Test(damage, rearranged_chunks_of_an_unsealed_trace) { rearrange(false); }

/* Changes a field of each chunk header and makes the checksums right again. */
Test(damage, inflated_lengths_with_right_checksums) {
    start(true);
    size_t at[64], n;
    bounds(at, &n);
    uint64_t salt;
    uint32_t version;
    cr_assert_null(rv_preamble_get(file.data, &salt, &version));
    static const uint32_t values[] = {
        0,          1,          0xff,      0x10000, RV_TRACE_MAX_RAW, RV_TRACE_MAX_RAW + 1,
        0x7fffffff, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < n; i++) {
        for (size_t v = 0; v < 4 * RV_COUNT(values); v++) {
            struct rv_chunk c;
            cr_assert_null(rv_chunk_header_get(file.data + at[i], salt, &c));
            uint32_t *field[] = {&c.raw_len, &c.count, &c.sequence, &c.stored_len};
            if (*field[v % 4] == values[v / 4]) continue;
            *field[v % 4] = values[v / 4];
            struct rv_buf header = {0}, copy = {0};
            size_t stored = at[i + 1] - at[i] - RV_CHUNK_HEADER_SIZE;
            rv_buf_put(&copy, file.data, file.len);
            rv_chunk_header_put(&header, salt, &c, file.data + at[i] + RV_CHUNK_HEADER_SIZE,
                                c.stored_len < stored ? c.stored_len : stored);
            memcpy(copy.data + at[i], header.data, header.len);
            struct outcome o = read_bytes(copy.data, copy.len);
            if (c.type == RV_CHUNK_EVENTS)
                cr_assert(o.rc, "chunk %zu field %zu value %u", i, v % 4, values[v / 4]);
            rv_buf_release(&header);
            rv_buf_release(&copy);
        }
    }
}

Test(damage, a_newer_format_is_named) {
    start(true);
    /* Format 9: magic, version, and the sum over the first 24 bytes, as every version has it. */
    static const uint8_t newer[32] = {0x89, 'R', 'E', 'T', 'R', 'O', '\r', '\n', 9, 0, 0,
                                      0,    0,   0,   0,   0,   1,   0,    0,    0, 0, 0,
                                      0,    0,   0,   0,   0,   0,   0,    0,    0, 0};
    uint8_t bytes[32];
    memcpy(bytes, newer, sizeof bytes);
    uint64_t sum = XXH3_64bits(bytes, 24);
    memcpy(bytes + 24, &sum, sizeof sum);
    struct outcome o = read_bytes(bytes, sizeof bytes);
    cr_assert_eq(o.rc, RV_E_UNSUPPORTED);
    cr_assert(strstr(o.msg, "newer Retrovisor (format 9"), "%s", o.msg);
}

static struct outcome with_chunk(uint16_t type, uint16_t flags) {
    uint64_t salt;
    uint32_t version;
    rv_preamble_get(file.data, &salt, &version);
    size_t at[64], n;
    bounds(at, &n);
    struct rv_chunk c = {.type = type, .flags = flags, .sequence = (uint32_t)n};
    struct rv_buf out = {0};
    rv_buf_put(&out, file.data, file.len);
    rv_chunk_put(&out, salt, &c, "xyz", 3);
    struct outcome o = read_bytes(out.data, out.len);
    rv_buf_release(&out);
    return o;
}

Test(damage, unknown_chunks) {
    start(false);
    struct outcome o = with_chunk(77, RV_CHUNK_OPTIONAL);
    cr_assert(o.rc == 0 && o.count == EVENTS);
    o = with_chunk(77, 0);
    cr_assert_eq(o.rc, RV_E_UNSUPPORTED);
    cr_assert(strstr(o.msg, "type 77"), "%s", o.msg);
}

Test(damage, other_files_are_refused) {
    start(true);
    static const char text[] = "this is not a trace, it is a text of more than thirty-two bytes";
    struct outcome o = read_bytes(text, sizeof text);
    cr_assert(o.rc == RV_E_FORMAT && strstr(o.msg, "not a Retrovisor trace"), "%s", o.msg);
    o = read_bytes("", 0);
    cr_assert(o.rc == RV_E_FORMAT && strstr(o.msg, "too short"), "%s", o.msg);
    struct rv_trace_reader *r;
    struct rv_err err;
    cr_assert_eq(rv_trace_reader_open(&r, sample_path("absent"), &err), RV_E_HOST);
    cr_assert_eq(rv_trace_reader_open(&r, "/dev/null", &err), RV_E_FORMAT);
}

/* A chunk of another trace has right sums of its own, with another salt. */
Test(damage, chunks_of_another_trace_do_not_fit) {
    start(false);
    size_t at[64], n;
    bounds(at, &n);
    struct rv_chunk c;
    uint64_t salt;
    uint32_t version;
    rv_preamble_get(file.data, &salt, &version);
    cr_assert_null(rv_chunk_header_get(file.data + at[n - 1], salt, &c));
    struct rv_buf out = {0};
    rv_buf_put(&out, file.data, at[n - 1]);
    rv_chunk_header_put(&out, salt + 1, &c, file.data + at[n - 1] + RV_CHUNK_HEADER_SIZE,
                        c.stored_len);
    rv_buf_put(&out, file.data + at[n - 1] + RV_CHUNK_HEADER_SIZE, c.stored_len);
    struct outcome o = read_bytes(out.data, out.len);
    cr_assert(o.rc == RV_E_FORMAT && strstr(o.msg, "another trace"), "%s", o.msg);
    rv_buf_release(&out);
}
