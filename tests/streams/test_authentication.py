"""Proofs that both ends have the same key: between streams, and with peers that do it wrong, or mean harm."""

from __future__ import annotations

import array
import errno
import hmac
import pickle
import struct
import time
import traceback
from collections.abc import Callable

import pytest

import bbipc
from bbipc import StreamSocket
from child_processes import receive_exactly
from patience import PATIENCE
from threads import PROMPTLY, Failing
from transports import PythonPeer, Transport

KEY = b"a key that nobody knows, \x00\xff"
OTHER_KEY = b"a key that somebody else has"

#: Seconds, where the time has to be up.
SHORTLY = 0.05

DIGESTS = ["md5", "sha256", "sha384", "sha3_256", "sha3_384"]


# ---- A remote end that does as it likes ----


class Remote:
    """The remote end of a stream, by Python's own sockets."""

    def __init__(self, peer: PythonPeer) -> None:
        self._peer = peer
        peer.settimeout(PATIENCE)

    def send_bytes(self, data: bytes) -> None:
        self._peer.sendall(data)

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self.send_bytes(struct.pack("!i", len(message)) + message)

    def receive(self) -> bytes:
        (size,) = struct.unpack("!i", receive_exactly(self._peer, 4))
        return receive_exactly(self._peer, size)

    def receive_challenge(self) -> bytes:
        message = self.receive()
        assert message.startswith(b"#CHALLENGE#")
        return message[len(b"#CHALLENGE#") :]

    def close(self) -> None:
        self._peer.close()


def with_remote(transport: Transport) -> tuple[StreamSocket, Remote]:
    stream, peer = transport.python_peer()
    return stream, Remote(peer)


def named(digest: str) -> bytes:
    return b"{" + digest.encode("ascii") + b"}"


def mac(challenge: bytes, digest: str, key: bytes = KEY) -> bytes:
    return hmac.new(key, challenge, digest).digest()


#: The two challenges that CPython sends: 3.12 and later, and older ones.
CHALLENGE = b"{sha256}" + bytes(range(40))
UNNAMED_CHALLENGE = bytes(range(20))


# ---- Both ends are ours ----


def test_each_end_proves_that_it_has_the_key(transport: Transport) -> None:
    client, server = transport.pair()

    def serve() -> None:
        bbipc.authenticate_peer(server, KEY, PATIENCE)
        bbipc.authenticate(server, KEY, PATIENCE)
        server.send_message(b"welcome", PATIENCE)

    serving = Failing(serve)
    bbipc.authenticate(client, KEY, PATIENCE)
    bbipc.authenticate_peer(client, KEY, PATIENCE)
    assert client.receive_message(PATIENCE) == b"welcome"
    serving.join()


def test_without_the_key_both_ends_are_told(transport: Transport) -> None:
    client, server = transport.pair()

    def serve() -> None:
        with pytest.raises(bbipc.AuthenticationError, match="sent a wrong answer: the two ends must have the same key"):
            bbipc.authenticate_peer(server, KEY, PATIENCE)

    serving = Failing(serve)
    with pytest.raises(bbipc.AuthenticationError, match=r"refuses this end's answer: .* must have the same key"):
        bbipc.authenticate(client, OTHER_KEY, PATIENCE)
    serving.join()


def test_both_ends_challenge_first(transport: Transport) -> None:
    client, server = transport.pair()

    def challenge(stream: StreamSocket) -> None:
        with pytest.raises(bbipc.AuthenticationError, match=r"a challenge where .* a client authenticate\(\)"):
            bbipc.authenticate_peer(stream, KEY, PATIENCE)

    serving = Failing(lambda: challenge(server))
    challenge(client)
    serving.join()


def test_both_ends_wait_for_a_challenge_first(transport: Transport) -> None:
    client, server = transport.pair()
    for stream in (client, server):
        with pytest.raises(bbipc.TimeoutError, match=r"not send a challenge .* a client authenticate\(\)") as caught:
            bbipc.authenticate(stream, KEY, SHORTLY)
        assert caught.value.errno == errno.ETIMEDOUT


def test_a_connection_that_is_not_accepted_yet(transport: Transport) -> None:
    server = transport.make_server()
    connecting = transport.connect(server)
    proving = Failing(lambda: bbipc.authenticate(connecting, KEY, PATIENCE))
    bbipc.authenticate_peer(transport.accept(server), KEY, PATIENCE)
    proving.join()


