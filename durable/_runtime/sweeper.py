"""The sweeper: frees what is too old in the histories of objects that are not called.

An object that is written to frees what is too old of its history itself. For the others the sweeper
passes over the objects of the classes that keep a history, in steps of bounded work: what it
deletes of a history is a batch like others, and no object is woken for it. A pass comes when there
may be something to free, and no oftener than once in `PASS_EVERY_S`; where there are no histories
there is none.

Rule: an object that is not in memory does not begin while a batch of the sweeper is on its way,
since it would go by bookmarks that are about to be gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from attrs import define, field

from durable._border.durable_object import DurableObject
from durable._engine.batch import UNCHANGED, Batch, Callbacks, ObjectHandle, ObjectRecord
from durable._engine.history_records import WISH, beginning_of
from durable._engine.pruning import Pruned, first_chapter, prune_some
from durable._engine.view import Malformed
from durable._loop.timers import Timer
from durable._model.errors import DurableError, StoreDamaged
from durable._model.log import log
from durable._object.activation import Activation
from durable._object.disk import Disk
from durable._object.live import Phase
from durable._object.services import Services

from .class_table import ClassEntry, ClassTable
from .directory import Directory
from .disks import Disks

# The first pass comes so long after the opening; and one after another no sooner.
FIRST_PASS_S: Final = 5.0
PASS_EVERY_S: Final = 3_600.0
# Between two steps everything else of the program runs.
PAUSE_S: Final = 0.1
# A step ends with so many objects that it has looked at, or so many histories, or with one of which
# it deletes some records.
LOOKED_AT: Final = 200
HISTORIES_READ: Final = 20
# Where the engine is far away, and each look at a history takes a round trip or two.
HISTORIES_READ_FAR: Final = 4
DELETED_AT_ONCE: Final = 1_000


@define(eq=False)
class Sweeper:
    """That of one disk. Nothing here suspends."""

    services: Services
    disk: Disk
    disks: Disks
    directory: Directory
    classes: ClassTable
    _timer: Timer | None = field(default=None, init=False)
    _timer_at_s: float = field(default=math.inf, init=False)
    _is_closed: bool = field(default=False, init=False)
    # The pass under way. What it yields is the end of a step.
    _pass: Iterator[None] | None = field(default=None, init=False)
    _is_answer_awaited: bool = field(default=False, init=False)
    # When something will be too old, of what the pass has seen.
    _next_us: float = field(default=math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self.services.on_gone.append(self._gone)

    def ask(self) -> None:
        """There may be classes now that keep a history: make a pass soon."""
        if any(self._retention_us(entry) is not None for entry in self.classes):
            self._pass_in(FIRST_PASS_S)

    def close(self) -> None:
        """Free nothing more."""
        if self._is_closed:
            return
        self._is_closed = True
        self._pass = None
        self.services.on_gone.remove(self._gone)
        if self._timer is not None:
            self._timer.cancel()

    def _retention_us(self, entry: ClassEntry[DurableObject]) -> int | None:
        return self.services.history_of(entry.cls, entry.record.number)

    def _gone(self, activation: Activation) -> None:
        """An object has left memory: what it keeps will be too old some day."""
        if activation.handle.history and activation.disk is self.disk:
            retention_us = self.services.history_of(activation.cls, activation.handle.class_number)
            if retention_us is not None:
                self._pass_in(max(PASS_EVERY_S, retention_us / 1_000_000))

    # When

    def _pass_in(self, delay_s: float) -> None:
        """Make a pass after so long, if none comes before."""
        if self._pass is not None:  # which may have gone by already
            now_us = self.services.clock.now() * 1_000_000
            self._next_us = min(self._next_us, now_us + delay_s * 1_000_000)
            return
        at_s = self.services.clock.steady() + delay_s
        if self._is_closed or at_s >= self._timer_at_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self.services.timers.call_later(delay_s, self._begin)

    def _begin(self) -> None:
        self._timer, self._timer_at_s = None, math.inf
        self._next_us = math.inf
        self._pass = self._all()
        self._step()

    def _end(self) -> None:
        self._pass = None
        if not math.isinf(self._next_us):
            now_us = self.services.clock.now() * 1_000_000
            self._pass_in(max(PASS_EVERY_S, (self._next_us - now_us) / 1_000_000))

    def _step(self) -> None:
        self._timer = None
        if self._pass is None or not self.services.is_open:
            return
        try:
            next(self._pass)
        except StopIteration:
            self._end()
            return
        except Exception as error:  # of the disk, or a fault of ours; no object is to blame
            self._fail(error)
            return
        finally:
            self.disk.engine.refresh()  # no old page is kept until the next step
        if not self._is_answer_awaited:
            self._go_on()

    def _fail(self, error: Exception) -> None:
        """Leave the pass, and make another one."""
        log.warning(
            "old history could not be freed, and is tried again later: %s",
            error,
            exc_info=not isinstance(error, DurableError),
        )
        self._next_us = 0
        self._end()

    def _go_on(self) -> None:
        if not self._is_closed:
            self._timer = self.services.timers.call_later(PAUSE_S, self._step)

    # What

    def _all(self) -> Iterator[None]:
        for entry in self.classes:
            retention_us = self._retention_us(entry)
            after: bytes | None = None
            while retention_us is not None:
                found = self.disk.engine.objects(
                    entry.record.number, after=after, count_max=LOOKED_AT
                )
                if not found:
                    break
                after = found[-1][0]
                yield from self._some(entry, found, retention_us)
                yield

    def _some(
        self,
        entry: ClassEntry[DurableObject],
        found: list[tuple[bytes, ObjectRecord]],
        retention_us: int,
    ) -> Iterator[None]:
        read = 0
        read_max = HISTORIES_READ if self.disk.wake is None else HISTORIES_READ_FAR
        for base, record in found:
            if not record.history or not self.disks.keeps(base):
                continue
            while self._prune(entry, base, record, retention_us):
                yield
            read += 1
            if read % read_max == 0:
                yield

    def _prune(
        self,
        entry: ClassEntry[DurableObject],
        base: bytes,
        record: ObjectRecord,
        retention_us: int,
    ) -> bool:
        """Free some of what is too old of one object; returns whether there was any."""
        object_id = entry.ids.from_base(base, record.name)
        live = self.directory.live(object_id)
        if live is not None:
            if live.phase is Phase.RUNNING and live.is_idle and live.storage.prune_history():
                self._next_us = 0  # there may be more, which waits until this is stored
            return False
        let_in = self.directory.keep_out(object_id)
        if let_in is None:
            return False
        try:
            # It may have changed since it was listed.
            now = self.disk.engine.find(entry.record.number, base)
            pruned = None if now is None else self._too_old(now.history, retention_us)
        except (StoreDamaged, Malformed):  # `durable check` reports it
            pruned = None
        if now is None or pruned is None:
            let_in()
            return False
        self._submit(entry.record.number, base, now, pruned, let_in)
        return True

    def _too_old(self, history: int, retention_us: int) -> Pruned | None:
        reader = self.disk.engine.in_line
        until_us = round(self.services.clock.now() * 1_000_000) - retention_us
        first_us = beginning_of(reader, history) if history else 0
        if 0 < first_us < until_us:
            # An object that is to go back when it is built next frees it after that.
            if reader.get_side(history, WISH) is not None:
                return None
            pruned = prune_some(reader, history, until_us, DELETED_AT_ONCE)
            if pruned is not None:
                return pruned
            first_us = first_chapter(reader, history)
        if first_us:
            self._next_us = min(self._next_us, first_us + retention_us)
        return None

    def _submit(
        self,
        class_number: int,
        base: bytes,
        record: ObjectRecord,
        pruned: Pruned,
        let_in: Callable[[], None],
    ) -> None:
        handle = ObjectHandle.of(class_number, base, record)
        if self.disk.wake is not None:
            handle.record = record
        origin = Callbacks(partial(self._answered, let_in, None), partial(self._answered, let_in))
        batch = Batch(handle, False, {}, UNCHANGED, origin, pruned.size)
        batch.history, batch.forgets = pruned.records, pruned.forgets
        self._is_answer_awaited = True
        self.disk.submit(batch)

    def _answered(self, let_in: Callable[[], None], error: DurableError | None) -> None:
        self._is_answer_awaited = False
        let_in()
        if error is not None:
            self._fail(error)
        else:
            self._go_on()
