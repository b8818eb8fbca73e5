/* Address translation (SDM 3A chapter 4): 2-, 3- and 4-level paging, kept coherent.
 *
 * A real CPU may go on using a translation after its page-table entry was changed. Here it does
 * not: every page that a cached translation was read from is remembered as a page table, writes to
 * it take the slow path, and there the translations that may depend on the entry are dropped. So
 * the guest sees a CPU without a TLB, whatever the size and fate of ours: replay from a checkpoint,
 * or on another engine, sets the same accessed bits and takes the same faults. */
#include "vmm/cpu/interp/mmu.h"

#include <stdlib.h>

#include "vmm/base/buf.h"
#include "vmm/cpu/interp/block.h"
#include "vmm/cpu/interp/watch.h"

#define PTE_P  (1ull << 0)
#define PTE_W  (1ull << 1)
#define PTE_U  (1ull << 2)
#define PTE_A  (1ull << 5)
#define PTE_D  (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_NX (1ull << 63)

#define PF_P    1u
#define PF_W    2u
#define PF_U    4u
#define PF_RSVD 8u
#define PF_I    16u

int rv_mmu_new(struct rv_interp *c, struct rv_err *err) {
    (void)err;
    c->mmu = rv_alloc(sizeof *c->mmu);
    c->mmu->pages = rv_alloc((c->ram->size >> RV_PAGE_SHIFT) * sizeof *c->mmu->pages);
    c->mmu->gen = c->mmu->low_gen = 1;
    for (unsigned s = 0; s < RV_TLB_SETS; s++)
        memset(c->tlbs[s].filled, 0xff, sizeof c->tlbs[s].filled);
    rv_mmu_flush(c);
    return 0;
}

void rv_mmu_free(struct rv_interp *c) {
    if (c->mmu) free(c->mmu->pages);
    free(c->mmu);
    c->mmu = NULL;
}

static void close_window(struct rv_interp *c, unsigned set) {
    c->hot.window[set] = (struct rv_window){.low = 0, .high = 1ull << 62};
}

void rv_mmu_dropped(struct rv_interp *c) {
    for (unsigned s = 0; s < RV_TLB_NEVER; s++) close_window(c, s);
    c->changed = true;
}

static void forget_low_tables(struct rv_interp *c) {
    struct rv_mmu *m = c->mmu;
    if (++m->low_gen == 0) {
        uint64_t n = c->ram->size >> RV_PAGE_SHIFT;
        for (uint64_t i = 0; i < n; i++) m->pages[i].low_gen = 0;
        m->low_gen = 1;
    }
}

void rv_mmu_flush(struct rv_interp *c) {
    for (unsigned s = 0; s < RV_TLB_SETS; s++) {
        struct rv_tlb *t = &c->tlbs[s];
        RV_TLB_EACH(t->filled, i) t->r[i].tag = t->w[i].tag = t->x[i].tag = rv_tlb_empty(i);
        memset(t->filled, 0, sizeof t->filled);
        memset(t->low, 0, sizeof t->low);
    }
    rv_mmu_dropped(c);
    if (c->hooks) c->hooks->unmapped(c, false);
    c->mmu->root = RV_NO_ROOT;
    forget_low_tables(c);
    if (++c->mmu->gen == 0) {
        uint64_t n = c->ram->size >> RV_PAGE_SHIFT;
        for (uint64_t i = 0; i < n; i++) c->mmu->pages[i].pt_gen = c->mmu->pages[i].write_gen = 0;
        c->mmu->gen = 1;
    }
}

/* The tag of an entry for writing that says that a page may be written, but that each write has to
 * be seen. It saves the walk. As an empty entry's it belongs to a page of another entry, so that no
 * address hits it. */
static uint64_t seen_tag(uint64_t page) {
    return 0 - (page ^ (uint64_t)(RV_TLB_SIZE / 4) << RV_PAGE_SHIFT);
}

/* The tags of empty entries are those of addresses in the lower half. */
static bool is_low(const struct rv_tlbe *e) { return (int64_t)(e->tag - 1) < 0; }
static void drop_if_low(struct rv_tlbe *e, uint64_t n) {
    e->tag = is_low(e) ? rv_tlb_empty(n) : e->tag;
}

/* Forgets the cached translations of the lower half. */
static void flush_low(struct rv_interp *c) {
    for (unsigned s = 0; s < RV_TLB_SETS; s++) {
        struct rv_tlb *t = &c->tlbs[s];
        RV_TLB_EACH(t->low, i) {
            drop_if_low(&t->r[i], i);
            drop_if_low(&t->w[i], i);
            drop_if_low(&t->x[i], i);
            if (is_low(&t->r[i]) && is_low(&t->w[i]) && is_low(&t->x[i]))
                t->filled[i / 64] &= ~(1ull << (i % 64));
        }
        memset(t->low, 0, sizeof t->low);
    }
    rv_mmu_dropped(c);
    if (c->hooks) c->hooks->unmapped(c, true);
    forget_low_tables(c);
}

