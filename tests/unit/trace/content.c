/* Blobs, seeking, random histories, and what the writer refuses. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sample.h"

static struct rv_err err;

static struct rv_trace_reader *open_trace(const char *path) {
    struct rv_trace_reader *r = NULL;
    cr_assert_eq(rv_trace_reader_open(&r, path, &err), 0, "%s", err.msg);
    return r;
}

static struct rv_trace_writer *new_trace(const char *path) {
    struct rv_trace_writer *w = NULL;
    cr_assert_eq(rv_trace_writer_new(&w, path, NULL, &sample_header, &err), 0, "%s", err.msg);
    return w;
}

static void seal(struct rv_trace_writer *w, uint64_t position) {
    struct rv_trace_summary s = {.reason = RV_TRACE_REASON_USER, .position = position};
    cr_assert_eq(rv_trace_writer_seal(w, &s, &err), 0, "%s", err.msg);
    rv_trace_writer_free(w);
}

TestSuite(content, .fini = sample_done);

Test(content, blobs_are_stored_once) {
    const char *path = sample_path("a.retro");
    struct rv_trace_writer *w = new_trace(path);
    size_t big = (3u << 20) + 17;
    uint8_t *data = rv_alloc(big), *back = rv_alloc(big);
    uint64_t state = 1;
    for (size_t i = 0; i < big; i++) data[i] = (uint8_t)sample_random(&state);
    struct rv_trace_hash hash[2], empty, small;
    cr_assert_eq(rv_trace_writer_add_blob(w, data, big, &hash[0], &err), 0);
    struct rv_trace_writer_stats before, after;
    rv_trace_writer_stats(w, &before);
    sample_write_file(sample_path("blob"), data, big);
    int fd = open(sample_path("blob"), O_RDONLY | O_CLOEXEC);
    uint64_t size = 0;
    cr_assert_eq(rv_trace_writer_add_blob_fd(w, fd, &hash[1], &size, &err), 0, "%s", err.msg);
    close(fd);
    rv_trace_writer_stats(w, &after);
    cr_assert_eq(size, big);
    cr_assert_eq(before.bytes, after.bytes);
    cr_assert_eq(after.blobs, 1);
    cr_assert(rv_trace_hash_equal(&hash[0], &hash[1]));
    cr_assert_eq(rv_trace_writer_add_blob(w, NULL, 0, &empty, &err), 0);
    /* Enough small ones to make the set of known hashes grow. */
    for (uint32_t i = 0; i < 300; i++)
        cr_assert_eq(rv_trace_writer_add_blob(w, &i, sizeof i, &small, &err), 0);
    seal(w, 0);

    struct rv_trace_reader *r = open_trace(path);
    cr_assert_eq(rv_trace_reader_blob_count(r), 302);
    cr_assert(rv_trace_reader_blob_size(r, &hash[0], &size));
    cr_assert_eq(size, big);
    cr_assert_eq(rv_trace_reader_blob_fetch(r, &hash[0], back, big, &err), 0, "%s", err.msg);
    cr_assert_arr_eq(back, data, big);
    cr_assert_eq(rv_trace_reader_blob_fetch(r, &hash[0], back, 5, &err), RV_E_USAGE);
    cr_assert_eq(rv_trace_reader_blob_fetch(r, &empty, NULL, 0, &err), 0, "%s", err.msg);
    uint32_t number;
    cr_assert_eq(rv_trace_reader_blob_fetch(r, &small, &number, sizeof number, &err), 0);
    cr_assert_eq(number, 299);
    small.bytes[3] ^= 1;
    cr_assert_eq(rv_trace_reader_blob_fetch(r, &small, &number, sizeof number, &err), RV_E_USAGE);
    rv_trace_reader_free(r);
    free(data);
    free(back);
}

