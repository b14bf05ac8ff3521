"""pynng: a pair for round trips, push and pull one way."""

from __future__ import annotations

import time
from typing import Any

import pynng
from control import (
    Receipt,
    announce,
    commands,
    make_round_trips,
    pathname_of,
    port_of,
    receive_series,
    send_messages,
    send_series,
    series_of,
)


def listen(socket: Any, address: str) -> None:
    pathname = pathname_of(address)
    socket.recv_max_size = 0  # no limit
    if pathname is not None:
        socket.listen(f"ipc://{pathname}")
        announce(address)
    else:
        listener = socket.listen("tcp://127.0.0.1:0")
        announce(f"tcp:{str(listener.local_address).rpartition(':')[2]}")


def connect(socket: Any, address: str) -> None:
    pathname = pathname_of(address)
    socket.recv_max_size = 0
    socket.dial(f"tcp://127.0.0.1:{port_of(address)}" if pathname is None else f"ipc://{pathname}", block=True)


def round_trip_server(address: str, size: int) -> None:
    socket = pynng.Pair0()
    listen(socket, address)
    while True:
        socket.send(socket.recv())


def round_trip_client(address: str, size: int) -> None:
    socket = pynng.Pair0()
    connect(socket, address)
    make_round_trips(socket.send, socket.recv, size)


message_server, message_client = round_trip_server, round_trip_client


def sender(address: str, size: int) -> None:
    socket = pynng.Push0()
    connect(socket, address)
    send_messages(socket.send, size)


def stream_receiver(address: str, size: int) -> None:
    socket = pynng.Pull0()
    listen(socket, address)
    for count, checked in commands():
        receipt = Receipt(size, count, checked)
        while receipt.due:
            message = socket.recv()
            if checked:
                receipt.kept += message
            receipt.due -= 1
        receipt.settle(time.monotonic_ns())


def message_sender(address: str, size: int) -> None:
    socket = pynng.Push0()
    connect(socket, address)
    send_series(socket.send, series_of(size))


def message_receiver(address: str, size: int) -> None:
    socket = pynng.Pull0()
    listen(socket, address)
    receive_series(socket.recv, size)
