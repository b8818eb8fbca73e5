#include "tools/analysis/guest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

#define KERNEL_HALF 0xffff800000000000ull
#define MAX_IMAGE   (256ull << 20) /* of a program in the guest */
#define MAX_FILES   16

/* A program or library in the guest. */
struct object {
    uint64_t id, size; /* rv_linux_file_id(), or the address of a mapping without a file */
    char path[256];
    struct rv_prog *elf; /* NULL: it is none */
};

/* A file of --symbols. */
struct file {
    struct rv_prog *elf;
    char *path;
    bool placed; /* at an address given by the user */
    uint64_t bias;
};

struct rv_guest {
    struct rv_linux *kernel;
    char why[512];
    struct file file[MAX_FILES];
    unsigned files;
    struct object *object;
    size_t objects, room;
};

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- life ---- */

static bool parse_number(const char *text, uint64_t *out) {
    char *end;
    *out = strtoull(text, &end, 0);
    return end != text && !*end;
}

static uint64_t lowest(const struct rv_prog *e) {
    uint64_t low = UINT64_MAX;
    for (unsigned i = 0; i < e->loads; i++)
        if (e->load[i].addr < low) low = e->load[i].addr;
    return e->loads ? low & ~0xfffull : 0;
}

static int open_file(struct rv_guest *g, const char *text, struct rv_err *err) {
    struct file *f = &g->file[g->files];
    f->path = rv_strdup(text);
    char *at = strrchr(f->path, '@');
    uint64_t address = 0;
    if (at && parse_number(at + 1, &address)) {
        *at = 0;
        f->placed = true;
    }
    g->files++;
    int r = rv_prog_open(&f->elf, f->path, err);
    if (r) return r;
    if (!rv_symbols_count(f->elf->symbols))
        return rv_fail(err, RV_E_FORMAT, "%s has no symbols; give the file before it was stripped",
                       f->path);
    if (f->placed) f->bias = address - lowest(f->elf);
    return 0;
}

int rv_guest_open(struct rv_guest **out, const struct rv_guest_config *config, struct rv_err *err) {
    struct rv_guest *g = rv_alloc(sizeof *g);
    struct rv_err why = {0};
    int r = config->n > MAX_FILES ? rv_fail(err, RV_E_USAGE, "at most 16 files with symbols") : 0;
    for (unsigned i = 0; !r && i < config->n; i++) r = open_file(g, config->symbols[i], err);
    if (!r) {
        r = rv_linux_find_in(&g->kernel, config->timeline, &why);
        snprintf(g->why, sizeof g->why, "%s", why.msg);
        if (r == RV_E_FORMAT) r = 0;
        if (r && err) *err = why;
    }
    if (r)
        rv_guest_free(g);
    else
        *out = g;
    return r;
}

void rv_guest_free(struct rv_guest *g) {
    if (!g) return;
    for (unsigned i = 0; i < g->files; i++) {
        rv_prog_free(g->file[i].elf);
        free(g->file[i].path);
    }
    for (size_t i = 0; i < g->objects; i++) rv_prog_free(g->object[i].elf);
    free(g->object);
    rv_linux_free(g->kernel);
    free(g);
}

const struct rv_linux *rv_guest_linux(const struct rv_guest *g) { return g->kernel; }
const char *rv_guest_why_not(const struct rv_guest *g) { return g->why; }

/* ---- looking ---- */

int rv_look_at(struct rv_look *look, struct rv_guest *g, struct rv_machine *m, uint32_t pid,
               struct rv_err *err) {
    const struct rv_linux *l = g->kernel;
    *look = (struct rv_look){.guest = g, .machine = m};
    rv_view_of(&look->cpu, m);
    look->user = look->cpu;
    if (l && rv_linux_view(l, m, &look->kernel)) {
        look->current = rv_linux_current(l, &look->kernel);
        look->up = rv_linux_task(l, &look->kernel, look->current, &look->task);
    }
    if (pid && !look->up)
        return rv_fail(err, RV_E_UNSUPPORTED, "no Linux is up there, so there are no processes%s%s",
                       l ? "" : ": ", l ? "" : g->why);
    if (pid && look->task.tid != pid && !rv_linux_task_by_tid(l, &look->kernel, pid, &look->task))
        return rv_fail(err, RV_E_USAGE,
                       "there is no process %" PRIu32 " at that position; retro ps lists them",
                       pid);
    if (look->up && rv_linux_user_view(l, &look->kernel, look->task.mm, &look->user)) {
        look->has_user = true;
        look->vmas = rv_linux_vmas(l, &look->kernel, look->task.mm, &look->vma);
    }
    return 0;
}

