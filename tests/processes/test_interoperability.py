"""Peers that nobody here wrote, in both roles: Debian's nc, socat, and Python's own socket module.

On Windows: Python's sockets, and pipes by calls of Windows' own; test_pipe_peers.py has more peers of those.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import bbipc
from bbipc import EndOfStreamError, Events, SocketError, StreamSocket, poll_socket
from child_processes import (
    Processes,
    address_of,
    connect,
    ended,
    eventually,
    example,
    exchange,
    listening_socket,
    receive_exactly,
    receive_to_end,
    reset,
)
from patience import PATIENCE
from readiness import TELLS_ENDS_LATE
from systems import FREEBSD, MACOS, WINDOWS
from transports import PythonPeer

ECHO_SERVERS = ["echo_server.py", "poller_echo_server.py"]

#: More than the system takes at once, so that both ends have to do with parts.
MUCH = random.Random(1).randbytes(20_000_000)


def program(name: str, package: str) -> str:
    if WINDOWS:
        pytest.skip(f"{name} is a program for Unix systems")
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed (Debian's package {package})")
    return path


@pytest.fixture
def nc() -> str:
    # Of the programs called nc, only OpenBSD's has -N and -U. It is also FreeBSD's own.
    if FREEBSD:
        return program("nc", "netcat-openbsd")
    if MACOS:
        pytest.skip("macOS' nc can't say that it has finished and still read: it has no -N")
    return program("nc.openbsd", "netcat-openbsd")


@pytest.fixture
def socat() -> str:
    return program("socat", "socat")


def stream_to(address: str) -> StreamSocket:
    """A stream of ours, connected."""
    namespace, _, rest = address.partition(":")
    stream: StreamSocket
    if namespace == "local":
        stream = bbipc.connect_to_local_server(rest)
    else:
        host, _, port = rest.rpartition(":")
        stream = bbipc.connect_to_ipv4_tcp_server(host, int(port))
    assert poll_socket(stream, Events.DETERMINED, PATIENCE)
    return stream


def nc_arguments(address: str) -> list[str]:
    namespace, _, rest = address.partition(":")
    return ["-U", rest] if namespace == "local" else rest.split(":")


def socat_address(address: str) -> str:
    namespace, _, rest = address.partition(":")
    return f"UNIX-CONNECT:{rest}" if namespace == "local" else f"TCP4:{rest}"


def output_for(command: list[str], data: bytes) -> bytes:
    """What a program that is given the data prints."""
    return subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, check=True).stdout


class Socat:
    """A socat that listens and joins the first client with something else."""

    def __init__(self, path: str, processes: Processes, address: str, other_end: str) -> None:
        namespace, _, rest = address.partition(":")
        listen = f"UNIX-LISTEN:{rest}" if namespace == "local" else "TCP4-LISTEN:0,bind=127.0.0.1"
        # It tells where it listens on standard error: "... N listening on AF=2 127.0.0.1:40123".
        self.process = processes.start([path, "-d", "-d", "-t", str(PATIENCE), listen, other_end])
        assert self.process.stderr is not None
        while True:
            line = self.process.stderr.readline()
            assert line, "socat does not listen"
            _, found, name = line.rstrip("\n").partition(" listening on AF=")
            if found:
                break
        # A path may be shown in quotes; a port is what follows the last colon.
        self.address = address if namespace == "local" else f"tcp:127.0.0.1:{name.rpartition(':')[2]}"


# ---- They are the clients of the examples' servers ----


@pytest.mark.parametrize("name", ECHO_SERVERS)
@pytest.mark.parametrize("data", [b"Hello World", b"", MUCH], ids=["little", "nothing", "much"])
class TestClients:
    def test_nc(self, nc: str, processes: Processes, free_address: str, name: str, data: bytes) -> None:
        """-N ends its sending with its input: a client that looks gone and yet reads."""
        _, address = processes.serve(name, free_address)
        assert output_for([nc, "-N", *nc_arguments(address)], data) == data

    def test_socat(self, socat: str, processes: Processes, free_address: str, name: str, data: bytes) -> None:
        _, address = processes.serve(name, free_address)
        # -t: how long it waits for the answers once its input has ended.
        assert output_for([socat, "-t", str(PATIENCE), "STDIO", socat_address(address)], data) == data

    def test_python(self, processes: Processes, free_address: str, name: str, data: bytes) -> None:
        _, address = processes.serve(name, free_address)
        with connect(address) as client:
            assert exchange(client, data) == data


def test_nc_sends_to_a_server_of_ours_while_it_stays_open(nc: str, processes: Processes, free_address: str) -> None:
    """Without -N it goes on listening when its input has ended; what it sent is echoed all the same."""
    _, address = processes.serve("poller_echo_server.py", free_address)
    client = processes.start([nc, *nc_arguments(address)])
    assert client.stdin is not None
    assert client.stdout is not None
    for line in ("first\n", "second\n"):
        client.stdin.write(line)
        client.stdin.flush()
        assert client.stdout.readline() == line


def test_many_nc_at_once(nc: str, processes: Processes, free_address: str) -> None:
    _, address = processes.serve("poller_echo_server.py", free_address)
    clients = [processes.start([nc, "-N", *nc_arguments(address)]) for _ in range(20)]
    for number, client in enumerate(clients):
        assert client.stdin is not None
        client.stdin.write(f"client {number}\n")
        client.stdin.flush()
    for number, client in reversed(list(enumerate(clients))):
        assert client.communicate(timeout=PATIENCE)[0] == f"client {number}\n"


# ---- They are the servers of echo_client.py and of our streams ----


def test_echo_client_and_a_socat_server(socat: str, processes: Processes, free_address: str) -> None:
    server = Socat(socat, processes, free_address, "EXEC:cat")
    completed = processes.run(example("echo_client.py", "Hello World", server.address))
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "Hello World\n", "")


def until_nc_listens(server: subprocess.Popen[str], pathname: Path) -> None:
    """Between bind and listen its file is there, and clients are refused. Only OpenBSD's nc tells when it listens."""
    eventually(pathname.exists, "nc makes its file")
    assert server.stderr is not None
    while not FREEBSD and "Listening on" not in server.stderr.readline():
        assert server.poll() is None, "nc has ended"


