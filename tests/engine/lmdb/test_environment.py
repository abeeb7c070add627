"""The environment: what is committed, and how it is found again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import lmdb
import pytest

from durable._engine.batch import Alarm, Batch
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._lmdb.write_transaction import Changes
from durable._model.errors import StoreDamaged, StoreFull

from ..kit import VALUE, batch_of, open_store, place_of, scan, stored


@pytest.fixture
def store(tmp_path: Path):
    environment = open_store(tmp_path / "store")
    yield environment
    if environment.handle.is_open:
        assert check(environment) == []
        environment.close()
    assert check(tmp_path / "store") == []


def reopened(environment: Environment) -> Environment:
    environment.close()
    return open_store(Path(environment.path))


def test_garbage_goes_in_bounded_steps(store: Environment) -> None:
    """Each step frees so many records at most, and the last one says that it was the last."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {f"{n}": VALUE for n in range(10)})])
    store.commit([batch_of(store, handle, {"new": VALUE}, clears=True)])
    store = reopened(store)
    assert store.has_garbage

    assert [store.collect_garbage(4) for _ in range(3)] == [4, 4, 2]
    assert not store.has_garbage
    assert stored(store, handle) == {"new": VALUE}
    assert check(store) == []
    store.close()


def test_the_map_grows_by_itself(tmp_path: Path) -> None:
    """A group that does not fit into the map is committed when the map has grown."""
    store = open_store(tmp_path / "store")
    handle = place_of(store)
    value = b"\x91" + bytes(2**20)
    store.commit([batch_of(store, handle, {f"{n}": value for n in range(40)})])
    store.refresh()
    assert store.in_line.get(handle.keyspace, "0") == value  # a reader is open while it grows
    store.commit([batch_of(store, handle, {f"{n}": value for n in range(40, 140)})])

    store.refresh()
    assert store.handle.env.info()["map_size"] >= 140 * 2**20
    assert len(list(scan(store, handle.keyspace))) == 140
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
        store.in_line.get(handle.keyspace, "a")
        store.find(handle.class_number, handle.base)
        store.handle.read(lambda txn, databases: None)

    assert store.handle.env.info()["num_readers"] <= 4


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


def test_a_group_is_whole_when_the_map_grew_in_its_midst(tmp_path: Path) -> None:
    """A try that found the map full leaves no trace, neither on the disk nor in the places."""
    environment = open_store(tmp_path / "store")
    value = b"\x91" + bytes(1 << 20)
    old = place_of(environment, "old")
    environment.commit([batch_of(environment, old, {"gone": VALUE}, alarm=Alarm(5, 5))])
    places = [place_of(environment, f"n{n}") for n in range(100)]
    group = [batch_of(environment, old, {"new": VALUE}, clears=True, alarm=Alarm(6, 6))]
    group += [batch_of(environment, p, {"k": value}, alarm=Alarm(7, 7)) for p in places]
    group += [batch_of(environment, p, {"k": None}, alarm=None) for p in places[:50]]
    environment.commit(group)

    environment.refresh()
    assert stored(environment, old) == {"new": VALUE}
    assert len(environment.objects(old.class_number, count_max=999)) == 51
    assert len(environment.alarms(count_max=999)) == 51
    environment.commit([batch_of(environment, p, {"k2": VALUE}) for p in places])
    assert all(stored(environment, p)["k2"] == VALUE for p in places)
    assert check(environment) == []
    environment.close()
