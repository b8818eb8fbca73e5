#include "mutation.h"

#include <stdlib.h>
#include <string.h>

#include "trace-format/chunk.h"
#include "vmm/base/types.h"

enum { MAX_CHUNKS = 4096 };

/* A trace taken apart. */
struct parts {
    uint64_t salt;
    size_t count;
    struct {
        struct rv_chunk c;
        struct rv_buf stored;
        uint8_t header[RV_CHUNK_HEADER_SIZE]; /* as it was */
        bool changed;                         /* c or stored no longer match it */
    } * chunks;
    struct rv_trailer trailer;
    bool has_trailer;
    struct rv_buf rest; /* after the last chunk */
};

static uint64_t next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t n) { return n ? (size_t)(next(state) % n) : 0; }

static uint32_t odd_value(uint64_t *state, uint32_t old) {
    static const uint32_t values[] = {0,
                                      1,
                                      2,
                                      0x7f,
                                      0xff,
                                      0x10000,
                                      0x100000,
                                      4u << 20,
                                      4000000000,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      RV_TRACE_MAX_RAW + 1};
    switch (below(state, 4)) {
    case 0: return old + 1;
    case 1: return old - 1;
    case 2: return (uint32_t)next(state);
    default: return values[below(state, RV_COUNT(values))];
    }
}

static bool take_apart(struct parts *p, const uint8_t *data, size_t len) {
    uint32_t version;
    if (len < RV_PREAMBLE_SIZE || rv_preamble_get(data, &p->salt, &version)) return false;
    p->chunks = rv_alloc(MAX_CHUNKS * sizeof *p->chunks);
    size_t at = RV_PREAMBLE_SIZE;
    while (p->count < MAX_CHUNKS / 2 && len - at >= RV_CHUNK_HEADER_SIZE) {
        struct rv_chunk c;
        if (rv_chunk_header_get(data + at, p->salt, &c)) break;
        if (c.stored_len > len - at - RV_CHUNK_HEADER_SIZE) break;
        memcpy(p->chunks[p->count].header, data + at, RV_CHUNK_HEADER_SIZE);
        p->chunks[p->count].c = c;
        rv_buf_put(&p->chunks[p->count].stored, data + at + RV_CHUNK_HEADER_SIZE, c.stored_len);
        p->count++;
        at += RV_CHUNK_HEADER_SIZE + c.stored_len;
    }
    p->has_trailer = len - at == RV_TRAILER_SIZE && rv_trailer_get(data + at, p->salt, &p->trailer);
    rv_buf_put(&p->rest, data + at, len - at);
    return true;
}

static void release(struct parts *p) {
    for (size_t i = 0; p->chunks && i < p->count; i++) rv_buf_release(&p->chunks[i].stored);
    free(p->chunks);
    rv_buf_release(&p->rest);
}

static void repeat_chunk(struct parts *p, uint64_t *state) {
    if (p->count == MAX_CHUNKS) return;
    size_t from = below(state, p->count), to = below(state, p->count + 1);
    struct rv_buf copy = {0};
    rv_buf_put(&copy, p->chunks[from].stored.data, p->chunks[from].stored.len);
    p->chunks[p->count] = p->chunks[from];
    p->chunks[p->count].stored = copy;
    for (size_t i = p->count; i > to; i--) {
        typeof(*p->chunks) t = p->chunks[i];
        p->chunks[i] = p->chunks[i - 1];
        p->chunks[i - 1] = t;
    }
    p->count++;
}

static void drop_chunk(struct parts *p, uint64_t *state) {
    size_t i = below(state, p->count);
    rv_buf_release(&p->chunks[i].stored);
    memmove(&p->chunks[i], &p->chunks[i + 1], (p->count - i - 1) * sizeof *p->chunks);
    p->count--;
}

static void change_field(struct parts *p, uint64_t *state) {
    size_t i = below(state, p->count);
    struct rv_chunk *c = &p->chunks[i].c;
    p->chunks[i].changed = true;
    switch (below(state, 8)) {
    case 0: c->raw_len = odd_value(state, c->raw_len); break;
    case 1: c->stored_len = odd_value(state, c->stored_len); break;
    case 2: c->raw_len = c->stored_len = odd_value(state, c->stored_len); break;
    case 3: c->count = odd_value(state, c->count); break;
    case 4: c->sequence = odd_value(state, c->sequence); break;
    case 5: c->type = (uint16_t)below(state, 8); break;
    case 6: c->flags ^= (uint16_t)(1u << below(state, 16)); break;
    default: c->key[below(state, 16)] ^= (uint8_t)(1u << below(state, 8)); break;
    }
}

static void change_bytes(struct rv_buf *b, uint64_t *state) {
    for (size_t n = 1 + below(state, 4); n && b->len; n--) {
        uint8_t *byte = &b->data[below(state, b->len)];
        *byte = below(state, 2) ? (uint8_t)next(state) : *byte ^ (uint8_t)(1u << below(state, 8));
    }
}

