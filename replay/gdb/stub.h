/* What the packets of gdb's remote protocol mean for a timeline. Does no I/O of its own. */
#ifndef RV_REPLAY_GDB_STUB_H
#define RV_REPLAY_GDB_STUB_H

#include "replay/gdb/guest.h"
#include "replay/timeline.h"

struct rv_gdb_stub; /* opaque */

/* timeline is borrowed and outlives the stub, which stays for several connections one after the
 * other: bookmarks and the position last, breakpoints do not. */
struct rv_gdb_stub *rv_gdb_stub_new(struct rv_timeline *t);
void rv_gdb_stub_free(struct rv_gdb_stub *s);
/* A client has come. */
void rv_gdb_stub_connect(struct rv_gdb_stub *s, enum rv_gdb_view view);

enum rv_gdb_then {
    RV_GDB_REPLY,  /* send the reply, which may be empty: not known */
    RV_GDB_SILENT, /* this packet has no reply */
    RV_GDB_NO_ACK, /* send the reply; from then on nothing is acknowledged */
    RV_GDB_BYE,    /* send the reply, if there is one, and close the connection */
};

/* Handles one packet of n bytes with a 0 behind them, and appends the content of the reply. print
 * shows text to the user while the packet is being handled. */
typedef void (*rv_gdb_print)(void *ctx, const char *text, size_t n);
enum rv_gdb_then rv_gdb_handle(struct rv_gdb_stub *s, const char *packet, size_t n,
                               struct rv_buf *reply, rv_gdb_print print, void *ctx);

#endif
