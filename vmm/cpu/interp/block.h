/* The cache of decoded blocks. Private to vmm/cpu/interp. */
#ifndef RV_VMM_CPU_INTERP_BLOCK_H
#define RV_VMM_CPU_INTERP_BLOCK_H

#include "vmm/cpu/interp/interp.h"

int rv_blocks_new(struct rv_interp *c, struct rv_err *err);
void rv_blocks_free(struct rv_interp *c);

/* The block at linear address va for the current mode: cached, or decoded now. Raises what fetching
 * its first instruction raises. Never NULL; valid until the next call or write to code. */
struct rv_block *rv_block_find(struct rv_interp *c, uint64_t va);

/* As rv_block_find for the block that follows from, which has just been run to its end without
 * anything unusual; remembered in from. */
struct rv_block *rv_block_link(struct rv_interp *c, struct rv_block *from, uint64_t va);

/* The same, quickly when it was remembered. Between the two blocks neither the mode nor the mapping
 * of from's page can have changed: whatever changes them makes the dispatcher look up the next
 * block. */
static inline struct rv_block *rv_block_follow(struct rv_interp *c, struct rv_block *from,
                                               uint64_t va) {
    const struct rv_chain *l = &from->chain[va == from->va + from->len];
    if (rv_likely(l->va == va && l->epoch == c->block_epoch)) {
        if (rv_likely(!((va ^ from->va) & RV_PAGE_MASK))) return l->to;
        const struct rv_tlbe *e = rv_tlb_at(c->tlb->x, va);
        if (rv_likely(rv_tlb_hit(e, va) && e->addend == (l->to->pa & RV_PAGE_MASK))) return l->to;
    }
    return rv_block_link(c, from, va);
}

/* Whether b is no block of the cache's, but one that the next call overwrites: its code is not in
 * RAM. */
bool rv_block_is_passing(const struct rv_interp *c, const struct rv_block *b);

/* The block at va for the current mode if it lies at pa and is decoded already; or NULL. Where its
 * rest lies when it crosses into another page is not looked at. */
struct rv_block *rv_block_known(struct rv_interp *c, uint64_t va, uint64_t pa);

/* A block of only b's first instruction, in a place of its own, for single stepping. */
struct rv_block *rv_block_first(struct rv_interp *c, const struct rv_block *b);
/* A block of only one of b's instructions, in a place that the next call writes to. */
struct rv_block *rv_block_one(struct rv_interp *c, const struct rv_block *b, unsigned at);

/* Whether decoded code covers any of these bytes of RAM (within one page). */
bool rv_block_covers(const struct rv_interp *c, uint64_t offset, uint64_t size);
/* These bytes of RAM change (within one page): forget what was decoded from them. */
void rv_block_written(struct rv_interp *c, uint64_t offset, uint64_t size);
/* RAM may have changed unseen: from now on each block is compared with memory before it runs. */
void rv_block_distrust(struct rv_interp *c);
/* Forgets everything. */
void rv_block_flush(struct rv_interp *c);
/* Forgets the blocks that match() picks. */
void rv_block_forget_if(struct rv_interp *c, bool (*match)(const struct rv_block *, const void *),
                        const void *ctx);
/* The same of those alone that may hold bytes of a range of linear addresses; len is at least 1. */
void rv_block_forget_at(struct rv_interp *c, uint64_t va, uint64_t len,
                        bool (*match)(const struct rv_block *, const void *), const void *ctx);
void rv_block_forget_watched(struct rv_interp *c);

/* Decodes instructions at bytes[0..n) into out (room for max + 1), stopping at one that ends the
 * block, at max, or where the bytes end. Returns how many and *len bytes; 0 when even the first
 * does not fit in n bytes. Ends with a closing operation. What is no instruction decodes to one
 * that raises #UD (or #GP when longer than 15 bytes). */
unsigned rv_decode_block(struct rv_interp *c, const uint8_t *bytes, size_t n, uint64_t rip,
                         struct rv_insn *out, unsigned max, unsigned *len);

#endif
