"""Looking into a store: streams, wakes nobody, changes nothing."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable import cli, operate
from durable._engine import measures
from durable._engine.batch import UNCHANGED, Batch, ObjectHandle
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock

from .conftest import Watched, Worker

MANY = 30_000


async def test_the_owner_looks_into_its_own_store(watched: Watched) -> None:
    """An admin page in the program itself gives its runtime."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        for key in ("a1", "a2", "b1"):
            await worker.put(key, {"is": key})
        await worker.set_alarm(60)
        await durable.testing.evict(worker)
        with operate.look(runtime) as store:
            (found,) = store.objects("Worker", prefix="a")
            assert dict(store.items(found, prefix="a")) == {
                "a1": {"is": "a1"}, "a2": {"is": "a2"}
            }  # fmt: skip
            assert [key for key, _ in store.items(found, start="a2")] == ["a2", "b1"]
            assert [key for key, _ in store.items(found, end="b", limit=1)] == ["a1"]
            assert store.weigh(found).keys == 3
            assert [each.name for each in store.alarms()] == ["a"]
            assert list(store.objects("Worker", prefix="b")) == []
            assert store.measure().objects == 1
        assert operate.check(runtime) == []
        assert not durable.testing.is_live(worker)


async def test_an_object_is_found_by_name_and_by_id(watched: Watched) -> None:
    """Even one whose name looks like an id."""
    name = "ab" * 32
    async with watched.open(observer=None) as runtime:
        await runtime.env.WORKERS.get_by_name("a").put("x", 1)
        with operate.look(runtime) as store:
            found = store.find("Worker", "a")
            assert store.find("Worker", str(found.id)) == found
            assert found.name == "a"
            with pytest.raises(durable.DurableError):
                store.find("Worker", name)


async def test_a_hot_copy_is_a_whole_store(watched: Watched, tmp_path: Path) -> None:
    """A copy is of one moment, and has nothing of what came later."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.put("x", 1)
        for compact in (False, True):
            operate.copy(runtime, tmp_path / f"copy {compact}", compact=compact)
        await worker.put("x", 2)

    for compact in (False, True):
        target = tmp_path / f"copy {compact}"
        assert operate.check(target) == []
        with operate.look(target) as store:
            assert dict(store.items(store.find("Worker", "a"))) == {"x": 1}
    with pytest.raises(FileExistsError):
        operate.copy(watched.folder, tmp_path / "copy True")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of many objects, written without a runtime."""
    folder = tmp_path_factory.mktemp("many") / "store"
    environment = Environment.open(folder, clock=SystemClock())
    catalog = environment.catalog()
    record = catalog.new_class((None, "Worker"))
    environment.change_classes(catalog, catalog.replacing(record))
    new_number = environment.next_keyspace
    nothing: Any = lambda *_: None  # noqa: E731
    for step in range(0, MANY, 10_000):
        environment.commit(
            [
                Batch(
                    ObjectHandle(record.number, n.to_bytes(16), new_number(), None, None, None),
                    False, {"k": b"\x01\x01"}, UNCHANGED, nothing, 3,
                )
                for n in range(step, step + 10_000)
            ]
        )  # fmt: skip
    environment.close()
    return folder


def test_a_long_list_takes_no_more_memory_than_a_short_one(many: Path) -> None:
    """Objects are read in steps, and none of them is kept."""
    with operate.look(many) as store:
        tracemalloc.start()
        count = sum(1 for found in store.objects("Worker") if store.weigh(found).keys == 1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert count == MANY
    assert peak < 2 << 20


def test_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    """A folder without a store is an error, and stays as it is."""
    with pytest.raises(FileNotFoundError):
        operate.look(tmp_path / "nowhere")

    assert list(tmp_path.iterdir()) == []


def test_a_large_object_is_read_in_steps(tmp_path: Path) -> None:
    """Many keys, some of them with large values, come in order and once."""

    async def main() -> None:
        async with durable.open(
            tmp_path / "store", bindings={"WORKERS": Worker}, vars={"CLOCK": None}
        ) as runtime:
            worker = runtime.env.WORKERS.get_by_name("a")
            for n in range(300):
                worker.put(f"{n:03}", bytes(200_000 if n % 50 == 0 else 1))
            await worker.get("000")

    anyio.run(main)
    with operate.look(tmp_path / "store") as store:
        keys = [key for key, _ in store.items(store.find("Worker", "a"))]

    assert keys == [f"{n:03}" for n in range(300)]


MEASURES: dict[str, int] = dict.fromkeys(
    [
        "file_size", "map_size", "last_commit", "readers", "readers_max", "classes", "objects",
        "records", "alarms", "garbage",
    ],
    1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("pages", "free", "is_advised"),
    [(10, 9, False), (65_536, 16_384, True), (65_536, 16_383, False), (65_540, 16_384, False)],
)
def test_stats_advise_a_compact_copy_where_many_pages_are_free(
    pages: int, free: int, is_advised: bool
) -> None:
    """Many, and a good part of the file: commits of large values search them."""
    found = operate.Measures(page_size=4_096, pages=pages, free_pages=free, **MEASURES)

    assert (found.advice is not None) == is_advised
    if found.advice is not None:
        assert found.advice.startswith("25 % of the pages are free")
        assert "copy --compact" in found.advice


def test_stats_print_the_advice(
    many: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people, and in JSON, where it is null if there is none."""
    pytest.importorskip("click")
    assert cli.main(["stats", str(many), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["advice"] is None
    monkeypatch.setattr(measures, "FREE_PAGES_MANY", 0)
    monkeypatch.setattr(measures, "FREE_SHARE", 1 << 40)
    assert cli.main(["stats", str(many)]) == 0
    assert "copy --compact" in " ".join(capsys.readouterr().out.split())
