/* Mappings, files and the page cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/linux_priv.h"

#define MAX_VMAS  (1u << 20)
#define MAX_DEPTH 24 /* of trees */
#define MAX_PATH  64 /* components, mounts */
#define PRESENT   1ull
#define LARGE     0x80ull
#define PROTNONE  0x100ull
#define ADDRESS   0x000ffffffffff000ull

/* ---- mappings ---- */

struct list {
    struct rv_linux_vma *vma;
    size_t n, room;
};

bool rv_linux_vma(const struct rv_linux *l, const struct rv_view *k, uint64_t vma,
                  struct rv_linux_vma *out) {
    const struct rv_linux_offsets *at = &l->at;
    uint64_t flags, page;
    *out = (struct rv_linux_vma){0};
    if (!rv_linux_u64(k, vma + at->vm_area_struct_vm_start, &out->start) ||
        !rv_linux_u64(k, vma + at->vm_area_struct_vm_end, &out->end) ||
        !rv_linux_u64(k, vma + at->vm_area_struct_vm_flags, &flags) ||
        !rv_linux_u64(k, vma + at->vm_area_struct_vm_pgoff, &page) ||
        !rv_linux_u64(k, vma + at->vm_area_struct_vm_file, &out->file))
        return false;
    out->prot = flags & 7;
    out->shared = flags & 8;
    out->offset = out->file ? page << RV_PAGE_SHIFT : 0;
    return out->start < out->end;
}

static void append(struct list *s, const struct rv_linux *l, const struct rv_view *k,
                   uint64_t vma) {
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        s->vma = rv_realloc(s->vma, s->room * sizeof *s->vma);
    }
    if (s->n < MAX_VMAS && rv_linux_vma(l, k, vma, &s->vma[s->n])) s->n++;
}

/* A node of a maple tree (Linux lib/maple_tree.c): pivots are the last addresses of slots. The low
 * byte of a pointer to a node says what it is. */
static void maple(struct list *s, const struct rv_linux *l, const struct rv_view *k, uint64_t entry,
                  uint64_t last, unsigned depth) {
    uint64_t node = entry & ~0xffull, type = entry >> 3 & 15, pivot, slot;
    bool leaf = type == 1, wide = type == 3;
    unsigned slots = wide ? l->arange_slots : l->range_slots;
    if (depth > MAX_DEPTH || type == 0 || type > 3 || slots > 64) return;
    for (unsigned i = 0; i < slots && s->n < MAX_VMAS; i++) {
        pivot = last;
        if (i + 1 < slots) {
            if (!rv_linux_u64(k, node + (wide ? l->arange_pivot : l->range_pivot) + 8 * i, &pivot))
                return;
            if (!pivot && i) pivot = last;
        }
        if (!rv_linux_u64(k, node + (wide ? l->arange_slot : l->range_slot) + 8 * i, &slot)) return;
        if (slot && leaf)
            append(s, l, k, slot);
        else if (slot)
            maple(s, l, k, slot, pivot, depth + 1);
        if (pivot >= last) return;
    }
}

static int by_start(const void *pa, const void *pb) {
    const struct rv_linux_vma *a = pa, *b = pb;
    return a->start < b->start ? -1 : a->start > b->start;
}

size_t rv_linux_vmas(const struct rv_linux *l, const struct rv_view *k, uint64_t mm,
                     struct rv_linux_vma **out) {
    struct list s = {0};
    uint64_t at;
    *out = NULL;
    if (!mm || !rv_linux_u64(k, mm + l->mm_root, &at) || !at) return 0;
    if (!l->maple)
        for (; at && s.n < MAX_VMAS; rv_linux_u64(k, at + l->vma_next, &at)) append(&s, l, k, at);
    else if ((at & 3) == 2 && at > 4096)
        maple(&s, l, k, at, UINT64_MAX, 0);
    else
        append(&s, l, k, at);
    if (s.n) qsort(s.vma, s.n, sizeof *s.vma, by_start);
    *out = s.vma;
    return s.n;
}

/* ---- paths ---- */

