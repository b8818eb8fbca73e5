/* UTF-8 (RFC 3629) out of bytes that may be anything. */
#ifndef RV_ANALYSIS_UTF8_H
#define RV_ANALYSIS_UTF8_H

#include "vmm/base/buf.h"

/* How much of the data ends with a whole character, if it is cut off in one. */
size_t rv_utf8_whole(const uint8_t *data, size_t len);
/* Appends it as UTF-8, U+FFFD for what is no character. */
void rv_utf8_put(struct rv_buf *out, const uint8_t *data, size_t len);

#endif
