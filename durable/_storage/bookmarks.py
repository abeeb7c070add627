"""Bookmarks: points in the history of one object, and the way back to them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from attrs import define

from durable._engine.batch import Unchanged
from durable._engine.going_back import Past, Whole, find_past, whole_of
from durable._engine.history_records import (
    WISH,
    read_bookmark,
    read_time,
    write_bookmark,
    write_time,
)
from durable._engine.view import Malformed
from durable._gates.futures import Answer, ReadyAnswer
from durable._gates.storage_wait import StorageWait
from durable._model.clock import Clock
from durable._model.errors import DurableError, StoreDamaged
from durable._model.retention import UnknownBookmark

from .arguments import time_us, to_datetime
from .history import CHAPTER_S, History
from .write_buffer import WriteBuffer

if TYPE_CHECKING:
    from durable._engine.read_thread import Reads

NO_HISTORY: Final = (
    "the objects of this class keep no history, so there are no bookmarks; switch it on by "
    "`history = timedelta(days=30)` in the class, or in the table [history] of the configuration "
    "file"
)
WITHIN_TRANSACTION: Final = (
    "a bookmark lies between transactions, and one runs; call {call} before or after it"
)


@define(eq=False, slots=True)
class Bookmarks:
    """The bookmarks of one object. Nothing here suspends."""

    _buffer: WriteBuffer
    _reads: Reads
    _clock: Clock

    def current(self, call: str) -> str:
        """The bookmark of this moment: what was written so far is a batch."""
        history = self._begun(call)
        self._buffer.seal()
        history.close_chapter()
        return write_bookmark(history.next_us)

    def at(self, time: datetime, call: str) -> str:
        """A bookmark of *time*, or up to a chapter earlier."""
        history = self._begun(call)
        wanted_us, now_us = time_us(time, call), self._now_us()
        if wanted_us > now_us:
            raise ValueError(f"{call} cannot be called with {time}, which is still to come")
        if wanted_us < history.beginning_us:
            raise too_old(f"a bookmark for {time}", history.beginning_us)
        chapter_us = history.chapter_before(wanted_us)
        # While a chapter may go on, its later changes are not distinguished from earlier ones.
        is_within = wanted_us < chapter_us + CHAPTER_S * 1_000_000
        return write_bookmark(chapter_us if is_within else wanted_us)

    def wish(self, bookmark: str, call: str) -> Answer[str]:
        """Go back to *bookmark* when the object is built next; returns one that undoes it."""
        history = self._begun(call)
        to_us = self._checked(bookmark, history)
        return self._wish(to_us, history, call)

    def wish_at(self, to: str | datetime, call: str) -> Answer[str]:
        """The same for a bookmark or a time."""
        return self.wish(self.at(to, call) if isinstance(to, datetime) else to, call)

    def whole(self, to: str | datetime, call: str) -> Whole:
        """All of the object at a bookmark or a time, as far as the disk has it by now."""
        history, handle = self._begun(call), self._buffer.handle
        to_us = self._checked(self.at(to, call) if isinstance(to, datetime) else to, history)
        past = find_past(self._reads, handle.history, handle.keyspace, to_us)
        return whole_of(self._reads, past, self._buffer.alarm)

    def _wish(self, to_us: int, history: History, call: str) -> Answer[str]:
        undo = self.current(call)
        history.write(WISH, write_time(to_us))
        self._buffer.note_history()
        # At once: a reset later in the turn takes it back no more.
        self._buffer.seal()
        output = self._buffer.output
        seqno = output.seqno_of_all()
        if seqno <= output.durable:
            return ReadyAnswer(undo)
        wait: StorageWait[str] = StorageWait(self._buffer.gate, holds=False)
        output.when_durable(seqno, partial(wait.finish, undo), wait)
        return wait

    def _begun(self, call: str) -> History:
        history = self._buffer.history
        if history is None:
            raise DurableError(NO_HISTORY)
        if self._buffer.savepoints:
            raise DurableError(WITHIN_TRANSACTION.format(call=call))
        if not history.beginning_us:
            history.begin()
            self._buffer.note_history()
        return history

    def _checked(self, bookmark: str, history: History) -> int:
        if not isinstance(bookmark, str):
            raise TypeError(f"a bookmark is a str, not {type(bookmark).__name__}")
        to_us = read_bookmark(bookmark)
        if to_us is None or to_us > max(history.next_us, self._now_us()):
            raise unknown(bookmark, history.beginning_us)
        if to_us < history.beginning_us:
            raise too_old(f"the bookmark {bookmark}", history.beginning_us)
        return to_us

    def _now_us(self) -> int:
        return round(self._clock.now() * 1_000_000)

    # Going back

    def go_back(self) -> None:
        """If there is a wish, do as it says, in a batch of its own. Before anything else is read or
        written, and before the constructor runs.

        Raises StoreDamaged or UnknownBookmark if it cannot be; then the wish is forgotten.
        """
        buffer = self._buffer
        history, handle = buffer.history, buffer.handle
        if history is None or not handle.history:
            return
        raw = self._reads.get_side(handle.history, WISH)
        if raw is None:
            return
        history.write(WISH, None)
        try:
            to_us = read_time(raw)
            if to_us < history.beginning_us:
                raise too_old(f"the bookmark {write_bookmark(to_us)}", history.beginning_us)
            self._become(find_past(self._reads, handle.history, handle.keyspace, to_us), history)
        except Malformed as error:
            raise StoreDamaged(f"the wish to go back is damaged: {error}") from error
        finally:
            buffer.note_history()
            buffer.seal()

    def _become(self, past: Past, history: History) -> None:
        buffer = self._buffer
        history.close_chapter()
        if past.ended_by is None or past.keyspace == buffer.handle.keyspace:
            pass  # the object has it still, or again
        elif not past.keyspace:
            buffer.clear(confirmed=True)
        else:
            buffer.go_back_to(past.keyspace, past.ended_by.created_us)
            for key, kept in past.shared.items():
                history.write(key, kept)
        for name, value in past.puts.items():
            buffer.write(name, value, confirmed=True, no_cache=True)
        for side, stored in past.sides.items():
            buffer.write_side(side, stored)
        if not isinstance(past.alarm, Unchanged):
            buffer.write_alarm(past.alarm, confirmed=True)


def too_old(what: str, oldest_us: int) -> UnknownBookmark:
    oldest = write_bookmark(oldest_us)
    return UnknownBookmark(
        f"{what} is too old: the history of the object begins with the bookmark {oldest}, of "
        f"{to_datetime(oldest_us)}; take that one or a later one",
        oldest,
    )


def unknown(bookmark: str, oldest_us: int) -> UnknownBookmark:
    oldest = write_bookmark(oldest_us)
    return UnknownBookmark(
        f"{bookmark!r:.80} is no bookmark that this object has given; its oldest one is {oldest}, "
        f"of {to_datetime(oldest_us)}",
        oldest,
    )
