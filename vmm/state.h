/* One table of fields for each stateful object (a device, the CPU) serves saving, loading, hashing,
 * comparing and dumping, so that none of these can forget a field that another knows. */
#ifndef RV_VMM_STATE_H
#define RV_VMM_STATE_H

#include "vmm/base/buf.h"
#include "vmm/base/err.h"
#include "vmm/base/types.h"

struct rv_field {
    const char *name;
    uint32_t offset; /* of the first element in the object, bytes */
    uint32_t size;   /* of one element: 1, 2, 4 or 8 for integers, anything for opaque bytes */
    uint32_t count;  /* elements, at least 1 */
};

/* An integer or an array of integers; bool counts as one byte. */
#define RV_FIELD(type, member)                                                                     \
    { #member, offsetof(type, member), sizeof(((type *)0)->member), 1 }
#define RV_FIELD_ARRAY(type, member)                                                               \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member[0]),                           \
            sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0])                           \
    }
#define RV_FIELD_END                                                                               \
    { NULL, 0, 0, 0 } /* closes every table */

/* Appends the object's fields to out, in table order, little endian, without padding. */
void rv_state_save(const struct rv_field *fields, const void *obj, struct rv_buf *out);

/* Reads what rv_state_save wrote. On too few bytes: RV_E_FORMAT, naming the field. */
int rv_state_load(const struct rv_field *fields, void *obj, struct rv_cursor *in,
                  struct rv_err *err);

/* A 64-bit hash of the fields (not of padding), chained from seed. */
uint64_t rv_state_hash(const struct rv_field *fields, const void *obj, uint64_t seed);

/* Appends a field's value: each element in hex, with spaces between. */
void rv_state_value(const struct rv_field *field, const void *obj, struct rv_buf *out);

/* Appends "prefix.name = value\n" lines, one a field. */
void rv_state_dump(const struct rv_field *fields, const void *obj, const char *prefix,
                   struct rv_buf *out);

#endif
