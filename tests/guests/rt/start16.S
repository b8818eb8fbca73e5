/* Entry of real-mode guests: all within the first 64 KiB, every segment 0. */
        .code16gcc
        .section .header, "awx"
header: .ascii "RVFLAT1\0"
        .long 16, 0
        .long header, 0, start, 0, 0x7ff0, 0

        .text
        .globl start
start:  xor %eax, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $0x7ff0, %esp
        movzwl %bx, %ebx
        shl $4, %ebx
        mov %ebx, cmdline
        call set_up
        call main
        call finish

        .altmacro
        .macro stub n
        .balign 8
        pushw $\n
        jmp common
        .endm

        .balign 8
        .globl stubs
stubs:
        .set n, 0
        .rept 48
        stub %n
        .set n, n + 1
        .endr

common: pushal
        cld
        mov %ds, %ebx
        mov %es, %esi
        xor %eax, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %esp, %ebp
        mov %esp, %eax
        pushl %eax
        calll trap
        mov %ebp, %esp
        mov %ebx, %ds
        mov %esi, %es
        popal
        add $2, %esp
        iretw
