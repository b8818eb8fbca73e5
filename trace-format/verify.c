#include "trace-format/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "trace-format/codec.h"
#include "trace-format/reader_priv.h"

#define NO_CHUNK UINT64_MAX

struct verify {
    const struct rv_trace_reader *r;
    rv_trace_finding_fn fn;
    void *ctx;
    struct rv_trace_verdict verdict;
    struct rv_index index; /* as found, until the history breaks */
    bool broken;           /* a chunk is lost: what follows is checked for itself only */
    uint64_t expected;     /* number of the next chunk */
    uint64_t limit;        /* where chunks end */
    uint64_t complete;     /* of the last event chunk */
    uint64_t counts[RV_TRACE_MAX_KINDS];
    struct rv_trace_hasher *blob; /* of the blob whose parts are coming */
    uint32_t blob_parts;
    struct rv_buf raw;
};

__attribute__((format(printf, 5, 6))) static void report(struct verify *v,
                                                         enum rv_trace_severity severity,
                                                         uint64_t offset, uint64_t chunk,
                                                         const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (severity == RV_TRACE_FINDING_ERROR)
        v->verdict.errors++;
    else
        v->verdict.notes++;
    const struct rv_trace_finding f = {severity, offset, chunk, text};
    if (v->fn) v->fn(v->ctx, &f);
}

static const char *check_events(struct verify *v, const struct rv_chunk *c) {
    struct rv_batch batch;
    const char *what = rv_batch_get(&batch, v->raw.data, v->raw.len);
    if (what) return what;
    uint64_t first = rv_chunk_first(c), last = rv_chunk_last(c), position = first;
    struct rv_codec codec;
    rv_codec_init(&codec, rv_trace_reader_header(v->r)->rate, first, batch.first_time);
    for (uint32_t i = 0; i < c->count && !what; i++) {
        struct rv_trace_event ev;
        what = rv_codec_get(&codec, &batch.events, &ev);
        if (what) break;
        if (i == 0 && ev.position != first) what = "its events do not start where its header says";
        position = ev.position;
        v->counts[ev.kind]++;
        v->verdict.events++;
    }
    if (!what && batch.events.p != batch.events.end) what = "it holds more events than it counts";
    if (!what && c->count && position != last) what = "its events do not end where its header says";
    if (!what && batch.complete_position < last)
        what = "it has events beyond where it claims to be complete";
    if (!what && !v->broken && first < v->complete)
        what = "it has events where the trace was said to be complete";
    if (batch.complete_position > v->complete) v->complete = batch.complete_position;
    rv_batch_release(&batch);
    return what;
}

static const char *check_blob(struct verify *v, const struct rv_chunk *c) {
    if (c->count == 0) {
        rv_trace_hasher_free(v->blob);
        v->blob = rv_trace_hasher_new();
        v->blob_parts = 0;
    }
    /* A part without those before it: their loss was reported, and this one's sum was right. */
    if (!v->blob || v->blob_parts != c->count) return NULL;
    rv_trace_hasher_add(v->blob, v->raw.data, v->raw.len);
    v->blob_parts++;
    if (!(c->flags & RV_CHUNK_LAST_PART)) return NULL;
    struct rv_trace_hash found = rv_trace_hasher_value(v->blob);
    rv_trace_hasher_free(v->blob);
    v->blob = NULL;
    if (memcmp(found.bytes, c->key, sizeof c->key) != 0)
        return "the blob's content does not match its hash";
    v->verdict.blobs++;
    return NULL;
}

static const char *check_content(struct verify *v, const struct rv_chunk *c) {
    const char *what = NULL;
    struct rv_header_msg header;
    struct rv_summary_msg summary;
    switch (c->type) {
    case RV_CHUNK_HEADER:
        what = rv_header_get(&header, v->raw.data, v->raw.len);
        if (!what) rv_header_msg_release(&header);
        return what;
    case RV_CHUNK_EVENTS: return check_events(v, c);
    case RV_CHUNK_BLOB: return check_blob(v, c);
    case RV_CHUNK_SUMMARY:
        what = rv_summary_get(&summary, v->raw.data, v->raw.len);
        if (what) return what;
        if (!v->broken &&
            (summary.summary.position < v->complete || summary.summary.events != v->index.events ||
             memcmp(summary.counts, v->counts, sizeof v->counts) != 0))
            what = "the summary does not fit the events";
        rv_summary_msg_release(&summary);
        return what;
    default: return NULL; /* the index is compared at the end; other types are not ours */
    }
}

