"""Pollers against a model: any sequence of operations on them, on every backend at once, tells what the model says."""

from __future__ import annotations

import shutil
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import bbipc
from bbipc import Events, Socket, StreamServer
from patience import PATIENCE
from readiness import RESETS_DISCARD, TELLS_ENDS_LATE, Fact, arrives, half_closes, unread_bytes
from streaming import ESTABLISHED, GONE
from systems import BACKENDS, LOCAL_ROOM, WINDOWS, close_resets, make_directory
from transports import STREAM_EVENTS, Transport

if not WINDOWS:
    import shown

DATA = Events.DATA_AVAILABLE
STREAMS = 4
SERVER = STREAMS
#: Bytes of a message.
SIZE_MAX = 16 * 1024 * 1024
#: Bytes that every stream takes although nobody reads.
UNREAD_MAX = min(12_000, LOCAL_ROOM)

which_stream = st.integers(0, STREAMS - 1)
which_socket = st.integers(0, STREAMS)
which_events = st.integers(0, int(STREAM_EVENTS) >> 1).map(lambda number: Events(number << 1))
#: Empty messages and the beginning of one more; or a message, or its beginning.
which_data = st.one_of(
    st.integers(1, 2000).map(bytes),
    st.builds(
        lambda size, end: (size.to_bytes(4, "big") + bytes(size))[:end], st.integers(0, 1000), st.integers(1, 1004)
    ),
)
which_poller = st.integers(0, 1)


class ModelStream:
    """A stream, its remote end, and what must hold of it."""

    def __init__(self, transport: Transport) -> None:
        self.tcp = transport.name == "tcp"
        self.stream, self.peer = transport.pair()
        # Whoever closes with this byte unread severs the connection.
        self.stream.write_all(b"!")
        #: All that the peer has written, and how much of it was read.
        self.sent = b""
        self.read = 0
        #: How many unread bytes are in the stream's own buffer, since somebody has asked for MESSAGE_AVAILABLE.
        self.kept = 0
        self.finished = False
        self.peer_finished = False
        self.peer_closed = False
        self.reset = False

    @property
    def unread(self) -> int:
        return len(self.sent) - self.read

    @property
    def decided(self) -> bool:
        """Whether the bytes begin with a message, or with what will never be one, whatever follows."""
        left = self.sent[self.read :]
        size = int.from_bytes(left[:4], "big", signed=True)
        return len(left) >= 4 and (not 0 <= size <= SIZE_MAX or len(left) >= 4 + size)

    @property
    def message_available(self) -> bool:
        """The same; or what will never be a message, because nothing follows."""
        return self.decided or (self.ended and self.unread > 0)

    @property
    def ended(self) -> bool:
        """Whether the remote end has finished or closed."""
        return self.peer_finished or self.peer_closed

    @property
    def gone(self) -> bool:
        """Whether the system tells that the remote end has finished or closed."""
        late = self.tcp and TELLS_ENDS_LATE and self.unread > self.kept and not self.reset and not self.finished
        return self.ended and not late

    @property
    def severed(self) -> bool:
        closed = self.peer_closed and not self.tcp
        return self.reset or closed or (self.finished and self.gone)

    def events(self, asked: Events) -> Events:
        """What holds of it. Who asks for a message has bytes read until one is there, or the end is."""
        reads_on = bool(asked & Events.MESSAGE_AVAILABLE) and self.unread > 0 and not self.decided
        gone = self.ended if reads_on else self.gone
        events = GONE if gone else ESTABLISHED
        if self.unread:
            events |= DATA
        elif gone:
            events |= Events.END_OF_DATA
        if self.message_available:
            events |= Events.MESSAGE_AVAILABLE
        if self.severed:
            events |= Events.CONNECTION_SEVERED
        elif not self.finished:
            events |= Events.WRITE_SPACE | Events.MESSAGE_SPACE
            if not gone:
                events |= Events.READY_TO_WRITE
        return events

    def settle(self) -> None:
        """Waits until the kernel has delivered what the remote end did. Without bbipc, which has yet to find out."""
        if WINDOWS and not self.tcp:
            # A pipe's other end knows at once.
            return
        if self.gone:
            arrives(self.stream, Fact.FINISHED)
        if self.severed:
            arrives(self.stream, Fact.SEVERED)
        deadline = time.perf_counter() + PATIENCE
        while unread_bytes(self.stream) != self.unread - self.kept:
            assert time.perf_counter() < deadline, "the kernel did not deliver"

    def note_kept(self) -> None:
        """To be called after what may have moved bytes into the stream's own buffer, when all had arrived."""
        if not WINDOWS or self.tcp:
            self.kept = self.unread - unread_bytes(self.stream)


