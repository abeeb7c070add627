"""The leases of one process on a store in PostgreSQL: it joins, renews its lease in a thread of its
own, claims and releases shards, and reads which other processes there are.

Shards are claimed many at a time by one statement, which raises their epochs. Before that the death
of their owner was declared, by an update of the owner's row that waits for a renewal in flight. So
a process that believes in its lease has it.

Rule: what is known of processes and shards was read with a renewal and is only returned here; a
statement runs in the thread that renews, or in the caller's where the docstring says "Blocks".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final

from attrs import define, evolve, field, frozen

from durable._engine.lease import Lease, Seen, dead_owners, look_again_s, to_declare_dead
from durable._engine.shards import Owned, Process
from durable._model.clock import lease_clock
from durable._model.errors import DurableError, StoreInUse
from durable._model.log import log

from . import lease_statements as sql
from .connection import Connection
from .machine import is_gone, name_of, this_machine
from .newest_primary import NewestPrimary
from .postgres_errors import unavailable

# The pause after a renewal that failed.
TRY_AGAIN_S: Final = 0.2
# How long the database may at least take to renew it.
RENEWAL_S_MIN: Final = 1.0
# The pause before a look that does not wait for the next renewal: twice as long after each one that
# has found nothing new.
LOOKS_S_MIN: Final = 0.02
LOOKS_S_MAX: Final = 0.5
# Which part of a lease another process has left at least, if its lease is not among those that end
# soon. One that is renewed in time has more.
ENDS_SOON: Final = 0.6


@frozen
class _View:
    """The processes as they were read, dead ones included; one value, since threads share it."""

    processes: dict[int, Process] = field(factory=dict)
    machines: dict[int, str] = field(factory=dict)
    seen: dict[int, Seen] = field(factory=dict)
    # Those that were not dead.
    living: dict[int, Process] = field(factory=dict)
    # By this process's own clock.
    read_at: float = 0.0


@define(eq=False, repr=False)
class Leases:
    """The owners of all shards, and the part of one process among them."""

    url: str
    me: Process
    lease_s: float
    now: Callable[[], float] = lease_clock
    machine: str = field(factory=this_machine)
    newest: NewestPrimary = field(factory=NewestPrimary)
    # The number of this process among the others, once it has joined.
    number: int = field(default=0, init=False)
    lease: Lease = field(init=False)
    _claiming: Connection = field(init=False)
    _renewing: Connection = field(init=False)
    _view: _View = field(factory=_View, init=False)
    _owners: list[tuple[int | None, int]] = field(factory=list, init=False)
    _shards_sum: int = field(default=-1, init=False)
    _processes_sum: str = field(default="", init=False)
    _on_news: Callable[[], object] = field(default=lambda: None, init=False)
    _on_lost: Callable[[], object] = field(default=lambda: None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _wake: threading.Event = field(factory=threading.Event, init=False)
    _ending: threading.Event = field(factory=threading.Event, init=False)
    _look_pause_s: float = field(default=LOOKS_S_MIN, init=False)
    # Taken for one renewal at a time; and for one claim or release.
    _turn: threading.Lock = field(factory=threading.Lock, init=False)
    _shards_turn: threading.Lock = field(factory=threading.Lock, init=False)
    # Shards that others may take, and that have yet to be released.
    _to_release: set[int] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self.lease = Lease(self.lease_s, self.now)
        # What is claimed later than that is not this process's any more.
        self._claiming = Connection(self.url, self.lease_s, newest=self.newest)
        self._renewing = Connection(self.url, self.lease_s, newest=self.newest)

    # This process

    def join(self, check: Callable[[Connection], object] = lambda connection: None) -> int:
        """Join the processes of the store, and read the others; returns the number of this one.
        Once its lease is over a process may join again, under another number. Blocks.

        *check* may refuse that by an error, while no other process joins. Raises that, StoreInUse
        if this process or another one requires to be alone, StoreUnavailable.
        """
        lease = Lease(self.lease_s, self.now)
        asked = lease.asking()
        me = self.me
        self.newest.forget()  # a backup of earlier may be in its place: what confirms this counts
        self._claiming.begin_anew()
        with self._claiming.transaction() as run:
            # One at a time, so that of two that require to be alone one comes first.
            run("lock table durable.processes in share row exclusive mode")
            check(self._claiming)
            run(sql.FORGET, [me.id])
            for number, pid, machine, address, is_alone in run(sql.OTHERS):
                if not (is_alone or me.is_alone):
                    continue
                if not is_gone(pid, machine):
                    raise self._in_use(pid, machine, address)
                run(sql.DECLARE_GONE, [[number]])
            run(sql.SWEEP)
            [(number,)] = run(
                sql.JOIN,
                [
                    *(me.id, me.pid, me.address, me.version, me.state, me.is_alone),
                    *(self.machine, self.lease_s),
                ],
            )
        with self._turn:
            self._to_release.clear()
            # Nothing is claimed before that renewal: if it fails, this process joins once more.
            self.lease, self.number = lease, number
            if not self._refresh(lease, asked):
                raise unavailable(self._claiming.path, TimeoutError("the lease ran out at once"))
        return self.number

    def _in_use(self, pid: int, machine: str, address: str) -> StoreInUse:
        name = name_of(machine)
        is_elsewhere = not machine or machine != self.machine
        where = f"at {address}" if address else f"on {name}" if is_elsewhere and name else ""
        return StoreInUse(self._claiming.path, pid, is_elsewhere=is_elsewhere, where=where)

    def say(self, state: str) -> None:
        """Change the state of this process; others see it with the next renewal, which is soon."""
        self.me = evolve(self.me, state=state)
        self._wake.set()

    def start(self, on_news: Callable[[], object], on_lost: Callable[[], object]) -> None:
        """Renew the lease from now on. In the thread that does so, *on_news* is called when a
        change of processes or owners was read, and *on_lost*, once, when the lease is over."""
        self._on_news, self._on_lost = on_news, on_lost
        self._thread = threading.Thread(
            target=self._run, args=[self.lease], name="durable leases", daemon=True
        )
        self._thread.start()

    def leave(self) -> None:
        """Leave the store; what this process owned is free. Blocks; ignores an error of the
        database, since the lease then runs out by itself."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        is_valid = self.lease.is_valid()
        self.lease.end()
        if is_valid:
            with suppress(DurableError):
                with self._claiming.transaction() as run:
                    run(sql.RELEASE_ALL, [self.number])
                    run(sql.LEAVE, [self.number])
        self._claiming.close()
        self._renewing.close()

    # Renewing

    @property
    def valid_until(self) -> float:
        """Until when, by `lease_clock`, this process owns its shards without another renewal."""
        return self.lease.valid_until

    def refresh(self) -> None:
        """Renew the lease, and read the processes and owners. Blocks.

        Raises StoreUnavailable, and its subclass Lost if the outcome is unknown: then the lease
        counts as not renewed.
        """
        with self._turn:
            lease = self.lease
            if not self._refresh(lease, lease.asking()):
                self._lose(lease)

    def _refresh(self, lease: Lease, asked: float) -> bool:
        """Returns whether the lease was renewed."""
        # So that a second attempt may still come in time.
        left_s = lease.valid_until - asked
        self._renewing.silence_s_max = max(RENEWAL_S_MIN, left_s / 2)
        [row] = self._renewing.write(
            sql.RENEW,
            {
                "lease_s": self.lease_s,
                "soon_s": self.lease_s * ENDS_SOON,
                "state": self.me.state,
                "me": self.number,
            },
        )
        is_renewed, *said = row
        if is_renewed:
            lease.granted(asked)
            self._take_in(*said, asked=asked)
        return bool(is_renewed)

    def look_soon(self) -> None:
        """Renew and read before it is due: something is reported to have changed. The pauses grow
        as long as nothing is new."""
        self._wake.set()

    def _take_in(
        self,
        shards_sum: int,
        processes_sum: str,
        ending: list[int] | None,
        left_s: list[float] | None,
        *,
        asked: float,
    ) -> None:
        before = self._view.living, self._owners
        known, machines = self._view.processes, self._view.machines
        owners, has_strangers = self._owners, False
        if shards_sum != self._shards_sum:
            # Before the processes: an owner has joined before it has claimed anything.
            owners = [row[1:] for row in self._renewing.read(sql.SHARDS)]
            has_strangers = any(owner is not None and owner not in known for owner, _ in owners)
        if processes_sum != self._processes_sum or has_strangers:
            rows = self._renewing.read(sql.PROCESSES)
            known = {row[0]: Process(*row[1:-1]) for row in rows}
            machines = {row[0]: row[-1] for row in rows}
            self._processes_sum = processes_sum
        seen = {number: Seen(number, self.lease_s * ENDS_SOON) for number in known}
        for number, left in zip(ending or (), left_s or (), strict=True):
            if number in known:
                seen[number] = Seen(number, left)
        living = {number: known[number] for number in known if seen[number].left_s > 0}
        self._view = _View(known, machines, seen, living, asked)
        self._owners, self._shards_sum = owners, shards_sum
        if before != (living, owners):
            self._look_pause_s = LOOKS_S_MIN
            self._on_news()

    def _run(self, lease: Lease) -> None:
        pause_s = lease.renew_every_s
        while not self._ending.is_set() and not lease.is_over:
            if self._wake.wait(pause_s):
                self._ending.wait(self._look_pause_s)
                self._look_pause_s = min(2 * self._look_pause_s, LOOKS_S_MAX)
            else:
                self._look_pause_s = LOOKS_S_MIN
            self._wake.clear()
            if not self._ending.is_set():
                pause_s = self._renew_once(lease)

    def _renew_once(self, lease: Lease) -> float:
        """Returns the pause until the next renewal."""
        try:
            self._release_some()
            with self._turn:
                # Another one may have begun while this thread waited for the database.
                if lease is not self.lease or lease.is_over:
                    return 0.0
                if not self._refresh(lease, lease.asking()):
                    self._lose(lease)
        except DurableError as error:
            log.warning("the lease on %s could not be renewed: %s", self._renewing.path, error)
            if not lease.is_valid():
                self._lose(lease)
            return TRY_AGAIN_S
        except Exception:
            log.exception("the lease on %s could not be renewed", self._renewing.path)
            return TRY_AGAIN_S
        return look_again_s(self._view.seen.values(), lease, self.number)

    def _lose(self, lease: Lease) -> None:
        if not lease.is_over:
            lease.end()
            log.error(
                "the lease on %s is over: this process was stopped, or did not reach the database, "
                "for longer than Limits.lease_s, %g s; what it has in memory is discarded",
                self._renewing.path,
                self.lease_s,
            )
            self._on_lost()

    # Processes and owners

    def processes(self) -> list[Process]:
        """The processes whose lease has not run out, as of the last read, this one included;
        without those that are certainly dead."""
        view = self._view
        since_s = self.now() - view.read_at
        others = [
            process
            for number, process in view.living.items()
            if number != self.number
            and view.seen[number].left_s > since_s
            and not is_gone(process.pid, view.machines[number])
        ]
        return [*others, self.me] if self.number else others

    def is_alive(self, process: str) -> bool:
        """Whether a process has a lease, as of the last read; a stopped one has it for a while."""
        return any(each.id == process for each in self.processes())

    def owners(self) -> list[Owned]:
        """The present or last owner of each shard."""
        names = {number: process.id for number, process in self._view.living.items()}
        return [
            Owned(None if owner is None else names.get(owner, f"process {owner}"), epoch)
            for owner, epoch in self._owners
        ]

    def superseded(self, shard: int, epoch: int) -> bool:
        """Whether another process has claimed a shard since this one did, at that epoch."""
        if not self._owners:
            return False
        owner, last = self._owners[shard]
        return owner != self.number and last > epoch

    # The shards

    def claim(self, shards: Collection[int]) -> dict[int, int]:
        """Own those of *shards* that no living process owns; returns them with their epochs.
        Blocks.

        Raises StoreUnavailable. If the connection is lost in a claim, its shards are owned but not
        returned: a later claim returns them.
        """
        if not shards or not self.lease.is_valid():
            return {}
        with self._shards_turn:
            self._to_release.difference_update(shards)
            return self._claim(shards)

    def _claim(self, shards: Collection[int]) -> dict[int, int]:
        self._declare_dead()
        rows = self._claiming.read(sql.DEAD_OWNERS)
        seen = {owner: Seen(owner, expires) for owner, expires in rows if expires is not None}
        dead = dead_owners([row[0] for row in rows], seen)
        # Its own number too: for shards of an earlier claim that it was not returned.
        free = sorted(dead | {self.number})
        claimed = self._claiming.write(sql.CLAIM, [sorted(shards), free, self.number, self.number])
        self.look_soon()
        return dict(claimed)

    def _declare_dead(self) -> None:
        view = self._view
        certain = [
            number
            for number, process in view.living.items()
            if number != self.number and is_gone(process.pid, view.machines[number])
        ]
        since_s = self.now() - view.read_at
        now = [evolve(seen, left_s=seen.left_s - since_s) for seen in view.seen.values()]
        late = to_declare_dead(now, certain, self.number)
        if certain:
            self._claiming.write(sql.DECLARE_GONE, [certain])
        if set(late) - set(certain):
            self._claiming.write(sql.DECLARE_DEAD, [late])

    def release(self, shards: Collection[int]) -> dict[int, int]:
        """Release *shards*; returns those that were still owned, with their epochs. Blocks.
        Raises StoreUnavailable."""
        with self._shards_turn:
            released = self._release(shards)
        self.look_soon()
        return released

    def _release(self, shards: Collection[int]) -> dict[int, int]:
        mine: Any = dict(self._claiming.read(sql.MINE, [sorted(shards), self.number]))
        if not mine:
            return {}
        return dict(
            self._claiming.write(sql.RELEASE, [list(mine), list(mine.values()), self.number])
        )

    def release_soon(self, shard: int) -> None:
        """Release a shard soon: together with others, in the thread that renews."""
        self._to_release.add(shard)
        self._wake.set()

    def _release_some(self) -> None:
        with self._shards_turn:
            shards = sorted(self._to_release)
            if shards:
                self._release(shards)
                self._to_release.difference_update(shards)

    def __repr__(self) -> str:
        state = "over" if self.lease.is_over else "valid" if self.lease.is_valid() else "in doubt"
        return f"<Leases of process {self.number}, {state}>"
