#include "vmm/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(void) __attribute__((noreturn, cold));
static void out_of_memory(void) {
    fputs("retro: out of memory; close something or give the guest less (--memory)\n", stderr);
    abort();
}

void *rv_alloc(size_t n) {
    void *p = calloc(1, n ? n : 1);
    if (!p) out_of_memory();
    return p;
}

void *rv_realloc(void *old, size_t n) {
    void *p = realloc(old, n ? n : 1);
    if (!p) out_of_memory();
    return p;
}

char *rv_strdup(const char *s) {
    char *p = strdup(s);
    if (!p) out_of_memory();
    return p;
}

void rv_buf_release(struct rv_buf *b) {
    free(b->data);
    *b = (struct rv_buf){0};
}

void rv_buf_clear(struct rv_buf *b) { b->len = 0; }

uint8_t *rv_buf_grow(struct rv_buf *b, size_t n) {
    if (n > SIZE_MAX / 4 || b->len > SIZE_MAX / 4) out_of_memory();
    if (b->len + n > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < b->len + n) cap *= 2;
        b->data = rv_realloc(b->data, cap);
        b->cap = cap;
    }
    uint8_t *p = b->data ? b->data + b->len : NULL;
    b->len += n;
    return p;
}

void rv_buf_put(struct rv_buf *b, const void *data, size_t n) {
    if (n) memcpy(rv_buf_grow(b, n), data, n);
}

void rv_buf_put_u8(struct rv_buf *b, uint8_t v) { rv_buf_put(b, &v, sizeof v); }
void rv_buf_put_u16(struct rv_buf *b, uint16_t v) { rv_buf_put(b, &v, sizeof v); }
void rv_buf_put_u32(struct rv_buf *b, uint32_t v) { rv_buf_put(b, &v, sizeof v); }
void rv_buf_put_u64(struct rv_buf *b, uint64_t v) { rv_buf_put(b, &v, sizeof v); }

void rv_buf_printf(struct rv_buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n > 0) {
        uint8_t *p = rv_buf_grow(b, (size_t)n + 1);
        vsnprintf((char *)p, (size_t)n + 1, fmt, again);
        b->len--; /* the terminating NUL is room, not content */
    }
    va_end(again);
}

struct rv_cursor rv_cursor_of(const void *data, size_t n) {
    const uint8_t *p = data;
    return (struct rv_cursor){.p = p, .end = p ? p + n : p};
}

const uint8_t *rv_cursor_skip(struct rv_cursor *c, size_t n) {
    if (c->bad || (size_t)(c->end - c->p) < n) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->p;
    c->p += n;
    return p;
}

bool rv_cursor_take(struct rv_cursor *c, void *out, size_t n) {
    const uint8_t *p = rv_cursor_skip(c, n);
    if (p && n)
        memcpy(out, p, n);
    else
        memset(out, 0, n);
    return !c->bad;
}

uint8_t rv_cursor_u8(struct rv_cursor *c) {
    uint8_t v;
    rv_cursor_take(c, &v, sizeof v);
    return v;
}
uint16_t rv_cursor_u16(struct rv_cursor *c) {
    uint16_t v;
    rv_cursor_take(c, &v, sizeof v);
    return v;
}
uint32_t rv_cursor_u32(struct rv_cursor *c) {
    uint32_t v;
    rv_cursor_take(c, &v, sizeof v);
    return v;
}
uint64_t rv_cursor_u64(struct rv_cursor *c) {
    uint64_t v;
    rv_cursor_take(c, &v, sizeof v);
    return v;
}