@pytest.mark.parametrize(
    "key",
    [bytearray(KEY), memoryview(KEY), array.array("H", KEY[:26]), memoryview(KEY + KEY)[: len(KEY)], KEY * 1000],
    ids=["bytearray", "memoryview", "array", "part", "long"],
)
def test_keys_are_buffers(transport: Transport, key: bytearray | memoryview | array.array[int] | bytes) -> None:
    stream, remote = with_remote(transport)
    remote.send(b"#CHALLENGE#" + CHALLENGE, b"#WELCOME#")
    bbipc.authenticate(stream, key, PATIENCE)
    assert remote.receive() == b"{sha256}" + mac(CHALLENGE, "sha256", bytes(key))
    if isinstance(key, bytearray):
        # Nothing holds it.
        key.append(1)


# ---- Wrong arguments ----

BOTH = pytest.mark.parametrize("function", [bbipc.authenticate, bbipc.authenticate_peer])
Function = Callable[..., None]


@BOTH
@pytest.mark.parametrize(
    ("key", "kind", "match"),
    [
        ("password", TypeError, "must be bytes, not str"),
        (None, TypeError, "must be a contiguous buffer of bytes, such as bytes, not NoneType"),
        (32, TypeError, "not int"),
        ([1, 2], TypeError, "not list"),
        (memoryview(KEY)[::2], TypeError, "not contiguous"),
        (b"", ValueError, "can't be empty"),
        (bytearray(), ValueError, "can't be empty"),
    ],
    ids=["str", "None", "int", "list", "strided", "empty", "empty bytearray"],
)
def test_wrong_keys(transport: Transport, function: Function, key: object, kind: type[Exception], match: str) -> None:
    stream, remote = with_remote(transport)
    with pytest.raises(kind, match=match) as caught:
        function(stream, key, SHORTLY)
    assert "password" not in str(caught.value)
    # Nothing has been sent, nor taken.
    remote.send(b"first")
    assert stream.receive_message(PATIENCE) == b"first"
    stream.send_message(b"first too", PATIENCE)
    assert remote.receive() == b"first too"


@BOTH
def test_what_is_no_stream(transport: Transport, function: Function) -> None:
    with pytest.raises(TypeError, match=r"only a stream can be authenticated, not a \w+Server"):
        function(transport.make_server(), KEY)
    with pytest.raises(TypeError, match="not a int"):
        function(7, KEY)


@BOTH
def test_wrong_timeouts(transport: Transport, function: Function) -> None:
    stream, _ = transport.pair()
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            function(stream, KEY, timeout)
    with pytest.raises(TypeError, match="timeout"):
        function(stream, KEY, "1")


@BOTH
def test_a_closed_stream(transport: Transport, function: Function) -> None:
    stream, _ = transport.pair()
    stream.close()
    with pytest.raises(bbipc.SocketClosedError):
        function(stream, KEY)


# ---- Answers to a challenge ----


@pytest.mark.parametrize("digest", DIGESTS)
def test_the_answer_is_by_the_digest_that_is_asked_for(transport: Transport, digest: str) -> None:
    stream, remote = with_remote(transport)
    challenge = named(digest) + bytes(40)
    remote.send(b"#CHALLENGE#" + challenge, b"#WELCOME#")
    bbipc.authenticate(stream, KEY, PATIENCE)
    assert remote.receive() == named(digest) + mac(challenge, digest)


@pytest.mark.parametrize("challenge", [UNNAMED_CHALLENGE, b"{sha256}" + bytes(12)], ids=["random", "like a name"])
def test_the_answer_to_an_older_python_is_by_md5_and_says_so_nowhere(transport: Transport, challenge: bytes) -> None:
    stream, remote = with_remote(transport)
    remote.send(b"#CHALLENGE#" + challenge, b"#WELCOME#")
    bbipc.authenticate(stream, KEY, PATIENCE)
    assert remote.receive() == mac(challenge, "md5")


@pytest.mark.parametrize("size", [13, 237])
def test_challenges_may_be_shorter_or_longer(transport: Transport, size: int) -> None:
    stream, remote = with_remote(transport)
    challenge = b"{sha256}" + bytes(size)
    remote.send(b"#CHALLENGE#" + challenge, b"#WELCOME#")
    bbipc.authenticate(stream, KEY, PATIENCE)
    assert remote.receive() == b"{sha256}" + mac(challenge, "sha256")


