"""A listing goes in steps that hold nothing between them; what is of one moment says so."""

from __future__ import annotations

import gc
import io
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import operate
from durable._lmdb import snapshot
from durable._lmdb.lmdb_files import MAP_SIZE_MIN
from durable._model.ids import IdFactory
from durable.cli import main
from durable.operate import importing, looking
from durable.operate.listing import listing

from .conftest import Watched, Worker

pytest.importorskip("click")
pytest.importorskip("rich")

from durable.cli.object_lines import object_lines
from durable.cli.show import described

NOBODY = "(no active readers)\n"
OBJECTS = 25


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store whose objects differ in all that a listing shows."""

    async def fill() -> None:
        async with durable.open(
            tmp_path / "store", bindings={"WORKERS": Worker}, vars={"CLOCK": None}
        ) as runtime:
            for number in range(OBJECTS):
                worker = runtime.env.WORKERS.get_by_name(f'"{number}" é\x1b')
                for key in range(number % 5 + 1):
                    worker.put(f"{key} ü", "x" * number)
                if number % 3 == 0:
                    await worker.put("long " * 200 + str(number), number)
                if number % 4 == 0:
                    await worker.set_alarm(3_600)
                await worker.get("x")
            nameless = runtime.env.WORKERS.get(runtime.env.WORKERS.new_unique_id())
            await nameless.set_alarm(7_200)

    anyio.run(fill)
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few objects and keys take several steps."""
    monkeypatch.setattr(looking, "OBJECTS_PER_STEP", 4)
    monkeypatch.setattr(looking, "OBJECTS_PER_COUNT", 4)
    monkeypatch.setattr(snapshot, "KEYS_PER_STEP", 2)
    monkeypatch.setattr(snapshot, "RECORDS_PER_STEP", 9)
    monkeypatch.setattr(snapshot, "RECORDS_OF_ONE", 4)


def readers(store: operate.Store) -> str:
    """Who holds a transaction, as LMDB tells it."""
    return str(store._engine.handle.env.readers())


LISTINGS: dict[str, Callable[[operate.Store], Iterator[Any]]] = {
    "objects": lambda store: store.objects("Worker"),
    "alarms": lambda store: store.alarms(),
    "items": lambda store: store.items(store.find("Worker", '"4" é\x1b')),
    "listing": lambda store: listing(store, "Worker", weigh=True),
}


@pytest.mark.parametrize("begin", LISTINGS.values(), ids=LISTINGS)
def test_a_listing_that_stands_still_holds_no_reader(
    folder: Path, begin: Callable[[operate.Store], Iterator[Any]]
) -> None:
    """Whoever reads slowly does not keep the owner from using its old pages again."""
    with operate.look(folder) as store:
        listed = begin(store)
        next(listed)
        assert readers(store) == NOBODY
        assert len(list(listed)) > 2
        with store.one_moment():
            assert readers(store) != NOBODY
        assert readers(store) == NOBODY


