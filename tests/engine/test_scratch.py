"""A store to try things on: reads see the disk, writes are gone at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import durable
from durable import testing
from durable._engine.batch import UNCHANGED, Alarm, Batch, Callbacks, ObjectHandle
from durable._engine.catalog import Catalog, ClassRecord
from durable._engine.engine import Engine
from durable._lmdb.environment import Environment
from durable._memory.engine import MemoryEngine
from durable._memory.scratch import ScratchEngine
from durable._model.clock import SystemClock

from .kit import scan

OWNER = """
import sys
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
environment = Environment.open(sys.argv[1], clock=SystemClock())
print("open", flush=True)
sys.stdin.read()
"""


class Notes(durable.DurableObject):
    rung: list[str] = []

    async def write(self, key: str, value: int) -> None:
        self.ctx.storage.put(key, value)

    async def erase(self, key: str) -> bool:
        return await self.ctx.storage.delete(key)

    async def wipe(self) -> None:
        await self.ctx.storage.delete_all()

    async def everything(self, *, reverse: bool = False) -> list[tuple[str, int]]:
        return list((await self.ctx.storage.list(reverse=reverse)).items())

    async def wake_in(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self) -> None:
        self.rung.append(str(self.ctx.id.name))


class Later(Notes):
    pass


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder of a store that is not there yet."""
    return tmp_path / "s"


async def fill(path: Path, clock: testing.VirtualClock) -> None:
    async with durable.open(path, bindings={"NOTES": Notes}, clock=clock) as runtime:
        for name in ("a", "b", "c"):
            notes = runtime.env.NOTES.get_by_name(name)
            await notes.write("k1", 1)
            await notes.write("k2", 2)
        await runtime.env.NOTES.get_by_name("a").wake_in(60)


