/*
 * bbipc: one non-blocking interface for talking between processes over TCP and local streams.
 *
 * This header is the C interface and its documentation. It re-creates, for C and for every language that can call C,
 * the Common Lisp system "Basic Binary IPC"; the name that a function had there stands in [brackets].
 *
 *
 * Results
 *
 *   Every function that can fail returns a bbipc_result: zero or more is success (and the answer, where the function
 *   has one: a handle, a number of bytes, a set of events), less than zero is one of the BBIPC_ERROR_ codes below.
 *   Nothing is reported through errno. Where a function takes `system_code`, the operating system's own code (errno's
 *   values on POSIX systems, those of GetLastError and WSAGetLastError on Windows) is stored there if the result is
 *   BBIPC_ERROR_SYSTEM, BBIPC_ERROR_NO_LOCAL_SERVER, BBIPC_ERROR_SERVER_RUNNING or BBIPC_ERROR_NO_CONNECTION (and by
 *   bbipc_connection_error: see there); it is left alone otherwise, and may be NULL.
 *
 * Handles and ownership
 *
 *   Servers, streams and pollers are named by handles: numbers greater than zero, never addresses, and never used again
 *   in a process's life. Whoever gets a handle owns it and gives it back with bbipc_close. A handle that is closed or
 *   was never given can't crash the process: it is BBIPC_ERROR_INVALID_HANDLE, or, as the socket of
 *   bbipc_unmonitor_socket and bbipc_monitored_events, one that isn't monitored.
 *   Buffers stay the caller's; none is kept after a call returns.
 *
 * Threads
 *
 *   Every function may be called from any thread, also with the same handle at the same time. bbipc_close ends the
 *   waits of other threads on that handle: they return BBIPC_ERROR_INVALID_HANDLE. The descriptor below is closed when
 *   the last call that uses it has returned, so its number is never reused under a thread. Two threads that write to
 *   one stream at once may find their pieces interleaved, but their messages stay whole. No function may be called from
 *   a signal handler.
 *
 * Blocking and signals
 *
 *   Nothing blocks except functions with a timeout_ns, for as long as that says. When a signal handler has run in the
 *   waiting thread, on Windows when Ctrl-C or Ctrl-Break was pressed (in every waiting thread, a moment before the
 *   program's own handlers run), they return BBIPC_ERROR_INTERRUPTED; call again with the time that is left, and with
 *   the same place. With a timeout_ns of 0 they never do. No function raises SIGPIPE. On Windows bbipc_finish_writes
 *   waits too, and nothing interrupts it.
 *
 * Fork
 *
 *   Descriptors are close-on-exec. A child made by fork() may use the servers and streams that it inherits. A poller
 *   belongs to the process that made it: in another it can only be closed. Arrange, with pthread_atfork(3) for example,
 *   that bbipc_before_fork, bbipc_after_fork_in_parent and bbipc_after_fork_in_child are called around every fork()
 *   whose child uses this library. They may be registered more than once.
 *
 * Units
 *
 *   Times are nanoseconds, sizes are bytes, IPv4 addresses and ports are numbers in the host's byte order: 127.0.0.1 is
 *   0x7f000001. IPv6 addresses are 16 bytes in the order of the network, as in6_addr has them.
 */
#ifndef BBIPC_H
#define BBIPC_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. The library's own is bbipc_version(); they must be the same. */
#define BBIPC_VERSION "0.1.0"

typedef int64_t bbipc_handle;
typedef int64_t bbipc_result;

/* ---- Errors ---- */

#define BBIPC_ERROR_INVALID_ARGUMENT (-1)  /* an argument is outside what the function's comment allows */
#define BBIPC_ERROR_INVALID_HANDLE (-2)    /* no such handle: closed, or never given */
#define BBIPC_ERROR_WRONG_KIND (-3)        /* the handle is of another kind: a server where a stream is needed, ... */
#define BBIPC_ERROR_WRONG_EVENTS (-4)      /* the socket's kind can't have one of the events */
#define BBIPC_ERROR_SYSTEM (-5)            /* the system refused: see *system_code */
#define BBIPC_ERROR_OUT_OF_MEMORY (-6)     /* no memory, or more handles than the library can count */
#define BBIPC_ERROR_NO_CONNECTION (-7)     /* no connection waits to be accepted */
#define BBIPC_ERROR_NO_LOCAL_SERVER (-8)   /* nothing listens at the pathname */
#define BBIPC_ERROR_NAME_TOO_LONG (-9)     /* the pathname is longer than bbipc_local_pathname_limit() */
#define BBIPC_ERROR_INTERRUPTED (-10)      /* a signal handler ran: call again with the time that is left */
#define BBIPC_ERROR_ALREADY_MONITORED (-11) /* the poller monitors the socket already */
#define BBIPC_ERROR_NOT_MONITORED (-12)    /* the poller does not monitor the socket */
#define BBIPC_ERROR_WRONG_PROCESS (-13)    /* the poller belongs to another process */
#define BBIPC_ERROR_UNSUPPORTED (-14)      /* this system can't do it */
#define BBIPC_ERROR_WOKEN (-15)            /* another thread ended the wait: see the waiting functions */
#define BBIPC_ERROR_END_OF_DATA (-16)      /* every byte has been read and no more will come */
#define BBIPC_ERROR_MESSAGE_TOO_LARGE (-17) /* longer than the bound, or no message at all: see bbipc_receive_message */
#define BBIPC_ERROR_MESSAGE_CUT (-18)      /* the remote end has gone in the middle of a message */
#define BBIPC_ERROR_SERVER_RUNNING (-19)   /* another server lives at the pathname, or is about to */