NO_CHALLENGES = {
    "nothing": b"",
    "another message": b"hello, who is there?",
    "a wrong prefix": b"#CHALLENGe#" + CHALLENGE,
    "a cut prefix": b"#CHALLENGE",
    "no prefix": CHALLENGE,
    "a verdict": b"#WELCOME#",
    "no bytes": b"#CHALLENGE#",
    "19 bytes": b"#CHALLENGE#" + bytes(19),
    "21 bytes without a name": b"#CHALLENGE#" + bytes(21),
    "a name alone": b"#CHALLENGE#{sha256}",
    "an unknown name": b"#CHALLENGE#{rot13}" + bytes(40),
    "a weak digest": b"#CHALLENGE#{sha1}" + bytes(40),
    "a digest that is not allowed": b"#CHALLENGE#{sha512}" + bytes(40),
    "a digest with parameters": b"#CHALLENGE#{shake_256}" + bytes(40),
    "capitals": b"#CHALLENGE#{SHA256}" + bytes(40),
    "an empty name": b"#CHALLENGE#{}" + bytes(40),
    "an open brace": b"#CHALLENGE#{sha256" + bytes(40),
    "a name of other bytes": b"#CHALLENGE#{\xff\x00}" + bytes(40),
    "a name that is everything": b"#CHALLENGE#{" + b"a" * 240 + b"}",
}


@pytest.mark.parametrize("message", NO_CHALLENGES.values(), ids=NO_CHALLENGES)
def test_what_is_no_challenge_gets_no_answer(transport: Transport, message: bytes) -> None:
    stream, remote = with_remote(transport)
    # No program should take this for a verdict.
    remote.send(message, b"#WELCOME#")
    with pytest.raises(bbipc.AuthenticationError, match=r"the remote end of the .* sent ") as caught:
        bbipc.authenticate(stream, KEY, PATIENCE)
    check_error(caught.value)
    stream.send_message(b"first", PATIENCE)
    assert remote.receive() == b"first"


@pytest.mark.parametrize("verdict", [b"#FAILURE#", b"", b"#WELCOME", b"#welcome#", b"#WELCOME##WELCOME#", bytes(200)])
def test_every_verdict_but_one_is_a_failure(transport: Transport, verdict: bytes) -> None:
    stream, remote = with_remote(transport)
    remote.send(b"#CHALLENGE#" + CHALLENGE, verdict)
    match = "refuses this end's answer" if verdict == b"#FAILURE#" else f"sent {len(verdict)} bytes that are no verdict"
    with pytest.raises(bbipc.AuthenticationError, match=match) as caught:
        bbipc.authenticate(stream, KEY, PATIENCE)
    check_error(caught.value)


# ---- Challenges ----


def answered(
    transport: Transport, make_answer: Callable[[bytes], bytes]
) -> tuple[bbipc.AuthenticationError | None, bytes]:
    """How it ends for a remote end that answers its challenge like this, and what that is told."""
    stream, remote = with_remote(transport)
    errors: list[bbipc.AuthenticationError] = []

    def challenge() -> None:
        try:
            bbipc.authenticate_peer(stream, KEY, PATIENCE)
        except bbipc.AuthenticationError as error:
            errors.append(error)

    challenging = Failing(challenge)
    remote.send(make_answer(remote.receive_challenge()))
    verdict = remote.receive()
    challenging.join()
    return errors[0] if errors else None, verdict


def test_challenges_are_those_of_newer_pythons_and_no_two_are_the_same(transport: Transport) -> None:
    seen = set()
    for _ in range(4):
        stream, remote = with_remote(transport)
        with pytest.raises(bbipc.TimeoutError):
            bbipc.authenticate_peer(stream, KEY, 0)
        challenge = remote.receive_challenge()
        assert challenge.startswith(b"{sha256}")
        assert len(challenge) == 48
        seen.add(challenge)
    assert len(seen) == 4


@pytest.mark.parametrize("digest", DIGESTS)
def test_the_remote_end_chooses_the_digest_of_its_answer(transport: Transport, digest: str) -> None:
    ended = answered(transport, lambda challenge: named(digest) + mac(challenge, digest))
    assert ended == (None, b"#WELCOME#")


def test_an_older_python_answers_by_md5_without_a_name(transport: Transport) -> None:
    assert answered(transport, lambda challenge: mac(challenge, "md5")) == (None, b"#WELCOME#")


def with_another_key(digest: str) -> Callable[[bytes], bytes]:
    return lambda challenge: named(digest) + mac(challenge, digest, OTHER_KEY)


