/* Private to replay/gdb/stub*.c and monitor.c. */
#ifndef RV_REPLAY_GDB_STUB_PRIV_H
#define RV_REPLAY_GDB_STUB_PRIV_H

#include "replay/gdb/points.h"
#include "replay/gdb/stub.h"
#include "replay/gdb/wire.h"

struct rv_gdb_bookmark {
    char *name; /* NULL: given up */
    struct rv_moment at;
};

struct rv_gdb_stub {
    struct rv_timeline *t;
    struct rv_gdb_layout layout;
    bool physical; /* addresses of memory are physical ones */
    bool swbreak;  /* the client knows why a stop at a breakpoint is one */
    struct rv_gdb_points points;
    struct rv_gdb_bookmark *bookmark;
    size_t bookmarks;
    struct rv_buf console; /* what a branch printed */
    struct rv_buf stop;    /* the last stop reply */
    rv_gdb_print print;
    void *ctx;
};

/* printf to the user. */
void rv_gdb_say(struct rv_gdb_stub *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A monitor command. */
void rv_gdb_monitor(struct rv_gdb_stub *s, const char *line);
/* "1,234 (12.3%)", "the end"... of a moment. */
void rv_gdb_say_moment(struct rv_gdb_stub *s, struct rv_moment at);

#endif
