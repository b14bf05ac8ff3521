"""select.poll and select.select, whose cost grows with the sockets: watching without a kernel that remembers them."""

from __future__ import annotations

import select
import socket

from control import TIME_OUT_S, address_of, announce, connect, listen, other_address, time_waits, watch


def watcher(address: str) -> None:
    listener = listen(address)
    poll = select.poll()
    connections: dict[int, socket.socket] = {}

    def accept_one(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setblocking(False)
        connections[connection.fileno()] = connection
        poll.register(connection, select.POLLIN)

    def accept_many(count: int) -> None:
        for _ in range(count):
            accept_one(listener)

    announce(address_of(listener))
    with listen(other_address(address)) as active:
        connecting = connect(address_of(active))
        accept_one(active)
    connecting.sendall(b"!")

    def wait(count: int) -> None:
        for _ in range(count):
            poll.poll()

    watch(accept_many, wait)


def select_time_out(_address: str) -> None:
    idle, _other_end = socket.socketpair()
    time_waits(lambda: any(select.select([idle], [], [], TIME_OUT_S)))
