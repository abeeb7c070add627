"""One catalog of classes and migrations for all processes of a store."""

from __future__ import annotations

from functools import partial

import anyio
import attrs
import pytest

import durable
from durable import Migration
from durable._engine.catalog import Catalog
from durable._lmdb.shared_store import SharedFolder

from .conftest import Processes


class Note(durable.DurableObject):
    async def write(self, value: int) -> int:
        self.ctx.storage.put("value", value)
        return value

    async def read(self) -> int:
        value: int = await self.ctx.storage.get("value", 0)
        return value


class Page(Note):
    """What a note is called later."""


FIRST = Migration(tag="v1", new_classes=("Note",))
SECOND = Migration(tag="v2", renamed_classes=({"from": "Note", "to": "Page"},))
GONE = Migration(tag="v3", deleted_classes=("Page",))


async def test_a_process_with_the_same_migrations_joins(processes: Processes) -> None:
    options = {"bindings": {"NOTES": Note}, "migrations": [FIRST], "script": "app"}
    one = await processes.start(**options)
    two = await processes.start(**options)
    await processes.settle()

    for number in range(8):
        await one.env.NOTES.get_by_name(str(number)).write(number)
        assert await two.env.NOTES.get_by_name(str(number)).read() == number


async def test_a_process_with_older_migrations_is_refused(processes: Processes) -> None:
    """The others go on."""
    one = await processes.start(bindings={"PAGES": Page}, migrations=[FIRST, SECOND], script="app")

    with pytest.raises(durable.MigrationConflict):
        await processes.start(bindings={"NOTES": Note}, migrations=[FIRST], script="app")
    assert await one.env.PAGES.get_by_name("a").write(1) == 1
    assert len(processes.shards(one)) == 16


async def test_a_class_can_be_used_first_while_a_shard_arrives(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards are acquired in threads; the classes are recorded in those that are here."""
    one = await processes.start(bindings={"NOTES": Note})
    await processes.settle()
    follow = SharedFolder.follow

    def follow_while_one_arrives(shared: SharedFolder, shard: int) -> None:
        follow(shared, shard)
        shared._owned[99] = shared._owned[shard]

    with monkeypatch.context() as patched:
        patched.setattr(SharedFolder, "follow", follow_while_one_arrives)
        pages = one.namespace(Page)
    processes.store(one)._disks.shared._owned.pop(99)  # type: ignore[attr-defined]

    assert await pages.get_by_name("a").write(1) == 1


async def test_migrations_are_applied_once_for_all_shards(processes: Processes) -> None:
    """By whoever opens first; the objects of all shards are those of the new class."""
    one = await processes.start(bindings={"NOTES": Note}, migrations=[FIRST], script="app")
    for number in range(20):
        await one.env.NOTES.get_by_name(str(number)).write(number)
    await processes.stop(one)

    options = {"bindings": {"PAGES": Page}, "migrations": [FIRST, SECOND], "script": "app"}
    one, two = await processes.start(**options), await processes.start(**options)
    await processes.settle()
    for number in range(20):
        assert await two.env.PAGES.get_by_name(str(number)).read() == number

    await processes.stop(one)
    await processes.stop(two)
    last = await processes.start(migrations=[FIRST, SECOND, GONE], script="app")
    await processes.stop(last)
    again = await processes.start(bindings={"NOTES": Note}, script=None)
    assert [stored async for stored in again.env.NOTES.objects()] == []


async def test_a_class_is_deleted_by_a_process_that_has_the_store_alone(
    processes: Processes,
) -> None:
    """One that is at work would go on with its objects; nothing has changed for it."""
    one = await processes.start(bindings={"PAGES": Page}, migrations=[FIRST, SECOND], script="app")
    await one.env.PAGES.get_by_name("a").write(1)
    options = {"migrations": [FIRST, SECOND, GONE], "script": "app", "bindings": {}}

    with pytest.raises(durable.StoreInUse, match=r"deletes a class \(Page of script 'app'\) needs"):
        await processes.start(**options)
    assert await one.env.PAGES.get_by_name("a").write(2) == 2
    await processes.stop(one)
    last = await processes.start(**options)
    with pytest.raises(durable.MigrationConflict):
        await processes.start(bindings={"PAGES": Page}, migrations=[FIRST, SECOND], script="app")
    await processes.stop(last)


async def test_a_process_that_deletes_a_class_waits_for_the_others(processes: Processes) -> None:
    """`wait_s` is for that too: several that start at once do not wait for each other."""
    one = await processes.start(bindings={"NOTES": Note}, migrations=[FIRST], script="app")
    await one.env.NOTES.get_by_name("a").write(1)
    gone = Migration(tag="v2", deleted_classes=("Note",))
    options = {"migrations": [FIRST, gone], "script": "app", "bindings": {}, "wait_s": 60.0}

    async with anyio.create_task_group() as starting:
        for _ in range(3):
            starting.start_soon(partial(processes.start, **options))
        await anyio.wait_all_tasks_blocked()
        assert len(processes.openings) == 1
        await processes.stop(one)

    assert len(processes.openings) == 3


async def test_a_process_that_starts_while_its_class_is_deleted_is_refused(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that deletes the class passes over those that are only starting."""
    say = SharedFolder.say
    deleting: list[Catalog] = []

    def say_after_the_deletion(shared: SharedFolder, state: str) -> None:
        say(shared, state)
        if not deleting:
            before = shared.catalog()
            deleting.append(before)
            deleted = [attrs.evolve(record, is_deleted=True) for record in before.records]
            assert shared.change_classes(before, before.replacing(*deleted))

    monkeypatch.setattr(SharedFolder, "say", say_after_the_deletion)
    with pytest.raises(durable.MigrationConflict, match="deleted by a migration of another"):
        await processes.start(bindings={"NOTES": Note}, migrations=[FIRST], script="app")


async def test_a_class_that_one_process_registers_is_known_to_the_shards_of_all(
    processes: Processes,
) -> None:
    one, two = await processes.start(), await processes.start()
    await processes.settle()

    number = one.namespace(Note).record.number
    assert two.namespace(Note).record.number == number
    for name in map(str, range(8)):
        assert await one.namespace(Note).get_by_name(name).write(1) == 1
        assert await two.namespace(Note).get_by_name(name).read() == 1


async def test_an_owner_that_does_not_know_a_class_says_so(processes: Processes) -> None:
    one, two = await processes.start(), await processes.start()
    await processes.settle()
    notes = one.namespace(Note)
    far = notes.get_by_name(processes.name_in(two, notes))

    with pytest.raises(durable.UnknownClass, match="bind the same classes"):
        await far.read()
