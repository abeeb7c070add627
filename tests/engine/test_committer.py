"""The committer: groups, order, and what a failure takes with it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from durable._engine.batch import Batch, Callbacks, ObjectHandle
from durable._engine.committer import Committer
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._model.errors import CommitFailed, RuntimeClosed, StoreFull

from .kit import VALUE, Loop, Outcomes, batch_of, open_store, place_of, stored


@define
class Faults:
    """Holds commits until they are let go, and fails those that it was told to."""

    errors: list[BaseException | None] = field(factory=list)  # of the next groups
    late_errors: list[BaseException | None] = field(factory=list)
    groups: list[int] = field(factory=list)
    gate: threading.Semaphore | None = None
    arrived: threading.Semaphore = field(factory=lambda: threading.Semaphore(0))

    def before_commit(self, group: Sequence[Batch]) -> None:
        self.groups.append(len(group))
        self.arrived.release()
        if self.gate is not None:
            self.gate.acquire()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    def after_commit(self, group: Sequence[Batch]) -> None:
        error = self.late_errors.pop(0) if self.late_errors else None
        if error is not None:
            raise error


@pytest.fixture
def store(tmp_path: Path):
    environment = open_store(tmp_path / "store")
    yield environment
    assert check(environment) == []
    environment.close()


def held_committer(store: Environment, **options) -> tuple[Committer, Faults, Loop]:
    """A committer that holds each group until `gate` lets it go."""
    loop, faults = Loop(), Faults(gate=threading.Semaphore(0), **options)
    committer = Committer(store, loop.call_soon_threadsafe, faults=faults)
    committer.start()
    return committer, faults, loop


def test_what_waits_goes_in_one_group(store: Environment) -> None:
    """While one group is under way the next gathers, and the loop is woken once for each."""
    committer, faults, loop = held_committer(store)
    outcomes = Outcomes()
    places = [place_of(store, f"n{n}") for n in range(5)]
    batches = [
        batch_of(store, place, {"a": VALUE}, label=str(n), outcomes=outcomes)
        for n, place in enumerate(places)
    ]
    committer.submit(batches[0])
    faults.arrived.acquire()
    for batch in batches[1:]:
        committer.submit(batch)
    assert committer.waiting == 5
    faults.gate.release(2)
    committer.stop()

    assert faults.groups == [1, 4]
    assert len(loop.calls) == 2
    assert outcomes.told == []
    loop.run()
    assert outcomes.durable == ["0", "1", "2", "3", "4"]
    assert committer.waiting == 0
    assert all(stored(store, place) == {"a": VALUE} for place in places)


def test_stop_commits_what_waits(store: Environment) -> None:
    """Closing loses nothing; after it nothing more is taken."""
    loop, outcomes = Loop(), Outcomes()
    committer = Committer(store, loop.call_soon_threadsafe)
    handle = place_of(store)
    for n in range(10):
        committer.submit(batch_of(store, handle, {f"{n}": VALUE}, label="x", outcomes=outcomes))
    committer.start()
    committer.stop()
    committer.stop()
    loop.run()

    assert len(outcomes.durable) == len(stored(store, handle)) == 10
    with pytest.raises(RuntimeClosed):
        committer.submit(batch_of(store, handle, {"a": VALUE}))
    assert committer.waiting == 0


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (OSError(errno.EIO, "broken"), CommitFailed),
        (OSError(errno.ENOSPC, "full"), StoreFull),
        (KeyError("a bug"), CommitFailed),
    ],
)
def test_a_failed_group_takes_later_batches_of_its_objects_with_it(
    store: Environment, cause: Exception, kind: type[Exception]
) -> None:
    """What rests on lost writes is not committed; other objects are not concerned."""
    committer, faults, loop = held_committer(store, errors=[cause])
    outcomes = Outcomes()
    lost, other = place_of(store, "lost"), place_of(store, "other")
    committer.submit(batch_of(store, lost, {"a": VALUE}, label="1", outcomes=outcomes))
    faults.arrived.acquire()
    committer.submit(batch_of(store, lost, {"b": VALUE}, label="2", outcomes=outcomes))
    committer.submit(batch_of(store, other, {"c": VALUE}, label="3", outcomes=outcomes))
    faults.gate.release(2)
    committer.stop()

    assert type(lost.failed) is kind
    assert lost.failed.reset  # type: ignore[union-attr]
    assert lost.failed.__cause__ is cause  # type: ignore[union-attr]
    loop.run()
    assert [label for label, _ in outcomes.told] == ["1", "2", "3"]
    assert outcomes.told[0][1] is outcomes.told[1][1] is lost.failed
    assert outcomes.durable == ["3"]
    assert stored(store, lost) == {}
    assert stored(store, other) == {"c": VALUE}
    assert committer.waiting == 0


def test_a_durable_batch_is_told_so_though_its_object_fails_later(store: Environment) -> None:
    """What became of a batch is settled when its group is."""
    committer, faults, loop = held_committer(store, errors=[None, OSError(errno.EIO, "broken")])
    outcomes = Outcomes()
    handle = place_of(store)
    committer.submit(batch_of(store, handle, {"a": VALUE}, label="1", outcomes=outcomes))
    faults.arrived.acquire()
    committer.submit(batch_of(store, handle, {"b": VALUE}, label="2", outcomes=outcomes))
    faults.gate.release(2)
    committer.stop()
    loop.run()

    assert (outcomes.durable, outcomes.failed) == (["1"], ["2"])
    assert stored(store, handle) == {"a": VALUE}


def test_an_error_after_the_commit_fails_it_none_the_less(store: Environment) -> None:
    """Who cannot be sure that it is stored must not confirm it."""
    committer, faults, loop = held_committer(store, late_errors=[OSError(errno.EIO, "unsure")])
    outcomes = Outcomes()
    committer.submit(batch_of(store, place_of(store), {"a": VALUE}, label="1", outcomes=outcomes))
    faults.gate.release()
    committer.stop()
    loop.run()

    assert outcomes.failed == ["1"]


def test_an_object_that_the_loop_gave_up_writes_no_more(store: Environment) -> None:
    """A place that has failed drops its batches, whoever marked it."""
    loop, outcomes = Loop(), Outcomes()
    committer = Committer(store, loop.call_soon_threadsafe)
    handle = place_of(store)
    committer.submit(batch_of(store, handle, {"a": VALUE}, label="1", outcomes=outcomes))
    handle.failed = CommitFailed("given up")
    committer.start()
    committer.stop()
    loop.run()

    assert outcomes.told == [("1", handle.failed)]
    assert stored(store, handle) == {}


def test_an_empty_batch_comes_back_in_its_turn(store: Environment) -> None:
    """A batch that writes nothing is a way to wait for those before it, and touches no disk."""
    loop, outcomes = Loop(), Outcomes()
    committer = Committer(store, loop.call_soon_threadsafe)
    before = store.handle.env.info()["last_txnid"]
    handle = place_of(store)
    store.commit([])
    empty = batch_of(store, handle, label="empty", outcomes=outcomes)
    empty.handle = type(handle)(0, b"", 0, None, None, None)
    committer.submit(empty)
    committer.start()
    committer.stop()
    loop.run()

    assert outcomes.durable == ["empty"]
    assert store.handle.env.info()["last_txnid"] == before + 1  # the class


def test_a_closed_loop_is_no_error(store: Environment) -> None:
    """Nobody hears of it, but what was submitted is stored, and the thread ends."""
    committer = Committer(store, Loop(is_closed=True).call_soon_threadsafe)
    handle = place_of(store)
    committer.submit(batch_of(store, handle, {"a": VALUE}))
    committer.start()
    committer.stop()

    assert stored(store, handle) == {"a": VALUE}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_a_callback_that_raises_keeps_nobody_from_being_told(
    store: Environment, kind: type[BaseException]
) -> None:
    """An interrupt in the midst of the reports loses none of them, and passes on."""
    loop, outcomes = Loop(), Outcomes()
    committer = Committer(store, loop.call_soon_threadsafe)
    handle = place_of(store)

    def interrupt() -> None:
        raise kind

    committer.submit(batch_of(store, handle, {"a": VALUE}, label="1", outcomes=outcomes))
    bad = batch_of(store, handle, {"b": VALUE})
    bad.origin = Callbacks(interrupt, print)
    committer.submit(bad)
    committer.submit(batch_of(store, handle, {"c": VALUE}, label="3", outcomes=outcomes))
    committer.start()
    committer.stop()

    with pytest.raises(kind):
        loop.run()
    loop.run()
    assert outcomes.durable == ["1", "3"]
    assert committer.waiting == 0


def test_garbage_is_freed_when_there_is_nothing_else_to_do(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread cleans up between groups, and while nobody asks for anything."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {f"{n}": VALUE for n in range(100)})])
    freed = threading.Event()
    collect = Environment.collect_garbage

    def collect_and_tell(environment: Environment) -> int:
        count = collect(environment, 30)
        if not environment.has_garbage:
            freed.set()
        return count

    monkeypatch.setattr(Environment, "collect_garbage", collect_and_tell)
    committer = Committer(store, Loop().call_soon_threadsafe)
    committer.start()
    committer.submit(batch_of(store, handle, {"new": VALUE}, clears=True))

    assert freed.wait(10)
    committer.stop()
    store.refresh()
    assert store.handle.read(lambda txn, databases: len(list(txn.cursor().iternext()))) == 1


def test_a_large_group_is_cut(store: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction has a limit in bytes; what is above goes in the next one, in order."""
    monkeypatch.setattr("durable._engine.committer.GROUP_SIZE_MAX", 100)
    loop, faults, outcomes = Loop(), Faults(), Outcomes()
    committer = Committer(store, loop.call_soon_threadsafe, faults=faults)
    handle = place_of(store)
    for n in range(5):
        puts: dict[str, bytes | None] = {f"{n}": b"\x91" + bytes(50)}
        committer.submit(batch_of(store, handle, puts, label=str(n), outcomes=outcomes))
    committer.start()
    committer.stop()
    loop.run()

    assert faults.groups == [2, 2, 1]
    assert outcomes.durable == list("01234")


