#include "tools/analysis/prog.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/buf.h"

#define MAX_FILE     (1ull << 30)
#define MAX_SYMBOLS  (8u << 20)
#define MAX_SECTIONS 65536u

struct image {
    const uint8_t *bytes;
    size_t size;
};

static const uint8_t *part(const struct image *im, uint64_t offset, uint64_t len) {
    return offset <= im->size && len <= im->size - offset ? im->bytes + offset : NULL;
}

static char letter(const Elf64_Sym *s, uint64_t flags) {
    char c = ELF64_ST_TYPE(s->st_info) == STT_FUNC || ELF64_ST_TYPE(s->st_info) == STT_GNU_IFUNC ||
                     (flags & SHF_EXECINSTR)
                 ? 't'
             : flags & SHF_WRITE ? 'd'
                                 : 'r';
    return ELF64_ST_BIND(s->st_info) == STB_LOCAL ? c : (char)(c - 'a' + 'A');
}

static void read_symbols(struct rv_prog *e, const struct image *im, const Elf64_Shdr *sections,
                         unsigned n, const Elf64_Shdr *table) {
    Elf64_Shdr strings;
    if (table->sh_link >= n || table->sh_size / sizeof(Elf64_Sym) > MAX_SYMBOLS) return;
    memcpy(&strings, &sections[table->sh_link], sizeof strings);
    const uint8_t *from = part(im, table->sh_offset, table->sh_size);
    const char *names = (const char *)part(im, strings.sh_offset, strings.sh_size);
    if (!from || !names) return;
    for (uint64_t i = 0; i < table->sh_size / sizeof(Elf64_Sym); i++) {
        Elf64_Sym s;
        memcpy(&s, from + i * sizeof s, sizeof s);
        unsigned type = ELF64_ST_TYPE(s.st_info);
        if ((type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE &&
             type != STT_GNU_IFUNC) ||
            s.st_shndx == SHN_UNDEF || s.st_shndx >= SHN_LORESERVE || s.st_name >= strings.sh_size)
            continue;
        const char *name = names + s.st_name;
        size_t room = strings.sh_size - s.st_name;
        if (!*name || !memchr(name, 0, room)) continue;
        uint64_t flags = s.st_shndx < n ? sections[s.st_shndx].sh_flags : 0;
        rv_symbols_add(e->symbols, s.st_value, s.st_size, letter(&s, flags), name);
    }
}

static bool is_eh_frame(const struct image *im, const Elf64_Shdr *sections, unsigned n,
                        unsigned names, const Elf64_Shdr *s) {
    static const char name[] = ".eh_frame";
    if (names >= n || (s->sh_type != SHT_PROGBITS && s->sh_type != SHT_X86_64_UNWIND)) return false;
    const uint8_t *own = part(im, sections[names].sh_offset + s->sh_name, sizeof name);
    return own && memcmp(own, name, sizeof name) == 0 && part(im, s->sh_offset, s->sh_size);
}

static void read_sections(struct rv_prog *e, const struct image *im, const Elf64_Ehdr *h) {
    unsigned n = h->e_shnum;
    const uint8_t *from = part(im, h->e_shoff, (uint64_t)n * sizeof(Elf64_Shdr));
    if (!from || h->e_shentsize != sizeof(Elf64_Shdr) || !n || n > MAX_SECTIONS) return;
    Elf64_Shdr *s = rv_alloc(n * sizeof *s);
    memcpy(s, from, n * sizeof *s);
    bool full = false;
    for (unsigned i = 0; i < n; i++) full = full || s[i].sh_type == SHT_SYMTAB;
    for (unsigned i = 0; i < n; i++)
        if (s[i].sh_type == (full ? SHT_SYMTAB : SHT_DYNSYM)) read_symbols(e, im, s, n, &s[i]);
    for (unsigned i = 0; i < n; i++)
        if (!e->fde && is_eh_frame(im, s, n, h->e_shstrndx, &s[i])) {
            e->eh_frame = s[i].sh_addr;
            e->fdes =
                rv_ehframe_list(&e->fde, im->bytes + s[i].sh_offset, s[i].sh_size, s[i].sh_addr);
        }
    free(s);
}

