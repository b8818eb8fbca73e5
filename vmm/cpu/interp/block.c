/* The block cache. Blocks are found through a small table by linear address (c->jumps) whose answer
 * counts only while the address still maps to the physical page the block was decoded from; behind
 * it stands a hash by physical address. Each RAM page lists its blocks, so that a write to the page
 * finds them. */
#include "vmm/cpu/interp/block.h"

#include <stdlib.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/interp/count.h"
#include "vmm/cpu/interp/mmu.h"
#include "vmm/cpu/interp/ops.h"
#include "vmm/cpu/interp/watch.h"

#define HASH_BITS   17
#define HASH_SIZE   (1u << HASH_BITS)
#define LINEAR_SIZE (1u << 12)
#define GRANULE     6 /* log2 of the bytes a bit of a page's coverage map stands for */
#define MEMORY_MAX  (512u << 20)
#define INSN_MAX    15u /* bytes */

struct code_page {
    uint64_t covered;            /* bit n: a block has bytes in granule n */
    struct rv_block_link *links; /* of blocks that begin here, or whose tail lies here */
};

struct rv_blocks {
    struct rv_block *hash[HASH_SIZE];
    struct rv_block *linear[LINEAR_SIZE]; /* by the linear page they begin in */
    struct rv_block *watched, *all;
    struct code_page **pages; /* one a RAM page, NULL without code */
    struct rv_block *dead;    /* to be freed when surely no longer running; linked by hash_next */
    struct rv_block *first;   /* room for rv_block_first and for code outside RAM, */
    struct rv_block *one;     /* and for rv_block_one */
    size_t memory;
    struct rv_insn scratch[RV_BLOCK_INSNS + 1];
};

int rv_blocks_new(struct rv_interp *c, struct rv_err *err) {
    (void)err;
    c->blocks = rv_alloc(sizeof *c->blocks);
    c->block_epoch = 1;
    c->blocks->pages = rv_alloc((c->ram->size >> RV_PAGE_SHIFT) * sizeof *c->blocks->pages);
    c->blocks->first = rv_alloc(sizeof(struct rv_block) + 2 * sizeof(struct rv_insn));
    c->blocks->one = rv_alloc(sizeof(struct rv_block) + 2 * sizeof(struct rv_insn));
    return 0;
}

static void bury(struct rv_blocks *bs) {
    while (bs->dead) {
        struct rv_block *b = bs->dead;
        bs->dead = b->hash_next;
        free(b);
    }
}

void rv_blocks_free(struct rv_interp *c) {
    if (!c->blocks) return;
    rv_block_flush(c);
    bury(c->blocks);
    uint64_t n = c->ram->size >> RV_PAGE_SHIFT;
    for (uint64_t i = 0; i < n; i++) free(c->blocks->pages[i]);
    free(c->blocks->pages);
    free(c->blocks->first);
    free(c->blocks->one);
    free(c->blocks);
    c->blocks = NULL;
}

static unsigned hash_of(uint64_t pa, uint64_t va, uint32_t mode) {
    uint64_t h = (pa ^ (va >> 12) * 0x9e3779b97f4a7c15ull ^ mode) * 0xff51afd7ed558ccdull;
    return (unsigned)(h >> (64 - HASH_BITS));
}

static struct rv_jump *jump_of(struct rv_interp *c, uint64_t va) {
    return &c->jumps[(va ^ va >> 15) & (RV_JUMP_SIZE - 1)];
}

static struct rv_block **linear_of(struct rv_blocks *bs, uint64_t va) {
    return &bs->linear[va >> RV_PAGE_SHIFT & (LINEAR_SIZE - 1)];
}

static uint64_t granules(uint64_t from, uint64_t size) {
    unsigned a = (unsigned)(from & 0xfff) >> GRANULE;
    unsigned b = (unsigned)((from + size - 1) & 0xfff) >> GRANULE;
    return (b - a == 63 ? ~0ull : ((1ull << (b - a + 1)) - 1)) << a;
}

static size_t block_bytes(const struct rv_block *b) {
    return sizeof *b + (b->n + 1u) * sizeof b->insn[0] + (b->bytes ? b->len : 0);
}

static void unlink_page(struct rv_blocks *bs, uint64_t page, struct rv_block_link *link) {
    struct rv_block_link **p = &bs->pages[page]->links;
    while (*p != link) p = &(*p)->next;
    *p = link->next;
}

/* RAM page number of a physical address that is known to be RAM. */
static uint64_t page_of(const struct rv_interp *c, uint64_t pa) {
    return rv_ram_offset(c->ram, pa) >> RV_PAGE_SHIFT;
}

