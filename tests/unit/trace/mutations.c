/* Many damaged traces: none crashes a reader, and none with the old checksums gives other events.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "mutation.h"
#include "sample.h"
#include "trace-format/salvage.h"
#include "trace-format/verify.h"

enum { EVENTS = 60, CASES = 1500 };

static struct rv_err err;

TestSuite(mutations, .fini = sample_done);

static void read_all(const struct rv_trace_reader *r) {
    struct rv_buf buf = {0};
    struct rv_trace_state s;
    rv_trace_reader_state(r, &s);
    for (uint64_t i = 0; i < s.chunks; i++) rv_trace_reader_chunk_read(r, i, &buf, &err);
    for (size_t i = 0; i < rv_trace_reader_blob_count(r); i++) {
        struct rv_trace_hash hash;
        uint64_t size;
        uint8_t bytes[5];
        rv_trace_reader_blob_at(r, i, &hash, &size);
        rv_trace_reader_blob_fetch(r, &hash, bytes, sizeof bytes, &err);
    }
    rv_buf_release(&buf);
}

static void one_case(const char *in, const char *out, uint64_t seed, bool repaired) {
    struct rv_trace_reader *r;
    int rc = rv_trace_reader_open(&r, in, &err);
    bool prefix = true;
    if (!rc) {
        struct sample_digest d;
        rc = sample_digest(r, &d, &err);
        if (rc) cr_assert_neq(err.msg[0], 0, "seed %lu", (unsigned long)seed);
        if (d.count <= EVENTS) {
            struct sample_digest want = sample_expect(d.count);
            prefix = rv_trace_hash_equal(&want.hash, &d.hash);
        } else {
            prefix = false;
        }
        read_all(r);
        rv_trace_reader_free(r);
    }
    cr_assert(prefix || repaired, "seed %lu: other events", (unsigned long)seed);
    int verdict = rv_trace_verify(in, NULL, NULL, NULL, &err);
    if (rc) cr_assert_neq(verdict, 0, "seed %lu: verify saw nothing", (unsigned long)seed);
    struct rv_trace_salvage s;
    rc = rv_trace_salvage(in, out, RV_TRACE_SALVAGE_OVERWRITE, &s, &err);
    if (rc) {
        cr_assert(rc == RV_E_FORMAT || rc == RV_E_UNSUPPORTED, "seed %lu: %s", (unsigned long)seed,
                  err.msg);
        return;
    }
    rc = rv_trace_reader_open(&r, out, &err);
    cr_assert_eq(rc, 0, "seed %lu: %s", (unsigned long)seed, err.msg);
    struct sample_digest d;
    cr_assert_eq(sample_digest(r, &d, &err), 0, "seed %lu: %s", (unsigned long)seed, err.msg);
    cr_assert_eq(d.count, s.events);
    rv_trace_reader_free(r);
}

static void many(bool sealed, uint64_t first) {
    const char *whole = sample_path("a.retro"), *in = sample_path("b.retro"),
               *out = sample_path("c.retro");
    struct rv_buf file = {0}, damaged = {0};
    sample_write(whole, EVENTS, 9, sealed);
    sample_read_file(whole, &file);
    for (uint64_t seed = first; seed < first + CASES; seed++) {
        bool repaired = mutation_apply(file.data, file.len, seed, &damaged);
        sample_write_file(in, damaged.data, damaged.len);
        one_case(in, out, seed, repaired);
    }
    rv_buf_release(&file);
    rv_buf_release(&damaged);
}

Test(mutations, of_a_sealed_trace) { many(true, 1); }
Test(mutations, of_an_unsealed_trace) { many(false, 1000000); }
