"""The names of pipes: one server to each, which of them are the same, and what is none."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import sys
from ctypes import byref, c_int32
from functools import partial
from pathlib import Path

import pytest

import bbipc
from bbipc import SocketError, poll_socket
from bbipc._native import declarations
from patience import PATIENCE
from peer import run_program

if sys.platform != "win32":
    pytest.skip("pipes with instances, handles and completion ports are Windows' own", allow_module_level=True)


import named_pipes
from pipe_checks import (
    CLIENT,
    DATA,
    LIMIT,
    PIPES,
    Pathname,
    accept,
    check_busy,
    check_nobody,
    check_taken,
    check_talk,
    refusal,
)

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
    """Nothing is lost on the way to the system: lone surrogates are not all the same."""
    names = [name + odd for odd in ("\ud800", "\ud801", "\udc00", "\ud83d\ude00", "\ude00\ud83d", "\ufffd", "?")]
    # The two halves of a pair are one character.
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
            declarations.make_local_server(
                pathname, len(pathname), 1, declarations.DEFAULT_PERMISSIONS, 0, byref(code)
            ),
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
