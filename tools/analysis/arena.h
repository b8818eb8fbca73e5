/* Many small strings that live and die together. */
#ifndef RV_ANALYSIS_ARENA_H
#define RV_ANALYSIS_ARENA_H

#include <stddef.h>

struct rv_arena; /* opaque */

struct rv_arena *rv_arena_new(void);
void rv_arena_free(struct rv_arena *a);

/* Uninitialised room for n bytes, aligned to 8; stays where it is until the arena goes. */
void *rv_arena_take(struct rv_arena *a, size_t n);
/* A copy of n bytes with a NUL behind them. */
char *rv_arena_copy(struct rv_arena *a, const void *data, size_t n);
/* The one copy of a string: equal strings give the same pointer. */
const char *rv_arena_intern(struct rv_arena *a, const char *s);

#endif
