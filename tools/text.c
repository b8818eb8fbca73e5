/* JSON as all commands print it. Bytes of guests and traces are untrusted and need not be text. */
#include "tools/retro.h"

#include <jansson.h>
#include <string.h>

#include "tools/analysis/utf8.h"

void retro_json_put(FILE *out, json_t *value, size_t flags) {
    json_dumpf(value, out, flags);
    putc('\n', out);
    json_decref(value);
}

json_t *retro_json_utf8(const uint8_t *data, size_t len) {
    struct rv_buf b = {0};
    rv_utf8_put(&b, data, len);
    json_t *j = json_stringn(b.len ? (const char *)b.data : "", b.len);
    rv_buf_release(&b);
    return j;
}

json_t *retro_json_utf8z(const char *s) { return retro_json_utf8((const uint8_t *)s, strlen(s)); }

json_t *retro_json_bytes(const uint8_t *data, size_t len) {
    struct rv_buf b = {0};
    for (size_t i = 0; i < len; i++) {
        if (data[i] >= 128) rv_buf_put_u8(&b, 0xc0 | data[i] >> 6);
        rv_buf_put_u8(&b, data[i] >= 128 ? 0x80 | (data[i] & 0x3f) : data[i]);
    }
    json_t *j = json_stringn(b.len ? (const char *)b.data : "", b.len);
    rv_buf_release(&b);
    return j;
}
