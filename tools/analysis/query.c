#include "tools/analysis/query.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "replay/pass.h"
#include "tools/analysis/arena.h"
#include "vmm/base/buf.h"

#define MAX_RANGE (16u << 20)
#define USER_END  0x0000800000000000ull
#define ROOT      0x000ffffffffff000ull

/* ---- places ---- */

static int not_there(const struct rv_look *look, uint64_t va, struct rv_err *err) {
    return rv_fail(err, RV_E_USAGE,
                   "0x%" PRIx64 " is not in memory at that position%s%s; choose another with --at, "
                   "or --process",
                   va, look->up ? " in process " : "", look->up ? look->task.comm : "");
}

static bool is_mapped(const struct rv_look *look, uint64_t va) {
    for (size_t i = 0; i < look->vmas; i++)
        if (va >= look->vma[i].start && va < look->vma[i].end) return true;
    return false;
}

int rv_target_of(struct rv_target *out, const struct rv_look *look, uint64_t addr, uint64_t len,
                 bool physical, struct rv_err *err) {
    *out = (struct rv_target){0};
    if (!len || len > MAX_RANGE || addr + len < addr)
        return rv_fail(err, RV_E_USAGE, "a range of 1 byte to 16M can be asked about");
    bool process = !physical && look->has_user && addr < USER_END;
    if (process) out->root = look->user.cpu.cr3 & ROOT;
    out->span = rv_alloc((len / RV_PAGE_SIZE + 2) * 2 * sizeof *out->span);
    for (uint64_t done = 0; done < len;) {
        uint64_t va = addr + done, part = RV_PAGE_SIZE - (va & 0xfff);
        if (part > len - done) part = len - done;
        rv_gpa pa = va;
        bool there = (physical || rv_look_translate(look, va, &pa)) &&
                     rv_ram_offset(look->cpu.ram, pa) != UINT64_MAX;
        if (!there && !(process && is_mapped(look, va))) {
            rv_target_release(out);
            return not_there(look, va, err);
        }
        if (there) out->span[out->n++] = (struct rv_span){.gpa = pa, .va = va, .len = part};
        if (process) out->span[out->n++] = (struct rv_span){.va = va, .len = part, .linear = true};
        done += part;
    }
    return 0;
}

void rv_target_release(struct rv_target *t) {
    free(t->span);
    *t = (struct rv_target){0};
}

static struct rv_sought *sought_of(const struct rv_ram *ram, const struct rv_target *t,
                                   unsigned access) {
    struct rv_sought *s = rv_alloc((t->n + 1) * sizeof *s);
    for (size_t i = 0; i < t->n; i++) {
        const struct rv_span *p = &t->span[i];
        s[i].watch = (struct rv_watchpoint){.addr = p->linear ? p->va : p->gpa,
                                            .len = p->len,
                                            .access = access,
                                            .physical = !p->linear};
        s[i].page = p->linear ? RV_ANYWHERE : rv_ram_offset(ram, p->gpa) >> RV_PAGE_SHIFT;
    }
    return s;
}

/* Whether a hit is in what the process has there just then: not while the kernel prepares a page
 * that will be, and not in another process that uses the same addresses. */
static bool counts(const struct rv_target *t, struct rv_machine *m,
                   const struct rv_watch_hit *hit) {
    if (!t->root) return true;
    struct rv_view v;
    rv_view_of(&v, m);
    v.cpu.cr3 = t->root;
    for (size_t i = 0; i < t->n; i++) {
        const struct rv_span *p = &t->span[i];
        rv_gpa pa;
        if (!p->linear || !rv_view_translate(&v, p->va, &pa)) continue;
        uint64_t size = hit->size ? hit->size : 1;
        if (hit->gpa < pa + p->len && pa < hit->gpa + size) return true;
    }
    return false;
}

/* ---- all accesses ---- */

struct piece {
    struct rv_access *access;
    size_t n, room;
    struct rv_arena *arena;
};

static int on_begin(void *ctx, void **state, struct rv_machine *m, const struct rv_piece *where,
                    struct rv_err *err) {
    struct piece *p = rv_alloc(sizeof *p);
    (void)ctx, (void)m, (void)where, (void)err;
    p->arena = rv_arena_new();
    *state = p;
    return 0;
}

static void on_drop(void *ctx, void *state) {
    struct piece *p = state;
    (void)ctx;
    if (!p) return;
    rv_arena_free(p->arena);
    free(p->access);
    free(p);
}

static bool is_at(const struct rv_query *q, uint64_t va) {
    size_t lo = 0, hi = q->at_n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (q->at[mid] == va) return true;
        if (q->at[mid] < va)
            lo = mid + 1;
        else
            hi = mid;
    }
    return !q->at;
}