Test(content, a_blob_from_a_file_is_the_same) {
    const char *path = sample_path("a.retro");
    struct rv_trace_writer *w = new_trace(path);
    size_t len = 2u << 20; /* exactly two parts */
    uint8_t *data = rv_alloc(len), *back = rv_alloc(len);
    memset(data, 0x5a, len);
    sample_write_file(sample_path("blob"), data, len);
    int fd = open(sample_path("blob"), O_RDONLY | O_CLOEXEC);
    struct rv_trace_hash hash;
    cr_assert_eq(rv_trace_writer_add_blob_fd(w, fd, &hash, NULL, &err), 0, "%s", err.msg);
    close(fd);
    rv_trace_writer_free(w); /* unsealed: the reader has to find the blob by scanning */
    struct rv_trace_reader *r = open_trace(path);
    cr_assert_eq(rv_trace_reader_blob_fetch(r, &hash, back, len, &err), 0, "%s", err.msg);
    cr_assert_arr_eq(back, data, len);
    rv_trace_reader_free(r);
    free(data);
    free(back);
}

Test(content, seek_finds_the_first_event_at_or_after) {
    const char *path = sample_path("a.retro");
    const uint64_t n = 2000;
    sample_write(path, n, 100, true);
    struct rv_trace_reader *r = open_trace(path);
    struct rv_trace_cursor *c = rv_trace_cursor_new(r);
    const struct rv_trace_event *ev;
    uint64_t state = 5;
    for (int i = 0; i < 500; i++) {
        uint64_t target = sample_random(&state) % (n * 1000 + 2000), want = 0;
        while (want < n && sample_event(want).position < target) want++;
        cr_assert_eq(rv_trace_cursor_seek(c, target, &err), 0, "%s", err.msg);
        cr_assert_eq(rv_trace_cursor_ordinal(c), want);
        int rc = rv_trace_cursor_peek(c, &ev, &err);
        cr_assert_eq(rc, want == n ? RV_E_END : 0);
        if (!rc) cr_assert_eq(ev->time, sample_event(want).time);
        uint64_t ordinal = sample_random(&state) % (n + 1);
        cr_assert_eq(rv_trace_cursor_seek_ordinal(c, ordinal, &err), 0, "%s", err.msg);
        rc = rv_trace_cursor_next(c, &ev, &err);
        cr_assert_eq(rc, ordinal == n ? RV_E_END : 0);
        if (!rc) cr_assert_eq(ev->position, sample_event(ordinal).position);
    }
    cr_assert_eq(rv_trace_cursor_seek_ordinal(c, n + 1, &err), RV_E_USAGE);
    rv_trace_cursor_free(c);
    rv_trace_reader_free(r);
}

static struct rv_trace_event random_event(uint64_t *state, uint64_t position, uint8_t *data) {
    uint64_t bits = sample_random(state);
    size_t len = bits & 1 ? sample_random(state) % 300 : 0;
    if ((bits & 0xff) == 7) len = 100000;
    for (size_t i = 0; i < len; i++) data[i] = (uint8_t)sample_random(state);
    return (struct rv_trace_event){
        .kind = 1 + (uint32_t)(sample_random(state) % (RV_TRACE_MAX_KINDS - 1)),
        .source = bits & 2 ? (uint32_t)sample_random(state) : 0,
        .position = position,
        .time = bits & 4 ? sample_random(state) : position * 3,
        .value = bits & 8 ? sample_random(state) >> (bits >> 8 & 63) : 0,
        .value2 = bits & 16 ? sample_random(state) : 0,
        .data = data,
        .len = len,
    };
}

