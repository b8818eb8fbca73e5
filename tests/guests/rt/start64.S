/* Entry of 64-bit guests: from the flat header in long mode, or from a PVH note in protected mode,
 * whence it goes to long mode with the first 4 GiB mapped one to one. */
        .section .header, "awx"
#ifdef GUEST_flat
header: .ascii "RVFLAT1\0"
        .long 64, 0
        .quad header, start, stack_top
#endif

#ifdef GUEST_pvh
        .section .note.pvh, "a", @note
        .long 4, 4, 18
        .asciz "Xen"
        .long start

        .text
        .code32
        .globl start
start:  mov $stack_top, %esp
        /* hvm_start_info: the command line's address lies at 24 */
        mov 24(%ebx), %ebx
        mov $boot_pd, %edi
        xor %ecx, %ecx
1:      mov %ecx, %eax
        shl $21, %eax
        or $0x83, %eax
        mov %eax, (%edi,%ecx,8)
        inc %ecx
        cmp $2048, %ecx
        jne 1b
        mov %cr4, %eax
        or $0x20, %eax
        mov %eax, %cr4
        mov $boot_pml4, %eax
        mov %eax, %cr3
        mov $0xc0000080, %ecx
        rdmsr
        or $0x100, %eax
        wrmsr
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        lgdt gdt_ptr
        ljmp $0x10, $in_long

        .data
        .balign 4096
boot_pml4:
        .quad boot_pdpt + 3
        .fill 511, 8, 0
boot_pdpt:
        .quad boot_pd + 3, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003
        .fill 508, 8, 0
boot_pd:
        .fill 2048, 8, 0
        .text
        .code64
in_long:
        mov $0x18, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
#else
        .text
        .code64
        .globl start
start:
#endif
        lgdt gdt_ptr
        pushq $0x10
        pushq $1f
        lretq
1:      mov $0x18, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        xor %eax, %eax
        mov %eax, %fs
        mov %eax, %gs
        mov %ebx, %ebx
        mov %rbx, cmdline
        call set_up
        mov $0x30, %eax
        ltr %ax
        lidt idt_ptr
        call main
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
        pushq $\n
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

common: push %rax
        push %rcx
        push %rdx
        push %rbx
        push %rbp
        push %rsi
        push %rdi
        push %r8
        push %r9
        push %r10
        push %r11
        push %r12
        push %r13
        push %r14
        push %r15
        cld
        mov %rsp, %rdi
        mov %rsp, %rbp
        and $-16, %rsp
        call trap
        mov %rbp, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %r11
        pop %r10
        pop %r9
        pop %r8
        pop %rdi
        pop %rsi
        pop %rbp
        pop %rbx
        pop %rdx
        pop %rcx
        pop %rax
        add $16, %rsp
        iretq

        /* in_user(f, arg): what f returns is the result. */
        .globl in_user
in_user:
        push %rbx
        push %rbp
        push %r12
        push %r13
        push %r14
        push %r15
        mov %rsp, user_resume
        mov %rsp, tss + 4
        mov %rdi, %rax
        mov %rsi, %rdi
        mov user_offset, %rcx
        add %rcx, %rax
        pushq $0x23
        lea user_stack_top - 16(%rcx), %rdx
        push %rdx
        lea user_end(%rcx), %rdx
        mov %rdx, user_stack_top - 16
        pushq user_flags
        pushq $0x2b
        push %rax
        iretq
user_end:
        int $0x80
        .globl user_return
user_return:
        mov user_resume, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %rbp
        pop %rbx
        ret

        .data
        .balign 16
        .globl gdt, tss, idt
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff
        .quad 0x00cff3000000ffff, 0x00affb000000ffff
        .quad 0, 0, 0
        .fill 64, 8, 0
gdt_end:
gdt_ptr:
        .word gdt_end - gdt - 1
        .quad gdt
        .globl idt_ptr
idt_ptr:
        .word 4095
        .quad idt
        .balign 16
user_resume:
        .quad 0
        .globl user_offset, user_flags
user_offset:
        .quad 0
user_flags:
        .quad 0x202
        .long 0
tss:    .fill 26, 4, 0
        .balign 16
idt:    .fill 512, 8, 0
        .bss
        .balign 4096
        .fill 16384, 1, 0
        .globl stack_top, ist1_top, ist2_top, user_stack_top
stack_top:
        .fill 4096, 1, 0
ist1_top:
        .fill 4096, 1, 0
ist2_top:
        .balign 4096
        .fill 4096, 1, 0
user_stack_top:
