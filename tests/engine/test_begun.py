"""A commit that another process makes: the loop begins it, hears its end, and leaves it to the
committer's thread where that is better."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from attrs import define, field

from durable._engine.batch import Batch
from durable._engine.committer import Committer
from durable._memory.engine import MemoryEngine
from durable._model.cluster_errors import StoreUnavailable
from durable._model.errors import DurableError

from . import kit
from .kit import VALUE, Clock, Outcomes, batch_of, place_of, stored

WAIT_S_MAX = 10.0


class FarEngine(MemoryEngine):
    """An engine whose commits are made elsewhere, and end when the test lets them."""

    def __init__(self) -> None:
        super().__init__(Clock(), "far away")
        self.here, self.there = socket.socketpair()
        self.may_begin = True
        self.begun: list[Batch] = []
        self.committed: list[int] = []  # the sizes of groups
        self.answers: list[DurableError | None] = []
        self.has_answer = threading.Event()

    def begin(self, batch: Batch) -> UnderWay | None:
        if not self.may_begin:
            return None
        self.begun.append(batch)
        return UnderWay(self, batch)

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        self.committed.append(len(group))
        return may_wait and super().commit(group)

    def answer(self, error: DurableError | None = None) -> None:
        self.answers.append(error)
        self.there.send(b".")
        self.has_answer.set()


@define(eq=False)
class UnderWay:
    """A commit that was begun."""

    engine: FarEngine
    batch: Batch

    @property
    def connection(self) -> object:
        return self.engine.here

    def fileno(self) -> int:
        return self.engine.here.fileno()

    def has_ended(self, *, may_wait: bool) -> bool:
        if may_wait:
            assert self.engine.has_answer.wait(WAIT_S_MAX)
        if not self.engine.answers:
            return False
        self.engine.here.recv(1)
        error = self.engine.answers.pop()
        if error is not None:
            raise error
        return MemoryEngine.commit(self.engine, [self.batch])


@define
class Timer:
    callback: Callable[[], None] | None

    def cancel(self) -> None:
        self.callback = None

    def ring(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


@define
class Loop(kit.Loop):
    """With sockets that are looked at when the loop is run, and timers that a test rings."""

    watched: dict[socket.socket, Callable[[], None]] = field(factory=dict)
    timers: list[Timer] = field(factory=list)

    def letting_go_on(self, wake: Callable[[Callable[[], None]], object]) -> None:
        wake(lambda: None)

    def watch_readable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        self.watched[sock] = callback

    def forget(self, sock: socket.socket) -> None:
        self.watched.pop(sock, None)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(callback))
        return self.timers[-1]

    def hear(self) -> None:
        """There is something to read."""
        for callback in list(self.watched.values()):
            callback()

    def run_until(self, is_over: Callable[[], bool]) -> None:
        for _ in range(int(WAIT_S_MAX * 1_000)):
            self.run()
            if is_over():
                return
            threading.Event().wait(0.001)
        raise AssertionError


class Bench:
    """A committer of an engine that is far away, and what its batches have heard."""

    def __init__(self, **options: Any) -> None:
        self.engine, self.loop, self.outcomes = FarEngine(), Loop(), Outcomes()
        self.committer = Committer(
            self.engine, self.loop.call_soon_threadsafe, loop=self.loop, **options
        )
        self.committer.start()

    def batch(self, label: str, name: str = "front page") -> Batch:
        handle = place_of(self.engine, name)
        return batch_of(self.engine, handle, {label: VALUE}, label=label, outcomes=self.outcomes)

    def close(self) -> None:
        self.committer.begin_no_more()
        self.committer.stop()
        self.loop.run()
        assert not self.committer.waiting
        assert not self.loop.watched
        assert all(timer.callback is None for timer in self.loop.timers)
        self.engine.here.close()
        self.engine.there.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_the_loop_goes_on_until_the_answer_has_come(bench: Bench) -> None:
    """And the committer's thread has nothing to do with it."""
    batch = bench.batch("1")
    assert bench.committer.begin(batch)
    bench.loop.hear()
    assert bench.outcomes.told == []
    assert bench.committer.waiting == 1

    bench.engine.answer()
    bench.loop.hear()
    assert bench.outcomes.durable == ["1"]
    assert bench.committer.waiting == 0
    assert stored(bench.engine, batch.handle) == {"1": VALUE}
    assert bench.engine.committed == []
    assert bench.loop.calls == []


