"""Where a miss goes: in-line, or to the one thread that reads for many."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from attrs import define, field

from durable._engine.read_thread import Reads
from durable._lmdb.environment import Environment
from durable._model.errors import DurableError, InternalError, RuntimeClosed, StoreDamaged

from .kit import VALUE, Loop, batch_of, open_store, place_of


@define
class Faults:
    """Holds reads."""

    holds_reads: bool = True
    let_go: threading.Event = field(factory=threading.Event)

    def before_read(self) -> None:
        self.let_go.wait()


@pytest.fixture
def store(tmp_path: Path):
    environment = open_store(tmp_path / "store")
    yield environment
    environment.close()


def test_inline_reads_are_the_environments_own(store: Environment) -> None:
    """There is nothing between a miss and the disk."""
    handle = place_of(store)
    store.commit([batch_of(store, handle, {"a": VALUE, "b": VALUE})])
    store.refresh()
    reads = Reads(store, Loop().call_soon_threadsafe)

    assert reads.inline
    assert reads.get(handle.keyspace, "a") == VALUE
    assert reads.get_many(handle.keyspace, ["a", "c"]) == {"a": VALUE}
    assert reads.scan_some(handle.keyspace, reverse=True, count_max=None) == (
        [("b", VALUE), ("a", VALUE)],
        True,
    )
    reads.close()


def test_the_thread_answers_in_order_and_sees_what_was_reported(store: Environment) -> None:
    """Requests that wait are read together; each sees every commit before it was made."""
    loop, faults = Loop(), Faults()
    reads = Reads(store, loop.call_soon_threadsafe, inline=False, faults=faults)
    handle = place_of(store)
    found: list[object] = []
    for n in range(5):
        store.commit([batch_of(store, handle, {"n": b"\x01%d" % n})])
        store.refresh()
        reads.fetch(lambda reader: reader.get(handle.keyspace, "n"), found.append, found.append)
    faults.let_go.set()
    reads.close()
    loop.run()

    assert len(found) == 5
    assert all(value >= b"\x01%d" % n for n, value in enumerate(found))
    assert found[-1] == b"\x014"


def test_a_held_read_goes_to_the_thread(store: Environment) -> None:
    """A test that holds reads turns in-line reading off."""
    faults = Faults(holds_reads=False)
    reads = Reads(store, Loop().call_soon_threadsafe, faults=faults)

    assert reads.inline
    faults.holds_reads = True
    assert not reads.inline


def test_a_read_that_fails_is_told(store: Environment) -> None:
    """An error of ours passes as itself, a bug as InternalError; neither ends the thread."""
    loop, failed = Loop(), []
    reads = Reads(store, loop.call_soon_threadsafe, inline=False)
    damaged = StoreDamaged("bad page")

    def fail(error: Exception):
        def read(reader: object) -> None:
            raise error

        return read

    reads.fetch(fail(damaged), failed.append, failed.append)
    reads.fetch(fail(KeyError("bug")), failed.append, failed.append)
    reads.fetch(lambda reader: reader.get(1, "a"), failed.append, failed.append)
    reads.close()
    loop.run()

    assert failed[0] is damaged
    assert isinstance(failed[1], InternalError)
    assert failed[2] is None
    with pytest.raises(RuntimeClosed):
        reads.fetch(lambda reader: None, failed.append, failed.append)


def test_a_callback_that_raises_keeps_nobody_from_being_told(store: Environment) -> None:
    """The rest is told in the next round."""
    loop, found = Loop(), []
    faults = Faults()
    reads = Reads(store, loop.call_soon_threadsafe, inline=False, faults=faults)

    def interrupt(value: object) -> None:
        raise KeyboardInterrupt

    reads.fetch(lambda reader: 1, interrupt, found.append)
    reads.fetch(lambda reader: 2, found.append, found.append)
    faults.let_go.set()
    reads.close()
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    loop.run()

    assert found == [2]


def test_the_map_grows_while_a_thread_reads(store: Environment) -> None:
    """Growing waits for a read under way, and the next read begins anew."""
    loop, found = Loop(), []
    reads = Reads(store, loop.call_soon_threadsafe, inline=False)
    handle = place_of(store)
    value = b"\x01" + bytes(1 << 20)

    def on_failed(error: DurableError) -> None:
        found.append(error)

    for n in range(100):
        store.commit([batch_of(store, handle, {f"{n}": value})])
        store.refresh()
        key = f"{n}"
        reads.fetch(lambda r, key=key: r.get(handle.keyspace, key), found.append, on_failed)
        assert store.in_line.get(handle.keyspace, key) == value
    reads.close()
    loop.run()

    assert found == [value] * 100
