"""Migrations: what follows from a list of them, for the store, for objects and for bindings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import durable
import durable.testing
from durable import Migration, MigrationConflict
from durable._deploy.planning import Kind, Plan, Script, plan_migrations
from durable._engine.batch import UNCHANGED, Alarm, Batch, Callbacks, ObjectHandle
from durable._engine.catalog import Catalog, ClassRecord
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock

V1 = Migration(tag="v1", new_classes=["Counter"])
V2 = Migration(tag="v2", renamed_classes=[{"from": "Counter", "to": "Tally"}])
DELETE = Migration(tag="v3", deleted_classes=["Tally"])


def plan(
    *migrations: Migration, catalog: Catalog | None = None, script: str | None = None, **more: Any
) -> Plan:
    return plan_migrations(catalog or Catalog(), [Script(script, migrations)], **more)


def names(catalog: Catalog, script: str | None = None) -> dict[str, int]:
    """The classes of a script that are there, with their numbers."""
    return {r.name: r.number for r in catalog.records if r.script == script and not r.is_deleted}


# Planning


def test_migrations_are_applied_in_order() -> None:
    """Each migration sees what the one before it left."""
    done = plan(V1, V2)

    assert names(done.after) == {"Tally": 1}
    assert done.after.tags == {None: ("v1", "v2")}
    assert [step.kind for step in done.steps] == [Kind.CREATED, Kind.RENAMED]


def test_each_migration_is_applied_once() -> None:
    """What the store has seen is not done again."""
    first = plan(V1)

    assert plan(V1, catalog=first.after).is_empty
    assert plan(V1, V2, catalog=first.after).new_tags == ((None, "v2"),)


def test_each_script_has_its_own_migrations() -> None:
    """Tags and classes of one script say nothing about another."""
    catalog = plan(V1, V2, catalog=plan(V1, script="other").after).after

    assert names(catalog) == {"Tally": 2}
    assert names(catalog, "other") == {"Counter": 1}
    assert catalog.tags == {"other": ("v1",), None: ("v1", "v2")}


def test_within_one_migration_deletions_come_first_then_renames_then_new_classes() -> None:
    """So names are free when they are needed, whatever the order of the keys."""
    before = plan(Migration(tag="v1", new_classes=["A", "B"])).after
    all_at_once = Migration(
        tag="v2",
        new_classes=["B"],
        renamed_classes=[{"from": "B", "to": "A"}],
        deleted_classes=["A"],
    )

    done = plan(Migration(tag="v1", new_classes=["A", "B"]), all_at_once, catalog=before)

    assert names(done.after) == {"A": 2, "B": 3}
    assert [step.kind for step in done.steps] == [Kind.DELETED, Kind.RENAMED, Kind.CREATED]


def test_two_classes_can_exchange_their_names() -> None:
    """The renames of one migration happen at once."""
    swap = [{"from": "A", "to": "B"}, {"from": "B", "to": "A"}]
    done = plan(
        Migration(tag="v1", new_classes=["A", "B"]), Migration(tag="v2", renamed_classes=swap)
    )

    assert names(done.after) == {"B": 1, "A": 2}


def test_sqlite_classes_are_new_classes() -> None:
    """There is one kind of storage."""
    done = plan(Migration(tag="v1", new_sqlite_classes=["Counter"]))

    assert names(done.after) == {"Counter": 1}


def test_a_rename_keeps_number_and_key_and_changes_one_record() -> None:
    """What the objects hang on stays as it is."""
    before = plan(Migration(tag="v1", new_classes=["Counter", "Other"])).after
    done = plan_migrations(
        before, [Script(None, (Migration(tag="v1", new_classes=["Counter", "Other"]), V2))]
    )

    assert [(r.number, r.unique_key, r.name) for r in done.changed] == [(1, "Counter", "Tally")]


def test_a_later_class_of_a_name_once_used_gets_a_fresh_key() -> None:
    """It has nothing to do with the first one, whose objects may still be there."""
    again = Migration(tag="v3", new_classes=["Counter"])
    catalog = plan(V1, V2, again).after
    keys = {record.name: record.unique_key for record in catalog.records}

    assert keys["Tally"] == "Counter"
    assert keys["Counter"] not in {"Counter", "Tally"}


def test_the_key_of_a_deleted_class_is_not_used_again() -> None:
    """Nor is its number: its objects may not all be gone yet."""
    catalog = plan(
        V1,
        Migration(tag="v2", deleted_classes=["Counter"]),
        Migration(tag="v3", new_classes=["Counter"]),
    ).after
    first, second = catalog.records

    assert first.is_deleted
    assert not second.is_deleted
    assert first.unique_key != second.unique_key
    assert first.number != second.number


def test_a_class_of_a_script_has_the_script_in_its_key() -> None:
    """So two environments have different objects."""
    assert plan(V1, script="shop-staging").after.records[0].unique_key == "shop-staging-Counter"


def test_a_transfer_takes_a_class_to_another_script() -> None:
    """Number and key go with it; the source has it no more."""
    before = plan(V1, script="old").after
    transfer = [{"from": "Counter", "from_script": "old", "to": "Tally"}]
    done = plan(Migration(tag="a", transferred_classes=transfer), catalog=before, script="new")

    assert names(done.after, "old") == {}
    assert done.after.find(("new", "Tally")) == ClassRecord(
        1, "old-Counter", "Tally", "new", former=(("old", "Counter"),)
    )


def test_a_class_of_no_script_can_be_transferred_to_one() -> None:
    """Its script is written as the empty text."""
    transfer = [{"from": "Counter", "from_script": "", "to": "Counter"}]
    done = plan(
        Migration(tag="a", transferred_classes=transfer), catalog=plan(V1).after, script="new"
    )

    assert names(done.after, "new") == {"Counter": 1}


def test_old_names_lead_to_the_class_until_another_takes_them() -> None:
    """Bindings of other scripts follow a rename; a new class of the old name ends that."""
    renamed = plan(V1, V2, script="shop").after
    retaken = plan(V1, V2, Migration(tag="v3", new_classes=["Counter"]), script="shop").after

    assert renamed.follow(("shop", "Counter")) == renamed.find(("shop", "Tally"))
    assert retaken.follow(("shop", "Counter")) == retaken.find(("shop", "Counter"))
    assert retaken.find(("shop", "Tally")).former == ()  # type: ignore[union-attr]


def test_an_old_name_of_a_deleted_class_leads_nowhere() -> None:
    """Not to somebody else's objects."""
    assert plan(V1, V2, DELETE).after.follow((None, "Counter")) is None


