/* Private to the loaders: where they put things, and what they share.
 *
 * Below 640 KiB the page range [RV_BOOT_AREA, RV_BOOT_AREA_END) holds what a boot protocol hands to
 * the guest; ACPI tables lie where firmware has its ROM. No image may load over either. */
#ifndef RV_VMM_BOOT_LOADER_H
#define RV_VMM_BOOT_LOADER_H

#include "vmm/boot/boot.h"

#define RV_BOOT_AREA        0x90000u
#define RV_BOOT_INFO        0x90000u /* zero page, hvm_start_info or multiboot information: 4 KiB */
#define RV_BOOT_CMDLINE     0x91000u /* with its final NUL */
#define RV_BOOT_CMDLINE_MAX 0x5000u
#define RV_BOOT_GDT         0x96000u
#define RV_BOOT_TABLES      0x97000u /* PML4, PDPT, four page directories */
#define RV_BOOT_LISTS       0x9d000u /* memory map, then modules */
#define RV_BOOT_MODULES     0x9e000u
#define RV_BOOT_AREA_END    0x9f000u
#define RV_LOW_MEMORY_END   0x9fc00u /* base memory, as far as the extended BIOS data area */
#define RV_ACPI_AREA        0xe0000u
#define RV_ACPI_AREA_END    0x100000u
#define RV_HIGH_MEMORY      0x100000u

struct rv_loader {
    const struct rv_boot_request *req;
    struct rv_ram *ram;
    struct rv_x86 *cpu;
    struct rv_err *err;
    rv_gpa rsdp; /* the ACPI tables' root */
};

int rv_load_bzimage(struct rv_loader *l);
int rv_load_pvh(struct rv_loader *l);
int rv_load_multiboot(struct rv_loader *l);
int rv_load_flat(struct rv_loader *l);

/* Does the image begin as this kind does? Says nothing about the rest of it. */
bool rv_is_bzimage(const struct rv_image *image);
bool rv_is_elf(const struct rv_image *image);
bool rv_is_multiboot(const struct rv_image *image);
bool rv_is_flat_header(const struct rv_image *image);
bool rv_is_boot_sector(const struct rv_image *image);

/* Writes the ACPI tables and returns the RSDP's address. */
int rv_boot_acpi(struct rv_ram *ram, rv_gpa *rsdp, struct rv_err *err);

/* Little-endian fields of an image; the caller has checked the bounds. */
uint16_t rv_get16(const uint8_t *p);
uint32_t rv_get32(const uint8_t *p);
uint64_t rv_get64(const uint8_t *p);

/* Memory map in E820 terms. */
enum rv_e820_type { RV_E820_RAM = 1, RV_E820_RESERVED = 2 };
struct rv_e820 {
    uint64_t base, size;
    uint32_t type;
};
#define RV_E820_MAX 8
unsigned rv_boot_map(const struct rv_ram *ram, struct rv_e820 out[RV_E820_MAX]);

/* Copies into guest memory after checking that [gpa, gpa + size) is RAM and leaves the loader's
 * areas alone; len bytes of data, zeroes up to size (RAM is zero to begin with). what names it in
 * the error. */
int rv_boot_place(struct rv_loader *l, const char *what, rv_gpa gpa, const void *data, uint64_t len,
                  uint64_t size);

/* Writes the loader's own structures, which always fit. */
void rv_boot_put(struct rv_loader *l, rv_gpa gpa, const void *data, uint64_t len);

/* Puts prefix and the request's command line at RV_BOOT_CMDLINE; max is the longest allowed,
 * without the NUL. */
int rv_boot_cmdline(struct rv_loader *l, const char *prefix, uint64_t max);

/* CPU states. The selectors are those of the descriptor tables that each function writes. */
void rv_boot_real(struct rv_loader *l, rv_gpa entry, rv_gpa stack);
void rv_boot_protected(struct rv_loader *l,
                       rv_gpa entry);                 /* CS 0x08, data 0x10, TR 0x18; no paging */
void rv_boot_long(struct rv_loader *l, rv_gpa entry); /* CS 0x10, data 0x18; low 4 GiB mapped 1:1 */

/* An ELF file of either class, checked: every part lies inside the file. */
struct rv_elf {
    const struct rv_image *image;
    bool is64;
    uint64_t entry, phoff;
    unsigned phnum, phentsize;
};
struct rv_segment {
    uint32_t type;
    uint64_t offset, paddr, filesz, memsz, align;
};
int rv_elf_open(const struct rv_image *image, struct rv_elf *out, struct rv_err *err);
void rv_elf_segment(const struct rv_elf *elf, unsigned i, struct rv_segment *out);
/* Loads the PT_LOAD segments by physical address; *end: the first address beyond all of them. */
int rv_elf_load(struct rv_loader *l, const struct rv_elf *elf, uint64_t *end);

#endif
