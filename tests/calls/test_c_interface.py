"""The C interface from outside Python: the header, the example in C, and the native tests under other tools.

BBIPC_TESTS_FULL=1 in the environment makes ten million random calls instead of two hundred thousand, and as many random
inputs instead of a million.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bbipc
import systems
from bbipc import StreamServer, StreamSocket
from child_processes import Processes, ended
from patience import PATIENCE
from systems import WINDOWS
from transports import Transport
from tree import ROOT

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang, the compiler, is missing"),
    # The first time on a machine, Zig builds what every program needs, which takes more than a minute.
    pytest.mark.timeout(600),
]

LIBRARY = Path(bbipc.__file__).with_name(systems.LIBRARY)
#: What the name of a program ends with.
EXE = ".exe" if WINDOWS else ""

FULL = os.environ.get("BBIPC_TESTS_FULL") == "1"
RANDOM_CALLS = 10_000_000 if FULL else 200_000
RANDOM_INPUTS = 10_000_000 if FULL else 1_000_000

STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{ROOT / 'native' / 'include'}"]

#: The languages of the example, as options of the compiler.
LANGUAGES = {"c99": ["-x", "c", "-std=c99"], "c++11": ["-x", "c++", "-std=c++11"]}


@pytest.fixture(scope="module", autouse=True)
def zig_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for the builds of this file, outside the tree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIG_LOCAL_CACHE_DIR", str(tmp_path_factory.mktemp("zig")))
        yield


def linked(program: Path) -> list[object]:
    """The compiler's options for a program that uses the library, and finds it when it runs."""
    if WINDOWS:
        # Windows looks for the library beside the program. shell32 is for the example's arguments.
        shutil.copy(LIBRARY, program.parent)
        return [LIBRARY, "-lshell32", "-o", program]
    return [LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}", "-o", program]


def zig(*arguments: object) -> None:
    """Runs the Zig compiler, which must succeed and have nothing to say."""
    command = [sys.executable, "-m", "ziglang", *map(str, arguments)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    assert "warning:" not in finished.stderr


# ---- The header ----


@pytest.mark.parametrize(
    ("language", "standard"), [("c", "c99"), ("c", "c11"), ("c++", "c++98"), ("c++", "c++11"), ("c++", "c++17")]
)
def test_header_compiles_alone_and_twice(language: str, standard: str, tmp_path: Path) -> None:
    source = tmp_path / "header"
    source.write_text('#include "bbipc.h"\n#include "bbipc.h"\n', encoding="ascii")
    zig("cc", "-x", language, f"-std={standard}", *STRICT, "-c", source, "-o", tmp_path / "header.o")


def test_every_function_of_the_header_can_be_linked(tmp_path: Path, processes: Processes) -> None:
    header = (ROOT / "native" / "include" / "bbipc.h").read_text(encoding="utf-8")
    names = re.findall(r"^[a-z].*?\b(bbipc_\w+)\(", header, re.MULTILINE)
    assert len(names) > 30
    source = tmp_path / "functions.c"
    source.write_text(
        '#include "bbipc.h"\n#include <stdio.h>\ntypedef void function(void);\n'
        f"static function *const functions[] = {{{', '.join(f'(function *){name}' for name in names)}}};\n"
        "int main(void) { unsigned i, count = 0;\n"
        "    for (i = 0; i < sizeof functions / sizeof *functions; i++) count += functions[i] != NULL;\n"
        '    printf("%u\\n", count); return 0; }\n',
        encoding="ascii",
    )
    program = tmp_path / f"functions{EXE}"
    zig("cc", "-std=c99", *STRICT, source, *linked(program))
    assert processes.run([str(program)]).stdout == f"{len(names)}\n"


# ---- The echo client in C ----


@pytest.fixture(scope="module", params=LANGUAGES)
def echo_client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("echo_client") / f"echo_client{EXE}"
    source = ROOT / "examples" / "c" / "echo_client.c"
    zig("cc", *LANGUAGES[request.param], *STRICT, source, "-x", "none", *linked(program))
    return str(program)


def echo(stream: StreamSocket, size: int) -> None:
    """Sends back ``size`` bytes."""
    while size:
        data = stream.read_exactly(min(size, 4096), PATIENCE)
        stream.write_all(data, PATIENCE)
        size -= len(data)


@pytest.fixture
def server(transport: Transport) -> StreamServer:
    return transport.make_server()


@pytest.mark.parametrize(
    "text",
    # Windows' commands have 32,767 characters at the most.
    ["Hello World", "Grüße", "many " * (6_000 if WINDOWS else 20_000), ""],
    ids=["short", "UTF-8", "long", "empty"],
)
def test_client_prints_what_comes_back(
    echo_client: str, transport: Transport, server: StreamServer, processes: Processes, text: str
) -> None:
    client = processes.start([echo_client, text, server.address], encoding="utf-8")
    echo(transport.accept(server), len(text.encode()))
    assert ended(client) == (0, text + "\n", "")


def test_client_says_hello_to_the_example_server(echo_client: str, processes: Processes, directory: Path) -> None:
    for address in ("tcp:127.0.0.1:0", f"local:{directory}/echo"):
        _, listening = processes.serve("echo_server.py", address)
        answered = processes.run([echo_client, "Hello World", listening])
        assert (answered.returncode, answered.stdout, answered.stderr) == (0, "Hello World\n", "")


def test_client_that_is_cut_off_says_so(
    echo_client: str, transport: Transport, server: StreamServer, processes: Processes
) -> None:
    client = processes.start([echo_client, "Hello World", server.address])
    stream = transport.accept(server)
    stream.read_exactly(11, PATIENCE)
    stream.write_all(b"Hello", PATIENCE)
    stream.close()
    error = "echo_client: the server closed the connection after 5 of 11 bytes\n"
    assert ended(client) == (1, "Hello", error)


def test_client_without_a_server_says_why(
    echo_client: str, transport: Transport, server: StreamServer, processes: Processes
) -> None:
    address = server.address
    server.close()
    failed = processes.run([echo_client, "Hello World", address])
    why = "Connection refused" if address.startswith("tcp:") else "No such file or directory"
    assert (failed.returncode, failed.stdout) == (1, "")
    beginning = f"echo_client: cannot connect to {address}: "
    if WINDOWS:
        # In the user's language, and words of its own.
        assert failed.stderr.startswith(beginning)
        assert len(failed.stderr) > len(beginning) + 10
    else:
        assert failed.stderr == f"{beginning}{why}\n"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "local:",
        "tcp:",
        "tcp:127.0.0.1",
        "tcp:127.0.0.1:",
        "tcp:127.0.0.1:65536",
        "tcp:127.0.0.1:99999999999999999999",
        "tcp:127.0.0.1:80x",
        "tcp:127.0.0:80",
        "tcp:127.0.0.256:80",
        "tcp:localhost:80",
        "udp:127.0.0.1:80",
    ],
)
def test_client_explains_what_an_address_is(echo_client: str, processes: Processes, address: str) -> None:
    failed = processes.run([echo_client, "Hello World", address])
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith(f'echo_client: "{address}" is no address: write tcp:HOST:PORT')