/* ---- Events ---- */

/* A set of events is a uint32_t, the sum of these. Each says when it holds; every query reports an event for as long
 * as it holds (level-triggered). A server has BBIPC_CONNECTION_AVAILABLE, a stream all the others. */

/* bbipc_accept_connection would return a stream. [connection-available-p] */
#define BBIPC_CONNECTION_AVAILABLE 0x001u
/* The attempt to connect has ended, either way; for ever after. [determinedp] */
#define BBIPC_DETERMINED 0x002u
/* The connection stands: established, not failed, and the remote end not gone. [connection-succeeded-p] */
#define BBIPC_CONNECTION_SUCCEEDED 0x004u
/* It could not be established, or the remote end is gone. [connection-failed-p] */
#define BBIPC_CONNECTION_FAILED 0x008u
/* At least one byte can be read now, also when the remote end has gone. [data-available-p] */
#define BBIPC_DATA_AVAILABLE 0x010u
/* Established, remote end not gone, and a write would take at least one byte. [ready-to-write-p] Systems tell of room
 * late, when a good part of their buffer is free again; a write may take bytes before. */
#define BBIPC_READY_TO_WRITE 0x020u
/* The remote end has closed, has finished sending, or the connection is severed. [remote-disconnected-p] */
#define BBIPC_REMOTE_DISCONNECTED 0x040u
/* Every byte has been read and no more will come. */
#define BBIPC_END_OF_DATA 0x080u
/* A write would take at least one byte, also when the remote end has finished sending. */
#define BBIPC_WRITE_SPACE 0x100u
/* Nothing travels any more, in either direction: reset, timed out, finished at both ends, or never established. Whoever
 * waits for BBIPC_WRITE_SPACE alone asks for this too, or would wait for ever when the remote end dies. */
#define BBIPC_CONNECTION_SEVERED 0x200u
/* bbipc_receive_message would return at once, with a message or with an error. Not at an end between two messages: that
 * is BBIPC_END_OF_DATA. A wait for this reads a message that is incomplete into the stream, and goes on sleeping. */
#define BBIPC_MESSAGE_AVAILABLE 0x400u
/* bbipc_send_message would take a message: nothing of an earlier one is left, and a write would take at least a byte.
 * Ask for BBIPC_CONNECTION_SEVERED too, as with BBIPC_WRITE_SPACE. */
#define BBIPC_MESSAGE_SPACE 0x800u

#define BBIPC_SERVER_EVENTS 0x001u
#define BBIPC_STREAM_EVENTS 0xffeu

/* ---- The library ---- */

/* The library's version, like BBIPC_VERSION. The string is the library's, for ever. */
const char *bbipc_version(void);

/* What a BBIPC_ERROR_ code means, in English. The string is the library's, for ever. Never NULL. */
const char *bbipc_error_message(bbipc_result error);

/* How many handles are open in this process. */
uint64_t bbipc_open_handles(void);

/* Around fork(), see above. Between bbipc_before_fork and bbipc_after_fork_in_..., other threads' calls that open, close
 * or wait are held up. */
void bbipc_before_fork(void);
void bbipc_after_fork_in_parent(void);
void bbipc_after_fork_in_child(void);

/* Makes now the descriptor (an eventfd on Linux, a kqueue on macOS and FreeBSD) that bbipc_poll_socket and
 * bbipc_poll_sockets share for being woken and that the first wait would make otherwise. A program that counts its
 * descriptors calls this first. (On macOS and FreeBSD a wait has one more for as long as it lasts.) On Windows every thread
 * that waits at the same time has a completion port, and a handle more for TCP; this makes the first, and up to sixteen are
 * kept. */
bbipc_result bbipc_prepare_to_wait(int32_t *system_code);

/* How many operations of this process the system still has: overlapped ones on Windows, those of closed streams included.
 * It falls to 0 soon after everything is closed. Always 0 on POSIX systems. */
uint64_t bbipc_pending_operations(void);

/* Waits until remote ends have taken all that was written, to closed streams too. To be called before the process ends: on
 * Windows a write to a pipe whose buffer is full ends with it. timeout_ns: as for the waiting functions. Returns 1 if they
 * have, 0 when the time is up first. POSIX systems deliver without the process, so there it is always 1 at once. */
bbipc_result bbipc_finish_writes(int64_t timeout_ns);

/* For bbipc_set_spinning, in the place of a number: what is to be had without calling it, which is 200,000. */
#define BBIPC_SPINNING_ADAPTIVE (-1)
/* No wait looks. */
#define BBIPC_SPINNING_OFF 0

