"""What a process believes of its lease, by two clocks."""

from __future__ import annotations

import math

from durable._engine.lease import (
    BELIEVED,
    Lease,
    Seen,
    dead_owners,
    look_again_s,
    to_declare_dead,
)


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def lease_of(lease_s: float) -> tuple[Lease, Clock]:
    clock = Clock()
    return Lease(lease_s, clock), clock


def test_a_lease_counts_from_before_it_was_asked_for() -> None:
    """The answer may have taken any time."""
    lease, clock = lease_of(10.0)
    asked = lease.asking()
    clock.now_s += 3.0
    lease.granted(asked)

    assert lease.valid_until == 1_000.0 + 10.0 * BELIEVED
    assert lease.is_valid()
    clock.now_s = lease.valid_until
    assert not lease.is_valid()


def test_an_answer_that_was_overtaken_takes_nothing_back() -> None:
    lease, clock = lease_of(10.0)
    first = lease.asking()
    clock.now_s += 3.0
    lease.granted(lease.asking())
    until = lease.valid_until
    lease.granted(first)

    assert lease.valid_until == until


def test_a_lease_that_is_over_is_over_for_ever() -> None:
    lease, _ = lease_of(10.0)
    lease.granted(lease.asking())
    lease.end()
    lease.granted(lease.asking())

    assert lease.is_over
    assert not lease.is_valid()


def test_those_whose_lease_has_run_out_are_declared_dead_once() -> None:
    seen = [Seen(1, -5.0), Seen(2, 3.0), Seen(3, -math.inf), Seen(4, -1.0), Seen(5, 2.0)]

    assert to_declare_dead(seen, [5], me=4) == [1, 5]


def test_owners_that_are_dead_or_gone_are_claimed_from() -> None:
    """Not those whose lease has run out and whose death was not declared: they may be renewing."""
    processes = {1: Seen(1, -5.0), 3: Seen(3, -math.inf)}

    assert dead_owners([None, 1, 2, 3, 3], processes) == {2, 3}


def test_a_process_that_did_not_renew_is_looked_at_when_its_lease_runs_out() -> None:
    lease, _ = lease_of(9.0)

    assert look_again_s([], lease, 1) == 3.0
    assert look_again_s([Seen(2, 8.0), Seen(3, -math.inf)], lease, 1) == 3.0
    assert look_again_s([Seen(2, 1.5), Seen(3, 8.0)], lease, 1) == 1.5
