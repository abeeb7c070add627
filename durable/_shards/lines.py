"""The lines of calls for objects whose owner is another process, or not known just now.

A call goes to the owner of its object's shard at once, unless something speaks against it. The
owner may be unknown, or it may have sent calls back because it has given the shard up: then the
calls of the object wait in line until the owner is known.

Rule: what is sent back goes to the front, in its old order. A line goes to another owner only when
all that was under way to the former one is answered or back. So the calls of one object keep their
order through all moves, and none that may have begun is sent twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from typing import Any, Protocol

from attrs import define, field, frozen

from durable._loop.loop import Loop
from durable._loop.timers import Timer, Timers
from durable._model.clock import Clock


class Call(Protocol):
    """A call, and the answer that its caller holds."""

    # Notified of the outcome.
    router: Any

    @property
    def is_done(self) -> bool:
        """Whether the caller has an answer, or has stopped waiting."""

    def fail(self, error: BaseException, /) -> None:
        """Raise an error for the caller."""


class Port(Protocol):
    """A way to one incarnation of an object in a process."""

    def send(self, call: Any, /) -> None:
        """Send a call; its router is notified if it does not arrive."""


class Peer(Protocol):
    """A process, perhaps this one, that calls can be sent to."""

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be sent to it any more."""

    def port(self, target: Any, /) -> Port:
        """A way to the object *target*."""


@frozen
class Owner:
    """The owner of a shard, as far as is known."""

    peer: Peer
    epoch: int


@define(eq=False)
class Lines:
    """All lines of one process. Nothing here suspends."""

    loop: Loop
    clock: Clock
    timers: Timers
    # How long a call that has not begun may wait.
    wait_s_max: float
    # The owner of a shard, if it is known and can be reached.
    owner_of: Callable[[int], Owner | None]
    # Called when the owner of a shard turned out to be unknown or another: find out.
    look_for: Callable[[int], None]
    # Makes the error for a call that is given up, and for what reason.
    unreachable: Callable[[Any, str], BaseException]
    # The shards of this process.
    here: Container[int]
    _lines: dict[bytes, Line] = field(factory=dict, init=False)

    def route(self, shard: int, raw: bytes, target: Any) -> Route:
        """The route of one stub to the object whose id is *raw*; *target* is the name by which
        peers know it."""
        return Route(self, shard, raw, target)

    def is_used(self, raw: bytes) -> bool:
        """Whether calls of the object are under way through a line, or wait in it: a new call has
        to go behind them."""
        return raw in self._lines

    def line_of(self, shard: int, raw: bytes) -> Line:
        line = self._lines.get(raw)
        if line is None:
            line = self._lines[raw] = Line(self, shard, raw)
        return line

    def leave(self, line: Line) -> None:
        """Nothing is under way through *line*, and nothing waits in it. May be called again."""
        if self._lines.get(line.raw) is line:
            del self._lines[line.raw]

    def owner_changed(self, shard: int | None = None) -> None:
        """The owner of a shard has changed; or, if None, those of all may have, or can be reached
        now. An owner that has sent calls back is asked again then: it may have owned the shard
        already, and not yet accepted calls."""
        for line in list(self._lines.values()):
            if shard is None:
                line.ask_again()
            elif line.shard == shard:
                line.go_on()

    def close(self, error: Callable[[], BaseException]) -> None:
        """Raise an error for the callers of what still waits."""
        for line in list(self._lines.values()):
            line.give_up(error)

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())


