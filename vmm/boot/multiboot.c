/* Multiboot 1. Source: Multiboot Specification 0.6.96. Beyond it, and as other loaders do, 64-bit
 * ELF files are accepted: they too begin in 32-bit protected mode. */
#include "vmm/boot/loader.h"

#include <string.h>

enum { SEARCH = 8192, MAGIC = 0x1badb002, BOOT_MAGIC = 0x2badb002 };
enum { WANTS_ALIGN = 1, WANTS_MEMORY = 2, WANTS_VIDEO = 4, HAS_ADDRESSES = 1 << 16 };
enum { INFO_MEMORY = 1, INFO_CMDLINE = 4, INFO_MODS = 8, INFO_MMAP = 64, INFO_NAME = 512 };
enum { INFO_SIZE = 116, NAME_AT = 0x100 /* in the information page */, MMAP_ENTRY = 24 };

/* The header's place in the file, or -1. */
static long find(const struct rv_image *image) {
    size_t end = image->len < SEARCH ? image->len : SEARCH;
    for (size_t at = 0; at + 12 <= end; at += 4) {
        const uint8_t *p = image->data + at;
        if (rv_get32(p) == MAGIC && rv_get32(p) + rv_get32(p + 4) + rv_get32(p + 8) == 0)
            return (long)at;
    }
    return -1;
}

bool rv_is_multiboot(const struct rv_image *image) { return find(image) >= 0; }

/* An image that says itself where it goes (3.1.3). */
static int load_addresses(struct rv_loader *l, size_t header, uint64_t *entry, uint64_t *end) {
    const struct rv_image *image = &l->req->kernel;
    if (image->len - header < 32)
        return rv_fail(l->err, RV_E_FORMAT, "%s: its multiboot header is cut short", image->name);
    const uint8_t *p = image->data + header;
    uint64_t header_addr = rv_get32(p + 12), load = rv_get32(p + 16), load_end = rv_get32(p + 20);
    uint64_t bss_end = rv_get32(p + 24);
    *entry = rv_get32(p + 28);
    if (load > header_addr || header_addr - load > header)
        return rv_fail(l->err, RV_E_FORMAT, "%s: impossible multiboot load address 0x%llx",
                       image->name, (unsigned long long)load);
    uint64_t from = header - (header_addr - load);
    uint64_t len = image->len - from;
    if (load_end) {
        if (load_end < load || load_end - load > len)
            return rv_fail(l->err, RV_E_FORMAT, "%s is cut short: it says it loads up to 0x%llx",
                           image->name, (unsigned long long)load_end);
        len = load_end - load;
    }
    *end = bss_end > load + len ? bss_end : load + len;
    return rv_boot_place(l, "the kernel", load, image->data + from, len, *end - load);
}

static int load_elf(struct rv_loader *l, uint64_t *entry, uint64_t *end) {
    struct rv_elf elf = {0};
    int rc = rv_elf_open(&l->req->kernel, &elf, l->err);
    if (!rc) rc = rv_elf_load(l, &elf, end);
    if (rc) return rc;
    if (elf.entry > UINT32_MAX)
        return rv_fail(l->err, RV_E_FORMAT, "%s: its entry lies beyond 4 GiB", l->req->kernel.name);
    *entry = elf.entry;
    return 0;
}

static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof v); }

static int place_module(struct rv_loader *l, uint64_t end, uint8_t *info) {
    const struct rv_image *mod = &l->req->initrd;
    if (!mod->data || !mod->len) return 0;
    if (end < RV_HIGH_MEMORY) end = RV_HIGH_MEMORY; /* clear of the loader's areas */
    uint64_t at = (end + RV_PAGE_SIZE - 1) & RV_PAGE_MASK;
    int rc = rv_boot_place(l, "the module", at, mod->data, mod->len, mod->len);
    if (rc) return rc;
    uint32_t entry[4] = {(uint32_t)at, (uint32_t)(at + mod->len), RV_BOOT_MODULES + 16};
    rv_boot_put(l, RV_BOOT_MODULES, entry, sizeof entry);
    rv_boot_put(l, RV_BOOT_MODULES + 16, "module", 7); /* the module's own command line */
    put32(info + 20, 1);
    put32(info + 24, RV_BOOT_MODULES);
    return 0;
}

static void write_map(struct rv_loader *l, uint8_t *info) {
    struct rv_e820 map[RV_E820_MAX];
    unsigned count = rv_boot_map(l->ram, map);
    for (unsigned i = 0; i < count; i++) {
        uint8_t e[MMAP_ENTRY];
        put32(e, MMAP_ENTRY - 4); /* the size does not count itself (3.3) */
        memcpy(e + 4, &map[i].base, 8);
        memcpy(e + 12, &map[i].size, 8);
        put32(e + 20, map[i].type);
        rv_boot_put(l, RV_BOOT_LISTS + i * MMAP_ENTRY, e, sizeof e);
    }
    put32(info + 44, count * MMAP_ENTRY);
    put32(info + 48, RV_BOOT_LISTS);
}

int rv_load_multiboot(struct rv_loader *l) {
    const struct rv_image *image = &l->req->kernel;
    long header = find(image);
    if (header < 0) return rv_fail(l->err, RV_E_FORMAT, "%s has no multiboot header", image->name);
    uint32_t flags = rv_get32(image->data + header + 4);
    /* A loader must refuse requirements it does not know (3.1.2). No video mode is set; images that
     * ask for one are used to that. */
    uint32_t known = WANTS_ALIGN | WANTS_MEMORY | WANTS_VIDEO;
    if (flags & 0xffff & ~known)
        return rv_fail(l->err, RV_E_UNSUPPORTED, "%s has unknown multiboot requirements 0x%x",
                       image->name, flags & 0xffff & ~known);
    uint64_t entry = 0, end = 0;
    int rc = flags & HAS_ADDRESSES ? load_addresses(l, (size_t)header, &entry, &end)
                                   : load_elf(l, &entry, &end);
    uint8_t info[INFO_SIZE] = {0};
    if (!rc) rc = place_module(l, end, info);
    /* The first word is the program's name, which test programs skip. */
    const char *cmdline = l->req->cmdline;
    if (!rc) rc = rv_boot_cmdline(l, cmdline && *cmdline ? "kernel " : "kernel", UINT32_MAX);
    if (rc) return rc;

    static const char name[] = "retrovisor";
    put32(info, INFO_MEMORY | INFO_CMDLINE | INFO_MODS | INFO_MMAP | INFO_NAME);
    put32(info + 4, RV_LOW_MEMORY_END >> 10);
    put32(info + 8, (uint32_t)((rv_ram_low_size(l->ram) - RV_HIGH_MEMORY) >> 10));
    put32(info + 16, RV_BOOT_CMDLINE);
    put32(info + 64, RV_BOOT_INFO + NAME_AT);
    write_map(l, info);
    rv_boot_put(l, RV_BOOT_INFO, info, sizeof info);
    rv_boot_put(l, RV_BOOT_INFO + NAME_AT, name, sizeof name);
    rv_boot_protected(l, entry);
    l->cpu->gpr[RV_RAX] = BOOT_MAGIC;
    l->cpu->gpr[RV_RBX] = RV_BOOT_INFO;
    return 0;
}
