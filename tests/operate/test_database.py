"""Stores in PostgreSQL, looked at, checked and copied."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import operate
from durable.operate import copying_objects
from tests import postgres


class Notes(durable.DurableObject):
    """Has keys, an alarm and a database."""

    async def fill(self, number: int) -> None:
        for n in range(number):
            self.ctx.storage.put(f"key {n}", {"n": n, "é": b"\0"})
        self.ctx.storage.sql.exec("create table notes (text)")
        self.ctx.storage.sql.exec("insert into notes values (?)", f"of {number}")
        self.ctx.storage.set_alarm(timedelta(days=1))

    async def look(self) -> tuple[int, list[Any]]:
        texts = [row["text"] for row in self.ctx.storage.sql.exec("select text from notes")]
        return len(await self.ctx.storage.list()), texts

    async def alarm(self) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """That of an empty store."""
    with postgres.store_url() as url:
        yield url


async def fill(path: str | Path, count: int = 5) -> None:
    async with durable.open(path, bindings={"NOTES": Notes}) as runtime:
        for n in range(count):
            await runtime.env.NOTES.get_by_name(f"n{n}").fill(n)


async def looks(path: str | Path, count: int = 5) -> list[Any]:
    async with durable.open(path, bindings={"NOTES": Notes}) as runtime:
        return [await runtime.env.NOTES.get_by_name(f"n{n}").look() for n in range(count)]


def known(store: operate.Store) -> list[Any]:
    """What is known of each object; its number is another one in each store."""
    return [(found.id, found.name, found.created, found.alarm) for found in store.objects("Notes")]


async def test_a_store_goes_to_a_database_and_back(tmp_path: Path, url: str) -> None:
    """Keys, databases of objects, alarms, ages and names, and nothing is lost on the way."""
    await fill(tmp_path / "from")
    operate.copy(tmp_path / "from", url)
    assert await looks(url) == [(n, [f"of {n}"]) for n in range(5)]
    operate.copy(url, tmp_path / "back")

    with operate.look(tmp_path / "from") as before, operate.look(tmp_path / "back") as after:
        assert known(before) == known(after)
    assert operate.check(tmp_path / "back") == []
    assert await looks(tmp_path / "back") == [(n, [f"of {n}"]) for n in range(5)]


async def test_a_copy_goes_on_where_it_was(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it has not ended its database is no store; what was stored last is written again."""
    await fill(tmp_path / "from")
    monkeypatch.setattr(copying_objects, "GROUP_COUNT_MAX", 2)
    told: list[int] = []

    def stop_soon(count: int) -> None:
        told.append(count)
        if count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        operate.copy(tmp_path / "from", url, on_objects=stop_soon)
    with pytest.raises(durable.DurableError, match="has not ended"):
        await durable.open(url, bindings={"NOTES": Notes}).start()
    operate.copy(tmp_path / "from", url, on_objects=told.append)

    assert told == [2, 4, 1]
    assert await looks(url) == [(n, [f"of {n}"]) for n in range(5)]


async def test_a_copy_is_made_only_where_nothing_is(tmp_path: Path, url: str) -> None:
    """Nor is it mixed with one of another store."""
    await fill(url, 1)
    await fill(tmp_path / "from", 1)
    with pytest.raises(durable.DurableError, match="has a store already"):
        operate.copy(tmp_path / "from", url)

    assert await looks(url, 1) == [(0, ["of 0"])]


async def test_a_copy_is_compared_with_what_it_is_of(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number of objects, and a checksum of all that they are."""
    await fill(tmp_path / "from", 2)

    def lose(count: int) -> None:
        postgres.server().execute(
            "delete from durable.records where ctid = (select ctid from durable.records limit 1)",
            url.rsplit("/", 1)[1],
        )

    with pytest.raises(durable.DurableError, match="changed meanwhile"):
        operate.copy(tmp_path / "from", url, on_objects=lose)


async def test_a_check_finds_what_is_wrong_with_rows_and_server(url: str) -> None:
    """Values by their checksums, objects by their keyspaces; and settings that lose commits."""
    await fill(url, 3)
    database = url.rsplit("/", 1)[1]
    settings = {problem.where for problem in operate.check(url)}
    assert settings == {"setting fsync", "setting full_page_writes"}  # as the tests' server is set

    def change(sql: str) -> set[str]:
        postgres.server().execute(sql, database)
        return {problem.what for problem in operate.check(url) if "setting" not in problem.where}

    assert change(
        "update durable.records set value = set_byte(value, 2, get_byte(value, 2) # 1) "
        "where key = 'key 1'"
    ) == {"its checksum does not match"}
    found = change("update durable.objects set shard = (shard + 1) % 1024")
    assert any("belongs to another" in what for what in found)
    found = change("delete from durable.objects")
    assert "it has records, and no object has it" in found


async def test_a_store_in_a_database_is_looked_at_while_it_is_in_use(url: str) -> None:
    """Objects, values, alarms and measures, by the URL."""
    async with durable.open(url, bindings={"NOTES": Notes}) as runtime:
        await runtime.env.NOTES.get_by_name("n").fill(2)
        with operate.look(url) as store:
            [found] = store.objects("Notes")
            assert found.name == "n"
            assert dict(store.items(found)) == {f"key {n}": {"n": n, "é": b"\0"} for n in range(2)}
            assert len(list(store.alarms())) == 1
            assert store.measure().objects == 1


async def test_a_store_that_was_moved_is_opened_no_more(tmp_path: Path, url: str) -> None:
    """It says where it is now; it may still be looked at. Nothing is marked that was not copied."""
    folder, back = tmp_path / "from", tmp_path / "back"
    await fill(folder, 2)
    async with durable.open(folder, bindings={"NOTES": Notes}):
        with pytest.raises(durable.StoreInUse):
            operate.copy(folder, url, moves=True)
    operate.copy(folder, url, moves=True)
    with pytest.raises(durable.DurableError, match="was moved to postgresql://"):
        await durable.open(folder, bindings={"NOTES": Notes}).start()
    with operate.look(folder) as store:
        assert len(list(store.objects("Notes"))) == 2

    operate.copy(url, back, moves=True)
    with pytest.raises(durable.DurableError, match=r"was moved to .*back"):
        await durable.open(url, bindings={"NOTES": Notes}).start()
    assert await looks(back, 2) == [(n, [f"of {n}"]) for n in range(2)]
    with pytest.raises(ValueError, match="from a folder to a database"):
        operate.copy(back, tmp_path / "other", moves=True)
