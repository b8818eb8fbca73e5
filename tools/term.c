#include "tools/retro.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>

_Atomic int retro_stop;
static _Atomic(struct rv_machine *) kicked;

static void on_signal(int sig) {
    int none = RV_STOP_NONE;
    int reason = sig == SIGINT    ? RV_STOP_INTERRUPT
                 : sig == SIGALRM ? RV_STOP_TIMEOUT
                                  : RV_STOP_TERMINATE;
    atomic_compare_exchange_strong(&retro_stop, &none, reason);
    struct rv_machine *m = atomic_load(&kicked);
    if (m) rv_machine_kick(m);
}

void retro_catch_signals(void) {
    struct sigaction sa = {.sa_handler = on_signal};
    sigemptyset(&sa.sa_mask);
    /* The second Ctrl-C finds the default again: a way out when the first does not help. */
    sa.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    sigaction(SIGALRM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void retro_stop_after(uint64_t ns) {
    struct itimerval t = {.it_value = {.tv_sec = (time_t)(ns / RV_NSEC),
                                       .tv_usec = (suseconds_t)(ns % RV_NSEC / 1000)}};
    if (!t.it_value.tv_sec && !t.it_value.tv_usec) t.it_value.tv_usec = 1;
    setitimer(ITIMER_REAL, &t, NULL);
}

void retro_kick_on_signal(struct rv_machine *m) { atomic_store(&kicked, m); }

static struct termios saved;
static int saved_fd = -1;

void retro_restore_terminal(void) {
    if (saved_fd >= 0) tcsetattr(saved_fd, TCSADRAIN, &saved);
    saved_fd = -1;
}

void retro_raw_terminal(int fd) {
    if (!isatty(fd) || tcgetattr(fd, &saved)) return;
    struct termios t = saved;
    t.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON | ISTRIP);
    t.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    /* Signals stay on: Ctrl-C ends the run. Ctrl-] c types it into the guest. */
    t.c_cc[VSUSP] = _POSIX_VDISABLE;
    t.c_cc[VQUIT] = _POSIX_VDISABLE;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    saved_fd = fd;
    atexit(retro_restore_terminal);
    tcsetattr(fd, TCSADRAIN, &t);
}
