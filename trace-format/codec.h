/* Private: how one event becomes a few bytes. A record is
 *
 *   tag       1 byte: bits 0-2 kind (0: kind follows), 3 source, 4 time, 5 value, 6 value2, 7 data
 *   kind      varint, only when bits 0-2 are 0
 *   position  varint, less the position of the event before
 *   source    varint, when it differs from the event before
 *   time      zigzag varint: change of (time - position * rate), when there is one
 *   value     varint, when not 0
 *   value2    8 bytes little endian, when not 0: it is a hash wherever it is used
 *   data      varint length, then the bytes, when not empty
 *
 * Guest time follows the position at a fixed rate on software engines except for jumps, so the time
 * field is nearly always absent. */
#ifndef RV_TRACE_CODEC_H
#define RV_TRACE_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "trace-format/event.h"
#include "vmm/base/buf.h"

/* What the record before left behind. Both sides start a chunk with rv_codec_init. */
struct rv_codec {
    uint64_t rate;     /* 32.32 nanoseconds per instruction, from the trace's header */
    uint64_t position; /* of the event before */
    uint64_t drift;    /* its time less the time its position predicts, modulo 2^64 */
    uint32_t source;
};

void rv_codec_init(struct rv_codec *c, uint64_t rate, uint64_t first_position, uint64_t first_time);
void rv_codec_put(struct rv_codec *c, struct rv_buf *out, const struct rv_trace_event *ev);

/* Decodes one record; ev->data points into the cursor's bytes. Returns NULL, or what is wrong. */
const char *rv_codec_get(struct rv_codec *c, struct rv_cursor *in, struct rv_trace_event *ev);

void rv_put_varint(struct rv_buf *out, uint64_t v);
/* 0 and in->bad set when the bytes run out or exceed 64 bits. */
uint64_t rv_get_varint(struct rv_cursor *in);

#endif
