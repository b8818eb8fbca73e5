/* The PCI host bridge: configuration mechanism 1, the bridge's own configuration space, and the
 * reset control register at 0xcf9, which lies inside the address register's ports and answers bytes
 * only. Sources: PCI 3.0, 3.2.2.3.2; Intel 82441FX data sheet (290549) for identity and registers;
 * 82371SB data sheet, 2.5.4 for 0xcf9. */
#include "vmm/dev/pci.h"
#include "vmm/dev/models.h"

#include <string.h>

enum { CONFIG_ENABLE = 31, RCR_FULL = 0x02, RCR_RESET = 0x04, RCR_WRITABLE = 0x0e };

struct pci {
    uint32_t address;
    uint8_t reset_control;
    uint8_t config[RV_PCI_CONFIG_SIZE];
};

static const struct rv_field fields[] = {
    RV_FIELD(struct pci, address),
    RV_FIELD(struct pci, reset_control),
    RV_FIELD_ARRAY(struct pci, config),
    RV_FIELD_END,
};

/* 82441FX, revision 2: vendor, device, command, status, class 0600. */
static const uint8_t bridge_power_on[RV_PCI_CONFIG_SIZE] = {
    [0x00] = 0x86, 0x80, 0x37, 0x12, 0x06, 0x00, 0x80, 0x02, 0x02, 0x00, 0x00, 0x06,
};

/* Latency timer and the PAM registers, which steer nothing here: all memory below 1 MiB is RAM. */
static const uint8_t bridge_writable[RV_PCI_CONFIG_SIZE] = {
    [0x05] = 0x01, [0x0d] = 0xf8, [0x59] = 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
};

bool rv_pci_register(struct rv_pci_bus *bus, struct rv_pci_function fn) {
    if (bus->count >= RV_PCI_FUNCTIONS || fn.slot > 31 || fn.function > 7) return false;
    for (unsigned i = 0; i < bus->count; i++)
        if (bus->fn[i].slot == fn.slot && bus->fn[i].function == fn.function) return false;
    bus->fn[bus->count++] = fn;
    return true;
}

unsigned rv_pci_gsi(unsigned slot, unsigned pin) { return 10 + ((slot + pin - 1) & 1); }

uint32_t rv_pci_config_get(const uint8_t *config, unsigned offset, unsigned size) {
    uint32_t v = 0;
    for (unsigned i = 0; i < size && offset + i < RV_PCI_CONFIG_SIZE; i++)
        v |= (uint32_t)config[offset + i] << (8 * i);
    return v;
}

void rv_pci_config_set(uint8_t *config, const uint8_t *writable, unsigned offset, unsigned size,
                       uint32_t value) {
    for (unsigned i = 0; i < size && offset + i < RV_PCI_CONFIG_SIZE; i++) {
        uint8_t mask = writable[offset + i], v = (uint8_t)(value >> (8 * i));
        config[offset + i] = (uint8_t)((config[offset + i] & ~mask) | (v & mask));
    }
}

static uint32_t bridge_read(struct rv_dev *dev, unsigned offset, unsigned size) {
    return rv_pci_config_get(((const struct pci *)dev->state)->config, offset, size);
}

static void bridge_write(struct rv_dev *dev, unsigned offset, unsigned size, uint32_t value) {
    rv_pci_config_set(((struct pci *)dev->state)->config, bridge_writable, offset, size, value);
}

const struct rv_pci_function_ops rv_pci_host_bridge = {bridge_read, bridge_write};

/* The function that CONFIG_ADDRESS selects, or NULL. */
static const struct rv_pci_function *selected(const struct rv_dev *dev) {
    const struct pci *s = dev->state;
    const struct rv_pci_bus *bus = rv_dev_wiring(dev)->pci;
    if (!(s->address >> CONFIG_ENABLE) || (s->address >> 16 & 0xff) != 0) return NULL;
    for (unsigned i = 0; i < bus->count; i++)
        if (bus->fn[i].slot == (s->address >> 11 & 31) &&
            bus->fn[i].function == (s->address >> 8 & 7))
            return &bus->fn[i];
    return NULL;
}

static uint64_t pci_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    const struct pci *s = dev->state;
    if (region == RV_PCI_ADDRESS) {
        if (offset == 0 && size == 4) return s->address;
        return offset == 1 && size == 1 ? s->reset_control : 0xffffffffu;
    }
    const struct rv_pci_function *fn = selected(dev);
    if (!fn) return 0xffffffffu; /* master abort */
    return fn->ops->config_read(fn->dev, (s->address & 0xfc) | (offset & 3), size);
}

static void write_reset_control(struct rv_dev *dev, uint8_t v) {
    struct pci *s = dev->state;
    bool rises = (v & RCR_RESET) && !(s->reset_control & RCR_RESET);
    s->reset_control = v & RCR_WRITABLE;
    if (rises) dev->board->ops->stop(dev->board, RV_STOP_RESET, 0);
}

static void pci_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                      uint64_t value) {
    struct pci *s = dev->state;
    if (region == RV_PCI_ADDRESS) {
        if (offset == 0 && size == 4) s->address = (uint32_t)value & 0x80fffffcu;
        if (offset == 1 && size == 1) write_reset_control(dev, (uint8_t)value);
        return;
    }
    const struct rv_pci_function *fn = selected(dev);
    if (fn)
        fn->ops->config_write(fn->dev, (s->address & 0xfc) | (offset & 3), size, (uint32_t)value);
}

static void pci_reset(struct rv_dev *dev) {
    struct pci *s = dev->state;
    memset(s, 0, sizeof *s);
    memcpy(s->config, bridge_power_on, sizeof s->config);
}

const struct rv_dev_ops rv_dev_pci = {
    .name = "pci",
    .version = 1,
    .state_size = sizeof(struct pci),
    .fields = fields,
    .reset = pci_reset,
    .read = pci_read,
    .write = pci_write,
};
