"""What calls must leave behind: nothing, and no byte lost, also where there is no memory.

Needs no pytest, so that any Python can run it: `python call_checks.py references|memory|receive`, a debug build for
example.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import bbipc
from bbipc import Events, Poller, StreamSocket
from bbipc._native import by_ctypes, calls, declarations
from bbipc.events import SETS
from call_cases import (
    BRIEF_SECONDS,
    DATA,
    HAS_GIL,
    LONGER_SECONDS,
    MESSAGE,
    METHODS_ARE_BUILT_IN,
    MUCH,
    ROOM,
    UNREAD,
    UNREAD_MESSAGES,
    UNREAD_OF_METHODS,
    Case,
    Scene,
    built_in_functions,
    cases_of,
    framed,
    good,
    good_methods,
    let_go,
    parameters_of,
)

#: What calls leave behind is counted after 16 calls times each of these factors. CPython keeps some objects for the
#: next calls, and leaves a cycle here and there; without a GIL it gives some memory back much later.
FACTORS = (1, 4, 16) if HAS_GIL else (1, 4, 16, 64)


# ---- What is left behind ----


def _inside(one: Any, found: dict[int, Any]) -> None:
    if id(one) in found:
        return
    found[id(one)] = one
    if isinstance(one, (list, tuple)):
        for item in one:
            _inside(item, found)
    elif type(one) is dict:
        for key, value in one.items():
            _inside(key, found)
            _inside(value, found)


def watched_objects(case: Case) -> list[Any]:
    """The arguments with all that is in them, and what all calls have in common."""
    found: dict[int, Any] = {}
    for one in (
        case.arguments,
        case.keywords,
        [None, True, False, b"", (), 0, 1, -1, 8],
        [StreamSocket, bbipc.LocalStream, Poller, Events, bytes, int, float, list, tuple, dict],
        [TypeError, ValueError, MemoryError, bbipc.TimeoutError, bbipc.EndOfStreamError],
        [SETS, SETS[int(DATA)], SETS[int(ROOM)], SETS[int(DATA | ROOM)], SETS[int(Events.END_OF_DATA)]],
        [calls.__dict__, by_ctypes.__dict__, "_handle", "_closed", "_sockets", "_sets"],
        ["timeout", "size", "max_bytes", "buffer", "data", "start", "end", "peek"],
    ):
        for item in one if type(one) is not dict else [*one, *one.values()]:
            _inside(item, found)
    return list(found.values())


def total_references() -> int:
    return sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0


def left_behind(call: Callable[[], object], watched: list[Any], times: int = 16) -> str:
    """What as many calls leave behind: references to these objects, blocks of memory, references of a debug build."""
    # Numbers in arrays, which are no objects that would be counted themselves.
    before, after = (array("q", bytes(8 * (len(watched) + 2))) for _ in range(2))

    def look(counts: array[int], times: int, collects: bool) -> None:
        for _ in range(times):
            call()
        if collects:
            gc.collect()
        counts[0] = sys.getallocatedblocks()
        counts[1] = total_references()
        for place, one in enumerate(watched):
            counts[place + 2] = sys.getrefcount(one)

    # For a call with keywords CPython copies a dictionary into new memory. It keeps some freed dictionaries: these.
    copies = [{"": None}.copy() for _ in range(100)]
    del copies
    # This makes what is made only once.
    look(before, times, False)
    grown: list[str] = []
    # Only what grows with the calls, and no collection finds, is left behind.
    for factor in FACTORS:
        many = factor * times
        look(before, many, factor > 1)
        look(after, many, factor > 1)
        grown = [
            f"{now - then} {'blocks' if place == 0 else 'references in all' if place == 1 else 'references to '}"
            f"{repr(watched[place - 2])[:60] if place > 1 else ''}"
            for place, (then, now) in enumerate(zip(before, after))
            if abs(now - then) >= many // 2
        ]
        if not grown:
            return ""
    return ", ".join(grown) + f" after {many} calls"


def calling(scene: Scene, function: Callable[..., Any], case: Case) -> Callable[[], None]:
    """The call, from the same state each time. How it ends is for other tests."""

    def call() -> None:
        case.begin(scene)
        with contextlib.suppress(Exception):
            let_go(function(*case.arguments, **case.keywords))

    return call


def leaking_cases(scene: Scene, functions: dict[str, Callable[..., Any]], names: list[str]) -> list[str]:
    found = []
    for case in cases_of(scene):
        if case.name in names:
            left = left_behind(calling(scene, functions[case.name], case), watched_objects(case))
            if left:
                found.append(f"{case}: {left}")
    return found


# ---- Without memory ----


def memory_cases(scene: Scene) -> list[Case]:
    """Usual calls, every allocation of which is to fail in turn."""
    all_good = good(scene)
    stream = scene.stream
    full, last = (scene.full, b"nothing of it"), (scene.other, b"last")
    cases = [Case(name, arguments) for name, arguments in all_good.items()]
    cases += [
        Case("accept_connection", all_good["accept_connection"], waiting=True),
        Case("read", (stream._handle, 600, False), unread=bytes(600)),
        Case("read_exactly", (stream._handle, 600, -1), unread=bytes(600)),
        Case("receive", (*all_good["receive"][:3], 65536, 0, 0), unread=bytes(4000)),
        Case("receive", (*all_good["receive"][:3], 65536, -1, 0), unread=bytes(4000)),
        *[
            Case(name, all_good[name], unread=one)
            for name in ("receive_message", "receive_messages", "receive_messages_of_many")
            for one in UNREAD_MESSAGES
        ],
        Case("send_messages", (stream._handle, [b"first", b"", b"third"], 0, 0)),
        Case("send_messages_to_many", ([(stream, b"first"), full, last, full, (scene.ended, b"x")], StreamSocket)),
        Case("write_many", ([(stream, b"first"), full, last, full, (scene.ended, b"x")], StreamSocket)),
    ]
    if METHODS_ARE_BUILT_IN:
        for name, arguments in good_methods(scene).items():
            unread = UNREAD_OF_METHODS.get(name, UNREAD)
            cases.append(Case(name, arguments, unread=unread))
            cases.append(Case(name, arguments[:-1], {parameters_of(name)[-1]: arguments[-1]}, unread=unread))
        cases += [
            Case("StreamSocket.read_into", (stream, bytearray(8)), {"peek": True}),
            Case("StreamSocket.read", (stream,), unread=bytes(4000)),
            *[Case("StreamSocket.receive_message", (stream, 0), unread=one) for one in UNREAD_MESSAGES],
            Case("StreamSocket.write", (scene.closed, b"written!")),
            Case("Poller.receive", (scene.poller, None), unread=bytes(4000)),
            Case("Poller.receive", (scene.idle_poller, LONGER_SECONDS)),
            Case("Poller.wait_for_events", (scene.idle_poller, LONGER_SECONDS)),
        ]
        # Without memory, CPython 3.11 can forget an error on its way through several functions in Python. Its debug
        # build notices, and ends.
        if not hasattr(sys, "gettotalrefcount"):
            cases += [
                Case("StreamSocket.read_exactly", (scene.closed, 8, 0)),
                Case("StreamSocket.receive_message", (scene.closed, 0)),
                Case("StreamSocket.receive_message", (stream, 0)),
                Case("StreamSocket.send_message", (scene.closed, b"written!", 0)),
                Case("StreamSocket.send_message", (scene.full, b"waits", BRIEF_SECONDS)),
                Case("StreamSocket.write_all", (scene.closed, b"written!", 0)),
                Case("StreamSocket.write_all", (scene.full, b"waits", BRIEF_SECONDS)),
                Case("Poller.receive", (scene.closed_poller, 0)),
                Case("Poller.wait_for_events", (scene.closed_poller, 0)),
            ]
    return cases


#: More allocations than any of these calls makes.
ALLOCATIONS_MAX = 60


class Attempt(NamedTuple):
    """What became of a call without memory."""

    #: Its first allocation that failed: that one alone, or all from there on.
    first: int
    alone: bool
    result: Any
    error: Exception | None

    @property
    def failed(self) -> bool:
        """Whether it failed for want of memory. CPython 3.11 itself may forget to tell."""
        return isinstance(self.error, (MemoryError, SystemError))

    @property
    def partial(self) -> bytes:
        """What was read, as the error tells, or the error before it, for whose traceback there was no memory."""
        error: BaseException | None = self.error
        while error is not None and not hasattr(error, "partial"):
            error = error.__context__
        return getattr(error, "partial", b"")

    def __str__(self) -> str:
        which = f"allocation {self.first}" if self.alone else f"all allocations from {self.first} on"
        return f"without {which}, {self.error!r}" if self.error else f"without {which}"


def without_memory(
    begin: Callable[[], None],
    call: Callable[[], Any],
    allocations: int = ALLOCATIONS_MAX,
    *,
    alone: Iterable[bool] = (True, False),
) -> Iterator[Attempt]:
    """Has the call's first allocation fail, then its second, and so on: alone, and with all from there on."""
    import _testcapi

    for is_alone, first in itertools.product(alone, range(allocations)):
        begin()
        result: Any = None
        failure: Exception | None = None
        _testcapi.set_nomemory(first, first + 1 if is_alone else 0)
        try:
            result = call()
        except (MemoryError, SystemError, bbipc.BbipcError) as error:
            failure = error
        finally:
            _testcapi.remove_mem_hooks()
        yield Attempt(first, is_alone, result, failure)


