"""P11: a transaction's closure runs once, alone; its writes are kept whole or thrown away."""

from __future__ import annotations

import datetime as dt
from typing import Any

import anyio
import pytest

import durable
import durable.testing

from .conftest import Start, Store

DOORS: dict[str, anyio.Event] = {}
LOG: list[Any] = []
Txn = durable.Transaction


@pytest.fixture(autouse=True)
def fresh() -> None:
    DOORS.clear()
    DOORS.update(door=anyio.Event())
    LOG.clear()


class Bank(durable.DurableObject):
    """Moves money in transactions of every kind."""

    def setup(self) -> None:
        self.ctx.storage.put({"a": 10, "b": 20})

    async def all(self) -> dict[str, Any]:
        return await self.ctx.storage.list()

    async def move(self, amount: int) -> int:
        async def closure(txn: Txn) -> int:
            LOG.append("closure")
            a = await txn.get("a") - amount
            txn.put("a", a)
            await anyio.sleep(0.001)  # the outside; still nobody is let in
            txn.put("b", await txn.get("b") + amount)
            return int(a)

        return await self.ctx.storage.transaction(closure)

    async def raise_inside(self) -> str:
        async def closure(txn: Txn) -> None:
            txn.put("a", "wrong")
            txn.delete("b")
            txn.put("c", "new")
            self.ctx.storage.put("d", "new")
            txn.set_alarm(1e10)
            raise LookupError("from inside")

        try:
            await self.ctx.storage.transaction(closure)
        except LookupError as error:
            return str(error)
        return "nothing raised"

    async def roll_back(self) -> Any:
        async def closure(txn: Txn) -> str:
            txn.put("a", "wrong")
            await anyio.sleep(0)
            txn.delete(["b"])
            txn.rollback()
            txn.rollback()  # may be repeated
            LOG.append(await self.ctx.storage.get("a"))
            return "the closure's answer"

        return await self.ctx.storage.transaction(closure)

    async def use_after_rollback(self) -> list[str]:
        said: list[str] = []

        async def closure(txn: Txn) -> None:
            txn.rollback()
            said.extend(_try_everything(txn))

        await self.ctx.storage.transaction(closure)
        return said

    async def use_after_end(self) -> list[str]:
        kept: list[Txn] = []

        async def closure(txn: Txn) -> None:
            kept.append(txn)

        await self.ctx.storage.transaction(closure)
        said = _try_everything(kept[0])
        try:
            kept[0].rollback()
        except durable.TransactionOver as error:
            said.append(str(error))
        return said

    async def seen_inside(self) -> list[Any]:
        async def closure(txn: Txn) -> list[Any]:
            txn.put("a", 1)
            self.ctx.storage.put("b", 2)
            self.ctx.storage.kv.put("c", 3)
            txn.delete("d")
            return [
                await txn.get("b"),
                await self.ctx.storage.get("a"),
                self.ctx.storage.kv.get("a"),
                await txn.list(),
                await txn.get(["a", "c"]),
                await txn.delete("never there"),
                await txn.delete(["c", "x"]),
            ]

        return await self.ctx.storage.transaction(closure)

    async def storage_calls_are_rolled_back(self) -> None:
        async def closure(txn: Txn) -> None:
            self.ctx.storage.put("a", "wrong")
            self.ctx.storage.kv.put("b", "wrong")
            self.ctx.storage.kv.delete("a")
            self.ctx.storage.set_alarm(1e10)
            txn.rollback()

        await self.ctx.storage.transaction(closure)

    async def nested(self, outer: str, inner: str) -> None:
        async def inside(txn: Txn) -> None:
            txn.put("b", "inner")
            if inner == "roll back":
                txn.rollback()
            elif inner == "raise":
                raise LookupError("inner")

        async def outside(txn: Txn) -> None:
            txn.put("a", "outer")
            try:
                await self.ctx.storage.transaction(inside)
            except LookupError:
                LOG.append("inner raised")
            LOG.append(await txn.get("b"))
            if outer == "roll back":
                txn.rollback()
            elif outer == "raise":
                raise LookupError("outer")

        try:
            await self.ctx.storage.transaction(outside)
        except LookupError:
            LOG.append("outer raised")

    async def roll_back_around_a_running_one(self) -> str:
        async def inside(txn: Txn) -> str:
            try:
                DOORS["txn"].rollback()  # type: ignore[attr-defined]
            except durable.TransactionOver as error:
                return str(error)
            return "rolled back"

        async def outside(txn: Txn) -> str:
            DOORS["txn"] = txn  # type: ignore[assignment]
            return await self.ctx.storage.transaction(inside)

        return await self.ctx.storage.transaction(outside)

    async def delete_all_inside(self) -> list[str]:
        async def closure(txn: Txn) -> list[str]:
            said = []
            for delete_all in (txn.delete_all, self.ctx.storage.delete_all):
                try:
                    delete_all()
                except durable.DurableError as error:
                    said.append(str(error))
            return said

        return await self.ctx.storage.transaction(closure)

    async def starts_when_the_turn_ends(self) -> list[Any]:
        async def closure(txn: Txn) -> Any:
            LOG.append("closure")
            return await txn.get("a")

        answer = self.ctx.storage.transaction(closure)
        LOG.append("called")
        self.ctx.storage.put("a", "of the turn")
        return [await answer]

    async def in_a_row(self) -> list[int]:
        async def closure(txn: Txn) -> int:
            value = await txn.get("n", 0)
            await anyio.sleep(0)
            txn.put("n", value + 1)
            return int(value)

        answers = [self.ctx.storage.transaction(closure) for _ in range(3)]
        return [await answer for answer in answers]

    async def waits(self) -> str:
        async def closure(txn: Txn) -> str:
            txn.put("a", "waiting")
            LOG.append("inside")
            await DOORS["door"].wait()
            LOG.append("end")
            return "done"

        result = await self.ctx.storage.transaction(closure)
        LOG.append("after")
        return result

    async def waits_in_tasks(self) -> None:
        async def write(txn: Txn, key: str) -> None:
            await anyio.sleep(0.001)
            txn.put(key, True)

        async def closure(txn: Txn) -> None:
            async with anyio.create_task_group() as tasks:
                for key in "xyz":
                    tasks.start_soon(write, txn, key)

        await self.ctx.storage.transaction(closure)

    async def not_async(self) -> str:
        try:
            await self.ctx.storage.transaction(lambda txn: txn.put)  # type: ignore[arg-type,return-value]
        except TypeError as error:
            return str(error)
        return "nothing raised"

    async def aborts_inside(self) -> None:
        async def closure(txn: Txn) -> None:
            txn.put("a", "wrong")
            self.ctx.abort("inside a transaction")

        await self.ctx.storage.transaction(closure)

    async def alarm_inside(self, keep: bool) -> None:
        async def closure(txn: Txn) -> None:
            assert await txn.get_alarm() == dt.datetime.fromtimestamp(1e10, dt.UTC)
            txn.set_alarm(2e10)
            assert await self.ctx.storage.get_alarm() == dt.datetime.fromtimestamp(2e10, dt.UTC)
            txn.delete_alarm()
            assert await txn.get_alarm() is None
            if not keep:
                txn.rollback()

        self.ctx.storage.set_alarm(1e10)
        await self.ctx.storage.transaction(closure)

    async def get_alarm(self) -> dt.datetime | None:
        return await self.ctx.storage.get_alarm()

    async def alarm(self) -> None: ...

    async def visit(self) -> None:
        LOG.append("visit")


