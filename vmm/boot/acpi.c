/* The ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT and DSDT, in the ROM area below 1 MiB.
 * Source: ACPI 6.4, chapter 5. What they say must agree with vmm/dev and vmm/pc.c, whose constants
 * they use. */
#include "vmm/boot/aml.h"
#include "vmm/boot/loader.h"
#include "vmm/dev/models.h"
#include "vmm/dev/pci.h"

#include <string.h>

enum { HEADER = 36, FADT_SIZE = 276, FACS_SIZE = 64 };
enum { SYSTEM_IO = 1, GAS_BYTE = 1, GAS_WORD = 2, GAS_DWORD = 3 };

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, sizeof v); }

/* Identifiers in tables have no NUL. */
static void put_text(uint8_t *p, const char *text) {
    while (*text) *p++ = (uint8_t)*text++;
}

static uint8_t checksum(const uint8_t *p, size_t n) {
    uint8_t sum = 0;
    while (n--) sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

/* Appends a description header (5.2.6); finish fills length and checksum. */
static size_t begin(struct rv_buf *b, const char *signature, uint8_t revision) {
    size_t at = b->len;
    uint8_t h[HEADER] = {0};
    put_text(h, signature);
    h[8] = revision;
    put_text(h + 10, "RETRO RETROVSR"); /* OEM and table identifiers */
    put32(h + 24, 1);
    put_text(h + 28, "RVSR");
    put32(h + 32, 1);
    rv_buf_put(b, h, sizeof h);
    return at;
}

static void finish(struct rv_buf *b, size_t at) {
    put32(b->data + at + 4, (uint32_t)(b->len - at));
    b->data[at + 9] = 0;
    b->data[at + 9] = checksum(b->data + at, b->len - at);
}

static void align(struct rv_buf *b, size_t to) {
    while (b->len % to) rv_buf_put_u8(b, 0);
}

/* _PRT: each slot's four pins, straight to interrupt lines (6.2.13). */
static void routing_table(struct rv_buf *b) {
    enum { SLOTS = 32, PINS = 4 };
    rv_aml_name(b, "_PRT");
    size_t table = rv_aml_package_begin(b, SLOTS * PINS);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (unsigned pin = 0; pin < PINS; pin++) {
            size_t entry = rv_aml_package_begin(b, 4);
            rv_aml_int(b, slot << 16 | 0xffff); /* all functions of the slot */
            rv_aml_int(b, pin);
            rv_aml_int(b, 0);
            rv_aml_int(b, rv_pci_gsi(slot, pin + 1));
            rv_aml_end(b, entry);
        }
    }
    rv_aml_end(b, table);
}

static void pci_bridge(struct rv_buf *b) {
    size_t dev = rv_aml_device_begin(b, "PCI0");
    rv_aml_name(b, "_HID");
    rv_aml_eisa(b, "PNP0A03");
    rv_aml_name(b, "_UID");
    rv_aml_int(b, 0);
    rv_aml_name(b, "_BBN");
    rv_aml_int(b, 0);
    rv_aml_name(b, "_CRS");
    size_t crs = rv_aml_resources_begin(b);
    rv_aml_window16(b, RV_AML_BUS, 0, 0);
    rv_aml_io(b, 0xcf8, 8);
    rv_aml_window16(b, RV_AML_IO, 0, 0xcf7);
    rv_aml_window16(b, RV_AML_IO, 0xd00, 0xffff);
    rv_aml_window32(b, RV_AML_MEMORY, RV_RAM_LOW_LIMIT, RV_IOAPIC_BASE - 1);
    rv_aml_resources_end(b, crs);
    routing_table(b);
    rv_aml_end(b, dev);
}

