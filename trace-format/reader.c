#include "trace-format/reader_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int rv_reader_pread(const struct rv_trace_reader *r, uint64_t offset, void *buf, size_t len,
                    struct rv_err *err) {
    uint8_t *p = buf;
    while (len) {
        ssize_t n = pread(r->fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return rv_fail_errno(err, RV_E_HOST, "cannot read %s at offset %llu", r->name,
                                 (unsigned long long)offset);
        if (n == 0)
            return rv_fail(err, RV_E_FORMAT, "%s became shorter while it was read", r->name);
        p += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int rv_reader_damaged(const struct rv_trace_reader *r, uint64_t offset, uint64_t chunk,
                      const char *what, struct rv_err *err) {
    return rv_fail(err, RV_E_FORMAT,
                   "%.200s: chunk %llu at offset %llu: %s; `retro salvage` keeps what is before it",
                   r->name, (unsigned long long)chunk, (unsigned long long)offset, what);
}

int rv_reader_load_at(const struct rv_trace_reader *r, uint64_t offset, uint64_t limit,
                      struct rv_chunk *c, struct rv_buf *raw, const char **what,
                      struct rv_err *err) {
    uint8_t header[RV_CHUNK_HEADER_SIZE];
    *what = "the chunk is cut short";
    if (offset > limit || limit - offset < sizeof header) return RV_E_FORMAT;
    *what = NULL;
    int rc = rv_reader_pread(r, offset, header, sizeof header, err);
    if (rc) return rc;
    *what = rv_chunk_header_get(header, r->salt, c);
    if (*what) return RV_E_FORMAT;
    if (c->stored_len > limit - offset - sizeof header) {
        *what = "the chunk is cut short";
        return RV_E_FORMAT;
    }
    struct rv_buf stored = {0};
    rv_buf_grow(&stored, c->stored_len);
    rc = rv_reader_pread(r, offset + sizeof header, stored.data, c->stored_len, err);
    if (!rc && !rv_chunk_payload_ok(header, r->salt, stored.data, c->stored_len)) {
        *what = "the checksum does not match the content";
        rc = RV_E_FORMAT;
    }
    if (!rc) {
        *what = rv_chunk_unpack(c, stored.data, raw);
        if (*what) rc = RV_E_FORMAT;
    }
    rv_buf_release(&stored);
    return rc;
}

int rv_reader_load(const struct rv_trace_reader *r, size_t i, struct rv_chunk *c,
                   struct rv_buf *raw, struct rv_err *err) {
    const struct rv_index_chunk *row = &r->index.chunks[i];
    uint64_t end = rv_index_chunk_end(&r->index, i);
    const char *what;
    int rc = rv_reader_load_at(r, row->offset, end, c, raw, &what, err);
    if (rc && what) return rv_reader_damaged(r, row->offset, i, what, err);
    if (rc) return rc;
    bool same = c->sequence == i && c->type == row->type && c->flags == row->flags &&
                c->count == row->count && row->offset + RV_CHUNK_HEADER_SIZE + c->stored_len == end;
    if (same && c->type == RV_CHUNK_EVENTS)
        same = rv_chunk_first(c) == row->first && rv_chunk_last(c) == row->last;
    if (!same)
        return rv_reader_damaged(r, row->offset, i, "this is not the chunk the index describes",
                                 err);
    return 0;
}

static int read_preamble(struct rv_trace_reader *r, struct rv_err *err) {
    uint8_t bytes[RV_PREAMBLE_SIZE];
    if (r->size < sizeof bytes)
        return rv_fail(err, RV_E_FORMAT, "%s is too short to be a Retrovisor trace", r->name);
    int rc = rv_reader_pread(r, 0, bytes, sizeof bytes, err);
    if (rc) return rc;
    uint32_t version = 0;
    const char *bad = rv_preamble_get(bytes, &r->salt, &version);
    if (bad) return rv_fail(err, RV_E_FORMAT, "%s: %s", r->name, bad);
    if (version > RV_TRACE_FORMAT_VERSION)
        return rv_fail(err, RV_E_UNSUPPORTED,
                       "%s was written by a newer Retrovisor (format %u; this one reads up to %u)",
                       r->name, version, RV_TRACE_FORMAT_VERSION);
    if (version == 0) return rv_fail(err, RV_E_FORMAT, "%s: there is no format 0", r->name);
    return 0;
}

/* The header is all that must be whole. */
static int read_header(struct rv_trace_reader *r, struct rv_err *err) {
    struct rv_chunk c;
    struct rv_buf raw = {0};
    const char *what;
    int rc = rv_reader_load_at(r, RV_PREAMBLE_SIZE, r->size, &c, &raw, &what, err);
    if (!rc && c.type != RV_CHUNK_HEADER) what = "the file does not start with a header";
    if (!rc && !what) what = rv_header_get(&r->header, raw.data, raw.len);
    rv_buf_release(&raw);
    if (what)
        return rv_fail(err, RV_E_FORMAT,
                       "%s: the header at offset %u: %s; nothing can be read without the header",
                       r->name, RV_PREAMBLE_SIZE, what);
    return rc;
}

static bool read_trailer(const struct rv_trace_reader *r, struct rv_trailer *t) {
    uint8_t bytes[RV_TRAILER_SIZE];
    if (r->size < RV_PREAMBLE_SIZE + RV_CHUNK_HEADER_SIZE + sizeof bytes) return false;
    if (rv_reader_pread(r, r->size - sizeof bytes, bytes, sizeof bytes, NULL)) return false;
    return rv_trailer_get(bytes, r->salt, t) && t->file_size == r->size;
}

/* Takes the table from the index chunks. Returns NULL, or what is wrong with them. */
static const char *read_index(struct rv_trace_reader *r, const struct rv_trailer *t, int *rc,
                              struct rv_err *err) {
    struct rv_index *x = &r->index;
    struct rv_buf raw = {0};
    uint64_t limit = r->size - RV_TRAILER_SIZE;
    const char *bad = NULL;
    rv_index_init(x, RV_PREAMBLE_SIZE);
    struct {
        uint32_t sequence, stored_len;
        uint16_t flags;
    } *parts = NULL;
    size_t count = 0;
    for (uint64_t at = t->index_offset; at != limit && !bad;) {
        struct rv_chunk c;
        *rc = rv_reader_load_at(r, at, limit, &c, &raw, &bad, err);
        if (*rc && !bad) break;
        if (!bad && c.type != RV_CHUNK_INDEX) bad = "the trailer does not point to an index";
        if (!bad) bad = rv_index_get(x, raw.data, raw.len);
        /* At once, so that rows which compress well cannot make the table outgrow the file. */
        if (!bad && x->end > t->index_offset) bad = "the index lists more than the file has";
        if (bad) break;
        parts = rv_realloc(parts, (count + 1) * sizeof *parts);
        parts[count].sequence = c.sequence;
        parts[count].stored_len = c.stored_len;
        parts[count++].flags = c.flags;
        at += RV_CHUNK_HEADER_SIZE + c.stored_len;
    }
    if (!bad && !*rc && (x->end != t->index_offset || !x->has_summary))
        bad = "the index does not cover the file";
    for (size_t i = 0; i < count && !bad && !*rc; i++) {
        struct rv_chunk c = {.type = RV_CHUNK_INDEX,
                             .flags = parts[i].flags,
                             .sequence = parts[i].sequence,
                             .stored_len = parts[i].stored_len};
        bad = rv_index_add(x, &c);
    }
    if (!bad && !*rc && x->count != t->chunks) bad = "the trailer counts other chunks";
    free(parts);
    rv_buf_release(&raw);
    if (bad || *rc) rv_index_release(x);
    if (bad) *rc = 0;
    return bad;
}

static int newer_chunk(const struct rv_trace_reader *r, uint16_t type, uint64_t offset,
                       struct rv_err *err) {
    return rv_fail(err, RV_E_UNSUPPORTED,
                   "%.200s was written by a newer Retrovisor: the chunk at offset %llu has type "
                   "%u, which this version does not know and must not pass over",
                   r->name, (unsigned long long)offset, type);
}

static int build_by_scan(struct rv_trace_reader *r, struct rv_err *err) {
    struct rv_scan scan;
    int rc =
        rv_reader_scan(r, &r->index, r->sealed ? r->size - RV_TRAILER_SIZE : r->size, &scan, err);
    if (rc) return rc;
    if (scan.end == RV_SCAN_NEWER) return newer_chunk(r, scan.type, scan.offset, err);
    struct rv_err damage = {0};
    if (scan.end == RV_SCAN_TRAILER)
        rv_fail(&damage, RV_E_FORMAT, "%.200s: bytes follow the trailer at offset %llu", r->name,
                (unsigned long long)scan.offset);
    else if (scan.end == RV_SCAN_DAMAGE || (scan.end == RV_SCAN_TORN && r->sealed))
        rv_reader_damaged(r, scan.offset, r->index.count,
                          scan.what ? scan.what : "the chunk is cut short", &damage);
    else if (scan.end == RV_SCAN_TORN)
        r->torn_bytes = r->size - scan.offset;
    else if (r->sealed && !r->index.has_summary)
        rv_reader_damaged(r, scan.offset, r->index.count, "the summary is missing", &damage);
    if (damage.code && !r->damage.code) r->damage = damage;
    if (damage.code && !r->index.has_summary) {
        r->damage = damage; /* what ends the history comes before a lost index */
        r->cut = r->hurt = true;
    }
    return 0;
}

/* Sets how far the history goes, from the summary or else from the last flush. */
static int find_end(struct rv_trace_reader *r, struct rv_err *err) {
    struct rv_buf raw = {0};
    int rc = 0;
    for (size_t i = r->index.count; i-- > 1 && !rc;) {
        const struct rv_index_chunk *row = &r->index.chunks[i];
        if (row->type != RV_CHUNK_SUMMARY && row->type != RV_CHUNK_EVENTS) continue;
        struct rv_chunk c;
        struct rv_err local = {0};
        const char *what = NULL;
        rc = rv_reader_load(r, i, &c, &raw, &local);
        if (!rc && row->type == RV_CHUNK_SUMMARY) {
            what = rv_summary_get(&r->summary, raw.data, raw.len);
            if (!what && r->summary.summary.position < r->index.position) {
                rv_summary_msg_release(&r->summary);
                what = "the summary ends before the last event";
            }
            if (!what) {
                r->have_summary = true;
                r->position = r->summary.summary.position;
                r->time = r->summary.summary.time;
                break;
            }
        } else if (!rc) {
            struct rv_batch batch;
            what = rv_batch_get(&batch, raw.data, raw.len);
            if (!what) {
                r->position = batch.complete_position;
                r->time = batch.complete_time;
                rv_batch_release(&batch);
                break;
            }
        }
        if (what) rc = rv_reader_damaged(r, row->offset, i, what, &local);
        if (rc == RV_E_FORMAT) {
            if (!r->damage.code) r->damage = local;
            r->hurt = true;
            rc = 0;
        } else if (rc && err) {
            *err = local;
        }
    }
    rv_buf_release(&raw);
    return rc;
}

static int load(struct rv_trace_reader *r, struct rv_err *err) {
    int rc = read_preamble(r, err);
    if (!rc) rc = read_header(r, err);
    if (rc) return rc;
    struct rv_trailer *t = &r->trailer;
    r->sealed = read_trailer(r, t);
    if (r->sealed && t->index_offset) {
        const char *bad = read_index(r, t, &rc, err);
        if (rc) return rc;
        r->has_index = !bad;
        if (bad)
            rv_fail(&r->damage, RV_E_FORMAT,
                    "%.200s: the index at offset %llu: %s; it was rebuilt, the events are not "
                    "concerned",
                    r->name, (unsigned long long)t->index_offset, bad);
    }
    if (!r->has_index) rc = build_by_scan(r, err);
    if (rc) return rc;
    rv_index_sort_blobs(&r->index);
    return find_end(r, err);
}

int rv_trace_reader_open_fd(struct rv_trace_reader **out, int fd, const char *name,
                            struct rv_err *err) {
    *out = NULL;
    struct stat st;
    if (fstat(fd, &st) < 0) return rv_fail_errno(err, RV_E_HOST, "cannot read %s", name);
    if (!S_ISREG(st.st_mode))
        return rv_fail(err, RV_E_FORMAT, "%s is not a regular file; a trace is one", name);
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return rv_fail_errno(err, RV_E_HOST, "cannot read %s", name);
    struct rv_trace_reader *r = rv_alloc(sizeof *r);
    r->fd = own;
    r->name = rv_strdup(name);
    r->size = (uint64_t)st.st_size;
    int rc = load(r, err);
    if (rc) {
        rv_trace_reader_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

int rv_trace_reader_open(struct rv_trace_reader **out, const char *path, struct rv_err *err) {
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return rv_fail_errno(err, RV_E_HOST, "cannot open %s", path);
    int rc = rv_trace_reader_open_fd(out, fd, path, err);
    close(fd);
    return rc;
}

void rv_trace_reader_free(struct rv_trace_reader *r) {
    if (!r) return;
    close(r->fd);
    rv_index_release(&r->index);
    rv_header_msg_release(&r->header);
    rv_summary_msg_release(&r->summary);
    free(r->name);
    free(r);
}

const char *rv_trace_reader_name(const struct rv_trace_reader *r) { return r->name; }

const struct rv_trace_header *rv_trace_reader_header(const struct rv_trace_reader *r) {
    return &r->header.header;
}

const struct rv_trace_summary *rv_trace_reader_summary(const struct rv_trace_reader *r) {
    return r->have_summary ? &r->summary.summary : NULL;
}

void rv_trace_reader_state(const struct rv_trace_reader *r, struct rv_trace_state *state) {
    *state = (struct rv_trace_state){
        .sealed = r->sealed,
        .has_index = r->has_index,
        .whole = !r->hurt,
        .position = r->position,
        .time = r->time,
        .events = r->index.events,
        .chunks = r->index.count,
        .size = r->size,
        .torn_bytes = r->torn_bytes,
        .damage = r->damage.code ? r->damage.msg : NULL,
    };
}

void rv_trace_reader_chunk_at(const struct rv_trace_reader *r, size_t i,
                              struct rv_trace_chunk_info *info) {
    const struct rv_index_chunk *row = &r->index.chunks[i];
    const char *name = rv_chunk_type_name(row->type);
    bool events = row->type == RV_CHUNK_EVENTS;
    *info = (struct rv_trace_chunk_info){
        .type = row->type,
        .type_name = name ? name : "other",
        .offset = row->offset,
        .size = rv_index_chunk_end(&r->index, i) - row->offset,
        .first = row->first,
        .last = row->last,
        .count = events ? row->count : 0,
    };
}

int rv_trace_reader_chunk_read(const struct rv_trace_reader *r, size_t i, struct rv_buf *out,
                               struct rv_err *err) {
    if (i >= r->index.count) return rv_fail(err, RV_E_USAGE, "%s has no chunk %zu", r->name, i);
    struct rv_chunk c;
    return rv_reader_load(r, i, &c, out, err);
}

int rv_trace_reader_stats(const struct rv_trace_reader *r, struct rv_trace_stats *stats,
                          struct rv_err *err) {
    *stats = (struct rv_trace_stats){0};
    for (size_t i = 0; i < r->index.count; i++) {
        uint64_t size = rv_index_chunk_end(&r->index, i) - r->index.chunks[i].offset;
        switch (r->index.chunks[i].type) {
        case RV_CHUNK_EVENTS: stats->event_bytes += size; break;
        case RV_CHUNK_BLOB: stats->blob_bytes += size; break;
        default: stats->other_bytes += size; break;
        }
    }
    struct rv_trace_cursor *c = rv_trace_cursor_new(r);
    const struct rv_trace_event *ev;
    int rc;
    while ((rc = rv_trace_cursor_next(c, &ev, err)) == 0) {
        stats->events[ev->kind]++;
        stats->data_bytes[ev->kind] += ev->len;
    }
    rv_trace_cursor_free(c);
    return rc == RV_E_END ? 0 : rc;
}
