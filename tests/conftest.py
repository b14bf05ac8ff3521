"""What all tests share: every transport and every backend through the same tests, and nobody leaks a descriptor."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bbipc
import systems
from bbipc import Events, Poller
from child_processes import Processes
from descriptors import count_of_library, left_over, open_descriptors
from systems import BACKENDS, WINDOWS, make_directory
from transports import Transport, without_ipv6
from workers import divides_the_tests

if sys.platform == "win32":
    import windows
else:
    import resource


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Starts workers. The tests of files that are named run in this process: their output is simpler."""
    if divides_the_tests(config):
        # At most 8, for a container may have fewer processors than it is shown. And one more, since many tests wait: on
        # two processors, three workers take three quarters of the time of two, and four take no less.
        config.option.numprocesses = min(len(os.sched_getaffinity(0)), 8) + 1
        config.option.dist = "worksteal"


@pytest.fixture
def directory() -> Iterator[Path]:
    """A private directory whose name is short enough for local pathnames, as pytest's tmp_path may not be."""
    path = make_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def inside(directory: Path) -> Iterator[Path]:
    """The same, as the working directory."""
    before = os.getcwd()
    os.chdir(directory)
    yield directory
    os.chdir(before)


#: The tests of these go through IPv6 too. In the others TCP's family makes no difference: they are about threads, time,
#: or the layers of Python; or they start programs that have an IPv4 address.
OVER_IPV6_TOO = ("streams/", "pollers/test_poll", "faults/test_traps.py", "processes/test_fork.py")
#: So it is with these: messages are made of what any stream reads and writes.
NOT_OVER_IPV6 = ("streams/test_messages", "streams/test_authentication.py")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Has every test of a transport run over each, unless it chooses."""
    chosen = set()
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0]
        chosen.update(names.replace(",", " ").split() if isinstance(names, str) else names)
    if "transport" not in metafunc.fixturenames or "transport" in chosen:
        return
    path = metafunc.definition.path.relative_to(Path(__file__).parent).as_posix()
    over_ipv6 = ["tcp6"] if path.startswith(OVER_IPV6_TOO) and not path.startswith(NOT_OVER_IPV6) else []
    metafunc.parametrize("transport", ["tcp", *over_ipv6, "local"], indirect=True)


@pytest.fixture
def transport(request: pytest.FixtureRequest, directory: Path) -> Iterator[Transport]:
    if request.param == "tcp6" and without_ipv6() is not None:
        pytest.skip(str(without_ipv6()))
    made = Transport(request.param, directory)
    yield made
    made.close()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def poller(backend: str) -> Iterator[Poller]:
    with bbipc.make_poller(backend) as made:
        yield made


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as made:
        yield made


@pytest.fixture(params=["tcp", "local"])
def free_address(request: pytest.FixtureRequest, directory: Path) -> str:
    """Where a server can listen."""
    return "tcp:127.0.0.1:0" if request.param == "tcp" else f"local:{directory / 'server'}"


#: More than any test needs, but for those that ask for more themselves.
DESCRIPTORS = 4096


@pytest.fixture(scope="session", autouse=True)
def enough_descriptors() -> None:
    """Systems allow 1024 at first, macOS 256, and more to a process that asks."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < DESCRIPTORS:
            wanted = min(DESCRIPTORS, systems.most_descriptors(hard, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.fixture(scope="session", autouse=True)
def warmed_up() -> None:
    """Has the libraries, the system's and ours, open now what they open once: on Windows that is at their first use."""
    if not WINDOWS:
        return
    directory = make_directory()
    for name in ("tcp", "local", *([] if without_ipv6() else ["tcp6"])):
        transport = Transport(name, directory)
        for one in (transport.pair()[0], transport.python_peer()[0]):
            for backend in BACKENDS:
                with bbipc.make_poller(backend) as poller:
                    poller.monitor_socket(one, Events.DATA_AVAILABLE)
                    poller.wait_for_events(0.01)
            bbipc.poll_socket(one, Events.DATA_AVAILABLE, 0.01)
            bbipc.poll_sockets([one], Events.DATA_AVAILABLE, 0.01)
        transport.close()
    shutil.rmtree(directory, ignore_errors=True)
    bbipc.resolve_ipv4_address("localhost")
    # The library keeps what up to 16 threads wait with at once. Here 32 wait.
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
        wait = (server, Events.CONNECTION_AVAILABLE, 0.5)
        threads = [threading.Thread(target=bbipc.poll_socket, args=wait) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    windows.need_console()
    subprocess.run([sys.executable, "-c", ""], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    time.sleep(SETTLING)


#: Seconds. What Windows finishes a moment after a call has returned: an operation that was taken back, a thread.
SETTLING = 2.0


@pytest.fixture(autouse=True)
def no_descriptor_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that ends with a descriptor, or anything of the library's, that it did not begin with."""
    gc.collect()
    if hasattr(gc, "freeze"):  # not on PyPy
        # So that the collection after the test looks at what the test made, and not at all that was there before.
        gc.freeze()
    before = open_descriptors()
    counts_before = count_of_library()
    yield
    gc.collect()
    give_up_at = time.perf_counter() + (SETTLING if WINDOWS else 0)
    while True:
        leaked, counts = left_over(before), count_of_library()
        left = [now - then for now, then in zip(counts, counts_before)]
        if (not leaked and max(left) <= 0) or time.perf_counter() >= give_up_at:
            break
        time.sleep(0.01)
    assert not leaked, f"{request.node.nodeid} leaks descriptors: {leaked}"
    assert max(left) <= 0, f"{request.node.nodeid} leaves {left[0]} handles open and {left[1]} operations under way"


@pytest.fixture(scope="session")
def zig_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for all builds of wheels, so that a library is compiled anew only where a test wants it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIG_LOCAL_CACHE_DIR", str(tmp_path_factory.mktemp("zig")))
        yield
