"""The two layers between the classes and the native library: which is taken, and that they can't be told apart."""

from __future__ import annotations

import inspect
import os
import re
import sys
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bbipc
import call_cases
from bbipc import Events, StreamSocket, sockets
from bbipc._native import by_cpython, by_ctypes, declarations, waiting
from bbipc._native import calls as native_calls
from call_cases import METHODS, METHODS_ARE_BUILT_IN, Scene
from layers import CPYTHON, NAMES, needs_built_in_methods, needs_cpython
from peer import Pattern, run_program
from systems import LIBRARY, WINDOWS
from transports import Transport
from tree import ROOT

# ---- Which layer ----


TELL_LAYER = """
import os, sys
os.environ["BBIPC_CALLS"] = sys.argv[1]
import bbipc
print(bbipc.calling_layer(), type(bbipc._native.calls.read).__name__, type(bbipc.StreamSocket.write).__name__)
"""

IN_PYTHON = "ctypes function function\n"
BUILT_IN = "cpython builtin_function_or_method method_descriptor\n" if CPYTHON else IN_PYTHON


def test_built_in_functions_are_taken_where_they_can_be_had() -> None:
    assert run_program(TELL_LAYER, "") == BUILT_IN


@needs_cpython
def test_the_environment_chooses_the_layer() -> None:
    assert run_program(TELL_LAYER, "ctypes") == IN_PYTHON
    assert run_program(TELL_LAYER, "cpython") == BUILT_IN


def test_this_process_has_the_layer_that_the_environment_asks_for() -> None:
    asked = os.environ.get("BBIPC_CALLS") or ("cpython" if CPYTHON else "ctypes")
    assert bbipc.calling_layer() == asked
    assert (asked == "cpython") == METHODS_ARE_BUILT_IN
    assert inspect.isbuiltin(native_calls.wait_for_events) == (asked == "cpython")


IMPORT_ERROR = """
import os, sys
os.environ["BBIPC_CALLS"] = sys.argv[1]
{before}
try:
    import bbipc
except ImportError as error:
    print(error)
else:
    print(bbipc.calling_layer())
"""


@pytest.mark.parametrize("asked", ["cffi", "CPython", "ctypes "])
def test_an_unknown_layer_is_refused(asked: str) -> None:
    expected = f"the environment variable BBIPC_CALLS must be 'cpython', 'ctypes' or not set, not {asked!r}\n"
    assert run_program(IMPORT_ERROR.format(before=""), asked) == expected


#: A Python without the functions that C extensions call: its stand-in has no other functions than its own.
HIDDEN = """
import ctypes
class Hiding:
    def __init__(self, visible):
        self._visible = visible
        self._handle = ctypes.CDLL(sys.argv[2])._handle
    def __getattr__(self, name):
        return getattr(self._visible, name)
ctypes.pythonapi = Hiding(ctypes.pythonapi)
"""
ANOTHER_PYTHON = """
import ctypes
sys.implementation.name = "another"
"""


@needs_cpython
@pytest.mark.parametrize(
    ("before", "why"),
    [(HIDDEN, "this Python hides what they call: "), (ANOTHER_PYTHON, "this is another, not CPython")],
)
def test_a_python_without_what_the_built_in_functions_call_gets_ctypes(before: str, why: str) -> None:
    program = IMPORT_ERROR.format(before=before)
    library = _library_path()
    assert run_program(program, "", library) == "ctypes\n"
    assert run_program(program, "ctypes", library) == "ctypes\n"
    told = run_program(program, "cpython", library)
    assert told.startswith(f"BBIPC_CALLS asks for CPython's built-in functions, but {why}")


def _library_path() -> str:
    return str(Path(bbipc.__file__).parent / LIBRARY)


# ---- What is handed to the library ----


@needs_cpython
def test_addresses_that_are_none_are_refused_and_change_nothing(scene: Scene) -> None:
    count = len(declarations.cpython_needs().split())
    for numbers in ([0] * count, [1] * (count - 1), [1] * (count + 1), [*([1] * (count - 1)), 0], []):
        addresses = array("Q", numbers)
        result = declarations.cpython_bind(addresses.buffer_info()[0], len(addresses))
        assert result == declarations.ERROR_INVALID_ARGUMENT, numbers
    assert declarations.cpython_bind(None, count) == declarations.ERROR_INVALID_ARGUMENT
    functions = call_cases.built_in_functions()
    assert functions["read"](scene.stream._handle, 100, False) == call_cases.UNREAD


