#include "trace-format/proto.h"

#include <stdlib.h>

#define DECODE_BUDGET ((size_t)64 << 20)

static void *budget_alloc(void *data, size_t n) {
    size_t *left = data;
    if (n > *left) return NULL;
    *left -= n;
    return malloc(n ? n : 1);
}

static void budget_free(void *data, void *p) {
    (void)data;
    free(p);
}

void *rv_proto_decode(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len) {
    size_t left = DECODE_BUDGET;
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &left};
    return protobuf_c_message_unpack(type, &allocator, len, data);
}

void rv_proto_release(void *message) {
    ProtobufCAllocator allocator = {budget_alloc, budget_free, NULL};
    if (message) protobuf_c_message_free_unpacked(message, &allocator);
}

void rv_proto_encode(struct rv_buf *out, const ProtobufCMessage *m) {
    size_t n = protobuf_c_message_get_packed_size(m);
    if (n) protobuf_c_message_pack(m, rv_buf_grow(out, n));
}
