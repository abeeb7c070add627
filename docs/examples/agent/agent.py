"""An agent's session: what was said, and an answer that is streamed while it is made.

A session is an object. It answers in its alarm, which is run again after a crash; browsers follow
by server-sent events, and go on where they were when the connection is lost.

    uvicorn agent:app
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio

import durable
import durable.asgi
from durable import Request, Response


class Session(durable.DurableObject):
    """One conversation."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        # Set, and replaced, when there is something new. Those who follow keep the session awake.
        self.news = anyio.Event()

    async def say(self, text: str) -> bool:
        """Add what the user says; the answer comes as events. False while one is being made."""
        last = await self.ctx.storage.list(prefix="event ", reverse=True, limit=1)
        if any("done" not in event for event in last.values()):
            return False
        await self.add({"user": text})
        self.ctx.storage.set_alarm(timedelta())
        return True

    async def alarm(self) -> None:
        """Answer. After a crash it is run again, and goes on behind the words that are stored."""
        events = list((await self.ctx.storage.list(prefix="event ")).values())
        asked = [event["user"] for event in events if "user" in event]
        start = max(place for place, event in enumerate(events) if "user" in event)
        said = [event["word"] for event in events[start + 1 :] if "word" in event]
        async for word in self.env.MODEL(asked, said):
            await self.add({"word": word})
        await self.add({"done": True})

    async def add(self, event: dict[str, Any]) -> None:
        number = await self.ctx.storage.get("events", 0)
        self.ctx.storage.put({"events": number + 1, f"event {number:08}": event})
        self.news.set()
        self.news = anyio.Event()

    async def follow(self, number: int) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """Events from *number* on, those that are there and those to come. Does not end."""
        while True:
            news = self.news
            start = f"event {number:08}"
            for event in (await self.ctx.storage.list(prefix="event ", start=start)).values():
                yield number, event
                number += 1
            await news.wait()


async def model(asked: list[str], said: list[str]) -> AsyncIterator[str]:
    """Stands for a language model: repeats what it gets, a word at a time.

    *asked*: all that the user said; *said*: what the answer begins with.
    """
    for word in asked[-1].split()[len(said) :]:
        await anyio.sleep(0.2)
        yield word


async def fetch(request: Request, env: Any) -> Response:
    match request.method, request.url.path.split("/")[1:]:
        case "POST", ["sessions", name]:
            was_added = await env.SESSIONS.get_by_name(name).say(await request.text())
            return Response(status=202 if was_added else 409)
        case "GET", ["sessions", name, "events"]:
            last = request.headers.get("last-event-id")
            session = env.SESSIONS.get_by_name(name)
            events = session.follow(0 if last is None else int(last) + 1)
            headers = {"content-type": "text/event-stream", "cache-control": "no-store"}
            return Response(as_server_sent(events), headers=headers)
        case _:
            return Response("not found", status=404)


async def as_server_sent(events: Any) -> AsyncIterator[bytes]:
    async for number, event in events:
        yield f"id: {number}\ndata: {json.dumps(event)}\n\n".encode()


app = durable.asgi.app(
    fetch,
    os.environ.get("STORE", "sessions"),
    bindings={"SESSIONS": Session},
    vars={"MODEL": model},
)
