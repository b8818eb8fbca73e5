/* A 16550A UART: COM1, the guest's console. Behaviour follows the PC16550D data sheet (National
 * Semiconductor, 1995).
 *
 * Two choices keep it free of clocks. Transmission takes no time: a byte written to THR leaves at
 * once and the holding register is empty again, with a fresh THRE interrupt. A received character
 * below the FIFO's trigger level counts as timed out at once, for there is no line whose silence
 * could be measured. */
#include "vmm/dev/models.h"

#include <string.h>

#define FIFO_SIZE 16u
#define UART_GSI  4
#define LISTENING 4 /* LSR reads in a row that set-up code does not make (Linux makes two) */

enum { IER_RDA = 1, IER_THRE = 2, IER_RLS = 4, IER_MSI = 8 };
enum { IIR_NONE = 1, IIR_MSI = 0, IIR_THRE = 2, IIR_RDA = 4, IIR_RLS = 6, IIR_TIMEOUT = 12 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_ERRORS = 0x1e, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16 };
enum { LCR_DLAB = 0x80 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2 };

struct uart {
    uint8_t ier, lcr, mcr, msr, scr, dll, dlm;
    uint8_t fcr; /* enable and trigger bits only: the reset bits clear themselves */
    uint8_t overrun;
    uint8_t thre_int; /* the THRE interrupt condition is latched */
    uint8_t polls;    /* LSR reads in a row, up to LISTENING: tells a guest that polls for input */
    uint8_t rx[FIFO_SIZE];
    uint8_t rx_head, rx_len;
};

static const struct rv_field fields[] = {
    RV_FIELD(struct uart, ier),      RV_FIELD(struct uart, lcr),    RV_FIELD(struct uart, mcr),
    RV_FIELD(struct uart, msr),      RV_FIELD(struct uart, scr),    RV_FIELD(struct uart, dll),
    RV_FIELD(struct uart, dlm),      RV_FIELD(struct uart, fcr),    RV_FIELD(struct uart, overrun),
    RV_FIELD(struct uart, thre_int), RV_FIELD(struct uart, polls),  RV_FIELD_ARRAY(struct uart, rx),
    RV_FIELD(struct uart, rx_head),  RV_FIELD(struct uart, rx_len), RV_FIELD_END,
};

static unsigned capacity(const struct uart *s) { return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1; }

