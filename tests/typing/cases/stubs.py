"""What a type checker with the plugin says of calls through stubs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cached_property
from typing import Any, Generic, ParamSpec, TypeVar, overload, reveal_type

import durable

T = TypeVar("T")
P = ParamSpec("P")
Object = TypeVar("Object", bound="Base")


def retried(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    return method


class Base(durable.DurableObject):
    async def inherited(self, items: list[str]) -> int:
        return len(items)


class Counter(Base):
    step: int = 1

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.loaded = True

    async def fetch(self, request: durable.Request) -> durable.Response:
        return durable.Response("1")

    async def alarm(self) -> None: ...

    async def increment(self, by: int = 1, *, note: str | None = None) -> int:
        return by

    def plain(self) -> list[int]:
        return [1]

    def soon(self) -> Awaitable[str]:
        raise NotImplementedError

    def put_it(self) -> durable.Answer[None]:
        return self.ctx.storage.put("a", 1)

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    @staticmethod
    async def version() -> str:
        return "1"

    @classmethod
    def named(cls, name: str) -> bytes:
        return name.encode()

    @overload
    async def pick(self, key: str) -> str: ...
    @overload
    async def pick(self, key: int) -> int: ...
    async def pick(self, key: str | int) -> str | int:
        return key

    @property
    def size(self) -> int:
        return 1

    @cached_property
    def table(self) -> list[int]:
        return []

    @retried
    async def stubborn(self, times: int) -> str:
        return "done"

    def untyped(self, a, b=1):  # type: ignore[no-untyped-def]
        return a

    again = increment

    async def _secret(self) -> None: ...


class Box(durable.DurableObject, Generic[T]):
    async def take(self) -> T:
        raise NotImplementedError

    async def give(self, thing: T) -> None: ...


async def accepted(stub: durable.Stub[Counter], box: durable.Stub[Box[str]]) -> None:
    reveal_type(stub.increment)  # N: "def (by: int =, *, note: str | None =) -> Answer[int]"
    reveal_type(await stub.increment(5))  # N: "int"
    reveal_type(await stub.increment(by=5, note="five"))  # N: "int"
    reveal_type(await stub.plain())  # N: "list[int]"
    reveal_type(await stub.soon())  # N: "str"
    reveal_type(await stub.put_it())  # N: "None"
    reveal_type(stub.count(3))  # N: "Stream[int]"
    reveal_type([number async for number in stub.count(3)])  # N: "list[int]"
    reveal_type(await stub.version())  # N: "str"
    reveal_type(await stub.named("a"))  # N: "bytes"
    reveal_type(await stub.inherited(["a"]))  # N: "int"
    reveal_type(await stub.pick(1))  # N: "int"
    reveal_type(await stub.pick("a"))  # N: "str"
    reveal_type(await stub.stubborn(3))  # N: "str"
    reveal_type(await stub.again(2))  # N: "int"
    reveal_type(await stub.fetch("https://counter/"))  # N: "Response"
    reveal_type(stub.id)  # N: "ObjectId"
    reveal_type(stub.name)  # N: "str | None"
    reveal_type(await box.take())  # N: "str"
    await box.give("a")


async def refused(stub: durable.Stub[Counter], box: durable.Stub[Box[str]]) -> None:
    stub.increment("5")  # E: Argument 1 to "increment" of "Counter" has incompatible type "str"
    stub.increment(1, 2)  # E: Too many positional arguments for "increment" of "Counter"
    stub.increment(to=1)  # E: Unexpected keyword argument "to" for "increment" of "Counter"
    stub.inherited([1])  # E: List item 0 has incompatible type "int"
    stub.decrement()  # E: "Stub[Counter]" has no method "decrement": Counter does not define it
    stub._secret()  # E: names with a leading underscore are not called through a stub
    stub.alarm()  # E: the handlers are called by the runtime, not through a stub
    stub.size  # E: Counter.size is no method of the author's
    stub.table  # E: Counter.table is no method of the author's
    stub.stubborn("3")  # E: Argument 1 to "stubborn" of "Counter" has incompatible type "str"
    stub.untyped(1)  # E: Call to untyped function "untyped" in typed context
    stub.step  # E: Counter.step is no method of the author's
    stub.loaded  # E: Counter.loaded is no method of the author's
    stub.ctx  # E: Counter.ctx is no method of the author's
    await stub.count(3)  # E: Incompatible types in "await"
    box.give(1)  # E: Argument 1 to "give" of "Box" has incompatible type "int"
    stub.fetch(1)  # E: Argument 1 to "fetch" of "Stub" has incompatible type "int"


async def through_a_namespace(runtime: durable.Runtime) -> None:
    counters = runtime.namespace(Counter)
    reveal_type(counters)  # N: "Namespace[Counter]"
    reveal_type(await counters.get_by_name("a").increment())  # N: "int"
    reveal_type(await counters.get(counters.new_unique_id()).plain())  # N: "list[int]"
    reveal_type(await runtime.env.COUNTERS.get_by_name("a").increment())  # N: "Any"
    runtime.namespace(int)  # E: Value of type variable "T" of "namespace" of "Runtime"


async def of_a_type_variable(
    stub: durable.Stub[Object], optional: durable.Stub[Base] | None
) -> None:
    reveal_type(await stub.inherited(["a"]))  # N: "int"
    stub.increment()  # E: "Stub[Base]" has no method "increment"
    if optional is not None:
        reveal_type(await optional.inherited(["a"]))  # N: "int"
    optional.inherited([])  # E: Item "None" of "Stub[Base] | None" has no attribute "inherited"


async def of_any_class(stub: durable.Stub[Any]) -> None:
    reveal_type(stub.anything)  # N: "def (*Any, **Any) -> Any"
