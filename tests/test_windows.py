"""What is Windows' own: pipes' instances, names and access, operations under way, handles, and its error codes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import pickle
import random
import select
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_int32, c_uint8, c_uint16, c_uint32, c_void_p
from functools import partial
from pathlib import Path
from typing import Union

import pytest

import bbipc
from bbipc import Events, LocalServer, LocalStream, Poller, SocketError, StreamServer, StreamSocket, poll_socket
from bbipc._native import declarations
from conftest import PATIENCE, Transport, abort, fill
from peer import run_program, until_asleep
from processes import Processes, ended, eventually

if sys.platform != "win32":
    pytest.skip("pipes with instances, handles and completion ports are Windows' own", allow_module_level=True)

import _winapi

import named_pipes
import windows

CLIENT = Events.CONNECTION_AVAILABLE
DATA = Events.DATA_AVAILABLE
END = Events.END_OF_DATA
SEVERED = Events.CONNECTION_SEVERED
SPACE = Events.WRITE_SPACE

#: Bytes that a pipe keeps in each direction; also what one write takes at the most.
BUFFER = 65536

PIPES = "\\\\.\\pipe\\"
LIMIT = 256

READ_WRITE = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE

Pathname = Union[str, bytes, "os.PathLike[str]"]


# ---- What the tests are made of ----

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A plain name that no server has."""
    return f"bbipc-test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """What is entered here is left after the test."""
    with contextlib.ExitStack() as made:
        yield made


def accept(server: LocalServer) -> LocalStream:
    assert poll_socket(server, CLIENT, PATIENCE)
    return server.accept_connection()


@contextlib.contextmanager
def pipe_pair(name: str, accepted_writes: bool = False) -> Iterator[tuple[LocalStream, LocalStream]]:
    """The two ends of a pipe: the client and the accepted one, or the other way round."""
    with bbipc.make_local_server(name) as server, bbipc.connect_to_local_server(name) as client, accept(server) as ours:
        server.close()
        yield (ours, client) if accepted_writes else (client, ours)


def refusal(attempt: Callable[[], object]) -> SocketError:
    """The error that an attempt must end with."""
    with pytest.raises(SocketError) as caught:
        attempt()
    return caught.value


def check_code(error: BaseException | None, winerror: int, number: int) -> None:
    """An error has these codes, both as they are, and in another process."""
    assert isinstance(error, SocketError)
    assert isinstance(error, OSError)
    assert (error.winerror, error.errno) == (winerror, number)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.winerror, copy.errno, str(copy)) == (winerror, number, str(error))


def check_busy(name: Pathname) -> None:
    check_code(refusal(partial(bbipc.connect_to_local_server, name)), 231, errno.EAGAIN)


def check_taken(name: Pathname) -> None:
    check_code(refusal(partial(bbipc.make_local_server, name)), 10048, errno.EADDRINUSE)


def check_nobody(name: Pathname) -> None:
    error = refusal(partial(bbipc.connect_to_local_server, name))
    check_code(error, 2, errno.ENOENT)
    assert isinstance(error, bbipc.NoLocalServerError)
    assert isinstance(error, FileNotFoundError)


def check_talk(server: LocalServer, name: Pathname) -> None:
    with bbipc.connect_to_local_server(name) as client, accept(server) as accepted:
        client.write_all(b"there")
        assert accepted.read_exactly(5, PATIENCE) == b"there"
        accepted.write_all(b"back")
        assert client.read_exactly(4, PATIENCE) == b"back"


def read_to_end(stream: StreamSocket, sizes: Iterator[int] | None = None) -> bytes:
    """All that comes, in pieces of these sizes."""
    received = bytearray()
    while not stream.end_of_data():
        assert poll_socket(stream, DATA | END, PATIENCE)
        received += stream.read(next(sizes) if sizes else BUFFER)
    return bytes(received)


def write_until_pending(stream: StreamSocket, data: bytes) -> int:
    """Writes until all is written, or a write is under way. Returns how many bytes were taken."""
    count = 0
    while count < len(data):
        taken = stream.write(data, count)
        if taken == 0:
            break
        count += taken
    return count


def in_a_thread_that_ends(work: Callable[[], object]) -> None:
    """Does it in a thread that is gone afterwards, for the system too: it takes back what such a thread has begun."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures, failures
    this_process = os.getpid()
    eventually(lambda: thread.native_id not in {one.number for one in windows._threads(this_process)}, "it has ended")


