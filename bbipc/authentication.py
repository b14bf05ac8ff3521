"""Proofs that the ends of a stream have the same key: the challenges of ``multiprocessing.connection``, both kinds.

One end sends a challenge, random bytes. The other answers with a MAC of them under the key (HMAC, RFC 2104), which
never travels itself, and the first sends its verdict. Each is a message of its own:

- CPython 3.12 and later: ``#CHALLENGE#{sha256}`` and 40 random bytes; ``{sha256}`` and the MAC. Other digests may be
  named. The MAC is of all that follows ``#CHALLENGE#``, the name included.
- Older ones: ``#CHALLENGE#`` and 20 random bytes; the MAC by MD5, 16 bytes, without a name.

Their lengths tell them apart. An older Python takes the challenge of a newer one, name and all, for random bytes, and
answers as ever. So a challenge of the newer kind suits both, if an answer of the older kind is accepted too.
"""

from __future__ import annotations

import errno
import os

from ._native import buffers
from ._native.waiting import Deadline
from .errors import (
    AuthenticationError,
    BbipcError,
    EndOfStreamError,
    MessageTooLargeError,
    SocketClosedError,
    TimeoutError,
)
from .sockets import StreamSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer

_CHALLENGE = b"#CHALLENGE#"
_WELCOME = b"#WELCOME#"
_FAILURE = b"#FAILURE#"

#: Bytes. What a message of the exchange has at the most, as in multiprocessing.
_MESSAGE_SIZE_MAX = 256

#: Bytes of an older Python's challenge and answer, which name no digest.
_UNNAMED_CHALLENGE_SIZE = 20
_UNNAMED_ANSWER_SIZE = 16
_UNNAMED_DIGEST = "md5"

#: What multiprocessing allows. HMAC is not broken with any of them, MD5 included.
_DIGESTS = (_UNNAMED_DIGEST, "sha256", "sha384", "sha3_256", "sha3_384")

#: What this end asks for, and how many random bytes it sends. With the name more than in an older Python's challenge.
_OWN_DIGEST = "sha256"
_RANDOM_SIZE = 40

#: The most frequent mistake.
_ORDER = "both ends need the key; a server calls authenticate_peer() first, a client authenticate()"


def authenticate(stream: StreamSocket, key: Buffer, timeout: float | None = 20.0) -> None:
    """Proves to the remote end that this end has the key: waits for its challenge, and answers it.

    The remote end calls :func:`authenticate_peer`, or is ``multiprocessing.connection`` with an ``authkey``. Each end
    proves that it has the key, a client first: a client calls this, then :func:`authenticate_peer`; a server the other
    way round, as ``Client`` and ``Listener`` do. :func:`authenticate_peer` tells what that is worth.

    It answers whoever asks, and who has an answer can try keys on it until one fits. So the key must be random, and
    not a password.

    After an error, close the stream: the exchange can't be taken up again.

    :param stream: any stream; it may still be connecting. Nothing else must be sent or received on it meanwhile.
    :param key: what both ends know, as any contiguous buffer: 32 bytes of ``secrets.token_bytes``, for example.
    :param timeout: seconds for the whole exchange; ``None`` waits for ever, 0 not at all.
    :raises AuthenticationError: if the remote end refuses the answer, or sends something else than a challenge and a
        verdict, or asks for a digest that is not one of multiprocessing's, or that this Python lacks.
    :raises TimeoutError: when the time is up. Also if both ends called this first.
    :raises EndOfStreamError: when the remote end goes first.
    :raises TypeError: if the stream is no :class:`StreamSocket`, or the key no buffer, a ``str`` for example.
    :raises ValueError: if the key is empty, and for a timeout that is negative or NaN.
    :raises SocketError: if the connection could not be established, or the system refuses.
    """
    secret = _checked_key(key)
    with _Exchange(stream, timeout) as exchange:
        challenge = exchange.receive("a challenge", _ORDER)
        if not challenge.startswith(_CHALLENGE):
            raise exchange.failed(f"sent {len(challenge)} bytes that are no challenge: {_ORDER}")
        exchange.send(_answer_to(challenge[len(_CHALLENGE) :], secret, exchange))
        verdict = exchange.receive("a verdict", "it may have refused this end's answer")
        if verdict == _FAILURE:
            raise exchange.failed("refuses this end's answer: the two ends must have the same key")
        if verdict != _WELCOME:
            raise exchange.failed(f"sent {len(verdict)} bytes that are no verdict on this end's answer")