def test_classes_from_before_the_first_migration_count_as_named_by_it() -> None:
    """A program may start to use migrations when its store has objects already."""
    before = Catalog().replacing(ClassRecord(1, "Counter", "Counter"))
    done = plan(V1, catalog=before)

    assert [step.kind for step in done.steps] == [Kind.KEPT]
    assert done.after.records == before.records


def test_a_plan_says_what_it_does() -> None:
    """In the words of the operator, with what would go."""
    catalog = plan(V1, V2).after
    more = Migration(tag="v4", new_classes=["Cart"])
    done = plan(V1, V2, DELETE, more, Migration(tag="v5"), catalog=catalog)

    assert done.words() == [
        "v3: delete class Tally and all of its objects",
        "v4: create class Cart",
        "v5: nothing changes",
    ]


REFUSED: list[tuple[str, list[Migration], str]] = [
    ("a list that lacks what was applied", [], "v2"),
    ("a list that lacks the last one", [V1], "v2"),
    ("a list that lacks the first one", [V2], "v1"),
    ("a gap", [V1, Migration(tag="new"), V2], "new"),
    ("another order", [V2, V1], "'v2' stands before 'v1'"),
    ("a tag that stands twice", [V1, V2, V2], "twice"),
    (
        "deleting a class that is not there",
        [V1, V2, Migration(tag="v3", deleted_classes=["X"])],
        "X",
    ),
    (
        "renaming a class that is not there",
        [V1, V2, Migration(tag="v3", renamed_classes=[{"from": "Counter", "to": "Y"}])],
        "Counter",
    ),
    (
        "renaming to a name that is taken",
        [
            V1,
            V2,
            Migration(tag="v3", new_classes=["Cart"]),
            Migration(tag="v4", renamed_classes=[{"from": "Cart", "to": "Tally"}]),
        ],
        "Tally",
    ),
    ("creating what is there", [V1, V2, Migration(tag="v3", new_classes=["Tally"])], "Tally"),
    (
        "transferring from a script that has no such class",
        [
            V1,
            V2,
            Migration(
                tag="v3",
                transferred_classes=[{"from": "A", "from_script": "other", "to": "A"}],
            ),
        ],
        "'other'",
    ),
    (
        "transferring within the script",
        [
            V1,
            V2,
            Migration(
                tag="v3", transferred_classes=[{"from": "Tally", "from_script": "", "to": "B"}]
            ),
        ],
        "renamed_classes",
    ),
]


