/* What the C programs of the benchmarks share. A failure ends the program with a message: no figure comes from a run
   that went wrong. */
#ifndef BENCHMARKS_COMMON_H
#define BENCHMARKS_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

#define FAIL(...)                                                                                                      \
    do {                                                                                                               \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
        exit(1);                                                                                                       \
    } while (0)
/* The call's result, which is no failure of the system. */
#define CHECK(call)                                                                                                    \
    ({                                                                                                                 \
        __typeof__(call) result_ = (call);                                                                             \
        if (result_ < 0) FAIL("%s: %s", #call, strerror(errno));                                                       \
        result_;                                                                                                       \
    })

static inline int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    CHECK(clock_gettime(clock, &now));
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static inline void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) FAIL("no memory: %zu bytes", size);
    return memory;
}

/* No program of a benchmark outlives the one that runs it. */
static inline void end_with_parent(void) {
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
    signal(SIGPIPE, SIG_IGN);
}

static inline void no_delay(int descriptor) {
    int on = 1;
    CHECK(setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
}

/* The address of "local:PATHNAME", "tcp:PORT" of this machine, or "tcp" for a port that the system chooses. */
static inline socklen_t parse_address(const char *text, struct sockaddr_storage *address) {
    memset(address, 0, sizeof *address);
    if (!strncmp(text, "local:", 6)) {
        struct sockaddr_un *local = (struct sockaddr_un *)address;
        local->sun_family = AF_UNIX;
        if (strlen(text + 6) >= sizeof local->sun_path) FAIL("too long: %s", text);
        strcpy(local->sun_path, text + 6);
        return sizeof *local;
    }
    if (strncmp(text, "tcp", 3)) FAIL("no address: %s", text);
    struct sockaddr_in *ipv4 = (struct sockaddr_in *)address;
    ipv4->sin_family = AF_INET;
    ipv4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ipv4->sin_port = htons(text[3] ? atoi(text + 4) : 0);
    return sizeof *ipv4;
}

/* A listening socket, whose address is printed: the first line of every server. */
static inline int listen_at(const char *text) {
    struct sockaddr_storage address;
    socklen_t size = parse_address(text, &address);
    int listener = CHECK(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(bind(listener, (struct sockaddr *)&address, size));
    CHECK(listen(listener, BACKLOG));
    if (address.ss_family == AF_UNIX) {
        printf("%s\n", text);
    } else {
        CHECK(getsockname(listener, (struct sockaddr *)&address, &size));
        printf("tcp:%d\n", ntohs(((struct sockaddr_in *)&address)->sin_port));
    }
    fflush(stdout);
    return listener;
}

static inline int connect_to(const char *text) {
    struct sockaddr_storage address;
    socklen_t size = parse_address(text, &address);
    int descriptor = CHECK(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(connect(descriptor, (struct sockaddr *)&address, size));
    if (address.ss_family == AF_INET) no_delay(descriptor);
    return descriptor;
}

static inline int accept_from(int listener) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    int descriptor = CHECK(accept4(listener, (struct sockaddr *)&address, &size, SOCK_CLOEXEC));
    if (address.ss_family == AF_INET) no_delay(descriptor);
    return descriptor;
}

/* All of it, on a blocking socket. */
static inline void send_all(int descriptor, const char *bytes, size_t size) {
    while (size) {
        ssize_t count = CHECK(send(descriptor, bytes, size, MSG_NOSIGNAL));
        bytes += count;
        size -= (size_t)count;
    }
}

/* All of it, on a blocking socket; 0 if the other end has closed before the first byte. */
static inline int receive_all(int descriptor, char *bytes, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t count = CHECK(recv(descriptor, bytes + done, size - done, 0));
        if (!count && !done) return 0;
        if (!count) FAIL("the other end closed after %zu of %zu bytes", done, size);
        done += (size_t)count;
    }
    return 1;
}

#endif
