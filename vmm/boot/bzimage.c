/* Linux bzImage by its 64-bit entry. Source: the Linux kernel's Documentation/arch/x86/boot.rst and
 * zero-page.rst, protocol 2.12 and later. */
#include "vmm/boot/loader.h"

#include <string.h>

/* Offsets in the setup header; the same in the file's first sectors and in the zero page. */
enum {
    SETUP_SECTS = 0x1f1,
    SYSSIZE = 0x1f4,
    VID_MODE = 0x1fa,
    BOOT_FLAG = 0x1fe,
    JUMP = 0x200,
    MAGIC = 0x202,
    VERSION = 0x206,
    TYPE_OF_LOADER = 0x210,
    LOADFLAGS = 0x211,
    CODE32_START = 0x214,
    RAMDISK_IMAGE = 0x218,
    RAMDISK_SIZE = 0x21c,
    CMD_LINE_PTR = 0x228,
    INITRD_ADDR_MAX = 0x22c,
    KERNEL_ALIGNMENT = 0x230,
    RELOCATABLE = 0x234,
    XLOADFLAGS = 0x236,
    CMDLINE_SIZE = 0x238,
    SETUP_DATA = 0x250,
    PREF_ADDRESS = 0x258,
    INIT_SIZE = 0x260,
    HEADER_END_MAX = 0x290,
};
/* Offsets in the zero page alone. */
enum { ACPI_RSDP_ADDR = 0x070, E820_ENTRIES = 0x1e8, E820_TABLE = 0x2d0, E820_ENTRY = 20 };

enum {
    LOADED_HIGH = 1,
    XLF_KERNEL_64 = 1,
    LOADER_UNDEFINED = 0xff,
    VGA_NORMAL = 0xffff,
    ENTRY64 = 0x200,
    SECTOR = 512
};

bool rv_is_bzimage(const struct rv_image *image) {
    return image->len >= HEADER_END_MAX && rv_get16(image->data + BOOT_FLAG) == 0xaa55 &&
           memcmp(image->data + MAGIC, "HdrS", 4) == 0;
}

struct kernel {
    const uint8_t *code; /* the protected-mode part of the file */
    uint64_t code_len;
    uint64_t load, init_size;
    uint64_t initrd;
};

static int check(struct rv_loader *l, struct kernel *k) {
    const struct rv_image *image = &l->req->kernel;
    const uint8_t *h = image->data;
    if (!rv_is_bzimage(image))
        return rv_fail(l->err, RV_E_FORMAT, "%s is no Linux bzImage", image->name);
    unsigned version = rv_get16(h + VERSION);
    if (version < 0x20c)
        return rv_fail(l->err, RV_E_UNSUPPORTED,
                       "%s: boot protocol %u.%02u; a kernel with 2.12 or later (3.8 on) is needed",
                       image->name, version >> 8, version & 0xff);
    if (!(h[LOADFLAGS] & LOADED_HIGH) || !(rv_get16(h + XLOADFLAGS) & XLF_KERNEL_64))
        return rv_fail(l->err, RV_E_UNSUPPORTED,
                       "%s has no 64-bit entry point: not a 64-bit kernel", image->name);
    uint64_t setup = ((h[SETUP_SECTS] ? h[SETUP_SECTS] : 4) + 1ull) * SECTOR;
    k->code_len = (uint64_t)rv_get32(h + SYSSIZE) * 16;
    if (setup > image->len || k->code_len > image->len - setup)
        return rv_fail(l->err, RV_E_FORMAT, "%s is cut short: %zu bytes of %llu", image->name,
                       image->len, (unsigned long long)setup + k->code_len);
    if (k->code_len <= ENTRY64)
        return rv_fail(l->err, RV_E_FORMAT, "%s holds no kernel", image->name);
    k->code = h + setup;
    return 0;
}

/* Where the kernel asks to be, or if that lies beyond RAM and it can be moved, as low as it may. */
static int choose_address(struct rv_loader *l, struct kernel *k) {
    const uint8_t *h = l->req->kernel.data;
    uint64_t low = rv_ram_low_size(l->ram), align = rv_get32(h + KERNEL_ALIGNMENT);
    k->load = rv_get64(h + PREF_ADDRESS);
    k->init_size = rv_get32(h + INIT_SIZE);
    if (k->init_size < k->code_len) k->init_size = k->code_len;
    bool fits = k->load >= RV_HIGH_MEMORY && k->load <= low && k->init_size <= low - k->load;
    if (!fits && h[RELOCATABLE] && align && (align & (align - 1)) == 0)
        k->load = (RV_HIGH_MEMORY + align - 1) & ~(align - 1);
    if (k->load < RV_HIGH_MEMORY)
        return rv_fail(l->err, RV_E_FORMAT, "%s asks to be loaded at 0x%llx, below 1 MiB",
                       l->req->kernel.name, (unsigned long long)k->load);
    return rv_boot_place(l, "the kernel", k->load, k->code, k->code_len, k->init_size);
}

