/* The index file: its form, and reading it. index_build.c makes one. */
#include "replay/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "replay/index_priv.h"
#include "trace-format/codec.h"

static const char head_magic[8] = {'R', 'E', 'T', 'R', 'O', 'I', 'D', 'X'};
static const char tail_magic[8] = {'R', 'E', 'T', 'R', 'O', 'E', 'N', 'D'};

char *rv_index_path(const char *trace) {
    size_t n = strlen(trace) + sizeof ".index";
    char *path = rv_alloc(n);
    snprintf(path, n, "%s.index", trace);
    return path;
}

#define SAMPLE (64u << 10)

int rv_index_identify(const char *trace, struct rv_index_identity *id, struct rv_err *err) {
    int fd = open(trace, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        rv_fail_errno(err, RV_E_HOST, "cannot read %s", trace);
        if (fd >= 0) close(fd);
        return RV_E_HOST;
    }
    /* The beginning holds a number drawn for each trace, the end the final digests. */
    uint8_t *sample = rv_alloc(2 * SAMPLE);
    off_t tail = st.st_size > SAMPLE ? st.st_size - (off_t)SAMPLE : 0;
    ssize_t a = pread(fd, sample, SAMPLE, 0);
    ssize_t b = a < 0 ? -1 : pread(fd, sample + a, SAMPLE, tail);
    int r = b < 0 ? rv_fail_errno(err, RV_E_HOST, "cannot read %s", trace) : 0;
    if (!r) {
        XXH128_hash_t h = XXH3_128bits(sample, (size_t)(a + b));
        *id = (struct rv_index_identity){(uint64_t)st.st_size, {h.low64, h.high64}};
    }
    free(sample);
    close(fd);
    return r;
}

/* ---- writing ---- */

void rv_index_put_preamble(struct rv_buf *out, const struct rv_index_identity *id) {
    size_t from = out->len;
    rv_buf_put(out, head_magic, sizeof head_magic);
    rv_buf_put_u64(out, RV_INDEX_VERSION);
    rv_buf_put_u64(out, id->size);
    rv_buf_put_u64(out, id->hash[0]);
    rv_buf_put_u64(out, id->hash[1]);
    char tool[24] = RV_VERSION;
    rv_buf_put(out, tool, RV_INDEX_PREAMBLE - (out->len - from));
}

static void put_set(struct rv_buf *out, const struct rv_page_set *s) {
    rv_put_varint(out, s->n);
    uint32_t last = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        rv_put_varint(out, s->page[i] - last);
        last = s->page[i];
    }
}

static void put_lines(struct rv_buf *out, const struct rv_line_set *s) {
    rv_put_varint(out, (uint64_t)s->n << 1 | s->anywhere);
    uint32_t last = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        rv_put_varint(out, s->line[i] - last);
        last = s->line[i];
    }
}

/* The pages a filed checkpoint has versions of, as they lie in the file from *offset on. */
static void put_versions(struct rv_buf *out, const struct rv_history *h, rv_icount at) {
    uint32_t n = 0;
    for (uint64_t page = 0; page < h->page_count; page++) {
        const struct rv_version *v = rv_pages_at(h->pages, page, at);
        n += v && v->at == at;
    }
    rv_put_varint(out, n);
    uint64_t last = 0;
    for (uint64_t page = 0; page < h->page_count; page++) {
        const struct rv_version *v = rv_pages_at(h->pages, page, at);
        if (!v || v->at != at) continue;
        rv_put_varint(out, page - last);
        last = page;
        rv_buf_put_u16(out, v->kind == RV_VERSION_FILE ? v->len : 0);
        rv_buf_put_u32(out, v->kind == RV_VERSION_FILE ? v->hash : 0);
    }
}

