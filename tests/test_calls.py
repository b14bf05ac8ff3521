"""The two layers between the classes and the native library: they can't be told apart, and leave nothing behind."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bbipc
import call_cases
from bbipc import Events, StreamSocket, sockets
from bbipc._native import by_cpython, by_ctypes, declarations, waiting
from bbipc._native import calls as native_calls
from call_cases import METHODS, METHODS_ARE_BUILT_IN, Case, Scene
from conftest import PATIENCE, WINDOWS, Transport
from patience import QEMU
from peer import Pattern, run_program
from processes import TESTS
from systems import LIBRARY
from threads import Failing

CPYTHON = sys.implementation.name == "cpython"
needs_cpython = pytest.mark.skipif(not CPYTHON, reason="there are built-in functions for CPython only")
needs_built_in_methods = pytest.mark.skipif(not METHODS_ARE_BUILT_IN, reason="BBIPC_CALLS asks for ctypes")
needs_gil = pytest.mark.skipif(not CPYTHON or not call_cases.HAS_GIL, reason="this Python has no GIL of CPython's")

#: Built-in functions, and the methods if they are.
NAMES = [*by_cpython.function_names(), *(METHODS if METHODS_ARE_BUILT_IN else [])]


@pytest.fixture
def scene() -> Iterator[Scene]:
    with contextlib.closing(Scene()) as made:
        yield made


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


#: A Python without the functions that C extensions call: what stands for it finds nothing but itself.
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
    for name in ("", "accept_connection", "rea", "read_"):
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
    assert built_in.__qualname__ == in_python.__qualname__ == name
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


# ---- What is left behind ----


@needs_cpython
def test_every_built_in_function_and_method_has_cases(scene: Scene) -> None:
    assert {case.name for case in call_cases.cases_of(scene)} == set(NAMES)


@needs_cpython
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_no_call_leaves_a_reference_or_memory_behind(scene: Scene, name: str) -> None:
    found = call_cases.leaking_cases(scene, call_cases.built_in_functions(), [name])
    assert not found, "\n".join(found)


@needs_cpython
def test_what_is_left_behind_is_noticed() -> None:
    import ctypes

    kept: list[object] = []
    argument, shared = object(), object()
    case = Case("none", (argument, [shared]))
    watched = call_cases.watched_objects(case)

    def take_reference(one: object) -> None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))

    def drop_reference(one: object) -> None:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(one))

    assert call_cases.left_behind(lambda: None, watched) == ""
    for one in (argument, shared):
        found = call_cases.left_behind(lambda one=one: take_reference(one), watched)  # type: ignore[misc]
        assert f"references to {one!r}" in found
        # One too few ends in a crash, if it is not noticed before.
        for _ in range(4000):
            take_reference(one)
        found = call_cases.left_behind(lambda one=one: drop_reference(one), watched)  # type: ignore[misc]
        assert f"-{16 * call_cases.FACTORS[-1]} references to {one!r}" in found
    found = call_cases.left_behind(lambda: kept.append(object()), watched)
    assert "blocks" in found


def debug_python() -> str:
    """A debug build of CPython, which counts all references."""
    found = shutil.which("python3-dbg")
    if found is None:
        pytest.skip("there is no python3-dbg, Debian's debug build of Python")
    look = "import sys; sys.gettotalrefcount(); print(sys.version_info >= (3, 9))"
    checked = subprocess.run([found, "-c", look], capture_output=True, text=True)
    if checked.stdout != "True\n":
        pytest.skip(f"python3-dbg is no debug build of Python 3.9 or later: {checked.stderr or checked.stdout}")
    return found


def run_cases(python: str, what: str, **environment: str) -> None:
    """call_cases.py as a program."""
    paths = os.pathsep.join([str(Path(bbipc.__file__).resolve().parent.parent), str(TESTS)])
    result = subprocess.run(
        [python, "-W", "error", str(TESTS / "call_cases.py"), what],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.long
@needs_cpython
@pytest.mark.skipif(QEMU, reason="the debug build is of another processor than this Python")
@pytest.mark.timeout(120)
def test_a_debug_build_finds_no_reference_left_behind() -> None:
    """It counts those to all objects, and checks what it is asked to do."""
    run_cases(debug_python(), "references", BBIPC_CALLS="cpython")


@pytest.fixture
def failing_memory() -> None:
    pytest.importorskip("_testcapi", reason="only CPython's own tests have what makes allocations fail")


@needs_cpython
@pytest.mark.usefixtures("failing_memory")
def test_calls_without_memory_fail_and_lose_no_byte() -> None:
    run_cases(sys.executable, "memory", BBIPC_CALLS="cpython")


@needs_cpython
@pytest.mark.usefixtures("failing_memory")
def test_receive_without_memory_does_not_lose_what_many_streams_had() -> None:
    """It was lost with the list, which there was no memory to make smaller, or with what one stream had."""
    run_cases(sys.executable, "receive", BBIPC_CALLS="cpython")


@needs_cpython
@pytest.mark.skipif(QEMU, reason="the debug build is of another processor than this Python")
def test_a_debug_build_finds_nothing_wrong_in_calls_without_memory() -> None:
    """Python was called with an exception pending, for what a stream had been read was lost without one."""
    python = debug_python()
    if subprocess.run([python, "-c", "import _testcapi"], capture_output=True).returncode:
        pytest.skip("python3-dbg lacks _testcapi, which only CPython's own tests need")
    run_cases(python, "memory", BBIPC_CALLS="cpython")


# ---- Both layers do the same ----


@needs_cpython
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_a_call_ends_in_the_same_way_as_the_reference(scene: Scene, name: str) -> None:
    """What it returns, or raises with which text; and what it does to streams and buffers."""
    if WINDOWS and "write" in name:
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
            end = call_cases.outcome(one, case)
            arguments = (*case.arguments, *case.keywords.values())
            buffers = [bytes(argument) for argument in arguments if isinstance(argument, bytearray)]
            ends.append((end, scene.unread(), scene.written(), buffers))
        assert ends[0] == ends[1], str(case)
    assert count > 3


def native_number(name: str) -> int:
    """A constant of the built-in functions."""
    source = (Path(__file__).resolve().parent.parent / "native" / "cpython" / "bounds.zig").read_text(encoding="utf-8")
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
    assert native_number("read_max") == sockets._CHUNK_MAX
    assert native_number("first_slice_ns") == waiting._FIRST_SLICE_NS
    assert native_number("max_bytes_default") == default_of("Poller.receive") == default_of("StreamSocket.read")


@needs_cpython
@pytest.mark.parametrize("name", by_cpython.function_names())
def test_built_in_functions_take_no_keywords(scene: Scene, name: str) -> None:
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        call_cases.built_in_functions()[name](*call_cases.good(scene)[name], more=1)


@needs_cpython
@pytest.mark.parametrize("where", ["__bool__", "__buffer__"])
def test_ctrl_c_in_an_arguments_own_code_is_not_forgotten(scene: Scene, where: str) -> None:
    """The reference was called instead, and asked the argument once more."""
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


@needs_cpython
@given(STEPS)
@settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
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
            # Only a full buffer takes less. What one is has to be left to the system.
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


# ---- Interpreters ----

SUBINTERPRETERS = """
import sys