/* A legacy device with one port range and at most one interrupt. */
static void isa_device(struct rv_buf *b, const char *name, const char *hid, unsigned uid,
                       uint16_t port, uint8_t ports, int irq) {
    size_t dev = rv_aml_device_begin(b, name);
    rv_aml_name(b, "_HID");
    rv_aml_eisa(b, hid);
    rv_aml_name(b, "_UID");
    rv_aml_int(b, uid);
    rv_aml_name(b, "_CRS");
    size_t crs = rv_aml_resources_begin(b);
    rv_aml_io(b, port, ports);
    if (irq >= 0) rv_aml_irq(b, (unsigned)irq);
    rv_aml_resources_end(b, crs);
    rv_aml_end(b, dev);
}

static size_t dsdt(struct rv_buf *b) {
    size_t at = begin(b, "DSDT", 2);
    rv_aml_name(b, "\\_S5_"); /* sleep types for PM1a and PM1b, and two reserved (7.4.2.6) */
    size_t s5 = rv_aml_package_begin(b, 4);
    rv_aml_int(b, RV_SLP_TYP_S5);
    rv_aml_int(b, RV_SLP_TYP_S5);
    rv_aml_int(b, 0);
    rv_aml_int(b, 0);
    rv_aml_end(b, s5);
    size_t sb = rv_aml_scope_begin(b, "\\_SB_");
    pci_bridge(b);
    isa_device(b, "COM1", "PNP0501", 1, 0x3f8, 8, 4);
    isa_device(b, "RTC0", "PNP0B00", 0, 0x70, 2, 8);
    /* Keeps other devices off the fixed hardware's ports. */
    isa_device(b, "FIX0", "PNP0C02", 0, RV_PORT_PM_EVENT, 12, -1);
    isa_device(b, "LIN0", "PNP0C02", 1, RV_PORT_LINES, RV_IOAPIC_PINS, -1);
    rv_aml_end(b, sb);
    finish(b, at);
    return at;
}

static size_t madt(struct rv_buf *b) {
    size_t at = begin(b, "APIC", 5);
    rv_buf_put_u32(b, RV_LAPIC_BASE);
    rv_buf_put_u32(b, 1);                            /* PCAT_COMPAT: there are 8259s as well */
    static const uint8_t lapic[8] = {0, 8, 0, 0, 1}; /* processor 0, APIC 0, enabled */
    rv_buf_put(b, lapic, sizeof lapic);
    uint8_t ioapic[12] = {1, 12}; /* identifier 0, interrupts from 0 */
    put32(ioapic + 4, RV_IOAPIC_BASE);
    rv_buf_put(b, ioapic, sizeof ioapic);
    static const uint8_t timer[10] = {2, 10, 0, 0, 2}; /* ISA 0 is interrupt 2 */
    rv_buf_put(b, timer, sizeof timer);
    static const uint8_t sci[10] = {2, 10, 0, RV_GSI_SCI, RV_GSI_SCI,
                                    0, 0,  0, 0x0d}; /* level, high */
    rv_buf_put(b, sci, sizeof sci);
    static const uint8_t nmi[6] = {4, 6, 0xff, 0, 0, 1}; /* LINT1 of every processor */
    rv_buf_put(b, nmi, sizeof nmi);
    finish(b, at);
    return at;
}

static size_t facs(struct rv_buf *b) {
    align(b, 64); /* 5.2.10 */
    size_t at = b->len;
    uint8_t t[FACS_SIZE] = {'F', 'A', 'C', 'S', FACS_SIZE};
    t[32] = 2; /* version */
    rv_buf_put(b, t, sizeof t);
    return at;
}

static void gas(uint8_t *p, uint8_t bits, uint8_t access, uint16_t port) {
    p[0] = SYSTEM_IO;
    p[1] = bits;
    p[3] = access;
    put64(p + 4, port);
}

/* 5.2.9. No SMI command port: the machine is in ACPI mode from power-on. Neither buttons nor an RTC
 * alarm wake it through fixed hardware. */
