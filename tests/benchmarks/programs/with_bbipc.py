"""bbipc: the plain interface, and the batched operations."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import threading
import time

from control import (
    BACKLOG,
    READ_SIZE,
    SERIES,
    TIME_OUT_S,
    Deliveries,
    Receipt,
    announce,
    answer,
    ask_in_time,
    commands,
    fail,
    lists_of,
    make_round_trips,
    message_of,
    other_address,
    pathname_of,
    port_of,
    receive_series,
    send_messages,
    send_series,
    series_of,
    time_calls,
    time_statement,
    time_waits,
    watch,
)

import bbipc
from bbipc import Events, NoConnectionAvailableError, Poller, SocketError, StreamServer, StreamSocket
from bbipc._native import declarations

READ = Events.DATA_AVAILABLE | Events.END_OF_DATA
WRITE = Events.WRITE_SPACE | Events.CONNECTION_SEVERED

#: Round trips after which a poller knows whether to look before it sleeps.
LESSONS = 5_000


def check_calling_layer() -> None:
    """A figure of one layer must not be printed as that of the other."""
    asked = os.environ["BBIPC_CALLS"]
    if bbipc.calling_layer() != asked:
        fail(f"bbipc's calling layer is {bbipc.calling_layer()}, not {asked}")


check_calling_layer()


def listen(address: str) -> StreamServer:
    pathname = pathname_of(address)
    if pathname is not None:
        return bbipc.make_local_server(pathname, backlog=BACKLOG)
    return bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, port_of(address), backlog=BACKLOG)


def address_of(server: StreamServer) -> str:
    if isinstance(server, bbipc.Ipv4TcpServer):
        return f"tcp:{server.port}"
    assert isinstance(server, bbipc.LocalServer)
    return f"local:{server.local_pathname!s}"


def start_connecting(address: str) -> StreamSocket:
    pathname = pathname_of(address)
    if pathname is not None:
        return bbipc.connect_to_local_server(pathname)
    return bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, port_of(address))


def connect(address: str) -> StreamSocket:
    stream = start_connecting(address)
    bbipc.poll_socket(stream, Events.DETERMINED)
    if error := stream.connection_error():
        raise error
    return stream


def accept(server: StreamServer) -> StreamSocket:
    bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE)
    return server.accept_connection()


# ---- Echo servers ----


def accept_all(server: StreamServer, poller: Poller) -> None:
    try:
        while True:
            poller.monitor_socket(server.accept_connection(), READ)
    except NoConnectionAvailableError:
        pass


def echo_server(address: str) -> None:
    """One read and one write for each event."""
    server = listen(address)
    poller = bbipc.make_poller()
    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
    buffer = bytearray(READ_SIZE)
    #: What the system has not taken yet. Nothing more is read from such a stream.
    kept: dict[StreamSocket, bytes] = {}
    announce(address_of(server))
    while True:
        for stream, events in poller.wait_for_events():
            try:
                if events.data_available:
                    size = stream.read_into(buffer)
                    written = stream.write(buffer, 0, size)
                    if written < size:
                        kept[stream] = buffer[written:size]
                        poller.set_monitored_events(stream, WRITE)
                elif events.write_space:
                    write_kept(poller, stream, kept)
                elif events.connection_available:
                    accept_all(server, poller)
                else:
                    kept.pop(stream, None)
                    stream.close()
            except SocketError:  # noqa: PERF203 -- one stream's failure is not the others'
                kept.pop(stream, None)
                stream.close()


def batched_echo_server(address: str) -> None:
    """One call reads all that has come, and one writes all that goes back."""
    server = listen(address)
    poller = bbipc.make_poller()
    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
    kept: dict[StreamSocket, bytes] = {}
    announce(address_of(server))
    while True:
        answers = []
        for stream, events, data in poller.receive():
            if data:
                answers.append((stream, data))
            elif events.connection_available:
                accept_all(server, poller)
            elif events.write_space:
                try:
                    write_kept(poller, stream, kept)
                except SocketError:
                    drop(stream, kept)
            else:
                drop(stream, kept)
        for place, written in bbipc.write_many(answers):
            stream, data = answers[place]
            if isinstance(written, int):
                kept[stream] = data[written:]
                poller.set_monitored_events(stream, WRITE)
            else:
                drop(stream, kept)


def write_kept(poller: Poller, stream: StreamSocket, kept: dict[StreamSocket, bytes]) -> None:
    data = kept[stream]
    written = stream.write(data)
    if written < len(data):
        kept[stream] = data[written:]
    else:
        del kept[stream]
        poller.set_monitored_events(stream, READ)


def drop(stream: StreamSocket, kept: dict[StreamSocket, bytes]) -> None:
    kept.pop(stream, None)
    stream.close()


# ---- Two processes, and one ----


def round_trip_server(address: str, size: int) -> None:
    server = listen(address)
    announce(address_of(server))
    while True:
        # Until the client has made its last round trip.
        with accept(server) as stream, contextlib.suppress(bbipc.EndOfStreamError):
            while True:
                stream.write_all(stream.read_exactly(size))


def round_trip_client(address: str, size: int) -> None:
    stream = connect(address)
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            stream.write_all(message)
            if stream.read_exactly(size) != message:
                fail("other bytes came back than were sent")
        answer(time.perf_counter_ns() - start_ns)


def paced_client(address: str, size: int) -> None:
    stream = connect(address)

    def ask(message: bytes) -> bytes:
        stream.write_all(message)
        return stream.read_exactly(size)

    ask_in_time(ask, size)


def connected_pair(address: str) -> tuple[StreamSocket, StreamSocket]:
    with listen(address) as server:
        return connect(address_of(server)), accept(server)


def pair(address: str, size: int) -> None:
    connecting, accepted = connected_pair(address)
    message = message_of(size)
    buffer = bytearray(size)
    announce()
    for (count,) in commands():
        gc.collect()
        write, read_into = connecting.write, accepted.read_into
        start_ns = time.process_time_ns()
        for _ in range(count):
            write(message)
            read_into(buffer)
        elapsed_ns = time.process_time_ns() - start_ns
        if buffer != message or accepted.read_into(buffer):
            fail("other bytes came than were sent")
        answer(elapsed_ns)


def connecting(address: str, _size: int) -> None:
    """Waits for neither end: on one machine, both are there when the connect returns."""
    server = listen(address)
    address = address_of(server)

    def make_connection() -> None:
        connected = start_connecting(address)
        accepted = server.accept_connection()
        connected.close()
        accepted.close()

    time_calls(make_connection)


def awaited_connecting(address: str, _size: int) -> None:
    """Waits for both ends, as programs do whose peer may be on another machine."""
    server = listen(address)
    address = address_of(server)

    def make_connection() -> None:
        connected = connect(address)
        accepted = accept(server)
        connected.close()
        accepted.close()

    time_calls(make_connection)


def copies(address: str, size: int, releases: int, neighbour: int) -> None:
    """Writes and reads that release the GIL, or keep it; beside a thread that wants it, if that has a processor."""
    connecting, accepted = connected_pair(address)
    write, read = (
        (declarations.write_much, declarations.read_much) if releases else (declarations.write, declarations.read)
    )
    sent, received = (ctypes.create_string_buffer(size) for _ in range(2))
    sent.raw = message_of(size)

    def copy() -> None:
        written = done = 0
        while done < size:
            if written < size:
                written += max(0, write(connecting._handle, sent, written, size, None))
            done += max(0, read(accepted._handle, received, done, size, 0, None))

    def work() -> None:
        os.sched_setaffinity(0, {neighbour})
        while measured.wait():
            while measured.is_set():
                pass

    # Only meanwhile, for other programs take their turns too.
    measured = threading.Event()
    if neighbour >= 0:
        threading.Thread(target=work, daemon=True).start()
    announce()
    for (count,) in commands():
        measured.set()
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            copy()
        elapsed_ns = time.perf_counter_ns() - start_ns
        measured.clear()
        if received.raw != sent.raw:
            fail("other bytes came than were sent")
        answer(elapsed_ns)


def sender(address: str, size: int) -> None:
    send_messages(connect(address).write_all, size)


def stream_receiver(address: str, size: int) -> None:
    with listen(address) as server:
        announce(address_of(server))
        stream = accept(server)
    buffer = bytearray(max(size, READ_SIZE))
    for count, checked in commands():
        receipt = Receipt(size, count * size, checked)
        while receipt.due:
            received = stream.read_into(buffer)
            if not received:
                await_data(stream)
                continue
            if checked:
                receipt.kept += buffer[:received]
            receipt.due -= received
        receipt.settle(time.monotonic_ns())


def await_data(stream: StreamSocket) -> None:
    if not bbipc.poll_socket(stream, READ).data_available:
        fail("the sender has closed")


# ---- Messages ----


def message_server(address: str, _size: int) -> None:
    with listen(address) as server:
        announce(address_of(server))
        stream = accept(server)
    # Until the client has made its last round trip.
    with contextlib.suppress(bbipc.EndOfStreamError):
        while True:
            stream.send_message(stream.receive_message())


def message_client(address: str, size: int) -> None:
    stream = connect(address)
    make_round_trips(stream.send_message, stream.receive_message, size)


bytes_message_server, bytes_message_client = round_trip_server, round_trip_client


def message_sender(address: str, size: int) -> None:
    send_series(connect(address).send_messages, lists_of(series_of(size), SERIES))


def tens_message_sender(address: str, size: int) -> None:
    send_series(connect(address).send_messages, lists_of(series_of(size), 10))


def single_message_sender(address: str, size: int) -> None:
    send_series(connect(address).send_message, series_of(size))


def message_receiver(address: str, size: int) -> None:
    with listen(address) as server:
        announce(address_of(server))
        stream = accept(server)
    deliveries = Deliveries(size)
    awaited = Events.MESSAGE_AVAILABLE | Events.END_OF_DATA
    for count, _checked in commands():
        deliveries.due = count
        while deliveries.due:
            messages = stream.receive_messages()
            if messages:
                deliveries.take(messages)
            elif not bbipc.poll_socket(stream, awaited).message_available:
                fail("the sender has closed")
        answer(time.monotonic_ns())


tens_message_receiver = message_receiver


def single_message_receiver(address: str, size: int) -> None:
    with listen(address) as server:
        announce(address_of(server))
        stream = accept(server)
    receive_series(stream.receive_message, size)


# ---- Many idle streams, and events ----


def watcher(address: str) -> None:
    server = listen(address)
    announce(address_of(server))
    poller = bbipc.make_poller()

    def accept_many(count: int) -> None:
        for _ in range(count):
            poller.monitor_socket(accept(server), READ)

    with listen(other_address(address)) as active:
        connecting = connect(address_of(active))
        poller.monitor_socket(accept(active), READ)
    connecting.write_all(b"!")

    def wait(count: int) -> None:
        wait_for_events = poller.wait_for_events
        for _ in range(count):
            wait_for_events()

    watch(accept_many, wait)
    poller.close()


def resting(address: str, count: int) -> None:
    server = listen(address)
    announce(address_of(server))
    with bbipc.make_poller() as poller:
        learn_that_looking_is_better(poller, other_address(address))
        for _ in range(count):
            poller.monitor_socket(accept(server), READ)
        announce()
        poller.wait_for_events(None)
    fail("something has come")


def learn_that_looking_is_better(poller: Poller, address: str) -> None:
    """By round trips with a thread that answers: a poller that has had no event can't look whatever comes."""
    asking, answering = connected_pair(address)
    with asking, answering:
        poller.monitor_socket(asking, READ)

        def answer() -> None:
            for _ in range(LESSONS):
                answering.write_all(answering.read_exactly(1))

        thread = threading.Thread(target=answer)
        thread.start()
        for _ in range(LESSONS):
            asking.write_all(b"?")
            poller.wait_for_events()
            asking.read_exactly(1)
        thread.join()


def time_out(address: str) -> None:
    _connecting, accepted = connected_pair(address)
    with bbipc.make_poller() as poller:
        poller.monitor_socket(accepted, READ)
        time_waits(lambda: poller.wait_for_events(TIME_OUT_S))


def event_test(_address: str) -> None:
    time_statement("events.data_available", {"events": READ})
