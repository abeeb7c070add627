"""What is damaged is said and left out; a listing and an export go on without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

import durable
from durable import operate
from durable._lmdb.environment import Environment
from durable._lmdb.layout import object_key, top_level
from durable._model.clock import SystemClock
from durable._model.ids import IdFactory
from durable.cli import main

pytestmark = pytest.mark.backends("asyncio")

ID = IdFactory("Keeper").from_name("b")
BASE = ID.raw[:16]


class Keeper(durable.DurableObject):
    async def keep(self) -> None:
        self.ctx.storage.put({"first": 1, "second": "two", "third": 3})
        self.ctx.storage.set_alarm(4_000_000_000.0)

    async def alarm(self) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of three objects with the keyspaces 1, 2 and 3."""

    async def fill() -> None:
        async with durable.open(tmp_path / "store") as runtime:
            for name in ("a", "b", "c"):
                await runtime.namespace(Keeper).get_by_name(name).keep()

    anyio.run(fill)
    return tmp_path / "store"


def change(folder: Path, what: Callable[[Any, Any], object]) -> None:
    environment = Environment.open(folder, clock=SystemClock())
    try:
        environment.handle.write(lambda txn: what(txn, environment.handle.databases))
    finally:
        environment.close()


def damage_value(folder: Path) -> None:
    def flip(txn: Any, databases: Any) -> None:
        key = top_level(2) + b"second"
        raw = txn.get(key)
        txn.put(key, raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:])

    change(folder, flip)


def damage_object(folder: Path) -> None:
    def flip(txn: Any, databases: Any) -> None:
        key = object_key(1, BASE)
        raw = txn.get(key, db=databases.objects)
        txn.put(key, raw[:5] + bytes([raw[5] ^ 1]) + raw[6:], db=databases.objects)

    change(folder, flip)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_export_leaves_out_a_damaged_value_and_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is 1; the file is complete without it, and can be imported."""
    damage_value(folder)
    assert main(["export", str(folder), "-o", str(tmp_path / "file")]) == 1

    said = capsys.readouterr().err
    assert (
        "left out: the value of the key 'second' of the object 'b' of Keeper: its checksum does "
        "not fit\n" in said
    )
    assert "3 objects with 8 values; left out as damaged: 0 objects, 1 values" in said
    assert main(["import", str(tmp_path / "new"), str(tmp_path / "file")]) == 0
    with operate.look(tmp_path / "new") as store:
        kept = {found.name: dict(store.items(found)) for found in store.objects()}
    whole = {"first": 1, "second": "two", "third": 3}
    assert kept == {"a": whole, "b": {"first": 1, "third": 3}, "c": whole}


def test_an_export_goes_on_behind_a_damaged_object(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All other objects are in the file, which is complete."""
    damage_object(folder)
    assert main(["export", str(folder), "-o", str(tmp_path / "file")]) == 1

    said = capsys.readouterr().err
    assert f"left out: the object {ID} of Keeper, whose record is damaged" in said
    assert "2 objects with 6 values; left out as damaged: 1 objects, 0 values" in said
    assert main(["import", str(tmp_path / "new"), str(tmp_path / "file")]) == 0
    with operate.look(tmp_path / "new") as store:
        assert {found.name for found in store.objects()} == {"a", "c"}


@pytest.mark.parametrize("options", [[], ["--fast"], ["--prefix", ""]], ids=" ".join)
@pytest.mark.parametrize("count_max", [1, 2, 1_000])
def test_a_list_of_objects_goes_on_behind_a_damaged_one(
    options: list[str],
    count_max: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where it is the only one of a step of the listing, or the last."""
    monkeypatch.setattr("durable.operate.looking.OBJECTS_PER_STEP", count_max)
    damage_object(folder)
    assert main(["ls", str(folder), "Keeper", "--json", *options]) == 1

    said = capsys.readouterr()
    assert {line["name"] for line in lines(said.out)} == {"a", "c"}
    assert said.err.count("left out") == 1
    assert str(ID) in said.err
    assert main(["ls", str(folder), "Keeper", *options]) == 1
    assert "created" in capsys.readouterr().out


def test_alarms_go_on_behind_a_damaged_object(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_object(folder)
    assert main(["alarms", str(folder), "--json"]) == 1

    said = capsys.readouterr()
    assert {line["name"] for line in lines(said.out)} == {"a", "c"}
    assert str(ID) in said.err


def test_what_else_looks_tells_of_a_damaged_object(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To show it is an error; the classes, the counts and the check know of it."""
    damage_object(folder)
    assert main(["show", str(folder), "Keeper", "b"]) == 1
    assert "its checksum does not match" in capsys.readouterr().err
    assert main(["ls", str(folder), "--json"]) == 0
    assert lines(capsys.readouterr().out)[0]["objects"] == 3
    with operate.look(folder) as store:
        assert [found.name for found in store.objects() if found.name == "b"] == []
        (damaged,) = store.damaged
        assert damaged.id == ID
        assert "checksum" in damaged.why
    problems = operate.check(folder)
    assert any(str(ID) in str(problem) and "checksum" in problem.what for problem in problems)