def test_echo_client_and_an_nc_server(nc: str, processes: Processes, directory: Path) -> None:
    """What nc is given on its standard input is its answer."""
    pathname = directory / "server"
    server = processes.start([nc, "-l", "-v", "-N", "-U", str(pathname)])
    until_nc_listens(server, pathname)
    client = processes.start(example("echo_client.py", "Hello World", f"local:{pathname}"))
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.read(len("Hello World")) == "Hello World"
    server.stdin.write("HELLO WORLD")
    server.stdin.close()
    assert ended(client) == (0, "HELLO WORLD\n", "")


@pytest.mark.skipif(FREEBSD, reason="FreeBSD's nc does not say when it listens")
def test_stream_and_an_nc_server_over_tcp(nc: str, processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = processes.start([nc, "-l", "-v", "-N", "127.0.0.1", str(port)])
    assert server.stderr is not None
    assert "Listening on" in server.stderr.readline()
    with stream_to(f"tcp:127.0.0.1:{port}") as stream:
        stream.write_all(b"question\n", PATIENCE)
        assert server.stdout is not None
        assert server.stdout.readline() == "question\n"
        assert server.stdin is not None
        server.stdin.write("answer\n")
        server.stdin.close()
        assert stream.read_exactly(7, PATIENCE) == b"answer\n"
        assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    assert server.wait(PATIENCE) == 0


def test_stream_reads_all_that_nc_sends_before_it_goes(nc: str, processes: Processes, directory: Path) -> None:
    pathname = directory / "server"
    contents = directory / "contents"
    contents.write_bytes(MUCH)
    with contents.open("rb") as stdin:
        server = processes.start([nc, "-l", "-v", "-N", "-U", str(pathname)], stdin=stdin)
        until_nc_listens(server, pathname)
    with stream_to(f"local:{pathname}") as stream:
        assert stream.read_exactly(len(MUCH), PATIENCE) == MUCH
        assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    assert ended(server)[0] == 0


def test_stream_and_a_socat_server(socat: str, processes: Processes, free_address: str) -> None:
    """Both ways at once, and an end that each side hears of."""
    server = Socat(socat, processes, free_address, "EXEC:cat")
    received = bytearray()
    written = 0
    with stream_to(server.address) as stream:
        while True:
            events = Events.DATA_AVAILABLE | Events.END_OF_DATA
            if written < len(MUCH):
                events |= Events.WRITE_SPACE
            happened = poll_socket(stream, events, PATIENCE)
            assert happened, f"wrote {written}, read {len(received)} bytes"
            if happened.write_space:
                written += stream.write(MUCH, written)
                if written == len(MUCH):
                    stream.finish_writing()
            if happened.data_available:
                received += stream.read(1 << 20)
            elif happened.end_of_data:
                break
    assert hashlib.sha256(received).digest() == hashlib.sha256(MUCH).digest()
    assert server.process.wait(PATIENCE) == 0


# ---- Python's own socket module is the other end of our streams, on Windows also its calls for pipes ----

Ends = tuple[StreamSocket, PythonPeer]


@pytest.fixture
def ends(free_address: str) -> Iterator[Ends]:
    """A stream that connected, and the socket, or on Windows the end of a pipe, that accepted it."""
    with listening_socket(free_address) as listener, stream_to(address_of(listener)) as stream:
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            yield stream, accepted


def python_socket(peer: PythonPeer, lacking: str) -> socket.socket:
    """The peer, if it is no pipe: that lacks something."""
    if not isinstance(peer, socket.socket):
        pytest.skip(f"a named pipe {lacking}")
    return peer


def test_python_server_exchanges_much_with_a_stream(ends: Ends) -> None:
    stream, accepted = ends
    results: list[bytes] = []

    def serve() -> None:
        if isinstance(accepted, socket.socket):
            results.append(receive_to_end(accepted))
            accepted.sendall(MUCH)
            accepted.shutdown(socket.SHUT_WR)
        else:
            # A pipe's two ways end together.
            results.append(receive_exactly(accepted, len(MUCH)))
            accepted.sendall(MUCH)
            accepted.close()

    server = threading.Thread(target=serve)
    server.start()
    try:
        stream.write_all(MUCH, PATIENCE)
        if isinstance(accepted, socket.socket):
            stream.finish_writing()
        assert stream.read_exactly(len(MUCH), PATIENCE) == MUCH
    finally:
        server.join()
    assert results == [MUCH]
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)