def in_threads(*works: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


# ---- Instances and the backlog ----


@pytest.mark.parametrize("backlog", [0, 1, 2, 7, 100])
def test_a_backlog_keeps_so_many_clients_waiting_and_no_more(
    name: str, stack: contextlib.ExitStack, backlog: int
) -> None:
    server = stack.enter_context(bbipc.make_local_server(name, backlog=backlog))
    room = max(backlog, 1)
    for number in range(room):
        client = stack.enter_context(bbipc.connect_to_local_server(name))
        client.write_all(b"%03d" % number)
    for _ in range(2):
        check_busy(name)
    # Each accept makes room for one more, at once.
    for number in range(room, 2 * room):
        accepted = stack.enter_context(accept(server))
        assert accepted.read_exactly(3, PATIENCE) == b"%03d" % (number - room)
        client = stack.enter_context(bbipc.connect_to_local_server(name))
        client.write_all(b"%03d" % number)
        check_busy(name)


def test_a_huge_backlog_is_cut(name: str, stack: contextlib.ExitStack) -> None:
    server = stack.enter_context(bbipc.make_local_server(name, backlog=2**31 - 1))
    for number in range(1024):
        stack.enter_context(bbipc.connect_to_local_server(name)).write_all(b"%04d" % number)
    check_busy(name)
    for number in range(1024):
        with accept(server) as accepted:
            assert accepted.read_exactly(4, PATIENCE) == b"%04d" % number
    with pytest.raises(bbipc.NoConnectionAvailableError):
        server.accept_connection()


def test_clients_are_accepted_in_the_order_of_their_arrival(name: str, stack: contextlib.ExitStack) -> None:
    """Also while some are accepted between the others' arrivals, so that instances old and new have clients."""
    server = stack.enter_context(bbipc.make_local_server(name, backlog=8))
    chance = random.Random(8)
    arrived = accepted_count = 0
    while accepted_count < 200:
        if arrived - accepted_count < 8 and (arrived == accepted_count or chance.random() < 0.5):
            client = stack.enter_context(bbipc.connect_to_local_server(name))
            client.write_all(b"%03d" % arrived)
            arrived += 1
        else:
            # A client that has connected can be accepted, without a wait.
            with server.accept_connection() as accepted:
                assert accepted.read_exactly(3, PATIENCE) == b"%03d" % accepted_count
            accepted_count += 1


def test_a_client_that_has_connected_can_be_accepted_at_once(name: str) -> None:
    with bbipc.make_local_server(name, backlog=4) as server:
        for _ in range(300):
            with bbipc.connect_to_local_server(name):
                assert server.connection_available()
                server.accept_connection().close()
            assert not server.connection_available()


@pytest.mark.parametrize("size", [0, 1, BUFFER, BUFFER + 1, 2 * BUFFER])
def test_clients_that_went_before_the_accept_leave_what_they_wrote(name: str, size: int) -> None:
    """The largest two leave with a write under way, which stays until it is read."""
    data = random.Random(size).randbytes(size)
    with bbipc.make_local_server(name, backlog=3) as server:
        for _ in range(3):
            with bbipc.connect_to_local_server(name) as client:
                assert write_until_pending(client, data) == size
        # They keep their places until they are accepted.
        check_busy(name)
        for _ in range(3):
            with accept(server) as accepted:
                assert read_to_end(accepted) == data
                assert accepted.connection_error() is None
        assert not server.connection_available()
        check_talk(server, name)


def test_a_server_with_one_place_outlives_clients_that_come_and_go(name: str) -> None:
    with bbipc.make_local_server(name, backlog=1) as server:
        for _ in range(50):
            bbipc.connect_to_local_server(name).close()
            check_busy(name)
            with accept(server) as accepted:
                assert poll_socket(accepted, END, PATIENCE)
                assert refusal(partial(accepted.write, b"x")).errno == errno.EPIPE
        check_talk(server, name)


def test_clients_that_are_not_accepted_see_the_end_of_the_server(name: str, stack: contextlib.ExitStack) -> None:
    server = bbipc.make_local_server(name, backlog=5)
    idle, writing, waiting, gone = (stack.enter_context(bbipc.connect_to_local_server(name)) for _ in range(4))
    writing.write_all(b"never read")
    gone.close()
    outcomes: list[Events] = []
    threads = in_threads(lambda: outcomes.append(poll_socket(waiting, DATA | END | SEVERED, PATIENCE)))
    server.close()
    for thread in threads:
        thread.join()
    assert outcomes == [END | SEVERED]
    for client in (idle, writing, waiting):
        assert poll_socket(client, END | SEVERED, PATIENCE) == END | SEVERED
        assert client.read() == b""
        check_code(refusal(partial(client.write, b"x")), 232, errno.EPIPE)
    check_nobody(name)


# ---- One server to a name ----

SERVE = """
import sys
import bbipc

for name in sys.argv[1:]:
    try:
        bbipc.make_local_server(name).close()
    except bbipc.SocketError as error:
        print(error.winerror)
    else:
        print("free")
"""


def spellings(directory: Path) -> list[Pathname]:
    """One pipe's name in every way, from inside the directory."""
    path = str(directory / "Server.sock")
    return [
        path,
        os.fsencode(path),
        Path(path),
        path.replace("\\", "/"),
        path.upper(),
        path.lower(),
        str(directory / "elsewhere" / ".." / "Server.sock"),
        ".\\Server.sock",
        b"./SERVER.sock",
        Path("..") / directory.name / "Server.sock",
        "\\\\?\\" + path,
        PIPES + path,
        os.fsencode(PIPES + path),
        "//./pipe/" + path.replace("\\", "/"),
        "\\\\?\\PIPE\\" + path,
    ]


@pytest.fixture
def inside(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory, which is the current one."""
    monkeypatch.chdir(directory)
    # As the system spells it.
    return Path.cwd()


def test_every_spelling_means_the_same_pipe(inside: Path) -> None:
    first, *others = spellings(inside)
    with bbipc.make_local_server(first) as server:
        for other in others:
            check_taken(other)
            check_talk(server, other)
    for other in others:
        check_nobody(first)
        with bbipc.make_local_server(other) as server:
            check_taken(first)
            check_talk(server, first)
    assert list(inside.iterdir()) == []


def test_a_server_in_another_process_is_told_that_the_name_is_taken(inside: Path) -> None:
    names = [os.fsdecode(one) for one in spellings(inside)]
    with bbipc.make_local_server(names[0]):
        assert run_program(SERVE, *names).split() == ["10048"] * len(names)
    assert run_program(SERVE, *names).split() == ["free"] * len(names)


@pytest.mark.parametrize("letters", ["\u00e4\u00f6\u00fc", "\u0436\u0434", "\u03b1\u03b2"])
def test_capital_and_small_letters_are_the_same_in_every_script(name: str, letters: str) -> None:
    with bbipc.make_local_server(name + letters) as server:
        check_taken(name + letters.upper())
        check_talk(server, name + letters.upper())


def test_a_name_is_taken_while_an_accepted_stream_lives(name: str) -> None:
    with bbipc.make_local_server(name) as server, bbipc.connect_to_local_server(name) as client:
        with accept(server) as accepted:
            server.close()
            for _ in range(2):
                check_taken(name)
                check_busy(name)
            # The attempts have done nothing to it.
            client.write_all(b"there")
            assert accepted.read_exactly(5, PATIENCE) == b"there"
        check_nobody(name)
        client.close()
        with bbipc.make_local_server(name) as again:
            check_talk(again, name)


def test_a_second_server_leaves_the_first_alone(name: str) -> None:
    with bbipc.make_local_server(name, backlog=2) as server:
        # No client is lost to an instance of a server that never was.
        for _ in range(20):
            check_taken(name)
            check_talk(server, name)


def test_a_name_is_free_as_soon_as_all_is_closed(name: str) -> None:
    for _ in range(50):
        with bbipc.make_local_server(name, backlog=2) as server, bbipc.connect_to_local_server(name) as client:
            accepted = accept(server)
            # With reads and listening instances under way.
            assert not poll_socket(accepted, DATA, 0.001)
            assert not poll_socket(server, CLIENT, 0.001)
            client.close()
            accepted.close()
        check_nobody(name)


def test_a_foreign_pipe_is_in_use_too(name: str) -> None:
    with named_pipes.PipeListener(name):
        check_taken(name)


# ---- Names ----

NAMES = {
    "umlauts": "stra\u00dfe-\u00e4\u00f6",
    "ideographs": "\u732b\u732b",
    "beyond the BMP": "\U0001f600-\U0001f408",
    "a lone high surrogate": "high-\ud83d",
    "a lone low surrogate": "\udc08-low",
    "surrogates in the wrong order": "\ude00\ud83d",
    "space": "with space",
    "signs": "a'$%&()+,;=@[]^`{}~!#",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("place", ["plain", "path", "whole"])
def test_a_name_is_the_pipe_that_other_programs_know(directory: Path, name: str, kind: str, place: str) -> None:
    base = f"{name}-{NAMES[kind]}"
    pathname = {"plain": base, "path": str(directory / base), "whole": PIPES + base}[place]
    forms: list[Pathname] = [pathname, os.fsencode(pathname), Path(pathname)]
    for form in forms:
        with bbipc.make_local_server(form) as server:
            assert server.local_pathname == os.fspath(form)
            for other in forms:
                check_talk(server, other)
            pipe = pathname if pathname.startswith(PIPES) else PIPES + pathname
            with named_pipes.connect(pipe) as foreign, accept(server) as accepted:
                foreign.sendall(b"foreign")
                assert accepted.read_exactly(7, PATIENCE) == b"foreign"
    assert list(directory.iterdir()) == []


def test_different_surrogates_are_different_names(name: str, stack: contextlib.ExitStack) -> None:
    """Nothing is lost on the way to the system: lone ones are not all the same."""
    names = [name + odd for odd in ("\ud800", "\ud801", "\udc00", "\ud83d\ude00", "\ude00\ud83d", "\ufffd", "?")]
    # The two halves of a pair are that one character.
    assert os.fsencode(names[3]) != os.fsencode(name + "\U0001f600")
    servers = [stack.enter_context(bbipc.make_local_server(one)) for one in names]
    for one, server in zip(names, servers):
        check_talk(server, one)
    check_taken(name + "\U0001f600")


@pytest.mark.parametrize("filling", ["x", "\u00e4", "\u732b", "\U0001f600", "\ud800"])
@pytest.mark.parametrize("whole", [False, True], ids=["plain", "whole"])
def test_the_limit_counts_units_of_utf_16(name: str, filling: str, whole: bool) -> None:
    units = len(filling.encode("utf-16-le", "surrogatepass")) // 2
    room = LIMIT - len(PIPES) - len(name)
    longest = name + filling * (room // units)
    longest += "y" * (LIMIT - len(PIPES) - len(longest.encode("utf-16-le", "surrogatepass")) // 2)
    prefix = PIPES if whole else ""
    with bbipc.make_local_server(prefix + longest) as server:
        check_talk(server, prefix + longest)
    for action in (bbipc.make_local_server, bbipc.connect_to_local_server):
        with pytest.raises(SocketError, match=rf"\b{LIMIT + 1}\b.*\b{LIMIT}\b") as caught:
            action(prefix + longest + "z")
        assert not isinstance(caught.value, bbipc.NoLocalServerError)
        # The system was not even asked.
        assert caught.value.errno == errno.ENAMETOOLONG
        assert getattr(caught.value, "winerror", 0) is None
        assert pickle.loads(pickle.dumps(caught.value)).errno == errno.ENAMETOOLONG


def test_the_limit_is_that_of_the_absolute_path(inside: Path) -> None:
    # A separator makes a path of it.
    room = LIMIT - len(PIPES) - len(str(inside)) - 1
    with bbipc.make_local_server(f"./{'x' * room}") as server:
        check_talk(server, inside / ("x" * room))
    assert refusal(partial(bbipc.make_local_server, f"./{'x' * (room + 1)}")).errno == errno.ENAMETOOLONG
    assert refusal(partial(bbipc.connect_to_local_server, inside / ("x" * (room + 1)))).errno == errno.ENAMETOOLONG


def test_the_library_itself_refuses_what_is_too_long_or_no_name() -> None:
    code = c_int32()
    assert declarations.local_pathname_limit() >= LIMIT - len(PIPES)
    for pathname, expected in {
        b"x" * (LIMIT - len(PIPES) + 1): declarations.ERROR_NAME_TOO_LONG,
        "\U0001f600".encode() * (LIMIT // 2): declarations.ERROR_NAME_TOO_LONG,
        b"": declarations.ERROR_INVALID_ARGUMENT,
        b"a\0b": declarations.ERROR_INVALID_ARGUMENT,
        b"\xff": declarations.ERROR_INVALID_ARGUMENT,
        os.fsencode(PIPES): declarations.ERROR_INVALID_ARGUMENT,
    }.items():
        for made in (
            declarations.make_local_server(pathname, len(pathname), 1, 0, byref(code)),
            declarations.connect_to_local_server(pathname, len(pathname), byref(code)),
        ):
            assert (pathname, made.value) == (pathname, expected)


@pytest.mark.parametrize("bad", [PIPES, os.fsencode(PIPES), "//./pipe/", "\\\\?\\pipe\\", Path("//./pipe/"), b"\xff"])
def test_what_names_no_pipe_is_refused(bad: Pathname) -> None:
    for action in (bbipc.make_local_server, bbipc.connect_to_local_server):
        with pytest.raises(ValueError, match=r"empty|decode"):
            action(bad)


def test_a_path_needs_no_directory_and_makes_no_file(directory: Path) -> None:
    pathname = directory / "no" / "such" / "directory" / "server"
    with bbipc.make_local_server(pathname) as server:
        check_talk(server, pathname)
        assert list(directory.iterdir()) == []
    # A file of that name is nothing to it.
    file = directory / "server"
    file.write_bytes(b"kept")
    with bbipc.make_local_server(file) as server:
        check_talk(server, file)
    assert file.read_bytes() == b"kept"
    check_nobody(file)


# ---- Who may open a pipe ----

_advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel32.GetCurrentThread.restype = c_void_p
_kernel32.LocalFree.argtypes = [c_void_p]
_advapi32.ConvertSidToStringSidW.argtypes = [c_void_p, POINTER(c_void_p)]
_advapi32.GetAce.argtypes = [c_void_p, c_uint32, POINTER(c_void_p)]
_advapi32.GetSecurityInfo.argtypes = [c_void_p, ctypes.c_int, c_uint32, *[c_void_p] * 5]

_TOKEN_QUERY = 0x8
_TOKEN_USER = 1
_TOKEN_IMPERSONATION_LEVEL = 9
_SE_KERNEL_OBJECT = 6
_DACL_SECURITY_INFORMATION = 0x4
_READ_CONTROL = 0x20000
_FILE_ALL_ACCESS = 0x1F01FF
_IDENTIFICATION = 1

SYSTEM = "S-1-5-18"
ADMINISTRATORS = "S-1-5-32-544"


class _Acl(ctypes.Structure):
    _fields_ = (("revision", c_uint8), ("unused", c_uint8), ("size", c_uint16), ("aces", c_uint16), ("more", c_uint16))


class _Ace(ctypes.Structure):
    """ACCESS_ALLOWED_ACE; the SID begins where it ends."""

    _fields_ = (("type", c_uint8), ("flags", c_uint8), ("size", c_uint16), ("mask", c_uint32))


def sid_text(sid: int | None) -> str:
    text = c_void_p()
    assert _advapi32.ConvertSidToStringSidW(sid, byref(text))
    assert text.value is not None
    try:
        return ctypes.wstring_at(text.value)
    finally:
        _kernel32.LocalFree(text)


def this_user() -> str:
    token, size = c_void_p(), c_uint32()
    assert _advapi32.OpenProcessToken(c_void_p(-1), _TOKEN_QUERY, byref(token))
    try:
        buffer = ctypes.create_string_buffer(256)
        assert _advapi32.GetTokenInformation(token, _TOKEN_USER, buffer, len(buffer), byref(size))
        # TOKEN_USER begins with the SID's address.
        return sid_text(c_void_p.from_buffer(buffer).value)
    finally:
        _kernel32.CloseHandle(token)


def allowed(handle: int) -> list[tuple[str, int]]:
    """Who may do what with the object, by its discretionary access control list, which must be without denials."""
    acl_address, descriptor = c_void_p(), c_void_p()
    result = _advapi32.GetSecurityInfo(
        handle,
        _SE_KERNEL_OBJECT,
        _DACL_SECURITY_INFORMATION,
        None,
        None,
        byref(acl_address),
        None,
        byref(descriptor),
    )
    assert result == 0
    try:
        if acl_address.value is None:
            # Without a list, everybody may do everything.
            return [("everybody", _FILE_ALL_ACCESS)]
        found = []
        for number in range(_Acl.from_address(acl_address.value).aces):
            ace_address = c_void_p()
            assert _advapi32.GetAce(acl_address, number, byref(ace_address))
            assert ace_address.value is not None
            ace = _Ace.from_address(ace_address.value)
            assert ace.type == 0, "not ACCESS_ALLOWED_ACE_TYPE"
            found.append((sid_text(ace_address.value + ctypes.sizeof(_Ace)), ace.mask))
        return found
    finally:
        _kernel32.LocalFree(descriptor)


def test_only_the_user_the_system_and_administrators_may_open_a_pipe(name: str) -> None:
    expected = {(who, _FILE_ALL_ACCESS) for who in (this_user(), SYSTEM, ADMINISTRATORS)}
    with bbipc.make_local_server(name, backlog=1) as server:
        # The first instance, and one that an accept made.
        for _ in range(2):
            handle = _winapi.CreateFile(
                PIPES + name, READ_WRITE | _READ_CONTROL, 0, _winapi.NULL, _winapi.OPEN_EXISTING, 0, _winapi.NULL
            )
            try:
                assert set(allowed(handle)) == expected
                accept(server).close()
            finally:
                _winapi.CloseHandle(handle)
    # That is not what the system does by itself, or the test would show nothing.
    with named_pipes.PipeListener(name) as listener:
        assert set(allowed(listener.fileno())) != expected


@pytest.mark.parametrize("machine", ["localhost", "127.0.0.1"])
def test_clients_that_come_over_the_network_are_rejected(name: str, machine: str) -> None:
    """The name of a machine goes over the network, also that of this one."""
    remote = f"\\\\{machine}\\pipe\\{name}"

    def opened() -> bool:
        try:
            handle = _winapi.CreateFile(remote, READ_WRITE, 0, _winapi.NULL, _winapi.OPEN_EXISTING, 0, _winapi.NULL)
        except OSError:
            return False
        _winapi.CloseHandle(handle)
        return True

    with named_pipes.PipeListener(name):
        if not opened():
            pytest.skip(
                f"this system reaches no pipe as \\\\{machine}\\pipe\\...: Wine can't, Windows by its file sharing"
            )
    with bbipc.make_local_server(name) as server:
        assert not opened()
        assert not server.connection_available()
        check_talk(server, name)


def impersonation_level(peer: named_pipes.PipePeer) -> int:
    """What a server may do in the name of the client that it has read from."""
    assert _advapi32.ImpersonateNamedPipeClient(c_void_p(peer.fileno()))
    try:
        token, level, size = c_void_p(), c_uint32(), c_uint32()
        assert _advapi32.OpenThreadToken(c_void_p(_kernel32.GetCurrentThread()), _TOKEN_QUERY, True, byref(token))
    finally:
        assert _advapi32.RevertToSelf()
    try:
        assert _advapi32.GetTokenInformation(token, _TOKEN_IMPERSONATION_LEVEL, byref(level), 4, byref(size))
    finally:
        _kernel32.CloseHandle(token)
    return level.value


@pytest.mark.skipif(windows.WINE, reason="Wine lets a server impersonate every client, whatever that allows")
def test_a_server_can_not_act_in_its_clients_name(name: str) -> None:
    with named_pipes.PipeListener(name) as listener, bbipc.connect_to_local_server(name) as client:
        peer, _ = listener.accept()
        with peer:
            client.write_all(b"!")
            assert peer.recv(1) == b"!"
            assert impersonation_level(peer) == _IDENTIFICATION


# ---- A thread that began an operation ends ----


def wait_alone(stream: StreamSocket | StreamServer, events: Events, timeout: float) -> Events:
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, events)
        return dict(poller.wait_for_events(timeout)).get(stream, Events())


WAYS: dict[str, Callable[[StreamSocket | StreamServer, Events, float], Events]] = {
    "poll_socket": poll_socket,
    "poll_sockets": lambda socket, events, timeout: bbipc.poll_sockets([socket], events, timeout)[0],
    "poller": wait_alone,
}

#: Seconds. A wait for what does not come, which leaves its operations behind.
A_MOMENT = 0.02


@contextlib.contextmanager
def when_asleep(work: Callable[[], object]) -> Iterator[None]:
    """Does something when this thread sleeps, as it must inside."""
    this_process, this_thread = os.getpid(), threading.get_native_id()
    done: list[object] = []

    def run() -> None:
        until_asleep(this_process, this_thread)
        done.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert done


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("armed_by", WAYS)
def test_a_read_begun_by_a_thread_that_ends_is_still_heard_of(transport: Transport, armed_by: str, way: str) -> None:
    stream, peer = transport.pair()
    in_a_thread_that_ends(lambda: WAYS[armed_by](stream, DATA | END, A_MOMENT))
    with when_asleep(lambda: peer.write_all(b"bytes")):
        assert WAYS[way](stream, DATA, PATIENCE) == DATA
    assert stream.read() == b"bytes"
    in_a_thread_that_ends(lambda: WAYS[armed_by](stream, DATA | END, A_MOMENT))
    with when_asleep(peer.close):
        assert WAYS[way](stream, DATA | END, PATIENCE) == END


def test_a_pollers_watches_outlive_the_thread_that_waited(transport: Transport) -> None:
    """Those that no later wait begins anew, for they are with the system already."""
    pairs = [transport.pair() for _ in range(3)]
    server = transport.make_server()
    with bbipc.make_poller() as poller:
        for stream, _ in pairs:
            poller.monitor_socket(stream, DATA | END)
        poller.monitor_socket(server, CLIENT)
        in_a_thread_that_ends(lambda: poller.wait_for_events(A_MOMENT))
        for stream, peer in pairs:
            with when_asleep(partial(peer.write, b"x")):
                assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
            assert stream.read() == b"x"
        with when_asleep(lambda: transport.connect(server)):
            assert poller.wait_for_events(PATIENCE) == [(server, CLIENT)]


@pytest.mark.parametrize("way", WAYS)
def test_a_server_made_by_a_thread_that_ends_goes_on_listening(transport: Transport, way: str) -> None:
    servers: list[StreamServer] = []
    in_a_thread_that_ends(lambda: servers.append(transport.make_server(backlog=2)))
    (server,) = servers

    def connect() -> None:
        clients.append(transport.connect(server))

    def accept_one() -> None:
        accepted.append(transport.keep(server.accept_connection()))

    clients: list[StreamSocket] = []
    accepted: list[StreamSocket] = []
    for _ in range(6):
        with when_asleep(connect):
            assert WAYS[way](server, CLIENT, PATIENCE) == CLIENT
        # The next instance of a pipe is made, and listens, by the thread that accepts.
        in_a_thread_that_ends(accept_one)
        clients[-1].write_all(b"there")
        assert accepted[-1].read_exactly(5, PATIENCE) == b"there"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("closes", [False, True])
def test_a_write_begun_by_a_thread_that_ends_goes_on(name: str, way: str, closes: bool) -> None:
    data = random.Random(9).randbytes(2 * BUFFER)
    with pipe_pair(name) as (stream, peer):

        def work() -> None:
            assert write_until_pending(stream, data) == len(data)
            if closes:
                stream.close()

        in_a_thread_that_ends(work)
        assert declarations.pending_operations() > 0
        if closes:
            assert read_to_end(peer) == data
            return
        assert not stream.write_space()
        received = bytearray()

        def read() -> None:
            while len(received) < len(data):
                received.extend(peer.read_exactly(1000 if len(received) < 64000 else len(data) - len(received)))

        with when_asleep(read):
            assert WAYS[way](stream, SPACE, PATIENCE) == SPACE
        assert bytes(received) == data
        assert stream.connection_error() is None


# ---- A write under way when its stream is closed ----


@pytest.mark.parametrize("accepted_writes", [False, True], ids=["client", "accepted"])
@pytest.mark.parametrize("piece", [1000, 8192, 50_001, BUFFER])
@pytest.mark.parametrize("size", [1, BUFFER - 1, BUFFER, BUFFER + 1, 100_000, 2 * BUFFER])
def test_every_byte_arrives_after_close(name: str, size: int, piece: int, accepted_writes: bool) -> None:
    data = random.Random(size).randbytes(size)
    written = 0
    with pipe_pair(name, accepted_writes) as (stream, peer):
        while written < size:
            taken = stream.write(data, written, min(written + piece, size))
            if taken == 0:
                break
            written += taken
        # Room for a buffer, and one write more.
        assert written >= min(size, BUFFER + 1)
        stream.close()
        assert peer.connection_error() is None
        chance = random.Random(size)
        assert read_to_end(peer, iter(lambda: chance.choice((1, 777, 4096, 70_000)), 0)) == data[:written]
        assert peer.connection_error() is None
    assert declarations.finish_writes(int(PATIENCE * 1e9)) == 1


def test_closed_streams_wait_for_their_readers_one_by_one(name: str, stack: contextlib.ExitStack) -> None:
    pairs = [stack.enter_context(pipe_pair(f"{name}-{number}", bool(number % 2))) for number in range(10)]
    filled = [fill(stream) for stream, _ in pairs]
    assert filled == [2 * BUFFER] * len(pairs)
    for stream, _ in pairs:
        stream.close()
    random.Random(10).shuffle(pairs)
    for _, peer in pairs:
        assert declarations.finish_writes(0) == 0
        assert len(read_to_end(peer)) == 2 * BUFFER
    assert declarations.finish_writes(int(PATIENCE * 1e9)) == 1


def test_a_wait_for_closed_streams_ends_when_the_last_is_read(name: str) -> None:
    with pipe_pair(name) as (stream, peer):
        fill(stream)
        stream.close()
        began = time.perf_counter()
        assert declarations.finish_writes(100_000_000) == 0
        assert time.perf_counter() - began >= 0.1
        received: list[bytes] = []
        with when_asleep(lambda: received.append(read_to_end(peer))):
            assert declarations.finish_writes(int(PATIENCE * 1e9)) == 1
        assert len(received[0]) == 2 * BUFFER


@pytest.mark.parametrize("goes", ["the peer", "the peer, unread bytes and all"])
def test_what_nobody_reads_is_given_back_when_the_peer_goes(name: str, goes: str) -> None:
    before = settled_holdings()
    for number in range(10):
        with pipe_pair(name, accepted_writes=bool(number % 2)) as (stream, peer):
            fill(stream)
            if goes == "the peer":
                assert peer.read(1000)
            else:
                fill(peer)
            stream.close()
            assert declarations.finish_writes(0) == 0
            peer.close()
            assert declarations.finish_writes(int(PATIENCE * 1e9)) == 1
    assert settled_holdings() == before


def test_what_is_written_to_a_closed_stream_loses_nothing_of_what_it_wrote(name: str) -> None:
    """It throws away what comes while its own write is under way, or who writes first would wait for ever."""
    data = random.Random(11).randbytes(2 * BUFFER)
    with pipe_pair(name) as (stream, peer):
        assert write_until_pending(stream, data) == len(data)
        stream.close()
        peer.write_all(bytes(100 * BUFFER), PATIENCE)
        received = bytearray()
        while len(received) < len(data):
            received += peer.read_exactly(1024, PATIENCE)
        assert bytes(received) == data
        assert poll_socket(peer, SEVERED, PATIENCE)
        assert refusal(partial(peer.write, b"x")).errno == errno.EPIPE


def test_who_writes_to_a_closed_stream_and_never_reads_learns_of_the_end(name: str) -> None:
    """It does not throw away for ever: that would look like a reader."""
    with pipe_pair(name) as (stream, peer):
        write_until_pending(stream, bytes(2 * BUFFER))
        stream.close()
        with pytest.raises(bbipc.EndOfStreamError) as caught:
            peer.write_all(bytes(80 << 20), PATIENCE)
        assert 64 << 20 <= caught.value.bytes_written < 65 << 20
        # What the pipe had taken can be read all the same.
        assert len(peer.read_exactly(BUFFER, PATIENCE)) == BUFFER
    eventually(lambda: declarations.pending_operations() == 0, "nothing is under way")


#: Writes so many bytes as a pipe takes of SIZE, at once, and ends in one of the ways.
WRITE_AND_EXIT = """
import random, sys
import bbipc

name, size, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
stream = bbipc.connect_to_local_server(name)
data = random.Random(size).randbytes(size)
count = 0
while count < size:
    taken = stream.write(data, count)
    if taken == 0:
        break
    count += taken
print(count, flush=True)
if way != "never closed":
    stream.close()
if way == "exit":
    sys.exit(3)
if way == "exception":
    raise SystemExit(4)
"""

EXITS = {"end": 0, "exit": 3, "exception": 4, "never closed": 0}

#: Seconds. Longer than Python needs to end, and shorter than a process stays for what nobody reads.
PROMPT = 3.0
LINGER = 5.0


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as made:
        yield made


def write_and_exit(
    processes: Processes, name: str, size: int, way: str
) -> tuple[subprocess.Popen[str], LocalStream, float]:
    """The process that does it, our end of its pipe, and when it had written all."""
    with bbipc.make_local_server(name) as server:
        process = processes.start([sys.executable, "-Wignore", "-c", WRITE_AND_EXIT, name, str(size), way])
        stream = accept(server)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{size}\n"
    return process, stream, time.perf_counter()


@pytest.mark.parametrize("way", EXITS)
def test_a_process_ends_when_all_that_it_wrote_is_read(processes: Processes, name: str, way: str) -> None:
    process, stream, _ = write_and_exit(processes, name, 2 * BUFFER, way)
    with stream:
        # It waits for us, and not for ever.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert read_to_end(stream) == random.Random(2 * BUFFER).randbytes(2 * BUFFER)
        began = time.perf_counter()
        assert ended(process) == (EXITS[way], "", "")
        assert time.perf_counter() - began < PROMPT


@pytest.mark.parametrize("size", [0, 1, BUFFER])
def test_a_process_does_not_wait_for_what_the_pipe_keeps(processes: Processes, name: str, size: int) -> None:
    process, stream, began = write_and_exit(processes, name, size, "end")
    with stream:
        assert ended(process) == (0, "", "")
        assert time.perf_counter() - began < PROMPT
        assert read_to_end(stream) == random.Random(size).randbytes(size)


def test_a_process_waits_for_a_peer_that_never_reads_but_not_for_ever(processes: Processes, name: str) -> None:
    process, stream, began = write_and_exit(processes, name, 2 * BUFFER, "end")
    with stream:
        assert ended(process) == (0, "", "")
        assert LINGER - 1 < time.perf_counter() - began < LINGER + PROMPT
        # What the pipe kept is there, and nothing that was never written.
        rest = read_to_end(stream)
        assert random.Random(2 * BUFFER).randbytes(2 * BUFFER)[: len(rest)] == rest
        assert len(rest) >= BUFFER


def test_a_process_does_not_wait_for_a_peer_that_has_gone(processes: Processes, name: str) -> None:
    process, stream, _ = write_and_exit(processes, name, 2 * BUFFER, "end")
    with stream:
        until_asleep(process.pid)
    began = time.perf_counter()
    assert ended(process) == (0, "", "")
    assert time.perf_counter() - began < PROMPT


def test_a_peer_that_is_busy_with_one_large_write_gets_what_was_written_before_close(
    processes: Processes, name: str
) -> None:
    program = """
        import _winapi, sys
        access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
        pipe = _winapi.CreateFile(sys.argv[1], access, 0, 0, _winapi.OPEN_EXISTING, 0, 0)
        # It does not return before all of it is read.
        written, _ = _winapi.WriteFile(pipe, bytes(int(sys.argv[2])))
        received = 0
        try:
            while True:
                received += len(_winapi.ReadFile(pipe, 65536)[0])
        except BrokenPipeError:
            print(written, received)
    """
    size = 16 << 20
    with bbipc.make_local_server(name) as server:
        peer = processes.start([sys.executable, "-c", textwrap.dedent(program), PIPES + name, str(size)])
        stream = accept(server)
        assert poll_socket(stream, DATA, PATIENCE)
        written = fill(stream)
        stream.close()
        assert ended(peer) == (0, f"{size} {written}\n", "")
    eventually(lambda: declarations.pending_operations() == 0, "nothing is under way")


# ---- Writes of nothing ----

MODES = {"bytes": 0, "messages": _winapi.PIPE_TYPE_MESSAGE | _winapi.PIPE_READMODE_MESSAGE}


@pytest.mark.parametrize("count", [1, 10, 100])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
def test_writes_of_nothing_are_no_end_and_cost_no_processor(name: str, mode: str, way: str, count: int) -> None:
    """More than are passed over in one go, too. What is written behind them arrives."""
    handle = _winapi.CreateNamedPipe(
        PIPES + name,
        _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED,
        MODES[mode],
        1,
        BUFFER,
        BUFFER,
        0,
        _winapi.NULL,
    )
    try:
        with bbipc.connect_to_local_server(name) as stream:

            def write(data: bytes) -> None:
                writing, _ = _winapi.WriteFile(handle, data, overlapped=True)
                writes.append(writing)

            def write_all() -> None:
                for data in (b"", b"bytes", b""):
                    write(data)

            writes: list[_winapi.Overlapped] = []
            for _ in range(count):
                write(b"")
            began = time.process_time()
            assert not WAYS[way](stream, DATA | END | SEVERED, 0.5)
            assert time.process_time() - began < 0.25
            with when_asleep(write_all):
                assert WAYS[way](stream, DATA | END, PATIENCE) == DATA
            assert stream.read_exactly(5, PATIENCE) == b"bytes"
            assert not WAYS[way](stream, DATA | END | SEVERED, A_MOMENT)
            assert stream.read() == b""
            for writing in writes:
                writing.GetOverlappedResult(True)
    finally:
        _winapi.CloseHandle(handle)


@pytest.mark.parametrize("size", [1, 4096, BUFFER, 100_000])
def test_messages_of_a_foreign_server_arrive_whole(name: str, size: int) -> None:
    messages = [random.Random(number).randbytes(size) for number in range(5)]
    handle = _winapi.CreateNamedPipe(
        PIPES + name,
        _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED,
        MODES["messages"],
        1,
        BUFFER,
        BUFFER,
        0,
        _winapi.NULL,
    )
    try:
        with bbipc.connect_to_local_server(name) as stream:
            for pieces in ([size], [1, size // 2 + 1], [70_000]):
                writes = [_winapi.WriteFile(handle, message, overlapped=True)[0] for message in messages]
                received = bytearray()
                for piece in itertools.cycle(pieces):
                    if len(received) == len(messages) * size:
                        break
                    assert poll_socket(stream, DATA, PATIENCE)
                    received += stream.read(piece)
                assert bytes(received) == b"".join(messages)
                assert not stream.data_available()
                for writing in writes:
                    assert writing.GetOverlappedResult(True) == (size, 0)
    finally:
        _winapi.CloseHandle(handle)


# ---- Nothing is left ----


#: The types of handles that bbipc opens. Windows' own libraries open others, whenever they like.
TYPES = ("Event", "File", "IoCompletion", "Thread")

Holdings = tuple[Counter[str], int, int]


def holdings() -> Holdings:
    """What handles the process has, how many operations the system has of it, and the library's own handles."""
    handles = Counter(what for what in windows.open_handles().values() if what.startswith(TYPES))
    return handles, declarations.pending_operations(), declarations.open_handles()


def settled_holdings() -> Holdings:
    """The same, once what ends a moment after its call has ended."""
    give_up_at = time.perf_counter() + PATIENCE
    found = holdings()
    looks = 0
    while looks < 10 and time.perf_counter() < give_up_at:
        time.sleep(0.01)
        now = holdings()
        looks = looks + 1 if now == found else 0
        found = now
    return found


def close_server_with_clients_waiting(transport: Transport) -> None:
    server = transport.make_server(backlog=5)
    clients = [transport.connect(server) for _ in range(3)]
    assert poll_socket(server, CLIENT, PATIENCE)
    clients[0].close()
    server.close()


def close_while_reads_are_under_way(transport: Transport) -> None:
    stream, peer = transport.pair()
    for one in (stream, peer):
        assert not poll_socket(one, DATA | END, 0.001)
    stream.close()


def close_while_a_write_is_under_way(transport: Transport) -> None:
    stream, peer = transport.pair()
    fill(stream)
    stream.close()
    peer.close()


def close_a_poller_that_watches(transport: Transport) -> None:
    stream, peer = transport.pair()
    server = transport.make_server()
    with bbipc.make_poller() as poller:
        for one in (stream, peer):
            poller.monitor_socket(one, DATA | END)
        poller.monitor_socket(server, CLIENT)
        assert poller.wait_for_events(0.001) == []


def close_what_a_poller_watches(transport: Transport) -> None:
    stream, peer = transport.pair()
    with bbipc.make_poller() as poller:
        for one in (stream, peer):
            poller.monitor_socket(one, DATA | END)
        assert poller.wait_for_events(0.001) == []
        stream.close()
        peer.close()
        assert poller.wait_for_events(0) == []


def change_what_a_poller_watches(transport: Transport) -> None:
    stream, peer = transport.pair()
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, DATA)
        for events in (END, DATA | SPACE, Events(), DATA):
            poller.wait_for_events(0.001)
            poller.set_monitored_events(stream, events)
        for _ in range(3):
            poller.unmonitor_socket(stream)
            poller.monitor_socket(stream, DATA)
            assert poller.wait_for_events(0.001) == []
        peer.write(b"x")
        assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]


