#include "vmm/cpu/interp/count.h"

#include <stdlib.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/count.h"
#include "vmm/cpu/interp/block.h"

/* Code that has a number. Number 0 is all code outside RAM, one instruction at a time. */
struct code {
    uint64_t va, pa;
    uint16_t n, bytes;
    bool user;
    uint32_t
        blocks;    /* that have the number; of use again when none has, and counting starts anew */
    uint32_t next; /* in the hash, or among those of use again */
};

struct space {
    uint64_t cr3, tag;
    uint64_t *n; /* by number: how often it was entered */
    uint32_t room;
};

/* How often a block was left before its instruction k, which begins at byte off. */
struct cut {
    uint64_t key; /* space, 1 + number, k, off: in an order that goes with visiting; 0: free */
    uint64_t times;
};
#define KEY(space, number, k, off)                                                                 \
    ((uint64_t)(space) << 51 | ((uint64_t)(number) + 1) << 19 | (uint64_t)(k) << 12 | (off))
_Static_assert(RV_BLOCK_INSNS < 1 << 7 && RV_COUNT_SPACES <= 1 << 13, "a key has room");

#define CODE_HASH  (1u << 16)
#define SPACE_HASH (2 * RV_COUNT_SPACES)

struct rv_counting {
    struct code *code;
    uint32_t codes, code_room, spare; /* spare: the first number of use again; 0: none */
    uint32_t hash[CODE_HASH];         /* to numbers; 0: none */

    struct space *space;
    uint32_t spaces, space_room;
    uint32_t by_cr3[SPACE_HASH]; /* 1 + index; 0: free */
    uint64_t cr3, tag;           /* that c->hot.counts is for */
    uint32_t now;                /* their space */
    bool loaded;

    struct cut *cut;
    size_t cuts, cut_room; /* room is a power of two */

    struct rv_block *found;
    /* The block that is running, where that must be told. */
    struct {
        struct rv_block *b;
        uint32_t number;
        rv_icount from;
        bool any;
    } open;
};

/* ---- numbers ---- */

static uint32_t hash_of(const struct code *k) {
    uint64_t h = (k->va ^ k->pa * 0x9e3779b97f4a7c15ull ^ (uint64_t)k->n << 40 ^
                  (uint64_t)k->bytes << 48 ^ k->user) *
                 0xff51afd7ed558ccdull;
    return (uint32_t)(h >> 48) & (CODE_HASH - 1);
}

static void grow(struct rv_interp *c, struct space *s) {
    struct rv_counting *t = c->count;
    if (s->room < t->codes) {
        uint32_t room = s->room ? s->room : 1024;
        while (room < t->codes) room *= 2;
        s->n = rv_realloc(s->n, room * sizeof *s->n);
        memset(s->n + s->room, 0, (room - s->room) * sizeof *s->n);
        s->room = room;
    }
    c->hot.counts = s->n;
}

static uint32_t new_number(struct rv_counting *t) {
    if (t->spare) {
        uint32_t n = t->spare;
        t->spare = t->code[n].next;
        return n;
    }
    if (t->codes == t->code_room) {
        t->code_room = t->code_room ? 2 * t->code_room : 4096;
        t->code = rv_realloc(t->code, t->code_room * sizeof *t->code);
    }
    return t->codes++;
}

uint32_t rv_count_number(struct rv_interp *c, struct rv_block *b, bool user) {
    struct rv_counting *t = c->count;
    if (rv_likely(b->number[user])) return b->number[user];
    if (rv_block_is_passing(c, b)) return 0;
    struct code k = {.va = b->va, .pa = b->pa, .n = b->n, .bytes = b->len, .user = user};
    uint32_t *slot = &t->hash[hash_of(&k)], n = *slot;
    while (n && !(t->code[n].va == k.va && t->code[n].pa == k.pa && t->code[n].n == k.n &&
                  t->code[n].bytes == k.bytes && t->code[n].user == user))
        n = t->code[n].next;
    if (!n) {
        n = new_number(t);
        k.next = *slot;
        t->code[n] = k;
        *slot = n;
        if (t->loaded) grow(c, &t->space[t->now]);
    }
    t->code[n].blocks++;
    b->number[user] = n;
    return n;
}

