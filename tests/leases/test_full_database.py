"""A database whose disk is full: what is not stored says so, what was confirmed stays, leases are
renewed, and it goes on when there is room."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

import durable
from tests import postgres
from tests.small_disk import database_on_small_disk, fill

pytestmark = pytest.mark.backends("asyncio", "trio")

PEERS = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")
KEYS = 40
LARGE = random.Random(1).randbytes(3_000)  # which cannot be compressed


class Notes(durable.DurableObject):
    async def write(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def delete(self, key: str) -> None:
        await self.ctx.storage.delete(key)

    async def clear(self) -> None:
        await self.ctx.storage.delete_all()

    async def count(self) -> int:
        return len(await self.ctx.storage.list())


async def write_all(notes: Any, keys: Iterator[int]) -> None:
    for key in keys:
        await notes.write(str(key), LARGE)


async def write_until_full(notes: Any) -> int:
    """Returns how many keys were confirmed."""
    keys = iter(range(KEYS))
    with pytest.raises(durable.StoreFull, match="has no room, and nothing of the commit was stor"):
        await write_all(notes, keys)
    return next(keys) - 1


async def test_a_full_database_loses_nothing_and_goes_on_when_there_is_room() -> None:
    if not postgres.is_there():
        pytest.skip(postgres.MISSING)
    limits = durable.Limits(lease_s=60.0)
    with database_on_small_disk() as (url, folder):
        async with durable.open(
            url, peers=PEERS, bindings={"NOTES": Notes}, limits=limits
        ) as runtime:
            notes = runtime.env.NOTES.get_by_name("a")
            await notes.write("first", 1)
            filling = fill(folder)
            confirmed = await write_until_full(notes) + 1

            # What is there is read, and can be deleted; the process keeps what it owns.
            notes = runtime.env.NOTES.get_by_name("a")
            assert await notes.count() == confirmed
            await notes.delete("first")
            assert await notes.count() == confirmed - 1
            assert [peer.state for peer in await runtime.peers()] == ["ready"]
            filling.unlink()
            await notes.write("last", LARGE)
            assert await notes.count() == confirmed


async def test_what_is_cleared_on_a_full_database_is_gone() -> None:
    """A note of it as garbage, or another row of the object, would take room."""
    if not postgres.is_there():
        pytest.skip(postgres.MISSING)
    with database_on_small_disk() as (url, folder):
        async with durable.open(
            url, peers=PEERS, bindings={"NOTES": Notes}, limits=durable.Limits(lease_s=60.0)
        ) as runtime:
            notes = runtime.env.NOTES.get_by_name("a")
            await notes.write("first", 1)
            fill(folder)
            await write_until_full(notes)

            notes = runtime.env.NOTES.get_by_name("a")
            await notes.clear()
            assert await notes.count() == 0
            assert [found async for found in runtime.env.NOTES.objects()] == []
