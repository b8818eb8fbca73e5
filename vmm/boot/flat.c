/* Raw images: a boot sector's entry state, or what a flat header asks for. */
#include "vmm/boot/flat.h"
#include "vmm/boot/loader.h"

#include <string.h>

enum { BOOT_SECTOR = 0x7c00, BOOT_DRIVE = 0x80 };

bool rv_is_flat_header(const struct rv_image *image) {
    return image->len >= sizeof(struct rv_flat_header) &&
           memcmp(image->data, RV_FLAT_MAGIC, sizeof RV_FLAT_MAGIC) == 0;
}

bool rv_is_boot_sector(const struct rv_image *image) {
    return image->len >= 512 && rv_get16(image->data + 510) == 0xaa55;
}

static int load_header(struct rv_loader *l) {
    const struct rv_image *image = &l->req->kernel;
    struct rv_flat_header h;
    memcpy(&h, image->data, sizeof h);
    uint64_t limit = h.mode == 16 ? RV_HIGH_MEMORY : RV_RAM_HIGH_BASE;
    if ((h.mode != 16 && h.mode != 32 && h.mode != 64) || h.reserved || h.entry >= limit ||
        h.stack > limit)
        return rv_fail(l->err, RV_E_FORMAT, "%s: impossible flat header (mode %u, entry 0x%llx)",
                       image->name, h.mode, (unsigned long long)h.entry);
    int rc = rv_boot_place(l, "the image", h.load, image->data, image->len, image->len);
    if (!rc) rc = rv_boot_cmdline(l, "", RV_BOOT_CMDLINE_MAX - 1);
    if (rc) return rc;
    l->cpu->gpr[RV_RBX] = RV_BOOT_CMDLINE;
    if (h.mode == 16) {
        rv_boot_real(l, h.entry, h.stack);
        l->cpu->gpr[RV_RBX] = RV_BOOT_CMDLINE >> 4;
        return 0;
    }
    if (h.mode == 32)
        rv_boot_protected(l, h.entry);
    else
        rv_boot_long(l, h.entry);
    l->cpu->gpr[RV_RSP] = h.stack;
    return 0;
}

int rv_load_flat(struct rv_loader *l) {
    const struct rv_image *image = &l->req->kernel;
    if (rv_is_flat_header(image)) return load_header(l);
    if (!image->len) return rv_fail(l->err, RV_E_FORMAT, "%s is empty", image->name);
    int rc = rv_boot_place(l, "the image", BOOT_SECTOR, image->data, image->len, image->len);
    if (rc) return rc;
    rv_boot_real(l, BOOT_SECTOR, BOOT_SECTOR);
    l->cpu->gpr[RV_RDX] = BOOT_DRIVE;
    return 0;
}
