/* A recording from begin to seal: header, images, recorder, machine. */
#ifndef RV_RECORD_SESSION_H
#define RV_RECORD_SESSION_H

#include "record/recorder.h"
#include "vmm/machine.h"

struct rv_record_config {
    const char *path;
    bool overwrite;
    bool embed_images; /* store kernel and initrd in the trace */
    struct rv_machine_config machine;
};

struct rv_record; /* opaque */

/* Creates the trace and the machine behind a recorder that wraps live. wrap, if not NULL, is called
 * with the recorder and returns what the machine is to talk to (a progress meter, say). */
int rv_record_begin(struct rv_record **out, const struct rv_record_config *config,
                    struct rv_nondet *live,
                    struct rv_nondet *(*wrap)(void *ctx, struct rv_nondet *), void *ctx,
                    struct rv_err *err);

struct rv_machine *rv_record_machine(struct rv_record *r);

/* Runs to the end and seals. *end says how it ended even when a negative code is returned. What
 * went wrong with the trace itself (full disk) is reported here too: the trace is then as good as
 * the file system allowed. */
int rv_record_run(struct rv_record *r, struct rv_end *end, struct rv_err *err);

void rv_record_stats(const struct rv_record *r, struct rv_trace_writer_stats *stats);
void rv_record_free(struct rv_record *r);

#endif
