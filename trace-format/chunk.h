/* Private: the framing. The preamble opens the file, the trailer closes a sealed one, and
 * everything between is chunks: a fixed header and its payload, without gaps. docs/trace-format.md
 * has the layout byte by byte. All integers are little endian. */
#ifndef RV_TRACE_CHUNK_H
#define RV_TRACE_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#include "trace-format/hash.h"
#include "trace-format/limits.h"
#include "vmm/base/buf.h"
#include "vmm/base/err.h"

#define RV_PREAMBLE_SIZE     32u
#define RV_CHUNK_HEADER_SIZE 56u
#define RV_TRAILER_SIZE      48u

enum rv_chunk_type {
    RV_CHUNK_HEADER = 1,
    RV_CHUNK_EVENTS = 2,
    RV_CHUNK_BLOB = 3,
    RV_CHUNK_SUMMARY = 4,
    RV_CHUNK_INDEX = 5,
};

enum rv_chunk_flag {
    RV_CHUNK_LZ4 = 1 << 0,      /* the payload is one LZ4 block */
    RV_CHUNK_OPTIONAL = 1 << 1, /* a reader that does not know the type passes over it */
    RV_CHUNK_LAST_PART = 1 << 2 /* blobs: no further part follows */
};
#define RV_CHUNK_KNOWN_FLAGS (RV_CHUNK_LZ4 | RV_CHUNK_OPTIONAL | RV_CHUNK_LAST_PART)

/* A chunk header, decoded. */
struct rv_chunk {
    uint16_t type;
    uint16_t flags;
    uint32_t sequence;   /* 0 for the first chunk of the file, then counting up by one */
    uint32_t raw_len;    /* payload before compression */
    uint32_t stored_len; /* payload in the file */
    uint32_t count;      /* events: how many; blobs: number of this part; else 0 */
    uint8_t key[16];     /* events: first and last position; blobs: hash of the whole; else 0 */
    uint64_t checksum;   /* XXH3-64, salted, over the header up to here and the stored payload */
};

uint64_t rv_chunk_first(const struct rv_chunk *c);
uint64_t rv_chunk_last(const struct rv_chunk *c);
void rv_chunk_set_range(struct rv_chunk *c, uint64_t first, uint64_t last);

/* The salt is drawn for each file, so that a chunk of another trace, or of an older file in the
 * same disk blocks, does not pass for one of this trace. */
void rv_preamble_put(struct rv_buf *out, uint64_t salt);
/* Returns NULL, or what is wrong; *version is set whenever the preamble itself is whole. */
const char *rv_preamble_get(const uint8_t bytes[RV_PREAMBLE_SIZE], uint64_t *salt,
                            uint32_t *version);

/* Appends a whole chunk: compresses the payload when that shrinks it, fills in the lengths, the LZ4
 * flag and the checksums. raw_len must be within RV_TRACE_MAX_RAW. */
void rv_chunk_put(struct rv_buf *out, uint64_t salt, struct rv_chunk *c, const void *raw,
                  size_t raw_len);

/* Appends a header alone, for a payload of len bytes that is stored already. What c says about the
 * lengths is taken as it is: also for tests that write damaged traces on purpose. */
void rv_chunk_header_put(struct rv_buf *out, uint64_t salt, struct rv_chunk *c,
                         const uint8_t *stored, size_t len);

/* Decodes a header. Returns NULL, or what is wrong with it: magic, check, or impossible lengths. */
const char *rv_chunk_header_get(const uint8_t bytes[RV_CHUNK_HEADER_SIZE], uint64_t salt,
                                struct rv_chunk *c);

/* Checks the stored payload against the checksum in its header bytes. */
bool rv_chunk_payload_ok(const uint8_t bytes[RV_CHUNK_HEADER_SIZE], uint64_t salt,
                         const uint8_t *stored, size_t stored_len);

/* Undoes the compression into out, which is replaced. Returns NULL, or what is wrong. */
const char *rv_chunk_unpack(const struct rv_chunk *c, const uint8_t *stored, struct rv_buf *out);

/* NULL for a type this version does not know. */
const char *rv_chunk_type_name(uint16_t type);

struct rv_trailer {
    uint64_t index_offset;   /* of the first index chunk; 0: none was written, scan instead */
    uint64_t summary_offset; /* of the summary chunk */
    uint64_t file_size;      /* with the trailer */
    uint32_t chunks;         /* in the file, with summary and index */
};

void rv_trailer_put(struct rv_buf *out, uint64_t salt, const struct rv_trailer *t);
bool rv_trailer_get(const uint8_t bytes[RV_TRAILER_SIZE], uint64_t salt, struct rv_trailer *t);

#endif
