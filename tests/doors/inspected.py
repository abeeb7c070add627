"""What the tests of the inspector share: its application asked without a server, and a program with
`durable inspect` beside it for a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio

import durable
from durable import inspector

from .browser import Page

ROOT = Path(__file__).parents[2]
TOKEN = "a token of the tests"
HOSTILE = "<img src=x onerror=document.title='hacked'>"


class Counter(durable.DurableObject):
    made = 0

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        type(self).made += 1

    async def keep(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def remind(self, days: int) -> None:
        self.ctx.storage.set_alarm(timedelta(days=days))

    async def alarm(self) -> None: ...

    async def table(self) -> None:
        self.ctx.storage.sql.exec("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, NULL)")

    async def wait(self) -> None:
        await anyio.sleep_forever()

    async def accept(self, tags: list[str]) -> durable.WebSocket:
        client, server = durable.WebSocketPair()
        self.ctx.accept_websocket(server, tags)
        return client


class Answer:
    """What the application has sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def take(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message["body"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(path: str, asked: dict[str, str], **given: Any) -> dict[str, Any]:
    headers = {"host": "127.0.0.1:8000", "authorization": f"Bearer {TOKEN}"}
    headers |= given.pop("headers", {})
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": urlencode(asked).encode(),
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        **given,
    }


async def never() -> Any:
    await anyio.sleep_forever()


async def post(app: inspector.Inspector, members: Any, **headers: str) -> Answer:
    """Ask for a change, as the page does."""
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    answer = Answer()

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    given = {"content-type": "application/json", "origin": "http://127.0.0.1:8000", **headers}
    scope = scope_of("/api/change", {}, method="POST", headers=given)
    await app(scope, receive, answer.take)
    return answer


async def get(app: inspector.Inspector, path: str, given: Any = None, **asked: str) -> Answer:
    answer = Answer()
    await app(scope_of(path, asked, **(given or {})), never, answer.take)
    return answer


@asynccontextmanager
async def stream(app: inspector.Inspector, path: str) -> AsyncIterator[Any]:
    """What is said, one thing after the other, as long as the block lasts."""
    sender, receiver = anyio.create_memory_object_stream[Any](100)
    left = anyio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body", b"").startswith(b"data: "):
            await sender.send(json.loads(message["body"][6:]))

    async with anyio.create_task_group() as group:
        group.start_soon(app, scope_of(path, {}), receive, send)
        try:
            yield receiver
        finally:
            left.set()
    sender.close()
    receiver.close()


PROGRAM = """
import random, sys
import anyio, durable
sys.path.insert(0, sys.argv[2])
from tests.doors.inspected import HOSTILE, Counter

async def main():
    async with durable.open(sys.argv[1], bindings={"C": Counter}, operate=True) as runtime:
        counters = runtime.env.C
        for number in range(300):
            await counters.get_by_name(f"page {number:03}").keep("value", number)
        hostile = counters.get_by_name(HOSTILE)
        key = "<script>document.title = 'hacked'</script>"
        await hostile.keep(key, {"nested": [1, {"a": None}]})
        for number, days in enumerate((1, 30, 300)):
            await counters.get_by_name(f"page {number:03}").remind(days)
        await counters.get_by_name("shop").table()
        print("ready", flush=True)
        while True:
            page = counters.get_by_name(f"page {random.randrange(20):03}")
            await page.keep("value", random.random())
            await anyio.sleep(0.02)

anyio.run(main)
"""


@contextmanager
def inspecting(store: Path | str, *options: str, program: str | None = PROGRAM) -> Iterator[str]:
    """The address of `durable inspect` for a folder or a URL, beside a program that has the store
    open."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> bytes:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline()

    try:
        if program is not None:
            assert start("-c", program, str(store), str(ROOT)) == b"ready\n"
        said = start("-m", "durable", "inspect", str(store), "--no-browser", *options)
        yield said.decode().split(": ", 1)[1].strip()
    finally:
        for process in reversed(started):
            process.kill()
            process.communicate()


def go(page: Page, place: str, until: str) -> None:
    page.evaluate(f"location.hash = {json.dumps(place)}")
    page.wait(until)


def keep_picture(page: Page, name: str) -> None:
    if os.environ.get("DURABLE_PICTURES"):
        size = {"width": 900, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        page.command("Emulation.setDeviceMetricsOverride", **size)
        (ROOT / "docs/images" / f"{name}.png").write_bytes(page.screenshot())


# What the browser wants to know of a key that is no letter.
KEYS = {
    "Tab": {"windowsVirtualKeyCode": 9},
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    "Escape": {"windowsVirtualKeyCode": 27},
}


def press(page: Page, key: str) -> None:
    """Press a key and let it go: a letter, or one of `KEYS`."""
    down = KEYS.get(key, {"text": key})
    page.command("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **down)
    page.command("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)
