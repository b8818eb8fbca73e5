#include "vmm/host/waker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/buf.h"

struct rv_waker {
    void (*kick)(void *ctx);
    void *ctx;
    pthread_t thread;
    int event; /* wakes the thread itself */
    pthread_mutex_t lock;
    /* Under the lock. */
    uint64_t at;
    int fd;
    bool armed, ending;
    uint64_t sleeps_until; /* what the thread itself waits for: ns, and one of fd or -1 */
    int sleeps_on;
};

static uint64_t wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * RV_NSEC + (uint64_t)t.tv_nsec;
}

static void *work(void *arg) {
    struct rv_waker *w = arg;
    for (;;) {
        pthread_mutex_lock(&w->lock);
        bool ending = w->ending;
        uint64_t at = w->sleeps_until = w->armed ? w->at : RV_NEVER;
        w->sleeps_on = w->armed ? w->fd : -1;
        struct pollfd p[2] = {{.fd = w->event, .events = POLLIN},
                              {.fd = w->sleeps_on, .events = POLLIN}};
        pthread_mutex_unlock(&w->lock);
        if (ending) return NULL;
        uint64_t now = wall();
        uint64_t wait = at <= now ? 0 : at - now;
        struct timespec t = {.tv_sec = (time_t)(wait / RV_NSEC), .tv_nsec = (long)(wait % RV_NSEC)};
        int n = ppoll(p, 2, at == RV_NEVER ? NULL : &t, NULL);
        if (n > 0 && p[0].revents) {
            uint64_t count;
            if (read(w->event, &count, sizeof count) < 0 && errno != EAGAIN) return NULL;
            continue;
        }
        if (n < 0) continue;
        pthread_mutex_lock(&w->lock);
        bool due = w->armed && (wall() >= w->at || (p[1].revents && w->fd == p[1].fd));
        if (due) w->armed = false;
        pthread_mutex_unlock(&w->lock);
        if (due) w->kick(w->ctx);
    }
}

static void nudge(struct rv_waker *w) {
    uint64_t one = 1;
    while (write(w->event, &one, sizeof one) < 0 && errno == EINTR) {}
}

int rv_waker_new(struct rv_waker **out, void (*kick)(void *ctx), void *ctx, struct rv_err *err) {
    struct rv_waker *w = rv_alloc(sizeof *w);
    w->kick = kick;
    w->ctx = ctx;
    w->at = w->sleeps_until = RV_NEVER;
    w->fd = w->sleeps_on = -1;
    w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->event < 0) {
        free(w);
        return rv_fail_errno(err, RV_E_HOST, "cannot make an eventfd");
    }
    pthread_mutex_init(&w->lock, NULL);
    /* Signals are for the thread that runs the machine. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r) {
        close(w->event);
        pthread_mutex_destroy(&w->lock);
        free(w);
        errno = r;
        return rv_fail_errno(err, RV_E_HOST, "cannot start a thread");
    }
    *out = w;
    return 0;
}

void rv_waker_free(struct rv_waker *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_mutex_unlock(&w->lock);
    nudge(w);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    close(w->event);
    free(w);
}

void rv_waker_set(struct rv_waker *w, uint64_t at, int fd) {
    pthread_mutex_lock(&w->lock);
    w->at = at;
    w->fd = fd;
    w->armed = true;
    /* Else the thread wakes in vain once, which is cheaper than telling it each time that a guest
     * stops its timer and sets it anew. */
    bool sooner = at < w->sleeps_until || (fd >= 0 && fd != w->sleeps_on);
    pthread_mutex_unlock(&w->lock);
    if (sooner) nudge(w);
}
