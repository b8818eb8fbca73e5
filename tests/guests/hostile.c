/* What no sane guest does; the first word of the command line says which, a number at its end seeds
 * the random ones. Each case ends by itself, or never: the machine must cope either way. */
#include "tables.h"

static bool is(const char *name) {
    const char *p = cmdline;
    while (*name && *name == *p) name++, p++;
    return !*name && (!*p || *p == ' ');
}

static uint64_t state;
static uint64_t rnd(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}
static uint64_t below(uint64_t n) { return rnd() % n; }

static void jump(uint64_t at) { __asm__ volatile("jmp *%0" ::"r"(at)); }

/* ---- endless things ---- */

static void on_timer(struct frame *f) { lapic_write(LAPIC_EOI, 0); }
static void on_ipi(struct frame *f) {
    lapic_write(LAPIC_ICR, 0x40000 | 0x60);
    lapic_write(LAPIC_EOI, 0);
}
static void on_pic(struct frame *f) { pic_eoi(0); }

static void spin(void) {
    irq_on();
    for (;;) __asm__ volatile("nop");
}

static void storm_lapic(void) {
    handlers[0x40] = on_timer;
    lapic_on();
    lapic_write(LAPIC_DIVIDE, 0xb);
    lapic_write(LAPIC_TIMER, 0x40 | 1 << 17);
    lapic_write(LAPIC_INIT, 1);
    spin();
}
static void storm_pit(void) {
    handlers[0x20] = on_pic;
    pic_on();
    pit_period(2, 2);
    pic_mask(0xfffe);
    spin();
}
static void storm_ipi(void) {
    handlers[0x60] = on_ipi;
    lapic_on();
    on_ipi(NULL);
    spin();
}
/* COM1's transmitter interrupt, level triggered and never answered. */
static void storm_level(void) {
    handlers[0x50] = on_timer;
    lapic_on();
    volatile uint32_t *select = (volatile uint32_t *)0xfec00000u;
    volatile uint32_t *window = (volatile uint32_t *)0xfec00010u;
    *select = 0x10 + 2 * 4 + 1;
    *window = 0;
    *select = 0x10 + 2 * 4;
    *window = 0x8050;
    out8(COM1 + 4, 8);
    out8(COM1 + 1, 2);
    spin();
}

__attribute__((naked)) static void ud(void) { __asm__("ud2"); }
/* #UD whose handler is #UD: nothing retires, and the stack does not grow. */
static void fault_loop(void) {
    set_gate(UD, ADDRESS(ud), 0x8e, 1, CS64);
    ud();
}
/* The same in page faults that map nothing. */
static void page_fault_loop(void) {
    set_gate(PF, 0xdead000000, 0x8e, 1, CS64);
    jump(0xdead000000);
}

/* 128 TiB of addresses over one GiB of something. */
static void endless_memory(uint64_t of) {
    for (unsigned i = 0; i < 512; i++) window_pdpt[i] = of | P | W | PS;
    for (unsigned i = 1; i < 256; i++) pml4[i] = ADDRESS(window_pdpt) | P | W;
    WRITE_REG(cr3, pml4);
}
#define FAR (1ull << 40)
#define REP(text, ...)                                                                             \
    ({ __asm__ volatile("rep " text ::"c"(1ull << 63), __VA_ARGS__ : "memory"); })
static void rep_ram(void) { endless_memory(0), REP("lodsb", "S"(FAR)); }
static void rep_scan(void) { endless_memory(0x40000000), REP("scasb", "D"(FAR), "a"(0xff)); }
static void rep_hole(void) { endless_memory(0x40000000), REP("stosq", "D"(FAR)); }
static void rep_mmio(void) {
    endless_memory(0xc0000000), REP("movsl", "S"(FAR + 0x3ee00000), "D"(FAR + 0x3ee00000));
}
static void rep_outs(void) { endless_memory(0), REP("outsb", "S"(FAR), "d"(0x80)); }
static void rep_ins(void) { endless_memory(0x40000000), REP("insl", "D"(FAR), "d"(0x608)); }

