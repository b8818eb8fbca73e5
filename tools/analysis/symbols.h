/* Names of addresses: a table of symbols, wherever they came from. */
#ifndef RV_ANALYSIS_SYMBOLS_H
#define RV_ANALYSIS_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rv_symbol {
    uint64_t addr;
    uint64_t size; /* 0: not known; it reaches to the next one then */
    const char *name;
    char type; /* as nm(1) has it: 't', 'T', 'd', ... */
};

struct rv_symbols; /* opaque; does not change once sorted, and may be read by many threads then */

struct rv_symbols *rv_symbols_new(void);
void rv_symbols_free(struct rv_symbols *s);

/* name is copied. */
void rv_symbols_add(struct rv_symbols *s, uint64_t addr, uint64_t size, char type,
                    const char *name);
/* To be called once, after the last was added and before anything is looked up. */
void rv_symbols_sort(struct rv_symbols *s);

size_t rv_symbols_count(const struct rv_symbols *s);
/* By address, i below the count. */
const struct rv_symbol *rv_symbols_get(const struct rv_symbols *s, size_t i);
/* The symbol an address is in, or NULL. Of several at one address it is the one with the plainest
 * name: global before local, without a dot before with. */
const struct rv_symbol *rv_symbols_at(const struct rv_symbols *s, uint64_t addr);
/* The first of that name by address, or NULL; and how many have it (may be NULL). */
const struct rv_symbol *rv_symbols_find(const struct rv_symbols *s, const char *name, size_t *many);
/* Where a symbol ends: its size, or where the next address with a symbol is. */
uint64_t rv_symbols_end(const struct rv_symbols *s, const struct rv_symbol *y);

#endif
