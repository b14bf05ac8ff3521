"""The workflows of the repository: each action is pinned to a commit, and every Python that is promised is tested.

And so is what `python -m pytest` leaves out.

That they are valid is checked by actionlint, in .ci/run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tree import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="the source distribution has no workflows")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def promised_pythons() -> list[str]:
    """The versions in the classifiers, the oldest first."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text_of("pyproject.toml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit_and_tell_its_version(workflow: Path) -> None:
    used = re.findall(r"\buses: *(.*)", workflow.read_text(encoding="utf-8"))
    assert used
    other_repositories = [action for action in used if not action.startswith("./")]
    pinned = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [action for action in other_repositories if not pinned.fullmatch(action)] == []


def test_every_python_that_is_promised_is_tested() -> None:
    promised = promised_pythons()
    lists = re.findall(r"\bpython: (\[.*?\]|\".*?\")", text_of(".github/workflows/test.yml"))
    tested = {version for versions in lists for version in re.findall(r'"(.*?)"', versions)}
    assert {version for version in tested if not version.startswith("pypy")} == {*promised, f"{promised[-1]}t"}
    is_promised = "Implementation :: PyPy" in text_of("pyproject.toml")
    assert any(version.startswith("pypy") for version in tested) == is_promised


def test_the_oldest_python_that_is_promised_is_the_oldest_that_pip_accepts() -> None:
    promised = promised_pythons()
    assert promised == sorted(promised, key=lambda version: int(version[2:]))
    assert f'requires-python = ">={promised[0]}"' in text_of("pyproject.toml")


def test_native_tests_are_run_for_every_target_that_there_is_a_machine_for() -> None:
    targets = {entry["zig_target"] for entry in json.loads(text_of("native/packaging/targets.json"))}
    run = re.findall(r"\btarget: ([\w.-]+)", text_of(".github/workflows/test.yml"))
    assert sorted(run) == sorted(target for target in targets if target.startswith(("x86_64-", "aarch64-")))


# ---- Markers ----


def markers_left_out() -> list[str]:
    """The markers whose tests `python -m pytest` does not run."""
    (expression,) = re.findall(r'^addopts = .*"-m", "(.*?)"', text_of("pyproject.toml"), re.MULTILINE)
    return re.findall(r"\bnot (\w+)", expression)


def test_ci_run_runs_the_tests_that_pytest_leaves_out() -> None:
    (expression,) = re.findall(r"^left_out_by_default='(.*)'$", text_of(".ci/run"), re.MULTILINE)
    assert expression == " or ".join(markers_left_out())
    assert "python -m pytest -n 2 --dist loadfile -m '$left_out_by_default'" in text_of(".ci/run")


def test_the_workflow_leaves_out_no_test() -> None:
    commands = re.findall(r"-m pytest .*source/tests", text_of(".github/workflows/test.yml"))
    assert len(commands) == 2
    assert [command for command in commands if not command.startswith('-m pytest -m "" ')] == []


def test_every_marker_is_explained_and_used() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", text_of("CONTRIBUTING.md"), re.MULTILINE))
    (listed,) = re.findall(r"^markers = \[.*?\n(.*?)^\]", text_of("pyproject.toml"), re.MULTILINE | re.DOTALL)
    markers = re.findall(r'"(\w+): ', listed)
    assert markers == markers_left_out()
    assert set(markers) <= named
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert [marker for marker in markers if f"pytest.mark.{marker}" not in tests] == []
