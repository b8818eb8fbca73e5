/* What the guests share: output, checks, port and register access, traps. The same interface in
 * real mode (BITS 16, compiled by gcc -m16), protected mode (32) and long mode (64). */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXIT_PORT 0xf4
#define COM1      0x3f8

/* ---- ports ---- */

static inline void out8(uint16_t port, uint8_t v) {
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static inline void out16(uint16_t port, uint16_t v) {
    __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}
static inline void out32(uint16_t port, uint32_t v) {
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}
static inline uint8_t in8(uint16_t port) {
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint16_t in16(uint16_t port) {
    uint16_t v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t in32(uint16_t port) {
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

/* ---- results ---- */

extern const char *cmdline; /* as handed over by the loader */
extern unsigned failures;

void put(char c); /* to COM1 and to port 0xe9 */
void print(const char *s);
void print_hex(uint64_t v);
void print_dec(uint32_t v);
void show(const char *name, uint64_t v); /* "name 0x...\n" */
_Noreturn void leave(uint32_t code);     /* the debug exit */
bool word(const char *w);                /* the command line's last word is w */
uint32_t number(void);                   /* the decimal number the command line ends with, or 0 */
void part(const char *name);             /* starts a part of the test: says its name */
void failed(const char *file, unsigned line, const char *what, uint64_t got, uint64_t want);

#define check(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) failed(__FILE_NAME__, __LINE__, #cond, 0, 1);                                 \
    } while (0)
#define equal(got, want)                                                                           \
    do {                                                                                           \
        uint64_t got_ = (uint64_t)(got), want_ = (uint64_t)(want);                                 \
        if (got_ != want_) failed(__FILE_NAME__, __LINE__, #got, got_, want_);                     \
    } while (0)

int main(void); /* the guest; the runtime leaves with the number of failures afterwards */

/* ---- traps ---- */

#if BITS == 64
struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
    uint64_t vector, error, ip, cs, flags, sp, ss;
};
#elif BITS == 32
struct frame {
    uint32_t di, si, bp, unused, bx, dx, cx, ax;
    uint32_t vector, error, ip, cs, flags, sp, ss; /* the last two only from another privilege */
};
#else
struct frame {
    uint32_t di, si, bp, unused, bx, dx, cx, ax;
    uint16_t vector, ip, cs, flags;
};
#endif

/* Called with interrupts off; may change the frame. A vector without one, while no TRY runs, fails
 * the guest. */
typedef void (*trap_handler)(struct frame *);
extern trap_handler handlers[256];

/* The last exception that ended a TRY. */
struct caught {
    int vector; /* -1: none */
    uint32_t error;
    uintptr_t ip, cr2;
};
extern volatile struct caught caught;
extern uint32_t resume_at;
void trap(struct frame *f); /* from the stubs */
extern char stubs[];        /* 16 bytes a vector (8 in real mode) */

/* Runs the instructions; an exception without a handler goes on behind them. Gives the vector or
 * -1. Operands follow the text as in an asm statement. */
#define TRY(text, ...)                                                                             \
    ({                                                                                             \
        caught.vector = -1;                                                                        \
        __asm__ volatile("movl $99f, %c[resume_]\n\t" text                                         \
                         "\n\tmovl $0, %c[resume_]\n99:" __VA_ARGS__);                             \
        caught.vector;                                                                             \
    })
#define RESUME [resume_] "i"(&resume_at)
void no_trap(void); /* forgets what was caught */

enum {
    DE = 0,
    DB = 1,
    NMI = 2,
    BP = 3,
    OF = 4,
    BR = 5,
    UD = 6,
    NM = 7,
    DF = 8,
    TS = 10,
    NP = 11,
    SS = 12,
    GP = 13,
    PF = 14,
    MF = 16,
    AC = 17,
    XM = 19,
};

static inline void irq_on(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void irq_off(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void halt(void) { __asm__ volatile("hlt" ::: "memory"); }
static inline void wait_irq(void) { __asm__ volatile("sti; hlt; cli" ::: "memory"); }

static inline uint64_t rdtsc(void) {
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return lo | (uint64_t)hi << 32;
}

#if BITS != 16
struct cpuid {
    uint32_t a, b, c, d;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub) {
    struct cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "0"(leaf), "2"(sub));
    return r;
}
/* What not every profile offers. */
static inline int has_pcid(void) { return cpuid(1, 0).c >> 17 & 1; }
static inline int has_xsave(void) { return cpuid(1, 0).c >> 26 & 1; }
static inline int has_avx(void) { return cpuid(1, 0).c >> 28 & 1; }
static inline int has_umip(void) { return cpuid(7, 0).c >> 2 & 1; }

static inline uint64_t rdmsr(uint32_t index) {
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index));
    return lo | (uint64_t)hi << 32;
}
static inline void wrmsr(uint32_t index, uint64_t v) {
    __asm__ volatile("wrmsr" ::"c"(index), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
#define READ_REG(name)                                                                             \
    ({                                                                                             \
        uintptr_t v_;                                                                              \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(v_)::"memory");                              \
        v_;                                                                                        \
    })
#define WRITE_REG(name, v) __asm__ volatile("mov %0, %%" #name ::"r"((uintptr_t)(v)) : "memory")

/* ---- the board ---- */

#define LAPIC_BASE 0xfee00000u
static inline uint32_t lapic_read(unsigned reg) {
    return *(volatile uint32_t *)(uintptr_t)(LAPIC_BASE + reg);
}
static inline void lapic_write(unsigned reg, uint32_t v) {
    *(volatile uint32_t *)(uintptr_t)(LAPIC_BASE + reg) = v;
}
enum {
    LAPIC_EOI = 0xb0,
    LAPIC_SVR = 0xf0,
    LAPIC_ICR = 0x300,
    LAPIC_ICR2 = 0x310,
    LAPIC_TIMER = 0x320,
    LAPIC_INIT = 0x380,
    LAPIC_COUNT = 0x390,
    LAPIC_DIVIDE = 0x3e0
};
void lapic_on(void);

/* The 8259 pair, vectors 0x20 and up, all masked. */
void pic_on(void);
void pic_mask(uint16_t mask);
void pic_eoi(unsigned line);
void pit_period(unsigned mode, uint16_t count); /* channel 0 */

/* The GDT of the runtime; tests add to it. */
extern uint64_t gdt[];
enum { GDT_FREE = 9 }; /* first unused entry */
void set_gate(unsigned vector, uintptr_t handler, unsigned type_dpl, unsigned ist, uint16_t cs);
#endif

#if BITS == 64
enum { CS64 = 0x10, DS64 = 0x18, USER_DS = 0x23, USER_CS = 0x2b, TSS_SEL = 0x30 };
extern uint32_t tss[26];
/* Runs f(arg) in ring 3, its code and stack seen at user_offset from where they are linked; gives
 * what f returns, or comes back at a fault (caught) when fault_returns is set. */
uint64_t in_user(uint64_t (*f)(void *), void *arg);
extern uint64_t user_offset, user_flags;
extern bool fault_returns;
#endif

#endif
