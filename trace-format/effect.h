/* What the events of a machine's trace mean beyond the neutral event: agreed between recorder and
 * player. */
#ifndef RV_TRACE_EFFECT_H
#define RV_TRACE_EFFECT_H

#include <stdint.h>

/* EFFECT.value2: FNV-1a over the positions of all bytes, each less the first one's, as eight bytes
 * little endian. Cheap, and only equality matters. */
struct rv_effect_hash {
    uint64_t h;
};
static inline void rv_effect_hash_begin(struct rv_effect_hash *e) { e->h = 0xcbf29ce484222325ull; }
static inline void rv_effect_hash_add(struct rv_effect_hash *e, uint64_t offset) {
    for (unsigned n = 0; n < 8; n++) e->h = (e->h ^ (offset >> (8 * n) & 0xff)) * 0x100000001b3ull;
}
static inline uint64_t rv_effect_hash_end(const struct rv_effect_hash *e) { return e->h; }

/* STOP.source. */
enum rv_stopped_by {
    RV_STOPPED_BY_GUEST = 0,     /* what the guest did ended the run: replay gets there itself */
    RV_STOPPED_FROM_OUTSIDE = 1, /* the host ended it: replay is told to */
};

/* Header options. */
#define RV_OPTION_DIGEST_EVERY "digest-every" /* number: instructions between digests */
#define RV_OPTION_BY_TRAP      "by-trap"      /* number: 1 when positions are traps */
#define RV_OPTION_QUIRKS       "quirks"       /* number: of the processor recorded on */
#define RV_OPTION_BOOT_KIND    "boot-kind"    /* number: enum rv_boot_kind as it was asked for */

#endif
