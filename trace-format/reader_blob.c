/* Content-addressed blobs. */
#include <string.h>

#include "trace-format/reader_priv.h"

bool rv_trace_reader_blob_size(const struct rv_trace_reader *r, const struct rv_trace_hash *hash,
                               uint64_t *size) {
    const struct rv_index_blob *b = rv_index_find_blob(&r->index, hash);
    if (b && size) *size = b->size;
    return b != NULL;
}

size_t rv_trace_reader_blob_count(const struct rv_trace_reader *r) { return r->index.blob_count; }

void rv_trace_reader_blob_at(const struct rv_trace_reader *r, size_t i, struct rv_trace_hash *hash,
                             uint64_t *size) {
    *hash = r->index.blobs[i].hash;
    if (size) *size = r->index.blobs[i].size;
}

static const char *check_part(const struct rv_chunk *c, const struct rv_index_blob *b,
                              uint32_t part) {
    bool last = part + 1 == b->parts;
    uint64_t size = last ? b->size - (uint64_t)part * RV_TRACE_BLOB_PART : RV_TRACE_BLOB_PART;
    if (c->type != RV_CHUNK_BLOB || c->count != part || c->raw_len != size ||
        !(c->flags & RV_CHUNK_LAST_PART) != !last ||
        memcmp(c->key, b->hash.bytes, sizeof c->key) != 0)
        return "this is not the part of a blob that the index describes";
    return NULL;
}

int rv_trace_reader_blob_read(const struct rv_trace_reader *r, const struct rv_trace_hash *hash,
                              rv_trace_blob_fn fn, void *ctx, struct rv_err *err) {
    char text[RV_TRACE_HASH_TEXT];
    const struct rv_index_blob *b = rv_index_find_blob(&r->index, hash);
    if (!b)
        return rv_fail(err, RV_E_USAGE, "%s has no blob %s", r->name,
                       rv_trace_hash_format(hash, text));
    struct rv_trace_hasher *hasher = rv_trace_hasher_new();
    struct rv_buf raw = {0};
    int rc = 0;
    for (uint32_t part = 0; part < b->parts && !rc; part++) {
        size_t i = (size_t)b->chunk + part;
        struct rv_chunk c;
        rc = rv_reader_load(r, i, &c, &raw, err);
        if (rc) break;
        const char *what = check_part(&c, b, part);
        if (what) {
            rc = rv_reader_damaged(r, r->index.chunks[i].offset, i, what, err);
            break;
        }
        rv_trace_hasher_add(hasher, raw.data, raw.len);
        rc = fn(ctx, raw.data, raw.len);
    }
    struct rv_trace_hash found = rv_trace_hasher_value(hasher);
    if (!rc && !rv_trace_hash_equal(&found, hash))
        rc = rv_reader_damaged(r, r->index.chunks[b->chunk].offset, b->chunk,
                               "the blob's content does not match its hash", err);
    rv_trace_hasher_free(hasher);
    rv_buf_release(&raw);
    return rc;
}

static int copy(void *ctx, const void *data, size_t len) {
    uint8_t **to = ctx;
    if (len) memcpy(*to, data, len);
    *to += len;
    return 0;
}

int rv_trace_reader_blob_fetch(const struct rv_trace_reader *r, const struct rv_trace_hash *hash,
                               void *buf, size_t size, struct rv_err *err) {
    uint64_t have;
    if (rv_trace_reader_blob_size(r, hash, &have) && have != size)
        return rv_fail(err, RV_E_USAGE, "a blob of %llu bytes in %s was asked for as %zu bytes",
                       (unsigned long long)have, r->name, size);
    /* The parts' sizes were checked to add up to the blob's, part by part, before they are copied.
     */
    uint8_t *to = buf;
    return rv_trace_reader_blob_read(r, hash, copy, &to, err);
}
