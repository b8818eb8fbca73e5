/* Private: the table of chunks and blobs of one file. The writer builds it as it goes, a reader
 * takes it from the index chunk or rebuilds it from the chunk headers; both give the same table. */
#ifndef RV_TRACE_INDEX_H
#define RV_TRACE_INDEX_H

#include "trace-format/chunk.h"

/* What is kept of each chunk. Its sequence number is its place in the table. */
struct rv_index_chunk {
    uint64_t offset;  /* of its header in the file */
    uint64_t first;   /* events: position of the first, else that of the chunk before */
    uint64_t last;    /* events: position of the last, else the same as first */
    uint64_t ordinal; /* events in the chunks before */
    uint32_t count;   /* events in it; blobs: the part's number */
    uint16_t type;
    uint16_t flags;
};

struct rv_index_blob {
    struct rv_trace_hash hash;
    uint64_t size;
    uint32_t chunk; /* sequence number of the first part */
    uint32_t parts;
};

/* Zero-initialise; release. */
struct rv_index {
    struct rv_index_chunk *chunks;
    size_t count, cap;
    struct rv_index_blob *blobs;
    size_t blob_count, blob_cap;
    uint64_t end;                   /* offset after the last chunk */
    uint64_t events;                /* in all chunks */
    uint64_t position;              /* last position of any event chunk so far */
    struct rv_index_blob open_blob; /* parts seen of a blob not yet whole; parts 0: none */
    bool has_summary;
};

/* Starts an empty table; the first chunk goes at offset. */
void rv_index_init(struct rv_index *x, uint64_t offset);
void rv_index_release(struct rv_index *x);

/* Adds the next chunk in the file. Returns NULL, or which rule of the format the chunk breaks. A
 * chunk that is refused leaves the table as it was. */
const char *rv_index_add(struct rv_index *x, const struct rv_chunk *c);
/* As rv_index_add for part of a blob that is listed by rv_index_add_blob on its own. */
const char *rv_index_add_part(struct rv_index *x, const struct rv_chunk *c);
void rv_index_add_blob(struct rv_index *x, const struct rv_index_blob *b);
/* How many parts a blob of this size has. */
uint32_t rv_blob_parts(uint64_t size);

/* Sorts the blobs by hash, the earlier of equals first, for rv_index_find_blob. */
void rv_index_sort_blobs(struct rv_index *x);
const struct rv_index_blob *rv_index_find_blob(const struct rv_index *x,
                                               const struct rv_trace_hash *hash);

/* Offset after chunk i. */
uint64_t rv_index_chunk_end(const struct rv_index *x, size_t i);

#endif
