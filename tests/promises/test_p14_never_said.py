"""P14: what left an object in the turn that a reset comes in was never said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import durable

from .conftest import Start, Store

HEARD: list[Any] = []
DOORS: dict[str, anyio.Event] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    HEARD.clear()
    DOORS.clear()
    DOORS["door"] = anyio.Event()


class Hearer(durable.DurableObject):
    async def hear(self, what: Any) -> Any:
        HEARD.append(what)
        return what

    async def fetch(self, request: durable.Request) -> durable.Response:
        HEARD.append(request.url.path)
        return durable.Response("heard")

    async def items(self) -> AsyncIterator[int]:
        HEARD.append("asked for items")
        yield 1


class Speaker(durable.DurableObject):
    """Says something in one way or other, and is reset in another."""

    fails_to_begin = False

    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)
        self.sockets: list[durable.WebSocket] = []
        self.function: Any = None
        self.kept: Any = None
        if Speaker.fails_to_begin:
            self.hearer.hear("from a constructor")
            raise ValueError("the constructor fails")

    @property
    def hearer(self) -> durable.Stub[Hearer]:
        return self.env.HEARER.get_by_name("hearer")

    async def keep(self, function: Any) -> None:
        self.function = function

    async def fetch(self, request: durable.Request) -> durable.Response:
        client, server = durable.WebSocketPair()
        if request.url.path == "/read":
            server.accept()
        else:
            self.ctx.accept_websocket(server)
        self.sockets.append(server)
        return durable.Response(status=101, websocket=client)

    # Saying

    async def by_call(self) -> None:
        self.hearer.hear("call")

    async def by_fetch(self) -> None:
        self.hearer.fetch("https://hearer/fetch")

    async def by_stream(self) -> None:
        self.kept = self.hearer.items()

    async def by_function(self) -> None:
        self.function("function")

    async def by_socket(self) -> None:
        await self.sockets[0].send("message")

    async def by_close(self) -> None:
        await self.sockets[0].close(4000, "said")

    async def after_a_write(self) -> None:
        self.ctx.storage.put("a", 1)
        self.hearer.hear("call after a write")

    async def before_a_read(self) -> None:
        self.hearer.hear("call before a read")
        await self.ctx.storage.get("nothing")

    async def in_a_child_task(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.by_call)

    # Being reset

    async def then_abort(self, how: str) -> None:
        await getattr(self, how)()
        self.ctx.abort("not said")

    async def then_fail_in_a_section(self, how: str) -> None:
        async def section() -> None:
            await getattr(self, how)()
            raise ValueError("not said")

        await self.ctx.block_concurrency_while(section)

    async def then_abort_in_wait_until(self, how: str) -> None:
        async def work() -> None:
            await self.then_abort(how)

        self.ctx.wait_until(work())
        await anyio.sleep(10)

    async def alarm(self) -> None:
        self.hearer.hear("alarm")
        self.ctx.abort("not said", retry_alarm=False)

    async def ring(self) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=0.5))

    # Not being reset

    async def and_end(self, how: str) -> None:
        await getattr(self, how)()

    async def and_wait(self, how: str) -> None:
        await getattr(self, how)()
        await DOORS["door"].wait()
        self.ctx.abort("later")

    async def in_a_section_and_wait(self, how: str) -> None:
        async def section() -> None:
            await getattr(self, how)()
            await DOORS["door"].wait()
            raise ValueError("later")

        await self.ctx.block_concurrency_while(section)

    async def beside_a_task_that_goes_on(self, how: str) -> None:
        async def go_on() -> None:
            while not DOORS["door"].is_set():
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go_on)
            await getattr(self, how)()
            await DOORS["door"].wait()

    async def in_order(self) -> list[int]:
        first, second = self.hearer.hear(1), self.hearer.hear(2)
        return [await second, await first, await self.hearer.hear(3)]

    async def with_an_answer_for_the_clean_up(self) -> None:
        call = self.hearer.hear("never")
        try:
            self.ctx.abort("not said")
        finally:
            try:
                await call
            except durable.ObjectReset as error:
                HEARD.append(str(error))

    async def in_a_gather_that_aborts(self) -> None:
        async def abort() -> None:
            self.ctx.abort("not said")

        await asyncio.gather(self.hearer.hear("never"), abort())

    async def awaited_in_a_gather(self) -> list[Any]:
        hearer = self.hearer
        return await asyncio.gather(*[hearer.hear(number) for number in range(3)])

    async def in_a_transaction_that_is_undone(self) -> None:
        async def closure(txn: durable.Transaction) -> None:
            self.hearer.hear("transaction")
            txn.put("a", 1)
            txn.rollback()

        await self.ctx.storage.transaction(closure)

    async def before_a_section(self) -> None:
        self.hearer.hear("before a section")
        await self.ctx.block_concurrency_while(self.then_fail)

    async def then_fail(self) -> None:
        raise ValueError("the section fails")

    async def items(self) -> AsyncIterator[int]:
        yield 1
        self.hearer.hear("from a stream")
        self.ctx.abort("not said")
        yield 2

    async def confirm(self) -> None:
        self.hearer.hear("confirmed")
        self.ctx.storage.put("a", 1)
        await self.ctx.confirmed()
        self.ctx.abort("later")

    async def callback(self) -> None:
        """A callback of the loop has no turn: what it says leaves at once."""

        async def section() -> None:
            asyncio.get_running_loop().call_later(0.001, self.hearer.hear, "callback")
            await DOORS["door"].wait()

        await self.ctx.block_concurrency_while(section)


WAYS = [
    "by_call",
    "by_fetch",
    "by_stream",
    "by_function",
    "by_socket",
    "by_close",
    "after_a_write",
    "before_a_read",
    "in_a_child_task",
]
RESETS: list[Callable[..., Any]] = [
    Speaker.then_abort,
    Speaker.then_fail_in_a_section,
    Speaker.then_abort_in_wait_until,
]


@pytest.fixture
async def runtime(store: Store) -> AsyncIterator[durable.Runtime]:
    Speaker.fails_to_begin = False
    bindings = {"SPEAKER": Speaker, "HEARER": Hearer}
    async with store.open(bindings=bindings) as runtime:
        yield runtime


def speaker(runtime: durable.Runtime) -> Any:
    return runtime.namespace(Speaker).get_by_name("speaker")


async def prepare(runtime: durable.Runtime, start: Start[Any]) -> Any:
    """A speaker, with a function and a socket whose other ends note what they hear."""
    stub = speaker(runtime)
    await stub.keep(HEARD.append)
    ws = (await stub.fetch("https://speaker/")).websocket
    ws.accept()

    async def read() -> None:
        try:
            async for message in ws:
                HEARD.append(message)  # noqa: PERF401 - as it comes
            HEARD.append(ws.close_code)
        except durable.WebSocketClosed:
            pass

    start(read())
    return stub


@pytest.mark.parametrize("reset", [each.__name__ for each in RESETS])
@pytest.mark.parametrize("way", WAYS)
async def test_what_is_said_in_the_turn_of_a_reset_is_not_heard(
    store: Store, runtime: durable.Runtime, start: Start[Any], way: str, reset: str
) -> None:
    stub = await prepare(runtime, start)
    with pytest.raises(durable.ObjectReset, match="not said"):
        await getattr(stub, reset)(way)
    await store.settle()

    assert HEARD == []


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_said_is_heard_when_the_turn_has_ended(
    store: Store, runtime: durable.Runtime, start: Start[Any], way: str
) -> None:
    stub = await prepare(runtime, start)
    await stub.and_end(way)
    await store.settle()

    assert len(HEARD) == (0 if way == "by_stream" else 1)  # nobody has asked for an item


@pytest.mark.parametrize("how", ["and_wait", "in_a_section_and_wait", "beside_a_task_that_goes_on"])
@pytest.mark.parametrize("way", WAYS)
async def test_what_is_said_before_a_wait_on_the_outside_is_heard(
    store: Store, runtime: durable.Runtime, start: Start[Any], way: str, how: str
) -> None:
    """Whatever comes after it; also where other tasks of the handler go on meanwhile."""
    stub = await prepare(runtime, start)
    call = start(getattr(stub, how)(way))
    with anyio.fail_after(5):
        while not HEARD and way != "by_stream":
            await anyio.sleep(0.001)

    DOORS["door"].set()
    if how != "beside_a_task_that_goes_on":
        with pytest.raises(durable.ObjectReset, match="later"):
            await call.result()


async def test_a_failing_constructor_has_said_nothing(
    store: Store, runtime: durable.Runtime
) -> None:
    Speaker.fails_to_begin = True
    with pytest.raises(durable.ObjectReset, match="the constructor fails"):
        await speaker(runtime).by_call()
    await store.settle()

    assert HEARD == []


async def test_calls_of_one_turn_come_in_their_order(runtime: durable.Runtime) -> None:
    """P3, whichever of them is awaited first."""
    assert await speaker(runtime).in_order() == [2, 1, 3]
    assert HEARD == [1, 2, 3]


async def test_who_awaits_a_call_that_was_never_made_is_told_why(
    store: Store, runtime: durable.Runtime
) -> None:
    """The clean-up of the object does not wait for what will not come."""
    with pytest.raises(durable.ObjectAborted):
        await speaker(runtime).with_an_answer_for_the_clean_up()
    await store.settle()

    assert HEARD == ["not said"]


def test_a_call_beside_a_task_that_aborts_in_the_same_round_is_not_heard(store: Store) -> None:
    async def main() -> None:
        async with store.open(bindings={"SPEAKER": Speaker, "HEARER": Hearer}) as runtime:
            with pytest.raises(durable.ObjectAborted):
                await speaker(runtime).in_a_gather_that_aborts()
            await store.settle()
            assert HEARD == []
            assert await speaker(runtime).awaited_in_a_gather() == [0, 1, 2]
            assert HEARD == [0, 1, 2]

    asyncio.run(main())


def test_a_callback_of_the_loop_is_heard_while_a_section_waits(store: Store) -> None:
    async def main() -> None:
        async with store.open(bindings={"SPEAKER": Speaker, "HEARER": Hearer}) as runtime:
            call = speaker(runtime).callback()
            with anyio.fail_after(5):
                while not HEARD:
                    await asyncio.sleep(0.001)
            DOORS["door"].set()
            await call

    asyncio.run(main())


async def test_a_transaction_that_is_undone_takes_back_what_is_stored_alone(
    store: Store, runtime: durable.Runtime
) -> None:
    """That resets nothing, so what was said was said."""
    await speaker(runtime).in_a_transaction_that_is_undone()
    await store.settle()

    assert HEARD == ["transaction"]


async def test_what_was_said_before_a_section_that_fails_is_heard(
    store: Store, runtime: durable.Runtime
) -> None:
    """The section begins when the turn has ended."""
    with pytest.raises(durable.ObjectReset, match="the section fails"):
        await speaker(runtime).before_a_section()
    await store.settle()

    assert HEARD == ["before a section"]


async def test_an_alarm_that_aborts_has_said_nothing(
    store: Store, runtime: durable.Runtime
) -> None:
    await speaker(runtime).ring()
    await store.clock.advance(1)
    await store.settle()

    assert HEARD == []


async def test_a_generator_that_aborts_has_said_nothing_since_its_last_item(
    store: Store, runtime: durable.Runtime
) -> None:
    items = speaker(runtime).items()
    assert await anext(items) == 1
    with pytest.raises(durable.ObjectReset, match="not said"):
        await anext(items)
    await store.settle()

    assert HEARD == []


async def test_what_was_said_before_a_confirmation_is_heard(
    store: Store, runtime: durable.Runtime
) -> None:
    with pytest.raises(durable.ObjectAborted, match="later"):
        await speaker(runtime).confirm()
    await store.settle()

    assert HEARD == ["confirmed"]


async def test_messages_of_the_program_leave_at_once(runtime: durable.Runtime) -> None:
    call = runtime.namespace(Hearer).get_by_name("hearer").hear("program")
    await anyio.wait_all_tasks_blocked()

    assert HEARD == ["program"]
    assert await call == "program"