/* ---- places where nothing should be ---- */

#define RAM_END 0x10000000u /* with the 256 MiB these cases are given */

static void ram_end(void) {
    *(volatile uint8_t *)(uintptr_t)(RAM_END - 1) = 0x90;
    jump(RAM_END - 1);
}
static void straddle(void) {
    *(volatile uint16_t *)(uintptr_t)(RAM_END - 2) = 0xb848;
    jump(RAM_END - 2);
}
static void data_straddles(void) {
    volatile uint64_t *p = (volatile uint64_t *)(uintptr_t)(RAM_END - 3);
    *p = 0x1122334455667788;
    equal(*p, 0xffffffffff667788);
    for (unsigned i = 1; i < 16; i++) {
        volatile uint64_t *q = (volatile uint64_t *)(uintptr_t)(RAM_END - i);
        *q += i;
        __asm__ volatile("lock incq (%0)" ::"r"(q) : "memory", "cc");
    }
}
static void long_instruction(void) {
    static const uint8_t prefixes[16] = {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                                         0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90};
    jump(ADDRESS(prefixes));
}
static void tables_self(void) {
    for (unsigned i = 0; i < 512; i++) window_pt[i] = ADDRESS(window_pt) | P | W;
    WRITE_REG(cr3, window_pt);
}
/* Only the window maps to itself at every level: its pages are page tables. */
static void tables_window(void) {
    pml4[511] = ADDRESS(pml4) | P | W;
    volatile uint64_t *self = (volatile uint64_t *)~0xfffull; /* the PML4 as seen through itself */
    equal(self[511] & ~0xfffull, ADDRESS(pml4));
    self[3] = self[2];
    equal(pml4[3], pml4[2]);
    self[0] = 0; /* and now the code is gone */
    __asm__ volatile("nop");
}
static void table(uint64_t at, bool gdt, bool idt) {
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) t = {0xffff, at};
    if (gdt) __asm__ volatile("lgdt %0" ::"m"(t));
    if (idt) __asm__ volatile("lidt %0" ::"m"(t));
    if (gdt) show("data segment", (uint64_t)TRY("movw %w0, %%es", ::"r"(0x18), RESUME));
    if (gdt)
        show("code segment", (uint64_t)TRY("pushq $0x10; pushq $99f; lretq", ::RESUME : "memory"));
    if (gdt) show("task", (uint64_t)TRY("ltr %w0", ::"r"(0x30), RESUME));
    __asm__ volatile("int3");
}
static void tss_mmio(void) {
    gdt[6] = 0x67 | 0xe00000ull << 16 | 0x89ull << 40 | 0xfeull << 56;
    __asm__ volatile("ltr %w0" ::"r"(0x30));
    set_gate(UD, ADDRESS(stubs + 16 * UD), 0x8e, 1, CS64);
    ud();
}
static void stack_mmio(uint64_t at) {
    __asm__ volatile("mov %0, %%rsp; push %%rax; pop %%rbx; call 1f; 1: int3" ::"r"(at));
}
static void nonsense_descriptors(void) {
    for (unsigned n = 0; n < 20000; n++) {
        for (unsigned i = 0; i < 4; i++) gdt[GDT_FREE + i] = rnd();
        if (rnd() & 1)
            gdt[GDT_FREE] =
                (gdt[GDT_FREE] & ~(0xffull << 40)) | (0x80ull | below(32) | below(4) << 5) << 40;
        uint64_t sel = (GDT_FREE + below(2)) * 8 + below(8) * (below(4) == 0), v;
        switch (below(7)) {
        case 0: TRY("movw %w0, %%ds", ::"r"(sel), RESUME); break;
        case 1:
            TRY("movw %w0, %%fs; movb %%fs:(%1), %%al", ::"r"(sel), "r"(below(1 << 20)), RESUME
                : "rax");
            break;
        case 2: TRY("lldt %w0", ::"r"(sel), RESUME); break;
        case 3: TRY("lar %1, %0", : "=r"(v) : "r"(sel), RESUME : "cc"); break;
        case 4: TRY("lsl %1, %0", : "=r"(v) : "r"(sel), RESUME : "cc"); break;
        case 5: TRY("verr %w0; verw %w0", ::"r"(sel), RESUME : "cc"); break;
        case 6: TRY("movw %w0, %%gs", ::"r"(sel), RESUME); break;
        }
    }
}

