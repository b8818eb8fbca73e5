/* Finding the chunks of a file without an index: from header to header. */
#include "trace-format/reader_priv.h"

#include <string.h>

/* What the bytes after the last chunk are, when they are too few or no chunk header. */
static enum rv_scan_end classify(const uint8_t *bytes, size_t len, uint64_t salt) {
    static const uint8_t chunk[4] = {'R', 'V', 'C', 0xc7};
    static const uint8_t trailer[8] = {'R', 'E', 'T', 'R', 'O', 'E', 'N', 'D'};
    struct rv_trailer t;
    if (len >= RV_TRAILER_SIZE && rv_trailer_get(bytes, salt, &t)) return RV_SCAN_TRAILER;
    if (len < RV_CHUNK_HEADER_SIZE && memcmp(bytes, chunk, len < 4 ? len : 4) == 0)
        return RV_SCAN_TORN;
    if (len < RV_TRAILER_SIZE && memcmp(bytes, trailer, len < 8 ? len : 8) == 0)
        return RV_SCAN_TORN;
    return RV_SCAN_DAMAGE;
}

/* Looks at one place: a chunk (RV_SCAN_END, *c filled), or why there is none. */
static int look(const struct rv_trace_reader *r, uint64_t offset, uint64_t limit,
                struct rv_chunk *c, struct rv_scan *scan, struct rv_err *err) {
    *scan = (struct rv_scan){.end = RV_SCAN_END, .offset = offset};
    uint64_t left = limit - offset;
    uint8_t bytes[RV_CHUNK_HEADER_SIZE];
    size_t have = left < sizeof bytes ? (size_t)left : sizeof bytes;
    int rc = rv_reader_pread(r, offset, bytes, have, err);
    if (rc) return rc;
    const char *bad = have < sizeof bytes ? "the bytes at the end are no chunk"
                                          : rv_chunk_header_get(bytes, r->salt, c);
    if (bad) {
        scan->end = classify(bytes, have, r->salt);
        scan->what = bad;
    } else if (c->stored_len > left - sizeof bytes) {
        scan->end = RV_SCAN_TORN;
    } else if (!rv_chunk_type_name(c->type) && !(c->flags & RV_CHUNK_OPTIONAL)) {
        scan->end = RV_SCAN_NEWER;
        scan->type = c->type;
    }
    return 0;
}

int rv_reader_look_at(const struct rv_trace_reader *r, uint64_t offset, uint64_t limit,
                      struct rv_scan *scan, struct rv_err *err) {
    struct rv_chunk c;
    return look(r, offset, limit, &c, scan, err);
}

int rv_reader_scan(const struct rv_trace_reader *r, struct rv_index *index, uint64_t limit,
                   struct rv_scan *scan, struct rv_err *err) {
    rv_index_init(index, RV_PREAMBLE_SIZE);
    *scan = (struct rv_scan){.end = RV_SCAN_END, .offset = index->end};
    while (index->end < limit) {
        struct rv_chunk c;
        int rc = look(r, index->end, limit, &c, scan, err);
        if (rc || scan->end != RV_SCAN_END) return rc;
        scan->what = rv_index_add(index, &c);
        if (scan->what) {
            scan->end = RV_SCAN_DAMAGE;
            return 0;
        }
        scan->offset = index->end;
    }
    return 0;
}

int rv_reader_resync(const struct rv_trace_reader *r, uint64_t offset, uint64_t limit,
                     uint64_t *found, struct rv_chunk *c, struct rv_err *err) {
    enum { WINDOW = 64 << 10 };
    struct rv_buf buf = {0};
    rv_buf_grow(&buf, WINDOW);
    int rc = RV_E_END;
    while (offset < limit && limit - offset >= RV_CHUNK_HEADER_SIZE) {
        size_t n = limit - offset < WINDOW ? (size_t)(limit - offset) : WINDOW;
        int failed = rv_reader_pread(r, offset, buf.data, n, err);
        if (failed) {
            rc = failed;
            break;
        }
        for (size_t i = 0; rc && i + RV_CHUNK_HEADER_SIZE <= n; i++) {
            if (rv_chunk_header_get(buf.data + i, r->salt, c)) continue;
            *found = offset + i;
            rc = 0;
        }
        if (!rc) break;
        /* The windows overlap so that no header is missed between two. */
        offset += n - RV_CHUNK_HEADER_SIZE + 1;
    }
    rv_buf_release(&buf);
    return rc;
}
