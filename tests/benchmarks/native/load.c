/* The load generator for echo servers: sends requests over many connections, one under way on each, and checks every
   byte that comes back.

       load echo ADDRESS CONNECTIONS SIZE WARMUP_NS MEASURED_NS SERVER_PID    keeps its connections
       load connect ADDRESS CONNECTIONS SIZE WARMUP_NS MEASURED_NS SERVER_PID a new connection for each request
       load random ADDRESS CONNECTIONS SIZE WARMUP_NS MEASURED_NS SERVER_PID RATE
                                                                              RATE requests a second, at random times
       load idle ADDRESS CONNECTIONS SIZE                                     one request on each, then waits

   It prints how many requests were answered in the measured part, how long that took, how much processor time the
   server had for it, user and system, and the median time of an answer. "idle" prints a line when all connections are
   made, and closes them at the end of its input; with SIZE 0 it only makes them.

   "random" leaves exponential gaps between requests, and sends each over any connection that has none under way. It
   sleeps until the next request is due, by a precise timer. The time of an answer begins when the generator sends the
   request, not when the request was due: the server is not to blame for a generator that wakes late. But where no
   connection was free, it begins when the request was due.

   The processor time is that of the server's own clock (clock_getcpuclockid). Linux brings it up to date when the
   process goes to sleep, and else only at its ticks, milliseconds apart. So the measured part begins and ends with a
   server that sleeps and has answered everything. */
#include "common.h"
#include <math.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>

enum { EVENTS_MAX = 256, SHIFTS = 4096, SOURCES = 16384, SILENCE_MAX_MS = 10000 };

struct connection {
    int descriptor;
    uint32_t number, requests;
    /* What of the request under way is sent, and what of its answer has come. */
    size_t sent, received;
    int waits_for_space;
    int64_t began_ns;
};

/* How long each answer of the measured part took. */
static int64_t *times_ns;
static size_t times_count, times_max;

static const char *address_text;
static size_t size;
static char *pattern, *scratch;
static int selector;

/* The bytes of a request. Those of another one, or of another connection, differ. */
static const char *bytes_of(const struct connection *connection) {
    return pattern + (connection->number * 31 + connection->requests * 7) % SHIFTS;
}

static void make_pattern(void) {
    uint32_t state = 2463534242;
    pattern = allocate(size + SHIFTS);
    scratch = allocate(size + 1);
    for (size_t at = 0; at < size + SHIFTS; at++) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        pattern[at] = (char)state;
    }
}

static void watch(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    CHECK(epoll_ctl(selector, operation, connection->descriptor, &event));
}

static void open_connection(struct connection *connection) {
    static uint32_t source;
    struct sockaddr_storage address;
    socklen_t address_size = parse_address(address_text, &address);
    int descriptor = CHECK(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (address.ss_family == AF_INET) {
        /* From many addresses of this machine: the ports of one are used up soon, for they rest after use. */
        int on = 1;
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + source++ % SOURCES);
        CHECK(setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on));
        CHECK(bind(descriptor, (struct sockaddr *)&from, sizeof from));
        no_delay(descriptor);
    }
    CHECK(connect(descriptor, (struct sockaddr *)&address, address_size));
    connection->descriptor = descriptor;
    connection->waits_for_space = 0;
    watch(connection, EPOLL_CTL_ADD, EPOLLIN);
}

static void send_more(struct connection *connection) {
    const char *bytes = bytes_of(connection);
    while (connection->sent < size) {
        ssize_t count = send(connection->descriptor, bytes + connection->sent, size - connection->sent,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) FAIL("sending on connection %u: %s", connection->number, strerror(errno));
        connection->sent += (size_t)count;
    }
    int waits = connection->sent < size;
    if (waits != connection->waits_for_space) {
        watch(connection, EPOLL_CTL_MOD, EPOLLIN | (waits ? EPOLLOUT : 0));
        connection->waits_for_space = waits;
    }
}

static void start_request(struct connection *connection, int64_t now_ns) {
    connection->began_ns = now_ns;
    connection->requests++;
    connection->sent = connection->received = 0;
    send_more(connection);
}

