"""cloudtoid-interprocess: a queue of messages in shared memory for each direction. There is no stream beneath."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cloudtoid_interprocess import Publisher, Subscriber
from control import (
    SERIES,
    announce,
    fail,
    lists_of,
    make_round_trips,
    pathname_of,
    receive_series,
    send_series,
    series_of,
)

#: Bytes of a queue.
CAPACITY = 1 << 20
REQUESTS, ANSWERS = "requests", "answers"


class Queue:
    """A queue that both programs name after the address."""

    def __init__(self, address: str, what: str) -> None:
        pathname = Path(pathname_of(address) or fail("a queue has no TCP"))
        self._directory = pathname.parent
        # Its semaphore has this name too, among those of all programs.
        self._name = f"{pathname.parent.name}-{pathname.stem}-{what}"

    def subscriber(self) -> Subscriber:
        return Subscriber(self._name, CAPACITY, self._directory)

    def publisher(self) -> Publisher:
        return Publisher(self._name, CAPACITY, self._directory)

    def drop_name(self) -> None:
        """Once both ends are open: programs are killed, and would leave the semaphore to the system."""
        Path(f"/dev/shm/sem.ct3ip.{self._name}").unlink(missing_ok=True)


def connect_publisher(address: str, what: str) -> Publisher:
    """The other program has opened its end."""
    queue = Queue(address, what)
    publisher = queue.publisher()
    queue.drop_name()
    return publisher


def sending(publisher: Publisher) -> Callable[[bytes], None]:
    def send(message: bytes) -> None:
        while not publisher.try_send(message):
            os.sched_yield()

    return send


# ---- Round trips ----


def message_server(address: str, _size: int) -> None:
    requests, answers = Queue(address, REQUESTS).subscriber(), Queue(address, ANSWERS).publisher()
    announce(address)
    send = sending(answers)
    while True:
        send(requests.receive())


def message_client(address: str, size: int) -> None:
    requests = connect_publisher(address, REQUESTS)
    queue = Queue(address, ANSWERS)
    answers = queue.subscriber()
    queue.drop_name()
    make_round_trips(sending(requests), answers.receive, size)


# ---- One way ----


def message_sender(address: str, size: int) -> None:
    publisher = connect_publisher(address, REQUESTS)

    def send(messages: list[bytes]) -> None:
        sent = publisher.try_send_batch(messages)
        while sent < len(messages):
            os.sched_yield()
            sent += publisher.try_send_batch(messages[sent:])

    send_series(send, lists_of(series_of(size), SERIES))


def single_message_sender(address: str, size: int) -> None:
    send_series(sending(connect_publisher(address, REQUESTS)), series_of(size))


def message_receiver(address: str, size: int) -> None:
    subscriber = Queue(address, REQUESTS).subscriber()
    announce(address)

    def receive() -> bytes:
        # To try first is faster while messages come one after the other.
        message = subscriber.try_receive()
        return subscriber.receive() if message is None else message

    receive_series(receive, size)


single_message_receiver = message_receiver
