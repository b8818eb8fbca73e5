/* What a trace says about itself: the header, written first, and the summary, written when sealed.
 */
#ifndef RV_TRACE_HEADER_H
#define RV_TRACE_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "trace-format/hash.h"

struct rv_trace_image {
    const char *role; /* "kernel", "initrd", "disk", ... */
    const char *name; /* as the user gave it; for people, not for opening */
    uint64_t size;    /* bytes */
    struct rv_trace_hash hash;
    bool embedded; /* the content is a blob of this trace */
};

struct rv_trace_device {
    const char *name;
    uint32_t version; /* of the model's behaviour */
};

/* For what later versions want to say without a new format. */
struct rv_trace_option {
    const char *key;
    const char *text; /* NULL counts as "" */
    uint64_t number;
};

struct rv_trace_host_cpu {
    const char *vendor, *brand;
    uint32_t family, model, stepping;
};

/* Strings are UTF-8 by convention and not checked: whoever prints those of a foreign trace has to
 * mind control characters. A writer takes NULL for ""; a reader never returns NULL.
 * Limits are in limits.h; a header beyond them is refused by the writer. */
struct rv_trace_header {
    uint32_t format_version; /* set by the writer */
    const char *tool_version;
    uint64_t created;     /* wall time, seconds since 1970 */
    uint8_t trace_id[16]; /* chosen by the caller; should be random */
    const char *engine;
    const char *cpu_profile;
    struct rv_trace_host_cpu host_cpu;
    uint64_t memory_bytes;
    uint64_t rate; /* guest nanoseconds per instruction, 32.32 fixed point; 0 where time is not
                      derived from the position */
    const char *boot_protocol;
    const char *command_line;
    uint64_t boot_time; /* the guest's clock at power-on, seconds since 1970 */
    const struct rv_trace_image *images;
    size_t image_count;
    const struct rv_trace_device *devices;
    size_t device_count;
    const struct rv_trace_option *options;
    size_t option_count;
};

/* The number of the option of this name, or fallback when the header has none. */
static inline uint64_t rv_trace_option_number(const struct rv_trace_header *h, const char *key,
                                              uint64_t fallback) {
    for (size_t i = 0; i < h->option_count; i++)
        if (strcmp(h->options[i].key, key) == 0) return h->options[i].number;
    return fallback;
}

/* Why a trace ends. Callers number their own reasons from RV_TRACE_REASON_USER up. */
enum rv_trace_reason {
    RV_TRACE_REASON_NONE = 0,
    RV_TRACE_REASON_SALVAGED = 1, /* sealed by salvage after damage or an unsealed end */
    RV_TRACE_REASON_USER = 0x100,
};

struct rv_trace_summary {
    uint32_t reason;
    const char *text;  /* one line for people */
    uint64_t position; /* final, instructions retired */
    uint64_t time;     /* final, guest nanoseconds */
    uint64_t cpu_digest;
    uint64_t ram_digest;
    uint64_t console_bytes;
    bool lost_tail;         /* a write failed and the end was dropped; set by the writer as well */
    uint64_t events;        /* set by the writer */
    const uint64_t *counts; /* set by the writer: events by kind, RV_TRACE_MAX_KINDS of them */
};

#endif