void rv_mmu_mode(struct rv_interp *c) {
    const struct rv_x86 *x = &c->x;
    uint32_t mode = 0;
    bool prot = (x->cr0 & RV_CR0_PE) && !(x->rflags & RV_FL_VM);
    if (prot) mode |= RV_MODE_PROT;
    if ((x->efer & RV_EFER_LMA) && (x->seg[RV_CS].attr & RV_SEG_L))
        mode |= RV_MODE_64;
    else if (x->seg[RV_CS].attr & RV_SEG_DB)
        mode |= RV_MODE_D;
    if (x->cr0 & RV_CR0_PG) mode |= RV_MODE_PAGED;
    bool avx = c->profile->v3 && prot && (x->cr4 & RV_CR4_OSXSAVE) &&
               (x->xcr0 & (RV_XCR0_SSE | RV_XCR0_AVX)) == (RV_XCR0_SSE | RV_XCR0_AVX);
    if (avx) mode |= RV_MODE_AVX;
    /* Jump tables lead to code that was decoded for the other. */
    if (((mode ^ c->mode) & RV_MODE_AVX) && c->hooks) c->hooks->unmapped(c, false);
    c->mode = mode;
    c->cs_base = mode & RV_MODE_64 ? 0 : x->seg[RV_CS].base;
    c->cpl = !(x->cr0 & RV_CR0_PE)  ? 0
             : x->rflags & RV_FL_VM ? 3
                                    : (uint8_t)RV_SEG_DPL(x->seg[RV_SS].attr);
    /* Bits 0 to 7 of DR7 enable breakpoints; R/W field 0 is for execution. */
    bool data_bp = false, code_bp = false;
    for (unsigned n = 0; n < 4; n++)
        if (x->dr7 >> (2 * n) & 3) {
            if (x->dr7 >> (16 + 4 * n) & 3)
                data_bp = true;
            else
                code_bp = true;
        }
    c->watching = (x->rflags & RV_FL_TF) || code_bp || data_bp;
    if (c->watching) rv_leave(c);
    bool alignment = c->cpl == 3 && (x->cr0 & RV_CR0_AM) && (x->rflags & RV_FL_AC);
    unsigned set;
    if (data_bp || alignment)
        set = RV_TLB_NEVER;
    else if (c->cpl == 3)
        set = RV_TLB_USER;
    else if ((x->cr4 & RV_CR4_SMAP) && !(x->rflags & RV_FL_AC))
        set = RV_TLB_KERNEL;
    else
        set = RV_TLB_KERNEL_AC;
    c->tlb = &c->tlbs[set];
}

/* ---- page tables as watched pages ---- */

static void evict_write(struct rv_tlb *t, unsigned i, uint64_t host) {
    if (t->w[i].addend - t->w[i].tag == host) t->w[i].tag = rv_tlb_empty(i);
}

static void evict_writes(struct rv_interp *c, uint64_t page) {
    uint64_t host = (uint64_t)(uintptr_t)(c->ram->host + (page << RV_PAGE_SHIFT));
    unsigned at = c->mmu->pages[page].write_at;
    for (unsigned s = 0; s < RV_TLB_SETS; s++) {
        struct rv_tlb *t = &c->tlbs[s];
        if (at != RV_WRITE_MANY)
            evict_write(t, at, host);
        else
            RV_TLB_EACH(t->filled, i) evict_write(t, i, host);
    }
    rv_mmu_dropped(c);
}

void rv_mmu_protect(struct rv_interp *c, uint64_t page) {
    struct rv_page *p = &c->mmu->pages[page];
    if (p->write_gen != c->mmu->gen) return;
    p->write_gen = 0;
    evict_writes(c, page);
}

static void protect_table(struct rv_interp *c, uint64_t page) {
    if (!rv_mmu_is_table(c, page)) rv_mmu_protect(c, page);
}

/* A walk for va reads an entry of this page. */
static void mark_table(struct rv_interp *c, uint64_t page, unsigned level, uint64_t va) {
    struct rv_mmu *m = c->mmu;
    struct rv_page *p = &m->pages[page];
    protect_table(c, page);
    if (level == 4) {
        m->root = page;
    } else if ((c->x.efer & RV_EFER_LMA) && !(va >> 63)) {
        if (p->low_gen != m->low_gen) p->low_levels = 0;
        p->low_gen = m->low_gen;
        p->low_levels |= (uint8_t)(1u << level);
    } else {
        if (p->pt_gen != m->gen) p->pt_levels = 0;
        p->pt_gen = m->gen;
        p->pt_levels |= (uint8_t)(1u << level);
    }
}

