/* Private: the file a writer appends to. A piece is in the file whole, or not at all. */
#ifndef RV_TRACE_SINK_H
#define RV_TRACE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct rv_sink {
    int fd;
    char *path;
    uint64_t end;       /* of the last whole piece */
    uint64_t allocated; /* blocks are set aside up to here */
    uint32_t reserve;   /* 0: none wanted, or the file system cannot */
};

int rv_sink_open(struct rv_sink *s, const char *path, bool overwrite, uint32_t reserve,
                 struct rv_err *err);
/* Appends; on failure the file is cut back to where it was. dip allows the piece to use the
 * reserve. */
int rv_sink_append(struct rv_sink *s, const void *data, size_t len, bool dip, struct rv_err *err);
/* Cuts the file back to an earlier end. */
int rv_sink_rewind(struct rv_sink *s, uint64_t end, struct rv_err *err);
int rv_sink_sync(struct rv_sink *s, struct rv_err *err);
/* Closes; with remove the file is deleted as well. Gives unused reserve back. */
void rv_sink_close(struct rv_sink *s, bool remove);

#endif
