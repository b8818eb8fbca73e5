/* Echoes its console until a line says "end"; polls, or waits for interrupts when the command line
 * says "irq". Mixes how long each byte took into nothing: what it prints depends on the bytes
 * alone. */
#include "rt/guest.h"

static uint8_t ring[256];
static volatile unsigned head, tail;

static void on_uart(struct frame *f) {
    uint8_t cause;
    while (!((cause = in8(COM1 + 2)) & 1)) {
        if ((cause & 0xe) == 2) continue; /* the transmitter: reading said so */
        while (in8(COM1 + 5) & 1) ring[head++ % sizeof ring] = in8(COM1);
    }
    pic_eoi(4);
}

static uint8_t polled(void) {
    while (!(in8(COM1 + 5) & 1)) continue;
    return in8(COM1);
}

static uint8_t waited(void) {
    while (head == tail) wait_irq();
    return ring[tail++ % sizeof ring];
}

int main(void) {
    bool irq = word("irq");
    if (irq) {
        handlers[0x24] = on_uart;
        pic_on();
        pic_mask((uint16_t) ~(1u << 4));
        out8(COM1 + 2, 0xc7);
        out8(COM1 + 4, 0x0b);
        out8(COM1 + 1, 1);
    }
    print("type\n");
    uint32_t sum = 0, at = 0;
    char line[4];
    for (;;) {
        uint8_t b = irq ? waited() : polled();
        put((char)b);
        sum = sum * 31 + b;
        if (b == '\n' || b == '\r') {
            if (at == 3 && line[0] == 'e' && line[1] == 'n' && line[2] == 'd') break;
            at = 0;
        } else {
            if (at < 3) line[at] = (char)b;
            at++;
        }
    }
    show("sum", sum);
    return 0;
}
