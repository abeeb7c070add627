"""Migrations in Python, as the contract (section 8) and Cloudflare's documentation have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import Migration, MigrationConflict, testing


class _Kept(durable.DurableObject):
    async def put(self, value: Any) -> None:
        self.ctx.storage.put("key", value)

    async def get(self) -> Any:
        return await self.ctx.storage.get("key")


def named(*names: str) -> dict[str, type[durable.DurableObject]]:
    return {name: type(name, (_Kept,), {}) for name in names}


def rename(tag: str, **renames: str) -> Migration:
    return Migration(
        tag=tag, renamed_classes=[{"from": old, "to": new} for old, new in renames.items()]
    )


NEW = Migration(tag="v1", new_classes=["A", "B"])


async def test_data_and_ids_follow_a_class_through_all_its_names(tmp_path: Path) -> None:
    async with testing.open(tmp_path, bindings=named("A", "B"), migrations=[NEW]) as runtime:
        await runtime.env.A.get_by_name("x").put("of the first")
        await runtime.env.B.get_by_name("x").put("of the second")
        first = str(runtime.env.A.id_from_name("x"))

    swapped = [NEW, rename("v2", A="B", B="A")]
    async with testing.open(tmp_path, bindings=named("A", "B"), migrations=swapped) as runtime:
        assert await runtime.env.A.get_by_name("x").get() == "of the second"
        assert str(runtime.env.B.id_from_name("x")) == first

    moved = [*swapped, rename("v3", B="C")]
    again = [*moved, Migration(tag="v4", new_classes=["B"])]
    async with testing.open(tmp_path, bindings=named("C", "B"), migrations=again) as runtime:
        assert await runtime.env.C.get_by_name("x").get() == "of the first"
        assert await runtime.env.B.get_by_name("x").get() is None
        with pytest.raises(durable.InvalidId):
            runtime.env.B.id_from_string(first)


@pytest.mark.parametrize(
    ("further", "names"),
    [
        ([Migration(tag="v2", new_classes=["A"])], "AB"),
        ([rename("v2", Z="C")], "ABC"),
        ([rename("v2", A="B")], "B"),
        ([rename("v2", A="C")], "A"),
        ([Migration(tag="v2", deleted_classes=["Z"])], "A"),
        ([Migration(tag="v2", deleted_classes=["A"])], "A"),
        ([rename("v2", A="C"), Migration(tag="v3", deleted_classes=["Z"])], "CB"),
        ([Migration(tag="v2")], "ABC"),
        (
            [
                Migration(
                    tag="v2",
                    transferred_classes=[{"from": "Z", "from_script": "other", "to": "C"}],
                )
            ],
            "AC",
        ),
    ],
)
async def test_a_conflict_changes_nothing(
    tmp_path: Path, further: list[Migration], names: str
) -> None:
    async with testing.open(tmp_path, bindings=named("A", "B"), migrations=[NEW]) as runtime:
        await runtime.env.A.get_by_name("x").put(1)

    with pytest.raises(MigrationConflict):
        async with testing.open(tmp_path, bindings=named(*names), migrations=[NEW, *further]):
            pass

    async with testing.open(tmp_path, bindings=named("A", "B"), migrations=[NEW]) as runtime:
        assert await runtime.env.A.get_by_name("x").get() == 1


@pytest.mark.parametrize("tags", [[], ["w1"], ["v0", "v1"]])
async def test_a_list_that_lacks_or_moves_what_was_applied_is_refused(
    tmp_path: Path, tags: list[str]
) -> None:
    async with testing.open(tmp_path, bindings=named("A"), migrations=[NEW]):
        pass

    wrong = [Migration(tag=tag, new_classes=["A"] if tag == "w1" else []) for tag in tags]
    with pytest.raises(MigrationConflict, match="v1"):
        async with testing.open(tmp_path, bindings=named("A"), migrations=wrong):
            pass


async def test_a_transferred_class_keeps_its_key(tmp_path: Path) -> None:
    new = Migration(tag="v1", new_classes=["A"])
    async with testing.open(
        tmp_path, bindings=named("A"), script="one", migrations=[new]
    ) as runtime:
        assert runtime.env.A.unique_key == "one-A"
        await runtime.env.A.get_by_name("x").put(5)

    taken = Migration(
        tag="t1", transferred_classes=[{"from": "A", "from_script": "one", "to": "B"}]
    )
    async with testing.open(
        tmp_path, bindings=named("B"), script="two", migrations=[taken]
    ) as runtime:
        assert runtime.env.B.unique_key == "one-A"
        assert await runtime.env.B.get_by_name("x").get() == 5


async def test_a_deletion_frees_in_a_store_that_nobody_writes_to(tmp_path: Path) -> None:
    """It does not wait for a commit of somebody else's."""
    async with testing.open(tmp_path, bindings=named("A", "B"), migrations=[NEW]) as runtime:
        for number in range(100):
            await runtime.env.A.get_by_name(str(number)).put(b"x" * 2_000)
        free_pages = runtime.statistics().store.free_pages

    deleted = [NEW, Migration(tag="v2", deleted_classes=["A"])]
    async with testing.open(tmp_path, bindings=named("B"), migrations=deleted) as runtime:
        with anyio.fail_after(10):
            while runtime.statistics().store.garbage:
                await anyio.sleep(0.01)
        store = runtime.statistics().store
        assert (store.objects, store.records) == (0, 0)
        assert store.free_pages > free_pages + 50
