"""A store in PostgreSQL for each test that asks for its URL, and an object that counts in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import durable
from tests import postgres


class Counter(durable.DurableObject):
    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.store_url() as url:
        yield url
