#include "trace-format/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "trace-format/codec.h"
#include "trace-format/message.h"
#include "trace-format/sink.h"
#include "trace-format/writer_priv.h"

enum {
    BATCH_BYTES = 64 << 10, /* encoded events in a chunk: LZ4's window, and a seek's granularity */
    INDEX_ROWS = 32 << 10,  /* chunks listed by one index chunk; well below RV_TRACE_MAX_RAW */
    CHUNKS_FOR_SEAL = 1 << 10, /* kept free below RV_TRACE_MAX_CHUNKS */
};

/* Blobs by hash: open addressing over places in the index's blob table, each plus one. */
struct blob_set {
    uint32_t *slots;
    size_t cap; /* a power of two */
};

struct rv_trace_writer {
    struct rv_sink sink;
    uint64_t salt;
    uint64_t rate;
    bool sync;
    bool sealed;
    struct rv_err failed; /* the first failed write; code 0 as long as there is none */
    struct rv_index index;
    struct blob_set blobs;

    struct rv_codec codec;
    struct rv_buf batch; /* encoded events that are in no chunk yet */
    uint32_t batch_count;
    uint64_t batch_first, batch_first_time;
    uint64_t last_position, last_time; /* of the last event or flush */
    uint64_t complete_position, complete_time;

    uint64_t counts[RV_TRACE_MAX_KINDS];      /* appended */
    uint64_t file_counts[RV_TRACE_MAX_KINDS]; /* of these, in the file */
    uint64_t events;
    uint64_t blob_bytes;
    struct rv_buf raw, out; /* scratch */
};

static int check_usable(const struct rv_trace_writer *w, struct rv_err *err) {
    if (w->sealed) return rv_fail(err, RV_E_USAGE, "%s is sealed already", w->sink.path);
    if (!w->failed.code) return 0;
    if (err) *err = w->failed;
    return w->failed.code;
}

/* Writes one chunk. dip lets it use the reserve. */
static int emit(struct rv_trace_writer *w, struct rv_chunk *c, const void *raw, size_t len,
                bool dip, struct rv_err *err) {
    if (w->index.count >= RV_TRACE_MAX_CHUNKS - (dip ? 0 : CHUNKS_FOR_SEAL))
        return rv_fail(err, RV_E_UNSUPPORTED, "%s has as many chunks as a trace can have",
                       w->sink.path);
    c->sequence = (uint32_t)w->index.count;
    rv_buf_clear(&w->out);
    rv_chunk_put(&w->out, w->salt, c, raw, len);
    int rc = rv_sink_append(&w->sink, w->out.data, w->out.len, dip, err);
    if (rc) return rc;
    const char *broken = rv_index_add(&w->index, c);
    rv_assert(broken == NULL);
    return 0;
}

/* As emit, and remembers a failure for good. */
static int emit_history(struct rv_trace_writer *w, struct rv_chunk *c, const void *raw, size_t len,
                        struct rv_err *err) {
    struct rv_err local = {0};
    int rc = emit(w, c, raw, len, false, &local);
    if (rc) {
        rv_fail_in(&local, "the recording ends here, replayable up to position %llu",
                   (unsigned long long)w->complete_position);
        w->failed = local;
        if (err) *err = local;
    }
    return rc;
}

static uint64_t make_salt(const struct rv_trace_header *h) {
    return XXH3_64bits_withSeed(h->trace_id, sizeof h->trace_id, h->created);
}

