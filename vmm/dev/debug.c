/* For bare-metal guests and their authors: debug exit (port 0xf4), debug console (0xe9, which reads
 * as its own number so that a guest can tell it is there), the POST code latch (0x80), and what
 * test programs for virtual machines look for: four ports that hold what is written to them (0xe0),
 * a port for each interrupt line that drives it (0x2000 + GSI), and a page of memory that is
 * reached as a device is (0xff000000). */
#include "vmm/dev/models.h"

#include <string.h>

struct debug {
    uint8_t post;
    uint8_t latch[4];
    uint8_t scratch[RV_SCRATCH_SIZE];
};

static const struct rv_field fields[] = {
    RV_FIELD(struct debug, post),
    RV_FIELD_ARRAY(struct debug, latch),
    RV_FIELD_ARRAY(struct debug, scratch),
    RV_FIELD_END,
};

/* The bytes behind an access, which the board keeps aligned and inside the region. */
static uint8_t *bytes(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    struct debug *s = dev->state;
    bool latch = region == RV_DEBUG_LATCH;
    size_t room = latch ? sizeof s->latch : sizeof s->scratch;
    rv_assert(size <= room && offset <= room - size);
    return (latch ? s->latch : s->scratch) + offset;
}

static uint64_t debug_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    uint64_t v = 0;
    switch (region) {
    case RV_DEBUG_CONSOLE: return 0xe9;
    case RV_DEBUG_POST: return ((const struct debug *)dev->state)->post;
    case RV_DEBUG_LATCH:
    case RV_DEBUG_SCRATCH: memcpy(&v, bytes(dev, region, offset, size), size); return v;
    default: return 0;
    }
}

static void debug_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                        uint64_t value) {
    uint8_t c = (uint8_t)value;
    switch (region) {
    case RV_DEBUG_EXIT:
        dev->board->ops->stop(dev->board, RV_STOP_DEBUG_EXIT, (uint32_t)value);
        break;
    case RV_DEBUG_CONSOLE: dev->board->ops->effect(dev->board, RV_SRC_DEBUGCON, &c, 1); break;
    case RV_DEBUG_POST: ((struct debug *)dev->state)->post = c; break;
    case RV_DEBUG_LINES: rv_dev_irq(dev, (unsigned)offset, value != 0); break;
    case RV_DEBUG_LATCH:
    case RV_DEBUG_SCRATCH: memcpy(bytes(dev, region, offset, size), &value, size); break;
    default: break;
    }
}

static void debug_reset(struct rv_dev *dev) { memset(dev->state, 0, sizeof(struct debug)); }

const struct rv_dev_ops rv_dev_debug = {
    .name = "debug",
    .version = 2,
    .state_size = sizeof(struct debug),
    .fields = fields,
    .reset = debug_reset,
    .read = debug_read,
    .write = debug_write,
};