static bool put_front(char *out, size_t *at, const char *name) {
    size_t n = strlen(name);
    if (*at < n + 1) return false;
    *at -= n;
    for (size_t i = 0; i < n; i++) out[*at + i] = name[i];
    out[--*at] = '/';
    return true;
}

/* What has no path has a file system of its own. */
static size_t unnamed(const struct rv_linux *l, const struct rv_view *k, uint64_t file,
                      uint64_t dentry, char *out, size_t size) {
    uint64_t sb, type, name, inode, number;
    char fs[32];
    if (!rv_linux_u64(k, dentry + l->at.dentry_d_sb, &sb) ||
        !rv_linux_u64(k, sb + l->at.super_block_s_type, &type) ||
        !rv_linux_u64(k, type + l->at.file_system_type_name, &name) ||
        rv_view_string(k, name, fs, sizeof fs, NULL) <= 0 ||
        !rv_linux_u64(k, file + l->at.file_f_inode, &inode) ||
        !rv_linux_u64(k, inode + l->at.inode_i_ino, &number))
        return 0;
    size_t n = strlen(fs);
    if (n > 2 && strcmp(fs + n - 2, "fs") == 0) fs[n - 2] = 0;
    if (strcmp(fs, "sock") == 0) snprintf(fs, sizeof fs, "socket");
    return (size_t)snprintf(out, size, "%s:[%llu]", fs, (unsigned long long)number);
}

