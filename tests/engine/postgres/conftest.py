"""Stores in PostgreSQL for the tests of that engine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from durable._postgres.engine import PostgresEngine
from tests import postgres

from ..kit import Clock
from .kit import claim_all

Open = Callable[[], PostgresEngine]


@pytest.fixture
def url() -> Iterator[str]:
    """That of an empty store."""
    with postgres.store_url() as url:
        yield url


@pytest.fixture
def opens(url: str) -> Iterator[Open]:
    """Opens the store as one more process, which owns all shards from then on."""
    with ExitStack() as stack:
        numbers = iter(range(1, 100))

        def open_next() -> PostgresEngine:
            process = next(numbers)
            engine = PostgresEngine.open(url, Clock(), process, claim_all(url, process))
            stack.callback(engine.close)
            return engine

        yield open_next


@pytest.fixture
def engine(opens: Open) -> PostgresEngine:
    """The store as the one process that has it."""
    return opens()
