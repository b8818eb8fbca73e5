/* Entry of 32-bit guests: from the flat header or by multiboot. */
        .section .header, "awx"
#ifdef GUEST_flat
header: .ascii "RVFLAT1\0"
        .long 32, 0
        .long header, 0, start, 0, stack_top, 0
#endif
#ifdef GUEST_multiboot
        .balign 4
        .long 0x1badb002, 3, -(0x1badb002 + 3)
#endif
        .text
        .globl start
start:  mov $stack_top, %esp
#ifdef GUEST_multiboot
        mov 16(%ebx), %ebx
#endif
        lgdt gdt_ptr
        ljmp $0x08, $1f
1:      mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov %eax, %fs
        mov %eax, %gs
        mov %ebx, cmdline
        call set_up
        mov $0x28, %eax
        ltr %ax
        lidt idt_ptr
        call main
        push %eax
        push %eax
        call finish

        .altmacro
        .macro stub n
        .balign 16
        .if ((\n >= 10 && \n <= 14) || \n == 8 || \n == 17 || \n == 21)
        nop
        nop
        .else
        push $0
        .endif
        push $\n
        jmp common
        .endm

        .balign 16
        .globl stubs
stubs:
        .set n, 0
        .rept 256
        stub %n
        .set n, n + 1
        .endr

        /* Data segments may be anything when a test traps. */
common: pusha
        cld
        mov %ds, %ebx
        mov %es, %esi
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %esp, %ebp
        push %ebp
        call trap
        mov %ebp, %esp
        cmpl $0, keep_segments
        je 1f
        mov %ebx, %ds
        mov %esi, %es
1:      movl $1, keep_segments
        popa
        add $8, %esp
        iret

        .data
        .globl keep_segments
keep_segments:
        .long 1 /* 0: the next return from a trap leaves DS and ES flat */
        .balign 16
        .globl gdt, tss, idt, gdt_ptr
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
        .quad 0x00cffb000000ffff, 0x00cff3000000ffff /* user code 0x1b, data 0x23 */
        .quad 0, 0, 0, 0
        .fill 64, 8, 0
gdt_end:
gdt_ptr:
        .word gdt_end - gdt - 1
        .long gdt
        .globl idt_ptr
idt_ptr:
        .word 2047
        .long idt
        .balign 16
tss:    .fill 26, 4, 0
        .balign 16
idt:    .fill 256, 8, 0
        .bss
        .balign 4096
        .fill 16384, 1, 0
        .globl stack_top, user_stack_top
stack_top:
        .fill 4096, 1, 0
user_stack_top:
