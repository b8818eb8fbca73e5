/* The recorder: stands between the machine and the live host, hands everything through, and writes
 * to a trace what replay will need and what it will be compared with. */
#ifndef RV_RECORD_RECORDER_H
#define RV_RECORD_RECORDER_H

#include "trace-format/writer.h"
#include "vmm/base/err.h"
#include "vmm/nondet.h"

struct rv_recorder; /* opaque */

/* inner and writer are borrowed and outlive the recorder. by_trap as in the machine's config.
 * epoch, if not NULL, is the answer to the question for the wall time at power-on: the trace's
 * header shows it too, so it was asked before. */
int rv_recorder_new(struct rv_recorder **out, struct rv_nondet *inner,
                    struct rv_trace_writer *writer, bool by_trap, const uint64_t *epoch,
                    struct rv_err *err);
void rv_recorder_free(struct rv_recorder *r);
struct rv_nondet *rv_recorder_nondet(struct rv_recorder *r);

/* When writing failed (full disk), the machine is stopped with RV_STOP_TRACE_FULL; this returns the
 * code and fills *err with what happened. 0 when all is well. */
int rv_recorder_failure(const struct rv_recorder *r, struct rv_err *err);

/* Writes all that happened up to this point, so that the trace replays up to there whatever comes
 * after. Errors as rv_trace_writer_flush has them. */
int rv_recorder_flush(struct rv_recorder *r, struct rv_point at, struct rv_err *err);

/* Bytes of console output recorded so far. */
uint64_t rv_recorder_console_bytes(const struct rv_recorder *r);

#endif
