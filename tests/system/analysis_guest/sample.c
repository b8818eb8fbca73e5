/* A program whose doings are known, for tests of what a recording says about it. It asks for its
 * parent's number at the places where the tests look: that call does nothing else. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 1000

volatile unsigned long counter; /* written ROUNDS times, by count_up() alone */

__attribute__((noinline)) static void here(void) { getppid(); }

__attribute__((noinline)) static int compare(const void *a, const void *b) {
    static int done;
    if (!done++) here();
    return *(const int *)a - *(const int *)b;
}

__attribute__((noinline)) static void order(void) {
    int v[4] = {3, 1, 2, 0};
    qsort(v, 4, sizeof v[0], compare);
}

static void on_signal(int n) {
    (void)n;
    here();
}

__attribute__((noinline)) static void alarm_me(void) { raise(SIGUSR1); }

__attribute__((noinline)) int count_up(int rounds, const char *why) {
    for (int i = 0; i < rounds; i++) counter += (unsigned long)i;
    return rounds + (int)strlen(why);
}

int main(void) {
    printf("sample %d counter %p\n", (int)getpid(), (void *)&counter);
    fflush(stdout);
    order();
    signal(SIGUSR1, on_signal);
    alarm_me();
    int n = count_up(ROUNDS, "because");
    pid_t child = fork();
    if (child == 0) _exit(7);
    int status;
    waitpid(child, &status, 0);
    printf("sample counted %d to %lu, child %d ended with %d\n", n, counter, (int)child,
           WEXITSTATUS(status));
    return 3;
}