static void forget(struct rv_interp *c, struct rv_block *b) {
    struct rv_blocks *bs = c->blocks;
    struct rv_block **p = &bs->hash[hash_of(b->pa, b->va, b->mode)];
    while (*p != b) p = &(*p)->hash_next;
    *p = b->hash_next;
    *b->linear_at = b->linear_next;
    if (b->linear_next) b->linear_next->linear_at = b->linear_at;
    *b->all_at = b->all_next;
    if (b->all_next) b->all_next->all_at = b->all_at;
    if (b->watched) {
        *b->watched_at = b->watched_next;
        if (b->watched_next) b->watched_next->watched_at = b->watched_at;
    }
    struct rv_jump *j = jump_of(c, b->va);
    if (j->b == b) j->b = NULL;
    unlink_page(bs, page_of(c, b->pa), &b->in_page[0]);
    if (b->crosses) unlink_page(bs, page_of(c, b->pa2), &b->in_page[1]);
    bs->memory -= block_bytes(b);
    b->dead = true;
    c->block_epoch++;
    c->changed = true;
    if (c->hooks) c->hooks->forgotten(c, b);
    if (c->count) rv_count_forgotten(c, b);
    b->hash_next = bs->dead;
    bs->dead = b;
}

bool rv_block_covers(const struct rv_interp *c, uint64_t offset, uint64_t size) {
    const struct code_page *p = c->blocks->pages[offset >> RV_PAGE_SHIFT];
    return p && (p->covered & granules(offset, size));
}

void rv_block_written(struct rv_interp *c, uint64_t offset, uint64_t size) {
    uint64_t page = offset >> RV_PAGE_SHIFT;
    struct code_page *p = c->blocks->pages[page];
    if (!p || !(p->covered & granules(offset, size))) return;
    uint64_t covered = 0;
    /* Forgotten blocks stay readable, and their links lead on. */
    for (struct rv_block_link *l = p->links; l; l = l->next) {
        struct rv_block *b = l->block;
        if (b->dead) continue;
        bool tail = l == &b->in_page[1];
        uint64_t from = tail ? page << RV_PAGE_SHIFT : rv_ram_offset(c->ram, b->pa);
        uint64_t len = b->len;
        if (b->crosses) {
            uint64_t in_first = RV_PAGE_SIZE - (b->pa & 0xfff);
            len = tail ? b->len - in_first : in_first;
        }
        if (from < offset + size && offset < from + len)
            forget(c, b);
        else
            covered |= granules(from, len);
    }
    p->covered = covered;
    if (!covered) c->mmu->pages[page].code = false;
}

static void forget_one(struct rv_interp *c, struct rv_block *b) {
    uint64_t page = page_of(c, b->pa);
    forget(c, b);
    if (!c->blocks->pages[page]->links) {
        c->blocks->pages[page]->covered = 0;
        c->mmu->pages[page].code = false;
    }
}

void rv_block_forget_if(struct rv_interp *c, bool (*match)(const struct rv_block *, const void *),
                        const void *ctx) {
    for (struct rv_block *b = c->blocks->all, *next; b; b = next) {
        next = b->all_next;
        if (match(b, ctx)) forget_one(c, b);
    }
}

void rv_block_forget_at(struct rv_interp *c, uint64_t va, uint64_t len,
                        bool (*match)(const struct rv_block *, const void *), const void *ctx) {
    /* A block reaches into the next page with its only instruction. */
    uint64_t first = (va >> RV_PAGE_SHIFT) - 1, last = (va + len - 1) >> RV_PAGE_SHIFT;
    if (last - first >= LINEAR_SIZE) {
        rv_block_forget_if(c, match, ctx);
        return;
    }
    for (uint64_t page = first; page != last + 1; page++)
        for (struct rv_block *b = *linear_of(c->blocks, page << RV_PAGE_SHIFT), *next; b;
             b = next) {
            next = b->linear_next;
            if (match(b, ctx)) forget_one(c, b);
        }
}

void rv_block_forget_watched(struct rv_interp *c) {
    while (c->blocks->watched) forget_one(c, c->blocks->watched);
}

static bool any(const struct rv_block *b, const void *ctx) {
    (void)b, (void)ctx;
    return true;
}

void rv_block_flush(struct rv_interp *c) { rv_block_forget_if(c, any, NULL); }

