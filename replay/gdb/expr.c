#include "replay/gdb/expr.h"

#include <string.h>

enum op {
    OP_ADD = 0x02,
    OP_SUB = 0x03,
    OP_MUL = 0x04,
    OP_DIV_SIGNED = 0x05,
    OP_DIV_UNSIGNED = 0x06,
    OP_REM_SIGNED = 0x07,
    OP_REM_UNSIGNED = 0x08,
    OP_LSH = 0x09,
    OP_RSH_SIGNED = 0x0a,
    OP_RSH_UNSIGNED = 0x0b,
    OP_LOG_NOT = 0x0e,
    OP_BIT_AND = 0x0f,
    OP_BIT_OR = 0x10,
    OP_BIT_XOR = 0x11,
    OP_BIT_NOT = 0x12,
    OP_EQUAL = 0x13,
    OP_LESS_SIGNED = 0x14,
    OP_LESS_UNSIGNED = 0x15,
    OP_EXT = 0x16,
    OP_REF8 = 0x17,
    OP_REF16 = 0x18,
    OP_REF32 = 0x19,
    OP_REF64 = 0x1a,
    OP_IF_GOTO = 0x20,
    OP_GOTO = 0x21,
    OP_CONST8 = 0x22,
    OP_CONST16 = 0x23,
    OP_CONST32 = 0x24,
    OP_CONST64 = 0x25,
    OP_REG = 0x26,
    OP_END = 0x27,
    OP_DUP = 0x28,
    OP_POP = 0x29,
    OP_ZERO_EXT = 0x2a,
    OP_SWAP = 0x2b,
    OP_PICK = 0x32,
    OP_ROT = 0x33,
};

#define STACK 64
#define STEPS 10000 /* a loop longer than this is none of gdb's */

struct eval {
    struct rv_machine *m;
    struct rv_gdb_layout layout;
    const uint8_t *code;
    size_t n, at;
    uint64_t stack[STACK];
    unsigned depth;
    bool bad;
};

static uint64_t pop(struct eval *e) {
    if (!e->depth) {
        e->bad = true;
        return 0;
    }
    return e->stack[--e->depth];
}

static void push(struct eval *e, uint64_t v) {
    if (e->depth == STACK)
        e->bad = true;
    else
        e->stack[e->depth++] = v;
}

/* An operand in the bytecode: big endian. */
static uint64_t operand(struct eval *e, unsigned size) {
    uint64_t v = 0;
    if (e->n - e->at < size) {
        e->bad = true;
        return 0;
    }
    while (size--) v = v << 8 | e->code[e->at++];
    return v;
}

static uint64_t shift(uint64_t v, uint64_t by, enum op op) {
    if (by >= 64) return op == OP_RSH_SIGNED && (int64_t)v < 0 ? ~0ull : 0;
    if (op == OP_LSH) return v << by;
    return op == OP_RSH_SIGNED ? (uint64_t)((int64_t)v >> by) : v >> by;
}

static uint64_t divide(struct eval *e, uint64_t a, uint64_t b, enum op op) {
    bool is_signed = op == OP_DIV_SIGNED || op == OP_REM_SIGNED;
    if (!b || (is_signed && b == ~0ull && a == 1ull << 63)) {
        e->bad = true;
        return 0;
    }
    switch (op) {
    case OP_DIV_SIGNED: return (uint64_t)((int64_t)a / (int64_t)b);
    case OP_REM_SIGNED: return (uint64_t)((int64_t)a % (int64_t)b);
    case OP_DIV_UNSIGNED: return a / b;
    default: return a % b;
    }
}

