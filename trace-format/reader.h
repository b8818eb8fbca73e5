/* Reads a trace, sealed or not, whole or damaged. A trace is hostile input: nothing in it is
 * believed before it was checked, and nothing is allocated on its word beyond the limits of the
 * format.
 *
 * A reader does not change after it was opened, so several threads may use one; each takes its own
 * cursor. The file is read by pread as needed and never loaded whole. What a reader keeps in memory
 * is 40 bytes a chunk.
 *
 * Damage: an error of class RV_E_FORMAT names the file, the chunk, its offset and what is wrong.
 * Opening succeeds as long as the header is whole; events before the damage can be read, and the
 * cursor returns the error where the history can no longer be followed. It never skips. */
#ifndef RV_TRACE_READER_H
#define RV_TRACE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace-format/event.h"
#include "trace-format/hash.h"
#include "trace-format/header.h"
#include "trace-format/limits.h"
#include "vmm/base/buf.h"
#include "vmm/base/err.h"

struct rv_trace_reader;
struct rv_trace_cursor;

/* Opens for reading. RV_E_HOST: no such file; RV_E_FORMAT: no trace, or its header is damaged;
 * RV_E_UNSUPPORTED: written by a newer version. */
int rv_trace_reader_open(struct rv_trace_reader **out, const char *path, struct rv_err *err);
/* As open on a descriptor, which is duplicated; name is for messages. */
int rv_trace_reader_open_fd(struct rv_trace_reader **out, int fd, const char *name,
                            struct rv_err *err);
void rv_trace_reader_free(struct rv_trace_reader *r); /* NULL is fine; free cursors first */

const char *rv_trace_reader_name(const struct rv_trace_reader *r);
const struct rv_trace_header *rv_trace_reader_header(const struct rv_trace_reader *r);

/* What state the file is in. */
struct rv_trace_state {
    bool sealed;    /* ends with a trailer: the recorder finished its work */
    bool has_index; /* the index was read rather than rebuilt by scanning */
    bool whole;     /* no damage to events or summary is known (payloads are checked when read) */
    uint64_t position;   /* everything before this position is in the trace */
    uint64_t time;       /* guest time at that position */
    uint64_t events;     /* in the trace, as far as it can be followed */
    uint64_t chunks;     /* likewise */
    uint64_t size;       /* of the file, bytes */
    uint64_t torn_bytes; /* at the end, of a chunk that was being written when the recorder died */
    const char *damage;  /* one line about damage met when opening, or NULL */
};
void rv_trace_reader_state(const struct rv_trace_reader *r, struct rv_trace_state *state);

/* The summary, or NULL when the trace has none. */
const struct rv_trace_summary *rv_trace_reader_summary(const struct rv_trace_reader *r);

/* A cursor stands before the first event. */
struct rv_trace_cursor *rv_trace_cursor_new(const struct rv_trace_reader *r);
void rv_trace_cursor_free(struct rv_trace_cursor *c); /* NULL is fine */

/* The next event; next also passes over it. *ev, and the data it points to, stays valid until the
 * next call on this cursor. RV_E_END after the last, which is no failure and leaves *err alone. */
int rv_trace_cursor_peek(struct rv_trace_cursor *c, const struct rv_trace_event **ev,
                         struct rv_err *err);
int rv_trace_cursor_next(struct rv_trace_cursor *c, const struct rv_trace_event **ev,
                         struct rv_err *err);

/* Goes to the first event at or after position; to the end when there is none. */
int rv_trace_cursor_seek(struct rv_trace_cursor *c, uint64_t position, struct rv_err *err);
/* Goes to the event with this number, counting from 0: what rv_trace_cursor_ordinal said there. */
int rv_trace_cursor_seek_ordinal(struct rv_trace_cursor *c, uint64_t ordinal, struct rv_err *err);
/* The number of the event that next would return. */
uint64_t rv_trace_cursor_ordinal(const struct rv_trace_cursor *c);

/* Blobs. RV_E_USAGE when the trace has no such blob. Content is checked against its hash before
 * fetch returns 0; read hands pieces to fn as they come and checks at the end, so what fn was given
 * counts only when read returns 0. fn returns 0 to go on, anything else to stop, which read
 * returns. */
bool rv_trace_reader_blob_size(const struct rv_trace_reader *r, const struct rv_trace_hash *hash,
                               uint64_t *size);
int rv_trace_reader_blob_fetch(const struct rv_trace_reader *r, const struct rv_trace_hash *hash,
                               void *buf, size_t size, struct rv_err *err);
typedef int (*rv_trace_blob_fn)(void *ctx, const void *data, size_t len);
int rv_trace_reader_blob_read(const struct rv_trace_reader *r, const struct rv_trace_hash *hash,
                              rv_trace_blob_fn fn, void *ctx, struct rv_err *err);

/* The distinct blobs, ordered by hash. */
size_t rv_trace_reader_blob_count(const struct rv_trace_reader *r);
void rv_trace_reader_blob_at(const struct rv_trace_reader *r, size_t i, struct rv_trace_hash *hash,
                             uint64_t *size);

struct rv_trace_chunk_info {
    uint16_t type;
    const char *type_name; /* "other" for a type this version does not know */
    uint64_t offset;
    uint64_t size;        /* in the file, with its header */
    uint64_t first, last; /* events: range of positions */
    uint32_t count;       /* events: how many */
};
/* i is below rv_trace_state.chunks. */
void rv_trace_reader_chunk_at(const struct rv_trace_reader *r, size_t i,
                              struct rv_trace_chunk_info *info);
/* The payload of chunk i, checked and decompressed; out is replaced. */
int rv_trace_reader_chunk_read(const struct rv_trace_reader *r, size_t i, struct rv_buf *out,
                               struct rv_err *err);

struct rv_trace_stats {
    uint64_t events[RV_TRACE_MAX_KINDS];           /* by kind */
    uint64_t data_bytes[RV_TRACE_MAX_KINDS];       /* bytes they carry, by kind */
    uint64_t event_bytes, blob_bytes, other_bytes; /* of the file, by type of chunk */
};
/* Walks all events. On damage the statistics cover what is before it. */
int rv_trace_reader_stats(const struct rv_trace_reader *r, struct rv_trace_stats *stats,
                          struct rv_err *err);

#endif
