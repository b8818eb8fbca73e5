/* How functions are declared: of the kernel by its BTF, of programs by the DWARF of the files that
 * the user gave. */
#ifndef RV_ANALYSIS_PROTO_H
#define RV_ANALYSIS_PROTO_H

#include "tools/analysis/guest.h"

enum rv_proto_kind {
    RV_PROTO_VOID,
    RV_PROTO_SIGNED,
    RV_PROTO_UNSIGNED,
    RV_PROTO_BOOL,
    RV_PROTO_POINTER,
    RV_PROTO_STRING, /* pointer to const char */
    RV_PROTO_OTHER,  /* a structure or floating point: not in the registers for integers */
};

struct rv_proto_value {
    char name[32]; /* "" when it has none */
    enum rv_proto_kind kind;
    unsigned size; /* bytes */
};

#define RV_PROTO_PARAMS 12
struct rv_proto {
    bool known; /* else: six unsigned words, and a result */
    struct rv_proto_value param[RV_PROTO_PARAMS], result;
    unsigned n; /* at most RV_PROTO_PARAMS */
};

/* symbols: the ELF files that the user gave, each PATH or PATH@ADDRESS. */
void rv_proto_find(struct rv_proto *p, const struct rv_look *look, const char *name,
                   const char *const *symbols, unsigned n);

#endif
