"""A batch that is alone, committed by the thread of the loop: when, and under the same rules."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from durable._engine import committer as committer_module
from durable._engine.batch import UNREAD, Batch
from durable._engine.committer import QUICK_MAX, QUICK_MIN, QUICK_SIZE_MAX, Committer
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._model.errors import CommitFailed, DurableError
from durable.testing import Faults
from tests.hand_clock import HandClock

from .kit import VALUE, Loop, Outcomes, batch_of, open_store, place_of, stored


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    # Whether it is quick is for the test to say.
    monkeypatch.setattr(committer_module, "QUICK_S_MAX", float("inf"))
    environment = open_store(tmp_path / "store")
    yield environment
    assert check(environment) == []
    environment.close()


def quick_committer(store: Environment, loop: Loop, **options: object) -> Committer:
    """One whose thread runs, and has found the disk to be quick."""
    committer = Committer(store, loop.call_soon_threadsafe, **options)  # type: ignore[arg-type]
    committer.start()
    for _ in range(QUICK_MIN):
        commit_in_thread(committer, store, loop)
    return committer


def commit_in_thread(committer: Committer, store: Environment, loop: Loop, count: int = 1) -> None:
    before = committer.waiting
    with committer._writing:  # so that all of them are one group, or two
        for number in range(count):
            committer.submit(batch_of(store, place_of(store, f"other {number}"), {"a": VALUE}))
    while committer.waiting > before:
        loop.run()


def test_a_lone_batch_is_committed_and_reported_before_the_call_returns(store: Environment) -> None:
    """By the thread that asks; the committer's is not woken."""
    loop, outcomes = Loop(), Outcomes()
    committer = quick_committer(store, loop)
    handle = place_of(store)

    assert committer.is_quick
    batch = batch_of(store, handle, {"a": VALUE}, label="1", outcomes=outcomes)
    assert committer.commit_here(batch)
    assert outcomes.durable == ["1"]
    assert committer.waiting == 0
    assert not loop.calls
    assert stored(store, handle) == {"a": VALUE}
    committer.stop()