static void binary(struct eval *e, enum op op) {
    uint64_t b = pop(e), a = pop(e), v;
    if (e->bad) return;
    switch (op) {
    case OP_ADD: v = a + b; break;
    case OP_SUB: v = a - b; break;
    case OP_MUL: v = a * b; break;
    case OP_BIT_AND: v = a & b; break;
    case OP_BIT_OR: v = a | b; break;
    case OP_BIT_XOR: v = a ^ b; break;
    case OP_EQUAL: v = a == b; break;
    case OP_LESS_SIGNED: v = (int64_t)a < (int64_t)b; break;
    case OP_LESS_UNSIGNED: v = a < b; break;
    case OP_LSH:
    case OP_RSH_SIGNED:
    case OP_RSH_UNSIGNED: v = shift(a, b, op); break;
    default: v = divide(e, a, b, op); break;
    }
    push(e, v);
}

static void reference(struct eval *e, enum op op) {
    uint64_t v = 0;
    unsigned size = 1u << (op - OP_REF8);
    if (rv_gdb_read(e->m, false, pop(e), &v, size) != size) e->bad = true;
    push(e, v);
}

static void extend(struct eval *e, enum op op) {
    uint64_t bits = operand(e, 1), v = pop(e);
    if (!bits || bits > 64) {
        e->bad = true;
        return;
    }
    unsigned up = (unsigned)(64 - bits);
    push(e, op == OP_EXT ? (uint64_t)((int64_t)(v << up) >> up) : v << up >> up);
}

static void take_register(struct eval *e) {
    unsigned number = (unsigned)operand(e, 2), size = rv_gdb_register_size(e->layout, number);
    if (!size || size > 8) {
        e->bad = true;
        return;
    }
    struct rv_gdb_cpu cpu;
    uint8_t bytes[16] = {0};
    uint64_t v;
    rv_gdb_state(e->m, &cpu);
    rv_gdb_register_get(e->layout, number, &cpu, bytes);
    memcpy(&v, bytes, 8);
    push(e, v);
}

static void stack_op(struct eval *e, enum op op) {
    uint64_t a, b, c;
    switch (op) {
    case OP_DUP:
        a = pop(e);
        push(e, a);
        push(e, a);
        break;
    case OP_SWAP:
        a = pop(e), b = pop(e);
        push(e, a);
        push(e, b);
        break;
    case OP_ROT:
        a = pop(e), b = pop(e), c = pop(e);
        push(e, a);
        push(e, c);
        push(e, b);
        break;
    default:
        a = operand(e, 1);
        if (a >= e->depth)
            e->bad = true;
        else
            push(e, e->stack[e->depth - 1 - a]);
    }
}

static void step(struct eval *e, enum op op) {
    uint64_t to;
    switch (op) {
    case OP_LOG_NOT: push(e, !pop(e)); break;
    case OP_BIT_NOT: push(e, ~pop(e)); break;
    case OP_EXT:
    case OP_ZERO_EXT: extend(e, op); break;
    case OP_REF8:
    case OP_REF16:
    case OP_REF32:
    case OP_REF64: reference(e, op); break;
    case OP_IF_GOTO:
        to = operand(e, 2);
        if (pop(e)) e->at = to;
        break;
    case OP_GOTO: e->at = operand(e, 2); break;
    case OP_CONST8:
    case OP_CONST16:
    case OP_CONST32:
    case OP_CONST64: push(e, operand(e, 1u << (op - OP_CONST8))); break;
    case OP_REG: take_register(e); break;
    case OP_POP: pop(e); break;
    case OP_DUP:
    case OP_SWAP:
    case OP_PICK:
    case OP_ROT: stack_op(e, op); break;
    default:
        if ((op >= OP_ADD && op <= OP_RSH_UNSIGNED) || (op >= OP_BIT_AND && op <= OP_LESS_UNSIGNED))
            binary(e, op);
        else
            e->bad = true;
    }
}

bool rv_gdb_eval(struct rv_machine *m, struct rv_gdb_layout layout, const uint8_t *code, size_t n,
                 uint64_t *value) {
    struct eval e = {.m = m, .layout = layout, .code = code, .n = n};
    for (unsigned steps = 0; steps < STEPS && !e.bad && e.at < n; steps++) {
        enum op op = (enum op)code[e.at++];
        if (op == OP_END) {
            *value = pop(&e);
            return !e.bad;
        }
        step(&e, op);
    }
    return false;
}
