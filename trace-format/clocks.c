#include "trace-format/clocks.h"

#include "trace-format/codec.h"

void rv_clocks_put(struct rv_buf *out, uint64_t positions, uint64_t ns) {
    unsigned code = rv_clock_code(ns);
    if (rv_clock_value(code) != ns) code = RV_CLOCK_EXACT;
    bool far = positions != 1;
    rv_put_varint(out, code << 1 | far);
    if (code == RV_CLOCK_EXACT) rv_put_varint(out, ns);
    if (far) rv_put_varint(out, positions);
}

bool rv_clocks_get(struct rv_cursor *in, uint64_t *positions, uint64_t *ns) {
    uint64_t head = rv_get_varint(in);
    uint64_t code = head >> 1;
    if (code > RV_CLOCK_EXACT) in->bad = true;
    *ns = code == RV_CLOCK_EXACT ? rv_get_varint(in) : rv_clock_value((unsigned)(code & 127));
    *positions = head & 1 ? rv_get_varint(in) : 1;
    return !in->bad;
}
