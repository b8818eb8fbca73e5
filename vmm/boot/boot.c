#include "vmm/boot/loader.h"

#include <string.h>

uint16_t rv_get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
uint32_t rv_get32(const uint8_t *p) { return rv_get16(p) | (uint32_t)rv_get16(p + 2) << 16; }
uint64_t rv_get64(const uint8_t *p) { return rv_get32(p) | (uint64_t)rv_get32(p + 4) << 32; }

unsigned rv_boot_map(const struct rv_ram *ram, struct rv_e820 out[RV_E820_MAX]) {
    unsigned n = 0;
    uint64_t low = rv_ram_low_size(ram), high = rv_ram_high_size(ram);
    out[n++] = (struct rv_e820){0, RV_LOW_MEMORY_END, RV_E820_RAM};
    out[n++] = (struct rv_e820){RV_LOW_MEMORY_END, 0xa0000 - RV_LOW_MEMORY_END, RV_E820_RESERVED};
    out[n++] = (struct rv_e820){RV_ACPI_AREA, RV_ACPI_AREA_END - RV_ACPI_AREA, RV_E820_RESERVED};
    if (low > RV_HIGH_MEMORY)
        out[n++] = (struct rv_e820){RV_HIGH_MEMORY, low - RV_HIGH_MEMORY, RV_E820_RAM};
    if (high) out[n++] = (struct rv_e820){RV_RAM_HIGH_BASE, high, RV_E820_RAM};
    return n;
}

static bool overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_end) {
    return a < b_end && b < a + a_len;
}

int rv_boot_place(struct rv_loader *l, const char *what, rv_gpa gpa, const void *data, uint64_t len,
                  uint64_t size) {
    const char *name = l->req->kernel.name;
    uint64_t low = rv_ram_low_size(l->ram);
    if (gpa + size < gpa || gpa + size > low)
        return rv_fail(l->err, RV_E_USAGE,
                       "%s: %s needs memory at 0x%llx..0x%llx, but the guest has it only up to "
                       "0x%llx; give it more --memory",
                       name, what, (unsigned long long)gpa, (unsigned long long)gpa + size,
                       (unsigned long long)low);
    if (overlaps(gpa, size, RV_BOOT_AREA, RV_BOOT_AREA_END) ||
        overlaps(gpa, size, RV_ACPI_AREA, RV_ACPI_AREA_END))
        return rv_fail(l->err, RV_E_FORMAT,
                       "%s: %s at 0x%llx..0x%llx lies over the boot data (0x%x..0x%x) or the ACPI "
                       "tables (0x%x..0x%x)",
                       name, what, (unsigned long long)gpa, (unsigned long long)gpa + size,
                       RV_BOOT_AREA, RV_BOOT_AREA_END, RV_ACPI_AREA, RV_ACPI_AREA_END);
    rv_assert(len <= size);
    bool ok = rv_ram_write(l->ram, gpa, data, len);
    rv_assert(ok);
    return 0;
}

void rv_boot_put(struct rv_loader *l, rv_gpa gpa, const void *data, uint64_t len) {
    bool ok = rv_ram_write(l->ram, gpa, data, len);
    rv_assert(ok);
}

int rv_boot_cmdline(struct rv_loader *l, const char *prefix, uint64_t max) {
    const char *text = l->req->cmdline ? l->req->cmdline : "";
    size_t head = strlen(prefix), len = strlen(text);
    if (max > RV_BOOT_CMDLINE_MAX - 1) max = RV_BOOT_CMDLINE_MAX - 1;
    if (head + len > max)
        return rv_fail(l->err, RV_E_USAGE,
                       "the command line has %zu characters, but %s takes at most %llu; shorten it",
                       len, l->req->kernel.name, (unsigned long long)(max - head));
    rv_boot_put(l, RV_BOOT_CMDLINE, prefix, head);
    rv_boot_put(l, RV_BOOT_CMDLINE + head, text, len + 1);
    return 0;
}

/* Flat descriptors, SDM vol. 3A figure 3-8: 4 GiB from 0, present, DPL 0, accessed. */
#define GDT_CODE32 0x00cf9b000000ffffull
#define GDT_DATA   0x00cf93000000ffffull
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_TSS32  0x00008b0000000067ull /* busy, base 0, limit 0x67 */

static struct rv_seg segment(uint16_t sel, uint64_t descriptor) {
    uint32_t limit = (uint32_t)((descriptor & 0xffff) | (descriptor >> 32 & 0xf0000));
    uint16_t attr = (uint16_t)(descriptor >> 40 & 0xf0ff);
    if (attr & RV_SEG_G) limit = limit << 12 | 0xfff;
    return (struct rv_seg){.base = 0, .limit = limit, .sel = sel, .attr = attr};
}

static void load_gdt(struct rv_loader *l, const uint64_t *gdt, unsigned count) {
    rv_boot_put(l, RV_BOOT_GDT, gdt, count * sizeof *gdt);
    l->cpu->gdt.base = RV_BOOT_GDT;
    l->cpu->gdt.limit = (uint16_t)(count * sizeof *gdt - 1);
}

static void set_segments(struct rv_x86 *cpu, struct rv_seg code, struct rv_seg data) {
    cpu->seg[RV_CS] = code;
    cpu->seg[RV_DS] = cpu->seg[RV_ES] = cpu->seg[RV_SS] = data;
    cpu->seg[RV_FS] = cpu->seg[RV_GS] = data;
}

