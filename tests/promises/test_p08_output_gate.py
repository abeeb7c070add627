"""P8: nothing leaves an object until every write made before it, by anyone in it, is on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store

URL = "https://object/"
HEARD: list[Any] = []
DOORS: dict[str, anyio.Event] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    HEARD.clear()
    DOORS.clear()


class Listener(durable.DurableObject):
    def hear(self, what: Any) -> str:
        HEARD.append(what)
        return "heard"

    async def fetch(self, request: durable.Request) -> durable.Response:
        HEARD.append(request.url.path)
        return durable.Response()


class Speaker(durable.DurableObject):
    """Writes, then says something."""

    def _write(self) -> None:
        self.ctx.storage.put("count", self.ctx.storage.kv.get("count", 0) + 1)

    async def fetch(self, request: durable.Request) -> durable.Response:
        self._write()
        return durable.Response("written")

    def write(self) -> str:
        self._write()
        return "written"

    def write_and_raise(self) -> None:
        self._write()
        raise ValueError("written, then raised")

    async def write_and_call(self, listener: durable.Stub[Listener]) -> str:
        self._write()
        return await listener.hear("call")

    async def write_and_fetch(self, listener: durable.Stub[Listener]) -> int:
        self._write()
        return (await listener.fetch("https://listener/fetch")).status

    async def write_and_call_back(self, hear: Callable[[str], Any]) -> str:
        self._write()
        return str(await hear("function"))

    async def confirm(self) -> None:
        self._write()
        await self.ctx.confirmed()
        HEARD.append("confirmed")

    async def confirm_unwritten(self) -> None:
        await self.ctx.confirmed()
        HEARD.append("confirmed")

    async def confirm_twice(self) -> None:
        self._write()
        await self.ctx.confirmed()
        HEARD.append("first")
        self._write()
        await self.ctx.confirmed()
        HEARD.append("second")

    async def items(self) -> AsyncIterator[int]:
        yield 0
        self._write()
        yield 1

    def unconfirmed(self) -> str:
        self.ctx.storage.put("u", 1, allow_unconfirmed=True)
        return "unconfirmed"

    def unconfirmed_delete(self) -> bool:
        self.ctx.storage.delete("u", allow_unconfirmed=True)
        return True

    def fill(self) -> None:
        self.ctx.storage.put("u", 1)
        self.ctx.storage.set_alarm(timedelta(days=1))

    async def erase(self, what: str, unconfirmed: bool) -> None:
        storage = self.ctx.storage
        if what == "alarm":
            storage.delete_alarm(allow_unconfirmed=unconfirmed)
        elif what == "key":
            storage.delete("u", allow_unconfirmed=unconfirmed)
        else:

            async def closure(txn: durable.Transaction) -> None:
                txn.delete("u", allow_unconfirmed=unconfirmed)

            await storage.transaction(closure)

    async def mixed(self) -> str:
        self.ctx.storage.put("u", 1, allow_unconfirmed=True)
        self.ctx.storage.put("c", 1)
        return "mixed"

    def read(self) -> int:
        return self.ctx.storage.kv.get("count", 0)

    async def write_then_wait(self) -> None:
        self._write()
        await DOORS["door"].wait()

    async def transact(self) -> str:
        async def closure(txn: durable.Transaction) -> str:
            txn.put("t", 1)
            return "kept"

        return await self.ctx.storage.transaction(closure)

    async def section(self) -> str:
        async def fn() -> str:
            self._write()
            await self.ctx.confirmed()
            HEARD.append("inside")
            return "done"

        return await self.ctx.block_concurrency_while(fn)

    async def sync(self) -> str:
        self.ctx.storage.put("u", 1, allow_unconfirmed=True)
        await self.ctx.storage.sync()
        HEARD.append("synced")
        return "synced"

    async def alarm(self) -> None:
        self._write()
        HEARD.append("alarm ran")


class Raiser(Speaker):
    async def fetch(self, request: durable.Request) -> durable.Response:
        self._write()
        raise ValueError("written, then raised")


class Body(durable.DurableObject):
    async def fetch(self, request: durable.Request) -> durable.Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one "
            self.ctx.storage.put("sent", 1)
            yield b"two"

        return durable.Response(chunks())


@pytest.mark.parametrize("method", ["write", "transact", "mixed", "sync", "section"])
async def test_an_answer_waits_for_the_writes_before_it(
    store: Store, runtime: durable.Runtime, start: Start[Any], method: str
) -> None:
    """A method's answer is heard when what it wrote is on disk, however it wrote."""
    stub = runtime.namespace(Speaker).get_by_name("a")
    with store.faults.hold_commits():
        call = start(getattr(stub, method)())
        await store.settle()

        assert not call.done
        assert HEARD == []

    await call.result()


