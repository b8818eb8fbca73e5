/* Breakpoints and watchpoints of a client, and the searches they make. */
#ifndef RV_REPLAY_GDB_POINTS_H
#define RV_REPLAY_GDB_POINTS_H

#include "replay/gdb/guest.h"
#include "replay/timeline.h"

/* As in the packets Z0 to Z4. */
enum rv_gdb_point_type {
    RV_GDB_SOFTWARE,
    RV_GDB_HARDWARE,
    RV_GDB_WRITE,
    RV_GDB_READ,
    RV_GDB_ACCESS,
    RV_GDB_POINT_TYPES
};

struct rv_gdb_condition {
    uint8_t *code;
    size_t n;
};

struct rv_gdb_point {
    enum rv_gdb_point_type type;
    uint64_t addr, len;
    bool physical;
    struct rv_gdb_condition *condition; /* any of them; none: always */
    size_t conditions;
};

struct rv_gdb_points {
    struct rv_gdb_point *v;
    size_t n;
};

void rv_gdb_points_clear(struct rv_gdb_points *p);
/* Inserts, or replaces the conditions of one that is there; takes the conditions over. */
void rv_gdb_points_insert(struct rv_gdb_points *p, const struct rv_gdb_point *point);
void rv_gdb_points_remove(struct rv_gdb_points *p, enum rv_gdb_point_type type, uint64_t addr,
                          uint64_t len);

/* A search for all points, or for a single one, by the page tables of the machine as it is now. */
struct rv_gdb_search {
    struct rv_search search;
    struct rv_sought *sought;
    size_t n, room;
    const struct rv_gdb_points *points;
    struct rv_gdb_layout layout;
};
void rv_gdb_search_begin(struct rv_gdb_search *q, const struct rv_gdb_points *p,
                         struct rv_gdb_layout layout, struct rv_machine *m);
void rv_gdb_search_end(struct rv_gdb_search *q);

/* The watchpoint that a hit belongs to, or NULL. */
const struct rv_gdb_point *rv_gdb_search_watch(const struct rv_gdb_search *q,
                                               const struct rv_watch_hit *hit);
/* The breakpoint whose condition holds at this address now, or NULL. */
const struct rv_gdb_point *rv_gdb_points_break(const struct rv_gdb_points *p,
                                               struct rv_gdb_layout layout, struct rv_machine *m,
                                               uint64_t pc);

#endif
