"""Web sockets in the history: what both ends sent, and what each of them may receive.

Rule: what an object sends on a socket is received in its order, without a gap, and nothing twice;
all of it is received unless the socket was cut, and then still all that was sent in operations
whose answers were received. What a client sends arrives in the same way. Each end receives how the
other one ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from durable._border.websocket import end_of

DROPPED = 1006
NO_CODE = 1005
PING, PONG = "ping", "pong"
UNSAID = "said in a turn that was aborted"


@frozen
class End:
    """How one side has ended a socket: the code, the reason, and whether it was by a close frame.

    An error of the connection has no code.
    """

    code: int | None
    reason: str
    was_clean: bool


@define(eq=False)
class Said:
    """What an object has sent on a socket: a message, or the close frame."""

    what: Any
    change: int  # in which operation
    rests_on: int  # the number that must be on the disk when it is heard
    is_owed: bool  # the client had not ended the socket, so it must hear it
    # The operation's answer was received while the socket was up: then this was on its way too.
    is_due: bool = False


@define(eq=False, repr=False)
class Connection:
    """One web socket between a client and an object. Nothing here suspends."""

    number: int
    object: str
    tags: tuple[str, ...]
    broken: Callable[[str], None]
    # How often an object of this life was reset, or refused something because its queue was full.
    troubles: Callable[[], int]
    # The end that the object has accepted, and what it has kept with it last.
    end: Any = None
    attachment: Any = None
    troubles_before: int = 0
    # The object has received its end, or was reset: it does not have it any more.
    is_gone: bool = False
    # It was closed when the object was evicted, and the object is not notified.
    is_forgotten: bool = False
    # The client's end; None if the upgrade's answer was never received. Kept as long as the life
    # lasts: an end without references is lost, whenever Python finds that out.
    outer: Any = None
    said: list[Said] = field(factory=list)
    heard_count: int = 0
    orders_sent: int = 0
    orders_arrived: int = 0
    pings: int = 0
    pongs: int = 0
    client_end: End | None = None  # as the client ended it
    object_end: End | None = None  # as the object did
    heard_end: End | None = None  # what the client heard last

    # The object's side

    def is_accepted(self, end: Any) -> None:
        """The object keeps its end."""
        self.end = end
        self.troubles_before = self.troubles()

    @property
    def is_cut(self) -> bool:
        """The connection is gone, cut by either side."""
        return self.end is not None and end_of(self.end).is_lost

    @property
    def may_be_cut(self) -> bool:
        """There was a reason to, other than the client."""
        return self.troubles() > self.troubles_before

    @property
    def is_listed(self) -> bool:
        """The object must have it among its sockets."""
        return self.end is not None and not self.is_gone and not self.is_cut

    @property
    def may_be_listed(self) -> bool:
        """It still has those that their clients have dropped, until it is notified; or that no
        client ever had, since the caller that asked for it did not wait for the answer."""
        was_dropped = self.client_end is not None or self.outer is None
        return self.is_listed or (self.end is not None and not self.is_gone and was_dropped)

    @property
    def can_say(self) -> bool:
        """The object has not closed it, and has not heard that the client did."""
        return self.object_end is None and not self.is_gone

    def says(self, what: Any, change: int, rests_on: int) -> None:
        """The object sends *what*, a message or an End."""
        is_owed = self.client_end is None and not self.is_cut
        self.said.append(Said(what, change, rests_on, is_owed))
        if isinstance(what, End):
            self.object_end = what

    def is_answered(self, change: int) -> None:
        """The answer of an operation was received."""
        if not self.is_cut:
            for said in self.said[self.heard_count :]:
                said.is_due |= said.change == change

    def arrives(self, number: int) -> None:
        """The client's message of this number reaches the object."""
        if number != self.orders_arrived + 1:
            self.broken(
                f"P3: message {number} of socket {self.number} reached {self.object} after "
                f"{self.orders_arrived}"
            )
        self.orders_arrived = max(number, self.orders_arrived)
        if self.is_gone:
            self.broken(f"socket {self.number} has a message for {self.object} after its end")

    def object_hears(self, end: End) -> None:
        """The object is notified that the socket has ended."""
        if self.is_gone:
            self.broken(f"socket {self.number} ended twice for {self.object}")
        if self.orders_arrived != self.orders_sent:
            self.broken(
                f"P3: {self.object} heard the end of socket {self.number} before "
                f"{self.orders_sent - self.orders_arrived} of its messages"
            )
        if self.outer is None and end.code == DROPPED:
            return
        expected = self.client_end
        if expected is None:  # the client answers the close frame by its like
            expected = self.object_end
        if end != expected:
            self.broken(f"socket {self.number} ended by {expected}, and {self.object} heard {end}")

    # The client's side

    def client_ends(self, end: End) -> None:
        """The client closes the socket or drops it."""
        if self.client_end is None:
            self.client_end = end

    def hears(self, message: Any) -> Said | None:
        """The client receives *message*: returns which of the object's messages it is."""
        if message == PONG:
            self.pongs += 1
            if self.pongs > self.pings:
                self.broken(f"socket {self.number} heard more answers than it has sent pings")
            return None
        if message == UNSAID:
            self.broken(f"P14: socket {self.number} of {self.object} heard what was {message}")
            return None
        return self._hears(message)

    def _hears(self, what: Any) -> Said | None:
        place = self.heard_count
        if place >= len(self.said) or self.said[place].what != what:
            self.broken(
                f"socket {self.number} of {self.object} heard {what!r} as number {place}, and what "
                f"was said is {[said.what for said in self.said[place : place + 2]]!r}"
            )
            return None
        self.heard_count += 1
        return self.said[place]

    def hears_end(self, end: End) -> Said | None:
        """The client hears how the socket ended, as the last thing."""
        self.heard_end = end
        if not end.was_clean:
            # By the client itself, or because the object was reset, or because its queue is full.
            if not self.is_cut or not (self.client_end or self.may_be_cut):
                self.broken(f"socket {self.number} was cut without a reason: {end}")
            return None
        self._pass_over_unsaid()
        if self.heard_count < len(self.said):
            return self._hears(end)
        # The object's side answers the client's close frame, if the object itself did not.
        if end != self.client_end:
            self.broken(f"socket {self.number} heard {end}, which neither side has sent")
        return None

    def _pass_over_unsaid(self) -> None:
        """Messages to a client that has closed are dropped; a close frame is sent all the same."""
        for said in self.said[self.heard_count :]:
            if said.is_owed or isinstance(said.what, End):
                break
            self.heard_count += 1

    # The verdict

    def judge(self) -> None:
        """The client hears nothing more on it."""
        if self.client_end is not None and not self.client_end.was_clean:
            return  # what it had not read it will not read
        for said in self.said[self.heard_count :]:
            if said.is_owed and (said.is_due or not self.is_cut):
                self.broken(f"socket {self.number} of {self.object} never heard {said}")

    def judge_at_rest(self) -> None:
        """Nothing is on its way any more, and nothing was held back."""
        self.judge()
        if self.is_cut:
            if self.heard_end is None:
                self.broken(f"socket {self.number} is cut, and the client has not heard that")
            if not self.is_gone and not self.may_be_cut:
                self.broken(f"socket {self.number} is cut, and {self.object} has not heard that")
            return
        if self.orders_arrived != self.orders_sent and not self.is_forgotten:
            self.broken(
                f"socket {self.number}: {self.orders_sent - self.orders_arrived} of its messages "
                f"never reached {self.object}"
            )
        if self.client_end is not None or self.object_end is not None:
            if self.heard_end is None:
                self.broken(f"socket {self.number} was closed, and the client never heard that")
            if not self.is_gone:
                self.broken(f"socket {self.number} was closed, and {self.object} never heard that")
        elif self.pongs != self.pings:
            self.broken(f"socket {self.number} sent {self.pings} pings, and heard {self.pongs}")

    def __repr__(self) -> str:
        ends = f"client {self.client_end}, object {self.object_end}, heard {self.heard_end}"
        state = "gone" if self.is_gone else "cut" if self.is_cut else "open"
        return f"<socket {self.number} of {self.object} {self.tags}, {state}, {ends}>"