/* Whether the answer is complete with what has come. */
static int receive_more(struct connection *connection) {
    ssize_t count = recv(connection->descriptor, scratch, size - connection->received + 1, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return 0;
    if (count < 0) FAIL("receiving on connection %u: %s", connection->number, strerror(errno));
    if (!count) FAIL("the server closed connection %u in request %u", connection->number, connection->requests);
    if (connection->received + (size_t)count > connection->sent) FAIL("more came back than was sent");
    if (memcmp(scratch, bytes_of(connection) + connection->received, (size_t)count)) {
        FAIL("connection %u, request %u: other bytes came back than were sent", connection->number,
             connection->requests);
    }
    connection->received += (size_t)count;
    return connection->received == size;
}

static void keep_time(int64_t time_ns) {
    if (times_count == times_max) {
        times_max = times_max ? 2 * times_max : 4096;
        times_ns = realloc(times_ns, times_max * sizeof *times_ns);
        if (!times_ns) FAIL("no memory: %zu times", times_max);
    }
    times_ns[times_count++] = time_ns;
}

static int compare_times(const void *left, const void *right) {
    int64_t first = *(const int64_t *)left, second = *(const int64_t *)right;
    return (first > second) - (first < second);
}

static int64_t median_time_ns(void) {
    if (!times_count) FAIL("nothing was asked in the measured part");
    qsort(times_ns, times_count, sizeof *times_ns, compare_times);
    return times_ns[times_count / 2];
}

static int await_events(struct epoll_event *events) {
    int ready = epoll_wait(selector, events, EVENTS_MAX, SILENCE_MAX_MS);
    if (ready < 0 && errno == EINTR) return 0;
    if (ready < 0) FAIL("epoll_wait: %s", strerror(errno));
    if (!ready) FAIL("nothing has come back for %d ms", SILENCE_MAX_MS);
    return ready;
}

/* Sends and receives what it can. Returns whether the answer is complete. */
static int advance(struct connection *connection, uint32_t happened) {
    if (happened & EPOLLOUT) send_more(connection);
    return happened & ~EPOLLOUT && receive_more(connection);
}

/* Requests on all connections, one after the other on each, until the time is up and all are answered. */
static uint64_t make_requests(struct connection *connections, uint32_t connections_count, int64_t duration_ns,
                              int reconnects) {
    int64_t start_ns = clock_ns(CLOCK_MONOTONIC);
    int time_is_up = !duration_ns;
    uint64_t answered = 0;
    uint32_t under_way = connections_count;
    for (uint32_t at = 0; at < connections_count; at++) start_request(&connections[at], start_ns);
    while (under_way) {
        struct epoll_event events[EVENTS_MAX];
        int ready = await_events(events);
        for (int at = 0; at < ready; at++) {
            struct connection *connection = events[at].data.ptr;
            if (!advance(connection, events[at].events)) continue;
            int64_t now_ns = clock_ns(CLOCK_MONOTONIC);
            keep_time(now_ns - connection->began_ns);
            answered++;
            if (reconnects) {
                CHECK(close(connection->descriptor));
                open_connection(connection);
            }
            if (time_is_up) {
                under_way--;
            } else {
                start_request(connection, now_ns);
            }
        }
        if (!time_is_up) time_is_up = clock_ns(CLOCK_MONOTONIC) - start_ns >= duration_ns;
    }
    return answered;
}

/* Nanoseconds until the next request. The program makes the same sequence each time it runs. */
static int64_t random_gap_ns(double rate) {
    static uint64_t state = 88172645463325252;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    /* Over 0, at most 1. */
    double uniform = ((double)(state >> 11) + 1) / (double)(UINT64_C(1) << 53);
    return (int64_t)(-log(uniform) * 1e9 / rate);
}

static void set_timer(int timer, int64_t at_ns) {
    struct itimerspec when = {.it_value = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000}};
    CHECK(timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL));
}