@pytest.mark.parametrize(
    ("migrations", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_does_not_follow_from_what_was_applied_is_refused(
    migrations: list[Migration], says: str
) -> None:
    """The message names what is wrong."""
    catalog = plan(V1, V2).after

    with pytest.raises(MigrationConflict, match=says):
        plan(*migrations, catalog=catalog)


def test_a_deletion_is_refused_while_a_binding_names_the_class() -> None:
    """In the text that Cloudflare's tool has."""
    with pytest.raises(MigrationConflict) as caught:
        plan(V1, V2, DELETE, bindings=[(None, "Tally")])

    assert str(caught.value) == (
        "Cannot apply --delete-class migration to class Tally without also removing the binding "
        "that references it"
    )


def test_a_binding_to_a_class_that_takes_the_place_of_a_deleted_one_is_no_obstacle() -> None:
    """The binding names the new one."""
    again = evolve(DELETE, new_classes=["Tally"])

    assert names(plan(V1, V2, again, bindings=[(None, "Tally")]).after) == {"Tally": 2}


def test_a_class_that_migrations_leave_must_be_in_the_main_module() -> None:
    """Where all classes of a script are known; classes that came and went need not be there."""
    script = Script(None, (V1, V2), exported={"Tally"})

    assert names(plan_migrations(Catalog(), [script]).after) == {"Tally": 1}
    with pytest.raises(MigrationConflict, match="Tally"):
        plan_migrations(Catalog(), [evolve(script, exported={"Counter"})])


MALFORMED: list[dict[str, Any]] = [
    {"tag": ""},
    {"tag": 1},
    {"tag": "v", "new_classes": "Counter"},
    {"tag": "v", "new_classes": [1]},
    {"tag": "v", "new_classes": ["not a name"]},
    {"tag": "v", "new_classes": ["A", "A"]},
    {"tag": "v", "new_classes": ["A"], "new_sqlite_classes": ["A"]},
    {"tag": "v", "deleted_classes": ["A", "A"]},
    {"tag": "v", "deleted_classes": ["A"], "renamed_classes": [{"from": "A", "to": "B"}]},
    {"tag": "v", "renamed_classes": [{"from": "A", "to": "A"}]},
    {"tag": "v", "renamed_classes": [{"from": "A", "to": "C"}, {"from": "B", "to": "C"}]},
    {"tag": "v", "renamed_classes": [{"from": "A"}]},
    {"tag": "v", "renamed_classes": [("A", "B")]},
    {"tag": "v", "transferred_classes": [{"from": "A", "to": "B"}]},
    {"tag": "v", "transferred_classes": [{"from": "A", "from_script": 1, "to": "B"}]},
    {"tag": "v", "renamed": []},
    {},
]


@pytest.mark.parametrize("table", MALFORMED, ids=str)
def test_a_migration_that_makes_no_sense_by_itself_cannot_be_made(table: dict[str, Any]) -> None:
    """Whatever the store has."""
    with pytest.raises((TypeError, ValueError)):
        Migration(**table)


@given(st.data())
def test_any_list_applied_in_parts_is_as_applied_at_once(data: st.DataObject) -> None:
    """How often a program was opened on the way makes no difference."""
    migrations: list[Migration] = []
    catalog = Catalog()
    for number in range(data.draw(st.integers(1, 6))):
        there = sorted(names(catalog))
        pick = data.draw(st.permutations(there)) if there else []
        split = data.draw(st.integers(0, len(pick)))
        deleted, moved = pick[:split][:1], pick[split:][:2]
        migrations.append(
            Migration(
                tag=f"v{number}",
                deleted_classes=deleted,
                renamed_classes=[{"from": name, "to": f"R{number}{name}"} for name in moved],
                new_classes=[f"N{number}", *(deleted if data.draw(st.booleans()) else [])],
            )
        )
        catalog = plan(*migrations, catalog=catalog).after

    assert plan(*migrations).after == catalog
    keys = [record.unique_key for record in catalog.records]
    assert len(set(keys)) == len(keys)


# With a store


class Counter(durable.DurableObject):
    async def add(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value

    async def wake_in(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self) -> None:
        await self.add(100)


class Tally(Counter):
    pass


class Cart(Counter):
    pass


class Room(durable.DurableObject):
    async def fetch(self, request: durable.Request) -> durable.Response:
        client, server = durable.WebSocketPair()
        self.ctx.accept_websocket(server)
        return durable.Response(status=101, websocket=client)


async def test_a_renamed_class_has_the_ids_data_and_alarms_of_before(tmp_path: Path) -> None:
    """Only the name in the program is another one."""
    clock = durable.testing.VirtualClock()
    async with durable.open(tmp_path / "s", bindings={"C": Counter}, clock=clock) as runtime:
        stub = runtime.env.C.get_by_name("a")
        await stub.add()
        await stub.wake_in(60)
        first_id = stub.id

    async with durable.open(
        tmp_path / "s", bindings={"T": Tally}, migrations=[V1, V2], clock=clock
    ) as runtime:
        stub = runtime.env.T.get_by_name("a")

        assert stub.id == first_id
        assert await stub.add() == 2
        await clock.advance(61)
        assert await stub.add() == 103


async def test_a_transferred_class_has_the_ids_and_data_of_before(tmp_path: Path) -> None:
    """Whatever script it came from."""
    async with durable.open(tmp_path / "s", bindings={"C": Counter}, script="old") as runtime:
        first_id = runtime.env.C.id_from_name("a")
        await runtime.env.C.get(first_id).add()

    transfer = [{"from": "Counter", "from_script": "old", "to": "Tally"}]
    async with durable.open(
        tmp_path / "s",
        bindings={"T": Tally},
        script="new",
        migrations=[Migration(tag="v1", transferred_classes=transfer)],
    ) as runtime:
        assert runtime.env.T.id_from_name("a") == first_id
        assert await runtime.env.T.get(first_id).add() == 2


async def test_scripts_have_objects_of_their_own(tmp_path: Path) -> None:
    """The same class and name in two scripts are two objects."""
    for script, expected in (("a", 1), ("b", 1), ("a", 2), (None, 1)):
        async with durable.open(tmp_path / "s", bindings={"C": Counter}, script=script) as runtime:
            assert await runtime.env.C.get_by_name("x").add() == expected


async def test_a_class_that_comes_again_begins_anew(tmp_path: Path) -> None:
    """A name does not bring back what was deleted, nor what was renamed away."""
    async with durable.open(tmp_path / "s", bindings={"C": Counter}, migrations=[V1]) as runtime:
        await runtime.env.C.get_by_name("a").add()

    replaced = Migration(tag="v2", deleted_classes=["Counter"], new_classes=["Counter"])
    async with durable.open(
        tmp_path / "s", bindings={"C": Counter}, migrations=[V1, replaced]
    ) as runtime:
        assert await runtime.env.C.get_by_name("a").add() == 1


async def test_nothing_changes_when_any_step_is_refused(tmp_path: Path) -> None:
    """Not even what the steps before it would have done, nor are new classes registered."""
    async with durable.open(tmp_path / "s", bindings={"C": Counter}, migrations=[V1]):
        pass
    before = catalog_of(tmp_path / "s")
    wrong = Migration(tag="v3", deleted_classes=["Nothing"])

    with pytest.raises(MigrationConflict):
        async with durable.open(tmp_path / "s", bindings={}, migrations=[V1, V2, wrong]):
            pass
    with pytest.raises(MigrationConflict):
        async with durable.open(tmp_path / "s", bindings={"B": Cart}, migrations=[V1, V2]):
            pass

    assert catalog_of(tmp_path / "s") == before


async def test_a_script_with_migrations_has_only_the_classes_that_they_name(tmp_path: Path) -> None:
    """Both at the opening and later."""
    with pytest.raises(MigrationConflict, match="new_classes"):
        async with durable.open(tmp_path / "s", bindings={"B": Cart}, migrations=[V1]):
            pass
    async with durable.open(tmp_path / "s", bindings={"C": Counter}, migrations=[V1]) as runtime:
        with pytest.raises(durable.UnknownClass, match="new_classes"):
            runtime.namespace(Cart)


async def test_a_class_is_used_by_its_present_name(tmp_path: Path) -> None:
    """A program that still has the old class is told the new name."""
    with pytest.raises(MigrationConflict, match="Tally"):
        async with durable.open(tmp_path / "s", bindings={"C": Counter}, migrations=[V1, V2]):
            pass


async def test_a_script_without_migrations_takes_any_class(tmp_path: Path) -> None:
    """As before there were any, and beside scripts that have them."""
    async with durable.open(tmp_path / "s", migrations=[V1], script="other"):
        pass
    async with durable.open(tmp_path / "s", bindings={"C": Counter}) as runtime:
        assert await runtime.namespace(Cart).get_by_name("a").add() == 1


async def test_a_deleted_class_leaves_nothing(tmp_path: Path) -> None:
    """All of its objects, their records and their alarms are freed."""
    async with durable.open(tmp_path / "s", bindings={"C": Counter}) as runtime:
        for number in range(20):
            stub = runtime.env.C.get_by_name(str(number))
            await stub.add()
            await stub.wake_in(3_600)

    async with durable.open(
        tmp_path / "s", migrations=[Migration(tag="v1", deleted_classes=["Counter"])]
    ):
        pass

    environment = Environment.open(tmp_path / "s", clock=SystemClock())
    try:
        while environment.has_garbage:
            environment.collect_garbage(7)
        assert environment.objects(1, count_max=100) == []
        assert environment.alarms(count_max=100) == []
        assert [environment.in_line.get(number, "value") for number in range(40)] == [None] * 40
        assert environment.classes() == []
    finally:
        environment.close()


def test_a_deletion_goes_in_steps_and_can_be_left_off_at_any(tmp_path: Path) -> None:
    """The next owner goes on where the last one stopped; other classes lose nothing."""
    fill(tmp_path / "s", {1: 30, 2: 5})
    environment = Environment.open(tmp_path / "s", clock=SystemClock())
    before = environment.catalog()
    deleted = evolve(before.records[0], is_deleted=True)
    environment.change_classes(before, before.replacing(deleted))
    environment.close()
    steps = 0
    while True:
        environment = Environment.open(tmp_path / "s", clock=SystemClock())
        if not environment.has_garbage:
            break
        assert environment.collect_garbage(7) <= 7
        environment.close()
        steps += 1

    try:
        assert steps > 30 // 7
        assert environment.objects(1, count_max=100) == []
        assert len(environment.objects(2, count_max=100)) == 5
        assert {due.class_number for due in environment.alarms(count_max=100)} == {2}
        assert environment.weigh_class(2).objects == 5
    finally:
        environment.close()


def test_a_rename_costs_the_same_for_many_objects(tmp_path: Path) -> None:
    """It writes one record of a class and the tag; no object is touched."""
    fill(tmp_path / "s", {1: 100_000})
    environment = Environment.open(tmp_path / "s", clock=SystemClock())
    try:
        catalog = environment.catalog()
        script = Script(None, (Migration(tag="v1", renamed_classes=[{"from": "K1", "to": "L"}]),))
        done = plan_migrations(catalog, [script])
        pages_before = last_page(environment)
        environment.change_classes(catalog, done.after)

        assert last_page(environment) - pages_before < 30
        assert environment.catalog() == done.after
        assert environment.weigh_class(1).objects == 100_000
    finally:
        environment.close()


async def test_replacing_a_class_resets_its_live_objects(tmp_path: Path) -> None:
    """Their callers get the reason, the next call finds the new code, and others go on."""

    def later(base: type[Counter]) -> type[Counter]:
        class Counter(base):  # type: ignore[misc, valid-type]
            async def add(self, by: int = 1) -> int:
                return await super().add(10 * by)

        return Counter

    newer = later(Counter)
    async with durable.open(tmp_path / "s", bindings={"C": Counter, "B": Cart}) as runtime:
        old_stub, cart = runtime.env.C.get_by_name("a"), runtime.env.B.get_by_name("a")
        await old_stub.add()
        await cart.add()

        runtime.replace(Counter, newer)

        with pytest.raises(durable.ObjectReset, match="because its code was updated") as caught:
            await old_stub.add()
        assert caught.value.reset
        assert await runtime.env.C.get_by_name("a").add() == 11
        assert await runtime.namespace(newer).get_by_name("a").add() == 21
        assert await cart.add() == 2
        with pytest.raises(ValueError, match="migration"):
            runtime.replace(newer, Tally)
        with pytest.raises(durable.UnknownClass):
            runtime.replace(Counter, newer)


async def test_replacing_a_class_closes_the_sockets_of_its_objects(tmp_path: Path) -> None:
    """Those too that hibernate: the new code has not accepted them."""

    class Later(Room):
        pass

    Later.__name__ = "Room"
    async with durable.open(tmp_path / "s", bindings={"R": Room}) as runtime:
        response = await runtime.env.R.get_by_name("a").fetch("https://room/")
        assert response.websocket is not None
        response.websocket.accept()
        await durable.testing.evict(runtime.env.R.get_by_name("a"))

        runtime.replace(Room, Later)

        with pytest.raises(durable.WebSocketClosed):
            async for _ in response.websocket:
                pass


def catalog_of(path: Path) -> Catalog:
    environment = Environment.open(path, clock=SystemClock())
    try:
        return environment.catalog()
    finally:
        environment.close()


def fill(path: Path, counts: dict[int, int]) -> None:
    """Classes K1, K2 … with so many objects, each with one key and one alarm."""
    environment = Environment.open(path, clock=SystemClock())
    try:
        catalog = Catalog()
        for number in counts:
            catalog = catalog.replacing(ClassRecord(number, f"K{number}", f"K{number}"))
        environment.change_classes(Catalog(), catalog)
        environment.commit(
            [
                batch_of(environment.next_keyspace(), class_number, index)
                for class_number, count in counts.items()
                for index in range(count)
            ]
        )
    finally:
        environment.close()


def batch_of(number: int, class_number: int, index: int) -> Batch:
    handle = ObjectHandle(class_number, index.to_bytes(16, "big"), number, None, None, None)
    return Batch(
        handle=handle,
        clears=False,
        puts={"value": b"x"},
        alarm=UNCHANGED if index % 2 else Alarm(10**15 + index, 10**15 + index),
        origin=Callbacks(lambda: None, lambda error: None),
        size=10,
    )


def last_page(environment: Environment) -> int:
    page: int = environment.handle.env.info()["last_pgno"]
    return page
