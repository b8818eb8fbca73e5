/* Private: protobuf-c with a bound on what one message may allocate. A decoded message outgrows its
 * bytes (an empty sub-message of two bytes becomes a struct), so the bytes' own limit is not
 * enough. */
#ifndef RV_TRACE_PROTO_H
#define RV_TRACE_PROTO_H

#include <protobuf-c/protobuf-c.h>

#include "vmm/base/buf.h"

#include "retro.pb-c.h"

/* NULL when the bytes are no such message or ask for too much memory. */
void *rv_proto_decode(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len);
void rv_proto_release(void *message); /* NULL is fine */
void rv_proto_encode(struct rv_buf *out, const ProtobufCMessage *m);

#endif
