"""The other process of a test: `PYTHON multiprocessing_peer.py listen|connect ADDRESS KEY [JOB ...]`.

It is what users of multiprocessing.connection have, and no more. A job is its name and its arguments, with colons in
between; each begins where the one before it has ended. An empty key is none. Addresses are those of the examples. One
that listens prints its address first. Every CPython since 2.7 runs this, so it does without what that lacks.
"""

import mmap
import random
import sys
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener

_BLOCK = bytes(bytearray(range(251)))


def random_messages(seed, count):
    """The same messages in both processes, of 0 to 128 KiB; as many below 1 KiB as above."""
    numbers = random.Random(seed)
    for number in range(count):
        # random() gives the same numbers in every Python.
        yield message_of(number, int(2 ** (17 * numbers.random())) - 1)


def message_of(number, size):
    start = number % len(_BLOCK)
    return (_BLOCK * (size // len(_BLOCK) + 2))[start : start + size]


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


# ---- Jobs ----


def echo(connection, count):
    for _ in range(int(count)):
        connection.send_bytes(connection.recv_bytes())


def echo_objects(connection, count):
    for _ in range(int(count)):
        connection.send(connection.recv())


def exchange(connection, count, sent, received):
    """Sends messages in a thread, and meanwhile receives and checks others."""
    sending = threading.Thread(target=_send, args=(connection, int(count), int(sent)))
    sending.start()
    wrong = sum(connection.recv_bytes() != message for message in random_messages(int(received), int(count)))
    sending.join()
    say("wrong:", wrong)


def _send(connection, count, seed):
    for message in random_messages(seed, count):
        connection.send_bytes(message)


def receive_large(connection):
    """Tells of a message of zeros that has other bytes at its ends."""
    message = connection.recv_bytes()
    say(len(message), ord(message[:1]), ord(message[-1:]), message.count(b"\0"))


def send_large(connection, size):
    """Sends such a message, which takes no memory here but two pages."""
    message = mmap.mmap(-1, int(size), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    message[:1] = b"<"
    message[-1:] = b">"
    connection.send_bytes(message)


def until_the_end(connection):
    try:
        say("not the end:", repr(connection.recv_bytes()))
    except EOFError:
        say("the end")


JOBS = {job.__name__: job for job in (echo, echo_objects, exchange, receive_large, send_large, until_the_end)}


def accepted(address, key):
    family = "AF_INET" if isinstance(address, tuple) else "AF_UNIX"
    listener = Listener(address, family, authkey=key)
    at = listener.address
    say("listening on", "tcp:{}:{}".format(*at) if isinstance(at, tuple) else "local:" + at)
    try:
        return listener.accept()
    finally:
        listener.close()


def connected(address, key):
    return Client(address, authkey=key)


def main():
    role, written, key = sys.argv[1:4]
    namespace, _, rest = written.partition(":")
    host, _, port = rest.rpartition(":")
    address = (host, int(port)) if namespace == "tcp" else rest
    try:
        connection = {"listen": accepted, "connect": connected}[role](address, key.encode("ascii") or None)
    except AuthenticationError as error:
        say("AuthenticationError:", error)
        return
    for job in sys.argv[4:]:
        words = job.split(":")
        JOBS[words[0]](connection, *words[1:])
    connection.close()


if __name__ == "__main__":
    main()
