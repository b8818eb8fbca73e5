/* The i8042 keyboard controller with nothing plugged in, and port 0x92. Source: IBM PS/2 Hardware
 * Interface Technical Reference, "Keyboard and Auxiliary Device Controller".
 *
 * The controller answers its own commands; a byte for the keyboard or the mouse is answered with a
 * time-out, so that a probing driver gives up at once. Line A20 is always open. */
#include "vmm/dev/models.h"

#include <string.h>

enum {
    STAT_OBF = 0x01,
    STAT_SYS = 0x04,
    STAT_COMMAND = 0x08,
    STAT_UNLOCKED = 0x10,
    STAT_AUX = 0x20,
    STAT_TIMEOUT = 0x40
};
enum { CFG_IRQ1 = 0x01, CFG_IRQ12 = 0x02, CFG_SYS = 0x04, CFG_KBD_OFF = 0x10, CFG_AUX_OFF = 0x20 };
enum { OUT_RESET = 0x01, OUT_A20 = 0x02, REPLY_RESEND = 0xfe };

struct i8042 {
    uint8_t status; /* without STAT_OBF's companions when empty */
    uint8_t output; /* output buffer */
    uint8_t config;
    uint8_t command; /* waits for its data byte; 0: none */
    uint8_t port92;
    uint8_t ram[32]; /* ram[0] is unused: it is the configuration byte */
};

static const struct rv_field fields[] = {
    RV_FIELD(struct i8042, status),
    RV_FIELD(struct i8042, output),
    RV_FIELD(struct i8042, config),
    RV_FIELD(struct i8042, command),
    RV_FIELD(struct i8042, port92),
    RV_FIELD_ARRAY(struct i8042, ram),
    RV_FIELD_END,
};

static void update(struct rv_dev *dev) {
    const struct i8042 *s = dev->state;
    bool full = s->status & STAT_OBF, aux = s->status & STAT_AUX;
    rv_dev_irq(dev, 1, full && !aux && (s->config & CFG_IRQ1));
    rv_dev_irq(dev, 12, full && aux && (s->config & CFG_IRQ12));
}

static void reply(struct i8042 *s, uint8_t v, uint8_t flags) {
    s->output = v;
    s->status = (uint8_t)((s->status & ~(STAT_AUX | STAT_TIMEOUT)) | STAT_OBF | flags);
}

static void reset_machine(struct rv_dev *dev) {
    dev->board->ops->stop(dev->board, RV_STOP_RESET, 0);
}

static void command(struct rv_dev *dev, uint8_t v) {
    struct i8042 *s = dev->state;
    s->status |= STAT_COMMAND;
    s->command = 0;
    if (v >= 0xf0) { /* pulses output lines low; line 0 is the CPU's reset */
        if (!(v & OUT_RESET)) reset_machine(dev);
        return;
    }
    if (v >= 0x20 && v < 0x40) {
        reply(s, v == 0x20 ? s->config : s->ram[v & 31], 0);
        return;
    }
    switch (v) {
    case 0xa7: s->config |= CFG_AUX_OFF; break;
    case 0xa8: s->config &= (uint8_t)~CFG_AUX_OFF; break;
    case 0xa9: reply(s, 0x02, 0); break; /* auxiliary clock line stuck high: no mouse port */
    case 0xaa: reply(s, 0x55, 0); break; /* self test passed */
    case 0xab: reply(s, 0x00, 0); break; /* keyboard interface sound */
    case 0xad: s->config |= CFG_KBD_OFF; break;
    case 0xae: s->config &= (uint8_t)~CFG_KBD_OFF; break;
    case 0xc0: reply(s, 0x80, 0); break; /* input port: keyboard not locked */
    case 0xd0:
        reply(s, (uint8_t)(OUT_RESET | OUT_A20 | (s->status & STAT_OBF ? 0x10 : 0)), 0);
        break;
    default:
        if ((v >= 0x60 && v < 0x80) || (v >= 0xd1 && v <= 0xd4)) s->command = v;
        break;
    }
}

static void data(struct rv_dev *dev, uint8_t v) {
    struct i8042 *s = dev->state;
    uint8_t cmd = s->command;
    s->command = 0;
    s->status &= (uint8_t)~STAT_COMMAND;
    if (cmd == 0x60) {
        s->config = v;
        s->status = (uint8_t)((s->status & ~STAT_SYS) | (v & CFG_SYS));
    } else if (cmd > 0x60 && cmd < 0x80) {
        s->ram[cmd & 31] = v;
    } else if (cmd == 0xd1) {
        if (!(v & OUT_RESET)) reset_machine(dev);
    } else if (cmd == 0xd2) {
        reply(s, v, 0);
    } else if (cmd == 0xd3) {
        reply(s, v, STAT_AUX);
    } else if (cmd == 0xd4) {
        reply(s, REPLY_RESEND, STAT_AUX | STAT_TIMEOUT);
    } else {
        reply(s, REPLY_RESEND, STAT_TIMEOUT);
    }
}

static uint64_t i8042_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    struct i8042 *s = dev->state;
    if (region == RV_I8042_PORT92) return s->port92 | OUT_A20;
    if (region == RV_I8042_COMMAND) return s->status;
    s->status &= (uint8_t) ~(STAT_OBF | STAT_AUX | STAT_TIMEOUT);
    update(dev);
    return s->output;
}

static void i8042_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                        uint64_t value) {
    struct i8042 *s = dev->state;
    uint8_t v = (uint8_t)value;
    if (region == RV_I8042_PORT92) {
        bool rises = (v & OUT_RESET) && !(s->port92 & OUT_RESET);
        s->port92 = v & ~OUT_A20 & 0xff;
        if (rises) reset_machine(dev);
        return;
    }
    if (region == RV_I8042_COMMAND)
        command(dev, v);
    else
        data(dev, v);
    update(dev);
}

static void i8042_reset(struct rv_dev *dev) {
    struct i8042 *s = dev->state;
    memset(s, 0, sizeof *s);
    s->status = STAT_SYS | STAT_UNLOCKED; /* firmware has passed its self test */
    s->config = CFG_SYS | CFG_KBD_OFF | CFG_AUX_OFF;
}

const struct rv_dev_ops rv_dev_i8042 = {
    .name = "i8042",
    .version = 1,
    .state_size = sizeof(struct i8042),
    .fields = fields,
    .reset = i8042_reset,
    .read = i8042_read,
    .write = i8042_write,
};
