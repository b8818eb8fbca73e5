/* ELF files, and the PVH boot protocol for those that carry its note. Sources: System V ABI,
 * chapters 4 and 5; Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h. The file is
 * not trusted: every offset and size is checked before use. */
#include "vmm/boot/loader.h"

#include <string.h>

enum { EHDR32 = 52, EHDR64 = 64, PHDR32 = 32, PHDR64 = 56, PHNUM_MAX = 256 };
enum { EM_386 = 3, EM_X86_64 = 62, PT_LOAD = 1, PT_NOTE = 4 };
enum { NOTE_PHYS32_ENTRY = 18 };

bool rv_is_elf(const struct rv_image *image) {
    return image->len >= EHDR32 && memcmp(image->data, "\177ELF", 4) == 0;
}

int rv_elf_open(const struct rv_image *image, struct rv_elf *out, struct rv_err *err) {
    const uint8_t *h = image->data;
    if (!rv_is_elf(image)) return rv_fail(err, RV_E_FORMAT, "%s is no ELF file", image->name);
    *out = (struct rv_elf){.image = image, .is64 = h[4] == 2};
    unsigned machine = rv_get16(h + 18);
    if ((h[4] != 1 && h[4] != 2) || h[5] != 1 || (machine != EM_386 && machine != EM_X86_64) ||
        (out->is64 && image->len < EHDR64))
        return rv_fail(err, RV_E_FORMAT, "%s is no little-endian ELF file for x86", image->name);
    out->entry = out->is64 ? rv_get64(h + 24) : rv_get32(h + 24);
    out->phoff = out->is64 ? rv_get64(h + 32) : rv_get32(h + 28);
    out->phentsize = rv_get16(h + (out->is64 ? 54 : 42));
    out->phnum = rv_get16(h + (out->is64 ? 56 : 44));
    if (out->phnum == 0 || out->phnum > PHNUM_MAX ||
        out->phentsize < (out->is64 ? PHDR64 : PHDR32) || out->phoff > image->len ||
        (uint64_t)out->phnum * out->phentsize > image->len - out->phoff)
        return rv_fail(err, RV_E_FORMAT, "%s: damaged ELF program headers", image->name);
    for (unsigned i = 0; i < out->phnum; i++) {
        struct rv_segment s;
        rv_elf_segment(out, i, &s);
        if (s.type != PT_LOAD && s.type != PT_NOTE) continue;
        if (s.offset > image->len || s.filesz > image->len - s.offset ||
            (s.type == PT_LOAD && s.memsz < s.filesz))
            return rv_fail(err, RV_E_FORMAT, "%s: ELF segment %u is damaged or cut short",
                           image->name, i);
    }
    return 0;
}

void rv_elf_segment(const struct rv_elf *elf, unsigned i, struct rv_segment *out) {
    const uint8_t *p = elf->image->data + elf->phoff + (uint64_t)i * elf->phentsize;
    *out = (struct rv_segment){.type = rv_get32(p)};
    if (elf->is64) {
        out->offset = rv_get64(p + 8);
        out->paddr = rv_get64(p + 24);
        out->filesz = rv_get64(p + 32);
        out->memsz = rv_get64(p + 40);
        out->align = rv_get64(p + 48);
    } else {
        out->offset = rv_get32(p + 4);
        out->paddr = rv_get32(p + 12);
        out->filesz = rv_get32(p + 16);
        out->memsz = rv_get32(p + 20);
        out->align = rv_get32(p + 28);
    }
}

int rv_elf_load(struct rv_loader *l, const struct rv_elf *elf, uint64_t *end) {
    *end = 0;
    for (unsigned i = 0; i < elf->phnum; i++) {
        struct rv_segment s;
        rv_elf_segment(elf, i, &s);
        if (s.type != PT_LOAD || s.memsz == 0) continue;
        int rc = rv_boot_place(l, "an ELF segment", s.paddr, elf->image->data + s.offset, s.filesz,
                               s.memsz);
        if (rc) return rc;
        if (s.paddr + s.memsz > *end) *end = s.paddr + s.memsz;
    }
    if (!*end)
        return rv_fail(l->err, RV_E_FORMAT, "%s: nothing to load in this ELF file",
                       l->req->kernel.name);
    return 0;
}