void rv_count_forgotten(struct rv_interp *c, struct rv_block *b) {
    for (unsigned user = 0; user < 2; user++)
        if (b->number[user]) c->count->code[b->number[user]].blocks--;
}

/* Numbers without a block are of use again, once nothing is counted under them. */
static void sweep(struct rv_counting *t) {
    t->spare = 0;
    memset(t->hash, 0, sizeof t->hash);
    for (uint32_t n = t->codes; n-- > 1;) {
        struct code *k = &t->code[n];
        uint32_t *list = k->blocks ? &t->hash[hash_of(k)] : &t->spare;
        k->next = *list;
        *list = n;
    }
}

/* ---- address spaces ---- */

static uint32_t find_space(struct rv_counting *t, uint64_t cr3, uint64_t tag) {
    uint32_t h = (uint32_t)((cr3 >> 12 ^ cr3 ^ tag * 31) * 0x9e3779b1u) % SPACE_HASH;
    while (t->by_cr3[h]) {
        const struct space *s = &t->space[t->by_cr3[h] - 1];
        if (s->cr3 == cr3 && s->tag == tag) return t->by_cr3[h] - 1;
        h = (h + 1) % SPACE_HASH;
    }
    if (t->spaces + 1 >= RV_COUNT_SPACES && cr3 != RV_COUNT_OTHERS)
        return find_space(t, RV_COUNT_OTHERS, 0);
    if (t->spaces == t->space_room) {
        t->space_room = t->space_room ? 2 * t->space_room : 16;
        t->space = rv_realloc(t->space, t->space_room * sizeof *t->space);
    }
    t->space[t->spaces] = (struct space){.cr3 = cr3, .tag = tag};
    t->by_cr3[h] = ++t->spaces;
    return t->spaces - 1;
}

static void load(struct rv_interp *c) {
    struct rv_counting *t = c->count;
    t->cr3 = c->x.cr3;
    t->now = find_space(t, t->cr3, t->tag);
    t->loaded = true;
    grow(c, &t->space[t->now]);
}

void rv_count_found(struct rv_interp *c, struct rv_block *b) {
    c->count->found = b;
    if (rv_unlikely(!c->count->loaded || c->count->cr3 != c->x.cr3)) load(c);
}

void rv_count_as(struct rv_interp *c, uint64_t tag) {
    struct rv_counting *t = c->count;
    if (!t) return;
    t->tag = tag;
    if (!t->loaded) return;
    if (t->open.any) c->hot.counts[t->open.number]--;
    load(c);
    if (t->open.any) c->hot.counts[t->open.number]++;
}

/* ---- cuts ---- */

static struct cut *find_cut(struct cut *cut, size_t room, uint64_t key) {
    size_t h = (size_t)(key * 0x9e3779b97f4a7c15ull >> 20) & (room - 1);
    while (cut[h].key && cut[h].key != key) h = (h + 1) & (room - 1);
    return &cut[h];
}

static void add_cut(struct rv_counting *t, uint64_t key) {
    if (2 * t->cuts >= t->cut_room) {
        size_t room = t->cut_room ? 2 * t->cut_room : 1024;
        struct cut *grown = rv_alloc(room * sizeof *grown);
        for (size_t i = 0; i < t->cut_room; i++)
            if (t->cut[i].key) *find_cut(grown, room, t->cut[i].key) = t->cut[i];
        free(t->cut);
        t->cut = grown;
        t->cut_room = room;
    }
    struct cut *k = find_cut(t->cut, t->cut_room, key);
    if (!k->key) {
        k->key = key;
        t->cuts++;
    }
    k->times++;
}

void rv_count_step(struct rv_interp *c, struct rv_block *b, rv_icount from) {
    struct rv_counting *t = c->count;
    t->open.b = b;
    t->open.from = from;
    t->open.any = true;
    t->open.number = rv_count_number(c, b, c->cpl == 3);
}

void rv_count_enter(struct rv_interp *c) {
    rv_count_step(c, c->count->found, c->x.icount);
    c->hot.counts[c->count->open.number]++;
}

