"""P14, P11: what a reset takes back of the turn it comes in, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store


class Session(durable.DurableObject):
    runs = 0

    async def keep(self) -> None:
        self.ctx.storage.put("secret", "x")

    async def stored(self) -> dict[str, Any]:
        return await self.ctx.storage.list()

    async def alarm_at(self) -> Any:
        return await self.ctx.storage.get_alarm()

    async def delete_and_abort(self) -> None:
        self.ctx.storage.put("before", 1)
        await self.ctx.storage.delete_all()
        self.ctx.storage.put("after", 1)
        self.ctx.storage.set_alarm(timedelta(hours=1))
        self.ctx.abort("destroyed")

    async def delete_and_fail_in_a_section(self) -> None:
        async def section() -> None:
            self.ctx.storage.delete_all()
            self.ctx.storage.put("after", 1)
            raise ValueError("after the deletion")

        await self.ctx.block_concurrency_while(section)

    async def write_delete_and_abort(self) -> None:
        """With a batch on its way to the disk, which the deletion is to follow."""
        self.ctx.storage.put("before", 1)
        await anyio.sleep(0)
        await self.delete_and_abort()

    async def delete_wait_and_abort(self) -> None:
        """With the deletion sealed, and waiting for what was on its way before it."""
        self.ctx.storage.put("before", 1)
        await anyio.sleep(0)
        self.ctx.storage.delete_all()
        await anyio.sleep(0)
        self.ctx.storage.put("after", 1)
        self.ctx.abort("destroyed")

    async def transact_and_fail(self) -> None:
        async def write(txn: durable.Transaction) -> None:
            txn.put("kept", 1)

        async def section() -> None:
            await self.ctx.storage.transaction(write)
            self.ctx.storage.put("dropped", 1)
            raise ValueError("after the transaction")

        await self.ctx.block_concurrency_while(section)

    async def transact_and_abort(self) -> None:
        async def write(txn: durable.Transaction) -> None:
            txn.put("kept", 1)

        await self.ctx.storage.transaction(write)
        self.ctx.storage.put("dropped", 1)
        self.ctx.abort("after the transaction")

    async def count_to(self, n: int) -> None:
        """Up to three writes of one turn each, of which the second deletes what was there."""
        for each in range(1, n + 1):
            if each == 2:
                self.ctx.storage.delete_all(allow_unconfirmed=True)
            self.ctx.storage.put("n", each, allow_unconfirmed=True)
            await anyio.sleep(0)

    async def look(self) -> None:
        """Others go on meanwhile."""
        await self.ctx.storage.list(allow_concurrency=True)

    async def reset(self) -> None:
        self.ctx.abort("enough")

    async def expire(self) -> None:
        self.ctx.storage.set_alarm(timedelta(seconds=5))

    async def alarm(self) -> None:
        Session.runs += 1
        await self.ctx.storage.delete_all()
        self.ctx.abort("expired")


@pytest.fixture
async def sessions(runtime: durable.Runtime) -> durable.Namespace[Session]:
    Session.runs = 0
    return runtime.namespace(Session)


DELETIONS: list[Callable[[Any], Any]] = [
    Session.delete_and_abort,
    Session.delete_and_fail_in_a_section,
    Session.write_delete_and_abort,
    Session.delete_wait_and_abort,
]


@pytest.mark.parametrize("method", [each.__name__ for each in DELETIONS])
async def test_a_deletion_of_all_is_kept_and_the_puts_of_its_turn_are_not(
    sessions: durable.Namespace[Session], method: str
) -> None:
    """Whatever resets the object in that turn, as in Cloudflare's runtime."""
    await sessions.get_by_name("a").keep()
    with pytest.raises(durable.ObjectReset):
        await getattr(sessions.get_by_name("a"), method)()

    assert await sessions.get_by_name("a").stored() == {}
    assert await sessions.get_by_name("a").alarm_at() is None


@pytest.mark.parametrize("method", [each.__name__ for each in DELETIONS])
async def test_a_successor_waits_for_the_deletion(
    store: Store, sessions: durable.Namespace[Session], start: Start[Any], method: str
) -> None:
    """It does not find what is about to be deleted."""
    await sessions.get_by_name("a").keep()
    with store.faults.hold_commits():
        with pytest.raises(durable.ObjectReset):
            await getattr(sessions.get_by_name("a"), method)()
        found = start(sessions.get_by_name("a").stored())
        await store.settle()

        assert not found.done

    assert await found.result() == {}


async def test_an_alarm_that_destroys_its_object_rings_once(
    store: Store, sessions: durable.Namespace[Session]
) -> None:
    """The alarm went with all the rest, so it is not tried again."""
    await sessions.get_by_name("a").keep()
    await sessions.get_by_name("a").expire()
    await store.clock.advance(300)

    assert await sessions.get_by_name("a").stored() == {}
    assert Session.runs == 1


async def test_a_deletion_behind_a_commit_that_fails_is_not_made(
    store: Store, sessions: durable.Namespace[Session]
) -> None:
    """What was to follow a batch follows it into nothing."""
    await sessions.get_by_name("a").keep()
    store.faults.fail_commits()
    with store.faults.hold_commits():
        call = sessions.get_by_name("a").write_delete_and_abort()
        await anyio.wait_all_tasks_blocked()
    with pytest.raises(durable.ObjectReset):
        await call

    assert await sessions.get_by_name("a").stored() == {"secret": "x"}


@pytest.mark.parametrize("method", ["transact_and_fail", "transact_and_abort"])
async def test_a_transaction_that_has_answered_is_kept(
    sessions: durable.Namespace[Session], method: str
) -> None:
    """Also where what comes later in its turn resets the object."""
    with pytest.raises(durable.ObjectReset, match="after the transaction"):
        await getattr(sessions.get_by_name("a"), method)()

    assert await sessions.get_by_name("a").stored() == {"kept": 1}


# An in-line read holds nothing up.
@pytest.mark.cold
@pytest.mark.parametrize("last", [1, 2, 3])
async def test_a_write_whose_turn_has_ended_is_kept_though_a_read_holds_it_up(
    store: Store, start: Start[Any], last: int
) -> None:
    """Its caller has its answer, which waits for no unconfirmed write."""
    async with store.open(reads="thread") as runtime:
        stub = runtime.namespace(Session).get_by_name("a")
        await stub.keep()
        await durable.testing.evict(stub)
        with store.faults.hold_reads():
            looking = start(stub.look())
            await store.settle()
            await stub.count_to(last)
            with pytest.raises(durable.ObjectReset, match="enough"):
                await stub.reset()
        with pytest.raises(durable.ObjectReset, match="enough"):
            await looking.result()

        assert (await runtime.namespace(Session).get_by_name("a").stored())["n"] == last