size_t rv_linux_path(const struct rv_linux *l, const struct rv_view *k, uint64_t file, char *out,
                     size_t size) {
    const struct rv_linux_offsets *o = &l->at;
    uint64_t mnt, dentry, root, parent, name, self, first;
    char part[256], path[4096];
    size_t at = sizeof path - 1;
    path[at] = 0;
    *out = 0;
    if (!file || !rv_linux_u64(k, file + o->file_f_path + o->path_mnt, &mnt) ||
        !rv_linux_u64(k, file + o->file_f_path + o->path_dentry, &dentry))
        return 0;
    first = dentry;
    for (unsigned steps = 0; steps < MAX_PATH; steps++) {
        if (!rv_linux_u64(k, mnt + o->vfsmount_mnt_root, &root) ||
            !rv_linux_u64(k, dentry + o->dentry_d_parent, &parent))
            break;
        if (dentry == root) { /* to the mount that this one is on */
            self = mnt - o->mount_mnt;
            if (!rv_linux_u64(k, self + o->mount_mnt_parent, &parent) || parent == self) break;
            if (!rv_linux_u64(k, self + o->mount_mnt_mountpoint, &dentry)) break;
            mnt = parent + o->mount_mnt;
            continue;
        }
        if (parent == dentry) return unnamed(l, k, file, first, out, size);
        if (!rv_linux_u64(k, dentry + o->dentry_d_name + o->qstr_name, &name) ||
            rv_view_string(k, name, part, sizeof part, NULL) < 0 || !put_front(path, &at, part))
            break;
        dentry = parent;
    }
    int n = snprintf(out, size, "%s", path[at] ? path + at : "/");
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

uint64_t rv_linux_fd(const struct rv_linux *l, const struct rv_view *k, uint64_t task, int fd) {
    uint64_t files, fdt, table, file;
    uint32_t max;
    if (fd < 0 || !rv_linux_u64(k, task + l->at.task_struct_files, &files) || !files ||
        !rv_linux_u64(k, files + l->at.files_struct_fdt, &fdt) ||
        !rv_view_u32(k, fdt + l->at.fdtable_max_fds, &max) || (uint32_t)fd >= max ||
        !rv_linux_u64(k, fdt + l->at.fdtable_fd, &table) ||
        !rv_linux_u64(k, table + 8 * (uint64_t)fd, &file))
        return 0;
    return file;
}

uint64_t rv_linux_exe(const struct rv_linux *l, const struct rv_view *k, uint64_t mm) {
    uint64_t file;
    return mm && rv_linux_u64(k, mm + l->at.mm_struct_exe_file, &file) ? file : 0;
}

uint64_t rv_linux_file_id(const struct rv_linux *l, const struct rv_view *k, uint64_t file) {
    uint64_t mapping;
    return rv_linux_u64(k, file + l->at.file_f_mapping, &mapping) ? mapping : 0;
}

uint64_t rv_linux_file_size(const struct rv_linux *l, const struct rv_view *k, uint64_t file) {
    uint64_t inode, size;
    return rv_linux_u64(k, file + l->at.file_f_inode, &inode) &&
                   rv_linux_u64(k, inode + l->at.inode_i_size, &size)
               ? size
               : 0;
}

/* ---- the page cache ---- */

/* The page of a file, by the xarray that keeps them (Linux lib/xarray.c): entries that end in
 * binary 10 are nodes, or point to a sibling when they are small; those that end in 1 are values:
 * the page is swapped out. */
static uint64_t cached_page(const struct rv_linux *l, const struct rv_view *k, uint64_t mapping,
                            uint64_t index, unsigned *order) {
    uint64_t entry;
    *order = 0;
    if (!rv_linux_u64(k, mapping + l->at.address_space_i_pages + l->at.xarray_xa_head, &entry))
        return 0;
    if ((entry & 3) != 2) return index == 0 && !(entry & 3) ? entry : 0;
    for (unsigned depth = 0; depth < MAX_DEPTH && (entry & 3) == 2 && entry > 4096; depth++) {
        uint64_t node = entry - 2;
        uint8_t shift;
        if (rv_view_read(k, node + l->at.xa_node_shift, &shift, 1) != 1 || shift > 60) return 0;
        if (depth == 0 && shift + 6 < 64 && index >> (shift + 6)) return 0;
        uint64_t slot = index >> shift & 63;
        if (!rv_linux_u64(k, node + l->at.xa_node_slots + 8 * slot, &entry)) return 0;
        if ((entry & 3) == 2 && entry < 64 << 2) { /* a sibling of an earlier slot */
            slot = entry >> 2;
            if (!rv_linux_u64(k, node + l->at.xa_node_slots + 8 * slot, &entry)) return 0;
        }
        if ((entry & 3) != 2) {
            *order = shift;
            /* A folio of several pages may take several slots: it begins at the first. */
            if (!(entry & 3) && entry) return entry;
            return 0;
        }
    }
    return 0;
}

static bool page_address(const struct rv_linux *l, const struct rv_view *k, uint64_t page,
                         rv_gpa *pa) {
    uint64_t base;
    if (!rv_linux_u64(k, l->vmemmap_base, &base) || page < base ||
        (page - base) % l->page_size != 0)
        return false;
    *pa = (page - base) / l->page_size << RV_PAGE_SHIFT;
    return true;
}

/* Where the page at an index of a file is in physical memory. */
static bool cached_address(const struct rv_linux *l, const struct rv_view *k, uint64_t mapping,
                           uint64_t index, rv_gpa *pa) {
    unsigned order;
    uint64_t head = cached_page(l, k, mapping, index, &order), own, first;
    uint64_t index_at;
    if (!head || !page_address(l, k, head, pa)) return false;
    /* The folio knows which index it begins at. */
    if (!rv_btf_member(l->btf, "page", "index", &index_at, NULL) ||
        !rv_linux_u64(k, head + index_at, &first))
        return false;
    own = index - first;
    if (first > index || own >= 1u << 18) return false;
    *pa += own << RV_PAGE_SHIFT;
    return true;
}

size_t rv_linux_file_read(const struct rv_linux *l, const struct rv_view *k, uint64_t file,
                          uint64_t offset, void *out, size_t len) {
    uint64_t mapping = rv_linux_file_id(l, k, file);
    uint8_t *to = out;
    size_t done = 0;
    while (mapping && done < len) {
        uint64_t at = offset + done;
        size_t part = RV_PAGE_SIZE - (at & 0xfff);
        rv_gpa pa;
        if (part > len - done) part = len - done;
        if (!cached_address(l, k, mapping, at >> RV_PAGE_SHIFT, &pa) ||
            !rv_ram_read(k->ram, pa + (at & 0xfff), to + done, part))
            break;
        done += part;
    }
    return done;
}

/* ---- memory of a process ---- */

const char *rv_absent_text(enum rv_absent why) {
    switch (why) {
    case RV_PRESENT: return "is present";
    case RV_SWAPPED: return "is swapped out";
    case RV_NOT_CACHED: return "is mapped from a file of which this part is not in memory";
    case RV_NO_ACCESS: return "is mapped without access";
    default: return "is not mapped";
    }
}

/* The last page table entry on the way to an address: 0 when it is empty. */
static uint64_t entry_of(const struct rv_view *v, uint64_t va) {
    uint64_t table = v->cpu.cr3 & ADDRESS, entry = 0;
    for (int shift = 39; shift >= 12; shift -= 9) {
        if (!rv_ram_read(v->ram, table + (va >> shift & 511) * 8, &entry, 8)) return 0;
        if (!(entry & PRESENT) || (shift <= 30 && (entry & LARGE))) break;
        table = entry & ADDRESS;
    }
    return entry;
}

static const struct rv_linux_vma *vma_of(const struct rv_linux_vma *vma, size_t n, uint64_t va) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (vma[mid].end <= va)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && vma[lo].start <= va ? &vma[lo] : NULL;
}

