"""Timers where a store is looked at, carried away and checked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
from durable import operate
from durable._engine.checksums import protect
from durable._engine.stored_timer import TIMERS
from durable._lmdb import layout
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
from durable.cli import main as command

FAR = datetime(2096, 10, 2, 7, 6, 40, tzinfo=UTC)


class Kept(durable.DurableObject):
    async def fill(self) -> None:
        self.ctx.storage.put("key", "value")
        self.ctx.timers.set("tea", FAR, {"cups": (1, 2)})
        self.ctx.timers.set("coffee", FAR + timedelta(hours=1), None)
        self.ctx.timers.every("report", "0 8 1 1 *", b"x", time_zone="Europe/Berlin")
        self.ctx.timers.every("each", timedelta(days=40_000))

    async def timers(self) -> list[durable.Timer]:
        return await self.ctx.timers.list()

    async def timer(self, name: str, payload: Any) -> None:
        """Rings in the far future only, or when nobody looks."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with an object that has timers."""

    async def main() -> None:
        async with durable.open(tmp_path / "store", bindings={"K": Kept}) as runtime:
            await runtime.env.K.get_by_name("a").fill()

    anyio.run(main)
    return tmp_path / "store"


def timers_of(folder: Path, name: str = "a") -> list[durable.Timer]:
    with operate.look(folder) as store:
        return store.timers(store.find("Kept", name))


def test_timers_are_seen_from_outside(folder: Path) -> None:
    """As the object sees them, the first to ring first, and not among its keys."""

    async def inside() -> list[durable.Timer]:
        async with durable.open(folder, bindings={"K": Kept}) as runtime:
            return await runtime.env.K.get_by_name("a").timers()

    found = timers_of(folder)
    assert [timer.name for timer in found] == ["report", "tea", "coffee", "each"]
    assert found == anyio.run(inside)
    assert found[1].payload == {"cups": (1, 2)}
    with operate.look(folder) as store:
        (stored,) = store.alarms()
        assert stored.alarm is not None
        assert stored.alarm.due == found[0].due
        assert dict(store.items(stored)) == {"key": "value"}
        assert store.weigh(stored).keys == 1


def test_timers_are_exported_and_imported(folder: Path, tmp_path: Path) -> None:
    """With the other side records; the object in the other store has them all, and its alarm."""
    file = tmp_path / "file"
    with file.open("w") as text, operate.look(folder) as store:
        operate.export(store, text)

    operate.import_file(tmp_path / "other", file)
    operate.import_file(tmp_path / "other", file, name="b")
    assert timers_of(tmp_path / "other") == timers_of(folder)
    assert timers_of(tmp_path / "other", "b") == timers_of(folder)
    assert operate.check(tmp_path / "other") == []
    with operate.look(tmp_path / "other") as store:
        assert len([found for found in store.alarms() if found.alarm]) == 2


def test_a_payload_that_cannot_be_decoded_is_seen_as_it_is(folder: Path) -> None:
    """By a program that has another codec."""

    class NoCodec:
        def encode(self, value: Any) -> bytes:
            raise NotImplementedError

        def decode(self, data: bytes) -> Any:
            raise durable.StoreDamaged("another codec's")

    with operate.look(folder, codec=NoCodec()) as store:
        (found,) = store.objects()
        payloads = [timer.payload for timer in store.timers(found)]
    assert all(isinstance(payload, operate.Unreadable) for payload in payloads)


@pytest.mark.parametrize("stored", [b"\xc1broken", None])
def test_a_damaged_timer_is_left_out_and_told_of_by_the_check(
    folder: Path, stored: bytes | None
) -> None:
    """By its checksum, and by what it says."""
    with operate.look(folder) as store:
        whose = layout.side_key(store.find("Kept", "a").number, TIMERS + b"tea")
    stored = protect(whose, b"no timer") if stored is None else stored
    environment = Environment.open(folder, clock=SystemClock())
    environment.handle.write(lambda txn: txn.put(whose, stored))
    environment.close()

    assert [timer.name for timer in timers_of(folder)] == ["report", "coffee", "each"]
    (problem,) = operate.check(folder)
    assert "'a' of Kept" in str(problem)


def test_a_copy_has_the_timers_too(folder: Path, tmp_path: Path) -> None:
    for compact in (False, True):
        target = tmp_path / f"copy {compact}"
        operate.copy(folder, target, compact=compact)
        assert timers_of(target) == timers_of(folder)


def test_the_commands_show_timers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` all of an object's, `alarms` the first of each object."""
    assert command(["show", str(folder), "Kept", "a"]) == 0
    shown = capsys.readouterr().out
    for text in ("report", "0 8 1 1 * (Europe/Berlin)", "{'cups': (1, 2)}", "40000 days, 0:00:00"):
        assert text in shown
    assert command(["show", str(folder), "Kept", "a", "--json"]) == 0
    described = json.loads(capsys.readouterr().out.splitlines()[0])["object"]
    assert [timer["name"] for timer in described["timers"]] == ["report", "tea", "coffee", "each"]

    assert command(["alarms", str(folder)]) == 0
    assert "report" in capsys.readouterr().out
    assert command(["alarms", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["timer"] == "report"
