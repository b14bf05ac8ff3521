"""StreamSocket.abort: what it gives up, on every system and through both calling layers."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest

import bbipc
from bbipc import Events, poll_socket
from patience import PATIENCE
from peer import run_program, until_asleep
from transports import Transport, fill

DATA_OR_END = Events.DATA_AVAILABLE | Events.END_OF_DATA


def read_to_end(stream: bbipc.StreamSocket) -> int:
    received = 0
    while Events.DATA_AVAILABLE in poll_socket(stream, DATA_OR_END, PATIENCE):
        received += len(stream.read())
    return received


@pytest.mark.parametrize("way", ["idle", "with room used up", "with bytes unread"])
def test_the_remote_end_of_an_aborted_stream(transport: Transport, way: str) -> None:
    one, other = transport.pair()
    written = fill(one) if way == "with room used up" else 0
    if way == "with bytes unread":
        other.write_all(b"unread")
        assert poll_socket(one, Events.DATA_AVAILABLE, PATIENCE)
    one.abort()
    assert one.closed
    assert poll_socket(other, Events.CONNECTION_SEVERED, PATIENCE)
    assert read_to_end(other) <= written
    if transport.name == "tcp":
        with pytest.raises(bbipc.SocketError) as caught:
            other.read()
        assert caught.value.errno == errno.ECONNRESET
        error = other.connection_error()
        assert error is not None
        assert error.errno == errno.ECONNRESET
    elif way != "with bytes unread":
        assert other.read() == b""
        assert other.end_of_data()


def test_abort_leaves_every_poller_and_does_nothing_when_closed(transport: Transport) -> None:
    one, other = transport.pair()
    with bbipc.make_poller() as poller:
        poller.monitor_socket(one, Events.DATA_AVAILABLE)
        one.abort()
        assert list(poller.monitored_sockets()) == []
    one.abort()
    one.close()
    with other:
        other.close()
        other.abort()
    with pytest.raises(bbipc.SocketClosedError):
        one.write(b"x")


def test_a_stream_can_be_aborted_inside_its_with_statement(transport: Transport) -> None:
    one, other = transport.pair()
    with one:
        one.abort()
    assert poll_socket(other, Events.CONNECTION_SEVERED, PATIENCE)


def test_an_attempt_to_connect_can_be_aborted() -> None:
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
        stream = bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port)
        stream.abort()
        assert stream.closed


def test_only_streams_can_be_aborted(transport: Transport) -> None:
    assert not hasattr(transport.make_server(), "abort")


def test_a_thread_that_waits_hears_of_the_abort(transport: Transport) -> None:
    one, _other = transport.pair()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            one.read_exactly(1, PATIENCE)
        except bbipc.BbipcError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert thread.native_id is not None
    until_asleep(os.getpid(), thread.native_id)
    one.abort()
    thread.join(PATIENCE)
    assert [type(error) for error in errors] == [bbipc.SocketClosedError]


FULL = """
    import sys, bbipc
    from bbipc import Events

    where, *port = sys.argv[1:]
    if not port:
        stream = bbipc.connect_to_local_server(where)
    else:
        connect = bbipc.connect_to_ipv6_tcp_server if ":" in where else bbipc.connect_to_ipv4_tcp_server
        stream = connect(where, int(port[0]))
        bbipc.poll_socket(stream, Events.DETERMINED)
    while bbipc.poll_socket(stream, Events.WRITE_SPACE, 0.25):
        stream.write(bytes(65536))
    stream.abort()
"""


def test_a_process_that_aborts_does_not_wait_for_its_reader(transport: Transport) -> None:
    server = transport.make_server()
    where = (server.local_pathname,) if isinstance(server, bbipc.LocalServer) else (server.host_address, server.port)
    began = time.perf_counter()
    run_program(FULL, *where)
    # A process that closes waits for five seconds, on Windows, for what was written to a pipe.
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("layer", ["ctypes", "cpython"])
def test_either_calling_layer_aborts(layer: str) -> None:
    if layer == "cpython" and bbipc.calling_layer() != "cpython":
        pytest.skip("this run is for ctypes")
    program = f"""
        import os
        os.environ["BBIPC_CALLS"] = {layer!r}
        import bbipc
        from bbipc import Events
        with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as server:
            one = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port)
            assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
            with server.accept_connection() as other:
                one.abort()
                bbipc.poll_socket(other, Events.CONNECTION_SEVERED, 10)
                try:
                    other.read()
                except bbipc.SocketError as error:
                    print(type(error.errno).__name__, one.closed)
    """
    assert run_program(program) == "int True\n"