def close_a_poller_while_another_thread_waits(transport: Transport) -> None:
    stream, _ = transport.pair()
    server = transport.make_server()
    poller = bbipc.make_poller()
    poller.monitor_socket(stream, DATA | END)
    poller.monitor_socket(server, CLIENT)
    outcomes: list[str] = []

    def wait() -> None:
        try:
            poller.wait_for_events(PATIENCE)
        except bbipc.PollerClosedError:
            outcomes.append("closed")

    threads = in_threads(wait, wait)
    # They wait, or begin to.
    time.sleep(random.random() * 0.01)
    poller.close()
    for thread in threads:
        thread.join()
    assert outcomes == ["closed"] * 2


def close_a_socket_while_other_threads_wait(transport: Transport) -> None:
    stream, _ = transport.pair()
    outcomes: list[str] = []

    def wait() -> None:
        try:
            poll_socket(stream, DATA, PATIENCE)
        except bbipc.SocketClosedError:
            outcomes.append("closed")

    threads = in_threads(wait, wait)
    time.sleep(random.random() * 0.01)
    stream.close()
    for thread in threads:
        thread.join()
    assert outcomes == ["closed"] * 2


def fail_to_connect(transport: Transport) -> None:
    server = transport.make_server(backlog=1)
    gone = transport.make_server()
    if isinstance(server, LocalServer):
        assert isinstance(gone, LocalServer)
        check_taken(server.local_pathname)
        transport.connect(server)
        check_busy(server.local_pathname)
        gone.close()
        check_nobody(transport.free_pathname())
    else:
        assert isinstance(server, bbipc.Ipv4TcpServer)
        assert isinstance(gone, bbipc.Ipv4TcpServer)
        check_code(
            refusal(partial(bbipc.make_ipv4_tcp_server, bbipc.IPV4_LOOPBACK, server.port)), 10048, errno.EADDRINUSE
        )
        port = gone.port
        gone.close()
        # While it is still under way.
        transport.keep(bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, port)).close()


