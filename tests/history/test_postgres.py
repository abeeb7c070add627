"""Histories in PostgreSQL: the same model, and what is freed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from hypothesis import given, settings

import durable
import durable.testing
from tests import postgres

from .conftest import Ledger
from .test_model import Follower, steps


@pytest.fixture
def url() -> Iterator[str]:
    """That of an empty store."""
    with postgres.store_url() as url:
        yield url


@pytest.mark.backends("asyncio", "trio")
async def test_an_object_in_postgresql_goes_back(url: str) -> None:
    """Over a deletion of everything and a restart, and there again."""
    due = datetime(2100, 1, 1, tzinfo=UTC)
    async with durable.testing.open(url) as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        await stub.put("a", 1)
        await stub.set_alarm(due)
        mark = await stub.now()
        await stub.delete_all()
        await stub.put("b", 2)
        undo = await stub.wish(mark)
    async with durable.testing.open(url) as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        assert await stub.found_first() == {"a": 1}
        assert await stub.due() == due
        await stub.wish(undo)
        await durable.testing.evict(stub)
        assert await stub.all() == {"b": 2}
        assert await stub.due() is None


def test_every_bookmark_in_postgresql_comes_back_as_it_was() -> None:
    @settings(max_examples=12)
    @given(steps)
    def run(steps: list[Any]) -> None:
        with postgres.store_url() as url:
            anyio.run(Follower(url, is_in_memory=False).follow, steps)

    run()
