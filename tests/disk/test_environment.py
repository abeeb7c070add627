"""The environment: what is committed, and how it is found again."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import lmdb
import pytest

from durable._engine.batch import Alarm, Batch, ObjectRecord
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._lmdb.write_transaction import Changes
from durable._model.errors import RuntimeClosed, StoreDamaged, StoreFull

from .kit import VALUE, Clock, base_of, batch_of, class_of, open_store, place_of, stored


@pytest.fixture
def store(tmp_path: Path):
    environment = open_store(tmp_path / "store")
    yield environment
    if environment._is_open:
        assert check(environment) == []
        environment.close()
    assert check(tmp_path / "store") == []


def reopened(environment: Environment) -> Environment:
    environment.close()
    return open_store(Path(environment.path))


def test_what_was_committed_is_found_after_a_reopen(store: Environment) -> None:
    """A commit is durable, and so is what it says of the object."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE, "b": b"\x91b"}, alarm=Alarm(7, 5, 1, 2))])

    store = reopened(store)
    record = store.find(handle.class_number, handle.base)
    assert record == ObjectRecord(handle.keyspace, 1_000_000_000, "front page", Alarm(7, 5, 1, 2))
    assert stored(store, handle) == {"a": VALUE, "b": b"\x91b"}
    assert store.get(handle.keyspace, "b") == b"\x91b"
    assert store.get_many(handle.keyspace, ["b", "c"]) == {"b": b"\x91b"}
    store.close()


def test_a_read_sees_what_was_committed_before_the_refresh(store: Environment) -> None:
    """Reads are of one snapshot until they are refreshed."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    store.refresh()
    before = store.get(handle.keyspace, "b")
    store.commit([batch_of(store, handle, {"b": VALUE})])

    assert before is None
    assert store.get(handle.keyspace, "b") is None
    store.refresh()
    assert store.get(handle.keyspace, "b") == VALUE


def test_an_object_is_known_from_its_first_write_to_its_last_delete(store: Environment) -> None:
    """The store knows the objects that have a key or an alarm, and no others."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"gone": None})])
    store.refresh()
    assert store.find(handle.class_number, handle.base) is None

    store.commit([batch_of(store, handle, {"a": VALUE})])
    store.refresh()
    assert store.find(handle.class_number, handle.base) is not None

    store.commit([batch_of(store, handle, {"a": None}, alarm=Alarm(5, 5))])
    store.refresh()
    assert store.find(handle.class_number, handle.base) is not None

    store.commit([batch_of(store, handle, alarm=None)])
    store.refresh()
    assert store.find(handle.class_number, handle.base) is None
    assert store.alarms(count_max=5) == []

    store.commit([batch_of(store, handle, {"a": VALUE})])
    assert stored(store, handle) == {"a": VALUE}


def test_a_wipe_takes_everything_and_what_comes_after_it_stays(store: Environment) -> None:
    """A wipe comes before the puts of its batch, and leaves no alarm that the batch drops."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE, "k" * 2_000: VALUE}, alarm=Alarm(5, 5))])
    old = handle.keyspace
    store.commit([batch_of(store, handle, {"b": VALUE}, wipe=True, alarm=None)])

    assert stored(store, handle) == {"b": VALUE}
    assert handle.keyspace != old
    assert store.alarms(count_max=1) == []


def test_a_wipe_with_nothing_after_it_forgets_the_object(store: Environment) -> None:
    """An object without a key or an alarm is not known."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    store.commit([batch_of(store, handle, wipe=True, alarm=None)])

    store.refresh()
    assert store.find(handle.class_number, handle.base) is None


def test_a_wipe_of_nothing_is_nothing(store: Environment) -> None:
    """There is no garbage where there was nothing."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, wipe=True, alarm=None)])

    assert not store.has_garbage


def test_garbage_goes_in_bounded_steps(store: Environment) -> None:
    """Each step frees so many records at most, and the last one says that it was the last."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {f"{n}": VALUE for n in range(10)})])
    store.commit([batch_of(store, handle, {"new": VALUE}, wipe=True)])
    store = reopened(store)
    assert store.has_garbage

    assert [store.collect_garbage(4) for _ in range(3)] == [4, 4, 2]
    assert not store.has_garbage
    assert stored(store, handle) == {"new": VALUE}
    assert check(store) == []
    store.close()