def authenticate_peer(stream: StreamSocket, key: Buffer, timeout: float | None = 20.0) -> None:
    """Has the remote end prove that it has the key: sends a challenge, checks the answer, and tells the verdict.

    The remote end calls :func:`authenticate`, or is ``multiprocessing.connection`` with an ``authkey``. A server calls
    this first, and then :func:`authenticate`; a client the other way round.

    What both together give: each end knows that somebody who has the key took part, now, for challenges are random and
    an answer can't be used again. What they don't give:

    - Nothing that is sent later is encrypted, signed or numbered. Whoever gets hold of the connection can read it, and
      change, repeat and insert messages.
    - An answer says neither who gave it, nor in which role, nor on which connection. One who sits in the middle, and
      passes challenges and answers on, satisfies both ends. And a client answers before anybody has proved anything to
      it: one whom it takes for its server can have it answer the challenge of the true server; or, on a second
      connection, the challenge that this client itself sent on the first (reflection). A server that calls this first
      answers only those who have proved that they have the key.

    So this keeps out those who can connect, and not those who can get between: use it on one machine, or inside of TLS,
    SSH or a VPN.

    After an error, close the stream: the exchange can't be taken up again. The remote end of an answer that is refused
    has been told so.

    :param stream: any stream; it may still be connecting. Nothing else must be sent or received on it meanwhile.
    :param key: what both ends know, as for :func:`authenticate`.
    :param timeout: seconds for the whole exchange; ``None`` waits for ever, 0 not at all.
    :raises AuthenticationError: if the answer is wrong, or no answer; and if it was made by a digest that is not one of
        multiprocessing's, or that this Python lacks.
    :raises TimeoutError: when the time is up.
    :raises EndOfStreamError: when the remote end goes first.
    :raises TypeError: if the stream is no :class:`StreamSocket`, or the key no buffer, a ``str`` for example.
    :raises ValueError: if the key is empty, and for a timeout that is negative or NaN.
    :raises SocketError: if the connection could not be established, or the system refuses.
    """
    secret = _checked_key(key)
    with _Exchange(stream, timeout) as exchange:
        challenge = _in_braces(_OWN_DIGEST) + os.urandom(_RANDOM_SIZE)
        exchange.send(_CHALLENGE + challenge)
        try:
            _check(exchange.receive("an answer", _ORDER), challenge, secret, exchange)
        except AuthenticationError:
            exchange.send_if_possible(_FAILURE)
            raise
        exchange.send(_WELCOME)


def _checked_key(key: Buffer) -> bytes:
    """A copy of the key, which the caller may change meanwhile."""
    if isinstance(key, str):
        raise TypeError("a key must be bytes, not str: use what secrets.token_bytes() makes, or encode it")
    view = buffers.view_of(key, "a key must be a contiguous buffer of bytes, such as bytes")
    secret = view.tobytes()
    buffers.let_go(view)
    if not secret:
        raise ValueError("a key can't be empty, for everybody has that one")
    return secret