def test_what_comes_meanwhile_is_one_group_behind_it(bench: Bench) -> None:
    """None of it overtakes, or is begun beside it."""
    assert bench.committer.begin(bench.batch("1"))
    assert not bench.committer.begin(bench.batch("2"))
    for label in ("2", "3", "4"):
        bench.committer.submit(bench.batch(label, label))
    assert bench.engine.committed == []

    bench.engine.answer()
    bench.loop.hear()
    bench.loop.run_until(lambda: not bench.committer.waiting)
    assert bench.outcomes.durable == ["1", "2", "3", "4"]
    assert len(bench.engine.begun) == 1
    assert sum(bench.engine.committed) == 3


def test_a_late_answer_is_the_threads_to_wait_for(bench: Bench) -> None:
    """Its waits have a bound. What was begun before the timer was set is not late."""
    assert bench.committer.begin(bench.batch("1"))
    bench.engine.answer()
    bench.loop.hear()
    bench.engine.has_answer.clear()
    assert bench.committer.begin(bench.batch("2"))
    assert len(bench.loop.timers) == 1
    bench.loop.timers[0].ring()
    assert bench.loop.watched
    bench.committer.submit(bench.batch("3", "3"))

    bench.loop.timers[1].ring()
    assert not bench.loop.watched
    bench.engine.answer()
    bench.loop.run_until(lambda: not bench.committer.waiting)
    assert bench.outcomes.durable == ["1", "2", "3"]
    assert bench.engine.committed == [1]


def test_a_failure_marks_the_object_before_anything_else_is_committed(bench: Bench) -> None:
    """What rests on the lost batch is lost, too."""
    first = bench.batch("1")
    assert bench.committer.begin(first)
    bench.committer.submit(
        batch_of(bench.engine, first.handle, {"2": VALUE}, label="2", outcomes=bench.outcomes)
    )
    error = StoreUnavailable("gone")
    bench.engine.answer(error)
    bench.loop.hear()
    bench.loop.run_until(lambda: not bench.committer.waiting)

    assert bench.outcomes.told == [("1", error), ("2", error)]
    assert first.handle.failed is error
    assert stored(bench.engine, first.handle) == {}


@pytest.mark.parametrize("is_answered", [True, False])
def test_what_is_under_way_at_the_end_is_committed(bench: Bench, is_answered: bool) -> None:
    """The thread hears of it, also where the loop runs no more."""
    bench.committer.begin(bench.batch("1"))
    bench.committer.submit(bench.batch("2", "2"))
    if is_answered:
        bench.engine.answer()
    bench.committer.begin_no_more()
    if not is_answered:
        threading.Timer(0.01, bench.engine.answer).start()
    bench.committer.stop()
    bench.loop.run()

    assert bench.outcomes.durable == ["1", "2"]
    assert not bench.committer.begin(bench.batch("3"))


def test_garbage_is_not_freed_before_a_late_answer_has_come(bench: Bench) -> None:
    """The thread that waits to free it finds that the loop has left a commit to it."""
    ear = bench.committer._ear
    assert ear is not None
    were_waiting: list[bool] = []

    def collect_garbage(count_max: int = 0) -> int:
        were_waiting.append(ear.is_waiting)
        bench.engine.has_garbage = False
        return 0

    bench.engine.collect_garbage = collect_garbage  # type: ignore[method-assign]
    assert bench.committer.begin(bench.batch("1"))
    bench.engine.has_garbage = True  # a class was deleted, say
    bench.committer._queue.put(())  # the thread comes back to its queue
    for _ in range(100):
        threading.Event().wait(0.0001)  # it waits for the loop's thread
    bench.loop.timers[0].ring()
    bench.engine.answer()
    bench.loop.run_until(lambda: not bench.committer.waiting and were_waiting != [])

    assert were_waiting == [False]
    assert bench.outcomes.durable == ["1"]


def test_what_cannot_be_begun_is_left_to_be_submitted(bench: Bench) -> None:
    """Nothing is kept of the attempt."""
    bench.engine.may_begin = False
    batch = bench.batch("1")
    assert not bench.committer.begin(batch)
    assert not bench.committer.waiting

    bench.committer.submit(batch)
    bench.loop.run_until(lambda: not bench.committer.waiting)
    assert bench.outcomes.durable == ["1"]


def test_a_connection_that_says_something_unasked_is_not_listened_to(bench: Bench) -> None:
    """That it has ended, perhaps: it would be readable for ever."""
    assert bench.committer.begin(bench.batch("1"))
    bench.engine.answer()
    bench.loop.hear()
    assert bench.loop.watched

    bench.loop.hear()
    assert not bench.loop.watched
    assert bench.committer.begin(bench.batch("2"))
    bench.engine.answer()
    bench.loop.hear()
    assert bench.outcomes.durable == ["1", "2"]


