"""Debug mode tells a developer what goes wrong in their own objects, and where."""

from __future__ import annotations

import linecache
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import durable
from durable import observing

pytestmark = pytest.mark.backends("asyncio", "trio")

sold = 0
customers: list[str] = []
prices: dict[str, int] = {"apple": 1}
opened = 0


class Careless(durable.DurableObject):
    """Keeps in globals what belongs in storage."""

    async def rebind(self) -> None:
        global sold  # noqa: PLW0603 - which is what is told
        await anyio.sleep(0.001)
        sold += 1

    def append(self) -> None:
        customers.append(str(self.ctx.id))

    async def append_in_another(self, other: durable.ObjectId) -> None:
        stub = self.env.OTHERS.get(other)
        await stub.append()

    def read(self) -> int:
        return prices["apple"] + len(customers) + sold


class Opened(durable.DurableObject):
    def __init__(self, ctx: durable.ObjectState, env: object) -> None:
        super().__init__(ctx, env)
        global opened  # noqa: PLW0603
        opened += 1

    def look(self) -> None: ...


class Shop(durable.DurableObject):
    async def sell(self) -> int:
        left = await self.ctx.storage.get("left", 10)
        await anyio.sleep(0.001)
        self.ctx.storage.put("left", left - 1)
        return left - 1

    async def sell_by_kv(self) -> None:
        left = self.ctx.storage.kv.get("left", 10)
        await anyio.sleep(0.001)
        self.ctx.storage.kv.put("left", left - 1)

    async def sell_well(self) -> None:
        await anyio.sleep(0.001)
        left = await self.ctx.storage.get("left", 10)
        self.ctx.storage.put("left", left - 1)

    async def sell_after_another_look(self) -> None:
        await self.ctx.storage.get("left", 10)
        await anyio.sleep(0.001)
        left = await self.ctx.storage.get("left", 10)
        self.ctx.storage.put({"left": left - 1, "sold": 1})

    async def sell_alone(self) -> None:
        async def section() -> None:
            left = await self.ctx.storage.get("left", 10)
            await anyio.sleep(0.001)
            self.ctx.storage.put("left", left - 1)

        await self.ctx.block_concurrency_while(section)

    async def think(self) -> None:
        await anyio.sleep(0.001)
        time.sleep(0.06)

    def think_at_once(self) -> None:
        time.sleep(0.06)

    async def wait(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def fail(self) -> None:
        await anyio.sleep(0.001)
        raise KeyError("sold out")


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[durable.Stub[Shop]]:
    async with durable.open(tmp_path / "store", debug=True) as runtime:
        yield runtime.namespace(Shop).get_by_name("corner")


@pytest.mark.parametrize("method", ["sell", "sell_by_kv"])
async def test_a_lost_update_in_waiting_is_told(shop: durable.Stub[Shop], method: str) -> None:
    """With the object, the key, where it was read, and where it is written."""
    with pytest.warns(RuntimeWarning, match=r"Shop\('corner'\) read 'left' at .*py:\d+") as told:
        await getattr(shop, method)()

    assert told[0].filename == __file__


@pytest.mark.parametrize("method", ["sell_well", "sell_after_another_look", "sell_alone"])
async def test_what_is_right_is_not_told(shop: durable.Stub[Shop], method: str) -> None:
    """A read in the turn of the write, or with the others kept out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await getattr(shop, method)()
        await getattr(shop, method)()


@pytest.mark.parametrize("method", ["think", "think_at_once"])
async def test_a_step_that_holds_up_the_loop_is_told(
    shop: durable.Stub[Shop], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the object and how long it took."""
    await getattr(shop, method)()

    assert f"{method}() of Shop('corner') held up the event loop for" in caplog.text


async def test_a_handler_that_waits_holds_nobody_up(
    shop: durable.Stub[Shop], caplog: pytest.LogCaptureFixture
) -> None:
    """Time that passes while others may run is none of its own."""
    await shop.wait(0.06)

    assert "held up" not in caplog.text


@pytest.mark.parametrize(("method", "name"), [("rebind", "sold"), ("append", "customers")])
async def test_a_global_that_two_objects_change_is_told_once(
    tmp_path: Path, method: str, name: str
) -> None:
    """With the global, both objects, and a line of the class that speaks of it."""
    async with durable.open(tmp_path / "store", debug=True) as runtime:
        objects = runtime.namespace(Careless)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await getattr(objects.get_by_name("a"), method)()
            await getattr(objects.get_by_name("a"), method)()
        says = rf"the global '{name}' .* was changed by Careless\('a'\), and now by Careless\('b'\)"
        with pytest.warns(RuntimeWarning, match=says) as told:
            await getattr(objects.get_by_name("b"), method)()
        assert told[0].filename == __file__
        assert name in linecache.getline(__file__, told[0].lineno)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await getattr(objects.get_by_name("c"), method)()


async def test_a_global_that_constructors_change_is_told(tmp_path: Path) -> None:
    """They are code of an object too; as an error, it is that of the call."""
    async with durable.open(tmp_path / "store", debug=True) as runtime:
        objects = runtime.namespace(Opened)
        await objects.get_by_name("a").look()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning, match="the global 'opened'"):
                await objects.get_by_name("b").look()


