"""broadcast.py, as its users run it: all hear the same, and who does not read costs nobody else anything."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from child_processes import (
    Processes,
    connect,
    descriptor_count,
    ended,
    eventually,
    example,
    processor_seconds,
    reset,
    resident_bytes,
)
from descriptors import descriptors_for
from example_programs import ASK_TO_END, ASKED_TO_END, block_of_data, message, one_line, receive_message
from patience import PATIENCE
from peer import until_asleep
from systems import BACKLOG_MAX, CLIENTS_OUTLIVE_EMFILE, WINDOWS
from transports import PythonPeer

MESSAGE_MAX = 65536
DROPPED = "dropped a client that does not read\n"


class Room:
    """A server and its clients."""

    def __init__(self, processes: Processes, directory: Path, address: str, keep: int = 100) -> None:
        self._errors = directory / "errors"
        with self._errors.open("w", encoding="utf-8") as errors:
            command = example("broadcast.py", "serve", "--keep", keep, address)
            self.server, self.address = processes.serve_command(command, stderr=errors)
        until_asleep(self.server.pid)
        self._empty = descriptor_count(self.server)
        self._stack = contextlib.ExitStack()

    def join(self, count: int) -> list[PythonPeer]:
        """Clients that hear what is said from now on."""
        before = self.client_count()
        clients: list[PythonPeer] = []
        while len(clients) < count:
            clients.append(self._stack.enter_context(connect(self.address)))
            if len(clients) % BACKLOG_MAX == 0 or len(clients) == count:
                wanted = before + len(clients)
                eventually(lambda wanted=wanted: self.client_count() >= wanted, "the clients are accepted")
        return clients

    def client_count(self) -> int:
        return descriptor_count(self.server) - self._empty

    def until_client_count(self, count: int) -> None:
        # On Windows, a poller has a handle of its own for 32 TCP sockets, and keeps it.
        most = count + (50 if WINDOWS else 0)
        eventually(lambda: self.client_count() <= most, f"{count} clients are left")

    def end(self) -> str:
        """What the server has said on standard error."""
        ASK_TO_END(self.server)
        assert ended(self.server)[:2] == (ASKED_TO_END, "")
        return self.errors()

    def errors(self) -> str:
        return self._errors.read_text(encoding="utf-8")

    def close(self) -> None:
        self._stack.close()
        # pytest keeps what it got, and on Windows that would keep a handle.
        del self.server


@pytest.fixture
def room(processes: Processes, directory: Path, free_address: str) -> Iterator[Room]:
    made = Room(processes, directory, free_address)
    yield made
    made.close()


def test_listeners_hear_what_is_said(processes: Processes, room: Room) -> None:
    listeners = [processes.start(example("broadcast.py", "listen", room.address)) for _ in range(2)]
    eventually(lambda: room.client_count() >= 2, "the listeners are accepted")
    for text in ("Hello World", "ö€😀", ""):
        said = processes.run(example("broadcast.py", "say", text, room.address))
        assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert room.end() == ""
    for listener in listeners:
        assert ended(listener) == (0, "Hello World\nö€😀\n\n", "")


def test_all_hear_the_same_in_the_same_order(room: Room) -> None:
    clients = room.join(8)
    generator = random.Random(1)
    said = []
    for number in range(100):
        place = generator.randrange(len(clients))
        said.append(b"%d " % number + block_of_data(generator.choice([0, 100, 10_000])))
        clients[place].sendall(message(said[-1]))
    heard = [[receive_message(client) for _ in said] for client in clients]
    assert all(messages == heard[0] for messages in heard)
    assert sorted(heard[0]) == sorted(said)
    assert room.end() == ""


def test_client_that_stops_in_the_middle_of_a_message_holds_up_nobody(room: Room) -> None:
    halting, *others = room.join(3)
    halting.sendall(message(b"whole")[:-1])
    others[0].sendall(message(b"another"))
    assert [receive_message(client) for client in [halting, *others]] == [b"another"] * 3
    halting.sendall(b"e")
    assert [receive_message(client) for client in [halting, *others]] == [b"whole"] * 3


@pytest.mark.parametrize("said", [message(bytes(MESSAGE_MAX + 1)), b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 12])
def test_client_that_says_what_is_no_message_is_dropped(room: Room, said: bytes) -> None:
    stranger, *others = room.join(3)
    # As much as tells: the server reads no more of it.
    stranger.sendall(said[:12])
    room.until_client_count(2)
    others[0].sendall(message(bytes(MESSAGE_MAX)))
    assert [receive_message(client) for client in others] == [bytes(MESSAGE_MAX)] * 2
    assert room.end() == ""


def test_clients_that_go_are_dropped(room: Room) -> None:
    first, second, third, survivor = room.join(4)
    first.close()
    second.sendall(message(b"half")[:-1])
    second.close()
    reset(third)
    room.until_client_count(1)
    survivor.sendall(message(b"still there?"))
    assert receive_message(survivor) == b"still there?"
    assert room.end() == ""


def test_client_that_sends_and_reads_late_gets_all(room: Room) -> None:
    """What is kept for a client goes to it, in order, once it reads."""
    speaker, late = room.join(2)
    texts = [b"%d " % number + bytes(50_000) for number in range(50)]
    for text in texts:
        speaker.sendall(message(text))
        assert receive_message(speaker) == text
    assert [receive_message(late) for _ in texts] == texts
    speaker.sendall(message(b"and now"))
    assert receive_message(late) == b"and now"
    assert room.end() == ""


def check_slow_readers(room: Room, reader_count: int, slow_count: int, keep: int) -> None:
    """Talks until everybody who does not read is dropped, and checks that all others hear everything meanwhile."""
    readers = room.join(reader_count)
    room.join(slow_count)
    before = resident_bytes(room.server)
    most = 0
    texts = (b"%d " % number + block_of_data(MESSAGE_MAX - 10) for number in range(500))
    while room.errors().count(DROPPED) < slow_count:
        text = next(texts)
        readers[0].sendall(message(text))
        for reader in readers:
            assert receive_message(reader) == text
        most = max(most, resident_bytes(room.server) - before)
    # Messages that are kept for many are there once; a stream may keep the rest of one besides.
    assert most < (slow_count * 2 + keep + 100) * MESSAGE_MAX
    print(f"{most / 1e6:.1f} MB for {slow_count} clients that did not read")
    readers[-1].sendall(message(b"still there?"))
    assert all(receive_message(reader) == b"still there?" for reader in readers)
    assert room.end() == DROPPED * slow_count


@pytest.mark.timeout(120)
def test_clients_that_do_not_read_are_dropped(processes: Processes, directory: Path, free_address: str) -> None:
    with contextlib.closing(Room(processes, directory, free_address, keep=10)) as room:
        check_slow_readers(room, reader_count=15, slow_count=5, keep=10)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_quarter_of_a_thousand_clients_that_does_not_read_is_dropped(
    processes: Processes, directory: Path, free_address: str
) -> None:
    # Wine takes longer than anybody's patience for a thousand.
    count = 100 if WINDOWS else 1000
    with descriptors_for(count + 100), contextlib.closing(Room(processes, directory, free_address, keep=10)) as room:
        check_slow_readers(room, count * 3 // 4, count // 4, keep=10)


def test_server_does_not_spin_while_a_client_does_not_read(
    processes: Processes, directory: Path, free_address: str
) -> None:
    with contextlib.closing(Room(processes, directory, free_address, keep=100)) as room:
        speaker, _ = room.join(2)
        for number in range(80):
            speaker.sendall(message(b"%d" % number + bytes(60_000)))
            receive_message(speaker)
        until_asleep(room.server.pid)
        before = processor_seconds(room.server)
        speaker.settimeout(1.0)
        with pytest.raises((socket.timeout, TimeoutError)):
            speaker.recv(1)
        assert processor_seconds(room.server) - before < 0.25
        assert room.client_count() == 2


@pytest.mark.skipif(WINDOWS, reason="Windows sets a program no limit of handles")
@pytest.mark.skipif(not CLIENTS_OUTLIVE_EMFILE, reason="macOS gives up a client that it has no descriptor for")
def test_newcomer_waits_while_there_is_no_descriptor(processes: Processes, free_address: str) -> None:
    limited = ["sh", "-c", 'ulimit -n 32 && exec "$@"', "sh", *example("broadcast.py", "serve", free_address)]
    server, address = processes.serve_command(limited)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(address)) for _ in range(40)]
        eventually(lambda: descriptor_count(server) == 32, "there is no descriptor left")
        newcomer = clients[-1]
        newcomer.sendall(message(b"let me in"))
        before = processor_seconds(server)
        newcomer.settimeout(1.5)
        with pytest.raises(socket.timeout):
            newcomer.recv(1)
        assert processor_seconds(server) - before < 0.25, "it spins while it has no descriptor"
        for client in clients[:20]:
            client.close()
        newcomer.settimeout(PATIENCE)
        assert receive_message(newcomer) == b"let me in"


@pytest.mark.parametrize("command", [["listen"], ["say", "Hello"]])
def test_client_without_a_server_is_one_line_and_status_1(
    processes: Processes, free_address: str, command: list[str]
) -> None:
    address = free_address
    if address.startswith("tcp"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    completed = processes.run(example("broadcast.py", *command, address))
    assert (completed.returncode, completed.stdout) == (1, "")
    assert one_line(completed.stderr).startswith("broadcast.py: ")


def start_listener(processes: Processes, room: Room) -> subprocess.Popen[str]:
    listener = processes.start(example("broadcast.py", "listen", room.address))
    eventually(lambda: room.client_count() == 1, "the listener is accepted")
    until_asleep(listener.pid)
    return listener


def test_listener_ends_cleanly(processes: Processes, room: Room) -> None:
    listener = start_listener(processes, room)
    ASK_TO_END(listener)
    assert ended(listener) == (ASKED_TO_END, "", "")
    assert room.end() == ""


def test_listener_whose_server_is_killed_says_so_or_ends(processes: Processes, room: Room) -> None:
    listener = start_listener(processes, room)
    room.server.kill()
    status, output, errors = ended(listener)
    assert (status, output) in ((0, ""), (1, ""))
    assert "Traceback" not in errors
