"""Commands see all of a store, whatever process has what of it, while all of them run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import durable
from durable import operate

from .conftest import Processes


class Notes(durable.DurableObject):
    """Keeps what it is given."""

    async def write(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def all(self) -> dict[str, Any]:
        return dict(await self.ctx.storage.list())

    async def wake_at(self, time: int) -> None:
        self.ctx.storage.set_alarm(time)

    async def alarm(self) -> None: ...


NAMES = [f"note {number}" for number in range(40)]


@pytest.fixture
async def filled(processes: Processes) -> Processes:
    """Two processes, and 40 objects."""
    processes.bindings["NOTES"] = Notes
    one, _ = await processes.start(), await processes.start()
    await processes.settle()
    for name in NAMES:
        await one.env.NOTES.get_by_name(name).write("name", name)
    await one.env.NOTES.get_by_name(NAMES[0]).wake_at(4_000_000_000)
    return processes


async def test_a_look_sees_the_objects_of_all_processes(filled: Processes) -> None:
    with operate.look(filled.folder) as store:
        found = list(store.objects("Notes"))
        assert [each.name for each in found] == [
            each.name for each in sorted(found, key=lambda each: each.id.raw)
        ]
        assert sorted(each.name or "" for each in found) == sorted(NAMES)
        assert all(dict(store.items(each)) == {"name": each.name} for each in found)
        assert store.measure().objects == 40
        assert store.count(store.cls("Notes")) == 40
        assert [each.name for each in store.alarms()] == [NAMES[0]]


async def test_a_runtime_is_looked_into_as_a_whole(filled: Processes) -> None:
    runtime = next(iter(filled.openings))

    with operate.look(runtime) as store:
        assert len(list(store.objects("Notes"))) == 40
    assert operate.check(runtime) == []


async def test_a_check_reads_all_shards(filled: Processes) -> None:
    assert operate.check(filled.folder) == []


async def test_an_export_and_an_import_carry_all_objects(filled: Processes, tmp_path: Path) -> None:
    """To a store of shards, and to one of one process."""
    file = tmp_path / "all.jsonl"
    with operate.look(filled.folder) as store, file.open("w") as out:
        assert operate.export(store, out).objects == 40
    async with durable.open(tmp_path / "new", shared=True, shards=3):
        pass

    for target in (tmp_path / "new", tmp_path / "plain"):
        operate.import_file(target, file)
        async with durable.open(target, bindings={"NOTES": Notes}) as runtime:
            for name in NAMES:
                assert await runtime.env.NOTES.get_by_name(name).all() == {"name": name}


@pytest.mark.parametrize("shards", [None, 1, 4, 16, 20])
async def test_a_copy_may_have_another_number_of_shards(
    filled: Processes, tmp_path: Path, shards: int | None
) -> None:
    target = tmp_path / "copy"
    await anyio.to_thread.run_sync(lambda: operate.copy(filled.folder, target, shards=shards))

    assert operate.check(target) == []
    with operate.look(target) as store:
        assert store.measure().objects == 40
    async with durable.open(target, bindings={"NOTES": Notes}) as runtime:
        names = {stored.name async for stored in runtime.env.NOTES.objects()}
        assert names == set(NAMES)
        for name in NAMES:
            assert await runtime.env.NOTES.get_by_name(name).all() == {"name": name}
    with operate.look(target) as store:
        assert [each.name for each in store.alarms()] == [NAMES[0]]


async def test_a_store_that_is_not_divided_is_copied_into_shards(tmp_path: Path) -> None:
    async with durable.open(tmp_path / "plain", bindings={"NOTES": Notes}) as runtime:
        for name in NAMES:
            await runtime.env.NOTES.get_by_name(name).write("name", name)
        await anyio.to_thread.run_sync(
            lambda: operate.copy(runtime, tmp_path / "divided", shards=4)
        )

    async with durable.open(
        tmp_path / "divided", shared=True, bindings={"NOTES": Notes}
    ) as runtime:
        assert await runtime.env.NOTES.get_by_name(NAMES[3]).all() == {"name": NAMES[3]}


async def test_a_store_that_is_shared_takes_no_import(filled: Processes, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    with operate.look(filled.folder) as store, file.open("w") as out:
        operate.export(store, out)

    with pytest.raises(durable.StoreInUse):
        operate.import_file(filled.folder, file)


async def test_processes_are_listed_with_what_they_have(filled: Processes) -> None:
    one, two = filled.openings

    for runtime in (one, two):
        found = await runtime.peers()
        assert [each.pid for each in found] == [os.getpid()] * 2
        assert [each.shards for each in found] == [8, 8]
        assert sum(each.live_objects or 0 for each in found) == 40
        assert [each.state for each in found] == ["ready", "ready"]
        assert sum(each.is_here for each in found) == 1


async def test_metrics_carry_the_process(filled: Processes) -> None:
    client = pytest.importorskip("prometheus_client")
    from durable.prometheus import RuntimeCollector

    registry = client.CollectorRegistry()
    for runtime in filled.openings:
        registry.register(RuntimeCollector(runtime))
    text = client.generate_latest(registry).decode()
    lines = [line for line in text.splitlines() if line.startswith("durable_stored_objects")]
    found = await next(iter(filled.openings)).peers()

    assert sum(float(line.split()[-1]) for line in lines) == 40
    assert all(any(f'process="{each.id}"' in line for line in lines) for each in found)


async def test_a_store_of_one_process_has_one(tmp_path: Path) -> None:
    async with durable.open(tmp_path / "plain") as runtime:
        (found,) = await runtime.peers()

    assert found.pid == os.getpid()
    assert found.is_here
    assert found.address is None


async def test_all_processes_are_watched_at_once(processes: Processes) -> None:
    """Those with operate=True, each with its pid."""
    processes.bindings["NOTES"] = Notes
    one = await processes.start(operate=True)
    await processes.settle()
    told = operate.events(processes.folder)
    assert (await anyio.to_thread.run_sync(next, told))["event"] == "Watching"
    await one.env.NOTES.get_by_name("a").write("x", 1)

    event = await anyio.to_thread.run_sync(next, told)

    assert event["pid"] == os.getpid()
    told.close()  # type: ignore[attr-defined]
