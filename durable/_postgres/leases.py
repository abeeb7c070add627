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
from typing import Any, Final, LiteralString

from attrs import define, evolve, field

from durable._engine.lease import Lease, Seen, dead_owners, look_again_s, to_declare_dead
from durable._engine.shards import Owned, Process
from durable._model.clock import lease_clock
from durable._model.errors import DurableError, StoreInUse
from durable._model.log import log

from .connection import Connection, Rows
from .machine import is_gone, this_machine

# The pause after a renewal that failed.
TRY_AGAIN_S: Final = 0.2
# The pause before a look that does not wait for the next renewal: twice as long after each one that
# has found nothing new.
LOOKS_S_MIN: Final = 0.02
LOOKS_S_MAX: Final = 0.5

_JOIN: Final = (
    "insert into durable.processes (name, pid, address, version, state, is_alone, machine, expires)"
    " values (%s, %s, %s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s)) "
    "returning id"
)
_FORGET: Final = "delete from durable.processes where name = %s"
_OTHERS: Final = (
    "select id, pid, machine, is_alone from durable.processes "
    "where expires > clock_timestamp() order by id"
)
# The sum rises with each change of an owner, so that all rows are read only after one.
_RENEW: Final = (
    "with mine as (update durable.processes set "
    "expires = clock_timestamp() + make_interval(secs => %(lease_s)s), state = %(state)s "
    "where id = %(me)s and expires > clock_timestamp() returning id) "
    "select (select count(*) from mine), "
    "(select sum(epoch * 2 + (owner is null)::integer) from durable.shards)::bigint, "
    "p.id, p.name, p.pid, p.address, p.version, p.state, p.is_alone, p.machine, "
    "(extract(epoch from p.expires) - extract(epoch from clock_timestamp()))::double precision "
    "from durable.processes as p order by p.id"
)
_SHARDS: Final = "select shard, owner, epoch from durable.shards order by shard"
_DECLARE_DEAD: Final = (
    "update durable.processes set expires = '-infinity' where id = any(%s::bigint[]) "
    "and expires <= clock_timestamp() and expires > '-infinity' returning id"
)
# For processes that are certainly dead.
_DECLARE_GONE: Final = (
    "update durable.processes set expires = '-infinity' where id = any(%s::bigint[]) "
    "and expires > '-infinity' returning id"
)
# One statement, and so one snapshot: an owner that joins later is in neither table.
_DEAD_OWNERS: Final = (
    "select s.owner, extract(epoch from p.expires)::double precision from "
    "(select distinct owner from durable.shards where owner is not null) as s "
    "left join durable.processes as p on p.id = s.owner"
)
# The condition is on the locked rows alone: a claim that has waited for another one sees its
# outcome.
_CLAIM: Final = (
    "with free as (select shard from durable.shards where shard = any(%s::integer[]) "
    "and (owner is null or owner = any(%s::bigint[])) order by shard for update) "
    "update durable.shards as s set owner = %s, epoch = s.epoch + 1 from free "
    "where s.shard = free.shard and exists "
    "(select from durable.processes where id = %s and expires > clock_timestamp()) "
    "returning s.shard, s.epoch"
)
_MINE: Final = (
    "select shard, epoch from durable.shards where shard = any(%s::integer[]) and owner = %s"
)
# With the epochs that were read just before: a release that comes late, since its connection was
# lost, must not free a shard that was claimed again meanwhile.
_RELEASE: Final = (
    "with mine as (select s.shard from durable.shards as s "
    "join unnest(%s::integer[], %s::bigint[]) as given (shard, epoch) "
    "on s.shard = given.shard and s.epoch = given.epoch "
    "where s.owner = %s order by s.shard for update of s) "
    "update durable.shards as s set owner = null from mine where s.shard = mine.shard "
    "returning s.shard, s.epoch"
)
_RELEASE_ALL: Final[LiteralString] = (
    "with mine as (select shard from durable.shards where owner = %s order by shard for update) "
    "update durable.shards as s set owner = null from mine where s.shard = mine.shard"
)
_LEAVE: Final = "delete from durable.processes where id = %s"
# Deletes the processes that are dead and own nothing any more.
_SWEEP: Final = (
    "delete from durable.processes as p where p.expires = '-infinity' "
    "and not exists (select from durable.shards as s where s.owner = p.id)"
)


