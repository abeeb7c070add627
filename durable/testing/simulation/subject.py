"""The object under simulation: each of its operations, written in many ways.

Rule: an operation reads the whole state and changes it in one turn, so that it is one step of the
model. If it waits for the outside it does so before, after, or in a critical section.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from durable._border.alarm import AlarmInfo
from durable._border.ctx import State as ObjectState
from durable._model.messages import Request, Response

from .connections import UNSAID
from .listening import Listening
from .model import PAIR
from .storing import KEYS, READ_STYLES, TURN_STYLES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Refusal(Exception):
    """What an object raises after it has written; carries its answer."""


class Subject(Listening):
    """Carries out the operations that it is asked for, and reports them to the history."""

    def __init__(self, ctx: ObjectState, env: Any) -> None:
        super().__init__(ctx, env)
        self.history.born(self.name, self, ctx._activation)
        self._listen()
        if self.chance.random() < 0.3:
            ctx.block_concurrency_while(self._prepare)

    async def _prepare(self) -> None:
        fails = self.chance.random() < 0.1
        await self._pause(self.chance.randrange(3))
        await self._load(self.chance.randrange(READ_STYLES))
        if fails and self.history.rings_fail:
            raise ValueError("the constructor fails")

    # In

    async def fetch(self, request: Request) -> Response:
        if "upgrade" in request.headers:
            return await self._connect(request)
        order = json.loads(await request.text())
        return Response(json.dumps(await self.do(**order)))

    async def do(
        self, stub: int, number: int, kind: str, change: int, how: dict[str, Any]
    ) -> list[Any]:
        """Carry out one operation, or two where its kind has two; returns for each."""
        self._steps()
        if stub:
            self.history.arrived(self.name, stub, number)
        await self._pause(how["before"])
        answers: list[Any] = await getattr(self, f"_{kind}")(change, how)
        if how["announces"] is not None:
            self._broadcast(change, answers[0][0], how["announces"])
        await self._pause(how["after"])
        return answers

    async def alarm(self, info: AlarmInfo) -> None:
        self._steps()
        due = (info.scheduled_time - EPOCH) // timedelta(microseconds=1)
        stored = self.ctx.storage.kv.get("due")
        ring = self.history.rings(self.name, due, stored, is_retry=info.is_retry)
        fails = self.history.rings_fail and info.retry_count < 3 and self.chance.random() < 0.3
        await self._pause(self.chance.randrange(4))
        if fails:
            raise ValueError("the alarm fails")
        found = await self._load(self.chance.randrange(READ_STYLES))
        changes: dict[str, Any] = {}
        if await self.ctx.storage.get_alarm() is None:
            changes["due"] = None
        self._note(ring.change, found, due)
        await self._write(ring.change, found, changes, self.chance.randrange(TURN_STYLES))

    # Operations

    async def _touch(self, change: int, how: dict[str, Any]) -> list[Any]:
        found = await self._change(change, how, {})
        return [[found["n"] + 1, found.get(PAIR[0], 0)]]

    async def _set(self, change: int, how: dict[str, Any]) -> list[Any]:
        found = await self._change(change, how, {how["key"]: how["value"]})
        return [[found["n"] + 1, found.get(how["key"])]]

    async def _drop(self, change: int, how: dict[str, Any]) -> list[Any]:
        found = await self._load(how["read"])
        self._note(change, found)
        was_there = self.ctx.storage.delete(how["key"], **self._option(change))
        self._write_rows({how["key"]: None})
        await self._write(change, found, {}, how["write"] % TURN_STYLES)
        return [[found["n"] + 1, await was_there]]

    async def _wipe(self, change: int, how: dict[str, Any]) -> list[Any]:
        found = await self._load(how["read"])
        self._note(change, found)
        self.ctx.storage.delete_all(**self._option(change))
        await self._write(change, found, {}, how["write"] % TURN_STYLES)
        return [[found["n"] + 1, None]]

    async def _remind(self, change: int, how: dict[str, Any]) -> list[Any]:
        found = await self._load(how["read"])
        due = self.history.new_due(how["delay"])
        self._note(change, found, due)
        self.ctx.storage.set_alarm(EPOCH + timedelta(microseconds=due), **self._option(change))
        await self._write(change, found, {"due": due}, how["write"] % TURN_STYLES)
        return [[found["n"] + 1, None]]

    async def _forget(self, change: int, how: dict[str, Any]) -> list[Any]:
        found = await self._load(how["read"])
        self._note(change, found)
        await self._write(change, found, {"due": None}, how["write"] % TURN_STYLES)
        self.ctx.storage.delete_alarm(**self._option(change))
        return [[found["n"] + 1, None]]

    async def _read(self, change: int, how: dict[str, Any]) -> list[Any]:
        found = await self._load(how["read"])
        if found.get(PAIR[0], 0) != found.get(PAIR[1], 0):
            self.history.broken(f"P7: {self.name} finds half a change: {found}")
        self.history.made(change, found["n"])
        keys = [[key, found[key]] for key in KEYS if key in found]
        return [[found["n"], found.get(PAIR[0], 0), found.get("due"), keys]]

    async def _refuse(self, change: int, how: dict[str, Any]) -> list[Any]:
        raise Refusal(await self._touch(change, how))

    async def _confirm(self, change: int, how: dict[str, Any]) -> list[Any]:
        answers = await self._touch(change, how)
        bookmarks = self.history.bookmarks
        mark = None if self.history.is_unconfirmed(change) else await bookmarks.take(self.ctx)
        await self.ctx.confirmed()
        self.history.announced(change)
        if self.history.is_live:  # the power has not failed by now
            bookmarks.rely_on(self.name, mark)
        return answers

    async def _sync(self, change: int, how: dict[str, Any]) -> list[Any]:
        answers = await self._touch(change, how)
        await self.ctx.storage.sync()
        self.history.announced(change, all_of_it=True)
        return answers

    async def _hang_up(self, change: int, how: dict[str, Any]) -> list[Any]:
        """A change, and the end of some sockets."""
        answers = await self._touch(change, how)
        for ws in self.ctx.get_websockets()[: how["value"] % 3]:
            self._close(self._connection_of(ws), ws, 4_001, change)
        return answers

    async def _twice(self, change: int, how: dict[str, Any]) -> list[Any]:
        first = await self._touch(change, how)
        await self._pause(how["between"])
        return first + await self._touch(change + 1, how)

    async def _relay(self, change: int, how: dict[str, Any]) -> list[Any]:
        first = await self._touch(change, how)
        other = self.env.SUBJECTS.get_by_name(how["other"])
        second: list[Any] = await other.hear(change + 1, how)
        return first + second

    async def drip(
        self, stub: int, number: int, kind: str, change: int, how: dict[str, Any]
    ) -> AsyncIterator[list[Any]]:
        """Two changes, each of which is said at once, in a stream; made when they are asked for."""
        self._steps()
        await self._pause(how["before"])
        for each in (change, change + 1):
            [answer] = await self._touch(each, how)
            yield answer
            await self._pause(how["between"])

    async def hear(self, change: int, how: dict[str, Any]) -> list[Any]:
        """Another object has made the change before this one, and says so by a call."""
        self._steps()
        self.history.announced(change - 1)
        return await self._touch(change, how)

    async def _alone(self, change: int, how: dict[str, Any]) -> list[Any]:
        """In a critical section what was read is still true after a wait for the outside."""

        async def section() -> list[Any]:
            found = await self._load(how["read"])
            await self._pause(how["between"])
            self._note(change, found)
            await self._write(change, found, {}, how["write"])
            return [[found["n"] + 1, found.get(PAIR[0], 0)]]

        answers: list[Any] = await self.ctx.block_concurrency_while(section)
        return answers

    async def _undone(self, change: int, how: dict[str, Any]) -> list[Any]:
        """A transaction that is thrown away, before a change that is not."""

        async def closure(txn: Any) -> None:
            txn.put({"n": 10_000, PAIR[0]: -1, "k0": -1})
            self._write_rows({"n": 10_000, "k0": None, "k1": -1})
            await self._pause(how["between"])
            if how["value"] % 2:
                raise Refusal
            txn.rollback()

        try:
            await self.ctx.storage.transaction(closure)
        except Refusal:
            pass
        return await self._touch(change, how)

    async def _stop(self, change: int, how: dict[str, Any]) -> list[Any]:
        """What an aborted turn wrote is never seen, and what it said is never heard."""
        if how["between"] < 2:
            self._say_and_abort(how)

        async def section() -> None:
            self._say_and_abort(how)

        await self.ctx.block_concurrency_while(section)
        raise AssertionError("the object was aborted")

    def _say_and_abort(self, how: dict[str, Any]) -> NoReturn:
        if how["write"] % 2:  # else what is said waits for nothing
            self.ctx.storage.put({"n": 20_000, PAIR[0]: -2})
            self._write_rows({"n": 20_000})
        self.env.SUBJECTS.get_by_name(how["other"]).hear_nothing(self.name)
        for ws in self.ctx.get_websockets():
            if self._connection_of(ws).can_say:
                ws.send(UNSAID)
        self.ctx.abort("enough")

    async def hear_nothing(self, name: str) -> None:
        """A call from a turn that was aborted."""
        self.history.broken(f"P14: {self.name} was called in a turn of {name} that was aborted")

    # How

    async def _change(self, change: int, how: dict[str, Any], changes: dict[str, Any]) -> Any:
        found = await self._load(how["read"])
        self._note(change, found)
        await self._write(change, found, changes, how["write"])
        return found

    def _note(self, change: int, found: dict[str, Any], due: int | None = None) -> None:
        self._steps()
        self.history.made(change, found["n"] + 1, due)
