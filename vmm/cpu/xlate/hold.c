/* Guest registers that have no host register, in scratch registers for a while.
 *
 * Their place is memory, and whatever changes one stores it there. But what an instruction had in a
 * scratch register is still there for the next one, if nothing used the scratch register in
 * between: a chain of operations then need not wait for its own stores, which takes longer than
 * each of them. A step, which comes back to behind its instruction with nothing in these registers,
 * ends it all. */
#include "vmm/cpu/xlate/translate.h"

static const uint8_t holders[RV_HOLDERS] = {H10, HCX, H11};

void rv_hold_none(struct rv_translation *t) {
    memset(t->held, 0, sizeof t->held);
    t->e.scratch_written = 0;
}

void rv_hold_settle(struct rv_translation *t) {
    for (unsigned n = 0; n < RV_HOLDERS; n++)
        if (t->e.scratch_written >> holders[n] & 1) t->held[n] = 0;
    t->e.scratch_written = 0;
}

static int held_in(const struct rv_translation *t, unsigned guest, unsigned avoid) {
    for (int n = 0; n < RV_HOLDERS; n++)
        if (t->held[n] == guest + 1 && !(avoid >> holders[n] & 1)) return n;
    return -1;
}

bool rv_is_held(struct rv_translation *t, unsigned guest) {
    rv_hold_settle(t);
    return held_in(t, guest, 0) >= 0;
}

/* An unused one, or the one that was longest not used. r11 has the window's addend, mostly. */
static unsigned choose(const struct rv_translation *t, unsigned avoid) {
    if (t->window && (~avoid & (1u << H10 | 1u << HCX))) avoid |= 1u << H11;
    unsigned best = RV_HOLDERS;
    for (unsigned n = 0; n < RV_HOLDERS; n++) {
        if (avoid >> holders[n] & 1) continue;
        if (!t->held[n]) return n;
        if (best == RV_HOLDERS || t->used[n] < t->used[best]) best = n;
    }
    rv_assert(best < RV_HOLDERS);
    return best;
}

unsigned rv_hold(struct rv_translation *t, unsigned guest, bool load, unsigned avoid) {
    rv_hold_settle(t);
    int n = held_in(t, guest, avoid);
    if (n < 0) {
        n = (int)choose(t, avoid);
        t->held[n] = 0;
        rv_emit_wrote(&t->e, holders[n]);
        t->e.scratch_written = 0;
        if (load) {
            rv_emit_load(&t->e, holders[n], rv_mem(HSP, RV_AT_GPR(guest)));
            t->e.scratch_written = 0;
            t->held[n] = (uint8_t)(guest + 1);
        }
    }
    t->used[n] = ++t->uses;
    return holders[n];
}

void rv_hold_changed(struct rv_translation *t, unsigned guest, unsigned host) {
    for (unsigned n = 0; n < RV_HOLDERS; n++) {
        if (t->held[n] == guest + 1) t->held[n] = 0;
        if (holders[n] == host) t->held[n] = (uint8_t)(guest + 1);
    }
}