void rv_count_left(struct rv_interp *c, rv_icount to) {
    struct rv_counting *t = c->count;
    if (!t->open.any) return;
    t->open.any = false;
    const struct rv_block *b = t->open.b;
    uint64_t k = to - t->open.from;
    if (k == b->n) return;
    add_cut(t, KEY(t->now, t->open.number, k, k ? b->insn[k].off : 0));
}

/* ---- on, off, and what was counted ---- */

static void clear(struct rv_interp *c) {
    struct rv_counting *t = c->count;
    for (uint32_t i = 0; i < t->spaces; i++) free(t->space[i].n);
    t->spaces = 0;
    memset(t->by_cr3, 0, sizeof t->by_cr3);
    t->loaded = t->open.any = false;
    t->tag = 0;
    c->hot.counts = NULL;
    if (t->cuts) memset(t->cut, 0, t->cut_room * sizeof *t->cut);
    t->cuts = 0;
    sweep(t);
}

void rv_count_free(struct rv_interp *c) {
    struct rv_counting *t = c->count;
    if (!t) return;
    clear(c);
    free(t->code);
    free(t->space);
    free(t->cut);
    free(t);
    c->count = NULL;
}

void rv_count_set(struct rv_interp *c, bool on) {
    if (on && c->count) {
        clear(c);
        return;
    }
    if (!on && !c->count) return;
    /* Code that was translated counts, or does not. */
    rv_block_flush(c);
    if (!on) {
        rv_count_free(c);
        return;
    }
    c->count = rv_alloc(sizeof *c->count);
    struct code nowhere = {
        .va = RV_COUNT_NOWHERE, .pa = RV_COUNT_NOWHERE, .n = 1, .bytes = 0, .blocks = 1};
    uint32_t n = new_number(c->count);
    c->count->code[n] = nowhere;
}

static int by_key(const void *a, const void *b) {
    uint64_t x = ((const struct cut *)a)->key, y = ((const struct cut *)b)->key;
    return x < y ? -1 : x > y;
}

static struct cut *sorted(const struct rv_counting *t) {
    struct cut *list = rv_alloc((t->cuts + 1) * sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < t->cut_room; i++)
        if (t->cut[i].key) list[n++] = t->cut[i];
    qsort(list, n, sizeof *list, by_key);
    list[n].key = UINT64_MAX;
    return list;
}

/* One block in one space, in parts that end where it was left early. */
static const struct cut *visit_code(const struct space *s, const struct code *k, uint64_t times,
                                    const struct cut *cut, uint64_t end,
                                    void (*each)(void *ctx, const struct rv_count *), void *ctx) {
    unsigned insn = 0, off = 0;
    for (;; cut++) {
        bool last = cut->key >= end;
        unsigned to = last ? k->n : (unsigned)(cut->key >> 12 & 0x7f);
        unsigned to_off = last ? k->bytes : (unsigned)(cut->key & 0xfff);
        struct rv_count count = {.cr3 = s->cr3,
                                 .tag = s->tag,
                                 .va = k->va + off,
                                 .pa = k->pa + off,
                                 .bytes = to_off - off,
                                 .insns = to - insn,
                                 .times = times,
                                 .user = k->user};
        if (count.insns && times) each(ctx, &count);
        if (last) return cut;
        insn = to;
        off = to_off;
        times -= cut->times;
        count = (struct rv_count){.cr3 = s->cr3,
                                  .va = k->va + off,
                                  .pa = k->pa + off,
                                  .times = cut->times,
                                  .user = k->user};
        each(ctx, &count);
    }
}

void rv_count_visit(const struct rv_interp *c,
                    void (*each)(void *ctx, const struct rv_count *count), void *ctx) {
    const struct rv_counting *t = c->count;
    if (!t) return;
    struct cut *list = sorted(t);
    const struct cut *cut = list;
    for (uint32_t i = 0; i < t->spaces; i++) {
        const struct space *s = &t->space[i];
        for (uint32_t n = 0; n < t->codes && n < s->room; n++)
            if (s->n[n])
                cut = visit_code(s, &t->code[n], s->n[n], cut, KEY(i, n + 1, 0, 0), each, ctx);
    }
    free(list);
}
