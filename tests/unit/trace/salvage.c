/* Verify finds every damage and says where; salvage keeps what is before it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "sample.h"
#include "trace-format/chunk.h"
#include "trace-format/salvage.h"
#include "trace-format/verify.h"

enum { EVENTS = 40 };

static struct rv_err err;
static struct rv_buf file;
static size_t at[64], chunks;

static void start(bool sealed) {
    const char *path = sample_path("a.retro");
    sample_write(path, EVENTS, 8, sealed);
    sample_read_file(path, &file);
    struct rv_trace_reader *r;
    cr_assert_eq(rv_trace_reader_open(&r, path, &err), 0, "%s", err.msg);
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    chunks = s.chunks;
    for (size_t i = 0; i < chunks; i++) {
        struct rv_trace_chunk_info info;
        rv_trace_reader_chunk_at(r, i, &info);
        at[i] = info.offset;
        at[i + 1] = info.offset + info.size;
    }
    rv_trace_reader_free(r);
}

static void finish(void) {
    rv_buf_release(&file);
    sample_done();
}

TestSuite(salvage, .fini = finish);

struct findings {
    uint64_t first_offset, first_chunk;
    uint64_t errors;
    char text[512];
};

static void collect(void *ctx, const struct rv_trace_finding *f) {
    struct findings *all = ctx;
    if (f->severity != RV_TRACE_FINDING_ERROR) return;
    if (all->errors++) return;
    all->first_offset = f->offset;
    all->first_chunk = f->chunk;
    snprintf(all->text, sizeof all->text, "%s", f->text);
}

static int verify(const char *path, struct findings *f, struct rv_trace_verdict *v) {
    *f = (struct findings){0};
    return rv_trace_verify(path, collect, f, v, &err);
}

Test(salvage, a_whole_trace_has_no_findings) {
    struct findings f;
    struct rv_trace_verdict v;
    start(true);
    cr_assert_eq(verify(sample_path("a.retro"), &f, &v), 0, "%s", f.text);
    cr_assert(v.sealed && v.events == EVENTS && v.blobs == 1 && v.chunks == chunks && !v.notes);
    start(false);
    cr_assert_eq(verify(sample_path("a.retro"), &f, &v), 0, "%s", f.text);
    cr_assert(!v.sealed && v.events == EVENTS && v.notes == 1);
}

Test(salvage, every_flip_is_found) {
    start(true);
    const char *path = sample_path("b.retro");
    for (size_t byte = 0; byte < file.len; byte++) {
        file.data[byte] ^= 0x10;
        sample_write_file(path, file.data, file.len);
        struct findings f;
        struct rv_trace_verdict v;
        int rc = verify(path, &f, &v);
        cr_assert(rc == RV_E_FORMAT || rc == RV_E_UNSUPPORTED, "byte %zu: %d", byte, rc);
        for (size_t i = 1; i < chunks && f.errors; i++)
            if (byte >= at[i] && byte < at[i + 1] && f.first_chunk != UINT64_MAX)
                cr_assert_eq(f.first_offset, at[i], "byte %zu: %s", byte, f.text);
        file.data[byte] ^= 0x10;
    }
}

static uint64_t count_events(const char *path, struct rv_trace_state *s, uint32_t *reason) {
    struct rv_trace_reader *r;
    struct sample_digest d;
    cr_assert_eq(rv_trace_reader_open(&r, path, &err), 0, "%s", err.msg);
    cr_assert_eq(sample_digest(r, &d, &err), 0, "%s", err.msg);
    struct sample_digest want = sample_expect(d.count);
    cr_assert(rv_trace_hash_equal(&d.hash, &want.hash));
    rv_trace_reader_state(r, s);
    *reason = rv_trace_reader_summary(r)->reason;
    rv_trace_reader_free(r);
    return d.count;
}

/* Whatever byte is hit, salvage gives a whole trace with a prefix of the events, or says that the
 * header is gone. */
Test(salvage, of_every_flip) {
    start(true);
    const char *in = sample_path("b.retro"), *out = sample_path("c.retro");
    for (size_t byte = 0; byte < file.len; byte += 3) {
        file.data[byte] ^= 0x04;
        sample_write_file(in, file.data, file.len);
        struct rv_trace_salvage s;
        int rc = rv_trace_salvage(in, out, RV_TRACE_SALVAGE_OVERWRITE, &s, &err);
        file.data[byte] ^= 0x04;
        if (byte < at[1]) {
            cr_assert_neq(rc, 0, "byte %zu", byte);
            continue;
        }
        cr_assert_eq(rc, 0, "byte %zu: %s", byte, err.msg);
        struct findings f;
        struct rv_trace_verdict v;
        cr_assert(verify(out, &f, &v) == 0 || s.blobs_lost, "byte %zu: %s", byte, f.text);
        struct rv_trace_state state;
        uint32_t reason;
        cr_assert_eq(count_events(out, &state, &reason), s.events);
        cr_assert(state.sealed && state.position == s.position);
        cr_assert_eq(s.events + s.events_lost, EVENTS, "byte %zu", byte);
        cr_assert_eq(s.whole, s.events == EVENTS);
        cr_assert_eq(s.blobs + s.blobs_lost, 1);
    }
}

Test(salvage, of_an_unsealed_trace) {
    start(false);
    const char *in = sample_path("b.retro"), *out = sample_path("c.retro");
    sample_write_file(in, file.data, file.len - 3);
    struct rv_trace_salvage s;
    cr_assert_eq(rv_trace_salvage(in, out, 0, &s, &err), 0, "%s", err.msg);
    cr_assert(s.whole && s.events == EVENTS - 8);
    struct rv_trace_state state;
    uint32_t reason;
    cr_assert_eq(count_events(out, &state, &reason), EVENTS - 8);
    cr_assert_eq(reason, RV_TRACE_REASON_SALVAGED);
    cr_assert_eq(rv_trace_salvage(in, out, 0, &s, &err), RV_E_USAGE);
    cr_assert_eq(rv_trace_salvage(in, in, RV_TRACE_SALVAGE_OVERWRITE, &s, &err), RV_E_USAGE);
}

/* A lost index costs nothing: the old end of the recording stays. */
Test(salvage, of_a_lost_index_keeps_the_summary) {
    start(true);
    const char *in = sample_path("b.retro"), *out = sample_path("c.retro");
    file.data[at[chunks - 1] + RV_CHUNK_HEADER_SIZE] ^= 1;
    sample_write_file(in, file.data, file.len);
    struct rv_trace_salvage s;
    cr_assert_eq(rv_trace_salvage(in, out, 0, &s, &err), 0, "%s", err.msg);
    cr_assert(s.whole && s.events == EVENTS && s.events_lost == 0);
    struct rv_trace_state state;
    uint32_t reason;
    cr_assert_eq(count_events(out, &state, &reason), EVENTS);
    cr_assert_eq(reason, RV_TRACE_REASON_USER);
}

Test(salvage, of_nothing_says_so) {
    start(true);
    const char *in = sample_path("b.retro"), *out = sample_path("c.retro");
    file.data[RV_PREAMBLE_SIZE + 60] ^= 1;
    sample_write_file(in, file.data, file.len);
    cr_assert_eq(rv_trace_salvage(in, out, 0, NULL, &err), RV_E_FORMAT);
    cr_assert(strstr(err.msg, "nothing can be read without the header"), "%s", err.msg);
    struct rv_trace_reader *r;
    cr_assert_eq(rv_trace_reader_open(&r, out, &err), RV_E_HOST);
}
