/* Ports for bare-metal guests and their authors: debug exit (0xf4), debug console (0xe9, which
 * reads as its own number so that a guest can tell it is there) and the POST code latch (0x80). */
#include "vmm/dev/models.h"

#include <string.h>

struct debug {
    uint8_t post;
};

static const struct rv_field fields[] = {RV_FIELD(struct debug, post), RV_FIELD_END};

static uint64_t debug_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    switch (region) {
    case RV_DEBUG_CONSOLE: return 0xe9;
    case RV_DEBUG_POST: return ((const struct debug *)dev->state)->post;
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
    default: break;
    }
}

static void debug_reset(struct rv_dev *dev) { memset(dev->state, 0, sizeof(struct debug)); }

const struct rv_dev_ops rv_dev_debug = {
    .name = "debug",
    .version = 1,
    .state_size = sizeof(struct debug),
    .fields = fields,
    .reset = debug_reset,
    .read = debug_read,
    .write = debug_write,
};