/* ---- nonsense for devices and registers ---- */

static void ignore(struct frame *f) {
    lapic_write(LAPIC_EOI, 0);
    out8(0xa0, 0x20);
    out8(0x20, 0x20);
}
static void ignore_nmi(struct frame *f) {}
static void ignore_db(struct frame *f) {
    WRITE_REG(dr7, 0x400);
    f->flags = (f->flags | 0x10000) & ~0x100ull;
}

static void ignore_all(void) {
    for (unsigned v = 32; v < 256; v++) handlers[v] = ignore;
    handlers[NMI] = ignore_nmi;
    handlers[DB] = ignore_db;
}

static bool ends_the_run(unsigned port, unsigned size) {
    static const uint16_t enders[] = {0xf4, 0xf5, 0xf6, 0xf7, 0x604, 0x605, 0x64, 0x92, 0xcf9};
    for (unsigned i = 0; i < sizeof enders / sizeof *enders; i++)
        if (port <= enders[i] && enders[i] < port + size) return true;
    return false;
}

static const uint16_t ports[] = {0x20,  0xa0,  0x40,  0x60,  0x61,  0x64,  0x70,
                                 0x80,  0x92,  0xe9,  0xf4,  0x3f8, 0x4d0, 0x600,
                                 0x604, 0x608, 0xcf8, 0xcf9, 0xcfc, 0xfff8};

static void random_ports(uint32_t n) {
    ignore_all();
    while (n--) {
        uint16_t port =
            (uint16_t)(ports[below(sizeof ports / sizeof *ports)] + below(8) - (below(8) == 0));
        unsigned size = 1u << below(3);
        uint32_t v = (uint32_t)(below(3) ? rnd() : below(256));
        if (below(16) == 0) port = (uint16_t)rnd();
        if (below(64) == 0) irq_on();
        if (below(64) == 0) irq_off();
        if (rnd() & 1) {
            if (ends_the_run(port, size)) continue;
            if (size == 1) out8(port, (uint8_t)v);
            if (size == 2) out16(port, (uint16_t)v);
            if (size == 4) out32(port, v);
        } else {
            if (size == 1) in8(port);
            if (size == 2) in16(port);
            if (size == 4) in32(port);
        }
    }
}

static void random_mmio(uint32_t n) {
    ignore_all();
    while (n--) {
        uint64_t at = (rnd() & 1 ? 0xfee00000u : 0xfec00000u) + below(0x420);
        if (below(4)) at &= ~15ull;
        if (below(32) == 0) at = 0xfee00000u + below(0x2000) - 0x800;
        if (below(32) == 0) at = 0xa0000u + below(0x20000);
        uint64_t v = below(3) ? rnd() : below(0x400);
        if (below(64) == 0) irq_on();
        if (below(64) == 0) irq_off();
        switch (below(8)) {
        case 0: *(volatile uint8_t *)at = (uint8_t)v; break;
        case 1: *(volatile uint16_t *)at = (uint16_t)v; break;
        case 2: *(volatile uint32_t *)at = (uint32_t)v; break;
        case 3: *(volatile uint64_t *)at = v; break;
        case 4: (void)*(volatile uint8_t *)at; break;
        case 5: (void)*(volatile uint32_t *)at; break;
        case 6: (void)*(volatile uint64_t *)at; break;
        case 7:
            __asm__ volatile("lock xaddl %k0, (%1)" : "+r"(v) : "r"(at) : "memory", "cc");
            break;
        }
    }
}