/* Whether va lies in a page whose number ends in these bits. */
static bool ends_in(uint64_t va, unsigned number, unsigned bits, bool low) {
    return !(((va >> RV_PAGE_SHIFT) ^ number) & ((1u << bits) - 1)) && !(low && va >> 63);
}

/* A leaf table's entry changed. Its index is the low bits of the page number, which index the
 * caches too. */
static void leaf_changed(struct rv_interp *c, uint64_t offset, bool low) {
    bool wide = c->x.cr4 & RV_CR4_PAE;
    unsigned bits = wide ? 9 : 10;
    unsigned first = (unsigned)(offset & 0xfff) >> (wide ? 3 : 2);
    for (unsigned s = 0; s < RV_TLB_SETS; s++) {
        struct rv_tlb *t = &c->tlbs[s];
        for (unsigned i = first; i < RV_TLB_SIZE; i += 1u << bits) {
            const uint64_t *map = low ? t->low : t->filled;
            if (!(map[i / 64] >> (i % 64) & 1)) continue;
            if (!low || is_low(&t->r[i])) t->r[i].tag = rv_tlb_empty(i);
            if (!low || is_low(&t->w[i])) t->w[i].tag = rv_tlb_empty(i);
            if (!low || is_low(&t->x[i])) t->x[i].tag = rv_tlb_empty(i);
        }
    }
    /* A process that ends clears hundreds of entries in a row. Code that runs counts on no others
     * than those of its own page and of its window. */
    if (ends_in(c->cs_base + c->x.rip, first, bits, low)) c->changed = true;
    for (unsigned s = 0; s < RV_TLB_NEVER; s++) {
        if (!ends_in(0 - c->hot.window[s].low, first, bits, low)) continue;
        close_window(c, s);
        c->changed = true;
    }
    if (c->hooks) c->hooks->remapped(c, first, bits, low);
}

#define LEAF      (1u << 1)
#define HIGH_HALF (RV_PAGE_SIZE / 2) /* of the top table: offset of the upper half's entries */

/* The entry at RAM offset changed and was present before: drop what may have come from it. */
static void table_changed(struct rv_interp *c, uint64_t offset) {
    struct rv_mmu *m = c->mmu;
    uint64_t page = offset >> RV_PAGE_SHIFT;
    const struct rv_page *p = &m->pages[page];
    bool root = page == m->root, any = p->pt_gen == m->gen, low = p->low_gen == m->low_gen;
    if ((any && p->pt_levels != LEAF) || (root && (offset & 0xfff) >= HIGH_HALF)) {
        rv_mmu_flush(c);
        return;
    }
    if (any) leaf_changed(c, offset, false);
    if (root || (low && p->low_levels != LEAF))
        flush_low(c);
    else if (low && !any)
        leaf_changed(c, offset, true);
}

void rv_mmu_switched(struct rv_interp *c) {
    struct rv_mmu *m = c->mmu;
    uint64_t offset = rv_ram_offset(c->ram, c->x.cr3 & 0x000ffffffffff000ull);
    if (m->root == RV_NO_ROOT || offset == UINT64_MAX) {
        rv_mmu_flush(c);
        return;
    }
    /* What was translated through an entry stays if the new table has the same, accessed bit and
     * all. Entries without that bit were not used. */
    const uint8_t *before = c->ram->host + (m->root << RV_PAGE_SHIFT), *now = c->ram->host + offset;
    if (memcmp(before + HIGH_HALF, now + HIGH_HALF, HIGH_HALF) != 0)
        for (unsigned at = HIGH_HALF; at < RV_PAGE_SIZE; at += 8) {
            uint64_t a, b;
            memcpy(&a, before + at, 8);
            memcpy(&b, now + at, 8);
            if (a != b && (a & PTE_P) && (a & PTE_A)) {
                rv_mmu_flush(c);
                return;
            }
        }
    flush_low(c);
    protect_table(c, offset >> RV_PAGE_SHIFT);
    m->root = offset >> RV_PAGE_SHIFT;
}

/* ---- the walk ---- */

