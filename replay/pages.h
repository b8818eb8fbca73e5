/* The content that pages of RAM had at checkpoints. A page has a version at a checkpoint only when
 * it was written since the one before, so that a checkpoint costs what was written. What a page
 * held at a checkpoint is its last version at or before it; before the first it was zero.
 *
 * A version is known by its page and position alone: replay makes the same content every time. */
#ifndef RV_REPLAY_PAGES_H
#define RV_REPLAY_PAGES_H

#include "vmm/base/types.h"

struct rv_pages; /* opaque; may be read by many threads while none changes it */

enum rv_version_kind { RV_VERSION_ZERO, RV_VERSION_MEMORY, RV_VERSION_FILE };

struct rv_version {
    rv_icount at; /* the checkpoint */
    union {
        uint8_t *bytes;  /* MEMORY: RV_PAGE_SIZE, owned */
        uint64_t offset; /* FILE: in the index file */
    };
    uint32_t hash; /* FILE: low half of XXH3 of the content */
    uint16_t len;  /* FILE: bytes there; RV_PAGE_SIZE: not compressed */
    uint8_t kind;  /* enum rv_version_kind */
};

/* For RAM of n pages. */
struct rv_pages *rv_pages_new(uint64_t n);
void rv_pages_free(struct rv_pages *p);

/* Adds a version; replaces one of the same position. rv_pages_keep copies a page's content. */
void rv_pages_add(struct rv_pages *p, uint64_t page, const struct rv_version *v);
void rv_pages_keep(struct rv_pages *p, uint64_t page, rv_icount at, const uint8_t *content);

/* The version that holds the page's content at a checkpoint; NULL: zeroes. Valid until a change. */
const struct rv_version *rv_pages_at(const struct rv_pages *p, uint64_t page, rv_icount checkpoint);

/* The checkpoint is given up, next is the one after it (RV_NEVER: none): its versions in memory go,
 * or become next's where next relies on them. */
void rv_pages_drop(struct rv_pages *p, rv_icount checkpoint, rv_icount next);

uint64_t rv_pages_memory(const struct rv_pages *p); /* bytes of content held */

#endif