/* Any history comes back, whatever the rate, the fields and the places of the flushes. */
Test(content, random_histories) {
    static uint8_t data[100000];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const char *path = sample_path("a.retro");
        struct rv_trace_header header = sample_header;
        uint64_t rate = seed;
        header.rate = seed % 5 ? sample_random(&rate) >> (seed % 40) : 0;
        struct rv_trace_writer_options opt = {.flags = RV_TRACE_OVERWRITE, .reserve = 8192};
        struct rv_trace_writer *w;
        cr_assert_eq(rv_trace_writer_new(&w, path, &opt, &header, &err), 0, "%s", err.msg);
        uint64_t state = seed, position = 0, n = 0;
        for (; n < 600; n++) {
            uint64_t step = sample_random(&state);
            if (step & 1) position += step >> 1 & 0xffffff;
            if ((step & 0xfff0) == 0) position = UINT64_MAX - (UINT64_MAX - position) / 2;
            struct rv_trace_event ev = random_event(&state, position, data);
            cr_assert_eq(rv_trace_writer_append(w, &ev, &err), 0, "%s", err.msg);
            if ((step & 0x1f0000) == 0)
                cr_assert_eq(rv_trace_writer_flush(w, position, ev.time, &err), 0);
        }
        seal(w, position);

        struct rv_trace_reader *r = open_trace(path);
        struct rv_trace_cursor *c = rv_trace_cursor_new(r);
        state = seed;
        position = 0;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t step = sample_random(&state);
            if (step & 1) position += step >> 1 & 0xffffff;
            if ((step & 0xfff0) == 0) position = UINT64_MAX - (UINT64_MAX - position) / 2;
            struct rv_trace_event want = random_event(&state, position, data);
            const struct rv_trace_event *ev;
            cr_assert_eq(rv_trace_cursor_next(c, &ev, &err), 0, "%s", err.msg);
            cr_assert(ev->kind == want.kind && ev->source == want.source &&
                      ev->position == want.position && ev->time == want.time &&
                      ev->value == want.value && ev->value2 == want.value2 && ev->len == want.len);
            cr_assert(want.len == 0 || memcmp(ev->data, want.data, want.len) == 0);
        }
        rv_trace_cursor_free(c);
        rv_trace_reader_free(r);
    }
}

Test(content, a_flush_without_events_is_tiny) {
    const char *path = sample_path("a.retro");
    struct rv_trace_writer *w = new_trace(path);
    struct rv_trace_writer_stats a, b;
    rv_trace_writer_stats(w, &a);
    cr_assert_eq(rv_trace_writer_flush(w, 1ull << 40, 1ull << 40, &err), 0);
    rv_trace_writer_stats(w, &b);
    cr_assert_leq(b.bytes - a.bytes, 80);
    cr_assert_eq(rv_trace_writer_flush(w, 1ull << 40, 1ull << 40, &err), 0);
    rv_trace_writer_stats(w, &a);
    cr_assert_eq(a.bytes, b.bytes);
    rv_trace_writer_free(w);
    struct rv_trace_reader *r = open_trace(path);
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    cr_assert(s.position == 1ull << 40 && s.time == 1ull << 40 && s.events == 0);
    rv_trace_reader_free(r);
}

/* The promise of a few bytes for an event: a key press is about seven. */
Test(content, events_are_small) {
    const char *path = sample_path("a.retro");
    struct rv_trace_writer *w = new_trace(path);
    const uint64_t n = 10000;
    for (uint64_t i = 0; i < n; i++) {
        uint8_t key = (uint8_t)(i * 7);
        struct rv_trace_event ev = {.kind = RV_TRACE_INPUT,
                                    .source = 1,
                                    .position = i * 250000,
                                    .time = i * 250000 + 12345,
                                    .data = &key,
                                    .len = 1};
        cr_assert_eq(rv_trace_writer_append(w, &ev, &err), 0);
    }
    seal(w, n * 250000);
    struct rv_trace_reader *r = open_trace(path);
    struct rv_trace_stats stats;
    cr_assert_eq(rv_trace_reader_stats(r, &stats, &err), 0);
    cr_assert_eq(stats.events[RV_TRACE_INPUT], n);
    cr_assert_eq(stats.data_bytes[RV_TRACE_INPUT], n);
    cr_assert_leq(stats.event_bytes, 7 * n);
    rv_trace_reader_free(r);
}

