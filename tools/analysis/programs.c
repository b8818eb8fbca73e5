#include "tools/analysis/programs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

#define PROGRAM_MAX (128u << 20)
#define EXECUTE     4u

struct rv_programs {
    const struct rv_guest *guest;
    const struct rv_linux *l;
    pthread_mutex_t lock; /* of list */
    struct rv_program *list;
};

struct rv_programs *rv_programs_new(const struct rv_guest *g) {
    struct rv_programs *p = rv_alloc(sizeof *p);
    p->guest = g;
    p->l = rv_guest_linux(g);
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

void rv_programs_free(struct rv_programs *p) {
    if (!p) return;
    while (p->list) {
        struct rv_program *x = p->list;
        p->list = x->next;
        rv_prog_free(x->own);
        free((char *)(uintptr_t)x->path);
        free(x);
    }
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* What the page cache holds of a file, as an ELF image; NULL: it is none. */
static struct rv_prog *read_image(struct rv_programs *p, const struct rv_view *k, uint64_t file,
                                  uint64_t size) {
    if (!size || size > PROGRAM_MAX) return NULL;
    uint8_t *data = rv_alloc(size);
    size_t len = rv_linux_file_read(p->l, k, file, 0, data, size);
    struct rv_prog *e = NULL;
    if (rv_prog_read(&e, data, len, NULL)) e = NULL;
    free(data);
    return e;
}

static const struct rv_program *program_of(struct rv_programs *p, const struct rv_view *k,
                                           uint64_t file) {
    char path[1024];
    uint64_t size = rv_linux_file_size(p->l, k, file);
    if (!rv_linux_path(p->l, k, file, path, sizeof path)) return NULL;
    pthread_mutex_lock(&p->lock);
    struct rv_program *x = p->list;
    while (x && !(x->size == size && strcmp(x->path, path) == 0)) x = x->next;
    if (!x) {
        x = rv_alloc(sizeof *x);
        x->path = rv_strdup(path);
        x->size = size;
        x->own = read_image(p, k, file, size);
        x->prog = x->own ? rv_guest_given(p->guest, path, x->own) : NULL;
        if (!x->prog) x->prog = x->own;
        x->next = p->list;
        p->list = x;
    }
    pthread_mutex_unlock(&p->lock);
    return x;
}

static void note(struct rv_mappings *m, struct rv_programs *p, const struct rv_view *k,
                 uint64_t root, uint64_t owner, const struct rv_linux_vma *vma) {
    if (!(vma->prot & EXECUTE) || !vma->file) return;
    const struct rv_program *program = program_of(p, k, vma->file);
    if (!program) return;
    if (m->n == m->room) {
        m->room = m->room ? 2 * m->room : 64;
        m->mapping = rv_realloc(m->mapping, m->room * sizeof *m->mapping);
    }
    struct rv_mapping *x = &m->mapping[m->n++];
    *x = (struct rv_mapping){
        .root = root, .owner = owner, .start = vma->start, .end = vma->end, .program = program};
    /* Without a bias no address is in a symbol. */
    if (!program->prog || !rv_prog_bias(program->prog, vma->start, vma->offset, &x->bias))
        x->bias = vma->start;
}

void rv_mappings_all(struct rv_mappings *m, struct rv_programs *p, const struct rv_view *k,
                     const struct rv_linux_task *task, uint64_t owner) {
    if (!task->root) return;
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++)
        if (m->mapping[i].root != task->root || m->mapping[i].owner != owner)
            m->mapping[kept++] = m->mapping[i];
    m->n = kept;
    struct rv_linux_vma *vma;
    size_t n = rv_linux_vmas(p->l, k, task->mm, &vma);
    for (size_t i = 0; i < n; i++) note(m, p, k, task->root, owner, &vma[i]);
    free(vma);
}

void rv_mappings_add(struct rv_mappings *m, struct rv_programs *p, const struct rv_view *k,
                     const struct rv_linux_task *task, uint64_t owner, uint64_t vma) {
    struct rv_linux_vma v;
    if (task->root && rv_linux_vma(p->l, k, vma, &v)) note(m, p, k, task->root, owner, &v);
}

const struct rv_mapping *rv_mappings_at(const struct rv_mappings *m, uint64_t root, uint64_t owner,
                                        uint64_t va) {
    const struct rv_mapping *other = NULL;
    /* The last one made is the one that is there. */
    for (size_t i = m->n; i-- > 0;) {
        const struct rv_mapping *x = &m->mapping[i];
        if (x->root != root || va < x->start || va >= x->end) continue;
        if (x->owner == owner) return x;
        if (!other) other = x;
    }
    return other;
}

const struct rv_symbol *rv_mapping_function(const struct rv_mapping *m, uint64_t va,
                                            uint64_t *address) {
    *address = va - m->bias;
    return m->program->prog ? rv_symbols_at(m->program->prog->symbols, *address) : NULL;
}

void rv_mappings_release(struct rv_mappings *m) {
    free(m->mapping);
    *m = (struct rv_mappings){0};
}
