/* The program of the time-travel demonstration (docs/tutorial.md): a ledger with a planted bug.
 * Each posting notes what it was for in a field of fixed size. One note, at a moment drawn at
 * random, is longer than the field, and its tail lands on the pointer behind it. Nothing happens
 * until the report at the end, hundreds of thousands of postings later: there the program crashes.
 */
#include <stdio.h>
#include <sys/random.h>

#define ACCOUNTS 8
#define POSTINGS 300000

struct account {
    long balance;
    char memo[16]; /* what the last posting was for */
    const char *owner;
};

static struct account accounts[ACCOUNTS] = {
    {.owner = "Ada"},  {.owner = "Barbara"}, {.owner = "Edsger"},  {.owner = "Grace"},
    {.owner = "John"}, {.owner = "Leslie"},  {.owner = "Niklaus"}, {.owner = "Tony"},
};

static void note(struct account *a, const char *purpose) {
    char *to = a->memo;
    while (*purpose) *to++ = *purpose++; /* the bug: nobody looks how long it is */
    *to = 0;
}

static void post(unsigned from, unsigned to, long amount, const char *purpose) {
    accounts[from].balance -= amount;
    accounts[to].balance += amount;
    note(&accounts[to], purpose);
}

static void report(void) {
    for (unsigned i = 0; i < ACCOUNTS; i++)
        printf("  %-8s %10ld\n", accounts[i].owner, accounts[i].balance);
}

int main(void) {
    unsigned random[2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) return 1;
    unsigned unlucky = POSTINGS / 4 + random[0] % (POSTINGS / 4), x = random[1] | 1;
    printf("ledger: %u postings\n", POSTINGS);
    fflush(stdout);
    for (unsigned i = 0; i < POSTINGS; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        post(x % ACCOUNTS, (x >> 8) % ACCOUNTS, (long)(x >> 16) % 100,
             i == unlucky ? "settlement of 12/31" : "transfer");
    }
    report();
    return 0;
}
