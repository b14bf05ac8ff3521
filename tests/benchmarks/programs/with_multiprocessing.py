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
    commands,
    make_round_trips,
    no_delay,
    pathname_of,
    port_of,
    receive_series,
    send_messages,
    send_series,
    series_of,
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
    make_round_trips(connection.send_bytes, connection.recv_bytes, size)


message_server, message_client = round_trip_server, round_trip_client


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


def message_sender(address: str, size: int) -> None:
    send_series(connect(address).send_bytes, series_of(size))


def message_receiver(address: str, size: int) -> None:
    receive_series(accept(listen(address)).recv_bytes, size)
