/* Loaders: put a guest image into RAM and the CPU into the state its boot protocol promises. */
#ifndef RV_VMM_BOOT_BOOT_H
#define RV_VMM_BOOT_BOOT_H

#include "vmm/base/err.h"
#include "vmm/base/types.h"
#include "vmm/cpu/x86.h"
#include "vmm/mem/ram.h"

/* Stored in traces: append only. */
enum rv_boot_kind {
    RV_BOOT_AUTO = 0,
    RV_BOOT_BZIMAGE = 1,   /* Linux x86 boot protocol >= 2.12, 64-bit entry */
    RV_BOOT_PVH = 2,       /* ELF64 with XEN_ELFNOTE_PHYS32_ENTRY */
    RV_BOOT_MULTIBOOT = 3, /* multiboot 1: ELF32, ELF64 or address fields */
    RV_BOOT_FLAT = 4,      /* raw bytes: at 0x7c00 in real mode, or as the flat header asks */
};

struct rv_image {
    const char *name; /* for messages */
    const uint8_t *data;
    size_t len;
};

#define RV_BOOT_SEED 32 /* bytes */

struct rv_boot_request {
    enum rv_boot_kind kind; /* AUTO: told from the image */
    struct rv_image kernel;
    struct rv_image initrd; /* data NULL: none. Multiboot: its first module */
    const char *cmdline;    /* NULL: empty */
    /* Randomness that firmware hands to an operating system which asks for it (Linux: setup data
     * RNG_SEED). */
    uint8_t seed[RV_BOOT_SEED];
};

/* Loads into zeroed RAM, writes the ACPI tables, and fills *cpu (already reset). *kind gets what
 * the image was. RV_E_FORMAT for an image that is none of these or damaged (says what is wrong),
 * RV_E_USAGE for one that does not fit the memory. The image is not trusted. */
int rv_boot_load(const struct rv_boot_request *req, struct rv_ram *ram, struct rv_x86 *cpu,
                 enum rv_boot_kind *kind, struct rv_err *err);

/* What the image is, without loading it: the kind asked for unless that is AUTO. */
enum rv_boot_kind rv_boot_detect(const struct rv_boot_request *req);

const char *rv_boot_kind_name(enum rv_boot_kind kind);

#endif
