"""A store that several processes have open: calls find their objects, through moves too."""

from __future__ import annotations

import json
import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

import durable
from durable._lmdb.shared_store import SharedFolder

from .conftest import Processes


class Counter(durable.DurableObject):
    """Counts, and says where."""

    here: str = ""

    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def note(self, number: int) -> None:
        self.ctx.storage.put("notes", [*await self.ctx.storage.get("notes", []), number])

    async def notes(self) -> list[int]:
        notes: list[int] = await self.ctx.storage.get("notes", [])
        return notes

    async def wait(self, seconds: float) -> int:
        value = await self.increment()
        await anyio.sleep(seconds)
        return value

    async def call(self, name: str, method: str, *args: Any) -> Any:
        return await getattr(self.env.COUNTERS.get_by_name(name), method)(*args)

    async def call_later(self, seconds: float, name: str) -> int:
        await anyio.sleep(seconds)
        value: int = await self.env.COUNTERS.get_by_name(name).increment()
        return value

    async def fail(self) -> None:
        raise ValueError("no")


@pytest.fixture(autouse=True)
def bound(processes: Processes) -> None:
    processes.bindings["COUNTERS"] = Counter


async def test_one_process_has_all_shards(processes: Processes) -> None:
    one = await processes.start()

    assert len(processes.shards(one)) == 16
    assert await one.env.COUNTERS.get_by_name("a").increment() == 1


async def test_shards_spread_over_processes_that_come_and_go(processes: Processes) -> None:
    one = await processes.start()
    two = await processes.start()
    await processes.settle()
    assert len(processes.shards(one)) == len(processes.shards(two)) == 8
    three = await processes.start()
    await processes.settle()
    assert sorted(len(processes.shards(each)) for each in (one, two, three)) == [5, 5, 6]

    await processes.stop(one)
    await processes.settle()

    assert len(processes.shards(two)) == len(processes.shards(three)) == 8


async def test_every_process_calls_every_object(processes: Processes) -> None:
    """They count on where others have counted, whoever has the object."""
    one, two = await processes.start(), await processes.start()
    await processes.settle()

    for number in range(20):
        assert await one.env.COUNTERS.get_by_name(str(number)).increment() == 1
        assert await two.env.COUNTERS.get_by_name(str(number)).increment() == 2


async def test_errors_come_from_another_process_as_they_are(processes: Processes) -> None:
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    far = one.env.COUNTERS.get_by_name(processes.name_in(two, one.env.COUNTERS))

    with pytest.raises(ValueError, match="no"):
        await far.fail()


async def test_objects_call_objects_of_other_processes(processes: Processes) -> None:
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    counters = one.env.COUNTERS
    here, there = processes.name_in(one, counters), processes.name_in(two, counters)

    assert await counters.get_by_name(here).call(there, "increment") == 1
    assert await counters.get_by_name(there).call(here, "increment") == 1
    assert await counters.get_by_name(here).call(there, "call", here, "notes") == []


async def test_calls_keep_their_order_through_moves(processes: Processes) -> None:
    """One caller, whose calls are not awaited one by one, while processes come and go."""
    one = await processes.start()
    two = await processes.start()
    await processes.settle()
    stubs = [one.env.COUNTERS.get_by_name(str(number)) for number in range(8)]
    sent = 0
    all_answers = []
    is_over = False

    async def send() -> None:
        nonlocal sent
        while not is_over:
            answers = [stub.note(sent) for stub in stubs]
            sent += 1
            all_answers.extend(answers)
            await anyio.sleep(0)
            if sent % 20 == 0:
                for answer in answers:
                    await answer

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        three = await processes.start()
        await processes.settle()
        await processes.stop(two)
        await processes.settle()
        await processes.stop(three)
        await processes.settle()
        is_over = True

    for answer in all_answers:
        await answer
    for stub in stubs:
        assert await stub.notes() == list(range(sent))


async def test_what_runs_when_its_shard_moves_ends_where_it_runs(processes: Processes) -> None:
    """And what comes meanwhile waits for the new owner: nothing is lost, nothing is done twice."""
    one = await processes.start()
    counters = one.env.COUNTERS
    names = [str(number) for number in range(16)]
    running = [counters.get_by_name(name).wait(0.2) for name in names]
    two = await processes.start()
    with anyio.fail_after(5):
        while not processes.store(one)._disks.leaving:
            await anyio.sleep(0.001)

    later = [counters.get_by_name(name).increment() for name in names]
    assert [await answer for answer in running] == [1] * 16
    assert [await answer for answer in later] == [2] * 16
    await processes.settle()
    assert len(processes.shards(two)) == 8


