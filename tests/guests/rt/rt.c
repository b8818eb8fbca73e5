#include "rt/guest.h"

const char *cmdline;
unsigned failures;
trap_handler handlers[256];
volatile struct caught caught = {.vector = -1};
uint32_t resume_at;

/* ---- output ---- */

void put(char c) {
    out8(COM1, (uint8_t)c);
    out8(0xe9, (uint8_t)c);
}

void print(const char *s) {
    while (*s) put(*s++);
}

void print_hex(uint64_t v) {
    int shift = 60;
    while (shift && !(v >> shift)) shift -= 4;
    for (; shift >= 0; shift -= 4) put("0123456789abcdef"[v >> shift & 15]);
}

void print_dec(uint32_t v) {
    char digits[10];
    int n = 0;
    do digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n) put(digits[--n]);
}

void show(const char *name, uint64_t v) {
    print(name);
    print(" 0x");
    print_hex(v);
    put('\n');
}

_Noreturn void leave(uint32_t code) {
    for (;;) out32(EXIT_PORT, code);
}

static const char *last_word(void) {
    const char *at = cmdline;
    for (const char *p = cmdline; *p; p++)
        if (*p == ' ') at = p + 1;
    return at;
}

bool word(const char *w) {
    const char *p = last_word();
    while (*w && *w == *p) w++, p++;
    return !*w && !*p;
}

uint32_t number(void) {
    const char *p = cmdline;
    uint32_t n = 0;
    for (; *p; p++) n = *p >= '0' && *p <= '9' ? n * 10 + (uint32_t)(*p - '0') : 0;
    return n;
}

void part(const char *name) {
    print(name);
    put('\n');
}

void failed(const char *file, unsigned line, const char *what, uint64_t got, uint64_t want) {
    failures++;
    print("FAILED ");
    print(file);
    put(':');
    print_dec(line);
    put(' ');
    print(what);
    print(" is 0x");
    print_hex(got);
    print(", not 0x");
    print_hex(want);
    put('\n');
}

_Noreturn void finish(void);
_Noreturn void finish(void) {
    print(failures ? "failed\n" : "passed\n");
    leave(failures);
}

/* ---- traps ---- */

#if BITS == 64
extern char user_return[];
bool fault_returns;

static void leave_user(struct frame *f) {
    f->ip = (uintptr_t)user_return;
    f->cs = CS64;
    f->ss = DS64;
    f->flags = 2;
}
#endif

void no_trap(void) { caught.vector = -1; }

void trap(struct frame *f) {
    unsigned vector = (uint8_t)f->vector;
    if (handlers[vector]) {
        handlers[vector](f);
        return;
    }
#if BITS == 64
    if (vector == 0x80) {
        leave_user(f);
        return;
    }
    bool user = fault_returns && (f->cs & 3) == 3;
#else
    bool user = false;
#endif
    if (resume_at || user) {
        caught.vector = (int)vector;
        caught.ip = (uintptr_t)f->ip;
#if BITS != 16
        caught.error = (uint32_t)f->error;
        caught.cr2 = READ_REG(cr2);
#endif
#if BITS == 64
        if (user) {
            leave_user(f);
            return;
        }
#endif
#if BITS == 32
        extern uint32_t keep_segments;
        keep_segments = 0;
        f->cs = 8;
#endif
        f->ip = (uint16_t)resume_at;
#if BITS != 16
        f->ip = resume_at;
#endif
        resume_at = 0;
        return;
    }
    print("unexpected trap ");
    print_dec(vector);
    print(" at 0x");
    print_hex(f->ip);
#if BITS != 16
    print(" error 0x");
    print_hex(f->error);
    print(" cr2 0x");
    print_hex(READ_REG(cr2));
#endif
    put('\n');
    leave(255);
}

/* ---- tables and the board ---- */

void set_up(void);

#if BITS == 16
/* The IVT; what the flat loader leaves there is zero. */
void set_up(void) {
    for (unsigned v = 0; v < 48; v++)
        *(volatile uint32_t *)(uintptr_t)(v * 4) = (uint32_t)(uintptr_t)(stubs + 8 * v);
}
#else
extern uint32_t tss[26];
extern uint32_t idt[];
#if BITS == 64
extern char ist1_top[], ist2_top[], stack_top[];
#else
extern char stack_top[];
#endif

void set_gate(unsigned vector, uintptr_t handler, unsigned type_dpl, unsigned ist, uint16_t cs) {
    volatile uint32_t *g = idt + vector * (BITS / 16);
    g[0] = (uint32_t)(handler & 0xffff) | (uint32_t)cs << 16;
    g[1] = (uint32_t)(handler & 0xffff0000u) | type_dpl << 8 | ist;
#if BITS == 64
    g[2] = (uint32_t)(handler >> 32);
    g[3] = 0;
#endif
}

void set_up(void) {
    for (unsigned v = 0; v < 256; v++)
        set_gate(v, (uintptr_t)(stubs + 16 * v), v == 0x80 || v == BP || v == OF ? 0xee : 0x8e, 0,
                 BITS == 64 ? 0x10 : 0x08);
    uint64_t base = (uintptr_t)tss;
    unsigned entry = BITS == 64 ? 6 : 5;
    gdt[entry] = 0x67 | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
#if BITS == 64
    gdt[entry + 1] = base >> 32;
    tss[1] = (uint32_t)(uintptr_t)stack_top;
    tss[9] = (uint32_t)(uintptr_t)ist1_top;
    tss[11] = (uint32_t)(uintptr_t)ist2_top;
    set_gate(DF, (uintptr_t)(stubs + 16 * DF), 0x8e, 1, 0x10);
    set_gate(NMI, (uintptr_t)(stubs + 16 * NMI), 0x8e, 2, 0x10);
#else
    tss[1] = (uint32_t)(uintptr_t)stack_top;
    tss[2] = 0x10;
#endif
    tss[25] = 104u << 16; /* no I/O bitmap */
}

void lapic_on(void) { lapic_write(LAPIC_SVR, 0x1ff); }

void pic_on(void) {
    static const uint8_t icw[] = {0x11, 0x20, 4, 1, 0x11, 0x28, 2, 1};
    for (unsigned i = 0; i < 8; i++) out8((uint16_t)((i < 4 ? 0x20 : 0xa0) + (i % 4 != 0)), icw[i]);
    pic_mask(0xffff);
}

void pic_mask(uint16_t mask) {
    out8(0x21, (uint8_t)mask);
    out8(0xa1, (uint8_t)(mask >> 8));
}

void pic_eoi(unsigned line) {
    if (line >= 8) out8(0xa0, 0x20);
    out8(0x20, 0x20);
}

void pit_period(unsigned mode, uint16_t count) {
    out8(0x43, (uint8_t)(0x30 | mode << 1));
    out8(0x40, (uint8_t)count);
    out8(0x40, (uint8_t)(count >> 8));
}
#endif