def _try_everything(txn: Txn) -> list[str]:
    said = []
    for call in (
        lambda: txn.get("a"),
        lambda: txn.put("a", 1),
        lambda: txn.delete("a"),
        txn.list,
        txn.get_alarm,
        lambda: txn.set_alarm(1e10),
        txn.delete_alarm,
    ):
        try:
            call()
        except durable.TransactionOver as error:
            said.append(str(error))
    return said


@pytest.fixture(params=["inline", "thread"])
async def bank(store: Store, request: pytest.FixtureRequest) -> Any:
    async with store.open(reads=request.param) as runtime:
        stub = runtime.namespace(Bank).get_by_name("a")
        await stub.setup()
        await durable.testing.evict(stub)
        yield stub


async def after_restart(bank: durable.Stub[Bank]) -> dict[str, Any]:
    """What a new instance reads from the disk; the same as what the old one said."""
    before = await bank.all()
    await durable.testing.evict(bank)
    assert await bank.all() == before
    return before


async def test_a_closure_that_returns_is_kept_whole(bank: durable.Stub[Bank]) -> None:
    """Its answer is the transaction's; it ran once."""
    assert await bank.move(3) == 7

    assert await after_restart(bank) == {"a": 7, "b": 23}
    assert LOG == ["closure"]


async def test_an_exception_throws_all_away_and_passes_on(bank: durable.Stub[Bank]) -> None:
    """To whoever awaits it; the object is not reset."""
    assert await bank.raise_inside() == "from inside"

    assert await after_restart(bank) == {"a": 10, "b": 20}
    assert await bank.get_alarm() is None


async def test_a_rollback_throws_all_away(bank: durable.Stub[Bank]) -> None:
    """The closure goes on, and its answer is still the transaction's."""
    assert await bank.roll_back() == "the closure's answer"

    assert LOG == [10]
    assert await after_restart(bank) == {"a": 10, "b": 20}


async def test_calls_after_a_rollback_are_refused(bank: durable.Stub[Bank]) -> None:
    """Each by its name."""
    said = await bank.use_after_rollback()

    assert [text.split(" on ")[0] for text in said] == [
        f"Cannot {name}()"
        for name in ("get", "put", "delete", "list", "get_alarm", "set_alarm", "delete_alarm")
    ]


async def test_calls_after_the_end_are_refused(bank: durable.Stub[Bank]) -> None:
    """A `txn` does not outlive its closure; not even its rollback."""
    said = await bank.use_after_end()

    assert len(said) == 8
    assert all("already committed" in text for text in said)


