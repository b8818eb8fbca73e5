/* A small guest with interrupts, recorded to a file for tests that replay it. */
#ifndef RV_TESTS_TICKING_H
#define RV_TESTS_TICKING_H

#include "tests/quiet.h"

/* Real mode, with the timer's interrupt on: counts in memory and prints now and then, until it has
 * counted enough. The handler counts ticks at 0x704 and writes a page that moves on. */
#define HANDLER 0x7c60u /* the interrupt's */
#define INC     0x7c37u /* inc dword [700h], in the loop */

/* How many random turns of n to take: the sanitizers make each several times as long. */
#ifdef __SANITIZE_ADDRESS__
#define TURNS(n) ((n) / 5)
#else
#define TURNS(n) (n)
#endif

extern char ticking_path[64], ticking_index[80];

void ticking_record(void);
void ticking_remove(void);

#endif