void rv_boot_real(struct rv_loader *l, rv_gpa entry, rv_gpa stack) {
    struct rv_x86 *cpu = l->cpu;
    struct rv_seg code = {.limit = 0xffff, .attr = RV_SEG_P | RV_SEG_S | 0xb};
    struct rv_seg data = {.limit = 0xffff, .attr = RV_SEG_P | RV_SEG_S | 3};
    set_segments(cpu, code, data);
    cpu->seg[RV_CS].base = entry & 0xf0000;
    cpu->seg[RV_CS].sel = (uint16_t)((entry & 0xf0000) >> 4);
    cpu->seg[RV_SS].base = stack & 0xf0000;
    cpu->seg[RV_SS].sel = (uint16_t)((stack & 0xf0000) >> 4);
    cpu->idt.base = 0;
    cpu->idt.limit = 0x3ff;
    cpu->cr0 = RV_CR0_ET;
    cpu->rip = entry & 0xffff;
    cpu->gpr[RV_RSP] = stack & 0xffff;
}

void rv_boot_protected(struct rv_loader *l, rv_gpa entry) {
    static const uint64_t gdt[] = {0, GDT_CODE32, GDT_DATA, GDT_TSS32};
    struct rv_x86 *cpu = l->cpu;
    load_gdt(l, gdt, RV_COUNT(gdt));
    set_segments(cpu, segment(0x08, GDT_CODE32), segment(0x10, GDT_DATA));
    cpu->seg[RV_TR] = segment(0x18, GDT_TSS32);
    cpu->idt.limit = 0;
    cpu->cr0 = RV_CR0_PE | RV_CR0_ET;
    cpu->rip = entry;
}

void rv_boot_long(struct rv_loader *l, rv_gpa entry) {
    static const uint64_t gdt[] = {0, 0, GDT_CODE64, GDT_DATA};
    enum { PRESENT_WRITE = 3, LARGE = 0x80, DIRECTORIES = 4 };
    struct rv_x86 *cpu = l->cpu;
    load_gdt(l, gdt, RV_COUNT(gdt));
    set_segments(cpu, segment(0x10, GDT_CODE64), segment(0x18, GDT_DATA));
    cpu->idt.limit = 0;

    uint64_t pdpt = RV_BOOT_TABLES + RV_PAGE_SIZE, pd = pdpt + RV_PAGE_SIZE;
    uint64_t entry4 = pdpt | PRESENT_WRITE;
    rv_boot_put(l, RV_BOOT_TABLES, &entry4, sizeof entry4);
    for (uint64_t i = 0; i < DIRECTORIES; i++) {
        uint64_t e = (pd + i * RV_PAGE_SIZE) | PRESENT_WRITE;
        rv_boot_put(l, pdpt + i * 8, &e, sizeof e);
        uint64_t directory[512];
        for (uint64_t j = 0; j < 512; j++)
            directory[j] = (i << 30) | (j << 21) | LARGE | PRESENT_WRITE;
        rv_boot_put(l, pd + i * RV_PAGE_SIZE, directory, sizeof directory);
    }
    cpu->cr3 = RV_BOOT_TABLES;
    cpu->cr4 = RV_CR4_PAE;
    cpu->efer = RV_EFER_LME | RV_EFER_LMA;
    cpu->cr0 = RV_CR0_PE | RV_CR0_PG | RV_CR0_ET;
    cpu->rip = entry;
}

static enum rv_boot_kind detect(const struct rv_image *image) {
    if (rv_is_bzimage(image)) return RV_BOOT_BZIMAGE;
    if (rv_is_multiboot(image)) return RV_BOOT_MULTIBOOT;
    if (rv_is_elf(image)) return RV_BOOT_PVH;
    if (rv_is_flat_header(image) || rv_is_boot_sector(image)) return RV_BOOT_FLAT;
    return RV_BOOT_AUTO;
}

enum rv_boot_kind rv_boot_detect(const struct rv_boot_request *req) {
    return req->kind == RV_BOOT_AUTO ? detect(&req->kernel) : req->kind;
}

const char *rv_boot_kind_name(enum rv_boot_kind kind) {
    static const char *const names[] = {
        [RV_BOOT_AUTO] = "auto",           [RV_BOOT_BZIMAGE] = "bzimage", [RV_BOOT_PVH] = "pvh",
        [RV_BOOT_MULTIBOOT] = "multiboot", [RV_BOOT_FLAT] = "flat",
    };
    return (unsigned)kind < RV_COUNT(names) ? names[kind] : "unknown";
}

int rv_boot_load(const struct rv_boot_request *req, struct rv_ram *ram, struct rv_x86 *cpu,
                 enum rv_boot_kind *kind, struct rv_err *err) {
    static int (*const loaders[])(struct rv_loader *) = {
        [RV_BOOT_BZIMAGE] = rv_load_bzimage,
        [RV_BOOT_PVH] = rv_load_pvh,
        [RV_BOOT_MULTIBOOT] = rv_load_multiboot,
        [RV_BOOT_FLAT] = rv_load_flat,
    };
    struct rv_loader l = {.req = req, .ram = ram, .cpu = cpu, .err = err};
    enum rv_boot_kind k = rv_boot_detect(req);
    if (k == RV_BOOT_AUTO)
        return rv_fail(err, RV_E_FORMAT,
                       "%s is no bzImage, ELF, multiboot or flat image that can be told as such; "
                       "name its kind to load raw bytes",
                       req->kernel.name);
    if ((unsigned)k >= RV_COUNT(loaders))
        return rv_fail(err, RV_E_USAGE, "there is no boot protocol number %d", (int)k);
    int rc = rv_boot_acpi(ram, &l.rsdp, err);
    if (rc) return rc;
    /* What firmware has done before any loader runs: MTRRs enabled with write-back as the default
     * type (SDM vol. 3A, 12.11.2.1). */
    cpu->mtrr_def_type = 0x806;
    cpu->gpr[RV_RDX] = 0;
    rc = loaders[k](&l);
    if (rc) return rc;
    *kind = k;
    return 0;
}