void rv_look_release(struct rv_look *look) {
    free(look->vma);
    look->vma = NULL;
    look->vmas = 0;
}

size_t rv_look_read(const struct rv_look *look, uint64_t va, void *out, size_t len,
                    enum rv_absent *why) {
    if (look->has_user && va < KERNEL_HALF)
        return rv_linux_user_read(look->guest->kernel, &look->kernel, &look->user, look->vma,
                                  look->vmas, va, out, len, why);
    size_t got =
        rv_view_read(look->up && va >= KERNEL_HALF ? &look->kernel : &look->cpu, va, out, len);
    if (why) *why = got == len ? RV_PRESENT : RV_UNMAPPED;
    return got;
}

bool rv_look_translate(const struct rv_look *look, uint64_t va, rv_gpa *pa) {
    if (look->up && va >= KERNEL_HALF) return rv_view_translate(&look->kernel, va, pa);
    return rv_view_translate(look->has_user ? &look->user : &look->cpu, va, pa);
}

/* ---- programs ---- */

static const struct rv_linux_vma *vma_of(const struct rv_look *look, uint64_t va) {
    for (size_t i = 0; look->has_user && i < look->vmas; i++)
        if (va >= look->vma[i].start && va < look->vma[i].end) return &look->vma[i];
    return NULL;
}

/* Reads a file's pages; what is not in memory stays zero. */
static void read_pages(const struct rv_look *look, const struct rv_linux_vma *v, uint8_t *image,
                       size_t size) {
    for (size_t at = 0; at < size; at += RV_PAGE_SIZE) {
        size_t n = size - at < RV_PAGE_SIZE ? size - at : RV_PAGE_SIZE;
        if (v->file)
            rv_linux_file_read(look->guest->kernel, &look->kernel, v->file, at, image + at, n);
        else
            rv_look_read(look, v->start + at, image + at, n, NULL);
    }
}

unsigned rv_guest_files(const struct rv_guest *g) { return g->files; }

struct rv_guest_file rv_guest_file(const struct rv_guest *g, unsigned i) {
    const struct file *f = &g->file[i];
    return (struct rv_guest_file){
        .path = f->path, .prog = f->elf, .placed = f->placed, .bias = f->bias};
}

const struct rv_prog *rv_guest_given(const struct rv_guest *g, const char *path,
                                     const struct rv_prog *own) {
    for (unsigned i = 0; i < g->files; i++) {
        const struct rv_prog *f = g->file[i].elf;
        if (g->file[i].placed) continue;
        if (own && own->build_id_len && f->build_id_len) {
            if (f->build_id_len == own->build_id_len &&
                memcmp(f->build_id, own->build_id, f->build_id_len) == 0)
                return f;
        } else if (strcmp(base_name(g->file[i].path), base_name(path)) == 0) {
            return f;
        }
    }
    return NULL;
}

static const struct object *object_of(const struct rv_look *look, const struct rv_linux_vma *v) {
    struct rv_guest *g = look->guest;
    struct object o = {.id = v->file ? rv_linux_file_id(g->kernel, &look->kernel, v->file)
                                     : v->start ^ look->task.mm,
                       .size = v->file ? rv_linux_file_size(g->kernel, &look->kernel, v->file)
                                       : v->end - v->start};
    if (v->file) rv_linux_path(g->kernel, &look->kernel, v->file, o.path, sizeof o.path);
    for (size_t i = 0; i < g->objects; i++)
        if (g->object[i].id == o.id && g->object[i].size == o.size &&
            strcmp(g->object[i].path, o.path) == 0)
            return &g->object[i];
    uint8_t magic[4] = {0};
    rv_look_read(look, v->start, magic, v->offset ? 0 : 4, NULL);
    if (o.size <= MAX_IMAGE && (v->file || memcmp(magic, "\177ELF", 4) == 0)) {
        uint8_t *image = rv_alloc(o.size + 1);
        read_pages(look, v, image, o.size);
        rv_prog_read(&o.elf, image, o.size, NULL);
        free(image);
    }
    if (g->objects == g->room) {
        g->room = g->room ? 2 * g->room : 32;
        g->object = rv_realloc(g->object, g->room * sizeof *g->object);
    }
    g->object[g->objects] = o;
    return &g->object[g->objects++];
}

