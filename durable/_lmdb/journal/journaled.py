"""A store with a journal: a group is confirmed when it is in the journal, and the file follows.

A commit of LMDB's syncs twice, and writes each page that a key stands on. Here a group is one
record in a file that was written before, with one sync. A thread brings what has gathered into the
store's file: a second after the first of it, or when there is much, and each key once, however
often it was written. That is an ordinary commit of LMDB's, synced as ever, which also says up to
which position the journal is in the file. What is read lies in layers above the file until then.

Rule: what is *durable* is in the journal, or in the file. What is *applied* is in the file. What is
not applied is never overwritten in the journal.

Rule: after a write to the journal that failed nothing of the journal is trusted, and it is not
written again: what was confirmed goes to the file, and a new journal begins.

Whatever the journal cannot take goes to the file, as without one, after all that was before it: a
group that is too large, and every group while there is no journal, since the disk had no room.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar, Final, TypeVar

from attrs import define, field

from durable._engine.batch import Batch
from durable._engine.catalog import Catalog, Weight
from durable._engine.engine import GARBAGE_STEP
from durable._engine.measures import Measures
from durable._engine.merged import Merged
from durable._model.clock import Clock
from durable._model.errors import CommitFailed, DurableError, StoreFull

from ..environment import Environment
from ..lmdb_errors import NO_ROOM
from . import segments
from .describing import Description
from .layers import LayeredReader, Layers
from .marking import JOURNAL_ID_SIZE
from .questions import LayeredQuestions, find_by
from .recovery import remove_journal
from .segments import Journal

# The file follows after so long, or so many bytes of the journal.
APPLY_S_MAX: Final = 1.0
APPLY_SIZE: Final = 1 << 20
# A larger group goes to the file.
GROUP_SIZE_MAX: Final = 512 << 10
# Where there was no room for a journal one is tried again after this.
TRY_AGAIN_S: Final = 10.0

T = TypeVar("T")


@define(eq=False, repr=False)
class Journaled(LayeredQuestions):
    """An `Engine`: the store *file* with a journal. It closes the file with itself."""

    file: Environment
    clock: Clock
    # Whether a thread brings things into the file; else it is done by `bring_in` alone.
    _follows: bool = field(default=True, kw_only=True)
    keeps_histories: ClassVar[bool] = True
    in_line: LayeredReader = field(init=False)
    _layers: Layers = field(factory=lambda: Layers(Merged(), None), init=False)
    _journal: Journal | None = field(default=None, init=False)
    _applied: int = field(default=0, init=False)  # the position up to which the file has it
    _applying_to: int = field(default=0, init=False)  # that of the layer that is applied
    # A write to the journal has failed; or to the file. The next commit sees to that first.
    _is_void: bool = field(default=False, init=False)
    _is_behind: bool = field(default=False, init=False)
    _tried_s: float | None = field(default=None, init=False)  # when a journal was begun last
    _reader: LayeredReader = field(init=False)  # of the thread that commits
    # Held while a group is written to the journal, and until it is in the active layer.
    _writing: threading.Lock = field(factory=threading.Lock, init=False)
    # Held while something is added to the active layer, or the layers become others.
    _adding: threading.Lock = field(factory=threading.Lock, init=False)
    _applying: threading.Lock = field(factory=threading.Lock, init=False)
    _some: threading.Event = field(factory=threading.Event, init=False)
    _much: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _is_closing: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.in_line = self.new_reader()
        self._reader = LayeredReader.of(self.file.handle, lambda: self._layers, None)
        self._begin_journal()
        if self._follows:
            # A daemon, because a program that never closes its store must be able to exit.
            self._thread = threading.Thread(
                target=self._follow, name="durable journal", daemon=True
            )
            self._thread.start()

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def has_garbage(self) -> bool:
        return self.file.has_garbage

    @has_garbage.setter
    def has_garbage(self, value: bool) -> None:
        self.file.has_garbage = value

    # Reading

    def refresh(self) -> None:
        self.in_line.release()
        self.file.refresh()

    def new_reader(self) -> LayeredReader:
        return LayeredReader.of(self.file.handle, lambda: self._layers, self._adding)

    def catalog(self) -> Catalog:
        return self.file.catalog()

    def weigh_class(self, class_number: int) -> Weight:
        self.bring_in()
        self.refresh()
        return self.file.weigh_class(class_number)

    def measure(self) -> Measures:
        return self.file.measure()

    # Writing

    def next_keyspace(self) -> int:
        return self.file.next_keyspace()

    def commit(self, group: Sequence[Batch], *, may_wait: bool = True) -> bool:
        """Make every batch durable, as `Engine.commit` says: by one synced write to the journal."""
        self.file.handle.check_usable()
        self.file.handle.check_folder()
        is_well = self._journal is not None and not self._is_void and not self._is_behind
        if is_well and sum([batch.size for batch in group]) <= GROUP_SIZE_MAX:
            description = self._describe(group)
            if not description.has_history:
                if self._append(description, may_wait=may_wait):
                    return True
                if may_wait and self._roll() and self._append(description):
                    return True
        return may_wait and self._commit_to_file(group)

    def _describe(self, group: Sequence[Batch]) -> Description:
        reader = self._reader
        description = Description(partial(find_by, reader, self.file), self.clock)
        try:
            description.add(group)
            if description.takes_away:
                description.forget_empty(reader)
        finally:
            reader.release()
        return description

    def _append(self, description: Description, *, may_wait: bool = True) -> bool:
        """Whether it is in the journal now; else nothing was done."""
        journal = self._journal
        assert journal is not None
        if not description.entries:
            return True
        if not self._writing.acquire(blocking=may_wait):
            return False
        try:
            size = journal.append(description.entries)
            if size is None:
                return False
            try:
                self._add(description, size)
            except BaseException:
                self._add(description, size)  # not half of it, when Ctrl-C is pressed meanwhile
                raise
        except OSError as error:
            self._is_void = True
            raise _not_written(self.path, error) from error
        finally:
            self._writing.release()
        return True

    def _add(self, description: Description, size: int) -> None:
        with self._adding:
            active = self._layers.active
            if active.is_seen:
                active = active.copy()
                self._layers = Layers(active, self._layers.applied)
            if active.is_empty:
                self._some.set()
            active.add(description.entries, size)
        description.settle()
        if active.size > APPLY_SIZE:
            self._much.set()

    def _roll(self) -> bool:
        """Go on in the other segment of the journal, since this one is full; False if what there
        was no room for is larger than a whole segment."""
        journal = self._journal
        assert journal is not None
        if journal.is_fresh:
            return False
        if not journal.is_over(self._applied):
            self.bring_in()
        try:
            with self._writing:
                journal.roll()
        except OSError as error:
            self._is_void = True
            raise _not_written(self.path, error) from error
        return True

    def _commit_to_file(self, group: Sequence[Batch]) -> bool:
        """After all that is in the journal, as without one."""
        frees = all(batch.frees for batch in group)
        try:
            self._mend(frees=frees)
        except StoreFull:
            # To delete is the way out of a full disk. It makes what is to be brought in less.
            if not frees or self._is_void or self._journal is None:
                raise
            description = self._describe(group)
            if description.has_history or not self._append(description):
                raise
            with suppress(DurableError):
                self._mend(frees=True)
            return True
        return self.file.commit(group)

    # The file follows

    def bring_in(self, *, frees: bool = False) -> None:
        """Bring all that is confirmed into the file. Blocks on fsync.

        Raises what a commit raises; what was confirmed is in the journal then, as before.
        """
        self.file.handle.check_usable()
        with self._applying:
            # Twice, if an apply that has failed is to be done again.
            while self._take_layer():
                self._apply_layer(frees=frees)

    def _take_layer(self) -> bool:
        """Whether there is a layer to apply."""
        if self._layers.applied is None:
            with self._writing, self._adding:
                active = self._layers.active
                if active.is_empty:
                    return False
                assert self._journal is not None
                self._applying_to = self._journal.position
                self._layers = Layers(Merged(), active)
        return True

    def _apply_layer(self, *, frees: bool) -> None:
        merged = self._layers.applied
        journal = self._journal
        assert merged is not None
        assert journal is not None
        self.file.apply(merged, journal.journal, self._applying_to, frees=frees)
        self._applied = self._applying_to
        with self._adding:
            self._layers = Layers(self._layers.active, None)

    def _follow(self) -> None:
        """On the thread of the journal."""
        while True:
            self._some.wait()
            self._some.clear()
            self._much.wait(APPLY_S_MAX)
            self._much.clear()
            if self._is_closing:
                return
            try:
                self.bring_in()
            except DurableError:
                # Nobody's commit has failed. The next one brings it in first, or fails.
                self._is_behind = True

    # Its journal

    def _begin_journal(self) -> None:
        """A new journal begins, if the disk has room for it."""
        self._tried_s = self.clock.steady()
        name = os.urandom(JOURNAL_ID_SIZE)
        with suppress(OSError, DurableError):
            journal = self._new_journal(name)
            try:
                self.file.apply(Merged(), name, 0)
            except BaseException:
                journal.remove()
                raise
            self._applied = 0
            self._journal = journal

    def _new_journal(self, name: bytes) -> Journal:
        return Journal(self.path, name, segments.SEGMENT_SIZE)

    def _mend(self, *, frees: bool = False) -> None:
        """All that is confirmed is in the file; a journal that has failed is none any more, and
        another one has begun if it could be made."""
        self.bring_in(frees=frees)
        self._is_behind = False
        if self._is_void and self._journal is not None:
            self.file.apply(Merged(), None, 0, frees=frees)
            journal, self._journal = self._journal, None
            journal.remove()
            self._tried_s = None
        self._is_void = False
        if self._journal is None and self._may_try():
            self._begin_journal()

    def _may_try(self) -> bool:
        return self._tried_s is None or self.clock.steady() - self._tried_s >= TRY_AGAIN_S

    # All else goes to the file

    def change_classes(self, before: Catalog, after: Catalog) -> None:
        self.bring_in()
        self.file.change_classes(before, after)
        self.refresh()

    def collect_garbage(self, count_max: int = GARBAGE_STEP) -> int:
        return self.file.collect_garbage(count_max)

    # The end

    def close(self) -> None:
        """Bring all into the file, end the journal, and release the folder. Where that fails, on a
        full disk perhaps, the journal stays, and the next open goes on from it."""
        handle = self.file.handle
        if not handle.is_open or handle.is_foreign:
            return
        self._is_closing = True
        self._some.set()
        self._much.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(DurableError, OSError):
            self.bring_in()
            if self._journal is not None:
                self.file.apply(Merged(), None, 0)
                remove_journal(self.path)
        if self._journal is not None:
            self._journal.close()
        self.in_line.close()
        self._reader.close()
        self.file.close()

    def __repr__(self) -> str:
        return f"<Journaled {self.file!r}>"


def _not_written(path: str, error: OSError) -> DurableError:
    if error.errno in NO_ROOM:
        return StoreFull(
            f"the disk has no room for the journal of the store {path!r}, and nothing of this "
            f"commit was stored: {error}; free some space"
        )
    return CommitFailed(
        f"a write to the journal of the store {path!r} failed, and nothing of this commit was "
        f"stored: {error}; look after the disk, then call again"
    )
