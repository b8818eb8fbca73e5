#include "trace-format/salvage.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace-format/codec.h"
#include "trace-format/reader_priv.h"
#include "trace-format/writer_priv.h"

struct salvage {
    const struct rv_trace_reader *r;
    struct rv_trace_writer *w;
    struct rv_trace_salvage report;
    uint64_t position, time; /* of the last flush copied */
    struct rv_buf raw;
};

static void note(struct salvage *s, const char *text) {
    if (!s->report.damage[0]) snprintf(s->report.damage, sizeof s->report.damage, "%s", text);
}

/* Decodes a batch; with out set, appends its events there. Returns NULL, or what is wrong. */
static const char *walk_batch(const struct salvage *s, const struct rv_chunk *c,
                              const struct rv_batch *batch, struct rv_trace_writer *out, int *rc,
                              struct rv_err *err) {
    struct rv_codec codec;
    struct rv_cursor in = batch->events;
    rv_codec_init(&codec, rv_trace_reader_header(s->r)->rate, rv_chunk_first(c), batch->first_time);
    for (uint32_t i = 0; i < c->count; i++) {
        struct rv_trace_event ev;
        const char *what = rv_codec_get(&codec, &in, &ev);
        if (what) return what;
        if (i == 0 && ev.position != rv_chunk_first(c))
            return "its events do not start where its header says";
        if (out) *rc = rv_trace_writer_append(out, &ev, err);
        if (*rc) return NULL;
    }
    if (in.p != in.end) return "it holds more events than it counts";
    if (c->count && codec.position != rv_chunk_last(c))
        return "its events do not end where its header says";
    if (batch->complete_position < rv_chunk_last(c) || rv_chunk_first(c) < s->position)
        return "it contradicts how far the trace is said to be complete";
    return NULL;
}

/* Copies an event chunk, all of it or nothing. RV_E_FORMAT: it is damaged, *err says how. */
static int copy_events(struct salvage *s, size_t i, struct rv_err *err) {
    struct rv_chunk c;
    struct rv_batch batch = {0};
    int rc = rv_reader_load(s->r, i, &c, &s->raw, err);
    if (rc) return rc;
    const char *what = rv_batch_get(&batch, s->raw.data, s->raw.len);
    if (!what) what = walk_batch(s, &c, &batch, NULL, &rc, err);
    if (what) {
        rv_batch_release(&batch);
        return rv_reader_damaged(s->r, s->r->index.chunks[i].offset, i, what, err);
    }
    walk_batch(s, &c, &batch, s->w, &rc, err);
    if (!rc) rc = rv_trace_writer_flush(s->w, batch.complete_position, batch.complete_time, err);
    if (!rc) {
        s->position = batch.complete_position;
        s->time = batch.complete_time;
        s->report.events += c.count;
    }
    rv_batch_release(&batch);
    return rc;
}

static int discard(void *ctx, const void *data, size_t len) {
    (void)ctx;
    (void)data;
    (void)len;
    return 0;
}

struct part_copy {
    struct salvage *s;
    const struct rv_index_blob *blob;
    uint32_t part;
    struct rv_err *err;
};

static int copy_part(void *ctx, const void *data, size_t len) {
    struct part_copy *p = ctx;
    bool last = p->part + 1 == p->blob->parts;
    return rv_trace_writer_put_part(p->s->w, &p->blob->hash, p->part++, last, data, len, p->err);
}

/* Copies each blob whose content is what its hash says. They come before the events, which costs
 * nothing to a reader and keeps what an event refers to in front of it. */
static int copy_blobs(struct salvage *s, struct rv_err *err) {
    const struct rv_index *x = &s->r->index;
    for (size_t i = 1; i < x->count; i++)
        s->report.blobs_lost += x->chunks[i].type == RV_CHUNK_BLOB && x->chunks[i].count == 0;
    s->report.blobs_lost -=
        x->blob_count < s->report.blobs_lost ? x->blob_count : s->report.blobs_lost;
    for (size_t i = 0; i < x->blob_count; i++) {
        const struct rv_index_blob *b = &x->blobs[i];
        if (rv_trace_writer_has_blob(s->w, &b->hash)) continue;
        struct rv_err local = {0};
        int rc = rv_trace_reader_blob_read(s->r, &b->hash, discard, NULL, &local);
        if (rc == RV_E_FORMAT) {
            note(s, local.msg);
            s->report.blobs_lost++;
            continue;
        }
        struct part_copy copy = {.s = s, .blob = b, .err = &local};
        if (!rc) rc = rv_trace_reader_blob_read(s->r, &b->hash, copy_part, &copy, &local);
        if (rc) {
            if (err) *err = local;
            return rc;
        }
        s->report.blobs++;
    }
    return 0;
}

