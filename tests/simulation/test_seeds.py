"""Some seeds of the simulation, on both loops; `python -m durable.testing.simulation` runs more."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

from durable.testing.simulation import BACKENDS, Outcome, simulate

SEEDS = range(25)


@cache
def simulated(seed: int, backend: str) -> Outcome:
    """What becomes of a seed, which is always the same."""
    return simulate(seed, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_breaks_no_promise(seed: int, backend: str) -> None:
    """What was heard can be explained by a patient object, and rests on what is on the disk."""
    outcome = simulated(seed, backend)

    assert outcome.is_good, "\n".join(
        [
            *outcome.violations,
            f"python -m durable.testing.simulation --seed {seed} --backend {backend}",
        ]
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_seeds_make_much_happen(backend: str) -> None:
    """A simulation in which nothing goes wrong proves nothing."""
    counts: dict[str, int] = {}
    for seed in SEEDS:
        for what, count in simulated(seed, backend).counts.items():
            counts[what] = counts.get(what, 0) + count

    assert counts["answers"] > 500
    assert counts["rings"] > 30
    assert counts["socket messages"] > 100
    for what in ("cancellations", "evictions", "failed commits", "power failures"):
        assert counts[what] > 5, what
    for what in ("power failures within a commit", "unconfirmed losses", "wakes from hibernation"):
        assert counts[what] > 5, what
    assert counts["power failures within a commit with a journal"] > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_seed_makes_the_same_history_in_every_process(backend: str) -> None:
    """What cannot be replayed cannot be understood. (The hashes of strings differ by process.)"""
    program = (
        "import hashlib; from durable.testing.simulation import simulate; "
        f"lines = [l for seed in range(6) for l in simulate(seed, {backend!r}).lines]; "
        "print(hashlib.sha256('\\n'.join(lines).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for number in (1, 2)
    }

    assert len(digests) == 1


def test_a_seed_is_replayed_by_one_line() -> None:
    """The command prints the history, and says by its exit code whether a promise was broken."""
    command = [sys.executable, "-m", "durable.testing.simulation", "--seed", "3"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0
    assert done.stdout.splitlines() == list(simulate(3).lines)
