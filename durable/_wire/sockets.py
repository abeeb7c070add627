"""Web sockets whose two ends are in two processes.

Each process has a socket of two ends of its own. At one of them is the user, an object or the code
of a server; at the other a *relay*, which sends what arrives there to the relay of the other
process, and lets that one's words be said here. So an object hibernates, tags its sockets and
answers by itself as ever: its ends and all that it knows of them are where it is.

Rule: a message counts as unread at the end where it was said until it was read in the other
process, which says so. So `send` waits, and a socket is cut, for a slow reader there as here.
"""

from __future__ import annotations

from typing import Any, Final

from durable._border.socket_end import End, join
from durable._border.socket_states import Use
from durable._border.websocket import ObjectSocket
from durable._engine.codec import decode, encode
from durable._model.frames import Close, size_of

from .failures import from_failure, to_failure
from .frames import BadFrame, Kind
from .link import Link
from .things import LinkThings

RESTART: Final = 1012
RESTART_TEXT: Final = "the process that had the object is gone"
# What was read is told when it is so much, or when nothing is unread any more.
TAKEN_BYTES: Final = 65_536


class Relay:
    """One end of a socket, in the place of the code of another process.

    Made when the socket leaves its process, and bound to a link when it has left.
    """

    def __init__(self, end: End) -> None:
        self.end = end
        self._sockets: Sockets | None = None
        self._number = 0
        # This process gave the socket its number.
        self._is_owner = False
        # Bytes that were read here, and of which the other side is not told.
        self._taken = 0
        self._has_closed = False
        self._was_closed = False

    def bind(self, sockets: Sockets, number: int, *, is_owner: bool) -> None:
        """Carry what arrives, and what has arrived, over the link of *sockets*."""
        self._sockets, self._number, self._is_owner = sockets, number, is_owner
        end = self.end
        end.tell = sockets.link.loop.call_soon_threadsafe
        peer = end.peer()
        if peer is None:
            end.hear_loss()
        else:
            peer.on_taken = self._was_read
        end.on_arrival = self._arrived
        if end.inbox:
            self._arrived(end)

    # From here

    def _arrived(self, end: End) -> None:
        while end.inbox and self._sockets is not None:
            frame, _ = end.inbox.popleft()
            if isinstance(frame, Close):
                self._send_close(frame)
            else:
                self._send(Kind.MESSAGE, frame)

    def _send(self, kind: Kind, *fields: Any) -> None:
        assert self._sockets is not None
        self._sockets.link.send(kind, self._number, self._is_owner, *fields)

    def _send_close(self, frame: Close) -> None:
        failure = None if frame.error is None else to_failure(frame.error, encode)
        is_lost = self.end.is_lost
        self._send(Kind.CLOSE, frame.code, frame.reason, frame.was_clean, failure, is_lost)
        self._has_closed = True
        self._end_if_over(is_lost=is_lost)

    def _was_read(self, size: int) -> None:
        peer = self.end.peer()
        self._taken += size
        if (
            self._sockets is not None
            and self._taken
            and (self._taken >= TAKEN_BYTES or peer is None or peer.unread.bytes <= 0)
        ):
            taken, self._taken = self._taken, 0
            self._send(Kind.TAKEN, taken)

    # From there

    def say(self, message: str | bytes) -> None:
        """The other process has sent *message*."""
        size = size_of(message)
        if self.end.reserve(size):
            self.end.say(message, size)

    def close(self, frame: Close, *, is_lost: bool) -> None:
        """The other process has closed its end, or that is lost."""
        self._was_closed = True
        if is_lost:
            self.end.on_arrival = None
            self.end.break_off(frame)
        else:
            self.end.say(frame, 0)
        self._end_if_over(is_lost=is_lost)

    def taken(self, size: int) -> None:
        """So many bytes were read in the other process."""
        if not 0 < size <= self.end.unread.bytes:
            raise BadFrame(f"{size!r} bytes of a socket are read, and fewer were sent")
        self.end.took(size)

    def lost(self) -> None:
        """The link is gone: the end here is told."""
        self._unbind()
        if self._is_owner:
            self.end.drop()
        elif not self._was_closed:
            self.end.say(Close(RESTART, RESTART_TEXT, True), 0)

    def _end_if_over(self, *, is_lost: bool) -> None:
        sockets = self._sockets
        if sockets is not None and (is_lost or (self._has_closed and self._was_closed)):
            self._unbind()
            sockets.forget(self._number, is_owner=self._is_owner)

    def _unbind(self) -> None:
        self._sockets = None
        self.end.on_arrival = None
        peer = self.end.peer()
        if peer is not None:
            peer.on_taken = None


class Sockets:
    """The relays of one link."""

    def __init__(self, link: Link, things: LinkThings) -> None:
        self.link = link
        self._things = things
        # By the number of the thing: those of sockets that left this process, and that came.
        self._own: dict[int, Relay] = {}
        self._theirs: dict[int, Relay] = {}
        things.follow[Relay] = self._begin
        link.on[Kind.MESSAGE] = self._message
        link.on[Kind.CLOSE] = self._close
        link.on[Kind.TAKEN] = self._taken
        link.on_gone.append(self._lost)

    def socket_of(self, number: int) -> ObjectSocket:
        """The end that stands here for a socket of the other process."""
        if number in self._theirs:
            raise BadFrame("a socket that came before")
        front, back = End(Use.RECEIVED), End()
        join(front, back)
        relay = self._theirs[number] = Relay(back)
        relay.bind(self, number, is_owner=False)
        return ObjectSocket(front)

    def forget(self, number: int, *, is_owner: bool) -> None:
        """Both sides have closed a socket, or it is lost."""
        if is_owner:
            del self._own[number]
            self._things.give_back(number)
        else:
            del self._theirs[number]

    def _begin(self, number: int, relay: Relay) -> Relay:
        self._own[number] = relay
        relay.bind(self, number, is_owner=True)
        return relay

    def _relay(self, frame: list[Any]) -> Relay | None:
        """The relay that a frame is for; None if its socket is over."""
        number, from_owner = frame[1], frame[2]
        return (self._theirs if from_owner else self._own).get(number)

    def _message(self, frame: list[Any]) -> None:
        relay = self._relay(frame)
        message = frame[3]
        if not isinstance(message, str | bytes):
            raise BadFrame("a message of a socket is neither text nor bytes")
        if relay is not None:
            relay.say(message)

    def _close(self, frame: list[Any]) -> None:
        _, _, _, code, reason, was_clean, failure, is_lost, *_ = frame
        relay = self._relay(frame)
        if not isinstance(code, int) or not isinstance(reason, str):
            raise BadFrame("a close frame without a code")
        if relay is not None:
            error = None if failure is None else from_failure(failure, decode)
            relay.close(Close(code, reason, bool(was_clean), error), is_lost=bool(is_lost))

    def _taken(self, frame: list[Any]) -> None:
        relay = self._relay(frame)
        if relay is not None:
            relay.taken(frame[3])

    def _lost(self, _: str) -> None:
        relays = [*self._own.values(), *self._theirs.values()]
        self._own.clear()
        self._theirs.clear()
        for relay in relays:
            relay.lost()

    def __len__(self) -> int:
        return len(self._own) + len(self._theirs)
