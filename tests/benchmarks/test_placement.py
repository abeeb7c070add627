"""The figures of placement on paper hold what the guide says of them, at a small size."""

from __future__ import annotations

from benchmarks.placement import World, ask, recovery_s


def test_small_worlds_have_all_their_figures() -> None:
    world = World(processes=20, shards=64, objects=100_000, lease_s=3.0)
    found = ask(world, (1, 10))

    assert found["shards of a process"] == "3 to 4"
    assert found["renewals a second"] == 20
    assert 1.0 <= found["largest share of objects over the mean"] < 1.5
    assert 2.0 < found["all answer again after 1 died, s"] < 3.5
    assert 2.0 < found["all answer again after 10 died, s"] < 3.5


def test_shards_answer_again_when_leases_have_run_out() -> None:
    """Not before, and soon after."""
    world = World(processes=50, shards=128, lease_s=10.0)

    assert 10.0 * 2 / 3 < recovery_s(world, 5) < 10.5