class Watcher(io.StringIO):
    """A standard output that sees who holds the store whenever something is written to it."""

    def __init__(self, *stores: operate.Store) -> None:
        super().__init__()
        self.stores = list(stores)
        self.seen: list[str] = []

    def write(self, text: str, /) -> int:
        self.seen.append(readers(self.stores[-1]))
        return super().write(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "Worker"), ("ls", "Worker", "--json"), ("ls", "Worker", "--json", "--fast"), ("ls",),
        ("show", "Worker", '"4" é\x1b'), ("show", "Worker", '"4" é\x1b', "--json"), ("alarms",),
        ("alarms", "--json"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_holds_no_reader_while_it_prints(
    folder: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So `durable ls | less` may stand on a screen for days."""
    watcher = Watcher()
    look = operate.look

    def watched_look(store: Path) -> operate.Store:
        watcher.stores.append(look(store))
        return watcher.stores[-1]

    monkeypatch.setattr(operate, "look", watched_look)
    monkeypatch.setattr(sys, "stdout", watcher)
    command, *rest = arguments

    assert main([command, str(folder), *rest]) == 0
    assert watcher.getvalue()
    assert set(watcher.seen) == {NOBODY}


def test_an_export_is_of_one_moment(folder: Path) -> None:
    """It holds its reader from its first line to its last."""
    with operate.look(folder) as store:
        watcher = Watcher(store)
        operate.export(store, watcher)

        assert NOBODY not in watcher.seen
        assert readers(store) == NOBODY


def test_a_listing_weighs_as_one_object_is_weighed(folder: Path) -> None:
    """In the step of the others, or in steps of their own: long keys, and many."""
    with operate.look(folder) as store:
        listed = [each for step in listing(store, weigh=True) for each in step.found()]
        assert [found for found, _ in listed] == list(store.objects())
        for found, weight in listed:
            pairs = list(store.encoded(found))
            size = sum(len(key.encode()) + len(value) for key, value in pairs)
            assert weight == store.weigh(found) == operate.Weight(len(pairs), size)
        (some,) = [
            [found.name for found, _ in step.found()]
            for step in listing(store, "Worker", '"1', weigh=True)
            if '"13" é\x1b' in [found.name for found, _ in step.found()]
        ]
        assert all(name and name.startswith('"1') for name in some)
        assert store.count(store.cls("Worker")) == len(listed) == OBJECTS + 1


def test_a_line_of_a_listing_is_what_json_makes_of_the_object(folder: Path) -> None:
    """It is written by hand, which must not be seen."""
    with operate.look(folder) as store:
        for step in listing(store, weigh=True):
            expected = [
                {
                    **described(found),
                    "keys": weight.keys,
                    "bytes": weight.size,
                    "database_bytes": weight.database_size,
                    "history_bytes": weight.history_size,
                }
                for found, weight in step.found()
                if weight is not None
            ]
            dumped = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in expected)
            assert object_lines(step) == dumped
        for step in listing(store, weigh=False):
            dumped = "".join(
                json.dumps(described(found), ensure_ascii=False) + "\n" for found, _ in step.found()
            )
            assert object_lines(step) == dumped


async def test_one_moment_is_kept_while_the_store_is_written_to(watched: Watched) -> None:
    """Within the block nothing of what comes later is seen, behind it all of it."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.put("x", 1)
        with operate.look(runtime) as store:
            with store.one_moment():
                await worker.put("x", 2)
                await runtime.env.WORKERS.get_by_name("b").put("x", 1)
                (found,) = store.objects()
                assert dict(store.items(found)) == {"x": 1}
            assert dict(store.items(found)) == {"x": 2}
            assert store.measure().objects == 2


async def test_a_moment_is_lost_when_the_map_must_grow(watched: Watched) -> None:
    """The program that writes goes first, and who looks is told rather than shown two moments."""
    async with watched.open(observer=None) as runtime:
        worker = runtime.env.WORKERS.get_by_name("a")
        await worker.put("x", 1)
        with operate.look(runtime) as store, store.one_moment():
            for number in range(MAP_SIZE_MIN // (1 << 20) + 1):
                await worker.put(str(number), bytes(1 << 20))
            with pytest.raises(operate.MomentLost, match="do it again"):
                list(store.objects())
        with operate.look(runtime) as store:
            assert store.weigh(store.find("Worker", "a")).keys > 1


async def test_what_a_trial_wrote_is_listed(watched: Watched) -> None:
    """A runtime with scratch=True sees what lies above the disk."""
    async with watched.open(observer=None) as runtime:
        await runtime.env.WORKERS.get_by_name("a").put("x", 1)
    async with watched.open(observer=None, scratch=True) as runtime:
        await runtime.env.WORKERS.get_by_name("b").put("x", [1, 2])
        await runtime.env.WORKERS.get_by_name("b").set_alarm(60)
        with operate.look(runtime) as store:
            listed = [each for step in listing(store, weigh=True) for each in step.found()]
            assert {found.name for found, _ in listed} == {"a", "b"}
            assert all(weight is not None and weight.keys == 1 for _, weight in listed)
            assert dict(store.items(store.find("Worker", "b"))) == {"x": [1, 2]}
            assert [found.name for found in store.alarms()] == ["b"]
            assert store.count(store.cls("Worker")) == 2


def file_of(path: Path, objects: int) -> Path:
    """An export of so many objects, in the order of their ids."""
    ids = IdFactory("Worker")
    found = sorted((str(ids.from_name(str(number))), str(number)) for number in range(objects))
    lines: list[Any] = [
        {"format": "durable export", "version": 1},
        {"class": {"name": "Worker", "script": None, "unique_key": "Worker"}},
    ]
    for id_, name in found:
        created = "2026-01-01T00:00:00+00:00"
        lines.append({"object": {"id": id_, "name": name, "created": created, "alarm": None}})
        lines.append({"key": "k", "value": name})
    lines.append({"end": {"objects": objects, "values": objects}})
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def peak_of(work: Callable[..., object], *arguments: Path) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        work(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_file_takes_no_more_memory_than_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its import nor its export keeps the objects that it has done."""
    monkeypatch.setattr(importing, "GROUP_COUNT_MAX", 100)
    peaks: list[tuple[int, int]] = []
    for number, count in enumerate((300, 300, 3_000)):  # the first loads what is loaded once
        file, store = file_of(tmp_path / "in", count), tmp_path / f"store {number}"
        peaks.append((peak_of(operate.import_file, store, file), peak_of(export, store, file)))

    for few, many in zip(*peaks[1:], strict=True):
        assert many < few * 1.5


def export(folder: Path, file: Path) -> None:
    with operate.look(folder) as store, file.open("w", encoding="utf-8") as out:
        operate.export(store, out)