@pytest.mark.parametrize(
    "scenario",
    [
        close_server_with_clients_waiting,
        close_while_reads_are_under_way,
        close_while_a_write_is_under_way,
        close_a_poller_that_watches,
        close_what_a_poller_watches,
        change_what_a_poller_watches,
        close_a_poller_while_another_thread_waits,
        close_a_socket_while_other_threads_wait,
        fail_to_connect,
    ],
)
def test_handles_and_operations_come_back(
    directory: Path, transport: Transport, scenario: Callable[[Transport], None]
) -> None:
    def repeat(times: int) -> Holdings:
        for _ in range(times):
            scenario(transport)
            transport.close()
        return settled_holdings()

    # What is kept for good, for as many threads as ever waited at once.
    stream, peer = transport.pair()
    threads = in_threads(*[lambda: poll_socket(stream, DATA, PATIENCE)] * 3)
    for thread in threads:
        until_asleep(os.getpid(), thread.native_id)
    peer.write_all(b"x")
    for thread in threads:
        thread.join()
    transport.close()
    before = repeat(3)
    assert repeat(25) == before


def test_many_watches_of_one_poller_come_back(directory: Path) -> None:
    tcp, local = Transport("tcp", directory), Transport("local", directory)
    before = settled_holdings()
    for _ in range(2):
        # Several times what one of the helpers serves.
        streams = [end for transport in (tcp, local) for _ in range(40) for end in transport.pair()]
        with bbipc.make_poller() as poller:
            for stream in streams:
                poller.monitor_socket(stream, DATA | END)
            assert poller.wait_for_events(0.01) == []
            for stream in streams[::2]:
                poller.unmonitor_socket(stream)
            for stream in streams[1::4]:
                stream.close()
            poller.wait_for_events(0.01)
        tcp.close()
        local.close()
        assert settled_holdings() == before