/* Reads an entry of a table; tables outside RAM read as an empty bus does. */
static uint64_t read_entry(struct rv_interp *c, uint64_t gpa, unsigned size, uint64_t *offset,
                           unsigned level, uint64_t va) {
    *offset = rv_ram_offset(c->ram, gpa);
    if (*offset == UINT64_MAX) return size == 8 ? UINT64_MAX : UINT32_MAX;
    mark_table(c, *offset >> RV_PAGE_SHIFT, level, va);
    uint64_t v = 0;
    memcpy(&v, c->ram->host + *offset, size);
    return v;
}

static void write_entry(struct rv_interp *c, uint64_t gpa, uint64_t offset, unsigned size,
                        uint64_t v) {
    if (offset == UINT64_MAX) return;
    uint64_t page = offset >> RV_PAGE_SHIFT;
    rv_watch_data(c, c->w.walker, RV_WATCH_NO_VA, gpa, size, RV_WATCH_WRITE);
    /* Tables may share a page with code; the walk's own write is a write like any other. */
    if (c->mmu->pages[page].code) rv_block_written(c, offset, size);
    memcpy(c->ram->host + offset, &v, size);
    c->ram->dirty[page] = 1;
}

int rv_mmu_walk(struct rv_interp *c, uint64_t va, unsigned access, uint64_t *pa, uint32_t *error) {
    const struct rv_x86 *x = &c->x;
    if (!(x->cr0 & RV_CR0_PG)) {
        *pa = va & 0xffffffffu;
        return 0;
    }
    bool lm = x->efer & RV_EFER_LMA, pae = x->cr4 & RV_CR4_PAE, nxe = x->efer & RV_EFER_NXE;
    bool user = access & RV_ACC_USER, write = access & RV_ACC_WRITE, fetch = access & RV_ACC_FETCH;
    uint32_t code = (write ? PF_W : 0) | (user ? PF_U : 0) |
                    (fetch && (nxe || (x->cr4 & RV_CR4_SMEP)) ? PF_I : 0);
    unsigned size = pae ? 8 : 4;
    uint64_t table, rsvd_high = 0;
    unsigned level;
    uint64_t addresses[5], offsets[5], entries[5];
    if (lm) {
        level = 4;
        table = x->cr3 & 0x000ffffffffff000ull;
    } else if (pae) {
        level = 3;
        table = x->cr3 & 0xffffffe0u;
    } else {
        level = 2;
        table = x->cr3 & 0xfffff000u;
    }
    if (pae) {
        uint64_t phys_mask = (1ull << c->profile->phys_bits) - 1;
        rsvd_high = ~phys_mask & 0x000ffffffffff000ull;
        if (!lm) rsvd_high |= 0x7ff0000000000000ull;
        if (!nxe) rsvd_high |= PTE_NX;
    }
    bool may_write = true, may_user = true, nx = false;
    unsigned top = level;
    uint64_t page_mask;
    for (;; level--) {
        unsigned index_bits = pae ? 9 : 10;
        unsigned shift = 12 + index_bits * (level - 1);
        uint64_t index = va >> shift & ((1u << index_bits) - 1);
        if (pae && !lm && level == 3) index = va >> 30 & 3;
        addresses[level] = table + index * size;
        uint64_t e = read_entry(c, addresses[level], size, &offsets[level], level, va);
        entries[level] = e;
        if (!(e & PTE_P)) goto fault;
        bool pdpte = pae && !lm && level == 3;
        if (pae && (e & rsvd_high)) goto reserved;
        if (pdpte) {
            if (e & (PTE_NX | 0x1e6u)) goto reserved;
            table = e & 0x000ffffffffff000ull;
            continue;
        }
        may_write &= !!(e & PTE_W);
        may_user &= !!(e & PTE_U);
        nx |= nxe && (e & PTE_NX);
        bool large = (e & PTE_PS) && level > 1 && (pae || (x->cr4 & RV_CR4_PSE));
        if (large && level == 4) goto reserved;
        if (large || level == 1) {
            page_mask = (1ull << shift) - 1;
            uint64_t base = e & 0x000ffffffffff000ull;
            if (large && !pae) {
                /* PSE-36: bits 13 to 20 are address bits 32 to 39, bit 21 is reserved. */
                if (e & (1u << 21)) goto reserved;
                base = (e & 0xffc00000u) | ((e >> 13 & 0xff) << 32);
            } else if (large) {
                if (e & page_mask & 0x000fffffffffe000ull) goto reserved;
                base = e & 0x000ffffffffff000ull & ~page_mask;
            } else if (!pae) {
                base = e & 0xfffff000u;
            }
            *pa = (base & ~page_mask) | (va & page_mask);
            break;
        }
        table = pae ? e & 0x000ffffffffff000ull : e & 0xfffff000u;
    }
    code |= PF_P;
    if (user && !may_user) goto denied;
    if (!user && may_user) {
        if (fetch && (x->cr4 & RV_CR4_SMEP)) goto denied;
        if (!fetch && (x->cr4 & RV_CR4_SMAP) &&
            (!(x->rflags & RV_FL_AC) || (access & RV_ACC_IMPLICIT)))
            goto denied;
    }
    if (write && !may_write && (user || (x->cr0 & RV_CR0_WP))) goto denied;
    if (fetch && nx) goto denied;

    /* Allowed: accessed bits on the way, the dirty bit at the leaf (SDM 3A 4.8). */
    for (unsigned l = top; l >= level; l--) {
        if (pae && !lm && l == 3) continue;
        uint64_t want = entries[l] | PTE_A | (l == level && write ? PTE_D : 0);
        if (want != entries[l]) write_entry(c, addresses[l], offsets[l], size, want);
    }
    return 0;

reserved:
    code |= PF_P | PF_RSVD;
fault:
denied:
    *error = code;
    return -1;
}

