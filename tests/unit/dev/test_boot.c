/* The loaders, against images made here: what each protocol promises, and what hostile images get.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/boot/flat.h"
#include "vmm/boot/loader.h"

static struct rv_ram ram;
static struct rv_x86 cpu;
static struct rv_err err;
static enum rv_boot_kind kind;

static void setup(void) { cr_assert_eq(rv_ram_init(&ram, 64u << 20, &err), 0); }
static void teardown(void) { rv_ram_release(&ram); }
TestSuite(boot, .init = setup, .fini = teardown);

static void put16(uint8_t *p, unsigned v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
static void put32(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}
static void put64(uint8_t *p, uint64_t v) { put32(p, v), put32(p + 4, v >> 32); }
static uint32_t at32(rv_gpa a) { return rv_get32(ram.host + a); }
static uint64_t at64(rv_gpa a) { return rv_get64(ram.host + a); }

static int load(const uint8_t *data, size_t len, const uint8_t *rd, size_t rd_len,
                const char *cmdline) {
    struct rv_boot_request r = {
        .kernel = {"image", data, len}, .initrd = {"initrd", rd, rd_len}, .cmdline = cmdline};
    rv_x86_reset(&cpu);
    err = (struct rv_err){0};
    return rv_boot_load(&r, &ram, &cpu, &kind, &err);
}

/* A kernel of one page after five setup sectors. */
enum { SETUP = 5 * 512, KERNEL = SETUP + 4096 };
static void make_bzimage(uint8_t img[KERNEL]) {
    memset(img, 0, KERNEL);
    img[0x1f1] = 4;
    put32(img + 0x1f4, 4096 / 16);
    put16(img + 0x1fe, 0xaa55);
    put16(img + 0x200, 0x66eb);
    memcpy(img + 0x202, "HdrS", 4);
    put16(img + 0x206, 0x20f);
    img[0x211] = 1;
    put32(img + 0x22c, 0x7fffffff);
    put32(img + 0x230, 0x200000);
    img[0x234] = 1;
    put16(img + 0x236, 1);
    put32(img + 0x238, 100);
    put64(img + 0x258, 0x1000000);
    put32(img + 0x260, 0x800000);
    memset(img + SETUP, 0x5c, 4096);
}

Test(boot, bzimage) {
    uint8_t img[KERNEL], rd[5000];
    make_bzimage(img);
    memset(rd, 0x77, sizeof rd);
    cr_assert_eq(load(img, sizeof img, rd, sizeof rd, "console=ttyS0"), 0, "%s", err.msg);
    cr_expect_eq(kind, RV_BOOT_BZIMAGE);
    cr_expect_eq(cpu.rip, 0x1000200);
    cr_expect_eq(cpu.gpr[RV_RSI], RV_BOOT_INFO);
    cr_expect_eq(cpu.seg[RV_CS].sel, 0x10);
    cr_expect(cpu.seg[RV_CS].attr & RV_SEG_L);
    cr_expect_eq(cpu.seg[RV_SS].sel, 0x18);
    cr_expect_eq(cpu.seg[RV_DS].limit, 0xffffffff);
    cr_expect_eq(cpu.rflags, 2);
    cr_expect_eq(cpu.efer, RV_EFER_LME | RV_EFER_LMA);
    cr_expect_eq(ram.host[0x1000000], 0x5c);
    const uint8_t *z = ram.host + RV_BOOT_INFO;
    cr_expect_arr_eq(z + 0x202, "HdrS", 4);
    cr_expect_eq(z[0x210], 0xff);
    cr_expect_eq(rv_get64(z + 0x70), RV_ACPI_AREA);
    cr_expect_str_eq((const char *)ram.host + rv_get32(z + 0x228), "console=ttyS0");
    uint32_t initrd = rv_get32(z + 0x218);
    cr_expect_eq(rv_get32(z + 0x21c), sizeof rd);
    cr_expect_eq(initrd % 4096, 0);
    cr_expect_arr_eq(ram.host + initrd, rd, sizeof rd);
    cr_expect(initrd >= 0x1800000 && initrd + sizeof rd <= ram.size);
    cr_expect_eq(z[0x1e8], 4);
    cr_expect_eq(rv_get64(z + 0x2d0 + 60), 0x100000);
    cr_expect_eq(rv_get64(z + 0x2d0 + 68), ram.size - 0x100000);
    cr_expect_eq(rv_get32(z + 0x2d0 + 76), RV_E820_RAM);

    /* Page tables: address 0x12345678 maps to itself. */
    uint64_t pdpt = at64(cpu.cr3) & ~0xfffull;
    uint64_t pd = at64(pdpt) & ~0xfffull;
    cr_expect_eq(at64(pd + (0x12345678 >> 21) * 8), (0x12345678 & ~0x1fffff) | 0x83);
    cr_expect_eq(at64(cpu.gdt.base + 0x10), 0x00af9b000000ffff);
}