WRONG_ANSWERS: dict[str, Callable[[bytes], bytes]] = {
    **{f"{digest} with another key": with_another_key(digest) for digest in DIGESTS},
    "md5 with another key, without a name": lambda challenge: mac(challenge, "md5", OTHER_KEY),
    "of the random bytes alone": lambda challenge: b"{sha256}" + mac(challenge[8:], "sha256"),
    "of the whole message": lambda challenge: b"{sha256}" + mac(b"#CHALLENGE#" + challenge, "sha256"),
    "with another name": lambda challenge: b"{sha3_256}" + mac(challenge, "sha256"),
    "sha256 without a name": lambda challenge: mac(challenge, "sha256"),
    "cut": lambda challenge: b"{sha256}" + mac(challenge, "sha256")[:-1],
    "cut to 16 bytes": lambda challenge: (b"{sha256}" + mac(challenge, "sha256"))[:16],
    "one byte more": lambda challenge: b"{sha256}" + mac(challenge, "sha256") + b"\0",
    "a name alone": lambda challenge: b"{sha256}",
    "empty": lambda challenge: b"",
    "zeros": lambda challenge: bytes(16),
    "the key": lambda challenge: KEY,
    "the challenge": lambda challenge: challenge,
    "a weak digest": lambda challenge: b"{sha1}" + mac(challenge, "sha1"),
    "a digest that is not allowed": lambda challenge: b"{sha512}" + mac(challenge, "sha512"),
    "a digest that does not exist": lambda challenge: b"{rot13}" + mac(challenge, "sha256"),
    "an empty name": lambda challenge: b"{}" + mac(challenge, "sha256"),
    "an open brace": lambda challenge: b"{sha256" + mac(challenge, "sha256"),
    "capitals": lambda challenge: b"{SHA256}" + mac(challenge, "sha256"),
    "its own verdict": lambda challenge: b"#WELCOME#",
}


