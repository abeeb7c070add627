"""Which process should have which shard: decided by a function of values."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable._engine.shards import shard_of
from durable._model.ids import IdFactory
from durable._shards.placement import moved, place

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=24, unique=True)


def names(count: int) -> list[str]:
    return [f"process {number}" for number in range(count)]


@given(st.integers(1, 64), NAMES)
def test_every_shard_has_a_process_and_loads_differ_by_one_at_most(
    shards: int, processes: list[str]
) -> None:
    placed = place(shards, processes)

    loads = Counter(dict.fromkeys(processes, 0))
    loads.update(placed)
    assert len(placed) == shards
    assert set(loads) == set(processes)
    assert max(loads.values()) - min(loads.values()) <= 1


@given(NAMES, st.randoms(use_true_random=False))
def test_all_processes_come_to_the_same_placement(processes: list[str], chance: object) -> None:
    """Whatever the order in which each of them sees the others."""
    assert place(16, processes) == place(16, processes[::-1]) == place(16, set(processes))


def test_without_processes_nothing_is_placed() -> None:
    assert place(16, []) == ()


@pytest.mark.parametrize(
    ("shards", "count", "share_max"),
    [(16, 2, 0.6), (16, 4, 0.5), (1_024, 10, 0.2), (1_024, 100, 0.05), (1_024, 1_000, 0.02)],
)
def test_few_shards_move_when_a_process_comes_or_goes(
    shards: int, count: int, share_max: float
) -> None:
    """*share_max* of all at most, with a thousand processes too."""
    before = place(shards, names(count))

    assert len(moved(before, place(shards, names(count + 1)))) <= shards * share_max
    assert len(moved(before, place(shards, names(count)[1:]))) <= shards * share_max


def test_what_a_process_gets_when_it_comes_it_keeps_if_it_is_the_only_change() -> None:
    """The placement has no memory: the same processes give the same one."""
    before = place(16, names(4))
    place(16, names(5))

    assert place(16, names(4)) == before


def test_objects_spread_evenly_over_shards() -> None:
    """By their ids, named ones and unique ones alike."""
    ids = IdFactory("Counter")
    made = [ids.from_name(str(number)) for number in range(4_000)]
    made += [ids.new_unique() for _ in range(4_000)]
    loads = Counter(shard_of(object_id.raw[:16], 16) for object_id in made)

    assert len(loads) == 16
    assert max(loads.values()) < 1.25 * 8_000 / 16
