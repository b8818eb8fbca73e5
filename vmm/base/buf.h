/* A growable byte buffer, and a bounded reader over bytes that are not trusted. */
#ifndef RV_BASE_BUF_H
#define RV_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise to start empty. The buffer owns data; rv_buf_release frees it. */
struct rv_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

void rv_buf_release(struct rv_buf *b);
void rv_buf_clear(struct rv_buf *b); /* length to 0, memory kept */

/* Grows by n bytes and returns where they start; their content is undefined. Running out of memory
 * ends the process: no caller could do better with a few kilobytes refused. */
uint8_t *rv_buf_grow(struct rv_buf *b, size_t n);
void rv_buf_put(struct rv_buf *b, const void *data, size_t n);
void rv_buf_put_u8(struct rv_buf *b, uint8_t v);
void rv_buf_put_u16(struct rv_buf *b, uint16_t v); /* little endian, as everything of ours */
void rv_buf_put_u32(struct rv_buf *b, uint32_t v);
void rv_buf_put_u64(struct rv_buf *b, uint64_t v);
void rv_buf_printf(struct rv_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Reads through [p, end); a read past the end yields zeroes and sets `bad`, to be tested once. */
struct rv_cursor {
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
};

struct rv_cursor rv_cursor_of(const void *data, size_t n);
bool rv_cursor_take(struct rv_cursor *c, void *out, size_t n);
const uint8_t *rv_cursor_skip(struct rv_cursor *c, size_t n); /* NULL when short */
uint8_t rv_cursor_u8(struct rv_cursor *c);
uint16_t rv_cursor_u16(struct rv_cursor *c);
uint32_t rv_cursor_u32(struct rv_cursor *c);
uint64_t rv_cursor_u64(struct rv_cursor *c);

/* malloc and friends that do not return NULL; release with free(). Sizes come from us, never from
 * a file: a file's sizes are checked against a limit first. */
void *rv_alloc(size_t n); /* zeroed */
void *rv_realloc(void *p, size_t n);
char *rv_strdup(const char *s);

#endif