def fail_allocations(scene: Scene, functions: dict[str, Callable[..., Any]]) -> list[str]:
    """Those calls that lose bytes when one allocation fails, or a handle."""
    found = []
    failures = 0
    for case in memory_cases(scene):
        call = functools.partial(functions[case.name], *case.arguments, **case.keywords)
        case.begin(scene)
        handles = declarations.open_handles()
        for attempt in without_memory(functools.partial(case.begin, scene), call):
            failures += attempt.failed
            let_go(attempt.result)
            if declarations.open_handles() != handles:
                found.append(f"{case} {attempt}: {declarations.open_handles() - handles} handles are lost")
            if attempt.alone:
                try:
                    check_bytes(scene, case, attempt.result, attempt.failed)
                except AssertionError as error:
                    found.append(f"{case} {attempt}: {error}")
    assert failures > 50, failures
    return found


def messages_of(result: Any) -> list[bytes]:
    """What any of the calls that receive messages has received."""
    if isinstance(result, bytes):
        return [result]
    if not isinstance(result, list):
        return []
    return [message for one in result for message in (one[2] if isinstance(one, tuple) else [one])]


def framed_shortly(data: bytes) -> bytes:
    """A size in eight bytes is received as well as one in four."""
    return data[8:] if data.startswith(b"\xff" * 4 + bytes(4)) else data


