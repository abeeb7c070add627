"""A link: the connection of two processes, and the heartbeat that shows that the other is alive.

What the frames mean is not known here: each kind has a handler elsewhere. Both sides send a beat
once a second, unless they have sent something else; a side from which nothing has come for
`SILENT_BEATS_MAX` beats is gone, even if its connection still stands, as that of a stopped process
does.
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
# Counted in beats and not in seconds: after a stop of this process itself, its silence means
# nothing.
SILENT_BEATS_MAX: Final = 5

OnFrame = Callable[[list[Any]], None]


class Link:
    """One connection to one other process."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.loop = loop
        # The handler of each kind of frame.
        self.on: dict[int, OnFrame] = {Kind.BEAT: _nothing}
        # Called in this order, with the reason, when the link is gone.
        self.on_gone: list[Callable[[str], None]] = []
        self.why_gone: str | None = None
        # Whether nothing more is sent or received.
        self.is_gone = False
        self.connection = Connection(loop, sock, self._frame, self._lost)
        self._silent_beats = 0
        self._beat: Waiting = loop.call_later(BEAT_S, self._beats)

    def send(self, kind: int, *fields: Any) -> None:
        """Send a frame; dropped if the link is gone."""
        self.connection.send(pack(kind, *fields))

    def end(self, why: str) -> None:
        """Close the link, and notify its users."""
        self.connection.close()
        self._lost(why)

    def refuse(self, why: str) -> None:
        """Tear the link down because of what the other side is or does, and send it the reason."""
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
            # It may read what has left when it goes on: a call that leaves now would be lost.
            connection.drop()
            self._lost(f"nothing was heard of it for {SILENT_BEATS_MAX * BEAT_S:g} s")
            return
        self.send(Kind.BEAT)
        self._beat = self.loop.call_later(BEAT_S, self._beats)

    def __repr__(self) -> str:
        return f"<Link gone: {self.why_gone}>" if self.is_gone else f"<Link {self.connection!r}>"


def _nothing(_: list[Any]) -> None:
    """A beat means something only by its arrival."""
