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
    return rv_state_hash(rv_x86_fields, &c, 0);
}

void rv_landmark_of(struct rv_landmark *out, struct rv_engine *e, struct rv_ram *ram) {
    struct rv_x86 x;
    e->ops->get(e, &x);
    look(out, &x);
    out->cpu = whole_cpu(&x);
    out->ram = rv_ram_digest(ram);
}

bool rv_landmark_is(const struct rv_landmark *wanted, struct rv_engine *e, struct rv_ram *ram,
                    uint64_t *candidates) {
    struct rv_x86 x;
    struct rv_landmark here;
    e->ops->get(e, &x);
    if (linear(&x) != wanted->at) return false;
    look(&here, &x);
    if (here.gpr != wanted->gpr) return false;
    ++*candidates;
    return whole_cpu(&x) == wanted->cpu && rv_ram_digest(ram) == wanted->ram;
}