static void add_to_page(struct rv_interp *c, uint64_t pa, uint64_t len, struct rv_block *b,
                        bool tail) {
    uint64_t offset = rv_ram_offset(c->ram, pa), page = offset >> RV_PAGE_SHIFT;
    struct code_page **slot = &c->blocks->pages[page];
    if (!*slot) *slot = rv_alloc(sizeof **slot);
    struct code_page *p = *slot;
    struct rv_block_link *link = &b->in_page[tail];
    *link = (struct rv_block_link){.block = b, .next = p->links};
    p->links = link;
    p->covered |= granules(offset, len);
    c->mmu->pages[page].code = true;
    rv_mmu_protect(c, page);
}

static struct rv_block *decode_at(struct rv_interp *c, uint64_t va, uint64_t pa) {
    struct rv_blocks *bs = c->blocks;
    uint64_t off = rv_ram_offset(c->ram, pa);
    size_t in_page = RV_PAGE_SIZE - (va & 0xfff);
    uint8_t straddle[32];
    const uint8_t *bytes;
    memset(straddle, 0xff, sizeof straddle); /* what an idle bus reads as */
    bool in_ram = off != UINT64_MAX;
    if (in_ram) {
        bytes = c->ram->host + off;
    } else {
        bytes = straddle;
        if (in_page > 16) in_page = 16;
    }
    unsigned len, n = rv_decode_block(c, bytes, in_page, va - c->cs_base, bs->scratch,
                                      in_ram ? RV_BLOCK_INSNS : 1, &len);
    uint64_t pa2 = 0;
    bool crosses = false;
    if (n == 0) {
        /* The first instruction goes on in the next page, whose fetch may fault. */
        pa2 = rv_mmu_fetch(c, va + in_page);
        uint64_t off2 = rv_ram_offset(c->ram, pa2);
        memset(straddle, 0xff, sizeof straddle);
        memcpy(straddle, bytes, in_page);
        if (off2 != UINT64_MAX) memcpy(straddle + in_page, c->ram->host + off2, INSN_MAX);
        in_ram = in_ram && off2 != UINT64_MAX;
        crosses = true;
        n = rv_decode_block(c, straddle, in_page + INSN_MAX, va - c->cs_base, bs->scratch, 1, &len);
        rv_assert(n == 1);
        /* It may depend on any of these bytes that they are no instruction. */
        if (len <= in_page) len = INSN_MAX;
    }
    bool watched;
    unsigned kept = rv_watch_cut(c, va, pa, bs->scratch, n, &watched);
    if (kept < n) {
        n = kept;
        len = bs->scratch[n].off;
        bs->scratch[n] = (struct rv_insn){.op = rv_op_block_end, .off = (uint16_t)len};
    }
    struct rv_block *b;
    if (in_ram) {
        if (bs->memory > MEMORY_MAX) rv_block_flush(c);
        b = rv_alloc(sizeof *b + (n + 1) * sizeof b->insn[0] + (c->trust ? len : 0));
    } else {
        b = bs->first;
    }
    *b = (struct rv_block){.va = va,
                           .pa = pa,
                           .pa2 = pa2,
                           .mode = c->mode,
                           .n = (uint16_t)n,
                           .len = (uint16_t)len,
                           .crosses = crosses,
                           .trust = c->trust,
                           .watched = watched,
                           .flow = (uint8_t)rv_watch_flow(bs->scratch[n - 1].op)};
    memcpy(b->insn, bs->scratch, (n + 1) * sizeof b->insn[0]);
    if (watched) {
        b->first_op = b->insn[0].op;
        b->insn[0].op = rv_op_watched;
    }
    if (!in_ram) return b;
    if (c->trust) {
        b->bytes = (uint8_t *)&b->insn[n + 1];
        memcpy(b->bytes, crosses ? straddle : bytes, len);
    }
    unsigned h = hash_of(pa, va, c->mode);
    b->hash_next = bs->hash[h];
    bs->hash[h] = b;
    b->linear_at = linear_of(bs, va);
    b->linear_next = *b->linear_at;
    if (b->linear_next) b->linear_next->linear_at = &b->linear_next;
    *b->linear_at = b;
    b->all_at = &bs->all;
    b->all_next = bs->all;
    if (b->all_next) b->all_next->all_at = &b->all_next;
    bs->all = b;
    if (watched) {
        b->watched_at = &bs->watched;
        b->watched_next = bs->watched;
        if (b->watched_next) b->watched_next->watched_at = &b->watched_next;
        bs->watched = b;
    }
    bs->memory += block_bytes(b);
    add_to_page(c, pa, crosses ? in_page : len, b, false);
    if (crosses) add_to_page(c, pa2, len - in_page, b, true);
    return b;
}

