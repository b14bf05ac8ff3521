"""Waiting: for one socket, for several, and with pollers."""

from __future__ import annotations

import weakref
from operator import index

from ._native import calls, declarations, results
from ._native.owner import HandleOwner
from ._native.waiting import BEGINNING, NEVER, Deadline, wait
from .errors import (
    AlreadyMonitoredError,
    NotMonitoredError,
    PollerClosedError,
    UnsupportedOperationError,
    WrongProcessError,
    failure_error,
)
from .events import SETS, Events
from .sockets import Socket, open_pollers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from typing_extensions import Self

    Report = TypeVar("Report")


def poll_socket(socket: Socket, events: Events, timeout: float | None = None) -> Events:
    """Waits until one of the events holds. (``poll-socket``.)

    :param timeout: seconds; ``None`` waits for ever, 0 not at all. (``:indefinite`` and ``:immediate``.)
    :returns: the part of the events that holds. An empty result does not prove that the time has passed.
    :raises ValueError: for an event that the socket's kind can't have, and a timeout that is negative or NaN.
    :raises SocketClosedError: if the socket is closed, also if another thread closes it meanwhile.
    """
    if not isinstance(socket, Socket):
        raise TypeError(f"poll_socket() needs a Socket, not {type(socket).__name__}")
    asked = socket._check_events(events)
    result = wait(Deadline(timeout), calls.poll_socket, socket._handle, asked, place=BEGINNING)
    if result < 0:
        raise failure_error(result, "wait", socket)
    return SETS[result]


def poll_sockets(
    sockets: Iterable[Socket], events: Events | Sequence[Events], timeout: float | None = None
) -> list[Events]:
    """Waits until one of the sockets has one of its events. (``poll-sockets``.)

    :param sockets: any number, of every kind mixed.
    :param events: what is asked of all of them, or a sequence with what is asked of each.
    :param timeout: seconds; ``None`` waits for ever, 0 not at all.
    :returns: for each socket, in the order of the arguments, the part of its events that holds. All empty does not
        prove that the time has passed.
    :raises ValueError: for an event that a socket's kind can't have, as many events as there are not sockets, no
        sockets and no timeout, and a timeout that is negative or NaN.
    :raises SocketClosedError: if one of them is closed, also if another thread closes it meanwhile; its ``socket`` says
        which.
    """
    if isinstance(sockets, Socket):
        raise TypeError("poll_sockets() needs several Sockets, in a list for example; for one there is poll_socket()")
    listed = list(sockets)
    for socket in listed:
        if not isinstance(socket, Socket):
            raise TypeError(f"poll_sockets() needs Sockets, not {type(socket).__name__}")
    try:
        each = [events] * len(listed) if isinstance(events, Events) else list(events)
    except TypeError:
        raise TypeError(f"events must be Events, or a sequence of them, not {type(events).__name__}") from None
    if len(each) != len(listed):
        raise ValueError(
            f"poll_sockets() needs one Events for all sockets, or one for each: there are {len(listed)} sockets and"
            f" {len(each)} events"
        )
    if not listed and timeout is None:
        raise ValueError("poll_sockets() of no sockets without a timeout would wait for ever")
    request = calls.SocketList(
        [socket._handle for socket in listed],
        [socket._check_events(asked) for socket, asked in zip(listed, each)],
    )
    failed: int | None = None

    def call(timeout_ns: int, place: int) -> int:
        nonlocal failed
        result, failed = request.poll(timeout_ns, place)
        return result

    result = wait(Deadline(timeout), call, place=BEGINNING)
    if result < 0:
        if failed is None:
            raise failure_error(result, "wait")
        raise failure_error(result, f"wait for sockets[{failed}]", listed[failed])
    return [SETS[bits] for bits in request.happened()]