@needs_cpython
def test_there_is_a_built_in_function_for_every_name_and_no_other() -> None:
    make = by_cpython.bind()
    for name in by_cpython.function_names():
        reference = getattr(by_ctypes, name)
        function = make(name.encode(), reference)
        assert inspect.isbuiltin(function)
        assert function.__name__ == name
        assert function.__self__ is reference
    # It was a null pointer, which ctypes follows.
    for name in ("", "make_poller", "rea", "read_"):
        assert make(name.encode(), int) is None
        assert declarations.cpython_method(StreamSocket, name.encode(), b"") is None


@needs_built_in_methods
def test_methods_are_built_in_that_the_table_names_and_no_others() -> None:
    kept = [
        f"{kind}.{name[len('_python_') :]}"
        for kind, its_class in call_cases.CLASSES.items()
        for name in vars(its_class)
        if name.startswith("_python_")
    ]
    assert sorted(kept) == sorted(METHODS)


@needs_built_in_methods
@pytest.mark.parametrize("name", METHODS)
def test_a_built_in_method_looks_like_the_one_in_python(name: str) -> None:
    built_in, in_python = call_cases.method(name), call_cases.method_in_python(name)
    kind, _, attribute = name.partition(".")
    assert inspect.ismethoddescriptor(built_in)
    assert inspect.isfunction(in_python)
    assert built_in.__name__ == attribute
    assert built_in.__qualname__ == name
    # The base that has it, or the class itself, where the built-in one has taken its place.
    bases = [one.__name__ for one in call_cases.CLASSES[kind].__mro__ if vars(one).get(attribute) is in_python]
    assert in_python.__qualname__ == f"{(bases or [kind])[0]}.{attribute}"
    assert built_in.__objclass__ is call_cases.CLASSES[kind]
    assert inspect.getdoc(built_in) == inspect.getdoc(in_python)
    ours, theirs = (inspect.signature(one).parameters.values() for one in (built_in, in_python))
    assert [(one.name, one.default) for one in ours] == [(one.name, one.default) for one in theirs]
    assert [one.kind for one in ours][1:] == [one.kind for one in theirs][1:]


COPIES = """
import gc, sys
import bbipc

first = bbipc.StreamSocket
text = first.write.__doc__

def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "bbipc"]:
        del sys.modules[name]

forget()
import bbipc
forget()
del bbipc
gc.collect()
assert first.write.__doc__ == text
assert first.read_into.__doc__ == first._python_read_into.__doc__
"""


@needs_built_in_methods
def test_the_documentation_of_a_method_outlives_the_copy_of_the_package_that_gave_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was memory of the second copy's, read after that was gone."""
    # Memory that is free is filled.
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    run_program(COPIES)


# ---- Both layers do the same ----


@needs_cpython
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_a_call_ends_in_the_same_way_as_the_reference(scene: Scene, name: str) -> None:
    """What it returns, or raises with which text; and what it does to streams and buffers."""
    if WINDOWS and ("write" in name or "send" in name):
        pytest.skip("over TCP, how much is taken and when the end of the connection is told is not always the same")
    function, reference = call_cases.built_in_functions()[name], call_cases.references()[name]
    count = 0
    for case in call_cases.cases_of(scene):
        if case.name != name or not case.compared:
            continue
        count += 1
        ends = []
        for one in (function, reference):
            case.begin(scene)
            handles = declarations.open_handles()
            end = call_cases.outcome(one, case)
            assert declarations.open_handles() == handles, f"{one.__name__} of {case} lost a handle"
            arguments = (*case.arguments, *case.keywords.values())
            buffers = [bytes(argument) for argument in arguments if isinstance(argument, bytearray)]
            ends.append((end, scene.unread(), scene.written(), buffers))
        assert ends[0] == ends[1], str(case)
    assert count > 3


def native_number(name: str) -> int:
    """A constant of the built-in functions."""
    source = (ROOT / "native" / "cpython" / "bounds.zig").read_text(encoding="utf-8")
    (expression,) = re.findall(rf"^pub const {name} = (.*);$", source, re.MULTILINE)
    for unit, factor in (("std.time.ns_per_ms", 1_000_000), ("std.time.ns_per_s", 1_000_000_000)):
        expression = expression.replace(unit, str(factor))
    number: int = eval(expression, {"__builtins__": {}})
    return number


def default_of(name: str) -> object:
    (text,) = re.findall(r"max_bytes=(\w+)", by_cpython.signature_of(call_cases.method_in_python(name)))
    in_python = inspect.signature(call_cases.method_in_python(name)).parameters["max_bytes"].default
    assert in_python == int(text)
    return in_python


