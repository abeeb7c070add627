"""The input gate: one turn at a time, and none while the object waits on its own storage.

The gate is owned by a delivery, and every task of that delivery passes freely; all others wait, and
are let in one by one in the order in which they came. The owner gives the gate up when it waits on
the outside. Whether it does is known at once for a delivery with one task: it is suspended, and not
on storage. A delivery that has started tasks (`gather`, a task group) may be waiting for its own
tasks instead, which is the inside; it has given up the gate when nothing of it has stirred for a
few rounds of the loop, the time that it takes to hand a child's result to its parent.

A critical section is a delivery that keeps the gate, whatever it waits for, until it ends.

Rule: every change to the gate's state is made here, by functions that never suspend. Callers may
then read the state, decide, and act, knowing that nobody else moved in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Generic, Protocol, Self, TypeVar

from attrs import define, field

from durable._loop.loop import Loop, Waker
from durable._model.errors import DurableError

from .output_gate import OutputGate

# How many rounds of the loop a delivery with tasks of its own must be still before it counts as
# waiting on the outside. Each level of gather, wait_for or task group needs one or two to be woken.
QUIET_ROUNDS = 8
# A delivery whose tasks wake each other, or are woken from outside, more often than that is never
# still for so long. When it has been still for so many rounds in all, others get their chance too.
QUIET_ROUNDS_IN_ALL = 20_000


class Entrant(Protocol):
    """What the gate needs to know of a delivery. It alone writes `fanned_out`, `is_section` and
    `has_left`; whoever runs the delivery counts its tasks."""

    # Bytes that it keeps in memory while it waits in line.
    size: int
    # Tasks that run its code now.
    tasks: int
    # It has, or had in this turn, more tasks than one.
    fanned_out: bool
    is_section: bool
    has_left: bool

    @property
    def gate(self) -> InputGate[Any]: ...
    @property
    def parent(self) -> Self | None:
        """Within the object, the delivery that made this one."""


E = TypeVar("E", bound=Entrant)


@define(eq=False, slots=True)
class Waiter(Generic[E]):
    """One who waits to be let in: a new delivery, or a task of one that had given up the gate."""

    delivery: E
    # None while the delivery has no task yet: then letting it in is starting one.
    waker: Waker | None = None
    is_let_in: bool = False

    def let_in(self) -> None:
        self.is_let_in = True
        # A waker that is done was cancelled this moment; its task will look at `is_let_in`.
        if self.waker is not None and not self.waker.done():
            self.waker.set_result(None)


@define(eq=False, slots=True)
class InputGate(Generic[E]):
    """Whose turn it is in one object."""

    loop: Loop
    output: OutputGate
    # Makes a batch of what the turn wrote.
    seal: Callable[[], None] = field(repr=False)
    # Starts a task for a delivery that has been let in.
    start: Callable[[E], None] = field(repr=False)
    # Why nothing is let in any more.
    broken: DurableError | None = None

    owner: E | None = None
    # The task that is about to suspend waits for a storage answer that holds the gate.
    waits_for_storage: bool = False
    # The tasks that run code of this object; None rather than empty, which an idle object has room
    # for a hundred times.
    _running: set[Any] | None = None
    # Of the deliveries that wait in line.
    queued_bytes: int = 0

    _holds: int = 0
    _waiting: deque[Waiter[E]] | None = None
    # Tasks of the owner whose wait on the outside has ended while the storage holds the gate.
    _held_back: list[Waiter[E]] | None = None
    # Critical sections that run, innermost last, and those that are to start, in order.
    _sections: list[E] | None = None
    _pending: deque[E] | None = None
    _steps: int = 0
    # Rounds in which the owner was seen to be still, since it has owned the gate.
    _quiet_in_all: int = 0
    _is_watching: bool = False
    # Called when a task waits to be let on; what it answers is called when it is.
    on_wait: Callable[[E], Callable[[], None]] | None = field(default=None, repr=False)

    # Entering

    def check(self) -> None:
        """Raise the reason if the object is broken."""
        if self.broken is not None:
            raise self.broken.again()

    def enter_nowait(self, delivery: E) -> bool:
        """Let *delivery* in if it is in already, or if nobody is and nobody came before it."""
        owner = self.owner
        if owner is delivery:
            return True
        if owner is None and not (self._waiting or self._pending or self._sections or self._holds):
            self.owner = delivery
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
        if self.owner is None:
            self._start(self._hand_over())
        else:
            self._watch()
        return waiter

    def resume_nowait(self, delivery: E, from_storage: bool) -> bool:
        """Let a task on that a wait has ended, if its delivery owns the gate or can have it.

        While the storage holds the gate only a task that waited for the storage goes on.
        """
        if self.owner is delivery:
            return from_storage or not self._holds
        return self.enter_nowait(delivery)

    def queue_resumption(self, delivery: E, waker: Waker) -> Waiter[E]:
        """The place in line of a task that `resume_nowait` did not let on."""
        if self.owner is not delivery:
            return self.queue(delivery, waker)
        waiter = Waiter(delivery, waker)
        if self._held_back is None:
            self._held_back = []
        self._held_back.append(waiter)
        return waiter

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
    def running(self) -> Collection[Any]:
        """The tasks that run code of this object, which a reset cancels."""
        return self._running or ()

    def task_begins(self, task: Any) -> None:
        """*task* runs code of this object from now on."""
        if self._running is None:
            self._running = {task}
        else:
            self._running.add(task)

    def task_ends(self, task: Any) -> None:
        """*task* has run what it had to run."""
        if self._running is not None:
            self._running.discard(task)
            if not self._running:
                self._running = None

    # Leaving

    def suspended(self, delivery: E, *, is_bare: bool = False) -> None:
        """A task of *delivery* waits, and not for the storage.

        *is_bare*: some library lets others run for a round in the middle of its work, with a lock
        that is free or a task group without a task. That is no wait on the outside; nor is it a
        sign of life, so code that does nothing else gives up the gate.
        """
        if self.owner is not delivery:
            return
        if not is_bare:
            self._steps += 1
        if self._holds:
            return
        if delivery.tasks == 1 and not delivery.fanned_out and not is_bare:
            self._owner_is_outside(delivery)
        else:
            self._watch()

    def child_started(self, delivery: E) -> None:
        """A task that *delivery* started takes its first step, or is about to."""
        self._steps += 1
        delivery.fanned_out = True

    def child_ended(self, delivery: E) -> None:
        """A task that *delivery* had started has ended; what waits for it will stir."""
        self._steps += 1
        delivery.fanned_out = True
        if self.owner is delivery:
            if not delivery.tasks and delivery.has_left and not self._holds:
                self._start(self._end_turn())
            else:
                self._watch()

    def leave(self, delivery: E) -> E | None:
        """The handler of *delivery* has ended: what it wrote is sealed, the next one is let in.

        Answers a delivery that was let in and has no task yet; the caller's task may serve it.
        """
        delivery.has_left = True
        if self.broken is not None:
            return None
        if self.output.has_unsealed and not self._sections:
            self.seal()
        if self._holds and self.owner is delivery:
            return None  # a read that nobody waits for; `release` will see that we have left
        if delivery.is_section:
            return self._end_section(delivery)
        return self._end_turn() if self.owner is delivery else None

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
        owner = self.owner
        if owner is None:
            self._start(self._end_turn())
        elif owner.has_left and not owner.tasks:
            self._start(self.leave(owner))
        else:
            # Its task may be about to step or long suspended elsewhere: whether it stirs will tell.
            owner.fanned_out = True
            self._watch()

    def _owner_is_outside(self, owner: E) -> None:
        """The owner waits on the outside: its turn is over."""
        if not owner.is_section:
            self._start(self._end_turn())
            return
        # A section keeps the gate, but what it wrote may be what it waits for.
        if self.output.has_unsealed:
            self.seal()
        if self._next_section() is not None:
            self._start(self._hand_over())

    def _end_turn(self) -> E | None:
        if self.output.has_unsealed:
            self.seal()
        self.owner = None
        return self._hand_over()

    def _hand_over(self) -> E | None:
        """Give the gate to whoever is next; answers a delivery that needs a task."""
        if self._holds or self.broken is not None:
            return None
        section = self._next_section() if self._pending else None
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
        elif self._waiting:
            waiter = self._waiting.popleft()
            if not self._waiting:
                self._waiting = None  # an empty deque is the largest part of an idle object
            self._own(waiter.delivery)
            waiter.let_in()
            if waiter.waker is None:
                self.queued_bytes -= waiter.delivery.size
                return waiter.delivery
        return None

    def _start(self, delivery: E | None) -> None:
        if delivery is not None:
            self.start(delivery)

    def _own(self, delivery: E) -> None:
        self.owner = delivery
        self._quiet_in_all = 0
        delivery.fanned_out = False
        self._steps += 1

    def _give_back(self, delivery: E) -> None:
        """The gate is *delivery*'s again, and all of its tasks that came back meanwhile go on."""
        self._own(delivery)
        waiting, self._waiting = self._waiting, None
        others = deque[Waiter[E]]()
        for waiter in waiting or ():
            if waiter.delivery is delivery and waiter.waker is not None:
                waiter.let_in()
            else:
                others.append(waiter)
        self._waiting = others or None
        # Should nothing of it stir after all, being still for some rounds will tell.
        delivery.fanned_out = True
        self._watch()

    # Critical sections

    def add_section(self, section: E) -> None:
        """From now on let nobody in until *section* has ended; it starts when this turn ends."""
        section.is_section = True
        if self._pending is None:
            self._pending = deque()
        self._pending.append(section)
        if self.owner is None:
            self._start(self._hand_over())
        else:
            self._watch()

    @property
    def sections(self) -> tuple[E, ...]:
        """The critical sections that run or are to start."""
        return (*(self._sections or ()), *(self._pending or ()))

    def _next_section(self) -> E | None:
        """The section to start: the oldest, or while one runs the oldest that was started in it."""
        for section in self._pending or ():
            outer = section.parent
            while self._sections and outer is not None and outer is not self._sections[-1]:
                outer = outer.parent
            if not self._sections or outer is not None:
                return section
        return None

    def _end_section(self, section: E) -> E | None:
        assert self._sections is not None
        was_innermost = self._sections[-1] is section
        self._sections.remove(section)
        if self.output.has_unsealed and not self._sections:
            self.seal()
        if not was_innermost:
            return None
        self.owner = None
        if self._pending or self._sections:
            return self._hand_over()
        # The code that awaits the section goes on before anyone else is let in.
        parent = section.parent
        while parent is not None and parent.is_section and parent.has_left:
            parent = parent.parent
        if parent is None or not parent.tasks or parent.gate is not self:
            return self._end_turn()
        self._give_back(parent)
        return None

    # Being still

    def _watch(self) -> None:
        """See whether the owner stays still, if anybody wants to know."""
        if not self._is_watching and self.is_wanted:
            self._is_watching = True
            self._look_again(self._steps, 0)

    @property
    def is_wanted(self) -> bool:
        """Whether it matters to anybody that the owner gives up the gate."""
        return bool(self._waiting or self._pending or self.output.has_unsealed)

    def _look_again(self, steps: int, quiet: int) -> None:
        self.loop.call_soon(lambda: self._round(steps, quiet))

    def _round(self, steps: int, quiet: int) -> None:
        owner = self.owner
        if owner is None or self._holds or self.broken is not None or not self.is_wanted:
            self._is_watching = False
        elif self._steps != steps:
            self._look_again(self._steps, 0)
        elif quiet + 1 < QUIET_ROUNDS and self._quiet_in_all < QUIET_ROUNDS_IN_ALL:
            self._quiet_in_all += 1
            self._look_again(steps, quiet + 1)
        else:
            self._is_watching = False
            self._owner_is_outside(owner)

    # The end

    def break_(self, reason: DurableError) -> list[E]:
        """Let nothing in any more. Wakes every task that waits, to find that it is not to go on;
        answers the deliveries and sections that have not started."""
        assert self.broken is None
        self.broken = reason
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
        return f"<InputGate of {self.owner}{held}, {self.queued} waiting>"
