/* Damages a trace in a way that depends on a number only. */
#ifndef TEST_FUZZ_MUTATION_H
#define TEST_FUZZ_MUTATION_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/buf.h"

/* Replaces out by a damaged copy of the trace in data. Whole chunks are exchanged, repeated and
 * dropped, header fields and contents changed, bits flipped, bytes cut and inserted. Returns true
 * when the checksums were made right again after changing what they cover, so that the damage gets
 * past them: then a reader may meet other events, but nothing worse. Data that is no trace is
 * damaged as plain bytes. The copy may by chance equal the original. */
bool mutation_apply(const uint8_t *data, size_t len, uint64_t seed, struct rv_buf *out);

#endif