static bool within(const struct rv_prog *e, uint64_t va, uint64_t bias) {
    for (unsigned i = 0; i < e->loads; i++)
        if (va - bias >= e->load[i].addr && va - bias - e->load[i].addr < e->load[i].size)
            return true;
    return false;
}

/* The start of a run of mappings of the same file as v's, or of anonymous ones behind it (.bss). */
static const struct rv_linux_vma *file_before(const struct rv_look *look,
                                              const struct rv_linux_vma *v) {
    for (const struct rv_linux_vma *p = v; p > look->vma; p--)
        if (p[-1].end != p->start)
            return NULL;
        else if (p[-1].file)
            return p - 1;
    return NULL;
}

static const struct rv_prog *mapped(const struct rv_look *look, uint64_t va, uint64_t *bias,
                                    const struct object **object) {
    const struct rv_linux_vma *v = vma_of(look, va);
    if (!v) return NULL;
    const struct object *o = object_of(look, v);
    if (!v->file && !o->elf) {
        const struct rv_linux_vma *before = file_before(look, v);
        if (!before) return NULL;
        v = before;
        o = object_of(look, v);
    }
    if (!o->elf || !rv_prog_bias(o->elf, v->start, v->offset, bias)) return NULL;
    *object = o;
    return within(o->elf, va, *bias) || va < v->end ? o->elf : NULL;
}

const struct rv_prog *rv_look_prog(const struct rv_look *look, uint64_t va, uint64_t *bias) {
    const struct object *o;
    return mapped(look, va, bias, &o);
}

/* ---- names ---- */

static bool place_in(const struct rv_symbols *s, uint64_t va, uint64_t bias,
                     struct rv_place *place) {
    const struct rv_symbol *y = rv_symbols_at(s, va - bias);
    if (!y) return false;
    place->symbol = y->name;
    place->offset = va - bias - y->addr;
    place->start = y->addr + bias;
    uint64_t end = rv_symbols_end(s, y);
    place->end = end == UINT64_MAX ? end : end + bias;
    return true;
}

void rv_look_place(const struct rv_look *look, uint64_t va, struct rv_place *place) {
    const struct rv_guest *g = look->guest;
    const struct object *o = NULL;
    uint64_t bias;
    *place = (struct rv_place){0};
    if (va >= KERNEL_HALF && g->kernel) {
        snprintf(place->module, sizeof place->module, "kernel");
        if (va >= 0xffffffff80000000ull) place_in(rv_linux_symbols(g->kernel), va, 0, place);
        if (place->symbol) return;
    }
    const struct rv_prog *e = mapped(look, va, &bias, &o);
    if (e) {
        const struct rv_prog *better = rv_guest_given(g, o->path, o->elf);
        snprintf(place->module, sizeof place->module, "%.63s",
                 *o->path ? base_name(o->path) : "vdso");
        if (place_in((better ? better : e)->symbols, va, bias, place)) return;
        if (better && place_in(e->symbols, va, bias, place)) return;
    }
    for (unsigned i = 0; i < g->files; i++) {
        const struct file *f = &g->file[i];
        /* A program's symbols are good for that program alone. */
        if (!f->placed && (!f->elf->fixed || e || look->has_user)) continue;
        if (!within(f->elf, va, f->bias) || !place_in(f->elf->symbols, va, f->bias, place))
            continue;
        snprintf(place->module, sizeof place->module, "%.63s", base_name(f->path));
        return;
    }
}

