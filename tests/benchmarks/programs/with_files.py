"""The buffered files of Python's own sockets, with a length before each message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from control import (
    LENGTH,
    READ_SIZE,
    SERIES,
    address_of,
    announce,
    connect,
    listen,
    lists_of,
    make_round_trips,
    no_delay,
    receive_series,
    send_series,
    series_of,
)


class MessageFiles:
    """One file to write to, and one to read from."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading = reading
        self._writing = writing

    def send(self, message: bytes) -> None:
        self.send_list((message,))

    def send_list(self, messages: Sequence[bytes]) -> None:
        write = self._writing.write
        for message in messages:
            write(LENGTH.pack(len(message)))
            write(message)
        self._writing.flush()

    def receive(self) -> bytes:
        """Raises EOFError if the other end has closed."""
        length = self._reading.read(LENGTH.size)
        if not length:
            raise EOFError
        return self._reading.read(LENGTH.unpack(length)[0])


def accept_files(address: str) -> MessageFiles:
    with listen(address) as listener:
        announce(address_of(listener))
        connection, _ = listener.accept()
    no_delay(connection)
    return MessageFiles(connection.makefile("rb", READ_SIZE), connection.makefile("wb", READ_SIZE))


def connect_files(address: str) -> MessageFiles:
    connection = connect(address)
    return MessageFiles(connection.makefile("rb", READ_SIZE), connection.makefile("wb", READ_SIZE))


def message_server(address: str, _size: int) -> None:
    files = accept_files(address)
    try:
        while True:
            files.send(files.receive())
    except EOFError:
        pass


def message_client(address: str, size: int) -> None:
    files = connect_files(address)
    make_round_trips(files.send, files.receive, size)


def message_sender(address: str, size: int) -> None:
    send_series(connect_files(address).send_list, lists_of(series_of(size), SERIES))


def message_receiver(address: str, size: int) -> None:
    receive_series(accept_files(address).receive, size)