def check_bytes(scene: Scene, case: Case, result: Any, failed: bool) -> None:
    """No byte is lost when one allocation fails, whatever the call says."""
    left = scene.unread()
    name = case.name.rpartition(".")[2]
    if any(one in case.arguments for one in (scene.closed, scene.closed_poller, scene.full, scene.idle_poller)):
        assert left == case.unread, (result, left)
    elif name in ("read", "read_exactly"):
        assert (b"" if failed else result) + left == case.unread, (result, left)
    elif name.startswith("receive_message"):
        received = b"" if failed else framed(*messages_of(result))
        assert framed_shortly(received + left) == framed_shortly(case.unread), (result, left)
    elif name == "receive":
        received = b"" if failed else b"".join(data for _, _, data in result)
        assert received + left == case.unread, (result, left)
    elif name == "read_into":
        taken = 0 if failed or case.keywords.get("peek") else result
        assert left == case.unread[taken:], (result, left)
        assert failed or bytes(case.arguments[1]) == case.unread, result
    elif name.startswith("send"):
        written = scene.written()
        if name == "send_messages_to_many" and len(case.arguments[0]) > 2:
            # The memory that is wanting may be that to tell what was not sent.
            assert written[0] in (b"", framed(b"first")), (result, written)
            assert written[1] in (b"", framed(b"last")), (result, written)
        elif name == "send_messages_to_many":
            # As there is room for all, all are sent or none.
            assert written == ([b"", b""] if failed else [framed(b"written!"), framed(b"too")]), (result, written)
        else:
            given = case.arguments[1]
            sent = framed(*(given if isinstance(given, list) else [given]))
            assert written[0] == (b"" if failed else sent), (result, written)
    elif name.startswith("write"):
        written = scene.written()
        if name == "write_many":
            if len(case.arguments[0]) == 2:
                # As there is room for all, all are written or none.
                assert written == ([b"", b""] if failed else [b"written!", b"too"]), (result, written)
            else:
                # The memory that is wanting may be that to tell what was not written.
                assert written[0] in (b"", b"first"), (result, written)
                assert written[1] in (b"", b"last"), (result, written)
        else:
            assert written[0] == (b"" if failed else b"written!"), (result, written)


