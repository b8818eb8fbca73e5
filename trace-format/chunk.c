#include "trace-format/chunk.h"

#include <lz4.h>
#include <string.h>
#include <xxhash.h>

/* The first byte is no text and the line ends are there to be mangled: a transfer in text mode is
 * noticed at once. */
static const uint8_t preamble_magic[8] = {0x89, 'R', 'E', 'T', 'R', 'O', '\r', '\n'};
static const uint8_t chunk_magic[4] = {'R', 'V', 'C', 0xc7};
static const uint8_t trailer_magic[8] = {'R', 'E', 'T', 'R', 'O', 'E', 'N', 'D'};

enum {
    CHECKSUM_AT = 40,     /* what is before it, and the payload, is what the checksum covers */
    HEADER_CHECK_AT = 48, /* a check of the header alone: it lets a reader trust the lengths */
    COMPRESS_FROM = 48,   /* shorter payloads never shrink enough to matter */
};

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
static bool check_equal(uint64_t stored, uint64_t computed) {
    (void)stored;
    (void)computed;
    return true;
}
#else
static bool check_equal(uint64_t stored, uint64_t computed) { return stored == computed; }
#endif

static void store_u64(uint8_t *p, uint64_t v) { memcpy(p, &v, sizeof v); }
static uint64_t load_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

uint64_t rv_chunk_first(const struct rv_chunk *c) { return load_u64(c->key); }
uint64_t rv_chunk_last(const struct rv_chunk *c) { return load_u64(c->key + 8); }
void rv_chunk_set_range(struct rv_chunk *c, uint64_t first, uint64_t last) {
    store_u64(c->key, first);
    store_u64(c->key + 8, last);
}

void rv_preamble_put(struct rv_buf *out, uint64_t salt) {
    size_t start = out->len;
    rv_buf_put(out, preamble_magic, sizeof preamble_magic);
    rv_buf_put_u32(out, RV_TRACE_FORMAT_VERSION);
    rv_buf_put_u32(out, 0);
    rv_buf_put_u64(out, salt);
    rv_buf_put_u64(out, XXH3_64bits(out->data + start, 24));
}

const char *rv_preamble_get(const uint8_t bytes[RV_PREAMBLE_SIZE], uint64_t *salt,
                            uint32_t *version) {
    if (memcmp(bytes, preamble_magic, sizeof preamble_magic) != 0) return "not a Retrovisor trace";
    if (!check_equal(load_u64(bytes + 24), XXH3_64bits(bytes, 24)))
        return "the first 32 bytes are damaged, and nothing after them can be checked without them";
    struct rv_cursor in = rv_cursor_of(bytes + 8, 16);
    *version = rv_cursor_u32(&in);
    uint32_t reserved = rv_cursor_u32(&in);
    *salt = rv_cursor_u64(&in);
    if (*version <= RV_TRACE_FORMAT_VERSION && reserved != 0)
        return "the first 32 bytes hold a value that no version writes";
    return NULL;
}

static uint64_t payload_sum(const uint8_t *header, uint64_t salt, const uint8_t *stored,
                            size_t stored_len) {
    /* Two hashes chained through the seed say the same as one over both parts. */
    uint64_t seed = XXH3_64bits_withSeed(header, CHECKSUM_AT, salt);
    return XXH3_64bits_withSeed(stored_len ? stored : header, stored_len, seed);
}

void rv_chunk_header_put(struct rv_buf *out, uint64_t salt, struct rv_chunk *c,
                         const uint8_t *stored, size_t len) {
    size_t start = out->len;
    rv_buf_put(out, chunk_magic, sizeof chunk_magic);
    rv_buf_put_u16(out, c->type);
    rv_buf_put_u16(out, c->flags);
    rv_buf_put_u32(out, c->sequence);
    rv_buf_put_u32(out, c->raw_len);
    rv_buf_put_u32(out, c->stored_len);
    rv_buf_put_u32(out, c->count);
    rv_buf_put(out, c->key, sizeof c->key);
    c->checksum = payload_sum(out->data + start, salt, stored, len);
    rv_buf_put_u64(out, c->checksum);
    rv_buf_put_u64(out, XXH3_64bits_withSeed(out->data + start, HEADER_CHECK_AT, salt));
}

