"""P16 from below: a process that commits is killed, and what it was told is on the disk.

20 rounds by default; more with DURABLE_CRASH_ROUNDS. Half of them die at a named point of the
commit, the others wherever they are when a number of batches was acknowledged.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from durable._engine.batch import Alarm
from durable._lmdb.check import check
from tests.engine.kit import open_store, place_of, stored

from .kill_commit_child import KEYS, OBJECTS

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("DURABLE_CRASH_ROUNDS", "20"))
POINTS = ("before commit", "after commit", "any", "any")


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """Nothing acknowledged is lost, no half batch is there, and the check finds nothing."""
    folder = tmp_path / "store"
    acknowledged = [0] * OBJECTS
    for round_ in range(ROUNDS):
        told = _run_and_kill(folder, POINTS[round_ % len(POINTS)], round_)
        for n, number in told:
            assert number > acknowledged[n]
            acknowledged[n] = number
        assert check(folder) == [], f"round {round_}"
        acknowledged = _read(folder, acknowledged)

    assert all(acknowledged)


def _run_and_kill(folder: Path, point: str, seed: int) -> list[tuple[int, int]]:
    """What the process said was durable before it died."""
    told: list[tuple[int, int]] = []
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.kill_commit_child", str(folder), point, str(seed)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        limit = 7 * (seed % 13) + 3 if point == "any" else None
        for line in process.stdout:
            if not line.endswith("\n"):
                break
            n, number = line.split()
            told.append((int(n), int(number)))
            if len(told) == limit:
                process.kill()
        assert process.wait() == -9
    return told


def _read(folder: Path, acknowledged: list[int]) -> list[int]:
    """The number that each object has now: one of those submitted, in all of its keys alike."""
    environment = open_store(folder)
    found = []
    for n in range(OBJECTS):
        handle = place_of(environment, f"n{n}")
        records = stored(environment, handle)
        if not records:
            assert acknowledged[n] == 0
            found.append(0)
            continue
        assert set(records) == set(KEYS)
        assert len(set(records.values())) == 1, "half a batch"
        number = int.from_bytes(records["a"][1:9], "big")
        assert number >= acknowledged[n], "an acknowledged batch is lost"
        assert handle.alarm == Alarm(number, number)
        found.append(number)
    environment.close()
    return found
