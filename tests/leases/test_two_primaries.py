"""A store whose standby has taken its primary's place while that one lives on, first in the URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import anyio
import anyio.to_thread
import pytest

import durable
from durable._postgres.opening import init
from tests import postgres
from tests.standby import Pair

from .conftest import Counter

pytestmark = pytest.mark.backends("asyncio", "trio")

LIMITS = durable.Limits(lease_s=3.0)
TRY_AGAIN_S = 0.05
SERVED_S_MAX = 30.0


@pytest.fixture
def pair() -> Iterator[Pair]:
    postgres.server()  # skips where there is none
    with closing(Pair()) as pair:
        yield pair


async def increment(runtime: durable.Runtime) -> int:
    """Call until it is carried out."""
    with anyio.fail_after(SERVED_S_MAX):
        while True:
            try:
                value: int = await runtime.namespace(Counter).get_by_name("a").increment()
                return value
            except durable.DurableError:
                await anyio.sleep(TRY_AGAIN_S)


async def test_objects_are_served_by_the_new_primary_while_the_old_one_lives_on(
    pair: Pair,
) -> None:
    """By the process that had them, and by one that opens the store then. A commit of the first one
    waits for a standby that does not come."""
    old = pair.primary
    url = pair.url(old.url(old.new_database()))
    init(url)
    try:
        async with durable.open(url, limits=LIMITS) as runtime:
            assert await increment(runtime) == 1
            await anyio.to_thread.run_sync(pair.promote)
            after = await increment(runtime)
            assert after in {2, 3}
        async with durable.open(url, limits=LIMITS) as runtime:
            assert await increment(runtime) > after
    finally:
        old.close()