@contextmanager
def owned_elsewhere(path: Path) -> Iterator[None]:
    """Another process has the store open."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"open\n"
        yield
    finally:
        owner.communicate()


def snapshot(path: Path) -> bytes:
    return (path / "data.mdb").read_bytes()


async def test_reads_see_the_store_and_writes_vanish(files: Path) -> None:
    """The same code as on the real thing, and no file is changed by it."""
    clock = testing.VirtualClock()
    await fill(files, clock)
    before = snapshot(files)

    for _ in range(2):
        async with durable.open(
            files, bindings={"NOTES": Notes}, clock=clock, scratch=True
        ) as runtime:
            notes = runtime.env.NOTES.get_by_name("a")
            assert await notes.everything() == [("k1", 1), ("k2", 2)]
            await notes.write("k1", 10)
            await notes.write("k0", 0)
            assert await notes.erase("k2")
            await runtime.env.NOTES.get_by_name("b").wipe()
            await runtime.env.NOTES.get_by_name("new").write("k", 1)
            await testing.evict_all(runtime)

            assert await notes.everything() == [("k0", 0), ("k1", 10)]
            assert await notes.everything(reverse=True) == [("k1", 10), ("k0", 0)]
            assert await runtime.env.NOTES.get_by_name("b").everything() == []
            assert sorted([o.name async for o in runtime.env.NOTES.objects()]) == ["a", "c", "new"]

    assert snapshot(files) == before


async def test_alarms_of_the_store_do_not_ring(files: Path) -> None:
    """They are its owner's, and would do twice what is to be done once; one's own do ring."""
    clock = testing.VirtualClock()
    await fill(files, clock)
    Notes.rung.clear()

    async with durable.open(files, bindings={"NOTES": Notes}, clock=clock, scratch=True) as runtime:
        await runtime.env.NOTES.get_by_name("a").write("k1", 5)
        await runtime.env.NOTES.get_by_name("b").wake_in(30)
        await clock.advance(100)

        assert Notes.rung == ["b"]


async def test_migrations_can_be_tried(files: Path) -> None:
    """They too are forgotten."""
    clock = testing.VirtualClock()
    await fill(files, clock)
    rename = durable.Migration(tag="v1", renamed_classes=[{"from": "Notes", "to": "Later"}])

    for _ in range(2):
        async with durable.open(
            files, bindings={"L": Later}, migrations=[rename], clock=clock, scratch=True
        ) as runtime:
            assert await runtime.env.L.get_by_name("c").everything() == [("k1", 1), ("k2", 2)]
    async with durable.open(files, bindings={"NOTES": Notes}, clock=clock):
        pass


async def test_it_opens_beside_the_owner(files: Path) -> None:
    """Of another process."""
    clock = testing.VirtualClock()
    await fill(files, clock)
    with owned_elsewhere(files):
        with pytest.raises(durable.StoreInUse):
            async with durable.open(files, clock=clock):
                pass
        async with durable.open(
            files, bindings={"NOTES": Notes}, clock=clock, scratch=True
        ) as runtime:
            await runtime.env.NOTES.get_by_name("a").write("k1", 3)
            assert await runtime.env.NOTES.get_by_name("a").everything() == [("k1", 3), ("k2", 2)]


async def test_there_must_be_a_store(files: Path) -> None:
    """To try something on nothing is a mistake in the path."""
    with pytest.raises(FileNotFoundError):
        async with durable.open(files, scratch=True):
            pass
    assert list(files.parent.iterdir()) == []


KEYS = st.sampled_from(["", "a", "b", "é", "𝄞", "\uffff", "k" * 600])
TURNS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.booleans(),
        st.dictionaries(KEYS, st.one_of(st.none(), st.binary(min_size=1, max_size=2))),
        st.sampled_from([UNCHANGED, None, Alarm(5, 5), Alarm(7, 7)]),
    ),
    max_size=8,
)


@pytest.mark.parametrize("is_in_memory", [False, True], ids=["lmdb", "memory"])
@given(below=TURNS, above=TURNS)
def test_it_shows_what_a_store_shows_that_was_written_to(
    tmp_path_factory: pytest.TempPathFactory, is_in_memory: bool, below: Any, above: Any
) -> None:
    """Whatever the engine below has, and whatever is written above it."""
    real: Engine
    if is_in_memory:
        real, lower = MemoryEngine(SystemClock()), MemoryEngine(SystemClock())
        fill_engine(real, below)
        fill_engine(lower, below)
        scratch = ScratchEngine(lower, SystemClock())
    else:
        folder = tmp_path_factory.mktemp("scratch")
        for name in ("real", "below"):
            engine = Environment.open(folder / name, clock=SystemClock())
            fill_engine(engine, below)
            engine.close()
        real = Environment.open(folder / "real", clock=SystemClock())
        readable = Environment.open_to_read(folder / "below", clock=SystemClock())
        scratch = ScratchEngine(readable, SystemClock())
    try:
        write(real, above)
        write(scratch, above)

        assert contents(scratch) == contents(real)
        assert scratch.weigh_class(1) == real.weigh_class(1)
    finally:
        real.close()
        scratch.close()


def fill_engine(engine: Engine, turns: Any) -> None:
    engine.change_classes(Catalog(), Catalog().replacing(ClassRecord(1, "K", "K")))
    write(engine, turns)


def write(engine: Engine, turns: Any) -> None:
    for base, wipe, puts, alarm in turns:
        raw = bytes([base]) * 16
        record = engine.find(1, raw)
        is_new = record is None or wipe
        keyspace = engine.next_keyspace() if record is None or is_new else record.keyspace
        engine.commit(
            [
                Batch(
                    handle=ObjectHandle(1, raw, keyspace, None, None, None),
                    clears=wipe,
                    puts=puts,
                    alarm=alarm,
                    origin=Callbacks(lambda: None, lambda error: None),
                    size=10,
                )
            ]
        )
        engine.refresh()


def contents(engine: Engine) -> Any:
    objects = {}
    after = None
    reader = engine.in_line
    while page := engine.objects(1, after=after, count_max=1):
        [(after, record)] = page
        keyspace = record.keyspace
        objects[after] = (
            record._replace(keyspace=0, created_us=0),
            scan(engine, keyspace),
            scan(engine, keyspace, "a", "\uffff", reverse=True),
            reader.scan_some(keyspace, count_max=2, size_max=3),
            reader.get_many(keyspace, ["", "a", "zz"]),
            reader.count_present(keyspace, ["", "a", "zz"]),
            count_of(engine, keyspace),
            reader.keys_some(keyspace, count_max=2),
            reader.keys_some(keyspace, "a", reverse=True, count_max=100),
            reader.get(keyspace, "a"),
        )
    assert engine.objects(1, count_max=100) == engine.objects(1, count_max=3)
    return objects


def count_of(engine: Engine, keyspace: int) -> int:
    """The keys from "" to the last, without "a", counted in steps of two."""
    count = 0
    after: str | None = ""
    while after is not None:
        some, after = engine.in_line.count_some(keyspace, after, None, {b"a"}, 2)
        count += some
    return count