static void read_note(struct rv_prog *e, const struct image *im, const Elf64_Phdr *p) {
    const uint8_t *from = part(im, p->p_offset, p->p_filesz);
    uint64_t at = 0;
    while (from && p->p_filesz - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr n;
        memcpy(&n, from + at, sizeof n);
        at += sizeof n;
        uint64_t name = (n.n_namesz + 3ull) & ~3ull, desc = (n.n_descsz + 3ull) & ~3ull;
        if (name > p->p_filesz - at || desc > p->p_filesz - at - name) return;
        if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && memcmp(from + at, "GNU", 4) == 0 &&
            n.n_descsz <= sizeof e->build_id) {
            memcpy(e->build_id, from + at + name, n.n_descsz);
            e->build_id_len = n.n_descsz;
        }
        at += name + desc;
    }
}

static void read_segments(struct rv_prog *e, const struct image *im, const Elf64_Ehdr *h) {
    const uint8_t *from = part(im, h->e_phoff, (uint64_t)h->e_phnum * sizeof(Elf64_Phdr));
    for (unsigned i = 0; from && i < h->e_phnum; i++) {
        Elf64_Phdr p;
        memcpy(&p, from + i * sizeof p, sizeof p);
        if (p.p_type == PT_LOAD && e->loads < sizeof e->load / sizeof e->load[0])
            e->load[e->loads++] = (struct rv_prog_load){.addr = p.p_vaddr,
                                                        .size = p.p_memsz,
                                                        .offset = p.p_offset,
                                                        .file_size = p.p_filesz,
                                                        .exec = p.p_flags & PF_X};
        if (p.p_type == PT_NOTE) read_note(e, im, &p);
    }
}

int rv_prog_read(struct rv_prog **out, const uint8_t *image, size_t size, struct rv_err *err) {
    struct image im = {image, size};
    Elf64_Ehdr h;
    if (size < sizeof h) return rv_fail(err, RV_E_FORMAT, "no ELF file");
    memcpy(&h, image, sizeof h);
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
        h.e_ident[EI_DATA] != ELFDATA2LSB || h.e_machine != EM_X86_64)
        return rv_fail(err, RV_E_FORMAT, "no 64-bit x86 ELF file");
    struct rv_prog *e = rv_alloc(sizeof *e);
    e->symbols = rv_symbols_new();
    e->fixed = h.e_type == ET_EXEC;
    e->entry = h.e_entry;
    if (h.e_phentsize == sizeof(Elf64_Phdr)) read_segments(e, &im, &h);
    read_sections(e, &im, &h);
    rv_symbols_sort(e->symbols);
    *out = e;
    return 0;
}

int rv_prog_open(struct rv_prog **out, const char *path, struct rv_err *err) {
    FILE *f = fopen(path, "rb");
    if (!f) return rv_fail_errno(err, RV_E_HOST, "cannot open %s", path);
    struct rv_buf b = {0};
    size_t got;
    do {
        uint8_t *to = rv_buf_grow(&b, 1u << 20);
        got = fread(to, 1, 1u << 20, f);
        b.len -= (1u << 20) - got;
    } while (got == 1u << 20 && b.len < MAX_FILE);
    int r = ferror(f) ? rv_fail_errno(err, RV_E_HOST, "cannot read %s", path) : 0;
    fclose(f);
    if (!r && rv_prog_read(out, b.data, b.len, err)) r = rv_fail_in(err, "%s", path);
    rv_buf_release(&b);
    return r;
}

void rv_prog_free(struct rv_prog *e) {
    if (!e) return;
    rv_symbols_free(e->symbols);
    free(e->fde);
    free(e);
}

bool rv_prog_bias(const struct rv_prog *e, uint64_t addr, uint64_t offset, uint64_t *bias) {
    for (unsigned i = 0; i < e->loads; i++) {
        const struct rv_prog_load *l = &e->load[i];
        uint64_t first = l->offset & ~0xfffull;
        if (offset < first || offset >= l->offset + l->file_size) continue;
        *bias = addr - offset - (l->addr - l->offset);
        return true;
    }
    return false;
}
