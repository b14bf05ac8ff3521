/* The echo server that shows the limit: one thread, epoll, level-triggered, one recv and one send for each event. What
   the system does not take at once is kept for the connection, which is not read from until that is sent. */
#include "common.h"
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

enum { EVENTS_MAX = 1024, READ_SIZE = 65536 };

struct connection {
    int descriptor;
    char *kept;
    size_t kept_size;
};

static int selector;
static char buffer[READ_SIZE];

static void watch(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    CHECK(epoll_ctl(selector, operation, connection->descriptor, &event));
}

static void accept_all(int listener) {
    for (;;) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        int descriptor = accept4(listener, (struct sockaddr *)&address, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (descriptor < 0 && errno == EAGAIN) return;
        if (descriptor < 0) FAIL("accept4: %s", strerror(errno));
        if (address.ss_family == AF_INET) no_delay(descriptor);
        struct connection *connection = allocate(sizeof *connection);
        connection->descriptor = descriptor;
        watch(connection, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void drop(struct connection *connection) {
    close(connection->descriptor);
    free(connection->kept);
    free(connection);
}

/* How much the system takes; -1 if the connection is severed. */
static ssize_t send_some(int descriptor, const char *bytes, size_t size) {
    ssize_t count = send(descriptor, bytes, size, MSG_NOSIGNAL);
    return count < 0 && errno == EAGAIN ? 0 : count;
}

static void send_kept(struct connection *connection) {
    ssize_t sent = send_some(connection->descriptor, connection->kept, connection->kept_size);
    if (sent < 0) return drop(connection);
    connection->kept_size -= (size_t)sent;
    memmove(connection->kept, connection->kept + sent, connection->kept_size);
    if (!connection->kept_size) watch(connection, EPOLL_CTL_MOD, EPOLLIN);
}

static void echo(struct connection *connection) {
    ssize_t size = recv(connection->descriptor, buffer, READ_SIZE, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) return drop(connection);
    ssize_t sent = send_some(connection->descriptor, buffer, (size_t)size);
    if (sent < 0) return drop(connection);
    if (sent < size) {
        if (!connection->kept) connection->kept = allocate(READ_SIZE);
        connection->kept_size = (size_t)(size - sent);
        memcpy(connection->kept, buffer + sent, connection->kept_size);
        watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
    }
}

int main(int count, char **arguments) {
    end_with_parent();
    if (count != 3) FAIL("epoll_server echo_server ADDRESS");
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit));
    selector = CHECK(epoll_create1(EPOLL_CLOEXEC));
    int listener = listen_at(arguments[2]);
    struct connection server = {.descriptor = listener};
    struct epoll_event events[EVENTS_MAX];
    CHECK(fcntl(listener, F_SETFL, O_NONBLOCK));
    watch(&server, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(selector, events, EVENTS_MAX, -1);
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) FAIL("epoll_wait: %s", strerror(errno));
        for (int at = 0; at < ready; at++) {
            struct connection *connection = events[at].data.ptr;
            if (connection == &server) {
                accept_all(listener);
            } else if (connection->kept_size) {
                send_kept(connection);
            } else {
                echo(connection);
            }
        }
    }
}