class Poller(HandleOwner):
    """Watches many sockets: what a wait costs grows with the events that it reports, not with the sockets.

    :func:`make_poller` makes it. (The original's ``poller``.) It keeps the sockets that it monitors alive. Any method
    may be called from any thread, also while another waits. Usable in a ``with`` statement, which closes it (the
    original's ``with-poller``); one that is dropped without :meth:`close` is closed with a ``ResourceWarning``.

    :raises PollerClosedError: from every method but :meth:`close`, once it is closed.
    :raises WrongProcessError: from every method but :meth:`close`, in another process than the one that made it.
    """

    __slots__ = ("_backend", "_sockets")

    #: Where built-in methods find them.
    _sets = SETS

    if TYPE_CHECKING:
        _backend: str
        #: By their handles.
        _sockets: dict[int, Socket]

    def __init__(self, *_arguments: object, **_keywords: object) -> None:
        raise TypeError("a Poller is made by make_poller(), not by its class")

    def _begin(self, backend: str) -> Self:
        """What is to be done with a new one."""
        self._backend = backend
        self._sockets = {}
        handle = self._handle

        def forget(_reference: object) -> None:
            # Also of a poller whose close() was interrupted.
            open_pollers.pop(handle, None)

        open_pollers[handle] = weakref.ref(self, forget)
        return self

    def close(self) -> None:
        """Closes the poller, not its sockets. Again, it does nothing. (``close-poller``.)

        Other threads that wait with it stop waiting, with a :class:`PollerClosedError`.
        """
        self._closed = True
        # Also if it was closed before: that may have been interrupted. The library knows, and refuses.
        calls.close(self._handle)
        open_pollers.pop(self._handle, None)
        # Interrupted while it was made, it has none.
        if hasattr(self, "_sockets"):
            self._sockets.clear()

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    @property
    def backend(self) -> str:
        """Which of the system's ways of watching it uses: the name that :func:`make_poller` takes."""
        self._check_usable("tell the backend")
        return self._backend

    def __enter__(self) -> Poller:
        self._check_usable("enter a with statement")
        return self

    def __repr__(self) -> str:
        try:
            details = "closed" if self._closed else f"{self._backend}, {len(self._sockets)} sockets"
        except AttributeError:
            # Interrupted while it was made.
            details = "unfinished"
        return f"<{type(self).__name__} {details}>"

    def monitor_socket(self, socket: Socket, events: Events) -> None:
        """Adds a socket. (``monitor-socket``.)

        :param events: what to report; an empty set keeps the socket but reports nothing.
        :raises AlreadyMonitoredError: if the poller has it already.
        :raises ValueError: for an event that the socket's kind can't have.
        :raises SocketClosedError: if the socket is closed.
        :raises SocketError: if the system refuses: ``ENOSPC`` when its limit of watches is reached.
        """
        asked = self._check(socket)._check_events(events)
        # First, so that a wait in another thread knows what is reported to it.
        self._sockets[socket._handle] = socket
        result = calls.monitor_socket(self._handle, socket._handle, asked)
        self._settle(socket)
        if result < 0:
            raise self._error(result, "monitor", socket)

    def unmonitor_socket(self, socket: Socket) -> None:
        """Removes a socket. Removing it again, or a closed one, is not an error. (``unmonitor-socket``.)"""
        result = calls.unmonitor_socket(self._handle, self._check(socket)._handle)
        if result < 0:
            raise self._error(result, "unmonitor", socket)
        self._settle(socket)

    def monitored_events(self, socket: Socket) -> Events:
        """What is reported of a socket; empty for one that the poller doesn't have. (``monitored-events``.)"""
        result: int = calls.monitored_events(self._handle, self._check(socket)._handle)
        if result >= 0:
            return SETS[result]
        if results.status_of(result) == declarations.ERROR_NOT_MONITORED:
            return Events()
        raise self._error(result, "tell the monitored events of", socket)

    def set_monitored_events(self, socket: Socket, events: Events) -> None:
        """Changes what is reported of a socket. (``(setf monitored-events)``.)

        :raises NotMonitoredError: if the poller does not have it.
        :raises ValueError: for an event that the socket's kind can't have.
        :raises SocketClosedError: if the socket is closed.
        """
        asked = self._check(socket)._check_events(events)
        result = calls.set_monitored_events(self._handle, socket._handle, asked)
        if result < 0:
            raise self._error(result, "change the monitored events of", socket)

    def monitored_sockets(self) -> list[Socket]:
        """The sockets, in the order in which they were added. (``monitored-sockets``.)"""
        self._check_usable("list the sockets")
        return list(self._sockets.values())

    def wait_for_events(self, timeout: float | None = None) -> list[tuple[Socket, Events]]:
        """Waits until a monitored socket has one of its events. (``wait-for-events``.)

        :param timeout: seconds; ``None`` waits for ever, 0 not at all.
        :returns: a pair for each socket that has events: the socket, and the part of its monitored events that holds.
            Events are reported by every wait for as long as they hold. At most 1024 sockets; the next waits report the
            others first. Empty when the time is up, after :meth:`wake`, and when another thread closed a monitored
            socket. A socket that is closed while an earlier pair is handled is still in the list: see whether it is
            :attr:`~Socket.closed`.
        :raises ValueError: for a timeout that is negative or NaN.
        """
        return self._wait_for_events_on(BEGINNING, timeout)

    def _wait_for_events_on(self, place: int, timeout: float | None) -> list[tuple[Socket, Events]]:
        """Goes on with a wait_for_events that has come to this place."""
        return self._wait("wait", place, timeout, calls.wait_for_events)

    def receive(self, timeout: float | None = None, max_bytes: int = 65536) -> list[tuple[Socket, Events, bytes]]:
        """Waits like :meth:`wait_for_events`, and reads from every stream that is reported with ``DATA_AVAILABLE``.

        What a loop of :meth:`~StreamSocket.read` does, in one call: a batch, the fastest way to serve many streams.

        :param timeout: seconds; ``None`` waits for ever, 0 not at all.
        :param max_bytes: how many bytes are read from each stream at the most; the next call reads on.
        :returns: a triple for each socket that has events: the socket, the part of its monitored events that held
            before the reading, and the bytes that were read. These are empty without ``DATA_AVAILABLE``, and where the
            read failed. Nothing is lost by that: the stream's next :meth:`~StreamSocket.read` raises the error. At most
            1024 sockets, and empty when :meth:`wait_for_events` would return an empty list. A socket that is closed
            while an earlier triple is handled is still in the list.
        :raises ValueError: if ``max_bytes`` is not positive, and for a timeout that is negative or NaN.
        """
        size = index(max_bytes)
        if size <= 0:
            raise ValueError(f"max_bytes must be positive: {size}")
        return self._receive_on(BEGINNING, timeout, size)

    def _receive_on(
        self, place: int, timeout: float | None, max_bytes: int = 65536
    ) -> list[tuple[Socket, Events, bytes]]:
        """Goes on with a receive that has come to this place."""
        return self._wait("receive", place, timeout, calls.receive, max_bytes)

    def receive_messages(self, timeout: float | None = None) -> list[tuple[Socket, Events, list[bytes]]]:
        """Waits like :meth:`wait_for_events`, and receives the messages of every stream with ``MESSAGE_AVAILABLE``.

        Monitor streams for ``MESSAGE_AVAILABLE`` and ``END_OF_DATA``. Then an empty list of a stream says that no more
        messages will come. (Servers, and streams with other events, have empty lists too.)

        :param timeout: seconds; ``None`` waits for ever, 0 not at all.
        :returns: a triple for each socket that has events: the socket, the part of its monitored events that held
            before the receiving, and a list of the messages that have come. The list is empty without
            ``MESSAGE_AVAILABLE``; and where :meth:`~StreamSocket.receive_message` would raise: call it to learn why. At
            most 1024 sockets, and empty when :meth:`wait_for_events` would return an empty list. A socket that is
            closed while an earlier triple is handled is still in the list.
        :raises ValueError: for a timeout that is negative or NaN.
        """
        return self._wait("receive messages", BEGINNING, timeout, calls.receive_messages_of_many)

    def _wait(
        self, action: str, place: int, timeout: float | None, call: Callable[..., list[Report] | int], *more: int
    ) -> list[Report]:
        deadline = NEVER if timeout is None else Deadline(timeout)
        result = wait(deadline, call, self._handle, self._sockets, SETS, *more, place=place)
        if isinstance(result, list):
            return result
        if result:
            raise self._error(result, action, None)
        return []

    def wake(self) -> None:
        """Ends a wait, from any thread: the one that is under way, or else the next."""
        result = calls.wake(self._handle)
        if result < 0:
            raise self._error(result, "wake", None)

    def fileno(self) -> int:
        """One descriptor for the whole poller, to be watched by a loop that is not bbipc's. On POSIX systems only.

        It is readable, level-triggered, while ``wait_for_events(0)`` would report something, or return because of
        :meth:`wake`. When it is, call that, or ``receive(0)``, or ``receive_messages(0)``. See
        :doc:`/guide/event-loops`. Sockets that no kernel tells of are looked at every 50 milliseconds, as in any wait;
        then the descriptor is readable too. Edge-triggered registrations (``EPOLLET``) are not supported.

        The descriptor stays the poller's. Take it out of the other loop before :meth:`close`, and don't read or close
        it.

        :raises UnsupportedOperationError: with the backend ``"poll"``, and on Windows.
        :raises SocketError: if the system refuses: ``EMFILE``.
        """
        result: int = calls.poller_fileno(self._handle)
        if result < 0:
            if results.status_of(result) == declarations.ERROR_UNSUPPORTED:
                advice = "make one without a name" if self._backend == "poll" else "wait with it in a thread"
                raise UnsupportedOperationError(f"a poller with backend {self._backend!r} has no descriptor: {advice}")
            raise self._error(result, "tell the descriptor", None)
        return result

    def _check(self, socket: Socket) -> Socket:
        if not isinstance(socket, Socket):
            raise TypeError(f"a Poller monitors Sockets, not {type(socket).__name__}")
        return socket

    def _check_usable(self, action: str) -> None:
        # Any call that changes nothing, for its errors.
        result = calls.monitored_events(self._handle, 0)
        if results.status_of(result) != declarations.ERROR_NOT_MONITORED:
            raise self._error(result, action, None)

    def _forget(self, socket: Socket) -> None:
        """The socket is closed, and so has left the native poller."""
        self._sockets.pop(socket._handle, None)

    def _settle(self, socket: Socket) -> None:
        """Keeps the socket if the native poller has it, and lets go of it if not.

        Other threads, and signal handlers, may change that at any moment. Each of them comes here afterwards, and
        nobody leaves before both agree; so they agree when the last one leaves.
        """
        handle = socket._handle
        while True:
            monitored = calls.monitored_events(self._handle, handle) >= 0
            if monitored:
                self._sockets[handle] = socket
            else:
                self._sockets.pop(handle, None)
            if monitored == (calls.monitored_events(self._handle, handle) >= 0):
                return

    def _closed_error(self, action: str) -> PollerClosedError:
        return PollerClosedError(f"cannot {action}: the poller is closed")

    def _error(self, failure: int, action: str, socket: Socket | None) -> Exception:
        status = results.status_of(failure)
        what = action if socket is None else f"{action} the {socket!r}"
        if self._closed:
            return self._closed_error(what)
        if status == declarations.ERROR_WRONG_PROCESS:
            return WrongProcessError(f"cannot {what}: {results.message_of(failure)}")
        if status == declarations.ERROR_ALREADY_MONITORED:
            return AlreadyMonitoredError(f"cannot {what}: {results.message_of(failure)}; use set_monitored_events()")
        if status == declarations.ERROR_NOT_MONITORED:
            return NotMonitoredError(f"cannot {what}: {results.message_of(failure)}; use monitor_socket()")
        return failure_error(failure, what, socket)


