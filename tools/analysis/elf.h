/* An ELF program or library as a guest has it, or as a file beside: its symbols and where its
 * unwind tables are. 64-bit x86 ELF. The bytes are not trusted. */
#ifndef RV_ANALYSIS_ELF_H
#define RV_ANALYSIS_ELF_H

#include "tools/analysis/symbols.h"
#include "vmm/base/err.h"

struct rv_elf_load {
    uint64_t addr, size, offset, file_size; /* bytes; addr as linked */
    bool exec;
};

struct rv_elf {
    struct rv_symbols *symbols; /* functions and objects, addresses as linked; sorted */
    struct rv_elf_load load[16];
    unsigned loads;
    bool fixed; /* ET_EXEC: runs where it was linked */
    uint64_t entry;
    uint64_t eh_frame_hdr; /* address as linked; 0: none */
    uint64_t eh_frame_hdr_size;
    uint8_t build_id[32];
    unsigned build_id_len; /* 0: none */
};

/* image is not kept. RV_E_FORMAT when it is no such ELF; damaged parts of one are left out. */
int rv_elf_read(struct rv_elf **out, const uint8_t *image, size_t size, struct rv_err *err);
int rv_elf_open(struct rv_elf **out, const char *path, struct rv_err *err);
void rv_elf_free(struct rv_elf *e);

/* What is to be added to addresses as linked when the file's bytes at `offset` are at `addr`; false
 * when no part of the program is there. */
bool rv_elf_bias(const struct rv_elf *e, uint64_t addr, uint64_t offset, uint64_t *bias);

#endif