async def test_a_response_waits_for_the_writes_before_it(
    store: Store, runtime: durable.Runtime, start: Start[durable.Response]
) -> None:
    """The same for fetch."""
    with store.faults.hold_commits():
        call = start(runtime.namespace(Speaker).get_by_name("a").fetch("https://a/"))
        await store.settle()

        assert not call.done

    assert await (await call.result()).text() == "written"


@pytest.mark.parametrize("call_it", [lambda it: it.write_and_raise(), lambda it: it.fetch(URL)])
async def test_an_exception_waits_for_the_writes_before_it(
    store: Store,
    runtime: durable.Runtime,
    start: Start[Any],
    call_it: Callable[[durable.Stub[Raiser]], Any],
) -> None:
    """It says something about the object too."""
    with store.faults.hold_commits():
        call = start(call_it(runtime.namespace(Raiser).get_by_name("a")))
        await store.settle()

        assert not call.done

    with pytest.raises(ValueError, match="written, then raised"):
        await call.result()


async def test_an_answer_waits_for_what_others_in_the_object_wrote(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """A mere read may have seen a write that is not on disk yet."""
    stub = runtime.namespace(Speaker).get_by_name("a")
    with store.faults.hold_commits():
        writing = start(stub.write())
        await store.settle()
        reading = start(stub.read())
        await store.settle()

        assert not writing.done
        assert not reading.done

    assert await reading.result() == 1


async def test_an_answer_waits_for_what_a_handler_under_way_wrote(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """Its turn has ended when it went to wait; its write is one that was made before."""
    stub = runtime.namespace(Speaker).get_by_name("a")
    DOORS["door"] = anyio.Event()
    with store.faults.hold_commits():
        start(stub.write_then_wait())
        await store.settle()
        reading = start(stub.read())
        await store.settle()

        assert not reading.done

    assert await reading.result() == 1
    DOORS["door"].set()


async def test_an_answer_does_not_wait_for_writes_after_it(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """The first commit lets the first answer go, though more is written meanwhile."""
    stub = runtime.namespace(Speaker).get_by_name("a")
    with store.faults.hold_commits():
        first = start(stub.write())
        await store.settle()
        second = start(stub.write())
        await store.settle()
        store.faults.let_one_commit()
        await store.settle()

        assert first.done
        assert not second.done

    assert await second.result() == "written"


async def test_an_object_that_wrote_nothing_answers_at_once(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """Commits of other objects are no concern of its."""
    speakers = runtime.namespace(Speaker)
    with store.faults.hold_commits():
        start(speakers.get_by_name("a").write())
        await store.settle()

        assert await speakers.get_by_name("b").read() == 0


@pytest.mark.parametrize("method", ["write_and_call", "write_and_fetch"])
async def test_a_call_to_another_object_waits_for_the_caller_s_writes(
    store: Store, runtime: durable.Runtime, start: Start[Any], method: str
) -> None:
    """The other object hears nothing before they are on disk."""
    listener = runtime.namespace(Listener).get_by_name("l")
    with store.faults.hold_commits():
        call = start(getattr(runtime.namespace(Speaker).get_by_name("a"), method)(listener))
        await store.settle()

        assert HEARD == []

    await call.result()
    assert HEARD in (["call"], ["/fetch"])


async def test_a_function_of_the_program_s_is_called_after_the_writes(
    store: Store, runtime: durable.Runtime, start: Start[str]
) -> None:
    """A callable that was handed in is the outside as well."""

    def hear(what: str) -> str:
        HEARD.append(what)
        return "heard"

    with store.faults.hold_commits():
        call = start(runtime.namespace(Speaker).get_by_name("a").write_and_call_back(hear))
        await store.settle()

        assert HEARD == []

    assert await call.result() == "heard"


async def test_confirmed_comes_when_the_writes_are_on_disk(
    store: Store, runtime: durable.Runtime, start: Start[None]
) -> None:
    """It is the gate for what the runtime does not see."""
    with store.faults.hold_commits():
        call = start(runtime.namespace(Speaker).get_by_name("a").confirm())
        await store.settle()

        assert HEARD == []

    await call.result()
    assert HEARD == ["confirmed"]


async def test_confirmed_waits_for_each_write_in_turn(
    store: Store, runtime: durable.Runtime, start: Start[None]
) -> None:
    """A handler can tell the outside step by step."""
    with store.faults.hold_commits():
        call = start(runtime.namespace(Speaker).get_by_name("a").confirm_twice())
        await store.settle()
        store.faults.let_one_commit()
        await store.settle()

        assert HEARD == ["first"]

    await call.result()
    assert HEARD == ["first", "second"]


async def test_confirmed_with_nothing_written_is_there_at_once(
    store: Store, runtime: durable.Runtime
) -> None:
    """There is nothing to wait for."""
    with store.faults.hold_commits():
        await runtime.namespace(Speaker).get_by_name("a").confirm_unwritten()

    assert HEARD == ["confirmed"]


async def test_confirmed_works_inside_a_critical_section(
    store: Store, runtime: durable.Runtime
) -> None:
    """What the section wrote is sealed when it waits."""
    assert await runtime.namespace(Speaker).get_by_name("a").section() == "done"
    assert HEARD == ["inside"]


async def test_an_unconfirmed_write_holds_nothing_back(
    store: Store, runtime: durable.Runtime
) -> None:
    """`allow_unconfirmed` opts out; the write is committed all the same."""
    stub = runtime.namespace(Speaker).get_by_name("a")
    with store.faults.hold_commits():
        assert await stub.unconfirmed() == "unconfirmed"
        assert await stub.unconfirmed_delete() is True
        assert await stub.unconfirmed() == "unconfirmed"

    await store.settle()
    await durable.testing.evict(stub)
    assert await durable.testing.run_in_object(stub, lambda _, ctx: ctx.storage.get("u")) == 1


@pytest.mark.parametrize("deleted", ["key", "alarm", "key in a transaction"])
async def test_a_confirmed_delete_waits_though_an_unconfirmed_one_was_first(
    store: Store, runtime: durable.Runtime, start: Start[Any], deleted: str
) -> None:
    """What its caller hears is that the thing is gone, and it must not come back."""
    stub = runtime.namespace(Speaker).get_by_name("a")
    await stub.fill()
    with store.faults.hold_commits():
        await stub.erase(deleted, True)
        again = start(stub.erase(deleted, False))
        await store.settle()

        assert not again.done

    await again.result()


async def test_an_item_of_a_stream_waits_for_the_writes_before_it(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """Each item is a message of its own."""
    stream = runtime.namespace(Speaker).get_by_name("a").items()
    with store.faults.hold_commits():
        assert await anext(stream) == 0
        second = start(anext(stream))
        await store.settle()

        assert not second.done

    assert await second.result() == 1


async def test_a_chunk_of_a_body_waits_for_the_writes_before_it(
    store: Store, runtime: durable.Runtime, start: Start[Any]
) -> None:
    """A streamed response goes out chunk by chunk, each through the gate."""
    response = await runtime.namespace(Body).get_by_name("a").fetch("https://a/")
    chunks = response.stream()
    with store.faults.hold_commits():
        assert await anext(chunks) == b"one "
        second = start(anext(chunks))
        await store.settle()

        assert not second.done

    assert await second.result() == b"two"


async def test_an_alarm_succeeds_when_its_writes_are_on_disk(
    store: Store, runtime: durable.Runtime, start: Start[bool]
) -> None:
    """Before that the alarm is still set, whatever happens."""
    stub = runtime.namespace(Speaker).get_by_name("a")
    await durable.testing.run_in_object(
        stub, lambda _, ctx: ctx.storage.set_alarm(store.clock.now() + 60)
    )
    with store.faults.hold_commits():
        ringing = start(durable.testing.run_alarm(stub))
        await store.settle()

        assert HEARD == ["alarm ran"]
        assert not ringing.done

    assert await ringing.result() is True


async def test_a_thousand_answers_wait_for_one_commit(
    store: Store, runtime: durable.Runtime, start: Start[str]
) -> None:
    """Many answers that wait are released together, in order."""
    stub = runtime.namespace(Speaker).get_by_name("a")
    with store.faults.hold_commits():
        calls = [start(stub.write()) for _ in range(200)]
        await store.settle()

        assert not any(call.done for call in calls)

    assert [await call.result() for call in calls] == ["written"] * 200
