#include "tools/analysis/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"
#include <xxhash.h>

#define BLOCK (64u << 10)

struct block {
    struct block *next;
    size_t used, size;
    uint8_t data[] __attribute__((aligned(8)));
};

struct rv_arena {
    struct block *block;
    const char **slot; /* hash table of what was interned */
    size_t slots, interned;
};

struct rv_arena *rv_arena_new(void) {
    return rv_alloc(sizeof(struct rv_arena));
}

void rv_arena_free(struct rv_arena *a) {
    if (!a) return;
    for (struct block *b = a->block, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a->slot);
    free(a);
}

void *rv_arena_take(struct rv_arena *a, size_t n) {
    n = (n + 7) & ~(size_t)7;
    struct block *b = a->block;
    if (!b || b->size - b->used < n) {
        size_t size = n > BLOCK ? n : BLOCK;
        b = rv_realloc(NULL, sizeof *b + size);
        *b = (struct block){.next = a->block, .size = size};
        a->block = b;
    }
    void *p = b->data + b->used;
    b->used += n;
    return p;
}

char *rv_arena_copy(struct rv_arena *a, const void *data, size_t n) {
    char *p = rv_arena_take(a, n + 1);
    if (n) memcpy(p, data, n);
    p[n] = 0;
    return p;
}

static size_t place(const struct rv_arena *a, const char *s) {
    size_t i = XXH3_64bits(s, strlen(s)) & (a->slots - 1);
    while (a->slot[i] && strcmp(a->slot[i], s) != 0) i = (i + 1) & (a->slots - 1);
    return i;
}

static void grow(struct rv_arena *a) {
    const char **old = a->slot;
    size_t n = a->slots;
    a->slots = n ? 2 * n : 256;
    a->slot = rv_alloc(a->slots * sizeof *a->slot);
    for (size_t i = 0; i < n; i++)
        if (old[i]) a->slot[place(a, old[i])] = old[i];
    free(old);
}

const char *rv_arena_intern(struct rv_arena *a, const char *s) {
    if (2 * (a->interned + 1) > a->slots) grow(a);
    size_t i = place(a, s);
    if (!a->slot[i]) {
        a->slot[i] = rv_arena_copy(a, s, strlen(s));
        a->interned++;
    }
    return a->slot[i];
}
