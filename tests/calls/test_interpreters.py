"""The package in several interpreters of one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import bbipc
from layers import needs_built_in_methods, needs_cpython
from peer import run_program

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