Test(content, derived_chunks_are_passed_over) {
    const char *path = sample_path("a.retro");
    struct rv_trace_writer *w = new_trace(path);
    struct rv_trace_event ev = sample_event(0);
    cr_assert_eq(rv_trace_writer_append(w, &ev, &err), 0);
    cr_assert_eq(rv_trace_writer_add_chunk(w, 0x8123, "derived", 7, &err), 0);
    cr_assert_eq(rv_trace_writer_add_chunk(w, 0x7fff, "derived", 7, &err), RV_E_USAGE);
    seal(w, ev.position);
    struct rv_trace_reader *r = open_trace(path);
    struct rv_trace_chunk_info info;
    rv_trace_reader_chunk_at(r, 1, &info);
    cr_assert_eq(info.type, 0x8123);
    cr_assert_str_eq(info.type_name, "other");
    struct rv_buf buf = {0};
    cr_assert_eq(rv_trace_reader_chunk_read(r, 1, &buf, &err), 0, "%s", err.msg);
    cr_assert(buf.len == 7 && memcmp(buf.data, "derived", 7) == 0);
    struct sample_digest d;
    cr_assert_eq(sample_digest(r, &d, &err), 0);
    cr_assert_eq(d.count, 1);
    rv_buf_release(&buf);
    rv_trace_reader_free(r);
}

Test(content, the_writer_refuses_disorder) {
    const char *path = sample_path("a.retro");
    struct rv_trace_writer *w = new_trace(path), *second;
    cr_assert_eq(rv_trace_writer_new(&second, path, NULL, &sample_header, &err), RV_E_USAGE);
    struct rv_trace_writer_options over = {.flags = RV_TRACE_OVERWRITE};
    cr_assert_eq(rv_trace_writer_new(&second, path, &over, &sample_header, &err), RV_E_HOST);
    struct rv_trace_event ev = {.kind = RV_TRACE_MARK, .position = 10};
    cr_assert_eq(rv_trace_writer_append(w, &ev, &err), 0);
    ev.position = 9;
    cr_assert_eq(rv_trace_writer_append(w, &ev, &err), RV_E_USAGE);
    cr_assert_eq(rv_trace_writer_flush(w, 9, 0, &err), RV_E_USAGE);
    cr_assert_eq(rv_trace_writer_flush(w, 20, 0, &err), 0);
    ev.position = 19;
    cr_assert_eq(rv_trace_writer_append(w, &ev, &err), RV_E_USAGE);
    ev = (struct rv_trace_event){.kind = 0, .position = 30};
    cr_assert_eq(rv_trace_writer_append(w, &ev, &err), RV_E_USAGE);
    ev.kind = RV_TRACE_MAX_KINDS;
    cr_assert_eq(rv_trace_writer_append(w, &ev, &err), RV_E_USAGE);
    struct rv_trace_summary s = {.position = 25};
    cr_assert_eq(rv_trace_writer_seal(w, &s, &err), 0);
    cr_assert_eq(rv_trace_writer_seal(w, &s, &err), RV_E_USAGE);
    cr_assert_eq(rv_trace_writer_flush(w, 40, 0, &err), RV_E_USAGE);
    rv_trace_writer_free(w);
    rv_trace_writer_free(NULL);
}

/* More chunks than one index chunk lists, with blobs across the border. */
Test(content, the_index_may_take_several_chunks) {
    const char *path = sample_path("a.retro");
    struct rv_trace_writer *w = new_trace(path);
    for (uint64_t i = 1; i < 33500; i++) {
        cr_assert_eq(rv_trace_writer_flush(w, i * 10, i, &err), 0);
        struct rv_trace_hash hash;
        if (i % 100 == 0) cr_assert_eq(rv_trace_writer_add_blob(w, &i, sizeof i, &hash, &err), 0);
    }
    struct rv_trace_event ev = {.kind = RV_TRACE_STOP, .position = 335000};
    cr_assert_eq(rv_trace_writer_append(w, &ev, &err), 0);
    seal(w, 335001);
    struct rv_trace_reader *r = open_trace(path);
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    cr_assert(s.sealed && s.has_index && s.events == 1 && s.position == 335001);
    cr_assert_eq(rv_trace_reader_blob_count(r), 334);
    struct rv_trace_hash hash;
    uint64_t back, number = 33400;
    hash = rv_trace_hash_of(&number, sizeof number);
    cr_assert_eq(rv_trace_reader_blob_fetch(r, &hash, &back, sizeof back, &err), 0);
    cr_assert_eq(back, number);
    rv_trace_reader_free(r);
}
