"""The director: decides by the seed what happens next, in one life of the store.

Callers ask objects for operations, and are cancelled; the disk makes a step, or fails; the clock
jumps; objects are evicted and aborted; at the end the power fails, or the program closes the store.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from attrs import define, field

import durable
import durable.testing
from durable._disk.check import check
from durable.testing.clock import VirtualClock

from .disk import SimulatedStore, UnsureFaults, look, open
from .history import History
from .model import Operation, State
from .subject import KEYS, READ_STYLES, WRITE_STYLES, Refusal, Subject

NAMES = ("ann", "bob", "cid")
CALLERS = 4
STEPS = (30, 160)
# Rounds of the loop in which every call must be answered, once nothing is held back.
ROUNDS_MAX = 4_000
# Jumps of the clock, of so many seconds, in which every alarm must have rung at the end.
JUMPS_MAX = 400
JUMP_S = 31.0

# kind of operation: how often, and the kinds of its steps
KINDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "touch": (8, ("touch",)),
    "set": (6, ("set",)),
    "drop": (3, ("drop",)),
    "read": (8, ("read",)),
    "wipe": (1, ("wipe",)),
    "remind": (4, ("remind",)),
    "forget": (1, ("forget",)),
    "refuse": (2, ("touch",)),
    "confirm": (2, ("touch",)),
    "twice": (3, ("touch", "touch")),
    "relay": (3, ("touch", "touch")),
    "alone": (2, ("touch",)),
    "drip": (2, ("touch", "touch")),
    "undone": (2, ("touch",)),
    "stop": (1, ()),
}


class SimulatedClock(VirtualClock):
    """A virtual clock that is moved without waiting for what follows from it."""

    def jump(self, seconds: float) -> None:
        target_s = self._elapsed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= target_s:
            self._wake_next()
        self._elapsed_s = target_s


@define(eq=False)
class Caller:
    """Somebody outside, with stubs of its own."""

    stubs: dict[str, tuple[int, Any]] = field(factory=dict)
    sent: dict[int, int] = field(factory=dict)


@define(eq=False)
class Life:
    """One life of the store, from its opening to its end."""

    history: History
    clock: SimulatedClock
    folder: Path
    is_last: bool
    faults: UnsureFaults = field(factory=UnsureFaults)
    callers: list[Caller] = field(factory=lambda: [Caller() for _ in range(CALLERS)])
    _scopes: list[anyio.CancelScope] = field(factory=list)
    _stub_count: int = 0
    _open_calls: int = 0
    _store: SimulatedStore = field(init=False)
    _runtime: durable.Runtime = field(init=False)
    _tasks: TaskGroup = field(init=False)

    async def run(self) -> Path:
        """Live; answers the folder for the next life."""
        history, chance = self.history, self.history.chance
        opening = open(
            self.folder,
            faults=self.faults,
            clock=self.clock,
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
            self._read_disk()
            async with anyio.create_task_group() as self._tasks:
                await self._act()
                if self.is_last:
                    await self._finish()
                elif chance.random() < 0.7:
                    folder = self._cut_power()
                self._tasks.cancel_scope.cancel()
            self._store.run_by_itself()
        if history.is_live:
            history.end_life()
        if self.is_last:
            history.begin_life()
        return folder

    # What happens

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
        """How often what happens in this life; each life leaves some of it out."""
        chance = self.history.chance
        often: dict[Callable[[], None], float] = {
            self._call: 10,
            self._commit: 6,
            self._report: 6,
            self._read: 5,
            self._report_reads: 5,
            self._serve: chance.choice([0, 3, 15]),
        }
        seldom: dict[Callable[[], None], float] = {
            self._switch_reads: 1,
            self._cancel: 2,
            self._evict: 4,
            self._jump: 3,
            self._jump_far: 0.3,
            self._set_wall_clock: 0.3,
            self._fail_commit: 0.6,
            self._lose_news: 0.4,
            self._abort_all: 0.15,
            self._collect: 1,
        }
        chosen = {action: weight for action, weight in seldom.items() if chance.random() < 0.7}
        return often | chosen

    def _call(self) -> None:
        chance = self.history.chance
        caller = chance.choice(self.callers)
        name = chance.choice(NAMES)
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            self._call_once(caller, name)

    def _call_once(self, caller: Caller, name: str) -> None:
        chance = self.history.chance
        kind = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
        how = {
            "before": chance.choice([0, 0, 0, 1, 2, 3]),
            "between": chance.choice([0, 1, 2, 3]),
            "after": chance.choice([0, 0, 0, 1, 2]),
            "read": chance.randrange(READ_STYLES),
            "write": chance.randrange(WRITE_STYLES),
            "key": chance.choice(KEYS),
            "value": chance.randrange(1_000),
            "delay": chance.choice([0.01, 3.0, 40.0]),
            "other": chance.choice(NAMES),
        }
        operations = self._ask(kind, name, how)
        stub_number, stub = self._stub(caller, name)
        caller.sent[stub_number] = number = caller.sent.get(stub_number, 0) + 1
        order = {
            "stub": stub_number,
            "number": number,
            "kind": kind,
            "change": operations[0].change if operations else 0,
            "how": how,
        }
        is_fetch = chance.random() < 0.3 and kind != "drip"
        try:
            if kind == "drip":
                answer = stub.drip(**order)
            elif is_fetch:
                answer = stub.fetch("https://subject/", method="POST", body=json.dumps(order))
            else:
                answer = stub.do(**order)
        except durable.DurableError as error:
            self._failed(caller, name, error)
            return
        self.history.count("calls")
        if chance.random() < 0.05:
            return  # nobody waits for it
        scope = anyio.CancelScope()
        self._scopes.append(scope)
        self._tasks.start_soon(self._hear, caller, name, answer, operations, is_fetch, scope)

    def _ask(self, kind: str, name: str, how: dict[str, Any]) -> list[Operation]:
        operations: list[Operation] = []
        for step in KINDS[kind][1]:
            where = how["other"] if operations and kind == "relay" else name
            operation = Operation(where, step, 0, 0, how["key"], how["value"])
            is_later = operations and kind in {"twice", "drip"}
            operation.after = operations[-1] if is_later else None
            operations.append(self.history.asked(operation))
        return operations

    def _stub(self, caller: Caller, name: str) -> tuple[int, Any]:
        if name not in caller.stubs:
            self._stub_count += 1
            caller.stubs[name] = self._stub_count, self._namespace.get_by_name(name)
        return caller.stubs[name]

    @property
    def _namespace(self) -> durable.Namespace[Subject]:
        return self._runtime.namespace(Subject)

    async def _hear(
        self,
        caller: Caller,
        name: str,
        answer: Any,
        operations: list[Operation],
        is_fetch: bool,
        scope: anyio.CancelScope,
    ) -> None:
        self._open_calls += 1
        try:
            with scope:
                if hasattr(answer, "__aiter__"):
                    left = iter(operations)
                    async for said in answer:
                        self._heard([next(left)], [said])
                    return
                answers = await answer
                if is_fetch:
                    answers = json.loads(await answers.text())
                self._heard(operations, answers)
        except Refusal as refusal:
            self._heard(operations, refusal.args[0])
        except (durable.DurableError, ValueError) as error:
            self._failed(caller, name, error)
        finally:
            self._open_calls -= 1
            self._scopes.remove(scope)

    def _heard(self, operations: list[Operation], answers: list[Any]) -> None:
        self.history.count("answers")
        for operation, answer in zip(operations, answers, strict=True):
            self.history.heard(operation, answer)

    def _failed(self, caller: Caller, name: str, error: Exception) -> None:
        self.history.count("failures")
        self.history.tick(f"hears {type(error).__name__}: {str(error)[:60]}")
        if isinstance(error, durable.InternalError):
            self.history.broken(f"an error of the library itself: {error!r}")
        if getattr(error, "reset", False):
            caller.stubs.pop(name, None)

    def _cancel(self) -> None:
        if self._scopes:
            self.history.count("cancellations")
            self.history.chance.choice(self._scopes).cancel()

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
        """The disk does all that it was asked for."""
        self._commit()
        self._report()
        for _ in range(10):
            self._read()
        self._report_reads()

    def _switch_reads(self) -> None:
        self._store.reads.is_inline = not self._store.reads.is_inline

    def _collect(self) -> None:
        self._store.committer.collect()

    def _fail_commit(self) -> None:
        self.history.count("failed commits")
        self.faults.fail_commits()

    def _lose_news(self) -> None:
        self.faults.is_unsure = True

    def _evict(self) -> None:
        name = self.history.chance.choice(NAMES)
        host = self._runtime._directory.live(self._namespace.id_from_name(name))
        if host is not None and host.is_idle:
            self.history.count("evictions")
            self.history.tick(f"evicts {name}")
            host.evict()

    def _abort_all(self) -> None:
        self.history.tick("aborts all objects")
        for host in self._runtime._directory:
            host.break_(durable.ObjectReset("all objects are aborted"))

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

    def _cut_power(self) -> Path:
        """What is on the disk now is all that there will be."""
        self.history.count("power failures")
        target = self.folder.with_name(f"{self.folder.name}'")
        target.mkdir()
        shutil.copy(self.folder / "data.mdb", target / "data.mdb")
        self.history.end_life()
        self.faults.lose_power()
        return target

    async def _finish(self) -> None:
        """Everything works again: every call is answered, and every alarm rings."""
        history = self.history
        history.rings_fail = False
        self.faults.repair()
        self.faults.is_unsure = False
        self._store.run_by_itself()
        for _ in range(JUMPS_MAX):
            await self._wait_answered()
            if history.violations or not self._store.environment.next_alarm_us():
                break
            self._move(JUMP_S)
        else:
            history.broken("P12: an alarm has not rung although its time is long past")
        await self._compare()

    async def _wait_answered(self) -> None:
        quiet = 0
        for rounds in range(ROUNDS_MAX):
            await anyio.lowlevel.checkpoint()
            # A call that nobody waits for any more is carried out all the same.
            is_carried_out = any(host.open for host in self._runtime._directory)
            is_busy = self._open_calls or is_carried_out or self._store.committer.waiting
            quiet = 0 if is_busy else quiet + 1
            if quiet > 40:
                return
            if not rounds % 50:
                self.clock.jump(1.0)
        if not self.history.violations:
            self.history.broken(f"{self._open_calls} calls are never answered")

    async def _compare(self) -> None:
        """What objects say at the end is what the disk has, and no alarm is left."""
        history = self.history
        for name in NAMES:
            if history.violations:
                return
            how = {"before": 0, "after": 0, "read": 0}
            operation = self._ask("read", name, {**how, "key": "", "value": None})[0]
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
        return look(self._store.environment, namespace.record.number, base)

    def _read_disk(self) -> None:
        """At the start of a life: what is on the disk is what the history explains."""
        for name in NAMES:
            state = self._look(name)
            if state is None:
                self.history.broken(f"P7: half a batch of {name} is on the disk")
                continue
            operation = self.history.asked(Operation(name, "read", 0, 0))
            operation.n = state.n
            keys = [list(pair) for pair in state.keys]
            self.history.heard(operation, [state.n, state.last, state.due, keys])


def check_folder(history: History, folder: Path) -> None:
    """The store's own check of its files finds nothing wrong."""
    problems = list(check(folder))
    if problems:
        history.violations.append(f"P16: the files are damaged: {problems}")
