/* Computes and prints for as many rounds as the command line says, with a timer running: something
 * to interrupt. */
#include "rt/guest.h"

static uint32_t memory[1 << 18];
static volatile unsigned ticks;
static void tick(struct frame *f) {
    ticks++;
    lapic_write(LAPIC_EOI, 0);
}

int main(void) {
    uint32_t rounds = number(), x = 1;
    handlers[0x40] = tick;
    lapic_on();
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_TIMER, 0x40 | 1 << 17);
    lapic_write(LAPIC_INIT, 100000);
    irq_on();
    for (uint32_t r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < 50000; i++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            memory[x % (sizeof memory / sizeof *memory)] += x;
        }
        print("round ");
        print_dec(r);
        print(": ");
        print_hex(x + ticks);
        put('\n');
        if (r % 64 == 63) halt();
    }
    irq_off();
    return 0;
}
