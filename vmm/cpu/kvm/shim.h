/* Where things are in L1 memory; for C and for the shims' assembly. */
#ifndef RV_VMM_CPU_KVM_SHIM_H
#define RV_VMM_CPU_KVM_SHIM_H

/* L1's own page tables: one to one for the first GiB. */
#define RV_L1_PML4  0x1000
#define RV_L1_PDPT  0x2000
#define RV_L1_PD    0x3000
#define RV_L1_STACK 0x5000 /* grows down from here */
/* What shim and user space share. */
#define RV_L1_COMM     0x5000
#define RV_COMM_GPR    (RV_L1_COMM + 0x000) /* 16 x 8 bytes, in the order of enum rv_gpr */
#define RV_COMM_RELOAD (RV_L1_COMM + 0x080) /* 8 bytes: not 0: load all of the control block */
#define RV_COMM_FX     (RV_L1_COMM + 0x200) /* 512 bytes, FXSAVE64 format */
/* Of the shim for VT-x alone. */
#define RV_COMM_VMXON         (RV_L1_COMM + 0x400) /* address of the VMXON region */
#define RV_COMM_VMCS          (RV_L1_COMM + 0x408) /* of the VMCS */
#define RV_COMM_ENTER         (RV_L1_COMM + 0x410) /* 0: write the listed fields, do not enter */
#define RV_COMM_LAUNCHED      (RV_L1_COMM + 0x418)
#define RV_COMM_STATUS        (RV_L1_COMM + 0x420) /* RV_VMX_* */
#define RV_COMM_REASON        (RV_L1_COMM + 0x428) /* of the exit, or why there was no entry */
#define RV_COMM_QUALIFICATION (RV_L1_COMM + 0x430)
#define RV_COMM_EVENT         (RV_L1_COMM + 0x438)
#define RV_COMM_CR2           (RV_L1_COMM + 0x440)
#define RV_COMM_KERNEL_GS     (RV_L1_COMM + 0x448)
#define RV_COMM_LIST          (RV_L1_COMM + 0x800) /* fields to write: number, value; -1 ends it */
#define RV_COMM_LIST_MAX      127
#define RV_VMX_DONE           0 /* fields written */
#define RV_VMX_OUT            1 /* the guest was entered and is out */
#define RV_VMX_NO_VMXON       2
#define RV_VMX_NO_VMCS        3
#define RV_VMX_NO_FIELD       4
#define RV_VMX_NO_ENTRY       5

/* Reads of the clock that the shim answers (shim_clock.inc). */
#define RV_CLOCK_LEFT     (RV_L1_COMM + 0x480) /* 4 bytes: so many more; 0: none */
#define RV_CLOCK_COUNT    (RV_L1_COMM + 0x484) /* 4 bytes: entries of the ring */
#define RV_CLOCK_NOW      (RV_L1_COMM + 0x488) /* guest time, ns */
#define RV_CLOCK_BEFORE   (RV_L1_COMM + 0x490) /* which must stay below this */
#define RV_CLOCK_HOST     (RV_L1_COMM + 0x498) /* guest time by the host's clock, at the start */
#define RV_CLOCK_START    (RV_L1_COMM + 0x4a0) /* L1's counter then */
#define RV_CLOCK_SCALE    (RV_L1_COMM + 0x4a8) /* ns for each of its ticks, 32.32 */
#define RV_CLOCK_HZ       (RV_L1_COMM + 0x4b0) /* of the guest's counter */
#define RV_CLOCK_OFFSET   (RV_L1_COMM + 0x4b8) /* of the guest's counter */
#define RV_CLOCK_AUX      (RV_L1_COMM + 0x4c0) /* what RDTSCP gives in ECX */
#define RV_CLOCK_RAM_LOW  (RV_L1_COMM + 0x4c8) /* bytes of guest RAM from 0 */
#define RV_CLOCK_RAM_HIGH (RV_L1_COMM + 0x4d0) /* and from RV_RAM_HIGH_BASE */
#define RV_CLOCK_STEP_MAX 31 /* a step of 2^32 ns and more is left to user space */

#define RV_L1_CODE     0x6000
#define RV_L1_CONTROL  0x8000 /* VMCB or VMCS */
#define RV_L1_HOST     0x9000 /* host save area, or VMXON region */
#define RV_L1_IO_MAP   0xa000 /* 3 pages */
#define RV_L1_MSR_MAP  0xd000 /* 2 pages */
#define RV_L1_RING     0xf000 /* ns by which each answered read moved guest time on */
#define RV_L1_RING_MAX 512
#define RV_L1_NPT      0x10000
#define RV_L1_RAM      0x100000000 /* guest RAM, as it lies in struct rv_ram */
#define RV_SHIM_PORT   0x10

#endif
