#include "replay/pages.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

struct history {
    struct rv_version *v; /* by position */
    uint32_t n, room;
};

struct rv_pages {
    uint64_t n;
    uint64_t memory;
    struct history page[];
};

static const uint8_t zeroes[RV_PAGE_SIZE];

struct rv_pages *rv_pages_new(uint64_t n) {
    struct rv_pages *p = rv_alloc(sizeof *p + n * sizeof p->page[0]);
    p->n = n;
    return p;
}

static void forget(struct rv_pages *p, struct rv_version *v) {
    if (v->kind != RV_VERSION_MEMORY) return;
    free(v->bytes);
    p->memory -= RV_PAGE_SIZE;
}

void rv_pages_free(struct rv_pages *p) {
    if (!p) return;
    for (uint64_t i = 0; i < p->n; i++) {
        for (uint32_t k = 0; k < p->page[i].n; k++) forget(p, &p->page[i].v[k]);
        free(p->page[i].v);
    }
    free(p);
}

/* How many versions lie at or before the position. */
static uint32_t upto(const struct history *h, rv_icount at) {
    uint32_t low = 0, high = h->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (h->v[mid].at <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void rv_pages_add(struct rv_pages *p, uint64_t page, const struct rv_version *v) {
    struct history *h = &p->page[page];
    uint32_t k = upto(h, v->at);
    if (v->kind == RV_VERSION_MEMORY) p->memory += RV_PAGE_SIZE;
    if (k && h->v[k - 1].at == v->at) {
        forget(p, &h->v[k - 1]);
        h->v[k - 1] = *v;
        return;
    }
    if (h->n == h->room) {
        h->room = h->room ? 2 * h->room : 1;
        h->v = rv_realloc(h->v, h->room * sizeof h->v[0]);
    }
    memmove(&h->v[k + 1], &h->v[k], (h->n - k) * sizeof h->v[0]);
    h->v[k] = *v;
    h->n++;
}

void rv_pages_keep(struct rv_pages *p, uint64_t page, rv_icount at, const uint8_t *content) {
    struct rv_version v = {.at = at, .kind = RV_VERSION_ZERO};
    if (memcmp(content, zeroes, RV_PAGE_SIZE) != 0) {
        v.kind = RV_VERSION_MEMORY;
        v.bytes = rv_alloc(RV_PAGE_SIZE);
        memcpy(v.bytes, content, RV_PAGE_SIZE);
    }
    rv_pages_add(p, page, &v);
}

const struct rv_version *rv_pages_at(const struct rv_pages *p, uint64_t page,
                                     rv_icount checkpoint) {
    const struct history *h = &p->page[page];
    uint32_t k = h->n && h->v[h->n - 1].at <= checkpoint ? h->n : upto(h, checkpoint);
    return k ? &h->v[k - 1] : NULL;
}

void rv_pages_drop(struct rv_pages *p, rv_icount checkpoint, rv_icount next) {
    for (uint64_t i = 0; i < p->n; i++) {
        struct history *h = &p->page[i];
        uint32_t k = upto(h, checkpoint);
        if (!k || h->v[k - 1].at != checkpoint) continue;
        bool needed = next != RV_NEVER && (k == h->n || h->v[k].at > next);
        if (needed) {
            h->v[k - 1].at = next;
            continue;
        }
        forget(p, &h->v[k - 1]);
        memmove(&h->v[k - 1], &h->v[k], (h->n - k) * sizeof h->v[0]);
        h->n--;
    }
}

uint64_t rv_pages_memory(const struct rv_pages *p) { return p->memory; }
