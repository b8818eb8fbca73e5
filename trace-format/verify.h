/* Checks a whole trace: every checksum, the order and numbers of the chunks, every event, every
 * blob against its hash, and that index, summary and trailer say the same as the rest of the file.
 */
#ifndef RV_TRACE_VERIFY_H
#define RV_TRACE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"

enum rv_trace_severity {
    RV_TRACE_FINDING_NOTE,  /* worth knowing, nothing is wrong: not sealed, for example */
    RV_TRACE_FINDING_ERROR, /* the file is not what was written */
};

struct rv_trace_finding {
    enum rv_trace_severity severity;
    uint64_t offset;  /* in the file, bytes */
    uint64_t chunk;   /* its number; UINT64_MAX when it is about no chunk */
    const char *text; /* what is wrong; valid during the call */
};
typedef void (*rv_trace_finding_fn)(void *ctx, const struct rv_trace_finding *finding);

struct rv_trace_verdict {
    uint64_t chunks, events, blobs; /* whole ones */
    uint64_t errors, notes;
    bool sealed;
};

/* Goes on after an error where it can: past a damaged payload to the next chunk, past anything else
 * to the next whole chunk header. fn and verdict may be NULL. Returns 0 when there is no finding of
 * class error, RV_E_FORMAT when there is; other codes when the file could not be read or is of a
 * newer version. */
int rv_trace_verify(const char *path, rv_trace_finding_fn fn, void *ctx,
                    struct rv_trace_verdict *verdict, struct rv_err *err);

#endif
