/* The ACPI tables as a guest finds them, and as the reference compiler reads them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "fake_board.h"
#include "vmm/boot/aml.h"
#include "vmm/boot/loader.h"

static struct rv_ram ram;
static rv_gpa rsdp;

static void setup(void) {
    struct rv_err err;
    cr_assert_eq(rv_ram_init(&ram, 2u << 20, &err), 0);
    cr_assert_eq(rv_boot_acpi(&ram, &rsdp, &err), 0);
}
static void teardown(void) { rv_ram_release(&ram); }
TestSuite(acpi, .init = setup, .fini = teardown);

static uint8_t sum(rv_gpa at, size_t n) {
    uint8_t s = 0;
    for (size_t i = 0; i < n; i++) s = (uint8_t)(s + ram.host[at + i]);
    return s;
}

/* A table by its signature, through the XSDT; the DSDT and the FACS through the FADT. */
static const uint8_t *table(const char *signature, uint32_t *len) {
    rv_gpa xsdt = rv_get64(ram.host + rsdp + 24);
    uint32_t n = (rv_get32(ram.host + xsdt + 4) - 36) / 8;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *t = ram.host + rv_get64(ram.host + xsdt + 36 + i * 8ull);
        if (memcmp(t, "FACP", 4) == 0 && strcmp(signature, "DSDT") == 0)
            t = ram.host + rv_get32(t + 40);
        else if (memcmp(t, "FACP", 4) == 0 && strcmp(signature, "FACS") == 0)
            t = ram.host + rv_get32(t + 36);
        if (memcmp(t, signature, 4) == 0) {
            *len = rv_get32(t + 4);
            return t;
        }
    }
    cr_assert_fail("no table %s", signature);
    return NULL;
}

Test(acpi, root_pointer_and_checksums) {
    cr_expect_eq(rsdp % 16, 0);
    cr_expect_arr_eq(ram.host + rsdp, "RSD PTR ", 8);
    cr_expect_eq(sum(rsdp, 20), 0);
    cr_expect_eq(sum(rsdp, 36), 0);
    cr_expect_eq(ram.host[rsdp + 15], 2);
    static const char *const names[] = {"FACP", "APIC", "DSDT"};
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        uint32_t len;
        const uint8_t *t = table(names[i], &len);
        cr_expect_eq(sum((rv_gpa)(t - ram.host), len), 0, "%s", names[i]);
        cr_expect(t + len <= ram.host + RV_ACPI_AREA_END);
    }
    rv_gpa rsdt = rv_get32(ram.host + rsdp + 16), xsdt = rv_get64(ram.host + rsdp + 24);
    cr_expect_eq(sum(rsdt, rv_get32(ram.host + rsdt + 4)), 0);
    cr_expect_eq(sum(xsdt, rv_get32(ram.host + xsdt + 4)), 0);
    uint32_t len;
    cr_expect_eq((table("FACS", &len) - ram.host) % 64, 0);
}

Test(acpi, fixed_hardware_agrees_with_the_devices) {
    uint32_t len;
    const uint8_t *t = table("FACP", &len);
    cr_expect_eq(len, 276);
    cr_expect_eq(rv_get16(t + 46), RV_GSI_SCI);
    cr_expect_eq(rv_get32(t + 48), 0, "no SMI command port");
    cr_expect_eq(rv_get32(t + 56), RV_PORT_PM_EVENT);
    cr_expect_eq(rv_get32(t + 64), RV_PORT_PM_CONTROL);
    cr_expect_eq(rv_get32(t + 76), RV_PORT_PM_TIMER);
    cr_expect_eq(rv_get16(t + 109) & 2, 0, "no 8042");
    cr_expect_eq(rv_get32(t + 112) >> 20 & 1, 0, "not hardware-reduced");
    cr_expect_eq(rv_get32(t + 112) >> 10 & 1, 1, "a reset register");
    cr_expect_eq(rv_get64(t + 120), RV_PORT_RESET);
    t = table("APIC", &len);
    cr_expect_eq(rv_get32(t + 36), RV_LAPIC_BASE);
    cr_expect_eq(rv_get32(t + 40), 1);
}

Test(acpi, aml_lengths) {
    /* The form of a package length changes at 63 and 4095 bytes. */
    static const struct { unsigned fill, bytes; } c[] = {{58, 1}, {59, 2}, {4089, 2}, {4090, 3}};
    for (size_t i = 0; i < RV_COUNT(c); i++) {
        struct rv_buf b = {0};
        size_t mark = rv_aml_scope_begin(&b, "\\ABC");
        for (unsigned n = 0; n < c[i].fill; n++) rv_buf_put_u8(&b, 0);
        rv_aml_end(&b, mark);
        unsigned lead = b.data[1] >> 6, total = b.data[1] & 0x3f;
        if (lead) total = (b.data[1] & 0xfu) | (unsigned)b.data[2] << 4;
        if (lead > 1) total |= (unsigned)b.data[3] << 12;
        cr_expect_eq(lead + 1, c[i].bytes, "fill %u", c[i].fill);
        cr_expect_eq(total, b.len - 1, "fill %u", c[i].fill);
        rv_buf_release(&b);
    }
}

static void write_file(const char *dir, const char *name, const void *data, size_t len) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(data, 1, len, f), len);
    fclose(f);
}

static bool run(const char *dir, const char *command) {
    char line[512];
    snprintf(line, sizeof line, "cd '%s' && %s >log 2>&1", dir, command);
    return system(line) == 0;
}

static bool mentions(const char *dir, const char *file, const char *text) {
    char line[512];
    snprintf(line, sizeof line, "grep -qF '%s' '%s/%s'", text, dir, file);
    return system(line) == 0;
}

/* Disassembles every table with ACPICA's iasl and compiles the DSDT again. */
Test(acpi, reference_compiler_accepts_the_tables) {
    if (system("command -v iasl >/dev/null 2>&1") != 0)
        cr_skip_test("iasl is not installed (Debian: acpica-tools)");
    char dir[] = "/tmp/rv-acpi-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    static const char *const names[] = {"FACP", "APIC", "DSDT", "FACS"};
    for (size_t i = 0; i < RV_COUNT(names); i++) {
        uint32_t len;
        char file[16];
        const uint8_t *t = table(names[i], &len);
        snprintf(file, sizeof file, "%s.dat", names[i]);
        write_file(dir, file, t, len);
        char command[64];
        snprintf(command, sizeof command, "iasl -d %s", file);
        cr_expect(run(dir, command), "%s", names[i]);
        cr_expect_not(mentions(dir, "log", "rror"), "%s", names[i]);
        cr_expect_not(mentions(dir, "log", "nvalid"), "%s", names[i]);
    }
    cr_expect(run(dir, "iasl -p again DSDT.dsl"));
    cr_expect(mentions(dir, "log", "0 Errors, 0 Warnings"));
    static const char *const lines[] = {
        "Name (\\_S5, Package (0x04)",
        "EisaId (\"PNP0A03\")",
        "EisaId (\"PNP0501\")",
        "EisaId (\"PNP0B00\")",
        "0x03F8,",
        "IRQNoFlags ()",
        "WordBusNumber",
        "_PRT",
    };
    for (size_t i = 0; i < RV_COUNT(lines); i++)
        cr_expect(mentions(dir, "DSDT.dsl", lines[i]), "%s", lines[i]);
    char line[64];
    snprintf(line, sizeof line, "rm -r '%s'", dir);
    cr_expect_eq(system(line), 0);
}