async def test_what_a_running_event_calls_is_let_in_while_its_shard_moves(
    processes: Processes,
) -> None:
    """Else the move would wait for the event, and the event for the move."""
    limits = durable.Limits(shutdown_s_max=20.0)
    one = await processes.start(limits=limits)
    counters = one.env.COUNTERS
    calls = [counters.get_by_name(str(n)).call_later(0.1, str(n + 100)) for n in range(16)]
    await processes.start(limits=limits)

    with anyio.fail_after(19.0):  # before the move would cut it off
        assert [await call for call in calls] == [1] * 16
    await processes.settle()


async def test_a_process_that_closes_hands_its_shards_over(processes: Processes) -> None:
    """Calls that come meanwhile wait, and go to the new owner."""
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    counters = one.env.COUNTERS
    names = list(zip(range(4), processes.names_in(two, counters), strict=False))
    running = [counters.get_by_name(name).wait(0.1) for _, name in names]
    await anyio.sleep(0.05)

    async with anyio.create_task_group() as group:
        group.start_soon(processes.stop, two)
        await anyio.sleep(0.01)
        later = [counters.get_by_name(name).increment() for _, name in names]
        assert [await answer for answer in running] == [1] * 4
        assert [await answer for answer in later] == [2] * 4

    assert len(processes.shards(one)) == 16


async def test_what_does_not_end_is_cut_off_and_says_so(processes: Processes) -> None:
    """After `shutdown_s_max`: the caller may try again, and does not know what was done."""
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    far = one.env.COUNTERS.get_by_name(processes.name_in(two, one.env.COUNTERS))
    endless = far.wait(60)
    await anyio.sleep(0.05)

    await processes.stop(two)

    with pytest.raises(durable.DurableError) as caught:
        await endless
    assert caught.value.retryable or isinstance(caught.value, durable.ObjectReset)
    assert await one.env.COUNTERS.get_by_name(far.name).increment() == 2


async def test_alarms_ring_wherever_their_object_is(processes: Processes) -> None:
    """Those of a process that has gone, too."""
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    assert not processes.store(one)._disks.leaving
    counters = two.env.COUNTERS
    for number in range(16):
        await counters.get_by_name(str(number)).increment()
    await processes.stop(two)
    await processes.settle()

    assert {o.name async for o in one.env.COUNTERS.objects()} == {str(n) for n in range(16)}


async def test_every_process_lists_the_objects_of_all(processes: Processes) -> None:
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    names = {str(number) for number in range(40)}
    for name in names:
        await one.env.COUNTERS.get_by_name(name).increment()

    for runtime in (one, two):
        found = [stored async for stored in runtime.env.COUNTERS.objects()]
        assert {stored.name for stored in found} == names
        assert [stored.id.raw for stored in found] == sorted(stored.id.raw for stored in found)


async def test_a_call_that_finds_no_process_is_tried_again_and_then_fails(
    processes: Processes,
) -> None:
    """It has not begun, and says so."""
    limits = durable.Limits(shutdown_s_max=1.0, unreachable_s_max=0.3)
    one = await processes.start(limits=limits)
    store = processes.store(one)
    store._balance.is_on = False
    for shard in list(store._disks.open):
        await store._give_up(shard)

    with pytest.raises(durable.ObjectUnreachable, match=r"0.3 s; the call was not carried out"):
        await one.env.COUNTERS.get_by_name("a").increment()
    waiting = one.env.COUNTERS.get_by_name("b").increment()
    store._balance.is_on = True
    store._look()
    assert await waiting == 1