def test_an_engine_says_how_many_batches_are_one_group(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the loop goes on with the callers of the first while the rest is committed."""
    monkeypatch.setattr(Environment, "group_max", 2)
    loop, faults, outcomes = Loop(), Faults(), Outcomes()
    committer = Committer(store, loop.call_soon_threadsafe, faults=faults)
    committer.submit_all(
        [
            batch_of(store, place_of(store, name), {"a": VALUE}, label=name, outcomes=outcomes)
            for name in "abcde"
        ]
    )
    committer.start()
    committer.stop()
    loop.run()

    assert faults.groups == [2, 2, 1]
    assert outcomes.durable == list("abcde")


PUTS = st.dictionaries(
    st.sampled_from(["x", "y", "z" * 460]),
    st.sampled_from([VALUE, b"\x91\x01", None]),
    max_size=3,
)
GROUPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("abc"), PUTS), min_size=1, max_size=5),
        st.booleans(),  # whether it fails
    ),
    max_size=6,
)


@settings(max_examples=150)
@given(groups=GROUPS)
def test_the_committer_is_a_list_of_groups(
    tmp_path_factory: pytest.TempPathFactory, groups: list
) -> None:
    """Groups succeed or fail as a whole; a lost object writes no more; the rest is a dict."""
    environment = _shared(tmp_path_factory)
    outcomes, expected, told, lost = Outcomes(), {}, [], set()
    places = {name: place_of(environment, name) for name in "abc"}
    for name, place in places.items():
        environment.commit([batch_of(environment, place, clears=True, alarm=None)])
        expected[name] = {}
    committer, faults, loop = held_committer(environment)

    def submit(place, puts, into: Outcomes) -> None:
        committer.submit(batch_of(environment, place, puts, outcomes=into))

    for group, fails in groups:
        # The committer is busy with a batch of nothing while the group gathers.
        submit(ObjectHandle(0, b"", 1, None, None, None), {}, Outcomes())
        faults.arrived.acquire()
        for name, puts in group:
            submit(places[name], dict(puts), outcomes)
        faults.errors = [None, OSError(errno.EIO, "broken") if fails else None]
        faults.gate.release(2)
        faults.arrived.acquire()
        for name, puts in group:
            is_stored = name not in lost and not fails
            told.append(is_stored)
            if is_stored:
                expected[name].update(puts)
        if fails:
            lost.update(name for name, _ in group)
    committer.stop()
    loop.run()

    assert [error is None for _, error in outcomes.told] == told
    for name, place in places.items():
        kept = {key: value for key, value in expected[name].items() if value is not None}
        assert stored(environment, place) == kept
    assert check(environment) == []


_environments: list[Environment] = []


def _shared(factory: pytest.TempPathFactory) -> Environment:
    if not _environments:
        _environments.append(open_store(factory.mktemp("committer") / "store"))
    return _environments[0]


def test_what_is_reported_is_read_though_it_was_committed_during_the_report_before_it(
    store: Environment,
) -> None:
    """What is durable is looked up on the disk, by a reader that keeps its view for a while."""
    loop = Loop()
    committer = Committer(store, loop.call_soon_threadsafe)
    place = place_of(store)
    first, second = batch_of(store, place, {"a": VALUE}), batch_of(store, place, {"b": VALUE})
    found: list[bytes | None] = []

    def read(key: str) -> None:
        found.append(store.in_line.get(place.keyspace, key))

    def commit_second(*_: object) -> None:
        read("a")
        committer._commit_and_wake([second])

    first.origin = Callbacks(commit_second, commit_second)
    second.origin = Callbacks(lambda: read("b"), lambda error: None)
    committer.waiting = 2
    committer._commit_and_wake([first])
    loop.run()

    assert found == [VALUE, VALUE]