def test_client_says_that_a_pathname_is_too_long(echo_client: str, processes: Processes) -> None:
    failed = processes.run([echo_client, "Hello World", "local:/" + "x" * (400 if WINDOWS else 200)])
    assert failed.returncode == 1
    assert failed.stderr.endswith("the pathname is too long for a local socket\n")


def test_client_has_help(echo_client: str, processes: Processes) -> None:
    helped = processes.run([echo_client, "--help"])
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("usage: echo_client")
    assert processes.run([echo_client, "one", "two", "three"]).returncode == 1


# ---- The native tests ----


#: Seconds for one of these programs, which .ci/run runs behind others.
PROGRAM_TIME_MAX = 1500

#: Whether the native tests can be made for Valgrind here.
FOR_VALGRIND = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the native test programs."""
    prefix = tmp_path_factory.mktemp("native")
    # For any processor: Valgrind does not know all that the latest can do.
    zig("build", "test-binary", *(["-Dvalgrind", "-Dcpu=baseline"] if FOR_VALGRIND else []), "--prefix", prefix)
    return prefix / "bin"


@pytest.mark.long
@pytest.mark.timeout(PROGRAM_TIME_MAX + 600)
@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed (Debian's package valgrind)")
@pytest.mark.skipif(not FOR_VALGRIND, reason="made for Valgrind on Linux and x86-64")
@pytest.mark.parametrize(
    "program",
    [["bbipc-tests"], ["random-calls", "30000", "1", "4"]],
    ids=["tests", "random calls"],
)
def test_valgrind_finds_no_error(programs: Path, tmp_path: Path, program: list[str]) -> None:
    # It finds what is used without having been written. Leaks it would not see, for the library takes its memory from
    # the system in whole pages: the tests themselves count those, the descriptors and the handles.
    log = tmp_path / "log"
    options = ["--error-exitcode=99", "--child-silent-after-fork=yes", "--fair-sched=yes", f"--log-file={log}"]
    command = ["valgrind", *options, str(programs / program[0]), *program[1:]]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROGRAM_TIME_MAX)
    found = log.read_text(encoding="utf-8", errors="replace")
    assert finished.returncode == 0, finished.stderr + found
    assert "ERROR SUMMARY: 0 errors" in found.splitlines()[-1]


@pytest.mark.long
@pytest.mark.timeout(PROGRAM_TIME_MAX + 600)
@pytest.mark.parametrize("threads", [1, 4])
def test_random_calls(programs: Path, threads: int) -> None:
    command = [str(programs / "random-calls"), str(RANDOM_CALLS), "20261122", str(threads)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROGRAM_TIME_MAX)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith(f"{RANDOM_CALLS} calls, seed 20261122, threads {threads}: ")


@pytest.mark.long
@pytest.mark.timeout(PROGRAM_TIME_MAX + 600)
def test_random_bytes_as_messages(programs: Path) -> None:
    # The native tests do it 20,000 times.
    command = [str(programs / "random-calls"), "inputs", str(RANDOM_INPUTS), "20261201"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROGRAM_TIME_MAX)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == f"{RANDOM_INPUTS} inputs\n"
