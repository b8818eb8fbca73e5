#include "tools/analysis/orc.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

struct rv_orc {
    uint64_t *ip;
    uint8_t *entry;
    size_t n;
    bool wide;
};

struct rv_orc *rv_orc_new(const uint8_t *ips, const uint8_t *entries, size_t n, uint64_t base,
                          bool wide) {
    struct rv_orc *o = rv_alloc(sizeof *o);
    o->ip = rv_alloc((n + 1) * sizeof *o->ip);
    o->entry = rv_alloc(6 * n + 1);
    memcpy(o->entry, entries, 6 * n);
    o->n = n;
    o->wide = wide;
    for (size_t i = 0; i < n; i++) {
        int32_t distance;
        memcpy(&distance, ips + 4 * i, 4);
        o->ip[i] = base + 4 * i + (uint64_t)(int64_t)distance;
        if (i && o->ip[i] < o->ip[i - 1]) {
            rv_orc_free(o);
            return NULL;
        }
    }
    return o;
}

void rv_orc_free(struct rv_orc *o) {
    if (!o) return;
    free(o->ip);
    free(o->entry);
    free(o);
}

bool rv_orc_find(const struct rv_orc *o, uint64_t ip, struct rv_orc_entry *out) {
    static const uint8_t old[4] = {RV_ORC_CALL, RV_ORC_REGS, RV_ORC_REGS_PARTIAL, RV_ORC_UNDEFINED};
    size_t lo = 0, hi = o->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (o->ip[mid] <= ip)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo) return false;
    const uint8_t *e = o->entry + 6 * (lo - 1);
    uint16_t bits;
    memcpy(&out->sp_offset, e, 2);
    memcpy(&out->bp_offset, e + 2, 2);
    memcpy(&bits, e + 4, 2);
    out->sp_reg = bits & 15;
    out->bp_reg = bits >> 4 & 15;
    if (o->wide) {
        out->type = bits >> 8 & 7;
        if (out->type > RV_ORC_REGS_PARTIAL) out->type = RV_ORC_UNDEFINED;
        return true;
    }
    out->type = old[bits >> 8 & 3];
    if (out->sp_reg == RV_ORC_NONE) out->type = bits >> 10 & 1 ? RV_ORC_END : RV_ORC_UNDEFINED;
    return true;
}