def test_stream_writes_to_a_python_peer_that_half_closed(ends: Ends) -> None:
    stream, accepted = ends
    accepted = python_socket(accepted, "can't be half-closed")
    accepted.sendall(b"last words")
    accepted.shutdown(socket.SHUT_WR)
    if not TELLS_ENDS_LATE:
        assert poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
    assert stream.read_exactly(10, PATIENCE) == b"last words"
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    # It looks gone, and reads.
    assert not stream.ready_to_write()
    assert poll_socket(stream, Events.WRITE_SPACE, PATIENCE)
    stream.write_all(b"answer", PATIENCE)
    assert receive_exactly(accepted, 6) == b"answer"


def test_stream_reads_what_a_python_peer_wrote_before_it_closed(ends: Ends) -> None:
    stream, accepted = ends
    accepted.sendall(b"last words")
    accepted.close()
    if not TELLS_ENDS_LATE or isinstance(stream, bbipc.LocalStream):
        assert poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
    with pytest.raises(EndOfStreamError) as caught:
        stream.read_exactly(100, PATIENCE)
    assert caught.value.partial == b"last words"


def test_stream_tells_of_a_python_peer_that_resets() -> None:
    with listening_socket("tcp:") as listener, stream_to(address_of(listener)) as stream:
        accepted, _ = listener.accept()
        reset(accepted)
        assert poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
        assert stream.remote_disconnected()
        assert isinstance(stream.connection_error(), SocketError)


