"""P16 and P18 from below: the order of writes and syncs, whatever a power failure makes of it.

A program runs under a recorder of all that it does to its files (`record_writes.c`). Its record is
cut at many points, and of each the images are made that the failure may have left: with what was
synced, and with any part of the rest (`power_cut_disk.py`). A judge opens them (`power_cut_judge`).

100 images by default, and some of each step of the creation; DURABLE_CRASH_ROUNDS=1000 for more.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import define

from .power_cut_disk import Disk, File
from .power_cut_judge import STORE
from .power_cut_program import MAP_SIZE
from .power_cut_record import (
    ROOT,
    build_recorder,
    number_of,
    read_record,
    run_recorded,
    why_not,
)

ROUNDS = 5 * int(os.environ.get("DURABLE_CRASH_ROUNDS", "20"))
ROUNDS_MAX = 500  # of one run of the program

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

KILLED = -9


@define
class Recorded:
    """A program that ran, and what it did to its files."""

    recorder: Path
    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def run(self, spoiled: str = "nothing", seed: int = 1) -> int:
        self.files.mkdir(exist_ok=True)
        module = "tests.crash.power_cut_program"
        arguments = str(self.files / STORE), str(seed), spoiled
        return run_recorded(self.recorder, self.files, self.log, module, *arguments)

    def judge(self, rounds: int, seed: int = 1, dropped: str = "nothing") -> list[str]:
        """What is wrong with the images of power failures: each with where and how it was made."""
        images = self.folder / f"images {seed} {dropped}"
        images.mkdir()
        arguments = self.log, number_of(self.files), images, seed, rounds, dropped
        judged = subprocess.run(
            [sys.executable, "-m", "tests.crash.power_cut_judge", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        lines = [json.loads(line) for line in judged.stdout.splitlines()]
        faults = [
            f"cut {made[0]}, {made[1]}: {fault}"
            for made, fault in zip(lines[::2], lines[1::2], strict=False)
            if fault is not None
        ]
        assert judged.returncode <= 0  # it has no faults of its own
        if judged.returncode < 0:
            faults.append(f"{lines[-1]}: the judge was killed by signal {-judged.returncode}")
        else:
            assert faults or len(lines) >= 2 * rounds
        return faults


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture(scope="module")
def recorded(recorder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The program as it is."""
    program = Recorded(recorder, tmp_path_factory.mktemp("recorded"))
    assert program.run() == 0
    return program


@pytest.fixture
def fresh(recorder: Path, tmp_path: Path) -> Recorded:
    """Nothing has run yet."""
    return Recorded(recorder, tmp_path)


def test_a_power_failure_takes_nothing_that_was_acknowledged(
    recorded: Recorded, recorder: Path, tmp_path: Path
) -> None:
    """Whatever part of the unsynced writes is there, the store opens, is whole, and knows all."""
    assert recorded.judge(min(ROUNDS, ROUNDS_MAX)) == []
    for seed in range(2, 1 + ROUNDS // ROUNDS_MAX):
        (tmp_path / f"{seed}").mkdir()
        more = Recorded(recorder, tmp_path / f"{seed}")
        assert more.run(seed=seed) == 0
        assert more.judge(ROUNDS_MAX, seed) == [], f"seed {seed}"


@pytest.mark.parametrize(
    "died", ["dies before the folder is synced", "dies before the folders above are synced"]
)
def test_an_opening_that_was_killed_leaves_nothing_unsynced_behind(
    fresh: Recorded, died: str
) -> None:
    """The next one sees to what the first has made, before anything is acknowledged."""
    assert fresh.run(died) == KILLED
    assert fresh.run(seed=2) == 0

    assert fresh.judge(ROUNDS // 10) == []


def test_the_record_has_all_that_was_written(recorded: Recorded, tmp_path: Path) -> None:
    """Played to its end it makes the very files; only the lock file was written unseen."""
    disk = Disk(number_of(recorded.files))
    disk.play(read_record(recorded.log))
    disk.write_image(tmp_path / "image", "everything", random.Random(1))

    made, real = _files(tmp_path / "image"), _files(recorded.files)
    locks = {STORE / "lock.mdb"}
    assert set(made) == set(real) >= locks
    assert [path for path in real if path not in locks and made[path] != real[path]] == []
    things = disk.things.values()
    assert sum(isinstance(thing, File) and thing.is_mapped for thing in things) == len(locks)
    assert len(real[STORE / "data.mdb"]) > 4 * MAP_SIZE  # the map has grown


@pytest.mark.parametrize("spoiled", ["sync", "metasync"])
def test_a_program_that_does_not_sync_is_caught(fresh: Recorded, spoiled: str) -> None:
    """The judge finds what LMDB does wrong when it is told to."""
    assert fresh.run(spoiled) == 0

    assert fresh.judge(ROUNDS_MAX) != []


@pytest.mark.parametrize("dropped", ["data syncs", "folder syncs", "synced writes"])
def test_each_kind_of_sync_is_needed(recorded: Recorded, dropped: str) -> None:
    """Without one of them the judge finds that something is lost."""
    assert recorded.judge(ROUNDS_MAX, dropped=dropped) != []


def _files(folder: Path) -> dict[Path, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in paths}
