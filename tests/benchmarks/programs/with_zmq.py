"""pyzmq: REQ and REP for round trips as libzmq's own benchmark, a pair for those of messages, PUSH and PULL one way."""

from __future__ import annotations

import time
from typing import Any

import zmq
from control import (
    Receipt,
    announce,
    answer,
    commands,
    make_round_trips,
    message_of,
    pathname_of,
    port_of,
    receive_series,
    send_series,
    series_of,
)

#: Bytes that may be under way in large messages. The default counts messages only: it would let gigabytes.
UNDER_WAY_MAX = 16 << 20
LIMIT_DEFAULT = 1000


def limit(socket: Any, size: int) -> None:
    socket.set_hwm(min(LIMIT_DEFAULT, max(1, UNDER_WAY_MAX // size)))


def listen(socket: Any, address: str) -> None:
    pathname = pathname_of(address)
    if pathname is not None:
        socket.bind(f"ipc://{pathname}")
        announce(address)
    else:
        socket.bind("tcp://127.0.0.1:*")
        announce("tcp:" + socket.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2])


def connect(socket: Any, address: str) -> None:
    pathname = pathname_of(address)
    socket.connect(f"tcp://127.0.0.1:{port_of(address)}" if pathname is None else f"ipc://{pathname}")


def round_trip_server(address: str, size: int) -> None:
    socket = zmq.Context().socket(zmq.REP)
    listen(socket, address)
    while True:
        socket.send(socket.recv())


def round_trip_client(address: str, size: int) -> None:
    socket = zmq.Context().socket(zmq.REQ)
    connect(socket, address)
    make_round_trips(socket.send, socket.recv, size)


def message_server(address: str, _size: int) -> None:
    socket = zmq.Context().socket(zmq.PAIR)
    listen(socket, address)
    while True:
        socket.send(socket.recv())


def message_client(address: str, size: int) -> None:
    socket = zmq.Context().socket(zmq.PAIR)
    connect(socket, address)
    make_round_trips(socket.send, socket.recv, size)


def sender(address: str, size: int) -> None:
    socket = zmq.Context().socket(zmq.PUSH)
    limit(socket, size)
    connect(socket, address)
    message = message_of(size)
    # From here on pyzmq's documentation lets large messages be sent without a copy.
    copy = size < zmq.COPY_THRESHOLD
    announce()
    for (count,) in commands():
        start_ns = time.monotonic_ns()
        for _ in range(count):
            socket.send(message, copy=copy)
        answer(start_ns)


def stream_receiver(address: str, size: int) -> None:
    socket = zmq.Context().socket(zmq.PULL)
    limit(socket, size)
    listen(socket, address)
    copy = size < zmq.COPY_THRESHOLD
    for count, checked in commands():
        receipt = Receipt(size, count, checked)
        while receipt.due:
            message = socket.recv(copy=copy)
            if checked:
                receipt.kept += message if copy else message.buffer
            receipt.due -= 1
        receipt.settle(time.monotonic_ns())


def message_sender(address: str, size: int) -> None:
    socket = zmq.Context().socket(zmq.PUSH)
    connect(socket, address)
    send_series(socket.send, series_of(size))


def message_receiver(address: str, size: int) -> None:
    socket = zmq.Context().socket(zmq.PULL)
    listen(socket, address)
    receive_series(socket.recv, size)
