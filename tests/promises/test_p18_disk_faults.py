"""P18: a full disk, a failed fsync, a full map, a damaged value: an error, nothing confirmed."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable import operate

from .conftest import Start, Store


class Keeper(durable.DurableObject):
    async def keep(self, key: str, value: Any) -> str:
        await self.ctx.storage.put(key, value)
        return "kept"

    async def catch(self, key: str, value: Any) -> str:
        """Tries to see the failure, and cannot."""
        try:
            await self.ctx.storage.put(key, value)
            await self.ctx.storage.sync()
        except Exception:
            return "caught"
        return "kept"

    async def all(self) -> dict[str, Any]:
        return await self.ctx.storage.list()


async def test_a_failed_fsync_confirms_nothing(store: Store) -> None:
    """The caller is told, the object is reset, and after the repair all is as before."""
    async with store.open() as runtime:
        keepers = runtime.namespace(Keeper)
        await keepers.get_by_name("a").keep("first", 1)
        store.faults.fail_commits()
        with pytest.raises(durable.CommitFailed) as caught:
            await keepers.get_by_name("a").keep("second", 2)
        assert caught.value.reset
        with pytest.raises(durable.CommitFailed):
            await keepers.get_by_name("a").catch("second", 2)
        assert await keepers.get_by_name("a").all() == {"first": 1}

        store.faults.repair()
        assert await keepers.get_by_name("a").keep("third", 3) == "kept"
        assert await keepers.get_by_name("a").all() == {"first": 1, "third": 3}


async def test_the_disk_works_again_without_a_restart(store: Store) -> None:
    """One failed group does not stop those after it."""
    async with store.open() as runtime:
        for number in range(3):
            store.faults.fail_commits()
            with pytest.raises(durable.CommitFailed):
                await runtime.namespace(Keeper).get_by_name("a").keep("key", number)
            store.faults.repair()
            await runtime.namespace(Keeper).get_by_name("a").keep("key", number)
        assert await runtime.namespace(Keeper).get_by_name("a").all() == {"key": 2}


@pytest.mark.backends("asyncio")
async def test_the_map_grows_by_itself(store: Store) -> None:
    """Past whatever size it began with, under many objects at once; nothing is lost."""
    value = os.urandom(1_000_000)
    async with store.open() as runtime:
        keepers = runtime.namespace(Keeper)
        calls = [
            keepers.get_by_name(str(number)).keep(f"key {part}", value)
            for number in range(8)
            for part in range(6)
        ]
        for call in calls:
            assert await call == "kept"

    async with store.open() as runtime:
        for number in range(8):
            found = await runtime.namespace(Keeper).get_by_name(str(number)).all()
            assert len(found) == 6
            assert all(each == value for each in found.values())


async def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    """And nothing is done to the file."""
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises((durable.DurableError, OSError), match="file"):
        async with durable.open(path):
            raise AssertionError("opened")

    assert path.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
async def test_a_folder_without_permission_is_a_clear_error(tmp_path: Path) -> None:
    """It is the operating system's own error, or one that names the folder."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises((durable.DurableError, OSError), match="closed"):
        async with durable.open(folder):
            raise AssertionError("opened")


