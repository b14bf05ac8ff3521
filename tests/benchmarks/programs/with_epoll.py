"""select.epoll and non-blocking sockets: what the standard library gives somebody who wants speed."""

from __future__ import annotations

import select
import socket
from select import EPOLLIN, EPOLLOUT

from control import (
    READ_SIZE,
    TIME_OUT_S,
    address_of,
    announce,
    connect,
    fail,
    listen,
    no_delay,
    other_address,
    time_waits,
    watch,
)


def echo_server(address: str) -> None:
    listener = listen(address)
    listener.setblocking(False)
    listening = listener.fileno()
    epoll = select.epoll()
    epoll.register(listening, EPOLLIN)
    connections: dict[int, socket.socket] = {}
    #: What the system has not taken yet. Nothing more is read from such a connection.
    kept: dict[int, bytes] = {}
    announce(address_of(listener))

    def drop(descriptor: int) -> None:
        kept.pop(descriptor, None)
        connections.pop(descriptor).close()

    while True:
        for descriptor, happened in epoll.poll():
            if descriptor == listening:
                accept_all(listener, epoll, connections)
                continue
            connection = connections[descriptor]
            if happened & EPOLLIN:
                try:
                    data = connection.recv(READ_SIZE)
                except ConnectionError:
                    data = b""
                if not data:
                    drop(descriptor)
                    continue
            elif descriptor in kept:
                data = kept.pop(descriptor)
            else:
                drop(descriptor)
                continue
            try:
                sent = connection.send(data)
            except BlockingIOError:
                sent = 0
            except ConnectionError:
                drop(descriptor)
                continue
            if sent < len(data):
                kept[descriptor] = data[sent:]
                epoll.modify(descriptor, EPOLLOUT)
            elif happened & EPOLLOUT:
                epoll.modify(descriptor, EPOLLIN)


def accept_all(listener: socket.socket, epoll: select.epoll, connections: dict[int, socket.socket]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        no_delay(connection)
        connections[connection.fileno()] = connection
        epoll.register(connection, EPOLLIN)


def accept_one(listener: socket.socket, epoll: select.epoll, connections: dict[int, socket.socket]) -> None:
    connection, _ = listener.accept()
    connection.setblocking(False)
    connections[connection.fileno()] = connection
    epoll.register(connection, EPOLLIN)


def watcher(address: str) -> None:
    listener = listen(address)
    epoll = select.epoll()
    connections: dict[int, socket.socket] = {}

    def accept_many(count: int) -> None:
        for _ in range(count):
            accept_one(listener, epoll, connections)

    announce(address_of(listener))
    with listen(other_address(address)) as active:
        connecting = connect(address_of(active))
        accept_one(active, epoll, connections)
    connecting.sendall(b"!")

    def wait(count: int) -> None:
        poll = epoll.poll
        for _ in range(count):
            poll()

    watch(accept_many, wait)


def resting(address: str, count: int) -> None:
    listener = listen(address)
    epoll = select.epoll()
    connections: dict[int, socket.socket] = {}
    announce(address_of(listener))
    for _ in range(count):
        accept_one(listener, epoll, connections)
    announce()
    epoll.poll()
    fail("something has come")


def time_out(_address: str) -> None:
    epoll = select.epoll()
    idle, _other_end = socket.socketpair()
    epoll.register(idle, EPOLLIN)
    time_waits(lambda: epoll.poll(TIME_OUT_S))