Test(boot, bzimage_limits) {
    uint8_t img[KERNEL];
    make_bzimage(img);
    char line[128];
    memset(line, 'a', sizeof line);
    line[101] = 0;
    cr_expect_eq(load(img, sizeof img, NULL, 0, line), RV_E_USAGE);
    line[100] = 0;
    cr_expect_eq(load(img, sizeof img, NULL, 0, line), 0, "%s", err.msg);
    put64(img + 0x258, 0x10000000); /* beyond RAM, but relocatable */
    cr_expect_eq(load(img, sizeof img, NULL, 0, ""), 0, "%s", err.msg);
    cr_expect_eq(cpu.rip, 0x200200);
    img[0x234] = 0;
    cr_expect_eq(load(img, sizeof img, NULL, 0, ""), RV_E_USAGE);
    make_bzimage(img);
    put32(img + 0x260, 0x4000000); /* init_size */
    cr_expect_eq(load(img, sizeof img, NULL, 0, ""), RV_E_USAGE);
    make_bzimage(img);
    cr_expect_eq(load(img, sizeof img - 1, NULL, 0, ""), RV_E_FORMAT, "cut short");
    put16(img + 0x236, 0);
    cr_expect_eq(load(img, sizeof img, NULL, 0, ""), RV_E_UNSUPPORTED);
    make_bzimage(img);
    put16(img + 0x206, 0x20b);
    cr_expect_eq(load(img, sizeof img, NULL, 0, ""), RV_E_UNSUPPORTED);
    make_bzimage(img);
    put32(img + 0x22c, 0x1ffffff); /* the initrd must end below 32 MiB */
    uint8_t rd[100] = {1};
    cr_expect_eq(load(img, sizeof img, rd, sizeof rd, ""), 0);
    cr_expect_eq(at32(RV_BOOT_INFO + 0x218), 0x1fff000);
    put32(img + 0x22c, 0x17fffff);
    cr_expect_eq(load(img, sizeof img, rd, sizeof rd, ""), RV_E_USAGE);
}

/* An ELF64 with one segment at 2 MiB and one note with a PVH entry. */
enum { ELF = 4096 };
static void make_elf64(uint8_t img[ELF]) {
    memset(img, 0, ELF);
    memcpy(img, "\177ELF\2\1\1", 7);
    put16(img + 16, 2);
    put16(img + 18, 62);
    put64(img + 24, 0x200000);
    put64(img + 32, 64);
    put16(img + 54, 56);
    put16(img + 56, 2);
    uint8_t *p = img + 64;
    put32(p, 1), put64(p + 8, 1024), put64(p + 16, 0xffffffff80200000), put64(p + 24, 0x200000);
    put64(p + 32, 512), put64(p + 40, 8192), put64(p + 48, 4096);
    p += 56;
    put32(p, 4), put64(p + 8, 512), put64(p + 32, 40), put64(p + 48, 4);
    uint8_t *n = img + 512;
    put32(n, 4), put32(n + 4, 4), put32(n + 8, 6), memcpy(n + 12, "Xen", 4); /* some other note */
    n += 20;
    put32(n, 4), put32(n + 4, 4), put32(n + 8, 18), memcpy(n + 12, "Xen", 4),
        put32(n + 16, 0x200123);
    memset(img + 1024, 0x90, 512);
}