/* Chooses how long a wait may look before it sleeps, in this whole process and from the next wait on. A wait that looks
 * asks the system with a timeout of 0, again and again: where events come soon, that is faster than to sleep and be
 * woken, and takes less processor time. Each stream, each poller, and all calls of bbipc_poll_sockets for more than one
 * socket together, compare what their waits take, and look only where that has proved to be better. A wait looks once,
 * when it begins, and not after one whose time was up. A signal whose handler runs while a wait looks does not interrupt
 * it, as if it had come just before.
 * longest_ns: the most that a wait looks, up to 1000000000, or one of the two above. */
bbipc_result bbipc_set_spinning(int64_t longest_ns);

/* Closes a server, a stream or a poller. [close-socket, close-poller]
 *
 * A closed socket leaves every poller. A local server's pathname is deleted if the server was made with
 * BBIPC_DELETE_ON_CLOSE, by the process that made it, and only if it is still the one that this server made. A process
 * that a signal ends deletes nothing.
 *
 * What was written to a stream still travels to the remote end, with one exception: if bytes are unread when a TCP
 * stream is closed, or arrive afterwards, the system resets the connection (RFC 1122, 4.2.2.13), and throws away what
 * it has not delivered yet. To have all delivered, call bbipc_finish_writing, read until BBIPC_END_OF_DATA holds, and
 * close then.
 *
 * Returns 0; or 1 for a server that is closed and whose pathname is left, because the system refuses to say what it is
 * or to delete it; or, for a stream, how many bytes of a message were left and are lost. */
bbipc_result bbipc_close(bbipc_handle handle);

/* Closes a stream at once, and gives up what was written and has not arrived.
 *
 * TCP: the connection is reset (SO_LINGER with no time): the remote end reads BBIPC_ERROR_SYSTEM with ECONNRESET. A
 * local stream is closed as by bbipc_close; but on Windows a write that is under way is given up, and what is written
 * to a client and not read too, so that the pipe's name, and its memory, don't wait for a remote end that reads no
 * more. The remote end sees the end there, and not that something is missing. */
bbipc_result bbipc_abort(bbipc_handle stream);

/* The socket's file descriptor; on Windows a TCP socket's SOCKET, and BBIPC_ERROR_UNSUPPORTED for pipes. It stays the
 * library's: don't close it, and don't use it after bbipc_close. */
bbipc_result bbipc_fileno(bbipc_handle socket);

/* ---- IPv4 servers and streams ---- */

/* Bind although an earlier connection of the port is in TIME_WAIT (SO_REUSEADDR): for a server that starts again, and for
 * a stream that connects again from the same port. */
#define BBIPC_REUSE_ADDRESS 0x1u

/* Listens on host_address (0 for every address) and port (0 lets the system choose). [make-ipv4-tcp-server]
 * backlog: how many connections the system keeps for accepting, 0 to 2147483647; the system cuts it to its own limit.
 * flags: BBIPC_REUSE_ADDRESS or 0. Returns the server's handle. */
bbipc_result bbipc_make_ipv4_tcp_server(uint32_t host_address, uint16_t port, int32_t backlog, uint32_t flags,
                                        int32_t *system_code);

/* Starts to connect. [connect-to-ipv4-tcp-server]
 * local_host_address and local_port: what to bind to first, 0 for the system's choice. flags: 0, or with a local_port
 * BBIPC_REUSE_ADDRESS, which on Windows changes nothing. Returns the stream's handle, also for a server that refuses or
 * can't be reached: that becomes BBIPC_DETERMINED and BBIPC_CONNECTION_FAILED. Nagle's algorithm is off (TCP_NODELAY). */
bbipc_result bbipc_connect_to_ipv4_tcp_server(uint32_t host_address, uint16_t port, uint32_t local_host_address,
                                              uint16_t local_port, uint32_t flags, int32_t *system_code);

/* The socket's own address [host-address, port, local-host-address, local-port], and that of a stream's remote end
 * [remote-host-address, remote-port]. Either pointer may be NULL. */
bbipc_result bbipc_ipv4_local_address(bbipc_handle socket, uint32_t *host_address, uint16_t *port,
                                      int32_t *system_code);
bbipc_result bbipc_ipv4_remote_address(bbipc_handle stream, uint32_t *host_address, uint16_t *port);

/* ---- IPv6 servers and streams ---- */

/* A server on the address of all addresses takes clients of IPv4 too. It tells their addresses in the mapped form,
 * ::ffff:192.0.2.1. Without it the server takes IPv6 only, whatever the system's setting is (IPV6_V6ONLY). */
#define BBIPC_DUAL_STACK 0x2u

/* Listens on an address of IPv6; the rest is as for IPv4.
 * host_address: its 16 bytes in the order of the network, all 0 for every address. An IPv4 address in the mapped form
 * is BBIPC_ERROR_INVALID_ARGUMENT: the functions for IPv4 take those.
 * scope_id: of a link-local address (fe80::...), the number of its interface, as if_nametoindex tells it; else 0.
 * flags: BBIPC_REUSE_ADDRESS, and for every address BBIPC_DUAL_STACK. Returns the server's handle. */
bbipc_result bbipc_make_ipv6_tcp_server(const uint8_t host_address[16], uint32_t scope_id, uint16_t port,
                                        int32_t backlog, uint32_t flags, int32_t *system_code);

/* Starts to connect. Addresses are as for a server, and the rest is as for IPv4. local_host_address may be NULL, which is
 * all 0. */