class PollerModel(RuleBasedStateMachine):
    """Two backends and poll_sockets, beside the model of what they must tell."""

    transport_name = ""

    @initialize()
    def begin(self) -> None:
        self.directory = make_directory()
        self.transport = Transport(self.transport_name, self.directory)
        self.server: StreamServer = self.transport.make_server()
        self.clients = 0
        self.models = [ModelStream(self.transport) for _ in range(STREAMS)]
        # Two of each backend, so that what one has learnt of a stream comes before the other.
        self.pollers = [[bbipc.make_poller(name) for name in BACKENDS] for _ in range(2)]
        self.asked: list[dict[Socket, Events]] = [{}, {}]

    def teardown(self) -> None:
        if not hasattr(self, "directory"):
            return
        for pollers in self.pollers:
            for poller in pollers:
                poller.close()
        self.transport.close()
        shutil.rmtree(self.directory)

    def socket(self, which: int) -> Socket:
        return self.server if which == SERVER else self.models[which].stream

    def asked_of(self, which: int, events: Events) -> Events:
        return (Events.CONNECTION_AVAILABLE if events else Events()) if which == SERVER else events

    def note_kept(self) -> None:
        for model in self.models:
            model.note_kept()

    def expected(self, asked: dict[Socket, Events]) -> dict[Socket, Events]:
        """What must be told of every socket."""
        for model in self.models:
            model.settle()
        if self.clients:
            arrives(self.server, Fact.DATA)
        holds: dict[Socket, Events] = {
            model.stream: model.events(asked.get(model.stream, Events())) for model in self.models
        }
        holds[self.server] = Events.CONNECTION_AVAILABLE if self.clients else Events()
        return {one: events & asked.get(one, Events()) for one, events in holds.items()}

    # ---- What happens to the streams ----

    @rule(which=which_stream, data=which_data)
    def peer_writes(self, which: int, data: bytes) -> None:
        model = self.models[which]
        if not (model.peer_finished or model.peer_closed) and model.unread + len(data) <= UNREAD_MAX:
            model.peer.write_all(data, PATIENCE)
            model.sent += data

    @rule(which=which_stream, size=st.one_of(st.integers(1, 2000), st.just(100_000)))
    def reads(self, which: int, size: int) -> None:
        model = self.models[which]
        model.settle()
        try:
            data = model.stream.read(size)
        except bbipc.SocketError:
            assert model.reset
            assert not model.unread
        else:
            assert data == model.sent[model.read : model.read + size]
            model.read += len(data)
            model.kept = max(model.kept - len(data), 0)

    @rule(which=which_stream)
    def receives(self, which: int) -> None:
        model = self.models[which]
        model.settle()
        left = model.sent[model.read :]
        size = int.from_bytes(left[:4], "big", signed=True)
        try:
            message = model.stream.receive_message(0)
        except bbipc.TimeoutError:
            assert not model.ended
            assert not model.message_available
        except bbipc.MessageTooLargeError:
            assert len(left) >= 4
            assert not 0 <= size <= SIZE_MAX
        except bbipc.EndOfStreamError as ended:
            partial = ended.partial
            assert model.ended
            assert partial == left
            assert len(left) < 4 + size
            model.read += len(left)
        else:
            assert message == left[4 : 4 + size]
            assert len(message) == size
            model.read += 4 + size
        model.note_kept()

    @rule(which=which_stream)
    def finishes(self, which: int) -> None:
        model = self.models[which]
        if half_closes(self.transport) and not model.finished and not model.severed:
            model.settle()
            model.stream.finish_writing()
            model.finished = True

    @rule(which=which_stream)
    def peer_finishes(self, which: int) -> None:
        model = self.models[which]
        if half_closes(self.transport) and not model.peer_finished and not model.peer_closed:
            model.peer.finish_writing()
            model.peer_finished = True

    @rule(which=which_stream, unread=st.booleans())
    def peer_closes(self, which: int, unread: bool) -> None:
        model = self.models[which]
        if model.peer_closed:
            return
        if unread:
            # Where both have finished, TCP no longer resets.
            model.reset = close_resets(self.transport.name) and not (model.tcp and model.severed)
            if model.tcp and RESETS_DISCARD and model.reset:
                model.sent = model.sent[: model.read + model.kept]
        else:
            model.peer.read_exactly(1, PATIENCE)
        model.peer.close()
        model.peer_closed = True

    @rule(which=which_stream)
    def is_replaced(self, which: int) -> None:
        model = self.models[which]
        model.stream.close()
        model.peer.close()
        for asked in self.asked:
            asked.pop(model.stream, None)
        self.models[which] = ModelStream(self.transport)

    @rule()
    def client_comes(self) -> None:
        self.transport.connect(self.server)
        self.clients += 1

    @rule()
    def client_is_accepted(self) -> None:
        if self.clients:
            self.transport.accept(self.server).close()
            self.clients -= 1

    # ---- What the pollers are told ----

    @rule(which=which_socket, number=which_poller, events=which_events)
    def monitors(self, which: int, number: int, events: Events) -> None:
        one, asked = self.socket(which), self.asked_of(which, events)
        for poller in self.pollers[number]:
            if one in self.asked[number]:
                with pytest.raises(bbipc.AlreadyMonitoredError):
                    poller.monitor_socket(one, asked)
            else:
                poller.monitor_socket(one, asked)
        self.asked[number].setdefault(one, asked)

    @rule(which=which_socket, number=which_poller, events=which_events)
    def changes(self, which: int, number: int, events: Events) -> None:
        one, asked = self.socket(which), self.asked_of(which, events)
        for poller in self.pollers[number]:
            if one in self.asked[number]:
                poller.set_monitored_events(one, asked)
            else:
                with pytest.raises(bbipc.NotMonitoredError):
                    poller.set_monitored_events(one, asked)
        if one in self.asked[number]:
            self.asked[number][one] = asked

    @rule(which=which_socket, number=which_poller)
    def unmonitors(self, which: int, number: int) -> None:
        one = self.socket(which)
        for poller in self.pollers[number]:
            poller.unmonitor_socket(one)
        self.asked[number].pop(one, None)

    @rule(number=which_poller)
    def wakes(self, number: int) -> None:
        self.expected({})
        for poller in self.pollers[number]:
            poller.wake()
            assert isinstance(poller.wait_for_events(PATIENCE), list)
        self.note_kept()

    # ---- What they tell ----

    @rule(number=which_poller, timeout=st.sampled_from([0, 0.0001, PATIENCE]))
    def waits(self, number: int, timeout: float) -> None:
        asked = self.asked[number]
        holds = self.expected(asked)
        expected = {one: events for one, events in holds.items() if events}
        for poller in self.pollers[number]:
            assert poller.monitored_sockets() == list(asked)
            for one in holds:
                assert poller.monitored_events(one) is asked.get(one, Events())
            reports = poller.wait_for_events(timeout if expected else 0)
            # Of pipes Windows' poller hears a moment late.
            give_up_at = time.perf_counter() + (PATIENCE if WINDOWS else 0)
            while len(reports) < len(expected) and time.perf_counter() < give_up_at:
                reports = poller.wait_for_events(timeout)
            assert len(reports) == len(expected)
            assert dict(reports) == expected, poller.backend
        self.note_kept()

    @rule(events=st.lists(which_events, min_size=STREAMS + 1, max_size=STREAMS + 1))
    def polls(self, events: list[Events]) -> None:
        asked = [self.asked_of(which, one) for which, one in enumerate(events)]
        sockets = [self.socket(which) for which in range(STREAMS + 1)]
        expected = self.expected(dict(zip(sockets, asked)))
        assert bbipc.poll_sockets(sockets, asked, 0) == [expected[socket] for socket in sockets]
        self.note_kept()


