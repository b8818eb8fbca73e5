/* Walking over the events, a chunk at a time. */
#include <stdlib.h>

#include "trace-format/codec.h"
#include "trace-format/reader_priv.h"

struct rv_trace_cursor {
    const struct rv_trace_reader *r;
    size_t chunk; /* loaded, or where to look for the next one with events */
    bool loaded;
    bool peeked;          /* ev holds the event at ordinal */
    uint32_t left;        /* events in the loaded chunk that are not decoded yet */
    uint64_t ordinal;     /* of the event next returns */
    struct rv_err broken; /* what ended the walk; every later call returns it */
    struct rv_codec codec;
    struct rv_batch batch;
    struct rv_buf raw;
    struct rv_trace_event ev;
};

struct rv_trace_cursor *rv_trace_cursor_new(const struct rv_trace_reader *r) {
    struct rv_trace_cursor *c = rv_alloc(sizeof *c);
    c->r = r;
    return c;
}

void rv_trace_cursor_free(struct rv_trace_cursor *c) {
    if (!c) return;
    rv_batch_release(&c->batch);
    rv_buf_release(&c->raw);
    free(c);
}

uint64_t rv_trace_cursor_ordinal(const struct rv_trace_cursor *c) { return c->ordinal; }

static void reset(struct rv_trace_cursor *c, size_t chunk, uint64_t ordinal) {
    rv_batch_release(&c->batch);
    c->chunk = chunk;
    c->ordinal = ordinal;
    c->loaded = c->peeked = false;
    c->left = 0;
    c->broken = (struct rv_err){0};
}

static int damaged(struct rv_trace_cursor *c, const char *what, struct rv_err *err) {
    return rv_reader_damaged(c->r, c->r->index.chunks[c->chunk].offset, c->chunk, what, err);
}

static int load(struct rv_trace_cursor *c, struct rv_err *err) {
    const struct rv_index_chunk *row = &c->r->index.chunks[c->chunk];
    struct rv_chunk chunk;
    int rc = rv_reader_load(c->r, c->chunk, &chunk, &c->raw, err);
    if (rc) return rc;
    rv_batch_release(&c->batch);
    const char *what = rv_batch_get(&c->batch, c->raw.data, c->raw.len);
    if (!what && c->batch.complete_position < row->last)
        what = "it has events beyond where it claims to be complete";
    if (what) return damaged(c, what, err);
    rv_codec_init(&c->codec, c->r->header.header.rate, row->first, c->batch.first_time);
    c->left = row->count;
    c->loaded = true;
    return 0;
}

/* After the last event of a chunk: everything it said must have come true. */
static int finish(struct rv_trace_cursor *c, struct rv_err *err) {
    const struct rv_index_chunk *row = &c->r->index.chunks[c->chunk];
    if (c->batch.events.p != c->batch.events.end)
        return damaged(c, "it holds more events than it counts", err);
    if (c->codec.position != row->last)
        return damaged(c, "its events do not end where its header says", err);
    c->loaded = false;
    c->chunk++;
    return 0;
}

static int advance(struct rv_trace_cursor *c, struct rv_err *err) {
    const struct rv_index *x = &c->r->index;
    while (!c->left) {
        int rc = c->loaded ? finish(c, err) : 0;
        if (rc) return rc;
        while (c->chunk < x->count &&
               (x->chunks[c->chunk].type != RV_CHUNK_EVENTS || !x->chunks[c->chunk].count))
            c->chunk++;
        if (c->chunk == x->count) {
            if (!c->r->cut) return RV_E_END;
            if (err) *err = c->r->damage;
            return c->r->damage.code;
        }
        rc = load(c, err);
        if (rc) return rc;
    }
    const char *what = rv_codec_get(&c->codec, &c->batch.events, &c->ev);
    const struct rv_index_chunk *row = &x->chunks[c->chunk];
    if (!what &&
        (c->ev.position > row->last || (c->left == row->count && c->ev.position != row->first)))
        what = "an event lies outside the range in the chunk's header";
    if (what) return damaged(c, what, err);
    c->left--;
    return 0;
}

int rv_trace_cursor_peek(struct rv_trace_cursor *c, const struct rv_trace_event **ev,
                         struct rv_err *err) {
    if (!c->peeked) {
        if (c->broken.code) {
            if (err) *err = c->broken;
            return c->broken.code;
        }
        struct rv_err local = {0};
        int rc = advance(c, &local);
        if (rc == RV_E_END) return rc;
        if (rc) {
            c->broken = local;
            if (err) *err = local;
            return rc;
        }
        c->peeked = true;
    }
    *ev = &c->ev;
    return 0;
}

int rv_trace_cursor_next(struct rv_trace_cursor *c, const struct rv_trace_event **ev,
                         struct rv_err *err) {
    int rc = rv_trace_cursor_peek(c, ev, err);
    if (rc) return rc;
    c->peeked = false;
    c->ordinal++;
    return 0;
}

int rv_trace_cursor_seek(struct rv_trace_cursor *c, uint64_t position, struct rv_err *err) {
    const struct rv_index *x = &c->r->index;
    size_t low = 0, high = x->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (x->chunks[mid].last < position)
            low = mid + 1;
        else
            high = mid;
    }
    reset(c, low, low < x->count ? x->chunks[low].ordinal : x->events);
    const struct rv_trace_event *ev;
    int rc;
    while ((rc = rv_trace_cursor_peek(c, &ev, err)) == 0 && ev->position < position)
        rv_trace_cursor_next(c, &ev, err);
    return rc == RV_E_END ? 0 : rc;
}

int rv_trace_cursor_seek_ordinal(struct rv_trace_cursor *c, uint64_t ordinal, struct rv_err *err) {
    const struct rv_index *x = &c->r->index;
    if (ordinal > x->events)
        return rv_fail(err, RV_E_USAGE, "%s has no event %llu, only %llu", c->r->name,
                       (unsigned long long)ordinal, (unsigned long long)x->events);
    /* The last chunk that starts at or before the event: empty ones in front are passed over. */
    size_t low = 0, high = x->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (x->chunks[mid].ordinal <= ordinal)
            low = mid + 1;
        else
            high = mid;
    }
    size_t chunk = low ? low - 1 : 0;
    reset(c, chunk, x->count ? x->chunks[chunk].ordinal : 0);
    while (c->ordinal < ordinal) {
        const struct rv_trace_event *ev;
        int rc = rv_trace_cursor_next(c, &ev, err);
        if (rc) return rc;
    }
    return 0;
}