/* Looks through one note segment for Xen's 32-bit entry point. */
static bool find_entry(const uint8_t *p, uint64_t len, uint64_t align, uint64_t *entry) {
    uint64_t pad = align == 8 ? 7 : 3;
    uint64_t at = 0;
    while (len - at >= 12) {
        uint64_t namesz = rv_get32(p + at), descsz = rv_get32(p + at + 4);
        uint32_t type = rv_get32(p + at + 8);
        uint64_t name = at + 12;
        uint64_t desc = name + ((namesz + pad) & ~pad);
        uint64_t next = desc + ((descsz + pad) & ~pad);
        if (desc > len || descsz > len - desc) return false;
        if (type == NOTE_PHYS32_ENTRY && namesz == 4 && memcmp(p + name, "Xen", 4) == 0 &&
            (descsz == 4 || descsz == 8)) {
            *entry = descsz == 8 ? rv_get64(p + desc) : rv_get32(p + desc);
            return true;
        }
        if (next > len) return false;
        at = next;
    }
    return false;
}

static int pvh_entry(struct rv_loader *l, const struct rv_elf *elf, uint64_t *entry) {
    for (unsigned i = 0; i < elf->phnum; i++) {
        struct rv_segment s;
        rv_elf_segment(elf, i, &s);
        if (s.type != PT_NOTE) continue;
        if (!find_entry(elf->image->data + s.offset, s.filesz, s.align, entry)) continue;
        if (*entry > UINT32_MAX)
            return rv_fail(l->err, RV_E_FORMAT, "%s: its PVH entry lies beyond 4 GiB",
                           l->req->kernel.name);
        return 0;
    }
    return rv_fail(l->err, RV_E_FORMAT,
                   "%s: an ELF file with neither a PVH entry note nor a multiboot header; a Linux "
                   "kernel needs CONFIG_PVH, or boot its bzImage",
                   l->req->kernel.name);
}

static int place_module(struct rv_loader *l, uint64_t end, uint64_t *at) {
    const struct rv_image *rd = &l->req->initrd;
    *at = 0;
    if (!rd->data || !rd->len) return 0;
    uint64_t low = rv_ram_low_size(l->ram);
    *at = low >= rd->len ? (low - rd->len) & RV_PAGE_MASK : 0;
    if (*at < end)
        return rv_fail(l->err, RV_E_USAGE,
                       "%s: %zu bytes do not fit above the kernel's end at 0x%llx; give the guest "
                       "more --memory",
                       rd->name, rd->len, (unsigned long long)end);
    return rv_boot_place(l, "the initrd", *at, rd->data, rd->len, rd->len);
}

static void write_start_info(struct rv_loader *l, uint64_t module) {
    struct {
        uint32_t magic, version, flags, modules;
        uint64_t modlist, cmdline, rsdp, memmap;
        uint32_t memmap_entries, reserved;
    } info = {.magic = 0x336ec578,
              .version = 1,
              .modules = module ? 1 : 0,
              .modlist = module ? RV_BOOT_MODULES : 0,
              .cmdline = RV_BOOT_CMDLINE,
              .rsdp = l->rsdp,
              .memmap = RV_BOOT_LISTS};
    struct rv_e820 map[RV_E820_MAX];
    info.memmap_entries = rv_boot_map(l->ram, map);
    for (unsigned i = 0; i < info.memmap_entries; i++) {
        struct {
            uint64_t addr, size;
            uint32_t type, reserved;
        } e = {map[i].base, map[i].size, map[i].type, 0};
        rv_boot_put(l, RV_BOOT_LISTS + i * sizeof e, &e, sizeof e);
    }
    if (module) {
        uint64_t entry[4] = {module, l->req->initrd.len};
        rv_boot_put(l, RV_BOOT_MODULES, entry, sizeof entry);
    }
    rv_boot_put(l, RV_BOOT_INFO, &info, sizeof info);
}

int rv_load_pvh(struct rv_loader *l) {
    struct rv_elf elf = {0};
    uint64_t entry = 0, end = 0, module = 0;
    int rc = rv_elf_open(&l->req->kernel, &elf, l->err);
    if (!rc) rc = pvh_entry(l, &elf, &entry);
    if (!rc) rc = rv_elf_load(l, &elf, &end);
    if (!rc) rc = place_module(l, end, &module);
    if (!rc) rc = rv_boot_cmdline(l, "", RV_BOOT_CMDLINE_MAX - 1);
    if (rc) return rc;
    write_start_info(l, module);
    rv_boot_protected(l, entry);
    l->cpu->gpr[RV_RBX] = RV_BOOT_INFO;
    return 0;
}
