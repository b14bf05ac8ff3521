"""Declarations agree: ctypes' with the header, the package's names with the contract, its types with mypy."""

from __future__ import annotations

import ctypes
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bbipc
import typing_program
from bbipc import Events
from bbipc._native import by_cpython, declarations
from bbipc._native.library import releasing
from bbipc.events import SERVER_EVENTS, STREAM_EVENTS
from systems import PATHNAME_MAX
from tree import ROOT

HEADER = (ROOT / "native" / "include" / "bbipc.h").read_text(encoding="utf-8")
CODE = re.sub(r"/\*.*?\*/", " ", HEADER, flags=re.DOTALL)

# ---- The header, read ----

#: Name and value of every constant, without BBIPC_.
CONSTANTS: dict[str, str] = {
    match["name"]: match["value"].strip()
    for match in re.finditer(r"^#define BBIPC_(?P<name>[A-Z0-9_]+)[ ]+(?P<value>\S.*)$", CODE, flags=re.MULTILINE)
}
#: Result and parameters of every function, without bbipc_.
FUNCTIONS: dict[str, tuple[str, list[str]]] = {
    match["name"]: (
        " ".join(match["result"].split()),
        [] if match["parameters"].strip() == "void" else [one.strip() for one in match["parameters"].split(",")],
    )
    for match in re.finditer(
        r"(?P<result>(?:const )?\w+[ *]+)bbipc_(?P<name>\w+)\((?P<parameters>[^)]*)\);", CODE, flags=re.DOTALL
    )
}

NUMBERS = {
    "bbipc_handle": ctypes.c_int64,
    "bbipc_result": ctypes.c_int64,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
}


def number(name: str) -> int:
    return int(CONSTANTS[name].strip("()").rstrip("u"), 0)


def types_of_parameter(parameter: str) -> list[Any]:
    """What ctypes may declare it as: where an array's address is passed, a bare pointer is as good."""
    match = re.fullmatch(r"(?:const )?(?P<type>\w+) (?P<star>\*?(?:const \*)?)\w+(?P<array>\[\d+\])?", parameter)
    assert match, parameter
    if match["array"]:
        return [ctypes.c_void_p]
    if not match["star"]:
        return [NUMBERS[match["type"]]]
    if match["star"].endswith("const *"):
        return [ctypes.c_void_p]
    if match["type"] == "void":
        return [ctypes.c_void_p, ctypes.py_object]
    if match["type"] == "char":
        return [ctypes.c_char_p]
    return [ctypes.c_void_p, ctypes.POINTER(NUMBERS[match["type"]])]


def type_of_result(result: str) -> Any:
    return {"void": None, "const char *": ctypes.c_char_p, "void *": ctypes.py_object, **NUMBERS}[result]


#: Every declaration of declarations.py, in its order.
DECLARATIONS: dict[str, Any] = {name: value for name, value in vars(declarations).items() if hasattr(value, "argtypes")}


def native_name(function: Any) -> str:
    name: str = function.__name__
    return name[len("bbipc_") :]


def test_the_header_is_read() -> None:
    # So that a change of style does not leave the tests below without anything to compare.
    assert len(FUNCTIONS) == len(re.findall(r"\bbbipc_\w+\(", CODE)) > 20
    assert FUNCTIONS["version"] == ("const char *", [])
    assert FUNCTIONS["write"][1][1] == "const void *data"
    assert number("FOREVER") == -1
    assert number("WRITE_SPACE") == 0x100


@pytest.mark.parametrize("name", DECLARATIONS)
def test_each_function_is_declared_as_in_the_header(name: str) -> None:
    function = DECLARATIONS[name]
    result, parameters = FUNCTIONS[native_name(function)]
    expected = type_of_result(result)
    # A handle that nobody has taken yet is a number too.
    assert function.restype is expected or (function.restype is declarations.NewHandle and expected is ctypes.c_int64)
    assert len(function.argtypes) == len(parameters)
    for declared, parameter in zip(function.argtypes, parameters):
        assert declared in types_of_parameter(parameter), parameter


def test_functions_stand_in_the_headers_order() -> None:
    declared = list(dict.fromkeys(native_name(function) for function in DECLARATIONS.values()))
    assert ["version", *declared] == list(FUNCTIONS)
    for name, function in DECLARATIONS.items():
        assert re.fullmatch(rf"{native_name(function)}(_much|_waiting)?", name)


def test_the_library_has_every_function_of_the_header() -> None:
    for name in FUNCTIONS:
        assert hasattr(releasing, f"bbipc_{name}")


