/* From block to block. Inside a page a block's jump is patched to lead straight to the next: what
 * maps one maps the other. Elsewhere the jump tables say where an address is translated. */
#include <stdlib.h>

#include "vmm/cpu/xlate/xlate.h"

void rv_link(struct rv_out *out, struct rv_tb *to) {
    rv_patch(out->jump, to->code);
    out->to = to;
    out->next = to->from;
    to->from = out;
}

static void unlink_out(struct rv_out *out) {
    if (!out->to) return;
    struct rv_out **p = &out->to->from;
    while (*p != out) p = &(*p)->next;
    *p = out->next;
    out->to = NULL;
}

void rv_unlink_tb(struct rv_interp *c, struct rv_tb *tb) {
    while (tb->from) {
        struct rv_out *out = tb->from;
        rv_patch(out->jump, out->stub);
        unlink_out(out);
    }
    for (unsigned n = 0; n < RV_COUNT(tb->out); n++) {
        unlink_out(&tb->out[n]);
        if (c->xlate->last == &tb->out[n]) c->xlate->last = NULL;
    }
    if (c->xlate->refused == tb->b) c->xlate->refused = NULL;
    struct rv_jte *e = &rv_jt(c, tb->set)->e[rv_jt_index(tb->b->va)];
    if (e->code == tb->entry) e->tag = rv_jt_index(tb->b->va) ? 0 : -(1ull << RV_JT_SLOT_LOW);
    tb->b->tb[tb->set] = NULL;
    tb->b->code[tb->set] = NULL;
    *tb->prev = tb->next;
    if (tb->next) tb->next->prev = tb->prev;
    free(tb);
}

/* An empty entry has the tag of an address that belongs to another entry: 0, or in the entry of 0
 * the next slot's. */
static void clear_page(struct rv_jt *jt, unsigned page) {
    struct rv_jte *e = &jt->e[page << RV_JT_SLOT_BITS];
    for (unsigned n = 0; n < 1u << RV_JT_SLOT_BITS; n++) e[n].tag = 0;
    if (page == 0) e[0].tag = -(1ull << RV_JT_SLOT_LOW);
}

void rv_jt_clear_pages(struct rv_interp *c, uint64_t number, unsigned bits) {
    for (unsigned s = 0; s < RV_XLATE_SETS; s++) {
        struct rv_jt *jt = rv_jt(c, s);
        for (unsigned page = (unsigned)number; page < 1u << RV_JT_PAGE_BITS; page += 1u << bits) {
            if (!(jt->used[page / 64] >> (page % 64) & 1)) continue;
            clear_page(jt, page);
            jt->used[page / 64] &= ~(1ull << (page % 64));
        }
    }
}

void rv_jt_clear(struct rv_interp *c) {
    for (unsigned s = 0; s < RV_XLATE_SETS; s++) {
        struct rv_jt *jt = rv_jt(c, s);
        for (unsigned w = 0; w < RV_COUNT(jt->used); w++)
            while (jt->used[w]) {
                unsigned bit = (unsigned)__builtin_ctzll(jt->used[w]);
                clear_page(jt, w * 64 + bit);
                jt->used[w] &= jt->used[w] - 1;
            }
    }
}

void rv_jt_put(struct rv_interp *c, unsigned set, uint64_t va, const uint8_t *code) {
    struct rv_jt *jt = rv_jt(c, set);
    unsigned n = rv_jt_index(va), page = n >> RV_JT_SLOT_BITS;
    jt->e[n] = (struct rv_jte){.tag = 0 - va, .code = code};
    jt->used[page / 64] |= 1ull << (page % 64);
}
