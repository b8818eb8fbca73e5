/* The guests, assembled in place. Each begins behind its flat header at GUEST_BASE + 40; A(label)
 * is the address at which a label of theirs runs. They end by writing port 0xf4. */
#include "guest.h"

/* clang-format off */
#define GUEST(name, bits, body)                                                                    \
    extern const uint8_t g_##name[], g_##name##_end[];                                             \
    __asm__(".pushsection .rodata, \"a\"\n.balign 16\n"                                            \
            ".globl g_" #name ", g_" #name "_end\n"                                                \
            "g_" #name ":\n.code" #bits "\n" body "\ng_" #name "_end:\n.code64\n.popsection\n")
#define A(g, label) "(" #label " - g_" #g " + 0x10028)"

/* IDT of 64-bit guests: vectors 0 to 47 at 0x20000, all to `to`, interrupt gates of CS 0x10. */
#define IDT64(g, to)                                                                               \
    "movl $" A(g, to) ", %eax\n"                                                                   \
    "movl $0x20000, %edi\n"                                                                        \
    "movl $48, %ecx\n"                                                                             \
    "1: movw %ax, (%rdi)\n movw $0x10, 2(%rdi)\n movw $0x8e00, 4(%rdi)\n"                          \
    "movl %eax, %edx\n shrl $16, %edx\n movw %dx, 6(%rdi)\n movq $0, 8(%rdi)\n"                    \
    "addl $16, %eax\n addl $16, %edi\n decl %ecx\n jnz 1b\n"                                       \
    "subq $16, %rsp\n movw $767, (%rsp)\n movq $0x20000, 2(%rsp)\n lidt (%rsp)\n addq $16, %rsp\n"
/* Forty-eight entries of 16 bytes each: push a dummy error code where the CPU pushes none (8, 10 to
 * 14 and 17 do), push the vector, go to `to`. */
#define STUBS(entries, to)                                                                         \
    ".balign 16\n" #entries ":\n.set vector, 0\n.rept 48\n.balign 16\n"                            \
    ".if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)\npushq $0\n.endif\n"     \
    "pushq $vector\njmp " #to "\n.set vector, vector + 1\n.endr\n.balign 16\n"

GUEST(hello, 64,
      "leaq hello_text(%rip), %rsi\n"
      "1: lodsb\n testb %al, %al\n jz 2f\n"
      "movl $0x3f8, %edx\n outb %al, %dx\n outb %al, $0xe9\n jmp 1b\n"
      "2: movl $33, %eax\n movl $0xf4, %edx\n outl %eax, %dx\n"
      "hello_text: .asciz \"hello from a bare machine\\n\"\n");

GUEST(arith, 64,
      "movl $3000, %ecx\n movq $0x123456789abcdef, %rbx\n xorl %r8d, %r8d\n"
      "leaq 0x30000, %rdi\n"
      "1: movabsq $6364136223846793005, %rax\n imulq %rax, %rbx\n addq $1442695, %rbx\n"
      "movq %rbx, %rdx\n shrq $33, %rdx\n xorq %rdx, %r8\n rolq $7, %r8\n"
      "movl %ebx, %eax\n mull %edx\n addl %eax, %r9d\n adcl %edx, %r10d\n"
      "xorl %edx, %edx\n movl %r8d, %eax\n movl %ebx, %esi\n orl $1, %esi\n divl %esi\n"
      "movq %rdx, (%rdi,%rcx,8)\n addq %rax, 8(%rdi,%rcx,8)\n lock xaddq %r8, (%rdi)\n"
      "bsfl %ebx, %r11d\n bsrq %rbx, %r12\n cmovcq %r11, %r13\n setle %r14b\n"
      "shldq $5, %rbx, %r15\n btsq $17, %r15\n sbbq %r13, %r15\n"
      "pushq %r15\n call 3f\n popq %r15\n leaq 5(%r15,%r8,4), %r15\n bswapq %r15\n"
      "cmpxchgq %rbx, 16(%rdi)\n decl %ecx\n jnz 1b\n"
      "movl %r15d, %eax\n outb %al, $0xe9\n movl $1, %eax\n movl $0xf4, %edx\n outl %eax, %dx\n"
      "3: xorq %r9, 8(%rsp)\n ret\n");

/* Page faults on a not-present page (mapped by the handler) and a read-only one (made writable
 * there), #DE and #UD, whose handlers step over the instruction. */
GUEST(faults, 64, IDT64(faults, faults_entries)
      "movq %cr0, %rax\n orl $0x10000, %eax\n movq %rax, %cr0\n"
      "movl $0x40000, %edi\n xorl %ecx, %ecx\n" /* a page table for 0x200000..0x3fffff */
      "1: movl %ecx, %eax\n shll $12, %eax\n orl $0x300000, %eax\n movq %rax, (%rdi,%rcx,8)\n"
      "incl %ecx\n cmpl $16, %ecx\n jne 1b\n"
      "movq %cr3, %rax\n movq (%rax), %rax\n andb $0, %al\n movq (%rax), %rax\n andb $0, %al\n"
      "movq $0x40003, 8(%rax)\n movq %cr3, %rax\n movq %rax, %cr3\n"
      "xorl %r15d, %r15d\n movl $0x200000, %esi\n movl $14, %ebp\n"
      "2: movq %rsi, (%rsi)\n addq %rsi, 0xff8(%rsi)\n movl 0xffe(%rsi), %eax\n"
      "pushq 8(%rsi)\n popq 16(%rsi)\n addl $0x1000, %esi\n decl %ebp\n jnz 2b\n"
      "xorl %ecx, %ecx\n divl %ecx\n ud2\n"
      "movl %r15d, %eax\n outl %eax, $0xf4\n"
      "faults_common:\n pushq %rax\n pushq %rdx\n movq 16(%rsp), %rax\n"
      "addl %eax, %r15d\n cmpl $14, %eax\n je 4f\n"
      "outb %al, $0xe9\n addq $2, 32(%rsp)\n jmp 5f\n"
      "4: movl 24(%rsp), %eax\n outb %al, $0xe9\n movq %cr2, %rax\n shrl $12, %eax\n andl $511, %eax\n"
      "leaq 0x40000(,%rax,8), %rdx\n movq (%rdx), %rax\n testb $1, %al\n jnz 6f\n"
      "orb $1, %al\n jmp 7f\n6: orb $2, %al\n7: movq %rax, (%rdx)\n movq %cr2, %rax\n invlpg (%rax)\n"
      "5: popq %rdx\n popq %rax\n addq $16, %rsp\n iretq\n"
      STUBS(faults_entries, faults_common));

/* Patches the instruction just ahead, a loop's body, and a page under another address. */
GUEST(smc, 64,
      "movl $300, %ecx\n xorl %ebx, %ebx\n"
      "1: movb %cl, 2f+1(%rip)\n"
      "2: movb $0, %al\n movzbl %al, %eax\n addl %eax, %ebx\n"
      "movl %ecx, 3f+2(%rip)\n"
      "3: addl $0x11111111, %ebx\n"
      "movl %ecx, %eax\n andb $1, %al\n addb $0xc8, %al\n movb %al, 4f+1(%rip)\n" /* dec or ... */
      "xorl %edx, %edx\n movl $5, %eax\n"
      "4: .byte 0xff, 0xc8\n" /* DEC EAX or DEC ECX, by its operand byte */
      "leal (%rbx,%rax,2), %ebx\n subl $1, %ecx\n jg 1b\n"
      "movl %ebx, %eax\n outl %eax, $0xe9\n outl %eax, $0xf4\n");

GUEST(strings, 64,
      "leaq strings_text(%rip), %rsi\n movl $0x30000, %edi\n movl $26, %ecx\n cld\n rep movsb\n"
      "movl $0x3001a, %esi\n decq %rsi\n movl $0x31019, %edi\n movl $26, %ecx\n std\n rep movsb\n cld\n"
      "movl $0x30000, %esi\n movl $26, %ecx\n movl $0xe9, %edx\n rep outsb\n"
      "movabsq $0x0102030405060708, %rax\n movl $0x32ffb, %edi\n movl $700, %ecx\n rep stosq\n"
      "movl $0x30000, %edi\n movb $'q', %al\n movl $40, %ecx\n repne scasb\n movl %ecx, %ebx\n"
      "movl $0x30000, %esi\n movl $0x31000, %edi\n movl $26, %ecx\n repe cmpsb\n setz %bl\n"
      "movl $0xe9, %edx\n movl $0x33000, %edi\n movl $5, %ecx\n rep insb\n insb\n insl\n"
      "movsb\n movsl\n movsq\n stosb\n stosw\n lodsw\n lodsq\n scasl\n cmpsb\n outsb\n"
      "movl $0, %ecx\n rep movsb\n movl %ebx, %eax\n outl %eax, $0xf4\n"
      "strings_text: .ascii \"abcdefghijklmnopqrstuvwxyz\"\n");

/* The PIT through the 8259 and the local APIC's timer, each waited for in HLT and in a loop. */
GUEST(timers, 64, IDT64(timers, timers_entries)
      "movb $0x11, %al\n outb %al, $0x20\n movb $0x20, %al\n outb %al, $0x21\n"
      "movb $4, %al\n outb %al, $0x21\n movb $1, %al\n outb %al, $0x21\n movb $0xfe, %al\n outb %al, $0x21\n"
      "movb $0x34, %al\n outb %al, $0x43\n movb $0x20, %al\n outb %al, $0x40\n movb $0, %al\n outb %al, $0x40\n"
      "xorl %r15d, %r15d\n"
      "1: sti\n hlt\n cli\n cmpl $5, %r15d\n jb 1b\n"
      "sti\n2: incq %r14\n imulq %r14, %r13\n cmpl $7, %r15d\n jb 2b\n cli\n"
      "movb $0xff, %al\n outb %al, $0x21\n"
      "movl $0xfee00000, %ebx\n movl $0x1ff, 0xf0(%rbx)\n movl $0xb, 0x3e0(%rbx)\n"
      "movl $0x20021, 0x320(%rbx)\n movl $4000, 0x380(%rbx)\n"
      "3: sti\n hlt\n cli\n cmpl $12, %r15d\n jb 3b\n"
      "sti\n4: incq %r14\n movl 0x390(%rbx), %eax\n addl %eax, %r12d\n cmpl $16, %r15d\n jb 4b\n cli\n"
      "rdtsc\n movl %eax, %r11d\n xorl %eax, %eax\n cpuid\n addl %ebx, %r11d\n"
      "movl %r15d, %eax\n outl %eax, $0xf4\n"
      "timers_common:\n pushq %rax\n pushq %rdx\n incl %r15d\n movl 16(%rsp), %eax\n outb %al, $0xe9\n"
      "cmpl $0x20, %eax\n jne 5f\n movb $0x20, %al\n outb %al, $0x20\n jmp 6f\n"
      "5: movl $0xfee00000, %edx\n movl $0, 0xb0(%rdx)\n6: popq %rdx\n popq %rax\n addq $16, %rsp\n iretq\n"
      STUBS(timers_entries, timers_common));

/* Echoes the serial line by interrupt until it reads a 'q'. */
GUEST(echo, 64, IDT64(echo, echo_entries)
      "movb $0x11, %al\n outb %al, $0x20\n movb $0x20, %al\n outb %al, $0x21\n"
      "movb $4, %al\n outb %al, $0x21\n movb $1, %al\n outb %al, $0x21\n movb $0xef, %al\n outb %al, $0x21\n"
      "movl $0x3f9, %edx\n movb $1, %al\n outb %al, %dx\n movl $0x3fc, %edx\n movb $8, %al\n outb %al, %dx\n"
      "xorl %ebx, %ebx\n sti\n"
      "1: addq $3, %r8\n movq %r8, 0x30000(,%r9,8)\n incl %r9d\n andl $255, %r9d\n pushq %r8\n popq %r10\n"
      "xorq %r10, %r11\n cmpb $'q', %bl\n jne 1b\n cli\n movl %r11d, %eax\n outl %eax, $0xf4\n"
      "echo_common:\n pushq %rax\n pushq %rdx\n movl $0x3f8, %edx\n inb %dx, %al\n movb %al, %bl\n outb %al, %dx\n"
      "movb $0x20, %al\n outb %al, $0x20\n popq %rdx\n popq %rax\n addq $16, %rsp\n iretq\n"
      STUBS(echo_entries, echo_common));

/* Real mode: its interrupt table, segment loads, far calls, string output, 16-bit arithmetic. */
GUEST(real, 16,
      "movw %cs, %ax\n movw %ax, %ds\n xorw %bx, %bx\n movw %bx, %es\n"
      "movw $" A(real, real_int) " - 0x10000, %es:0x100\n movw %ax, %es:0x102\n"
      "movw $" A(real, real_de) " - 0x10000, %es:0\n movw %ax, %es:2\n"
      "movw $500, %cx\n movw $0x1234, %bx\n"
      "1: imulw $181, %bx, %bx\n addw $359, %bx\n movw %bx, %ax\n mulw %cx\n xorw %dx, %si\n rolw $3, %si\n"
      "pushw %si\n popw %di\n movw %bx, %bp\n andw $0xffe, %bp\n movw %di, %ds:0x8000(%bp)\n movw %di, %es:0x600\n cmpb $9, %al\n sbbb %al, %ah\n"
      "loop 1b\n movb $'R', %al\n int $0x40\n"
      "pushf\n popw %ax\n lcall $0x1000, $" A(real, real_far) " - 0x10000\n"
      "xorw %cx, %cx\n divw %cx\n"
      "movw $" A(real, real_text) " - 0x10000, %si\n movw $4, %cx\n movw $0xe9, %dx\n rep outsb\n"
      "movl %esi, %eax\n outl %eax, $0xf4\n"
      "real_int: outb %al, $0xe9\n iret\n"
      "real_far: xorw %ax, %di\n lret\n"
      "real_de: pushw %bp\n movw %sp, %bp\n addw $2, 2(%bp)\n popw %bp\n iret\n"
      "real_text: .ascii \"real\"\n");

/* 32-bit code without paging, then with two-level paging. */
GUEST(protected, 32,
      "movl $400, %ecx\n movl $0x30000, %edi\n movl $77, %ebx\n"
      "1: imull $1103515245, %ebx, %ebx\n addl $12345, %ebx\n movl %ebx, (%edi,%ecx,4)\n pushal\n popal\n"
      "xorw %bx, 4(%edi,%ecx,4)\n pushw %bx\n popw %ax\n movzbl %ah, %eax\n addr16 movl %eax, -0x10(%di)\n"
      "enter $16, $0\n movl %ebx, -4(%ebp)\n leave\n decl %ecx\n jnz 1b\n"
      "movl $0x50000, %edi\n movl $1024, %ecx\n movl $3, %eax\n"
      "2: stosl\n addl $0x1000, %eax\n loop 2b\n movl $0x50003, 0x51000\n movl $0x51000, %eax\n movl %eax, %cr3\n"
      "movl %cr0, %eax\n orl $0x80000000, %eax\n movl %eax, %cr0\n jmp 3f\n"
      "3: movl $300, %ecx\n4: addl %ecx, 0x60ffe(,%ecx,4)\n xchgl %ebx, 0x60000\n call 5f\n loop 4b\n"
      "movl %ebx, %eax\n outl %eax, $0xe9\n outl %eax, $0xf4\n5: xorl %ecx, %ebx\n ret\n");

/* What the interpreter has to do in the middle of plain code: SSE, x87, POPCNT, flags on the stack,
 * and the guest stepping itself. */
GUEST(mixed, 64, IDT64(mixed, mixed_entries)
      "movq %cr4, %rax\n orl $0x600, %eax\n movq %rax, %cr4\n movl $40, %ecx\n movl $0x30000, %edi\n"
      "1: movq %rcx, %xmm0\n paddq %xmm0, %xmm1\n movq %xmm1, (%rdi)\n popcntq (%rdi), %rax\n"
      "fildl (%rdi)\n fistpl 8(%rdi)\n pushfq\n popq %rdx\n xorq %rdx, %rbx\n"
      "incl 8(%rdi)\n decl %ecx\n jnz 1b\n"
      "pushfq\n orl $0x100, (%rsp)\n popfq\n addl $5, %ebx\n pushfq\n movl $3, %ecx\n rep stosb\n"
      "popq %rax\n andl $0xfffffeff, %eax\n pushq %rax\n popfq\n nop\n"
      "movl %ebx, %eax\n outl %eax, $0xf4\n"
      "mixed_common:\n pushq %rax\n movl 8(%rsp), %eax\n outb %al, $0xe9\n incl 0x34000\n"
      "popq %rax\n addq $16, %rsp\n iretq\n"
      STUBS(mixed_entries, mixed_common));

/* A fault without an IDT: triple fault. */
GUEST(triple, 64, "movl $7, %ecx\n1: decl %ecx\n jnz 1b\n movq 0x12345678901234, %rax\n");

/* clang-format on */
#define ROW(n, bits, in)                                                                           \
    { #n, bits, g_##n, g_##n##_end, in }
const struct guest guests[] = {
    ROW(hello, 64, NULL),
    ROW(arith, 64, NULL),
    ROW(faults, 64, NULL),
    ROW(smc, 64, NULL),
    ROW(strings, 64, NULL),
    ROW(timers, 64, NULL),
    ROW(echo, 64, "some words for an echo q"),
    ROW(real, 16, NULL),
    ROW(protected, 32, NULL),
    ROW(mixed, 64, NULL),
    ROW(triple, 64, NULL),
};
const unsigned guest_count = RV_COUNT(guests);