def releases_the_gil(function: Any) -> bool:
    keeps = 0x4  # FUNCFLAG_PYTHONAPI of CPython's _ctypes
    return not function._flags_ & keeps


@pytest.mark.skipif(not hasattr(ctypes, "PyDLL"), reason="without PyDLL (PyPy) every call releases the GIL")
def test_what_can_block_releases_the_gil_and_the_rest_keeps_it() -> None:
    releasing = {name for name, function in DECLARATIONS.items() if releases_the_gil(function)}
    assert {"poll_sockets_waiting", "poll_socket_waiting", "wait_for_events_waiting"} <= releasing
    assert {"read_much", "write_much", "read_exactly", "write_all"} <= releasing
    assert "finish_writes" in releasing
    assert {"send_message", "send_messages", "receive_message", "read_until", "drain"} <= releasing
    # Without waiting, and with little to copy: others are not held up for long.
    assert releasing.isdisjoint({"poll_socket", "wait_for_events", "read", "write", "accept_connection", "wake"})
    assert releasing.isdisjoint({"receive_messages", "unsent", "max_message_size", "set_max_message_size"})


def test_every_constant_is_the_headers() -> None:
    expected = {name: number(name) for name in CONSTANTS if name.startswith("ERROR_")}
    assert len(expected) == 19
    assert {name: value for name, value in vars(declarations).items() if name.startswith("ERROR_")} == expected
    for name in ("REUSE_ADDRESS", "DELETE_ON_CLOSE", "PEEK", "FOREVER", "BACKEND_DEFAULT"):
        assert getattr(declarations, name) == number(name)
    assert {
        name: number(f"BACKEND_{name.upper()}") for name in ("epoll", "poll", "iocp", "kqueue")
    } == declarations.BACKENDS


def test_every_event_is_the_headers() -> None:
    for event in ~Events():
        assert int(event) == number(str(event))
    assert int(SERVER_EVENTS) == number("SERVER_EVENTS")
    assert int(STREAM_EVENTS) == number("STREAM_EVENTS")
    assert int(~Events()) == number("SERVER_EVENTS") | number("STREAM_EVENTS")


def test_no_constant_of_the_header_is_left_out() -> None:
    events = {str(event) for event in ~Events()} | {"SERVER_EVENTS", "STREAM_EVENTS"}
    backends = {f"BACKEND_{name.upper()}" for name in declarations.BACKENDS}
    known = set(vars(declarations)) | events | backends | {"VERSION"}
    assert set(CONSTANTS) <= known


