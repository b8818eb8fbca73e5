/* Shared by the files of retro query and retro find. */
#ifndef RV_TOOLS_QUERY_H
#define RV_TOOLS_QUERY_H

#include "tools/analysis/query.h"
#include "tools/ask.h"
#include "tools/show.h"

struct retro_query {
    struct retro_ask ask;
    const char *path, *address, *at, *from, *to;
    uint32_t process;
    uint64_t limit; /* results; 0: all */
    bool physical;
    struct rv_guest *guest;
    struct rv_look look; /* where the address was looked up */
    struct rv_moment first, last;
    uint64_t shown;
    bool interrupted;
    rv_icount upto;
};

/* Goes on with the next result (0), or says that it was the last one wanted (1). */
int retro_query_more(struct retro_query *q);
/* For struct rv_query: shows how far it is; true once a stop was asked for. */
bool retro_query_progress(void *query, rv_icount done, rv_icount total);

/* "writes", "reads", ... shows each access. */
int retro_query_accesses(struct retro_query *q, unsigned access, struct rv_err *err);
/* "last-write", "next-write": goes there and shows it. */
int retro_query_write(struct retro_query *q, bool next, struct rv_err *err);
/* query_calls.c: "calls". */
int retro_query_calls(struct retro_query *q, struct rv_err *err);
/* Shows one write: who, where, old and new bytes, and the call stack. The timeline may move. */
int retro_query_show_write(struct retro_query *q, const struct rv_watch_hit *hit,
                           struct rv_err *err);

#endif
