#include "tools/analysis/proto.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEEP 32 /* typedefs and qualifiers within each other */

static void set_name(struct rv_proto_value *v, const char *name) {
    snprintf(v->name, sizeof v->name, "%.31s", name ? name : "");
}

/* ---- BTF ---- */

static void from_btf(struct rv_proto_value *to, const struct rv_btf_param *from) {
    static const enum rv_proto_kind kinds[] = {[RV_BTF_SIGNED] = RV_PROTO_SIGNED,
                                               [RV_BTF_UNSIGNED] = RV_PROTO_UNSIGNED,
                                               [RV_BTF_BOOL] = RV_PROTO_BOOL,
                                               [RV_BTF_POINTER] = RV_PROTO_POINTER,
                                               [RV_BTF_OTHER] = RV_PROTO_OTHER};
    set_name(to, from->name);
    to->kind = from->string ? RV_PROTO_STRING : kinds[from->class];
    to->size = from->size;
}

static bool in_btf(struct rv_proto *p, const struct rv_btf *btf, const char *name) {
    struct rv_btf_param param[RV_PROTO_PARAMS], result;
    int n = rv_btf_function(btf, name, param, RV_PROTO_PARAMS, &result);
    if (n < 0) return false;
    p->n = n < RV_PROTO_PARAMS ? (unsigned)n : RV_PROTO_PARAMS;
    for (unsigned i = 0; i < p->n; i++) from_btf(&p->param[i], &param[i]);
    from_btf(&p->result, &result);
    if (result.class == RV_BTF_OTHER && !result.size) p->result.kind = RV_PROTO_VOID;
    return true;
}

/* ---- DWARF ---- */

/* Looks through typedefs and qualifiers; *konst: one was const. */
static bool plain(Dwarf_Die *type, bool *konst) {
    for (unsigned depth = 0; depth < DEEP; depth++) {
        int tag = dwarf_tag(type);
        Dwarf_Attribute a;
        if (tag == DW_TAG_const_type) *konst = true;
        if (tag != DW_TAG_const_type && tag != DW_TAG_typedef && tag != DW_TAG_volatile_type &&
            tag != DW_TAG_restrict_type && tag != DW_TAG_atomic_type)
            return true;
        Dwarf_Die next;
        if (!dwarf_attr_integrate(type, DW_AT_type, &a) || !dwarf_formref_die(&a, &next))
            return false;
        *type = next;
    }
    return false;
}

static void from_die(struct rv_proto_value *to, Dwarf_Die *die) {
    Dwarf_Attribute a;
    Dwarf_Die type, target;
    Dwarf_Word encoding = 0;
    bool konst = false;
    set_name(to, dwarf_diename(die));
    to->kind = RV_PROTO_VOID;
    if (!dwarf_attr_integrate(die, DW_AT_type, &a) || !dwarf_formref_die(&a, &type)) return;
    to->kind = RV_PROTO_OTHER;
    if (!plain(&type, &konst)) return;
    Dwarf_Word size = 0;
    dwarf_aggregate_size(&type, &size);
    to->size = size > 16 ? 16 : (unsigned)size;
    switch (dwarf_tag(&type)) {
    case DW_TAG_pointer_type:
        to->kind = RV_PROTO_POINTER;
        to->size = 8;
        konst = false;
        if (dwarf_attr_integrate(&type, DW_AT_type, &a) && dwarf_formref_die(&a, &target) &&
            plain(&target, &konst) && konst && dwarf_tag(&target) == DW_TAG_base_type &&
            dwarf_bytesize(&target) == 1)
            to->kind = RV_PROTO_STRING;
        break;
    case DW_TAG_enumeration_type: to->kind = RV_PROTO_SIGNED; break;
    case DW_TAG_base_type:
        if (dwarf_attr_integrate(&type, DW_AT_encoding, &a)) dwarf_formudata(&a, &encoding);
        if (encoding == DW_ATE_boolean)
            to->kind = RV_PROTO_BOOL;
        else if (encoding == DW_ATE_signed || encoding == DW_ATE_signed_char)
            to->kind = RV_PROTO_SIGNED;
        else if (encoding == DW_ATE_unsigned || encoding == DW_ATE_unsigned_char)
            to->kind = RV_PROTO_UNSIGNED;
        break;
    default: break;
    }
}

struct wanted {
    struct rv_proto *proto;
    const char *name;
    bool found;
};

static int on_function(Dwarf_Die *die, void *ctx) {
    struct wanted *w = ctx;
    const char *name = dwarf_diename(die);
    Dwarf_Die child;
    if (!name || strcmp(name, w->name) != 0) return DWARF_CB_OK;
    struct rv_proto *p = w->proto;
    from_die(&p->result, die);
    *p->result.name = 0;
    p->n = 0;
    if (dwarf_child(die, &child) == 0) do {
            if (dwarf_tag(&child) == DW_TAG_formal_parameter && p->n < RV_PROTO_PARAMS)
                from_die(&p->param[p->n++], &child);
        } while (dwarf_siblingof(&child, &child) == 0);
    w->found = true;
    return DWARF_CB_ABORT;
}

static bool in_dwarf(struct rv_proto *p, const char *path, const char *name) {
    struct wanted w = {.proto = p, .name = name};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    Dwarf *dw = dwarf_begin(fd, DWARF_C_READ);
    Dwarf_Off offset = 0, next;
    size_t header;
    while (dw && !w.found && dwarf_nextcu(dw, offset, &next, &header, NULL, NULL, NULL) == 0) {
        Dwarf_Die cu;
        if (dwarf_offdie(dw, offset + header, &cu)) dwarf_getfuncs(&cu, on_function, &w, 0);
        offset = next;
    }
    dwarf_end(dw);
    close(fd);
    return w.found;
}

void rv_proto_find(struct rv_proto *p, const struct rv_look *look, const char *name,
                   const char *const *symbols, unsigned n) {
    const struct rv_linux *l = rv_guest_linux(look->guest);
    char path[4096];
    *p = (struct rv_proto){0};
    for (unsigned i = 0; i < n && !p->known; i++) {
        snprintf(path, sizeof path, "%s", symbols[i]);
        char *at = strrchr(path, '@');
        if (at && access(path, F_OK) != 0) *at = 0;
        p->known = in_dwarf(p, path, name);
    }
    if (!p->known && l) p->known = in_btf(p, rv_linux_btf(l), name);
    if (p->known) return;
    p->n = 6;
    for (unsigned i = 0; i < p->n; i++)
        p->param[i] = (struct rv_proto_value){.kind = RV_PROTO_POINTER, .size = 8};
    p->result = (struct rv_proto_value){.kind = RV_PROTO_POINTER, .size = 8};
}