Test(boot, pvh) {
    uint8_t img[ELF], rd[100];
    make_elf64(img);
    memset(rd, 0x66, sizeof rd);
    cr_assert_eq(load(img, sizeof img, rd, sizeof rd, "quiet"), 0, "%s", err.msg);
    cr_expect_eq(kind, RV_BOOT_PVH);
    cr_expect_eq(cpu.rip, 0x200123);
    cr_expect_eq(cpu.cr0, RV_CR0_PE | RV_CR0_ET);
    cr_expect_eq(cpu.seg[RV_CS].attr & (RV_SEG_L | RV_SEG_DB), RV_SEG_DB);
    cr_expect_eq(cpu.seg[RV_TR].limit, 0x67);
    rv_gpa i = cpu.gpr[RV_RBX];
    cr_expect_eq(at32(i), 0x336ec578);
    cr_expect_eq(at32(i + 4), 1);
    cr_expect_eq(at32(i + 12), 1);
    rv_gpa module = at64(at64(i + 16));
    cr_expect_eq(at64(at64(i + 16) + 8), sizeof rd);
    cr_expect_eq(ram.host[module], 0x66);
    cr_expect_str_eq((char *)ram.host + at64(i + 24), "quiet");
    cr_expect_eq(at64(i + 32), RV_ACPI_AREA);
    cr_expect_eq(at32(i + 48), 4);
    cr_expect_eq(at64(at64(i + 40) + 3 * 24), 0x100000);
    cr_expect_eq(ram.host[0x200000], 0x90);
}

Test(boot, elf_errors) {
    uint8_t img[ELF];
    static const struct {
        unsigned at;
        uint64_t value;
        int code;
    } c[] = {
        {64 + 8, 4000, RV_E_FORMAT},             /* segment past the file */
        {64 + 8, UINT64_MAX - 10, RV_E_FORMAT},  /* offset that wraps */
        {64 + 32, UINT64_MAX, RV_E_FORMAT},      /* size that wraps */
        {64 + 40, 100, RV_E_FORMAT},             /* memory smaller than file */
        {64 + 24, 0x90000, RV_E_FORMAT},         /* over the boot data */
        {64 + 24, 0xff000, RV_E_FORMAT},         /* over the ACPI tables */
        {64 + 24, UINT64_MAX - 100, RV_E_USAGE}, /* address that wraps */
        {64 + 24, 0x4000000, RV_E_USAGE},        /* beyond RAM */
        {32, UINT64_MAX - 60, RV_E_FORMAT},      /* program headers */
        {120 + 32, 20, RV_E_FORMAT},             /* no note */
    };
    for (size_t i = 0; i < RV_COUNT(c); i++) {
        make_elf64(img);
        put64(img + c[i].at, c[i].value);
        cr_expect_eq(load(img, sizeof img, NULL, 0, NULL), c[i].code, "case %zu: %s", i, err.msg);
        cr_expect(err.msg[0]);
    }
    make_elf64(img);
    put32(img + 512, 0xfffffff0); /* a note name that wraps */
    cr_expect_eq(load(img, sizeof img, NULL, 0, NULL), RV_E_FORMAT);
}

static void put_header(uint8_t *p, uint32_t flags) {
    put32(p, 0x1badb002), put32(p + 4, flags), put32(p + 8, 0u - 0x1badb002u - flags);
}

static void check_multiboot(const char *cmdline) {
    cr_expect_eq(kind, RV_BOOT_MULTIBOOT);
    cr_expect_eq(cpu.gpr[RV_RAX], 0x2badb002);
    cr_expect_eq(cpu.cr0, RV_CR0_PE | RV_CR0_ET);
    rv_gpa i = cpu.gpr[RV_RBX];
    cr_expect_eq(at32(i), 0x24d);
    cr_expect_eq(at32(i + 4), 639);
    cr_expect_eq(at32(i + 8), 63 * 1024);
    cr_expect_str_eq((char *)ram.host + at32(i + 16), cmdline);
    cr_expect_eq(at32(i + 44), 4 * 24);
    cr_expect_eq(at32(at32(i + 48)), 20);
    cr_expect_eq(at64(at32(i + 48) + 3 * 24 + 4), 0x100000);
}