def test_the_answer_is_heard_where_it_comes_after_a_connection_was_replaced(bench: Bench) -> None:
    """The one before may stay open at its other end: a network passes nothing on, for instance."""
    assert bench.committer.begin(bench.batch("1"))
    bench.engine.answer()
    bench.loop.hear()
    before = bench.engine.here, bench.engine.there
    bench.engine.here, bench.engine.there = socket.socketpair()
    assert bench.committer.begin(bench.batch("2"))
    [sock] = bench.loop.watched
    for end in before:
        end.close()
    bench.engine.there.send(b".")

    assert sock.recv(1, socket.MSG_PEEK) == b"."
    bench.engine.here.recv(1)
    bench.engine.answer()
    bench.loop.hear()
    assert bench.outcomes.durable == ["1", "2"]


@pytest.mark.parametrize("broken", ["socket", "watching"])
def test_a_connection_that_cannot_be_listened_to_leaves_no_descriptor_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """The commit is late then, and the next one listens again."""
    copies: list[int] = []
    dup = os.dup

    def noted_dup(fileno: int) -> int:
        copies.append(dup(fileno))
        return copies[-1]

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOBUFS, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", noted_dup)
        if broken == "socket":
            patch.setattr(socket, "socket", refuse)
        else:
            patch.setattr(Loop, "watch_readable", refuse)
        assert bench.committer.begin(bench.batch("1"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copies[0])
    assert not bench.loop.watched
    bench.loop.timers[-1].ring()
    bench.engine.answer()
    bench.loop.run_until(lambda: not bench.committer.waiting)

    assert bench.committer.begin(bench.batch("2"))
    assert bench.loop.watched
    bench.engine.answer()
    bench.loop.hear()
    assert bench.outcomes.durable == ["1", "2"]


def test_an_interrupt_while_an_answer_is_read_is_the_programs(bench: Bench) -> None:
    """The batch fails, as its outcome is not known, and the interrupt passes on."""
    assert bench.committer.begin(bench.batch("1"))
    interrupt = KeyboardInterrupt()
    error = StoreUnavailable("not known")
    error.__cause__ = interrupt
    bench.engine.answer(error)
    with pytest.raises(KeyboardInterrupt):
        bench.loop.hear()

    assert bench.outcomes.told == [("1", error)]


def test_what_was_sent_is_still_the_batchs_after_an_interrupt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread waits for its answer, and takes no other batch for it."""

    def watch_readable(loop: Loop, sock: socket.socket, callback: Callable[[], None]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "watch_readable", watch_readable)
    with pytest.raises(KeyboardInterrupt):
        bench.committer.begin(bench.batch("1"))
    other = bench.batch("2", "2")
    bench.committer.submit(other)
    bench.engine.answer()
    bench.loop.run_until(lambda: not bench.committer.waiting)

    assert bench.outcomes.durable == ["1", "2"]
    assert stored(bench.engine, other.handle) == {"2": VALUE}


def test_an_interrupt_after_an_answer_was_read_leaves_the_batch_to_the_thread() -> None:
    """It is committed once more, since nothing else was since."""

    class Watch:
        interrupts = [KeyboardInterrupt()]

        def begins(self, group: Sequence[Batch]) -> None: ...

        def ended(self, group: Sequence[Batch], error: DurableError | None) -> None:
            if self.interrupts:  # that of a signal, which may come anywhere
                raise self.interrupts.pop()

    bench = Bench(watch=Watch())
    first, other = bench.batch("1"), bench.batch("2", "2")
    bench.committer.begin(first)
    bench.committer.submit(other)
    bench.engine.answer()
    with pytest.raises(KeyboardInterrupt):
        bench.loop.hear()
    bench.loop.run_until(lambda: not bench.committer.waiting)

    assert bench.outcomes.durable == ["1", "2"]
    assert stored(bench.engine, first.handle) == {"1": VALUE}
    bench.close()


def test_observers_hear_of_what_was_begun() -> None:
    """When it begins, and when it has ended."""

    class Watch:
        heard: list[tuple[str, int, DurableError | None]] = []

        def begins(self, group: Sequence[Batch]) -> None:
            self.heard.append(("begins", len(group), None))

        def ended(self, group: Sequence[Batch], error: DurableError | None) -> None:
            self.heard.append(("ended", len(group), error))

    watch = Watch()
    bench = Bench(watch=watch)
    bench.committer.begin(bench.batch("1"))
    assert watch.heard == [("begins", 1, None)]
    bench.engine.answer()
    bench.loop.hear()

    assert watch.heard == [("begins", 1, None), ("ended", 1, None)]
    bench.close()