def test_urgent_data_of_a_python_peer_do_no_harm() -> None:
    """TCP's urgent byte (tcp(7)) travels beside the stream, unless the receiver asks for it in line."""
    with listening_socket("tcp:") as listener, stream_to(address_of(listener)) as stream:
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"before")
            accepted.send(b"!", socket.MSG_OOB)
            accepted.sendall(b"after")
            assert stream.read_exactly(11, PATIENCE) == b"beforeafter"
            assert not poll_socket(stream, Events.DATA_AVAILABLE, 0)
            assert stream.connection_succeeded()


@pytest.mark.skipif(WINDOWS, reason="Windows' sockets and pipes pass no handles")
def test_descriptors_that_a_python_peer_passes_do_no_harm(directory: Path) -> None:
    """unix(7), SCM_RIGHTS: the bytes arrive, and the kernel closes what nobody takes."""
    with listening_socket(f"local:{directory}/server") as listener, stream_to(address_of(listener)) as stream:
        accepted, _ = listener.accept()
        with accepted, socket.socket() as passed:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", passed.fileno()))
            accepted.sendmsg([b"with a descriptor"], [rights])
            assert stream.read_exactly(17, PATIENCE) == b"with a descriptor"


def test_python_selects_a_stream_by_its_descriptor(ends: Ends) -> None:
    """fileno() fits a stream into a program with a loop of its own."""
    import select

    stream, accepted = ends
    accepted = python_socket(accepted, "is nothing that Windows' select() takes")
    assert select.select([stream], [], [], 0) == ([], [], [])
    accepted.sendall(b"data")
    assert select.select([stream], [], [], PATIENCE) == ([stream], [], [])
    assert stream.read() == b"data"


# ---- They send and receive files ----


def test_socat_relays_a_file_transfer(socat: str, processes: Processes, directory: Path) -> None:
    """A local sender, a TCP receiver, and a stranger in between."""
    source, destination = directory / "source", directory / "destination"
    source.write_bytes(MUCH)
    receiver, address = processes.serve("file_transfer.py", "receive", destination, "tcp:127.0.0.1:0")
    relay = Socat(socat, processes, f"local:{directory}/relay", socat_address(address))
    sender = processes.run(example("file_transfer.py", "send", source, relay.address))
    assert (sender.returncode, sender.stderr) == (0, "")
    assert ended(receiver)[0] == 0
    assert destination.read_bytes() == MUCH


def test_file_transfer_over_a_relay_that_is_killed_fails_at_both_ends(
    socat: str, processes: Processes, directory: Path
) -> None:
    source, destination = directory / "source", directory / "destination"
    source.touch()
    # Sparse: it takes no space, and longer to send than this test lasts.
    with source.open("r+b") as file:
        file.truncate(100_000_000_000)
    receiver, address = processes.serve("file_transfer.py", "receive", destination, "tcp:127.0.0.1:0")
    relay = Socat(socat, processes, f"local:{directory}/relay", socat_address(address))
    sender = processes.start(example("file_transfer.py", "send", source, relay.address))
    eventually(lambda: list(directory.glob(".*.partial")), "the file is under way")
    relay.process.kill()
    assert ended(sender) == (1, "", "file_transfer.py: the receiver went before the file was transferred\n")
    assert ended(receiver) == (1, "", "file_transfer.py: the sender went before the file was transferred\n")
    assert not destination.exists()
    assert not list(directory.glob(".*.partial"))
