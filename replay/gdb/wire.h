/* The framing of gdb's remote protocol: bytes to packets and back. Knows nothing of what packets
 * mean and does no I/O. What comes in is not trusted. (gdb manual, "Remote Protocol", Overview.) */
#ifndef RV_REPLAY_GDB_WIRE_H
#define RV_REPLAY_GDB_WIRE_H

#include "vmm/base/buf.h"
#include "vmm/base/types.h"

/* Longest packet, without framing; announced to the client. */
#define RV_GDB_PACKET_MAX 0x20000u

enum rv_gdb_item {
    RV_GDB_NOTHING,   /* more bytes are needed */
    RV_GDB_PACKET,    /* packet holds it, unescaped, with a 0 behind it */
    RV_GDB_INTERRUPT, /* the client asks to stop (0x03) */
    RV_GDB_DAMAGED,   /* a packet with a wrong checksum, or too long: passed over */
    RV_GDB_NAK,       /* the client asks for the last packet again */
};

struct rv_gdb_wire {
    struct rv_buf in;     /* bytes not yet looked at */
    size_t at;            /* in `in` */
    struct rv_buf packet; /* the last one */
    bool checked;         /* checksums count, and are answered: until QStartNoAckMode */
};

void rv_gdb_wire_init(struct rv_gdb_wire *w);
void rv_gdb_wire_release(struct rv_gdb_wire *w);
/* Takes bytes that came; false when the client sends far more than a packet holds. */
bool rv_gdb_wire_feed(struct rv_gdb_wire *w, const void *data, size_t n);
enum rv_gdb_item rv_gdb_wire_next(struct rv_gdb_wire *w);
/* Takes an interrupt out of the bytes that wait, if one is there between packets. */
bool rv_gdb_wire_interrupted(struct rv_gdb_wire *w);

/* Appends a packet that carries data. */
void rv_gdb_frame(struct rv_buf *out, const void *data, size_t n);

/* ---- contents ---- */

void rv_gdb_put_hex(struct rv_buf *out, const void *data, size_t n);
/* Two digits a byte; false when there are not n of them. *p moves on. */
bool rv_gdb_get_hex(const char **p, void *out, size_t n);
/* A number in hexadecimal, as long as there are digits; false when there is none or it is too
 * large. */
bool rv_gdb_get_number(const char **p, uint64_t *v);
/* True, and *p behind it, when the text goes on so. */
bool rv_gdb_skip(const char **p, const char *prefix);
/* Appends data with the characters escaped that binary replies must not hold. */
void rv_gdb_put_binary(struct rv_buf *out, const void *data, size_t n);

#endif