@define(eq=False, repr=False)
class Leases:
    """The owners of all shards, and the part of one process among them."""

    url: str
    me: Process
    lease_s: float
    now: Callable[[], float] = lease_clock
    machine: str = field(factory=this_machine)
    # The number of this process among the others, once it has joined.
    number: int = field(default=0, init=False)
    lease: Lease = field(init=False)
    _claiming: Connection = field(init=False)
    _renewing: Connection = field(init=False)
    _processes: dict[int, Process] = field(factory=dict, init=False)
    _seen: dict[int, Seen] = field(factory=dict, init=False)
    _machines: dict[int, str] = field(factory=dict, init=False)
    _owners: list[tuple[int | None, int]] = field(factory=list, init=False)
    _shards_sum: int = field(default=-1, init=False)
    # When that was read, by this process's own clock.
    _read_at: float = field(default=0.0, init=False)
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
        self._claiming, self._renewing = Connection(self.url), Connection(self.url)

    # This process

    def join(self) -> int:
        """Join the processes of the store, and read the others; returns the number of this one.
        Once its lease is over a process may join again, under another number. Blocks.

        Raises StoreInUse if this process or another one requires to be alone, StoreUnavailable.
        """
        self.lease = Lease(self.lease_s, self.now)
        self._to_release.clear()
        asked = self.lease.asking()
        me = self.me
        with self._claiming.transaction() as run:
            # One at a time, so that of two that require to be alone one comes first.
            run("lock table durable.processes in share row exclusive mode")
            run(_FORGET, [me.id])
            for number, pid, machine, is_alone in run(_OTHERS):
                if not (is_alone or me.is_alone):
                    continue
                if not is_gone(pid, machine):
                    raise StoreInUse(self._claiming.path, pid)
                run(_DECLARE_GONE, [[number]])
            run(_SWEEP)
            [(self.number,)] = run(
                _JOIN,
                [
                    *(me.id, me.pid, me.address, me.version, me.state, me.is_alone),
                    *(self.machine, self.lease_s),
                ],
            )
        self.lease.granted(asked)
        self.refresh()
        return self.number

    def say(self, state: str) -> None:
        """Change the state of this process; others see it with the next renewal, which is soon."""
        self.me = evolve(self.me, state=state)
        self._wake.set()

    def start(self, on_news: Callable[[], object], on_lost: Callable[[], object]) -> None:
        """Renew the lease from now on. In the thread that does so, *on_news* is called when a
        change of processes or owners was read, and *on_lost*, once, when the lease is over."""
        self._on_news, self._on_lost = on_news, on_lost
        self._thread = threading.Thread(target=self._run, name="durable leases", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Leave the store; what this process owned is free. Blocks; ignores an error of the
        database, since the lease then runs out by itself."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.lease.end()
        if self.number:
            with suppress(DurableError):
                with self._claiming.transaction() as run:
                    run(_RELEASE_ALL, [self.number])
                    run(_LEAVE, [self.number])
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
            asked = self.lease.asking()
            rows = self._renewing.write(
                _RENEW,
                {"lease_s": self.lease_s, "state": self.me.state, "me": self.number},
            )
            if not rows or not rows[0][0]:
                self._lose()
                return
            self.lease.granted(asked)
            self._take_in(rows, asked)

    def look_soon(self) -> None:
        """Renew and read before it is due: something is reported to have changed. The pauses grow
        as long as nothing is new."""
        self._wake.set()

    def _take_in(self, rows: Rows, asked: float) -> None:
        shards_sum = rows[0][1]
        before = self._processes, self._owners
        self._read_at = asked
        self._seen = {row[2]: Seen(row[2], row[10]) for row in rows}
        self._machines = {row[2]: row[9] for row in rows}
        self._processes = {
            row[2]: Process(row[3], row[4], row[5], row[6], row[8], row[7])
            for row in rows
            if row[10] > 0 or row[2] == self.number
        }
        if shards_sum != self._shards_sum:
            self._owners = [row[1:] for row in self._renewing.read(_SHARDS)]
            self._shards_sum = shards_sum
        if before != (self._processes, self._owners):
            self._look_pause_s = LOOKS_S_MIN
            self._on_news()

    def _run(self) -> None:
        pause_s = self.lease.renew_every_s
        while not self._ending.is_set() and not self.lease.is_over:
            if self._wake.wait(pause_s):
                self._ending.wait(self._look_pause_s)
                self._look_pause_s = min(2 * self._look_pause_s, LOOKS_S_MAX)
            else:
                self._look_pause_s = LOOKS_S_MIN
            self._wake.clear()
            if not self._ending.is_set():
                pause_s = self._renew_once()

    def _renew_once(self) -> float:
        """Returns the pause until the next renewal."""
        try:
            self._release_some()
            self.refresh()
        except DurableError as error:
            log.warning("the lease on %s could not be renewed: %s", self._renewing.path, error)
            if not self.lease.is_valid():
                self._lose()
            return TRY_AGAIN_S
        except Exception:
            log.exception("the lease on %s could not be renewed", self._renewing.path)
            return TRY_AGAIN_S
        return look_again_s(self._seen.values(), self.lease, self.number)

    def _lose(self) -> None:
        if not self.lease.is_over:
            self.lease.end()
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
        since_s = self.now() - self._read_at
        others = [
            process
            for number, process in self._processes.items()
            if number != self.number
            and self._seen[number].left_s > since_s
            and not is_gone(process.pid, self._machines[number])
        ]
        return [*others, self.me] if self.number else others

    def is_alive(self, process: str) -> bool:
        """Whether a process has a lease, as of the last read; a stopped one has it for a while."""
        return any(each.id == process for each in self.processes())

    def owners(self) -> list[Owned]:
        """The present or last owner of each shard."""
        names = {number: process.id for number, process in self._processes.items()}
        return [
            Owned(None if owner is None else names.get(owner, f"process {owner}"), epoch)
            for owner, epoch in self._owners
        ]

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
        rows = self._claiming.read(_DEAD_OWNERS)
        seen = {owner: Seen(owner, expires) for owner, expires in rows if expires is not None}
        dead = dead_owners([row[0] for row in rows], seen)
        # Its own number too: for shards of an earlier claim that it was not returned.
        free = sorted(dead | {self.number})
        claimed = self._claiming.write(_CLAIM, [sorted(shards), free, self.number, self.number])
        self.look_soon()
        return dict(claimed)

    def _declare_dead(self) -> None:
        certain = [
            number
            for number, process in self._processes.items()
            if number != self.number and is_gone(process.pid, self._machines[number])
        ]
        since_s = self.now() - self._read_at
        now = [evolve(seen, left_s=seen.left_s - since_s) for seen in self._seen.values()]
        late = to_declare_dead(now, certain, self.number)
        if certain:
            self._claiming.write(_DECLARE_GONE, [certain])
        if set(late) - set(certain):
            self._claiming.write(_DECLARE_DEAD, [late])

    def release(self, shards: Collection[int]) -> dict[int, int]:
        """Release *shards*; returns those that were still owned, with their epochs. Blocks.
        Raises StoreUnavailable."""
        with self._shards_turn:
            released = self._release(shards)
        self.look_soon()
        return released

    def _release(self, shards: Collection[int]) -> dict[int, int]:
        mine: Any = dict(self._claiming.read(_MINE, [sorted(shards), self.number]))
        if not mine:
            return {}
        return dict(self._claiming.write(_RELEASE, [list(mine), list(mine.values()), self.number]))

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