bbipc_result bbipc_connect_to_ipv6_tcp_server(const uint8_t host_address[16], uint32_t scope_id, uint16_t port,
                                              const uint8_t local_host_address[16], uint32_t local_scope_id,
                                              uint16_t local_port, uint32_t flags, int32_t *system_code);

/* The socket's own address, and that of a stream's remote end. Every pointer may be NULL. scope_id is 0 for an address
 * that is not link-local. */
bbipc_result bbipc_ipv6_local_address(bbipc_handle socket, uint8_t host_address[16], uint32_t *scope_id,
                                      uint16_t *port, int32_t *system_code);
bbipc_result bbipc_ipv6_remote_address(bbipc_handle stream, uint8_t host_address[16], uint32_t *scope_id,
                                       uint16_t *port);

/* ---- Local servers and streams ---- */

#define BBIPC_DELETE_ON_CLOSE 0x1u /* bbipc_close deletes the pathname */
#define BBIPC_REPLACE_DEAD 0x2u    /* take the place of a server that has died */
#define BBIPC_DEFAULT_PERMISSIONS (-1)

/* How long a local pathname can be on this system: 107 on Linux, 103 on macOS and FreeBSD, in bytes (unix(7), unix(4)); 256
 * on Windows, in UTF-16 code units of the pipe's whole name (CreateNamedPipe). */
uint64_t bbipc_local_pathname_limit(void);

/* Listens at a pathname, which must not exist, but see BBIPC_REPLACE_DEAD. [make-local-server]
 * Whatever is there is EADDRINUSE: a socket that a server left, or a file that is not a socket and must not be deleted;
 * lstat(2) tells which.
 * pathname: pathname_size bytes, without a NUL among them; it needs none at the end. On Windows it is UTF-8, and names
 * a pipe: a whole name, \\.\pipe\NAME, is taken as it is, and before anything else that prefix is put; / is taken for
 * \. Nothing is looked up on disk. Only the process's user, SYSTEM and Administrators can connect, from this machine.
 * backlog: as for IPv4; on Windows the number of instances of the pipe that listen or wait, 1 to 1024.
 * permissions: the file's mode, up to 0777, whatever the umask; nobody can connect before it has that. Or
 * BBIPC_DEFAULT_PERMISSIONS: 0777 without what the umask takes away. On Windows 0600 is the default, and 0666 lets every
 * user of this machine connect; any other is BBIPC_ERROR_INVALID_ARGUMENT. Others may connect there, but not make
 * instances of the pipe, so their clients must not ask for GENERIC_WRITE, which includes that.
 * flags: BBIPC_DELETE_ON_CLOSE, which means nothing to pipes; BBIPC_REPLACE_DEAD; or 0. Returns the server's handle.
 *
 * With BBIPC_REPLACE_DEAD, a socket of this user that nobody listens on is replaced. A server that lives is
 * BBIPC_ERROR_SERVER_RUNNING, also while it starts or closes. Everything else is EADDRINUSE. The server keeps
 * PATHNAME.lock locked (flock(2)) for as long as it or a forked child has its socket open. It makes its file as
 * PATHNAME.new, and moves it when it listens. Where that name is too long for a socket, it takes another one in the
 * directory, of 20 bytes. If that is too long too, it is BBIPC_ERROR_NAME_TOO_LONG; but not on Linux, where /proc has
 * shorter names. EACCES: PATHNAME.lock is another user's, or no regular file. ENOSYS: a Linux before 4.11, where
 * permissions can't be had either. A pipe's name goes with its server, so on Windows nothing is replaced. */
bbipc_result bbipc_make_local_server(const void *pathname, uint64_t pathname_size, int32_t backlog, int32_t permissions,
                                     uint32_t flags, int32_t *system_code);

/* Connects to the local server at a pathname. [connect-to-local-server]
 * Returns the stream's handle, or BBIPC_ERROR_NO_LOCAL_SERVER where nothing listens (ENOENT, ENOTDIR, ECONNREFUSED,
 * ENOTSOCK; on Windows ERROR_FILE_NOT_FOUND). But for ENOENT and ENOTDIR something is there, which need not be a
 * socket. A server whose backlog is full is BBIPC_ERROR_SYSTEM with EAGAIN (ERROR_PIPE_BUSY): try again when it has
 * accepted somebody. On macOS and FreeBSD that is ECONNREFUSED, as if nothing listened. */
bbipc_result bbipc_connect_to_local_server(const void *pathname, uint64_t pathname_size, int32_t *system_code);

/* How long the text of a security identifier can be. */
#define BBIPC_SECURITY_ID_SIZE 183

/* Who is at the other end of a local stream. The system is asked, as it was when the stream was connected: the process
 * may have ended since, and its number be another's; and it may have passed the stream on. A client is told of the
 * process that called listen, which need not be the one that accepts. Of a pair (bbipc_make_stream_pair), both ends are
 * told of the process that made it.
 *
 * Any pointer may be NULL. A number that the system does not tell is -1. *user_id and *group_id are the effective ones;
 * Windows has none. *process_id: not on FreeBSD before 13; on macOS not once the remote end has gone; on Linux not for
 * a process that this one can't see, in a container for example. security_id: on Windows, the SID of the user that runs
 * the process, as text without a NUL, "S-1-5-18". It is stored if it has at most `capacity` bytes; there is none where
 * this process may not ask, which is usual for another user's.
 *
 * Returns the size of the text, 0 if there is none. BBIPC_ERROR_WRONG_KIND for a TCP stream. */
