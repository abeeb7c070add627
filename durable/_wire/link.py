"""A link: the connection of two processes, and what says that the other one is still there.

What the frames mean is the business of others: each takes the kinds that are its own. Both sides
beat once a second, unless they have said something else; a side from which nothing was heard for
`SILENT_BEATS_MAX` beats is gone, though its connection stands, as that of a process is which was
stopped.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from durable._loop.loop import Loop, Waiting
from durable._model.log import log

from .connection import Connection
from .frames import BadFrame, Kind, pack

BEAT_S: Final = 1.0
# Beats and not seconds: of a process that was stopped itself, what it has missed is no sign.
SILENT_BEATS_MAX: Final = 5

OnFrame = Callable[[list[Any]], None]


class Link:
    """One connection to one other process."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.loop = loop
        # What takes each kind of frame.
        self.on: dict[int, OnFrame] = {Kind.BEAT: _nothing}
        # Told why the link is gone, in this order.
        self.on_gone: list[Callable[[str], None]] = []
        self.why_gone: str | None = None
        # Whether nothing more is sent or heard.
        self.is_gone = False
        self.connection = Connection(loop, sock, self._frame, self._lost)
        self._silent_beats = 0
        self._beat: Waiting = loop.call_later(BEAT_S, self._beats)

    def send(self, kind: int, *fields: Any) -> None:
        """Send a frame; dropped if the link is gone."""
        self.connection.send(pack(kind, *fields))

    def end(self, why: str) -> None:
        """Close the link, and tell those that use it."""
        self.connection.close()
        self._lost(why)

    def refuse(self, why: str) -> None:
        """End the link because of what the other side is or does, and tell it."""
        log.error("a peer is refused: %s", why)
        self.send(Kind.REFUSED, why)
        self.end(why)

    def _frame(self, frame: list[Any]) -> None:
        take = self.on.get(frame[0])
        if take is None:
            return  # of a later version
        try:
            take(frame)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise BadFrame(f"a frame of kind {frame[0]} has wrong fields: {error!r}") from error

    def _lost(self, why: str) -> None:
        if self.why_gone is not None:
            return
        self.why_gone = why
        self.is_gone = True
        self._beat.cancel()
        for callback in self.on_gone:
            try:
                callback(why)
            except Exception:  # the others must still hear of it
                log.exception("a callback for the end of a link failed")

    def _beats(self) -> None:
        connection = self.connection
        if self.is_gone:
            return
        self._silent_beats = 0 if connection.has_heard else self._silent_beats + 1
        connection.has_heard = False
        if self._silent_beats >= SILENT_BEATS_MAX:
            self.end(f"nothing was heard of it for {SILENT_BEATS_MAX * BEAT_S:g} s")
            return
        self.send(Kind.BEAT)
        self._beat = self.loop.call_later(BEAT_S, self._beats)

    def __repr__(self) -> str:
        return f"<Link gone: {self.why_gone}>" if self.is_gone else f"<Link {self.connection!r}>"


def _nothing(_: list[Any]) -> None:
    """A beat says by coming all that it has to say."""
