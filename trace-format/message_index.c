#include <stdlib.h>
#include <string.h>

#include "trace-format/message.h"
#include "trace-format/proto.h"

void rv_index_put(struct rv_buf *out, const struct rv_index *x, size_t first, size_t count,
                  size_t first_blob, size_t blob_count) {
    uint64_t *size = rv_alloc(count * sizeof *size);
    uint32_t *type_flags = rv_alloc(count * sizeof *type_flags);
    uint32_t *counts = rv_alloc(count * sizeof *counts);
    uint64_t *firsts = rv_alloc(count * sizeof *firsts);
    uint64_t *lasts = rv_alloc(count * sizeof *lasts);
    uint64_t before = 0;
    for (size_t i = 0; i < count; i++) {
        const struct rv_index_chunk *c = &x->chunks[first + i];
        size[i] = rv_index_chunk_end(x, first + i) - c->offset;
        type_flags[i] = (uint32_t)c->type | (uint32_t)c->flags << 16;
        counts[i] = c->count;
        firsts[i] = c->first - before;
        lasts[i] = c->last - c->first;
        before = c->last;
    }
    struct rv_buf hashes = {0};
    uint32_t *blob_chunk = rv_alloc(blob_count * sizeof *blob_chunk);
    uint32_t *blob_parts = rv_alloc(blob_count * sizeof *blob_parts);
    uint64_t *blob_size = rv_alloc(blob_count * sizeof *blob_size);
    for (size_t i = 0; i < blob_count; i++) {
        const struct rv_index_blob *b = &x->blobs[first_blob + i];
        rv_buf_put(&hashes, b->hash.bytes, sizeof b->hash.bytes);
        blob_chunk[i] = b->chunk;
        blob_parts[i] = b->parts;
        blob_size[i] = b->size;
    }
    Retro__Index m;
    retro__index__init(&m);
    m.first_chunk = (uint32_t)first;
    m.n_size = m.n_type_flags = m.n_count = m.n_first = m.n_last = count;
    m.size = size;
    m.type_flags = type_flags;
    m.count = counts;
    m.first = firsts;
    m.last = lasts;
    m.blob_hash = (ProtobufCBinaryData){.len = hashes.len, .data = hashes.data};
    m.n_blob_chunk = m.n_blob_parts = m.n_blob_size = blob_count;
    m.blob_chunk = blob_chunk;
    m.blob_parts = blob_parts;
    m.blob_size = blob_size;
    rv_proto_encode(out, &m.base);
    rv_buf_release(&hashes);
    free(size);
    free(type_flags);
    free(counts);
    free(firsts);
    free(lasts);
    free(blob_chunk);
    free(blob_parts);
    free(blob_size);
}

static const char *add_chunks(struct rv_index *x, const Retro__Index *m) {
    size_t n = m->n_size;
    if (m->n_type_flags != n || m->n_count != n || m->n_first != n || m->n_last != n)
        return "the index's columns differ in length";
    if (m->first_chunk != x->count) return "a part of the index is missing or out of place";
    uint64_t before = 0;
    for (size_t i = 0; i < n; i++) {
        if (m->size[i] < RV_CHUNK_HEADER_SIZE ||
            m->size[i] > RV_CHUNK_HEADER_SIZE + RV_TRACE_MAX_RAW)
            return "the index gives a chunk an impossible size";
        if (m->first[i] > UINT64_MAX - before || m->last[i] > UINT64_MAX - before - m->first[i])
            return "a position in the index overflows";
        /* Blobs come from their own columns: here their parts are only chunks. */
        struct rv_chunk c = {
            .type = (uint16_t)m->type_flags[i],
            .flags = (uint16_t)(m->type_flags[i] >> 16),
            .sequence = (uint32_t)x->count,
            .stored_len = (uint32_t)(m->size[i] - RV_CHUNK_HEADER_SIZE),
            .count = m->count[i],
        };
        uint64_t first = before + m->first[i];
        before = first + m->last[i];
        if (c.type != RV_CHUNK_BLOB) rv_chunk_set_range(&c, first, before);
        const char *bad = c.type == RV_CHUNK_BLOB ? rv_index_add_part(x, &c) : rv_index_add(x, &c);
        if (bad) return bad;
    }
    return NULL;
}

static const char *add_blobs(struct rv_index *x, const Retro__Index *m) {
    size_t n = m->n_blob_chunk;
    if (m->n_blob_parts != n || m->n_blob_size != n ||
        m->blob_hash.len != n * sizeof(struct rv_trace_hash))
        return "the index's blob columns differ in length";
    for (size_t i = 0; i < n; i++) {
        struct rv_index_blob b = {
            .size = m->blob_size[i], .chunk = m->blob_chunk[i], .parts = m->blob_parts[i]};
        memcpy(b.hash.bytes, m->blob_hash.data + i * sizeof b.hash, sizeof b.hash);
        if (b.size > RV_TRACE_MAX_BLOB || b.parts != rv_blob_parts(b.size))
            return "the index gives a blob an impossible size";
        if (x->blob_count >= x->count) return "the index lists more blobs than chunks";
        if (b.chunk >= x->count || b.parts > x->count - b.chunk)
            return "the index puts a blob outside the file";
        rv_index_add_blob(x, &b);
    }
    return NULL;
}

const char *rv_index_get(struct rv_index *x, const uint8_t *data, size_t len) {
    Retro__Index *m = rv_proto_decode(&retro__index__descriptor, data, len);
    if (!m) return "the index does not decode";
    const char *bad = add_chunks(x, m);
    if (!bad) bad = add_blobs(x, m);
    rv_proto_release(m);
    return bad;
}