int rv_trace_writer_new(struct rv_trace_writer **out, const char *path,
                        const struct rv_trace_writer_options *options,
                        const struct rv_trace_header *header, struct rv_err *err) {
    const struct rv_trace_writer_options defaults = {0};
    if (!options) options = &defaults;
    *out = NULL;
    struct rv_buf raw = {0};
    int rc = rv_header_put(&raw, header, err);
    if (rc) {
        rv_buf_release(&raw);
        return rc;
    }
    struct rv_trace_writer *w = rv_alloc(sizeof *w);
    w->salt = make_salt(header);
    w->rate = header->rate;
    w->sync = options->flags & RV_TRACE_SYNC;
    rc = rv_sink_open(&w->sink, path, options->flags & RV_TRACE_OVERWRITE, options->reserve, err);
    if (!rc) {
        rv_preamble_put(&w->out, w->salt);
        rc = rv_sink_append(&w->sink, w->out.data, w->out.len, false, err);
    }
    if (!rc) {
        rv_index_init(&w->index, RV_PREAMBLE_SIZE);
        struct rv_chunk c = {.type = RV_CHUNK_HEADER};
        rc = emit(w, &c, raw.data, raw.len, false, err);
    }
    rv_buf_release(&raw);
    if (rc) {
        rv_sink_close(&w->sink, true);
        rv_trace_writer_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void rv_trace_writer_free(struct rv_trace_writer *w) {
    if (!w) return;
    rv_sink_close(&w->sink, false);
    rv_index_release(&w->index);
    rv_buf_release(&w->batch);
    rv_buf_release(&w->raw);
    rv_buf_release(&w->out);
    free(w->blobs.slots);
    free(w);
}

/* Writes the batch, also when it is empty. */
static int write_batch(struct rv_trace_writer *w, uint64_t position, uint64_t time,
                       struct rv_err *err) {
    struct rv_batch b = {
        .complete_position = position,
        .complete_time = time,
        .first_time = w->batch_count ? w->batch_first_time : time,
        .events = rv_cursor_of(w->batch.data, w->batch.len),
    };
    rv_buf_clear(&w->raw);
    rv_batch_put(&w->raw, &b);
    struct rv_chunk c = {.type = RV_CHUNK_EVENTS, .count = w->batch_count};
    if (w->batch_count)
        rv_chunk_set_range(&c, w->batch_first, w->codec.position);
    else
        rv_chunk_set_range(&c, position, position);
    int rc = emit_history(w, &c, w->raw.data, w->raw.len, err);
    if (rc) return rc;
    w->complete_position = position;
    w->complete_time = time;
    w->batch_count = 0;
    rv_buf_clear(&w->batch);
    memcpy(w->file_counts, w->counts, sizeof w->file_counts);
    return 0;
}

int rv_trace_writer_append(struct rv_trace_writer *w, const struct rv_trace_event *ev,
                           struct rv_err *err) {
    int rc = check_usable(w, err);
    if (rc) return rc;
    if (ev->kind == 0 || ev->kind >= RV_TRACE_MAX_KINDS || ev->len > RV_TRACE_MAX_EVENT_DATA)
        return rv_fail(err, RV_E_USAGE, "an event of kind %u with %zu bytes does not fit a trace",
                       ev->kind, ev->len);
    if (ev->position < w->last_position)
        return rv_fail(err, RV_E_USAGE,
                       "an event at instruction %llu comes after one at %llu: order is lost",
                       (unsigned long long)ev->position, (unsigned long long)w->last_position);
    if (w->batch.len && w->batch.len + ev->len > BATCH_BYTES) {
        /* Positions never decrease, so all that happened before this event's is here. */
        rc = write_batch(w, ev->position, ev->time, err);
        if (rc) return rc;
    }
    if (!w->batch_count) {
        w->batch_first = ev->position;
        w->batch_first_time = ev->time;
        rv_codec_init(&w->codec, w->rate, ev->position, ev->time);
    }
    rv_codec_put(&w->codec, &w->batch, ev);
    w->batch_count++;
    w->counts[ev->kind]++;
    w->events++;
    w->last_position = ev->position;
    w->last_time = ev->time;
    return 0;
}

int rv_trace_writer_flush(struct rv_trace_writer *w, uint64_t position, uint64_t time,
                          struct rv_err *err) {
    int rc = check_usable(w, err);
    if (rc) return rc;
    if (position < w->last_position)
        return rv_fail(err, RV_E_USAGE,
                       "the trace cannot be complete up to instruction %llu and have an event at "
                       "%llu",
                       (unsigned long long)position, (unsigned long long)w->last_position);
    if (w->batch_count || position > w->complete_position || time != w->complete_time) {
        rc = write_batch(w, position, time, err);
        if (rc) return rc;
        w->last_position = position;
        w->last_time = time;
    }
    struct rv_err local = {0};
    if (w->sync && rv_sink_sync(&w->sink, &local)) {
        /* What the kernel could not write it may have dropped: nothing after it can be relied on.
         */
        w->failed = local;
        if (err) *err = local;
    }
    return w->failed.code;
}

static size_t slot_of(const struct blob_set *set, const struct rv_trace_hash *hash) {
    uint64_t h;
    memcpy(&h, hash->bytes, sizeof h);
    return (size_t)h & (set->cap - 1);
}

bool rv_trace_writer_has_blob(const struct rv_trace_writer *w, const struct rv_trace_hash *hash) {
    const struct blob_set *set = &w->blobs;
    if (!set->cap) return false;
    for (size_t i = slot_of(set, hash); set->slots[i]; i = (i + 1) & (set->cap - 1))
        if (rv_trace_hash_equal(&w->index.blobs[set->slots[i] - 1].hash, hash)) return true;
    return false;
}

static void insert_blob(struct rv_trace_writer *w, size_t place) {
    struct blob_set *set = &w->blobs;
    size_t i = slot_of(set, &w->index.blobs[place].hash);
    while (set->slots[i]) i = (i + 1) & (set->cap - 1);
    set->slots[i] = (uint32_t)place + 1;
}

/* Notes the blob that was written last. */
static void note_blob(struct rv_trace_writer *w) {
    struct blob_set *set = &w->blobs;
    if (2 * w->index.blob_count >= set->cap) {
        free(set->slots);
        set->cap = set->cap ? 2 * set->cap : 64;
        set->slots = rv_alloc(set->cap * sizeof *set->slots);
        for (size_t i = 0; i + 1 < w->index.blob_count; i++) insert_blob(w, i);
    }
    insert_blob(w, w->index.blob_count - 1);
}

int rv_trace_writer_put_part(struct rv_trace_writer *w, const struct rv_trace_hash *hash,
                             uint32_t part, bool last, const void *data, size_t len,
                             struct rv_err *err) {
    struct rv_chunk c = {.type = RV_CHUNK_BLOB, .count = part};
    if (last) c.flags = RV_CHUNK_LAST_PART;
    memcpy(c.key, hash->bytes, sizeof c.key);
    int rc = emit_history(w, &c, data, len, err);
    if (rc) return rc;
    w->blob_bytes += w->out.len;
    if (last) note_blob(w);
    return 0;
}

int rv_trace_writer_add_blob(struct rv_trace_writer *w, const void *data, size_t len,
                             struct rv_trace_hash *hash, struct rv_err *err) {
    int rc = check_usable(w, err);
    if (rc) return rc;
    if (len > RV_TRACE_MAX_BLOB)
        return rv_fail(err, RV_E_USAGE, "a blob of %zu bytes is too large for a trace", len);
    *hash = rv_trace_hash_of(data, len);
    if (rv_trace_writer_has_blob(w, hash)) return 0;
    uint32_t parts = rv_blob_parts(len);
    const uint8_t *p = data;
    for (uint32_t part = 0; part < parts; part++) {
        size_t n = len < RV_TRACE_BLOB_PART ? len : RV_TRACE_BLOB_PART;
        rc = rv_trace_writer_put_part(w, hash, part, part + 1 == parts, p, n, err);
        if (rc) return rc;
        if (n) p += n;
        len -= n;
    }
    return 0;
}

/* Reads up to RV_TRACE_BLOB_PART bytes at offset; less only at the end of the file. */
static int read_part(int fd, uint64_t offset, struct rv_buf *buf, struct rv_err *err) {
    rv_buf_clear(buf);
    rv_buf_grow(buf, RV_TRACE_BLOB_PART);
    size_t have = 0;
    while (have < RV_TRACE_BLOB_PART) {
        ssize_t n = pread(fd, buf->data + have, RV_TRACE_BLOB_PART - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return rv_fail_errno(err, RV_E_HOST, "cannot read a file for the trace");
        if (n == 0) break;
        have += (size_t)n;
    }
    buf->len = have;
    return 0;
}

static int hash_file(int fd, struct rv_buf *buf, struct rv_trace_hash *hash, uint64_t *size,
                     struct rv_err *err) {
    struct rv_trace_hasher *hasher = rv_trace_hasher_new();
    int rc;
    *size = 0;
    do {
        rc = read_part(fd, *size, buf, err);
        if (rc) break;
        rv_trace_hasher_add(hasher, buf->data, buf->len);
        *size += buf->len;
        if (*size > RV_TRACE_MAX_BLOB)
            rc = rv_fail(err, RV_E_USAGE, "a file is too large to be kept in a trace");
    } while (!rc && buf->len);
    *hash = rv_trace_hasher_value(hasher);
    rv_trace_hasher_free(hasher);
    return rc;
}

static int copy_file(struct rv_trace_writer *w, int fd, struct rv_buf *buf,
                     const struct rv_trace_hash *hash, uint64_t size, struct rv_err *err) {
    struct rv_trace_hasher *hasher = rv_trace_hasher_new();
    uint32_t parts = rv_blob_parts(size);
    int rc = 0;
    for (uint32_t part = 0; part < parts && !rc; part++) {
        uint64_t offset = (uint64_t)part * RV_TRACE_BLOB_PART;
        uint64_t left = size - offset;
        rc = read_part(fd, offset, buf, err);
        if (rc) break;
        rv_trace_hasher_add(hasher, buf->data, buf->len);
        struct rv_trace_hash now = rv_trace_hasher_value(hasher);
        bool last = part + 1 == parts;
        /* The last part is what makes a blob: withheld, the parts before are passed over. */
        if (buf->len != (last ? left : RV_TRACE_BLOB_PART) ||
            (last && !rv_trace_hash_equal(&now, hash)))
            rc = rv_fail(err, RV_E_HOST, "a file changed while it was copied into the trace");
        else
            rc = rv_trace_writer_put_part(w, hash, part, last, buf->data, buf->len, err);
    }
    rv_trace_hasher_free(hasher);
    return rc;
}

int rv_trace_writer_add_blob_fd(struct rv_trace_writer *w, int fd, struct rv_trace_hash *hash,
                                uint64_t *size, struct rv_err *err) {
    int rc = check_usable(w, err);
    if (rc) return rc;
    struct stat st;
    if (fstat(fd, &st) < 0) return rv_fail_errno(err, RV_E_HOST, "cannot read a file");
    if (!S_ISREG(st.st_mode))
        return rv_fail(err, RV_E_USAGE, "only a regular file can be copied into a trace");
    struct rv_buf buf = {0};
    uint64_t total;
    rc = hash_file(fd, &buf, hash, &total, err);
    if (!rc && !rv_trace_writer_has_blob(w, hash)) rc = copy_file(w, fd, &buf, hash, total, err);
    rv_buf_release(&buf);
    if (!rc && size) *size = total;
    return rc;
}

int rv_trace_writer_add_chunk(struct rv_trace_writer *w, uint16_t type, const void *data,
                              size_t len, struct rv_err *err) {
    int rc = check_usable(w, err);
    if (rc) return rc;
    if (type < 0x8000 || len > RV_TRACE_MAX_RAW)
        return rv_fail(err, RV_E_USAGE, "a chunk of type %u with %zu bytes does not fit a trace",
                       type, len);
    struct rv_chunk c = {.type = type, .flags = RV_CHUNK_OPTIONAL};
    return emit_history(w, &c, data, len, err);
}

static int write_index(struct rv_trace_writer *w, struct rv_err *err) {
    size_t rows = w->index.count, blob = 0;
    int rc = 0;
    for (size_t first = 0; first < rows && !rc; first += INDEX_ROWS) {
        size_t count = rows - first < INDEX_ROWS ? rows - first : INDEX_ROWS;
        /* A blob is listed with the chunk of its last part, so that its rows are known by then. */
        size_t first_blob = blob;
        while (blob < w->index.blob_count &&
               w->index.blobs[blob].chunk + w->index.blobs[blob].parts <= first + count)
            blob++;
        rv_buf_clear(&w->raw);
        rv_index_put(&w->raw, &w->index, first, count, first_blob, blob - first_blob);
        struct rv_chunk c = {.type = RV_CHUNK_INDEX};
        rc = emit(w, &c, w->raw.data, w->raw.len, true, err);
    }
    return rc;
}

static int write_end(struct rv_trace_writer *w, const struct rv_trace_summary *summary,
                     struct rv_err *err) {
    struct rv_trace_summary s = *summary;
    if (w->failed.code) {
        s.lost_tail = true;
        s.position = w->complete_position;
        s.time = w->complete_time;
    }
    s.counts = w->file_counts;
    s.events = w->index.events;
    rv_buf_clear(&w->raw);
    rv_summary_put(&w->raw, &s);
    struct rv_trailer t = {.summary_offset = w->sink.end};
    struct rv_chunk c = {.type = RV_CHUNK_SUMMARY};
    int rc = emit(w, &c, w->raw.data, w->raw.len, true, err);
    if (rc) return rc;

    uint64_t index_offset = w->sink.end;
    size_t before = w->index.count;
    t.chunks = (uint32_t)before;
    if (write_index(w, NULL) == 0) {
        t.index_offset = index_offset;
        t.chunks = (uint32_t)w->index.count;
    } else {
        /* The index only saves a scan. The trailer, which is small, may still fit. */
        rc = rv_sink_rewind(&w->sink, index_offset, err);
        if (rc) return rc;
    }
    t.file_size = w->sink.end + RV_TRAILER_SIZE;
    rv_buf_clear(&w->out);
    rv_trailer_put(&w->out, w->salt, &t);
    return rv_sink_append(&w->sink, w->out.data, w->out.len, true, err);
}

int rv_trace_writer_seal(struct rv_trace_writer *w, const struct rv_trace_summary *summary,
                         struct rv_err *err) {
    if (w->sealed) return rv_fail(err, RV_E_USAGE, "%s is sealed already", w->sink.path);
    if (summary->text && strlen(summary->text) > RV_TRACE_MAX_STRING)
        return rv_fail(err, RV_E_USAGE, "the summary's text is longer than %u bytes",
                       RV_TRACE_MAX_STRING);
    /* A write that fails only now has not been reported yet. */
    int first =
        w->failed.code ? 0 : rv_trace_writer_flush(w, summary->position, summary->time, err);
    if (first && !w->failed.code) return first;
    struct rv_err local = {0};
    int rc = write_end(w, summary, &local);
    if (!rc && w->sync) rc = rv_sink_sync(&w->sink, &local);
    if (rc) {
        rv_fail_in(&local, "the trace stays unsealed, which is no obstacle to replaying it");
        if (err && !first) *err = local;
        return first ? first : rc;
    }
    w->sealed = true;
    return first;
}

void rv_trace_writer_complete(const struct rv_trace_writer *w, uint64_t *position, uint64_t *time) {
    if (position) *position = w->complete_position;
    if (time) *time = w->complete_time;
}

void rv_trace_writer_stats(const struct rv_trace_writer *w, struct rv_trace_writer_stats *stats) {
    *stats = (struct rv_trace_writer_stats){
        .bytes = w->sink.end,
        .blob_bytes = w->blob_bytes,
        .blobs = w->index.blob_count,
        .events = w->events,
        .chunks = w->index.count,
    };
}
