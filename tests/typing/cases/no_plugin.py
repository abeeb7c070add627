"""What type checkers say with no plugin, of a program that runs."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from typing import reveal_type

import anyio

import durable


class Env(durable.Env):
    COUNTERS: durable.Namespace[Counter]
    LIMIT: int


class Counter(durable.DurableObject):
    env: Env

    def __init__(self, ctx: durable.State, env: Env) -> None:
        super().__init__(ctx, env)

    async def increment(self, by: int = 1) -> int:
        value = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", min(value, self.env.LIMIT))
        return value

    def peek(self) -> int:
        return self.ctx.storage.kv.get("value", 0)

    async def ticks(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def time(self) -> datetime:
        return self.ctx.now()

    async def friend(self) -> int:
        return await self.env.COUNTERS.get_by_name("friend").rpc.increment()


def storage_has_types(ctx: durable.State) -> None:
    storage, kv = ctx.storage, ctx.storage.kv
    numbers: list[int] = [1]
    maybe: int | None = 1 if numbers else None
    reveal_type(storage.get("a", 0))  # N: "Answer[int]"
    reveal_type(storage.get("a", ""))  # N: "Answer[str]"
    reveal_type(storage.get("a", numbers))  # N: "Answer[list[int]]"
    reveal_type(storage.get("a", False))  # N: "Answer[bool]"
    reveal_type(storage.get("a", maybe))  # N: "Answer[int
    reveal_type(storage.get("a"))  # N: "Answer[Any]"
    reveal_type(storage.get("a", None))  # N: "Answer[Any]"
    reveal_type(storage.get("a", []))  # N: "Answer[Any]"
    reveal_type(storage.get("a", {}))  # N: "Answer[Any]"
    reveal_type(storage.get("a", set()))  # N: "Answer[Any]"
    reveal_type(storage.get(["a"]))  # N: "Answer[dict[str, Any]]"
    reveal_type(kv.get("a", 0))  # N: "int"
    reveal_type(kv.get("a"))  # N: "Any"
    reveal_type(kv.get(["a"]))  # N: "dict[str, Any]"
    reveal_type(storage.list())  # N: "Answer[dict[str, Any]]"
    reveal_type(storage.list(keys_only=True))  # N: "Answer[list[str]]"
    reveal_type(kv.list(keys_only=True))  # N: "list[str]"
    reveal_type(kv.update("a", lambda n: n + 1, 0))  # N: "int"
    reveal_type(storage.update("a", lambda n: n + 1, 0))  # N: "Answer[int]"


async def calls(runtime: durable.Runtime) -> None:
    env: Env = runtime.env
    reveal_type(env.COUNTERS)  # N: "Namespace[Counter]"
    reveal_type(runtime.namespace(Counter))  # N: "Namespace[Counter]"
    stub = env.COUNTERS.get_by_name("a")
    reveal_type(await stub.rpc.increment(5))  # N: "int"
    reveal_type([tick async for tick in stub.rpc.ticks(3)])  # N: "list[int]"
    reveal_type(await stub.rpc.friend())  # N: "int"
    reveal_type(await stub.call(Counter.increment, 5))  # N: "int"
    reveal_type(await stub.call(Counter.increment, by=5))  # N: "int"
    reveal_type(await stub.call(Counter.peek))  # N: "int"
    reveal_type(await stub.call(Counter.increment, 5, once="a key"))  # N: "int"
    reveal_type(await stub.call(Counter.peek, once=None))  # N: "int"
    reveal_type(await stub.call(Counter.time))  # N: "datetime"
    reveal_type([tick async for tick in stub.call(Counter.ticks, 3)])  # N: "list[int]"
    reveal_type(await durable.retry(lambda stub: stub.rpc.increment(), stub))  # N: "int"
    reveal_type(await env.COUNTERS.delete(stub.id))  # N: "None"
    await stub.increment(5)  # the attribute: any call is accepted


async def refused(stub: durable.Stub[Counter]) -> None:
    await stub.rpc.increment("5")  # E
    await stub.rpc.incremnt()  # E
    await stub.rpc.peek()  # E
    await stub.call(Counter.increment, "5")  # E
    await stub.call(Counter.peek, 1)  # E
    await stub.call(Counter.peek, once=1)  # E
    await stub.call(Counter.ticks, 3)  # E


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bindings = {"COUNTERS": Counter}
        async with durable.open(folder, bindings=bindings, vars={"LIMIT": 1_000}) as runtime:
            await calls(runtime)


if __name__ == "__main__":
    anyio.run(main)
