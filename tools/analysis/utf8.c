#include "tools/analysis/utf8.h"

#include <stdbool.h>

/* Length of the UTF-8 character at p, 0 when there is none: then *bad bytes from p on could have
 * begun one, and count as one mistake; *cut: it may be one that the end cuts off. Overlong forms,
 * surrogates and what is above U+10FFFF are no characters (RFC 3629). */
static size_t character(const uint8_t *p, size_t len, size_t *bad, bool *cut) {
    *cut = false;
    *bad = 1;
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++) {
        *bad = i;
        if (i == len) {
            *cut = true;
            return 0;
        }
        uint8_t low = 0x80, high = 0xbf;
        if (i == 1) {
            if (p[0] == 0xe0) low = 0xa0;
            if (p[0] == 0xed) high = 0x9f;
            if (p[0] == 0xf0) low = 0x90;
            if (p[0] == 0xf4) high = 0x8f;
        }
        if (p[i] < low || p[i] > high) return 0;
    }
    return n;
}

size_t rv_utf8_whole(const uint8_t *data, size_t len) {
    size_t bad;
    bool cut;
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        uint8_t b = data[len - back];
        if (b < 0x80) break;
        if (b < 0xc0) continue;
        character(data + len - back, back, &bad, &cut);
        return cut ? len - back : len;
    }
    return len;
}

void rv_utf8_put(struct rv_buf *out, const uint8_t *data, size_t len) {
    size_t bad;
    bool cut;
    for (size_t i = 0; i < len;) {
        size_t n = character(data + i, len - i, &bad, &cut);
        if (n)
            rv_buf_put(out, data + i, n);
        else
            rv_buf_put(out, "\xef\xbf\xbd", 3); /* U+FFFD */
        i += n ? n : bad;
    }
}
