"""`--reload` of servers: new code is used, and the store goes on to the new process."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from .servers import COMMANDS, Server, serving

COMMANDS["uvicorn-reload"] = [*COMMANDS["uvicorn"], "--reload"]
COMMANDS["hypercorn-reload"] = [*COMMANDS["hypercorn"], "--reload"]
WAIT_S_MAX = 40.0

SHOP = """
import os
import durable
import durable.asgi

class Counter(durable.DurableObject):
    async def fetch(self, request):
        value = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return durable.Response(f"{greeting} {{value}}")

async def fetch(request, env):
    return await env.COUNTERS.get_by_name("a").fetch(request)

app = durable.asgi.app(
    fetch, os.environ["STORE"], shared={shared}, bindings={{"COUNTERS": Counter}}
)
"""


def write(folder: Path, greeting: str, *, shared: bool) -> None:
    (folder / "shop.py").write_text(SHOP.format(greeting=greeting, shared=shared))


def ask(server: Server) -> tuple[str, int]:
    """What it says, and the number that its object has counted up to."""
    greeting, value = httpx.get(server.url, timeout=20).text.split()
    return greeting, int(value)


def wait_greeting(server: Server, greeting: str) -> int:
    end_s = time.monotonic() + WAIT_S_MAX
    while True:
        try:
            said, value = ask(server)
        except (httpx.HTTPError, ValueError):  # between the old process and the new one
            said, value = "", 0
        if said == greeting:
            return value
        assert time.monotonic() < end_s, f"no {greeting!r}, but:\n{server.log.read_text()}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("uvicorn-reload", True),
        ("uvicorn-reload", False),
        ("hypercorn-reload", True),
    ],
)
def test_new_code_has_the_store_of_the_old_one(tmp_path: Path, name: str, shared: bool) -> None:
    """Twice; nothing that was answered is lost."""
    pytest.importorskip("watchfiles")
    write(tmp_path, "one", shared=shared)
    with serving(name, "shop:app", tmp_path / "served", where=tmp_path) as server:
        counted = ask(server)[1]
        for greeting in ("two", "three"):
            write(tmp_path, greeting, shared=shared)
            value = wait_greeting(server, greeting)
            assert value > counted
            counted = value
