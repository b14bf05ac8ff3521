"""selectors.DefaultSelector and non-blocking sockets, as in the standard library's own example."""

from __future__ import annotations

import selectors
import socket
from selectors import EVENT_READ, EVENT_WRITE

from control import READ_SIZE, address_of, announce, connect, listen, no_delay, other_address, watch


class Client:
    """What belongs to a connection: what the system has not taken yet. Nothing more is read until it has."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept = b""


def echo_server(address: str) -> None:
    listener = listen(address)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, EVENT_READ)
    announce(address_of(listener))

    def drop(connection: socket.socket) -> None:
        selector.unregister(connection)
        connection.close()

    while True:
        for key, happened in selector.select():
            client: Client | None = key.data
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if client is None:
                accept_all(listener, selector)
                continue
            if happened & EVENT_READ:
                try:
                    data = connection.recv(READ_SIZE)
                except ConnectionError:
                    data = b""
                if not data:
                    drop(connection)
                    continue
            else:
                data = client.kept
            try:
                sent = connection.send(data)
            except BlockingIOError:
                sent = 0
            except ConnectionError:
                drop(connection)
                continue
            if sent < len(data):
                client.kept = data[sent:]
                selector.modify(connection, EVENT_WRITE, client)
            elif happened & EVENT_WRITE:
                client.kept = b""
                selector.modify(connection, EVENT_READ, client)


def accept_all(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        no_delay(connection)
        selector.register(connection, EVENT_READ, Client())


def watcher(address: str) -> None:
    listener = listen(address)
    selector = selectors.DefaultSelector()

    def accept_one(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setblocking(False)
        selector.register(connection, EVENT_READ)

    def accept_many(count: int) -> None:
        for _ in range(count):
            accept_one(listener)

    announce(address_of(listener))
    with listen(other_address(address)) as active:
        connecting = connect(address_of(active))
        accept_one(active)
    connecting.sendall(b"!")

    def wait(count: int) -> None:
        select = selector.select
        for _ in range(count):
            select()

    watch(accept_many, wait)
