"""P10: later changes to what was put, sent or read change nothing stored or held elsewhere."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import durable
import durable.testing


class Keeper(durable.DurableObject):
    """Keeps values, in storage and in memory."""

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.held: Any = None

    def put_then_change(self) -> Any:
        value = {"list": [1, 2], "set": {1}}
        self.ctx.storage.put("key", value)
        value["list"].append(3)  # type: ignore[attr-defined]
        value["set"].add(2)  # type: ignore[attr-defined]
        value["new"] = [True]
        return self.ctx.storage.kv.get("key")

    async def read_then_change(self) -> Any:
        self.ctx.storage.put("key", {"list": [1, 2]})
        for read in (
            await self.ctx.storage.get("key"),
            (await self.ctx.storage.get(["key"]))["key"],
            (await self.ctx.storage.list())["key"],
            self.ctx.storage.kv.get("key"),
        ):
            assert read == {"list": [1, 2]}
            read["list"].append("changed")
        return await self.ctx.storage.get("key")

    async def read_in_a_transaction_then_change(self) -> Any:
        async def closure(txn: durable.Transaction) -> Any:
            txn.put("key", [1])
            (await txn.get("key")).append("changed")
            return await txn.get("key")

        return await self.ctx.storage.transaction(closure)

    async def read_default_then_change(self) -> Any:
        default: list[Any] = []
        found = await self.ctx.storage.get("missing", default)
        found.append("changed")
        return await self.ctx.storage.get("missing")

    def hold(self, value: Any) -> None:
        self.held = value

    def give(self) -> Any:
        return self.held

    def change_held(self) -> None:
        self.held.append("changed inside")

    def change_argument(self, value: list[Any]) -> None:
        value.append("changed inside")

    async def send_then_change(self, other: durable.Stub[Keeper]) -> Any:
        value = [1]
        call = other.hold(value)
        value.append("changed after the call")
        await call
        return await other.give()

    async def call_back(self, fn: Callable[[Any], Any]) -> Any:
        value = [1]
        call = fn(value)
        value.append("changed after the call")
        return await call

    def put(self, value: Any) -> None:
        self.ctx.storage.put("value", value)

    async def get(self) -> Any:
        return await self.ctx.storage.get("value")

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [*args, kwargs]


@pytest.fixture
async def keeper(runtime: durable.Runtime) -> durable.Stub[Keeper]:
    return runtime.namespace(Keeper).get_by_name("a")


async def test_what_was_put_can_be_changed_freely(keeper: durable.Stub[Keeper]) -> None:
    """The copy is taken at the call."""
    assert await keeper.put_then_change() == {"list": [1, 2], "set": {1}}


async def test_what_was_read_can_be_changed_freely(keeper: durable.Stub[Keeper]) -> None:
    """Each read is a fresh copy, also of what is in memory."""
    assert await keeper.read_then_change() == {"list": [1, 2]}
    assert await keeper.read_in_a_transaction_then_change() == [1]
    assert await keeper.read_default_then_change() is None


async def test_what_was_sent_can_be_changed_freely(keeper: durable.Stub[Keeper]) -> None:
    """Arguments are copied at the call, not when it is delivered or awaited."""
    value = [1]
    call = keeper.hold(value)
    value.append(2)
    await call

    assert await keeper.give() == [1]


async def test_an_argument_can_be_changed_freely_by_the_callee(
    keeper: durable.Stub[Keeper],
) -> None:
    """The caller's own is not touched."""
    value = [1]
    await keeper.change_argument(value)

    assert value == [1]


async def test_a_result_can_be_changed_freely(keeper: durable.Stub[Keeper]) -> None:
    """By the caller, and by the object that goes on holding the original."""
    await keeper.hold([1])
    result = await keeper.give()
    result.append("changed outside")
    assert await keeper.give() == [1]

    second = await keeper.give()
    await keeper.change_held()
    assert second == [1]


async def test_calls_between_objects_are_by_value(runtime: durable.Runtime) -> None:
    """Though they run in the same process."""
    keepers = runtime.namespace(Keeper)
    a, b = keepers.get_by_name("a"), keepers.get_by_name("b")

    assert await a.send_then_change(b) == [1]


