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

/* Offsets in RAM that were told, in rising order. */
struct told {
    uint64_t *offset;
    size_t n, room;
};

/* Whether a place is new; it is remembered. */
static bool is_new(struct told *t, uint64_t offset) {
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->offset[mid] < offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < t->n && t->offset[lo] == offset) return false;
    if (t->n == t->room) {
        t->room = t->room ? 2 * t->room : 64;
        t->offset = rv_realloc(t->offset, t->room * sizeof *t->offset);
    }
    memmove(t->offset + lo + 1, t->offset + lo, (t->n - lo) * sizeof *t->offset);
    t->offset[lo] = offset;
    t->n++;
    return true;
}

/* How often memory is looked at: what is gone again within so many instructions is not seen. */
#define HUNT_EVERY 16384u

struct hunt {
    const uint8_t *bytes;
    size_t len;
    int (*each)(void *ctx, const struct rv_sighting *s, struct rv_err *err);
    bool (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
    struct told told;
};

/* What one piece found, in the order of time. */
struct finds {
    struct find {
        uint64_t offset; /* in RAM */
        rv_icount by;    /* where it was seen; 0: it was there when the recording began */
    } * find;
    size_t n, room;
    struct told told;
    struct rv_moment last; /* of the last write, and how many were told of that instruction */
    unsigned writes;
};

/* Notes where the bytes begin in [from, to) of RAM. */
static void scan(const struct hunt *h, struct finds *f, const struct rv_ram *ram, uint64_t from,
                 uint64_t to, rv_icount by) {
    uint64_t end = to + h->len - 1 < ram->size ? to + h->len - 1 : ram->size;
    while (from < to && end - from >= h->len) {
        const uint8_t *hit = memmem(ram->host + from, end - from, h->bytes, h->len);
        if (!hit) return;
        uint64_t offset = (uint64_t)(hit - ram->host);
        from = offset + 1;
        if (!is_new(&f->told, offset)) continue;
        if (f->n == f->room) {
            f->room = f->room ? 2 * f->room : 64;
            f->find = rv_realloc(f->find, f->room * sizeof *f->find);
        }
        f->find[f->n++] = (struct find){.offset = offset, .by = by};
    }
}

static int on_hunt_begin(void *ctx, void **state, struct rv_machine *m,
                         const struct rv_piece *piece, struct rv_err *err) {
    const struct hunt *h = ctx;
    struct finds *f = rv_alloc(sizeof *f);
    struct rv_ram *ram = rv_machine_ram(m);
    (void)err;
    memset(rv_ram_recent(ram), 0, ram->size >> RV_PAGE_SHIFT);
    if (piece->from == 0) scan(h, f, ram, 0, ram->size, 0);
    *state = f;
    return 0;
}

/* Looks at what was written since the last look. */
static int on_hunt_look(void *ctx, void *state, struct rv_machine *m, struct rv_err *err) {
    const struct hunt *h = ctx;
    struct rv_ram *ram = rv_machine_ram(m);
    uint8_t *recent = rv_ram_recent(ram);
    uint64_t pages = ram->size >> RV_PAGE_SHIFT;
    rv_icount now = rv_machine_now(m).icount;
    (void)err;
    for (uint64_t page = 0; page < pages; page++) {
        const uint8_t *next = memchr(recent + page, 1, pages - page);
        if (!next) break;
        page = (uint64_t)(next - recent);
        uint64_t last = page;
        while (last + 1 < pages && recent[last + 1]) last++;
        memset(recent + page, 0, last + 1 - page);
        uint64_t from = page << RV_PAGE_SHIFT, before = h->len - 1;
        scan(h, state, ram, from > before ? from - before : 0, (last + 1) << RV_PAGE_SHIFT, now);
        page = last;
    }
    return 0;
}

/* Looks at all that was written since the last look, which is left to come. */
static void scan_dirty(const struct hunt *h, struct finds *f, const struct rv_ram *ram,
                       rv_icount now) {
    uint64_t pages = ram->size >> RV_PAGE_SHIFT, before = h->len - 1;
    for (uint64_t page = 0; page < pages; page++) {
        const uint8_t *next = memchr(ram->dirty + page, 1, pages - page);
        if (!next) break;
        page = (uint64_t)(next - ram->dirty);
        uint64_t from = page << RV_PAGE_SHIFT;
        scan(h, f, ram, from > before ? from - before : 0, from + RV_PAGE_SIZE, now);
    }
}

/* Of the accesses of one instruction, so many are told at most (vmm/cpu/watch.h). */
#define TOLD_MOST 16u

static bool on_hunt_write(void *ctx, void *state, struct rv_machine *m,
                          const struct rv_watch_hit *hit) {
    const struct hunt *h = ctx;
    struct finds *f = state;
    struct rv_ram *ram = rv_machine_ram(m);
    uint64_t offset = rv_ram_offset(ram, hit->gpa), before = h->len - 1;
    f->writes = rv_moment_same(hit->after, f->last) ? f->writes + 1 : 1;
    f->last = hit->after;
    if (f->writes == TOLD_MOST)
        scan_dirty(h, f, ram, rv_machine_now(m).icount);
    else if (offset != UINT64_MAX)
        scan(h, f, ram, offset > before ? offset - before : 0, offset + hit->size,
             rv_machine_now(m).icount);
    return false;
}

static void on_hunt_drop(void *ctx, void *state) {
    struct finds *f = state;
    (void)ctx;
    if (!f) return;
    free(f->find);
    free(f->told.offset);
    free(f);
}

static int on_hunt_merge(void *ctx, void *state, const struct rv_piece *piece, struct rv_err *err) {
    struct hunt *h = ctx;
    struct finds *f = state;
    int r = 0;
    (void)piece;
    for (size_t i = 0; !r && i < f->n; i++) {
        uint64_t offset = f->find[i].offset;
        if (!is_new(&h->told, offset)) continue;
        struct rv_sighting s = {.gpa = rv_ram_gpa(offset), .by = f->find[i].by};
        r = h->each(h->ctx, &s, err);
    }
    on_hunt_drop(ctx, state);
    return r;
}

static bool on_hunt_progress(void *ctx, rv_icount done, rv_icount total) {
    const struct hunt *h = ctx;
    return h->progress && h->progress(h->ctx, done, total);
}

int rv_query_bytes(struct rv_timeline *t, const uint8_t *bytes, size_t len, bool exact,
                   int (*each)(void *ctx, const struct rv_sighting *s, struct rv_err *err),
                   bool (*progress)(void *ctx, rv_icount done, rv_icount total), void *ctx,
                   rv_icount *upto, bool *interrupted, struct rv_err *err) {
    struct hunt h = {.bytes = bytes, .len = len, .each = each, .progress = progress, .ctx = ctx};
    struct rv_pass pass = {.to = RV_NEVER,
                           .whole = true,
                           .begin = on_hunt_begin,
                           .every = HUNT_EVERY,
                           .pause = on_hunt_look,
                           .end = on_hunt_look,
                           .merge = on_hunt_merge,
                           .drop = on_hunt_drop,
                           .progress = on_hunt_progress,
                           .ctx = &h};
    static const struct rv_sought every_write = {
        .watch = {.len = UINT64_MAX, .access = RV_WATCH_WRITE, .physical = true},
        .page = RV_ANYWHERE};
    if (exact) {
        pass.sought = &every_write;
        pass.n = 1;
        pass.hit = on_hunt_write;
    }
    struct rv_pass_result result = {0};
    int r = rv_pass_run(t, &pass, &result, err);
    free(h.told.offset);
    *upto = result.merged;
    *interrupted = result.outcome == RV_PASS_INTERRUPTED;
    return r;
}
