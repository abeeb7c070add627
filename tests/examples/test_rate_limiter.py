"""The rate limiter of the documentation."""

from __future__ import annotations

from typing import Any

import pytest

import durable
from durable import Request
from durable.testing import VirtualClock

from .conftest import load

example = load("rate_limiter")


@pytest.fixture
def options() -> dict[str, Any]:
    return {"bindings": {"BUCKETS": example.Bucket}}


async def ask(runtime: durable.Runtime, key: str) -> durable.Response:
    request = Request("https://api/", headers={"x-api-key": key})
    response: durable.Response = await example.fetch(request, runtime.env)
    return response


async def test_a_burst_is_let_through_and_then_so_many_each_second(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Who must wait is told how long."""
    statuses = [(await ask(runtime, "ann")).status for _ in range(12)]
    assert statuses == [200] * 10 + [429] * 2
    assert (await ask(runtime, "ann")).headers["retry-after"] == "1"

    await clock.advance(1.0)
    assert [(await ask(runtime, "ann")).status for _ in range(3)] == [200, 200, 429]


async def test_each_key_has_a_bucket_of_its_own(runtime: durable.Runtime) -> None:
    """And who has no key gets nothing."""
    for _ in range(10):
        await ask(runtime, "ann")

    assert (await ask(runtime, "bob")).status == 200
    assert (await example.fetch(Request("https://api/"), runtime.env)).status == 401


async def test_a_bucket_that_is_full_again_is_forgotten(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Keys that are used no more take no room."""
    for _ in range(10):
        await ask(runtime, "ann")
    await clock.advance(4.9)
    assert [stored.name async for stored in runtime.env.BUCKETS.objects()] == ["ann"]

    await clock.advance(0.2)
    assert [stored async for stored in runtime.env.BUCKETS.objects()] == []