# Since Python 3.13, and before.
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def make():
    # One that shares the GIL: ctypes loads in no other before 3.13.
    if sys.version_info >= (3, 13):
        return interpreters.create("legacy")
    if sys.version_info >= (3, 9):
        return interpreters.create(isolated=False)
    return interpreters.create()

USE = '''
import gc, sys
sys.path[:0] = %r
import bbipc
from bbipc import Events
assert bbipc.calling_layer() == %r
with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as server:
    one = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port)
    bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 20)
    other = server.accept_connection()
with one, other, bbipc.make_poller() as poller:
    poller.monitor_socket(other, Events.DATA_AVAILABLE | Events.END_OF_DATA)
    one.write_all(b"12345678" * 1000)
    assert other.read_exactly(8, 20) == b"12345678"
    place = bytearray(8)
    assert other.read_into(place) == 8 and place == b"12345678"
    assert other.read_into(place, peek=True) == 8
    ((reported, events, data),) = poller.receive(20, 8)
    assert (reported, data, events) == (other, b"12345678", Events.DATA_AVAILABLE)
    assert poller.wait_for_events(20) == [(other, Events.DATA_AVAILABLE)]
    assert bbipc.write_many([(one, b"x"), (other, b"y")]) == []
    for wrong in (lambda: one.write("text"), lambda: one.write(b"", 1), lambda: bbipc.write_many([(one, 5)])):
        try:
            wrong()
            raise AssertionError
        except (TypeError, ValueError):
            pass
    one.close()
    try:
        one.write(b"x")
        raise AssertionError
    except bbipc.SocketClosedError:
        pass
gc.collect()
''' % (sys.argv[2:], sys.argv[1])

