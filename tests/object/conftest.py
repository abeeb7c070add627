"""What the tests of one object share: a store whose clock and disk do what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import durable
import durable.testing


@pytest.fixture
def clock() -> durable.testing.VirtualClock:
    """The time, which only the test moves."""
    return durable.testing.VirtualClock()


@pytest.fixture
def faults() -> durable.testing.Faults:
    """What the disk does."""
    return durable.testing.Faults()


@pytest.fixture
async def runtime(
    tmp_path: Path, clock: durable.testing.VirtualClock, faults: durable.testing.Faults
) -> AsyncIterator[durable.Runtime]:
    """An open store of one's own."""
    async with durable.testing.open(tmp_path / "store", clock=clock, faults=faults) as runtime:
        yield runtime