void rv_index_put_table(struct rv_buf *out, const struct rv_history *h, uint64_t offset) {
    size_t from = out->len;
    rv_put_varint(out, h->page_count);
    rv_put_varint(out, h->end);
    rv_put_varint(out, h->end_time);
    rv_put_varint(out, (uint64_t)h->reason);
    rv_put_varint(out, h->epochs);
    for (size_t i = 0; i < h->epochs; i++) {
        rv_put_varint(out, h->epoch[i].from);
        put_set(out, &h->epoch[i].written);
        put_set(out, &h->epoch[i].executed);
        put_lines(out, &h->epoch[i].lines);
    }
    rv_put_varint(out, h->checkpoints);
    for (size_t i = 0; i < h->checkpoints; i++) {
        const struct rv_checkpoint *c = &h->checkpoint[i];
        rv_put_varint(out, c->at);
        rv_put_varint(out, c->time);
        rv_put_varint(out, c->len);
        rv_buf_put(out, c->state, c->len);
        put_versions(out, h, c->at);
    }
    size_t len = out->len - from;
    uint64_t hash = XXH3_64bits(out->data + from, len);
    rv_buf_put_u64(out, offset);
    rv_buf_put_u64(out, len);
    rv_buf_put_u64(out, hash);
    rv_buf_put(out, tail_magic, sizeof tail_magic);
}

/* ---- reading ---- */

static bool get_set(struct rv_cursor *in, uint64_t pages, struct rv_page_set *s) {
    uint64_t n = rv_get_varint(in), page = 0;
    if (in->bad || n > pages) return false;
    s->page = rv_alloc(n * sizeof *s->page);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t step = rv_get_varint(in);
        page += step;
        if (in->bad || step > pages || page >= pages || (i && !step)) return false;
        s->page[s->n++] = (uint32_t)page;
    }
    return true;
}

static bool get_lines(struct rv_cursor *in, struct rv_line_set *s) {
    uint64_t n = rv_get_varint(in), line = 0;
    s->anywhere = n & 1;
    n >>= 1;
    /* Each takes a byte at least. */
    if (in->bad || n > (uint64_t)(in->end - in->p)) return false;
    s->line = rv_alloc(n * sizeof *s->line);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t step = rv_get_varint(in);
        line += step;
        if (in->bad || step > UINT32_MAX || line > UINT32_MAX || (i && !step)) return false;
        s->line[s->n++] = (uint32_t)line;
    }
    return true;
}

static bool get_epochs(struct rv_cursor *in, struct rv_history *h) {
    uint64_t n = rv_get_varint(in);
    if (in->bad || !n || n > RV_INDEX_EPOCHS) return false;
    h->epoch = rv_alloc(n * sizeof *h->epoch);
    for (uint64_t i = 0; i < n; i++) {
        struct rv_epoch *e = &h->epoch[i];
        h->epochs++;
        e->from = rv_get_varint(in);
        if (i ? e->from <= h->epoch[i - 1].from : e->from != 0) return false;
        if (!get_set(in, h->page_count, &e->written) || !get_set(in, h->page_count, &e->executed) ||
            !get_lines(in, &e->lines))
            return false;
    }
    return !in->bad;
}

static bool get_versions(struct rv_cursor *in, struct rv_history *h, rv_icount at, uint64_t *offset,
                         uint64_t limit) {
    uint64_t n = rv_get_varint(in), page = 0;
    if (in->bad || n > h->page_count) return false;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t step = rv_get_varint(in);
        page += step;
        struct rv_version v = {.at = at, .offset = *offset, .kind = RV_VERSION_ZERO};
        v.len = rv_cursor_u16(in);
        v.hash = rv_cursor_u32(in);
        if (in->bad || step > h->page_count || page >= h->page_count || (i && !step)) return false;
        if (v.len) v.kind = RV_VERSION_FILE;
        if (v.len > RV_PAGE_SIZE || v.len > limit - *offset) return false;
        *offset += v.len;
        rv_pages_add(h->pages, page, &v);
    }
    return true;
}