def use(interpreter):
    failure = interpreters.run_string(interpreter, USE)
    assert failure is None, failure
"""


@needs_cpython
@pytest.mark.parametrize("main", ["first", "last", "never"])
@pytest.mark.parametrize("ends", [[0, 1], [1, 0], []])
def test_subinterpreters_use_the_package_and_end_in_any_order(main: str, ends: list[int]) -> None:
    run_program(
        SUBINTERPRETERS
        + f"""
main, ends = {main!r}, {ends!r}
if main == "first":
    exec(USE, {{}})
made = [make(), make()]
for number in (0, 1, 0):
    use(made[number])
for number in ends:
    interpreters.destroy(made[number])
    if main != "never":
        exec(USE, {{}})
    if number == ends[0]:
        use(made[ends[1]])
if main == "last":
    exec(USE, {{}})
""",
        bbipc.calling_layer(),
        Path(bbipc.__file__).resolve().parent.parent,
        *sys.path,
        # Python 3.14 says so of those that a program leaves behind.
        options=("-W", "ignore:remaining subinterpreters:RuntimeWarning"),
    )


@needs_built_in_methods
def test_a_subinterpreter_has_the_methods_in_python() -> None:
    """Built-in ones would refer to the main interpreter's objects."""
    run_program(
        SUBINTERPRETERS
        + """
import inspect
import bbipc
assert not inspect.isfunction(bbipc.StreamSocket.write)
made = make()
use(made)
failure = interpreters.run_string(made, "import bbipc, inspect; assert inspect.isfunction(bbipc.StreamSocket.write)")
assert failure is None, failure
interpreters.destroy(made)
""",
        bbipc.calling_layer(),
        Path(bbipc.__file__).resolve().parent.parent,
        *sys.path,
    )


# ---- Threads ----


