/* tour: from real mode through 16-bit and 32-bit protected mode into long mode, through its
 * compatibility mode, and all the way back. Each station leaves its mark. */
        .code16
        .text
        .globl tour
tour:   pushal
        cli
        movl %esp, saved_sp
        lgdtl tour_gdt_ptr
        movl %cr0, %eax
        orl $1, %eax
        movl %eax, %cr0
        ljmpl $0x08, $prot16
prot16: movw $0x28, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw %cs, marks + 0
        ljmpl $0x10, $prot32
        .code32
prot32: movl $0x18, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movw %cs, marks + 2
        /* the first 2 MiB one to one: PML4, PDPT and PD at 0x20000 */
        movl $0x20000, %edi
        movl $3072, %ecx
        xorl %eax, %eax
        rep stosl
        movl $0x21003, 0x20000
        movl $0x22003, 0x21000
        movl $0x00083, 0x22000
        movl %cr4, %eax
        orl $0x20, %eax
        movl %eax, %cr4
        movl $0x20000, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx
        rdmsr
        orl $0x100, %eax
        wrmsr
        movl %cr0, %eax
        orl $0x80000000, %eax
        movl %eax, %cr0
        rdmsr
        movl %eax, efer_seen /* LMA is set, though this is still 32-bit code */
        ljmp $0x20, $long64
        .code64
long64: movw %cs, marks + 4(%rip)
        movabs $0x123456789abcdef0, %r15
        mov %r15, wide(%rip)
        lea 1f(%rip), %rax
        pushq $0x10
        push %rax
        lretq
        .code32
1:      movw %cs, marks + 6
        movl %cr0, %eax
        andl $0x7fffffff, %eax
        movl %eax, %cr0
        movl $0xc0000080, %ecx
        rdmsr
        andl $~0x100, %eax
        wrmsr
        movl %cr4, %eax
        andl $~0x20, %eax
        movl %eax, %cr4
        rdmsr
        movl %eax, efer_after
        movl $0x18, %eax
        movl %eax, %fs /* keeps its 4 GiB limit in real mode */
        ljmp $0x08, $back16
        .code16
back16: movw $0x28, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl %cr0, %eax
        andl $~1, %eax
        movl %eax, %cr0
        ljmpl $0, $real
real:   xorl %eax, %eax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl saved_sp, %esp
        movw %cs, marks + 8
        popal
        retl

        .data
        .balign 8
        .globl marks, wide, efer_seen, efer_after
marks:  .fill 5, 2, 0xffff
        .balign 8
wide:   .quad 0
efer_seen:
        .long 0
efer_after:
        .long 0xffffffff
saved_sp:
        .long 0
        .balign 8
tour_gdt:
        .quad 0
        .quad 0x00009b000000ffff /* 08: 16-bit code */
        .quad 0x00cf9b000000ffff /* 10: 32-bit code */
        .quad 0x00cf93000000ffff /* 18: 4 GiB data */
        .quad 0x00af9b000000ffff /* 20: 64-bit code */
        .quad 0x000093000000ffff /* 28: 64 KiB data */
tour_gdt_end:
tour_gdt_ptr:
        .word tour_gdt_end - tour_gdt - 1
        .long tour_gdt
