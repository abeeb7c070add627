"""Cache, write buffer, transactions and disk together are a dict, whatever happens when.

Hypothesis writes, reads, seals, commits, reports, evicts, fails and rolls back in any order; a
plain dict says what every read must answer, and what every cache entry must hold.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from durable._engine.side_records import HISTORY, OWN, PAGES
from durable._gates.futures import Answer, PendingAnswer
from durable._model.errors import CommitFailed, DurableError
from durable._storage import parts, records
from durable._storage.cache import ENTRY_SIZE, UNKNOWN
from durable._storage.key_ranges import range_of
from durable._storage.transaction import Transaction

from .fakes import FakeDisk, Kit, make_kit, run

KEYS = ["", "a", "a\0", "aa", "ab", "b", "ba", "\ud7ff", "\ue000", "\U0010ffff"]
STEPS = 3_000
SIDE_KEYS = [OWN, OWN + b"a", OWN + b"b", HISTORY + b"\xff", PAGES + b"\0\0\0\1"]
keys = st.sampled_from(KEYS)
side_keys = st.sampled_from(SIDE_KEYS)
values = st.one_of(st.none(), st.integers(0, 3), st.text(max_size=40))
bounds = st.one_of(st.none(), keys)
flags = st.booleans()


class Pause:
    """Where a closure waits until the test lets it on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Rollback(Exception):
    pass


