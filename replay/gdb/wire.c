#include "replay/gdb/wire.h"

#include <string.h>

void rv_gdb_wire_init(struct rv_gdb_wire *w) { *w = (struct rv_gdb_wire){.checked = true}; }

void rv_gdb_wire_release(struct rv_gdb_wire *w) {
    rv_buf_release(&w->in);
    rv_buf_release(&w->packet);
}

/* Twice a packet with every character escaped: nobody has more under way. */
#define WAITING_MAX (4 * RV_GDB_PACKET_MAX)

bool rv_gdb_wire_feed(struct rv_gdb_wire *w, const void *data, size_t n) {
    if (w->at) {
        memmove(w->in.data, w->in.data + w->at, w->in.len - w->at);
        w->in.len -= w->at;
        w->at = 0;
    }
    if (n > WAITING_MAX - w->in.len) return false;
    rv_buf_put(&w->in, data, n);
    return true;
}

static int digit(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* A packet begins at w->at with '$'. */
static enum rv_gdb_item packet(struct rv_gdb_wire *w) {
    const uint8_t *from = w->in.data + w->at, *end = w->in.data + w->in.len;
    const uint8_t *hash = memchr(from + 1, '#', (size_t)(end - from - 1));
    if (!hash) {
        if ((size_t)(end - from) <= 2 * RV_GDB_PACKET_MAX) return RV_GDB_NOTHING;
        w->at = w->in.len;
        return RV_GDB_DAMAGED;
    }
    if (end - hash < 3) return RV_GDB_NOTHING;
    w->at = (size_t)(hash + 3 - w->in.data);
    uint8_t sum = 0;
    rv_buf_clear(&w->packet);
    for (const uint8_t *p = from + 1; p < hash; p++) {
        sum += *p;
        uint8_t c = *p;
        if (c == '}' && p + 1 < hash) {
            c = *++p;
            sum += c;
            c ^= 0x20;
        }
        rv_buf_put_u8(&w->packet, c);
    }
    int high = digit(hash[1]), low = digit(hash[2]);
    bool right = !w->checked || (high >= 0 && low >= 0 && high * 16 + low == sum);
    if (!right || w->packet.len > RV_GDB_PACKET_MAX) return RV_GDB_DAMAGED;
    rv_buf_put_u8(&w->packet, 0);
    w->packet.len--;
    return RV_GDB_PACKET;
}

enum rv_gdb_item rv_gdb_wire_next(struct rv_gdb_wire *w) {
    for (; w->at < w->in.len; w->at++) {
        switch (w->in.data[w->at]) {
        case '$': return packet(w);
        case 3: w->at++; return RV_GDB_INTERRUPT;
        case '-':
            if (!w->checked) break;
            w->at++;
            return RV_GDB_NAK;
        default: break; /* '+', or line noise */
        }
    }
    return RV_GDB_NOTHING;
}

bool rv_gdb_wire_interrupted(struct rv_gdb_wire *w) {
    while (w->at < w->in.len && w->in.data[w->at] != '$') {
        uint8_t c = w->in.data[w->at++];
        if (c == 3) return true;
    }
    return false;
}

static bool special(uint8_t c) { return c == '$' || c == '#' || c == '}' || c == '*'; }

void rv_gdb_put_binary(struct rv_buf *out, const void *data, size_t n) {
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) {
        if (special(p[i])) {
            rv_buf_put_u8(out, '}');
            rv_buf_put_u8(out, p[i] ^ 0x20);
        } else {
            rv_buf_put_u8(out, p[i]);
        }
    }
}

void rv_gdb_frame(struct rv_buf *out, const void *data, size_t n) {
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((const uint8_t *)data)[i];
    rv_buf_put_u8(out, '$');
    rv_buf_put(out, data, n);
    rv_buf_printf(out, "#%02x", sum);
}

void rv_gdb_put_hex(struct rv_buf *out, const void *data, size_t n) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    uint8_t *to = rv_buf_grow(out, 2 * n);
    for (size_t i = 0; i < n; i++) {
        to[2 * i] = (uint8_t)digits[p[i] >> 4];
        to[2 * i + 1] = (uint8_t)digits[p[i] & 15];
    }
}

bool rv_gdb_get_hex(const char **p, void *out, size_t n) {
    uint8_t *to = out;
    for (size_t i = 0; i < n; i++) {
        int high = digit((uint8_t)(*p)[0]);
        int low = high < 0 ? -1 : digit((uint8_t)(*p)[1]);
        if (low < 0) return false;
        to[i] = (uint8_t)(high * 16 + low);
        *p += 2;
    }
    return true;
}

bool rv_gdb_get_number(const char **p, uint64_t *v) {
    const char *from = *p;
    uint64_t n = 0;
    for (int d; (d = digit((uint8_t) * *p)) >= 0; (*p)++) {
        if (n >> 60) return false;
        n = n << 4 | (unsigned)d;
    }
    *v = n;
    return *p != from;
}

bool rv_gdb_skip(const char **p, const char *prefix) {
    size_t n = strlen(prefix);
    if (strncmp(*p, prefix, n) != 0) return false;
    *p += n;
    return true;
}