calls.give_methods(Poller)


def make_poller(backend: str | None = None) -> Poller:
    """A poller without sockets. (``make-poller``.)

    :param backend: which of the system's ways of watching to use; ``None`` for the best: ``"epoll"`` on Linux,
        ``"kqueue"`` on macOS and FreeBSD, ``"iocp"`` on Windows. All but Windows also have ``"poll"``, whose cost grows
        with the sockets. The results are the same.
    :raises ValueError: for a name that bbipc has no backend of.
    :raises UnsupportedOperationError: for a backend that this system lacks.
    :raises SocketError: if the system refuses: ``EMFILE``.
    """
    if backend is None:
        number = declarations.BACKEND_DEFAULT
    elif not isinstance(backend, str):
        raise TypeError(f"backend must be a str or None, not {type(backend).__name__}")
    elif backend in declarations.BACKENDS:
        number = declarations.BACKENDS[backend]
    else:
        raise ValueError(
            f"there is no backend {backend!r}: use None, or one of {', '.join(sorted(declarations.BACKENDS))}"
        )
    poller = calls.make_poller(number, Poller)
    if isinstance(poller, int):
        raise failure_error(poller, f"make a poller with backend {backend!r}")
    used = calls.poller_backend(poller._handle)
    return poller._begin(next(name for name, value in declarations.BACKENDS.items() if value == used))