bbipc_result bbipc_peer_credentials(bbipc_handle stream, int64_t *user_id, int64_t *group_id, int64_t *process_id,
                                    char *security_id, uint64_t capacity, int32_t *system_code);

/* ---- From elsewhere, and to there ---- */

/* Makes a local connection in one go: the two ends, in this process. Returns the one stream's handle, and stores the
 * other's in *other, which must not be NULL. On POSIX systems socketpair(2); on Windows a pipe of a name of its own,
 * with one instance, which only the process's user, SYSTEM and Administrators could open. */
bbipc_result bbipc_make_stream_pair(bbipc_handle *other, int32_t *system_code);

/* Makes a stream whose remote end is still to come: the first client that connects to the pathname, as with
 * bbipc_connect_to_local_server, and proves that it is the right one. Windows only, for a process that is started, which
 * may be started by another that inherits nothing of this one; BBIPC_ERROR_UNSUPPORTED elsewhere, where it inherits a
 * descriptor.
 *
 * Until then the stream is one whose connection is being established: BBIPC_DETERMINED does not hold. It never fails by
 * itself. words: two secrets of 32 bytes each, words_size is 64. The client writes the first, and then reads the second,
 * which proves to it whom it has reached; both ends' bytes follow. A client that writes anything else is sent away, and
 * the next may come. The pathname must be one that nobody uses, since whoever can list pipes sees it. */
bbipc_result bbipc_make_stream_for_client(const void *pathname, uint64_t pathname_size, const void *words,
                                          uint64_t words_size, int32_t *system_code);

/* Take over a descriptor that something else has made: socketpair(2), inetd, systemd, a parent, another library.
 * adopt_stream takes an end of a connection that stands, adopt_server a socket that listens, both of TCP over IPv4 or
 * IPv6, or local. descriptor: a file descriptor; on Windows the SOCKET of a TCP socket (not a pipe's HANDLE).
 *
 * Return the handle. From then on the descriptor is the library's, which closes it; on an error it stays the
 * caller's. It becomes close-on-exec (on Windows: not inherited), and TCP_NODELAY is set. Options that somebody has
 * set stay. Whether the description blocks is left as it is, for others may share it, but for three cases: macOS,
 * where only O_NONBLOCK keeps a write from blocking; Windows (FIONBIO); and a server's first
 * bbipc_accept_connection. An adopted local server deletes no file when it closes.
 *
 * BBIPC_ERROR_SYSTEM with EBADF; ENOTSOCK for what is no socket; EPROTOTYPE for one that is not of streams, EAFNOSUPPORT
 * for one of another family; ENOTCONN for one that is not connected (yet), EBUSY for a descriptor that a handle of the
 * library has already. BBIPC_ERROR_WRONG_KIND for a socket that listens where a stream is needed, and the other way
 * round. Do not use a descriptor that was taken over, but by bbipc_fileno: a copy (dup(2)) is another matter. */
bbipc_result bbipc_adopt_stream(int64_t descriptor, int32_t *system_code);
bbipc_result bbipc_adopt_server(int64_t descriptor, int32_t *system_code);

/* Closes a stream, but not its connection: returns a descriptor for somebody else, who goes on with it and closes it.
 *
 * The stream leaves every poller, and the waits of other threads end, as with bbipc_close. What one of those has read
 * is in that thread's buffer. The descriptor's number is a new one (dup(2), WSADuplicateSocket), since other threads may
 * still be using the old; it is close-on-exec, and non-blocking if the library made the socket. BBIPC_ERROR_SYSTEM with
 * EBUSY (ERROR_BUSY), and the stream goes on, while it keeps bytes that were received for messages and not read, or the
 * rest of a message: read or drain them first. BBIPC_ERROR_UNSUPPORTED for a pipe. */
bbipc_result bbipc_detach(bbipc_handle stream, int32_t *system_code);

#define BBIPC_NAMESPACE_LOCAL 1
#define BBIPC_NAMESPACE_IPV4 2
#define BBIPC_NAMESPACE_IPV6 3

/* Which BBIPC_NAMESPACE_ a server or a stream is of. */
bbipc_result bbipc_namespace(bbipc_handle socket);

/* The pathname of a local server or stream, as the system knows it: the socket's own, or else that of its remote end.
 * Stores it, without a NUL at its end, and returns its size, 0 if it has none. `capacity` is at least
 * bbipc_local_pathname_limit() + 1. One of Linux's abstract names begins with a NUL. BBIPC_ERROR_UNSUPPORTED on Windows. */
bbipc_result bbipc_local_pathname(bbipc_handle socket, void *buffer, uint64_t capacity, int32_t *system_code);

/* ---- Servers ---- */

/* Takes the connection that has waited longest. [accept-connection]
 * Returns the new stream's handle, or BBIPC_ERROR_NO_CONNECTION at once if there is none. The stream outlives its
 * server. When the system refuses (EMFILE), the connection waits on; but macOS closes it. After a failure for want of
 * descriptors or memory (EMFILE, ENFILE, ENOMEM, ENOBUFS, BBIPC_ERROR_OUT_OF_MEMORY) the server pauses: no wait reports
 * it for 10 to 50 ms, or until this process has closed a server, a stream or a poller. So a loop of waits and accepts
 * doesn't spin. This function itself tries each time. */