static void random_msrs(uint32_t n) {
    static const uint32_t bases[] = {0,     0x10,  0x1b,       0x3a,       0x48,      0x8b,  0xfe,
                                     0x10a, 0x174, 0x179,      0x1a0,      0x200,     0x250, 0x268,
                                     0x277, 0x2ff, 0x400,      0x6e0,      0x800,     0x80b, 0x830,
                                     0x838, 0x83f, 0xc0000080, 0xc0000100, 0xc0010000};
    ignore_all();
    handlers[GP] = NULL;
    while (n--) {
        uint32_t index = bases[below(sizeof bases / sizeof *bases)] + (uint32_t)below(20);
        if (below(16) == 0) index = (uint32_t)rnd();
        uint64_t v = below(2) ? rnd() : below(2) ? 1ull << below(64) : rdtsc() + below(10000);
        if (index == 0xc0000080) v = (v & ~0x500ull) | 0x500; /* stays in long mode */
        if (below(2))
            TRY("rdmsr", ::"c"(index), RESUME : "rax", "rdx");
        else
            TRY("wrmsr", ::"c"(index), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), RESUME
                : "memory");
        if (below(8) == 0) irq_on();
        if (below(8) == 0) irq_off();
        wrmsr(0xc0000101, 0);
    }
}

static void random_controls(uint32_t n) {
    ignore_all();
    while (n--) {
        uint64_t v = below(2) ? rnd() : 1ull << below(64);
        switch (below(10)) {
        case 0: TRY("mov %0, %%cr0", ::"r"(READ_REG(cr0) ^ (v & ~1ull)), RESUME : "memory"); break;
        case 1:
            TRY("mov %0, %%cr4", ::"r"(READ_REG(cr4) ^ (1ull << below(24))), RESUME : "memory");
            break;
        case 2: TRY("mov %0, %%cr8", ::"r"(v & 31), RESUME : "memory"); break;
        case 3: TRY("mov %0, %%cr3", ::"r"(ADDRESS(pml4) | (v & 0xfff)), RESUME : "memory"); break;
        case 4: TRY("mov %0, %%dr0; mov %0, %%dr2", ::"r"(v), RESUME : "memory"); break;
        case 5:
            TRY("mov %0, %%dr1; mov %0, %%dr3", ::"r"(ADDRESS(pages) + (v & 0xfff)), RESUME
                : "memory");
            break;
        case 6: TRY("mov %0, %%dr6", ::"r"(v), RESUME : "memory"); break;
        case 7: TRY("mov %0, %%dr7", ::"r"(v & 0xffffdfff), RESUME : "memory"); break;
        case 8: TRY("xsetbv", ::"c"(below(2)), "a"((uint32_t)v), "d"(0), RESUME); break;
        case 9: TRY("mov %0, %%dr5", ::"r"(v), RESUME); break;
        }
        pages[0][below(4096)] ^= 1;
        TRY("mov %%cr0, %%rax; and $~0xe, %%rax; mov %%rax, %%cr0", ::RESUME : "rax");
    }
}

/* ---- random code ---- */

/* Runs random bytes at pages, again and again; an exception or the next NMI ends each try. */
static uint64_t resume_sp;
extern char next_try[];
static volatile uint32_t tries;

static void give_up(struct frame *f) {
    f->ip = ADDRESS(next_try);
    f->cs = CS64;
    f->ss = DS64;
    f->sp = resume_sp;
    f->flags = 2;
    if (f->vector >= 32) lapic_write(LAPIC_EOI, 0);
}

static void fill(uint8_t *at, unsigned n) {
    static const uint8_t prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f, 0x48, 0x41, 0x64, 0x2e};
    for (unsigned i = 0; i < n; i++) {
        at[i] = (uint8_t)rnd();
        if (below(4) == 0) at[i] = prefixes[below(sizeof prefixes)];
    }
}

