"""Whatever an author's code raises, or a program's filter, observer or timer, the rest goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import anyio
import attrs
import pytest

import durable
import durable.testing
from durable._object.activation import Activation
from durable._storage.object_storage import ObjectStorage


@attrs.frozen
class Frozen(Exception):
    key: str


class NeedsCode(Exception):
    def __new__(cls, code: int) -> NeedsCode:
        return super().__new__(cls, code)


class RefusesAttributes(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} is read-only")


class HasNoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class IsFinal(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError("this class is final")


class CannotBeReduced(Exception):
    def __reduce__(self) -> NoReturn:
        raise TypeError("not to be copied")


class IsFalse(Exception):
    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = None  # type: ignore[assignment]


class OwnReset(durable.ObjectReset):
    def __new__(cls, text: str) -> OwnReset:
        return super().__new__(cls, text)


class OfNoException(BaseException):
    pass


ERRORS: dict[str, Callable[[], BaseException]] = {
    "group": lambda: ExceptionGroup("two", [ValueError(1), LookupError(2)]),
    "base group": lambda: BaseExceptionGroup("one", [OfNoException(1)]),
    "frozen": lambda: Frozen("k"),
    "needs code": lambda: NeedsCode(3),
    "refuses attributes": lambda: RefusesAttributes("x"),
    "has no text": lambda: HasNoText("x"),
    "is final": lambda: IsFinal("x"),
    "cannot be reduced": lambda: CannotBeReduced("x"),
    "is false": lambda: IsFalse("x"),
    "own reset": lambda: OwnReset("mine"),
    "of no exception": lambda: OfNoException("x"),
    "os error": lambda: FileNotFoundError(2, "No such file", "name"),
    "generator exit": lambda: GeneratorExit("x"),
}
every_error = pytest.mark.parametrize("which", ERRORS)


class Thrower(durable.DurableObject):
    """Raises one of ERRORS, in one of many places."""

    def __init__(self, ctx: durable.ObjectState, env: Any) -> None:
        super().__init__(ctx, env)
        if ctx.storage.kv.get("in constructor"):
            raise ERRORS[ctx.storage.kv.get("in constructor")]()

    async def _raise(self, which: str) -> None:
        raise ERRORS[which]()

    async def in_handler(self, which: str) -> None:
        await self._raise(which)

    def in_plain_method(self, which: str) -> None:
        raise ERRORS[which]()

    async def in_section(self, which: str) -> None:
        await self.ctx.block_concurrency_while(lambda: self._raise(which))

    async def in_transaction(self, which: str) -> None:
        await self.ctx.storage.transaction(lambda txn: self._raise(which))

    async def in_stream(self, which: str) -> AsyncIterator[int]:
        yield 1
        await self._raise(which)

    async def in_wait_until(self, which: str) -> None:
        self.ctx.wait_until(self._raise(which))

    async def in_alarm(self, which: str) -> None:
        self.ctx.storage.put("in alarm", which)
        self.ctx.storage.set_alarm(timedelta(seconds=1))

    async def fail_next_constructor(self, which: str) -> None:
        self.ctx.storage.put("in constructor", which)

    async def alarm(self) -> None:
        which = await self.ctx.storage.get("in alarm")
        self.ctx.storage.put("rang", True)
        if which is not None:
            self.ctx.storage.delete("in alarm")
            await self.ctx.storage.sync()
            raise ERRORS[which]()

    async def wake_in(self, seconds: float) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def get(self, key: str) -> Any:
        return await self.ctx.storage.get(key)

    async def wait(self, seconds: float) -> str:
        await anyio.sleep(seconds)
        return "waited"

    async def put_and_abort(self) -> None:
        self.ctx.abort("enough")


@pytest.fixture
async def throwers(runtime: durable.Runtime) -> durable.Namespace[Thrower]:
    return runtime.namespace(Thrower)


async def _error_of(call: Any) -> BaseException:
    with anyio.fail_after(10):
        try:
            await call
        except BaseException as error:
            return error
    raise AssertionError("nothing was raised")


@every_error
@pytest.mark.parametrize("where", ["in_handler", "in_plain_method", "in_transaction"])
async def test_an_error_reaches_the_caller_as_itself(
    throwers: durable.Namespace[Thrower], which: str, where: str
) -> None:
    """Where it resets nothing."""
    stub = throwers.get_by_name("a")
    error = await _error_of(getattr(stub, where)(which))

    assert type(error) is type(ERRORS[which]())
    assert await stub.get("x") is None


@every_error
async def test_an_error_in_a_section_resets_the_object_with_it_as_the_cause(
    throwers: durable.Namespace[Thrower], which: str
) -> None:
    """The next call finds a new instance."""
    error = await _error_of(throwers.get_by_name("a").in_section(which))

    assert isinstance(error, durable.ObjectReset)
    assert error.reset
    assert type(error) is OwnReset or type(error.__cause__) is type(ERRORS[which]())
    assert await throwers.get_by_name("a").get("x") is None


@every_error
async def test_an_error_in_a_constructor_fails_the_calls_that_wait(
    runtime: durable.Runtime, throwers: durable.Namespace[Thrower], which: str
) -> None:
    """With it as the cause; other objects live on."""
    await throwers.get_by_name("a").fail_next_constructor(which)
    await durable.testing.abort_all(runtime)
    calls = [throwers.get_by_name("a").get("x") for _ in range(2)]

    for error in [await _error_of(call) for call in calls]:
        assert isinstance(error, durable.ObjectReset)
    assert await throwers.get_by_name("b").get("x") is None


@every_error
async def test_an_error_in_a_stream_reaches_its_consumer(
    throwers: durable.Namespace[Thrower], which: str
) -> None:
    """After the items before it."""
    items = throwers.get_by_name("a").in_stream(which)

    assert await anext(items) == 1
    assert type(await _error_of(anext(items))) is type(ERRORS[which]())
    assert await throwers.get_by_name("a").get("x") is None


@every_error
async def test_an_error_in_an_alarm_or_beside_an_event_is_logged(
    throwers: durable.Namespace[Thrower],
    clock: durable.testing.VirtualClock,
    caplog: pytest.LogCaptureFixture,
    which: str,
) -> None:
    """An alarm is run again, and later alarms of others ring."""
    stub = throwers.get_by_name("a")
    await stub.in_wait_until(which)
    await stub.in_alarm(which)
    await clock.advance(1.5)
    await throwers.get_by_name("b").wake_in(1)
    await clock.advance(5)

    assert await throwers.get_by_name("b").get("rang")
    assert await stub.get("rang")
    assert "alarm() of Thrower('a') failed" in caplog.text
    assert "wait_until() of Thrower('a') failed" in caplog.text


@pytest.mark.parametrize("part", ["filter", "handler"])
async def test_a_log_that_fails_is_no_matter_of_the_objects(
    throwers: durable.Namespace[Thrower], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reset that could not be logged is one all the same."""
    logger = logging.getLogger("durable")

    def fail(record: object) -> NoReturn:
        raise RuntimeError("a fault of the program's logging")

    handler = logging.Handler()
    handler.emit = fail  # type: ignore[method-assign]
    if part == "filter":
        logger.addFilter(fail)
    else:
        logger.addHandler(handler)
    try:
        error = await _error_of(throwers.get_by_name("a").put_and_abort())
        assert await throwers.get_by_name("a").get("x") is None
    finally:
        logger.removeFilter(fail)
        logger.removeHandler(handler)

    assert isinstance(error, durable.ObjectAborted)
    assert "a fault of the program's logging" in capsys.readouterr().err


