"""The input gate: one turn at a time, and none while the object waits on its own storage.

It has a *holder*, a delivery, and lets the others in one by one, in the order in which they came.

    state                    others           the holder's tasks     until
    open                     enter            -                      -
    held                     wait in line     go on                  it waits outside, or ends
    held, and a hold         wait in line     from storage only      the last hold is released
    a hold, no holder        wait in line     -                      the last hold is released
    a section is to start    wait in line     go on                  the turn ends
    a section runs           wait in line     go on                  its function has ended
    broken                   get the reason   get Stopped            -

A holder with one task waits on the outside if it is suspended, and not on storage; of one that has
started tasks `quiet_rounds.py` finds that out. After a section the code that awaits it goes first;
what it has left running belongs to its *heir*, the delivery that made it.

Rule: every change to the gate's state is made here, by functions that never suspend. Callers may
then read the state, decide, and act: nothing changes it in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from attrs import define, field

from durable._loop.loop import Waker
from durable._model.errors import DurableError

from .entrant import E, Inside
from .held_gate import HeldGate
from .line import Line, Waiter
from .output_gate import OutputGate
from .owner import Owner
from .section_stack import SectionStack, bequeath


@define(eq=False, slots=True)
class InputGate(HeldGate[E]):
    """Whose turn it is in one object.

    It inherits what is known of its holder and of the running code, and does not refer to it: a
    call asks all of it.
    """

    output: OutputGate
    owner: Owner = field(repr=False)
    start: Callable[[E], None] = field(repr=False)  # a task for a delivery that was let in

    # What the task that is about to suspend waits for, if that is not on the outside.
    inside: Inside | None = None
    # Of the deliveries that wait in line.
    queued_bytes: int = 0

    # What waits in line. None rather than empty, as what an idle object does not need.
    line: Line[E] | None = None
    # Tasks of the holder whose wait on the outside has ended while the storage holds the gate.
    _held_back: list[Waiter[E]] | None = None
    # None rather than empty.
    _sections: SectionStack[E] | None = None
    # An inner section has ended, and tasks of the one around it may stand in line.
    _has_own_in_line: bool = False
    # Called when a task waits to be let on; what it returns is called when it is.
    on_wait: Callable[[E], Callable[[], None]] | None = field(default=None, repr=False)

    # Entering

    def enter_nowait(self, delivery: E) -> bool:
        """Let *delivery* in if it holds the gate, or if the gate is free and the line empty."""
        holder = self.holder
        if holder is delivery:
            return True
        if holder is None and not (self.line or self._sections or self._holds):
            self.holder = delivery
            self.quiet_in_all = 0
            delivery.fanned_out = False
            return True
        return False

    def queue(
        self, delivery: E, waker: Waker | None = None, *, is_first: bool = False
    ) -> Waiter[E]:
        """Take the next place in line; with *is_first* one before all but others of these."""
        waiter = Waiter(delivery, waker, is_first)
        if waker is None:
            self.queued_bytes += delivery.size
        if self.line is None:
            self.line = Line()
        if is_first:
            self.line.put_first(waiter)
        else:
            self.line.append(waiter)
        if self.holder is None:
            self._start(self._hand_over())
        else:
            self.watch()
        return waiter

    def resume_nowait(self, delivery: E, from_inside: bool) -> bool:
        """Let a task on that a wait has ended, if its delivery owns the gate or can have it.

        While the gate is held only a task goes on that waited for what holds it.
        """
        if self.holder is delivery:
            return from_inside or not self._holds
        return self.enter_nowait(delivery)

    def queue_resumption(self, delivery: E, waker: Waker, *, is_first: bool = False) -> Waiter[E]:
        """The place in line of a task that `resume_nowait` did not let on."""
        if self.holder is not delivery:
            return self.queue(delivery, waker, is_first=is_first)
        waiter = Waiter(delivery, waker)
        if self._held_back is None:
            self._held_back = []
        self._held_back.append(waiter)
        return waiter

    def forget(self, delivery: E) -> None:
        """Take *delivery* out of the line, if it waits there for its first step."""
        if self.line is not None and self.line.remove_new(delivery):
            self.line = self.line or None
            self.queued_bytes -= delivery.size

    @property
    def queued(self) -> int:
        """How many wait to be let in."""
        return 0 if self.line is None else len(self.line)

    @property
    def oldest_new(self) -> E | None:
        """The delivery that has waited longest for its first step."""
        return self.line.oldest_new if self.line is not None else None

    # Leaving

    def suspended(self, delivery: E, *, is_bare: bool = False) -> None:
        """A task of *delivery* waits, and not for the storage.

        *is_bare*: some library lets others run for a round in the middle of its work, with a lock
        that is free or a task group without a task. That is no wait on the outside; nor is it a
        sign of life, so code that does nothing else gives up the gate.
        """
        if self.holder is not delivery:
            return
        if not is_bare:
            self.steps += 1
        if self._holds:
            return
        if delivery.tasks == 1 and not delivery.fanned_out and not is_bare:
            self.holder_is_outside(delivery)
        else:
            self.watch()
            if self.when_stirred is not None:
                self.note_stirred()

    def child_started(self, delivery: E) -> None:
        """A task that *delivery* started takes its first step, or is about to."""
        self.steps += 1
        delivery.fanned_out = True

    def child_ended(self, delivery: E) -> None:
        """A task that *delivery* had started has ended; what waits for it will stir."""
        self.steps += 1
        delivery.fanned_out = True
        if self.when_stirred is not None:
            self.note_stirred()
        if self.holder is delivery:
            if not delivery.tasks and delivery.has_left and not self._holds:
                self._start(self._end_turn())
            else:
                self.watch()

    def leave(self, delivery: E, awaiting: E | None = None) -> E | None:
        """The handler of *delivery* has ended: what it wrote is sealed, the next one is let in.

        After a section that is *awaiting*, the delivery whose code awaits it, if that may run now.
        Returns a delivery that was let in and has no task yet; the caller's task may serve it.
        """
        delivery.has_left = True
        if self.broken is not None:
            return None
        if delivery.is_section:
            return self._end_section(delivery, awaiting)
        if self.holder is delivery and not self._holds:
            return self._end_turn()
        if self._sections is None or not self._sections.running:
            self._finish_turn()
        return None  # it may have a read that is not awaited; `release` will see that it has left

    def release(self) -> None:
        """One wait on the storage is over."""
        if not self.end_hold():
            return
        held_back, self._held_back = self._held_back, None
        for waiter in held_back or ():
            waiter.let_in()
        holder = self.holder
        if holder is None:
            self._start(self._end_turn())
        elif holder.has_left and not holder.tasks:
            self._start(self.leave(holder))
        else:
            # Its task may be about to step, or long suspended elsewhere: quiet rounds will show.
            holder.fanned_out = True
            self.watch()

    def holder_is_outside(self, holder: E) -> None:
        """The holder waits on the outside: its turn is over."""
        if not holder.is_section:
            self._start(self._end_turn())
            return
        # A section keeps the gate, but what it wrote and said may be what it waits for.
        self._finish_turn()
        sections = self._sections
        if (sections is not None and sections.next is not None) or self._is_first_one_next:
            self._start(self._hand_over())
        elif self._has_own_in_line:
            self._give_back(holder)

    def _end_turn(self) -> E | None:
        output = self.output  # `_finish_turn`, written out: each call passes here
        if output.has_unsealed:
            self.owner.seal()
        if output.unsaid is not None:
            output.let_go()
        self.holder = None
        if self.line is None and self._sections is None:
            return None
        return self._hand_over()

    def _finish_turn(self) -> None:
        # While the gate has its holder yet: what hears it may call this object at once.
        if self.output.has_unsealed:
            self.owner.seal()
        self.output.let_go()

    def _hand_over(self) -> E | None:
        """Give the gate to the next in order; returns a delivery that needs a task."""
        if self._holds or self.broken is not None:
            return None
        sections = self._sections
        if sections is None or self._is_first_one_next:
            return self._let_in_next()
        section = sections.start_next()
        if section is not None:
            self._own(section)
            return section
        if sections.running:
            self._give_back(sections.running[-1])
        return None

    def _let_in_next(self) -> E | None:
        """Give the gate to the first in line."""
        if not self.line:
            return None
        waiter = self.line.popleft()
        if not self.line:
            self.line = None  # an empty deque is the largest part of an idle object
        self._own(waiter.delivery.home)
        waiter.let_in()
        if waiter.waker is None:
            self.queued_bytes -= waiter.delivery.size
            return waiter.delivery
        return None

    @property
    def _is_first_one_next(self) -> bool:
        """Whether code that awaits a section which has ended is to go on, before a section that is
        to start, and inside of one that runs."""
        first = self.line[0] if self.line else None
        if first is None or not first.is_first:
            return False
        sections = self._sections
        if sections is None or not sections.running:
            return True
        return first.delivery.home is sections.running[-1]

    def _start(self, delivery: E | None) -> None:
        if delivery is not None:
            self.start(delivery)

    def _own(self, delivery: E) -> None:
        # Their types again: a checker of types asks for them where a subclass assigns.
        self.holder: E | None = delivery
        self.quiet_in_all: int = 0
        delivery.fanned_out = False
        self.steps: int = self.steps + 1

    def _give_back(self, delivery: E) -> None:
        """The gate is *delivery*'s again, and all of its tasks that came back meanwhile go on."""
        self._own(delivery)
        self._has_own_in_line = False
        if self.line is not None:
            self.line = self.line.let_in_tasks_of(delivery) or None
        # Should nothing of it stir after all, the quiet rounds will show that.
        delivery.fanned_out = True
        self.watch()

    # Critical sections

    def add_section(self, section: E) -> None:
        """From now on let nothing in until *section* has ended; it starts when this turn ends."""
        section.is_section = True
        if self._sections is None:
            self._sections = SectionStack()
        self._sections.pending.append(section)
        if self.holder is None:
            self._start(self._hand_over())
        else:
            self.watch()

    @property
    def sections(self) -> tuple[E, ...]:
        """The critical sections that run or are to start."""
        sections = self._sections
        return () if sections is None else (*sections.running, *sections.pending)

    @property
    def running_sections(self) -> Collection[E]:
        """The critical sections that run, innermost last."""
        return () if self._sections is None else self._sections.running

    def _end_section(self, section: E, awaiting: E | None) -> E | None:
        sections = self._sections
        assert sections is not None
        was_innermost = sections.remove(section)
        if not (sections.running or sections.pending):
            self._sections = None
        self._bequeath(section)
        if not sections.running:
            self._finish_turn()
        if not was_innermost or self.broken is not None:
            return None
        self.holder = None
        if awaiting is not None:
            awaiting = awaiting.home  # perhaps a task of the section itself has awaited it
        if awaiting is None or (sections.running and sections.running[-1] is not awaiting):
            return self._hand_over()
        self._has_own_in_line = bool(sections.running)
        self._own(awaiting)
        self.watch()
        return None

    def _bequeath(self, section: E) -> None:
        """*section* is over: the tasks that it has left running are those of the code around it."""
        section.is_section = False
        bequeath(section, self._running or {})
        # Some may have come back while the storage holds the gate: their place is at the end.
        held_back, self._held_back = self._held_back, None
        if held_back:
            if self.line is None:
                self.line = Line()
            self.line.extend(held_back)

    # Being watched

    @property
    def is_wanted(self) -> bool:
        """Whether anything waits for the holder to give up the gate."""
        sections = self._sections
        return bool(
            self.line or (sections is not None and sections.pending) or self.output.is_unfinished
        )

    # The end

    def break_(self, reason: DurableError, label: str = "an object") -> list[E]:
        """Let nothing in any more. Wakes every task that waits, to find that it must not go on;
        returns the deliveries and sections that have not started. `ending.begin` stops the code."""
        self.break_code(reason, label)
        waiters = [*(self._held_back or ()), *(self.line or ())]
        unstarted = [w.delivery for w in waiters if w.waker is None]
        if self._sections is not None:
            unstarted = [*self._sections.pending, *unstarted]
            self._sections.pending.clear()
        self._held_back = self.line = None
        for waiter in waiters:
            waiter.let_in()
        return unstarted

    def __repr__(self) -> str:
        if self.broken is not None:
            return f"<InputGate broken: {self.broken}>"
        held = f", held x{self._holds}" if self._holds else ""
        return f"<InputGate of {self.holder}{held}, {self.queued} waiting>"
