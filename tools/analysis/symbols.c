#include "tools/analysis/symbols.h"

#include <stdlib.h>
#include <string.h>

#include "tools/analysis/arena.h"
#include "vmm/base/buf.h"

struct rv_symbols {
    struct rv_symbol *symbol; /* by address */
    uint32_t *by_name;
    size_t n, room;
    struct rv_arena *arena;
};

struct rv_symbols *rv_symbols_new(void) {
    struct rv_symbols *s = rv_alloc(sizeof *s);
    s->arena = rv_arena_new();
    return s;
}

void rv_symbols_free(struct rv_symbols *s) {
    if (!s) return;
    rv_arena_free(s->arena);
    free(s->symbol);
    free(s->by_name);
    free(s);
}

void rv_symbols_add(struct rv_symbols *s, uint64_t addr, uint64_t size, char type,
                    const char *name) {
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 1024;
        s->symbol = rv_realloc(s->symbol, s->room * sizeof *s->symbol);
    }
    s->symbol[s->n++] = (struct rv_symbol){
        .addr = addr, .size = size, .type = type, .name = rv_arena_intern(s->arena, name)};
}

static bool is_global(const struct rv_symbol *y) { return y->type >= 'A' && y->type <= 'Z'; }

/* Lower is plainer. */
static int fanciness(const struct rv_symbol *y) {
    return 4 * !is_global(y) + 2 * (strchr(y->name, '.') != NULL) + (y->name[0] == '_');
}

static int by_address(const void *pa, const void *pb) {
    const struct rv_symbol *a = pa, *b = pb;
    if (a->addr != b->addr) return a->addr < b->addr ? -1 : 1;
    if (!a->size != !b->size) return a->size ? -1 : 1;
    int fancy = fanciness(a) - fanciness(b);
    return fancy ? fancy : strcmp(a->name, b->name);
}

static int by_name(const void *pa, const void *pb, void *ctx) {
    const struct rv_symbols *s = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    int d = strcmp(s->symbol[a].name, s->symbol[b].name);
    return d ? d : a < b ? -1 : a > b;
}

void rv_symbols_sort(struct rv_symbols *s) {
    if (s->n) qsort(s->symbol, s->n, sizeof *s->symbol, by_address);
    free(s->by_name);
    s->by_name = rv_alloc((s->n + 1) * sizeof *s->by_name);
    for (size_t i = 0; i < s->n; i++) s->by_name[i] = (uint32_t)i;
    if (s->n) qsort_r(s->by_name, s->n, sizeof *s->by_name, by_name, s);
}

size_t rv_symbols_count(const struct rv_symbols *s) { return s->n; }

const struct rv_symbol *rv_symbols_get(const struct rv_symbols *s, size_t i) {
    return i < s->n ? &s->symbol[i] : NULL;
}

/* The number of symbols at or before an address. */
static size_t upto(const struct rv_symbols *s, uint64_t addr) {
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->symbol[mid].addr <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint64_t rv_symbols_end(const struct rv_symbols *s, const struct rv_symbol *y) {
    if (y->size) return y->addr + y->size < y->addr ? UINT64_MAX : y->addr + y->size;
    size_t next = upto(s, y->addr);
    return next < s->n ? s->symbol[next].addr : UINT64_MAX;
}

const struct rv_symbol *rv_symbols_at(const struct rv_symbols *s, uint64_t addr) {
    size_t n = upto(s, addr);
    if (!n) return NULL;
    uint64_t start = s->symbol[n - 1].addr;
    /* The first of those at the same address is the plainest. */
    while (n > 1 && s->symbol[n - 2].addr == start) n--;
    const struct rv_symbol *y = &s->symbol[n - 1];
    if (addr < rv_symbols_end(s, y)) return y;
    /* One that begins earlier may still reach here: a few are looked at. */
    for (size_t i = n - 1, tries = 16; i-- > 0 && tries--;)
        if (s->symbol[i].size && addr - s->symbol[i].addr < s->symbol[i].size) return &s->symbol[i];
    return NULL;
}

const struct rv_symbol *rv_symbols_find(const struct rv_symbols *s, const char *name,
                                        size_t *many) {
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(s->symbol[s->by_name[mid]].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    size_t end = lo;
    while (end < s->n && strcmp(s->symbol[s->by_name[end]].name, name) == 0) end++;
    if (many) *many = end - lo;
    return end > lo ? &s->symbol[s->by_name[lo]] : NULL;
}
