"""A poller's descriptor as another loop watches it: what is readable and what a wait reports go together."""

from __future__ import annotations

import select
import time
import weakref

from bbipc import Events, Poller, Socket

#: Seconds between two looks for what no kernel tells, and a little less.
LOOKS_INTERVAL = 0.045
#: How often in a row the descriptor may be readable for what has passed.
PASSED_MAX = 3
#: How often while a call waits: the rest of a large message goes in pieces.
PIECES_MAX = 1000

#: A loop asks for the descriptor once. Another call of fileno() would put right what was not told.
_numbers: weakref.WeakKeyDictionary[Poller, int] = weakref.WeakKeyDictionary()


def is_readable(poller: Poller, timeout: float = 0) -> bool:
    """Whether the poller's descriptor is, now or within a time (seconds). By poll(2), whose numbers have no limit."""
    if poller not in _numbers:
        _numbers[poller] = poller.fileno()
    waiting = select.poll()
    waiting.register(_numbers[poller], select.POLLIN)
    return bool(waiting.poll(timeout * 1000))


def reports(poller: Poller, timeout: float) -> list[tuple[Socket, Events]]:
    """What a loop hears that watches the descriptor, and calls when it is readable. It neither misses nor spins."""
    began = time.perf_counter()
    in_vain = 0
    in_vain_max = PIECES_MAX if timeout else PASSED_MAX
    while True:
        left = max(began + timeout - time.perf_counter(), 0)
        was_readable = is_readable(poller, left)
        reported = poller.wait_for_events(0)
        if reported:
            assert was_readable, f"the descriptor did not tell of {reported}"
            return reported
        if not was_readable:
            return []
        in_vain += 1
        looks = (time.perf_counter() - began) / LOOKS_INTERVAL
        assert in_vain <= in_vain_max + looks, "the descriptor is readable again and again, and nothing is reported"


def is_quiet(poller: Poller) -> bool:
    """Whether nothing is reported, and the descriptor says so."""
    return not reports(poller, 0) and not is_readable(poller)
