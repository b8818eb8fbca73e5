/* The flat header: an optional start of a raw image that says how it wants to be entered. For
 * guests written for bare metal, chiefly tests. All fields little endian; the whole file, header
 * included, is loaded at `load`.
 *
 *   mode 16: real mode; entry and stack are linear addresses below 1 MiB, split as 64 KiB segments
 *   mode 32: protected mode, flat 4 GiB segments, no paging; CS 0x08, data 0x10
 *   mode 64: long mode, the first 4 GiB mapped one to one; CS 0x10, data 0x18
 *
 * Interrupts are off. The range 0x90000..0x9efff holds the descriptor and page tables and 0xe0000..
 * 0xfffff the ACPI tables: images cannot load there. The command line is at EBX (BX << 4 in real
 * mode), NUL-terminated. */
#ifndef RV_VMM_BOOT_FLAT_H
#define RV_VMM_BOOT_FLAT_H

#include <stdint.h>

#define RV_FLAT_MAGIC "RVFLAT1" /* with its NUL */

struct rv_flat_header {
    char magic[8];
    uint32_t mode;     /* 16, 32 or 64 */
    uint32_t reserved; /* 0 */
    uint64_t load, entry;
    uint64_t stack; /* initial stack pointer; 0: left at 0 */
};

#endif
