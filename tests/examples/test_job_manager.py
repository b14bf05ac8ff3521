"""job_manager.py, as its users run it: every job is done, whatever becomes of the workers, and Ctrl-C drains."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from child_processes import Processes, ended, eventually, example, interrupt
from example_programs import ASK_TO_END, ASKED_TO_END, one_line
from systems import LINUX, WINDOWS

#: What leaves a process no time to put anything in order.
KILLING_SIGNAL = signal.SIGTERM if WINDOWS else signal.SIGKILL


def manager(processes: Processes, workers: int, *jobs: str, **options: bool) -> subprocess.Popen[str]:
    return processes.start(example("job_manager.py", "--workers", workers, *jobs), **options)


class Job:
    """An expression that begins, and then waits for leave to go on."""

    def __init__(self, directory: Path, name: str, ending: str = "True") -> None:
        self._begun = directory / f"{name}-begun"
        self._leave = directory / f"{name}-leave"
        file = f"os.open({str(self._begun)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)"
        begin = f"os.write({file}, b'%d ' % os.getpid())"
        wait = f"[time.sleep(0.005) for _ in iter(lambda: os.path.exists({str(self._leave)!r}), True)]"
        self.expression = f"({begin}, {wait}, {ending})[-1]"

    def has_begun(self, times: int = 1) -> bool:
        return self._begun.exists() and len(self._begun.read_text(encoding="ascii").split()) >= times

    def until_begun(self, times: int = 1) -> None:
        eventually(lambda: self.has_begun(times), "the job has begun")

    def worker(self) -> int:
        """The number of the process that has begun it last."""
        return int(self._begun.read_text(encoding="ascii").split()[-1])

    def give_leave(self) -> None:
        self._leave.touch()


def until_draining(managing: subprocess.Popen[str]) -> None:
    """Waits until Ctrl-C, which comes when it comes on Windows, has been heeded."""
    assert managing.stderr is not None
    assert managing.stderr.readline() == "the jobs under way are finished; another Ctrl-C ends them\n"


def crash_once(directory: Path, name: str) -> str:
    """An expression that ends its worker the first time."""
    path = str(directory / f"{name}-crashed")
    return f"os.path.exists({path!r}) or (os.mkdir({path!r}), os._exit(1))"


def test_jobs_are_done(processes: Processes) -> None:
    completed = processes.run(
        example("job_manager.py", "2 ** 100", "'ö€😀' * 2", "1 / 0", "print('aside')", "'\\ud83d'")
    )
    assert completed.returncode == 0
    assert completed.stderr == ""
    lines = completed.stdout.splitlines()
    # Wine does not always pass on standard output where nobody says so.
    assert WINDOWS or "aside" in lines
    assert sorted(set(lines) - {"aside"}) == sorted(
        [
            "2 ** 100 = 1267650600228229401496703205376",
            "'ö€😀' * 2 = 'ö€😀ö€😀'",
            "1 / 0 = ZeroDivisionError: division by zero",
            "print('aside') = None",
            "'\\ud83d' = '\\ud83d'",
        ]
    )


def test_no_jobs(processes: Processes) -> None:
    completed = processes.run(example("job_manager.py"))
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")


def test_each_of_many_jobs_is_done_once_although_workers_crash(processes: Processes, directory: Path) -> None:
    jobs = [f"{number} + 1" for number in range(50)]
    jobs[::10] = [crash_once(directory, str(number)) for number in range(5)]
    completed = processes.run(example("job_manager.py", "--workers", 3, *jobs))
    assert (completed.returncode, completed.stderr) == (0, "")
    results = {f"{number} + 1 = {number + 1}" for number in range(50) if number % 10}
    results |= {f"{job} = True" for job in jobs[::10]}
    assert sorted(completed.stdout.splitlines()) == sorted(results)


def test_large_jobs_and_results(processes: Processes) -> None:
    """A result is larger than what the system takes at once, and so is a job, as far as a command line can have it."""
    job = f"len('{'x' * (20_000 if WINDOWS else 100_000)}') * 'y' * 50"
    completed = processes.run(example("job_manager.py", "--workers", 1, job))
    assert completed.stdout == f"{job} = {eval(job)!r}\n"
    assert (completed.returncode, completed.stderr) == (0, "")


def test_job_of_a_worker_that_is_killed_comes_back(processes: Processes, directory: Path) -> None:
    job = Job(directory, "job")
    managing = manager(processes, 1, job.expression, "'next'")
    job.until_begun()
    os.kill(job.worker(), KILLING_SIGNAL)
    job.until_begun(2)
    job.give_leave()
    assert ended(managing) == (0, f"{job.expression} = True\n'next' = 'next'\n", "")


def test_job_that_crashes_every_worker_is_given_up(processes: Processes) -> None:
    completed = processes.run(example("job_manager.py", "--workers", 2, "os._exit(1)", "'other'"))
    assert sorted(completed.stdout.splitlines()) == ["'other' = 'other'", "os._exit(1): 3 workers have crashed"]
    assert (completed.returncode, completed.stderr) == (0, "")


HALF_A_MESSAGE = r"""
[os.write(int(name), b'\0\0\1\0half') for name in os.listdir('/proc/self/fd')
 if os.path.exists(f'/proc/self/fd/{name}') and os.readlink(f'/proc/self/fd/{name}').startswith('socket:')]