const char *rv_look_name(const struct rv_look *look, uint64_t va, char *out, size_t size) {
    struct rv_place p;
    rv_look_place(look, va, &p);
    bool kernel = strcmp(p.module, "kernel") == 0;
    *out = 0;
    if (p.symbol && p.offset)
        snprintf(out, size, "%s+0x%" PRIx64 "%s%s%s", p.symbol, p.offset, kernel ? "" : " (",
                 kernel ? "" : p.module, kernel ? "" : ")");
    else if (p.symbol)
        snprintf(out, size, "%s%s%s%s", p.symbol, kernel ? "" : " (", kernel ? "" : p.module,
                 kernel ? "" : ")");
    else if (*p.module && !kernel)
        snprintf(out, size, "(%s)", p.module);
    return out;
}

/* ---- addresses from text ---- */

struct wanted {
    const char *module; /* NULL: any */
    size_t module_len;
    const char *name;
};

static bool is_module(const struct wanted *w, const char *name) {
    return !w->module ||
           (strlen(name) == w->module_len && memcmp(name, w->module, w->module_len) == 0);
}

static bool find_in(const struct rv_symbols *s, const char *name, uint64_t bias, uint64_t *addr,
                    uint64_t *size) {
    const struct rv_symbol *y = rv_symbols_find(s, name, NULL);
    if (!y) return false;
    *addr = y->addr + bias;
    uint64_t end = rv_symbols_end(s, y);
    *size = y->size ? y->size : end == UINT64_MAX ? 0 : end - y->addr;
    return true;
}

static bool find_in_process(const struct rv_look *look, const struct wanted *w, uint64_t *addr,
                            uint64_t *size) {
    for (size_t i = 0; look->has_user && i < look->vmas; i++) {
        const struct object *o;
        uint64_t bias;
        const struct rv_prog *e = mapped(look, look->vma[i].start, &bias, &o);
        if (!e || !is_module(w, *o->path ? base_name(o->path) : "vdso")) continue;
        const struct rv_prog *better = rv_guest_given(look->guest, o->path, o->elf);
        if (better && find_in(better->symbols, w->name, bias, addr, size)) return true;
        if (find_in(e->symbols, w->name, bias, addr, size)) return true;
    }
    return false;
}

static bool find_symbol(const struct rv_look *look, const struct wanted *w, uint64_t *addr,
                        uint64_t *size) {
    const struct rv_guest *g = look->guest;
    if (find_in_process(look, w, addr, size)) return true;
    if (g->kernel && is_module(w, "kernel") &&
        find_in(rv_linux_symbols(g->kernel), w->name, 0, addr, size))
        return true;
    for (unsigned i = 0; i < g->files; i++) {
        const struct file *f = &g->file[i];
        if (is_module(w, base_name(f->path)) && (f->placed || f->elf->fixed) &&
            find_in(f->elf->symbols, w->name, f->bias, addr, size))
            return true;
    }
    return false;
}

int rv_look_resolve(const struct rv_look *look, const char *text, uint64_t *addr, uint64_t *size,
                    struct rv_err *err) {
    *size = 0;
    if (parse_number(text, addr)) return 0;
    char name[256];
    uint64_t offset = 0;
    snprintf(name, sizeof name, "%s", text);
    char *plus = strrchr(name, '+');
    if (plus && plus > name) {
        if (!parse_number(plus + 1, &offset))
            return rv_fail(err, RV_E_USAGE, "%s: what follows + is not a number", text);
        *plus = 0;
    }
    struct wanted w = {.name = name};
    char *colon = strchr(name, ':');
    if (colon && colon > name) {
        w = (struct wanted){name, (size_t)(colon - name), colon + 1};
    }
    if (!find_symbol(look, &w, addr, size)) {
        const struct rv_guest *g = look->guest;
        bool process = look->has_user;
        return rv_fail(err, RV_E_USAGE,
                       "no symbol \"%s\" in the kernel%s%s%s; give the file that has it with "
                       "--symbols, its process with --process, or a number",
                       name, g->kernel ? "" : " (not recognised)", process ? " or in process " : "",
                       process ? look->task.comm : "");
    }
    *addr += offset;
    if (plus) *size = *size > offset ? *size - offset : 0;
    return 0;
}