/* Changes the message itself: unpacks, changes, packs again. */
static void change_content(struct parts *p, uint64_t *state) {
    size_t i = below(state, p->count);
    if (p->chunks[i].changed) return; /* its lengths may be wrong by now */
    struct rv_buf raw = {0}, packed = {0};
    if (rv_chunk_unpack(&p->chunks[i].c, p->chunks[i].stored.data, &raw) == NULL) {
        change_bytes(&raw, state);
        if (below(state, 4) == 0) raw.len = below(state, raw.len + 1);
        struct rv_chunk c = p->chunks[i].c;
        rv_chunk_put(&packed, p->salt, &c, raw.data, raw.len);
        p->chunks[i].c = c;
        p->chunks[i].changed = true;
        rv_buf_clear(&p->chunks[i].stored);
        rv_buf_put(&p->chunks[i].stored, packed.data + RV_CHUNK_HEADER_SIZE, c.stored_len);
    }
    rv_buf_release(&raw);
    rv_buf_release(&packed);
}

static void change_trailer(struct parts *p, uint64_t *state) {
    uint64_t *field[] = {&p->trailer.index_offset, &p->trailer.summary_offset};
    *field[below(state, 2)] = below(state, 2) ? next(state) : below(state, 4096);
    if (below(state, 2)) p->trailer.chunks = odd_value(state, p->trailer.chunks);
}

static void change_parts(struct parts *p, uint64_t *state) {
    if (!p->count) return;
    switch (below(state, 8)) {
    case 0: {
        size_t a = below(state, p->count), b = below(state, p->count);
        typeof(*p->chunks) t = p->chunks[a];
        p->chunks[a] = p->chunks[b];
        p->chunks[b] = t;
        break;
    }
    case 1: repeat_chunk(p, state); break;
    case 2: drop_chunk(p, state); break;
    case 3: change_trailer(p, state); break;
    case 4:
    case 5: change_field(p, state); break;
    default: change_content(p, state); break;
    }
}

/* Puts the parts together. With repair the sums are right, and the numbers unless kept on purpose.
 */
static void put_together(const struct parts *p, const uint8_t *preamble, bool repair, bool renumber,
                         struct rv_buf *out) {
    rv_buf_put(out, preamble, RV_PREAMBLE_SIZE);
    struct rv_trailer t = p->trailer;
    for (size_t i = 0; i < p->count; i++) {
        const struct rv_buf *stored = &p->chunks[i].stored;
        struct rv_chunk c = p->chunks[i].c;
        bool changed = p->chunks[i].changed;
        if (renumber && c.sequence != i) {
            c.sequence = (uint32_t)i;
            changed = true;
        }
        if (repair && renumber && c.type == RV_CHUNK_SUMMARY) t.summary_offset = out->len;
        size_t start = out->len;
        rv_chunk_header_put(out, p->salt, &c, stored->data, stored->len);
        /* Without repair the old sums stay, over the new fields. */
        if (!repair) memcpy(out->data + start + 40, p->chunks[i].header + 40, 16);
        if (!repair && !changed) memcpy(out->data + start, p->chunks[i].header, 56);
        rv_buf_put(out, stored->data, stored->len);
    }
    if (p->has_trailer && repair) {
        t.file_size = out->len + RV_TRAILER_SIZE;
        rv_trailer_put(out, p->salt, &t);
    } else {
        rv_buf_put(out, p->rest.data, p->rest.len);
    }
}

static void change_plain(struct rv_buf *b, uint64_t *state) {
    switch (below(state, 5)) {
    case 0:
    case 1: change_bytes(b, state); break;
    case 2: b->len = below(state, b->len + 1); break;
    case 3: {
        size_t from = below(state, b->len + 1), n = below(state, b->len - from + 1);
        if (n > 64 && below(state, 2)) n = 64;
        if (n) memmove(b->data + from, b->data + from + n, b->len - from - n);
        b->len -= n;
        break;
    }
    default: {
        uint8_t extra[64];
        size_t n = 1 + below(state, sizeof extra), from = below(state, b->len + 1);
        bool zero = below(state, 2);
        for (size_t i = 0; i < n; i++) extra[i] = zero ? 0 : (uint8_t)next(state);
        rv_buf_grow(b, n);
        memmove(b->data + from + n, b->data + from, b->len - n - from);
        memcpy(b->data + from, extra, n);
        break;
    }
    }
}

bool mutation_apply(const uint8_t *data, size_t len, uint64_t seed, struct rv_buf *out) {
    uint64_t state = seed;
    struct parts p = {0};
    bool whole = take_apart(&p, data, len);
    bool structural = whole && below(&state, 4) != 0;
    bool repair = structural && below(&state, 2);
    bool renumber = repair && below(&state, 2);
    rv_buf_clear(out);
    if (structural) {
        for (size_t n = 1 + below(&state, 4); n; n--) change_parts(&p, &state);
        put_together(&p, data, repair, renumber, out);
    } else {
        rv_buf_put(out, data, len);
    }
    if (!structural || below(&state, 4) == 0)
        for (size_t n = 1 + below(&state, 3); n; n--) change_plain(out, &state);
    release(&p);
    return repair;
}
