"""What belongs to a runtime says so in a foreign thread, and the runtime goes on."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

import durable


class Giver(durable.DurableObject):
    async def function(self) -> Callable[[], Any]:
        async def double(x: int) -> int:
            return 2 * x

        return double

    async def items(self) -> AsyncIterator[int]:
        yield 1
        yield 2

    async def fetch(self, request: durable.Request) -> durable.Response:
        client, server = durable.WebSocketPair()
        self.ctx.accept_websocket(server)
        return durable.Response(status=101, websocket=client)

    async def websocket_message(self, ws: durable.WebSocket, message: str | bytes) -> None: ...

    async def ok(self) -> str:
        return "ok"

    async def in_thread(self, what: str) -> str:
        """Use the object's own things in a thread that its code starts."""
        storage, ctx = self.ctx.storage, self.ctx
        storage.put("x", 1)

        async def nothing(*_: object) -> None: ...

        uses: dict[str, Callable[[], Any]] = {
            "get": lambda: storage.get("x"),
            "get many": lambda: storage.get(["x", "y"]),
            "kv": lambda: storage.kv.get("x"),
            "put": lambda: storage.put("x", 2),
            "delete": lambda: storage.delete("x"),
            "delete_all": storage.delete_all,
            "list": storage.list,
            "sync": storage.sync,
            "alarm": storage.get_alarm,
            "set_alarm": lambda: storage.set_alarm(1e12),
            "transaction": lambda: storage.transaction(nothing),
            "section": lambda: ctx.block_concurrency_while(nothing),
            "wait_until": lambda: ctx.wait_until(ctx.confirmed()),
            "confirmed": ctx.confirmed,
            "abort": ctx.abort,
        }
        return await anyio.to_thread.run_sync(told, uses[what])

    async def put_within_the_turn(self) -> str:
        """A thread writes while the turn, which has written, is still under way."""
        self.ctx.storage.put("x", 1)
        heard: list[str] = []
        thread = threading.Thread(
            target=lambda: heard.append(told(lambda: self.ctx.storage.put("x", 2)))
        )
        thread.start()
        thread.join()
        return heard[0]


def told(use: Callable[[], Any]) -> str:
    try:
        return repr(use())
    except BaseException as error:
        return type(error).__name__


@pytest.mark.parametrize("what", ["stub", "function", "stream", "aclose", "send", "close", "fetch"])
async def test_what_an_object_gave_away_is_not_used_in_another_thread(
    runtime: durable.Runtime, what: str
) -> None:
    """It raises WrongLoop there, and works on here."""
    giver = runtime.namespace(Giver).get_by_name("a")
    function = await giver.function()
    stream = giver.items()
    assert await anext(stream) == 1
    socket = (await giver.fetch("http://giver/")).websocket
    assert socket is not None
    socket.accept()
    uses: dict[str, Callable[[], Any]] = {
        "stub": giver.ok,
        "fetch": lambda: giver.fetch("http://giver/"),
        "function": lambda: function(1),
        "stream": lambda: anext(stream),
        "aclose": stream.aclose,
        "send": lambda: socket.send("hello"),
        "close": socket.close,
    }

    assert await anyio.to_thread.run_sync(told, uses[what]) == "WrongLoop"
    assert await giver.ok() == "ok"
    assert await function(2) == 4
    assert await anext(stream) == 2
    socket.close()


async def test_a_thread_does_not_write_into_a_turn_that_has_written(
    runtime: durable.Runtime,
) -> None:
    """The turn's own write is stored as it was."""
    giver = runtime.namespace(Giver).get_by_name("a")

    assert await giver.put_within_the_turn() == "WrongLoop"


OWN = (
    "get,get many,kv,put,delete,delete_all,list,sync,alarm,set_alarm,transaction,section,"
    "wait_until,confirmed,abort"
)


@pytest.mark.parametrize("what", OWN.split(","))
async def test_an_object_uses_its_own_things_in_its_own_thread(
    runtime: durable.Runtime, what: str
) -> None:
    """A thread that its code starts gets WrongLoop, and nothing has happened."""
    giver = runtime.namespace(Giver).get_by_name("a")

    assert await giver.in_thread(what) == "WrongLoop"
    with anyio.fail_after(5):
        assert await giver.ok() == "ok"


async def test_an_answer_is_awaited_on_its_own_loop(runtime: durable.Runtime) -> None:
    """In another loop, of either backend, it raises WrongLoop."""
    section = anyio.Event()

    async def wait() -> None:
        await section.wait()

    class Waits(durable.DurableObject):
        async def wait(self) -> None:
            await wait()

    answer = runtime.namespace(Waits).get_by_name("a").wait()

    async def elsewhere() -> None:
        await answer

    for backend in ("asyncio", "trio"):
        assert (
            await anyio.to_thread.run_sync(
                lambda b=backend: told(lambda: anyio.run(elsewhere, backend=b))
            )
            == "WrongLoop"
        )
    section.set()
    assert await answer is None
