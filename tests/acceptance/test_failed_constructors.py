"""An object that cannot be built: every call that waits is told at once, the first one too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import durable


class Fragile(durable.DurableObject):
    """Cannot be built as long as `fails` says how not."""

    fails: str | None = None

    def __init__(self, ctx: durable.State, env: durable.Env) -> None:
        super().__init__(ctx, env)
        match self.fails:
            case "constructor":
                raise LookupError("not today")
            case "abort":
                ctx.abort("not today")
            case "section":
                ctx.block_concurrency_while(self.fail)

    async def fail(self) -> None:
        raise LookupError("not today")

    async def hello(self) -> str:
        return "hello"

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response("hello")


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[durable.Namespace[Fragile]]:
    async with durable.open(tmp_path / "store") as runtime:
        yield runtime.namespace(Fragile)
    Fragile.fails = None


@pytest.mark.parametrize("how", ["constructor", "abort", "section"])
async def test_every_waiting_call_gets_the_error_and_the_next_builds_anew(
    fragile: durable.Namespace[Fragile], how: str
) -> None:
    """Calls of methods and fetches, in whatever order they are awaited."""
    Fragile.fails = how
    stub = fragile.get_by_name("a")
    calls = [stub.hello(), stub.fetch("http://a/"), stub.hello()]
    with anyio.fail_after(5):
        for call in calls:
            with pytest.raises(durable.DurableError, match="not today"):
                await call
        Fragile.fails = None

        assert await fragile.get_by_name("a").hello() == "hello"
