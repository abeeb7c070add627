"""Suspended code that is abandoned: freed, with all that it has, and not a line of it runs."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, cast
from weakref import ref

import pytest

from durable._cpython import finalized
from durable._cpython.abandon import abandon
from durable._gates import abandoned

ran: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()


class Owner:
    """Stands for a loop, of which only who it is matters here."""


@pytest.fixture
def loop() -> Any:
    return Owner()


class Outside:
    """Something to wait for that never comes."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Big:
    """Something that a frame has."""


@contextlib.contextmanager
def entered() -> Iterator[None]:
    try:
        yield
    finally:
        ran.append("with")


@contextlib.asynccontextmanager
async def entered_async() -> AsyncIterator[None]:
    try:
        yield
    finally:
        ran.append("async with")


def rows() -> Iterator[int]:
    try:
        yield from (1, 2, 3)
    finally:
        ran.append("rows")


async def items() -> AsyncIterator[int]:
    try:
        yield 1
        await Outside()
        yield 2
    finally:
        ran.append("items")


async def waits() -> None:
    try:
        await Outside()
    except BaseException:
        ran.append("except")
        raise
    finally:
        ran.append("finally")


async def waits_in_calls() -> None:
    try:
        await waits()
    finally:
        ran.append("finally")


async def waits_in_managers() -> None:
    async with entered_async():
        with entered(), contextlib.ExitStack() as stack:
            stack.enter_context(entered())
            await waits()


async def waits_in_loops() -> None:
    with contextlib.closing(cast(Any, rows())) as closing:
        for _ in closing:
            for _ in rows():
                async for _ in items():
                    await waits()


async def waits_in_an_async_generator() -> None:
    async for _ in items():
        ran.append("item")
        ran.clear()


async def waits_while_it_has_generators() -> None:
    sync, coming = rows(), items()
    next(sync)
    await anext(coming)
    await Outside()
    sync.close()  # type: ignore[attr-defined]


async def waits_in_an_except_block() -> None:
    try:
        raise LookupError
    except LookupError:
        await waits()
    finally:
        ran.append("finally")


WAYS: list[Callable[[], Any]] = [
    waits,
    waits_in_calls,
    waits_in_managers,
    waits_in_loops,
    waits_in_an_async_generator,
    waits_while_it_has_generators,
    waits_in_an_except_block,
]


@pytest.mark.skipif(not finalized.CAN_MARK, reason="this Python cannot free what is suspended")
@pytest.mark.parametrize("way", WAYS)
def test_abandoned_code_is_freed_and_does_not_run(way: Callable[[], Any]) -> None:
    """Not its `except` and `finally`, nor those of what it has entered, loops over and keeps."""

    async def has_something(big: Big) -> None:
        await way()

    big = Big()
    coro: Any = has_something(big)
    coro.send(None)
    kept, gone = ref(big), ref(coro)
    del big
    abandon(coro)
    del coro

    assert gone() is None
    gc.collect()
    assert kept() is None
    assert ran == []


@pytest.mark.parametrize(
    ("way", "runs"),
    [
        (waits, {"except", "finally"}),
        (waits_in_managers, {"except", "finally", "with"}),
        (waits_in_loops, {"except", "finally", "rows"}),
        (waits_in_an_async_generator, {"items"}),
        (waits_while_it_has_generators, {"rows"}),
    ],
)
def test_without_that_all_of_that_runs(way: Callable[[], Any], runs: set[str]) -> None:
    """It is what Python does with code that nobody has, and what the test above would see."""
    coro = way()
    coro.send(None)
    del coro
    gc.collect()

    assert runs <= set(ran)


@pytest.mark.skipif(not finalized.CAN_MARK, reason="this Python cannot free what is suspended")
def test_what_somebody_else_has_too_is_left_alone() -> None:
    """A generator that abandoned code shares with others goes on, and is closed in the end."""
    shared = rows()
    next(shared)

    async def reads(source: Iterator[int]) -> None:
        for _ in source:
            await Outside()

    coro = reads(shared)
    coro.send(None)
    abandon(coro)
    del coro
    assert not gc.is_finalized(shared)
    assert next(shared) == 3
    del shared

    assert ran == ["rows"]


@pytest.mark.skipif(not finalized.CAN_MARK, reason="this Python cannot free what is suspended")
def test_abandoned_code_does_not_run_when_the_collector_finds_it() -> None:
    """As when it is referred to by what it has itself."""

    async def knows_itself(known: list[Awaitable[None]]) -> None:
        try:
            await waits()
        finally:
            ran.append("finally")

    known: list[Any] = []
    known.append(knows_itself(known))
    known[0].send(None)
    gone = ref(known[0])
    abandon(known[0])
    del known
    gc.collect()

    assert gone() is None
    assert ran == []


@pytest.mark.skipif(not finalized.CAN_MARK, reason="this Python cannot free what is suspended")
def test_abandoning_runs_nothing_of_what_the_code_has() -> None:
    """A variable may be a proxy, which does who knows what when it is asked what it is."""

    class Proxy:
        @property
        def __class__(self) -> Any:
            ran.append("proxy")
            raise RuntimeError("there is nothing behind it at the moment")

    async def has(proxy: Proxy) -> None:
        await waits()

    coro: Any = has(Proxy())
    coro.send(None)
    abandon(coro)
    del coro

    assert ran == []


def test_where_it_cannot_be_freed_it_is_kept_and_told(
    loop: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a Python that keeps its mark elsewhere; one warning says so when they are many."""
    monkeypatch.setattr(finalized, "CAN_MARK", False)
    monkeypatch.setattr(abandoned, "KEPT_WARNING", 3)
    gone = []
    for _ in range(5):
        coro = waits()
        coro.send(None)
        abandoned.abandon(coro, loop)
        gone.append(ref(coro))
        del coro
    gc.collect()

    assert all(coro() is not None for coro in gone)
    assert ran == []
    assert abandoned.abandoned_in(loop) == 5
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("3 coroutines of objects that were reset")


@pytest.mark.borrows
@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info >= (3, 15), reason="not tried yet"
)
def test_the_pythons_that_we_know_have_the_mark_where_we_look() -> None:
    """The probe finds it; else what is abandoned is kept, and nobody would see why."""
    assert finalized.CAN_MARK or not getattr(sys, "_is_gil_enabled", lambda: True)()