/* ---- cached access ---- */

static unsigned access_of(const struct rv_interp *c) { return c->cpl == 3 ? RV_ACC_USER : 0; }

static void check_canonical(struct rv_interp *c, const struct rv_insn *i, uint64_t va,
                            unsigned size) {
    if (!(c->mode & RV_MODE_64)) return;
    if (rv_canonical(va) && rv_canonical(va + size - 1)) return;
    rv_raise_error(c, i, i && (i->flags & RV_I_SS) ? RV_VEC_SS : RV_VEC_GP, 0);
}

static uint64_t translate(struct rv_interp *c, const struct rv_insn *i, uint64_t va,
                          unsigned access) {
    uint64_t pa;
    uint32_t error;
    if (!(c->x.efer & RV_EFER_LMA)) va &= 0xffffffffu;
    c->w.walker = i;
    if (rv_mmu_walk(c, va, access, &pa, &error)) rv_raise_page_fault(c, i, va, error);
    return pa;
}

static void fill(struct rv_interp *c, struct rv_tlb *t, uint64_t va, uint64_t pa, bool write) {
    if (t == &c->tlbs[RV_TLB_NEVER]) return;
    uint64_t off = rv_ram_offset(c->ram, pa & RV_PAGE_MASK);
    if (off == UINT64_MAX) return;
    if (!(c->x.efer & RV_EFER_LMA)) va &= 0xffffffffu;
    unsigned watched = rv_unlikely(c->w.data) ? rv_watch_page(c, va, pa) : 0;
    if (watched & RV_WATCH_READ) return;
    uint64_t page = va & RV_PAGE_MASK;
    unsigned n = (va >> RV_PAGE_SHIFT) & (RV_TLB_SIZE - 1);
    uint64_t addend = (uint64_t)(uintptr_t)(c->ram->host + off) - page;
    rv_tlb_uses(t, va);
    t->r[n] = (struct rv_tlbe){0 - page, addend};
    if (!write || watched) return;
    struct rv_page *p = &c->mmu->pages[off >> RV_PAGE_SHIFT];
    if (p->code || rv_mmu_is_table(c, off >> RV_PAGE_SHIFT)) {
        t->w[n] = (struct rv_tlbe){seen_tag(page), addend};
        return;
    }
    if (p->write_gen != c->mmu->gen)
        p->write_at = (uint16_t)n;
    else if (p->write_at != n)
        p->write_at = RV_WRITE_MANY;
    p->write_gen = c->mmu->gen;
    c->ram->dirty[off >> RV_PAGE_SHIFT] = 1;
    t->w[n] = (struct rv_tlbe){0 - page, addend};
}

/* As translate, for a write that does not cross a page. */
static uint64_t translate_write(struct rv_interp *c, const struct rv_insn *i, uint64_t va) {
    const struct rv_tlbe *e = rv_tlb_at(c->tlb->w, va);
    if (e->tag == seen_tag(va & RV_PAGE_MASK))
        return rv_ram_gpa(va + e->addend - (uint64_t)(uintptr_t)c->ram->host);
    return translate(c, i, va, access_of(c) | RV_ACC_WRITE);
}

uint64_t rv_mmu_fetch(struct rv_interp *c, uint64_t va) {
    if (c->mode & RV_MODE_64) {
        if (!rv_canonical(va)) rv_raise_error(c, NULL, RV_VEC_GP, 0);
    } else {
        va &= 0xffffffffu;
    }
    struct rv_tlbe *e = rv_tlb_at(c->tlb->x, va);
    if (rv_likely(rv_tlb_hit(e, va))) return e->addend | (va & 0xfff);
    uint64_t pa = translate(c, NULL, va, RV_ACC_FETCH | access_of(c));
    uint64_t off = rv_ram_offset(c->ram, pa);
    if (off != UINT64_MAX) c->ram->executed[off >> RV_PAGE_SHIFT] = 1;
    if (c->tlb != &c->tlbs[RV_TLB_NEVER]) {
        rv_tlb_uses(c->tlb, va);
        *e = (struct rv_tlbe){0 - (va & RV_PAGE_MASK), pa & RV_PAGE_MASK};
    }
    return pa;
}