/* Requests at random over connections that have none under way, until the time is up and all are answered. */
static uint64_t make_random_requests(struct connection *connections, uint32_t connections_count, int64_t duration_ns,
                                     double rate) {
    static int timer = -1;
    if (timer < 0) {
        /* Edge-triggered, so that an expiration that nobody reads is reported once only. */
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
        timer = CHECK(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
        CHECK(epoll_ctl(selector, EPOLL_CTL_ADD, timer, &event));
    }
    struct connection **resting = allocate(connections_count * sizeof *resting);
    uint32_t resting_count = connections_count;
    for (uint32_t at = 0; at < connections_count; at++) resting[at] = &connections[at];
    uint64_t answered = 0;
    int64_t now_ns = clock_ns(CLOCK_MONOTONIC), end_ns = now_ns + duration_ns;
    int64_t due_ns = now_ns + random_gap_ns(rate), set_ns = 0, freed_ns = 0;
    while (due_ns < end_ns || resting_count < connections_count) {
        for (; due_ns < end_ns && resting_count; due_ns += random_gap_ns(rate)) {
            now_ns = clock_ns(CLOCK_MONOTONIC);
            if (due_ns > now_ns) break;
            uint32_t chosen = (uint32_t)(due_ns % resting_count);
            struct connection *connection = resting[chosen];
            resting[chosen] = resting[--resting_count];
            /* A request that found no free connection has waited since it was due. */
            start_request(connection, due_ns < freed_ns ? due_ns : now_ns);
        }
        if (due_ns < end_ns && resting_count && set_ns != due_ns) set_timer(timer, set_ns = due_ns);
        struct epoll_event events[EVENTS_MAX];
        int ready = await_events(events);
        for (int at = 0; at < ready; at++) {
            struct connection *connection = events[at].data.ptr;
            if (!connection || !advance(connection, events[at].events)) continue;
            now_ns = clock_ns(CLOCK_MONOTONIC);
            keep_time(now_ns - connection->began_ns);
            answered++;
            if (!resting_count) freed_ns = now_ns;
            resting[resting_count++] = connection;
        }
    }
    free(resting);
    return answered;
}

/* The processor time of a server that has nothing left to do, once it sleeps. */
static int64_t server_time_ns(int pid) {
    char pathname[40], line[256];
    clockid_t clock;
    snprintf(pathname, sizeof pathname, "/proc/%d/stat", pid);
    if ((errno = clock_getcpuclockid(pid, &clock))) FAIL("the server's clock: %s", strerror(errno));
    for (int64_t start_ns = clock_ns(CLOCK_MONOTONIC);;) {
        FILE *file = fopen(pathname, "r");
        if (!file || !fgets(line, sizeof line, file)) FAIL("%s can't be read", pathname);
        fclose(file);
        /* Behind the name in parentheses, which may contain parentheses too. */
        if (strrchr(line, ')')[2] == 'S') return clock_ns(clock);
        if (clock_ns(CLOCK_MONOTONIC) - start_ns > SILENCE_MAX_MS * INT64_C(1000000)) FAIL("the server does not rest");
        usleep(50);
    }
}

/* The server closes its end too, so that no work is left to it when the next one is measured. */
static void close_connection(struct connection *connection) {
    char byte;
    CHECK(shutdown(connection->descriptor, SHUT_WR));
    ssize_t count = CHECK(recv(connection->descriptor, &byte, 1, 0));
    if (count) FAIL("more came back than was sent");
    CHECK(close(connection->descriptor));
}

int main(int count, char **arguments) {
    end_with_parent();
    if (count < 5) FAIL("see the head of load.c for the arguments");
    int idle = !strcmp(arguments[1], "idle");
    int at_random = !strcmp(arguments[1], "random"), reconnects = !strcmp(arguments[1], "connect");
    address_text = arguments[2];
    uint32_t connections_count = (uint32_t)atoi(arguments[3]);
    size = (size_t)atol(arguments[4]);
    if (!idle && count != 8 + at_random) FAIL("see the head of load.c for the arguments");

    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit));
    make_pattern();
    selector = CHECK(epoll_create1(EPOLL_CLOEXEC));
    struct connection *connections = allocate(connections_count * sizeof *connections);
    for (uint32_t at = 0; at < connections_count; at++) {
        connections[at].number = at;
        open_connection(&connections[at]);
    }

    if (idle) {
        if (size) make_requests(connections, connections_count, 0, 0);
        puts("ready");
        fflush(stdout);
        while (getchar() != EOF) {}
        return 0;
    }
    int pid = atoi(arguments[7]);
    double rate = at_random ? atof(arguments[8]) : 0;
    uint64_t answered = 0;
    int64_t began_server_ns = 0, began_ns = 0;
    /* The first part is the warm-up. The second is measured. */
    for (int part = 0; part < 2; part++) {
        times_count = 0;
        began_server_ns = server_time_ns(pid), began_ns = clock_ns(CLOCK_MONOTONIC);
        int64_t duration_ns = atoll(arguments[5 + part]);
        answered = at_random ? make_random_requests(connections, connections_count, duration_ns, rate)
                             : make_requests(connections, connections_count, duration_ns, reconnects);
    }
    int64_t elapsed_ns = clock_ns(CLOCK_MONOTONIC) - began_ns, server_ns = server_time_ns(pid) - began_server_ns;
    for (uint32_t at = 0; at < connections_count; at++) close_connection(&connections[at]);
    printf("%lu %ld %ld %ld\n", answered, elapsed_ns, server_ns, median_time_ns());
    return 0;
}
