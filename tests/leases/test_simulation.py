"""Leases keep P19 and P20 in simulated histories, and the simulation notices what would not.

`DURABLE_LEASE_SEEDS=N` lives more histories. That calls keep their order through moves of shards is
simulated with the real lines in `tests/shards`.
"""

from __future__ import annotations

import os

import pytest

from durable._engine.lease import SKEW_MAX

from .simulation import LEASE_S, BelievedFromTheAnswer, Parts, WithoutAllowance, live

SEEDS = int(os.environ.get("DURABLE_LEASE_SEEDS", "12"))
# In so many histories each of the broken parts is noticed.
SEEDS_TO_NOTICE = 150


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history(seed: int) -> None:
    simulation = live(seed)

    assert simulation.answers > 100


@pytest.mark.parametrize("seed", range(SEEDS // 2))
def test_a_history_in_which_the_clock_of_the_database_is_set(seed: int) -> None:
    """Back by two leases, or forward by as much as owners allow for."""
    simulation = live(seed, steps=(2.0, SKEW_MAX))

    assert simulation.answers > 100


def test_a_clock_that_is_set_far_forward_lets_former_owners_read_for_less_than_a_lease() -> None:
    """What ends their leases early ends their next renewals, too. Nothing that was confirmed is
    lost, or carried out twice: commits are fenced by epochs."""
    stale_s = [each for seed in range(100, 106) for each in live(seed, steps=(0.5, 3.0)).stale_s]

    assert stale_s
    assert max(stale_s) < LEASE_S


def test_a_seed_is_a_history() -> None:
    one, other = live(3), live(3)

    assert (one.calls, one.answers) == (other.calls, other.answers)
    assert one.database.shards == other.database.shards


# Each with the first history that is known to notice it, where the search begins.
BROKEN = {
    "no epoch in the commit": (0, Parts(is_fenced=False)),
    "no lease check before an answer": (0, Parts(asks_lease=False)),
    "a renewal believed from when the answer came": (4, Parts(lease=BelievedFromTheAnswer)),
    "no allowance for clocks that differ": (59, Parts(lease=WithoutAllowance)),
    "a claim that does not wait for a renewal": (5, Parts(declares_dead=False)),
    "a guess about a commit in doubt": (16, Parts(settles_doubt=False)),
    "a call sent twice": (2, Parts(sends_again=True)),
}


@pytest.mark.parametrize(("first", "parts"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_noticed(first: int, parts: Parts) -> None:
    for seed in range(first, first + SEEDS_TO_NOTICE):
        try:
            live(seed, parts)
        except AssertionError:
            return
    pytest.fail(f"{SEEDS_TO_NOTICE} histories did not notice it")
