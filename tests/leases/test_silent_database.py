"""A runtime whose database says nothing any more, though it stays connected: its calls fail in
time, it closes in time, and it goes on when the database is back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import anyio
import pytest

import durable
from durable._postgres import engine, leases
from tests.cables import Cable

from .conftest import Counter

pytestmark = pytest.mark.backends("asyncio", "trio")

PEERS = durable.Peers(listen="127.0.0.1:0", secret="the secret of sixteen bytes and more")
LIMITS = durable.Limits(lease_s=2.0, commit_s_max=0.5)
TRY_AGAIN_S = 0.05


@pytest.fixture
def cable(url: str) -> Iterator[Cable]:
    with closing(Cable(url.partition("@")[2].partition("/")[0])) as cable:
        yield cable


@pytest.fixture
def url_by_cable(url: str, cable: Cable, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(engine, "READ_S_MAX", 0.5)
    monkeypatch.setattr(leases, "RENEWAL_S_MIN", 0.5)
    return f"postgresql://tests@{cable.address}/{url.rpartition('/')[2]}"


async def increment(runtime: durable.Runtime) -> int:
    """Call until it is carried out."""
    while True:
        try:
            value: int = await runtime.namespace(Counter).get_by_name("a").increment()
            return value
        except durable.DurableError:
            await anyio.sleep(TRY_AGAIN_S)


async def test_calls_fail_while_the_database_says_nothing_and_then_go_on(
    url_by_cable: str, cable: Cable
) -> None:
    """A call that was not confirmed may have been carried out; one that was is not forgotten."""
    async with durable.open(url_by_cable, peers=PEERS, limits=LIMITS) as runtime:
        assert await increment(runtime) == 1
        cable.is_cut = True
        failures = 0
        while failures < 3:
            try:
                await runtime.namespace(Counter).get_by_name("a").increment()
            except durable.DurableError:
                failures += 1
        cable.is_cut = False
        cable.break_()
        after = await increment(runtime)
        assert after in {2, 3}
        assert await increment(runtime) == after + 1


async def test_a_runtime_closes_while_the_database_says_nothing(
    url_by_cable: str, cable: Cable
) -> None:
    async with durable.open(url_by_cable, peers=PEERS, limits=LIMITS) as runtime:
        assert await increment(runtime) == 1
        cable.is_cut = True
        with pytest.raises(durable.DurableError):
            await runtime.namespace(Counter).get_by_name("a").increment()
