#include "replay/history.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "vmm/base/buf.h"

struct rv_history *rv_history_new(uint64_t page_count) {
    struct rv_history *h = rv_alloc(sizeof *h);
    h->page_count = page_count;
    h->pages = rv_pages_new(page_count);
    h->fd = -1;
    return h;
}

void rv_history_free(struct rv_history *h) {
    if (!h) return;
    for (size_t i = 0; i < h->epochs; i++) {
        free(h->epoch[i].written.page);
        free(h->epoch[i].executed.page);
        free(h->epoch[i].lines.line);
    }
    free(h->epoch);
    for (size_t i = 0; i < h->checkpoints; i++) free(h->checkpoint[i].state);
    free(h->checkpoint);
    rv_pages_free(h->pages);
    if (h->fd >= 0) close(h->fd);
    free(h);
}

struct rv_page_set rv_page_set_of(const uint8_t *bytes, uint64_t n) {
    struct rv_page_set s = {0};
    for (uint64_t i = 0; i < n; i++) s.n += bytes[i] != 0;
    s.page = rv_alloc(s.n * sizeof *s.page);
    uint32_t k = 0;
    for (uint64_t i = 0; i < n; i++)
        if (bytes[i]) s.page[k++] = (uint32_t)i;
    return s;
}

bool rv_page_set_has(const struct rv_page_set *s, uint64_t page) {
    uint32_t low = 0, high = s->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->page[mid] < page)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->n && s->page[low] == page;
}

/* ---- lines ---- */

static uint32_t line_of(uint64_t va) { return (uint32_t)(va / RV_LINE); }

static bool put_line(struct rv_lines *l, uint64_t line) {
    size_t h = (size_t)(line * 0x9e3779b97f4a7c15ull >> 32) & (l->room - 1);
    while (l->slot[h] && l->slot[h] != 1 + line) h = (h + 1) & (l->room - 1);
    bool is_new = !l->slot[h];
    l->slot[h] = 1 + line;
    return is_new;
}

static void more_lines(struct rv_lines *l) {
    struct rv_lines was = *l;
    l->room = was.room ? 2 * was.room : 1u << 12;
    l->slot = rv_alloc(l->room * sizeof *l->slot);
    for (size_t i = 0; i < was.room; i++)
        if (was.slot[i]) put_line(l, was.slot[i] - 1);
    free(was.slot);
}

void rv_lines_note(struct rv_lines *l, uint64_t va, uint64_t bytes) {
    uint64_t last = (va + (bytes ? bytes - 1 : 0)) / RV_LINE;
    for (uint64_t line = va / RV_LINE; line <= last; line++) {
        if (2 * l->n >= l->room) more_lines(l);
        l->n += put_line(l, (uint32_t)line);
    }
}

static int rising(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

struct rv_line_set rv_lines_take(struct rv_lines *l) {
    struct rv_line_set s = {.line = rv_alloc(l->n * sizeof *s.line), .anywhere = l->anywhere};
    for (size_t i = 0; i < l->room; i++)
        if (l->slot[i]) s.line[s.n++] = (uint32_t)(l->slot[i] - 1);
    qsort(s.line, s.n, sizeof *s.line, rising);
    if (l->room) memset(l->slot, 0, l->room * sizeof *l->slot);
    l->n = 0;
    l->anywhere = false;
    return s;
}

void rv_lines_free(struct rv_lines *l) {
    free(l->slot);
    *l = (struct rv_lines){0};
}

bool rv_line_set_meets(const struct rv_line_set *s, uint64_t va, uint64_t len) {
    if (s->anywhere || len > (uint64_t)RV_LINE << 31 || va + (len - 1) < va) return true;
    uint32_t first = line_of(va), last = line_of(va + (len - 1));
    if (last < first) return true;
    uint32_t low = 0, high = s->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->line[mid] < first)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->n && s->line[low] <= last;
}

size_t rv_history_epoch(const struct rv_history *h, rv_icount at) {
    size_t low = 0, high = h->epochs;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (h->epoch[mid].from <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? low - 1 : 0;
}

static size_t checkpoints_upto(const struct rv_history *h, rv_icount at) {
    size_t low = 0, high = h->checkpoints;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (h->checkpoint[mid].at <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

size_t rv_history_before(const struct rv_history *h, rv_icount at) {
    size_t n = checkpoints_upto(h, at);
    rv_assert(n > 0);
    return n - 1;
}

void rv_history_add(struct rv_history *h, const struct rv_checkpoint *c) {
    size_t i = checkpoints_upto(h, c->at);
    if (h->checkpoints == h->checkpoint_room) {
        h->checkpoint_room = h->checkpoint_room ? 2 * h->checkpoint_room : 64;
        h->checkpoint = rv_realloc(h->checkpoint, h->checkpoint_room * sizeof *h->checkpoint);
    }
    memmove(&h->checkpoint[i + 1], &h->checkpoint[i], (h->checkpoints - i) * sizeof *c);
    h->checkpoint[i] = *c;
    h->checkpoints++;
}

void rv_history_drop(struct rv_history *h, size_t i) {
    rv_assert(i > 0 && !h->checkpoint[i].filed);
    rv_icount next = i + 1 < h->checkpoints ? h->checkpoint[i + 1].at : RV_NEVER;
    rv_pages_drop(h->pages, h->checkpoint[i].at, next);
    free(h->checkpoint[i].state);
    h->checkpoints--;
    memmove(&h->checkpoint[i], &h->checkpoint[i + 1],
            (h->checkpoints - i) * sizeof h->checkpoint[0]);
}

/* ---- pages of the file ---- */

static int by_offset(const void *a, const void *b) {
    const struct rv_version *x = ((const struct rv_page_want *)a)->v,
                            *y = ((const struct rv_page_want *)b)->v;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

#define WINDOW (1u << 20)

static int damaged(struct rv_err *err) {
    return rv_fail(err, RV_E_FORMAT,
                   "the index file changed or is damaged; make it anew with retro index --force");
}

int rv_history_read(const struct rv_history *h, struct rv_page_want *want, size_t n,
                    void (*put)(void *ctx, uint64_t page, const uint8_t *content), void *ctx,
                    struct rv_err *err) {
    if (!n) return 0;
    qsort(want, n, sizeof *want, by_offset);
    uint8_t *window = rv_alloc(WINDOW), content[RV_PAGE_SIZE];
    uint64_t from = 0, to = 0;
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        const struct rv_version *v = want[i].v;
        if (v->offset < from || v->offset + v->len > to) {
            ssize_t got = pread(h->fd, window, WINDOW, (off_t)v->offset);
            from = v->offset;
            to = from + (got > 0 ? (uint64_t)got : 0);
        }
        const uint8_t *stored = window + (v->offset - from), *page = content;
        if (v->offset + v->len > to)
            r = damaged(err);
        else if (v->len == RV_PAGE_SIZE)
            page = stored;
        else if (LZ4_decompress_safe((const char *)stored, (char *)content, v->len, RV_PAGE_SIZE) !=
                 RV_PAGE_SIZE)
            r = damaged(err);
        if (!r && (uint32_t)XXH3_64bits(page, RV_PAGE_SIZE) != v->hash) r = damaged(err);
        if (!r) put(ctx, want[i].page, page);
    }
    free(window);
    return r;
}