def test_the_layers_have_the_same_bounds() -> None:
    assert native_number("copy_holding_gil_max") == by_ctypes.COPY_HOLDING_GIL_MAX
    assert native_number("reports_max") == by_ctypes._REPORTS_MAX
    assert native_number("messages_max") == by_ctypes._MESSAGES_MAX
    assert native_number("messages_enough") == by_ctypes._MESSAGES_ENOUGH
    assert native_number("read_max") == sockets._CHUNK_MAX
    assert native_number("first_slice_ns") == waiting._FIRST_SLICE_NS
    assert native_number("last_slice_ns") == waiting._LAST_SLICE_NS
    assert native_number("max_bytes_default") == default_of("Poller.receive") == default_of("StreamSocket.read")


@needs_cpython
@pytest.mark.parametrize("name", by_cpython.function_names())
def test_built_in_functions_take_no_keywords(scene: Scene, name: str) -> None:
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        call_cases.built_in_functions()[name](*call_cases.good(scene)[name], more=1)


@needs_cpython
@pytest.mark.parametrize("where", ["__bool__", "__buffer__"])
def test_ctrl_c_in_an_arguments_own_code_is_not_forgotten(scene: Scene, where: str) -> None:
    """The reference was called in its place, and asked the argument once more."""
    if where == "__buffer__" and sys.version_info < (3, 12):
        pytest.skip("buffers by Python code are of Python 3.12")
    asked = 0

    class Interrupted:
        def __bool__(self) -> bool:
            return bool(self.answer(True))

        def __buffer__(self, _flags: int) -> memoryview:
            return memoryview(self.answer(bytearray(8)))  # type: ignore[arg-type]

        def answer(self, value: object) -> object:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise KeyboardInterrupt
            return value

    functions = call_cases.built_in_functions()
    handle, one = scene.stream._handle, Interrupted()
    calls: list[Callable[[], object]]
    if where == "__bool__":
        calls = [
            lambda: functions["read"](handle, 8, one),
            lambda: functions["read_into"](handle, bytearray(8), 0, None, one),
            lambda: scene.stream.read(peek=one),  # type: ignore[arg-type]
            lambda: scene.stream.read_into(bytearray(8), peek=one),  # type: ignore[arg-type]
        ]
    else:
        calls = [
            lambda: functions["read_into"](handle, one, 0, None, False),
            lambda: functions["write"](handle, one, 0, None),
            lambda: functions["write_all"](handle, one, 0, 0),
            lambda: functions["write_many"]([(scene.stream, b"first"), (scene.stream, one)], StreamSocket),
            lambda: scene.stream.read_into(one),
            lambda: scene.stream.write(one),
        ]
    for call in calls:
        asked = 0
        with pytest.raises(KeyboardInterrupt):
            call()
        assert asked == 1
    assert scene.unread() == call_cases.UNREAD
    assert scene.written() == [b"", b""]


@needs_cpython
def test_receive_messages_makes_the_sets_before_it_receives(scene: Scene) -> None:
    functions = call_cases.built_in_functions()
    arguments = call_cases.good(scene)["receive_messages_of_many"]
    scene.begin(call_cases.MESSAGES)
    reported = [int(events) for _, events in scene.message_poller.wait_for_events(0)]
    assert len(set(reported)) == 2
    for missing in reported:
        sets = call_cases.FailingSets({number: Events(number) for number in reported if number != missing})
        with pytest.raises(call_cases.Refusal):
            functions["receive_messages_of_many"](*arguments[:2], sets, *arguments[3:])
    assert scene.unread() == call_cases.MESSAGES


@needs_cpython
def test_receive_makes_the_sets_before_it_reads(scene: Scene) -> None:
    """A new set is made by Python code, which a signal's handler can interrupt: the exception was forgotten once
    something had been read.
    """
    functions = call_cases.built_in_functions()
    arguments = call_cases.good(scene)["receive"]
    reported = [int(events) for _, events in scene.poller.wait_for_events(0)]
    assert len(set(reported)) == 2
    for missing in reported:
        sets = call_cases.FailingSets({number: Events(number) for number in reported if number != missing})
        with pytest.raises(call_cases.Refusal):
            functions["receive"](*arguments[:2], sets, *arguments[3:])
    assert scene.unread() == call_cases.UNREAD


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write_all", "write_many", "read", "peek", "read_into", "peek_into", "read_exactly"]),
        st.booleans(),
        st.integers(1, 70_000) | st.integers(1, 20),
        st.integers(0, 10),
    ),
    max_size=30,
)