@pytest.mark.one_folder
@pytest.mark.parametrize("keep", [100, 4_096, 5_000])
async def test_a_truncated_file_is_a_clear_error(tmp_path: Path, keep: int) -> None:
    """Not a crash of the process, nor an empty store."""
    store = Store(tmp_path / "store")
    async with store.open() as runtime:
        await runtime.namespace(Keeper).get_by_name("a").keep("key", bytes(20_000))
    data = max(store.folder.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(data, keep)

    with pytest.raises(durable.StoreDamaged) as caught:
        async with store.open() as runtime:
            await runtime.namespace(Keeper).get_by_name("a").all()
    assert str(store.folder) in str(caught.value) or "store" in str(caught.value)


@pytest.mark.one_folder
async def test_garbage_in_the_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    """Whatever was put there."""
    store = Store(tmp_path / "store")
    async with store.open() as runtime:
        await runtime.namespace(Keeper).get_by_name("a").keep("key", 1)
    data = max(store.folder.iterdir(), key=lambda path: path.stat().st_size)
    data.write_bytes(b"garbage" * 10_000)

    with pytest.raises(durable.StoreDamaged):
        async with store.open():
            raise AssertionError("opened")


def rot(folder: Path, good: bytes, bad: bytes) -> None:
    """Change bytes of the store's file, wherever they are in it."""
    data = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    contents = data.read_bytes()
    assert good in contents
    data.write_bytes(contents.replace(good, bad))


@pytest.mark.one_folder
@pytest.mark.parametrize("reads", ["inline", "thread"])
async def test_a_value_that_has_rotted_is_never_returned(tmp_path: Path, reads: Any) -> None:
    """Reading it is an error that names the key; all else goes on, and the key can be put anew."""
    store = Store(tmp_path / "store")
    async with store.open() as runtime:
        keeper = runtime.namespace(Keeper).get_by_name("site")
        await keeper.keep("good", "kept")
        await keeper.keep("bad", "a value of some length")
    rot(store.folder, b"of some length", b"of some lengxh")

    async with store.open(reads=reads) as runtime:
        keeper = runtime.namespace(Keeper).get_by_name("site")
        with pytest.raises(durable.StoreDamaged, match=r"'bad' is damaged"):
            await keeper.all()
        (problem,) = await anyio.to_thread.run_sync(operate.check, runtime)
        assert "'site' of Keeper" in problem.where
        assert "'bad'" in problem.what

        keeper = runtime.namespace(Keeper).get_by_name("site")
        await keeper.keep("bad", "whole")
        assert await keeper.all() == {"bad": "whole", "good": "kept"}
        assert await anyio.to_thread.run_sync(operate.check, runtime) == []


class Reader(durable.DurableObject):
    """Reads what may be damaged, and goes on after errors."""

    counted = 0

    async def keep(self, **values: Any) -> None:
        self.ctx.storage.put(values)

    async def read(self, how: str) -> str:
        self.counted += 1
        self.ctx.storage.put("before", how)
        try:
            await HOW[how](self.ctx.storage)
        except Exception:
            self.ctx.storage.put("after", how)
            return "went on"
        return "saw nothing"

    async def count_reads(self) -> int:
        return self.counted

    async def good(self) -> dict[str, Any]:
        return await self.ctx.storage.get(["after", "before", "good"])

    async def repair(self) -> bool:
        return await self.ctx.storage.delete("bad")

    async def alarm_in(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self) -> None:
        await self.ctx.storage.get("bad")


async def in_transaction(storage: durable.Storage) -> None:
    async def closure(txn: durable.Transaction) -> None:
        txn.put("after", "written in a transaction that reads a damaged value")
        await txn.get("bad")

    await storage.transaction(closure)


async def in_line(read: Callable[[], object]) -> None:
    read()


HOW: dict[str, Callable[[durable.Storage], Awaitable[object]]] = {
    "get": lambda storage: storage.get("bad"),
    "get with a default": lambda storage: storage.get("bad", "nothing"),
    "get many": lambda storage: storage.get(["bad", "good"]),
    "list": lambda storage: storage.list(),
    "list reversed": lambda storage: storage.list(reverse=True, no_cache=True),
    "transaction": in_transaction,
    "kv.get": lambda storage: in_line(lambda: storage.kv.get("bad")),
    "kv.get many": lambda storage: in_line(lambda: storage.kv.get(["good", "bad"])),
    "kv.list": lambda storage: in_line(storage.kv.list),
}


@pytest.fixture
async def rotten(tmp_path: Path) -> Store:
    """A store with a damaged value."""
    store = Store(tmp_path / "rotten")
    async with store.open() as runtime:
        reader = runtime.namespace(Reader).get_by_name("site")
        await reader.keep(good="kept", bad="a value of some length")
    rot(store.folder, b"of some length", b"of some lengxh")
    return store


@pytest.mark.one_folder
@pytest.mark.parametrize("reads", ["inline", "thread"])
@pytest.mark.parametrize("how", HOW)
async def test_reading_a_damaged_value_resets_the_object(
    how: str, reads: Any, rotten: Store
) -> None:
    """Its code goes on with nothing in its place, nothing of the turn is stored, its memory goes;
    the next call finds a new instance, for which all the rest is there."""
    async with rotten.open(reads=reads) as runtime:
        readers = runtime.namespace(Reader)
        with pytest.raises(durable.StoreDamaged, match=r"'bad' is damaged") as caught:
            await readers.get_by_name("site").read(how)
        assert caught.value.reset
        assert caught.value.object_id == str(readers.id_from_name("site"))

        assert await readers.get_by_name("site").count_reads() == 0
        # A transaction begins when the turn before it has ended, which is a batch of its own.
        kept = {"before": how, "good": "kept"} if how == "transaction" else {"good": "kept"}
        assert await readers.get_by_name("site").good() == kept

        assert await readers.get_by_name("site").repair() is True
        assert await readers.get_by_name("site").read(how) == "saw nothing"


@pytest.mark.one_folder
async def test_an_alarm_that_reads_a_damaged_value_has_failed(rotten: Store) -> None:
    """It is retried as after any other error of its own, and given up in the end."""
    async with rotten.open() as runtime:
        reader = runtime.namespace(Reader).get_by_name("site")
        await reader.alarm_in(1)
        await rotten.clock.advance(3_600)

        assert [found.has_alarm async for found in runtime.namespace(Reader).objects()] == [False]


async def test_a_reader_that_fails_is_told(
    store: Store, start: Start[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that cannot be answered, in a thread, is an error of that read."""
    async with store.open(reads="thread") as runtime:
        stub = runtime.namespace(Keeper).get_by_name("a")
        await stub.keep("key", 1)
        await durable.testing.evict(stub)
        with store.faults.hold_reads():
            call = start(stub.all())
            await store.settle()
            assert not call.done
        assert await call.result() == {"key": 1}