Test(boot, multiboot_elf) {
    uint8_t img[ELF] = {0}, mod[10] = "module me";
    memcpy(img, "\177ELF\1\1\1", 7);
    put16(img + 18, 3);
    put32(img + 24, 0x400010);
    put32(img + 28, 52);
    put16(img + 42, 32), put16(img + 44, 1);
    uint8_t *p = img + 52;
    put32(p, 1), put32(p + 4, 256), put32(p + 12, 0x400000), put32(p + 16, 100),
        put32(p + 20, 5000);
    put_header(img + 256, 3);
    cr_assert_eq(load(img, sizeof img, mod, sizeof mod, "a b"), 0, "%s", err.msg);
    cr_expect_eq(cpu.rip, 0x400010);
    check_multiboot("kernel a b");
    rv_gpa i = cpu.gpr[RV_RBX], list = at32(i + 24);
    cr_expect_eq(at32(i + 20), 1);
    cr_expect_eq(at32(list), 0x402000);
    cr_expect_eq(at32(list + 4), 0x402000 + sizeof mod);
    cr_expect_arr_eq(ram.host + 0x402000, mod, sizeof mod);
    put_header(img + 256, 0x10);
    cr_expect_eq(load(img, sizeof img, NULL, 0, NULL), RV_E_UNSUPPORTED);

    make_elf64(img);
    put_header(img + 2048, 0);
    cr_expect_eq(load(img, sizeof img, NULL, 0, NULL), 0, "%s", err.msg);
    cr_expect_eq(cpu.rip, 0x200000);
    check_multiboot("kernel");
}

Test(boot, multiboot_address_fields) {
    uint8_t img[1024];
    memset(img, 0x33, sizeof img);
    put_header(img + 64, 0x10000);
    put32(img + 76, 0x100040), put32(img + 80, 0x100000), put32(img + 84, 0x100200);
    put32(img + 88, 0x101000), put32(img + 92, 0x100060);
    cr_assert_eq(load(img, sizeof img, NULL, 0, NULL), 0, "%s", err.msg);
    cr_expect_eq(cpu.rip, 0x100060);
    cr_expect_eq(ram.host[0x1001ff], 0x33);
    cr_expect_eq(ram.host[0x100200], 0);
    put32(img + 80, 0); /* would begin before the file */
    cr_expect_eq(load(img, sizeof img, NULL, 0, NULL), RV_E_FORMAT);
    put32(img + 80, 0x100000), put32(img + 84, 0x200000);
    cr_expect_eq(load(img, sizeof img, NULL, 0, NULL), RV_E_FORMAT);
}

Test(boot, flat_boot_sector) {
    uint8_t img[512] = {0xf4};
    cr_expect_eq(load(img, sizeof img, NULL, 0, NULL), RV_E_FORMAT, "nothing tells what it is");
    put16(img + 510, 0xaa55);
    cr_assert_eq(load(img, sizeof img, NULL, 0, NULL), 0);
    cr_expect_eq(kind, RV_BOOT_FLAT);
    cr_expect_eq(cpu.rip, 0x7c00);
    cr_expect_eq(cpu.seg[RV_CS].base, 0);
    cr_expect_eq(cpu.gpr[RV_RDX], 0x80);
    cr_expect_eq(cpu.cr0, RV_CR0_ET);
    cr_expect_eq(ram.host[0x7c00], 0xf4);
    struct rv_boot_request r = {.kind = RV_BOOT_FLAT, .kernel = {"raw", img, 3}};
    cr_expect_eq(rv_boot_load(&r, &ram, &cpu, &kind, &err), 0);
    r.kernel.len = 0;
    cr_expect_eq(rv_boot_load(&r, &ram, &cpu, &kind, &err), RV_E_FORMAT);
}