@pytest.mark.parametrize("error", [OSError(28, "no space"), durable.StoreDamaged("it is damaged")])
async def test_a_shard_that_cannot_be_opened_is_a_clear_error(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """As it is, at the opening; and later on the process goes on with the others."""
    acquire = SharedFolder.acquire
    is_broken = True

    def acquire_some(self: SharedFolder, shard: int) -> Any:
        if is_broken and shard == 3:
            raise error
        return acquire(self, shard)

    monkeypatch.setattr(SharedFolder, "acquire", acquire_some)
    with pytest.raises(type(error)):
        await processes.start()
    is_broken = False
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    is_broken = True
    await processes.stop(one if 3 in processes.shards(one) else two)
    left = next(iter(processes.openings))
    with anyio.fail_after(5):
        while len(processes.shards(left)) < 15:
            await anyio.sleep(0.01)
    is_broken = False
    await processes.settle()


async def test_an_owner_that_cannot_say_so_has_no_shard(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, for instance: nobody would find its objects. It tries again."""
    write_owner = SharedFolder._write_owner
    is_full = True

    def write_some(self: SharedFolder, shard: int, owned: Any) -> None:
        if is_full and shard == 3 and owned.owner is not None:
            raise OSError(28, "no space")
        write_owner(self, shard, owned)

    monkeypatch.setattr(SharedFolder, "_write_owner", write_some)
    with pytest.raises(OSError, match="no space"):
        await processes.start()
    is_full = False
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    is_full = True
    await processes.stop(one if 3 in processes.shards(one) else two)
    left = next(iter(processes.openings))
    with anyio.fail_after(5):
        while len(processes.shards(left)) < 15:
            await anyio.sleep(0.01)
    assert 3 not in processes.shards(left)
    is_full = False
    await processes.settle()
    assert await left.env.COUNTERS.get_by_name("a").increment() == 1


async def test_a_shard_that_comes_while_its_process_ends_is_handed_on(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call of another process finds it closed."""
    acquire = SharedFolder.acquire
    is_taken, may_come = threading.Event(), threading.Event()
    late: list[int] = []

    def acquire_late(self: SharedFolder, shard: int) -> Any:
        engine = acquire(self, shard)
        if engine is not None and self.me.id != first and not late:
            late.append(shard)
            is_taken.set()
            may_come.wait(3)
        return engine

    monkeypatch.setattr(SharedFolder, "acquire", acquire_late)
    first = ""
    may_come.set()
    one = await processes.start()
    may_come.clear()
    is_taken.clear()
    late.clear()
    first = processes.store(one)._disks.shared.me.id
    two = await processes.start()
    store = processes.store(two)
    await anyio.to_thread.run_sync(is_taken.wait)
    has_ended, may_part = anyio.Event(), anyio.Event()
    part = store._part

    async def part_late() -> None:
        has_ended.set()
        await may_part.wait()
        await part()

    monkeypatch.setattr(store, "_part", part_late)
    async with anyio.create_task_group() as group:
        group.start_soon(processes.stop, two)
        while store._balance.is_on:
            await anyio.sleep(0)
        may_come.set()
        try:
            with anyio.fail_after(10):
                await has_ended.wait()
                disks = processes.store(one)._disks
                counters = one.env.COUNTERS
                name = next(
                    name
                    for name in map(str, range(1_000))
                    if disks.shard_of(counters.id_from_name(name).raw) in late
                )
                assert await counters.get_by_name(name).increment() == 1
        finally:
            may_part.set()


async def test_a_process_of_another_version_is_a_clear_error(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await processes.start()
    monkeypatch.setattr("durable._runtime.neighbours.VERSION_SPOKEN", 9)
    monkeypatch.setattr("durable._runtime.neighbours.VERSION_UNDERSTOOD", 9)

    with pytest.raises(durable.DurableError, match="speaks version"):
        await processes.start()


async def test_a_socket_path_may_be_as_long_as_the_folder_is(processes: Processes) -> None:
    """108 bytes are what fits into the address of a unix socket."""
    processes.folder = processes.folder / ("long" * 30)
    one, two = await processes.start(), await processes.start()
    await processes.settle()

    for number in range(8):
        assert await one.env.COUNTERS.get_by_name(str(number)).increment() == 1
        assert await two.env.COUNTERS.get_by_name(str(number)).increment() == 2


async def test_what_is_written_about_a_process_is_for_people_too(processes: Processes) -> None:
    one = await processes.start()
    me = processes.store(one)._disks.shared.me
    said = json.loads((processes.folder / "processes" / me.id / "process").read_text())

    assert said["pid"] == me.pid
    assert said["state"] == "ready"
