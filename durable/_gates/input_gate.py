"""The input gate: one turn at a time, and none while the object waits on its own storage.

The gate is owned by a delivery, and every task of that delivery passes freely; all others wait, and
are let in one by one in the order in which they came. The holder gives the gate up when it waits on
the outside. Whether it does is known at once for a delivery with one task: it is suspended, and not
on storage. A delivery that has started tasks (`gather`, a task group) may be waiting for its own
tasks instead, which is the inside; it has given up the gate when nothing of it has stirred for a
few rounds of the loop, the time that it takes to hand a child's result to its parent.

A critical section is a delivery that keeps the gate, whatever it waits for, until its function has
ended. Then the code that awaits it goes on, before all who wait in line. What the section has left
running belongs to the delivery that made it, its *heir*, and waits in line as other tasks of that.

Rule: every change to the gate's state is made here, by functions that never suspend. Callers may
then read the state, decide, and act, knowing that nobody else moved in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from threading import get_ident
from typing import Any, Generic

from attrs import define, field

from durable._loop.loop import Loop, Waker
from durable._model.errors import DurableError, WrongLoop

from .ending import Ending, Stopped
from .entrant import CURRENT_ENTRANT, E, Inside, Waiter, bequeath, new_one, next_section
from .futures import Answer
from .output_gate import OutputGate

# How many rounds of the loop a delivery with tasks of its own must be still before it counts as
# waiting on the outside. Each level of gather, wait_for or task group needs one or two to be woken.
QUIET_ROUNDS = 8
# A delivery whose tasks wake each other, or are woken from outside, more often than that is never
# still for so long. When it has been still for so many rounds in all, others get their chance too.
QUIET_ROUNDS_IN_ALL = 20_000


@define(eq=False, slots=True)
class InputGate(Generic[E]):
    """Whose turn it is in one object."""

    loop: Loop
    output: OutputGate
    # Makes a batch of what the turn wrote.
    seal: Callable[[], None] = field(repr=False)
    start: Callable[[E], None] = field(repr=False)  # a task for a delivery that was let in
    # Why nothing is let in any more; and the ending of its code, if it was reset.
    broken: DurableError | None = None
    ending: Ending | None = None

    holder: E | None = None
    # What the task that is about to suspend waits for, if that is not on the outside.
    inside: Inside | None = None
    # The tasks that run code of this object, and whose they are, a delivery's first one first; None
    # rather than empty, which an idle object has room for a hundred times.
    _running: dict[Any, E] | None = None
    # Of those that were started by others, how deep they stand under these.
    _depths: dict[Any, int] | None = None
    # Of the deliveries that wait in line.
    queued_bytes: int = 0

    _holds: int = 0
    _waiting: deque[Waiter[E]] | None = None
    # Tasks of the holder whose wait on the outside has ended while the storage holds the gate.
    _held_back: list[Waiter[E]] | None = None
    # Critical sections that run, innermost last, and those that are to start, in order.
    _sections: list[E] | None = None
    _pending: deque[E] | None = None
    # An inner section has ended, and tasks of the one around it may stand in line.
    _has_own_in_line: bool = False
    _steps: int = 0
    # Rounds in which the holder was seen to be still, since it has owned the gate.
    _quiet_in_all: int = 0
    _is_watching: bool = False
    # Called when a task waits to be let on; what it answers is called when it is.
    on_wait: Callable[[E], Callable[[], None]] | None = field(default=None, repr=False)

    # Entering

    def check(self) -> None:
        """Raise WrongLoop in another thread; the reason if broken, or Stopped in its own code."""
        if get_ident() != self.loop.thread:
            raise WrongLoop("the object")
        if self.broken is not None:
            raise self.stopped()

    def stopped(self) -> BaseException:
        """What to raise in code that uses the object after it has broken."""
        assert self.broken is not None
        current = CURRENT_ENTRANT.get()
        if self.ending is None or current is None or current.gate is not self:
            return self.broken.again()
        self.ending.tell(self.loop.own_task())
        return Stopped(self.ending.reason)

    def refuse(self, stopped: Stopped) -> Answer[Any]:
        """Raise *stopped*, or return an answer that does: see `Ending.refuse`."""
        assert self.ending is not None
        return self.ending.refuse(stopped)

    def enter_nowait(self, delivery: E) -> bool:
        """Let *delivery* in if it is in already, or if nobody is and nobody came before it."""
        holder = self.holder
        if holder is delivery:
            return True
        if holder is None and not (self._waiting or self._pending or self._sections or self._holds):
            self.holder = delivery
            self._quiet_in_all = 0
            delivery.fanned_out = False
            return True
        return False

    def queue(self, delivery: E, waker: Waker | None = None) -> Waiter[E]:
        """Take the next place in line."""
        waiter = Waiter(delivery, waker)
        if waker is None:
            self.queued_bytes += delivery.size
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(waiter)
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
            return self._queue_first(delivery, waker) if is_first else self.queue(delivery, waker)
        waiter = Waiter(delivery, waker)
        if self._held_back is None:
            self._held_back = []
        self._held_back.append(waiter)
        return waiter

    def _queue_first(self, delivery: E, waker: Waker) -> Waiter[E]:
        """A place before all who wait for anything but the end of a section."""
        waiter = Waiter(delivery, waker, is_first=True)
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.insert(sum(other.is_first for other in self._waiting), waiter)
        if self.holder is None:
            self._start(self._hand_over())
        else:
            self.watch()
        return waiter

    def forget(self, delivery: E) -> None:
        """Take *delivery* out of the line, if it waits there for its first step."""
        waiter = new_one(self._waiting or (), delivery)
        if waiter is not None and self._waiting is not None:
            self._waiting.remove(waiter)
            self._waiting = self._waiting or None
            self.queued_bytes -= delivery.size

    @property
    def queued(self) -> int:
        """How many wait to be let in."""
        return len(self._waiting) if self._waiting else 0

    @property
    def waiting(self) -> tuple[Waiter[E], ...]:
        """Those who wait to be let in, in order."""
        return tuple(self._waiting or ())

    @property
    def oldest_new(self) -> E | None:
        """The delivery that has waited longest for its first step."""
        return next((w.delivery for w in self._waiting or () if w.waker is None), None)

    # Tasks

    @property
    def running(self) -> Mapping[Any, E]:
        """The tasks that run code of this object, which a reset cancels, and whose they are."""
        return self._running or {}

    def task_begins(self, task: Any, delivery: E, depth: int = 0) -> None:
        """*task* runs code of *delivery* from now on."""
        if self._running is None:
            self._running = {task: delivery}
        else:
            self._running[task] = delivery
        if depth:
            if self._depths is None:
                self._depths = {task: depth}
            else:
                self._depths[task] = depth

    def depth_of(self, task: Any) -> int:
        """Under how many of this object's tasks *task* was started."""
        return self._depths.get(task, 0) if self._depths is not None else 0

    def task_ends(self, task: Any) -> None:
        """*task* has run what it had to run."""
        running = self._running
        if running is not None:
            running.pop(task, None)
            if self._depths is not None:
                self._depths.pop(task, None)
            if self.ending is not None:
                self.ending.task_ended(task)
            elif not running:
                self._depths = None
                self._running = None

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
            self._steps += 1
        if self._holds:
            return
        if delivery.tasks == 1 and not delivery.fanned_out and not is_bare:
            self._holder_is_outside(delivery)
        else:
            self.watch()

    def child_started(self, delivery: E) -> None:
        """A task that *delivery* started takes its first step, or is about to."""
        self._steps += 1
        delivery.fanned_out = True

    def child_ended(self, delivery: E) -> None:
        """A task that *delivery* had started has ended; what waits for it will stir."""
        self._steps += 1
        delivery.fanned_out = True
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
        if not self._sections:
            self._finish_turn()
        if self._holds and self.holder is delivery:
            return None  # a read that nobody waits for; `release` will see that we have left
        return self._end_turn() if self.holder is delivery else None

    def hold(self) -> None:
        """The object waits on its storage: let nobody in until `release`."""
        self._holds += 1

    def release(self) -> None:
        """One wait on the storage is over."""
        assert self._holds > 0
        self._holds -= 1
        if self._holds or self.broken is not None:
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
            # Its task may be about to step or long suspended elsewhere: whether it stirs will tell.
            holder.fanned_out = True
            self.watch()

    def _holder_is_outside(self, holder: E) -> None:
        """The holder waits on the outside: its turn is over."""
        if not holder.is_section:
            self._start(self._end_turn())
            return
        # A section keeps the gate, but what it wrote and said may be what it waits for.
        self._finish_turn()
        if self._next_section() is not None or self._is_first_one_next:
            self._start(self._hand_over())
        elif self._has_own_in_line:
            self._give_back(holder)

    def _end_turn(self) -> E | None:
        output = self.output  # `_finish_turn`, written out: each call passes here
        if output.has_unsealed:
            self.seal()
        if output.unsaid is not None:
            output.let_go()
        self.holder = None
        return self._hand_over()

    def _finish_turn(self) -> None:
        # While the gate has its holder yet: what hears it may call this object at once.
        if self.output.has_unsealed:
            self.seal()
        self.output.let_go()

    def _hand_over(self) -> E | None:
        """Give the gate to whoever is next; returns a delivery that needs a task."""
        if self._holds or self.broken is not None:
            return None
        if not (self._pending or self._sections) or self._is_first_one_next:
            return self._let_in_next()
        section = self._next_section()
        if section is not None:
            assert self._pending is not None
            self._pending.remove(section)
            if self._sections is None:
                self._sections = []
            self._sections.append(section)
            self._own(section)
            return section
        if self._sections:
            self._give_back(self._sections[-1])
        return None

    def _let_in_next(self) -> E | None:
        """Give the gate to the first in line."""
        if not self._waiting:
            return None
        waiter = self._waiting.popleft()
        if not self._waiting:
            self._waiting = None  # an empty deque is the largest part of an idle object
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
        first = self._waiting[0] if self._waiting else None
        if first is None or not first.is_first:
            return False
        return not self._sections or first.delivery.home is self._sections[-1]

    def _start(self, delivery: E | None) -> None:
        if delivery is not None:
            self.start(delivery)

    def _own(self, delivery: E) -> None:
        self.holder = delivery
        self._quiet_in_all = 0
        delivery.fanned_out = False
        self._steps += 1

    def _give_back(self, delivery: E) -> None:
        """The gate is *delivery*'s again, and all of its tasks that came back meanwhile go on."""
        self._own(delivery)
        self._has_own_in_line = False
        waiting, self._waiting = self._waiting, None
        others = deque[Waiter[E]]()
        for waiter in waiting or ():
            if waiter.waker is not None and waiter.delivery.home is delivery:
                waiter.let_in()
            else:
                others.append(waiter)
        self._waiting = others or None
        # Should nothing of it stir after all, being still for some rounds will tell.
        delivery.fanned_out = True
        self.watch()

    # Critical sections

    def add_section(self, section: E) -> None:
        """From now on let nobody in until *section* has ended; it starts when this turn ends."""
        section.is_section = True
        if self._pending is None:
            self._pending = deque()
        self._pending.append(section)
        if self.holder is None:
            self._start(self._hand_over())
        else:
            self.watch()

    @property
    def sections(self) -> tuple[E, ...]:
        """The critical sections that run or are to start."""
        return (*(self._sections or ()), *(self._pending or ()))

    @property
    def running_sections(self) -> Collection[E]:
        """The critical sections that run, innermost last."""
        return self._sections or ()

    def _next_section(self) -> E | None:
        """The section to start, if any may."""
        return next_section(self._pending or (), self._sections or ())

    def _end_section(self, section: E, awaiting: E | None) -> E | None:
        assert self._sections is not None
        was_innermost = self._sections[-1] is section
        self._sections.remove(section)
        self._bequeath(section)
        if not self._sections:
            self._finish_turn()
        if not was_innermost or self.broken is not None:
            return None
        self.holder = None
        if awaiting is not None:
            awaiting = awaiting.home  # perhaps a task of the section itself has awaited it
        if awaiting is None or (self._sections and self._sections[-1] is not awaiting):
            return self._hand_over()
        self._has_own_in_line = bool(self._sections)
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
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.extend(held_back)

    # Being still

    def watch(self) -> None:
        """See whether the holder stays still, if anybody wants to know."""
        if not self._is_watching and self.is_wanted:
            self._is_watching = True
            self._look_again(self._steps, 0)

    @property
    def is_wanted(self) -> bool:
        """Whether it matters to anybody that the holder gives up the gate."""
        return bool(self._waiting or self._pending or self.output.is_unfinished)

    def _look_again(self, steps: int, quiet: int) -> None:
        self.loop.call_soon(lambda: self._round(steps, quiet))

    def _round(self, steps: int, quiet: int) -> None:
        holder = self.holder
        if holder is None or self._holds or self.broken is not None or not self.is_wanted:
            self._is_watching = False
        elif self._steps != steps:
            self._look_again(self._steps, 0)
        elif quiet + 1 < QUIET_ROUNDS and self._quiet_in_all < QUIET_ROUNDS_IN_ALL:
            self._quiet_in_all += 1
            self._look_again(steps, quiet + 1)
        else:
            self._is_watching = False
            self._holder_is_outside(holder)

    # The end

    def break_(self, reason: DurableError, label: str = "an object") -> list[E]:
        """Let nothing in any more. Wakes every task that waits, to find that it is not to go on;
        answers the deliveries and sections that have not started. `ending.begin` tells the code."""
        assert self.broken is None
        self.broken = reason
        if self._running is None:
            self._running = {}
        self.ending = Ending(self.loop, self._running, self.depth_of, label, str(reason))
        waiters = [*(self._held_back or ()), *(self._waiting or ())]
        unstarted = [*(self._pending or ()), *(w.delivery for w in waiters if w.waker is None)]
        self._held_back = self._waiting = self._pending = None
        for waiter in waiters:
            waiter.let_in()
        return unstarted

    def __repr__(self) -> str:
        if self.broken is not None:
            return f"<InputGate broken: {self.broken}>"
        held = f", held x{self._holds}" if self._holds else ""
        return f"<InputGate of {self.holder}{held}, {self.queued} waiting>"
