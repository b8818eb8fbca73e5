/* Bounds of the format. A reader refuses what exceeds them before it allocates anything, so they
 * are part of the format: a writer never produces more. */
#ifndef RV_TRACE_LIMITS_H
#define RV_TRACE_LIMITS_H

#define RV_TRACE_FORMAT_VERSION 1u

#define RV_TRACE_MAX_RAW    (4u << 20) /* uncompressed payload of any chunk, bytes */
#define RV_TRACE_MAX_CHUNKS (1u << 24) /* in one file */
#define RV_TRACE_MAX_EVENT_DATA                                                                    \
    (1u << 20)                            /* bytes carried by one event; larger things are blobs   \
                                           */
#define RV_TRACE_MAX_BLOB    (1ull << 40) /* bytes of one blob */
#define RV_TRACE_BLOB_PART   (1u << 20)   /* raw bytes of a blob that one chunk holds at most */
#define RV_TRACE_MAX_STRING  (64u << 10)  /* bytes of one string in the header or summary */
#define RV_TRACE_MAX_IMAGES  256u
#define RV_TRACE_MAX_DEVICES 1024u
#define RV_TRACE_MAX_OPTIONS 4096u
#define RV_TRACE_MAX_HEADER  (1u << 20) /* raw header and summary chunks, bytes */
#define RV_TRACE_MAX_KINDS   64u        /* event kinds are below this */

#endif