class ShownModel(PollerModel):
    """The same, whose first pollers' descriptors another loop watches: it must hear of all that holds, and no more."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.shown = [poller for poller in self.pollers[0] if poller.backend != "poll"]
        for poller in self.shown:
            poller.fileno()

    @rule()
    def wakes_the_loop(self) -> None:
        for poller in self.shown:
            poller.wake()
            assert shown.is_readable(poller)

    @invariant()
    def descriptors_tell_what_holds(self) -> None:
        if not hasattr(self, "shown"):
            return
        expected = {one: events for one, events in self.expected(self.asked[0]).items() if events}
        for poller in self.shown:
            assert dict(shown.reports(poller, 0)) == expected
            assert shown.is_readable(poller) == bool(expected)
        self.note_kept()


class TcpModel(PollerModel):
    transport_name = "tcp"


class LocalModel(PollerModel):
    transport_name = "local"


class ShownTcpModel(ShownModel):
    transport_name = "tcp"


class ShownLocalModel(ShownModel):
    transport_name = "local"


model_settings = settings(deadline=None, database=None, max_examples=200, stateful_step_count=60)
# Each takes seconds of a processor, which are a minute on a busy machine.
TestAnySequenceOverTcp = pytest.mark.timeout(300)(TcpModel.TestCase)
TestAnySequenceOverTcp.settings = model_settings
TestAnySequenceOverLocal = pytest.mark.timeout(300)(LocalModel.TestCase)
TestAnySequenceOverLocal.settings = model_settings

if not WINDOWS:
    shown_settings = settings(model_settings, max_examples=100)
    TestAnySequenceShownOverTcp = pytest.mark.timeout(300)(ShownTcpModel.TestCase)
    TestAnySequenceShownOverTcp.settings = shown_settings
    TestAnySequenceShownOverLocal = pytest.mark.timeout(300)(ShownLocalModel.TestCase)
    TestAnySequenceShownOverLocal.settings = shown_settings
