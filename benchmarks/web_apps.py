"""The counters that `web.py` has served: ours, a dict in memory, and sqlite3."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import durable
import durable.asgi

FOLDER = os.environ.get("BENCH_FOLDER", ".")


class Counter(durable.DurableObject):
    async def increment(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value


async def fetch(request: durable.Request, env: Any) -> durable.Response:
    return durable.Response(str(await env.COUNTERS.get_by_name(request.url.path).increment()))


ours = durable.asgi.app(fetch, os.path.join(FOLDER, "ours"), bindings={"COUNTERS": Counter})

counts: dict[str, int] = {}


async def count_in_dict(request: StarletteRequest) -> PlainTextResponse:
    path = request.url.path
    counts[path] = counts.get(path, 0) + 1
    return PlainTextResponse(str(counts[path]))


in_dict = Starlette(routes=[Route("/{name}", count_in_dict)])


class Sqlite:
    """One connection, each increment a transaction that is on disk when it is answered."""

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None

    def open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(os.path.join(FOLDER, "counts.db"), isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS counts (name PRIMARY KEY, value)")
        return connection

    async def count(self, request: StarletteRequest) -> PlainTextResponse:
        if self.connection is None:
            self.connection = self.open()
        rows = self.connection.execute(
            "INSERT INTO counts VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 "
            "RETURNING value",
            (request.url.path,),
        ).fetchall()
        return PlainTextResponse(str(rows[0][0]))


in_sqlite = Starlette(routes=[Route("/{name}", Sqlite().count)])
