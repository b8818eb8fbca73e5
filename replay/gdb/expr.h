/* Conditions of breakpoints, which gdb sends as bytecode for the server to evaluate (gdb manual,
 * "The GDB Agent Expression Mechanism"). Of the bytecode all that concerns integers. */
#ifndef RV_REPLAY_GDB_EXPR_H
#define RV_REPLAY_GDB_EXPR_H

#include "replay/gdb/guest.h"

/* Evaluates against the machine's state. False when it cannot be evaluated: memory that is not
 * there, bytecode that is not understood, or does not end. */
bool rv_gdb_eval(struct rv_machine *m, struct rv_gdb_layout layout, const uint8_t *code, size_t n,
                 uint64_t *value);

#endif
