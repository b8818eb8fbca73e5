#include "tools/analysis/linux_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/analysis/kallsyms.h"

#define TEXT_START  0xffffffff80000000ull
#define TEXT_END    0xffffffffc0000000ull
#define STEP        (2ull << 20) /* the kernel is aligned to this and mapped so */
#define MAX_IMAGE   (256ull << 20)
#define MAX_BTF     (64u << 20)
#define MAX_TASKS   (1u << 20)
#define PF_KTHREAD  0x00200000u
#define ADDRESS     0x000ffffffffff000ull
#define KERNEL_HALF 0xffff800000000000ull

/* ---- finding it ---- */

/* A copy of the kernel's image; holes in it are zero. */
struct image {
    uint8_t *bytes;
    uint64_t base;
    size_t size;
};

static bool copy_image(const struct rv_view *v, struct image *im) {
    uint64_t first = 0, last = 0;
    rv_gpa pa;
    for (uint64_t va = TEXT_START; va < TEXT_END; va += STEP) {
        if (!rv_view_translate(v, va, &pa) && !rv_view_translate(v, va + STEP / 2, &pa)) {
            if (first && va - last > 8 * STEP) break;
            continue;
        }
        if (!first) first = va;
        last = va;
    }
    if (!first || last - first > MAX_IMAGE) return false;
    im->base = first;
    im->size = last + STEP - first;
    im->bytes = rv_alloc(im->size);
    size_t got = 0;
    for (size_t at = 0; at < im->size; at += RV_PAGE_SIZE)
        got += rv_view_read(v, first + at, im->bytes + at, RV_PAGE_SIZE);
    if (got >= STEP) return true;
    free(im->bytes);
    return false;
}

static uint64_t sym(const struct rv_linux *l, const char *name) {
    const struct rv_symbol *y = rv_symbols_find(l->symbols, name, NULL);
    return y ? y->addr : 0;
}

static int read_btf(struct rv_linux *l, const struct rv_view *v, struct rv_err *err) {
    uint64_t start = sym(l, "__start_BTF"), stop = sym(l, "__stop_BTF");
    if (!start || stop <= start || stop - start > MAX_BTF)
        return rv_fail(err, RV_E_FORMAT,
                       "the kernel holds no BTF (CONFIG_DEBUG_INFO_BTF), so its structures are not "
                       "known");
    size_t len = stop - start;
    uint8_t *data = rv_alloc(len);
    int r = 0;
    if (rv_view_read(v, start, data, len) != len)
        r = rv_fail(err, RV_E_FORMAT, "the kernel's BTF is not in memory");
    if (!r) r = rv_btf_read(&l->btf, data, len, err);
    free(data);
    return r;
}