bool rv_mmu_try_fetch(struct rv_interp *c, uint64_t va, uint64_t *pa) {
    struct rv_tlbe *e = rv_tlb_at(c->tlb->x, va);
    if (!rv_tlb_hit(e, va)) {
        uint32_t error;
        if (!rv_canonical(va) || c->w.data) return false;
        if (rv_mmu_walk(c, va, RV_ACC_FETCH | access_of(c), pa, &error)) return false;
        uint64_t off = rv_ram_offset(c->ram, *pa);
        if (off != UINT64_MAX) c->ram->executed[off >> RV_PAGE_SHIFT] = 1;
        rv_tlb_uses(c->tlb, va);
        *e = (struct rv_tlbe){0 - (va & RV_PAGE_MASK), *pa & RV_PAGE_MASK};
    }
    *pa = e->addend | (va & 0xfff);
    return true;
}

/* ---- physical access ---- */

static uint64_t mmio_read(struct rv_interp *c, const struct rv_insn *i, uint64_t pa,
                          unsigned size) {
    rv_alone(c, i);
    if (i) rv_sync(c, i);
    struct rv_exit x = {.kind = RV_EXIT_MMIO_READ, .size = size, .addr = pa};
    c->bus->exit(c->bus->ctx, &x);
    rv_leave(c);
    return x.data;
}

static void mmio_write(struct rv_interp *c, const struct rv_insn *i, uint64_t pa, unsigned size,
                       uint64_t value) {
    rv_alone(c, i);
    if (i) rv_sync(c, i);
    struct rv_exit x = {.kind = RV_EXIT_MMIO_WRITE, .size = size, .addr = pa, .data = value};
    c->bus->exit(c->bus->ctx, &x);
    rv_leave(c);
}

/* A device sees naturally sized accesses only: odd ones are cut into bytes. */
static bool natural(uint64_t pa, unsigned size) {
    return (size == 1 || size == 2 || size == 4 || size == 8) && pa % size == 0;
}

/* Within one page. */
static uint64_t phys_load(struct rv_interp *c, const struct rv_insn *i, uint64_t pa,
                          unsigned size) {
    uint64_t off = rv_ram_offset(c->ram, pa), v = 0;
    if (off != UINT64_MAX) {
        memcpy(&v, c->ram->host + off, size);
    } else if (natural(pa, size)) {
        v = mmio_read(c, i, pa, size);
    } else {
        for (unsigned n = 0; n < size; n++) v |= (mmio_read(c, i, pa + n, 1) & 0xff) << (8 * n);
    }
    return v;
}

/* Raises nothing but rv_alone's detour, which must come before the first byte is written. */
static void prepare_store(struct rv_interp *c, const struct rv_insn *i, uint64_t pa,
                          unsigned size) {
    uint64_t off = rv_ram_offset(c->ram, pa);
    if (off == UINT64_MAX) {
        rv_alone(c, i);
        return;
    }
    const struct rv_page *p = &c->mmu->pages[off >> RV_PAGE_SHIFT];
    if (rv_mmu_is_table(c, off >> RV_PAGE_SHIFT)) {
        unsigned entry = c->x.cr4 & RV_CR4_PAE ? 8 : 4;
        for (uint64_t at = off & ~(uint64_t)(entry - 1); at < off + size; at += entry)
            if (c->ram->host[at] & PTE_P) rv_alone(c, i);
    }
    if (p->code && rv_block_covers(c, off, size)) rv_alone(c, i);
}

static void phys_store(struct rv_interp *c, const struct rv_insn *i, uint64_t pa, unsigned size,
                       uint64_t value) {
    uint64_t off = rv_ram_offset(c->ram, pa);
    if (off == UINT64_MAX) {
        if (natural(pa, size)) {
            mmio_write(c, i, pa, size, value);
        } else {
            for (unsigned n = 0; n < size; n++)
                mmio_write(c, i, pa + n, 1, value >> (8 * n) & 0xff);
        }
        return;
    }
    uint64_t page = off >> RV_PAGE_SHIFT;
    struct rv_page *p = &c->mmu->pages[page];
    if (p->code) rv_block_written(c, off, size);
    c->ram->dirty[page] = 1;
    if (rv_mmu_is_table(c, page)) {
        unsigned entry = c->x.cr4 & RV_CR4_PAE ? 8 : 4;
        for (uint64_t at = off & ~(uint64_t)(entry - 1); at < off + size; at += entry)
            if (c->ram->host[at] & PTE_P) {
                table_changed(c, at);
                if (!rv_mmu_is_table(c, page)) break;
            }
    }
    memcpy(c->ram->host + off, &value, size);
}

