"""How a program ends, whatever is open then."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from peer import run_program
from systems import BACKENDS

OPEN_EVERYTHING = """
import sys, threading
import bbipc
from bbipc import Events

server = bbipc.make_local_server(sys.argv[1])
tcp_server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
stream = bbipc.connect_to_local_server(sys.argv[1])
accepted = server.accept_connection()
tcp_stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", tcp_server.port)
poller = bbipc.make_poller()
poller.monitor_socket(stream, Events.DATA_AVAILABLE)
everything = [server, tcp_server, stream, accepted, tcp_stream, poller]
"""

#: So that each is emptied, the last one first, and not freed: the program's, where everything is, after the package's.
KEEP_MODULES = "sys.kept = [*sys.modules.values()]"

#: What a program does last, and whether anything is left open then.
ENDINGS = {
    "all closed": ("for one in everything: one.close()", False),
    "globals": ("pass", True),
    "in a module that goes late": ("import builtins; builtins.kept = everything; sys.kept = everything", True),
    "after the modules": (KEEP_MODULES, True),
    "all closed, after the modules": (f"for one in everything: one.close()\n{KEEP_MODULES}", False),
    # Without a GIL, this alone keeps what a program has for longer than what its modules have.
    "a thread that has ended": (
        """
        thread = threading.Thread(target=everything.reverse)
        thread.start()
        thread.join()
        """,
        True,
    ),
    "in a cycle": ("everything.append(everything); del server, stream, accepted, tcp_server, tcp_stream, poller", True),
    "closed at exit": (
        """
        import atexit
        atexit.register(lambda: [one.close() for one in everything])
        """,
        False,
    ),
    "an exit in the middle": ("sys.exit(0)", True),
    "threads that wait": (
        """
        waits = [
            lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE),
            lambda: bbipc.poll_sockets([stream] * 40, Events.DATA_AVAILABLE),
            poller.wait_for_events,
            lambda: stream.read_exactly(1),
            lambda: accepted.write_all(bytes(1 << 24)),
        ]
        for wait in waits:
            threading.Thread(target=wait, daemon=True).start()
        """,
        True,
    ),
    "threads that call": (
        """
        def call():
            while True:
                poller.wait_for_events(0.0001)
                with bbipc.make_poller(sys.argv[2]) as own:
                    own.monitor_socket(accepted, Events.WRITE_SPACE)
                    own.wait_for_events()
                stream.write(b"!")
                accepted.read()

        for _ in range(3):
            threading.Thread(target=call, daemon=True).start()
        bbipc.poll_sockets([], [], 0.05)
        """,
        True,
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends_well_whatever_is_open(directory: Path, name: str) -> None:
    """No crash, no hang, and not a word: these warnings are off by default."""
    ending, leaves_open = ENDINGS[name]
    for number in range(3 if "threads" in name else 1):
        run_program(OPEN_EVERYTHING + textwrap.dedent(ending), directory / str(number), BACKENDS[-1])
    if not leaves_open:
        # There is nothing to warn of either.
        arguments = (directory / "server", BACKENDS[-1])
        run_program(OPEN_EVERYTHING + textwrap.dedent(ending), *arguments, options=("-X", "dev"))
        assert not (directory / "server").exists()
