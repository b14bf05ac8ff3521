/*
 * Sends a string to an echo server and prints what comes back: examples/echo_client.py over again, in C99 that is also
 * C++, on the library alone.
 *
 * In the top directory, with any C compiler (here the one that comes with Zig):
 *
 *     python -m ziglang build --prefix build
 *     python -m ziglang cc -std=c99 -Wall -Wextra -pedantic -I native/include -o build/echo_client examples/c/echo_client.c \
 *         -L build/lib -lbbipc -Wl,-rpath,"$PWD/build/lib"
 *
 * With a server running (python examples/echo_server.py local:/tmp/echo):
 *
 *     build/echo_client "Hello World" local:/tmp/echo
 *
 * On Windows, where build\bin\bbipc.dll has to lie beside the program, or be on the PATH:
 *
 *     python -m ziglang cc -std=c99 -Wall -Wextra -pedantic -I native/include -o build/bin/echo_client.exe ^
 *         examples/c/echo_client.c -L build/lib -lbbipc -lshell32
 *     build\bin\echo_client "Hello World" local:echo
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <shellapi.h> /* CommandLineToArgvW, in shell32 */
#endif

#include "bbipc.h"

#define TIMEOUT_NS (10 * (int64_t)1000000000)
#define ATTEMPTS 3
#define DEFAULT_ADDRESS "tcp:127.0.0.1:12345"

/* What names a local server: a pipe on Windows, a file elsewhere. */
#ifdef _WIN32
#define LOCAL_NAME "NAME"
#else
#define LOCAL_NAME "PATH"
#endif

/* One clear line, and the end. */
static void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fflush(stdout);
    fputs("echo_client: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

#ifdef _WIN32

/* The library takes UTF-8, as it does everywhere, and Windows speaks UTF-16. */
static char *utf8_of(const wchar_t *text)
{
    int size = WideCharToMultiByte(CP_UTF8, 0, text, -1, NULL, 0, NULL, NULL);
    char *utf8 = (char *)malloc((size_t)size);

    if (size == 0 || utf8 == NULL)
        fail("no memory");
    WideCharToMultiByte(CP_UTF8, 0, text, -1, utf8, size, NULL, NULL);
    return utf8;
}

/* main()'s arguments have lost what the user's code page has not: these are whole. */
static char **utf8_arguments(int *count)
{
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), count);
    char **arguments;
    int i;

    if (wide == NULL)
        fail("no memory");
    arguments = (char **)malloc((size_t)*count * sizeof *arguments);
    if (arguments == NULL)
        fail("no memory");
    for (i = 0; i < *count; i++)
        arguments[i] = utf8_of(wide[i]);
    LocalFree(wide);
    return arguments;
}

/* What the system says of its code. */
static const char *system_reason(int32_t system_code)
{
    wchar_t text[512];
    DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    DWORD size = FormatMessageW(flags, NULL, (DWORD)system_code, 0, text, 511, NULL);

    while (size > 0 && (text[size - 1] == L'\n' || text[size - 1] == L'\r' || text[size - 1] == L' '))
        size--;
    text[size] = L'\0';
    return size > 0 ? utf8_of(text) : "the system has no words for it";
}

#else

static const char *system_reason(int32_t system_code)
{
    return strerror(system_code);
}

#endif

/* What the system says where it has a reason of its own, what the library says elsewhere. */
static const char *reason(bbipc_result result, int32_t system_code)
{
    if (result == BBIPC_ERROR_SYSTEM || result == BBIPC_ERROR_NO_LOCAL_SERVER)
        return system_reason(system_code);
    return bbipc_error_message(result);
}

/* The answer of a call that must succeed. */
static bbipc_result check(bbipc_result result, int32_t system_code, const char *what, const char *address)
{
    if (result < 0)
        fail("cannot %s %s: %s", what, address, reason(result, system_code));
    return result;
}

/* A number of at most `max` in decimal digits, and where they end. NULL if there is none. */
static const char *parse_number(const char *text, unsigned max, unsigned *number)
{
    const char *start = text;

    *number = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        *number = *number * 10 + (unsigned)(*text - '0');
        if (*number > max)
            return NULL;
    }
    return text == start ? NULL : text;
}

/* HOST:PORT, where HOST is a dotted quad: the library looks up no names, getaddrinfo(3) does. */
static int parse_tcp_address(const char *text, uint32_t *host_address, uint16_t *port)
{
    unsigned number;
    int part;

    *host_address = 0;
    for (part = 0; part < 4; part++) {
        text = parse_number(text, 255, &number);
        if (text == NULL || *text++ != (part < 3 ? '.' : ':'))
            return 0;
        *host_address = *host_address << 8 | number;
    }
    text = parse_number(text, 65535, &number);
    *port = (uint16_t)number;
    return text != NULL && *text == '\0';
}