def test_a_number_is_never_used_again(store: Environment) -> None:
    """A number that has had records is not given out after a reopen."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    store.commit([batch_of(store, handle, wipe=True, alarm=None)])
    last = handle.keyspace

    store = reopened(store)
    assert store.next_keyspace() > last
    store.close()


def test_a_name_that_is_learned_later_is_kept(store: Environment) -> None:
    """The next write of an object brings its name to the disk."""
    handle = place_of(store)
    handle.name = None
    store.commit([batch_of(store, handle, {"a": VALUE})])
    store.refresh()
    assert store.find(handle.class_number, handle.base).name is None  # type: ignore[union-attr]

    handle.name = "front page"
    store.commit([batch_of(store, handle, {"a": VALUE})])
    store.refresh()
    assert store.find(handle.class_number, handle.base).name == "front page"  # type: ignore[union-attr]


def test_objects_are_listed_by_base_in_steps(store: Environment) -> None:
    """A class lists its objects in the order of their ids, and not those of another."""
    other = class_of(store, "Other").number
    names = [f"n{n}" for n in range(7)]
    for name in names:
        store.commit([batch_of(store, place_of(store, name), {"a": VALUE})])
    store.refresh()
    number = class_of(store, "Counter").number

    first = store.objects(number, count_max=4)
    rest = store.objects(number, after=first[-1][0], count_max=4)
    assert [base for base, _ in first + rest] == sorted(base_of(name) for name in names)
    assert store.objects(other, count_max=4) == []


def test_alarms_are_listed_by_time(store: Environment) -> None:
    """The index has one entry for each object with an alarm, the earliest first."""
    dues = [30, 10, 20]
    places = [place_of(store, f"n{n}") for n in range(3)]
    for place, due in zip(places, dues, strict=True):
        store.commit([batch_of(store, place, alarm=Alarm(due, due))])
    store.commit([batch_of(store, places[0], alarm=Alarm(5, 30, 1, 1))])
    store.refresh()

    found = store.alarms(count_max=2)
    assert [due.due_us for due in found] == [5, 10]
    assert [due.due_us for due in store.alarms(after=found[-1], count_max=9)] == [20]
    assert store.next_alarm_us() == 5


def test_a_class_keeps_its_number(store: Environment) -> None:
    """One of the same name in another script is another class."""
    first = class_of(store, "A")
    second = class_of(store, "A", "s")

    store = reopened(store)
    assert class_of(store, "A") == first
    assert class_of(store, "A", "s") == second
    assert store.classes() == [first, second]
    store.close()


def test_the_map_grows_by_itself(tmp_path: Path) -> None:
    """A group that does not fit into the map is committed when the map has grown."""
    store = open_store(tmp_path / "store")
    handle = place_of(store)
    value = b"\x91" + bytes(2**20)
    store.commit([batch_of(store, handle, {f"{n}": value for n in range(40)})])
    store.refresh()
    assert store.get(handle.keyspace, "0") == value  # a reader is open while it grows
    store.commit([batch_of(store, handle, {f"{n}": value for n in range(40, 140)})])

    store.refresh()
    assert store._lmdb.info()["map_size"] >= 140 * 2**20
    assert len(list(store.scan(handle.keyspace))) == 140
    assert check(store) == []
    store.close()


def test_a_map_at_its_limit_says_so_and_goes_on(tmp_path: Path) -> None:
    """What does not fit is StoreFull; what was stored is there, and what fits still goes in."""
    store = open_store(tmp_path / "store", map_size_max=4 << 20)
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    with pytest.raises(StoreFull, match="limit of 4,194,304 bytes"):
        store.commit([batch_of(store, handle, {"b": b"\x91" + bytes(5 << 20)})])

    assert stored(store, handle) == {"a": VALUE}
    store.commit([batch_of(store, handle, {"c": VALUE})])
    assert stored(store, handle) == {"a": VALUE, "c": VALUE}
    assert check(store) == []
    store.close()


@pytest.mark.parametrize("kind", [lmdb.CorruptedError, lmdb.PageNotFoundError])
def test_a_bad_page_met_by_a_write_is_damage(
    store: Environment, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Trying again would not help, and nothing of the commit is stored."""
    handle = place_of(store)
    apply = Changes.apply

    def meet_bad_page(self: Changes, group: Sequence[Batch]) -> None:
        apply(self, group)
        raise kind("page 7")

    with monkeypatch.context() as patch:
        patch.setattr(Changes, "apply", meet_bad_page)
        with pytest.raises(StoreDamaged, match="durable check"):
            store.commit([batch_of(store, handle, {"a": VALUE})])

    assert stored(store, handle) == {}
    store.commit([batch_of(store, handle, {"b": VALUE})])
    assert stored(store, handle) == {"b": VALUE}


