"""multiprocessing.connection, with bytes: no objects are pickled."""

from __future__ import annotations

import os
import socket
import time
from multiprocessing.connection import Client, Connection, Listener

from control import (
    BACKLOG,
    Receipt,
    announce,
    answer,
    commands,
    fail,
    message_of,
    no_delay,
    pathname_of,
    port_of,
    send_messages,
)


def listen(address: str) -> Listener:
    listener = Listener(pathname_of(address) or ("127.0.0.1", port_of(address)), backlog=BACKLOG)
    name = listener.address
    announce(f"local:{name}" if isinstance(name, str) else f"tcp:{name[1]}")
    return listener


def accept(listener: Listener) -> Connection:
    return without_delay(listener.accept())


def connect(address: str) -> Connection:
    return without_delay(Client(pathname_of(address) or ("127.0.0.1", port_of(address))))


def without_delay(connection: Connection) -> Connection:
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        no_delay(same)
    return connection


def round_trip_server(address: str, size: int) -> None:
    listener = listen(address)
    while True:
        with accept(listener) as connection:
            try:
                while True:
                    connection.send_bytes(connection.recv_bytes())
            except EOFError:
                pass


def round_trip_client(address: str, size: int) -> None:
    connection = connect(address)
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            connection.send_bytes(message)
            if connection.recv_bytes() != message:
                fail("other bytes came back than were sent")
        answer(time.perf_counter_ns() - start_ns)


def sender(address: str, size: int) -> None:
    send_messages(connect(address).send_bytes, size)


def stream_receiver(address: str, size: int) -> None:
    connection = accept(listen(address))
    buffer = bytearray(size)
    for count, checked in commands():
        receipt = Receipt(size, count, checked)
        while receipt.due:
            received = connection.recv_bytes_into(buffer)
            if checked:
                receipt.kept += buffer[:received]
            receipt.due -= 1
        receipt.settle(time.monotonic_ns())


def message_receiver(address: str, size: int) -> None:
    connection = accept(listen(address))
    for count, checked in commands():
        receipt = Receipt(size, count, checked)
        while receipt.due:
            message = connection.recv_bytes()
            if checked:
                receipt.kept += message
            receipt.due -= 1
        receipt.settle(time.monotonic_ns())