class StorageIsADict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.disk = FakeDisk()
        self.kit: Kit = make_kit(self.disk)
        self.model: dict[str | bytes, Any] = {}  # side records too, whose keys are bytes
        self.alarm: int | None = None
        self.sealed: list[tuple[dict[str | bytes, Any], int | None]] = [({}, None)]
        self.committed = 0
        self.expected: list[tuple[PendingAnswer[Any], Any]] = []
        # Of each transaction that runs: its coroutine, txn, and what was before it.
        self.running: list[tuple[Any, Transaction, dict[str | bytes, Any], int | None]] = []
        self.patch = pytest.MonkeyPatch()

    def teardown(self) -> None:
        self.patch.undo()

    # Reads

    @rule(count=st.sampled_from([1, 2, 3, 1_000]), size=st.sampled_from([1, 8, 1 << 20]))
    def choose_parts(self, count: int, size: int) -> None:
        """Lists and counts are read in parts of this size from now on."""
        for module in (parts, records):
            self.patch.setattr(module, "KEYS_PER_PART", count)
        self.patch.setattr(parts, "KEYS_PER_COUNT", count)
        self.patch.setattr(parts, "PART_SIZE_MAX", size)
        self.patch.setattr(parts, "KEYS_LEARNED_MAX", 4 * count)

    def check(self, answer: Answer[Any], expected: Any) -> None:
        if isinstance(answer, PendingAnswer) and not answer.is_done:
            self.expected.append((answer, expected))
        else:
            assert repr(run(answer)) == repr(expected)

    @rule(key=keys, no_cache=flags, sync=flags)
    def get(self, key: str, no_cache: bool, sync: bool) -> None:
        expected = self.model.get(key, "missing")
        storage = self.kit.storage
        if sync:
            assert repr(storage.kv.get(key, "missing", no_cache=no_cache)) == repr(expected)
        else:
            self.check(storage.get(key, "missing", no_cache=no_cache), expected)

    @rule(asked=st.lists(keys, max_size=5), no_cache=flags)
    def get_many(self, asked: list[str], no_cache: bool) -> None:
        expected = {key: self.model[key] for key in sorted(set(asked)) if key in self.model}
        self.check(self.kit.storage.get(asked, no_cache=no_cache), expected)

    @rule(
        start=bounds,
        end=bounds,
        prefix=bounds,
        reverse=flags,
        limit=st.one_of(st.none(), st.integers(1, 4)),
        no_cache=flags,
    )
    def list(
        self,
        start: str | None,
        end: str | None,
        prefix: str | None,
        reverse: bool,
        limit: int | None,
        no_cache: bool,
    ) -> None:
        listed = [
            key
            for key in sorted(self.model_keys(), reverse=reverse)
            if key >= (start or "") and (end is None or key < end) and key.startswith(prefix or "")
        ]
        expected = {key: self.model[key] for key in listed[:limit]}
        answer = self.kit.storage.list(
            start=start, end=end, prefix=prefix, reverse=reverse, limit=limit, no_cache=no_cache
        )
        self.check(answer, expected)

    @rule(start=bounds, end=bounds, prefix=bounds, sync=flags)
    def count(self, start: str | None, end: str | None, prefix: str | None, sync: bool) -> None:
        expected = sum(
            key >= (start or "") and (end is None or key < end) and key.startswith(prefix or "")
            for key in self.model_keys()
        )
        storage = self.kit.storage
        if sync:
            assert storage.kv.count(start=start, end=end, prefix=prefix) == expected
        else:
            self.check(storage.count(start=start, end=end, prefix=prefix), expected)

    def model_keys(self) -> list[str]:
        return [key for key in self.model if isinstance(key, str)]

    # Side records

    @rule(key=side_keys, value=st.binary(max_size=40))
    def put_side(self, key: bytes, value: bytes) -> None:
        self.kit.object_storage.sides.put(key, value)
        self.model[key] = value

    @rule(key=side_keys)
    def delete_side(self, key: bytes) -> None:
        self.kit.object_storage.sides.delete(key)
        self.model.pop(key, None)

    @rule(key=side_keys, last=side_keys, reverse=flags, count_max=st.integers(1, 4))
    def read_sides(self, key: bytes, last: bytes, reverse: bool, count_max: int) -> None:
        sides = self.kit.object_storage.sides
        assert sides.get(key) == self.model.get(key)
        there = [side for side in self.model if isinstance(side, bytes) and key <= side < last]
        found = sides.scan(key, last, reverse=reverse, count_max=count_max)
        assert found == [(k, self.model[k]) for k in sorted(there, reverse=reverse)][:count_max]

    # Writes

    @rule(key=keys, value=values, unconfirmed=flags, no_cache=flags)
    def put(self, key: str, value: Any, unconfirmed: bool, no_cache: bool) -> None:
        self.kit.storage.put(key, value, allow_unconfirmed=unconfirmed, no_cache=no_cache)
        self.model[key] = value

    @rule(pairs=st.dictionaries(keys, values, max_size=4))
    def put_many(self, pairs: dict[str, Any]) -> None:
        self.kit.storage.put(pairs)
        self.model.update(pairs)

    @rule(key=keys, no_cache=flags)
    def delete(self, key: str, no_cache: bool) -> None:
        was_there = key in self.model
        self.model.pop(key, None)
        self.check(self.kit.storage.delete(key, no_cache=no_cache), was_there)

    @rule(asked=st.lists(keys, max_size=4), sync=flags)
    def delete_many(self, asked: list[str], sync: bool) -> None:
        count = len(set(asked) & set(self.model))
        for key in asked:
            self.model.pop(key, None)
        if sync:
            assert self.kit.storage.kv.delete(asked) == count
        else:
            self.check(self.kit.storage.delete(asked), count)

    @rule()
    def delete_all(self) -> None:
        if self.running:
            with pytest.raises(DurableError, match="within a transaction"):
                self.kit.storage.delete_all()
        else:
            self.kit.storage.delete_all()
            self.model.clear()
            self.alarm = None

    @rule(time=st.integers(1_000_001, 1_000_004))
    def set_alarm(self, time: int) -> None:
        self.kit.storage.set_alarm(time)
        self.alarm = time

    @rule()
    def delete_alarm(self) -> None:
        self.kit.storage.delete_alarm()
        self.alarm = None

    # Transactions

    @rule()
    def begin(self) -> None:
        given: list[Transaction] = []

        async def closure(txn: Transaction) -> None:
            given.append(txn)
            await Pause()

        steps: Any = self.kit.storage.transaction(closure).__await__()
        if not self.running:
            self.seal()
        steps.send(None)
        self.running.append((steps, given[0], dict(self.model), self.alarm))

    @precondition(lambda self: self.running)
    @rule()
    def commit_transaction(self) -> None:
        steps, _, _, _ = self.running.pop()
        buffer = self.kit.storage._buffer
        before = self.kit.output.sealed
        has_written = bool(buffer.savepoints and buffer.savepoints[0].has_written)
        with pytest.raises(StopIteration):
            steps.send(None)
        if not self.running:
            self.sealed_since(before, has_written)

    @precondition(lambda self: self.running)
    @rule()
    def throw_in_transaction(self) -> None:
        steps, _, self.model, self.alarm = self.running.pop()
        with pytest.raises(Rollback):
            steps.throw(Rollback())

    @precondition(lambda self: self.running)
    @rule()
    def roll_back(self) -> None:
        steps, txn, self.model, self.alarm = self.running.pop()
        txn.rollback()
        with pytest.raises(StopIteration):
            steps.send(None)

    # The disk

    @rule()
    def seal(self) -> None:
        buffer = self.kit.storage._buffer
        before = self.kit.output.sealed
        has_written = self.kit.output.has_unsealed and not buffer.savepoints
        self.kit.object_storage.seal()
        self.sealed_since(before, has_written)

    def sealed_since(self, before: int, has_written: bool) -> None:
        if self.kit.output.sealed > before:
            self.sealed.append((dict(self.model), self.alarm))
        elif has_written:  # it has joined the batch before it, which has not left
            assert self.committed < len(self.sealed) - 1
            self.sealed[-1] = dict(self.model), self.alarm

    @precondition(lambda self: self.disk.waiting)
    @rule()
    def commit(self) -> None:
        self.disk.commit()
        self.committed += 1

    @precondition(lambda self: self.disk.unreported)
    @rule()
    def report(self) -> None:
        self.disk.report()

    @precondition(lambda self: self.disk.reading)
    @rule(which=st.integers(0, 9))
    def make_read(self, which: int) -> None:
        self.disk.reading[which % len(self.disk.reading)].make()

    @precondition(lambda self: self.disk.reading)
    @rule(which=st.integers(0, 9))
    def finish_read(self, which: int) -> None:
        self.disk.reading[which % len(self.disk.reading)].finish()

    @precondition(lambda self: self.disk.reading)
    @rule()
    def fail_read(self) -> None:
        self.disk.reading[0].fail(DurableError("too many are reading"))

    @rule(size=st.integers(1, 800))
    def evict(self, size: int) -> None:
        self.kit.storage._records.cache.evict(size)

    @rule(gathers=flags)
    def gather(self, gathers: bool) -> None:
        """Batches that wait from now on are open, or not, for the turns that follow."""
        self.disk.gathers = gathers

    @rule(inline=flags)
    def choose_reads(self, inline: bool) -> None:
        self.disk.inline = inline

    @rule()
    def fail(self) -> None:
        """The object starts anew from the last batch that was committed, or from its deletion."""
        while self.disk.unreported:
            self.disk.report()
        self.disk.fail(CommitFailed("the disk is gone"))
        self.start_anew()

    @precondition(lambda self: not self.running)
    @rule()
    def forget(self) -> None:
        """The object is evicted when it is idle."""
        self.seal()
        while self.disk.reading or self.disk.waiting or self.disk.unreported:
            while self.disk.reading:
                self.finish_read(0)
            while self.disk.waiting:
                self.commit()
            while self.disk.unreported:
                self.report()
        self.check_answers()
        assert self.kit.storage._records.cache.dirty is None
        assert self.kit.storage._buffer.sealed_bytes == 0
        self.start_anew()

    def start_anew(self) -> None:
        is_cleared = self.kit.storage._buffer._is_cleared
        self.kit.object_storage.discard()
        while self.disk.waiting:  # a delete_all(), and what is sealed before it
            self.commit()
            self.disk.report()
        if is_cleared and self.committed == len(self.sealed):
            self.sealed.append(({}, None))
        assert self.kit.budget.size == 0
        while self.disk.reading:
            self.disk.reading[0].finish()
        self.expected.clear()
        for steps, _, _, _ in reversed(self.running):
            steps.close()
        self.running.clear()
        assert self.kit.budget.size == 0
        model, alarm = self.sealed[self.committed]
        self.model, self.alarm = dict(model), alarm
        self.sealed, self.committed = [(dict(model), alarm)], 0
        self.kit = make_kit(self.disk)

    # What must always be

    @invariant()
    def check_answers(self) -> None:
        still = []
        for answer, expected in self.expected:
            if not answer.is_done:
                still.append((answer, expected))
            elif answer.error is None:
                assert repr(run(answer)) == repr(expected)
        self.expected = still

    @invariant()
    def check_cache_is_true(self) -> None:
        cache, decode = self.kit.storage._records.cache, self.kit.storage._decode
        for key in KEYS:
            value = cache.lookup(key)
            if value is not UNKNOWN:
                assert (key in self.model) == (value is not None)
                if value is not None:
                    assert repr(decode(value)) == repr(self.model[key])
        if cache._order is not None:
            assert cache._order == sorted(cache.entries)

    @invariant()
    def check_account(self) -> None:
        cache = self.kit.storage._records.cache
        size = sum(
            ENTRY_SIZE + len(key) + len(value or b"") for key, value in cache.entries.items()
        )
        size += ENTRY_SIZE * max(0, len(cache.key_ranges) - 1)
        assert cache.size == self.kit.budget.size == size

    @invariant()
    def check_spans(self) -> None:
        key_ranges = self.kit.storage._records.cache.key_ranges
        for (_, upper), (lower, _) in pairwise(key_ranges):
            assert upper is not None
            assert upper < lower
        for key in KEYS:
            inside = any(low <= key and (high is None or key < high) for low, high in key_ranges)
            assert (range_of(key_ranges, key) is not None) == inside

    @invariant()
    def check_alarm(self) -> None:
        alarm = run(self.kit.storage.get_alarm())
        assert (alarm and alarm.timestamp()) == self.alarm

    @invariant()
    def check_disk(self) -> None:
        model, alarm = self.sealed[self.committed]
        stored = self.disk.stored.get(self.disk.keyspace, {})
        decode = self.kit.storage._decode
        assert {key: repr(decode(value)) for key, value in stored.items()} == {
            key: repr(value) for key, value in model.items() if isinstance(key, str)
        }
        assert self.disk.sides.get(self.disk.keyspace, {}) == {
            key: value for key, value in model.items() if isinstance(key, bytes)
        }
        assert (self.disk.alarm and self.disk.alarm.due_us) == (alarm and alarm * 1_000_000)

    @invariant()
    def check_holds(self) -> None:
        assert self.kit.gate.holds == sum(not answer.is_done for answer, _ in self.expected)


