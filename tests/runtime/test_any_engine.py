"""A runtime works on any engine: here is one that keeps its store in memory."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

import durable
from durable import operate, testing
from durable._engine.engine import Engine
from durable._memory.engine import MemoryEngine
from durable._model.clock import Clock
from durable._runtime.open_store import OpenStore


class Notes(durable.DurableObject):
    """Keeps what it is given."""

    rung: ClassVar[list[str]] = []

    async def write(self, key: str, value: int) -> None:
        self.ctx.storage.put(key, value)

    async def everything(self) -> list[tuple[str, int]]:
        return list((await self.ctx.storage.list()).items())

    async def forget(self) -> None:
        await self.ctx.storage.delete_all()

    async def fail(self) -> None:
        async def half(txn: durable.Transaction) -> None:
            txn.put("half", 1)
            raise ValueError("no")

        await self.ctx.storage.transaction(half)

    async def wake_in(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self) -> None:
        self.rung.append(str(self.ctx.id.name))


def open_in_memory(path: str, clock: Clock, **_: bool) -> Engine:
    return MemoryEngine(clock, path)


class StoreInMemory(OpenStore):
    """An open store that no file keeps."""

    open_engine = staticmethod(open_in_memory)


class open_store(durable.open):
    """`durable.open` of such a store."""

    _store_class: ClassVar[type[OpenStore]] = StoreInMemory


@pytest.mark.parametrize("reads", ["inline", "thread"])
async def test_objects_live_in_a_store_that_is_in_memory(tmp_path: Path, reads: str) -> None:
    """Storage, transactions, alarms, eviction and an inspection; no file is made."""
    clock = testing.VirtualClock()
    Notes.rung.clear()
    async with open_store(
        tmp_path / "none", bindings={"NOTES": Notes}, clock=clock, reads=reads
    ) as runtime:
        notes = runtime.env.NOTES.get_by_name("a")
        await notes.write("b", 2)
        await notes.write("a", 1)
        with pytest.raises(ValueError, match="no"):
            await notes.fail()
        await notes.wake_in(5)
        await testing.evict_all(runtime)
        assert await notes.everything() == [("a", 1), ("b", 2)]
        await clock.advance(5)
        assert Notes.rung == ["a"]

        with operate.look(runtime) as store:
            [found] = store.objects("Notes")
            assert (found.name, dict(store.items(found))) == ("a", {"a": 1, "b": 2})
            assert store.measure().records == 2
        assert runtime.statistics().store.objects == 1
        with pytest.raises(TypeError, match="no files"):
            operate.check(runtime)

        await notes.forget()
        await testing.evict_all(runtime)
        assert await notes.everything() == []
        assert [each async for each in runtime.env.NOTES.objects()] == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("reads", ["inline", "thread"])
async def test_a_store_that_is_tried_out_reads_in_either_way(tmp_path: Path, reads: str) -> None:
    """What lies in memory is seen by reads of the thread too."""
    async with durable.open(tmp_path / "s", bindings={"NOTES": Notes}) as runtime:
        await runtime.env.NOTES.get_by_name("a").write("below", 1)

    async with durable.open(
        tmp_path / "s", bindings={"NOTES": Notes}, scratch=True, reads=reads
    ) as runtime:
        notes = runtime.env.NOTES.get_by_name("a")
        await notes.write("above", 2)
        await testing.evict_all(runtime)

        assert await notes.everything() == [("above", 2), ("below", 1)]
        with operate.look(runtime) as store:
            [found] = store.objects("Notes")
            assert dict(store.items(found)) == {"above": 2, "below": 1}
        assert operate.check(runtime) == []
