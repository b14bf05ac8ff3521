"""Events: a set that is small, fast and never changes."""

from __future__ import annotations

import copy
import pickle
import timeit
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbipc import Events
from patience import QEMU

NAMES = [
    "CONNECTION_AVAILABLE",
    "DETERMINED",
    "CONNECTION_SUCCEEDED",
    "CONNECTION_FAILED",
    "DATA_AVAILABLE",
    "READY_TO_WRITE",
    "REMOTE_DISCONNECTED",
    "END_OF_DATA",
    "WRITE_SPACE",
    "CONNECTION_SEVERED",
    "MESSAGE_AVAILABLE",
    "MESSAGE_SPACE",
]
EVERY_SET = [Events(number) for number in range(1 << len(NAMES))]

numbers = st.integers(0, len(EVERY_SET) - 1)
quick = settings(deadline=None, database=None)


@pytest.mark.parametrize("name", NAMES)
def test_each_event_is_one_bit_a_name_and_a_property(name: str) -> None:
    event = getattr(Events, name)
    assert int(event) == 1 << NAMES.index(name)
    assert repr(event) == f"Events.{name}"
    assert str(event) == name
    for number, events in enumerate(EVERY_SET):
        holds = getattr(events, name.lower())
        assert holds is (number & int(event) != 0)
        assert (event in events) is holds


def test_equal_sets_are_one_object() -> None:
    for number, events in enumerate(EVERY_SET):
        assert int(events) == number
        assert Events(number) is events
        assert Events(events) is events
    assert Events() is Events(0)
    assert Events(True) is Events.CONNECTION_AVAILABLE


@quick
@given(numbers, numbers)
def test_sets_combine_like_sets(a: int, b: int) -> None:
    one, other = Events(a), Events(b)
    assert int(one | other) == a | b
    assert int(one & other) == a & b
    assert int(one - other) == a & ~b
    assert int(one ^ other) == a ^ b
    assert int(~one) == len(EVERY_SET) - 1 - a
    assert (other in one) is (a & b == b)
    assert (one == other) is (a == b)
    assert (one != other) is (a != b)
    assert (hash(one) == hash(other)) is (a == b)


@quick
@given(numbers)
def test_a_set_counts_and_iterates_its_single_events(number: int) -> None:
    events = Events(number)
    singles = list(events)
    assert len(events) == len(singles) == len(set(singles))
    assert [int(single) for single in singles] == [1 << bit for bit in range(len(NAMES)) if number >> bit & 1]
    together = Events()
    for single in singles:
        together |= single
    assert together is events
    assert bool(events) is (number != 0)


def test_an_empty_set_is_false_and_in_every_set() -> None:
    assert not Events()
    assert list(Events()) == []
    assert len(Events()) == 0
    assert Events() in Events()
    assert Events() in Events.DATA_AVAILABLE
    assert str(Events()) == "no events"


def test_repr_is_what_makes_the_set() -> None:
    assert repr(Events.DATA_AVAILABLE | Events.DETERMINED) == "Events.DETERMINED | Events.DATA_AVAILABLE"
    assert repr(Events()) == "Events(0)"
    for events in EVERY_SET:
        assert eval(repr(events), {"Events": Events}) is events


def test_str_names_the_events() -> None:
    assert str(Events.END_OF_DATA | Events.DATA_AVAILABLE) == "DATA_AVAILABLE, END_OF_DATA"
    assert f"{Events.DETERMINED}" == "DETERMINED"


def test_augmented_assignment_makes_another_set() -> None:
    events = before = Events.DETERMINED
    events |= Events.DATA_AVAILABLE
    assert before is Events.DETERMINED
    assert events.data_available
    events &= Events.DATA_AVAILABLE
    events ^= Events.WRITE_SPACE
    events -= Events.DATA_AVAILABLE
    assert events is Events.WRITE_SPACE


def test_sets_are_keys() -> None:
    table = {events: int(events) for events in EVERY_SET}
    assert len(table) == len(EVERY_SET)
    assert table[Events.DATA_AVAILABLE | Events.DETERMINED] == 0x12


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_gives_the_same_object(protocol: int) -> None:
    for events in EVERY_SET:
        assert pickle.loads(pickle.dumps(events, protocol)) is events


def test_copies_are_the_same_object() -> None:
    events = Events.DATA_AVAILABLE | Events.WRITE_SPACE
    assert copy.copy(events) is events
    assert copy.deepcopy([events]) == [events]
    assert copy.deepcopy(events) is events


@pytest.mark.parametrize("name", ["data_available", "_bits", "DATA_AVAILABLE", "something_new"])
def test_a_set_can_not_be_changed(name: str) -> None:
    events = Events.DATA_AVAILABLE
    with pytest.raises(AttributeError):
        setattr(events, name, True)
    with pytest.raises(AttributeError):
        delattr(events, name)
    assert events.data_available
    assert int(events) == 0x10


def test_a_set_can_not_be_subclassed() -> None:
    with pytest.raises(TypeError, match="subclass"):
        type("MyEvents", (Events,), {})


@pytest.mark.parametrize("number", [-1, len(EVERY_SET), 2**32, 2**70, -(2**70)])
def test_numbers_with_bits_of_no_event_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        Events(number)


@pytest.mark.parametrize("value", ["DATA_AVAILABLE", b"\x10", 16.0, None, [16]])
def test_what_is_no_integer_makes_no_set(value: Any) -> None:
    with pytest.raises(TypeError):
        Events(value)


@pytest.mark.parametrize("other", [16, "DATA_AVAILABLE", None, 1.0])
def test_sets_do_not_mix_with_other_types(other: Any) -> None:
    events = Events.DATA_AVAILABLE
    with pytest.raises(TypeError):
        events | other
    with pytest.raises(TypeError):
        other | events
    with pytest.raises(TypeError):
        events & other
    with pytest.raises(TypeError):
        events - other
    with pytest.raises(TypeError):
        events ^ other
    with pytest.raises(TypeError, match=type(other).__name__):
        assert other in events
    assert events != other


@pytest.mark.skipif(QEMU, reason="a figure of processors, and qemu-user is none")
def test_testing_one_event_costs_less_than_50_ns() -> None:
    runs = 200_000
    held = Events.DATA_AVAILABLE | Events.READY_TO_WRITE

    def best_ns(statement: str) -> float:
        timer = timeit.Timer(statement, globals={"events": held})
        return min(timer.repeat(repeat=7, number=runs)) / runs * 1e9

    assert best_ns("events.data_available") - best_ns("pass") < 50
