/* Private to replay/index*.c: the form of the index file. */
#ifndef RV_REPLAY_INDEX_PRIV_H
#define RV_REPLAY_INDEX_PRIV_H

#include "replay/history.h"
#include "vmm/base/buf.h"

#define RV_INDEX_PREAMBLE 64u
#define RV_INDEX_TRAILER  32u
#define RV_INDEX_VERSION  5u
/* More of either is no index of ours. */
#define RV_INDEX_EPOCHS      4096u
#define RV_INDEX_CHECKPOINTS 1024u
#define RV_INDEX_STATE       (1u << 20) /* bytes of one checkpoint's state */

/* What ties an index to its trace. */
struct rv_index_identity {
    uint64_t size, hash[2]; /* of the file; XXH3-128 of its first and last 64 KiB */
};
int rv_index_identify(const char *trace, struct rv_index_identity *id, struct rv_err *err);

void rv_index_put_preamble(struct rv_buf *out, const struct rv_index_identity *id);
/* The table, and the trailer behind it; the table begins at offset. */
void rv_index_put_table(struct rv_buf *out, const struct rv_history *h, uint64_t offset);

#endif
