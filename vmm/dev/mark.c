/* Named marks: a guest says where it is, so that people and tools find the place in a recording.
 * Bytes written to port 0xea are a name; a newline or a NUL ends it and puts the mark. Reading
 * gives 0xea, so that a guest can tell that the port is there. A name has at most RV_MARK_NAME
 * bytes: what is longer is cut; one without any is no mark. docs/devices.md tells how to write one.
 */
#include "vmm/dev/models.h"

#include <string.h>

struct mark {
    uint8_t name[RV_MARK_NAME];
    uint8_t len;
};

static const struct rv_field fields[] = {
    RV_FIELD_ARRAY(struct mark, name),
    RV_FIELD(struct mark, len),
    RV_FIELD_END,
};

static uint64_t mark_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    (void)dev, (void)region, (void)offset, (void)size;
    return RV_PORT_MARK;
}

static void mark_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                       uint64_t value) {
    struct mark *s = dev->state;
    uint8_t c = (uint8_t)value;
    /* A state that was loaded may say anything. */
    size_t len = s->len < RV_MARK_NAME ? s->len : RV_MARK_NAME;
    (void)region, (void)offset, (void)size;
    if (c != '\n' && c != 0) {
        if (len == RV_MARK_NAME) return;
        s->name[len] = c;
        s->len = (uint8_t)(len + 1);
        return;
    }
    if (len) dev->board->ops->effect(dev->board, RV_SRC_MARK, s->name, len);
    memset(s, 0, sizeof *s);
}

static void mark_reset(struct rv_dev *dev) { memset(dev->state, 0, sizeof(struct mark)); }

const struct rv_dev_ops rv_dev_mark = {
    .name = "mark",
    .version = 1,
    .state_size = sizeof(struct mark),
    .fields = fields,
    .reset = mark_reset,
    .read = mark_read,
    .write = mark_write,
};