a_few = settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@needs_cpython
@given(STEPS)
@a_few
@pytest.mark.parametrize("transport", ["local"], indirect=True)
def test_the_layers_take_turns_with_one_connection(
    transport: Transport, steps: list[tuple[str, bool, int, int]]
) -> None:
    """Against a model: the bytes that are on their way are those of a pattern, from one place to another."""
    one, other = transport.pair()
    layers = call_cases.built_in_functions(), call_cases.references()
    pattern = Pattern(7)
    written = read = 0
    for name, by_reference, size, offset in steps:
        call = layers[by_reference]
        if name in ("write", "write_all", "write_many"):
            data = bytes(offset) + pattern.at(written, size) + bytes(offset)
            if name == "write":
                taken = call["write"](one._handle, bytearray(data), offset, offset + size)
            elif name == "write_all":
                taken = call["write_all"](one._handle, data[: offset + size], offset, 0)
            else:
                unfinished = call["write_many"]([(one, memoryview(data)[offset : offset + size])], StreamSocket)
                taken = unfinished[0][1] if unfinished else size
            assert 0 <= taken <= size
            # Only a full buffer takes less. The system decides when a buffer is full.
            assert taken == size or written - read + taken > 0
            written += taken
            continue
        there = written - read
        if there:
            assert by_ctypes.poll_socket(other._handle, int(Events.DATA_AVAILABLE), 20_000_000_000, 0)
        peek = name in ("peek", "peek_into")
        if name in ("read", "peek"):
            data = call["read"](other._handle, size, peek)
        elif name == "read_exactly":
            data = call["read_exactly"](other._handle, size, 0)
        else:
            buffer = bytearray(offset + size + offset)
            count = call["read_into"](other._handle, buffer, offset, offset + size, peek)
            assert bytes(buffer[:offset]) == bytes(offset)
            assert bytes(buffer[offset + count :]) == bytes(offset + size - count)
            data = bytes(buffer[offset : offset + count])
        assert isinstance(data, bytes)
        assert data == pattern.at(read, len(data))
        assert min(there, 1) <= len(data) <= min(size, there)
        read += 0 if peek else len(data)
    one.close()
    other.close()


MESSAGE_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send_several", "send_to_many", "receive", "receive_messages", "read"]),
        st.booleans(),
        st.lists(st.integers(0, 20) | st.integers(0, 9_000), max_size=4),
    ),
    max_size=30,
)


@needs_cpython
@given(MESSAGE_STEPS)
@a_few
@pytest.mark.parametrize("transport", ["local"], indirect=True)
def test_the_layers_take_turns_with_messages(transport: Transport, steps: list[tuple[str, bool, list[int]]]) -> None:
    """Against a model: the list of the messages that are on their way."""
    one, other = transport.pair()
    layers = call_cases.built_in_functions(), call_cases.references()
    on_their_way: list[bytes] = []
    pattern = Pattern(7)
    for name, by_reference, sizes in steps:
        call = layers[by_reference]
        messages = [pattern.at(size, size) for size in sizes]
        if name.startswith("send"):
            if name == "send_to_many":
                untaken = call["send_messages_to_many"]([(one, data) for data in messages], StreamSocket)
                taken = len(messages) - len(untaken)
                assert untaken == [(place, 0) for place in range(taken, len(messages))]
            else:
                del messages[1 if name == "send" else 4 :]
                result = call["send_messages"](one._handle, messages, 0, 0)
                taken = result >> 1
            on_their_way += messages[:taken]
        elif name == "receive":
            result = call["receive_message"](other._handle, 0)
            if isinstance(result, list):
                assert result == [on_their_way.pop(0)]
            else:
                # What is left may be the beginning of the last.
                assert result == 0
                assert len(on_their_way) <= 1
        elif name == "receive_messages":
            result = call["receive_messages"](other._handle, len(sizes))
            assert result == on_their_way[: len(result)]
            assert not sizes or len(result) <= len(sizes)
            del on_their_way[: len(result)]
        elif on_their_way:
            # Bytes of the next one, and then the others, in their form.
            size = 4 + len(on_their_way[0])
            data = call["read_exactly"](other._handle, size, 0)
            if len(data) == size:
                assert data == call_cases.framed(on_their_way.pop(0))
            else:
                break
    one.abort()
    other.close()
