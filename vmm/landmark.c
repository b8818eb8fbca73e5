#include "vmm/landmark.h"

#include <xxhash.h>

static uint64_t linear(const struct rv_x86 *x) {
    const struct rv_seg *cs = &x->seg[RV_CS];
    if ((x->efer & RV_EFER_LMA) && (cs->attr & RV_SEG_L)) return x->rip;
    return (uint32_t)(cs->base + x->rip);
}

static void look(struct rv_landmark *out, const struct rv_x86 *x) {
    out->at = linear(x);
    out->gpr = XXH3_64bits(x->gpr, sizeof x->gpr);
}

static uint64_t whole_cpu(const struct rv_x86 *x) {
    struct rv_x86 c = *x;
    rv_x86_canonical(&c);
    return rv_x86_hash(&c, 0);
}

static void note_words(struct rv_landmark *out, struct rv_engine *e, const struct rv_ram *ram) {
    out->words = 0;
    if (!e->ops->recent_writes) return;
    rv_gpa gpa[RV_LANDMARK_WORDS];
    unsigned n = e->ops->recent_writes(e, gpa, RV_LANDMARK_WORDS);
    for (unsigned i = 0; i < n; i++) {
        struct rv_word *w = &out->word[out->words];
        w->gpa = gpa[i];
        if (rv_ram_read(ram, w->gpa, &w->value, sizeof w->value)) out->words++;
    }
}

static bool words_equal(const struct rv_landmark *l, const struct rv_ram *ram) {
    for (unsigned i = 0; i < l->words; i++) {
        uint64_t v;
        if (!rv_ram_read(ram, l->word[i].gpa, &v, sizeof v) || v != l->word[i].value) return false;
    }
    return true;
}

void rv_landmark_of(struct rv_landmark *out, struct rv_engine *e, struct rv_ram *ram) {
    struct rv_x86 x;
    e->ops->get(e, &x);
    look(out, &x);
    out->undefined = e->ops->undefined_flags ? e->ops->undefined_flags(e) & RV_FL_ARITH : 0;
    x.rflags &= ~(uint64_t)out->undefined;
    out->cpu = whole_cpu(&x);
    out->ram = rv_ram_digest(ram);
    note_words(out, e, ram);
}

bool rv_landmark_is(const struct rv_landmark *wanted, struct rv_engine *e, struct rv_ram *ram,
                    uint64_t *candidates) {
    struct rv_x86 x;
    struct rv_landmark here;
    e->ops->get(e, &x);
    if (linear(&x) != wanted->at) return false;
    look(&here, &x);
    if (here.gpr != wanted->gpr || !words_equal(wanted, ram)) return false;
    ++*candidates;
    x.rflags &= ~(uint64_t)wanted->undefined;
    return whole_cpu(&x) == wanted->cpu && rv_ram_digest(ram) == wanted->ram;
}
