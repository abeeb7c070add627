"""Bookmarks: what they are of, how long there is a way back to them, and what refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import durable
import durable.testing

from .conftest import Ledger, Start, Store, go_back, restart


def time_of(clock: durable.testing.VirtualClock) -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)


async def test_an_object_goes_back_to_a_bookmark_as_it_was(
    runtime: durable.Runtime, ledger: Any
) -> None:
    """Keys and alarm, before its constructor runs, which finds what was there."""
    due = datetime(2100, 1, 1, tzinfo=UTC)
    await ledger().put("a", 1)
    await ledger().set_alarm(due)
    bookmark = await ledger().now()
    await ledger().put("a", 2)
    await ledger().put("b", 3)
    await ledger().set_alarm(None)
    await go_back(runtime, bookmark)

    assert await ledger().found_first() == {"a": 1}
    assert await ledger().all() == {"a": 1}
    assert await ledger().due() == due


async def test_going_back_is_undone_by_the_bookmark_that_it_returns(
    runtime: durable.Runtime, ledger: Any
) -> None:
    """And that again, by the one that this returns."""
    await ledger().put("a", 1)
    bookmark = await ledger().now()
    await ledger().put("a", 2)
    undo = await go_back(runtime, bookmark)
    assert await ledger().all() == {"a": 1}

    redo = await go_back(runtime, undo)

    assert await ledger().all() == {"a": 2}
    await go_back(runtime, redo)
    assert await ledger().all() == {"a": 1}


async def test_nothing_happens_before_the_object_is_built_anew(
    store: Store, runtime: durable.Runtime, ledger: Any
) -> None:
    """By an abort, an eviction, a restart; of several wishes the last one counts."""
    first = await ledger().now()
    await ledger().put("a", 1)
    second = await ledger().now()
    await ledger().put("a", 2)
    await ledger().wish(first)
    await ledger().wish(second)
    assert await ledger().all() == {"a": 2}

    await durable.testing.evict(ledger())

    assert await ledger().all() == {"a": 1}


async def test_a_wish_outlasts_the_program(store: Store) -> None:
    async with store.open() as runtime:
        stub = runtime.namespace(Ledger).get_by_name("a")
        bookmark = await stub.now()
        await stub.put("a", 1)
        await stub.wish(bookmark)
    async with store.open() as runtime:
        assert await runtime.namespace(Ledger).get_by_name("a").found_first() == {}


class Hasty(Ledger):
    async def undo_all(self, bookmark: str) -> None:
        self.ctx.storage.put("a", "in the same turn")
        self.ctx.storage.on_next_session_restore_bookmark(bookmark)
        self.ctx.storage.put("b", "after it")
        self.ctx.abort("going back")


async def test_an_abort_in_the_same_turn_does_not_lose_the_wish(runtime: durable.Runtime) -> None:
    """What the turn wrote before it is kept in the history, what it wrote after it never was."""
    objects = runtime.namespace(Hasty)
    await objects.get_by_name("a").put("a", 1)
    bookmark = await objects.get_by_name("a").now()
    with pytest.raises(durable.ObjectAborted):
        await objects.get_by_name("a").undo_all(bookmark)

    assert await objects.get_by_name("a").found_first() == {"a": 1}


async def test_bookmarks_are_texts_that_sort_by_time(store: Store, ledger: Any) -> None:
    marks = []
    for number in range(4):
        await ledger().put("a", number)
        marks.append(await ledger().now())
        await store.clock.advance(number)

    assert all(isinstance(mark, str) for mark in marks)
    assert marks == sorted(set(marks))


async def test_a_bookmark_for_a_time_is_at_most_a_minute_earlier(
    store: Store, runtime: durable.Runtime, ledger: Any
) -> None:
    """Never later: what was written after that time is not there."""
    start = time_of(store.clock)
    for second in range(0, 300, 20):
        await ledger().put("second", second)
        await store.clock.advance(20)
    for seconds in (7, 59, 60, 133, 299):
        bookmark = await ledger().at(start + timedelta(seconds=seconds))
        undo = await go_back(runtime, bookmark)
        there = (await ledger().all()).get("second", -20)
        assert seconds - 80 <= there <= seconds
        await go_back(runtime, undo)


async def test_a_bookmark_for_a_quiet_time_is_of_that_time(
    store: Store, runtime: durable.Runtime, ledger: Any
) -> None:
    """What was written an hour before it is there, what was written an hour later is not."""
    await ledger().put("a", 1)
    await store.clock.advance(3_600)
    quiet = time_of(store.clock)
    await store.clock.advance(3_600)
    await ledger().put("a", 2)
    await go_back(runtime, await ledger().at(quiet))

    assert await ledger().all() == {"a": 1}


async def test_a_bookmark_that_is_too_old_or_none_says_the_oldest(
    store: Store, ledger: Any
) -> None:
    before = time_of(store.clock)
    await store.clock.advance(10)
    oldest = await ledger().now()
    await store.clock.advance(1)

    for bad in ("0" * 16, "f" * 16, "", "yesterday", oldest.upper() + "A"):
        with pytest.raises(durable.UnknownBookmark, match=oldest) as caught:
            await ledger().wish(bad)
        assert caught.value.oldest == oldest
    with pytest.raises(durable.UnknownBookmark, match=oldest):
        await ledger().at(before)
    with pytest.raises(ValueError, match="still to come"):
        await ledger().at(time_of(store.clock) + timedelta(seconds=1))
    with pytest.raises(TypeError, match="datetime"):
        await ledger().at(17)
    with pytest.raises(TypeError, match="str"):
        await ledger().wish(17)
    await ledger().wish(oldest)


class Forgetful(durable.DurableObject):
    async def now(self) -> str:
        return await self.ctx.storage.get_current_bookmark()

    async def put(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)


async def test_without_a_history_a_bookmark_says_how_to_switch_it_on(
    runtime: durable.Runtime,
) -> None:
    with pytest.raises(durable.DurableError, match=r"history = timedelta\(days=30\)"):
        await runtime.namespace(Forgetful).get_by_name("a").now()


class Closing(Ledger):
    async def within(self) -> None:
        async def closure(txn: durable.Transaction) -> None:
            await self.ctx.storage.get_current_bookmark()

        await self.ctx.storage.transaction(closure)


async def test_a_bookmark_lies_between_transactions(runtime: durable.Runtime) -> None:
    with pytest.raises(durable.DurableError, match="between transactions"):
        await runtime.namespace(Closing).get_by_name("a").within()


@pytest.mark.parametrize(
    ("said", "error"),
    [(30, TypeError), ("30d", TypeError), (timedelta(0), ValueError), (-timedelta(1), ValueError)],
)
async def test_a_history_of_no_length_is_refused_with_the_class(
    runtime: durable.Runtime, said: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="history"):
        runtime.namespace(type("Odd", (durable.DurableObject,), {"history": said}))


class Chat(durable.DurableObject):
    async def history(self) -> list[str]:
        return ["hello"]


async def test_a_method_may_be_called_history(runtime: durable.Runtime) -> None:
    """It is called by stubs as any other, and the class keeps no history."""
    assert await runtime.namespace(Chat).get_by_name("a").history() == ["hello"]


async def test_a_failed_commit_of_the_way_back_leaves_the_wish(
    store: Store, runtime: durable.Runtime, ledger: Any
) -> None:
    """The call that built the object fails; the next one builds it anew, and it goes back."""
    bookmark = await ledger().now()
    await ledger().put("a", 1)
    await ledger().wish(bookmark)
    await restart(ledger())
    store.faults.fail_commits()
    with pytest.raises(durable.CommitFailed):
        await ledger().found_first()
    store.faults.repair()

    assert await ledger().found_first() == {}


async def test_nothing_is_said_before_the_way_back_is_on_disk(
    store: Store, runtime: durable.Runtime, ledger: Any, start: Start[Any]
) -> None:
    """P8 holds for it as for what the object writes itself."""
    bookmark = await ledger().now()
    await ledger().put("a", 1)
    await ledger().wish(bookmark)
    await restart(ledger())
    with store.faults.hold_commits():
        call = start(ledger().found_first())
        await store.settle()

        assert not call.done
    assert await call.result() == {}


class Switching(durable.DurableObject):
    async def put(self, key: str, value: Any) -> None:
        self.ctx.storage.put(key, value)

    async def all(self) -> dict[str, Any]:
        return dict(await self.ctx.storage.list())

    async def now(self) -> str:
        return await self.ctx.storage.get_current_bookmark()

    async def wish(self, bookmark: str) -> str:
        return await self.ctx.storage.on_next_session_restore_bookmark(bookmark)


async def test_what_changed_while_no_history_was_kept_cannot_be_undone(store: Store) -> None:
    """A write without it ends the history; with it there is a new one, from then on."""
    Kept = type("Switching", (Switching,), {"history": timedelta(days=1)})
    async with store.open() as runtime:
        stub = runtime.namespace(Kept).get_by_name("a")
        old = await stub.now()
        await stub.put("a", 1)
    async with store.open() as runtime:
        await runtime.namespace(Switching).get_by_name("a").put("a", 2)
    await store.clock.advance(1)
    async with store.open() as runtime:
        stub = runtime.namespace(Kept).get_by_name("a")
        await stub.put("a", 3)
        with pytest.raises(durable.UnknownBookmark) as caught:
            await stub.wish(old)
        await stub.wish(caught.value.oldest)
        await durable.testing.evict(stub)
        assert await stub.all() == {"a": 2}
