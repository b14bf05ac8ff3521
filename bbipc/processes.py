"""Parents and children: a program that is started with a stream to its parent.

On POSIX systems the child inherits a descriptor. On Windows it connects to a pipe, since what starts there need not be
the child: the ``python.exe`` of a virtual environment is a launcher, and starts another.
"""

from __future__ import annotations

import errno
import os
import sys

from ._native import calls
from .errors import SocketError, failure_error
from .local import LocalStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from typing import Any

#: Tells the child where its stream is.
_VARIABLE = "BBIPC_PARENT"

#: The one ticket for connect_to_parent(). A list's pop() is one step, among threads too.
_tickets = [None]


def start_process(arguments: str | Sequence[str], **popen: Any) -> tuple[subprocess.Popen[Any], LocalStream]:
    """Starts a program with a stream to this one. The program has its end from :func:`connect_to_parent`.

    The stream ends when the child does, however it does, and the child's when this process does. Nothing else is
    inherited than with ``subprocess``, and no other child of this process gets the stream; but a process that a thread
    makes by ``os.fork`` has a copy of it. Close the stream, and wait for the process (``Popen.wait``).

    On POSIX systems the stream stands at once: what is written waits for the child. On Windows it stands when the child
    has connected: until then ``DETERMINED`` does not hold and :meth:`~StreamSocket.write` takes nothing, as while a TCP
    connection is being established. A child that ends without having connected ends the stream too.

    :param arguments: as for ``subprocess.Popen``. What starts may start the child in turn, as a shell or a launcher do,
        if it hands on descriptors and the environment.
    :param popen: the other arguments of ``subprocess.Popen``, by their names. ``pass_fds`` and ``env`` are added to.
    :returns: the process, and this end of the stream, whose pathname is empty.
    :raises OSError: as ``subprocess.Popen`` does, ``FileNotFoundError`` for example. Nothing is left open then.
    :raises ValueError: for ``close_fds=False`` on POSIX systems: ``subprocess`` hands no descriptor on with it.
    :raises SocketError: if the system refuses the stream: ``EMFILE``.
    """
    return _start(arguments, popen)


def connect_to_parent() -> LocalStream:
    """The stream to the program that has started this one by :func:`start_process`. To be called once.

    The environment variable that tells of it, ``BBIPC_PARENT``, is removed: it means nothing to the children of this
    process.

    :raises SocketError: ``ENOTCONN`` in a process that was not started so, or whose parent has gone (on Windows), or
        where a program between the two has closed the descriptor; ``EALREADY`` if it was called before, whether it
        failed then or not; ``EACCES`` on Windows if another program has the parent's pipe.
    """
    value = os.environ.get(_VARIABLE)
    if value is None and _tickets:
        raise _refusal(errno.ENOTCONN, "this process was not started by bbipc.start_process(); start it so")
    try:
        _tickets.pop()
    except IndexError:
        why = "connect_to_parent() was called before, and gives the stream once; keep what it returned"
        raise _refusal(errno.EALREADY, why) from None
    os.environ.pop(_VARIABLE, None)
    assert value is not None
    return _connect(value)


def _refusal(number: int, why: str) -> SocketError:
    return SocketError(number, f"cannot connect to the parent: {why}")


def _environment(given: Any, value: str) -> dict[Any, Any]:
    environment = {**(os.environ if given is None else given), _VARIABLE: value}
    # As in a copy of os.environb. The child would see the one that stands first.
    environment.pop(_VARIABLE.encode(), None)
    return environment