static unsigned trigger(const struct uart *s) {
    static const uint8_t levels[4] = {1, 4, 8, 14};
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The highest pending interrupt in table III's order. */
static unsigned iir(const struct uart *s) {
    if ((s->ier & IER_RLS) && s->overrun) return IIR_RLS;
    if ((s->ier & IER_RDA) && s->rx_len) return s->rx_len >= trigger(s) ? IIR_RDA : IIR_TIMEOUT;
    if ((s->ier & IER_THRE) && s->thre_int) return IIR_THRE;
    if ((s->ier & IER_MSI) && (s->msr & 0x0f)) return IIR_MSI;
    return IIR_NONE;
}

/* The PC gates the interrupt with OUT2, which loopback forces inactive at the pin (8.6.7). */
static bool line_enabled(const struct uart *s) {
    return (s->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
}

static void update(struct rv_dev *dev) {
    const struct uart *s = dev->state;
    rv_dev_irq(dev, UART_GSI, line_enabled(s) && iir(s) != IIR_NONE);
}

static void receive(struct uart *s, uint8_t c) {
    if (s->rx_len >= capacity(s)) {
        /* Without a FIFO the new character destroys the old one; with it the new one is lost. */
        s->overrun = 1;
        if (!(s->fcr & FCR_ENABLE)) s->rx[s->rx_head % FIFO_SIZE] = c;
        return;
    }
    s->rx[(s->rx_head + s->rx_len) % FIFO_SIZE] = c;
    s->rx_len++;
}

static uint8_t take(struct uart *s) {
    uint8_t c = s->rx[s->rx_head % FIFO_SIZE];
    if (s->rx_len) {
        s->rx_len--;
        /* An empty receiver goes on showing the last character. */
        if (s->rx_len || (s->fcr & FCR_ENABLE)) s->rx_head = (s->rx_head + 1) % FIFO_SIZE;
    }
    return c;
}

/* Recomputes the modem status from the lines: in loopback those are the modem control outputs, else
 * a peer that is always ready (CTS, DSR, DCD). Changes set the delta bits, RI only its falling. */
static void modem_lines(struct uart *s) {
    uint8_t lines = 0xb0;
    if (s->mcr & MCR_LOOP)
        lines = (uint8_t)((s->mcr & MCR_RTS ? 0x10 : 0) | (s->mcr & MCR_DTR ? 0x20 : 0) |
                          (s->mcr & MCR_OUT1 ? 0x40 : 0) | (s->mcr & MCR_OUT2 ? 0x80 : 0));
    uint8_t changed = (uint8_t)((s->msr ^ lines) >> 4);
    if (lines & 0x40) changed &= (uint8_t)~4u;
    s->msr = (uint8_t)(lines | (s->msr & 0x0f) | (changed & 0x0f));
}

static void transmit(struct rv_dev *dev, uint8_t c) {
    struct uart *s = dev->state;
    /* The interrupt drops with the write and rises with the emptied register: an edge. */
    s->thre_int = 0;
    update(dev);
    if (s->mcr & MCR_LOOP)
        receive(s, c);
    else
        dev->board->ops->effect(dev->board, RV_SRC_CONSOLE, &c, 1);
    s->thre_int = 1;
}

static void set_fcr(struct uart *s, uint8_t v) {
    bool enable = v & FCR_ENABLE, was = s->fcr & FCR_ENABLE;
    /* Changing modes clears the FIFOs (8.5). Enabling them here keeps a received character: Linux
     * sets IER just before, and the character that this let in would be lost each time. */
    if ((was && !enable) || (enable && (v & FCR_CLEAR_RX))) s->rx_head = s->rx_len = 0;
    /* The other bits are programmed only together with bit 0 (8.5). */
    s->fcr = enable ? v & 0xc1 : 0;
}

static void uart_reset(struct rv_dev *dev) {
    struct uart *s = dev->state;
    memset(s, 0, sizeof *s);
    s->dll = 12; /* 9600 baud; the data sheet leaves the latch undefined */
    s->msr = 0xb0;
    s->thre_int = 1;
}

static uint64_t uart_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    struct uart *s = dev->state;
    uint8_t v = 0;
    if (offset != 5 && offset != 0) s->polls = 0;
    switch (offset) {
    case 0: v = s->lcr & LCR_DLAB ? s->dll : take(s); break;
    case 1: v = s->lcr & LCR_DLAB ? s->dlm : s->ier; break;
    case 2:
        v = (uint8_t)iir(s);
        if (v == IIR_THRE) s->thre_int = 0; /* reading IIR acknowledges this source (table III) */
        if (s->fcr & FCR_ENABLE) v |= 0xc0;
        break;
    case 3: v = s->lcr; break;
    case 4: v = s->mcr; break;
    case 5:
        v = (uint8_t)(LSR_THRE | LSR_TEMT | (s->rx_len ? LSR_DR : 0) | (s->overrun ? LSR_OE : 0));
        s->overrun = 0;
        if (s->polls < LISTENING) s->polls++;
        break;
    case 6:
        v = s->msr;
        s->msr &= 0xf0;
        break;
    case 7: v = s->scr; break;
    default: return 0xff;
    }
    update(dev);
    return v;
}

static void uart_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                       uint64_t value) {
    struct uart *s = dev->state;
    uint8_t v = (uint8_t)value;
    s->polls = 0;
    switch (offset) {
    case 0:
        if (s->lcr & LCR_DLAB)
            s->dll = v;
        else
            transmit(dev, v);
        break;
    case 1:
        if (s->lcr & LCR_DLAB) {
            s->dlm = v;
            break;
        }
        /* Enabling the source while THR is empty, which it always is, raises it. */
        if ((v & IER_THRE) && !(s->ier & IER_THRE)) s->thre_int = 1;
        s->ier = v & 0x0f;
        break;
    case 2: set_fcr(s, v); break;
    case 3: s->lcr = v; break;
    case 4:
        s->mcr = v & 0x1f;
        modem_lines(s);
        break;
    case 7: s->scr = v; break;
    default: break; /* LSR and MSR: factory tests only */
    }
    update(dev);
}

/* Input is let in only while the guest listens, so that what comes before its driver is up waits
 * outside instead of being thrown away by the driver's set-up: when received data would interrupt
 * (drivers set IER for a moment while they probe, but not OUT2 with it), or when it polls LSR. */
static size_t uart_input_room(const struct rv_dev *dev) {
    const struct uart *s = dev->state;
    if (s->mcr & MCR_LOOP) return 0;
    bool by_interrupt = (s->ier & IER_RDA) && line_enabled(s);
    if (!by_interrupt && s->polls < LISTENING) return 0;
    unsigned cap = capacity(s);
    return s->rx_len < cap ? cap - s->rx_len : 0;
}

static size_t uart_input(struct rv_dev *dev, const uint8_t *data, size_t len) {
    size_t room = uart_input_room(dev);
    if (len > room) len = room;
    for (size_t i = 0; i < len; i++) receive(dev->state, data[i]);
    if (len) update(dev);
    return len;
}

const struct rv_dev_ops rv_dev_uart16550 = {
    .name = "uart16550",
    .version = 1,
    .state_size = sizeof(struct uart),
    .fields = fields,
    .reset = uart_reset,
    .read = uart_read,
    .write = uart_write,
    .input = uart_input,
    .input_room = uart_input_room,
};
