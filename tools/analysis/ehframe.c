#include "tools/analysis/ehframe.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

#define MAX_ENTRIES (1u << 22)

struct section {
    const uint8_t *bytes;
    size_t len;
    uint64_t addr;
};

static uint64_t uleb(struct rv_cursor *c) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = rv_cursor_u8(c);
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) break;
    }
    return v;
}

static void skip_leb(struct rv_cursor *c) {
    while (!c->bad && (rv_cursor_u8(c) & 0x80)) continue;
}

/* How the entries of the CIE at an offset write addresses (DW_EH_PE_...); -1: it is damaged. */
static int encoding_of(const struct section *s, size_t at) {
    if (at >= s->len) return -1;
    struct rv_cursor c = rv_cursor_of(s->bytes + at, s->len - at);
    rv_cursor_u32(&c);
    if (rv_cursor_u32(&c) != 0) return -1; /* the mark of a CIE */
    uint8_t version = rv_cursor_u8(&c);
    const uint8_t *augmentation = c.p, *nul = memchr(c.p, 0, (size_t)(c.end - c.p));
    if (!nul || !rv_cursor_skip(&c, (size_t)(nul - c.p) + 1)) return -1;
    skip_leb(&c); /* code and data alignment */
    skip_leb(&c);
    if (version == 1)
        rv_cursor_u8(&c);
    else
        skip_leb(&c); /* the return address register */
    if (*augmentation != 'z') return 0;
    uleb(&c);
    for (const uint8_t *p = augmentation + 1; *p; p++) {
        uint8_t e;
        switch (*p) {
        case 'R': return c.bad ? -1 : rv_cursor_u8(&c);
        case 'L': rv_cursor_u8(&c); break;
        case 'P':
            e = rv_cursor_u8(&c) & 15;
            rv_cursor_skip(&c, e == 2 || e == 10 ? 2 : e == 3 || e == 11 ? 4 : 8);
            break;
        case 'S':
        case 'B': break;
        default: return -1;
        }
    }
    return 0;
}

/* An address that was written at `at`, as linked. */
static uint64_t decode(struct rv_cursor *c, int encoding, uint64_t at) {
    uint64_t v;
    switch (encoding & 15) {
    case 2: v = rv_cursor_u16(c); break;
    case 3: v = rv_cursor_u32(c); break;
    case 10: v = (uint64_t)(int64_t)(int16_t)rv_cursor_u16(c); break;
    case 11: v = (uint64_t)(int64_t)(int32_t)rv_cursor_u32(c); break;
    default: v = rv_cursor_u64(c);
    }
    return (encoding & 0x70) == 0x10 ? v + at : v;
}

static int by_start(const void *pa, const void *pb) {
    const struct rv_fde *a = pa, *b = pb;
    return a->start < b->start ? -1 : a->start > b->start;
}

size_t rv_ehframe_list(struct rv_fde **out, const uint8_t *bytes, size_t len, uint64_t addr) {
    struct section s = {bytes, len, addr};
    size_t n = 0, room = 0, at = 0, last_cie = SIZE_MAX;
    int encoding = -1;
    *out = NULL;
    while (len - at >= 8 && n < MAX_ENTRIES) {
        struct rv_cursor c = rv_cursor_of(bytes + at, len - at);
        uint32_t size = rv_cursor_u32(&c), back = rv_cursor_u32(&c);
        if (!size || size == UINT32_MAX || size > len - at - 4 || size < 4) break;
        if (back && back <= at + 4) {
            size_t cie = at + 4 - back;
            if (cie != last_cie) encoding = encoding_of(&s, cie);
            last_cie = cie;
            uint64_t start = decode(&c, encoding, addr + at + 8);
            if (encoding >= 0 && !c.bad && start) {
                if (n == room) {
                    room = room ? 2 * room : 256;
                    *out = rv_realloc(*out, room * sizeof **out);
                }
                (*out)[n++] = (struct rv_fde){start, addr + at};
            }
        }
        at += 4 + (size_t)size;
    }
    if (n) qsort(*out, n, sizeof **out, by_start);
    return n;
}
