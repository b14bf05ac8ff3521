"""Every call of the layers between the classes and the native library, right and wrong, and how each ends.

Needs no pytest, so that any Python can run it.
"""

from __future__ import annotations

import abc
import contextlib
import inspect
import math
import sys
import sysconfig
from array import array
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import bbipc
from bbipc import Events, Poller, StreamSocket, local
from bbipc._native import by_cpython, by_ctypes, declarations
from bbipc.events import SETS
from systems import LOCAL_ROOM, make_directory

DATA = Events.DATA_AVAILABLE
ROOM = Events.WRITE_SPACE
MESSAGE = Events.MESSAGE_AVAILABLE

#: What a stream has to be read when a call begins.
UNREAD = bytes(range(8))
#: More than is read or written while holding the GIL, where a local stream has room for it.
MUCH = bytes(min(70_000, LOCAL_ROOM))


def framed(*messages: bytes) -> bytes:
    """Messages as they travel."""
    return b"".join(len(one).to_bytes(4, "big") + one for one in messages)


#: What a stream has to be read where messages are received.
MESSAGES = framed(b"first", b"", b"third")
#: A message of which a byte is wanting.
PART = framed(b"part!")[:-1]
#: Bytes. A message larger than this is copied without the GIL.
LARGE = 65536
#: As MESSAGES: messages of each kind first.
UNREAD_MESSAGES = (
    *(MESSAGES, framed(b""), framed(b"one") + PART, framed(MUCH[:-4]), framed(b"x" * (len(MUCH) // 2), b"small")),
    *(framed(bytes(min(LARGE + more, LOCAL_ROOM - 4))) for more in (0, 1)),
    # Its size in eight bytes.
    b"\xff" * 4 + (4).to_bytes(8, "big") + b"long",
)
#: The same: none that is whole, and then what can't become one, or is longer than messages may be.
UNREAD_PARTS = (PART, b"\0", b"\xff" * 5, UNREAD)
UNREAD_WRONG = (b"\xff\xff\xff\xfemore", ((1 << 24) + 1).to_bytes(4, "big"), b"\xff" * 4 + bytes([128, *bytes(7)]))
#: More than a message may have.
TOO_LARGE = bytes((1 << 24) + 1)


class Refusal(Exception):  # noqa: N818 - no error of the program
    """What the objects below raise."""


class FailingIndex:
    def __index__(self) -> int:
        raise Refusal("no index")


class FailingBool:
    def __bool__(self) -> bool:
        raise Refusal("neither true nor false")


class FailingBuffer:
    """No buffer before Python 3.12."""

    def __buffer__(self, _flags: int) -> memoryview:
        raise Refusal("no memory")


class FailingSets(dict):  # type: ignore[type-arg]
    def __missing__(self, _number: int) -> Events:
        raise Refusal("no set")


class FailingFloat:
    def __float__(self) -> float:
        raise Refusal("no float")


class LikeInt(int):
    """An int of an unusual type."""


class LikeFloat(float):
    pass


class LikeStr(str):
    __slots__ = ()


class LikeBytes(bytes):
    __slots__ = ()


class Number:
    """What is a number only for those who ask."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __index__(self) -> int:
        return int(self._value)

    def __float__(self) -> float:
        return self._value  # type: ignore[no-any-return]


class Owner:
    """What a handle can be made for."""

    __slots__ = ("_closed", "_handle")


class OwnerWithDict:
    """The same, and no call of it is ever made."""

    def __new__(cls) -> OwnerWithDict:
        raise Refusal("not made so")

    def __init__(self) -> None:
        raise Refusal("not made so")


class FailingOwner:
    def __setattr__(self, name: str, _value: object) -> None:
        raise Refusal(f"no {name}")


class ClosedOwner:
    """Takes the first attribute, and not the second."""

    __slots__ = ("_handle",)


class Abstract(abc.ABC):
    """Of another metaclass."""

    @abc.abstractmethod
    def do(self) -> None: ...


def released_view() -> memoryview:
    view = memoryview(bytearray(8))
    view.release()
    return view


class PythonBuffer:
    """A buffer by Python code, from Python 3.12 on."""

    def __init__(self) -> None:
        self._data = bytearray(b"8 bytes!")

    def __buffer__(self, _flags: int) -> memoryview:
        return memoryview(self._data)

    def __release_buffer__(self, view: memoryview) -> None:
        view.release()


#: Whether this Python is made for one thread at a time.
HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")


class Scene:
    """The streams and the poller of the calls. Every call begins with the same state of them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.ipv4_server = self._stack.enter_context(bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0))
        path = make_directory()
        self._stack.callback(path.rmdir)
        self.local_server = self._stack.enter_context(bbipc.make_local_server(str(path / "s")))
        # A pipe takes no more than 65536 bytes at once.
        self.server: bbipc.StreamServer = self.ipv4_server if sys.platform == "win32" else self.local_server
        self._client: StreamSocket | None = None
        self._stack.callback(self._drop_clients)
        self.stream, self.remote = self.pair()
        self.other, self.other_remote = self.pair()
        self.full, self._full_remote = self.pair()
        while self.full.write(bytes(65536)):
            pass
        self.ended, ended_remote = self.pair()
        ended_remote.close()
        self.cut, cut_remote = self.pair()
        assert by_ctypes.write(cut_remote._handle, PART, 0, None) == len(PART)
        cut_remote.close()
        # Now the stream has read to the end.
        assert bbipc.poll_socket(self.cut, MESSAGE, 20)
        self.ipv4_stream = self._stack.enter_context(self._connect_by_tcp())
        self.closed, closed_remote = self.pair()
        self.closed.close()
        closed_remote.close()
        self.poller = self.keep(bbipc.make_poller())
        self.closed_poller = bbipc.make_poller()
        self.closed_poller.close()
        self.idle_poller = self.keep(bbipc.make_poller())
        self.poller.monitor_socket(self.stream, DATA | ROOM)
        self.poller.monitor_socket(self.ended, Events.END_OF_DATA)
        self.message_poller = self.keep(bbipc.make_poller())
        self.message_poller.monitor_socket(self.stream, MESSAGE | ROOM)
        self.message_poller.monitor_socket(self.ended, Events.END_OF_DATA)
        self.sockets = {one._handle: one for one in (self.stream, self.ended)}
        self._space = bytearray(1 << 20)
        self.begin()

    def _connect(self) -> StreamSocket:
        if self.server is self.ipv4_server:
            return self._connect_by_tcp()
        return bbipc.connect_to_local_server(self.local_server.local_pathname)

    def _connect_by_tcp(self) -> StreamSocket:
        return bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, self.ipv4_server.port)

    def pair(self) -> tuple[StreamSocket, StreamSocket]:
        # Aborted, since a close would warn of the rest of a message.
        one = self._connect()
        self._stack.callback(one.abort)
        assert bbipc.poll_socket(self.server, Events.CONNECTION_AVAILABLE, 20)
        accepted = self.server.accept_connection()
        self._stack.callback(accepted.abort)
        assert bbipc.poll_socket(one, Events.CONNECTION_SUCCEEDED, 20)
        return one, accepted

    def begin(self, unread: bytes = UNREAD, *, woken: bool = False, waiting: bool = False) -> None:
        """By the reference, so that nothing that is tested is counted with it."""
        self._drop_clients()
        if waiting:
            self._client = self._connect()
            available = int(Events.CONNECTION_AVAILABLE)
            assert by_ctypes.poll_socket(self.server._handle, available, 20_000_000_000, 0) == available
        for one in (self.stream, self.remote, self.other, self.other_remote):
            self._empty(one)
        # One keeps the rest of a message.
        while any(declarations.unsent(one._handle) for one in (self.stream, self.other)):
            for one in (self.remote, self.other_remote):
                self._empty(one)
        assert by_ctypes.write(self.remote._handle, unread, 0, None) == len(unread)
        assert by_ctypes.poll_socket(self.stream._handle, int(DATA), 20_000_000_000, 0) > 0
        # Much comes in several pieces over TCP.
        while by_ctypes.read_into(self.stream._handle, self._space, 0, None, True) < len(unread):
            pass
        poller, handle = self.poller._handle, self.stream._handle
        by_ctypes.unmonitor_socket(poller, self.other._handle)
        by_ctypes.monitor_socket(poller, handle, int(DATA | ROOM))
        by_ctypes.set_monitored_events(poller, handle, int(DATA | ROOM))
        # Takes a wake that nobody waited for.
        by_ctypes.wait_for_events(poller, {}, SETS, 0, 0)
        if woken:
            by_ctypes.wake(self.idle_poller._handle)
        else:
            by_ctypes.wait_for_events(self.idle_poller._handle, {}, SETS, 0, 0)

    def _empty(self, one: StreamSocket) -> None:
        while by_ctypes.read_into(one._handle, self._space, 0, None, False) > 0:
            pass

    def _drop_clients(self) -> None:
        """Those who wait to be accepted. As `begin`."""
        if self._client is not None:
            self._client.abort()
            self._client = None
        for server in (self.ipv4_server, self.local_server):
            while not isinstance(accepted := by_ctypes.accept_connection(server._handle, Owner), int):
                let_go(accepted)

    def unread(self) -> bytes:
        """What the calls have left to be read. By the reference, as `begin`."""
        data = by_ctypes.read(self.stream._handle, 1 << 20, False)
        assert isinstance(data, bytes)
        return data

    def written(self) -> list[bytes]:
        """What the calls have written, to two streams."""
        found = []
        for one in (self.remote, self.other_remote):
            data = b""
            while True:
                piece = by_ctypes.read(one._handle, 1 << 20, False)
                assert isinstance(piece, bytes)
                data += piece
                # Much comes in several pieces over TCP.
                if len(piece) < 4096 or by_ctypes.poll_socket(one._handle, int(DATA), 50_000_000, 0) <= 0:
                    break
            found.append(data)
        return found

    def keep(self, poller: Poller) -> Poller:
        """Has it closed with the scene."""
        return self._stack.enter_context(poller)

    def close(self) -> None:
        self._stack.close()


class Case(NamedTuple):
    """A call: of a built-in function by its name, or of a method by its class and its name."""

    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    unread: bytes = UNREAD
    #: Whether the reference must do the same. Built-in functions refuse wrong keywords themselves, and how much a
    #: system takes of too much data varies.
    compared: bool = True
    #: Whether somebody has woken the idle poller.
    woken: bool = False
    #: Whether a client waits to be accepted.
    waiting: bool = False

    def begin(self, scene: Scene) -> None:
        scene.begin(self.unread, woken=self.woken, waiting=self.waiting)

    def __str__(self) -> str:
        texts = [repr(one)[:60] for one in self.arguments]
        # A keyword may be what can't be printed.
        texts += [f"**{{{name!r}: {repr(value)[:60]}}}" for name, value in self.keywords.items()]
        return f"{self.name}({', '.join(texts)})"


CLASSES: dict[str, type[Any]] = {"Poller": Poller, "StreamSocket": StreamSocket}
#: The methods that can be built-in, each with its class.
METHODS = [f"{kind}.{name}" for kind, its_class in CLASSES.items() for name in by_cpython.method_names(its_class)]
METHODS_ARE_BUILT_IN = hasattr(StreamSocket, "_python_write")


def method(name: str) -> Any:
    kind, _, attribute = name.partition(".")
    return getattr(CLASSES[kind], attribute)


def method_in_python(name: str) -> Any:
    """What the built-in method refers to; the method itself if it is not built-in."""
    kind, _, attribute = name.partition(".")
    return getattr(CLASSES[kind], f"_python_{attribute}", None) or method(name)


WRONG_HANDLES = ("1", None, b"1", 2**64 + 1, -(2**63) - 1, FailingIndex(), object(), [], 0, -1, 2**63 - 1)
#: What objects are not made of, and what owns nothing; and what others than the package's classes do.
KINDS = (
    *(None, 5, "Owner", object(), int, dict, type, object, StreamSocket, bbipc.SocketError),
    *(Owner, OwnerWithDict, FailingOwner, ClosedOwner, Abstract, Owner()),
)
LOOPBACK = 0x7F000001
#: The address of another machine.
ANOTHERS = 0x08080808
WRONG_EVENTS = ("16", None, -1, 2**32, 2**70, 1 << 31, FailingIndex())
WRONG_TIMEOUTS = ("0", None, 2**70, FailingIndex())
#: No wait has come to them, and some of them to none.
PLACES_OF_WAITS = (7, -1, 2**32, "0", None, 1.0, FailingIndex())
WRONG_PLACES = (-1, 9, 2**62, 2**63, -(2**63), -(2**70), "0", 1.0, b"", FailingIndex(), object())

#: Timeouts of methods, in seconds. All calls with them end at once, if there is something to end them.
SECONDS = (
    *(None, 0, 0.0, -0.0, 1, 2.5, 1e-9, 1e-300, True, False, LikeInt(0), LikeInt(1), LikeFloat(0.5)),
    *(Number(0.0), Number(1.5), Fraction(1, 3), 2**31 - 1, 2**31, 2**63, 2**70, 10**400, 1e300, math.inf),
)
WRONG_SECONDS: tuple[Any, ...] = (
    *(math.nan, -math.nan, -1, -0.5, -5e-324, -(2**31), -(2**70), -(10**400), -math.inf, LikeInt(-1)),
    *(LikeFloat("nan"), Number(-1.0), Number(math.nan), Number("text"), FailingFloat(), FailingIndex(), FailingBool()),
    *("0", b"0", "", [], (), object(), float, DATA),
)
#: Shorter than what a wait is first made for, and longer: one ends in the native library, the other goes on in Python.
BRIEF_SECONDS, LONGER_SECONDS = 0.0001, 0.006
SIZES = (0, 1, 7, 8, 9, 600, 65536, 65537, 1 << 20, (1 << 20) + 1)
WRONG_SIZES: tuple[Any, ...] = (-1, -(2**63), -(2**70), "8", None, 1.0, b"", [], FailingIndex(), object(), math.nan)
NO_BUFFERS = ("text", None, 5, 1.5, object(), [1, 2], FailingBuffer())


def not_contiguous() -> list[object]:
    return [memoryview(bytearray(8))[::2], memoryview(bytearray(8))[::-1], released_view()]


def cases_of(scene: Scene) -> list[Case]:
    """The calls with everything that the code tells apart, and every argument in turn with what is wrong for it."""
    return [
        *_wrong_counts(scene),
        *_with_handles(scene),
        *_connecting(scene),
        *_of_pollers(scene),
        *_reading(scene),
        *_writing(scene),
        *_writing_to_many(scene, "write_many"),
        *_writing_to_many(scene, "send_messages_to_many"),
        *_with_messages(scene),
        *_methods(scene),
    ]


def good(scene: Scene) -> dict[str, tuple[Any, ...]]:
    """One usual call of each function."""
    stream, poller = scene.stream._handle, scene.poller._handle
    return {
        "accept_connection": (scene.server._handle, type(scene.stream)),
        "close": (scene.closed._handle,),
        "connect_to_ipv4_tcp_server": (LOOPBACK, scene.ipv4_server.port, 0, 0, 0, bbipc.Ipv4TcpStream),
        "connect_to_local_server": (local._check_pathname(scene.local_server.local_pathname)[1], bbipc.LocalStream),
        "fileno": (stream,),
        "ipv4_address": (scene.ipv4_server._handle, False),
        "monitor_socket": (poller, scene.other._handle, int(DATA)),
        "monitored_events": (poller, stream),
        "poll_socket": (stream, int(DATA | ROOM), 0, 0),
        "read": (stream, 8, False),
        "read_exactly": (stream, 8, 0),
        "read_into": (stream, bytearray(8), 0, None, False),
        "receive": (poller, scene.sockets, SETS, 300, 0, 0),
        "receive_message": (stream, 0),
        "receive_messages": (stream, 0),
        "receive_messages_of_many": (scene.message_poller._handle, scene.sockets, SETS, 0, 0),
        "send_messages": (stream, [b"written!"], 0, 0),
        "send_messages_to_many": ([(scene.stream, b"written!"), (scene.other, b"too")], StreamSocket),
        "set_monitored_events": (poller, stream, int(ROOM)),
        "unmonitor_socket": (poller, stream),
        "wait_for_events": (poller, scene.sockets, SETS, 0, 0),
        "wake": (poller,),
        "write": (stream, b"written!", 0, None),
        "write_all": (stream, b"written!", 0, 0),
        "write_many": ([(scene.stream, b"written!"), (scene.other, bytearray(b"too"))], StreamSocket),
    }


def _wrong_counts(scene: Scene) -> Iterator[Case]:
    for name, arguments in good(scene).items():
        yield Case(name, arguments)
        for count in range(len(arguments)):
            yield Case(name, arguments[:count])
        yield Case(name, (*arguments, object()))
        yield Case(name, (), {"handle": 1}, compared=False)
        yield Case(name, arguments, {"more": object()}, compared=False)


def _each(name: str, arguments: tuple[Any, ...], position: int, values: Any) -> Iterator[Case]:
    for value in values:
        yield Case(name, (*arguments[:position], value, *arguments[position + 1 :]))


def _with_handles(scene: Scene) -> Iterator[Case]:
    other_kinds = [scene.closed._handle, scene.closed_poller._handle, scene.server._handle, scene.poller._handle]
    for name, arguments in good(scene).items():
        if name.startswith("connect_to") or name in ("write_many", "send_messages_to_many", "close"):
            continue
        yield from _each(name, arguments, 0, (*WRONG_HANDLES, *other_kinds, LikeInt(arguments[0])))
    yield from _each("close", good(scene)["close"], 0, (*WRONG_HANDLES[:-3], scene.closed_poller._handle))
    for one in (scene.ended, scene.full):
        yield Case("fileno", (one._handle,))


def _connecting(scene: Scene) -> Iterator[Case]:
    accept, tcp, local_ = "accept_connection", "connect_to_ipv4_tcp_server", "connect_to_local_server"
    all_good = good(scene)
    pathname = all_good[local_][0]
    port = scene.ipv4_server.port
    failing = {accept: (scene.server._handle,), tcp: (LOOPBACK, port, ANOTHERS, 0, 0), local_: (pathname + b"x",)}
    for name in failing:
        *usual, kind = all_good[name]
        for one in (kind, *KINDS):
            yield Case(name, (*usual, one), waiting=True)
            yield Case(name, (*failing[name], one))
    numbers = (LikeInt(port), port + 2**16, -1, -(2**16), 2**32, 2**70, str(port), None, float(port), FailingIndex())
    yield from _each(tcp, all_good[tcp], 1, numbers)
    # Not 65535, which would linger.
    yield from _each(tcp, all_good[tcp], 3, (*numbers[3:], LikeInt(0)))
    yield from _each(tcp, all_good[tcp], 4, (*numbers[3:], LikeInt(0), declarations.REUSE_ADDRESS))
    for position, address in ((0, LOOPBACK), (2, LOOPBACK), (2, ANOTHERS)):
        yield from _each(tcp, all_good[tcp], position, (address, LikeInt(address), address + 2**32, str(address), None))
    pathnames = (b"", b"/nowhere\0", b"x" * 10_000, pathname + b"x", pathname.decode(), bytearray(pathname))
    yield from _each(
        local_, all_good[local_], 0, (*pathnames, LikeBytes(pathname), memoryview(pathname), None, 5, [b"x"])
    )
    for one in (scene.stream, scene.ipv4_server, scene.ipv4_stream, scene.closed):
        for remote in (False, True, 0, 1, "yes", None, FailingBool()):
            yield Case("ipv4_address", (one._handle, remote))


def _of_pollers(scene: Scene) -> Iterator[Case]:
    all_good = good(scene)
    for name in ("monitor_socket", "set_monitored_events", "monitored_events", "unmonitor_socket"):
        yield from _each(name, all_good[name], 1, (*WRONG_HANDLES, scene.closed._handle, scene.poller._handle))
    for name in ("monitor_socket", "set_monitored_events"):
        yield from _each(name, all_good[name], 2, (*WRONG_EVENTS, int(Events.CONNECTION_AVAILABLE)))
    yield from _each("poll_socket", all_good["poll_socket"], 1, (*WRONG_EVENTS, int(Events.END_OF_DATA)))
    yield from _each("poll_socket", all_good["poll_socket"], 2, (*WRONG_TIMEOUTS, 1, -1))
    yield from _each("poll_socket", all_good["poll_socket"], 3, PLACES_OF_WAITS)
    yield Case("poll_socket", (scene.other._handle, int(DATA), 1000, 0))
    for name, timeout_at in (("wait_for_events", 3), ("receive", 4), ("receive_messages_of_many", 3)):
        arguments = all_good[name]
        yield from _each(name, arguments, timeout_at, (*WRONG_TIMEOUTS, 1, -1, 10_000_000))
        yield from _each(name, arguments, timeout_at + 1, PLACES_OF_WAITS)
        # One that has left the poller, and one that is about to come.
        yield from _each(name, arguments, 1, ({}, {scene.stream._handle: scene.stream}))
        reported = [DATA | ROOM, MESSAGE | ROOM, ROOM]
        yield from _each(name, arguments, 2, ({}, FailingSets(), {int(one): one for one in reported}))
    yield from _each("receive", all_good["receive"], 3, ("1", None, 1.0, FailingIndex()))
    for size in (1, 7, 8, 9, 65536, 65537, 1 << 20, (1 << 20) + 1):
        for unread in (UNREAD, MUCH[:8192], MUCH[:8193], MUCH):
            yield Case("receive", (*all_good["receive"][:3], size, 0, 0), unread=unread)


def _reading(scene: Scene) -> Iterator[Case]:
    read, exactly, into = (good(scene)[name] for name in ("read", "read_exactly", "read_into"))
    for size in (1, 8, 9, 600, 65536, 65537, 1 << 20, (1 << 20) + 1):
        for unread in (UNREAD, MUCH):
            for peek in (False, True, 0, "yes", [], FailingBool()):
                yield Case("read", (read[0], size, peek), unread=unread)
            for timeout_ns in (0, 1, 1000):
                yield Case("read_exactly", (exactly[0], size, timeout_ns), unread=unread)
    for name, arguments in (("read", read), ("read_exactly", exactly)):
        yield from _each(name, arguments, 1, ("8", None, 1.5, b"", FailingIndex(), object()))
        for one in (scene.ended, scene.full, scene.other):
            yield Case(name, (one._handle, *arguments[1:]))
    yield from _each("read_exactly", exactly, 2, WRONG_TIMEOUTS)
    yield Case("read_exactly", (scene.ended._handle, 8, -1))
    yield Case("read_exactly", (exactly[0], 8, -1))
    buffers = (
        b"read-only",
        memoryview(b"read-only"),
        bytearray(),
        memoryview(bytearray()),
        memoryview(bytearray(8)),
        array("I", [0, 0]),
        memoryview(array("d", [0.0, 0.0])),
        memoryview(bytearray(8)).cast("B", (2, 2, 2)),
        PythonBuffer(),
        bytearray(70000),
    )
    yield from _each("read_into", into, 1, (*NO_BUFFERS, *not_contiguous(), *buffers))
    for position in (2, 3):
        yield from _each("read_into", into, position, WRONG_PLACES)
    yield from _each("read_into", into, 4, (True, 1, "yes", FailingBool()))
    for start, end in ((0, 8), (3, 5), (5, 3), (8, 8), (8, None), (LikeInt(1), LikeInt(2)), (True, None)):
        yield Case("read_into", (into[0], into[1], start, end, False))
    for one in (scene.ended, scene.other):
        yield Case("read_into", (one._handle, *into[1:]))


DATA_OF_ALL_KINDS = (
    b"",
    bytearray(),
    bytearray(b"bytes"),
    memoryview(b"read-only"),
    memoryview(bytearray(b"writable")),
    array("I", [1, 2]),
    memoryview(b"12345678").cast("B", (2, 2, 2)),
    PythonBuffer(),
    bytes(70000),
    bytearray(70000),
)


def _writing(scene: Scene) -> Iterator[Case]:
    for name in ("write", "write_all"):
        arguments = good(scene)[name]
        yield from _each(name, arguments, 1, (*NO_BUFFERS, *not_contiguous(), *DATA_OF_ALL_KINDS))
        yield from _each(name, arguments, 2, (*WRONG_PLACES, 8, 3, LikeInt(3)))
        for one in (scene.ended, scene.full):
            yield Case(name, (one._handle, *arguments[1:]))
    yield from _each("write", good(scene)["write"], 3, (*WRONG_PLACES, 0, 3, 8))
    yield Case("write", (scene.stream._handle, b"written!", 5, 3))
    yield from _each("write_all", good(scene)["write_all"], 3, (*WRONG_TIMEOUTS, 1, -1))
    yield Case("write_all", (scene.full._handle, b"waits", 0, 1000))
    yield Case("write_all", (scene.full._handle, bytes(70000), 0, 1000))


def _writing_to_many(scene: Scene, name: str) -> Iterator[Case]:
    stream, other = scene.stream, scene.other
    first, last = (stream, b"first"), (other, b"last")

    def many(*items: Any) -> Case:
        return Case(name, (list(items), StreamSocket))

    yield many()
    for data in DATA_OF_ALL_KINDS:
        yield many((stream, data), (other, data))
    for stream_without_luck in (scene.full, scene.ended, scene.closed):
        bad = (stream_without_luck, b"nothing of it")
        yield many(bad)
        yield many(first, bad, (stream, b"second"), bad, last)
        yield many(first, (stream_without_luck, b""), last)
    wrong_items: list[Any] = [5, None, "ab", (stream,), (stream, b"x", 1), [stream, b"a list"], [], stream, {}]
    wrong_items += [(one, b"x") for one in (None, 5, "s", scene.server, scene.poller, StreamSocket, stream._handle)]
    wrong_items += [(stream, data) for data in (*NO_BUFFERS, *not_contiguous())]
    for item in wrong_items:
        yield many(item)
        yield many(first, last, item, (stream, b"more"))
    unfinished = object.__new__(type(stream))
    yield many(first, (unfinished, b"x"))
    for items in (None, 5, (first, last), (first, 5), {stream: b"x"}, [first, last], ""):
        yield Case(name, (items, StreamSocket))
    for kind in (None, 5, int, object(), (StreamSocket,), (StreamSocket, 5)):
        yield Case(name, ([first, last], kind))


def _with_messages(scene: Scene) -> Iterator[Case]:
    all_good = good(scene)
    stream, other = scene.stream, scene.other
    receive, several, of_many = "receive_message", "receive_messages", "receive_messages_of_many"
    for unread in (*UNREAD_MESSAGES, *UNREAD_PARTS, *UNREAD_WRONG):
        for timeout_ns in (0, 1, 1000):
            yield Case(receive, (stream._handle, timeout_ns), unread=unread)
            yield Case(of_many, (*all_good[of_many][:3], timeout_ns, 0), unread=unread)
        for count in (0, 1, 2, 3, 4, 1 << 20, 2**63 - 1, LikeInt(2), True):
            yield Case(several, (stream._handle, count), unread=unread)
    many = framed(*[b"x"] * (len(MUCH) // 5))
    yield Case(several, (stream._handle, 0), unread=many)
    # How many of them these receive at once differs.
    yield Case(of_many, (*all_good[of_many][:3], 0, 0), unread=many, compared=False)
    many = framed(*[bytes(1000)] * (len(MUCH) // 1004))
    yield Case(several, (stream._handle, 0), unread=many, compared=False)
    yield Case(of_many, (*all_good[of_many][:3], 0, 0), unread=many, compared=False)
    for unread in (*UNREAD_MESSAGES, *UNREAD_WRONG):
        yield Case(receive, (stream._handle, -1), unread=unread)
        yield Case(of_many, (*all_good[of_many][:3], -1, 0), unread=unread)
    yield from _each(receive, all_good[receive], 1, (*WRONG_TIMEOUTS, LikeInt(0)))
    yield from _each(several, all_good[several], 1, ("8", None, 1.5, b"", [], FailingIndex(), object(), 2**63, 2**70))
    for one in (scene.ended, scene.full, other, scene.cut):
        yield Case(receive, (one._handle, 0))
        yield Case(several, (one._handle, 0))
    for one in (scene.ended, scene.cut):
        yield Case(receive, (one._handle, -1))
    yield Case(receive, (other._handle, 1000))
    yield from _sending_messages(scene)
    for items in (
        [(stream, b"one"), (other, b"two"), (stream, b"three"), (other, b""), (stream, b"")],
        [(stream, b"one"), (stream, TOO_LARGE), (other, b"two"), (stream, b"three")],
        [(stream, TOO_LARGE)],
        [(stream, bytes(100))] * 200,
        [(stream, b"one"), (scene.full, TOO_LARGE), (scene.full, b"x"), (scene.ended, b"x"), (scene.ended, b"x")],
    ):
        yield Case("send_messages_to_many", (items, StreamSocket))


def _sending_messages(scene: Scene) -> Iterator[Case]:
    send = "send_messages"
    arguments = good(scene)[send]
    three = [b"first", b"", b"third"]
    lists = [[data] for data in (*NO_BUFFERS, *not_contiguous(), *DATA_OF_ALL_KINDS)]
    lists += [three, [], [b"first", bytearray(b"second")], [bytearray(b"first"), b"second"], [b"first", 5]]
    lists += [[bytes(100)] * 200, [b"small", MUCH[:-100]], [MUCH[:-100], b"small"], [TOO_LARGE], [b"small", TOO_LARGE]]
    for messages in (*lists, tuple(three), None, 5, b"bytes", "text", {}, iter(three)):
        yield Case(send, (arguments[0], messages, 0, 0))
    for start in (0, 1, 2, 3, 4, 2**62, -1, 2**63, "0", None, 1.0, FailingIndex(), LikeInt(1), True):
        yield Case(send, (arguments[0], three, start, 0))
    yield from _each(send, arguments, 3, (*WRONG_TIMEOUTS, 1, -1, LikeInt(0)))
    yield Case(send, (arguments[0], three, 0, -1))
    for one in (scene.ended, scene.full, scene.closed):
        for timeout_ns in (0, 1000):
            yield Case(send, (one._handle, [b"waits"], 0, timeout_ns))
            yield Case(send, (one._handle, three, 1, timeout_ns))
            yield Case(send, (one._handle, [bytes(70000)], 0, timeout_ns))
    for timeout_ns in (0, 1000):
        # The stream keeps the rest of the first.
        yield Case(send, (arguments[0], [bytes(1 << 20), b"behind"], 0, timeout_ns), compared=False)
        yield Case(send, (arguments[0], [bytes(1 << 20)], 0, timeout_ns), compared=False)


def good_methods(scene: Scene) -> dict[str, tuple[Any, ...]]:
    """One usual call of each method that can be built-in, with all that it takes by position."""
    stream, poller = scene.stream, scene.poller
    usual = {
        "Poller.receive": (poller, 0, 300),
        "Poller.wait_for_events": (poller, 0),
        "StreamSocket.read": (stream, 8),
        "StreamSocket.read_exactly": (stream, 8, 0),
        "StreamSocket.read_into": (stream, bytearray(8), 0, None),
        "StreamSocket.receive_message": (stream, 0),
        "StreamSocket.send_message": (stream, b"written!", 0),
        "StreamSocket.write": (stream, b"written!", 0, None),
        "StreamSocket.write_all": (stream, b"written!", 0),
    }
    return {name: usual[name] for name in METHODS}


#: What there is to be read for the usual call of a method.
UNREAD_OF_METHODS = {"StreamSocket.receive_message": MESSAGES}


def _methods(scene: Scene) -> Iterator[Case]:
    if not METHODS_ARE_BUILT_IN:
        return
    for name, arguments in good_methods(scene).items():
        for case in (*_with_selves(scene, name, arguments), *_by_position_and_keyword(name, arguments)):
            yield case._replace(unread=UNREAD_OF_METHODS.get(name, UNREAD))
    by_methods = (_reading_by_methods, _writing_by_methods, _waiting_by_methods, _messages_by_methods)
    for case in (case for cases in by_methods for case in cases(scene)):
        if case.name in METHODS:
            yield case


def _with_selves(scene: Scene, name: str, arguments: tuple[Any, ...]) -> Iterator[Case]:
    """The usual call of a method, for every object that it can be called of."""
    rest = arguments[1:]
    last = {parameters_of(name)[-1]: rest[-1]}
    for self in (None, 5, object(), scene.server, type(arguments[0]), scene.poller, scene.stream):
        if self is not arguments[0]:
            yield Case(name, (self, *rest), compared=False)
            yield Case(name, (self, *rest[:-1]), last, compared=False)
    selves: tuple[Any, ...] = (scene.closed_poller, scene.idle_poller)
    if isinstance(arguments[0], StreamSocket):
        selves = (scene.closed, scene.ended, scene.full, scene.other)
    for self in (*selves, object.__new__(type(arguments[0]))):
        yield Case(name, (self, *rest))
        yield Case(name, (self, *rest[:-1]), last)


def parameters_of(name: str) -> list[str]:
    """What a method takes by position, but for self."""
    parameters = inspect.signature(method_in_python(name)).parameters.values()
    return [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD][1:]


def _by_position_and_keyword(name: str, arguments: tuple[Any, ...]) -> Iterator[Case]:
    """The usual call of a method, with its arguments given in every way, right and wrong."""
    names = parameters_of(name)
    assert len(names) == len(arguments) - 1, name
    named = dict(zip(names, arguments[1:]))
    # Equal to those that the code has, but other objects, as those of a dictionary may be.
    copies = {bytes(one, "ascii").decode(): value for one, value in named.items()}
    yield Case(name, (), compared=False)
    yield Case(name, (), {"self": arguments[0], **named}, compared=False)
    yield Case(name, arguments, {1: 2}, compared=False)  # type: ignore[dict-item]
    for count in range(1, len(arguments) + 1):
        rest = names[count - 1 :]
        yield Case(name, arguments[:count])
        yield Case(name, arguments[:count], {one: named[one] for one in rest})
        yield Case(name, arguments[:count], {one: named[one] for one in reversed(rest)})
        yield Case(name, arguments[:count], {one: copies[one] for one in copies if one in rest})
        yield Case(name, arguments[:count], {LikeStr(one): named[one] for one in rest})
        # One alone, though others may be needed, or it may be given already.
        for one in names:
            yield Case(name, arguments[:count], {one: named[one]})
        yield Case(name, arguments[:count], {**{one: named[one] for one in rest}, "more": 1})
    for one in ("self", "", names[-1][:-1], f"{names[-1]}s", f"{names[-1]}\0", names[-1].title(), "\ud800"):
        yield Case(name, arguments, {one: arguments[-1]})
        yield Case(name, arguments[:-1], {one: arguments[-1], names[-1]: arguments[-1]})
    yield Case(name, (*arguments, object()))
    yield Case(name, (*arguments, False, False))


def _either_way(
    name: str, arguments: tuple[Any, ...], parameter: str, values: Iterable[Any], **more: Any
) -> Iterator[Case]:
    """That argument in turn with these values, by position and by keyword."""
    position = 1 + parameters_of(name).index(parameter)
    names = parameters_of(name)[position:]
    for value in values:
        yield Case(name, (*arguments[:position], value, *arguments[position + 1 :]), **more)
        named = {parameter: value, **dict(zip(names, arguments[position + 1 :]))}
        yield Case(name, arguments[:position], named, **more)


def _reading_by_methods(scene: Scene) -> Iterator[Case]:
    stream, other = scene.stream, scene.other
    room = bytearray(8)
    read, into, exactly = "StreamSocket.read", "StreamSocket.read_into", "StreamSocket.read_exactly"
    for one in (scene.closed, scene.ended, scene.full, other, object.__new__(type(stream))):
        for buffer in (room, PythonBuffer(), not_contiguous()[0]):
            yield Case(into, (one, buffer))
        for size in (0, -1):
            yield Case(read, (one, size))
            yield Case(exactly, (one, size, 0))
            yield Case(exactly, (one, size, -1))
    for buffer in (*NO_BUFFERS, *not_contiguous(), *DATA_OF_ALL_KINDS):
        yield from _either_way(into, (stream, buffer, 0, None), "buffer", (buffer,))
        yield Case(into, (stream, buffer))
        yield Case(into, (stream, buffer), {"peek": True})
    for place in (*WRONG_PLACES, 3, 8, LikeInt(3), Number(3), True):
        for arguments in ((place,), (0, place), (place, place)):
            yield Case(into, (stream, room, *arguments))
            yield Case(into, (stream, room), dict(zip(("start", "end"), arguments)))
        yield Case(into, (stream, room), {"end": place})
        yield Case(into, (stream, room, 1), {"end": place, "peek": True})
    for start, end in ((3, 5), (5, 3), (8, 8), (8, None), (None, None)):
        yield Case(into, (stream, room), {"end": end, "start": start})
    for peek in (True, False, 0, 1, "yes", None, FailingBool()):
        yield Case(into, (stream, room), {"peek": peek})
        yield Case(into, (stream, room, 0, 4), {"peek": peek})
        yield Case(into, (stream,), {"peek": peek, "buffer": room})
        yield Case(into, (scene.closed, room), {"peek": peek})
        for max_bytes in (0, 4, -1, "4"):
            yield Case(read, (stream, max_bytes), {"peek": peek})
            yield Case(read, (stream,), {"peek": peek, "max_bytes": max_bytes})
            yield Case(read, (scene.closed, max_bytes), {"peek": peek})
    yield Case(into, (stream, room), {"peek": True}, unread=MUCH)
    yield Case(into, (stream, bytearray(70000)), unread=MUCH)
    yield Case(into, (stream, bytearray(70000)), {"peek": True}, unread=MUCH)
    yield Case(read, (stream,), {"peek": True}, unread=MUCH)
    sizes = (*SIZES, LikeInt(8), Number(8), True, False, *WRONG_SIZES)
    for name, rest, parameter in ((read, (), "max_bytes"), (exactly, (0,), "size")):
        yield from _either_way(name, (stream, 8, *rest), parameter, (*sizes, 2**63 - 1, 2**63, 2**70))
        yield from _either_way(name, (stream, 8, *rest), parameter, SIZES[-5:], unread=MUCH)
    yield from _either_way(exactly, (stream, 8, 0), "timeout", (*SECONDS, *WRONG_SECONDS))
    yield from _either_way(exactly, (stream, 0, 0), "timeout", (0, None, *WRONG_SECONDS[:4]))
    for one in (scene.closed, scene.ended, object.__new__(type(stream))):
        yield from _either_way(exactly, (one, 8, 0), "timeout", (None, 1, 2.5, math.nan, -1, "0"))
    # Nothing is there, a part, and a part of what is read in pieces.
    for timeout in (0, BRIEF_SECONDS, LikeFloat(BRIEF_SECONDS), Number(BRIEF_SECONDS)):
        yield from _either_way(exactly, (other, 8, 0), "timeout", (timeout,))
        yield from _either_way(exactly, (stream, 16, 0), "timeout", (timeout,))
        yield Case(exactly, (stream, 1 << 20, timeout), unread=MUCH)
        yield Case(exactly, (stream, (1 << 20) + 1, timeout), unread=MUCH)
    yield Case(exactly, (other, 8, LONGER_SECONDS))
    yield from _either_way(exactly, (stream, 16, 0), "timeout", (LONGER_SECONDS,))


def _writing_by_methods(scene: Scene) -> Iterator[Case]:
    stream = scene.stream
    write, write_all = "StreamSocket.write", "StreamSocket.write_all"
    for one in (scene.closed, scene.ended, scene.full, scene.other, object.__new__(type(stream))):
        for buffer in (bytearray(8), b"", PythonBuffer(), not_contiguous()[0], "text"):
            yield Case(write, (one, buffer))
            yield Case(write_all, (one, buffer, 0))
            yield Case(write_all, (one, buffer, -1))
    for buffer in (*NO_BUFFERS, *not_contiguous(), *DATA_OF_ALL_KINDS):
        yield Case(write, (stream, buffer))
        yield from _either_way(write, (stream, buffer, 0, None), "data", (buffer,))
        yield Case(write_all, (stream, buffer))
        yield from _either_way(write_all, (stream, buffer, 0), "data", (buffer,))
        yield Case(write_all, (stream, buffer), {"timeout": -1})
    for place in (*WRONG_PLACES, 3, 8, LikeInt(3), Number(3), True):
        for arguments in ((place,), (0, place), (place, place)):
            yield Case(write, (stream, b"written!", *arguments))
            yield Case(write, (stream, b"written!"), dict(zip(("start", "end"), arguments)))
        yield Case(write, (stream, b"written!"), {"end": place})
        yield Case(write, (stream, b"written!", 1), {"end": place})
    for start, end in ((3, 5), (5, 3), (8, 8), (8, None), (None, None)):
        yield Case(write, (stream, b"written!"), {"end": end, "start": start})
    yield from _either_way(write_all, (stream, b"written!", 0), "timeout", (*SECONDS, *WRONG_SECONDS))
    for one in (scene.closed, scene.ended, object.__new__(type(stream))):
        yield from _either_way(write_all, (one, b"x", 0), "timeout", (None, 1, 2.5, math.nan, -1, "0"))
    for timeout in (0, BRIEF_SECONDS, LikeFloat(BRIEF_SECONDS), Number(BRIEF_SECONDS)):
        yield from _either_way(write_all, (scene.full, b"waits", 0), "timeout", (timeout,))
        yield Case(write_all, (scene.full, bytes(70000), timeout))
    yield from _either_way(write_all, (scene.full, b"waits", 0), "timeout", (LONGER_SECONDS,))
    for timeout in (0, LONGER_SECONDS):
        yield Case(write_all, (stream, bytes(1 << 20), timeout), compared=False)


def _waiting_by_methods(scene: Scene) -> Iterator[Case]:
    poller, idle, closed = scene.poller, scene.idle_poller, scene.closed_poller
    unfinished = object.__new__(Poller)
    wait, receive = "Poller.wait_for_events", "Poller.receive"
    for name, more in ((wait, ()), (receive, (300,))):
        yield from _either_way(name, (poller, 0, *more), "timeout", (*SECONDS, *WRONG_SECONDS))
        for one in (closed, unfinished):
            yield from _either_way(name, (one, 0, *more), "timeout", (None, 1, 2.5, math.nan, -1, "0"))
        timeouts = (0, BRIEF_SECONDS, LikeFloat(BRIEF_SECONDS), Number(BRIEF_SECONDS), LONGER_SECONDS)
        yield from _either_way(name, (idle, 0, *more), "timeout", timeouts)
        # Only the wake ends this wait.
        yield Case(name, (idle,), woken=True)
        yield from _either_way(name, (idle, 0, *more), "timeout", (None, 0, 20), woken=True)
    sizes = (*SIZES, LikeInt(8), Number(8), True, False, 2**63 - 1, *WRONG_SIZES)
    yield from _either_way(receive, (poller, 0, 300), "max_bytes", sizes)
    for unread in (MUCH[:8192], MUCH[:8193], MUCH):
        yield from _either_way(receive, (poller, 0, 300), "max_bytes", SIZES[-5:], unread=unread)
    for size in (300, 0, -1, "8", (1 << 20) + 1):
        yield Case(receive, (poller,), {"max_bytes": size})
        yield Case(receive, (poller, None), {"max_bytes": size})
        yield Case(receive, (poller,), {"max_bytes": size, "timeout": -1})
        for one in (closed, unfinished):
            yield Case(receive, (one, 0, size))
            yield Case(receive, (one,), {"max_bytes": size})
        yield Case(receive, (idle, BRIEF_SECONDS, size))


def _messages_by_methods(scene: Scene) -> Iterator[Case]:
    stream, other = scene.stream, scene.other
    receive, send = "StreamSocket.receive_message", "StreamSocket.send_message"
    unfinished = object.__new__(type(stream))
    brief = (BRIEF_SECONDS, LikeFloat(BRIEF_SECONDS), Number(BRIEF_SECONDS), LONGER_SECONDS)
    for unread in (*UNREAD_MESSAGES, *UNREAD_WRONG):
        yield from _either_way(receive, (stream, 0), "timeout", (None, 0, 1), unread=unread)
        yield Case(receive, (stream,), unread=unread)
    yield from _either_way(receive, (stream, 0), "timeout", (*SECONDS, *WRONG_SECONDS), unread=MESSAGES)
    for one in (scene.closed, scene.ended, unfinished):
        yield from _either_way(receive, (one, 0), "timeout", (None, 0, 1, 2.5, math.nan, -1, "0"))
        yield from _either_way(send, (one, b"x", 0), "timeout", (None, 0, 1, 2.5, math.nan, -1, "0"))
    for timeout in (0, *brief):
        yield from _either_way(receive, (other, 0), "timeout", (timeout,))
        for unread in UNREAD_PARTS:
            yield Case(receive, (stream, timeout), unread=unread)
        yield from _either_way(send, (scene.full, b"waits", 0), "timeout", (timeout,))
        yield Case(send, (scene.full, bytes(70000), timeout))
    for one in (scene.closed, scene.ended, scene.full, other, unfinished):
        for data in (bytearray(8), b"", PythonBuffer(), not_contiguous()[0], "text"):
            yield Case(send, (one, data, 0))
            yield Case(send, (one, data, -1))
    for data in (*NO_BUFFERS, *not_contiguous(), *DATA_OF_ALL_KINDS, TOO_LARGE):
        yield Case(send, (stream, data))
        yield from _either_way(send, (stream, data, 0), "data", (data,))
        yield Case(send, (stream, data), {"timeout": -1})
    yield from _either_way(send, (stream, b"written!", 0), "timeout", (*SECONDS, *WRONG_SECONDS))
    for timeout in (0, LONGER_SECONDS):
        yield Case(send, (stream, bytes(1 << 20), timeout), compared=False)


def built_in_functions() -> dict[str, Callable[..., Any]]:
    """Whichever layer is in use."""
    make = by_cpython.bind()
    functions = {name: make(name.encode(), getattr(by_ctypes, name)) for name in by_cpython.function_names()}
    if METHODS_ARE_BUILT_IN:
        functions.update({name: method(name) for name in METHODS})
    return functions


def references() -> dict[str, Callable[..., Any]]:
    """The Python functions that do the same."""
    functions: dict[str, Callable[..., Any]] = {name: getattr(by_ctypes, name) for name in by_cpython.function_names()}
    if METHODS_ARE_BUILT_IN:
        functions.update({name: method_in_python(name) for name in METHODS})
    return functions


def outcome(function: Callable[..., Any], case: Case) -> tuple[Any, ...]:
    """What a call returned or raised, as far as two calls can have it in common."""
    try:
        result = function(*case.arguments, **case.keywords)
    except Exception as error:
        told = ("socket", "errno", "partial", "bytes_written", "accepted")
        return (type(error), str(error), type(error.__cause__), *(getattr(error, name, None) for name in told))
    if not hasattr(result, "_handle"):
        return type(result), result
    address = by_ctypes.ipv4_address(result._handle, case.name.startswith("connect"))
    return type(result), result._closed, address, let_go(result)


def let_go(result: Any) -> int:
    """Closes what a call has made, if that owns a handle."""
    if not hasattr(result, "_handle"):
        return 0
    result._closed = True
    # Nothing lingers.
    return by_ctypes.abort(result._handle)
