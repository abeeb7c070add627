"""A store in PostgreSQL for each test that asks for its URL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import postgres


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.store_url() as url:
        yield url
