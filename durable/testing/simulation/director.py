"""The director: decides by the seed what happens next, in one life of the store.

Callers and clients ask objects for operations, and disappear; the disk makes a step, or fails; the
clock jumps; objects are evicted and aborted; at the end the power fails, or the program closes the
store.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
from attrs import define, field

import durable
from durable._border.sockets import sockets_of
from durable._lmdb.check import check
from durable._object.activation import Activation
from durable.testing.clock import VirtualClock

from . import power
from .bookmarks import KEPT_US
from .callers import Callers
from .clients import Clients
from .connections import End
from .disk import SimulatedStore, UnsureFaults, look, open
from .history import History
from .model import State
from .orders import NAMES, ask
from .subject import Subject

STEPS = (30, 160)
# Rounds of the loop in which every call must be answered, once nothing is held back.
ROUNDS_MAX = 4_000
# Jumps of the clock, of so many seconds, in which every alarm must have rung at the end.
JUMPS_MAX = 400
JUMP_S = 31.0


class SimulatedClock(VirtualClock):
    """A virtual clock that is moved without waiting for the consequences."""

    def jump(self, seconds: float) -> None:
        target_s = self._elapsed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= target_s:
            self._wake_next()
        self._elapsed_s = target_s


@define(eq=False)
class Life:
    """One life of the store, from its opening to its end."""

    history: History
    clock: SimulatedClock
    folder: Path
    is_last: bool
    has_journal: bool = False
    faults: UnsureFaults = field(factory=UnsureFaults)
    _store: SimulatedStore = field(init=False)
    _runtime: durable.Runtime = field(init=False)
    _callers: Callers = field(init=False)
    _clients: Clients = field(init=False)

    async def run(self) -> Path:
        """Live; returns the folder for the next life."""
        history, chance = self.history, self.history.chance
        opening = open(
            self.folder,
            faults=self.faults,
            clock=self.clock,
            journal=self.has_journal,
            bindings={"SUBJECTS": Subject},
            vars={"history": history, "sleep": self.clock.sleep},
            limits=durable.Limits(
                shutdown_s_max=1.0,
                idle_s_max=chance.choice([5.0, 50.0]),
                live_objects_max=chance.choice([2, 100]),
                cache_bytes_max=chance.choice([100, 1 << 20]),
                dirty_bytes_max=chance.choice([100, 1 << 20]),
                queued_deliveries_max=chance.choice([4, 100, 100, 100]),
            ),
        )
        folder = self.folder
        async with opening as self._runtime:
            self._store = opening.store
            history.look = self._look
            history.begin_life()
            if history.bookmarks.is_on:
                self._runtime._services.histories[self._namespace.record.number] = KEPT_US
            self._read_disk()
            async with anyio.create_task_group() as tasks:
                unconfirmed = chance.choice([0.0, 0.0, 0.3, 0.7])
                outside = history, self._namespace, tasks, unconfirmed
                self._callers = Callers(*outside)
                self._clients = Clients(*outside, self._is_live)
                await self._act()
                if self.is_last:
                    await self._finish()
                elif chance.random() < 0.7:
                    await self._give_disk_work()
                    folder = self._cut_power()
                tasks.cancel_scope.cancel()
            if not self.is_last:
                history.judge_connections(is_at_rest=False)
            self._store.run_by_itself()
        if history.is_live:
            history.end_life(by_power_failure=False)
        if self.is_last:
            history.is_live = True  # for the verdict
        return folder

    # Actions

    async def _act(self) -> None:
        chance = self.history.chance
        actions = self._draw_actions()
        kinds, weights = list(actions), list(actions.values())
        for _ in range(chance.randint(*STEPS)):
            if self.history.violations:
                return
            action = chance.choices(kinds, weights)[0]
            action()
            for _ in range(chance.choice([0, 0, 1, 1, 2, 3, 10])):
                await anyio.lowlevel.checkpoint()

    def _draw_actions(self) -> dict[Callable[[], None], float]:
        """How often each action happens in this life; each life leaves some of them out."""
        chance = self.history.chance
        often: dict[Callable[[], None], float] = {
            self._callers.call: chance.choice([3, 10, 10]),
            self._commit: 6,
            self._report: 6,
            self._read: 5,
            self._report_reads: 5,
            self._serve: chance.choice([0, 3, 15]),
        }
        seldom: dict[Callable[[], None], float] = {
            self._switch_reads: 1,
            self._switch_commits: 0.4,
            self._callers.cancel: 2,
            self._evict: 6,
            self._evict_and_close: 0.3,
            self._jump: 3,
            self._jump_far: 0.3,
            self._set_wall_clock: 0.3,
            self._fail_commit: 0.6,
            self._lose_news: 0.4,
            self._abort_all: 0.15,
            self._collect: 1,
        }
        if self.has_journal:
            often[self._follow] = chance.choice([0.5, 3])
        sockets: dict[Callable[[], None], float] = {
            self._clients.connect: 2,
            self._clients.send: chance.choice([3, 10]),
            self._clients.ping: 1,
            self._clients.close: 0.3,
            self._clients.drop: 0.3,
        }
        chosen = {action: weight for action, weight in seldom.items() if chance.random() < 0.7}
        return often | chosen | (sockets if chance.random() < 0.7 else {})

    @property
    def _namespace(self) -> durable.Namespace[Subject]:
        return self._runtime.namespace(Subject)

    def _activation(self, name: str) -> Activation | None:
        return self._runtime._directory.live(self._namespace.id_from_name(name))

    def _is_live(self, name: str) -> bool:
        return self._activation(name) is not None

    def _commit(self) -> None:
        self._store.committer.commit(self.history.chance.choice([1, 2, 1_000]))
        self.faults.repair()

    def _report(self) -> None:
        self._store.committer.report()

    def _read(self) -> None:
        self._store.reads.read_one()

    def _report_reads(self) -> None:
        self._store.reads.report()

    def _serve(self) -> None:
        """The disk does all that was requested of it."""
        self._commit()
        self._report()
        for _ in range(10):
            self._read()
        self._report_reads()

    def _switch_reads(self) -> None:
        self._store.reads.is_inline = not self._store.reads.is_inline

    def _switch_commits(self) -> None:
        self._store.committer.commits_here = not self._store.committer.commits_here

    def _follow(self) -> None:
        """What is in the journal comes into the store's file."""
        self._store.follow()

    def _collect(self) -> None:
        self._store.committer.collect()

    def _fail_commit(self) -> None:
        self.history.count("failed commits")
        self.faults.fail_commits()

    def _lose_news(self) -> None:
        self.faults.is_unsure = True

    def _evict(self, *, closes_sockets: bool = False) -> None:
        idle = [
            name for name in NAMES if (activation := self._activation(name)) and activation.is_idle
        ]
        if not idle:
            return
        name = self.history.chance.choice(idle)
        activation = self._activation(name)
        assert activation is not None
        self.history.count("evictions")
        self.history.tick(f"evicts {name}")
        listed = self.history.listed(name)
        if listed and closes_sockets:
            for connection in listed:
                connection.is_forgotten = True
                if connection.can_say:
                    end = End(1001, "the object was evicted", True)
                    self.history.says(connection, end, 0)
                connection.is_gone = True
            sockets_of(activation).close_all()
        activation.evict()

    def _evict_and_close(self) -> None:
        self._evict(closes_sockets=True)

    def _abort_all(self) -> None:
        self.history.tick("aborts all objects")
        for activation in self._runtime._directory:
            activation.break_(durable.ObjectReset("all objects are aborted"))

    def _jump(self) -> None:
        self._move(self.history.chance.choice([0.001, 0.5, 2.0, 6.0]))

    def _jump_far(self) -> None:
        self._move(self.history.chance.choice([31.0, 61.0]))

    def _move(self, seconds: float) -> None:
        self.history.tick(f"{seconds} s pass")
        self.clock.jump(seconds)

    def _set_wall_clock(self) -> None:
        seconds = self.history.chance.choice([-100.0, -1.0, 1.0, 100.0])
        self.history.tick(f"the wall clock is set by {seconds} s")
        self.clock.set_wall_clock(self.clock.now() + seconds)

    # How it ends

    async def _give_disk_work(self) -> None:
        """More often than not the power fails while there is something to write."""
        for _ in range(self.history.chance.choice([0, 20, 20])):
            if self._store.committer.has_batches or self.history.violations:
                return
            self._callers.call()
            for _ in range(3):
                await anyio.lowlevel.checkpoint()

    def _cut_power(self) -> Path:
        """What is on the disk now, or in the middle of the next commit, is all that is left."""
        history, chance = self.history, self.history.chance
        history.count("power failures")
        history.judge_connections(is_at_rest=False)
        target = self.folder.with_name(f"{self.folder.name}'")
        before = {name: self._look(name) for name in NAMES}
        history.end_life(by_power_failure=True)
        if chance.random() < 0.2:
            power.cut(self.folder, target)
            history.after_failure = before
        else:
            self.faults.repair()
            self.faults.is_unsure = False
            within = self._store.cut_within(self._draw_commit(), target, chance)
            if within is not None:
                kind = " with a journal" if self.has_journal else ""
                history.count(f"power failures within a commit{kind}")
                history.tick(f"within a commit, {within.when}")
            is_in = within is not None and within.is_in
            after = {name: self._look(name) for name in NAMES}
            history.after_failure = after if is_in else before
        self.faults.lose_power()
        return target

    def _draw_commit(self) -> Callable[[], None]:
        """Something that the disk may be doing when the power fails."""
        committer = self._store.committer
        some = self.history.chance.choice([1, 2, 1_000])
        commit = partial(committer.commit, some)
        return commit if committer.has_batches else committer.collect

    async def _finish(self) -> None:
        """Everything works again: every call is answered, and every alarm rings."""
        history = self.history
        history.rings_fail = False
        self.faults.repair()
        self.faults.is_unsure = False
        self._store.run_by_itself()
        for _ in range(JUMPS_MAX):
            await self._wait_answered()
            if history.violations or not self._store.engine.next_alarm_us():
                break
            self._move(JUMP_S)
        else:
            history.broken("P12: an alarm has not rung although its time is long past")
        await self._compare()
        await self._wait_answered()
        self._check_bookmarks()
        history.judge_connections(is_at_rest=True)

    async def _wait_answered(self) -> None:
        quiet = 0
        for rounds in range(ROUNDS_MAX):
            await anyio.lowlevel.checkpoint()
            # A call whose caller has gone is carried out all the same.
            is_carried_out = any(activation.open for activation in self._runtime._directory)
            is_busy = self._open_calls or is_carried_out or self._store.committer.waiting
            quiet = 0 if is_busy else quiet + 1
            if quiet > 40:
                return
            if not rounds % 50:
                self.clock.jump(1.0)
        if not self.history.violations:
            self.history.broken(f"{self._open_calls} calls are never answered")

    @property
    def _open_calls(self) -> int:
        return self._callers.open_calls + self._clients.open_calls

    async def _compare(self) -> None:
        """Compare the objects' final state with the disk's, and check that no alarm is left."""
        history = self.history
        for name in NAMES:
            if history.violations:
                return
            how = {"before": 0, "after": 0, "read": 0, "key": "", "value": None, "announces": None}
            operation = ask(history, "read", name, how)[0]
            stub: Any = self._namespace.get_by_name(name)
            with anyio.move_on_after(1_000):
                [answer] = await stub.do(
                    stub=0, number=0, kind="read", change=operation.change, how=how
                )
                history.heard(operation, answer)
                if answer[2] is not None:
                    history.broken(f"P12: the alarm of {name} is lost: {answer}")

    # The disk

    def _look(self, name: str) -> State | None:
        namespace = self._namespace
        base = namespace.id_from_name(name).raw[:16]
        return look(self._store.engine, namespace.record.number, base)

    def _read_disk(self) -> None:
        """At the start of a life: what is on the disk is what the history explains."""
        history = self.history
        for name, state in history.after_failure.items():
            if (found := self._look(name)) != state:
                history.broken(f"P16: {name} had {state} on the disk, and now it is {found}")
        history.after_failure = {}
        for name in NAMES:
            history.begins(name)
        self._check_bookmarks()

    def _check_bookmarks(self) -> None:
        namespace, engine = self._namespace, self._store.engine
        for what in self.history.bookmarks.check(
            engine, namespace.record.number, lambda name: namespace.id_from_name(name).raw[:16]
        ):
            self.history.broken(what)


def check_folder(history: History, folder: Path) -> None:
    """The store's own check of its files finds nothing wrong."""
    problems = list(check(folder))
    if problems:
        history.violations.append(f"P16: the files are damaged: {problems}")
