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

#define RV_L1_CODE    0x6000
#define RV_L1_CONTROL 0x8000 /* VMCB or VMCS */
#define RV_L1_HOST    0x9000 /* host save area, or VMXON region */
#define RV_L1_IO_MAP  0xa000 /* 3 pages */
#define RV_L1_MSR_MAP 0xd000 /* 2 pages */
#define RV_L1_NPT     0x10000
#define RV_L1_RAM     0x100000000 /* guest RAM, as it lies in struct rv_ram */
#define RV_SHIM_PORT  0x10

#endif