@pytest.mark.parametrize("make_answer", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_wrong_answers_are_refused(transport: Transport, make_answer: Callable[[bytes], bytes]) -> None:
    error, verdict = answered(transport, make_answer)
    assert verdict == b"#FAILURE#"
    assert error is not None
    check_error(error)


def test_its_own_challenge_is_not_answered_on_the_same_connection(transport: Transport) -> None:
    error, verdict = answered(transport, lambda challenge: b"#CHALLENGE#" + challenge)
    assert verdict == b"#FAILURE#"
    assert "sent a challenge where it should send an answer" in str(error)


def test_an_answer_is_of_no_use_again(transport: Transport) -> None:
    answers: list[bytes] = []

    def answer(challenge: bytes) -> bytes:
        answers.append(b"{sha256}" + mac(challenge, "sha256"))
        return answers[0]

    assert answered(transport, answer)[1] == b"#WELCOME#"
    assert answered(transport, answer)[1] == b"#FAILURE#"


def test_macs_are_compared_in_constant_time(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    assert answered(transport, lambda challenge: mac(challenge, "md5"))[1] == b"#WELCOME#"
    assert answered(transport, lambda challenge: b"{sha256}" + bytes(32))[1] == b"#FAILURE#"
    assert [len(one) for one, _ in compared] == [16, 32]


def test_a_verdict_that_nobody_waits_for_hides_no_error(transport: Transport) -> None:
    stream, remote = with_remote(transport)
    remote.send(b"{sha256}" + bytes(32))
    remote.close()
    with pytest.raises((bbipc.AuthenticationError, bbipc.EndOfStreamError)) as caught:
        bbipc.authenticate_peer(stream, KEY, PATIENCE)
    if isinstance(caught.value, bbipc.AuthenticationError):
        check_error(caught.value)


# ---- A Python that lacks a digest ----


@pytest.fixture
def without_md5(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where FIPS rules hold."""
    digest = hmac.digest

    def fips_digest(key: bytes, message: bytes, name: str) -> bytes:
        if name == "md5":
            raise ValueError("[digital envelope routines] unsupported")
        return digest(key, message, name)

    monkeypatch.setattr(hmac, "digest", fips_digest)


@pytest.mark.usefixtures("without_md5")
def test_who_lacks_md5_can_not_answer_an_older_python(transport: Transport) -> None:
    stream, remote = with_remote(transport)
    remote.send(b"#CHALLENGE#" + UNNAMED_CHALLENGE)
    with pytest.raises(
        bbipc.AuthenticationError, match=r"this Python lacks md5 .* 3\.12 and later use sha256"
    ) as caught:
        bbipc.authenticate(stream, KEY, PATIENCE)
    check_error(caught.value)


@pytest.mark.usefixtures("without_md5")
def test_who_lacks_md5_refuses_the_answer_of_an_older_python(transport: Transport) -> None:
    error, verdict = answered(transport, lambda challenge: hmac.new(KEY, challenge, "md5").digest())
    assert verdict == b"#FAILURE#"
    assert error is not None
    assert "this Python lacks md5" in str(error)
    check_error(error)


@pytest.mark.usefixtures("without_md5")
def test_who_lacks_md5_goes_on_with_newer_pythons(transport: Transport) -> None:
    test_each_end_proves_that_it_has_the_key(transport)


# ---- Remote ends that mean harm, or are gone ----


@BOTH
@pytest.mark.parametrize(
    "header",
    [
        struct.pack("!i", 257),
        struct.pack("!i", 16 << 20),
        struct.pack("!i", 2**31 - 1),
        struct.pack("!iQ", -1, 257),
        struct.pack("!iQ", -1, 2**40),
        struct.pack("!iQ", -1, 2**64 - 1),
        struct.pack("!i", -2),
        b"GET / HTTP/1.1",
    ],
    ids=["257", "16 MiB", "2 GiB - 1", "257, long form", "1 TiB", "the most", "negative", "no message"],
)
def test_a_message_that_is_announced_too_long_is_refused_at_once(
    transport: Transport, function: Function, header: bytes
) -> None:
    stream, remote = with_remote(transport)
    remote.send_bytes(header)
    with pytest.raises(
        bbipc.AuthenticationError, match="announced more than 256 bytes, or no message at all, instead of a"
    ) as caught:
        function(stream, KEY, PATIENCE)
    check_error(caught.value)
    assert isinstance(caught.value.__cause__, bbipc.MessageTooLargeError)
    if function is bbipc.authenticate_peer:
        remote.receive_challenge()
        assert remote.receive() == b"#FAILURE#"


def test_a_message_of_256_bytes_is_allowed(transport: Transport) -> None:
    stream, remote = with_remote(transport)
    remote.send(bytes(256))
    with pytest.raises(bbipc.AuthenticationError, match="sent 256 bytes that are no challenge"):
        bbipc.authenticate(stream, KEY, PATIENCE)


@BOTH
def test_the_time_is_up_for_a_remote_end_that_is_silent(transport: Transport, function: Function) -> None:
    stream, _remote = with_remote(transport)
    for timeout in (0, SHORTLY):
        began = time.perf_counter()
        with pytest.raises(bbipc.TimeoutError, match="did not send a"):
            function(stream, KEY, timeout)
        assert timeout <= time.perf_counter() - began < PROMPTLY


@BOTH
def test_the_time_is_up_amid_a_message(transport: Transport, function: Function) -> None:
    stream, remote = with_remote(transport)
    remote.send_bytes(struct.pack("!i", 40) + bytes(39))
    with pytest.raises(bbipc.TimeoutError, match="did not send a"):
        function(stream, KEY, SHORTLY)


def test_the_time_is_up_without_a_verdict(transport: Transport) -> None:
    stream, remote = with_remote(transport)
    remote.send(b"#CHALLENGE#" + CHALLENGE)
    with pytest.raises(bbipc.TimeoutError, match="did not send a verdict"):
        bbipc.authenticate(stream, KEY, SHORTLY)


def test_the_timeout_is_for_the_whole_exchange(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote end that is slow with each of its messages."""
    stream, _remote = with_remote(transport)
    timeouts: list[float] = []
    now_ns = [10**9]

    def send(stream: StreamSocket, data: bytes, timeout: float) -> None:
        timeouts.append(timeout)
        now_ns[0] += 10**9

    def receive(stream: StreamSocket, timeout: float) -> bytes:
        timeouts.append(timeout)
        now_ns[0] += 10**9
        return b"#WELCOME#" if len(timeouts) > 1 else b"#CHALLENGE#" + CHALLENGE

    monkeypatch.setattr(StreamSocket, "send_message", send)
    monkeypatch.setattr(StreamSocket, "receive_message", receive)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: now_ns[0])
    bbipc.authenticate(stream, KEY, 5)
    assert timeouts == [5, 4, 3]
    timeouts.clear()
    with pytest.raises(bbipc.AuthenticationError):
        bbipc.authenticate_peer(stream, KEY, 2.5)
    assert timeouts == [2.5, 1.5, 0.5]


@BOTH
@pytest.mark.parametrize("sent", [b"", b"\0\0", struct.pack("!i", 40) + bytes(39)], ids=["nothing", "2 bytes", "part"])
def test_the_remote_end_goes(transport: Transport, function: Function, sent: bytes) -> None:
    stream, remote = with_remote(transport)
    remote.send_bytes(sent)
    remote.close()
    with pytest.raises(bbipc.EndOfStreamError) as caught:
        function(stream, KEY, PATIENCE)
    check_text(caught.value)
    if function is bbipc.authenticate:
        assert "went before it had sent a challenge" in str(caught.value)
        assert sent.endswith(caught.value.partial)


def test_the_remote_end_goes_without_a_verdict(transport: Transport) -> None:
    stream, remote = with_remote(transport)
    remote.send(b"#CHALLENGE#" + CHALLENGE)
    proving = Failing(lambda: bbipc.authenticate(stream, KEY, PATIENCE))
    remote.receive()
    remote.close()
    with pytest.raises(bbipc.EndOfStreamError, match=r"went before it had sent a verdict: it may have refused"):
        proving.join()


# ---- What is left behind ----


def failures(transport: Transport) -> list[tuple[Function, StreamSocket]]:
    """Exchanges that fail, each in its way."""
    found: list[tuple[Function, StreamSocket]] = []
    for function in (bbipc.authenticate, bbipc.authenticate_peer):
        for sent in (b"", struct.pack("!i", 257), struct.pack("!i", 1) + b"x"):
            stream, remote = with_remote(transport)
            remote.send_bytes(sent)
            found.append((function, stream))
            gone, remote = with_remote(transport)
            remote.send_bytes(sent)
            remote.close()
            found.append((function, gone))
    return found


@pytest.mark.parametrize("size_max", [None, 10, 1 << 30])
def test_the_limit_of_messages_is_what_it_was(transport: Transport, size_max: int | None) -> None:
    client, server = transport.pair()
    usual_max = client.max_message_size
    for stream in (client, server):
        stream.max_message_size = size_max or usual_max
    proving = Failing(lambda: bbipc.authenticate(client, KEY, PATIENCE))
    bbipc.authenticate_peer(server, KEY, PATIENCE)
    proving.join()
    for function, stream in failures(transport):
        stream.max_message_size = size_max or usual_max
        with pytest.raises(bbipc.BbipcError):
            function(stream, KEY, 0)
        assert stream.max_message_size == (size_max or usual_max)
    assert client.max_message_size == server.max_message_size == (size_max or usual_max)


def test_messages_that_come_at_once_are_there_afterwards(transport: Transport) -> None:
    stream, remote = with_remote(transport)
    remote.send(b"#CHALLENGE#" + CHALLENGE, b"#WELCOME#", b"x" * 5000, b"")
    bbipc.authenticate(stream, KEY, PATIENCE)
    assert stream.receive_message(PATIENCE) == b"x" * 5000
    assert stream.receive_message(PATIENCE) == b""


def test_a_longer_message_that_has_begun_to_come_is_none_of_the_exchange(transport: Transport) -> None:
    stream, remote = with_remote(transport)
    remote.send_bytes(struct.pack("!i", 1000) + bytes(10))
    with pytest.raises(bbipc.TimeoutError):
        stream.receive_message(SHORTLY)
    remote.send_bytes(bytes(990))
    with pytest.raises(bbipc.AuthenticationError):
        bbipc.authenticate(stream, KEY, PATIENCE)
    assert stream.receive_message(PATIENCE) == bytes(1000)


# ---- Errors ----


def check_text(error: BaseException) -> None:
    """Nothing of the key is in what a program may print of an error."""
    text = (
        "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(error) + repr(vars(error))
    )
    for part in (KEY, OTHER_KEY):
        for secret in (part.decode("latin-1"), repr(part)[2:-1], part.hex()):
            assert secret not in text
    assert "authentication.py" in text


def check_error(error: bbipc.AuthenticationError) -> None:
    check_text(error)
    assert isinstance(error, bbipc.BbipcError)
    assert isinstance(error, PermissionError)
    assert not isinstance(error, bbipc.SocketError)
    assert error.errno == errno.EACCES
    assert "Stream" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is bbipc.AuthenticationError
    assert (str(again), again.errno) == (str(error), error.errno)