static void note_task(const struct rv_query *q, struct rv_machine *m, struct rv_access *a) {
    struct rv_view kernel;
    struct rv_linux_task task;
    if (!q->kernel || !rv_linux_view(q->kernel, m, &kernel)) return;
    if (!rv_linux_task(q->kernel, &kernel, rv_linux_current(q->kernel, &kernel), &task)) return;
    a->known = true;
    a->pid = task.pid;
    a->tid = task.tid;
    memcpy(a->comm, task.comm, sizeof a->comm);
}

static bool on_hit(void *ctx, void *state, struct rv_machine *m, const struct rv_watch_hit *hit) {
    const struct rv_query *q = ctx;
    struct piece *p = state;
    if (hit->access == RV_WATCH_EXEC && !is_at(q, hit->gva)) return false;
    if (!counts(q->target, m, hit)) return false;
    struct rv_access a = {.what = hit->access,
                          .before = hit->before,
                          .after = hit->after,
                          .time = rv_machine_now(m).time,
                          .va = hit->gva,
                          .gpa = hit->gpa,
                          .size = hit->size,
                          .rip = hit->rip,
                          .text = ""};
    note_task(q, m, &a);
    if (q->pid && (!a.known || (a.pid != q->pid && a.tid != q->pid))) return false;
    struct rv_view v;
    rv_view_of(&v, m);
    a.user = rv_view_is_user(&v);
    a.root = v.cpu.cr3;
    memcpy(a.gpr, v.cpu.gpr, sizeof a.gpr);
    if (hit->access == RV_WATCH_EXEC)
        rv_view_u64(&v, rv_view_sp(&v), &a.stack[0]);
    else
        rv_ram_read(v.ram, hit->gpa, a.bytes,
                    hit->size < sizeof a.bytes ? hit->size : sizeof a.bytes);
    if (q->note) {
        struct rv_buf text = {0};
        q->note(q->ctx, m, &a, &text);
        a.text = rv_arena_copy(p->arena, text.data, text.len);
        rv_buf_release(&text);
    }
    if (p->n == p->room) {
        p->room = p->room ? 2 * p->room : 256;
        p->access = rv_realloc(p->access, p->room * sizeof *p->access);
    }
    p->access[p->n++] = a;
    return false;
}

static int on_merge(void *ctx, void *state, const struct rv_piece *where, struct rv_err *err) {
    const struct rv_query *q = ctx;
    struct piece *p = state;
    int r = 0;
    (void)where;
    for (size_t i = 0; !r && i < p->n; i++) r = q->each(q->ctx, &p->access[i], err);
    on_drop(ctx, state);
    return r;
}

static bool on_progress(void *ctx, rv_icount done, rv_icount total) {
    const struct rv_query *q = ctx;
    return q->progress && q->progress(q->ctx, done, total);
}

int rv_query_run(const struct rv_query *q, rv_icount *upto, bool *interrupted, struct rv_err *err) {
    struct rv_query copy = *q;
    struct rv_sought *s =
        sought_of(rv_machine_ram(rv_timeline_machine(q->timeline)), q->target, q->access);
    struct rv_pass pass = {.from = q->from,
                           .to = q->to,
                           .sought = s,
                           .n = q->target->n,
                           .begin = on_begin,
                           .hit = on_hit,
                           .merge = on_merge,
                           .drop = on_drop,
                           .progress = on_progress,
                           .ctx = &copy};
    struct rv_pass_result result = {0};
    int r = rv_pass_run(q->timeline, &pass, &result, err);
    free(s);
    *upto = result.merged;
    *interrupted = result.outcome == RV_PASS_INTERRUPTED;
    return r;
}

/* ---- one write ---- */

static bool on_write(void *ctx, struct rv_machine *m, const struct rv_watch_hit *hit) {
    return counts(ctx, m, hit);
}

int rv_query_write(struct rv_timeline *t, const struct rv_target *target, bool next,
                   struct rv_watch_hit *hit, bool *found, bool *interrupted, struct rv_err *err) {
    struct rv_target copy = *target;
    struct rv_sought *s = sought_of(rv_machine_ram(rv_timeline_machine(t)), target, RV_WATCH_WRITE);
    struct rv_search search = {.sought = s, .n = target->n, .accept = on_write, .ctx = &copy};
    struct rv_arrival a;
    int r = next ? rv_timeline_run(t, &search, &a, err) : rv_timeline_run_back(t, &search, &a, err);
    free(s);
    if (r) return r;
    *found = a.at == RV_AT_HIT;
    *interrupted = a.at == RV_AT_INTERRUPT;
    *hit = a.hit;
    return 0;
}

/* ---- bytes ---- */

