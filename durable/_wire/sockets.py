"""Web sockets whose two ends are in two processes.

Each process has a socket of two ends of its own. One end is used by an object or by the code of a
server; the other by a *relay*, which sends what arrives there to the relay of the other process,
and sends here what that one has received. So an object hibernates, tags its sockets and
auto-responds as ever: its ends, and all that it knows of them, are where it is.

Rule: a message counts as unread at the end where it was sent until it was read in the other
process, which reports that. So `send` waits for a slow reader there, or the socket is cut, as here.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final
from weakref import WeakKeyDictionary

from attrs import define

from durable._border.socket_end import End, join, replace
from durable._border.socket_states import Use
from durable._border.websocket import ObjectSocket
from durable._engine.codec import decode, encode
from durable._gates.futures import PendingAnswer
from durable._loop.loop import Loop
from durable._model.frames import DROPPED, Close, size_of

from .failures import from_failure, to_failure
from .frames import BadFrame, Kind
from .link import Link
from .things import LinkThings, Written

RESTART: Final = 1012
RESTART_TEXT: Final = "the process that had the object is gone"
# Bytes read are reported when there are so many, or when nothing is left unread.
TAKEN_BYTES: Final = 65_536
# How long a socket is kept open whose object is on its way to another process; and the same while
# the process that has its description is not connected with this one.
PARKED_S_MAX: Final = 30.0
UNMET_S_MAX: Final = 3.0


class Relay:
    """One end of a socket, in place of code in another process.

    Made when the socket leaves its process, and bound to a link when it has left.
    """

    def __init__(self, end: End) -> None:
        self.end = end
        self._sockets: Sockets | None = None
        self._number = 0
        # This process gave the socket its number.
        self._is_owner = False
        # Bytes read here and not reported to the other side yet.
        self._taken = 0
        self._has_closed = False
        self._was_closed = False

    def bind(self, sockets: Sockets, number: int, *, is_owner: bool) -> None:
        """Forward what has arrived, and what will, over the link of *sockets*."""
        self._sockets, self._number, self._is_owner = sockets, number, is_owner
        end = self.end
        sockets.moves.relays[end] = self
        end.call_soon = sockets.link.loop.call_soon_threadsafe
        peer = end.peer()
        if peer is None:
            end.hear_loss()
        else:
            peer.on_taken = self._was_read
        end.on_arrival = self._arrived
        if end.inbox:
            self._arrived(end)

    @property
    def where(self) -> list[Any]:
        """The process that has the client, and how it knows the socket: by its owner, and the
        number there."""
        assert self._sockets is not None
        return [self._sockets.process, self._sockets.moves.process, self._number]

    def let_go(self, holder: str) -> PendingAnswer[None]:
        """The object that this relay leads to moves: ask the other side to send nothing more here,
        and to expect the process *holder* to ask for the socket. The answer comes when all that it
        has sent has arrived."""
        sockets = self._sockets
        assert sockets is not None
        self._report_taken()
        sockets.link.send(Kind.LET_GO, self._number, holder)
        answer = sockets.letting_go[self._number] = PendingAnswer(sockets.link.loop)
        return answer

    def leave(self) -> None:
        """Leave the link."""
        sockets, number = self._sockets, self._number
        self._unbind()
        if sockets is not None:
            sockets.forget(number, is_owner=self._is_owner)

    # From here to the other process

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
            self._report_taken()

    def _report_taken(self) -> None:
        taken, self._taken = self._taken, 0
        if taken:
            self._send(Kind.TAKEN, taken)

    # From the other process

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
        if size <= 0:
            raise BadFrame(f"{size!r} bytes of a socket are read")
        # For a socket that has moved, some may have been sent by another process.
        self.end.took(min(size, self.end.unread.bytes))

    def lost(self) -> None:
        """The link is gone: the end here is lost."""
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
        if self._sockets is not None:
            self._sockets.moves.relays.pop(self.end, None)
        self._sockets = None
        self.end.on_arrival = None
        peer = self.end.peer()
        if peer is not None:
            peer.on_taken = None


@define(eq=False)
class Parked:
    """A socket that stands on no link, and the process that has its description."""

    relay: Relay
    holder: str


class Moves:
    """The sockets of one process whose objects are on their way to another one."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.process = ""
        # The processes that this one is connected to.
        self.met: Container[str] = ()
        # The relays that stand on a link, by their ends.
        self.relays: WeakKeyDictionary[End, Relay] = WeakKeyDictionary()
        # By the process that had the object and the number of the socket there.
        self._parked: dict[tuple[str, int], Parked] = {}
        self._last = 0

    def park_here(self, end: End, holder: str) -> list[Any]:
        """The client of *end*, an end of an object that moves, is in this process: keep it."""
        back = End()
        replace(end, back)
        self._last -= 1
        self.park(self.process, self._last, Relay(back), holder)
        return [self.process, self.process, self._last]

    def park(self, process: str, number: int, relay: Relay, holder: str) -> None:
        """Keep *relay* until its object is in another process, for a bounded time, and as long as
        the process that has its description lives."""
        self._parked[process, number] = Parked(relay, holder)
        self._loop.call_later(PARKED_S_MAX, lambda: self._give_up(process, number))
        self._expect(process, number, holder)

    def held(self, process: str, number: int, holder: str) -> None:
        """The description of a parked socket was sent on, to the process *holder*."""
        parked = self._parked.get((process, number))
        if parked is not None:
            parked.holder = holder
            self._expect(process, number, holder)

    def gone(self, holder: str) -> None:
        """The connection with a process has ended: what it was to ask for, it will not."""
        for (process, number), parked in list(self._parked.items()):
            if parked.holder == holder:
                self._give_up(process, number)

    def unpark(self, process: str, number: int) -> Relay | None:
        """The parked relay of such a socket, or None."""
        parked = self._parked.pop((process, number), None)
        return None if parked is None else parked.relay

    def _expect(self, process: str, number: int, holder: str) -> None:
        if holder in self.met:
            return

        def look() -> None:
            parked = self._parked.get((process, number))
            if parked is not None and parked.holder == holder and holder not in self.met:
                self._give_up(process, number)

        self._loop.call_later(UNMET_S_MAX, look)

    def _give_up(self, process: str, number: int) -> None:
        relay = self.unpark(process, number)
        if relay is not None:
            relay.lost()