/* ---- checks of data accesses: alignment (#AC) and data breakpoints ---- */

static void check_watch(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                        bool write) {
    if (rv_likely(c->tlb != &c->tlbs[RV_TLB_NEVER])) return;
    struct rv_x86 *x = &c->x;
    if (c->cpl == 3 && (x->cr0 & RV_CR0_AM) && (x->rflags & RV_FL_AC) && va % size && i)
        rv_raise_error(c, i, RV_VEC_AC, 0);
    for (unsigned n = 0; n < 4; n++) {
        if (!(x->dr7 >> (2 * n) & 3)) continue;
        unsigned rw = x->dr7 >> (16 + 4 * n) & 3, len = x->dr7 >> (18 + 4 * n) & 3;
        if (rw == 0 || rw == 2 || (rw == 1 && !write)) continue;
        static const uint8_t lengths[] = {1, 2, 8, 4};
        uint64_t mask = lengths[len] - 1u;
        uint64_t from = x->dr[n] & ~mask;
        if (va <= from + mask && va + size > from) {
            x->pending_db = 1;
            x->pending_dr6 |= 1u << n;
            rv_leave(c);
        }
    }
}

/* ---- entry points ---- */

static uint64_t load(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                     unsigned access) {
    unsigned first = RV_PAGE_SIZE - (va & 0xfff);
    uint64_t pa1 = translate(c, i, va, access);
    if (rv_likely(size <= first)) {
        rv_watch_data(c, i, va, pa1, size, RV_WATCH_READ);
        return phys_load(c, i, pa1, size);
    }
    uint64_t pa2 = translate(c, i, va + first, access);
    rv_watch_data(c, i, va, pa1, first, RV_WATCH_READ);
    rv_watch_data(c, i, va + first, pa2, size - first, RV_WATCH_READ);
    return phys_load(c, i, pa1, first) | phys_load(c, i, pa2, size - first) << (8 * first);
}

static void store(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                  uint64_t value, unsigned access) {
    access |= RV_ACC_WRITE;
    unsigned first = RV_PAGE_SIZE - (va & 0xfff);
    uint64_t pa1 = translate(c, i, va, access);
    if (rv_likely(size <= first)) {
        prepare_store(c, i, pa1, size);
        rv_watch_data(c, i, va, pa1, size, RV_WATCH_WRITE);
        phys_store(c, i, pa1, size, value);
        return;
    }
    uint64_t pa2 = translate(c, i, va + first, access);
    prepare_store(c, i, pa1, first);
    prepare_store(c, i, pa2, size - first);
    rv_watch_data(c, i, va, pa1, first, RV_WATCH_WRITE);
    rv_watch_data(c, i, va + first, pa2, size - first, RV_WATCH_WRITE);
    phys_store(c, i, pa1, first, value);
    phys_store(c, i, pa2, size - first, value >> (8 * first));
}

uint64_t rv_load_slow(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size) {
    check_canonical(c, i, va, size);
    check_watch(c, i, va, size, false);
    unsigned first = RV_PAGE_SIZE - (va & 0xfff);
    if (size > first) return load(c, i, va, size, access_of(c));
    uint64_t pa = translate(c, i, va, access_of(c));
    fill(c, c->tlb, va, pa, false);
    rv_watch_data(c, i, va, pa, size, RV_WATCH_READ);
    return phys_load(c, i, pa, size);
}

void rv_store_slow(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                   uint64_t value) {
    check_canonical(c, i, va, size);
    check_watch(c, i, va, size, true);
    unsigned first = RV_PAGE_SIZE - (va & 0xfff);
    if (size > first) {
        store(c, i, va, size, value, access_of(c));
        return;
    }
    uint64_t pa = translate_write(c, i, va);
    prepare_store(c, i, pa, size);
    fill(c, c->tlb, va, pa, true);
    rv_watch_data(c, i, va, pa, size, RV_WATCH_WRITE);
    phys_store(c, i, pa, size, value);
}

