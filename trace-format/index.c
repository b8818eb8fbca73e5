#include "trace-format/index.h"

#include <stdlib.h>
#include <string.h>

void rv_index_init(struct rv_index *x, uint64_t offset) { *x = (struct rv_index){.end = offset}; }

void rv_index_release(struct rv_index *x) {
    free(x->chunks);
    free(x->blobs);
    *x = (struct rv_index){0};
}

uint64_t rv_index_chunk_end(const struct rv_index *x, size_t i) {
    return i + 1 < x->count ? x->chunks[i + 1].offset : x->end;
}

uint32_t rv_blob_parts(uint64_t size) {
    return size ? (uint32_t)((size + RV_TRACE_BLOB_PART - 1) / RV_TRACE_BLOB_PART) : 1;
}

void rv_index_add_blob(struct rv_index *x, const struct rv_index_blob *b) {
    if (x->blob_count == x->blob_cap) {
        x->blob_cap = x->blob_cap ? 2 * x->blob_cap : 16;
        x->blobs = rv_realloc(x->blobs, x->blob_cap * sizeof *x->blobs);
    }
    x->blobs[x->blob_count++] = *b;
}

/* Where in the file a chunk may stand. */
static const char *check_place(const struct rv_index *x, const struct rv_chunk *c) {
    if (x->count >= RV_TRACE_MAX_CHUNKS) return "the file has more chunks than the format allows";
    if (c->sequence != x->count)
        return "its number does not follow: a chunk is missing, repeated or out of place";
    if ((c->type == RV_CHUNK_HEADER) != (x->count == 0))
        return x->count ? "a second header" : "the file does not start with a header";
    if (x->has_summary && c->type >= RV_CHUNK_EVENTS && c->type <= RV_CHUNK_SUMMARY)
        return "a chunk of the recording stands after its summary";
    if (!x->has_summary && c->type == RV_CHUNK_INDEX) return "an index stands before the summary";
    return NULL;
}

static const char *check_range(const struct rv_index *x, const struct rv_chunk *c) {
    if (c->type != RV_CHUNK_EVENTS) return NULL;
    if (rv_chunk_first(c) < x->position) return "its events lie before those of an earlier chunk";
    if (rv_chunk_last(c) < rv_chunk_first(c)) return "its last event lies before its first";
    if (c->count > c->raw_len / 2 && c->raw_len) return "it counts more events than it can hold";
    return NULL;
}

static void append(struct rv_index *x, const struct rv_chunk *c) {
    if (x->count == x->cap) {
        x->cap = x->cap ? 2 * x->cap : 64;
        x->chunks = rv_realloc(x->chunks, x->cap * sizeof *x->chunks);
    }
    bool events = c->type == RV_CHUNK_EVENTS;
    x->chunks[x->count++] = (struct rv_index_chunk){
        .offset = x->end,
        .first = events ? rv_chunk_first(c) : x->position,
        .last = events ? rv_chunk_last(c) : x->position,
        .ordinal = x->events,
        .count = c->count,
        .type = c->type,
        .flags = c->flags,
    };
    if (events) {
        x->position = rv_chunk_last(c);
        x->events += c->count;
    }
    if (c->type == RV_CHUNK_SUMMARY) x->has_summary = true;
    x->end += RV_CHUNK_HEADER_SIZE + c->stored_len;
}

/* Follows the parts of a blob; a blob is abandoned when its next part is not the next chunk. */
static const char *follow_blob(struct rv_index *x, const struct rv_chunk *c) {
    struct rv_index_blob *open = &x->open_blob;
    bool last = c->flags & RV_CHUNK_LAST_PART;
    if (c->raw_len > RV_TRACE_BLOB_PART || (!last && c->raw_len != RV_TRACE_BLOB_PART))
        return "a part of a blob has an impossible size";
    if (c->count == 0) {
        *open = (struct rv_index_blob){.chunk = c->sequence};
        memcpy(open->hash.bytes, c->key, sizeof c->key);
    } else if (open->parts != c->count || memcmp(open->hash.bytes, c->key, sizeof c->key) != 0) {
        return "a part of a blob does not follow the part before";
    } else if (last && c->raw_len == 0) {
        return "a part of a blob has an impossible size";
    }
    open->parts++;
    open->size += c->raw_len;
    if (last) {
        rv_index_add_blob(x, open);
        open->parts = 0;
    }
    return NULL;
}

const char *rv_index_add_part(struct rv_index *x, const struct rv_chunk *c) {
    const char *bad = check_place(x, c);
    if (!bad) append(x, c);
    return bad;
}

const char *rv_index_add(struct rv_index *x, const struct rv_chunk *c) {
    const char *bad = check_place(x, c);
    if (!bad) bad = check_range(x, c);
    if (!bad && c->type == RV_CHUNK_BLOB) bad = follow_blob(x, c);
    if (bad) return bad;
    if (c->type != RV_CHUNK_BLOB) x->open_blob.parts = 0;
    append(x, c);
    return NULL;
}

static int by_hash(const void *a, const void *b) {
    const struct rv_index_blob *x = a, *y = b;
    int order = memcmp(x->hash.bytes, y->hash.bytes, sizeof x->hash.bytes);
    return order ? order : (x->chunk > y->chunk) - (x->chunk < y->chunk);
}

void rv_index_sort_blobs(struct rv_index *x) {
    if (x->blob_count) qsort(x->blobs, x->blob_count, sizeof *x->blobs, by_hash);
}

const struct rv_index_blob *rv_index_find_blob(const struct rv_index *x,
                                               const struct rv_trace_hash *hash) {
    size_t low = 0, high = x->blob_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (memcmp(x->blobs[mid].hash.bytes, hash->bytes, sizeof hash->bytes) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == x->blob_count || !rv_trace_hash_equal(&x->blobs[low].hash, hash)) return NULL;
    return &x->blobs[low];
}