static int copy_other(struct salvage *s, size_t i, uint16_t type, struct rv_err *err) {
    struct rv_err local = {0};
    struct rv_chunk c;
    int rc = rv_reader_load(s->r, i, &c, &s->raw, &local);
    if (!rc && type >= 0x8000)
        return rv_trace_writer_add_chunk(s->w, type, s->raw.data, s->raw.len, err);
    s->report.chunks_lost++;
    if (rc == RV_E_FORMAT) note(s, local.msg);
    if (!rc || rc == RV_E_FORMAT) return 0;
    if (err) *err = local;
    return rc;
}

/* Counts what can still be told of the chunks after a damage that ended the table. */
static int count_lost(struct salvage *s, struct rv_err *err) {
    uint64_t limit = s->r->sealed ? s->r->size - RV_TRAILER_SIZE : s->r->size;
    uint64_t offset = s->r->index.end + 1;
    for (;;) {
        struct rv_chunk c;
        int rc = rv_reader_resync(s->r, offset, limit, &offset, &c, err);
        if (rc) return rc == RV_E_END ? 0 : rc;
        s->report.chunks_lost++;
        if (c.type == RV_CHUNK_EVENTS) s->report.events_lost += c.count;
        offset += RV_CHUNK_HEADER_SIZE;
    }
}

static int copy_history(struct salvage *s, struct rv_err *err) {
    const struct rv_index *x = &s->r->index;
    for (size_t i = 1; i < x->count; i++) {
        const struct rv_index_chunk *row = &x->chunks[i];
        struct rv_err local = {0};
        int rc = 0;
        if (row->type == RV_CHUNK_EVENTS)
            rc = copy_events(s, i, &local);
        else if (!rv_chunk_type_name(row->type))
            rc = copy_other(s, i, row->type, &local);
        if (rc == RV_E_FORMAT) {
            note(s, local.msg);
            /* A chunk without events only said how far the trace goes: no loss. */
            if (!row->count) continue;
            s->report.whole = false;
            s->report.events_lost += x->events - row->ordinal;
            break;
        }
        if (rc) {
            if (err) *err = local;
            return rc;
        }
    }
    if (!s->r->cut) return 0;
    s->report.whole = false;
    note(s, s->r->damage.msg);
    return count_lost(s, err);
}

static int seal(struct salvage *s, struct rv_err *err) {
    const struct rv_trace_summary *old = rv_trace_reader_summary(s->r);
    s->report.position = s->position;
    if (s->report.whole && old && old->position >= s->position) {
        s->report.position = old->position;
        return rv_trace_writer_seal(s->w, old, err);
    }
    char text[640];
    snprintf(text, sizeof text, "salvaged: %s",
             s->report.damage[0] ? s->report.damage : "the recording was not sealed");
    struct rv_trace_summary summary = {.reason = RV_TRACE_REASON_SALVAGED,
                                       .text = text,
                                       .position = s->position,
                                       .time = s->time,
                                       .lost_tail = !s->report.whole};
    return rv_trace_writer_seal(s->w, &summary, err);
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int rv_trace_salvage(const char *in, const char *out, unsigned flags,
                     struct rv_trace_salvage *report, struct rv_err *err) {
    if (same_file(in, out))
        return rv_fail(err, RV_E_USAGE, "%s cannot be salvaged into itself; name a new file", in);
    struct rv_trace_reader *r;
    int rc = rv_trace_reader_open(&r, in, err);
    if (rc) return rc;
    struct salvage s = {.r = r, .report = {.whole = true}};
    struct rv_trace_writer_options options = {
        .flags = flags & RV_TRACE_SALVAGE_OVERWRITE ? RV_TRACE_OVERWRITE : 0};
    rc = rv_trace_writer_new(&s.w, out, &options, rv_trace_reader_header(r), err);
    if (!rc) {
        rc = copy_blobs(&s, err);
        if (!rc) rc = copy_history(&s, err);
        if (!rc) rc = seal(&s, err);
        rv_trace_writer_free(s.w);
        /* Half a copy would look like a recording of its own. */
        if (rc) unlink(out);
    }
    rv_buf_release(&s.raw);
    rv_trace_reader_free(r);
    if (!rc && report) *report = s.report;
    return rc;
}
