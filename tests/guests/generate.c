/* Generates code as a compiler at run time does, for as many rounds as the command line says:
 * another function each time, long, at another place, called often enough to be worth translating.
 */
#include "rt/guest.h"

#define PLACES 64
#define SIZE   1024
#define CALLS  24

static uint8_t room[PLACES][SIZE] __attribute__((aligned(4096)));

static uint32_t next(uint32_t x) { return x * 1664525 + 1013904223; }

/* Writes a function of its argument that stores, loads and adds; returns what it adds. */
static uint64_t write_function(uint8_t *at, uint32_t *x) {
    uint64_t sum = 0;
    uint8_t *end = at + SIZE - 32;
    *at++ = 0x48, *at++ = 0x89, *at++ = 0xf8; /* mov rax, rdi */
    while (at < end) {
        *x = next(*x);
        uint32_t v = *x >> 1;
        sum += v;
        *at++ = 0x68; /* push v */
        for (unsigned i = 0; i < 4; i++) *at++ = (uint8_t)(v >> 8 * i);
        *at++ = 0x48, *at++ = 0x03, *at++ = 0x04, *at++ = 0x24; /* add rax, [rsp] */
        *at++ = 0x59;                                           /* pop rcx */
    }
    *at = 0xc3; /* ret */
    return sum;
}

int main(void) {
    uint32_t rounds = number(), x = 1;
    if (!rounds) rounds = 100;
    for (uint32_t r = 0; r < rounds; r++) {
        uint8_t *at = room[x % PLACES];
        uint64_t sum = write_function(at, &x);
        for (uint64_t n = 0; n < CALLS; n++) {
            uint64_t got, arg = n;
            __asm__ volatile("call *%2" : "=a"(got), "+D"(arg) : "r"(at) : "rcx", "memory", "cc");
            equal(got, sum + n);
        }
        if (r % 10000 == 9999) {
            print_dec(r + 1);
            put('\n');
        }
    }
    return 0;
}
