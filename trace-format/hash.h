/* Content hashes: XXH3-128 without a seed, kept in canonical (big endian) byte order so that the
 * bytes in a file and the printed digits agree. They find damage and name content; they are no
 * defence against someone who builds collisions on purpose. */
#ifndef RV_TRACE_HASH_H
#define RV_TRACE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RV_TRACE_HASH_TEXT 33 /* 32 hexadecimal digits and the terminating NUL */

struct rv_trace_hash {
    uint8_t bytes[16];
};

struct rv_trace_hash rv_trace_hash_of(const void *data, size_t len);
bool rv_trace_hash_equal(const struct rv_trace_hash *a, const struct rv_trace_hash *b);
/* Writes 32 digits and a NUL to text and returns it. */
char *rv_trace_hash_format(const struct rv_trace_hash *h, char text[RV_TRACE_HASH_TEXT]);

/* The same hash over content that arrives in pieces. */
struct rv_trace_hasher;
struct rv_trace_hasher *rv_trace_hasher_new(void);
void rv_trace_hasher_add(struct rv_trace_hasher *h, const void *data, size_t len);
struct rv_trace_hash rv_trace_hasher_value(const struct rv_trace_hasher *h);
void rv_trace_hasher_free(struct rv_trace_hasher *h);

#endif