/* A part of a page that the page tables do not have. */
static enum rv_absent absent(const struct rv_linux *l, const struct rv_view *k,
                             const struct rv_view *user, const struct rv_linux_vma *vma,
                             uint64_t va, uint8_t *out, size_t len) {
    if (!vma) return RV_UNMAPPED;
    if (!(vma->prot & 7)) return RV_NO_ACCESS;
    uint64_t entry = entry_of(user, va);
    if (entry & PRESENT) return RV_UNMAPPED;
    if (entry & ~(uint64_t)PROTNONE) return entry & PROTNONE ? RV_NO_ACCESS : RV_SWAPPED;
    if (!vma->file) {
        memset(out, 0, len);
        return RV_PRESENT;
    }
    uint64_t offset = vma->offset + (va - vma->start);
    return rv_linux_file_read(l, k, vma->file, offset, out, len) == len ? RV_PRESENT
                                                                        : RV_NOT_CACHED;
}

size_t rv_linux_user_read(const struct rv_linux *l, const struct rv_view *k,
                          const struct rv_view *user, const struct rv_linux_vma *vma, size_t n,
                          uint64_t va, void *out, size_t len, enum rv_absent *why) {
    uint8_t *to = out;
    size_t done = 0;
    enum rv_absent no = RV_PRESENT;
    while (done < len) {
        uint64_t at = va + done;
        size_t part = RV_PAGE_SIZE - (at & 0xfff);
        if (part > len - done) part = len - done;
        if (rv_view_read(user, at, to + done, part) != part)
            no = absent(l, k, user, vma_of(vma, n, at), at, to + done, part);
        if (no != RV_PRESENT) break;
        done += part;
    }
    if (why) *why = no;
    return done;
}

bool rv_linux_args(const struct rv_linux *l, const struct rv_view *k, uint64_t mm, uint64_t *start,
                   uint64_t *end) {
    *start = *end = 0;
    return mm && rv_linux_u64(k, mm + l->at.mm_struct_arg_start, start) &&
           rv_linux_u64(k, mm + l->at.mm_struct_arg_end, end) && *start < *end;
}

size_t rv_linux_strings(const struct rv_view *user, uint64_t start, uint64_t end, char *out,
                        size_t size) {
    char one[1024];
    size_t len = 0;
    *out = 0;
    while (start < end && len + 4 < size) {
        bool whole;
        int n = rv_view_string(user, start, one, sizeof one, &whole);
        if (n < 0) break;
        bool quote = !n || strpbrk(one, " \t\n\"'\\$`*?;&|<>()");
        int put = snprintf(out + len, size - len, "%s%s%s%s", len ? " " : "", quote ? "\"" : "",
                           one, quote ? "\"" : "");
        if (put < 0) break;
        len = len + (size_t)put < size ? len + (size_t)put : size - 1;
        if (!whole) break;
        start += (uint64_t)n + 1;
    }
    return len;
}
