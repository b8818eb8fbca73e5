/* Private: what the parts of the reader share. */
#ifndef RV_TRACE_READER_PRIV_H
#define RV_TRACE_READER_PRIV_H

#include "trace-format/message.h"
#include "trace-format/reader.h"

struct rv_trace_reader {
    int fd;
    char *name;
    uint64_t size; /* when opened; what is appended later is not seen */
    uint64_t salt;
    struct rv_index index;
    struct rv_header_msg header;
    struct rv_summary_msg summary;
    bool have_summary;
    bool sealed;
    bool has_index;
    bool hurt;            /* an event chunk or the summary is known to be damaged */
    bool cut;             /* the history cannot be followed past the last chunk of the table */
    struct rv_err damage; /* the first met when opening; code 0 when there is none */
    uint64_t torn_bytes;
    struct rv_trailer trailer; /* when sealed */
    uint64_t position, time;
};

/* Reads exactly len bytes; RV_E_FORMAT when the file is shorter than it was. */
int rv_reader_pread(const struct rv_trace_reader *r, uint64_t offset, void *buf, size_t len,
                    struct rv_err *err);

/* Fills *err with a message about damage at a place: "<name>: chunk <n> at offset <o>: <what>; ..."
 */
int rv_reader_damaged(const struct rv_trace_reader *r, uint64_t offset, uint64_t chunk,
                      const char *what, struct rv_err *err);

/* Reads, checks and unpacks the chunk at offset. *what is set to the damage when there is any (and
 * RV_E_FORMAT returned, *err untouched); NULL for other errors. limit is where the chunks end. */
int rv_reader_load_at(const struct rv_trace_reader *r, uint64_t offset, uint64_t limit,
                      struct rv_chunk *c, struct rv_buf *raw, const char **what,
                      struct rv_err *err);

/* Loads chunk i of the table, which must be what the table says. Fills *err for damage as well. */
int rv_reader_load(const struct rv_trace_reader *r, size_t i, struct rv_chunk *c,
                   struct rv_buf *raw, struct rv_err *err);

/* How a scan over the chunk headers ended. */
enum rv_scan_end {
    RV_SCAN_END,     /* at a chunk's end, where the file or its chunks end */
    RV_SCAN_TORN,    /* in a chunk or trailer that was not written to its end */
    RV_SCAN_TRAILER, /* at a trailer that is not at the file's end */
    RV_SCAN_DAMAGE,  /* at something that is no chunk, or not the one that belongs there */
    RV_SCAN_NEWER,   /* at a chunk that must be understood and is not */
};
struct rv_scan {
    enum rv_scan_end end;
    uint64_t offset;  /* where it ended */
    const char *what; /* damage: which */
    uint16_t type;    /* newer: the chunk's type */
};

/* Builds index from the chunk headers up to limit. Payloads are not read. Fails only when the file
 * cannot be read. */
int rv_reader_scan(const struct rv_trace_reader *r, struct rv_index *index, uint64_t limit,
                   struct rv_scan *scan, struct rv_err *err);

/* What is at offset, below limit: a chunk (RV_SCAN_END), or something else. */
int rv_reader_look_at(const struct rv_trace_reader *r, uint64_t offset, uint64_t limit,
                      struct rv_scan *scan, struct rv_err *err);

/* Looks for the next whole chunk header at or after offset. RV_E_END when there is none. */
int rv_reader_resync(const struct rv_trace_reader *r, uint64_t offset, uint64_t limit,
                     uint64_t *found, struct rv_chunk *c, struct rv_err *err);

#endif
