#include "vmm/state.h"

#include <string.h>
#include <xxhash.h>

void rv_state_save(const struct rv_field *fields, const void *obj, struct rv_buf *out) {
    for (const struct rv_field *f = fields; f->name; f++)
        rv_buf_put(out, (const uint8_t *)obj + f->offset, (size_t)f->size * f->count);
}

int rv_state_load(const struct rv_field *fields, void *obj, struct rv_cursor *in,
                  struct rv_err *err) {
    for (const struct rv_field *f = fields; f->name; f++)
        if (!rv_cursor_take(in, (uint8_t *)obj + f->offset, (size_t)f->size * f->count))
            return rv_fail(err, RV_E_FORMAT, "saved state ends inside field %s", f->name);
    return 0;
}

uint64_t rv_state_hash(const struct rv_field *fields, const void *obj, uint64_t seed) {
    for (const struct rv_field *f = fields; f->name; f++)
        seed = XXH3_64bits_withSeed((const uint8_t *)obj + f->offset, (size_t)f->size * f->count,
                                    seed);
    return seed;
}

void rv_state_value(const struct rv_field *field, const void *obj, struct rv_buf *out) {
    const uint8_t *p = (const uint8_t *)obj + field->offset;
    for (uint32_t i = 0; i < field->count; i++, p += field->size) {
        if (i) rv_buf_printf(out, " ");
        for (uint32_t b = field->size; b-- > 0;) rv_buf_printf(out, "%02x", p[b]);
    }
}

void rv_state_dump(const struct rv_field *fields, const void *obj, const char *prefix,
                   struct rv_buf *out) {
    for (const struct rv_field *f = fields; f->name; f++) {
        rv_buf_printf(out, "%s.%s = ", prefix, f->name);
        rv_state_value(f, obj, out);
        rv_buf_printf(out, "\n");
    }
}