static bool get_checkpoints(struct rv_cursor *in, struct rv_history *h, uint64_t limit) {
    uint64_t n = rv_get_varint(in), offset = RV_INDEX_PREAMBLE;
    if (in->bad || !n || n > RV_INDEX_CHECKPOINTS) return false;
    for (uint64_t i = 0; i < n; i++) {
        struct rv_checkpoint c = {.filed = true};
        c.at = rv_get_varint(in);
        c.time = rv_get_varint(in);
        uint64_t len = rv_get_varint(in);
        const uint8_t *state = len <= RV_INDEX_STATE ? rv_cursor_skip(in, len) : NULL;
        if (!state || (i ? c.at <= h->checkpoint[i - 1].at : c.at != 0)) return false;
        c.state = rv_alloc(len);
        memcpy(c.state, state, len);
        c.len = (uint32_t)len;
        rv_history_add(h, &c);
        if (!get_versions(in, h, c.at, &offset, limit)) return false;
    }
    return offset == limit;
}

static bool get_table(struct rv_cursor *in, struct rv_history *h, uint64_t limit) {
    if (rv_get_varint(in) != h->page_count) return false;
    h->end = rv_get_varint(in);
    h->end_time = rv_get_varint(in);
    h->reason = (enum rv_stop)rv_get_varint(in);
    return get_epochs(in, h) && get_checkpoints(in, h, limit) && !in->bad && in->p == in->end;
}

static const char *load(struct rv_history *h, const struct rv_index_identity *id) {
    struct stat st;
    if (fstat(h->fd, &st) || st.st_size < (off_t)(RV_INDEX_PREAMBLE + RV_INDEX_TRAILER))
        return "it is cut short";
    uint64_t size = h->file_size = (uint64_t)st.st_size;
    struct rv_buf want = {0};
    rv_index_put_preamble(&want, id);
    uint8_t preamble[RV_INDEX_PREAMBLE], trailer[RV_INDEX_TRAILER];
    bool ours = pread(h->fd, preamble, sizeof preamble, 0) == (ssize_t)sizeof preamble &&
                memcmp(preamble, want.data, sizeof preamble) == 0;
    rv_buf_release(&want);
    if (!ours) return "it belongs to another trace or another version of Retrovisor";
    if (pread(h->fd, trailer, sizeof trailer, (off_t)(size - sizeof trailer)) !=
        (ssize_t)sizeof trailer)
        return "it cannot be read";
    struct rv_cursor t = rv_cursor_of(trailer, sizeof trailer);
    uint64_t offset = rv_cursor_u64(&t), len = rv_cursor_u64(&t), hash = rv_cursor_u64(&t);
    if (memcmp(t.p, tail_magic, sizeof tail_magic) != 0 || offset < RV_INDEX_PREAMBLE ||
        offset > size || len != size - sizeof trailer - offset)
        return "it is damaged";
    uint8_t *table = malloc(len);
    if (!table) return "it is too large";
    bool good =
        pread(h->fd, table, len, (off_t)offset) == (ssize_t)len && XXH3_64bits(table, len) == hash;
    if (good) {
        struct rv_cursor in = rv_cursor_of(table, len);
        good = get_table(&in, h, offset);
    }
    free(table);
    return good ? NULL : "it is damaged";
}

int rv_index_load(struct rv_history **out, const char *trace, uint64_t page_count,
                  struct rv_err *err) {
    struct rv_index_identity id;
    int r = rv_index_identify(trace, &id, err);
    if (r) return r;
    char *path = rv_index_path(trace);
    struct rv_history *h = rv_history_new(page_count);
    h->fd = open(path, O_RDONLY | O_CLOEXEC);
    const char *what = NULL;
    if (h->fd < 0)
        r = errno == ENOENT ? RV_E_END : rv_fail_errno(err, RV_E_FORMAT, "cannot read %s", path);
    else if ((what = load(h, &id)))
        r = rv_fail(err, RV_E_FORMAT, "%s is not used: %s", path, what);
    free(path);
    if (r) {
        rv_history_free(h);
        return r;
    }
    *out = h;
    return 0;
}