class Crowd:
    """Many streams that have something to be read, and their poller."""

    COUNT = 30
    #: This many bytes are copied to be handed out; more are handed out where they were read.
    COPIED = 100
    #: More allocations than it takes to receive from all of them.
    ALLOCATIONS_MAX = 300

    def __init__(self, scene: Scene, *, with_messages: bool = False) -> None:
        self._with_messages = with_messages
        self.poller = scene.keep(bbipc.make_poller())
        self._pairs = [scene.pair() for _ in range(self.COUNT)]
        for one, _ in self._pairs:
            self.poller.monitor_socket(one, MESSAGE if with_messages else DATA)
        self.sockets = {one._handle: one for one, _ in self._pairs}

    def _sent(self, place: int) -> bytes:
        """Different bytes for each stream, many for some."""
        data = bytes(range(place, place + self.COPIED)) * (1 if place % 3 else 90)
        if not self._with_messages:
            return data
        # One is large: it is received without the GIL.
        return framed(data, b"", b"last") if place else framed(MUCH[:-4])

    def begin(self) -> None:
        for place, (one, remote) in enumerate(self._pairs):
            data = self._sent(place)
            assert by_ctypes.write(remote._handle, data, 0, None) == len(data)
            assert by_ctypes.poll_socket(one._handle, int(DATA), 20_000_000_000, 0) > 0

    def lost(self, result: list[Any]) -> list[int]:
        """How many bytes are neither in the result nor left to be read, for each stream that has lost some."""
        received = {
            socket: framed(*data) if self._with_messages else data for socket, _, data in result if data is not None
        }
        losses = []
        for place, (one, _) in enumerate(self._pairs):
            found: bytes = received.get(one, b"")
            while left := by_ctypes.read(one._handle, 65536, False):
                assert isinstance(left, bytes)
                found += left
            sent = self._sent(place)
            # The bytes that are there are in order.
            assert sent.endswith(found), (sent, found)
            if found != sent:
                losses.append(len(sent) - len(found))
        return losses


def losing_receives(scene: Scene, functions: dict[str, Callable[..., Any]]) -> list[str]:
    """Those calls that lose what streams had to be read, when memory ends: more than what has just been read of one,
    and can neither be copied nor made smaller in its place.
    """
    crowd = Crowd(scene)
    cases = [Case("receive", (crowd.poller._handle, crowd.sockets, SETS, size, 0, 0)) for size in (300, 65536)]
    if METHODS_ARE_BUILT_IN:
        cases += [Case("Poller.receive", (crowd.poller, 0, 300)), Case("Poller.receive", (crowd.poller,))]
        cases += [Case("Poller.receive", (crowd.poller,), {"timeout": 0, "max_bytes": 65536})]
    found = []
    for case in cases:
        call = functools.partial(functions[case.name], *case.arguments, **case.keywords)
        for attempt in without_memory(crowd.begin, call, crowd.ALLOCATIONS_MAX):
            lost = crowd.lost(attempt.result or [])
            # Copying and making smaller are two allocations.
            if len(lost) > 1 or (lost and attempt.alone and lost[0] <= crowd.COPIED):
                found.append(f"{case} {attempt}: lost {lost} bytes")
        assert len(attempt.result) == crowd.COUNT, f"{case} makes more allocations than {crowd.ALLOCATIONS_MAX}"
    return found + losing_messages(scene, functions)


def losing_messages(scene: Scene, functions: dict[str, Callable[..., Any]]) -> list[str]:
    """Those attempts that lose anything of a message when memory ends."""
    crowd = Crowd(scene, with_messages=True)
    case = Case("receive_messages_of_many", (crowd.poller._handle, crowd.sockets, SETS, 0, 0))
    call = functools.partial(functions[case.name], *case.arguments)
    found = []
    for attempt in without_memory(crowd.begin, call, crowd.ALLOCATIONS_MAX):
        lost = crowd.lost(attempt.result or [])
        if lost:
            found.append(f"{case} {attempt}: lost {lost} bytes")
    assert len(attempt.result) == crowd.COUNT, f"{case} makes more allocations than {crowd.ALLOCATIONS_MAX}"
    return found


# ---- As a program ----


def main() -> None:
    scene = Scene()
    functions = built_in_functions()
    failing: dict[str, Callable[[], list[str]]] = {
        "references": lambda: leaking_cases(scene, functions, list(functions)),
        "memory": lambda: fail_allocations(scene, functions),
        "receive": lambda: losing_receives(scene, functions),
    }
    failures = failing[sys.argv[1]]()
    print("".join(f"{one}\n" for one in failures), end="")
    scene.close()
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
