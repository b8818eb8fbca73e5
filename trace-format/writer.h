/* Writes a trace. The file is only ever appended to, a whole chunk at a time, so that a recorder
 * that dies leaves a trace which is whole up to its last chunk and is recognised as unsealed.
 *
 *     rv_trace_writer_new(&w, "boot.retro", &options, &header, &err)
 *     rv_trace_writer_add_blob(w, kernel, kernel_size, &hash, &err)
 *     rv_trace_writer_append(w, &event, &err)                          ... again and again
 *     rv_trace_writer_flush(w, position, time, &err)                   ... now and then
 *     rv_trace_writer_seal(w, &summary, &err)
 *     rv_trace_writer_free(w)
 *
 * Not for use by several threads at once. Every function that returns int returns 0 or a negative
 * enum rv_code and fills *err.
 *
 * After a failed write (full disk, I/O error) the file is cut back to its last whole chunk. The
 * call that met the failure reports it; later append, add and flush calls return the same code and
 * message without trying again, since a gap in the history would make what follows useless. Seal
 * still tries, with the history that is in the file. */
#ifndef RV_TRACE_WRITER_H
#define RV_TRACE_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "trace-format/event.h"
#include "trace-format/hash.h"
#include "trace-format/header.h"
#include "vmm/base/err.h"

struct rv_trace_writer;

enum rv_trace_writer_flags {
    RV_TRACE_OVERWRITE = 1 << 0, /* replace an existing file; without it that is an error */
    RV_TRACE_SYNC = 1 << 1,      /* flush and seal wait until the data is on stable storage */
};

struct rv_trace_writer_options {
    unsigned flags;   /* enum rv_trace_writer_flags */
    uint32_t reserve; /* bytes kept allocated beyond the end so that sealing works on a full disk;
                         0: none. Ignored where the file system cannot. 8192 is a good value. */
};

struct rv_trace_writer_stats {
    uint64_t bytes;      /* in the file so far */
    uint64_t blob_bytes; /* of these, blob chunks */
    uint64_t blobs;      /* distinct */
    uint64_t events;     /* appended, also those not yet in the file */
    uint64_t chunks;
};

/* Creates the file and writes the header. options may be NULL: exclusive, no reserve. The header is
 * copied. On failure nothing is left behind (an overwritten file is lost). */
int rv_trace_writer_new(struct rv_trace_writer **out, const char *path,
                        const struct rv_trace_writer_options *options,
                        const struct rv_trace_header *header, struct rv_err *err);

/* Adds content unless the trace has it already; *hash names it from then on. Events appended before
 * are not flushed by this. */
int rv_trace_writer_add_blob(struct rv_trace_writer *w, const void *data, size_t len,
                             struct rv_trace_hash *hash, struct rv_err *err);

/* As add_blob for the whole content of a regular file, read twice by pread in bounded pieces. size
 * may be NULL. Fails with RV_E_HOST when the file changes meanwhile. */
int rv_trace_writer_add_blob_fd(struct rv_trace_writer *w, int fd, struct rv_trace_hash *hash,
                                uint64_t *size, struct rv_err *err);

/* Appends one event; its data is copied. Its position must not be less than that of the event
 * before or than the last flush's. Kept in memory until a chunk is full or flush is called. */
int rv_trace_writer_append(struct rv_trace_writer *w, const struct rv_trace_event *ev,
                           struct rv_err *err);

/* Writes what is pending and states that the trace now holds everything that happened before
 * position (at guest time `time`). position must not be less than any event's. A flush that has
 * nothing new to say writes nothing. */
int rv_trace_writer_flush(struct rv_trace_writer *w, uint64_t position, uint64_t time,
                          struct rv_err *err);

/* Adds a chunk of a type that readers may pass over: derived data. type is 0x8000 or above, len at
 * most RV_TRACE_MAX_RAW. */
int rv_trace_writer_add_chunk(struct rv_trace_writer *w, uint16_t type, const void *data,
                              size_t len, struct rv_err *err);

/* Flushes up to the summary's position and writes summary, index and trailer. The fields of the
 * summary that say so are set by the writer. After a failed write it seals what the file holds:
 * position and time become those of the last whole chunk, lost_tail is set. Nothing may be added
 * afterwards. When sealing fails, a valid unsealed file is left. */
int rv_trace_writer_seal(struct rv_trace_writer *w, const struct rv_trace_summary *summary,
                         struct rv_err *err);

/* Everything before *position is in the file, as of the last whole chunk. */
void rv_trace_writer_complete(const struct rv_trace_writer *w, uint64_t *position, uint64_t *time);
void rv_trace_writer_stats(const struct rv_trace_writer *w, struct rv_trace_writer_stats *stats);

/* Closes the file. What is pending and not flushed is dropped. NULL is fine. */
void rv_trace_writer_free(struct rv_trace_writer *w);

#endif
