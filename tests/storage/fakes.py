"""A disk, a gate and a clock that do what the test says, when it says so.

The disk is a dict for each number. Batches wait until they are committed, and are reported durable
apart from that; reads of the reader thread wait until they are finished.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Generator, Iterable, Sequence
from threading import get_ident
from typing import Any

from attrs import define, field

from durable._engine.batch import Alarm, Batch, ObjectHandle, Unchanged
from durable._engine.codec import MsgpackCodec
from durable._gates.futures import Answer, PendingAnswer
from durable._gates.output_gate import OutputGate
from durable._gates.running_code import NO_THREAD
from durable._model.errors import DurableError
from durable._model.limits import Limits
from durable._storage.cache_budget import CacheBudget
from durable._storage.object_storage import ObjectStorage
from durable._storage.sql_support import SqlSupport
from durable._storage.storage import Storage


class FakeLoop:
    """Nothing waits in these tests: they look at answers, and finish them by hand."""

    def __init__(self) -> None:
        self.thread = get_ident()


@define(eq=False)
class FakeGate:
    """Counts its holds."""

    loop: Any = field(factory=FakeLoop)
    broken: DurableError | None = None
    holds: int = 0
    inside: Any = None
    line: None = None
    # Code outside of any turn writes, as far as the storage can see.
    holder: None = None
    owner: FakeOwner = field(init=False)
    thread: int = field(factory=get_ident)

    def shut_out(self, reason: DurableError) -> None:
        self.broken = reason
        self.thread = NO_THREAD

    def check(self) -> None:
        if self.broken is not None:
            raise self.stopped()

    check_loop = check

    def stopped(self) -> BaseException:
        assert self.broken is not None
        return self.broken.again()

    def hold(self) -> None:
        self.holds += 1

    def release(self) -> None:
        assert self.holds > 0
        self.holds -= 1


@define(eq=False)
class FakeOwner:
    """In place of the activation: notes why it was reset."""

    gate: FakeGate
    output: OutputGate
    failed: list[DurableError] = field(factory=list)
    object_storage: ObjectStorage = field(init=False)

    def wrote_outside(self) -> None:
        """The test seals."""

    def break_(self, reason: DurableError) -> None:
        self.failed.append(reason)
        for unheard in self.output.drop_waiting():
            unheard.fail(reason)
        self.gate.shut_out(reason)

    def fail(self, error: BaseException) -> None:
        assert isinstance(error, DurableError)
        self.break_(error)

    def run(self, fn: Callable[[], Awaitable[Any]], *, resets: bool) -> Answer[Any]:
        """Run a critical section."""
        assert not resets

        def begin() -> Awaitable[Any]:
            self.object_storage.seal()  # the turn of the call has ended
            return fn()

        return Section(begin)


@define(eq=False)
class FakeSql:
    """Opens SQL, as the activation does."""

    open_sql: Callable[[Any], Any]


@define(eq=False)
class FakeClock:
    now_s: float = 1_000_000.0

    def now(self) -> float:
        return self.now_s


@define(eq=False)
class Read:
    """A read in the reader thread, under way."""

    _read: Callable[[Any], Any]
    _on_done: Callable[[Any], None]
    _on_failed: Callable[[DurableError], None]
    _disk: FakeDisk
    _result: Any = None
    _is_made: bool = False

    def make(self) -> None:
        """The thread looks at the disk now."""
        if not self._is_made:
            self._is_made = True
            self._result = self._read(self._disk)

    def finish(self) -> None:
        self.make()
        self._disk.reading.remove(self)
        self._on_done(self._result)

    def fail(self, error: DurableError) -> None:
        self._disk.reading.remove(self)
        self._on_failed(error)


@define(eq=False)
class FakeDisk:
    """What is stored, what waits to be, and who reads. Also counts how often it was asked."""

    inline: bool = True
    stored: dict[int, dict[str, bytes]] = field(factory=dict)
    sides: dict[int, dict[bytes, bytes]] = field(factory=dict)
    keyspace: int = 0  # under which the one object's records are now
    alarm: Alarm | None = None
    waiting: list[Batch] = field(factory=list)
    unreported: list[Batch] = field(factory=list)
    reading: list[Read] = field(factory=list)
    asked: int = 0
    values_read: int = 0  # by lists
    gathers: bool = False  # batches that wait may be joined by more turns
    _last_number: int = 0

    def next_keyspace(self) -> int:
        self._last_number += 1
        return self._last_number

    # Reads

    def get(self, number: int, key: str) -> bytes | None:
        self.asked += 1
        return self.stored.get(number, {}).get(key)

    def get_many(self, number: int, keys: Iterable[str]) -> dict[str, bytes]:
        self.asked += 1
        stored = self.stored.get(number, {})
        return {key: stored[key] for key in keys if key in stored}

    def scan_some(
        self,
        number: int,
        lower: str,
        upper: str | None,
        *,
        reverse: bool,
        count_max: int | None,
        size_max: int | None = None,
    ) -> tuple[list[tuple[str, bytes]], bool]:
        self.asked += 1
        pairs = [
            (key, value)
            for key, value in sorted(self.stored.get(number, {}).items(), reverse=reverse)
            if lower <= key and (upper is None or key < upper)
        ]
        found: list[tuple[str, bytes]] = []
        size = 0
        for key, value in pairs:
            if len(found) == count_max or (size_max is not None and size >= size_max):
                return found, False
            found.append((key, value))
            size += len(value)
            self.values_read += 1
        return found, True

    def keys_some(
        self, number: int, lower: str, upper: str | None, *, reverse: bool, count_max: int
    ) -> tuple[list[str], bool]:
        pairs, is_last = self.scan_some(number, lower, upper, reverse=reverse, count_max=count_max)
        self.values_read -= len(pairs)
        return [key for key, _ in pairs], is_last

    def count_some(
        self, number: int, lower: str, upper: str | None, without: Container[bytes], count_max: int
    ) -> tuple[int, str | None]:
        pairs, is_last = self.scan_some(number, lower, upper, reverse=False, count_max=count_max)
        count = sum(key.encode() not in without for key, _ in pairs)
        return count, None if is_last else pairs[-1][0] + "\0"

    def count_present(self, number: int, keys: Iterable[str]) -> int:
        return len(self.get_many(number, keys))

    def get_side(self, number: int, key: bytes) -> bytes | None:
        return self.sides.get(number, {}).get(key)

    def get_sides(self, number: int, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get_side(number, key) for key in keys]

    def scan_sides(
        self, number: int, lower: bytes, upper: bytes, *, reverse: bool, count_max: int
    ) -> list[tuple[bytes, bytes]]:
        stored = sorted(self.sides.get(number, {}).items(), reverse=reverse)
        return [(key, value) for key, value in stored if lower <= key < upper][:count_max]

    def fetch(
        self,
        read: Callable[[Any], Any],
        on_done: Callable[[Any], None],
        on_failed: Callable[[DurableError], None],
    ) -> None:
        self.reading.append(Read(read, on_done, on_failed, self))

    # Commits

    def submit(self, batch: Batch) -> None:
        batch.is_open = self.gathers
        self.waiting.append(batch)

    def commit(self) -> Batch:
        """Apply the oldest batch; it is not reported yet."""
        batch = self.waiting.pop(0)
        batch.is_open = False
        if batch.clears:
            self.stored.pop(self.keyspace, None)
            # Freed in steps: for a while they can still be read.
        self.keyspace = batch.handle.keyspace
        stored = self.stored.setdefault(self.keyspace, {})
        for key, value in batch.puts.items():
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
        for side, value in (batch.sides or {}).items():
            kept = self.sides.setdefault(self.keyspace, {})
            if value is None:
                kept.pop(side, None)
            else:
                kept[side] = value
        if not isinstance(batch.alarm, Unchanged):
            self.alarm = batch.alarm
        self.unreported.append(batch)
        return batch

    def report(self) -> None:
        """Say that the oldest committed batch is durable."""
        batch = self.unreported.pop(0)
        batch.origin.batch_durable(batch)

    def settle(self) -> None:
        """Finish every read, commit and report everything."""
        while self.reading or self.waiting or self.unreported:
            while self.reading:
                self.reading[0].finish()
            while self.waiting:
                self.commit()
            while self.unreported:
                self.report()

    def fail(self, error: DurableError) -> None:
        """No batch that waits reaches the disk."""
        for batch in self.waiting:
            batch.origin.batch_failed(batch, error)
        self.waiting.clear()


class Section(Answer[Any]):
    """A critical section that begins when it is awaited."""

    __slots__ = ("_begin",)

    def __init__(self, begin: Callable[[], Awaitable[Any]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._begin().__await__())


@define(eq=False)
class Kit:
    """A storage on fakes."""

    disk: FakeDisk
    gate: FakeGate
    output: OutputGate
    clock: FakeClock
    budget: CacheBudget
    object_storage: ObjectStorage
    failed: list[DurableError]

    @property
    def storage(self) -> Storage:
        return self.object_storage.storage


def make_kit(
    disk: FakeDisk | None = None,
    *,
    limits: Limits | None = None,
    budget: CacheBudget | None = None,
    clock: FakeClock | None = None,
    has_alarm_handler: bool = True,
) -> Kit:
    disk = disk if disk is not None else FakeDisk()
    limits = limits or Limits()
    budget = budget or CacheBudget(limits.cache_bytes_max)
    gate, output, clock = FakeGate(), OutputGate(), clock or FakeClock()
    owner = gate.owner = FakeOwner(gate, output)
    handle = ObjectHandle(
        class_number=1,
        base=bytes(16),
        keyspace=disk.keyspace,
        name=None,
        created_us=None,
        alarm=disk.alarm,
    )

    owner.object_storage = object_storage = ObjectStorage(
        handle=handle,
        reads=disk,  # type: ignore[arg-type]
        submit=disk.submit,
        next_keyspace=disk.next_keyspace,
        gate=gate,  # type: ignore[arg-type]
        output=output,
        codec=MsgpackCodec(),
        limits=limits,
        clock=clock,  # type: ignore[arg-type]
        budget=budget,
        sections=owner,  # type: ignore[arg-type]
        owner=FakeSql(SqlSupport(clock, limits).open),  # type: ignore[arg-type]
        has_alarm_handler=has_alarm_handler,
    )
    return Kit(disk, gate, output, clock, budget, object_storage, owner.failed)


def stored_kit(values: dict[str, Any], **options: Any) -> Kit:
    """A storage that has just been woken, with *values* on its disk."""
    kit = make_kit(FakeDisk(inline=options.pop("inline", True)))
    if values:
        kit.storage.put(values)
        kit.object_storage.seal()
        kit.disk.settle()
    kit.disk.asked = 0
    return make_kit(kit.disk, **options)


def value_of(answer: Answer[Any]) -> Any:
    """What an answer holds that is there already."""
    if isinstance(answer, PendingAnswer):
        assert answer.is_done, "the answer has not come"
    return run(answer)


def run(awaitable: Awaitable[Any]) -> Any:
    """The value of what never really waits."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")
