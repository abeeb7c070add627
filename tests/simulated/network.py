"""The connections of simulated processes: what one sends reaches the other late, in order, and not
at all once the connection is broken.

Rule: a sender whose connection ends knows of each message one of two things: it never left, or it
may have arrived. A message that never left does not arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field

from .agenda import Agenda
from .machine import Machine

# A side from which nothing was heard for so long, by the clock of the other one, is given up.
SILENCE_S_MAX = 5.0
BEAT_S = 1.0


@define
class Delays:
    """How long messages are on their way: little as a rule, and now and then much."""

    usual_s: float = 0.001
    late_s: float = 0.5
    # Of how many messages one is late.
    late_of: int = 100

    def draw(self, agenda: Agenda) -> float:
        chance = agenda.chance
        if self.late_of and chance.randrange(self.late_of) == 0:
            return chance.uniform(0, self.late_s)
        return chance.uniform(0, self.usual_s)


@define(eq=False)
class End:
    """One side of a connection."""

    machine: Machine
    link: Link
    # Told of each message, in the machine.
    on_message: Callable[[Any], None]
    # Told once that it has ended, with the messages that never left, in the machine.
    on_end: Callable[[list[Any]], None]
    is_gone: bool = field(default=False, init=False)
    _on_the_way: deque[Any] = field(factory=deque, init=False)
    _arrives_s: float = field(default=0.0, init=False)
    _unsent: list[Any] = field(factory=list, init=False)
    _has_heard: bool = field(default=True, init=False)
    _silent_s: float = field(default=0.0, init=False)

    def send(self, message: Any) -> None:
        """Send *message* after those before; it is dropped if the connection has ended."""
        if self.is_gone:
            return
        if self.link.is_broken:
            self._unsent.append(message)  # this side has not noticed yet
            return
        agenda = self.machine.agenda
        self._on_the_way.append(message)
        delay_s = self.link.delays.draw(agenda)
        self._arrives_s = max(self._arrives_s, agenda.now_s + delay_s)
        agenda.after(self._arrives_s - agenda.now_s, self._arrive)

    def _arrive(self) -> None:
        if self._on_the_way:
            message = self._on_the_way.popleft()
            other = self.link.other(self)
            other.machine.do(lambda: other._hear(message))

    def _hear(self, message: Any) -> None:
        self._has_heard = True
        if message is not None and not self.is_gone:
            self.on_message(message)

    def beat(self) -> None:
        """Say that this side is there, and look whether the other one is."""
        if self.is_gone:
            return
        self._silent_s = 0.0 if self._has_heard else self._silent_s + BEAT_S
        self._has_heard = False
        if self._silent_s >= SILENCE_S_MAX:
            self.link.break_()
            self.notice()
            return
        self.send(None)
        self.machine.call_later(BEAT_S, self.beat)

    def lose(self) -> None:
        """The connection is broken: some of what is on the way arrives at once, the rest never."""
        chance = self.machine.agenda.chance
        for _ in range(chance.randint(0, len(self._on_the_way))):
            self._arrive()
        # A part of the rest had left.
        for _ in range(chance.randint(0, len(self._on_the_way))):
            self._on_the_way.popleft()
        self._unsent.extend(self._on_the_way)
        self._on_the_way.clear()

    def notice(self) -> None:
        if not self.is_gone:
            self.is_gone = True
            unsent = [message for message in self._unsent if message is not None]
            self.on_end(unsent)


@define(eq=False)
class Link:
    """A connection of two processes, or of one with itself."""

    agenda: Agenda
    delays: Delays
    ends: list[End] = field(factory=list, init=False)
    is_broken: bool = field(default=False, init=False)

    def other(self, end: End) -> End:
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    def break_(self) -> None:
        """Let nothing more arrive; each side notices soon."""
        if self.is_broken:
            return
        self.is_broken = True
        for end in self.ends:
            end.lose()
        for end in self.ends:
            delay_s = self.delays.draw(self.agenda)
            self.agenda.after(delay_s, _in(end.machine, end.notice))


def _in(machine: Machine, step: Callable[[], None]) -> Callable[[], None]:
    return lambda: machine.do(step)


Listeners = tuple[Callable[[Any], None], Callable[[list[Any]], None]]


@define(eq=False)
class Network:
    """All connections. Pairs of processes may be cut off from each other."""

    agenda: Agenda
    delays: Delays = field(factory=Delays)
    links: list[Link] = field(factory=list, init=False)
    # Pairs whose messages get nowhere; their connections are silent, and no new one can be made.
    _cut: set[frozenset[Machine]] = field(factory=set, init=False)

    def connect(
        self,
        one: Machine,
        other: Machine,
        accept: Callable[[End], Listeners],
        connected: Callable[[End], Listeners],
        failed: Callable[[], None],
    ) -> None:
        """Connect *one* with *other*. Each side is told of its end and says what is to hear of it;
        or *failed* is told, in *one*, that there is no other side, or none that says anything."""
        is_over = False

        def give_up() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                failed()

        def arrive() -> None:
            if other.is_dead or self.is_cut(one, other):
                self.agenda.after(self.delays.draw(self.agenda), _in(one, give_up))
            else:
                other.do(answer)

        def answer() -> None:
            self.agenda.after(self.delays.draw(self.agenda), _in(one, meet))

        def meet() -> None:
            nonlocal is_over
            if is_over:
                return
            if other.is_dead or self.is_cut(one, other):
                give_up()
                return
            is_over = True
            link = self._link(one, other)
            near, far = link.ends
            # The near side may send at once; the far one hears of the end before any of that.
            other.do(lambda: _listen(far, accept(far)))
            _listen(near, connected(near))

        self.agenda.after(self.delays.draw(self.agenda), arrive)
        one.call_later(SILENCE_S_MAX, give_up)

    def _link(self, one: Machine, other: Machine) -> Link:
        link = Link(self.agenda, self.delays)
        for machine in (one, other):
            end = End(machine, link, _nothing, _nothing)
            link.ends.append(end)
            machine.on_death.append(link.break_)
            machine.call_later(BEAT_S, end.beat)
        self.links.append(link)
        return link

    def is_cut(self, one: Machine, other: Machine) -> bool:
        return frozenset((one, other)) in self._cut

    def standing(self) -> list[Link]:
        """The connections that are not broken."""
        self.links = [link for link in self.links if not link.is_broken]
        return self.links

    def cut(self, one: Machine, other: Machine) -> None:
        """Let no message between the two arrive, from now on."""
        self._cut.add(frozenset((one, other)))
        for link in self.standing():
            if {end.machine for end in link.ends} == {one, other}:
                link.break_()

    def mend(self) -> None:
        """Let all reach each other again."""
        self._cut.clear()


def _listen(end: End, listeners: Listeners) -> None:
    end.on_message, end.on_end = listeners


def _nothing(_: Any) -> None:
    """Nobody listens yet."""