if sys.platform == "win32":
    import time

    from ._native.waiting import BEGINNING
    from .events import Events
    from .local import connect_to_local_server
    from .patience import Patience

    #: Bytes of each secret: what the child says, and what it hears.
    _WORD_SIZE = 32
    #: Seconds. A thread of the library answers at once.
    _ANSWER_MAX = 30.0
    #: Seconds between two looks at a child that has not connected yet.
    _LOOK_AGAIN = 0.1
    #: Seconds. Programs that look at all pipes have this one for a moment too.
    _BUSY_MAX = 5.0

    def _start(arguments: str | Sequence[str], popen: dict[str, Any]) -> tuple[subprocess.Popen[Any], LocalStream]:
        import subprocess
        import threading

        name, words = f"\\\\.\\pipe\\bbipc-child-{os.urandom(16).hex()}", os.urandom(2 * _WORD_SIZE)
        stream = calls.make_stream_for_client(name.encode("ascii"), words, LocalStream)
        if isinstance(stream, int):
            raise failure_error(stream, "make a stream for a child")
        stream._local_pathname = ""
        process = None
        try:
            environment = _environment(popen.pop("env", None), f"{name} {words.hex()}")
            process = subprocess.Popen(arguments, env=environment, **popen)
            # Not the stream itself, which a program may drop.
            watched = (process, stream._handle, name, words)
            threading.Thread(target=_watch_until_connected, args=watched, daemon=True).start()
        except BaseException:
            stream.close()
            if process is not None:
                process.kill()
            raise
        return process, stream

    def _watch_until_connected(process: subprocess.Popen[Any], handle: int, name: str, words: bytes) -> None:
        """Ends the stream of a child that ends before it has connected: nobody else would."""
        import subprocess

        while calls.poll_socket(handle, int(Events.DETERMINED), 0, BEGINNING) == 0:
            try:
                process.wait(_LOOK_AGAIN)
            except subprocess.TimeoutExpired:
                continue
            try:
                with connect_to_local_server(name) as stream:
                    stream.write_all(words[:_WORD_SIZE], _ANSWER_MAX)
            except OSError:
                # It connected just before it ended, or somebody else has the pipe, or the stream is closed.
                time.sleep(_LOOK_AGAIN)

    def _connect_to_pipe(name: str) -> LocalStream:
        patience = Patience(_BUSY_MAX)
        while True:
            try:
                return connect_to_local_server(name)
            except BlockingIOError as error:
                busy = error
            if not patience.pause():
                raise busy

    def _connect(value: str) -> LocalStream:
        name, _, encoded = value.partition(" ")
        try:
            words = bytes.fromhex(encoded)
            stream = _connect_to_pipe(name)
        except (ValueError, OSError) as error:
            why = f"it has gone, or {_VARIABLE} is meant for another process ({error})"
            raise _refusal(errno.ENOTCONN, why) from error
        stream._local_pathname = ""
        try:
            stream.write_all(words[:_WORD_SIZE], _ANSWER_MAX)
            answer = stream.read_exactly(_WORD_SIZE, _ANSWER_MAX)
        except (EOFError, OSError) as error:
            stream.close()
            raise _refusal(errno.ENOTCONN, f"it does not answer ({error})") from error
        except BaseException:
            stream.close()
            raise
        if answer != words[_WORD_SIZE:]:
            stream.close()
            raise _refusal(errno.EACCES, "another program has its pipe")
        return stream

else:
    from .adopting import adopt_stream, make_stream_pair

    #: Numbers up to this one are the child's standard streams.
    _STANDARD_MAX = 2

    def _start(arguments: str | Sequence[str], popen: dict[str, Any]) -> tuple[subprocess.Popen[Any], LocalStream]:
        import subprocess

        if not popen.get("close_fds", True):
            raise ValueError(
                "start_process() can't be used with close_fds=False: subprocess hands a descriptor on only where it"
                " closes the others; name those that the child is to have in pass_fds"
            )
        stream, childs = make_stream_pair()
        try:
            if childs.fileno() <= _STANDARD_MAX:
                # This process has closed its own. A number from detach() is higher.
                childs = _adopt(childs.detach())
            number = childs.fileno()
            descriptors = (*popen.pop("pass_fds", ()), number)
            environment = _environment(popen.pop("env", None), f"{number} {_identity(number)}")
            process = subprocess.Popen(arguments, env=environment, pass_fds=descriptors, **popen)
        except BaseException:
            stream.close()
            raise
        finally:
            # Or the stream would not end with the child.
            childs.close()
        return process, stream

    def _identity(descriptor: int) -> str:
        """What tells a socket from others while it is open."""
        status = os.fstat(descriptor)
        return f"{status.st_dev}:{status.st_ino}"

    def _connect(value: str) -> LocalStream:
        text, _, identity = value.partition(" ")
        try:
            number = int(text)
            is_there = _identity(number) == identity
        except (ValueError, OverflowError, OSError):
            is_there = False
        if not is_there:
            why = f"its descriptor was closed by a program between the two, or {_VARIABLE} is meant for another process"
            raise _refusal(errno.ENOTCONN, why)
        return _adopt(number)

    def _adopt(number: int) -> LocalStream:
        stream = adopt_stream(number)
        assert isinstance(stream, LocalStream)
        return stream