bbipc_result bbipc_accept_connection(bbipc_handle server, int32_t *system_code);

/* ---- Streams ---- */

#define BBIPC_PEEK 0x1u /* leave what was read in the stream */

/* Reads what is there now into the bytes start (inclusive) to end (exclusive) of the buffer. [read-from-stream]
 * flags: BBIPC_PEEK or 0. Returns the number of bytes, 0 to end - start; 0 means that nothing is there now, or that
 * nothing will come any more (BBIPC_END_OF_DATA tells). Bytes that arrived before the connection was severed are
 * returned first; then BBIPC_ERROR_SYSTEM with ECONNRESET, or with the reason why the connection could not be
 * established. With start and end, the caller needs no pointer arithmetic. */
bbipc_result bbipc_read(bbipc_handle stream, void *buffer, uint64_t start, uint64_t end, uint32_t flags,
                        int32_t *system_code);

/* Hands the bytes start (inclusive) to end (exclusive) of the data to the system. [write-to-stream]
 * Returns how many it took, 0 to end - start: 0 when it has no room now, or the connection is not established yet.
 * Before the rest is written, wait for BBIPC_WRITE_SPACE and BBIPC_CONNECTION_SEVERED, for both: BBIPC_READY_TO_WRITE
 * does not hold once the remote end has finished sending, though it may still read. A severed connection, and a write
 * after bbipc_finish_writing, is BBIPC_ERROR_SYSTEM. A pipe takes at most 65536 at once; what it has no room for stays
 * under way, is counted as taken, and no more is taken until the remote end has read it, also after bbipc_close; but
 * then for 30 seconds at the most. */
bbipc_result bbipc_write(bbipc_handle stream, const void *data, uint64_t start, uint64_t end, int32_t *system_code);

/* The same, but they wait: until the whole range has been read or written, nothing more comes or goes, or the time is up.
 * Return how many bytes they read or wrote. Where that is less than the range, the next call tells what became of the rest:
 * failures after the first byte are left for it, BBIPC_ERROR_INTERRUPTED among them. 0 means that the time is up;
 * BBIPC_ERROR_END_OF_DATA that the remote end has finished and all has been read. */
bbipc_result bbipc_read_exactly(bbipc_handle stream, void *buffer, uint64_t start, uint64_t end, int64_t timeout_ns,
                                int32_t *system_code);
bbipc_result bbipc_write_all(bbipc_handle stream, const void *data, uint64_t start, uint64_t end, int64_t timeout_ns,
                             int32_t *system_code);

/* ---- Messages ---- */

/* A message is bytes with their size before them. The size is a signed number of four bytes in network byte order;
 * or it is -1, and an unsigned number of eight bytes follows. That is the form of Python's
 * multiprocessing.connection, whose send_bytes and recv_bytes can therefore be at the other end, over TCP and Unix
 * sockets. (On Windows its pipes send no sizes.)
 *
 * A stream keeps what it has read of messages. It needs memory for what has come, not for what was announced.
 * bbipc_read, bbipc_read_exactly, BBIPC_DATA_AVAILABLE and BBIPC_END_OF_DATA take what it keeps into account, so
 * messages and bytes may be mixed. A program that watches bbipc_fileno itself must receive until nothing is there.
 *
 * A stream also keeps the rest of one message that the system has not taken. The rest goes out in any wait for the
 * stream, in any wait of a poller that monitors it, in the next call that sends, and by bbipc_drain. Until it has
 * gone, no other message is taken, and bbipc_write returns 0. bbipc_finish_writing takes effect after it.
 * bbipc_close tries once more to send it.
 *
 * After fork(), parent and child both have what the stream had read; the rest is the parent's, and the child drops
 * it. */

/* Send the bytes start (inclusive) to end (exclusive) of the data as a message; or `count` messages, in as few
 * system calls as the system's buffer allows. They wait until all has gone to the system, or the time is up.
 *
 * Return how many messages were taken, in their order: do not send these again. *unsent (which may be NULL) is how
 * many bytes of a message the stream keeps then. 0 means that nothing was taken in time: there was no room, or the
 * rest of an earlier message is left. An error means that no message was taken; if one comes later, the next call
 * tells it. Where a message is longer than bbipc_max_message_size, it is BBIPC_ERROR_MESSAGE_TOO_LARGE, and nothing
 * was sent. */
bbipc_result bbipc_send_message(bbipc_handle stream, const void *data, uint64_t start, uint64_t end, int64_t timeout_ns,
                                uint64_t *unsent, int32_t *system_code);
bbipc_result bbipc_send_messages(bbipc_handle stream, const void *const *messages, const uint64_t *sizes, uint64_t count,
                                 int64_t timeout_ns, uint64_t *unsent, int32_t *system_code);

/* Waits until the stream keeps no rest of a message. Returns 1 when that is so, 0 when the time is up. */
bbipc_result bbipc_drain(bbipc_handle stream, int64_t timeout_ns, int32_t *system_code);

