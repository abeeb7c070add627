"""Objects of Workers go back in time, as Cloudflare's with SQLite do, with nothing said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import durable
from durable.testing import VirtualClock

from .conftest import CONFIG, Opened, Run

pytestmark = pytest.mark.backends("asyncio", "uvloop")

CODE = """
import datetime
import js
from workers import DurableObject

class Thing(DurableObject):
    history = "a name that an author may use"

    async def write(self, value):
        self.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS t (n)")
        self.ctx.storage.sql.exec("INSERT INTO t VALUES (?)", value)
        await self.ctx.storage.put("value", value)
        return await self.ctx.storage.getCurrentBookmark()

    async def read(self):
        rows = self.ctx.storage.sql.exec("SELECT n FROM t").toArray()
        return [await self.ctx.storage.get("value"), [row["n"] for row in rows]]

    async def go_back(self, bookmark):
        return await self.ctx.storage.onNextSessionRestoreBookmark(bookmark)

    async def end(self):
        self.ctx.abort("going back")

    async def bookmarks_of(self, ms):
        storage = self.ctx.storage
        at = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
        return [
            await storage.getBookmarkForTime(ms),
            await storage.getBookmarkForTime(js.Date.new(ms)),
            await storage.get_bookmark_for_time(at),
        ]

    async def refused(self, call, argument):
        try:
            await getattr(self.ctx.storage, call)(argument)
        except js.Error as error:
            return [type(error).__name__, error.message]

    async def within_transaction(self):
        async def run(transaction):
            return await self.ctx.storage.getCurrentBookmark()
        try:
            await self.ctx.storage.transaction(run)
        except js.Error as error:
            return error.message
"""


async def end(opened: Opened) -> None:
    """End the instance; a new stub reaches the next one."""
    with pytest.raises(durable.ObjectAborted):
        await opened.thing.end()


async def test_an_object_goes_back_to_a_bookmark_and_forth_again(run: Run) -> None:
    """Its keys and its SQL together, once it is built anew."""
    async with run(CODE) as opened:
        thing = opened.thing
        before = await thing.write(1)
        after = await thing.write(2)
        undo = await thing.go_back(before)
        assert before < after <= undo
        assert await thing.read() == [2, [1, 2]]

        await end(opened)
        assert await opened.thing.read() == [1, [1]]

        await opened.thing.go_back(undo)
        await end(opened)
        assert await opened.thing.read() == [2, [1, 2]]


async def test_a_time_is_given_in_milliseconds_or_as_a_date(run: Run) -> None:
    clock = VirtualClock()
    async with run(CODE, clock=clock) as opened:
        thing = opened.thing
        await thing.write(1)
        await clock.advance(600)
        then_ms = int(clock.now() * 1000)
        await clock.advance(600)
        await thing.write(2)

        first, *others = await thing.bookmarks_of(then_ms)
        assert others == [first, first]

        await thing.go_back(first)
        await end(opened)
        assert await opened.thing.read() == [1, [1]]


@pytest.mark.parametrize(
    ("call", "argument", "refusal"),
    [
        ("onNextSessionRestoreBookmark", "no bookmark", "no bookmark"),
        ("getBookmarkForTime", 0, "history"),
        ("getBookmarkForTime", 32_503_680_000_000, "still to come"),
    ],
)
async def test_there_is_no_way_to_what_no_history_has(
    run: Run, call: str, argument: Any, refusal: str
) -> None:
    async with run(CODE) as opened:
        await opened.thing.write(1)

        name, message = await opened.thing.refused(call, argument)

        assert name == "JsRangeError"
        assert refusal in message


async def test_there_are_no_bookmarks_within_a_transaction(run: Run) -> None:
    async with run(CODE) as opened:
        assert "between transactions" in await opened.thing.within_transaction()


async def test_the_configuration_says_how_long_the_objects_of_a_class_can_go_back(
    run: Run, tmp_path: Path
) -> None:
    """30 days, where it says nothing."""
    clock = VirtualClock()
    for days, config in ((30, CONFIG), (1, CONFIG + "[history]\nThing = 1\n")):
        async with run(CODE, config, path=tmp_path / f"{days}", clock=clock) as opened:
            thing = opened.thing
            bookmark = await thing.write(1)
            await clock.advance((days - 0.5) * 86_400)
            assert await thing.refused("onNextSessionRestoreBookmark", bookmark) is None

            await clock.advance(86_400)
            await thing.write(2)
            _, message = await thing.refused("onNextSessionRestoreBookmark", bookmark)
            assert "too old" in message