def test_the_declarations_are_what_the_header_makes() -> None:
    program = ROOT / "native" / "packaging" / "make_declarations.py"
    checked = subprocess.run([sys.executable, program, "--check"], stdout=subprocess.PIPE, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_what_built_in_methods_take_of_objects_is_declared_for_the_classes() -> None:
    """In one place, with which mypy compares the classes."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "native" / "cpython").glob("*.zig"))
    taken = set(re.findall(r'"(_[a-z_]+)"', sources)) | set(re.findall(r"\(\w+, \.(_[a-z]+)[,)]", sources))
    declared = (ROOT / "bbipc" / "_native" / "classes.py").read_text(encoding="utf-8")
    names = set(re.findall(r"(?:def |^    )(\w+)[(:]", declared, flags=re.MULTILINE))
    assert taken - {by_cpython.IN_PYTHON} <= names
    assert {"_closed", "_handle", "_raise", "_read_on", "_receive_on", "_sets", "_sockets"} <= taken
    for kind in (bbipc.StreamSocket, bbipc.Poller):
        assert by_cpython.method_names(kind)
    assert set(declarations.cpython_methods().decode("ascii").split()) <= names


def test_the_header_of_this_package_is_found() -> None:
    folder = Path(bbipc.get_include())
    assert folder.is_absolute()
    assert (folder / "bbipc.h").read_text(encoding="utf-8") == HEADER


def test_the_library_of_this_package_is_found() -> None:
    file = Path(bbipc.get_library())
    assert file.is_absolute()
    assert file.samefile(releasing._name)
    assert ctypes.CDLL(str(file)).bbipc_version


def test_there_is_one_version() -> None:
    assert CONSTANTS["VERSION"] == f'"{bbipc.__version__}"'
    assert releasing.bbipc_version().decode("ascii") == bbipc.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", bbipc.__version__)


def test_every_error_has_a_message_of_its_own() -> None:
    messages = [declarations.error_message(number(name)) for name in CONSTANTS if name.startswith("ERROR_")]
    assert len(set(messages)) == 19
    for message in messages:
        assert message.decode("ascii")[0].islower()
    for made_up in (0, 1, -19, -(2**63), 2**63 - 1):
        assert declarations.error_message(made_up)


def test_the_limit_of_local_pathnames() -> None:
    assert declarations.local_pathname_limit() == PATHNAME_MAX
    assert "107 on Linux, 103 on macOS and FreeBSD" in HEADER


# ---- The names of the package ----

#: The contract's, and the errors that were added to it.
PUBLIC_NAMES = {
    "AuthenticationError",
    "Socket",
    "authenticate",
    "authenticate_peer",
    "StreamServer",
    "StreamSocket",
    "Ipv4TcpServer",
    "Ipv4TcpStream",
    "make_ipv4_tcp_server",
    "connect_to_ipv4_tcp_server",
    "IPV4_LOOPBACK",
    "IPV4_ANY",
    "resolve_ipv4_address",
    "Ipv6TcpServer",
    "Ipv6TcpStream",
    "make_ipv6_tcp_server",
    "connect_to_ipv6_tcp_server",
    "IPV6_LOOPBACK",
    "IPV6_ANY",
    "resolve_ipv6_address",
    "LocalServer",
    "LocalStream",
    "make_local_server",
    "connect_to_local_server",
    "Address",
    "listen",
    "connect",
    "connect_to_tcp_server",
    "poll_socket",
    "poll_sockets",
    "write_many",
    "send_messages",
    "calling_layer",
    "get_include",
    "get_library",
    "make_stream_pair",
    "adopt_stream",
    "adopt_server",
    "ActivatedServers",
    "activated_servers",
    "start_process",
    "connect_to_parent",
    "make_poller",
    "set_spinning",
    "Poller",
    "Events",
    "BbipcError",
    "SocketError",
    "SocketClosedError",
    "NoConnectionAvailableError",
    "NoLocalServerError",
    "PeerCredentials",
    "ServerAlreadyRunningError",
    "EndOfStreamError",
    "TimeoutError",
    "MessageTooLargeError",
    "UnsupportedOperationError",
    "AlreadyMonitoredError",
    "NotMonitoredError",
    "PollerClosedError",
    "WrongProcessError",
    "__version__",
}
#: Methods and properties of each class.
PUBLIC_MEMBERS: dict[type, str] = {
    bbipc.Address: "host port pathname",
    bbipc.Socket: "close closed address fileno",
    bbipc.StreamServer: "accept_connection connection_available",
    bbipc.StreamSocket: """
        determined connection_failed connection_succeeded data_available ready_to_write remote_disconnected end_of_data
        write_space connection_severed connection_error read_into read write finish_writing read_exactly write_all abort
        detach
        max_message_size message_available message_space send_message send_messages drain unsent
        receive_message
        receive_messages messages read_until
    """,
    bbipc.Ipv4TcpServer: "host_address port",
    bbipc.Ipv4TcpStream: "local_host_address local_port remote_host_address remote_port",
    bbipc.Ipv6TcpServer: "host_address port",
    bbipc.Ipv6TcpStream: "local_host_address local_port remote_host_address remote_port",
    bbipc.LocalServer: "local_pathname",
    bbipc.LocalStream: "local_pathname peer_credentials",
    bbipc.Poller: """
        close closed backend monitor_socket unmonitor_socket monitored_events set_monitored_events monitored_sockets
        wait_for_events receive receive_messages wake fileno
    """,
}
#: The signatures of the contract, with the added arguments' names.
SIGNATURES = {
    "make_ipv4_tcp_server": "(host_address, port, *, reuse_address=False, backlog=128)",
    "connect_to_ipv4_tcp_server": (
        "(host_address, port, *, local_host_address=None, local_port=None, reuse_address=False)"
    ),
    "resolve_ipv4_address": "(hostname)",
    "make_ipv6_tcp_server": "(host_address, port, *, reuse_address=False, backlog=128, dual_stack=False)",
    "connect_to_ipv6_tcp_server": (
        "(host_address, port, *, local_host_address=None, local_port=None, reuse_address=False)"
    ),
    "resolve_ipv6_address": "(hostname)",
    "make_local_server": ("(pathname, *, backlog=128, delete_on_close=True, permissions=None, replace_dead=False)"),
    "connect_to_local_server": "(pathname, *, timeout=0)",
    "listen": "(address, **options)",
    "connect": "(address, *, timeout=0, **options)",
    "connect_to_tcp_server": (
        "(host, port, timeout=0, *, local_host_address=None, local_port=None, reuse_address=False)"
    ),
    "poll_socket": "(socket, events, timeout=None)",
    "poll_sockets": "(sockets, events, timeout=None)",
    "write_many": "(items)",
    "send_messages": "(items)",
    "authenticate": "(stream, key, timeout=20.0)",
    "authenticate_peer": "(stream, key, timeout=20.0)",
    "calling_layer": "()",
    "get_include": "()",
    "get_library": "()",
    "make_stream_pair": "()",
    "adopt_stream": "(descriptor)",
    "adopt_server": "(descriptor)",
    "activated_servers": "()",
    "start_process": "(arguments, **popen)",
    "connect_to_parent": "()",
    "StreamSocket.detach": "(self)",
    "make_poller": "(backend=None)",
    "set_spinning": "(mode)",
    "StreamSocket.read_into": "(self, buffer, start=0, end=None, *, peek=False)",
    "StreamSocket.read": "(self, max_bytes=65536, *, peek=False)",
    "StreamSocket.write": "(self, data, start=0, end=None)",
    "StreamSocket.write_all": "(self, data, timeout=None)",
    "StreamSocket.read_exactly": "(self, size, timeout=None)",
    "StreamSocket.send_message": "(self, data, timeout=None)",
    "StreamSocket.send_messages": "(self, messages, timeout=None)",
    "StreamSocket.drain": "(self, timeout=None)",
    "StreamSocket.unsent": "(self)",
    "StreamSocket.receive_message": "(self, timeout=None)",
    "StreamSocket.receive_messages": "(self, max_messages=None)",
    "StreamSocket.messages": "(self, timeout=None)",
    "StreamSocket.read_until": "(self, delimiter, timeout=None, max_bytes=65536)",
    "StreamSocket.message_available": "(self)",
    "StreamSocket.message_space": "(self)",
    "StreamSocket.finish_writing": "(self)",
    "StreamSocket.abort": "(self)",
    "StreamSocket.connection_error": "(self)",
    "StreamServer.accept_connection": "(self)",
    "Poller.monitor_socket": "(self, socket, events)",
    "Poller.unmonitor_socket": "(self, socket)",
    "Poller.monitored_events": "(self, socket)",
    "Poller.set_monitored_events": "(self, socket, events)",
    "Poller.monitored_sockets": "(self)",
    "Poller.wait_for_events": "(self, timeout=None)",
    "Poller.receive": "(self, timeout=None, max_bytes=65536)",
    "Poller.receive_messages": "(self, timeout=None)",
    "Poller.wake": "(self)",
    "Poller.fileno": "(self)",
}


def find(path: str) -> Any:
    found: Any = bbipc
    for name in path.split("."):
        found = getattr(found, name)
    return found


def test_the_names_are_the_contracts() -> None:
    assert set(bbipc.__all__) == PUBLIC_NAMES
    assert len(bbipc.__all__) == len(PUBLIC_NAMES)
    for name in PUBLIC_NAMES:
        assert hasattr(bbipc, name)


@pytest.mark.parametrize("kind", PUBLIC_MEMBERS, ids=lambda kind: kind.__name__)
def test_the_members_are_the_contracts(kind: type) -> None:
    inherited = {name for base in kind.__mro__[1:] for name in vars(base)}
    own = {name for name in dir(kind) if not name.startswith("_")} - inherited
    assert own == set(PUBLIC_MEMBERS[kind].split()) - inherited


@pytest.mark.parametrize("path", SIGNATURES)
def test_the_signatures_are_the_contracts(path: str) -> None:
    signature = inspect.signature(find(path))
    plain = signature.replace(
        parameters=[one.replace(annotation=one.empty) for one in signature.parameters.values()],
        return_annotation=signature.empty,
    )
    # Built-in methods have no name for themselves.
    assert str(plain).replace("(self, /", "(self") == SIGNATURES[path]


def test_everything_public_is_documented() -> None:
    assert (bbipc.__doc__ or "").strip()
    for name in sorted(PUBLIC_NAMES - {"__version__", "IPV4_ANY", "IPV4_LOOPBACK", "IPV6_ANY", "IPV6_LOOPBACK"}):
        documented = find(name)
        assert (documented.__doc__ or "").strip(), name
        # An exception's own words, not its base's.
        assert "__doc__" in vars(documented) or not isinstance(documented, type), name
    for kind, members in PUBLIC_MEMBERS.items():
        for member in members.split():
            assert (getattr(kind, member).__doc__ or "").strip(), f"{kind.__name__}.{member}"


# ---- The types ----


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_package_and_a_program_that_uses_it_pass_mypy(platform: str) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--platform", platform]
    command += ["bbipc", "tests/support/typing_program.py"]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert finished.returncode == 0, finished.stdout


def test_the_program_that_mypy_checks_runs(directory: Path) -> None:
    typing_program.main(directory)