def test_reader_slots_do_not_leak(store: Environment) -> None:
    """However many reads and refreshes: one slot for each thread that reads."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE})])
    for _ in range(2_000):
        store.refresh()
        store.get(handle.keyspace, "a")
        store.find(handle.class_number, handle.base)
        store.read(lambda txn, databases: None)

    assert store._lmdb.info()["num_readers"] <= 4


def test_opens_do_not_leak(tmp_path: Path) -> None:
    """Neither files nor reader slots stay behind a close."""
    open_store(tmp_path / "store").close()
    files = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(300):
        environment = open_store(tmp_path / "store")
        environment.find(1, bytes(16))
        environment.close()

    if files:
        assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_after_a_close_every_call_says_so(tmp_path: Path) -> None:
    """A closed store is a clear error."""
    store = open_store(tmp_path / "store")
    handle = place_of(store)
    store.close()
    store.close()

    for call in (
        lambda: store.get(1, "a"),
        lambda: store.find(1, bytes(16)),
        lambda: store.commit([batch_of(store, handle, {"a": VALUE})]),
        store.classes,
    ):
        with pytest.raises(RuntimeClosed, match="is closed"):
            call()


LOOKS_ON = """
import sys
from durable.operate import look

with look(sys.argv[1]) as store, store.one_moment():
    print(list(store.objects()), flush=True)
    sys.stdin.read()
"""


def test_who_was_killed_while_it_looked_keeps_no_old_pages(store: Environment) -> None:
    """The file grows by what is written while somebody looks, and not for ever after."""
    handle = place_of(store)
    data = Path(store.path) / "data.mdb"

    def write() -> None:
        store.commit([batch_of(store, handle, {"a": b"\xc6" + bytes(100_000)})])
        store.refresh()

    write()
    command = [sys.executable, "-c", LOOKS_ON, store.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as looker:
        assert looker.stdout is not None
        assert looker.stdout.readline()
        looker.kill()
    before = data.stat().st_size
    for _ in range(50):
        write()

    assert data.stat().st_size < before + 10 * 100_000
    store.commit([batch_of(store, handle, {"a": VALUE})])


def test_created_is_the_time_of_the_first_write(tmp_path: Path) -> None:
    """An object is created by the write that makes it known, and by that of its next life."""
    clock = Clock(1.0)
    store = open_store(tmp_path / "store", clock=clock)
    handle = place_of(store)
    for clock.now_s, puts in zip(
        itertools.count(1.0), [{"a": VALUE}, {"b": VALUE}, {"a": None, "b": None}, {"a": VALUE}]
    ):
        store.commit([batch_of(store, handle, puts)])
        if clock.now_s < 3.0:
            assert handle.created_us == 1_000_000
    assert handle.created_us == 4_000_000
    store.close()