# ---- The system's codes ----


def loopback_socket() -> socket.socket:
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    return one


@pytest.mark.parametrize("reuse_address", [False, True])
@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("option", [None, socket.SO_EXCLUSIVEADDRUSE])
def test_a_port_that_another_program_has_is_in_use(option: int | None, listens: bool, reuse_address: bool) -> None:
    with socket.socket() as other:
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        port = other.getsockname()[1]
        attempt = partial(bbipc.make_ipv4_tcp_server, "127.0.0.1", port, reuse_address=reuse_address)
        check_code(refusal(attempt), 10048, errno.EADDRINUSE)
    with attempt():
        check_code(refusal(attempt), 10048, errno.EADDRINUSE)


def test_no_program_can_take_a_servers_port_from_it() -> None:
    """Windows lets SO_REUSEADDR do that, unless the first has the port for itself."""
    with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as server, socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(PermissionError) as caught:
            thief.bind(("127.0.0.1", server.port))
        assert caught.value.winerror == 10013
        # Python's view of our socket, which stays ours.
        ours = socket.socket(fileno=server.fileno())
        try:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)
        finally:
            ours.detach()
    with bbipc.make_ipv4_tcp_server("127.0.0.1", 0, reuse_address=True) as server:
        ours = socket.socket(fileno=server.fileno())
        try:
            assert not ours.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)
            # It would let two servers have one port here.
            assert not ours.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        finally:
            ours.detach()