/* Checks the chunk at offset and says where the next one should be. */
static int check_chunk(struct verify *v, uint64_t offset, uint64_t *next, struct rv_err *err) {
    struct rv_chunk c;
    const char *what;
    int rc = rv_reader_load_at(v->r, offset, v->limit, &c, &v->raw, &what, err);
    if (rc && !what) return rc;
    *next = offset + RV_CHUNK_HEADER_SIZE + c.stored_len;
    if (c.sequence != v->expected) {
        report(
            v, RV_TRACE_FINDING_ERROR, offset, c.sequence,
            "chunk number %u stands where %llu was expected: chunks are missing, repeated or out "
            "of place",
            c.sequence, (unsigned long long)v->expected);
        v->broken = true;
    } else if (!v->broken) {
        const char *rule = rv_index_add(&v->index, &c);
        if (rule) {
            report(v, RV_TRACE_FINDING_ERROR, offset, c.sequence, "%s", rule);
            v->broken = true;
        }
    }
    v->expected = (uint64_t)c.sequence + 1;
    if (!rv_chunk_type_name(c.type) && !(c.flags & RV_CHUNK_OPTIONAL))
        report(v, RV_TRACE_FINDING_ERROR, offset, c.sequence,
               "a chunk of type %u, which this version does not know and must not pass over",
               c.type);
    if (!what) what = check_content(v, &c);
    if (what)
        report(v, RV_TRACE_FINDING_ERROR, offset, c.sequence, "%s", what);
    else
        v->verdict.chunks++;
    return 0;
}

/* At something that is no chunk: says what it is and finds the next one. RV_E_END: there is none.
 */
static int check_gap(struct verify *v, uint64_t offset, uint64_t *next, struct rv_err *err) {
    struct rv_scan scan;
    int rc = rv_reader_look_at(v->r, offset, v->limit, &scan, err);
    if (rc) return rc;
    if (scan.end == RV_SCAN_TORN && !v->r->sealed) {
        report(v, RV_TRACE_FINDING_NOTE, offset, v->expected,
               "%llu bytes of a chunk that was being written when the recorder died",
               (unsigned long long)(v->r->size - offset));
        return RV_E_END;
    }
    if (scan.end == RV_SCAN_TRAILER)
        report(v, RV_TRACE_FINDING_ERROR, offset, NO_CHUNK, "bytes follow the trailer");
    else
        report(v, RV_TRACE_FINDING_ERROR, offset, v->expected, "%s",
               scan.what ? scan.what : "the chunk is cut short");
    struct rv_chunk c;
    rc = rv_reader_resync(v->r, offset + 1, v->limit, next, &c, err);
    uint64_t end = rc ? v->limit : *next;
    if (rc && rc != RV_E_END) return rc;
    if (!rc) v->broken = true;
    report(v, RV_TRACE_FINDING_NOTE, offset, v->expected, "%llu bytes are unreadable, %s",
           (unsigned long long)(end - offset),
           rc ? "and no whole chunk follows" : "up to the next chunk");
    return rc;
}

static void compare_index(struct verify *v) {
    const struct rv_index *a = &v->r->index;
    struct rv_index *b = &v->index;
    rv_index_sort_blobs(b);
    uint64_t at = v->r->size - RV_TRAILER_SIZE;
    if (a->count != b->count || a->blob_count != b->blob_count || a->events != b->events) {
        report(v, RV_TRACE_FINDING_ERROR, at, NO_CHUNK,
               "the index counts other things than there are");
        return;
    }
    for (size_t i = 0; i < a->count; i++) {
        const struct rv_index_chunk *x = &a->chunks[i], *y = &b->chunks[i];
        if (x->offset == y->offset && x->first == y->first && x->last == y->last &&
            x->ordinal == y->ordinal && x->count == y->count && x->type == y->type &&
            x->flags == y->flags)
            continue;
        report(v, RV_TRACE_FINDING_ERROR, y->offset, i, "the index describes another chunk");
        return;
    }
    for (size_t i = 0; i < a->blob_count; i++) {
        const struct rv_index_blob *x = &a->blobs[i], *y = &b->blobs[i];
        if (rv_trace_hash_equal(&x->hash, &y->hash) && x->size == y->size && x->chunk == y->chunk &&
            x->parts == y->parts)
            continue;
        report(v, RV_TRACE_FINDING_ERROR, at, NO_CHUNK, "the index describes another blob");
        return;
    }
}