async def test_its_writes_are_seen_inside(bank: durable.Stub[Bank]) -> None:
    """Through `txn`, `storage` and `kv` alike: calls on all of them belong to it."""
    inside = {"a": 1, "b": 2, "c": 3}

    assert await bank.seen_inside() == [2, 1, 1, inside, {"a": 1, "c": 3}, False, 1]
    assert await after_restart(bank) == {"a": 1, "b": 2}


async def test_storage_calls_inside_are_rolled_back_too(bank: durable.Stub[Bank]) -> None:
    """The alarm as well."""
    await bank.storage_calls_are_rolled_back()

    assert await after_restart(bank) == {"a": 10, "b": 20}
    assert await bank.get_alarm() is None


@pytest.mark.parametrize("outer", ["commit", "roll back", "raise"])
@pytest.mark.parametrize("inner", ["commit", "roll back", "raise"])
async def test_transactions_nest(bank: durable.Stub[Bank], outer: str, inner: str) -> None:
    """An inner one is undone alone; an outer one takes a committed inner one with it."""
    await bank.nested(outer, inner)

    b = "inner" if inner == "commit" else 20
    assert b in LOG
    kept = outer == "commit"
    assert await after_restart(bank) == {"a": "outer" if kept else 10, "b": b if kept else 20}


async def test_an_outer_rollback_waits_for_the_inner_one(bank: durable.Stub[Bank]) -> None:
    """It is refused while the inner one runs."""
    assert "nested transaction" in await bank.roll_back_around_a_running_one()


async def test_delete_all_inside_is_an_error(bank: durable.Stub[Bank]) -> None:
    """On `txn` and on `storage`; nothing is deleted."""
    assert len(await bank.delete_all_inside()) == 2
    assert await bank.all() == {"a": 10, "b": 20}


async def test_the_closure_starts_when_the_turn_ends(bank: durable.Stub[Bank]) -> None:
    """What the turn wrote after the call is there already."""
    assert await bank.starts_when_the_turn_ends() == ["of the turn"]
    assert LOG == ["called", "closure"]


async def test_transactions_of_one_turn_run_one_after_the_other(
    bank: durable.Stub[Bank],
) -> None:
    """Each alone."""
    assert await bank.in_a_row() == [0, 1, 2]


async def test_nothing_else_is_delivered_meanwhile(
    store: Store, bank: durable.Stub[Bank], start: Start[Any]
) -> None:
    """Until it has ended and its awaiter has gone on."""
    call = start(bank.waits())
    await store.settle()
    visit = start(bank.visit())
    await store.settle()

    assert LOG == ["inside"]

    DOORS["door"].set()
    assert await call.result() == "done"
    await visit.result()
    assert LOG == ["inside", "end", "after", "visit"]


async def test_nothing_of_a_running_transaction_is_committed(
    store: Store, start: Start[Any]
) -> None:
    """A crash in its middle leaves none of it."""
    async with store.open() as runtime:
        stub = runtime.namespace(Bank).get_by_name("a")
        await stub.setup()
        start(stub.waits())
        await store.settle()
        store.faults.lose_power()
        DOORS["door"].set()
        await store.settle()

    store.faults.repair()
    async with store.open() as runtime:
        assert await runtime.namespace(Bank).get_by_name("a").all() == {"a": 10, "b": 20}


async def test_its_tasks_belong_to_it(bank: durable.Stub[Bank]) -> None:
    """A closure may fan out."""
    await bank.waits_in_tasks()

    assert await bank.all() == {"a": 10, "b": 20, "x": True, "y": True, "z": True}


async def test_thirty_seconds_reset_the_object(
    store: Store, bank: durable.Stub[Bank], start: Start[Any]
) -> None:
    """As in any critical section; what it wrote is gone."""
    call = start(bank.waits())
    await store.clock.advance(29)
    assert not call.done
    await store.clock.advance(2)

    with pytest.raises(durable.ObjectReset, match="waited for too long"):
        await call.result()


async def test_an_abort_inside_drops_it(store: Store, start: Start[Any]) -> None:
    """With the object."""
    async with store.open() as runtime:
        banks = runtime.namespace(Bank)
        await banks.get_by_name("a").setup()
        with pytest.raises(durable.ObjectAborted, match="inside a transaction"):
            await banks.get_by_name("a").aborts_inside()
        assert await banks.get_by_name("a").all() == {"a": 10, "b": 20}


@pytest.mark.parametrize("keep", [True, False])
async def test_alarms_belong_to_it(bank: durable.Stub[Bank], keep: bool) -> None:
    """Set, read, deleted and rolled back with the rest."""
    await bank.alarm_inside(keep)

    expected = None if keep else dt.datetime.fromtimestamp(1e10, dt.UTC)
    assert await bank.get_alarm() == expected
    await durable.testing.evict(bank)
    assert await bank.get_alarm() == expected


async def test_what_is_no_async_function_is_a_type_error(bank: durable.Stub[Bank]) -> None:
    """Said to whoever awaits it; the object lives on."""
    assert "async function" in await bank.not_async()
    assert await bank.all() == {"a": 10, "b": 20}