async def test_calls_of_functions_are_by_value(keeper: durable.Stub[Keeper]) -> None:
    """Both ways: what the function gets, and what it answers."""
    kept: list[Any] = []

    def fn(value: Any) -> Any:
        kept.append(value)
        return value

    assert await keeper.call_back(fn) == [1]
    assert kept == [[1]]


VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**100,
    1.5,
    -0.0,
    math.inf,
    1e308,
    "",
    "text",
    "🐍 \x00 é",
    b"",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    (),
    (1, (2, [3])),
    {},
    {"a": 1, 2: "b", (1, 2): [3], None: None, b"x": True},
    set(),
    {1, "a", (2, 3)},
    frozenset({1, frozenset({2})}),
    dt.datetime(2026, 1, 2, 3, 4, 5, 678901),
    dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-7))),
    dt.date(2026, 1, 2),
    dt.time(1, 2, 3, 4),
    dt.timedelta(days=-1, microseconds=7),
    Decimal("1.10"),
    Decimal("-Infinity"),
    uuid.UUID(int=7),
]


@pytest.mark.parametrize("value", VALUES, ids=[type(value).__name__ for value in VALUES])
@pytest.mark.backends("asyncio")
async def test_a_value_comes_back_equal_and_of_the_same_type(
    keeper: durable.Stub[Keeper], value: Any
) -> None:
    """Stored, sent and answered, fresh from memory and from disk; nested in others too."""
    nested = {"key": [value, (value,)]}
    for each in (value, nested):
        await keeper.put(each)
        assert same(await keeper.get(), each)
        await durable.testing.evict(keeper)
        assert same(await keeper.get(), each)
        assert same(await keeper.echo(each, key=each), [each, {"key": each}])


def same(one: Any, other: Any) -> bool:
    """Equal and of one type, in all that they contain; sets may be written in another order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other) and (isinstance(one, set | frozenset) or repr(one) == repr(other))


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


REFUSED: list[Any] = [
    object(),
    memoryview(b"a"),
    cycle(),
    "\ud800",
    1j,
    range(3),
    int,
    ...,
]


@pytest.mark.parametrize("value", REFUSED, ids=[type(value).__name__ for value in REFUSED])
@pytest.mark.backends("asyncio")
async def test_what_cannot_be_stored_is_refused_at_the_call(
    keeper: durable.Stub[Keeper], value: Any
) -> None:
    """By storage and by RPC, saying where in the value; nothing is written or sent."""
    nested = {"a": [1, value]}

    def put(_: Any, ctx: durable.State) -> None:
        for each in (value, nested):
            with pytest.raises(durable.UnstorableValue) as caught:
                ctx.storage.put("value", each)
        assert "a" in caught.value.where

    await durable.testing.run_in_object(keeper, put)
    with pytest.raises(durable.UnstorableValue):
        keeper.hold(value)

    assert await keeper.get() is None
    assert await keeper.give() is None


class Giver(durable.DurableObject):
    def give_object(self) -> Any:
        self.ctx.storage.put("given", True)
        return object()

    async def items(self) -> Any:
        yield object()


async def test_a_result_that_cannot_be_sent_is_an_error_of_the_call(
    runtime: durable.Runtime,
) -> None:
    """The caller gets it; the object lives on."""
    stub = runtime.namespace(Giver).get_by_name("a")
    with pytest.raises(durable.UnstorableValue):
        await stub.give_object()
    with pytest.raises(durable.UnstorableValue):
        await anext(stub.items())
    assert await durable.testing.run_in_object(stub, lambda _, ctx: ctx.storage.get("given"))


async def test_stubs_ids_and_functions_pass_by_reference(
    runtime: durable.Runtime, keeper: durable.Stub[Keeper]
) -> None:
    """Nested anywhere; a function that came from an object runs in that object."""
    other = runtime.namespace(Keeper).get_by_name("other")
    stub, object_id = (await keeper.echo({"a": [other]}, (other.id,)))[:2]

    assert stub["a"][0] == other
    assert object_id == (other.id,)
    await stub["a"][0].hold("through the reference")
    assert await other.give() == "through the reference"