class Sockets:
    """The relays of one link."""

    def __init__(self, link: Link, things: LinkThings, moves: Moves, process: str) -> None:
        self.link = link
        self.moves = moves
        # The name of the other process.
        self.process = process
        self._things = things
        self.letting_go: dict[int, PendingAnswer[None]] = {}
        # By the number of the thing: those of sockets that left this process, and that came.
        self._own: dict[int, Relay] = {}
        self._theirs: dict[int, Relay] = {}
        things.follow[Relay] = self._begin
        link.on[Kind.MESSAGE] = self._message
        link.on[Kind.CLOSE] = self._close
        link.on[Kind.TAKEN] = self._taken
        link.on[Kind.LET_GO] = self._let_go
        link.on[Kind.LET_GONE] = self._let_gone
        link.on[Kind.ADOPT] = self._adopt
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
            if self._own.pop(number, None) is not None:
                self._things.give_back(number)
        else:
            self._theirs.pop(number, None)

    def _begin(self, number: int, relay: Relay) -> Relay:
        self._own[number] = relay
        relay.bind(self, number, is_owner=True)
        return relay

    def _relay(self, frame: list[Any]) -> Relay | None:
        """The relay that a frame is for; None if its socket is over."""
        number, from_owner = frame[1], frame[2]
        if from_owner:
            return self._theirs.get(number)
        if number not in self._own and self._things.has(number):
            self._things.begin_to_follow(number)  # the other side is quicker than this loop
        return self._own.get(number)

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

    def adopt(self, relay: Relay, class_number: int, process: str, number: int) -> None:
        """*relay* stands for a socket that moves here: the other side has its other end, and knows
        it as the thing *number* of *process*."""
        things = self._things.things
        own = things.export(relay, class_number)
        self._things.sent(Written(b"", things, [own]))
        self.link.send(Kind.ADOPT, process, number, own)

    def _let_go(self, frame: list[Any]) -> None:
        _, number, holder, *_ = frame
        relay = self._theirs.get(number)
        if relay is not None:
            relay.leave()
            self.moves.park(self.process, number, relay, str(holder))
        self.link.send(Kind.LET_GONE, number)

    def _let_gone(self, frame: list[Any]) -> None:
        answer = self.letting_go.pop(frame[1], None)
        if answer is not None:
            answer.resolve(None)

    def _adopt(self, frame: list[Any]) -> None:
        _, process, number, own, *_ = frame
        relay = self.moves.unpark(process, number)
        if relay is None:
            text = "the socket was closed while its object moved"
            self.link.send(Kind.CLOSE, own, False, DROPPED, text, False, None, True)
            return
        self._theirs[own] = relay
        relay.bind(self, own, is_owner=False)

    def _lost(self, _: str) -> None:
        letting_go, self.letting_go = self.letting_go, {}
        for answer in letting_go.values():
            answer.resolve(None)
        relays = [*self._own.values(), *self._theirs.values()]
        self._own.clear()
        self._theirs.clear()
        for relay in relays:
            relay.lost()

    def __len__(self) -> int:
        return len(self._own) + len(self._theirs)
