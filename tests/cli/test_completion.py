"""A shell can complete the commands and their options."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("click")


def asked(instruction: str, words: str = "", index: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "durable"],
        env={
            **os.environ,
            "_DURABLE_COMPLETE": instruction,
            "COMP_WORDS": words,
            "COMP_CWORD": str(index),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str) -> None:
    """It is for the command `durable`, and asks by the variable that we listen to."""
    done = asked(f"{shell}_source")

    assert done.returncode == 0, done.stderr
    assert "_DURABLE_COMPLETE" in done.stdout
    assert "durable" in done.stdout


@pytest.mark.parametrize(
    ("words", "index", "expected"),
    [("durable l", 1, {"plain,ls"}), ("durable ls --j", 2, {"plain,--json"})],
)
def test_what_could_come_next_is_listed(words: str, index: int, expected: set[str]) -> None:
    """Commands, and the options of one."""
    done = asked("bash_complete", words, index)

    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == expected