@needs_cpython
def test_built_in_functions_in_many_threads(transport: Transport) -> None:
    """Each with a stream of its own, and all with one poller and one list of items."""
    pairs = [transport.pair() for _ in range(8)]
    functions = call_cases.built_in_functions()
    errors: list[BaseException] = []
    begin = threading.Barrier(len(pairs))
    sets = call_cases.SETS
    with bbipc.make_poller() as poller:
        for one, _ in pairs:
            poller.monitor_socket(one, Events.WRITE_SPACE)

        def work(place: int) -> None:
            one, other = pairs[place]
            pattern = Pattern(place)
            buffer = bytearray(1000)
            read = 0
            try:
                begin.wait(PATIENCE)
                for turn in range(150):
                    position = turn * 1000
                    data = pattern.at(position, 1000)
                    assert functions["write"](one._handle, data, 0, 300) == 300
                    assert functions["write_many"]([(one, memoryview(data)[300:])], StreamSocket) == []
                    reports = functions["wait_for_events"](poller._handle, poller._sockets, sets, 0, 0)
                    assert all(socket in dict(pairs) and events == Events.WRITE_SPACE for socket, events in reports)
                    while read < position + 1000:
                        if turn % 2:
                            got = functions["read_exactly"](other._handle, position + 1000 - read, -1)
                        else:
                            count = functions["read_into"](other._handle, buffer, 0, None, False)
                            got = bytes(buffer[:count])
                        assert got == pattern.at(read, len(got))
                        read += len(got)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(len(pairs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert not errors, errors


EXIT_WHILE_WAITING = """
import contextlib, os, sys, threading, time
sys.path.insert(0, sys.argv[1])
import bbipc
from bbipc import Events
from peer import until_asleep

server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port)
bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 20)
remote = server.accept_connection()
poller = bbipc.make_poller()
poller.monitor_socket(stream, Events.DATA_AVAILABLE)
much, into = bytes(100_000), bytearray(100_000)

def copy():
    while True:
        stream.write(much)
        remote.read_into(into)

name, when = sys.argv[2:]
waits = {
    "poll_socket": lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE),
    "wait_for_events": poller.wait_for_events,
    "receive": poller.receive,
    "read_exactly": lambda: stream.read_exactly(1),
    "write_all": lambda: stream.write_all(bytes(64 << 20)),
    "copies": copy,
}

def work():
    # The remote end may go while Python still runs.
    with contextlib.suppress(bbipc.BbipcError):
        waits[name]()

thread = threading.Thread(target=work, daemon=True)
thread.start()
if name != "copies":
    until_asleep(os.getpid(), thread.native_id)

class Last:
    # Of what Python takes down last: the wait ends when there is no interpreter to come back to.
    def __init__(self, descriptor):
        self._descriptor = descriptor

    def __del__(self, read=os.read, write=os.write, sleep=time.sleep, reads=name == "write_all"):
        if reads:
            for _ in range(20):
                try:
                    read(self._descriptor, 1 << 20)
                except BlockingIOError:
                    # Faster than the thread writes.
                    sleep(0.001)
        else:
            write(self._descriptor, b"!")
        # No event tells of a thread that Python ends, or holds for ever.
        sleep(0.02)

if when == "after":
    last = Last(os.dup(remote.fileno()))
elif when == "before":
    remote.close()
"""


@pytest.mark.parametrize(
    "when", ["never", "before", pytest.param("after", marks=pytest.mark.skipif(WINDOWS, reason="sockets are no files"))]
)
@pytest.mark.parametrize("name", ["poll_socket", "wait_for_events", "receive", "read_exactly", "write_all", "copies"])
def test_a_program_ends_while_a_daemon_thread_is_in_a_call(name: str, when: str) -> None:
    """And that thread's wait ends never, shortly before the interpreter does, or after."""
    if not CPYTHON and when == "after":
        pytest.skip("only CPython tells when it takes down what")
    # What the thread may tell of, whose stream is closed under it.
    run_program(EXIT_WHILE_WAITING, TESTS, name, when, options=["-W", "ignore::ResourceWarning"])


@pytest.mark.skipif(bbipc.calling_layer() != "cpython", reason="by ctypes all methods are in Python")
def test_keywords_are_for_the_built_in_methods(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods in Python, which are for unusual arguments, take four times as long."""
    for kind in (StreamSocket, bbipc.Poller):
        for name in by_cpython.method_names(kind):
            monkeypatch.setattr(kind, f"_python_{name}", None)
    stream, remote = scene.stream, scene.remote
    scene.unread()
    buffer = bytearray(8)
    remote.write_all(data=b"abcdefgh", timeout=PATIENCE)
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        assert poller.wait_for_events(timeout=PATIENCE) == [(stream, Events.DATA_AVAILABLE)]
        assert poller.receive(max_bytes=1, timeout=PATIENCE) == [(stream, Events.DATA_AVAILABLE, b"a")]
        assert poller.receive(PATIENCE, max_bytes=1) == [(stream, Events.DATA_AVAILABLE, b"b")]
    assert stream.read_into(end=2, buffer=buffer, peek=True) == 2
    assert stream.read_into(buffer, end=4, start=3) == 1
    assert buffer == b"cd\0c\0\0\0\0"
    assert stream.read(peek=True, max_bytes=2) == b"de"
    assert stream.read(max_bytes=2) == b"de"
    assert stream.read_exactly(timeout=PATIENCE, size=3) == b"fgh"
    assert remote.write(data=b"abc", start=1, end=2) == 1
    assert stream.read_exactly(1, timeout=PATIENCE) == b"b"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="buffers by Python code are of Python 3.12")
def test_what_a_signals_handler_raises_amid_an_arguments_code_comes_out(scene: Scene) -> None:
    class InterruptionError(Exception):
        pass

    class Lender:
        asked = 0

        def __buffer__(self, _flags: int) -> memoryview:
            self.asked += 1
            if self.asked == 1:
                raise InterruptionError
            return memoryview(b"data")

    for call in (scene.stream.write, scene.stream.write_all):
        lender = Lender()
        with pytest.raises(InterruptionError):
            call(lender)
        assert lender.asked == 1


def test_what_one_thread_reads_into_serves_another(scene: Scene) -> None:
    """Without a GIL, only the thread that made an object can change its size."""
    stream, remote = scene.stream, scene.remote
    scene.unread()
    for size in (1, 8192, 8193, 60_000, 65536, 1, 60_000):
        for max_bytes in (65536, 1 << 20):
            sent = os.urandom(size)
            remote.write_all(sent, PATIENCE)
            parts: list[bytes] = []

            def read(parts: list[bytes] = parts, size: int = size, max_bytes: int = max_bytes) -> None:
                while sum(map(len, parts)) < size:
                    bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
                    parts.append(stream.read(max_bytes))

            Failing(read).join()
            assert b"".join(parts) == sent


class Counter:
    """A thread that counts how often it gets the GIL. None asks for the GIL meanwhile: who has it gives it, or not."""

    def __init__(self) -> None:
        self._over = False
        self.count = 0
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        pause = threading.Event()
        while not self._over:
            self.count += 1
            # Lets go of the GIL, for no longer than it takes to want it again.
            pause.wait(1e-6)

    def close(self) -> None:
        self._over = True
        self._thread.join(PATIENCE)
        sys.setswitchinterval(self._interval)

    def turns_during(self, call: Callable[[], object], times: int) -> int:
        """How often the thread ran during so many calls."""
        before = self.count
        for _ in itertools.repeat(None, times):
            call()
        return self.count - before


@pytest.fixture
def counter() -> Iterator[Counter]:
    with contextlib.closing(Counter()) as made:
        yield made


def short_calls(scene: Scene) -> dict[str, Callable[[], object]]:
    arguments = call_cases.good(scene)
    stream = scene.stream
    calls: dict[str, Callable[[], object]] = {}
    for name in by_cpython.function_names():
        calls[name] = lambda name=name: getattr(native_calls, name)(*arguments[name])  # type: ignore[misc]
    # They go through the release of the GIL if they wait for more than is there.
    del calls["read_exactly"], calls["write_all"]
    buffer = bytearray(8)
    calls["StreamSocket.write"] = lambda: stream.write(b"12345678")
    calls["StreamSocket.read_into"] = lambda: stream.read_into(buffer)
    calls["StreamSocket.read"] = lambda: stream.read(8)
    calls["poll_sockets"] = lambda: bbipc.poll_sockets([stream, scene.remote], Events.READY_TO_WRITE, 0)
    return calls


@needs_gil
def test_a_short_call_keeps_the_gil(scene: Scene, counter: Counter) -> None:
    for name, call in short_calls(scene).items():
        # Once for what is made once.
        call()
        assert counter.turns_during(call, 100) == 0, name
        scene.begin()


@needs_gil
@pytest.mark.skipif(bbipc.calling_layer() != "cpython", reason="by ctypes these always release it")
def test_what_ends_at_once_keeps_the_gil(scene: Scene, counter: Counter) -> None:
    stream, remote = scene.stream, scene.remote

    def exchange() -> None:
        remote.write(b"12345678")
        stream.read_exactly(8)
        stream.write_all(b"12345678")
        remote.read(8)

    scene.unread()
    exchange()
    assert counter.turns_during(exchange, 100) == 0


def long_calls(scene: Scene) -> dict[str, Callable[[], object]]:
    stream, remote, full, poller = scene.stream, scene.remote, scene.full, scene.poller
    much, into = bytes(100_000), bytearray(100_000)
    poller.set_monitored_events(stream, Events())
    poller.unmonitor_socket(scene.ended)
    # As little as what a wait returns at once for, which is not known before.
    brief = 0.0001

    def copy_much() -> None:
        stream.write(much)
        remote.read_into(into)

    def read_much() -> None:
        remote.write(much)
        stream.read(1 << 20)

    def receive_much() -> None:
        stream.write(much)
        assert remote.read(65536)
        remote.read()

    def write_much_to_many() -> None:
        # Each is little, all together are much.
        bbipc.write_many([(stream, bytes(30_000))] * 4)
        remote.read_into(bytearray(200_000))

    def write_one_large_item() -> None:
        bbipc.write_many([(stream, much)])
        remote.read_into(into)

    def read_in_vain() -> None:
        with contextlib.suppress(bbipc.TimeoutError):
            scene.other.read_exactly(1, brief)

    def write_in_vain() -> None:
        with contextlib.suppress(bbipc.TimeoutError):
            full.write_all(b"x", brief)

    return {
        "poll_socket": lambda: bbipc.poll_socket(scene.other, Events.DATA_AVAILABLE, brief),
        "wait_for_events": lambda: poller.wait_for_events(brief),
        "receive": lambda: poller.receive(brief),
        "read_exactly": read_in_vain,
        "write_all": write_in_vain,
        "read_into and write": copy_much,
        "read": read_much,
        "write_many": write_much_to_many,
        "write_many of a large item": write_one_large_item,
    }


@needs_gil
def test_waits_and_large_copies_let_go_of_the_gil(scene: Scene, counter: Counter) -> None:
    for name, call in long_calls(scene).items():
        # The system chooses who goes on; but not always the same.
        over = time.perf_counter() + PATIENCE
        while not (turns := counter.turns_during(call, 10)) and time.perf_counter() < over:
            pass
        assert turns > 0, name