/* As high as the kernel can reach, above all that the kernel unpacks to. */
static int place_initrd(struct rv_loader *l, struct kernel *k) {
    const struct rv_image *rd = &l->req->initrd;
    if (!rd->data || !rd->len) return 0;
    uint64_t end = rv_ram_low_size(l->ram);
    uint64_t reach = (uint64_t)rv_get32(l->req->kernel.data + INITRD_ADDR_MAX) + 1;
    if (reach < end) end = reach;
    uint64_t floor = k->load + k->init_size;
    k->initrd = end >= rd->len ? (end - rd->len) & RV_PAGE_MASK : 0;
    if (k->initrd < floor)
        return rv_fail(l->err, RV_E_USAGE,
                       "%s: %zu bytes of initrd do not fit between the kernel's end at 0x%llx and "
                       "0x%llx; give the guest more --memory",
                       rd->name, rd->len, (unsigned long long)floor, (unsigned long long)end);
    return rv_boot_place(l, "the initrd", k->initrd, rd->data, rd->len, rd->len);
}

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, sizeof v); }

/* One entry of the setup data list: a seed for the kernel's random numbers, which without a
 * hardware generator would have little to start from. The kernel wipes it after use. */
static void write_seed(struct rv_loader *l) {
    enum { SETUP_RNG_SEED = 9, HEADER = 16 };
    uint8_t data[HEADER + RV_BOOT_SEED] = {0};
    put32(data + 8, SETUP_RNG_SEED);
    put32(data + 12, RV_BOOT_SEED);
    memcpy(data + HEADER, l->req->seed, RV_BOOT_SEED);
    rv_boot_put(l, RV_BOOT_LISTS, data, sizeof data);
}

static void write_zero_page(struct rv_loader *l, const struct kernel *k) {
    uint8_t zero[RV_PAGE_SIZE] = {0};
    const uint8_t *h = l->req->kernel.data;
    size_t end = MAGIC + h[JUMP + 1]; /* the header ends where its opening jump leads */
    if (end > HEADER_END_MAX) end = HEADER_END_MAX;
    if (end > SETUP_SECTS) memcpy(zero + SETUP_SECTS, h + SETUP_SECTS, end - SETUP_SECTS);
    zero[TYPE_OF_LOADER] = LOADER_UNDEFINED;
    put16(zero + VID_MODE, VGA_NORMAL);
    put32(zero + CODE32_START, (uint32_t)k->load);
    put32(zero + CMD_LINE_PTR, RV_BOOT_CMDLINE);
    put32(zero + RAMDISK_IMAGE, (uint32_t)k->initrd);
    put32(zero + RAMDISK_SIZE, k->initrd ? (uint32_t)l->req->initrd.len : 0);
    put64(zero + SETUP_DATA, RV_BOOT_LISTS);
    put64(zero + ACPI_RSDP_ADDR, l->rsdp);

    struct rv_e820 map[RV_E820_MAX];
    unsigned count = rv_boot_map(l->ram, map);
    zero[E820_ENTRIES] = (uint8_t)count;
    for (unsigned i = 0; i < count; i++) {
        uint8_t *e = zero + E820_TABLE + (size_t)i * E820_ENTRY;
        put64(e, map[i].base);
        put64(e + 8, map[i].size);
        put32(e + 16, map[i].type);
    }
    rv_boot_put(l, RV_BOOT_INFO, zero, sizeof zero);
}

int rv_load_bzimage(struct rv_loader *l) {
    struct kernel k = {0};
    int rc = check(l, &k);
    if (!rc) rc = choose_address(l, &k);
    if (!rc) rc = place_initrd(l, &k);
    if (!rc) rc = rv_boot_cmdline(l, "", rv_get32(l->req->kernel.data + CMDLINE_SIZE));
    if (rc) return rc;
    write_seed(l);
    write_zero_page(l, &k);
    rv_boot_long(l, k.load + ENTRY64);
    l->cpu->gpr[RV_RSI] = RV_BOOT_INFO;
    return 0;
}