def test_a_refused_connection_says_so_for_ever() -> None:
    with loopback_socket() as silent:
        stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", silent.getsockname()[1])
        with stream:
            assert poll_socket(stream, Events.DETERMINED, PATIENCE)
            for _ in range(2):
                assert stream.connection_failed()
                check_code(stream.connection_error(), 10061, errno.ECONNREFUSED)
                for use in (stream.read, partial(stream.write, b"x"), stream.finish_writing):
                    check_code(refusal(use), 10061, errno.ECONNREFUSED)
                    assert refusal(use).socket is stream


def test_a_reset_is_told_by_reading_and_by_writing(directory: Path) -> None:
    transport = Transport("tcp", directory)
    try:
        stream, peer = transport.python_peer()
        abort(peer)
        assert poll_socket(stream, SEVERED, PATIENCE)
        for _ in range(2):
            check_code(stream.connection_error(), 10054, errno.ECONNRESET)
            check_code(refusal(stream.read), 10054, errno.ECONNRESET)
            assert refusal(partial(stream.write, b"x")).errno in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE)
    finally:
        transport.close()


@pytest.mark.parametrize("accepted_writes", [False, True], ids=["client", "accepted"])
def test_a_pipe_whose_remote_end_has_gone(name: str, accepted_writes: bool) -> None:
    with pipe_pair(name, accepted_writes) as (stream, peer):
        peer.write_all(b"last words")
        peer.close()
        # At once, also with bytes unread.
        assert poll_socket(stream, ~CLIENT, 0) & (SEVERED | Events.REMOTE_DISCONNECTED | DATA | END) == (
            SEVERED | Events.REMOTE_DISCONNECTED | DATA
        )
        check_code(refusal(partial(stream.write, b"x")), 232, errno.EPIPE)
        assert stream.read() == b"last words"
        for _ in range(2):
            assert stream.read() == b""
            assert stream.end_of_data()
            error = refusal(partial(stream.write, b"x"))
            assert error.socket is stream
            check_code(error, 232, errno.EPIPE)
            assert stream.connection_error() is None


