"""Three of the examples beside programs that do the same with what Python has, and with ZeroMQ.

Each runs, and none that does all that ours does is shorter. To run one by hand, put the examples' modules on its path:
``PYTHONPATH=examples python tests/comparisons/job_manager/with_asyncio.py "2 ** 100"``.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
from pathlib import Path

import pytest

from child_processes import Processes, ended, eventually, interrupt
from code_lines import code_lines
from example_programs import ASK_TO_END, ASKED_TO_END
from systems import WINDOWS
from tree import EXAMPLES, ROOT

COMPARISONS = Path(__file__).parent
PEERS = ("asyncio", "multiprocessing", "zmq")

#: What a program lacks that ours does.
LACKS = {
    ("job_manager", "multiprocessing"): "a worker that stops in the middle of a result holds up all others; on Windows"
    " Ctrl-C ends workers that are starting",
    ("request_reply", "multiprocessing"): "a thread for each client, which a client that does not read keeps for ever",
}


def program(name: str, peer: str) -> Path:
    return COMPARISONS / name / f"with_{peer}.py"


def peers_of(name: str) -> list[object]:
    """Those that this system and this Python can run."""
    not_on_windows = {
        ("broadcast", "multiprocessing"): "a thread that waits for a pipe can't be told to give up",
        ("request_reply", "asyncio"): "asyncio has no streams over pipes",
    }
    zmq_is_missing = importlib.util.find_spec("zmq") is None
    return [
        pytest.param(
            peer,
            marks=[
                pytest.mark.skipif(peer == "zmq" and zmq_is_missing, reason="pyzmq is missing: [benchmarks] has it"),
                pytest.mark.skipif(WINDOWS and (name, peer) in not_on_windows, reason="needs Unix sockets"),
            ],
        )
        for peer in PEERS
    ]


def command(name: str, peer: str, *arguments: object) -> list[str]:
    return [sys.executable, str(program(name, peer)), *map(str, arguments)]


@pytest.mark.parametrize("name", ["job_manager", "broadcast", "request_reply"])
def test_ours_is_not_longer_than_the_shortest_that_does_the_same(name: str) -> None:
    ours = code_lines((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))
    theirs = {peer: code_lines(program(name, peer).read_text(encoding="utf-8")) for peer in PEERS}
    print(f"{name}.py: {ours} lines; with " + ", ".join(f"{peer}: {lines}" for peer, lines in theirs.items()))
    assert ours <= min(lines for peer, lines in theirs.items() if (name, peer) not in LACKS)
    row = re.search(rf"^\| `{name}\.py` \|(.*)\|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert row is not None
    assert [int(re.findall(r"\d+", cell)[0]) for cell in row[1].split("|")] == [ours, *theirs.values()]


def test_lines_of_code_are_those_without_blanks_comments_and_docstrings() -> None:
    assert (
        code_lines(
            '"""What\n\nit is."""\n\n# why\n@one\ndef two(  # three\n) -> str:\n    """No."""\n\n    return "4"\n'
        )
        == 4
    )
    assert code_lines('x = """\n\n"""\n') == 3


@pytest.mark.parametrize("peer", peers_of("job_manager"))
def test_job_manager_of_a_peer(processes: Processes, directory: Path, peer: str) -> None:
    crashed = str(directory / "crashed")
    crash_once = f"os.path.exists({crashed!r}) or (os.mkdir({crashed!r}), os._exit(1))"
    jobs = ["2 ** 100", crash_once, "os._exit(1)", "1 / 0", "len('x' * 10 ** 6)"]
    completed = processes.run(command("job_manager", peer, "--workers", 2, *jobs))
    assert completed.returncode == 0, completed.stderr
    assert sorted(completed.stdout.splitlines()) == sorted(
        [
            "2 ** 100 = 1267650600228229401496703205376",
            f"{crash_once} = True",
            "os._exit(1): 3 workers have crashed",
            "1 / 0 = ZeroDivisionError: division by zero",
            "len('x' * 10 ** 6) = 1000000",
        ]
    )


@pytest.mark.parametrize("peer", peers_of("job_manager"))
def test_job_manager_of_a_peer_drains(processes: Processes, directory: Path, peer: str) -> None:
    begun, leave = directory / "begun", directory / "leave"
    wait = f"[time.sleep(0.005) for _ in iter(lambda: os.path.exists({str(leave)!r}), True)]"
    job = f"(os.mkdir({str(begun)!r}), {wait}, True)[-1]"
    managing = processes.start(command("job_manager", peer, "--workers", 1, job, "'not begun'"))
    eventually(begun.exists, "the job has begun")
    interrupt(managing)
    assert managing.stderr is not None
    assert managing.stderr.readline() == "the jobs under way are finished; another Ctrl-C ends them\n"
    leave.touch()
    status, output, errors = ended(managing)
    assert (status, output) == (1, f"{job} = True\n"), errors
    assert errors.splitlines()[-1] == f"with_{peer}.py: 1 jobs were not begun"


@pytest.mark.parametrize("peer", peers_of("broadcast"))
def test_broadcast_of_a_peer(processes: Processes, peer: str) -> None:
    server, address = processes.serve_command(command("broadcast", peer, "serve", "tcp:127.0.0.1:0"))
    listeners = [processes.start(command("broadcast", peer, "listen", address)) for _ in range(2)]
    all_have_heard = threading.Event()

    def say_again_and_again() -> None:
        while not all_have_heard.is_set():
            assert processes.run(command("broadcast", peer, "say", "Hello World", address)).returncode == 0

    speaking = threading.Thread(target=say_again_and_again)
    speaking.start()
    for listener in listeners:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "Hello World\n"
    all_have_heard.set()
    speaking.join()
    ASK_TO_END(server)
    assert ended(server)[:2] == (ASKED_TO_END, "")


@pytest.mark.parametrize("peer", peers_of("request_reply"))
def test_request_reply_of_a_peer(processes: Processes, directory: Path, peer: str) -> None:
    path = directory.name if WINDOWS else str(directory / "daemon")
    assert processes.run(command("request_reply", peer, path, "list")).returncode == 1
    daemon, address = processes.serve_command(command("request_reply", peer, path, "serve"))
    assert address == f"local:{path}"
    # Several Listeners may have the name of a pipe.
    if not (WINDOWS and peer == "multiprocessing"):
        assert processes.run(command("request_reply", peer, path, "serve")).returncode == 1
    for words, expected in (
        (["set", "color", "ö"], (0, '"\\u00f6"\n')),
        (["get", "color"], (0, '"\\u00f6"\n')),
        (["get", "missing"], (1, "")),
        (["list"], (0, '["color"]\n')),
    ):
        completed = processes.run(command("request_reply", peer, path, *words))
        assert (completed.returncode, completed.stdout) == expected, completed.stderr
    ASK_TO_END(daemon)
    assert ended(daemon)[:2] == (ASKED_TO_END, "")
