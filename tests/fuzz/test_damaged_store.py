"""A store whose file was damaged answers, or says so; the check says so without being killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import damaged_store

# `DURABLE_FUZZ_SEEDS=5000 pytest tests/fuzz` does more.
SEEDS = int(os.environ.get("DURABLE_FUZZ_SEEDS", "120"))


def run(store: Path, scratch: Path) -> list[str]:
    """What became of each seed; a new process goes on where one was killed."""
    lines: list[str] = []
    while len(lines) < SEEDS:
        scratch.joinpath(str(len(lines))).mkdir(parents=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.damaged_store", store),
                *(scratch / str(len(lines)), str(len(lines)), str(SEEDS - 1)),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        # A signal is LMDB's end of the process; an exit code would be an error of Python's.
        assert done.returncode <= 0, f"{done.stdout.splitlines()[-1]}\n{done.stderr}"
        found = done.stdout.splitlines()
        lines += found
        assert found, done.stderr
    return lines


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    store = tmp_path_factory.mktemp("damaged")
    damaged_store.make(store / "store")
    return run(store / "store", store / "scratch")


def test_a_whole_store_has_what_was_put(tmp_path: Path) -> None:
    """Otherwise all that follows would show nothing."""
    contents = damaged_store.make(tmp_path / "store")

    assert damaged_store.use(tmp_path / "store") == contents
    assert damaged_store.checks.check(tmp_path / "store") == []


def test_damage_is_an_error_of_ours_or_is_not_seen(lines: list[str]) -> None:
    """Nothing else is raised: that is what the exit codes said. And damage is seen at all."""
    assert len(lines) == SEEDS
    assert sum("StoreDamaged" in line for line in lines) > SEEDS // 10


def test_the_check_survives_what_would_kill_an_owner(lines: list[str]) -> None:
    """LMDB ends the process at some wrong pages; the check looks at the pages first."""
    for line in lines:
        if not line.endswith("done"):
            assert "check:StoreDamaged" in line
