"""P15: a full queue answers ObjectOverloaded at once, in the three texts of the seed."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store

DOORS: dict[str, anyio.Event] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    DOORS.clear()
    DOORS.update(door=anyio.Event())


class Busy(durable.DurableObject):
    async def block(self) -> None:
        async def wait() -> None:
            await DOORS["door"].wait()

        await self.ctx.block_concurrency_while(wait)

    def visit(self) -> str:
        return "visited"

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response(await request.bytes())


async def blocked(store: Store, runtime: durable.Runtime, start: Start[Any]) -> Any:
    stub = runtime.namespace(Busy).get_by_name("a")
    start(stub.block())
    await store.settle()
    return stub


async def test_too_many_requests_queued(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """1,000 of one object; the next one is told at once, those in the queue are served."""
    stub = await blocked(store, runtime, start)
    calls = [stub.visit() for _ in range(1_000)]

    for _ in range(2):
        with pytest.raises(
            durable.ObjectOverloaded,
            match=r"^Durable Object is overloaded\. Too many requests queued\.$",
        ) as caught:
            await stub.visit()
    assert caught.value.overloaded
    assert not caught.value.retryable
    assert not caught.value.reset
    assert caught.value.object_id == str(stub.id)

    DOORS["door"].set()
    assert [await call for call in calls] == ["visited"] * 1_000
    assert await stub.visit() == "visited"


async def test_too_much_data_queued(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """32 MiB of request bodies of one object."""
    stub = await blocked(store, runtime, start)
    body = bytes(8 * 1024 * 1024)
    calls = [start(stub.fetch("https://a/", method="POST", body=body)) for _ in range(4)]
    await store.settle()

    with pytest.raises(
        durable.ObjectOverloaded, match=r"^Durable Object is overloaded\. Too much data queued\.$"
    ):
        await stub.fetch("https://a/", method="POST", body=b"one more")

    DOORS["door"].set()
    for call in calls:
        assert (await call.result()).status == 200


async def test_requests_queued_for_too_long(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """Once the oldest of the queue has waited for 30 s, no more is taken."""
    limits = durable.Limits(queued_s_max=5)
    del runtime
    store = Store(store.folder.with_name("other"), store.clock, store.faults)
    async with store.open(limits=limits) as runtime:
        stub = await blocked(store, runtime, start)
        waiting = start(stub.visit())
        await store.clock.advance(4)
        also = start(stub.visit())
        await store.clock.advance(2)

        with pytest.raises(
            durable.ObjectOverloaded,
            match=r"^Durable Object is overloaded\. Requests queued for too long\.$",
        ):
            await stub.visit()

        DOORS["door"].set()
        assert await waiting.result() == "visited"
        assert await also.result() == "visited"
        assert await stub.visit() == "visited"


async def test_the_queue_of_one_object_is_no_other_s(store: Store, start: Start[Any]) -> None:
    """Others are served as ever."""
    async with store.open(limits=durable.Limits(queued_deliveries_max=1)) as runtime:
        stub = await blocked(store, runtime, start)
        start(stub.visit())
        await store.settle()
        with pytest.raises(durable.ObjectOverloaded):
            await stub.visit()

        assert await runtime.namespace(Busy).get_by_name("b").visit() == "visited"
        DOORS["door"].set()


async def test_a_call_that_need_not_wait_is_not_refused(store: Store) -> None:
    """The limits are of the queue: an object that is free takes any."""
    async with store.open(limits=durable.Limits(queued_bytes_max=10)) as runtime:
        stub = runtime.namespace(Busy).get_by_name("a")
        response = await stub.fetch("https://a/", method="POST", body=bytes(1_000))

        assert len(await response.bytes()) == 1_000