/* Whether memory still holds what b was decoded from; forgets it when not. */
static bool confirm(struct rv_interp *c, struct rv_block *b) {
    if (rv_likely(b->trust == c->trust)) return true;
    uint64_t first = b->crosses ? RV_PAGE_SIZE - (b->pa & 0xfff) : b->len;
    if (b->bytes && memcmp(c->ram->host + rv_ram_offset(c->ram, b->pa), b->bytes, first) == 0 &&
        (!b->crosses || memcmp(c->ram->host + rv_ram_offset(c->ram, b->pa2), b->bytes + first,
                               b->len - first) == 0)) {
        b->trust = c->trust;
        return true;
    }
    forget(c, b);
    return false;
}

void rv_block_distrust(struct rv_interp *c) {
    if (c->trust == 0 || c->trust == UINT32_MAX) {
        /* Nothing that is cached kept its bytes, or the count starts anew. */
        rv_block_flush(c);
        c->trust = 0;
    }
    c->trust++;
    c->block_epoch++;
}

struct rv_block *rv_block_find(struct rv_interp *c, uint64_t va) {
    if (!(c->mode & RV_MODE_64)) va &= 0xffffffffu;
    struct rv_jump *j = jump_of(c, va);
    struct rv_block *b = j->b;
    uint64_t pa = rv_mmu_fetch(c, va);
    if (rv_likely(b && j->va == va && b->pa == pa && b->mode == c->mode) && confirm(c, b)) {
        if (rv_likely(!b->crosses)) return b;
        if (rv_mmu_fetch(c, (va | 0xfff) + 1) == b->pa2) return b;
    }
    bury(c->blocks);
    struct rv_block *next;
    for (b = c->blocks->hash[hash_of(pa, va, c->mode)]; b; b = next) {
        next = b->hash_next; /* confirm() may forget b */
        if (b->va == va && b->pa == pa && b->mode == c->mode &&
            (!b->crosses || rv_mmu_fetch(c, (va | 0xfff) + 1) == b->pa2) && confirm(c, b))
            break;
    }
    if (!b) {
        b = decode_at(c, va, pa);
        if (b == c->blocks->first) return b;
    }
    j->va = va;
    j->b = b;
    return b;
}

struct rv_block *rv_block_known(struct rv_interp *c, uint64_t va, uint64_t pa) {
    struct rv_block *b = c->blocks->hash[hash_of(pa, va, c->mode)];
    while (b && !(b->va == va && b->pa == pa && b->mode == c->mode)) b = b->hash_next;
    return b;
}

struct rv_block *rv_block_link(struct rv_interp *c, struct rv_block *from, uint64_t va) {
    if (from->dead || from == c->blocks->first) return rv_block_find(c, va);
    struct rv_chain *l = &from->chain[va == from->va + from->len];
    struct rv_block *b = rv_block_find(c, va);
    /* Blocks over two pages, or outside RAM, are looked up each time. from itself may be gone if
     * making room for b took it. */
    if (!b->crosses && b != c->blocks->first && !from->dead)
        *l = (struct rv_chain){.va = va, .epoch = c->block_epoch, .to = b};
    return b;
}

/* Writes only what differs between such blocks: this is done for every step. */
static struct rv_block *make_one(struct rv_block *f, const struct rv_block *b, unsigned at) {
    const struct rv_insn *i = &b->insn[at];
    f->va = b->va + i->off;
    f->pa = b->pa + i->off;
    f->mode = b->mode;
    f->n = 1;
    f->len = i->len;
    f->crosses = b->crosses;
    f->pa2 = b->pa2;
    f->watched = b->watched && !at;
    f->flow = at + 1u == b->n ? b->flow : RV_FLOW_ON;
    f->first_op = b->first_op;
    f->insn[0] = *i;
    f->insn[0].off = f->insn[0].at = 0;
    f->insn[1].op = rv_op_block_end;
    f->insn[1].off = i->len;
    return f;
}

bool rv_block_is_passing(const struct rv_interp *c, const struct rv_block *b) {
    return b == c->blocks->first;
}

struct rv_block *rv_block_first(struct rv_interp *c, const struct rv_block *b) {
    struct rv_block *f = c->blocks->first;
    return b == f ? f : make_one(f, b, 0);
}

struct rv_block *rv_block_one(struct rv_interp *c, const struct rv_block *b, unsigned at) {
    return make_one(c->blocks->one, b, at);
}
