/* The index file beside a trace: its history (history.h), so that the next session need not replay
 * everything first. It holds nothing that the trace does not; it can be thrown away at any time. It
 * names the trace it belongs to, and one that is stale, cut or damaged is not used.
 *
 *   preamble   magic, version, the trace's identity                                   (64 bytes)
 *   pages      of the filed checkpoints, one after the other, each LZ4 or as it is
 *   table      epochs, checkpoints, and for each page its length and hash
 *   trailer    offset, length and XXH3 of the table, magic                            (32 bytes)
 *
 * The file is written under another name and renamed when whole. */
#ifndef RV_REPLAY_INDEX_H
#define RV_REPLAY_INDEX_H

#include "replay/history.h"
#include "replay/session.h"

/* FILE.index; owned by the caller. */
char *rv_index_path(const char *trace);

/* Reads the index of a trace. RV_E_END when there is none, RV_E_FORMAT with a reason when there is
 * one that does not fit: both are cured by building it. */
int rv_index_load(struct rv_history **out, const char *trace, uint64_t page_count,
                  struct rv_err *err);

struct rv_index_config {
    struct rv_replay_config replay;
    /* Told now and then how far it is; true: stop. May be NULL. */
    bool (*progress)(void *ctx, rv_icount done, rv_icount total);
    void *ctx;
    bool temporary; /* do not leave the file beside the trace: for folders that cannot be written */
};

/* Replays the trace once, checking it, and writes the index. *out may be NULL. RV_E_INTERRUPTED
 * when progress said stop: nothing is left behind then. A trace that diverges or is damaged has no
 * history beyond: its error is returned. */
int rv_index_build(struct rv_history **out, const struct rv_index_config *config,
                   struct rv_err *err);

#endif