static int find_members(struct rv_linux *l, struct rv_err *err) {
    uint64_t at;
#define FIND(type, member)                                                                         \
    if (!rv_btf_member(l->btf, #type, #member, &at, NULL))                                         \
        return rv_fail(err, RV_E_FORMAT, "the kernel's types have no " #type "." #member);         \
    l->at.type##_##member = (uint32_t)at;
    RV_LINUX_MEMBERS(FIND)
#undef FIND
    return 0;
}

static int find_mappings(struct rv_linux *l, struct rv_err *err) {
    uint64_t size;
    if (rv_btf_member(l->btf, "mm_struct", "mm_mt.ma_root", &l->mm_root, NULL)) {
        l->maple = true;
        if (rv_btf_member(l->btf, "maple_range_64", "pivot", &l->range_pivot, NULL) &&
            rv_btf_member(l->btf, "maple_range_64", "slot", &l->range_slot, &size) &&
            rv_btf_member(l->btf, "maple_arange_64", "pivot", &l->arange_pivot, NULL)) {
            l->range_slots = (unsigned)(size / 8);
            if (rv_btf_member(l->btf, "maple_arange_64", "slot", &l->arange_slot, &size)) {
                l->arange_slots = (unsigned)(size / 8);
                return 0;
            }
        }
    } else if (rv_btf_member(l->btf, "mm_struct", "mmap", &l->mm_root, NULL) &&
               rv_btf_member(l->btf, "vm_area_struct", "vm_next", &l->vma_next, NULL)) {
        return 0;
    }
    return rv_fail(err, RV_E_FORMAT, "how this kernel keeps mappings is not known");
}

static int find_variables(struct rv_linux *l, const struct rv_view *v, struct rv_err *err) {
    rv_gpa root;
    uint64_t hot;
    l->init_task = sym(l, "init_task");
    l->banner = sym(l, "linux_banner");
    l->per_cpu_offset = sym(l, "__per_cpu_offset");
    l->vmemmap_base = sym(l, "vmemmap_base");
    l->page_offset_base = sym(l, "page_offset_base");
    l->current = sym(l, "current_task");
    if (!l->current && (hot = sym(l, "pcpu_hot")) &&
        rv_btf_member(l->btf, "pcpu_hot", "current_task", &l->current, NULL))
        l->current += hot;
    if (!l->current || !l->init_task || !l->banner || !l->vmemmap_base || !l->page_offset_base ||
        !rv_btf_sizeof(l->btf, "page", &l->page_size) || !l->page_size ||
        !rv_view_translate(v, sym(l, "init_top_pgt"), &root))
        return rv_fail(err, RV_E_FORMAT,
                       "the kernel has no symbols for its variables (CONFIG_KALLSYMS_ALL)");
    l->root = root & ADDRESS;
    uint64_t top = sym(l, "__end_init_task"), bottom = sym(l, "__start_init_task");
    if (!top) top = sym(l, "__end_init_stack");
    if (!bottom) bottom = sym(l, "__start_init_stack");
    l->stack_size = top > bottom && top - bottom <= 65536 ? top - bottom : 16384;
    return 0;
}

/* The unwind tables; a kernel built without them has none. */
static void read_orc(struct rv_linux *l, const struct rv_view *v) {
    uint64_t ips = sym(l, "__start_orc_unwind_ip"), end = sym(l, "__stop_orc_unwind_ip"),
             entries = sym(l, "__start_orc_unwind");
    if (!ips || end <= ips || end - ips > MAX_BTF || !entries) return;
    size_t n = (end - ips) / 4;
    uint8_t *a = rv_alloc(4 * n), *b = rv_alloc(6 * n);
    unsigned bits = 0;
    if (rv_view_read(v, ips, a, 4 * n) == 4 * n && rv_view_read(v, entries, b, 6 * n) == 6 * n &&
        rv_btf_field(l->btf, "orc_entry", "type", &bits))
        l->orc = rv_orc_new(a, b, n, ips, bits == 3);
    free(a);
    free(b);
}

static void name_it(struct rv_linux *l, const struct rv_view *v, const struct image *im) {
    char banner[256];
    rv_view_string(v, l->banner, banner, sizeof banner, NULL);
    snprintf(l->banner_text, sizeof l->banner_text, "%.*s", (int)sizeof l->banner_text - 1, banner);
    char *end = strstr(banner, " (");
    if (end) *end = 0;
    snprintf(l->version, sizeof l->version, "%.*s", (int)sizeof l->version - 1, banner);
    snprintf(l->how, sizeof l->how,
             "kallsyms with %zu symbols in the kernel's image at 0x%llx, BTF",
             rv_symbols_count(l->symbols), (unsigned long long)im->base);
}

static int understand(struct rv_linux *l, const struct rv_view *v, struct rv_err *err) {
    struct image im;
    if (!copy_image(v, &im)) return rv_fail(err, RV_E_FORMAT, "no kernel is mapped where Linux is");
    int r = rv_kallsyms_read(&l->symbols, im.bytes, im.size, err);
    if (!r) r = read_btf(l, v, err);
    if (!r) r = find_members(l, err);
    if (!r) r = find_mappings(l, err);
    if (!r) r = find_variables(l, v, err);
    if (!r) read_orc(l, v);
    if (!r) name_it(l, v, &im);
    free(im.bytes);
    return r;
}

int rv_linux_find(struct rv_linux **out, struct rv_machine *m, struct rv_err *err) {
    struct rv_view v;
    rv_view_of(&v, m);
    if (!(v.cpu.efer & RV_EFER_LMA))
        return rv_fail(err, RV_E_FORMAT, "the CPU is not in 64-bit mode");
    struct rv_linux *l = rv_alloc(sizeof *l);
    int r = understand(l, &v, err);
    if (r && (v.cpu.cr3 & 0x1000)) {
        /* With page table isolation user space has tables of its own, next to the kernel's. */
        rv_linux_free(l);
        l = rv_alloc(sizeof *l);
        v.cpu.cr3 &= ~(uint64_t)0x1000;
        r = understand(l, &v, err);
    }
    if (r)
        rv_linux_free(l);
    else
        *out = l;
    return r;
}

int rv_linux_find_in(struct rv_linux **out, struct rv_timeline *t, struct rv_err *err) {
    size_t n = 0, tried = SIZE_MAX;
    bool filed;
    while (n < rv_timeline_stats(t).filed + rv_timeline_stats(t).kept) n++;
    int r = RV_E_FORMAT;
    /* The last checkpoint, and some before, should the guest have ended in disorder. */
    for (unsigned part = 8; part > 0 && n; part--) {
        size_t i = (n - 1) * part / 8;
        if (i == tried) continue;
        tried = i;
        struct rv_arrival a;
        r = rv_timeline_seek(t, (struct rv_moment){rv_timeline_checkpoint(t, i, &filed), 0}, &a,
                             err);
        if (r) return r;
        if (a.at == RV_AT_INTERRUPT) return rv_fail(err, RV_E_INTERRUPTED, "interrupted");
        r = rv_linux_find(out, rv_timeline_machine(t), err);
        if (r != RV_E_FORMAT) return r;
    }
    return r;
}

void rv_linux_free(struct rv_linux *l) {
    if (!l) return;
    rv_symbols_free(l->symbols);
    rv_btf_free(l->btf);
    rv_orc_free(l->orc);
    free(l);
}

const char *rv_linux_version(const struct rv_linux *l) { return l->version; }
const char *rv_linux_how(const struct rv_linux *l) { return l->how; }
const struct rv_symbols *rv_linux_symbols(const struct rv_linux *l) { return l->symbols; }
const struct rv_btf *rv_linux_btf(const struct rv_linux *l) { return l->btf; }
const struct rv_orc *rv_linux_orc(const struct rv_linux *l) { return l->orc; }
uint64_t rv_linux_symbol(const struct rv_linux *l, const char *name) { return sym(l, name); }

/* ---- views ---- */

bool rv_linux_u64(const struct rv_view *k, uint64_t va, uint64_t *out) {
    *out = 0;
    return va >= KERNEL_HALF && rv_view_u64(k, va, out);
}

static void use_root(struct rv_view *v, uint64_t root) {
    v->cpu.cr0 |= RV_CR0_PG | RV_CR0_PE;
    v->cpu.cr4 |= RV_CR4_PAE;
    v->cpu.efer |= RV_EFER_LMA | RV_EFER_LME;
    v->cpu.cr3 = root;
}

bool rv_linux_view(const struct rv_linux *l, struct rv_machine *m, struct rv_view *kernel) {
    char text[sizeof l->banner_text];
    rv_view_of(kernel, m);
    use_root(kernel, l->root);
    return rv_view_string(kernel, l->banner, text, sizeof text, NULL) > 0 &&
           strcmp(text, l->banner_text) == 0;
}

bool rv_linux_user_view(const struct rv_linux *l, const struct rv_view *k, uint64_t mm,
                        struct rv_view *user) {
    uint64_t pgd;
    rv_gpa pa;
    *user = *k;
    if (!mm || !rv_linux_u64(k, mm + l->at.mm_struct_pgd, &pgd) || !rv_view_translate(k, pgd, &pa))
        return false;
    use_root(user, pa & ADDRESS);
    return true;
}

/* ---- tasks ---- */

uint64_t rv_linux_current(const struct rv_linux *l, const struct rv_view *k) {
    uint64_t base = 0, task;
    if (l->per_cpu_offset && !rv_linux_u64(k, l->per_cpu_offset, &base)) return 0;
    return rv_linux_u64(k, base + l->current, &task) ? task : 0;
}

bool rv_linux_task(const struct rv_linux *l, const struct rv_view *k, uint64_t task,
                   struct rv_linux_task *out) {
    const struct rv_linux_offsets *at = &l->at;
    uint64_t parent, pgd;
    uint32_t flags;
    rv_gpa pa;
    *out = (struct rv_linux_task){.task = task};
    if (task < KERNEL_HALF || !rv_view_u32(k, task + at->task_struct_pid, &out->tid) ||
        !rv_view_u32(k, task + at->task_struct_tgid, &out->pid) ||
        !rv_view_u32(k, task + at->task_struct_flags, &flags) ||
        !rv_linux_u64(k, task + at->task_struct_mm, &out->mm) ||
        rv_view_string(k, task + at->task_struct_comm, out->comm, sizeof out->comm, NULL) < 0)
        return false;
    out->kernel = (flags & PF_KTHREAD) || !out->tid;
    if (rv_linux_u64(k, task + at->task_struct_real_parent, &parent) && parent >= KERNEL_HALF) {
        rv_view_u32(k, parent + at->task_struct_tgid, &out->ppid);
        rv_view_u32(k, parent + at->task_struct_pid, &out->parent_tid);
    }
    if (out->mm && rv_linux_u64(k, out->mm + at->mm_struct_pgd, &pgd) &&
        rv_view_translate(k, pgd, &pa))
        out->root = pa & ADDRESS;
    return true;
}

struct list {
    struct rv_linux_task *task;
    size_t n, room;
};

static bool append(struct list *s, const struct rv_linux *l, const struct rv_view *k,
                   uint64_t task) {
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 128;
        s->task = rv_realloc(s->task, s->room * sizeof *s->task);
    }
    return s->n < MAX_TASKS && rv_linux_task(l, k, task, &s->task[s->n]) && ++s->n;
}

/* A process's threads, its first before the others. */
static bool append_threads(struct list *s, const struct rv_linux *l, const struct rv_view *k,
                           uint64_t leader) {
    uint64_t signal, node;
    if (!append(s, l, k, leader)) return false;
    if (!rv_linux_u64(k, leader + l->at.task_struct_signal, &signal) || !signal) return true;
    uint64_t head = signal + l->at.signal_struct_thread_head;
    for (unsigned n = 0; n < MAX_TASKS && rv_linux_u64(k, head, &node); n++) {
        head = node;
        if (!node || node == signal + l->at.signal_struct_thread_head) break;
        uint64_t task = node - l->at.task_struct_thread_node;
        if (task != leader && !append(s, l, k, task)) break;
    }
    return true;
}

size_t rv_linux_tasks(const struct rv_linux *l, const struct rv_view *k,
                      struct rv_linux_task **out) {
    struct list s = {0};
    uint64_t leader = l->init_task, node;
    while (append_threads(&s, l, k, leader) &&
           rv_linux_u64(k, leader + l->at.task_struct_tasks, &node) && node) {
        leader = node - l->at.task_struct_tasks;
        if (leader == l->init_task) break;
    }
    *out = s.task;
    return s.n;
}

bool rv_linux_task_by_tid(const struct rv_linux *l, const struct rv_view *k, uint32_t tid,
                          struct rv_linux_task *out) {
    struct rv_linux_task *all;
    size_t n = rv_linux_tasks(l, k, &all), i = 0;
    while (i < n && all[i].tid != tid) i++;
    if (i < n) *out = all[i];
    free(all);
    return i < n;
}

uint64_t rv_linux_saved_sp(const struct rv_linux *l, const struct rv_view *k, uint64_t task) {
    uint64_t sp;
    rv_linux_u64(k, task + l->at.task_struct_thread + l->at.thread_struct_sp, &sp);
    return sp;
}

bool rv_linux_stack(const struct rv_linux *l, const struct rv_view *k, uint64_t task, uint64_t *low,
                    uint64_t *high) {
    if (!rv_linux_u64(k, task + l->at.task_struct_stack, low) || *low < KERNEL_HALF) return false;
    *high = *low + l->stack_size;
    return true;
}

int rv_linux_exit_code(const struct rv_linux *l, const struct rv_view *k, uint64_t task) {
    uint32_t code;
    rv_view_u32(k, task + l->at.task_struct_exit_code, &code);
    return (int)code;
}