struct hunt {
    const uint8_t *bytes;
    size_t len;
    int (*each)(void *ctx, const struct rv_sighting *s, struct rv_err *err);
    bool (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
    uint64_t *seen; /* sorted offsets in RAM that were told */
    size_t n, room;
};

struct finds {
    uint64_t *offset; /* in RAM, in rising order */
    size_t n, room;
    size_t at_start; /* the first so many were there when the recording began */
};

/* Notes where the bytes begin in [from, to) of RAM. */
static void scan(const struct hunt *h, struct finds *f, const struct rv_ram *ram, uint64_t from,
                 uint64_t to) {
    uint64_t end = to + h->len - 1 < ram->size ? to + h->len - 1 : ram->size;
    while (from < to && end - from >= h->len) {
        const uint8_t *hit = memmem(ram->host + from, end - from, h->bytes, h->len);
        if (!hit) return;
        if (f->n == f->room) {
            f->room = f->room ? 2 * f->room : 64;
            f->offset = rv_realloc(f->offset, f->room * sizeof *f->offset);
        }
        f->offset[f->n++] = (uint64_t)(hit - ram->host);
        from = (uint64_t)(hit - ram->host) + 1;
    }
}

static int on_hunt_begin(void *ctx, void **state, struct rv_machine *m,
                         const struct rv_piece *piece, struct rv_err *err) {
    const struct hunt *h = ctx;
    struct finds *f = rv_alloc(sizeof *f);
    (void)err;
    if (piece->from == 0) {
        const struct rv_ram *ram = rv_machine_ram(m);
        scan(h, f, ram, 0, ram->size);
        f->at_start = f->n;
    }
    *state = f;
    return 0;
}

static int on_hunt_end(void *ctx, void *state, struct rv_machine *m, struct rv_err *err) {
    const struct hunt *h = ctx;
    struct rv_ram *ram = rv_machine_ram(m);
    const uint8_t *changed = rv_ram_changed(ram);
    uint64_t pages = ram->size >> RV_PAGE_SHIFT;
    (void)err;
    for (uint64_t page = 0; page < pages; page++) {
        if (!changed[page]) continue;
        uint64_t last = page;
        while (last + 1 < pages && changed[last + 1]) last++;
        uint64_t from = page << RV_PAGE_SHIFT, before = h->len - 1;
        scan(h, state, ram, from > before ? from - before : 0, (last + 1) << RV_PAGE_SHIFT);
        page = last;
    }
    return 0;
}

static void on_hunt_drop(void *ctx, void *state) {
    struct finds *f = state;
    (void)ctx;
    if (!f) return;
    free(f->offset);
    free(f);
}

/* Whether a place is new; it is remembered. */
static bool is_new(struct hunt *h, uint64_t offset) {
    size_t lo = 0, hi = h->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (h->seen[mid] < offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < h->n && h->seen[lo] == offset) return false;
    if (h->n == h->room) {
        h->room = h->room ? 2 * h->room : 256;
        h->seen = rv_realloc(h->seen, h->room * sizeof *h->seen);
    }
    memmove(h->seen + lo + 1, h->seen + lo, (h->n - lo) * sizeof *h->seen);
    h->seen[lo] = offset;
    h->n++;
    return true;
}

static int on_hunt_merge(void *ctx, void *state, const struct rv_piece *piece, struct rv_err *err) {
    struct hunt *h = ctx;
    struct finds *f = state;
    int r = 0;
    for (size_t i = 0; !r && i < f->n; i++) {
        uint64_t offset = f->offset[i];
        if (!is_new(h, offset)) continue;
        struct rv_sighting s = {.gpa = offset < RV_RAM_LOW_LIMIT
                                           ? offset
                                           : offset - RV_RAM_LOW_LIMIT + RV_RAM_HIGH_BASE,
                                .by = i < f->at_start ? 0 : piece->to};
        r = h->each(h->ctx, &s, err);
    }
    on_hunt_drop(ctx, state);
    return r;
}

static bool on_hunt_progress(void *ctx, rv_icount done, rv_icount total) {
    const struct hunt *h = ctx;
    return h->progress && h->progress(h->ctx, done, total);
}

int rv_query_bytes(struct rv_timeline *t, const uint8_t *bytes, size_t len,
                   int (*each)(void *ctx, const struct rv_sighting *s, struct rv_err *err),
                   bool (*progress)(void *ctx, rv_icount done, rv_icount total), void *ctx,
                   rv_icount *upto, bool *interrupted, struct rv_err *err) {
    struct hunt h = {.bytes = bytes, .len = len, .each = each, .progress = progress, .ctx = ctx};
    struct rv_pass pass = {.to = RV_NEVER,
                           .whole = true,
                           .begin = on_hunt_begin,
                           .end = on_hunt_end,
                           .merge = on_hunt_merge,
                           .drop = on_hunt_drop,
                           .progress = on_hunt_progress,
                           .ctx = &h};
    struct rv_pass_result result = {0};
    int r = rv_pass_run(t, &pass, &result, err);
    free(h.seen);
    *upto = result.merged;
    *interrupted = result.outcome == RV_PASS_INTERRUPTED;
    return r;
}
