#include "vmm/boot/aml.h"

#include <string.h>

#include "vmm/base/err.h"

enum {
    ZERO_OP = 0x00,
    ONE_OP = 0x01,
    NAME_OP = 0x08,
    BYTE = 0x0a,
    WORD = 0x0b,
    DWORD = 0x0c,
    QWORD = 0x0e,
    SCOPE_OP = 0x10,
    BUFFER_OP = 0x11,
    PACKAGE_OP = 0x12,
    EXT_OP = 0x5b,
    DEVICE_OP = 0x82
};

void rv_aml_int(struct rv_buf *b, uint64_t v) {
    if (v <= 1) {
        rv_buf_put_u8(b, v ? ONE_OP : ZERO_OP);
    } else if (v <= UINT8_MAX) {
        rv_buf_put_u8(b, BYTE);
        rv_buf_put_u8(b, (uint8_t)v);
    } else if (v <= UINT16_MAX) {
        rv_buf_put_u8(b, WORD);
        rv_buf_put_u16(b, (uint16_t)v);
    } else if (v <= UINT32_MAX) {
        rv_buf_put_u8(b, DWORD);
        rv_buf_put_u32(b, (uint32_t)v);
    } else {
        rv_buf_put_u8(b, QWORD);
        rv_buf_put_u64(b, v);
    }
}

void rv_aml_name(struct rv_buf *b, const char *name) {
    rv_buf_put_u8(b, NAME_OP);
    rv_buf_put(b, name, strlen(name));
}

void rv_aml_eisa(struct rv_buf *b, const char *id) {
    /* Three letters of five bits, four hexadecimal digits, big endian (ACPI 6.4, 19.6.36). */
    uint32_t v = 0;
    for (unsigned i = 0; i < 3; i++) v = v << 5 | ((uint32_t)id[i] & 0x1f);
    for (unsigned i = 3; i < 7; i++)
        v = v << 4 | (uint32_t)(id[i] <= '9' ? id[i] - '0' : id[i] - 'A' + 10);
    rv_buf_put_u8(b, DWORD);
    for (unsigned i = 0; i < 4; i++) rv_buf_put_u8(b, (uint8_t)(v >> (24 - 8 * i)));
}

/* Opens room at mark by moving what follows. */
static void insert(struct rv_buf *b, size_t mark, const uint8_t *bytes, size_t n) {
    size_t tail = b->len - mark;
    rv_buf_grow(b, n);
    memmove(b->data + mark + n, b->data + mark, tail);
    memcpy(b->data + mark, bytes, n);
}

void rv_aml_end(struct rv_buf *b, size_t mark) {
    /* PkgLength counts its own bytes: one up to 63, else a lead byte with four bits and up to three
     * more (20.2.4). */
    size_t len = b->len - mark;
    uint8_t bytes[4];
    size_t n = 1;
    if (len + 1 <= 0x3f) {
        bytes[0] = (uint8_t)(len + 1);
    } else {
        n = len + 2 <= 0xfff ? 2 : len + 3 <= 0xfffff ? 3 : 4;
        size_t total = len + n;
        rv_assert(total < 1u << 28);
        bytes[0] = (uint8_t)((n - 1) << 6 | (total & 0xf));
        for (size_t i = 1; i < n; i++) bytes[i] = (uint8_t)(total >> (8 * i - 4));
    }
    insert(b, mark, bytes, n);
}

size_t rv_aml_scope_begin(struct rv_buf *b, const char *name) {
    rv_buf_put_u8(b, SCOPE_OP);
    size_t mark = b->len;
    rv_buf_put(b, name, strlen(name));
    return mark;
}

size_t rv_aml_device_begin(struct rv_buf *b, const char *name) {
    rv_buf_put_u8(b, EXT_OP);
    rv_buf_put_u8(b, DEVICE_OP);
    size_t mark = b->len;
    rv_buf_put(b, name, strlen(name));
    return mark;
}

size_t rv_aml_package_begin(struct rv_buf *b, uint8_t elements) {
    rv_buf_put_u8(b, PACKAGE_OP);
    size_t mark = b->len;
    rv_buf_put_u8(b, elements);
    return mark;
}

size_t rv_aml_resources_begin(struct rv_buf *b) {
    rv_buf_put_u8(b, BUFFER_OP);
    return b->len;
}

void rv_aml_resources_end(struct rv_buf *b, size_t mark) {
    rv_buf_put_u8(b, 0x79); /* end tag; a checksum of 0 means none */
    rv_buf_put_u8(b, 0x00);
    size_t len = b->len - mark;
    uint8_t size[3] = {WORD, (uint8_t)len, (uint8_t)(len >> 8)};
    insert(b, mark, size, sizeof size);
    rv_aml_end(b, mark);
}

void rv_aml_io(struct rv_buf *b, uint16_t port, uint8_t len) {
    rv_buf_put_u8(b, 0x47); /* small item 8, length 7 (6.4.2.5) */
    rv_buf_put_u8(b, 0x01); /* decodes 16 bits */
    rv_buf_put_u16(b, port);
    rv_buf_put_u16(b, port);
    rv_buf_put_u8(b, 0x01); /* alignment */
    rv_buf_put_u8(b, len);
}

void rv_aml_irq(struct rv_buf *b, unsigned irq) {
    rv_buf_put_u8(b, 0x22); /* small item 4, length 2 (6.4.2.1) */
    rv_buf_put_u16(b, (uint16_t)(1u << irq));
}

/* General flags: minimum and maximum fixed, positive decode. Type flags: the entire range for I/O;
 * uncached read-write for memory (6.4.3.5). */
enum { WINDOW_FLAGS = 0x0c };

static uint8_t type_flags(enum rv_aml_window kind) {
    return kind == RV_AML_IO ? 0x03 : kind == RV_AML_MEMORY ? 0x01 : 0x00;
}

void rv_aml_window16(struct rv_buf *b, enum rv_aml_window kind, uint16_t first, uint16_t last) {
    rv_buf_put_u8(b, 0x88);
    rv_buf_put_u16(b, 13);
    rv_buf_put_u8(b, (uint8_t)kind);
    rv_buf_put_u8(b, WINDOW_FLAGS);
    rv_buf_put_u8(b, type_flags(kind));
    rv_buf_put_u16(b, 0); /* granularity */
    rv_buf_put_u16(b, first);
    rv_buf_put_u16(b, last);
    rv_buf_put_u16(b, 0); /* translation */
    rv_buf_put_u16(b, (uint16_t)(last - first + 1));
}

void rv_aml_window32(struct rv_buf *b, enum rv_aml_window kind, uint32_t first, uint32_t last) {
    rv_buf_put_u8(b, 0x87);
    rv_buf_put_u16(b, 23);
    rv_buf_put_u8(b, (uint8_t)kind);
    rv_buf_put_u8(b, WINDOW_FLAGS);
    rv_buf_put_u8(b, type_flags(kind));
    rv_buf_put_u32(b, 0);
    rv_buf_put_u32(b, first);
    rv_buf_put_u32(b, last);
    rv_buf_put_u32(b, 0);
    rv_buf_put_u32(b, last - first + 1);
}
