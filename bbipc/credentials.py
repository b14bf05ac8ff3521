"""Who is at the other end of a local stream."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class _Fields(NamedTuple):
        user_id: int | None
        group_id: int | None
        process_id: int | None
        security_id: str | None

else:
    # The import of typing would take as long as that of the whole package.
    _Fields = namedtuple("_Fields", "user_id group_id process_id security_id")  # noqa: PYI024


class PeerCredentials(_Fields):
    """Who is at the other end of a local stream: :meth:`LocalStream.peer_credentials` tells it.

    A named tuple. What the system does not tell is ``None``:

    ================  ==============  =================  ============  =========
    field             Linux           macOS              FreeBSD       Windows
    ================  ==============  =================  ============  =========
    ``user_id``       yes             yes                yes           ``None``
    ``group_id``      yes             yes                yes           ``None``
    ``process_id``    yes             until the peer     13 and later  yes
                                      closes
    ``security_id``   ``None``        ``None``           ``None``      often
    ================  ==============  =================  ============  =========

    ``user_id`` and ``group_id`` are the effective ones. macOS does not tell those of a pair
    (:func:`make_stream_pair`). ``process_id`` is ``None`` on Linux for a process that this one
    can't see, of another container for example. ``security_id`` is the SID of the user that runs the process, as text:
    ``"S-1-5-18"``. It is ``None`` where this process may not ask, which is usual for another user's process.
    """

    __slots__ = ()