static size_t fadt(struct rv_buf *b, rv_gpa facs_at, rv_gpa dsdt_at) {
    enum {
        WBINVD = 1 << 0,
        PROC_C1 = 1 << 2,
        PWR_BUTTON = 1 << 4,
        SLP_BUTTON = 1 << 5,
        FIX_RTC = 1 << 6,
        TMR_VAL_EXT = 1 << 8,
        RESET_REG_SUP = 1 << 10
    };
    enum { LEGACY_DEVICES = 1 << 0, NO_VGA = 1 << 2, NO_ASPM = 1 << 4 }; /* and no 8042: bit 1 */
    size_t at = begin(b, "FACP", 6);
    memset(rv_buf_grow(b, FADT_SIZE - HEADER), 0, FADT_SIZE - HEADER);
    uint8_t *t = b->data + at;
    put32(t + 36, (uint32_t)facs_at);
    put32(t + 40, (uint32_t)dsdt_at);
    put16(t + 46, RV_GSI_SCI);
    put32(t + 56, RV_PORT_PM_EVENT);
    put32(t + 64, RV_PORT_PM_CONTROL);
    put32(t + 76, RV_PORT_PM_TIMER);
    t[88] = 4; /* lengths of the three blocks */
    t[89] = 2;
    t[91] = 4;
    put16(t + 96, 0xfff); /* latencies beyond the limit: no C2, no C3 */
    put16(t + 98, 0xfff);
    t[108] = 0x32; /* century in CMOS */
    put16(t + 109, LEGACY_DEVICES | NO_VGA | NO_ASPM);
    put32(t + 112,
          WBINVD | PROC_C1 | PWR_BUTTON | SLP_BUTTON | FIX_RTC | TMR_VAL_EXT | RESET_REG_SUP);
    gas(t + 116, 8, GAS_BYTE, RV_PORT_RESET);
    t[128] = RV_RESET_VALUE;
    t[131] = 4;              /* minor version: 6.4 */
    put64(t + 140, dsdt_at); /* X_FIRMWARE_CTRL stays 0, the 32-bit field being used */
    gas(t + 148, 32, GAS_WORD, RV_PORT_PM_EVENT);
    gas(t + 172, 16, GAS_WORD, RV_PORT_PM_CONTROL);
    gas(t + 208, 32, GAS_DWORD, RV_PORT_PM_TIMER);
    finish(b, at);
    return at;
}

int rv_boot_acpi(struct rv_ram *ram, rv_gpa *rsdp, struct rv_err *err) {
    struct rv_buf b = {0};
    const rv_gpa base = RV_ACPI_AREA;
    memset(rv_buf_grow(&b, 48), 0, 48); /* the RSDP goes here */
    rv_gpa dsdt_at = base + dsdt(&b);
    rv_gpa facs_at = base + facs(&b);
    rv_gpa tables[2];
    tables[0] = base + fadt(&b, facs_at, dsdt_at);
    align(&b, 16);
    tables[1] = base + madt(&b);
    align(&b, 16);
    size_t rsdt = begin(&b, "RSDT", 1);
    for (size_t i = 0; i < RV_COUNT(tables); i++) rv_buf_put_u32(&b, (uint32_t)tables[i]);
    finish(&b, rsdt);
    align(&b, 16);
    size_t xsdt = begin(&b, "XSDT", 1);
    for (size_t i = 0; i < RV_COUNT(tables); i++) rv_buf_put_u64(&b, tables[i]);
    finish(&b, xsdt);

    uint8_t *p = b.data; /* 5.2.5.3 */
    put_text(p, "RSD PTR ");
    put_text(p + 9, "RETRO ");
    p[15] = 2;
    put32(p + 16, (uint32_t)(base + rsdt));
    put32(p + 20, 36);
    put64(p + 24, base + xsdt);
    p[8] = checksum(p, 20);
    p[32] = checksum(p, 36);

    rv_assert(b.len <= RV_ACPI_AREA_END - RV_ACPI_AREA);
    bool ok = rv_ram_write(ram, base, b.data, b.len);
    rv_buf_release(&b);
    if (!ok)
        return rv_fail(err, RV_E_USAGE, "the guest has no memory at 0x%llx for ACPI tables",
                       (unsigned long long)base);
    *rsdp = base;
    return 0;
}
