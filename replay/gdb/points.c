#include "replay/gdb/points.h"

#include <stdlib.h>
#include <string.h>

#include "replay/gdb/expr.h"

static void release(struct rv_gdb_point *p) {
    for (size_t i = 0; i < p->conditions; i++) free(p->condition[i].code);
    free(p->condition);
}

void rv_gdb_points_clear(struct rv_gdb_points *p) {
    for (size_t i = 0; i < p->n; i++) release(&p->v[i]);
    free(p->v);
    *p = (struct rv_gdb_points){0};
}

static struct rv_gdb_point *find(struct rv_gdb_points *p, enum rv_gdb_point_type type,
                                 uint64_t addr, uint64_t len) {
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].type == type && p->v[i].addr == addr && p->v[i].len == len) return &p->v[i];
    return NULL;
}

void rv_gdb_points_insert(struct rv_gdb_points *p, const struct rv_gdb_point *point) {
    struct rv_gdb_point *old = find(p, point->type, point->addr, point->len);
    if (old) {
        release(old);
        *old = *point;
        return;
    }
    p->v = rv_realloc(p->v, (p->n + 1) * sizeof *p->v);
    p->v[p->n++] = *point;
}

void rv_gdb_points_remove(struct rv_gdb_points *p, enum rv_gdb_point_type type, uint64_t addr,
                          uint64_t len) {
    struct rv_gdb_point *old = find(p, type, addr, len);
    if (!old) return;
    release(old);
    size_t behind = (size_t)(p->v + p->n - old) - 1;
    memmove(old, old + 1, behind * sizeof *old);
    p->n--;
}

/* ---- searching ---- */

static bool is_watch(const struct rv_gdb_point *p) { return p->type >= RV_GDB_WRITE; }

static unsigned access_of(const struct rv_gdb_point *p) {
    switch (p->type) {
    case RV_GDB_WRITE: return RV_WATCH_WRITE;
    case RV_GDB_READ: return RV_WATCH_READ;
    case RV_GDB_ACCESS: return RV_WATCH_READ | RV_WATCH_WRITE;
    default: return RV_WATCH_EXEC;
    }
}

static void seek_out(struct rv_gdb_search *q, const struct rv_watchpoint *w, uint64_t page) {
    if (q->n == q->room) {
        q->room = q->room ? 2 * q->room : 16;
        q->sought = rv_realloc(q->sought, q->room * sizeof *q->sought);
    }
    q->sought[q->n++] = (struct rv_sought){*w, page};
}

static uint64_t ram_page(struct rv_machine *m, rv_gpa pa) {
    uint64_t offset = rv_ram_offset(rv_machine_ram(m), pa);
    return offset == UINT64_MAX ? RV_ANYWHERE : offset >> RV_PAGE_SHIFT;
}

/* A watchpoint follows the memory that stands behind the address now: so it sees writes through
 * whatever address, and is found by the pages that epochs wrote. */
static void seek_data(struct rv_gdb_search *q, const struct rv_gdb_point *p, struct rv_machine *m,
                      const struct rv_x86 *x) {
    for (uint64_t done = 0; done < p->len;) {
        uint64_t at = p->addr + done, part = RV_PAGE_SIZE - (at & 0xfff);
        if (part > p->len - done) part = p->len - done;
        struct rv_watchpoint w = {.addr = at, .len = part, .access = access_of(p)};
        rv_gpa pa = at;
        w.physical = p->physical || rv_gdb_translate(rv_machine_ram(m), x, at, &pa);
        if (w.physical) w.addr = pa;
        seek_out(q, &w, w.physical ? ram_page(m, pa) : RV_ANYWHERE);
        done += part;
    }
}

/* A breakpoint is an address, whichever program is there: the process that runs now is often not
 * the one that is meant. */
static void seek_code(struct rv_gdb_search *q, const struct rv_gdb_point *p, struct rv_machine *m) {
    struct rv_watchpoint w = {
        .addr = p->addr, .len = 1, .access = RV_WATCH_EXEC, .physical = p->physical};
    seek_out(q, &w, p->physical ? ram_page(m, p->addr) : RV_ANYWHERE);
}

static bool holds(const struct rv_gdb_point *p, struct rv_gdb_layout layout, struct rv_machine *m) {
    for (size_t i = 0; i < p->conditions; i++) {
        uint64_t v;
        /* A condition that cannot be evaluated stops, for the user to see. */
        if (!rv_gdb_eval(m, layout, p->condition[i].code, p->condition[i].n, &v) || v) return true;
    }
    return !p->conditions;
}

const struct rv_gdb_point *rv_gdb_points_break(const struct rv_gdb_points *p,
                                               struct rv_gdb_layout layout, struct rv_machine *m,
                                               uint64_t pc) {
    for (size_t i = 0; i < p->n; i++)
        if (!is_watch(&p->v[i]) && p->v[i].addr == pc && holds(&p->v[i], layout, m))
            return &p->v[i];
    return NULL;
}

static bool accept(void *ctx, struct rv_machine *m, const struct rv_watch_hit *hit) {
    const struct rv_gdb_search *q = ctx;
    if (hit->access != RV_WATCH_EXEC) return true;
    for (size_t i = 0; i < q->points->n; i++) {
        const struct rv_gdb_point *p = &q->points->v[i];
        if (is_watch(p) || p->addr != (p->physical ? hit->gpa : hit->gva)) continue;
        if (holds(p, q->layout, m)) return true;
    }
    return false;
}

void rv_gdb_search_begin(struct rv_gdb_search *q, const struct rv_gdb_points *p,
                         struct rv_gdb_layout layout, struct rv_machine *m) {
    *q = (struct rv_gdb_search){.points = p, .layout = layout};
    struct rv_gdb_cpu cpu;
    rv_gdb_state(m, &cpu);
    for (size_t i = 0; i < p->n; i++)
        if (is_watch(&p->v[i]))
            seek_data(q, &p->v[i], m, &cpu.x);
        else
            seek_code(q, &p->v[i], m);
    q->search = (struct rv_search){.sought = q->sought, .n = q->n, .accept = accept, .ctx = q};
}

void rv_gdb_search_end(struct rv_gdb_search *q) { free(q->sought); }

const struct rv_gdb_point *rv_gdb_search_watch(const struct rv_gdb_search *q,
                                               const struct rv_watch_hit *hit) {
    /* The parts of q lie in the order of the points. */
    size_t k = 0;
    for (size_t i = 0; i < q->points->n; i++) {
        const struct rv_gdb_point *p = &q->points->v[i];
        if (!is_watch(p)) {
            k++;
            continue;
        }
        for (uint64_t done = 0; done < p->len; k++) {
            const struct rv_watchpoint *w = &q->sought[k].watch;
            uint64_t at = w->physical ? hit->gpa : hit->gva;
            done += w->len;
            if ((w->access & hit->access) && at < w->addr + w->len && w->addr < at + hit->size)
                return p;
        }
    }
    return NULL;
}
