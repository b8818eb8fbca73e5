/* The PCI bus as its functions see it. A function is a device of the board whose configuration
 * space is reached through config mechanism 1; it registers itself on the bus when the board is
 * built. */
#ifndef RV_VMM_DEV_PCI_H
#define RV_VMM_DEV_PCI_H

#include "vmm/dev/dev.h"

#define RV_PCI_FUNCTIONS   32  /* registered at most */
#define RV_PCI_CONFIG_SIZE 256 /* bytes of configuration space */

struct rv_pci_function_ops {
    /* offset is a multiple of size; offset + size <= RV_PCI_CONFIG_SIZE. */
    uint32_t (*config_read)(struct rv_dev *dev, unsigned offset, unsigned size);
    void (*config_write)(struct rv_dev *dev, unsigned offset, unsigned size, uint32_t value);
};

struct rv_pci_function {
    uint8_t slot, function; /* 0..31, 0..7 */
    const struct rv_pci_function_ops *ops;
    struct rv_dev *dev;
};

/* Part of the board's construction, not of its state. All functions sit on bus 0. */
struct rv_pci_bus {
    struct rv_pci_function fn[RV_PCI_FUNCTIONS];
    unsigned count;
};

/* False when the place is taken or the bus is full. */
bool rv_pci_register(struct rv_pci_bus *bus, struct rv_pci_function fn);

/* The global system interrupt of interrupt pin 1..4 (INTA..INTD) in a slot; the ACPI _PRT tells the
 * guest the same. */
unsigned rv_pci_gsi(unsigned slot, unsigned pin);

/* Little-endian access to a configuration space kept as bytes; bits of writable decide what a write
 * changes. Both arrays hold RV_PCI_CONFIG_SIZE bytes. */
uint32_t rv_pci_config_get(const uint8_t *config, unsigned offset, unsigned size);
void rv_pci_config_set(uint8_t *config, const uint8_t *writable, unsigned offset, unsigned size,
                       uint32_t value);

/* The host bridge 00:00.0, which is the PCI device itself. */
extern const struct rv_pci_function_ops rv_pci_host_bridge;

#endif
