"""Attempts to connect over TCP, several at a time: the first connection that stands is taken (RFC 8305)."""

from __future__ import annotations

import time

from ._native import calls
from .errors import SocketError, TimeoutError, socket_error
from .events import Events
from .patience import FIRST_PAUSE, LONGEST_PAUSE, Patience, may_pass
from .polling import poll_sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Union

    from .ipv4 import Ipv4TcpStream
    from .ipv6 import Ipv6TcpStream

    TcpStream = Union[Ipv4TcpStream, Ipv6TcpStream]

#: Seconds. How long an attempt may be silent before the next address is tried beside it (RFC 8305, 5).
_NEXT_AFTER = 0.25
#: Seconds. And before its own is tried again, beside it: the system itself asks again after 1 second, 3, 7, 15 and so
#: on, which is late for a server that has come meanwhile. So often, too, what no server that starts would change.
_AGAIN_AFTER = 1.0
#: Attempts at one address at a time: each has three seconds, in a network that takes its time; and Windows needs two
#: until it tells of a refusal.
_BESIDE_EACH_OTHER = 3


class Target:
    """An address to connect to, and the attempts at it.

    :param where: what errors call it.
    :param start: starts an attempt.
    :param one_at_a_time: because all have the same local port.
    """

    def __init__(self, where: str, start: Callable[[], TcpStream], *, one_at_a_time: bool = False) -> None:
        self._where = where
        self._start = start
        self._again_after = float("inf") if one_at_a_time else _AGAIN_AFTER
        self._pause = FIRST_PAUSE
        #: When it is to be tried again: the clock of perf_counter(). Never before it has been tried once.
        self.due_at = float("inf")
        #: The oldest first.
        self.running: list[TcpStream] = []
        #: Why an attempt has failed, the last that has, and when.
        self.failure: SocketError | None = None
        self.failed_at = 0.0

    def __str__(self) -> str:
        return self._where

    def start(self) -> TcpStream:
        """An attempt, which may still be under way, or have failed.

        :raises SocketError: if this end can't be set up.
        """
        return self._start()

    def try_again(self) -> bool:
        """Starts an attempt beside those that run, of which the oldest is given up if they are too many.

        :returns: whether it has started.
        """
        if len(self.running) == _BESIDE_EACH_OTHER:
            self.running.pop(0).close()
        try:
            self.running.append(self._start())
        except SocketError as error:
            self._note(error)
            return False
        self.due_at = time.perf_counter() + self._again_after
        return True

    def has_won(self, stream: TcpStream) -> bool:
        """Whether an attempt that has come to its end has succeeded. If not, it is closed."""
        _, code = calls.connection_error(stream._handle)
        self.running.remove(stream)
        if code:
            stream.close()
            self._note(socket_error(code, f"connect to {self}"))
        return not code

    def hopeless(self) -> bool:
        """Whether it can't be connected to, whatever server starts there."""
        return self.failure is not None and not may_pass(self.failure.errno)

    def give_up(self) -> None:
        """Closes what runs."""
        for stream in self.running:
            stream.close()

    def _note(self, error: SocketError) -> None:
        self.failure = error
        self.failed_at = time.perf_counter()
        self.due_at = self.failed_at + (self._pause if may_pass(error.errno) else _AGAIN_AFTER)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def start_one(targets: Sequence[Target]) -> TcpStream:
    """The first attempt that does not fail at once, or the last. It may still be under way."""
    for target in targets[:-1]:
        try:
            stream = target.start()
        except SocketError:
            # This machine has no such address itself, for example.
            continue
        if not stream.connection_failed():
            return stream
        stream.close()
    return targets[-1].start()


class Race:
    """Attempts at the addresses of one server. What it does not return, it closes."""

    def __init__(self, targets: Sequence[Target], patience: Patience) -> None:
        self._targets = targets
        self._patience = patience
        #: Those whose first turn has not come, and when it comes to the first of them.
        self._untried = list(targets)
        self._next_at = 0.0

    def winner(self) -> TcpStream:
        """The first stream whose connection stands.

        :raises TimeoutError: when the time is up.
        :raises SocketError: if all attempts have failed, and a server that starts would change nothing.
        """
        try:
            while True:
                self._start_what_is_due()
                stream = self._wait()
                if stream is not None:
                    return stream
        finally:
            for target in self._targets:
                target.give_up()

    def _start_what_is_due(self) -> None:
        now = time.perf_counter()
        for target in self._targets:
            if target.due_at <= now:
                target.try_again()
        while self._untried and self._next_at <= now:
            if self._untried.pop(0).try_again():
                self._next_at = now + _NEXT_AFTER

    def _wait(self) -> TcpStream | None:
        """Until an attempt has come to its end, another is due, or the time is up."""
        running = [(target, stream) for target in self._targets for stream in target.running]
        if not running and all(target.hopeless() for target in self._targets):
            raise self._last_failure()
        is_over = self._patience.over()
        due_at = min(target.due_at for target in self._targets)
        if self._untried:
            due_at = min(due_at, self._next_at)
        seconds = self._patience.at_most(max(0.0, min(due_at - time.perf_counter(), _AGAIN_AFTER)))
        if running:
            events = poll_sockets([stream for _, stream in running], Events.DETERMINED, seconds)
            ended = [attempt for attempt, happened in zip(running, events) if happened]
        else:
            time.sleep(seconds)
            ended = []
        for target, stream in ended:
            if target.has_won(stream):
                return stream
            # It is the next one's turn at once.
            self._next_at = 0.0
        if is_over and not ended:
            raise self._time_is_up()
        return None

    def _last_failure(self) -> SocketError:
        failures = [(target.failed_at, target.failure) for target in self._targets if target.failure is not None]
        return max(failures, key=lambda one: one[0])[1]

    def _time_is_up(self) -> TimeoutError:
        if any(target.failure is not None for target in self._targets):
            return self._patience.time_is_up(self._last_failure())
        silent = ", ".join(str(target) for target in self._targets if target.running)
        return self._patience.time_is_up(f"cannot connect to {silent}: no answer")
