"""An application where no lifespan reaches it, as the contract (section 5) has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

import durable
import durable.asgi
from durable import Request, Response


class Counter(durable.DurableObject):
    async def fetch(self, request: Request) -> Response:
        return Response(str(await self.count()))

    async def count(self) -> int:
        value: int = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value


async def fetch(request: Request, env: Any) -> Response:
    answer: Response = await env.C.get_by_name(request.url.path).fetch(request)
    return answer


async def test_first_requests_that_come_together_open_one_store(tmp_path: Path) -> None:
    app = durable.asgi.app(fetch, tmp_path, bindings={"C": Counter})
    answers: list[int] = []
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://site") as client:

        async def visit() -> None:
            answers.append(int((await client.get("/a")).text))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(visit)
    await app.aclose()

    assert sorted(answers) == list(range(1, 11))
    async with durable.open(tmp_path, bindings={"C": Counter}) as runtime:
        assert await runtime.env.C.get_by_name("/a").count() == 11


async def test_an_application_has_a_store_to_open_or_one_that_is_open(tmp_path: Path) -> None:
    async with durable.open(tmp_path, bindings={"C": Counter}) as runtime:
        app = durable.asgi.app(fetch, runtime=runtime)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://site") as client:
            assert (await client.get("/a")).text == "1"

        with pytest.raises((TypeError, ValueError)):
            durable.asgi.app(fetch)
        with pytest.raises((TypeError, ValueError)):
            durable.asgi.app(fetch, tmp_path, runtime=runtime)
        with pytest.raises((TypeError, ValueError)):
            durable.asgi.app(fetch, runtime=runtime, bindings={"C": Counter})