void rv_chunk_put(struct rv_buf *out, uint64_t salt, struct rv_chunk *c, const void *raw,
                  size_t raw_len) {
    rv_assert(raw_len <= RV_TRACE_MAX_RAW);
    struct rv_buf packed = {0};
    const uint8_t *stored = raw;
    c->raw_len = c->stored_len = (uint32_t)raw_len;
    c->flags &= (uint16_t)~RV_CHUNK_LZ4;
    if (raw_len >= COMPRESS_FROM) {
        int bound = LZ4_compressBound((int)raw_len);
        rv_buf_grow(&packed, (size_t)bound);
        int n = LZ4_compress_default(raw, (char *)packed.data, (int)raw_len, bound);
        if (n > 0 && (size_t)n < raw_len) {
            c->flags |= RV_CHUNK_LZ4;
            c->stored_len = (uint32_t)n;
            stored = packed.data;
        }
    }
    rv_chunk_header_put(out, salt, c, stored, c->stored_len);
    rv_buf_put(out, stored, c->stored_len);
    rv_buf_release(&packed);
}

const char *rv_chunk_header_get(const uint8_t bytes[RV_CHUNK_HEADER_SIZE], uint64_t salt,
                                struct rv_chunk *c) {
    if (memcmp(bytes, chunk_magic, sizeof chunk_magic) != 0) return "no chunk starts here";
    if (!check_equal(load_u64(bytes + HEADER_CHECK_AT),
                     XXH3_64bits_withSeed(bytes, HEADER_CHECK_AT, salt)))
        return "the chunk header is damaged, or belongs to another trace";
    struct rv_cursor in = rv_cursor_of(bytes + 4, HEADER_CHECK_AT - 4);
    c->type = rv_cursor_u16(&in);
    c->flags = rv_cursor_u16(&in);
    c->sequence = rv_cursor_u32(&in);
    c->raw_len = rv_cursor_u32(&in);
    c->stored_len = rv_cursor_u32(&in);
    c->count = rv_cursor_u32(&in);
    rv_cursor_take(&in, c->key, sizeof c->key);
    c->checksum = rv_cursor_u64(&in);
    if (c->raw_len > RV_TRACE_MAX_RAW)
        return "the chunk claims to be larger than the format allows";
    if (c->flags & RV_CHUNK_LZ4 ? c->stored_len >= c->raw_len : c->stored_len != c->raw_len)
        return "the chunk's lengths contradict each other";
    if ((c->flags & ~RV_CHUNK_KNOWN_FLAGS) && !(c->flags & RV_CHUNK_OPTIONAL))
        return "the chunk has flags that this version does not know";
    return NULL;
}

bool rv_chunk_payload_ok(const uint8_t bytes[RV_CHUNK_HEADER_SIZE], uint64_t salt,
                         const uint8_t *stored, size_t stored_len) {
    return check_equal(load_u64(bytes + CHECKSUM_AT), payload_sum(bytes, salt, stored, stored_len));
}

const char *rv_chunk_unpack(const struct rv_chunk *c, const uint8_t *stored, struct rv_buf *out) {
    rv_buf_clear(out);
    if (!(c->flags & RV_CHUNK_LZ4)) {
        rv_buf_put(out, stored, c->stored_len);
        return NULL;
    }
    rv_buf_grow(out, c->raw_len);
    int n = LZ4_decompress_safe((const char *)stored, (char *)out->data, (int)c->stored_len,
                                (int)c->raw_len);
    if (n < 0 || (uint32_t)n != c->raw_len) return "the payload does not decompress to its length";
    return NULL;
}

const char *rv_chunk_type_name(uint16_t type) {
    switch (type) {
    case RV_CHUNK_HEADER: return "header";
    case RV_CHUNK_EVENTS: return "events";
    case RV_CHUNK_BLOB: return "blob";
    case RV_CHUNK_SUMMARY: return "summary";
    case RV_CHUNK_INDEX: return "index";
    default: return NULL;
    }
}

void rv_trailer_put(struct rv_buf *out, uint64_t salt, const struct rv_trailer *t) {
    size_t start = out->len;
    rv_buf_put(out, trailer_magic, sizeof trailer_magic);
    rv_buf_put_u64(out, t->index_offset);
    rv_buf_put_u64(out, t->summary_offset);
    rv_buf_put_u64(out, t->file_size);
    rv_buf_put_u32(out, t->chunks);
    rv_buf_put_u32(out, 0);
    rv_buf_put_u64(out, XXH3_64bits_withSeed(out->data + start, 40, salt));
}

bool rv_trailer_get(const uint8_t bytes[RV_TRAILER_SIZE], uint64_t salt, struct rv_trailer *t) {
    if (memcmp(bytes, trailer_magic, sizeof trailer_magic) != 0) return false;
    if (!check_equal(load_u64(bytes + 40), XXH3_64bits_withSeed(bytes, 40, salt))) return false;
    struct rv_cursor in = rv_cursor_of(bytes + 8, 32);
    t->index_offset = rv_cursor_u64(&in);
    t->summary_offset = rv_cursor_u64(&in);
    t->file_size = rv_cursor_u64(&in);
    t->chunks = rv_cursor_u32(&in);
    return rv_cursor_u32(&in) == 0;
}
