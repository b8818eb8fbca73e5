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

int rv_reader_scan(const struct rv_trace_reader *r, struct rv_index *index, uint64_t limit,
                   struct rv_scan *scan, struct rv_err *err) {
    rv_index_init(index, RV_PREAMBLE_SIZE);
    for (;;) {
        *scan = (struct rv_scan){.end = RV_SCAN_END, .offset = index->end};
        uint64_t left = limit - index->end;
        if (left == 0) return 0;
        uint8_t bytes[RV_CHUNK_HEADER_SIZE];
        size_t have = left < sizeof bytes ? (size_t)left : sizeof bytes;
        int rc = rv_reader_pread(r, index->end, bytes, have, err);
        if (rc) return rc;
        struct rv_chunk c;
        const char *bad = have < sizeof bytes ? "the bytes at the end are no chunk"
                                              : rv_chunk_header_get(bytes, r->salt, &c);
        if (bad) {
            scan->end = classify(bytes, have, r->salt);
            scan->what = bad;
            return 0;
        }
        if (c.stored_len > left - sizeof bytes) {
            scan->end = RV_SCAN_TORN;
            return 0;
        }
        if (!rv_chunk_type_name(c.type) && !(c.flags & RV_CHUNK_OPTIONAL)) {
            scan->end = RV_SCAN_NEWER;
            scan->type = c.type;
            return 0;
        }
        bad = rv_index_add(index, &c);
        if (bad) {
            scan->end = RV_SCAN_DAMAGE;
            scan->what = bad;
            return 0;
        }
    }
}