def test_a_disk_is_quick_only_when_it_was_so_some_times_in_a_row(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a commit that was far too slow, of whichever thread, the thread has all until the disk
    was quick again."""
    loop = Loop()
    committer = Committer(store, loop.call_soon_threadsafe)
    committer.start()
    for _ in range(QUICK_MIN):
        assert not committer.is_quick
        commit_in_thread(committer, store, loop)
    assert committer.is_quick

    monkeypatch.setattr(committer_module, "QUICK_S_MAX", 0.0)
    assert committer.commit_here(batch_of(store, place_of(store), {"a": VALUE}))
    assert not committer.is_quick
    for _ in range(2 * QUICK_MIN):
        commit_in_thread(committer, store, loop)
    assert not committer.is_quick
    committer.stop()


def test_a_disk_that_is_slow_now_and_then_is_quick_yet(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One commit that takes a little too long changes nothing, several in a short time do."""
    clock = HandClock()
    monkeypatch.setattr(committer_module, "QUICK_S_MAX", 1.0)
    monkeypatch.setattr(committer_module, "SystemClock", clock)
    loop = Loop()
    committer = Committer(store, loop.call_soon_threadsafe)
    really_commit, handle = Environment.commit, place_of(store)

    def commit(seconds: float, count: int = 1) -> None:
        def commit_slowly(self: Environment, group: Sequence[Batch], **options: bool) -> bool:
            clock.now_s += seconds
            return really_commit(self, group, **options)

        monkeypatch.setattr(Environment, "commit", commit_slowly)
        for _ in range(count):
            committer._commit([batch_of(store, handle, {"a": VALUE})])

    commit(0.5, QUICK_MAX)
    commit(1.5)
    assert committer.is_quick
    commit(1.5)
    assert not committer.is_quick
    commit(0.5, QUICK_MAX)
    commit(2.5)
    assert not committer.is_quick


def test_after_a_group_of_many_the_thread_has_the_next_ones(store: Environment) -> None:
    """Where there are many callers it is they who gain by a thread."""
    loop = Loop()
    committer = quick_committer(store, loop)
    commit_in_thread(committer, store, loop, count=5)

    assert not committer.is_quick
    committer.stop()


def test_what_is_under_way_is_not_overtaken(store: Environment) -> None:
    """A batch goes behind those that the thread has, or has not yet reported."""
    loop, outcomes = Loop(), Outcomes()
    committer = quick_committer(store, loop)
    handle = place_of(store)
    committer.submit(batch_of(store, handle, {"a": VALUE}, label="1", outcomes=outcomes))

    second = batch_of(store, handle, {"a": b"\x91\x01"}, label="2", outcomes=outcomes)
    assert not committer.commit_here(second)
    committer.submit(second)
    committer.stop()
    loop.run()
    assert outcomes.durable == ["1", "2"]
    assert stored(store, handle) == {"a": b"\x91\x01"}


def test_two_threads_never_commit_at_once(store: Environment) -> None:
    """While the thread writes, garbage perhaps, the loop does not wait for it."""
    loop = Loop()
    committer = quick_committer(store, loop)
    with committer._writing:
        assert not committer.commit_here(batch_of(store, place_of(store), {"a": VALUE}))
    assert committer.waiting == 0
    committer.stop()


def test_what_makes_garbage_and_what_is_large_is_left_to_the_thread(store: Environment) -> None:
    """The thread frees it; and the loop is not kept for the time of many pages."""
    loop = Loop()
    committer = quick_committer(store, loop)
    handle = place_of(store)
    large: dict[str, bytes | None] = {"a": b"\x91" + bytes(QUICK_SIZE_MAX)}

    assert not committer.commit_here(batch_of(store, handle, large))
    assert not committer.commit_here(batch_of(store, handle, clears=True))
    store.has_garbage = True
    assert not committer.is_quick
    committer.stop()


def test_a_disk_that_a_test_holds_never_stops_the_loop(store: Environment) -> None:
    """Where faults may be, every commit is the thread's."""
    loop = Loop()
    committer = quick_committer(store, loop, faults=Faults())

    assert not committer.is_quick
    committer.stop()


def test_a_commit_that_fails_here_marks_its_object(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its origin is told, and what rests on it is lost too."""
    loop, outcomes = Loop(), Outcomes()
    committer = quick_committer(store, loop)
    handle = place_of(store)

    def fail(environment: Environment, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(Environment, "commit", fail)
        failing = batch_of(store, handle, {"a": VALUE}, label="1", outcomes=outcomes)
        assert committer.commit_here(failing)
    assert isinstance(handle.failed, CommitFailed)
    assert outcomes.told == [("1", handle.failed)]
    assert not committer.is_quick

    later = batch_of(store, handle, {"b": VALUE}, label="2", outcomes=outcomes)
    assert not committer.commit_here(later)
    committer.submit(later)
    committer.stop()
    loop.run()
    assert outcomes.failed == ["1", "2"]
    assert stored(store, handle) == {}


def test_an_interrupt_while_the_loop_waits_for_the_disk_is_the_programs(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch fails, as its outcome is not known, and the interrupt passes on."""
    loop, outcomes = Loop(), Outcomes()
    committer = quick_committer(store, loop)
    handle = place_of(store)

    def interrupt(
        environment: Environment, group: Sequence[Batch], *, may_wait: bool = True
    ) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Environment, "commit", interrupt)
    batch = batch_of(store, handle, {"a": VALUE}, label="1", outcomes=outcomes)
    with pytest.raises(KeyboardInterrupt):
        committer.commit_here(batch)

    assert outcomes.failed == ["1"]
    assert committer.waiting == 0
    monkeypatch.undo()
    committer.stop()


def test_observers_hear_of_what_the_loop_commits(store: Environment) -> None:
    """As of any other commit."""

    class Watch:
        heard: list[tuple[str, int, DurableError | None]] = []

        def begins(self, group: Sequence[Batch]) -> None:
            self.heard.append(("begins", len(group), None))

        def ended(self, group: Sequence[Batch], error: DurableError | None) -> None:
            self.heard.append(("ended", len(group), error))

    loop, watch = Loop(), Watch()
    committer = quick_committer(store, loop, watch=watch)
    watch.heard.clear()
    assert committer.commit_here(batch_of(store, place_of(store), {"a": VALUE}))

    assert watch.heard == [("begins", 1, None), ("ended", 1, None)]
    committer.stop()


def test_a_map_that_must_grow_is_the_threads_to_grow(tmp_path: Path) -> None:
    """It may be held for as long as it is copied; and nothing of the first try is left."""
    store = open_store(tmp_path / "store")
    assert store.commit([batch_of(store, place_of(store), {"a": VALUE})], may_wait=False)
    new = place_of(store, "new")
    large = batch_of(store, new, {"a": bytes(2 * store.handle.map_size)})

    assert not store.commit([large], may_wait=False)
    assert new.record is UNREAD
    assert stored(store, new) == {}
    assert store.commit([large])
    assert len(stored(store, new)["a"]) == len(large.puts["a"] or b"")
    store.close()


def test_the_write_lock_is_not_waited_for(store: Environment) -> None:
    """Something opens LMDB anew, perhaps, and waits for those who copy it."""
    handle = place_of(store)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with store.handle.write_lock:
            held.set()
            let_go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        assert not store.commit([batch_of(store, handle, {"a": VALUE})], may_wait=False)
    finally:
        let_go.set()
        thread.join()
    assert store.commit([batch_of(store, handle, {"a": VALUE})], may_wait=False)
