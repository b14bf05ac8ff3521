"""Threads that tests make: one that waits, and one whose failure is the test's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from patience import PATIENCE
from peer import until_asleep

#: Seconds. A wait that is ended ends within this time, on a machine that has other work too.
PROMPTLY = 2.0


class Waiting:
    """A thread that has begun to wait, and how its wait ends."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self._wait = wait
        self._result: object = None
        self._error: BaseException | None = None
        self._ended_at = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        until_asleep(os.getpid(), self._thread.native_id)

    def _run(self) -> None:
        try:
            self._result = self._wait()
        except BaseException as error:
            self._error = error
        self._ended_at = time.perf_counter()

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> object:
        """What the wait returned, or raises."""
        self._thread.join(PROMPTLY)
        assert not self._thread.is_alive(), "the wait goes on"
        if self._error is not None:
            raise self._error
        return self._result

    @property
    def ended_at(self) -> float:
        assert not self._thread.is_alive()
        return self._ended_at


class Failing(threading.Thread):
    """A thread whose failure is the test's."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def join(self, timeout: float | None = PATIENCE) -> None:
        super().join(timeout)
        assert not self.is_alive(), "the thread hangs"
        if self._error is not None:
            raise self._error
