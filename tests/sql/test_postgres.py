"""Databases of objects in PostgreSQL: their pages come with the object, as far as they are few, and
the rest as SQLite asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import durable
import durable.testing
from durable._postgres import questions
from durable._postgres.reader import PostgresReader
from tests import postgres

from .conftest import Desk

pytestmark = pytest.mark.backends("asyncio", "trio")

ROWS = 40  # of a thousand bytes: some ten pages


@pytest.fixture
def url() -> Iterator[str]:
    """That of an empty store."""
    with postgres.store_url() as url:
        yield url


@pytest.fixture
def pages_read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The side records for which the database was asked by their keys, in order."""
    asked: list[bytes] = []
    get_side, get_sides = PostgresReader.get_side, PostgresReader.get_sides

    def get_and_note(self: PostgresReader, keyspace: int, key: bytes) -> bytes | None:
        asked.append(key)
        return get_side(self, keyspace, key)

    def get_all_and_note(
        self: PostgresReader, keyspace: int, keys: Sequence[bytes]
    ) -> list[bytes | None]:
        asked.extend(keys)
        return get_sides(self, keyspace, keys)

    monkeypatch.setattr(PostgresReader, "get_side", get_and_note)
    monkeypatch.setattr(PostgresReader, "get_sides", get_all_and_note)
    return asked


async def fill(url: str) -> None:
    async with durable.open(url) as runtime:
        stub = runtime.namespace(Desk).get_by_name("a")
        for number in range(ROWS):
            await stub.insert(f"{number:0>1000}")


async def test_a_small_database_comes_with_its_object(url: str, pages_read: list[bytes]) -> None:
    """All of it is read, and written to, without another question."""
    await fill(url)
    pages_read.clear()
    async with durable.open(url) as runtime:
        stub = runtime.namespace(Desk).get_by_name("a")
        assert len(await stub.values()) == ROWS
        await stub.insert("more")
        assert len(await stub.values()) == ROWS + 1
    assert pages_read == []


async def test_of_a_large_database_pages_are_read_as_they_are_asked_for(
    url: str, pages_read: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not come with the object, each of them once."""
    await fill(url)
    pages_read.clear()
    monkeypatch.setattr(questions, "WOKEN_SIZE_MAX", 8_192)
    async with durable.open(url) as runtime:
        stub = runtime.namespace(Desk).get_by_name("a")
        assert [int(value) for value in await stub.values()] == list(range(ROWS))
        assert len(pages_read) == len(set(pages_read)) > ROWS / 8

        # What was written meanwhile is not asked for.
        await stub.insert("more")
        pages_read.clear()
        await durable.testing.evict(stub)
        assert (await stub.values())[-1] == "more"


async def test_a_turn_is_stored_whole_or_not_at_all(url: str) -> None:
    """Rows, keys and the alarm are one commit of the database."""

    class Till(Desk):
        async def sell(self, fails: bool) -> None:
            self.ctx.storage.put("sold", self.ctx.storage.kv.get("sold", 0) + 1)
            await self.insert("sale")
            if fails:
                self.ctx.abort("no")

        async def all(self) -> Any:
            return self.ctx.storage.kv.get("sold"), await self.values()

    async with durable.open(url) as runtime:
        tills = runtime.namespace(Till)
        await tills.get_by_name("a").sell(False)
        with pytest.raises(durable.ObjectAborted):
            await tills.get_by_name("a").sell(True)
        assert await tills.get_by_name("a").all() == (1, ["sale"])
    async with durable.open(url) as runtime:
        assert await runtime.namespace(Till).get_by_name("a").all() == (1, ["sale"])
