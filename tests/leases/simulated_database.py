"""A database with a synchronous standby, simulated as far as leases know it: rows that are locked,
commits that wait for the standby, and a failover that keeps what the standby has.

A transaction takes its locks, runs at one moment, and commits some time later: until then nobody
sees what it has done, and its locks are held. What was under way in a failover is there or is not,
and nobody is told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field

from tests.simulated.agenda import Agenda
from tests.simulated.machine import Machine

Row = tuple[str, int]
# What a transaction does when it has its locks; returns what it says, and what it changes.
Body = Callable[[], tuple[Any, Callable[[], None]]]

SHARED, EXCLUSIVE = "shared", "exclusive"
# A statement that is not answered by then, by the clock of who asked, is lost.
ANSWER_S_MAX = 3.0


class Lost:
    """In the place of an answer: nobody knows what became of it."""


LOST = Lost()


@define(eq=False)
class Transaction:
    """One transaction, from when it has arrived."""

    locks: dict[Row, str]
    body: Body
    answer: Callable[[Any], None]
    # Held back in its commit for so long.
    commit_s: float
    change: Callable[[], None] | None = None
    is_over: bool = False


@define(eq=False)
class SimulatedDatabase:
    """The tables, as they are committed."""

    agenda: Agenda
    shards: dict[int, tuple[int | None, int]] = field(factory=dict)
    # Names and leases of processes, by number.
    names: dict[int, str] = field(factory=dict)
    expires: dict[int, float] = field(factory=dict)
    # What objects have stored, one for each shard: the calls that it has seen. And how often each
    # call was stored.
    values: dict[int, frozenset[int]] = field(factory=dict)
    stored: Counter[int] = field(factory=Counter)
    # How long a commit waits for the standby.
    commit_s_max: float = 0.002
    # The clock of the server that is the primary now is so much ahead.
    skew_s: float = 0.0
    is_up: bool = True
    _under_way: list[Transaction] = field(factory=list)
    _waiting: list[Transaction] = field(factory=list)
    _held: dict[Row, list[tuple[Transaction, str]]] = field(factory=dict)
    _number: int = 0
    # Processes that cannot reach it.
    cut: set[Machine] = field(factory=set)

    def clock(self) -> float:
        return self.agenda.now_s + self.skew_s

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def step(self, by_s: float) -> None:
        """Set its clock, forward or back."""
        self.skew_s += by_s

    # What processes ask

    def ask(
        self,
        machine: Machine,
        locks: dict[Row, str],
        body: Body,
        answered: Callable[[Any], None],
    ) -> None:
        """Run a transaction for *machine*, where *answered* is told what it says, or LOST."""
        is_answered = False

        def answer(said: Any) -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                answered(said)

        def come_back(said: Any) -> None:
            if machine not in self.cut:
                self.agenda.after(self._delay_s(), lambda: machine.do(lambda: answer(said)))

        def arrive() -> None:
            if not self.is_up or machine in self.cut:
                return
            commit_s = self.agenda.chance.uniform(0, self.commit_s_max)
            self._begin(Transaction(locks, body, come_back, commit_s))

        machine.call_later(ANSWER_S_MAX, lambda: answer(LOST))
        self.agenda.after(self._delay_s(), arrive)

    def _delay_s(self) -> float:
        chance = self.agenda.chance
        return chance.uniform(0, 0.5) if chance.random() < 0.01 else chance.uniform(0, 0.002)

    # Transactions

    def _begin(self, transaction: Transaction) -> None:
        if any(self._is_in_the_way(row, kind) for row, kind in transaction.locks.items()):
            self._waiting.append(transaction)
            return
        for row, kind in transaction.locks.items():
            self._held.setdefault(row, []).append((transaction, kind))
        said, transaction.change = transaction.body()
        self._under_way.append(transaction)

        def commit() -> None:
            if not transaction.is_over:
                self._end(transaction, is_committed=True)
                transaction.answer(said)

        self.agenda.after(transaction.commit_s, commit)

    def _is_in_the_way(self, row: Row, kind: str) -> bool:
        return any(EXCLUSIVE in {kind, other} for _, other in self._held.get(row, ()))

    def _end(self, transaction: Transaction, *, is_committed: bool) -> None:
        transaction.is_over = True
        self._under_way.remove(transaction)
        if is_committed:
            assert transaction.change is not None
            transaction.change()
        for row in transaction.locks:
            self._held[row] = [held for held in self._held[row] if held[0] is not transaction]
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._begin(each)

    def fail_over(self, down_s: float, skew_s: float) -> None:
        """The primary dies; the standby is the primary in a while."""
        self.is_up = False
        self._waiting.clear()
        for transaction in list(self._under_way):
            # The standby has got it, or it has not.
            self._end(transaction, is_committed=self.agenda.chance.random() < 0.5)
        self.skew_s = skew_s

        def come_up() -> None:
            self.is_up = True

        self.agenda.after(down_s, come_up)

    # What is asked, as the statements of `durable._postgres.leases` do

    def join(self, name: str, lease_s: float) -> Body:
        def run() -> tuple[int, Callable[[], None]]:
            number = self.next_number()
            expires = self.clock() + lease_s

            def change() -> None:
                self.names[number], self.expires[number] = name, expires

            return number, change

        return run

    def renew(self, number: int, lease_s: float) -> Body:
        def run() -> tuple[Any, Callable[[], None]]:
            is_renewed = self.expires.get(number, -math.inf) > self.clock()
            expires = self.clock() + lease_s
            left = {each: until - self.clock() for each, until in self.expires.items()}

            def change() -> None:
                if is_renewed:
                    self.expires[number] = expires

            return (is_renewed, left, dict(self.names), dict(self.shards)), change

        return run

    def declare_dead(self, numbers: Iterable[int]) -> Body:
        def run() -> tuple[None, Callable[[], None]]:
            late = [each for each in numbers if self.expires[each] <= self.clock()]

            def change() -> None:
                self.expires.update(dict.fromkeys(late, -math.inf))

            return None, change

        return run

    def owners_and_leases(self) -> tuple[list[int | None], dict[int, float]]:
        """Read in one statement."""
        return [owner for owner, _ in self.shards.values()], dict(self.expires)

    def claim(self, shards: Iterable[int], free: Iterable[int], number: int) -> Body:
        def run() -> tuple[dict[int, int], Callable[[], None]]:
            claimed = {
                shard: self.shards[shard][1] + 1
                for shard in shards
                if self.shards[shard][0] is None or self.shards[shard][0] in free
            }
            if self.expires.get(number, -math.inf) <= self.clock():
                claimed = {}

            def change() -> None:
                for shard, epoch in claimed.items():
                    self.shards[shard] = (number, epoch)

            return claimed, change

        return run

    def raise_epoch(self, shard: int, number: int) -> Body:
        def run() -> tuple[int | None, Callable[[], None]]:
            owner, epoch = self.shards[shard]
            is_mine = owner == number

            def change() -> None:
                if is_mine:
                    self.shards[shard] = (number, epoch + 1)

            return (epoch + 1 if is_mine else None), change

        return run

    def release(self, shard: int, number: int, epoch: int) -> Body:
        def run() -> tuple[None, Callable[[], None]]:
            is_mine = self.shards[shard] == (number, epoch)

            def change() -> None:
                if is_mine:
                    self.shards[shard] = (None, epoch)

            return None, change

        return run

    def commit(
        self,
        shard: int,
        number: int,
        epoch: int,
        calls: list[int],
        value: frozenset[int],
        *,
        is_fenced: bool,
    ) -> Body:
        """An object stores *value*, by *calls*, if the shard is owned as it was."""

        def run() -> tuple[bool, Callable[[], None]]:
            is_mine = self.shards[shard] == (number, epoch) or not is_fenced

            def change() -> None:
                if is_mine:
                    self.values[shard] = value
                    self.stored.update(calls)

            return is_mine, change

        return run

    def load(self, shard: int) -> Body:
        def run() -> tuple[frozenset[int], Callable[[], None]]:
            return self.values[shard], lambda: None

        return run
