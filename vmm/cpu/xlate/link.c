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

/* An empty entry has the tag of an address that belongs to another entry: 0, or in the entry of 0
 * the next one's. */
static uint64_t empty_tag(unsigned n) { return n ? 0 : 0 - (1ull << RV_JT_LOW); }

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
    unlink_out(&tb->on);
    if (c->xlate->last && c->xlate->last->tb == tb) c->xlate->last = NULL;
    for (unsigned k = 0; k < tb->parts; k++) {
        struct rv_part *p = &tb->part[k];
        unlink_out(&p->away);
        if (k == 0) continue;
        *p->prev = p->next;
        if (p->next) p->next->prev = p->prev;
    }
    if (c->xlate->refused == tb->b) c->xlate->refused = NULL;
    unsigned n = rv_jt_index(tb->b->va);
    struct rv_jte *e = &rv_jt(c, tb->set)->e[n];
    if (e->code == tb->entry) e->tag = empty_tag(n);
    tb->b->tb[tb->set] = NULL;
    tb->b->code[tb->set] = NULL;
    *tb->prev = tb->next;
    if (tb->next) tb->next->prev = tb->prev;
    free(tb);
}

static void clear_group(struct rv_jt *jt, unsigned group) {
    unsigned first = group * RV_JT_GROUP;
    for (unsigned n = first; n < first + RV_JT_GROUP; n++) jt->e[n].tag = empty_tag(n);
    jt->used[group / 64] &= ~(1ull << (group % 64));
}

void rv_jt_clear_pages(struct rv_interp *c, uint64_t number, unsigned bits, bool low_only) {
    unsigned pages = 1u << RV_JT_PAGE_BITS, per_page = RV_JT_GROUPS / pages;
    unsigned step = bits < RV_JT_PAGE_BITS ? 1u << bits : pages;
    for (unsigned s = 0; s < RV_XLATE_SETS; s++) {
        struct rv_jt *jt = rv_jt(c, s);
        if (low_only && !jt->low) continue;
        for (unsigned page = number & (step - 1); page < pages; page += step)
            for (unsigned g = page * per_page; g < (page + 1) * per_page; g++)
                if (jt->used[g / 64] >> (g % 64) & 1) clear_group(jt, g);
    }
}

void rv_jt_clear(struct rv_interp *c, bool low_only) {
    for (unsigned s = 0; s < RV_XLATE_SETS; s++) {
        struct rv_jt *jt = rv_jt(c, s);
        if (low_only && !jt->low) continue;
        jt->low = false;
        for (unsigned w = 0; w < RV_COUNT(jt->used); w++)
            while (jt->used[w]) clear_group(jt, w * 64 + (unsigned)__builtin_ctzll(jt->used[w]));
    }
}

void rv_jt_put(struct rv_interp *c, unsigned set, uint64_t va, const uint8_t *code) {
    struct rv_jt *jt = rv_jt(c, set);
    unsigned n = rv_jt_index(va), group = n / RV_JT_GROUP;
    jt->e[n] = (struct rv_jte){.tag = 0 - va, .code = code};
    jt->used[group / 64] |= 1ull << (group % 64);
    jt->low |= !(va >> 63);
}