static void check_whole(struct verify *v) {
    const struct rv_trace_reader *r = v->r;
    if (!r->sealed)
        report(v, RV_TRACE_FINDING_NOTE, r->size, NO_CHUNK,
               "the trace is not sealed; it is complete up to instruction %llu",
               (unsigned long long)r->position);
    else if (!r->has_index && !r->damage.code)
        report(v, RV_TRACE_FINDING_NOTE, r->size, NO_CHUNK,
               "the trace has no index; opening it takes a scan");
    if (r->damage.code && !v->verdict.errors)
        report(v, RV_TRACE_FINDING_ERROR, 0, NO_CHUNK, "%s", r->damage.msg);
    if (!v->broken && r->has_index) compare_index(v);
    for (size_t i = 0; r->sealed && !v->broken && i < v->index.count; i++)
        if (v->index.chunks[i].type == RV_CHUNK_SUMMARY &&
            v->index.chunks[i].offset != r->trailer.summary_offset)
            report(v, RV_TRACE_FINDING_ERROR, r->size - RV_TRAILER_SIZE, NO_CHUNK,
                   "the trailer does not point to the summary");
    const struct rv_trace_header *h = rv_trace_reader_header(r);
    for (size_t i = 0; i < h->image_count; i++) {
        if (!h->images[i].embedded || rv_trace_reader_blob_size(r, &h->images[i].hash, NULL))
            continue;
        report(v, r->sealed ? RV_TRACE_FINDING_ERROR : RV_TRACE_FINDING_NOTE, RV_PREAMBLE_SIZE, 0,
               "image %zu should be in the trace and is not", i);
    }
}

static int walk(struct verify *v, struct rv_err *err) {
    rv_index_init(&v->index, RV_PREAMBLE_SIZE);
    uint64_t offset = RV_PREAMBLE_SIZE;
    while (offset < v->limit) {
        uint64_t next = offset;
        uint8_t header[RV_CHUNK_HEADER_SIZE];
        struct rv_chunk c;
        int rc = 0;
        bool chunk = v->limit - offset >= sizeof header;
        if (chunk) rc = rv_reader_pread(v->r, offset, header, sizeof header, err);
        if (rc) return rc;
        chunk = chunk && !rv_chunk_header_get(header, v->r->salt, &c) &&
                c.stored_len <= v->limit - offset - sizeof header;
        rc = chunk ? check_chunk(v, offset, &next, err) : check_gap(v, offset, &next, err);
        if (rc == RV_E_END) return 0;
        if (rc) return rc;
        offset = next;
    }
    return 0;
}

int rv_trace_verify(const char *path, rv_trace_finding_fn fn, void *ctx,
                    struct rv_trace_verdict *verdict, struct rv_err *err) {
    struct verify v = {.fn = fn, .ctx = ctx};
    struct rv_err local = {0};
    struct rv_trace_reader *r;
    int rc = rv_trace_reader_open(&r, path, &local);
    if (rc == RV_E_FORMAT) report(&v, RV_TRACE_FINDING_ERROR, 0, NO_CHUNK, "%s", local.msg);
    if (!rc) {
        v.r = r;
        v.verdict.sealed = r->sealed;
        v.limit = r->sealed ? r->size - RV_TRAILER_SIZE : r->size;
        rc = walk(&v, &local);
        if (!rc) check_whole(&v);
        if (!rc && v.verdict.errors)
            rc = rv_fail(&local, RV_E_FORMAT,
                         "%s is damaged (%llu findings); `retro salvage` keeps what is before the "
                         "damage",
                         path, (unsigned long long)v.verdict.errors);
        rv_index_release(&v.index);
        rv_trace_hasher_free(v.blob);
        rv_buf_release(&v.raw);
        rv_trace_reader_free(r);
    }
    if (verdict) *verdict = v.verdict;
    if (rc && err) *err = local;
    return rc;
}