def some_keys(chance: Random) -> Any:
    return [chance.choice(KEYS) for _ in range(chance.randrange(5))]


def random_step(machine: StorageIsADict, chance: Random) -> None:
    """One step, of those that keep much going on at once: few resets, clears and settlings."""
    flag = chance.random() < 0.5
    key = chance.choice(KEYS)
    bound = [None, *KEYS]
    steps: list[tuple[float, Any]] = [
        (
            6,
            lambda: machine.put(
                key, chance.choice([None, 1, 2, "x" * 9]), flag, flag and key < "b"
            ),
        ),
        (2, lambda: machine.put_many(dict.fromkeys(some_keys(chance), chance.randrange(9)))),
        (4, lambda: machine.delete(key, chance.random() < 0.2)),
        (4, lambda: machine.put_side(chance.choice(SIDE_KEYS), chance.randbytes(9))),
        (2, lambda: machine.delete_side(chance.choice(SIDE_KEYS))),
        (
            6,
            lambda: machine.read_sides(
                chance.choice(SIDE_KEYS), chance.choice(SIDE_KEYS), flag, chance.randrange(1, 4)
            ),
        ),
        (2, lambda: machine.delete_many(some_keys(chance), flag)),
        (4, lambda: machine.get(key, chance.random() < 0.2, chance.random() < 0.2)),
        (2, lambda: machine.get_many(some_keys(chance), chance.random() < 0.2)),
        (
            6,
            lambda: machine.list(
                chance.choice(bound) if flag else None,
                chance.choice(bound) if chance.random() < 0.5 else None,
                chance.choice(bound) if chance.random() < 0.3 else None,
                chance.random() < 0.5,
                chance.choice([None, 1, 2, 3]),
                chance.random() < 0.2,
            ),
        ),
        (
            3,
            lambda: machine.count(
                chance.choice(bound) if flag else None,
                chance.choice(bound) if chance.random() < 0.5 else None,
                chance.choice(bound) if chance.random() < 0.3 else None,
                chance.random() < 0.3,
            ),
        ),
        (
            0.5,
            lambda: machine.choose_parts(chance.choice([1, 2, 3, 99]), chance.choice([1, 8, 99])),
        ),
        (0.3, machine.delete_all),
        (1, lambda: machine.set_alarm(chance.randrange(1_000_001, 1_000_004))),
        (0.5, machine.delete_alarm),
        (1 if len(machine.running) < 3 else 0, machine.begin),
        (5, machine.seal),
        (3, lambda: machine.evict(chance.randrange(1, 800))),
        (1, lambda: machine.choose_reads(chance.random() < 0.3)),
        (0.5, lambda: machine.gather(flag)),
        (0.05, machine.fail),
    ]
    if machine.running:
        steps += [(1, machine.commit_transaction), (1, machine.roll_back)]
        steps += [(0.5, machine.throw_in_transaction)]
    else:
        steps += [(0.1, machine.forget)]
    if machine.disk.waiting:
        steps += [(4, machine.commit)]
    if machine.disk.unreported:
        steps += [(4, machine.report)]
    if machine.disk.reading:
        steps += [(2, lambda: machine.make_read(chance.randrange(10)))]
        steps += [(3, lambda: machine.finish_read(chance.randrange(10))), (0.1, machine.fail_read)]
    weights = [weight for weight, _ in steps]
    chance.choices(steps, weights)[0][1]()


@pytest.mark.parametrize("seed", range(8))
def test_storage_is_a_dict_through_long_and_busy_runs(
    seed: int, request: pytest.FixtureRequest
) -> None:
    """The same rules by plain chance, for long: reads, batches and rollbacks overlap."""
    chance = Random(seed)
    machine = StorageIsADict()
    request.addfinalizer(machine.teardown)
    for _ in range(STEPS):
        random_step(machine, chance)
        machine.check_answers()
        machine.check_cache_is_true()
        machine.check_account()
        machine.check_spans()
        machine.check_alarm()
        machine.check_disk()
        machine.check_holds()


TestStorageIsADict = StorageIsADict.TestCase
TestStorageIsADict.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