/* Tries to send the rest of a message, without waiting. Returns how many bytes the stream still keeps. */
bbipc_result bbipc_unsent(bbipc_handle stream);

/* Waits for a message, and puts it into the bytes start (inclusive) to end (exclusive) of the buffer. Returns
 *
 *   1  for a message, with its size in *size;
 *   2  for one that is larger than the range, with its size in *size too. It stays in the stream: call again with room;
 *   0  when the time is up. What has come of a message stays in the stream.
 *
 * BBIPC_ERROR_END_OF_DATA: the remote end has gone, between two messages.
 * BBIPC_ERROR_MESSAGE_CUT: the remote end has gone in the middle of one. bbipc_read reads what has come of it.
 * BBIPC_ERROR_MESSAGE_TOO_LARGE: the next message is longer than bbipc_max_message_size, or what has come begins
 * like no message. It stays, and no message is received any more until the bound is raised, or the bytes are read. */
bbipc_result bbipc_receive_message(bbipc_handle stream, void *buffer, uint64_t start, uint64_t end, uint64_t *size,
                                   int64_t timeout_ns, int32_t *system_code);

/* Stores the messages that are there, one behind the other, and the size of each. It stores at most
 * `sizes_capacity` of them, and as many as the buffer has room for. It does not wait. Returns how many: 0 also
 * where the first of them needs more room, whose size is stored then. The errors are those of
 * bbipc_receive_message, where no message comes before them. */
bbipc_result bbipc_receive_messages(bbipc_handle stream, void *buffer, uint64_t capacity, uint64_t *sizes,
                                    uint64_t sizes_capacity, int32_t *system_code);

/* Waits until a delimiter of one byte or more has come, and reads up to and with the first of them. Returns how
 * many bytes it has read; 0 when the time is up: what has come stays in the stream. BBIPC_ERROR_MESSAGE_TOO_LARGE
 * if the delimiter is not among the first `capacity` bytes, and BBIPC_ERROR_MESSAGE_CUT if the end comes first: all
 * stays, for bbipc_read. BBIPC_ERROR_END_OF_DATA if the end comes first, and no byte before it. */
bbipc_result bbipc_read_until(bbipc_handle stream, const void *delimiter, uint64_t delimiter_size, void *buffer,
                              uint64_t capacity, int64_t timeout_ns, int32_t *system_code);

/* How many bytes a message may have: 16777216 at first, up to 9223372036854775807. */
bbipc_result bbipc_max_message_size(bbipc_handle stream);
bbipc_result bbipc_set_max_message_size(bbipc_handle stream, uint64_t size);

/* ---- The end of writing, and of the connection ---- */

/* No more bytes follow: the remote end reads to the end of what was written and can still answer (shutdown(2)).
 * BBIPC_ERROR_UNSUPPORTED for a pipe, which can't. */
bbipc_result bbipc_finish_writing(bbipc_handle stream, int32_t *system_code);

/* Why the connection failed: 0 if it did not, or if the remote end closed in an orderly way; 1 if it stood and was
 * severed, 2 if it could not be established, both with the reason in *system_code. */
bbipc_result bbipc_connection_error(bbipc_handle stream, int32_t *system_code);

/* ---- Polling ---- */

#define BBIPC_FOREVER (-1) /* the timeout_ns that does not end */

/* Waits until one of the events holds, or the time is up. [poll-socket, and every predicate with timeout_ns 0]
 * timeout_ns: 0 not to wait, BBIPC_FOREVER, or more. place: for a wait in pieces, such as one that goes on after
 * BBIPC_ERROR_INTERRUPTED: a variable of the caller's, 0 before the first piece, and left alone until the wait is over.
 * So what ends the wait is not missed when it happens between two pieces. NULL is for a wait in one piece. Returns the
 * part of the events that holds, 0 if none does, and BBIPC_ERROR_WOKEN when another thread has called
 * bbipc_finish_writing on the socket since the wait began (not with a timeout_ns of 0). */
bbipc_result bbipc_poll_socket(bbipc_handle socket, uint32_t events, int64_t timeout_ns, uint32_t *place,
                               int32_t *system_code);

/* The same for any number of sockets. [poll-sockets]
 * events[i] is what is asked of sockets[i], happened[i] the part of it that holds. count: the length of the three
 * arrays. Returns the number of sockets with an event. On an error that lies with one socket, its index is stored in
 * *failed_index, unless that is NULL. */
bbipc_result bbipc_poll_sockets(const bbipc_handle *sockets, const uint32_t *events, uint32_t *happened, uint64_t count,
                                int64_t timeout_ns, uint32_t *place, uint64_t *failed_index, int32_t *system_code);

/* ---- Pollers ---- */

#define BBIPC_BACKEND_DEFAULT 0 /* the best of the system: epoll on Linux, kqueue on macOS and FreeBSD, a
                                  * completion port on Windows */
#define BBIPC_BACKEND_EPOLL 1
#define BBIPC_BACKEND_POLL 2
#define BBIPC_BACKEND_IOCP 3
#define BBIPC_BACKEND_KQUEUE 4

/* Makes a poller. [make-poller] Its results do not depend on the backend. BBIPC_ERROR_UNSUPPORTED for a backend that the
 * system lacks. Returns the poller's handle. */