""".replace("\n", "")


@pytest.mark.skipif(not LINUX, reason="looks for its stream in /proc")
def test_worker_that_stops_in_the_middle_of_its_result_holds_up_nobody(processes: Processes, directory: Path) -> None:
    job = Job(directory, "job")
    managing = manager(processes, 2, f"({HALF_A_MESSAGE}, {job.expression})", "1 + 1", "1 + 2")
    assert managing.stdout is not None
    assert [managing.stdout.readline() for _ in range(2)] == ["1 + 1 = 2\n", "1 + 2 = 3\n"]
    job.until_begun()
    ASK_TO_END(managing)
    assert ended(managing) == (ASKED_TO_END, "", "")


def test_result_that_is_too_long_costs_nobody_else_anything(processes: Processes) -> None:
    completed = processes.run(example("job_manager.py", "--workers", 2, "'x' * (1 << 25)", "'other'"))
    assert sorted(completed.stdout.splitlines()) == ["'other' = 'other'", "'x' * (1 << 25): 3 workers have crashed"]
    assert completed.returncode == 0


@pytest.mark.parametrize("reaches", ["the manager", "all"])
def test_ctrl_c_drains(processes: Processes, directory: Path, reaches: str) -> None:
    """A terminal sends it to all of its foreground processes."""
    first, second, third = (Job(directory, name) for name in ("first", "second", "third"))
    jobs = [job.expression for job in (first, second, third)]
    if WINDOWS or reaches == "the manager":
        managing = manager(processes, 2, *jobs, "'not begun'")
        first.until_begun()
        second.until_begun()
        interrupt(managing)
    else:
        managing = manager(processes, 2, *jobs, "'not begun'", start_new_session=True)
        first.until_begun()
        second.until_begun()
        os.killpg(managing.pid, signal.SIGINT)
    until_draining(managing)
    first.give_leave()
    second.give_leave()
    status, output, errors = ended(managing)
    assert sorted(output.splitlines()) == [f"{first.expression} = True", f"{second.expression} = True"]
    assert one_line(errors) == "job_manager.py: 2 jobs were not begun"
    assert status == 1
    assert not third.has_begun()


def test_job_that_crashes_after_ctrl_c_is_finished(processes: Processes, directory: Path) -> None:
    job = Job(directory, "job", crash_once(directory, "job"))
    managing = manager(processes, 1, job.expression, "'not begun'")
    job.until_begun()
    interrupt(managing)
    until_draining(managing)
    job.give_leave()
    status, output, errors = ended(managing)
    assert (status, output) == (1, f"{job.expression} = True\n")
    assert one_line(errors) == "job_manager.py: 1 jobs were not begun"


def test_ctrl_c_with_the_last_job_under_way_changes_nothing(processes: Processes, directory: Path) -> None:
    job = Job(directory, "job")
    managing = manager(processes, 1, job.expression)
    job.until_begun()
    interrupt(managing)
    until_draining(managing)
    job.give_leave()
    assert ended(managing) == (0, f"{job.expression} = True\n", "")


def test_second_ctrl_c_ends_everything_at_once(processes: Processes, directory: Path) -> None:
    first, second = Job(directory, "first"), Job(directory, "second")
    managing = manager(processes, 2, first.expression, second.expression, "'not begun'")
    first.until_begun()
    second.until_begun()
    interrupt(managing)
    until_draining(managing)
    first.give_leave()
    assert managing.stdout is not None
    assert managing.stdout.readline() == f"{first.expression} = True\n"
    interrupt(managing)
    # The output ends with the last process that has it: no worker is left.
    assert ended(managing) == (130, "", "")


@pytest.mark.skipif(WINDOWS, reason="Windows has no SIGTERM, and a second Ctrl-C is tested above")
def test_sigterm_ends_workers_amid_their_jobs(processes: Processes, directory: Path) -> None:
    job = Job(directory, "job")
    managing = manager(processes, 1, job.expression)
    job.until_begun()
    ASK_TO_END(managing)
    assert ended(managing) == (ASKED_TO_END, "", "")


def test_worker_whose_manager_is_killed_ends_with_its_job(processes: Processes, directory: Path) -> None:
    job = Job(directory, "job")
    managing = manager(processes, 1, job.expression)
    job.until_begun()
    managing.kill()
    managing.wait()
    job.give_leave()
    # The output ends with the last process that has it.
    _, output, errors = ended(managing)
    assert output == ""
    assert "Traceback" not in errors