async def test_an_observer_that_fails_in_any_way_is_no_matter_of_the_objects(
    runtime: durable.Runtime, throwers: durable.Namespace[Thrower]
) -> None:
    """Nor is one error, whose text cannot be made, to be told."""

    def fail(event: object) -> NoReturn:
        raise OfNoException("an observer's own fault")

    runtime.observe(fail)
    stub = throwers.get_by_name("a")
    assert await stub.get("x") is None
    assert type(await _error_of(stub.in_handler("has no text"))) is HasNoText
    assert isinstance(await _error_of(stub.in_section("has no text")), durable.ObjectReset)
    assert await throwers.get_by_name("a").get("x") is None


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_a_program_that_cancels_all_tasks_gets_all_answers(
    tmp_path: Path, use_uvloop: bool
) -> None:
    """Calls under way end with an error, those to come are served, and alarms ring on."""
    anyio.run(_cancel_all, tmp_path, backend_options={"use_uvloop": use_uvloop})


async def _cancel_all(folder: Path) -> None:
    async with durable.open(folder / "store") as runtime:
        throwers = runtime.namespace(Thrower)
        await throwers.get_by_name("a").wake_in(0.3)
        calls = [throwers.get_by_name(str(n)).wait(60) for n in range(5)]
        await asyncio.sleep(0.01)
        late = [throwers.get_by_name(f"late {n}").wait(0.1) for n in range(3)]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with anyio.fail_after(5):
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(end, durable.DurableError) for end in ends), ends
            # Of those that had not begun, the ones whose task was not there yet go on.
            for end in await asyncio.gather(*late, return_exceptions=True):
                assert end == "waited" or isinstance(end, durable.DurableError)
            assert await throwers.get_by_name("0").wait(0) == "waited"
            while not await throwers.get_by_name("a").get("rang"):
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_closing_goes_on_however_often_it_is_cancelled(tmp_path: Path, use_uvloop: bool) -> None:
    """What objects wrote is stored, the folder is free, and the caller is cancelled after it."""
    anyio.run(_cancel_closing, tmp_path, backend_options={"use_uvloop": use_uvloop})


