"""`storage.update`, and lists of keys without values."""

from __future__ import annotations

from typing import Any

import pytest

from durable._model.errors import StoreDamaged
from durable._model.storage_errors import KeyTooLarge, TransactionOver, UnstorableValue
from durable._storage.parts import KEYS_PER_COUNT
from durable._storage.transaction import Transaction

from .fakes import Kit, make_kit, run, stored_kit, value_of


@pytest.fixture
def kit() -> Kit:
    return make_kit()


def add_one(number: int) -> int:
    return number + 1


def test_update_stores_what_the_function_returns(kit: Kit) -> None:
    """At the call, awaited or not; what it returns is what was stored."""
    kit.storage.update("n", add_one, 0)

    assert value_of(kit.storage.update("n", add_one, 0)) == 2
    assert kit.storage.kv.update("n", add_one) == 3
    assert value_of(kit.storage.get("n")) == 3


@pytest.mark.parametrize("inline", [True, False])
def test_update_sees_all_calls_before_it_and_none_after(inline: bool) -> None:
    """P6: also where other reads go to a thread, this one is made in-line."""
    kit = stored_kit({"n": 5}, inline=inline)
    updated = kit.storage.update("n", add_one)
    kit.storage.put("n", 100)

    assert value_of(updated) == 6
    assert value_of(kit.storage.get("n")) == 100


def test_update_gives_the_function_a_copy(kit: Kit) -> None:
    """What it does to the value is stored only if it returns it."""
    kit.storage.put("items", [1])
    kit.storage.update("items", lambda items: [*items, 2] if not items.append(9) else items)

    assert value_of(kit.storage.get("items")) == [1, 9, 2]


def test_an_update_that_fails_stores_nothing(kit: Kit) -> None:
    """The function's error passes; so does that of a value that cannot be stored."""
    kit.storage.put("n", 1)
    with pytest.raises(ZeroDivisionError):
        kit.storage.update("n", lambda n: n // 0)
    with pytest.raises(UnstorableValue):
        kit.storage.update("n", lambda n: object())
    with pytest.raises(TypeError, match="takes a plain function"):
        kit.storage.update("n", later)
    with pytest.raises(TypeError, match="takes a function of the value"):
        kit.storage.update("n", 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="takes a key, a str"):
        kit.storage.update(["n"], add_one)  # type: ignore[call-overload]
    with pytest.raises(KeyTooLarge):
        kit.storage.update("n" * 3_000, add_one)

    assert value_of(kit.storage.get("n")) == 1


async def later(number: Any) -> Any:
    return number


def test_an_update_belongs_to_the_transaction(kit: Kit) -> None:
    """It is undone with it, and refused when that is over."""
    kit.storage.put("n", 1)

    async def closure(txn: Transaction) -> None:
        assert await txn.update("n", add_one) == 2
        txn.rollback()
        with pytest.raises(TransactionOver, match=r"Cannot update\(\)"):
            txn.update("n", add_one)

    run(kit.storage.transaction(closure))
    assert value_of(kit.storage.get("n")) == 1


def test_an_update_whose_function_ends_the_transaction_stores_nothing(kit: Kit) -> None:
    """It belongs to what was rolled back."""
    kit.storage.put("n", 1)

    async def closure(txn: Transaction) -> None:
        def roll_back(number: int) -> int:
            txn.rollback()
            return number + 1

        with pytest.raises(TransactionOver, match=r"Cannot update\(\)"):
            txn.update("n", roll_back)

    run(kit.storage.transaction(closure))
    assert value_of(kit.storage.get("n")) == 1


def test_keys_alone_are_a_list_in_order(kit: Kit) -> None:
    """With the bounds, the order and the limit of `list`."""
    kit.storage.put({"a": 1, "b": 2, "ba": 3})

    assert value_of(kit.storage.list(keys_only=True)) == ["a", "b", "ba"]
    assert value_of(kit.storage.list(keys_only=True, reverse=True, limit=2)) == ["ba", "b"]
    assert kit.storage.kv.list(keys_only=True, prefix="b") == ["b", "ba"]
    assert value_of(kit.storage.list(keys_only=True, start="x", end="b")) == []


@pytest.mark.parametrize("inline", [True, False])
def test_keys_of_the_disk_and_those_on_their_way_are_merged(inline: bool) -> None:
    """However many parts they are read in; no value is read for it."""
    stored = {f"{n:05}": n for n in range(KEYS_PER_COUNT + 5)}
    kit = stored_kit({})
    for key, number in stored.items():
        kit.storage.put(key, number)
    kit.object_storage.seal()
    kit.disk.settle()
    kit.disk.inline = inline
    kit = make_kit(kit.disk)
    kit.storage.delete("00001")
    kit.storage.put("00002+", 1)
    expected = sorted({*stored, "00002+"} - {"00001"})
    lists = [
        (kit.storage.list(keys_only=True), expected),
        (kit.storage.list(keys_only=True, reverse=True), expected[::-1]),
        (kit.storage.list(keys_only=True, limit=3), expected[:3]),
        (kit.storage.list(keys_only=True, start="00001", end="00003"), ["00002", "00002+"]),
    ]
    while kit.disk.reading:
        kit.disk.reading[0].finish()

    for answer, keys in lists:
        assert value_of(answer) == keys
    assert not kit.disk.values_read


def test_keys_can_be_listed_whatever_has_become_of_the_values() -> None:
    """A value that cannot be read is not looked at."""
    kit = stored_kit({"a": 1, "b": 2})
    kit.disk.stored[kit.disk.keyspace]["b"] = b"\xffnothing"

    assert value_of(kit.storage.list(keys_only=True)) == ["a", "b"]
    with pytest.raises(StoreDamaged):
        kit.storage.list()
