#include "trace-format/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "vmm/base/err.h"

static struct rv_trace_hash canonical(XXH128_hash_t value) {
    XXH128_canonical_t bytes;
    XXH128_canonicalFromHash(&bytes, value);
    struct rv_trace_hash h;
    memcpy(h.bytes, bytes.digest, sizeof h.bytes);
    return h;
}

struct rv_trace_hash rv_trace_hash_of(const void *data, size_t len) {
    return canonical(XXH3_128bits(len ? data : "", len));
}

bool rv_trace_hash_equal(const struct rv_trace_hash *a, const struct rv_trace_hash *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

char *rv_trace_hash_format(const struct rv_trace_hash *h, char text[RV_TRACE_HASH_TEXT]) {
    for (size_t i = 0; i < sizeof h->bytes; i++) snprintf(text + 2 * i, 3, "%02x", h->bytes[i]);
    return text;
}

/* The state is XXH3's own: it wants 64-byte alignment, which its allocator sees to. */
struct rv_trace_hasher *rv_trace_hasher_new(void) {
    XXH3_state_t *state = XXH3_createState();
    rv_assert(state != NULL);
    XXH3_128bits_reset(state);
    return (struct rv_trace_hasher *)state;
}

void rv_trace_hasher_add(struct rv_trace_hasher *h, const void *data, size_t len) {
    if (len) XXH3_128bits_update((XXH3_state_t *)h, data, len);
}

struct rv_trace_hash rv_trace_hasher_value(const struct rv_trace_hasher *h) {
    return canonical(XXH3_128bits_digest((const XXH3_state_t *)h));
}

void rv_trace_hasher_free(struct rv_trace_hasher *h) {
    if (h) XXH3_freeState((XXH3_state_t *)h);
}
