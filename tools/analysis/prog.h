/* An ELF program or library as a guest has it, or as a file beside: its symbols and where its
 * unwind tables are. 64-bit x86 ELF. The bytes are not trusted. */
#ifndef RV_ANALYSIS_PROG_H
#define RV_ANALYSIS_PROG_H

#include "tools/analysis/ehframe.h"
#include "tools/analysis/symbols.h"
#include "vmm/base/err.h"

struct rv_prog_load {
    uint64_t addr, size, offset, file_size; /* bytes; addr as linked */
    bool exec;
};

struct rv_prog {
    struct rv_symbols *symbols; /* functions and objects, addresses as linked; sorted */
    struct rv_prog_load load[16];
    unsigned loads;
    bool fixed; /* ET_EXEC: runs where it was linked */
    uint64_t entry;
    struct rv_fde *fde; /* of .eh_frame */
    size_t fdes;
    uint64_t eh_frame; /* address as linked; 0: none */
    uint8_t build_id[32];
    unsigned build_id_len; /* 0: none */
};

/* image is not kept. RV_E_FORMAT when it is no such ELF; damaged parts of one are left out. */
int rv_prog_read(struct rv_prog **out, const uint8_t *image, size_t size, struct rv_err *err);
int rv_prog_open(struct rv_prog **out, const char *path, struct rv_err *err);
void rv_prog_free(struct rv_prog *e);

/* What is to be added to addresses as linked when the file's bytes at `offset` are at `addr`; false
 * when no part of the program is there. */
bool rv_prog_bias(const struct rv_prog *e, uint64_t addr, uint64_t offset, uint64_t *bias);

#endif
