"""Blocking sockets of the standard library."""

from __future__ import annotations

import gc
import socket
import time

from control import (
    READ_SIZE,
    Receipt,
    address_of,
    announce,
    answer,
    ask_in_time,
    commands,
    connect,
    fail,
    listen,
    message_of,
    no_delay,
    send_messages,
    time_calls,
)


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    no_delay(connection)
    return connection


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """``size`` bytes; fewer if the other end has closed."""
    data = connection.recv(size)
    while data and len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            break
        data += more
    return data


def round_trip_server(address: str, size: int) -> None:
    listener = listen(address)
    announce(address_of(listener))
    while True:
        with accept(listener) as connection:
            while data := receive_exactly(connection, size):
                assert len(data) == size
                connection.sendall(data)


def round_trip_client(address: str, size: int) -> None:
    connection = connect(address)
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            connection.sendall(message)
            if receive_exactly(connection, size) != message:
                fail("other bytes came back than were sent")
        answer(time.perf_counter_ns() - start_ns)


def paced_client(address: str, size: int) -> None:
    connection = connect(address)

    def ask(message: bytes) -> bytes:
        connection.sendall(message)
        return receive_exactly(connection, size)

    ask_in_time(ask, size)


def pair(address: str, size: int) -> None:
    """Non-blocking, as bbipc's streams are."""
    with listen(address) as listener:
        connecting = connect(address_of(listener))
        accepted = accept(listener)
    connecting.setblocking(False)
    accepted.setblocking(False)
    message = message_of(size)
    buffer = bytearray(size)
    announce()
    for (count,) in commands():
        gc.collect()
        send, recv_into = connecting.send, accepted.recv_into
        start_ns = time.process_time_ns()
        for _ in range(count):
            send(message)
            recv_into(buffer)
        elapsed_ns = time.process_time_ns() - start_ns
        if buffer != message:
            fail("other bytes came than were sent")
        answer(elapsed_ns)


def connecting(address: str, _size: int) -> None:
    listener = listen(address)
    address = address_of(listener)

    def make_connection() -> None:
        connected = connect(address)
        accepted = accept(listener)
        connected.close()
        accepted.close()

    time_calls(make_connection)


# ---- One way ----


def sender(address: str, size: int) -> None:
    send_messages(connect(address).sendall, size)


def stream_receiver(address: str, size: int) -> None:
    listener = listen(address)
    announce(address_of(listener))
    connection = accept(listener)
    buffer = bytearray(max(size, READ_SIZE))
    for count, checked in commands():
        receipt = Receipt(size, count * size, checked)
        while receipt.due:
            received = connection.recv_into(buffer) or fail("the sender has closed")
            if checked:
                receipt.kept += buffer[:received]
            receipt.due -= received
        receipt.settle(time.monotonic_ns())