async def _cancel_closing(folder: Path) -> None:
    async def run() -> None:
        async with durable.open(folder / "store") as runtime:
            runtime.namespace(Thrower).get_by_name("a").wait(0.2)
            runtime.namespace(Thrower).get_by_name("b").wake_in(1_000)

    program = asyncio.ensure_future(run())
    while not program.done():
        await asyncio.sleep(0.02)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    assert program.cancelled()
    async with durable.open(folder / "store") as runtime:
        assert len([o async for o in runtime.namespace(Thrower).objects()]) == 1


# Interrupts


class Interrupted(durable.DurableObject):
    async def boom(self, which: str) -> None:
        await anyio.sleep(0)
        raise KeyboardInterrupt if which == "key" else SystemExit(3)

    async def in_section(self, which: str) -> None:
        await self.ctx.block_concurrency_while(lambda: self.boom(which))

    async def in_wait_until(self, which: str) -> None:
        self.ctx.wait_until(self.boom(which))

    async def in_alarm(self, which: str) -> None:
        self.ctx.storage.put("which", which)
        self.ctx.storage.set_alarm(timedelta(milliseconds=1))

    async def alarm(self) -> None:
        await self.boom(await self.ctx.storage.get("which"))

    async def wait(self) -> None:
        await anyio.sleep(60)


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("which", ["key", "exit"])
@pytest.mark.parametrize("where", ["boom", "in_section", "in_wait_until", "in_alarm"])
@pytest.mark.parametrize("is_awaited", [True, False])
def test_an_interrupt_in_an_objects_code_reaches_the_program(
    tmp_path: Path, backend: str, which: str, where: str, is_awaited: bool
) -> None:
    """Whether or not a caller waits for it; the store is closed, and other calls have ended."""
    others: list[Any] = []

    async def main() -> None:
        limits = durable.Limits(shutdown_s_max=0.05)
        async with durable.open(tmp_path / "store", limits=limits) as runtime:
            interrupted = runtime.namespace(Interrupted)
            others.append(interrupted.get_by_name("other").wait())
            call = getattr(interrupted.get_by_name("a"), where)(which)
            if is_awaited:
                try:
                    await call
                except durable.ObjectReset:
                    assert where == "in_section"
            await anyio.sleep(30)

    expected = KeyboardInterrupt if which == "key" else SystemExit
    options = {"use_uvloop": backend == "uvloop"} if backend != "trio" else {}
    with pytest.raises(expected):
        anyio.run(main, backend="trio" if backend == "trio" else "asyncio", backend_options=options)

    assert others[0].is_done
    anyio.run(_reopen, tmp_path / "store")


async def _reopen(folder: Path) -> None:
    async with durable.open(folder):
        pass


# Many busy objects


class Busy(durable.DurableObject):
    may_end: anyio.Event

    async def wait(self) -> str:
        await self.may_end.wait()
        return "waited"


async def test_busy_objects_above_the_limit_are_not_all_looked_at_for_each_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass over them is made for a part of them, or after some time."""
    looks = 0
    is_idle = Activation.is_idle.fget  # type: ignore[attr-defined]

    def counted(activation: Activation) -> bool:
        nonlocal looks
        looks += 1
        return bool(is_idle(activation))

    monkeypatch.setattr(Activation, "is_idle", property(counted))
    clock = durable.testing.VirtualClock()
    limits = durable.Limits(live_objects_max=100, shutdown_s_max=0.01)
    async with durable.testing.open(tmp_path / "store", limits=limits, clock=clock) as runtime:
        busy = runtime.namespace(Busy)
        Busy.may_end = anyio.Event()
        calls = [busy.get_by_name(str(n)).wait() for n in range(600)]
        assert looks < 600 * 25

        Busy.may_end.set()
        assert {await call for call in calls} == {"waited"}
        await clock.advance(61)
        await busy.get_by_name("one more").wait()
        assert runtime.statistics().live_objects <= 100


async def test_a_reset_reaches_the_callers_even_if_the_memory_cannot_be_given_up(
    throwers: durable.Namespace[Thrower],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor does the runtime, as it closes, wait for calls that have their answers."""

    def discard(self: object) -> NoReturn:
        raise RuntimeError("a fault of the library")

    monkeypatch.setattr(ObjectStorage, "discard", discard)
    error = await _error_of(throwers.get_by_name("a").put_and_abort())
    monkeypatch.undo()

    assert isinstance(error, durable.ObjectAborted)
    assert await throwers.get_by_name("a").get("x") is None
    assert "what Thrower('a') had in memory could not be given up" in caplog.text
