#include "tools/analysis/view.h"

#include <string.h>

#include "replay/gdb/guest.h"

void rv_view_of(struct rv_view *v, struct rv_machine *m) {
    struct rv_engine *e = rv_machine_engine(m);
    v->ram = rv_machine_ram(m);
    e->ops->get(e, &v->cpu);
}

bool rv_view_translate(const struct rv_view *v, uint64_t va, rv_gpa *pa) {
    return rv_gdb_translate(v->ram, &v->cpu, va, pa);
}

size_t rv_view_read(const struct rv_view *v, uint64_t va, void *out, size_t len) {
    uint8_t *to = out;
    size_t done = 0;
    while (done < len) {
        uint64_t at = va + done;
        size_t part = RV_PAGE_SIZE - (at & 0xfff);
        if (part > len - done) part = len - done;
        rv_gpa pa;
        if (!rv_view_translate(v, at, &pa) || !rv_ram_read(v->ram, pa, to + done, part)) break;
        done += part;
    }
    return done;
}

bool rv_view_u64(const struct rv_view *v, uint64_t va, uint64_t *out) {
    bool ok = rv_view_read(v, va, out, sizeof *out) == sizeof *out;
    if (!ok) *out = 0;
    return ok;
}

bool rv_view_u32(const struct rv_view *v, uint64_t va, uint32_t *out) {
    bool ok = rv_view_read(v, va, out, sizeof *out) == sizeof *out;
    if (!ok) *out = 0;
    return ok;
}

bool rv_view_u16(const struct rv_view *v, uint64_t va, uint16_t *out) {
    bool ok = rv_view_read(v, va, out, sizeof *out) == sizeof *out;
    if (!ok) *out = 0;
    return ok;
}

int rv_view_string(const struct rv_view *v, uint64_t va, char *out, size_t size, bool *whole) {
    size_t n = 0;
    bool ended = false, any = false;
    while (n + 1 < size && !ended) {
        size_t part = RV_PAGE_SIZE - ((va + n) & 0xfff);
        if (part > size - 1 - n) part = size - 1 - n;
        size_t got = rv_view_read(v, va + n, out + n, part);
        if (!got) break;
        any = true;
        char *nul = memchr(out + n, 0, got);
        ended = nul != NULL;
        n = nul ? (size_t)(nul - out) : n + got;
        if (got < part) break;
    }
    out[n] = 0;
    if (whole) *whole = ended;
    return any ? (int)n : -1;
}

bool rv_view_is_user(const struct rv_view *v) {
    return (v->cpu.cr0 & RV_CR0_PE) &&
           ((v->cpu.seg[RV_CS].sel & 3) == 3 || (v->cpu.rflags & RV_FL_VM));
}

uint64_t rv_view_pc(const struct rv_view *v) { return rv_gdb_pc(&v->cpu); }

uint64_t rv_view_sp(const struct rv_view *v) {
    const struct rv_x86 *x = &v->cpu;
    bool lm = (x->efer & RV_EFER_LMA) && (x->seg[RV_CS].attr & RV_SEG_L);
    if (lm) return x->gpr[RV_RSP];
    uint64_t sp =
        x->seg[RV_SS].attr & RV_SEG_DB ? (uint32_t)x->gpr[RV_RSP] : (uint16_t)x->gpr[RV_RSP];
    return (x->seg[RV_SS].base + sp) & 0xffffffffu;
}
