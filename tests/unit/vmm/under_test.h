/* The engine that a test is built for: the interpreter, or with RV_TRANSLATE the translator, which
 * then translates everything at once. */
#ifndef RV_TESTS_UNDER_TEST_H
#define RV_TESTS_UNDER_TEST_H

#include "vmm/cpu/engine.h"
#include "vmm/cpu/xlate/eager.h"

static inline int engine_create(struct rv_engine **e, struct rv_ram *ram, struct rv_cpu_bus *bus,
                                const struct rv_profile *profile, struct rv_err *err) {
#ifdef RV_TRANSLATE
    int r = rv_engine_translate.create(e, ram, bus, profile, err);
    if (!r) rv_translate_eagerly(*e);
    return r;
#else
    return rv_engine_interpret.create(e, ram, bus, profile, err);
#endif
}

#endif
