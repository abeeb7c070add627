"""What belongs to a runtime says so in another event loop of the same thread."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import durable

Run = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


async def nothing(*_: object) -> None: ...


class Leaks(durable.DurableObject):
    async def leak(self) -> None:
        self.ctx.storage.put("x", 1)
        Leaks.last = self

    async def alarm(self) -> None: ...

    async def ok(self) -> str:
        return "ok"

    last: Leaks


USES: dict[str, Callable[[Leaks, Any], Any]] = {
    "put": lambda leaked, _: leaked.ctx.storage.put("x", 2),
    "delete": lambda leaked, _: leaked.ctx.storage.delete("x"),
    "delete_all": lambda leaked, _: leaked.ctx.storage.delete_all(),
    "set_alarm": lambda leaked, _: leaked.ctx.storage.set_alarm(10**9),
    "sync": lambda leaked, _: leaked.ctx.storage.sync(),
    "transaction": lambda leaked, _: leaked.ctx.storage.transaction(nothing),
    "section": lambda leaked, _: leaked.ctx.block_concurrency_while(nothing),
    "wait_until": lambda leaked, _: leaked.ctx.wait_until(asyncio.Event().wait()),
    "confirmed": lambda leaked, _: leaked.ctx.confirmed(),
    "accept_websocket": lambda leaked, _: leaked.ctx.accept_websocket(durable.WebSocketPair()[0]),
    "auto_response": lambda leaked, _: leaked.ctx.set_websocket_auto_response("a", "b"),
    "abort": lambda leaked, _: leaked.ctx.abort(),
    "call": lambda _, leaks: leaks.get_by_name("a").ok(),
    "fetch": lambda _, leaks: leaks.get_by_name("a").fetch("http://a/"),
    "objects": lambda _, leaks: anext(leaks.objects()),
}


def told(use: Callable[[], Any], run: Run) -> str:
    """What *use* raises when it is run, and awaited, in a loop of its own."""

    async def main() -> str:
        try:
            found = use()
            if inspect.isawaitable(found):
                await found
        except BaseException as error:
            return type(error).__name__
        return "nothing"

    return run(main)  # type: ignore[no-any-return]


def run_asyncio(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[asyncio.AbstractEventLoop, durable.Runtime]]:
    """A loop that does not run now, and the runtime that it has opened."""
    loop = asyncio.new_event_loop()
    store = durable.open(tmp_path / "store", bindings={"LEAKS": Leaks})
    runtime = loop.run_until_complete(store.__aenter__())
    loop.run_until_complete(_await(runtime.env.LEAKS.get_by_name("a").leak))
    yield loop, runtime
    assert loop.run_until_complete(_await(runtime.env.LEAKS.get_by_name("a").ok)) == "ok"
    loop.run_until_complete(store.__aexit__(None, None, None))
    loop.close()


async def _await(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


@pytest.mark.parametrize("run", [run_asyncio, trio.run], ids=["asyncio", "trio"])
@pytest.mark.parametrize("what", USES)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_another_loop_of_the_thread_is_refused(
    opened: tuple[asyncio.AbstractEventLoop, durable.Runtime],
    what: str,
    run: Run,
) -> None:
    """By all that changes something or waits; the runtime's own loop goes on afterwards."""
    _, runtime = opened

    assert told(lambda: USES[what](Leaks.last, runtime.env.LEAKS), run) == "WrongLoop"


@pytest.mark.parametrize("what", ["call", "section", "transaction", "sync"])
@pytest.mark.backends("asyncio", "trio")
async def test_an_answer_is_not_awaited_in_a_loop_inside_of_its_own(
    tmp_path: Path, what: str, anyio_backend: tuple[str, dict[str, Any]]
) -> None:
    """The other backend's loop, which blocks this one while it runs."""
    run = run_asyncio if anyio_backend[0] == "trio" else trio.run
    async with durable.open(tmp_path / "store", bindings={"LEAKS": Leaks}) as runtime:
        leaks = runtime.env.LEAKS.get_by_name("a")

        class Nests(Leaks):
            async def nest_in(self) -> str:
                await self.ctx.storage.put("x", 1)
                self.ctx.storage.put("x", 2)
                return told(lambda: USES[what](self, self.env.LEAKS), run)

        nests = runtime.namespace(Nests).get_by_name("a")
        assert await nests.nest_in() == "WrongLoop"
        assert await leaks.ok() == "ok"