@pytest.mark.parametrize("accepted_writes", [False, True], ids=["client", "accepted"])
@pytest.mark.parametrize("asked_first", ["read", "write", "error"])
def test_a_pipe_whose_remote_end_has_gone_without_a_write_that_was_taken(
    name: str, asked_first: str, accepted_writes: bool
) -> None:
    with pipe_pair(name, accepted_writes) as (stream, peer):
        fill(stream)
        peer.close()
        assert poll_socket(stream, SEVERED, PATIENCE) == SEVERED
        checks: dict[str, Callable[[], object]] = {
            "read": lambda: check_code(refusal(stream.read), 10054, errno.ECONNRESET),
            "write": lambda: check_code(refusal(partial(stream.write, b"x")), 232, errno.EPIPE),
            "error": lambda: check_code(stream.connection_error(), 10054, errno.ECONNRESET),
        }
        checks[asked_first]()
        for check in checks.values():
            check()


def test_writing_after_finish_writing(directory: Path) -> None:
    transport = Transport("tcp", directory)
    try:
        stream, peer = transport.pair()
        stream.finish_writing()
        check_code(refusal(partial(stream.write, b"x")), 10058, errno.EPIPE)
        peer.write_all(b"answer")
        assert stream.read_exactly(6, PATIENCE) == b"answer"
    finally:
        transport.close()


@pytest.mark.parametrize("rest", ["..", "../COM1", ".", "a.", "a ", "a/../b"])
def test_whole_names_of_pipes_are_taken_to_the_letter(name: str, rest: str) -> None:
    # Windows makes something else of such paths: a device, or another name.
    with bbipc.make_local_server(PIPES + name + rest):
        check_taken(PIPES + name + rest)
        for other in (name, name + "a", name + "b"):
            with pytest.raises(bbipc.NoLocalServerError):
                bbipc.connect_to_local_server(PIPES + other)


def test_what_bbipc_itself_refuses_has_no_code_of_the_system(transport: Transport) -> None:
    server = transport.make_server()
    with pytest.raises(bbipc.NoConnectionAvailableError) as none_waits:
        server.accept_connection()
    server.close()
    with pytest.raises(bbipc.SocketClosedError) as closed:
        server.accept_connection()
    for error, number in ((none_waits.value, errno.EAGAIN), (closed.value, errno.EBADF)):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        for one in (error, copy):
            assert getattr(one, "winerror", 0) is None
            assert (one.errno, one.args) == (number, error.args)


# ---- Descriptors, and what a pipe can't ----


def test_pythons_select_takes_what_fileno_tells(directory: Path) -> None:
    transport = Transport("tcp", directory)
    try:
        server = transport.make_server()
        assert select.select([server.fileno()], [], [], 0) == ([], [], [])
        client = transport.connect(server)
        assert select.select([server], [], [], PATIENCE) == ([server], [], [])
        accepted = transport.accept(server)
        assert len({server.fileno(), client.fileno(), accepted.fileno()}) == 3
        assert select.select([], [client.fileno()], [], PATIENCE) == ([], [client.fileno()], [])
        assert select.select([accepted.fileno()], [], [], 0) == ([], [], [])
        client.write_all(b"x")
        assert select.select([accepted, server], [accepted], [], PATIENCE) == ([accepted], [accepted], [])
    finally:
        transport.close()


def test_pipes_have_no_descriptor_and_no_half_close(name: str) -> None:
    with bbipc.make_local_server(name) as server, bbipc.connect_to_local_server(name) as client, accept(server) as ours:
        for one in (server, client, ours):
            with pytest.raises(bbipc.UnsupportedOperationError, match="wait for it with bbipc's own functions"):
                one.fileno()
            with pytest.raises(bbipc.UnsupportedOperationError):
                select.select([one], [], [], 0)
        for stream, other in ((client, ours), (ours, client)):
            with pytest.raises(bbipc.UnsupportedOperationError, match="half-closed"):
                stream.finish_writing()
            # It has done nothing.
            stream.write_all(b"on")
            assert other.read_exactly(2, PATIENCE) == b"on"


