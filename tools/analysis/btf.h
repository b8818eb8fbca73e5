/* Types of the guest's kernel: the BTF that it keeps of itself (Linux Documentation/bpf/btf.rst).
 * The bytes are the guest's and not trusted. */
#ifndef RV_ANALYSIS_BTF_H
#define RV_ANALYSIS_BTF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/buf.h"
#include "vmm/base/err.h"

struct rv_btf; /* opaque; does not change, and may be read by many threads */

/* data is copied. RV_E_FORMAT when it is not whole and consistent. */
int rv_btf_read(struct rv_btf **out, const uint8_t *data, size_t len, struct rv_err *err);
void rv_btf_free(struct rv_btf *b);

/* Where a member is in a structure or union, in bytes, and how long it is (may be NULL). path names
 * it, with dots into structures within; anonymous structures are looked through. False when there
 * is no such member, or it is a bit field. */
bool rv_btf_member(const struct rv_btf *b, const char *type, const char *path, uint64_t *offset,
                   uint64_t *size);
/* Whether a structure has a member of that name itself, a bit field or not; *bits (may be NULL):
 * its length when it is a bit field, else 0. */
bool rv_btf_field(const struct rv_btf *b, const char *type, const char *name, unsigned *bits);
/* Size of a structure, union, or typedef by name; false when there is none. */
bool rv_btf_sizeof(const struct rv_btf *b, const char *type, uint64_t *size);

/* What a parameter is, as far as it matters for showing its value. */
enum rv_btf_class { RV_BTF_SIGNED, RV_BTF_UNSIGNED, RV_BTF_BOOL, RV_BTF_POINTER, RV_BTF_OTHER };
struct rv_btf_param {
    const char *name; /* "" when it has none; belongs to the rv_btf */
    enum rv_btf_class class;
    unsigned size;    /* bytes */
    bool string;      /* a pointer to const char */
    const char *type; /* of a pointer to a structure: its name; else NULL */
};
/* The parameters and the result of a function (result's size 0: void): how many parameters, of
 * which at most max are filled; -1 when there is no such function. */
int rv_btf_function(const struct rv_btf *b, const char *name, struct rv_btf_param *param, int max,
                    struct rv_btf_param *result);

#endif