Test(boot, flat_header) {
    uint8_t img[256] = {0};
    struct rv_flat_header h = {RV_FLAT_MAGIC, 64, 0, 0x200000, 0x200080, 0x300000};
    memcpy(img, &h, sizeof h);
    cr_assert_eq(load(img, sizeof img, NULL, 0, "hello"), 0, "%s", err.msg);
    cr_expect_eq(cpu.rip, 0x200080);
    cr_expect_eq(cpu.gpr[RV_RSP], 0x300000);
    cr_expect(cpu.seg[RV_CS].attr & RV_SEG_L);
    cr_expect_str_eq((char *)ram.host + cpu.gpr[RV_RBX], "hello");
    h.mode = 32;
    memcpy(img, &h, sizeof h);
    cr_assert_eq(load(img, sizeof img, NULL, 0, NULL), 0);
    cr_expect_eq(cpu.cr0, RV_CR0_PE | RV_CR0_ET);
    h = (struct rv_flat_header){RV_FLAT_MAGIC, 16, 0, 0x20000, 0x20040, 0x2fff0};
    memcpy(img, &h, sizeof h);
    cr_assert_eq(load(img, sizeof img, NULL, 0, NULL), 0);
    cr_expect_eq(cpu.seg[RV_CS].sel, 0x2000);
    cr_expect_eq(cpu.rip, 0x40);
    cr_expect_eq(cpu.seg[RV_SS].base, 0x20000);
    cr_expect_eq(cpu.gpr[RV_RSP], 0xfff0);
    h.mode = 8;
    memcpy(img, &h, sizeof h);
    cr_expect_eq(load(img, sizeof img, NULL, 0, NULL), RV_E_FORMAT);
}

/* Images with random damage: an error or a load, never more than that. The sanitizers watch. */
Test(boot, damaged_images, .timeout = 120) {
    uint64_t s = 88172645463325252ull;
    uint8_t base[3][KERNEL] = {{0}};
    make_bzimage(base[0]);
    make_elf64(base[1]);
    make_elf64(base[2]);
    put_header(base[2] + 2048, 0x10003);
    put32(base[2] + 2060, 0x200800), put32(base[2] + 2064, 0x200000);
    static const size_t lens[3] = {KERNEL, ELF, ELF};
    static const size_t headers[3] = {0x290, 600, 2100};
    for (unsigned round = 0; round < 30000; round++) {
        unsigned which = round % 3;
        size_t len = lens[which];
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        if (s >> 60 == 0) len = s % len;
        uint8_t *img = malloc(len ? len : 1); /* exact size, so that overreads are seen */
        memcpy(img, base[which], len);
        for (unsigned n = s >> 32 & 7; n && len; n--) {
            s ^= s << 13, s ^= s >> 7, s ^= s << 17;
            size_t at = (s >> 8) % headers[which];
            if (at < len) img[at] = s >> 50 & 1 ? 0xff : (uint8_t)s;
        }
        (void)load(img, len, img, len, "x");
        free(img);
    }
}

Test(boot, memory_beyond_four_gigabytes) {
    struct rv_ram big;
    cr_assert_eq(rv_ram_init(&big, 5ull << 30, &err), 0);
    struct rv_e820 map[RV_E820_MAX];
    cr_expect_eq(rv_boot_map(&big, map), 5);
    cr_expect_eq(map[3].base + map[3].size, 0xc0000000);
    cr_expect_eq(map[4].base, 0x100000000);
    cr_expect_eq(map[4].size, 2ull << 30);
    rv_ram_release(&big);
    cr_assert_eq(rv_ram_init(&big, 1u << 20, &err), 0);
    cr_expect_eq(rv_boot_map(&big, map), 3);
    uint8_t img[KERNEL];
    make_bzimage(img);
    struct rv_boot_request r = {.kernel = {"image", img, sizeof img}};
    cr_expect_eq(rv_boot_load(&r, &big, &cpu, &kind, &err), RV_E_USAGE);
    rv_ram_release(&big);
}

Test(boot, names) {
    cr_expect_str_eq(rv_boot_kind_name(RV_BOOT_MULTIBOOT), "multiboot");
    cr_expect_str_eq(rv_boot_kind_name((enum rv_boot_kind)99), "unknown");
}
