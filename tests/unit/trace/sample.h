/* Small traces to test with. */
#ifndef TEST_TRACE_SAMPLE_H
#define TEST_TRACE_SAMPLE_H

#include "trace-format/reader.h"
#include "trace-format/writer.h"

/* A new empty directory, removed with what is in it by sample_done. path joins a name to it. */
const char *sample_dir(void);
const char *sample_path(const char *name);
void sample_done(void);

extern const struct rv_trace_header sample_header;

/* A generator whose numbers depend on the seed only. */
uint64_t sample_random(uint64_t *state);
/* Event number i of a reproducible history; data points to static bytes. */
struct rv_trace_event sample_event(uint64_t i);
/* Writes events [0, n), a flush every `every`, and seals if told to. */
void sample_write(const char *path, uint64_t n, uint64_t every, bool seal);

/* What all events of a trace amount to: their number and a hash over all their fields. */
struct sample_digest {
    uint64_t count;
    struct rv_trace_hash hash;
};
/* Reads to the end or the first error, which is returned (0 at the end). */
int sample_digest(const struct rv_trace_reader *r, struct sample_digest *d, struct rv_err *err);
/* The digest of events [0, n) as sample_write writes them. */
struct sample_digest sample_expect(uint64_t n);

void sample_read_file(const char *path, struct rv_buf *out);
void sample_write_file(const char *path, const void *data, size_t len);

#endif
