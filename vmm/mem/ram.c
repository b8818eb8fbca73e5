#include "vmm/mem/ram.h"

#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "vmm/base/buf.h"
#include <stdlib.h>

#define HUGE_PAGE (2ull << 20)

/* Anonymous memory at a multiple of 2 MiB, where the host can map it in pages of that size, and KVM
 * the guest's. */
static uint8_t *map_aligned(uint64_t size) {
    uint64_t room = size + HUGE_PAGE;
    uint8_t *p = mmap(NULL, room, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    uint64_t before = -(uintptr_t)p & (HUGE_PAGE - 1), after = room - before - size;
    if (before) munmap(p, before);
    if (after) munmap(p + before + size, after);
    return p + before;
}

int rv_ram_init(struct rv_ram *r, uint64_t size, struct rv_err *err) {
    *r = (struct rv_ram){0};
    if (size < RV_RAM_MIN || size > RV_RAM_MAX || size % RV_PAGE_SIZE)
        return rv_fail(err, RV_E_USAGE,
                       "guest memory of %llu bytes is not a multiple of 4096 between 1 MiB and "
                       "64 GiB; choose another --memory",
                       (unsigned long long)size);
    uint8_t *p = map_aligned(size);
    if (!p)
        return rv_fail_errno(err, RV_E_HOST, "cannot map %llu MiB of guest memory",
                             (unsigned long long)(size >> 20));
    /* Fewer host TLB misses; a refusal costs only speed. */
    (void)madvise(p, size, MADV_HUGEPAGE);
    r->host = p;
    r->size = size;
    r->dirty = rv_alloc(size >> RV_PAGE_SHIFT);
    r->executed = rv_alloc(size >> RV_PAGE_SHIFT);
    r->undigested = rv_alloc(size >> RV_PAGE_SHIFT);
    r->changed = rv_alloc(size >> RV_PAGE_SHIFT);
    r->recent = rv_alloc(size >> RV_PAGE_SHIFT);
    r->page_hash = rv_alloc((size >> RV_PAGE_SHIFT) * sizeof *r->page_hash);
    return 0;
}

void rv_ram_release(struct rv_ram *r) {
    if (r->host) munmap(r->host, r->size);
    free(r->dirty);
    free(r->executed);
    free(r->undigested);
    free(r->changed);
    free(r->recent);
    free(r->page_hash);
    *r = (struct rv_ram){0};
}

uint64_t rv_ram_low_size(const struct rv_ram *r) {
    return r->size < RV_RAM_LOW_LIMIT ? r->size : RV_RAM_LOW_LIMIT;
}

uint64_t rv_ram_high_size(const struct rv_ram *r) { return r->size - rv_ram_low_size(r); }

/* The offset of a whole range, or UINT64_MAX when any byte is outside RAM. */
static uint64_t range_offset(const struct rv_ram *r, rv_gpa gpa, uint64_t len) {
    if (len == 0) return 0;
    if (len > r->size || gpa + len < gpa) return UINT64_MAX;
    uint64_t first = rv_ram_offset(r, gpa);
    uint64_t last = rv_ram_offset(r, gpa + len - 1);
    if (first == UINT64_MAX || last == UINT64_MAX || last - first != len - 1) return UINT64_MAX;
    return first;
}

bool rv_ram_read(const struct rv_ram *r, rv_gpa gpa, void *out, uint64_t len) {
    uint64_t off = range_offset(r, gpa, len);
    if (off == UINT64_MAX) return false;
    if (len) memcpy(out, r->host + off, len);
    return true;
}

bool rv_ram_write(struct rv_ram *r, rv_gpa gpa, const void *in, uint64_t len) {
    uint64_t off = range_offset(r, gpa, len);
    if (off == UINT64_MAX) return false;
    if (!len) return true;
    if (r->on_write) r->on_write(r->ctx, off, len);
    memcpy(r->host + off, in, len);
    for (uint64_t page = off >> RV_PAGE_SHIFT; page <= (off + len - 1) >> RV_PAGE_SHIFT; page++)
        r->dirty[page] = 1;
    return true;
}

/* The first page from i on that is marked; pages: none. Few are, so words are looked at. */
static uint64_t next_marked(const uint8_t *marks, uint64_t i, uint64_t pages) {
    for (; i < pages; i++) {
        uint64_t word;
        while (i + sizeof word <= pages && (memcpy(&word, marks + i, sizeof word), word == 0))
            i += sizeof word;
        if (i < pages && marks[i]) break;
    }
    return i;
}

/* Moves what engines noted to those who want to know of it, each at a time of its own. */
static void collect(struct rv_ram *r) {
    if (r->collect) r->collect(r->collect_ctx);
    uint64_t pages = r->size >> RV_PAGE_SHIFT;
    for (uint64_t i = 0; (i = next_marked(r->dirty, i, pages)) < pages; i++) {
        r->undigested[i] = r->changed[i] = r->recent[i] = 1;
        r->dirty[i] = 0;
    }
    if (r->on_clean) r->on_clean(r->ctx);
}

uint8_t *rv_ram_changed(struct rv_ram *r) {
    collect(r);
    return r->changed;
}

uint8_t *rv_ram_recent(struct rv_ram *r) {
    collect(r);
    return r->recent;
}

uint64_t rv_ram_digest(struct rv_ram *r) {
    /* A sum over pages of a hash seeded with the page's number: order-independent, so that one
     * changed page costs one subtraction and one addition. */
    collect(r);
    uint64_t pages = r->size >> RV_PAGE_SHIFT;
    for (uint64_t i = 0; (i = next_marked(r->undigested, i, pages)) < pages; i++) {
        const uint8_t *page = r->host + (i << RV_PAGE_SHIFT);
        static const uint8_t zero[RV_PAGE_SIZE];
        /* Pages that hold zeroes count as never written, so that a page written with what it held
         * already leaves the digest alone. */
        uint64_t h = 0;
        if (memcmp(page, zero, RV_PAGE_SIZE) != 0)
            h = XXH3_64bits_withSeed(page, RV_PAGE_SIZE, i + 1);
        r->digest += h - r->page_hash[i];
        r->page_hash[i] = h;
        r->undigested[i] = 0;
    }
    return r->digest;
}
