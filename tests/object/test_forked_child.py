"""In a child that was forked while a store is open, all of it refuses; the parent is none the
worse."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import durable

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]


def in_child(body: Callable[[], Any]) -> str:
    """What *body* returns in a forked child, or the name of what it raises."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:  # pragma: no cover - coverage is not written there
        try:
            said = told(body)
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def told(use: Callable[[], Any]) -> str:
    try:
        return repr(use())
    except BaseException as error:
        return type(error).__name__


async def nothing(*_: object) -> None: ...


class Forks(durable.DurableObject):
    async def alarm(self) -> None: ...

    async def fork(self, what: str) -> str:
        """Use the object's own things in a forked child."""
        ctx, storage = self.ctx, self.ctx.storage
        await storage.put("x", 1)
        await ctx.confirmed()  # so that a write is the first one of its turn, or of none
        others = self.env.FORKS
        other = others.get_by_name("b")
        near, far = durable.WebSocketPair()
        near.accept()
        far.accept()
        reader = aiter(near)
        uses: dict[str, Callable[[], Any]] = {
            "get": lambda: storage.get("x"),
            "get missing": lambda: storage.get("y"),
            "get many": lambda: storage.get(["x", "y"]),
            "put": lambda: storage.put("x", 2),
            "update": lambda: storage.update("x", lambda x: x),
            "delete": lambda: storage.delete("x"),
            "delete_all": storage.delete_all,
            "list": storage.list,
            "count": storage.count,
            "sync": storage.sync,
            "get_alarm": storage.get_alarm,
            "set_alarm": lambda: storage.set_alarm(1e12),
            "delete_alarm": storage.delete_alarm,
            "kv get": lambda: storage.kv.get("x"),
            "kv put": lambda: storage.kv.put("x", 2),
            "kv list": storage.kv.list,
            "transaction": lambda: storage.transaction(nothing),
            "section": lambda: ctx.block_concurrency_while(nothing),
            "wait_until": lambda: ctx.wait_until(nothing()),
            "confirmed": ctx.confirmed,
            "abort": ctx.abort,
            "auto_response": lambda: ctx.set_websocket_auto_response("a", "b"),
            "accept_websocket": lambda: ctx.accept_websocket(durable.WebSocketPair()[0]),
            "socket send": lambda: near.send("hello"),
            "socket close": near.close,
            "socket accept": near.accept,
            "socket aiter": lambda: aiter(near),
            "socket read": lambda: anext(reader),
            "stub": lambda: others.get_by_name("c"),
            "stub by id": lambda: others.get(other.id),
            "call": lambda: other.fork("get"),
            "fetch": lambda: other.fetch("http://b/"),
            "objects": lambda: anext(others.objects()).send(None),
            "delete object": lambda: others.delete(other.id),
        }
        return in_child(uses[what])

    async def value(self) -> Any:
        return await self.ctx.storage.get("x")


USES = (
    "get,get missing,get many,put,update,delete,delete_all,list,count,sync,get_alarm,set_alarm,"
    "delete_alarm,kv get,kv put,kv list,transaction,section,wait_until,confirmed,abort,"
    "auto_response,accept_websocket,socket send,socket close,socket accept,socket aiter,"
    "socket read,stub,stub by id,call,fetch,objects,delete object"
)


@pytest.fixture
def store(tmp_path: Path) -> durable.open:
    return durable.open(tmp_path / "store", bindings={"FORKS": Forks}, operate=True)


@pytest.mark.backends("asyncio", "trio")
@pytest.mark.parametrize("what", USES.split(","))
async def test_what_an_object_has_refuses_in_a_forked_child(store: durable.open, what: str) -> None:
    """At the call; the parent goes on."""
    async with store as runtime:
        forks = runtime.env.FORKS.get_by_name("a")

        assert await forks.fork(what) == "WrongLoop"
        assert await forks.value() == 1


@pytest.mark.backends("asyncio", "trio")
async def test_a_socket_of_the_parent_refuses_in_the_child_of_a_child(store: durable.open) -> None:
    """It is no number of threads that could come again."""
    async with store:
        socket, _ = durable.WebSocketPair()

        def twice() -> str:
            return in_child(lambda: socket.send("hello"))

        assert in_child(twice) == repr("WrongLoop")


@pytest.mark.backends("asyncio", "trio")
async def test_a_child_that_leaves_the_body_closes_nothing_of_its_parent(
    store: durable.open, tmp_path: Path
) -> None:
    """Not the control socket either, which is a file that both see."""
    runtime = await store.__aenter__()
    forks = runtime.env.FORKS.get_by_name("a")
    await forks.fork("get")
    before = sorted(each.name for each in (tmp_path / "store").iterdir())
    assert "operate" in before

    def leave() -> Any:
        store.__aexit__(None, None, None).send(None)

    assert in_child(leave) == "StopIteration"
    assert sorted(each.name for each in (tmp_path / "store").iterdir()) == before
    assert await forks.value() == 1
    await store.__aexit__(None, None, None)


@pytest.mark.backends("asyncio", "trio")
async def test_a_child_uses_sockets_of_its_own(store: durable.open) -> None:
    """What is made there belongs there."""
    async with store:

        def talk() -> int:
            near, far = durable.WebSocketPair()
            near.accept()
            far.accept()
            near.send("hello")
            return far.ready_state

        assert in_child(talk) == "1"