bbipc_result bbipc_make_poller(int32_t backend, int32_t *system_code);

/* Which BBIPC_BACKEND_ the poller uses. */
bbipc_result bbipc_poller_backend(bbipc_handle poller);

/* One descriptor for the whole poller, to be watched by another loop: by select, poll, epoll, kqueue. It is readable,
 * for as long as that holds, while bbipc_wait_for_events would report something at once, or return because of
 * bbipc_wake. When it is, call bbipc_wait_for_events with a timeout_ns of 0. That may find nothing: then the descriptor
 * is not readable any more.
 *
 * What no kernel tells, the library looks for every 50 ms while a socket needs it (a server that pauses, see
 * bbipc_accept_connection; an end whose last byte another process may read). Then the descriptor becomes readable too.
 *
 * Edge-triggered watches (EPOLLET, EV_CLEAR) are not supported. It stays the library's: don't read, change or close it,
 * and take it out of the other loop before bbipc_close. From the first call on, the poller pays for it: a Linux poller
 * has a descriptor more. BBIPC_ERROR_UNSUPPORTED with BBIPC_BACKEND_POLL and on Windows, BBIPC_ERROR_WRONG_PROCESS in a
 * child. */
bbipc_result bbipc_poller_fileno(bbipc_handle poller, int32_t *system_code);

/* Adds a socket. [monitor-socket] A socket may be in any number of pollers, once in each. An empty set of events keeps
 * it in the poller and reports nothing. */
bbipc_result bbipc_monitor_socket(bbipc_handle poller, bbipc_handle socket, uint32_t events, int32_t *system_code);

/* Removes a socket. [unmonitor-socket] Returns 1, or 0 if it was not there (any more). */
bbipc_result bbipc_unmonitor_socket(bbipc_handle poller, bbipc_handle socket);

/* What is asked of a monitored socket. BBIPC_ERROR_NOT_MONITORED for one that the poller doesn't have, also because it
 * is closed. [monitored-events] */
bbipc_result bbipc_monitored_events(bbipc_handle poller, bbipc_handle socket);

/* Changes what is asked of a monitored socket. [(setf monitored-events)] */
bbipc_result bbipc_set_monitored_events(bbipc_handle poller, bbipc_handle socket, uint32_t events,
                                        int32_t *system_code);

/* Stores the handles of the monitored sockets, at most `capacity` of them, in no particular order. [monitored-sockets]
 * Returns how many the poller has, which may be more. sockets may be NULL if capacity is 0. */
bbipc_result bbipc_monitored_sockets(bbipc_handle poller, bbipc_handle *sockets, uint64_t capacity);

/* Waits until a monitored socket has one of its events, or the time is up. [wait-for-events]
 * Stores the sockets and what holds of each, at most `capacity` (1 or more) of them, and returns their number. When
 * more are ready, the next calls report the others first. The cost grows with what is reported, not with what is
 * monitored (with BBIPC_BACKEND_POLL it grows with what is monitored). place: as for bbipc_poll_socket. Returns 0 when
 * the time is up, BBIPC_ERROR_WOKEN after bbipc_wake and when another thread has closed a monitored socket since the
 * wait began, unless there are events to report. */
bbipc_result bbipc_wait_for_events(bbipc_handle poller, bbipc_handle *sockets, uint32_t *events, uint64_t capacity,
                                   int64_t timeout_ns, uint32_t *place, int32_t *system_code);

/* Ends a wait of the poller: the one that is under way, or else the next. */
bbipc_result bbipc_wake(bbipc_handle poller);

/* ---- The calling layer for CPython ---- */

/* Built-in functions of CPython over the functions above, for bbipc's Python package, which documents them
 * (bbipc/_native/by_cpython.py). The library is linked with no Python: it is given the addresses of what it calls. All
 * are called with the GIL held, or from an attached thread. */

/* The names of the functions and objects of CPython that the library needs, separated by spaces. They are of the stable
 * ABI, but for _PyBytes_Resize; those of buffers are since 3.11. */
const char *bbipc_cpython_needs(void);

/* Takes the address of each of these, in this order: `count` must be the number of the names. */
bbipc_result bbipc_cpython_bind(const uint64_t *addresses, uint64_t count);

/* The names of the built-in functions that there are, and of the methods, separated by spaces. */
const char *bbipc_cpython_functions(void);
const char *bbipc_cpython_methods(void);

/* A new reference to the built-in function of this name, to None if there is none; NULL with an exception set, or while
 * nothing is bound. reference: a PyObject, the function that does the same in Python. It is called with the same arguments
 * where they are unusual or wrong. */
void *bbipc_cpython_function(const char *name, void *reference);

/* A new reference to a method of this name for the class of streams or of pollers, whose attribute "_handle" is the handle;
 * those of pollers need "_sockets" and "_sets" besides. To None and NULL as above, and to None in another than the main
 * interpreter. Of each name the first documentation is copied, and serves for all. Where its arguments are unusual or
 * wrong, the method calls that of the same name with "_python_" in front. What else it needs of the
 * classes, bbipc/_native/classes.py says. */
void *bbipc_cpython_method(void *type, const char *name, const char *documentation);

#ifdef __cplusplus
}
#endif

#endif