# ---- Pollers ----


@pytest.fixture
def poller() -> Iterator[Poller]:
    with bbipc.make_poller() as made:
        yield made


def until(stream: StreamSocket, events: Events) -> None:
    assert poll_socket(stream, events, PATIENCE)


def test_a_wait_without_time_tells_what_holds_now(transport: Transport, poller: Poller) -> None:
    """Neither nothing, because a packet of the past came first, nor what is no longer so."""
    stream, _ = transport.pair()
    poller.monitor_socket(stream, Events())
    ready = Events.READY_TO_WRITE
    for _ in range(100):
        for asked, holds in (
            (ready, ready),
            (DATA, Events()),
            (DATA | ready, ready),
            (END, Events()),
            (Events.DETERMINED, Events.DETERMINED),
            (Events.DETERMINED | DATA, Events.DETERMINED),
            (Events(), Events()),
        ):
            poller.set_monitored_events(stream, asked)
            for _ in range(2):
                assert poller.wait_for_events(0) == ([(stream, holds)] if holds else [])


def test_data_that_has_been_read_is_not_reported(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    for number in range(100):
        peer.write_all(b"x" * (1 + number % 3))
        seen = number % 2 == 1
        if seen:
            assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
        else:
            until(stream, DATA)
        assert stream.read(1) == b"x"
        if number % 3:
            # What a wait has reported, the next looks at itself; else the news may be on its way.
            assert poller.wait_for_events(0 if seen else PATIENCE) == [(stream, DATA)]
            assert len(stream.read()) == number % 3
        for timeout in (0, 0, 0.001):
            assert poller.wait_for_events(timeout) == []


def test_data_that_come_and_go_do_not_stop_a_poller(transport: Transport, poller: Poller) -> None:
    """What arrives while packets of earlier data are about is reported."""
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    for _ in range(100):
        peer.write(b"x")
        assert stream.read_exactly(1, PATIENCE) == b"x"
        peer.write(b"y")
        assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
        assert stream.read_exactly(1, PATIENCE) == b"y"


def test_news_that_comes_too_late_leaves_the_poller_asleep(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    for _ in range(20):
        assert poller.wait_for_events(0) == []
        peer.write_all(b"x")
        # By the next wait it is read.
        assert stream.read_exactly(1, PATIENCE) == b"x"
        assert poller.wait_for_events(0) == []
    began = time.process_time()
    assert poller.wait_for_events(1) == []
    assert time.process_time() - began < 0.1
    delays = []
    for _ in range(10):
        timer = threading.Timer(0.12, lambda: delays.append(-time.perf_counter()) or peer.write_all(b"x"))
        timer.start()
        assert poller.wait_for_events(PATIENCE)
        delays[-1] += time.perf_counter()
        timer.join()
        assert stream.read_exactly(1, PATIENCE) == b"x"
    # Were it looked at now and then, it would be some tens of milliseconds; on a busy machine some are, in any case.
    assert sorted(delays)[2] < 0.015


def test_room_that_is_used_up_is_not_reported(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, SPACE)
    for _ in range(3):
        assert poller.wait_for_events(PATIENCE) == [(stream, SPACE)]
        total = fill(stream)
        assert poller.wait_for_events(0) == []
        with when_asleep(partial(peer.read_exactly, total)):
            assert poller.wait_for_events(PATIENCE) == [(stream, SPACE)]


def test_a_client_that_was_accepted_is_not_reported(transport: Transport, poller: Poller) -> None:
    server = transport.make_server()
    poller.monitor_socket(server, CLIENT)
    for number in range(50):
        clients = [transport.connect(server) for _ in range(1 + number % 2)]
        if number % 3:
            assert poller.wait_for_events(PATIENCE) == [(server, CLIENT)]
        for _ in clients:
            transport.accept(server).close()
        assert poller.wait_for_events(0) == []
        assert poller.wait_for_events(0.001) == []


def test_interest_that_grows_and_shrinks_reaches_a_thread_that_waits(transport: Transport, poller: Poller) -> None:
    """What grows takes back a watch of the system's and begins another; what shrinks leaves one that asks too much."""
    stream, peer = transport.pair()
    poller.monitor_socket(stream, END)
    reports: list[list[tuple[bbipc.Socket, Events]]] = []
    heard = threading.Semaphore(0)
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            report = poller.wait_for_events(PATIENCE)
            if report:
                reports.append(report)
                # One report of each, not all that a loop can make.
                poller.set_monitored_events(stream, END)
                heard.release()

    (thread,) = in_threads(wait)
    try:
        peer.write_all(b"x")
        until(stream, DATA)
        for number in range(100):
            asked = (DATA, SPACE, DATA | SPACE)[number % 3]
            # Something that does not hold in between, sometimes.
            if number % 2:
                poller.set_monitored_events(stream, Events())
            poller.set_monitored_events(stream, asked)
            assert heard.acquire(timeout=PATIENCE)
            assert reports.pop() == [(stream, asked)]
        assert stream.read() == b"x"
        poller.set_monitored_events(stream, DATA)
        assert not heard.acquire(timeout=0.05)
        peer.write_all(b"y")
        assert heard.acquire(timeout=PATIENCE)
        assert reports == [[(stream, DATA)]]
    finally:
        over.set()
        poller.wake()
        thread.join()


@pytest.mark.parametrize("count", [31, 32, 33, 64, 65, 130])
def test_every_place_in_a_poller_is_watched(directory: Path, poller: Poller, count: int) -> None:
    """Sockets share helper handles, 32 to one, and take each other's places there."""
    transport = Transport("tcp", directory)
    try:
        pairs = [transport.pair() for _ in range(count)]
        for stream, _ in pairs:
            poller.monitor_socket(stream, DATA)
        chance = random.Random(count)
        for _ in range(3):
            for stream, peer in [*chance.sample(pairs, 10), pairs[0], pairs[-1]]:
                peer.write(b"x")
                assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
                assert stream.read() == b"x"
            for stream, _ in chance.sample(pairs, count // 2):
                poller.unmonitor_socket(stream)
                if chance.random() < 0.5:
                    poller.wait_for_events(0)
                poller.monitor_socket(stream, DATA)
        for _, peer in pairs:
            peer.write(b"x")
        seen: set[bbipc.Socket] = set()
        while len(seen) < count:
            for one, happened in poller.wait_for_events(PATIENCE):
                assert happened == DATA
                assert isinstance(one, StreamSocket)
                assert one.read() == b"x"
                seen.add(one)
        assert poller.wait_for_events(0) == []
    finally:
        transport.close()


def test_more_threads_than_the_system_waits_for_objects(transport: Transport) -> None:
    """WaitForMultipleObjects takes 64. All hear of one byte, in every way at once."""
    stream, peer = transport.pair()
    pollers = [bbipc.make_poller() for _ in range(30)]
    try:
        for one in pollers:
            one.monitor_socket(stream, DATA)
        outcomes: list[Events] = []
        works: list[Callable[[], object]] = [
            *[lambda: outcomes.append(poll_socket(stream, DATA, PATIENCE)) for _ in range(20)],
            *[lambda: outcomes.append(bbipc.poll_sockets([stream], DATA, PATIENCE)[0]) for _ in range(20)],
            *[lambda one=one: outcomes.append(dict(one.wait_for_events(PATIENCE))[stream]) for one in pollers],
        ]
        threads = in_threads(*works)
        peer.write_all(b"x")
        for thread in threads:
            thread.join()
        assert outcomes == [DATA] * 70
    finally:
        for one in pollers:
            one.close()