/* A stream whose connection may still be under way. */
static bbipc_handle start_to_connect(const char *address)
{
    int32_t code = 0;
    bbipc_result stream;
    uint32_t host_address;
    uint16_t port;

    if (strncmp(address, "local:", 6) == 0 && address[6] != '\0') {
        const char *pathname = address + 6;

        stream = bbipc_connect_to_local_server(pathname, strlen(pathname), &code);
    } else if (strncmp(address, "tcp:", 4) == 0 && parse_tcp_address(address + 4, &host_address, &port)) {
        stream = bbipc_connect_to_ipv4_tcp_server(host_address, port, 0, 0, 0, &code);
    } else {
        fail("\"%s\" is no address: write tcp:HOST:PORT, with the host's IPv4 address, or local:" LOCAL_NAME, address);
        return 0;
    }
    return check(stream, code, "connect to", address);
}

/* The events that hold, or 0 after ten seconds. */
static uint32_t wait_for(bbipc_handle stream, uint32_t events, const char *address)
{
    int32_t code = 0;
    bbipc_result happened;

    do {
        happened = bbipc_poll_socket(stream, events, TIMEOUT_NS, NULL, &code);
    } while (happened == BBIPC_ERROR_INTERRUPTED); /* no signal has a handler here, so the time may begin again */
    return (uint32_t)check(happened, code, "wait for", address);
}

static bbipc_handle connect_to(const char *address)
{
    bbipc_handle stream = start_to_connect(address);
    int32_t code = 0;

    if (wait_for(stream, BBIPC_DETERMINED, address) == 0)
        fail("cannot connect to %s: no answer in ten seconds", address);
    if (check(bbipc_connection_error(stream, &code), code, "connect to", address) != 0)
        fail("cannot connect to %s: %s", address, system_reason(code));
    return stream;
}

/* Sends the data and prints as many bytes as the server answers. */
static void echo(bbipc_handle stream, const char *data, uint64_t size, const char *address)
{
    static char buffer[100000];
    uint64_t written = 0;
    uint64_t answered = 0;
    int attempts = 0;

    while (answered < size) {
        /* Both at once: a server whose answers nobody takes would stop reading. */
        uint32_t events = BBIPC_DATA_AVAILABLE | BBIPC_END_OF_DATA | (written < size ? BBIPC_WRITE_SPACE : 0u);
        uint32_t happened = wait_for(stream, events, address);
        int32_t code = 0;

        if (happened & BBIPC_DATA_AVAILABLE) {
            bbipc_result count = bbipc_read(stream, buffer, 0, sizeof buffer, 0, &code);

            answered += (uint64_t)check(count, code, "read from", address);
            fwrite(buffer, 1, (size_t)count, stdout);
        } else if (happened & BBIPC_END_OF_DATA) {
            fail("the server closed the connection after %lu of %lu bytes", (unsigned long)answered,
                 (unsigned long)size);
        }
        if (happened & BBIPC_WRITE_SPACE)
            written += (uint64_t)check(bbipc_write(stream, data, written, size, &code), code, "write to", address);
        attempts = happened != 0 ? 0 : attempts + 1;
        if (attempts == ATTEMPTS)
            fail("the echo server does not work: it answered %lu of %lu bytes", (unsigned long)answered,
                 (unsigned long)size);
    }
}

int main(int argument_count, char **arguments)
{
    const char *text;
    const char *address;
    bbipc_handle stream;

#ifdef _WIN32
    arguments = utf8_arguments(&argument_count);
    SetConsoleOutputCP(CP_UTF8);
#endif
    text = argument_count > 1 ? arguments[1] : "Hello World";
    address = argument_count > 2 ? arguments[2] : DEFAULT_ADDRESS;
    if (strcmp(bbipc_version(), BBIPC_VERSION) != 0)
        fail("compiled for version %s of the library, but found %s", BBIPC_VERSION, bbipc_version());
    if (argument_count > 3 || strcmp(text, "--help") == 0) {
        printf("usage: echo_client [STRING [tcp:HOST:PORT | local:" LOCAL_NAME "]]\n");
        return argument_count > 3;
    }
    stream = connect_to(address);
    echo(stream, text, strlen(text), address);
    putchar('\n');
    bbipc_close(stream);
    return 0;
}
