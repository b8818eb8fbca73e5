#include "trace-format/codec.h"

#include "trace-format/limits.h"
#include "vmm/base/err.h"

enum {
    TAG_KIND = 0x07,
    TAG_SOURCE = 0x08,
    TAG_TIME = 0x10,
    TAG_VALUE = 0x20,
    TAG_VALUE2 = 0x40,
    TAG_DATA = 0x80,
};

void rv_put_varint(struct rv_buf *out, uint64_t v) {
    uint8_t bytes[10];
    size_t n = 0;
    while (v >= 0x80) {
        bytes[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (uint8_t)v;
    rv_buf_put(out, bytes, n);
}

uint64_t rv_get_varint(struct rv_cursor *in) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = rv_cursor_u8(in);
        if (in->bad || (shift == 63 && b > 1)) break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return v;
    }
    in->bad = true;
    return 0;
}

static uint64_t predicted_time(uint64_t rate, uint64_t position) {
    return (uint64_t)(((unsigned __int128)position * rate) >> 32);
}

static uint64_t zigzag(uint64_t v) { return (v << 1) ^ (0 - (v >> 63)); }
static uint64_t unzigzag(uint64_t v) { return (v >> 1) ^ (0 - (v & 1)); }

void rv_codec_init(struct rv_codec *c, uint64_t rate, uint64_t first_position,
                   uint64_t first_time) {
    *c = (struct rv_codec){
        .rate = rate,
        .position = first_position,
        .drift = first_time - predicted_time(rate, first_position),
    };
}

void rv_codec_put(struct rv_codec *c, struct rv_buf *out, const struct rv_trace_event *ev) {
    rv_assert(ev->position >= c->position);
    uint64_t drift = ev->time - predicted_time(c->rate, ev->position);
    bool short_kind = ev->kind >= 1 && ev->kind <= TAG_KIND;
    uint8_t tag = short_kind ? (uint8_t)ev->kind : 0;
    if (ev->source != c->source) tag |= TAG_SOURCE;
    if (drift != c->drift) tag |= TAG_TIME;
    if (ev->value) tag |= TAG_VALUE;
    if (ev->value2) tag |= TAG_VALUE2;
    if (ev->len) tag |= TAG_DATA;

    rv_buf_put_u8(out, tag);
    if (!short_kind) rv_put_varint(out, ev->kind);
    rv_put_varint(out, ev->position - c->position);
    if (tag & TAG_SOURCE) rv_put_varint(out, ev->source);
    if (tag & TAG_TIME) rv_put_varint(out, zigzag(drift - c->drift));
    if (tag & TAG_VALUE) rv_put_varint(out, ev->value);
    if (tag & TAG_VALUE2) rv_buf_put_u64(out, ev->value2);
    if (tag & TAG_DATA) {
        rv_put_varint(out, ev->len);
        rv_buf_put(out, ev->data, ev->len);
    }
    c->position = ev->position;
    c->source = ev->source;
    c->drift = drift;
}

const char *rv_codec_get(struct rv_codec *c, struct rv_cursor *in, struct rv_trace_event *ev) {
    *ev = (struct rv_trace_event){0};
    uint8_t tag = rv_cursor_u8(in);
    uint64_t kind = tag & TAG_KIND ? (uint64_t)(tag & TAG_KIND) : rv_get_varint(in);
    uint64_t delta = rv_get_varint(in);
    uint64_t source = tag & TAG_SOURCE ? rv_get_varint(in) : c->source;
    uint64_t drift = c->drift + (tag & TAG_TIME ? unzigzag(rv_get_varint(in)) : 0);
    ev->value = tag & TAG_VALUE ? rv_get_varint(in) : 0;
    ev->value2 = tag & TAG_VALUE2 ? rv_cursor_u64(in) : 0;
    uint64_t len = tag & TAG_DATA ? rv_get_varint(in) : 0;
    if (in->bad) return "an event record is cut short";
    if (kind == 0 || kind >= RV_TRACE_MAX_KINDS) return "an event has an impossible kind";
    if (source > UINT32_MAX) return "an event has an impossible source";
    if (delta > UINT64_MAX - c->position) return "an event's position overflows";
    if (len > RV_TRACE_MAX_EVENT_DATA) return "an event carries more data than the format allows";
    ev->data = rv_cursor_skip(in, (size_t)len);
    if (in->bad) return "an event's data is cut short";
    ev->len = (size_t)len;
    if (!ev->len) ev->data = NULL;
    ev->kind = (uint32_t)kind;
    ev->source = (uint32_t)source;
    ev->position = c->position + delta;
    ev->time = drift + predicted_time(c->rate, ev->position);
    c->position = ev->position;
    c->source = ev->source;
    c->drift = drift;
    return NULL;
}