class _Exchange:
    """Its messages, which are short, and which have one time for all of them."""

    __slots__ = ("_deadline", "_stream", "_usual_size_max")

    def __init__(self, stream: StreamSocket, timeout: float | None) -> None:
        if not isinstance(stream, StreamSocket):
            raise TypeError(f"only a stream can be authenticated, not a {type(stream).__name__}")
        self._stream = stream
        self._deadline = Deadline(timeout)
        self._usual_size_max = stream.max_message_size

    def __enter__(self) -> _Exchange:
        # A stranger may announce as much as the stream allows, and send it.
        self._stream.max_message_size = _MESSAGE_SIZE_MAX
        return self

    def __exit__(self, *_exception: object) -> None:
        try:  # noqa: SIM105 -- contextlib is slow to import
            self._stream.max_message_size = self._usual_size_max
        except SocketClosedError:
            pass

    def send(self, message: bytes) -> None:
        self._stream.send_message(message, self._seconds_left())

    def send_if_possible(self, message: bytes) -> None:
        """For a verdict that follows a failure, which is the news."""
        try:  # noqa: SIM105
            self.send(message)
        except BbipcError:
            pass

    def receive(self, what: str, hint: str) -> bytes:
        """The next message. What it should be is for the errors, and a hint where it does not come."""
        try:
            return self._stream.receive_message(self._seconds_left())
        except MessageTooLargeError as error:
            raise self.failed(
                f"announced more than {_MESSAGE_SIZE_MAX} bytes, or no message at all, instead of {what}"
            ) from error
        except TimeoutError:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"the remote end of the {self._stream!r} did not send {what} before the time was up: {hint}",
            ) from None
        except EndOfStreamError as error:
            ended = EndOfStreamError(f"the remote end of the {self._stream!r} went before it had sent {what}: {hint}")
            ended.partial = error.partial
            raise ended from error.__cause__

    def failed(self, what: str) -> AuthenticationError:
        """The error for what the remote end did."""
        return AuthenticationError(errno.EACCES, f"the remote end of the {self._stream!r} {what}")

    def lacks(self, digest: str) -> AuthenticationError:
        """The error for a digest that this Python has not."""
        hint = "; Python 3.12 and later use sha256 instead" if digest == _UNNAMED_DIGEST else ""
        return AuthenticationError(
            errno.EACCES,
            f"this Python lacks {digest} (FIPS may forbid it), which the remote end of the {self._stream!r} uses{hint}",
        )

    def _seconds_left(self) -> float | None:
        left_ns = self._deadline.remaining_ns()
        return None if left_ns < 0 else left_ns / 1e9


def _answer_to(challenge: bytes, key: bytes, exchange: _Exchange) -> bytes:
    if len(challenge) < _UNNAMED_CHALLENGE_SIZE:
        raise exchange.failed(f"sent a challenge of {len(challenge)} bytes, too short to be one")
    if len(challenge) == _UNNAMED_CHALLENGE_SIZE:
        return _mac(_UNNAMED_DIGEST, key, challenge, exchange)
    digest, _ = _named_digest(challenge, "a challenge", exchange)
    return _in_braces(digest) + _mac(digest, key, challenge, exchange)


def _check(answer: bytes, challenge: bytes, key: bytes, exchange: _Exchange) -> None:
    import hmac

    if answer.startswith(_CHALLENGE):
        raise exchange.failed(f"sent a challenge where it should send an answer: {_ORDER}")
    digest, mac = _UNNAMED_DIGEST, answer
    if len(answer) != _UNNAMED_ANSWER_SIZE:
        digest, mac = _named_digest(answer, "an answer", exchange)
    if not hmac.compare_digest(mac, _mac(digest, key, challenge, exchange)):
        raise exchange.failed("sent a wrong answer: the two ends must have the same key")


def _named_digest(message: bytes, what: str, exchange: _Exchange) -> tuple[str, bytes]:
    """The digest whose name stands in braces before a message, and what comes behind it."""
    for digest in _DIGESTS:
        name = _in_braces(digest)
        if message.startswith(name):
            return digest, message[len(name) :]
    raise exchange.failed(
        f"sent {what} of {len(message)} bytes before which no digest is named of those that are allowed:"
        f" {', '.join(_DIGESTS)}"
    )


def _in_braces(digest: str) -> bytes:
    return b"{%b}" % digest.encode("ascii")


def _mac(digest: str, key: bytes, message: bytes, exchange: _Exchange) -> bytes:
    # It takes long to import, and most programs don't need it.
    import hmac

    try:
        return hmac.digest(key, message, digest)
    except ValueError as error:
        raise exchange.lacks(digest) from error
