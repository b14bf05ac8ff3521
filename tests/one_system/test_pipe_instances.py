"""The instances of a pipe: its server's backlog, and who may open them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import random
import sys
from ctypes import POINTER, byref, c_uint8, c_uint16, c_uint32, c_void_p
from functools import partial

import pytest

import bbipc
from bbipc import Events, poll_socket
from patience import PATIENCE

if sys.platform != "win32":
    pytest.skip("pipes with instances, handles and completion ports are Windows' own", allow_module_level=True)

import _winapi

import named_pipes
import windows
from pipe_checks import (
    BUFFER,
    DATA,
    END,
    PIPES,
    READ_WRITE,
    SEVERED,
    accept,
    check_busy,
    check_code,
    check_nobody,
    check_talk,
    in_threads,
    read_to_end,
    refusal,
    write_until_pending,
)

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
