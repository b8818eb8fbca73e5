/* The 16550A against its data sheet. */
#include <criterion/criterion.h>

#include "fake_board.h"

enum { THR = 0, RBR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
#define GET(r)    rd(f, 0, r, 1)
#define PUT(r, v) wr(f, 0, r, 1, v)

static size_t feed(struct fake *f, const char *s) {
    return f->dev.ops->input(&f->dev, (const uint8_t *)s, strlen(s));
}

Test(uart, power_on_state) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    cr_expect_eq(GET(IER), 0);
    cr_expect_eq(GET(IIR), 1);
    cr_expect_eq(GET(LCR), 0);
    cr_expect_eq(GET(MCR), 0);
    cr_expect_eq(GET(LSR), 0x60);
    cr_expect_eq(GET(MSR), 0xb0);
    cr_expect_not(f->line[4]);
    fake_free(f);
}

Test(uart, transmits_at_once) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    PUT(THR, 'h');
    cr_expect_eq(GET(LSR), 0x60);
    PUT(THR, 'i');
    cr_expect_eq(f->sink, RV_SRC_CONSOLE);
    cr_expect_eq(f->out_len, 2);
    cr_expect_arr_eq(f->out, "hi", 2);
    fake_free(f);
}

Test(uart, thre_interrupt_clears_on_iir_read_and_returns_with_each_byte) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    PUT(MCR, 8);
    PUT(IER, 2);
    cr_expect(f->line[4]);
    cr_expect_eq(GET(IIR), 2);
    cr_expect_not(f->line[4]);
    cr_expect_eq(GET(IIR), 1);
    PUT(THR, 'x');
    cr_expect(f->line[4]);
    unsigned edges = f->rises[4];
    PUT(THR, 'y'); /* without reading IIR: a new edge all the same */
    cr_expect_eq(f->rises[4], edges + 1);
    GET(IIR);
    PUT(IER, 0);
    PUT(IER, 2); /* enabling raises it anew */
    cr_expect_eq(GET(IIR), 2);
    fake_free(f);
}

Test(uart, out2_gates_the_line) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    PUT(IER, 2);
    cr_expect_not(f->line[4]);
    PUT(MCR, 8);
    cr_expect(f->line[4]);
    PUT(MCR, 0x18);
    cr_expect_not(f->line[4]);
    fake_free(f);
}

Test(uart, fifo_trigger_and_timeout) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    PUT(FCR, 0x41); /* trigger at 4 */
    PUT(IER, 1);
    PUT(MCR, 8);
    cr_expect_eq(f->dev.ops->input_room(&f->dev), 16);
    cr_expect_eq(feed(f, "abc"), 3);
    cr_expect_eq(GET(IIR), 0xcc); /* below the trigger: timed out */
    cr_expect_eq(feed(f, "d"), 1);
    cr_expect_eq(GET(IIR), 0xc4);
    cr_expect(f->line[4]);
    for (const char *c = "abcd"; *c; c++) {
        cr_expect_eq(GET(LSR) & 1, 1);
        cr_expect_eq(GET(RBR), (uint64_t)*c);
    }
    cr_expect_eq(GET(LSR), 0x60);
    cr_expect_not(f->line[4]);
    cr_expect_eq(feed(f, "0123456789abcdefXYZ"), 16);
    cr_expect_eq(f->dev.ops->input_room(&f->dev), 0);
    PUT(FCR, 0x43); /* clears the receiver */
    cr_expect_eq(GET(LSR) & 1, 0);
    fake_free(f);
}

Test(uart, input_waits_until_the_guest_listens) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    cr_expect_eq(feed(f, "a"), 0);
    GET(LSR), GET(LSR), GET(LSR);
    cr_expect_eq(feed(f, "a"), 0);
    GET(LSR); /* the fourth in a row: a polling guest */
    cr_expect_eq(f->dev.ops->input_room(&f->dev), 1);
    cr_expect_eq(feed(f, "ab"), 1);
    cr_expect_eq(GET(LSR) & 1, 1);
    cr_expect_eq(GET(RBR), 'a');
    PUT(THR, 'x');
    GET(LSR);
    cr_expect_eq(feed(f, "b"), 0, "a guest that polls to send does not listen");
    /* What a driver's set-up reads must not count as listening. */
    GET(LSR), GET(RBR), GET(IIR), GET(MSR), GET(LSR), GET(LSR);
    cr_expect_eq(feed(f, "b"), 0);
    PUT(IER, 0x0f);
    cr_expect_eq(feed(f, "b"), 0, "probing IER, the line still gated");
    PUT(MCR, 8);
    cr_expect_eq(feed(f, "b"), 1);
    PUT(FCR, 1);
    cr_expect_eq(GET(RBR), 'b', "enabling the FIFOs keeps it");
    feed(f, "c");
    PUT(FCR, 0);
    cr_expect_eq(GET(LSR) & 1, 0, "disabling clears");
    fake_free(f);
}

Test(uart, loopback) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    PUT(MCR, 0x1e);
    cr_expect_eq(GET(MSR) & 0xf0, 0xd0); /* RTS, OUT1, OUT2 as CTS, RI, DCD */
    PUT(MCR, 0x1a);
    cr_expect_eq(GET(MSR), 0x94); /* RI fell: trailing edge; reading clears */
    cr_expect_eq(GET(MSR), 0x90);
    PUT(THR, 0xae);
    cr_expect_eq(f->out_len, 0);
    cr_expect_eq(GET(LSR) & 1, 1);
    cr_expect_eq(GET(RBR), 0xae);
    GET(LSR), GET(LSR), GET(LSR), GET(LSR);
    cr_expect_eq(feed(f, "x"), 0, "the line is cut in loopback");
    fake_free(f);
}

Test(uart, overrun_in_loopback) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    PUT(MCR, 0x10);
    PUT(THR, 1);
    PUT(THR, 2);
    cr_expect_eq(GET(LSR), 0x63);
    cr_expect_eq(GET(LSR), 0x61);
    cr_expect_eq(GET(RBR), 2);
    PUT(FCR, 1);
    for (unsigned i = 0; i < 17; i++) PUT(THR, i);
    PUT(IER, 7);
    cr_expect_eq(GET(IIR), 0xc6); /* line status is the highest */
    cr_expect_eq(GET(LSR) & 3, 3);
    cr_expect_eq(GET(IIR), 0xc4);
    for (unsigned i = 0; i < 16; i++) cr_expect_eq(GET(RBR), i);
    fake_free(f);
}

Test(uart, divisor_latch_and_scratch) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    PUT(LCR, 0x83);
    PUT(0, 0x34);
    PUT(1, 0x12);
    cr_expect_eq(GET(0), 0x34);
    cr_expect_eq(GET(1), 0x12);
    PUT(LCR, 3);
    cr_expect_eq(GET(IER), 0);
    cr_expect_eq(f->out_len, 0);
    PUT(SCR, 0x5a);
    cr_expect_eq(GET(SCR), 0x5a);
    PUT(IER, 0xff);
    cr_expect_eq(GET(IER), 0x0f);
    PUT(FCR, 0xc0); /* ignored without bit 0 */
    cr_expect_eq(GET(IIR) & 0xc0, 0);
    fake_free(f);
}

Test(uart, modem_status_interrupt) {
    struct fake *f = fake_new(&rv_dev_uart16550);
    PUT(IER, 8);
    PUT(MCR, 0x10); /* CTS, DSR and DCD fall */
    cr_expect_eq(GET(IIR), 0);
    cr_expect_eq(GET(MSR), 0x0b);
    cr_expect_eq(GET(IIR), 1);
    fake_free(f);
}