void rv_probe_write(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size) {
    if (rv_fast_w(c, va, size)) return;
    check_canonical(c, i, va, size);
    unsigned first = RV_PAGE_SIZE - (va & 0xfff);
    if (size <= first) {
        prepare_store(c, i, translate_write(c, i, va), size);
        return;
    }
    unsigned access = access_of(c) | RV_ACC_WRITE;
    uint64_t pa1 = translate(c, i, va, access), pa2 = translate(c, i, va + first, access);
    prepare_store(c, i, pa1, first);
    prepare_store(c, i, pa2, size - first);
}

void rv_probe_modify(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size) {
    if (rv_fast_w(c, va, size)) return;
    if (c->bus->quirks & RV_QUIRK_MODIFY_READS) {
        check_canonical(c, i, va, size);
        unsigned first = RV_PAGE_SIZE - (va & 0xfff);
        translate(c, i, va, access_of(c));
        if (size > first) translate(c, i, va + first, access_of(c));
    }
    rv_probe_write(c, i, va, size);
}

void rv_load_bytes(struct rv_interp *c, const struct rv_insn *i, uint64_t va, void *out, size_t n) {
    uint8_t *p = out;
    while (n) {
        size_t step = RV_PAGE_SIZE - (va & 0xfff);
        if (step > n) step = n;
        const void *host = rv_fast_r(c, va, (unsigned)step);
        if (host) {
            memcpy(p, host, step);
        } else {
            if (step > 8) step = 8;
            uint64_t v = rv_load_slow(c, i, va, (unsigned)step);
            memcpy(p, &v, step);
        }
        p += step, va += step, n -= step;
    }
}

void rv_store_bytes(struct rv_interp *c, const struct rv_insn *i, uint64_t va, const void *in,
                    size_t n) {
    for (uint64_t at = va, end = va + n; at != end;) {
        uint64_t step = RV_PAGE_SIZE - (at & 0xfff);
        if (step > end - at) step = end - at;
        rv_probe_write(c, i, at, (unsigned)step);
        at += step;
    }
    const uint8_t *p = in;
    while (n) {
        size_t step = RV_PAGE_SIZE - (va & 0xfff);
        if (step > n) step = n;
        void *host = rv_fast_w(c, va, (unsigned)step);
        if (host) {
            memcpy(host, p, step);
        } else {
            if (step > 8) step = 8;
            uint64_t v = 0;
            memcpy(&v, p, step);
            rv_store_slow(c, i, va, (unsigned)step, v);
        }
        p += step, va += step, n -= step;
    }
}

/* The cache whose entries an implicit supervisor access may use. */
static struct rv_tlb *implicit_tlb(struct rv_interp *c) {
    return &c->tlbs[c->x.cr4 & RV_CR4_SMAP ? RV_TLB_KERNEL : RV_TLB_KERNEL_AC];
}

uint64_t rv_sys_load(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size) {
    struct rv_tlb *t = implicit_tlb(c);
    const struct rv_tlbe *e = rv_tlb_at(t->r, va);
    if (rv_likely(rv_tlb_hit(e, va + size - 1))) {
        uint64_t v = 0;
        memcpy(&v, (const void *)(va + e->addend), size);
        return v;
    }
    if (size > RV_PAGE_SIZE - (va & 0xfff)) return load(c, i, va, size, RV_ACC_IMPLICIT);
    uint64_t pa = translate(c, i, va, RV_ACC_IMPLICIT);
    fill(c, t, va, pa, false);
    rv_watch_data(c, i, va, pa, size, RV_WATCH_READ);
    return phys_load(c, i, pa, size);
}

void rv_sys_store(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                  uint64_t value) {
    struct rv_tlb *t = implicit_tlb(c);
    const struct rv_tlbe *e = rv_tlb_at(t->w, va);
    if (rv_likely(rv_tlb_hit(e, va + size - 1))) {
        memcpy((void *)(va + e->addend), &value, size);
        return;
    }
    if (size > RV_PAGE_SIZE - (va & 0xfff)) {
        store(c, i, va, size, value, RV_ACC_IMPLICIT);
        return;
    }
    uint64_t pa = translate(c, i, va, RV_ACC_IMPLICIT | RV_ACC_WRITE);
    prepare_store(c, i, pa, size);
    fill(c, t, va, pa, true);
    rv_watch_data(c, i, va, pa, size, RV_WATCH_WRITE);
    phys_store(c, i, pa, size, value);
}

void rv_store_as(struct rv_interp *c, const struct rv_insn *i, uint64_t va, unsigned size,
                 uint64_t value, bool user) {
    if ((c->x.efer & RV_EFER_LMA) && !(rv_canonical(va) && rv_canonical(va + size - 1)))
        rv_raise_error(c, i, RV_VEC_SS, 0);
    store(c, i, va, size, value, user ? RV_ACC_USER : 0);
}
