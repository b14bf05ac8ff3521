"""The ends of named pipes that nobody here wrote: CPython's own calls of Windows, with the methods of its sockets.

Overlapped, so that a thread can read while another writes, and so that waits have an end. A pipe can't be half-closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time

if sys.platform == "win32":
    import _winapi

_BUFFER_SIZE = 65536
_PIPE_BUSY = 231
_NO_DATA = 232
_WAIT_TIMEOUT = 258
_FIRST_PIPE_INSTANCE = 0x80000
_UNLIMITED_INSTANCES = 255


def pipe_name(pathname: str) -> str:
    """The pipe that a local server's name means."""
    if pathname.startswith(("\\\\.\\pipe\\", "//./pipe/")):
        return pathname
    if any(separator in pathname for separator in "\\/:"):
        pathname = os.path.abspath(pathname)
    return "\\\\.\\pipe\\" + pathname


if sys.platform == "win32":

    def _wait(operation: _winapi.Overlapped, timeout: float | None) -> int:
        """The number of bytes that an operation has moved. It is taken back when the time is up."""
        wait_ms = _winapi.INFINITE if timeout is None else int(timeout * 1000)
        try:
            in_time = _winapi.WaitForSingleObject(operation.event, wait_ms) != _WAIT_TIMEOUT
        except BaseException:
            operation.cancel()
            raise
        if not in_time:
            operation.cancel()
        count, error = operation.GetOverlappedResult(True)
        if error == _winapi.ERROR_OPERATION_ABORTED:
            raise TimeoutError("timed out")
        return count

    class PipePeer:
        """One end of a pipe, in byte mode."""

        def __init__(self, handle: int) -> None:
            self._handle = handle
            self._timeout: float | None = None
            #: What the system had no room for: there is one at the most, by a peer that does not block.
            self._under_way: _winapi.Overlapped | None = None

        def fileno(self) -> int:
            return self._handle

        def settimeout(self, timeout: float | None) -> None:
            self._timeout = timeout

        def gettimeout(self) -> float | None:
            return self._timeout

        def setblocking(self, blocking: bool) -> None:
            self._timeout = None if blocking else 0.0

        def unread(self) -> int:
            """How many bytes can be read now.

            :raises BrokenPipeError: at the end.
            """
            available: int = _winapi.PeekNamedPipe(self._handle)[0]
            return available

        def recv(self, size: int) -> bytes:
            """At least one byte, unless it is the end."""
            try:
                while True:
                    if self._timeout == 0 and not self.unread():
                        raise BlockingIOError(errno.EWOULDBLOCK, "there is nothing to read")
                    reading, _ = _winapi.ReadFile(self._handle, size, overlapped=True)
                    # Somebody may have written nothing, which a pipe delivers.
                    if _wait(reading, self._timeout or None):
                        data = reading.getbuffer()
                        assert data is not None
                        return bytes(data)
            except BrokenPipeError:
                return b""

        def recv_into(self, buffer: bytearray | memoryview) -> int:
            view = memoryview(buffer).cast("B")
            data = self.recv(len(view))
            view[: len(data)] = data
            return len(data)

        def send(self, data: bytes | bytearray | memoryview) -> int:
            """One that does not block lets the system have a piece that it has no room for, and then no more."""
            piece = bytes(memoryview(data).cast("B")[:_BUFFER_SIZE])
            if self._under_way is not None:
                if _winapi.WaitForSingleObject(self._under_way.event, 0) == _WAIT_TIMEOUT:
                    raise BlockingIOError(errno.EWOULDBLOCK, "there is no room")
                self._under_way.GetOverlappedResult(True)
                self._under_way = None
            writing, error = _winapi.WriteFile(self._handle, piece, overlapped=True)
            if self._timeout == 0:
                if error == _winapi.ERROR_IO_PENDING:
                    self._under_way = writing
                return len(piece)
            return _wait(writing, self._timeout)

        def sendall(self, data: bytes | bytearray | memoryview) -> None:
            rest = memoryview(data).cast("B")
            while rest:
                rest = rest[self.send(rest) :]

        def shutdown(self, how: int) -> None:
            raise OSError(errno.EOPNOTSUPP, "a named pipe can't be half-closed")

        def close(self) -> None:
            if self._handle != -1:
                handle, self._handle = self._handle, -1
                if self._under_way is not None:
                    self._under_way.cancel()
                    self._under_way = None
                _winapi.CloseHandle(handle)

        def __enter__(self) -> PipePeer:
            return self

        def __exit__(self, *_exception: object) -> None:
            self.close()

    def _connect(name: str) -> PipePeer | None:
        """A client; None where the server has no room."""
        try:
            return PipePeer(
                _winapi.CreateFile(
                    name,
                    _winapi.GENERIC_READ | _winapi.GENERIC_WRITE,
                    0,
                    0,
                    _winapi.OPEN_EXISTING,
                    _winapi.FILE_FLAG_OVERLAPPED,
                    0,
                )
            )
        except OSError as error:
            if error.winerror != _PIPE_BUSY:
                raise
            return None

    def connect(pathname: str, timeout: float | None = None) -> PipePeer:
        """A client. It waits where the server has no room, as a socket does.

        :raises FileNotFoundError: where nobody listens.
        """
        name = pipe_name(pathname)
        give_up_at = None if timeout is None else time.perf_counter() + timeout
        while True:
            peer = _connect(name)
            if peer is not None:
                peer.settimeout(timeout)
                return peer
            if give_up_at is not None and time.perf_counter() > give_up_at:
                raise TimeoutError("timed out")
            # It fails when the time is up; the next attempt shows what is so.
            with contextlib.suppress(OSError):
                _winapi.WaitNamedPipe(name, 100)

    class PipeListener:
        """A server. It listens from the beginning, and has room for one client that is not accepted yet."""

        def __init__(self, pathname: str) -> None:
            self._pathname = pathname
            self._timeout: float | None = None
            self._listen(_FIRST_PIPE_INSTANCE)

        def _listen(self, flags: int = 0) -> None:
            self._handle = _winapi.CreateNamedPipe(
                pipe_name(self._pathname),
                _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED | flags,
                # Bytes, both ways.
                _winapi.PIPE_WAIT,
                _UNLIMITED_INSTANCES,
                _BUFFER_SIZE,
                _BUFFER_SIZE,
                0,
                0,
            )
            self._connecting: _winapi.Overlapped | None = None
            try:
                self._connecting = _winapi.ConnectNamedPipe(self._handle, overlapped=True)
            except OSError as error:
                # A client came and went already: it can be accepted all the same.
                if error.winerror != _NO_DATA:
                    raise

        def fileno(self) -> int:
            return self._handle

        def getsockname(self) -> str:
            return self._pathname

        def settimeout(self, timeout: float | None) -> None:
            self._timeout = timeout

        def accept(self) -> tuple[PipePeer, str]:
            if self._connecting is not None:
                try:
                    _wait(self._connecting, self._timeout)
                except TimeoutError:
                    self._connecting = _winapi.ConnectNamedPipe(self._handle, overlapped=True)
                    raise
            accepted = PipePeer(self._handle)
            self._listen()
            return accepted, ""

        def close(self) -> None:
            if self._handle != -1:
                if self._connecting is not None:
                    self._connecting.cancel()
                    self._connecting = None
                _winapi.CloseHandle(self._handle)
                self._handle = -1

        def __enter__(self) -> PipeListener:
            return self

        def __exit__(self, *_exception: object) -> None:
            self.close()