static void random_code(uint32_t n) {
    for (unsigned v = 0; v < 256; v++) {
        handlers[v] = give_up;
        set_gate(v, ADDRESS(stubs + 16 * v), 0x8e, 1, CS64);
    }
    lapic_on();
    WRITE_REG(cr4, READ_REG(cr4) | 0x600);
    /* The PIT as an NMI ends what loops. */
    volatile uint32_t *select = (volatile uint32_t *)0xfec00000u;
    volatile uint32_t *window = (volatile uint32_t *)0xfec00010u;
    *select = 0x10 + 2 * 2 + 1;
    *window = 0;
    *select = 0x10 + 2 * 2;
    *window = 0x400;
    pit_period(2, 40);
    static uint32_t left;
    left = n;
    __asm__ volatile("mov %%rsp, %0\n.globl next_try\nnext_try:"
                     : "=m"(resume_sp)::"memory", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp",
                       "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
    if (!left--) return;
    tries++;
    uint8_t *at = pages[1] + below(8192);
    fill(at, 64);
    __asm__ volatile("mov %0, %%rax; mov %1, %%rbx; mov %1, %%rsi; mov %1, %%rdi; mov $5, %%ecx; "
                     "mov %1, %%rdx; mov %1, "
                     "%%rbp; lea 64(%1), %%r8; jmp *%%rax" ::"r"(at),
                     "r"(pages[5])
                     : "memory");
}

int main(void) {
    uint32_t seed = number();
    state = 0x9e3779b97f4a7c15ull * (seed + 1);
    tables_on();
    if (is("jump-hole")) jump(0xd0000000);
    if (is("jump-high")) pml4[5] = pml4[0], jump(5ull << 39 | 0xd0000000);
    if (is("jump-unmapped")) jump(0x5000000000);
    if (is("jump-noncanonical")) jump(0x8000000000000000);
    if (is("jump-mmio")) jump(LAPIC_BASE + 0x20);
    if (is("jump-ioapic")) jump(0xfec00000);
    if (is("ram-end")) ram_end();
    if (is("straddle")) straddle();
    if (is("data-straddles")) data_straddles();
    if (is("long-instruction")) long_instruction();
    if (is("tables-self")) tables_self();
    if (is("tables-window")) tables_window();
    if (is("tables-mmio")) WRITE_REG(cr3, LAPIC_BASE);
    if (is("tables-outside")) WRITE_REG(cr3, 0x7f00000000);
    if (is("tables-hole")) pml4[7] = 0xd0000000 | P | W | U, (void)*(volatile char *)(7ull << 39);
    if (is("gdt-mmio")) table(LAPIC_BASE, true, false);
    if (is("gdt-hole")) table(0xd0000000, true, false);
    if (is("idt-mmio")) table(LAPIC_BASE, false, true);
    if (is("idt-hole")) table(0xd0000000, false, true);
    if (is("idt-unmapped")) table(0x5000000000, false, true);
    if (is("tss-mmio")) tss_mmio();
    if (is("stack-mmio")) stack_mmio(LAPIC_BASE + 0x3f0);
    if (is("stack-hole")) stack_mmio(0xd0000000);
    if (is("stack-unmapped")) stack_mmio(0x5000000000);
    if (is("descriptors")) nonsense_descriptors();
    if (is("storm-lapic")) storm_lapic();
    if (is("storm-pit")) storm_pit();
    if (is("storm-ipi")) storm_ipi();
    if (is("storm-level")) storm_level();
    if (is("fault-loop")) fault_loop();
    if (is("page-fault-loop")) page_fault_loop();
    if (is("rep-ram")) rep_ram();
    if (is("rep-scan")) rep_scan();
    if (is("rep-hole")) rep_hole();
    if (is("rep-mmio")) rep_mmio();
    if (is("rep-outs")) rep_outs();
    if (is("rep-ins")) rep_ins();
    if (is("ports")) random_ports(1000000);
    if (is("mmio")) random_mmio(1000000);
    if (is("msrs")) random_msrs(200000);
    if (is("controls")) random_controls(100000);
    if (is("code")) random_code(3000), show("tries", tries);
    irq_off();
    return 0;
}
