/* Private: between the plain structs of the API and the protobuf messages in the file. */
#ifndef RV_TRACE_MESSAGE_H
#define RV_TRACE_MESSAGE_H

#include "trace-format/chunk.h"
#include "trace-format/header.h"
#include "trace-format/index.h"
#include "vmm/base/buf.h"

/* A decoded header or summary with everything its pointers need. Zero-initialise; release. */
struct rv_header_msg {
    struct rv_trace_header header;
    void *message; /* strings live here */
};
struct rv_summary_msg {
    struct rv_trace_summary summary;
    uint64_t counts[RV_TRACE_MAX_KINDS];
    void *message;
};
struct rv_batch {
    uint64_t complete_position;
    uint64_t complete_time;
    uint64_t first_time;
    struct rv_cursor events;
    void *message; /* a decoded batch's event bytes live here */
};

int rv_header_put(struct rv_buf *out, const struct rv_trace_header *h, struct rv_err *err);
void rv_summary_put(struct rv_buf *out, const struct rv_trace_summary *s);
void rv_batch_put(struct rv_buf *out, const struct rv_batch *b);
void rv_index_put(struct rv_buf *out, const struct rv_index *index, size_t first, size_t count,
                  size_t first_blob, size_t blob_count);

/* Each returns NULL, or what is wrong with the bytes. */
const char *rv_header_get(struct rv_header_msg *m, const uint8_t *data, size_t len);
const char *rv_summary_get(struct rv_summary_msg *m, const uint8_t *data, size_t len);
const char *rv_batch_get(struct rv_batch *b, const uint8_t *data, size_t len);
/* Appends the message's rows to index, which must end where they begin. */
const char *rv_index_get(struct rv_index *index, const uint8_t *data, size_t len);

void rv_header_msg_release(struct rv_header_msg *m);
void rv_summary_msg_release(struct rv_summary_msg *m);
void rv_batch_release(struct rv_batch *b);

#endif
