"""The agent's session of the documentation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import durable
from durable import Request
from durable.testing import VirtualClock, abort_all

from .conftest import load

example = load("agent")


class Model:
    """Says the words of what it was asked; waits before the one at *stop*, if it is to."""

    def __init__(self) -> None:
        self.stop: int | None = None
        self.began: list[list[str]] = []

    async def __call__(self, asked: list[str], said: list[str]) -> AsyncIterator[str]:
        self.began.append(said)
        for place, word in enumerate(asked[-1].split()):
            if place == self.stop:
                await anyio.sleep_forever()
            if place >= len(said):
                yield word


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def options(model: Model) -> dict[str, Any]:
    return {"bindings": {"SESSIONS": example.Session}, "vars": {"MODEL": model}}


async def say(runtime: durable.Runtime, text: str) -> int:
    request = Request("https://agent/sessions/s", method="POST", body=text)
    response: durable.Response = await example.fetch(request, runtime.env)
    return response.status


async def follow(runtime: durable.Runtime, count: int, last: str | None = None) -> list[str]:
    """So many events, as they are sent to a browser."""
    headers = {} if last is None else {"last-event-id": last}
    request = Request("https://agent/sessions/s/events", headers=headers)
    response: durable.Response = await example.fetch(request, runtime.env)
    assert response.headers["content-type"] == "text/event-stream"
    found: list[str] = []
    stream: Any = response.stream()
    async for chunk in stream:
        found.append(chunk.decode())
        if len(found) == count:
            break
    await stream.aclose()
    return found


async def test_an_answer_is_streamed_as_server_sent_events(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """Each event has its number."""
    assert await say(runtime, "hello there") == 202
    await clock.advance(0)

    assert await follow(runtime, 4) == [
        'id: 0\ndata: {"user": "hello there"}\n\n',
        'id: 1\ndata: {"word": "hello"}\n\n',
        'id: 2\ndata: {"word": "there"}\n\n',
        'id: 3\ndata: {"done": true}\n\n',
    ]


async def test_who_follows_hears_what_is_yet_to_come(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """The stream stays open between two answers."""
    heard: list[str] = []

    async def listen() -> None:
        heard.extend(await follow(runtime, 6))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        for text in ("one", "two"):
            await anyio.wait_all_tasks_blocked()
            assert await say(runtime, text) == 202
            await clock.advance(0)
    assert [line.split("data: ")[1].strip() for line in heard[3:5]] == [
        '{"user": "two"}',
        '{"word": "two"}',
    ]


async def test_a_browser_that_comes_back_goes_on_where_it_was(
    runtime: durable.Runtime, clock: VirtualClock
) -> None:
    """By the number of the last event that it has seen."""
    await say(runtime, "a b")
    await clock.advance(0)

    assert await follow(runtime, 1, last="2") == ['id: 3\ndata: {"done": true}\n\n']


async def test_an_answer_that_was_begun_is_finished(
    runtime: durable.Runtime, clock: VirtualClock, model: Model
) -> None:
    """Behind the words that were stored, after a reset in its middle."""
    model.stop = 2
    await say(runtime, "a b c d")
    await anyio.wait_all_tasks_blocked()
    assert await say(runtime, "more") == 409
    model.stop = None
    await abort_all(runtime)
    await clock.advance(10)

    assert model.began == [[], ["a", "b"]]
    words = "".join(await follow(runtime, 6))
    assert [words.count(f'"word": "{word}"') for word in "abcd"] == [1, 1, 1, 1]
