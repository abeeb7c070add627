"""One end of a web socket as a machine: what has arrived, what is on its way, how it ends.

Rule: nothing here suspends, and nothing asks which event loop runs. Each method decides, changes
the state and returns; waiting is in `socket_waits`, the gates are in `sending`. Which state an end
is in is in `socket_conversation`; which changes are allowed, in `socket_states`.

A message is queued at the other end as soon as it may leave; there is no wire in between. So one
number, the bytes that an end has not taken yet, measures how slow it is: above one bound, awaiting
`send` waits; above a second, the socket is cut with 1013. The sum over all ends has a bound too.

The two ends hold each other weakly: a client in the same process disconnects by dropping its end,
and the other end sees that as a broken connection. An end at which a task waits is kept by its
peer, since an event loop does not keep the tasks that wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, Protocol

from durable._gates.input_gate import InputGate
from durable._model.errors import DurableError
from durable._model.frames import DROPPED, DROPPED_TEXT, TOO_SLOW, TOO_SLOW_TEXT, Close, Frame

from .outbox import Held, Outbox
from .socket_conversation import Conversation
from .socket_states import (
    PAIR_IS_USED,
    Act,
    Phase,
    Step,
    Use,
    use_after,
)
from .socket_watch import Watch
from .unread import UNREAD_BYTES_MAX, Unread, UnreadTotal

_OPEN = Phase.OPEN  # looked at for each message; by its enum that costs more


class Bell(Protocol):
    """Wakes all tasks that wait for it, once. An `anyio.Event` is one."""

    def set(self) -> object: ...
    async def wait(self) -> object: ...


class End(Conversation):
    """One end of a web socket. `join` makes two of them a socket."""

    __slots__ = (
        "__weakref__",
        "arrival",
        "gate",
        "inbox",
        "is_awaited",
        "on_arrival",
        "on_last_word",
        "on_taken",
        "outbox",
        "peer",
        "reader",
        "reads",
        "replies",
        "room",
        "call_soon",
        "unread",
        "waited_for",
        "waits",
    )

    def __init__(self, use: Use = Use.NEW, phase: Phase = Phase.OPEN) -> None:
        super().__init__(use, phase)
        # Returns the other end; None once that was dropped.
        self.peer: Callable[[], End | None] = _no_peer
        # What has arrived and was not taken, each frame with the bytes that it counts for.
        self.inbox: deque[tuple[Frame, int]] = deque()
        # The bytes of the inbox, and of what the peer has sent and holds back.
        self.unread = Unread(self)
        # What this end has sent and holds back.
        self.outbox: Outbox | None = None
        # The gate of the object that reads this end with `async for`.
        self.gate: InputGate[Any] | None = None
        # Whether reading the peer's close frame sends a reply; at the ASGI door the client does.
        self.replies = True

        # Set, then forgotten: when something arrives; when the peer has room again.
        self.arrival: Bell | None = None
        self.room: Bell | None = None
        # Called with the bytes that were read here, if what sends them is in another process.
        self.on_taken: Callable[[int], None] | None = None
        # The peer's tasks wait until less is unread here.
        self.is_awaited = False
        # Called when something arrives, where no task reads.
        self.on_arrival: Callable[[End], None] | None = None
        # Called when a close frame arrives that perhaps no task reads.
        self.on_last_word: Callable[[End], None] | None = None
        # Returns the `async for` over this end while there is one; how many tasks wait to read.
        self.reader: Callable[[], object | None] | None = None
        self.reads = 0
        # How many tasks wait at this end; the peer, while tasks wait there.
        self.waits = 0
        self.waited_for: End | None = None
        # Calls back on the loop that uses this end, from any thread; None while that is unknown.
        self.call_soon: Callable[[Callable[[], object]], None] | None = None

    # Use

    def accept(self, on_last_word: Callable[[End], None] | None) -> None:
        """Code reads this end from now on. *on_last_word* is called when a close frame arrives."""
        self.act(Act.ACCEPT)
        self.on_last_word = on_last_word
        if on_last_word is not None and self.has_close_frame:
            on_last_word(self)

    def check_hibernate(self) -> None:
        """Raise DurableError where handlers cannot have what arrives here."""
        use_after(self.use, Act.HIBERNATE)
        peer = self.peer()
        if peer is not None and peer.use is not Use.NEW:
            raise DurableError(PAIR_IS_USED)

    def hibernate(self) -> None:
        """Handlers of an object have what arrives here, from now on."""
        self.act(Act.HIBERNATE)

    def give(self) -> End:
        """Go to the receiver of a Response. Returns the spent end that stays with the sender."""
        self.act(Act.GIVE)
        return End(Use.GIVEN, self.phase)

    # Sending

    def reserve(self, size: int) -> bool:
        """Count a message of *size* as unread by the peer. False if the socket was cut instead,
        since too much is unread, or if the peer was dropped."""
        peer = self.peer()
        if peer is None:
            return False
        unread = peer.unread
        if unread.bytes > UNREAD_BYTES_MAX:
            peer.cut()
            return False
        unread.bytes += size
        total = unread.total
        if total is not None:
            total.bytes += size
            if total.bytes > total.bytes_max:
                total.make_room()
                if self.is_lost:
                    unread.count(-size)
                    return False
        return True

    def say(self, frame: Frame, size: int) -> None:
        """Send *frame* when those that are held have left, and wait for nothing else."""
        if self.outbox:
            self.outbox.hold(self, frame, size, None).leave()
            return
        peer = self.peer()
        if peer is not None:
            peer.arrive(frame, size)

    def hold(self, frame: Frame, size: int, gate: InputGate[Any]) -> Held:
        """Hold *frame* back until its `leave` is called, or the object of *gate* is reset."""
        if self.outbox is None:
            self.outbox = Outbox()
        return self.outbox.hold(self, frame, size, gate)

    def hold_with_others(self, held: Held) -> None:
        """Hold back a frame that is sent at other ends too."""
        if self.outbox is None:
            self.outbox = Outbox()
        self.outbox.append(held)

    def flush(self) -> None:
        """Send the frames that may leave and have none before them that may not."""
        peer = self.peer()
        # Looked at anew each time: what arrives may cut the socket.
        while self.outbox and (held := self.outbox.pop_settled()) is not None:
            if peer is not None and held.is_void:
                peer.took(held.size)
            elif peer is not None:
                peer.arrive(held.frame, held.size)

    @property
    def is_peer_full(self) -> bool:
        """Whether a task that awaits its `send` has to wait."""
        peer = self.peer()
        return peer is not None and peer.unread.is_full()

    def must_wait(self) -> bool:
        """Whether a task has to wait for room at the peer, which then sets `room`."""
        if self.is_lost:
            return False
        peer = self.peer()
        if peer is None or not peer.unread.is_full():
            return False
        peer.is_awaited = True
        return True

    # Reading

    def arrive(self, frame: Frame, size: int) -> None:
        """*frame*, which the peer has sent, is here; after a loss only the end counts."""
        is_end = isinstance(frame, Close)
        if self.phase is not _OPEN and not is_end and self.is_lost:
            self.unread.count(-size)
            return
        self.inbox.append((frame, size))
        if self.arrival is not None:
            self.arrival.set()
            self.arrival = None
        if self.on_arrival is not None:
            self.on_arrival(self)
        if is_end and self.on_last_word is not None:
            self.on_last_word(self)

    def take(self) -> Frame:
        """The oldest frame that has arrived."""
        frame, size = self.inbox.popleft()
        self.took(size)
        return frame

    def took(self, size: int) -> None:
        """*size* bytes are not unread any more."""
        unread = self.unread
        unread.bytes -= size
        if unread.total is not None:
            unread.total.bytes -= size
        if self.is_awaited and not unread.is_full():
            self.is_awaited = False
            peer = self.peer()
            if peer is not None:
                peer.free_room()
        if self.on_taken is not None:
            self.on_taken(size)

    def free_room(self) -> None:
        """Wake the tasks that wait for room at the peer."""
        if self.room is not None:
            self.room.set()
            self.room = None

    @property
    def has_close_frame(self) -> bool:
        """Whether the peer's end has arrived and was not taken."""
        return bool(self.inbox) and isinstance(self.inbox[-1][0], Close)

    @property
    def is_read(self) -> bool:
        """Whether a task reads this end, or is about to."""
        return self.reads > 0 or (self.reader is not None and self.reader() is not None)

    def take_last_word(self) -> Close | None:
        """The close frame that has arrived, ahead of the messages before it, if no task reads."""
        if self.heard is not None or self.is_read or not self.has_close_frame:
            return None
        frame, _ = self.inbox.pop()
        assert isinstance(frame, Close)
        return frame

    # Closing

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed, as far as has arrived here."""
        return self.phase is _OPEN and not self.has_close_frame

    @property
    def is_leaving(self) -> bool:
        """Whether this end's close frame has still to be sent, or is held back."""
        return self.can_speak or bool(self.outbox)

    # Losing the connection

    def drop(self, error: Exception | None = None) -> None:
        """Be gone without a close frame: the peer sees 1006, or *error*."""
        self.lose(Close(DROPPED, DROPPED_TEXT, False), forget=True)
        text = DROPPED_TEXT if error is None else str(error)
        peer = self.peer()
        if peer is not None:
            peer.lose(Close(DROPPED, text, False, error), forget=False)

    def break_off(self, end: Close) -> None:
        """The connection is gone behind this end: the peer reads *end* last."""
        self.lose(end, forget=True)
        peer = self.peer()
        if peer is not None:
            peer.lose(end, forget=False)

    def cut(self) -> None:
        """Close the socket with 1013, since too much is unread here, and forget that."""
        peer = self.peer()
        if peer is not None and not self.is_lost:
            self.lose(Close(TOO_SLOW, TOO_SLOW_TEXT, True), forget=True)
            peer.lose(Close(TOO_SLOW, TOO_SLOW_TEXT, False), forget=False)
            return
        # Nothing more comes; of what is there, the end is kept.
        last = self.inbox[-1] if self.has_close_frame else None
        self._forget_unread()
        if last is not None:
            self.inbox.append(last)

    def lose(self, end: Close, *, forget: bool) -> None:
        """The connection is gone. *end* is read last, after what has arrived."""
        if not self._step(Step.LOSE):
            return
        outbox, self.outbox = self.outbox, None
        peer = self.peer()
        if outbox and peer is not None:
            peer.took(outbox.size)
        if forget:
            self._forget_unread()
        self.free_room()
        if self.heard is None and not self.has_close_frame:
            self.arrive(end, 0)

    def hear_loss(self) -> None:
        """The peer was freed."""
        self.lose(Close(DROPPED, DROPPED_TEXT, False), forget=False)

    def peer_is_gone(self) -> None:
        """The peer was freed, in any thread: lose the connection on the loop that uses this end."""
        if self.call_soon is not None and not self.is_lost:
            # In an empty context, not in that of the code which happened to free the peer.
            self.call_soon(partial(Context().run, self.hear_loss))

    def belong_to(
        self, total: UnreadTotal, call_soon: Callable[[Callable[[], object]], None]
    ) -> None:
        """An object of a runtime uses this end: *total* counts what both ends have not read,
        *call_soon* calls back on its loop."""
        self.call_soon = call_soon
        total.add(self.unread)
        peer = self.peer()
        if peer is None:
            self.hear_loss()
        else:
            total.add(peer.unread)

    def _forget_unread(self) -> None:
        self.unread.count(-sum(size for _, size in self.inbox))
        self.inbox.clear()

    def __repr__(self) -> str:
        return f"<End {self.use.value}, {self.phase.value}, {len(self.inbox)} unread>"


def join(one: End, other: End) -> None:
    """Make two ends the ends of one socket."""
    one.peer, other.peer = Watch(other, one), Watch(one, other)


def replace(old: End, new: End) -> None:
    """*new* takes the place of *old* at the peer of that, with what is unread there."""
    peer = old.peer()
    if peer is not None:
        join(peer, new)
    new.waited_for, old.waited_for = old.waited_for, None
    new.is_awaited, old.is_awaited = old.is_awaited, False
    new.unread.count(old.unread.bytes)
    old.peer = _no_peer


def _no_peer() -> None:
    """In the place of a peer, at an end that has none."""
