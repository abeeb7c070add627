"""What `ctx.storage` promises, call by call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable._engine.batch import Alarm
from durable._model.errors import CommitFailed, DurableError, ObjectReset
from durable._model.limits import Limits
from durable._model.storage_errors import (
    KeyTooLarge,
    TooManyKeys,
    TransactionOver,
    UnstorableValue,
    ValueTooLarge,
)
from durable._storage.cache_budget import CacheBudget
from durable._storage.transaction import Transaction

from .fakes import Kit, make_kit, run, stored_kit, value_of

SMALL = Limits(dirty_bytes_max=10)


@pytest.fixture
def kit() -> Kit:
    return make_kit()


def test_a_put_that_is_not_awaited_has_happened(kit: Kit) -> None:
    kit.storage.put("a", 1)

    assert value_of(kit.storage.get("a")) == 1


def test_an_answer_awaited_late_says_what_was_so_at_the_call(kit: Kit) -> None:
    """P6: a call sees what came before it and nothing that came after."""
    kit = stored_kit({"a": 1, "b": 2}, inline=False)
    one, all_of_it = kit.storage.get("a"), kit.storage.list()
    kit.storage.put("a", 9)
    kit.storage.delete("b")
    kit.object_storage.seal()

    assert not kit.disk.waiting  # the batch is kept from reads that began before it
    while kit.disk.reading:
        kit.disk.reading[0].finish()

    assert value_of(one) == 1
    assert value_of(all_of_it) == {"a": 1, "b": 2}
    assert len(kit.disk.waiting) == 1


def test_values_are_copied_in_and_out(kit: Kit) -> None:
    value: list[Any] = [1]
    kit.storage.put("a", value)
    value.append(2)
    value_of(kit.storage.get("a")).append(3)

    assert value_of(kit.storage.get("a")) == [1]


def test_many_keys_come_in_byte_order_each_once_without_those_that_are_missing(kit: Kit) -> None:
    kit.storage.put({"b": 2, "a": None, "\ue000": 3, "\U00010000": 4})

    found = value_of(kit.storage.get(["\U00010000", "b", "b", "x", "\ue000", "a"]))

    assert list(found.items()) == [("a", None), ("b", 2), ("\ue000", 3), ("\U00010000", 4)]


@pytest.mark.parametrize("keys", [["a", "b"], ("a", "b"), {"a", "b"}, {"a": 0, "b": 0}.keys()])
def test_keys_may_come_in_any_collection(kit: Kit, keys: Any) -> None:
    kit.storage.put({"a": 1, "b": 2})

    assert value_of(kit.storage.get(keys)) == {"a": 1, "b": 2}
    assert value_of(kit.storage.delete(keys)) == 2
    assert value_of(kit.storage.delete("a")) is False


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s: s.get("k" * 2_049), KeyTooLarge),
        (lambda s: s.put("é" * 1_025, 1), KeyTooLarge),
        (lambda s: s.put("k", bytes(2_097_153)), ValueTooLarge),
        (lambda s: s.get([str(n) for n in range(129)]), TooManyKeys),
        (lambda s: s.put(dict.fromkeys(map(str, range(129)), 0)), TooManyKeys),
        (lambda s: s.delete([str(n) for n in range(129)]), TooManyKeys),
        (lambda s: s.put("k", object()), UnstorableValue),
        (lambda s: s.put({"a": 1, "b": object()}), UnstorableValue),
        (lambda s: s.put("k"), TypeError),
        (lambda s: s.put({"a": 1}, 2), TypeError),
        (lambda s: s.put(["a"]), TypeError),
        (lambda s: s.put(1, 2), TypeError),
        (lambda s: s.get(1), TypeError),
        (lambda s: s.get([1]), TypeError),
        (lambda s: s.get(b"a"), TypeError),
        (lambda s: s.get(["a"], 1), TypeError),
        (lambda s: s.delete({"a": 1}), TypeError),
        (lambda s: s.put("\ud800", 1), ValueError),
        (lambda s: s.list(prefix=1), TypeError),
        (lambda s: s.list(start="\udfff"), ValueError),
        (lambda s: s.list(limit=0), ValueError),
        (lambda s: s.list(limit=True), TypeError),
        (lambda s: s.transaction(None), TypeError),
    ],
)
def test_bad_arguments_raise_at_the_call_and_write_nothing(
    kit: Kit, call: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        call(kit.storage)

    kit.object_storage.seal()
    assert not kit.disk.waiting
    assert value_of(kit.storage.list()) == {}


def test_a_key_of_2048_bytes_and_an_empty_one_are_keys(kit: Kit) -> None:
    kit.storage.put({"": 1, "k" * 2_048: 2, "k": 3})

    assert list(value_of(kit.storage.list())) == ["", "k", "k" * 2_048]


# Turns and batches


def test_what_a_turn_writes_is_one_batch_with_its_alarm(kit: Kit) -> None:
    kit.storage.put("a", 1)
    kit.storage.set_alarm(timedelta(seconds=5))
    kit.storage.delete("b")
    kit.storage.put("c", 3)
    kit.object_storage.seal()

    (batch,) = kit.disk.waiting
    assert list(batch.puts) == ["a", "c"]
    assert isinstance(batch.alarm, Alarm)
    assert batch.handle.keyspace == 1


def test_turns_join_a_batch_that_has_not_left(kit: Kit) -> None:
    """What a hot object writes while its batch waits for others goes along: each key once."""
    kit.disk.gathers = True
    for n in range(3):
        kit.storage.put("n", n)
        kit.storage.put(f"n{n}", n)
        kit.storage.set_alarm(2_000_000 + n)
        kit.object_storage.seal()

    [batch] = kit.disk.waiting
    assert batch.puts == {"n": b"\x91\x02", "n0": b"\x91\x00", "n1": b"\x91\x01", "n2": b"\x91\x02"}
    assert isinstance(batch.alarm, Alarm)
    assert batch.alarm.scheduled_us == 2_000_002_000_000
    kit.disk.commit()
    kit.storage.put("n", 9)
    kit.object_storage.seal()
    assert len(kit.disk.waiting) == 1
    kit.disk.settle()
    assert kit.storage._buffer.sealed_bytes == 0
    assert kit.storage._records.cache.dirty is None


def test_a_turn_that_somebody_waits_for_makes_a_batch_of_its_own(kit: Kit) -> None:
    """Its number was told, so it has to come."""
    kit.disk.gathers = True
    kit.storage.put("n", 1)
    kit.object_storage.seal()
    kit.storage.put("n", 2)
    synced = kit.storage.sync()
    kit.object_storage.seal()

    assert [batch.puts for batch in kit.disk.waiting] == [{"n": b"\x91\x01"}, {"n": b"\x91\x02"}]
    kit.disk.commit()
    kit.disk.report()
    assert not synced.is_done
    kit.disk.settle()
    assert synced.is_done


def test_a_turn_that_wrote_nothing_makes_no_batch(kit: Kit) -> None:
    kit.storage.get("a")
    kit.object_storage.seal()

    assert not kit.disk.waiting


def test_storing_what_is_stored_writes_nothing_but_a_write_on_its_way_is_confirmed(
    kit: Kit,
) -> None:
    """An equal confirmed write upgrades an unconfirmed one that is not durable yet."""
    kit.storage.put("a", 1, allow_unconfirmed=True)
    assert kit.output.seqno() == 0
    kit.storage.put("a", 1)
    assert kit.output.seqno() == 1
    kit.object_storage.seal()
    kit.disk.settle()

    kit.storage.put("a", 1)
    assert not kit.output.has_unsealed


def test_delete_all_drops_earlier_writes_of_its_turn_and_keeps_later_ones() -> None:
    kit = stored_kit({"a": 1})
    kit.storage.put("b", 2)
    kit.storage.set_alarm(timedelta(1))
    kit.storage.delete_all()
    kit.storage.put("c", 3)
    kit.object_storage.seal()
    kit.disk.settle()

    assert value_of(kit.storage.list()) == {"c": 3}
    assert value_of(kit.storage.get_alarm()) is None
    assert list(kit.disk.stored[kit.disk.keyspace]) == ["c"]
    assert kit.disk.asked == 0


def test_a_new_object_asks_the_disk_nothing(kit: Kit) -> None:
    kit.storage.get("a")
    kit.storage.list(reverse=True, limit=3)
    kit.storage.delete("b")

    assert kit.disk.asked == 0


def test_a_repeated_list_and_its_parts_come_from_memory() -> None:
    kit = stored_kit({"a": 1, "b": 2, "c": 3})
    value_of(kit.storage.list())
    assert kit.disk.asked == 1

    assert value_of(kit.storage.list(reverse=True)) == {"c": 3, "b": 2, "a": 1}
    assert value_of(kit.storage.list(start="b", limit=1)) == {"b": 2}
    assert value_of(kit.storage.get("bb", "none")) == "none"
    assert kit.disk.asked == 1


def test_no_cache_keeps_nothing() -> None:
    kit = stored_kit({"a": 1})
    for _ in range(2):
        assert value_of(kit.storage.get("a", no_cache=True)) == 1
    assert kit.disk.asked == 2
    kit.storage.put("b", 2, no_cache=True)
    kit.object_storage.seal()
    kit.disk.settle()

    assert "b" not in kit.storage._records.cache.entries


# Waiting


def test_too_much_on_its_way_makes_writers_wait_until_there_is_room() -> None:
    kit = make_kit(limits=SMALL)
    assert kit.object_storage.buffer.has_room
    kit.storage.put("a", "x" * 20)
    kit.object_storage.seal()
    answers = [kit.storage.put("b", 1), kit.storage.delete("a"), kit.storage.delete_alarm()]
    assert kit.gate.holds == 3
    assert not kit.object_storage.buffer.has_room

    kit.disk.settle()

    assert [value_of(answer) for answer in answers] == [None, True, None]
    assert kit.gate.holds == 0


def test_sync_waits_for_what_was_written_before_it_and_holds_no_gate(kit: Kit) -> None:
    value_of(kit.storage.sync())
    kit.storage.put("a", 1, allow_unconfirmed=True)
    answer: Any = kit.storage.sync()
    kit.object_storage.seal()
    kit.storage.put("b", 1)
    kit.object_storage.seal()
    assert not answer.is_done

    kit.disk.commit()
    kit.disk.report()

    assert answer.is_done
    assert kit.gate.holds == 0


def test_a_read_that_fails_rejects_only_itself() -> None:
    kit = stored_kit({"a": 1}, inline=False)
    answer: Any = kit.storage.get("a")
    kit.disk.reading[0].fail(DurableError("too many are reading", retryable=True))

    with pytest.raises(DurableError, match="too many"):
        run(answer)
    assert not kit.failed
    assert kit.gate.holds == 0


def test_allow_concurrency_holds_no_gate() -> None:
    kit = stored_kit({"a": 1}, inline=False)
    kit.storage.get("a", allow_concurrency=True)
    assert kit.gate.holds == 0
    kit.storage.get("a")
    assert kit.gate.holds == 1


def test_kv_takes_every_option_of_the_call_of_the_same_name(kit: Kit) -> None:
    """So that taking away `await` is all there is to do; where nothing waits, some say nothing."""
    kit = stored_kit({"a": 1}, inline=False)
    for storage in (kit.storage.kv, kit.storage):
        storage.put("b", 2, allow_concurrency=True, allow_unconfirmed=True, no_cache=True)
        storage.get("a", allow_concurrency=True, no_cache=True)
        storage.list(allow_concurrency=True, no_cache=True)
        storage.delete("b", allow_concurrency=True, allow_unconfirmed=True, no_cache=True)
    assert kit.gate.holds == 0
    assert kit.storage.kv.list() == {"a": 1}


def test_a_failed_commit_is_told_once_and_later_calls_raise_its_reason() -> None:
    kit = make_kit(limits=SMALL)
    kit.storage.put("a", "x" * 20)
    kit.object_storage.seal()
    kit.storage.put("b", 1)
    kit.object_storage.seal()
    waits: list[Any] = [kit.storage.put("c", 1), kit.storage.sync()]
    kit.disk.fail(CommitFailed("no fsync"))

    assert len(kit.failed) == 1
    assert all(isinstance(wait.error, CommitFailed) for wait in waits)
    for call in (
        lambda: kit.storage.get("a"),
        lambda: kit.storage.put("a", 1),
        kit.storage.kv.list,
        kit.storage.sync,
        kit.storage.get_alarm,
    ):
        with pytest.raises(CommitFailed):
            call()


def test_a_discarded_object_gives_its_share_back() -> None:
    budget = CacheBudget(1 << 20)
    kit = make_kit(budget=budget)
    kit.storage.put("a", 1)
    assert budget.size > 0
    kit.gate.shut_out(ObjectReset("gone"))
    kit.object_storage.discard()

    assert budget.size == 0


def test_the_objects_called_longest_ago_give_way_first() -> None:
    budget = CacheBudget(3_000)
    kits = [make_kit(budget=budget) for _ in range(3)]
    for kit in kits:
        budget.touch(kit.object_storage.cache)
        kit.storage.put("a", "x" * 700)
        kit.object_storage.seal()
        kit.disk.settle()
    budget.touch(kits[0].object_storage.cache)
    kits[2].storage.put("b", "x" * 700)

    assert [len(kit.storage._records.cache.entries) for kit in kits] == [1, 0, 2]
    assert budget.size <= budget.size_max


# Alarms


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (2_000_000, datetime(1970, 1, 24, 3, 33, 20, tzinfo=UTC)),
        (2_000_000.000_001, datetime(1970, 1, 24, 3, 33, 20, 1, tzinfo=UTC)),
        (timedelta(seconds=1), datetime.fromtimestamp(1_000_001, UTC)),
        (1, datetime.fromtimestamp(1_000_000, UTC)),  # it has passed: now
        (datetime(2100, 1, 1), datetime(2100, 1, 1).astimezone(UTC)),
    ],
)
def test_an_alarm_is_kept_to_the_microsecond_in_utc(
    kit: Kit, time: Any, expected: datetime
) -> None:
    kit.storage.set_alarm(time)

    answer = value_of(kit.storage.get_alarm())
    assert answer == expected
    assert answer.tzinfo is UTC


@pytest.mark.parametrize(
    ("time", "error"),
    [
        (0, ValueError),
        (-1.5, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**20, ValueError),
        (timedelta.max, ValueError),
        (timedelta(days=-20_000), ValueError),
        (True, TypeError),
        ("soon", TypeError),
        (None, TypeError),
    ],
)
def test_what_is_no_time_for_an_alarm_raises(kit: Kit, time: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        kit.storage.set_alarm(time)
    assert value_of(kit.storage.get_alarm()) is None


def test_a_class_without_a_handler_sets_an_alarm_only_in_its_constructor() -> None:
    kit = make_kit(has_alarm_handler=False)
    with pytest.raises(TypeError, match=r"must have an alarm\(\) handler"):
        kit.storage.set_alarm(2_000_000)
    kit.object_storage.constructing = True
    kit.storage.set_alarm(2_000_000)


def test_an_alarm_is_not_seen_while_it_rings_and_is_deleted_when_that_went_well(kit: Kit) -> None:
    kit.storage.set_alarm(2_000_000)
    kit.object_storage.seal()
    kit.object_storage.begin_alarm()
    assert value_of(kit.storage.get_alarm()) is None
    assert kit.object_storage.end_alarm(False)
    assert value_of(kit.storage.get_alarm()) is not None
    kit.object_storage.begin_alarm()
    assert kit.object_storage.end_alarm(True)
    kit.object_storage.seal()
    kit.disk.settle()
    assert kit.disk.alarm is None


def test_an_alarm_set_while_another_rings_stays(kit: Kit) -> None:
    kit.storage.set_alarm(2_000_000)
    kit.object_storage.begin_alarm()
    kit.storage.set_alarm(3_000_000)

    assert not kit.object_storage.end_alarm(True)
    assert value_of(kit.storage.get_alarm()).timestamp() == 3_000_000


# Transactions


def test_a_transaction_is_kept_whole_and_nothing_of_it_is_sealed_before(kit: Kit) -> None:
    async def closure(txn: Transaction) -> str:
        txn.put("a", 1)
        kit.storage.kv.put("b", 2)
        kit.object_storage.seal()
        assert not kit.disk.waiting
        assert kit.output.seqno() == 0
        assert await txn.get("b") == 2
        return "done"

    assert run(kit.storage.transaction(closure)) == "done"
    kit.object_storage.seal()
    assert list(kit.disk.waiting[0].puts) == ["a", "b"]


def test_an_exception_undoes_a_transaction_and_passes_on(kit: Kit) -> None:
    kit.storage.put("a", 1)

    async def closure(txn: Transaction) -> None:
        txn.put("a", 2)
        txn.set_alarm(2_000_000)
        raise LookupError

    with pytest.raises(LookupError):
        run(kit.storage.transaction(closure))
    assert value_of(kit.storage.get("a")) == 1
    assert value_of(kit.storage.get_alarm()) is None
    assert not kit.failed


def test_a_rollback_ends_the_transaction_and_an_outer_one_undoes_an_inner(kit: Kit) -> None:
    async def inner(txn: Transaction) -> None:
        txn.put("a", 2)

    async def outer(txn: Transaction) -> int:
        await kit.storage.transaction(inner)
        assert await txn.get("a") == 2
        txn.rollback()
        await txn.rollback()
        with pytest.raises(TransactionOver, match=r"Cannot get\(\) on rolled back transaction"):
            txn.get("a")
        return 5

    assert run(kit.storage.transaction(outer)) == 5
    assert value_of(kit.storage.list()) == {}


def test_an_outer_transaction_cannot_be_rolled_back_while_an_inner_runs(kit: Kit) -> None:
    async def outer(txn: Transaction) -> None:
        async def inner(_: Transaction) -> None:
            with pytest.raises(TransactionOver, match="while a nested transaction is still"):
                txn.rollback()

        await kit.storage.transaction(inner)

    run(kit.storage.transaction(outer))


def test_a_transaction_that_has_ended_takes_no_calls(kit: Kit) -> None:
    kept: list[Transaction] = []

    async def closure(txn: Transaction) -> None:
        kept.append(txn)
        with pytest.raises(DurableError, match=r"delete_all\(\) within a transaction"):
            txn.delete_all()
        with pytest.raises(DurableError, match=r"delete_all\(\) within a transaction"):
            kit.storage.delete_all()

    run(kit.storage.transaction(closure))
    for call in (lambda: kept[0].put("a", 1), kept[0].rollback, kept[0].get_alarm):
        with pytest.raises(TransactionOver, match="did you move `txn` outside of the closure"):
            call()