async def test_globals_changed_by_one_object_or_by_others_are_not_told(tmp_path: Path) -> None:
    """Reading is harmless, what the program does is its own affair, and so is another runtime's."""
    for folder in ("one", "two"):
        async with durable.open(tmp_path / folder, debug=True) as runtime:
            objects = runtime.namespace(Careless)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                await objects.get_by_name("a").append()
                customers.clear()
                for name in "abc":
                    await objects.get_by_name(name).read()


async def test_a_change_is_put_down_to_the_object_that_made_it(tmp_path: Path) -> None:
    """Not to one that has called it."""
    bindings = {"OTHERS": Careless}
    async with durable.open(tmp_path / "store", bindings=bindings, debug=True) as runtime:
        objects = runtime.env.OTHERS
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await objects.get_by_name("a").append_in_another(objects.id_from_name("b"))
            await objects.get_by_name("b").append()


async def test_a_call_that_nobody_awaits_is_told_at_the_end(tmp_path: Path) -> None:
    """With the line that made it."""
    with pytest.warns(RuntimeWarning, match=r"wait\(\) of Shop\('a'\) was called and not") as told:
        async with durable.open(tmp_path / "store", debug=True) as runtime:
            runtime.namespace(Shop).get_by_name("a").wait(0.01)

    assert told[0].filename == __file__


async def test_errors_and_answers_are_the_same(shop: durable.Stub[Shop]) -> None:
    """Debug mode looks on."""
    with pytest.raises(KeyError, match="sold out"):
        await shop.fail()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [await shop.sell() for _ in range(3)] == [9, 8, 7]


async def test_without_it_nothing_is_watched(tmp_path: Path) -> None:
    """There is nothing of it in the way of a call."""
    async with durable.open(tmp_path / "store") as runtime:
        stub = runtime.namespace(Shop).get_by_name("a")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await stub.sell()

    assert type(stub._channel.activation).__name__ == "Activation"


async def test_debug_mode_and_an_observer_go_together(tmp_path: Path) -> None:
    """An object in debug mode can be observed, from its first event on or later, and its faults are
    told on when the observer has gone."""
    first: list[observing.Event] = []
    later: list[observing.Event] = []
    async with durable.open(tmp_path / "store", debug=True, observer=first.append) as runtime:
        shops = runtime.namespace(Shop)
        await shops.get_by_name("a").sell_well()
        end = runtime.observe(later.append)
        await shops.get_by_name("b").sell_well()
        end()
        with pytest.warns(RuntimeWarning, match="read 'left'"):
            await shops.get_by_name("b").sell()

    told = [event.name for event in first if isinstance(event, observing.DeliveryEnded)]
    assert told == ["a", "b", "b"]
    assert [e.name for e in later if isinstance(e, observing.DeliveryEnded)] == ["b"]
