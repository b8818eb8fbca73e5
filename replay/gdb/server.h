/* The server: a socket on which one client at a time debugs a timeline. */
#ifndef RV_REPLAY_GDB_SERVER_H
#define RV_REPLAY_GDB_SERVER_H

#include <stdatomic.h>

#include "replay/gdb/guest.h"
#include "replay/timeline.h"

struct rv_gdb_server; /* opaque */

/* Listens on address:port; port 0 takes a free one. address NULL: loopback. */
int rv_gdb_server_new(struct rv_gdb_server **out, const char *address, uint16_t port,
                      struct rv_err *err);
void rv_gdb_server_free(struct rv_gdb_server *s);
uint16_t rv_gdb_server_port(const struct rv_gdb_server *s);

/* Serves clients, one after the other, until *stop is not 0 (looked at ten times a second) or, with
 * once, until the first has gone. */
struct rv_gdb_serve {
    struct rv_timeline *timeline;
    enum rv_gdb_view view;
    bool once;
    const _Atomic int *stop;
};
int rv_gdb_server_run(struct rv_gdb_server *s, const struct rv_gdb_serve *how, struct rv_err *err);

/* For the timeline's `interrupted`: whether the client asks to stop, or is gone. ctx is the server.
 */
bool rv_gdb_server_interrupted(void *ctx);

#endif
