/* The references for two processes and for one: blocking sockets in C.

       blocking server ADDRESS SIZE      answers round trips, one connection at a time
       blocking client ADDRESS SIZE      for each COUNT on its input, so many round trips
       blocking pair ADDRESS SIZE        for each COUNT, so many times a send and a recv in one process
       blocking receiver ADDRESS SIZE    accepts one connection; for each TOTAL CHECKED, receives so many bytes
       blocking sender ADDRESS SIZE      for each COUNT, sends so many times SIZE bytes

   The first line that one prints is its address, or "ready". Then each line of numbers is answered by a line: how many
   nanoseconds it took; when the sender began; when the receiver had all, and the sum of the bytes if CHECKED is 1. */
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

static void tell(int64_t first, int64_t second) {
    printf("%ld %ld\n", first, second);
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
        tell(clock_ns(CLOCK_MONOTONIC) - start_ns, 0);
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
        int64_t start_ns = clock_ns(CLOCK_MONOTONIC);
        for (long at = 0; at < count; at++) {
            if (send(connecting, message, size, MSG_NOSIGNAL) != (ssize_t)size) FAIL("not all was sent");
            if (recv(accepted, answer, size, 0) != (ssize_t)size) FAIL("not all came");
        }
        int64_t elapsed_ns = clock_ns(CLOCK_MONOTONIC) - start_ns;
        if (memcmp(message, answer, size)) FAIL("other bytes came than were sent");
        tell(elapsed_ns, 0);
    }
}

static void receive(const char *address) {
    int descriptor = accept_from(listen_at(address));
    size_t buffer_size = size < BUFFER_MIN ? BUFFER_MIN : size;
    char *buffer = allocate(buffer_size);
    long total, checked;
    while (next_line(&total, &checked)) {
        long received = 0, sum = 0;
        while (received < total) {
            long wanted = total - received < (long)buffer_size ? total - received : (long)buffer_size;
            ssize_t count = CHECK(recv(descriptor, buffer, (size_t)wanted, 0));
            if (!count) FAIL("the sender has closed");
            if (checked) {
                for (ssize_t at = 0; at < count; at++) sum += (unsigned char)buffer[at];
            }
            received += count;
        }
        tell(clock_ns(CLOCK_MONOTONIC), sum);
    }
}

static void transmit(const char *address) {
    int descriptor = connect_to(address);
    long count, unused;
    ready();
    while (next_line(&count, &unused)) {
        int64_t start_ns = clock_ns(CLOCK_MONOTONIC);
        for (long at = 0; at < count; at++) send_all(descriptor, message, size);
        tell(start_ns, 0);
    }
}

int main(int count, char **arguments) {
    end_with_parent();
    if (count != 4) FAIL("see the head of blocking.c for the arguments");
    size = (size_t)atol(arguments[3]);
    message = allocate(size);
    answer = allocate(size);
    for (size_t at = 0; at < size; at++) message[at] = (char)(at * 7 + 1);
    if (!strcmp(arguments[1], "server")) serve(arguments[2]);
    if (!strcmp(arguments[1], "client")) round_trips(arguments[2]);
    if (!strcmp(arguments[1], "pair")) pair(arguments[2]);
    if (!strcmp(arguments[1], "receiver")) receive(arguments[2]);
    if (!strcmp(arguments[1], "sender")) transmit(arguments[2]);
    return 0;
}
