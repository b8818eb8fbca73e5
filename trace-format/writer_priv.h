/* Private: what salvage needs of the writer to copy blobs of any size a part at a time. */
#ifndef RV_TRACE_WRITER_PRIV_H
#define RV_TRACE_WRITER_PRIV_H

#include <stdbool.h>

#include "trace-format/writer.h"

bool rv_trace_writer_has_blob(const struct rv_trace_writer *w, const struct rv_trace_hash *hash);
/* The caller answers for the order of the parts and for the hash. */
int rv_trace_writer_put_part(struct rv_trace_writer *w, const struct rv_trace_hash *hash,
                             uint32_t part, bool last, const void *data, size_t len,
                             struct rv_err *err);

#endif
