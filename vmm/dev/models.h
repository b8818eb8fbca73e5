/* The device models of the PC board, and the wires between them that are not ordinary interrupt
 * lines. All state fields are integers, and every model stays memory-safe whatever values they
 * hold, because states are also loaded from traces. */
#ifndef RV_VMM_DEV_MODELS_H
#define RV_VMM_DEV_MODELS_H

#include "vmm/dev/dev.h"

/* Regions of each device, as given to its read and write. */
enum { RV_UART_REGS };
enum { RV_PIC_MASTER, RV_PIC_SLAVE, RV_PIC_ELCR };
enum { RV_PIT_COUNTERS, RV_PIT_PORT61 };
enum { RV_LAPIC_PAGE };
enum { RV_IOAPIC_PAGE };
enum { RV_RTC_PORTS };
enum { RV_I8042_DATA, RV_I8042_COMMAND, RV_I8042_PORT92 };
enum { RV_ACPI_PM_EVENT, RV_ACPI_PM_CONTROL, RV_ACPI_PM_TIMER };
enum { RV_PCI_ADDRESS, RV_PCI_DATA };
enum { RV_MARK_PORT };
enum {
    RV_DEBUG_EXIT,
    RV_DEBUG_CONSOLE,
    RV_DEBUG_POST,
    RV_DEBUG_LATCH,
    RV_DEBUG_LINES,
    RV_DEBUG_SCRATCH
};

/* Where the ACPI fixed hardware lives; the tables and the routing must agree. */
#define RV_PORT_PM_EVENT   0x600
#define RV_PORT_PM_CONTROL 0x604
#define RV_PORT_PM_TIMER   0x608
#define RV_PORT_RESET      0xcf9
#define RV_PORT_LINES      0x2000
#define RV_RESET_VALUE     0x06
#define RV_SLP_TYP_S5      5
#define RV_GSI_SCI         9
#define RV_LAPIC_BASE      0xfee00000u
#define RV_IOAPIC_BASE     0xfec00000u
#define RV_IOAPIC_PINS     24
#define RV_SCRATCH_BASE    0xff000000u
#define RV_SCRATCH_SIZE    4096
#define RV_PORT_MARK       0xea
#define RV_MARK_NAME       64 /* bytes of a name */

extern const struct rv_dev_ops rv_dev_pic8259;
extern const struct rv_dev_ops rv_dev_pit8254;
extern const struct rv_dev_ops rv_dev_lapic;
extern const struct rv_dev_ops rv_dev_ioapic;
extern const struct rv_dev_ops rv_dev_uart16550;
extern const struct rv_dev_ops rv_dev_rtc;
extern const struct rv_dev_ops rv_dev_i8042;
extern const struct rv_dev_ops rv_dev_acpi_pm;
extern const struct rv_dev_ops rv_dev_pci;
extern const struct rv_dev_ops rv_dev_debug;
extern const struct rv_dev_ops rv_dev_mark;

struct rv_pci_bus;

/* What rv_dev.link points to for every device of the board: fixed at construction, not state. */
struct rv_wiring {
    struct rv_dev *lapic;  /* target of the IOAPIC's messages */
    struct rv_dev *ioapic; /* hears the LAPIC's EOI broadcasts */
    const struct rv_pci_bus *pci;
    uint64_t tsc_hz;     /* of the TSC and of the LAPIC timer before its divider */
    unsigned phys_bits;  /* width of physical addresses, for reserved bits of the APIC base */
    uint64_t boot_epoch; /* seconds since 1970 UTC at guest time 0 */
    uint64_t ram_low;    /* bytes of RAM below 4 GiB and above it, for the CMOS fields */
    uint64_t ram_high;
};

/* 8259 pair: input lines 0..15 (2 is the cascade and has no input), the INTR output, and the INTA
 * cycle, which gives a vector (a spurious one when nothing is pending). */
void rv_pic_line(struct rv_dev *dev, unsigned irq, bool level);
bool rv_pic_intr(const struct rv_dev *dev);
unsigned rv_pic_ack(struct rv_dev *dev);

/* LAPIC. */
enum rv_apic_mode {
    RV_APIC_FIXED = 0,
    RV_APIC_LOWEST = 1,
    RV_APIC_SMI = 2,
    RV_APIC_NMI = 4,
    RV_APIC_INIT = 5,
    RV_APIC_STARTUP = 6,
    RV_APIC_EXTINT = 7,
};
struct rv_apic_message {
    enum rv_apic_mode mode;
    uint8_t vector;
    uint8_t level;   /* level-triggered: its EOI is broadcast */
    uint8_t logical; /* destination mode */
    uint32_t dest;   /* 8 bits wide from an IOAPIC, 0xff: broadcast */
};
/* True when the LAPIC is addressed, whether or not it then accepts the interrupt. */
bool rv_lapic_message(struct rv_dev *dev, const struct rv_apic_message *m);
void rv_lapic_lint(struct rv_dev *dev, unsigned pin, bool level);
bool rv_lapic_decodes(const struct rv_dev *dev, rv_gpa gpa); /* gpa lies in the register page */
bool rv_lapic_extint(const struct rv_dev *dev);  /* LINT0 passes the 8259's interrupts through */
bool rv_lapic_present(const struct rv_dev *dev); /* enabled in the APIC base MSR */
bool rv_lapic_intr(const struct rv_dev *dev);
unsigned rv_lapic_ack(struct rv_dev *dev);
bool rv_lapic_nmi_pending(const struct rv_dev *dev);
bool rv_lapic_lint0_nmi(const struct rv_dev *dev); /* LINT0 is programmed to pass on NMIs */
void rv_lapic_nmi_take(struct rv_dev *dev);
/* Does this register read or set the timer? By page offset over 16, and by MSR number. */
bool rv_lapic_is_clock(uint64_t reg);
bool rv_lapic_msr_is_clock(uint64_t msr);
/* False: #GP(0). */
bool rv_lapic_msr_read(struct rv_dev *dev, uint32_t msr, uint64_t *value);
bool rv_lapic_msr_write(struct rv_dev *dev, uint32_t msr, uint64_t value);
uint64_t rv_lapic_cr8(const struct rv_dev *dev);
bool rv_lapic_set_cr8(struct rv_dev *dev, uint64_t value);

/* IOAPIC. Lines are logical: true is asserted, whatever polarity the guest programs. */
void rv_ioapic_line(struct rv_dev *dev, unsigned pin, bool level);
void rv_ioapic_eoi(struct rv_dev *dev, unsigned vector);
bool rv_ioapic_nmi(const struct rv_dev *dev);    /* some pin is programmed to pass on NMIs */
bool rv_ioapic_extint(const struct rv_dev *dev); /* pin 0 passes the 8259's interrupts through */

/* Shorthands for the board's services. */
static inline rv_ns rv_dev_now(const struct rv_dev *dev) {
    return dev->board->ops->now(dev->board);
}
static inline void rv_dev_irq(const struct rv_dev *dev, unsigned gsi, bool level) {
    dev->board->ops->irq(dev->board, gsi, level);
}
static inline void rv_dev_reschedule(struct rv_dev *dev) {
    dev->board->ops->reschedule(dev->board, dev);
}
static inline void rv_dev_attention(const struct rv_dev *dev) {
    dev->board->ops->attention(dev->board);
}
static inline const struct rv_wiring *rv_dev_wiring(const struct rv_dev *dev) { return dev->link; }

#endif
