"""request_reply.py, as its users run it: a daemon that outlives its clients, and a client that says what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import bbipc
from child_processes import (
    Processes,
    connect,
    descriptor_count,
    ended,
    eventually,
    example,
    listening_socket,
    reset,
)
from example_programs import ENDING_SIGNALS, Send, answers, message, one_line, receive_message
from peer import until_asleep
from transports import PythonPeer


@pytest.fixture
def path(directory: Path) -> str:
    return str(directory / "daemon")


class Daemon:
    """A daemon's process."""

    def __init__(self, processes: Processes, path: str) -> None:
        self.process, address = processes.serve("request_reply.py", f"local:{path}", "serve")
        assert address == f"local:{path}"
        until_asleep(self.process.pid)

    def until_descriptor_count(self, count: int) -> None:
        eventually(lambda: descriptor_count(self.process) <= count, "those who have gone are dropped")


@pytest.fixture
def daemon(processes: Processes, path: str) -> Iterator[Daemon]:
    made = Daemon(processes, path)
    yield made
    # pytest keeps what it got, and on Windows that would keep a handle.
    del made.process


@pytest.fixture
def client(daemon: Daemon, path: str) -> Iterator[PythonPeer]:
    with contextlib.closing(connect(f"local:{path}")) as connected:
        yield connected


def ask(connected: PythonPeer, **request: object) -> object:
    connected.sendall(message(json.dumps(request).encode()))
    return json.loads(receive_message(connected))


def test_values_are_kept_from_one_client_to_the_next(processes: Processes, daemon: Daemon, path: str) -> None:
    for words, expected in (
        (["list"], []),
        (["set", "color", "red"], "red"),
        (["get", "color"], "red"),
        (["set", "color", "ö€😀"], "ö€😀"),
        (["set", "", ""], ""),
        (["get", "color"], "ö€😀"),
        (["list"], ["", "color"]),
    ):
        completed = processes.run(example("request_reply.py", f"local:{path}", *words))
        assert (completed.returncode, completed.stderr) == (0, "")
        assert json.loads(completed.stdout) == expected
    assert daemon.process.poll() is None


@pytest.mark.usefixtures("daemon")
def test_error_is_one_line_and_status_1(processes: Processes, path: str) -> None:
    completed = processes.run(example("request_reply.py", f"local:{path}", "get", "missing"))
    assert (completed.returncode, completed.stdout) == (1, "")
    assert one_line(completed.stderr) == "request_reply.py: KeyError: 'missing'"


@pytest.mark.parametrize("words", [["get", "name"], ["set", "name", "value"], ["list"]])
def test_no_daemon_is_one_line_and_status_1(processes: Processes, path: str, words: list[str]) -> None:
    completed = processes.run(example("request_reply.py", f"local:{path}", *words))
    assert (completed.returncode, completed.stdout) == (1, "")
    assert one_line(completed.stderr).startswith(f"request_reply.py: no server listens at {path!r}: ")


def test_second_daemon_is_refused(processes: Processes, client: PythonPeer, path: str) -> None:
    completed = processes.run(example("request_reply.py", f"local:{path}", "serve"))
    assert (completed.returncode, completed.stdout) == (1, "")
    assert one_line(completed.stderr).startswith("request_reply.py: cannot listen ")
    assert ask(client, do="list") == {"value": []}


@pytest.mark.parametrize(("send", "status"), ENDING_SIGNALS)
def test_daemon_ends_cleanly(
    daemon: Daemon, client: PythonPeer, directory: Path, path: str, send: Send, status: int
) -> None:
    assert ask(client, do="list") == {"value": []}
    send(daemon.process)
    assert ended(daemon.process) == (status, "", "")
    assert client.recv(1) == b""
    assert os.listdir(directory) == []
    assert not answers(f"local:{path}")


def test_client_can_ask_again_and_again(client: PythonPeer) -> None:
    for number in range(100):
        assert ask(client, do="set", name="number", value=number) == {"value": number}
    requests = [message(json.dumps({"do": "get", "name": "number"}).encode()) for _ in range(100)]
    client.sendall(b"".join(requests))
    assert [json.loads(receive_message(client)) for _ in requests] == [{"value": 99}] * 100


@pytest.mark.parametrize(
    "request_",
    [b"", b"\xff", b"nonsense", b"1", b"[]", b"{}", b'{"do": "get"}', b'{"do": "set", "name": []}', b"[" * 100_000],
)
def test_nonsense_gets_an_error_and_no_more(client: PythonPeer, request_: bytes) -> None:
    client.sendall(message(request_))
    assert list(json.loads(receive_message(client))) == ["error"]
    assert ask(client, do="list") == {"value": []}


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 12])
def test_stranger_is_dropped(daemon: Daemon, client: PythonPeer, path: str, said: bytes) -> None:
    with contextlib.closing(connect(f"local:{path}")) as stranger:
        stranger.sendall(said[:12])
        # Where it reads, a pipe that is closed on it is an error.
        with contextlib.suppress(OSError):
            assert stranger.recv(1) == b""
    assert ask(client, do="list") == {"value": []}


def test_client_that_stops_in_the_middle_of_a_request_holds_up_nobody(client: PythonPeer, path: str) -> None:
    request = message(b'{"do": "list"}')
    with contextlib.closing(connect(f"local:{path}")) as halting:
        halting.sendall(request[:-1])
        assert ask(client, do="list") == {"value": []}
        halting.sendall(request[-1:])
        assert json.loads(receive_message(halting)) == {"value": []}


def test_client_that_does_not_read_its_replies_is_dropped(daemon: Daemon, client: PythonPeer, path: str) -> None:
    value = "x" * 1_000_000
    assert ask(client, do="set", name="large", value=value) == {"value": value}
    before = descriptor_count(daemon.process)
    with contextlib.closing(connect(f"local:{path}")) as careless:
        request = message(b'{"do": "get", "name": "large"}')
        # One by one: requests that come together are answered together.
        with contextlib.suppress(OSError):
            for _ in range(50):
                careless.sendall(request)
                assert ask(client, do="list") == {"value": ["large"]}
        daemon.until_descriptor_count(before)
    assert ask(client, do="get", name="large") == {"value": value}


def test_clients_that_die_cost_nobody_else_anything(daemon: Daemon, client: PythonPeer, path: str) -> None:
    assert ask(client, do="list") == {"value": []}
    before = descriptor_count(daemon.process)
    for said in (b"", b"\0", message(b'{"do": "list"}'), message(b'{"do": "list"}') * 100):
        dying = connect(f"local:{path}")
        dying.sendall(said)
        reset(dying)
    assert ask(client, do="list") == {"value": []}
    daemon.until_descriptor_count(before)
    assert daemon.process.poll() is None


@pytest.mark.parametrize("example_module", ["request_reply"], indirect=True)
def test_client_gives_up_a_daemon_that_does_not_answer(
    example_module: ModuleType, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_module, "TIMEOUT_S", 0.05)
    with contextlib.closing(listening_socket(f"local:{path}")), pytest.raises(bbipc.TimeoutError):
        example_module.ask(f"local:{path}", {"do": "list"})


def test_client_tells_of_a_daemon_that_goes(processes: Processes, path: str) -> None:
    with contextlib.closing(listening_socket(f"local:{path}")) as listener:
        asking = processes.start(example("request_reply.py", f"local:{path}", "list"))
        connected, _ = listener.accept()
        with contextlib.closing(connected):
            assert receive_message(connected)
        status, output, errors = ended(asking)
    assert (status, output) == (1, "")
    assert one_line(errors).startswith("request_reply.py: the remote end ")
