"""Group commit: which batches leave at once, and which are kept for others to join them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest
from attrs import define, field

from durable._engine.batch import UNCHANGED, Alarm, Batch, Callbacks, ObjectHandle
from durable._engine.committer import Committer
from durable._engine.group_commit import GATHER_ROUNDS_MAX, GroupCommit
from durable._model.errors import DurableError, RuntimeClosed


@define
class Queue:
    """In the place of a committer: what it was given and has not reported."""

    batches: list[Batch] = field(factory=list)
    is_stopped: bool = False
    is_quick: bool = False
    was_shared: bool = False
    takes_here: bool = True
    committed_here: list[Batch] = field(factory=list)

    @property
    def waiting(self) -> int:
        return len(self.batches)

    def submit(self, batch: Batch) -> None:
        self.submit_all([batch])

    def submit_all(self, batches: Sequence[Batch]) -> None:
        if self.is_stopped:
            raise RuntimeClosed
        self.batches += batches

    def begin(self, batch: Batch) -> bool:
        return False

    def begin_no_more(self) -> None:
        pass

    def commit_here(self, batch: Batch) -> bool:
        if self.is_quick and self.takes_here:
            self.committed_here.append(batch)
            return True
        return False

    def report(self) -> None:
        while self.batches:
            batch = self.batches.pop(0)
            batch.origin.batch_durable(batch)


@define
class Bench:
    """A group commit, with what stands around it."""

    queue: Queue = field(factory=Queue)
    is_busy: bool = False
    calls: list[Callable[[], None]] = field(factory=list)
    group_commit: GroupCommit = field(init=False)

    def __attrs_post_init__(self) -> None:
        committer = cast("Committer", self.queue)
        self.group_commit = GroupCommit(committer, self, self.calls.append)

    def submit(self, *batches: Batch) -> None:
        for batch in batches:
            self.group_commit.submit(batch)

    def end_round(self) -> None:
        calls, self.calls[:] = list(self.calls), []
        for call in calls:
            call()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def batch(*, more_follows: bool = False, alarm: Alarm | None = None) -> Batch:
    return Batch(
        handle=ObjectHandle(1, bytes(16), 1, None, None, None),
        clears=False,
        puts={"k": b"v"},
        alarm=alarm or UNCHANGED,
        origin=Callbacks(lambda: None, lambda error: None),
        size=2,
        more_follows=more_follows,
    )


def test_a_batch_that_is_alone_leaves_at_once(bench: Bench) -> None:
    """There is nothing to wait for."""
    alone = batch()
    bench.submit(alone)

    assert bench.queue.batches == [alone]
    assert not alone.is_open


def test_a_batch_behind_others_waits_for_the_end_of_the_round(bench: Bench) -> None:
    """It is open meanwhile, and all of them leave together, in order."""
    first, second, third = batch(), batch(), batch()
    bench.submit(first, second, third)
    assert bench.queue.batches == [first]
    assert second.is_open
    assert bench.group_commit.waiting == 3

    bench.end_round()
    assert bench.queue.batches == [first, second, third]
    assert not second.is_open
    assert not bench.calls


def test_after_a_group_of_several_a_batch_waits_for_the_others_of_its_round(bench: Bench) -> None:
    """Callers who were told of one group together write the next one together."""
    bench.queue.was_shared = True
    first, second = batch(), batch()
    bench.submit(first)
    assert not bench.queue.batches

    bench.submit(second)
    bench.end_round()
    assert bench.queue.batches == [first, second]


def test_a_batch_is_kept_while_other_objects_run(bench: Bench) -> None:
    """What they write is likely to be sealed in this round too."""
    bench.is_busy = True
    kept = batch()
    bench.submit(kept)
    assert not bench.queue.batches

    bench.end_round()
    assert bench.queue.batches == [kept]


def test_a_batch_is_kept_for_its_objects_line_though_not_for_ever(bench: Bench) -> None:
    """It is kept for a bounded number of rounds while deliveries wait at its object."""
    hot = batch(more_follows=True)
    bench.submit(hot)
    for _ in range(GATHER_ROUNDS_MAX - 1):
        bench.end_round()
        assert not bench.queue.batches

    bench.end_round()
    assert bench.queue.batches == [hot]


def test_a_line_that_has_ended_keeps_nothing(bench: Bench) -> None:
    """The batch leaves at the end of the round in which nothing more follows."""
    hot = batch(more_follows=True)
    bench.submit(hot)
    bench.end_round()
    hot.more_follows = False
    bench.end_round()

    assert bench.queue.batches == [hot]


def test_where_the_disk_is_quick_a_lone_batch_is_committed_by_the_loop(bench: Bench) -> None:
    """In the next round, never within the turn that has made it; what comes until then joins it."""
    bench.queue.is_quick = True
    alone = batch()
    bench.submit(alone)
    assert alone.is_open
    assert not bench.queue.committed_here

    bench.end_round()
    assert bench.queue.committed_here == [alone]
    assert not alone.is_open
    assert not bench.queue.batches


def test_batches_that_meet_in_a_round_go_to_the_thread(bench: Bench) -> None:
    """However quick the disk is, a group is not for the loop to wait for."""
    bench.queue.is_quick = True
    first, second = batch(), batch()
    bench.submit(first, second)
    bench.end_round()

    assert bench.queue.batches == [first, second]
    assert not bench.queue.committed_here


def test_a_batch_beside_busy_objects_goes_to_the_thread(bench: Bench) -> None:
    """The loop has other things to do than to wait for the disk."""
    bench.queue.is_quick = True
    alone = batch()
    bench.submit(alone)
    bench.is_busy = True
    bench.end_round()

    assert bench.queue.batches == [alone]
    assert not bench.queue.committed_here


def test_what_the_loop_may_not_commit_goes_to_the_thread(bench: Bench) -> None:
    """With its alarm announced once."""
    announced: list[Batch] = []
    bench.group_commit.on_alarm = announced.append
    bench.queue.is_quick, bench.queue.takes_here = True, False
    refused = batch(alarm=Alarm(5, 5))
    bench.submit(refused)
    bench.end_round()

    assert bench.queue.batches == [refused]
    assert announced == [refused]


def test_a_flush_before_the_round_sends_a_lone_batch_to_the_thread(bench: Bench) -> None:
    """Once, and the round that comes finds nothing."""
    bench.queue.is_quick = True
    alone = batch()
    bench.submit(alone)
    bench.group_commit.flush()
    bench.end_round()

    assert bench.queue.batches == [alone]
    assert not bench.queue.committed_here


def test_an_alarm_is_announced_before_its_batch_leaves(bench: Bench) -> None:
    """And only a batch that changes one."""
    announced: list[tuple[Batch, int]] = []
    bench.group_commit.on_alarm = lambda b: announced.append((b, len(bench.queue.batches)))
    plain, alarmed = batch(), batch(alarm=Alarm(5, 5))
    bench.submit(plain, alarmed)
    bench.group_commit.flush()

    assert announced == [(alarmed, 1)]


def test_a_batch_that_comes_after_the_end_fails(bench: Bench) -> None:
    """Its origin is told, as of any other failure."""
    bench.queue.is_stopped = True
    failures: list[DurableError] = []
    late = batch()
    late.origin = Callbacks(lambda: None, failures.append)
    bench.submit(late)

    assert isinstance(failures[0], RuntimeClosed)


def test_an_answer_comes_behind_all_that_was_submitted(bench: Bench) -> None:
    """What was gathered is sent first, so that the answer need not wait for a round."""
    heard: list[int] = []
    bench.submit(batch(), batch())
    bench.group_commit.when_answered(lambda: heard.append(len(bench.queue.batches)))

    assert bench.group_commit.waiting == 3
    bench.queue.report()
    assert heard == [0]


def test_no_answer_comes_after_the_end(bench: Bench) -> None:
    """There is no successor that could wait for it."""
    bench.queue.is_stopped = True
    bench.group_commit.when_answered(pytest.fail)


def test_without_a_loop_batches_wait_for_a_flush(bench: Bench) -> None:
    """A store whose event loop has ended calls nothing back in it, and asks no scheduler."""
    bench.group_commit.on_alarm = lambda batch: pytest.fail("the scheduler has gone")
    bench.is_busy = True
    bench.group_commit.lose_loop()
    last = batch(alarm=Alarm(5, 5))
    bench.submit(last)
    assert not bench.calls

    bench.group_commit.flush()
    assert bench.queue.batches == [last]
