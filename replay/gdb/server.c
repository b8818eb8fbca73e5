#include "replay/gdb/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "replay/gdb/stub.h"
#include "replay/gdb/wire.h"

#define TICK_MS 100
/* A client that takes nothing for so long is gone. */
#define SEND_TICKS 300

struct rv_gdb_server {
    int listener, client; /* -1: none */
    uint16_t port;
    struct rv_gdb_wire wire;
    struct rv_buf sent; /* the last packet, to be sent again */
    bool gone;          /* the client closed, or cannot be written to */
    const _Atomic int *stop;
};

/* ---- listening ---- */

int rv_gdb_server_new(struct rv_gdb_server **out, const char *address, uint16_t port,
                      struct rv_err *err) {
    char service[8];
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    if (!address) address = "127.0.0.1";
    snprintf(service, sizeof service, "%u", port);
    int r = getaddrinfo(address, service, &hints, &found);
    if (r)
        return rv_fail(err, RV_E_USAGE, "%s is no address to listen on: %s", address,
                       gai_strerror(r));
    struct rv_gdb_server *s = rv_alloc(sizeof *s);
    s->client = -1;
    s->listener = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    r = s->listener < 0;
    if (!r) setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (!r) r = bind(s->listener, found->ai_addr, found->ai_addrlen);
    if (!r) r = listen(s->listener, 1);
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound;
    memset(&bound, 0, sizeof bound);
    socklen_t n = sizeof bound;
    if (!r) r = getsockname(s->listener, &bound.any, &n);
    freeaddrinfo(found);
    if (r) {
        rv_fail_errno(err, RV_E_HOST, "cannot listen on %s port %u", address, port);
        rv_gdb_server_free(s);
        return RV_E_HOST;
    }
    s->port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
    *out = s;
    return 0;
}

void rv_gdb_server_free(struct rv_gdb_server *s) {
    if (!s) return;
    if (s->client >= 0) close(s->client);
    if (s->listener >= 0) close(s->listener);
    rv_gdb_wire_release(&s->wire);
    rv_buf_release(&s->sent);
    free(s);
}

uint16_t rv_gdb_server_port(const struct rv_gdb_server *s) { return s->port; }

/* ---- bytes ---- */

/* Takes what has come, waiting up to ms milliseconds for it. */
static void receive(struct rv_gdb_server *s, int ms) {
    uint8_t bytes[16384];
    struct pollfd p = {.fd = s->client, .events = POLLIN};
    if (s->gone || poll(&p, 1, ms) <= 0) return;
    ssize_t n = recv(s->client, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n > 0) {
        if (!rv_gdb_wire_feed(&s->wire, bytes, (size_t)n)) s->gone = true;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        s->gone = true;
    }
}

static void send_bytes(struct rv_gdb_server *s, const void *data, size_t n) {
    const uint8_t *p = data;
    for (unsigned ticks = 0; n && !s->gone;) {
        ssize_t done = send(s->client, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done > 0) {
            p += done;
            n -= (size_t)done;
            ticks = 0;
            continue;
        }
        if (done < 0 && errno != EAGAIN && errno != EINTR) s->gone = true;
        struct pollfd pfd = {.fd = s->client, .events = POLLOUT};
        if (!s->gone && poll(&pfd, 1, TICK_MS) == 0 &&
            (++ticks > SEND_TICKS || (s->stop && atomic_load(s->stop))))
            s->gone = true;
    }
}

static void send_packet(struct rv_gdb_server *s, const struct rv_buf *content) {
    rv_buf_clear(&s->sent);
    rv_gdb_frame(&s->sent, content->data, content->len);
    send_bytes(s, s->sent.data, s->sent.len);
}

bool rv_gdb_server_interrupted(void *ctx) {
    struct rv_gdb_server *s = ctx;
    if (s->stop && atomic_load(s->stop)) return true;
    if (s->client < 0) return false;
    receive(s, 0);
    return s->gone || rv_gdb_wire_interrupted(&s->wire);
}

/* Text for the user, while a packet is being handled. */
static void on_print(void *ctx, const char *text, size_t n) {
    struct rv_gdb_server *s = ctx;
    while (n) {
        size_t part = n < 1024 ? n : 1024;
        struct rv_buf o = {0};
        rv_buf_put_u8(&o, 'O');
        rv_gdb_put_hex(&o, text, part);
        send_packet(s, &o);
        rv_buf_release(&o);
        text += part;
        n -= part;
    }
}

/* ---- one client ---- */

static bool handle(struct rv_gdb_server *s, struct rv_gdb_stub *stub) {
    struct rv_buf reply = {0};
    if (s->wire.checked) send_bytes(s, "+", 1);
    enum rv_gdb_then then = rv_gdb_handle(stub, (const char *)s->wire.packet.data,
                                          s->wire.packet.len, &reply, on_print, s);
    if (then == RV_GDB_REPLY || then == RV_GDB_NO_ACK || (then == RV_GDB_BYE && reply.len))
        send_packet(s, &reply);
    if (then == RV_GDB_NO_ACK) s->wire.checked = false;
    rv_buf_release(&reply);
    return then != RV_GDB_BYE;
}

static void serve(struct rv_gdb_server *s, struct rv_gdb_stub *stub) {
    while (!s->gone && !(s->stop && atomic_load(s->stop))) {
        switch (rv_gdb_wire_next(&s->wire)) {
        case RV_GDB_NOTHING: receive(s, TICK_MS); break;
        case RV_GDB_PACKET:
            if (!handle(s, stub)) return;
            break;
        case RV_GDB_DAMAGED: send_bytes(s, "-", 1); break;
        case RV_GDB_NAK: send_bytes(s, s->sent.data, s->sent.len); break;
        case RV_GDB_INTERRUPT: break; /* it has stopped already */
        }
    }
}

static bool accept_client(struct rv_gdb_server *s) {
    struct pollfd p = {.fd = s->listener, .events = POLLIN};
    if (poll(&p, 1, TICK_MS) <= 0) return false;
    s->client = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    if (s->client < 0) return false;
    int one = 1;
    setsockopt(s->client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    rv_gdb_wire_release(&s->wire);
    rv_gdb_wire_init(&s->wire);
    rv_buf_clear(&s->sent);
    s->gone = false;
    return true;
}

int rv_gdb_server_run(struct rv_gdb_server *s, const struct rv_gdb_serve *how, struct rv_err *err) {
    (void)err;
    struct rv_gdb_stub *stub = rv_gdb_stub_new(how->timeline);
    s->stop = how->stop;
    while (!(s->stop && atomic_load(s->stop))) {
        if (!accept_client(s)) continue;
        rv_gdb_stub_connect(stub, how->view);
        serve(s, stub);
        close(s->client);
        s->client = -1;
        if (how->once) break;
    }
    rv_gdb_stub_free(stub);
    return 0;
}
