"""The job queue of the documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import Request
from durable.testing import VirtualClock
from durable.testing import open as open_for_test

from .conftest import load

example = load("job_queue")


@pytest.fixture
def options() -> dict[str, Any]:
    return {"bindings": {"QUEUES": example.Queue}}


async def ask(
    runtime: durable.Runtime, method: str, path: str, work: Any = None, **headers: str
) -> tuple[int, Any]:
    body = None if work is None else json.dumps(work)
    request = Request(f"https://jobs{path}", method=method, body=body, headers=headers)
    response: durable.Response = await example.fetch(request, runtime.env)
    text = await response.text()
    return response.status, json.loads(text) if text.startswith("{") else text


async def test_a_job_is_taken_by_one_worker_and_done(runtime: durable.Runtime) -> None:
    """In the order in which they were added."""
    for work in ("a", "b"):
        await ask(runtime, "POST", "/queues/q", work)

    _, first = await ask(runtime, "POST", "/queues/q/take")
    _, second = await ask(runtime, "POST", "/queues/q/take")
    assert (first["work"], second["work"]) == ("a", "b")
    assert await ask(runtime, "POST", "/queues/q/take") == (204, "")
    assert (await ask(runtime, "DELETE", f"/queues/q/jobs/{first['id']}"))[0] == 204
    assert (await ask(runtime, "DELETE", f"/queues/q/jobs/{first['id']}"))[0] == 404


async def test_a_job_that_is_not_done_in_time_is_given_to_another(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """A worker that dies needs no watching."""
    await ask(runtime, "POST", "/queues/q", "a")
    await ask(runtime, "POST", "/queues/q/take")
    await clock.advance(29.0)
    assert (await ask(runtime, "POST", "/queues/q/take"))[0] == 204

    await clock.advance(1.0)
    _, job = await ask(runtime, "POST", "/queues/q/take")
    assert (job["work"], job["tries"]) == ("a", 2)


async def test_a_job_that_was_tried_too_often_is_put_aside(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """And is in nobody's way."""
    await ask(runtime, "POST", "/queues/q", "a")
    for _ in range(5):
        await ask(runtime, "POST", "/queues/q/take")
        await clock.advance(30.0)
    await ask(runtime, "POST", "/queues/q", "b")

    _, job = await ask(runtime, "POST", "/queues/q/take")
    assert job["work"] == "b"
    assert await ask(runtime, "GET", "/queues/q/failed") == (200, {"000000000001": "a"})


async def test_adding_again_with_the_same_key_adds_nothing(runtime: durable.Runtime) -> None:
    """A client that lost the answer may ask once more."""
    again = {"idempotency-key": "order 17"}
    first = await ask(runtime, "POST", "/queues/q", "a", **again)
    assert await ask(runtime, "POST", "/queues/q", "a", **again) == first

    await ask(runtime, "POST", "/queues/q/take")
    assert (await ask(runtime, "POST", "/queues/q/take"))[0] == 204


async def test_a_delayed_job_waits(runtime: durable.Runtime, clock: VirtualClock) -> None:
    """Those that were added later pass it."""
    queue = runtime.env.QUEUES.get_by_name("q")
    await queue.add("later", 60.0)
    await queue.add("now")

    job = await queue.take()
    assert job["work"] == "now"
    await queue.done(job["id"])
    await clock.advance(60.0)
    assert (await queue.take())["work"] == "later"


async def test_jobs_outlive_the_program(tmp_path: Path, options: dict[str, Any]) -> None:
    """What was added is there when the store is opened again."""
    for is_first in (True, False):
        async with open_for_test(tmp_path, **options) as runtime:
            queue = runtime.env.QUEUES.get_by_name("q")
            if is_first:
                await queue.add("a")
            else:
                assert (await queue.take())["work"] == "a"