class Line:
    """The calls of one object that are under way, or wait."""

    __slots__ = (
        "_back",
        "_is_going",
        "_lines",
        "_owner",
        "_refused",
        "_since_s",
        "_timer",
        "_under_way",
        "_waiting",
        "raw",
        "shard",
    )

    def __init__(self, lines: Lines, shard: int, raw: bytes) -> None:
        self._lines = lines
        self.shard = shard
        self.raw = raw
        # Calls sent to the current owner that have no answer yet.
        self._under_way = 0
        self._owner: Owner | None = None
        # The owner that has sent calls back.
        self._refused: Owner | None = None
        self._back: list[Any] = []
        self._waiting: deque[Any] = deque()
        # When the calls that had to wait began to.
        self._since_s: dict[Any, float] | None = None
        self._timer: Timer | None = None
        self._is_going = False

    def send(self, call: Any) -> None:
        """Send *call*, or queue it; its router is a `Route`."""
        if not self._waiting and not self._back:
            owner = self._owner_to_use()
            if owner is not None:
                self._send_to(owner, call)
                return
        self._wait(call)

    def _owner_to_use(self) -> Owner | None:
        """The owner that calls may go to now."""
        owner = self._lines.owner_of(self.shard)
        if owner is None or owner.peer.is_gone or owner == self._refused:
            self._lines.look_for(self.shard)
            return None
        if self._under_way and owner != self._owner:
            return None
        return owner

    def _send_to(self, owner: Owner, call: Any) -> None:
        self._owner = owner
        self._under_way += 1
        call.router.port_at(owner).send(call)

    def _wait(self, call: Any) -> None:
        self._waiting.append(call)
        self._note(call)

    def _note(self, call: Any) -> None:
        if self._since_s is None:
            self._since_s = {}
        self._since_s.setdefault(call, self._lines.clock.steady())
        if self._timer is None:
            self._timer = self._lines.timers.call_later(self._lines.wait_s_max, self._expire)

    def go_on(self) -> None:
        """Send what waits, if it may leave."""
        if self._is_going:
            return
        self._is_going = True
        try:
            while self._waiting and not self._back:
                owner = self._owner_to_use()
                if owner is None:
                    break
                call = self._waiting.popleft()
                if not call.is_done:
                    self._send_to(owner, call)
                elif self._since_s is not None:
                    self._since_s.pop(call, None)
        finally:
            self._is_going = False
        self._leave_if_empty()

    def ask_again(self) -> None:
        """The same, to an owner that has sent calls back, too."""
        if not self._under_way:
            self._refused = None
        self.go_on()

    def settled(self, call: Any) -> None:
        """*call* has its answer."""
        if self._since_s is not None:
            self._since_s.pop(call, None)
        self._has_ended()

    def returned(self, call: Any) -> None:
        """*call* is back from the owner, and has not begun."""
        self._refused = self._owner
        self._back.append(call)
        self._note(call)
        self._has_ended()

    def _has_ended(self) -> None:
        self._under_way -= 1
        if self._under_way:
            return
        if self._back:
            self._waiting.extendleft(reversed(self._back))
            self._back.clear()
        if self._waiting:
            # Not at once: what brought the last one back may still be at work.
            self._lines.loop.call_soon(self.go_on)
        else:
            self._leave_if_empty()

    def _leave_if_empty(self) -> None:
        if not self._under_way and not self._waiting and not self._back:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._lines.leave(self)

    def _expire(self) -> None:
        """Raise an error for the callers that have waited too long."""
        self._timer = None
        lines, since_s = self._lines, self._since_s or {}
        now_s = lines.clock.steady()
        while self._waiting and now_s - since_s[self._waiting[0]] >= lines.wait_s_max:
            call = self._waiting.popleft()
            del since_s[call]
            call.fail(
                lines.unreachable(
                    call,
                    f"no process could be found that has it for {lines.wait_s_max:g} s; the call "
                    f"was not carried out",
                )
            )
        if self._waiting:
            left_s = since_s[self._waiting[0]] + lines.wait_s_max - now_s
            self._timer = lines.timers.call_later(left_s, self._expire)
        self._leave_if_empty()

    def give_up(self, error: Callable[[], BaseException]) -> None:
        """Raise an error for the callers of what waits."""
        waiting = [*self._back, *self._waiting]
        self._back.clear()
        self._waiting.clear()
        for call in waiting:
            call.fail(error())
        self._leave_if_empty()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._back)

    def __repr__(self) -> str:
        return f"<Line {self._under_way} under way, {len(self)} waiting>"


class Route:
    """The route of one stub to its object, wherever that is: the calls of the stub reach one
    incarnation, as long as the shard has the same owner."""

    __slots__ = ("__weakref__", "_lines", "_owner", "_port", "_raw", "_shard", "_target")

    def __init__(self, lines: Lines, shard: int, raw: bytes, target: Any) -> None:
        self._lines = lines
        self._shard = shard
        self._raw = raw
        self._target = target
        self._owner: Owner | None = None
        self._port: Port | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the object is in this process now, and nothing has to come before its calls."""
        return self._shard in self._lines.here and not self._lines.is_used(self._raw)

    def send(self, call: Any) -> None:
        """Send *call*, behind all calls of the object that were made before."""
        call.router = self
        self._lines.line_of(self._shard, self._raw).send(call)

    def port_at(self, owner: Owner) -> Port:
        port = self._port
        if port is None or self._owner != owner:
            port = self._port = owner.peer.port(self._target)
            self._owner = owner
        return port

    # Outcomes of a call, as its port reports them

    def settled(self, call: Any) -> None:
        """*call* has its answer, or is lost."""
        self._lines.line_of(self._shard, self._raw).settled(call)

    def returned(self, call: Any, why: object) -> None:
        """*call* is back, and has not begun."""
        self._port = None  # it sends back all that comes; all is back before it is used again
        self._lines.line_of(self._shard, self._raw).returned(call)

    def __repr__(self) -> str:
        return f"<Route to {self._target!r}>"
