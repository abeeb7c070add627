"""`python -m durable demo` does the main job, and finds it done when it is run again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import durable
from durable.cli import main

ROOT = Path(__file__).resolve().parents[2]


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "durable", "demo", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def counted(output: str) -> int:
    """What the last caller was told."""
    return int(re.findall(r"answered (\d+)$", output, re.MULTILINE)[-1])


def test_a_second_run_counts_on(tmp_path: Path) -> None:
    """What one process was told is stored, the next one finds, in the same fixed folder."""
    first, second = run_demo(tmp_path), run_demo(tmp_path)

    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stderr) == (0, "")
    assert "is a new store" in first.stdout
    assert counted(first.stdout) == 56
    assert "was used once" in second.stdout
    assert "was left at 56" in second.stdout
    assert counted(second.stdout) == 112
    assert [path.name for path in tmp_path.iterdir()] == ["durable-demo"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_run_loses_nothing_that_it_said(tmp_path: Path) -> None:
    """A process that is killed leaves every write that was answered, and nothing to clean up."""
    killed = run_demo(tmp_path, "store", "--crash")
    after = run_demo(tmp_path, "store")

    assert killed.returncode == -signal.SIGKILL
    assert counted(killed.stdout) == 56
    assert (after.returncode, after.stderr) == (0, "")
    assert "was left at 56" in after.stdout


def test_a_folder_that_is_a_file_is_one_line_on_stderr(tmp_path: Path) -> None:
    """What is wrong with the world is said in a line, with a status above zero."""
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    done = run_demo(tmp_path, "taken")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("durable: ")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


def test_a_folder_in_use_names_its_owner(tmp_path: Path) -> None:
    """A store that another process has is left alone, and the message says whose it is."""

    async def run_beside_an_owner() -> subprocess.CompletedProcess[str]:
        async with durable.open(tmp_path / "store"):
            return run_demo(tmp_path, "store")

    done = anyio.run(run_beside_an_owner)

    assert done.returncode == 1
    assert done.stdout == ""
    assert f"is in use by process {os.getpid()}" in done.stderr


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that does not exist ends with status 2 and the list of those that do."""
    with pytest.raises(SystemExit) as ended:
        main(["dmeo"])

    assert ended.value.code == 2
    assert "demo" in capsys.readouterr().err
