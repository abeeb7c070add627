"""A store that is opened with a journal: what a program, and those who look, see of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import durable
import durable.testing
from durable import operate
from durable._lmdb.journal import journaled, segments

FILES = set(segments.NAMES)


class Keeper(durable.DurableObject):
    async def keep(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def all(self) -> dict[str, Any]:
        return await self.ctx.storage.list()


BINDINGS: dict[str, type[durable.DurableObject]] = {"K": Keeper}


@pytest.fixture
def nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the journal stays there until somebody brings it into the file."""
    monkeypatch.setattr(journaled, "APPLY_S_MAX", 1_000.0)


async def test_what_was_written_with_a_journal_is_there_without_one(tmp_path: Path) -> None:
    """And the other way round; the files of the journal are there while the store is open."""
    for number, journal in enumerate([True, False, True, False]):
        async with durable.open(tmp_path, bindings=BINDINGS, journal=journal) as runtime:
            keeper = runtime.env.K.get_by_name("a")
            assert await keeper.all() == {f"{n}": n for n in range(number)}
            await keeper.keep(f"{number}", number)
            assert FILES.intersection(os.listdir(tmp_path)) == (FILES if journal else set())


async def test_a_program_sees_all_of_its_store(tmp_path: Path, nothing_follows: None) -> None:
    """A copy, a check and a look at the open store have what only the journal had."""
    async with durable.open(tmp_path / "store", bindings=BINDINGS, journal=True) as runtime:
        await runtime.env.K.get_by_name("a").keep("key", "value")
        await anyio.to_thread.run_sync(operate.copy, runtime, tmp_path / "copy")
        assert await anyio.to_thread.run_sync(operate.check, runtime) == []
        looked_at = operate.look(runtime)
        for name in ("a", "b"):
            await runtime.env.K.get_by_name(name).keep("key", "value")
            found = await anyio.to_thread.run_sync(looked_at.find, "Keeper", name)
            assert found.name == name
        looked_at.close()

    assert not FILES.intersection(os.listdir(tmp_path / "copy"))
    assert operate.check(tmp_path / "copy") == []
    async with durable.open(tmp_path / "copy", bindings=BINDINGS) as runtime:
        assert await runtime.env.K.get_by_name("a").all() == {"key": "value"}


LOOK = """
import sys
from durable import operate
store = operate.look(sys.argv[1])
print(sum(1 for _ in store.objects()))
store.close()
"""


async def test_another_process_sees_what_has_followed(
    tmp_path: Path, nothing_follows: None
) -> None:
    """What is only in the journal is not for it to see, while the store has an owner."""

    def look() -> int:
        command = [sys.executable, "-c", LOOK, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    async with durable.open(tmp_path, bindings=BINDINGS, journal=True) as runtime:
        await runtime.env.K.get_by_name("a").keep("key", "value")
        assert await anyio.to_thread.run_sync(look) == 0
        await anyio.to_thread.run_sync(operate.check, runtime)
        assert await anyio.to_thread.run_sync(look) == 1


async def test_a_store_without_room_for_a_journal_goes_on_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of what was begun."""

    def no_room(self: Any, file: str) -> None:
        raise OSError(28, "No space left on device", file)

    monkeypatch.setattr(segments.Journal, "_make", no_room)
    async with durable.open(tmp_path, bindings=BINDINGS, journal=True) as runtime:
        await runtime.env.K.get_by_name("a").keep("key", "value")
        assert not FILES.intersection(os.listdir(tmp_path))
        assert await runtime.env.K.get_by_name("a").all() == {"key": "value"}


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"journal": 1}, TypeError, "journal must be True or False, not 1"),
        ({"journal": True, "scratch": True}, ValueError, "leave out journal"),
        ({"journal": True, "shared": True}, ValueError, "its shards have no journals"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    """At the call; nothing was made."""
    with pytest.raises(error, match=why):
        durable.open(tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


async def test_a_configuration_says_that_there_is_a_journal(tmp_path: Path) -> None:
    """`journal = true`, at the top or in an environment."""
    (tmp_path / "main.py").write_text("")
    (tmp_path / "durable.toml").write_text(
        'name = "a"\nmain = "main.py"\npath = "state"\njournal = true\n[env.plain]\njournal = false'
    )
    async with durable.open_config(tmp_path / "durable.toml"):
        assert set(os.listdir(tmp_path / "state")) >= FILES
    async with durable.open_config(tmp_path / "durable.toml", environment="plain"):
        assert not FILES.intersection(os.listdir(tmp_path / "state"))
