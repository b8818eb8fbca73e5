/* Address translation of the interpreter. Private to vmm/cpu/interp. */
#ifndef RV_VMM_CPU_INTERP_MMU_H
#define RV_VMM_CPU_INTERP_MMU_H

#include "vmm/cpu/interp/interp.h"

/* What is known of each RAM page, indexed by offset >> 12. Generations make forgetting everything
 * at once free.
 *
 * In long mode the two halves of the linear addresses are told apart: a load of CR3 usually changes
 * the lower half, the process, and leaves the upper, the kernel. */
struct rv_page {
    uint32_t pt_gen;    /* == mmu->gen: a cached translation came through this page */
    uint32_t low_gen;   /* == mmu->low_gen: one of the lower half did */
    uint32_t write_gen; /* == mmu->gen: a write translation to this page may be cached */
    uint8_t pt_levels;  /* bit n: used as a table of level n (1 = leaf) while pt_gen is current */
    uint8_t low_levels; /* the same while low_gen is */
    bool code;          /* decoded blocks lie here; writes must be seen */
    uint16_t write_at;  /* while write_gen is: the entry where they are cached, or RV_WRITE_MANY */
};
#define RV_WRITE_MANY UINT16_MAX

struct rv_mmu {
    uint32_t gen, low_gen;
    uint64_t root; /* page of long mode's top table, if walks went through it; or RV_NO_ROOT */
    struct rv_page *pages;
};
#define RV_NO_ROOT UINT64_MAX

enum rv_access {
    RV_ACC_WRITE = 2, /* as in a page-fault error code */
    RV_ACC_USER = 4,
    RV_ACC_FETCH = 16,
    RV_ACC_IMPLICIT = 32, /* supervisor access that EFLAGS.AC does not excuse (descriptor tables) */
};

int rv_mmu_new(struct rv_interp *c, struct rv_err *err);
void rv_mmu_free(struct rv_interp *c);

/* Chooses the TLB set and code mode after a change of privilege, paging or EFLAGS.AC. */
void rv_mmu_mode(struct rv_interp *c);
/* Forgets every cached translation. */
void rv_mmu_flush(struct rv_interp *c);
/* After a load of CR3 in long mode that chose another top table: forgets what may differ. */
void rv_mmu_switched(struct rv_interp *c);
/* Whether a cached translation may have come through this RAM page. */
static inline bool rv_mmu_is_table(const struct rv_interp *c, uint64_t page) {
    const struct rv_page *p = &c->mmu->pages[page];
    return p->pt_gen == c->mmu->gen || p->low_gen == c->mmu->low_gen || page == c->mmu->root;
}
/* Called by whatever takes entries from the TLB that are still there: closes the windows, which
 * came from such, and has translated code be left. */
void rv_mmu_dropped(struct rv_interp *c);
/* Drops cached write translations of a RAM page, so that the next write is seen. */
void rv_mmu_protect(struct rv_interp *c, uint64_t page);

/* Walks the guest's page tables. 0 and *pa, or -1 with the page-fault error code in *error. Sets
 * accessed and dirty bits when the access is allowed. Does not need an instruction. */
int rv_mmu_walk(struct rv_interp *c, uint64_t va, unsigned access, uint64_t *pa, uint32_t *error);

/* Physical address of an instruction fetch at linear address va; raises at i (may be NULL). */
uint64_t rv_mmu_fetch(struct rv_interp *c, uint64_t va);

/* The same in 64-bit code for a fetch that is certain to be the next, without raising: false when
 * it may, and then nothing has happened. The TLB set is not RV_TLB_NEVER. */
bool rv_mmu_try_fetch(struct rv_interp *c, uint64_t va, uint64_t *pa);

/* Accesses of the CPU's own (descriptor tables, TSS): supervisor whatever the CPL. size <= 8. */
uint64_t rv_sys_load(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size);
void rv_sys_store(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                  uint64_t value);
/* As data accesses, with a privilege of one's choosing (stacks of another level). */
void rv_store_as(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                 uint64_t value, bool user);

static inline bool rv_canonical(uint64_t va) { return (uint64_t)((int64_t)(va << 16) >> 16) == va; }

#endif
