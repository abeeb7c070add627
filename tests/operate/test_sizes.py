"""`ls` and `stats --sizes` say how much objects have: keys, their databases, their histories."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable import operate
from durable._engine.side_records import FIRST_PAGE
from durable._lmdb import layout, snapshot
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
from durable.cli import main
from durable.operate.databases import database_size
from durable.operate.listing import listing, size_of_class
from tests import postgres

pytest.importorskip("apsw")
pytest.importorskip("click")
pytest.importorskip("rich")


class Archive(durable.DurableObject):
    """Keeps a history, and what it is told."""

    history = timedelta(days=1)

    async def put(self, keys: int) -> None:
        self.ctx.storage.put({f"key {key}": "x" * key for key in range(keys)})

    async def write(self, rows: int) -> None:
        self.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS t (value)")
        for row in range(rows):
            self.ctx.storage.sql.exec("INSERT INTO t VALUES (?)", f"{row:0>1000}")

    async def mark(self) -> None:
        await self.ctx.storage.get_current_bookmark()


class Plain(Archive):
    history = None


async def fill(runtime: durable.Runtime) -> None:
    """Objects with each of the three, some of them, and none."""
    for cls in (Archive, Plain):
        objects = runtime.namespace(cls)
        await objects.get_by_name("keys").put(3)
        await objects.get_by_name("rows").write(20)
        both = objects.get_by_name("both")
        await both.put(4)
        await both.write(1)
        if cls is Archive:
            await both.mark()
        await both.put(5)


Opened = Callable[[Path], AbstractAsyncContextManager[operate.Store]]


@asynccontextmanager
async def in_a_folder(folder: Path) -> AsyncIterator[operate.Store]:
    async with durable.testing.open(folder / "store") as runtime:
        await fill(runtime)
    with operate.look(folder / "store") as store:
        yield store


@asynccontextmanager
async def in_shards(folder: Path) -> AsyncIterator[operate.Store]:
    async with durable.open(folder / "store", shared=True, shards=3) as runtime:
        await fill(runtime)
    with operate.look(folder / "store") as store:
        yield store


@asynccontextmanager
async def in_memory(folder: Path) -> AsyncIterator[operate.Store]:
    async with durable.testing.open(folder / "store"):
        pass
    async with durable.testing.open(folder / "store", scratch=True) as runtime:
        await fill(runtime)
        with operate.look(runtime) as store:
            yield store


@asynccontextmanager
async def in_postgres(folder: Path) -> AsyncIterator[operate.Store]:
    with postgres.store_url() as url:
        async with durable.open(url) as runtime:
            await fill(runtime)
        with operate.look(url) as store:
            yield store


def weighed(store: operate.Store, cls: str) -> dict[str | None, operate.Weight | None]:
    steps = listing(store, cls, weigh=True)
    return {found.name: weight for step in steps for found, weight in step.found()}


@pytest.mark.backends("asyncio", "trio")
@pytest.mark.parametrize("opened", [in_a_folder, in_shards, in_memory, in_postgres])
async def test_a_listing_has_the_sizes_of_databases_and_histories(
    opened: Opened, tmp_path: Path
) -> None:
    """As one object has them that is asked for, and whether or not it has other things."""
    async with opened(tmp_path) as store:
        archive, plain = weighed(store, "Archive"), weighed(store, "Plain")
        for cls, weights in (("Archive", archive), ("Plain", plain)):
            for found in store.objects(cls):
                weight = weights[found.name]
                assert weight is not None
                assert weight == store.weigh(found)
                assert weight.database_size == database_size(store, found)
                past = operate.history(store, cls, found.name or "").size if found.history else 0
                assert weight.history_size == past

        sizes = size_of_class(store, store.cls("Archive"))

    assert set(plain) == {"keys", "rows", "both"}
    few, many = 2 * 4_096, 7 * 4_096
    for weights in (archive, plain):
        databases = {name: each.database_size for name, each in weights.items() if each}
        assert databases == {"keys": 0, "both": few, "rows": databases["rows"]}
        assert databases["rows"] >= many
    assert all(each and each.history_size > 0 for each in archive.values())
    assert all(each and each.history_size == 0 for each in plain.values())
    assert archive["keys"] == evolved(plain["keys"], archive["keys"])

    assert (sizes.objects, sizes.databases, sizes.histories) == (3, 2, 3)
    assert sizes.weight == sum([each for each in archive.values() if each], operate.Weight(0, 0))


def evolved(weight: Any, with_history_of: Any) -> operate.Weight:
    """The same object with a history."""
    return operate.Weight(weight.keys, weight.size, 0, with_history_of.history_size)


def test_a_large_history_takes_steps_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is weighed all the same, as is one that a step has no room for."""
    monkeypatch.setattr(snapshot, "RECORDS_OF_ONE", 4)
    monkeypatch.setattr(snapshot, "RECORDS_PER_STEP", 8)

    async def look() -> None:
        async with in_a_folder(tmp_path) as store:
            for cls in ("Archive", "Plain"):
                for found in store.objects(cls):
                    assert weighed(store, cls)[found.name] == store.weigh(found)

    anyio.run(look)


def test_a_first_page_that_is_damaged_has_no_size(tmp_path: Path) -> None:
    """A listing goes on; `check` tells of the page."""

    async def make() -> None:
        async with durable.testing.open(tmp_path / "store") as runtime:
            await runtime.namespace(Plain).get_by_name("rows").write(1)

    anyio.run(make)
    environment = Environment.open(tmp_path / "store", clock=SystemClock())
    ((_, record),) = environment.objects(0, count_max=9) or environment.objects(1, count_max=9)
    place = layout.side_key(record.keyspace, FIRST_PAGE)
    environment.handle.write(lambda txn: txn.put(place, txn.get(place)[:-1] + b"!"))
    environment.close()

    with operate.look(tmp_path / "store") as store:
        (found,) = store.objects()
        assert weighed(store, "Plain") == {"rows": operate.Weight(0, 0)}
        assert store.weigh(found) == operate.Weight(0, 0)


def test_the_commands_show_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`ls` of each object, `stats --sizes` of each class."""

    async def make() -> None:
        async with in_a_folder(tmp_path):
            pass

    anyio.run(make)

    def said(*words: object) -> str:
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    folder = tmp_path / "store"
    lines = [json.loads(line) for line in said("ls", folder, "Archive", "--json").splitlines()]
    assert {line["name"]: line["database_bytes"] for line in lines}["both"] == 8_192
    assert all(line["history_bytes"] > 0 for line in lines)
    assert " 8.0 KiB " in said("ls", folder, "Plain")

    measured = json.loads(said("stats", folder, "--sizes", "--json"))
    archive, plain = measured["sizes"]
    assert (archive["class"], archive["databases"], archive["histories"]) == ("Archive", 2, 3)
    assert archive["history_bytes"] == sum(line["history_bytes"] for line in lines)
    assert archive["database_bytes"] == plain["database_bytes"] >= 9 * 4_096
    assert (plain["histories"], plain["history_bytes"]) == (0, 0)
    assert "histories" in said("stats", folder, "--sizes")
    assert "sizes" not in json.loads(said("stats", folder, "--json"))
