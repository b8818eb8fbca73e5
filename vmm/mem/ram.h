/* Guest RAM: one host mapping shown to the guest below and, beyond 3 GiB, above the 4 GiB mark.
 * Written only by the VM thread at safe points: by the CPU engine, or through rv_ram_write. */
#ifndef RV_VMM_MEM_RAM_H
#define RV_VMM_MEM_RAM_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"

#define RV_RAM_MIN       (1ull << 20)  /* 1 MiB */
#define RV_RAM_MAX       (64ull << 30) /* 64 GiB */
#define RV_RAM_LOW_LIMIT 0xc0000000ull /* RAM below this address; the rest moves above 4 GiB */
#define RV_RAM_HIGH_BASE 0x100000000ull

struct rv_ram {
    uint8_t *host; /* size bytes, page aligned */
    uint64_t size; /* bytes, a multiple of the page size */
    /* One byte a page each, indexed by offset >> 12. Engines set them, the host clears them. */
    uint8_t *dirty;    /* written since last cleared; on_clean is told of clearing */
    uint8_t *executed; /* code was fetched from here; may stay 0 when it was fetched before too,
                          unless on_clean was told of clearing */
    /* Told before a page is written from outside the engine, so that it drops decoded code and
     * cached translations; may be NULL. */
    void (*on_write)(void *ctx, uint64_t offset, uint64_t len);
    /* Told that dirty bytes were cleared: the engine must set them again on the next write. */
    void (*on_clean)(void *ctx);
    void *ctx;
    /* Asked before dirty bytes are read: marks there what hardware wrote unseen; may be NULL. */
    void (*collect)(void *ctx);
    void *collect_ctx;
    /* Pages known to be written since the digest, rv_ram_changed and rv_ram_recent last looked;
     * apart from those still in `dirty`. */
    uint8_t *undigested, *changed, *recent;
    /* Digest bookkeeping: hash of each page as last digested, and their combination. */
    uint64_t *page_hash;
    uint64_t digest;
};

/* Maps size bytes, zeroed. size is a multiple of 4096 in [RV_RAM_MIN, RV_RAM_MAX]. */
int rv_ram_init(struct rv_ram *r, uint64_t size, struct rv_err *err);
void rv_ram_release(struct rv_ram *r);

/* Offset into RAM of a guest physical address, or UINT64_MAX when it is not RAM. */
static inline uint64_t rv_ram_offset(const struct rv_ram *r, rv_gpa gpa) {
    if (gpa < RV_RAM_LOW_LIMIT) return gpa < r->size ? gpa : UINT64_MAX;
    if (gpa < RV_RAM_HIGH_BASE) return UINT64_MAX;
    gpa = gpa - RV_RAM_HIGH_BASE + RV_RAM_LOW_LIMIT;
    return gpa < r->size ? gpa : UINT64_MAX;
}

/* The guest physical address of an offset into RAM. */
static inline rv_gpa rv_ram_gpa(uint64_t offset) {
    return offset < RV_RAM_LOW_LIMIT ? offset : offset - RV_RAM_LOW_LIMIT + RV_RAM_HIGH_BASE;
}

/* Bytes of RAM below 4 GiB and above it, for memory maps. */
uint64_t rv_ram_low_size(const struct rv_ram *r);
uint64_t rv_ram_high_size(const struct rv_ram *r);

/* Checked copies between guest physical memory and the host's; false when any byte of the range is
 * not RAM (nothing is copied then). */
bool rv_ram_read(const struct rv_ram *r, rv_gpa gpa, void *out, uint64_t len);
bool rv_ram_write(struct rv_ram *r, rv_gpa gpa, const void *in, uint64_t len);

/* One byte a page: 1 when it was written since its byte was last cleared by the caller, who may
 * clear any of them. Valid until the machine runs on. */
uint8_t *rv_ram_changed(struct rv_ram *r);
/* The same once more, for another caller. */
uint8_t *rv_ram_recent(struct rv_ram *r);

/* A 64-bit digest of all RAM. Costs only the pages written since the last call. */
uint64_t rv_ram_digest(struct rv_ram *r);

#endif
