/* The references for two processes and for one: blocking sockets in C.

       blocking round_trip_server ADDRESS SIZE    answers, one connection at a time
       blocking round_trip_client ADDRESS SIZE    for each COUNT on its input, makes COUNT round trips
       blocking pair ADDRESS SIZE                 for each COUNT, makes COUNT times a send and a recv in one process
       blocking connecting ADDRESS SIZE           for each COUNT, makes and closes COUNT connections in one process
       blocking stream_receiver ADDRESS SIZE      for each COUNT CHECKED, receives COUNT times SIZE bytes
       blocking sender ADDRESS SIZE               for each COUNT, sends COUNT times SIZE bytes

   The first line that one prints is its address, or "ready". Then each line of numbers is answered by how many
   nanoseconds it took; for the last two, by when the receiver had all, and when the sender began. */
#include "common.h"
#include <fcntl.h>

enum { BUFFER_MIN = 65536 };

static char *message, *answer;
static size_t size;

static int next_line(long *first, long *second) {
    char line[100];
    if (!fgets(line, sizeof line, stdin)) return 0;
    if (sscanf(line, "%ld %ld", first, second) < 1) FAIL("no numbers: %s", line);
    return 1;
}

static void tell(int64_t nanoseconds) {
    printf("%ld\n", nanoseconds);
    fflush(stdout);
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

static void serve(const char *address) {
    int listener = listen_at(address);
    for (;;) {
        int descriptor = accept_from(listener);
        while (receive_all(descriptor, message, size)) send_all(descriptor, message, size);
        close(descriptor);
    }
}

static void round_trips(const char *address) {
    int descriptor = connect_to(address);
    long count, unused;
    ready();
    while (next_line(&count, &unused)) {
        int64_t start_ns = clock_ns(CLOCK_MONOTONIC);
        for (long at = 0; at < count; at++) {
            send_all(descriptor, message, size);
            if (!receive_all(descriptor, answer, size)) FAIL("the server has closed");
            if (memcmp(message, answer, size)) FAIL("other bytes came back than were sent");
        }
        tell(clock_ns(CLOCK_MONOTONIC) - start_ns);
    }
}

static void pair(const char *text) {
    int listener = listen_at(text);
    struct sockaddr_storage address;
    socklen_t address_size = sizeof address;
    CHECK(getsockname(listener, (struct sockaddr *)&address, &address_size));
    int connecting = CHECK(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(connect(connecting, (struct sockaddr *)&address, address_size));
    int accepted = accept_from(listener);
    if (address.ss_family == AF_INET) no_delay(connecting);
    CHECK(fcntl(connecting, F_SETFL, O_NONBLOCK));
    CHECK(fcntl(accepted, F_SETFL, O_NONBLOCK));
    long count, unused;
    while (next_line(&count, &unused)) {
        int64_t start_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        for (long at = 0; at < count; at++) {
            if (send(connecting, message, size, MSG_NOSIGNAL) != (ssize_t)size) FAIL("not all was sent");
            if (recv(accepted, answer, size, 0) != (ssize_t)size) FAIL("not all came");
        }
        int64_t elapsed_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start_ns;
        if (memcmp(message, answer, size)) FAIL("other bytes came than were sent");
        tell(elapsed_ns);
    }
}

static void make_connections(const char *text) {
    int listener = listen_at(text);
    struct sockaddr_storage address;
    socklen_t address_size = sizeof address;
    CHECK(getsockname(listener, (struct sockaddr *)&address, &address_size));
    long count, unused;
    while (next_line(&count, &unused)) {
        int64_t start_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        for (long at = 0; at < count; at++) {
            int connecting = CHECK(socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
            CHECK(connect(connecting, (struct sockaddr *)&address, address_size));
            if (address.ss_family == AF_INET) no_delay(connecting);
            int accepted = accept_from(listener);
            CHECK(close(connecting));
            CHECK(close(accepted));
        }
        tell(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start_ns);
    }
}

static void receive(const char *address) {
    int descriptor = accept_from(listen_at(address));
    size_t buffer_size = size < BUFFER_MIN ? BUFFER_MIN : size;
    char *buffer = allocate(buffer_size);
    long messages, checked;
    while (next_line(&messages, &checked)) {
        size_t due = (size_t)messages * size, received = 0;
        while (received < due) {
            ssize_t count = CHECK(recv(descriptor, buffer, buffer_size, 0));
            if (!count) FAIL("the sender has closed");
            for (ssize_t at = 0; checked && at < count; at++) {
                if (buffer[at] != message[(received + (size_t)at) % size]) FAIL("other bytes came than were sent");
            }
            received += (size_t)count;
        }
        tell(clock_ns(CLOCK_MONOTONIC));
    }
}

static void transmit(const char *address) {
    int descriptor = connect_to(address);
    long count, unused;
    ready();
    while (next_line(&count, &unused)) {
        int64_t start_ns = clock_ns(CLOCK_MONOTONIC);
        for (long at = 0; at < count; at++) send_all(descriptor, message, size);
        tell(start_ns);
    }
}

int main(int count, char **arguments) {
    end_with_parent();
    if (count != 4) FAIL("see the head of blocking.c for the arguments");
    size = (size_t)atol(arguments[3]);
    message = allocate(size);
    answer = allocate(size);
    for (size_t at = 0; at < size; at++) message[at] = (char)(at * 7 + 1);
    if (!strcmp(arguments[1], "round_trip_server")) serve(arguments[2]);
    if (!strcmp(arguments[1], "round_trip_client")) round_trips(arguments[2]);
    if (!strcmp(arguments[1], "pair")) pair(arguments[2]);
    if (!strcmp(arguments[1], "connecting")) make_connections(arguments[2]);
    if (!strcmp(arguments[1], "stream_receiver")) receive(arguments[2]);
    if (!strcmp(arguments[1], "sender")) transmit(arguments[2]);
    return 0;
}
